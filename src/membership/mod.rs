//! Who answers. Says of each member whether it is alive and whether it can be asked right now, and
//! what it last said of itself; who *belongs* is the cluster state's business, and so is where each
//! member is: members are told apart by their numbers, never by addresses.
//!
//! Two views: `members`, by probes and by what others say, in seconds; `link`, by what this node has
//! asked and how it was answered, in milliseconds.
//!
//! The protocol is SWIM (Das, Gupta, Motivala, 2002) with the suspicion and local health of Lifeguard
//! (Dadgar, Phillips, Currey, 2017); docs/protocol/membership.md has its rules.

mod health;
mod hearing;
mod link;
mod members;
#[cfg(test)]
mod members_tests;
mod peer;
mod probing;
mod rumours;
mod suspicion;
mod telling;
mod timing;
#[cfg(test)]
mod world;

pub use link::{Answered, AskKind, LinkNews, Links, Preference};
pub use members::{MemberFacts, Members, MembersAction};
pub use timing::Timing;

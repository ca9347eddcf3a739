//! Who answers. Says of each member whether it is alive and whether it can be asked right now, and
//! what it last said of itself; who *belongs* is the cluster state's business.
//!
//! Two views: `members`, by silence, in seconds; `link`, by what this node has asked and how it was
//! answered, in milliseconds.
//!
//! For now every member probes every other one; the interface is the one that the full protocol
//! (SWIM; Das, Gupta, Motivala, 2002) will stand behind.

mod link;
mod members;

pub use link::{Answered, AskKind, LinkNews, Links, Preference};
pub use members::{MemberFacts, Members, Timing};

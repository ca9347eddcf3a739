//! Who belongs, who owns what, and who is really who: the founding of a cluster, the lives of its
//! members, the admission of streams, and the decision of every later state. Pure; told what was
//! heard and what is durable, says what to send and what to persist. `docs/protocol/birth.md` and
//! `docs/protocol/decree.md` are the pages of its states and invariants.

pub mod admission;
mod birth;
mod canonical;
pub mod capacity;
mod change;
mod chronicle;
mod decree;
mod founding;
mod lineage;
mod lives;
mod loss;
mod members;
pub mod mirror;
mod moves;
mod orchestrator;
mod outage;
mod plan;
mod schema;
mod steps;

pub use birth::{Birth, BirthAction};
pub use canonical::{founders_hash, state_hash};
pub use change::Change;
pub use chronicle::events;
pub use decree::{Decree, DecreeAction, DecreeTiming};
pub use founding::{FoundingError, found};
pub use lineage::{Seen, force, may_follow};
pub use lives::{Ceilings, Lives, LivesAction, judge_life};
pub use loss::{Lacks, LossOrder, Stuck, accept, stuck};
pub use members::council_wanted;
pub use moves::{Step, StepKind};
pub use orchestrator::{
    Alarm, AlarmKind, Foreseen, GrowthRules, History, Measured, Order, OrderKind, Outlook, Peak,
    Proposal, Relief, Room, Sample, Turn, Watched, Wish, exchange, held_up, is_dismissed, is_quiet,
    is_rolled_back_by_people, look, peak, propose, wish,
};
pub use outage::outage;
pub use plan::{Draft, draft};
pub use steps::{Heard, behind, steps, waits_for_fill};

/// The member id of founder `index` of the list: its place, from 1.
pub fn founder_id(index: usize) -> crate::types::NodeId {
    crate::types::NodeId(u32::try_from(index + 1).unwrap_or(u32::MAX))
}

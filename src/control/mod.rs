//! Who belongs, who owns what, and who is really who: the founding of a cluster, the lives of its
//! members, and the admission of streams. Pure; told what was heard and what is durable, says what
//! to send and what to persist. `docs/protocol/birth.md` is the page of its states and invariants.

pub mod admission;
mod birth;
mod canonical;
mod founding;
mod lives;

pub use birth::{Birth, BirthAction};
pub use canonical::{founders_hash, state_hash};
pub use founding::{FoundingError, found};
pub use lives::{Ceilings, Lives, LivesAction, judge_life};

/// The member id of founder `index` of the list: its place, from 1.
pub fn founder_id(index: usize) -> crate::types::NodeId {
    crate::types::NodeId(u32::try_from(index + 1).unwrap_or(u32::MAX))
}

//! Operations on keys of causal tables: a get that merges what owners hold, a put that an owner, or
//! a stand-in, makes itself first and then tells the others, and the way of a put to one of these.
//!
//! States, messages and invariants: `docs/protocol/causal.md`.

mod forward;
mod gather;
mod get;
mod order;
mod put;
mod reply;
mod write_back;

pub use forward::{CausalForward, ForwardOrder};
pub use get::CausalGet;
pub use order::{CausalWriteOrder, Own};
pub use put::CausalWrite;

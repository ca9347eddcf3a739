//! Operations on keys of causal tables: a get that merges what owners hold, a put that an owner
//! makes itself first and then tells the others, and the way of a put to an owner.
//!
//! States, messages and invariants: `docs/protocol/causal.md`.

mod forward;
mod gather;
mod get;
mod put;
mod reply;

pub use forward::{CausalForward, ForwardOrder};
pub use get::{CausalGet, CausalGetOrder};
pub use put::{CausalWrite, CausalWriteOrder};

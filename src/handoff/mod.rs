//! What goes from one owner to another outside of operations. Hinted handoff (Dynamo; DeCandia et al.,
//! 2007, section 4.6): what this node keeps for owners that were away, what fits, and when and how it
//! is handed back. And transfers: how an owner is filled that has entered a unit. Knows no disk, no transport and no
//! membership: what is stored is told by the disk's answers, who can be reached with each step.
//!
//! States, messages, bounds and invariants: `docs/protocol/handoff.md`, `docs/protocol/transfer.md`.

mod books;
mod brake;
mod governor;
mod replay;
mod transfer;
mod window;

pub use books::{Books, Bounds};
pub use brake::{Brake, Braking, Latencies};
pub use governor::{Felt, Governor};
pub use replay::{Around, Delivered, Delivery, Replay, ReplayAction, Timing, is_leaving};
pub use transfer::{Pace, Surroundings, TransferAction, Transfers};

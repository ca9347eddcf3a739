//! Drives one client operation over the owners of its key: put, get and scan, each a machine that
//! takes answers in and yields actions, over a [`Tally`] of distinct owners. Knows no transport,
//! no disk and no membership: who can be reached is told with each step.
//!
//! States, messages and invariants: `docs/protocol/coordinator.md`.

mod causal;
mod clock;
mod confirm;
mod failure;
mod get;
mod put;
mod register;
mod scan;
mod seats;
mod shares;
mod step;
mod tally;

pub use causal::{CausalForward, CausalGet, CausalWrite, CausalWriteOrder, ForwardOrder, Own};
pub use clock::{Clock, StampError};
pub use get::{Get, GetOrder};
pub use put::{Put, PutItem, PutOrder};
pub use register::{Goal, NewValue, Register, RegisterOrder};
pub use scan::{Scan, ScanOrder};
pub use shares::{Holder, Room, ShareFull, ShareLimits, Shares};
pub use step::{Action, Ask, ChangeAsk, Health, HedgeBudget, Step, Target};
pub use tally::{Outcome, Sets, Tally};

//! Load and its judgement: histories of operations, the checkers that read them, and a generator
//! that drives a real cluster.
//!
//! [`history`] and [`check`] are pure and shared by the simulator and by tests over real
//! processes: they know no client, no clock and no network. The generator stands on the client
//! library.

pub mod check;
pub mod history;

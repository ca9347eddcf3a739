//! Load and its judgement: histories of operations, the checkers that read them, and a generator
//! that drives a real cluster.
//!
//! [`history`], [`causal`], [`counter`] and [`check`] are pure and shared by the simulator and by tests over real
//! processes: they know no client, no clock and no network. So are [`keys`], [`growth`], [`mix`],
//! [`schedule`] and [`payload`], which say what is asked, when, and what a value is. The generator
//! itself stands on the client library.

#[cfg(feature = "client")]
mod ask;
pub mod causal;
pub mod check;
pub mod counter;
#[cfg(feature = "client")]
pub mod generator;
pub mod growth;
pub mod history;
pub mod keys;
#[cfg(feature = "client")]
pub mod latency;
pub mod mix;
pub mod payload;
pub mod process;
pub mod schedule;
pub mod series;
#[cfg(feature = "client")]
pub mod timeline;
#[cfg(feature = "client")]
mod worker;

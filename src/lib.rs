//! Roundtable: a leaderless, distributed key-value database.
//!
//! The layers, from pure to dull, are in `ARCHITECTURE.md`; `tests/tidy.rs` enforces which may
//! import which. Most users want [`client`]; the storage engine, [`storage`], is a library in its
//! own right.

pub mod types;

pub mod causality;
pub mod ring;

pub mod message;

pub mod control;
pub mod coordinator;
pub mod handoff;
pub mod membership;
pub mod repair;
pub mod watch;

pub mod node;

pub mod picture;

pub mod codec;
pub mod replica;
pub mod storage;

pub mod wire;

#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod runtime;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "server")]
pub mod status_page;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod transport;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;

pub mod load;

pub mod testing;

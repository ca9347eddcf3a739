//! The storage engine from outside: a model, crashes, faults, damage, group commit, formats.
//!
//! `KVD_CRASH_RUNS` sets how many crash runs `crash.rs` makes in all (default 10,000).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test that meets the unexpected is to fail there, loudly"
)]

mod blob_exchange;
mod blobs;
mod budget;
mod check;
mod checkpoint;
mod compaction;
mod crash;
mod damage;
mod exchange;
mod faults;
mod filter;
mod fuzz;
mod golden;
mod group;
mod harness;
mod healing;
mod killed;
mod logs;
mod metamorphic;
mod model;
mod ops;
mod planted;
mod ranges;
mod recycled;
mod scrub;
mod shapes;
mod since;
mod sites;
mod tables;
mod targets;

//! The storage engine from outside: a model, crashes, faults, damage, group commit, formats.
//!
//! `KVD_CRASH_RUNS` sets how many crash runs `crash.rs` makes in all (default 3000).

mod model;

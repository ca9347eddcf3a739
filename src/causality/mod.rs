//! How versions of one key relate and merge. Knows no replica and no quorum.
//!
//! So far one kind: the last-writer-wins register, whose order is the stamp's. Merge is
//! commutative, associative and idempotent, so replicas that have seen the same versions in any
//! order, any number of times, hold the same one.

mod register;

pub use register::{Merge, merge, newest};

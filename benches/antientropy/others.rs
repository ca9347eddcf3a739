//! What two other ways would cost, by what they do and not by running them.

use crate::store::KEY_BYTES;

/// Leaves of a tree that has as many whatever there is, as Cassandra builds one.
const LEAVES: f64 = 32_768.0;
/// Levels of it.
const LEVELS: f64 = 15.0;
/// A hash.
const HASH: f64 = 16.0;
/// A key and its stamp.
const MARK: f64 = KEY_BYTES as f64 + 16.0;

/// Bytes, and entries that both sides read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Other {
    pub(crate) bytes: f64,
    pub(crate) entries: f64,
}

/// One side sends all keys with their stamps.
pub(crate) fn scan(keys: u64) -> Other {
    Other { bytes: keys as f64 * MARK, entries: 2.0 * keys as f64 }
}

/// Both build a tree of 2^15 leaves of all they have, go down where hashes differ, and send the keys of
/// leaves that do.
pub(crate) fn fixed(keys: u64, differing: u64) -> Other {
    let touched = |nodes: f64| nodes * (1.0 - (1.0 - 1.0 / nodes).powf(differing as f64));
    // Of each node that differs the hashes of its two children are sent.
    let nodes: f64 = (0..LEVELS as i32).map(|level| touched(2_f64.powi(level))).sum();
    let leaves = touched(LEAVES);
    let bytes = nodes * 2.0 * HASH + leaves * keys as f64 / LEAVES * MARK;
    Other { bytes, entries: 2.0 * keys as f64 }
}

//! What operators may ask about load: which partitions and keys clients ask for most.

use crate::types::{Key, NodeName, TableName, Unit};

/// What clients ask a node for, a second, over about the last two minutes.
#[derive(Clone, Debug, PartialEq)]
pub struct HotReply {
    /// The node that tells.
    pub me: NodeName,
    /// The hottest partitions, hottest first.
    pub units: Vec<HotUnit>,
    /// What all partitions come to.
    pub operations: f64,
    /// The hottest keys, hottest first; at most [`HOT_KEYS_MAX`](crate::types::limits::HOT_KEYS_MAX).
    pub keys: Vec<HotKey>,
}

impl Eq for HotReply {}

/// What is asked of a partition, a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HotUnit {
    /// Which.
    pub unit: Unit,
    /// Reads.
    pub reads: f64,
    /// Writes.
    pub writes: f64,
    /// Bytes of keys, and of values that are written.
    pub bytes: f64,
}

/// How often a key is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct HotKey {
    /// Its table.
    pub table: TableName,
    /// The key.
    pub key: Key,
    /// Where it lives.
    pub unit: Unit,
    /// Requests a second; never too low.
    pub rate: f64,
    /// By how much it may be too high.
    pub error: f64,
}

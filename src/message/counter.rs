//! Counters: what clients ask and are answered. `docs/protocol/counter.md`.

use crate::types::{Key, Quorum, TableName};

use super::{Attempt, QuorumMode, Receipt};

/// Adds to a key of a causal or linearizable table. A key that is not there holds 0.
#[derive(Clone, Debug)]
pub struct Increment {
    /// Where.
    pub table: TableName,
    /// Which.
    pub key: Key,
    /// What is added; may be negative, or 0.
    pub by: i64,
    /// How many acknowledgements; the table's w when absent.
    pub w: Option<Quorum>,
    /// Which try of which increment this is.
    pub attempt: Attempt,
    /// Whose acknowledgements count.
    pub mode: QuorumMode,
    /// As in [`Get`](super::Get).
    pub traced: bool,
}

/// The answer to an increment of a key of a linearizable table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncrementReply {
    /// What the increment has made of the key. `None` of one that an earlier attempt has made, when the
    /// key has been changed since.
    pub value: Option<i64>,
    /// What it rests on.
    pub receipt: Receipt,
}

//! Linearizable tables: what clients ask beyond reads and writes, and what they are answered. The
//! rules are in `docs/protocol/register.md`.

use crate::types::{Key, Record, RequestId, Stamp, TableName, Value, WallTime};

use super::{Attempt, Receipt, TimeToLive};

/// What a compare-and-set wants to find. A version whose time to live is over counts as absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// No value.
    Absent,
    /// Exactly this value.
    Value(Value),
    /// The value that the change of this stamp made.
    Stamp(Stamp),
}

/// A compare-and-set: changes a key of a linearizable table if it holds what is expected.
#[derive(Clone, Debug)]
pub struct Cas {
    /// Where.
    pub table: TableName,
    /// Which.
    pub key: Key,
    /// What must be there.
    pub expect: Expectation,
    /// What then takes its place; `None` deletes.
    pub value: Option<Value>,
    /// How long the value lives. Ignored without a value.
    pub ttl: TimeToLive,
    /// Which try of which change this is.
    pub attempt: Attempt,
}

/// Asks what became of a change of a key of a linearizable table. The answer is final: a change
/// that was not made by then never will be.
#[derive(Clone, Debug)]
pub struct OutcomeAsk {
    /// Where.
    pub table: TableName,
    /// Which.
    pub key: Key,
    /// The change; never 0.
    pub id: RequestId,
    /// As [`Attempt::since`] of that change: tells whether its outcome can have been forgotten.
    pub since: WallTime,
    /// Where the window of the change's last attempt ended; 0 when that is not known. What is
    /// found out is found out above it.
    pub lower: WallTime,
}

/// The answer to a [`Cas`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CasReply {
    /// Whether the change was made. If not, it never will be.
    pub applied: bool,
    /// Of one that was not made, the version it found; `None` when there was no value.
    pub current: Option<Record>,
    /// What it rests on. The stamp is that of the change, or of the version that was found.
    pub receipt: Receipt,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was made, under this stamp. Later changes may have taken its place.
    Applied(Stamp),
    /// It was not made, and never will be.
    Cancelled,
}

/// The answer to an [`OutcomeAsk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeReply {
    /// What became of it.
    pub fate: Fate,
    /// What it rests on.
    pub receipt: Receipt,
}

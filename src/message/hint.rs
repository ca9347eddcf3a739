//! Hints: versions kept for owners that have not taken them yet. `docs/protocol/handoff.md`.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::causality::{Change, SiblingSet};
use crate::types::{Key, NodeId, NodeName, Record, TableId, Tenure, Unit, WallTime};

/// What a hint keeps, by the kind of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A version of a key whose highest stamp wins.
    Version(Record),
    /// What its owner is to merge into a key of a causal table.
    Siblings(SiblingSet),
}

impl Kept {
    /// Whether it is of a causal table.
    pub fn is_set(&self) -> bool {
        matches!(self, Kept::Siblings(_))
    }

    /// Bytes it accounts for, those of values that are stored apart included.
    pub fn bytes(&self) -> usize {
        match self {
            Kept::Version(record) => record.bytes(),
            Kept::Siblings(set) => set.weight(),
        }
    }

    /// In what pieces it is handed over: a set may be too large for one message.
    pub fn pieces(self) -> Vec<Kept> {
        match self {
            Kept::Version(_) => vec![self],
            Kept::Siblings(set) => set.pieces().into_iter().map(Kept::Siblings).collect(),
        }
    }
}

/// A version kept for an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// When the first version of this key was kept for the owner, by the holder's wall clock.
    pub created: WallTime,
    /// It counted towards a write's quorum, or may have: no bound drops it.
    pub custody: bool,
    /// The unit of the key.
    pub unit: Unit,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
    /// The version, or set.
    pub kept: Kept,
}

/// A put or delete of a causal table by a stand-in: a change of what it keeps in custody for an
/// owner. The record of custody is made when there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyChange {
    /// The owner.
    pub target: NodeId,
    /// The unit of the key.
    pub unit: Unit,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
    /// The age of the record, if it is made now.
    pub created: WallTime,
    /// In which tenure of the node. A record that was made in another one gets a new actor: what the
    /// old one wrote last may have been lost.
    pub within: Tenure,
    /// The change. Its dot names the tenure of an actor that has never written: the record's own
    /// takes its place where there is one.
    pub change: Change,
}

impl CustodyChange {
    /// Bytes by which the record may grow, or what it accounts for when it is made.
    pub fn bytes(&self) -> u64 {
        let value = self.change.write.as_ref().map_or(0, |write| write.payload.len());
        let set = SiblingSet::weight_of(value, self.change.seen.entries() + 1, 1);
        u64::try_from(self.key.as_bytes().len() + set).unwrap_or(u64::MAX)
    }
}

impl Hint {
    /// Bytes a hint accounts for: those of key and version, and of what stands around them.
    pub fn bytes(&self) -> u64 {
        let bytes = self.key.as_bytes().len() + self.kept.bytes();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Its place in the order of age.
    pub fn place(&self) -> HintPlace {
        let Hint { created, unit, table, .. } = *self;
        HintPlace { created, unit, table, key: self.key.clone() }
    }
}

/// A place among the hints for one target, which are in order of age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HintPlace {
    /// When it was made.
    pub created: WallTime,
    /// The unit.
    pub unit: Unit,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
}

/// How many hints there are, or were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintTotals {
    /// All of them.
    pub count: u64,
    /// Their bytes, by [`Hint::bytes`].
    pub bytes: u64,
    /// Those in custody.
    pub custody: u64,
    /// Their bytes.
    pub custody_bytes: u64,
}

impl HintTotals {
    /// The totals of one hint of so many bytes.
    pub fn one(custody: bool, bytes: u64) -> HintTotals {
        let part = if custody { (1, bytes) } else { (0, 0) };
        HintTotals { count: 1, bytes, custody: part.0, custody_bytes: part.1 }
    }

    /// Adds others.
    pub fn add(&mut self, other: HintTotals) {
        self.count = self.count.wrapping_add(other.count);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.custody = self.custody.wrapping_add(other.custody);
        self.custody_bytes = self.custody_bytes.wrapping_add(other.custody_bytes);
    }

    /// Takes others away, also before they have been added: the disk's answers overtake each other,
    /// and a hint's end may be heard of before its beginning. In between a sum is below zero, which
    /// [`HintTotals::shown`] hides.
    pub fn take(&mut self, other: HintTotals) {
        self.count = self.count.wrapping_sub(other.count);
        self.bytes = self.bytes.wrapping_sub(other.bytes);
        self.custody = self.custody.wrapping_sub(other.custody);
        self.custody_bytes = self.custody_bytes.wrapping_sub(other.custody_bytes);
    }

    /// The sums as far as they are known: none is below zero, and custody is a part of the whole.
    pub fn shown(self) -> HintTotals {
        let known = |sum: u64| if sum > u64::MAX / 2 { 0 } else { sum };
        let (count, bytes) = (known(self.count), known(self.bytes));
        HintTotals {
            count,
            bytes,
            custody: known(self.custody).min(count),
            custody_bytes: known(self.custody_bytes).min(bytes),
        }
    }
}

/// What writing one hint did to the totals of its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintChange {
    /// What is there now.
    pub added: HintTotals,
    /// What was there before.
    pub removed: HintTotals,
    /// The age of what is there now.
    pub created: WallTime,
}

/// What a holder keeps for one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintBook {
    /// How much.
    pub totals: HintTotals,
    /// The age of the oldest, or of one that has gone since.
    pub oldest: Option<WallTime>,
}

/// Some hints for a target, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintPage {
    /// The hints.
    pub hints: Vec<Hint>,
    /// Where the next page begins; `None` when these were the last.
    pub next: Option<HintPlace>,
}

/// What one piece of a deletion of hints did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintsDropped {
    /// What is gone.
    pub dropped: HintTotals,
    /// The units it was of: marked dirty with the same write.
    pub units: BTreeSet<Unit>,
    /// Where the next piece begins; `None` when this was the last.
    pub next: Option<HintPlace>,
}

/// Counts of one node's hints, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintGauges {
    /// What it holds for others.
    pub held: HintTotals,
    /// Hints handed back since the start.
    pub replayed: u64,
    /// Hints given up since the start.
    pub dropped: u64,
    /// Dirty marks.
    pub dirty: u64,
}

/// What operators may ask about one node's hints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HintRequest {
    /// What it holds, for whom, and what is dirty.
    List,
    /// Try all targets again now, or this one.
    Replay(Option<NodeName>),
    /// Give up all hints for a target, custody included, and mark their units dirty.
    Drop(NodeName),
}

/// What a node holds for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintLine {
    /// The target's name; its number where it is no member any more.
    pub target: String,
    /// How much.
    pub totals: HintTotals,
    /// How old the oldest is.
    pub oldest_age: Duration,
    /// Whether they are being handed back at this moment.
    pub replaying: bool,
}

/// An owner that may lack writes which no hint carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyMark {
    /// The unit.
    pub unit: Unit,
    /// The owner's name; its number where it is no member any more.
    pub target: String,
}

/// The answer about a node's hints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintsReply {
    /// What it holds.
    pub lines: Vec<HintLine>,
    /// Dirty marks; at most [`DIRTY_SHOWN_MAX`](crate::types::limits::DIRTY_SHOWN_MAX).
    pub dirty: Vec<DirtyMark>,
    /// How many dirty marks there are.
    pub dirty_count: u64,
    /// What was dropped, or is going to be handed back.
    pub touched: HintTotals,
}

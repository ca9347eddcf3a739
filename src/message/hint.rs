//! Hints: versions kept for owners that have not taken them yet. `docs/protocol/handoff.md`.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::types::{Key, NodeName, Record, TableId, Unit, WallTime};

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
    /// The version.
    pub record: Record,
}

impl Hint {
    /// Bytes a hint accounts for: those of key and version, and of what stands around them.
    pub fn bytes(&self) -> u64 {
        let bytes = self.key.as_bytes().len() + self.record.bytes();
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

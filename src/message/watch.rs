//! What is said of changes as they are applied: by owners to a watch, by a watch to its client.
//! `docs/protocol/watch.md`.

use bytes::Bytes;

use crate::types::{Epoch, Key, Partition, Stamp, TableId, TableName, Value, WallTime};

use super::Refusal;

/// A place among the changes that one owner has noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchPlace {
    /// The owner's boot: what it noted in another one is gone.
    pub boot: u64,
    /// All changes below this number are before the place.
    pub seq: u64,
}

/// What a key holds since an owner has applied something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// Of the version; in causal tables the highest stamp that the key's set has seen.
    pub stamp: Stamp,
    /// Tells sets of siblings apart; 0 in tables of other kinds.
    pub print: u64,
    /// There is no value any more.
    pub deleted: bool,
    /// When the version ceases to be visible; `None`: never. No change is told then.
    pub expiry: Option<WallTime>,
    /// How many siblings there are; 1 in tables of other kinds, 0 of a delete.
    pub siblings: u32,
    /// The value, where values are wanted.
    pub value: Option<Value>,
    /// It was wanted and is not here: too large, or one of several.
    pub value_left_out: bool,
}

impl Change {
    /// Bytes that this takes in memory and, about, on its way.
    pub fn bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, |value| value.as_bytes().len());
        CHANGE_BYTES + self.key.as_bytes().len() + value
    }
}

/// What a change takes beside its key and value.
const CHANGE_BYTES: usize = 96;

/// Asks a replica for what it has noted of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesAsk {
    /// The table. Its changes are noted from then on.
    pub table: TableId,
    /// Keys that begin with this.
    pub prefix: Bytes,
    /// Those from this number on; `None`: nothing but where the next one will stand.
    pub after: Option<u64>,
    /// With the value that the key holds when this is answered.
    pub values: bool,
    /// About how many bytes at most.
    pub bytes_max: u32,
}

/// What a replica has noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangesPage {
    /// In the order in which they were applied.
    pub changes: Vec<Change>,
    /// What was looked at ends before this number.
    pub next: u64,
    /// Not all from where it was asked on is still there: nothing is told, and `next` is behind all.
    pub lost: bool,
    /// There is more behind `next` already.
    pub more: bool,
}

/// What a watch and the owners it follows say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchMessage {
    /// What has changed behind a place? Answered when something has, or after a second.
    Ask {
        /// The asker's number for the watch; it has one question at a time.
        watch: u64,
        /// Which question.
        round: u64,
        /// When any owners of the table's class last changed, as the asker knows it.
        changed_at: Epoch,
        /// The table.
        table: TableId,
        /// Keys that begin with this.
        prefix: Bytes,
        /// As in [`ChangesAsk`].
        values: bool,
        /// Behind what; `None`: where does it end?
        place: Option<WatchPlace>,
        /// As in [`ChangesAsk`].
        bytes_max: u32,
    },
    /// Answers one.
    Answer {
        /// Of the question.
        watch: u64,
        /// Of the question.
        round: u64,
        /// The boot that answers.
        boot: u64,
        /// What has changed.
        result: Result<ChangesPage, Refusal>,
    },
    /// Nothing will be asked for this watch any more.
    End {
        /// Which.
        watch: u64,
    },
}

impl WatchMessage {
    /// About how many bytes it takes on its way.
    pub fn bytes(&self) -> usize {
        match self {
            WatchMessage::Ask { prefix, .. } => prefix.len() + 64,
            WatchMessage::Answer { result: Ok(page), .. } => {
                page.changes.iter().map(Change::bytes).sum::<usize>() + 32
            }
            WatchMessage::Answer { .. } | WatchMessage::End { .. } => 32,
        }
    }
}

/// Asks a watch for what it has to tell, which may take a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchAsk {
    /// Of which table.
    pub table: TableName,
    /// Keys that begin with this.
    pub prefix: Bytes,
    /// With values.
    pub values: bool,
    /// Where another watch of the table stood; empty: from now on. Of the first question alone.
    pub token: Bytes,
    /// The service's number for the watch.
    pub stream: u64,
    /// It begins with this.
    pub first: bool,
}

/// Why changes may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GapReason {
    /// An owner has begun another life, with no notes of the one before.
    Restarted,
    /// An owner has noted more since than it keeps, or has ceased to note.
    Overrun,
    /// An owner does not answer.
    Unreachable,
    /// The owners have changed while nobody followed them.
    OwnersChanged,
}

impl GapReason {
    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            GapReason::Restarted => "restarted",
            GapReason::Overrun => "overrun",
            GapReason::Unreachable => "unreachable",
            GapReason::OwnersChanged => "owners-changed",
        }
    }
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Enough owners are followed: what is put from now on is told, or a gap is.
    Began,
    /// A key has changed.
    Change(Change),
    /// Of these partitions changes may be missing, until [`WatchEvent::Whole`].
    Gap {
        /// What made it so.
        reason: GapReason,
        /// Which; the first [`WATCH_GAP_PARTITIONS_MAX`](crate::types::limits::WATCH_GAP_PARTITIONS_MAX).
        partitions: Vec<Partition>,
        /// How many.
        count: u32,
    },
    /// All partitions are followed by enough again: whoever reads the keys now has missed nothing.
    Whole,
}

impl WatchEvent {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        match self {
            WatchEvent::Change(change) => change.bytes(),
            WatchEvent::Gap { partitions, .. } => 32 + 2 * partitions.len(),
            WatchEvent::Began | WatchEvent::Whole => 16,
        }
    }
}

/// What a watch has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchReply {
    /// In order; none is a sign of life.
    pub events: Vec<WatchEvent>,
    /// Where to go on behind them.
    pub token: Bytes,
    /// The epoch.
    pub epoch: Epoch,
}

//! What `pick` looks at: the tables of each level, and what a new job must keep away from.
//!
//! Decides when two jobs may run at the same time. INVARIANT: of two that do, neither reads a table
//! of the other, their outputs in one level do not meet, and no table of level 0 is overtaken by a
//! newer one that holds the same key. So whichever ends first, the levels keep their order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::filter::CompactionFilter;
use crate::storage::files::FileNo;
use crate::storage::key_range::KeyRange;
use crate::storage::levels::{LEVELS, Levels, LiveBlob};
use crate::storage::sstable::TableMeta;

/// What is known of the tables of each level, in their order in it: level 0 newest first, every
/// other in key order.
#[derive(Debug, Default)]
pub(crate) struct LevelsView<'a> {
    levels: [Vec<&'a TableMeta>; LEVELS],
    /// The caller's horizon over the keys of each table that has something to drop.
    horizons: BTreeMap<FileNo, u64>,
    /// The blob files that the tables refer to.
    blobs: BTreeMap<FileNo, BlobShare>,
}

/// A blob file that is to go counts as so many times what is alive of it.
const GIVEN_UP_SHARE: u64 = 1_000;

/// How much of a blob file is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobShare {
    /// Bytes of all its records.
    pub(crate) total: u64,
    /// Bytes of those that tables refer to.
    pub(crate) live: u64,
}

impl<'a> LevelsView<'a> {
    pub(crate) fn of(levels: &'a Levels, filter: Option<&dyn CompactionFilter>) -> Self {
        let all = levels.all().map(|(level, table)| (level, &table.meta));
        let view = Self::from_ordered(all, |table| {
            filter.map_or(0, |filter| filter.horizon(&table.smallest, &table.largest))
        });
        let share = |blob: &LiveBlob| {
            let total = blob.file.meta().record_bytes();
            // One that is to go counts as dead for the most part.
            let total = match blob.file.is_given_up() {
                true => total.max(blob.live.saturating_mul(GIVEN_UP_SHARE)),
                false => total,
            };
            BlobShare { total, live: blob.live }
        };
        view.with_blobs(levels.blobs().iter().map(|(no, blob)| (*no, share(blob))).collect())
    }

    /// The same with what is known of blob files.
    pub(super) fn with_blobs(self, blobs: BTreeMap<FileNo, BlobShare>) -> Self {
        Self { blobs, ..self }
    }

    pub(super) fn blobs(&self) -> &BTreeMap<FileNo, BlobShare> {
        &self.blobs
    }

    /// From tables that come in their order within each level.
    pub(super) fn from_ordered(
        tables: impl IntoIterator<Item = (usize, &'a TableMeta)>,
        horizon: impl Fn(&TableMeta) -> u64,
    ) -> Self {
        let mut view = Self::default();
        for (level, table) in tables {
            if let Some(tables) = view.levels.get_mut(level) {
                tables.push(table);
            }
            if table.droppable.entries > 0 {
                view.horizons.insert(table.no, horizon(table));
            }
        }
        view
    }

    /// About how many bytes of a table the filter lets go by now.
    pub(super) fn passed_bytes(&self, table: &TableMeta) -> u64 {
        self.horizons.get(&table.no).map_or(0, |horizon| table.droppable.passed_bytes(*horizon))
    }

    /// Whether the filter lets go all of a table's entries that it ever will, and there are some.
    pub(super) fn has_passed(&self, table: &TableMeta) -> bool {
        self.horizons.get(&table.no).is_some_and(|horizon| *horizon >= table.droppable.highest)
    }

    pub(super) fn level(&self, level: usize) -> &[&'a TableMeta] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    pub(super) fn bytes(&self, level: usize) -> u64 {
        self.level(level).iter().map(|table| table.bytes).sum()
    }

    /// The tables of a level that meet a stretch of keys.
    pub(super) fn meeting(&self, level: usize, span: &Span) -> Vec<&'a TableMeta> {
        let tables = self.level(level);
        if level == 0 {
            let meets = |table: &&&TableMeta| span.meets(table);
            return tables.iter().filter(meets).copied().collect();
        }
        let first = tables.partition_point(|table| table.largest < span.smallest);
        let inside = tables.iter().skip(first);
        inside.take_while(|table| table.smallest <= span.largest).copied().collect()
    }

    /// Whether any table below `level` meets a stretch of keys.
    pub(super) fn any_below(&self, level: usize, span: &Span) -> bool {
        (level + 1..LEVELS).any(|level| !self.meeting(level, span).is_empty())
    }
}

/// The keys from one to another, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) smallest: Bytes,
    pub(crate) largest: Bytes,
}

impl Span {
    /// The least stretch that holds all of `tables`; none if there are none.
    pub(super) fn of<'t>(tables: impl IntoIterator<Item = &'t &'t TableMeta>) -> Option<Self> {
        tables.into_iter().fold(None, |span: Option<Self>, table| {
            Some(match span {
                None => Self { smallest: table.smallest.clone(), largest: table.largest.clone() },
                Some(span) => Self {
                    smallest: span.smallest.min(table.smallest.clone()),
                    largest: span.largest.max(table.largest.clone()),
                },
            })
        })
    }

    pub(crate) fn meets(&self, table: &TableMeta) -> bool {
        table.smallest <= self.largest && self.smallest <= table.largest
    }

    fn meets_span(&self, other: &Self) -> bool {
        other.smallest <= self.largest && self.smallest <= other.largest
    }

    pub(super) fn is_in(&self, range: &KeyRange) -> bool {
        range.meets(&self.smallest, &self.largest)
    }
}

/// Why a job was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// Too many tables of level 0 hold the same keys.
    Depth,
    /// A level is larger than it may be.
    Size,
    /// Someone has asked for it.
    Asked,
    /// Many entries of a table are deletes.
    Deletes,
    /// Many entries of a table may be dropped, says the caller's filter.
    Droppable,
    /// A deleted range hides some of a table.
    DeletedRange,
    /// Much of a blob file that it refers to is dead.
    Garbage,
    /// Nothing else was to do, and room can be given back.
    Idle,
}

impl Reason {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Idle as usize + 1;
}

/// Tables to merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) reason: Reason,
    pub(crate) from: usize,
    /// The level of the result; `from` when a table is only rewritten where it is.
    pub(crate) to: usize,
    /// Tables of level `from`, newest first in level 0, else in key order.
    pub(crate) upper: Vec<FileNo>,
    /// All tables of level `to` that meet the range of the upper ones, in key order.
    pub(crate) lower: Vec<FileNo>,
    /// There is nothing to merge: the one upper table gets another level and keeps its file.
    pub(crate) moved: bool,
    /// Bytes of all these tables.
    pub(crate) bytes: u64,
    /// All keys that the result can hold.
    pub(crate) span: Span,
}

impl Job {
    pub(super) fn takes(&self, no: FileNo) -> bool {
        self.upper.contains(&no) || self.lower.contains(&no)
    }
}

/// What a new job must keep away from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Avoid {
    /// Tables that could not be read.
    pub(crate) damaged: BTreeSet<FileNo>,
    /// Tables that were rewritten for the filter's sake, in vain.
    pub(crate) futile: BTreeSet<FileNo>,
    /// Jobs on their way, by their numbers.
    pub(crate) running: BTreeMap<u64, Job>,
}

impl Avoid {
    /// Whether a job on its way takes the table.
    pub(crate) fn is_busy(&self, no: FileNo) -> bool {
        if crate::mutant!("storage-compaction-shares-table") {
            return false;
        }
        self.running.values().any(|job| job.takes(no))
    }

    /// Whether a table cannot be taken, be it damaged or busy.
    pub(super) fn is_closed(&self, no: FileNo) -> bool {
        self.damaged.contains(&no) || self.is_busy(no)
    }

    /// Whether a result with these keys in level `to` would meet that of a job on its way.
    pub(super) fn crosses(&self, to: usize, span: &Span) -> bool {
        if crate::mutant!("storage-compaction-shares-table") {
            return false;
        }
        self.running.values().any(|job| job.to == to && job.span.meets_span(span))
    }
}

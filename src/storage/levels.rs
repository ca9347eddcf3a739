//! The tables in force, by level.
//!
//! Decides where a table may stand and in which order tables are asked. INVARIANT: level 0 is
//! ordered by age, newest first, and of two tables in it whose keys meet one is wholly newer than
//! the other; the tables of every other level are disjoint and in key order; of two tables that hold the same key, the one in the upper
//! level, or the newer in level 0, holds the newer version. Does not know when tables are merged.

use std::ops::Bound;
use std::sync::Arc;

use super::batch::Seqno;
use super::deleted::{Deleted, RangeDelete};
use super::error::Error;
use super::files::FileNo;
use super::iter::{Direction, Entry, Range};
use super::sstable::{ReadMode, Table, TableCursor, TableMeta};

/// Number of levels, level 0 included.
pub(crate) const LEVELS: usize = 7;
/// The level that most data is in, and under which nothing lies.
pub(crate) const LAST_LEVEL: usize = LEVELS - 1;

/// Whether the key ranges of two tables meet.
pub(crate) fn overlap(one: &TableMeta, other: &TableMeta) -> bool {
    one.smallest <= other.largest && other.smallest <= one.largest
}

/// How many tables hold the same key at most, judging by their ranges. The deepest point of a set
/// of ranges is where one of them begins.
pub(crate) fn overlap_depth(tables: &[&TableMeta]) -> usize {
    let covers = |table: &TableMeta, key: &[u8]| *table.smallest <= *key && *key <= *table.largest;
    let depth_at = |key: &[u8]| tables.iter().filter(|table| covers(table, key)).count();
    tables.iter().map(|table| depth_at(&table.smallest)).max().unwrap_or(0)
}

/// The tables in force. Immutable: a change makes a new one.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    levels: [Vec<Arc<Table>>; LEVELS],
    depth: usize,
    deleted: Arc<Deleted>,
}

impl Levels {
    /// Puts tables in the order of their levels. A level that does not exist is taken as the last.
    /// Of the deleted ranges those are kept that concern one of the tables.
    pub(crate) fn new(
        tables: impl IntoIterator<Item = (usize, Arc<Table>)>,
        deleted: &[RangeDelete],
    ) -> Self {
        let mut levels: [Vec<Arc<Table>>; LEVELS] = Default::default();
        for (level, table) in tables {
            if let Some(tables) = levels.get_mut(level.min(LAST_LEVEL)) {
                tables.push(table);
            }
        }
        for (level, tables) in levels.iter_mut().enumerate() {
            if level == 0 {
                tables.sort_by_key(|table| std::cmp::Reverse((table.meta.last, table.meta.no)));
            } else {
                tables.sort_by(|one, other| one.meta.smallest.cmp(&other.meta.smallest));
            }
        }
        let depth = levels.first().map_or(0, |newest| {
            overlap_depth(&newest.iter().map(|table| &table.meta).collect::<Vec<_>>())
        });
        let mut new = Self { levels, depth, deleted: Arc::default() };
        if !deleted.is_empty() {
            let tables: Vec<&TableMeta> = new.all().map(|(_, table)| &table.meta).collect();
            new.deleted = Arc::new(Deleted::new(RangeDelete::needed(deleted, &tables)));
        }
        new
    }

    /// The deleted ranges that hide something in these tables.
    pub(crate) fn deleted(&self) -> &Arc<Deleted> {
        &self.deleted
    }

    /// The last batch that has something in a table.
    pub(crate) fn last(&self) -> Seqno {
        self.all().map(|(_, table)| table.meta.last).max().unwrap_or_default()
    }

    /// The same with more deleted ranges.
    pub(crate) fn deleting(&self, more: &[RangeDelete]) -> Self {
        let tables = self.all().map(|(level, table)| (level, Arc::clone(table)));
        Self::new(tables, &[self.deleted.ranges(), more].concat())
    }

    /// The same without some tables and with some others; a table that is in both moves.
    pub(crate) fn edited(&self, removed: &[FileNo], added: &[(usize, Arc<Table>)]) -> Self {
        let goes = |no: FileNo| {
            removed.contains(&no) || added.iter().any(|(_, table)| table.meta.no == no)
        };
        let stay = self.all().filter(|(_, table)| !goes(table.meta.no));
        let stay = stay.map(|(level, table)| (level, Arc::clone(table)));
        Self::new(stay.chain(added.iter().cloned()), self.deleted.ranges())
    }

    /// What of the order does not hold, as far as the tables' ranges tell.
    pub(crate) fn broken(&self) -> Option<&'static str> {
        for (level, tables) in self.levels.iter().enumerate() {
            let mut pairs = tables.iter().zip(tables.iter().skip(1));
            let is_mixed = |(index, newer): (usize, &Arc<Table>)| {
                // Pieces of one flush are of one age, and disjoint.
                tables.iter().skip(index + 1).any(|older| {
                    newer.meta.first <= older.meta.last && overlap(&newer.meta, &older.meta)
                })
            };
            if level == 0 && tables.iter().enumerate().any(is_mixed) {
                return Some("tables of level 0 are not in order of age");
            }
            if level > 0 && pairs.any(|(low, high)| low.meta.largest >= high.meta.smallest) {
                return Some("tables of one level overlap");
            }
        }
        None
    }

    /// All tables with their levels, in the order in which they are asked.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &Arc<Table>)> {
        let levels = self.levels.iter().enumerate();
        levels.flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)))
    }

    /// The tables of one level; none for one that does not exist.
    pub(crate) fn level(&self, level: usize) -> &[Arc<Table>] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    /// The tables that may hold `key`, newest first.
    pub(crate) fn holding<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Arc<Table>> {
        let (newest, lower) = self.levels.split_first().expect("there are seven levels");
        let lower = lower.iter().filter_map(move |tables| {
            tables.get(tables.partition_point(|table| *table.meta.largest < *key))
        });
        newest.iter().chain(lower)
    }

    /// How many tables of level 0 a get may have to ask.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes of the indexes and filters of all tables.
    pub(crate) fn memory(&self) -> usize {
        self.all().map(|(_, table)| table.memory()).sum()
    }

    /// What to read to see a range, newest first: each table of level 0, and each other level.
    pub(crate) fn cursors(
        &self,
        range: &Range,
        direction: Direction,
        mode: ReadMode,
    ) -> impl Iterator<Item = LevelCursor> {
        let (newest, lower) = self.levels.split_first().expect("there are seven levels");
        let runs = newest.chunks(1).chain(lower.iter().map(Vec::as_slice));
        runs.filter(|run| !run.is_empty())
            .map(move |run| LevelCursor::new(run, range.clone(), direction, mode))
    }
}

/// Walks tables that are disjoint and in key order as one.
#[derive(Debug)]
pub(crate) struct LevelCursor {
    tables: std::vec::IntoIter<Arc<Table>>,
    range: Range,
    direction: Direction,
    mode: ReadMode,
    current: Option<TableCursor>,
}

impl LevelCursor {
    pub(crate) fn new(
        tables: &[Arc<Table>],
        range: Range,
        direction: Direction,
        mode: ReadMode,
    ) -> Self {
        let start = match &range.start {
            Bound::Included(key) | Bound::Excluded(key) => {
                tables.partition_point(|table| table.meta.largest < *key)
            }
            Bound::Unbounded => 0,
        };
        let inside = tables.iter().skip(start);
        let inside = inside.take_while(|table| range.is_before_end(&table.meta.smallest));
        let tables = inside.cloned().collect::<Vec<_>>().into_iter();
        Self { tables, range, direction, mode, current: None }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            if let Some(cursor) = &mut self.current
                && let Some(entry) = cursor.next()?
            {
                return Ok(Some(entry));
            }
            let table = match self.direction {
                Direction::Forward => self.tables.next(),
                Direction::Reverse => self.tables.next_back(),
            };
            let Some(table) = table else { return Ok(None) };
            let range = self.range.clone();
            self.current = Some(TableCursor::new(table, range, self.direction, self.mode));
        }
    }
}

//! The tables in force, by level.
//!
//! Decides where a table may stand and in which order tables are asked. INVARIANT: level 0 is
//! ordered by age, newest first, and of two tables in it whose keys meet one is wholly newer than
//! the other; the tables of every other level are disjoint and in key order; of two tables that hold the same key, the one in the upper
//! level, or the newer in level 0, holds the newer version. Does not know when tables are merged.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::Seqno;
use super::blob::BlobFile;
use super::deleted::{Covers, Deleted, RangeDelete};
use super::entry::EntryRef;
use super::error::Error;
use super::files::FileNo;
use super::heads::Heads;
use super::iter::{Direction, Range};
use super::merge::Source;
use super::options::LEVEL_COUNT;
use super::sstable::{ReadMode, Table, TableCursor, TableMeta};

/// Number of levels, level 0 included.
pub(crate) const LEVELS: usize = LEVEL_COUNT;
/// The level that most data is in, and under which nothing lies.
pub(crate) const LAST_LEVEL: usize = LEVELS - 1;

/// Whether the key ranges of two tables meet.
pub(crate) fn overlap(one: &TableMeta, other: &TableMeta) -> bool {
    one.smallest <= other.largest && other.smallest <= one.largest
}

/// How many tables hold the same key at most, judging by their ranges.
pub(crate) fn overlap_depth(tables: &[&TableMeta]) -> usize {
    let ends = tables.iter().map(|table| (&*table.smallest, &*table.largest));
    Sweep::new(ends).deepest()
}

/// The stretches of keys that tables cover, from a first to a last key, in order. Tables that meet,
/// directly or through others, cover one together, so every table lies in one stretch.
pub(crate) fn stretches<'a>(
    tables: impl IntoIterator<Item = &'a TableMeta>,
) -> Vec<(Bytes, Bytes)> {
    let mut tables: Vec<_> = tables.into_iter().collect();
    tables.sort_unstable_by(|one, other| one.smallest.cmp(&other.smallest));
    let mut stretches: Vec<(Bytes, Bytes)> = Vec::new();
    for table in tables {
        match stretches.last_mut() {
            Some((_, end)) if table.smallest <= *end => {
                if *end < table.largest {
                    *end = table.largest.clone();
                }
            }
            _ => stretches.push((table.smallest.clone(), table.largest.clone())),
        }
    }
    stretches
}

/// Tables of level 0 that meet, directly or through others: a get asks those of one column only.
#[derive(Debug)]
struct Column {
    smallest: Bytes,
    largest: Bytes,
    /// Newest first.
    tables: Vec<Arc<Table>>,
}

/// The columns of level 0, in key order, from its tables, newest first.
fn columns(newest: &[Arc<Table>]) -> Vec<Column> {
    let stretches = stretches(newest.iter().map(|table| &table.meta));
    let column = |(smallest, largest)| Column { smallest, largest, tables: Vec::new() };
    let mut columns: Vec<Column> = stretches.into_iter().map(column).collect();
    for table in newest {
        let at = columns.partition_point(|column| column.largest < table.meta.smallest);
        if let Some(column) = columns.get_mut(at) {
            column.tables.push(Arc::clone(table));
        }
    }
    columns
}

/// The tables of level 0 as runs of disjoint tables in key order, newer ones above older ones wherever
/// they meet: as few as level 0 is deep, where each table would be a source of a scan otherwise.
fn layers(columns: &[Column]) -> Vec<Arc<[Arc<Table>]>> {
    let mut layers: Vec<Vec<Arc<Table>>> = Vec::new();
    for column in columns {
        let mut placed: Vec<(&Arc<Table>, usize)> = Vec::new();
        for table in &column.tables {
            let above = placed.iter().filter(|(newer, _)| overlap(&newer.meta, &table.meta));
            let layer = above.map(|(_, layer)| layer + 1).max().unwrap_or(0);
            let layer = if crate::mutant!("storage-layers-overlap") { 0 } else { layer };
            placed.push((table, layer));
        }
        // In key order, and columns come in key order.
        placed.sort_by(|(one, _), (other, _)| one.meta.smallest.cmp(&other.meta.smallest));
        for (table, layer) in placed {
            if layers.len() <= layer {
                layers.resize_with(layer + 1, Vec::new);
            }
            layers.get_mut(layer).into_iter().for_each(|run| run.push(Arc::clone(table)));
        }
    }
    layers.into_iter().map(Arc::from).collect()
}

/// The last keys of the tables of each level that are in key order; level 0 is not.
fn ends(levels: &[Vec<Arc<Table>>; LEVELS]) -> [Heads; LEVELS] {
    let mut ends: [Heads; LEVELS] = Default::default();
    for (ends, tables) in ends.iter_mut().zip(levels).skip(1) {
        *ends = Heads::of(tables.iter().map(|table| &*table.meta.largest));
    }
    ends
}

/// The ends of ranges, sorted, so that a question of how many of them hold a key costs one search:
/// asking every range about the ends of every other is what made a store of thousands of small
/// tables crawl.
#[derive(Debug)]
pub(crate) struct Sweep<K> {
    begins: Vec<K>,
    ends: Vec<K>,
}

impl<K: Ord> Sweep<K> {
    /// Of ranges from a first key to a last one, both included.
    pub(crate) fn new(ranges: impl Iterator<Item = (K, K)>) -> Self {
        let (mut begins, mut ends): (Vec<K>, Vec<K>) = ranges.unzip();
        begins.sort_unstable();
        ends.sort_unstable();
        Self { begins, ends }
    }

    /// How many ranges hold `key`.
    pub(crate) fn depth_at(&self, key: &K) -> usize {
        self.begun(key) - self.ends.partition_point(|end| end < key)
    }

    fn begun(&self, key: &K) -> usize {
        self.begins.partition_point(|begin| begin <= key)
    }

    /// The most ranges that hold one key: where that is, one of them begins.
    pub(crate) fn deepest(&self) -> usize {
        let (mut ended, mut deepest) = (0, 0);
        for (begun, key) in self.begins.iter().enumerate() {
            while self.ends.get(ended).is_some_and(|end| end < key) {
                ended += 1;
            }
            deepest = deepest.max(begun + 1 - ended);
        }
        deepest
    }
}

/// The tables in force. Immutable: a change makes a new one.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    levels: [Arc<[Arc<Table>]>; LEVELS],
    /// The last keys of the tables of each level but level 0.
    ends: [Heads; LEVELS],
    columns: Vec<Column>,
    /// Those of the columns.
    column_ends: Heads,
    layers: Vec<Arc<[Arc<Table>]>>,
    depth: usize,
    entries: u64,
    deleted: Arc<Deleted>,
    blobs: BTreeMap<FileNo, LiveBlob>,
}

/// A blob file that tables refer to.
#[derive(Debug, Clone)]
pub(crate) struct LiveBlob {
    pub(crate) file: Arc<BlobFile>,
    /// Bytes of the records that tables refer to.
    pub(crate) live: u64,
}

/// The blob files of tables, and what is alive of each: the sum of what the tables say.
fn blobs_of<'a>(tables: impl Iterator<Item = &'a Arc<Table>>) -> BTreeMap<FileNo, LiveBlob> {
    let mut blobs: BTreeMap<FileNo, LiveBlob> = BTreeMap::new();
    for table in tables {
        for (one, file) in table.meta.blobs.iter().zip(table.blobs()) {
            let new = || LiveBlob { file: Arc::clone(file), live: 0 };
            let blob = blobs.entry(file.no).or_insert_with(new);
            blob.live = blob.live.saturating_add(one.bytes);
        }
    }
    blobs
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
        let entries = levels.iter().flatten().map(|table| table.meta.entries).sum();
        let blobs = blobs_of(levels.iter().flatten());
        let columns = levels.first().map_or_else(Vec::new, |newest| columns(newest));
        let layers = layers(&columns);
        let mut new = Self {
            ends: ends(&levels),
            levels: levels.map(Arc::from),
            column_ends: Heads::of(columns.iter().map(|column| &*column.largest)),
            columns,
            layers,
            depth,
            entries,
            deleted: Arc::default(),
            blobs,
        };
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

    /// The blob files that the tables refer to, by their numbers.
    pub(crate) fn blobs(&self) -> &BTreeMap<FileNo, LiveBlob> {
        &self.blobs
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
        let forgotten =
            usize::from(!removed.is_empty() && crate::mutant!("storage-edit-forgets-table"));
        let stay = self.all().filter(|(_, table)| !goes(table.meta.no)).skip(forgotten);
        let stay = stay.map(|(level, table)| (level, Arc::clone(table)));
        Self::new(stay.chain(added.iter().cloned()), self.deleted.ranges())
    }

    /// What of the order does not hold, as far as the tables' ranges tell.
    pub(crate) fn broken(&self) -> Option<&'static str> {
        for (level, tables) in self.levels.iter().enumerate() {
            let mut pairs = tables.iter().zip(tables.iter().skip(1));
            let is_mixed = |(index, newer): (usize, &Arc<Table>)| {
                // Pieces of one flush are of one age, and disjoint. A memtable that is made anew
                // from the log may reach over the number of a table that was taken in meanwhile; of
                // the keys in that table it has nothing older.
                // They come by their last batches: no further ones reach up to it.
                let older = tables.iter().skip(index + 1);
                let mut older = older.take_while(|older| newer.meta.first <= older.meta.last);
                older.any(|older| older.meta.adopted.is_none() && overlap(&newer.meta, &older.meta))
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
        self.levels.get(level).map_or(&[], |tables| tables)
    }

    /// The tables that may hold `key`, newest first.
    pub(crate) fn holding<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Arc<Table>> {
        let end = |column: &Column| (*column.largest).cmp(key);
        let compare = |number| self.columns.get(number).map(end);
        let column = self.column_ends.lower_bound(key, compare).unwrap_or_default();
        // Keys between two columns need not ask each table.
        let column = self.columns.get(column).filter(|column| *column.smallest <= *key);
        let newest = column.map_or(&[][..], |column| &column.tables);
        let lower = self.levels.iter().zip(&self.ends).skip(1).filter_map(move |(tables, ends)| {
            let end = |table: &Arc<Table>| (*table.meta.largest).cmp(key);
            tables.get(ends.lower_bound(key, |number| tables.get(number).map(end))?)
        });
        newest.iter().chain(lower)
    }

    /// How many tables of level 0 a get may have to ask.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Number of entries of all tables, deletes included.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// What to read to see a range, newest first: the layers of level 0, and each other level.
    pub(crate) fn sources(
        &self,
        direction: Direction,
        mode: ReadMode,
    ) -> impl Iterator<Item = Source> + '_ {
        let lower = self.levels.iter().skip(1).filter(|run| !run.is_empty());
        self.layers.iter().chain(lower).map(move |run| {
            Source::Level(Box::new(LevelCursor::new(Arc::clone(run), direction, mode)))
        })
    }
}

/// Walks tables that are disjoint and in key order as one.
#[derive(Debug)]
pub(crate) struct LevelCursor {
    tables: Arc<[Arc<Table>]>,
    direction: Direction,
    mode: ReadMode,
    at: usize,
    current: Option<TableCursor>,
    covers: Option<Arc<Covers>>,
}

impl LevelCursor {
    pub(crate) fn new(tables: Arc<[Arc<Table>]>, direction: Direction, mode: ReadMode) -> Self {
        Self { tables, direction, mode, at: 0, current: None, covers: None }
    }

    /// See [`TableCursor::heeding`].
    pub(crate) fn heeding(self, covers: &Arc<Covers>) -> Self {
        Self { covers: Some(Arc::clone(covers)), ..self }
    }

    /// Goes to the first entry inside `range`, from the side that the direction starts at.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(crate) fn seek(&mut self, range: &Range) -> Result<(), Error> {
        let first = match (self.direction, &range.start, &range.end) {
            (Direction::Forward, Bound::Included(key) | Bound::Excluded(key), _) => {
                Some(self.tables.partition_point(|table| table.meta.largest < *key))
            }
            (Direction::Forward, ..) => Some(0),
            (Direction::Reverse, _, Bound::Included(key) | Bound::Excluded(key)) => {
                self.tables.partition_point(|table| table.meta.smallest <= *key).checked_sub(1)
            }
            (Direction::Reverse, ..) => self.tables.len().checked_sub(1),
        };
        self.enter(first, range)
    }

    /// Goes to the first entry inside `range` of table `number` or one further on.
    fn enter(&mut self, number: Option<usize>, range: &Range) -> Result<(), Error> {
        self.current = None;
        let mut number = number;
        while let Some(at) = number
            && let Some(table) = self.tables.get(at)
        {
            if !range.meets(&table.meta.smallest, &table.meta.largest) {
                // The first may lie before the range, between it and the table before.
                let before = match self.direction {
                    Direction::Forward => !range.is_after_start(&table.meta.largest),
                    Direction::Reverse => !range.is_before_end(&table.meta.smallest),
                };
                if !before {
                    return Ok(());
                }
            }
            let mut cursor = TableCursor::new(Arc::clone(table), self.direction, self.mode);
            cursor = cursor.heeding(self.covers.clone());
            cursor.seek(range)?;
            self.at = at;
            if cursor.key().is_some() {
                self.current = Some(cursor);
                return Ok(());
            }
            number = self.beside(at);
        }
        Ok(())
    }

    fn beside(&self, number: usize) -> Option<usize> {
        match self.direction {
            Direction::Forward => number.checked_add(1),
            Direction::Reverse => number.checked_sub(1),
        }
    }

    /// Goes one entry on. Past the far end of `range` it may end early.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(crate) fn step(&mut self, range: &Range) -> Result<(), Error> {
        let Some(cursor) = &mut self.current else { return Ok(()) };
        cursor.step(range)?;
        if cursor.key().is_none() {
            self.enter(self.beside(self.at), range)?;
        }
        Ok(())
    }

    /// The table it is in.
    pub(crate) fn table(&self) -> Option<&Arc<Table>> {
        self.current.as_ref().map(TableCursor::table)
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.current.as_ref().and_then(TableCursor::key)
    }

    pub(crate) fn entry(&self) -> Option<EntryRef<'_>> {
        self.current.as_ref().and_then(TableCursor::entry)
    }

    /// The value here, to keep: it shares the memory of its block.
    pub(crate) fn value(&self) -> Bytes {
        self.current.as_ref().map(TableCursor::value).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;

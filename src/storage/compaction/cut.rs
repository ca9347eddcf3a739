//! Where one table ends and the next begins.
//!
//! Decides it before each entry, from the size of the table so far and from what lies at the key:
//! the edge of a unit, the end of a table below, or nothing. Any place between two keys is sound,
//! because a merge writes one version of a key; a place inside the versions of one key never is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::view::{Avoid, LevelsView};
use super::{level0, pick};
use crate::storage::batch::Seqno;
use crate::storage::levels::LAST_LEVEL;
use crate::storage::options::Options;
use crate::storage::sstable::{TableBuilder, TableMeta};

/// A table may meet tables of the level after next of up to so many times its own size: else its
/// own merge will be large some day.
const OVERLAP_TABLES_MAX: u64 = 10;
/// A table of this share of its full size ends at the edge of a unit.
const UNIT_SHARE: u64 = 4;
/// A table of this share of its full size ends where one of the level below does: so merges of that
/// level meet fewer tables of which they need only a part.
const ALIGN_SHARE: u64 = 2;
/// A flush ends a table that has so much of a memtable, where there is no other: of one that is full,
/// some twelve tables come, since memory counts an entry as a third more than a table does.
const FLUSH_PIECES: usize = 16;
/// Entries came in order if no more than one in so many came before the one with the key below.
const ORDER_SHARE: u64 = 8;

/// How large a table in the making is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TableSize {
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// The same with the values that it refers to: what a unit is measured by.
    pub(crate) whole: u64,
}

impl TableSize {
    pub(crate) fn of(builder: &TableBuilder) -> Self {
        Self { bytes: builder.bytes(), whole: builder.whole_bytes() }
    }
}

/// Says where tables end. Keys are shown to it in order.
#[derive(Debug)]
pub(crate) struct Cutter {
    table_bytes: u64,
    /// Ends of other tables, with their sizes, in order; and how many are behind.
    edges: Vec<(Bytes, u64)>,
    passed: usize,
    /// Least size of a table that ends at one of these.
    edge_bytes: u64,
    /// Bytes of the tables behind these edges since the table began.
    overlap: u64,
    /// The columns of a flush.
    columns: Option<Columns>,
    unit_prefix: usize,
    /// Keys that begin with one of these share no table with others; and with which the last key did.
    apart: Vec<u8>,
    side: Option<u8>,
    /// Units that get tables of their own.
    own: BTreeSet<Bytes>,
    is_last: bool,
    unit: Vec<u8>,
    /// Bytes of the unit in tables that have ended, and of the table before the unit began.
    unit_bytes: u64,
    before_unit: u64,
}

/// The unit of a key: its first bytes.
pub(super) fn unit_of(key: &[u8], prefix: usize) -> &[u8] {
    key.get(..prefix).unwrap_or(key)
}

impl Cutter {
    fn new(options: &Options, is_last: bool, edges: Vec<(Bytes, u64)>, edge_bytes: u64) -> Self {
        Self {
            table_bytes: options.table_bytes.max(1),
            edges,
            passed: 0,
            edge_bytes,
            overlap: 0,
            columns: None,
            unit_prefix: options.unit_prefix_bytes,
            apart: options.apart.clone(),
            side: None,
            own: BTreeSet::new(),
            is_last,
            unit: Vec::new(),
            unit_bytes: 0,
            before_unit: 0,
        }
    }

    /// For a merge into level `to`; `beside` are its inputs and all tables of that level, `below`
    /// those that it meets of the next.
    pub(crate) fn for_merge(
        options: &Options,
        to: usize,
        beside: &[&TableMeta],
        below: &[&TableMeta],
    ) -> Self {
        let edges = below.iter().map(|table| (table.largest.clone(), table.bytes)).collect();
        let edge_bytes = options.table_bytes / ALIGN_SHARE;
        let mut cutter = Self::new(options, to == LAST_LEVEL, edges, edge_bytes);
        if cutter.is_last && cutter.unit_prefix > 0 {
            cutter.own = large_units(beside, cutter.unit_prefix, cutter.table_bytes);
        }
        cutter
    }

    /// For a flush, over the tables there are.
    pub(crate) fn for_flush(options: &Options, view: &LevelsView<'_>, avoid: &Avoid) -> Self {
        let blocks = level0::blocks(view, pick::base(view, options), avoid);
        let piece_bytes = (options.memtable_bytes / FLUSH_PIECES) as u64;
        let columns = Some(Columns { blocks, piece_bytes, ..Columns::default() });
        // Half: one flush has more of a column than the next, and a place that is not taken again
        // joins two columns.
        Self { columns, ..Self::new(options, false, Vec::new(), piece_bytes / 2) }
    }

    /// Takes note of the batch of an entry that a flush writes, in key order: it tells whether keys
    /// came in order.
    pub(crate) fn note(&mut self, seqno: Seqno) {
        if let Some(columns) = &mut self.columns {
            columns.note(seqno);
        }
    }

    /// Whether the table of this size that is being written ends before `key`. A table that has not
    /// begun has none.
    pub(crate) fn cuts_before(&mut self, key: &[u8], size: TableSize) -> bool {
        let TableSize { bytes, whole } = size;
        let crosses = match &mut self.columns {
            Some(columns) => columns.end_before(key, bytes),
            None => self.passes_edge(key),
        };
        let unit_ends = self.unit_prefix > 0 && *unit_of(key, self.unit_prefix) != *self.unit;
        let side = key.first().filter(|first| self.apart.contains(first)).copied();
        let leaves = std::mem::replace(&mut self.side, side) != side;
        let cuts = bytes > 0
            && (bytes >= self.table_bytes
                || leaves
                || crosses && bytes >= self.edge_bytes
                || self.overlap > self.table_bytes.saturating_mul(OVERLAP_TABLES_MAX)
                || unit_ends && self.unit_is_cut(key, whole));
        if cuts || bytes == 0 {
            self.overlap = 0;
            self.columns.iter_mut().for_each(Columns::begin);
        }
        let begun = if cuts { 0 } else { whole };
        if unit_ends {
            self.unit.clear();
            self.unit.extend_from_slice(unit_of(key, self.unit_prefix));
            (self.unit_bytes, self.before_unit) = (0, begun);
        } else if cuts {
            self.unit_bytes += whole.saturating_sub(self.before_unit);
            self.before_unit = 0;
        }
        cuts
    }

    /// Whether a table ends at the edge of a unit: when it has a size worth a file, and at the last
    /// level always beside a unit that is large, so that this one is all of its files.
    fn unit_is_cut(&self, key: &[u8], whole: u64) -> bool {
        let unit_bytes = self.unit_bytes + whole.saturating_sub(self.before_unit);
        let beside_large = unit_bytes >= self.table_bytes
            || self.own.contains(unit_of(key, self.unit_prefix))
            || self.own.contains(&*self.unit);
        whole >= self.table_bytes / UNIT_SHARE || self.is_last && beside_large
    }

    fn passes_edge(&mut self, key: &[u8]) -> bool {
        let before = self.passed;
        while let Some((end, bytes)) = self.edges.get(self.passed)
            && **end < *key
        {
            self.overlap += bytes;
            self.passed += 1;
        }
        self.passed > before
    }
}

/// The columns that a flush is cut into, so that a merge of level 0 can take one and leave the others.
#[derive(Debug, Default)]
struct Columns {
    /// Stretches of keys inside which no table may end, in order, and how many are behind.
    blocks: Vec<(Bytes, Bytes)>,
    passed: usize,
    /// Where there are none, a table ends with so much.
    piece_bytes: u64,
    /// The last key stands inside the block that is next.
    inside: bool,
    /// The bytes that the table had behind the last block.
    free_from: u64,
    /// Of the table that is being written: its entries, how many of them were written before the one
    /// with the key below, and when the last was.
    entries: u64,
    back: u64,
    last: Seqno,
}

impl Columns {
    fn begin(&mut self) {
        (self.entries, self.back, self.last) = (0, 0, Seqno(0));
        self.free_from = 0;
    }

    fn note(&mut self, seqno: Seqno) {
        self.entries += 1;
        self.back += u64::from(seqno < self.last);
        self.last = seqno;
    }

    /// Whether a table may end before `key`. Keys that came in order will hardly come again: their
    /// tables are moved down as they are, and are to be large.
    fn end_before(&mut self, key: &[u8], bytes: u64) -> bool {
        let behind = |(_, end): &&(Bytes, Bytes)| **end < *key;
        let passed = self.passed;
        self.passed += self.blocks.iter().skip(passed).take_while(behind).count();
        let left = usize::from(self.inside);
        let goes_on = self.inside && self.passed == passed;
        self.inside = self.blocks.get(self.passed).is_some_and(|(begin, _)| **begin <= *key);
        let in_order = self.back * ORDER_SHARE <= self.entries;
        if !self.inside && (left > 0 || self.passed > passed) {
            self.free_from = bytes;
        }
        // At a beginning, where else the table would lie across, or where there is none at all for so
        // long. Not at an end: a few keys beyond it would be a table of their own.
        let at_edge = self.inside || self.passed - passed > left;
        let is_full = bytes - self.free_from.min(bytes) >= self.piece_bytes;
        !goes_on && (at_edge || !in_order && is_full)
    }
}

/// Units that have at least `bytes` in these tables, as far as whole tables tell.
fn large_units(tables: &[&TableMeta], prefix: usize, bytes: u64) -> BTreeSet<Bytes> {
    let mut sizes: BTreeMap<Bytes, u64> = BTreeMap::new();
    for table in tables {
        let unit = unit_of(&table.smallest, prefix);
        if unit == unit_of(&table.largest, prefix) {
            *sizes.entry(Bytes::copy_from_slice(unit)).or_default() += table.whole_bytes();
        }
    }
    sizes.into_iter().filter(|(_, size)| *size >= bytes).map(|(unit, _)| unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::FileNo;

    fn key(number: u32) -> Bytes {
        Bytes::from(format!("{number:04}"))
    }

    fn table(no: FileNo, (low, high): (u32, u32)) -> TableMeta {
        let (smallest, largest) = (key(low), key(high));
        TableMeta { no, bytes: 100, entries: 10, smallest, largest, ..TableMeta::default() }
    }

    /// At which of the keys 0 to 99, ten bytes each, a flush begins a table, if they came in this order.
    fn cuts(tables: &[(usize, TableMeta)], came: impl Fn(u32) -> u64) -> Vec<u32> {
        let all = tables.iter().map(|(level, table)| (*level, table));
        let view = LevelsView::from_ordered(all, |_| 0);
        let options = Options { memtable_bytes: 16 * 100, table_bytes: 700, ..Options::default() };
        let mut cutter = Cutter::for_flush(&options, &view, &Avoid::default());
        let (mut begun, mut cuts) = (0, Vec::new());
        for number in 0..100 {
            let bytes = u64::from(number - begun) * 10;
            if cutter.cuts_before(&key(number), TableSize { bytes, whole: bytes }) {
                cuts.push(number);
                begun = number;
            }
            cutter.note(Seqno(came(number)));
        }
        cuts
    }

    fn mixed(number: u32) -> u64 {
        u64::from(number * 37 % 100)
    }

    #[test]
    fn keys_that_came_in_any_order_are_cut_into_columns_where_nothing_is() {
        assert_eq!(cuts(&[], mixed), [10, 20, 30, 40, 50, 60, 70, 80, 90]);
        // Those in order are in tables of full size: nothing will come between.
        assert_eq!(cuts(&[], u64::from), [70]);
        assert_eq!(cuts(&[], |_| 7), [70], "of one batch");
    }

    #[test]
    fn a_flush_is_cut_where_tables_begin_and_never_inside_them() {
        let below = [(LAST_LEVEL, table(1, (5, 29))), (LAST_LEVEL, table(2, (31, 59)))];
        assert_eq!(cuts(&below, mixed), [5, 31, 70, 80, 90]);
        // The columns of the flush before begin a little later: the same places again.
        let upper = [(0, table(3, (0, 28))), (0, table(4, (33, 58))), (0, table(5, (61, 99)))];
        assert_eq!(cuts(&[&upper, &below[..]].concat(), mixed), [31, 61]);
        // One of level 0 that lies across joins two columns.
        let across = [(0, table(6, (20, 40)))];
        assert_eq!(cuts(&[&across, &below[..]].concat(), mixed), [5, 70, 80, 90]);
    }
}

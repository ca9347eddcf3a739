//! Where one table ends and the next begins.
//!
//! Decides it before each entry, from the size of the table so far and from what lies at the key:
//! the edge of a unit, the end of a table below, or nothing. Any place between two keys is sound,
//! because a merge writes one version of a key; a place inside the versions of one key never is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::view::{Avoid, LevelsView};
use super::{level0, pick};
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
/// Into at most so many tables a flush is cut by edges.
const FLUSH_PIECES: usize = 8;

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
    unit_prefix: usize,
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
            unit_prefix: options.unit_prefix_bytes,
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

    /// For a flush of about `memtable_bytes`, over the tables there are.
    pub(crate) fn for_flush(options: &Options, view: &LevelsView<'_>, avoid: &Avoid) -> Self {
        let edges = level0::edges(view, pick::base(view, options), avoid);
        let piece = (options.memtable_bytes / FLUSH_PIECES) as u64;
        Self::new(options, false, edges.into_iter().map(|key| (key, 0)).collect(), piece)
    }

    /// Whether the table of this size that is being written ends before `key`. A table that has not
    /// begun has none.
    pub(crate) fn cuts_before(&mut self, key: &[u8], size: TableSize) -> bool {
        let TableSize { bytes, whole } = size;
        let crosses = self.passes_edge(key);
        let unit_ends = self.unit_prefix > 0 && *unit_of(key, self.unit_prefix) != *self.unit;
        let cuts = bytes > 0
            && (bytes >= self.table_bytes
                || crosses && bytes >= self.edge_bytes
                || self.overlap > self.table_bytes.saturating_mul(OVERLAP_TABLES_MAX)
                || unit_ends && self.unit_is_cut(key, whole));
        if cuts || bytes == 0 {
            self.overlap = 0;
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

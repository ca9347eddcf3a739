//! Deleted ranges: which keys were deleted as a whole, and by which batch.
//!
//! Decides what a deleted range hides: every version of a key in it that an earlier batch wrote.
//! While such a version may still be in memory or in a table, the range is kept: in the memtable of
//! its batch, then in the manifest. INVARIANT: a range leaves the manifest only when no table that
//! it meets holds anything older that has not been merged with the range in view.
//!
//! The ranges are cut into fragments that do not overlap, so a reader pays one binary search, and
//! nothing at all where no range is deleted (fragmented range tombstones, as in RocksDB and Pebble).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use super::batch::Seqno;
use super::key_range::KeyRange;
use super::sstable::TableMeta;

/// A range and the batch that deleted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeDelete {
    pub(crate) range: KeyRange,
    pub(crate) seqno: Seqno,
}

impl RangeDelete {
    /// Whether a table may hold something that this hides.
    pub(crate) fn concerns(&self, table: &TableMeta) -> bool {
        table.first < self.seqno
            && table.purged < self.seqno
            && self.range.meets(&table.smallest, &table.largest)
    }

    /// Leaves out those that concern no table any more.
    pub(crate) fn needed<'a>(
        deletes: impl IntoIterator<Item = &'a Self>,
        tables: &[&TableMeta],
    ) -> Vec<Self> {
        let needed = |delete: &&Self| tables.iter().any(|table| delete.concerns(table));
        deletes.into_iter().filter(needed).cloned().collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fragment {
    start: Bytes,
    end: Option<Bytes>,
    /// The batches that have deleted it, newest first; at least one.
    seqnos: Vec<Seqno>,
}

/// Deleted ranges, made ready for questions. Immutable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    ranges: Vec<RangeDelete>,
    /// In key order, disjoint.
    fragments: Vec<Fragment>,
}

impl Deleted {
    pub(crate) fn new(ranges: Vec<RangeDelete>) -> Self {
        if ranges.is_empty() {
            return Self::default();
        }
        // At each key where a range begins or ends: by how much each batch's count changes.
        let mut edges: BTreeMap<&Bytes, Vec<(Seqno, bool)>> = BTreeMap::new();
        let bounds: Vec<_> = ranges.iter().map(|delete| owned(&delete.range)).collect();
        for ((start, end), delete) in bounds.iter().zip(&ranges) {
            edges.entry(start).or_default().push((delete.seqno, true));
            if let Some(end) = end {
                edges.entry(end).or_default().push((delete.seqno, false));
            }
        }
        let mut open: BTreeMap<Seqno, usize> = BTreeMap::new();
        let mut fragments: Vec<Fragment> = Vec::new();
        for (edge, changes) in edges {
            if let Some(last) = fragments.last_mut().filter(|last| last.end.is_none()) {
                last.end = Some(edge.clone());
            }
            for (seqno, begins) in changes {
                let count = open.entry(seqno).or_default();
                *count = if begins { *count + 1 } else { count.saturating_sub(1) };
            }
            open.retain(|_, count| *count > 0);
            if !open.is_empty() {
                let seqnos = open.keys().rev().copied().collect();
                fragments.push(Fragment { start: edge.clone(), end: None, seqnos });
            }
        }
        Self { ranges, fragments }
    }

    pub(crate) fn ranges(&self) -> &[RangeDelete] {
        &self.ranges
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The newest batch that has deleted a range, 0 if none has.
    pub(crate) fn newest(&self) -> Seqno {
        self.ranges.iter().map(|delete| delete.seqno).max().unwrap_or_default()
    }

    /// Up to which batch `key` is hidden from a reader at `at`: versions of earlier batches are.
    /// 0 if it is not.
    pub(crate) fn cover(&self, key: &[u8], at: Seqno) -> Seqno {
        let after = self.fragments.partition_point(|fragment| *fragment.start <= *key);
        let fragment = after.checked_sub(1).and_then(|index| self.fragments.get(index));
        let covering =
            fragment.filter(|fragment| fragment.end.as_ref().is_none_or(|end| *key < **end));
        if crate::mutant!("storage-range-delete-hides-later-writes") && covering.is_some() {
            return Seqno(u64::MAX);
        }
        let seqnos = covering.map_or(&[][..], |fragment| &fragment.seqnos);
        seqnos.iter().find(|seqno| **seqno <= at).copied().unwrap_or_default()
    }

    /// Whether everything in a table is hidden.
    pub(crate) fn hides(&self, table: &TableMeta) -> bool {
        let mut next = &*table.smallest;
        let after = self.fragments.partition_point(|fragment| *fragment.start <= *next);
        for fragment in self.fragments.iter().skip(after.saturating_sub(1)) {
            let newer = fragment.seqnos.first().is_some_and(|seqno| table.last < *seqno);
            if !newer || *fragment.start > *next {
                return false;
            }
            match &fragment.end {
                Some(end) if **end <= *next => return false,
                Some(end) if **end <= *table.largest => next = end,
                Some(_) | None => return true,
            }
        }
        false
    }

    /// What of a range no batch has deleted after `last`, as a reader at `at` sees it.
    fn uncovered(&self, range: &KeyRange, last: Seqno, at: Seqno) -> Vec<KeyRange> {
        let (mut next, end) = owned(range);
        let mut left = Vec::new();
        let is_before_end = |key: &Bytes| end.as_ref().is_none_or(|end| key < end);
        for fragment in self.fragments.iter().take_while(|fragment| is_before_end(&fragment.start))
        {
            let newer = fragment.seqnos.iter().any(|seqno| last < *seqno && *seqno <= at);
            if !newer || fragment.end.as_ref().is_some_and(|end| *end <= next) {
                continue;
            }
            if next < fragment.start {
                left.push(KeyRange::new(next, Some(fragment.start.clone())));
            }
            match &fragment.end {
                Some(end) => next = end.clone(),
                None => return left,
            }
        }
        if is_before_end(&next) {
            left.push(KeyRange::new(next, end));
        }
        left
    }
}

fn owned(range: &KeyRange) -> (Bytes, Option<Bytes>) {
    (Bytes::copy_from_slice(range.start()), range.end().map(Bytes::copy_from_slice))
}

/// The deleted ranges of a memtable: more may come while readers ask.
#[derive(Debug, Default)]
pub(crate) struct DeletedInMemory {
    /// Spares readers the lock where nothing was ever deleted.
    any: AtomicBool,
    now: RwLock<Arc<Deleted>>,
}

impl DeletedInMemory {
    pub(crate) fn add(&self, more: Vec<RangeDelete>) {
        if more.is_empty() {
            return;
        }
        let mut now = self.now.write();
        let ranges = now.ranges.iter().cloned().chain(more).collect();
        *now = Arc::new(Deleted::new(ranges));
        self.any.store(true, Ordering::Release);
    }

    /// Takes back what batch `seqno` has deleted.
    pub(crate) fn undo(&self, seqno: Seqno) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut now = self.now.write();
        let left = now.ranges.iter().filter(|delete| delete.seqno != seqno).cloned().collect();
        *now = Arc::new(Deleted::new(left));
    }

    /// What is deleted now; `None` if nothing ever was.
    pub(crate) fn get(&self) -> Option<Arc<Deleted>> {
        self.any.load(Ordering::Acquire).then(|| Arc::clone(&self.now.read()))
    }

    /// As [`Deleted::cover`].
    pub(crate) fn cover(&self, key: &[u8], at: Seqno) -> Seqno {
        match self.any.load(Ordering::Acquire) {
            true => self.now.read().cover(key, at),
            false => Seqno(0),
        }
    }
}

/// All deleted ranges that a reader of several sources has to heed, as of one batch.
#[derive(Debug, Default)]
pub(crate) struct Covers {
    sets: Vec<Arc<Deleted>>,
    at: Seqno,
    /// Blocks that could not be read, and were passed over because they hold nothing that is to be seen.
    passed: AtomicU64,
}

impl Covers {
    pub(crate) fn new(sets: impl IntoIterator<Item = Arc<Deleted>>, at: Seqno) -> Self {
        let sets = sets.into_iter().filter(|set| !set.is_empty()).collect();
        Self { sets, at, passed: AtomicU64::new(0) }
    }

    /// What of a range may hold versions of batch `last` or earlier ones that are not hidden.
    pub(crate) fn uncovered(&self, range: KeyRange, last: Seqno) -> Vec<KeyRange> {
        self.sets.iter().fold(vec![range], |left, set| {
            left.iter().flat_map(|range| set.uncovered(range, last, self.at)).collect()
        })
    }

    /// Whether nothing of a range that was written by batch `last` or earlier is to be seen: what cannot
    /// be read of it is then no loss. Counts it.
    pub(crate) fn passes(&self, range: KeyRange, last: Seqno) -> bool {
        let passes = !self.sets.is_empty() && self.uncovered(range, last).is_empty()
            || crate::mutant!("storage-passes-over-damage");
        self.passed.fetch_add(u64::from(passes), Ordering::Relaxed);
        passes
    }

    /// How often it has said so.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Whether the version that batch `seqno` has written of `key` is hidden.
    pub(crate) fn hide(&self, key: &[u8], seqno: Seqno) -> bool {
        self.sets.iter().any(|set| seqno < set.cover(key, self.at))
    }
}

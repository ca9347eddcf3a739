//! What has become of a range since an earlier batch, as far as memory has it.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::Snapshot;
use crate::storage::batch::Seqno;
use crate::storage::iter::{Direction, Range};
use crate::storage::key_range::KeyRange;
use crate::storage::memtable::Memtable;

/// Entries that are taken from a memtable under one hold of its lock.
const CHUNK: usize = 256;

/// What later batches than one have changed of a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since {
    /// The keys that they have written or deleted one by one, in order.
    pub keys: Vec<Bytes>,
    /// The ranges that they have deleted, as far as these meet the range.
    pub deleted: Vec<KeyRange>,
}

impl Snapshot {
    /// The store as it was after an earlier batch. INVARIANT, the caller's: nothing later was in tables
    /// when this snapshot was taken, see [`Snapshot::since`] and
    /// [`Recovery::flushed`](crate::storage::Recovery::flushed).
    #[must_use]
    pub fn at(&self, seqno: Seqno) -> Snapshot {
        Snapshot { seqno: self.seqno.min(seqno), ..self.clone() }
    }

    /// What batches after `seqno` have changed of a range. `None` where tables have something of the range
    /// that came later: memory cannot tell then. For the answer to be all, `seqno` must not be below what
    /// had been flushed when this snapshot was taken.
    pub fn since(&self, range: &KeyRange, seqno: Seqno) -> Option<Since> {
        let is_newer = |smallest: &[u8], largest: &[u8], last: Seqno| {
            last > seqno && range.meets(smallest, largest)
        };
        let mut tables = self.view.levels.all().map(|(_, table)| &table.meta);
        if tables.any(|meta| is_newer(&meta.smallest, &meta.largest, meta.last)) {
            return None;
        }
        let mut since = Since::default();
        for memtable in self.view.memtables() {
            self.changed(memtable, range, seqno, &mut since.keys);
            let deleted = memtable.deleted.get().unwrap_or_default();
            let deleted = deleted.ranges().iter();
            let later = deleted.filter(|delete| delete.seqno > seqno && delete.seqno <= self.seqno);
            let meeting = later.filter(|delete| delete.range.overlaps(range));
            since.deleted.extend(meeting.map(|delete| delete.range.clone()));
        }
        since.keys.sort_unstable();
        since.keys.dedup();
        Some(since)
    }

    fn changed(
        &self,
        memtable: &Arc<Memtable>,
        range: &KeyRange,
        seqno: Seqno,
        keys: &mut Vec<Bytes>,
    ) {
        if memtable.last() <= seqno {
            return;
        }
        let end = range.end().map_or(Bound::Unbounded, Bound::Excluded);
        let mut left = Range::new(Bound::Included(range.start()), end);
        loop {
            let chunk = memtable.chunk(&left, Direction::Forward, self.seqno, CHUNK);
            let later = chunk.iter().filter(|entry| entry.seqno > seqno);
            // The keys alone: those of a chunk share their memory with the values.
            keys.extend(later.map(|entry| Bytes::copy_from_slice(&entry.key)));
            match chunk.last().filter(|_| chunk.len() == CHUNK) {
                Some(last) => left.start = Bound::Excluded(last.key.clone()),
                None => return,
            }
        }
    }
}

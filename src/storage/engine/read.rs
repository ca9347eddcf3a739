//! Reading: the newest version of a key, memory first, and consistent ranges.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::core::{Core, Phase, View};
use crate::storage::batch::Seqno;
use crate::storage::error::Error;
use crate::storage::iter::{Direction, Entry, Iter, MemtableCursor, Range, Source};
use crate::storage::sstable::{Probe, ReadMode, key_hash};

/// What memory alone knows of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TryGet {
    /// The value, and the batch that wrote it.
    Found(Bytes, Seqno),
    /// There is certainly none.
    Absent,
    /// Only the disk can tell: use `get`.
    NeedsDisk,
}

impl View {
    /// The outer `None`: memory does not know.
    fn in_memory(&self, key: &[u8], seqno: Seqno) -> Option<Option<(Bytes, Seqno)>> {
        let mut found = self.memtables().filter_map(|memtable| memtable.get(key, seqno));
        found.next().map(|(seqno, value)| Some((value?, seqno)))
    }

    pub(super) fn get(&self, key: &[u8], seqno: Seqno) -> Result<Option<(Bytes, Seqno)>, Error> {
        if let Some(known) = self.in_memory(key, seqno) {
            return Ok(known);
        }
        let hash = key_hash(key);
        for table in self.levels.holding(key) {
            // Newest first, so the first entry is the one in force, be it a value or a delete.
            if let Some(entry) = table.get(key, hash)? {
                return Ok(entry.value.map(|value| (value, entry.seqno)));
            }
        }
        Ok(None)
    }

    pub(super) fn try_get(&self, key: &[u8]) -> TryGet {
        match self.in_memory(key, Seqno(u64::MAX)) {
            Some(Some((value, seqno))) => TryGet::Found(value, seqno),
            Some(None) => TryGet::Absent,
            None => self.try_tables(key),
        }
    }

    fn try_tables(&self, key: &[u8]) -> TryGet {
        let hash = key_hash(key);
        for table in self.levels.holding(key) {
            match table.try_get(key, hash) {
                Probe::Found(Entry { seqno, value: Some(value), .. }) => {
                    return TryGet::Found(value, seqno);
                }
                Probe::Found(Entry { value: None, .. }) => return TryGet::Absent,
                // What lies below this table may be covered by what is in it.
                Probe::NeedsDisk => return TryGet::NeedsDisk,
                Probe::Absent => {}
            }
        }
        TryGet::Absent
    }

    fn range(&self, range: &Range, direction: Direction, seqno: Seqno) -> Iter {
        let memtables = self.memtables().map(|memtable| {
            let memtable = Arc::clone(memtable);
            Source::Memtable(MemtableCursor::new(memtable, range.clone(), direction, seqno))
        });
        let tables = self.levels.cursors(range, direction, ReadMode::Cached).map(Source::Level);
        Iter::new(memtables.chain(tables).collect(), direction)
    }
}

/// The store as it was at one moment. Holds the memtables and files it needs until it is dropped.
#[derive(Debug, Clone)]
pub struct Snapshot {
    view: Arc<View>,
    seqno: Seqno,
    /// The engine was closed when it was taken.
    closed: bool,
}

impl Snapshot {
    /// The last batch it shows.
    pub fn seqno(&self) -> Seqno {
        self.seqno
    }

    /// The value of `key`, and the batch that wrote it.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says; never "absent" for what cannot be read. `Closed`
    /// if the engine was closed before the snapshot was taken; an earlier one reads on.
    pub fn get(&self, key: &[u8]) -> Result<Option<(Bytes, Seqno)>, Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        self.view.get(key, self.seqno)
    }

    /// The pairs between two bounds, in the given direction. Yields the errors of
    /// [`Snapshot::get`].
    pub fn range(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, direction: Direction) -> Iter {
        if self.closed {
            return Iter::refused(Error::Closed, direction);
        }
        self.view.range(&Range::new(start, end), direction, self.seqno)
    }
}

impl Core {
    /// View and number must belong together: a later view may have lost, to a flush, the version
    /// that this number would still show.
    pub(super) fn snapshot(&self) -> Snapshot {
        let commit = self.commit.lock();
        let closed = commit.phase == Phase::Closed;
        Snapshot { view: self.view.load_full(), seqno: commit.last, closed }
    }

    /// # Errors
    /// `Closed`.
    pub(super) fn open_view(&self) -> Result<arc_swap::Guard<Arc<View>>, Error> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::Closed),
            false => Ok(self.view.load()),
        }
    }
}

//! Reading: the newest version of a key, memory first, and consistent ranges.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::core::{Core, View};
use crate::storage::batch::{Kind, Seqno};
use crate::storage::deleted::{Covers, Deleted};
use crate::storage::entry::Version;
use crate::storage::error::Error;
use crate::storage::iter::{Direction, Iter, Range};
use crate::storage::key_range::KeyRange;
use crate::storage::memtable_cursor::MemtableCursor;
use crate::storage::merge::Source;
use crate::storage::sstable::{Probe, ReadMode, RecentBlocks, Table, key_hash};

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

/// The value of a key and the batch that wrote it, or why they cannot be told.
type Looked = Result<Option<(Bytes, Seqno)>, Error>;

/// What the memtables know of a key.
enum InMemory {
    /// It is this, or not there.
    Known(Option<(Bytes, Seqno)>),
    /// They have no version of it; what batches before this one wrote is deleted.
    Unknown(Seqno),
}

/// Whether a reader is told of a version, if what was written before batch `cover` is deleted.
fn is_seen(version: &Version, cover: Seqno) -> bool {
    version.kind != Kind::Delete && version.seqno >= cover
}

impl View {
    fn in_memory(&self, key: &[u8], at: Seqno) -> InMemory {
        let mut cover = Seqno(0);
        for memtable in self.memtables() {
            cover = cover.max(memtable.deleted.cover(key, at));
            if let Some((seqno, value)) = memtable.get(key, at) {
                let value = value.filter(|_| seqno >= cover);
                return InMemory::Known(value.map(|value| (value, seqno)));
            }
        }
        let in_tables = self.deleted_in_tables().map(|deleted| deleted.cover(key, at));
        InMemory::Unknown(cover.max(in_tables.unwrap_or_default()))
    }

    /// What is deleted of the tables; `None` if nothing is.
    fn deleted_in_tables(&self) -> Option<&Arc<Deleted>> {
        let forgotten = crate::mutant!("storage-range-delete-forgotten-in-tables");
        Some(self.levels.deleted()).filter(|deleted| !deleted.is_empty() && !forgotten)
    }

    /// Many keys, in the order of `keys`. They are looked up in key order, so that neighbours share
    /// blocks.
    fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K], seqno: Seqno) -> Vec<Looked> {
        let mut order: Vec<(&[u8], usize)> =
            keys.iter().map(AsRef::as_ref).zip(0..keys.len()).collect();
        order.sort_unstable();
        let mut recent = RecentBlocks::default();
        let mut found: Vec<Looked> = keys.iter().map(|_| Ok(None)).collect();
        for (key, place) in order {
            if let Some(slot) = found.get_mut(place) {
                *slot = self.get_sharing(key, seqno, &mut recent);
            }
        }
        found
    }

    pub(super) fn get(&self, key: &[u8], seqno: Seqno) -> Looked {
        self.look(key, seqno, |table, hash| table.get(key, hash))
    }

    fn get_sharing(&self, key: &[u8], seqno: Seqno, recent: &mut RecentBlocks) -> Looked {
        self.look(key, seqno, |table, hash| table.get_sharing(key, hash, recent))
    }

    fn look(
        &self,
        key: &[u8],
        seqno: Seqno,
        mut ask: impl FnMut(&Table, u64) -> Result<Option<Version>, Error>,
    ) -> Looked {
        self.look_as(key, seqno, ReadMode::Cached, &mut ask)
    }

    /// The same, reading values that stand elsewhere from the disk.
    pub(super) fn get_from_disk(&self, key: &[u8], seqno: Seqno) -> Looked {
        self.look_as(key, seqno, ReadMode::Disk, &mut |table: &Table, hash| table.get(key, hash))
    }

    fn look_as(
        &self,
        key: &[u8],
        seqno: Seqno,
        mode: ReadMode,
        ask: &mut dyn FnMut(&Table, u64) -> Result<Option<Version>, Error>,
    ) -> Looked {
        let cover = match self.in_memory(key, seqno) {
            InMemory::Known(known) => return Ok(known),
            InMemory::Unknown(cover) => cover,
        };
        let hash = key_hash(key);
        // What is hidden as a whole need not be read, and may be damaged.
        for table in self.levels.holding(key).filter(|table| table.meta.last >= cover) {
            // Newest first, so the first entry is the one in force, be it a value or a delete.
            if let Some(version) = ask(table, hash)? {
                if !is_seen(&version, cover) {
                    return Ok(None);
                }
                let value = match version.kind {
                    Kind::Pointer => table.value_of(key, &version.value, mode)?,
                    _ => version.value,
                };
                return Ok(Some((value, version.seqno)));
            }
        }
        Ok(None)
    }

    pub(super) fn try_get(&self, key: &[u8], seqno: Seqno) -> TryGet {
        match self.in_memory(key, seqno) {
            InMemory::Known(Some((value, seqno))) => TryGet::Found(value, seqno),
            InMemory::Known(None) => TryGet::Absent,
            InMemory::Unknown(cover) => self.try_tables(key, cover),
        }
    }

    fn try_tables(&self, key: &[u8], cover: Seqno) -> TryGet {
        let hash = key_hash(key);
        for table in self.levels.holding(key).filter(|table| table.meta.last >= cover) {
            match table.try_get(key, hash) {
                Probe::Found(version) if !is_seen(&version, cover) => return TryGet::Absent,
                Probe::Found(version) => {
                    let value = match version.kind {
                        Kind::Pointer => table.cached_value_of(key, &version.value),
                        _ => Some(version.value),
                    };
                    let found = |value| TryGet::Found(value, version.seqno);
                    return value.map_or(TryGet::NeedsDisk, found);
                }
                // What lies below this table may be covered by what is in it.
                Probe::NeedsDisk => return TryGet::NeedsDisk,
                Probe::Absent => {}
            }
        }
        TryGet::Absent
    }

    /// The memtables as a reader at `at` sees them, newest first.
    pub(super) fn memory_sources(
        &self,
        at: Seqno,
        direction: Direction,
    ) -> impl Iterator<Item = Source> {
        self.memtables().filter(|memtable| !memtable.is_empty()).map(move |memtable| {
            Source::Memtable(MemtableCursor::new(Arc::clone(memtable), direction, at))
        })
    }

    /// All that is deleted as a reader at `seqno` sees it.
    pub(super) fn covers(&self, seqno: Seqno) -> Covers {
        let deleted = self.memtables().filter_map(|memtable| memtable.deleted.get());
        Covers::new(deleted.chain(self.deleted_in_tables().cloned()), seqno)
    }

    fn range(&self, range: Range, direction: Direction, (seqno, mode): (Seqno, ReadMode)) -> Iter {
        let memtables = self.memory_sources(seqno, direction);
        let covers = Arc::new(self.covers(seqno));
        let tables = self.levels.sources(direction, mode);
        let sources = memtables.chain(tables.map(|table| table.heeding(&covers))).collect();
        Iter::new(sources, range, covers, direction)
    }
}

/// The store as it was at one moment. Holds the memtables and files it needs until it is dropped.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) view: Arc<View>,
    pub(super) seqno: Seqno,
    /// The engine was closed when it was taken.
    pub(super) closed: bool,
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

    /// What [`Snapshot::get`] says of each of `keys`, in their order.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
    ) -> Vec<Result<Option<(Bytes, Seqno)>, Error>> {
        match self.closed {
            true => keys.iter().map(|_| Err(Error::Closed)).collect(),
            false => self.view.multi_get(keys, self.seqno),
        }
    }

    /// The pairs between two bounds, in the given direction. Yields the errors of
    /// [`Snapshot::get`].
    pub fn range(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, direction: Direction) -> Iter {
        self.iter(Range::new(start, end), direction)
    }

    /// The pairs whose keys begin with `prefix`, in the given direction. Yields the errors of
    /// [`Snapshot::get`].
    pub fn prefix(&self, prefix: &[u8], direction: Direction) -> Iter {
        self.iter(Range::prefix(prefix), direction)
    }

    /// Whether a table reaches into `range`, but for what later batches have deleted by ranges: there
    /// [`Engine::damage`](super::Engine::damage) may find something lost, though no key is to be seen.
    /// Reads nothing. Memtables do not count.
    pub fn reaches(&self, range: &KeyRange) -> bool {
        let covers = self.view.covers(self.seqno);
        let mut tables = self.view.levels.all().map(|(_, table)| table);
        tables.any(|table| {
            let part = table.meta.keys().meeting(range);
            !part.is_empty() && !covers.uncovered(part, table.meta.last).is_empty()
        })
    }

    fn iter(&self, range: Range, direction: Direction) -> Iter {
        if self.closed {
            return Iter::refused(Error::Closed, direction);
        }
        self.view.range(range, direction, (self.seqno, ReadMode::Cached))
    }

    /// The pairs of a range in key order, for one who reads them once: users' blocks stay in the cache.
    pub(super) fn passing(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Iter {
        let range = Range::new(start, end);
        self.view.range(range, Direction::Forward, (self.seqno, ReadMode::Passing))
    }
}

impl Core {
    /// View and number must belong together: a later view may have lost, to a flush, the version
    /// that this number would still show.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut view = self.view.load_full();
        loop {
            let seqno = self.visible();
            let again = self.view.load_full();
            // It was in force when the number was: all that the number covers is in it.
            if Arc::ptr_eq(&view, &again) {
                return Snapshot { view, seqno, closed: self.closed.load(Ordering::Acquire) };
            }
            view = again;
        }
    }

    /// The last batch that is wholly visible. To be asked for after the view.
    pub(super) fn visible(&self) -> Seqno {
        Seqno(self.visible.load(Ordering::Acquire))
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

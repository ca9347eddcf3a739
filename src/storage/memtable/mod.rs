//! The newest writes, sorted, in memory.
//!
//! Decides how versions of a key are kept (all of them: a snapshot or an undone batch needs the
//! older ones) and what they count as. [`arena`] decides where the bytes lie, [`tree`] the order of
//! keys. Does not know the log or the tables. Guarded by one readers-writer lock, which a writer
//! yields to waiting readers every few entries; that a batch is seen whole or not at all is the
//! business of the numbers readers read at.

mod arena;
mod tree;

pub(crate) use arena::ChunkPool;

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::{RwLock, RwLockWriteGuard};

use self::arena::{Arena, At, NOWHERE, RECORD_OVERHEAD, Value};
use self::tree::{Tree, growth_max};
use super::batch::{SHARED_VALUE_BYTES, SealedBatch, Seqno};
use super::deleted::DeletedInMemory;
use super::entry::Entry;
use super::iter::{Direction, Range};

/// How many bytes go in under one hold of the lock while readers wait.
const HOLD_BYTES: usize = 16 << 10;

#[derive(Debug)]
struct Sorted {
    arena: Arena,
    tree: Tree,
    /// Number of keys.
    keys: u64,
    /// Number of keys of which every version was taken back.
    gone: u64,
}

#[derive(Debug)]
pub(crate) struct Memtable {
    sorted: RwLock<Sorted>,
    /// Hides older versions of keys, here and in everything older.
    pub(crate) deleted: DeletedInMemory,
    bytes: AtomicUsize,
    leaves: AtomicUsize,
    last: AtomicU64,
}

impl Sorted {
    fn insert(&mut self, seqno: Seqno, key: &[u8], value: Value<'_>) {
        match self.tree.locate(&self.arena, key) {
            Ok(spot) => {
                let older = self.tree.place(spot);
                self.gone -= u64::from(self.newest(older, Seqno(u64::MAX)).is_none());
                let place = self.arena.push(older, seqno, key, value);
                self.tree.replace(spot, place);
            }
            Err(spot) => {
                let place = self.arena.push(NOWHERE, seqno, key, value);
                self.tree.insert(&self.arena, spot, key, place);
                self.keys += 1;
            }
        }
    }

    /// The newest version from `place` on that a reader at `seqno` sees.
    fn newest(&self, mut place: At, seqno: Seqno) -> Option<(At, Seqno)> {
        while place != NOWHERE {
            let version = self.arena.version(place);
            if version.seqno <= seqno && !version.gone {
                return Some((place, version.seqno));
            }
            place = version.older;
        }
        None
    }

    fn undo(&mut self, seqno: Seqno, key: &[u8]) {
        let Some(spot) = self.tree.find(&self.arena, key) else { return };
        let newest = self.tree.place(spot);
        let was_gone = self.newest(newest, Seqno(u64::MAX)).is_none();
        let mut place = newest;
        while place != NOWHERE {
            let version = self.arena.version(place);
            if version.seqno == seqno {
                self.arena.forget(place);
            }
            place = version.older;
        }
        let is_gone = self.newest(newest, Seqno(u64::MAX)).is_none();
        self.gone += u64::from(is_gone && !was_gone);
    }

    /// The versions that a reader at `seqno` sees, from the start of a range up.
    fn forward(&self, range: &Range, seqno: Seqno, limit: usize) -> Vec<(At, Seqno)> {
        let (start, _) = range.as_slices();
        let (from, excluded) = match start {
            Bound::Included(key) => (Some(key), None),
            Bound::Excluded(key) => (Some(key), Some(key)),
            Bound::Unbounded => (None, None),
        };
        let mut spot = self.tree.seek(&self.arena, from);
        let mut places = Vec::new();
        while places.len() < limit
            && let Some((place, next)) = self.tree.next(spot)
        {
            spot = next;
            let key = self.arena.key(place);
            if !range.is_before_end(key) {
                break;
            }
            if excluded.is_none_or(|excluded| excluded != key) {
                places.extend(self.newest(place, seqno));
            }
        }
        places
    }

    /// The same from the end of a range down.
    fn backward(&self, range: &Range, seqno: Seqno, limit: usize) -> Vec<(At, Seqno)> {
        let (_, end) = range.as_slices();
        let mut spot = match end {
            Bound::Included(key) | Bound::Excluded(key) => self.tree.seek(&self.arena, Some(key)),
            Bound::Unbounded => self.tree.end(),
        };
        if let (Bound::Included(end), Some((place, next))) = (end, self.tree.next(spot))
            && self.arena.key(place) == end
        {
            spot = next;
        }
        let mut places = Vec::new();
        while places.len() < limit
            && let Some((place, previous)) = self.tree.previous(spot)
        {
            spot = previous;
            if !range.is_after_start(self.arena.key(place)) {
                break;
            }
            places.extend(self.newest(place, seqno));
        }
        places
    }

    /// Copies versions out, keys and values into one buffer.
    fn copy(&self, places: &[(At, Seqno)]) -> Vec<Entry> {
        let sizes = places.iter().map(|(place, _)| self.arena.size(*place));
        let mut buffer = BytesMut::with_capacity(sizes.sum());
        let mut taken = |bytes: &[u8]| {
            buffer.extend_from_slice(bytes);
            buffer.split().freeze()
        };
        let entry = |(place, seqno): &(At, Seqno)| {
            let key = taken(self.arena.key(*place));
            let value = match self.arena.value(*place) {
                Value::Delete => None,
                Value::Small(value) => Some(taken(value)),
                Value::Large(value) => Some(value),
            };
            Entry::new(key, *seqno, value)
        };
        places.iter().map(entry).collect()
    }

    fn bytes(&self) -> usize {
        self.arena.bytes() + self.tree.bytes()
    }
}

impl Memtable {
    /// An empty one, whose chunks come from `pool`.
    pub(crate) fn new(pool: &Arc<ChunkPool>) -> Self {
        let arena = Arena::new(Arc::clone(pool));
        let sorted = Sorted { arena, tree: Tree::new(), keys: 0, gone: 0 };
        let bytes = AtomicUsize::new(0);
        let (leaves, last) = (AtomicUsize::new(1), AtomicU64::new(0));
        let deleted = DeletedInMemory::default();
        Self { sorted: RwLock::new(sorted), deleted, bytes, leaves, last }
    }

    /// Bytes it keeps in memory, of the entries and of what finds them; 0 while it is empty.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The last batch that went in.
    pub(crate) fn last(&self) -> Seqno {
        Seqno(self.last.load(Ordering::Relaxed))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last() == Seqno(0)
    }

    /// Number of keys that a flush of it has to write.
    pub(crate) fn keys(&self) -> u64 {
        let sorted = self.sorted.read();
        sorted.keys - sorted.gone
    }

    /// The most that a batch can add to [`Memtable::bytes`].
    pub(crate) fn cost(&self, batch: &SealedBatch) -> usize {
        Self::cost_in(self.leaves.load(Ordering::Relaxed), batch)
    }

    /// The same of an empty memtable.
    pub(crate) fn least_cost(batch: &SealedBatch) -> usize {
        Self::cost_in(1, batch)
    }

    fn cost_in(leaves: usize, batch: &SealedBatch) -> usize {
        let count = batch.count as usize;
        batch.payload().len() + count * RECORD_OVERHEAD + growth_max(leaves, count)
    }

    /// Adds a batch whose number is above all before. Readers must not ask for its number, nor a
    /// later one, before this returns.
    pub(crate) fn insert(&self, batch: &SealedBatch, seqno: Seqno) {
        let mut sorted = self.sorted.write();
        self.deleted.add(batch.range_deletes(seqno));
        let mut held = 0;
        for (key, value) in batch.entries().flatten() {
            held += key.len() + value.map_or(0, <[u8]>::len);
            let value = match (value, batch.shared()) {
                (None, _) => Value::Delete,
                (Some(value), Some(buffer)) if value.len() >= SHARED_VALUE_BYTES => {
                    Value::Large(buffer.slice_ref(value))
                }
                (Some(value), _) => Value::Small(value),
            };
            sorted.insert(seqno, key, value);
            if held >= HOLD_BYTES {
                held = 0;
                RwLockWriteGuard::bump(&mut sorted);
            }
        }
        sorted.arena.pin(batch.shared().map_or(0, Bytes::len));
        self.bytes.store(sorted.bytes(), Ordering::Relaxed);
        self.leaves.store(sorted.tree.leaves(), Ordering::Relaxed);
        self.last.fetch_max(seqno.0, Ordering::Relaxed);
    }

    /// Takes a batch back out that could not be logged; what it covered is visible again. Its
    /// memory is given back with that of all others.
    pub(crate) fn undo(&self, batch: &SealedBatch, seqno: Seqno) {
        let mut sorted = self.sorted.write();
        if batch.ranges > 0 {
            self.deleted.undo(seqno);
        }
        for (key, _) in batch.entries().flatten() {
            sorted.undo(seqno, key);
        }
    }

    /// The version of `key` that a reader at `seqno` sees; `None` inside is a delete.
    pub(crate) fn get(&self, key: &[u8], seqno: Seqno) -> Option<(Seqno, Option<Bytes>)> {
        let sorted = self.sorted.read();
        let spot = sorted.tree.find(&sorted.arena, key)?;
        let (place, seqno) = sorted.newest(sorted.tree.place(spot), seqno)?;
        let value = match sorted.arena.value(place) {
            Value::Delete => None,
            Value::Small(value) => Some(Bytes::copy_from_slice(value)),
            Value::Large(value) => Some(value),
        };
        Some((seqno, value))
    }

    /// Up to `limit` entries of `range` as seen at `seqno`, from the side `direction` starts at.
    pub(crate) fn chunk(
        &self,
        range: &Range,
        direction: Direction,
        seqno: Seqno,
        limit: usize,
    ) -> Vec<Entry> {
        if range.is_empty() {
            return Vec::new();
        }
        let sorted = self.sorted.read();
        let places = match direction {
            Direction::Forward => sorted.forward(range, seqno, limit),
            Direction::Reverse => sorted.backward(range, seqno, limit),
        };
        sorted.copy(&places)
    }
}

#[cfg(test)]
mod tests;

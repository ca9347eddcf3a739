//! The newest writes, sorted, in memory.
//!
//! Decides how versions of a key are kept (all of them: a snapshot or an undone batch needs the
//! older ones) and what they count as. Does not know the log or the tables. Guarded by one
//! readers-writer lock; a batch goes in under one hold of it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use super::batch::{SealedBatch, Seqno};
use super::deleted::DeletedInMemory;
use super::iter::{Direction, Entry, Range};

/// What an entry costs beyond its bytes in the batch: its share of a tree node and two handles.
const ENTRY_OVERHEAD: usize = 120;

#[derive(Debug)]
struct Versions {
    newest: (Seqno, Option<Bytes>),
    /// Oldest first.
    older: Vec<(Seqno, Option<Bytes>)>,
}

impl Versions {
    fn at(&self, seqno: Seqno) -> Option<&(Seqno, Option<Bytes>)> {
        if self.newest.0 <= seqno {
            return Some(&self.newest);
        }
        self.older.iter().rev().find(|version| version.0 <= seqno)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Memtable {
    map: RwLock<BTreeMap<Bytes, Versions>>,
    /// Hides older versions of keys, here and in everything older.
    pub(crate) deleted: DeletedInMemory,
    bytes: AtomicUsize,
    last: AtomicU64,
}

impl Memtable {
    /// Bytes it keeps in memory.
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

    /// What a batch adds to [`Memtable::bytes`].
    pub(crate) fn cost(batch: &SealedBatch) -> usize {
        batch.payload.len() + batch.count as usize * ENTRY_OVERHEAD
    }

    /// Adds a batch whose number is above all before.
    pub(crate) fn insert(&self, batch: &SealedBatch, seqno: Seqno) {
        let mut map = self.map.write();
        self.deleted.add(batch.range_deletes(seqno));
        for (key, value) in batch.entries().flatten() {
            let new = (seqno, value);
            match map.get_mut(&key) {
                // The batch writes the key twice: the later write stands.
                Some(versions) if versions.newest.0 == seqno => versions.newest = new,
                Some(versions) => {
                    let old = std::mem::replace(&mut versions.newest, new);
                    versions.older.push(old);
                }
                None => {
                    map.insert(key, Versions { newest: new, older: Vec::new() });
                }
            }
        }
        self.bytes.fetch_add(Self::cost(batch), Ordering::Relaxed);
        self.last.fetch_max(seqno.0, Ordering::Relaxed);
    }

    /// Takes a batch back out that could not be logged; what it covered is visible again.
    pub(crate) fn undo(&self, batch: &SealedBatch, seqno: Seqno) {
        let mut map = self.map.write();
        if batch.ranges > 0 {
            self.deleted.undo(seqno);
        }
        for (key, _) in batch.entries().flatten() {
            let Some(versions) = map.get_mut(&key) else { continue };
            if versions.newest.0 != seqno {
                versions.older.retain(|version| version.0 != seqno);
                continue;
            }
            match versions.older.pop() {
                Some(older) => versions.newest = older,
                None => {
                    map.remove(&key);
                }
            }
        }
        self.bytes.fetch_sub(Self::cost(batch), Ordering::Relaxed);
    }

    /// The version of `key` that a reader at `seqno` sees; `None` inside is a delete.
    pub(crate) fn get(&self, key: &[u8], seqno: Seqno) -> Option<(Seqno, Option<Bytes>)> {
        self.map.read().get(key)?.at(seqno).cloned()
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
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = range.as_slices();
        let map = self.map.read();
        let all = map.range::<[u8], _>(bounds);
        let entry = |(key, versions): (&Bytes, &Versions)| {
            let (seqno, value) = versions.at(seqno)?.clone();
            Some(Entry { key: key.clone(), seqno, value })
        };
        match direction {
            Direction::Forward => all.filter_map(entry).take(limit).collect(),
            Direction::Reverse => all.rev().filter_map(entry).take(limit).collect(),
        }
    }
}

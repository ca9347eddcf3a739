//! Walks a memtable that may be written to meanwhile.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::Seqno;
use super::entry::{Entry, EntryRef};
use super::iter::{Direction, Range};
use super::memtable::Memtable;

/// How many entries are taken under one hold of the memtable's lock, at first and at most.
const CHUNK_MIN: usize = 4;
const CHUNK_MAX: usize = 64;

/// A place in a memtable. It sees only what was there at `seqno`.
#[derive(Debug)]
pub(crate) struct MemtableCursor {
    memtable: Arc<Memtable>,
    direction: Direction,
    seqno: Seqno,
    chunk: Vec<Entry>,
    at: usize,
    chunk_size: usize,
}

impl MemtableCursor {
    pub(crate) fn new(memtable: Arc<Memtable>, direction: Direction, seqno: Seqno) -> Self {
        Self { memtable, direction, seqno, chunk: Vec::new(), at: 0, chunk_size: CHUNK_MIN }
    }

    /// Goes to the first entry inside `range`, from the side that the direction starts at.
    pub(crate) fn seek(&mut self, range: &Range) {
        self.chunk_size = CHUNK_MIN;
        self.fill(range);
    }

    fn fill(&mut self, range: &Range) {
        self.chunk = self.memtable.chunk(range, self.direction, self.seqno, self.chunk_size);
        self.at = 0;
    }

    /// Goes one entry on.
    pub(crate) fn step(&mut self, range: &Range) {
        self.at += 1;
        if self.at < self.chunk.len() || self.chunk.len() < self.chunk_size {
            return;
        }
        let Some(last) = self.chunk.last() else { return };
        let mut rest = range.clone();
        match self.direction {
            Direction::Forward => rest.start = Bound::Excluded(last.key.clone()),
            Direction::Reverse => rest.end = Bound::Excluded(last.key.clone()),
        }
        self.chunk_size = (self.chunk_size * 2).min(CHUNK_MAX);
        self.fill(&rest);
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.chunk.get(self.at).map(|entry| &*entry.key)
    }

    pub(crate) fn entry(&self) -> Option<EntryRef<'_>> {
        self.chunk.get(self.at).map(Entry::lend)
    }

    /// The value here, to keep: it shares the memory of its batch.
    pub(crate) fn value(&self) -> Bytes {
        self.chunk.get(self.at).map(|entry| entry.value.clone()).unwrap_or_default()
    }
}

//! Ordered reading: ranges, directions, and the merge of several sorted sources into one.
//!
//! Decides which version of a key a range shows (the newest of all sources) and that deletes are
//! left out. The sources are given; whether they are memtables or sstables does not matter here.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::Seqno;
use super::deleted::Covers;
use super::error::Error;
use super::levels::LevelCursor;
use super::memtable::Memtable;

/// Which way a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key up.
    Forward,
    /// From the highest key down.
    Reverse,
}

/// One version of a key; no value is a delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Bytes,
    pub(crate) seqno: Seqno,
    pub(crate) value: Option<Bytes>,
}

/// A range of keys with owned bounds.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) start: Bound<Bytes>,
    pub(crate) end: Bound<Bytes>,
}

impl Range {
    pub(crate) fn new(start: Bound<&[u8]>, end: Bound<&[u8]>) -> Self {
        Self { start: start.map(Bytes::copy_from_slice), end: end.map(Bytes::copy_from_slice) }
    }

    pub(crate) fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    pub(crate) fn as_slices(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.start.as_ref().map(|key| &**key), self.end.as_ref().map(|key| &**key))
    }

    /// Whether no key can be in it. (The standard map panics on some of these.)
    pub(crate) fn is_empty(&self) -> bool {
        match self.as_slices() {
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        }
    }

    pub(crate) fn is_before_end(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
            Bound::Unbounded => true,
        }
    }

    pub(crate) fn is_after_start(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Included(start) => key >= start,
            Bound::Excluded(start) => key > start,
            Bound::Unbounded => true,
        }
    }

    /// Whether any key from `smallest` to `largest` can be in it.
    pub(crate) fn meets(&self, smallest: &[u8], largest: &[u8]) -> bool {
        !self.is_empty() && self.is_after_start(largest) && self.is_before_end(smallest)
    }

    /// Leaves only what lies beyond `key` in `direction`.
    pub(crate) fn advance(&mut self, key: Bytes, direction: Direction) {
        match direction {
            Direction::Forward => self.start = Bound::Excluded(key),
            Direction::Reverse => self.end = Bound::Excluded(key),
        }
    }
}

/// How many entries a memtable hands out under one hold of its lock.
const CHUNK: usize = 32;

/// Walks a memtable that may be written to meanwhile: it sees only what was there at `seqno`.
#[derive(Debug)]
pub(crate) struct MemtableCursor {
    memtable: Arc<Memtable>,
    rest: Range,
    direction: Direction,
    seqno: Seqno,
    chunk: std::vec::IntoIter<Entry>,
    done: bool,
}

impl MemtableCursor {
    pub(crate) fn new(
        memtable: Arc<Memtable>,
        range: Range,
        direction: Direction,
        seqno: Seqno,
    ) -> Self {
        let chunk = Vec::new().into_iter();
        Self { memtable, rest: range, direction, seqno, chunk, done: false }
    }

    pub(crate) fn next(&mut self) -> Option<Entry> {
        if self.chunk.len() == 0 && !self.done {
            let chunk = self.memtable.chunk(&self.rest, self.direction, self.seqno, CHUNK);
            self.done = chunk.len() < CHUNK;
            if let Some(last) = chunk.last() {
                self.rest.advance(last.key.clone(), self.direction);
            }
            self.chunk = chunk.into_iter();
        }
        self.chunk.next()
    }
}

#[derive(Debug)]
pub(crate) enum Source {
    Memtable(MemtableCursor),
    Level(LevelCursor),
}

impl Source {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        match self {
            Self::Memtable(cursor) => Ok(cursor.next()),
            Self::Level(cursor) => cursor.next(),
        }
    }
}

#[derive(Debug)]
struct Head {
    entry: Entry,
    source: usize,
    direction: Direction,
}

impl Ord for Head {
    /// The heap gives the greatest first: the next key in the direction, its newest version first.
    fn cmp(&self, other: &Self) -> Ordering {
        let keys = self.entry.key.cmp(&other.entry.key);
        let keys = match self.direction {
            Direction::Forward => keys.reverse(),
            Direction::Reverse => keys,
        };
        keys.then(self.entry.seqno.cmp(&other.entry.seqno))
            .then_with(|| other.source.cmp(&self.source))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

/// Sorted sources as one: keys in order, of one key the newest version first.
#[derive(Debug)]
pub(crate) struct Merge {
    sources: Vec<Source>,
    heap: BinaryHeap<Head>,
    direction: Direction,
    started: bool,
}

impl Merge {
    pub(crate) fn new(sources: Vec<Source>, direction: Direction) -> Self {
        Self { sources, heap: BinaryHeap::new(), direction, started: false }
    }

    fn refill(&mut self, source: usize) -> Result<(), Error> {
        let Some(cursor) = self.sources.get_mut(source) else { return Ok(()) };
        if let Some(entry) = cursor.next()? {
            self.heap.push(Head { entry, source, direction: self.direction });
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        Ok(self.next_with_source()?.map(|(entry, _)| entry))
    }

    /// The next entry and the index of the source it comes from.
    pub(crate) fn next_with_source(&mut self) -> Result<Option<(Entry, usize)>, Error> {
        if !self.started {
            self.started = true;
            for source in 0..self.sources.len() {
                self.refill(source)?;
            }
        }
        let Some(Head { entry, source, .. }) = self.heap.pop() else { return Ok(None) };
        self.refill(source)?;
        Ok(Some((entry, source)))
    }
}

/// The pairs of a range, in order, as they were when the iterator was made. After an error it
/// ends: what lies beyond damage cannot be told from what the damage hides.
#[derive(Debug)]
pub struct Iter {
    merge: Merge,
    covers: Covers,
    failed: bool,
    refused: Option<Error>,
    last: Option<Bytes>,
}

impl Iter {
    pub(crate) fn new(sources: Vec<Source>, covers: Covers, direction: Direction) -> Self {
        let merge = Merge::new(sources, direction);
        Self { merge, covers, failed: false, refused: None, last: None }
    }

    /// One that yields an error and ends.
    pub(crate) fn refused(error: Error, direction: Direction) -> Self {
        Self { refused: Some(error), ..Self::new(Vec::new(), Covers::default(), direction) }
    }

    fn advance(&mut self) -> Result<Option<(Bytes, Bytes, Seqno)>, Error> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        while let Some(entry) = self.merge.next()? {
            if self.last.as_ref() == Some(&entry.key) {
                continue;
            }
            self.last = Some(entry.key.clone());
            if let Some(value) = entry.value
                && !self.covers.hide(&entry.key, entry.seqno)
            {
                return Ok(Some((entry.key, value, entry.seqno)));
            }
        }
        Ok(None)
    }
}

impl Iterator for Iter {
    /// Key, value and the number of the batch that wrote it.
    type Item = Result<(Bytes, Bytes, Seqno), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

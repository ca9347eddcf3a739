//! Several sorted sources as one.
//!
//! Decides the order: by key, of one key the newest version first. The sources are given; whether
//! they are memtables or tables does not matter here. A tree of losers (Knuth, volume 3, 5.4.1)
//! compares as often as there are levels in it: not at all for one source. Entries are lent, so a
//! step costs no allocation.

use std::sync::Arc;

use bytes::Bytes;

use super::deleted::Covers;
use super::entry::{Entry, EntryRef};
use super::error::Error;
use super::iter::{Direction, Range};
use super::levels::LevelCursor;
use super::memtable_cursor::MemtableCursor;
use super::sstable::{ReadMode, Table};

/// Something sorted, with a place in it.
#[derive(Debug)]
pub(crate) enum Source {
    Memtable(MemtableCursor),
    Level(Box<LevelCursor>),
}

impl Source {
    /// Tables that are disjoint and in key order.
    pub(crate) fn run(tables: &[Arc<Table>], direction: Direction, mode: ReadMode) -> Self {
        Self::Level(Box::new(LevelCursor::new(tables.into(), direction, mode)))
    }

    /// The same, passing over what cannot be read where these hide all that can stand there.
    pub(crate) fn heeding(self, covers: &Arc<Covers>) -> Self {
        match self {
            Self::Memtable(_) => self,
            Self::Level(cursor) => Self::Level(Box::new(cursor.heeding(covers))),
        }
    }

    fn seek(&mut self, range: &Range) -> Result<(), Error> {
        match self {
            Self::Memtable(cursor) => {
                cursor.seek(range);
                Ok(())
            }
            Self::Level(cursor) => cursor.seek(range),
        }
    }

    fn step(&mut self, range: &Range) -> Result<(), Error> {
        match self {
            Self::Memtable(cursor) => {
                cursor.step(range);
                Ok(())
            }
            Self::Level(cursor) => cursor.step(range),
        }
    }

    fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Memtable(cursor) => cursor.key(),
            Self::Level(cursor) => cursor.key(),
        }
    }

    fn entry(&self) -> Option<EntryRef<'_>> {
        match self {
            Self::Memtable(cursor) => cursor.entry(),
            Self::Level(cursor) => cursor.entry(),
        }
    }

    /// The table it is in, if it is in one.
    fn table(&self) -> Option<&Arc<Table>> {
        match self {
            Self::Memtable(_) => None,
            Self::Level(cursor) => cursor.table(),
        }
    }

    fn value(&self) -> Bytes {
        match self {
            Self::Memtable(cursor) => cursor.value(),
            Self::Level(cursor) => cursor.value(),
        }
    }
}

/// Sorted sources as one: keys in order, of one key the newest version first.
#[derive(Debug)]
pub(crate) struct Merge {
    /// Of two that hold the same version, the one that comes first is shown first.
    sources: Vec<Source>,
    range: Range,
    direction: Direction,
    /// At 0 the source whose turn it is, then for each inner node of the tree the one that lost
    /// there. The leaf of source `i` is node `i + sources.len()`.
    tree: Vec<usize>,
    /// Whether the entry of a source has lost to a newer version of its key.
    hidden: Vec<bool>,
    started: bool,
    keys: KeyArena,
}

impl Merge {
    /// Everything inside `range`, which bounds what is read of the sources.
    pub(crate) fn new(sources: Vec<Source>, range: Range, direction: Direction) -> Self {
        let (tree, hidden) = (vec![0; sources.len()], vec![false; sources.len()]);
        let keys = KeyArena::default();
        Self { sources, range, direction, tree, hidden, started: false, keys }
    }

    /// Goes to the next entry, at first to the first. Returns whether there is one.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says: the merge must not be used further.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        if !self.started {
            return self.restart();
        }
        let Some(winner) = self.tree.first().copied() else { return Ok(false) };
        if let Some(source) = self.sources.get_mut(winner) {
            source.step(&self.range)?;
        }
        self.play(winner);
        Ok(self.is_inside())
    }

    /// Bounds the merge anew: the next step goes to the first entry inside `range`.
    pub(crate) fn aim(&mut self, range: Range) {
        self.range = range;
        self.started = false;
    }

    fn restart(&mut self) -> Result<bool, Error> {
        self.started = true;
        for source in &mut self.sources {
            source.seek(&self.range)?;
        }
        self.hidden.fill(false);
        let nobody = self.sources.len();
        self.tree.fill(nobody);
        for source in 0..self.sources.len() {
            self.enter(source);
        }
        Ok(self.is_inside())
    }

    /// Whether the entry whose turn it is is there and not past the range.
    fn is_inside(&self) -> bool {
        self.key().is_some_and(|key| match self.direction {
            Direction::Forward => self.range.is_before_end(key),
            Direction::Reverse => self.range.is_after_start(key),
        })
    }

    /// Lets a source play up to the first node where nobody has played yet.
    fn enter(&mut self, source: usize) {
        let (count, mut winner) = (self.sources.len(), source);
        let mut node = (source + count) / 2;
        while node > 0 {
            let waiting = self.tree.get(node).copied().unwrap_or(count);
            if waiting == count {
                self.set(node, winner);
                return;
            }
            if self.beats(waiting, winner) {
                self.set(node, winner);
                winner = waiting;
            }
            node /= 2;
        }
        self.set(0, winner);
    }

    /// Lets a source that has moved play up to the root.
    fn play(&mut self, source: usize) {
        self.set_hidden(source, false);
        let mut winner = source;
        let mut node = (source + self.sources.len()) / 2;
        while node > 0 {
            let waiting = self.tree.get(node).copied().unwrap_or(winner);
            if self.beats(waiting, winner) {
                self.set(node, winner);
                winner = waiting;
            }
            node /= 2;
        }
        self.set(0, winner);
    }

    fn set(&mut self, node: usize, source: usize) {
        if let Some(slot) = self.tree.get_mut(node) {
            *slot = source;
        }
    }

    fn set_hidden(&mut self, source: usize, hidden: bool) {
        if let Some(slot) = self.hidden.get_mut(source) {
            *slot = hidden;
        }
    }

    /// Whether one source comes before another. Of one key, the loser is hidden from then on: whoever
    /// is not shown first has lost to a newer version of its key somewhere in the tree.
    fn beats(&mut self, one: usize, other: usize) -> bool {
        let key = |index: usize| self.sources.get(index).and_then(Source::key);
        let order = match (key(one), key(other)) {
            (Some(one), Some(other)) if self.direction == Direction::Forward => one.cmp(other),
            (Some(one), Some(other)) => other.cmp(one),
            (Some(_), None) => return true,
            (None, _) => return false,
        };
        let seqno = |index: usize| {
            let entry = self.sources.get(index).and_then(Source::entry);
            entry.map(|entry| entry.seqno)
        };
        if order.is_eq() {
            let newer = match crate::mutant!("storage-compaction-keeps-older") {
                true => seqno(other).cmp(&seqno(one)),
                false => seqno(one).cmp(&seqno(other)),
            };
            let first = newer.then_with(|| other.cmp(&one)).is_gt();
            self.set_hidden(if first { other } else { one }, true);
            return first;
        }
        order.is_lt()
    }

    fn winner(&self) -> Option<&Source> {
        self.sources.get(self.tree.first().copied()?)
    }

    fn key(&self) -> Option<&[u8]> {
        self.winner().and_then(Source::key)
    }

    /// The entry here, after [`Merge::advance`] has said that there is one.
    pub(crate) fn entry(&self) -> Option<EntryRef<'_>> {
        self.winner().and_then(Source::entry)
    }

    /// Whether a newer version of the key of the entry here has been shown.
    pub(crate) fn is_superseded(&self) -> bool {
        let winner = self.tree.first().and_then(|winner| self.hidden.get(*winner));
        winner.copied().unwrap_or(false)
    }

    /// The table that the entry here comes from; none if that is a memtable.
    pub(crate) fn table(&self) -> Option<&Arc<Table>> {
        self.winner().and_then(Source::table)
    }

    /// The number of the source that the entry here comes from.
    pub(crate) fn source(&self) -> usize {
        self.tree.first().copied().unwrap_or(0)
    }

    /// The key here, to keep. It shares its memory with those of its neighbours.
    pub(crate) fn shared_key(&mut self) -> Bytes {
        let winner = self.tree.first().and_then(|winner| self.sources.get(*winner));
        self.keys.keep(winner.and_then(Source::key).unwrap_or_default())
    }

    /// The value here, to keep. It shares the memory of its block or batch.
    pub(crate) fn value(&self) -> Bytes {
        self.winner().map(Source::value).unwrap_or_default()
    }

    /// The next entry, to keep.
    ///
    /// # Errors
    /// As for [`Merge::advance`].
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        if !self.advance()? {
            return Ok(None);
        }
        let key = self.shared_key();
        let Some(EntryRef { seqno, kind, .. }) = self.entry() else { return Ok(None) };
        Ok(Some(Entry { key, seqno, kind, value: self.value() }))
    }
}

/// Memory for keys that are handed out: one allocation serves many.
#[derive(Debug, Default)]
struct KeyArena {
    buffer: bytes::BytesMut,
    chunk: usize,
}

/// The first chunk is small, since a range may be read for one key.
const CHUNK_MIN: usize = 256;
const CHUNK_MAX: usize = 4 << 10;

impl KeyArena {
    fn keep(&mut self, key: &[u8]) -> Bytes {
        if self.buffer.capacity() < key.len() {
            self.chunk = (self.chunk * 2).clamp(CHUNK_MIN, CHUNK_MAX);
            self.buffer = bytes::BytesMut::with_capacity(self.chunk.max(key.len()));
        }
        self.buffer.extend_from_slice(key);
        self.buffer.split().freeze()
    }
}

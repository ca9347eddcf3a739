//! Ordered reading: ranges, directions, and what of a merge a reader sees.
//!
//! Decides which version of a key a range shows (the newest of all sources) and that deletes are
//! left out.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{Kind, Seqno};
use super::blob::Pointer;
use super::deleted::Covers;
use super::error::Error;
use super::key_range::KeyRange;
use super::merge::{Merge, Source};
use super::sstable::ReadMode;

/// Which way a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key up.
    Forward,
    /// From the highest key down.
    Reverse,
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

    /// All keys that begin with `prefix`.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        let range = KeyRange::prefix(prefix);
        let end = range.end().map_or(Bound::Unbounded, Bound::Excluded);
        Self::new(Bound::Included(range.start()), end)
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

    /// What of `keys` can be in it.
    pub(crate) fn part_of(&self, keys: KeyRange) -> KeyRange {
        // The lowest key above another has a zero behind it.
        let above = |key: &Bytes| Bytes::from([key, &[0][..]].concat());
        let start = match &self.start {
            Bound::Included(start) => start.clone(),
            Bound::Excluded(start) => above(start),
            Bound::Unbounded => Bytes::new(),
        };
        let end = match &self.end {
            Bound::Included(end) => Some(above(end)),
            Bound::Excluded(end) => Some(end.clone()),
            Bound::Unbounded => None,
        };
        keys.meeting(&KeyRange::new(start, end))
    }

    /// Whether any key from `smallest` to `largest` can be in it.
    pub(crate) fn meets(&self, smallest: &[u8], largest: &[u8]) -> bool {
        !self.is_empty() && self.is_after_start(largest) && self.is_before_end(smallest)
    }
}

/// A pair as an iterator lends it: key, value, and the number of the batch that wrote it.
pub type LentPair<'a> = (&'a [u8], &'a [u8], Seqno);

/// The pairs of a range, in order, as they were when the iterator was made, whatever is written,
/// flushed or merged meanwhile. After an error it ends, until the next [`Iter::seek`]: what lies
/// beyond damage cannot be told from what the damage hides.
///
/// As an [`Iterator`] it gives keys and values to keep: values share the memory of the block they
/// were read from, and keys that of their neighbours, so copy what is kept for long.
/// [`Iter::next_lent`] gives the same without counting references.
///
/// ```
/// # use roundtable::storage::{Batch, Direction, Engine, MemoryVfs, Options};
/// # let disk = std::sync::Arc::new(MemoryVfs::default());
/// # let (engine, _) = Engine::open(disk, "data".as_ref(), Options::default())?;
/// let mut batch = Batch::new();
/// for key in ["fruit/apple", "fruit/pear", "stone/flint"] {
///     batch.put(key.as_bytes(), b"1");
/// }
/// engine.write(batch)?;
/// let mut fruit = engine.prefix(b"fruit/", Direction::Forward);
/// assert_eq!(&fruit.next().expect("there are two")?.0[..], b"fruit/apple");
/// // Go on from a key; the bounds stay.
/// fruit.seek(b"fruit/m");
/// let (key, _value, _seqno) = fruit.next_lent()?.expect("one is left");
/// assert_eq!(key, b"fruit/pear");
/// assert!(fruit.next_lent()?.is_none());
/// # Ok::<(), roundtable::storage::Error>(())
/// ```
#[derive(Debug)]
pub struct Iter {
    merge: Merge,
    covers: Arc<Covers>,
    bounds: Range,
    direction: Direction,
    state: State,
    refused: Option<Error>,
    /// The value here, if it stands in a blob file and was asked for.
    elsewhere: Option<Bytes>,
}

/// Where an iterator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next step goes to the first pair of the merge's range.
    Seeking,
    Running,
    Ended,
}

impl Iter {
    pub(crate) fn new(
        sources: Vec<Source>,
        bounds: Range,
        covers: Arc<Covers>,
        direction: Direction,
    ) -> Self {
        let merge = Merge::new(sources, bounds.clone(), direction);
        Self {
            merge,
            covers,
            bounds,
            direction,
            state: State::Seeking,
            refused: None,
            elsewhere: None,
        }
    }

    /// One that yields an error and ends.
    pub(crate) fn refused(error: Error, direction: Direction) -> Self {
        Self {
            refused: Some(error),
            ..Self::new(Vec::new(), Range::all(), Arc::default(), direction)
        }
    }

    /// Goes on from `key`: the next pair is the first one at or beyond it in the direction of the
    /// iterator, inside its bounds. May go back as well as on. Reads nothing yet.
    pub fn seek(&mut self, key: &[u8]) {
        let mut range = self.bounds.clone();
        match self.direction {
            Direction::Forward if range.is_after_start(key) => {
                range.start = Bound::Included(Bytes::copy_from_slice(key));
            }
            Direction::Reverse if range.is_before_end(key) => {
                range.end = Bound::Included(Bytes::copy_from_slice(key));
            }
            Direction::Forward | Direction::Reverse => {}
        }
        self.merge.aim(range);
        self.state = State::Seeking;
    }

    /// The next pair, lent until the iterator moves on; `None` at the end.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says, `Closed`: the iterator has ended.
    pub fn next_lent(&mut self) -> Result<Option<LentPair<'_>>, Error> {
        if !self.advance()? {
            return Ok(None);
        }
        self.fetch()?;
        let elsewhere = self.elsewhere.as_deref();
        let pair = self
            .merge
            .entry()
            .map(|entry| (entry.key, elsewhere.unwrap_or(entry.value), entry.seqno));
        Ok(pair)
    }

    /// The next key and the number of the batch that wrote it, lent until the iterator moves on;
    /// `None` at the end. Values that stand in blob files are not read.
    ///
    /// # Errors
    /// As for [`Iter::next_lent`].
    pub fn next_key(&mut self) -> Result<Option<(&[u8], Seqno)>, Error> {
        if !self.advance()? {
            return Ok(None);
        }
        Ok(self.merge.entry().map(|entry| (entry.key, entry.seqno)))
    }

    /// The next key, its value, and the number of the batch that wrote it, lent until the iterator moves
    /// on, and whether the value is all of it; `None` at the end. Values that stand in blob files are not
    /// read: of them there are the first 64 bytes.
    ///
    /// # Errors
    /// As for [`Iter::next_lent`].
    pub fn next_head(&mut self) -> Result<Option<(LentPair<'_>, bool)>, Error> {
        if !self.advance()? {
            return Ok(None);
        }
        let pointer = self.merge.entry().filter(|entry| entry.kind == Kind::Pointer);
        // One that is damaged is told as such.
        let is_damaged = pointer.is_some_and(|entry| Pointer::decode(entry.value).is_none());
        if is_damaged {
            self.fetch()?;
        }
        let Some(entry) = self.merge.entry() else { return Ok(None) };
        let pointer = (entry.kind == Kind::Pointer).then(|| Pointer::decode(entry.value)).flatten();
        Ok(Some(match pointer {
            Some(pointer) => ((entry.key, pointer.head, entry.seqno), false),
            None => ((entry.key, entry.value, entry.seqno), true),
        }))
    }

    /// Reads the value here if it stands in a blob file.
    fn fetch(&mut self) -> Result<(), Error> {
        let entry = self.merge.entry().filter(|entry| entry.kind == Kind::Pointer);
        let Some((entry, table)) = entry.zip(self.merge.table()) else { return Ok(()) };
        let value = table.value_of(entry.key, entry.value, ReadMode::Cached);
        self.elsewhere = Some(value.inspect_err(|_| self.state = State::Ended)?);
        Ok(())
    }

    /// Goes to the next pair. Returns whether there is one.
    fn advance(&mut self) -> Result<bool, Error> {
        if let Some(error) = self.refused.clone() {
            self.refused = None;
            self.state = State::Ended;
            return Err(error);
        }
        self.elsewhere = None;
        if self.state == State::Ended {
            return Ok(false);
        }
        self.state = State::Running;
        let found = self.find();
        if !matches!(found, Ok(true)) {
            self.state = State::Ended;
        }
        found
    }

    /// Passes over what is deleted and overwritten.
    fn find(&mut self) -> Result<bool, Error> {
        while self.merge.advance()? {
            if self.merge.is_superseded() {
                continue;
            }
            let Some(entry) = self.merge.entry() else { return Ok(false) };
            if entry.kind != Kind::Delete && !self.covers.hide(entry.key, entry.seqno) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Iterator for Iter {
    /// Key, value and the number of the batch that wrote it.
    type Item = Result<(Bytes, Bytes, Seqno), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.advance() {
            Ok(true) => {
                if let Err(error) = self.fetch() {
                    return Some(Err(error));
                }
                let seqno = self.merge.entry()?.seqno;
                let value = self.elsewhere.take().unwrap_or_else(|| self.merge.value());
                Some(Ok((self.merge.shared_key(), value, seqno)))
            }
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

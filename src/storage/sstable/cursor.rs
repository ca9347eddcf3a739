//! Walks a table block by block, in either direction.

use core::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::block::Block;
use super::block_cursor::BlockCursor;
use super::doubt::keys_at;
use super::index::{Index, Span, span_at};
use super::lent::Guide;
use super::{ReadMode, Table};
use crate::storage::deleted::Covers;
use crate::storage::entry::EntryRef;
use crate::storage::error::Error;
use crate::storage::iter::{Direction, Range};
use crate::storage::key_range::KeyRange;

/// A place in a table. Holds one block, one of the index if that has two levels, and the index if
/// the table does not.
#[derive(Debug)]
pub(crate) struct TableCursor {
    table: Arc<Table>,
    direction: Direction,
    mode: ReadMode,
    index: Option<Arc<Index>>,
    /// Number of an entry of the upper index.
    upper: usize,
    /// The block of the lower index that it names, if there are two levels.
    lower: Option<Block>,
    /// Number of an entry of `lower`.
    at: usize,
    /// Where the cursor is; `None` before the first seek and past the last entry.
    block: Option<BlockCursor>,
    ahead: Ahead,
    /// What is deleted: a block that cannot be read and holds nothing else is passed over.
    covers: Option<Arc<Covers>>,
}

impl TableCursor {
    pub(crate) fn new(table: Arc<Table>, direction: Direction, mode: ReadMode) -> Self {
        let ahead = Ahead::new(mode);
        let (index, lower, block) = (None, None, None);
        let covers = None;
        Self { table, direction, mode, index, upper: 0, lower, at: 0, block, ahead, covers }
    }

    /// The same, passing over blocks that cannot be read where these hide all that can stand in them.
    pub(crate) fn heeding(self, covers: Option<Arc<Covers>>) -> Self {
        Self { covers, ..self }
    }

    /// Goes to the first entry inside `range`, from the side that the direction starts at.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(crate) fn seek(&mut self, range: &Range) -> Result<(), Error> {
        self.block = None;
        let table = Arc::clone(&self.table);
        if !range.meets(&table.meta.smallest, &table.meta.largest) {
            return Ok(());
        }
        let guide = match table.guide(&mut self.index, self.mode) {
            Ok(guide) => guide,
            // Which keys stand in which block is not known.
            Err(error) => return self.pass(table.meta.keys(), range, error),
        };
        let from = match self.direction {
            Direction::Forward => &range.start,
            Direction::Reverse => &range.end,
        };
        let last = guide.index.spans().len().saturating_sub(1);
        match from {
            Bound::Included(key) | Bound::Excluded(key) => {
                let number = guide.index.find(key);
                let number = number.ok_or_else(|| table.undecodable(guide.footer.index))?;
                self.upper = number.min(last);
                self.enter(&guide, Some(key), range)?;
            }
            Bound::Unbounded => {
                self.upper = if self.direction == Direction::Forward { 0 } else { last };
                self.enter(&guide, None, range)?;
            }
        }
        // The search has ended at the key of the bound or beside it.
        while self.key().is_some_and(|key| match self.direction {
            Direction::Forward => !range.is_after_start(key),
            Direction::Reverse => !range.is_before_end(key),
        }) {
            self.step(range)?;
        }
        Ok(())
    }

    /// Goes one entry on. Past the far end of `range` it may end early.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(crate) fn step(&mut self, range: &Range) -> Result<(), Error> {
        let Some(block) = &mut self.block else { return Ok(()) };
        match block.step(self.direction) {
            Some(true) => Ok(()),
            Some(false) => self.next_block(range),
            None => {
                let table = Arc::clone(&self.table);
                let guide = table.guide(&mut self.index, self.mode)?;
                let span = self.span(&guide).unwrap_or(guide.footer.index);
                Err(table.undecodable(span))
            }
        }
    }

    fn next_block(&mut self, range: &Range) -> Result<(), Error> {
        let table = Arc::clone(&self.table);
        let guide = table.guide(&mut self.index, self.mode)?;
        if self.is_last_inside(&guide, range) || !self.move_on(&guide, range)? {
            self.block = None;
            return Ok(());
        }
        self.enter_readable(&guide, None, range)
    }

    /// Goes to where `key` must be, or to the beginning in the direction, in the index block at `upper`
    /// or the first one behind it that can be read.
    fn enter(&mut self, guide: &Guide<'_>, key: Option<&[u8]>, range: &Range) -> Result<(), Error> {
        match self.enter_readable_upper(guide, key, range)? {
            true => self.enter_readable(guide, key, range),
            false => Ok(()),
        }
    }

    /// Enters the data block that it stands before, or the first one behind it that can be read.
    fn enter_readable(
        &mut self,
        guide: &Guide<'_>,
        key: Option<&[u8]>,
        range: &Range,
    ) -> Result<(), Error> {
        let mut entered = self.enter_block(guide, key);
        while let Err(error) = entered {
            let block = self.lower.as_ref().unwrap_or_else(|| guide.index.block());
            let above = self.lower.is_some().then_some(self.upper);
            let keys = keys_at(guide, (block, self.at_number()), above, &self.table.meta);
            self.pass(keys.unwrap_or_else(|| self.table.meta.keys()), range, error)?;
            if !self.move_on(guide, range)? {
                self.block = None;
                return Ok(());
            }
            entered = self.enter_block(guide, None);
        }
        entered
    }

    /// Loads the lower index at `upper`, or the first one behind it that can be read. Returns whether
    /// there is one.
    fn enter_readable_upper(
        &mut self,
        guide: &Guide<'_>,
        key: Option<&[u8]>,
        range: &Range,
    ) -> Result<bool, Error> {
        let mut entered = self.enter_upper(guide, key);
        while let Err(error) = entered {
            let keys = keys_at(guide, (guide.index.block(), self.upper), None, &self.table.meta);
            self.pass(keys.unwrap_or_else(|| self.table.meta.keys()), range, error)?;
            let Some(upper) = self.beside(self.upper, guide.index.spans().len()) else {
                self.block = None;
                return Ok(false);
            };
            self.upper = upper;
            entered = self.enter_upper(guide, None);
        }
        Ok(true)
    }

    /// Whether what cannot be read is no loss to one who reads `range`: what lies outside of it would not be
    /// shown anyway, be it lost or not.
    ///
    /// # Errors
    /// The one given, if it is one.
    fn pass(&self, keys: KeyRange, range: &Range, error: Error) -> Result<(), Error> {
        let covers = self.covers.as_ref();
        let keys = match crate::mutant!("storage-neighbour-in-doubt") {
            true => keys,
            false => range.part_of(keys),
        };
        match covers.is_some_and(|covers| covers.passes(keys, self.table.meta.last)) {
            true => Ok(()),
            false => Err(error),
        }
    }

    fn beside(&self, number: usize, count: usize) -> Option<usize> {
        match self.direction {
            Direction::Forward => Some(number + 1).filter(|number| *number < count),
            Direction::Reverse => number.checked_sub(1),
        }
    }

    /// Whether all blocks further on are past the range, judging by the separators.
    fn is_last_inside(&self, guide: &Guide<'_>, range: &Range) -> bool {
        let block = self.lower.as_ref().unwrap_or_else(|| guide.index.block());
        let number = match self.direction {
            Direction::Forward => Some(self.at_number()),
            Direction::Reverse => self.at_number().checked_sub(1),
        };
        let compare = |key| number.and_then(|number| block.compare_at(number, key));
        match (self.direction, &range.start, &range.end) {
            (Direction::Forward, _, Bound::Included(end) | Bound::Excluded(end)) => {
                matches!(compare(end), Some(Ordering::Equal | Ordering::Greater))
            }
            (Direction::Reverse, Bound::Included(start) | Bound::Excluded(start), _) => {
                compare(start) == Some(Ordering::Less)
            }
            (Direction::Forward, ..) | (Direction::Reverse, ..) => false,
        }
    }

    /// The number of the current data block in the block of the index that names it.
    fn at_number(&self) -> usize {
        if self.lower.is_some() { self.at } else { self.upper }
    }

    /// Moves to the next data block in the direction, if there is one.
    fn move_on(&mut self, guide: &Guide<'_>, range: &Range) -> Result<bool, Error> {
        if let Some(lower) = &self.lower
            && let Some(at) = self.beside(self.at, lower.count())
        {
            self.at = at;
            return Ok(true);
        }
        let upper = self.beside(self.upper, guide.index.spans().len());
        let Some(upper) = upper else { return Ok(false) };
        self.upper = upper;
        self.enter_readable_upper(guide, None, range)
    }

    /// Loads the lower index at `upper`, if there are two levels, and goes to where `key` must be,
    /// or to its beginning in the direction.
    fn enter_upper(&mut self, guide: &Guide<'_>, key: Option<&[u8]>) -> Result<(), Error> {
        if !guide.footer.two_levels {
            return Ok(());
        }
        let footer = guide.footer.index;
        let span = guide.index.spans().get(self.upper).copied().unwrap_or(footer);
        let lower = self.table.block(span, self.mode)?;
        let last = lower.count().checked_sub(1).ok_or_else(|| self.table.undecodable(span))?;
        self.at = match (key, self.direction) {
            (Some(key), _) => {
                let number = lower.lower_bound(key);
                number.ok_or_else(|| self.table.undecodable(span))?.min(last)
            }
            (None, Direction::Forward) => 0,
            (None, Direction::Reverse) => last,
        };
        self.lower = Some(lower);
        Ok(())
    }

    fn span(&self, guide: &Guide<'_>) -> Option<Span> {
        match &self.lower {
            Some(lower) => span_at(lower, self.at),
            None => guide.index.spans().get(self.upper).copied(),
        }
    }

    /// Loads the current data block and goes to the entry of `key` or the one before or behind it,
    /// or to its beginning in the direction.
    fn enter_block(&mut self, guide: &Guide<'_>, key: Option<&[u8]>) -> Result<(), Error> {
        let span = self.span(guide).ok_or_else(|| self.table.undecodable(guide.footer.index));
        let span = span?;
        let block = self.read(guide, span)?;
        let bad = || self.table.undecodable(span);
        let last = block.count().checked_sub(1).ok_or_else(bad)?;
        let index = match (key, self.direction) {
            (Some(key), _) => block.lower_bound(key).ok_or_else(bad)?.min(last),
            (None, Direction::Forward) => 0,
            (None, Direction::Reverse) => last,
        };
        // A block that is sound but not where it belongs would break the order.
        let meta = &self.table.meta;
        let inside = block.compare_at(0, &meta.smallest).is_some_and(Ordering::is_ge)
            && block.compare_at(last, &meta.largest).is_some_and(Ordering::is_le);
        let before = self.block.take().map(BlockCursor::into_key).filter(|_| key.is_none());
        let follows = before.as_ref().is_none_or(|before| {
            let order = block.compare_at(index, before);
            order
                == Some(match self.direction {
                    Direction::Forward => Ordering::Greater,
                    Direction::Reverse => Ordering::Less,
                })
        });
        if !inside || !follows {
            return Err(bad());
        }
        let cursor = BlockCursor::new(block, index, before.unwrap_or_default());
        self.block = Some(cursor.ok_or_else(bad)?);
        Ok(())
    }

    fn read(&mut self, guide: &Guide<'_>, span: Span) -> Result<Block, Error> {
        if let Some(block) = self.table.cached(span, self.mode) {
            self.ahead.rest();
            return Ok(block);
        }
        if self.direction == Direction::Reverse {
            return self.table.block(span, self.mode);
        }
        let stored = self.ahead.read(&self.table, guide.footer.filter.offset, span)?;
        self.table.keep(span, stored, self.mode)
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.block.as_ref().map(BlockCursor::key)
    }

    /// The table it walks.
    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub(crate) fn entry(&self) -> Option<EntryRef<'_>> {
        let entry = self.block.as_ref().map(BlockCursor::entry)?;
        Some(EntryRef { seqno: self.table.meta.seqno(entry.seqno), ..entry })
    }

    /// The value here, to keep: it shares the memory of its block.
    pub(crate) fn value(&self) -> Bytes {
        self.block.as_ref().map(BlockCursor::value).unwrap_or_default()
    }
}

/// Most bytes that are read at once for blocks to come.
const AHEAD_BYTES_MAX: usize = 256 << 10;
/// The same for a compaction, which reads everything.
const PASSING_BYTES: usize = 1 << 20;

/// Reads ahead for a cursor that goes forward: the more blocks in a row were not in memory, the more.
#[derive(Debug)]
struct Ahead {
    mode: ReadMode,
    window: usize,
    start: u64,
    bytes: Bytes,
}

impl Ahead {
    fn new(mode: ReadMode) -> Self {
        // One who reads everything once need not find out that it does.
        let window = if mode == ReadMode::Cached { 0 } else { PASSING_BYTES };
        Self { mode, window, start: 0, bytes: Bytes::new() }
    }

    /// A block was in memory: the blocks in a row have ended.
    fn rest(&mut self) {
        if self.mode == ReadMode::Cached {
            (self.window, self.bytes) = (0, Bytes::new());
        }
    }

    /// The stored bytes of a block. Nothing from `end` on is read for later.
    fn read(&mut self, table: &Table, end: u64, span: Span) -> Result<Bytes, Error> {
        let inside = span.offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        if let Some(at) = inside
            && let Some(stop) = at.checked_add(span.length).filter(|stop| *stop <= self.bytes.len())
        {
            return Ok(self.own(self.bytes.slice(at..stop)));
        }
        let room = usize::try_from(end.saturating_sub(span.offset)).unwrap_or(0);
        if span.length > room {
            return Err(table.undecodable(span));
        }
        let length = self.window.clamp(span.length, room);
        let bytes = table.parts.read(Span { offset: span.offset, length })?;
        if self.mode == ReadMode::Cached {
            self.window = (self.window.max(span.length) * 2).min(AHEAD_BYTES_MAX);
        }
        (self.start, self.bytes) = (span.offset, bytes);
        Ok(self.own(self.bytes.slice(..span.length)))
    }

    /// A block that goes into the cache must not hold its neighbours in memory.
    fn own(&self, stored: Bytes) -> Bytes {
        match self.mode == ReadMode::Cached && stored.len() < self.bytes.len() {
            true => Bytes::copy_from_slice(&stored),
            false => stored,
        }
    }
}

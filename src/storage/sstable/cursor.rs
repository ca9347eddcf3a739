//! Walks a table block by block, in either direction.

use std::ops::Bound;
use std::sync::Arc;

use super::{ReadMode, Table};
use crate::storage::error::Error;
use crate::storage::iter::{Direction, Entry, Range};

/// The entries of a table inside a range. Holds one decoded block.
#[derive(Debug)]
pub(crate) struct TableCursor {
    table: Arc<Table>,
    range: Range,
    direction: Direction,
    mode: ReadMode,
    begun: bool,
    /// The block to read next; `None` when there is none left.
    block: Option<usize>,
    entries: std::vec::IntoIter<Entry>,
}

impl TableCursor {
    pub(crate) fn new(
        table: Arc<Table>,
        range: Range,
        direction: Direction,
        mode: ReadMode,
    ) -> Self {
        let last = table.blocks().checked_sub(1);
        let block = match (direction, &range.start, &range.end) {
            (Direction::Forward, Bound::Included(key) | Bound::Excluded(key), _) => {
                Some(table.block_for(key))
            }
            (Direction::Forward, Bound::Unbounded, _) => Some(0),
            (Direction::Reverse, _, Bound::Included(key) | Bound::Excluded(key)) => {
                last.map(|last| last.min(table.block_for(key)))
            }
            (Direction::Reverse, _, Bound::Unbounded) => last,
        };
        let block = block.filter(|number| *number < table.blocks() && !range.is_empty());
        Self { table, range, direction, mode, begun: false, block, entries: Vec::new().into_iter() }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        if !std::mem::replace(&mut self.begun, true)
            && self.range.meets(&self.table.meta.smallest, &self.table.meta.largest)
        {
            self.table.usable()?;
        }
        loop {
            let entry = match self.direction {
                Direction::Forward => self.entries.next(),
                Direction::Reverse => self.entries.next_back(),
            };
            match entry {
                Some(entry) if self.is_beyond(&entry) => {
                    self.block = None;
                    self.entries = Vec::new().into_iter();
                    return Ok(None);
                }
                Some(entry) if self.is_before(&entry) => {}
                Some(entry) => return Ok(Some(entry)),
                None => {
                    let Some(number) = self.block else { return Ok(None) };
                    self.entries = self.table.entries(number, self.mode)?.into_iter();
                    self.block = match self.direction {
                        Direction::Forward => {
                            Some(number + 1).filter(|number| *number < self.table.blocks())
                        }
                        Direction::Reverse => number.checked_sub(1),
                    };
                }
            }
        }
    }

    fn is_beyond(&self, entry: &Entry) -> bool {
        match self.direction {
            Direction::Forward => !self.range.is_before_end(&entry.key),
            Direction::Reverse => !self.range.is_after_start(&entry.key),
        }
    }

    fn is_before(&self, entry: &Entry) -> bool {
        match self.direction {
            Direction::Forward => !self.range.is_after_start(&entry.key),
            Direction::Reverse => !self.range.is_before_end(&entry.key),
        }
    }
}

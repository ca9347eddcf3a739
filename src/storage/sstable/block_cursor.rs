//! A place inside a block, and the key there.

use bytes::Bytes;
use core::ops::Range;

use super::block::{Block, Place};
use crate::storage::entry::EntryRef;
use crate::storage::iter::Direction;

/// Walks a block in either direction and lends its entries. Its key is put together in a buffer
/// that is used again for each; nothing else is copied.
#[derive(Debug)]
pub(crate) struct BlockCursor {
    block: Block,
    index: usize,
    place: Place,
    /// Where the key of the restart is.
    head: Range<usize>,
    key: Vec<u8>,
}

impl BlockCursor {
    /// At entry `index`; `None` is damage. `key` is a buffer to use.
    pub(crate) fn new(block: Block, index: usize, key: Vec<u8>) -> Option<Self> {
        let (place, head) = (block.place(index)?, block.head(index)?);
        let mut cursor = Self { block, index, place, head, key };
        cursor.spell()?;
        Some(cursor)
    }

    /// Its buffer, for the next one.
    pub(crate) fn into_key(self) -> Vec<u8> {
        self.key
    }

    fn jump(&mut self, index: usize) -> Option<()> {
        self.index = index;
        self.place = self.block.place(index)?;
        self.head = self.block.head(index)?;
        self.spell()
    }

    /// Moves one entry on. `Some(false)`: there is none, and the cursor has stayed; `None` is damage.
    pub(crate) fn step(&mut self, direction: Direction) -> Option<bool> {
        match direction {
            Direction::Forward if self.index + 1 < self.block.count() => {
                self.index += 1;
                self.place = self.block.place_at(self.place.value.end)?;
                if self.index.is_multiple_of(self.block.restart()) {
                    if self.place.shared != 0 {
                        return None;
                    }
                    self.head = self.place.suffix.clone();
                }
                self.spell()?;
            }
            Direction::Reverse if self.index > 0 => self.jump(self.index - 1)?,
            Direction::Forward | Direction::Reverse => return Some(false),
        }
        Some(true)
    }

    /// Puts the key together.
    fn spell(&mut self) -> Option<()> {
        let head = self.block.slice(&self.head)?.get(..self.place.shared)?;
        let suffix = self.block.slice(&self.place.suffix)?;
        self.key.clear();
        self.key.extend_from_slice(head);
        self.key.extend_from_slice(suffix);
        Some(())
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn entry(&self) -> EntryRef<'_> {
        // Where the value is was checked when the place was made.
        let value = self.block.slice(&self.place.value).unwrap_or_default();
        EntryRef { key: &self.key, seqno: self.place.seqno, kind: self.place.kind, value }
    }

    /// The value here, to keep: it shares the block's memory.
    pub(crate) fn value(&self) -> Bytes {
        self.block.share(&self.place.value).unwrap_or_default()
    }
}

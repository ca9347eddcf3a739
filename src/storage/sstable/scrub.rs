//! Reads a table from the disk a piece at a time, to find damage before somebody needs what it holds.
//!
//! What does not check is noted where all damage is (`bad_places`); here it changes nothing.

use super::block::Block;
use super::block_cursor::BlockCursor;
use super::index::{Span, span_at};
use super::{ReadMode, Table};
use crate::storage::batch::Kind;
use crate::storage::iter::Direction;

/// How far a piece has come.
struct Piece<'a> {
    table: &'a Table,
    budget: u64,
    bytes: u64,
    /// A data block has been read: it has come further than it was.
    moved: bool,
    next: Option<u64>,
}

impl Table {
    /// Reads the blocks from `from` on until about `budget` bytes have been read, and the values they
    /// refer to. Returns how many were, and where the next piece begins; `None` at the end.
    pub(crate) fn scrub(&self, from: u64, budget: u64) -> (u64, Option<u64>) {
        let Ok(guide) = self.guide(&mut None, ReadMode::Disk) else {
            return (0, None);
        };
        let mut piece = Piece { table: self, budget, bytes: 0, moved: false, next: None };
        if from == 0 {
            let footer = self.parts.footer(&self.meta);
            let is_sound = footer.is_ok_and(|footer| footer == *guide.footer)
                && self.parts.filter(guide.footer).is_ok()
                && self.parts.slots(guide.footer).is_ok()
                && self.block(guide.footer.index, ReadMode::Disk).is_ok();
            if !is_sound {
                // Behind all blocks: what leads to them is looked at.
                self.parts.note_bad(self.meta.bytes);
            }
            let data = guide.index.spans().first().map_or(0, |span| span.offset);
            piece.bytes += self.meta.bytes.saturating_sub(guide.footer.filter.offset).max(data);
        }
        for span in guide.index.spans() {
            if !guide.footer.two_levels {
                if piece.data(*span, from) {
                    break;
                }
                continue;
            }
            let Ok(lower) = self.block(*span, ReadMode::Disk) else { continue };
            let spans = (0..lower.count()).filter_map(|number| span_at(&lower, number));
            if spans.into_iter().any(|span| piece.data(span, from)) {
                break;
            }
        }
        (piece.bytes, piece.next)
    }
}

impl Piece<'_> {
    /// Reads a data block if it is not behind the piece. Returns whether the piece is at its end.
    fn data(&mut self, span: Span, from: u64) -> bool {
        if span.offset < from {
            return false;
        }
        if self.bytes >= self.budget && self.moved {
            self.next = Some(span.offset);
            return true;
        }
        self.moved = true;
        self.bytes += span.length as u64;
        let mode = match crate::mutant!("storage-scrub-reads-cache") {
            true => ReadMode::Cached,
            false => ReadMode::Disk,
        };
        if let Ok(block) = self.table.block(span, mode) {
            self.values(&block);
        }
        false
    }

    /// Reads the values elsewhere that a block refers to.
    fn values(&mut self, block: &Block) {
        if self.table.blobs().is_empty() {
            return;
        }
        let Some(mut cursor) = BlockCursor::new(block.clone(), 0, Vec::new()) else { return };
        loop {
            let entry = cursor.entry();
            if entry.kind == Kind::Pointer
                && let Ok((pointer, blob)) = self.table.pointer(entry.value)
            {
                self.bytes += pointer.bytes as u64;
                // What is wrong is noted by who reads it.
                let _noted = blob.value(&pointer, entry.key, ReadMode::Disk);
            }
            if !cursor.step(Direction::Forward).unwrap_or(false) {
                return;
            }
        }
    }
}

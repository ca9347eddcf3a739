//! Reads all of a table from the disk and checks what can be checked.

use core::cmp::Ordering;

use xxhash_rust::xxh3::Xxh3;

use super::Table;
use super::block::{Block, tag_of};
use super::block_cursor::BlockCursor;
use super::filter::{Filter, key_hash};
use super::index::{Span, span_at};
use super::lent::Guide;
use super::table::ReadMode;
use super::trailer::checksum_of;
use crate::storage::batch::Kind;
use crate::storage::entry::EntryRef;
use crate::storage::error::Error;
use crate::storage::iter::Direction;

/// What has been read so far.
struct Verifying<'a> {
    table: &'a Table,
    filter: Option<Filter>,
    blocks: u64,
    entries: u64,
    raw_bytes: u64,
    /// Records and their bytes, by slot.
    uses: Vec<(u64, u64)>,
    sums: Xxh3,
    deletes: u64,
    /// The first data block is still to come.
    at_start: bool,
    last_key: Option<Vec<u8>>,
    errors: Vec<Error>,
    /// Shown each entry that is in order.
    show: Show<'a>,
}

/// Someone to show entries to.
type Show<'a> = &'a mut dyn FnMut(EntryRef<'_>);

impl Table {
    /// Reads every block, filter and index too, and every value elsewhere that it refers to. Returns
    /// all damage found, and how many blocks were read.
    pub(crate) fn verify(&self) -> (u64, Vec<Error>) {
        self.verify_each(&mut |_| {})
    }

    /// The same, and shows every entry to the caller.
    pub(super) fn verify_each(&self, show: Show<'_>) -> (u64, Vec<Error>) {
        let guide = match self.guide(&mut None, ReadMode::Disk) {
            Ok(guide) => guide,
            Err(error) => return (0, vec![error]),
        };
        let mut verifying = Verifying {
            table: self,
            filter: None,
            blocks: 0,
            entries: 0,
            raw_bytes: 0,
            uses: vec![(0, 0); self.blobs.len()],
            sums: Xxh3::new(),
            deletes: 0,
            at_start: true,
            last_key: None,
            errors: Vec::new(),
            show,
        };
        verifying.all(&guide);
        (verifying.blocks, verifying.errors)
    }
}

impl Verifying<'_> {
    fn all(&mut self, guide: &Guide<'_>) {
        // What memory holds was checked when it was read; the disk may have changed since.
        match self.table.parts.footer(&self.table.meta) {
            Ok(footer) if footer == *guide.footer => {}
            Ok(_) => self.fault(guide.footer.index, "footer has changed"),
            Err(error) => self.errors.push(error),
        }
        match self.table.parts.filter(guide.footer) {
            Ok(filter) => self.filter = Some(filter),
            Err(error) => self.errors.push(error),
        }
        self.block(guide.footer.index);
        for (number, span) in guide.index.spans().iter().enumerate() {
            if guide.footer.two_levels {
                if let Some((lower, _)) = self.block(*span) {
                    self.lower(&lower, *span);
                }
            } else {
                self.data(*span, guide.index.block(), number);
            }
        }
        let (filter, blobs) = (guide.footer.filter, guide.footer.blobs);
        for span in [filter, blobs].into_iter().filter(|span| span.length > 0) {
            match self.table.parts.read(span) {
                Ok(stored) => self.sums.update(&checksum_of(&stored).to_le_bytes()),
                // Else the sum would not agree, and what could not be read would pass for damage.
                Err(error) if self.errors.is_empty() => self.errors.push(error),
                Err(_) => {}
            }
            self.blocks += 1;
        }
        if let Err(error) = self.table.parts.slots(guide.footer) {
            self.errors.push(error);
        }
        if self.errors.is_empty() {
            let footer = guide.footer;
            let counted = (self.entries, self.deletes, self.raw_bytes);
            if counted != (footer.entries, footer.deletes, footer.raw_bytes) {
                self.fault(footer.index, "entries are not as many as the footer says");
            } else if !self.uses_agree() {
                self.fault(footer.blobs, "values elsewhere are not as many as the table says");
            } else if self.sums.digest() != footer.sum {
                self.fault(footer.index, "a block is not the one that was written last");
            }
        }
    }

    fn uses_agree(&self) -> bool {
        let said = self.table.meta.blobs.iter().map(|blob| (blob.records, blob.bytes));
        said.eq(self.uses.iter().copied())
    }

    /// Reads the value that an entry refers to. What is wrong with it is no fault of the block.
    fn value(&mut self, key: &[u8], value: &[u8]) {
        let (pointer, blob) = match self.table.pointer(value) {
            Ok(found) => found,
            Err(error) => return self.errors.push(error),
        };
        if let Some((records, bytes)) = self.uses.get_mut(pointer.slot) {
            *records += 1;
            *bytes += pointer.bytes as u64;
        }
        self.errors.extend(blob.value(&pointer, key, ReadMode::Disk).err());
    }

    fn fault(&mut self, span: Span, what: &'static str) {
        self.errors.push(Error::corrupt(self.table.path(), span.offset, what));
    }

    /// Reads a block from the disk, with its checksum.
    fn block(&mut self, span: Span) -> Option<(Block, u64)> {
        self.blocks += 1;
        let stored = match self.table.parts.read(span) {
            Ok(stored) => stored,
            Err(error) => {
                self.errors.push(error);
                return None;
            }
        };
        let sum = checksum_of(&stored);
        let kept = self.table.keep(span, stored, ReadMode::Disk);
        kept.map(|block| (block, sum)).map_err(|error| self.errors.push(error)).ok()
    }

    fn lower(&mut self, lower: &Block, of: Span) {
        for number in 0..lower.count() {
            match span_at(lower, number)
                .filter(|span| span.end().is_some_and(|end| end <= of.offset))
            {
                Some(span) => self.data(span, lower, number),
                None => self.fault(of, "index cannot be decoded"),
            }
        }
    }

    /// Reads data block `number` of an index block.
    fn data(&mut self, span: Span, index: &Block, number: usize) {
        let at_start = std::mem::take(&mut self.at_start);
        let Some((block, sum)) = self.block(span) else { return };
        let is_first = block.compare_at(0, &self.table.meta.smallest) == Some(Ordering::Equal);
        if at_start && !is_first {
            return self.fault(span, "the smallest key is not the one that is named");
        }
        self.sums.update(&sum.to_le_bytes());
        match self.entries(&block) {
            None => self.errors.push(self.table.undecodable(span)),
            Some(Some(what)) => self.fault(span, what),
            Some(None) => {
                let last = self.last_key.as_deref().unwrap_or_default();
                let fits = index.compare_at(number, last).is_some_and(|order| order.is_ge());
                if !fits {
                    self.fault(span, "a key of the block is above its separator");
                }
            }
        }
    }

    /// Looks at each entry. The outer `None`: they do not decode.
    fn entries(&mut self, block: &Block) -> Option<Option<&'static str>> {
        let tags = block.tags()?.to_vec();
        let mut cursor = BlockCursor::new(block.clone(), 0, Vec::new())?;
        let mut number = 0;
        loop {
            let entry = cursor.entry();
            let hash = key_hash(entry.key);
            if self.last_key.as_deref().is_some_and(|last| last >= entry.key) {
                return Some(Some("keys are not in order"));
            }
            if self.filter.as_ref().is_some_and(|filter| !filter.may_hold(hash)) {
                return Some(Some("filter denies a key of this block"));
            }
            if tags.get(number).is_some_and(|tag| *tag != tag_of(hash)) {
                return Some(Some("an entry has not the tag of its key"));
            }
            if entry.kind == Kind::Pointer {
                self.value(entry.key, entry.value);
            }
            self.entries += 1;
            self.deletes += u64::from(entry.kind == Kind::Delete);
            self.raw_bytes += (entry.key.len() + entry.value.len()) as u64;
            (self.show)(entry);
            let last = self.last_key.get_or_insert_default();
            last.clear();
            last.extend_from_slice(entry.key);
            number += 1;
            if !cursor.step(Direction::Forward)? {
                return Some(None);
            }
        }
    }
}

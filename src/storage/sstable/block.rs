//! One block as it is read: entries with shared key prefixes left out, restart points, tags.
//!
//! Decides how an entry is found. A key shares its prefix with the first key of its stretch, the
//! restart, and not with the key before it, as in LevelDB: so any entry is decoded with two looks and
//! both searches and walks in either direction go without decoding what lies between, for less than
//! a byte an entry. A point read does not search: it compares one byte of the key's hash with the
//! tags of all entries, which lie side by side. Any bytes may be parsed and asked; ones that make no
//! sense are `None`.

use core::cmp::Ordering;
use core::ops::Range;

use bytes::Bytes;

use super::columns::{COLUMNS, to_rows};
use super::rows::{ROWS, of_lead};
use crate::storage::batch::{Kind, Seqno};
use crate::storage::coding::Reader;
use crate::storage::entry::Version;

/// What stands behind entries, offsets and tags.
pub(super) const TAIL_BYTES: usize = 16;
/// Blocks of more entries have no tags: comparing so many costs more than a search.
pub(super) const TAGGED_ENTRIES_MAX: usize = 512;

/// How a block is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockShape {
    /// Every so many entries the whole key is written; at least 1.
    pub(super) restart: u8,
    /// Whether there is a tag for each entry.
    pub(super) tagged: bool,
}

/// The byte of a key's hash that its entry is tagged with. The filter uses other bits.
pub(super) fn tag_of(hash: u64) -> u8 {
    let [.., tag] = (hash >> 8).to_be_bytes();
    tag
}

/// A block that has been read and checked. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    body: Bytes,
    /// Where the entries end and their offsets begin.
    entries_end: usize,
    count: usize,
    base: u64,
    restart: usize,
    wide: bool,
    tagged: bool,
}

/// An entry's numbers, and where its parts are in the body.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Bytes of its restart's key that its key begins with.
    pub(super) shared: usize,
    pub(super) suffix: Range<usize>,
    pub(super) value: Range<usize>,
    pub(super) kind: Kind,
    pub(super) seqno: Seqno,
}

impl Block {
    /// Takes a body, of which rows are made if it stands in columns.
    pub(crate) fn parse(body: Bytes) -> Option<Self> {
        match body.last() {
            Some(&COLUMNS) => Self::of_rows(to_rows(&body)?.into()),
            _ => Self::of_rows(body),
        }
    }

    fn of_rows(body: Bytes) -> Option<Self> {
        let tail = body.get(body.len().checked_sub(TAIL_BYTES)?..)?;
        let mut reader = Reader::new(tail);
        let base = reader.u64()?;
        let count = usize::try_from(reader.u32()?).ok()?;
        let restart = usize::from(reader.u8()?);
        let (wide, tagged) = (reader.u8()?, reader.u8()?);
        if restart == 0 || wide > 1 || tagged > 1 || reader.u8()? != ROWS {
            return None;
        }
        let each = 2 + 2 * usize::from(wide) + usize::from(tagged);
        let entries_end = body.len().checked_sub(TAIL_BYTES + count.checked_mul(each)?)?;
        let (wide, tagged) = (wide == 1, tagged == 1);
        Some(Self { body, entries_end, count, base, restart, wide, tagged })
    }

    /// Bytes it keeps in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Number of entries.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn restart(&self) -> usize {
        self.restart
    }

    pub(super) fn slice(&self, range: &Range<usize>) -> Option<&[u8]> {
        self.body.get(range.clone())
    }

    /// The same bytes to keep: they share the block's memory.
    pub(super) fn share(&self, range: &Range<usize>) -> Option<Bytes> {
        (range.start <= range.end && range.end <= self.body.len())
            .then(|| self.body.slice(range.clone()))
    }

    fn offset(&self, index: usize) -> Option<usize> {
        if index >= self.count {
            return None;
        }
        let width = if self.wide { 4 } else { 2 };
        let at = self.body.get(self.entries_end + index * width..)?;
        match self.wide {
            true => usize::try_from(u32::from_le_bytes(*at.first_chunk()?)).ok(),
            false => Some(usize::from(u16::from_le_bytes(*at.first_chunk()?))),
        }
    }

    /// Entry `index`.
    pub(super) fn place(&self, index: usize) -> Option<Place> {
        self.place_at(self.offset(index)?)
    }

    /// The entry that begins at `offset`.
    pub(super) fn place_at(&self, offset: usize) -> Option<Place> {
        let rest = self.body.get(offset..self.entries_end)?;
        let mut reader = Reader::new(rest);
        let (shared, kind) = of_lead(reader.varint()?)?;
        let suffix = reader.length()?;
        let value = reader.length()?;
        let seqno = Seqno(self.base.checked_add(reader.varint()?)?);
        let start = self.entries_end - reader.remaining();
        let middle = start.checked_add(suffix)?;
        let end = middle.checked_add(value).filter(|end| *end <= self.entries_end)?;
        Some(Place { shared, suffix: start..middle, value: middle..end, kind, seqno })
    }

    /// Where the key of the restart is that entry `index` leans on.
    pub(super) fn head(&self, index: usize) -> Option<Range<usize>> {
        let head = self.place(index - index % self.restart)?;
        (head.shared == 0).then_some(head.suffix)
    }

    /// Compares the key of an entry with `wanted`; `head` is the key of its restart.
    fn compare(&self, place: &Place, head: &[u8], wanted: &[u8]) -> Option<Ordering> {
        let shared = head.get(..place.shared)?;
        let (front, back) = wanted.split_at(shared.len().min(wanted.len()));
        let suffix = self.slice(&place.suffix)?;
        Some(shared.cmp(front).then_with(|| suffix.cmp(back)))
    }

    /// Compares the key of entry `index` with `wanted`.
    pub(super) fn compare_at(&self, index: usize, wanted: &[u8]) -> Option<Ordering> {
        let head = self.head(index)?;
        self.compare(&self.place(index)?, self.slice(&head)?, wanted)
    }

    /// Whether all entries can be read one after the other, with keys in order. Asked once, when the
    /// block comes from the disk: a checksum that holds says that it is what was written, not that
    /// this was a block.
    pub(super) fn is_sound(&self) -> bool {
        let mut head: &[u8] = &[];
        let mut last: Vec<u8> = Vec::new();
        let mut offset = 0;
        for index in 0..self.count {
            let Some(place) = self.place(index) else { return false };
            let follows = self.offset(index) == Some(offset);
            let suffix = self.slice(&place.suffix).unwrap_or_default();
            if index.is_multiple_of(self.restart) {
                head = suffix;
            }
            let shared = head.get(..place.shared);
            let restarts = !index.is_multiple_of(self.restart) || place.shared == 0;
            let order = self.compare(&place, head, &last);
            let above = index == 0 || order == Some(Ordering::Greater);
            let Some(shared) = shared.filter(|_| follows && restarts && above) else {
                return false;
            };
            last.clear();
            last.extend_from_slice(shared);
            last.extend_from_slice(suffix);
            offset = place.value.end;
        }
        self.count > 0 && offset == self.entries_end
    }

    /// Number of the first entry whose key is not below `wanted`; [`Block::count`] if there is none.
    pub(super) fn lower_bound(&self, wanted: &[u8]) -> Option<usize> {
        // The last restart whose key is not above the wanted one.
        let (mut low, mut high) = (0, self.count.div_ceil(self.restart));
        while low < high {
            let middle = low.midpoint(high);
            let head = self.head(middle * self.restart)?;
            if self.slice(&head)? <= wanted { low = middle + 1 } else { high = middle }
        }
        let Some(group) = low.checked_sub(1) else { return Some(0) };
        let first = group * self.restart;
        let head = self.head(first)?;
        let head = self.slice(&head)?;
        let (mut low, mut high) = (first, self.count.min(first + self.restart));
        while low < high {
            let middle = low.midpoint(high);
            match self.compare(&self.place(middle)?, head, wanted)? {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => high = middle,
            }
        }
        Some(low)
    }

    /// The version of `wanted`, whose hash is `hash`; the outer `None` is damage.
    pub(super) fn find(&self, wanted: &[u8], hash: u64) -> Option<Option<Version>> {
        if !self.tagged {
            let index = self.lower_bound(wanted)?;
            let found = index < self.count && self.compare_at(index, wanted)? == Ordering::Equal;
            return if found { self.version(&self.place(index)?).map(Some) } else { Some(None) };
        }
        let tags = self.tags()?;
        for index in memchr::memchr_iter(tag_of(hash), tags) {
            let place = self.place(index)?;
            let head = self.head(index)?;
            if self.compare(&place, self.slice(&head)?, wanted)? == Ordering::Equal {
                return self.version(&place).map(Some);
            }
            if crate::mutant!("storage-tag-collision-is-absent") {
                return Some(None);
            }
        }
        Some(None)
    }

    /// The tags of all entries, in their order; empty if it has none.
    pub(super) fn tags(&self) -> Option<&[u8]> {
        let end = self.body.len().checked_sub(TAIL_BYTES)?;
        let length = if self.tagged { self.count } else { 0 };
        self.body.get(end.checked_sub(length)?..end)
    }

    fn version(&self, place: &Place) -> Option<Version> {
        let value = self.share(&place.value)?;
        Some(Version { seqno: place.seqno, kind: place.kind, value })
    }
}

#[cfg(test)]
mod tests;

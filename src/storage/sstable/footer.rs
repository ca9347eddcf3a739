//! The last bytes of a table: where its parts are and what is in it.

use std::path::Path;

use super::index::Span;
use crate::storage::batch::Seqno;
use crate::storage::coding::{Reader, checksum_holds, placed_checksum};
use crate::storage::error::Error;

pub(super) const FOOTER_BYTES: usize = 136;
/// Bytes of the footer that its checksum covers.
const FIELDS_BYTES: usize = 120;
const MAGIC: &[u8; 8] = b"rndtblST";
const FORMAT: u32 = 4;

/// What a table says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    /// Directly behind the data blocks.
    pub(super) filter: Span,
    /// The list of blob files, directly behind the filter; empty if there are none.
    pub(super) blobs: Span,
    /// The index block to begin with. It is directly before the footer; in an index of two levels,
    /// the blocks of the lower one are between the list and it.
    pub(super) index: Span,
    pub(super) two_levels: bool,
    pub(super) entries: u64,
    pub(super) deletes: u64,
    pub(super) first: Seqno,
    pub(super) last: Seqno,
    /// Bytes of all keys and values.
    pub(super) raw_bytes: u64,
    /// Number of data blocks.
    pub(super) blocks: u64,
    /// Hash of the checksums of all blocks but the index's, in their order: a block that is whole
    /// and at its place, but an older version of itself, does not pass.
    pub(super) sum: u64,
    /// What the checksums are salted with besides their offset: the number that the file had where
    /// it was made.
    pub(super) salt: u64,
}

impl Footer {
    pub(super) fn encode(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        let fields = [
            self.filter.offset,
            self.filter.length as u64,
            self.blobs.offset,
            self.blobs.length as u64,
            self.index.offset,
            self.index.length as u64,
            self.entries,
            self.deletes,
            self.first.0,
            self.last.0,
            self.raw_bytes,
            self.blocks,
            self.sum,
            self.salt,
        ];
        fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[1 + u8::from(self.two_levels), 0, 0, 0]);
        let sum = placed_checksum(&out, self.salt, offset);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(MAGIC);
        out
    }

    /// Reads the footer that stands at `offset`. Whether it is the footer of the right table is for
    /// the caller to compare.
    ///
    /// # Errors
    /// `Corrupt`, or `Version` for a table of a later format.
    pub(super) fn decode(bytes: &[u8], offset: u64, path: &Path) -> Result<Self, Error> {
        let bad = |what| Error::corrupt(path, offset, what);
        let cut = || bad("footer is cut short");
        let fields = bytes.get(..FIELDS_BYTES).ok_or_else(cut)?;
        let mut reader = Reader::new(bytes.get(FIELDS_BYTES..).ok_or_else(cut)?);
        let sum = reader.u64().ok_or_else(cut)?;
        if reader.bytes(MAGIC.len()) != Some(MAGIC) {
            return Err(bad("this is not an sstable"));
        }
        let (footer, format, levels) = Self::fields(fields).ok_or_else(cut)?;
        if !checksum_holds(fields, footer.salt, offset, sum) {
            return Err(bad("footer checksum does not match"));
        }
        if format != FORMAT {
            return Err(Error::Version { file: path.to_path_buf(), found: format, known: FORMAT });
        }
        let end = footer.blobs.end().filter(|end| *end <= footer.index.offset);
        let follows = footer.filter.end() == Some(footer.blobs.offset);
        if !(1..=2).contains(&levels) || !follows || end.is_none() {
            return Err(bad("filter is not where the footer says"));
        }
        if footer.index.end() != Some(offset) || (levels == 1 && end != Some(footer.index.offset)) {
            return Err(bad("index is not where the footer says"));
        }
        Ok(footer)
    }

    /// Most bytes that index and filter take in memory: beside the bytes in the file, a number and a
    /// span for each entry of the index, of which none is shorter than six bytes.
    pub(super) fn guide_bytes_max(&self) -> usize {
        let entries = self.index.length / 6;
        let listed = usize::try_from(self.blocks).unwrap_or(usize::MAX);
        let entries = if self.two_levels { entries } else { entries.min(listed) };
        let lists = entries.saturating_mul(8 + size_of::<Span>());
        self.filter.length.saturating_add(self.index.length).saturating_add(lists)
    }

    /// All fields, with the format and the number of the index's levels.
    fn fields(bytes: &[u8]) -> Option<(Self, u32, u8)> {
        let mut reader = Reader::new(bytes);
        let mut next = || reader.u64();
        let length = |length: u64| usize::try_from(length).ok();
        let mut footer = Self {
            filter: Span { offset: next()?, length: length(next()?)? },
            blobs: Span { offset: next()?, length: length(next()?)? },
            index: Span { offset: next()?, length: length(next()?)? },
            two_levels: false,
            entries: next()?,
            deletes: next()?,
            first: Seqno(next()?),
            last: Seqno(next()?),
            raw_bytes: next()?,
            blocks: next()?,
            sum: next()?,
            salt: next()?,
        };
        let (format, levels) = (reader.u32()?, reader.u8()?);
        footer.two_levels = levels == 2;
        Some((footer, format, levels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_reads_back_and_a_damaged_one_does_not() {
        let footer = Footer {
            filter: Span { offset: 1_000, length: 100 },
            blobs: Span { offset: 1_100, length: 30 },
            index: Span { offset: 1_200, length: 50 },
            two_levels: true,
            entries: 7,
            deletes: 2,
            first: Seqno(3),
            last: Seqno(9),
            raw_bytes: 600,
            blocks: 3,
            sum: 77,
            salt: 5,
        };
        let bytes = footer.encode(1_250);
        assert_eq!(bytes.len(), FOOTER_BYTES);
        let decode = |bytes: &[u8], offset| Footer::decode(bytes, offset, Path::new("table"));
        assert_eq!(decode(&bytes, 1_250).unwrap(), footer);
        assert!(decode(&bytes, 1_251).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged, 1_250).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], 1_250).is_err());
        }
    }
}

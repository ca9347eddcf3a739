//! The bytes of a blob file: its opening, its records, its closing.
//!
//! A record's checksum holds the file and the offset, and covers the hash of its key: a value that
//! was written for another key, elsewhere, or into another file does not pass for the one that is
//! looked for. Nothing is decompressed before its checksum holds.

use std::path::Path;

use bytes::Bytes;

use crate::storage::coding::{Reader, checksum_holds, length_u32, placed_checksum};
use crate::storage::error::Error;
use crate::storage::options::{Compression, ENGINE_VALUE_BYTES_MAX};
use crate::storage::sstable::{compressed, decompress};

/// Checksum, hash of the key, stored length, length of the value, compression.
pub(super) const RECORD_HEAD_BYTES: usize = 25;
/// Magic, format, nothing, salt, checksum.
pub(super) const OPENING_BYTES: usize = 32;
pub(super) const CLOSING_BYTES: usize = 56;
const OPENING_MAGIC: &[u8; 8] = b"rndblobO";
const CLOSING_MAGIC: &[u8; 8] = b"rndblobC";
const FORMAT: u32 = 1;
const CHECKSUM_BYTES: usize = 8;

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    compression: u8,
    /// Length of the value.
    pub(super) length: usize,
    pub(super) bytes: Bytes,
}

impl Stored {
    /// Compresses a value if that pays.
    pub(super) fn new(value: &[u8], compression: Compression) -> Self {
        let shorter = compressed(value, compression);
        let used = if shorter.is_some() { compression } else { Compression::None };
        let bytes = shorter.map_or_else(|| Bytes::copy_from_slice(value), Bytes::from);
        Self { compression: used.byte(), length: value.len(), bytes }
    }

    /// The value.
    pub(crate) fn value(&self) -> Result<Bytes, &'static str> {
        let value = decompress(self.compression, self.bytes.clone())?;
        match value.len() == self.length {
            true => Ok(value),
            false => Err("a value has not the length its record says"),
        }
    }

    /// Bytes of its record.
    pub(super) fn record_bytes(&self) -> usize {
        RECORD_HEAD_BYTES + self.bytes.len()
    }

    /// Appends the record for a key with this hash, as it will stand at `offset` of a file with
    /// this salt. Returns its checksum.
    pub(super) fn encode(&self, key: u64, salt: u64, offset: u64, out: &mut Vec<u8>) -> u64 {
        let start = out.len();
        out.extend_from_slice(&[0; CHECKSUM_BYTES]);
        out.extend_from_slice(&key.to_le_bytes());
        out.extend_from_slice(&length_u32(self.bytes.len()).to_le_bytes());
        out.extend_from_slice(&length_u32(self.length).to_le_bytes());
        out.push(self.compression);
        out.extend_from_slice(&self.bytes);
        let (salt, offset) = placed(salt, offset);
        let content = out.get(start + CHECKSUM_BYTES..).unwrap_or_default();
        let sum = placed_checksum(content, salt, offset);
        if let Some(slot) = out.get_mut(start..start + CHECKSUM_BYTES) {
            slot.copy_from_slice(&sum.to_le_bytes());
        }
        sum
    }

    /// Takes a record apart that was read at `offset`. With a `key`, its hash must be this.
    pub(super) fn decode(
        record: &Bytes,
        salt: u64,
        offset: u64,
        key: Option<u64>,
    ) -> Result<Self, &'static str> {
        let cut = "a record is cut short";
        let head = RecordHead::decode(record).ok_or(cut)?;
        let content = record.get(CHECKSUM_BYTES..head.end()).ok_or(cut)?;
        let (salt, offset) = placed(salt, offset);
        if !checksum_holds(content, salt, offset, head.sum) {
            return Err("record checksum does not match");
        }
        if key.is_some_and(|key| key != head.key) && !crate::mutant!("storage-blob-key-unchecked") {
            return Err("a record is not of the key that refers to it");
        }
        if head.stored > head.length || head.length > ENGINE_VALUE_BYTES_MAX {
            return Err("a record is longer than a value can be");
        }
        let bytes = record.slice(RECORD_HEAD_BYTES..head.end());
        Ok(Self { compression: head.compression, length: head.length, bytes })
    }
}

fn placed(salt: u64, offset: u64) -> (u64, u64) {
    if crate::mutant!("storage-blob-unsalted") { (0, 0) } else { (salt, offset) }
}

/// What stands before a stored value. Believed only with the checksum.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordHead {
    pub(super) sum: u64,
    key: u64,
    stored: usize,
    length: usize,
    compression: u8,
}

impl RecordHead {
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (sum, key) = (reader.u64()?, reader.u64()?);
        let (stored, length) = (reader.u32()?, reader.u32()?);
        let (stored, length) = (usize::try_from(stored).ok()?, usize::try_from(length).ok()?);
        Some(Self { sum, key, stored, length, compression: reader.u8()? })
    }

    /// Length of the record.
    pub(super) fn end(&self) -> usize {
        RECORD_HEAD_BYTES.saturating_add(self.stored)
    }

    /// Whether a record of this length can be one.
    pub(super) fn is_possible(&self) -> bool {
        self.stored <= self.length && self.length <= ENGINE_VALUE_BYTES_MAX
    }
}

/// The first bytes of a file.
pub(super) fn opening(salt: u64) -> Vec<u8> {
    let mut out = OPENING_MAGIC.to_vec();
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&salt.to_le_bytes());
    let sum = placed_checksum(&out, salt, 0);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// Reads the opening and returns the salt.
///
/// # Errors
/// `Corrupt`, or `Version` for a file of a later format.
pub(super) fn read_opening(bytes: &[u8], path: &Path) -> Result<u64, Error> {
    let bad = |what| Error::corrupt(path, 0, what);
    let is_ours = bytes.starts_with(OPENING_MAGIC);
    let fields = bytes.get(..OPENING_BYTES - CHECKSUM_BYTES).filter(|_| is_ours);
    let fields = fields.ok_or_else(|| bad("this is not a blob file"))?;
    let mut reader = Reader::new(bytes.get(OPENING_MAGIC.len()..).unwrap_or_default());
    let mut numbers = || Some((reader.u32()?, reader.u32()?, reader.u64()?, reader.u64()?));
    let numbers = numbers().ok_or_else(|| bad("the opening is cut short"))?;
    let (format, _nothing, salt, sum) = numbers;
    if !checksum_holds(fields, salt, 0, sum) {
        return Err(bad("checksum of the opening does not match"));
    }
    match format {
        FORMAT => Ok(salt),
        found => Err(Error::Version { file: path.to_path_buf(), found, known: FORMAT }),
    }
}

/// What a file says of itself at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closing {
    pub(super) records: u64,
    /// Bytes of all values.
    pub(super) raw_bytes: u64,
    /// Hash of the checksums of all records, in their order.
    pub(super) sum: u64,
    pub(super) salt: u64,
}

impl Closing {
    pub(super) fn encode(&self, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(CLOSING_BYTES);
        let fields = [self.records, self.raw_bytes, self.sum, self.salt];
        fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let sum = placed_checksum(&out, self.salt, offset);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(CLOSING_MAGIC);
        out
    }

    /// Reads the closing that stands at `offset`.
    ///
    /// # Errors
    /// `Corrupt`, or `Version` for a file of a later format.
    pub(super) fn decode(bytes: &[u8], offset: u64, path: &Path) -> Result<Self, Error> {
        let bad = |what| Error::corrupt(path, offset, what);
        let fields = bytes.get(..40).ok_or_else(|| bad("the closing is cut short"))?;
        let mut reader = Reader::new(bytes);
        let mut numbers = || {
            let closing = Self {
                records: reader.u64()?,
                raw_bytes: reader.u64()?,
                sum: reader.u64()?,
                salt: reader.u64()?,
            };
            let (format, _nothing) = (reader.u32()?, reader.u32()?);
            Some((closing, format, reader.u64()?, reader.bytes(8)?))
        };
        let (closing, format, sum, magic) =
            numbers().ok_or_else(|| bad("the closing is cut short"))?;
        if magic != CLOSING_MAGIC {
            return Err(bad("a blob file has no closing"));
        }
        if !checksum_holds(fields, closing.salt, offset, sum) {
            return Err(bad("checksum of the closing does not match"));
        }
        match format {
            FORMAT => Ok(closing),
            found => Err(Error::Version { file: path.to_path_buf(), found, known: FORMAT }),
        }
    }
}

/// Takes any bytes for a record, an opening and a closing.
#[cfg(debug_assertions)]
pub(crate) fn check_any_record(bytes: &[u8]) {
    let path = Path::new("blob");
    let record = Bytes::copy_from_slice(bytes);
    if let Ok(stored) = Stored::decode(&record, 1, 2, None) {
        let mut again = Vec::new();
        let head = RecordHead::decode(bytes).expect("it was taken apart");
        stored.encode(head.key, 1, 2, &mut again);
        assert!(bytes.get(CHECKSUM_BYTES..head.end()) == again.get(CHECKSUM_BYTES..));
        if let Ok(value) = stored.value() {
            assert_eq!(value.len(), stored.length, "a value of another length");
        }
    }
    let _salt = read_opening(bytes, path);
    if let Ok(closing) = Closing::decode(bytes, 7, path) {
        let again = Closing::decode(&closing.encode(7), 7, path);
        assert_eq!(again.ok(), Some(closing), "a closing reads back as another");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_at_its_place_and_for_its_key_only() {
        for compression in [Compression::None, Compression::Lz4] {
            let stored = Stored::new(&[7; 500], compression);
            let mut record = Vec::new();
            stored.encode(11, 3, 100, &mut record);
            assert_eq!(record.len(), stored.record_bytes());
            assert_eq!(record.len() < 400, compression == Compression::Lz4);
            let record = Bytes::from(record);
            let read = Stored::decode(&record, 3, 100, Some(11)).unwrap();
            assert_eq!((&read, read.value()), (&stored, Ok(vec![7; 500].into())));
            for (salt, offset, key) in [(4, 100, 11), (3, 101, 11), (3, 100, 12)] {
                assert!(Stored::decode(&record, salt, offset, Some(key)).is_err());
            }
            for bit in 0..record.len() * 8 {
                let mut damaged = record.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(Stored::decode(&damaged.into(), 3, 100, Some(11)).is_err(), "bit {bit}");
            }
            for cut in 0..record.len() {
                assert!(Stored::decode(&record.slice(..cut), 3, 100, Some(11)).is_err());
            }
        }
    }

    #[test]
    fn opening_and_closing_read_back_and_damaged_ones_do_not() {
        let path = Path::new("blob");
        let (opening, closing) =
            (opening(9), Closing { records: 3, raw_bytes: 900, sum: 77, salt: 9 });
        assert_eq!(read_opening(&opening, path).unwrap(), 9);
        let bytes = closing.encode(500);
        assert_eq!((opening.len(), bytes.len()), (OPENING_BYTES, CLOSING_BYTES));
        assert_eq!(Closing::decode(&bytes, 500, path).unwrap(), closing);
        assert!(Closing::decode(&bytes, 501, path).is_err());
        for bit in 0..CLOSING_BYTES * 8 {
            let flip = |bytes: &[u8]| {
                let mut damaged = bytes.to_vec();
                damaged.get_mut(bit / 8).map(|byte| *byte ^= 1 << (bit % 8)).map(|()| damaged)
            };
            assert!(Closing::decode(&flip(&bytes).unwrap(), 500, path).is_err(), "bit {bit}");
            let damaged = flip(&opening);
            assert!(damaged.is_none_or(|bytes| read_opening(&bytes, path).is_err()), "bit {bit}");
        }
        for cut in 0..CLOSING_BYTES {
            assert!(Closing::decode(&bytes[..cut], 500, path).is_err());
            let opening = &opening[..cut.min(OPENING_BYTES - 1)];
            assert!(read_opening(opening, path).is_err());
        }
    }
}

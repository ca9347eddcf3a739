//! A batch: what is written together, visible together and survives a crash together.
//!
//! Decides the encoding of entries inside a log record (`docs/format/wal.md`). Keys and values are
//! copied in, so a batch never pins a network buffer.

use core::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::coding::{Reader, put_length};
use super::deleted::RangeDelete;
use super::error::Error;
use super::key_range::KeyRange;
use super::options::{BATCH_BYTES_MAX, ENGINE_KEY_BYTES_MAX, ENGINE_VALUE_BYTES_MAX};

/// The place of a batch in the order of all batches of one engine; 0 is before the first. Every
/// entry of a batch carries its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seqno(pub u64);

impl fmt::Display for Seqno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an entry is. The numbers are on disk; 2 is kept for a pointer into a blob file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Delete,
    Put,
    /// In batches only: tables keep no deleted ranges, the manifest does.
    DeleteRange,
}

impl Kind {
    pub(crate) fn of(value: Option<&Bytes>) -> Self {
        if value.is_some() { Self::Put } else { Self::Delete }
    }

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Delete => 0,
            Self::Put => 1,
            Self::DeleteRange => 3,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Delete),
            1 => Some(Self::Put),
            3 => Some(Self::DeleteRange),
            _ => None,
        }
    }
}

/// Writes to apply together, in order: of two writes to one key the later wins. Deleted ranges come
/// before all of them, see [`Batch::delete_range`].
#[derive(Debug, Default, Clone)]
pub struct Batch {
    payload: Vec<u8>,
    count: u32,
    ranges: u32,
    refused: Option<Error>,
}

impl Batch {
    /// A batch with nothing in it: submitted as it is, it is a barrier.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put. A key over 8 KiB or a value over 2 MiB makes the submission fail.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.check("key", key.len(), ENGINE_KEY_BYTES_MAX);
        self.check("value", value.len(), ENGINE_VALUE_BYTES_MAX);
        self.add(Kind::Put, key, value);
    }

    /// Adds a delete; deleting what is not there is fine.
    pub fn delete(&mut self, key: &[u8]) {
        self.check("key", key.len(), ENGINE_KEY_BYTES_MAX);
        self.add(Kind::Delete, key, &[]);
    }

    /// Adds the deletion of every key in `range` that was written before this batch. What this
    /// batch itself puts there stays, in whichever order it is added. An empty range adds nothing;
    /// a bound over 8 KiB makes the submission fail.
    ///
    /// It costs the same however much is in the range. See `Engine::delete_range` for what becomes
    /// of the room.
    pub fn delete_range(&mut self, range: &KeyRange) {
        if range.is_empty() {
            return;
        }
        let end = range.end().unwrap_or_default();
        self.check("key", range.start().len().max(end.len()), ENGINE_KEY_BYTES_MAX);
        if self.refused.is_some() {
            return;
        }
        self.payload.push(Kind::DeleteRange.byte());
        put_length(&mut self.payload, range.start().len());
        put_length(&mut self.payload, range.end().map_or(0, |end| end.len() + 1));
        self.payload.extend_from_slice(range.start());
        self.payload.extend_from_slice(end);
        self.ranges += 1;
        self.count += 1;
        self.check("batch", self.payload.len(), BATCH_BYTES_MAX);
    }

    /// Number of writes, deleted ranges included.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of its encoding, of which there may be at most 32 MiB.
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    fn check(&mut self, what: &'static str, length: usize, limit: usize) {
        if length > limit && self.refused.is_none() {
            self.refused = Some(Error::TooLong { what, length, limit });
        }
    }

    fn add(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        if self.refused.is_some() {
            return;
        }
        self.payload.push(kind.byte());
        put_length(&mut self.payload, key.len());
        if kind == Kind::Put {
            put_length(&mut self.payload, value.len());
        }
        self.payload.extend_from_slice(key);
        self.payload.extend_from_slice(value);
        self.count += 1;
        self.check("batch", self.payload.len(), BATCH_BYTES_MAX);
    }

    /// Encodes and hashes, outside any lock.
    pub(crate) fn seal(self) -> Result<SealedBatch, Error> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let hash = xxh3_64(&self.payload);
        // The buffer lives as long as the memtable: what it has to spare would be unaccounted.
        let payload = Bytes::from(self.payload.into_boxed_slice());
        Ok(SealedBatch { payload, hash, count: self.count, ranges: self.ranges })
    }
}

/// A batch as it goes into the log.
#[derive(Debug, Clone)]
pub(crate) struct SealedBatch {
    pub(crate) payload: Bytes,
    pub(crate) hash: u64,
    /// Number of all writes.
    pub(crate) count: u32,
    /// How many of them delete ranges.
    pub(crate) ranges: u32,
}

/// One write of a batch.
enum Write {
    /// No value is a delete.
    Point(Bytes, Option<Bytes>),
    DeleteRange(KeyRange),
}

impl SealedBatch {
    /// Takes a payload from disk whose hash has been checked; `None` if it is not a batch of
    /// `count` entries all the same.
    pub(crate) fn decode(payload: Bytes, hash: u64, count: u32) -> Option<Self> {
        let mut batch = Self { payload, hash, count, ranges: 0 };
        let (mut seen, mut ranges) = (0u32, 0u32);
        for write in batch.writes() {
            ranges += u32::from(matches!(write?, Write::DeleteRange(_)));
            seen = seen.checked_add(1)?;
        }
        batch.ranges = ranges;
        (seen == count).then_some(batch)
    }

    /// The puts and deletes of single keys in order; `None` once where the bytes make no sense.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Option<(Bytes, Option<Bytes>)>> + '_ {
        self.writes().filter_map(|write| match write {
            Some(Write::Point(key, value)) => Some(Some((key, value))),
            Some(Write::DeleteRange(_)) => None,
            None => Some(None),
        })
    }

    /// The ranges it deletes, as batch `seqno`.
    pub(crate) fn range_deletes(&self, seqno: Seqno) -> Vec<RangeDelete> {
        if self.ranges == 0 {
            return Vec::new();
        }
        let ranges = self.writes().filter_map(|write| match write {
            Some(Write::DeleteRange(range)) => Some(RangeDelete { range, seqno }),
            Some(Write::Point(..)) | None => None,
        });
        ranges.collect()
    }

    fn writes(&self) -> impl Iterator<Item = Option<Write>> + '_ {
        let mut reader = Reader::new(&self.payload);
        let mut broken = false;
        core::iter::from_fn(move || {
            if broken || reader.is_empty() {
                return None;
            }
            let entry = self.write(&mut reader);
            broken = entry.is_none();
            Some(entry)
        })
    }

    fn write(&self, reader: &mut Reader<'_>) -> Option<Write> {
        let kind = Kind::from_byte(reader.u8()?)?;
        let key_length = reader.length()?;
        let value_length = match kind {
            Kind::Put | Kind::DeleteRange => Some(reader.length()?),
            Kind::Delete => None,
        };
        if key_length > ENGINE_KEY_BYTES_MAX {
            return None;
        }
        if kind == Kind::DeleteRange {
            let end_length = value_length?.checked_sub(1);
            let start = Bytes::copy_from_slice(reader.bytes(key_length)?);
            let end = match end_length {
                Some(length) if length > ENGINE_KEY_BYTES_MAX => return None,
                Some(length) => Some(Bytes::copy_from_slice(reader.bytes(length)?)),
                None => None,
            };
            return Some(Write::DeleteRange(KeyRange::new(start, end)));
        }
        let key = self.payload.slice_ref(reader.bytes(key_length)?);
        let value = match value_length {
            Some(length) if length > ENGINE_VALUE_BYTES_MAX => return None,
            Some(length) => Some(self.payload.slice_ref(reader.bytes(length)?)),
            None => None,
        };
        Some(Write::Point(key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_back_and_a_cut_one_does_not() {
        let mut batch = Batch::new();
        batch.put(b"key", b"value");
        batch.delete_range(&KeyRange::prefix(b"a"));
        batch.delete(b"other");
        batch.delete_range(&KeyRange::all());
        batch.delete_range(&KeyRange::between(b"b", b"b"));
        let sealed = batch.seal().unwrap();
        assert_eq!((sealed.count, sealed.ranges), (4, 2));
        let read = SealedBatch::decode(sealed.payload.clone(), sealed.hash, 4).unwrap();
        assert_eq!(read.ranges, 2);
        assert_eq!(read.entries().flatten().count(), 2);
        let ranges: Vec<_> = read.range_deletes(Seqno(7)).into_iter().map(|it| it.range).collect();
        assert_eq!(ranges, [KeyRange::prefix(b"a"), KeyRange::all()]);
        for cut in 0..sealed.payload.len() {
            let payload = sealed.payload.slice(..cut);
            assert!(SealedBatch::decode(payload, sealed.hash, 4).is_none());
        }
    }
}

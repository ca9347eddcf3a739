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

/// What an entry is. The numbers are on disk, in the log and in tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Delete,
    Put,
    /// A put whose value stands elsewhere: the bytes of the entry say where. Merges and blocks carry
    /// it as they carry a value. Only tables hold it, never the log.
    Pointer,
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
            Self::Pointer => 2,
            Self::DeleteRange => 3,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Delete),
            1 => Some(Self::Put),
            2 => Some(Self::Pointer),
            3 => Some(Self::DeleteRange),
            _ => None,
        }
    }
}

/// Bytes that a batch keeps free in front of its payload, for the head of its log record: what is
/// encoded once is what is written.
pub(crate) const HEAD_BYTES: usize = 20;
/// Log records stand at multiples of this.
pub(crate) const RECORD_ALIGN: usize = 4;
/// Values from here on stay where they are: the memtable shares the buffer of their batch. What is
/// shorter is copied, which costs less than the count of references.
pub(crate) const SHARED_VALUE_BYTES: usize = 16 << 10;
/// What an entry takes beside its key and value, and the padding of its batch, at most.
const ENTRY_BYTES: usize = 12;

/// Writes to apply together, in order: of two writes to one key the later wins. Deleted ranges come
/// before all of them, see [`Batch::delete_range`].
#[derive(Debug, Default, Clone)]
pub struct Batch {
    /// Empty, or room for the head and then the payload.
    record: Vec<u8>,
    count: u32,
    ranges: u32,
    shared: bool,
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
        self.shared |= value.len() >= SHARED_VALUE_BYTES;
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
        self.make_room(range.start().len() + end.len());
        self.record.push(Kind::DeleteRange.byte());
        put_length(&mut self.record, range.start().len());
        put_length(&mut self.record, range.end().map_or(0, |end| end.len() + 1));
        self.record.extend_from_slice(range.start());
        self.record.extend_from_slice(end);
        self.ranges += 1;
        self.count += 1;
        self.check("batch", self.bytes(), BATCH_BYTES_MAX);
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
        self.record.len().saturating_sub(HEAD_BYTES)
    }

    /// A batch of one write, the most common, is allocated once and to measure.
    fn make_room(&mut self, bytes: usize) {
        if self.record.is_empty() {
            self.record.reserve_exact(HEAD_BYTES + ENTRY_BYTES + bytes);
            self.record.resize(HEAD_BYTES, 0);
        }
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
        self.make_room(key.len() + value.len());
        self.record.push(kind.byte());
        put_length(&mut self.record, key.len());
        if kind == Kind::Put {
            put_length(&mut self.record, value.len());
        }
        self.record.extend_from_slice(key);
        self.record.extend_from_slice(value);
        self.count += 1;
        self.check("batch", self.bytes(), BATCH_BYTES_MAX);
    }

    /// Hashes and pads, outside any lock.
    pub(crate) fn seal(mut self) -> Result<SealedBatch, Error> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let bytes = self.bytes();
        let hash = xxh3_64(self.record.get(HEAD_BYTES..).unwrap_or_default());
        self.record.resize((HEAD_BYTES + bytes).next_multiple_of(RECORD_ALIGN), 0);
        let buffer = match self.shared {
            // It lives as long as the memtable: what it has to spare would be unaccounted.
            true => Buffer::Shared(Bytes::from(self.record.into_boxed_slice())),
            false => Buffer::Owned(self.record),
        };
        Ok(SealedBatch { buffer, bytes, hash, count: self.count, ranges: self.ranges })
    }
}

#[derive(Debug)]
enum Buffer {
    Owned(Vec<u8>),
    Shared(Bytes),
}

/// A batch as it goes into the log: room for the head of its record, the payload, padding.
#[derive(Debug)]
pub(crate) struct SealedBatch {
    buffer: Buffer,
    bytes: usize,
    pub(crate) hash: u64,
    /// Number of all writes.
    pub(crate) count: u32,
    /// How many of them delete ranges.
    pub(crate) ranges: u32,
}

/// One write of a batch.
enum Write<'a> {
    /// No value is a delete.
    Point(&'a [u8], Option<&'a [u8]>),
    DeleteRange(KeyRange),
}

impl SealedBatch {
    /// The encoded entries.
    pub(crate) fn payload(&self) -> &[u8] {
        let record = match &self.buffer {
            Buffer::Owned(record) => record.as_slice(),
            Buffer::Shared(record) => record,
        };
        record.get(HEAD_BYTES..HEAD_BYTES + self.bytes).unwrap_or_default()
    }

    /// Bytes of its record in the log.
    pub(crate) fn record_bytes(&self) -> usize {
        (HEAD_BYTES + self.bytes).next_multiple_of(RECORD_ALIGN)
    }

    /// The record, with room for the head in front, if nobody shares the buffer.
    pub(crate) fn record_mut(&mut self) -> Option<&mut [u8]> {
        match &mut self.buffer {
            Buffer::Owned(record) => Some(record),
            Buffer::Shared(_) => None,
        }
    }

    /// The buffer, if values are long enough to stay in it.
    pub(crate) fn shared(&self) -> Option<&Bytes> {
        match &self.buffer {
            Buffer::Owned(_) => None,
            Buffer::Shared(buffer) => Some(buffer),
        }
    }

    /// Takes a payload from disk whose hash has been checked; `None` if it is not a batch all the
    /// same.
    pub(crate) fn decode(payload: &[u8], hash: u64) -> Option<Self> {
        let mut record = Vec::with_capacity(HEAD_BYTES + payload.len());
        record.resize(HEAD_BYTES, 0);
        record.extend_from_slice(payload);
        let (buffer, bytes) = (Buffer::Owned(record), payload.len());
        let mut batch = Self { buffer, bytes, hash, count: 0, ranges: 0 };
        let (mut count, mut ranges) = (0u32, 0u32);
        for write in batch.writes() {
            ranges += u32::from(matches!(write?, Write::DeleteRange(_)));
            count = count.checked_add(1)?;
        }
        (batch.count, batch.ranges) = (count, ranges);
        (count > 0).then_some(batch)
    }

    /// The puts and deletes of single keys in order; `None` once where the bytes make no sense.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Option<(&[u8], Option<&[u8]>)>> {
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

    fn writes(&self) -> impl Iterator<Item = Option<Write<'_>>> {
        let mut reader = Reader::new(self.payload());
        let mut broken = false;
        core::iter::from_fn(move || {
            if broken || reader.is_empty() {
                return None;
            }
            let entry = write(&mut reader);
            broken = entry.is_none();
            Some(entry)
        })
    }
}

fn write<'a>(reader: &mut Reader<'a>) -> Option<Write<'a>> {
    let kind = Kind::from_byte(reader.u8()?)?;
    let key_length = reader.length()?;
    let value_length = match kind {
        Kind::Put | Kind::DeleteRange => Some(reader.length()?),
        Kind::Delete => None,
        Kind::Pointer => return None,
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
    let key = reader.bytes(key_length)?;
    let value = match value_length {
        Some(length) if length > ENGINE_VALUE_BYTES_MAX => return None,
        Some(length) => Some(reader.bytes(length)?),
        None => None,
    };
    Some(Write::Point(key, value))
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
        let read = SealedBatch::decode(sealed.payload(), sealed.hash).unwrap();
        assert_eq!((read.count, read.ranges), (4, 2));
        assert_eq!(read.entries().flatten().count(), 2);
        let ranges: Vec<_> = read.range_deletes(Seqno(7)).into_iter().map(|it| it.range).collect();
        assert_eq!(ranges, [KeyRange::prefix(b"a"), KeyRange::all()]);
        for cut in 0..sealed.payload().len() {
            // At the end of an entry it is another batch, which only the hash tells.
            let cut = SealedBatch::decode(&sealed.payload()[..cut], sealed.hash);
            assert!(cut.is_none_or(|cut| cut.count < 4));
        }
    }
}

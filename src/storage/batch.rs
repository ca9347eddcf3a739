//! A batch: what is written together, visible together and survives a crash together.
//!
//! Decides the encoding of entries inside a log record (`docs/format/wal.md`). Keys and values are
//! copied in, so a batch never pins a network buffer.

use core::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::coding::{Reader, put_length};
use super::error::Error;
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

/// What an entry is. The numbers are on disk; 2 is kept for a put whose value is a pointer into a
/// blob file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    Delete,
}

impl Kind {
    pub(crate) fn of(value: Option<&Bytes>) -> Self {
        if value.is_some() { Self::Put } else { Self::Delete }
    }

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Delete => 0,
            Self::Put => 1,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Delete),
            1 => Some(Self::Put),
            _ => None,
        }
    }
}

/// Writes to apply together, in order: of two writes to one key the later wins.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    payload: Vec<u8>,
    count: u32,
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

    /// Number of writes.
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
        Ok(SealedBatch { payload, hash, count: self.count })
    }
}

/// A batch as it goes into the log.
#[derive(Debug, Clone)]
pub(crate) struct SealedBatch {
    pub(crate) payload: Bytes,
    pub(crate) hash: u64,
    pub(crate) count: u32,
}

impl SealedBatch {
    /// Takes a payload from disk whose hash has been checked; `None` if it is not a batch of
    /// `count` entries all the same.
    pub(crate) fn decode(payload: Bytes, hash: u64, count: u32) -> Option<Self> {
        let batch = Self { payload, hash, count };
        let mut seen = 0u32;
        for entry in batch.entries() {
            entry?;
            seen = seen.checked_add(1)?;
        }
        (seen == count).then_some(batch)
    }

    /// The entries in order; `None` once where the bytes make no sense.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Option<(Bytes, Option<Bytes>)>> + '_ {
        let mut reader = Reader::new(&self.payload);
        let mut broken = false;
        core::iter::from_fn(move || {
            if broken || reader.is_empty() {
                return None;
            }
            let entry = self.entry(&mut reader);
            broken = entry.is_none();
            Some(entry)
        })
    }

    fn entry(&self, reader: &mut Reader<'_>) -> Option<(Bytes, Option<Bytes>)> {
        let kind = Kind::from_byte(reader.u8()?)?;
        let key_length = reader.length()?;
        let value_length = if kind == Kind::Put { Some(reader.length()?) } else { None };
        let key = self.payload.slice_ref(reader.bytes(key_length)?);
        let value = match value_length {
            Some(length) => Some(self.payload.slice_ref(reader.bytes(length)?)),
            None => None,
        };
        let fits = key.len() <= ENGINE_KEY_BYTES_MAX
            && value.as_ref().is_none_or(|value| value.len() <= ENGINE_VALUE_BYTES_MAX);
        fits.then_some((key, value))
    }
}

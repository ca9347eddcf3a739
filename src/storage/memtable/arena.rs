//! The bytes of a memtable: records in chunks that never move, addressed by 32-bit numbers.
//!
//! Decides the layout of a record in memory and where it stands. Chunks begin small and double up
//! to 1 MiB, so a small memtable costs little and a large one is filled without ever copying what
//! it holds. Whole chunks come from a [`ChunkPool`] and go back to it: a memtable of 64 MiB is
//! given up in microseconds, by whoever happens to hold it last, and the next one touches no page
//! for the first time.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::storage::batch::Seqno;

/// Where a record stands: the number of its chunk and its place there in eighths.
pub(super) type At = u32;
/// The place of nothing.
pub(super) const NOWHERE: At = u32::MAX;

const CHUNK_BYTES: usize = 1 << 20;
const FIRST_CHUNK_BYTES: usize = 4 << 10;
const ALIGN: usize = 8;
/// Bits of an [`At`] that say where in the chunk.
const WITHIN_BITS: u32 = (CHUNK_BYTES / ALIGN).trailing_zeros();
/// Older version (4), number (8), lengths of key (2) and value (4), what it is (1), reserved (1).
const HEAD_BYTES: usize = 20;
const STATE_AT: usize = 18;

/// The most that a record takes beyond its key and value.
pub(super) const RECORD_OVERHEAD: usize = HEAD_BYTES + ALIGN - 1;
const DELETE: u8 = 0;
const PUT: u8 = 1;
const LARGE: u8 = 2;
/// Its batch was taken back.
const GONE: u8 = 3;

/// Chunks between two memtables.
#[derive(Debug)]
pub(crate) struct ChunkPool {
    free: Mutex<Vec<Vec<u8>>>,
    limit: usize,
}

impl ChunkPool {
    /// Keeps as many chunks as one memtable of `memtable_bytes` needs.
    pub(crate) fn new(memtable_bytes: usize) -> Self {
        Self { free: Mutex::default(), limit: memtable_bytes / CHUNK_BYTES }
    }

    /// Bytes kept for the next memtable.
    pub(crate) fn bytes(&self) -> usize {
        self.free.lock().len() * CHUNK_BYTES
    }

    /// Memory is taken and given back without the lock in hand: a writer may be waiting for it, with
    /// all others behind it, and to give back as much as a memtable has takes milliseconds.
    fn take(&self) -> Vec<u8> {
        let free = self.free.lock().pop();
        free.unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES))
    }

    fn give(&self, mut chunks: Vec<Vec<u8>>) {
        chunks.retain_mut(|chunk| {
            chunk.clear();
            chunk.capacity() == CHUNK_BYTES
        });
        let mut free = self.free.lock();
        let room = self.limit.saturating_sub(free.len());
        let surplus = chunks.split_off(room.min(chunks.len()));
        free.append(&mut chunks);
        drop(free);
        drop(surplus);
    }
}

/// What a version says of itself, beside its key and value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub(super) older: At,
    pub(super) seqno: Seqno,
    pub(super) gone: bool,
}

/// A value on its way into an arena or out of it.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Delete,
    Small(&'a [u8]),
    Large(Bytes),
}

/// The fixed part of a record.
struct Head {
    older: At,
    seqno: Seqno,
    /// Of a small value; of a large one it is its number.
    value: usize,
    key: usize,
    state: u8,
}

#[derive(Debug)]
pub(super) struct Arena {
    chunks: Vec<Vec<u8>>,
    /// Values that records point to.
    large: Vec<Bytes>,
    bytes: usize,
    pool: Arc<ChunkPool>,
}

impl Arena {
    pub(super) fn new(pool: Arc<ChunkPool>) -> Self {
        Self { chunks: Vec::new(), large: Vec::new(), bytes: 0, pool }
    }

    /// Bytes of all records and of the buffers that they point to.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Books a buffer that large values of one batch point into.
    pub(super) fn pin(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Adds a record in front of `older`.
    pub(super) fn push(&mut self, older: At, seqno: Seqno, key: &[u8], value: Value<'_>) -> At {
        let (state, stored, length) = match value {
            Value::Delete => (DELETE, [].as_slice(), 0),
            Value::Small(value) => (PUT, value, value.len()),
            Value::Large(value) => {
                self.large.push(value);
                (LARGE, [].as_slice(), self.large.len() - 1)
            }
        };
        let padded = (HEAD_BYTES + key.len() + stored.len()).next_multiple_of(ALIGN);
        let no = self.chunk_for(padded);
        let chunk = self.chunks.get_mut(no).expect("the chunk was found or made");
        let start = chunk.len();
        let mut head = [0; HEAD_BYTES];
        let key_length = u16::try_from(key.len()).expect("a key has at most 8 KiB");
        let length = u32::try_from(length).expect("a value has at most 2 MiB");
        head[..4].copy_from_slice(&older.to_le_bytes());
        head[4..12].copy_from_slice(&seqno.0.to_le_bytes());
        head[12..16].copy_from_slice(&length.to_le_bytes());
        head[16..18].copy_from_slice(&key_length.to_le_bytes());
        head[STATE_AT] = state;
        chunk.extend_from_slice(&head);
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(stored);
        chunk.resize(start + padded, 0);
        self.bytes += padded;
        let within = u32::try_from(start / ALIGN).expect("a chunk has at most 1 MiB");
        let no = u32::try_from(no).expect("memory is bounded");
        (no << WITHIN_BITS) | within
    }

    /// The chunk that the next `bytes` go to.
    fn chunk_for(&mut self, bytes: usize) -> usize {
        let last = self.chunks.last();
        // A record may reach beyond the size of a chunk, but none begins there: an `At` has no bits for it.
        let is_full =
            |chunk: &Vec<u8>| chunk.len() >= CHUNK_BYTES || chunk.capacity() - chunk.len() < bytes;
        if last.is_none_or(is_full) {
            let size = last.map_or(FIRST_CHUNK_BYTES, |chunk| 2 * chunk.capacity());
            let size = size.max(bytes.next_power_of_two());
            let chunk = match size >= CHUNK_BYTES {
                // One of the pool would have to grow, and be moved.
                true if bytes > CHUNK_BYTES => Vec::with_capacity(bytes),
                true => self.pool.take(),
                false => Vec::with_capacity(size),
            };
            self.chunks.push(chunk);
        }
        self.chunks.len() - 1
    }

    fn bytes_at(&self, at: At) -> &[u8] {
        let chunk = self.chunks.get((at >> WITHIN_BITS) as usize);
        let start = (at & ((1 << WITHIN_BITS) - 1)) as usize * ALIGN;
        chunk.and_then(|chunk| chunk.get(start..)).expect("a place comes from a push")
    }

    /// The fixed part of a record, and all that follows it in its chunk.
    fn head(&self, at: At) -> (Head, &[u8]) {
        let (head, rest) = self.bytes_at(at).split_first_chunk().expect("a record has a head");
        let [o0, o1, o2, o3, s0, s1, s2, s3, s4, s5, s6, s7, v0, v1, v2, v3, k0, k1, state, _]: [u8;
            HEAD_BYTES] = *head;
        let head = Head {
            older: u32::from_le_bytes([o0, o1, o2, o3]),
            seqno: Seqno(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7])),
            value: u32::from_le_bytes([v0, v1, v2, v3]) as usize,
            key: usize::from(u16::from_le_bytes([k0, k1])),
            state,
        };
        (head, rest)
    }

    pub(super) fn key(&self, at: At) -> &[u8] {
        let (head, rest) = self.head(at);
        rest.get(..head.key).expect("a key follows its head")
    }

    pub(super) fn version(&self, at: At) -> Version {
        let (head, _) = self.head(at);
        Version { older: head.older, seqno: head.seqno, gone: head.state == GONE }
    }

    pub(super) fn value(&self, at: At) -> Value<'_> {
        let (head, rest) = self.head(at);
        match head.state {
            PUT => {
                let value = rest.get(head.key..head.key + head.value);
                Value::Small(value.expect("a value follows its key"))
            }
            LARGE => Value::Large(self.large.get(head.value).expect("it was pushed").clone()),
            _ => Value::Delete,
        }
    }

    /// Bytes of key and small value together.
    pub(super) fn size(&self, at: At) -> usize {
        let (head, _) = self.head(at);
        head.key + if head.state == PUT { head.value } else { 0 }
    }

    /// Marks a record as taken back: no reader sees it any more.
    pub(super) fn forget(&mut self, at: At) {
        let chunk = self.chunks.get_mut((at >> WITHIN_BITS) as usize);
        let start = (at & ((1 << WITHIN_BITS) - 1)) as usize * ALIGN;
        let state = chunk.and_then(|chunk| chunk.get_mut(start + STATE_AT));
        *state.expect("a place comes from a push") = GONE;
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.chunks));
    }
}

//! Puts a block together. The bytes are those of `docs/format/sstable.md`.

use super::block::{BlockShape, TAGGED_ENTRIES_MAX, TAIL_BYTES, tag_of};
use crate::storage::batch::{Kind, Seqno};
use crate::storage::coding::{length_u32, put_length, put_varint};
use crate::storage::entry::EntryRef;

/// About what an entry costs beside its key and value: header, offset, tag.
const ENTRY_BYTES: usize = 9;

/// An entry that waits for the end of its block.
#[derive(Debug)]
struct Waiting {
    shared: usize,
    suffix: usize,
    value: usize,
    kind: Kind,
    seqno: Seqno,
    tag: u8,
}

/// Collects the entries of a block; they are encoded at its end, when the lowest batch is known.
#[derive(Debug)]
pub(super) struct BlockBuilder {
    shape: BlockShape,
    waiting: Vec<Waiting>,
    /// Suffixes and values, one after the other.
    bytes: Vec<u8>,
    /// The whole key at the last restart.
    head: Vec<u8>,
}

impl BlockBuilder {
    pub(super) fn new(shape: BlockShape) -> Self {
        Self { shape, waiting: Vec::new(), bytes: Vec::new(), head: Vec::new() }
    }

    /// Adds an entry whose key is above all before; `hash` is the hash of its key.
    pub(super) fn add(&mut self, entry: EntryRef<'_>, hash: u64) {
        let shared = if self.waiting.len().is_multiple_of(usize::from(self.shape.restart)) {
            self.head.clear();
            self.head.extend_from_slice(entry.key);
            0
        } else {
            self.head.iter().zip(entry.key).take_while(|(one, other)| one == other).count()
        };
        let suffix = entry.key.get(shared..).unwrap_or_default();
        self.bytes.extend_from_slice(suffix);
        self.bytes.extend_from_slice(entry.value);
        self.waiting.push(Waiting {
            shared,
            suffix: suffix.len(),
            value: entry.value.len(),
            kind: entry.kind,
            seqno: entry.seqno,
            tag: tag_of(hash),
        });
    }

    /// About the bytes of the body so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + self.waiting.len() * ENTRY_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Ends the block and makes the builder ready for the next. Returns its body, to be sealed.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let base = self.waiting.iter().map(|entry| entry.seqno).min().unwrap_or_default();
        let mut body = Vec::with_capacity(self.bytes() + self.waiting.len() * 4 + TAIL_BYTES);
        let mut offsets = Vec::with_capacity(self.waiting.len());
        let mut rest = self.bytes.as_slice();
        for entry in &self.waiting {
            offsets.push(length_u32(body.len()));
            put_length(&mut body, entry.shared);
            put_length(&mut body, entry.suffix);
            put_length(&mut body, entry.value);
            body.push(entry.kind.byte());
            put_varint(&mut body, entry.seqno.0 - base.0);
            let (pair, after) = rest.split_at(entry.suffix + entry.value);
            body.extend_from_slice(pair);
            rest = after;
        }
        let wide = body.len() > usize::from(u16::MAX);
        for offset in &offsets {
            let [first, second, third, fourth] = offset.to_le_bytes();
            body.extend_from_slice(&[first, second]);
            if wide {
                body.extend_from_slice(&[third, fourth]);
            }
        }
        let tagged = self.shape.tagged && self.waiting.len() <= TAGGED_ENTRIES_MAX;
        if tagged {
            body.extend(self.waiting.iter().map(|entry| entry.tag));
        }
        body.extend_from_slice(&base.0.to_le_bytes());
        body.extend_from_slice(&length_u32(self.waiting.len()).to_le_bytes());
        body.extend_from_slice(&[self.shape.restart, u8::from(wide), u8::from(tagged), 0]);
        self.waiting.clear();
        self.bytes.clear();
        body
    }
}

//! Puts a block together. The bytes are those of `docs/format/sstable.md`.

use super::block::{BlockShape, tag_of};
use super::columns::{self, Numbers};
use super::rows::{Rows, lead};
use crate::storage::batch::Seqno;
use crate::storage::entry::EntryRef;

/// About what an entry costs beside its key and value: header, offset, tag.
const ENTRY_BYTES: usize = 8;

/// Collects the entries of a block; they are encoded at its end, when the lowest batch is known.
#[derive(Debug)]
pub(super) struct BlockBuilder {
    shape: BlockShape,
    /// Batches are whole here, not above the lowest.
    waiting: Vec<Numbers>,
    tags: Vec<u8>,
    suffixes: Vec<u8>,
    values: Vec<u8>,
    /// The whole key at the last restart.
    head: Vec<u8>,
}

impl BlockBuilder {
    pub(super) fn new(shape: BlockShape) -> Self {
        let (waiting, tags, head) = (Vec::new(), Vec::new(), Vec::new());
        Self { shape, waiting, tags, suffixes: Vec::new(), values: Vec::new(), head }
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
        self.suffixes.extend_from_slice(suffix);
        self.values.extend_from_slice(entry.value);
        self.tags.push(tag_of(hash));
        let (value, kind, batch) = (entry.value.len(), entry.kind, entry.seqno.0);
        self.waiting.push(Numbers { shared, suffix: suffix.len(), value, kind, batch });
    }

    /// About the bytes of the body so far.
    pub(super) fn bytes(&self) -> usize {
        self.suffixes.len() + self.values.len() + self.waiting.len() * ENTRY_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Makes the builder ready for the next block.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.tags.clear();
        self.suffixes.clear();
        self.values.clear();
    }

    fn base(&self) -> u64 {
        self.waiting.iter().map(|entry| entry.batch).min().unwrap_or_default()
    }

    /// The body as readers want it.
    pub(super) fn rows(&self) -> Vec<u8> {
        let base = self.base();
        let count = self.waiting.len();
        let mut rows = Rows::with_capacity(count, self.bytes() + count * 4 + 16);
        let (mut suffixes, mut values) = (self.suffixes.as_slice(), self.values.as_slice());
        for (entry, tag) in self.waiting.iter().zip(&self.tags) {
            let (suffix, value);
            (suffix, suffixes) = suffixes.split_at(entry.suffix);
            (value, values) = values.split_at(entry.value);
            rows.add(lead(entry.shared, entry.kind), entry.batch - base, (suffix, value), *tag);
        }
        rows.finish(self.shape, Seqno(base))
    }

    /// The body as it is compressed.
    pub(super) fn columns(&self) -> Vec<u8> {
        let base = self.base();
        let above = |entry: &Numbers| Numbers { batch: entry.batch - base, ..*entry };
        let entries: Vec<Numbers> = self.waiting.iter().map(above).collect();
        columns::encode(self.shape, Seqno(base), &entries, (&self.suffixes, &self.values))
    }
}

//! The sparse index: in which block a key must be.
//!
//! Decides how blocks are kept apart: by separators, the shortest bytes that are not below the last
//! key of a block and below the first of the next. An index is made of blocks of its own; one that
//! would be long has two levels, of which the lower goes through the cache in blocks. The upper is
//! searched by the heads of its separators.

use bytes::Bytes;

use super::block::{Block, BlockShape};
use super::block_builder::BlockBuilder;
use super::trailer::TRAILER_BYTES;
use crate::storage::batch::{Kind, Seqno};
use crate::storage::coding::{Reader, put_length, put_varint};
use crate::storage::entry::EntryRef;
use crate::storage::heads::Heads;

/// Searched, never asked for a key, so without tags.
const SHAPE: BlockShape = BlockShape { restart: 16, tagged: false };

/// Where a block stands in its file, trailer included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) length: usize,
}

impl Span {
    pub(super) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.length as u64)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let offset = reader.varint()?;
        let length = reader.length().filter(|length| *length > TRAILER_BYTES)?;
        reader.is_empty().then_some(Self { offset, length })
    }
}

/// The shortest key that is not below `last` and below `next`, which is above `last`.
pub(super) fn separator<'a>(last: &'a [u8], next: &'a [u8]) -> &'a [u8] {
    let shared = last.iter().zip(next).take_while(|(one, other)| one == other).count();
    if crate::mutant!("storage-separator-too-short") {
        return next.get(..shared).unwrap_or(last);
    }
    let longer = if shared < last.len() && shared + 1 < next.len() { shared + 1 } else { 0 };
    next.get(..longer).filter(|short| !short.is_empty()).unwrap_or(last)
}

/// Collects separators and spans, and makes blocks of them.
#[derive(Debug)]
pub(super) struct IndexBuilder {
    block: BlockBuilder,
}

impl IndexBuilder {
    pub(super) fn new() -> Self {
        Self { block: BlockBuilder::new(SHAPE) }
    }

    pub(super) fn add(&mut self, separator: &[u8], span: Span) {
        let mut value = Vec::with_capacity(16);
        put_varint(&mut value, span.offset);
        put_length(&mut value, span.length);
        let entry = EntryRef { key: separator, seqno: Seqno(0), kind: Kind::Put, value: &value };
        self.block.add(entry, 0);
    }

    pub(super) fn bytes(&self) -> usize {
        self.block.bytes()
    }

    /// The body of the block so far; the next one begins.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let body = self.block.rows();
        self.block.clear();
        body
    }
}

/// The span that entry `number` of an index block names; `None` is damage, or past the end.
pub(super) fn span_at(block: &Block, number: usize) -> Option<Span> {
    Span::decode(block.slice(&block.place(number)?.value)?)
}

/// The separator of entry `number` of an index block; `None` is damage, or past the end.
pub(super) fn separator_at(block: &Block, number: usize) -> Option<Vec<u8>> {
    let (place, head) = (block.place(number)?, block.head(number)?);
    let shared = block.slice(&head)?.get(..place.shared)?;
    Some([shared, block.slice(&place.suffix)?].concat())
}

/// An index of one level, or the upper level of one of two.
#[derive(Debug)]
pub(crate) struct Index {
    block: Block,
    heads: Heads,
    spans: Vec<Span>,
}

impl Index {
    /// Takes an index block apart. `None` if it is none: no entries, separators out of order, or
    /// spans that do not follow each other.
    pub(super) fn decode(body: Bytes) -> Option<Self> {
        let block = Block::parse(body)?;
        let key = |number: usize| separator_at(&block, number);
        let (first, last) = (key(0)?, key(block.count().checked_sub(1)?)?);
        let (mut heads, mut spans) = (Heads::between(&first, &last), Vec::<Span>::new());
        let mut before: Option<Vec<u8>> = None;
        for number in 0..block.count() {
            let (this, span) = (key(number)?, span_at(&block, number)?);
            let follows = spans.last().is_none_or(|last| last.end() == Some(span.offset));
            if !follows || before.is_some_and(|before| before >= this) {
                return None;
            }
            heads.push(&this)?;
            spans.push(span);
            before = Some(this);
        }
        Some(Self { block, heads, spans })
    }

    /// Bytes it keeps in memory.
    pub(crate) fn memory(&self) -> usize {
        self.block.bytes() + self.heads.memory() + self.spans.len() * size_of::<Span>()
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether `key` is the last separator.
    pub(super) fn ends_with(&self, key: &[u8]) -> bool {
        let last = self.spans.len().checked_sub(1);
        last.and_then(|last| self.block.compare_at(last, key)) == Some(core::cmp::Ordering::Equal)
    }

    pub(super) fn block(&self) -> &Block {
        &self.block
    }

    /// Number of the first separator that is not below `key`; `None` is damage.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        self.heads.lower_bound(key, |number| self.block.compare_at(number, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn index_of(keys: &[Vec<u8>]) -> Index {
        let mut builder = IndexBuilder::new();
        for (number, key) in keys.iter().enumerate() {
            builder.add(key, Span { offset: number as u64 * 10, length: 10 });
        }
        Index::decode(builder.finish().into()).unwrap()
    }

    #[test]
    fn separators_are_short_and_separate() {
        for (last, next, expected) in [
            ("apple", "banana", "b"),
            ("apple", "b", "apple"),
            ("app", "apple", "app"),
            ("apple", "apricot", "apr"),
            ("key00001", "key00002", "key00001"),
            ("key00001x", "key00002y", "key00002"),
        ] {
            assert_eq!(separator(last.as_bytes(), next.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn a_separator_that_is_cut_too_short_is_caught() {
        let separates = || {
            let (last, next) = (b"apple".as_slice(), b"apricot".as_slice());
            let between = separator(last, next);
            last <= between && between < next
        };
        assert!(separates());
        let _armed = crate::testing::arm_mutant("storage-separator-too-short");
        assert!(!separates());
    }

    #[test]
    fn spans_with_a_gap_are_refused() {
        let mut builder = IndexBuilder::new();
        builder.add(b"a", Span { offset: 0, length: 10 });
        builder.add(b"b", Span { offset: 11, length: 10 });
        assert!(Index::decode(builder.finish().into()).is_none());
        assert!(Index::decode(IndexBuilder::new().finish().into()).is_none(), "no entries");
    }

    proptest! {
        #[test]
        fn a_separator_lies_between(keys in btree_set(vec(0u8..4, 0..8), 2..20)) {
            let keys: Vec<_> = keys.into_iter().collect();
            for pair in keys.windows(2) {
                let between = separator(&pair[0], &pair[1]);
                prop_assert!(pair[0].as_slice() <= between && between < pair[1].as_slice());
                prop_assert!(between.len() <= pair[0].len());
            }
        }

        #[test]
        fn a_search_by_numbers_finds_what_a_search_of_strings_finds(
            prefix in vec(0u8..3, 0..10), keys in btree_set(vec(0u8..3, 0..12), 1..60),
            wanted in vec(0u8..3, 0..24),
        ) {
            let keys: Vec<Vec<u8>> =
                keys.into_iter().map(|key| [prefix.clone(), key].concat()).collect();
            let index = index_of(&keys);
            for wanted in keys.iter().chain([&wanted]) {
                prop_assert_eq!(index.find(wanted), Some(keys.partition_point(|key| key < wanted)));
            }
        }

        #[test]
        fn random_bytes_never_panic(mut body in vec(any::<u8>(), 0..120), count in 0u8..9) {
            body.extend([0, 0, 0, 0, 0, 0, 0, 0, count, 0, 0, 0, 16, 0, 0, 0]);
            if let Some(index) = Index::decode(body.into()) {
                index.find(b"key");
            }
        }
    }
}

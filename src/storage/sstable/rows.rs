//! A block as readers want it: entry after entry, then where each begins, then the tags.
//!
//! Decides the bytes only; what the fields mean is told in `block`.

use super::block::{BlockShape, TAGGED_ENTRIES_MAX, TAIL_BYTES};
use crate::storage::batch::{Kind, Seqno};
use crate::storage::coding::{length_u32, put_length, put_varint};

/// The last byte of a body that is laid out so.
pub(super) const ROWS: u8 = 0;
/// Bits of the kind in the number that an entry begins with.
const KIND_BITS: u32 = 2;

/// What an entry begins with: how much of the key is shared, and its kind. They stand in one number:
/// a key that shares less than 32 bytes spares one.
pub(super) fn lead(shared: usize, kind: Kind) -> u64 {
    (shared as u64) << KIND_BITS | u64::from(kind.byte())
}

/// The same taken apart; `None` if no entry of a table begins so.
pub(super) fn of_lead(lead: u64) -> Option<(usize, Kind)> {
    let kind = u8::try_from(lead & ((1 << KIND_BITS) - 1)).ok().and_then(Kind::from_byte);
    let kind = kind.filter(|kind| *kind != Kind::DeleteRange)?;
    Some((usize::try_from(lead >> KIND_BITS).ok()?, kind))
}

/// The body of a block in the making.
#[derive(Debug)]
pub(super) struct Rows {
    body: Vec<u8>,
    offsets: Vec<u32>,
    tags: Vec<u8>,
}

impl Rows {
    /// For so many entries, and about so many bytes of all.
    pub(super) fn with_capacity(count: usize, bytes: usize) -> Self {
        let (body, tags) = (Vec::with_capacity(bytes), Vec::with_capacity(count));
        Self { body, offsets: Vec::with_capacity(count), tags }
    }

    /// Adds an entry; `batch` is what its batch is above the lowest of the block.
    pub(super) fn add(&mut self, lead: u64, batch: u64, (suffix, value): (&[u8], &[u8]), tag: u8) {
        self.offsets.push(length_u32(self.body.len()));
        self.tags.push(tag);
        put_varint(&mut self.body, lead);
        put_length(&mut self.body, suffix.len());
        put_length(&mut self.body, value.len());
        put_varint(&mut self.body, batch);
        self.body.extend_from_slice(suffix);
        self.body.extend_from_slice(value);
    }

    /// The body. `base` is the lowest batch of the block.
    pub(super) fn finish(self, shape: BlockShape, base: Seqno) -> Vec<u8> {
        let Self { mut body, offsets, tags } = self;
        let wide = body.len() > usize::from(u16::MAX);
        let tagged = shape.tagged && offsets.len() <= TAGGED_ENTRIES_MAX;
        let each = if wide { 4 } else { 2 } + usize::from(tagged);
        body.reserve_exact(offsets.len() * each + TAIL_BYTES);
        for offset in &offsets {
            let [first, second, third, fourth] = offset.to_le_bytes();
            body.extend_from_slice(&[first, second]);
            if wide {
                body.extend_from_slice(&[third, fourth]);
            }
        }
        if tagged {
            body.extend_from_slice(&tags);
        }
        body.extend_from_slice(&base.0.to_le_bytes());
        body.extend_from_slice(&length_u32(offsets.len()).to_le_bytes());
        body.extend_from_slice(&[shape.restart, u8::from(wide), u8::from(tagged), ROWS]);
        body
    }
}

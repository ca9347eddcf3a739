//! A block as it is compressed: field by field, and without what the rest tells.
//!
//! Where entries begin and the bytes of their hashes look like noise, so compression spares nothing
//! of them, yet both follow from the entries: they are left out. What is much alike from entry to
//! entry stands side by side, where it is a few runs, and keys and values are not interrupted by it.
//! A reader makes rows of it once, when the block comes from the disk.

use super::block::{BlockShape, tag_of};
use super::filter::key_hash;
use super::rows::{Rows, lead, of_lead};
use crate::storage::batch::{Kind, Seqno};
use crate::storage::coding::{Reader, put_length, put_varint};

/// The last byte of a body that is laid out so.
pub(super) const COLUMNS: u8 = 1;
/// Bytes that an entry has at least.
const ENTRY_BYTES_MIN: usize = 4;

/// The numbers of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    /// Bytes of its restart's key that its key begins with.
    pub(super) shared: usize,
    pub(super) suffix: usize,
    pub(super) value: usize,
    pub(super) kind: Kind,
    /// What its batch is above the lowest of the block.
    pub(super) batch: u64,
}

/// The body of a block. Suffixes and values are those of the entries, one after the other.
pub(super) fn encode(
    shape: BlockShape,
    base: Seqno,
    entries: &[Numbers],
    (suffixes, values): (&[u8], &[u8]),
) -> Vec<u8> {
    let mut body = Vec::with_capacity(suffixes.len() + values.len() + entries.len() * 8 + 24);
    put_varint(&mut body, base.0);
    put_length(&mut body, entries.len());
    body.extend_from_slice(&[shape.restart, u8::from(shape.tagged)]);
    entries.iter().for_each(|entry| put_varint(&mut body, lead(entry.shared, entry.kind)));
    // Of the whole key: where keys are of one length these are all the same.
    entries.iter().for_each(|entry| put_length(&mut body, entry.shared + entry.suffix));
    entries.iter().for_each(|entry| put_length(&mut body, entry.value));
    entries.iter().for_each(|entry| put_varint(&mut body, entry.batch));
    body.extend_from_slice(suffixes);
    body.extend_from_slice(values);
    body.push(COLUMNS);
    body
}

/// Makes rows of columns; `None` is damage.
pub(super) fn to_rows(body: &[u8]) -> Option<Vec<u8>> {
    let (_, fields) = body.split_last()?;
    let mut reader = Reader::new(fields);
    let base = Seqno(reader.varint()?);
    let count = reader.length().filter(|count| *count <= body.len() / ENTRY_BYTES_MIN)?;
    let (restart, tagged) = (reader.u8().filter(|restart| *restart > 0)?, reader.u8()?);
    let shape = BlockShape { restart, tagged: tagged == 1 };
    if tagged > 1 {
        return None;
    }
    let entries = numbers(&mut reader, count)?;
    let suffixes = entries.iter().try_fold(0usize, |sum, entry| sum.checked_add(entry.suffix))?;
    let (mut suffixes, mut values) =
        (Reader::new(reader.bytes(suffixes)?), Reader::new(reader.bytes(reader.remaining())?));
    let mut rows = Rows::with_capacity(count, body.len() + count * 3 + 16);
    let (mut head, mut key): (&[u8], Vec<u8>) = (&[], Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let suffix = suffixes.bytes(entry.suffix)?;
        if index.is_multiple_of(usize::from(restart)) {
            head = suffix;
        }
        let tag = if shape.tagged {
            key.clear();
            key.extend_from_slice(head.get(..entry.shared)?);
            key.extend_from_slice(suffix);
            tag_of(key_hash(if entry.shared == 0 { suffix } else { &key }))
        } else {
            0
        };
        let value = values.bytes(entry.value)?;
        rows.add(lead(entry.shared, entry.kind), entry.batch, (suffix, value), tag);
    }
    values.is_empty().then(|| rows.finish(shape, base))
}

/// The columns of numbers.
fn numbers(reader: &mut Reader<'_>, count: usize) -> Option<Vec<Numbers>> {
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let (shared, kind) = of_lead(reader.varint()?)?;
        entries.push(Numbers { shared, suffix: 0, value: 0, kind, batch: 0 });
    }
    for entry in &mut entries {
        entry.suffix = reader.length()?.checked_sub(entry.shared)?;
    }
    for entry in &mut entries {
        entry.value = reader.length()?;
    }
    for entry in &mut entries {
        entry.batch = reader.varint()?;
    }
    Some(entries)
}

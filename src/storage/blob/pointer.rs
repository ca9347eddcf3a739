//! What a table holds in the place of a value that stands in a blob file.
//!
//! The first bytes of the value stay with the key: what the caller's compaction filter is shown, so
//! that a merge decides about an entry without reading its value.

use super::record::RECORD_HEAD_BYTES;
use crate::storage::coding::{Reader, put_length, put_varint};
use crate::storage::options::ENGINE_VALUE_BYTES_MAX;

/// How many of the first bytes of a value stand in the table.
const VALUE_HEAD_BYTES: usize = 64;

/// The part of a value that a compaction filter is shown, wherever the value stands.
pub(crate) fn head_of(value: &[u8]) -> &[u8] {
    value.get(..VALUE_HEAD_BYTES).unwrap_or(value)
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer<'a> {
    /// Number of the blob file in the list of the table.
    pub(crate) slot: usize,
    /// Where in that file the record begins.
    pub(crate) offset: u64,
    /// Length of the record.
    pub(crate) bytes: usize,
    /// Length of the value.
    pub(crate) length: usize,
    /// The first bytes of the value, see [`head_of`].
    pub(crate) head: &'a [u8],
}

impl<'a> Pointer<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_length(out, self.slot);
        put_varint(out, self.offset);
        put_length(out, self.bytes);
        put_length(out, self.length);
        out.extend_from_slice(self.head);
    }

    /// Takes the bytes of an entry apart; `None` if they are no pointer.
    pub(crate) fn decode(entry: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(entry);
        let slot = reader.length()?;
        let offset = reader.varint()?;
        let bytes = reader.length()?;
        let length = reader.length().filter(|length| *length <= ENGINE_VALUE_BYTES_MAX)?;
        let head = reader.bytes(length.min(VALUE_HEAD_BYTES))?;
        // What is stored is never longer than the value: this bounds what is read for it.
        let stored = bytes.checked_sub(RECORD_HEAD_BYTES)?;
        (stored <= length && reader.is_empty()).then_some(Self {
            slot,
            offset,
            bytes,
            length,
            head,
        })
    }
}

/// Takes any bytes for a pointer: what can be taken apart is the same when it is put together.
#[cfg(debug_assertions)]
pub(crate) fn check_any_pointer(entry: &[u8]) {
    let Some(pointer) = Pointer::decode(entry) else { return };
    let mut again = Vec::new();
    pointer.encode(&mut again);
    assert_eq!(Pointer::decode(&again), Some(pointer), "a pointer reads back as another");
    assert!(again.len() <= entry.len(), "numbers are written as short as they can be");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_reads_back_and_a_cut_one_does_not() {
        let value = vec![7; 300];
        let pointer =
            Pointer { slot: 3, offset: 1 << 33, bytes: 225, length: 300, head: head_of(&value) };
        let mut bytes = Vec::new();
        pointer.encode(&mut bytes);
        assert_eq!(Pointer::decode(&bytes), Some(pointer));
        for cut in 0..bytes.len() {
            assert_eq!(Pointer::decode(&bytes[..cut]), None);
        }
        bytes.push(0);
        assert_eq!(Pointer::decode(&bytes), None);
    }

    #[test]
    fn a_pointer_to_more_than_a_value_can_be_is_refused() {
        for (bytes, length) in [(24, 0), (126, 100), (1 << 40, 100), (30, 3 << 20)] {
            let mut entry = Vec::new();
            let head = &[0; 100][..VALUE_HEAD_BYTES.min(length)];
            Pointer { slot: 0, offset: 0, bytes, length, head }.encode(&mut entry);
            assert_eq!(Pointer::decode(&entry), None, "{bytes} {length}");
        }
    }
}

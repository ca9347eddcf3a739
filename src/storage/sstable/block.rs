//! One block: entries with shared key prefixes left out, restart points, and a trailer.
//!
//! Decides the bytes of a data block and the trailer that every block, the index too, ends with.

use bytes::Bytes;

use crate::storage::batch::{Kind, Seqno};
use crate::storage::coding::{
    Reader, checksum_holds, length_u32, placed_checksum, put_length, put_varint,
};
use crate::storage::files::FileNo;
use crate::storage::iter::Entry;

/// Every so many entries the whole key is written.
const RESTART_INTERVAL: usize = 16;
/// Compression byte and checksum.
pub(super) const TRAILER_BYTES: usize = 9;
/// The block is stored as it is. Other numbers are for compressed blocks.
const COMPRESSION_NONE: u8 = 0;

/// Collects the entries of a block.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    count: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    pub(super) fn add(&mut self, entry: &Entry) {
        let shared = if self.count.is_multiple_of(RESTART_INTERVAL) {
            self.restarts.push(length_u32(self.bytes.len()));
            0
        } else {
            self.last_key.iter().zip(&entry.key).take_while(|(a, b)| a == b).count()
        };
        let suffix = entry.key.get(shared..).unwrap_or_default();
        put_length(&mut self.bytes, shared);
        put_length(&mut self.bytes, suffix.len());
        self.bytes.push(Kind::of(entry.value.as_ref()).byte());
        put_varint(&mut self.bytes, entry.seqno.0);
        if let Some(value) = &entry.value {
            put_length(&mut self.bytes, value.len());
        }
        self.bytes.extend_from_slice(suffix);
        self.bytes.extend_from_slice(entry.value.as_deref().unwrap_or_default());
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(suffix);
        self.count += 1;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Ends the block and makes the builder ready for the next. Returns its body, to be sealed.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut body = std::mem::take(&mut self.bytes);
        for restart in &self.restarts {
            body.extend_from_slice(&restart.to_le_bytes());
        }
        body.extend_from_slice(&length_u32(self.restarts.len()).to_le_bytes());
        *self = Self::default();
        body
    }
}

/// Adds the trailer to a body that will stand at `offset` of file `no`.
pub(super) fn seal(mut body: Vec<u8>, no: FileNo, offset: u64) -> Vec<u8> {
    body.push(COMPRESSION_NONE);
    let sum = placed_checksum(&body, u64::from(no), offset);
    body.extend_from_slice(&sum.to_le_bytes());
    body
}

/// Checks the trailer and takes it off; says what is wrong otherwise.
pub(super) fn unseal(stored: Bytes, no: FileNo, offset: u64) -> Result<Bytes, &'static str> {
    let split = stored.len().checked_sub(8).ok_or("block is cut short")?;
    let (sealed, sum) = stored.split_at_checked(split).ok_or("block is cut short")?;
    let sum = Reader::new(sum).u64().ok_or("block is cut short")?;
    if !crate::mutant!("storage-no-block-checksum")
        && !checksum_holds(sealed, u64::from(no), offset, sum)
    {
        return Err("block checksum does not match");
    }
    match sealed.split_last() {
        Some((&COMPRESSION_NONE, body)) => Ok(stored.slice_ref(body)),
        Some(_) => Err("block has an unknown compression"),
        None => Err("block is cut short"),
    }
}

/// A block that has been read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    body: Bytes,
    /// Where the entries end and the restart points begin.
    entries_end: usize,
    restarts: usize,
}

impl Block {
    pub(crate) fn parse(body: Bytes) -> Option<Self> {
        let count_at = body.len().checked_sub(4)?;
        let restarts = usize::try_from(Reader::new(body.get(count_at..)?).u32()?).ok()?;
        let entries_end = count_at.checked_sub(restarts.checked_mul(4)?)?;
        Some(Self { body, entries_end, restarts })
    }

    /// Bytes it keeps in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len()
    }

    fn restart(&self, index: usize) -> Option<usize> {
        let at = self.entries_end + index * 4;
        let offset = Reader::new(self.body.get(at..at + 4)?).u32()?;
        usize::try_from(offset).ok().filter(|offset| *offset <= self.entries_end)
    }

    /// Decodes the entry at `offset`; `key` is the key before it and becomes its key. Returns the
    /// offset of the next.
    fn entry(&self, offset: usize, key: &mut Vec<u8>) -> Option<(Seqno, Option<Bytes>, usize)> {
        let rest = self.body.get(offset..self.entries_end)?;
        let mut reader = Reader::new(rest);
        let shared = reader.length().filter(|shared| *shared <= key.len())?;
        let suffix_length = reader.length()?;
        let kind = Kind::from_byte(reader.u8()?).filter(|kind| *kind != Kind::DeleteRange)?;
        let seqno = Seqno(reader.varint()?);
        let value_length = if kind == Kind::Put { Some(reader.length()?) } else { None };
        key.truncate(shared);
        key.extend_from_slice(reader.bytes(suffix_length)?);
        let value = match value_length {
            Some(length) => Some(self.body.slice_ref(reader.bytes(length)?)),
            None => None,
        };
        let next = self.entries_end - reader.remaining();
        Some((seqno, value, next))
    }

    /// The entry of `wanted`; the outer `None` is damage.
    pub(super) fn find(&self, wanted: &[u8]) -> Option<Option<Entry>> {
        let (mut low, mut high) = (0, self.restarts);
        let mut key = Vec::new();
        // The last restart point whose key is not above the wanted one.
        while low + 1 < high {
            let middle = low.midpoint(high);
            key.clear();
            self.entry(self.restart(middle)?, &mut key)?;
            if key.as_slice() <= wanted { low = middle } else { high = middle }
        }
        key.clear();
        let mut offset = self.restart(low)?;
        while offset < self.entries_end {
            let (seqno, value, next) = self.entry(offset, &mut key)?;
            match key.as_slice().cmp(wanted) {
                std::cmp::Ordering::Less => offset = next,
                std::cmp::Ordering::Equal => {
                    let key = Bytes::copy_from_slice(wanted);
                    return Some(Some(Entry { key, seqno, value }));
                }
                std::cmp::Ordering::Greater => break,
            }
        }
        Some(None)
    }

    /// All entries in order; `None` is damage: bytes that decode to nothing, or keys out of order.
    pub(super) fn entries(&self) -> Option<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut key = Vec::new();
        let mut offset = 0;
        while offset < self.entries_end {
            let (seqno, value, next) = self.entry(offset, &mut key)?;
            if entries.last().is_some_and(|last| last.key.as_ref() >= key.as_slice()) {
                return None;
            }
            entries.push(Entry { key: Bytes::copy_from_slice(&key), seqno, value });
            offset = next;
        }
        Some(entries)
    }
}

/// For `storage::fuzz`: takes bytes for a body, and then for entries of which a block is built.
#[cfg(debug_assertions)]
pub(crate) fn check_any_block(bytes: &Bytes) {
    let parsed = Block::parse(bytes.clone());
    let read = parsed.as_ref().and_then(|block| Some((block, block.entries()?)));
    if let Some((block, entries)) = read {
        // Restart points may be forged, so a search may fail; it may not panic.
        entries.iter().for_each(|entry| drop(block.find(&entry.key)));
    }
    let pieces = bytes.chunks(5).map(|piece| {
        let (key, value) = piece.split_at(piece.len().min(3));
        let seqno = Seqno(u64::from(piece.first().copied().unwrap_or_default()));
        let value = (!value.is_empty()).then(|| Bytes::copy_from_slice(value));
        (Bytes::copy_from_slice(key), Entry { key: Bytes::copy_from_slice(key), seqno, value })
    });
    let sorted: std::collections::BTreeMap<Bytes, Entry> = pieces.collect();
    let mut builder = BlockBuilder::default();
    sorted.values().for_each(|entry| builder.add(entry));
    let built = Block::parse(Bytes::from(builder.finish())).expect("a built block parses");
    let entries = built.entries().expect("a built block can be read");
    assert!(entries.iter().eq(sorted.values()), "a block reads back as another");
    for key in bytes.chunks(5).flat_map(|piece| [piece, piece.get(..3).unwrap_or(piece)]) {
        let found = if sorted.is_empty() { None } else { built.find(key).expect("it is sound") };
        assert_eq!(found.as_ref(), sorted.get(key), "a search finds something else");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: usize) -> Vec<Entry> {
        let entry = |index: usize| Entry {
            key: Bytes::from(format!("key{index:05}")),
            seqno: Seqno(index as u64 + 1),
            value: (!index.is_multiple_of(5)).then(|| Bytes::from(vec![7; index])),
        };
        (0..count).map(entry).collect()
    }

    fn build(entries: &[Entry]) -> Block {
        let mut builder = BlockBuilder::default();
        entries.iter().for_each(|entry| builder.add(entry));
        let sealed = Bytes::from(seal(builder.finish(), 3, 100));
        Block::parse(unseal(sealed, 3, 100).unwrap()).unwrap()
    }

    #[test]
    fn every_entry_is_found_and_nothing_between_them() {
        for count in [1, 15, 16, 17, 100] {
            let entries = sample(count);
            let block = build(&entries);
            assert_eq!(block.entries().unwrap(), entries);
            for entry in &entries {
                assert_eq!(block.find(&entry.key).unwrap().as_ref(), Some(entry));
                let mut beside = entry.key.to_vec();
                beside.push(b'x');
                assert_eq!(block.find(&beside), Some(None));
            }
            assert_eq!(block.find(b""), Some(None));
        }
    }

    #[test]
    fn a_block_at_another_place_is_refused() {
        let mut builder = BlockBuilder::default();
        sample(3).iter().for_each(|entry| builder.add(entry));
        let sealed = Bytes::from(seal(builder.finish(), 3, 100));
        assert!(unseal(sealed.clone(), 3, 100).is_ok());
        assert!(unseal(sealed.clone(), 4, 100).is_err());
        assert!(unseal(sealed, 3, 101).is_err());
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.usize(..80)).map(|_| rng.u8(..)).collect();
            if let Some(block) = Block::parse(Bytes::from(bytes)) {
                let _ = (block.entries(), block.find(b"key"));
            }
        }
    }
}

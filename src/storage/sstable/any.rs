//! Any bytes as a block, an index or a footer: what fuzzers call, through `storage::fuzz`.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::block::{Block, BlockShape};
use super::block_builder::BlockBuilder;
use super::block_cursor::BlockCursor;
use super::filter::key_hash;
use super::footer::Footer;
use super::index::{Index, Span};
use crate::storage::batch::Seqno;
use crate::storage::entry::{Entry, EntryRef};
use crate::storage::iter::Direction;

/// All entries in one direction, if they decode.
fn walk(block: &Block, direction: Direction) -> Option<Vec<Entry>> {
    let first = match direction {
        Direction::Forward => 0,
        Direction::Reverse => block.count().checked_sub(1)?,
    };
    let mut cursor = BlockCursor::new(block.clone(), first, Vec::new())?;
    let mut entries = Vec::new();
    loop {
        let EntryRef { key, seqno, kind, value } = cursor.entry();
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        entries.push(Entry { key, seqno, kind, value });
        if !cursor.step(direction)? {
            return Some(entries);
        }
    }
}

/// Takes bytes for a body, and then for entries of which a block is built.
pub(crate) fn check_any_block(bytes: &Bytes) {
    if let Some(block) = Block::parse(bytes.clone()) {
        // Anything may be forged, so a search may fail; it may not panic.
        let sound = block.is_sound();
        let backward = walk(&block, Direction::Reverse);
        let keys = [walk(&block, Direction::Forward), backward].into_iter().flatten().flatten();
        for Entry { key, .. } in keys {
            let _version = block.find(&key, key_hash(&key));
            let place = block.lower_bound(&key);
            assert!(!sound || place < Some(block.count()), "a search misses what a walk finds");
        }
    }
    let pieces = bytes.chunks(5).map(|piece| {
        let (key, value) = piece.split_at(piece.len().min(3));
        let seqno = Seqno(u64::from(piece.first().copied().unwrap_or_default()));
        let value = (!value.is_empty()).then(|| Bytes::copy_from_slice(value));
        let key = Bytes::copy_from_slice(key);
        (key.clone(), Entry::new(key, seqno, value))
    });
    let sorted: BTreeMap<Bytes, Entry> = pieces.collect();
    let first = bytes.first().copied().unwrap_or_default();
    let shape = BlockShape { restart: (first >> 1).max(1), tagged: first & 1 == 0 };
    let mut builder = BlockBuilder::new(shape);
    sorted.values().for_each(|entry| builder.add(entry.lend(), key_hash(&entry.key)));
    let built = Block::parse(Bytes::from(builder.rows())).expect("a built block parses");
    let columns = Block::parse(Bytes::from(builder.columns())).expect("one in columns does");
    assert_eq!(format!("{columns:?}"), format!("{built:?}"), "columns read back as other rows");
    if sorted.is_empty() {
        return;
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let mut entries = walk(&built, direction).expect("a built block can be read");
        if direction == Direction::Reverse {
            entries.reverse();
        }
        assert!(entries.iter().eq(sorted.values()), "a block reads back as another");
    }
    for key in bytes.chunks(5).flat_map(|piece| [piece, piece.get(..3).unwrap_or(piece)]) {
        let found = built.find(key, key_hash(key)).expect("it is sound");
        let found = found.map(|version| (version.seqno, version.kind, version.value));
        let held = sorted.get(key).cloned().map(|entry| (entry.seqno, entry.kind, entry.value));
        assert_eq!(found, held, "a search finds something else");
    }
}

/// Takes bytes for the body of an index block: what can be taken apart finds each of its keys.
pub(crate) fn check_any_index(bytes: &Bytes) {
    let Some(index) = Index::decode(bytes.clone()) else { return };
    let entries = walk(index.block(), Direction::Forward).unwrap_or_default();
    for (number, entry) in entries.iter().enumerate() {
        assert_eq!(index.find(&entry.key), Some(number), "an index does not find its separator");
    }
    for key in bytes.chunks(7) {
        index.find(key);
    }
}

/// Takes bytes for a footer that stands at `offset`: what it names lies before it.
pub(crate) fn check_any_footer(bytes: &[u8], offset: u64) {
    let Ok(footer) = Footer::decode(bytes, offset, Path::new("table")) else { return };
    let inside = |span: Span| span.end().is_some_and(|end| end <= offset);
    assert!(
        inside(footer.filter) && inside(footer.blobs) && inside(footer.index),
        "a footer names what is not there"
    );
}

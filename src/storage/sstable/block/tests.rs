//! What a block holds is found again, and what is damaged is told, with tags and without.

use super::*;
use crate::storage::entry::{Entry, EntryRef};
use crate::storage::iter::Direction;
use crate::storage::sstable::block_builder::BlockBuilder;
use crate::storage::sstable::block_cursor::BlockCursor;
use crate::storage::sstable::filter::key_hash;
use proptest::collection::{btree_map, vec};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

fn shape(restart: u8, tagged: bool) -> BlockShape {
    BlockShape { restart, tagged }
}

fn sample(count: usize) -> Vec<Entry> {
    let entry = |index: usize| {
        let value = (!index.is_multiple_of(5)).then(|| Bytes::from(vec![7; index]));
        Entry::new(Bytes::from(format!("key{index:05}")), Seqno(index as u64 + 900), value)
    };
    (0..count).map(entry).collect()
}

fn build(entries: &[Entry], shape: BlockShape) -> Block {
    let mut builder = BlockBuilder::new(shape);
    entries.iter().for_each(|entry| builder.add(entry.lend(), key_hash(&entry.key)));
    let block = Block::parse(Bytes::from(builder.rows())).unwrap();
    let same = Block::parse(Bytes::from(builder.columns())).unwrap();
    assert_eq!(same.body, block.body, "columns are those rows");
    block
}

fn find(block: &Block, key: &[u8]) -> Option<Option<Version>> {
    block.find(key, key_hash(key))
}

/// All entries in one direction.
fn walk(block: &Block, direction: Direction) -> Option<Vec<Entry>> {
    let first = match direction {
        Direction::Forward => 0,
        Direction::Reverse => block.count().checked_sub(1)?,
    };
    let mut cursor = BlockCursor::new(block.clone(), first, Vec::new())?;
    let mut entries = Vec::new();
    loop {
        let EntryRef { key, seqno, kind, value } = cursor.entry();
        assert_eq!(cursor.value(), value);
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        entries.push(Entry { key, seqno, kind, value });
        if !cursor.step(direction)? {
            return Some(entries);
        }
    }
}

#[test]
fn every_entry_is_found_and_nothing_between_them() {
    for (count, restart, tagged) in [
        (1, 16, true),
        (15, 16, true),
        (16, 16, false),
        (17, 16, true),
        (100, 1, false),
        (100, 255, true),
        // More than tags are made for, and more bytes than two bytes count.
        (513, 16, true),
        (600, 7, true),
    ] {
        let entries = sample(count);
        let block = build(&entries, shape(restart, tagged));
        let mut reversed = walk(&block, Direction::Reverse).unwrap();
        reversed.reverse();
        assert_eq!(reversed, entries);
        assert_eq!(walk(&block, Direction::Forward).unwrap(), entries);
        for (index, entry) in entries.iter().enumerate() {
            let found = find(&block, &entry.key).unwrap().unwrap();
            let Entry { seqno, kind, value, .. } = entry.clone();
            assert_eq!(found, Version { seqno, kind, value });
            assert_eq!(block.lower_bound(&entry.key), Some(index));
            let mut beside = entry.key.to_vec();
            beside.push(b'x');
            assert_eq!(find(&block, &beside), Some(None));
            assert_eq!(block.lower_bound(&beside), Some(index + 1));
        }
        assert_eq!(find(&block, b""), Some(None));
    }
}

#[test]
fn a_pointer_is_carried_like_a_value() {
    let mut entries = sample(3);
    entries[1].kind = Kind::Pointer;
    let block = build(&entries, shape(16, true));
    assert_eq!(walk(&block, Direction::Forward).unwrap(), entries);
    assert_eq!(find(&block, b"key00001").unwrap().unwrap().kind, Kind::Pointer);
}

#[test]
fn keys_with_one_tag_are_told_apart() {
    // Of 300 keys many share one of 256 tags.
    let entries = sample(300);
    let block = build(&entries, shape(16, true));
    let found = |entry: &&Entry| find(&block, &entry.key).unwrap().is_some();
    assert_eq!(entries.iter().filter(found).count(), 300);
    let _armed = crate::testing::arm_mutant("storage-tag-collision-is-absent");
    assert!(entries.iter().filter(found).count() < 300, "the planted bug is caught here");
}

proptest! {
    #[test]
    fn a_block_holds_what_was_put_in(
        pairs in btree_map(vec(0u8..3, 0..6), vec(any::<u8>(), 0..9), 1..60),
        restart in 1u8..20, tagged in any::<bool>(), wanted in vec(0u8..3, 0..6),
    ) {
        let entry = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            Entry::new(key.clone().into(), Seqno(value.len() as u64), Some(value.clone().into()))
        };
        let entries: Vec<Entry> = pairs.iter().map(entry).collect();
        let block = build(&entries, shape(restart, tagged));
        prop_assert!(block.is_sound());
        prop_assert_eq!(walk(&block, Direction::Forward).unwrap(), entries);
        let found = find(&block, &wanted).unwrap().map(|version| version.value.to_vec());
        prop_assert_eq!(found.as_ref(), pairs.get(&wanted));
        prop_assert_eq!(block.lower_bound(&wanted).unwrap(), pairs.range(..wanted).count());
    }

    #[test]
    fn random_bytes_never_panic(mut body in vec(any::<u8>(), 0..120), tail in any::<[u8; 4]>()) {
        // With a tail that may be one, or the parser gives up before it begins.
        body.extend([0; 8]);
        body.extend([tail[0] % 12, 0, 0, 0, 1 + tail[1] % 4, tail[2] % 2, tail[3] % 2, 0]);
        if let Some(block) = Block::parse(Bytes::from(body)) {
            if block.is_sound() {
                let mut reverse = walk(&block, Direction::Reverse).unwrap();
                reverse.reverse();
                prop_assert_eq!(walk(&block, Direction::Forward).unwrap(), reverse);
            }
            let _ = (walk(&block, Direction::Forward), walk(&block, Direction::Reverse));
            let _ = (find(&block, b"key"), block.lower_bound(b"key"));
            prop_assert!(block.count() < 12);
        }
    }
}

//! The memtable against an ordered map, in all its orders of keys, and the law of its booking.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use xxhash_rust::xxh3::xxh3_64;

use super::{ChunkPool, Memtable};
use crate::storage::batch::{Batch, Kind, SealedBatch, Seqno};
use crate::storage::entry::Entry;
use crate::storage::iter::{Direction, Range};

type Version = (u64, Option<Vec<u8>>);
type Model = BTreeMap<Vec<u8>, Vec<Version>>;

/// Keys of several shapes: short ones of few letters, numbers in order and at random, long shared
/// beginnings with every ending, groups of runs.
fn key(shape: u8, index: u64, rng: &mut Rng) -> Vec<u8> {
    match shape {
        0 => (0..rng.usize(0..6)).map(|_| rng.u8(b'a'..b'd')).collect(),
        1 => format!("{:016}", rng.u64(..3_000)).into_bytes(),
        2 => {
            let mut key = vec![b'x'; rng.usize(0..40)];
            key.extend((0..rng.usize(0..3)).map(|_| rng.u8(..3)));
            key
        }
        3 => format!("{index:016}").into_bytes(),
        _ => {
            format!("\u{1}{}user{:012}", rng.u8(b'a'..b'q') as char, rng.u32(..5_000)).into_bytes()
        }
    }
}

fn fill(shape: u8, batches: u64, rng: &mut Rng) -> (Memtable, Model) {
    let memtable = Memtable::new(&Arc::new(ChunkPool::new(0)));
    let mut model = Model::new();
    for seqno in 1..=batches {
        let mut batch = Batch::new();
        let mut versions = Vec::new();
        for _ in 0..rng.usize(1..4) {
            let key = key(shape, seqno, rng);
            if rng.u8(..5) == 0 {
                batch.delete(&key);
                versions.push((key, None));
            } else {
                let length = if rng.u16(..300) == 0 { 20_000 } else { rng.usize(..30) };
                let value = vec![rng.u8(..); length];
                batch.put(&key, &value);
                versions.push((key, Some(value)));
            }
        }
        let batch = batch.seal().unwrap();
        let (before, cost) = (memtable.bytes(), memtable.cost(&batch));
        memtable.insert(&batch, Seqno(seqno));
        assert!(memtable.bytes() <= before + cost, "{before} {cost} {}", memtable.bytes());
        if rng.u8(..10) == 0 {
            memtable.undo(&batch, Seqno(seqno));
        } else {
            for (key, value) in versions {
                model.entry(key).or_default().push((seqno, value));
            }
        }
    }
    (memtable, model)
}

fn at(versions: &[Version], seqno: u64) -> Option<&Version> {
    versions.iter().rev().find(|version| version.0 <= seqno)
}

fn range(shape: u8, rng: &mut Rng) -> Range {
    let mut bound = || {
        let key = Bytes::from(key(shape, 7, rng));
        match rng.u8(..3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(key),
            _ => Bound::Excluded(key),
        }
    };
    Range { start: bound(), end: bound() }
}

#[test]
fn a_memtable_reads_like_a_map_at_every_number_and_in_both_directions() {
    for seed in 0..150 {
        let mut rng = Rng::with_seed(seed);
        let shape = rng.u8(..5);
        let batches = rng.u64(1..2_000);
        let (memtable, model) = fill(shape, batches, &mut rng);
        assert_eq!(memtable.keys(), model.len() as u64, "seed {seed}");
        let seqno = if rng.bool() { u64::MAX } else { rng.u64(..=batches) };
        for index in 0..200 {
            let key = key(shape, index, &mut rng);
            let found = memtable.get(&key, Seqno(seqno));
            let found = found.map(|(seqno, value)| (seqno.0, value.map(|value| value.to_vec())));
            let expected = model.get(&key).and_then(|versions| at(versions, seqno));
            assert_eq!(found.as_ref(), expected, "seed {seed}");
        }
        for direction in [Direction::Forward, Direction::Reverse].repeat(10) {
            let (range, limit) = (range(shape, &mut rng), rng.usize(1..100));
            let chunk = memtable.chunk(&range, direction, Seqno(seqno), limit).into_iter();
            let found: Vec<_> = chunk
                .map(|entry| (entry.key.to_vec(), (entry.seqno.0, value_of(&entry))))
                .collect();
            let inside = model
                .iter()
                .filter(|(key, _)| range.is_after_start(key) && range.is_before_end(key))
                .filter_map(|(key, versions)| Some((key.clone(), at(versions, seqno)?.clone())));
            let expected: Vec<_> = match direction {
                Direction::Forward => inside.take(limit).collect(),
                Direction::Reverse => inside.rev().take(limit).collect(),
            };
            assert!(found == expected, "seed {seed}: {range:?} {direction:?}");
        }
    }
}

#[test]
fn a_memtable_that_is_dropped_leaves_its_chunks_for_the_next() {
    let pool = Arc::new(ChunkPool::new(3 << 20));
    let fill = || {
        let memtable = Memtable::new(&pool);
        for seqno in 1..=6_000u64 {
            let mut batch = Batch::new();
            batch.put(&seqno.to_le_bytes(), &[7; 1_000]);
            memtable.insert(&batch.seal().unwrap(), Seqno(seqno));
        }
        memtable
    };
    let first = fill();
    assert_eq!(pool.bytes(), 0);
    drop(first);
    // No more than a memtable's worth is kept.
    assert_eq!(pool.bytes(), 3 << 20);
    let second = fill();
    assert_eq!(pool.bytes(), 0);
    for seqno in 1..=6_000u64 {
        assert_eq!(
            second.get(&seqno.to_le_bytes(), Seqno(seqno)).unwrap().1.unwrap(),
            [7; 1_000][..]
        );
    }
}

#[test]
fn what_a_memtable_counts_as_is_what_it_takes() {
    for shape in [1, 3, 4] {
        let mut rng = Rng::with_seed(7);
        let pool = Arc::new(ChunkPool::new(1 << 30));
        let memtable = Memtable::new(&pool);
        for seqno in 1.. {
            let mut batch = Batch::new();
            batch.put(&key(shape, seqno, &mut rng), &vec![1; rng.usize(..200)]);
            memtable.insert(&batch.seal().unwrap(), Seqno(seqno));
            if memtable.bytes() >= 24 << 20 {
                break;
            }
        }
        let (booked, nodes) = (memtable.bytes(), memtable.sorted.read().tree.bytes());
        drop(memtable);
        // Chunks below a mebibyte are freed: not one of them is left to be counted.
        let taken = pool.bytes() + nodes + (1 << 20);
        let share = booked as f64 / taken as f64;
        assert!((0.93..=1.0).contains(&share), "{booked} booked, {taken} taken");
    }
}

fn sealed(key: u64, entries: u32) -> SealedBatch {
    let mut batch = Batch::new();
    for entry in 0..entries {
        batch.put(&[key.to_be_bytes().as_slice(), &entry.to_be_bytes()].concat(), &[1; 50]);
    }
    batch.seal().unwrap()
}

#[test]
fn readers_beside_a_writer_see_batches_whole() {
    let memtable = Memtable::new(&Arc::new(ChunkPool::new(0)));
    let written = std::sync::atomic::AtomicU64::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seqno in 1..=60 {
                // Far more than goes in under one hold of the lock.
                memtable.insert(&sealed(seqno % 4, 2_000), Seqno(seqno));
                written.store(seqno, order);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while written.load(order) < 60 {
                    let seqno = written.load(order);
                    let range = Range { start: Bound::Unbounded, end: Bound::Unbounded };
                    let chunk =
                        memtable.chunk(&range, Direction::Forward, Seqno(seqno), usize::MAX);
                    assert_eq!(chunk.len() as u64, seqno.min(4) * 2_000);
                    assert!(chunk.iter().all(|entry| entry.seqno.0 + 4 > seqno));
                }
            });
        }
    });
}

fn value_of(entry: &Entry) -> Option<Vec<u8>> {
    (entry.kind != Kind::Delete).then(|| entry.value.to_vec())
}

/// Batches that come from the log lend their memtable nothing: all that they hold is copied.
#[test]
fn what_follows_a_record_longer_than_a_chunk_is_found_after_a_replay() {
    let memtable = Memtable::new(&Arc::new(ChunkPool::new(0)));
    let mut expected = Vec::new();
    for number in 0_u64..600 {
        let length = if number % 200 == 3 { 1 << 20 } else { 300 };
        let (key, value) =
            (number.to_be_bytes().to_vec(), vec![u8::try_from(number % 251).unwrap(); length]);
        let mut batch = Batch::new();
        batch.put(&key, &value);
        let sealed = batch.seal().unwrap();
        let payload = sealed.payload();
        let replayed = SealedBatch::decode(payload, xxh3_64(payload)).unwrap();
        let (before, cost) = (memtable.bytes(), memtable.cost(&replayed));
        memtable.insert(&replayed, Seqno(number + 1));
        assert!(memtable.bytes() <= before + cost, "{before} {cost} {}", memtable.bytes());
        expected.push((key, value));
    }
    for (key, value) in expected {
        let found = memtable.get(&key, Seqno(u64::MAX)).and_then(|(_, value)| value);
        assert!(found.as_deref() == Some(&value[..]), "{key:?} of {} bytes", value.len());
    }
}

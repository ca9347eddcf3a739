//! What is done before a flush, and what memory knows of the time behind the last one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use roundtable::storage::{
    Batch, Durability, Engine, FaultyVfs, KeyRange, Options, Recovery, Seqno, ThreadMode,
};
use roundtable::testing::arm_mutant;

use crate::harness::DIR;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(disk: &FaultyVfs, holds_flushes: bool) -> (Engine, Recovery) {
    let options = Options {
        threads: ThreadMode::Inline,
        memtable_bytes: 2_000,
        holds_flushes,
        ..Options::default()
    };
    Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap()
}

fn write(engine: &Engine, batch: Batch) -> Seqno {
    let seqno = engine.submit(batch, Durability::Synced, Box::new(|done| assert!(done.is_ok())));
    while engine.step() {}
    seqno.unwrap()
}

fn put(key: u8, value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(&[key], value);
    batch
}

#[test]
fn a_store_that_holds_flushes_begins_none_before_it_is_told_what_to_do_before() {
    let disk = FaultyVfs::new(1);
    let (engine, _) = open(&disk, true);
    let last = (0..8).fold(Seqno(0), |_, key| write(&engine, put(key, &[key; 700])));
    engine.request_flush().unwrap();
    while engine.step() {}
    assert_eq!(engine.stats().flushes, 0);
    let (calls, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (called, newest) = (Arc::clone(&calls), Arc::clone(&seen));
    engine.before_flush(Box::new(move |moment| {
        moment.settle().unwrap();
        called.fetch_add(1, Ordering::Relaxed);
        newest.store(moment.visible().0, Ordering::Relaxed);
    }));
    while engine.step() {}
    let flushes = engine.stats().flushes;
    assert!(flushes > 1);
    assert_eq!(calls.load(Ordering::Relaxed), flushes, "before each");
    assert_eq!(seen.load(Ordering::Relaxed), last.0);
    drop(engine);
    assert_eq!(open(&disk, false).1.flushed, last);
}

/// What had been flushed when the power failed during what is done before a flush.
fn flushed_before() -> Recovery {
    let disk = FaultyVfs::new(1);
    let (engine, _) = open(&disk, true);
    write(&engine, put(1, b"v"));
    let own = disk.clone();
    engine.before_flush(Box::new(move |_| own.crash()));
    // Whether it says so depends on what it had done by then.
    let _ended = engine.flush();
    drop(engine);
    disk.restart();
    open(&disk, false).1
}

#[test]
fn the_log_has_all_that_a_flush_covers_when_it_is_asked_what_is_to_be_done_before() {
    let recovery = flushed_before();
    assert_eq!((recovery.flushed, recovery.batches), (Seqno(0), 1));
    let _armed = arm_mutant("storage-hook-after-flush");
    assert_eq!(flushed_before().flushed, Seqno(1));
}

/// One batch, of puts, deletes and now and then a deleted range, and what it makes of a state.
fn change(rng: &mut Rng, state: &mut State) -> Batch {
    let mut batch = Batch::new();
    if rng.u8(..6) == 0 {
        let (start, end) = (rng.u8(..16), rng.u8(..18));
        batch.delete_range(&KeyRange::between(&[start], &[end]));
        state.retain(|key, _| key[0] < start || key[0] >= end);
    }
    for _ in 0..rng.usize(1..4) {
        let key = vec![rng.u8(..16)];
        if rng.bool() {
            let value = vec![rng.u8(..); rng.usize(..200)];
            batch.put(&key, &value);
            state.insert(key, value);
        } else {
            batch.delete(&key);
            state.remove(&key);
        }
    }
    batch
}

#[test]
fn memory_tells_what_has_changed_since_and_what_was_there_then() {
    for seed in 0..200 {
        let (disk, mut rng) = (FaultyVfs::new(seed), Rng::with_seed(seed));
        let (engine, _) = open(&disk, false);
        let (mut state, mut states) = (State::new(), BTreeMap::new());
        for _ in 0..rng.usize(1..40) {
            let batch = change(&mut rng, &mut state);
            states.insert(write(&engine, batch), state.clone());
        }
        drop(engine);
        // Nothing that was recovered is flushed: the snapshot would see what came later in tables.
        let (engine, recovery) = open(&disk, true);
        let snapshot = engine.snapshot();
        states.insert(Seqno(0), State::new());
        for (seqno, then) in states.range(recovery.flushed..) {
            let range = KeyRange::between(&[rng.u8(..8)], &[rng.u8(8..18)]);
            let since = snapshot.since(&range, *seqno).expect("no table is newer");
            let earlier = snapshot.at(*seqno);
            for key in 0..16 {
                let key = [key];
                let (was, is) = (then.get(&key[..]), state.get(&key[..]));
                let found = earlier.get(&key).unwrap().map(|(value, _)| value.to_vec());
                assert_eq!(found.as_ref(), was, "seed {seed}, key {key:?} at {seqno:?}");
                let is_told = since.keys.iter().any(|told| told[..] == key)
                    || since.deleted.iter().any(|told| told.contains(&key));
                assert!(is_told || was == is || !range.contains(&key), "seed {seed}, key {key:?}");
            }
            assert!(since.keys.is_sorted() && since.keys.iter().all(|key| range.contains(key)));
            if *seqno == recovery.last {
                assert!(since.keys.is_empty() && since.deleted.is_empty());
            }
        }
    }
}

#[test]
fn what_came_later_and_is_in_a_table_is_not_told_by_memory() {
    let (engine, _) = open(&FaultyVfs::new(1), false);
    let first = write(&engine, put(1, b"v"));
    let second = write(&engine, put(2, b"v"));
    engine.flush().unwrap();
    let third = write(&engine, put(3, b"v"));
    let snapshot = engine.snapshot();
    let told = |range: &[u8], seqno| snapshot.since(&KeyRange::prefix(range), seqno);
    assert_eq!(told(&[], first), None);
    assert_eq!(told(&[3], first).unwrap().keys, [[3_u8].to_vec()], "no table has any of it");
    assert_eq!(told(&[], second).unwrap().keys, [[3_u8].to_vec()]);
    assert!(told(&[], third).unwrap().keys.is_empty());
}

//! Deleted ranges from outside: what they hide, what they spare, and what becomes of the files.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use roundtable::storage::{
    Batch, Compression, Direction, Durability, Engine, Error, FaultyVfs, KeyRange, LEVEL_COUNT,
    Options, Snapshot, ThreadMode,
};

use crate::harness::{DIR, State, dump};

fn options() -> Options {
    Options {
        threads: ThreadMode::Inline,
        block_bytes: 256,
        table_bytes: 4_000,
        // Values of one byte again and again would make few tables of many.
        compression: [Compression::None; LEVEL_COUNT],
        ..Options::default()
    }
}

fn open(disk: &FaultyVfs) -> Engine {
    Engine::open(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap().0
}

fn key(number: u32) -> Vec<u8> {
    format!("key{number:05}").into_bytes()
}

fn put(engine: &Engine, numbers: impl Iterator<Item = u32>, value: &[u8]) {
    let mut batch = Batch::new();
    numbers.for_each(|number| batch.put(&key(number), value));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    while engine.step() {}
}

fn step(engine: &Engine) {
    while engine.step() {}
}

fn seen(snapshot: &Snapshot) -> State {
    let pairs = snapshot.range(Bound::Unbounded, Bound::Unbounded, Direction::Reverse);
    pairs.map(|pair| pair.map(|(k, v, _)| (k.to_vec(), v.to_vec())).unwrap()).collect()
}

/// A packed store of many tables in the last level.
fn store() -> (FaultyVfs, Engine) {
    let disk = FaultyVfs::new(3);
    let engine = open(&disk);
    put(&engine, (0..1_000).step_by(2), &[7; 40]);
    engine.flush().unwrap();
    put(&engine, (1..1_000).step_by(2), &[7; 40]);
    engine.compact().unwrap();
    assert!(engine.stats().tables > 8);
    (disk, engine)
}

#[test]
fn whole_tables_go_by_an_edit_and_only_those_across_the_edges_are_rewritten() {
    let (disk, engine) = store();
    let before = engine.stats();
    let written = disk.counts().bytes_written;
    engine.delete_range(&KeyRange::between(&key(210), &key(790))).unwrap();
    assert_eq!(engine.get(&key(210)).unwrap(), None, "hidden before any table is touched");
    step(&engine);
    let after = engine.stats();
    assert_eq!(after.deleted_ranges, 0, "nothing is left to hide");
    assert_eq!(after.dropped_hidden, 580);
    assert!(after.tables < before.tables - 3, "{} of {} tables left", after.tables, before.tables);
    assert_eq!(after.compactions - before.compactions, 2, "one rewrite for each edge");
    // Two tables at most are written again, and some edits.
    let written = disk.counts().bytes_written - written;
    assert!(written < 2 * 4_500 + 2_000, "{written} bytes written for a deleted range");
    let left: Vec<u32> = (0..1_000).filter(|n| engine.get(&key(*n)).unwrap().is_some()).collect();
    assert_eq!(left, (0..210).chain(790..1_000).collect::<Vec<_>>());
    assert!(engine.verify().errors.is_empty());
    drop(engine);
    assert_eq!(dump(&open(&disk)).unwrap().len(), 420);
}

#[test]
fn snapshots_taken_before_see_everything_until_they_are_dropped() {
    let (disk, engine) = store();
    put(&engine, 990..1_010, b"in memory");
    let (snapshot, before) = (engine.snapshot(), dump(&engine).unwrap());
    let files = disk.files();
    let tables = || disk.files().iter().filter(|file| files.contains(file)).count();
    let all = tables();
    engine.delete_range(&KeyRange::all()).unwrap();
    engine.compact().unwrap();
    assert_eq!(dump(&engine).unwrap(), State::new());
    assert_eq!(engine.stats().table_bytes, 0);
    assert_eq!(seen(&snapshot), before);
    assert_eq!(snapshot.get(&key(995)).unwrap().unwrap().0, "in memory");
    let pinned = tables();
    drop(snapshot);
    assert!(tables() + 8 < pinned && pinned <= all, "{} {pinned} {all}", tables());
}

#[test]
fn what_comes_later_stays_and_a_batch_keeps_its_own_puts() {
    let (disk, mut engine) = store();
    let range = KeyRange::prefix(b"key00");
    let mut batch = Batch::new();
    batch.put(&key(5), b"of the batch");
    batch.delete_range(&range);
    batch.put(&key(6), b"of the batch");
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    put(&engine, 7..9, b"later");
    for _ in 0..4 {
        assert_eq!(dump(&engine).unwrap().len(), 4);
        assert_eq!(engine.get(&key(5)).unwrap().unwrap().0, "of the batch");
        assert_eq!(engine.get(&key(8)).unwrap().unwrap().0, "later");
        assert_eq!(engine.get(&key(9)).unwrap(), None);
        // From memory, from the log, from a table, from the last level.
        match engine.stats().flushed.0 {
            2 => {
                drop(engine);
                engine = open(&disk);
                engine.request_flush().unwrap();
                while engine.has_flush_work() && engine.step() {}
            }
            _ => engine.compact().unwrap(),
        }
    }
    assert_eq!(engine.stats().levels.last().unwrap().entries, 4);
}

#[test]
fn too_many_deleted_ranges_are_refused_until_merges_catch_up() {
    let (_disk, engine) = store();
    let refusal = (0..1_100u32).find_map(|n| {
        let mut batch = Batch::new();
        batch.delete_range(&KeyRange::between(
            &key(n % 1_000),
            &[&key(n % 1_000)[..], b"a"].concat(),
        ));
        engine.submit(batch, Durability::Default, Box::new(|_| {})).err()
    });
    let expected = Error::Overloaded { unit: "deleted ranges", waiting: 1_024, limit: 1_024 };
    assert_eq!(refusal.unwrap().to_string(), expected.to_string());
    engine.flush().unwrap();
    step(&engine);
    assert_eq!(engine.stats().deleted_ranges, 0);
    engine.delete_range(&KeyRange::all()).unwrap();
}

#[test]
fn a_bound_that_is_too_long_is_refused_and_an_empty_range_is_nothing() {
    let (_disk, engine) = store();
    let long = KeyRange::starting_at(&vec![0; 9_000]);
    assert!(matches!(engine.delete_range(&long), Err(Error::TooLong { what: "key", .. })));
    engine.delete_range(&KeyRange::between(b"z", b"a")).unwrap();
    assert_eq!(dump(&engine).unwrap().len(), 1_000);
}

fn range(number: u32) -> Batch {
    let mut batch = Batch::new();
    batch.delete_range(&KeyRange::prefix(&key(number)));
    batch
}

#[test]
fn at_their_bound_deleted_ranges_in_memory_are_flushed_though_nobody_asks_for_it() {
    let engine = open(&FaultyVfs::new(3));
    let mut refusals = 0;
    for number in 0..3_000 {
        while let Err(error) = engine.submit(range(number), Durability::Default, Box::new(|_| {})) {
            assert!(matches!(error, Error::Overloaded { unit: "deleted ranges", .. }), "{error}");
            refusals += 1;
            assert!(engine.step(), "nothing is left to do, and range {number} is refused");
        }
    }
    assert!(refusals > 0);
}

#[test]
fn a_writer_of_deleted_ranges_waits_for_room_and_gets_it() {
    let options = Options { threads: ThreadMode::Threaded, ..options() };
    let disk = Arc::new(FaultyVfs::new(3));
    let (engine, _) = Engine::open(disk, Path::new(DIR), options).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let writer = engine.clone();
    let write = move || {
        let written = (0..1_100).try_for_each(|number| writer.write(range(number)).map(drop));
        let _late = sender.send(written);
    };
    // Not joined: it may wait for ever, and is not to keep the test waiting.
    let _thread = std::thread::Builder::new().spawn(write).unwrap();
    let written = receiver.recv_timeout(std::time::Duration::from_secs(30));
    written.expect("a write waits for ever").unwrap();
}

#[test]
fn a_batch_with_more_deleted_ranges_than_may_ever_wait_is_refused_for_good() {
    let engine = open(&FaultyVfs::new(3));
    let mut batch = Batch::new();
    (0..1_025).for_each(|number| batch.delete_range(&KeyRange::prefix(&key(number))));
    let refused = engine.submit(batch, Durability::Default, Box::new(|_| {})).err();
    assert!(matches!(refused, Some(Error::TooMany { count: 1_025, limit: 1_024, .. })));
    let mut batch = Batch::new();
    (0..1_024).for_each(|number| batch.delete_range(&KeyRange::prefix(&key(number))));
    engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
}

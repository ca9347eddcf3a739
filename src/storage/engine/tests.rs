//! What the interface of the crate alone can do: quiet submissions, and groups of the caller.
#![expect(
    clippy::disallowed_methods,
    reason = "threads that wait for each other are what is tested"
)]

mod hooked;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use core::time::Duration;
use parking_lot::Mutex;

use self::hooked::HookedVfs;
use super::Engine;
use crate::storage::{
    Batch, CompactionFilter, Durability, Error, FaultyVfs, KeyRange, MemoryVfs, Options, Seqno,
    SyncMode, ThreadMode,
};

const DIR: &str = "/store";

fn options() -> Options {
    // Small segments: the log thread has to begin new ones between the groups of the caller.
    let sync = SyncMode::Interval(Duration::from_millis(1));
    Options { sync, wal_segment_bytes: 4096, ..Options::default() }
}

fn put(index: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(&index.to_be_bytes(), b"value");
    batch
}

#[test]
fn groups_written_through_and_groups_of_the_log_thread_call_back_in_one_order() {
    let vfs = MemoryVfs::default();
    let (engine, _) = Engine::open(Arc::new(vfs.clone()), Path::new(DIR), options()).unwrap();
    let called = Arc::new(Mutex::new(Vec::new()));
    for index in 1..=3000_u64 {
        let called = Arc::clone(&called);
        let on_done = Box::new(move |result: Result<Seqno, Error>| {
            called.lock().push(result.expect("the disk is sound"));
        });
        let durability = if index % 50 == 0 { Durability::Synced } else { Durability::Default };
        let submitted = engine.submit_quietly(put(index), durability, on_done);
        assert_eq!(submitted.map_err(|(error, _)| error).unwrap(), Seqno(index));
        match index % 7 {
            0 => engine.wake_log(),
            1 | 2 | 4 => engine.write_through(),
            _ => {}
        }
    }
    engine.close().unwrap();
    assert_eq!(*called.lock(), (1..=3000).map(Seqno).collect::<Vec<_>>());

    let (again, recovery) = Engine::open(Arc::new(vfs), Path::new(DIR), options()).unwrap();
    assert_eq!(recovery.corrupt, []);
    for index in 1..=3000_u64 {
        assert!(again.get(&index.to_be_bytes()).unwrap().is_some(), "batch {index} is lost");
    }
}

#[test]
fn a_refused_batch_comes_back_with_its_callback_uncalled() {
    let vfs = Arc::new(MemoryVfs::default());
    let (engine, _) = Engine::open(vfs, Path::new(DIR), options()).unwrap();
    engine.close().unwrap();
    let called = Arc::new(Mutex::new(0));
    let count = Arc::clone(&called);
    let on_done = Box::new(move |_: Result<Seqno, Error>| *count.lock() += 1);
    let Err((error, on_done)) = engine.submit_quietly(put(1), Durability::Default, on_done) else {
        panic!("a closed engine takes nothing");
    };
    assert!(matches!(error, Error::Closed), "{error}");
    assert_eq!(*called.lock(), 0);
    on_done(Err(error));
    assert_eq!(*called.lock(), 1);
}

#[test]
fn a_sync_of_the_interval_that_fails_ends_all_writing() {
    let disk = FaultyVfs::new(1);
    // One segment only: no other sync than that of the interval can fail.
    let options = Options { wal_segment_bytes: 64 << 20, ..options() };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    disk.fail_syncs(1);
    let refusal = (1..).find_map(|index| engine.write(put(index)).err());
    assert!(matches!(refusal, Some(Error::ReadOnly { .. })), "{refusal:?}");
    assert!(engine.stats().read_only.is_some());
    assert!(engine.close().is_err());
}

#[test]
fn a_callback_that_panics_keeps_nobody_of_its_group_waiting() {
    let vfs = Arc::new(MemoryVfs::default());
    let options = Options { sync: SyncMode::Always, ..options() };
    let (engine, _) = Engine::open(vfs, Path::new(DIR), options).unwrap();
    let (go_on, wait) = std::sync::mpsc::channel();
    // As long as this one is called, the next group gathers.
    let first = Box::new(move |_: Result<Seqno, Error>| wait.recv().unwrap());
    engine.submit(put(1), Durability::Default, first).unwrap();
    while engine.core.commit.lock().waiting_bytes > 0 {
        std::thread::yield_now();
    }
    let panicking = Box::new(|_: Result<Seqno, Error>| panic!("this callback is made to fail"));
    engine.submit(put(2), Durability::Default, panicking).unwrap();
    let called = Arc::new(Mutex::new(false));
    let is_called = Arc::clone(&called);
    let (sender, written) = std::sync::mpsc::channel();
    let writer = engine.clone();
    std::thread::spawn(move || sender.send(writer.write(put(3))));
    while engine.core.commit.lock().queue.len() < 2 {
        std::thread::yield_now();
    }
    let last = Box::new(move |_: Result<Seqno, Error>| *is_called.lock() = true);
    engine.submit(put(4), Durability::Default, last).unwrap();
    go_on.send(()).unwrap();
    let written = written.recv_timeout(Duration::from_secs(10));
    assert_eq!(written.expect("the write returns").unwrap(), Seqno(3));
    // The thread that called is gone; what it had begun is at an end, and the store is read-only.
    assert!(engine.close().is_err());
    assert!(*called.lock());
    assert!(!engine.core.calling.load(std::sync::atomic::Ordering::Acquire));
    assert!(matches!(engine.write(put(5)), Err(Error::Closed)));
}

/// An inline engine that merges as soon as there is anything, an entry at a step.
fn merging(disk: &FaultyVfs, options: Options) -> Engine {
    let options =
        Options { threads: ThreadMode::Inline, l0_trigger: 2, compaction_step_bytes: 1, ..options };
    Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap().0
}

/// Flushes pairs and merges nothing.
fn flush_pairs(engine: &Engine, first: u8, count: u8) {
    let mut batch = Batch::new();
    (first..first + count).for_each(|key| batch.put(&[key], &[key; 20]));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    while engine.core.log_step() {}
    engine.request_flush().unwrap();
    assert!(engine.core.flush_step());
}

fn tables(disk: &FaultyVfs) -> Vec<PathBuf> {
    let is_table = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "sst");
    disk.files().into_iter().filter(is_table).collect()
}

#[test]
fn a_merge_on_its_way_keeps_the_files_of_its_inputs_only() {
    let disk = FaultyVfs::new(1);
    let engine = merging(&disk, Options::default());
    flush_pairs(&engine, 100, 20);
    let other = tables(&disk);
    flush_pairs(&engine, 0, 20);
    flush_pairs(&engine, 0, 20);
    let mut slots = VecDeque::new();
    assert!(engine.core.compact_step(&mut slots, 2).is_some());
    assert_eq!(slots.len(), 1, "the merge of the two is on its way");
    engine.delete_range(&KeyRange::starting_at(&[100])).unwrap();
    assert!(engine.core.flush_step());
    assert!(engine.core.compact_step(&mut slots, 2).is_some());
    assert_eq!((slots.len(), engine.stats().dropped_hidden), (1, 20));
    assert!(!tables(&disk).contains(&other[0]), "a table that is gone keeps its file");
    while engine.core.compact_step(&mut slots, 2).is_some() {}
    assert!((0..20).all(|key| engine.get(&[key]).unwrap().is_some()));
}

/// Says that it lets go of what it then keeps.
#[derive(Debug)]
struct Contradicting;

impl CompactionFilter for Contradicting {
    fn point(&self, _key: &[u8], _value: &[u8]) -> Option<u64> {
        Some(5)
    }

    fn horizon(&self, smallest: &[u8], largest: &[u8]) -> u64 {
        if smallest == largest { 0 } else { 9 }
    }
}

#[test]
fn the_books_of_merges_do_not_grow_with_tables_that_are_gone() {
    let disk = FaultyVfs::new(1);
    let filter = Some(Arc::new(Contradicting).into());
    let engine = merging(&disk, Options { filter, ..Options::default() });
    let futile = || engine.core.commit.lock().compacting.avoid.futile.len();
    let mut most = 0;
    for _ in 0..10 {
        flush_pairs(&engine, 0, 20);
        // Rewritten in vain, and then merged with what comes next.
        (0..8).for_each(|_| {
            engine.interval_elapsed();
            while engine.step() {}
        });
        most = most.max(futile());
    }
    assert!(most > 0, "no rewrite was in vain");
    assert!(futile() <= engine.stats().tables, "{} of {}", futile(), engine.stats().tables);
    engine.delete_range(&KeyRange::all()).unwrap();
    while engine.step() {}
    assert_eq!((engine.stats().tables, futile()), (0, 0));
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "wal")
}

#[test]
fn the_file_to_leave_a_flushed_log_for_is_made_with_the_log_free() {
    let disk = HookedVfs::default();
    let options = Options { threads: ThreadMode::Inline, ..options() };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    let (core, seen) = (Arc::clone(&engine.core), Arc::new(Mutex::new(Vec::new())));
    let held = Arc::clone(&seen);
    disk.tell(move |what, path| {
        if what == "create" && is_log(path) {
            held.lock().push(core.log.is_locked());
        }
    });
    flush_pairs(&engine, 0, 40);
    assert_eq!(*seen.lock(), [false]);
    // It was left for that file.
    assert_eq!(engine.core.log.lock().writer.written(), 0);
}

#[test]
fn who_waits_for_a_sync_of_another_has_the_log_free() {
    let options = Options { threads: ThreadMode::Inline, ..options() };
    let (engine, _) =
        Engine::open(Arc::new(MemoryVfs::default()), Path::new(DIR), options).unwrap();
    engine.submit(put(1), Durability::Default, Box::new(|_| {})).unwrap();
    while engine.core.log_step() {}
    let (core, syncing) = (Arc::clone(&engine.core), engine.core.syncing.lock());
    let thread = std::thread::spawn(move || core.sync_beside());
    std::thread::sleep(Duration::from_millis(100));
    let free = engine.core.log.try_lock_for(Duration::from_secs(5)).is_some();
    drop(syncing);
    thread.join().unwrap();
    assert!(free && engine.core.log.lock().is_synced());
}

#[test]
fn who_asks_for_no_sync_does_not_wait_for_that_of_another() {
    let disk = HookedVfs::default();
    let none = Options { sync: SyncMode::None, ..options() };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), none).unwrap();
    let (begun, wait) = std::sync::mpsc::channel();
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let (held, begun) = (Mutex::new(held), Mutex::new(begun));
    disk.tell(move |what, path| {
        if what == "sync" && is_log(path) {
            let _late = begun.lock().send(());
            // Until the other end is dropped.
            let _gone = held.lock().recv();
        }
    });
    // With segments that have ended before it, and without.
    engine.write(put(0)).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let order = Arc::clone(&order);
        Box::new(move |result: Result<Seqno, Error>| order.lock().push((what, result.unwrap())))
    };
    engine.submit(put(1), Durability::Synced, note("synced")).unwrap();
    wait.recv_timeout(Duration::from_secs(10)).expect("the sync begins");
    let (sender, written) = std::sync::mpsc::channel();
    for writer in 0..3 {
        let (engine, sender) = (engine.clone(), sender.clone());
        std::thread::spawn(move || {
            for index in 0..200 {
                engine.write(put(1_000 * writer + index)).unwrap();
            }
            sender.send(()).unwrap();
        });
    }
    for _ in 0..3 {
        written.recv_timeout(Duration::from_secs(20)).expect("writers do not wait for the sync");
    }
    assert_eq!(*order.lock(), [], "it is not synced yet");
    // Segments have ended meanwhile; callbacks keep their order.
    engine.submit(put(2), Durability::Default, note("written")).unwrap();
    engine.submit(put(3), Durability::Synced, note("synced too")).unwrap();
    drop(go_on);
    engine.close().unwrap();
    let called: Vec<_> = order.lock().iter().map(|(what, _)| *what).collect();
    assert_eq!(called, ["synced", "written", "synced too"]);
    assert!(engine.core.log.lock().ended.is_empty());
    drop(engine);
    let (engine, recovery) = Engine::open(Arc::new(disk), Path::new(DIR), options()).unwrap();
    assert_eq!((recovery.corrupt, recovery.last), (Vec::new(), Seqno(604)));
    assert!(engine.get(&3u64.to_be_bytes()).unwrap().is_some());
}

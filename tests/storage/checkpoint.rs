//! Checkpoints from outside: equal to a snapshot, apart from their store, and nothing half.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use roundtable::storage::vfs::{Fate, Fault};
use roundtable::storage::{
    Batch, Direction, Durability, Engine, Error, Export, FaultyVfs, KeyRange, Options, RealVfs,
    SyncMode, ThreadMode, check,
};

use crate::harness::{DIR, State, dump};

const COPY: &str = "/srv/copies/one";

fn options() -> Options {
    Options {
        threads: ThreadMode::Inline,
        memtable_bytes: 20_000,
        block_bytes: 256,
        table_bytes: 8_000,
        ..Options::default()
    }
}

fn open(disk: &FaultyVfs, dir: &str) -> Engine {
    Engine::open(Arc::new(disk.clone()), Path::new(dir), options()).unwrap().0
}

fn put(engine: &Engine, numbers: std::ops::Range<u32>, value: &[u8]) {
    for number in numbers {
        let mut batch = Batch::new();
        batch.put(&number.to_be_bytes(), value);
        engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
    }
}

/// Tables in two levels, deletes and deleted ranges among them, and more in memory.
fn store() -> (FaultyVfs, Engine) {
    let disk = FaultyVfs::new(1);
    let engine = open(&disk, DIR);
    put(&engine, 0..600, &[1; 50]);
    engine.compact().unwrap();
    put(&engine, 300..700, &[2; 40]);
    let mut batch = Batch::new();
    batch.delete(&5u32.to_be_bytes());
    batch.delete_range(&KeyRange::between(&320u32.to_be_bytes(), &333u32.to_be_bytes()));
    engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
    put(&engine, 325..327, b"after the range");
    (disk, engine)
}

#[test]
fn a_checkpoint_is_a_sound_store_with_what_was_there_and_nothing_later() {
    for links in [true, false] {
        let (disk, engine) = store();
        disk.set_links(links);
        while engine.stats().pending_bytes > 0 {
            engine.step();
        }
        let (before, room) = (dump(&engine).unwrap(), disk.bytes());
        let made = engine.checkpoint(Path::new(COPY)).unwrap();
        assert_eq!(made.seqno, engine.stats().last);
        // Linked, it takes the room of what was in memory.
        assert_eq!(made.bytes_copied < made.bytes, links, "{made:?}");
        let more = disk.bytes() - room;
        assert!(more >= made.bytes_copied && more < made.bytes_copied + 2_000, "{more} {made:?}");
        // What happens to either is not seen by the other.
        engine.delete_range(&KeyRange::all()).unwrap();
        engine.compact().unwrap();
        drop(engine);
        let checked = check(&disk, Path::new(COPY)).unwrap();
        assert!(checked.faults.is_empty(), "{:?}", checked.faults);
        let copy = open(&disk, COPY);
        assert_eq!(dump(&copy).unwrap(), before);
        assert_eq!(copy.stats().last, made.seqno);
        put(&copy, 0..10, b"of the copy");
        copy.compact().unwrap();
        assert!(copy.verify().errors.is_empty());
        assert_eq!(copy.get(&5u32.to_be_bytes()).unwrap().unwrap().0, "of the copy");
        assert_eq!(dump(&open(&disk, DIR)).unwrap(), State::new());
    }
}

#[test]
fn a_checkpoint_outlives_a_power_failure_however_many_directories_were_made_for_it() {
    let (disk, engine) = store();
    let before = dump(&engine).unwrap();
    let copy = "/srv/new/a/b";
    engine.checkpoint(Path::new(copy)).unwrap();
    let out = Path::new("/srv/exports/c/d");
    let export = engine.export(&KeyRange::all(), out).unwrap();
    disk.set_fate(Fate::Lost);
    disk.crash();
    disk.restart();
    assert!(check(&disk, Path::new(copy)).is_ok_and(|checked| checked.faults.is_empty()));
    assert_eq!(dump(&open(&disk, copy)).unwrap(), before);
    assert_eq!(Export::read(&disk, out).unwrap(), export);
}

#[test]
fn a_place_that_is_taken_is_refused_and_left_alone() {
    let (disk, engine) = store();
    disk.plant(&Path::new(COPY).join("notes.txt"), b"mine".to_vec());
    let refused = engine.checkpoint(Path::new(COPY));
    assert!(matches!(refused, Err(Error::Occupied { path }) if path == Path::new(COPY)));
    assert!(matches!(engine.checkpoint(Path::new(DIR)), Err(Error::Locked { .. })));
    assert_eq!(disk.content(&Path::new(COPY).join("notes.txt")).unwrap(), b"mine");
}

#[test]
fn an_error_of_any_call_of_a_checkpoint_costs_the_checkpoint_at_most() {
    let undisturbed = {
        let (_disk, engine) = store();
        while engine.step() {}
        engine.checkpoint(Path::new(COPY)).unwrap().bytes_copied
    };
    let (mut copies, mut refusals) = (0, 0);
    for call in 1.. {
        let (disk, engine) = store();
        while engine.step() {}
        let before = dump(&engine).unwrap();
        let first = disk.counts().calls;
        disk.fail_at(first + call, Fault::Eio);
        let made = engine.checkpoint(Path::new(COPY));
        if disk.counts().calls < first + call {
            break;
        }
        match made {
            Ok(made) => {
                // A table that cannot be linked is copied.
                copies += usize::from(made.bytes_copied > undisturbed);
                assert!(check(&disk, Path::new(COPY)).unwrap().faults.is_empty());
                assert_eq!(dump(&open(&disk, COPY)).unwrap(), before);
            }
            Err(error) => {
                assert!(matches!(error, Error::Io { .. }), "call {call}: {error}");
                refusals += 1;
                let left = disk.files().into_iter().filter(|path| path.starts_with(COPY));
                let left: Vec<_> = left.filter(|path| path.extension().is_some()).collect();
                assert!(left.is_empty(), "call {call} leaves {left:?}");
                let current = disk.content(&Path::new(COPY).join("CURRENT"));
                assert_eq!(current, None, "call {call} leaves a store");
            }
        }
        assert_eq!(dump(&engine).unwrap(), before);
        put(&engine, 0..1, b"it goes on");
        while engine.step() {}
        assert_eq!(engine.stats().read_only, None);
    }
    assert!(copies > 0 && refusals > 5, "{copies} copies, {refusals} refusals");
}

#[test]
fn a_full_disk_ends_a_checkpoint_without_a_trace() {
    let (disk, engine) = store();
    engine.step();
    let files = disk.files().len();
    while engine.step() {}
    disk.set_links(false);
    disk.set_capacity(Some(disk.bytes() + 5_000));
    let files = disk.files().len().max(files);
    assert!(matches!(engine.checkpoint(Path::new(COPY)), Err(Error::DiskFull)));
    assert_eq!(disk.files().len(), files);
    disk.set_capacity(None);
    engine.checkpoint(Path::new(COPY)).unwrap();
    assert_eq!(dump(&open(&disk, COPY)).unwrap(), dump(&engine).unwrap());
}

/// Ends the writers of a test also when it fails: a scope waits for its threads.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn checkpoints_of_a_busy_store_hold_a_prefix_of_every_writer() {
    let root = tempfile::tempdir().unwrap();
    let options = Options {
        threads: ThreadMode::Threaded,
        sync: SyncMode::None,
        // Else the writers pile up memory that takes minutes to flush.
        memory_bytes_max: 200_000,
        ..options()
    };
    let dir = root.path().join("db");
    let (engine, _) = Engine::open(Arc::new(RealVfs), &dir, options.clone()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ending = Ending(&done);
        for writer in 0..2u8 {
            let (engine, done) = (&engine, &done);
            scope.spawn(move || {
                for round in 0u64.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    // Both keys of a batch, or none.
                    let mut batch = Batch::new();
                    batch.put(&[writer, (round % 50) as u8], &round.to_be_bytes());
                    batch.put(&[writer, 255], &round.to_be_bytes());
                    let _overloaded = engine.write(batch);
                }
            });
        }
        for number in 0..6 {
            let copy = root.path().join(format!("copy-{number}"));
            let made = engine.checkpoint(&copy).unwrap();
            let (copy, _) = Engine::open(Arc::new(RealVfs), &copy, options.clone()).unwrap();
            assert_eq!(copy.stats().last, made.seqno);
            let pairs = copy.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
            let pairs: Vec<_> = pairs.map(|pair| pair.unwrap()).collect();
            for writer in 0..2u8 {
                let of = |key: u8| pairs.iter().find(|(k, ..)| k[..] == [writer, key]);
                let Some((_, last, _)) = of(255) else { continue };
                let round = u64::from_be_bytes(last[..].try_into().unwrap());
                let (_, value, _) = of((round % 50) as u8).expect("both keys of the last batch");
                assert_eq!(value, last);
            }
            assert!(copy.verify().errors.is_empty());
        }
    });
}

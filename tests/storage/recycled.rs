//! Log files that are used again: what another log has left in them is never believed, and never
//! taken for damage.

use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use roundtable::storage::{
    Batch, Durability, Engine, FaultyVfs, Options, Recovery, SyncMode, ThreadMode,
};

use crate::damage::of_kind;
use crate::harness::{DIR, State, dump};
use crate::logs::{head, number_of, records};

fn options() -> Options {
    Options {
        memtable_bytes: 20_000,
        wal_segment_bytes: 4_000,
        sync: SyncMode::Always,
        threads: ThreadMode::Inline,
        ..Options::default()
    }
}

fn open(disk: &FaultyVfs) -> (Engine, Recovery) {
    Engine::open(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap()
}

fn put(engine: &Engine, state: &mut State, number: u32, length: usize) {
    let (key, value) = (number.to_be_bytes().to_vec(), vec![number as u8 | 1; length]);
    let mut batch = Batch::new();
    batch.put(&key, &value);
    engine.submit(batch, Durability::Synced, Box::new(|result| assert!(result.is_ok()))).unwrap();
    while engine.step() {}
    state.insert(key, value);
}

/// A log in use whose file is full of records of an older one.
fn reused(disk: &FaultyVfs) -> Option<usize> {
    let logs = of_kind(disk, ".wal").into_iter();
    let mut used_again = logs.filter_map(|path| {
        let (content, number) = (disk.content(&path)?, number_of(&path));
        let end = records(&content, number).last().map(|(at, head)| at + head.record())?;
        // The residue has headers of its own, which check under the number of its log.
        let is_residue = |at: &usize| (1..number).any(|old| head(&content, old, *at).is_some());
        (end..content.len()).step_by(4).find(is_residue)
    });
    used_again.next()
}

#[test]
fn what_an_older_log_has_left_is_neither_replayed_nor_damage() {
    for seed in 0..40 {
        let disk = FaultyVfs::new(seed);
        let mut rng = Rng::with_seed(seed);
        let (engine, _) = open(&disk);
        let mut state = State::new();
        let mut number = 0;
        while reused(&disk).is_none() {
            number += 1;
            assert!(number < 2_000, "no file is used again");
            put(&engine, &mut state, number, rng.usize(10..300));
            if number % 50 == 0 {
                engine.flush().unwrap();
            }
        }
        // A delete of an old key must stay in force: its record in the residue would undo it.
        let mut batch = Batch::new();
        batch.delete(&1u32.to_be_bytes());
        engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
        while engine.step() {}
        state.remove(&1u32.to_be_bytes()[..]);
        let last = engine.stats().last;
        drop(engine);
        disk.crash();
        disk.restart();
        let (engine, recovery) = open(&disk);
        assert_eq!(recovery.corrupt, [], "seed {seed}");
        assert_eq!(recovery.last, last, "seed {seed}");
        assert!(dump(&engine).unwrap() == state, "seed {seed}");
        let checked = engine.close().map(|()| roundtable::storage::check(&disk, Path::new(DIR)));
        assert!(checked.unwrap().unwrap().faults.is_empty(), "seed {seed}");
    }
}

//! Compaction from outside: what it gives back, what it must leave alone, and how it fails.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use roundtable::storage::{
    Batch, Direction, Durability, Engine, Error, FaultyVfs, KeyRange, Options, RealVfs, SyncMode,
    ThreadMode, Vfs,
};

use crate::harness::{DIR, State, dump};

fn options() -> Options {
    Options {
        memtable_bytes: 4_000,
        block_bytes: 256,
        level_base_bytes: 2_000,
        level_fanout: 4,
        table_bytes: 4_000,
        compaction_step_bytes: 2_000,
        threads: ThreadMode::Inline,
        ..Options::default()
    }
}

fn open(disk: &FaultyVfs, options: &Options) -> Engine {
    Engine::open(Arc::new(disk.clone()), Path::new(DIR), options.clone()).unwrap().0
}

fn put(engine: &Engine, state: &mut State, key: u32, value: &[u8]) -> Result<(), Error> {
    let key = format!("key{key:05}").into_bytes();
    let mut batch = Batch::new();
    batch.put(&key, value);
    engine.submit(batch, Durability::Default, Box::new(|_| {}))?;
    state.insert(key, value.to_vec());
    Ok(())
}

fn delete(engine: &Engine, state: &mut State, key: u32) {
    let key = format!("key{key:05}").into_bytes();
    let mut batch = Batch::new();
    batch.delete(&key);
    engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
    state.remove(&key);
}

/// A store of several levels with overwrites and deletes in it.
fn store() -> (FaultyVfs, Engine, State) {
    let (disk, mut state, mut rng) = (FaultyVfs::new(5), State::new(), Rng::with_seed(5));
    let engine = open(&disk, &options());
    for round in 0..3_000u32 {
        match rng.u8(..5) {
            0 => delete(&engine, &mut state, rng.u32(..400)),
            _ => put(&engine, &mut state, rng.u32(..400), &round.to_le_bytes().repeat(9)).unwrap(),
        }
        while engine.step() {}
    }
    engine.flush().unwrap();
    (disk, engine, state)
}

fn tables(disk: &FaultyVfs) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files.filter(|path| path.extension().is_some_and(|ending| ending == "sst")).collect()
}

#[test]
fn tables_pile_up_no_more_and_every_entry_is_accounted_for() {
    let (disk, engine, state) = store();
    let stats = engine.stats();
    assert!(stats.flushes > 50 && stats.compactions > 20, "{stats:?}");
    assert!(stats.level0_depth < 4 && stats.tables < 40, "{stats:?}");
    assert!(stats.levels.iter().filter(|level| level.tables > 0).count() > 1, "{stats:?}");
    assert!(stats.dropped_superseded > 0 && stats.dropped_tombstones > 0);
    assert!(stats.write_amplification() > 2.0, "{}", stats.write_amplification());
    assert_eq!(tables(&disk).len(), stats.tables, "no file is left over");
    assert_eq!(dump(&engine).unwrap(), state);

    engine.compact().unwrap();
    let stats = engine.stats();
    let (last, upper) = stats.levels.split_last().unwrap();
    assert!(upper.iter().all(|level| level.tables == 0));
    assert_eq!(last.entries, state.len() as u64, "one entry a key, and no deletes");
    assert!(last.tables > 1, "tables are cut at their size");
    assert_eq!(dump(&engine).unwrap(), state);
    assert!(engine.verify().errors.is_empty());
    // There is nothing to do again.
    engine.compact().unwrap();
    assert_eq!(engine.stats().compactions, stats.compactions);
    drop(engine);
    assert_eq!(dump(&open(&disk, &options())).unwrap(), state);
}

#[test]
fn a_store_of_deletes_only_becomes_empty() {
    let (disk, engine, mut state) = store();
    (0..400).for_each(|key| delete(&engine, &mut state, key));
    engine.compact().unwrap();
    assert_eq!(engine.stats().table_bytes, 0);
    assert!(tables(&disk).is_empty());
    assert!(dump(&engine).unwrap().is_empty());
}

#[test]
fn files_live_until_their_last_reader_is_gone() {
    let (disk, engine, mut state) = store();
    let (before, files) = (state.clone(), tables(&disk));
    let snapshot = engine.snapshot();
    let mut range = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Reverse);
    let first = range.next().unwrap().unwrap();
    (0..400).for_each(|key| put(&engine, &mut state, key, b"new").unwrap());
    engine.compact().unwrap();
    let now = tables(&disk);
    assert!(files.iter().all(|file| now.contains(file)), "a file in use is gone");
    assert_eq!(dump(&engine).unwrap(), state);

    let seen = snapshot.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    let seen: State =
        seen.map(|pair| pair.unwrap()).map(|(k, v, _)| (k.to_vec(), v.to_vec())).collect();
    assert_eq!(seen, before);
    drop(snapshot);
    assert!(files.iter().all(|file| tables(&disk).contains(file)), "the range still reads");
    let rest = range.by_ref().map(|pair| pair.unwrap());
    let seen: State = std::iter::once(first)
        .chain(rest)
        .map(|(key, value, _)| (key.to_vec(), value.to_vec()))
        .collect();
    assert_eq!(seen, before);
    drop(range);
    let now = tables(&disk);
    assert!(!files.iter().any(|file| now.contains(file)), "files nobody reads are still there");
    assert_eq!(now.len(), engine.stats().tables);
}

#[test]
fn damage_stops_its_merge_and_nothing_else() {
    let (disk, engine, mut state) = store();
    drop(engine);
    let damaged = tables(&disk).into_iter().next_back().unwrap();
    let sound = disk.content(&damaged).unwrap();
    disk.flip_bit(&damaged, 20, 1);
    let engine = open(&disk, &options());
    match engine.compact() {
        Err(Error::Corrupt { file, offset: 0, .. }) => assert_eq!(file, damaged),
        other => panic!("{other:?}"),
    }
    assert!(engine.stats().compaction_error.unwrap().contains(damaged.to_str().unwrap()));
    assert!(tables(&disk).contains(&damaged), "a damaged table is never dropped");
    // The engine goes on: writes are taken, what is not in the damaged block is read.
    for key in 1_000..1_200 {
        put(&engine, &mut state, key, b"later").unwrap();
        while engine.step() {}
    }
    let mut unreadable = 0;
    for (key, value) in &state {
        match engine.get(key) {
            Ok(found) => assert_eq!(found.unwrap().0, value[..]),
            Err(Error::Corrupt { file, .. }) => {
                assert_eq!(file, damaged);
                unreadable += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(unreadable < 30, "{unreadable} keys are unreadable for one damaged block");
    // With the bytes back, all is well, without opening again.
    disk.plant(&damaged, sound);
    engine.compact().unwrap();
    assert_eq!(engine.stats().compaction_error, None);
    assert_eq!(dump(&engine).unwrap(), state);
}

#[test]
fn a_full_disk_stops_a_merge_cleanly_and_it_goes_on_when_there_is_room() {
    let (disk, engine, state) = store();
    disk.set_capacity(Some(disk.bytes() + 3_000));
    assert!(matches!(engine.compact(), Err(Error::DiskFull)));
    assert_eq!(tables(&disk).len(), engine.stats().tables, "what was begun is given back");
    assert_eq!(dump(&engine).unwrap(), state);
    assert_eq!(engine.stats().read_only, None);
    disk.set_capacity(None);
    engine.interval_elapsed();
    while engine.step() {}
    engine.compact().unwrap();
    assert_eq!(dump(&engine).unwrap(), state);
    assert_eq!(engine.stats().levels.last().unwrap().entries, state.len() as u64);
}

#[test]
fn files_that_no_manifest_names_are_removed_at_opening() {
    let (disk, engine, state) = store();
    drop(engine);
    let orphan = Path::new(DIR).join("900000.sst");
    disk.plant(&orphan, vec![1; 100]);
    let engine = open(&disk, &options());
    assert!(!disk.files().contains(&orphan));
    assert_eq!(dump(&engine).unwrap(), state);
}

#[test]
fn pressure_rises_with_tables_that_wait_and_writes_are_refused_at_the_bound() {
    let disk = FaultyVfs::new(9);
    let options = Options { l0_trigger: 2, l0_depth_max: 6, ..options() };
    let engine = open(&disk, &options);
    let mut state = State::new();
    let mut seen = vec![engine.pressure()];
    let refusal = loop {
        if let Err(error) = put(&engine, &mut state, 1, &[7; 5_000]) {
            break error;
        }
        // Log and flush, but no compaction.
        while engine.stats().pending_bytes > 0 || engine.has_flush_work() {
            engine.step();
        }
        seen.push(engine.pressure());
    };
    let expected = Error::Overloaded { unit: "tables", waiting: 6, limit: 6 };
    assert_eq!(refusal.to_string(), expected.to_string());
    assert!(seen.is_sorted() && seen.len() == 7, "{seen:?}");
    // The bytes that wait to be merged count next to nothing beside the default bound on them.
    let near = |(pressure, wanted): (&f64, f64)| (pressure - wanted).abs() < 1e-5;
    assert!(seen[2..].iter().zip([0.0, 0.25, 0.5, 0.75, 1.0]).all(near), "{seen:?}");
    while engine.step() {}
    assert_eq!(engine.pressure(), 0.0);
    put(&engine, &mut state, 2, b"taken").unwrap();
    assert_eq!(dump(&engine).unwrap(), state);
}

#[test]
fn a_range_is_compacted_and_the_rest_is_left_alone() {
    let disk = FaultyVfs::new(7);
    let engine = open(&disk, &options());
    let (mut state, mut rng) = (State::new(), Rng::with_seed(7));
    for round in 0..6_000u32 {
        put(&engine, &mut state, rng.u32(..3_000), &round.to_le_bytes().repeat(9)).unwrap();
        while engine.step() {}
    }
    let upper = |engine: &Engine| {
        let stats = engine.stats();
        stats.levels.split_last().unwrap().1.iter().map(|level| level.entries).sum::<u64>()
    };
    engine.flush().unwrap();
    while engine.step() {}
    let before = upper(&engine);
    assert!(before > 1);
    let compactions = engine.stats().compactions;
    engine.compact_range(&KeyRange::between(b"zzz", b"zzzz")).unwrap();
    assert_eq!(engine.stats().compactions, compactions, "nothing is there");
    engine.compact_range(&KeyRange::between(b"key00000", b"key01500")).unwrap();
    let between = upper(&engine);
    assert!(engine.stats().compactions > compactions);
    assert!(0 < between && between < before, "{before} entries above the last level, {between}");
    assert_eq!(dump(&engine).unwrap(), state);
    engine.compact().unwrap();
    assert_eq!(upper(&engine), 0);
    assert_eq!(dump(&engine).unwrap(), state);
}

#[test]
fn large_units_are_all_of_their_tables_in_the_last_level() {
    let disk = FaultyVfs::new(6);
    let engine = open(&disk, &Options { unit_prefix_bytes: 2, ..options() });
    let mut rng = Rng::with_seed(6);
    // Of eight units every second is large, the others are a few keys.
    for _ in 0..6_000 {
        let unit = rng.u8(..8);
        let number = if unit.is_multiple_of(2) { rng.u32(..600) } else { rng.u32(..3) };
        let mut batch = Batch::new();
        let key = [&[b'u', unit][..], &number.to_be_bytes()].concat();
        // Noise: what compression leaves of it is as long.
        batch.put(&key, &std::array::from_fn::<u8, 36, _>(|_| rng.u8(..)));
        engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
        while engine.step() {}
    }
    engine.compact().unwrap();
    let rewritten = engine.stats().compactions;
    for unit in (0..8).step_by(2) {
        engine.delete_range(&KeyRange::prefix(&[b'u', unit])).unwrap();
        while engine.step() {}
        assert_eq!(engine.stats().compactions, rewritten, "unit {unit} shares a table");
    }
    assert!(dump(&engine).unwrap().into_keys().all(|key| !key[1].is_multiple_of(2)));
}

/// Merges side by side, ended in any order, on a disk of 3,000 keys.
#[test]
fn an_inline_engine_merges_side_by_side_and_equal_runs_are_equal() {
    let run = || {
        let disk = FaultyVfs::new(8);
        let options = Options {
            compaction_threads: 4,
            compaction_step_bytes: 300,
            l0_trigger: 2,
            ..options()
        };
        let engine = open(&disk, &options);
        let (mut state, mut rng) = (State::new(), Rng::with_seed(8));
        let mut together = 0;
        for round in 0..6_000u32 {
            put(&engine, &mut state, rng.u32(..3_000), &round.to_le_bytes().repeat(9)).unwrap();
            let _more = engine.step() && engine.step() && engine.step();
            let stats = engine.stats();
            together = stats.compaction_jobs.max(together);
            assert!(stats.compaction_bytes_done <= stats.compaction_bytes_total);
        }
        while engine.step() {}
        assert_eq!(dump(&engine).unwrap(), state);
        assert!(engine.verify().errors.is_empty());
        let stats = engine.stats();
        assert_eq!((stats.compaction_jobs, stats.compaction_bytes_total), (0, 0));
        (together, stats.compactions, stats.compaction_bytes_written, disk.bytes())
    };
    let (together, ..) = run();
    assert!(together > 1, "never more than one job");
    assert_eq!(run(), run());
}

#[test]
fn readers_and_writers_go_on_while_threads_merge() {
    let dir = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let options = Options {
        threads: ThreadMode::Threaded,
        sync: SyncMode::None,
        background_bytes_per_second: Some(64 << 20),
        compaction_threads: 3,
        ..options()
    };
    let (engine, _) = Engine::open(vfs, &dir.path().join("db"), options).unwrap();
    let write = |seed: u64| {
        let mut rng = Rng::with_seed(seed);
        for round in 0..1_500u64 {
            // Every writer has its own keys, so that each knows what it must read.
            let key = [&seed.to_le_bytes()[..], &rng.u64(..100).to_le_bytes()].concat();
            let mut batch = Batch::new();
            batch.put(&key, &round.to_le_bytes().repeat(8));
            while let Err(error) = engine.write(batch.clone()) {
                assert!(matches!(error, Error::Overloaded { .. }), "{error}");
                std::thread::yield_now();
            }
            let (value, _) = engine.get(&key).unwrap().unwrap();
            assert_eq!(value, round.to_le_bytes().repeat(8));
        }
    };
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let write = &write;
            scope.spawn(move || write(seed));
        }
    });
    engine.compact().unwrap();
    let stats = engine.stats();
    assert!(stats.compactions > 0, "{stats:?}");
    assert_eq!(stats.levels.last().unwrap().entries, 300);
    assert!(engine.verify().errors.is_empty());
    engine.close().unwrap();
}

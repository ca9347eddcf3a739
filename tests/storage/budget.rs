//! Memory for tables: within its budget however many tables there are, and right answers also out of
//! indexes and filters that had no room in it.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roundtable::storage::{
    Batch, Compression, Direction, Durability, Engine, Error, FaultyVfs, LEVEL_COUNT, Options,
    ThreadMode, TryGet, check,
};
use roundtable::testing::arm_mutant;

use crate::harness::DIR;

const BUDGET: usize = 16 << 10;
/// Keys that are there are the even ones.
const KEYS: u32 = 6_000;

fn options(block_cache_bytes: usize) -> Options {
    Options {
        threads: ThreadMode::Inline,
        memtable_bytes: 24_000,
        block_bytes: 256,
        table_bytes: 4_000,
        level_base_bytes: 40_000,
        // In some tables the index has two levels.
        index_bytes_max: 500,
        compression: [Compression::None; LEVEL_COUNT],
        block_cache_bytes,
        ..Options::default()
    }
}

fn open(disk: &FaultyVfs, block_cache_bytes: usize) -> Engine {
    let options = options(block_cache_bytes);
    let (engine, recovery) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    assert!(recovery.unreadable.is_empty(), "{recovery:?}");
    engine
}

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn value(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(8)
}

fn put(engine: &Engine, numbers: impl Iterator<Item = u32>) {
    let mut batch = Batch::new();
    numbers.for_each(|number| batch.put(&key(number), &value(number)));
    engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
    while engine.step() {}
}

/// Whether a key is answered rightly.
fn is_right(engine: &Engine, number: u32) -> bool {
    let is_there = number.is_multiple_of(2);
    // What memory alone tells comes first: the other brings it into memory.
    let told = match engine.try_get(&key(number)) {
        TryGet::Found(found, _) => is_there && found == value(number),
        TryGet::Absent => !is_there,
        TryGet::NeedsDisk => true,
    };
    let found = engine.get(&key(number)).unwrap();
    told && found.map(|(found, _)| found.to_vec()) == is_there.then(|| value(number))
}

fn check_held(engine: &Engine) -> Result<(), String> {
    let stats = engine.stats();
    let held = stats.cache_bytes + stats.table_memory_bytes as u64;
    match held <= BUDGET as u64 {
        true => Ok(()),
        false => Err(format!("{held} bytes are held, {} tables", stats.tables)),
    }
}

fn check_all(engine: &Engine) -> Result<(), String> {
    for number in (0..KEYS).map(|at| at * 1_501 % KEYS) {
        assert!(is_right(engine, number), "{number}");
        check_held(engine)?;
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let pairs = engine.range(Bound::Unbounded, Bound::Unbounded, direction);
        let mut numbers: Vec<u32> =
            pairs.map(|pair| u32::from_be_bytes(pair.unwrap().0[..].try_into().unwrap())).collect();
        if direction == Direction::Reverse {
            numbers.reverse();
        }
        assert!(numbers.into_iter().eq((0..KEYS).step_by(2)));
        check_held(engine)?;
    }
    let keys: Vec<_> = (0..KEYS).step_by(7).map(key).collect();
    for (found, number) in engine.multi_get(&keys).into_iter().zip((0..KEYS).step_by(7)) {
        assert_eq!(found.unwrap().is_some(), number.is_multiple_of(2));
    }
    check_held(engine)
}

/// Fills a store with many times more tables than there is memory for.
fn fill(disk: &FaultyVfs) -> Result<Engine, String> {
    let engine = open(disk, BUDGET);
    // An old view keeps what it pins.
    let mut snapshot = engine.snapshot();
    for part in 0..60 {
        put(&engine, (0..KEYS).step_by(2).filter(|number| number / 2 % 60 == part));
        check_held(&engine)?;
        if part % 8 == 0 {
            snapshot = engine.snapshot();
        }
        let number = part * 2;
        assert!(is_right(&engine, number), "{number}");
    }
    drop(snapshot);
    engine.compact().unwrap();
    check_held(&engine)?;
    Ok(engine)
}

fn within_budget() -> Result<(), String> {
    let disk = FaultyVfs::new(1);
    let engine = fill(&disk)?;
    let stats = engine.stats();
    assert!(stats.unpinned_tables > 10, "{stats:?}");
    assert!(stats.table_memory_bytes > BUDGET / 4, "{stats:?}");
    check_all(&engine)?;
    engine.close().unwrap();
    drop(engine);
    let engine = open(&disk, BUDGET);
    assert!(engine.stats().unpinned_tables > 10);
    check_held(&engine)?;
    check_all(&engine)?;
    assert!(engine.verify().errors.is_empty());
    // With room for all, all are held.
    drop(engine);
    assert_eq!(open(&disk, 16 << 20).stats().unpinned_tables, 0);
    Ok(())
}

#[test]
fn memory_for_tables_stays_within_its_budget_however_many_there_are() {
    within_budget().unwrap();
    let _armed = arm_mutant("storage-pins-beyond-budget");
    within_budget().unwrap_err();
}

/// Flips a bit of the filter or the index of a table.
fn damage(disk: &FaultyVfs, path: &Path, of_index: bool) -> FaultyVfs {
    let content = disk.content(path).unwrap();
    let field = content.len() - 136 + if of_index { 32 } else { 0 };
    let offset = u64::from_le_bytes(content[field..field + 8].try_into().unwrap());
    let damaged = disk.fork(0);
    damaged.flip_bit(path, offset as usize + 9, 2);
    damaged
}

#[test]
fn a_damaged_filter_or_index_that_is_read_late_is_an_error_and_no_absence() {
    let disk = FaultyVfs::new(2);
    fill(&disk).unwrap().close().unwrap();
    let tables =
        disk.files().into_iter().filter(|path| path.extension().is_some_and(|it| it == "sst"));
    let tables: Vec<PathBuf> = tables.collect();
    for path in tables.iter().step_by(17) {
        for of_index in [false, true] {
            let damaged = damage(&disk, path, of_index);
            // Nothing is held: the damage is met when it is read.
            let engine = open(&damaged, 0);
            let mut refused = 0;
            for number in (0..KEYS).step_by(3) {
                match engine.get(&key(number)) {
                    Ok(found) => assert_eq!(found.is_some(), number.is_multiple_of(2)),
                    Err(Error::Corrupt { file, .. }) => {
                        assert_eq!(file, *path);
                        assert_eq!(engine.try_get(&key(number)), TryGet::NeedsDisk);
                        refused += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(refused > 0, "no key is refused");
            let told = engine.verify().errors;
            assert!(matches!(&told[0], Error::Corrupt { file, .. } if file == path), "{told:?}");
            engine.close().unwrap();
            drop(engine);
            let told = check(&damaged, Path::new(DIR)).unwrap().faults;
            assert!(matches!(&told[0], Error::Corrupt { file, .. } if file == path), "{told:?}");
        }
    }
}

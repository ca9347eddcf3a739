//! The caller's filter: what it lets go goes, what it hid stays hidden, and nothing else is lost.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use parking_lot::Mutex;
use roundtable::storage::{
    Batch, CompactionFilter, Direction, Durability, Engine, Error, FaultyVfs, KeyRange, Options,
    TableWriter, ThreadMode, Vfs,
};
use roundtable::testing::arm_mutant;

use crate::harness::{DIR, dump};

/// Values begin with the point at which they may go, 0 for never. The first byte of a key is its
/// unit, and each unit has a horizon.
#[derive(Debug, Default)]
struct Points {
    horizons: Mutex<BTreeMap<u8, u64>>,
    /// Says of a range that everything has passed, whatever it says of its keys.
    lies: bool,
}

fn point_of(value: &[u8]) -> Option<u64> {
    let point = u64::from_be_bytes(*value.first_chunk()?);
    (point > 0).then_some(point)
}

impl CompactionFilter for Points {
    fn point(&self, _key: &[u8], value: &[u8]) -> Option<u64> {
        point_of(value)
    }

    fn horizon(&self, smallest: &[u8], largest: &[u8]) -> u64 {
        if self.lies {
            return if smallest == largest { 0 } else { u64::MAX };
        }
        let horizons = self.horizons.lock();
        let of = |unit: u8| horizons.get(&unit).copied().unwrap_or_default();
        (smallest[0]..=largest[0]).map(of).min().unwrap_or_default()
    }
}

impl Points {
    fn raise(&self, unit: u8, horizon: u64) {
        let mut horizons = self.horizons.lock();
        let slot = horizons.entry(unit).or_default();
        *slot = horizon.max(*slot);
    }

    fn has_passed(&self, key: &[u8], value: &[u8]) -> bool {
        point_of(value).is_some_and(|point| point <= self.horizon(key, key))
    }
}

/// So small that there are levels between the first and the last.
fn options(points: &Arc<Points>) -> Options {
    Options {
        memtable_bytes: 4_000,
        block_bytes: 256,
        l0_trigger: 1,
        level_base_bytes: 2_000,
        level_fanout: 4,
        table_bytes: 4_000,
        compaction_step_bytes: 2_000,
        unit_prefix_bytes: 1,
        filter: Some(Arc::clone(points).into()),
        threads: ThreadMode::Inline,
        ..Options::default()
    }
}

fn open(disk: &FaultyVfs, options: Options) -> Engine {
    Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap().0
}

fn key(unit: u8, number: u32) -> Vec<u8> {
    [&[unit][..], format!("{number:04}").as_bytes()].concat()
}

fn value(point: u64, text: &str) -> Vec<u8> {
    [&point.to_be_bytes()[..], text.repeat(8).as_bytes()].concat()
}

fn put(engine: &Engine, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key, value);
    engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
    while engine.step() {}
}

fn settle(engine: &Engine) {
    engine.flush().unwrap();
    while engine.step() {}
}

/// Two hundred keys in each of two units, all in the last level.
fn filled(points: &Arc<Points>) -> (FaultyVfs, Engine) {
    let disk = FaultyVfs::new(1);
    let engine = open(&disk, options(points));
    for unit in [b'a', b'b'] {
        (0..200).for_each(|number| put(&engine, &key(unit, number), &value(0, "older")));
    }
    engine.compact().unwrap();
    (disk, engine)
}

/// What hides something in a lower level is let go in an upper one.
fn uncovering() -> Result<(), String> {
    let points = Arc::new(Points::default());
    let (_disk, engine) = filled(&points);
    let snapshot = engine.snapshot();
    points.raise(b'a', 10);
    (0..40).for_each(|number| put(&engine, &key(b'a', number * 3), &value(5, "brief")));
    settle(&engine);
    for number in 0..40 {
        let found = engine.get(&key(b'a', number * 3)).unwrap();
        if found.is_some_and(|(found, _)| found == value(0, "older")) {
            return Err(format!("{number}: an older version is seen again"));
        }
    }
    let stats = engine.stats();
    assert!(stats.replaced_filtered > 0, "nothing was let go above the last level: {stats:?}");
    engine.compact().unwrap();
    let left = dump(&engine).unwrap();
    if left.len() != 360 || left.values().any(|left| *left != value(0, "older")) {
        return Err(format!("{} keys are left", left.len()));
    }
    assert_eq!(engine.stats().levels.last().unwrap().entries, 360, "no delete is left");
    let then = snapshot.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    assert_eq!(then.filter(|pair| pair.is_ok()).count(), 400, "a snapshot has changed");
    Ok(())
}

#[test]
fn what_the_filter_lets_go_hides_what_is_older_until_that_is_gone() {
    uncovering().unwrap();
    let _armed = arm_mutant("storage-filter-uncovers-older");
    uncovering().unwrap_err();
}

/// One table holds keys of a unit that has come far and of one that has not.
fn mixing() -> Result<(), String> {
    let points = Arc::new(Points::default());
    let disk = FaultyVfs::new(2);
    let engine = open(&disk, options(&points));
    // Older versions below, so that tables are merged and not moved.
    for (point, text) in [(0, "older"), (5, "brief")] {
        engine.compact().unwrap();
        for unit in [b'a', b'b'] {
            (0..10).for_each(|number| put(&engine, &key(unit, number), &value(point, text)));
        }
    }
    points.raise(b'a', 5);
    points.raise(b'b', 4);
    engine.compact().unwrap();
    let left: Vec<u8> = dump(&engine).unwrap().into_keys().map(|key| key[0]).collect();
    match left == [b'b'; 10] {
        true => Ok(()),
        false => Err(format!("left are {left:?}")),
    }
}

#[test]
fn each_key_is_judged_by_its_own_horizon() {
    mixing().unwrap();
    let _armed = arm_mutant("storage-filter-foreign-horizon");
    mixing().unwrap_err();
}

/// A horizon that rises with every question, and what was answered last about each key.
#[derive(Debug, Default)]
struct Clock {
    now: AtomicU64,
    answers: Mutex<BTreeMap<Vec<u8>, u64>>,
}

impl CompactionFilter for Clock {
    fn point(&self, _key: &[u8], value: &[u8]) -> Option<u64> {
        point_of(value)
    }

    fn horizon(&self, smallest: &[u8], largest: &[u8]) -> u64 {
        let now = self.now.fetch_add(1, Ordering::Relaxed);
        if smallest == largest {
            self.answers.lock().insert(smallest.to_vec(), now);
        }
        now
    }
}

/// Whether every entry that went had an answer before that had reached its point, and every one that
/// stayed had not.
fn answers_come_first() -> Result<(), String> {
    let (clock, disk) = (Arc::new(Clock::default()), FaultyVfs::new(5));
    let options = Options { filter: Some(Arc::clone(&clock).into()), ..options(&Arc::default()) };
    let engine = open(&disk, options);
    let point = |number: u64| if number.is_multiple_of(2) { 1 + number * 7 } else { u64::MAX };
    let points: Vec<u64> = (0..200).map(point).collect();
    for (number, point) in (0..).zip(&points) {
        put(&engine, &key(b'a', number), &value(*point, "brief"));
    }
    engine.compact().unwrap();
    let left = dump(&engine).unwrap();
    for (number, point) in (0..).zip(&points) {
        let key = key(b'a', number);
        let reached = clock.answers.lock().get(&key).is_some_and(|answer| answer >= point);
        if reached == left.contains_key(&key) {
            return Err(format!("{number}, point {point}, is there: {}", !reached));
        }
    }
    assert!(!left.is_empty() && left.len() < 200, "{} are left", left.len());
    Ok(())
}

#[test]
fn nothing_goes_before_its_horizon_is_known() {
    answers_come_first().unwrap();
    let _armed = arm_mutant("storage-filter-horizon-after-drop");
    answers_come_first().unwrap_err();
}

/// Takes in a table from elsewhere; returns the engine and what came in.
fn taken_in(points: &Arc<Points>, disk: &FaultyVfs, entries: &[(Vec<u8>, Vec<u8>)]) -> Engine {
    let engine = open(disk, options(points));
    put(&engine, &key(b'z', 0), &value(0, "was here"));
    engine.compact().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let path = Path::new("/srv/in.sst");
    let mut writer = TableWriter::create(&vfs, path, &options(points)).unwrap();
    entries.iter().for_each(|(key, value)| writer.put(key, value).unwrap());
    writer.finish().unwrap();
    engine.ingest(&[path.into()]).unwrap();
    engine
}

/// Whether a table that was taken in, full of what may go, is merged for that alone: at once, and
/// after a restart; and not before it may.
fn foreign_points_are_known() -> bool {
    [false, true].into_iter().all(|restart| {
        let (points, disk) = (Arc::new(Points::default()), FaultyVfs::new(6));
        let point = |number: u32| if number < 150 { 9 } else { 0 };
        let entries: Vec<_> =
            (0..300).map(|number| (key(b'a', number), value(point(number), "brief"))).collect();
        let mut engine = taken_in(&points, &disk, &entries);
        while engine.step() {}
        assert_eq!(engine.stats().dropped_filtered, 0);
        if restart {
            engine.close().unwrap();
            drop(engine);
            engine = open(&disk, options(&points));
        }
        points.raise(b'a', 9);
        engine.interval_elapsed();
        while engine.step() {}
        let dropped = engine.stats().dropped_filtered;
        assert_eq!(dump(&engine).unwrap().len() as u64, 301 - dropped);
        dropped == 150
    })
}

#[test]
fn what_may_go_of_a_table_that_was_taken_in_is_known() {
    assert!(foreign_points_are_known());
    let _armed = arm_mutant("storage-ingest-without-points");
    assert!(!foreign_points_are_known());
}

#[test]
fn a_table_of_deletes_that_was_taken_in_is_merged_away() {
    let (points, disk) = (Arc::new(Points::default()), FaultyVfs::new(7));
    // A file of another store that holds nothing but deletes.
    let options = Options { l0_trigger: 100, ..options(&points) };
    let from = "/srv/other";
    let vfs = Arc::new(disk.clone());
    let (other, _) = Engine::open(vfs, Path::new(from), options.clone()).unwrap();
    let mut batch = Batch::new();
    (0..50).for_each(|number| batch.delete(&key(b'b', number)));
    other.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    other.flush().unwrap();
    let tables = disk.files().into_iter().filter(|path| path.starts_with(from));
    let mut tables = tables.filter(|path| path.extension().is_some_and(|kind| kind == "sst"));
    let engine = open(&disk, options);
    let ingested = engine.ingest(&[tables.next().unwrap()]).unwrap();
    assert_eq!((ingested.entries, tables.next()), (50, None));
    assert_eq!(engine.stats().levels.last().unwrap().entries, 50);
    engine.interval_elapsed();
    while engine.step() {}
    let stats = engine.stats();
    assert_eq!((stats.dropped_tombstones, stats.tables), (50, 0));
}

#[test]
fn a_checkpoint_knows_what_may_go_of_what_was_in_memory() {
    let (points, disk) = (Arc::new(Points::default()), FaultyVfs::new(8));
    let options = Options { memtable_bytes: 1 << 20, ..options(&points) };
    let engine = open(&disk, options.clone());
    (0..100).for_each(|number| put(&engine, &key(b'a', number), &value(9, "brief")));
    engine.checkpoint(Path::new("/srv/copy")).unwrap();
    let vfs = Arc::new(disk.clone());
    let (copy, _) = Engine::open(vfs, Path::new("/srv/copy"), options).unwrap();
    // Down from level 0 by a move, then nothing but the points tells that it may go.
    while copy.step() {}
    points.raise(b'a', 9);
    copy.interval_elapsed();
    while copy.step() {}
    assert_eq!(copy.stats().dropped_filtered, 100);
}

#[test]
fn what_has_passed_is_found_without_writes_once_it_is_quiet() {
    let points = Arc::new(Points::default());
    let disk = FaultyVfs::new(3);
    let engine = open(&disk, options(&points));
    (0..300).for_each(|number| {
        let point = if number % 50 == 0 { 7 } else { 0 };
        put(&engine, &key(b'a', number), &value(point, "text"));
    });
    engine.compact().unwrap();
    assert_eq!(dump(&engine).unwrap().len(), 300, "nothing has passed yet");
    points.raise(b'a', 7);
    while engine.step() {}
    assert_eq!(engine.stats().dropped_filtered, 0, "so little can wait");
    for _ in 0..5 {
        engine.interval_elapsed();
        while engine.step() {}
    }
    assert_eq!(engine.stats().dropped_filtered, 6);
    assert_eq!(dump(&engine).unwrap().len(), 294);
    let compactions = engine.stats().compactions;
    engine.interval_elapsed();
    while engine.step() {}
    assert_eq!(engine.stats().compactions, compactions, "it is done once");
    // Where much may go, nobody waits for quiet.
    (0..300).for_each(|number| put(&engine, &key(b'b', number), &value(9, "brief")));
    engine.compact().unwrap();
    points.raise(b'b', 9);
    while engine.step() {}
    assert_eq!(dump(&engine).unwrap().len(), 294);
    // All of it is known again after a restart: nothing is read to find it.
    (0..300).for_each(|number| put(&engine, &key(b'c', number), &value(9, "brief")));
    engine.compact().unwrap();
    engine.close().unwrap();
    let engine = open(&disk, options(&points));
    points.raise(b'c', 9);
    while engine.step() {}
    assert_eq!(engine.stats().dropped_filtered, 300);
    assert_eq!(dump(&engine).unwrap().len(), 294);
}

/// A caller's mistake.
#[derive(Debug)]
struct Panicking;

impl CompactionFilter for Panicking {
    fn point(&self, _key: &[u8], _value: &[u8]) -> Option<u64> {
        panic!("this filter is made to fail")
    }

    fn horizon(&self, _smallest: &[u8], _largest: &[u8]) -> u64 {
        0
    }
}

#[test]
fn an_engine_whose_thread_breaks_is_read_only_and_keeps_nobody_waiting() {
    let disk = FaultyVfs::new(9);
    let options = Options { filter: Some(Arc::new(Panicking).into()), ..Options::default() };
    let engine = open(&disk, options);
    let mut batch = Batch::new();
    batch.put(b"key", b"value");
    engine.write(batch).unwrap();
    // The thread that flushes meets the panic; those who wait for it hear of it.
    assert!(matches!(engine.flush(), Err(Error::ReadOnly { .. })));
    let mut batch = Batch::new();
    batch.put(b"key", b"other");
    assert!(matches!(engine.write(batch), Err(Error::ReadOnly { .. })));
    assert_eq!(engine.get(b"key").unwrap().unwrap().0, "value");
    assert!(engine.close().is_err());
    drop(engine);
    let engine = open(&disk, Options::default());
    engine.flush().unwrap();
    assert_eq!(engine.get(b"key").unwrap().unwrap().0, "value");
}

#[test]
fn a_filter_that_contradicts_itself_costs_one_rewrite_and_loses_nothing() {
    let points = Arc::new(Points { lies: true, ..Points::default() });
    let disk = FaultyVfs::new(4);
    let engine = open(&disk, options(&points));
    (0..100).for_each(|number| put(&engine, &key(b'a', number), &value(9, "brief")));
    engine.compact().unwrap();
    for _ in 0..6 {
        engine.interval_elapsed();
        while engine.step() {}
    }
    engine.compact().unwrap();
    assert_eq!(dump(&engine).unwrap().len(), 100);
}

/// Whatever is read is the newest version, or nothing if the filter has let that one go.
fn history(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::with_seed(seed);
    let points = Arc::new(Points::default());
    let disk = FaultyVfs::new(seed);
    let options = Options {
        l0_trigger: rng.usize(1..4),
        level_base_bytes: rng.u64(200..3_000),
        table_bytes: rng.u64(300..4_000),
        memtable_bytes: rng.usize(300..3_000),
        compaction_threads: rng.usize(1..4),
        compaction_step_bytes: rng.u64(50..2_000),
        ..options(&points)
    };
    let mut engine = open(&disk, options.clone());
    let mut newest: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    let (mut clock, mut filtered) = (1, 0);
    for round in 0..600 {
        let unit = [b'a', b'b', b'c'][rng.usize(..3)];
        let chosen = key(unit, rng.u32(..30));
        match rng.u8(..40) {
            0 => engine.compact().map_err(|error| error.to_string())?,
            1 => engine.compact_range(&KeyRange::prefix(&[unit])).unwrap(),
            2 => engine.flush().unwrap(),
            3 => engine.interval_elapsed(),
            4 => {
                filtered += engine.stats().dropped_filtered + engine.stats().replaced_filtered;
                engine.close().unwrap();
                drop(engine);
                engine = open(&disk, options.clone());
            }
            5..9 => points.raise(unit, clock),
            9..14 => {
                let mut batch = Batch::new();
                batch.delete(&chosen);
                engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
                newest.insert(chosen, None);
            }
            14..26 => drop(engine.step()),
            _ => {
                clock += 1;
                let point = if rng.bool() { clock + rng.u64(..20) } else { 0 };
                let value = value(point, &format!("{round:04}"));
                put(&engine, &chosen, &value);
                newest.insert(chosen, Some(value));
            }
        }
        for (key, newest) in &newest {
            let found = engine.get(key).unwrap().map(|(value, _)| value.to_vec());
            let gone = newest.as_ref().is_none_or(|value| points.has_passed(key, value));
            if found != *newest && !(found.is_none() && gone) {
                return Err(format!("seed {seed} round {round}: {key:?} is {found:?}"));
            }
        }
    }
    Ok(filtered + engine.stats().dropped_filtered + engine.stats().replaced_filtered)
}

#[test]
fn through_any_history_nothing_comes_back_and_nothing_else_goes() {
    let filtered: u64 = (0..40).map(|seed| history(seed).unwrap()).sum();
    assert!(filtered > 1_000, "only {filtered} entries were let go");
    let _armed = arm_mutant("storage-filter-uncovers-older");
    assert!((0..10).any(|seed| history(seed).is_err()));
}

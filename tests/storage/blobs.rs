//! Long values: where they stand, that merges leave them there, that their room comes back, and that
//! a reference into the wrong record is an error.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roundtable::storage::{
    Batch, CompactionFilter, Direction, Durability, Engine, Error, FaultyVfs, KeyRange, Options,
    ThreadMode, TryGet, check,
};
use roundtable::testing::arm_mutant;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::harness::{State, dump};

const DIR: &str = "/srv/db";

pub(crate) fn options() -> Options {
    Options {
        threads: ThreadMode::Inline,
        memtable_bytes: 400_000,
        block_bytes: 512,
        block_cache_bytes: 1 << 20,
        blob_bytes_min: Some(1_000),
        blob_file_bytes: 60_000,
        ..Options::default()
    }
}

pub(crate) fn open_with(disk: &FaultyVfs, options: Options) -> Engine {
    Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap().0
}

pub(crate) fn key(number: u32) -> Vec<u8> {
    format!("key{number:05}").into_bytes()
}

/// A value that cannot be compressed, and tells who wrote it.
pub(crate) fn value(number: u32, round: u32) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(u64::from(number) << 32 | u64::from(round));
    (0..2_000).map(|_| rng.u8(..)).collect()
}

pub(crate) fn put(engine: &Engine, numbers: impl Iterator<Item = u32>, round: u32) {
    let mut batch = Batch::new();
    numbers.for_each(|number| batch.put(&key(number), &value(number, round)));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    while engine.step() {}
}

pub(crate) fn settle(engine: &Engine) {
    while engine.step() {}
}

pub(crate) fn blobs(disk: &FaultyVfs) -> Vec<PathBuf> {
    let files = disk.files().into_iter().filter(|path| path.starts_with(DIR));
    files.filter(|path| path.extension().is_some_and(|ending| ending == "blob")).collect()
}

/// A hundred values in tables, every tenth short.
pub(crate) fn store() -> (FaultyVfs, Engine, State) {
    let disk = FaultyVfs::new(1);
    let engine = open_with(&disk, options());
    put(&engine, 0..100, 0);
    let mut batch = Batch::new();
    (0..100).step_by(10).for_each(|number| batch.put(&key(number), b"short"));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    engine.flush().unwrap();
    let state = dump(&engine).unwrap();
    (disk, engine, state)
}

pub(crate) fn reads_all(engine: &Engine, state: &State) {
    assert_eq!(dump(engine).unwrap(), *state);
    let reverse = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Reverse);
    let reverse: State =
        reverse.map(|pair| pair.unwrap()).map(|(k, v, _)| (k.into(), v.into())).collect();
    assert_eq!(reverse, *state);
    let mut lent = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    let mut seen = State::new();
    while let Some((key, value, _)) = lent.next_lent().unwrap() {
        seen.insert(key.to_vec(), value.to_vec());
    }
    assert_eq!(seen, *state);
    let keys: Vec<_> = state.keys().collect();
    let found = engine.multi_get(&keys);
    assert!(
        found.into_iter().zip(state.values()).all(|(f, value)| f.unwrap().unwrap().0 == value[..])
    );
    for (key, value) in state {
        assert_eq!(engine.get(key).unwrap().unwrap().0, value[..]);
        if let TryGet::Found(found, _) = engine.try_get(key) {
            assert_eq!(found, value[..]);
        }
    }
    assert!(engine.verify().errors.is_empty(), "{:?}", engine.verify().errors);
}

#[test]
fn long_values_stand_in_blob_files_and_are_read_in_every_way() {
    let (disk, engine, state) = store();
    let stats = engine.stats();
    assert_eq!(stats.blob_files, blobs(&disk).len());
    assert!(stats.blob_files >= 3, "files end at their size: {stats:?}");
    assert!(stats.blob_live_bytes >= 90 * 2_000 && stats.table_bytes < 30_000, "{stats:?}");
    assert!(matches!(engine.try_get(&key(1)), TryGet::NeedsDisk | TryGet::Found(..)));
    reads_all(&engine, &state);
    // Once read it is in memory.
    assert!(matches!(engine.try_get(&key(1)), TryGet::Found(..)));
    engine.compact().unwrap();
    reads_all(&engine, &state);
    let verified = engine.verify();
    assert_eq!((verified.blobs, verified.values), (engine.stats().blob_files, 90));
    drop(engine);
    let checked = check(&disk, Path::new(DIR)).unwrap();
    assert_eq!((checked.values, checked.faults.len()), (90, 0), "{checked:?}");
    reads_all(&open_with(&disk, options()), &state);
}

#[test]
fn merges_leave_values_where_they_are() {
    let (disk, engine, mut state) = store();
    drop(engine);
    let engine = open_with(&disk, Options { blob_garbage_percent: 90, ..options() });
    let written = engine.stats().blob_bytes_written;
    for round in 1..5 {
        put(&engine, (1..100).step_by(10).map(|number| number + round), round);
        let rewritten = (1..100).step_by(10).map(|number| number + round);
        state.extend(rewritten.map(|number| (key(number), value(number, round))));
        engine.flush().unwrap();
    }
    engine.compact().unwrap();
    let stats = engine.stats();
    assert!(stats.compactions > 0);
    let fresh = stats.blob_bytes_written - written;
    // Forty values are new; nothing is so much garbage that it was moved.
    assert!(fresh < 45 * 2_100, "{stats:?}");
    reads_all(&engine, &state);
}

/// Overwrites more and more of a store; returns whether all of it reads as it should in the end.
pub(crate) fn collected_values_are_all_there() -> bool {
    let (disk, engine, mut state) = store();
    for round in 1..8 {
        let numbers = || (0..100).filter(|number| number % 7 < round);
        put(&engine, numbers(), round);
        state.extend(numbers().map(|number| (key(number), value(number, round))));
        engine.compact().unwrap();
        settle(&engine);
        if dump(&engine).ok().as_ref() != Some(&state) {
            return false;
        }
        let stats = engine.stats();
        let dead = stats.blob_bytes - stats.blob_live_bytes;
        assert!(dead * 100 < stats.blob_bytes * 40, "round {round}: {stats:?}");
        assert_eq!(stats.blob_files, blobs(&disk).len(), "files that nothing refers to are gone");
    }
    assert!(engine.stats().blob_files_gone > 5 && engine.stats().blob_bytes_moved > 0);
    reads_all(&engine, &state);
    true
}

#[test]
fn what_is_overwritten_gives_its_room_back() {
    assert!(collected_values_are_all_there());
    let _armed = arm_mutant("storage-blob-collects-live");
    assert!(!collected_values_are_all_there());
}

#[test]
fn garbage_is_collected_without_traffic() {
    let (_disk, engine, _) = store();
    engine.compact().unwrap();
    // Every other value goes, by deletes whose merge does not meet most of the files again.
    let mut batch = Batch::new();
    (0..100).step_by(2).for_each(|number| batch.delete(&key(number)));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    engine.compact().unwrap();
    settle(&engine);
    let stats = engine.stats();
    assert!(stats.blob_live_bytes * 10 > stats.blob_bytes * 7, "{stats:?}");
    assert_eq!(dump(&engine).unwrap().len(), 50);
}

/// Whether a snapshot still reads what has been collected since.
pub(crate) fn a_snapshot_keeps_its_values() -> bool {
    let (disk, engine, state) = store();
    let snapshot = engine.snapshot();
    put(&engine, 0..100, 1);
    engine.compact().unwrap();
    settle(&engine);
    let live = engine.stats().blob_files;
    let held = blobs(&disk).len() > live;
    let read = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        snapshot.get(key).is_ok_and(|found| found.is_some_and(|(found, _)| found == value[..]))
    };
    let all = state.iter().all(read);
    drop(snapshot);
    assert_eq!(blobs(&disk).len(), live, "the files go with the snapshot");
    held && all
}

#[test]
fn a_blob_file_stays_as_long_as_a_snapshot_refers_to_it() {
    assert!(a_snapshot_keeps_its_values());
    let _armed = arm_mutant("storage-blob-unlinked-while-pinned");
    assert!(!a_snapshot_keeps_its_values());
}

/// Makes every blob file nonsense.
fn ruin(disk: &FaultyVfs) {
    for path in blobs(disk) {
        let length = disk.content(&path).unwrap().len();
        disk.plant(&path, vec![0xa5; length]);
    }
}

#[test]
fn a_scan_of_keys_reads_no_value() {
    let (disk, engine, state) = store();
    drop(engine);
    ruin(&disk);
    let engine = open_with(&disk, options());
    for direction in [Direction::Forward, Direction::Reverse] {
        let mut keys = engine.range(Bound::Unbounded, Bound::Unbounded, direction);
        let mut seen = 0;
        while let Some((key, _)) = keys.next_key().unwrap() {
            assert!(state.contains_key(key));
            seen += 1;
        }
        assert_eq!(seen, 100);
    }
    let mut pairs = engine.range(Bound::Included(&key(1)), Bound::Unbounded, Direction::Forward);
    let damage = pairs.next();
    assert!(
        matches!(&damage, Some(Err(Error::Corrupt { file, .. })) if blobs(&disk).contains(file))
    );
    assert!(pairs.next().is_none(), "it has ended");
    let damage = engine.get(&key(1));
    assert!(matches!(damage, Err(Error::Corrupt { offset: 32.., .. })), "{damage:?}");
    assert_eq!(engine.get(&key(10)).unwrap().unwrap().0, "short");
}

#[test]
fn a_bad_value_is_an_error_of_its_key_alone_and_stops_no_merge() {
    let (disk, engine, mut state) = store();
    drop(engine);
    let path = &blobs(&disk)[0];
    assert!(disk.flip_bit(path, 32 + 25 + 700, 3));
    let faults = check(&disk, Path::new(DIR)).unwrap().faults;
    assert!(matches!(&faults[0], Error::Corrupt { file, offset: 32, .. } if file == path));
    let engine = open_with(&disk, options());
    assert!(
        matches!(engine.get(&key(1)), Err(Error::Corrupt { file, offset: 32, .. }) if file == *path)
    );
    assert!(!engine.verify().errors.is_empty());
    // Most of that file dies: it would be collected, but for the value that cannot be read.
    put(&engine, 2..30, 1);
    state.extend((2..30).map(|number| (key(number), value(number, 1))));
    engine.compact().unwrap();
    settle(&engine);
    assert!(engine.stats().compaction_error.is_some());
    assert!(disk.files().contains(path), "what could not be read was not dropped");
    for (key_, value) in state.iter().filter(|(it, _)| **it != key(1)) {
        assert_eq!(engine.get(key_).unwrap().unwrap().0, value[..]);
    }
    assert!(engine.get(&key(1)).is_err());
}

/// Two files that hold two versions of a key exchange their names; whether that is noticed.
pub(crate) fn an_exchanged_blob_file_is_noticed() -> bool {
    let disk = FaultyVfs::new(1);
    let engine = open_with(&disk, Options { l0_trigger: 100, ..options() });
    // Alike in length and in their first bytes.
    let version = |round: u32| [vec![7; 100], value(0, round)].concat();
    for round in 0..2 {
        let mut batch = Batch::new();
        batch.put(&key(0), &version(round));
        engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
        engine.flush().unwrap();
    }
    drop(engine);
    let [one, other] = &blobs(&disk)[..] else { panic!("two files") };
    let (first, second) = (disk.content(one).unwrap(), disk.content(other).unwrap());
    disk.plant(one, second);
    disk.plant(other, first);
    let engine = open_with(&disk, Options { l0_trigger: 100, ..options() });
    match engine.get(&key(0)) {
        Ok(found) => {
            assert_eq!(found.unwrap().0, version(0)[..], "the older one is taken for the newer");
            false
        }
        Err(error) => matches!(error, Error::Corrupt { .. }),
    }
}

/// A table whose entry names the record of another key; whether that is noticed.
pub(crate) fn a_reference_to_another_key_is_noticed() -> bool {
    let disk = FaultyVfs::new(1);
    let engine = open_with(&disk, options());
    let mut batch = Batch::new();
    // Alike in length and in their first bytes.
    let values = [1, 2].map(|last| [vec![7; 1_500], vec![last]].concat());
    batch.put(b"a", &values[0]);
    batch.put(b"b", &values[1]);
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let table =
        disk.files().into_iter().find(|path| path.extension().is_some_and(|it| it == "sst"));
    let table = table.unwrap();
    let mut bytes = disk.content(&table).unwrap();
    // Of each entry: slot 0, offset, length of the record, length of the value 1501, its head.
    let lengths = [0xdd, 0x0b, 7, 7, 7];
    let places = || (0..bytes.len() - 5).filter(|at| bytes[*at..at + 5] == lengths);
    let [first, second] = places().collect::<Vec<_>>()[..] else { panic!("two entries") };
    let record = bytes[first - 1];
    assert_eq!((bytes[first - 3], bytes[first - 2]), (0, 32), "slot and offset");
    let offset = (32 + usize::from(record)) as u8;
    assert_eq!(bytes[second - 2], offset);
    bytes[first - 2] = offset;
    bytes[first - 1] = bytes[second - 1];
    // The block checks: it is the reference that is wrong.
    let number: u64 = table.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let footer = bytes.len() - 136;
    let end = u64::from_le_bytes(bytes[footer..footer + 8].try_into().unwrap()) as usize;
    let place = xxh3_64(&[number.to_le_bytes(), 0u64.to_le_bytes()].concat());
    let sum = xxh3_64_with_seed(&bytes[..end - 8], place);
    bytes[end - 8..end].copy_from_slice(&sum.to_le_bytes());
    disk.plant(&table, bytes);
    let engine = open_with(&disk, options());
    match engine.get(b"a") {
        Ok(found) => {
            assert_eq!(found.unwrap().0, values[1][..]);
            false
        }
        Err(error) => matches!(error, Error::Corrupt { .. }),
    }
}

/// Lets go what its first eight bytes say is over, and asks for nothing else of a value.
#[derive(Debug, Default)]
struct Expiry(AtomicU64);

impl CompactionFilter for Expiry {
    fn point(&self, _key: &[u8], value: &[u8]) -> Option<u64> {
        assert!(value.len() <= 64, "{} bytes", value.len());
        value.first().map(|first| u64::from(*first))
    }

    fn horizon(&self, _smallest: &[u8], _largest: &[u8]) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_filter_decides_without_the_values_being_read() {
    let disk = FaultyVfs::new(1);
    let expiry = Arc::new(Expiry::default());
    let with_filter = || Options { filter: Some(Arc::clone(&expiry).into()), ..options() };
    let engine = open_with(&disk, with_filter());
    let mut batch = Batch::new();
    for number in 0..40u32 {
        let point = if number % 2 == 0 { 10 } else { 200 };
        batch.put(&key(number), &[vec![point; 1], value(number, 0)].concat());
    }
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    engine.flush().unwrap();
    drop(engine);
    ruin(&disk);
    let engine = open_with(&disk, Options { blob_garbage_percent: 100, ..with_filter() });
    expiry.0.store(10, Ordering::Relaxed);
    engine.compact().unwrap();
    assert_eq!(engine.stats().dropped_filtered, 20);
    expiry.0.store(200, Ordering::Relaxed);
    engine.compact().unwrap();
    assert_eq!((engine.stats().blob_files, blobs(&disk).len()), (0, 0));
}

#[test]
fn a_deleted_range_takes_its_blob_files_along_unread() {
    let (disk, engine, _) = store();
    engine.compact().unwrap();
    ruin(&disk);
    engine.delete_range(&KeyRange::all()).unwrap();
    settle(&engine);
    assert_eq!((engine.stats().blob_files, blobs(&disk).len()), (0, 0));
}

#[test]
fn without_separation_values_return_to_the_tables() {
    let (disk, engine, state) = store();
    drop(engine);
    let off = Options { blob_bytes_min: None, blob_garbage_percent: 1, ..options() };
    let engine = open_with(&disk, off);
    put(&engine, (1..100).step_by(10), 0);
    engine.compact().unwrap();
    settle(&engine);
    assert_eq!((engine.stats().blob_files, blobs(&disk).len()), (0, 0));
    reads_all(&engine, &state);
    drop(engine);
    // And out of them again.
    let engine = open_with(&disk, options());
    put(&engine, 1..2, 0);
    engine.compact().unwrap();
    assert!(engine.stats().blob_live_bytes > 80 * 2_000);
    reads_all(&engine, &state);
}

#[test]
fn small_blob_files_are_written_together() {
    let disk = FaultyVfs::new(1);
    let big = Options { blob_file_bytes: 1 << 20, ..options() };
    let engine = open_with(&disk, big);
    let mut state = State::new();
    for number in 0..60 {
        // Each flush reaches around the ones before, so that its table is merged and not moved.
        for number in [500 - number, 500 + number] {
            put(&engine, number..number + 1, 0);
            state.insert(key(number), value(number, 0));
        }
        engine.flush().unwrap();
        settle(&engine);
    }
    engine.compact().unwrap();
    let stats = engine.stats();
    assert!(stats.blob_files < 4, "{stats:?}");
    // Moved a few times each, until the file they are in is an eighth of a full one.
    assert!(stats.blob_bytes_written < 120 * 2_100 * 12, "{stats:?}");
    reads_all(&engine, &state);
}

#[test]
fn a_blob_file_that_is_cut_short_is_named_at_the_opening() {
    let (disk, engine, _) = store();
    drop(engine);
    let path = &blobs(&disk)[0];
    let content = disk.content(path).unwrap();
    disk.plant(path, content[..content.len() / 2].to_vec());
    let (engine, recovery) =
        Engine::open(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap();
    assert_eq!(recovery.unreadable, std::slice::from_ref(path));
    assert_eq!(
        engine.get(&key(1)).unwrap().unwrap().0,
        value(1, 0)[..],
        "what is left can be read"
    );
    assert!(dump(&engine).is_err());
}

/// Bytes that flushes and merges write for each byte put, of random overwrites; and how much of the
/// room in the end is alive.
fn cost_of_overwrites(blob_bytes_min: Option<usize>) -> (f64, f64) {
    let small = Options {
        memtable_bytes: 100_000,
        table_bytes: 50_000,
        level_base_bytes: 100_000,
        blob_bytes_min,
        ..options()
    };
    let disk = FaultyVfs::new(1);
    let engine = open_with(&disk, small);
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..6_000u32 {
        put(&engine, std::iter::once(rng.u32(..1_000)), round);
    }
    settle(&engine);
    let stats = engine.stats();
    let written = stats.flush_bytes_written + stats.compaction_bytes_written;
    let live = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward).count() * 2_000;
    let held = stats.table_bytes + stats.blob_bytes;
    (written as f64 / stats.batch_bytes as f64, live as f64 / held as f64)
}

#[test]
fn long_values_cost_fewer_writes_apart_from_the_tables() {
    let [together, apart] = [None, Some(1_000)].map(cost_of_overwrites);
    println!("written for each byte, alive of the room: together {together:?}, apart {apart:?}");
    assert!(apart.0 < together.0 * 0.7, "{together:?} {apart:?}");
    assert!(apart.1 > 0.4, "{apart:?}");
}

//! Tables of every shape: how they are laid out never changes what is read, only what it costs.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use roundtable::storage::{
    Batch, Compression, Direction, Durability, Engine, Error, FaultyVfs, Iter, LEVEL_COUNT,
    Options, ThreadMode,
};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const DIR: &str = "/shapes";

fn inline(options: Options) -> Options {
    Options { threads: ThreadMode::Inline, ..options }
}

fn open(disk: &FaultyVfs, options: Options) -> Engine {
    Engine::open(Arc::new(disk.clone()), Path::new(DIR), inline(options)).unwrap().0
}

fn submit(engine: &Engine, batch: Batch) {
    let done = Box::new(|result: Result<_, Error>| assert!(result.is_ok()));
    engine.submit(batch, Durability::Default, done).unwrap();
    while engine.step() {}
}

fn shapes() -> Vec<Options> {
    let base = || Options { block_bytes: 300, ..Options::default() };
    vec![
        base(),
        Options { block_hash_index: false, ..base() },
        Options { block_restart: 1, ..base() },
        Options { block_restart: 0, block_bytes: 1, ..base() },
        Options { block_restart: 255, block_bytes: 40_000, ..base() },
        Options { index_bytes_max: 0, ..base() },
        Options { index_bytes_max: 200, block_hash_index: false, ..base() },
        Options { compression: [Compression::None; LEVEL_COUNT], ..base() },
        Options { compression: [Compression::Lz4; LEVEL_COUNT], index_bytes_max: 0, ..base() },
        #[cfg(feature = "zstd")]
        Options { compression: [Compression::Zstd; LEVEL_COUNT], ..base() },
    ]
}

fn key(rng: &mut Rng) -> Vec<u8> {
    let number = rng.u16(..500);
    match number % 3 {
        0 => format!("a/{number:05}").into_bytes(),
        1 => vec![b'b'; usize::from(number % 40)],
        _ => number.to_be_bytes().to_vec(),
    }
}

/// Overwrites and deletes in three tables, the oldest of which is compacted, and in memory.
fn fill(engine: &Engine, rng: &mut Rng) -> Model {
    let mut model = Model::new();
    for round in 0..4 {
        for _ in 0..12 {
            let mut batch = Batch::new();
            for _ in 0..20 {
                let key = key(rng);
                if rng.u8(..5) == 0 {
                    batch.delete(&key);
                    model.remove(&key);
                } else {
                    let value = vec![rng.u8(..); rng.usize(..60)];
                    batch.put(&key, &value);
                    model.insert(key, value);
                }
            }
            submit(engine, batch);
        }
        match round {
            0 => engine.compact().unwrap(),
            3 => {}
            _ => engine.flush().unwrap(),
        }
    }
    model
}

fn pairs(iter: Iter) -> Vec<(Vec<u8>, Vec<u8>)> {
    iter.map(|pair| pair.map(|(key, value, _)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

fn expected<'a>(
    pairs: impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    direction: Direction,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    match direction {
        Direction::Forward => pairs.map(owned).collect(),
        Direction::Reverse => pairs.rev().map(owned).collect(),
    }
}

fn bound(rng: &mut Rng) -> Bound<Vec<u8>> {
    match rng.u8(..3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(key(rng)),
        _ => Bound::Excluded(key(rng)),
    }
}

fn is_before(key: &[u8], end: &Bound<Vec<u8>>) -> bool {
    match end {
        Bound::Included(end) => key <= end.as_slice(),
        Bound::Excluded(end) => key < end.as_slice(),
        Bound::Unbounded => true,
    }
}

fn is_after(key: &[u8], start: &Bound<Vec<u8>>) -> bool {
    match start {
        Bound::Included(start) => key >= start.as_slice(),
        Bound::Excluded(start) => key > start.as_slice(),
        Bound::Unbounded => true,
    }
}

/// Reads in every way there is and compares with the model.
fn compare(engine: &Engine, model: &Model, rng: &mut Rng) {
    for direction in [Direction::Forward, Direction::Reverse] {
        let all = engine.range(Bound::Unbounded, Bound::Unbounded, direction);
        assert_eq!(pairs(all), expected(model.iter(), direction));
        for prefix in [b"a/".as_slice(), b"a/001", b"b", b"bbbb", b"", b"\xff", b"\x00"] {
            let inside = model.iter().filter(|(key, _)| key.starts_with(prefix));
            let inside: Vec<_> = inside.collect();
            let inside = expected(inside.into_iter(), direction);
            assert_eq!(pairs(engine.prefix(prefix, direction)), inside, "{prefix:?}");
        }
        for _ in 0..60 {
            let (start, end) = (bound(rng), bound(rng));
            let slice = |bound: &Bound<Vec<u8>>| bound.clone();
            let mut iter = engine.range(
                slice(&start).as_ref().map(Vec::as_slice),
                slice(&end).as_ref().map(Vec::as_slice),
                direction,
            );
            let inside: Vec<_> = model
                .iter()
                .filter(|(key, _)| is_after(key, &start) && is_before(key, &end))
                .collect();
            let all = expected(inside.iter().copied(), direction);
            // Some of it, then from another place, lent; then the rest of that.
            let some = rng.usize(..20);
            assert_eq!(pairs_of(&mut iter, some), all[..some.min(all.len())]);
            let target = key(rng);
            iter.seek(&target);
            let beyond = |pair: &&(Vec<u8>, Vec<u8>)| match direction {
                Direction::Forward => pair.0 >= target,
                Direction::Reverse => pair.0 <= target,
            };
            let beyond: Vec<_> = all.iter().filter(beyond).cloned().collect();
            if let Some((key, value, _)) = iter.next_lent().unwrap() {
                assert_eq!((key, value), (&*beyond[0].0, &*beyond[0].1));
                assert_eq!(pairs(iter), beyond[1..]);
            } else {
                assert!(beyond.is_empty());
            }
        }
    }
    let asked: Vec<Vec<u8>> = (0..300).map(|_| key(rng)).collect();
    let found = engine.multi_get(&asked);
    for (key, found) in asked.iter().zip(found) {
        let value = model.get(key);
        let one = engine.get(key).unwrap();
        assert_eq!(found.unwrap(), one, "{key:?}");
        assert_eq!(one.map(|(value, _)| value.to_vec()).as_ref(), value, "{key:?}");
    }
}

fn pairs_of(iter: &mut Iter, count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |pair: Result<(bytes::Bytes, bytes::Bytes, _), Error>| {
        pair.map(|(key, value, _)| (key.to_vec(), value.to_vec())).unwrap()
    };
    iter.take(count).map(pair).collect()
}

#[test]
fn tables_of_every_shape_read_alike() {
    for (number, options) in shapes().into_iter().enumerate() {
        let mut rng = Rng::with_seed(number as u64);
        let disk = FaultyVfs::new(1);
        let engine = open(&disk, options.clone());
        let model = fill(&engine, &mut rng);
        compare(&engine, &model, &mut rng);
        assert!(engine.verify().errors.is_empty(), "{options:?}");
        engine.flush().unwrap();
        drop(engine);
        // A later opening may want other shapes: each table says what it is.
        let engine = open(&disk, Options::default());
        compare(&engine, &model, &mut rng);
        engine.compact().unwrap();
        compare(&engine, &model, &mut rng);
        assert!(engine.verify().errors.is_empty());
    }
}

/// A store with one table of `count` pairs whose values are made by `value`.
fn one_table(options: Options, count: u32, value: impl Fn(u32) -> Vec<u8>) -> (FaultyVfs, Engine) {
    let disk = FaultyVfs::new(1);
    let engine = open(&disk, options);
    let mut rng = Rng::with_seed(1);
    let mut batch = Batch::new();
    for number in 0..count {
        let key: [u8; 16] = core::array::from_fn(|_| rng.u8(..));
        batch.put(&key, &value(number));
        if batch.len() == 50 {
            submit(&engine, std::mem::take(&mut batch));
        }
        if number == count / 2 {
            // Two tables that overlap are merged: one alone would only be moved.
            engine.flush().unwrap();
        }
    }
    submit(&engine, batch);
    engine.compact().unwrap();
    assert_eq!(engine.stats().tables, 1);
    (disk, engine)
}

#[test]
fn a_pair_costs_at_most_thirty_bytes_beyond_itself() {
    let options = Options { compression: [Compression::None; LEVEL_COUNT], ..Options::default() };
    let mut rng = Rng::with_seed(2);
    let noise: Vec<u8> = (0..100).map(|_| rng.u8(..)).collect();
    let (_, engine) = one_table(options, 20_000, |_| noise.clone());
    let stats = engine.stats();
    assert_eq!(stats.raw_bytes, 20_000 * 116);
    let beyond = (stats.table_bytes - stats.raw_bytes) as f64 / 20_000.0;
    println!("{beyond:.2} bytes a pair beyond key and value");
    assert!(beyond <= 30.0, "{beyond}");
}

#[test]
fn what_repeats_is_compressed_in_lower_levels_and_noise_is_kept_as_it_is() {
    let text = |number: u32| format!("{number:010} and so on, and so on, and so on").into_bytes();
    let size = |compression, value: &dyn Fn(u32) -> Vec<u8>| {
        let options = Options { compression, ..Options::default() };
        one_table(options, 2_000, value).1.stats().table_bytes
    };
    let none = [Compression::None; LEVEL_COUNT];
    let default = Options::default().compression;
    let (plain, dense) = (size(none, &text), size(default, &text));
    assert!(dense * 3 < plain * 2, "{dense} of {plain} bytes");
    let noise = |number: u32| {
        let mut rng = Rng::with_seed(u64::from(number));
        (0..100).map(|_| rng.u8(..)).collect()
    };
    assert_eq!(size(none, &noise), size(default, &noise));
}

fn table_of(disk: &FaultyVfs) -> PathBuf {
    disk.files().into_iter().find(|path| path.extension().is_some_and(|ext| ext == "sst")).unwrap()
}

fn u64_at(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

/// Where the filter begins and the data blocks end.
fn data_end(table: &[u8]) -> usize {
    u64_at(table, table.len() - 136)
}

#[test]
fn damage_of_compressed_blocks_and_of_either_level_of_an_index_is_an_error() {
    let compression = [Compression::Lz4; LEVEL_COUNT];
    let options =
        || Options { compression, index_bytes_max: 0, block_bytes: 256, ..Options::default() };
    let (disk, engine) = one_table(options(), 200, |number| vec![number as u8; 40]);
    let whole = pairs(engine.prefix(b"", Direction::Forward));
    drop(engine);
    let path = table_of(&disk);
    let content = disk.content(&path).unwrap();
    assert_eq!(content[content.len() - 136 + 116], 2, "the index has two levels");
    let mut refused = 0;
    for offset in 0..content.len() {
        let disk = disk.fork(offset as u64);
        let mut damaged = content.clone();
        damaged[offset] ^= 1 << (offset % 8);
        disk.plant(&path, damaged);
        let opened = Engine::open(Arc::new(disk), Path::new(DIR), inline(options()));
        let Ok((engine, recovery)) = opened else {
            refused += 1;
            continue;
        };
        refused += recovery.unreadable.len();
        for (key, value) in &whole {
            match engine.get(key) {
                Ok(found) => assert_eq!(found.unwrap().0, value, "damage at {offset}"),
                Err(Error::Corrupt { file, .. }) => assert_eq!(file, path),
                Err(error) => panic!("{error} at {offset}"),
            }
        }
        for direction in [Direction::Forward, Direction::Reverse] {
            let mut seen = engine.prefix(b"", direction);
            let read = seen.by_ref().take_while(Result::is_ok).count();
            assert!(read <= whole.len() && seen.next().is_none());
        }
        assert!(!engine.verify().errors.is_empty(), "verify has missed damage at {offset}");
    }
    // The footer, the filter of 200 keys at ten bits, and the upper index at least.
    assert!(refused > 136 + 250, "{refused}");
}

/// Whether a read notices that two compressed blocks have changed places.
pub(crate) fn exchanged_blocks_are_noticed() -> bool {
    let compression = [Compression::Lz4; LEVEL_COUNT];
    let options = || Options { compression, block_bytes: 1, ..Options::default() };
    let (disk, engine) = one_table(options(), 10, |_| vec![7; 400]);
    let first = pairs(engine.prefix(b"", Direction::Forward))[0].0.clone();
    drop(engine);
    let path = table_of(&disk);
    let mut content = disk.content(&path).unwrap();
    let length = data_end(&content) / 10;
    assert!(length < 200 && length * 10 == data_end(&content), "ten blocks of one length");
    let (one, other) = content.split_at_mut(length);
    one.swap_with_slice(&mut other[..length]);
    disk.plant(&path, content);
    let engine = open(&disk, options());
    matches!(engine.get(&first), Err(Error::Corrupt { offset: 0, .. }))
}

/// Whether a get finds nothing where only a table above says that the key was deleted.
pub(crate) fn a_delete_in_a_newer_table_hides_a_put() -> bool {
    let engine = open(&FaultyVfs::new(1), Options::default());
    let mut batch = Batch::new();
    batch.put(b"key", b"value");
    submit(&engine, batch);
    engine.flush().unwrap();
    let mut batch = Batch::new();
    batch.delete(b"key");
    // The filter of a table with few keys says no to a stranger only if others are in it.
    (0..40u8).for_each(|other| batch.put(&[other], b""));
    batch.put(b"z", b"");
    submit(&engine, batch);
    engine.flush().unwrap();
    assert_eq!(engine.stats().tables, 2);
    engine.get(b"key").unwrap().is_none()
}

#[test]
fn two_blocks_that_have_changed_places_are_an_error() {
    assert!(exchanged_blocks_are_noticed());
}

#[test]
fn a_block_that_was_written_there_before_is_found_when_all_is_read() {
    let options =
        || Options { compression: [Compression::None; LEVEL_COUNT], ..Options::default() };
    let (disk, _) = one_table(options(), 100, |_| vec![1; 100]);
    let (older, _) = one_table(options(), 100, |_| vec![2; 100]);
    let path = table_of(&disk);
    let mut content = disk.content(&path).unwrap();
    let old = older.content(&table_of(&older)).unwrap();
    assert_eq!((content.len(), path.clone()), (old.len(), table_of(&older)));
    // The same keys at the same offsets of a file of the same number: each checksum holds.
    let end = data_end(&content);
    content[..end].copy_from_slice(&old[..end]);
    disk.plant(&path, content);
    let engine = open(&disk, options());
    assert_eq!(pairs(engine.prefix(b"", Direction::Forward)).len(), 100);
    let errors = engine.verify().errors;
    assert!(errors[0].to_string().contains("not the one that was written last"), "{errors:?}");
}

#[test]
fn of_a_long_index_only_the_upper_level_stays_in_memory() {
    let memory = |index_bytes_max| {
        let options = Options { block_bytes: 64, index_bytes_max, ..Options::default() };
        let (disk, engine) = one_table(options.clone(), 3_000, |_| vec![7; 50]);
        drop(engine);
        let engine = open(&disk, options);
        let memory = engine.stats().table_memory_bytes;
        let found = engine.prefix(b"", Direction::Forward).filter(Result::is_ok).count();
        assert_eq!(found, 3_000);
        memory
    };
    let filter = 3_000 * 10 / 8;
    let (one, two) = (memory(1 << 20), memory(0));
    println!("{one} bytes with one level, {two} with two, {filter} of them for the filter");
    assert!((two - filter) * 3 < one - filter);
}

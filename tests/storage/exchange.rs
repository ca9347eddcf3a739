//! Export and ingestion from outside: whole ranges that change stores, and what must not come in.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use roundtable::storage::{
    Batch, Direction, Durability, Engine, Error, Export, FaultyVfs, KeyRange, Options, RealVfs,
    SyncMode, TableWriter, ThreadMode, Vfs, check,
};

use crate::harness::{State, dump};

const FROM: &str = "/srv/a/db";
const TO: &str = "/srv/b/db";
const OUT: &str = "/srv/a/out";

fn options() -> Options {
    Options {
        threads: ThreadMode::Inline,
        memtable_bytes: 20_000,
        block_bytes: 256,
        table_bytes: 3_000,
        level_base_bytes: 40_000,
        ..Options::default()
    }
}

fn open(disk: &FaultyVfs, dir: &str) -> Engine {
    Engine::open(Arc::new(disk.clone()), Path::new(dir), options()).unwrap().0
}

fn key(unit: u8, number: u32) -> Vec<u8> {
    [&[unit][..], format!("{number:05}").as_bytes()].concat()
}

fn put(engine: &Engine, unit: u8, numbers: impl Iterator<Item = u32>, value: &[u8]) {
    let mut batch = Batch::new();
    numbers.for_each(|number| batch.put(&key(unit, number), value));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    while engine.step() {}
}

fn of_unit(state: &State, unit: u8) -> State {
    state.iter().filter(|(key, _)| key[0] == unit).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Three units over several tables and levels, with deletes, deleted ranges, and writes in memory.
fn store() -> (FaultyVfs, Engine) {
    let disk = FaultyVfs::new(1);
    let engine = open(&disk, FROM);
    for unit in [b'a', b'b', b'c'] {
        put(&engine, unit, (0..600).step_by(2), &[unit; 40]);
    }
    engine.flush().unwrap();
    for unit in [b'a', b'b', b'c'] {
        put(&engine, unit, (1..600).step_by(2), &[unit; 40]);
    }
    engine.compact().unwrap();
    let mut batch = Batch::new();
    batch.delete(&key(b'b', 7));
    batch.delete_range(&KeyRange::between(&key(b'b', 20), &key(b'b', 40)));
    batch.put(&key(b'b', 30), b"after the range");
    batch.put(&key(b'c', 1), b"of another unit");
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    (disk, engine)
}

fn tables(disk: &FaultyVfs, dir: &str) -> Vec<PathBuf> {
    let files = disk.files().into_iter().filter(|path| path.starts_with(dir));
    files.filter(|path| path.extension().is_some_and(|ending| ending == "sst")).collect()
}

#[test]
fn a_unit_moves_to_another_store_whole_and_mostly_by_links() {
    for links in [true, false] {
        let (disk, engine) = store();
        let whole = dump(&engine).unwrap();
        while engine.stats().pending_bytes > 0 {
            engine.step();
        }
        disk.set_links(links);
        let room = disk.bytes();
        let export = engine.export(&KeyRange::prefix(b"b"), Path::new(OUT)).unwrap();
        let more = disk.bytes() - room;
        let bytes: u64 = export.files.iter().map(|file| file.bytes).sum();
        assert_eq!(more < bytes, links, "{more} of {bytes} bytes written");
        assert!(export.files.len() > 2);
        assert_eq!(export.seqno, engine.stats().last);
        let unit = of_unit(&whole, b'b');
        assert_eq!(export.files.iter().map(|file| file.entries).sum::<u64>(), unit.len() as u64);
        assert_eq!(Export::read(&disk, Path::new(OUT)).unwrap(), export);
        // What comes later is in no export, and what becomes of the store does not matter to it.
        engine.delete_range(&KeyRange::all()).unwrap();
        engine.compact().unwrap();

        let other = open(&disk, TO);
        put(&other, b'a', 0..50, b"was here");
        put(&other, b'c', 0..50, b"was here");
        let mut expected = dump(&other).unwrap();
        let before = other.snapshot();
        let ingested = other.ingest(&export.paths(Path::new(OUT))).unwrap();
        expected.extend(unit.clone());
        assert_eq!((ingested.files, ingested.entries), (export.files.len(), unit.len() as u64));
        assert_eq!(dump(&other).unwrap(), expected);
        assert_eq!(before.get(&key(b'b', 1)).unwrap(), None);
        assert_eq!(other.get(&key(b'b', 1)).unwrap().unwrap().1, ingested.seqno);
        assert_eq!(other.stats().levels.last().unwrap().tables, export.files.len());
        assert!(other.verify().errors.is_empty());
        // The files may go, and the store lives on: over a start, merges and another export.
        export.paths(Path::new(OUT)).iter().for_each(|path| disk.remove(path).unwrap());
        drop((other, before));
        assert!(check(&disk, Path::new(TO)).unwrap().faults.is_empty());
        let other = open(&disk, TO);
        assert_eq!(other.stats().last, ingested.seqno);
        let again = other.export(&KeyRange::prefix(b"b"), Path::new("/srv/b/out")).unwrap();
        let third = open(&disk, "/srv/c/db");
        third.ingest(&again.paths(Path::new("/srv/b/out"))).unwrap();
        assert_eq!(dump(&third).unwrap(), unit);
        put(&other, b'b', 100..200, b"later");
        other.compact().unwrap();
        expected.extend((100..200).map(|n| (key(b'b', n), b"later".to_vec())));
        assert_eq!(dump(&other).unwrap(), expected);
    }
}

/// Flips a bit in the middle of a file and says whether it is refused.
pub(crate) fn damage_is_refused() -> bool {
    let (disk, engine) = store();
    let export = engine.export(&KeyRange::prefix(b"b"), Path::new(OUT)).unwrap();
    let path = Path::new(OUT).join(&export.files[1].name);
    disk.set_links(false);
    disk.flip_bit(&path, 700, 3);
    open(&disk, TO).ingest(&[path]).is_err()
}

#[test]
fn every_flipped_bit_of_a_file_is_told_and_nothing_comes_in() {
    let (disk, engine) = store();
    let export = engine.export(&KeyRange::prefix(b"b"), Path::new(OUT)).unwrap();
    let path = Path::new(OUT).join(&export.files[0].name);
    let content = disk.content(&path).unwrap();
    let other = open(&disk, TO);
    put(&other, b'a', 0..5, b"was here");
    let (state, files) = (dump(&other).unwrap(), tables(&disk, TO));
    disk.set_links(false);
    for offset in (0..content.len()).step_by(11) {
        let mut damaged = content.clone();
        damaged[offset] ^= 1 << (offset % 8);
        disk.plant(&path, damaged);
        match other.ingest(&export.paths(Path::new(OUT))) {
            Err(Error::Corrupt { file, .. } | Error::Version { file, .. }) => {
                assert_eq!(file, path)
            }
            outcome => panic!("a flipped bit at {offset}: {outcome:?}"),
        }
    }
    for cut in [0, 1, 100, content.len() / 2, content.len() - 1] {
        disk.plant(&path, content[..cut].to_vec());
        let refused = other.ingest(std::slice::from_ref(&path));
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "cut to {cut}: {refused:?}");
    }
    assert_eq!(dump(&other).unwrap(), state);
    assert_eq!(tables(&disk, TO), files, "files of what was refused are left over");
    disk.plant(&path, content);
    other.ingest(&export.paths(Path::new(OUT))).unwrap();
}

#[test]
fn lists_that_are_damaged_or_name_files_elsewhere_are_refused() {
    let (disk, engine) = store();
    engine.export(&KeyRange::prefix(b"b"), Path::new(OUT)).unwrap();
    let list = Path::new(OUT).join("EXPORT");
    let content = disk.content(&list).unwrap();
    for offset in 0..content.len() {
        let mut damaged = content.clone();
        damaged[offset] ^= 1 << (offset % 8);
        disk.plant(&list, damaged);
        let read = Export::read(&disk, Path::new(OUT));
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{offset}: {read:?}");
    }
    let missing = Export::read(&disk, Path::new("/srv"));
    assert!(matches!(missing, Err(Error::Missing { .. })));
}

#[test]
fn an_export_to_pass_is_the_same_without_a_sync_or_a_list() {
    let (disk, engine) = store();
    let whole = dump(&engine).unwrap();
    let range = KeyRange::prefix(b"b");
    engine.export(&range, Path::new("/srv/a/durable")).unwrap();
    let before = disk.counts();
    let export = engine.export_to_pass(&range, Path::new(OUT)).unwrap();
    let after = disk.counts();
    // The log's, if it was not synced before.
    assert!(after.syncs - before.syncs <= 1, "{} syncs", after.syncs - before.syncs);
    assert!(Export::read(&disk, Path::new(OUT)).is_err());
    assert!(export.files.len() > 1 && export.files.iter().all(|file| file.bytes > 0));
    let target = open(&disk, TO);
    target.ingest(&export.paths(Path::new(OUT))).unwrap();
    assert_eq!(dump(&target).unwrap(), of_unit(&whole, b'b'));
    // What was taken in is durable, whoever wrote it.
    drop(target);
    disk.crash();
    disk.restart();
    assert_eq!(dump(&open(&disk, TO)).unwrap(), of_unit(&whole, b'b'));
}

fn written(disk: &FaultyVfs, name: &str, keys: std::ops::Range<u32>) -> PathBuf {
    let (vfs, path): (Arc<dyn Vfs>, _) = (Arc::new(disk.clone()), Path::new("/srv").join(name));
    let mut writer = TableWriter::create(&vfs, &path, &options()).unwrap();
    keys.for_each(|number| writer.put(&key(b'b', number), b"streamed").unwrap());
    writer.finish().unwrap();
    path
}

#[test]
fn a_range_in_use_or_files_that_meet_are_refused() {
    let (disk, engine) = store();
    let file = written(&disk, "one.sst", 100..110);
    let before = dump(&engine).unwrap();
    let refused = engine.ingest(std::slice::from_ref(&file));
    assert!(matches!(refused, Err(Error::RangeInUse { key: k }) if k == key(b'b', 100)));
    let other = written(&disk, "two.sst", 109..120);
    let refused = engine.ingest(&[file.clone(), other]);
    assert!(matches!(refused, Err(Error::FilesOverlap { .. })));
    let missing = engine.ingest(&[PathBuf::from("/srv/none.sst")]);
    assert!(matches!(missing, Err(Error::Missing { file }) if file == Path::new("/srv/none.sst")));
    assert_eq!(dump(&engine).unwrap(), before);
    assert_eq!(engine.ingest(&[]).unwrap().files, 0);
}

#[test]
fn of_two_files_that_meet_and_come_at_once_one_is_refused() {
    let disk = FaultyVfs::new(1);
    let options = Options { threads: ThreadMode::Threaded, ..options() };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(FROM), options).unwrap();
    for round in 0..60 {
        let low = round * 100;
        let one = written(&disk, &format!("{round}-one.sst"), low..low + 10);
        let other = written(&disk, &format!("{round}-other.sst"), low + 5..low + 15);
        let come = |file: PathBuf| {
            let engine = engine.clone();
            std::thread::Builder::new().spawn(move || engine.ingest(&[file])).unwrap()
        };
        let outcomes = [come(one), come(other)].map(|thread| thread.join().unwrap());
        let refused = outcomes.iter().filter(|it| matches!(it, Err(Error::RangeInUse { .. })));
        assert_eq!(refused.count(), 1, "round {round}: {outcomes:?}");
        assert!(outcomes.iter().any(Result::is_ok), "round {round}: {outcomes:?}");
    }
    assert!(engine.verify().errors.is_empty());
}

#[test]
fn what_is_left_of_an_emptied_range_hides_nothing_that_comes_in() {
    assert_eq!(hidden_by_deletes(), 0);
}

/// How many keys of tables that were taken in cannot be read, or can although they are not in them.
pub(crate) fn hidden_by_deletes() -> usize {
    let mut wrong = 0;
    // Deletes of keys, in memory or in tables, or a deleted range.
    for way in 0..4 {
        let (disk, engine) = store();
        let file = written(&disk, "one.sst", 100..110);
        let mut batch = Batch::new();
        match way {
            0 | 1 => (95..115).for_each(|number| batch.delete(&key(b'b', number))),
            _ => batch.delete_range(&KeyRange::between(&key(b'b', 95), &key(b'b', 115))),
        }
        engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
        if way % 2 == 1 {
            engine.flush().unwrap();
        }
        engine.ingest(std::slice::from_ref(&file)).unwrap();
        for round in 0..3 {
            for number in 95..115 {
                let found = engine.get(&key(b'b', number)).unwrap();
                let right = found.is_some() == (100..110).contains(&number);
                wrong += usize::from(!right);
            }
            if round < 2 {
                wrong += engine.verify().errors.len();
                engine.compact().unwrap();
            }
        }
        put(&engine, b'b', 105..106, b"newer");
        assert_eq!(engine.get(&key(b'b', 105)).unwrap().unwrap().0, "newer");
    }
    wrong
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let (disk, engine) = store();
    while engine.step() {}
    let export = engine.export(&KeyRange::prefix(b"b"), Path::new(OUT)).unwrap();
    let other = open(&disk, TO);
    disk.set_links(false);
    disk.set_capacity(Some(disk.bytes() + 3_000));
    let files = disk.files();
    let full = other.ingest(&export.paths(Path::new(OUT)));
    assert!(matches!(full, Err(Error::DiskFull)), "{full:?}");
    let full = engine.export(&KeyRange::all(), Path::new("/srv/a/more"));
    assert!(matches!(full, Err(Error::DiskFull)), "{full:?}");
    assert_eq!(disk.files(), files);
    assert_eq!(dump(&other).unwrap(), State::new());
    disk.set_capacity(None);
    other.ingest(&export.paths(Path::new(OUT))).unwrap();
}

#[test]
fn a_writer_takes_keys_in_order_only() {
    let disk: Arc<dyn Vfs> = Arc::new(FaultyVfs::new(1));
    let path = Path::new("/srv/table.sst");
    let mut writer = TableWriter::create(&disk, path, &options()).unwrap();
    writer.put(b"b", b"1").unwrap();
    for key in [&b"a"[..], b"b"] {
        assert!(matches!(writer.put(key, b"2"), Err(Error::OutOfOrder { .. })));
    }
    let long = writer.put(&vec![b'c'; 9_000], b"3");
    assert!(matches!(long, Err(Error::TooLong { what: "key", .. })));
    writer.put(b"c", b"4").unwrap();
    assert!(writer.bytes() > 0);
    let file = writer.finish().unwrap();
    assert_eq!((file.entries, &*file.smallest, &*file.largest), (2, &b"b"[..], &b"c"[..]));
    let empty = TableWriter::create(&disk, Path::new("/srv/empty.sst"), &options()).unwrap();
    assert!(matches!(empty.finish(), Err(Error::Empty { .. })));
}

/// Ends the writers of a test also when it fails: a scope waits for its threads.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_busy_store_takes_files_in_between_writes() {
    let root = tempfile::tempdir().unwrap();
    let options = Options {
        threads: ThreadMode::Threaded,
        sync: SyncMode::None,
        // Else the writers pile up memory that takes minutes to flush.
        memory_bytes_max: 200_000,
        ..options()
    };
    let dir = root.path().join("db");
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let (engine, _) = Engine::open(Arc::clone(&vfs), &dir, options.clone()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ending = Ending(&done);
        scope.spawn(|| {
            for round in 0u32.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                // On both sides of what is taken in, so that tables reach over it.
                let mut batch = Batch::new();
                batch.put(&key(b'a', round % 500), &[7; 60]);
                batch.put(&key(b'z', round % 500), &[7; 60]);
                let _overloaded = engine.write(batch);
            }
        });
        for unit in 0..12u8 {
            let path = root.path().join(format!("{unit}.sst"));
            let mut writer = TableWriter::create(&vfs, &path, &options).unwrap();
            (0..100).for_each(|number| writer.put(&key(b'm' + unit, number), &[unit]).unwrap());
            writer.finish().unwrap();
            engine.ingest(&[path]).unwrap();
            if unit % 3 == 2 {
                // The writer fills level 0 as fast as it can.
                let range = KeyRange::prefix(&[b'm' + unit - 1]);
                while let Err(error) = engine.delete_range(&range) {
                    assert!(matches!(error, Error::Overloaded { .. }), "{error}");
                    std::thread::yield_now();
                }
            }
        }
    });
    engine.compact().unwrap();
    for unit in 0..12u8 {
        let found = engine.get(&key(b'm' + unit, 99)).unwrap();
        assert_eq!(found.map(|(value, _)| value[0]), (unit % 3 != 1).then_some(unit));
    }
    assert!(engine.verify().errors.is_empty());
}

#[test]
fn a_snapshot_and_an_iterator_read_the_same_through_all_that_happens_to_the_store() {
    let (disk, engine) = store();
    let unit = KeyRange::prefix(b"b");
    let export = engine.export(&unit, Path::new(OUT)).unwrap();
    let snapshot = engine.snapshot();
    let all = || {
        let pairs = snapshot.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
        pairs.map(|pair| pair.unwrap()).collect::<Vec<_>>()
    };
    let before = all();
    let mut begun = snapshot.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    let mut read: Vec<_> = begun.by_ref().take(10).map(|pair| pair.unwrap()).collect();
    let checkpoint = || engine.checkpoint(Path::new("/srv/copy")).unwrap();
    let events: [(&str, &dyn Fn()); 9] = [
        ("flush", &|| engine.flush().unwrap()),
        ("a range goes", &|| assert!(engine.delete_range(&unit).is_ok())),
        ("merge", &|| engine.compact().unwrap()),
        ("files come in", &|| assert!(engine.ingest(&export.paths(Path::new(OUT))).is_ok())),
        ("writes", &|| put(&engine, b'b', 0..600, b"later")),
        ("checkpoint", &|| assert!(checkpoint().files > 0)),
        ("merge", &|| engine.compact().unwrap()),
        ("all goes", &|| assert!(engine.delete_range(&KeyRange::all()).is_ok())),
        ("merge", &|| engine.compact().unwrap()),
    ];
    for (event, happens) in events {
        happens();
        assert_eq!(all(), before, "after: {event}");
        let found = snapshot.get(&key(b'b', 30)).unwrap().map(|(value, _)| value);
        assert_eq!(found.as_deref(), Some(&b"after the range"[..]), "after: {event}");
        assert_eq!(snapshot.get(&key(b'b', 7)).unwrap(), None, "after: {event}");
        read.extend(begun.by_ref().take(60).map(|pair| pair.unwrap()));
    }
    read.extend(begun.map(|pair| pair.unwrap()));
    assert_eq!(read, before);
    // The store is empty: its tables are there for the readers alone.
    assert_eq!(dump(&engine).unwrap(), State::new());
    assert!(!tables(&disk, FROM).is_empty());
    drop(snapshot);
    assert_eq!(tables(&disk, FROM), Vec::<PathBuf>::new());
}

#[test]
fn what_was_taken_in_last_is_compacted_too() {
    let (_disk, engine) = store();
    let unit = KeyRange::prefix(b"a");
    let export = engine.export(&unit, Path::new(OUT)).unwrap();
    engine.delete_range(&unit).unwrap();
    // A delete that stays in level 0 keeps what is taken in above it.
    let mut batch = Batch::new();
    batch.delete(&key(b'a', 7));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    engine.flush().unwrap();
    engine.ingest(&export.paths(Path::new(OUT))).unwrap();
    engine.compact().unwrap();
    let stats = engine.stats();
    let (_last, upper) = stats.levels.split_last().unwrap();
    assert!(upper.iter().all(|level| level.tables == 0), "{stats:?}");
}

//! Filters and the block cache from outside: what they spare the disk, and what they never hide.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use roundtable::storage::{
    Batch, Durability, Engine, Error, FaultyVfs, MemoryVfs, Options, Recovery, ThreadMode, TryGet,
    Vfs,
};

use crate::harness::dump;

const KEYS: u32 = 500;

fn options() -> Options {
    Options { threads: ThreadMode::Inline, block_bytes: 256, ..Options::default() }
}

fn reopen(disk: &FaultyVfs) -> Result<(Engine, Recovery), Error> {
    Engine::open(Arc::new(disk.clone()), Path::new("/db"), options())
}

fn key(number: u32) -> Vec<u8> {
    format!("key{number:05}").into_bytes()
}

/// A store with one table that holds every other key.
fn store() -> (FaultyVfs, Engine) {
    let disk = FaultyVfs::new(1);
    let engine = reopen(&disk).unwrap().0;
    let mut batch = Batch::new();
    (0..KEYS).step_by(2).for_each(|number| batch.put(&key(number), b"some value"));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    engine.flush().unwrap();
    assert_eq!(engine.stats().tables, 1);
    (disk, engine)
}

fn table_of(disk: &FaultyVfs) -> PathBuf {
    disk.files().into_iter().find(|path| path.extension().is_some_and(|ext| ext == "sst")).unwrap()
}

#[test]
fn absent_keys_are_denied_without_the_disk() {
    let (disk, engine) = store();
    let reads = disk.counts().reads;
    let absent = (1..KEYS).step_by(2).filter(|number| match engine.try_get(&key(*number)) {
        TryGet::Absent => true,
        TryGet::NeedsDisk => false,
        TryGet::Found(..) => panic!("{number} was never written"),
    });
    let absent = absent.count();
    assert!(absent > 235, "{absent} of 250 absent keys were denied by the filter");
    assert_eq!(disk.counts().reads, reads);
}

#[test]
fn a_block_that_was_read_answers_without_the_disk() {
    let (disk, engine) = store();
    for number in (0..KEYS).step_by(2) {
        let before = engine.try_get(&key(number));
        let found = engine.get(&key(number)).unwrap().unwrap();
        let reads = disk.counts().reads;
        let after = engine.try_get(&key(number));
        assert_eq!(after, TryGet::Found(found.0, found.1));
        assert!(before == TryGet::NeedsDisk || before == after);
        assert_eq!(disk.counts().reads, reads);
    }
    let stats = engine.stats();
    assert!(stats.cache_bytes > 0 && stats.cache_hits > 0 && stats.table_memory_bytes > 0);
    // Everything has been read: nothing goes to the disk any more.
    let reads = disk.counts().reads;
    assert_eq!(dump(&engine).unwrap().len(), 250);
    assert_eq!(disk.counts().reads, reads);
}

#[test]
fn a_flipped_bit_anywhere_in_a_table_is_an_error_and_never_an_absence() {
    let (disk, engine) = store();
    let whole = dump(&engine).unwrap();
    drop(engine);
    let path = table_of(&disk);
    let content = disk.content(&path).unwrap();
    let mut refused = 0;
    for offset in 0..content.len() {
        let disk = disk.fork(offset as u64);
        let mut damaged = content.clone();
        damaged[offset] ^= 1 << (offset % 8);
        disk.plant(&path, damaged);
        let engine = match reopen(&disk) {
            Ok((engine, recovery)) => {
                // Index, filter and footer are read at opening.
                refused += recovery.unreadable.len();
                engine
            }
            // A table of a later format is no damage.
            Err(Error::Version { file, .. }) => {
                assert_eq!(file, path);
                refused += 1;
                continue;
            }
            Err(error) => panic!("{error} at {offset}"),
        };
        for number in 0..KEYS {
            match engine.get(&key(number)) {
                Ok(found) => {
                    let found = found.map(|(value, _)| value.to_vec());
                    assert_eq!(found.as_ref(), whole.get(&key(number)), "damage at {offset}");
                }
                Err(Error::Corrupt { file, .. }) => assert_eq!(file, path),
                Err(error) => panic!("{error} at {offset}"),
            }
        }
        assert!(!engine.verify().errors.is_empty(), "verify has missed damage at {offset}");
    }
    // Ten bits a key and the footer at least.
    assert!(refused > 250 * 10 / 8 + 88, "{refused}");
}

/// Else the sync at the end of a large file has all of it to write, and the log's syncs wait behind it.
#[test]
fn tables_and_blob_files_are_given_to_the_disk_as_they_are_written() {
    let disk = MemoryVfs::default();
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new("/db"), options()).unwrap();
    for number in 0..300 {
        let mut batch = Batch::new();
        batch.put(&key(number), &vec![7; if number % 10 == 0 { 100_000 } else { 1000 }]);
        engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
        while engine.step() {}
    }
    engine.flush().unwrap();
    let names = disk.list(Path::new("/db")).unwrap();
    let of = |kind: &str| names.iter().filter(|name| name.ends_with(kind)).collect::<Vec<_>>();
    assert!(!of(".sst").is_empty() && !of(".blob").is_empty(), "{names:?}");
    for name in [of(".sst"), of(".blob")].concat() {
        let path = Path::new("/db").join(name);
        let size = disk.open(&path).unwrap().size().unwrap();
        assert_eq!(disk.for_good(&path), Some(size), "{name}");
    }
    assert!(of(".wal").iter().all(|name| disk.for_good(&Path::new("/db").join(name)) == Some(0)));
}

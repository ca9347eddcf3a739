//! The offline check: silent on a sound store, and every fault named, without touching anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use roundtable::storage::{
    Batch, Compression, Durability, Engine, Error, Export, FaultyVfs, KeyRange, LEVEL_COUNT,
    Options, RealVfs, TableWriter, ThreadMode, Vfs, check,
};

use crate::damage::{of_kind, open, store};
use crate::harness::DIR;
use crate::logs::{HEAD, number_of, records, records_end};

fn contents(disk: &FaultyVfs) -> Vec<Option<Vec<u8>>> {
    disk.files().iter().map(|path| disk.content(path)).collect()
}

#[test]
fn a_sound_store_has_no_faults_and_everything_in_it_is_counted() {
    let disk = store();
    let before = contents(&disk);
    let checked = check(&disk, Path::new(DIR)).unwrap();
    assert!(checked.faults.is_empty(), "{:?}", checked.faults);
    assert!(checked.tables > 1 && checked.blocks > 10, "{checked:?}");
    assert!(checked.segments > 1 && checked.batches >= 25, "{checked:?}");
    // Only the mark is behind the last batch, and it is no torn write.
    assert_eq!(checked.torn_bytes, 0);
    assert_eq!(contents(&disk), before);
}

#[test]
fn every_flipped_bit_is_a_fault_that_names_its_file() {
    let disk = store();
    for path in disk.files() {
        let size = disk.content(&path).unwrap().len();
        // The manifest of the first start is not in use any more.
        if path.ends_with("MANIFEST-000002") {
            continue;
        }
        for byte in (0..size).step_by(5) {
            let damaged = disk.fork(0);
            damaged.flip_bit(&path, byte, (byte % 8) as u8);
            let before = contents(&damaged);
            let checked = check(&damaged, Path::new(DIR)).unwrap();
            assert_eq!(contents(&damaged), before, "a check changes nothing");
            let last_log = of_kind(&disk, ".wal").pop().unwrap();
            // The mark at the log's end and the padding are covered by no promise.
            let in_tail = path == last_log && checked.torn_bytes > 0;
            let in_last_edit = path.to_str().unwrap().contains("MANIFEST");
            let padding = path.extension().is_some_and(|kind| kind == "wal");
            let names_it = |fault: &Error| fault.to_string().contains(DIR);
            let told = !checked.faults.is_empty() && checked.faults.iter().all(names_it);
            assert!(
                told || in_tail || in_last_edit || padding && is_padding(&disk, &path, byte),
                "{} byte {byte}: {checked:?}",
                path.display()
            );
        }
    }
}

/// Whether a byte of a log lies between a payload and the next record, or behind a seal: it means
/// nothing there. Walks the records as `docs/format/wal.md` says.
fn is_padding(disk: &FaultyVfs, path: &Path, byte: usize) -> bool {
    let (content, number) = (disk.content(path).unwrap(), number_of(path));
    if byte >= records_end(&content, number) {
        return true;
    }
    records(&content, number).iter().any(|(offset, head)| {
        let end = offset + HEAD + head.length;
        // A mark at the end of a sealed segment is behind the length in the manifest.
        let is_mark = head.length == 0 && (*offset..end).contains(&byte);
        is_mark || (end..offset + head.record()).contains(&byte)
    })
}

#[test]
fn missing_files_and_wrong_directories_are_faults() {
    let disk = store();
    for ending in [".wal", ".sst", "CURRENT"] {
        let damaged = disk.fork(0);
        let path = of_kind(&disk, ending).pop().unwrap();
        damaged.remove(&path).unwrap();
        let checked = check(&damaged, Path::new(DIR)).unwrap();
        let [Error::Missing { file }] = checked.faults.as_slice() else {
            panic!("{ending}: {checked:?}")
        };
        assert_eq!(*file, path);
    }
    let checked = check(&FaultyVfs::new(0), Path::new("/nowhere")).unwrap();
    assert!(matches!(checked.faults.as_slice(), [Error::Missing { .. }]));
}

#[test]
fn a_store_that_is_open_is_not_checked() {
    let disk = store();
    let (engine, _) = open(&disk).unwrap();
    assert!(matches!(check(&disk, Path::new(DIR)), Err(Error::Locked { .. })));
    engine.close().unwrap();
    assert!(check(&disk, Path::new(DIR)).unwrap().faults.is_empty());
}

#[test]
fn real_files_are_checked_too() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Engine::open(Arc::new(RealVfs), dir.path(), Options::default()).unwrap();
    let mut batch = Batch::new();
    batch.put(b"key", b"value");
    engine.write(batch).unwrap();
    engine.flush().unwrap();
    assert!(matches!(check(&RealVfs, dir.path()), Err(Error::Locked { .. })));
    engine.close().unwrap();
    let checked = check(&RealVfs, dir.path()).unwrap();
    assert!(checked.faults.is_empty() && checked.tables == 1, "{checked:?}");
}

const OUT: &str = "/srv/out";

/// An export of a store with a table that is linked and some that are written.
fn export() -> (FaultyVfs, Vec<PathBuf>) {
    let disk = FaultyVfs::new(1);
    let options = Options {
        threads: ThreadMode::Inline,
        block_bytes: 256,
        table_bytes: 2_000,
        ..Options::default()
    };
    let vfs = Arc::new(disk.clone());
    let (engine, _) = Engine::open(vfs, Path::new("/srv/from"), options).unwrap();
    let mut batch = Batch::new();
    (0..100u8).for_each(|key| batch.put(&[key], &[key; 40]));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    engine.compact().unwrap();
    let mut batch = Batch::new();
    batch.put(&[7], b"again");
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    let export = engine.export(&KeyRange::starting_at(&[5]), Path::new(OUT)).unwrap();
    engine.close().unwrap();
    // Nothing is shared with the store any more: what is done to one is not done to the other.
    let paths = export.paths(Path::new(OUT));
    assert!(paths.len() > 2, "{export:?}");
    for path in &paths {
        let content = disk.content(path).unwrap();
        disk.remove(path).unwrap();
        disk.plant(path, content);
    }
    (disk, paths)
}

fn faults(disk: &FaultyVfs) -> Vec<Error> {
    let before = contents(disk);
    let checked = check(disk, Path::new(OUT)).unwrap();
    assert_eq!(contents(disk), before, "a check changes nothing");
    checked.faults
}

#[test]
fn a_sound_export_has_no_faults_and_every_flipped_bit_of_it_is_one() {
    let (disk, paths) = export();
    let checked = check(&disk, Path::new(OUT)).unwrap();
    assert!(checked.faults.is_empty(), "{:?}", checked.faults);
    assert_eq!((checked.tables, checked.segments), (paths.len(), 0));
    assert!(checked.blocks > 10);
    for path in paths.iter().chain([&Path::new(OUT).join("EXPORT")]) {
        let size = disk.content(path).unwrap().len();
        for byte in (0..size).step_by(3) {
            let damaged = disk.fork(0);
            damaged.flip_bit(path, byte, (byte % 8) as u8);
            let faults = faults(&damaged);
            assert!(!faults.is_empty(), "{} byte {byte} is not told", path.display());
            for fault in &faults {
                let names_it = matches!(fault, Error::Corrupt { file, .. } if file == path)
                    || matches!(fault, Error::Version { file, .. } if file == path);
                assert!(names_it, "{} byte {byte}: {fault}", path.display());
            }
        }
    }
}

#[test]
fn a_damaged_block_of_an_export_is_named_with_its_offset() {
    let (disk, paths) = export();
    for byte in [3, 300] {
        let damaged = disk.fork(0);
        damaged.flip_bit(&paths[0], byte, 1);
        let told = faults(&damaged);
        let [Error::Corrupt { offset, .. }] = told.as_slice() else { panic!("{told:?}") };
        assert!(*offset <= byte as u64 && byte as u64 - offset < 300, "{offset} for {byte}");
    }
}

#[test]
fn an_export_with_other_files_than_its_list_says_is_not_sound() {
    let (disk, paths) = export();
    let (first, second) = (&paths[0], &paths[1]);
    let one = |damaged: &FaultyVfs| {
        let mut told = faults(damaged);
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    };
    let missing = disk.fork(0);
    missing.remove(first).unwrap();
    assert!(matches!(one(&missing), Error::Missing { file } if file == *first));
    // Cut, longer, or empty.
    let content = disk.content(first).unwrap();
    let longer = [content.as_slice(), &[0]].concat();
    for wrong in [&content[..content.len() - 1], &longer, &[]] {
        let resized = disk.fork(0);
        resized.plant(first, wrong.to_vec());
        let fault = one(&resized);
        let end = wrong.len().min(content.len()) as u64;
        assert!(
            matches!(&fault, Error::Corrupt { file, offset, .. } if file == first && *offset == end)
        );
        assert!(fault.to_string().contains("length"), "{fault}");
    }
    // A table that is whole, but another: as long as the first and with the same keys.
    let exchanged = disk.fork(0);
    exchanged.plant(second, content.clone());
    assert!(matches!(one(&exchanged), Error::Corrupt { file, .. } if file == *second));
    let rewritten = disk.fork(0);
    let vfs: Arc<dyn Vfs> = Arc::new(rewritten.clone());
    rewritten.remove(second).unwrap();
    // The table was moved from level 0, where nothing is compressed.
    let compression = [Compression::None; LEVEL_COUNT];
    let shape = Options { block_bytes: 256, compression, ..Options::default() };
    let mut writer = TableWriter::create(&vfs, second, &shape).unwrap();
    let listed = Export::read(&disk, Path::new(OUT)).unwrap();
    let keys = listed.files[1].smallest[0]..=listed.files[1].largest[0];
    keys.for_each(|key| writer.put(&[key], &[key ^ 1; 40]).unwrap());
    assert_eq!(writer.finish().unwrap().bytes, listed.files[1].bytes, "as long as it was");
    let fault = one(&rewritten);
    assert!(fault.to_string().contains("file checksum"), "{fault}");
    // A table that nobody named.
    let stray = disk.fork(0);
    let path = Path::new(OUT).join("000099.sst");
    stray.plant(&path, content);
    assert!(matches!(one(&stray), Error::Corrupt { file, .. } if file == path));
    // Cut short before the list was written: neither an export nor a store.
    let unfinished = disk.fork(0);
    let list = Path::new(OUT).join("EXPORT");
    unfinished.remove(&list).unwrap();
    assert!(matches!(one(&unfinished), Error::Missing { .. }));
}

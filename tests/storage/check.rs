//! The offline check: silent on a sound store, and every fault named, without touching anything.

use std::path::Path;
use std::sync::Arc;

use roundtable::storage::{Batch, Engine, Error, FaultyVfs, Options, RealVfs, check};

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
        roundtable::storage::Vfs::remove(&damaged, &path).unwrap();
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

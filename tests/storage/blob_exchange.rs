//! Long values that move: exports, ingestions, streamed tables and checkpoints take their blob files
//! along, and nobody else's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use roundtable::storage::{
    Batch, Durability, Engine, Error, Export, FaultyVfs, KeyRange, Options, TableWriter, Vfs, check,
};
use roundtable::testing::arm_mutant;

use crate::blobs::{blobs, key, open_with, options, put, reads_all, settle, store, value};
use crate::harness::dump;

fn units(engine: &Engine, units: u8, each: u32) {
    for unit in 0..units {
        let mut batch = Batch::new();
        (0..each).for_each(|number| {
            batch.put(&[&[b'a' + unit][..], &key(number)].concat(), &value(number, unit.into()));
        });
        engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    }
}

/// Exports a unit and takes it in elsewhere; whether all of it came along.
fn an_export_takes_its_values_along(each: u32, links: bool) -> bool {
    let disk = FaultyVfs::new(1);
    let with_units = || Options { unit_prefix_bytes: 1, table_bytes: 20_000, ..options() };
    let engine = open_with(&disk, with_units());
    units(&engine, 6, each);
    engine.flush().unwrap();
    engine.compact().unwrap();
    let (out, unit) = (Path::new("/srv/out"), KeyRange::prefix(b"c"));
    let room = disk.bytes();
    let export = engine.export(&unit, out).unwrap();
    let more = disk.bytes() - room;
    let bytes: u64 = export.blobs.iter().map(|blob| blob.bytes).sum();
    // Files that are mostly of other units are not handed over.
    assert!(bytes < u64::from(each) * 2_100 * 2, "{bytes}");
    assert_eq!(more < bytes, links, "{more} of {bytes} bytes were written");
    let other = Engine::open(Arc::new(disk.clone()), Path::new("/srv/other"), options()).unwrap().0;
    if other.ingest(&export.paths(out)).is_err() {
        return false;
    }
    assert_eq!(Export::read(&disk, out).unwrap(), export);
    // The store lives on without the one it came from.
    engine.delete_range(&KeyRange::all()).unwrap();
    export.paths(out).iter().for_each(|path| disk.remove(path).unwrap());
    let before = dump(&other).unwrap();
    assert_eq!(before.len(), each as usize);
    assert!(before.iter().zip(0..).all(|((_, found), number)| *found == value(number, 2)));
    drop(other);
    let other = Engine::open(Arc::new(disk.clone()), Path::new("/srv/other"), options()).unwrap().0;
    other.compact().unwrap();
    assert!(other.verify().errors.is_empty());
    // A third, of what was taken in.
    let again = other.export(&unit, Path::new("/srv/again")).unwrap();
    let third = Engine::open(Arc::new(disk.clone()), Path::new("/srv/third"), options()).unwrap().0;
    third.ingest(&again.paths(Path::new("/srv/again"))).unwrap();
    dump(&third).unwrap() == before && dump(&other).unwrap() == before
}

#[test]
fn a_unit_takes_its_values_along() {
    assert!(an_export_takes_its_values_along(30, true));
    assert!(an_export_takes_its_values_along(2, false));
    let _armed = arm_mutant("storage-export-forgets-blob");
    let exported = || an_export_takes_its_values_along(30, true);
    assert!(!std::panic::catch_unwind(exported).unwrap_or(false));
}

#[test]
fn damage_in_a_blob_file_of_an_export_is_told_and_nothing_comes_in() {
    let (disk, engine, _) = store();
    let out = Path::new("/srv/out");
    let export = engine.export(&KeyRange::all(), out).unwrap();
    let other = Engine::open(Arc::new(disk.clone()), Path::new("/srv/other"), options()).unwrap().0;
    disk.set_links(false);
    let path = out.join(&export.blobs[0].name);
    let content = disk.content(&path).unwrap();
    let files = disk.files();
    for offset in
        (0..content.len()).step_by(997).chain([1, 20, content.len() - 3, content.len() - 50])
    {
        let mut damaged = content.clone();
        damaged[offset] ^= 1 << (offset % 8);
        disk.plant(&path, damaged);
        match other.ingest(&export.paths(out)) {
            Err(Error::Corrupt { file, .. } | Error::Version { file, .. }) => {
                assert_eq!(file, path)
            }
            outcome => panic!("a flipped bit at {offset}: {outcome:?}"),
        }
    }
    disk.plant(&path, content);
    let without: Vec<_> = export.paths(out).into_iter().filter(|it| *it != path).collect();
    assert!(matches!(other.ingest(&without), Err(Error::Corrupt { .. })));
    assert_eq!(disk.files(), files);
    other.ingest(&export.paths(out)).unwrap();
    assert_eq!(dump(&other).unwrap().len(), 100);
}

#[test]
fn a_table_that_is_streamed_has_its_values_beside_it() {
    let disk = FaultyVfs::new(1);
    let (vfs, dir): (Arc<dyn Vfs>, _) = (Arc::new(disk.clone()), Path::new("/srv/in"));
    let mut writer = TableWriter::create(&vfs, &dir.join("one.sst"), &options()).unwrap();
    (0..60).for_each(|number| writer.put(&key(number), &value(number, 0)).unwrap());
    assert!(writer.bytes() > 60 * 2_000);
    let file = writer.finish().unwrap();
    assert_eq!(file.blobs, ["one.1.blob", "one.2.blob", "one.3.blob"][..file.blobs.len()]);
    assert!(file.blobs.len() >= 2 && file.bytes < 20_000, "{file:?}");
    let engine = open_with(&disk, options());
    // A blob file that nothing refers to is left out.
    let mut paths = file.paths(dir);
    let mut writer = TableWriter::create(&vfs, &dir.join("two.sst"), &options()).unwrap();
    writer.put(&key(0), &value(0, 0)).unwrap();
    paths.extend(writer.finish().unwrap().blobs.iter().map(|name| dir.join(name)));
    let ingested = engine.ingest(&paths).unwrap();
    assert_eq!((ingested.files, ingested.entries), (1, 60));
    assert!(ingested.bytes > 60 * 2_000);
    assert_eq!(blobs(&disk).len(), file.blobs.len());
    assert!(
        (0..60).all(|number| engine.get(&key(number)).unwrap().unwrap().0 == value(number, 0)[..])
    );
    assert!(engine.verify().errors.is_empty());
}

#[test]
fn a_checkpoint_shares_blob_files_and_writes_those_of_what_is_in_memory() {
    let (disk, engine, mut state) = store();
    put(&engine, 95..105, 1);
    state.extend((95..105).map(|number| (key(number), value(number, 1))));
    let checkpoint = engine.checkpoint(Path::new("/srv/copy")).unwrap();
    assert!(
        checkpoint.bytes > 90 * 2_000 && checkpoint.bytes_copied < 15 * 2_100,
        "{checkpoint:?}"
    );
    engine.delete_range(&KeyRange::all()).unwrap();
    settle(&engine);
    let copy = Engine::open(Arc::new(disk.clone()), Path::new("/srv/copy"), options()).unwrap();
    assert_eq!(copy.1.unreadable, Vec::<PathBuf>::new());
    reads_all(&copy.0, &state);
    drop(copy);
    assert!(check(&disk, Path::new("/srv/copy")).unwrap().faults.is_empty());
}

//! What may happen while tables are on their way in, by the steps of an inline engine.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::storage::engine::Engine;
use crate::storage::{
    Batch, Durability, FaultyVfs, KeyRange, Options, TableWriter, ThreadMode, Vfs,
};
use crate::testing::arm_mutant;

const DIR: &str = "/srv/db";

fn open(disk: &FaultyVfs, dir: &str, options: Options) -> Engine {
    Engine::open(Arc::new(disk.clone()), Path::new(dir), options).unwrap().0
}

/// Writes a batch into the log, and does nothing else.
fn write(engine: &Engine, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    while engine.core.log_step() {}
}

/// What is found of a key of a table that gets its number, when `newer` is written, flushed and
/// merged, to its end or not, before the table would stand among the others.
fn found_after(newer: impl FnOnce(&mut Batch), merged: bool) -> Option<Bytes> {
    let disk = FaultyVfs::new(1);
    let options = Options {
        threads: ThreadMode::Inline,
        l0_trigger: 1,
        compaction_step_bytes: 1,
        ..Options::default()
    };
    let engine = open(&disk, DIR, options.clone());
    let (vfs, file): (Arc<dyn Vfs>, _) = (Arc::new(disk), Path::new("/srv/one.sst"));
    let mut writer = TableWriter::create(&vfs, file, &options).unwrap();
    writer.put(b"key", b"taken in").unwrap();
    writer.finish().unwrap();
    let core = &engine.core;
    let (_, table) = core.link_foreign(file, &[], &mut Vec::new()).unwrap();
    let mut tables = vec![table];
    let moment = core.number_for(&tables).unwrap().unwrap();
    write(&engine, |batch| {
        // With a delete in it the table is merged and not moved.
        batch.delete(b"other");
        newer(batch);
    });
    core.request_flush().unwrap();
    assert!(core.flush_step());
    let mut slots = VecDeque::new();
    assert!(core.compact_step(&mut slots, 1).is_some() && !slots.is_empty());
    while merged && core.compact_step(&mut slots, 1).is_some() {}
    let _taken_in = core.put_in(&mut tables, moment.seqno).unwrap();
    while core.compact_step(&mut slots, 1).is_some() {}
    engine.get(b"key").unwrap().map(|(value, _)| value)
}

/// How often an older version is read.
fn newer_writes_that_are_lost() -> usize {
    let put = |batch: &mut Batch| batch.put(b"key", b"newer");
    let delete = |batch: &mut Batch| batch.delete(b"key");
    let delete_range = |batch: &mut Batch| batch.delete_range(&KeyRange::prefix(b"k"));
    let mut lost = 0;
    for merged in [false, true] {
        lost += usize::from(found_after(put, merged).is_none_or(|value| value != "newer"));
        lost += usize::from(found_after(delete, merged).is_some());
        lost += usize::from(found_after(delete_range, merged).is_some());
    }
    lost
}

#[test]
fn what_is_written_while_tables_come_in_is_not_hidden_by_them() {
    assert_eq!(newer_writes_that_are_lost(), 0);
    let _armed = arm_mutant("storage-ingest-beside-newer");
    assert!(newer_writes_that_are_lost() > 0);
}

/// A store that has taken in a table, which stands in level 0 above an older one and below a memtable
/// that is not flushed; then the table is written anew, as much of its blob file is dead.
fn with_a_table_rewritten_in_level_0(disk: &FaultyVfs) -> Engine {
    let options = || Options {
        threads: ThreadMode::Inline,
        l0_trigger: 100,
        unit_prefix_bytes: 1,
        table_bytes: 20_000,
        blob_bytes_min: Some(1_000),
        blob_file_bytes: 1 << 20,
        ..Options::default()
    };
    let from = open(disk, "/srv/from", options());
    let mut rng = fastrand::Rng::with_seed(1);
    let mut value = || (0..2_000).map(|_| rng.u8(..)).collect::<Vec<u8>>();
    write(&from, |batch| {
        (0..12).for_each(|number| batch.put(&[b'c', number], &value()));
        (0..8).for_each(|number| batch.put(&[b'd', number], &value()));
    });
    from.compact().unwrap();
    let out = Path::new("/srv/out");
    let export = from.export(&KeyRange::prefix(b"c"), out).unwrap();
    assert!(export.blobs[0].bytes > 20 * 2_000, "the file of both units is linked");
    let engine = open(disk, DIR, options());
    let around = |batch: &mut Batch| [b"a", b"z"].iter().for_each(|key| batch.put(*key, b"around"));
    write(&engine, around);
    engine.flush().unwrap();
    write(&engine, around);
    engine.ingest(&export.paths(out)).unwrap();
    assert_eq!((engine.stats().levels[0].tables, engine.stats().sealed_memtables), (2, 1));
    let mut slots = VecDeque::new();
    while engine.core.compact_step(&mut slots, 1).is_some() {}
    let stats = engine.stats();
    assert_eq!((stats.levels[0].tables, stats.blob_bytes_moved > 0), (2, true));
    // Replayed, it is in one memtable with what was before the table.
    write(&engine, |batch| batch.put(b"a", b"newer"));
    engine
}

fn has_all(engine: &Engine) -> bool {
    let newest = engine.get(b"a").unwrap().is_some_and(|(value, _)| value == "newer");
    newest && (0..12).all(|number| engine.get(&[b'c', number]).unwrap().is_some())
}

#[test]
fn a_table_that_was_taken_in_may_be_reached_over_also_when_it_has_been_rewritten() {
    let disk = FaultyVfs::new(1);
    let engine = with_a_table_rewritten_in_level_0(&disk);
    let (copy, options) = ("/srv/copy", engine.core.options.clone());
    engine.checkpoint(Path::new(copy)).unwrap();
    assert!(has_all(&open(&disk, copy, options.clone())));
    disk.crash();
    disk.restart();
    for _ in 0..2 {
        let engine = open(&disk, DIR, options.clone());
        engine.flush().unwrap();
        assert!(has_all(&engine) && engine.verify().errors.is_empty());
    }
}

#[test]
fn a_flush_that_would_break_the_order_of_tables_is_stopped_before_it_is_in_force() {
    let _armed = arm_mutant("storage-rewrite-forgets-adoption");
    let disk = FaultyVfs::new(1);
    let engine = with_a_table_rewritten_in_level_0(&disk);
    let options = engine.core.options.clone();
    engine.checkpoint(Path::new("/srv/copy")).unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    assert!(Engine::open(Arc::clone(&vfs), Path::new("/srv/copy"), options.clone()).is_err());
    disk.crash();
    disk.restart();
    let engine = open(&disk, DIR, options.clone());
    let flushed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.flush()));
    assert!(flushed.is_err());
    drop(engine);
    assert!(has_all(&open(&disk, DIR, options)));
}

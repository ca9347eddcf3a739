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

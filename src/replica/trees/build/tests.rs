//! A write that comes while entries are read for a tree.

use std::path::Path;

use super::*;
use crate::message::DiskRequest;
use crate::repair::tree::Print;
use crate::replica::execute::Undone;
use crate::replica::keyspace::data_key;
use crate::replica::record;
use crate::replica::trees::counted::{Changed, Counted};
use crate::replica::{Replica, trees};
use crate::storage::{Durability, FaultyVfs, Options, ThreadMode};
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, Key, NodeId, Partition, Record, Stamp, TableId, Unit, Value, WallTime,
};

const TABLE: TableId = TableId(1);
const UNIT: Unit = Unit { class: ClassId(0), partition: Partition(3) };
/// How often the writer lets others run before it goes on.
const YIELDS: u32 = 10_000;

fn version(time: u64) -> Record {
    let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    Record { stamp, expiry: None, value: Some(Value::new("a value").unwrap()) }
}

fn name(number: u64) -> Key {
    Key::new(format!("key {number}")).unwrap()
}

fn store() -> Replica {
    let options = Options { threads: ThreadMode::Inline, ..Options::default() };
    let vfs = FaultyVfs::new(1);
    let replica = Replica::open(Arc::new(vfs), Path::new("data"), options).unwrap().0;
    for number in 0..8 {
        let (unit, table, key, record) = (UNIT, TABLE, name(number), version(number));
        replica.execute(DiskRequest::Write { unit, table, key, record }, Box::new(|_| ()));
        while replica.step() {}
    }
    replica.settle_trees();
    replica
}

/// Builds the tree anew, as the store's thread does.
fn build(shared: &Shared) {
    while !matches!(piece(shared), Piece::Nothing) {}
}

/// A write has submitted its batch, the tree is built of what the store holds by then, and only after that
/// the write tells the tree. What comes of it.
fn told_while_read(waits_for_builder: bool, mutant: Option<&'static str>) -> Result<(), String> {
    let replica = store();
    let shared = &*replica.shared;
    shared.trees.doubt(UNIT);
    let (key, record) = (data_key(UNIT, TABLE, &name(100)), version(100));
    let stripe = shared.stripe(&key).lock();
    let undone = Undone::now(shared);
    let mut counted = Counted::new(UNIT, &undone);
    counted.batch.put(&key, &record::encode(&record));
    let submitted = shared.submit_quietly(counted.batch, Durability::Default, Box::new(|_| ()));
    assert!(submitted.is_ok());
    std::thread::scope(|scope| {
        let builder = scope.spawn(|| {
            let _armed = mutant.map(arm_mutant);
            build(shared);
        });
        let mut yields = 0;
        while !builder.is_finished() && (waits_for_builder || yields < YIELDS) {
            std::thread::yield_now();
            yields += 1;
        }
        let place = Counted::place(&key).unwrap();
        let after = Some(Print::version(&place, &record));
        shared.trees.tell(UNIT, &[Changed { place, before: None, after }], undone.seen());
        drop(stripe);
    });
    while replica.step() {}
    replica.settle_trees();
    trees::check(shared).map(|checked| assert_eq!(checked.building, 0))
}

#[test]
fn a_write_that_is_told_after_it_was_read_is_counted_once() {
    told_while_read(false, None).unwrap();
}

#[test]
fn read_untold_it_would_be_counted_twice() {
    let text = told_while_read(true, Some("tree-read-untold")).unwrap_err();
    assert!(text.contains("counts 10"), "{text}");
}

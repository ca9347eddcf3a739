//! Batches on a disk that loses power.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::message::{FloorChange, FloorDisk, WriteOutcome};
use crate::storage::vfs::FaultyVfs;
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, Key, NodeId, Partition, Record, Stamp, TableId, Unit, Value, WallTime,
};

const UNIT: Unit = Unit { class: ClassId(0), partition: Partition(3) };
const TABLE: TableId = TableId(1);
const KEYS: [&str; 4] = ["{t}a", "{t}b", "{t}c", "{t}d"];

fn open(vfs: &FaultyVfs) -> Replica {
    let options = Options { threads: ThreadMode::Inline, ..Options::default() };
    Replica::open(Arc::new(vfs.clone()), Path::new("/data"), options).unwrap().0
}

fn key(name: &str) -> Key {
    Key::new(name.to_owned()).unwrap()
}

fn at(time: u64) -> Stamp {
    Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
}

fn version(time: u64) -> Record {
    // Nearly a sector: what is written of several of them may be lost in part.
    Record { stamp: at(time), expiry: None, value: Value::new(vec![7; 400]).ok() }
}

fn together(time: u64, names: &[&str]) -> DiskRequest {
    let items = names.iter().map(|name| (key(name), version(time))).collect();
    DiskRequest::WriteTogether { unit: UNIT, table: TABLE, items }
}

type Slot = Arc<Mutex<Option<Result<DiskAnswer, DiskError>>>>;

fn begin(replica: &Replica, request: DiskRequest) -> Slot {
    let slot = Slot::default();
    let filled = slot.clone();
    let done: Done = Box::new(move |outcome| *filled.lock() = Some(outcome));
    if let Some((request, done)) = replica.try_execute(request, done) {
        replica.execute(request, done);
    }
    slot
}

fn run(replica: &Replica, request: DiskRequest) -> DiskAnswer {
    let slot = begin(replica, request);
    while replica.step() {}
    slot.lock().take().expect("answered").unwrap()
}

fn stamps(replica: &Replica) -> Vec<Option<Stamp>> {
    let read = |name: &&str| {
        let request =
            DiskRequest::Read { unit: UNIT, table: TABLE, key: key(name), durable: false };
        match run(replica, request) {
            DiskAnswer::Read(found) => found.map(|record| record.stamp),
            other => panic!("{other:?}"),
        }
    };
    KEYS.iter().map(read).collect()
}

/// In how many of many power failures while a batch was written all of it was there afterwards, nothing of
/// it, and a part.
fn after_power_failures() -> [usize; 3] {
    let mut seen = [0; 3];
    for seed in 0..150 {
        let vfs = FaultyVfs::new(seed);
        let replica = open(&vfs);
        run(&replica, together(1, &KEYS[..1]));
        let written = begin(&replica, together(5, &KEYS));
        // Power fails at one of the next calls of the disk.
        vfs.crash_at(vfs.counts().calls + 1 + seed % 3);
        while replica.step() {}
        vfs.crash();
        let acknowledged = matches!(written.lock().take(), Some(Ok(_)));
        drop(replica);
        vfs.restart();
        let replica = open(&vfs);
        let found = stamps(&replica);
        let there = found.iter().filter(|stamp| **stamp == Some(at(5))).count();
        let what = if there == KEYS.len() { 0 } else { 1 + usize::from(there > 0) };
        assert!(!acknowledged || what == 0, "seed {seed}: {found:?}");
        assert!(what > 0 || found[0] >= Some(at(1)));
        seen[what] += 1;
        replica.check_trees().unwrap();
    }
    seen
}

#[test]
fn a_power_failure_leaves_all_of_a_batch_or_nothing() {
    let [all, none, part] = after_power_failures();
    assert!(all > 0 && none > 0 && part == 0, "{all} {none} {part}");
    let _armed = arm_mutant("batch-splits-record");
    let [.., part] = after_power_failures();
    assert!(part > 0);
}

#[test]
fn each_merges_by_itself_and_the_highest_that_won_is_told() {
    let told = || {
        let replica = open(&FaultyVfs::new(1));
        run(&replica, together(7, &KEYS[1..2]));
        run(&replica, together(9, &KEYS[2..3]));
        let answer = run(&replica, together(5, &KEYS));
        assert_eq!(stamps(&replica), [5, 7, 9, 5].map(|time| Some(at(time))));
        // The same once more changes nothing and says the same.
        let again = run(&replica, together(5, &KEYS));
        replica.check_trees().unwrap();
        [answer, again].map(|answer| match answer {
            DiskAnswer::Written(outcome) => outcome,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(told(), [WriteOutcome::Superseded(at(9)); 2]);
    let _armed = arm_mutant("batch-superseded-untold");
    assert_eq!(told(), [WriteOutcome::Stored; 2]);
}

#[test]
fn no_answer_comes_before_all_of_it_is_durable() {
    let replica = open(&FaultyVfs::new(2));
    let first = begin(&replica, together(5, &KEYS));
    // Some of it is there already, and not durable itself.
    let same = begin(&replica, together(5, &KEYS[..2]));
    assert!(first.lock().is_none() && same.lock().is_none());
    while replica.step() {}
    for slot in [first, same] {
        assert!(matches!(slot.lock().take(), Some(Ok(DiskAnswer::Written(WriteOutcome::Stored)))));
    }
}

#[test]
fn what_is_late_is_refused_as_a_whole() {
    let taken = || {
        let replica = open(&FaultyVfs::new(3));
        let change = FloorDisk::Change(vec![(UNIT, FloorChange::Raise(at(8)))]);
        run(&replica, DiskRequest::Floor(Box::new(change)));
        let answer = run(&replica, together(5, &KEYS));
        assert_eq!(stamps(&replica), [None; 4]);
        !matches!(answer, DiskAnswer::Late { .. })
    };
    assert!(!taken());
    let _armed = arm_mutant("batch-late-acknowledged");
    assert!(taken());
}

//! What a store notes for watches: all that is merged, whatever brings it, before it is answered.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::message::{Change, ChangesAsk, ChangesPage};
use crate::storage::{MemoryVfs, ThreadMode};
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, Key, NodeId, Partition, Record, Stamp, TableId, Unit, Value, WallTime, limits,
};

const TABLE: TableId = TableId(1);

fn open() -> Replica {
    let options = Options { threads: ThreadMode::Inline, ..Options::default() };
    Replica::open(Arc::new(MemoryVfs::default()), Path::new("data"), options).unwrap().0
}

fn record(time: u64, value: Option<&str>) -> Record {
    let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    Record { stamp, expiry: None, value: value.map(|it| Value::new(it.to_owned()).unwrap()) }
}

fn write(key: &str, record: Record) -> DiskRequest {
    let unit = Unit { class: ClassId(0), partition: Partition(3) };
    DiskRequest::Write { unit, table: TABLE, key: Key::new(key.to_owned()).unwrap(), record }
}

type Slot = Arc<Mutex<Option<Result<DiskAnswer, DiskError>>>>;

fn begin(replica: &Replica, request: DiskRequest) -> Slot {
    let slot = Slot::default();
    let filled = slot.clone();
    replica.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
    slot
}

fn run(replica: &Replica, request: DiskRequest) -> DiskAnswer {
    let slot = begin(replica, request);
    while slot.lock().is_none() && replica.step() {}
    let outcome = slot.lock().take();
    outcome.expect("it is done").unwrap()
}

fn changes(replica: &Replica, after: Option<u64>, values: bool) -> ChangesPage {
    let ask = ChangesAsk { table: TABLE, prefix: "k".into(), after, values, bytes_max: 1 << 20 };
    match run(replica, DiskRequest::Changes(Box::new(ask))) {
        DiskAnswer::Changes(page) => page,
        other => panic!("{other:?}"),
    }
}

fn told(page: &ChangesPage) -> Vec<(u64, bool)> {
    page.changes.iter().map(|change| (change.stamp.time.0, change.deleted)).collect()
}

#[test]
fn what_is_merged_is_noted_once_it_is_durable_and_while_somebody_watches() {
    let replica = open();
    run(&replica, write("k", record(1, Some("unseen"))));
    assert_eq!(changes(&replica, None, false), ChangesPage::default());
    let slow = begin(&replica, write("k", record(2, Some("a"))));
    assert_eq!(changes(&replica, Some(0), false).changes, [], "not durable yet");
    while slow.lock().is_none() && replica.step() {}
    run(&replica, write("k", record(3, None)));
    run(&replica, write("other", record(4, Some("of another prefix"))));
    let page = changes(&replica, Some(0), false);
    assert_eq!((told(&page), page.next), (vec![(2, false), (3, true)], 3));
    run(&replica, DiskRequest::ForgetChanges(vec![TABLE]));
    run(&replica, write("k", record(5, Some("unseen"))));
    assert!(changes(&replica, Some(3), false).changes.is_empty());
}

/// Whether a write that is answered, though it changes nothing, is noted as what stands there: that may
/// never have been told.
fn superseded_is_noted() -> bool {
    let replica = open();
    run(&replica, write("k", record(9, Some("from before"))));
    changes(&replica, None, false);
    run(&replica, write("k", record(5, Some("late"))));
    told(&changes(&replica, Some(0), false)) == [(9, false)]
}

#[test]
fn what_stands_in_the_way_of_a_write_is_noted_for_it() {
    assert!(superseded_is_noted());
    let _planted = arm_mutant("watch-superseded-unnoted");
    assert!(!superseded_is_noted());
}

#[test]
fn values_are_those_of_now_and_large_ones_are_left_out() {
    let replica = open();
    changes(&replica, None, true);
    run(&replica, write("k1", record(1, Some("old"))));
    run(&replica, write("k1", record(2, Some("new"))));
    let large = "x".repeat(limits::WATCH_VALUE_BYTES_MAX + 1);
    run(&replica, write("k2", record(3, Some(&large))));
    run(&replica, write("k3", record(4, None)));
    let page = changes(&replica, Some(0), true);
    let value = |change: &Change| {
        let value = change.value.as_ref().map(|it| String::from_utf8(it.as_bytes().to_vec()));
        (change.stamp.time.0, value.map(Result::unwrap), change.value_left_out)
    };
    let shown: Vec<_> = page.changes.iter().map(value).collect();
    let new = || (2, Some("new".to_owned()), false);
    assert_eq!(shown, [new(), new(), (3, None, true), (4, None, false)]);
}

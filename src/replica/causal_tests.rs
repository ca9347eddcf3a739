//! Sets of siblings on an in-memory disk, stepped by hand.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::causality::{
    Actor, CausalContext, Change, Dot, Payload, Shown, SiblingSet, Tick, Write,
};
use crate::message::{CausalDisk, CausalDone, CausalTask, Changed, MetaRecord};
use crate::storage::{Direction, FaultyVfs, MemoryVfs};
use crate::types::{
    ClassId, Key, NodeId, Partition, RequestId, TableId, Tenure, Unit, Value, WallTime,
};

type Slot = Arc<Mutex<Option<Result<DiskAnswer, DiskError>>>>;

fn options() -> Options {
    Options { threads: ThreadMode::Inline, ..Options::default() }
}

fn open(vfs: &Arc<MemoryVfs>) -> Replica {
    Replica::open(vfs.clone(), Path::new("data"), options()).unwrap().0
}

fn request(task: CausalTask) -> DiskRequest {
    let unit = Unit { class: ClassId(0), partition: Partition(1) };
    let key = Key::new("cart").unwrap();
    DiskRequest::Causal(Box::new(CausalDisk { unit, table: TableId(3), key, task }))
}

fn begin(replica: &Replica, task: CausalTask) -> Slot {
    let slot = Slot::default();
    let filled = slot.clone();
    replica.execute(request(task), Box::new(move |outcome| *filled.lock() = Some(outcome)));
    slot
}

fn run(replica: &Replica, task: CausalTask) -> CausalDone {
    let slot = begin(replica, task);
    while replica.step() {}
    let DiskAnswer::Causal(done) = slot.lock().take().expect("answered").unwrap() else { panic!() };
    done
}

fn read(replica: &Replica) -> SiblingSet {
    let CausalDone::Read(set) = run(replica, CausalTask::Read) else { panic!() };
    set
}

fn change(node: u32, time: u64, value: Option<&str>, seen: &CausalContext) -> Change {
    let actor = Actor { node: NodeId(node), tenure: Tenure(1) };
    let write = value.map(|value| Write {
        id: RequestId(0),
        expiry: None,
        payload: Payload::Here(Value::new(value.to_owned()).unwrap()),
    });
    let dot = Dot { actor, tick: Tick { time: WallTime(time), counter: 0 } };
    Change { dot, write, seen: seen.clone() }
}

fn make(replica: &Replica, change: Change) -> Changed {
    match run(replica, CausalTask::Change(change)) {
        CausalDone::Changed(changed) => *changed,
        other => panic!("{other:?}"),
    }
}

fn values(set: &SiblingSet) -> Vec<String> {
    let text = |shown: &Shown| {
        String::from_utf8(shown.value().expect("whole").as_bytes().to_vec()).unwrap()
    };
    set.shown(WallTime(1)).iter().map(text).collect()
}

/// Keys of the engine that hold single siblings.
fn apart(replica: &Replica) -> usize {
    let prefix = [1, 0, 0, 0, 1, 0x80, 0, 0, 3];
    replica.shared.engine.prefix(&prefix, Direction::Forward).count()
}

#[test]
fn large_values_of_several_siblings_have_records_of_their_own_and_leave_none_behind() {
    let vfs = Arc::new(MemoryVfs::default());
    let replica = open(&vfs);
    let nothing = CausalContext::default();
    let large = |letter: &str| letter.repeat(3000);
    make(&replica, change(1, 1, Some(&large("a")), &nothing));
    assert_eq!(apart(&replica), 0, "one value stays with its head");
    let two = make(&replica, change(1, 2, Some(&large("b")), &nothing));
    assert_eq!(apart(&replica), 2);
    // What the others are told is whole, wherever the values are.
    assert_eq!(values(&two.told), [large("a"), large("b")]);
    make(&replica, change(1, 3, Some("small"), &nothing));
    assert_eq!((apart(&replica), values(&read(&replica)).len()), (2, 3));
    run(&replica, CausalTask::Merge(two.told.clone()));
    replica.close().unwrap();
    drop(replica);
    let replica = open(&vfs);
    let found = read(&replica);
    assert_eq!(values(&found), [large("a"), large("b"), "small".to_owned()]);
    let alone = CausalContext::new(
        [],
        found
            .context()
            .marks()
            .map(|(actor, _)| Dot { actor, tick: Tick { time: WallTime(2), counter: 0 } }),
    );
    make(&replica, change(1, 4, None, &alone));
    assert_eq!((apart(&replica), values(&read(&replica)).len()), (1, 2));
    let all = read(&replica).context().clone();
    make(&replica, change(1, 5, Some("one"), &all));
    assert_eq!((apart(&replica), values(&read(&replica))), (0, vec!["one".to_owned()]));
}

#[test]
fn a_page_shows_one_entry_a_key_and_the_sweep_takes_all_of_it() {
    let replica = open(&Arc::default());
    let nothing = CausalContext::default();
    make(&replica, change(1, 1, Some(&"a".repeat(3000)), &nothing));
    make(&replica, change(1, 2, Some(&"b".repeat(3000)), &nothing));
    let page = |keys_only| {
        let units = Arc::new(vec![Unit { class: ClassId(0), partition: Partition(1) }]);
        let (prefix, after) = (bytes::Bytes::new(), bytes::Bytes::new());
        let (table, limit) = (TableId(3), 10);
        let reverse = false;
        let request = DiskRequest::Range {
            units,
            table,
            prefix,
            after,
            limit,
            keys_only,
            reverse,
            cursor: None,
            durable: false,
            deadline: crate::types::Time(u64::MAX),
        };
        let slot = Slot::default();
        let filled = slot.clone();
        replica.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
        let DiskAnswer::Range(page) = slot.lock().take().unwrap().unwrap() else { panic!() };
        page.entries
    };
    for keys_only in [false, true] {
        let entries = page(keys_only);
        assert_eq!(entries.len(), 1);
        let bytes = entries[0].1.value.clone().unwrap().into_bytes();
        assert_eq!(SiblingSet::decode(bytes).unwrap().writes().len(), 2);
    }
    let mut state = tests::state();
    state.tables.clear();
    state.table_id_max = TableId(3);
    let state = Arc::new(state);
    let request = DiskRequest::Sweep { state, from: bytes::Bytes::new() };
    replica.execute(request, Box::new(|outcome| assert!(outcome.is_ok())));
    while replica.step() {}
    assert_eq!((apart(&replica), page(true).len()), (0, 0));
}

#[test]
fn what_this_node_wrote_is_told_only_once_it_is_durable() {
    let early = || {
        let replica = open(&Arc::default());
        let nothing = CausalContext::default();
        let change = begin(&replica, CausalTask::Change(change(1, 1, Some("a"), &nothing)));
        let read = begin(&replica, CausalTask::Read);
        let early = (change.lock().is_some(), read.lock().is_some());
        while replica.step() {}
        assert!(change.lock().take().unwrap().is_ok() && read.lock().take().unwrap().is_ok());
        early
    };
    assert_eq!(early(), (false, false));
    let armed = crate::testing::arm_mutant("causal-ack-before-durable");
    assert!(early().0, "the planted bug answers at once");
    drop(armed);
    let _armed = crate::testing::arm_mutant("reads-unsettled");
    assert!(early().1, "the planted bug shows what may be lost");
}

#[test]
fn what_a_failed_sync_has_left_in_memory_is_shown_to_nobody() {
    let shown = || {
        let vfs = FaultyVfs::new(7);
        let (replica, _) =
            Replica::open(Arc::new(vfs.clone()), Path::new("data"), options()).unwrap();
        let nothing = CausalContext::default();
        run(&replica, CausalTask::Change(change(1, 1, Some("safe"), &nothing)));
        assert_eq!(values(&read(&replica)), ["safe"]);
        vfs.fail_syncs(1);
        let lost = begin(&replica, CausalTask::Change(change(1, 2, Some("lost"), &nothing)));
        while replica.step() {}
        assert!(matches!(lost.lock().take(), Some(Err(DiskError::ReadOnly(_)))));
        let read = begin(&replica, CausalTask::Read);
        while replica.step() {}
        let read = read.lock().take().expect("an answer");
        read.is_ok()
    };
    assert!(!shown());
    let _armed = crate::testing::arm_mutant("reads-unsettled");
    assert!(shown(), "the planted bug shows what a restart takes");
}

#[test]
fn a_value_that_a_full_disk_took_back_is_forgotten_and_learned_again() {
    let vfs = FaultyVfs::new(7);
    let options = Options { group_bytes_max: 1, ..options() };
    let (replica, _) = Replica::open(Arc::new(vfs.clone()), Path::new("data"), options).unwrap();
    let nothing = CausalContext::default();
    let large = |letter: &str| letter.repeat(3000);
    let other = {
        let mut set = SiblingSet::default();
        set.apply(change(2, 1, Some(&large("b")), &nothing)).unwrap();
        set
    };
    let merged = begin(&replica, CausalTask::Merge(other.clone()));
    let change = begin(&replica, CausalTask::Change(change(1, 2, Some("next"), &nothing)));
    vfs.set_capacity(Some(0));
    while replica.step() {}
    assert!(matches!(merged.lock().take(), Some(Err(DiskError::TakenBack))));
    assert!(change.lock().take().unwrap().is_err());
    vfs.set_capacity(None);
    let left = read(&replica);
    assert!(!values(&left).contains(&large("b")));
    run(&replica, CausalTask::Merge(other));
    assert!(values(&read(&replica)).contains(&large("b")));
}

#[test]
fn a_store_that_may_lose_writes_gives_its_node_a_new_tenure() {
    let vfs = Arc::new(MemoryVfs::default());
    let replica = open(&vfs);
    let record = MetaRecord::Tenure(Tenure(9));
    replica
        .execute(DiskRequest::Persist(vec![record]), Box::new(|outcome| assert!(outcome.is_ok())));
    while replica.step() {}
    replica.close().unwrap();
    drop(replica);
    let restored = |options| {
        let (replica, restored) = Replica::open(vfs.clone(), Path::new("data"), options).unwrap();
        replica.close().unwrap();
        (restored.tenure, restored.forgets)
    };
    assert_eq!(restored(options()), (Some(Tenure(9)), false));
    let sync = SyncMode::Interval(core::time::Duration::from_millis(10));
    assert_eq!(restored(Options { sync, ..options() }), (None, true));
}

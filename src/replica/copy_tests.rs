//! Copies between two replicas on in-memory disks.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::causality::{
    Accepted, Acceptor, Actor, CausalContext, Change, Dot, Payload, SiblingSet, Write,
};
use crate::message::{
    CausalDisk, CausalDone, CausalTask, CopyContent, CopyEntry, CopyLack, CopyPage, CopyPlace,
    CopyRecord, CopyStretch, CopyTold, CopyWhat, DiskAnswer, DiskRequest, RegisterDisk,
    RegisterTask, UnitDisk, UnitDone,
};
use crate::storage::{MemoryVfs, ThreadMode};
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, Epoch, Key, NodeId, Partition, Record, RegisterState, RequestId, Stamp, TableId,
    Tenure, Unit, Value, WallTime,
};

const UNIT: Unit = Unit { class: ClassId(0), partition: Partition(3) };
const TO: (NodeId, Epoch) = (NodeId(4), Epoch(7));
const PLAIN: TableId = TableId(1);
const CAUSAL: TableId = TableId(2);
const LINEAR: TableId = TableId(3);

fn open() -> Replica {
    let options = Options { threads: ThreadMode::Inline, ..Options::default() };
    let vfs: Arc<MemoryVfs> = Arc::default();
    Replica::open(vfs, Path::new("data"), options).unwrap().0
}

fn run(replica: &Replica, request: DiskRequest) -> DiskAnswer {
    let slot = Arc::new(Mutex::new(None));
    let filled = slot.clone();
    replica.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
    while replica.step() {}
    slot.lock().take().expect("answered").unwrap()
}

fn on_unit(replica: &Replica, disk: UnitDisk) -> UnitDone {
    let DiskAnswer::Unit(done) = run(replica, DiskRequest::Unit(Box::new(disk))) else { panic!() };
    done
}

fn page(replica: &Replica, what: CopyWhat) -> CopyPage {
    let UnitDone::Page(page) = on_unit(replica, UnitDisk::Page { unit: UNIT, what, to: TO }) else {
        panic!()
    };
    page
}

fn key(text: &str) -> Key {
    Key::new(text.to_owned()).unwrap()
}

fn at(time: u64) -> Stamp {
    Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
}

fn write(replica: &Replica, unit: Unit, name: &str, time: u64, bytes: usize) {
    let value = Value::new(vec![b'v'; bytes]).ok();
    let record = Record { stamp: at(time), expiry: None, value };
    run(replica, DiskRequest::Write { unit, table: PLAIN, key: key(name), record });
}

fn put(replica: &Replica, node: u32, time: u64, bytes: usize) {
    let actor = Actor { node: NodeId(node), tenure: Tenure(7) };
    let dot = Dot::new(Stamp { node: NodeId(node), ..at(time) }, actor.tenure);
    let value = Value::new(vec![b's'; bytes]).unwrap();
    let id = RequestId(time.into());
    let write = Write { id, expiry: None, payload: Payload::Here(value) };
    let change = Change { dot, write: Some(write), seen: CausalContext::default() };
    let task = CausalTask::Change(change);
    let disk = CausalDisk { unit: UNIT, table: CAUSAL, key: key("s"), task };
    run(replica, DiskRequest::Causal(Box::new(disk)));
}

fn set_of(replica: &Replica) -> SiblingSet {
    let task = CausalTask::Read;
    let disk = CausalDisk { unit: UNIT, table: CAUSAL, key: key("s"), task };
    match run(replica, DiskRequest::Causal(Box::new(disk))) {
        DiskAnswer::Causal(CausalDone::Read(set)) => set,
        other => panic!("{other:?}"),
    }
}

fn ask(replica: &Replica, task: RegisterTask) {
    let disk = RegisterDisk { unit: UNIT, table: LINEAR, key: key("r"), fence: Epoch(1), task };
    run(replica, DiskRequest::Register(Box::new(disk)));
}

fn state(text: &str) -> RegisterState {
    RegisterState { value: Value::new(text.to_owned()).ok(), ..RegisterState::default() }
}

/// Everything that a replica has of the unit.
fn all(replica: &Replica) -> Vec<CopyEntry> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = page(replica, CopyWhat::All(after));
        let CopyContent::Records(entries) = page.content else { panic!() };
        all.extend(entries);
        match page.next {
            None => return all,
            next => after = next,
        }
    }
}

/// What a source has more of is copied as a target would.
fn pull(source: &Replica, target: &Replica) -> usize {
    let (mut count, mut after) = (0, None);
    loop {
        let marks = page(source, CopyWhat::Marks(CopyStretch::behind(after)));
        let CopyContent::Marks(some) = marks.content else { panic!() };
        let told = CopyTold::Marks(some);
        let UnitDone::Wanted(CopyLack::Keys(wanted)) =
            on_unit(target, UnitDisk::Compare { unit: UNIT, told })
        else {
            panic!()
        };
        count += wanted.len();
        if !wanted.is_empty() {
            let given = page(source, CopyWhat::Keys(wanted));
            let CopyContent::Records(entries) = given.content else { panic!() };
            assert_eq!(given.next, None);
            on_unit(target, UnitDisk::Merge { unit: UNIT, entries });
        }
        match marks.next {
            None => return count,
            next => after = next,
        }
    }
}

#[test]
fn a_copy_of_every_kind_is_as_good_as_what_it_was_made_from() {
    let (source, target) = (open(), open());
    for number in 0..300 {
        write(&source, UNIT, &format!("k{number:03}"), 1 + number, 8000);
    }
    write(&source, Unit { partition: Partition(4), ..UNIT }, "other", 1, 10);
    let record = Record { stamp: at(9), expiry: Some(WallTime(1)), value: None };
    run(&source, DiskRequest::Write { unit: UNIT, table: PLAIN, key: key("gone"), record });
    put(&source, 1, 5, 3000);
    put(&source, 2, 6, 3000);
    ask(&source, RegisterTask::Accept(at(4), state("x")));
    ask(&source, RegisterTask::Prepare(at(8)));
    let everything = all(&source);
    assert_eq!(everything.len(), 303);
    on_unit(&target, UnitDisk::Merge { unit: UNIT, entries: everything.clone() });
    assert_eq!(all(&target), everything);
    assert_eq!(set_of(&target), set_of(&source));
    assert_eq!(pull(&source, &target), 0, "nothing differs");
    // Twice is as good as once.
    on_unit(&target, UnitDisk::Merge { unit: UNIT, entries: everything.clone() });
    assert_eq!(all(&target), everything);
}

#[test]
fn what_is_newer_here_stays_whatever_comes() {
    let case = || {
        let (source, target) = (open(), open());
        write(&source, UNIT, "old", 1, 10);
        write(&target, UNIT, "old", 2, 20);
        let entries = all(&source);
        let before = all(&target);
        assert_eq!(pull(&source, &target), 0);
        on_unit(&target, UnitDisk::Merge { unit: UNIT, entries });
        all(&target) == before
    };
    assert!(case());
    let _armed = arm_mutant("copy-overwrites");
    assert!(!case());
}

#[test]
fn only_what_is_lacking_or_older_is_asked_for_and_both_end_alike() {
    let (source, target) = (open(), open());
    for (name, here, there) in [("a", 1, 1), ("b", 1, 2), ("c", 2, 1), ("d", 0, 1)] {
        write(&source, UNIT, name, there, 10);
        if here > 0 {
            write(&target, UNIT, name, here, 10);
        }
    }
    put(&source, 1, 5, 3000);
    put(&source, 2, 6, 3000);
    put(&target, 3, 7, 3000);
    ask(&source, RegisterTask::Accept(at(4), state("x")));
    ask(&target, RegisterTask::Prepare(at(8)));
    assert_eq!(pull(&source, &target), 4);
    let set = set_of(&target);
    assert_eq!(set.writes().count(), 3, "no value of either is lost");
    assert!(set.writes().all(|(_, write)| matches!(write.payload, Payload::Here(_))));
    let mut expected = Acceptor::default();
    expected.accept(Accepted { fence: Epoch(1), ballot: at(4), state: state("x") }).unwrap();
    expected.promise(at(8)).unwrap();
    let found = all(&target).into_iter().find_map(|entry| match entry.record {
        CopyRecord::Register(acceptor) => Some(acceptor),
        _ => None,
    });
    assert_eq!(found, Some(expected), "the higher promise, and what was accepted");
    assert_eq!(pull(&target, &source), 3);
    assert_eq!(all(&target), all(&source));
}

#[test]
fn keys_that_do_not_fit_a_page_are_gone_on_with() {
    let source = open();
    for name in ["a", "b", "c"] {
        write(&source, UNIT, name, 1, 700_000);
    }
    let places = |names: &[&str]| -> Vec<CopyPlace> {
        names.iter().map(|name| CopyPlace { table: PLAIN, key: key(name) }).collect()
    };
    let given = page(&source, CopyWhat::Keys(places(&["a", "b", "c", "d"])));
    assert_eq!(given.next, Some(places(&["b"]).remove(0)));
    let rest = page(&source, CopyWhat::Keys(places(&["c", "d"])));
    assert_eq!(rest.next, None);
    assert_eq!(rest.parts().len(), 1);
}

//! Purge floors over a real store: what is taken of what is late, what is purged, and what a crash or a
//! fill makes of it.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::causality::{
    Accepted, Acceptor, CausalContext, Change, Dot, Payload, SiblingSet, Write,
};
use crate::message::{
    CausalDisk, CausalDone, CausalTask, CopyEntry, CopyPlace, CopyRecord, DiskAnswer, DiskRequest,
    FillProgress, FillRecord, FillStage, FloorChange, FloorDisk, FloorDone, FloorState, Overlay,
    RegisterDisk, RegisterSaid, RegisterTask, SourceFloor, UnitDisk, UnitDone, WriteOutcome,
};
use crate::storage::{MemoryVfs, ThreadMode};
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, Epoch, Key, NodeId, Partition, Record, RegisterState, RequestId, Stamp, TableId,
    Tenure, Unit, Value, WallTime,
};

const UNIT: Unit = Unit { class: ClassId(0), partition: Partition(3) };
const PLAIN: TableId = TableId(1);
const CAUSAL: TableId = TableId(2);
const LINEAR: TableId = TableId(3);
const PEER: NodeId = NodeId(2);

fn open(vfs: &Arc<MemoryVfs>) -> (Replica, Restored) {
    let options = Options { threads: ThreadMode::Inline, ..Options::default() };
    Replica::open(vfs.clone(), Path::new("data"), options).unwrap()
}

fn fresh() -> Replica {
    open(&Arc::default()).0
}

fn run(replica: &Replica, request: DiskRequest) -> DiskAnswer {
    let slot = Arc::new(Mutex::new(None));
    let filled = slot.clone();
    replica.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
    while replica.step() {}
    slot.lock().take().expect("answered").unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text.to_owned()).unwrap()
}

fn at(time: u64) -> Stamp {
    Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
}

fn record(time: u64, value: Option<&str>, expiry: Option<u64>) -> Record {
    let value = value.map(|text| Value::new(text.to_owned()).unwrap());
    Record { stamp: at(time), expiry: expiry.map(WallTime), value }
}

fn write(replica: &Replica, name: &str, record: Record) -> DiskAnswer {
    run(replica, DiskRequest::Write { unit: UNIT, table: PLAIN, key: key(name), record })
}

fn read(replica: &Replica, name: &str) -> Option<Record> {
    let (table, key) = (PLAIN, key(name));
    match run(replica, DiskRequest::Read { unit: UNIT, table, key, durable: true }) {
        DiskAnswer::Read(found) => found,
        other => panic!("{other:?}"),
    }
}

fn change(replica: &Replica, change: FloorChange) -> FloorState {
    let disk = FloorDisk::Change(vec![(UNIT, change)]);
    match run(replica, DiskRequest::Floor(Box::new(disk))) {
        DiskAnswer::Floor(FloorDone::Changed(mut states)) => states.remove(0).1,
        other => panic!("{other:?}"),
    }
}

fn count(replica: &Replica) -> (u64, Option<Stamp>) {
    let disk = FloorDisk::Count(vec![UNIT], u64::MAX);
    match run(replica, DiskRequest::Floor(Box::new(disk))) {
        DiskAnswer::Floor(FloorDone::Counted(counted)) => (counted[0].1, counted[0].2),
        other => panic!("{other:?}"),
    }
}

fn purge(replica: &Replica) -> u64 {
    let mut all = 0;
    for _ in 0..100 {
        match run(replica, DiskRequest::Floor(Box::new(FloorDisk::Purge(UNIT)))) {
            DiskAnswer::Floor(FloorDone::Purged(gone, more)) => {
                all += gone;
                if !more {
                    return all;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("it has no end")
}

fn causal(replica: &Replica, task: CausalTask) -> DiskAnswer {
    let disk = CausalDisk { unit: UNIT, table: CAUSAL, key: key("s"), task };
    run(replica, DiskRequest::Causal(Box::new(disk)))
}

fn dot(node: u32, time: u64) -> Dot {
    Dot::new(Stamp { node: NodeId(node), ..at(time) }, Tenure(7))
}

fn sibling(node: u32, time: u64, seen: CausalContext, expiry: Option<u64>) -> Change {
    let payload = Payload::Here(Value::new(format!("{node}.{time}")).unwrap());
    let id = RequestId((u128::from(node) << 64) + u128::from(time));
    let write = Write { id, expiry: expiry.map(WallTime), payload };
    Change { dot: dot(node, time), write: Some(write), seen }
}

fn set_of(replica: &Replica) -> SiblingSet {
    match causal(replica, CausalTask::Read) {
        DiskAnswer::Causal(CausalDone::Read(set)) => set,
        other => panic!("{other:?}"),
    }
}

fn register(replica: &Replica, name: &str, task: RegisterTask) -> RegisterSaid {
    let disk = RegisterDisk { unit: UNIT, table: LINEAR, key: key(name), fence: Epoch(1), task };
    match run(replica, DiskRequest::Register(Box::new(disk))) {
        DiskAnswer::Register(said) => said,
        other => panic!("{other:?}"),
    }
}

fn state(text: Option<&str>) -> RegisterState {
    let value = text.map(|text| Value::new(text.to_owned()).unwrap());
    RegisterState { value, ..RegisterState::default() }
}

fn entry(table: TableId, name: &str, record: CopyRecord) -> CopyEntry {
    CopyEntry { place: CopyPlace { table, key: key(name) }, record }
}

fn bring(replica: &Replica, entries: Vec<CopyEntry>) {
    let disk = UnitDisk::Merge { unit: UNIT, entries };
    let DiskAnswer::Unit(UnitDone::Merged) = run(replica, DiskRequest::Unit(Box::new(disk))) else {
        panic!()
    };
}

fn sound(replica: &Replica) {
    while replica.step() {}
    replica.check_trees().unwrap();
}

#[test]
fn deletes_and_expired_versions_at_or_below_the_floor_are_purged_and_others_stay() {
    let vfs: Arc<MemoryVfs> = Arc::default();
    let (replica, _) = open(&vfs);
    write(&replica, "kept", record(1, Some("v"), None));
    write(&replica, "gone", record(2, None, None));
    write(&replica, "late", record(9, None, None));
    write(&replica, "expired", record(3, Some("v"), Some(4)));
    write(&replica, "expires", record(3, Some("v"), Some(9)));
    write(&replica, "again", record(2, None, None));
    write(&replica, "again", record(3, Some("v"), None));
    assert_eq!(count(&replica), (4, Some(at(2))));
    assert_eq!(purge(&replica), 0, "no floor");
    change(&replica, FloorChange::Raise(at(6)));
    assert_eq!(purge(&replica), 2);
    for (name, stays) in
        [("kept", true), ("gone", false), ("late", true), ("expired", false), ("expires", true)]
    {
        assert_eq!(read(&replica, name).is_some(), stays, "{name}");
    }
    assert!(read(&replica, "again").is_some_and(|found| found.value.is_some()));
    sound(&replica);
    assert_eq!(count(&replica).0, 2);
    drop(replica);
    let (replica, restored) = open(&vfs);
    assert_eq!(restored.floors[&UNIT].floor, at(6));
    assert_eq!((purge(&replica), read(&replica, "gone")), (0, None));
    change(&replica, FloorChange::Raise(at(20)));
    assert_eq!(purge(&replica), 2);
    assert_eq!(count(&replica), (0, None));
    sound(&replica);
}

#[test]
fn a_delete_that_is_not_in_the_index_is_never_purged() {
    let _armed = arm_mutant("delete-not-indexed");
    let replica = fresh();
    write(&replica, "gone", record(2, None, None));
    change(&replica, FloorChange::Raise(at(6)));
    assert_eq!((purge(&replica), read(&replica, "gone").is_some()), (0, true));
}

#[test]
fn what_is_late_is_refused_behind_the_gate_and_dropped_behind_the_floor() {
    let replica = fresh();
    write(&replica, "here", record(3, Some("v"), None));
    change(&replica, FloorChange::Close(at(6)));
    let late = write(&replica, "k", record(5, Some("late"), None));
    assert!(matches!(late, DiskAnswer::Late { purged: false, .. }), "{late:?}");
    // What is there is no matter, nor what is newer.
    let DiskAnswer::Written(WriteOutcome::Stored) =
        write(&replica, "here", record(3, Some("v"), None))
    else {
        panic!()
    };
    let DiskAnswer::Written(WriteOutcome::Superseded(_)) =
        write(&replica, "here", record(2, Some("v"), None))
    else {
        panic!()
    };
    write(&replica, "new", record(7, Some("v"), None));
    assert!(read(&replica, "new").is_some());
    change(&replica, FloorChange::Raise(at(5)));
    let late = write(&replica, "k", record(5, Some("late"), None));
    assert!(matches!(late, DiskAnswer::Late { purged: true, .. }), "{late:?}");
    assert_eq!(read(&replica, "k"), None);
    {
        let _armed = arm_mutant("late-copy-taken");
        write(&replica, "k", record(5, Some("late"), None));
        assert!(read(&replica, "k").is_some());
    }
    sound(&replica);
}

#[test]
fn what_an_owner_brings_behind_the_gate_voids_what_was_vouched_for_in_the_same_moment() {
    let vfs: Arc<MemoryVfs> = Arc::default();
    let (replica, _) = open(&vfs);
    change(&replica, FloorChange::Close(at(6)));
    let state = change(&replica, FloorChange::Vouch(PEER, at(6), 0));
    assert_eq!(state.record.vouched, [(PEER, at(6))]);
    let version = |time| CopyRecord::Version(record(time, Some("v"), None));
    bring(&replica, vec![entry(PLAIN, "new", version(9))]);
    assert_eq!(change(&replica, FloorChange::Close(at(1))).voids, 0, "it is above the gate");
    bring(&replica, vec![entry(PLAIN, "k", version(5))]);
    assert!(read(&replica, "k").is_some());
    drop(replica);
    let (replica, restored) = open(&vfs);
    assert_eq!(
        (&restored.floors[&UNIT].vouched[..], restored.floors[&UNIT].gate),
        (&[][..], at(6))
    );
    change(&replica, FloorChange::Raise(at(6)));
    bring(&replica, vec![entry(PLAIN, "other", version(5))]);
    assert_eq!(read(&replica, "other"), None, "the floor has passed it");
    sound(&replica);
}

#[test]
fn a_set_follows_dot_by_dot() {
    let replica = fresh();
    let put = |change| causal(&replica, CausalTask::Change(change));
    put(sibling(1, 2, CausalContext::default(), None));
    let old = set_of(&replica);
    let delete = Change { dot: dot(1, 4), write: None, seen: old.context().clone() };
    causal(&replica, CausalTask::Change(delete));
    assert_eq!(set_of(&replica).writes().len(), 0);
    assert_eq!(count(&replica), (1, Some(at(4))), "a delete has an age");
    change(&replica, FloorChange::Raise(at(5)));
    assert_eq!(purge(&replica), 1);
    assert!(set_of(&replica).is_blank());
    // A copy of what was deleted comes late.
    let late = causal(&replica, CausalTask::Merge(old.clone()));
    assert!(matches!(late, DiskAnswer::Causal(CausalDone::Merged)), "{late:?}");
    assert!(set_of(&replica).is_blank());
    // And again, beside something new of another actor.
    let mut both = old.clone();
    both.apply(sibling(2, 9, CausalContext::default(), None)).unwrap();
    causal(&replica, CausalTask::Merge(both));
    let dots: Vec<Dot> = set_of(&replica).writes().map(|(dot, _)| dot).collect();
    assert_eq!(dots, [dot(2, 9)]);
    // Whoever has read before the purge may still write.
    let made = causal(&replica, CausalTask::Change(sibling(1, 10, old.context().clone(), None)));
    assert!(matches!(made, DiskAnswer::Causal(CausalDone::Changed(_))), "{made:?}");
    let made = causal(&replica, CausalTask::Change(sibling(3, 4, CausalContext::default(), None)));
    assert!(matches!(made, DiskAnswer::Causal(CausalDone::Refused(_))), "stamped again: {made:?}");
    sound(&replica);
}

#[test]
fn siblings_that_expired_are_purged_one_by_one() {
    let replica = fresh();
    for change in [
        sibling(1, 2, CausalContext::default(), Some(3)),
        sibling(2, 2, CausalContext::default(), Some(30)),
    ] {
        let mut set = SiblingSet::default();
        set.apply(change).unwrap();
        causal(&replica, CausalTask::Merge(set));
    }
    change(&replica, FloorChange::Raise(at(10)));
    purge(&replica);
    let dots: Vec<Dot> = set_of(&replica).writes().map(|(dot, _)| dot).collect();
    assert_eq!(dots, [dot(2, 2)]);
    sound(&replica);
    change(&replica, FloorChange::Raise(at(40)));
    purge(&replica);
    assert!(set_of(&replica).is_blank());
    sound(&replica);
}

#[test]
fn a_late_set_is_refused_behind_the_gate_as_a_whole() {
    let replica = fresh();
    causal(&replica, CausalTask::Change(sibling(1, 2, CausalContext::default(), None)));
    let old = set_of(&replica);
    change(&replica, FloorChange::Close(at(6)));
    // A delete from before, of what is there.
    let mut deleted = old.clone();
    deleted.apply(Change { dot: dot(2, 4), write: None, seen: old.context().clone() }).unwrap();
    let late = causal(&replica, CausalTask::Merge(deleted.clone()));
    assert!(matches!(late, DiskAnswer::Late { purged: false, .. }), "{late:?}");
    // A new write that has seen it takes its place, wherever that came from.
    deleted.apply(sibling(2, 9, old.context().clone(), None)).unwrap();
    causal(&replica, CausalTask::Merge(deleted));
    let dots: Vec<Dot> = set_of(&replica).writes().map(|(dot, _)| dot).collect();
    assert_eq!(dots, [dot(2, 9)]);
    sound(&replica);
}

#[test]
fn an_absent_register_counts_as_promised_at_the_floor() {
    let taken = |mutant: bool| {
        let replica = fresh();
        register(&replica, "r", RegisterTask::Accept(at(3), state(None)));
        register(&replica, "live", RegisterTask::Accept(at(3), state(Some("v"))));
        register(&replica, "asked", RegisterTask::Prepare(at(4)));
        register(&replica, "held", RegisterTask::Accept(at(3), state(None)));
        register(&replica, "held", RegisterTask::Prepare(at(8)));
        change(&replica, FloorChange::Raise(at(5)));
        assert_eq!(purge(&replica), 2);
        sound(&replica);
        let RegisterSaid::Looked(Some(_)) = register(&replica, "live", RegisterTask::Look) else {
            panic!("it is no delete")
        };
        let held = register(&replica, "held", RegisterTask::Prepare(at(7)));
        assert!(matches!(held, RegisterSaid::Outbid(by) if by == at(8)), "a promise is kept");
        let promised = |name| register(&replica, name, RegisterTask::Prepare(at(6)));
        let told = |floor| RegisterSaid::Promised { accepted: None, floor };
        assert_eq!(promised("r"), told(at(5)), "as good as new, and says up to where it forgets");
        let RegisterSaid::Promised { accepted: Some(_), floor: Stamp::ZERO } = promised("live")
        else {
            panic!("what holds a state forgets nothing")
        };
        let _armed = mutant.then(|| arm_mutant("acceptor-forgets-floor"));
        let late = register(&replica, "asked", RegisterTask::Accept(at(2), state(Some("late"))));
        matches!(late, RegisterSaid::Accepted)
    };
    assert!(!taken(false));
    assert!(taken(true));
}

fn filling(overlay: Overlay, pulled: &[u32]) -> FillRecord {
    let pulled = pulled.iter().map(|id| NodeId(*id)).collect();
    let progress = FillProgress { pulled, overlay, ..FillProgress::default() };
    FillRecord { entry: Epoch(7), stage: FillStage::Filling(progress) }
}

fn on_unit(replica: &Replica, disk: UnitDisk) {
    let DiskAnswer::Unit(_) = run(replica, DiskRequest::Unit(Box::new(disk))) else { panic!() };
}

/// What is there after a fill by a source that has agreed up to 6, of what had come before.
fn filled(source: SourceFloor) -> Vec<(&'static str, bool)> {
    let replica = fresh();
    let record_of = Some(filling(Overlay::Files, &[]));
    on_unit(&replica, UnitDisk::Empty { unit: UNIT, record: record_of, keeps: false });
    write(&replica, "late", record(5, Some("deleted long ago"), None));
    write(&replica, "listed", record(4, Some("v"), None));
    write(&replica, "new", record(9, Some("v"), None));
    register(&replica, "r", RegisterTask::Accept(at(5), state(Some("late"))));
    let version = |time, value| CopyRecord::Version(record(time, value, None));
    let entries = vec![
        entry(PLAIN, "gone", version(3, None)),
        entry(PLAIN, "listed", version(4, Some("v"))),
        entry(PLAIN, "more", version(2, Some("v"))),
    ];
    on_unit(&replica, UnitDisk::Fill { unit: UNIT, entries, source });
    for _ in 0..10 {
        let record = filling(Overlay::Unused, &[1]);
        on_unit(&replica, UnitDisk::Drain { unit: UNIT, record });
    }
    sound(&replica);
    let RegisterSaid::Looked(late) = register(&replica, "r", RegisterTask::Look) else { panic!() };
    let names = ["late", "listed", "new", "gone", "more"];
    let mut here: Vec<_> =
        names.iter().map(|name| (*name, read(&replica, name).is_some())).collect();
    here.push(("r", late.is_some()));
    here
}

#[test]
fn at_or_below_what_the_first_source_has_agreed_the_fill_replaces() {
    let source = SourceFloor { floor: at(4), agreed: at(6), is_first: true };
    let wanted = [
        ("late", false),
        ("listed", true),
        ("new", true),
        ("gone", false),
        ("more", true),
        ("r", false),
    ];
    assert_eq!(filled(source), wanted);
    // One that has not agreed replaces nothing; nor does one that comes later.
    for source in
        [SourceFloor::default(), SourceFloor { is_first: false, floor: Stamp::ZERO, ..source }]
    {
        let here = filled(source);
        assert!(here.contains(&("late", true)) && here.contains(&("gone", true)), "{here:?}");
    }
    let _armed = arm_mutant("fill-keeps-unlisted");
    assert!(filled(source).contains(&("late", true)));
}

#[test]
fn what_was_known_of_a_floor_goes_with_the_unit() {
    let vfs: Arc<MemoryVfs> = Arc::default();
    let (replica, _) = open(&vfs);
    write(&replica, "gone", record(2, None, None));
    change(&replica, FloorChange::Raise(at(6)));
    on_unit(&replica, UnitDisk::Empty { unit: UNIT, record: None, keeps: false });
    write(&replica, "k", record(3, Some("v"), None));
    assert!(read(&replica, "k").is_some());
    assert_eq!(count(&replica), (0, None));
    drop(replica);
    assert!(open(&vfs).1.floors.is_empty());
}

#[test]
fn an_acceptor_forgets_what_it_accepted_and_keeps_its_promise() {
    let mut acceptor = Acceptor::default();
    let accepted = Accepted { fence: Epoch(1), ballot: at(5), state: state(Some("v")) };
    acceptor.accept(accepted).unwrap();
    acceptor.forget_accepted(at(4));
    assert!(acceptor.accepted().is_some());
    acceptor.forget_accepted(at(5));
    assert_eq!((acceptor.accepted(), acceptor.promised()), (None, at(5)));
}

#[path = "exact_tests.rs"]
mod exact;

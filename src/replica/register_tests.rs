//! Acceptors on an in-memory disk, stepped by hand, that loses power and fails.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::causality::Paged;
use crate::message::{CursorName, CursorUse, RegisterDisk, RegisterSaid, RegisterTask};
use crate::storage::FaultyVfs;
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, Epoch, Key, NodeId, Partition, RegisterState, Stamp, TableId, Unit, Value, WallTime,
};

type Slot = Arc<Mutex<Option<Result<DiskAnswer, DiskError>>>>;

/// A store that never syncs of itself.
fn open(vfs: &FaultyVfs) -> Replica {
    let options =
        Options { threads: ThreadMode::Inline, sync: SyncMode::None, ..Options::default() };
    Replica::open(Arc::new(vfs.clone()), Path::new("data"), options).unwrap().0
}

fn at(time: u64) -> Stamp {
    Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
}

fn accept(time: u64, text: &str) -> RegisterTask {
    let value = Value::new(text.to_owned()).ok();
    RegisterTask::Accept(at(time), RegisterState { value, ..RegisterState::default() })
}

fn begin(replica: &Replica, task: RegisterTask) -> Slot {
    let unit = Unit { class: ClassId(0), partition: Partition(1) };
    let (table, key) = (TableId(3), Key::new("k").unwrap());
    let disk = RegisterDisk { unit, table, key, fence: Epoch(1), task };
    let request = DiskRequest::Register(Box::new(disk));
    ask(replica, request)
}

fn ask(replica: &Replica, request: DiskRequest) -> Slot {
    let slot = Slot::default();
    let filled = slot.clone();
    let done: Done = Box::new(move |outcome| *filled.lock() = Some(outcome));
    if let Some((request, done)) = replica.try_execute(request, done) {
        replica.execute(request, done);
    }
    slot
}

fn run(replica: &Replica, task: RegisterTask) -> RegisterSaid {
    let slot = begin(replica, task);
    while slot.lock().is_none() && replica.step() {}
    let DiskAnswer::Register(said) = slot.lock().take().expect("answered").unwrap() else {
        panic!("another answer")
    };
    said
}

/// Power fails, and comes back.
fn power_failure(vfs: &FaultyVfs, replica: Replica) -> Replica {
    vfs.crash();
    drop(replica);
    vfs.restart();
    open(vfs)
}

fn shown(said: &RegisterSaid) -> Option<Stamp> {
    match said {
        RegisterSaid::Looked(shown) | RegisterSaid::Promised { accepted: shown, .. } => {
            shown.as_ref().map(|accepted| accepted.ballot)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_an_acceptor_said_holds_through_a_power_failure_whatever_the_sync_mode() {
    let holds = || {
        let vfs = FaultyVfs::new(3);
        let replica = open(&vfs);
        let nothing = RegisterSaid::Promised { accepted: None, floor: Stamp::ZERO };
        assert_eq!(run(&replica, RegisterTask::Prepare(at(5))), nothing);
        let replica = power_failure(&vfs, replica);
        let bound = run(&replica, RegisterTask::Prepare(at(4)));
        assert_eq!(run(&replica, accept(6, "six")), RegisterSaid::Accepted);
        let replica = power_failure(&vfs, replica);
        let kept = shown(&run(&replica, RegisterTask::Look));
        (bound == RegisterSaid::Outbid(at(5)), kept == Some(at(6)))
    };
    assert_eq!(holds(), (true, true));
    let _armed = arm_mutant("promise-not-durable");
    assert_eq!(holds(), (false, false));
}

#[test]
fn a_look_shows_only_what_cannot_be_lost_any_more() {
    let early = || {
        let replica = open(&FaultyVfs::new(3));
        let accepted = begin(&replica, accept(6, "six"));
        let looked = begin(&replica, RegisterTask::Look);
        let again = begin(&replica, accept(6, "six"));
        let early = looked.lock().is_some();
        assert!(accepted.lock().is_none() && again.lock().is_none());
        while replica.step() {}
        assert!(accepted.lock().is_some() && looked.lock().is_some() && again.lock().is_some());
        let later = begin(&replica, RegisterTask::Look);
        assert!(later.lock().is_some(), "nothing is on its way any more");
        early
    };
    assert!(!early());
    let _armed = arm_mutant("look-before-durable");
    assert!(early());
}

/// A page, which goes on with a cursor or begins one.
fn page(replica: &Replica, after: &'static str, fresh: bool) -> Slot {
    let units = Arc::new(vec![Unit { class: ClassId(0), partition: Partition(1) }]);
    let (prefix, after) = (bytes::Bytes::new(), bytes::Bytes::from_static(after.as_bytes()));
    let name = CursorName { coordinator: NodeId(1), scan: 7 };
    ask(
        replica,
        DiskRequest::Range {
            units,
            table: TableId(3),
            prefix,
            after,
            limit: 1,
            keys_only: false,
            reverse: false,
            cursor: Some(CursorUse { name, fresh }),
            durable: true,
            deadline: crate::types::Time(u64::MAX),
        },
    )
}

fn paged(slot: &Slot) -> Vec<Option<Stamp>> {
    let Some(Ok(DiskAnswer::Range(page))) = slot.lock().take() else { panic!("no page") };
    let shown = page.entries.into_iter().map(|(_, record)| Paged::of(record).unwrap());
    shown.map(|shown| shown.accepted.map(|accepted| accepted.ballot)).collect()
}

#[test]
fn a_page_shows_only_what_cannot_be_lost_any_more() {
    let early = || {
        let replica = open(&FaultyVfs::new(3));
        let accepted = begin(&replica, accept(6, "six"));
        let shown = page(&replica, "", true);
        let early = shown.lock().is_some();
        assert!(accepted.lock().is_none());
        while replica.step() {}
        assert_eq!(paged(&shown), [Some(at(6))]);
        let later = page(&replica, "", true);
        assert_eq!(paged(&later), [Some(at(6))], "nothing is on its way any more");
        early
    };
    assert!(!early());
    let _armed = arm_mutant("page-before-durable");
    assert!(early());
}

#[test]
fn an_acceptor_that_has_only_promised_shows_that_it_has_accepted_nothing() {
    let replica = open(&FaultyVfs::new(3));
    run(&replica, RegisterTask::Prepare(at(6)));
    assert_eq!(paged(&page(&replica, "", true)), [None]);
}

#[test]
fn a_page_after_a_failed_sync_shows_nothing_for_good() {
    let vfs = FaultyVfs::new(3);
    let replica = open(&vfs);
    vfs.fail_syncs(1);
    let failed = begin(&replica, accept(6, "six"));
    while replica.step() {}
    assert!(matches!(failed.lock().take(), Some(Err(_))));
    let shown = page(&replica, "", true);
    while replica.step() {}
    assert!(matches!(shown.lock().take(), Some(Err(DiskError::ReadOnly(_)))));
}

#[test]
fn a_look_after_a_failed_sync_shows_nothing_for_good() {
    let vfs = FaultyVfs::new(3);
    let replica = open(&vfs);
    assert_eq!(run(&replica, accept(5, "five")), RegisterSaid::Accepted);
    vfs.fail_syncs(1);
    let failed = begin(&replica, accept(6, "six"));
    while replica.step() {}
    assert!(matches!(failed.lock().take(), Some(Err(_))));
    for task in [RegisterTask::Look, RegisterTask::Prepare(at(7)), accept(6, "six")] {
        let slot = begin(&replica, task);
        while replica.step() {}
        assert!(matches!(slot.lock().take(), Some(Err(DiskError::ReadOnly(_)))));
    }
}

#[test]
fn what_a_full_disk_took_back_is_not_shown() {
    let vfs = FaultyVfs::new(7);
    let replica = open(&vfs);
    assert_eq!(run(&replica, accept(5, "five")), RegisterSaid::Accepted);
    let large = begin(&replica, accept(6, &"six".repeat(100_000)));
    let promised = begin(&replica, RegisterTask::Prepare(at(7)));
    let shown = page(&replica, "", true);
    vfs.set_capacity(Some(0));
    while replica.step() {}
    assert!(matches!(large.lock().take(), Some(Err(DiskError::TakenBack))));
    assert!(promised.lock().take().unwrap().is_err(), "it would show what was taken back");
    assert!(shown.lock().take().unwrap().is_err(), "as would a page");
    vfs.set_capacity(None);
    while replica.step() {}
    assert_eq!(self::shown(&run(&replica, RegisterTask::Look)), Some(at(5)));
    assert_eq!(self::shown(&run(&replica, RegisterTask::Prepare(at(6)))), Some(at(5)));
    // The cursor shows it still; it is not gone on with.
    assert_eq!(paged(&page(&replica, "", false)), [Some(at(5))]);
}

#[test]
fn the_bytes_of_an_acceptor_stay_what_they_are_and_other_bytes_are_corruption() {
    let replica = open(&FaultyVfs::new(3));
    run(&replica, accept(6, "v"));
    let key = [&[1, 0, 0, 0, 1, 0, 0, 0, 3][..], b"k"].concat();
    let (stored, _) = replica.shared.engine.get(&key).unwrap().unwrap();
    let (six, zero) = (at(6).to_bytes(), Stamp::ZERO.to_bytes());
    assert_eq!(
        stored,
        [&[0x21], &six[..], &1u64.to_be_bytes(), &six, &[0], &zero, &[0], b"v"].concat()
    );
    let mut batch = Batch::new();
    batch.put(&key, b"\x21short");
    let durability = Durability::Default;
    replica.shared.engine.submit(batch, durability, Box::new(|_| ())).unwrap();
    while replica.step() {}
    let slot = begin(&replica, RegisterTask::Look);
    assert!(matches!(slot.lock().take(), Some(Err(DiskError::Corruption(_)))));
}

//! Tables: made, found by nodes that have not heard of them, and dropped on all disks.

use core::time::Duration;

use super::bench::{Bench, get_in, put_in, scan_in};
use super::moves::Moving;
use crate::message::{
    AdminRequest, Applied, ClientResult, ErrorCode, Locate, PeerMessage, Reply, TableChange,
    TableReply, TableRequest, TableSpec,
};
use crate::testing::arm_mutant;
use crate::types::{Epoch, Key, MovePhase, NodeId, OpId, RequestId, TableKind, TableName};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn name(text: &str) -> TableName {
    TableName::try_from(text.to_owned()).unwrap()
}

fn change(id: u128, change: TableChange) -> AdminRequest {
    AdminRequest::Table(Box::new(TableRequest::Change { id: RequestId(id), change }))
}

pub(super) fn create(text: &str, kind: TableKind) -> AdminRequest {
    let spec = TableSpec {
        name: name(text),
        kind,
        n: None,
        r: None,
        w: None,
        r_min: None,
        w_min: None,
        sloppy: None,
        ttl: None,
        value_bytes_max: None,
    };
    change(0, TableChange::Create(spec))
}

fn drop_table(text: &str) -> AdminRequest {
    change(0, TableChange::Drop(name(text)))
}

fn begin(bench: &mut Bench, at: NodeId, request: AdminRequest) -> OpId {
    bench.begin_admin(at, request)
}

fn done(bench: &mut Bench, at: NodeId, request: AdminRequest) -> ClientResult {
    let op = begin(bench, at, request);
    bench.settle();
    bench.reply(op).expect("answered without time passing")
}

fn changed(result: ClientResult) -> TableReply {
    match result {
        Ok(Reply::Table(reply)) => *reply,
        other => panic!("{other:?}"),
    }
}

fn code(result: ClientResult) -> ErrorCode {
    result.unwrap_err().code
}

#[test]
fn a_table_created_on_one_node_is_used_on_every_other() {
    let mut bench = Bench::serving(3);
    let reply = changed(done(&mut bench, A, create("t", TableKind::Lww)));
    assert_eq!((reply.epoch, reply.confirmed), (Epoch(2), true));
    assert_eq!(reply.table.unwrap().name, name("t"));
    for id in [A, B, C] {
        let op = bench.ask(id, put_in("t", "k", "v"));
        assert!(matches!(bench.reply(op), Some(Ok(Reply::Put(_)))));
        let op = bench.ask(id, get_in("t", "k"));
        assert!(matches!(bench.reply(op), Some(Ok(Reply::Get(reply))) if reply.record.is_some()));
        let op = bench.ask(id, get_in("default", "k"));
        assert!(matches!(bench.reply(op), Some(Ok(Reply::Get(reply))) if reply.record.is_none()));
        let op = bench.ask(id, scan_in("t"));
        assert!(matches!(bench.reply(op), Some(Ok(Reply::Scan(s))) if s.entries.len() == 1));
    }
    assert_eq!(code(done(&mut bench, B, create("t", TableKind::Causal))), ErrorCode::TableExists);
}

#[test]
fn a_node_that_has_not_heard_of_a_table_catches_up_instead_of_denying_it() {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(A, C), (B, C), (C, A), (C, B)]);
    changed(done(&mut bench, A, create("t", TableKind::Lww)));
    bench.cut.clear();
    // Nothing has told C yet. What it says must not be false all the same.
    let op = bench.ask(C, put_in("t", "k", "v"));
    bench.pass(Duration::from_millis(50));
    assert!(matches!(bench.reply(op), Some(Ok(Reply::Put(_)))));
    let op = bench.ask(C, get_in("no-such-table", "k"));
    bench.settle();
    assert_eq!(code(bench.reply(op).unwrap()), ErrorCode::TableUnknown);
}

#[test]
fn a_node_without_a_majority_of_the_council_says_that_it_cannot_tell() {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(A, C), (B, C), (C, A), (C, B)]);
    changed(done(&mut bench, A, create("t", TableKind::Lww)));
    let op = bench.ask(C, get_in("t", "k"));
    let locate = Locate { table: name("t"), key: Key::new("k").unwrap() };
    let located = begin(&mut bench, C, AdminRequest::Locate(locate));
    let listed = begin(&mut bench, C, AdminRequest::Table(Box::new(TableRequest::List)));
    bench.pass(Duration::from_millis(1100));
    for op in [op, located] {
        let error = bench.reply(op).unwrap().unwrap_err();
        assert_eq!((error.code, error.applied), (ErrorCode::QuorumNotReached, Applied::No));
    }
    match bench.reply(listed) {
        Some(Ok(Reply::Tables(reply))) => {
            assert_eq!((reply.confirmed, reply.tables.len(), reply.epoch), (false, 1, Epoch(1)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_replica_that_is_behind_catches_up_before_it_answers() {
    let mut bench = Bench::serving(3);
    // C hears nothing of the new table but what it is asked.
    bench.cut.extend([(A, C), (B, C), (C, A), (C, B)]);
    changed(done(&mut bench, A, create("t", TableKind::Lww)));
    bench.cut.clear();
    bench.seen.clear();
    let op = bench.ask(A, put_in("t", "k", "v"));
    assert!(matches!(bench.reply(op), Some(Ok(Reply::Put(_)))));
    assert_eq!(bench.host(C).disk.data.len(), 1, "C was asked, caught up, and wrote");
    let asked = bench
        .seen
        .iter()
        .filter(|(from, _, message)| *from == C && matches!(message, PeerMessage::StateAsk { .. }));
    assert!(asked.count() >= 1);
}

#[test]
fn a_change_is_refused_at_once_where_it_cannot_be_made_and_says_what_is_known_where_nobody_answers()
{
    let mut bench = Bench::serving(3);
    assert_eq!(code(done(&mut bench, A, drop_table("t"))), ErrorCode::TableUnknown);
    assert_eq!(
        code(done(&mut bench, B, create("default", TableKind::Lww))),
        ErrorCode::TableExists
    );
    bench.stop(B);
    bench.stop(C);
    let op = begin(&mut bench, A, create("t", TableKind::Lww));
    bench.pass(Duration::from_millis(1100));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!((error.code, error.applied), (ErrorCode::QuorumNotReached, Applied::No));
    assert_eq!((error.facts.needed, error.facts.got), (Some(2), Some(1)));
}

#[test]
fn a_dropped_table_is_gone_on_every_disk_and_its_name_starts_empty() {
    let mut bench = Bench::serving(3);
    changed(done(&mut bench, A, create("t", TableKind::Lww)));
    let op = bench.ask(A, put_in("t", "k", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.settle();
    bench.stop(C);
    let op = begin(&mut bench, B, drop_table("t"));
    bench.pass(Duration::from_millis(200));
    let reply = changed(bench.reply(op).unwrap());
    assert_eq!((reply.epoch, reply.table), (Epoch(3), None));
    assert!(bench.host(A).disk.data.is_empty() && bench.host(B).disk.data.is_empty());
    let op = bench.ask(A, get_in("t", "k"));
    assert_eq!(code(bench.reply(op).unwrap()), ErrorCode::TableUnknown);
    changed(done(&mut bench, A, create("t", TableKind::Lww)));
    assert_eq!(bench.host(C).disk.data.len(), 1, "C was down and knows nothing");
    bench.start(C);
    bench.pass(Duration::from_secs(2));
    assert!(bench.host(C).disk.data.is_empty());
    let op = bench.ask(C, get_in("t", "k"));
    assert!(matches!(bench.reply(op), Some(Ok(Reply::Get(reply))) if reply.record.is_none()));
}

#[test]
fn a_drop_is_answered_only_when_no_quorum_of_owners_can_be_behind() {
    let mut bench = Bench::serving(3);
    changed(done(&mut bench, A, create("t", TableKind::Lww)));
    // The council decides with C, but neither B nor C tells A that it has heard.
    let op = begin(&mut bench, A, drop_table("t"));
    bench.drop_probes = true;
    bench.pass(Duration::from_millis(1100));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!((error.code, error.applied), (ErrorCode::DeadlineExceeded, Applied::Yes));
    assert!(error.message.contains("n2") && error.message.contains("n3"), "{}", error.message);
}

#[test]
fn a_drop_waits_for_those_who_may_still_read_a_unit_where_it_was_read_before() {
    let mut moving = Moving::new();
    let ([a, b, c], [d, e]) = (moving.owners, moving.spares);
    moving.begin();
    // Two hear of nothing any more; the others hear that each of them has the next state.
    moving.bench.drop_probes = false;
    for other in [a, b, d] {
        moving.cut(other, &[c, e]);
        moving.cut(c, &[other]);
        moving.cut(e, &[other]);
    }
    [a, b, d].into_iter().for_each(|id| moving.install(id));
    moving.bench.pass(Duration::from_secs(3));
    let epoch = moving.state.epoch;
    let behind = [c.min(e), c.max(e)];
    let mut unheard = |phase, was_read| {
        let mut state = (*moving.state).clone();
        for class in &mut state.classes {
            class.owners.fill(vec![a, b, d]);
            for known in &mut class.moves {
                (known.phase, known.was_read, known.other) = (phase, was_read, vec![a, c, e]);
            }
        }
        let node = moving.bench.host(a).node.as_ref().unwrap();
        node.unheard(&state, None, epoch).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(unheard(MovePhase::ReadOld, false), [], "nobody has read it there");
    assert_eq!(unheard(MovePhase::ReadOld, true), behind, "it was turned round");
    assert_eq!(unheard(MovePhase::ReadNew, true), behind);
    let _armed = arm_mutant("drop-forgets-the-read-set");
    assert_eq!(unheard(MovePhase::ReadNew, true), [], "the planted bug asks the new owners alone");
}

/// Whether a write that was admitted before its table was dropped is gone after the sweep.
fn late_write_is_gone(kind: TableKind) -> bool {
    let mut bench = Bench::serving(3);
    changed(done(&mut bench, A, create("t", kind)));
    let op = bench.ask(A, put_in("t", "warm", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.host(B).slow_writes = true;
    bench.ask(A, put_in("t", "k", "v"));
    assert!(bench.host(B).waiting_writes() > 0);
    let op = begin(&mut bench, A, drop_table("t"));
    bench.pass(Duration::from_millis(200));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.release_disk(B);
    bench.pass(Duration::from_secs(3));
    let disk = &bench.host(B).disk;
    disk.data.is_empty() && disk.acceptors.is_empty()
}

#[test]
fn a_write_admitted_before_the_drop_is_swept_after_it_is_done() {
    assert!(late_write_is_gone(TableKind::Lww));
    assert!(late_write_is_gone(TableKind::Linearizable));
    let _armed = arm_mutant("sweep-does-not-wait");
    assert!(!late_write_is_gone(TableKind::Lww));
    assert!(!late_write_is_gone(TableKind::Linearizable));
}

#[test]
fn a_council_of_one_that_has_just_decided_does_not_deny_what_it_decided() {
    // Two founders have a council of one: its checks end in the very moment a state comes into
    // force, before what waits for the state has been looked at.
    let mut bench = Bench::serving(2);
    bench.host(A).slow_disk = true;
    let made = begin(&mut bench, B, create("t", TableKind::Lww));
    for _ in 0..20 {
        if bench.host(A).waiting_states() > 0 {
            break;
        }
        bench.release_one(A);
        bench.settle();
    }
    let [first, second] = [get_in("none", "k"), get_in("t", "k")].map(|body| bench.ask(A, body));
    bench.release_disk(A);
    bench.pass(Duration::from_millis(100));
    assert!(bench.reply(made).unwrap().is_ok());
    assert_eq!(code(bench.reply(first).unwrap()), ErrorCode::TableUnknown);
    assert!(matches!(bench.reply(second), Some(Ok(Reply::Get(_)))));
}

//! Linearizable tables: who may ask what, changes that meet, that are cut off, asked for twice, or
//! asked about.

use core::time::Duration;

use super::bench::{Bench, get_in, name, node, put_in};
use crate::message::{
    AdminRequest, Applied, Attempt, Cas, CasReply, ClientBody, ErrorCode, Event, Expectation, Fate,
    Get, GetReply, OpError, OutcomeAsk, PeerMessage, Put, QuorumMode, RegisterMessage,
    RegisterTask, Reply, TableChange, TableRequest, TableSpec, TimeToLive,
};
use crate::types::{
    Key, NodeId, OpId, Quorum, RequestId, Stamp, TableKind, Value, WallTime, limits::RECENT_IDS_MAX,
};

pub(super) const A: NodeId = NodeId(1);
pub(super) const B: NodeId = NodeId(2);
pub(super) const C: NodeId = NodeId(3);

pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Nodes that serve the linearizable table `jobs`.
pub(super) fn jobs(count: u32) -> Bench {
    let mut bench = Bench::serving(count);
    create_jobs(&mut bench);
    bench
}

pub(super) fn create_jobs(bench: &mut Bench) {
    let spec = TableSpec {
        name: name("jobs"),
        kind: TableKind::Linearizable,
        n: None,
        r: None,
        w: None,
        r_min: None,
        w_min: None,
        sloppy: None,
        ttl: None,
        value_bytes_max: None,
    };
    let request = TableRequest::Change { id: RequestId(6), change: TableChange::Create(spec) };
    let op = bench.begin_admin(A, AdminRequest::Table(Box::new(request)));
    bench.settle();
    assert!(bench.reply(op).expect("answered").is_ok());
}

fn value(text: &str) -> Value {
    Value::new(text.to_owned()).unwrap()
}

fn put(value: &str, id: u128) -> ClientBody {
    let ClientBody::Put(put) = put_in("jobs", "k", value) else { unreachable!() };
    let attempt = Attempt { id: RequestId(id), ..Attempt::default() };
    ClientBody::Put(Put { attempt, ..put })
}

fn delete() -> ClientBody {
    let ClientBody::Put(put) = put_in("jobs", "k", "") else { unreachable!() };
    ClientBody::Put(Put { value: None, ..put })
}

fn cas(expect: Expectation, value: &str) -> ClientBody {
    ClientBody::Cas(Box::new(Cas {
        table: name("jobs"),
        key: Key::new("k").unwrap(),
        expect,
        value: Some(self::value(value)),
        ttl: TimeToLive::Table,
        attempt: Attempt::default(),
    }))
}

fn outcome(id: u128, since: WallTime) -> ClientBody {
    let (table, key, lower) = (name("jobs"), Key::new("k").unwrap(), WallTime(0));
    ClientBody::Outcome(OutcomeAsk { table, key, id: RequestId(id), since, lower })
}

pub(super) fn answer(bench: &mut Bench, op: OpId) -> Result<Reply, OpError> {
    for _ in 0..120 {
        if let Some(result) = bench.reply(op) {
            return result;
        }
        bench.pass(ms(10));
    }
    panic!("no answer within its deadline")
}

pub(super) fn done(bench: &mut Bench, at: NodeId, body: ClientBody) -> Result<Reply, OpError> {
    let op = bench.ask(at, body);
    answer(bench, op)
}

pub(super) fn read(bench: &mut Bench, at: NodeId) -> Option<String> {
    match done(bench, at, get_in("jobs", "k")) {
        Ok(Reply::Get(GetReply { record, .. })) => {
            record.map(|it| it.value.unwrap().as_bytes().escape_ascii().to_string())
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn written(result: Result<Reply, OpError>) -> Stamp {
    match result {
        Ok(Reply::Put(reply)) => reply.receipt.stamp,
        other => panic!("{other:?}"),
    }
}

fn compared(result: Result<Reply, OpError>) -> CasReply {
    match result {
        Ok(Reply::Cas(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

fn fate(result: Result<Reply, OpError>) -> Fate {
    match result {
        Ok(Reply::Outcome(reply)) => reply.fate,
        other => panic!("{other:?}"),
    }
}

pub(super) fn is(message: &PeerMessage, wanted: fn(&RegisterTask) -> bool) -> bool {
    match message {
        PeerMessage::Consensus(message) => match message.as_ref() {
            RegisterMessage::Ask { task, .. } => wanted(task),
            RegisterMessage::Answer { .. } => false,
        },
        _ => false,
    }
}

/// Delivers messages until one of this kind has been sent to `to`; that one is not delivered yet.
pub(super) fn until(bench: &mut Bench, to: NodeId, wanted: fn(&RegisterTask) -> bool) {
    bench.seen.clear();
    for _ in 0..200 {
        if bench.seen.iter().any(|(_, to_, message)| *to_ == to && is(message, wanted)) {
            return;
        }
        bench.step_one();
    }
    panic!("it was never asked");
}

#[test]
fn any_node_reads_writes_deletes_and_compares() {
    let mut bench = jobs(5);
    assert_eq!(read(&mut bench, A), None);
    for n in 1..=5 {
        let text = format!("v{n}");
        let stamp = written(done(&mut bench, node(n), put(&text, 0)));
        for at in 1..=5 {
            assert_eq!(read(&mut bench, node(at)).as_ref(), Some(&text));
        }
        let lost = compared(done(&mut bench, node(n), cas(Expectation::Absent, "x")));
        assert_eq!((lost.applied, lost.current.unwrap().stamp), (false, stamp));
        let won = compared(done(&mut bench, node(n), cas(Expectation::Stamp(stamp), "won")));
        assert!(won.applied && won.receipt.stamp > stamp);
        let lost = compared(done(&mut bench, node(n), cas(Expectation::Stamp(stamp), "x")));
        assert_eq!(lost.current.unwrap().value, Some(value("won")));
        let won = Expectation::Value(value("won"));
        assert!(compared(done(&mut bench, node(n), cas(won, "again"))).applied);
        written(done(&mut bench, node(1 + n % 5), delete()));
        assert_eq!(read(&mut bench, node(n)), None);
        let made = compared(done(&mut bench, node(n), cas(Expectation::Absent, "made")));
        assert!(made.applied);
    }
}

#[test]
fn a_quiet_read_takes_one_round_trip_and_writes_nothing() {
    let mut bench = jobs(3);
    written(done(&mut bench, A, put("v", 0)));
    bench.seen.clear();
    assert_eq!(read(&mut bench, B).as_deref(), Some("v"));
    let asked = |wanted| bench.seen.iter().filter(|(_, _, m)| is(m, wanted)).count();
    assert_eq!(asked(|task| matches!(task, RegisterTask::Look)), 2);
    assert_eq!(asked(|task| !matches!(task, RegisterTask::Look)), 0);
}

#[test]
fn what_such_a_table_promises_cannot_be_given_up_by_a_request() {
    let mut bench = jobs(3);
    let code = |bench: &mut Bench, body| done(bench, A, body).unwrap_err().code;
    let ClientBody::Get(get) = get_in("jobs", "k") else { unreachable!() };
    let ClientBody::Put(put) = put_in("jobs", "k", "v") else { unreachable!() };
    let r = Some(Quorum::One);
    for body in [
        ClientBody::Get(Get { r, ..get.clone() }),
        ClientBody::Put(Put { r, ..put.clone() }),
        ClientBody::Put(Put { w: r, ..put.clone() }),
    ] {
        assert_eq!(code(&mut bench, body), ErrorCode::QuorumInvalid);
    }
    let mode = QuorumMode::Sloppy;
    let sloppy = code(&mut bench, ClientBody::Get(Get { mode, ..get }));
    assert_eq!(sloppy, ErrorCode::SloppyNotAllowed);
    let context = bytes::Bytes::from_static(b"context");
    let body = ClientBody::Put(Put { context, ..put.clone() });
    assert_eq!(code(&mut bench, body), ErrorCode::ContextInvalid);
    assert_eq!(code(&mut bench, outcome(0, WallTime(0))), ErrorCode::RequestMalformed);
    let all = ClientBody::Put(Put { w: Some(Quorum::All), ..put });
    let Ok(Reply::Put(reply)) = done(&mut bench, A, all) else { panic!() };
    assert_eq!((reply.receipt.needed, reply.receipt.answered), (3, 0b111));
    let ClientBody::Cas(mut wrong) = cas(Expectation::Absent, "x") else { unreachable!() };
    wrong.table = name("default");
    assert_eq!(code(&mut bench, ClientBody::Cas(wrong)), ErrorCode::KindMismatch);
}

#[test]
fn changes_that_meet_are_made_one_after_the_other() {
    let mut bench = jobs(3);
    written(done(&mut bench, A, put("0", 0)));
    for round in 0..20u32 {
        let mut ops = Vec::new();
        for at in [A, B, C] {
            let expect = Expectation::Value(value(&round.to_string()));
            let body = cas(expect, &(round + 1).to_string());
            bench.cut.extend([A, B, C].map(|to| (at, to)));
            let op = bench.ask(at, body);
            bench.cut.clear();
            ops.push(op);
        }
        let results: Vec<_> = ops.into_iter().map(|op| answer(&mut bench, op)).collect();
        let made = results.into_iter().map(compared).filter(|reply| reply.applied).count();
        assert_eq!(made, 1, "round {round}");
    }
    assert_eq!(read(&mut bench, A).as_deref(), Some("20"));
}

#[test]
fn changes_that_one_node_coordinates_do_not_outbid_each_other() {
    let mut bench = jobs(3);
    bench.seen.clear();
    for at in [A, B, C] {
        bench.host(at).slow_disk = true;
    }
    let ops: Vec<OpId> = (0..10).map(|n| bench.ask(A, put(&n.to_string(), 100 + n))).collect();
    for at in [A, B, C] {
        bench.release_disk(at);
    }
    bench.settle();
    let stamps: Vec<Stamp> = ops.into_iter().map(|op| written(answer(&mut bench, op))).collect();
    assert!(stamps.is_sorted(), "in the order they came");
    let prepares = |task: &RegisterTask| matches!(task, RegisterTask::Prepare(_));
    let asked = bench.seen.iter().filter(|(_, _, message)| is(message, prepares)).count();
    assert_eq!(asked, 20, "one ballot each");
    assert_eq!(read(&mut bench, B).as_deref(), Some("9"));
}

#[test]
fn a_write_that_reached_one_owner_is_unknown_until_somebody_has_it_decided() {
    for reader in [A, B, C] {
        let mut bench = jobs(3);
        written(done(&mut bench, A, put("old", 0)));
        let op = bench.ask(B, get_in("jobs", "k"));
        assert!(bench.reply(op).unwrap().is_ok());
        // Accepts of A reach nobody but A itself.
        bench.host(B).slow_disk = true;
        bench.host(C).slow_disk = true;
        let op = bench.ask(A, put("new", 9));
        bench.cut.extend([(A, B), (A, C)]);
        bench.release_disk(B);
        bench.release_disk(C);
        bench.settle();
        let error = answer(&mut bench, op).unwrap_err();
        assert_eq!((error.code, error.applied), (ErrorCode::DeadlineExceeded, Applied::Unknown));
        bench.cut.clear();
        bench.pass(ms(1_500));
        // It may be made later; but once a reader has seen it, it stays.
        let mut made = false;
        for at in [reader, A, B, C] {
            let seen = read(&mut bench, at).as_deref() == Some("new");
            assert!(seen || !made);
            made = seen;
        }
        let told = fate(done(&mut bench, C, outcome(9, WallTime(0))));
        assert!(matches!(told, Fate::Applied(_)) || !made);
        made = matches!(told, Fate::Applied(_));
        for at in [reader, A, B, C] {
            assert_eq!(read(&mut bench, at).as_deref() == Some("new"), made);
        }
    }
}

#[test]
fn a_change_that_is_asked_for_twice_is_made_once() {
    let mut bench = jobs(3);
    let first = written(done(&mut bench, A, put("mine", 9)));
    written(done(&mut bench, B, put("other", 10)));
    assert_eq!(written(done(&mut bench, C, put("mine", 9))), first);
    assert_eq!(read(&mut bench, A).as_deref(), Some("other"));
    assert_eq!(fate(done(&mut bench, B, outcome(9, WallTime(0)))), Fate::Applied(first));
}

#[test]
fn a_change_that_was_asked_about_before_it_was_made_never_will_be() {
    let mut bench = jobs(3);
    written(done(&mut bench, A, put("old", 8)));
    assert_eq!(fate(done(&mut bench, B, outcome(9, WallTime(0)))), Fate::Cancelled);
    let error = done(&mut bench, A, put("late", 9)).unwrap_err();
    assert_eq!((error.code, error.applied), (ErrorCode::RequestCancelled, Applied::No));
    assert_eq!(read(&mut bench, C).as_deref(), Some("old"));
    assert_eq!(fate(done(&mut bench, C, outcome(9, WallTime(0)))), Fate::Cancelled);
}

#[test]
fn an_outcome_that_may_have_been_forgotten_is_not_guessed() {
    let mut bench = jobs(3);
    let since = bench.wall(A);
    let first = written(done(&mut bench, A, put("first", 9)));
    let later = bench.wall(A);
    for n in 0..=RECENT_IDS_MAX as u128 {
        bench.pass(ms(10));
        written(done(&mut bench, A, put("next", 100 + n)));
    }
    for since in [WallTime(0), WallTime(since.0 - 1)] {
        let error = done(&mut bench, B, outcome(9, since)).unwrap_err();
        assert_eq!((error.code, error.applied), (ErrorCode::OutcomeForgotten, Applied::Unknown));
    }
    assert!(first.time <= later);
    // All that came after it is still known: what is not there was not made.
    let exact = WallTime(later.0 + 15_000_000);
    assert_eq!(fate(done(&mut bench, B, outcome(55, exact))), Fate::Cancelled);
}

#[test]
fn a_value_whose_time_is_over_is_taken_away_for_everybody() {
    let mut bench = jobs(3);
    let ClientBody::Put(short) = put("short", 9) else { unreachable!() };
    let ttl = TimeToLive::For(ms(100));
    written(done(&mut bench, A, ClientBody::Put(Put { ttl, ..short })));
    assert_eq!(read(&mut bench, B).as_deref(), Some("short"));
    bench.pass(ms(300));
    assert_eq!(read(&mut bench, B), None);
    // A node whose clock is behind does not bring it back.
    bench.host(C).wall_offset_ms = -250;
    assert_eq!(read(&mut bench, C), None);
    let made = compared(done(&mut bench, C, cas(Expectation::Absent, "made")));
    assert!(made.applied);
}

#[test]
fn a_coordinator_that_starts_anew_in_the_middle_leaves_one_truth() {
    let mut bench = jobs(3);
    written(done(&mut bench, A, put("old", 8)));
    let op = bench.ask(B, get_in("jobs", "k"));
    assert!(bench.reply(op).unwrap().is_ok());
    for at in [B, C] {
        bench.host(at).slow_disk = true;
    }
    bench.ask(A, put("new", 9));
    for at in [B, C] {
        bench.release_disk(at);
    }
    until(&mut bench, B, |task| matches!(task, RegisterTask::Accept(..)));
    bench.stop(A);
    bench.settle();
    bench.start(A);
    bench.pass(ms(2_000));
    let told = fate(done(&mut bench, A, outcome(9, WallTime(0))));
    let seen = read(&mut bench, B);
    assert_eq!(matches!(told, Fate::Applied(_)), seen.as_deref() == Some("new"));
    let after = written(done(&mut bench, A, put("after", 10)));
    if let Fate::Applied(stamp) = told {
        assert!(after > stamp, "ballots go on above those of the boot before");
    }
    assert_eq!(read(&mut bench, C).as_deref(), Some("after"));
}

#[test]
fn one_owner_of_three_may_be_away() {
    let mut bench = jobs(3);
    bench.stop(C);
    bench.event(A, Event::Unreachable { peer: C });
    written(done(&mut bench, A, put("v", 0)));
    assert_eq!(read(&mut bench, B).as_deref(), Some("v"));
    bench.stop(B);
    bench.event(A, Event::Unreachable { peer: B });
    let error = done(&mut bench, A, put("w", 0)).unwrap_err();
    assert_eq!((error.code, error.applied), (ErrorCode::QuorumNotReached, Applied::No));
}

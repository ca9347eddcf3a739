//! Monotonic reads: what they answer with is on w owners first.

use core::time::Duration;

use super::bench::{Bench, get, get_in, put, put_in};
use super::causal::carts;
use crate::message::{
    CausalMessage, ClientBody, ClientResult, ErrorCode, Get, GetReply, PeerMessage, QuorumMode,
    Reply, Sibling,
};
use crate::testing::arm_mutant;
use crate::types::{NodeId, OpId};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn monotonic(body: ClientBody) -> ClientBody {
    let ClientBody::Get(get) = body else { unreachable!() };
    ClientBody::Get(Get { monotonic: true, ..get })
}

fn value(reply: GetReply) -> Option<String> {
    let value = reply.record?.value?;
    Some(String::from_utf8(value.as_bytes().to_vec()).unwrap())
}

fn got(bench: &mut Bench, op: OpId) -> Option<GetReply> {
    match bench.reply(op)? {
        Ok(Reply::Get(reply)) => Some(reply),
        other => panic!("{other:?}"),
    }
}

/// Three nodes of which A alone holds a version of `k`, whose put has failed.
fn with_an_unacknowledged_put() -> Bench {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(A, B), (A, C)]);
    let op = bench.ask(A, put("k", "v"));
    bench.pass(Duration::from_millis(1100));
    assert!(bench.reply(op).unwrap().is_err());
    bench.cut.clear();
    assert_eq!(bench.host(A).disk.data.len(), 1);
    bench
}

/// Whether a monotonic read waits until what only its coordinator holds is on another disk.
fn waits_for_a_second_owner() -> bool {
    let mut bench = with_an_unacknowledged_put();
    for id in [B, C] {
        bench.host(id).slow_writes = true;
    }
    let op = bench.ask(A, monotonic(get("k", None)));
    if bench.reply(op).is_some() {
        return false;
    }
    // The one that was asked is slow: so is the other one, which is asked after a while.
    bench.pass(Duration::from_millis(100));
    assert!(bench.reply(op).is_none());
    bench.release_disk(C);
    bench.settle();
    let reply = got(&mut bench, op).expect("two owners hold it");
    assert_eq!((value(reply).as_deref(), bench.host(C).disk.data.len()), (Some("v"), 1));
    true
}

#[test]
fn a_monotonic_read_answers_with_what_w_owners_hold() {
    assert!(waits_for_a_second_owner());
    let _armed = arm_mutant("monotonic-unconfirmed");
    assert!(!waits_for_a_second_owner());
}

/// The value of `k` that a monotonic read shows; `None` while it has no answer.
fn shown(bench: &mut Bench) -> Option<Option<String>> {
    let op = bench.ask(A, monotonic(get("k", None)));
    got(bench, op).map(value)
}

fn lose_power(bench: &mut Bench) {
    for id in [A, B, C] {
        bench.lose_power(id);
    }
    for id in [A, B, C] {
        bench.start(id);
    }
    bench.pass(Duration::from_secs(3));
}

/// Whether a monotonic read tells what all owners show and no disk holds, and a later one, when power
/// has failed in between, goes back.
fn goes_back_when_power_fails() -> bool {
    let mut bench = Bench::serving(3);
    let op = bench.ask(A, put("k", "old"));
    assert!(bench.reply(op).unwrap().is_ok());
    for id in [A, B, C] {
        bench.host(id).hold_syncs();
    }
    let op = bench.ask(B, put("k", "new"));
    assert!(bench.reply(op).is_none());
    if let Some(told) = shown(&mut bench) {
        assert_eq!(told.as_deref(), Some("new"));
        lose_power(&mut bench);
        assert_eq!(shown(&mut bench).unwrap().as_deref(), Some("old"));
        return true;
    }
    // Two disks are enough, whichever, and what they hold stays.
    let op = bench.ask(A, monotonic(get("k", None)));
    bench.pass(Duration::from_millis(500));
    bench.sync(A);
    bench.settle();
    assert!(bench.reply(op).is_none(), "one disk is not two");
    bench.sync(C);
    bench.settle();
    assert_eq!(got(&mut bench, op).map(value), Some(Some("new".to_owned())));
    lose_power(&mut bench);
    assert_eq!(shown(&mut bench).unwrap().as_deref(), Some("new"));
    false
}

#[test]
fn what_a_monotonic_read_has_told_survives_a_power_failure() {
    assert!(!goes_back_when_power_fails());
    let _armed = arm_mutant("monotonic-counts-undurable");
    assert!(goes_back_when_power_fails());
}

#[test]
fn a_monotonic_read_of_what_is_durable_waits_for_no_disk() {
    let mut bench = Bench::serving(3);
    let op = bench.ask(A, put("k", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
    for id in [A, B, C] {
        bench.host(id).hold_syncs();
    }
    // Something else is on its way to the disks.
    let other = bench.ask(A, put("other", "v"));
    assert!(bench.reply(other).is_none());
    assert_eq!(shown(&mut bench).unwrap().as_deref(), Some("v"));
}

#[test]
fn what_w_owners_hold_already_is_not_written_again() {
    let mut bench = Bench::serving(3);
    let op = bench.ask(A, put("k", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.seen.clear();
    for key in ["k", "nothing"] {
        let op = bench.ask(B, monotonic(get(key, None)));
        assert_eq!(got(&mut bench, op).unwrap().record.is_some(), key == "k");
    }
    let writes =
        |(_, _, message): &&(NodeId, NodeId, PeerMessage)| matches!(message, PeerMessage::Write(_));
    assert_eq!(bench.seen.iter().filter(writes).count(), 0);
}

#[test]
fn a_monotonic_read_that_cannot_be_confirmed_says_how_many_hold_it() {
    let mut bench = with_an_unacknowledged_put();
    for id in [B, C] {
        bench.host(id).slow_writes = true;
    }
    let op = bench.ask(A, monotonic(get("k", None)));
    bench.pass(Duration::from_millis(1100));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    assert_eq!((error.facts.needed, error.facts.got), (Some(2), Some(1)));
    assert!(error.message.contains("w owners"), "{}", error.message);
}

#[test]
fn monotonic_reads_that_cannot_be_are_refused() {
    for body in [get("k", None), get_in("carts", "k")] {
        let mut bench = carts(3);
        let ClientBody::Get(read) = monotonic(body) else { unreachable!() };
        let op = bench.ask(A, ClientBody::Get(Get { mode: QuorumMode::Sloppy, ..read }));
        let error = bench.reply(op).unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::RequestMalformed);
    }
}

fn values(result: ClientResult) -> Vec<String> {
    let Ok(Reply::Causal(reply)) = result else { panic!("{result:?}") };
    let text = |sibling: &Sibling| sibling.value.as_bytes().escape_ascii().to_string();
    reply.siblings.iter().map(text).collect()
}

/// Three nodes of which A alone holds a sibling of `k`, whose put has failed.
fn with_an_unacknowledged_sibling() -> Bench {
    let mut bench = carts(3);
    let op = bench.ask(B, put_in("carts", "k", "old"));
    bench.settle();
    assert!(bench.reply(op).unwrap().is_ok());
    bench.cut.extend([(A, B), (A, C)]);
    let op = bench.ask(A, put_in("carts", "k", "new"));
    bench.pass(Duration::from_millis(1100));
    assert!(bench.reply(op).unwrap().is_err());
    bench.cut.clear();
    bench
}

/// Whether a monotonic read of a causal table waits until what only its coordinator holds is on
/// another disk.
fn siblings_wait_for_a_second_owner() -> bool {
    let mut bench = with_an_unacknowledged_sibling();
    for id in [B, C] {
        bench.host(id).slow_writes = true;
    }
    let op = bench.ask(A, monotonic(get_in("carts", "k")));
    if bench.reply(op).is_some() {
        return false;
    }
    bench.pass(Duration::from_millis(400));
    assert!(bench.reply(op).is_none());
    bench.release_disk(C);
    bench.settle();
    assert_eq!(values(bench.reply(op).expect("two owners hold it")), ["old", "new"]);
    assert_eq!(bench.host(C).disk.sets.values().next().unwrap().writes().len(), 2);
    true
}

#[test]
fn a_monotonic_read_of_siblings_answers_with_what_w_owners_hold() {
    assert!(siblings_wait_for_a_second_owner());
    let _armed = arm_mutant("monotonic-unconfirmed");
    assert!(!siblings_wait_for_a_second_owner());
}

#[test]
fn siblings_that_w_owners_hold_are_not_written_again() {
    let mut bench = carts(3);
    let op = bench.ask(A, put_in("carts", "k", "v"));
    bench.settle();
    assert!(bench.reply(op).unwrap().is_ok());
    bench.seen.clear();
    for key in ["k", "nothing"] {
        let op = bench.ask(B, monotonic(get_in("carts", key)));
        bench.settle();
        assert_eq!(values(bench.reply(op).unwrap()).len(), usize::from(key == "k"));
    }
    let is_merge = |message: &PeerMessage| match message {
        PeerMessage::Causal(message) => matches!(**message, CausalMessage::Merge { .. }),
        _ => false,
    };
    assert!(!bench.seen.iter().any(|(_, _, message)| is_merge(message)));
}

#[test]
fn a_monotonic_read_of_siblings_that_cannot_be_confirmed_says_how_many_hold_them() {
    let mut bench = with_an_unacknowledged_sibling();
    for id in [B, C] {
        bench.host(id).slow_writes = true;
    }
    let op = bench.ask(A, monotonic(get_in("carts", "k")));
    bench.pass(Duration::from_millis(1100));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    assert_eq!((error.facts.needed, error.facts.got), (Some(2), Some(1)));
}

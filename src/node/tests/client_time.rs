//! Writes whose time their client gives.

use core::time::Duration;

use super::bench::{Bench, MS, get, put, put_in};
use super::causal::carts;
use crate::message::{
    Applied, Attempt, ClientBody, ErrorCode, GetReply, PeerMessage, Put, PutReply, Reply,
};
use crate::types::{NodeId, RequestId, Stamp, WallTime};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn at(body: ClientBody, time: u64, id: u128) -> ClientBody {
    let ClientBody::Put(put) = body else { unreachable!() };
    let attempt = Attempt { id: RequestId(id), ..Attempt::default() };
    ClientBody::Put(Put { time: Some(WallTime(time)), attempt, ..put })
}

fn wrote(bench: &mut Bench, node: NodeId, body: ClientBody) -> PutReply {
    let op = bench.ask(node, body);
    match bench.reply(op) {
        Some(Ok(Reply::Put(reply))) => reply,
        other => panic!("{other:?}"),
    }
}

fn read(bench: &mut Bench, node: NodeId) -> GetReply {
    let op = bench.ask(node, get("k", None));
    match bench.reply(op) {
        Some(Ok(Reply::Get(reply))) => reply,
        other => panic!("{other:?}"),
    }
}

fn value(reply: &GetReply) -> String {
    let value = reply.record.as_ref().unwrap().value.as_ref().unwrap();
    String::from_utf8(value.as_bytes().to_vec()).unwrap()
}

#[test]
fn the_latest_time_stays_whatever_came_last_and_no_time_is_changed() {
    let mut bench = Bench::serving(3);
    let late = wrote(&mut bench, A, at(put("k", "late"), 2000, 1));
    assert_eq!(late.receipt.stamp, Stamp::of_client(WallTime(2000), RequestId(1)));
    assert!(late.receipt.stamp.is_of_client());
    bench.seen.clear();
    let early = wrote(&mut bench, B, at(put("k", "early"), 1000, 2));
    assert_eq!(early.receipt.stamp.time, WallTime(1000));
    let second_round = bench
        .seen
        .iter()
        .any(|(_, _, message)| matches!(message, PeerMessage::Write(ask) if ask.round.round > 1));
    assert!(!second_round, "stamped again");
    let reply = read(&mut bench, C);
    assert_eq!((value(&reply).as_str(), reply.receipt.stamp), ("late", late.receipt.stamp));
    // An ordinary write that comes later wins, also over a time that is a little ahead.
    let ahead = bench.wall(A).0 + 90 * MS;
    wrote(&mut bench, A, at(put("k", "ahead"), ahead, 3));
    let reply = wrote(&mut bench, B, put("k", "ordinary"));
    assert!(reply.receipt.stamp.time.0 >= ahead && !reply.receipt.stamp.is_of_client());
    assert_eq!(value(&read(&mut bench, C)), "ordinary");
}

#[test]
fn a_write_that_has_lost_says_to_which() {
    let mut bench = Bench::serving(3);
    let late = wrote(&mut bench, A, at(put("k", "late"), 2000, 1));
    assert_eq!(late.receipt.superseded_by, None);
    let early = wrote(&mut bench, B, at(put("k", "early"), 1000, 2));
    assert_eq!(early.receipt.superseded_by, Some(late.receipt.stamp));
    // A delete with an earlier time deletes nothing, and says so as well.
    let ClientBody::Put(delete) = at(put("k", ""), 1500, 3) else { unreachable!() };
    let delete = ClientBody::Put(Put { value: None, ..delete });
    let lost = wrote(&mut bench, C, delete.clone());
    assert_eq!(lost.receipt.superseded_by, Some(late.receipt.stamp));
    assert_eq!(value(&read(&mut bench, C)), "late");
    // One with a later time does.
    let ClientBody::Put(delete) = delete else { unreachable!() };
    let delete = ClientBody::Put(Put { time: Some(WallTime(2500)), ..delete });
    assert_eq!(wrote(&mut bench, C, delete).receipt.superseded_by, None);
    assert!(read(&mut bench, A).record.is_none());
    // Of two with one stamp the greater one stays, and the other one has lost to an equal stamp.
    let first = wrote(&mut bench, A, at(put("k", "b"), 3000, 7));
    let second = wrote(&mut bench, A, at(put("k", "a"), 3000, 7));
    assert_eq!(second.receipt.superseded_by, Some(first.receipt.stamp));
    assert_eq!(first.receipt.stamp, second.receipt.stamp);
    // The servers' own stamps win: what was found in the first round is not told.
    let ordinary = wrote(&mut bench, B, put("k", "ordinary"));
    assert_eq!(ordinary.receipt.superseded_by, None);
    let again = wrote(&mut bench, C, put("k", "again"));
    assert!(again.receipt.stamp > ordinary.receipt.stamp);
    assert_eq!(again.receipt.superseded_by, None);
}

#[test]
fn the_mutant_that_does_not_tell_is_caught() {
    let _armed = crate::testing::arm_mutant("superseded-not-told");
    let mut bench = Bench::serving(3);
    wrote(&mut bench, A, at(put("k", "late"), 2000, 1));
    let early = wrote(&mut bench, B, at(put("k", "early"), 1000, 2));
    assert_eq!(early.receipt.superseded_by, None);
}

#[test]
fn a_time_too_far_ahead_is_refused_and_nothing_is_written() {
    let mut bench = Bench::serving(3);
    let far = bench.wall(A).0 + 110 * MS;
    let op = bench.ask(A, at(put("k", "far"), far, 1));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!((error.code, error.applied), (ErrorCode::TimeTooFar, Applied::No));
    assert_eq!(error.facts.got, Some(far));
    assert!(!error.code.is_retryable() && error.message.contains("ms ahead"), "{}", error.message);
    assert_eq!(bench.host(A).disk.data.len(), 0);
    // Where the coordinator's clock is ahead within its bound, the others refuse.
    for id in [B, C] {
        bench.host(id).wall_offset_ms = -450;
    }
    let op = bench.ask(A, at(put("k", "far"), far - 20 * MS, 1));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::TimeTooFar, "{error}");
}

#[test]
fn attempts_of_one_write_are_one_version() {
    let mut bench = Bench::serving(3);
    let first = wrote(&mut bench, A, at(put("k", "v"), 1000, 7));
    let again = wrote(&mut bench, B, at(put("k", "v"), 1000, 7));
    assert_eq!(first.receipt.stamp, again.receipt.stamp);
    // Who names no write gets a name, so that two of them are two.
    let a = wrote(&mut bench, A, at(put("k", "a"), 1000, 0));
    let b = wrote(&mut bench, A, at(put("k", "b"), 1000, 0));
    assert_ne!(a.receipt.stamp, b.receipt.stamp);
}

#[test]
fn two_writes_with_one_stamp_come_to_one_value_on_all_owners() {
    for (first, second) in [("a", "b"), ("b", "a")] {
        let mut bench = Bench::serving(3);
        // One of them reaches A and B, the other one C alone.
        bench.cut.extend([(A, C)]);
        wrote(&mut bench, A, at(put("k", first), 1000, 7));
        bench.cut.extend([(C, A), (C, B)]);
        let op = bench.ask(C, at(put("k", second), 1000, 7));
        bench.pass(Duration::from_millis(1100));
        assert!(bench.reply(op).unwrap().is_err());
        for id in [A, B, C] {
            bench.host(id).disk.hints.clear();
        }
        bench.cut.clear();
        bench.pass(Duration::from_millis(500));
        // A read of both versions makes all owners equal.
        let op = bench.ask(A, get("k", Some(crate::types::Quorum::All)));
        assert!(bench.reply(op).unwrap().is_ok());
        bench.settle();
        let held: Vec<_> = [A, B, C].map(|id| bench.host(id).disk.data.clone()).into();
        assert!(held.windows(2).all(|pair| pair[0] == pair[1]), "{held:?}");
        assert_eq!(value(&read(&mut bench, A)), "b");
    }
}

#[test]
fn other_kinds_of_table_take_no_times() {
    let mut bench = carts(3);
    let op = bench.ask(A, at(put_in("carts", "k", "v"), 1000, 1));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::KindMismatch);
    assert!(error.message.contains("carts") && error.message.contains("causal"), "{error}");
}

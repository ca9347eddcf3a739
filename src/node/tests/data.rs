//! Puts, gets and scans.

use core::time::Duration;

use super::bench::{Bench, MS, get, put, put_with, scan};
use crate::message::{
    self, Applied, Attempt, ClientBody, ErrorCode, Event, GetReply, PeerMessage, PutReply, Reply,
};
use crate::testing::arm_mutant;
use crate::types::{NodeId, Quorum, RequestId, WallTime};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn put_ok(bench: &mut Bench, at: NodeId, key: &str, value: &str) -> PutReply {
    let op = bench.ask(at, put(key, value));
    match bench.reply(op) {
        Some(Ok(Reply::Put(reply))) => reply,
        other => panic!("{other:?}"),
    }
}

fn get_ok(bench: &mut Bench, at: NodeId, key: &str) -> GetReply {
    let op = bench.ask(at, get(key, None));
    match bench.reply(op) {
        Some(Ok(Reply::Get(reply))) => reply,
        other => panic!("{other:?}"),
    }
}

fn value(reply: &GetReply) -> Option<String> {
    let record = reply.record.as_ref()?;
    let value = record.value.as_ref()?;
    Some(String::from_utf8(value.as_bytes().to_vec()).unwrap())
}

#[test]
fn a_value_put_through_one_node_is_read_through_every_other() {
    let mut bench = Bench::serving(3);
    put_ok(&mut bench, A, "k", "v");
    for id in [A, B, C] {
        let reply = get_ok(&mut bench, id, "k");
        assert_eq!(value(&reply).as_deref(), Some("v"));
        assert_eq!(reply.receipt.answered.count_ones(), 2);
        assert!(!reply.receipt.weak);
    }
}

#[test]
fn write_reaches_quorum_with_one_replica_down_and_fails_at_once_with_two() {
    let mut bench = Bench::serving(3);
    bench.stop(C);
    bench.event(A, Event::Unreachable { peer: C });
    put_ok(&mut bench, A, "k", "v");
    bench.stop(B);
    bench.event(A, Event::Unreachable { peer: B });
    let op = bench.ask(A, put("k", "w"));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::QuorumNotReached);
    assert_eq!(error.facts.needed, Some(2));
    assert_eq!(error.applied, Applied::No);
}

#[test]
fn a_link_that_breaks_under_way_fails_the_put_fast_and_says_unknown() {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(A, B), (A, C)]);
    let op = bench.ask(A, put("k", "v"));
    assert!(bench.reply(op).is_none());
    bench.event(A, Event::Unreachable { peer: B });
    bench.event(A, Event::Unreachable { peer: C });
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!((error.code, error.applied), (ErrorCode::QuorumNotReached, Applied::Unknown));
    assert_eq!(error.facts.got, Some(1));
}

#[test]
fn a_put_that_begins_after_another_was_acknowledged_wins_whatever_the_clocks_say() {
    let mut bench = Bench::serving(3);
    bench.host(B).wall_offset_ms = -400;
    let first = put_ok(&mut bench, A, "k", "first");
    let second = put_ok(&mut bench, B, "k", "second");
    assert!(second.receipt.stamp > first.receipt.stamp);
    for id in [A, B, C] {
        assert_eq!(value(&get_ok(&mut bench, id, "k")).as_deref(), Some("second"));
    }
}

#[test]
fn a_put_is_stamped_again_above_a_version_its_coordinator_had_never_heard_of() {
    let mut bench = Bench::serving(3);
    bench.host(B).wall_offset_ms = -400;
    // B hears nothing of the first put: its clock cannot know.
    bench.cut.insert((A, B));
    let first = put_ok(&mut bench, A, "k", "first");
    bench.cut.clear();
    let second = put_ok(&mut bench, B, "k", "second");
    assert!(second.receipt.stamp > first.receipt.stamp);
    assert_eq!(value(&get_ok(&mut bench, C, "k")).as_deref(), Some("second"));
}

#[test]
fn nothing_is_acknowledged_before_w_disks_have_it() {
    let mut bench = Bench::serving(3);
    put_ok(&mut bench, A, "warm", "the ceiling is raised");
    for id in [B, C] {
        bench.host(id).slow_disk = true;
    }
    let op = bench.ask(A, put("k", "v"));
    assert!(bench.reply(op).is_none(), "one disk is not two");
    bench.release_disk(B);
    bench.settle();
    assert!(bench.reply(op).unwrap().is_ok());
}

#[test]
fn a_read_repairs_the_owner_that_missed_the_write() {
    let mut bench = Bench::serving(3);
    bench.cut.insert((A, B));
    put_ok(&mut bench, A, "k", "v");
    bench.pass(Duration::from_secs(2));
    bench.cut.clear();
    assert!(bench.host(B).disk.data.is_empty());
    // B asks itself and one other: they do not agree.
    let reply = get_ok(&mut bench, B, "k");
    assert!(reply.receipt.repaired);
    bench.settle();
    assert_eq!(bench.host(B).disk.data.len(), 1);
}

#[test]
fn a_silent_owner_is_asked_again_and_its_late_answer_counts() {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(A, B), (A, C)]);
    let op = bench.ask(A, put("k", "v"));
    bench.cut.clear();
    bench.pass(Duration::from_millis(500));
    assert!(bench.reply(op).unwrap().is_ok());
    assert_eq!(bench.host(C).disk.data.len(), 1);
}

#[test]
fn a_request_is_answered_when_its_deadline_passes() {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(A, B), (A, C)]);
    let write = bench.ask(A, put("k", "v"));
    let read = bench.ask(A, get("k", None));
    let page = bench.ask(A, scan("", "", 10));
    bench.pass(Duration::from_millis(1100));
    for op in [write, read, page] {
        let error = bench.reply(op).unwrap().unwrap_err();
        assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    }
}

#[test]
fn an_answer_to_the_first_round_does_not_count_in_the_second() {
    let mut bench = Bench::serving(3);
    bench.host(B).wall_offset_ms = -50;
    bench.cut.insert((A, B));
    put_ok(&mut bench, A, "k", "first");
    bench.cut.clear();
    // B's own disk is slow: the first round is made of the answers of A and C, which supersede it,
    // and B's own answer to it comes after the second round has begun.
    let warm = bench.ask(B, put("other", "x"));
    assert!(bench.reply(warm).unwrap().is_ok());
    bench.host(B).slow_disk = true;
    bench.seen.clear();
    let op = bench.ask(B, put("k", "second"));
    assert!(bench.reply(op).unwrap().is_ok());
    let rounds: Vec<u32> = bench
        .seen
        .iter()
        .filter_map(|(_, _, message)| match message {
            PeerMessage::Write(ask) => Some(ask.round.round),
            _ => None,
        })
        .collect();
    assert_eq!(rounds, [1, 1, 2, 2]);
    bench.release_disk(B);
    assert_eq!(value(&get_ok(&mut bench, B, "k")).as_deref(), Some("second"));
}

#[test]
fn requests_below_the_floors_are_served_with_a_weak_receipt() {
    let mut bench = Bench::serving(3);
    let op = bench.ask(A, put_with("k", "v", Some(Quorum::One), Attempt::default()));
    let Some(Ok(Reply::Put(reply))) = bench.reply(op) else { panic!() };
    assert!(reply.receipt.weak);
    let op = bench.ask(B, get("k", Some(Quorum::One)));
    let Some(Ok(Reply::Get(reply))) = bench.reply(op) else { panic!() };
    assert!(reply.receipt.weak);
    for bad in [Quorum::Count(0), Quorum::Count(4)] {
        let op = bench.ask(A, put_with("k", "v", Some(bad), Attempt::default()));
        assert_eq!(bench.reply(op).unwrap().unwrap_err().code, ErrorCode::QuorumInvalid);
    }
}

#[test]
fn an_attempt_stamps_only_inside_its_window() {
    let mut bench = Bench::serving(3);
    let now = bench.wall(A);
    let attempt = |number, lower: u64, upper: u64| Attempt {
        id: RequestId(7),
        number,
        lower: WallTime(lower),
        upper: Some(WallTime(upper)),
        since: WallTime(0),
    };
    let late = attempt(0, 0, now.0 - MS);
    let op = bench.ask(A, put_with("k", "late", None, late));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!((error.code, error.applied), (ErrorCode::AttemptExpired, Applied::No));
    assert!(error.facts.server_time >= Some(now));
    let next = attempt(1, now.0 + 50 * MS, now.0 + 250 * MS);
    let op = bench.ask(A, put_with("k", "next", None, next));
    let Some(Ok(Reply::Put(reply))) = bench.reply(op) else { panic!() };
    assert!(reply.receipt.stamp.time > next.lower);
    // The first attempt wakes up: what it writes now loses.
    bench.pass(Duration::from_millis(10));
    let first = attempt(0, now.0 - 1, now.0 + 40 * MS);
    let op = bench.ask(B, put_with("k", "first", None, first));
    bench.reply(op);
    bench.settle();
    assert_eq!(value(&get_ok(&mut bench, C, "k")).as_deref(), Some("next"));
}

#[test]
fn a_node_whose_clock_is_far_ahead_does_not_stamp_and_does_not_poison_the_key() {
    let mut bench = Bench::serving(3);
    bench.host(A).wall_offset_ms = 10_000;
    let op = bench.ask(A, put("k", "future"));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!((error.code, error.applied), (ErrorCode::ClockAhead, Applied::No));
    put_ok(&mut bench, B, "k", "now");
    assert_eq!(value(&get_ok(&mut bench, A, "k")).as_deref(), Some("now"));
}

#[test]
fn stamps_go_on_increasing_after_a_restart_with_the_clock_set_back() {
    let mut bench = Bench::serving(3);
    let before = put_ok(&mut bench, A, "k", "before");
    bench.stop(A);
    bench.host(A).wall_offset_ms = -250;
    bench.start(A);
    bench.pass(Duration::from_secs(2));
    let after = put_ok(&mut bench, A, "other", "after");
    assert!(after.receipt.stamp > before.receipt.stamp);
}

#[test]
fn a_deleted_key_is_gone_from_gets_and_scans() {
    let mut bench = Bench::serving(3);
    for key in ["a1", "a2", "a3", "b1"] {
        put_ok(&mut bench, A, key, key);
    }
    let op = bench.ask(
        B,
        ClientBody::Put(message::Put {
            table: "default".to_owned().try_into().unwrap(),
            key: crate::types::Key::new("a2").unwrap(),
            value: None,
            ttl: message::TimeToLive::Table,
            w: None,
            r: None,
            mode: message::QuorumMode::ByTable,
            attempt: Attempt::default(),
            time: None,
            context: bytes::Bytes::new(),
            traced: false,
        }),
    );
    assert!(bench.reply(op).unwrap().is_ok());
    assert_eq!(get_ok(&mut bench, C, "a2").record, None);
    let mut keys = Vec::new();
    let mut after = String::new();
    loop {
        let op = bench.ask(C, scan("a", &after, 1));
        let Some(Ok(Reply::Scan(page))) = bench.reply(op) else { panic!() };
        keys.extend(page.entries.iter().map(|entry| entry.key.clone()));
        match page.resume {
            Some(resume) => after = String::from_utf8(resume.to_vec()).unwrap(),
            None => break,
        }
    }
    let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
    assert_eq!(keys, [b"a1", b"a3"]);
}

#[test]
fn a_scan_in_reverse_shows_the_same_keys_the_other_way_round() {
    let mut bench = Bench::serving(5);
    let expected: Vec<String> = (0..40).map(|number| format!("k{number:02}")).collect();
    for key in &expected {
        put_ok(&mut bench, A, key, key);
    }
    let mut read = |reverse: bool| {
        let (mut keys, mut after) = (Vec::new(), String::new());
        for _ in 0..expected.len() {
            let ClientBody::Scan(page) = scan("k", &after, 7) else { panic!() };
            let op = bench.ask(C, ClientBody::Scan(message::Scan { reverse, ..page }));
            let Some(Ok(Reply::Scan(page))) = bench.reply(op) else { panic!() };
            let shown = page.entries.iter().map(|entry| entry.key.as_bytes().to_vec());
            keys.extend(shown.map(|key| String::from_utf8(key).unwrap()));
            let Some(resume) = page.resume else { break };
            after = String::from_utf8(resume.to_vec()).unwrap();
        }
        keys
    };
    assert_eq!(read(false), expected);
    let back: Vec<String> = expected.iter().rev().cloned().collect();
    assert_eq!(read(true), back);
    let _armed = arm_mutant("scan-frontier-forward");
    assert_ne!(read(true), back);
}

#[test]
fn a_page_that_goes_another_way_than_was_asked_is_no_answer() {
    let mut bench = Bench::serving(5);
    for number in 0..40 {
        put_ok(&mut bench, A, &format!("k{number:02}"), "v");
    }
    let mut read = |crowd: &[NodeId]| {
        for id in [A, B, C] {
            bench.host(id).disk.reads_forward = crowd.contains(&id);
        }
        let ClientBody::Scan(page) = scan("k", "k30", 7) else { panic!() };
        let op = bench.ask(C, ClientBody::Scan(message::Scan { reverse: true, ..page }));
        bench.reply(op).unwrap()
    };
    let Ok(Reply::Scan(page)) = read(&[B]) else { panic!() };
    assert_eq!(page.entries.first().unwrap().key.as_bytes(), b"k29");
    let error = read(&[A, B]).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuorumNotReached);
    assert!(error.message.contains("another page"), "{}", error.message);
    let _armed = arm_mutant("scan-page-unchecked");
    assert!(read(&[A, B]).is_ok());
}

#[test]
fn the_node_stays_within_its_bounds_and_says_overloaded() {
    let mut bench = Bench::new(1);
    bench.config(A).operations_max = 4;
    bench.start(A);
    bench.pass(Duration::from_secs(2));
    bench.host(A).slow_disk = true;
    let ops: Vec<_> = (0..6).map(|i| bench.ask(A, put(&format!("k{i}"), "v"))).collect();
    let refused: Vec<_> = ops.iter().filter_map(|op| bench.reply(*op)).collect();
    assert_eq!(refused.len(), 2);
    for result in refused {
        assert_eq!(result.unwrap_err().code, ErrorCode::Overloaded);
    }
}

#[test]
fn operators_see_where_a_key_lives_and_who_is_down() {
    let mut bench = Bench::serving(5);
    let locate = message::AdminRequest::Locate(message::Locate {
        table: "default".to_owned().try_into().unwrap(),
        key: crate::types::Key::new("k").unwrap(),
    });
    let Ok(Reply::Locate(place)) = bench.admin(A, locate.clone()) else { panic!() };
    assert_eq!((place.owners.len(), place.stand_ins.len()), (3, 2));
    assert_eq!(bench.admin(C, locate), Ok(Reply::Locate(place)));
    bench.stop(B);
    bench.pass(Duration::from_secs(12));
    let Ok(Reply::Status(status)) = bench.admin(A, message::AdminRequest::Status) else { panic!() };
    let copies: u32 = status.nodes.iter().map(|node| node.replica_partitions).sum();
    assert_eq!(copies, 3 * 16);
    let down: Vec<NodeId> = status
        .nodes
        .iter()
        .filter(|node| node.liveness == message::Liveness::Down)
        .map(|node| node.id)
        .collect();
    assert_eq!(down, [B]);
    assert!(status.unavailable.is_empty());
}

#[test]
fn a_node_does_not_ask_its_own_slow_disk_twice() {
    let mut bench = Bench::serving(3);
    put_ok(&mut bench, A, "warm", "the ceiling is raised");
    bench.host(A).slow_disk = true;
    let op = bench.ask(A, put("k", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.pass(Duration::from_millis(900));
    assert_eq!(bench.host(A).waiting_writes(), 1);
}

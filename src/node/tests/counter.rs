//! Counters: who makes increments, what is told of them, and what becomes of a second try.

use core::time::Duration;

use super::bench::{Bench, get_in, name, node, put_in};
use super::causal::carts;
use super::register::create_jobs;
use crate::message::{
    AdminRequest, Applied, Attempt, CausalMessage, CausalReply, ClientBody, ErrorCode, Event,
    Increment, Locate, OpError, PeerMessage, Put, QuorumMode, Reply,
};
use crate::testing::arm_mutant;
use crate::types::{Key, NodeId, NodeName, RequestId, Value, WallTime};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn tables(count: u32) -> Bench {
    let mut bench = carts(count);
    create_jobs(&mut bench);
    bench
}

fn add_to(table: &str, by: i64, attempt: Attempt) -> ClientBody {
    let (table, key) = (name(table), Key::new("k").unwrap());
    let (w, mode, traced) = (None, QuorumMode::ByTable, false);
    ClientBody::Increment(Box::new(Increment { table, key, by, w, attempt, mode, traced }))
}

fn add(table: &str, by: i64, id: u128) -> ClientBody {
    add_to(table, by, Attempt { id: RequestId(id), ..Attempt::default() })
}

fn again(table: &str, by: i64, id: u128) -> ClientBody {
    // Begun before all that is there, and nothing has been forgotten.
    let since = WallTime(1);
    add_to(table, by, Attempt { id: RequestId(id), number: 1, since, ..Attempt::default() })
}

fn answer(bench: &mut Bench, at: NodeId, body: ClientBody) -> Result<Reply, OpError> {
    let op = bench.ask(at, body);
    for _ in 0..120 {
        if let Some(result) = bench.reply(op) {
            return result;
        }
        bench.pass(Duration::from_millis(10));
    }
    panic!("no answer within its deadline")
}

/// The sum that an increment is answered with.
fn sum(bench: &mut Bench, at: NodeId, body: ClientBody) -> Option<i64> {
    match answer(bench, at, body).unwrap() {
        Reply::Causal(reply) => reply.counter,
        Reply::Increment(reply) => reply.value,
        other => panic!("{other:?}"),
    }
}

fn refused(bench: &mut Bench, at: NodeId, body: ClientBody) -> (ErrorCode, Applied) {
    let error = answer(bench, at, body).unwrap_err();
    (error.code, error.applied)
}

fn cut(bench: &mut Bench, one: NodeId, other: NodeId) {
    bench.cut.extend([(one, other), (other, one)]);
}

fn running(bench: &Bench) -> Vec<NodeId> {
    let ids = (1..).map(node).zip(&bench.hosts).filter(|(_, host)| host.node.is_some());
    ids.map(|(id, _)| id).collect()
}

/// The node stops, and all others notice.
fn down(bench: &mut Bench, id: NodeId) {
    bench.stop(id);
    for other in running(bench) {
        bench.event(other, Event::Unreachable { peer: id });
    }
    bench.settle();
}

fn text(value: &Value) -> String {
    value.as_bytes().escape_ascii().to_string()
}

fn carts_read(bench: &mut Bench, at: NodeId) -> CausalReply {
    match answer(bench, at, get_in("carts", "k")).unwrap() {
        Reply::Causal(reply) => *reply,
        other => panic!("{other:?}"),
    }
}

/// What a reader is shown.
fn shown(bench: &mut Bench, table: &str, at: NodeId) -> Vec<String> {
    match answer(bench, at, get_in(table, "k")).unwrap() {
        Reply::Causal(reply) => reply.siblings.iter().map(|s| text(&s.value)).collect(),
        Reply::Get(reply) => {
            reply.record.iter().filter_map(|record| Some(text(record.value.as_ref()?))).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn increments_through_all_nodes_add_up_in_either_kind_of_table() {
    let mut bench = tables(5);
    for table in ["carts", "jobs"] {
        let mut expected = 0;
        for number in 1..=15 {
            let by = if number % 4 == 0 { -2 } else { i64::from(number) };
            expected += by;
            let at = node(1 + number % 5);
            assert_eq!(sum(&mut bench, at, add(table, by, 0)), Some(expected), "{table}");
        }
        for at in 1..=5 {
            assert_eq!(shown(&mut bench, table, node(at)), [expected.to_string()]);
        }
    }
    let read = carts_read(&mut bench, A);
    assert!(read.count == 1 && read.siblings[0].is_counter);
    // One part for each owner that has made increments.
    let parts = |at: NodeId, bench: &mut Bench| {
        let sets: Vec<usize> =
            bench.host(at).disk.sets.values().map(|set| set.writes().len()).collect();
        sets
    };
    for at in 1..=5 {
        assert!(parts(node(at), &mut bench).iter().all(|parts| *parts <= 3));
    }
}

#[test]
fn increments_that_owners_make_apart_are_added_when_they_meet() {
    let history = || {
        let mut bench = tables(3);
        cut(&mut bench, A, B);
        cut(&mut bench, A, C);
        // A makes it, and cannot tell anybody.
        let op = bench.ask(A, add("carts", 5, 1));
        bench.settle();
        let lost = bench.reply(op);
        sum(&mut bench, B, add("carts", 7, 2));
        sum(&mut bench, C, add("carts", 1, 3));
        bench.cut.clear();
        bench.pass(Duration::from_secs(8));
        assert!(lost.is_none_or(|result| result.is_err()));
        carts_read(&mut bench, C);
        bench.settle();
        shown(&mut bench, "carts", A)
    };
    assert_eq!(history(), ["13"]);
    let _armed = arm_mutant("counter-takes-all-parts");
    assert_ne!(history(), ["13"]);
}

#[test]
fn a_second_try_counts_once_where_the_first_is_known() {
    for table in ["carts", "jobs"] {
        let mut bench = tables(3);
        sum(&mut bench, A, add(table, 5, 1));
        sum(&mut bench, B, add(table, 1, 2));
        let second = sum(&mut bench, C, again(table, 5, 1));
        // A register holds one sum, and it is another one by now.
        assert_eq!(second, (table == "carts").then_some(6), "{table}");
        assert_eq!(sum(&mut bench, A, again(table, 1, 2)), Some(6), "{table}");
        assert_eq!(shown(&mut bench, table, B), ["6"], "{table}");
    }
    for (mutant, table) in
        [("counter-retry-counts-twice", "carts"), ("register-ids-ignored", "jobs")]
    {
        let _armed = arm_mutant(mutant);
        let mut bench = tables(3);
        sum(&mut bench, A, add(table, 5, 1));
        assert_eq!(sum(&mut bench, C, again(table, 5, 1)), Some(10), "{mutant}");
    }
}

#[test]
fn a_retry_that_is_known_is_told_to_owners_that_lack_it() {
    let mut bench = tables(3);
    // C has not heard of it, and B has.
    cut(&mut bench, A, C);
    sum(&mut bench, A, add("carts", 5, 1));
    down(&mut bench, A);
    assert_eq!(sum(&mut bench, B, again("carts", 5, 1)), Some(5));
    let held: Vec<i64> = bench.host(C).disk.sets.values().filter_map(|set| set.counter()).collect();
    assert_eq!(held, [5]);
}

#[test]
fn an_increment_that_is_sent_on_twice_is_made_once_and_is_never_taken_for_a_delete() {
    let mut bench = tables(5);
    let is_add = |message: &PeerMessage| match message {
        PeerMessage::Causal(message) => match message.as_ref() {
            CausalMessage::Put { put, hint_for, .. } => {
                put.add == Some(5) && put.value.is_none() && hint_for.is_none()
            }
            _ => false,
        },
        _ => false,
    };
    for at in 1..=5 {
        bench.seen.clear();
        sum(&mut bench, node(at), add("carts", 5, u128::from(at)));
        let sent = bench.seen.iter().find(|(_, _, message)| is_add(message)).cloned();
        if let Some((from, to, message)) = sent {
            bench.event(to, Event::Peer { from, message });
            bench.settle();
        }
        assert_eq!(shown(&mut bench, "carts", A), [(5 * at).to_string()]);
    }
}

#[test]
fn stand_ins_count_and_make_no_increments() {
    let mut bench = tables(5);
    let locate = Locate { table: name("carts"), key: Key::new("k").unwrap() };
    let Ok(Reply::Locate(place)) = bench.admin(A, AdminRequest::Locate(locate)) else { panic!() };
    let id = |name: &NodeName| NodeId(name.as_str()[1..].parse().unwrap());
    let owners: Vec<NodeId> = place.owners.iter().map(id).collect();
    let other = (1..=5).map(node).find(|id| !owners.contains(id)).unwrap();
    let sloppy = |by| {
        let ClientBody::Increment(increment) = add("carts", by, 0) else { unreachable!() };
        let mode = QuorumMode::Sloppy;
        ClientBody::Increment(Box::new(Increment { mode, ..*increment }))
    };
    for owner in &owners[1..] {
        down(&mut bench, *owner);
    }
    bench.pass(Duration::from_secs(8));
    assert_eq!(refused(&mut bench, owners[0], add("carts", 1, 0)).0, ErrorCode::QuorumNotReached);
    let before = sum(&mut bench, owners[0], sloppy(5));
    assert_eq!(before, Some(5));
    down(&mut bench, owners[0]);
    bench.pass(Duration::from_secs(8));
    let none = (ErrorCode::QuorumNotReached, Applied::No);
    assert_eq!(refused(&mut bench, other, sloppy(7)), none);
    for owner in &owners {
        bench.start(*owner);
    }
    bench.pass(Duration::from_secs(20));
    assert_eq!(shown(&mut bench, "carts", other), ["5"]);
}

#[test]
fn what_is_no_counter_is_refused_and_nothing_changes() {
    let mut bench = tables(3);
    for table in ["carts", "jobs"] {
        let ClientBody::Put(put) = put_in(table, "k", "text") else { unreachable!() };
        answer(&mut bench, A, ClientBody::Put(put.clone())).unwrap();
        let mismatch = (ErrorCode::CounterMismatch, Applied::No);
        assert_eq!(refused(&mut bench, B, add(table, 1, 0)), mismatch, "{table}");
        assert_eq!(shown(&mut bench, table, C), ["text"]);
        let delete = ClientBody::Put(Put { value: None, ..put.clone() });
        answer(&mut bench, C, delete).unwrap();
        sum(&mut bench, B, add(table, i64::MAX, 0));
        let overflow = (ErrorCode::CounterOverflow, Applied::No);
        assert_eq!(refused(&mut bench, B, add(table, 1, 0)), overflow, "{table}");
        assert_eq!(shown(&mut bench, table, C), [i64::MAX.to_string()]);
    }
    // A put over a counter: with what was seen of it in a causal table, freely in the other.
    let ClientBody::Put(put) = put_in("carts", "k", "12") else { unreachable!() };
    let blind = refused(&mut bench, A, ClientBody::Put(put.clone()));
    assert_eq!(blind, (ErrorCode::CounterMismatch, Applied::No));
    let context = carts_read(&mut bench, A).context;
    answer(&mut bench, A, ClientBody::Put(Put { context, ..put })).unwrap();
    assert_eq!(shown(&mut bench, "carts", B), ["12"]);
    answer(&mut bench, A, put_in("jobs", "k", "-12")).unwrap();
    assert_eq!(sum(&mut bench, B, add("jobs", 2, 0)), Some(-10));
    for odd in ["+1", "01", "-0", "", "9223372036854775808", "1.5"] {
        answer(&mut bench, A, put_in("jobs", "k", odd)).unwrap();
        assert_eq!(
            refused(&mut bench, C, add("jobs", 1, 0)).0,
            ErrorCode::CounterMismatch,
            "{odd}"
        );
    }
    assert_eq!(refused(&mut bench, A, add("default", 1, 0)).0, ErrorCode::KindMismatch);
}

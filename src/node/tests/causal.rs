//! Causal tables: who coordinates, what is told when, and what arrives twice or too late.

use super::bench::{Bench, get_in, node, put_in};
use crate::message::{
    AdminRequest, Applied, CausalMessage, CausalReply, ClientBody, ErrorCode, Event, PeerMessage,
    Put, Reply, TableChange, TableRequest, TableSpec,
};
use crate::types::{NodeId, RequestId, TableKind, Value, WallTime};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

/// Nodes that serve the causal table `carts`.
pub(super) fn carts(count: u32) -> Bench {
    let mut bench = Bench::serving(count);
    let spec = TableSpec {
        name: "carts".to_owned().try_into().unwrap(),
        kind: TableKind::Causal,
        n: None,
        r: None,
        w: None,
        r_min: None,
        w_min: None,
        sloppy: None,
        ttl: None,
        value_bytes_max: None,
    };
    let change = TableChange::Create(spec);
    let request = TableRequest::Change { id: RequestId(5), change };
    let op = bench.begin_admin(A, AdminRequest::Table(Box::new(request)));
    bench.settle();
    assert!(bench.reply(op).expect("answered").is_ok());
    bench
}

fn put(key: &str, value: &str, context: &bytes::Bytes) -> ClientBody {
    let ClientBody::Put(put) = put_in("carts", key, value) else { unreachable!() };
    ClientBody::Put(Put { context: context.clone(), ..put })
}

fn done(bench: &mut Bench, at: NodeId, body: ClientBody) -> CausalReply {
    let op = bench.ask(at, body);
    bench.settle();
    match bench.reply(op).expect("answered").unwrap() {
        Reply::Causal(reply) => *reply,
        other => panic!("{other:?}"),
    }
}

fn values(bench: &mut Bench, at: NodeId, key: &str) -> Vec<String> {
    let reply = done(bench, at, get_in("carts", key));
    let text = |value: &Value| value.as_bytes().escape_ascii().to_string();
    let mut values: Vec<String> = reply.siblings.iter().map(|s| text(&s.value)).collect();
    values.sort();
    values
}

fn merges(bench: &Bench) -> usize {
    let is_merge = |message: &PeerMessage| matches!(message, PeerMessage::Causal(m) if matches!(**m, CausalMessage::Merge { .. }));
    bench.seen.iter().filter(|(_, _, message)| is_merge(message)).count()
}

#[test]
fn any_node_takes_reads_and_writes_and_siblings_are_kept() {
    let mut bench = carts(5);
    let none = bytes::Bytes::new();
    for number in 0..10 {
        let key = format!("k{number}");
        done(&mut bench, node(1 + number % 5), put(&key, "one", &none));
        let second = done(&mut bench, node(1 + (number + 2) % 5), put(&key, "two", &none));
        assert_eq!(second.count, 2, "its coordinator had been told of the first");
        let read = done(&mut bench, node(1 + (number + 4) % 5), get_in("carts", &key));
        assert_eq!((read.siblings.len(), read.count), (2, 2));
        let merged = put(&key, "both", &read.context);
        assert_eq!(done(&mut bench, node(1 + number % 5), merged).count, 1);
        for at in 1..=5 {
            assert_eq!(values(&mut bench, node(at), &key), ["both"]);
        }
    }
}

#[test]
fn an_owner_tells_the_others_only_when_its_own_disk_holds_the_write() {
    let mut bench = carts(3);
    bench.host(A).slow_disk = true;
    bench.seen.clear();
    let op = bench.ask(A, put("k", "v", &bytes::Bytes::new()));
    bench.settle();
    assert_eq!((merges(&bench), bench.reply(op).is_none()), (0, true));
    bench.release_disk(A);
    bench.settle();
    assert!(matches!(bench.reply(op), Some(Ok(Reply::Causal(_)))));
    assert_eq!(merges(&bench), 2);
}

#[test]
fn an_attempt_that_wakes_up_after_its_window_writes_nothing() {
    let mut bench = carts(3);
    let ClientBody::Put(mut late) = put("k", "late", &bytes::Bytes::new()) else { unreachable!() };
    let past = bench.wall(A).0 - 1_000_000_000;
    late.attempt.upper = Some(WallTime(past));
    let op = bench.ask(A, ClientBody::Put(late));
    bench.settle();
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::AttemptExpired);
    assert!(values(&mut bench, B, "k").is_empty());
}

/// Sends a put to an owner once more, after its value has been overwritten; what a reader sees then.
fn replayed() -> Vec<String> {
    let mut bench = carts(5);
    let is_put = |message: &PeerMessage| matches!(message, PeerMessage::Causal(m) if matches!(**m, CausalMessage::Put { .. }));
    for number in 0..50 {
        let key = format!("k{number}");
        bench.seen.clear();
        done(&mut bench, A, put(&key, "old", &bytes::Bytes::new()));
        let sent = bench.seen.iter().find(|(_, _, message)| is_put(message)).cloned();
        let Some((from, to, message)) = sent else { continue };
        let read = done(&mut bench, B, get_in("carts", &key));
        done(&mut bench, to, put(&key, "new", &read.context));
        bench.event(to, Event::Peer { from, message });
        bench.settle();
        return values(&mut bench, C, &key);
    }
    panic!("node 1 owns all keys");
}

#[test]
fn a_put_that_arrives_twice_at_an_owner_is_made_once() {
    assert_eq!(replayed(), ["new"]);
    let _armed = crate::testing::arm_mutant("forwarded-put-made-twice");
    assert_eq!(replayed(), ["new", "old"], "the planted bug makes it again");
}

/// A put that came too late is sent once more with time left; what a reader sees then.
fn refused_then_repeated() -> Vec<String> {
    let mut bench = carts(5);
    for number in 0..50 {
        let key = format!("k{number}");
        bench.seen.clear();
        done(&mut bench, A, put(&key, "first", &bytes::Bytes::new()));
        let sent = bench.seen.iter().find_map(|(from, to, message)| match message {
            PeerMessage::Causal(message) => match &**message {
                CausalMessage::Put { round, place, put, .. } => {
                    Some((*from, *to, *round, place.clone(), put.clone()))
                }
                _ => None,
            },
            _ => None,
        });
        let Some((from, to, mut round, place, mut put)) = sent else { continue };
        round.op += 1000;
        put.attempt.id = RequestId(77);
        put.value = Some(Value::new("refused").unwrap());
        for ms in [0, 1000] {
            let remaining = core::time::Duration::from_millis(ms);
            let (place, put) = (place.clone(), put.clone());
            let message = CausalMessage::Put { round, place, hint_for: None, put, remaining };
            let message = PeerMessage::Causal(Box::new(message));
            bench.event(to, Event::Peer { from, message });
            bench.settle();
        }
        return values(&mut bench, C, &key);
    }
    panic!("node 1 owns all keys");
}

#[test]
fn a_put_that_an_owner_has_refused_is_not_made_by_a_second_copy_of_it() {
    assert_eq!(refused_then_repeated(), ["first"]);
    let _armed = crate::testing::arm_mutant("forwarded-put-made-twice");
    assert_eq!(refused_then_repeated(), ["first", "refused"], "the planted bug makes it");
}

#[test]
fn a_delete_without_a_context_removes_what_others_hold_too() {
    let mut bench = carts(3);
    done(&mut bench, A, put("k", "v", &bytes::Bytes::new()));
    let ClientBody::Put(delete) = put("k", "", &bytes::Bytes::new()) else { unreachable!() };
    let reply = done(&mut bench, C, ClientBody::Put(Put { value: None, ..delete }));
    assert_eq!(reply.count, 0);
    for at in [A, B, C] {
        assert!(values(&mut bench, at, "k").is_empty());
    }
}

#[test]
fn a_context_of_another_key_or_kind_is_refused_and_changes_nothing() {
    let mut bench = carts(3);
    let written = done(&mut bench, A, put("k", "v", &bytes::Bytes::new()));
    let refused = |bench: &mut Bench, body| {
        let op = bench.ask(B, body);
        bench.settle();
        bench.reply(op).unwrap().unwrap_err().code
    };
    let other = put("other", "x", &written.context);
    assert_eq!(refused(&mut bench, other), ErrorCode::ContextInvalid);
    let ClientBody::Put(plain) = super::bench::put("k", "x") else { unreachable!() };
    let plain = ClientBody::Put(Put { context: written.context, ..plain });
    assert_eq!(refused(&mut bench, plain), ErrorCode::ContextInvalid);
    assert_eq!(values(&mut bench, C, "k"), ["v"]);
    assert!(values(&mut bench, C, "other").is_empty());
}

/// What is told of a put whose owner made it, forgot that in a restart, and says no to the second
/// asking; `None` when node 1 coordinates the key itself.
fn told_after_a_restart(key: &str) -> Option<Applied> {
    let mut bench = carts(5);
    let asked = |message: &PeerMessage| match message {
        PeerMessage::Causal(message) => match &**message {
            CausalMessage::Put { round, .. } => Some(*round),
            _ => None,
        },
        _ => None,
    };
    for to in [B, C, node(4), node(5)] {
        bench.cut.insert((to, A));
    }
    bench.seen.clear();
    let op = bench.ask(A, put(key, "made", &bytes::Bytes::new()));
    let (owner, round) = bench.seen.iter().find_map(|(_, to, m)| Some((*to, asked(m)?)))?;
    assert!(bench.reply(op).is_none(), "its answer is lost");
    bench.pass(core::time::Duration::from_millis(300));
    let refusal = crate::message::OpError::new(ErrorCode::NotReady, "this node starts");
    let result = Err(Box::new(refusal.with_applied(Applied::No)));
    let answer = CausalMessage::PutAnswer { round, result };
    let message = PeerMessage::Causal(Box::new(answer));
    bench.event(A, Event::Peer { from: owner, message });
    let told = bench.reply(op).map(|result| result.unwrap_err().applied);
    Some(told.unwrap_or(Applied::No))
}

#[test]
fn the_no_of_an_owner_that_has_started_anew_is_not_believed() {
    let told = || (0..20).find_map(|number| told_after_a_restart(&format!("k{number}"))).unwrap();
    assert_eq!(told(), Applied::Unknown);
    let _armed = crate::testing::arm_mutant("forwarded-no-believed");
    assert_eq!(told(), Applied::No, "the planted bug goes on to another owner");
}

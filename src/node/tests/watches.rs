//! Watches over a few nodes: who is followed, what restarts and silence come to, tokens and room.

use core::time::Duration;

use bytes::Bytes;

use super::answers::Notes;
use super::bench::{Bench, name, put};
use crate::message::{
    ClientBody, ErrorCode, Event, GapReason, OpError, PeerMessage, Reply, WatchAsk, WatchEvent,
    WatchReply,
};
use crate::types::{NodeId, limits};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn ask(stream: u64, first: Option<Bytes>) -> ClientBody {
    let (first, token) = (first.is_some(), first.unwrap_or_default());
    let (table, prefix, values) = (name("default"), Bytes::new(), false);
    ClientBody::Watch(Box::new(WatchAsk { table, prefix, values, token, stream, first }))
}

fn try_next(bench: &mut Bench, at: NodeId, body: ClientBody) -> Result<WatchReply, OpError> {
    let op = bench.ask(at, body);
    for _ in 0..400 {
        match bench.reply(op) {
            Some(Ok(Reply::Watch(reply))) => return Ok(*reply),
            Some(Err(error)) => return Err(error),
            Some(other) => panic!("{other:?}"),
            None => bench.pass(Duration::from_millis(10)),
        }
    }
    panic!("no answer");
}

fn next(bench: &mut Bench, at: NodeId) -> WatchReply {
    try_next(bench, at, ask(9, None)).unwrap()
}

fn begin(bench: &mut Bench, at: NodeId) -> WatchReply {
    let reply = try_next(bench, at, ask(9, Some(Bytes::new()))).unwrap();
    assert_eq!(reply.events, [WatchEvent::Began]);
    reply
}

fn write(bench: &mut Bench, at: NodeId, key: &str) {
    let op = bench.ask(at, put(key, "value"));
    assert!(matches!(bench.reply(op), Some(Ok(Reply::Put(_)))), "{key}");
}

/// All that is told until nothing has been for a second: keys of changes, and the rest.
fn drain(bench: &mut Bench, at: NodeId) -> (Vec<String>, Vec<WatchEvent>, Bytes) {
    let (mut keys, mut others) = (Vec::new(), Vec::new());
    loop {
        let reply = next(bench, at);
        if reply.events.is_empty() {
            return (keys, others, reply.token);
        }
        for event in reply.events {
            match event {
                WatchEvent::Change(change) => {
                    keys.push(String::from_utf8(change.key.as_bytes().to_vec()).unwrap());
                }
                other => others.push(other),
            }
        }
    }
}

#[test]
fn what_is_put_through_any_node_is_told_once_at_another() {
    let mut bench = Bench::serving(3);
    write(&mut bench, A, "before");
    begin(&mut bench, C);
    for number in 0..20 {
        write(&mut bench, [A, B, C][number % 3], &format!("k{number:02}"));
    }
    let (mut keys, others, _) = drain(&mut bench, C);
    keys.sort();
    assert_eq!(keys, (0..20).map(|number| format!("k{number:02}")).collect::<Vec<_>>());
    assert_eq!(others, []);
}

#[test]
fn an_owner_that_restarts_leaves_no_gap_and_two_do() {
    let mut bench = Bench::serving(3);
    begin(&mut bench, C);
    write(&mut bench, C, "k1");
    bench.stop(B);
    write(&mut bench, C, "k2");
    bench.start(B);
    bench.pass(Duration::from_secs(2));
    write(&mut bench, C, "k3");
    let (keys, others, _) = drain(&mut bench, C);
    assert_eq!((keys, others), (vec!["k1".into(), "k2".into(), "k3".into()], vec![]));
    bench.stop(A);
    bench.start(A);
    bench.pass(Duration::from_secs(5));
    let (_, others, _) = drain(&mut bench, C);
    assert!(
        matches!(&others[..], [WatchEvent::Gap { reason: GapReason::Restarted, count: 16, .. }]),
        "{others:?}"
    );
    let whole: Vec<WatchEvent> = (0..70).flat_map(|_| next(&mut bench, C).events).collect();
    assert_eq!(whole, [WatchEvent::Whole]);
    write(&mut bench, A, "k4");
    assert_eq!(drain(&mut bench, C).0, ["k4"]);
}

#[test]
fn a_token_goes_on_at_another_node_when_the_coordinator_is_gone() {
    let mut bench = Bench::serving(3);
    let began = begin(&mut bench, C);
    write(&mut bench, A, "k1");
    let (keys, _, token) = drain(&mut bench, C);
    assert_eq!(keys, ["k1"]);
    bench.stop(C);
    write(&mut bench, A, "k2");
    let first = try_next(&mut bench, A, ask(9, Some(token))).unwrap();
    let mut keys = drain(&mut bench, A);
    let told = first.events.iter().filter(|event| matches!(event, WatchEvent::Change(_))).count();
    assert_eq!((told + keys.0.len(), keys.1.len()), (1, 0), "{first:?} {keys:?}");
    // From the beginning all is told again.
    bench.event(A, Event::ScanEnded { scan: 9 });
    let again = try_next(&mut bench, A, ask(9, Some(began.token))).unwrap();
    keys = drain(&mut bench, A);
    let told = again.events.iter().filter(|event| matches!(event, WatchEvent::Change(_))).count();
    assert_eq!(told + keys.0.len(), 2, "{again:?} {keys:?}");
}

#[test]
fn notes_that_run_over_are_a_gap_when_too_many_do() {
    let mut bench = Bench::serving(3);
    bench.host(A).disk.recent = Notes::small();
    bench.host(B).disk.recent = Notes::small();
    begin(&mut bench, C);
    // The client does not read, and owners are asked no more than once.
    for number in 0..5 {
        bench.cut.extend([(C, A), (C, B)]);
        write_through_cut(&mut bench, number);
    }
    bench.cut.clear();
    bench.pass(Duration::from_secs(5));
    let (_, others, _) = drain(&mut bench, C);
    assert!(
        matches!(&others[..], [WatchEvent::Gap { reason: GapReason::Overrun, .. }]),
        "{others:?}"
    );
}

/// Thirty puts through A that its link to C does not stop.
fn write_through_cut(bench: &mut Bench, round: u32) {
    for number in 0..30 {
        write(bench, A, &format!("k{round}-{number}"));
    }
    bench.pass(Duration::from_millis(200));
}

#[test]
fn what_is_held_for_a_watch_goes_with_it_and_watches_have_a_bound() {
    let mut bench = Bench::serving(3);
    begin(&mut bench, C);
    bench.pass(Duration::from_millis(300));
    bench.seen.clear();
    bench.event(C, Event::ScanEnded { scan: 9 });
    bench.settle();
    let is_end =
        |(_, _, message): &&(NodeId, NodeId, PeerMessage)| matches!(message, PeerMessage::Watch(_));
    assert_eq!(bench.seen.iter().filter(is_end).count(), 2);
    let open = |bench: &mut Bench| bench.host(C).node.as_ref().unwrap().watches.open();
    assert_eq!(open(&mut bench), 0);
    for stream in 0..limits::WATCHES_MAX as u64 {
        bench.ask_quietly(C, ask(100 + stream, Some(Bytes::new())));
    }
    let refused = try_next(&mut bench, C, ask(99, Some(Bytes::new()))).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overloaded);
    assert!(refused.facts.retry_after.is_some());
    // One that nobody asks for a minute is over.
    bench.pass(limits::WATCH_IDLE + Duration::from_secs(2));
    assert_eq!(open(&mut bench), 0);
    let error = try_next(&mut bench, C, ask(100, None)).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotReady);
}

#[test]
fn a_token_of_another_cluster_is_refused() {
    let mut bench = Bench::serving(3);
    let token = begin(&mut bench, C).token;
    let mut other = token.to_vec();
    other[5] ^= 1;
    for token in [Bytes::from(other), token.slice(1..), "nonsense".into()] {
        let error = try_next(&mut bench, A, ask(1, Some(token))).unwrap_err();
        assert_eq!(error.code, ErrorCode::RequestMalformed);
        assert!(error.message.contains("token"), "{}", error.message);
    }
}

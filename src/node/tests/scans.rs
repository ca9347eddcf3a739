//! Scans as streams: cursors, and what happens when there is no room.

use core::time::Duration;

use super::bench::{Bench, node, put, scan};
use crate::message::CursorName;
use crate::message::{
    ClientBody, DiskRequest, ErrorCode, Event, PeerMessage, Refusal, Reply, Scan, ScanAnswer,
    ScanPart,
};
use crate::node::cursors::{Cursors, Under};
use crate::testing::arm_mutant;
use crate::types::{ClassId, Epoch, NodeId, Time, limits};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn part(stream: u64, after: &str, limit: u32) -> ClientBody {
    let ClientBody::Scan(page) = scan("k", after, limit) else { unreachable!() };
    let part = Some(ScanPart { scan: stream, first: after.is_empty() });
    ClientBody::Scan(Scan { part, ..page })
}

fn fill(bench: &mut Bench, count: u32) -> Vec<String> {
    let keys: Vec<String> = (0..count).map(|number| format!("k{number:03}")).collect();
    for key in &keys {
        let op = bench.ask(A, put(key, key));
        assert!(bench.reply(op).unwrap().is_ok());
    }
    keys
}

/// Reads a stream to its end at `at`, and returns its keys and how many pages that took.
fn read(bench: &mut Bench, at: NodeId, limit: u32) -> (Vec<String>, usize) {
    let (mut keys, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let op = bench.ask(at, part(9, &after, limit));
        let Some(Ok(Reply::Scan(page))) = bench.reply(op) else { panic!("no page") };
        pages += 1;
        let shown = page.entries.iter().map(|entry| entry.key.as_bytes().to_vec());
        keys.extend(shown.map(|key| String::from_utf8(key).unwrap()));
        let Some(resume) = page.resume else { return (keys, pages) };
        after = String::from_utf8(resume.to_vec()).unwrap();
    }
}

fn asked(bench: &Bench, of: NodeId) -> usize {
    let is_page = |(_, to, message): &&(NodeId, NodeId, PeerMessage)| {
        *to == of && matches!(message, PeerMessage::Scan(_))
    };
    bench.seen.iter().filter(is_page).count()
}

#[test]
fn a_stream_asks_no_more_members_than_it_needs_and_the_same_for_each_page() {
    let mut bench = Bench::serving(3);
    let expected = fill(&mut bench, 60);
    bench.seen.clear();
    let (keys, pages) = read(&mut bench, C, 7);
    assert_eq!(keys, expected);
    let counts = [asked(&bench, A), asked(&bench, B)];
    assert!(counts == [pages, 0] || counts == [0, pages], "{counts:?} of {pages} pages");
    // Of five, each holds three fifths.
    let mut bench = Bench::serving(5);
    let expected = fill(&mut bench, 60);
    assert_eq!(read(&mut bench, C, 7).0, expected);
}

#[test]
fn whoever_was_left_out_is_asked_when_another_has_gone() {
    let mut bench = Bench::serving(3);
    let expected = fill(&mut bench, 20);
    bench.seen.clear();
    read(&mut bench, C, 7);
    let (used, spare) = if asked(&bench, A) > 0 { (A, B) } else { (B, A) };
    let op = bench.ask_quietly(C, part(9, "", 7));
    bench.event(C, Event::Unreachable { peer: used });
    bench.settle();
    let Some(Ok(Reply::Scan(page))) = bench.reply(op) else { panic!("no page") };
    assert_eq!((page.entries.len(), asked(&bench, spare)), (7, 1));
    assert_eq!(page.entries[6].key.as_bytes(), expected[6].as_bytes());
}

#[test]
fn the_end_of_a_stream_is_told_to_those_it_has_asked() {
    let mut bench = Bench::serving(3);
    fill(&mut bench, 20);
    let op = bench.ask(C, part(9, "", 7));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.seen.clear();
    bench.event(C, Event::ScanEnded { scan: 9 });
    let is_end = |message: &PeerMessage| matches!(message, PeerMessage::ScanEnd(_));
    assert_eq!(bench.seen.iter().filter(|(_, _, message)| is_end(message)).count(), 1);
    bench.event(C, Event::ScanEnded { scan: 9 });
    assert_eq!(bench.seen.iter().filter(|(_, _, message)| is_end(message)).count(), 1);
}

#[test]
fn a_page_that_has_no_room_is_overloaded_and_says_when_to_come_again() {
    let mut bench = Bench::serving(3);
    fill(&mut bench, 20);
    let refused = |bench: &mut Bench| {
        let op = bench.ask_quietly(C, part(9, "", 7));
        let asks = bench.take_queue();
        for (_, to, message) in asks {
            let PeerMessage::Scan(ask) = message else { continue };
            let answer = ScanAnswer { round: ask.round, result: Err(Refusal::Overloaded) };
            let message = PeerMessage::ScanAnswer(Box::new(answer));
            bench.event(C, Event::Peer { from: to, message });
        }
        for (_, to, message) in bench.take_queue() {
            let PeerMessage::Scan(ask) = message else { continue };
            let answer = ScanAnswer { round: ask.round, result: Err(Refusal::Overloaded) };
            let message = PeerMessage::ScanAnswer(Box::new(answer));
            bench.event(C, Event::Peer { from: to, message });
        }
        bench.reply(op).unwrap().unwrap_err()
    };
    let error = refused(&mut bench);
    assert_eq!(error.code, ErrorCode::Overloaded, "{error}");
    assert!(error.facts.retry_after.is_some());
    let _armed = arm_mutant("scan-overload-is-no-quorum");
    assert_eq!(refused(&mut bench).code, ErrorCode::QuorumNotReached);
}

#[test]
fn pages_in_flight_are_bounded_on_a_node_and_those_beyond_are_refused_at_once() {
    let mut bench = Bench::serving(3);
    bench.host(C).slow_disk = true;
    let most = limits::SCAN_PAGES_UNDER_WAY_MAX;
    let ops: Vec<_> = (0..=most as u64).map(|n| bench.ask_quietly(C, part(n, "", 7))).collect();
    let error = bench.reply(ops[most]).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::Overloaded);
    assert!(error.facts.retry_after.is_some());
    // One whose client leaves makes room at once.
    bench.event(C, Event::Abandon { op: ops[0] });
    let op = bench.ask_quietly(C, part(99, "", 7));
    assert!(bench.reply(op).is_none());
    bench.release_disk(C);
    bench.settle();
    assert!(bench.reply(op).unwrap().is_ok());
}

fn take(cursors: &mut Cursors, scan: u64, (first, fence): (bool, u64), at: u64) -> Option<bool> {
    let name = CursorName { coordinator: B, scan };
    let under = Under { class: ClassId(0), fence: Epoch(fence) };
    let now = Time(at * 1_000_000_000);
    let (taken, _) = cursors.take((name, first), (under, 256), now);
    cursors.done(name, true);
    taken.map(|cursor| cursor.fresh)
}

#[test]
fn a_cursor_is_gone_on_with_under_the_same_fence_and_for_a_while() {
    let mut cursors = Cursors::default();
    assert_eq!(take(&mut cursors, 1, (true, 4), 0), Some(true));
    assert_eq!(take(&mut cursors, 1, (false, 4), 1), Some(false));
    assert_eq!(take(&mut cursors, 1, (false, 5), 2), Some(true), "the owners have changed");
    assert_eq!(take(&mut cursors, 1, (true, 5), 3), Some(true), "it is another scan");
    let age = limits::SCAN_CURSOR_AGE_MAX.as_secs();
    assert_eq!(take(&mut cursors, 1, (false, 5), age + 2), Some(false));
    assert_eq!(take(&mut cursors, 1, (false, 5), age + 3), Some(true), "it is too old");
    assert_eq!(take(&mut cursors, 2, (false, 5), 4), Some(true), "there was none");
    let _armed = arm_mutant("cursor-survives-fence");
    assert_eq!(take(&mut cursors, 1, (false, 6), age + 4), Some(false));
}

#[test]
fn cursors_are_bounded_and_the_one_used_longest_ago_goes() {
    let mut cursors = Cursors::default();
    let fits = limits::SCAN_CURSORS_BYTES_MAX / (256 * limits::SCAN_CURSOR_UNIT_BYTES);
    for scan in 0..=fits as u64 {
        assert_eq!(take(&mut cursors, scan, (true, 1), scan), Some(true));
    }
    assert_eq!(take(&mut cursors, 1, (false, 1), 900), Some(true), "too old by then");
    assert_eq!(take(&mut cursors, fits as u64, (false, 1), fits as u64), Some(false));
    assert_eq!(take(&mut cursors, 0, (false, 1), 40), Some(true), "it had gone");
}

#[test]
fn an_idle_cursor_is_closed() {
    let mut bench = Bench::serving(3);
    fill(&mut bench, 20);
    let op = bench.ask(C, part(9, "", 7));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.host(C).slow_disk = true;
    let ends = |bench: &mut Bench| {
        bench.host(C).waits_for(|request| matches!(request, DiskRequest::EndCursors(_)))
    };
    bench.pass(Duration::from_secs(20));
    assert_eq!(ends(&mut bench), 0);
    bench.pass(Duration::from_secs(20));
    assert_eq!(ends(&mut bench), 1);
    let _ = node(1);
}

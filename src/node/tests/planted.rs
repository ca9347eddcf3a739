//! Planted bugs that random runs may miss: each is put into the one situation that shows it.

use core::time::Duration;

use super::bench::{Bench, get, put};
use crate::message::{Event, MetaRecord, PeerMessage, Phase, Reply};
use crate::testing::arm_mutant;
use crate::types::NodeId;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Whether a put is acknowledged by an owner that was out of reach and then answered.
fn late_answer_counts() -> bool {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(A, B), (A, C)]);
    let op = bench.ask(A, put("k", "v"));
    bench.event(A, Event::Unreachable { peer: B });
    bench.cut.remove(&(A, B));
    bench.pass(ms(900));
    matches!(bench.reply(op), Some(Ok(_)))
}

#[test]
fn a_success_after_a_failure_counts() {
    assert!(late_answer_counts());
    let _armed = arm_mutant("late-answer-lost");
    assert!(!late_answer_counts());
}

/// Whether an answer to a read of the boot before makes a read of this boot miss an acknowledged
/// write.
fn answer_of_the_boot_before_hides_a_write() -> bool {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(B, A), (C, A)]);
    bench.seen.clear();
    bench.ask(A, get("k", None));
    let answer = bench.seen.iter().find_map(|(from, to, message)| {
        let is_answer = *to == A && matches!(message, PeerMessage::ReadAnswer(_));
        is_answer.then(|| (*from, message.clone()))
    });
    let (from, message) = answer.expect("one other owner was asked and has answered");
    bench.stop(A);
    bench.cut.clear();
    let write = bench.ask(B, put("k", "v"));
    assert!(bench.reply(write).unwrap().is_ok());
    bench.pass(ms(1100));
    // What it missed must not come home by a hint.
    bench.host(B).disk.hints.clear();
    bench.start(A);
    bench.pass(ms(2000));
    assert_eq!(bench.phase(A), Phase::Serving);
    bench.cut.extend([(B, A), (C, A)]);
    let read = bench.ask(A, get("k", None));
    bench.event(A, Event::Peer { from, message });
    match bench.reply(read) {
        Some(Ok(Reply::Get(reply))) => reply.record.is_none(),
        None => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_from_before_a_restart_belongs_to_no_operation() {
    assert!(!answer_of_the_boot_before_hides_a_write());
    let _armed = arm_mutant("operations-from-one");
    assert!(answer_of_the_boot_before_hides_a_write());
}

/// Whether a founder tells a pledge that a crash would make it forget.
fn tells_a_pledge_its_disk_does_not_hold() -> bool {
    let mut bench = Bench::new(3);
    for id in [A, B, C] {
        bench.start(id);
    }
    bench.host(A).slow_disk = true;
    bench.pass(ms(2000));
    let is_pledge = |record: &MetaRecord| matches!(record, MetaRecord::Pledge(_));
    assert!(!bench.host(A).disk.meta.iter().any(is_pledge));
    let told = bench.seen.iter().any(|(from, _, message)| {
        let pledged = matches!(message, PeerMessage::Birth(news) if news.pledge.is_some());
        *from == A && pledged
    });
    assert_eq!(told, bench.phase(B) == Phase::Serving, "the others found when all have pledged");
    told
}

#[test]
fn no_pledge_is_told_before_it_is_durable() {
    assert!(!tells_a_pledge_its_disk_does_not_hold());
    let _armed = arm_mutant("pledge-not-durable");
    assert!(tells_a_pledge_its_disk_does_not_hold());
}

/// Whether a member serves though nobody but itself has noted its boot.
fn serves_alone() -> bool {
    let mut bench = Bench::serving(3);
    for id in [A, B, C] {
        bench.stop(id);
    }
    bench.start(A);
    bench.pass(ms(2000));
    bench.phase(A) == Phase::Serving
}

#[test]
fn a_minority_of_the_council_does_not_let_a_boot_serve() {
    assert!(!serves_alone());
    let _armed = arm_mutant("register-minority");
    assert!(serves_alone());
}

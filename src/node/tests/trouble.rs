//! Disks that refuse, replicas that are overloaded, operations that are given up.

use core::time::Duration;

use super::bench::{Bench, get, put, put_with};
use crate::message::{
    Applied, Attempt, DiskError, Effect, ErrorCode, Event, Level, LifeAnswer, LifeRecord,
    MetaRecord, PeerMessage, Phase, Reply, Restored,
};
use crate::node::Node;
use crate::types::{NodeId, Now, Quorum};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn a_put_whose_clock_ceiling_cannot_be_stored_fails_at_once_and_the_disk_is_not_hammered() {
    let mut bench = Bench::serving(3);
    bench.host(A).refusals_left = 100;
    let op = bench.ask(A, put("k", "v"));
    let error = bench.reply(op).expect("answered at once").unwrap_err();
    assert_eq!((error.code, error.applied), (ErrorCode::StorageReadOnly, Applied::No));
    assert!(bench.host(A).refusals_left >= 98, "asked {} times", 100 - bench.host(A).refusals_left);
    bench.host(A).refusals_left = 0;
    let op = bench.ask(A, put("k", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
}

#[test]
fn a_put_on_a_slow_disk_is_not_refused_by_asking_that_disk_again() {
    let mut bench = Bench::new(1);
    bench.config(A).replica_operations_max = 1;
    bench.start(A);
    bench.pass(ms(2000));
    let op = bench.ask(A, put("warm", "the ceiling is raised"));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.host(A).slow_disk = true;
    let op = bench.ask(A, put("k", "v"));
    bench.pass(ms(600));
    assert!(bench.reply(op).is_none());
    bench.release_disk(A);
    assert!(bench.reply(op).unwrap().is_ok());
}

#[test]
fn a_node_whose_clock_is_far_ahead_does_not_tell_its_time_to_readers() {
    let mut bench = Bench::serving(3);
    bench.pass(ms(1000));
    bench.host(A).wall_offset_ms = 10_000;
    let now = bench.wall(B);
    let op = bench.ask(A, get("k", None));
    let Some(Ok(Reply::Get(reply))) = bench.reply(op) else { panic!() };
    assert!(reply.receipt.server_time <= now.plus(ms(500)), "{:?}", reply.receipt);
}

#[test]
fn a_store_that_is_busy_when_the_node_starts_is_asked_again_and_a_broken_one_is_not() {
    let start = |refusal: DiskError| {
        let mut bench = Bench::serving(3);
        bench.stop(A);
        bench.host(A).refusals_left = 3;
        bench.host(A).refuses = |record| matches!(record, MetaRecord::Boot(_));
        bench.host(A).refusal = refusal;
        bench.start(A);
        bench.pass(ms(3000));
        (bench.phase(A), bench.host(A).refusals_left)
    };
    assert_eq!(start(DiskError::Overloaded), (Phase::Serving, 0));
    let (phase, left) = start(DiskError::ReadOnly("a test".to_owned()));
    assert!(matches!(phase, Phase::Refused(_)) && left == 2, "{phase:?} {left}");
    let _armed = crate::testing::arm_mutant("overloaded-store-refuses");
    assert!(matches!(start(DiskError::Overloaded).0, Phase::Refused(_)));
}

#[test]
fn a_founding_whose_state_could_not_be_stored_is_tried_again() {
    let mut bench = Bench::new(1);
    bench.host(A).refusals_left = 1;
    bench.host(A).refuses = |record| matches!(record, MetaRecord::State(_));
    bench.start(A);
    bench.pass(ms(3000));
    assert_eq!(bench.host(A).refusals_left, 0);
    assert_eq!(bench.phase(A), Phase::Serving);
}

#[test]
fn a_read_that_hedges_at_once_still_ends() {
    let mut bench = Bench::new(3);
    bench.config(A).hedge_after = Duration::ZERO;
    for id in [A, B, C] {
        bench.start(id);
    }
    bench.pass(ms(2000));
    bench.cut.extend([(A, B), (A, C)]);
    let op = bench.ask(A, get("k", None));
    bench.pass(ms(1100));
    assert_eq!(bench.reply(op).unwrap().unwrap_err().code, ErrorCode::DeadlineExceeded);
}

#[test]
fn values_that_reads_hold_count_against_the_bytes_in_flight() {
    let mut bench = Bench::serving(3);
    let op = bench.ask(A, put("k", &"v".repeat(100_000)));
    assert!(bench.reply(op).unwrap().is_ok());
    let gauges = |bench: &mut Bench| bench.host(A).node.as_ref().unwrap().gauges();
    assert_eq!(gauges(&mut bench).operation_bytes, 0);
    for id in [B, C] {
        bench.host(id).slow_disk = true;
    }
    let op = bench.ask(A, get("k", None));
    assert!(bench.reply(op).is_none());
    assert!(gauges(&mut bench).operation_bytes > 100_000);
    for id in [B, C] {
        bench.release_disk(id);
    }
    bench.settle();
    assert!(bench.reply(op).unwrap().is_ok());
    bench.pass(ms(1100));
    assert_eq!(gauges(&mut bench).operation_bytes, 0);
}

#[test]
fn an_operation_that_was_given_up_is_not_answered_and_leaves_nothing_behind() {
    let mut bench = Bench::serving(3);
    bench.cut.extend([(A, B), (A, C)]);
    let given_up = bench.ask(A, put("k", "v"));
    let kept = bench.ask(A, put("l", "v"));
    bench.event(A, Event::Abandon { op: given_up });
    bench.event(A, Event::Abandon { op: given_up });
    bench.pass(ms(1100));
    assert!(bench.reply(given_up).is_none());
    assert!(bench.reply(kept).is_some());
    let gauges = bench.host(A).node.as_ref().unwrap().gauges();
    assert_eq!((gauges.operations, gauges.lingering, gauges.operation_bytes), (0, 0, 0));
}

#[test]
fn a_put_refused_when_asked_again_may_have_been_taken_when_asked_first() {
    let mut bench = Bench::new(3);
    bench.config(A).replica_operations_max = 0;
    bench.config(B).replica_operations_max = 1;
    for id in [A, B, C] {
        bench.start(id);
    }
    bench.pass(ms(2000));
    let warm = bench.ask(A, put("warm", "the ceiling is raised"));
    assert!(bench.reply(warm).unwrap().is_ok());
    bench.stop(C);
    bench.event(A, Event::Unreachable { peer: C });
    bench.host(B).slow_disk = true;
    let (w, attempt) = (Some(Quorum::One), Attempt::default());
    let op = bench.ask(A, put_with("k", "v", w, attempt));
    assert!(bench.reply(op).is_none(), "B has been asked and has not answered");
    // B's disk holds the version; asked again, B is overloaded, and nobody else is left.
    bench.pass(ms(300));
    let error = bench.reply(op).expect("impossible by now").unwrap_err();
    assert_eq!(error.applied, Applied::Unknown);
    bench.release_disk(B);
    assert_eq!(bench.host(B).disk.data.len(), 2);
}

#[test]
fn a_table_that_cannot_be_read_is_told_and_the_node_goes_on() {
    let config = Bench::new(1).config(A).clone();
    let restored = Restored { unreadable: vec!["000004.sst".to_owned()], ..Restored::default() };
    let mut node = Node::new(Now::default(), config, restored, 1);
    let effects: Vec<Effect> = core::iter::from_fn(|| node.poll_effect()).collect();
    let told = |effect: &Effect| matches!(effect, Effect::Note(note) if note.level == Level::Error && note.message.contains("000004.sst"));
    assert!(effects.iter().any(told), "{effects:?}");
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Disk { .. })),
        "it begins its boot"
    );
}

#[test]
fn a_serving_node_that_is_refused_late_gives_up_what_it_was_doing() {
    let mut bench = Bench::serving(3);
    let warm = bench.ask(A, put("warm", "the ceiling is raised"));
    assert!(bench.reply(warm).unwrap().is_ok());
    bench.cut.extend([(A, B), (A, C)]);
    let (write, read) = (bench.ask(A, put("k", "v")), bench.ask(A, get("k", None)));
    assert!(bench.reply(write).is_none() && bench.reply(read).is_none());
    let boot = bench.host(A).view.clone().unwrap().hello.boot;
    let seen = LifeRecord { boot, ..LifeRecord::default() };
    let message = PeerMessage::Registered { boot, answer: LifeAnswer::Refused { seen } };
    bench.event(A, Event::Peer { from: B, message });
    assert!(matches!(bench.phase(A), Phase::Refused(_)));
    for (op, applied) in [(write, Applied::Unknown), (read, Applied::No)] {
        let error = bench.reply(op).expect("answered at once").unwrap_err();
        assert_eq!((error.code, error.applied), (ErrorCode::NotReady, applied));
    }
}

/// What a put says that the disk of the only owner refuses with this.
fn put_refused_with(error: &DiskError) -> (ErrorCode, Applied) {
    let mut bench = Bench::serving(1);
    bench.host(A).writes_refused = Some(error.clone());
    let op = bench.ask(A, put("k", "v"));
    let error = bench.reply(op).expect("answered").unwrap_err();
    (error.code, error.applied)
}

/// Seed 60297230995: a read had shown the value of a write that said it had not been made.
#[test]
fn a_put_that_a_full_disk_took_back_does_not_say_that_nobody_has_seen_it() {
    assert_eq!(put_refused_with(&DiskError::Full), (ErrorCode::DiskFull, Applied::No));
    let taken_back = (ErrorCode::DiskFull, Applied::Unknown);
    assert_eq!(put_refused_with(&DiskError::TakenBack), taken_back);
    let _armed = crate::testing::arm_mutant("taken-back-leaves-no-trace");
    assert_eq!(put_refused_with(&DiskError::TakenBack), (ErrorCode::DiskFull, Applied::No));
}

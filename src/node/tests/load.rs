//! What a node keeps of its load.

use core::time::Duration;

use std::sync::Arc;

use super::bench::{Bench, put};
use crate::handoff::Braking;
use crate::message::{Event, HourRecord, MetaRecord};
use crate::types::{NodeId, Plan, PlanStatus, Time};

const A: NodeId = NodeId(1);
const HOUR_MS: i64 = 3_600_000;

fn kept(bench: &mut Bench) -> Vec<HourRecord> {
    let meta = bench.host(A).disk.meta.clone();
    let hour = |record| match record {
        MetaRecord::Hour(hour) => Some(hour),
        _ => None,
    };
    meta.into_iter().filter_map(hour).collect()
}

fn hours(bench: &mut Bench) -> u32 {
    let node = bench.host(A).node.as_ref().unwrap();
    node.load.told().map_or(0, |load| load.hours)
}

#[test]
fn hours_are_kept_when_they_are_over_and_when_the_node_stops_and_are_there_again() {
    let mut bench = Bench::new(1);
    bench.config(A).sample_interval = Duration::from_secs(1);
    bench.start(A);
    bench.pass(Duration::from_secs(4));
    for number in 0..30 {
        let op = bench.ask(A, put(&format!("k{number}"), "v"));
        assert!(bench.reply(op).unwrap().is_ok());
    }
    bench.event(A, Event::Process { cpu: Duration::from_secs(1), cores: 2 });
    bench.pass(Duration::from_secs(5));
    bench.event(A, Event::Process { cpu: Duration::from_secs(3), cores: 2 });
    bench.pass(Duration::from_secs(5));
    assert_eq!(kept(&mut bench), [], "the hour is not over");
    bench.host(A).wall_offset_ms += HOUR_MS;
    bench.pass(Duration::from_secs(3));
    let over = kept(&mut bench);
    assert_eq!(over.len(), 1, "once an hour");
    let first = over[0];
    assert!(first.samples >= 4 && first.active == 1 && first.ops_peak > 0, "{first:?}");
    // Two of ten seconds of a core.
    assert!((190..=210).contains(&first.cpu_peak), "{first:?}");
    bench.event(A, Event::Drain);
    let all = kept(&mut bench);
    assert_eq!((all.len(), all[1].hour), (2, first.hour + 1));
    bench.stop(A);
    bench.start(A);
    bench.pass(Duration::from_secs(3));
    assert_eq!(hours(&mut bench), 2);
}

#[test]
fn who_does_not_look_keeps_and_tells_nothing() {
    let mut bench = Bench::new(1);
    bench.start(A);
    bench.pass(Duration::from_secs(4));
    bench.event(A, Event::Drain);
    assert_eq!((kept(&mut bench).len(), hours(&mut bench)), (0, 0));
}

/// What each node proposes.
fn proposed(bench: &mut Bench) -> Vec<Option<&'static str>> {
    let of = |id| {
        let told = bench.host(NodeId(id)).node.as_ref().unwrap().growth_told().unwrap();
        told.proposal.map(|it| it.kind)
    };
    (1..=3).map(of).collect()
}

#[test]
fn what_is_put_aside_at_one_node_is_proposed_by_none_also_after_a_restart() {
    let mut bench = Bench::new(3);
    for id in (1..=3).map(NodeId) {
        let config = bench.config(id);
        (config.sample_interval, config.grow_after) = (Duration::from_secs(1), Duration::ZERO);
        (config.history_min, config.grow_operations) = (Duration::ZERO, 1);
        bench.start(id);
    }
    bench.pass(Duration::from_secs(4));
    for number in 0..60 {
        let op = bench.ask(NodeId(1 + number % 3), put(&format!("k{number}"), "v"));
        assert!(bench.reply(op).unwrap().is_ok());
    }
    bench.pass(Duration::from_secs(6));
    assert_eq!(proposed(&mut bench), [Some("grow"); 3]);
    let now = bench.now(A);
    let node = bench.host(A).node.as_mut().unwrap();
    assert!(node.dismiss(now, 7).is_err(), "another hash");
    node.dismiss(now, 0).unwrap();
    bench.pass(Duration::from_secs(6));
    assert_eq!(proposed(&mut bench), [None; 3]);
    // Whoever has heard of it remembers it.
    for id in (1..=3).map(NodeId) {
        bench.stop(id);
    }
    (1..=3).for_each(|id| bench.start(NodeId(id)));
    bench.pass(Duration::from_secs(8));
    assert_eq!(proposed(&mut bench), [None; 3]);
    let node = bench.host(NodeId(2)).node.as_ref().unwrap();
    assert!(node.load.told().unwrap().proposals.dismissed[0].0 > 0);
}

/// Sixteen seconds in which node A answers a hundred requests each, and something is copied or not; how copies may go
/// at their end.
fn busy(bench: &mut Bench, from: u64, took: Duration, copies: bool) -> Braking {
    let mut now = bench.now(A);
    let node = bench.host(A).node.as_mut().unwrap();
    let mut pace = Braking::Free;
    for step in 0..1600 {
        now.mono = Time(1_000_000_000 * from + step * 10_000_000);
        node.load.note(now.mono, took);
        if copies {
            pace = node.copy_pace(now);
        }
    }
    pace
}

#[test]
fn copies_of_a_plan_stop_for_users_and_those_that_bring_copies_back_do_not() {
    let mut bench = Bench::new(3);
    bench.config(A).sample_interval = Duration::from_secs(1);
    (1..=3).for_each(|id| bench.start(NodeId(id)));
    bench.pass(Duration::from_secs(4));
    let (fast, slow) = (Duration::from_millis(4), Duration::from_millis(12));
    busy(&mut bench, 100, fast, false);
    assert_eq!(busy(&mut bench, 116, slow, true), Braking::Free, "no plan is carried out");
    busy(&mut bench, 150, fast, false);
    busy(&mut bench, 166, fast, false);
    let node = bench.host(A).node.as_mut().unwrap();
    let mut state = (**node.state.as_ref().unwrap()).clone();
    state.topology.plan = Some(Plan {
        hash: 1,
        since: state.epoch,
        status: PlanStatus::Running,
        ring: state.ring.clone(),
        total: 0,
        queue: Vec::new(),
        begun: Vec::new(),
        before: Vec::new(),
        ring_before: state.ring.clone(),
    });
    node.state = Some(Arc::new(state));
    assert_eq!(busy(&mut bench, 182, slow, true), Braking::Stopped);
    let told = bench.host(A).node.as_ref().unwrap().load.told().unwrap();
    assert!(told.paused);
    bench.event(A, Event::Unreachable { peer: NodeId(3) });
    assert_eq!(busy(&mut bench, 198, slow, true), Braking::Free);
    assert!(!bench.host(A).node.as_ref().unwrap().load.told().unwrap().paused);
}

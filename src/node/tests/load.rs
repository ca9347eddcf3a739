//! What a node keeps of its load.

use core::time::Duration;

use super::bench::{Bench, put};
use crate::message::{Event, HourRecord, MetaRecord};
use crate::types::NodeId;

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

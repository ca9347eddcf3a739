//! Everything on disk is read once a period, in pieces, and at once when an operator asks.

use core::time::Duration;

use super::bench::{Bench, node};
use crate::message::{AdminRequest, MetaRecord, Reply, ScrubReply, ScrubRequest};
use crate::testing::arm_mutant;
use crate::types::NodeId;

const A: NodeId = NodeId(1);

fn serving(period: u64) -> Bench {
    let mut bench = Bench::new(3);
    for id in (1..=3).map(node) {
        bench.config(id).scrub_period = Duration::from_secs(period);
        bench.config(id).scrub_rate = 1 << 20;
        bench.start(id);
    }
    bench.pass(Duration::from_secs(5));
    bench
}

fn scrub(bench: &mut Bench, request: ScrubRequest) -> ScrubReply {
    match bench.admin(A, AdminRequest::Scrub(request)) {
        Ok(Reply::Scrub(reply)) => *reply,
        other => panic!("{other:?}"),
    }
}

fn pieces(bench: &mut Bench) -> usize {
    bench.host(A).disk.bad.scrubs.len()
}

#[test]
fn a_pass_is_spread_and_the_next_one_begins_in_time() {
    let mut bench = serving(400);
    bench.pass(Duration::from_secs(20));
    let first = pieces(&mut bench);
    assert!((1..5).contains(&first), "{first}");
    bench.pass(Duration::from_secs(120));
    assert_eq!(pieces(&mut bench), 10);
    let status = scrub(&mut bench, ScrubRequest::Status);
    assert!(!status.running && status.ended.is_some() && status.found == 0, "{status:?}");
    bench.pass(Duration::from_secs(250));
    assert!(pieces(&mut bench) > 10, "a period has not passed since it began");
}

#[test]
fn one_that_reads_without_a_pause_is_noticed() {
    let _armed = arm_mutant("scrub-unspread");
    let mut bench = serving(400);
    bench.pass(Duration::from_secs(20));
    assert!(pieces(&mut bench) >= 5);
}

#[test]
fn an_operator_can_have_it_done_at_the_rate_that_is_allowed() {
    let mut bench = serving(0);
    bench.pass(Duration::from_secs(60));
    assert_eq!(pieces(&mut bench), 0, "it is off");
    let begun = scrub(&mut bench, ScrubRequest::Start);
    assert!(begun.running, "{begun:?}");
    bench.pass(Duration::from_secs(5));
    let half = scrub(&mut bench, ScrubRequest::Status);
    assert!(half.running && half.total_bytes == 10 << 20, "{half:?}");
    assert!((4 << 20..8 << 20).contains(&half.done_bytes), "{half:?}");
    let left = half.left.unwrap();
    assert!((2..8).contains(&left.as_secs()), "{left:?}");
    bench.pass(Duration::from_secs(8));
    assert!(!scrub(&mut bench, ScrubRequest::Status).running);
    assert_eq!(pieces(&mut bench), 10);
}

#[test]
fn it_goes_on_where_it_was_after_a_restart() {
    let mut bench = serving(400);
    bench.pass(Duration::from_secs(140));
    let is_scrub = |record: &&MetaRecord| matches!(record, MetaRecord::Scrub(_));
    let last = bench.host(A).disk.meta.iter().rev().find(is_scrub).cloned();
    bench.stop(A);
    bench.start(A);
    bench.pass(Duration::from_secs(20));
    let again = bench.host(A).disk.meta.iter().rev().find(is_scrub).cloned();
    assert_eq!(last, again, "the pass had ended");
}

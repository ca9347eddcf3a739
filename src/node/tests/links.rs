//! Owners that fail or stand still leave the read path at once, and return by trial.

use core::time::Duration;

use super::bench::{Bench, get_in, put, put_in, scan};
use super::causal::carts;
use super::register::create_jobs;
use crate::message::{AdminRequest, CausalMessage, ErrorCode, PeerMessage, Reply, Unwell};
use crate::testing::arm_mutant;
use crate::types::NodeId;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

/// Virtual time between two reads.
const TICK_MS: usize = 10;

fn ticks(count: usize) -> Duration {
    Duration::from_millis((count * TICK_MS) as u64)
}

/// What reads through A saw, one a tick, over keys of which A reads some from B.
#[derive(Default)]
struct Seen {
    /// How long each took, in ticks.
    took: Vec<usize>,
    /// The ticks in which B was asked.
    asked: Vec<usize>,
    failed: usize,
}

impl Seen {
    fn percentile(&self, percent: usize) -> usize {
        let mut took = self.took.clone();
        took.sort_unstable();
        took[took.len() * percent / 100]
    }

    fn asked_in(&self, ticks: core::ops::Range<usize>) -> usize {
        self.asked.iter().filter(|tick| ticks.contains(tick)).count()
    }
}

fn reads(bench: &mut Bench, table: &str, count: usize) -> Seen {
    let (mut seen, mut open) = (Seen::default(), Vec::new());
    for tick in 0..count + 110 {
        bench.seen.clear();
        if tick < count {
            open.push((bench.ask(A, get_in(table, &format!("k{}", tick % 16))), tick));
        }
        open.retain(|(op, begun)| match bench.reply(*op) {
            None => true,
            Some(result) => {
                seen.took.push(tick - begun);
                seen.failed += usize::from(result.is_err());
                false
            }
        });
        bench.pass(ticks(1));
        let to_b = bench
            .seen
            .iter()
            .filter(|(from, to, message)| *from == A && *to == B && is_read(message));
        seen.asked.extend(to_b.map(|_| tick));
    }
    assert!(open.is_empty() && seen.took.len() == count, "a read was not answered");
    seen
}

fn is_read(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Read(_) => true,
        PeerMessage::Causal(message) => matches!(**message, CausalMessage::Read { .. }),
        _ => false,
    }
}

/// Whether reads of a table go on as if nothing were while the disk of B stands still, but for the
/// first 300 ms of it, and ask B no more.
fn a_stalled_owner_is_left_out(mut bench: Bench, table: &str) -> bool {
    let before = reads(&mut bench, table, 600);
    assert!(before.asked.len() > 100, "B was asked {} times", before.asked.len());
    assert_eq!(before.took.iter().max(), Some(&0));
    bench.host(B).slow_disk = true;
    let during = reads(&mut bench, table, 400);
    assert_eq!(during.failed, 0);
    // One trial in each 250 ms, which nobody waits for.
    let (early, later) = (during.asked_in(0..40), during.asked_in(40..400));
    let left_out = (1..=15).contains(&later) && during.took[100..].iter().all(|took| *took == 0);
    left_out && early <= 40 && during.percentile(99) <= 3
}

/// Whether B is read from again within a second of coming back.
fn an_owner_that_recovers_is_let_back(mut bench: Bench, table: &str) -> bool {
    bench.host(B).slow_disk = true;
    reads(&mut bench, table, 100);
    bench.release_disk(B);
    let after = reads(&mut bench, table, 400);
    assert_eq!((after.failed, after.took.iter().max()), (0, Some(&0)));
    after.asked_in(100..400) > 100
}

#[test]
fn a_stalled_replica_leaves_the_read_path_within_a_second() {
    assert!(a_stalled_owner_is_left_out(Bench::serving(3), "default"));
    assert!(a_stalled_owner_is_left_out(carts(3), "carts"));
    for mutant in ["link-stall-unseen", "unwell-still-asked"] {
        let _armed = arm_mutant(mutant);
        assert!(!a_stalled_owner_is_left_out(Bench::serving(3), "default"), "{mutant}");
    }
}

#[test]
fn a_replica_that_recovers_is_let_back_by_trial() {
    assert!(an_owner_that_recovers_is_let_back(Bench::serving(3), "default"));
    assert!(an_owner_that_recovers_is_let_back(carts(3), "carts"));
    let _armed = arm_mutant("link-never-tried");
    assert!(!an_owner_that_recovers_is_let_back(Bench::serving(3), "default"));
}

#[test]
fn a_replica_that_refuses_reads_is_left_out_after_three_and_writes_go_on_to_ask_it() {
    let mut bench = Bench::new(3);
    bench.config(B).replica_operations_max = 0;
    for id in [A, B, C] {
        bench.start(id);
    }
    bench.pass(Duration::from_secs(2));
    let seen = reads(&mut bench, "default", 300);
    assert_eq!((seen.failed, seen.took.iter().max()), (0, Some(&0)));
    let (early, later) = (seen.asked_in(0..20), seen.asked_in(20..300));
    assert!(early >= 3 && later <= 14, "{early} and {later}");
    let told = bench.host(A).view.clone().unwrap();
    let left_out = |id| told.members.iter().find(|member| member.id == id).unwrap().left_out;
    assert!(left_out(B).is_some() && left_out(C).is_none());
    assert_eq!(told.links_left_out, 1);
    bench.seen.clear();
    let op = bench.ask(A, put("k1", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
    let asked = bench.seen.iter().any(|(from, to, message)| {
        *from == A && *to == B && matches!(message, PeerMessage::Write(_))
    });
    assert!(asked);
}

/// Who leaves B out, by the status of a node.
fn who_leaves_b_out(bench: &mut Bench, at: NodeId) -> Vec<(String, Unwell, Duration)> {
    let Ok(Reply::Status(status)) = bench.admin(at, AdminRequest::Status) else { panic!() };
    let node = status.nodes.into_iter().find(|node| node.id == B).unwrap();
    node.unwell.into_iter().map(|link| (link.by.to_string(), link.why, link.age)).collect()
}

#[test]
fn every_node_can_say_who_leaves_whom_out_why_and_since_when() {
    let mut bench = Bench::serving(3);
    bench.host(B).slow_disk = true;
    reads(&mut bench, "default", 100);
    bench.pass(Duration::from_secs(1));
    for at in [A, C] {
        let told = who_leaves_b_out(&mut bench, at);
        let [(by, Unwell::Stalled, age)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(by, "n1", "C has asked it nothing");
        assert!((1000..4000).contains(&age.as_millis()), "{age:?}");
    }
    // What a node has said that is down now is not repeated.
    bench.stop(A);
    bench.pass(Duration::from_secs(20));
    assert!(who_leaves_b_out(&mut bench, C).is_empty());
}

#[test]
fn with_too_few_well_replicas_the_others_are_asked_all_the_same() {
    let mut bench = Bench::serving(3);
    for id in [B, C] {
        bench.host(id).slow_disk = true;
    }
    let op = bench.ask(A, get_in("default", "k1"));
    bench.pass(Duration::from_millis(1100));
    assert_eq!(bench.reply(op).unwrap().unwrap_err().code, ErrorCode::DeadlineExceeded);
    for id in [B, C] {
        bench.release_disk(id);
    }
    // Both are held to be unwell yet, and a read needs one of them.
    let op = bench.ask(A, get_in("default", "k1"));
    assert!(bench.reply(op).unwrap().is_ok());
}

/// Requests of a linearizable table through A, one a tick: how many ticks the slowest took.
fn register_traffic(bench: &mut Bench, count: usize, writes: bool) -> usize {
    let (mut slowest, mut open) = (0, Vec::new());
    for tick in 0..count + 110 {
        if tick < count {
            let key = format!("k{}", tick % 16);
            let body = if writes { put_in("jobs", &key, "v") } else { get_in("jobs", &key) };
            open.push((bench.ask(A, body), tick));
        }
        open.retain(|(op, begun)| match bench.reply(*op) {
            None => true,
            Some(result) => {
                assert!(result.is_ok(), "{result:?}");
                slowest = slowest.max(tick - begun);
                false
            }
        });
        if tick >= count && open.is_empty() {
            break;
        }
        bench.pass(ticks(1));
    }
    assert!(open.is_empty(), "{} are not answered", open.len());
    slowest
}

fn is_left_out(bench: &mut Bench, id: NodeId) -> bool {
    let told = bench.host(A).view.clone().unwrap();
    told.members.iter().any(|member| member.id == id && member.left_out.is_some())
}

/// Whether other reads know from the traffic of a linearizable table that the disk of B stands still,
/// and that it does not any more.
fn registers_tell_of_a_stalled_owner(writes: bool) -> bool {
    let mut bench = Bench::serving(3);
    create_jobs(&mut bench);
    bench.host(B).slow_disk = true;
    let slowest = register_traffic(&mut bench, 60, writes);
    assert_eq!(slowest, 0, "a majority of the others has answered");
    if !is_left_out(&mut bench, B) {
        return false;
    }
    let seen = reads(&mut bench, "default", 20);
    assert_eq!((seen.failed, seen.took.iter().max()), (0, Some(&0)));
    assert!(seen.asked.len() <= 2, "asked in {:?}", seen.asked);
    bench.release_disk(B);
    assert_eq!(register_traffic(&mut bench, 60, writes), 0);
    assert!(!is_left_out(&mut bench, B), "it has answered in time since");
    true
}

#[test]
fn a_linearizable_table_waits_for_no_stalled_owner_and_reads_hear_of_it() {
    for writes in [false, true] {
        assert!(registers_tell_of_a_stalled_owner(writes), "writes: {writes}");
    }
    let _armed = arm_mutant("link-registers-unheard");
    for writes in [false, true] {
        assert!(!registers_tell_of_a_stalled_owner(writes), "writes: {writes}");
    }
}

#[test]
fn an_owner_that_refuses_rounds_of_registers_is_left_out_of_reads() {
    for writes in [false, true] {
        let mut bench = Bench::new(3);
        bench.config(B).replica_operations_max = 0;
        for id in [A, B, C] {
            bench.start(id);
        }
        bench.pass(Duration::from_secs(2));
        create_jobs(&mut bench);
        assert_eq!(register_traffic(&mut bench, 5, writes), 0);
        assert!(is_left_out(&mut bench, B) && !is_left_out(&mut bench, C));
    }
}

#[test]
fn a_scan_waits_for_no_member_whose_units_enough_others_have_answered_for() {
    for count in [3, 5] {
        let mut bench = Bench::serving(count);
        for key in ["a", "b", "c", "d", "e"] {
            let op = bench.ask(A, put(key, "v"));
            assert!(bench.reply(op).unwrap().is_ok());
        }
        bench.host(B).slow_disk = true;
        let op = bench.ask(A, scan("", "", 100));
        let Some(Ok(Reply::Scan(page))) = bench.reply(op) else { panic!("it waits") };
        assert_eq!(page.entries.len(), 5);
    }
}

//! Founding and lives.

use core::time::Duration;

use super::bench::{Bench, get, node, put};
use crate::message::{ErrorCode, MetaRecord, PeerMessage, Phase};

const A: crate::types::NodeId = crate::types::NodeId(1);
const B: crate::types::NodeId = crate::types::NodeId(2);
const C: crate::types::NodeId = crate::types::NodeId(3);

fn second() -> Duration {
    Duration::from_secs(1)
}

#[test]
fn founders_start_in_any_order_and_make_one_cluster() {
    let mut bench = Bench::new(3);
    bench.start(C);
    bench.pass(second());
    assert!(matches!(bench.phase(C), Phase::Founding(_)));
    bench.start(A);
    bench.pass(second());
    bench.start(B);
    bench.pass(2 * second());
    let state = |bench: &mut Bench, id| bench.host(id).view.clone().unwrap().state.clone().unwrap();
    let first = state(&mut bench, A);
    for id in [A, B, C] {
        assert_eq!(bench.phase(id), Phase::Serving);
        assert_eq!(state(&mut bench, id), first);
    }
}

#[test]
fn a_founder_stopped_at_any_moment_of_the_founding_comes_back_into_it() {
    for stop_after in 0..40 {
        let mut bench = Bench::new(3);
        bench.start(A);
        bench.start(B);
        bench.start(C);
        for _ in 0..stop_after {
            bench.step_one();
        }
        bench.stop(B);
        bench.pass(second());
        bench.start(B);
        bench.pass(3 * second());
        for id in [A, B, C] {
            assert_eq!(bench.phase(id), Phase::Serving, "stopped after {stop_after} messages");
        }
    }
}

#[test]
fn a_wiped_founder_is_dead_as_that_id() {
    let mut bench = Bench::serving(3);
    bench.stop(B);
    bench.host(B).disk = Default::default();
    bench.start(B);
    bench.pass(2 * second());
    // It hears of a cluster that knows it by another birth as soon as anybody tells it the state.
    let state = bench.host(A).view.clone().unwrap().state.clone().unwrap();
    bench.event(B, crate::message::Event::Peer { from: A, message: PeerMessage::StateNews(state) });
    assert!(matches!(bench.phase(B), Phase::Refused(_)), "{:?}", bench.phase(B));
    let op = bench.ask(B, get("k", None));
    assert_eq!(bench.reply(op).unwrap().unwrap_err().code, ErrorCode::NotReady);
}

#[test]
fn a_directory_restored_from_a_copy_is_refused() {
    let mut bench = Bench::serving(3);
    bench.stop(B);
    let copy = bench.host(B).disk.clone();
    bench.start(B);
    bench.pass(2 * second());
    assert_eq!(bench.phase(B), Phase::Serving);
    bench.stop(B);
    bench.host(B).disk = copy;
    bench.start(B);
    bench.pass(2 * second());
    assert!(matches!(bench.phase(B), Phase::Refused(_)), "{:?}", bench.phase(B));
}

/// Of seed 810000000600: refused three times, it was started again while all that had seen its later life were away.
#[test]
fn a_directory_that_was_refused_stays_refused_whoever_is_away() {
    let case = || {
        let mut bench = Bench::serving(3);
        bench.stop(B);
        let copy = bench.host(B).disk.clone();
        bench.start(B);
        bench.pass(2 * second());
        assert_eq!(bench.phase(B), Phase::Serving);
        bench.stop(B);
        bench.host(B).disk = copy;
        bench.start(B);
        bench.pass(2 * second());
        assert!(matches!(bench.phase(B), Phase::Refused(_)));
        bench.stop(B);
        // Nobody has seen anything any more.
        for id in [A, C] {
            bench.stop(id);
            bench.host(id).disk.meta.retain(|record| !matches!(record, MetaRecord::Life(B, _)));
            bench.start(id);
        }
        bench.start(B);
        bench.pass(2 * second());
        bench.pass(Duration::from_secs(5));
        bench.phase(B)
    };
    assert!(matches!(case(), Phase::Refused(_)));
    let _planted = crate::testing::arm_mutant("refusal-forgotten");
    assert_eq!(case(), Phase::Serving);
}

#[test]
fn a_copy_taken_within_a_boot_is_known_by_its_clock() {
    let mut bench = Bench::serving(3);
    let copy = bench.host(B).disk.clone();
    let op = bench.ask(B, put("k", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.pass(10 * second());
    bench.stop(B);
    bench.host(B).disk = copy;
    bench.start(B);
    bench.pass(2 * second());
    assert!(matches!(bench.phase(B), Phase::Refused(_)), "{:?}", bench.phase(B));
}

#[test]
fn a_whole_cluster_restarts_at_once() {
    let mut bench = Bench::serving(3);
    let op = bench.ask(A, put("k", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
    for id in [A, B, C] {
        bench.stop(id);
    }
    for id in [C, B, A] {
        bench.start(id);
    }
    bench.pass(2 * second());
    for id in [A, B, C] {
        assert_eq!(bench.phase(id), Phase::Serving);
    }
}

#[test]
fn a_node_alone_does_not_serve_until_a_majority_of_the_council_has_noted_its_boot() {
    let mut bench = Bench::serving(3);
    for id in [A, B, C] {
        bench.stop(id);
    }
    bench.start(A);
    bench.pass(3 * second());
    assert!(matches!(bench.phase(A), Phase::Registering(_)));
    bench.start(B);
    bench.pass(2 * second());
    assert_eq!(bench.phase(A), Phase::Serving);
    assert_eq!(bench.phase(B), Phase::Serving);
}

#[test]
fn founders_with_different_lists_do_not_found_and_say_so() {
    let mut bench = Bench::new(3);
    bench.config(B).charter.partitions = 32;
    for id in [A, B, C] {
        bench.start(id);
    }
    bench.pass(3 * second());
    for id in [A, B, C] {
        let Phase::Founding(why) = bench.phase(id) else { panic!("{:?}", bench.phase(id)) };
        assert!(why.contains("founders list") || why.contains("waiting"), "{why}");
    }
    assert!(matches!(bench.phase(B), Phase::Founding(why) if why.contains("[cluster]")));
}

#[test]
fn a_founder_typed_away_is_not_waited_for_and_not_a_member() {
    let mut bench = Bench::new(3);
    for id in [A, B] {
        bench.config(id).found_without = vec!["n3".parse().unwrap()];
        bench.start(id);
    }
    bench.pass(2 * second());
    let view = bench.host(A).view.clone().unwrap();
    assert_eq!(view.phase, Phase::Serving);
    assert_eq!(view.state.as_ref().unwrap().members.len(), 2);
    let state = view.state.clone().unwrap();
    bench.start(C);
    let message = PeerMessage::StateNews(state);
    bench.event(C, crate::message::Event::Peer { from: node(1), message });
    assert!(matches!(bench.phase(C), Phase::Refused(_)));
}

#[test]
fn words_of_the_boot_before_do_not_make_the_council_forget_the_boot_it_noted() {
    // The council writes down the ceilings it hears now and then; the member starts again between
    // two of these moments, wherever in the period that falls.
    for wait in [100, 600, 1100, 1600] {
        let mut bench = Bench::serving(3);
        bench.pass(Duration::from_millis(wait));
        let op = bench.ask(B, put("k", "v"));
        assert!(bench.reply(op).unwrap().is_ok());
        bench.pass(Duration::from_millis(600));
        bench.stop(B);
        let copy = bench.host(B).disk.clone();
        bench.start(B);
        bench.pass(5 * second());
        assert_eq!(bench.phase(B), Phase::Serving);
        for council in [A, C] {
            let noted =
                bench.host(council).disk.meta.iter().rev().find_map(|record| match record {
                    MetaRecord::Life(member, life) if *member == B => Some(life.boot.number),
                    _ => None,
                });
            assert_eq!(noted, Some(2), "after {wait} ms at {council}");
        }
        bench.stop(B);
        bench.host(B).disk = copy;
        bench.start(B);
        bench.pass(2 * second());
        assert!(matches!(bench.phase(B), Phase::Refused(_)), "after {wait} ms");
    }
}

#[test]
fn a_registration_that_arrives_late_once_more_does_not_end_the_life_it_is_of() {
    let mut bench = Bench::serving(3);
    let register = bench.seen.iter().find_map(|(from, to, message)| {
        let is_it = (*from, *to) == (B, A) && matches!(message, PeerMessage::Register { .. });
        is_it.then(|| message.clone())
    });
    let message = register.expect("B has registered with A");
    let op = bench.ask(B, put("k", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.pass(5 * second());
    bench.event(A, crate::message::Event::Peer { from: B, message });
    bench.settle();
    assert_eq!(bench.phase(B), Phase::Serving);
}

#[test]
fn two_halves_cannot_type_each_other_away() {
    let mut bench = Bench::new(4);
    let halves = [["n3", "n4"], ["n3", "n4"], ["n1", "n2"], ["n1", "n2"]];
    for (number, without) in (1..).zip(halves) {
        bench.config(node(number)).found_without = without.map(|name| name.parse().unwrap()).into();
        bench.start(node(number));
    }
    bench.pass(2 * second());
    for number in 1..=4 {
        let phase = bench.phase(node(number));
        assert!(
            matches!(&phase, Phase::Refused(why) if why.contains("more than half")),
            "{phase:?}"
        );
    }
}

#[test]
fn a_node_that_drains_before_it_ever_served_does_not_serve() {
    let mut bench = Bench::serving(3);
    for id in [A, B, C] {
        bench.stop(id);
    }
    bench.start(A);
    bench.pass(second());
    bench.event(A, crate::message::Event::Drain);
    bench.start(B);
    bench.start(C);
    bench.pass(2 * second());
    assert_eq!(bench.phase(A), Phase::Draining);
    let op = bench.ask(A, get("k", None));
    assert_eq!(bench.reply(op).unwrap().unwrap_err().code, ErrorCode::NotReady);
    let op = bench.ask(B, get("k", None));
    let Some(Ok(crate::message::Reply::Get(reply))) = bench.reply(op) else { panic!() };
    assert_eq!(reply.receipt.answered.count_ones(), 2);
}

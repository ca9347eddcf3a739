//! Whole clusters of the machine in virtual time: who is found silent, who is not, and how fast all
//! hear of it.

use core::time::Duration;

use super::world::{MS, S, World, id, timing};
use super::{Members, Timing};
use crate::message::{
    FactsVersion, Hearsay, Held, Incarnation, Liveness, MemberSync, PeerMessage, Probe, ProbeFacts,
    Rumour,
};
use crate::testing::arm_mutant;
use crate::types::{Epoch, NodeId, Now, Time, WallTime};

use Liveness::{Alive, Down, Suspect};

/// A cluster that has run for a while.
fn world(count: usize, seed: u64) -> World {
    let mut world = World::new(count, seed);
    world.pass(15 * S);
    world.found.clear();
    world
}

/// How often anybody held a member to be so that was not.
fn wrongly(world: &World, liveness: Liveness, gone: &[NodeId]) -> usize {
    let wrong = |member: &NodeId| !gone.contains(member);
    world.found.iter().filter(|found| found.liveness == liveness && wrong(&found.member)).count()
}

fn detection(count: usize, seed: u64) -> (u64, u64) {
    let mut world = world(count, seed);
    let gone = id(count);
    world.stop(gone);
    let began = world.now;
    let suspect = world.until((50 * MS, 30 * S), |world| !world.all_say(gone, Alive));
    suspect.unwrap_or_else(|| panic!("{count} members, seed {seed}: not suspected"));
    let down = world.until((50 * MS, 60 * S), |world| world.all_say(gone, Down));
    down.unwrap_or_else(|| panic!("{count} members, seed {seed}: not down for all"));
    assert_eq!(wrongly(&world, Suspect, &[gone]), 0, "{count} members, seed {seed}");
    (suspect.unwrap() / MS, (world.now - began) / MS)
}

#[test]
fn a_silent_member_of_a_small_cluster_is_suspect_after_two_seconds_and_down_after_ten() {
    for count in [2, 3, 4, 5, 9] {
        for seed in 1..4 {
            let (suspect, down) = detection(count, seed);
            assert!((1900..3200).contains(&suspect), "{count} members: suspect after {suspect} ms");
            assert!((9500..12_000).contains(&down), "{count} members: down after {down} ms");
        }
    }
}

#[test]
fn a_failure_is_known_to_all_of_a_large_cluster_soon() {
    for count in [10, 30, 100] {
        let (suspect, down) = detection(count, 7);
        assert!(suspect < 7000, "{count} members: suspect after {suspect} ms");
        assert!(down < 22_000, "{count} members: down after {down} ms");
    }
}

#[test]
fn whoever_is_left_alone_holds_the_others_to_be_down_as_soon() {
    let mut world = world(3, 1);
    world.stop(id(2));
    world.stop(id(3));
    let down = world.until((100 * MS, 60 * S), |world| {
        world.all_say(id(2), Down) && world.all_say(id(3), Down)
    });
    assert!(down.unwrap() <= 12 * S, "{down:?}");
}

#[test]
fn nobody_is_convicted_on_a_network_that_loses_a_twentieth() {
    for (count, seed) in [(3, 1), (5, 2), (9, 3), (10, 4), (30, 5), (100, 6)] {
        let mut world = world(count, seed);
        world.loss = 0.05;
        world.pass(120 * S);
        assert_eq!(wrongly(&world, Down, &[]), 0, "{count} members");
        let suspected = wrongly(&world, Suspect, &[]);
        assert!(suspected <= 2, "{count} members: {suspected} suspicions");
        world.loss = 0.0;
        world.pass(5 * S);
        for member in world.ids() {
            assert!(world.all_say(member, Alive));
        }
    }
}

/// How often a member that handles two messages each twelve seconds convicts others, and others
/// it, in two minutes.
fn slow_observer(count: usize) -> (usize, usize) {
    let mut world = world(count, 3);
    let slow = id(1);
    world.slow_down(slow, 12 * S, 2);
    world.pass(120 * S);
    let convicted = world.found.iter().filter(|found| found.liveness == Down);
    let (mut by_it, mut others) = (0, 0);
    for found in convicted.filter(|found| found.member != slow) {
        by_it += usize::from(found.observer == slow);
        others += usize::from(found.observer != slow);
    }
    (by_it, others)
}

#[test]
fn a_slow_observer_does_not_convict_others() {
    for count in [5, 12, 40] {
        assert_eq!(slow_observer(count), (0, 0), "{count} members");
    }
    let _armed = arm_mutant("slow-observer-convicts");
    let (by_it, _) = slow_observer(12);
    assert!(by_it > 0);
}

/// A cannot reach B, nor B A; all others reach both.
fn cut_pair(count: usize) -> World {
    let mut world = world(count, 5);
    world.cut.extend([(id(1), id(2)), (id(2), id(1))]);
    world.pass(60 * S);
    world
}

#[test]
fn who_is_heard_by_others_stays_alive_for_all() {
    for count in [3, 5, 12, 40] {
        let mut world = cut_pair(count);
        assert_eq!(wrongly(&world, Down, &[]), 0, "{count} members");
        assert_eq!(wrongly(&world, Suspect, &[]), 0, "{count} members");
        // But nothing can be asked of it here, and everywhere else it can.
        if count <= 9 {
            assert!(!world.members(id(1)).is_reachable(id(2)));
        }
        assert!(world.members(id(3)).is_reachable(id(2)));
        world.cut.clear();
        world.pass(if count <= 9 { S } else { 30 * S });
        assert!(world.members(id(1)).is_reachable(id(2)));
    }
    let _armed = arm_mutant("no-indirect-probe");
    assert!(wrongly(&cut_pair(5), Suspect, &[]) > 0);
}

#[test]
fn a_way_that_works_in_one_direction_only_convicts_nobody() {
    for count in [3, 5, 20] {
        let mut world = world(count, 6);
        world.cut.insert((id(1), id(2)));
        world.pass(60 * S);
        assert_eq!(wrongly(&world, Down, &[]), 0, "{count} members");
    }
}

/// A member that everybody is told is down, although it is there.
fn slandered(count: usize) -> World {
    let mut world = world(count, 8);
    // All ways to it are lost for a while, and then not.
    world.split(|member| member == id(2));
    world.pass(6 * S);
    assert!(world.ids().any(|observer| world.liveness(observer, id(2)) == Suspect));
    world.cut.clear();
    world.pass(8 * S);
    world
}

#[test]
fn a_suspicion_is_refuted_with_a_higher_incarnation() {
    for count in [3, 5, 30] {
        let mut world = slandered(count);
        assert!(world.all_say(id(2), Alive), "{count} members");
        assert_eq!(wrongly(&world, Down, &[]), 0, "{count} members");
        assert_eq!(world.members(id(2)).incarnation().boot, 1);
        assert!(world.members(id(2)).incarnation().refuted >= 1);
    }
    let _armed = arm_mutant("suspicion-never-refuted");
    let mut world = slandered(30);
    assert_eq!(world.members(id(2)).incarnation().refuted, 0);
    world.pass(20 * S);
    assert!(wrongly(&world, Down, &[]) > 0, "who was suspected and is never heard to refute it");
}

#[test]
fn a_member_that_boots_again_is_alive_for_all_whatever_is_said_of_its_earlier_life() {
    for count in [3, 5, 30, 100] {
        let mut world = world(count, 9);
        world.stop(id(2));
        let down = world.until((100 * MS, 60 * S), |world| world.all_say(id(2), Down));
        assert!(down.is_some(), "{count} members");
        world.restart(id(2), 2);
        let back = world.until((50 * MS, 30 * S), |world| world.all_say(id(2), Alive)).unwrap();
        assert!(back <= if count <= 9 { S } else { 8 * S }, "{count} members: {} ms", back / MS);
        world.found.clear();
        world.pass(30 * S);
        assert_eq!((wrongly(&world, Down, &[]), wrongly(&world, Suspect, &[])), (0, 0));
        assert_eq!(world.members(id(2)).incarnation(), Incarnation { boot: 2, refuted: 0 });
    }
}

#[test]
fn a_boot_that_was_never_registered_goes_on_above_what_it_has_said() {
    for count in [3, 20] {
        let mut world = world(count, 10);
        world.stop(id(2));
        world.pass(3 * S);
        // The same number again: its facts begin from the first.
        world.restart(id(2), 1);
        world.acknowledge(id(2), 7);
        let epoch =
            |world: &mut World, at| world.members(at).told(id(2)).map(|facts| facts.acknowledged);
        world.pass(if count == 3 { 2 * S } else { 10 * S });
        for observer in world.ids().filter(|at| *at != id(2)) {
            assert_eq!(epoch(&mut world, observer), Some(Epoch(7)), "{count} members");
        }
        assert!(world.members(id(2)).incarnation().refuted >= 1);
    }
}

#[test]
fn a_partition_that_heals_leaves_nothing_behind() {
    for count in [4, 5, 30, 60] {
        let mut world = world(count, 11);
        let side = |member: NodeId| member.0 as usize <= count / 2;
        world.split(side);
        world.pass(60 * S);
        for member in world.ids() {
            for observer in world.ids().filter(|at| *at != member) {
                let expected = if side(observer) == side(member) { Alive } else { Down };
                assert_eq!(world.liveness(observer, member), expected, "{count}: {member}");
            }
        }
        world.cut.clear();
        let healed = world.until((100 * MS, 60 * S), |world| {
            world.ids().all(|member| world.all_say(member, Alive))
        });
        let healed = healed.unwrap_or_else(|| panic!("{count} members do not come together"));
        assert!(healed <= if count <= 9 { S } else { 20 * S }, "{count}: {} ms", healed / MS);
        world.found.clear();
        world.pass(20 * S);
        assert_eq!(wrongly(&world, Down, &[]), 0);
    }
}

#[test]
fn messages_of_a_member_do_not_grow_with_the_cluster() {
    let mut rates = Vec::new();
    for count in [30, 100, 150] {
        let mut world = World::new(count, 12);
        world.pass(30 * S);
        world.sent = super::world::Sent::default();
        world.pass(30 * S);
        let each = (count as u64) * 30;
        rates.push((world.sent.messages as f64 / each as f64, world.sent.bytes / each));
    }
    // Two probes a second, their answers, and a sync now and then.
    assert!(rates.iter().all(|(messages, _)| (3.9..4.6).contains(messages)), "{rates:?}");
    assert!(rates.iter().all(|(_, bytes)| *bytes < 16_000), "{rates:?}");
}

#[test]
fn what_a_member_has_acknowledged_is_known_to_all_at_once_or_soon() {
    for (count, within) in [(3, 10), (5, 10), (9, 10), (12, 2000), (30, 3000), (150, 5000)] {
        let mut world = world(count, 13);
        world.acknowledge(id(2), 9);
        let known = world.until((5 * MS, 30 * S), |world| {
            world.ids().filter(|at| *at != id(2)).all(|observer| {
                let told = world.members(observer).told(id(2));
                told.is_some_and(|facts| facts.acknowledged == Epoch(9))
            })
        });
        let known = known.unwrap_or_else(|| panic!("{count} members: not known to all")) / MS;
        assert!(known <= within, "{count} members: {known} ms");
    }
}

#[test]
fn facts_are_fresh_where_there_are_few_even_over_broken_ways() {
    for count in [3, 5, 9, 16] {
        let mut world = world(count, 14);
        world.cut.extend([(id(1), id(2)), (id(2), id(1))]);
        world.pass(10 * S);
        let now = Time(world.now);
        for (observer, member) in [(id(1), id(2)), (id(2), id(1)), (id(3), id(1))] {
            let told = world.members(observer).facts(member).and_then(|known| known.told);
            let age = now.since(told.expect("facts"));
            assert!(age < Duration::from_millis(2500), "{count} members: {age:?}");
        }
    }
}

#[test]
fn a_cluster_that_starts_again_as_a_whole_needs_nobodys_memory() {
    for count in [5, 40] {
        let mut world = world(count, 15);
        for member in world.ids() {
            world.stop(member);
        }
        world.pass(5 * S);
        for member in world.ids() {
            world.restart(member, 2);
        }
        world.pass(20 * S);
        for member in world.ids() {
            assert!(world.all_say(member, Alive), "{count} members");
            assert!(world.members(member).custody_is_known(), "{count} members");
        }
        assert_eq!(wrongly(&world, Suspect, &[]), 0);
    }
}

#[test]
fn the_same_seed_gives_the_same_course() {
    let run = || {
        let mut world = World::new(40, 16);
        world.loss = 0.2;
        world.pass(40 * S);
        (world.sent, world.found.clone())
    };
    assert_eq!(run(), run());
}

// By hand.

const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn at(ms: u64) -> Now {
    Now { mono: Time((1000 + ms) * MS), wall: WallTime((1_000_000_000 + ms) * MS) }
}

fn members(timing: Timing) -> Members {
    let mut members = Members::new(at(0), timing, (NodeId(1), 1), fastrand::Rng::with_seed(1));
    members.set_peers(at(0), [B, C].into_iter());
    members
}

fn liveness(members: &Members, member: NodeId) -> Liveness {
    members.facts(member).unwrap().liveness
}

/// What a member says, in this incarnation.
fn probe(seq: u64, (boot, refuted): (u64, u32), told: u64) -> Probe {
    let incarnation = Incarnation { boot, refuted };
    let facts = ProbeFacts { epoch: Epoch(told), ..ProbeFacts::default() };
    Probe {
        seq,
        facts: facts.into(),
        version: FactsVersion { incarnation, seq: told },
        of_you: None,
        rumours: Vec::new(),
        hearsay: Vec::new(),
    }
}

fn rumour(member: NodeId, (boot, refuted): (u64, u32), liveness: Liveness) -> Rumour {
    let incarnation = Incarnation { boot, refuted };
    Rumour { member, incarnation, liveness, by: vec![C] }
}

#[test]
fn a_failed_link_is_news_once_until_the_member_is_heard_again() {
    let mut members = members(timing());
    assert!(members.on_unreachable(B));
    assert!(!members.on_unreachable(B));
    assert!(!members.is_reachable(B));
    assert_eq!(liveness(&members, B), Suspect);
    members.on_time(at(0), true);
    assert_eq!(liveness(&members, B), Suspect);
    assert!(members.on_heard(at(1), B));
    assert!(members.is_reachable(B) && !members.on_heard(at(1), B));
    assert!(members.on_unreachable(B));
}

#[test]
fn before_birth_silence_alone_counts_and_nobody_is_probed() {
    let mut members = members(timing());
    for ms in (0..=10_000).step_by(125) {
        members.on_heard(at(ms), C);
        members.on_time(at(ms), false);
        let expected = if ms < 2000 { Alive } else { Suspect };
        assert!(ms >= 10_000 || liveness(&members, B) == expected, "{ms}");
    }
    assert_eq!((liveness(&members, B), liveness(&members, C)), (Down, Alive));
    let changed = |action: &super::MembersAction| matches!(action, super::MembersAction::Changed(member, _) if *member == B);
    assert!(std::iter::from_fn(|| members.poll_action()).all(|action| changed(&action)));
}

#[test]
fn the_offset_of_a_clock_is_measured_over_a_round_trip_and_facts_age() {
    let mut members = members(timing());
    members.on_time(at(0), true);
    let probes = std::iter::from_fn(|| members.poll_action()).find_map(|action| match action {
        super::MembersAction::Probe(B, seq) => Some(seq),
        _ => None,
    });
    let mut answer = probe(probes.expect("a probe of B"), (1, 0), 1);
    let facts = ProbeFacts { wall: at(600).wall, clock: at(600).wall, ..ProbeFacts::default() };
    answer.facts = facts.into();
    members.on_probe_ack(at(200), B, answer);
    assert_eq!(members.facts(B).unwrap().clock_offset_ns, 500 * MS as i64);
    assert_eq!(members.median_clock(at(300)), Some(at(700).wall));
    assert_eq!(members.median_clock(at(60_000)), None);
    // Told by B 150 ms ago: of two clocks the higher one.
    let facts = ProbeFacts { clock: at(900).wall, ..ProbeFacts::default() };
    let version = FactsVersion { incarnation: Incarnation { boot: 1, refuted: 0 }, seq: 1 };
    let age = Duration::from_millis(150);
    let hearsay = Hearsay { member: C, version, age, facts: facts.into() };
    let news = Probe { hearsay: vec![hearsay], ..probe(0, (1, 0), 2) };
    members.on_news(at(300), B, news);
    assert_eq!(members.median_clock(at(400)), Some(at(1150).wall));
}

#[test]
fn custody_is_known_once_all_have_told_since_this_node_is_there() {
    let mut members = members(timing());
    members.on_news(at(100), B, probe(0, (1, 0), 1));
    let told = |age, seq| {
        let version = FactsVersion { incarnation: Incarnation { boot: 1, refuted: 0 }, seq };
        let age = Duration::from_millis(age);
        Hearsay { member: C, version, age, facts: ProbeFacts::default().into() }
    };
    let news = |hearsay, seq| Probe { hearsay: vec![hearsay], ..probe(0, (1, 0), seq) };
    members.on_news(at(200), B, news(told(900, 1), 2));
    assert!(members.told(C).is_some() && !members.custody_is_known());
    members.on_news(at(300), B, news(told(250, 2), 3));
    assert!(members.custody_is_known());
}

/// Whether B is held to serve once an older boot of it answers, and once it answers itself again.
fn older_self() -> (bool, bool) {
    let mut members = members(timing());
    let says = |boot, told| {
        let facts = ProbeFacts { serving: true, ..ProbeFacts::default() };
        Probe { facts: facts.into(), ..probe(0, (boot, 0), told) }
    };
    members.on_news(at(100), B, says(7, 1));
    assert!(members.serves(B));
    members.on_news(at(200), B, says(3, 2));
    let by_older = members.serves(B);
    members.on_news(at(300), B, says(8, 1));
    (by_older, members.serves(B))
}

#[test]
fn an_older_copy_of_a_member_does_not_serve_in_its_name() {
    assert_eq!(older_self(), (false, true));
    let _armed = arm_mutant("older-self-serves");
    assert_eq!(older_self(), (true, true));
}

#[test]
fn older_facts_do_not_replace_newer_ones() {
    let mut members = members(timing());
    members.on_news(at(0), B, probe(0, (2, 0), 5));
    members.on_news(at(0), B, probe(0, (2, 0), 4));
    members.on_news(at(0), B, probe(0, (1, 9), 9));
    assert_eq!(members.epoch(B), Epoch(5));
    members.on_news(at(0), B, probe(0, (2, 1), 1));
    assert_eq!(members.epoch(B), Epoch(1));
    assert_eq!(members.epoch(C), Epoch(0));
}

/// B's second life is known, and C says that its first one is over.
fn told_of_an_earlier_life() -> Members {
    let mut members = members(timing());
    members.on_heard(at(0), B);
    members.on_news(at(0), B, probe(0, (2, 0), 1));
    let news = Probe { rumours: vec![rumour(B, (1, 3), Down)], ..probe(0, (1, 0), 1) };
    members.on_heard(at(5000), C);
    members.on_news(at(5000), C, news);
    members
}

#[test]
fn what_is_said_of_an_earlier_incarnation_is_void() {
    let mut members = told_of_an_earlier_life();
    assert_eq!(liveness(&members, B), Alive);
    let news = Probe { rumours: vec![rumour(B, (2, 0), Down)], ..probe(0, (1, 0), 2) };
    members.on_news(at(5000), C, news);
    assert_eq!(liveness(&members, B), Down);
    members.on_news(
        at(5000),
        C,
        Probe { rumours: vec![rumour(B, (2, 1), Alive)], ..probe(0, (1, 0), 3) },
    );
    assert_eq!(liveness(&members, B), Alive);
    let _armed = arm_mutant("old-incarnation-wins");
    assert_eq!(liveness(&told_of_an_earlier_life(), B), Down);
}

#[test]
fn who_has_just_been_heard_is_not_suspected_on_hearsay_but_told() {
    let mut members = members(timing());
    members.on_heard(at(1000), B);
    members.on_news(at(1000), B, probe(0, (1, 0), 1));
    let news = Probe { rumours: vec![rumour(B, (1, 0), Down)], ..probe(0, (1, 0), 1) };
    members.on_news(at(2000), C, news);
    assert_eq!(liveness(&members, B), Alive);
    let of_you = members.compose(at(2000), B, 1, ProbeFacts::default()).of_you.unwrap();
    assert_eq!((of_you.liveness, of_you.version.seq), (Down, 1));
    // B refutes: the accusation is void.
    members.on_news(at(2001), B, probe(0, (1, 1), 2));
    let of_you = members.compose(at(2001), B, 2, ProbeFacts::default()).of_you.unwrap();
    assert_eq!(of_you.liveness, Alive);
}

#[test]
fn a_digest_is_answered_with_what_is_newer_and_what_is_wanted() {
    let mut members = members(timing());
    members.on_news(at(0), B, probe(0, (1, 0), 5));
    members.on_news(at(0), C, probe(0, (1, 0), 5));
    while members.poll_action().is_some() {}
    let held = |seq, liveness| {
        let incarnation = Incarnation { boot: 1, refuted: 0 };
        Held { version: FactsVersion { incarnation, seq }, liveness }
    };
    let digest = vec![(B, held(7, Alive)), (C, held(2, Down)), (NodeId(9), held(1, Alive))];
    members.on_sync(at(5000), B, MemberSync::Digest(digest));
    let sent = std::iter::from_fn(|| members.poll_action()).find_map(|action| match action {
        super::MembersAction::Send(B, PeerMessage::MemberSync(sync)) => Some(*sync),
        _ => None,
    });
    let Some(MemberSync::Newer { hearsay, wanted, .. }) = sent else { panic!("no answer") };
    let given: Vec<NodeId> = hearsay.iter().map(|hearsay| hearsay.member).collect();
    assert_eq!((given, wanted), (vec![C], vec![B]));
    // Of equal incarnations the worse word counts, where nobody has been heard lately.
    assert_eq!(liveness(&members, C), Down);
}

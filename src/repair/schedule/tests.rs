//! Who is compared when.

use super::*;
use crate::types::{ClassId, Partition};

const SECOND: u64 = 1_000_000_000;
const INTERVAL: Duration = Duration::from_secs(600);

fn unit(partition: u16) -> Unit {
    Unit { class: ClassId(0), partition: Partition(partition) }
}

fn now(seconds: u64) -> Now {
    let wall = WallTime(1_700_000_000 * SECOND + seconds * SECOND);
    Now { mono: Time(seconds * SECOND), wall }
}

fn schedule(me: u32, peers: &[u32], units: u16) -> Schedule {
    let cadence = Cadence {
        interval: INTERVAL,
        settle: Duration::from_secs(10),
        pause: Duration::from_millis(250),
    };
    let mut schedule = Schedule::new(NodeId(me), cadence);
    set(&mut schedule, me, peers, units);
    schedule
}

fn set(schedule: &mut Schedule, me: u32, peers: &[u32], units: u16) {
    let of = |peer: u32| (0..units).map(move |partition| (NodeId(peer), unit(partition)));
    let pairs = peers.iter().copied().flat_map(of);
    schedule.set_pairs(now(0), NodeId(me), pairs);
}

fn all(_: NodeId) -> bool {
    true
}

fn every(_: Unit) -> bool {
    true
}

/// Compares whatever is due at a time; whom and which.
fn compare(schedule: &mut Schedule, at: Now) -> Vec<(NodeId, Unit)> {
    let mut compared = Vec::new();
    while let Some((peer, units)) = schedule.next_roots(at.mono, all, every) {
        for unit in units {
            schedule.on_verified(at, (peer, unit), (at.wall, 0));
            compared.push((peer, unit));
        }
    }
    compared
}

#[test]
fn two_owners_take_turns_and_never_leave_a_unit_for_longer_than_the_interval() {
    let (mut a, mut b) = (schedule(1, &[2], 3), schedule(2, &[1], 3));
    let (mut last, mut by_a, mut by_b) = (0, 0, 0);
    for second in 0..20_000 {
        let (first, second_) = (compare(&mut a, now(second)), compare(&mut b, now(second)));
        (by_a, by_b) = (by_a + first.len(), by_b + second_.len());
        if first.len() + second_.len() > 0 {
            assert!(second - last <= INTERVAL.as_secs(), "{last}..{second}");
            last = second;
        }
    }
    assert!(by_a.abs_diff(by_b) <= 6 && by_a >= 3 * 17, "{by_a} {by_b}");
    assert!(20_000 - last <= INTERVAL.as_secs());
}

#[test]
fn who_has_just_come_is_compared_soon_and_others_keep_their_place() {
    let mut schedule = schedule(1, &[2], 2);
    assert!(!compare(&mut schedule, now(75)).is_empty());
    set(&mut schedule, 1, &[2, 3], 2);
    let compared = compare(&mut schedule, now(150));
    assert!(!compared.is_empty() && compared.iter().all(|(peer, _)| *peer == NodeId(3)));
    set(&mut schedule, 1, &[3], 1);
    assert_eq!(schedule.pairs().count(), 1);
    assert!(schedule.pair(NodeId(3), unit(0)).unwrap().verified.is_some());
}

#[test]
fn what_is_wanted_comes_first_and_ends_when_it_has_settled() {
    let mut schedule = schedule(1, &[2, 3], 4);
    compare(&mut schedule, now(75));
    let wish = now(100);
    schedule.want(wish, (NodeId(3), unit(2)), wish);
    assert!(!schedule.is_covered(unit(2), wish));
    let (peer, units) = schedule.next_roots(now(100).mono, all, every).unwrap();
    assert_eq!((peer, units), (NodeId(3), vec![unit(2)]));
    // Equal up to its horizon, which is before what is wanted: once more when that has settled.
    let horizon = now(90).wall;
    schedule.on_verified(now(100), (NodeId(3), unit(2)), (horizon, 5));
    assert!(schedule.pair(NodeId(3), unit(2)).unwrap().is_wanted());
    assert_eq!(schedule.next_roots(now(109).mono, all, every), None);
    let again = schedule.next_roots(now(111).mono, all, every);
    assert_eq!(again, Some((NodeId(3), vec![unit(2)])));
    schedule.on_verified(now(111), (NodeId(3), unit(2)), (now(101).wall, 0));
    assert!(!schedule.pair(NodeId(3), unit(2)).unwrap().is_wanted());
    let is_covered = |schedule: &Schedule| schedule.is_covered(unit(2), wish);
    assert!(!is_covered(&schedule), "another owner has yet to be compared");
    schedule.want(now(111), (NodeId(2), unit(2)), wish);
    let other = schedule.next_roots(now(111).mono, all, every);
    assert_eq!(other, Some((NodeId(2), vec![unit(2)])));
    schedule.on_verified(now(111), (NodeId(2), unit(2)), (now(101).wall, 0));
    assert!(is_covered(&schedule));
    assert_eq!(schedule.next_roots(now(112).mono, all, every), None);
}

#[test]
fn what_was_compared_by_a_clock_that_was_ahead_covers_nothing_that_came_later() {
    let case = || {
        let mut schedule = schedule(1, &[2], 1);
        let peer = NodeId(2);
        // Ahead by an hour, and then right.
        let ahead = Now { mono: now(75).mono, wall: now(75 + 3_600).wall };
        assert_eq!(compare(&mut schedule, ahead), [(peer, unit(0))]);
        let wish = now(90);
        let is_covered = schedule.is_covered(unit(0), wish);
        schedule.want(now(100), (peer, unit(0)), wish);
        let again = compare(&mut schedule, now(101));
        let is_compared = again == [(peer, unit(0))] && schedule.is_covered(unit(0), wish);
        (is_covered, is_compared)
    };
    assert_eq!(case(), (false, true));
    let _armed = crate::testing::arm_mutant("covered-by-a-clock-ahead");
    assert_eq!(case(), (true, false));
}

#[test]
fn what_was_fulfilled_stays_so_though_the_clock_steps_back_and_later_comparisons_cover_less() {
    let mut schedule = schedule(1, &[2], 1);
    let place = (NodeId(2), unit(0));
    compare(&mut schedule, now(75));
    let wish = now(100);
    schedule.want(wish, place, wish);
    let begins = Now { mono: wish.mono, wall: WallTime(wish.wall.0 + 1) };
    assert_eq!(compare(&mut schedule, begins), [place], "at the same moment");
    assert!(!schedule.pair(place.0, place.1).unwrap().is_wanted());
    let turn = now(schedule.next_deadline().unwrap().0 / SECOND + 1);
    let again = schedule.next_roots(turn.mono, all, every);
    assert_eq!(again, Some((place.0, vec![place.1])));
    schedule.on_verified(turn, place, (now(50).wall, 0));
    assert!(schedule.is_covered(unit(0), wish));
    // The clock has stepped back by a second since a wish: it is fulfilled once the clock is there again.
    let at = |seconds: u64| now(turn.mono.0 / SECOND + seconds);
    let wish = at(10);
    schedule.want(wish, place, wish);
    let late = Now { mono: at(11).mono, wall: at(9).wall };
    let asked = schedule.next_roots(late.mono, all, every);
    assert_eq!(asked, Some((place.0, vec![place.1])));
    schedule.on_verified(late, place, (late.wall, 0));
    assert!(!schedule.is_covered(unit(0), wish));
    let due = schedule.next_deadline().unwrap();
    assert!(due <= at(23).mono, "soon");
    let then = Now { mono: due, wall: late.wall.plus(due.since(late.mono)) };
    assert_eq!(compare(&mut schedule, then), [place]);
    assert!(schedule.is_covered(unit(0), wish));
}

#[test]
fn what_differs_waits_for_a_session_and_what_fails_comes_again_later_each_time() {
    let mut schedule = schedule(1, &[2], 2);
    let (peer, units) = schedule.next_roots(now(75).mono, all, every).unwrap();
    assert_eq!(units.len(), 2);
    assert_eq!(schedule.next_roots(now(75).mono, all, every), None, "both are under way");
    schedule.on_differs(now(75).mono, peer, unit(0));
    schedule.on_differs(now(76).mono, peer, unit(1));
    schedule.want(now(76), (peer, unit(1)), now(76));
    assert!(schedule.has_differing());
    assert_eq!(schedule.next_session(|_| false, every), None);
    assert_eq!(schedule.next_session(all, every), Some((peer, unit(1))), "wanted");
    assert_eq!(schedule.next_session(all, every), Some((peer, unit(0))));
    assert_eq!(schedule.next_session(all, every), None);
    let mut at = now(80);
    let mut pauses = Vec::new();
    for _ in 0..14 {
        schedule.on_failed(at, (peer, unit(0)), Some(7));
        let due = schedule.next_deadline().unwrap();
        pauses.push(due.since(at.mono));
        at = Now { mono: due, wall: at.wall.plus(due.since(at.mono)) };
        assert!(schedule.next_roots(at.mono, all, every).is_some());
    }
    assert_eq!(pauses.first(), Some(&Duration::from_millis(250)));
    assert!(pauses.is_sorted() && pauses.last() == Some(&(INTERVAL / 8)), "{pauses:?}");
    assert_eq!(schedule.pair(peer, unit(0)).unwrap().lacks, 7);
}

#[test]
fn nobody_is_asked_who_cannot_be_and_nothing_of_what_is_not_complete() {
    let mut schedule = schedule(1, &[2, 3], 2);
    let at = now(75).mono;
    assert_eq!(schedule.next_roots(at, |_| false, every), None);
    let complete = |of: Unit| of == unit(1);
    assert_eq!(
        schedule.next_roots(at, |peer| peer == NodeId(3), complete),
        Some((NodeId(3), vec![unit(1)]))
    );
}

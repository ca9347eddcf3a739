//! What a reserved member mirrors, and what becomes of it. Roles are changed by hand, as a plan would.

use core::time::Duration;

use super::bench::Bench;
use super::fill::{
    TABLE, enter, everybody, four, is_complete, key, next, record, state_of, takes_writes,
};
use crate::message::FillRecord;
use crate::testing::arm_mutant;
use crate::types::{NodeId, Plan, PlanStatus, Planned, Role, Unit, WallTime};

/// A unit with these keys, and a reserved member that has yet to mirror it.
fn reserved(keys: &[&str]) -> (Bench, Unit, NodeId) {
    let (mut bench, unit, outsider) = four();
    let owners = state_of(&mut bench).owners(unit).to_vec();
    for owner in owners {
        for name in keys {
            bench.host(owner).disk.data.insert((unit, TABLE, key(name)), record(5));
        }
    }
    becomes(&mut bench, unit, (outsider, Role::Reserved));
    (bench, unit, outsider)
}

fn becomes(bench: &mut Bench, unit: Unit, (id, role): (NodeId, Role)) {
    next(bench, &everybody(), unit, |state, _, _| {
        state.members.iter_mut().filter(|it| it.id == id).for_each(|it| it.role = role);
    });
}

fn mirrored_at(bench: &mut Bench, id: NodeId, unit: Unit) -> Option<WallTime> {
    bench.host(id).disk.fill(unit).and_then(FillRecord::mirrored_at)
}

/// Everything is mirrored.
fn mirrored(keys: &[&str]) -> (Bench, Unit, NodeId) {
    let (mut bench, unit, outsider) = reserved(keys);
    bench.pass(Duration::from_secs(8));
    assert!(mirrored_at(&mut bench, outsider, unit) > Some(WallTime(0)));
    assert_eq!(bench.host(outsider).disk.keys_of(unit), keys.len());
    (bench, unit, outsider)
}

fn everywhere(bench: &mut Bench, unit: Unit, change: impl Fn(&mut Bench, NodeId)) {
    for owner in state_of(bench).owners(unit).to_vec() {
        change(bench, owner);
    }
}

#[test]
fn a_reserved_member_mirrors_what_it_does_not_own_and_is_no_owner_by_it() {
    let (mut bench, unit, outsider) = mirrored(&["a", "b", "c", "d", "e"]);
    assert!(!takes_writes(&mut bench, outsider, unit));
    assert!(!is_complete(&mut bench, outsider, unit));
    let news = bench.host(outsider).node.as_ref().unwrap().mirror_news(WallTime(u64::MAX));
    let state = state_of(&mut bench);
    let not_owned = state.units().filter(|unit| !state.is_writer(*unit, outsider)).count();
    assert_eq!(usize::try_from(news.units).unwrap(), not_owned);
    let (member, units) = news.of[0];
    let owned = state.units().filter(|unit| state.is_writer(*unit, member));
    let shared = owned.filter(|unit| !state.is_writer(*unit, outsider)).count();
    assert_eq!(usize::try_from(units).unwrap(), shared);
}

#[test]
fn a_mirror_is_made_equal_again_and_keeps_nothing_longer_than_its_owners() {
    let (mut bench, unit, outsider) = mirrored(&["a", "b"]);
    bench.host(outsider).node.as_mut().unwrap().config.mirror_every = Duration::from_secs(5);
    everywhere(&mut bench, unit, |bench, owner| {
        let data = &mut bench.host(owner).disk.data;
        data.remove(&(unit, TABLE, key("a")));
        data.insert((unit, TABLE, key("b")), record(9));
        data.insert((unit, TABLE, key("c")), record(9));
    });
    bench.pass(Duration::from_secs(12));
    let owner = state_of(&mut bench).owners(unit)[0];
    let here = bench.host(outsider).disk.records_of(unit);
    assert_eq!(here, bench.host(owner).disk.records_of(unit));
}

#[test]
fn a_key_deleted_and_purged_while_the_mirror_was_away_does_not_come_back_with_it() {
    let case = || {
        let (mut bench, unit, outsider) = mirrored(&["deleted", "kept", "old"]);
        everywhere(&mut bench, unit, |bench, owner| {
            let data = &mut bench.host(owner).disk.data;
            data.remove(&(unit, TABLE, key("deleted")));
            data.insert((unit, TABLE, key("old")), record(9));
        });
        let entered = enter(&mut bench, &everybody(), unit, outsider);
        bench.pass(Duration::from_secs(8));
        assert!(is_complete(&mut bench, outsider, unit));
        assert_eq!(bench.host(outsider).disk.fill(unit).unwrap().entry, entered.epoch);
        let owner = entered.owners(unit)[0];
        let theirs = bench.host(owner).disk.records_of(unit);
        bench.host(outsider).disk.records_of(unit) == theirs
    };
    assert!(case());
    let _armed = arm_mutant("mirror-keeps-unlisted");
    assert!(!case(), "the planted bug is one");
}

#[test]
fn who_becomes_an_owner_of_what_it_mirrors_is_incomplete_like_any_other() {
    let case = || {
        let (mut bench, unit, outsider) = mirrored(&["a"]);
        everywhere(&mut bench, unit, |bench, owner| {
            bench.host(owner).disk.data.insert((unit, TABLE, key("written")), record(7));
        });
        // The others do not give anything.
        bench.host(outsider).slow_disk = true;
        enter(&mut bench, &everybody(), unit, outsider);
        bench.release_one(outsider);
        let early = takes_writes(&mut bench, outsider, unit);
        early || is_complete(&mut bench, outsider, unit)
    };
    assert!(!case());
    let _armed = arm_mutant("mirror-passes-for-owner");
    assert!(case(), "the planted bug is one");
}

#[test]
fn what_is_mirrored_goes_with_the_role_unless_a_plan_may_give_it_to_this_member() {
    let (mut bench, unit, outsider) = mirrored(&["a", "b"]);
    next(&mut bench, &everybody(), unit, |state, _, _| {
        state.members.iter_mut().filter(|it| it.id == outsider).for_each(|it| {
            it.role = Role::Active;
        });
        let mut to = state.owners(unit).to_vec();
        to[0] = outsider;
        let queue = vec![Planned { unit, to }];
        let ring = state.ring.clone();
        state.topology.plan = Some(Plan {
            hash: 1,
            since: state.epoch,
            status: PlanStatus::Paused,
            ring: ring.clone(),
            queue,
            begun: Vec::new(),
            total: 1,
            before: Vec::new(),
            ring_before: ring,
        });
    });
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.host(outsider).disk.keys_of(unit), 2);
    next(&mut bench, &everybody(), unit, |state, _, _| state.topology.plan = None);
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.host(outsider).disk.keys_of(unit), 0);
    assert_eq!(bench.host(outsider).disk.fill(unit), None);
}

#[test]
fn who_is_not_to_mirror_does_not_and_deletes_what_it_had() {
    let (mut bench, unit, outsider) = mirrored(&["a"]);
    bench.stop(outsider);
    bench.config(outsider).mirror = false;
    bench.start(outsider);
    bench.pass(Duration::from_secs(8));
    assert_eq!(bench.host(outsider).disk.keys_of(unit), 0);
    assert_eq!(mirrored_at(&mut bench, outsider, unit), None);
}

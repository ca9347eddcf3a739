//! A node that has lost data says so, answers nothing of it, and is filled anew.

use core::time::Duration;

use bytes::Bytes;

use super::bench::{Bench, get, node};
use super::fill::{TABLE, is_complete, key, record, state_of, takes_writes};
use super::transfer::{filled_with, until_complete};
use crate::message::{FillStage, LostKeys, MetaRecord, Phase};
use crate::testing::arm_mutant;
use crate::types::{Epoch, NodeId, Unit};

fn pass(bench: &mut Bench, ms: u64) {
    bench.pass(Duration::from_millis(ms));
}

fn lost(unit: Unit) -> LostKeys {
    LostKeys {
        what: "000007.sst at 4096: block checksum".to_owned(),
        start: Bytes::from_static(b"a"),
        end: Some(Bytes::from_static(b"b")),
        units: Some((unit, unit)),
        hints: false,
        own: false,
    }
}

fn is_lost(bench: &mut Bench, id: NodeId, unit: Unit) -> bool {
    bench.host(id).disk.fill(unit).is_some_and(|record| record.stage == FillStage::Lost)
}

/// Until the node has noted that the unit has lost data.
fn until_lost(bench: &mut Bench, id: NodeId, unit: Unit) -> bool {
    (0..1000).any(|_| {
        pass(bench, 10);
        bench.host(id).disk.bad.lost.contains(&unit)
    })
}

/// One owner of a unit has lost a key that the two others have.
fn damaged() -> (Bench, Unit, [NodeId; 3]) {
    let (mut bench, unit, owners, _) = filled_with(10);
    for owner in &owners[1..] {
        bench.host(*owner).disk.data.insert((unit, TABLE, key("z")), record(99));
    }
    bench.host(owners[0]).disk.bad.damage = vec![lost(unit)];
    (bench, unit, owners)
}

/// Whether the unit is made whole within ten seconds.
fn is_healed() -> bool {
    let (mut bench, unit, owners) = damaged();
    let before = state_of(&mut bench).entry(unit, owners[0]);
    assert!(until_lost(&mut bench, owners[0], unit));
    if !until_complete(&mut bench, owners[0], unit) {
        return false;
    }
    assert!(state_of(&mut bench).entry(unit, owners[0]) > before, "under a new entry");
    let all = bench.host(owners[1]).disk.records_of(unit);
    bench.host(owners[0]).disk.records_of(unit) == all
        && bench.host(owners[0]).disk.bad.damage.is_empty()
}

#[test]
fn a_unit_that_has_lost_data_is_filled_anew_from_the_others() {
    assert!(is_healed());
}

#[test]
fn a_loss_that_is_not_said_is_never_healed() {
    let _armed = arm_mutant("lost-not-said");
    assert!(!is_healed());
}

#[test]
fn a_lost_unit_that_answers_is_noticed() {
    let (mut bench, unit, owners) = damaged();
    // Nobody gives it another entry.
    (1..=4).map(node).filter(|id| *id != owners[0]).for_each(|id| bench.stop(id));
    assert!(until_lost(&mut bench, owners[0], unit) && is_lost(&mut bench, owners[0], unit));
    assert!(!is_complete(&mut bench, owners[0], unit), "it answers nothing");
    assert!(takes_writes(&mut bench, owners[0], unit));
    let _armed = arm_mutant("lost-answers");
    assert!(is_complete(&mut bench, owners[0], unit));
}

#[test]
fn what_one_of_the_others_alone_has_comes_back_too() {
    let case = || {
        let (mut bench, unit, owners) = damaged();
        // Acknowledged by the one that has lost it and one other, whichever is asked first.
        for (owner, name) in [(owners[1], "one"), (owners[2], "two")] {
            bench.host(owner).disk.data.insert((unit, TABLE, key(name)), record(100));
        }
        assert!(until_lost(&mut bench, owners[0], unit));
        assert!(until_complete(&mut bench, owners[0], unit));
        let data = &bench.host(owners[0]).disk.data;
        ["one", "two"].iter().all(|name| data.contains_key(&(unit, TABLE, key(name))))
    };
    assert!(case());
    let _armed = arm_mutant("refill-from-one-source");
    assert!(!case());
}

/// Of seed 700000000211: a unit was given away while it was filled again, and was waited for ever after.
#[test]
fn a_unit_that_is_given_away_is_not_waited_for() {
    let case = || {
        let (mut bench, unit, _, outsider) = filled_with(1);
        let now = bench.now(outsider);
        let node = bench.host(outsider).node.as_mut().unwrap();
        node.fills.losses.begin_healing(unit);
        assert_eq!(node.fills.losses.open(), 1);
        let emptied = crate::node::fills::UnitPending::Emptied(unit, None);
        node.on_unit_disk_done(now, emptied, Ok(crate::message::DiskAnswer::Persisted));
        node.fills.losses.open()
    };
    assert_eq!(case(), 0);
    let _armed = arm_mutant("left-unit-heals");
    assert_eq!(case(), 1);
}

/// Hints may be lost with a block: the owners they were for are to compare themselves.
#[test]
fn whom_lost_hints_were_for_is_marked() {
    let case = || {
        let (mut bench, unit, owners, outsider) = filled_with(1);
        let keys = LostKeys { units: None, hints: true, ..lost(unit) };
        let node = bench.host(outsider).node.as_mut().unwrap();
        let change = crate::message::HintChange {
            added: crate::message::HintTotals::one(false, 10),
            ..crate::message::HintChange::default()
        };
        node.hints.books.settle(owners[1], (false, 0), change);
        bench.host(outsider).disk.bad.damage = vec![keys];
        pass(&mut bench, 5000);
        let stored = MetaRecord::Dirty(unit, owners[1]);
        let disk = &bench.host(outsider).disk;
        assert!(!disk.bad.forgone.is_empty());
        disk.meta.contains(&stored)
    };
    assert!(case());
    let _armed = arm_mutant("lost-hints-unmarked");
    assert!(!case());
}

#[test]
fn a_loss_is_on_record_over_a_restart() {
    let (mut bench, unit, owners) = damaged();
    // Nobody decides anything, and nobody gives.
    let others: Vec<_> = (1..=4).map(node).filter(|id| *id != owners[0]).collect();
    others.iter().for_each(|other| bench.stop(*other));
    assert!(until_lost(&mut bench, owners[0], unit));
    bench.stop(owners[0]);
    bench.host(owners[0]).disk.bad.damage.clear();
    bench.start(owners[0]);
    pass(&mut bench, 1000);
    assert!(is_lost(&mut bench, owners[0], unit) && !is_complete(&mut bench, owners[0], unit));
    others.iter().for_each(|other| bench.start(*other));
    assert!(until_complete(&mut bench, owners[0], unit));
}

#[test]
fn lost_keys_of_units_that_are_not_owned_are_given_up() {
    let (mut bench, unit, owners, outsider) = filled_with(1);
    let keys = lost(unit);
    bench.host(outsider).disk.bad.damage = vec![keys.clone()];
    pass(&mut bench, 5000);
    assert_eq!(bench.host(outsider).disk.bad.forgone[0], (keys, Vec::new()));
    assert_eq!(bench.host(outsider).disk.fill(unit), None);
    assert!(is_complete(&mut bench, owners[0], unit));
}

/// A node whose log has lost its middle, before it is started.
fn without_log() -> (Bench, NodeId, Vec<Unit>) {
    let (mut bench, unit, owners, _) = filled_with(5);
    let id = owners[0];
    let state = state_of(&mut bench);
    let owned = state.units().filter(|unit| state.is_writer(*unit, id)).collect();
    bench.stop(id);
    bench.host(id).disk.bad.log_damage = vec!["the log was damaged".to_owned()];
    bench.host(id).disk.data.retain(|(_, _, name), _| *name != key("k003"));
    let _first = unit;
    (bench, id, owned)
}

#[test]
fn a_node_that_has_lost_a_part_of_its_log_is_filled_anew_and_serves_no_sooner() {
    let (mut bench, id, owned) = without_log();
    bench.start(id);
    for _ in 0..4000 {
        let was_lost = owned.iter().all(|unit| bench.host(id).disk.bad.lost.contains(unit));
        let whole = owned.iter().filter(|unit| is_complete(&mut bench, id, **unit)).count();
        let serves = bench.phase(id) == Phase::Serving;
        assert!(was_lost || !serves && whole == 0, "it answers for what it may have lost");
        if serves && whole == owned.len() {
            break;
        }
        pass(&mut bench, 10);
    }
    for unit in owned {
        assert!(is_complete(&mut bench, id, unit), "{unit}");
        let state = state_of(&mut bench);
        let other = *state.owners(unit).iter().find(|owner| **owner != id).unwrap();
        let all = bench.host(other).disk.records_of(unit);
        assert_eq!(bench.host(id).disk.records_of(unit), all, "{unit}");
    }
    assert!(bench.host(id).disk.bad.log_damage.is_empty());
    let op = bench.ask(id, get("k", None));
    pass(&mut bench, 500);
    assert!(bench.reply(op).unwrap().is_ok());
}

#[test]
fn without_its_council_it_does_not_serve() {
    let (mut bench, id, owned) = without_log();
    (1..=4).map(node).filter(|other| *other != id).for_each(|other| bench.stop(other));
    bench.start(id);
    pass(&mut bench, 20_000);
    assert!(matches!(bench.phase(id), Phase::Registering(_)), "{:?}", bench.phase(id));
    assert!(owned.iter().all(|unit| !is_complete(&mut bench, id, *unit)));
    assert!(!bench.host(id).disk.bad.log_damage.is_empty(), "a restart comes to the same");
}

#[test]
fn what_it_may_have_promised_is_decided_without_it() {
    let (mut bench, id, _) = without_log();
    bench.start(id);
    for _ in 0..2000 {
        pass(&mut bench, 10);
        if bench.phase(id) == Phase::Serving {
            break;
        }
    }
    let abstains = bench.host(id).disk.meta.iter().rev().find_map(|record| match record {
        MetaRecord::Abstain(epoch) => Some(*epoch),
        _ => None,
    });
    assert!(abstains > Some(Epoch(1)), "{abstains:?}");
}

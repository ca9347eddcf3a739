//! What would be lost, on small clusters whose owners are known.

use super::*;
use crate::control::moves::tests::{NEW, Said, UNIT, first};
use crate::control::schema::tests::state;
use crate::types::ClassId;

fn judged(state: &ClusterState, down: &[u32], gone: &[u32]) -> OutageReply {
    let mut said = Said::default();
    said.down.extend(down.iter().copied().map(NodeId));
    let gone = gone.iter().copied().map(NodeId).collect();
    outage(state, &said, (&gone, &"n1".parse().unwrap()), OutageHints::default())
}

fn kinds(reasons: &[OutageReason]) -> Vec<OutageKind> {
    reasons.iter().map(|reason| reason.kind).collect()
}

#[test]
fn one_of_three_may_stop_and_two_may_not() {
    let three = state(3, 1);
    let one = judged(&three, &[], &[2]);
    assert_eq!((kinds(&one.reasons), one.units.len()), (vec![], 0));
    let line = &one.lines[0];
    assert_eq!((line.partitions, line.writable, line.readable, line.lost), (64, 64, 64, 0));
    let two = judged(&three, &[], &[2, 3]);
    let lost = [OutageKind::Writes, OutageKind::Reads, OutageKind::Council];
    assert_eq!(kinds(&two.reasons), lost);
    assert_eq!((two.reasons[0].units, two.reasons[0].examples.len(), two.units.len()), (64, 5, 64));
    assert_eq!((two.lines[0].last_copy, two.lines[0].lost), (64, 0));
    let all = judged(&three, &[], &[1, 2, 3]);
    assert_eq!(kinds(&all.reasons)[0], OutageKind::Data);
    assert_eq!(all.lines[0].lost, 64);
    assert!(all.units.iter().all(|unit| unit.lost));
}

#[test]
fn who_is_down_already_counts() {
    let three = state(3, 1);
    let with = judged(&three, &[3], &[2]);
    assert!(kinds(&with.reasons).contains(&OutageKind::Writes));
    assert_eq!(with.down, vec!["n3".parse().unwrap()]);
    let _armed = crate::testing::arm_mutant("outage-forgets-the-down");
    assert!(judged(&three, &[3], &[2]).reasons.is_empty());
}

#[test]
fn a_reserved_member_may_stop_though_units_lack_a_quorum_already() {
    let mut four = state(4, 1);
    for owners in &mut four.classes[0].owners {
        *owners = [1, 2, 3].map(NodeId).to_vec();
    }
    four.council = [1, 2, 3].map(NodeId).to_vec();
    four.members[3].role = Role::Reserved;
    let free = judged(&four, &[1, 2], &[4]);
    assert_eq!(kinds(&free.reasons), vec![]);
    assert_eq!(free.warnings[0].kind, OutageKind::Writes);
    assert!(free.warnings[0].text.ends_with("none of those who stop owns them"));
    assert_eq!(kinds(&free.warnings).last(), Some(&OutageKind::Council));
    // And who is reserved and stays could take the place of one that goes.
    let name = |id: u32| format!("n{id}").parse::<NodeName>().unwrap();
    assert_eq!(judged(&four, &[], &[2]).replaced, vec![(name(2), Some(name(4)))]);
    assert_eq!(judged(&four, &[2], &[3]).replaced[1], (name(3), None));
}

#[test]
fn registers_need_a_majority_whatever_their_quorums() {
    let mut five = state(5, 1);
    five.classes[0].n = 3;
    let mut table = five.tables[0].clone();
    table.kind = TableKind::Linearizable;
    (table.id, table.name) = (crate::types::TableId(9), "locks".to_owned().try_into().unwrap());
    five.tables.push(table);
    let two = judged(&five, &[], &[1, 2]);
    let registers: Vec<_> =
        two.reasons.iter().filter(|reason| reason.kind == OutageKind::Registers).collect();
    let both = |unit: &Unit| {
        let owners = five.owners(*unit);
        owners.contains(&NodeId(1)) && owners.contains(&NodeId(2))
    };
    let expected = five.units().filter(both).count();
    assert!(expected > 0 && expected < 64);
    assert_eq!((registers.len(), registers[0].units as usize), (1, expected));
    assert_eq!(registers[0].tables, vec!["locks".to_owned().try_into().unwrap()]);
    assert_eq!(two.lines.len(), 2, "tables that ask for the same are one line");
}

#[test]
fn stand_ins_keep_tables_that_are_always_sloppy_writable() {
    let mut five = state(5, 1);
    five.tables[0].sloppy = Sloppy::Always;
    let two = judged(&five, &[], &[1, 2]);
    assert!(!kinds(&two.reasons).contains(&OutageKind::Writes));
    assert!(kinds(&two.reasons).contains(&OutageKind::Reads));
    let line = &two.lines[0];
    assert!(line.by_stand_ins > 0 && line.writable == 64 && line.readable < 64);
    // Each unit lacks what it lacks of owners.
    let lacking =
        five.units().map(|unit| five.owners(unit).iter().filter(|id| id.0 <= 2).count().min(2));
    let stood: u32 = two.stand_ins.iter().map(|(_, units)| units).sum();
    assert_eq!(stood as usize, lacking.sum::<usize>());
}

#[test]
fn a_plan_is_held_up_and_owners_that_are_filled_are_not_read() {
    let (mut state, old, new) = first();
    let held = judged(&state, &[], &[NEW.0]);
    assert_eq!(kinds(&held.reasons), [OutageKind::Plan]);
    // An owner that has lost what it had counts in no quorum of reads.
    state.classes[0].owners[3] = old;
    let entry = state.entry(UNIT, NodeId(1)).unwrap();
    let mut said = Said::default();
    said.lacks.push((NodeId(1), UNIT, entry));
    let gone = BTreeSet::from([NodeId(2)]);
    let me: NodeName = "n3".parse().unwrap();
    let reply = outage(&state, &said, (&gone, &me), OutageHints::default());
    let reads = reply.reasons.iter().find(|reason| reason.kind == OutageKind::Reads).unwrap();
    assert_eq!((reads.units, &reads.examples), (1, &vec![UNIT]));
    assert_eq!((UNIT.class, new.len()), (ClassId(0), 3));
}

#[test]
fn both_sets_of_a_unit_on_the_move_must_take_writes() {
    let (mut state, ..) = first();
    state.classes[0].owners[3] = [1, 2, 3].map(NodeId).to_vec();
    state.classes[0].moves = vec![crate::types::Move {
        partition: UNIT.partition,
        phase: MovePhase::ReadOld,
        other: [1, 2, 4].map(NodeId).to_vec(),
        entries: vec![state.epoch; 3],
        was_read: false,
    }];
    // One of the old owners is down, and another of the new: two of three are left in each, then one.
    let fine = judged(&state, &[3], &[4]);
    assert!(!fine.units.iter().any(|hit| hit.unit == UNIT && hit.writes), "two are in both sets");
    assert_eq!(kinds(&fine.reasons).last(), Some(&OutageKind::Plan));
    let short = judged(&state, &[4], &[1]);
    let hit = short.units.iter().find(|hit| hit.unit == UNIT).unwrap();
    assert_eq!((hit.writes, hit.reads), (true, false));
}

#[test]
fn hints_that_do_not_fit_are_a_reason() {
    let three = state(3, 1);
    let (gone, me) = (BTreeSet::from([NodeId(2)]), "n1".parse().unwrap());
    let ask = |needed, room| {
        let hints = OutageHints { needed, room };
        kinds(&outage(&three, &Said::default(), (&gone, &me), hints).reasons)
    };
    assert_eq!(ask(Some(100), 99), [OutageKind::Hints]);
    assert_eq!((ask(Some(100), 100), ask(None, 0)), (vec![], vec![]));
}

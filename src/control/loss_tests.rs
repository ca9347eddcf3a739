//! What is stuck, on whom, and what goes on without whom; and that nobody is given up who may answer.

use super::*;
use crate::control::moves::tests::{NEW, Said, UNIT, first, make_step};
use crate::control::{Change, steps};
use crate::types::RequestId;

fn ids(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

fn named(names: &[&str]) -> Vec<NodeName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn refused(state: &ClusterState, said: &Said, gone: &[&str]) -> String {
    let error = accept(state, said, &[UNIT], &named(gone)).unwrap_err();
    assert_eq!(error.code, ErrorCode::PlanInvalid);
    error.message
}

fn given_up(state: &ClusterState, said: &Said, gone: &[&str]) -> ClusterState {
    let orders = accept(state, said, &[UNIT], &named(gone)).unwrap();
    Change::Losses(orders).after(state, RequestId(7)).unwrap()
}

/// The third owner gives way to the fourth member, and `down` do not answer.
fn begun(down: &[u32]) -> (ClusterState, Said) {
    let (state, _, new) = first();
    let mut said = Said::default();
    said.down.extend(ids(down));
    (make_step(&state, StepKind::Begin(new)), said)
}

#[test]
fn a_unit_with_enough_to_fill_from_is_not_stuck_and_nobody_of_it_is_given_up() {
    let (state, mut said) = begun(&[3]);
    assert_eq!(stuck(&state, &said), [], "two of three can give");
    assert!(refused(&state, &said, &["n3"]).contains("does not wait for anybody"));
    said.down = ids(&[1, 2]).into_iter().collect();
    let missing = ids(&[1, 2]);
    let expected = Stuck { unit: UNIT, lacks: Lacks::Copies, wanted: 2, have: 1, missing };
    assert_eq!(stuck(&state, &said), [expected]);
    assert!(refused(&state, &said, &["n1"]).contains("waits for n2 too"));
    said.down.remove(&NodeId(2));
    assert!(refused(&state, &said, &["n1", "n2"]).contains("n2 is not down"));
    let unknown = accept(&state, &said, &[UNIT], &named(&["n9"])).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::MemberUnknown);
    // One that is being filled already has what it needs once nobody is missing.
    said.complete.insert((NEW, UNIT, state.epoch));
    said.down.extend(ids(&[1, 2]));
    assert_eq!(stuck(&state, &said), [], "it is complete");
}

#[test]
fn a_member_that_is_only_silent_is_given_up_by_nothing_but_a_planted_bug() {
    let (state, mut said) = begun(&[1]);
    said.silent.insert(NodeId(3));
    assert_eq!(stuck(&state, &said).first().unwrap().missing, ids(&[1, 3]));
    assert!(refused(&state, &said, &["n1", "n3"]).contains("n3 is not down"));
    let _armed = crate::testing::arm_mutant("loss-of-the-living");
    let orders = accept(&state, &said, &[UNIT], &named(&["n1", "n3"])).unwrap();
    assert_eq!(orders.first().unwrap().gone, ids(&[1, 3]));
}

#[test]
fn one_that_answers_and_is_being_filled_itself_is_waited_for_no_more_either() {
    let (state, mut said) = begun(&[1]);
    said.lacks.push((NodeId(2), UNIT, Epoch(1)));
    let order = accept(&state, &said, &[UNIT], &named(&["n1"])).unwrap().remove(0);
    assert_eq!((order.gone, order.voided), (ids(&[1, 2]), ids(&[1])), "it need not begin anew");
}

#[test]
fn a_move_goes_on_without_those_who_are_given_up_and_to_its_end() {
    let (state, mut said) = begun(&[1, 2]);
    let lost = given_up(&state, &said, &["n1", "n2"]);
    assert_eq!(lost.changed_at(UNIT), lost.epoch, "the fence rises");
    assert_eq!(lost.epoch_of(RequestId(7)), Some(lost.epoch));
    let loss = lost.loss(UNIT).unwrap();
    assert_eq!((loss.epoch, &loss.gone), (lost.epoch, &ids(&[1, 2])));
    for id in [1, 2] {
        assert_eq!(lost.entry(UNIT, NodeId(id)), Some(lost.epoch), "it would be filled anew");
    }
    assert_eq!(lost.entry(UNIT, NodeId(3)), Some(Epoch(1)));
    assert_eq!(lost.entry(UNIT, NEW), Some(state.epoch), "what it has been given stays");
    let entry = state.epoch;
    assert!(lost.is_enough((UNIT, NEW, entry), &ids(&[3])));
    assert!(!lost.is_enough((UNIT, NEW, entry), &[]), "who lives is pulled");
    assert!(!lost.is_enough((UNIT, NEW, Epoch(lost.epoch.0 + 1)), &ids(&[3])));
    assert_eq!(stuck(&lost, &said), []);

    said.complete.insert((NEW, UNIT, entry));
    let read = Change::Steps(steps(&lost, &said)).after(&lost, RequestId(0)).unwrap();
    assert_eq!(read.owners(UNIT), &ids(&[1, 2, 4])[..]);
    // Of those who are to go only the third can still answer a read, and a read takes two.
    let found = steps(&read, &said);
    assert_eq!(found.first().map(|step| &step.kind), Some(&StepKind::NewOnly));
    let done = Change::Steps(found).after(&read, RequestId(0)).unwrap();
    assert_eq!(done.loss(UNIT).unwrap().gone, ids(&[1, 2]), "they are owners still");
}

#[test]
fn one_that_comes_back_counts_again_once_it_has_been_filled() {
    let (state, mut said) = begun(&[1, 2]);
    let lost = given_up(&state, &said, &["n1", "n2"]);
    said.down.remove(&NodeId(1));
    said.complete.insert((NodeId(1), UNIT, lost.epoch));
    assert!(!steps(&lost, &said).iter().any(|it| matches!(it.kind, StepKind::Returned(_))));
    said.acknowledge(&ids(&[1]), lost.epoch);
    let back: Vec<Step> = steps(&lost, &said)
        .into_iter()
        .filter(|it| matches!(it.kind, StepKind::Returned(_)))
        .collect();
    assert_eq!(back.len(), 1);
    let next = Change::Steps(back).after(&lost, RequestId(0)).unwrap();
    assert_eq!(next.loss(UNIT).unwrap().gone, ids(&[2]));
    assert_eq!(next.changed_at(UNIT), lost.changed_at(UNIT), "nothing changes for anybody");
    assert!(!next.is_enough((UNIT, NEW, state.epoch), &ids(&[3])), "it is to be pulled too");
}

#[test]
fn a_last_barrier_that_the_dead_hold_is_passed_without_them() {
    let (state, mut said) = begun(&[]);
    said.complete.insert((NEW, UNIT, state.epoch));
    let read = Change::Steps(steps(&state, &said)).after(&state, RequestId(0)).unwrap();
    said.down.extend(ids(&[2, 3]));
    said.acknowledge(&ids(&[1]), read.epoch);
    let missing = ids(&[2, 3]);
    let expected =
        Stuck { unit: UNIT, lacks: Lacks::Acknowledgements, wanted: 2, have: 1, missing };
    assert_eq!(stuck(&read, &said), [expected]);
    assert_eq!(steps(&read, &said), []);
    let lost = given_up(&read, &said, &["n2", "n3"]);
    let next = Change::Steps(steps(&lost, &said)).after(&lost, RequestId(0)).unwrap();
    assert_eq!((next.owners(UNIT), next.moving(UNIT)), (&ids(&[1, 2, 4])[..], None));
    assert_eq!(next.loss(UNIT).unwrap().gone, ids(&[2]), "who is an owner no more is forgotten");
    // One of them answers again: it may be asked, and must say that it is not.
    said.down.clear();
    assert_eq!(steps::behind(&lost, lost.moving(UNIT).unwrap(), UNIT, &said), ids(&[1, 2, 3]));
}

#[test]
fn an_owner_that_has_lost_data_keeps_what_it_has_until_it_can_be_filled() {
    let (mut state, ..) = first();
    state.topology.plan = None;
    let lost = (NodeId(2), UNIT, Epoch(1));
    let mut said = Said { lost: vec![lost], ..Said::default() };
    said.down.insert(NodeId(1));
    assert_eq!(steps(&state, &said), [], "only the third is left to fill it from");
    {
        let _armed = crate::testing::arm_mutant("lost-emptied-early");
        assert_eq!(steps(&state, &said).len(), 1);
    }
    assert_eq!(stuck(&state, &said).first().unwrap().missing, ids(&[1]));
    let next = given_up(&state, &said, &["n1"]);
    // Who has lost what it had has nothing to give either, and is filled from who is left.
    assert_eq!(next.loss(UNIT).unwrap().gone, ids(&[1, 2]));
    assert_eq!(next.entry(UNIT, NodeId(2)), Some(next.epoch));
    assert!(next.is_enough((UNIT, NodeId(2), next.epoch), &ids(&[3])));
    assert!(!next.is_enough((UNIT, NodeId(2), next.epoch), &[]));
}

#[test]
fn of_a_unit_of_which_nothing_is_left_an_empty_one_is_made() {
    let (state, mut said) = begun(&[1, 2]);
    said.lost.push((NodeId(3), UNIT, Epoch(1)));
    let next = given_up(&state, &said, &["n1", "n2"]);
    assert_eq!(next.loss(UNIT).unwrap().gone, ids(&[1, 2, 3]));
    assert!(next.is_enough((UNIT, NEW, state.epoch), &[]));
}

#[test]
fn an_order_that_was_judged_on_another_state_is_not_carried_out() {
    let (state, said) = begun(&[1, 2]);
    let orders = accept(&state, &said, &[UNIT], &named(&["n1", "n2"])).unwrap();
    let other = make_step(&state, StepKind::RollBack);
    let error = Change::Losses(orders).after(&other, RequestId(0)).unwrap_err();
    assert_eq!(error.code, ErrorCode::PlanConflict);
}

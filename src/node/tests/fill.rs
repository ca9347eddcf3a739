//! Units that are entered and left. The states are made by hand, as a plan would make them.

use core::time::Duration;
use std::sync::Arc;

use super::bench::{Bench, node};
use crate::message::{Event, FillProgress, FillRecord, FillStage, PeerMessage, RoundId};
use crate::testing::arm_mutant;
use crate::types::{
    ClusterState, Epoch, Key, Move, MovePhase, NodeId, Record, Stamp, TableId, Unit, Value,
    WallTime,
};

pub(super) const TABLE: TableId = TableId(1);

/// Four nodes that serve, a unit that one of them does not own, and that one.
pub(super) fn four() -> (Bench, Unit, NodeId) {
    let mut bench = Bench::serving(4);
    let state = state_of(&mut bench);
    let unit = state.units().next().unwrap();
    let outsider = (1..=4).map(node).find(|id| !state.owners(unit).contains(id)).unwrap();
    (bench, unit, outsider)
}

pub(super) fn state_of(bench: &mut Bench) -> Arc<ClusterState> {
    let held = (1..=4)
        .map(node)
        .filter_map(|id| bench.host(id).node.as_ref().and_then(|node| node.state.clone()));
    let held: Vec<_> = held.collect();
    held.into_iter().max_by_key(|state| state.epoch).unwrap()
}

/// The next state, with one unit changed, comes into force on those nodes.
pub(super) fn next(
    bench: &mut Bench,
    at: &[NodeId],
    unit: Unit,
    change: impl FnOnce(&mut ClusterState, usize, usize),
) -> Arc<ClusterState> {
    let mut state = (*state_of(bench)).clone();
    state.epoch = Epoch(state.epoch.0 + 1);
    let (class, partition) = (usize::from(unit.class.0), usize::from(unit.partition.0));
    state.classes[class].changed_at[partition] = state.epoch;
    change(&mut state, class, partition);
    let state = Arc::new(state);
    let from = (1..=4).map(node).collect::<Vec<_>>();
    for to in at {
        let from = *from.iter().find(|id| *id != to).unwrap();
        bench.event(*to, Event::Peer { from, message: PeerMessage::StateNews(state.clone()) });
    }
    state
}

/// `enters` takes the place of the last owner, in the first phase.
pub(super) fn enter(
    bench: &mut Bench,
    at: &[NodeId],
    unit: Unit,
    enters: NodeId,
) -> Arc<ClusterState> {
    next(bench, at, unit, |state, class, partition| {
        let class = &mut state.classes[class];
        let mut other = class.owners[partition].clone();
        let mut entries = class.entries[partition].clone();
        (*other.last_mut().unwrap(), *entries.last_mut().unwrap()) = (enters, state.epoch);
        let phase = MovePhase::ReadOld;
        class.moves =
            vec![Move { partition: unit.partition, phase, other, entries, was_read: false }];
    })
}

/// The move is rolled back.
pub(super) fn leave(bench: &mut Bench, at: &[NodeId], unit: Unit) -> Arc<ClusterState> {
    next(bench, at, unit, |state, class, _| state.classes[class].moves.clear())
}

pub(super) fn everybody() -> Vec<NodeId> {
    (1..=4).map(node).collect()
}

pub(super) fn record(time: u64) -> Record {
    let stamp = Stamp { time: WallTime(time), counter: 0, node: node(1) };
    Record { stamp, expiry: None, value: Value::new("v").ok() }
}

pub(super) fn key(text: &str) -> Key {
    Key::new(text.to_owned()).unwrap()
}

pub(super) fn filling(bench: &mut Bench, id: NodeId, unit: Unit) -> Option<Epoch> {
    match bench.host(id).disk.fill(unit) {
        Some(FillRecord { entry, stage: FillStage::Filling(_) }) => Some(*entry),
        _ => None,
    }
}

pub(super) fn takes_writes(bench: &mut Bench, id: NodeId, unit: Unit) -> bool {
    bench.host(id).node.as_ref().unwrap().takes_writes(unit)
}

pub(super) fn is_complete(bench: &mut Bench, id: NodeId, unit: Unit) -> bool {
    bench.host(id).node.as_ref().unwrap().is_complete(unit)
}

#[test]
fn what_was_there_before_is_gone_before_the_first_write_is_taken() {
    let (mut bench, unit, outsider) = four();
    let owner = state_of(&mut bench).owners(unit)[0];
    assert!(takes_writes(&mut bench, owner, unit) && is_complete(&mut bench, owner, unit));
    bench.host(outsider).disk.data.insert((unit, TABLE, key("old")), record(1));
    assert!(!takes_writes(&mut bench, outsider, unit));
    bench.host(outsider).slow_disk = true;
    let entered = enter(&mut bench, &everybody(), unit, outsider);
    bench.release_one(outsider);
    assert_eq!(bench.host(outsider).node.as_ref().unwrap().epoch(), entered.epoch);
    assert!(!takes_writes(&mut bench, outsider, unit), "it is not yet emptied");
    bench.release_disk(outsider);
    assert_eq!(filling(&mut bench, outsider, unit), Some(entered.epoch));
    assert_eq!(bench.host(outsider).disk.keys_of(unit), 0);
    assert!(takes_writes(&mut bench, outsider, unit));
    assert!(!is_complete(&mut bench, outsider, unit));
    assert!(takes_writes(&mut bench, owner, unit) && is_complete(&mut bench, owner, unit));
}

#[test]
fn a_store_that_cannot_empty_a_unit_is_asked_again_now_and_then_and_not_at_once() {
    let (mut bench, unit, outsider) = four();
    bench.host(outsider).emptyings_refused = Some(0);
    let entered = enter(&mut bench, &everybody(), unit, outsider);
    bench.pass(Duration::from_secs(5));
    let asked = bench.host(outsider).emptyings_refused.take().unwrap();
    assert!((2..=20).contains(&asked), "asked {asked} times in 5 s");
    assert!(!takes_writes(&mut bench, outsider, unit));
    bench.pass(Duration::from_secs(3));
    let record = bench.host(outsider).disk.fill(unit).unwrap();
    assert_eq!(record.entry, entered.epoch);
    assert!(takes_writes(&mut bench, outsider, unit));
}

#[test]
fn a_unit_that_is_left_is_deleted_after_the_writes_that_were_let_in() {
    let case = || {
        let (mut bench, unit, outsider) = four();
        enter(&mut bench, &everybody(), unit, outsider);
        bench.host(outsider).disk.data.insert((unit, TABLE, key("k")), record(1));
        bench.host(outsider).slow_writes = true;
        // Let in, and not done when the unit is left.
        let round = RoundId { op: 7, round: 1 };
        bench.let_in(outsider, round, (unit, TABLE, key("late")), record(2));
        leave(&mut bench, &everybody(), unit);
        let early = bench.host(outsider).disk.keys_of(unit) == 0;
        bench.release_disk(outsider);
        bench.pass(Duration::from_secs(3));
        assert_eq!(filling(&mut bench, outsider, unit), None);
        (early, bench.host(outsider).disk.keys_of(unit))
    };
    assert_eq!(case(), (false, 0));
    let _armed = arm_mutant("delete-early");
    assert_eq!(case(), (true, 1));
}

#[test]
fn what_a_founder_left_while_it_was_down_goes_when_it_is_back() {
    let (mut bench, unit, outsider) = four();
    let state = state_of(&mut bench);
    let last = *state.owners(unit).last().unwrap();
    bench.host(last).disk.data.insert((unit, TABLE, key("k")), record(1));
    let stays = Unit { partition: crate::types::Partition(1), ..unit };
    bench.host(last).disk.data.insert((stays, TABLE, key("k")), record(1));
    let kept = usize::from(state.owners(stays).contains(&last));
    bench.stop(last);
    let others: Vec<NodeId> = everybody().into_iter().filter(|id| *id != last).collect();
    next(&mut bench, &others, unit, |state, class, partition| {
        let class = &mut state.classes[class];
        *class.owners[partition].last_mut().unwrap() = outsider;
        *class.entries[partition].last_mut().unwrap() = state.epoch;
    });
    bench.start(last);
    assert_eq!(bench.host(last).disk.keys_of(unit), 1);
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.host(last).disk.keys_of(unit), 0);
    assert_eq!(bench.host(last).disk.keys_of(stays), kept);
}

#[test]
fn a_gap_that_was_slept_through_makes_what_was_complete_void() {
    let case = || {
        let (mut bench, unit, outsider) = four();
        let entered = enter(&mut bench, &everybody(), unit, outsider);
        let complete = FillRecord { entry: entered.epoch, stage: FillStage::Complete };
        bench.stop(outsider);
        bench.host(outsider).disk.empty_unit((unit, false), Some(complete));
        bench.host(outsider).disk.data.insert((unit, TABLE, key("old")), record(1));
        let others: Vec<NodeId> = everybody().into_iter().filter(|id| *id != outsider).collect();
        leave(&mut bench, &others, unit);
        let again = enter(&mut bench, &others, unit, outsider);
        bench.start(outsider);
        assert!(is_complete(&mut bench, outsider, unit), "as far as it has heard");
        let message = PeerMessage::StateNews(again.clone());
        bench.event(outsider, Event::Peer { from: others[0], message });
        (filling(&mut bench, outsider, unit) == Some(again.epoch))
            && !is_complete(&mut bench, outsider, unit)
            && bench.host(outsider).disk.keys_of(unit) == 0
    };
    assert!(case());
    let _armed = arm_mutant("gap-ignored");
    assert!(!case());
}

#[test]
fn a_unit_that_is_left_and_entered_again_at_once_is_emptied_for_the_new_entry() {
    let (mut bench, unit, outsider) = four();
    enter(&mut bench, &everybody(), unit, outsider);
    bench.host(outsider).disk.data.insert((unit, TABLE, key("k")), record(1));
    bench.host(outsider).slow_disk = true;
    leave(&mut bench, &everybody(), unit);
    bench.release_one(outsider);
    // The deletion is under way when the next state comes.
    let again = enter(&mut bench, &everybody(), unit, outsider);
    assert!(!takes_writes(&mut bench, outsider, unit));
    bench.release_disk(outsider);
    assert_eq!(filling(&mut bench, outsider, unit), Some(again.epoch));
    assert!(takes_writes(&mut bench, outsider, unit));
    assert_eq!(bench.host(outsider).disk.keys_of(unit), 0);
}

#[test]
fn progress_survives_a_restart() {
    let (mut bench, unit, outsider) = four();
    let entered = enter(&mut bench, &everybody(), unit, outsider);
    let owner = entered.owners(unit)[0];
    let progress = FillProgress { pulled: vec![owner], ..FillProgress::default() };
    let stage = FillStage::Filling(progress.clone());
    bench.stop(outsider);
    bench
        .host(outsider)
        .disk
        .empty_unit((unit, false), Some(FillRecord { entry: entered.epoch, stage }));
    bench.host(outsider).disk.data.insert((unit, TABLE, key("copied")), record(1));
    bench.start(outsider);
    assert_eq!(bench.host(outsider).disk.keys_of(unit), 1, "nothing is emptied twice");
    assert!(takes_writes(&mut bench, outsider, unit));
}

//! A unit that is entered is filled, from enough sources and from no others, and is complete no sooner.

use core::time::Duration;

use super::bench::Bench;
use super::fill::{
    TABLE, enter, everybody, filling, four, is_complete, key, leave, record, state_of,
};
use crate::causality::{Acceptor, SiblingSet};
use crate::message::{
    CopyContent, CopyMessage, CopyRefusal, CopyWhat, FillRecord, FillStage, MetaRecord, PeerMessage,
};
use crate::testing::arm_mutant;
use crate::types::{NodeId, TableId, Unit};

/// Four nodes, the owners of a unit, and the one that is not.
pub(super) fn filled_with(keys: u64) -> (Bench, Unit, [NodeId; 3], NodeId) {
    let (mut bench, unit, outsider) = four();
    let owners: [NodeId; 3] = state_of(&mut bench).owners(unit).try_into().unwrap();
    for owner in owners {
        for number in 0..keys {
            let slot = (unit, TABLE, key(&format!("k{number:03}")));
            bench.host(owner).disk.data.insert(slot, record(number + 1));
        }
    }
    (bench, unit, owners, outsider)
}

fn pass(bench: &mut Bench, ms: u64) {
    bench.pass(Duration::from_millis(ms));
}

/// Until the target is complete; whether it came to that.
pub(super) fn until_complete(bench: &mut Bench, target: NodeId, unit: Unit) -> bool {
    for _ in 0..40 {
        if is_complete(bench, target, unit) {
            return true;
        }
        pass(bench, 250);
    }
    false
}

/// Whom the target has asked for what.
fn asked(bench: &Bench, target: NodeId) -> Vec<(NodeId, CopyWhat)> {
    let asks = bench.seen.iter().filter(|(from, ..)| *from == target);
    let asks = asks.filter_map(|(_, to, message)| match message {
        PeerMessage::Copy(message) => match message.as_ref() {
            CopyMessage::Ask(ask) => Some((*to, ask.what.clone())),
            _ => None,
        },
        _ => None,
    });
    asks.collect()
}

fn refusals(bench: &Bench, source: NodeId) -> Vec<CopyRefusal> {
    let said = bench.seen.iter().filter(|(from, ..)| *from == source);
    let said = said.filter_map(|(_, _, message)| match message {
        PeerMessage::Copy(message) => match message.as_ref() {
            CopyMessage::Refused { why, .. } => Some(*why),
            _ => None,
        },
        _ => None,
    });
    said.collect()
}

#[test]
fn a_target_pulls_everything_from_one_source_and_what_differs_from_another() {
    let (mut bench, unit, owners, target) = filled_with(10);
    // The one has something the others have not, and something newer.
    bench.host(owners[1]).disk.data.insert((unit, TABLE, key("only")), record(77));
    bench.host(owners[2]).disk.data.insert((unit, TABLE, key("only")), record(77));
    bench.host(owners[1]).disk.data.insert((unit, TABLE, key("k003")), record(88));
    bench.host(owners[2]).disk.data.insert((unit, TABLE, key("k003")), record(88));
    let set = SiblingSet::default();
    let mut acceptor = Acceptor::default();
    acceptor.promise(record(5).stamp).unwrap();
    for owner in owners {
        bench.host(owner).disk.sets.insert((unit, TableId(90), key("s")), set.clone());
        let slot = (unit, TableId(91), key("r"));
        bench.host(owner).disk.acceptors.insert(slot, acceptor.clone());
    }
    let entered = enter(&mut bench, &everybody(), unit, target);
    assert!(until_complete(&mut bench, target, unit));
    let complete = FillRecord { entry: entered.epoch, stage: FillStage::Complete };
    assert_eq!(bench.host(target).disk.fill(unit), Some(&complete));
    let expected = bench.host(owners[1]).disk.records_of(unit);
    assert_eq!(bench.host(target).disk.records_of(unit), expected);
    let asked = asked(&bench, target);
    let is_whole = |what: &CopyWhat| matches!(what, CopyWhat::Files | CopyWhat::All(_));
    let whole: Vec<_> = asked.iter().filter(|(_, what)| is_whole(what)).collect();
    assert_eq!(whole[0].1, CopyWhat::Files);
    assert!(whole.len() >= 4 && whole.iter().all(|(to, _)| *to == whole[0].0));
    assert!(
        asked
            .iter()
            .any(|(to, what)| { matches!(what, CopyWhat::Leaves(..)) && *to != whole[0].0 })
    );
}

/// How many keys the sources have told marks of.
fn marks_told(bench: &Bench) -> usize {
    let told = bench.seen.iter().filter_map(|(.., message)| match message {
        PeerMessage::Copy(message) => match message.as_ref() {
            CopyMessage::Page { page, .. } => Some(&page.content),
            _ => None,
        },
        _ => None,
    });
    let marks = told.map(|content| match content {
        CopyContent::Marks(marks) => marks.len(),
        _ => 0,
    });
    marks.sum()
}

#[test]
fn owners_that_hold_the_same_are_compared_without_a_word_of_their_keys() {
    let case = |has_trees: bool| {
        let (mut bench, unit, owners, target) = filled_with(20);
        for owner in owners {
            bench.host(owner).disk.bad.tells_no_leaves = !has_trees;
        }
        enter(&mut bench, &everybody(), unit, target);
        assert!(until_complete(&mut bench, target, unit));
        assert_eq!(bench.host(target).disk.keys_of(unit), 20);
        marks_told(&bench)
    };
    assert_eq!(case(true), 0);
    assert_eq!(case(false), 20, "without trees by marks");
}

#[test]
fn a_promise_that_one_source_alone_has_given_is_not_forgotten() {
    let case = || {
        let (mut bench, unit, owners, target) = filled_with(4);
        super::fill::next(&mut bench, &everybody(), unit, |state, _, _| {
            let mut table = state.tables[0].clone();
            (table.id, table.kind) = (TableId(2), crate::types::TableKind::Linearizable);
            table.name = super::bench::name("registers");
            state.table_id_max = TableId(2);
            state.tables.push(table);
        });
        let slot = (unit, TableId(2), key("r"));
        for (owner, time) in owners.into_iter().zip([5, 8, 8]) {
            let mut acceptor = Acceptor::default();
            acceptor.promise(record(time).stamp).unwrap();
            bench.host(owner).disk.acceptors.insert(slot.clone(), acceptor);
        }
        enter(&mut bench, &everybody(), unit, target);
        assert!(until_complete(&mut bench, target, unit));
        bench.host(target).disk.acceptors[&slot].promised() == record(8).stamp
    };
    assert!(case());
    let _armed = arm_mutant("registers-by-leaves");
    assert!(!case());
}

#[test]
fn a_write_that_one_source_alone_has_is_not_lost() {
    let case = || {
        let (mut bench, unit, owners, target) = filled_with(4);
        // Acknowledged by the two that are not asked first.
        for owner in [owners[1], owners[2]] {
            bench.host(owner).disk.data.insert((unit, TABLE, key("z")), record(9));
        }
        enter(&mut bench, &everybody(), unit, target);
        assert!(until_complete(&mut bench, target, unit));
        bench.host(target).disk.data.contains_key(&(unit, TABLE, key("z")))
    };
    assert!(case());
    let _armed = arm_mutant("copy-from-one-source");
    assert!(!case());
}

#[test]
fn a_source_gives_nothing_before_it_has_acknowledged_the_entry() {
    let case = || {
        let (mut bench, unit, owners, target) = filled_with(4);
        // One that still has a write under way which it let in before.
        let late = owners[0];
        bench.host(late).slow_writes = true;
        let round = crate::message::RoundId { op: 7, round: 1 };
        bench.let_in(late, round, (unit, TABLE, key("late")), record(50));
        enter(&mut bench, &everybody(), unit, target);
        pass(&mut bench, 1000);
        let given = bench.seen.iter().any(|(from, _, message)| {
            let is_page = |message: &CopyMessage| matches!(message, CopyMessage::Page { .. });
            *from == late && matches!(message, PeerMessage::Copy(it) if is_page(it))
        });
        assert_eq!(refusals(&bench, late).contains(&CopyRefusal::NotAcknowledged), !given);
        bench.release_disk(late);
        assert!(until_complete(&mut bench, target, unit));
        given
    };
    assert!(!case());
    let _armed = arm_mutant("source-before-ack");
    assert!(case());
}

#[test]
fn when_a_source_is_lost_another_is_asked_and_a_restart_goes_on_where_it_was() {
    let (mut bench, unit, owners, target) = filled_with(30);
    bench.config(target).transfer_rate = 4_000;
    bench.stop(target);
    bench.start(target);
    pass(&mut bench, 1000);
    enter(&mut bench, &everybody(), unit, target);
    while asked(&bench, target).is_empty() {
        pass(&mut bench, 10);
    }
    let (first, _) = asked(&bench, target)[0].clone();
    bench.stop(first);
    assert!(
        until_complete(&mut bench, target, unit) || {
            let asked = asked(&bench, target);
            panic!("{asked:?}")
        }
    );
    let asked = asked(&bench, target);
    let others: Vec<NodeId> = owners.into_iter().filter(|id| *id != first).collect();
    assert!(others.iter().all(|id| asked.iter().any(|(to, _)| to == id)));
    assert_eq!(bench.host(target).disk.keys_of(unit), 30);
}

#[test]
fn sources_that_have_been_pulled_are_not_asked_again_after_a_crash() {
    let (mut bench, unit, owners, target) = filled_with(6);
    let entered = enter(&mut bench, &everybody(), unit, target);
    // Nobody but the first can be reached.
    let first = owners[0];
    for other in [owners[1], owners[2]] {
        bench.cut.insert((target, other));
    }
    pass(&mut bench, 2000);
    let Some(FillRecord { entry, stage: FillStage::Filling(progress) }) =
        bench.host(target).disk.fill(unit).cloned()
    else {
        panic!("{:?}", bench.host(target).disk.fill(unit))
    };
    assert_eq!((entry, progress.pulled), (entered.epoch, vec![first]));
    bench.stop(target);
    bench.cut.clear();
    bench.seen.clear();
    bench.start(target);
    pass(&mut bench, 500);
    assert!(until_complete(&mut bench, target, unit));
    let asked = asked(&bench, target);
    let is_whole = |what: &CopyWhat| matches!(what, CopyWhat::Files | CopyWhat::All(_));
    assert!(asked.iter().all(|(to, what)| *to != first && !is_whole(what)));
}

#[test]
fn nobody_says_that_it_is_complete_before_that_is_durable() {
    let case = || {
        let (mut bench, unit, _, target) = filled_with(6);
        let entered = enter(&mut bench, &everybody(), unit, target);
        bench.host(target).refuses = |record| {
            matches!(record, MetaRecord::Fill(_, FillRecord { stage: FillStage::Complete, .. }))
        };
        bench.host(target).refusals_left = u32::MAX;
        pass(&mut bench, 4000);
        assert_eq!(filling(&mut bench, target, unit), Some(entered.epoch));
        let early = is_complete(&mut bench, target, unit);
        bench.host(target).refusals_left = 0;
        assert!(until_complete(&mut bench, target, unit));
        early
    };
    assert!(!case());
    let _armed = arm_mutant("complete-before-durable");
    assert!(case());
}

#[test]
fn an_entry_that_is_over_ends_its_copy_and_another_begins_anew() {
    let (mut bench, unit, owners, target) = filled_with(6);
    enter(&mut bench, &everybody(), unit, target);
    for other in [owners[1], owners[2]] {
        bench.cut.insert((target, other));
    }
    pass(&mut bench, 1000);
    assert_eq!(bench.host(target).disk.keys_of(unit), 6);
    leave(&mut bench, &everybody(), unit);
    pass(&mut bench, 1000);
    assert_eq!(bench.host(target).disk.keys_of(unit), 0);
    bench.cut.clear();
    let again = enter(&mut bench, &everybody(), unit, target);
    assert!(until_complete(&mut bench, target, unit));
    let complete = FillRecord { entry: again.epoch, stage: FillStage::Complete };
    assert_eq!(bench.host(target).disk.fill(unit), Some(&complete));
    assert_eq!(bench.host(target).disk.keys_of(unit), 6);
}

#[test]
fn a_node_that_is_complete_for_a_new_entry_writes_under_a_new_tenure_where_tables_are_causal() {
    let (mut bench, unit, _, target) = filled_with(1);
    let tenure = |bench: &mut Bench| bench.host(target).node.as_ref().unwrap().causal.tenure;
    let before = tenure(&mut bench);
    super::fill::next(&mut bench, &everybody(), unit, |state, _, _| {
        let mut table = state.tables[0].clone();
        (table.id, table.kind) = (TableId(2), crate::types::TableKind::Causal);
        table.name = super::bench::name("causal");
        state.table_id_max = TableId(2);
        state.tables.push(table);
    });
    enter(&mut bench, &everybody(), unit, target);
    assert!(until_complete(&mut bench, target, unit));
    let after = tenure(&mut bench);
    assert_ne!(before, after);
    let is_it = |record: &MetaRecord| matches!(record, MetaRecord::Tenure(it) if *it == after);
    assert!(bench.host(target).disk.meta.iter().any(is_it));
}

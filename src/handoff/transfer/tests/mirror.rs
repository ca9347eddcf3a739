//! Units that are mirrored, and those that begin with what was.

use super::*;
use crate::message::{CopyLeaves, CopyTold};

fn mirrored() -> FillProgress {
    FillProgress { overlay: Overlay::Mirrored, ..FillProgress::default() }
}

fn no_leaves() -> CopyContent {
    CopyContent::Leaves(CopyLeaves::default())
}

fn mirror_saved(stage: &mut Stage) -> FillRecord {
    match stage.actions.pop() {
        Some(TransferAction::Save(UNIT, record)) => record,
        other => panic!("{other:?}"),
    }
}

/// Answers a comparison of which nothing differs, to its end.
fn nothing_differs(stage: &mut Stage, ask: &(NodeId, CopyAsk)) {
    stage.answer(ask, no_leaves(), None);
    let Some(TransferAction::Compare(_, round, told)) = stage.actions.pop() else {
        panic!("{:?}", stage.actions)
    };
    // An owner-to-be never goes by its tree.
    let expected = match ask.1.entry {
        FillRecord::MIRROR => CopyTold::MirrorSums(Vec::new()),
        _ => CopyTold::ExactSums(Vec::new()),
    };
    assert_eq!(told, expected);
    let ranges = Some(CopyLack::Ranges(Vec::new()));
    stage.step(|transfers, around| transfers.on_compared((UNIT, round), ranges, around));
    // There is no leaf, so here there must be nothing.
    let ask = stage.question();
    assert_eq!(ask.1.what, CopyWhat::Marks(CopyStretch::default()));
    stage.answer(&ask, marks(&[]), None);
    let Some(TransferAction::Compare(_, round, told)) = stage.actions.pop() else { panic!() };
    assert_eq!(told, CopyTold::Exactly(CopyStretch::default(), None, Vec::new()));
    let keys = Some(CopyLack::Keys(Vec::new()));
    stage.step(|transfers, around| transfers.on_compared((UNIT, round), keys, around));
}

#[test]
fn the_first_source_of_what_was_mirrored_is_compared_exactly_and_the_others_as_ever() {
    let mut stage = Stage::begun(mirrored());
    let first = stage.question();
    assert_eq!((first.0, first.1.entry), (NodeId(1), ENTRY));
    nothing_differs(&mut stage, &first);
    let Some(TransferAction::TakeIn(_, files, record, _)) = stage.actions.pop() else {
        panic!("{:?}", stage.actions)
    };
    assert_eq!((files, record.stage), (None, merging(&[1], Overlay::Merging)));
    stage.step(|transfers, around| transfers.on_taken(UNIT, true, around));
    let drains = |action: &TransferAction| matches!(action, TransferAction::Drain(..));
    assert!(stage.actions.iter().any(drains), "{:?}", stage.actions);
    stage.actions.clear();
    stage.step(|transfers, around| transfers.on_drained(UNIT, Some(true), around));
    let second = stage.question();
    assert_eq!(second.0, NodeId(2));
    stage.answer(&second, no_leaves(), None);
    let Some(TransferAction::Compare(_, _, told)) = stage.actions.pop() else { panic!() };
    assert_eq!(told, CopyTold::Sums(Vec::new()));
}

#[test]
fn another_first_source_is_compared_from_the_first_key() {
    let mut stage = Stage::begun(mirrored());
    let first = stage.question();
    stage.answer(&first, no_leaves(), None);
    stage.actions.clear();
    stage.away.insert(NodeId(1));
    stage.step(|transfers, around| transfers.on_unreachable(NodeId(1), around));
    let second = stage.question();
    let all = CopyWhat::Leaves(Place::first(), None);
    assert_eq!((second.0, second.1.what.clone()), (NodeId(2), all));
    nothing_differs(&mut stage, &second);
    let Some(TransferAction::TakeIn(_, None, record, _)) = stage.actions.pop() else { panic!() };
    assert_eq!(record.stage, merging(&[2], Overlay::Merging));
}

#[test]
fn what_was_mirrored_and_nobody_is_left_to_vouch_for_goes() {
    let mut stage = Stage::new(state(3, 2), 0);
    stage.away.extend([1, 2, 3].map(NodeId));
    stage.transfers.begin(UNIT, ENTRY, mirrored());
    give_up(&mut stage, &[1, 2, 3], Epoch(ENTRY.0));
    stage.pass(5000);
    let Some(TransferAction::TakeIn(_, files, record, _)) = stage.actions.pop() else {
        panic!("{:?}", stage.actions)
    };
    assert_eq!((files, record.stage), (Some(Vec::new()), merging(&[], Overlay::Merging)));
}

#[test]
fn a_mirror_is_copied_from_one_owner_once_and_then_compared_and_tells_no_floor() {
    let mut stage = Stage::new(state(3, 2), 0);
    stage.transfers.begin_mirror(UNIT, true);
    stage.step(Transfers::on_time);
    let ask = stage.question();
    assert_eq!((ask.1.entry, &ask.1.what), (FillRecord::MIRROR, &CopyWhat::Files));
    let page = CopyPage { content: records(&["a"]), next: None };
    let (round, floor, agreed) = (ask.1.round, at(7), at(8));
    let message = CopyMessage::Page { round, part: 0, parts: 1, floor, agreed, page };
    stage.step(|transfers, around| transfers.on_message(ask.0, message, around));
    let Some(TransferAction::Merge(_, round, entries, floor)) = stage.actions.pop() else {
        panic!("{:?}", stage.actions)
    };
    assert_eq!((entries.len(), floor), (1, SourceFloor::default()));
    stage.step(|transfers, around| transfers.on_merged((UNIT, round), true, around));
    assert_eq!(mirror_saved(&mut stage), FillRecord::mirror(WallTime(0)));
    // The one who is told of it ends it.
    stage.transfers.forget(UNIT);
    stage.transfers.begin_mirror(UNIT, false);
    stage.step(Transfers::on_time);
    let ask = stage.question();
    assert_eq!(ask.1.what, CopyWhat::Leaves(Place::first(), None));
    nothing_differs(&mut stage, &ask);
    let saved = mirror_saved(&mut stage);
    assert_eq!(saved, FillRecord::mirror(WallTime(0)), "no other owner is asked");
}

#[test]
fn where_the_source_has_no_leaf_something_may_be_here() {
    let asks = || {
        let mut stage = Stage::begun(mirrored());
        let first = stage.question();
        stage.answer(&first, no_leaves(), None);
        let Some(TransferAction::Compare(_, round, _)) = stage.actions.pop() else { panic!() };
        let ranges = Some(CopyLack::Ranges(Vec::new()));
        stage.step(|transfers, around| transfers.on_compared((UNIT, round), ranges, around));
        let all = CopyWhat::Marks(CopyStretch::default());
        stage.actions.iter().any(|it| matches!(it, TransferAction::Ask(_, ask) if ask.what == all))
    };
    assert!(asks());
    let _armed = arm_mutant("mirror-skips-empty");
    assert!(!asks(), "the planted bug is one");
}

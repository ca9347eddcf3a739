//! The steps of moves, one unit each: what they make of the state, and when they may be made. The
//! table of both is in `docs/protocol/moves.md`. A step names the unit's fence it was chosen at: on
//! top of any other it is not made, so that whoever proposes late, or twice, changes nothing.

use crate::message::{ErrorCode, OpError};
use crate::types::{Begun, ClassId, ClusterState, Epoch, Move, MovePhase, NodeId, Partition, Unit};

use super::{loss, plan};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The unit.
    pub unit: Unit,
    /// The unit's fence when the step was chosen.
    pub fence: Epoch,
    /// What is to be done.
    pub kind: StepKind,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Write these owners too.
    Begin(Vec<NodeId>),
    /// Move to these owners instead.
    Exchange(Vec<NodeId>),
    /// Read the other set, and go on to write both.
    ReadNew,
    /// Write the read set alone: the other set goes.
    NewOnly,
    /// Go back in the first phase: the other set goes.
    RollBack,
    /// Go back in the second phase: this is the move back now, in its first phase. The fence stays, so this
    /// is another step than the one above: made twice, it would let the old owners go without a barrier.
    TurnBack,
    /// An owner has lost data: it is filled again.
    FillAgain(NodeId),
    /// An owner that was given up has come back, and has been filled: it counts again.
    Returned(NodeId),
    /// It is rolled back no more: an owner that it had before is gone for good. It stays with those it has.
    Stay,
    /// The plan has come to its end. Names no unit of its own.
    EndPlan,
}

/// Makes those steps that still fit.
///
/// # Errors
/// [`ErrorCode::PlanConflict`]: none does. Somebody else was faster.
pub(super) fn apply(next: &mut ClusterState, steps: &[Step]) -> Result<(), OpError> {
    let mut made = 0;
    for step in steps {
        made += usize::from(make(next, step));
    }
    if made == 0 {
        return Err(OpError::new(ErrorCode::PlanConflict, "the moves have gone on without this"));
    }
    Ok(())
}

/// Makes a step if it fits. Returns whether it did.
fn make(next: &mut ClusterState, step: &Step) -> bool {
    if step.kind == StepKind::EndPlan {
        return plan::end(next);
    }
    let Step { unit, fence, kind } = step;
    if next.changed_at(*unit) != *fence {
        return false;
    }
    let epoch = next.epoch;
    let moving = next.moving(*unit).cloned();
    let place = usize::from(unit.partition.0);
    match (kind, moving) {
        // No owner changes, and so neither does the fence.
        (StepKind::Stay, None) => return plan::leave_where_it_is(next, *unit),
        (StepKind::Begin(to), None) => {
            if !begin(next, *unit, to) {
                return false;
            }
        }
        (StepKind::Exchange(to), Some(moving)) if moving.phase == MovePhase::ReadOld => {
            if to.len() != moving.other.len() || is_same(&moving.other, to) {
                return false;
            }
            let entries = entries_of(next, *unit, to, &[]);
            let other = to.clone();
            insert(next, unit.class, Move { other, entries, was_read: false, ..moving });
        }
        (StepKind::ReadNew, Some(mut moving)) if moving.phase == MovePhase::ReadOld => {
            let Some(class) = class_mut(next, unit.class) else { return false };
            let (Some(owners), Some(entries)) =
                (class.owners.get_mut(place), class.entries.get_mut(place))
            else {
                return false;
            };
            core::mem::swap(owners, &mut moving.other);
            core::mem::swap(entries, &mut moving.entries);
            moving.phase = MovePhase::ReadNew;
            moving.was_read = true;
            insert(next, unit.class, moving);
        }
        (StepKind::NewOnly, Some(moving)) if moving.phase == MovePhase::ReadNew => {
            remove(next, unit.class, unit.partition);
        }
        (StepKind::RollBack, Some(moving)) if moving.phase == MovePhase::ReadOld => {
            remove(next, unit.class, unit.partition);
        }
        (StepKind::TurnBack, Some(mut moving)) if moving.phase == MovePhase::ReadNew => {
            // Read set and write sets stay, and so does the fence.
            moving.phase = MovePhase::ReadOld;
            moving.was_read = true;
            insert(next, unit.class, moving);
            return true;
        }
        // Nobody's part in reads and writes changes, and so the fence stays.
        (StepKind::Returned(owner), _) => return loss::forget(next, *unit, *owner),
        (StepKind::FillAgain(owner), _) => {
            if !fill_again(next, *unit, *owner) {
                return false;
            }
        }
        _ => return false,
    }
    if let Some(changed) =
        class_mut(next, unit.class).and_then(|class| class.changed_at.get_mut(place))
    {
        *changed = epoch;
    }
    true
}

/// Begins to move a unit, if the plan wants it there. Returns whether it did.
fn begin(next: &mut ClusterState, unit: Unit, to: &[NodeId]) -> bool {
    let owners = next.owners(unit);
    // Chosen for another plan, or before the plan was turned round, it leads astray: to members that may
    // have gone.
    let wanted = plan::is_wanted(next, unit, to) || crate::mutant!("late-begin-made");
    if to.len() != owners.len() || is_same(owners, to) || !wanted {
        return false;
    }
    let entries = entries_of(next, unit, to, &[]);
    let (partition, other) = (unit.partition, to.to_vec());
    let phase = MovePhase::ReadOld;
    insert(next, unit.class, Move { partition, phase, other, entries, was_read: false });
    note_begun(next, unit, to);
    true
}

/// The epochs in which these became owners: this one, of those who are none yet.
fn entries_of(next: &ClusterState, unit: Unit, to: &[NodeId], anew: &[NodeId]) -> Vec<Epoch> {
    let entry = |id: &NodeId| {
        let known = next.entry(unit, *id).filter(|_| !anew.contains(id));
        known.unwrap_or(next.epoch)
    };
    to.iter().map(entry).collect()
}

pub(super) fn fill_again(next: &mut ClusterState, unit: Unit, owner: NodeId) -> bool {
    if !next.is_writer(unit, owner) {
        return false;
    }
    let epoch = next.epoch;
    let place = usize::from(unit.partition.0);
    let Some(class) = class_mut(next, unit.class) else { return false };
    let owners = class.owners.get(place).into_iter().flatten();
    let entries = class.entries.get_mut(place).into_iter().flatten();
    for (id, entry) in owners.zip(entries) {
        if *id == owner {
            *entry = epoch;
        }
    }
    for moving in class.moves.iter_mut().filter(|moving| moving.partition == unit.partition) {
        for (id, entry) in moving.other.iter().zip(&mut moving.entries) {
            if *id == owner {
                *entry = epoch;
            }
        }
    }
    true
}

/// Whether two sets of owners are the same members, in whatever order.
pub(super) fn is_same(a: &[NodeId], b: &[NodeId]) -> bool {
    a.len() == b.len() && a.iter().all(|id| b.contains(id))
}

pub(super) fn class_mut(next: &mut ClusterState, id: ClassId) -> Option<&mut crate::types::Class> {
    next.classes.get_mut(usize::from(id.0))
}

fn insert(next: &mut ClusterState, class: ClassId, moving: Move) {
    let Some(class) = class_mut(next, class) else { return };
    match class.moves.binary_search_by_key(&moving.partition, |known| known.partition) {
        Ok(place) => *class.moves.get_mut(place).expect("a place just found") = moving,
        Err(place) => class.moves.insert(place, moving),
    }
}

fn remove(next: &mut ClusterState, class: ClassId, partition: Partition) {
    if let Some(known) = class_mut(next, class) {
        known.moves.retain(|moving| moving.partition != partition);
    }
    loss::prune(next, Unit { class, partition });
}

/// Takes a unit from the queue of the plan, and remembers whose it was.
fn note_begun(next: &mut ClusterState, unit: Unit, to: &[NodeId]) {
    let from = next.owners(unit).to_vec();
    let Some(plan) = &mut next.topology.plan else { return };
    plan.queue.retain(|planned| planned.unit != unit);
    if !plan.begun.iter().any(|begun| begun.unit == unit) {
        plan.begun.push(Begun { unit, from, to: to.to_vec() });
    }
}

#[cfg(test)]
#[path = "moves_tests.rs"]
pub(super) mod tests;

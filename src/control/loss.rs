//! Units of which more copies are gone than the protocol survives. Nothing is given up before an
//! operator says so: what is stuck is found, on whom it waits is told, and what was given up is part of
//! the state until nobody of it is an owner any more. `docs/protocol/moves.md`, "More is gone".

use std::collections::BTreeSet;

use crate::message::{ErrorCode, OpError};
use crate::types::{ClusterState, Epoch, Loss, Move, MovePhase, NodeId, NodeName, Unit, limits};

use super::moves::{self, Step, StepKind};
use super::steps::{self, Heard};

/// What a stuck unit lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// Owners to fill another from.
    Copies,
    /// Old owners that acknowledge that they are read no more.
    Acknowledgements,
}

/// A unit that does not go on by itself before somebody comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The unit.
    pub unit: Unit,
    /// What it lacks.
    pub lacks: Lacks,
    /// How many are needed.
    pub wanted: usize,
    /// How many there are.
    pub have: usize,
    /// Who could make up for it, by id.
    pub missing: Vec<NodeId>,
}

/// A unit that goes on without some of its owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossOrder {
    /// The unit.
    pub unit: Unit,
    /// Its fence when this was chosen.
    pub fence: Epoch,
    /// Owners that nobody waits for any more.
    pub gone: Vec<NodeId>,
    /// Those of them that get a new entry: should one come back, it is filled before it is read.
    pub voided: Vec<NodeId>,
}

/// Other owners of the read set that `member` can be filled from.
pub(super) fn sources(
    state: &ClusterState,
    unit: Unit,
    member: NodeId,
    heard: &impl Heard,
) -> Vec<NodeId> {
    let owners = state.owners(unit).iter().filter(|id| **id != member);
    owners.filter(|id| gives(state, unit, **id, heard)).copied().collect()
}

fn gives(state: &ClusterState, unit: Unit, id: NodeId, heard: &impl Heard) -> bool {
    let entry = state.entry(unit, id).unwrap_or_default();
    // Who was given up and is back says first that it is being filled, or nothing yet.
    let counts = !state.is_given_up(unit, id) || heard.is_complete(id, unit, entry);
    heard.is_up(id) && !heard.lacks(id, unit, entry) && counts
}

/// The units that do not go on by themselves, in their order.
pub fn stuck(state: &ClusterState, heard: &impl Heard) -> Vec<Stuck> {
    let moving = state.classes.iter().flat_map(|class| {
        class.moves.iter().map(|moving| Unit { class: class.id, partition: moving.partition })
    });
    let owned =
        |(member, unit, entry): &(NodeId, Unit, Epoch)| state.entry(*unit, *member) == Some(*entry);
    let filled = heard.filled().into_iter().chain(heard.lost()).filter(owned);
    let units: BTreeSet<Unit> = moving.chain(filled.map(|(_, unit, _)| unit)).collect();
    units.into_iter().filter_map(|unit| is_stuck(state, unit, heard)).collect()
}

fn is_stuck(state: &ClusterState, unit: Unit, heard: &impl Heard) -> Option<Stuck> {
    let moving = state.moving(unit);
    let barrier = moving.and_then(|moving| lacks_barrier(state, moving, unit, heard));
    barrier.or_else(|| lacks_copies(state, unit, heard))
}

/// A move whose last barrier nobody will come to who answers.
fn lacks_barrier(
    state: &ClusterState,
    moving: &Move,
    unit: Unit,
    heard: &impl Heard,
) -> Option<Stuck> {
    let back = steps::goes_back(state, moving, unit);
    let is_due = match moving.phase {
        MovePhase::ReadOld => back && moving.was_read,
        MovePhase::ReadNew => !back,
    };
    let class = state.class(unit.class).filter(|_| is_due)?;
    let floor = usize::from(steps::read_floor(state, class));
    let behind = steps::behind(state, moving, unit, heard);
    let missing: Vec<NodeId> = behind.into_iter().filter(|id| !heard.is_up(*id)).collect();
    (missing.len() >= floor).then(|| {
        let set = moving.other.len();
        let (wanted, have) = ((set + 1).saturating_sub(floor), set - missing.len());
        Stuck { unit, lacks: Lacks::Acknowledgements, wanted, have, missing: in_order(missing) }
    })
}

/// An owner that is to be filled, and has too few to be filled from.
fn lacks_copies(state: &ClusterState, unit: Unit, heard: &impl Heard) -> Option<Stuck> {
    let new = state.moving(unit).filter(|moving| moving.phase == MovePhase::ReadOld);
    let new = new.map_or_else(Vec::new, |moving| steps::waits_for_fill(state, moving, unit, heard));
    let owners = state.owners(unit).iter().copied();
    let lacking = owners.filter(|id| {
        let entry = state.entry(unit, *id).unwrap_or_default();
        heard.lacks(*id, unit, entry)
    });
    let targets: Vec<NodeId> = lacking.chain(new).filter(|id| heard.is_up(*id)).collect();
    let wanted = state.sources_wanted(unit);
    targets.into_iter().find_map(|target| {
        let entry = state.entry(unit, target)?;
        let have = sources(state, unit, target, heard);
        // One that has lost what it had is not filled before it gets another entry.
        let is_lost = heard.lost().contains(&(target, unit, entry));
        if have.len() >= wanted || (!is_lost && state.is_enough((unit, target, entry), &have)) {
            return None;
        }
        let others = state.owners(unit).iter().filter(|id| **id != target);
        let missing = others.filter(|id| !have.contains(id)).copied().collect();
        let (have, missing) = (have.len(), in_order(missing));
        Some(Stuck { unit, lacks: Lacks::Copies, wanted, have, missing })
    })
}

fn in_order(mut ids: Vec<NodeId>) -> Vec<NodeId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What is to be done so that these units go on without `gone`.
///
/// # Errors
/// [`ErrorCode::MemberUnknown`]; [`ErrorCode::PlanInvalid`]: a member that was named answers, a unit
/// is not there, or it waits for nobody, or for somebody else too. Nothing has changed.
pub fn accept(
    state: &ClusterState,
    heard: &impl Heard,
    units: &[Unit],
    gone: &[NodeName],
) -> Result<Vec<LossOrder>, OpError> {
    let mut ids = BTreeSet::new();
    for name in gone {
        let Some(member) = state.member_named(name) else {
            let text = format!("no member is called {name}");
            return Err(OpError::new(ErrorCode::MemberUnknown, text));
        };
        if !heard.is_down(member.id) && !crate::mutant!("loss-of-the-living") {
            return Err(invalid(format!(
                "{name} is not down: nobody is given up who may still answer"
            )));
        }
        ids.insert(member.id);
    }
    units.iter().map(|unit| order(state, heard, *unit, &ids)).collect()
}

fn order(
    state: &ClusterState,
    heard: &impl Heard,
    unit: Unit,
    named: &BTreeSet<NodeId>,
) -> Result<LossOrder, OpError> {
    if state.owners(unit).is_empty() {
        return Err(invalid(format!("there is no unit {unit}")));
    }
    let Some(stuck) = is_stuck(state, unit, heard) else {
        return Err(invalid(format!(
            "unit {unit} does not wait for anybody who is gone: either it goes on by itself, or \
             nothing is done with it before a plan gives it other owners"
        )));
    };
    let writers = state.writers(unit);
    let entry = |id: NodeId| state.entry(unit, id).unwrap_or_default();
    // Who answers, and has nothing to give, is waited for no more than the dead.
    let lost = heard.lost();
    let is_lost = |id: NodeId| lost.contains(&(id, unit, entry(id)));
    let lacks = |id: NodeId| heard.lacks(id, unit, entry(id));
    let gone: Vec<NodeId> = writers
        .iter()
        .copied()
        .filter(|id| match heard.is_up(*id) {
            true => state.owners(unit).contains(id) && lacks(*id),
            false => named.contains(id),
        })
        .collect();
    let waited = stuck.missing.iter().find(|id| !gone.contains(id));
    if let Some(waited) = waited {
        let name = state.member(*waited).map_or_else(String::new, |m| m.name.to_string());
        return Err(invalid(format!(
            "unit {unit} waits for {name} too, which was not named as gone for good"
        )));
    }
    let voided = gone.iter().copied().filter(|id| !heard.is_up(*id) || is_lost(*id)).collect();
    Ok(LossOrder { unit, fence: state.changed_at(unit), gone: in_order(gone), voided })
}

fn invalid(text: String) -> OpError {
    OpError::new(ErrorCode::PlanInvalid, text)
}

/// Gives up copies, of those units that have not changed meanwhile.
pub(super) fn apply(next: &mut ClusterState, orders: &[LossOrder]) -> Result<(), OpError> {
    let mut made = 0;
    for order in orders {
        made += usize::from(give_up(next, order));
    }
    if made == 0 {
        let text = "the units have changed since it was judged what they wait for: ask again";
        return Err(OpError::new(ErrorCode::PlanConflict, text));
    }
    Ok(())
}

fn give_up(next: &mut ClusterState, order: &LossOrder) -> bool {
    let LossOrder { unit, fence, gone, voided } = order;
    if gone.is_empty() || next.changed_at(*unit) != *fence {
        return false;
    }
    if next.topology.losses.len() >= limits::LOSSES_MAX && next.loss(*unit).is_none() {
        return false;
    }
    for owner in voided {
        moves::fill_again(next, *unit, *owner);
    }
    let epoch = next.epoch;
    let place = usize::from(unit.partition.0);
    if let Some(changed) =
        moves::class_mut(next, unit.class).and_then(|class| class.changed_at.get_mut(place))
    {
        *changed = epoch;
    }
    let loss = Loss { unit: *unit, epoch, gone: gone.clone() };
    let losses = &mut next.topology.losses;
    match losses.binary_search_by_key(unit, |known| known.unit) {
        Ok(place) => *losses.get_mut(place).expect("a place just found") = loss,
        Err(place) => losses.insert(place, loss),
    }
    true
}

/// Owners that were given up and have what there is again.
pub(super) fn returned(state: &ClusterState, heard: &impl Heard) -> Vec<Step> {
    let mut steps = Vec::new();
    for Loss { unit, epoch, gone } in &state.topology.losses {
        let back = |id: &&NodeId| {
            let entry = state.entry(*unit, **id);
            // Who has not heard of it says nothing of it.
            heard.acknowledged(**id) >= *epoch
                && entry.is_some_and(|entry| heard.is_complete(**id, *unit, entry))
        };
        let fence = state.changed_at(*unit);
        let step = |id: &NodeId| Step { unit: *unit, fence, kind: StepKind::Returned(*id) };
        steps.extend(gone.iter().filter(back).map(step));
    }
    steps
}

/// An owner counts again. Returns whether it did not before.
pub(super) fn forget(next: &mut ClusterState, unit: Unit, owner: NodeId) -> bool {
    let was = next.is_given_up(unit, owner);
    retain(next, unit, |_, id| id != owner);
    was
}

/// The owners of a unit have changed: of those who are none any more nothing is waited for anyway.
pub(super) fn prune(next: &mut ClusterState, unit: Unit) {
    retain(next, unit, |state, id| state.is_writer(unit, id));
}

fn retain(next: &mut ClusterState, unit: Unit, stays: impl Fn(&ClusterState, NodeId) -> bool) {
    let Some(mut loss) = next.loss(unit).cloned() else { return };
    loss.gone.retain(|id| stays(next, *id));
    next.topology.losses.retain(|known| known.unit != unit || !loss.gone.is_empty());
    if let Some(known) = next.topology.losses.iter_mut().find(|known| known.unit == unit) {
        *known = loss;
    }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;

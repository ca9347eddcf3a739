//! A plan that stands still because owners are down, and who else is replaced meanwhile. What it lacks is
//! data that only those owners have, so nobody but they, or an operator who accepts the loss, can end it; the
//! other members that die must not wait for that. Their replacement becomes part of the plan: its aims change,
//! and the steps of moves do the rest, as with `plan retarget`. So it is with a member that the plan fills, where
//! nobody can be filled instead and those are down to whom it would be rolled back.

use super::Heard;
use crate::control::moves::is_same;
use crate::control::plan::Draft;
use crate::control::{loss, steps::steps};
use crate::types::{ClusterState, MemberBefore, MovePhase, Plan, PlanStatus, Unit};

/// Whether a running plan goes on by nothing that those who answer can do.
pub(super) fn stands_still(state: &ClusterState, heard: &impl Heard) -> bool {
    let running = state.topology.plan.as_ref().is_some_and(|p| p.status == PlanStatus::Running);
    if !running || crate::mutant!("orchestrator-waits-for-ever") {
        return false;
    }
    let stuck: Vec<Unit> = loss::stuck(state, heard).into_iter().map(|stuck| stuck.unit).collect();
    let mut moving = state.classes.iter().flat_map(|class| {
        class.moves.iter().map(|moving| Unit { class: class.id, partition: moving.partition })
    });
    !stuck.is_empty() && moving.all(|unit| stuck.contains(&unit)) && steps(state, heard).is_empty()
}

/// Whether some unit is read by its new owners, and its old ones have yet to be told: its move goes on first.
pub(super) fn is_between(state: &ClusterState) -> bool {
    let mut moves = state.classes.iter().flat_map(|class| &class.moves);
    moves.any(|moving| moving.phase != MovePhase::ReadOld)
}

/// The state as it will be at the end of the plan that is carried out, and without a plan.
pub(super) fn aimed(state: &ClusterState) -> ClusterState {
    let mut aimed = state.clone();
    let Some(plan) = aimed.topology.plan.take() else { return aimed };
    let begun = plan.begun.iter().map(|begun| (begun.unit, &begun.to));
    for (unit, to) in begun.chain(plan.queue.iter().map(|planned| (planned.unit, &planned.to))) {
        let class = aimed.classes.get_mut(usize::from(unit.class.0));
        let owners = class.and_then(|class| class.owners.get_mut(usize::from(unit.partition.0)));
        if let Some(owners) = owners {
            owners.clone_from(to);
        }
    }
    aimed.ring = plan.ring;
    aimed
}

/// Makes the aims of a plan those of a draft that was made of its [`aimed`] state. Moves that lead elsewhere
/// now go back, and begin anew.
pub(super) fn extend(next: &mut ClusterState, mut plan: Plan, draft: Draft) {
    crate::sometimes!("orchestrator: a plan that stands still is joined by another replacement");
    let mut urgent = Vec::new();
    for planned in draft.moves {
        let begun = plan.begun.iter_mut().find(|begun| begun.unit == planned.unit);
        if let Some(begun) = begun {
            begun.to = planned.to;
            continue;
        }
        plan.queue.retain(|known| known.unit != planned.unit);
        if !is_same(next.owners(planned.unit), &planned.to) {
            urgent.push(planned);
        }
    }
    urgent.append(&mut plan.queue);
    plan.queue = urgent;
    plan.total = u32::try_from(plan.begun.len() + plan.queue.len()).unwrap_or(u32::MAX);
    plan.ring = draft.ring;
    let changed = next.members.iter().zip(&draft.members).filter(|(old, new)| old != new);
    for (old, _) in changed {
        if plan.before.iter().all(|before| before.id != old.id) {
            let (weight_milli, zone) = (old.weight_milli, old.zone.clone());
            plan.before.push(MemberBefore { id: old.id, role: old.role, weight_milli, zone });
        }
    }
    next.members = draft.members;
    next.topology.plan = Some(plan);
}

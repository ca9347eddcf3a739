//! To whom a hint goes.

use super::Around;
use crate::message::Hint;
use crate::types::{ClusterState, NodeId, Plan, PlanStatus, Role};

/// Whether a member is to leave, by a plan that is not rolled back.
pub fn is_leaving(state: &ClusterState, id: NodeId) -> bool {
    let goes_on = |plan: &Plan| plan.status != PlanStatus::RollingBack;
    let leaves = state.member(id).is_some_and(|member| member.role == Role::Leaving);
    leaves && state.topology.plan.as_ref().is_some_and(goes_on)
}

/// To whom a hint for `target` goes now; to nobody while it has to wait. The target itself while it
/// owns the unit, else all owners there are: the hint may be all that is left of a write. Whoever is
/// being filled gets it as well: it may have pulled from the target already, and the write may have
/// counted stand-ins, so that no other source has it. Says besides whether it goes to others in the place of a
/// target that is waited for no more.
pub(super) fn route(target: NodeId, hint: &Hint, around: &Around<'_>) -> (Vec<NodeId>, bool) {
    if around.state.table(hint.table).is_none() {
        // Dropped: the sweep deletes it. Or not heard of yet.
        return (Vec::new(), false);
    }
    let owners = around.state.writers(hint.unit);
    let up = |id: &NodeId| *id == around.me || (around.reachable)(*id);
    let lost = |id: &NodeId| !up(id) && (around.given_up)(*id);
    let to = home(target, owners.clone(), up, hint, around);
    if !to.is_empty() || !hint.custody || !owners.iter().any(lost) {
        return (to, false);
    }
    let instead = owners.contains(&target) && lost(&target);
    (in_its_place(owners, up, hint, around), instead)
}

/// To whom it goes while its target is waited for.
fn home(
    target: NodeId,
    owners: Vec<NodeId>,
    up: impl Fn(&NodeId) -> bool,
    hint: &Hint,
    around: &Around<'_>,
) -> Vec<NodeId> {
    if hint.custody && owners.contains(&target) && around.state.has_moved(hint.unit) {
        return everybody(target, owners, up, hint, around);
    }
    let to = if owners.contains(&target) || crate::mutant!("hint-not-rerouted") {
        let filled = around.state.filling(hint.unit);
        let others = filled.into_iter().filter(|id| *id != target);
        [target].into_iter().chain(others).collect()
    } else {
        crate::sometimes!("handoff: goes to other owners");
        owners
    };
    if to.iter().all(up) { to } else { Vec::new() }
}

/// This node is to leave, and an owner has not served for long: the target, or, where that owns the unit no more, one
/// of those to whom it would all go. What counted in the target's place then goes to the other owners, if as many as
/// a write needs are there: where they hold it, the write is what it would be had they answered, for reads, for
/// whoever is filled, and for the lost one, should it ever come back. Of a unit that moves there are two sets: it
/// waits.
fn in_its_place(
    owners: Vec<NodeId>,
    up: impl Fn(&NodeId) -> bool,
    hint: &Hint,
    around: &Around<'_>,
) -> Vec<NodeId> {
    let needed = around.state.class(hint.unit.class).map_or(u8::MAX, |class| class.w_min);
    let there: Vec<NodeId> = owners.into_iter().filter(up).collect();
    let enough = there.len() >= usize::from(needed) || crate::mutant!("custody-passed-to-too-few");
    let moves = around.state.moving(hint.unit).is_some();
    if !enough || moves || crate::mutant!("custody-waits-for-the-lost") {
        return Vec::new();
    }
    crate::sometimes!("handoff: goes to the other owners of one that is lost");
    there
}

/// What counted in the place of an owner is on none of the sources that an owner which came since may
/// have been filled from: so it goes to all who are there, if they are as many as a write needs.
fn everybody(
    target: NodeId,
    owners: Vec<NodeId>,
    up: impl Fn(&NodeId) -> bool,
    hint: &Hint,
    around: &Around<'_>,
) -> Vec<NodeId> {
    crate::sometimes!("handoff: goes to owners that came since");
    let there: Vec<NodeId> = owners.into_iter().filter(up).collect();
    let needed = around.state.class(hint.unit.class).map_or(u8::MAX, |class| class.w_min);
    let read = around.state.owners(hint.unit);
    let counted = there.iter().filter(|id| read.contains(id)).count();
    let enough = counted >= usize::from(needed) && there.contains(&target);
    if enough { there } else { Vec::new() }
}

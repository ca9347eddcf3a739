//! A replacement's plan gives nothing to others that are down. The claim knows nobody's health: for the sake of
//! zones and shares it gives some units to any active member. One that is down could not be filled, the plan
//! would be rolled back because of it, and be made anew: for ever.

use std::collections::{BTreeMap, BTreeSet};

use super::Relief;
use crate::types::{ClusterState, Member, NodeId, Planned, Role, Zone};

/// The moves, with others in the places of members that are down: of a unit that has lost an owner, somebody
/// who is there; other units stay where they are. The next plan has the rest.
///
/// # Errors
/// In words: nobody is left who could have a unit.
pub(super) fn around(
    state: &ClusterState,
    members: &[Member],
    moves: Vec<Planned>,
    (reliefs, down): (&[Relief], &[NodeId]),
) -> Result<Vec<Planned>, String> {
    if crate::mutant!("orchestrator-fills-the-dead") {
        return Ok(moves);
    }
    let takes = |member: &&Member| member.role == Role::Active && !down.contains(&member.id);
    let mut load: BTreeMap<NodeId, (usize, &Zone)> =
        members.iter().filter(takes).map(|member| (member.id, (0, &member.zone))).collect();
    let new = moves.iter().map(|planned| (planned.unit, &planned.to)).collect::<BTreeMap<_, _>>();
    for unit in state.units() {
        let owners = new.get(&unit).map_or(state.owners(unit), |to| to);
        for id in owners {
            load.entry(*id).and_modify(|(count, _)| *count += 1);
        }
    }
    let zone_of = |id: NodeId| members.iter().find(|m| m.id == id).map(|member| &member.zone);
    let mut kept = Vec::with_capacity(moves.len());
    for mut planned in moves.iter().cloned() {
        let from = state.owners(planned.unit);
        if !planned.to.iter().any(|id| down.contains(id) && !from.contains(id)) {
            kept.push(planned);
            continue;
        }
        crate::sometimes!("orchestrator: a plan leads around a member that is down");
        let relief = |id: NodeId| reliefs.iter().find(|relief| relief.member == id);
        if !from.iter().any(|id| relief(*id).is_some()) {
            continue;
        }
        let mut to = from.to_vec();
        for place in 0..to.len() {
            let Some(relief) = to.get(place).and_then(|id| relief(*id)) else { continue };
            let is_free = |id: &NodeId| load.contains_key(id) && !to.contains(id);
            let others = to.iter().filter(|id| **id != relief.member);
            let zones: BTreeSet<&Zone> = others.filter_map(|id| zone_of(*id)).collect();
            let least = load.iter().filter(|(id, _)| is_free(id));
            let least = least.min_by_key(|(_, (count, zone))| (zones.contains(zone), *count));
            let by = relief.by.filter(is_free).or(least.map(|(id, _)| *id));
            let by = by.ok_or("every member that is up owns it already")?;
            load.entry(by).and_modify(|(count, _)| *count += 1);
            if let Some(owner) = to.get_mut(place) {
                *owner = by;
            }
        }
        planned.to = to;
        kept.push(planned);
    }
    Ok(kept)
}

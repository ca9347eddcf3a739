//! New lineages: what an operator makes of the cluster state when the majority of its council is gone for
//! good, and who may follow it there. `docs/protocol/decree.md`, "A new lineage".

use xxhash_rust::xxh3::xxh3_128;

use crate::message::{ErrorCode, OpError};
use crate::types::{ClusterState, Epoch, Lineage, NodeId, NodeName, Role, limits};

use super::{canonical, members};

/// What a node has heard of a member, as far as a new lineage is concerned.
pub trait Seen {
    /// Whether it is held to be dead.
    fn is_down(&self, member: NodeId) -> bool;
    /// The newest epoch it has told.
    fn epoch(&self, member: NodeId) -> Epoch;
}

/// The first state of a new lineage, made at `me` out of the newest state it holds, without the members
/// called `gone`, who are never accepted again. Those of them that own units stay owners until a plan
/// gives these to others, and are leaving until then. `nonce` is random, so that two lineages that are
/// forced out of one state can be told apart.
///
/// # Errors
/// [`ErrorCode::MemberUnknown`]; [`ErrorCode::PlanInvalid`]: a member that was named answers, the council
/// can decide without them or once others come back, or somebody who answers holds a newer state.
pub fn force(
    state: &ClusterState,
    me: NodeId,
    gone: &[NodeName],
    nonce: u128,
    seen: &impl Seen,
) -> Result<ClusterState, OpError> {
    let gone = named(state, me, gone, seen)?;
    let left = state.council.iter().filter(|id| !gone.contains(id));
    let left: Vec<&NodeId> = left.collect();
    if left.len() > state.council.len() / 2 && !crate::mutant!("lineage-beside-council") {
        let names = left.iter().filter_map(|id| state.member(**id));
        let names: Vec<&str> = names.map(|member| member.name.as_str()).collect();
        return Err(invalid(format!(
            "the rest of the council ({}) can decide without those that were named: a new lineage \
             would be a second cluster beside it",
            names.join(", ")
        )));
    }
    let stays = |id: &NodeId| !gone.contains(id) && !seen.is_down(*id);
    let ahead = state
        .members
        .iter()
        .find(|member| member.id != me && stays(&member.id) && seen.epoch(member.id) > state.epoch);
    if let Some(ahead) = ahead {
        let (name, epoch) = (&ahead.name, seen.epoch(ahead.id));
        return Err(invalid(format!(
            "{name} knows epoch {epoch}, and this node only {}: what was decided since would be \
             forgotten; do it there",
            state.epoch
        )));
    }
    let Some(lineage) = state.lineage.0.checked_add(1).map(Lineage) else {
        return Err(invalid("all lineages have been used".to_owned()));
    };
    if state.topology.origins.len() >= limits::LINEAGES_MAX {
        return Err(invalid(format!("there were {} lineages already", limits::LINEAGES_MAX)));
    }
    let parent = canonical::state_hash(state);
    let mut next = ClusterState {
        // Above whatever the council may have decided without this node's hearing of it.
        epoch: Epoch(state.epoch.0.saturating_add(limits::FORCED_EPOCHS)),
        parent,
        lineage,
        ..state.clone()
    };
    exclude(&mut next, &gone);
    let is_lost = |id: NodeId| id != me && seen.is_down(id);
    next.council = members::council(&next.members, &[me], is_lost);
    next.topology.origins.push(origin(parent, nonce, &gone));
    Ok(next)
}

fn named(
    state: &ClusterState,
    me: NodeId,
    names: &[NodeName],
    seen: &impl Seen,
) -> Result<Vec<NodeId>, OpError> {
    let mut gone = Vec::new();
    for name in names {
        let Some(member) = state.member_named(name) else {
            let text = format!("no member is called {name}");
            return Err(OpError::new(ErrorCode::MemberUnknown, text));
        };
        if member.id == me {
            return Err(invalid(format!("{name} is this node itself")));
        }
        if !seen.is_down(member.id) {
            return Err(invalid(format!("{name} is not down: stop it, or leave it out")));
        }
        gone.push(member.id);
    }
    gone.sort_unstable();
    gone.dedup();
    Ok(gone)
}

/// These members are never accepted again, and own what they own until others do.
fn exclude(next: &mut ClusterState, gone: &[NodeId]) {
    let mut births = Vec::new();
    for member in next.members.iter_mut().filter(|member| gone.contains(&member.id)) {
        member.role = Role::Leaving;
        births.push((member.id, member.birth));
    }
    let topology = &mut next.topology;
    topology.gone.retain(|known| !births.contains(known));
    topology.gone.extend(births);
    let over = topology.gone.len().saturating_sub(limits::GONE_MAX);
    topology.gone.drain(..over);
    topology.staged.clear();
    if let Some(plan) = &mut topology.plan {
        for before in plan.before.iter_mut().filter(|before| gone.contains(&before.id)) {
            before.role = Role::Leaving;
        }
    }
}

/// What a lineage is told by: its number may have been given twice.
fn origin(parent: u128, nonce: u128, gone: &[NodeId]) -> u128 {
    let mut bytes = b"roundtable.lineage.1".to_vec();
    bytes.extend_from_slice(&parent.to_le_bytes());
    bytes.extend_from_slice(&nonce.to_le_bytes());
    gone.iter().for_each(|id| bytes.extend_from_slice(&id.0.to_le_bytes()));
    xxh3_128(&bytes)
}

/// Whether a node with `own` state may go on with one of a later lineage.
///
/// # Errors
/// Why it may not, in words.
pub fn may_follow(own: &ClusterState, theirs: &ClusterState) -> Result<(), String> {
    let (known, told) = (&own.topology.origins, &theirs.topology.origins);
    if own.cluster != theirs.cluster || theirs.lineage <= own.lineage {
        return Err(format!("lineage {} is not later than {}", theirs.lineage, own.lineage));
    }
    if !told.starts_with(known) && !crate::mutant!("rival-lineages-merge") {
        return Err(format!(
            "lineage {} does not come from lineage {} of this node, but from another one of that number: \
             two were forced, and one of them has to go (docs/operating.md)",
            theirs.lineage, own.lineage
        ));
    }
    if theirs.epoch <= own.epoch {
        return Err(format!(
            "this node has gone on to epoch {}, and lineage {} began before that, at epoch {}",
            own.epoch, theirs.lineage, theirs.epoch
        ));
    }
    Ok(())
}

fn invalid(text: String) -> OpError {
    OpError::new(ErrorCode::PlanInvalid, text)
}

#[cfg(test)]
#[path = "lineage_tests.rs"]
mod tests;

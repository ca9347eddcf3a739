//! Which units a reserved member mirrors: a pure rule of the cluster state, and of who is known to be gone.
//! `docs/protocol/mirror.md`.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{ClusterState, Member, NodeId, Role, Staged, Unit, Zone};

/// The active members whose units `me` mirrors, in the order in which they are mirrored: each active member has one
/// reserved member that mirrors it, of its own zone where there is one. Empty unless `me` is reserved. `gone` take
/// no part.
pub fn mirrored(state: &ClusterState, me: NodeId, gone: &[NodeId]) -> Vec<NodeId> {
    let leaves = |id: NodeId| state.topology.staged.contains(&Staged::Leave(id));
    let mut reserves: Vec<&Member> = state
        .members
        .iter()
        .filter(|member| member.role == Role::Reserved)
        .filter(|member| member.id == me || !gone.contains(&member.id) && !leaves(member.id))
        .collect();
    reserves.sort_by_key(|member| member.id);
    let mut active: Vec<&Member> =
        state.members.iter().filter(|member| member.role == Role::Active).collect();
    active.sort_by_key(|member| member.id);
    let mut dealt: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    let zones: BTreeSet<&Zone> = reserves.iter().map(|member| &member.zone).collect();
    let is_near = |member: &&&Member| zones.contains(&member.zone);
    let others = active.iter().filter(|member| !is_near(member));
    for member in active.iter().filter(is_near).chain(others) {
        let is_of_zone =
            |reserve: &&&Member| !zones.contains(&member.zone) || reserve.zone == member.zone;
        // In turn: to the one that has the fewest.
        let count = |reserve: &&&Member| dealt.get(&reserve.id).map_or(0, Vec::len);
        let Some(to) = reserves.iter().filter(is_of_zone).min_by_key(count) else { continue };
        dealt.entry(to.id).or_default().push(member.id);
    }
    dealt.remove(&me).unwrap_or_default()
}

/// The units of members, those of the first one first.
pub fn units_of(state: &ClusterState, members: &[NodeId]) -> Vec<Unit> {
    let mut seen = BTreeSet::new();
    let mut units = Vec::new();
    for member in members {
        let owned = state.units().filter(|unit| state.owners(*unit).contains(member));
        units.extend(owned.filter(|unit| seen.insert(*unit)));
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::schema::tests::state;
    use crate::types::Nonce;

    fn cluster(reserved: &[&str]) -> ClusterState {
        let mut state = state(5, 3);
        for (id, zone) in (6u32..).zip(reserved) {
            state.members.push(Member {
                id: NodeId(id),
                name: format!("n{id}").parse().unwrap(),
                zone: Zone::try_from((*zone).to_owned()).unwrap(),
                role: Role::Reserved,
                birth: Nonce(u128::from(id)),
                ..state.members[0].clone()
            });
        }
        state
    }

    fn told(state: &ClusterState, me: u32, gone: &[u32]) -> Vec<u32> {
        let gone: Vec<NodeId> = gone.iter().copied().map(NodeId).collect();
        mirrored(state, NodeId(me), &gone).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn each_active_member_is_mirrored_by_one_reserve_of_its_zone_if_there_is_one() {
        let members = cluster(&[]).members;
        let zones: Vec<&str> = members.iter().map(|member| member.zone.as_str()).collect();
        assert_eq!(zones, ["z0", "z1", "z2", "z0", "z1"]);
        assert_eq!(told(&cluster(&["z1"]), 6, &[]), [2, 5, 1, 3, 4]);
        let two = cluster(&["z1", "z0"]);
        assert_eq!((told(&two, 6, &[]), told(&two, 7, &[])), (vec![2, 5, 3], vec![1, 4]));
        let same = cluster(&["z1", "z1"]);
        assert_eq!((told(&same, 6, &[]), told(&same, 7, &[])), (vec![2, 1, 4], vec![5, 3]));
        // Who is gone, or is to leave, mirrors nothing that others could.
        assert_eq!(told(&same, 6, &[7]), [2, 5, 1, 3, 4]);
        let mut leaving = same.clone();
        leaving.topology.staged.push(Staged::Leave(NodeId(7)));
        assert_eq!(told(&leaving, 6, &[]), [2, 5, 1, 3, 4]);
        assert_eq!(told(&same, 1, &[]), [0_u32; 0]);
    }

    #[test]
    fn units_of_several_members_are_named_once() {
        let state = cluster(&["z1"]);
        let owned = |id: u32| -> Vec<Unit> {
            state.units().filter(|unit| state.owners(*unit).contains(&NodeId(id))).collect()
        };
        let units = units_of(&state, &[NodeId(2), NodeId(5)]);
        assert!(units.starts_with(&owned(2)));
        let all: BTreeSet<Unit> = owned(2).into_iter().chain(owned(5)).collect();
        assert_eq!(units.len(), all.len());
        assert_eq!(units.into_iter().collect::<BTreeSet<_>>(), all);
    }
}

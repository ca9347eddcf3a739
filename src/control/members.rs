//! Who comes, where members listen, and who decides. Who goes does so at the end of a plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::{Applicant, ErrorCode, MemberChange, OpError};
use crate::types::{ClusterState, Member, NodeId, Role, limits};

/// Makes a change of members.
pub(super) fn apply(next: &mut ClusterState, change: &MemberChange) -> Result<(), OpError> {
    match change {
        MemberChange::Admit(applicant) => admit(next, applicant),
        MemberChange::Move { id, addresses } => {
            let member = next.members.iter_mut().find(|member| member.id == *id);
            let Some(member) = member else {
                let text = format!("there is no member {id}");
                return Err(OpError::new(ErrorCode::MemberUnknown, text));
            };
            member.addresses.clone_from(addresses);
            Ok(())
        }
        MemberChange::Council { epoch, seats } => {
            // `next` has its number already.
            if epoch.0.checked_add(1) != Some(next.epoch.0) || !is_council(next, seats) {
                let text = "the council was chosen on another state";
                return Err(OpError::new(ErrorCode::PlanConflict, text));
            }
            next.council.clone_from(seats);
            Ok(())
        }
    }
}

fn is_council(state: &ClusterState, seats: &[NodeId]) -> bool {
    let distinct: BTreeSet<&NodeId> = seats.iter().collect();
    let known = seats.iter().all(|id| state.member(*id).is_some());
    known && distinct.len() == seats.len() && seats.len() % 2 == 1
}

/// A node becomes a reserved member. One that was admitted before, and has not heard of it, is found
/// by its birth: it gets no second id.
fn admit(next: &mut ClusterState, applicant: &Applicant) -> Result<(), OpError> {
    let Applicant { name, birth, addresses, zone, weight_milli, feature_level } = applicant;
    if let Some(member) = next.member_named(name) {
        let (id, same) = (member.id, member.birth == *birth);
        let text = if same {
            format!("{name} is member {id} already")
        } else {
            format!(
                "there is another member called {name}, with id {id}: choose another name, or let \
                 that one leave first"
            )
        };
        return Err(OpError::new(ErrorCode::MemberExists, text));
    }
    if next.members.len() >= limits::MEMBERS_MAX {
        let most = limits::MEMBERS_MAX;
        let text = format!("the cluster has {most} members, which is the limit");
        return Err(OpError::new(ErrorCode::PlanInvalid, text).with_limit(most, most));
    }
    if *feature_level < next.feature_level {
        let level = next.feature_level;
        let text =
            format!("{name} knows feature level {feature_level}, the cluster is at level {level}");
        return Err(OpError::new(ErrorCode::PlanInvalid, text));
    }
    let Some(id) = next.topology.member_id_max.0.checked_add(1).map(NodeId) else {
        return Err(OpError::new(ErrorCode::PlanInvalid, "all member ids have been given"));
    };
    next.topology.member_id_max = id;
    next.members.push(Member {
        id,
        name: name.clone(),
        addresses: addresses.clone(),
        zone: zone.clone(),
        weight_milli: *weight_milli,
        role: Role::Reserved,
        birth: *birth,
    });
    Ok(())
}

/// How many seats a council of so many members has.
fn seats(members: usize) -> usize {
    match members {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    }
}

/// Who decides the next epoch: 5 members, or 3, or 1, over as many zones as there are; each zone
/// gives its next member in turn. Members of any role but leaving ones can sit. Those who sit stay
/// where the zones allow it; those who are lost sit only where nobody else can.
pub(super) fn council(
    members: &[Member],
    now: &[NodeId],
    is_lost: impl Fn(NodeId) -> bool,
) -> Vec<NodeId> {
    let stays = |member: &&Member| member.role != Role::Leaving;
    let count = seats(members.iter().filter(stays).count());
    let turns = |lost: bool| {
        let mut zones: BTreeMap<_, Vec<NodeId>> = BTreeMap::new();
        for member in members.iter().filter(stays).filter(|member| is_lost(member.id) == lost) {
            zones.entry(&member.zone).or_default().push(member.id);
        }
        // Who sits comes first, in its zone and in its turn: a seat changes hands only where it must.
        let by_seat = |ids: &mut Vec<NodeId>| ids.sort_by_key(|id| (!now.contains(id), *id));
        zones.values_mut().for_each(by_seat);
        let deepest = zones.values().map(Vec::len).max().unwrap_or(0);
        let mut list = Vec::new();
        for turn in 0..deepest {
            let mut ids = zones.values().filter_map(|z| z.get(turn)).copied().collect();
            if !now.is_empty() {
                by_seat(&mut ids);
            }
            list.append(&mut ids);
        }
        list
    };
    let mut council: Vec<NodeId> =
        turns(false).into_iter().chain(turns(true)).take(count).collect();
    council.sort_unstable();
    council
}

/// The council that should decide, when it is another one than now: seats of members that have been
/// down for long, or are to leave, go to others; and a cluster that has grown gets its seats.
pub fn council_wanted(
    state: &ClusterState,
    is_lost: impl Fn(NodeId) -> bool,
) -> Option<Vec<NodeId>> {
    let wanted = council(&state.members, &state.council, is_lost);
    let valid = is_council(state, &wanted) && wanted != state.council;
    valid.then_some(wanted)
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;

//! Plans: what is staged, what it would move, and what a committed one makes of the state. A plan is
//! committed by the hash of its *inputs*: if they are the same, so is the plan, since the claim is a
//! pure function of them. Only one plan is carried out at a time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_128;

use crate::message::{ErrorCode, OpError, PlanChange, StageOrder};
use crate::ring::{Before, claim};
use crate::types::{
    ClusterState, Member, MemberBefore, NodeId, NodeName, Plan, PlanStatus, Planned, Role, Staged,
    Unit, limits,
};

use super::moves::is_same;
use super::{canonical, members, schema};

/// What a plan would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The hash of its inputs.
    pub hash: u128,
    /// Why it cannot be carried out; empty when it can.
    pub reasons: Vec<String>,
    /// The members, with the roles, weights and zones they will have.
    pub members: Vec<Member>,
    /// The ring afterwards.
    pub ring: Vec<NodeId>,
    /// The units whose owners change, in the order in which they are moved.
    pub moves: Vec<Planned>,
}

/// The plan that the staged changes make on top of `state`.
pub fn draft(state: &ClusterState) -> Draft {
    let staged = state.topology.staged.iter();
    let replaced = staged.filter_map(|staged| match staged {
        Staged::Replace { old, .. } => Some(*old),
        Staged::Join(_) | Staged::Leave(_) | Staged::Set { .. } => None,
    });
    draft_of(state, members_after(state), &replaced.collect())
}

/// The plan that makes these of the members, and why it cannot. Units of `replaced` go first.
pub(super) fn draft_of(
    state: &ClusterState,
    (members, mut reasons): (Vec<Member>, Vec<String>),
    replaced: &BTreeSet<NodeId>,
) -> Draft {
    let mut draft = Draft {
        hash: inputs_hash(state),
        reasons: Vec::new(),
        members,
        ring: state.ring.clone(),
        moves: Vec::new(),
    };
    if let Some(plan) = &state.topology.plan {
        reasons.push(format!("plan {:032x} is carried out: it has to end first", plan.hash));
    } else if reasons.is_empty() {
        reasons.extend(place(state, &mut draft).err());
        draft.moves = in_order(state, core::mem::take(&mut draft.moves), replaced);
    }
    draft.reasons = reasons;
    draft
}

/// The plan that gives units these owners, and changes nothing else: neither members nor the ring. Later claims keep
/// such owners as long as the walk does not change there (`docs/ring.md`).
pub(super) fn draft_of_moves(state: &ClusterState, moves: Vec<Planned>) -> Draft {
    let mut bytes = inputs_hash(state).to_le_bytes().to_vec();
    for Planned { unit, to } in &moves {
        bytes.extend_from_slice(&unit.class.0.to_le_bytes());
        bytes.extend_from_slice(&unit.partition.0.to_le_bytes());
        to.iter().for_each(|id| bytes.extend_from_slice(&id.0.to_le_bytes()));
    }
    let plan = state.topology.plan.as_ref();
    let reason =
        |plan: &Plan| format!("plan {:032x} is carried out: it has to end first", plan.hash);
    Draft {
        hash: xxh3_128(&bytes),
        reasons: plan.map(reason).into_iter().collect(),
        members: state.members.clone(),
        ring: state.ring.clone(),
        moves,
    }
}

/// Hash of what a plan depends on: members, ring, owners and what is staged. Tables, addresses and
/// epochs are not among them.
fn inputs_hash(state: &ClusterState) -> u128 {
    let mut inputs = ClusterState {
        epoch: crate::types::Epoch(0),
        parent: 0,
        council: Vec::new(),
        tables: Vec::new(),
        table_id_max: crate::types::TableId(0),
        dropped_at: crate::types::Epoch(0),
        recent_changes: Vec::new(),
        ..state.clone()
    };
    inputs.topology.decisions.clear();
    for member in &mut inputs.members {
        member.addresses = crate::types::Addresses::default();
    }
    xxh3_128(&canonical::state_hash(&inputs).to_le_bytes())
}

/// The members with what is staged applied, and why some of it cannot be.
fn members_after(state: &ClusterState) -> (Vec<Member>, Vec<String>) {
    let mut members = state.members.clone();
    let mut reasons = Vec::new();
    for staged in &state.topology.staged {
        reasons.extend(apply_staged(&mut members, staged).err());
    }
    (members, reasons)
}

fn apply_staged(members: &mut [Member], staged: &Staged) -> Result<(), String> {
    match staged {
        Staged::Join(id) => set_role(members, *id, Role::Active),
        Staged::Leave(id) => set_role(members, *id, Role::Leaving),
        Staged::Replace { old, new } => {
            set_role(members, *old, Role::Leaving)?;
            set_role(members, *new, Role::Active)
        }
        Staged::Set { member, weight_milli, zone } => {
            let member = find(members, *member)?;
            member.weight_milli = weight_milli.unwrap_or(member.weight_milli);
            member.zone = zone.clone().unwrap_or_else(|| member.zone.clone());
            Ok(())
        }
    }
}

fn find(members: &mut [Member], id: NodeId) -> Result<&mut Member, String> {
    let found = members.iter_mut().find(|member| member.id == id);
    found.ok_or_else(|| format!("there is no member {id} any more"))
}

fn set_role(members: &mut [Member], id: NodeId, role: Role) -> Result<(), String> {
    find(members, id)?.role = role;
    Ok(())
}

/// Claims the owners of all classes; says why there is no claim.
fn place(state: &ClusterState, draft: &mut Draft) -> Result<(), String> {
    let staying = draft.members.iter().filter(|member| member.role != Role::Leaving).count();
    if staying == 0 {
        return Err("no member would stay".to_owned());
    }
    let players = schema::players(&draft.members);
    let partitions = state.settings.partitions;
    let mut placed: BTreeMap<u8, Vec<Vec<NodeId>>> = BTreeMap::new();
    let mut moves = Vec::new();
    for class in &state.classes {
        let owners = match placed.entry(class.n) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                let before = Before { ring: &state.ring, owners: &class.owners };
                let claimed = claim(&players, partitions, class.n, Some(before));
                let claimed = claimed.map_err(|error| not_placed(state, class.n, &error))?;
                if class.id.0 == 0 {
                    draft.ring = claimed.ring;
                }
                vacant.insert(claimed.owners)
            }
        };
        for ((partition, to), from) in state.partitions().zip(&*owners).zip(&class.owners) {
            if !is_same(from, to) {
                let unit = Unit { class: class.id, partition };
                moves.push(Planned { unit, to: to.clone() });
            }
        }
    }
    draft.moves = moves;
    Ok(())
}

fn not_placed(state: &ClusterState, n: u8, error: &crate::ring::ClaimError) -> String {
    let of_n = state.tables.iter().filter(|table| table.n == n);
    let names: Vec<&str> = of_n.map(|table| table.name.as_str()).take(8).collect();
    match names.is_empty() {
        true => error.to_string(),
        false => format!("{error} (n is {n} in: {})", names.join(", ")),
    }
}

/// Replacements go first: what they leave is short of a copy. The rest takes turns over the members
/// that are filled, so that no single one is filled alone.
fn in_order(
    state: &ClusterState,
    moves: Vec<Planned>,
    replaced: &BTreeSet<NodeId>,
) -> Vec<Planned> {
    let mut turns: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut keyed: Vec<((bool, u32), Planned)> = moves
        .into_iter()
        .map(|planned| {
            let owners = state.owners(planned.unit);
            let urgent = owners.iter().any(|id| replaced.contains(id));
            let filled = planned.to.iter().find(|id| !owners.contains(id)).copied();
            let turn = turns.entry(filled.unwrap_or_default()).or_default();
            *turn += 1;
            ((!urgent, *turn), planned)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, planned)| planned).collect()
}

/// Makes a change of what is staged or carried out.
pub(super) fn apply(next: &mut ClusterState, change: &PlanChange) -> Result<(), OpError> {
    match change {
        PlanChange::Stage(order) => stage(next, order),
        PlanChange::Clear => {
            next.topology.staged.clear();
            Ok(())
        }
        PlanChange::Commit(hash) => commit(next, *hash),
        PlanChange::Pause => set_status(next, PlanStatus::Running, PlanStatus::Paused),
        PlanChange::Resume => resume(next),
        PlanChange::RollBack => roll_back(next),
        PlanChange::Retarget { old, new } => retarget(next, old, new, Role::Leaving),
        // A node makes orders of it, by what it has heard: what is stuck is no property of a state.
        PlanChange::Grow(_) | PlanChange::Dismiss(_) => {
            Err(invalid("what is proposed has not been judged"))
        }
        PlanChange::AcceptLoss { .. } => Err(invalid("which owners are gone has not been judged")),
    }
}

fn invalid(text: impl Into<String>) -> OpError {
    OpError::new(ErrorCode::PlanInvalid, text)
}

fn named(state: &ClusterState, name: &NodeName) -> Result<Member, OpError> {
    let text = || format!("no member is called {name}");
    let found = state.member_named(name).cloned();
    found.ok_or_else(|| OpError::new(ErrorCode::MemberUnknown, text()))
}

fn stage(next: &mut ClusterState, order: &StageOrder) -> Result<(), OpError> {
    let staged = match order {
        StageOrder::Join(name) => Staged::Join(reserved(next, name)?.id),
        StageOrder::Leave(name) => Staged::Leave(staying(next, name)?.id),
        StageOrder::Replace { old, new } => {
            let (old, new) = (staying(next, old)?.id, reserved(next, new)?.id);
            if old == new {
                return Err(invalid("a member cannot replace itself"));
            }
            Staged::Replace { old, new }
        }
        StageOrder::Set { member, weight_milli, zone } => {
            if weight_milli.is_none() && zone.is_none() {
                return Err(invalid("neither a weight nor a zone is set"));
            }
            let (member, weight_milli) = (named(next, member)?.id, *weight_milli);
            Staged::Set { member, weight_milli, zone: zone.clone() }
        }
    };
    let is_set = |staged: &Staged| matches!(staged, Staged::Set { .. });
    let touched = touched(&staged);
    let replaces = |known: &Staged| {
        is_set(known) == is_set(&staged)
            && self::touched(known).iter().any(|id| touched.contains(id))
    };
    next.topology.staged.retain(|known| !replaces(known));
    if next.topology.staged.len() >= limits::STAGED_MAX {
        let most = limits::STAGED_MAX;
        return Err(invalid(format!("{most} changes are staged, which is the limit")));
    }
    next.topology.staged.push(staged);
    Ok(())
}

/// The members that a staged change is about.
fn touched(staged: &Staged) -> Vec<NodeId> {
    match staged {
        Staged::Join(id) | Staged::Leave(id) | Staged::Set { member: id, .. } => vec![*id],
        Staged::Replace { old, new } => vec![*old, *new],
    }
}

fn reserved(state: &ClusterState, name: &NodeName) -> Result<Member, OpError> {
    let member = named(state, name)?;
    match member.role {
        Role::Reserved => Ok(member),
        role => {
            Err(invalid(format!("{name} is {}: only a reserved member can join", role.as_str())))
        }
    }
}

fn staying(state: &ClusterState, name: &NodeName) -> Result<Member, OpError> {
    let member = named(state, name)?;
    match member.role {
        Role::Active | Role::Reserved => Ok(member),
        Role::Leaving => Err(invalid(format!("{name} is leaving already"))),
    }
}

fn commit(next: &mut ClusterState, hash: u128) -> Result<(), OpError> {
    if next.topology.plan.as_ref().is_some_and(|plan| plan.hash == hash) {
        return Err(OpError::new(ErrorCode::PlanConflict, "this plan is carried out already"));
    }
    if next.topology.staged.is_empty() {
        return Err(OpError::new(ErrorCode::PlanConflict, "nothing is staged any more"));
    }
    // `next` differs from the state before in nothing that the plan depends on.
    let draft = draft(next);
    if draft.hash != hash {
        let text = format!(
            "what the plan depends on has changed since it was shown: its hash is {:032x} now; show \
             it again",
            draft.hash
        );
        return Err(OpError::new(ErrorCode::PlanConflict, text));
    }
    if !draft.reasons.is_empty() {
        return Err(invalid(draft.reasons.join("; ")));
    }
    next.topology.staged.clear();
    begin(next, draft);
    Ok(())
}

/// Carries a plan out from now on.
pub(super) fn begin(next: &mut ClusterState, draft: Draft) {
    let changed = next.members.iter().zip(&draft.members).filter(|(old, new)| old != new);
    let before = changed.map(|(old, _)| MemberBefore {
        id: old.id,
        role: old.role,
        weight_milli: old.weight_milli,
        zone: old.zone.clone(),
    });
    let plan = Plan {
        hash: draft.hash,
        since: next.epoch,
        status: PlanStatus::Running,
        ring: draft.ring,
        total: u32::try_from(draft.moves.len()).unwrap_or(u32::MAX),
        queue: draft.moves,
        begun: Vec::new(),
        before: before.collect(),
        ring_before: next.ring.clone(),
    };
    next.members = draft.members;
    next.topology.plan = Some(plan);
}

/// Goes on with a plan that was paused, or forward again with one that is rolled back: whom it would go
/// back to may be gone for good.
fn resume(next: &mut ClusterState) -> Result<(), OpError> {
    let rolls_back = |plan: &Plan| plan.status == PlanStatus::RollingBack;
    let from = match next.topology.plan.as_ref().is_some_and(rolls_back) {
        true => PlanStatus::RollingBack,
        false => PlanStatus::Paused,
    };
    set_status(next, from, PlanStatus::Running)
}

fn set_status(next: &mut ClusterState, from: PlanStatus, to: PlanStatus) -> Result<(), OpError> {
    let Some(plan) = &mut next.topology.plan else {
        return Err(OpError::new(ErrorCode::PlanConflict, "no plan is carried out"));
    };
    if plan.status != from {
        return Err(OpError::new(
            ErrorCode::PlanConflict,
            match plan.status {
                PlanStatus::Running => "the plan is running",
                PlanStatus::Paused => "the plan is paused",
                PlanStatus::RollingBack => "the plan is being rolled back",
            },
        ));
    }
    plan.status = to;
    Ok(())
}

pub(super) fn roll_back(next: &mut ClusterState) -> Result<(), OpError> {
    let Some(plan) = &mut next.topology.plan else {
        return Err(OpError::new(ErrorCode::PlanConflict, "no plan is carried out"));
    };
    plan.status = PlanStatus::RollingBack;
    Ok(())
}

/// Another member takes the place of one that the plan gives units to. Moves to the old one are in their
/// first phase, so they go back at once and begin anew.
pub(super) fn retarget(
    next: &mut ClusterState,
    old: &NodeName,
    new: &NodeName,
    then: Role,
) -> Result<(), OpError> {
    let (old, new) = (staying(next, old)?, reserved(next, new)?);
    let owned = next.classes.iter().flat_map(|class| class.owners.iter().flatten());
    if owned.into_iter().any(|id| *id == old.id) && !crate::mutant!("retarget-owner") {
        let name = &old.name;
        return Err(invalid(format!(
            "units of {name} are read already: let the plan end, or roll it back, and replace {name} then"
        )));
    }
    if old.zone != new.zone {
        let (old, new) = ((&old.name, old.zone.as_str()), (&new.name, new.zone.as_str()));
        return Err(invalid(format!(
            "{} is in zone {:?} and {} in {:?}: the owners were chosen by zones",
            old.0, old.1, new.0, new.1
        )));
    }
    let Some(plan) = &mut next.topology.plan else {
        return Err(OpError::new(ErrorCode::PlanConflict, "no plan is carried out"));
    };
    if plan.status == PlanStatus::RollingBack {
        return Err(OpError::new(ErrorCode::PlanConflict, "the plan is being rolled back"));
    }
    let queued = plan.queue.iter_mut().map(|planned| &mut planned.to);
    let begun = plan.begun.iter_mut().map(|begun| &mut begun.to);
    let lists = queued.chain(begun).chain([&mut plan.ring]);
    let mut named = 0;
    for id in lists.flatten().filter(|id| **id == old.id) {
        *id = new.id;
        named += 1;
    }
    if named == 0 {
        let name = &old.name;
        return Err(invalid(format!(
            "the plan gives {name} nothing: there is nothing to be replaced"
        )));
    }
    plan.before.push(MemberBefore {
        id: new.id,
        role: new.role,
        weight_milli: new.weight_milli,
        zone: new.zone.clone(),
    });
    for member in &mut next.members {
        if member.id == new.id {
            (member.role, member.weight_milli) = (Role::Active, old.weight_milli);
        } else if member.id == old.id {
            member.role = then;
        }
    }
    Ok(())
}

/// Whether these are the owners to which the plan would move a unit now.
pub(super) fn is_wanted(state: &ClusterState, unit: Unit, to: &[NodeId]) -> bool {
    let Some(plan) = &state.topology.plan else { return false };
    let forward = plan.status != PlanStatus::RollingBack;
    let queued = plan.queue.iter().any(|planned| planned.unit == unit && planned.to == to);
    let begun = plan.begun.iter().find(|begun| begun.unit == unit);
    let aim = begun.map(|begun| if forward { &begun.to } else { &begun.from });
    aim.map_or(forward && queued, |aim| aim == to)
}

/// Whether a queued unit is not yet where the plan wants it. One whose place was to be taken may have come
/// back, and taken the place of its successor: then it is there without a move.
pub(super) fn has_to_move(state: &ClusterState, planned: &Planned) -> bool {
    !is_same(state.owners(planned.unit), &planned.to) || crate::mutant!("queued-without-a-move")
}

/// Takes a unit out of what is rolled back. Returns whether it was in it.
pub(super) fn leave_where_it_is(next: &mut ClusterState, unit: Unit) -> bool {
    let Some(plan) = &mut next.topology.plan else { return false };
    let known = plan.begun.len();
    if plan.status == PlanStatus::RollingBack {
        plan.begun.retain(|begun| begun.unit != unit);
    }
    plan.begun.len() < known
}

/// Ends the plan if there is nothing left to do. Members that leave and own nothing go. Returns
/// whether it did.
pub(super) fn end(next: &mut ClusterState) -> bool {
    let moving = next.classes.iter().any(|class| !class.moves.is_empty());
    let Some(plan) = next.topology.plan.clone().filter(|_| !moving) else { return false };
    let is_at = |unit: Unit, owners: &[NodeId]| is_same(next.owners(unit), owners);
    let is_over = match plan.status {
        PlanStatus::RollingBack => plan.begun.iter().all(|begun| is_at(begun.unit, &begun.from)),
        PlanStatus::Running | PlanStatus::Paused => {
            !plan.queue.iter().any(|planned| has_to_move(next, planned))
                && plan.begun.iter().all(|begun| is_at(begun.unit, &begun.to))
        }
    };
    if !is_over {
        return false;
    }
    let named: BTreeSet<NodeId> =
        next.classes.iter().flat_map(|class| class.owners.iter().flatten()).copied().collect();
    if plan.status == PlanStatus::RollingBack {
        next.ring = plan.ring_before;
        for before in plan.before {
            let Ok(member) = find(&mut next.members, before.id) else { continue };
            member.weight_milli = before.weight_milli;
            member.zone = before.zone;
            // One that was to come and has units which could not go back has come.
            if before.role != Role::Reserved || !named.contains(&member.id) {
                member.role = before.role;
            }
        }
    } else {
        next.ring = plan.ring;
    }
    next.topology.plan = None;
    let goes = |member: &Member| {
        member.role == Role::Leaving
            && !named.contains(&member.id)
            && !next.ring.contains(&member.id)
    };
    let gone: Vec<(NodeId, crate::types::Nonce)> =
        next.members.iter().filter(|m| goes(m)).map(|m| (m.id, m.birth)).collect();
    if !gone.is_empty() {
        next.members.retain(|member| gone.iter().all(|(id, _)| *id != member.id));
        next.topology.gone.retain(|known| !gone.contains(known));
        next.topology.gone.extend(gone);
        let over = next.topology.gone.len().saturating_sub(limits::GONE_MAX);
        next.topology.gone.drain(..over);
        next.council = members::council(&next.members, &next.council, |_| false);
    }
    true
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

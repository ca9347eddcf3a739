//! What the orchestrator's decisions make of a state. Each names the epoch it was chosen on: on top of any
//! other it is not made, and is looked for anew.

use std::collections::BTreeSet;

use crate::message::{ErrorCode, OpError};
use crate::types::{
    ClusterState, Decision, DecisionKind, Epoch, NodeId, Plan, PlanStatus, Planned, Relieved, Role,
    limits,
};

use super::{detour, join};
use crate::control::plan;

use super::growth;

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The epoch it was chosen on.
    pub epoch: Epoch,
    /// What is to be done.
    pub kind: OrderKind,
    /// About whom; never empty.
    pub reliefs: Vec<Relief>,
    /// Others that are down: they are given nothing.
    pub down: Vec<NodeId>,
    /// Units that are exchanged, and their owners then.
    pub swaps: Vec<Planned>,
}

/// What a decision does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// Others take the places of these members; the plan for that is begun.
    Relieve,
    /// The plan begins no more moves.
    CutShort,
    /// Another reserved member is filled in the place of this one.
    Retarget,
    /// The plan is moved back.
    RollBack,
    /// These reserved members become active.
    Grow,
    /// These active members are reserved again.
    Shrink,
    /// Members exchange units.
    Exchange,
}

/// One member in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relief {
    /// The member.
    pub member: NodeId,
    /// Who takes its place; `None`: all others, or nobody.
    pub by: Option<NodeId>,
    /// Why.
    pub reason: String,
}

impl Relief {
    pub(super) fn new(member: NodeId, by: Option<NodeId>, mut reason: String) -> Relief {
        while reason.len() > limits::REASON_BYTES_MAX {
            reason.pop();
        }
        Relief { member, by, reason }
    }
}

impl Order {
    pub(super) fn new(state: &ClusterState, kind: OrderKind, reliefs: Vec<Relief>) -> Order {
        Order { epoch: state.epoch, kind, reliefs, down: Vec::new(), swaps: Vec::new() }
    }
}

/// Makes a decision.
///
/// # Errors
/// [`ErrorCode::PlanConflict`]: chosen on another state; [`ErrorCode::PlanInvalid`]: there is no place for
/// the units. Nothing has changed.
pub(in crate::control) fn apply(next: &mut ClusterState, order: &Order) -> Result<(), OpError> {
    // `next` has its number already.
    if order.epoch.0.checked_add(1) != Some(next.epoch.0) {
        return Err(conflict());
    }
    let first = order.reliefs.first().ok_or_else(conflict)?;
    match order.kind {
        OrderKind::Relieve => relieve(next, order)?,
        OrderKind::CutShort => cut_short(next)?,
        OrderKind::RollBack => plan::roll_back(next)?,
        OrderKind::Grow => growth::apply(next, growth::Turn::Grow, &order.reliefs)?,
        OrderKind::Shrink => growth::apply(next, growth::Turn::Shrink, &order.reliefs)?,
        OrderKind::Exchange => growth::apply_exchange(next, &order.swaps)?,
        OrderKind::Retarget => {
            let named = |id: NodeId| next.member(id).map(|member| member.name.clone());
            let by = first.by.and_then(named).ok_or_else(conflict)?;
            let old = named(first.member).ok_or_else(conflict)?;
            plan::retarget(next, &old, &by, Role::Reserved)?;
        }
    }
    for relief in &order.reliefs {
        let kind = match (order.kind, relief.by) {
            (OrderKind::Relieve, Some(_)) => DecisionKind::Replaced,
            (OrderKind::Relieve, None) => DecisionKind::Spread,
            (OrderKind::CutShort, _) => DecisionKind::CutShort,
            (OrderKind::Retarget, _) => DecisionKind::Retargeted,
            (OrderKind::RollBack, _) => DecisionKind::RolledBack,
            (OrderKind::Grow, _) => DecisionKind::Grown,
            (OrderKind::Shrink, _) => DecisionKind::Shrunk,
            (OrderKind::Exchange, _) => DecisionKind::Exchanged,
        };
        let (epoch, reason) = (next.epoch, relief.reason.clone());
        next.topology.decisions.push(Decision { epoch, kind, subject: relief.member, reason });
    }
    let over = next.topology.decisions.len().saturating_sub(limits::DECISIONS_MAX);
    next.topology.decisions.drain(..over);
    Ok(())
}

fn conflict() -> OpError {
    OpError::new(ErrorCode::PlanConflict, "the orchestrator has chosen this on another state")
}

fn relieve(next: &mut ClusterState, Order { reliefs, down, .. }: &Order) -> Result<(), OpError> {
    let running = |plan: &Plan| plan.status == PlanStatus::Running;
    if next.topology.plan.as_ref().is_some_and(|plan| !running(plan)) {
        return Err(conflict());
    }
    // What stands still is joined: the claim goes by the owners that there will be.
    let mut aimed = join::aimed(next);
    let (mut members, mut relieved) = (next.members.clone(), next.topology.relieved.clone());
    for Relief { member, by, .. } in reliefs {
        let mut turn = |id: NodeId, from: Role, to: Role| {
            let found = members.iter_mut().find(|known| known.id == id && known.role == from);
            found.map(|known| known.role = to).ok_or_else(conflict)
        };
        turn(*member, Role::Active, Role::Reserved)?;
        if let Some(by) = by {
            turn(*by, Role::Reserved, Role::Active)?;
        }
        relieved.retain(|known| known.id != *member);
        relieved.push(Relieved { id: *member, by: *by, epoch: next.epoch });
    }
    relieved.sort_by_key(|known| known.id);
    let replaced: BTreeSet<NodeId> = reliefs.iter().map(|relief| relief.member).collect();
    // Part of what the plan is told by, so that it is no other's.
    aimed.topology.relieved.clone_from(&relieved);
    let mut draft = plan::draft_of(&aimed, (members, Vec::new()), &replaced);
    if !draft.reasons.is_empty() {
        return Err(OpError::new(ErrorCode::PlanInvalid, draft.reasons.join("; ")));
    }
    let moves = detour::around(&aimed, &draft.members, draft.moves, (reliefs, down));
    draft.moves = moves.map_err(|text| OpError::new(ErrorCode::PlanInvalid, text))?;
    next.topology.relieved = relieved;
    match next.topology.plan.take() {
        Some(plan) => join::extend(next, plan, draft),
        None => plan::begin(next, draft),
    }
    Ok(())
}

/// What has begun goes on to its end; the next plan, which is made of the members as they are then, has the
/// rest.
fn cut_short(next: &mut ClusterState) -> Result<(), OpError> {
    let running = next.topology.plan.as_mut().filter(|plan| plan.status == PlanStatus::Running);
    let plan = running.ok_or_else(conflict)?;
    if plan.queue.is_empty() {
        return Err(conflict());
    }
    let left = u32::try_from(plan.queue.len()).unwrap_or(u32::MAX);
    plan.total = plan.total.saturating_sub(left);
    plan.queue.clear();
    Ok(())
}

/// Who has a place again, or is no member any more, is remembered no longer.
pub(in crate::control) fn prune(next: &mut ClusterState) {
    let members = &next.members;
    let is_out = |known: &Relieved| {
        members.iter().any(|member| member.id == known.id && member.role == Role::Reserved)
    };
    next.topology.relieved.retain(is_out);
}

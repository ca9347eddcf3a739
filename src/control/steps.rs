//! Which steps may be proposed now, by what has been heard of the members. All of it stays true once
//! it was said, so it may come late, twice, or be gathered by another node: `docs/protocol/moves.md`.

use std::collections::BTreeSet;

use crate::types::{
    Begun, Class, ClusterState, Epoch, Member, Move, MovePhase, NodeId, Plan, PlanStatus, Role,
    Unit, limits,
};

use super::moves::{Step, StepKind, is_same};
use super::{loss, plan};

/// What a node has heard of the others.
pub trait Heard {
    /// The highest epoch that a member has acknowledged.
    fn acknowledged(&self, member: NodeId) -> Epoch;
    /// Whether a member has said that it is complete for a unit since this entry.
    fn is_complete(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool;
    /// Who has said that it has lost data of a unit, and since which entry it had it.
    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)>;
    /// Whether it answers and serves.
    fn is_up(&self, member: NodeId) -> bool;
    /// Whether it is held to be dead, and not only silent.
    fn is_down(&self, member: NodeId) -> bool;
    /// Whether it says that it is being filled for this entry, or has lost what it had.
    fn lacks(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool;
    /// Who says that it is being filled, of which units, for which entry.
    fn filled(&self) -> Vec<(NodeId, Unit, Epoch)>;
    /// Whether it has been down for so long that a plan is rolled back without it.
    fn is_long_down(&self, _member: NodeId) -> bool {
        false
    }
    /// Whether it keeps writes that have counted in the place of an owner.
    fn has_custody(&self, member: NodeId) -> bool;
}

/// The steps that may be made on top of `state`, of all moves and the plan.
pub fn steps(state: &ClusterState, heard: &impl Heard) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for class in &state.classes {
        for moving in &class.moves {
            let unit = Unit { class: class.id, partition: moving.partition };
            if let Some(kind) = of_move(state, (class, moving, unit), heard) {
                steps.push(Step { unit, fence: state.changed_at(unit), kind });
            }
        }
    }
    steps.extend(lost(state, heard));
    steps.extend(loss::returned(state, heard));
    steps.extend(of_plan(state, heard));
    steps
}

/// The next step of a move, if it may be made.
fn of_move(
    state: &ClusterState,
    (class, moving, unit): (&Class, &Move, Unit),
    heard: &impl Heard,
) -> Option<StepKind> {
    let back = goes_back(state, moving, unit);
    match moving.phase {
        MovePhase::ReadOld if back => {
            may_drop(state, (class, moving, unit), heard).then_some(StepKind::RollBack)
        }
        MovePhase::ReadNew if back => Some(StepKind::TurnBack),
        // Nobody will fill a former owner that is gone for good. Who has been read is filled.
        MovePhase::ReadOld if !moving.was_read && is_beyond_reach(state, unit, heard) => {
            Some(StepKind::RollBack)
        }
        MovePhase::ReadOld => {
            waits_for_fill(state, moving, unit, heard).is_empty().then_some(StepKind::ReadNew)
        }
        MovePhase::ReadNew => {
            last_barrier(state, (class, moving, unit), heard).then_some(StepKind::NewOnly)
        }
    }
}

/// Whether this move leads elsewhere than the plan wants the unit to go now: one that is rolled back, to
/// the owners that the unit had.
pub(super) fn goes_back(state: &ClusterState, moving: &Move, unit: Unit) -> bool {
    let Some(plan) = &state.topology.plan else { return false };
    let Some(begun) = plan.begun.iter().find(|begun| begun.unit == unit) else { return false };
    let aim = match moving.phase {
        MovePhase::ReadOld => &moving.other[..],
        MovePhase::ReadNew => state.owners(unit),
    };
    !is_same(aim, wanted(plan, begun))
}

/// Whether a unit would have to be rolled back to an owner that has been given up.
fn is_beyond_reach(state: &ClusterState, unit: Unit, heard: &impl Heard) -> bool {
    let Some(plan) = &state.topology.plan else { return false };
    let begun = plan.begun.iter().find(|begun| begun.unit == unit);
    let owners = state.owners(unit);
    plan.status == PlanStatus::RollingBack
        && begun.is_some_and(|begun| {
            begun.from.iter().any(|id| !owners.contains(id) && heard.is_long_down(*id))
        })
}

/// The owners that the plan wants a unit to have.
fn wanted<'a>(plan: &Plan, begun: &'a Begun) -> &'a [NodeId] {
    match plan.status {
        PlanStatus::RollingBack => &begun.from,
        PlanStatus::Running | PlanStatus::Paused => &begun.to,
    }
}

/// Whether the other set of a first phase may go: nobody has read it, or nobody can any more.
fn may_drop(state: &ClusterState, at: (&Class, &Move, Unit), heard: &impl Heard) -> bool {
    let (_, moving, _) = at;
    !moving.was_read || last_barrier(state, at, heard) || crate::mutant!("roll-back-straight")
}

/// Whether so many of the set that is to go have acknowledged the fence that no coordinator, however
/// far behind, can have a read answered by it.
fn last_barrier(
    state: &ClusterState,
    (class, moving, unit): (&Class, &Move, Unit),
    heard: &impl Heard,
) -> bool {
    let behind = behind(state, moving, unit, heard).len();
    behind < usize::from(read_floor(state, class)) || crate::mutant!("last-barrier-skipped")
}

/// Who may still answer a read of the set that is to go. An owner that was given up, and does not
/// answer, would come back without anything to answer with: its entry is a later one.
pub fn behind(state: &ClusterState, moving: &Move, unit: Unit, heard: &impl Heard) -> Vec<NodeId> {
    let fence = state.changed_at(unit);
    let is_gone = |id: NodeId| state.is_given_up(unit, id) && !heard.is_up(id);
    let may_answer = |id: &&NodeId| heard.acknowledged(**id) < fence && !is_gone(**id);
    moving.other.iter().filter(may_answer).copied().collect()
}

/// Answers without which nothing is read in a class. Rounds of registers need no more than a majority.
pub(super) fn read_floor(state: &ClusterState, class: &Class) -> u8 {
    let linearizable = state.tables.iter().any(|table| {
        table.class == class.id && table.kind == crate::types::TableKind::Linearizable
    });
    let majority = class.n / 2 + 1;
    if linearizable { class.r_min.min(majority) } else { class.r_min }
}

/// New owners that are not complete yet. Who is read, or has been, was complete for its entry before it
/// was: it need not say so again, and may be dead for good.
pub fn waits_for_fill(
    state: &ClusterState,
    moving: &Move,
    unit: Unit,
    heard: &impl Heard,
) -> Vec<NodeId> {
    let is_complete = |id: &NodeId| {
        let entry = state.entry(unit, *id).unwrap_or_default();
        heard.is_complete(*id, unit, entry)
    };
    if moving.was_read {
        return Vec::new();
    }
    let read = state.owners(unit);
    let new = moving.other.iter().filter(|id| !read.contains(id));
    new.filter(|id| !is_complete(id)).copied().collect()
}

/// Owners that have lost what they had: each needs an entry of its own to be filled from. Not before
/// there is enough to fill it from: it is emptied first, and what it has left may be all there is.
fn lost(state: &ClusterState, heard: &impl Heard) -> Vec<Step> {
    let of_entry =
        |(member, unit, entry): &(NodeId, Unit, Epoch)| state.entry(*unit, *member) == Some(*entry);
    let can_be_filled = |(member, unit, _): &(NodeId, Unit, Epoch)| {
        let sources = loss::sources(state, *unit, *member, heard).len();
        sources >= state.sources_wanted(*unit) || crate::mutant!("lost-emptied-early")
    };
    // One of a unit at a time: the next one may be what this one is filled from.
    let mut units = BTreeSet::new();
    let found = heard.lost().into_iter().filter(of_entry).filter(can_be_filled);
    let found = found.filter(|(_, unit, _)| units.insert(*unit)).collect::<Vec<_>>().into_iter();
    let step = |(member, unit, _)| Step {
        unit,
        fence: state.changed_at(unit),
        kind: StepKind::FillAgain(member),
    };
    found.map(step).collect()
}

/// Whether one that leaves is waited for, since it may keep what has counted in the place of owners. Once it knows
/// that it leaves it takes nothing more, so its word is good that was told then. One that has fallen silent since the
/// plan began may be back in a moment. One that was down before was given up when the plan was committed.
fn may_keep(state: &ClusterState, plan: &Plan, id: NodeId, heard: &impl Heard) -> bool {
    if crate::mutant!("silent-leaver-not-waited-for") {
        return heard.is_up(id) && heard.has_custody(id);
    }
    let acknowledged = heard.acknowledged(id);
    let keeps_nothing = acknowledged >= state.epoch && !heard.has_custody(id);
    let may_be_back = acknowledged >= plan.since && !heard.is_long_down(id);
    !keeps_nothing && (heard.is_up(id) || may_be_back)
}

/// What the plan begins next, or its end.
fn of_plan(state: &ClusterState, heard: &impl Heard) -> Vec<Step> {
    let Some(plan) = &state.topology.plan else { return Vec::new() };
    let under_way: usize = state.classes.iter().map(|class| class.moves.len()).sum();
    let room = limits::MOVES_MAX.saturating_sub(under_way);
    // Those of a plan whose direction has changed: they are where they should not stay.
    let astray = plan.begun.iter().filter(|begun| {
        let owners = state.owners(begun.unit);
        state.moving(begun.unit).is_none() && !is_same(owners, wanted(plan, begun))
    });
    let (left, astray): (Vec<&Begun>, Vec<&Begun>) =
        astray.partition(|begun| is_beyond_reach(state, begun.unit, heard));
    if !left.is_empty() {
        let stay = |begun: &Begun| {
            let (unit, fence) = (begun.unit, state.changed_at(begun.unit));
            Step { unit, fence, kind: StepKind::Stay }
        };
        return left.into_iter().map(stay).collect();
    }
    let mut waiting: Vec<(Unit, &[NodeId])> =
        astray.into_iter().map(|begun| (begun.unit, wanted(plan, begun))).collect();
    if plan.status != PlanStatus::RollingBack {
        let queued = plan.queue.iter().filter(|planned| plan::has_to_move(state, planned));
        waiting.extend(queued.map(|planned| (planned.unit, &planned.to[..])));
    }
    let rolls_back = plan.status == PlanStatus::RollingBack;
    let keeps = |member: &Member| {
        let leaves = member.role == Role::Leaving && !rolls_back;
        leaves && may_keep(state, plan, member.id, heard)
    };
    if waiting.is_empty() && under_way == 0 && state.members.iter().any(keeps) {
        // What it keeps may be all that is left of a write: it goes home first.
        return Vec::new();
    }
    if waiting.is_empty() && under_way == 0 {
        let (unit, fence) = (Unit::default(), Epoch(0));
        return vec![Step { unit, fence, kind: StepKind::EndPlan }];
    }
    if plan.status == PlanStatus::Paused {
        return Vec::new();
    }
    let up: BTreeSet<NodeId> =
        state.members.iter().map(|member| member.id).filter(|id| heard.is_up(*id)).collect();
    let can_begin = |(unit, to): &(Unit, &[NodeId])| {
        let owners = state.owners(*unit);
        to.iter().all(|id| owners.contains(id) || up.contains(id))
    };
    let begins = waiting.into_iter().filter(can_begin).take(room);
    begins
        .map(|(unit, to)| Step {
            unit,
            fence: state.changed_at(unit),
            kind: StepKind::Begin(to.to_vec()),
        })
        .collect()
}

//! What decisions must be like, found anew out of what the members knew: who was replaced, by whom, how many at
//! once, and what was under way. Words are `docs/orchestrator.md`'s.

use core::cmp::Reverse;
use std::collections::BTreeSet;

use roundtable::control::{self, Room};
use roundtable::types::{
    ClusterState, Decision, DecisionKind, Epoch, Member, MovePhase, NodeId, PlanStatus, Role, Unit,
};

use super::seen::Seen;
use super::world::World;

/// How full a disk may become by what is spread, in percent.
const SPREAD_PERCENT_MAX: u64 = 80;

/// Judges the decisions of a state that has followed another.
pub(super) fn judge(
    world: &World,
    before: &ClusterState,
    state: &ClusterState,
) -> Result<(), String> {
    let made: Vec<&Decision> = decisions(state, state.epoch).collect();
    let taken = |decision: &&&Decision| is_taken(decision.kind);
    let subjects: Vec<&Member> =
        made.iter().filter(taken).filter_map(|it| before.member(it.subject)).collect();
    let zones: BTreeSet<_> = subjects.iter().map(|member| &member.zone).collect();
    if zones.len() < subjects.len() {
        return Err(format!("{} of one zone are replaced at once", subjects.len()));
    }
    for decision in made {
        let judged = match decision.kind {
            DecisionKind::Replaced => told(world, decision).and_then(|()| {
                let subject = before.member(decision.subject).ok_or("nobody is replaced")?;
                by_whom(world, before, state, subject)
            }),
            DecisionKind::Spread => {
                told(world, decision).and_then(|()| head_room(world, before, &subjects))
            }
            DecisionKind::CutShort => under_way(before),
            DecisionKind::RolledBack => turned_back(world, before, decision.subject),
            _ => Ok(()),
        };
        judged.map_err(|fault| {
            let Decision { epoch, kind, subject, reason } = decision;
            format!("epoch {epoch}, {kind:?} of {subject} ({reason}): {fault}")
        })?;
    }
    Ok(())
}

fn decisions(state: &ClusterState, epoch: Epoch) -> impl Iterator<Item = &Decision> {
    state.topology.decisions.iter().filter(move |decision| decision.epoch == epoch)
}

/// Whether it takes a member's place.
pub(super) fn is_taken(kind: DecisionKind) -> bool {
    matches!(kind, DecisionKind::Replaced | DecisionKind::Spread)
}

/// Somebody hears a majority of all members say that it is down for long, and finds the same.
fn told(world: &World, decision: &Decision) -> Result<(), String> {
    let subject = decision.subject;
    let heard = |me: NodeId| {
        let tellers = world.nodes.keys().filter(|by| world.hears(me, **by));
        tellers.filter(|by| world.tells(**by, subject)).count()
    };
    let tellers = world.nodes.keys().filter(|id| world.tells(**id, subject));
    let most = tellers.map(|me| heard(*me)).max().unwrap_or(0);
    if most > world.nodes.len() / 2 {
        return Ok(());
    }
    Err(format!("{most} of {} members can tell each other that it is down", world.nodes.len()))
}

/// Reserved members that could take a place, as far as all who run agree.
fn usable(world: &World, state: &ClusterState, needs: u64) -> Vec<NodeId> {
    let runs = |id: NodeId| world.nodes.get(&id).is_some_and(|node| node.up);
    let owns = |id: NodeId| state.units().any(|unit| state.is_writer(unit, id));
    let reserved = state.members.iter().filter(|member| member.role == Role::Reserved);
    let reserved = reserved.map(|member| member.id).filter(|id| runs(*id) && !owns(*id));
    reserved.filter(|id| has_room(world.disks.room(state, *id), needs)).collect()
}

fn has_room(room: Room, needs: u64) -> bool {
    room.free.is_none_or(|free| free >= needs)
}

/// One with room; and of all that are usable the first by zone, by warmth, by its disk.
fn by_whom(
    world: &World,
    before: &ClusterState,
    state: &ClusterState,
    subject: &Member,
) -> Result<(), String> {
    let relieved = &state.topology.relieved;
    let chosen: Vec<NodeId> =
        relieved.iter().filter(|it| it.epoch == state.epoch).filter_map(|it| it.by).collect();
    let found = relieved.iter().find(|it| it.id == subject.id).and_then(|it| it.by);
    let by = found.ok_or("nobody is named in its place")?;
    let needs = world.disks.room(before, subject.id).used;
    if !has_room(world.disks.room(before, by), needs) {
        return Err(format!("{by} has no room for {needs}"));
    }
    if !world.is_whole() {
        return Ok(());
    }
    let rank = |id: NodeId| {
        let far = before.member(id).is_none_or(|member| member.zone != subject.zone);
        let warm = world.disks.mirrors(id, subject.id);
        (far, Reverse(warm), world.disks.room(before, id).used, id)
    };
    let others = usable(world, before, needs).into_iter().filter(|id| !chosen.contains(id));
    match others.min_by_key(|id| rank(*id)).filter(|other| rank(*other) < rank(by)) {
        Some(other) => Err(format!("{by} takes its place, and {other} comes before it")),
        None => Ok(()),
    }
}

/// Nobody's disk becomes too full by what is spread.
fn head_room(world: &World, before: &ClusterState, subjects: &[&Member]) -> Result<(), String> {
    let is_left = |member: &&Member| {
        member.role == Role::Active && subjects.iter().all(|subject| subject.id != member.id)
    };
    let left: Vec<&Member> = before.members.iter().filter(is_left).collect();
    let lost: u64 = subjects.iter().map(|it| world.disks.room(before, it.id).used).sum();
    let share = lost / (left.len().max(1) as u64);
    for member in left {
        let Room { used, free } = world.disks.room(before, member.id);
        let Some(free) = free else { continue };
        if (used + share) * 100 > (used + free) * SPREAD_PERCENT_MAX {
            return Err(format!("{} has {free} free, and {used} used", member.name));
        }
    }
    Ok(())
}

/// No replacement is under way, which ends before the next begins.
fn under_way(before: &ClusterState) -> Result<(), String> {
    let relieved = before.topology.relieved.iter().map(|it| it.id);
    let mut owns = relieved.filter(|id| before.units().any(|unit| before.is_writer(unit, *id)));
    match owns.next() {
        Some(id) => Err(format!("the plan that is cut short replaces {id}")),
        None => Ok(()),
    }
}

/// Who is back keeps its place only while nothing is read elsewhere.
fn turned_back(world: &World, before: &ClusterState, subject: NodeId) -> Result<(), String> {
    let hearing = world.nodes.keys().filter(|id| world.hears(**id, subject)).count();
    let Some(plan) = &before.topology.plan else { return Err("there is no plan".to_owned()) };
    if hearing <= world.nodes.len() / 2 {
        return Ok(());
    }
    let unread = |unit: Unit, from: &[NodeId]| is_unread(before, unit, from);
    match plan.begun.iter().find(|begun| !unread(begun.unit, &begun.from)) {
        Some(begun) => Err(format!("{:?} is read elsewhere already", begun.unit)),
        None => Ok(()),
    }
}

fn is_unread(state: &ClusterState, unit: Unit, from: &[NodeId]) -> bool {
    let read = state.moving(unit).is_some_and(|moving| moving.phase == MovePhase::ReadNew);
    let (now, then): (BTreeSet<_>, BTreeSet<_>) =
        (state.owners(unit).iter().collect(), from.iter().collect());
    !read && now == then
}

/// When nobody wants to do anything more: whoever is back, with nothing read elsewhere, keeps its place.
pub(super) fn settled(world: &World, state: &ClusterState) -> Result<(), String> {
    let running = |status| status == PlanStatus::Running;
    let Some(plan) = state.topology.plan.as_ref().filter(|plan| running(plan.status)) else {
        return Ok(());
    };
    let runs = |id: &NodeId| world.nodes.get(id).is_some_and(|node| node.up);
    let council = state.council.iter().filter(|id| runs(id)).count();
    if !world.is_whole() || council <= state.council.len() / 2 {
        return Ok(());
    }
    let was_active = plan.before.iter().filter(|before| before.role == Role::Active);
    let replaced: Vec<NodeId> =
        was_active.map(|it| it.id).filter(|id| state.relieved_at(*id).is_some()).collect();
    let unread = plan.begun.iter().all(|begun| is_unread(state, begun.unit, &begun.from));
    if replaced.is_empty() || !unread || !replaced.iter().all(runs) {
        return Ok(());
    }
    Err(format!("{replaced:?} are back, nothing is read elsewhere, and their places are taken"))
}

/// Members are down for long, and nothing can be done: whoever runs says so.
pub(super) fn alarmed(world: &World) -> Result<(), String> {
    let up = world.nodes.iter().filter(|(_, node)| node.up);
    for (id, node) in up {
        if control::look(&node.state, &Seen { world, me: *id }).alarms.is_empty() {
            return Err(format!("{id} raises no alarm"));
        }
    }
    Ok(())
}

/// Reserved members who could take the place of one of these.
pub(super) fn reserve_for(world: &World, state: &ClusterState, dead: &[NodeId]) -> usize {
    let needs = dead.iter().map(|id| world.disks.room(state, *id).used).min().unwrap_or(0);
    usable(world, state, needs).len()
}

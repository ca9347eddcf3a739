//! Keeps n copies: whom reserved members are to replace, and what of that cannot be done. Pure rules of the
//! state and of what a node has heard; they act by an epoch, proposed like any other.
//! `docs/orchestrator.md` has the rules and their reasons.

mod detour;
mod growth;
mod join;
mod order;
#[cfg(test)]
mod tests;

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::types::{
    ClusterState, DecisionKind, Epoch, Member, MovePhase, NodeId, Plan, PlanStatus, Role, Staged,
    Unit,
};

use super::loss::{self, Lacks};
use super::steps::Heard;

pub use growth::{
    Foreseen, GrowthRules, History, Measured, Peak, Proposal, Sample, Turn, Wish, exchange,
    held_up, is_dismissed, is_quiet, peak, propose, wish,
};
pub use order::{Order, OrderKind, Relief};
pub(super) use order::{apply, prune};

/// How full a disk may become by what is spread over the members that are left, in percent.
const SPREAD_PERCENT_MAX: u64 = 80;

/// What a member has said of its disk; zero and unknown while it has said nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes it stores.
    pub used: u64,
    /// Bytes it could still store, where that is known.
    pub free: Option<u64>,
}

/// What a node has heard, beside what steps go by.
pub trait Watched: Heard {
    /// The node itself.
    fn me(&self) -> NodeId;
    /// Whether `teller` is alive and has told lately that it has held `member` down for its whole grace.
    fn says_down(&self, teller: NodeId, member: NodeId) -> bool;
    /// Whether this node has held a member down for so much longer than its grace time that others have had
    /// the time to find the same, and to tell.
    fn overdue(&self, member: NodeId) -> bool;
    /// Whether a member has answered for a whole grace time without serving.
    fn idles(&self, member: NodeId) -> bool;
    /// What a member has said of its disk; what it mirrors counts as free.
    fn room(&self, member: NodeId) -> Room;
    /// How many units that `of` owns a reserved member has mirrored, as far as it has told.
    fn mirrors(&self, member: NodeId, of: NodeId) -> u32;
}

/// What is to be done, and what cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// What may be proposed on top of this state.
    pub order: Option<Order>,
    /// What people have to look at.
    pub alarms: Vec<Alarm>,
}

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// Nobody can take the place of a member that is down.
    NoReserve,
    /// Too few members say that it is down.
    NoMajority,
    /// A plan that an operator has paused.
    PlanInTheWay,
    /// It answers, and does not serve.
    NotServing,
    /// The claim refuses.
    NotPlaced,
    /// Units cannot be filled: too few of those who have them answer.
    NoSource,
}

impl AlarmKind {
    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            AlarmKind::NoReserve => "no-reserve",
            AlarmKind::NoMajority => "no-majority",
            AlarmKind::PlanInTheWay => "plan-in-the-way",
            AlarmKind::NotServing => "not-serving",
            AlarmKind::NotPlaced => "not-placed",
            AlarmKind::NoSource => "no-source",
        }
    }
}

/// Something that a human has to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// What.
    pub kind: AlarmKind,
    /// The member that it is about.
    pub subject: NodeId,
    /// What is missing, in words.
    pub text: String,
}

/// What the rules want on top of `state`.
pub fn look(state: &ClusterState, seen: &impl Watched) -> Outlook {
    let mut outlook = Outlook::default();
    let active = || state.members.iter().filter(|member| member.role == Role::Active);
    for member in active().filter(|member| seen.idles(member.id)) {
        outlook.alarm(AlarmKind::NotServing, member, "answers and does not serve: see its /readyz");
    }
    without_sources(state, seen, &mut outlook);
    if let Some(order) = comes_back(state, seen) {
        outlook.order = Some(order);
        return outlook;
    }
    let mut dead = Vec::new();
    for member in active() {
        match verdict(state, seen, member.id) {
            Verdict::Fine => {}
            Verdict::Dead => dead.push(member),
            Verdict::Undecided(have, wanted) => {
                let text = format!("{have} members have found it down for long, {wanted} must");
                outlook.alarm(AlarmKind::NoMajority, member, &text);
            }
        }
    }
    if !dead.is_empty() {
        outlook.order = decide(state, seen, &dead, &mut outlook);
    }
    if crate::mutant!("orchestrator-asleep") {
        outlook.order = None;
    }
    if crate::mutant!("orchestrator-silent") {
        outlook.alarms.clear();
    }
    outlook
}

impl Outlook {
    fn alarm(&mut self, kind: AlarmKind, member: &Member, text: &str) {
        let text = format!("{}: {text}", member.name);
        self.alarms.push(Alarm { kind, subject: member.id, text });
    }
}

/// A plan waits for data that only members have who have been down for long: people have to know.
fn without_sources(state: &ClusterState, seen: &impl Watched, outlook: &mut Outlook) {
    let gone = |id: &NodeId| seen.is_down(*id) && seen.says_down(seen.me(), *id);
    if state.topology.plan.is_none() || !state.members.iter().any(|member| gone(&member.id)) {
        return;
    }
    let mut waits: BTreeMap<NodeId, usize> = BTreeMap::new();
    for stuck in loss::stuck(state, seen).iter().filter(|it| it.lacks == Lacks::Copies) {
        for id in stuck.missing.iter().filter(|id| gone(id)) {
            *waits.entry(*id).or_default() += 1;
        }
    }
    for (id, units) in waits {
        let Some(member) = state.member(id) else { continue };
        let text = format!(
            "{units} units cannot be filled before it answers again: too few others have them; start it, or \
             see `kvctl plan accept-loss`"
        );
        outlook.alarm(AlarmKind::NoSource, member, &text);
    }
}

enum Verdict {
    Fine,
    /// So many say so, and so many would have to.
    Undecided(usize, usize),
    Dead,
}

/// Whether a member is down for good, as far as anybody can know.
fn verdict(state: &ClusterState, seen: &impl Watched, id: NodeId) -> Verdict {
    if crate::mutant!("orchestrator-replaces-suspected") {
        return if seen.is_up(id) { Verdict::Fine } else { Verdict::Dead };
    }
    let answers = !seen.is_down(id) && !crate::mutant!("orchestrator-replaces-returned");
    if answers || !seen.says_down(seen.me(), id) {
        return Verdict::Fine;
    }
    let have = state.members.iter().filter(|teller| seen.says_down(teller.id, id)).count();
    // INVARIANT: of all members, so that no two sides of a split can both have one.
    let wanted = state.members.len() / 2 + 1;
    if have >= wanted || crate::mutant!("orchestrator-without-majority") {
        Verdict::Dead
    } else if seen.overdue(id) {
        Verdict::Undecided(have, wanted)
    } else {
        // Members find it at different moments: that is no reason to wake anybody.
        Verdict::Fine
    }
}

/// A replacement is under way, and whom it replaces is back before anything is read elsewhere.
fn comes_back(state: &ClusterState, seen: &impl Watched) -> Option<Order> {
    let plan =
        state.topology.plan.as_ref().filter(|plan| plan.status != PlanStatus::RollingBack)?;
    let replaced = replaced_by(state, plan);
    if crate::mutant!("orchestrator-passes-returned-over") {
        return None;
    }
    let back = !replaced.is_empty() && replaced.iter().all(|id| seen.is_up(*id));
    let unread = plan.begun.iter().all(|begun| {
        let phase = state.moving(begun.unit).map(|moving| moving.phase);
        phase != Some(MovePhase::ReadNew)
            && super::moves::is_same(state.owners(begun.unit), &begun.from)
    });
    let unread = unread || crate::mutant!("orchestrator-turns-back-read");
    let first = replaced.first().filter(|_| back && unread)?;
    let text = format!("{} is back, and keeps its place", name(state, *first));
    Some(Order::new(state, OrderKind::RollBack, vec![Relief::new(*first, None, text)]))
}

/// Whether the plan is being moved back because people have said so, and not by a decision of these rules. Who is
/// down is then given as long again: people have to say what is to be done instead.
pub fn is_rolled_back_by_people(state: &ClusterState) -> bool {
    let plan = state.topology.plan.as_ref();
    plan.filter(|plan| plan.status == PlanStatus::RollingBack).is_some_and(|plan| {
        let mut of_plan = state.topology.decisions.iter().filter(|made| made.epoch > plan.since);
        let decided = of_plan.any(|made| made.kind == DecisionKind::RolledBack);
        !decided || crate::mutant!("orchestrator-waits-anew")
    })
}

/// Members that the orchestrator's plan replaces.
fn replaced_by(state: &ClusterState, plan: &Plan) -> Vec<NodeId> {
    let was_active = plan.before.iter().filter(|before| before.role == Role::Active);
    was_active.map(|before| before.id).filter(|id| state.relieved_at(*id).is_some()).collect()
}

/// What is done about members that are down for good.
fn decide(
    state: &ClusterState,
    seen: &impl Watched,
    dead: &[&Member],
    outlook: &mut Outlook,
) -> Option<Order> {
    let Some(plan) = &state.topology.plan else { return relieve(state, seen, dead, outlook) };
    let first = *dead.first()?;
    match plan.status {
        PlanStatus::RollingBack => return None,
        PlanStatus::Paused => {
            let text = "it is down past its grace, and a paused plan stands in the way";
            outlook.alarm(AlarmKind::PlanInTheWay, first, text);
            return None;
        }
        PlanStatus::Running => {}
    }
    if let Some(member) = dead.iter().find(|member| waits_for(state, plan, member.id)) {
        if let Some(order) = instead(state, seen, plan, member) {
            return Some(order);
        }
        // What is read elsewhere in this moment is let come to its end.
        return if join::is_between(state) { None } else { relieve(state, seen, dead, outlook) };
    }
    // Nobody but members that are down can end it: the others must not wait for that.
    if join::stands_still(state, seen) {
        return relieve(state, seen, dead, outlook);
    }
    // One after the other: what the one that is under way has begun must not wait for the next.
    let is_owner = |id: NodeId| state.units().any(|unit| state.is_writer(unit, id));
    let leaves = |m: &&Member| {
        m.role == Role::Leaving && !seen.is_up(m.id) || state.relieved_at(m.id).is_some()
    };
    let replaces = state.members.iter().filter(leaves).any(|member| is_owner(member.id));
    let replaces = replaces && !crate::mutant!("orchestrator-beside-another");
    if replaces || plan.queue.is_empty() {
        return None;
    }
    // By then it is over.
    let mut over = state.clone();
    over.topology.plan = None;
    relieve(&over, seen, dead, outlook)?;
    let text = format!("{} is down past its grace: it is replaced first", first.name);
    Some(Order::new(state, OrderKind::CutShort, vec![Relief::new(first.id, None, text)]))
}

/// Whether the plan gives a member units that it does not own, and that are not read at it yet.
fn waits_for(state: &ClusterState, plan: &Plan, id: NodeId) -> bool {
    let queued = plan
        .queue
        .iter()
        .any(|planned| planned.to.contains(&id) && !state.owners(planned.unit).contains(&id));
    queued
        || state.classes.iter().any(|class| {
            class.moves.iter().any(|moving| {
                let unit = Unit { class: class.id, partition: moving.partition };
                let first = moving.phase == MovePhase::ReadOld && !moving.was_read;
                first && moving.other.contains(&id) && !state.owners(unit).contains(&id)
            })
        })
}

/// A plan waits for a member that is down: another one is filled, or it is moved back, if those are there to
/// whom it would go. Else nothing is won by that: units stay where they have come to, and members on both sides.
fn instead(
    state: &ClusterState,
    seen: &impl Watched,
    plan: &Plan,
    member: &Member,
) -> Option<Order> {
    let owns = state.units().any(|unit| state.owners(unit).contains(&member.id));
    // Owners were chosen by zones: one of another zone takes the place by a plan that is made anew.
    let of_zone = |by: &NodeId| state.member(*by).is_some_and(|by| by.zone == member.zone);
    let by = candidates(state, seen, member, &BTreeSet::new()).first().copied();
    let by = by.filter(|by| !owns && of_zone(by));
    let name = &member.name;
    let (kind, text) = match by {
        Some(by) => {
            let by = self::name(state, by);
            (OrderKind::Retarget, format!("{name} is down past its grace: {by} is filled instead"))
        }
        None => {
            let mut gives_up = plan
                .begun
                .iter()
                .flat_map(|begun| begun.from.iter().filter(|id| !begun.to.contains(id)).copied());
            let is_gone = |id| seen.is_down(id);
            if gives_up.any(is_gone) && !crate::mutant!("orchestrator-rolls-back-in-vain") {
                return None;
            }
            (OrderKind::RollBack, format!("{name}, which it fills, is down past its grace"))
        }
    };
    Some(Order::new(state, kind, vec![Relief::new(member.id, by, text)]))
}

/// Each zone's first gets somebody for its place, if there is anybody.
fn relieve(
    state: &ClusterState,
    seen: &impl Watched,
    dead: &[&Member],
    outlook: &mut Outlook,
) -> Option<Order> {
    let (mut reliefs, mut taken, mut zones) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for member in dead {
        if !zones.insert(&member.zone) && !crate::mutant!("orchestrator-two-in-a-zone") {
            continue;
        }
        let name = &member.name;
        let found = candidates(state, seen, member, &taken).first().copied();
        if let Some(by) = found {
            taken.insert(by);
            let zone = state.member(by).is_some_and(|by| by.zone == member.zone);
            let zone = if zone { "of its zone" } else { "of another zone: its own has none" };
            let by_name = self::name(state, by);
            let text = format!("{name} is down past its grace; {by_name} is reserved, {zone}");
            reliefs.push(Relief::new(member.id, Some(by), text));
            continue;
        }
        match may_spread(state, seen, dead) {
            Ok(()) => {
                let text = format!("{name} is down past its grace; no reserved member is usable");
                reliefs.push(Relief::new(member.id, None, text));
            }
            Err(why) => {
                let text = format!(
                    "it is down past its grace, no reserved member serves and has room, and its units \
                     cannot go to the others: {why}"
                );
                outlook.alarm(AlarmKind::NoReserve, member, &text);
            }
        }
    }
    let first = reliefs.first().and_then(|relief| state.member(relief.member))?;
    let is_relieved = |id: NodeId| reliefs.iter().any(|relief| relief.member == id);
    let down = dead.iter().map(|member| member.id).filter(|id| !is_relieved(*id)).collect();
    let order = Order { down, ..Order::new(state, OrderKind::Relieve, reliefs) };
    let mut next = state.clone();
    next.epoch = Epoch(state.epoch.0.saturating_add(1));
    if let Err(error) = apply(&mut next, &order) {
        outlook.alarm(AlarmKind::NotPlaced, first, &error.message);
        return None;
    }
    Some(order)
}

/// Who could take the place of a member, the best first: of its zone the one that has mirrored most of what it
/// owns.
fn candidates(
    state: &ClusterState,
    seen: &impl Watched,
    member: &Member,
    taken: &BTreeSet<NodeId>,
) -> Vec<NodeId> {
    let needs = seen.room(member.id).used;
    let leaves = |id: NodeId| state.topology.staged.contains(&Staged::Leave(id));
    let needs = if crate::mutant!("orchestrator-without-room") { 0 } else { needs };
    let free = |id: NodeId| seen.room(id).free.is_none_or(|free| free >= needs);
    let owns = |id: NodeId| state.units().any(|unit| state.is_writer(unit, id));
    let usable = |other: &&Member| {
        let id = other.id;
        let is_reserved = other.role == Role::Reserved && !taken.contains(&id);
        is_reserved && seen.is_up(id) && !leaves(id) && free(id) && !owns(id)
    };
    let mut found: Vec<&Member> = state.members.iter().filter(usable).collect();
    found.sort_by_key(|other| {
        let warm = if crate::mutant!("orchestrator-takes-the-cold") {
            0
        } else {
            seen.mirrors(other.id, member.id)
        };
        let far = other.zone != member.zone && !crate::mutant!("orchestrator-passes-zone-over");
        (far, Reverse(warm), seen.room(other.id).used, other.id)
    });
    found.into_iter().map(|other| other.id).collect()
}

/// Whether the units of members that are down can go to those that are left.
fn may_spread(state: &ClusterState, seen: &impl Watched, dead: &[&Member]) -> Result<(), String> {
    let active = || state.members.iter().filter(|member| member.role == Role::Active);
    let is_dead = |member: &Member| dead.iter().any(|dead| dead.id == member.id);
    let left: Vec<&Member> = active().filter(|member| !is_dead(member)).collect();
    let n = usize::from(state.classes.iter().map(|class| class.n).max().unwrap_or(0));
    if left.len() < n.max(1) {
        return Err(format!("tables want {n} copies, and {} active members are left", left.len()));
    }
    let zones = active().map(|member| &member.zone).collect::<BTreeSet<_>>().len().min(n);
    let zones_left = left.iter().map(|member| &member.zone).collect::<BTreeSet<_>>().len();
    if zones_left < zones {
        return Err(format!("copies stand in {zones} zones, and {zones_left} are left"));
    }
    let lost: u64 = dead.iter().map(|member| seen.room(member.id).used).sum();
    let share = lost / (left.len().max(1) as u64);
    for member in left {
        let Room { used, free } = seen.room(member.id);
        let Some(free) = free else { continue };
        let most = used.saturating_add(free) / 100 * SPREAD_PERCENT_MAX;
        let fits = used.saturating_add(share) <= most;
        if !fits && !crate::mutant!("orchestrator-spreads-without-room") {
            let name = &member.name;
            return Err(format!(
                "the disk of {name} would be more than {SPREAD_PERCENT_MAX} % full"
            ));
        }
    }
    Ok(())
}

fn name(state: &ClusterState, id: NodeId) -> String {
    state.member(id).map_or_else(|| id.to_string(), |member| member.name.to_string())
}

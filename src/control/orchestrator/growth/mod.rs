//! When members should be added to those that own, or taken from them: thresholds with hysteresis over what
//! members foresee of their own load, a bound on moves, and the plan that a proposal comes to. Pure;
//! `docs/growth.md` has the rules and their reasons.

mod exchange;
#[cfg(test)]
mod exchange_tests;
mod history;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::control::{capacity, plan};
use crate::message::{ErrorCode, LoadFacts, OpError, ProposalRecord, WorkNews};
use crate::types::{ClusterState, Member, NodeId, Planned, Role, Staged, limits};

use super::{Order, OrderKind, Relief, SPREAD_PERCENT_MAX, Watched, name};

pub use exchange::exchange;
use history::{DAY, WEEK};
pub use history::{Foreseen, History, Sample};

/// What is asked of members' loads. Utilisation is in thousandths of what a member can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GrowthRules {
    /// Above this it is grown.
    pub above_milli: u32,
    /// Below this, and only then, it may be shrunk; at most six tenths of `above_milli`.
    pub below_milli: u32,
    /// Client operations a second that are all a member can do; 0: they do not count.
    pub operations: u32,
    /// With fewer hours of history only disks count.
    pub hours_min: u32,
    /// The probability that a member is gone at some moment, 0..=1.
    pub failure_probability: f64,
    /// How often the reserve is to be enough; above 0 and below 1.
    pub confidence: f64,
}

impl GrowthRules {
    /// Where a growth aims at, and what a shrink must stay below: half way between both thresholds, so that
    /// neither calls for the other.
    fn aim_milli(&self) -> u32 {
        u32::midpoint(self.above_milli, self.below_milli)
    }

    fn needed(&self, active: usize) -> usize {
        let active = u32::try_from(active).unwrap_or(u32::MAX);
        let needed = capacity::reserve(active, self.failure_probability, self.confidence);
        usize::try_from(needed).unwrap_or(usize::MAX)
    }
}

/// What a node has heard of loads, beside what else it goes by.
pub trait Measured: Watched {
    /// What a member has said of its load, if it has lately.
    fn load(&self, member: NodeId) -> Option<LoadFacts>;
    /// What a member has said that its copies are asked for, if it has lately.
    fn work(&self, member: NodeId) -> Option<WorkNews>;
    /// Hours since the Unix epoch.
    fn hour(&self) -> u32;
}

/// Which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// Reserved members become active.
    #[default]
    Grow,
    /// An active member is reserved again.
    Shrink,
    /// Active members exchange units.
    Exchange,
}

impl Turn {
    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Turn::Grow => "grow",
            Turn::Shrink => "shrink",
            Turn::Exchange => "exchange",
        }
    }
}

/// What is due by the figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Which way.
    pub turn: Turn,
    /// Who becomes active, or is reserved, empty when nobody can; or who exchanges units, the busiest first.
    pub members: Vec<NodeId>,
    /// So many more reserved members would be needed for all that is due.
    pub missing: usize,
    /// Why, in words.
    pub reason: String,
    /// The units that are exchanged, and their owners then.
    pub swaps: Vec<Planned>,
    /// Of an exchange: what the busiest has to do then, in thousandths of the mean.
    pub after_milli: u32,
}

impl Wish {
    /// What it is about: a hash of which way and of whom. It is what an operator puts aside.
    pub fn about(&self) -> u64 {
        let mut bytes = self.turn.as_str().as_bytes().to_vec();
        // Whom a busy member exchanges with differs from hour to hour.
        let most = if self.turn == Turn::Exchange { 1 } else { usize::MAX };
        let members = self.members.iter().take(most);
        members.for_each(|id| bytes.extend_from_slice(&id.0.to_le_bytes()));
        xxh3_64(&bytes).max(1)
    }
}

/// Whether an operator has put this aside within a week, as far as members have told.
pub fn is_dismissed(state: &ClusterState, seen: &impl Measured, wish: &Wish) -> bool {
    let tellers = state.members.iter().filter_map(|member| seen.load(member.id));
    let known = tellers.fold(ProposalRecord::default(), |a, load| a.latest(load.proposals));
    let is_it = |(hour, about): &(u32, u64)| {
        *about == wish.about() && seen.hour().saturating_sub(*hour) < WEEK
    };
    known.dismissed.iter().any(is_it)
}

/// What is foreseen of the member that will have most to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// In thousandths of what it can do.
    pub milli: u32,
    /// Whose.
    pub member: NodeId,
    /// Of what: disk, processor or operations.
    pub what: &'static str,
}

/// What a wish comes to.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The wish.
    pub wish: Wish,
    /// The plan, with a hash that names the members too; with reasons when it cannot be carried out.
    pub draft: plan::Draft,
    /// What is foreseen of the busiest afterwards, in thousandths.
    pub after_milli: u32,
}

/// The busiest active member, by what all have said; `None` before any has.
pub fn peak(state: &ClusterState, seen: &impl Measured, rules: &GrowthRules) -> Option<Peak> {
    let of = |member: &Member| {
        let (milli, what) = utilisation(seen, rules, member.id)?;
        Some(Peak { milli, member: member.id, what })
    };
    active(state).filter_map(of).max_by_key(|peak| (peak.milli, core::cmp::Reverse(peak.member)))
}

fn active(state: &ClusterState) -> impl Iterator<Item = &Member> {
    state.members.iter().filter(|member| member.role == Role::Active)
}

/// The highest of what a member foresees of its disk, its processor and its operations.
fn utilisation(
    seen: &impl Measured,
    rules: &GrowthRules,
    member: NodeId,
) -> Option<(u32, &'static str)> {
    let room = seen.room(member);
    let disk = room.free.map(|free| {
        let all = room.used.saturating_add(free).max(1);
        let milli = u128::from(room.used) * 1000 / u128::from(all);
        (u32::try_from(milli).unwrap_or(u32::MAX), "disk")
    });
    let load = seen.load(member).filter(|load| load.hours >= rules.hours_min);
    let cpu = load.map(|load| (load.cpu_peak, "processor"));
    let ops = load.filter(|_| rules.operations > 0).map(|load| {
        let milli = u64::from(load.ops_peak) * 1000 / u64::from(rules.operations);
        (u32::try_from(milli).unwrap_or(u32::MAX), "operations")
    });
    [disk, cpu, ops].into_iter().flatten().max_by_key(|(milli, _)| *milli)
}

/// What the figures call for, whatever else is going on. A growth a day at most, a shrink a week, and none in the
/// week after a growth.
pub fn wish(state: &ClusterState, seen: &impl Measured, rules: &GrowthRules) -> Option<Wish> {
    let peak = peak(state, seen, rules)?;
    let tellers = state.members.iter().filter_map(|member| seen.load(member.id));
    let resized = tellers.map(|load| load.resized).fold(Default::default(), |a, b| b.latest(a));
    let ago = |hour: u32| seen.hour().saturating_sub(hour);
    if peak.milli > rules.above_milli {
        return (ago(resized.grown) >= DAY).then(|| grown(state, seen, rules, peak)).flatten();
    }
    let calm = ago(resized.grown) >= WEEK && ago(resized.shrunk) >= WEEK;
    let below = match crate::mutant!("growth-without-hysteresis") {
        true => rules.above_milli,
        false => rules.below_milli,
    };
    let calm = calm || crate::mutant!("growth-without-hysteresis");
    (calm && peak.milli < below).then(|| shrunk(state, seen, rules, peak)).flatten()
}

/// Percent of thousandths, for people.
fn percent(milli: u32) -> String {
    format!("{}.{} %", milli / 10, milli % 10)
}

fn told(state: &ClusterState, peak: Peak) -> String {
    format!(
        "{} of {} is foreseen for the {}",
        percent(peak.milli),
        name(state, peak.member),
        peak.what
    )
}

fn grown(
    state: &ClusterState,
    seen: &impl Measured,
    rules: &GrowthRules,
    peak: Peak,
) -> Option<Wish> {
    let now = active(state).count();
    let aim = usize::try_from(rules.aim_milli().max(1)).unwrap_or(usize::MAX);
    let load = usize::try_from(peak.milli).unwrap_or(usize::MAX).saturating_mul(now);
    let due = load.div_ceil(aim).saturating_sub(now).clamp(1, limits::GROW_AT_ONCE);
    let mut free = usable(state, seen);
    let reserved = free.len();
    let keeps = |more: usize| {
        // INVARIANT: what failures ask for stays reserved, of as many as there will be.
        let left = reserved.saturating_sub(more);
        reserved >= more
            && (left >= rules.needed(now + more) || crate::mutant!("growth-ignores-reserve"))
    };
    let count = (1..=due).rev().find(|more| keeps(*more)).unwrap_or(0);
    let missing = (due + rules.needed(now + due)).saturating_sub(reserved);
    let mut chosen: Vec<NodeId> = Vec::new();
    for _ in 0..count {
        // The zone with the fewest, whose members have most each; there, who has most room.
        let zone = |member: &Member| {
            let in_zone = |id: &NodeId| state.member(*id).is_some_and(|it| it.zone == member.zone);
            active(state).filter(|it| it.zone == member.zone).count()
                + chosen.iter().filter(|id| in_zone(id)).count()
        };
        // In whole GiB: what is told changes all the time, and a proposal should not.
        let room = |member: &Member| {
            core::cmp::Reverse(seen.room(member.id).free.map_or(0, |free| free >> 30))
        };
        let place = (0..free.len()).min_by_key(|place| {
            free.get(*place).map(|member| (zone(member), room(member), member.id))
        })?;
        chosen.push(free.remove(place).id);
    }
    chosen.sort_unstable();
    let missing = if chosen.len() < due { missing.max(1) } else { 0 };
    let reason = format!("{}, more than {}", told(state, peak), percent(rules.above_milli));
    Some(Wish { turn: Turn::Grow, members: chosen, missing, reason, ..Wish::default() })
}

/// Reserved members that serve, own nothing and are not staged to leave.
fn usable<'a>(state: &'a ClusterState, seen: &impl Measured) -> Vec<&'a Member> {
    let staged = |id: NodeId| state.topology.staged.contains(&Staged::Leave(id));
    let owners: BTreeSet<NodeId> =
        state.classes.iter().flat_map(|class| class.owners.iter().flatten()).copied().collect();
    let usable = |member: &&Member| {
        member.role == Role::Reserved
            && seen.is_up(member.id)
            && !staged(member.id)
            && !owners.contains(&member.id)
    };
    state.members.iter().filter(usable).collect()
}

fn shrunk(
    state: &ClusterState,
    seen: &impl Measured,
    rules: &GrowthRules,
    peak: Peak,
) -> Option<Wish> {
    let now: Vec<&Member> = active(state).collect();
    let n = usize::from(state.classes.iter().map(|class| class.n).max().unwrap_or(1));
    // Nobody's week may be unknown: its peak may be still to come.
    let known = |member: &&Member| {
        let load = seen.load(member.id);
        seen.is_up(member.id) && load.is_some_and(|load| load.hours >= WEEK.max(rules.hours_min))
    };
    // INVARIANT: n copies have n members.
    if now.len() <= n.max(1) || !now.iter().all(known) {
        return None;
    }
    let left = u32::try_from(now.len() - 1).unwrap_or(u32::MAX);
    let after = u64::from(peak.milli) * u64::from(left + 1) / u64::from(left);
    if after > u64::from(rules.aim_milli()) && !crate::mutant!("growth-without-hysteresis") {
        return None;
    }
    let zones = |without: Option<NodeId>| {
        let left = now.iter().filter(|member| Some(member.id) != without);
        left.map(|member| &member.zone).collect::<BTreeSet<_>>().len()
    };
    let wanted = zones(None).min(n);
    let in_zone = |member: &Member| now.iter().filter(|it| it.zone == member.zone).count();
    // The zone with the most, whose members have least each; there, who came last.
    let may_go = now.iter().filter(|member| zones(Some(member.id)) >= wanted);
    let goes = may_go.max_by_key(|member| (in_zone(member), member.id))?;
    let reason = format!("{}, less than {}", told(state, peak), percent(rules.below_milli));
    let (turn, members) = (Turn::Shrink, vec![goes.id]);
    Some(Wish { turn, members, missing: 0, reason, ..Wish::default() })
}

/// The plan of a wish; `None` when it would leave the busiest member of a shrunk cluster with too much.
pub fn propose(
    state: &ClusterState,
    seen: &impl Measured,
    rules: &GrowthRules,
    wish: Wish,
) -> Option<Proposal> {
    if wish.turn == Turn::Exchange {
        let (draft, after_milli) = (exchange::draft(state, &wish.swaps), wish.after_milli);
        return Some(Proposal { wish, draft, after_milli });
    }
    let draft = draft(state, wish.turn, &wish.members);
    let after_milli = after(state, seen, rules, &draft);
    let hysteresis =
        after_milli <= rules.aim_milli() || crate::mutant!("growth-without-hysteresis");
    let shrinks = wish.turn == Turn::Shrink;
    (!shrinks || hysteresis).then_some(Proposal { wish, draft, after_milli })
}

fn draft(state: &ClusterState, turn: Turn, chosen: &[NodeId]) -> plan::Draft {
    let role = match turn {
        Turn::Grow => Role::Active,
        Turn::Shrink | Turn::Exchange => Role::Reserved,
    };
    let mut members = state.members.clone();
    for member in members.iter_mut().filter(|member| chosen.contains(&member.id)) {
        member.role = role;
    }
    let mut draft = plan::draft_of(state, (members, Vec::new()), &BTreeSet::new());
    // Named by what it is made of and by whom it is about, so that it is no other's.
    let mut bytes = draft.hash.to_le_bytes().to_vec();
    bytes.extend_from_slice(turn.as_str().as_bytes());
    chosen.iter().for_each(|id| bytes.extend_from_slice(&id.0.to_le_bytes()));
    draft.hash = xxh3_128(&bytes);
    draft
}

/// What is foreseen of the busiest, once each member has what the plan gives it: by copies.
fn after(
    state: &ClusterState,
    seen: &impl Measured,
    rules: &GrowthRules,
    draft: &plan::Draft,
) -> u32 {
    let copies = |id: NodeId| {
        let owners = state.classes.iter().flat_map(|class| class.owners.iter().flatten());
        owners.filter(|owner| **owner == id).count() as u64
    };
    let moved = |id: NodeId| {
        let mut change = 0i64;
        for planned in &draft.moves {
            let from = state.owners(planned.unit);
            change += i64::from(planned.to.contains(&id)) - i64::from(from.contains(&id));
        }
        change
    };
    // What one copy weighs, at the members that have some.
    let mut weights = Vec::new();
    for member in active(state) {
        let milli = utilisation(seen, rules, member.id).map(|(milli, _)| u64::from(milli) * 1000);
        let weight = milli.and_then(|milli| milli.checked_div(copies(member.id)));
        weights.extend(weight.map(|weight| (member.id, weight)));
    }
    let count = weights.len().max(1) as u64;
    let usual = weights.iter().map(|(_, weight)| weight).sum::<u64>() / count;
    let mut most = 0;
    for member in draft.members.iter().filter(|member| member.role == Role::Active) {
        let weight = weights.iter().find(|(id, _)| *id == member.id).map_or(usual, |it| it.1);
        let owned = copies(member.id).saturating_add_signed(moved(member.id));
        most = most.max(weight * owned / 1000);
    }
    u32::try_from(most).unwrap_or(u32::MAX)
}

/// What keeps a proposal from being carried out without anybody's word; `None`: nothing does.
pub fn held_up(
    state: &ClusterState,
    seen: &impl Measured,
    rules: &GrowthRules,
    alarms: usize,
) -> Option<&'static str> {
    let down = state.members.iter().any(|member| !seen.is_up(member.id));
    if down && !crate::mutant!("growth-while-down") {
        return Some("somebody does not answer: what is down comes first");
    }
    if alarms > 0 || !state.topology.losses.is_empty() {
        return Some("an alarm stands, or copies were given up");
    }
    if state.topology.plan.is_some() {
        return Some("a plan is carried out");
    }
    if !state.topology.staged.is_empty() {
        return Some("an operator has staged something");
    }
    let known = |it: &Member| seen.load(it.id).is_some_and(|load| load.hours >= rules.hours_min);
    if !active(state).all(known) {
        return Some("too little has been seen of some active members");
    }
    if !is_quiet(state, seen) && !crate::mutant!("growth-at-the-peak") {
        return Some("these are no quiet hours");
    }
    None
}

/// Whether more than half of the active members say that these are quiet hours.
pub fn is_quiet(state: &ClusterState, seen: &impl Measured) -> bool {
    let quiet = active(state).filter(|it| seen.load(it.id).is_some_and(|load| load.quiet)).count();
    quiet > active(state).count() / 2
}

impl Proposal {
    /// Whether it could be carried out at all.
    pub fn is_feasible(&self) -> bool {
        !self.wish.members.is_empty() && self.draft.reasons.is_empty()
    }

    /// The decision to carry it out.
    pub fn order(&self, state: &ClusterState) -> Order {
        let kind = match self.wish.turn {
            Turn::Grow => OrderKind::Grow,
            Turn::Shrink => OrderKind::Shrink,
            Turn::Exchange => return exchange::order(state, &self.wish),
        };
        let relief = |id: &NodeId| Relief::new(*id, None, self.wish.reason.clone());
        Order::new(state, kind, self.wish.members.iter().map(relief).collect())
    }
}

/// Carries a decision out.
pub(super) fn apply(
    next: &mut ClusterState,
    turn: Turn,
    reliefs: &[Relief],
) -> Result<(), OpError> {
    let conflict = || OpError::new(ErrorCode::PlanConflict, "the members have changed since");
    let from = match turn {
        Turn::Grow => Role::Reserved,
        Turn::Shrink | Turn::Exchange => Role::Active,
    };
    let chosen: Vec<NodeId> = reliefs.iter().map(|relief| relief.member).collect();
    let fits = |id: &NodeId| next.member(*id).is_some_and(|member| member.role == from);
    if next.topology.plan.is_some() || !chosen.iter().all(fits) {
        return Err(conflict());
    }
    let draft = draft(next, turn, &chosen);
    if !draft.reasons.is_empty() {
        return Err(OpError::new(ErrorCode::PlanInvalid, draft.reasons.join("; ")));
    }
    plan::begin(next, draft);
    Ok(())
}

/// Carries an exchange out: on the very state that it was chosen on.
pub(super) fn apply_exchange(next: &mut ClusterState, swaps: &[Planned]) -> Result<(), OpError> {
    let draft = exchange::draft(next, swaps);
    if !swaps.iter().all(|planned| exchange::fits(next, planned)) {
        let text = "owners have changed since the exchange was chosen";
        return Err(OpError::new(ErrorCode::PlanConflict, text));
    }
    if !draft.reasons.is_empty() || draft.moves.is_empty() {
        return Err(OpError::new(ErrorCode::PlanConflict, draft.reasons.join("; ")));
    }
    plan::begin(next, draft);
    Ok(())
}

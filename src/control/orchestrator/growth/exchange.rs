//! When some members have far more to do than others for as many copies: which units they exchange. Pure;
//! `docs/growth.md`, "Even load", has the rules and their reasons.
//!
//! A greedy local search (as in Karger and Ruhl, 2004, between pairs of nodes): of the busiest member's hottest units the
//! one goes, and of another member the one comes back, that leave the busier of both with least.

use core::cmp::Reverse;
use std::collections::BTreeMap;

use crate::control::plan;
use crate::types::{ClusterState, NodeId, Planned, Unit, Zone, limits};

use super::{DAY, Measured, OrderKind, Relief, SPREAD_PERCENT_MAX, Turn, Wish, active, name};

/// A member is busy that has more than so many thousandths of the mean to do, for as many copies.
const ABOVE_MILLI: u64 = 1500;
/// Exchanges go on, of one proposal, until it has no more than so many.
const AIM_MILLI: u64 = 1250;
/// One that has less to do than this a second is not worth any move.
const WORK_MIN: u64 = 100;
/// A proposal takes at least this part of what the busiest has beyond the mean.
const WORTH: u64 = 4;
/// Members with least to do that are looked at for each exchange.
const COOL_MAX: usize = 16;

/// What a member has, and has to do.
struct Duty<'a> {
    id: NodeId,
    zone: &'a Zone,
    copies: u64,
    /// Of all its copies.
    work: u64,
    told: BTreeMap<Unit, u64>,
    owned: Vec<Unit>,
}

impl Duty<'_> {
    /// In thousandths of an operation a second and copy.
    fn level(&self) -> u64 {
        (self.work * 1000).checked_div(self.copies).unwrap_or(0)
    }

    /// What a copy costs there: as told, or what is left for those of which nothing was told.
    fn cost(&self, unit: Unit) -> u64 {
        self.told.get(&unit).copied().unwrap_or_else(|| {
            let told: u64 = self.told.values().sum();
            let others = self.copies.saturating_sub(self.told.len() as u64);
            self.work.saturating_sub(told).checked_div(others).unwrap_or(0)
        })
    }
}

/// One pair of units, each of a member that does not own the other.
struct Swap {
    busy: usize,
    cool: usize,
    goes: Unit,
    comes: Unit,
    /// By how much the busy one has less to do then.
    relief: u64,
}

/// Which units should be exchanged, if the load is far from even: never while a plan is carried out, something is
/// staged or somebody does not answer; once a day, and not in the day after members have come or gone.
pub fn exchange(state: &ClusterState, seen: &impl Measured) -> Option<Wish> {
    let topology = &state.topology;
    let calm = topology.plan.is_none() && topology.staged.is_empty() && topology.losses.is_empty();
    let all_up = state.members.iter().all(|member| seen.is_up(member.id));
    if !calm || !all_up && !crate::mutant!("exchange-while-down") {
        return None;
    }
    let tellers = || state.members.iter().filter_map(|member| seen.load(member.id));
    let resized = tellers().map(|load| load.resized.grown.max(load.resized.shrunk)).max()?;
    let exchanged = tellers().map(|load| load.proposals.exchanged).max()?;
    let ago = |hour: u32| seen.hour().saturating_sub(hour);
    let often = crate::mutant!("exchange-for-ever");
    if ago(resized.max(exchanged)) < DAY && !often {
        return None;
    }
    let mut duties = duties(state, seen)?;
    let (work, copies) = duties.iter().fold((0, 0), |(w, c), it| (w + it.work, c + it.copies));
    let mean = (work * 1000).checked_div(copies)?;
    let busiest = duties.iter().max_by_key(|duty| (duty.level(), Reverse(duty.id)))?;
    let (first, before) = (busiest.id, busiest.level());
    if before * 1000 <= mean * ABOVE_MILLI || busiest.work < WORK_MIN {
        return None;
    }
    let (did, usual) = (busiest.work, mean * busiest.copies / 1000);
    let (mut swaps, mut parties) = (Vec::new(), vec![first]);
    while swaps.len() < 2 * limits::EXCHANGE_AT_ONCE {
        let Some(swap) = best(state, seen, &duties, &swaps, mean) else { break };
        carry_out(state, &mut duties, &swap, &mut swaps);
        for party in [swap.busy, swap.cool] {
            let id = duties.get(party)?.id;
            if !parties.contains(&id) {
                parties.push(id);
            }
        }
    }
    let after = duties.iter().find(|duty| duty.id == first)?.level();
    let hottest = duties.iter().map(Duty::level).max()?;
    let worth = before.saturating_sub(hottest.max(after)) * WORTH >= before.saturating_sub(mean);
    if swaps.is_empty() || !worth && !crate::mutant!("exchange-without-gain") {
        return None;
    }
    let of_mean = |level: u64| u32::try_from(level * 1000 / mean.max(1)).unwrap_or(u32::MAX);
    let reason = format!(
        "{} does {did} operations a second with its copies, {usual} would be the mean",
        name(state, first)
    );
    let (turn, after_milli) = (Turn::Exchange, of_mean(hottest));
    Some(Wish { turn, members: parties, missing: 0, reason, swaps, after_milli })
}

/// What each active member has to do; `None` while one has not told.
fn duties<'a>(state: &'a ClusterState, seen: &impl Measured) -> Option<Vec<Duty<'a>>> {
    let mut duties = Vec::new();
    for member in active(state) {
        let news = seen.work(member.id)?;
        duties.push(Duty {
            id: member.id,
            zone: &member.zone,
            copies: 0,
            work: news.all.into(),
            told: news.hottest.iter().map(|(unit, rate)| (*unit, u64::from(*rate))).collect(),
            owned: Vec::new(),
        });
    }
    duties.sort_by_key(|duty| duty.id);
    for unit in state.units() {
        for owner in state.owners(unit) {
            if let Ok(place) = duties.binary_search_by_key(owner, |duty| duty.id)
                && let Some(duty) = duties.get_mut(place)
            {
                duty.copies += 1;
                duty.owned.push(unit);
            }
        }
    }
    for duty in &mut duties {
        // What it told of before it lost a unit counts for nothing.
        let owned = &duty.owned;
        duty.told.retain(|unit, _| owned.binary_search(unit).is_ok());
    }
    duties.retain(|duty| duty.copies > 0);
    Some(duties)
}

/// The exchange that leaves the busier of both with least; `None`: none helps.
fn best(
    state: &ClusterState,
    seen: &impl Measured,
    duties: &[Duty<'_>],
    swaps: &[Planned],
    mean: u64,
) -> Option<Swap> {
    let by_level = |place: &usize| duties.get(*place).map(|duty| (duty.level(), duty.id));
    let mut order: Vec<usize> = (0..duties.len()).collect();
    order.sort_by_key(by_level);
    let busy = *order.last()?;
    let hot = duties.get(busy)?;
    if hot.level() * 1000 <= mean * AIM_MILLI {
        return None;
    }
    let is_free = |unit: Unit| swaps.iter().all(|planned| planned.unit != unit);
    let mut found: Option<(u64, Swap)> = None;
    for cool in order.iter().copied().take(COOL_MAX).filter(|cool| *cool != busy) {
        let other = duties.get(cool)?;
        if !has_room(seen, other) {
            continue;
        }
        let mut cheap = other.owned.clone();
        cheap.sort_by_key(|unit| (other.cost(*unit), *unit));
        let goes = hot.told.keys().copied().filter(|unit| is_free(*unit));
        for goes in goes.filter(|unit| may_move(state, *unit, hot, other)) {
            let fits = |unit: &&Unit| {
                unit.class == goes.class && is_free(**unit) && may_move(state, **unit, other, hot)
            };
            let Some(comes) = cheap.iter().find(fits).copied() else { continue };
            let relief = hot.cost(goes).saturating_sub(other.cost(comes));
            let level = |work: u64, copies: u64| (work * 1000).checked_div(copies).unwrap_or(0);
            let left = level(hot.work.saturating_sub(relief), hot.copies);
            let then = left.max(level(other.work + relief, other.copies));
            // INVARIANT: the busier of both has less than before, so no exchange calls for its opposite.
            let helps = then < hot.level() || crate::mutant!("exchange-without-gain");
            if relief > 0 && helps && found.as_ref().is_none_or(|(least, _)| then < *least) {
                found = Some((then, Swap { busy, cool, goes, comes, relief }));
            }
        }
    }
    found.map(|(_, swap)| swap)
}

/// Whether `to` may have a copy in the place of `from`: the members stay different, and the zones as they are.
fn may_move(state: &ClusterState, unit: Unit, from: &Duty<'_>, to: &Duty<'_>) -> bool {
    let owners = state.owners(unit);
    if owners.contains(&to.id) || !owners.contains(&from.id) || state.moving(unit).is_some() {
        return false;
    }
    let of_others = owners.iter().filter(|id| **id != from.id);
    let in_zone = |zone: &Zone| {
        let is_there = |id: &&NodeId| state.member(**id).is_some_and(|it| it.zone == *zone);
        of_others.clone().filter(is_there).count()
    };
    // INVARIANT: as many zones as before, and none with more copies than the one it leaves had.
    from.zone == to.zone
        || in_zone(to.zone) <= in_zone(from.zone)
        || crate::mutant!("exchange-across-zones")
}

/// Whether a disk has room for a unit more while both are there.
fn has_room(seen: &impl Measured, duty: &Duty<'_>) -> bool {
    let room = seen.room(duty.id);
    let Some(free) = room.free else { return true };
    let unit = room.used.checked_div(duty.copies).unwrap_or(0);
    let most = room.used.saturating_add(free) / 100 * SPREAD_PERCENT_MAX;
    room.used.saturating_add(unit.saturating_mul(2)) <= most
}

/// Notes an exchange: the moves, and what the members have to do then.
fn carry_out(state: &ClusterState, duties: &mut [Duty<'_>], swap: &Swap, swaps: &mut Vec<Planned>) {
    let Swap { busy, cool, goes, comes, relief } = *swap;
    let id = |place: usize| duties.get(place).map(|duty| duty.id).unwrap_or_default();
    let (hot, other) = (id(busy), id(cool));
    for (unit, from, to) in [(goes, hot, other), (comes, other, hot)] {
        let owners = state.owners(unit).iter();
        let to = owners.map(|owner| if *owner == from { to } else { *owner }).collect();
        swaps.push(Planned { unit, to });
    }
    if let Some(duty) = duties.get_mut(busy) {
        duty.work = duty.work.saturating_sub(relief);
        duty.told.remove(&goes);
    }
    if let Some(duty) = duties.get_mut(cool) {
        duty.work += relief;
        duty.told.remove(&comes);
    }
}

/// The plan of it: these owners and no others.
pub(super) fn draft(state: &ClusterState, swaps: &[Planned]) -> plan::Draft {
    plan::draft_of_moves(state, swaps.to_vec())
}

/// Whether these owners are those that a unit has, but for one: another active member.
pub(super) fn fits(state: &ClusterState, planned: &Planned) -> bool {
    let owners = state.owners(planned.unit);
    let new: Vec<NodeId> = planned.to.iter().copied().filter(|id| !owners.contains(id)).collect();
    let kept = owners.iter().filter(|id| planned.to.contains(id)).count();
    let owns = |id: &NodeId| active(state).any(|member| member.id == *id);
    owners.len() == planned.to.len()
        && kept + 1 == owners.len()
        && new.len() == 1
        && new.iter().all(owns)
}

/// How it is ordered: by the member that has most to do.
pub(super) fn order(state: &ClusterState, wish: &Wish) -> super::Order {
    let first = wish.members.first().copied().unwrap_or_default();
    let relief = Relief::new(first, None, wish.reason.clone());
    let swaps = wish.swaps.clone();
    super::Order { swaps, ..super::Order::new(state, OrderKind::Exchange, vec![relief]) }
}

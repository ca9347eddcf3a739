//! Anti-entropy: owners that compare themselves with each other while faults happen, and whether they
//! become equal by themselves once these stop, without a client.

use core::time::Duration;
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;
use roundtable::causality::Accepted;
use roundtable::message::{
    CopyContent, CopyEntry, CopyPlace, CopyRecord, CopyWhat, DiskAnswer, DiskRequest, UnitDisk,
    UnitDone,
};
use roundtable::node::NodeConfig;
use roundtable::replica::Replica;
use roundtable::types::{ClusterState, Epoch, Key, NodeId, Stamp, Unit, WallTime};

use crate::judge::Checker;
use crate::plan::{MS, SECOND};

use super::host::machine;
use super::{Happening, World};

/// Seeds below this are those by which most planted bugs are recorded: owners that compare themselves
/// would make good what these break.
const SEEDS_FROM: u64 = 10_000;
/// What comparisons may take beside their own cadence.
const EQUAL_WITHIN: u64 = 20 * SECOND;

/// From this interval on an operator starts comparisons in the end.
const ORDERED_FROM: Duration = Duration::from_secs(100);

/// How owners compare themselves. Drawn apart, so that seeds stay what they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RepairPlan {
    pub(super) interval: Duration,
    pub(super) settle: Duration,
    pub(super) rate: u64,
    /// Hints that never counted are given up soon.
    pub(super) hint_age: Option<Duration>,
    /// How old deletes become before they are purged.
    pub(super) purge_slack: Duration,
}

impl RepairPlan {
    /// Half of the seeds compare.
    pub(crate) fn draw(seed: u64) -> Option<RepairPlan> {
        let mut rng = Rng::with_seed(seed ^ 0x7265_7061_6972_2121);
        let has = seed >= SEEDS_FROM && rng.bool();
        has.then(|| RepairPlan {
            interval: Duration::from_millis(rng.u64(1_000..12_000)),
            settle: Duration::from_millis(rng.u64(200..1_000)),
            rate: if rng.u8(..4) == 0 { rng.u64(100_000..2_000_000) } else { 0 },
            hint_age: rng.bool().then(|| Duration::from_millis(rng.u64(100..1_000))),
            // Short of the time for which clients try again and ask.
            purge_slack: Duration::from_millis(rng.u64(2_000..8_000)),
        })
    }

    /// Sets the cadence of a node.
    pub(crate) fn bound(plan: Option<RepairPlan>, config: &mut NodeConfig) {
        let Some(plan) = plan else {
            config.repair_interval = Duration::ZERO;
            return;
        };
        config.repair_interval = plan.interval;
        config.repair_settle = plan.settle;
        config.repair_rate = plan.rate;
        config.hint_age_max = plan.hint_age.unwrap_or(config.hint_age_max);
        config.purge_slack = plan.purge_slack;
    }

    fn equal_within(&self) -> u64 {
        // An operator has started it where turns are further apart.
        let turns = if self.interval < ORDERED_FROM { 3 * self.interval } else { Duration::ZERO };
        let cadence = turns + 2 * self.settle;
        u64::try_from(cadence.as_nanos()).expect("seconds") + EQUAL_WITHIN
    }
}

/// What a replica holds of a key, as far as all have to hold the same.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    Record(CopyRecord),
    /// What was promised is each acceptor's own affair.
    Accepted(Option<Accepted>),
}

impl World {
    /// Clients have stopped and hints are home: waits until owners have made each other equal. Whether
    /// it waits.
    pub(super) fn awaits_equality(&mut self, since: u64) -> bool {
        let Some(plan) = self.plan.repair.filter(|_| !self.needs_operator()) else { return false };
        let Some((unit, text)) = self.unequal() else {
            self.totals.converged += 1;
            return false;
        };
        if self.now > since + plan.equal_within() {
            let within = plan.equal_within() / MS;
            let text =
                format_args!("owners of unit {unit} differ {within} ms after all stopped: {text}");
            self.find(Checker::Convergence, text);
            return false;
        }
        self.set_clocks_right();
        if plan.interval >= ORDERED_FROM {
            self.order_repair();
        }
        if self.now > since + plan.equal_within() / 2 {
            self.undo_own_rot();
        }
        self.later(200 * MS, Happening::ComeHome { since });
        true
    }

    /// Whether nothing may be left of a key, which had this version: somebody has deleted it, or made it
    /// expire, and it is old enough to have been purged. Whether it may be absent the history says.
    pub(super) fn may_be_purged(&self, key: &Key, stamp: Stamp) -> bool {
        self.removed.contains(key) && self.may_be_forgotten(stamp.time)
    }

    /// Whether a register may have been deleted and purged since this time.
    pub(super) fn may_be_forgotten(&self, since: WallTime) -> bool {
        let Some(plan) = self.plan.repair else { return false };
        let shown = self.hosts.iter().map(|host| host.wall.read(self.now).0);
        let latest = shown.max().unwrap_or(0).max(self.latest_shown);
        let slack = u64::try_from(plan.purge_slack.as_nanos()).expect("seconds");
        since.0.saturating_add(slack) <= latest
    }

    /// What a clock has shown, before it is moved: stamps may tell of it.
    pub(super) fn note_clock(&mut self, host: usize) {
        let shown = self.hosts[host].wall.read(self.now).0;
        self.latest_shown = self.latest_shown.max(shown);
    }

    /// The clocks that are behind stop to be. A wrong clock is a fault like others: for as long as it lasts,
    /// whoever is further behind than the bound refuses what is decided of registers, and what bears a
    /// stamp of the future is held to be under way; both by design.
    pub(super) fn set_clocks_right(&mut self) {
        (0..self.hosts.len()).for_each(|host| self.note_clock(host));
        let latest = self.latest_shown;
        for host in &mut self.hosts {
            let behind = latest - host.wall.read(self.now).0;
            host.wall.offset += i64::try_from(behind).expect("minutes");
        }
    }

    /// A unit whose owners, all of which serve, do not hold the same, and what.
    fn unequal(&self) -> Option<(Unit, String)> {
        let state = self.state()?;
        state.units().find_map(|unit| {
            let owners: Vec<usize> = state.owners(unit).iter().map(|id| machine(*id)).collect();
            if state.moving(unit).is_some() || !owners.iter().all(|of| self.hosts[*of].serves()) {
                return None;
            }
            let all: Vec<Vec<(CopyPlace, Held)>> = owners
                .iter()
                .filter_map(|of| self.hosts[*of].running.as_ref())
                .map(|running| contents(&running.replica, &state, unit))
                .collect();
            let (first, others) = all.split_first()?;
            let other = others.iter().position(|held| held != first)?;
            let differs = |(own, theirs): (&(CopyPlace, Held), &(CopyPlace, Held))| own != theirs;
            let at = first.iter().zip(&others[other]).position(differs);
            let at = at.unwrap_or(first.len().min(others[other].len()));
            let (own, theirs) = (first.get(at), others[other].get(at));
            let (a, b) = (owners[0] + 1, owners[other + 1] + 1);
            Some((unit, format!("n{a} holds {own:?}, n{b} {theirs:?}")))
        })
    }
}

/// All a replica holds of a unit, of tables that are there.
fn contents(replica: &Replica, state: &ClusterState, unit: Unit) -> Vec<(CopyPlace, Held)> {
    let (mut held, mut after) = (Vec::new(), None);
    loop {
        let what = CopyWhat::All(after);
        let page = UnitDisk::Page { unit, what, to: (NodeId(0), Epoch(0)) };
        let found = Arc::new(Mutex::new(None));
        let answer = Arc::clone(&found);
        let done = Box::new(move |result| *answer.lock() = Some(result));
        replica.execute(DiskRequest::Unit(Box::new(page)), done);
        // A page is told once it is durable.
        while found.lock().is_none() && replica.step() {}
        let page = match found.lock().take() {
            Some(Ok(DiskAnswer::Unit(UnitDone::Page(page)))) => page,
            _ => return held,
        };
        if let CopyContent::Records(entries) = page.content {
            let there = entries.into_iter().filter(|of| state.table(of.place.table).is_some());
            held.extend(there.filter_map(seen));
        }
        after = page.next;
        if after.is_none() {
            return held;
        }
    }
}

fn seen(entry: CopyEntry) -> Option<(CopyPlace, Held)> {
    let held = match entry.record {
        CopyRecord::Register(acceptor) => Held::Accepted(Some(acceptor.accepted()?.clone())),
        // Where values stand is each replica's own affair.
        CopyRecord::Siblings(set) => Held::Record(CopyRecord::Siblings(set.sketch())),
        record @ CopyRecord::Version(_) => Held::Record(record),
    };
    Some((entry.place, held))
}

//! Sloppy requests, and whether every hint comes home.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;
use roundtable::message::{
    DiskAnswer, DiskRequest, Hint, QuorumMode, Receipt, TableAlteration, TableChange,
};
use roundtable::node::NodeConfig;
use roundtable::replica::Replica;
use roundtable::types::{ClusterState, Key, NodeId, Record, RequestId, Sloppy, Stamp, TableId};

use crate::judge::Checker;
use crate::plan::{MS, SECOND};

use super::host::{machine, member};
use super::traffic::unit;
use super::{Happening, Stage, World};

/// How long hints may take to come home once clients have stopped and all is well.
const HOME_WITHIN: u64 = 15 * SECOND;

/// How requests are, and what hints may take. Drawn apart, so that seeds stay what they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SloppyPlan {
    /// Share of sloppy requests; `None` where there are none.
    pub(crate) share: Option<f64>,
    /// Table `default` becomes one that is always sloppy.
    pub(crate) always: bool,
    bytes_max: u64,
    age_max: Duration,
    replay_rate: u64,
}

impl SloppyPlan {
    /// Three quarters of the seeds make sloppy requests.
    pub(crate) fn draw(seed: u64) -> SloppyPlan {
        let mut rng = Rng::with_seed(seed ^ 0x536c_6f70_7079_2e2e);
        let share = (rng.u8(..4) > 0).then(|| 0.2 + rng.f64() * 0.8);
        let small = rng.u8(..4) == 0;
        let always = share.is_some() && Rng::with_seed(seed ^ 0x616c_7761_7973).u8(..5) == 0;
        SloppyPlan {
            share,
            always,
            bytes_max: if small { rng.u64(2_000..100_000) } else { 1 << 30 },
            age_max: Duration::from_millis(rng.u64(2_000..60_000)),
            replay_rate: if rng.bool() { rng.u64(20_000..200_000) } else { 8 << 20 },
        }
    }

    /// Sets the bounds of a node's hints.
    pub(crate) fn bound(&self, config: &mut NodeConfig) {
        config.hint_bytes_max = self.bytes_max;
        config.hint_age_max = self.age_max;
        config.hint_replay_rate = self.replay_rate;
    }
}

/// Acknowledged sloppy writes: the highest version of each key, and on how many owners it must be
/// once hints are home.
pub(super) type Homes = BTreeMap<Key, (Stamp, u8)>;

impl World {
    /// Whether the next request is sloppy.
    pub(super) fn draw_mode(&mut self) -> QuorumMode {
        let share = self.plan.sloppy.and_then(|plan| plan.share).unwrap_or(0.0);
        let sloppy = share > 0.0 && self.sloppy_rng.f64() < share;
        match (sloppy, self.is_always_sloppy()) {
            (false, true) => QuorumMode::Strict,
            (true, true) | (false, false) => QuorumMode::ByTable,
            (true, false) => QuorumMode::Sloppy,
        }
    }

    /// Whether table `default` is, or is to become, always sloppy.
    pub(super) fn is_always_sloppy(&self) -> bool {
        self.plan.sloppy.is_some_and(|plan| plan.always)
    }

    pub(super) fn schedule_always_sloppy(&mut self) {
        if self.is_always_sloppy() {
            self.later(2 * SECOND, Happening::AlwaysSloppy);
        }
    }

    /// Asks for it, and again until it is so.
    pub(super) fn make_always_sloppy(&mut self) {
        let table = self.state().and_then(|state| state.tables.first().cloned());
        if table.is_some_and(|table| table.sloppy == Sloppy::Always) || self.stage > Stage::Turmoil
        {
            return;
        }
        let name = "default".to_owned().try_into().expect("a plain name");
        let (r, w, ttl, value_bytes_max) = (None, None, None, None);
        let sloppy = Some(Sloppy::Always);
        let alteration = TableAlteration { name, r, w, sloppy, ttl, value_bytes_max };
        let id = RequestId(u128::from(self.schema_rng.u64(1..)));
        self.ask_change(id, TableChange::Alter(alteration));
        self.later(2 * SECOND, Happening::AlwaysSloppy);
    }

    /// A write was acknowledged: if stand-ins counted, it must come home.
    pub(super) fn note_custody(&mut self, key: &Key, receipt: &Receipt) {
        if receipt.stand_ins == 0 {
            return;
        }
        self.totals.sloppy_acknowledged += 1;
        if !receipt.weak {
            let home = self.homes.entry(key.clone()).or_default();
            *home = (receipt.stamp, receipt.needed).max(*home);
        }
    }

    /// I12: hints stay within their bound.
    pub(super) fn bound_hints(&mut self, host: usize) {
        let Some(running) = &self.hosts[host].running else { return };
        let held = running.node.gauges().hints.held.bytes;
        let most = self.plan.configs[host].hint_bytes_max;
        if held > most {
            let text = format_args!("n{} holds {held} bytes of hints of {most}", host + 1);
            self.find(Checker::Handoff, text);
        }
    }

    /// Clients have stopped: waits until hints are home, then reads everything back.
    pub(super) fn come_home(&mut self, since: u64) {
        if self.is_moving(since) {
            // Operators go on: one that paused a plan resumes it.
            return self.later(100 * MS, Happening::ComeHome { since });
        }
        if self.is_healing(since) {
            return self.later(200 * MS, Happening::ComeHome { since });
        }
        let left = self.hints_left();
        if left.is_empty() {
            if self.awaits_equality(since) {
                return;
            }
            if self.is_restarting(since) {
                return self.later(100 * MS, Happening::ComeHome { since });
            }
            self.check_homes();
            return self.begin_reading();
        }
        if self.now > since + HOME_WITHIN {
            let text = format_args!("hints are not home after {HOME_WITHIN} ns: {left:?}");
            return self.find(Checker::Handoff, text);
        }
        self.later(100 * MS, Happening::ComeHome { since });
    }

    pub(super) fn has_hints_left(&self) -> bool {
        !self.hints_left().is_empty()
    }

    /// Holders and sound targets between which hints are left.
    fn hints_left(&self) -> Vec<(usize, usize)> {
        let mut left = Vec::new();
        for holder in (0..self.hosts.len()).filter(|host| self.hosts[*host].serves()) {
            let Some(running) = &self.hosts[holder].running else { continue };
            for target in (0..self.hosts.len()).filter(|host| self.hosts[*host].serves()) {
                let owned = |hint: &Hint| self.may_come_home(target, hint);
                if has_hints(&running.replica, member(target), &owned) {
                    left.push((holder, target));
                }
            }
        }
        left
    }

    /// Whether all run that a hint has to be told to: its target, or the owners that came after it. It
    /// waits for one whose disk is lost until that has been replaced.
    fn may_come_home(&self, target: usize, hint: &Hint) -> bool {
        let Some(state) = self.state() else { return true };
        let owners = state.writers(hint.unit);
        owners.contains(&member(target))
            || owners.iter().all(|owner| self.hosts[machine(*owner)].doomed.is_none())
    }

    /// What was acknowledged with the help of stand-ins is on as many owners now.
    fn check_homes(&mut self) {
        if self.topology.gone_in_silence || self.hosts.iter().any(|host| host.doomed.is_some()) {
            // What a lost disk held in custody is lost with it, as is that of one that was silent for long when it
            // left.
            return;
        }
        self.causal_home();
        self.counters_home();
        for (key, (stamp, needed)) in core::mem::take(&mut self.homes) {
            let owners = self.owners(&key).unwrap_or_default();
            let holds =
                |owner: &usize| self.held(*owner, &key).map(|(held, _)| held) >= Some(stamp);
            let holders = owners.iter().copied().filter(holds).count();
            self.totals.came_home += 1;
            if holders < usize::from(needed) && !self.may_be_purged(&key, stamp) {
                let text = format_args!(
                    "{key:?} at {stamp} was acknowledged, hints are home, {holders} of {needed} \
                     owners hold it"
                );
                self.find(Checker::Handoff, text);
            }
        }
    }
}

/// Whether a store keeps one of those hints for a target; of the first page of them.
pub(super) fn has_hints(replica: &Replica, target: NodeId, those: &dyn Fn(&Hint) -> bool) -> bool {
    let found = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&found);
    let done = Box::new(move |result| {
        let hints = match result {
            Ok(DiskAnswer::Hints(page)) => {
                let page: roundtable::message::HintPage = page;
                page.hints
            }
            _ => Vec::new(),
        };
        *answer.lock() = Some(hints);
    });
    replica.execute(DiskRequest::Hints { target, after: None }, done);
    // A page of sets is told once it is durable.
    while found.lock().is_none() && replica.step() {}
    let hints = found.lock().take();
    hints.unwrap_or_default().iter().any(those)
}

/// What a store keeps for the owner on machine `owner` under a key.
pub(super) fn hinted(
    replica: &Replica,
    state: &ClusterState,
    (owner, key): (usize, &Key),
) -> Option<Record> {
    let unit = unit(state, key)?;
    let table = state.tables.first().map_or(TableId(0), |table| table.id);
    let (targets, key) = (vec![member(owner)], key.clone());
    let found = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&found);
    let done = Box::new(move |result| {
        if let Ok(DiskAnswer::Read(record)) = result {
            *answer.lock() = record;
        }
    });
    replica.execute(DiskRequest::ReadHint { targets, unit, table, key }, done);
    found.lock().take()
}

/// The machine of a hint's target.
pub(super) fn target_machine(target: NodeId) -> usize {
    machine(target)
}

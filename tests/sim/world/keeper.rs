//! Members that stay away for longer than the others wait: they are replaced by reserved ones, or by all
//! others, without an operator, and come back to find their place taken. Whatever else goes wrong meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use roundtable::node::{Grow, NodeConfig, QuietHours};
use roundtable::types::{ClusterState, DecisionKind, Epoch};

use crate::judge::{Checker, relief_fault};
use crate::plan::{MS, SECOND, exponential};

use super::host::machine;
use super::{Happening, Stage, World};

/// How often it is looked who is well.
const LOOK_EVERY: u64 = 200 * MS;

/// How long members are waited for, and how often one stays away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeeperPlan {
    /// What nodes are configured with.
    replace_after: Duration,
    /// Mean time between two that stay away.
    every: u64,
    /// How long they do: this, and as much again on average.
    away: u64,
    /// How often what reserved members mirror is made equal to an owner.
    mirror_every: Duration,
}

/// What is known of members.
#[derive(Debug)]
pub(crate) struct KeeperUse {
    rng: fastrand::Rng,
    /// Since when machines run, serve, and have every message of a majority come through.
    well: BTreeMap<usize, u64>,
    /// The last epoch whose decisions were judged.
    judged: Epoch,
}

impl KeeperPlan {
    /// A third of the seeds whose members change. Drawn apart, so that the others stay what they are.
    pub(crate) fn draw(seed: u64, members_change: bool) -> Option<KeeperPlan> {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x6b65_6570_6572_6565);
        (members_change && rng.u8(..3) == 0).then(|| KeeperPlan {
            replace_after: Duration::from_millis(rng.u64(1_000..3_000)),
            every: rng.u64(2 * SECOND..6 * SECOND),
            away: rng.u64(4 * SECOND..9 * SECOND),
            mirror_every: Duration::from_millis(rng.u64(1_000..8_000)),
        })
    }

    /// Of an hour, in which more stay away than this one draws.
    pub(super) fn hour(replace_after: Duration, mirror_every: Duration) -> KeeperPlan {
        KeeperPlan { replace_after, every: 0, away: 0, mirror_every }
    }

    /// The same with mirrors that are made equal to an owner so often.
    pub(super) fn mirrors(self, mirror_every: Duration) -> KeeperPlan {
        KeeperPlan { mirror_every, ..self }
    }

    /// Sets how long a node waits, and whether it mirrors: other seeds stay what they are.
    pub(crate) fn bound(plan: Option<KeeperPlan>, config: &mut NodeConfig) {
        config.replace_after = plan.map(|plan| plan.replace_after);
        config.mirror = plan.is_some();
        config.mirror_every = plan.map_or(config.mirror_every, |plan| plan.mirror_every);
    }
}

/// Below this nobody grows alone: planted bugs are recorded there.
const GROWS_FROM: u64 = 20_000;

/// In a third of the seeds from there on whose members change, nodes look at their load, find any of it too much,
/// make reserved members active by themselves, and copies stop for users. Drawn apart, as above.
pub(crate) fn grows(seed: u64, members_change: bool, config: &mut NodeConfig) {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x6772_6f77_7468_2121);
    if members_change && seed >= GROWS_FROM && rng.u8(..3) == 0 {
        config.sample_interval = Duration::from_secs(1);
        (config.grow, config.grow_operations) = (Grow::Auto, rng.u32(1..20));
        (config.grow_after, config.history_min) = (Duration::ZERO, Duration::ZERO);
        config.quiet_hours = QuietHours::Daily { from: 0, to: 24 * 60 };
        config.failure_probability = 0.0;
    }
}

impl KeeperUse {
    pub(super) fn new(seed: u64) -> KeeperUse {
        let rng = fastrand::Rng::with_seed(seed ^ 0x7374_6179_6177_6179);
        KeeperUse { rng, well: BTreeMap::new(), judged: Epoch(0) }
    }
}

impl World {
    /// Begins to keep members away, if this seed does.
    pub(super) fn schedule_keeper(&mut self) {
        if self.plan.keeper.is_some() {
            if !self.plan.hour {
                self.later(4 * SECOND, Happening::StayAway);
            }
            self.later(LOOK_EVERY, Happening::LookAround);
        }
    }

    /// A machine loses its power for long. One at a time: of three, two must be left.
    pub(super) fn stay_away(&mut self) {
        let Some(plan) = self.plan.keeper.filter(|_| self.stage == Stage::Turmoil) else { return };
        let wait = exponential(&mut self.keeper.rng, plan.every) + 500 * MS;
        self.later(wait, Happening::StayAway);
        let known = |host: &usize| !self.hosts[*host].absent && !self.topology.gone.contains(host);
        let here: Vec<usize> = (0..self.hosts.len()).filter(known).collect();
        let all_run = here.iter().all(|host| self.hosts[*host].serves());
        if !all_run || here.len() < 3 {
            return;
        }
        let host = here[self.keeper.rng.usize(..here.len())];
        let away = plan.away + exponential(&mut self.keeper.rng, plan.away);
        self.totals.stayed_away += 1;
        self.kill(host);
        self.start_after(host, away);
    }

    /// Notes who is well.
    pub(super) fn look_around(&mut self) {
        if self.stage > Stage::Verifying {
            return;
        }
        self.later(LOOK_EVERY, Happening::LookAround);
        let count = self.hosts.len();
        for host in 0..count {
            let serves = self.hosts[host].serves() && self.hosts[host].slow == 0;
            let heard = (0..count)
                .filter(|other| *other != host && self.hosts[*other].serves())
                .filter(|other| self.network.is_clear(host, *other))
                .count();
            let members = self.hosts.iter().filter(|other| !other.absent).count();
            if serves && heard + 1 > members / 2 {
                self.keeper.well.entry(host).or_insert(self.now);
            } else {
                self.keeper.well.remove(&host);
            }
        }
    }

    /// A node acts by `state`: whoever it replaces was away.
    pub(super) fn judge_reliefs(&mut self, state: &ClusterState) {
        if self.plan.keeper.is_none() || state.epoch <= self.keeper.judged {
            return;
        }
        for decision in &state.topology.decisions {
            if decision.epoch <= self.keeper.judged {
                continue;
            }
            if !matches!(decision.kind, DecisionKind::Replaced | DecisionKind::Spread) {
                continue;
            }
            self.totals.relieved += 1;
            let well = self.keeper.well.get(&machine(decision.subject));
            let well = well.map(|since| Duration::from_nanos(self.now - since));
            let verdict = relief_fault(decision, well);
            self.judge(Checker::Keeper, verdict);
        }
        self.keeper.judged = state.epoch;
    }
}

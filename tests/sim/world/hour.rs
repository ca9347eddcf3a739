//! An hour of a cluster with its data: machines fail at random and are repaired, the load has its tides and grows,
//! and nobody operates it. What seeds of half a minute show of single faults, this shows of the rules
//! together: that copies are restored each time, that who returns is of use again, and that nothing swings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use roundtable::node::{Grow, NodeConfig, QuietHours};
use roundtable::types::{ClusterState, DecisionKind, Epoch, NodeId, Partition, Role, Unit};

use crate::arguments::Arguments;
use crate::judge::Checker;
use crate::plan::{
    ClientPlan, MS, Plan, SECOND, draw_clients, draw_clock, draw_configs, draw_crash, draw_disk,
    draw_network, exponential, scale,
};
use crate::runner;
use crate::trace::Detail;

use super::host::{machine, member};
use super::{Happening, KeeperPlan, Report, Stage, TopologyPlan, World};

/// Members that own something when it begins, and those that do not.
const ACTIVE: usize = 5;
const RESERVED: usize = 3;
/// How long it is.
const LONG: u64 = 3600 * SECOND;
/// From low tide to low tide.
const TIDE: u64 = 600 * SECOND;
/// The share of its time for which a machine is down, and how long its repair takes on average. Half of the repairs
/// take longer than members are waited for.
const DOWN: f64 = 0.06;
const REPAIR: u64 = 60 * SECOND;
/// How long members are waited for.
const REPLACE_AFTER: Duration = Duration::from_secs(30);
/// How long after that a replacement may take, or after anything else that comes between.
const FILLED_WITHIN: u64 = 25 * SECOND;
/// How long a member that has come back may take until it is reserved.
const OF_USE_WITHIN: u64 = 30 * SECOND;
/// How often it is looked.
const LOOK_EVERY: u64 = SECOND;
/// What one node is said to be able to do, in operations a second: so little that it becomes too much.
const OPERATIONS: u32 = 2;

/// What is known of the hour so far.
#[derive(Debug)]
pub(crate) struct HourUse {
    rng: fastrand::Rng,
    /// Deaths that lasted longer than members are waited for.
    long: u64,
    /// Since when copies of a unit have been missing that could be made, while nothing else happened.
    short_since: BTreeMap<Unit, u64>,
    /// Since when who was replaced has served again without being reserved.
    idle_since: BTreeMap<usize, u64>,
    /// The last epoch whose decisions were counted.
    counted: Epoch,
    made: BTreeMap<DecisionKind, u64>,
}

impl Plan {
    /// An hour: nothing goes wrong but what wears out.
    pub(crate) fn hour(seed: u64) -> Plan {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x7468_6973_2068_6f75);
        let (nodes, faults) = (ACTIVE + RESERVED, BTreeSet::new());
        let mut configs = draw_configs(&mut rng, nodes);
        configs.iter_mut().for_each(bound);
        let still =
            TopologyPlan { newcomers: 0, every: LONG, meddles: 0.0, deaths: 0.0, strays: 0.0 };
        let late = configs.first().map_or(Duration::ZERO, |config| config.mirror_every);
        let clients =
            ClientPlan { clients: 8, think: 200 * MS, hot_keys: 40, ..draw_clients(&mut rng) };
        Plan {
            network: draw_network(&mut rng, &faults),
            disk: draw_disk(&mut rng, &faults),
            crash: draw_crash(&mut rng, &faults, nodes),
            clock: draw_clock(&mut rng, &faults, nodes),
            topology: Some(still),
            keeper: Some(KeeperPlan::hour(REPLACE_AFTER, late)),
            clients,
            hour: true,
            turmoil: LONG,
            configs,
            faults,
            ..Plan::bare(seed)
        }
    }
}

/// Configures nodes for it: all by their defaults but times, which are shorter, and that they act by themselves.
fn bound(config: &mut NodeConfig) {
    let usual = NodeConfig::new(config.name.clone(), Vec::new());
    config.operations_max = usual.operations_max;
    config.replica_operations_max = usual.replica_operations_max;
    config.repair_interval = Duration::from_secs(60);
    config.repair_settle = Duration::from_secs(2);
    (config.replace_after, config.mirror) = (Some(REPLACE_AFTER), true);
    config.mirror_every = Duration::from_secs(20);
    config.sample_interval = Duration::from_secs(5);
    (config.grow, config.exchange) = (Grow::Auto, Grow::Auto);
    (config.grow_operations, config.grow_after) = (OPERATIONS, Duration::from_secs(60));
    (config.history_min, config.quiet_hours) =
        (Duration::ZERO, QuietHours::Daily { from: 0, to: 24 * 60 });
    // Growth leaves one in reserve.
    config.failure_probability = 0.01;
    for founder in config.charter.founders.iter_mut().skip(ACTIVE) {
        founder.role = Role::Reserved;
    }
}

impl HourUse {
    pub(super) fn new(seed: u64) -> HourUse {
        HourUse {
            rng: fastrand::Rng::with_seed(seed ^ 0x616e_2068_6f75_7221),
            long: 0,
            short_since: BTreeMap::new(),
            idle_since: BTreeMap::new(),
            counted: Epoch(0),
            made: BTreeMap::new(),
        }
    }
}

/// How much longer than at the high tide of the hour's end clients think at `now`.
#[allow(clippy::cast_precision_loss, reason = "nanoseconds of an hour")]
fn pause(now: u64) -> f64 {
    let tide = 0.6 - 0.4 * (now as f64 / TIDE as f64 * core::f64::consts::TAU).cos();
    let grown = 0.4 + 0.6 * (now as f64 / LONG as f64).min(1.0);
    1.0 / (tide * grown)
}

impl World {
    /// How long clients think now that think for `mean` on average.
    pub(super) fn pause_at_this_hour(&self, mean: u64) -> u64 {
        if self.plan.hour { scale(mean, pause(self.now)) } else { mean }
    }

    /// Begins the hour, if this is one.
    pub(super) fn schedule_hour(&mut self) {
        if !self.plan.hour {
            return;
        }
        self.later(10 * SECOND, Happening::LookAtCopies);
        for host in 0..self.hosts.len() {
            self.die_some_time(host, 10 * SECOND);
        }
    }

    /// Exponential, so that machines have no memory and fail independently.
    fn die_some_time(&mut self, host: usize, after: u64) {
        let up = scale(REPAIR, (1.0 - DOWN) / DOWN);
        let wait = exponential(&mut self.hour.rng, up);
        self.later(after + wait, Happening::FallOver { host });
    }

    /// A machine loses its power until it is repaired.
    pub(super) fn fall_over(&mut self, host: usize) {
        if self.stage != Stage::Turmoil {
            return;
        }
        let away = self.hour.rng.u64(MS..2 * REPAIR);
        self.die_some_time(host, away);
        if self.hosts[host].running.is_some() {
            self.hour.long += u64::from(u128::from(away) > REPLACE_AFTER.as_nanos());
            self.hour.short_since.clear();
            self.totals.stayed_away += 1;
            self.kill(host);
            self.start_after(host, away);
        }
    }

    /// Looks whether copies are missing for longer than they may, and who is of no use.
    pub(super) fn look_at_copies(&mut self) {
        if self.stage > Stage::Healed {
            return;
        }
        self.later(LOOK_EVERY, Happening::LookAtCopies);
        let Some(state) = self.state() else { return };
        self.count_decisions(&state);
        let serves = |id: &NodeId| self.hosts[machine(*id)].serves();
        let council = state.council.iter().filter(|id| serves(id)).count();
        let mut short = BTreeMap::new();
        if council * 2 > state.council.len() {
            for class in &state.classes {
                // Who copies asks so many owners that one of them has every write.
                let sources = usize::from(class.n - class.w_min + 1);
                for (partition, owners) in (0..).zip(&class.owners) {
                    let left = owners.iter().filter(|id| serves(id)).count();
                    if left < owners.len() && left >= sources {
                        let unit = Unit { class: class.id, partition: Partition(partition) };
                        let since = self.hour.short_since.get(&unit).copied();
                        short.insert(unit, since.unwrap_or(self.now));
                    }
                }
            }
        }
        let longest = short.values().map(|since| self.now - since).max().unwrap_or(0);
        self.hour.short_since = short;
        self.totals.copies_short_ms = self.totals.copies_short_ms.max(longest / MS);
        let patience = u64::try_from(REPLACE_AFTER.as_nanos()).unwrap_or(u64::MAX) + FILLED_WITHIN;
        if longest > patience {
            let text = format_args!("copies have been missing for {} s", longest / SECOND);
            self.find(Checker::Keeper, text);
        }
        for host in 0..self.hosts.len() {
            self.look_at_idle(host, &state);
        }
    }

    /// Who serves and owns nothing is reserved, soon.
    fn look_at_idle(&mut self, host: usize, state: &ClusterState) {
        let id = member(host);
        let is_reserved = state.member(id).is_some_and(|member| member.role == Role::Reserved);
        let owns =
            state.classes.iter().any(|class| class.owners.iter().flatten().any(|o| *o == id));
        if !self.hosts[host].serves() || owns || is_reserved || state.topology.plan.is_some() {
            self.hour.idle_since.remove(&host);
            return;
        }
        let since = *self.hour.idle_since.entry(host).or_insert(self.now);
        if self.now - since > OF_USE_WITHIN {
            let text = format_args!("n{} is back, owns nothing, and is not reserved", host + 1);
            self.find(Checker::Keeper, text);
        }
    }

    fn count_decisions(&mut self, state: &ClusterState) {
        let counted = self.hour.counted;
        for decision in state.topology.decisions.iter().filter(|made| made.epoch > counted) {
            *self.hour.made.entry(decision.kind).or_default() += 1;
            let why = &decision.reason;
            self.trace.step(
                self.now,
                [52, 0, 0],
                format_args!("{}: {why}", decision.kind.as_str()),
            );
        }
        self.hour.counted = counted.max(state.epoch);
    }

    /// What the rules did in all: no more than what happened calls for.
    pub(super) fn judge_hour(&mut self) {
        if !self.plan.hour {
            return;
        }
        let made = |kind| self.hour.made.get(&kind).copied().unwrap_or(0);
        let relieved = made(DecisionKind::Replaced) + made(DecisionKind::Spread);
        let (grown, shrunk) = (made(DecisionKind::Grown), made(DecisionKind::Shrunk));
        (self.totals.grown, self.totals.shrunk) = (grown, shrunk);
        self.totals.exchanged = made(DecisionKind::Exchanged);
        let long = self.hour.long;
        if relieved > long {
            let text = format_args!("{relieved} members replaced of {long} that stayed away");
            self.find(Checker::Keeper, text);
        }
        if grown + shrunk > 2 * (RESERVED as u64) {
            let text = format_args!("members were made active {grown} times and reserved {shrunk}");
            self.find(Checker::Keeper, text);
        }
    }
}

/// Fresh hours that `cargo test` runs; CI runs more.
const HOURS: u64 = 1;
/// Planted bugs, and hours that find them.
const PLANTED: [(u64, &str); 1] = [(2, "orchestrator-waits-anew")];

/// Some hours, of which none breaks a promise; and those with a planted bug, which all do.
pub(crate) fn hours_hold(arguments: &Arguments) -> Result<String, String> {
    let base = arguments.base.unwrap_or_else(|| fastrand::u64(..1 << 40));
    let armed = arguments.mutant.clone().map(|name| &*name.leak());
    let wanted = if arguments.hour { arguments.seeds } else { HOURS };
    let mut hours: Vec<(u64, Option<&'static str>)> =
        (base..base + wanted).map(|seed| (seed, armed)).collect();
    if !arguments.hour {
        hours.extend(PLANTED.map(|(seed, mutant)| (seed, Some(mutant))));
    }
    let hour = |(seed, mutant)| runner::run_of(&Plan::hour, seed, Detail::Digest, mutant);
    let reports = runner::all_of(hours.clone(), &hour);
    let (mut said, mut failed) = (Vec::new(), Vec::new());
    for ((seed, mutant), report) in hours.into_iter().zip(&reports) {
        let planted = mutant.filter(|_| armed.is_none());
        match (planted, report.findings.first()) {
            (None, None) => said.push(told(report)),
            (None, Some(found)) => failed.push(format!(
                "hour {seed} fails: {found}\n  replay: cargo sim -- --seed {seed} --hour --from 3000"
            )),
            (Some(mutant), Some(found)) => said.push(format!("  hour {seed}, {mutant}: {found}")),
            (Some(mutant), None) => failed.push(format!("hour {seed} does not find {mutant}")),
        }
    }
    if failed.is_empty() { Ok(said.join("\n")) } else { Err(failed.join("\n")) }
}

fn told(report: &Report) -> String {
    let totals = &report.totals;
    format!(
        "  hour {}: {} operations, {} machines fell over, {} members replaced, copies short for {} s at \
         most, {} made active, {} reserved, {} exchanges",
        report.seed,
        totals.operations,
        totals.stayed_away,
        totals.relieved,
        totals.copies_short_ms / 1000,
        totals.grown,
        totals.shrunk,
        totals.exchanged
    )
}

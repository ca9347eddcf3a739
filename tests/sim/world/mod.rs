//! The world of one seed: machines, a network, clients and a nemesis in one thread, with virtual
//! time that jumps to whatever happens next. It interprets the same effects as the real driver.

mod aim;
mod batch;
mod causal;
mod counter;
mod disk;
mod finish;
mod flood;
mod host;
mod hour;
mod keeper;
mod late;
mod life;
mod nemesis;
mod network;
mod queue;
mod register;
mod repair;
mod rot;
mod schema;
mod sloppy;
mod stream;
mod topology;
mod traffic;
mod twice;
mod walk;

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use roundtable::load::history::History;
use roundtable::message::{
    ClientResult, DiskAnswer, DiskError, DiskToken, HelloRefusal, PeerMessage, PlanChange,
};
use roundtable::types::{Key, OpId, Stamp, Time, Unit};

use crate::client::Client;
use crate::judge::{
    Answers, Births, Checker, Durability, Finding, Floors, Monotonic, Moves, Schema, Stamps,
};
use crate::plan::{Fault, MS, OPERATIONS_MIN, Plan, SECOND};
use crate::totals::Totals;
use crate::trace::{Detail, Trace};

pub(crate) use batch::BatchPlan;
pub(crate) use causal::CausalPlan;
pub(crate) use counter::{CounterPlan, Tallies};
pub(crate) use flood::FloodPlan;
use host::{Host, WallClock};
pub(crate) use hour::hours_hold;
pub(crate) use keeper::{KeeperPlan, grows};
pub(crate) use late::LatePlan;
use network::Network;
use queue::Queue;
pub(crate) use register::RegisterPlan;
pub(crate) use repair::RepairPlan;
pub(crate) use schema::SchemaPlan;
use schema::Tables;
pub(crate) use sloppy::SloppyPlan;
pub(crate) use topology::TopologyPlan;
pub(crate) use walk::WalkPlan;

/// Longest time a seed may take to become a cluster, do its operations and settle.
const PATIENCE: u64 = 150 * SECOND;

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Happening {
    Start { host: usize },
    Tick { host: usize, life: u64, at: u64 },
    Connect { from: usize, to: usize, life: u64 },
    Refused { from: usize, to: usize, life: u64, reason: HelloRefusal },
    Unreachable { from: usize, to: usize, life: u64 },
    Deliver { from: usize, to: usize, life: u64, message: PeerMessage },
    DiskStart { host: usize, life: u64 },
    DiskStep { host: usize, life: u64 },
    DiskDone { host: usize, life: u64, token: DiskToken, result: Result<DiskAnswer, DiskError> },
    Overdue { host: usize, life: u64, op: OpId },
    Think { client: usize },
    Attempt { client: usize, serial: u64 },
    Arrive { client: usize, serial: u64, host: usize },
    Timeout { client: usize, serial: u64 },
    Abandon { host: usize, life: u64, client: usize, serial: u64 },
    Answer { client: usize, serial: u64, result: ClientResult },
    Nemesis(nemesis::Strike),
    ChangeTables,
    UseTables,
    Apply,
    ChangeTopology,
    StayAway,
    LookAround,
    FallOver { host: usize },
    LookAtCopies,
    TurnPlan(PlanChange),
    MakeCausal,
    CausalOutage,
    CausalThink { client: usize },
    CausalTry { client: usize },
    CausalTimeout { client: usize, serial: u64 },
    CausalBack { host: usize, index: usize },
    MakeBatches,
    BatchThink { client: usize },
    BatchTry { client: usize },
    BatchTimeout { client: usize, serial: u64 },
    BatchBack { host: usize, place: usize },
    MakeCounters(Tallies),
    CounterThink { client: usize },
    CounterTry { client: usize },
    CounterTimeout { client: usize, serial: u64 },
    CounterBack { host: usize, place: usize },
    MakeRegister,
    RegisterThink { client: usize },
    RegisterTry { client: usize },
    RegisterTimeout { client: usize, serial: u64 },
    RegisterAnswer { client: usize, serial: u64, result: Box<ClientResult> },
    RegisterBack { host: usize, index: usize, tries: u32 },
    WalkOn { walker: usize },
    WalkTimeout { walker: usize, serial: u64 },
    WalkPage { walker: usize, serial: u64, result: Box<ClientResult> },
    AlwaysSloppy,
    Flood,
    Stall,
    Twin,
    ProposeTwice,
    LatePut { unit: Unit, floor: Stamp },
    Peace,
    Verify,
    ComeHome { since: u64 },
    Settled,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Faults happen.
    Turmoil,
    /// Faults have stopped; the cluster must serve again.
    Healed,
    /// Clients have stopped; everything is read back.
    Verifying,
    /// Done.
    Over,
}

/// What one run was.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) findings: Vec<Finding>,
    pub(crate) hash: u64,
    pub(crate) totals: Totals,
}

/// The world of one seed.
#[derive(Debug)]
pub(crate) struct World {
    plan: Plan,
    now: u64,
    /// The latest time that any wall clock has shown before it was moved.
    latest_shown: u64,
    /// Keys that somebody has deleted, or made to expire.
    removed: BTreeSet<Key>,
    stage: Stage,
    queue: Queue,
    hosts: Vec<Host>,
    network: Network,
    clients: Vec<Client>,
    history: History,
    rng: Rng,
    /// Drawn from by the network alone, so that a changed client does not change every delay.
    net_rng: Rng,
    answers: Answers,
    births: Births,
    moves: Moves,
    schema: Schema,
    tables: Tables,
    /// Drawn from by changes of the schema alone, so that seeds without them stay what they are.
    schema_rng: Rng,
    /// Drawn from by the choice of sloppy requests alone.
    sloppy_rng: Rng,
    /// Drawn from by floods alone.
    flood_rng: Rng,
    homes: sloppy::Homes,
    causal: causal::CausalUse,
    counters: counter::CounterUse,
    batches: batch::BatchUse,
    register: register::RegisterUse,
    walks: walk::WalkUse,
    topology: topology::TopologyUse,
    keeper: keeper::KeeperUse,
    late: late::LateUse,
    hour: hour::HourUse,
    floors: Floors,
    durability: Durability,
    stamps: Stamps,
    monotonic: Monotonic,
    /// The highest stamp of each key that a write at the floors was acknowledged with.
    highest: BTreeMap<Key, Stamp>,
    findings: Vec<Finding>,
    trace: Trace,
    totals: Totals,
    /// Members whose data fault-free reads may no longer find.
    liveness: finish::Liveness,
}

impl World {
    /// The world of `plan`, about to begin.
    pub(crate) fn new(plan: Plan, detail: Detail) -> World {
        let seed = plan.seed;
        let mut rng = Rng::with_seed(seed);
        let hosts: Vec<Host> = (0..plan.configs.len())
            .map(|i| {
                let wall = WallClock {
                    offset: plan.clock.offsets[i],
                    drift_ppm: plan.clock.drifts_ppm[i],
                };
                let mut host = Host::new(rng.u64(..), wall, plan.disk.memtable_bytes);
                host.absent = i >= plan.founders();
                host
            })
            .collect();
        let network = Network::new(hosts.len(), &plan.network, plan.has(Fault::Reordering));
        let mut history = History::new();
        let clients = (0..plan.clients.clients)
            .map(|id| Client::new(id, history.new_process(), rng.fork()))
            .collect();
        World {
            now: 0,
            latest_shown: 0,
            removed: BTreeSet::new(),
            stage: Stage::Turmoil,
            queue: Queue::default(),
            hosts,
            network,
            clients,
            history,
            net_rng: rng.fork(),
            rng,
            answers: Answers::default(),
            births: Births::default(),
            moves: Moves::default(),
            schema: Schema::default(),
            tables: Tables::default(),
            schema_rng: Rng::with_seed(seed ^ 0x7461_626c_6573),
            sloppy_rng: Rng::with_seed(seed ^ 0x686f_6d65),
            flood_rng: Rng::with_seed(seed ^ 0x666c_6f6f_6473),
            homes: sloppy::Homes::new(),
            causal: causal::CausalUse::new(seed, plan.causal),
            counters: counter::CounterUse::new(seed, plan.counters),
            batches: batch::BatchUse::new(seed, plan.batches),
            register: register::RegisterUse::new(seed, plan.register),
            walks: walk::WalkUse::new(seed, plan.walks),
            topology: topology::TopologyUse::new(seed, plan.topology),
            keeper: keeper::KeeperUse::new(seed),
            late: late::LateUse::new(seed),
            hour: hour::HourUse::new(seed),
            floors: Floors::default(),
            durability: Durability::default(),
            stamps: Stamps::default(),
            monotonic: Monotonic::default(),
            highest: BTreeMap::new(),
            findings: Vec::new(),
            trace: Trace::new(detail),
            totals: Totals::default(),
            liveness: finish::Liveness::default(),
            plan,
        }
    }

    /// Runs to the end, or to the first broken promise.
    pub(crate) fn run(mut self) -> Report {
        self.trace.step(0, [0; 3], format_args!("{:#?}", self.plan));
        for host in 0..self.plan.founders() {
            let late = self.rng.u64(..SECOND);
            self.later(late, Happening::Start { host });
        }
        for client in 0..self.clients.len() {
            let late = self.rng.u64(..SECOND);
            self.later(late, Happening::Think { client });
        }
        self.schedule_faults();
        self.schedule_schema();
        self.schedule_causal();
        self.schedule_counters();
        self.schedule_batches();
        self.schedule_register();
        self.schedule_walks();
        self.schedule_floods();
        self.schedule_always_sloppy();
        self.schedule_topology();
        self.schedule_keeper();
        self.schedule_late();
        self.schedule_hour();
        self.queue.push(self.plan.turmoil, Happening::Peace);
        let patience = PATIENCE.max(self.plan.turmoil + PATIENCE / 2);
        while self.stage < Stage::Over && self.findings.is_empty() {
            let Some((at, happening)) = self.queue.pop() else { break };
            self.now = at;
            if at > patience {
                self.find(Checker::Run, format_args!("not over after {} s", patience / SECOND));
                break;
            }
            self.happen(happening);
        }
        self.finish()
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start { host } => self.start(host),
            Happening::Tick { host, life, at } => self.tick(host, life, at),
            Happening::Connect { from, to, life } => self.connect(from, to, life),
            Happening::Refused { from, to, life, reason } => self.refused(from, to, life, reason),
            Happening::Unreachable { from, to, life } => self.unreachable(from, to, life),
            Happening::Deliver { from, to, life, message } => self.deliver(from, to, life, message),
            Happening::DiskStart { host, life } => self.disk_start(host, life),
            Happening::DiskStep { host, life } => self.disk_step(host, life),
            Happening::DiskDone { host, life, token, result } => {
                self.disk_done((host, life), token, result);
            }
            Happening::Overdue { host, life, op } => self.overdue(host, life, op),
            Happening::Think { client } => self.think(client),
            Happening::Attempt { client, serial } => self.attempt(client, serial),
            Happening::Arrive { client, serial, host } => self.arrive(client, serial, host),
            Happening::Timeout { client, serial } => self.timeout(client, serial),
            Happening::Abandon { host, life, client, serial } => {
                self.abandon((host, life), client, serial);
            }
            Happening::Answer { client, serial, result } => self.answer(client, serial, result),
            Happening::Nemesis(strike) => self.strike(strike),
            Happening::ChangeTables => self.change_tables(),
            Happening::UseTables => self.use_tables(),
            Happening::Apply => self.apply_to_join(),
            Happening::ChangeTopology => self.change_topology(),
            Happening::StayAway => self.stay_away(),
            Happening::LookAround => self.look_around(),
            Happening::FallOver { host } => self.fall_over(host),
            Happening::LookAtCopies => self.look_at_copies(),
            Happening::TurnPlan(change) => self.turn_plan(change),
            Happening::MakeCausal => self.make_causal(),
            Happening::CausalOutage => self.causal_outage(),
            Happening::CausalThink { client } => self.causal_think(client),
            Happening::CausalTry { client } => self.causal_try(client),
            Happening::CausalTimeout { client, serial } => self.causal_timeout(client, serial),
            Happening::CausalBack { host, index } => self.causal_back(host, index),
            Happening::MakeBatches => self.make_batches(),
            Happening::BatchThink { client } => self.batch_think(client),
            Happening::BatchTry { client } => self.batch_try(client),
            Happening::BatchTimeout { client, serial } => self.batch_timeout(client, serial),
            Happening::BatchBack { host, place } => self.batch_back(host, place),
            Happening::MakeCounters(of) => self.make_counters(of),
            Happening::CounterThink { client } => self.counter_think(client),
            Happening::CounterTry { client } => self.counter_try(client),
            Happening::CounterTimeout { client, serial } => self.counter_timeout(client, serial),
            Happening::CounterBack { host, place } => self.counter_back(host, place),
            Happening::MakeRegister => self.make_register(),
            Happening::RegisterThink { client } => self.register_think(client),
            Happening::RegisterTry { client } => self.register_try(client),
            Happening::RegisterTimeout { client, serial } => self.register_timeout(client, serial),
            Happening::RegisterAnswer { client, serial, result } => {
                self.register_heard(client, serial, *result);
            }
            Happening::RegisterBack { host, index, tries } => {
                self.register_back((host, index), tries);
            }
            Happening::WalkOn { walker } => self.walk_on(walker),
            Happening::WalkTimeout { walker, serial } => self.walk_timeout(walker, serial),
            Happening::WalkPage { walker, serial, result } => {
                self.walk_page(walker, serial, &result);
            }
            rare => self.happen_rarely(rare),
        }
    }

    fn happen_rarely(&mut self, happening: Happening) {
        match happening {
            Happening::AlwaysSloppy => self.make_always_sloppy(),
            Happening::Flood => self.flood(),
            Happening::Stall => self.stall(),
            Happening::Twin => self.write_twins(),
            Happening::ProposeTwice => self.propose_twice(),
            Happening::LatePut { unit, floor } => self.late_put(unit, floor),
            Happening::Peace => self.peace(),
            Happening::Verify => self.verify(),
            Happening::ComeHome { since } => self.come_home(since),
            Happening::Settled => self.settled(),
            _ => unreachable!("it happens often"),
        }
    }

    fn finish(mut self) -> Report {
        if self.findings.is_empty() {
            let violations = roundtable::load::check::register(&self.history);
            if let Some(violation) = violations.first() {
                let more = violations.len() - 1;
                let shown = self.explain(violation);
                self.find(
                    Checker::Register,
                    format_args!("{violation} (and {more} more)\n{shown}"),
                );
            }
        }
        if self.findings.is_empty() {
            self.judge_tables();
        }
        if self.findings.is_empty() {
            self.judge_causal();
            self.judge_register();
        }
        if self.findings.is_empty() {
            self.judge_counters();
        }
        if self.findings.is_empty() {
            self.judge_batches();
        }
        if self.findings.is_empty() {
            self.judge_hour();
        }
        self.totals.virtual_ms = self.now / MS;
        self.totals.steps = self.trace.steps();
        self.totals.seeds = 1;
        let hash = self.trace.hash();
        Report { seed: self.plan.seed, findings: self.findings, hash, totals: self.totals }
    }

    /// Whether the run has done enough for its faults to stop.
    fn is_busy_enough(&self) -> bool {
        self.totals.operations >= OPERATIONS_MIN + 20
    }

    fn later(&mut self, after: u64, happening: Happening) {
        self.queue.push(self.now.saturating_add(after), happening);
    }

    fn time(&self) -> Time {
        Time(self.now)
    }

    fn is_alive(&self, host: usize, life: u64) -> bool {
        self.hosts[host].running.is_some() && self.hosts[host].life == life
    }

    fn find(&mut self, checker: Checker, text: fmt::Arguments<'_>) {
        let finding = Finding { checker, text: text.to_string() };
        self.trace.step(self.now, [99, 0, 0], format_args!("FINDING {finding}"));
        self.findings.push(finding);
    }

    fn judge(&mut self, checker: Checker, verdict: Result<(), String>) {
        if let Err(text) = verdict {
            self.find(checker, format_args!("{text}"));
        }
    }

    fn state(&self) -> Option<Arc<roundtable::types::ClusterState>> {
        let mut states = self.hosts.iter().filter_map(|host| host.view.as_ref()?.state.clone());
        if self.members_change() { states.max_by_key(|state| state.epoch) } else { states.next() }
    }
}

/// Runs what is planned on this thread.
pub(crate) fn run(plan: Plan, detail: Detail) -> Report {
    World::new(plan, detail).run()
}

//! The pure node: takes events, yields effects. It composes the machines of `membership`,
//! `control` and `coordinator`, routes events to them and holds what they share; it decides
//! nothing itself. It reads no clock, owns no thread and touches no file, so a whole cluster of
//! them runs in one thread from one seed.
//!
//! One file per family of events: `lifecycle` (birth, boots, states), `client` and `operation`
//! (what clients ask), `hints` (what is kept for owners that were away), `peer` (what peers ask of
//! this replica), `causal` and `register` (the same of causal and linearizable tables), `members` (who
//! answers, and what members say of themselves), `links` (how owners answer), `behind` (what waits
//! until this replica has caught up), `restart` (what begins again since owners have changed), `disk`
//! (what the disk answers), `decree` (who decides the next state), `tables` (what is asked about them),
//! `topology` (members, plans, the steps of moves and the acknowledgement of epochs), `explain` (what is
//! known of a key), `sweep` (what is left of dropped ones), `fills` (how far this node has what it
//! owns), `transfer` (how that is copied), `mirror` (what it keeps copies of while it is reserved), `repair` (what
//! owners lack of each other), `floors` (which deletes may be purged), `gc` (what waits for that), `watches` (who is told of
//! changes), `hot` (what is
//! asked for most), `reserve` (whether enough are kept for failures), `load` (how busy it is, and whether more
//! should own), `admin`, `publish`.

mod admin;
mod batch;
mod behind;
mod causal;
mod client;
mod config;
mod counter;
mod cursors;
mod decree;
mod disk;
mod events;
mod explain;
mod fills;
mod floors;
mod gc;
mod hints;
mod hot;
mod keeper;
mod leaving;
mod lifecycle;
mod lineage;
mod links;
mod load;
mod losses;
mod members;
mod mirror;
mod operation;
mod peer;
mod publish;
mod reads;
mod register;
mod repair;
mod reserve;
mod restart;
mod scrub;
mod sweep;
mod tables;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests;
mod topology;
mod transfer;
mod watches;
mod waterfall;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::control::{Birth, Ceilings, Decree, Lives};
use crate::coordinator::{Clock, HedgeBudget, Shares};
use crate::handoff::Governor;
use crate::membership::Members;
use crate::message::{
    BootRecord, Effect, Event, Level, LifeRecord, MetaRecord, Note, PeerMessage, Phase,
    ReplicaFacts, Restored,
};
use crate::types::{ClusterState, Epoch, NodeId, Nonce, Now, OpId, Time, WallTime};

pub use config::{Grow, NodeConfig, QuietHours};
pub use hot::Hot;
pub use publish::Gauges;

use behind::Behind;
use causal::Causal;
use cursors::Cursors;
use disk::Pending;
use events::Events;
use explain::Gatherings;
use fills::Fills;
use floors::Floors;
use hints::Hints;
use keeper::Keeper;
use load::Load;
use operation::{LocalAnswer, Operation};
use repair::Repair;
use sweep::Sweep;
use tables::Tables;
use topology::Topology;
use watches::Watches;

/// One node of the ring.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    me: NodeId,
    phase: Phase,
    boot: BootRecord,
    birth_nonce: Nonce,
    /// `Some` until the cluster is born.
    birth: Option<Birth>,
    lives: Lives,
    /// What this node, as a council member, has durably noted of the others' lives.
    noted: BTreeMap<NodeId, LifeRecord>,
    /// What it has seen of them, durable or on its way to the disk: what it judges by, so that
    /// what reaches the disk later is never older.
    seen: BTreeMap<NodeId, LifeRecord>,
    ceilings: Ceilings,
    /// The clock's ceiling could not be stored the last time: said once.
    ceiling_failed: bool,
    state: Option<Arc<ClusterState>>,
    /// The highest epoch that is in force here or on its way to the disk to be.
    adopting: Epoch,
    decree: Decree,
    tables: Tables,
    topology: Topology,
    keeper: Keeper,
    load: Load,
    /// Hours since the Unix epoch, at the last look at the load.
    load_hour: u32,
    events: Events,
    behind: Behind,
    sweep: Sweep,
    fills: Fills,
    floors: Floors,
    governor: Governor,
    hints: Hints,
    repair: Repair,
    cursors: Cursors,
    watches: Watches,
    explains: Gatherings,
    /// The ring of the state in force, for who stands in.
    ring: Option<crate::ring::Ring>,
    serving_since: Option<Time>,
    members: Members,
    clock: Clock,
    /// The median of the others' clocks at the last probes, and when that was.
    others_clock: Option<(WallTime, Time)>,
    hedges: HedgeBudget,
    replica: ReplicaFacts,
    /// Client operations in flight, by their number in rounds.
    operations: BTreeMap<u64, Operation>,
    operation_bytes: usize,
    /// What tables and clients have taken of the room for operations.
    shares: Shares,
    /// Whose request is being taken in.
    asker: Option<u64>,
    /// The operation whose actions are being carried out.
    current: u64,
    /// Operations whose client waits, by the client's number.
    waiting: BTreeMap<OpId, u64>,
    /// Operations that have been answered and still count late answers.
    lingering: BTreeSet<u64>,
    /// The next operation's number. Starts at random, so that an answer that wanders in from
    /// before a restart cannot be taken for one to an operation of this boot.
    next_operation: u64,
    timers: BTreeSet<(Time, u64)>,
    waiting_for_ceiling: BTreeSet<u64>,
    /// Disk requests in flight.
    pending: BTreeMap<u64, Pending>,
    causal: Causal,
    turns: register::Turns,
    next_token: u64,
    replica_operations: usize,
    /// Answers of this node's own replica that need no disk.
    local: VecDeque<LocalAnswer>,
    units: Arc<Vec<crate::types::Unit>>,
    gauges: Gauges,
    housekeeping_at: Time,
    /// What the store had no room for.
    own_again: Vec<(disk::OwnStep, Vec<MetaRecord>)>,
    /// The time of the last event.
    now: Time,
    effects: VecDeque<Effect>,
}

impl Node {
    /// A node that has just been started on what its store held. `seed` feeds its random choices
    /// (nonces, operation numbers); the driver draws it from the operating system, the simulator
    /// from its run. Two boots must not share a seed.
    pub fn new(now: Now, config: NodeConfig, restored: Restored, seed: u64) -> Node {
        let mut rng = fastrand::Rng::with_seed(seed);
        let [boot_nonce, drawn] = [(); 2].map(|()| Nonce(rng.u128(1..)));
        let me = lifecycle::own_id(&config, restored.state.as_deref());
        let id = *me.as_ref().unwrap_or(&NodeId(0));
        let boot = lifecycle::next_boot(&restored, id, boot_nonce);
        let members = members::begin(now, &config, (id, boot.number), seed);
        let (fills, repair) = (Fills::new(now, &config, &restored), Repair::new(id, &config));
        let mut node = Node {
            lives: Lives::new(id, boot, config.probe_interval.saturating_mul(2)),
            decree: decree::begin(&config, (id, boot.number), &restored, seed),
            hints: Hints::new(&config, &restored, (now, seed)),
            config,
            me: id,
            phase: Phase::Founding("starting".to_owned()),
            boot,
            birth_nonce: restored.birth.map_or(drawn, |birth| birth.nonce),
            birth: None,
            seen: restored.lives.clone(),
            noted: restored.lives.clone(),
            ceilings: Ceilings::default(),
            ceiling_failed: false,
            state: None,
            adopting: Epoch(0),
            tables: Tables::default(),
            topology: Topology::new(restored.acknowledged),
            keeper: Keeper::new(&restored),
            load: Load::new(&restored),
            load_hour: 0,
            events: Events::new(&restored),
            behind: Behind::default(),
            sweep: Sweep::new(restored.swept),
            fills,
            floors: Floors::new(&restored, now),
            governor: Governor::default(),
            repair,
            cursors: Cursors::default(),
            watches: Watches::default(),
            explains: Gatherings::default(),
            ring: None,
            serving_since: None,
            members,
            clock: Clock::new(id, restored.ceiling),
            others_clock: None,
            hedges: HedgeBudget::default(),
            replica: ReplicaFacts::default(),
            operations: BTreeMap::new(),
            operation_bytes: 0,
            shares: Shares::default(),
            asker: None,
            current: 0,
            waiting: BTreeMap::new(),
            lingering: BTreeSet::new(),
            next_operation: operation::first(&mut rng),
            timers: BTreeSet::new(),
            waiting_for_ceiling: BTreeSet::new(),
            pending: BTreeMap::new(),
            causal: Causal::new(seed, &restored),
            turns: register::Turns::default(),
            next_token: 1,
            replica_operations: 0,
            local: VecDeque::new(),
            units: Arc::default(),
            gauges: Gauges::default(),
            housekeeping_at: now.mono,
            own_again: Vec::new(),
            now: now.mono,
            effects: VecDeque::new(),
        };
        node.boot(now, me, restored);
        node
    }

    fn boot(&mut self, now: Now, me: Result<NodeId, String>, restored: Restored) {
        match me {
            Err(reason) => self.refuse(reason),
            Ok(_) => self.awaken(now, restored),
        }
        self.publish();
    }

    /// Takes one event in. Never fails, never blocks.
    pub fn handle(&mut self, now: Now, event: Event) {
        match event {
            Event::Client { op, request } => self.on_client(now, op, request),
            Event::Admin { op, deadline, request } => self.on_admin(now, op, deadline, request),
            Event::Abandon { op } => self.on_abandon(op),
            Event::ScanEnded { scan } => self.on_stream_ended(scan),
            Event::Peer { from, message } => self.on_peer(now, from, message),
            Event::DiskDone { token, result } => self.on_disk_done(now, token, result),
            Event::Unreachable { peer } => self.on_unreachable(now, peer),
            Event::Rejected { peer, reason } => self.on_rejected(peer, &reason),
            Event::Process { cpu, cores } => self.on_process(now, cpu, cores),
            Event::Drain => self.on_drain(now),
            Event::Tick => {}
        }
        self.now = now.mono;
        self.run_local(now);
        self.run_timers(now);
        self.run_local(now);
        self.tell_links();
    }

    /// Takes one effect out; `None` when there is none left.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Event::Tick`] is next due.
    pub fn next_deadline(&self) -> Option<Time> {
        let operation = self.timers.first().map(|(time, _)| *time);
        let housekeeping = self.housekeeping_at.min(self.members.next_deadline());
        let others = [
            operation,
            self.decree.next_deadline(),
            self.tables.next_deadline(),
            self.topology.next_deadline(),
            self.behind.next_deadline(),
            self.explains.next_deadline(),
            self.hints_deadline(),
            self.transfers_deadline(),
            self.repair_deadline(),
            self.scrub_deadline(),
            self.watches.next_deadline(),
        ];
        others.into_iter().flatten().chain([housekeeping]).min()
    }

    /// Hints are handed back while this node serves.
    fn hints_deadline(&self) -> Option<Time> {
        let serves = self.phase == Phase::Serving && self.state.is_some();
        self.hints.next_deadline(self.now).filter(|_| serves)
    }

    fn run_timers(&mut self, now: Now) {
        while let Some(&(time, id)) = self.timers.first() {
            if time > now.mono {
                break;
            }
            self.timers.pop_first();
            self.on_operation_time(now, id);
        }
        if self.decree.next_deadline().is_some_and(|at| at <= now.mono) {
            self.decree.on_time(now.mono);
            self.run_decree(now);
        }
        self.on_tables_time(now);
        self.on_topology_time(now);
        self.on_behind_time(now);
        self.on_explain_time(now);
        self.on_transfers_time(now);
        self.on_repair_time(now);
        self.on_scrub_time(now);
        self.on_watches_time(now);
        if self.hints_deadline().is_some_and(|at| at <= now.mono) {
            self.replay_on(now);
        }
        if self.members.next_deadline() <= now.mono {
            self.on_probe_time(now);
        }
        if self.housekeeping_at <= now.mono {
            self.on_housekeeping(now);
        }
    }

    fn send(&mut self, to: NodeId, message: PeerMessage) {
        self.effects.push_back(Effect::Send { to, message });
    }

    fn note(&mut self, level: Level, peer: Option<NodeId>, message: impl Into<String>) {
        let message = message.into();
        self.effects.push_back(Effect::Note(Note { level, message, peer }));
    }

    fn is_serving(&self) -> bool {
        match self.phase {
            Phase::Serving => true,
            // One that drains before it ever served goes without having.
            Phase::Draining => self.serving_since.is_some(),
            Phase::Founding(_) | Phase::Registering(_) | Phase::Refused(_) => false,
        }
    }

    /// The clock bound for a fresh write that arrives here.
    fn fresh_bound(&self, now: Now) -> WallTime {
        self.clock.of_record(now.wall).plus(crate::types::limits::CLOCK_AHEAD_MAX)
    }
}

//! What one seed draws before it runs: the cluster, its time constants, which kinds of fault it
//! suffers and how hard. Each seed enables a subset only (swarm testing, Groce et al., 2012): a
//! run with every fault at once rarely gets far enough to do anything interesting.

use core::time::Duration;
use std::collections::BTreeSet;

use fastrand::Rng;
use roundtable::node::NodeConfig;
use roundtable::types::{Founder, NodeName, Role, Zone};

use crate::world::{
    BatchPlan, CausalPlan, CounterPlan, FloodPlan, KeeperPlan, LatePlan, RegisterPlan, RepairPlan,
    SchemaPlan, SloppyPlan, TopologyPlan, WalkPlan, grows,
};

/// One millisecond of virtual time, in nanoseconds.
pub(crate) const MS: u64 = 1_000_000;
/// One second of virtual time, in nanoseconds.
pub(crate) const SECOND: u64 = 1000 * MS;
/// Shortest time a seed suffers faults.
pub(crate) const TURMOIL_MIN: u64 = 24 * SECOND;
/// Fewest client operations of a seed.
pub(crate) const OPERATIONS_MIN: u64 = 300;
/// Fewest kinds of fault of a seed.
pub(crate) const FAULTS_MIN: usize = 3;

/// A kind of fault that a seed may suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Messages between nodes vanish.
    Loss,
    /// Messages between nodes arrive twice.
    Duplication,
    /// Messages between nodes overtake each other.
    Reordering,
    /// Groups of nodes cannot talk to each other.
    Partition,
    /// Single links are cut, in one direction or both: A sees B sees C, but A does not see C.
    LinkCut,
    /// A cut is noticed: streams break and senders are told that a peer is unreachable.
    BrokenStreams,
    /// A link, or all links of a node, become slow.
    SlowLink,
    /// Requests and answers of clients get lost.
    ClientLoss,
    /// A disk takes long.
    SlowDisk,
    /// A disk returns errors.
    DiskError,
    /// Nodes crash at events and lose or tear what was not synced.
    Crash,
    /// Nodes crash while the cluster is born.
    BirthCrash,
    /// All nodes lose power at once.
    PowerCut,
    /// Wall clocks differ, within the bound.
    Skew,
    /// One wall clock is outside the bound.
    SkewBeyond,
    /// A wall clock is set back over a restart.
    ClockBack,
    /// One node's disk is emptied.
    Wipe,
    /// One node's disk is replaced by an older copy of itself.
    OldCopy,
    /// Bytes of one node's disk rot: of tables, blob files and logs.
    Rot,
}

/// Faults that need somebody to talk to.
const BETWEEN_NODES: [Fault; 9] = [
    Fault::Loss,
    Fault::Duplication,
    Fault::Reordering,
    Fault::Partition,
    Fault::LinkCut,
    Fault::BrokenStreams,
    Fault::SlowLink,
    Fault::Skew,
    Fault::SkewBeyond,
];
/// Faults of a single machine.
const OF_ONE: [Fault; 7] = [
    Fault::ClientLoss,
    Fault::SlowDisk,
    Fault::DiskError,
    Fault::Crash,
    Fault::BirthCrash,
    Fault::PowerCut,
    Fault::ClockBack,
];
/// Faults after which a node never returns as itself; a seed has at most one of them, once.
const FATAL: [Fault; 2] = [Fault::Wipe, Fault::OldCopy];

/// In seeds in which bytes rot, everything on disk is read once in this time.
const ROT_PERIOD: Duration = Duration::from_secs(6);

/// Everything one seed decides before it runs.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The seed.
    pub(crate) seed: u64,
    /// What goes wrong.
    pub(crate) faults: BTreeSet<Fault>,
    /// The configuration of each node; they differ in the name alone.
    pub(crate) configs: Vec<NodeConfig>,
    /// How the network behaves.
    pub(crate) network: NetworkPlan,
    /// How the disks behave.
    pub(crate) disk: DiskPlan,
    /// When machines die.
    pub(crate) crash: CrashPlan,
    /// How wall clocks differ.
    pub(crate) clock: ClockPlan,
    /// What clients do.
    pub(crate) clients: ClientPlan,
    /// Whether and how the schema changes.
    pub(crate) schema: Option<SchemaPlan>,
    /// Whether and how often requests are sloppy.
    pub(crate) sloppy: Option<SloppyPlan>,
    /// Whether and how a causal table is used.
    pub(crate) causal: Option<CausalPlan>,
    /// Whether and how batches are used.
    pub(crate) batches: Option<BatchPlan>,
    /// Whether and how counters are used.
    pub(crate) counters: Option<CounterPlan>,
    /// Whether and how a linearizable table is used.
    pub(crate) register: Option<RegisterPlan>,
    pub(crate) walks: Option<WalkPlan>,
    /// Whether and how often one client floods a node.
    pub(crate) flood: Option<FloodPlan>,
    /// Whether and how often members come and go. Those who come are the last of `configs`.
    pub(crate) topology: Option<TopologyPlan>,
    /// Whether and how long members are waited for before their place is taken.
    pub(crate) keeper: Option<KeeperPlan>,
    /// Whether and how owners compare themselves with each other.
    pub(crate) repair: Option<RepairPlan>,
    /// Whether and how things come late.
    pub(crate) late: Option<LatePlan>,
    /// An hour without an operator, in the place of half a minute of faults.
    pub(crate) hour: bool,
    /// How long faults last.
    pub(crate) turmoil: u64,
}

/// How the network behaves. Probabilities are per message.
#[derive(Debug)]
pub(crate) struct NetworkPlan {
    pub(crate) delay_min: u64,
    pub(crate) delay_mean: u64,
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    pub(crate) client_loss: f64,
    /// Mean time between cuts and slow-downs.
    pub(crate) cut_every: u64,
    /// Mean time until a cut is healed.
    pub(crate) cut_for: u64,
}

/// How the disks behave.
#[derive(Debug)]
pub(crate) struct DiskPlan {
    pub(crate) latency: u64,
    /// What a slow disk takes for each sync.
    pub(crate) slow_latency: u64,
    /// Probability of an error per file operation, while a disk is ill.
    pub(crate) error: f64,
    /// Mean time between illnesses and slow phases.
    pub(crate) every: u64,
    /// Bytes of a memtable: small, so that runs flush.
    pub(crate) memtable_bytes: usize,
}

/// When machines die. Probabilities are per event of the kind.
#[derive(Debug)]
pub(crate) struct CrashPlan {
    pub(crate) after_message: f64,
    pub(crate) before_disk_done: f64,
    pub(crate) after_disk_done: f64,
    pub(crate) at_boot: f64,
    /// Most nodes down at once by such crashes.
    pub(crate) down_max: usize,
    /// Mean time until a crashed node is started again.
    pub(crate) back_after: u64,
    /// Moments at which everything loses power.
    pub(crate) power_cuts: Vec<u64>,
}

/// How wall clocks differ, in nanoseconds and parts per million.
#[derive(Debug)]
pub(crate) struct ClockPlan {
    pub(crate) offsets: Vec<i64>,
    pub(crate) drifts_ppm: Vec<i64>,
    /// How far a wall clock may jump back over a restart.
    pub(crate) back_max: u64,
}

impl ClockPlan {
    /// With the clocks of those who come, which are right.
    fn with(mut self, topology: Option<TopologyPlan>) -> ClockPlan {
        let newcomers = topology.map_or(0, |plan| plan.newcomers);
        self.offsets.extend(core::iter::repeat_n(0, newcomers));
        self.drifts_ppm.extend(core::iter::repeat_n(0, newcomers));
        self
    }
}

/// What clients do.
#[derive(Debug)]
pub(crate) struct ClientPlan {
    pub(crate) clients: usize,
    pub(crate) hot_keys: usize,
    /// Mean pause between two operations of one client.
    pub(crate) think: u64,
    /// Timeout of one attempt.
    pub(crate) attempt_timeout: u64,
    pub(crate) attempts_max: u32,
    /// Share of writes; the rest reads.
    pub(crate) writes: f64,
    pub(crate) deletes: f64,
    pub(crate) scans: f64,
    /// Share of requests below the floors.
    pub(crate) weak: f64,
    /// Largest value, in bytes.
    pub(crate) value_bytes_max: usize,
    /// Share of values that expire.
    pub(crate) expiring: f64,
    /// Share of writes whose time the client gives.
    pub(crate) timed: f64,
}

impl Plan {
    /// What `seed` means.
    pub(crate) fn draw(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed ^ 0x517c_c1b7_2722_0a95);
        let nodes = match rng.u8(..100) {
            0..4 => 1,
            4..8 => 2,
            8..60 => 3,
            60..80 => 4,
            _ => 5,
        };
        let late = LatePlan::draw(seed);
        let nodes = late.map_or(nodes, |late| late.founders);
        let mut faults = draw_faults(&mut rng, nodes);
        late.iter().for_each(|late| late.spare(&mut faults));
        let sloppy = SloppyPlan::draw(seed);
        let expiring = draw_expiring(seed, &faults);
        let mut configs = draw_configs(&mut rng, nodes);
        let topology = match late.and_then(|late| late.topology) {
            Some(topology) => Some(topology),
            None => TopologyPlan::draw(seed, nodes),
        };
        configs.extend(topology.iter().flat_map(|plan| plan.configs(&configs)).collect::<Vec<_>>());
        configs.iter_mut().for_each(|config| sloppy.bound(config));
        if sloppy.share.is_none() && rots(seed, &faults, nodes) {
            faults.insert(Fault::Rot);
            // What nobody reads is found too.
            configs.iter_mut().for_each(|config| config.scrub_period = ROT_PERIOD);
        } else {
            configs.iter_mut().for_each(|config| config.scrub_period = Duration::ZERO);
        }
        let repair = match late {
            Some(late) => Some(late.repair),
            None => RepairPlan::draw(seed),
        };
        configs.iter_mut().for_each(|config| RepairPlan::bound(repair, config));
        let keeper = KeeperPlan::draw(seed, topology.is_some());
        let keeper = keeper.map(|keeper| late.map_or(keeper, |late| late.mirrors(keeper)));
        configs.iter_mut().for_each(|config| KeeperPlan::bound(keeper, config));
        configs.iter_mut().for_each(|config| grows(seed, topology.is_some(), config));
        let flood = FloodPlan::draw(seed);
        configs.iter_mut().for_each(|config| flood.iter().for_each(|plan| plan.bound(config)));
        Plan {
            seed,
            configs,
            network: draw_network(&mut rng, &faults),
            disk: draw_disk(&mut rng, &faults),
            crash: draw_crash(&mut rng, &faults, nodes),
            clock: draw_clock(&mut rng, &faults, nodes).with(topology),
            topology,
            keeper,
            register: RegisterPlan::draw(seed, expiring),
            walks: WalkPlan::draw(seed),
            clients: {
                let plan =
                    ClientPlan { expiring, timed: draw_timed(seed), ..draw_clients(&mut rng) };
                match late {
                    Some(late) => late.clients(plan),
                    None => plan,
                }
            },
            schema: SchemaPlan::draw(seed),
            sloppy: sloppy.share.is_some().then_some(sloppy),
            causal: CausalPlan::draw(seed),
            batches: BatchPlan::draw(seed),
            counters: CounterPlan::draw(seed),
            flood,
            repair,
            late,
            hour: false,
            turmoil: rng.u64(TURMOIL_MIN..TURMOIL_MIN + 8 * SECOND),
            faults,
        }
    }

    /// Nothing at all, for a plan that is no seed's.
    pub(crate) fn bare(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed);
        let none = BTreeSet::new();
        Plan {
            seed,
            configs: Vec::new(),
            network: draw_network(&mut rng, &none),
            disk: draw_disk(&mut rng, &none),
            crash: draw_crash(&mut rng, &none, 1),
            clock: draw_clock(&mut rng, &none, 0),
            clients: draw_clients(&mut rng),
            schema: None,
            sloppy: None,
            causal: None,
            batches: None,
            counters: None,
            register: None,
            walks: None,
            flood: None,
            topology: None,
            keeper: None,
            repair: None,
            late: None,
            hour: false,
            turmoil: 0,
            faults: none,
        }
    }

    /// Whether this seed suffers `fault`.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// How many nodes found the cluster: the first of `configs`.
    pub(crate) fn founders(&self) -> usize {
        self.configs.first().map_or(0, |config| config.charter.founders.len())
    }

    /// Copies of each key.
    pub(crate) fn replicas(&self) -> u8 {
        let founders = u8::try_from(self.founders()).unwrap_or(u8::MAX);
        self.configs.first().map_or(1, |config| config.charter.replication.min(founders))
    }
}

/// An exponentially distributed time with this mean, at most eight times it.
pub(crate) fn exponential(rng: &mut Rng, mean: u64) -> u64 {
    let draw = -(1.0 - rng.f64()).ln();
    scale(mean, draw.min(8.0))
}

/// `base` times `factor`, rounded down.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a finite, positive number of nanoseconds far below 2^64"
)]
pub(crate) fn scale(base: u64, factor: f64) -> u64 {
    (base as f64 * factor) as u64
}

fn draw_faults(rng: &mut Rng, nodes: usize) -> BTreeSet<Fault> {
    let mut possible = OF_ONE.to_vec();
    if nodes >= 2 {
        possible.extend(BETWEEN_NODES);
    }
    rng.shuffle(&mut possible);
    let wanted = rng.usize(FAULTS_MIN..=possible.len().min(8));
    let mut faults: BTreeSet<Fault> = possible.into_iter().take(wanted).collect();
    if nodes >= 3 && rng.u8(..5) == 0 {
        faults.insert(FATAL[rng.usize(..FATAL.len())]);
    }
    faults
}

/// Whether bytes rot in this seed: where others have what they hold, and of one node alone. What a
/// stand-in keeps nobody else has. Drawn beside everything else, so that no other choice changes.
fn rots(seed: u64, faults: &BTreeSet<Fault>, nodes: usize) -> bool {
    let mut rng = Rng::with_seed(seed ^ 0x0072_6f74_0072_6f74);
    let fatal = FATAL.iter().any(|fault| faults.contains(fault));
    nodes >= 3 && !fatal && rng.bool()
}

pub(crate) fn draw_configs(rng: &mut Rng, nodes: usize) -> Vec<NodeConfig> {
    let name = |i: usize| format!("n{}", i + 1).parse::<NodeName>().expect("a plain name");
    let zones = rng.bool().then(|| rng.usize(2..=3));
    let zone = |i: usize| match zones {
        Some(zones) => format!("z{}", i % zones).parse::<Zone>().expect("a plain zone"),
        None => Zone::default(),
    };
    let founders: Vec<Founder> = (0..nodes)
        .map(|i| Founder {
            name: name(i),
            peer_address: format!("{}:7", name(i)),
            zone: zone(i),
            weight_milli: 1000,
            role: Role::Active,
        })
        .collect();
    let mut common = NodeConfig::new(name(0), founders);
    common.charter.partitions = 8 << rng.u32(0..=3);
    // Nodes look at their load where a seed has them grow.
    common.sample_interval = Duration::ZERO;
    common.request_timeout = Duration::from_millis(rng.u64(300..1500));
    common.retry_interval = Duration::from_millis(rng.u64(20..300));
    common.hedge_after = Duration::from_millis(rng.u64(2..50));
    common.probe_interval = Duration::from_millis(rng.u64(150..500));
    common.suspect_after = common.probe_interval * rng.u32(2..5);
    common.down_after = common.suspect_after * rng.u32(2..5);
    if rng.u8(..10) == 0 {
        common.operations_max = rng.usize(2..8);
        common.replica_operations_max = rng.usize(8..32);
    }
    let replicas = 3.min(nodes);
    common.charter.read_quorum = u8::try_from(replicas / 2 + 1).expect("at most 3");
    common.charter.write_quorum = common.charter.read_quorum;
    (0..nodes)
        .map(|i| NodeConfig {
            name: name(i),
            client_address: format!("{}:8", name(i)),
            ..common.clone()
        })
        .collect()
}

pub(crate) fn draw_network(rng: &mut Rng, faults: &BTreeSet<Fault>) -> NetworkPlan {
    let rate = |rng: &mut Rng, fault, max: f64| {
        if faults.contains(&fault) { rng.f64() * max } else { 0.0 }
    };
    NetworkPlan {
        delay_min: rng.u64(MS / 20..MS),
        delay_mean: rng.u64(MS / 10..8 * MS),
        loss: rate(rng, Fault::Loss, 0.15),
        duplication: rate(rng, Fault::Duplication, 0.2),
        client_loss: rate(rng, Fault::ClientLoss, 0.1),
        cut_every: rng.u64(SECOND..6 * SECOND),
        cut_for: rng.u64(SECOND / 5..4 * SECOND),
    }
}

pub(crate) fn draw_disk(rng: &mut Rng, faults: &BTreeSet<Fault>) -> DiskPlan {
    DiskPlan {
        latency: rng.u64(MS / 20..3 * MS),
        slow_latency: if faults.contains(&Fault::SlowDisk) { rng.u64(20 * MS..SECOND) } else { 0 },
        error: if faults.contains(&Fault::DiskError) { rng.f64() * 0.05 } else { 0.0 },
        every: rng.u64(2 * SECOND..8 * SECOND),
        memtable_bytes: 1 << rng.u32(12..18),
    }
}

pub(crate) fn draw_crash(rng: &mut Rng, faults: &BTreeSet<Fault>, nodes: usize) -> CrashPlan {
    let on = faults.contains(&Fault::Crash);
    let rate = |rng: &mut Rng, max: f64| if on && rng.bool() { rng.f64() * max } else { 0.0 };
    let cuts = if faults.contains(&Fault::PowerCut) { rng.usize(1..=3) } else { 0 };
    CrashPlan {
        after_message: if on { 0.0002 + rng.f64() * 0.003 } else { 0.0 },
        before_disk_done: rate(rng, 0.01),
        after_disk_done: rate(rng, 0.01),
        at_boot: if faults.contains(&Fault::BirthCrash) { 0.01 + rng.f64() * 0.1 } else { 0.0 },
        down_max: rng.usize(1..=nodes),
        back_after: rng.u64(SECOND / 10..3 * SECOND),
        power_cuts: (0..cuts).map(|_| rng.u64(4 * SECOND..TURMOIL_MIN)).collect(),
    }
}

pub(crate) fn draw_clock(rng: &mut Rng, faults: &BTreeSet<Fault>, nodes: usize) -> ClockPlan {
    let signed = |rng: &mut Rng, max: u64| {
        let max = i64::try_from(max).expect("minutes at most");
        rng.i64(-max..=max)
    };
    let within = if faults.contains(&Fault::Skew) { 240 * MS } else { MS };
    let mut offsets: Vec<i64> = (0..nodes).map(|_| signed(rng, within)).collect();
    let drift = if faults.contains(&Fault::Skew) { 200 } else { 0 };
    let drifts_ppm = (0..nodes).map(|_| signed(rng, drift)).collect();
    if faults.contains(&Fault::SkewBeyond) {
        let victim = rng.usize(..nodes);
        let far = if rng.bool() { 3 * SECOND } else { 60 * SECOND };
        offsets[victim] = signed(rng, far);
    }
    let back = faults.contains(&Fault::ClockBack);
    ClockPlan { offsets, drifts_ppm, back_max: if back { rng.u64(MS..20 * SECOND) } else { 0 } }
}

pub(crate) fn draw_clients(rng: &mut Rng) -> ClientPlan {
    let clients = rng.usize(3..=8);
    ClientPlan {
        clients,
        hot_keys: rng.usize(1..=6),
        think: rng.u64(40 * MS..70 * MS) * clients as u64,
        attempt_timeout: rng.u64(100 * MS..800 * MS),
        attempts_max: rng.u32(1..=4),
        writes: 0.3 + rng.f64() * 0.4,
        deletes: rng.f64() * 0.3,
        scans: rng.f64() * 0.1,
        weak: if rng.bool() { rng.f64() * 0.2 } else { 0.0 },
        value_bytes_max: if rng.u8(..4) == 0 { 20_000 } else { 64 },
        expiring: 0.0,
        timed: 0.0,
    }
}

/// From a generator of its own, so that all other draws stay as they were. Where wall clocks are
/// far off, nobody can say when a value expires.
fn draw_expiring(seed: u64, faults: &BTreeSet<Fault>) -> f64 {
    let mut rng = Rng::with_seed(seed ^ 0x6c62_272e_07bb_0142);
    let told = !faults.contains(&Fault::SkewBeyond) && !faults.contains(&Fault::ClockBack);
    if told && rng.bool() { 0.1 + rng.f64() * 0.5 } else { 0.0 }
}

/// From a generator of its own as well: in one seed of four clients give some writes their times.
fn draw_timed(seed: u64) -> f64 {
    let mut rng = Rng::with_seed(seed ^ 0x7469_6d65_7772_6974);
    if rng.u8(..4) == 0 { 0.1 + rng.f64() * 0.4 } else { 0.0 }
}

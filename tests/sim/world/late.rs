//! What comes late: messages that a link holds back until what they say has been deleted and purged, mirrors that
//! were made equal long ago, copies of one write that differ, plans that are turned round before everybody has
//! heard of them, and council members that forget what they have just said. By chance alone these hardly happen at
//! the moment that matters.

use core::time::Duration;
use std::collections::BTreeSet;

use fastrand::Rng;
use roundtable::message::{
    AdminRequest, Attempt, ClientBody, ClientRequest, CopyMessage, DecreeMessage, DiskRequest,
    Event, FloorDisk, PeerMessage, PlanChange, Principal, Put, QuorumMode, RepairRequest,
    RepairScope, TimeToLive,
};
use roundtable::types::{
    ClassId, ClusterState, Epoch, Key, Move, MovePhase, NodeId, RequestId, Stamp, TraceId, Unit,
    Value, WallTime,
};

use crate::judge::{Checker, Owned};
use crate::plan::{ClientPlan, Fault, MS, SECOND, exponential};

use super::host::{machine, member};
use super::nemesis::Strike;
use super::schema::Asked;
use super::traffic::unit;
use super::{Happening, KeeperPlan, RepairPlan, Stage, TopologyPlan, World};

/// Below this nothing comes late by intention: planted bugs are recorded there.
const LATE_FROM: u64 = 30_000;
/// Drawn so that no seed that is kept for what it once found becomes another.
const SALT: u64 = 0x6c61_7465_0000_001c;
/// Keys of writes of which there are two.
const TWINS: usize = 12;
/// Writes below the floor of a unit that begins to move.
const LATE_PUTS: usize = 6;
/// Share of writes with a time of the client's, at least.
const TIMED_MIN: f64 = 0.2;
/// What was started is forgotten by a node that starts anew.
const ORDER_EVERY: u64 = 6 * SECOND;
/// Everything that was held back is there so long before faults stop.
pub(super) const BEFORE_PEACE: u64 = SECOND;
/// Below this no plan is turned round twice by intention, and no council member made to propose twice: planted
/// bugs are recorded there.
const TWICE_FROM: u64 = 40_000;

/// What comes late in one seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatePlan {
    /// Nodes that found the cluster: more than a key has owners.
    pub(crate) founders: usize,
    /// How members change, where this is about them.
    pub(crate) topology: Option<TopologyPlan>,
    /// How owners compare.
    pub(crate) repair: RepairPlan,
    /// Mean time between links that hold back what they carry.
    stalls: Option<u64>,
    /// Mean time between writes of which there are two.
    twins: Option<u64>,
    /// Share of moves that are turned round while owners are kept behind.
    turns: f64,
    /// Whether those are turned round once more before it is heard of.
    turns_twice: bool,
    /// Share of what council members say that they forget.
    forgets: f64,
    /// Whether a council member is made to propose two states for one epoch.
    pub(super) proposes_twice: bool,
    mirror_every: Duration,
    deletes: f64,
}

/// What is remembered for it.
#[derive(Debug)]
pub(crate) struct LateUse {
    pub(super) rng: Rng,
    twins: u64,
    /// The last epoch whose moves were looked at.
    newest: Epoch,
    /// A council member that is cut off, until then.
    pub(super) apart_until: u64,
    /// When comparisons are started again.
    order_at: u64,
    /// Two owners hear everything late until then.
    pub(super) held_until: u64,
    /// The last epoch whose moves were turned round once more.
    pub(super) turned: Epoch,
    /// Units that began to move, and had writes below their floor.
    put: BTreeSet<(Unit, Epoch)>,
    /// Who is made to propose twice.
    pub(super) twice: Option<super::twice::Twice>,
    /// A key that all clients look at.
    pub(super) focus: Option<super::twice::Focus>,
}

impl LateUse {
    pub(super) fn new(seed: u64) -> LateUse {
        let rng = Rng::with_seed(seed ^ 0x7570_746f_7065_6163);
        LateUse {
            rng,
            twins: 0,
            newest: Epoch(0),
            apart_until: 0,
            order_at: 0,
            held_until: 0,
            turned: Epoch(0),
            put: BTreeSet::new(),
            twice: None,
            focus: None,
        }
    }
}

impl LatePlan {
    /// A quarter of the seeds from [`LATE_FROM`] on. Drawn apart, so that the others stay what they are.
    pub(crate) fn draw(seed: u64) -> Option<LatePlan> {
        let mut rng = Rng::with_seed(seed ^ SALT);
        if seed < LATE_FROM || rng.u8(..4) > 0 {
            return None;
        }
        let purges = rng.bool();
        let turns = !purges && rng.bool();
        let repair = RepairPlan {
            interval: if purges {
                Duration::from_millis(rng.u64(300..3_000))
            } else {
                Duration::from_secs(120)
            },
            settle: Duration::from_millis(rng.u64(100..500)),
            rate: 0,
            hint_age: (!purges).then(|| Duration::from_millis(rng.u64(50..500))),
            purge_slack: if purges {
                Duration::from_millis(rng.u64(1_000..3_000))
            } else {
                Duration::from_secs(3_600)
            },
        };
        let topology = TopologyPlan {
            newcomers: rng.usize(1..=2),
            every: rng.u64(100 * MS..SECOND),
            meddles: if turns { 0.1 + rng.f64() * 0.2 } else { rng.f64() * 0.1 },
            deaths: 0.0,
            strays: 0.0,
        };
        let forgets = turns && rng.bool();
        Some(LatePlan {
            // With three seats of which one forgets, two others decide.
            founders: if forgets { 3 } else { rng.usize(4..=5) },
            topology: (purges || turns).then_some(topology),
            repair,
            stalls: purges.then(|| rng.u64(SECOND..4 * SECOND)),
            twins: (!purges && !turns).then(|| rng.u64(100 * MS..SECOND)),
            turns: if turns && !forgets { 0.5 + rng.f64() * 0.5 } else { 0.0 },
            turns_twice: turns && !forgets && seed >= TWICE_FROM,
            forgets: if forgets { 0.02 + rng.f64() * 0.1 } else { 0.0 },
            proposes_twice: forgets && seed >= TWICE_FROM,
            mirror_every: Duration::from_millis(rng.u64(5_000..60_000)),
            deletes: if purges { 0.3 + rng.f64() * 0.4 } else { rng.f64() * 0.3 },
        })
    }

    /// Takes away the faults with which floors stay where they are.
    pub(crate) fn spare(&self, faults: &mut BTreeSet<Fault>) {
        let spared = [Fault::SkewBeyond, Fault::ClockBack];
        faults.retain(|fault| self.stalls.is_none() || !spared.contains(fault));
    }

    /// What clients do: keys are left alone for longer than a delete waits.
    pub(crate) fn clients(&self, plan: ClientPlan) -> ClientPlan {
        let deletes = self.deletes;
        match self.stalls {
            // Times that clients give are late as well: up to three seconds.
            Some(_) => {
                ClientPlan { hot_keys: 12, timed: plan.timed.max(TIMED_MIN), deletes, ..plan }
            }
            None => ClientPlan { deletes, ..plan },
        }
    }

    /// How often mirrors are made equal.
    pub(crate) fn mirrors(&self, plan: KeeperPlan) -> KeeperPlan {
        plan.mirrors(self.mirror_every)
    }
}

impl World {
    /// Begins, if this seed does.
    pub(super) fn schedule_late(&mut self) {
        let Some(plan) = self.plan.late else { return };
        if plan.stalls.is_some() {
            self.later(3 * SECOND, Happening::Stall);
        }
        if plan.twins.is_some() {
            self.later(3 * SECOND, Happening::Twin);
        }
        if plan.proposes_twice {
            self.later(3 * SECOND, Happening::ProposeTwice);
        }
    }

    /// Everything that one node sends another is held back for seconds, and arrives before faults stop.
    pub(super) fn stall(&mut self) {
        let every = self.plan.late.and_then(|plan| plan.stalls);
        let Some(every) = every.filter(|_| self.stage == Stage::Turmoil) else { return };
        let wait = exponential(&mut self.late.rng, every) + 200 * MS;
        self.later(wait, Happening::Stall);
        let nodes = self.hosts.len();
        let from = self.late.rng.usize(..nodes);
        let to = (from + self.late.rng.usize(1..nodes)) % nodes;
        let long = self.late.rng.u64(200 * MS..3 * SECOND);
        let late = self.late.rng.u64(2 * SECOND..9 * SECOND);
        if self.now + long + late + BEFORE_PEACE > self.plan.turmoil {
            return;
        }
        self.totals.stalls += 1;
        self.network.link(from, to).slow = late;
        self.later(long, Happening::Nemesis(Strike::FastLinks(vec![(from, to)])));
    }

    /// A client that gives the times of its writes sends one twice, with another time to live, to two nodes.
    pub(super) fn write_twins(&mut self) {
        let every = self.plan.late.and_then(|plan| plan.twins);
        let Some(every) = every.filter(|_| self.stage == Stage::Turmoil) else { return };
        let wait = exponential(&mut self.late.rng, every) + 10 * MS;
        self.later(wait, Happening::Twin);
        let serving: Vec<usize> =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].serves()).collect();
        if serving.is_empty() {
            return;
        }
        self.late.twins += 1;
        self.totals.twins += 1;
        let key = Key::new(format!("t{}", self.late.rng.usize(..TWINS))).expect("a short key");
        let id = RequestId(u128::from(self.late.rng.u64(1..)));
        let first = serving[self.late.rng.usize(..serving.len())];
        let time = WallTime(self.hosts[first].wall.read(self.now).0 - 300 * MS);
        for hours in [1, 2] {
            let host = serving[self.late.rng.usize(..serving.len())];
            let put = self.twin(&key, (id, time), hours);
            self.ask_about_tables(host, Asked::Late, |deadline, op| {
                let (trace, principal) = (TraceId(0), Principal::Anonymous);
                Event::Client {
                    op,
                    request: ClientRequest { deadline, trace, principal, body: put },
                }
            });
        }
    }

    fn twin(&self, key: &Key, (id, time): (RequestId, WallTime), hours: u64) -> ClientBody {
        let table = "default".to_owned().try_into().expect("a plain name");
        let value = Value::new(format!("twin {}", self.late.twins)).expect("short");
        ClientBody::Put(Put {
            table,
            key: key.clone(),
            value: Some(value),
            ttl: TimeToLive::For(Duration::from_secs(3_600 * hours)),
            w: None,
            r: None,
            attempt: Attempt { id, ..Attempt::default() },
            time: Some(time),
            mode: QuorumMode::ByTable,
            context: bytes::Bytes::new(),
            traced: false,
        })
    }

    /// An operator has all owners compare themselves now.
    pub(super) fn order_repair(&mut self) {
        if self.now < self.late.order_at {
            return;
        }
        self.late.order_at = self.now + ORDER_EVERY;
        let serving = (0..self.hosts.len()).filter(|host| self.hosts[*host].serves());
        for host in serving.collect::<Vec<_>>() {
            let request = RepairRequest::Start(RepairScope::default());
            let request = AdminRequest::Repair(Box::new(request));
            self.ask_about_tables(host, Asked::Late, |deadline, op| Event::Admin {
                op,
                deadline,
                request,
            });
        }
    }

    /// A node acts by a state that nobody acted by before. Of units that begin to move, two owners hear everything
    /// late; when the unit turns to its new owners, the plan is rolled back.
    pub(super) fn aim_late(&mut self, state: &ClusterState) {
        let Some(plan) = self.plan.late.filter(|_| self.stage == Stage::Turmoil) else { return };
        if state.epoch <= self.late.newest {
            return;
        }
        self.late.newest = state.epoch;
        if state.topology.plan.is_none() {
            return;
        }
        let moves = |phase: MovePhase| {
            let all = state
                .classes
                .iter()
                .flat_map(|class| class.moves.iter().map(move |moving| (class.id, moving)));
            let of_phase = all.filter(move |(_, moving): &(ClassId, &Move)| moving.phase == phase);
            of_phase.filter(move |(_, moving)| phase == MovePhase::ReadNew || !moving.was_read)
        };
        let begun: Vec<(Unit, &Move)> = moves(MovePhase::ReadOld)
            .map(|(class, moving)| (Unit { class, partition: moving.partition }, moving))
            .collect();
        if plan.stalls.is_some() {
            return self.put_late(&begun);
        }
        if plan.turns_twice {
            return self.turn_twice(state, plan.turns);
        }
        if self.now < self.late.held_until {
            if moves(MovePhase::ReadNew).next().is_some() {
                let back = self.late.rng.u64(..30 * MS);
                self.later(back, Happening::TurnPlan(PlanChange::RollBack));
                self.totals.turned += 1;
            }
        } else if !begun.is_empty() && self.late.rng.f64() < plan.turns {
            let (unit, moving) = begun[self.late.rng.usize(..begun.len())];
            self.keep_both_behind(state, (unit, moving));
        }
    }

    /// Two owners of a unit that has begun to move, and stay, hear everything late from now on: neither set can
    /// be given up before they have heard that it is.
    fn keep_both_behind(&mut self, state: &ClusterState, (unit, moving): (Unit, &Move)) {
        let stays = |id: &&NodeId| moving.other.contains(id);
        let mut pair: Vec<NodeId> = state.owners(unit).iter().filter(stays).copied().collect();
        self.late.rng.shuffle(&mut pair);
        pair.sort_by_key(|id| state.council.contains(id));
        pair.truncate(2);
        let seated = state.council.iter().filter(|id| !pair.contains(id)).count();
        let late = self.late.rng.u64(200 * MS..SECOND);
        let long = self.late.rng.u64(2 * SECOND..6 * SECOND);
        let over = self.now + late + long + BEFORE_PEACE;
        let can_decide = seated * 2 > state.council.len();
        if pair.len() == 2 && can_decide && over < self.plan.turmoil {
            self.late.held_until = self.now + long;
            self.hold_back(&pair, (late, long));
        }
    }

    /// Clients give writes times at or below the floor of units that begin to move: who comes has yet to hear of it.
    fn put_late(&mut self, begun: &[(Unit, &Move)]) {
        for (unit, _) in begun {
            let floor = self.floors.highest(*unit);
            let is_new = floor > Stamp::ZERO && self.late.put.insert((*unit, self.late.newest));
            if is_new {
                for _ in 0..LATE_PUTS {
                    let after = self.late.rng.u64(..60 * MS);
                    self.later(after, Happening::LatePut { unit: *unit, floor });
                }
            }
        }
    }

    /// One of them.
    pub(super) fn late_put(&mut self, of: Unit, floor: Stamp) {
        let Some(state) = self.state().filter(|_| self.stage == Stage::Turmoil) else { return };
        let serving: Vec<usize> =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].serves()).collect();
        let number = self.late.rng.usize(..1_000);
        let keys =
            (number..number + 1_000).map(|number| Key::new(format!("l{number}")).expect("short"));
        let Some(key) = keys.into_iter().find(|key| unit(&state, key) == Some(of)) else { return };
        if serving.is_empty() {
            return;
        }
        self.totals.late_puts += 1;
        let host = serving[self.late.rng.usize(..serving.len())];
        let id = RequestId(u128::from(self.late.rng.u64(1..)));
        let time = WallTime(floor.time.0 - self.late.rng.u64(..SECOND));
        let body = self.twin(&key, (id, time), 1);
        self.ask_about_tables(host, Asked::Late, |deadline, op| {
            let (trace, principal) = (TraceId(0), Principal::Anonymous);
            Event::Client { op, request: ClientRequest { deadline, trace, principal, body } }
        });
    }

    /// What comes to these from others is late, for so long.
    pub(super) fn hold_back(&mut self, inside: &[NodeId], (late, long): (u64, u64)) {
        let inside: Vec<usize> = inside.iter().map(|id| machine(*id)).collect();
        let outside = (0..self.hosts.len()).filter(|host| !inside.contains(host));
        let links: Vec<(usize, usize)> =
            outside.flat_map(|host| inside.iter().map(move |one| (host, *one))).collect();
        for (from, to) in &links {
            self.network.link(*from, *to).slow = late;
        }
        self.later(long, Happening::Nemesis(Strike::FastLinks(links)));
    }

    /// A council member loses power right after it has said something that it rests on: a proposer whose question
    /// has come to one other alone, or an acceptor whose disk has yet to be done if it answers too early.
    pub(super) fn aim_at_decree(&mut self, host: usize, to: NodeId, message: &PeerMessage) {
        let Some(plan) = self.plan.late.filter(|plan| plan.forgets > 0.0) else { return };
        let PeerMessage::Decree(decree) = message else { return };
        self.aim_twice((host, machine(to)), decree);
        let is_apart = self.now < self.late.apart_until;
        if self.stage != Stage::Turmoil || is_apart || self.late.rng.f64() >= plan.forgets {
            return;
        }
        match &**decree {
            DecreeMessage::Accept { .. } => {
                let only = machine(to);
                let long = self.late.rng.u64(500 * MS..3 * SECOND);
                self.late.apart_until = self.now + long;
                let mut links = Vec::new();
                for other in (0..self.hosts.len()).filter(|other| *other != only) {
                    links.extend([(only, other), (other, only)]);
                    // What it says to others in this moment is lost with it.
                    links.push((host, other));
                }
                self.later(0, Happening::Nemesis(Strike::Forget(host, links, long)));
            }
            // Whoever asked decides by it, and cannot say so.
            DecreeMessage::Accepted { .. } => {
                let long = self.late.rng.u64(500 * MS..4 * SECOND);
                self.late.apart_until = self.now + long;
                let others = (0..self.hosts.len()).filter(|other| *other != machine(to));
                let links = others.map(|other| (machine(to), other)).collect();
                self.later(0, Happening::Nemesis(Strike::Forget(host, links, long)));
            }
            _ => return,
        }
        self.totals.forgets += 1;
    }

    /// That happens.
    pub(super) fn forget(&mut self, host: usize, links: Vec<(usize, usize)>, long: u64) {
        if self.hosts[host].running.is_none() || !self.may_die() {
            return;
        }
        self.kill(host);
        let back = self.late.rng.u64(10 * MS..200 * MS);
        self.start_after(host, back);
        let links: Vec<_> = links.into_iter().filter(|(from, _)| *from != host).collect();
        for (from, to) in &links {
            self.network.link(*from, *to).cut = true;
        }
        self.later(long, Happening::Nemesis(Strike::Join(links)));
    }

    /// What a message says that the purge floor rests on.
    pub(super) fn judge_floors(&mut self, host: usize, to: NodeId, message: &PeerMessage) {
        let me = member(host);
        match message {
            PeerMessage::Floors(news) => {
                let view = self.hosts[host].view.as_ref();
                let Some(state) = view.and_then(|view| view.state.clone()) else { return };
                for news in news {
                    let (unit, owners) = (news.unit, state.writers(news.unit));
                    let owned = Owned { unit, fence: state.changed_at(unit), owners: &owners };
                    let verdict = self.floors.tells(me, news, owned);
                    self.judge(Checker::Floors, verdict);
                }
            }
            PeerMessage::Copy(copy) => {
                if let CopyMessage::Page { round, floor, .. } = &**copy {
                    let verdict = self.floors.gives((me, to), *round, *floor);
                    self.judge(Checker::Floors, verdict);
                }
            }
            _ => {}
        }
    }

    /// The same of what a node has its disk change.
    pub(super) fn judge_changes(&mut self, host: usize, request: &DiskRequest) {
        let DiskRequest::Floor(floor) = request else { return };
        let FloorDisk::Change(changes) = &**floor else { return };
        let view = self.hosts[host].view.as_ref();
        let Some(state) = view.and_then(|view| view.state.clone()) else { return };
        for (unit, change) in changes {
            let owners = state.writers(*unit);
            let owned = Owned { unit: *unit, fence: state.changed_at(*unit), owners: &owners };
            let verdict = self.floors.changes(member(host), change, owned);
            self.judge(Checker::Floors, verdict);
        }
    }
}

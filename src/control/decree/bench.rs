//! A few members in one thread: messages that are lost, repeated and overtaken, disks that answer
//! late and forget what was not durable, crashes anywhere. Judged by I7 and by what "in force" means.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::control::founding;
use crate::message::{TableChange, TableSpec};
use crate::types::{Charter, Founder, Nonce, Role, TableKind, TableName, Zone};

pub(super) fn first_state(members: usize) -> Arc<ClusterState> {
    let founders: Vec<Founder> = (1..=members)
        .map(|i| Founder {
            name: format!("n{i}").parse().unwrap(),
            peer_address: format!("n{i}:7"),
            zone: Zone::default(),
            weight_milli: 1000,
            role: Role::Active,
        })
        .collect();
    let births = founders.iter().zip(1..).map(|(f, i)| (f.name.clone(), Nonce(i))).collect();
    let charter = Charter {
        cluster_name: "kv".to_owned(),
        founders,
        partitions: 8,
        replication: 3,
        read_quorum: 2,
        write_quorum: 2,
    };
    Arc::new(founding::found(&charter, &births).unwrap())
}

pub(super) fn create(name: &str) -> Change {
    Change::Table(TableChange::Create(TableSpec {
        name: TableName::try_from(name.to_owned()).unwrap(),
        kind: TableKind::Lww,
        n: None,
        r: None,
        w: None,
        r_min: None,
        w_min: None,
        sloppy: None,
        ttl: None,
        value_bytes_max: None,
    }))
}

#[derive(Clone)]
pub(super) enum Said {
    Decree(DecreeMessage),
    StateAsk,
    StateNews(Arc<ClusterState>),
}

pub(super) enum Work {
    Record(Box<DecreeRecord>, NodeId, DecreeMessage),
    Decided(Arc<ClusterState>),
    State(Arc<ClusterState>),
}

#[derive(Default)]
pub(super) struct Disk {
    record: DecreeRecord,
    decided: Option<Arc<ClusterState>>,
    state: Option<Arc<ClusterState>>,
}

impl Disk {
    fn newest(&self) -> Epoch {
        self.state.as_ref().max_by_epoch(self.decided.as_ref())
    }
}

trait MaxByEpoch {
    fn max_by_epoch(self, other: Self) -> Epoch;
}

impl MaxByEpoch for Option<&Arc<ClusterState>> {
    fn max_by_epoch(self, other: Self) -> Epoch {
        let epoch = |state: Option<&Arc<ClusterState>>| state.map_or(Epoch(0), |s| s.epoch);
        epoch(self).max(epoch(other))
    }
}

pub(super) struct Peer {
    pub(super) decree: Option<Decree>,
    pub(super) boot: u64,
    pub(super) disk: Disk,
    pub(super) work: VecDeque<Work>,
    pub(super) in_force: Option<Arc<ClusterState>>,
}

pub(super) struct World {
    pub(super) peers: Vec<Peer>,
    pub(super) mail: Vec<(NodeId, NodeId, Said)>,
    pub(super) rng: fastrand::Rng,
    pub(super) now: Time,
    pub(super) decided: BTreeMap<Epoch, Arc<ClusterState>>,
    pub(super) outcomes: BTreeMap<OpId, Result<Epoch, OpError>>,
    pub(super) asked: u64,
    pub(super) checked: BTreeMap<NodeId, u64>,
    pub(super) finding: Option<String>,
}

pub(super) fn id(index: usize) -> NodeId {
    NodeId(u32::try_from(index + 1).unwrap())
}

pub(super) fn index(id: NodeId) -> usize {
    id.0 as usize - 1
}

impl World {
    pub(super) fn new(members: usize, seed: u64) -> World {
        let first = first_state(members);
        let peer = || Peer {
            decree: None,
            boot: 0,
            disk: Disk { state: Some(first.clone()), ..Disk::default() },
            work: VecDeque::new(),
            in_force: None,
        };
        let mut world = World {
            peers: (0..members).map(|_| peer()).collect(),
            mail: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            now: Time(0),
            decided: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            asked: 0,
            checked: BTreeMap::new(),
            finding: None,
        };
        (0..members).for_each(|peer| world.start(peer));
        world
    }

    pub(super) fn start(&mut self, peer: usize) {
        let timing = DecreeTiming {
            retry: Duration::from_millis(20),
            back_off: Duration::from_millis(10),
            recover: Duration::from_millis(200),
        };
        let rng = self.rng.fork();
        let this = &mut self.peers[peer];
        this.boot += 1;
        let state = this.disk.state.clone().unwrap();
        let decided = this.disk.decided.clone().filter(|held| held.epoch > state.epoch);
        let who = (id(peer), this.boot);
        let mut decree = Decree::new(who, timing, this.disk.record.clone(), decided, rng);
        decree.on_state(self.now, state.clone());
        decree.begin(self.now);
        this.decree = Some(decree);
        this.in_force = Some(state);
        self.act(peer);
    }

    /// The machine is gone; of what its disk was asked, some of the oldest may have been done.
    pub(super) fn crash(&mut self, peer: usize) {
        let this = &mut self.peers[peer];
        if this.decree.take().is_none() {
            return;
        }
        let done = self.rng.usize(..=this.work.len());
        for work in this.work.drain(..).take(done) {
            match work {
                Work::Record(record, ..) => this.disk.record = *record,
                Work::Decided(state) => this.disk.decided = Some(state),
                Work::State(state) => this.disk.state = Some(state),
            }
        }
        this.work.clear();
    }

    pub(super) fn act(&mut self, peer: usize) {
        let me = id(peer);
        while let Some(action) = self.peers[peer].decree.as_mut().and_then(Decree::poll_action) {
            match action {
                DecreeAction::Send(to, message) => self.mail.push((me, to, Said::Decree(message))),
                DecreeAction::Persist(record, to, answer) => {
                    self.peers[peer].work.push_back(Work::Record(record, to, answer));
                }
                DecreeAction::PersistDecided(state) => {
                    self.judge_decided(&state);
                    self.peers[peer].work.push_back(Work::Decided(state));
                }
                DecreeAction::InForce(state) => {
                    self.judge_in_force(&state);
                    self.adopt(peer, state);
                }
                DecreeAction::TellState(to) => {
                    let state = self.peers[peer].in_force.clone().unwrap();
                    self.mail.push((me, to, Said::StateNews(state)));
                }
                DecreeAction::AskState(to) => self.mail.push((me, to, Said::StateAsk)),
                DecreeAction::Outcome(op, result) => {
                    if self.outcomes.insert(op, result).is_some() {
                        self.finding = Some(format!("{op} has two outcomes"));
                    }
                }
                DecreeAction::Checked(seq) => {
                    self.checked.insert(me, seq);
                }
                DecreeAction::Contradiction(_, epoch) => {
                    self.finding = Some(format!("epoch {epoch} contradicts itself"));
                }
            }
        }
    }

    fn adopt(&mut self, peer: usize, state: Arc<ClusterState>) {
        let is_newer = |work: &Work| matches!(work, Work::State(s) if s.epoch >= state.epoch);
        let known = self.peers[peer].in_force.as_ref().unwrap().epoch;
        if known < state.epoch && !self.peers[peer].work.iter().any(is_newer) {
            self.peers[peer].work.push_back(Work::State(state));
        }
    }

    fn judge_decided(&mut self, state: &Arc<ClusterState>) {
        let known = self.decided.entry(state.epoch).or_insert_with(|| state.clone());
        if known != state {
            self.finding = Some(format!("epoch {} has two states", state.epoch));
        }
    }

    fn judge_in_force(&mut self, state: &Arc<ClusterState>) {
        let holds = |member: &&NodeId| self.peers[index(**member)].disk.newest() >= state.epoch;
        if state.council.iter().filter(holds).count() < majority(state.council.len()) {
            self.finding = Some(format!("epoch {} is in force too early", state.epoch));
        }
    }

    pub(super) fn deliver(&mut self, at: usize) {
        let (from, to, said) = self.mail.swap_remove(at);
        let peer = index(to);
        let Some(decree) = self.peers[peer].decree.as_mut() else { return };
        match said {
            Said::Decree(message) => decree.on_message(self.now, from, message),
            Said::StateAsk => {
                let state = self.peers[peer].in_force.clone().unwrap();
                self.mail.push((to, from, Said::StateNews(state)));
            }
            Said::StateNews(state) => self.adopt(peer, state),
        }
        self.act(peer);
    }

    pub(super) fn work(&mut self, peer: usize) {
        let this = &mut self.peers[peer];
        let Some(work) = this.work.pop_front() else { return };
        let decree = this.decree.as_mut().unwrap();
        match work {
            Work::Record(record, to, answer) => {
                this.disk.record = *record;
                if !mutant_is_armed("decree-answers-before-durable") {
                    self.mail.push((id(peer), to, Said::Decree(answer)));
                }
            }
            Work::Decided(state) => {
                this.disk.decided = Some(state.clone());
                decree.on_decided_durable(state.epoch);
            }
            Work::State(state) => {
                this.disk.state = Some(state.clone());
                this.in_force = Some(state.clone());
                decree.on_state(self.now, state);
            }
        }
        self.act(peer);
    }

    /// What probes do: everybody hears of everybody's epochs.
    pub(super) fn probe(&mut self) {
        let told: Vec<(NodeId, Epoch, Epoch)> = (0..self.peers.len())
            .filter_map(|peer| {
                let decree = self.peers[peer].decree.as_ref()?;
                Some((id(peer), decree.epoch(), decree.stored()))
            })
            .collect();
        for (from, epoch, stored) in told {
            for peer in 0..self.peers.len() {
                if id(peer) == from || self.rng.u8(..4) == 0 {
                    continue;
                }
                let Some(decree) = self.peers[peer].decree.as_mut() else { continue };
                if decree.epoch() < epoch {
                    self.mail.push((id(peer), from, Said::StateAsk));
                }
                decree.on_epochs(from, epoch, stored);
                self.act(peer);
            }
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        for peer in 0..self.peers.len() {
            let Some(decree) = self.peers[peer].decree.as_mut() else { continue };
            if decree.next_deadline().is_some_and(|at| at <= self.now) {
                decree.on_time(self.now);
                self.act(peer);
            }
        }
    }

    pub(super) fn propose(&mut self, peer: usize, change: Change) -> OpId {
        self.asked += 1;
        let op = OpId(self.asked);
        let now = self.now;
        if let Some(decree) = self.peers[peer].decree.as_mut() {
            decree.propose(now, op, RequestId(u128::from(self.asked)), change).unwrap();
            self.act(peer);
        }
        op
    }

    /// One thing happens.
    pub(super) fn step(&mut self) {
        let peers = self.peers.len();
        let peer = self.rng.usize(..peers);
        match self.rng.u8(..100) {
            0..62 if !self.mail.is_empty() => {
                let at = self.rng.usize(..self.mail.len());
                if self.rng.u8(..10) == 0 {
                    self.mail.push(self.mail[at].clone());
                }
                if self.rng.u8(..20) == 0 {
                    self.mail.swap_remove(at);
                } else {
                    self.deliver(at);
                }
            }
            0..82 if self.peers[peer].decree.is_some() => self.work(peer),
            82..86 => self.crash(peer),
            86..92 if self.peers[peer].decree.is_none() => self.start(peer),
            92..96 => {
                let name = format!("t{}", self.rng.u8(..30));
                self.propose(peer, create(&name));
            }
            96 => self.probe(),
            _ => {
                let time = Duration::from_millis(self.rng.u64(..60));
                self.pass(time);
            }
        }
        while self.mail.len() > 60 {
            let at = self.rng.usize(..self.mail.len());
            self.mail.swap_remove(at);
        }
    }

    /// Everything works again, until all is quiet.
    pub(super) fn heal(&mut self) {
        for peer in 0..self.peers.len() {
            if self.peers[peer].decree.is_none() {
                self.start(peer);
            }
        }
        for _ in 0..200 {
            for _ in 0..40 {
                while !self.mail.is_empty() && self.finding.is_none() {
                    self.deliver(0);
                }
                (0..self.peers.len()).for_each(|peer| self.work(peer));
            }
            self.probe();
            self.pass(Duration::from_millis(20));
            if self.finding.is_some() {
                return;
            }
        }
        let epochs: Vec<Epoch> =
            self.peers.iter().map(|peer| peer.in_force.as_ref().unwrap().epoch).collect();
        let quiet = self.peers.iter().all(|peer| {
            let decree = peer.decree.as_ref().unwrap();
            decree.wants.is_empty() && decree.held.is_none()
        });
        if !quiet || epochs.windows(2).any(|pair| pair[0] != pair[1]) {
            self.finding = Some(format!("not settled: {epochs:?}"));
        }
    }
}

fn mutant_is_armed(name: &str) -> bool {
    crate::testing::mutant_is_armed(name)
}

pub(super) fn run(seed: u64, steps: usize) -> (Option<String>, usize) {
    let members = [1, 2, 3, 3, 3, 5, 7][usize::try_from(seed).unwrap() % 7];
    let mut world = World::new(members, seed);
    for _ in 0..steps {
        if world.finding.is_some() {
            break;
        }
        world.step();
    }
    if world.finding.is_none() {
        world.heal();
    }
    (world.finding, world.decided.len())
}

/// What a message between two members is about, for tests that choose whom to let through.
fn is(message: &Said, kind: &str) -> bool {
    let Said::Decree(message) = message else { return false };
    match message {
        DecreeMessage::Prepare { .. } => kind == "prepare",
        DecreeMessage::Promise { .. } => kind == "promise",
        DecreeMessage::Accept { .. } => kind == "accept",
        DecreeMessage::Accepted { .. } => kind == "accepted",
        _ => false,
    }
}

impl World {
    /// Delivers all messages of a kind from `from` to one of `to`, lets their disks work, and loses
    /// what else is under way.
    pub(super) fn only(&mut self, kind: &str, from: NodeId, to: &[NodeId]) {
        while let Some(at) = self
            .mail
            .iter()
            .position(|(a, b, message)| *a == from && to.contains(b) && is(message, kind))
        {
            self.deliver(at);
        }
    }

    pub(super) fn disks(&mut self, members: &[NodeId]) {
        for member in members {
            while !self.peers[index(*member)].work.is_empty() {
                self.work(index(*member));
            }
        }
    }

    /// `proposer` carries one phase through with `others`, or has only `reached` take part in it.
    pub(super) fn phase(&mut self, kinds: [&str; 2], proposer: NodeId, reached: &[NodeId]) {
        self.only(kinds[0], proposer, reached);
        self.disks(reached);
        for member in reached {
            self.only(kinds[1], *member, &[proposer]);
        }
        self.disks(&[proposer]);
    }
}

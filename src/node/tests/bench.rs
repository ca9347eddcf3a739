//! A few nodes on disks that never fail, a network that delivers at once unless told otherwise,
//! and a clock that moves when the test says so.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::causality::{Acceptor, SiblingSet};
use crate::message::{
    AdminRequest, Attempt, CausalTask, ClientBody, ClientRequest, ClientResult, DiskAnswer,
    DiskError, DiskRequest, DiskToken, Effect, Event, Get, Hint, MetaRecord, PeerMessage, Phase,
    Principal, Put, QuorumMode, Restored, Scan, TimeToLive, UnitDisk, View,
};
use crate::node::{Node, NodeConfig};
use crate::types::{
    Founder, Key, NodeId, Now, OpId, Quorum, Record, Role, TableId, Tenure, Time, TraceId, Unit,
    Value, WallTime, Zone,
};

pub(super) const MS: u64 = 1_000_000;
const EPOCH: u64 = 1_700_000_000_000 * MS;

type Data = BTreeMap<(Unit, TableId, Key), Record>;

#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) meta: Vec<MetaRecord>,
    pub(super) data: Data,
    pub(super) hints: BTreeMap<(NodeId, Unit, TableId, Key), Hint>,
    pub(super) sets: BTreeMap<(Unit, TableId, Key), SiblingSet>,
    /// As whom a stand-in writes in a record of custody.
    pub(super) acting: BTreeMap<(NodeId, Unit, TableId, Key), Tenure>,
    pub(super) acceptors: BTreeMap<(Unit, TableId, Key), Acceptor>,
    pub(super) floors: BTreeMap<Unit, crate::message::FloorState>,
    /// Pages of scans go up, whatever was asked for.
    pub(super) reads_forward: bool,
    /// What it has merged lately.
    pub(super) recent: super::answers::Notes,
    /// What is wrong with it.
    pub(super) bad: super::fill_disk::Bad,
}

pub(super) struct Host {
    pub(super) node: Option<Node>,
    pub(super) disk: Disk,
    pub(super) view: Option<std::sync::Arc<View>>,
    /// Disk requests wait until the test lets them go.
    pub(super) slow_disk: bool,
    /// The same for users' writes alone.
    pub(super) slow_writes: bool,
    /// The same for reads of single keys.
    pub(super) slow_reads: bool,
    waiting: VecDeque<(DiskToken, DiskRequest)>,
    /// What a disk that syncs nothing holds for sure of users' data: writes show at once, and are
    /// answered, like reads that are to be durable, when it syncs.
    synced: Option<Data>,
    unsynced: VecDeque<(DiskToken, DiskAnswer)>,
    /// How many more of the node's own records the disk refuses, of those `refuses` names.
    pub(super) refusals_left: u32,
    pub(super) refuses: fn(&MetaRecord) -> bool,
    /// How often the disk has refused to empty a unit, if it does.
    pub(super) emptyings_refused: Option<u32>,
    /// With what it refuses writes of versions, if it does.
    pub(super) writes_refused: Option<DiskError>,
    /// With what it refuses the others.
    pub(super) refusal: DiskError,
    pub(super) wall_offset_ms: i64,
}

impl Host {
    fn is_slow(&self, request: &DiskRequest) -> bool {
        let reads = matches!(request, DiskRequest::Read { .. });
        self.slow_disk || self.slow_writes && is_write(request) || self.slow_reads && reads
    }

    /// The disk syncs nothing from now on.
    pub(super) fn hold_syncs(&mut self) {
        self.synced = Some(self.disk.data.clone());
    }

    /// Whether the answer to a request has to wait for a sync.
    fn waits_for_sync(&self, request: &DiskRequest) -> bool {
        let Some(synced) = &self.synced else { return false };
        match request {
            DiskRequest::Write { .. } | DiskRequest::WriteTogether { .. } => true,
            DiskRequest::Read { unit, table, key, durable } => {
                let slot = (*unit, *table, key.clone());
                *durable && self.disk.data.get(&slot) != synced.get(&slot)
            }
            _ => false,
        }
    }

    /// States that a slow disk has been asked to bring into force and has not.
    pub(super) fn waiting_states(&self) -> usize {
        let is_state = |record: &MetaRecord| matches!(record, MetaRecord::State(_));
        let holds = |(_, request): &&(DiskToken, DiskRequest)| match request {
            DiskRequest::Persist(records) => records.iter().any(is_state),
            _ => false,
        };
        self.waiting.iter().filter(holds).count()
    }

    /// How many such requests wait at a slow disk.
    pub(super) fn waits_for(&self, which: impl Fn(&DiskRequest) -> bool) -> usize {
        self.waiting.iter().filter(|(_, request)| which(request)).count()
    }

    /// Writes a slow disk has been asked and has not done.
    pub(super) fn waiting_writes(&self) -> usize {
        self.waiting.iter().filter(|(_, request)| is_write(request)).count()
    }
}

/// A user's write, or a question to an acceptor.
fn is_write(request: &DiskRequest) -> bool {
    match request {
        DiskRequest::Causal(ask) => matches!(ask.task, CausalTask::Merge(_)),
        DiskRequest::Write { .. }
        | DiskRequest::WriteTogether { .. }
        | DiskRequest::Register(_) => true,
        _ => false,
    }
}

pub(super) struct Bench {
    pub(super) hosts: Vec<Host>,
    config: Vec<NodeConfig>,
    queue: VecDeque<(NodeId, NodeId, PeerMessage)>,
    /// Ordered pairs that lose everything, silently.
    pub(super) cut: BTreeSet<(NodeId, NodeId)>,
    /// Probes and their answers are lost.
    pub(super) drop_probes: bool,
    /// So is all that targets and sources say: nobody is filled.
    pub(super) drop_copies: bool,
    pub(super) replies: BTreeMap<OpId, ClientResult>,
    pub(super) seen: Vec<(NodeId, NodeId, PeerMessage)>,
    mono: u64,
    next_op: u64,
    seed: u64,
}

pub(super) fn node(number: u32) -> NodeId {
    NodeId(number)
}

impl Bench {
    pub(super) fn new(count: u32) -> Bench {
        let founders: Vec<Founder> = (1..=count)
            .map(|i| Founder {
                name: format!("n{i}").parse().unwrap(),
                peer_address: format!("host{i}:7451"),
                zone: Zone::default(),
                weight_milli: 1000,
                role: Role::Active,
            })
            .collect();
        let config = founders.iter().map(|founder| {
            let mut config = NodeConfig::new(founder.name.clone(), founders.clone());
            config.charter.partitions = 16;
            config.sample_interval = Duration::ZERO;
            config
        });
        let host = || Host {
            node: None,
            disk: Disk::default(),
            view: None,
            slow_disk: false,
            slow_writes: false,
            slow_reads: false,
            waiting: VecDeque::new(),
            synced: None,
            unsynced: VecDeque::new(),
            refusals_left: 0,
            refuses: |_| true,
            emptyings_refused: None,
            writes_refused: None,
            refusal: DiskError::ReadOnly("a test".to_owned()),
            wall_offset_ms: 0,
        };
        Bench {
            hosts: (0..count).map(|_| host()).collect(),
            config: config.collect(),
            queue: VecDeque::new(),
            cut: BTreeSet::new(),
            drop_probes: false,
            drop_copies: false,
            replies: BTreeMap::new(),
            seen: Vec::new(),
            mono: 0,
            next_op: 1,
            seed: 1,
        }
    }

    /// All nodes started, founded and serving.
    pub(super) fn serving(count: u32) -> Bench {
        let mut bench = Bench::new(count);
        for i in 1..=count {
            bench.start(node(i));
        }
        bench.pass(Duration::from_secs(2));
        for i in 1..=count {
            assert_eq!(bench.phase(node(i)), Phase::Serving);
        }
        bench
    }

    pub(super) fn config(&mut self, id: NodeId) -> &mut NodeConfig {
        &mut self.config[id.0 as usize - 1]
    }

    pub(super) fn host(&mut self, id: NodeId) -> &mut Host {
        &mut self.hosts[id.0 as usize - 1]
    }

    pub(super) fn phase(&mut self, id: NodeId) -> Phase {
        self.host(id).view.clone().expect("a view is published at the start").phase.clone()
    }

    pub(super) fn now(&mut self, id: NodeId) -> Now {
        let (mono, offset) = (self.mono, self.host(id).wall_offset_ms);
        let wall = (EPOCH + mono).saturating_add_signed(offset * MS as i64);
        Now { mono: Time(mono), wall: WallTime(wall) }
    }

    pub(super) fn wall(&mut self, id: NodeId) -> WallTime {
        self.now(id).wall
    }

    pub(super) fn start(&mut self, id: NodeId) {
        let mut restored = Restored::default();
        for record in self.host(id).disk.meta.clone() {
            match record {
                MetaRecord::Birth(birth) => restored.birth = Some(birth),
                MetaRecord::Pledge(hash) => restored.pledge = Some(hash),
                MetaRecord::State(state) => restored.state = Some(state),
                MetaRecord::Boot(boot) => restored.boot = Some(boot),
                MetaRecord::Ceiling(ceiling) => restored.ceiling = ceiling,
                MetaRecord::Life(member, life) => {
                    restored.lives.insert(member, life);
                }
                MetaRecord::Decree(record) => restored.decree = record,
                MetaRecord::Decided(state) => restored.decided = Some(state),
                MetaRecord::Swept(epoch) => restored.swept = epoch,
                MetaRecord::Dirty(unit, target) => {
                    restored.dirty.insert((unit, target));
                }
                MetaRecord::Clean(unit, target) => {
                    restored.dirty.remove(&(unit, target));
                }
                MetaRecord::Tenure(tenure) => restored.tenure = Some(tenure),
                MetaRecord::Acknowledged(epoch) => restored.acknowledged = epoch,
                MetaRecord::Abstain(epoch) => restored.abstain = epoch,
                MetaRecord::Scrub(record) => restored.scrub = record,
                MetaRecord::Refused(why) => restored.refused = Some(why),
                MetaRecord::Fill(unit, record) => {
                    restored.fills.insert(unit, record);
                }
                MetaRecord::Custody(bar) => restored.custody = bar,
                MetaRecord::Aside(aside) => restored.aside = Some(aside),
                MetaRecord::Event(event) => {
                    restored.events.insert(event.seq, event);
                }
                MetaRecord::Hour(hour) => {
                    restored.hours.retain(|known| known.slot() != hour.slot());
                    restored.hours.push(hour);
                }
                MetaRecord::Resized(resized) => restored.resized = resized,
                MetaRecord::Proposals(proposals) => restored.proposals = proposals,
                MetaRecord::Floor(..) => {}
            }
        }
        restored.hints = self.host(id).disk.books();
        restored.floors = self.host(id).disk.restored_floors();
        restored.damage = self.host(id).disk.bad.log_damage.clone();
        self.seed += 1;
        let (now, config, seed) = (self.now(id), self.config(id).clone(), self.seed);
        let host = self.host(id);
        host.waiting.clear();
        host.disk.recent = super::answers::Notes::default();
        host.node = Some(Node::new(now, config, restored, seed));
        self.drain(id);
    }

    pub(super) fn stop(&mut self, id: NodeId) {
        let host = self.host(id);
        host.node = None;
        host.waiting.clear();
        host.unsynced.clear();
    }

    /// The node stops, and what was not synced is gone.
    pub(super) fn lose_power(&mut self, id: NodeId) {
        self.stop(id);
        let host = self.host(id);
        if let Some(synced) = host.synced.take() {
            host.disk.data = synced;
        }
    }

    /// A disk that has held its syncs back makes them.
    pub(super) fn sync(&mut self, id: NodeId) {
        self.host(id).synced = None;
        while let Some((token, answer)) = self.host(id).unsynced.pop_front() {
            self.event(id, Event::DiskDone { token, result: Ok(answer) });
        }
    }

    /// Lets time pass in small steps, delivering everything.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.mono + time.as_nanos() as u64;
        while self.mono < end {
            self.mono += 10 * MS;
            for id in (1..=self.hosts.len() as u32).map(NodeId) {
                self.event(id, Event::Tick);
            }
            self.settle();
        }
    }

    /// Delivers one message, or lets a little time pass when none is under way.
    pub(super) fn step_one(&mut self) {
        match self.queue.pop_front() {
            Some((from, to, message)) => self.event(to, Event::Peer { from, message }),
            None => {
                self.mono += 10 * MS;
                for id in (1..=self.hosts.len() as u32).map(NodeId) {
                    self.event(id, Event::Tick);
                }
            }
        }
    }

    /// What is under way, which is not delivered.
    pub(super) fn take_queue(&mut self) -> VecDeque<(NodeId, NodeId, PeerMessage)> {
        core::mem::take(&mut self.queue)
    }

    /// Delivers everything that is under way, without letting time pass.
    pub(super) fn settle(&mut self) {
        while let Some((from, to, message)) = self.queue.pop_front() {
            let probe = matches!(
                message,
                PeerMessage::Probe(_)
                    | PeerMessage::ProbeAck(_)
                    | PeerMessage::News(_)
                    | PeerMessage::MemberSync(_)
            );
            let copy = matches!(message, PeerMessage::Copy(_));
            let dropped = probe && self.drop_probes || copy && self.drop_copies;
            if !self.cut.contains(&(from, to)) && !dropped {
                self.event(to, Event::Peer { from, message });
            }
        }
    }

    pub(super) fn event(&mut self, id: NodeId, event: Event) {
        let now = self.now(id);
        if let Some(node) = &mut self.host(id).node {
            node.handle(now, event);
            self.drain(id);
        }
    }

    fn drain(&mut self, id: NodeId) {
        while let Some(effect) = self.host(id).node.as_mut().and_then(Node::poll_effect) {
            match effect {
                Effect::Send { to, message } => {
                    self.seen.push((id, to, message.clone()));
                    self.queue.push_back((id, to, message));
                }
                Effect::Reply { op, result } => {
                    assert!(self.replies.insert(op, result).is_none(), "two replies to {op}");
                }
                Effect::Disk { token, request } if self.host(id).is_slow(&request) => {
                    self.host(id).waiting.push_back((token, request));
                }
                Effect::Disk { token, request } => self.execute(id, token, request),
                Effect::Publish(view) => self.host(id).view = Some(view),
                Effect::Note(_) => {}
            }
        }
    }

    /// Lets a slow disk do the first thing it was asked.
    pub(super) fn release_one(&mut self, id: NodeId) {
        if let Some((token, request)) = self.host(id).waiting.pop_front() {
            self.execute(id, token, request);
        }
    }

    /// Lets a slow disk do what it was asked.
    pub(super) fn release_disk(&mut self, id: NodeId) {
        self.host(id).slow_disk = false;
        self.host(id).slow_writes = false;
        self.host(id).slow_reads = false;
        while let Some((token, request)) = self.host(id).waiting.pop_front() {
            self.execute(id, token, request);
        }
    }

    fn execute(&mut self, id: NodeId, token: DiskToken, request: DiskRequest) {
        let host = self.host(id);
        if let DiskRequest::Persist(records) = &request
            && host.refusals_left > 0
            && records.iter().any(host.refuses)
        {
            host.refusals_left -= 1;
            let result = Err(host.refusal.clone());
            return self.event(id, Event::DiskDone { token, result });
        }
        let host = self.host(id);
        if let (DiskRequest::Unit(ask), Some(count)) = (&request, &mut host.emptyings_refused)
            && matches!(**ask, UnitDisk::Empty { .. })
            && *count < 1000
        {
            *count += 1;
            let result = Err(host.refusal.clone());
            return self.event(id, Event::DiskDone { token, result });
        }
        let host = self.host(id);
        if let (DiskRequest::Write { .. }, Some(error)) = (&request, host.writes_refused.clone()) {
            return self.event(id, Event::DiskDone { token, result: Err(error) });
        }
        let host = self.host(id);
        let waits = host.waits_for_sync(&request);
        let answer = host.disk.answer(request);
        if waits {
            return self.host(id).unsynced.push_back((token, answer));
        }
        self.event(id, Event::DiskDone { token, result: Ok(answer) });
    }

    /// A write that has been let in and is with the disk.
    pub(super) fn let_in(
        &mut self,
        at: NodeId,
        round: crate::message::RoundId,
        (unit, table, key): (Unit, TableId, Key),
        record: Record,
    ) {
        if let Some(host) = self.host(at).node.as_mut() {
            host.replica_operations += 1;
            let request = DiskRequest::Write { unit, table, key, record };
            let fence = host.state.as_ref().map(|state| state.changed_at(unit)).unwrap_or_default();
            let from = at;
            let admitted = super::super::peer::Admitted {
                from,
                round,
                unit,
                fence,
                complete: true,
                fresh: true,
                since: host.now,
            };
            host.disk(super::super::disk::Pending::Write(admitted), request);
            self.drain(at);
        }
    }

    pub(super) fn ask(&mut self, at: NodeId, body: ClientBody) -> OpId {
        self.ask_as(Principal::Anonymous, at, body)
    }

    pub(super) fn ask_as(&mut self, principal: Principal, at: NodeId, body: ClientBody) -> OpId {
        let op = self.ask_only(principal, at, body);
        self.settle();
        op
    }

    /// Nothing is delivered.
    pub(super) fn ask_quietly(&mut self, at: NodeId, body: ClientBody) -> OpId {
        self.ask_only(Principal::Anonymous, at, body)
    }

    fn ask_only(&mut self, principal: Principal, at: NodeId, body: ClientBody) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        let (deadline, trace) = (Time(self.mono).plus(Duration::from_secs(1)), TraceId(0));
        let request = ClientRequest { deadline, trace, principal, body };
        self.event(at, Event::Client { op, request });
        op
    }

    /// Asks for what may take a while.
    pub(super) fn begin_admin(&mut self, at: NodeId, request: AdminRequest) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        let deadline = Time(self.mono).plus(Duration::from_secs(1));
        self.event(at, Event::Admin { op, deadline, request });
        op
    }

    pub(super) fn admin(&mut self, at: NodeId, request: AdminRequest) -> ClientResult {
        let op = self.begin_admin(at, request);
        self.replies.remove(&op).expect("an answer")
    }

    pub(super) fn reply(&mut self, op: OpId) -> Option<ClientResult> {
        self.replies.remove(&op)
    }
}

pub(super) fn put(key: &str, value: &str) -> ClientBody {
    put_with(key, value, None, Attempt::default())
}

pub(super) fn put_in(table: &str, key: &str, value: &str) -> ClientBody {
    let ClientBody::Put(put) = put(key, value) else { unreachable!() };
    ClientBody::Put(Put { table: name(table), ..put })
}

pub(super) fn get_in(table: &str, key: &str) -> ClientBody {
    let mode = QuorumMode::ByTable;
    ClientBody::Get(Get {
        table: name(table),
        key: Key::new(key.to_owned()).unwrap(),
        r: None,
        mode,
        monotonic: false,
        traced: false,
    })
}

pub(super) fn scan_in(table: &str) -> ClientBody {
    let ClientBody::Scan(scan) = scan("", "", 100) else { unreachable!() };
    ClientBody::Scan(Scan { table: name(table), ..scan })
}

pub(super) fn name(table: &str) -> crate::types::TableName {
    table.to_owned().try_into().unwrap()
}

pub(super) fn put_with(key: &str, value: &str, w: Option<Quorum>, attempt: Attempt) -> ClientBody {
    ClientBody::Put(Put {
        table: "default".to_owned().try_into().unwrap(),
        key: Key::new(key.to_owned()).unwrap(),
        value: Some(Value::new(value.to_owned()).unwrap()),
        ttl: TimeToLive::Table,
        w,
        r: None,
        attempt,
        time: None,
        mode: QuorumMode::ByTable,
        context: bytes::Bytes::new(),
        traced: false,
    })
}

pub(super) fn put_for(key: &str, value: &str, ttl: TimeToLive) -> ClientBody {
    let ClientBody::Put(put) = put(key, value) else { unreachable!() };
    ClientBody::Put(Put { ttl, ..put })
}

pub(super) fn get(key: &str, r: Option<Quorum>) -> ClientBody {
    ClientBody::Get(Get {
        table: "default".to_owned().try_into().unwrap(),
        key: Key::new(key.to_owned()).unwrap(),
        r,
        mode: QuorumMode::ByTable,
        monotonic: false,
        traced: false,
    })
}

pub(super) fn scan(prefix: &str, after: &str, limit: u32) -> ClientBody {
    ClientBody::Scan(Scan {
        table: "default".to_owned().try_into().unwrap(),
        prefix: prefix.to_owned().into(),
        after: after.to_owned().into(),
        limit,
        keys_only: false,
        reverse: false,
        r: None,
        part: None,
    })
}

//! The lives of nodes: boots, events in, effects out, and deaths tied to events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use roundtable::message::Applied;
use roundtable::message::{
    CopyMessage, DiskRequest, Effect, ErrorCode, Event, FillStage, Kept, MetaRecord, OpError,
    PeerMessage, Phase, View,
};
use roundtable::node::Node;
use roundtable::types::{ClusterState, NodeId};

use crate::judge::Checker;
use crate::plan::{Fault, MS, SECOND, exponential};

use super::host::{Running, machine, member};
use super::{Happening, Stage, World};

/// The events that a crash may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// A message of a peer was taken in.
    Message,
    /// An answer of the disk was taken in.
    DiskDone,
    /// The node is starting, or founding.
    Boot,
    /// Nothing in particular.
    Other,
}

impl World {
    pub(super) fn start(&mut self, host: usize) {
        self.hosts[host].starting = false;
        if self.hosts[host].running.is_some() || self.hosts[host].absent {
            return;
        }
        self.hosts[host].disk.restart();
        self.hosts[host].life += 1;
        let (replica, restored) = match self.hosts[host].open() {
            Ok(opened) => opened,
            Err(error) => {
                let ill = self.hosts[host].ill;
                self.trace.step(self.now, [1, host as u64, 0], format_args!("open: {error}"));
                if !ill && !self.undo_rot(host) {
                    return self.find(Checker::Recovery, format_args!("n{}: {error}", host + 1));
                }
                self.hosts[host].disk.crash();
                self.hosts[host].starting = true;
                return self.later(200 * MS, Happening::Start { host });
            }
        };
        if !restored.damage.is_empty() && !self.hosts[host].rotted {
            let damage = restored.damage.join("; ");
            return self.find(Checker::Recovery, format_args!("n{}: {damage}", host + 1));
        }
        self.judge_recovered(host, &replica);
        self.boot(host, replica, restored);
    }

    fn boot(
        &mut self,
        host: usize,
        replica: roundtable::replica::Replica,
        restored: roundtable::message::Restored,
    ) {
        self.trace.step(
            self.now,
            [2, host as u64, self.hosts[host].life],
            format_args!("n{} boots with {restored:?}", host + 1),
        );
        self.totals.boots += 1;
        self.moves.restored(member(host), &restored);
        self.floors.restored(member(host), &restored.floors);
        let origin = self.rng.u64(..3600 * SECOND);
        let now = roundtable::types::Now {
            mono: roundtable::types::Time(origin),
            wall: self.hosts[host].wall.read(self.now),
        };
        let node = Node::new(now, self.plan.configs[host].clone(), restored, self.rng.u64(..));
        self.hosts[host].view = None;
        self.hosts[host].running = Some(Running {
            node,
            replica,
            answered: Arc::default(),
            boot_at: self.now,
            origin,
            tick_at: None,
            ops: 0,
            requests: BTreeMap::new(),
            asked: BTreeMap::new(),
            states: BTreeMap::new(),
            records: BTreeMap::new(),
            disk_queue: VecDeque::new(),
            disk_free_at: 0,
            writes: BTreeMap::new(),
            stepping: false,
            spins: (0, 0),
        });
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            self.open_soon(host, other);
            self.open_soon(other, host);
        }
        self.drain(host, Point::Boot);
    }

    /// Gives an event to the node on `host`, then carries out what it wants. The node may die on
    /// the way.
    pub(super) fn feed(&mut self, host: usize, event: Event, point: Point) {
        let now = self.hosts[host].now(self.now);
        let Some(running) = &mut self.hosts[host].running else { return };
        running.node.handle(now, event);
        self.bound_hints(host);
        self.drain(host, point);
    }

    fn drain(&mut self, host: usize, point: Point) {
        let dies = self.dies(host, point);
        let mut left = if dies { self.rng.usize(..4) } else { usize::MAX };
        loop {
            let Some(running) = &mut self.hosts[host].running else { return };
            let Some(effect) = running.node.poll_effect() else { break };
            if left == 0 {
                break;
            }
            left -= 1;
            self.apply(host, effect);
        }
        if dies {
            return self.crash(host);
        }
        let now = self.now;
        let life = self.hosts[host].life;
        let Some(running) = &mut self.hosts[host].running else { return };
        let Some(deadline) = running.node.next_deadline() else { return };
        let at = running.world(deadline).max(now);
        if running.tick_at.is_none_or(|tick| at < tick) {
            running.tick_at = Some(at);
            self.queue.push(at, Happening::Tick { host, life, at });
        }
    }

    pub(super) fn tick(&mut self, host: usize, life: u64, at: u64) {
        if !self.is_alive(host, life) {
            return;
        }
        let now = self.now;
        let Some(running) = &mut self.hosts[host].running else { return };
        if running.tick_at != Some(at) {
            return;
        }
        running.tick_at = None;
        let due = running.node.next_deadline().map(|deadline| running.world(deadline));
        running.spins = if running.spins.0 == now { (now, running.spins.1 + 1) } else { (now, 0) };
        if running.spins.1 > 1000 {
            return self.find(Checker::Liveness, format_args!("n{} ticks in a circle", host + 1));
        }
        self.trace.step(now, [3, host as u64, 0], format_args!("n{} tick", host + 1));
        match due {
            Some(due) if due > now => self.feed_nothing(host),
            _ => self.feed(host, Event::Tick, Point::Other),
        }
    }

    /// Looks again when the next tick is due.
    fn feed_nothing(&mut self, host: usize) {
        self.drain(host, Point::Other);
    }

    fn apply(&mut self, host: usize, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                if let PeerMessage::Write(ask) = &message
                    && ask.fresh
                {
                    let first = (&ask.key, &ask.record);
                    let verdict = self.stamps.together(member(host), first, &ask.rest);
                    self.judge(Checker::Stamps, verdict);
                }
                self.judge_move(host, to, &message);
                self.judge_floors(host, to, &message);
                self.aim_at_decree(host, to, &message);
                self.send(host, machine(to), message);
            }
            Effect::Reply { op, result } => self.reply(host, op, result),
            Effect::Disk { token, request } => {
                if let DiskRequest::Write { key, record, .. } = &request
                    && record.stamp.node == member(host)
                {
                    let verdict = self.stamps.gave(member(host), key, record);
                    self.judge(Checker::Stamps, verdict);
                }
                if let DiskRequest::WriteTogether { items, .. } = &request
                    && let Some(((key, record), rest)) = items.split_first()
                    && record.stamp.node == member(host)
                {
                    let verdict = self.stamps.together(member(host), (key, record), rest);
                    self.judge(Checker::Stamps, verdict);
                }
                // A coordinator that stands in for an owner itself may ask the others later.
                if let DiskRequest::KeepHint { hint, .. } = &request
                    && let Kept::Version(record) = &hint.kept
                    && record.stamp.node == member(host)
                {
                    let verdict = self.stamps.gave(member(host), &hint.key, record);
                    self.judge(Checker::Stamps, verdict);
                }
                self.judge_changes(host, &request);
                for state in states(&request) {
                    let verdict = self.births.decided(state);
                    self.judge(Checker::Decree, verdict);
                    self.moves.decided(state);
                }
                for record in of_moves(&request) {
                    let verdict = self.completes(host, &record);
                    self.judge(Checker::Moves, verdict);
                }
                self.ask_disk(host, token, request);
            }
            Effect::Publish(view) => self.publish(host, view),
            Effect::Note(note) => self.trace.step(
                self.now,
                [4, host as u64, note.level as u64],
                format_args!("n{} notes {note:?}", host + 1),
            ),
        }
    }

    /// What a message says that a move rests on.
    fn judge_move(&mut self, host: usize, to: NodeId, message: &PeerMessage) {
        let me = member(host);
        let verdict = match message {
            PeerMessage::Probe(probe) | PeerMessage::ProbeAck(probe) | PeerMessage::News(probe) => {
                self.moves.told(me, probe.facts.acknowledged)
            }
            PeerMessage::Copy(copy) => {
                if let CopyMessage::Ask(ask) = &**copy {
                    self.moves.asks((me, ask.unit, ask.entry), to);
                }
                return;
            }
            PeerMessage::ReadAnswer(answer) if answer.result.is_ok() => {
                let view = self.hosts[host].view.as_ref();
                let Some(state) = view.and_then(|view| view.state.clone()) else { return };
                self.moves.answers((me, to), answer.round, &state)
            }
            _ => return,
        };
        self.judge(Checker::Moves, verdict);
    }

    fn completes(&self, host: usize, record: &MetaRecord) -> Result<(), String> {
        let MetaRecord::Fill(unit, record) = record else { return Ok(()) };
        if record.stage != FillStage::Complete {
            return Ok(());
        }
        let state = self.hosts[host].view.as_ref().and_then(|view| view.state.as_ref());
        let Some(state) = state else { return Ok(()) };
        self.moves.completes((member(host), *unit, record.entry), state)
    }

    fn publish(&mut self, host: usize, view: Arc<View>) {
        self.trace.step(
            self.now,
            [5, host as u64, u64::from(view.phase == Phase::Serving)],
            format_args!("n{} is {:?}", host + 1, view.phase),
        );
        let verdict = self.births.published(&view, self.hosts[host].doomed);
        self.judge(Checker::Birth, verdict);
        if let Some(state) = &view.state {
            let verdict = self.births.in_force(state);
            self.judge(Checker::Decree, verdict);
            let verdict = self.moves.in_force(state);
            self.judge(Checker::Moves, verdict);
            self.note_topology(state);
            self.judge_reliefs(state);
        }
        if view.phase == Phase::Serving {
            self.hosts[host].served = Some(view.hello.boot);
            self.totals.founded = 1;
        }
        if matches!(view.phase, Phase::Refused(_))
            && self.hosts[host].view.as_ref().is_none_or(|before| before.phase != view.phase)
        {
            self.totals.refused += 1;
            // A node on an ill disk may find that it cannot write its own records.
            let may = self.hosts[host].ill || self.topology.gone.contains(&host);
            if self.hosts[host].doomed.is_none() && !may {
                let text = format_args!("n{} refuses to run: {:?}", host + 1, view.phase);
                self.find(Checker::Birth, text);
            }
        }
        self.hosts[host].view = Some(view);
    }

    fn dies(&mut self, host: usize, point: Point) -> bool {
        if self.stage != Stage::Turmoil {
            return false;
        }
        let founding = self.hosts[host].served.is_none();
        let crash = &self.plan.crash;
        let mut probability = match point {
            Point::Message => crash.after_message,
            Point::DiskDone => crash.after_disk_done,
            Point::Boot | Point::Other => 0.0,
        };
        if founding && point != Point::Other {
            probability = probability.max(crash.at_boot);
        }
        probability > 0.0 && self.may_die() && self.rng.f64() < probability
    }

    /// Whether one more node may be down.
    pub(super) fn may_die(&self) -> bool {
        let down = self.hosts.iter().filter(|host| host.running.is_none()).count();
        down < self.plan.crash.down_max
    }

    /// The machine loses power, and gets it back after a while.
    pub(super) fn crash(&mut self, host: usize) {
        let back = exponential(&mut self.rng, self.plan.crash.back_after) + 10 * MS;
        self.kill(host);
        self.start_after(host, back);
    }

    /// The machine is started after a while.
    pub(super) fn start_after(&mut self, host: usize, after: u64) {
        if !self.hosts[host].starting {
            self.hosts[host].starting = true;
            self.later(after, Happening::Start { host });
        }
    }

    /// The machine loses power: what was not synced is lost or torn.
    pub(super) fn kill(&mut self, host: usize) {
        let life = self.hosts[host].life;
        self.trace.step(self.now, [6, host as u64, life], format_args!("n{} crashes", host + 1));
        self.compare_trees(host);
        let before = self.hosts[host].disk.bytes();
        self.hosts[host].disk.crash();
        let Some(running) = self.hosts[host].running.take() else { return };
        self.totals.crashes += 1;
        self.hosts[host].down_since = self.now;
        let unsynced = running.stepping || self.hosts[host].disk.bytes() != before;
        self.totals.unsynced += u64::from(unsynced);
        self.hosts[host].view = None;
        if self.plan.has(Fault::ClockBack) {
            let back = self.rng.u64(..=self.plan.clock.back_max);
            self.note_clock(host);
            // Not where the check itself starts a node again.
            if self.stage < Stage::Verifying {
                self.hosts[host].wall.offset -= i64::try_from(back).expect("seconds");
                self.totals.clocks_back += 1;
            }
        }
        self.answers.died(host);
        for (from, to) in self.network.reset(host) {
            if from != host {
                self.open_soon(from, to);
            }
        }
        for request in running.requests.into_values() {
            if self.rng.f64() < 0.7 {
                let error = OpError::new(ErrorCode::NotReady, "connection lost")
                    .with_applied(Applied::Unknown);
                self.tell(request.client, request.serial, Err(error));
            }
        }
    }
}

/// The decided states that a request stores.
pub(super) fn states(request: &DiskRequest) -> impl Iterator<Item = &Arc<ClusterState>> {
    let records = match request {
        DiskRequest::Persist(records) => records.as_slice(),
        _ => &[],
    };
    records.iter().filter_map(|record| match record {
        MetaRecord::State(state) | MetaRecord::Decided(state) => Some(state),
        _ => None,
    })
}

/// Those records that a request stores on which moves rest.
pub(super) fn of_moves(request: &DiskRequest) -> Vec<MetaRecord> {
    let records = match request {
        DiskRequest::Persist(records) => records.as_slice(),
        _ => &[],
    };
    let rests = |record: &&MetaRecord| match record {
        MetaRecord::Acknowledged(_) => true,
        MetaRecord::Fill(_, record) => {
            matches!(record.stage, FillStage::Complete | FillStage::Lost)
        }
        _ => false,
    };
    records.iter().filter(rests).cloned().collect()
}

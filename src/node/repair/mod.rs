//! Anti-entropy: what this node asks other owners to become equal with them. Who is compared when is
//! `repair::schedule`'s, what is said and brought `repair::session`'s; here they are fed, and their wishes
//! carried out. What others ask is in `answer`. `docs/protocol/repair.md`.

mod admin;
mod answer;
mod dirty;

use core::time::Duration;
use std::collections::BTreeMap;

use admin::{Looking, Run};
pub(super) use answer::{Answering, Caller};
use dirty::{Dirt, Mark};

use super::disk::Pending;
use super::fills::UnitPending;
use super::{Node, NodeConfig};
use crate::message::{
    CopyWhat, DiskAnswer, DiskError, DiskRequest, Phase, RepairMessage, RepairRefusal, RootSaid,
    SessionPlace, TreeDisk, TreeDone, UnitDisk, UnitDone, UnitRoot,
};
use crate::repair::exchange::{Asker, Said, Terms};
use crate::repair::schedule::{Cadence, Schedule};
use crate::repair::session::{
    Compared, End, Ended, SessionAction, SessionAround, SessionPace, Sessions,
};
use crate::repair::tree::SEED;
use crate::types::{ClusterState, Epoch, NodeId, Now, OpId, Stamp, Time, Unit, WallTime, limits};

/// Comparisons of roots under way.
const COMPARING_MAX: usize = 4;
/// Pressure of the store's write path from which on users go first, in thousandths.
const PRESSURE_MAX: u16 = 700;

/// What this node compares, and what it is asked.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) schedule: Schedule,
    pub(super) sessions: Sessions,
    pub(super) answering: Answering,
    /// Own roots that are being read.
    reading: usize,
    /// When it is next looked what is due.
    look_at: Time,
    pause: Duration,
    settle: Duration,
    /// Operations that are rounds of registers, and the sessions that wait for them.
    pub(super) rounds: BTreeMap<u64, u64>,
    /// Sessions whose rounds have ended.
    pub(super) over: Vec<u64>,
    /// Own dirty marks, as far as their owners have been told.
    marks: BTreeMap<(Unit, NodeId), Mark>,
    marks_at: Time,
    /// What comparisons under way can vouch for: the gate and the count of voids when they began.
    vouching: BTreeMap<(NodeId, Unit), (Stamp, u64)>,
    /// No look begins before this: another owner was busy.
    look_after: Time,
    /// What others have told this node, by unit.
    dirt: BTreeMap<Unit, BTreeMap<NodeId, Dirt>>,
    /// What had been done when that was last published.
    published: u64,
    /// What operators have started, the newest last.
    runs: Vec<Run>,
    /// What operators wait for.
    looking: BTreeMap<OpId, Looking>,
}

/// What the disk was asked about trees for.
#[derive(Clone, Debug)]
pub(super) enum RepairPending {
    /// Own roots, to be compared with a peer's.
    Roots { peer: NodeId, units: Vec<Unit>, covers: WallTime },
    /// A session goes on.
    Advanced(u64),
    /// What a peer has asked.
    Answering(answer::Question),
}

/// What came of comparing a unit with another owner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    pub(super) unit: Unit,
    pub(super) peer: NodeId,
    /// Up to what it was to make both equal.
    pub(super) horizon: Stamp,
    /// They are.
    pub(super) verified: bool,
    /// Their roots were equal, which were read here at this time: so nothing was left alone.
    pub(super) as_of: Option<WallTime>,
    /// Keys that differed, if that was found out.
    pub(super) lacks: Option<u64>,
    /// Something at or below the horizon was brought to this node.
    pub(super) brought_below: bool,
}

impl Repair {
    pub(super) fn new(me: NodeId, config: &NodeConfig) -> Repair {
        let pause = config.retry_interval;
        let settle = config.repair_settle;
        let cadence = Cadence { interval: config.repair_interval, settle, pause };
        let answer_within = pause.saturating_mul(8);
        let pace = SessionPace { bytes_per_second: config.repair_rate, answer_within, pause };
        Repair {
            schedule: Schedule::new(me, cadence),
            sessions: Sessions::new(pace),
            answering: Answering::default(),
            reading: 0,
            look_at: Time(0),
            pause,
            settle,
            rounds: BTreeMap::new(),
            over: Vec::new(),
            marks: BTreeMap::new(),
            marks_at: Time(0),
            vouching: BTreeMap::new(),
            look_after: Time(0),
            dirt: BTreeMap::new(),
            published: 0,
            runs: Vec::new(),
            looking: BTreeMap::new(),
        }
    }

    /// Whatever was written before is to be the same at all owners: out of turn, and first.
    pub(super) fn want_all(&mut self, now: Now) {
        self.schedule.want_all(now);
        self.look_at = self.look_at.min(now.mono);
    }
}

impl Node {
    /// When comparisons want to go on: while this node serves.
    pub(super) fn repair_deadline(&self) -> Option<Time> {
        if self.phase != Phase::Serving || self.state.is_none() {
            return None;
        }
        let repair = &self.repair;
        if !repair.over.is_empty() {
            return Some(self.now);
        }
        let due = repair.schedule.next_deadline().map(|due| due.max(repair.look_at));
        let differ = repair.schedule.has_differing().then_some(repair.look_at);
        let is_on = !self.config.repair_interval.is_zero();
        let marks = (is_on && !self.hints.books.dirty().is_empty()).then_some(repair.marks_at);
        let looking = self.looking_deadline();
        [due, differ, marks, looking, repair.sessions.next_deadline()].into_iter().flatten().min()
    }

    pub(super) fn on_repair_time(&mut self, now: Now) {
        if self.repair_deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        for session in core::mem::take(&mut self.repair.over) {
            self.session_step(now, |sessions, around| sessions.on_round(session, around));
        }
        self.session_step(now, Sessions::on_time);
        self.repair_on(now);
        self.look_on(now);
        self.tell_marks(now);
    }

    /// A state is in force: who the other owners are may have changed.
    pub(super) fn on_repair_state(&mut self, now: Now, state: &ClusterState) {
        let me = self.me;
        let own = state.units().filter(|unit| state.is_writer(*unit, me));
        let pairs = own.flat_map(|unit| {
            let others = state.writers(unit).into_iter().filter(move |id| *id != me);
            others.map(move |peer| (peer, unit))
        });
        self.repair.schedule.set_pairs(now, me, pairs);
        self.repair.dirt.retain(|unit, _| state.is_writer(*unit, me));
        self.repair.vouching.retain(|(_, unit), _| state.is_writer(*unit, me));
        self.session_step(now, |sessions, around| {
            sessions.on_state(|unit| state.changed_at(unit), around);
        });
    }

    pub(super) fn on_repair_lost(&mut self, now: Now, peer: NodeId) {
        self.session_step(now, |sessions, around| sessions.on_unreachable(peer, around));
    }

    /// Whether users keep this node's store busy: then nothing is compared.
    pub(super) fn users_are_busy(&self) -> bool {
        self.replica_operations > self.config.replica_operations_max / 4
            || self.replica.pressure_milli > PRESSURE_MAX
    }

    /// Up to which stamp a session that begins now makes both sides equal: never below the gate, or
    /// nothing could be vouched for.
    fn session_horizon(&self, now: Now, unit: Unit) -> Stamp {
        let settle = u64::try_from(self.repair.settle.as_nanos()).unwrap_or(u64::MAX);
        let time = WallTime(now.wall.0.saturating_sub(settle));
        let settled = Stamp { time, counter: u32::MAX, node: NodeId(u32::MAX) };
        settled.max(self.floor_gate(unit))
    }

    /// What a comparison that begins now can vouch for.
    fn note_vouching(&mut self, peer: NodeId, unit: Unit) {
        let at = (self.floor_gate(unit), self.floor_voids(unit));
        self.repair.vouching.insert((peer, unit), at);
    }

    /// A gate has been closed: it is to be found out soon who is equal at or below it.
    pub(super) fn want_vouching(&mut self, now: Now, unit: Unit) {
        let is_on = !self.config.repair_interval.is_zero();
        let Some(state) = self.state.clone().filter(|_| is_on) else { return };
        for peer in state.writers(unit).into_iter().filter(|id| *id != self.me) {
            self.repair.schedule.want(now, (peer, unit), now);
        }
    }

    /// An owner was compared with this node.
    fn on_owner_compared(&mut self, now: Now, comparison: Comparison) {
        let Comparison { unit, peer, horizon, verified, as_of, lacks, .. } = comparison;
        self.gauges.repair.lacks += lacks.unwrap_or(0);
        let vouching = self.repair.vouching.remove(&(peer, unit));
        if verified {
            if let Some(at) = vouching.filter(|(gate, _)| *gate <= horizon) {
                self.vouch(now, (unit, peer), at);
            }
            let covers = as_of.unwrap_or(horizon.time);
            let found = (covers, lacks.unwrap_or(0));
            self.repair.schedule.on_verified(now, (peer, unit), found);
            crate::sometimes!("repair: two owners are equal");
            self.gauges.repair.verified += 1;
        } else {
            self.repair.schedule.on_failed(now, (peer, unit), lacks);
        }
        if comparison.brought_below {
            crate::sometimes!("repair: an owner had lacked something old");
        }
        if verified {
            self.look_at_dirt(unit);
        }
    }

    /// Begins what is due and there is room for.
    fn repair_on(&mut self, now: Now) {
        self.repair.look_at = now.mono.plus(self.repair.pause);
        let Some(state) = self.state.clone().filter(|_| self.phase == Phase::Serving) else {
            return;
        };
        while !self.users_are_busy()
            && self.repair.reading + self.repair.sessions.comparing() < COMPARING_MAX
            && let Some((peer, units)) = self.next_due(|schedule, ready, complete| {
                schedule.next_roots(now.mono, ready, complete)
            })
        {
            self.repair.reading += 1;
            for unit in &units {
                self.note_vouching(peer, *unit);
            }
            let pending = RepairPending::Roots { peer, units: units.clone(), covers: now.wall };
            self.tree_disk(pending, TreeDisk::Roots { units });
        }
        while !self.users_are_busy()
            && self.repair.sessions.open() < limits::REPAIR_SESSIONS_MAX
            && let Some((peer, unit)) =
                self.next_due(|schedule, ready, complete| schedule.next_session(ready, complete))
        {
            self.note_vouching(peer, unit);
            self.begin_session(now, &state, (peer, unit), false);
        }
    }

    fn next_due<T>(
        &mut self,
        next: impl FnOnce(&mut Schedule, &dyn Fn(NodeId) -> bool, &dyn Fn(Unit) -> bool) -> Option<T>,
    ) -> Option<T> {
        // Taken out while it looks at the rest of the node.
        let mut schedule = core::mem::take(&mut self.repair.schedule);
        let ready = |peer: NodeId| self.members.is_reachable(peer) && self.members.serves(peer);
        let complete = |unit: Unit| self.is_complete(unit) && self.takes_writes(unit);
        let found = next(&mut schedule, &ready, &complete);
        self.repair.schedule = schedule;
        found
    }

    /// Begins a session with another owner.
    pub(super) fn begin_session(
        &mut self,
        now: Now,
        state: &ClusterState,
        (peer, unit): (NodeId, Unit),
        only_looks: bool,
    ) {
        let place =
            SessionPlace { unit, changed_at: state.changed_at(unit), floor: self.floor_of(unit) };
        let session = self.next_session();
        // Who only looks wants to see all.
        let all = Stamp { time: WallTime(u64::MAX), counter: u32::MAX, node: NodeId(u32::MAX) };
        let horizon = if only_looks { all } else { self.session_horizon(now, unit) };
        let terms = Terms { session, horizon, seed: SEED };
        self.session_step(now, |sessions, around| {
            sessions.begin(peer, place, (terms, only_looks), around);
        });
    }

    /// A number that no other session has. Small ones are short on the wire.
    fn next_session(&mut self) -> u64 {
        loop {
            let number = self.next_operation & u64::from(u32::MAX);
            self.next_operation += 1;
            if number != 0 && !self.repair.sessions.is_known(number) {
                return number;
            }
        }
    }

    pub(super) fn tree_disk(&mut self, pending: RepairPending, request: TreeDisk) {
        self.disk(Pending::Repair(Box::new(pending)), DiskRequest::Tree(Box::new(request)));
    }

    pub(super) fn on_tree_disk_done(
        &mut self,
        now: Now,
        pending: RepairPending,
        result: Result<DiskAnswer, DiskError>,
    ) {
        let result = match result {
            Ok(DiskAnswer::Tree(done)) => Ok(done),
            Ok(other) => Err(DiskError::Io(format!("the disk gave another answer: {other:?}"))),
            Err(error) => Err(error),
        };
        match pending {
            RepairPending::Roots { peer, units, covers } => {
                self.repair.reading -= 1;
                self.on_own_roots(now, peer, (units, covers), result);
            }
            RepairPending::Advanced(session) => {
                let asker = match result {
                    Ok(TreeDone::Advanced(asker)) => Some(asker),
                    _ => None,
                };
                self.session_step(now, |sessions, around| {
                    sessions.on_advanced(session, asker, around);
                });
            }
            RepairPending::Answering(question) => self.on_answer_read(now, question, result),
        }
        self.repair_on(now);
    }

    fn on_own_roots(
        &mut self,
        now: Now,
        peer: NodeId,
        (units, covers): (Vec<Unit>, WallTime),
        result: Result<TreeDone, DiskError>,
    ) {
        let roots = match result {
            Ok(TreeDone::Roots(roots)) => roots.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        let Some(state) = self.state.clone() else { return };
        let mut known = Vec::with_capacity(units.len());
        for unit in units {
            match roots.get(&unit) {
                Some(Some(sum)) => known.push(UnitRoot {
                    unit,
                    changed_at: state.changed_at(unit),
                    floor: self.floor_of(unit),
                    sum: *sum,
                }),
                // Its tree is being built.
                _ => self.repair.schedule.on_failed(now, (peer, unit), None),
            }
        }
        if !known.is_empty() {
            let id = self.next_session();
            self.session_step(now, |sessions, around| {
                sessions.compare(id, peer, (known, covers), around);
            });
        }
    }

    /// Takes a step of the machine and carries out what it wants.
    fn session_step(&mut self, now: Now, run: impl FnOnce(&mut Sessions, &mut SessionAround<'_>)) {
        let Some(state) = self.state.clone() else { return };
        let mut out = Vec::new();
        let around = &mut SessionAround {
            now: now.mono,
            busy: self.users_are_busy(),
            is_dropped: &|table| state.is_dropped(table),
            out: &mut out,
        };
        run(&mut self.repair.sessions, around);
        for action in out {
            self.on_session_action(now, &state, action);
        }
    }

    fn on_session_action(&mut self, now: Now, state: &ClusterState, action: SessionAction) {
        match action {
            SessionAction::Send(to, message) => self.send_repair(to, message),
            SessionAction::Advance(session, unit, asker, said) => {
                self.advance(now, (session, unit), asker, said);
            }
            SessionAction::Fetch(session, unit, keys) => {
                let (what, to) = (CopyWhat::Keys(keys), (self.me, Epoch(0)));
                let pending = UnitPending::Fetched(unit, session);
                self.unit_disk(pending, UnitDisk::Page { unit, what, to });
            }
            SessionAction::Merge(session, unit, entries) => {
                let pending = UnitPending::Brought(unit, session);
                self.unit_disk(pending, UnitDisk::Merge { unit, entries });
            }
            SessionAction::Round(session, key) => self.begin_round(now, state, session, key),
            SessionAction::Compared(compared) => self.on_roots_compared(now, compared),
            SessionAction::Ended(ended) if ended.looked.is_some() => {
                self.on_looked(now, state, ended);
            }
            SessionAction::Ended(ended) => self.on_session_ended(now, ended),
        }
    }

    fn advance(
        &mut self,
        now: Now,
        (session, unit): (u64, Unit),
        asker: Box<Asker>,
        said: Option<(u32, Said)>,
    ) {
        if !self.is_complete(unit) {
            return self.session_step(now, |sessions, around| {
                sessions.on_advanced(session, None, around);
            });
        }
        self.tree_disk(RepairPending::Advanced(session), TreeDisk::Advance { unit, asker, said });
    }

    fn on_roots_compared(&mut self, now: Now, compared: Compared) {
        let Compared { peer, covers, equal, others } = compared;
        for unit in equal {
            let comparison = Comparison {
                unit,
                peer,
                horizon: self.session_horizon(now, unit),
                verified: true,
                as_of: Some(covers),
                lacks: Some(0),
                brought_below: false,
            };
            self.on_owner_compared(now, comparison);
        }
        for (unit, said) in others {
            match said {
                Some(RootSaid::Differs { floor, .. }) if floor == self.floor_of(unit) => {
                    crate::sometimes!("repair: roots differ");
                    self.repair.schedule.on_differs(now.mono, peer, unit);
                }
                Some(RootSaid::Differs { floor, .. }) => {
                    self.on_floor_heard(now, unit, floor);
                    self.repair.schedule.on_failed(now, (peer, unit), None);
                }
                _ => self.repair.schedule.on_failed(now, (peer, unit), None),
            }
        }
    }

    fn on_session_ended(&mut self, now: Now, ended: Ended) {
        let Ended { unit, peer, horizon, end, lacks, brought_below, .. } = ended;
        if end == End::Refused(RepairRefusal::Fenced) {
            self.ask_state(now, peer);
        }
        let verified = end == End::Verified;
        let lacks = matches!(end, End::Verified | End::Unverified).then_some(lacks);
        let as_of = None;
        let comparison = Comparison { unit, peer, horizon, verified, as_of, lacks, brought_below };
        self.on_owner_compared(now, comparison);
        self.repair.look_at = now.mono;
    }

    /// What was to be read or merged for a session has been.
    pub(super) fn on_session_disk(
        &mut self,
        now: Now,
        session: u64,
        result: Result<UnitDone, DiskError>,
    ) {
        self.session_step(now, |sessions, around| match result {
            Ok(UnitDone::Page(page)) => sessions.on_fetched(session, Some(page), around),
            Ok(UnitDone::Merged) => sessions.on_merged(session, true, around),
            _ => {
                sessions.on_fetched(session, None, around);
                sessions.on_merged(session, false, around);
            }
        });
        self.repair_on(now);
    }

    /// A round of a register is over, if an operation was one.
    pub(super) fn end_round(&mut self, operation: u64) {
        self.repair.over.extend(self.repair.rounds.remove(&operation));
    }

    /// Others may want to know how far this node is.
    pub(super) fn publish_repair(&mut self) {
        let taken = self.fills.transfers.taken();
        let done = self.repair.sessions.counts().sessions + self.gauges.repair.verified + taken;
        if core::mem::replace(&mut self.repair.published, done) != done {
            self.publish();
        }
    }

    pub(super) fn send_repair(&mut self, to: NodeId, message: RepairMessage) {
        self.send(to, crate::message::PeerMessage::Repair(Box::new(message)));
    }
}

//! Operations in flight: the table of them, their timers, and the way of a step's actions out.

use super::Node;
use super::links::health;
use super::restart::Left;
use super::waterfall::{Asker, Waterfall, event_of};
use crate::coordinator::{
    Action, Ask, CausalForward, CausalGet, CausalWrite, Get, Holder, Put, Register, Scan, Step,
    Target,
};
use crate::handoff::Felt;
use crate::message::{
    Applied, CausalDone, CausalMessage, ClientRequest, ClientResult, DiskError, Effect, OpError,
    PeerMessage, ReadAnswer, Refusal, RegisterMessage, Reply, RoundId, ScanAnswer, TraceEvent,
    WriteAnswer,
};
use crate::types::{NodeId, Now, OpId, TableId, Time, WallTime, limits};

/// What a machine holds beside keys and values: owners, tallies.
const OPERATION_BYTES: usize = 512;

/// A client operation in flight.
#[derive(Debug)]
pub(super) struct Operation {
    /// The client's; `None` once it has its answer, or has gone.
    pub(super) op: Option<OpId>,
    /// When it began.
    pub(super) since: Time,
    /// The node that sent it here, and its round; `None` as above.
    pub(super) forwarded: Option<(NodeId, RoundId)>,
    pub(super) machine: Machine,
    timer: Option<Time>,
    /// `None` unless its client has asked for it.
    pub(super) waterfall: Option<Waterfall>,
    pub(super) bytes: usize,
    /// For whom it takes room.
    pub(super) holder: Holder,
    /// What its client asks, until it is answered; `None` of what another node has sent here.
    pub(super) request: Option<Box<ClientRequest>>,
    /// What its earlier attempts may have left.
    pub(super) left: Left,
}

/// The number of a boot's first operation.
pub(super) fn first(rng: &mut fastrand::Rng) -> u64 {
    if crate::mutant!("operations-from-one") { 1 } else { rng.u64(1..1 << 62) }
}

#[derive(Debug)]
pub(super) enum Machine {
    Put(Box<Put>),
    Get(Box<Get>),
    Scan(Box<Scan>),
    CausalGet(Box<CausalGet>),
    CausalWrite(Box<CausalWrite>),
    CausalForward(Box<CausalForward>),
    Register(Box<Register>),
}

/// An answer of this node's own replica to this node.
#[derive(Debug)]
pub(super) enum LocalAnswer {
    Write(WriteAnswer),
    Read(ReadAnswer),
    Scan(ScanAnswer),
    Causal(Box<CausalMessage>),
    Consensus(Box<RegisterMessage>),
    Changed(RoundId, Result<CausalDone, Refusal>),
}

impl Operation {
    pub(super) fn new(asker: Asker, client: Option<u64>, machine: Machine) -> Operation {
        let bytes = OPERATION_BYTES + machine.bytes();
        let holder = Holder { table: machine.table(), client };
        let Asker { op, waterfall, request, left } = asker;
        let (op, forwarded, timer) = (Some(op), None, None);
        Operation {
            op,
            since: Time(0),
            forwarded,
            machine,
            timer,
            waterfall,
            bytes,
            holder,
            request,
            left,
        }
    }

    /// One that another node has sent here.
    pub(super) fn forwarded(from: (NodeId, RoundId), machine: Machine) -> Operation {
        let bytes = OPERATION_BYTES + machine.bytes();
        let holder = Holder { table: machine.table(), client: None };
        let (op, forwarded, timer, waterfall) = (None, Some(from), None, None);
        let (request, left) = (None, Left::default());
        Operation {
            op,
            since: Time(0),
            forwarded,
            machine,
            timer,
            waterfall,
            bytes,
            holder,
            request,
            left,
        }
    }

    /// One that nobody waits for but this node itself.
    pub(super) fn own(machine: Machine) -> Operation {
        let nobody = (NodeId::default(), RoundId::default());
        Operation { forwarded: None, ..Operation::forwarded(nobody, machine) }
    }
}

impl Machine {
    fn bytes(&self) -> usize {
        match self {
            Machine::Put(put) => put.bytes(),
            Machine::Get(get) => get.bytes(),
            Machine::Scan(scan) => scan.bytes(),
            Machine::CausalGet(get) => get.bytes(),
            Machine::CausalWrite(write) => write.bytes(),
            Machine::CausalForward(forward) => forward.bytes(),
            Machine::Register(register) => register.bytes(),
        }
    }

    fn table(&self) -> TableId {
        match self {
            Machine::Scan(scan) => scan.table(),
            of_key => of_key.target().map(|target| target.table).unwrap_or_default(),
        }
    }

    /// The key's place; a scan has none.
    pub(super) fn target(&self) -> Option<&Target> {
        match self {
            Machine::Put(put) => Some(put.target()),
            Machine::Get(get) => Some(get.target()),
            Machine::Scan(_) => None,
            Machine::CausalGet(get) => Some(get.target()),
            Machine::CausalWrite(write) => Some(write.target()),
            Machine::CausalForward(forward) => Some(forward.target()),
            Machine::Register(register) => Some(register.target()),
        }
    }

    /// Who may stand in for owners.
    fn stand_ins(&self) -> &[NodeId] {
        match self {
            Machine::Put(put) => put.stand_ins(),
            Machine::Get(get) => get.stand_ins(),
            Machine::CausalGet(get) => get.stand_ins(),
            Machine::CausalWrite(write) => write.stand_ins(),
            Machine::CausalForward(forward) => forward.stand_ins(),
            Machine::Scan(_) | Machine::Register(_) => &[],
        }
    }

    /// Whether the loss of `peer` is news to it.
    fn waits_for(&self, peer: NodeId) -> bool {
        match self {
            Machine::Put(put) => put.waits_for(peer),
            Machine::Get(get) => get.waits_for(peer),
            Machine::Scan(_) => true,
            Machine::CausalGet(get) => get.waits_for(peer),
            Machine::CausalWrite(write) => write.waits_for(peer),
            Machine::CausalForward(forward) => {
                forward.waits_for(peer) || forward.target().index(peer).is_some()
            }
            Machine::Register(register) => {
                register.target().index(peer).is_some_and(|i| register.waits_for(i))
            }
        }
    }

    fn next_deadline(&self) -> Time {
        match self {
            Machine::Put(put) => put.next_deadline(),
            Machine::Get(get) => get.next_deadline(),
            Machine::Scan(scan) => scan.next_deadline(),
            Machine::CausalGet(get) => get.next_deadline(),
            Machine::CausalWrite(write) => write.next_deadline(),
            Machine::CausalForward(forward) => forward.next_deadline(),
            Machine::Register(register) => register.next_deadline(),
        }
    }
}

impl Node {
    /// Owners that can be asked now, as a bitmap.
    pub(super) fn reachable(&self, owners: &[NodeId]) -> u16 {
        let up = |id: &NodeId| *id == self.me || self.members.is_reachable(*id);
        let bit = |(index, id): (usize, &NodeId)| u16::from(up(id)) << index;
        owners.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit)
    }

    pub(super) fn step(
        &mut self,
        now: Now,
        id: u64,
        run: impl FnOnce(&mut Machine, &mut Step<'_>),
    ) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        let target = operation.machine.target();
        let owners = target.map_or(&[][..], |target| target.owners.as_slice());
        let stand_ins = operation.machine.stand_ins();
        let (reachable, stand_ins) = (self.reachable(owners), self.reachable(stand_ins));
        let health = health(&mut self.members, now, owners);
        let mut out = Vec::new();
        let (clock, hedges) = (&mut self.clock, &mut self.hedges);
        let step = &mut Step { now, clock, reachable, health, stand_ins, hedges, out: &mut out };
        run(&mut operation.machine, step);
        self.operations.insert(id, operation);
        self.current = id;
        self.finish_step(now, out);
    }

    /// Carries out the actions of the operation that has just been stepped.
    pub(super) fn finish_step(&mut self, now: Now, actions: Vec<Action>) {
        let id = self.current;
        for action in actions {
            match action {
                Action::Ask(to, ask) => {
                    self.note_step(now, id, to, event_of(&ask, self.is_write(id)));
                    self.ask(now, to, ask);
                }
                Action::Read(key) => self.want_read(id, key),
                Action::RaiseCeiling(wanted) => {
                    self.waiting_for_ceiling.insert(id);
                    self.raise_ceiling(now, wanted);
                }
                Action::Reply(mut result) => {
                    self.bound_told_time(now, &mut result);
                    let Some(operation) = self.operations.get_mut(&id) else { continue };
                    let waterfall = operation.waterfall.take();
                    operation.request = None;
                    let took = now.mono.since(operation.since);
                    self.governor.note(now.mono, Felt::Operation, took);
                    self.load.note(now.mono, took);
                    let result = operation.left.tell(*result);
                    if self.lingering.insert(id) {
                        self.shares.answered(operation.holder);
                    }
                    if let Some(from) = operation.forwarded.take() {
                        self.answer_forwarded(from, result);
                    } else if let Some(op) = operation.op.take() {
                        self.waiting.remove(&op);
                        let result = self.with_waterfall(now, (waterfall.as_ref(), id), result);
                        self.effects.push_back(Effect::Reply { op, result });
                    } else {
                        self.end_read(id, Some(result));
                    }
                    self.end_round(id);
                }
                Action::Hint(owner, kept) => self.hint(now, id, owner, (None, kept)),
                Action::HintOf(owner, key, kept) => self.hint(now, id, owner, (Some(key), kept)),
                Action::Done => self.forget(id),
            }
        }
        if let Some(operation) = self.operations.get_mut(&id) {
            let bytes = OPERATION_BYTES + operation.machine.bytes();
            let before = core::mem::replace(&mut operation.bytes, bytes);
            self.operation_bytes = self.operation_bytes - before + bytes;
            self.shares.resize(operation.holder, (before, bytes));
            let next = operation.machine.next_deadline();
            if operation.timer != Some(next) {
                if let Some(timer) = operation.timer.replace(next) {
                    self.timers.remove(&(timer, id));
                }
                self.timers.insert((next, id));
            }
        }
        self.bound_lingering();
    }

    /// Clients place the windows of their writes by the time they are told. A node whose clock is
    /// far ahead refuses to stamp, but it reads: it must not send them where nobody else can stamp.
    fn bound_told_time(&self, now: Now, result: &mut ClientResult) {
        let Some((median, heard)) = self.others_clock else { return };
        let bound = median.plus(now.mono.since(heard)).plus(limits::CLOCK_AHEAD_MAX);
        let told = result.as_mut().ok().and_then(Reply::server_time_mut);
        let Some(told) = told else { return };
        *told = bound.min(*told);
    }

    /// The owners of the key of an operation; none of a scan.
    pub(super) fn owners_of(&self, id: u64) -> &[NodeId] {
        let target = match self.operations.get(&id).map(|operation| &operation.machine) {
            Some(machine) => machine.target(),
            None => None,
        };
        target.map_or(&[], |target| target.owners.as_slice())
    }

    /// Whether an operation stores what its client writes in one of the ways of [`Ask::Write`].
    fn is_write(&self, id: u64) -> bool {
        let machine = self.operations.get(&id).map(|operation| &operation.machine);
        let writes = |machine: &Machine| match machine {
            Machine::Put(_) | Machine::CausalWrite(_) | Machine::CausalForward(_) => true,
            Machine::Get(_) | Machine::Scan(_) | Machine::CausalGet(_) | Machine::Register(_) => {
                false
            }
        };
        machine.is_some_and(writes)
    }

    pub(super) fn forget(&mut self, id: u64) {
        let Some(operation) = self.operations.remove(&id) else { return };
        self.end_round(id);
        if let Machine::Scan(_) = &operation.machine {
            self.end_reads_of(id);
        }
        if let Machine::Register(register) = &operation.machine
            && register.is_change()
        {
            let target = register.target();
            self.turns.leave((target.table, target.key.clone()), id);
        }
        self.operation_bytes -= operation.bytes;
        let answered = self.lingering.remove(&id);
        self.shares.end(operation.holder, operation.bytes, answered);
        self.waiting_for_ceiling.remove(&id);
        if let Some(op) = operation.op {
            self.waiting.remove(&op);
        }
        if let Some(timer) = operation.timer {
            self.timers.remove(&(timer, id));
        }
    }

    /// Ends all operations: a node that must not run as itself must not stamp either.
    pub(super) fn fail_operations(&mut self, error: &OpError) {
        let ids: Vec<u64> = self.operations.keys().copied().collect();
        for id in ids {
            let Some(operation) = self.operations.get_mut(&id) else { continue };
            let writes = match &operation.machine {
                Machine::Put(_) | Machine::CausalWrite(_) | Machine::CausalForward(_) => true,
                Machine::Get(_) | Machine::Scan(_) | Machine::CausalGet(_) => false,
                Machine::Register(register) => register.is_change(),
            };
            if let Some(from) = operation.forwarded.take() {
                let error = error.clone().with_applied(Applied::Unknown);
                self.answer_forwarded(from, Err(error));
            } else if let Some(op) = operation.op.take() {
                let applied = if writes { Applied::Unknown } else { Applied::No };
                self.waiting.remove(&op);
                let result = Err(error.clone().with_applied(applied));
                self.effects.push_back(Effect::Reply { op, result });
            }
            self.forget(id);
        }
    }

    /// Operations that only wait for stragglers may be as many again as those in flight, and hold
    /// half of the bytes; past that the oldest are forgotten.
    fn bound_lingering(&mut self) {
        let too_many = |node: &Node| {
            node.lingering.len() > node.config.operations_max
                || node.operation_bytes > node.config.operation_bytes_max / 2
        };
        while too_many(self)
            && let Some(&oldest) = self.lingering.first()
        {
            let unreached = match self.operations.get(&oldest).map(|of| &of.machine) {
                Some(Machine::Put(put)) => Some((put.target().unit, put.unreached())),
                Some(Machine::CausalWrite(write)) => Some((write.target().unit, write.unreached())),
                _ => None,
            };
            if let Some((unit, owners)) = unreached {
                owners.into_iter().for_each(|owner| self.mark_dirty(unit, owner));
            }
            self.forget(oldest);
        }
    }

    fn ask(&mut self, now: Now, to: NodeId, ask: Ask) {
        self.note_asked(now, to, &ask);
        match ask {
            Ask::Write(ask) if ask.round.round == 0 => {
                self.gauges.repairs += 1;
                self.ask_write(now, to, ask);
            }
            Ask::Write(ask) => self.ask_write(now, to, ask),
            Ask::Read(ask) if to == self.me => self.on_read_ask(now, to, *ask),
            Ask::Read(ask) => self.send(to, PeerMessage::Read(ask)),
            Ask::Scan(ask) => self.ask_page(now, to, ask),
            Ask::Causal(message) => self.ask_causal(now, to, message),
            Ask::Register(message) => self.ask_register(now, to, message),
            Ask::Change(ask) => self.on_change_ask(now, *ask),
        }
    }

    fn ask_write(&mut self, now: Now, to: NodeId, ask: Box<crate::message::WriteAsk>) {
        if to == self.me {
            self.on_write_ask(now, to, *ask);
        } else {
            self.send(to, PeerMessage::Write(ask));
        }
    }

    pub(super) fn on_operation_time(&mut self, now: Now, id: u64) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.timer = None;
        }
        if matches!(self.operations.get(&id), Some(Operation { machine: Machine::Scan(_), .. })) {
            return self.step_scan(now, id, |scan, reachable, step| scan.on_time(reachable, step));
        }
        self.step(now, id, |machine, step| match machine {
            Machine::Put(put) => put.on_time(step),
            Machine::Get(get) => get.on_time(step),
            Machine::Scan(_) => {}
            Machine::CausalGet(get) => get.on_time(step),
            Machine::CausalWrite(write) => write.on_time(step),
            Machine::CausalForward(forward) => forward.on_time(step),
            Machine::Register(register) => register.on_time(step),
        });
    }

    pub(super) fn step_scan(
        &mut self,
        now: Now,
        id: u64,
        run: impl FnOnce(&mut Scan, &dyn Fn(NodeId) -> bool, &mut Step<'_>),
    ) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        let mut out = Vec::new();
        if let Machine::Scan(scan) = &mut operation.machine {
            let (members, me) = (&self.members, self.me);
            let reachable = |member| member == me || members.is_reachable(member);
            let (clock, hedges) = (&mut self.clock, &mut self.hedges);
            let step = &mut Step::of_all(now, (clock, hedges), &mut out);
            run(scan, &reachable, step);
        }
        self.operations.insert(id, operation);
        self.current = id;
        self.finish_step(now, out);
    }

    pub(super) fn on_write_answer(&mut self, now: Now, from: NodeId, answer: WriteAnswer) {
        self.note_write_answered(now, from, answer.round);
        if !self.operations.contains_key(&answer.round.op) {
            return self.on_delivered(now, from, (answer.round, answer.result));
        }
        let WriteAnswer { round, complete, result } = answer;
        if self.is_write(round.op) {
            self.note_answer(now, round.op, from, &result);
        }
        if self.is_fenced(now, (round.op, from), &result) {
            return;
        }
        self.step(now, round.op, |machine, step| match machine {
            Machine::Put(put) => put.on_answer(from, round, (complete, result), step),
            Machine::Get(get) => get.on_stored(from, result, step),
            _ => {}
        });
    }

    pub(super) fn on_read_answer(&mut self, now: Now, from: NodeId, answer: ReadAnswer) {
        let ReadAnswer { round, result } = answer;
        self.note_read_answered(now, from, round, result.as_ref().err());
        self.note_answer(now, round.op, from, &result);
        if self.is_fenced(now, (round.op, from), &result) {
            return;
        }
        self.step(now, round.op, |machine, step| {
            if let Machine::Get(get) = machine {
                get.on_answer(from, round, result, step);
            }
        });
    }

    pub(super) fn on_scan_answer(&mut self, now: Now, from: NodeId, answer: ScanAnswer) {
        let ScanAnswer { round: RoundId { op, .. }, result } = answer;
        if self.is_fenced(now, (op, from), &result) {
            return;
        }
        self.step_scan(now, op, |scan, _, step| scan.on_answer(from, result, step));
    }

    pub(super) fn on_unreachable(&mut self, now: Now, peer: NodeId) {
        if !self.members.on_unreachable(peer) {
            return;
        }
        crate::sometimes!("node: a peer becomes unreachable");
        self.note_lost(now, peer);
        self.publish();
        self.on_target_lost(now, peer);
        self.on_source_lost(now, peer);
        self.on_repair_lost(now, peer);
        self.explain_lost(now, peer);
        self.on_scanner_lost(peer);
        self.on_watch_lost(now, peer);
        // A link with a full queue breaks and heals again and again: those that have noted its loss
        // before must cost next to nothing.
        let waits = |(_, operation): &(&u64, &Operation)| operation.machine.waits_for(peer);
        let ids: Vec<u64> = self.operations.iter().filter(waits).map(|(id, _)| *id).collect();
        for id in ids {
            self.note_step(now, id, peer, TraceEvent::Lost);
            if matches!(self.operations.get(&id), Some(Operation { machine: Machine::Scan(_), .. }))
            {
                self.step_scan(now, id, |scan, _, step| scan.on_unreachable(peer, step));
                continue;
            }
            self.step(now, id, |machine, step| match machine {
                Machine::Put(put) => put.on_unreachable(peer, step),
                Machine::Get(get) => get.on_unreachable(peer, step),
                Machine::Scan(_) => {}
                Machine::CausalGet(get) => get.on_unreachable(peer, step),
                Machine::CausalWrite(write) => write.on_unreachable(peer, step),
                Machine::CausalForward(forward) => forward.on_unreachable(peer, step),
                Machine::Register(register) => {
                    if let Some(index) = register.target().index(peer) {
                        register.on_unreachable(index, step);
                    }
                }
            });
        }
    }

    pub(super) fn on_abandon(&mut self, op: OpId) {
        self.abandon_table(op);
        self.abandon_explain(op);
        self.watches.abandon(op);
        if let Some(id) = self.waiting.remove(&op)
            && let Some(operation) = self.operations.get_mut(&id)
        {
            operation.op = None;
            if matches!(operation.machine, Machine::Scan(_)) {
                self.forget(id);
            }
        }
    }

    pub(super) fn raise_ceiling(&mut self, now: Now, wanted: WallTime) {
        if let Some(ceiling) = self.clock.reserve(now.wall, wanted) {
            self.persist_ceiling(ceiling);
        }
    }

    /// Raises the ceiling before it is reached, so that a steady stream of writes never waits.
    pub(super) fn raise_ceiling_early(&mut self, now: Now) {
        self.raise_ceiling(now, WallTime(0));
    }

    pub(super) fn on_ceiling_persisted(&mut self, now: Now, stored: Result<(), &DiskError>) {
        self.clock.reserved(stored.is_ok());
        for id in core::mem::take(&mut self.waiting_for_ceiling) {
            self.step(now, id, |machine, step| match machine {
                Machine::Put(put) => put.on_ceiling(stored, step),
                Machine::CausalWrite(write) => write.on_ceiling(stored, step),
                Machine::Register(register) => register.on_ceiling(stored, step),
                _ => {}
            });
        }
    }

    /// Delivers what this node's own replica answered without its disk.
    pub(super) fn run_local(&mut self, now: Now) {
        loop {
            while let Some(answer) = self.local.pop_front() {
                self.on_local(now, answer);
            }
            if !self.run_turn(now) && !self.run_read(now) {
                return;
            }
        }
    }

    fn on_local(&mut self, now: Now, answer: LocalAnswer) {
        let me = self.me;
        match answer {
            LocalAnswer::Write(answer) => self.on_write_answer(now, me, answer),
            LocalAnswer::Read(answer) => self.on_read_answer(now, me, answer),
            LocalAnswer::Scan(answer) => self.on_scan_answer(now, me, answer),
            LocalAnswer::Causal(message) => self.on_causal(now, me, *message),
            LocalAnswer::Consensus(message) => self.on_consensus(now, me, *message),
            LocalAnswer::Changed(round, result) => self.on_changed(now, round, result),
        }
    }
}

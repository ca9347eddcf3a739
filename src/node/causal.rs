//! Causal tables: requests of clients and their way to an owner, and what owners ask of each other.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use super::Node;
use super::behind::Early;
use super::client::{is_sloppy, quorum, unit_of};
use super::disk::Pending;
use super::operation::{LocalAnswer, Machine, Operation};
use super::peer::Admitted;
use super::waterfall::Asker;
use crate::causality::{ContextToken, SiblingSet};
use crate::coordinator::{
    CausalForward, CausalGet, CausalWrite, CausalWriteOrder, ChangeAsk, ForwardOrder, Health,
    Holder, Own, Step, Target,
};
use crate::message::{
    self, Applied, CausalDisk, CausalDone, CausalMessage, CausalPut, CausalTask, ClientBody,
    ClientRequest, ClientResult, CustodyChange, DiskAnswer, DiskError, DiskRequest, ErrorCode,
    Hint, Kept, KeyPlace, OpError, PeerMessage, Refusal, Reply, Restored, RoundId, TraceEvent,
};
use crate::types::{ClusterState, NodeId, Now, RequestId, Table, Tenure, Time, limits};

/// Puts of other nodes that are remembered, so that one that arrives twice is made once.
const FORWARDED_MAX: usize = 4096;

/// What a disk request about a causal table was for.
#[derive(Clone, Debug)]
pub(super) enum CausalPending {
    Read(Admitted),
    Merge { from: NodeId, round: RoundId },
    Change { round: RoundId },
}

impl CausalPending {
    /// Whether it is to change what the disk holds.
    pub(super) fn is_write(&self) -> bool {
        matches!(self, CausalPending::Merge { .. } | CausalPending::Change { .. })
    }
}

/// What a node needs for causal tables.
#[derive(Debug)]
pub(super) struct Causal {
    /// As whom it writes: durable before it serves.
    pub(super) tenure: Tenure,
    /// Puts that other nodes have sent here.
    forwarded: Forwarded,
    /// Names changes whose clients do not; and seeds what else draws in them.
    pub(super) rng: fastrand::Rng,
}

impl Causal {
    pub(super) fn new(seed: u64, restored: &Restored) -> Causal {
        // A generator of its own, so that what it draws changes no other choice.
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x6361_7573_616c_2121);
        let tenure = restored.tenure.unwrap_or(Tenure(rng.u64(1..)));
        Causal { tenure, forwarded: Forwarded::default(), rng }
    }
}

/// The puts of other nodes that were taken lately.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    known: BTreeSet<(NodeId, RoundId)>,
    order: VecDeque<(NodeId, RoundId)>,
}

impl Forwarded {
    /// Whether it is new.
    fn note(&mut self, from: NodeId, round: RoundId) -> bool {
        if !self.known.insert((from, round)) {
            return false;
        }
        self.order.push_back((from, round));
        if self.order.len() > FORWARDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Node {
    /// Begins what a client asks of a key of a causal table.
    pub(super) fn begin_causal(
        &mut self,
        now: Now,
        mut asker: Asker,
        (state, table): (&ClusterState, &Table),
        request: ClientRequest,
    ) -> Result<(), OpError> {
        let ClientRequest { deadline, trace, body, .. } = request;
        match body {
            ClientBody::Get(get) => {
                let r = quorum(get.r, table.r, table.n, "r")?;
                // What stand-ins hold is no owner's, and monotonic reads rest on owners.
                let sloppy = is_sloppy(table, get.mode)? && !get.monotonic;
                let target = self.target(state, table, get.key);
                let mut order = self.get_order(table, r, &target, sloppy);
                order.monotonic = get.monotonic.then(|| table.w.max(table.w_min));
                (order.trace, order.deadline) = (trace, deadline);
                self.begin(now, asker, target, |target, step| {
                    Machine::CausalGet(Box::new(CausalGet::begin(target, order, step)))
                });
            }
            ClientBody::Put(put) => {
                let put_key = put.key.clone();
                let (put, r) = self.causal_put(now, table, put, trace)?;
                asker.name(put.attempt.id);
                let target = self.target(state, table, put_key);
                self.begin_causal_write(now, (asker, target), (put, r), deadline)?;
            }
            ClientBody::Increment(increment) => {
                let (key, put, r) = self.increment(table, *increment, trace)?;
                asker.name(put.attempt.id);
                let target = self.target(state, table, key);
                self.begin_causal_write(now, (asker, target), (put, r), deadline)?;
            }
            ClientBody::Scan(_)
            | ClientBody::Cas(_)
            | ClientBody::Batch(_)
            | ClientBody::Outcome(_)
            | ClientBody::Watch(_) => {
                unreachable!("scans are begun like others, and the rest is for other tables")
            }
        }
        Ok(())
    }

    /// Makes a put, or sends it on to an owner that can.
    fn begin_causal_write(
        &mut self,
        now: Now,
        (asker, target): (Asker, Target),
        (put, r): (CausalPut, u8),
        deadline: Time,
    ) -> Result<(), OpError> {
        if target.read_index(self.me).filter(|_| self.is_complete(target.unit)).is_some() {
            self.check_own_clock(now)?;
            let order = self.write_order(&target, (put, r), None, deadline)?;
            self.raise_ceiling_early(now);
            self.begin(now, asker, target, |target, step| {
                Machine::CausalWrite(Box::new(CausalWrite::begin(target, order, step)))
            });
            return Ok(());
        }
        let retry_interval = self.config.retry_interval;
        let stand_ins = self.coordinating_stand_ins(&put, &target);
        let order = ForwardOrder { put, deadline, retry_interval, stand_ins };
        self.begin(now, asker, target, |target, step| {
            Machine::CausalForward(Box::new(CausalForward::begin(target, order, step)))
        });
        Ok(())
    }

    /// How this node makes a put: as an owner, or as a stand-in for one.
    fn write_order(
        &mut self,
        target: &Target,
        (put, r): (CausalPut, u8),
        hint_for: Option<NodeId>,
        deadline: Time,
    ) -> Result<CausalWriteOrder, OpError> {
        let seat = target.index(hint_for.unwrap_or(self.me));
        let seat = seat.ok_or_else(|| refused(&Refusal::NotOwner))?;
        let mut stand_ins = self.stand_ins(put.sloppy, target);
        let (mut tenure, stands_in) = (self.causal.tenure, hint_for.is_some());
        if stands_in {
            stand_ins.retain(|id| *id != self.me);
            stand_ins.insert(0, self.me);
            tenure = Tenure(self.causal.rng.u64(1..));
        }
        let own = Own { node: self.me, seat, stands_in, tenure };
        let retry_interval = self.config.retry_interval;
        Ok(CausalWriteOrder { put, own, stand_ins, r, deadline, retry_interval })
    }

    /// A client's put, checked; and the quorum of the read before a delete without a context.
    fn causal_put(
        &mut self,
        now: Now,
        table: &Table,
        put: message::Put,
        trace: crate::types::TraceId,
    ) -> Result<(CausalPut, u8), OpError> {
        let w = quorum(put.w, table.w, table.n, "w")?;
        let r = quorum(put.r, table.r, table.n, "r")?;
        let sloppy = is_sloppy(table, put.mode)?;
        super::client::check_value_size(table, put.value.as_ref())?;
        let seen = if put.context.is_empty() {
            None
        } else {
            let invalid = |text: String| OpError::new(ErrorCode::ContextInvalid, text);
            let length = put.context.len();
            let token = ContextToken { table: table.id, key: &put.key };
            let seen = token.open(put.context).map_err(|error| {
                invalid(error.to_string()).with_limit(limits::CONTEXT_BYTES_MAX, length)
            })?;
            if seen.latest() > self.fresh_bound(now) {
                return Err(invalid("context is of a time that has not come".to_owned()));
            }
            Some(seen)
        };
        let mut attempt = put.attempt;
        if attempt.id == RequestId(0) {
            // Attempts of one put are told by their id, also those that nodes make among themselves.
            attempt.id = self.name_write();
        }
        let weak = w < table.w_min || (put.r.is_some() && r < table.r_min);
        let (value, ttl) = (put.value, put.ttl.resolve(table.ttl));
        let add = None;
        let put = CausalPut { value, add, seen, attempt, w, sloppy, weak, ttl, trace };
        Ok((put, r.max(table.r_min)))
    }

    /// An id for a write whose client gave none.
    pub(super) fn name_write(&mut self) -> RequestId {
        RequestId(self.causal.rng.u128(1..))
    }

    pub(super) fn on_causal(&mut self, now: Now, from: NodeId, message: CausalMessage) {
        match message {
            CausalMessage::Put { round, place, hint_for, put, remaining } => {
                self.on_forwarded(now, (from, round), (place, hint_for), (*put, remaining));
            }
            CausalMessage::PutAnswer { round, result } => {
                let refused = result.is_err();
                let event = if refused { TraceEvent::Refused } else { TraceEvent::Answered };
                self.note_step(now, round.op, from, event);
                self.step(now, round.op, |machine, step| {
                    if let Machine::CausalForward(forward) = machine {
                        forward.on_answer(round, result, step);
                    }
                });
            }
            CausalMessage::Merge { round, place, hint_for, set, remaining } => {
                self.on_causal_merge(now, (from, round), (place, hint_for), (set, remaining));
            }
            CausalMessage::MergeAnswer { round, result } => {
                self.note_write_answered(now, from, round);
                if !self.operations.contains_key(&round.op) {
                    return self.on_delivered(now, from, (round, result));
                }
                self.note_answer(now, round.op, from, &result);
                if self.is_fenced(now, (round.op, from), &result) {
                    return self.step(now, round.op, |machine, step| {
                        if let Machine::CausalForward(forward) = machine {
                            forward.on_fenced(round, step);
                        }
                    });
                }
                self.step(now, round.op, |machine, step| match machine {
                    Machine::CausalWrite(write) => write.on_told(from, round, result, step),
                    Machine::CausalGet(get) => get.on_merged(from, round, result, step),
                    _ => {}
                });
            }
            CausalMessage::Read { round, place, hint_for, remaining } => {
                self.on_causal_read(now, (from, round), (place, hint_for), remaining);
            }
            CausalMessage::ReadAnswer { round, piece, pieces, result } => {
                self.note_read_answered(now, from, round, result.as_ref().err());
                self.note_answer(now, round.op, from, &result);
                if self.is_fenced(now, (round.op, from), &result) {
                    return;
                }
                self.step(now, round.op, |machine, step| match machine {
                    Machine::CausalGet(get) => get.on_read(from, (piece, pieces), result, step),
                    Machine::CausalWrite(write) => {
                        write.on_read(from, (piece, pieces), result, step);
                    }
                    _ => {}
                });
            }
        }
    }

    /// A node asks this one, as an owner or as a stand-in, to coordinate a put.
    fn on_forwarded(
        &mut self,
        now: Now,
        (from, round): (NodeId, RoundId),
        (place, hint_for): (KeyPlace, Option<NodeId>),
        (put, remaining): (CausalPut, Duration),
    ) {
        let judged = self
            .judge_read(now, from, (place.unit, place.changed_at, place.table), hint_for)
            .and_then(|()| self.judge_custody(hint_for))
            .and_then(|()| self.judge_load(remaining));
        if matches!(judged, Err(Refusal::Behind { .. })) {
            let put = Box::new(put);
            let message = CausalMessage::Put { round, place, hint_for, put, remaining };
            return self.wait_for_state(now, from, Early::Causal(Box::new(message)));
        }
        if matches!(judged, Err(Refusal::Fenced { .. })) {
            // Whoever asked is sent the state, and sends it on anew by that.
            crate::sometimes!("causal put: was sent on under an older fence");
            return self.refuse_fenced(from, round);
        }
        // One that was refused is not made either: whoever asked has been told that it was not.
        if !self.causal.forwarded.note(from, round) && !crate::mutant!("forwarded-put-made-twice") {
            crate::sometimes!("causal put: arrives twice");
            return;
        }
        let begun = judged.map_err(|refusal| refused(&refusal)).and_then(|()| {
            let place = (place, hint_for);
            self.begin_forwarded(now, (from, round), place, (put, remaining))
        });
        if let Err(error) = begun {
            let result = Err(Box::new(error));
            self.say_causal(from, CausalMessage::PutAnswer { round, result });
        }
    }

    /// A put that was sent here is not made, and will not be: another owner may make it.
    pub(super) fn refuse_fenced(&mut self, from: NodeId, round: RoundId) {
        self.causal.forwarded.note(from, round);
        let refusal = Refusal::Fenced { epoch: self.epoch() };
        self.answer_merge(from, round, Err(refusal));
    }

    fn begin_forwarded(
        &mut self,
        now: Now,
        (from, round): (NodeId, RoundId),
        (place, hint_for): (KeyPlace, Option<NodeId>),
        (put, remaining): (CausalPut, Duration),
    ) -> Result<(), OpError> {
        let state = self.serving_state()?;
        self.admit_operation()?;
        self.check_own_clock(now)?;
        let unknown = || OpError::new(ErrorCode::NotReady, "the table is not known here");
        let table = state.table(place.table).ok_or_else(unknown)?;
        self.admit_share(Holder { table: table.id, client: None })?;
        let within = |quorum: u8| quorum >= 1 && quorum <= table.n;
        let fits = hint_for.is_none() || (put.sloppy && put.add.is_none());
        if !fits || !within(put.w) || unit_of(&state, table, &place.key) != place.unit {
            let text = "a forwarded write does not fit its table";
            return Err(OpError::new(ErrorCode::RequestMalformed, text));
        }
        let target = self.target(&state, table, place.key);
        let r = table.r.max(table.r_min);
        let order = self.write_order(&target, (put, r), hint_for, now.mono.plus(remaining))?;
        self.raise_ceiling_early(now);
        let reachable = self.reachable(&target.owners);
        let mut out = Vec::with_capacity(4);
        let (clock, hedges) = (&mut self.clock, &mut self.hedges);
        // Only gets choose whom they ask; those who may stand in have just been chosen.
        let (health, stand_ins) = (Health::default(), (1 << limits::REPLICAS_MAX) - 1);
        let step = &mut Step { now, clock, reachable, health, stand_ins, hedges, out: &mut out };
        let machine = Machine::CausalWrite(Box::new(CausalWrite::begin(target, order, step)));
        self.insert(Operation::forwarded((from, round), machine));
        self.finish_step(now, out);
        Ok(())
    }

    /// Tells whoever sent a put on what became of it.
    pub(super) fn answer_forwarded(
        &mut self,
        (to, round): (NodeId, RoundId),
        result: ClientResult,
    ) {
        let result = match result {
            Ok(Reply::Causal(reply)) => Ok(reply),
            Ok(_) => {
                let text = "the reply does not fit the request";
                let error = OpError::new(ErrorCode::Internal, text);
                Err(Box::new(error.with_applied(Applied::Unknown)))
            }
            Err(error) => Err(Box::new(error)),
        };
        self.say_causal(to, CausalMessage::PutAnswer { round, result });
    }

    fn on_causal_merge(
        &mut self,
        now: Now,
        (from, round): (NodeId, RoundId),
        (place, hint_for): (KeyPlace, Option<NodeId>),
        (set, remaining): (SiblingSet, Duration),
    ) {
        let judged = self
            .judge(now, from, (place.unit, place.changed_at, place.table), hint_for)
            .and_then(|()| self.judge_custody(hint_for))
            .and_then(|()| self.judge_load(remaining));
        if matches!(judged, Err(Refusal::Behind { .. })) {
            let message = CausalMessage::Merge { round, place, hint_for, set, remaining };
            return self.wait_for_state(now, from, Early::Causal(Box::new(message)));
        }
        if let Err(refusal) = judged {
            return self.answer_merge(from, round, Err(refusal));
        }
        if let Some(last) = set.context().last() {
            self.clock.observe(now.wall, last.stamp());
        }
        if let Some(target) = hint_for {
            let KeyPlace { unit, table, key, .. } = place;
            let kept = Kept::Siblings(set);
            let hint = Hint { created: now.wall, custody: true, unit, table, key, kept };
            return self.keep_in_custody((from, round), target, hint);
        }
        self.replica_operations += 1;
        self.count_copy(now.mono, place.unit, set.bytes());
        let task = CausalTask::Merge(set);
        self.disk(Pending::Causal(CausalPending::Merge { from, round }), disk(place, task));
    }

    fn on_causal_read(
        &mut self,
        now: Now,
        (from, round): (NodeId, RoundId),
        (place, hint_for): (KeyPlace, Option<NodeId>),
        remaining: Duration,
    ) {
        let judged = self
            .judge_read(now, from, (place.unit, place.changed_at, place.table), hint_for)
            .and_then(|()| self.judge_load(remaining));
        if matches!(judged, Err(Refusal::Behind { .. })) {
            let message = CausalMessage::Read { round, place, hint_for, remaining };
            return self.wait_for_state(now, from, Early::Causal(Box::new(message)));
        }
        if let Err(refusal) = judged {
            return self.answer_causal_read(from, round, Err(refusal));
        }
        self.replica_operations += 1;
        let task = match hint_for {
            None => CausalTask::Read,
            Some(_) => {
                let state = self.state.as_ref();
                CausalTask::ReadKept(state.map_or_else(Vec::new, |state| state.writers(place.unit)))
            }
        };
        let admitted = self.admitted((from, round), (place.unit, place.changed_at));
        self.count_copy(now.mono, place.unit, 0);
        self.disk(Pending::Causal(CausalPending::Read(admitted)), disk(place, task));
    }

    /// A put of this node wants to change its own replica, or what it keeps in custody.
    pub(super) fn on_change_ask(&mut self, now: Now, ask: ChangeAsk) {
        let ChangeAsk { round, place, hint_for, change } = ask;
        if let Err(refusal) =
            self.judge(now, self.me, (place.unit, place.changed_at, place.table), hint_for)
        {
            return self.local.push_back(LocalAnswer::Changed(round, Err(refusal)));
        }
        if let Some(target) = hint_for {
            let KeyPlace { unit, table, key, .. } = place;
            let (created, within) = (now.wall, self.causal.tenure);
            let change = CustodyChange { target, unit, table, key, created, within, change };
            return self.change_custody(round, change);
        }
        self.replica_operations += 1;
        self.count_copy(now.mono, place.unit, 0);
        let task = CausalTask::Change(change);
        self.disk(Pending::Causal(CausalPending::Change { round }), disk(place, task));
    }

    pub(super) fn on_changed(
        &mut self,
        now: Now,
        round: RoundId,
        result: Result<CausalDone, Refusal>,
    ) {
        self.note_answer(now, round.op, self.me, &result);
        let late = self.rests_on_former_owners(round.op);
        self.step(now, round.op, |machine, step| match machine {
            Machine::CausalWrite(write) if late => write.on_changed_late(round, result, step),
            Machine::CausalWrite(write) => write.on_changed(round, result, step),
            _ => {}
        });
        if late && let Some(state) = self.state.clone() {
            self.go_on_under(now, round.op, &state);
        }
    }

    pub(super) fn on_causal_disk_done(
        &mut self,
        now: Now,
        pending: CausalPending,
        result: Result<DiskAnswer, DiskError>,
    ) {
        self.replica_operations -= 1;
        let result = match result {
            Ok(DiskAnswer::Causal(done)) => Ok(done),
            other => Err(self.refusal(other)),
        };
        let other = || Refusal::Storage("the disk gave another answer".to_owned());
        match pending {
            CausalPending::Read(admitted) => {
                let result = result.and_then(|done| match done {
                    CausalDone::Read(set) => Ok(set),
                    _ => Err(other()),
                });
                let result = self.look_again(now, &admitted).and(result);
                let Admitted { from, round, .. } = admitted;
                self.answer_causal_read(from, round, result);
            }
            CausalPending::Merge { from, round } => {
                self.answer_merge(from, round, result.map(|_| ()));
                self.sweep_on();
            }
            CausalPending::Change { round } => {
                self.on_changed(now, round, result);
                self.sweep_on();
            }
        }
    }

    /// What waited for a newer state and waits no longer.
    pub(super) fn refuse_causal(&mut self, to: NodeId, message: CausalMessage, why: Refusal) {
        match message {
            CausalMessage::Put { round, .. } => {
                if !self.causal.forwarded.note(to, round) {
                    return;
                }
                let result = Err(Box::new(refused(&why)));
                self.say_causal(to, CausalMessage::PutAnswer { round, result });
            }
            CausalMessage::Merge { round, .. } => self.answer_merge(to, round, Err(why)),
            CausalMessage::Read { round, .. } => self.answer_causal_read(to, round, Err(why)),
            CausalMessage::PutAnswer { .. }
            | CausalMessage::MergeAnswer { .. }
            | CausalMessage::ReadAnswer { .. } => {}
        }
    }

    pub(super) fn answer_merge(&mut self, to: NodeId, round: RoundId, result: Result<(), Refusal>) {
        // Nobody waits for a repair.
        if round.round > 0 {
            self.say_causal(to, CausalMessage::MergeAnswer { round, result });
        }
    }

    fn answer_causal_read(
        &mut self,
        to: NodeId,
        round: RoundId,
        result: Result<SiblingSet, Refusal>,
    ) {
        let set = match result {
            Ok(set) => set,
            Err(refusal) => {
                let (piece, pieces, result) = (0, 1, Err(refusal));
                let answer = CausalMessage::ReadAnswer { round, piece, pieces, result };
                return self.say_causal(to, answer);
            }
        };
        let list = set.pieces();
        let pieces = u8::try_from(list.len()).unwrap_or(u8::MAX);
        for (piece, set) in (0u8..).zip(list) {
            let result = Ok(set);
            self.say_causal(to, CausalMessage::ReadAnswer { round, piece, pieces, result });
        }
    }

    /// Says something to a node, which may be this one.
    pub(super) fn say_causal(&mut self, to: NodeId, message: CausalMessage) {
        if to == self.me {
            self.local.push_back(LocalAnswer::Causal(Box::new(message)));
        } else {
            self.send(to, PeerMessage::Causal(Box::new(message)));
        }
    }

    /// A message for an owner, which may be this node.
    pub(super) fn ask_causal(&mut self, now: Now, to: NodeId, message: Box<CausalMessage>) {
        if matches!(*message, CausalMessage::Merge { round, .. } if round.round == 0) {
            self.gauges.repairs += 1;
        }
        if to == self.me && matches!(*message, CausalMessage::Put { .. }) {
            // It begins an operation: not in the midst of this one's step.
            self.local.push_back(LocalAnswer::Causal(message));
        } else if to == self.me {
            self.on_causal(now, to, *message);
        } else {
            self.send(to, PeerMessage::Causal(message));
        }
    }
}

fn disk(place: KeyPlace, task: CausalTask) -> DiskRequest {
    let KeyPlace { unit, table, key, .. } = place;
    DiskRequest::Causal(Box::new(CausalDisk { unit, table, key, task }))
}

/// The refusal of a put that another owner may take.
fn refused(refusal: &Refusal) -> OpError {
    let (code, text) = match refusal {
        Refusal::Overloaded => (ErrorCode::Overloaded, "the owner is overloaded".to_owned()),
        Refusal::Expired => {
            (ErrorCode::DeadlineExceeded, "the owner got the request after its deadline".to_owned())
        }
        other => (ErrorCode::NotReady, format!("the owner refuses: {other:?}")),
    };
    OpError::new(code, text)
}

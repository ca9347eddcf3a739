//! Linearizable tables: requests of clients, and what this node is asked as an acceptor. The rules are
//! in `docs/protocol/register.md`.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::Node;
use super::behind::Early;
use super::client::{check_value_size, quorum};
use super::disk::Pending;
use super::operation::{LocalAnswer, Machine};
use super::peer::Admitted;
use super::waterfall::Asker;
use crate::coordinator::{Goal, NewValue, Register, RegisterOrder};
use crate::message::{
    Attempt, ClientBody, ClientRequest, CopyPlace, DiskAnswer, DiskError, DiskRequest, ErrorCode,
    KeyPlace, OpError, PeerMessage, Refusal, RegisterDisk, RegisterMessage, RegisterSaid,
    RegisterTask, RoundId, TimeToLive,
};
use crate::types::{
    ClusterState, Key, NodeId, Now, Quorum, RequestId, Table, TableId, Time, TraceId, Value,
};

/// Changes of one key that this node coordinates go one after the other: they would only outbid each
/// other. Bounded by the operations in flight.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Operations by key; the first has its turn.
    queues: BTreeMap<(TableId, Key), VecDeque<u64>>,
    /// Operations whose turn has come.
    due: VecDeque<u64>,
}

impl Turns {
    /// Lines an operation up. Whether it has to wait.
    fn enter(&mut self, place: (TableId, Key), id: u64) -> bool {
        let queue = self.queues.entry(place).or_default();
        queue.push_back(id);
        queue.len() > 1
    }

    /// An operation has ended.
    pub(super) fn leave(&mut self, place: (TableId, Key), id: u64) {
        let Some(queue) = self.queues.get_mut(&place) else { return };
        let had_its_turn = queue.front() == Some(&id);
        queue.retain(|other| *other != id);
        match queue.front() {
            None => drop(self.queues.remove(&place)),
            Some(next) if had_its_turn => self.due.push_back(*next),
            Some(_) => {}
        }
    }
}

/// A client's request, taken apart.
struct Wanted {
    key: Key,
    goal: Goal,
    attempt: Attempt,
    quorum: u8,
}

impl Node {
    /// Begins what a client asks of a key of a linearizable table.
    pub(super) fn begin_register(
        &mut self,
        now: Now,
        mut asker: Asker,
        (state, table): (&ClusterState, &Table),
        request: ClientRequest,
    ) -> Result<(), OpError> {
        let ClientRequest { deadline, trace, body, .. } = request;
        let mut wanted = wanted(table, body)?;
        let stamps = self.check_own_clock(now);
        let reads = matches!(wanted.goal, Goal::Get);
        if !reads {
            stamps.clone()?;
            if wanted.attempt.id == RequestId(0) {
                // Rounds of one change are told by its id, also where its client gave it none.
                wanted.attempt.id = RequestId(self.causal.rng.u128(1..));
                asker.name(wanted.attempt.id);
            }
            self.raise_ceiling_early(now);
        }
        let Wanted { key, goal, attempt, quorum } = wanted;
        let target = self.target(state, table, key);
        let waits = !reads && self.turns.enter((target.table, target.key.clone()), target.op);
        let order = RegisterOrder {
            attempt,
            must_not_stamp: stamps.err(),
            trace,
            sent: asker.left.sent,
            waits,
            ..self.register_order(goal, quorum, deadline)
        };
        self.begin(now, asker, target, |target, step| {
            Machine::Register(Box::new(Register::begin(target, order, step)))
        });
        Ok(())
    }

    /// Has what a register holds decided again, so that all its owners that can be reached come to hold
    /// it: two of them differ. Its round ends as `session`'s.
    pub(super) fn begin_round(
        &mut self,
        now: Now,
        state: &ClusterState,
        session: u64,
        place: CopyPlace,
    ) {
        let table = state.table(place.table);
        let stamps = self.check_own_clock(now);
        let (Some(table), Ok(())) = (table, stamps) else {
            return self.repair.over.push(session);
        };
        self.raise_ceiling_early(now);
        let target = self.target(state, table, place.key);
        let deadline = now.mono.plus(self.config.request_timeout);
        let order = self.register_order(Goal::Get, table.n / 2 + 1, deadline);
        self.repair.rounds.insert(target.op, session);
        self.begin_own(now, target, |target, step| {
            Machine::Register(Box::new(Register::begin_round(target, order, step)))
        });
    }

    /// What an operation for nobody's attempt is made of.
    pub(super) fn register_order(
        &mut self,
        goal: Goal,
        quorum: u8,
        deadline: Time,
    ) -> RegisterOrder {
        RegisterOrder {
            goal,
            attempt: Attempt::default(),
            quorum,
            must_not_stamp: None,
            trace: TraceId(0),
            deadline,
            retry_interval: self.config.retry_interval,
            patience: self.config.hedge_after.max(Duration::from_millis(1)),
            seed: self.causal.rng.u64(..),
            sent: None,
            waits: false,
        }
    }

    /// Lets the next change of a key have its turn. Whether there was one.
    pub(super) fn run_turn(&mut self, now: Now) -> bool {
        let Some(id) = self.turns.due.pop_front() else { return false };
        self.step(now, id, |machine, step| {
            if let Machine::Register(register) = machine {
                register.on_turn(step);
            }
        });
        true
    }

    pub(super) fn on_consensus(&mut self, now: Now, from: NodeId, message: RegisterMessage) {
        match message {
            RegisterMessage::Ask { round, place, task, remaining } => {
                self.on_register_ask(now, (from, round), place, (task, remaining));
            }
            RegisterMessage::Answer { round, complete, result } => {
                self.note_register_answered(now, from, (round, &result));
                self.note_answer(now, round.op, from, &result);
                if self.is_fenced(now, (round.op, from), &result) {
                    return;
                }
                self.step(now, round.op, |machine, step| {
                    if let Machine::Register(register) = machine
                        && let Some(index) = register.target().index(from)
                    {
                        register.on_answer(index, round, (complete, result), step);
                    }
                });
            }
        }
    }

    fn on_register_ask(
        &mut self,
        now: Now,
        (from, round): (NodeId, RoundId),
        place: KeyPlace,
        (task, remaining): (RegisterTask, Duration),
    ) {
        let judged = self
            .judge(now, from, (place.unit, place.changed_at, place.table), None)
            .and_then(|()| self.judge_task(&place, &task))
            .and_then(|()| self.judge_load(remaining))
            .and_then(|()| self.judge_ballot(now, &task));
        if matches!(judged, Err(Refusal::Behind { .. })) {
            let message = RegisterMessage::Ask { round, place, task, remaining };
            return self.wait_for_state(now, from, Early::Consensus(Box::new(message)));
        }
        if let Err(refusal) = judged {
            return self.answer_register((from, round), false, Err(refusal));
        }
        self.replica_operations += 1;
        let KeyPlace { unit, changed_at, table, key } = place;
        let admitted = self.admitted((from, round), (unit, changed_at));
        self.count_copy(now.mono, unit, 0);
        let disk = RegisterDisk { unit, table, key, fence: changed_at, task };
        self.disk(Pending::Register(admitted), DiskRequest::Register(Box::new(disk)));
    }

    /// An acceptor that has not all it should have may have forgotten a promise, or a state: it makes
    /// none, and shows nothing.
    fn judge_task(&self, place: &KeyPlace, task: &RegisterTask) -> Result<(), Refusal> {
        let accepts = matches!(task, RegisterTask::Accept(..));
        if accepts || self.is_complete(place.unit) || crate::mutant!("incomplete-promises") {
            return Ok(());
        }
        Err(Refusal::Incomplete)
    }

    /// A ballot is a reading of a clock, and is bounded like the stamp of a fresh write: one too far
    /// ahead would keep everybody else from the key until their clocks had caught up.
    fn judge_ballot(&mut self, now: Now, task: &RegisterTask) -> Result<(), Refusal> {
        let (RegisterTask::Prepare(ballot) | RegisterTask::Accept(ballot, _)) = task else {
            return Ok(());
        };
        if ballot.time > self.fresh_bound(now) {
            crate::sometimes!("replica: refuses a ballot too far ahead");
            return Err(Refusal::ClockAhead { clock: self.clock.of_record(now.wall) });
        }
        self.clock.observe(now.wall, *ballot);
        Ok(())
    }

    pub(super) fn on_register_disk_done(
        &mut self,
        now: Now,
        admitted: Admitted,
        result: Result<DiskAnswer, DiskError>,
    ) {
        self.replica_operations -= 1;
        let mut result = match result {
            Ok(DiskAnswer::Register(said)) => Ok(said),
            other => Err(self.refusal(other)),
        };
        if let Ok(RegisterSaid::Looked(_) | RegisterSaid::Promised { .. }) = result {
            result = self.look_again(now, &admitted).and(result);
        }
        let complete = self.is_complete_still(&admitted);
        let Admitted { from, round, .. } = admitted;
        self.answer_register((from, round), complete, result);
        self.sweep_on();
    }

    /// What waited for a newer state and waits no longer.
    pub(super) fn refuse_consensus(&mut self, to: NodeId, message: &RegisterMessage, why: Refusal) {
        if let RegisterMessage::Ask { round, .. } = message {
            self.answer_register((to, *round), false, Err(why));
        }
    }

    fn answer_register(
        &mut self,
        (to, round): (NodeId, RoundId),
        complete: bool,
        result: Result<RegisterSaid, Refusal>,
    ) {
        let answer = Box::new(RegisterMessage::Answer { round, complete, result });
        if to == self.me {
            self.local.push_back(LocalAnswer::Consensus(answer));
        } else {
            self.send(to, PeerMessage::Consensus(answer));
        }
    }

    /// A question for an owner, which may be this node.
    pub(super) fn ask_register(&mut self, now: Now, to: NodeId, message: Box<RegisterMessage>) {
        if to == self.me {
            self.on_consensus(now, to, *message);
        } else {
            self.send(to, PeerMessage::Consensus(message));
        }
    }
}

fn wanted(table: &Table, body: ClientBody) -> Result<Wanted, OpError> {
    let new = |value: Option<Value>, ttl: TimeToLive| -> Result<NewValue, OpError> {
        check_value_size(table, value.as_ref())?;
        Ok(NewValue { value, ttl: ttl.resolve(table.ttl) })
    };
    Ok(match body {
        ClientBody::Get(get) => Wanted {
            quorum: majority(get.r, table.r, table, "r")?,
            key: get.key,
            goal: Goal::Get,
            attempt: Attempt::default(),
        },
        ClientBody::Put(put) => {
            majority(put.r, table.r, table, "r")?;
            Wanted {
                quorum: majority(put.w, table.w, table, "w")?,
                key: put.key,
                goal: Goal::Put(new(put.value, put.ttl)?),
                attempt: put.attempt,
            }
        }
        ClientBody::Cas(cas) => Wanted {
            quorum: majority(None, table.w, table, "w")?,
            goal: Goal::Cas(cas.expect, new(cas.value, cas.ttl)?),
            key: cas.key,
            attempt: cas.attempt,
        },
        ClientBody::Increment(increment) => Wanted {
            quorum: majority(increment.w, table.w, table, "w")?,
            goal: Goal::Add { by: increment.by, ttl: table.ttl },
            key: increment.key,
            attempt: increment.attempt,
        },
        ClientBody::Outcome(ask) => {
            if ask.id == RequestId(0) {
                let message = "request_id is missing: it names the change that is asked about";
                return Err(OpError::new(ErrorCode::RequestMalformed, message));
            }
            let (id, since, lower) = (ask.id, ask.since, ask.lower);
            // The change itself came before: as if this were another attempt of it.
            let attempt = Attempt { id, number: 1, lower, upper: None, since };
            let quorum = majority(None, table.w, table, "w")?;
            Wanted { key: ask.key, goal: Goal::Outcome, attempt, quorum }
        }
        ClientBody::Scan(_) | ClientBody::Batch(_) => unreachable!("neither is one key's"),
        ClientBody::Watch(_) => {
            let message = "watches of linearizable tables are not available yet";
            return Err(OpError::new(ErrorCode::NotAvailableYet, message));
        }
    })
}

/// A quorum of a linearizable table. What such a table promises cannot be given up by one request:
/// less than a majority is refused.
pub(super) fn majority(
    asked: Option<Quorum>,
    default: u8,
    table: &Table,
    name: &str,
) -> Result<u8, OpError> {
    let least = table.n / 2 + 1;
    let wanted = quorum(asked, default.max(least), table.n, name)?;
    if wanted < least {
        let message = format!(
            "{name} is {wanted}; table {} is linearizable: it must be {least}..={}",
            table.name, table.n
        );
        return Err(OpError::new(ErrorCode::QuorumInvalid, message));
    }
    Ok(wanted)
}

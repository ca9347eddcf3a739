//! One operation on a key of a linearizable table. A read looks at what the owners have accepted, and
//! answers at once when that is decided. Everything else is a round: a ballot from this node's clock,
//! promises of a majority, a decision about the newest state among them, its acceptance by a
//! majority, and only then the answer. Whoever is outbid rests, longer each time, and begins again
//! above.

use core::time::Duration;

use crate::causality::{Accepted, Finding};
use crate::coordinator::failure::{Failures, no_ceiling};
use crate::coordinator::put::bits;
use crate::coordinator::tally::count;
use crate::coordinator::{Action, Ask, Outcome, StampError, Step, Tally, Target};
use crate::message::{
    Applied, Attempt, CasReply, ClientResult, DiskError, ErrorCode, GetReply, IncrementReply,
    OpError, OutcomeReply, PutReply, Receipt, Refusal, RegisterMessage, RegisterSaid, RegisterTask,
    Reply, RoundId,
};
use crate::types::{RegisterState, Stamp, Time, TraceId, WallTime};

use super::decide::{Answer, Basis, Decision, Goal, decide, look};

/// How often a read looks before it writes what it found: a write may be on its way.
const LOOKS_MAX: u32 = 2;
/// The longest rest between two ballots.
const REST_MAX: Duration = Duration::from_millis(500);

/// An operation in flight.
#[derive(Clone, Debug)]
pub struct Register {
    target: Target,
    order: RegisterOrder,
    state: State,
    round: u32,
    /// When this round began.
    begun: Time,
    tally: Tally,
    failures: Failures,
    /// What owners have shown in this round, by their place.
    shown: Vec<Option<Option<Accepted>>>,
    /// The highest purge floor of those who hold nothing.
    floor: Stamp,
    looks: u32,
    ballot: Stamp,
    /// The next ballot must be above this.
    above: Stamp,
    /// Somebody has promised itself to a higher ballot than this round's.
    outbid: bool,
    /// How many ballots have come to nothing because of that.
    lost: u32,
    /// The first ballot under which the change was sent for acceptance: from then on it may be made.
    sent: Option<Stamp>,
    /// What is up for acceptance, and what it answers.
    proposal: Option<(RegisterState, Answer)>,
    wake_at: Time,
    rng: fastrand::Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits until this node has done with an earlier change of the key.
    Waiting,
    /// Owners are asked what they have accepted.
    Looking,
    /// The ballot waits for the clock's ceiling.
    Stamping,
    /// Owners are asked for promises.
    Preparing,
    /// Owners are asked to accept.
    Accepting,
    /// Outbid; waits before the next ballot.
    Resting,
    /// The client has its answer.
    Answered,
}

/// What an operation is made of, beside its place.
#[derive(Clone, Debug)]
pub struct RegisterOrder {
    /// What to do.
    pub goal: Goal,
    /// The client's attempt; its id is never 0 but of reads.
    pub attempt: Attempt,
    /// How many owners must answer: a majority or more.
    pub quorum: u8,
    /// Why this node must not stamp now, if so: for reads, which may not need to.
    pub must_not_stamp: Option<OpError>,
    /// The request's.
    pub trace: TraceId,
    /// When the answer is no longer wanted.
    pub deadline: Time,
    /// How long an owner may take before it is asked again.
    pub retry_interval: Duration,
    /// How long the last owners may take when what the others said does not do.
    pub patience: Duration,
    /// For the length of its rests.
    pub seed: u64,
    /// The first ballot under which an earlier attempt, of an older fence, sent the change for
    /// acceptance.
    pub sent: Option<Stamp>,
    /// Wait for [`Register::on_turn`]. Not for reads.
    pub waits: bool,
}

impl Register {
    /// Begins an operation. INVARIANT: `order.quorum` is a majority of the owners, or more.
    pub fn begin(target: Target, order: RegisterOrder, step: &mut Step<'_>) -> Register {
        let mut register = Register::new(target, order, step);
        match register.order.goal {
            Goal::Get => register.look(step),
            Goal::Put(_) | Goal::Cas(..) | Goal::Add { .. } | Goal::Outcome => {
                if !register.order.waits {
                    register.bid(step);
                }
            }
        }
        register
    }

    /// Begins a read that has what it finds decided by a round of its own, whatever a look would say: so
    /// all owners come to hold it. INVARIANT: as of [`Register::begin`].
    pub fn begin_round(target: Target, order: RegisterOrder, step: &mut Step<'_>) -> Register {
        let mut register = Register::new(target, order, step);
        register.bid(step);
        register
    }

    fn new(target: Target, order: RegisterOrder, step: &Step<'_>) -> Register {
        Register {
            tally: Tally::new(target.sets, order.quorum),
            shown: Vec::new(),
            floor: Stamp::ZERO,
            rng: fastrand::Rng::with_seed(order.seed),
            state: State::Waiting,
            round: 0,
            begun: step.now.mono,
            failures: Failures::default(),
            looks: 0,
            ballot: Stamp::ZERO,
            above: Stamp::ZERO,
            outbid: false,
            lost: 0,
            sent: order.sent,
            proposal: None,
            wake_at: Time(u64::MAX),
            target,
            order,
        }
    }

    /// This node has done with the change before it.
    pub fn on_turn(&mut self, step: &mut Step<'_>) {
        if self.state == State::Waiting {
            self.bid(step);
        }
    }

    /// The key's place.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Bytes of the key and the values it holds.
    pub fn bytes(&self) -> usize {
        let shown = self.shown.iter().flatten().flatten();
        self.target.key.as_bytes().len()
            + self.order.goal.bytes()
            + shown.map(|accepted| accepted.state.bytes()).sum::<usize>()
            + self.proposal.as_ref().map_or(0, |(state, _)| state.bytes())
    }

    /// The first ballot under which the change was sent for acceptance.
    pub fn sent(&self) -> Option<Stamp> {
        self.sent
    }

    /// Whether it may change the key for its client.
    pub fn is_change(&self) -> bool {
        !matches!(self.order.goal, Goal::Get)
    }

    /// Whether it waits for owner `index`.
    pub fn waits_for(&self, index: u8) -> bool {
        self.asks() && self.tally.open() & (1 << index) != 0
    }

    /// When [`Register::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        self.order.deadline.min(self.wake_at)
    }

    /// The clock's ceiling has been raised, or could not be.
    pub fn on_ceiling(&mut self, raised: Result<(), &DiskError>, step: &mut Step<'_>) {
        if self.state != State::Stamping {
            return;
        }
        let Err(error) = raised else { return self.bid(step) };
        let (code, message) = no_ceiling(error);
        self.finish_error(OpError::new(code, message), step);
    }

    /// An owner has answered.
    pub fn on_answer(
        &mut self,
        index: u8,
        round: RoundId,
        (complete, result): (bool, Result<RegisterSaid, Refusal>),
        step: &mut Step<'_>,
    ) {
        let Some(&owner) = self.target.owners.get(usize::from(index)) else { return };
        let stale = round.round != self.round && !crate::mutant!("register-stale-round-counts");
        if stale || !self.asks() || self.tally.answered() & (1 << index) != 0 {
            return;
        }
        match (self.state, result) {
            (State::Looking, Ok(RegisterSaid::Looked(accepted))) => {
                self.show(index, accepted);
                self.failures.cleared(owner);
            }
            (State::Preparing, Ok(RegisterSaid::Promised { accepted, floor })) => {
                self.floor = self.floor.max(floor);
                self.show(index, accepted);
                self.failures.cleared(owner);
            }
            (State::Accepting, Ok(RegisterSaid::Accepted)) => {
                self.failures.cleared(owner);
                self.tally.succeed_as(index, complete);
            }
            (State::Preparing | State::Accepting, Ok(RegisterSaid::Outbid(by))) => {
                step.clock.observe(step.now.wall, by);
                self.above = self.above.max(by);
                self.tally.fail(index);
                if !self.outbid {
                    // The others may be a majority; they get a moment.
                    self.outbid = true;
                    self.wake_at = self.wake_at.min(step.now.mono.plus(self.order.patience));
                }
            }
            (_, Err(refusal)) => {
                self.failures.refused(owner, refusal);
                self.tally.fail(index);
            }
            _ => return,
        }
        self.settle(step);
    }

    fn show(&mut self, index: u8, accepted: Option<Accepted>) {
        if let Some(slot) = self.shown.get_mut(usize::from(index)) {
            *slot = Some(accepted);
        }
        self.tally.succeed(index);
    }

    /// An owner cannot be reached any more; what it was asked may have arrived.
    pub fn on_unreachable(&mut self, index: u8, step: &mut Step<'_>) {
        if self.waits_for(index) {
            self.miss(index);
            self.settle(step);
        }
    }

    /// A deadline has come.
    pub fn on_time(&mut self, step: &mut Step<'_>) {
        if self.state == State::Answered {
            return;
        }
        if step.now.mono >= self.order.deadline {
            let waited = self.state == State::Waiting;
            let (code, message) = if self.lost > 0 || self.outbid || waited {
                (ErrorCode::Contention, "others kept changing the key until the deadline")
            } else {
                (ErrorCode::DeadlineExceeded, "deadline passed before a majority of owners agreed")
            };
            return self.finish_error(OpError::new(code, message), step);
        }
        if step.now.mono < self.wake_at {
            return;
        }
        match self.state {
            State::Looking if self.tally.outcome() == Outcome::Reached => self.look_further(step),
            State::Preparing | State::Accepting if self.outbid => self.rest(step),
            State::Looking | State::Preparing | State::Accepting => {
                crate::sometimes!("register: asks an owner again");
                self.ask(!self.tally.answered() & step.reachable, step);
            }
            State::Resting => self.bid(step),
            State::Waiting | State::Stamping | State::Answered => self.wake_at = Time(u64::MAX),
        }
    }

    fn asks(&self) -> bool {
        matches!(self.state, State::Looking | State::Preparing | State::Accepting)
    }

    fn look(&mut self, step: &mut Step<'_>) {
        self.looks += 1;
        self.enter(State::Looking, step);
    }

    /// What was looked at is not decided: once more, as a write may have been on its way; then this
    /// read has it decided itself.
    fn look_further(&mut self, step: &mut Step<'_>) {
        if self.looks < LOOKS_MAX {
            return self.look(step);
        }
        self.write_again(step);
    }

    /// Has what this read found decided, by a round of its own.
    fn write_again(&mut self, step: &mut Step<'_>) {
        crate::sometimes!("register: a read writes again what it found");
        if let Some(error) = self.order.must_not_stamp.take() {
            return self.finish_error(error, step);
        }
        self.bid(step);
    }

    /// Takes a ballot, and asks for promises.
    fn bid(&mut self, step: &mut Step<'_>) {
        let Attempt { lower, upper, since, .. } = self.order.attempt;
        let lower = lower.max(since);
        match step.clock.stamp(step.now.wall, self.above, lower, upper) {
            Ok(ballot) => {
                self.ballot = ballot;
                self.enter(State::Preparing, step);
            }
            Err(StampError::Ceiling) => {
                self.state = State::Stamping;
                self.wake_at = Time(u64::MAX);
                let own = step.clock.of_record(step.now.wall);
                step.out.push(Action::RaiseCeiling(self.above.time.max(lower).max(own)));
            }
            Err(StampError::AboveUpper) => {
                let message = "the attempt's window of stamps has passed; try again with a new one";
                self.finish_error(OpError::new(ErrorCode::AttemptExpired, message), step);
            }
            Err(StampError::TooFarAhead) => {
                let message = "a ballot for the key is too far ahead of this node's clock to go \
                               above it; check the clocks of the nodes";
                self.finish_error(OpError::new(ErrorCode::ClockBehind, message), step);
            }
        }
    }

    /// Begins a round of questions.
    fn enter(&mut self, state: State, step: &mut Step<'_>) {
        self.state = state;
        self.round += 1;
        if state != State::Accepting {
            self.begun = step.now.mono;
            self.proposal = None;
        }
        self.outbid = false;
        self.tally = self.tally_of(state);
        self.shown = vec![None; self.target.owners.len()];
        self.floor = Stamp::ZERO;
        for index in bits(self.asked() & !step.reachable) {
            self.miss(index);
        }
        if self.tally.outcome() == Outcome::Impossible {
            return self.settle(step);
        }
        self.ask(step.reachable, step);
    }

    /// Whose answers a round needs. Only who is read knows enough to promise, or to show what there is;
    /// what is accepted must be so in each set that is written, and where it is read by owners that are
    /// complete.
    fn tally_of(&self, state: State) -> Tally {
        let (sets, quorum) = (self.target.sets, self.order.quorum);
        match state {
            State::Accepting => Tally::new(sets, quorum).with_whole(quorum),
            _ => Tally::new(sets.only_read(), quorum),
        }
    }

    fn is_moving(&self) -> bool {
        self.target.sets.other != 0
    }

    /// Whom this state asks. A look asks all: what majorities of all sets show is decided.
    fn asked(&self) -> u16 {
        let sets = self.target.sets;
        if self.state == State::Preparing { sets.read } else { sets.all() }
    }

    fn miss(&mut self, index: u8) {
        if let Some(&owner) = self.target.owners.get(usize::from(index)) {
            self.failures.unreachable(owner);
            self.tally.fail(index);
        }
    }

    fn ask(&mut self, owners: u16, step: &mut Step<'_>) {
        let remaining = step.remaining(self.order.deadline);
        let round = RoundId { op: self.target.op, round: self.round };
        let task = match (self.state, &self.proposal) {
            (State::Looking, _) => RegisterTask::Look,
            (State::Accepting, Some((state, _))) => {
                RegisterTask::Accept(self.ballot, state.clone())
            }
            _ => RegisterTask::Prepare(self.ballot),
        };
        for owner in self.target.members(owners & self.asked()) {
            let (place, task) = (self.target.place(), task.clone());
            let ask = RegisterMessage::Ask { round, place, task, remaining };
            step.out.push(Action::Ask(owner, Ask::Register(Box::new(ask))));
        }
        self.wake_at = step.now.mono.plus(self.order.retry_interval);
    }

    fn settle(&mut self, step: &mut Step<'_>) {
        match (self.state, self.tally.outcome()) {
            (State::Looking, Outcome::Reached) => {
                let found = self.finding();
                match look(&found, step.now.wall) {
                    Some(answer) => self.answer(answer, step),
                    // A value whose time is over.
                    None if found.decided => self.write_again(step),
                    // Nobody is left to show what the other set holds.
                    None if self.is_moving() && self.tally.silent(self.asked()) == 0 => {
                        self.look_further(step);
                    }
                    None => {
                        crate::sometimes!("register: a look finds nothing decided");
                        let patience = step.now.mono.plus(self.order.patience);
                        self.wake_at = self.wake_at.min(patience);
                    }
                }
            }
            (State::Preparing, Outcome::Reached) => self.decide(step),
            (State::Accepting, Outcome::Reached) => {
                if let Some((_, answer)) = self.proposal.take() {
                    self.answer(answer, step);
                }
            }
            (State::Preparing | State::Accepting, Outcome::Impossible) if self.outbid => {
                self.rest(step);
            }
            (State::Looking | State::Preparing | State::Accepting, Outcome::Impossible) => {
                let time = step.clock.of_record(step.now.wall);
                let count = (self.tally.needed(), self.tally.got());
                let applied = self.applied();
                let error = self.failures.error(count, applied, self.target.epoch, time);
                self.finish(Err(error), step);
            }
            _ => {}
        }
    }

    fn finding(&self) -> Finding {
        let sets = self.target.sets;
        let mut found = self.found_in(sets.all());
        if self.is_moving() {
            let newest = |found: &Finding| found.newest.as_ref().map(Accepted::rank);
            let agreed = |set: u16| {
                let of = self.found_in(set);
                of.decided && newest(&of) == newest(&found)
            };
            found.decided = sets.each().all(agreed);
        }
        found
    }

    /// What these members have shown comes to.
    fn found_in(&self, set: u16) -> Finding {
        let of = |(at, _): &(usize, &Option<Option<Accepted>>)| set & (1 << at) != 0;
        let shown =
            self.shown.iter().enumerate().filter(of).filter_map(|(_, shown)| shown.as_ref());
        Finding::of(shown.map(Option::as_ref), usize::from(count(set)) / 2 + 1)
    }

    fn decide(&mut self, step: &mut Step<'_>) {
        let found = self.finding();
        let attempt = &self.order.attempt;
        let earlier = (attempt.number > 0).then_some(attempt.since);
        let own = self.sent.map(|ballot| WallTime(ballot.time.0.saturating_sub(1)));
        let since = match (earlier, own) {
            (Some(earlier), Some(own)) => Some(earlier.min(own)),
            (earlier, own) => earlier.or(own),
        };
        let (id, ballot, floor) = (attempt.id, self.ballot, self.floor);
        let basis = Basis { id, ballot, wall: step.now.wall, since, floor };
        let Decision { propose, answer, changes } = decide(&self.order.goal, &found, &basis);
        let Some(state) = propose else { return self.answer(answer, step) };
        if changes && self.sent.is_none() && !crate::mutant!("register-no-too-early") {
            self.sent = Some(self.ballot);
        }
        self.proposal = Some((state, answer));
        self.enter(State::Accepting, step);
    }

    /// Outbid: waits, up to as long as this round took, doubled with each ballot lost.
    fn rest(&mut self, step: &mut Step<'_>) {
        crate::sometimes!("register: outbid");
        self.lost += 1;
        self.round += 1;
        self.state = State::Resting;
        self.proposal = None;
        let took = step.now.mono.since(self.begun).max(Duration::from_millis(1));
        let most = took.saturating_mul(1 << self.lost.min(6)).min(REST_MAX);
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        self.wake_at = step.now.mono.plus(Duration::from_micros(self.rng.u64(0..=micros)));
    }

    /// What is known of the change when it ends without an answer.
    pub fn applied(&self) -> Applied {
        if self.sent.is_some() { Applied::Unknown } else { Applied::No }
    }

    fn answer(&mut self, answer: Answer, step: &mut Step<'_>) {
        let result = match answer {
            Answer::Holds(record, stamp) => {
                Ok(Reply::Get(GetReply { record, receipt: self.receipt(stamp, step) }))
            }
            Answer::Made(stamp) => {
                let receipt = self.receipt(stamp, step);
                Ok(match self.order.goal {
                    Goal::Cas(..) => Reply::Cas(CasReply { applied: true, current: None, receipt }),
                    _ => Reply::Put(PutReply { receipt }),
                })
            }
            Answer::Added(stamp, value) => {
                let receipt = self.receipt(stamp, step);
                Ok(Reply::Increment(IncrementReply { value, receipt }))
            }
            Answer::NoCounter => {
                let message = "the key holds a value that is no number in decimal";
                Err(OpError::new(ErrorCode::CounterMismatch, message))
            }
            Answer::Overflow => {
                let message = "the counter would leave the bounds -2^63..2^63 - 1";
                Err(OpError::new(ErrorCode::CounterOverflow, message))
            }
            Answer::Differs(current, stamp) => {
                let receipt = self.receipt(stamp, step);
                Ok(Reply::Cas(CasReply { applied: false, current, receipt }))
            }
            Answer::Became(fate) => {
                let stamp = match fate {
                    crate::message::Fate::Applied(stamp) => stamp,
                    crate::message::Fate::Cancelled => self.ballot,
                };
                Ok(Reply::Outcome(OutcomeReply { fate, receipt: self.receipt(stamp, step) }))
            }
            Answer::GivenUp => {
                let message = "the change was given up for good when its outcome was asked for";
                Err(OpError::new(ErrorCode::RequestCancelled, message))
            }
            Answer::Forgotten => {
                let message = "the key does not remember whether it has seen the request";
                let error = OpError::new(ErrorCode::OutcomeForgotten, message);
                Err(error.with_applied(Applied::Unknown))
            }
        };
        match result {
            Ok(reply) => self.finish(Ok(reply), step),
            Err(error) => self.finish(Err(self.with_facts(error, step)), step),
        }
    }

    fn receipt(&self, stamp: Stamp, step: &Step<'_>) -> Receipt {
        Receipt {
            epoch: self.target.epoch,
            stamp,
            answered: self.tally.answered(),
            n: self.target.n(),
            needed: self.order.quorum,
            server_time: step.clock.of_record(step.now.wall),
            trace: self.order.trace,
            ..Receipt::default()
        }
    }

    fn with_facts(&self, mut error: OpError, step: &Step<'_>) -> OpError {
        error.facts.epoch = Some(self.target.epoch);
        error.facts.server_time = Some(step.clock.of_record(step.now.wall));
        error
    }

    /// Ends without an answer.
    fn finish_error(&mut self, error: OpError, step: &mut Step<'_>) {
        let error = self.with_facts(error.with_applied(self.applied()), step);
        self.finish(Err(error), step);
    }

    fn finish(&mut self, result: ClientResult, step: &mut Step<'_>) {
        self.state = State::Answered;
        self.wake_at = Time(u64::MAX);
        step.out.push(Action::Reply(Box::new(result)));
        step.out.push(Action::Done);
    }
}

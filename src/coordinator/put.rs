//! One put or delete: stamp, ask every owner, answer at w, go on counting and asking again.
//!
//! A put that finds a higher stamp at a replica is stamped once more, above the highest stamp
//! among the answers that made its first round, and sent again before it is acknowledged: with
//! 2w > n every earlier acknowledged put is among those answers, so a put that begins after
//! another was acknowledged wins, whatever the clocks said. What a second round finds above it
//! was not acknowledged before this put began: it supersedes, and that owner counts.
//!
//! A batch is a put of several keys of one unit: one stamp, one question to each owner, one answer of
//! it for all keys. `docs/protocol/batch.md`.

use core::time::Duration;

use crate::message::{
    Applied, Attempt, DiskError, ErrorCode, Kept, OpError, PutReply, Receipt, Refusal, Reply,
    RoundId, WriteOutcome,
};
use crate::types::{Key, NodeId, Record, Stamp, Time, TraceId, Value, WallTime};

use super::failure::{Failures, no_ceiling};
use super::seats::{Seats, Sitter, is_away, may_have_kept};
use super::tally::count;
use super::{Action, Ask, Outcome, StampError, Step, Tally, Target};

/// A put or delete in flight.
#[derive(Clone, Debug)]
pub struct Put {
    target: Target,
    value: Option<Value>,
    ttl: Option<Duration>,
    rest: Vec<PutItem>,
    attempt: Attempt,
    /// The time its client has given; it is never stamped again then.
    time: Option<WallTime>,
    weak: bool,
    trace: TraceId,
    deadline: Time,
    retry_interval: Duration,
    own: u16,
    state: State,
    stamp: Stamp,
    /// The highest stamp that superseded ours in any round.
    highest: Stamp,
    /// The same of this round: this version has lost to it.
    lost_to: Option<Stamp>,
    round: u32,
    w: u8,
    whole: u8,
    earlier: Option<Stamp>,
    tally: Tally,
    seats: Seats,
    failures: Failures,
    /// The client has been told that it succeeded.
    acknowledged: bool,
    /// Some owner may hold, or come to hold, one of our versions.
    traces_left: bool,
    retry_at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The stamp waits for the clock's ceiling.
    Stamping,
    /// Owners have been asked.
    Asking,
    /// The client has its answer; the other owners are still counted and asked.
    Answered,
}

/// One more key of a batch.
#[derive(Clone, Debug)]
pub struct PutItem {
    /// The key, of the unit of the others and none of them.
    pub key: Key,
    /// As in [`PutOrder`].
    pub value: Option<Value>,
    /// As in [`PutOrder`].
    pub ttl: Option<Duration>,
}

/// What a put is made of, beside its place.
#[derive(Clone, Debug)]
pub struct PutOrder {
    /// The value; `None` deletes.
    pub value: Option<Value>,
    /// How long the value lives, counted from its stamp; `None`: for ever. Ignored by deletes.
    pub ttl: Option<Duration>,
    /// Of a batch, what is written beside. Stand-ins take no batches: `stand_ins` is empty then.
    pub rest: Vec<PutItem>,
    /// The client's attempt.
    pub attempt: Attempt,
    /// The time of its stamp, if its client has given one: then `attempt` has an id, and no window.
    pub time: Option<WallTime>,
    /// The quorum, of each write set.
    pub w: u8,
    /// How many complete owners of the set that is read must be among those that answer: without them
    /// the put could miss a higher stamp that was acknowledged, and lose to it.
    pub whole: u8,
    /// Below the floors.
    pub weak: bool,
    /// The request's.
    pub trace: TraceId,
    /// When the answer is no longer wanted.
    pub deadline: Time,
    /// How long an owner may take before it is asked again.
    pub retry_interval: Duration,
    /// This node's own place among the owners. What its own disk was asked cannot be lost on the
    /// way: it is asked again only after it refused.
    pub own: Option<u8>,
    /// The stamp of an attempt under an older fence, which stays, and whether it has been stamped
    /// again: what is above it then was not acknowledged before the put began.
    pub earlier: Option<(Stamp, bool)>,
    /// Who may stand in for owners that are away, in the order of the walk: nobody in a strict
    /// request. At most 16.
    pub stand_ins: Vec<NodeId>,
}

impl Put {
    /// Begins a put. INVARIANT: `order.w` is 1..=n.
    pub fn begin(target: Target, order: PutOrder, step: &mut Step<'_>) -> Put {
        let tally = Tally::new(target.sets, order.w);
        let mut put = Put {
            target,
            ttl: order.ttl.filter(|_| order.value.is_some()),
            value: order.value,
            rest: order.rest,
            attempt: order.attempt,
            time: order.time,
            weak: order.weak,
            trace: order.trace,
            deadline: order.deadline,
            retry_interval: order.retry_interval,
            own: order.own.map_or(0, |index| 1 << index),
            state: State::Stamping,
            stamp: Stamp::ZERO,
            highest: Stamp::ZERO,
            lost_to: None,
            round: u32::from(order.earlier.is_some_and(|(_, again)| again)),
            w: order.w,
            whole: order.whole,
            earlier: order.earlier.map(|(stamp, _)| stamp),
            tally,
            seats: Seats::new(order.stand_ins),
            failures: Failures::default(),
            acknowledged: false,
            traces_left: false,
            retry_at: Time(u64::MAX),
        };
        put.stamp_and_ask(step);
        put
    }

    /// The key's place.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Bytes of the keys and values it holds.
    pub fn bytes(&self) -> usize {
        let of = |key: &Key, value: &Option<Value>| {
            key.as_bytes().len() + value.as_ref().map_or(0, |value| value.as_bytes().len())
        };
        let rest: usize = self.rest.iter().map(|item| of(&item.key, &item.value)).sum();
        of(&self.target.key, &self.value) + rest
    }

    /// Who may stand in.
    pub fn stand_ins(&self) -> &[NodeId] {
        self.seats.stand_ins()
    }

    /// Whether it waits for an answer of `member`.
    pub fn waits_for(&self, member: NodeId) -> bool {
        let sitter = self.seats.sitter(&self.target.owners, member);
        self.state != State::Stamping
            && sitter.is_some_and(|sitter| {
                self.seats.waits_for(sitter) && self.tally.open() & (1 << sitter.seat) != 0
            })
    }

    /// The stamp it has sent its version with, and whether it was stamped again for that.
    pub fn sent(&self) -> Option<(Stamp, bool)> {
        let again = self.round > 1 && self.state != State::Stamping;
        (self.round > 0).then_some((self.stamp, again))
    }

    /// Owners that an acknowledged put has not reached, when it is given up before its end.
    pub fn unreached(&self) -> Vec<NodeId> {
        if !self.acknowledged {
            return Vec::new();
        }
        self.target.members(self.seats.unfilled()).collect()
    }

    /// When [`Put::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        self.deadline.min(self.retry_at)
    }

    /// The clock's ceiling has been raised, or could not be: then this node cannot stamp, and
    /// says so at once, since another one may.
    pub fn on_ceiling(&mut self, raised: Result<(), &DiskError>, step: &mut Step<'_>) {
        if self.state != State::Stamping {
            return;
        }
        let Err(error) = raised else { return self.stamp_and_ask(step) };
        let (code, message) = no_ceiling(error);
        let applied = self.applied();
        self.reply_error(code, &message, applied, step);
    }

    /// An owner, or who stands in for it, has answered.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        round: RoundId,
        (complete, result): (bool, Result<WriteOutcome, Refusal>),
        step: &mut Step<'_>,
    ) {
        if round.round != self.round && !crate::mutant!("stale-round-counts") {
            crate::sometimes!("put: answer to an older round");
            return;
        }
        let Some(sitter) = self.seats.sitter(&self.target.owners, from) else { return };
        let result = match result {
            // As if it held something there: the put is stamped again, above it.
            Err(Refusal::Late { bound }) if self.round == 1 && self.time.is_none() => {
                crate::sometimes!("put: is at or below a gate");
                Ok(WriteOutcome::Superseded(bound))
            }
            result => result,
        };
        match result {
            Ok(outcome) => {
                if let WriteOutcome::Superseded(by) = outcome {
                    self.highest = self.highest.max(by);
                    self.lost_to = self.lost_to.max(Some(by));
                    step.clock.observe(step.now.wall, by);
                }
                self.traces_left = true;
                self.failures.cleared(from);
                self.seats.fill(sitter);
                // What a stand-in does not know, the receipt says.
                self.tally.succeed_as(sitter.seat, complete || sitter.stands_in);
            }
            Err(refusal) => {
                self.traces_left |= may_have_kept(&refusal);
                self.seats.leave(sitter, Some(&refusal));
                if sitter.stands_in || is_away(&refusal) {
                    self.cover(sitter.seat, step);
                }
                self.failures.refused(from, refusal);
                self.fail_if_vacant(sitter.seat);
            }
        }
        self.settle(step);
    }

    /// A member cannot be reached any more; what it was asked may have arrived.
    pub fn on_unreachable(&mut self, member: NodeId, step: &mut Step<'_>) {
        let Some(sitter) = self.seats.sitter(&self.target.owners, member) else { return };
        if self.waits_for(member) {
            self.traces_left = true;
            self.failures.unreachable(member);
            self.seats.leave(sitter, None);
            self.cover(sitter.seat, step);
            self.fail_if_vacant(sitter.seat);
            self.settle(step);
        }
    }

    /// A deadline has come.
    pub fn on_time(&mut self, step: &mut Step<'_>) {
        if step.now.mono >= self.deadline {
            if self.state != State::Answered {
                let applied = self.applied();
                let message = match self.state {
                    State::Stamping => "deadline passed while waiting for the clock's ceiling",
                    State::Asking | State::Answered => "deadline passed before w owners answered",
                };
                self.reply_error(ErrorCode::DeadlineExceeded, message, applied, step);
            }
            self.finish(step);
        } else if step.now.mono >= self.retry_at {
            crate::sometimes!("put: asks an owner again");
            let under_way = self.own & self.tally.open();
            let missing = !self.tally.answered() & step.reachable & !under_way;
            let silent = self.tally.open() & !under_way;
            // From now on a refusal may be the word on one asking while the other is carried out.
            self.traces_left |= missing != 0;
            self.ask(missing, step);
            self.ask_covers(self.seats.covers_open(), step);
            for seat in bits(silent) {
                self.cover(seat, step);
            }
        }
    }

    fn stamp_and_ask(&mut self, step: &mut Step<'_>) {
        let able = self.able(step);
        if able < self.w {
            for owner in self.target.members(!step.reachable) {
                self.failures.unreachable(owner);
            }
            let applied = self.applied();
            let error = self.failure(applied, able, step);
            return self.reply(Err(error), step);
        }
        let Attempt { lower, upper, .. } = self.attempt;
        let stamp = match (self.earlier.take(), self.time) {
            (Some(stamp), _) => Ok(stamp),
            (None, Some(time)) => Ok(Stamp::of_client(time, self.attempt.id)),
            (None, None) => step.clock.stamp(step.now.wall, self.highest, lower, upper),
        };
        match stamp {
            Ok(stamp) => {
                self.stamp = stamp;
                self.state = State::Asking;
                self.round += 1;
                self.lost_to = None;
                self.tally = Tally::new(self.target.sets, self.w).with_whole(self.whole);
                self.seats.begin_round();
                self.ask(step.reachable, step);
                self.ask_covers(self.seats.covered(), step);
                let away = !step.reachable & self.target.sets.all();
                for owner in self.target.members(away) {
                    self.failures.unreachable(owner);
                }
                for seat in bits(away) {
                    self.cover(seat, step);
                    self.fail_if_vacant(seat);
                }
            }
            Err(StampError::Ceiling) => {
                crate::sometimes!("put: waits for the ceiling");
                self.state = State::Stamping;
                let wanted = self.highest.time.max(lower).max(step.clock.of_record(step.now.wall));
                step.out.push(Action::RaiseCeiling(wanted));
            }
            Err(StampError::AboveUpper) => {
                let message = "the attempt's window of stamps has passed; try again with a new one";
                let applied = self.applied();
                self.reply_error(ErrorCode::AttemptExpired, message, applied, step);
            }
            Err(StampError::TooFarAhead) => {
                let message = "a version of the key is too far ahead of this node's clock to \
                               stamp above it; check the clocks of the nodes";
                let applied = self.applied();
                self.reply_error(ErrorCode::ClockBehind, message, applied, step);
            }
        }
    }

    /// Seats that somebody may fill, of the set that has fewest.
    fn able(&self, step: &Step<'_>) -> u8 {
        let free = count(self.seats.free(step.stand_ins));
        let covered = self.seats.covered();
        let of = |set: u16| count(step.reachable & set) + free + count(covered & set);
        self.target.sets.each().map(of).min().unwrap_or(0)
    }

    fn version(&self) -> Record {
        self.record(self.value.as_ref(), self.ttl)
    }

    fn record(&self, value: Option<&Value>, ttl: Option<Duration>) -> Record {
        // From the stamp, not from the clock: a second round moves both, and all owners agree.
        let expiry = ttl.map(|ttl| self.stamp.time.plus(ttl));
        Record { stamp: self.stamp, expiry, value: value.cloned() }
    }

    /// What a batch writes beside its first key.
    fn rest(&self) -> Vec<(Key, Record)> {
        let of = |item: &PutItem| {
            let ttl = item.ttl.filter(|_| item.value.is_some());
            (item.key.clone(), self.record(item.value.as_ref(), ttl))
        };
        self.rest.iter().map(of).collect()
    }

    fn ask(&mut self, owners: u16, step: &mut Step<'_>) {
        let remaining = step.remaining(self.deadline);
        let asked_before = self.retry_at != Time(u64::MAX);
        for owner in self.target.members(owners) {
            let mut ask = self.target.write_ask(self.round, self.version(), true, remaining);
            if !(asked_before && crate::mutant!("batch-acks-part")) {
                ask.rest = self.rest();
            }
            step.out.push(Action::Ask(owner, Ask::Write(Box::new(ask))));
        }
        for seat in bits(owners & self.target.sets.all()) {
            self.seats.asked(Sitter { seat, stands_in: false });
        }
        self.retry_at = step.now.mono.plus(self.retry_interval);
    }

    /// Gives a seat to a stand-in, if there is one, and asks it. Nobody stands in any more once the
    /// client has its answer: what is missing then gets a plain hint.
    fn cover(&mut self, seat: u8, step: &mut Step<'_>) {
        if self.state == State::Asking && self.seats.cover(seat, step.stand_ins) {
            self.ask_covers(1 << seat, step);
        }
    }

    /// Asks those who stand in on these seats.
    fn ask_covers(&mut self, seats: u16, step: &mut Step<'_>) {
        let remaining = step.remaining(self.deadline);
        for seat in bits(seats) {
            let owner = self.target.owners.get(usize::from(seat));
            let (Some(to), Some(owner)) = (self.seats.cover_of(seat), owner) else { continue };
            let mut ask = self.target.write_ask(self.round, self.version(), true, remaining);
            ask.hint_for = Some(*owner);
            step.out.push(Action::Ask(to, Ask::Write(Box::new(ask))));
            self.seats.asked(Sitter { seat, stands_in: true });
        }
    }

    fn fail_if_vacant(&mut self, seat: u8) {
        if self.seats.is_vacant(seat) {
            self.tally.fail(seat);
        }
    }

    fn settle(&mut self, step: &mut Step<'_>) {
        match (self.state, self.tally.outcome()) {
            (State::Asking, Outcome::Reached) => {
                self.seats.count();
                let superseded = self.highest > self.stamp && self.time.is_none();
                let may_restamp = self.round == 1 || crate::mutant!("restamp-unbounded");
                if superseded && may_restamp && !crate::mutant!("no-restamp") {
                    crate::sometimes!("put: stamped again");
                    self.stamp_and_ask(step);
                } else {
                    let receipt = self.receipt(step);
                    self.acknowledged = true;
                    self.reply(Ok(Reply::Put(PutReply { receipt })), step);
                }
            }
            (State::Asking, Outcome::Impossible) => {
                crate::sometimes!("put: fails fast");
                let applied = self.applied();
                let error = self.failure(applied, self.tally.got(), step);
                self.reply(Err(error), step);
            }
            (State::Answered, _) if self.tally.open() == 0 => self.finish(step),
            (State::Stamping | State::Asking | State::Answered, _) => {}
        }
    }

    /// Nothing more is counted: what owners have not taken is kept for them.
    fn finish(&mut self, step: &mut Step<'_>) {
        for owner in self.unreached() {
            step.out.push(Action::Hint(owner, Kept::Version(self.version())));
            for (key, record) in self.rest() {
                step.out.push(Action::HintOf(owner, key, Kept::Version(record)));
            }
        }
        step.out.push(Action::Done);
    }

    /// The error of a quorum that cannot be reached.
    fn failure(&self, applied: Applied, got: u8, step: &Step<'_>) -> OpError {
        let time = step.clock.of_record(step.now.wall);
        let mut error = self.failures.error((self.w, got), applied, self.target.epoch, time);
        if self.time.is_some() && error.code == ErrorCode::ClockAhead {
            // No clock of a node: the client's is ahead of what owners take.
            error.code = ErrorCode::TimeTooFar;
        }
        if self.time.is_some() && error.code == ErrorCode::ClockBehind {
            error.code = ErrorCode::TimeTooOld;
        }
        if self.seats.is_full() {
            // Whatever the owners are down with: there is no room to keep it for them.
            error.code = ErrorCode::Overloaded;
            error.facts.retry_after = Some(Duration::from_secs(1));
        }
        error
    }

    /// What is known of the put while it runs.
    pub fn applied(&self) -> Applied {
        let asked = self.state != State::Stamping || self.round > 0;
        let open = asked && self.tally.open() != 0;
        if self.traces_left || open { Applied::Unknown } else { Applied::No }
    }

    fn receipt(&self, step: &Step<'_>) -> Receipt {
        Receipt {
            epoch: self.target.epoch,
            stamp: self.stamp,
            answered: self.tally.answered(),
            stand_ins: self.seats.counted(),
            may_miss: false,
            n: self.target.n(),
            needed: self.w,
            weak: self.weak,
            repaired: false,
            many_siblings: false,
            superseded_by: self.lost_to.filter(|_| !crate::mutant!("superseded-not-told")),
            server_time: server_time(step, self.stamp.time.max(self.highest.time)),
            trace: self.trace,
        }
    }

    fn reply_error(
        &mut self,
        code: ErrorCode,
        message: &str,
        applied: Applied,
        step: &mut Step<'_>,
    ) {
        let mut error = OpError::new(code, message).with_applied(applied);
        error.facts.epoch = Some(self.target.epoch);
        error.facts.needed = Some(u64::from(self.w));
        error.facts.got = Some(u64::from(self.tally.got()));
        error.facts.server_time = Some(server_time(step, self.highest.time));
        self.reply(Err(error), step);
    }

    fn reply(&mut self, result: Result<Reply, OpError>, step: &mut Step<'_>) {
        let failed = result.is_err();
        step.out.push(Action::Reply(Box::new(result)));
        self.state = State::Answered;
        if failed || self.tally.open() == 0 {
            self.finish(step);
        }
    }
}

/// The places of a bitmap.
pub(super) fn bits(bits: u16) -> impl Iterator<Item = u8> {
    (0..16).filter(move |place| bits & (1 << place) != 0)
}

/// The time a client's next window starts at.
fn server_time(step: &Step<'_>, seen: WallTime) -> WallTime {
    step.clock.of_record(step.now.wall).max(seen)
}

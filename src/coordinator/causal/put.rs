//! One put or delete of a key of a causal table, coordinated by one of its owners: stamp, make the
//! change on this node's own disk, then tell the other owners, and answer at w.
//!
//! Its own disk first, because a name may be told to others only once this node cannot forget that
//! it gave it: what it tells of itself later says "all my writes up to here", and would have the
//! others drop a write that it had lost.

use core::time::Duration;

use crate::causality::{Change, Dot, Payload, Refused, SiblingSet, Write};
use crate::coordinator::failure::{Failures, no_ceiling};
use crate::coordinator::tally::count;
use crate::coordinator::{Action, Ask, ChangeAsk, Outcome, StampError, Step, Tally, Target};
use crate::message::{
    Applied, CausalDone, CausalMessage, CausalPut, Changed, ClientResult, DiskError, ErrorCode,
    OpError, Receipt, Refusal, RoundId,
};
use crate::types::{Stamp, Tenure, Time, WallTime};

use super::gather::{Gather, Piece};
use super::reply;

/// How often a write is stamped again because others of this node came first.
const STAMPS_MAX: u32 = 8;
/// The round of the read before a delete.
const READ_ROUND: u32 = 1;

/// A put or delete in flight.
#[derive(Clone, Debug)]
pub struct CausalWrite {
    target: Target,
    order: CausalWriteOrder,
    state: State,
    stamp: Stamp,
    /// The stamp must be above this.
    above: Stamp,
    stamps: u32,
    round: u32,
    tally: Tally,
    failures: Failures,
    /// What a delete without a context finds.
    gather: Option<Gather>,
    changed: Option<Box<Changed>>,
    retry_at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A delete without a context finds out what there is to delete.
    Reading,
    /// The stamp waits for the clock's ceiling.
    Stamping,
    /// This node's own disk has been asked.
    Changing,
    /// The other owners are being told.
    Telling,
    /// The client has its answer; the other owners are still counted and told.
    Answered,
}

/// What a put is made of, beside its place.
#[derive(Clone, Debug)]
pub struct CausalWriteOrder {
    /// The put.
    pub put: CausalPut,
    /// As whom this node writes.
    pub tenure: Tenure,
    /// This node's place among the owners.
    pub own: u8,
    /// Owners that a delete without a context asks what there is.
    pub r: u8,
    /// When the answer is no longer wanted.
    pub deadline: Time,
    /// How long an owner may take before it is told again.
    pub retry_interval: Duration,
}

impl CausalWrite {
    /// Begins a put. INVARIANT: `order.put.w` and `order.r` are 1..=n.
    pub fn begin(target: Target, order: CausalWriteOrder, step: &mut Step<'_>) -> CausalWrite {
        let tally = Tally::new(target.n(), order.put.w);
        let reads = order.put.value.is_none() && order.put.seen.is_none();
        let gather = reads.then(|| Gather::new(target.n(), order.r));
        if let Some(last) = order.put.seen.as_ref().and_then(crate::causality::CausalContext::last)
        {
            step.clock.observe(step.now.wall, last.stamp());
        }
        let mut write = CausalWrite {
            target,
            order,
            state: if reads { State::Reading } else { State::Stamping },
            stamp: Stamp::ZERO,
            above: Stamp::ZERO,
            stamps: 0,
            round: READ_ROUND,
            tally,
            failures: Failures::default(),
            gather,
            changed: None,
            retry_at: Time(u64::MAX),
        };
        let needed = if reads { write.order.r.max(write.order.put.w) } else { write.order.put.w };
        for owner in write.target.members(!step.reachable) {
            write.failures.unreachable(owner);
        }
        if count(step.reachable) < needed {
            write.fail(Applied::No, step);
        } else if reads {
            write.read(step.reachable, step);
        } else {
            write.stamp_and_change(step);
        }
        write
    }

    /// The key's place.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Bytes of what it holds.
    pub fn bytes(&self) -> usize {
        let value = self.order.put.value.as_ref().map_or(0, |value| value.as_bytes().len());
        let told = self.changed.as_ref().map_or(0, |changed| changed.told.bytes());
        let read = self.gather.as_ref().map_or(0, Gather::bytes);
        self.target.key.as_bytes().len() + value + told + read
    }

    /// Whether it waits for owner `index`.
    pub fn waits_for(&self, index: u8) -> bool {
        match (self.state, &self.gather) {
            (State::Reading, Some(gather)) => gather.tally.open() & (1 << index) != 0,
            (State::Telling | State::Answered, _) => self.tally.open() & (1 << index) != 0,
            _ => false,
        }
    }

    /// When [`CausalWrite::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        self.order.deadline.min(self.retry_at)
    }

    /// The clock's ceiling has been raised, or could not be.
    pub fn on_ceiling(&mut self, raised: Result<(), &DiskError>, step: &mut Step<'_>) {
        if self.state != State::Stamping {
            return;
        }
        let Err(error) = raised else { return self.stamp_and_change(step) };
        let (code, message) = no_ceiling(error);
        self.finish(OpError::new(code, message), step);
    }

    /// An owner has answered the read before a delete.
    pub fn on_read(
        &mut self,
        index: u8,
        (number, of): (u8, u8),
        result: Result<SiblingSet, Refusal>,
        step: &mut Step<'_>,
    ) {
        let Some(&owner) = self.target.owners.get(usize::from(index)) else { return };
        let (State::Reading, Some(gather)) = (self.state, &mut self.gather) else { return };
        match result {
            Ok(set) => {
                gather.take(index, Piece { number, of, set });
            }
            Err(refusal) => {
                gather.tally.fail(index);
                self.failures.refused(owner, refusal);
            }
        }
        self.settle_read(step);
    }

    /// This node's own disk has made the change, or has not.
    pub fn on_changed(
        &mut self,
        round: RoundId,
        result: Result<CausalDone, Refusal>,
        step: &mut Step<'_>,
    ) {
        if self.state != State::Changing || round.round != self.round {
            return;
        }
        match result {
            Ok(CausalDone::Changed(changed)) => {
                self.changed = Some(changed);
                self.state = State::Telling;
                self.tally.succeed(self.order.own);
                for owner in self.target.members(!step.reachable) {
                    if let Some(index) = self.target.index(owner) {
                        self.tally.fail(index);
                    }
                }
                let others = step.reachable & !(1 << self.order.own);
                self.tell(others, step);
                self.settle(step);
            }
            Ok(CausalDone::Refused(Refused::Stale(tick))) if self.stamps < STAMPS_MAX => {
                crate::sometimes!("causal put: stamped again");
                let node = self.target.owners.get(usize::from(self.order.own)).copied();
                let Some(node) = node else { return };
                self.above = Stamp { time: tick.time, counter: tick.counter, node };
                self.state = State::Stamping;
                self.stamp_and_change(step);
            }
            Ok(CausalDone::Refused(refused)) => self.finish(reply::refused_error(refused), step),
            Ok(CausalDone::Read(_) | CausalDone::Merged) => {
                let error = OpError::new(ErrorCode::Internal, "the disk gave another answer");
                self.finish(error.with_applied(Applied::Unknown), step);
            }
            Err(refusal) => {
                // A store that failed while writing may have kept the change.
                let kept =
                    matches!(refusal, Refusal::ReadOnly | Refusal::DiskFull | Refusal::Storage(_));
                let own = self.target.owners.get(usize::from(self.order.own)).copied();
                self.failures = Failures::default();
                if let Some(own) = own {
                    self.failures.refused(own, refusal);
                }
                self.fail(if kept { Applied::Unknown } else { Applied::No }, step);
            }
        }
    }

    /// An owner has been told, or has refused.
    pub fn on_told(
        &mut self,
        index: u8,
        round: RoundId,
        result: Result<(), Refusal>,
        step: &mut Step<'_>,
    ) {
        let Some(&owner) = self.target.owners.get(usize::from(index)) else { return };
        let telling = matches!(self.state, State::Telling | State::Answered);
        if !telling || round.round != self.round {
            return;
        }
        match result {
            Ok(()) => {
                self.failures.cleared(owner);
                self.tally.succeed(index);
            }
            Err(refusal) => {
                self.failures.refused(owner, refusal);
                self.tally.fail(index);
            }
        }
        self.settle(step);
    }

    /// An owner cannot be reached any more.
    pub fn on_unreachable(&mut self, index: u8, step: &mut Step<'_>) {
        let Some(&owner) = self.target.owners.get(usize::from(index)) else { return };
        if !self.waits_for(index) {
            return;
        }
        self.failures.unreachable(owner);
        match &mut self.gather {
            Some(gather) if self.state == State::Reading => {
                gather.tally.fail(index);
                self.settle_read(step);
            }
            _ => {
                self.tally.fail(index);
                self.settle(step);
            }
        }
    }

    /// A deadline has come.
    pub fn on_time(&mut self, step: &mut Step<'_>) {
        if step.now.mono >= self.order.deadline {
            if self.state != State::Answered {
                let message = match self.state {
                    State::Reading => {
                        "deadline passed before r owners said what there is to delete"
                    }
                    State::Stamping => "deadline passed while waiting for the clock's ceiling",
                    State::Changing | State::Telling | State::Answered => {
                        "deadline passed before w owners answered"
                    }
                };
                let error = OpError::new(ErrorCode::DeadlineExceeded, message);
                let applied = self.applied();
                return self.finish(error.with_applied(applied), step);
            }
            step.out.push(Action::Done);
        } else if step.now.mono >= self.retry_at {
            crate::sometimes!("causal put: tells an owner again");
            match (self.state, &self.gather) {
                (State::Reading, Some(gather)) => {
                    let silent = gather.tally.open() & step.reachable;
                    self.read(silent, step);
                }
                (State::Telling | State::Answered, _) => {
                    let missing = !self.tally.answered() & step.reachable;
                    self.tell(missing, step);
                }
                _ => self.retry_at = Time(u64::MAX),
            }
        }
    }

    fn settle_read(&mut self, step: &mut Step<'_>) {
        let Some(gather) = &self.gather else { return };
        match gather.outcome() {
            Outcome::Pending => {}
            Outcome::Reached => {
                self.order.put.seen = Some(gather.merged().context().clone());
                self.gather = None;
                self.state = State::Stamping;
                self.retry_at = Time(u64::MAX);
                self.stamp_and_change(step);
            }
            Outcome::Impossible => self.fail(Applied::No, step),
        }
    }

    fn read(&mut self, owners: u16, step: &mut Step<'_>) {
        let remaining = step.remaining(self.order.deadline);
        let round = RoundId { op: self.target.op, round: READ_ROUND };
        for owner in self.target.members(owners) {
            let place = self.target.place();
            let ask = CausalMessage::Read { round, place, remaining };
            step.out.push(Action::Ask(owner, Ask::Causal(Box::new(ask))));
        }
        self.retry_at = step.now.mono.plus(self.order.retry_interval);
    }

    fn stamp_and_change(&mut self, step: &mut Step<'_>) {
        let attempt = self.order.put.attempt;
        match step.clock.stamp(step.now.wall, self.above, attempt.lower, attempt.upper) {
            Ok(stamp) => {
                self.stamp = stamp;
                self.stamps += 1;
                self.round += 1;
                self.state = State::Changing;
                let round = RoundId { op: self.target.op, round: self.round };
                let place = self.target.place();
                let ask = ChangeAsk { round, place, change: self.change() };
                let Some(&me) = self.target.owners.get(usize::from(self.order.own)) else { return };
                step.out.push(Action::Ask(me, Ask::Change(Box::new(ask))));
            }
            Err(StampError::Ceiling) => {
                self.state = State::Stamping;
                let own = step.clock.of_record(step.now.wall);
                let wanted = self.above.time.max(attempt.lower).max(own);
                step.out.push(Action::RaiseCeiling(wanted));
            }
            Err(StampError::AboveUpper) => {
                let message = "the attempt's window of stamps has passed; try again with a new one";
                self.finish(OpError::new(ErrorCode::AttemptExpired, message), step);
            }
            Err(StampError::TooFarAhead) => {
                let message = "a version of the key is too far ahead of this node's clock to \
                               stamp above it; check the clocks of the nodes";
                self.finish(OpError::new(ErrorCode::ClockBehind, message), step);
            }
        }
    }

    fn change(&self) -> Change {
        let put = &self.order.put;
        let mut dot = Dot::new(self.stamp, self.order.tenure);
        if crate::mutant!("dot-reused") {
            dot.tick.time = WallTime(dot.tick.time.0 / 1_000_000_000 * 1_000_000_000);
            dot.tick.counter = 0;
        }
        let expiry = put.ttl.map(|ttl| self.stamp.time.plus(ttl));
        let write = put.value.clone().map(|value| Write {
            id: put.attempt.id,
            expiry,
            payload: Payload::Here(value),
        });
        Change { dot, write, seen: put.seen.clone().unwrap_or_default() }
    }

    fn tell(&mut self, owners: u16, step: &mut Step<'_>) {
        let Some(changed) = &self.changed else { return };
        let remaining = step.remaining(self.order.deadline);
        let round = RoundId { op: self.target.op, round: self.round };
        for owner in self.target.members(owners) {
            let place = self.target.place();
            let set = changed.told.clone();
            let ask = CausalMessage::Merge { round, place, set, remaining };
            step.out.push(Action::Ask(owner, Ask::Causal(Box::new(ask))));
        }
        self.retry_at = step.now.mono.plus(self.order.retry_interval);
    }

    fn settle(&mut self, step: &mut Step<'_>) {
        match (self.state, self.tally.outcome()) {
            (State::Telling, Outcome::Reached) => {
                let Some(changed) = &self.changed else { return };
                let receipt = self.receipt(step);
                let reply = reply::wrote(&self.target, &changed.seen, changed.siblings, receipt);
                self.reply(Ok(reply), step);
            }
            (State::Telling, Outcome::Impossible) => self.fail(Applied::Unknown, step),
            (State::Answered, _) if self.tally.open() == 0 => step.out.push(Action::Done),
            _ => {}
        }
    }

    fn applied(&self) -> Applied {
        match self.state {
            State::Reading | State::Stamping => Applied::No,
            State::Changing | State::Telling | State::Answered => Applied::Unknown,
        }
    }

    fn receipt(&self, step: &Step<'_>) -> Receipt {
        Receipt {
            epoch: self.target.epoch,
            stamp: self.stamp,
            answered: self.tally.answered(),
            n: self.target.n(),
            needed: self.order.put.w,
            weak: self.order.put.weak,
            repaired: false,
            server_time: step.clock.of_record(step.now.wall).max(self.stamp.time),
            trace: self.order.put.trace,
            ..Receipt::default()
        }
    }

    /// Ends with what the owners have said.
    fn fail(&mut self, applied: Applied, step: &mut Step<'_>) {
        let time = step.clock.of_record(step.now.wall);
        let tally = self.gather.as_ref().map_or(&self.tally, |gather| &gather.tally);
        let count = (tally.needed(), tally.got());
        let error = self.failures.error(count, applied, self.target.epoch, time);
        self.reply(Err(error), step);
    }

    fn finish(&mut self, error: OpError, step: &mut Step<'_>) {
        let mut error = error;
        error.facts.epoch = Some(self.target.epoch);
        error.facts.server_time = Some(step.clock.of_record(step.now.wall));
        self.reply(Err(error), step);
    }

    fn reply(&mut self, result: ClientResult, step: &mut Step<'_>) {
        let failed = result.is_err();
        step.out.push(Action::Reply(Box::new(result)));
        self.state = State::Answered;
        if failed || self.tally.open() == 0 {
            step.out.push(Action::Done);
        }
    }
}

//! One get: ask r owners, one more when they are slow or fail, answer with the newest of r
//! answers, then repair the owners that answered with less.
//!
//! A miss counts like any answer: "not found" also rests on r owners.

use core::time::Duration;

use crate::causality;
use crate::message::{
    Applied, ErrorCode, GetReply, OpError, ReadAsk, Receipt, Refusal, Reply, RoundId,
};
use crate::types::{Record, Stamp, Time, TraceId};

use super::failure::Failures;
use super::{Action, Ask, Outcome, Step, Tally, Target};

/// A get in flight.
#[derive(Clone, Debug)]
pub struct Get {
    target: Target,
    r: u8,
    weak: bool,
    trace: TraceId,
    deadline: Time,
    hedge_after: Duration,
    retry_interval: Duration,
    /// An extra read could not be afforded; the next time is at the retry interval, for free.
    postponed: bool,
    tally: Tally,
    failures: Failures,
    /// Owners asked so far.
    asked: u16,
    /// What each owner that answered holds.
    answers: Vec<(u8, Option<Stamp>)>,
    newest: Option<Record>,
    answered: bool,
    hedge_at: Time,
}

/// What a get is made of, beside its place.
#[derive(Clone, Copy, Debug)]
pub struct GetOrder {
    /// The quorum.
    pub r: u8,
    /// Below the floors.
    pub weak: bool,
    /// The request's.
    pub trace: TraceId,
    /// When the answer is no longer wanted.
    pub deadline: Time,
    /// How long the owners asked may take before one more is asked.
    pub hedge_after: Duration,
    /// When one more is asked though extra reads have used up their share.
    pub retry_interval: Duration,
    /// The owner to ask first: this node, if it is one.
    pub nearest: Option<u8>,
}

impl Get {
    /// Begins a get. INVARIANT: `order.r` is 1..=n.
    pub fn begin(target: Target, order: GetOrder, step: &mut Step<'_>) -> Get {
        let needed =
            if crate::mutant!("read-one-short") && order.r > 1 { order.r - 1 } else { order.r };
        let tally = Tally::new(target.n(), needed);
        let mut get = Get {
            target,
            r: order.r,
            weak: order.weak,
            trace: order.trace,
            deadline: order.deadline,
            // Of nothing, "twice as long" would be nothing again, for ever.
            hedge_after: order.hedge_after.max(Duration::from_millis(1)),
            retry_interval: order.retry_interval,
            postponed: false,
            tally,
            failures: Failures::default(),
            asked: 0,
            answers: Vec::with_capacity(usize::from(order.r)),
            newest: None,
            answered: false,
            hedge_at: Time(u64::MAX),
        };
        step.hedges.deposit();
        for owner in get.target.members(!step.reachable) {
            get.failures.unreachable(owner);
            if let Some(index) = get.target.index(owner) {
                get.tally.fail(index);
            }
        }
        if get.tally.outcome() == Outcome::Impossible {
            get.settle(step);
            return get;
        }
        let mut first = 0;
        if let Some(nearest) = order.nearest {
            first |= step.reachable & (1 << nearest);
        }
        while super::tally::count(first) < order.r {
            let Some(next) = lowest(step.reachable & !first) else { break };
            first |= next;
        }
        if crate::buggify!(0.1) {
            first = step.reachable;
        }
        get.ask(first, step);
        get
    }

    /// The key's place.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Bytes of the key and of the value it holds.
    pub fn bytes(&self) -> usize {
        self.target.key.as_bytes().len() + self.newest.as_ref().map_or(0, Record::bytes)
    }

    /// Whether it waits for an answer of owner `index`, or may ask it yet.
    pub fn waits_for(&self, index: u8) -> bool {
        self.tally.open() & (1 << index) != 0
    }

    /// When [`Get::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        self.deadline.min(self.hedge_at)
    }

    /// An owner has answered.
    pub fn on_answer(
        &mut self,
        index: u8,
        round: RoundId,
        result: Result<Option<Record>, Refusal>,
        step: &mut Step<'_>,
    ) {
        let _ = round; // A get has one round.
        let Some(&owner) = self.target.owners.get(usize::from(index)) else { return };
        if self.tally.answered() & (1 << index) != 0 {
            return;
        }
        match result {
            Ok(record) => {
                if let Some(record) = &record {
                    step.clock.observe(step.now.wall, record.stamp);
                }
                self.answers.push((index, record.as_ref().map(|record| record.stamp)));
                // Expired versions take part: one that was left out would uncover an older one.
                let hides = |record: &Record| {
                    record.is_visible(step.now.wall) || !crate::mutant!("expired-uncovers-older")
                };
                self.newest = causality::newest(self.newest.take(), record.filter(hides));
                self.failures.cleared(owner);
                self.tally.succeed(index);
                if self.answered {
                    self.repair(step);
                }
            }
            Err(refusal) => {
                self.failures.refused(owner, refusal);
                self.tally.fail(index);
                self.ask_one_more(step);
            }
        }
        self.settle(step);
    }

    /// An owner cannot be reached any more.
    pub fn on_unreachable(&mut self, index: u8, step: &mut Step<'_>) {
        let Some(&owner) = self.target.owners.get(usize::from(index)) else { return };
        if self.waits_for(index) {
            self.failures.unreachable(owner);
            self.tally.fail(index);
            self.ask_one_more(step);
            self.settle(step);
        }
    }

    /// A deadline has come.
    pub fn on_time(&mut self, step: &mut Step<'_>) {
        if step.now.mono >= self.deadline {
            if !self.answered {
                let mut error = OpError::new(
                    ErrorCode::DeadlineExceeded,
                    "deadline passed before r owners answered",
                );
                error.facts.epoch = Some(self.target.epoch);
                error.facts.needed = Some(u64::from(self.r));
                error.facts.got = Some(u64::from(self.tally.got()));
                step.out.push(Action::Reply(Box::new(Err(error))));
            }
            step.out.push(Action::Done);
        } else if step.now.mono >= self.hedge_at && !self.answered {
            if !self.postponed && !step.hedges.withdraw() {
                self.postponed = true;
                self.hedge_at = step.now.mono.plus(self.retry_interval);
                return;
            }
            crate::sometimes!("get: asks one more owner");
            if !self.ask_one_more(step) {
                // All have been asked: ask those that are silent again, less and less often.
                self.hedge_after = self.hedge_after.saturating_mul(2);
                let silent = self.tally.open() & self.asked & step.reachable;
                self.ask(silent, step);
            }
        }
    }

    fn ask(&mut self, owners: u16, step: &mut Step<'_>) {
        let remaining = step.remaining(self.deadline);
        for owner in self.target.members(owners) {
            let ask = ReadAsk {
                round: RoundId { op: self.target.op, round: 1 },
                unit: self.target.unit,
                changed_at: self.target.changed_at,
                table: self.target.table,
                key: self.target.key.clone(),
                remaining,
            };
            step.out.push(Action::Ask(owner, Ask::Read(Box::new(ask))));
        }
        self.asked |= owners;
        self.hedge_at = step.now.mono.plus(self.hedge_after);
    }

    fn ask_one_more(&mut self, step: &mut Step<'_>) -> bool {
        if self.answered {
            return false;
        }
        match lowest(step.reachable & self.tally.open() & !self.asked) {
            Some(next) => {
                self.ask(next, step);
                true
            }
            None => false,
        }
    }

    fn settle(&mut self, step: &mut Step<'_>) {
        match self.tally.outcome() {
            Outcome::Reached if !self.answered => {
                self.answered = true;
                self.hedge_at = Time(u64::MAX);
                let repaired = self.repair(step);
                let reply = self.reply(repaired, step);
                step.out.push(Action::Reply(Box::new(Ok(reply))));
            }
            Outcome::Impossible if !self.answered => {
                crate::sometimes!("get: fails fast");
                let time = step.clock.of_record(step.now.wall);
                let error = self.failures.error(&self.tally, Applied::No, self.target.epoch, time);
                step.out.push(Action::Reply(Box::new(Err(error))));
                step.out.push(Action::Done);
                return;
            }
            Outcome::Pending | Outcome::Reached | Outcome::Impossible => {}
        }
        if self.answered && self.tally.open() & self.asked == 0 {
            step.out.push(Action::Done);
        }
    }

    fn reply(&self, repaired: bool, step: &Step<'_>) -> Reply {
        let stamp = self.newest.as_ref().map_or(Stamp::ZERO, |record| record.stamp);
        let record = self.newest.clone().filter(|record| record.is_visible(step.now.wall));
        let receipt = Receipt {
            epoch: self.target.epoch,
            stamp,
            answered: self.tally.answered(),
            n: self.target.n(),
            needed: self.r,
            weak: self.weak,
            repaired,
            server_time: step.clock.of_record(step.now.wall).max(stamp.time),
            trace: self.trace,
        };
        Reply::Get(GetReply { record, receipt })
    }

    /// Sends the newest version to the owners that answered with less; in the background, not
    /// waited for, and not as a fresh write: the clock bound does not apply.
    fn repair(&mut self, step: &mut Step<'_>) -> bool {
        let Some(newest) = self.newest.clone() else { return false };
        let mut repaired = false;
        let remaining = step.remaining(self.deadline);
        for (index, held) in &mut self.answers {
            if held.is_some_and(|stamp| stamp >= newest.stamp) {
                continue;
            }
            let Some(&owner) = self.target.owners.get(usize::from(*index)) else { continue };
            crate::sometimes!("get: repairs a stale owner");
            let fresh = crate::mutant!("fresh-bound-on-repair");
            let mut record = newest.clone();
            if crate::mutant!("repair-without-expiry") {
                record.expiry = None;
            }
            let ask = self.target.write_ask(0, record, fresh, remaining);
            step.out.push(Action::Ask(owner, Ask::Write(Box::new(ask))));
            *held = Some(newest.stamp);
            repaired = true;
        }
        repaired
    }
}

/// The lowest member of a bitmap, as a bitmap.
fn lowest(bits: u16) -> Option<u16> {
    (bits != 0).then(|| bits & bits.wrapping_neg())
}

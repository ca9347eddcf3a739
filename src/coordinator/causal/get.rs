//! One get of a key of a causal table: ask r owners, one more when they are slow or fail, answer
//! with the merge of what they hold, then tell those that lack some of it.

use core::time::Duration;

use crate::coordinator::failure::Failures;
use crate::coordinator::tally::count;
use crate::coordinator::{Action, Ask, Outcome, Step, Target};
use crate::message::{
    Applied, CausalMessage, ErrorCode, OpError, Receipt, Refusal, Reply, RoundId,
};
use crate::types::{Time, TraceId};

use super::gather::{Gather, Piece};
use super::reply;

/// A get in flight.
#[derive(Clone, Debug)]
pub struct CausalGet {
    target: Target,
    order: CausalGetOrder,
    gather: Gather,
    failures: Failures,
    asked: u16,
    answered: bool,
    hedge_after: Duration,
    hedge_at: Time,
}

/// What a get is made of, beside its place.
#[derive(Clone, Copy, Debug)]
pub struct CausalGetOrder {
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
    /// How long before one more is asked though extra reads have used up their share.
    pub retry_interval: Duration,
    /// The owner to ask first: this node, if it is one.
    pub nearest: Option<u8>,
}

impl CausalGet {
    /// Begins a get. INVARIANT: `order.r` is 1..=n.
    pub fn begin(target: Target, order: CausalGetOrder, step: &mut Step<'_>) -> CausalGet {
        let gather = Gather::new(target.n(), order.r);
        let hedge_after = order.hedge_after.max(Duration::from_millis(1));
        let mut get = CausalGet {
            target,
            order,
            gather,
            failures: Failures::default(),
            asked: 0,
            answered: false,
            hedge_after,
            hedge_at: Time(u64::MAX),
        };
        step.hedges.deposit();
        for owner in get.target.members(!step.reachable) {
            get.failures.unreachable(owner);
            if let Some(index) = get.target.index(owner) {
                get.gather.tally.fail(index);
            }
        }
        if get.gather.outcome() == Outcome::Impossible {
            get.settle(step);
            return get;
        }
        let well = step.reachable & step.health.well;
        let mut first = order.nearest.map_or(0, |nearest| well & (1 << nearest));
        while count(first) < order.r {
            let Some(next) = next(step.reachable & !first, step) else { break };
            first |= next;
        }
        // As in a get of another table: by this read one that was left out comes back.
        first |= lowest(step.reachable & step.health.trials & !first).unwrap_or(0);
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

    /// Bytes of the key and the answers it holds.
    pub fn bytes(&self) -> usize {
        self.target.key.as_bytes().len() + self.gather.bytes()
    }

    /// Whether it waits for an answer of owner `index`, or may ask it yet.
    pub fn waits_for(&self, index: u8) -> bool {
        self.gather.tally.open() & (1 << index) != 0
    }

    /// When [`CausalGet::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        self.order.deadline.min(self.hedge_at)
    }

    /// An owner has answered, or a piece of its answer has come.
    pub fn on_read(
        &mut self,
        index: u8,
        (number, of): (u8, u8),
        result: Result<crate::causality::SiblingSet, Refusal>,
        step: &mut Step<'_>,
    ) {
        let Some(&owner) = self.target.owners.get(usize::from(index)) else { return };
        if self.gather.tally.answered() & (1 << index) != 0 {
            return;
        }
        match result {
            Ok(set) => {
                if let Some(last) = set.context().last() {
                    step.clock.observe(step.now.wall, last.stamp());
                }
                if self.gather.take(index, Piece { number, of, set }) {
                    self.failures.cleared(owner);
                    if self.answered {
                        self.repair(step);
                    }
                }
            }
            Err(refusal) => {
                self.failures.refused(owner, refusal);
                self.gather.tally.fail(index);
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
            self.gather.tally.fail(index);
            self.ask_one_more(step);
            self.settle(step);
        }
    }

    /// A deadline has come.
    pub fn on_time(&mut self, step: &mut Step<'_>) {
        if step.now.mono >= self.order.deadline {
            if !self.answered {
                let message = "deadline passed before r owners answered";
                let mut error = OpError::new(ErrorCode::DeadlineExceeded, message);
                error.facts.epoch = Some(self.target.epoch);
                error.facts.needed = Some(u64::from(self.order.r));
                error.facts.got = Some(u64::from(self.gather.tally.got()));
                step.out.push(Action::Reply(Box::new(Err(error))));
            }
            step.out.push(Action::Done);
        } else if step.now.mono >= self.hedge_at && !self.answered {
            self.hedge(step);
        }
    }

    /// Asks one more owner when extra reads can be afforded; when all have been asked, those that
    /// are silent once more, less and less often.
    fn hedge(&mut self, step: &mut Step<'_>) {
        if self.hedge_after < self.order.retry_interval && !step.hedges.withdraw() {
            self.hedge_after = self.order.retry_interval;
            self.hedge_at = step.now.mono.plus(self.hedge_after);
            return;
        }
        if !self.ask_one_more(step) {
            self.hedge_after = self.hedge_after.saturating_mul(2);
            let silent = self.gather.tally.open() & self.asked & step.reachable;
            self.ask(silent, step);
        }
    }

    fn ask(&mut self, owners: u16, step: &mut Step<'_>) {
        let remaining = step.remaining(self.order.deadline);
        let round = RoundId { op: self.target.op, round: 1 };
        for owner in self.target.members(owners) {
            let place = self.target.place();
            let ask = CausalMessage::Read { round, place, remaining };
            step.out.push(Action::Ask(owner, Ask::Causal(Box::new(ask))));
        }
        self.asked |= owners;
        self.hedge_at = step.now.mono.plus(self.hedge_after);
    }

    fn ask_one_more(&mut self, step: &mut Step<'_>) -> bool {
        if self.answered {
            return false;
        }
        let next = next(step.reachable & self.gather.tally.open() & !self.asked, step);
        next.map(|next| self.ask(next, step)).is_some()
    }

    fn settle(&mut self, step: &mut Step<'_>) {
        match self.gather.outcome() {
            Outcome::Reached if !self.answered => {
                self.answered = true;
                self.hedge_at = Time(u64::MAX);
                let repaired = self.repair(step);
                let reply = self.reply(repaired, step);
                step.out.push(Action::Reply(Box::new(Ok(reply))));
            }
            Outcome::Impossible if !self.answered => {
                let time = step.clock.of_record(step.now.wall);
                let count = (self.order.r, self.gather.tally.got());
                let error = self.failures.error(count, Applied::No, self.target.epoch, time);
                step.out.push(Action::Reply(Box::new(Err(error))));
                step.out.push(Action::Done);
                return;
            }
            Outcome::Pending | Outcome::Reached | Outcome::Impossible => {}
        }
        if self.answered && self.gather.tally.open() & self.asked == 0 {
            step.out.push(Action::Done);
        }
    }

    fn reply(&self, repaired: bool, step: &Step<'_>) -> Reply {
        let receipt = Receipt {
            epoch: self.target.epoch,
            stamp: crate::types::Stamp::ZERO,
            answered: self.gather.tally.answered(),
            n: self.target.n(),
            needed: self.order.r,
            weak: self.order.weak,
            repaired,
            server_time: step.clock.of_record(step.now.wall),
            trace: self.order.trace,
            ..Receipt::default()
        };
        reply::read(&self.target, self.gather.merged(), receipt, step.now.wall)
    }

    /// Tells owners that answered with less what they lack; in the background.
    fn repair(&mut self, step: &mut Step<'_>) -> bool {
        let lacking = self.gather.lacking();
        let repaired = !lacking.is_empty();
        let remaining = step.remaining(self.order.deadline);
        for (index, set) in lacking {
            let Some(&owner) = self.target.owners.get(usize::from(index)) else { continue };
            crate::sometimes!("causal get: repairs an owner");
            for set in set.pieces() {
                let round = RoundId { op: self.target.op, round: 0 };
                let place = self.target.place();
                let ask = CausalMessage::Merge { round, place, set, remaining };
                step.out.push(Action::Ask(owner, Ask::Causal(Box::new(ask))));
            }
        }
        repaired
    }
}

/// The owner to ask next: one that has been answering well, where there is one.
fn next(owners: u16, step: &Step<'_>) -> Option<u16> {
    lowest(owners & step.health.well).or_else(|| lowest(owners))
}

/// The lowest member of a bitmap, as a bitmap.
fn lowest(bits: u16) -> Option<u16> {
    (bits != 0).then(|| bits & bits.wrapping_neg())
}

//! One get: ask r owners, one more when they are slow or fail, answer with the newest of r
//! answers, then repair the owners that answered with less.
//!
//! A miss counts like any answer: "not found" also rests on r owners. In a sloppy get stand-ins
//! answer for owners that are away, after all owners that can be asked; owners that are just
//! returning come after the others. Both are told in the receipt: the answer may miss a write.

use core::time::Duration;

use crate::causality;
use crate::message::{
    Applied, ErrorCode, GetReply, OpError, ReadAsk, Receipt, Refusal, Reply, RoundId,
};
use crate::types::{NodeId, Record, Stamp, Time, TraceId};

use super::failure::Failures;
use super::put::bits;
use super::seats::{Seats, Sitter, is_away};
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
    seats: Seats,
    /// Owners that may lack what is held in custody for them.
    returning: u16,
    /// It is not known whether others are.
    unsure: bool,
    failures: Failures,
    /// Seats asked so far.
    asked: u16,
    /// What each owner that answered holds.
    answers: Vec<(u8, Option<Stamp>)>,
    newest: Option<Record>,
    answered: bool,
    hedge_at: Time,
}

/// What a get is made of, beside its place.
#[derive(Clone, Debug)]
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
    /// Who may stand in, as in a put.
    pub stand_ins: Vec<NodeId>,
    /// Owners for which custody is known to be held, where the table may be sloppy.
    pub returning: u16,
    /// The request is sloppy, and some member has not told yet for whom it holds custody.
    pub unsure: bool,
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
            seats: Seats::new(order.stand_ins),
            returning: if crate::mutant!("returning-owner-counts") { 0 } else { order.returning },
            unsure: order.unsure,
            failures: Failures::default(),
            asked: 0,
            answers: Vec::with_capacity(usize::from(order.r)),
            newest: None,
            answered: false,
            hedge_at: Time(u64::MAX),
        };
        step.hedges.deposit();
        let away = !step.reachable & ((1 << get.target.n()) - 1);
        for owner in get.target.members(away) {
            get.failures.unreachable(owner);
        }
        for seat in bits(away) {
            get.cover_or_fail(seat, step);
        }
        if get.tally.outcome() == Outcome::Impossible {
            get.settle(step);
            return get;
        }
        let mut first = 0;
        if let Some(nearest) = order.nearest {
            first |= step.reachable & step.health.well & !get.returning & (1 << nearest);
        }
        while super::tally::count(first) < order.r {
            let Some(next) = get.next_seat(get.able(step) & !first, step) else { break };
            first |= next;
        }
        // One that was left out is asked besides, now and then: by its answer it comes back.
        let tried = step.reachable & step.health.trials & !get.returning & !first;
        first |= lowest(tried & get.tally.open()).unwrap_or(0);
        if crate::buggify!(0.1) {
            first = get.able(step);
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

    /// Who may stand in.
    pub fn stand_ins(&self) -> &[NodeId] {
        self.seats.stand_ins()
    }

    /// Whether it waits for an answer of `member`, or may ask it yet.
    pub fn waits_for(&self, member: NodeId) -> bool {
        let sitter = self.seats.sitter(&self.target.owners, member);
        sitter.is_some_and(|sitter| self.tally.open() & (1 << sitter.seat) != 0)
    }

    /// When [`Get::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        self.deadline.min(self.hedge_at)
    }

    /// An owner, or who stands in for it, has answered.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        round: RoundId,
        result: Result<Option<Record>, Refusal>,
        step: &mut Step<'_>,
    ) {
        let _ = round; // A get has one round.
        let Some(sitter) = self.seats.sitter(&self.target.owners, from) else { return };
        if self.tally.answered() & (1 << sitter.seat) != 0 {
            return;
        }
        match result {
            Ok(record) => {
                if let Some(record) = &record {
                    step.clock.observe(step.now.wall, record.stamp);
                }
                if !sitter.stands_in {
                    self.answers.push((sitter.seat, record.as_ref().map(|record| record.stamp)));
                }
                // Expired versions take part: one that was left out would uncover an older one.
                let hides = |record: &Record| {
                    record.is_visible(step.now.wall) || !crate::mutant!("expired-uncovers-older")
                };
                self.newest = causality::newest(self.newest.take(), record.filter(hides));
                self.failures.cleared(from);
                self.seats.fill(sitter);
                self.tally.succeed(sitter.seat);
                if self.answered {
                    self.repair(step);
                }
            }
            Err(refusal) => {
                let away = sitter.stands_in || is_away(&refusal);
                self.failures.refused(from, refusal);
                self.lose(sitter, away, step);
            }
        }
        self.settle(step);
    }

    /// A member cannot be reached any more.
    pub fn on_unreachable(&mut self, member: NodeId, step: &mut Step<'_>) {
        let Some(sitter) = self.seats.sitter(&self.target.owners, member) else { return };
        if self.waits_for(member) {
            self.failures.unreachable(member);
            self.lose(sitter, true, step);
            self.settle(step);
        }
    }

    /// Somebody will not answer: somebody else must.
    fn lose(&mut self, sitter: Sitter, away: bool, step: &mut Step<'_>) {
        self.seats.leave(sitter, None);
        if away {
            self.cover_or_fail(sitter.seat, step);
        } else {
            self.tally.fail(sitter.seat);
        }
        self.ask_one_more(step);
    }

    /// Gives the seat of an owner that is away to a stand-in, who may then be asked.
    fn cover_or_fail(&mut self, seat: u8, step: &Step<'_>) {
        let covered = self.seats.covered() & (1 << seat) != 0;
        if self.answered || !(covered || self.seats.cover(seat, step.stand_ins)) {
            self.tally.fail(seat);
        } else if !covered {
            self.asked &= !(1 << seat);
        }
    }

    /// Seats on which somebody can be asked.
    fn able(&self, step: &Step<'_>) -> u16 {
        (step.reachable | self.seats.covered()) & self.tally.open()
    }

    /// The seat to ask next: of an owner, then of one that is returning, then of a stand-in; of
    /// owners, those first that have been answering well.
    fn next_seat(&self, seats: u16, step: &Step<'_>) -> Option<u16> {
        let (covered, well) = (self.seats.covered(), step.health.well);
        let well = if crate::mutant!("unwell-still-asked") { u16::MAX } else { well };
        let owners = !self.returning & !covered;
        let classes = [owners & well, owners, !covered & well, !covered, u16::MAX];
        classes.into_iter().find_map(|class| lowest(seats & class))
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
                let silent = self.able(step) & self.asked;
                self.ask(silent, step);
            }
        }
    }

    fn ask(&mut self, seats: u16, step: &mut Step<'_>) {
        let remaining = step.remaining(self.deadline);
        for seat in bits(seats & ((1 << self.target.n()) - 1)) {
            let Some(&owner) = self.target.owners.get(usize::from(seat)) else { continue };
            let cover = self.seats.cover_of(seat);
            let ask = ReadAsk {
                round: RoundId { op: self.target.op, round: 1 },
                unit: self.target.unit,
                changed_at: self.target.changed_at,
                table: self.target.table,
                key: self.target.key.clone(),
                hint_for: cover.map(|_| owner),
                remaining,
            };
            self.seats.asked(Sitter { seat, stands_in: cover.is_some() });
            step.out.push(Action::Ask(cover.unwrap_or(owner), Ask::Read(Box::new(ask))));
        }
        self.asked |= seats;
        self.hedge_at = step.now.mono.plus(self.hedge_after);
    }

    fn ask_one_more(&mut self, step: &mut Step<'_>) -> bool {
        if self.answered {
            return false;
        }
        match self.next_seat(self.able(step) & !self.asked, step) {
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
                self.seats.count();
                self.hedge_at = Time(u64::MAX);
                let repaired = self.repair(step);
                let reply = self.reply(repaired, step);
                step.out.push(Action::Reply(Box::new(Ok(reply))));
            }
            Outcome::Impossible if !self.answered => {
                crate::sometimes!("get: fails fast");
                let time = step.clock.of_record(step.now.wall);
                let counts = (self.tally.needed(), self.tally.got());
                let error = self.failures.error(counts, Applied::No, self.target.epoch, time);
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
            stand_ins: self.seats.counted(),
            may_miss: self.seats.counted() != 0
                || self.tally.answered() & self.returning != 0
                || self.unsure,
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

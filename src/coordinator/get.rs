//! One get: ask r owners, one more when they are slow or fail, answer with the newest of r
//! answers, then repair the owners that answered with less.
//!
//! A miss counts like any answer: "not found" also rests on r owners. In a sloppy get stand-ins
//! answer for owners that are away, after all owners that can be asked; owners that are just
//! returning come after the others. Both are told in the receipt: the answer may miss a write.
//!
//! A monotonic get answers only with what w owners hold (`confirm`), and asks owners to show only what
//! their disks hold: it counts them by it.

use core::time::Duration;

use crate::causality;
use crate::message::{
    Applied, ErrorCode, GetReply, OpError, ReadAsk, Receipt, Refusal, Reply, RoundId, WriteOutcome,
};
use crate::types::{NodeId, Record, Stamp, Time, TraceId};

use super::confirm::Confirm;
use super::failure::Failures;
use super::put::bits;
use super::seats::{Seats, Sitter, is_away};
use super::{Action, Ask, Outcome, Step, Tally, Target};

/// The round of what is written back; reads are the first.
const WRITE_BACK: u32 = 2;

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
    turn: u8,
    /// What each owner that answered holds.
    answers: Vec<(u8, Option<Stamp>)>,
    newest: Option<Record>,
    answered: bool,
    hedge_at: Time,
    /// How many owners must hold what a monotonic get answers with.
    monotonic: Option<u8>,
    /// What it will answer with, once r owners have answered.
    confirm: Option<Confirm<Record>>,
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
    /// The owner to ask first: this node, if it is one that is read.
    pub nearest: Option<u8>,
    /// How many of the others to pass over, round and round, before one is asked: reads of hot keys take turns.
    pub turn: u8,
    /// Who may stand in, as in a put.
    pub stand_ins: Vec<NodeId>,
    /// Owners for which custody is known to be held, where the table may be sloppy.
    pub returning: u16,
    /// The request is sloppy, and some member has not told yet for whom it holds custody.
    pub unsure: bool,
    /// A monotonic get: how many owners must hold what it answers with, 1..=n. Nobody may stand in.
    pub monotonic: Option<u8>,
}

impl Get {
    /// Begins a get. INVARIANT: `order.r` is 1..=n.
    pub fn begin(target: Target, order: GetOrder, step: &mut Step<'_>) -> Get {
        let needed =
            if crate::mutant!("read-one-short") && order.r > 1 { order.r - 1 } else { order.r };
        let tally = Tally::new(target.sets.only_read(), needed);
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
            turn: order.turn,
            answers: Vec::with_capacity(usize::from(order.r)),
            newest: None,
            answered: false,
            hedge_at: Time(u64::MAX),
            monotonic: order.monotonic,
            confirm: None,
        };
        step.hedges.deposit();
        let away = !step.reachable & get.target.sets.read;
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
        sitter.is_some_and(|sitter| {
            self.tally.open() & (1 << sitter.seat) != 0 || self.writes_back_to(sitter.seat)
        })
    }

    fn writes_back_to(&self, seat: u8) -> bool {
        !self.answered && self.confirm.as_ref().is_some_and(|confirm| confirm.waits_for(seat))
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
        if (self.tally.answered() | !self.target.sets.read) & (1 << sitter.seat) != 0 {
            return;
        }
        match result {
            Ok(record) => {
                if let Some(record) = &record {
                    step.clock.observe(step.now.wall, record.stamp);
                }
                if !sitter.stands_in {
                    let stamp = record.as_ref().map(|record| record.stamp);
                    self.answers.push((sitter.seat, stamp));
                    let confirm = self.confirm.as_mut();
                    confirm
                        .filter(|confirm| stamp >= Some(confirm.read().stamp))
                        .into_iter()
                        .for_each(|confirm| confirm.holds(sitter.seat));
                }
                // Expired versions take part: one that was left out would uncover an older one.
                let hides = |record: &Record| {
                    record.is_visible(step.now.wall) || !crate::mutant!("expired-uncovers-older")
                };
                let record = record.filter(hides);
                self.disagree(sitter, record.as_ref());
                self.newest = causality::newest(self.newest.take(), record);
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

    /// Two versions of one stamp, of a time that clients have given: whoever holds the one that does
    /// not stay lacks the other.
    fn disagree(&mut self, from: Sitter, arrived: Option<&Record>) {
        let (Some(newest), Some(arrived)) = (&self.newest, arrived) else { return };
        if newest.stamp != arrived.stamp || newest == arrived {
            return;
        }
        let stays = causality::order(arrived, newest).is_gt();
        for (owner, held) in &mut self.answers {
            let holds_arrived = *owner == from.seat && !from.stands_in;
            if *held == Some(newest.stamp) && holds_arrived != stays {
                *held = None;
            }
        }
    }

    /// A member cannot be reached any more.
    pub fn on_unreachable(&mut self, member: NodeId, step: &mut Step<'_>) {
        let Some(sitter) = self.seats.sitter(&self.target.owners, member) else { return };
        if self.waits_for(member) {
            self.failures.unreachable(member);
            if self.writes_back_to(sitter.seat) {
                self.write_back_failed(sitter.seat, step);
            } else {
                self.lose(sitter, true, step);
            }
            self.settle(step);
        }
    }

    /// An owner has answered what was written back to it.
    pub fn on_stored(
        &mut self,
        from: NodeId,
        result: Result<WriteOutcome, Refusal>,
        step: &mut Step<'_>,
    ) {
        let Some(index) = self.target.index(from).filter(|index| self.writes_back_to(*index))
        else {
            return;
        };
        match result {
            Ok(_) => {
                self.failures.cleared(from);
                let stamp = self.confirm.as_mut().map(|confirm| {
                    confirm.holds(index);
                    confirm.read().stamp
                });
                let told = self.answers.iter_mut().find(|(owner, _)| *owner == index);
                told.into_iter().for_each(|(_, held)| *held = stamp.max(*held));
            }
            Err(refusal) => {
                self.failures.refused(from, refusal);
                self.write_back_failed(index, step);
            }
        }
        self.settle(step);
    }

    fn write_back_failed(&mut self, index: u8, step: &mut Step<'_>) {
        let Some(confirm) = &mut self.confirm else { return };
        confirm.fails(index);
        let next = confirm.next(step.reachable, 0);
        self.write_back(next, step);
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
        classes.into_iter().find_map(|class| in_turn(seats & class, self.turn))
    }

    /// A deadline has come.
    pub fn on_time(&mut self, step: &mut Step<'_>) {
        if step.now.mono >= self.deadline {
            if !self.answered {
                let mut error = OpError::new(
                    ErrorCode::DeadlineExceeded,
                    match self.confirm {
                        Some(_) => "deadline passed before w owners held what was read",
                        None => "deadline passed before r owners answered",
                    },
                );
                let counted = self.confirm.as_ref().map(Confirm::counts);
                let (needed, got) = counted.unwrap_or((self.r, self.tally.got()));
                error.facts.epoch = Some(self.target.epoch);
                error.facts.needed = Some(u64::from(needed));
                error.facts.got = Some(u64::from(got));
                step.out.push(Action::Reply(Box::new(Err(error))));
            }
            step.out.push(Action::Done);
        } else if step.now.mono >= self.hedge_at && !self.answered {
            if let Some(confirm) = &mut self.confirm {
                let silent = confirm.all(step.reachable);
                self.write_back(silent, step);
                self.hedge_at = step.now.mono.plus(self.retry_interval);
                return;
            }
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
        for seat in bits(seats & self.target.sets.read) {
            let Some(&owner) = self.target.owners.get(usize::from(seat)) else { continue };
            let cover = self.seats.cover_of(seat);
            let ask = ReadAsk {
                round: RoundId { op: self.target.op, round: 1 },
                unit: self.target.unit,
                changed_at: self.target.changed_at,
                table: self.target.table,
                key: self.target.key.clone(),
                hint_for: cover.map(|_| owner),
                durable: self.counts_holders(),
                remaining,
            };
            self.seats.asked(Sitter { seat, stands_in: cover.is_some() });
            step.out.push(Action::Ask(cover.unwrap_or(owner), Ask::Read(Box::new(ask))));
        }
        self.asked |= seats;
        self.hedge_at = step.now.mono.plus(self.hedge_after);
    }

    /// Whether owners are counted by what they show: it must not be lost again.
    fn counts_holders(&self) -> bool {
        self.monotonic.is_some() && !crate::mutant!("monotonic-counts-undurable")
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
                match self.confirmed(step) {
                    Outcome::Reached => {}
                    Outcome::Pending => return,
                    Outcome::Impossible => return self.fail_unconfirmed(step),
                }
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

    /// Whether w owners hold what a monotonic get is to answer with; writes it back where they are
    /// not known to.
    fn confirmed(&mut self, step: &mut Step<'_>) -> Outcome {
        let Some(w) = self.monotonic else { return Outcome::Reached };
        if self.confirm.is_none() {
            // Where r owners have nothing, no monotonic get has answered with anything.
            let Some(newest) = self.newest.clone() else { return Outcome::Reached };
            let (mut held, mut lacking) = (0, 0);
            for (index, stamp) in &self.answers {
                let bits = if *stamp >= Some(newest.stamp) { &mut held } else { &mut lacking };
                *bits |= 1 << index;
            }
            let sets = self.target.sets;
            let mut confirm = Confirm::new(newest, (sets, w), held);
            let away = !(step.reachable | held) & sets.all();
            bits(away).for_each(|index| confirm.fails(index));
            let next = confirm.next(step.reachable, lacking);
            self.confirm = Some(confirm);
            if next != 0 {
                crate::sometimes!("get: writes back what it answers with");
                self.write_back(next, step);
                self.hedge_at = step.now.mono.plus(self.hedge_after);
            }
        }
        self.confirm.as_ref().map_or(Outcome::Reached, Confirm::outcome)
    }

    /// Asks owners to take what is to be answered with, and waits for them: not a fresh write.
    fn write_back(&mut self, owners: u16, step: &mut Step<'_>) {
        let remaining = step.remaining(self.deadline);
        let Some(confirm) = &self.confirm else { return };
        for owner in self.target.members(owners) {
            let record = confirm.read().clone();
            let ask = self.target.write_ask(WRITE_BACK, record, false, remaining);
            step.out.push(Action::Ask(owner, Ask::Write(Box::new(ask))));
        }
    }

    fn fail_unconfirmed(&mut self, step: &mut Step<'_>) {
        let counts = self.confirm.as_ref().map(Confirm::counts).unwrap_or_default();
        let time = step.clock.of_record(step.now.wall);
        let error = self.failures.error(counts, Applied::No, self.target.epoch, time);
        step.out.push(Action::Reply(Box::new(Err(error))));
        step.out.push(Action::Done);
    }

    fn reply(&self, repaired: bool, step: &Step<'_>) -> Reply {
        // What came later than what w owners hold is not answered with.
        let newest = self.confirm.as_ref().map(Confirm::read).or(self.newest.as_ref());
        let stamp = newest.map_or(Stamp::ZERO, |record| record.stamp);
        let record = newest.filter(|record| record.is_visible(step.now.wall)).cloned();
        let receipt = Receipt {
            epoch: self.target.epoch,
            stamp,
            answered: self.tally.answered(),
            stand_ins: self.seats.counted(),
            may_miss: self.seats.counted() != 0
                || self.tally.answered() & self.returning != 0
                || self.unsure,
            n: self.target.sets.n(),
            needed: self.r,
            weak: self.weak,
            repaired,
            many_siblings: false,
            superseded_by: None,
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
        if repaired {
            // Who is written and not read has not been asked, and may lack it as well.
            let sets = self.target.sets;
            for owner in self.target.members(sets.all() & !sets.read) {
                let ask = self.target.write_ask(0, newest.clone(), false, remaining);
                step.out.push(Action::Ask(owner, Ask::Write(Box::new(ask))));
            }
        }
        repaired
    }
}

/// The lowest member of a bitmap, as a bitmap.
fn lowest(bits: u16) -> Option<u16> {
    (bits != 0).then(|| bits & bits.wrapping_neg())
}

/// One of these, after `turn` others of them, round and round.
pub(super) fn in_turn(mut bits: u16, turn: u8) -> Option<u16> {
    let over = u32::from(turn).checked_rem(bits.count_ones())?;
    for _ in 0..over {
        bits &= bits.wrapping_sub(1);
    }
    lowest(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_those_that_are_there() {
        let turns = |bits| (0..5).map(|turn| in_turn(bits, turn)).collect::<Vec<_>>();
        assert_eq!(turns(0b1101), [1, 4, 8, 1, 4].map(Some));
        assert_eq!(turns(0b0100), [Some(4); 5]);
        assert_eq!(turns(0), [None; 5]);
    }
}

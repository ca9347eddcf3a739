//! One get of a key of a causal table: ask r owners, one more when they are slow or fail, answer
//! with the merge of what they hold, then tell those that lack some of it.
//!
//! In a sloppy get stand-ins answer for owners that are away, as in a get of another table. A
//! monotonic one answers only with what w owners hold.

use core::time::Duration;

use crate::causality::SiblingSet;
use crate::coordinator::failure::Failures;
use crate::coordinator::get::in_turn;
use crate::coordinator::put::bits;
use crate::coordinator::seats::{Seats, Sitter, is_away};
use crate::coordinator::tally::count;
use crate::coordinator::{Action, Ask, GetOrder, Outcome, Step, Target};
use crate::message::{
    Applied, CausalMessage, ErrorCode, OpError, Receipt, Refusal, Reply, RoundId,
};
use crate::types::{NodeId, Time};

use super::gather::{Gather, Piece};
use super::reply;
use super::write_back::WriteBack;

/// A get in flight.
#[derive(Clone, Debug)]
pub struct CausalGet {
    target: Target,
    order: GetOrder,
    gather: Gather,
    seats: Seats,
    failures: Failures,
    /// Seats asked so far.
    asked: u16,
    answered: bool,
    hedge_after: Duration,
    hedge_at: Time,
    /// What a monotonic get will answer with, once r owners have answered.
    back: Option<WriteBack>,
}

impl CausalGet {
    /// Begins a get. INVARIANT: `order.r` is 1..=n.
    pub fn begin(target: Target, mut order: GetOrder, step: &mut Step<'_>) -> CausalGet {
        let gather = Gather::new(&target, order.r);
        let seats = Seats::new(core::mem::take(&mut order.stand_ins));
        let hedge_after = order.hedge_after.max(Duration::from_millis(1));
        if crate::mutant!("returning-owner-counts") {
            order.returning = 0;
        }
        let mut get = CausalGet {
            target,
            order,
            gather,
            seats,
            failures: Failures::default(),
            asked: 0,
            answered: false,
            hedge_after,
            hedge_at: Time(u64::MAX),
            back: None,
        };
        step.hedges.deposit();
        let away = !step.reachable & get.target.sets.read;
        for owner in get.target.members(away) {
            get.failures.unreachable(owner);
        }
        for seat in bits(away) {
            get.cover_or_fail(seat, step);
        }
        if get.gather.outcome() == Outcome::Impossible {
            get.settle(step);
            return get;
        }
        let returning = get.order.returning;
        let well = step.reachable & step.health.well & !returning;
        let mut first = get.order.nearest.map_or(0, |nearest| well & (1 << nearest));
        while count(first) < get.order.r {
            let Some(next) = get.next_seat(get.able(step) & !first, step) else { break };
            first |= next;
        }
        // As in a get of another table: by this read one that was left out comes back.
        let tried = step.reachable & step.health.trials & !returning & !first;
        first |= lowest(tried & get.gather.tally.open()).unwrap_or(0);
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

    /// Bytes of the key and the answers it holds.
    pub fn bytes(&self) -> usize {
        let back = self.back.as_ref().map_or(0, WriteBack::bytes);
        self.target.key.as_bytes().len() + self.gather.bytes() + back
    }

    /// Who may stand in.
    pub fn stand_ins(&self) -> &[NodeId] {
        self.seats.stand_ins()
    }

    /// Whether it waits for an answer of `member`, or may ask it yet.
    pub fn waits_for(&self, member: NodeId) -> bool {
        let sitter = self.seats.sitter(&self.target.owners, member);
        sitter.is_some_and(|sitter| {
            self.gather.tally.open() & (1 << sitter.seat) != 0 || self.writes_back_to(sitter)
        })
    }

    fn writes_back_to(&self, sitter: Sitter) -> bool {
        let waits = |back: &WriteBack| back.confirm.waits_for(sitter.seat);
        !self.answered && !sitter.stands_in && self.back.as_ref().is_some_and(waits)
    }

    /// When [`CausalGet::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        self.order.deadline.min(self.hedge_at)
    }

    /// An owner, or who stands in for it, has answered, or a piece of its answer has come.
    pub fn on_read(
        &mut self,
        from: NodeId,
        (number, of): (u8, u8),
        result: Result<SiblingSet, Refusal>,
        step: &mut Step<'_>,
    ) {
        let Some(sitter) = self.seats.sitter(&self.target.owners, from) else { return };
        let done = self.gather.tally.answered() | !self.target.sets.read;
        if done & (1 << sitter.seat) != 0 {
            return;
        }
        match result {
            Ok(set) => {
                if let Some(last) = set.context().last() {
                    step.clock.observe(step.now.wall, last.stamp());
                }
                if self.gather.take(sitter, Piece { number, of, set }) {
                    self.failures.cleared(from);
                    self.seats.fill(sitter);
                    self.note_held(sitter);
                    if self.answered {
                        self.repair(step);
                    }
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

    /// An owner answers late, and may hold all that is being confirmed.
    fn note_held(&mut self, sitter: Sitter) {
        let (Some(back), Some(held)) = (&mut self.back, self.gather.of_owner(sitter.seat)) else {
            return;
        };
        if back.confirm.read().beyond(held).is_none() {
            back.confirm.holds(sitter.seat);
        }
    }

    /// An owner has answered what was written back to it.
    pub fn on_merged(
        &mut self,
        from: NodeId,
        round: RoundId,
        result: Result<(), Refusal>,
        step: &mut Step<'_>,
    ) {
        let sitter = self.seats.sitter(&self.target.owners, from);
        let Some(sitter) = sitter.filter(|sitter| self.writes_back_to(*sitter)) else { return };
        match result {
            Ok(()) => {
                self.failures.cleared(from);
                if let Some(back) = &mut self.back
                    && back.stored(sitter.seat, round.round)
                {
                    self.gather.told(sitter.seat, back.confirm.read());
                }
            }
            Err(refusal) => {
                self.failures.refused(from, refusal);
                self.write_back_failed(sitter.seat, step);
            }
        }
        self.settle(step);
    }

    /// A member cannot be reached any more.
    pub fn on_unreachable(&mut self, member: NodeId, step: &mut Step<'_>) {
        let Some(sitter) = self.seats.sitter(&self.target.owners, member) else { return };
        if self.waits_for(member) {
            self.failures.unreachable(member);
            if self.writes_back_to(sitter) {
                self.write_back_failed(sitter.seat, step);
            } else {
                self.lose(sitter, true, step);
            }
            self.settle(step);
        }
    }

    /// A deadline has come.
    pub fn on_time(&mut self, step: &mut Step<'_>) {
        if step.now.mono >= self.order.deadline {
            if !self.answered {
                let message = match self.back {
                    Some(_) => "deadline passed before w owners held what was read",
                    None => "deadline passed before r owners answered",
                };
                let mut error = OpError::new(ErrorCode::DeadlineExceeded, message);
                let (needed, got) = self.counts();
                error.facts.epoch = Some(self.target.epoch);
                error.facts.needed = Some(u64::from(needed));
                error.facts.got = Some(u64::from(got));
                step.out.push(Action::Reply(Box::new(Err(error))));
            }
            step.out.push(Action::Done);
        } else if step.now.mono >= self.hedge_at && !self.answered {
            if let Some(back) = &mut self.back {
                let silent = back.confirm.all(step.reachable);
                self.write_back(silent, step);
                self.hedge_at = step.now.mono.plus(self.order.retry_interval);
                return;
            }
            self.hedge(step);
        }
    }

    /// How many are needed now, and have answered.
    fn counts(&self) -> (u8, u8) {
        match &self.back {
            Some(back) => back.confirm.counts(),
            None => (self.order.r, self.gather.tally.got()),
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
            let silent = self.able(step) & self.asked;
            self.ask(silent, step);
        }
    }

    /// Seats on which somebody can be asked.
    fn able(&self, step: &Step<'_>) -> u16 {
        (step.reachable | self.seats.covered()) & self.gather.tally.open()
    }

    /// The seat to ask next: as in a get of another table.
    fn next_seat(&self, seats: u16, step: &Step<'_>) -> Option<u16> {
        let (covered, well) = (self.seats.covered(), step.health.well);
        let owners = !self.order.returning & !covered;
        let classes = [owners & well, owners, !covered & well, !covered, u16::MAX];
        classes.into_iter().find_map(|class| in_turn(seats & class, self.order.turn))
    }

    /// Somebody will not answer: somebody else must.
    fn lose(&mut self, sitter: Sitter, away: bool, step: &mut Step<'_>) {
        self.seats.leave(sitter, None);
        self.gather.forget(sitter);
        if away {
            self.cover_or_fail(sitter.seat, step);
        } else {
            self.gather.tally.fail(sitter.seat);
        }
        self.ask_one_more(step);
    }

    /// Gives the seat of an owner that is away to a stand-in, who may then be asked.
    fn cover_or_fail(&mut self, seat: u8, step: &Step<'_>) {
        let covered = self.seats.covered() & (1 << seat) != 0;
        if self.answered || !(covered || self.seats.cover(seat, step.stand_ins)) {
            self.gather.tally.fail(seat);
        } else if !covered {
            self.asked &= !(1 << seat);
        }
    }

    fn ask(&mut self, seats: u16, step: &mut Step<'_>) {
        let remaining = step.remaining(self.order.deadline);
        let round = RoundId { op: self.target.op, round: 1 };
        for seat in bits(seats & self.target.sets.read) {
            let Some(&owner) = self.target.owners.get(usize::from(seat)) else { continue };
            let (place, cover) = (self.target.place(), self.seats.cover_of(seat));
            let hint_for = cover.map(|_| owner);
            let ask = CausalMessage::Read { round, place, hint_for, remaining };
            self.seats.asked(Sitter { seat, stands_in: cover.is_some() });
            step.out.push(Action::Ask(cover.unwrap_or(owner), Ask::Causal(Box::new(ask))));
        }
        self.asked |= seats;
        self.hedge_at = step.now.mono.plus(self.hedge_after);
    }

    fn ask_one_more(&mut self, step: &mut Step<'_>) -> bool {
        if self.answered {
            return false;
        }
        let next = self.next_seat(self.able(step) & !self.asked, step);
        next.map(|next| self.ask(next, step)).is_some()
    }

    fn settle(&mut self, step: &mut Step<'_>) {
        match self.gather.outcome() {
            Outcome::Reached if !self.answered => {
                match self.confirmed(step) {
                    Outcome::Reached => {}
                    Outcome::Pending => return,
                    Outcome::Impossible => return self.fail(step),
                }
                self.answered = true;
                self.seats.count();
                self.hedge_at = Time(u64::MAX);
                let repaired = self.repair(step);
                let reply = self.reply(repaired, step);
                step.out.push(Action::Reply(Box::new(Ok(reply))));
            }
            Outcome::Impossible if !self.answered => return self.fail(step),
            Outcome::Pending | Outcome::Reached | Outcome::Impossible => {}
        }
        if self.answered && self.gather.tally.open() & self.asked == 0 {
            step.out.push(Action::Done);
        }
    }

    fn fail(&mut self, step: &mut Step<'_>) {
        let time = step.clock.of_record(step.now.wall);
        let error = self.failures.error(self.counts(), Applied::No, self.target.epoch, time);
        step.out.push(Action::Reply(Box::new(Err(error))));
        step.out.push(Action::Done);
    }

    /// Whether w owners hold what a monotonic get is to answer with; writes it back where they are
    /// not known to.
    fn confirmed(&mut self, step: &mut Step<'_>) -> Outcome {
        let Some(w) = self.order.monotonic else { return Outcome::Reached };
        if self.back.is_none() {
            // Where r owners have nothing, no monotonic get has answered with anything.
            if self.gather.merged().is_blank() {
                return Outcome::Reached;
            }
            let sets = self.target.sets;
            let around = (step.reachable, !step.reachable & sets.all());
            let (back, next) = WriteBack::new(&self.gather, (sets, w), around);
            self.back = Some(back);
            if next != 0 {
                crate::sometimes!("causal get: writes back what it answers with");
                self.write_back(next, step);
                self.hedge_at = step.now.mono.plus(self.order.retry_interval);
            }
        }
        self.back.as_ref().map_or(Outcome::Reached, |back| back.confirm.outcome())
    }

    /// Asks owners to merge what they lack of what is to be answered with, and waits for them.
    fn write_back(&mut self, owners: u16, step: &mut Step<'_>) {
        let remaining = step.remaining(self.order.deadline);
        let Some(back) = &mut self.back else { return };
        for seat in bits(owners) {
            let Some(&owner) = self.target.owners.get(usize::from(seat)) else { continue };
            for (round, set) in back.pieces(seat, &self.gather) {
                let round = RoundId { op: self.target.op, round };
                let (place, hint_for) = (self.target.place(), None);
                let ask = CausalMessage::Merge { round, place, hint_for, set, remaining };
                step.out.push(Action::Ask(owner, Ask::Causal(Box::new(ask))));
            }
        }
    }

    fn write_back_failed(&mut self, seat: u8, step: &mut Step<'_>) {
        let Some(back) = &mut self.back else { return };
        back.confirm.fails(seat);
        let next = back.confirm.next(step.reachable, 0);
        self.write_back(next, step);
    }

    fn reply(&self, repaired: bool, step: &Step<'_>) -> Reply {
        let receipt = Receipt {
            epoch: self.target.epoch,
            stamp: crate::types::Stamp::ZERO,
            answered: self.gather.tally.answered(),
            stand_ins: self.seats.counted(),
            may_miss: self.seats.counted() != 0
                || self.gather.tally.answered() & self.order.returning != 0
                || self.order.unsure,
            n: self.target.sets.n(),
            needed: self.order.r,
            weak: self.order.weak,
            repaired,
            many_siblings: false,
            superseded_by: None,
            server_time: step.clock.of_record(step.now.wall),
            trace: self.order.trace,
        };
        // What came later than what w owners hold is not answered with.
        let confirmed = self.back.as_ref().map(|back| back.confirm.read());
        let set = confirmed.unwrap_or_else(|| self.gather.merged());
        reply::read(&self.target, set, receipt, step.now.wall)
    }

    /// Tells owners that answered with less what they lack; in the background.
    fn repair(&mut self, step: &mut Step<'_>) -> bool {
        let lacking = self.gather.lacking();
        let repaired = !lacking.is_empty();
        let remaining = step.remaining(self.order.deadline);
        for (seat, set) in lacking {
            let Some(&owner) = self.target.owners.get(usize::from(seat)) else { continue };
            crate::sometimes!("causal get: repairs an owner");
            for set in set.pieces() {
                let round = RoundId { op: self.target.op, round: 0 };
                let (place, hint_for) = (self.target.place(), None);
                let ask = CausalMessage::Merge { round, place, hint_for, set, remaining };
                step.out.push(Action::Ask(owner, Ask::Causal(Box::new(ask))));
            }
        }
        if repaired {
            self.repair_others(step);
        }
        repaired
    }

    /// Those that are written and not read have not been asked, and may lack as much.
    fn repair_others(&self, step: &mut Step<'_>) {
        let (sets, remaining) = (self.target.sets, step.remaining(self.order.deadline));
        for owner in self.target.members(sets.all() & !sets.read) {
            for set in self.gather.merged().clone().pieces() {
                let round = RoundId { op: self.target.op, round: 0 };
                let (place, hint_for) = (self.target.place(), None);
                let ask = CausalMessage::Merge { round, place, hint_for, set, remaining };
                step.out.push(Action::Ask(owner, Ask::Causal(Box::new(ask))));
            }
        }
    }
}

/// The lowest member of a bitmap, as a bitmap.
fn lowest(bits: u16) -> Option<u16> {
    (bits != 0).then(|| bits & bits.wrapping_neg())
}

//! One put or delete of a key of a causal table, coordinated by one of its owners or, where none can
//! be reached, by a stand-in: stamp, make the change on this node's own disk (a stand-in in what it
//! keeps in custody), then tell the other owners or who stands in for them, and answer at w.
//!
//! Its own disk first, because a name may be told to others only once this node cannot forget that
//! it gave it: what it tells of itself later says "all my writes up to here", and would have the
//! others drop a write that it had lost.

mod moved;

use core::time::Duration;

use crate::causality::{Change, Dot, Part, Payload, Refused, SiblingSet, Write};
use crate::coordinator::failure::{Failures, no_ceiling};
use crate::coordinator::put::bits;
use crate::coordinator::seats::{Seats, Sitter, is_away, may_have_kept};
use crate::coordinator::tally::count;
use crate::coordinator::{Action, Ask, ChangeAsk, Outcome, StampError, Step, Tally, Target};
use crate::message::{
    Applied, CausalDone, CausalMessage, Changed, ClientResult, DiskError, ErrorCode, Kept, OpError,
    Receipt, Refusal, RoundId,
};
use crate::types::{NodeId, Stamp, Time, WallTime};

use super::gather::{Gather, Piece};
use super::order::{CausalWriteOrder, Own};
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
    seats: Seats,
    failures: Failures,
    /// The client has been told that it succeeded.
    acknowledged: bool,
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
    /// The other owners, or who stands in for them, are being told.
    Telling,
    /// The client has its answer; the other owners are still counted and told.
    Answered,
}

impl CausalWrite {
    /// Begins a put. INVARIANT: `order.put.w` and `order.r` are 1..=n.
    pub fn begin(target: Target, mut order: CausalWriteOrder, step: &mut Step<'_>) -> CausalWrite {
        let tally = Tally::new(target.sets, order.put.w);
        let reads = order.put.deletes() && order.put.seen.is_none();
        let gather = reads.then(|| Gather::new(&target, order.r));
        if let Some(last) = order.put.seen.as_ref().and_then(crate::causality::CausalContext::last)
        {
            step.clock.observe(step.now.wall, last.stamp());
        }
        let mut seats = Seats::new(core::mem::take(&mut order.stand_ins));
        if order.own.stands_in {
            // The first of them is this node.
            seats.cover(order.own.seat, 0b1);
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
            seats,
            failures: Failures::default(),
            acknowledged: false,
            gather,
            changed: None,
            retry_at: Time(u64::MAX),
        };
        let needed = if reads { write.order.r.max(write.order.put.w) } else { write.order.put.w };
        for owner in write.target.members(!step.reachable) {
            write.failures.unreachable(owner);
        }
        if write.able(step) < needed {
            write.fail(Applied::No, step);
        } else if reads {
            write.begin_reading(step);
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

    /// Who may stand in.
    pub fn stand_ins(&self) -> &[NodeId] {
        self.seats.stand_ins()
    }

    /// Whether it waits for `member`.
    pub fn waits_for(&self, member: NodeId) -> bool {
        let sitter = self.seats.sitter(&self.target.owners, member);
        let Some(sitter) = sitter.filter(|sitter| self.seats.waits_for(*sitter)) else {
            return false;
        };
        match (self.state, &self.gather) {
            (State::Reading, Some(gather)) => gather.tally.open() & (1 << sitter.seat) != 0,
            (State::Telling | State::Answered, _) => self.tally.open() & (1 << sitter.seat) != 0,
            _ => false,
        }
    }

    /// Owners that an acknowledged put has not reached, when it is given up before its end.
    pub fn unreached(&self) -> Vec<NodeId> {
        if !self.acknowledged {
            return Vec::new();
        }
        self.target.members(self.seats.unfilled()).collect()
    }

    /// Seats that somebody may fill, of the set that has fewest.
    fn able(&self, step: &Step<'_>) -> u8 {
        let taken = step.reachable | self.seats.covered();
        let free = count(self.seats.free(step.stand_ins));
        let of = |set: u16| count(taken & set) + count(set & !taken).min(free);
        self.target.sets.each().map(of).min().unwrap_or(0)
    }

    /// Owners that are asked in this state, and cannot be reached.
    fn away(&self, step: &Step<'_>) -> u16 {
        !step.reachable & self.asked()
    }

    /// A read asks those that are read; what was made is told to all.
    fn asked(&self) -> u16 {
        let sets = self.target.sets;
        if self.state == State::Reading { sets.read } else { sets.all() }
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

    /// An owner, or who stands in for it, has answered the read before a delete.
    pub fn on_read(
        &mut self,
        from: NodeId,
        (number, of): (u8, u8),
        result: Result<SiblingSet, Refusal>,
        step: &mut Step<'_>,
    ) {
        let Some(sitter) = self.seats.sitter(&self.target.owners, from) else { return };
        let (State::Reading, Some(gather)) = (self.state, &mut self.gather) else { return };
        if self.target.sets.read & (1 << sitter.seat) == 0 {
            return;
        }
        match result {
            Ok(set) => {
                if gather.take(sitter, Piece { number, of, set }) {
                    self.seats.fill(sitter);
                }
            }
            Err(refusal) => {
                gather.forget(sitter);
                let away = sitter.stands_in || is_away(&refusal);
                self.seats.leave(sitter, Some(&refusal));
                self.failures.refused(from, refusal);
                if away {
                    self.cover(sitter.seat, step);
                }
                self.fail_if_vacant(sitter.seat);
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
                self.begin_telling(step);
            }
            Ok(CausalDone::Refused(Refused::Stale(tick))) if self.stamps < STAMPS_MAX => {
                crate::sometimes!("causal put: stamped again");
                let node = self.order.own.node;
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
                let kept = may_have_kept(&refusal);
                self.seats.leave(self.order.own.sitter(), Some(&refusal));
                self.failures = Failures::default();
                self.failures.refused(self.order.own.node, refusal);
                self.fail(if kept { Applied::Unknown } else { Applied::No }, step);
            }
        }
    }

    /// An owner, or who stands in for it, has been told, or has refused.
    pub fn on_told(
        &mut self,
        from: NodeId,
        round: RoundId,
        result: Result<(), Refusal>,
        step: &mut Step<'_>,
    ) {
        let Some(sitter) = self.seats.sitter(&self.target.owners, from) else { return };
        let telling = matches!(self.state, State::Telling | State::Answered);
        if !telling || round.round != self.round {
            return;
        }
        match result {
            Ok(()) => {
                self.failures.cleared(from);
                self.seats.fill(sitter);
                self.tally.succeed(sitter.seat);
            }
            Err(refusal) => {
                let away = sitter.stands_in || is_away(&refusal);
                self.seats.leave(sitter, Some(&refusal));
                self.failures.refused(from, refusal);
                if away {
                    self.cover(sitter.seat, step);
                }
                self.fail_if_vacant(sitter.seat);
            }
        }
        self.settle(step);
    }

    /// A member cannot be reached any more.
    pub fn on_unreachable(&mut self, member: NodeId, step: &mut Step<'_>) {
        let Some(sitter) = self.seats.sitter(&self.target.owners, member) else { return };
        if !self.waits_for(member) {
            return;
        }
        self.failures.unreachable(member);
        self.seats.leave(sitter, None);
        if let (State::Reading, Some(gather)) = (self.state, &mut self.gather) {
            gather.forget(sitter);
        }
        self.cover(sitter.seat, step);
        self.fail_if_vacant(sitter.seat);
        if self.state == State::Reading {
            self.settle_read(step);
        } else {
            self.settle(step);
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
            self.end(step);
        } else if step.now.mono >= self.retry_at {
            crate::sometimes!("causal put: tells an owner again");
            let open = match (self.state, &self.gather) {
                (State::Reading, Some(gather)) => {
                    let silent = gather.tally.open();
                    self.ask_owners(silent & step.reachable, step);
                    silent
                }
                (State::Telling | State::Answered, _) => {
                    self.ask_owners(!self.tally.answered() & step.reachable, step);
                    self.tally.open()
                }
                _ => {
                    self.retry_at = Time(u64::MAX);
                    return;
                }
            };
            self.ask_covers(self.seats.covers_open() & open, step);
            for seat in bits(open) {
                self.cover(seat, step);
            }
        }
    }

    fn settle_read(&mut self, step: &mut Step<'_>) {
        let Some(gather) = &self.gather else { return };
        match gather.outcome() {
            Outcome::Pending => {}
            Outcome::Reached => {
                // What stand-ins have said there is may not be all: the receipt says so.
                self.seats.count();
                self.order.put.seen = Some(gather.merged().context().clone());
                self.gather = None;
                self.state = State::Stamping;
                self.retry_at = Time(u64::MAX);
                self.stamp_and_change(step);
            }
            Outcome::Impossible => self.fail(Applied::No, step),
        }
    }

    fn begin_reading(&mut self, step: &mut Step<'_>) {
        self.ask_owners(step.reachable, step);
        self.ask_covers(self.seats.covered(), step);
        self.cover_away(step);
        self.settle_read(step);
    }

    /// What this node has made and cannot lose is told to the others.
    fn begin_telling(&mut self, step: &mut Step<'_>) {
        self.state = State::Telling;
        self.seats.begin_round();
        let own = self.order.own;
        self.seats.fill(own.sitter());
        self.tally.succeed(own.seat);
        let mine = 1 << own.seat;
        // Who stands in may find the owner back.
        let others = step.reachable & if own.stands_in { u16::MAX } else { !mine };
        self.ask_owners(others, step);
        self.ask_covers(self.seats.covered() & !mine, step);
        self.cover_away(step);
        self.settle(step);
    }

    /// Gives the seats of owners that cannot be reached to stand-ins.
    fn cover_away(&mut self, step: &mut Step<'_>) {
        for seat in bits(self.away(step)) {
            self.cover(seat, step);
            self.fail_if_vacant(seat);
        }
    }

    /// Gives a seat to a stand-in, if there is one, and asks it. Nobody stands in any more once the
    /// client has its answer: what is missing then gets a plain hint.
    fn cover(&mut self, seat: u8, step: &mut Step<'_>) {
        let under_way = matches!(self.state, State::Reading | State::Telling);
        if under_way && self.seats.cover(seat, step.stand_ins) {
            self.ask_covers(1 << seat, step);
        }
    }

    /// Asks those who stand in on these seats: for what they keep, or to keep what was made.
    fn ask_covers(&mut self, seats: u16, step: &mut Step<'_>) {
        for seat in bits(seats) {
            let owner = self.target.owners.get(usize::from(seat)).copied();
            let (Some(to), Some(owner)) = (self.seats.cover_of(seat), owner) else { continue };
            self.ask((to, Some(owner)), step);
            self.seats.asked(Sitter { seat, stands_in: true });
        }
    }

    fn ask_owners(&mut self, owners: u16, step: &mut Step<'_>) {
        for seat in bits(owners & self.asked()) {
            let Some(&owner) = self.target.owners.get(usize::from(seat)) else { continue };
            self.ask((owner, None), step);
            self.seats.asked(Sitter { seat, stands_in: false });
        }
        self.retry_at = step.now.mono.plus(self.order.retry_interval);
    }

    /// Asks one member what this state is about.
    fn ask(&self, (to, hint_for): (NodeId, Option<NodeId>), step: &mut Step<'_>) {
        let remaining = step.remaining(self.order.deadline);
        let place = self.target.place();
        let ask = match &self.changed {
            None => {
                let round = RoundId { op: self.target.op, round: READ_ROUND };
                CausalMessage::Read { round, place, hint_for, remaining }
            }
            Some(changed) => {
                let round = RoundId { op: self.target.op, round: self.round };
                let set = changed.told.clone();
                CausalMessage::Merge { round, place, hint_for, set, remaining }
            }
        };
        step.out.push(Action::Ask(to, Ask::Causal(Box::new(ask))));
    }

    fn fail_if_vacant(&mut self, seat: u8) {
        if !self.seats.is_vacant(seat) {
            return;
        }
        match &mut self.gather {
            Some(gather) if self.state == State::Reading => gather.tally.fail(seat),
            _ => self.tally.fail(seat),
        }
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
                let Own { node, seat, stands_in, .. } = self.order.own;
                let owner = self.target.owners.get(usize::from(seat)).copied();
                let hint_for = owner.filter(|_| stands_in);
                let ask = ChangeAsk { round, place, hint_for, change: self.change() };
                step.out.push(Action::Ask(node, Ask::Change(Box::new(ask))));
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
        let mut dot = Dot::new(self.stamp, self.order.own.tenure);
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
        let adds = put.add.map(|by| Write {
            id: put.attempt.id,
            expiry,
            payload: Payload::Part(Part::of(by)),
        });
        let write = write.or(adds);
        Change { dot, write, seen: put.seen.clone().unwrap_or_default() }
    }

    fn settle(&mut self, step: &mut Step<'_>) {
        match (self.state, self.tally.outcome()) {
            (State::Telling, Outcome::Reached) => {
                self.seats.count();
                let Some(changed) = &self.changed else { return };
                let receipt = self.receipt(step);
                let is_increment = self.order.put.add.is_some();
                let reply = reply::wrote(&self.target, changed, receipt, is_increment);
                self.acknowledged = true;
                self.reply(Ok(reply), step);
            }
            (State::Telling, Outcome::Impossible) => self.fail(Applied::Unknown, step),
            (State::Answered, _) if self.tally.open() == 0 => self.end(step),
            _ => {}
        }
    }

    /// Nothing more is counted: what owners have not taken is kept for them.
    fn end(&mut self, step: &mut Step<'_>) {
        if let Some(changed) = &self.changed {
            for owner in self.unreached() {
                let kept = Kept::Siblings(changed.told.clone());
                step.out.push(Action::Hint(owner, kept));
            }
        }
        step.out.push(Action::Done);
    }

    /// What is known of the put while it runs.
    pub fn applied(&self) -> Applied {
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
            stand_ins: self.seats.counted(),
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
        let mut error = self.failures.error(count, applied, self.target.epoch, time);
        if self.seats.is_full() {
            // Whatever the owners are down with: there is no room to keep it for them.
            error.code = ErrorCode::Overloaded;
            error.facts.retry_after = Some(Duration::from_secs(1));
        }
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
            self.end(step);
        }
    }
}

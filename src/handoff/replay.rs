//! Handing hints back: one target at a time, oldest first, throttled, and nothing deleted before
//! all it was sent to hold it. A target that is overloaded keeps its turn: it is asked for less at
//! once, and what it refused is sent again.

mod route;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Books;
use super::window::Window;
use crate::message::{Hint, HintBook, HintPage, HintPlace, Kept, RoundId};
use crate::types::{ClusterState, NodeId, Now, Time, Unit, limits};
use route::route;

pub use route::is_leaving;

/// The pace of replay.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Bytes a second. INVARIANT: above 0.
    pub bytes_per_second: u64,
    /// How long a target that has failed is left alone at first; and about how long what an overloaded
    /// one has refused waits until it is sent again.
    pub back_off: Duration,
    /// How long at most.
    pub back_off_max: Duration,
    /// How long a delivery may stay without an answer; and how long a target that takes nothing keeps
    /// its turn while others wait for theirs.
    pub answer_within: Duration,
}

/// What replay is told with each step.
pub struct Around<'a> {
    /// The time.
    pub now: Now,
    /// This node.
    pub me: NodeId,
    /// The state in force.
    pub state: &'a ClusterState,
    /// Whether a member can be asked now.
    pub reachable: &'a dyn Fn(NodeId) -> bool,
    /// Whether this node does not wait for a member any more: it is to leave the cluster, and the other has not
    /// served for long.
    pub given_up: &'a dyn Fn(NodeId) -> bool,
    /// What is kept.
    pub books: &'a Books,
    /// The next operation's number.
    pub next_operation: &'a mut u64,
    /// Where actions go.
    pub out: &'a mut Vec<ReplayAction>,
}

/// A version on its way to a member.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What its answer will bear: a hint is one operation, and each piece of it a round. The same
    /// when it is sent again.
    pub round: RoundId,
    /// To whom.
    pub to: NodeId,
    /// What: the hint, or a piece of it.
    pub hint: Hint,
}

/// What a member has answered to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It durably holds the version, or a later one.
    Held,
    /// It has no room for it now.
    Overloaded,
    /// It has refused it for another reason.
    Refused,
}

/// What replay wants.
#[derive(Clone, Debug)]
pub enum ReplayAction {
    /// Read the next page of hints for the target.
    Read(NodeId, Option<HintPlace>),
    /// Send a version, or a piece of a set.
    Deliver(Box<Delivery>),
    /// Delete a hint of the target: all it was sent to hold it.
    Remove(NodeId, Box<Hint>),
    /// Note that the target lacks a write of the unit: the other owners hold it now.
    Lacks(NodeId, Unit),
}

/// The machine.
#[derive(Debug)]
pub struct Replay {
    timing: Timing,
    turn: Option<Turn>,
    /// Targets that have failed: when they may be tried again, and how long they wait next time.
    waits: BTreeMap<NodeId, Wait>,
    /// Targets whose hints may have to go elsewhere: their owners may have changed.
    unrouted: BTreeSet<NodeId>,
    /// Of targets that have been overloaded; they outlive turns. Others are open wide.
    windows: BTreeMap<NodeId, Window>,
    /// Deliveries ever sent.
    sent: u64,
    /// When the next delivery may leave.
    paced: Time,
    /// For pauses: holders that were refused together must not come again together.
    rng: fastrand::Rng,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Time,
    next: Duration,
}

/// The turn of one target.
#[derive(Debug)]
struct Turn {
    target: NodeId,
    /// A page has been asked for.
    reading: bool,
    queue: VecDeque<Hint>,
    /// Where the next page begins; `None` when there is none.
    after: Option<Option<HintPlace>>,
    /// Deliveries without all their answers, by number.
    flights: BTreeMap<u64, Flight>,
    /// Something was delivered and acknowledged.
    succeeded: bool,
    /// When something was last, or the turn began.
    moved: Time,
    /// Nothing leaves before this: one at a time was too much.
    held_until: Time,
}

#[derive(Debug)]
struct Flight {
    hint: Hint,
    /// Who is not known to hold which piece. INVARIANT: not empty.
    missing: BTreeMap<(NodeId, u32), Leg>,
    /// It goes to the other owners in the target's place.
    passed: bool,
}

impl Flight {
    fn waits_for(&self, member: NodeId) -> bool {
        self.missing.keys().any(|(of, _)| *of == member)
    }
}

#[derive(Clone, Copy, Debug)]
enum Leg {
    /// Sent at a time, as the how many-th of all.
    Asked(Time, u64),
    /// Refused by an overloaded member: sent again from this time on.
    Paused(Time),
}

impl Turn {
    fn new(target: NodeId, now: Time) -> Turn {
        Turn {
            target,
            reading: false,
            queue: VecDeque::new(),
            after: Some(None),
            flights: BTreeMap::new(),
            succeeded: false,
            moved: now,
            held_until: now,
        }
    }

    fn legs(&self) -> impl Iterator<Item = Leg> + '_ {
        self.flights.values().flat_map(|flight| flight.missing.values().copied())
    }

    /// When the delivery that has waited longest for an answer was sent.
    fn oldest(&self) -> Option<Time> {
        let asked = |leg| match leg {
            Leg::Asked(since, _) => Some(since),
            Leg::Paused(_) => None,
        };
        self.legs().filter_map(asked).min()
    }

    /// When the first of what was refused is to be sent again.
    fn next_again(&self) -> Option<Time> {
        let paused = |leg| match leg {
            Leg::Paused(until) => Some(until),
            Leg::Asked(..) => None,
        };
        self.legs().filter_map(paused).min()
    }

    /// How many deliveries an answer is waited for.
    fn under_way(&self) -> usize {
        let is_asked = |leg: &Leg| matches!(leg, Leg::Asked(..));
        self.flights.values().filter(|flight| flight.missing.values().any(is_asked)).count()
    }

    fn may_begin(&self) -> bool {
        self.flights.len() < limits::HINTS_UNDER_WAY_MAX && !self.queue.is_empty()
    }
}

impl Replay {
    /// Nothing under way. `rng` draws how long pauses are.
    pub fn new(timing: Timing, rng: fastrand::Rng) -> Replay {
        Replay {
            timing,
            turn: None,
            waits: BTreeMap::new(),
            unrouted: BTreeSet::new(),
            windows: BTreeMap::new(),
            sent: 0,
            paced: Time(0),
            rng,
        }
    }

    /// The target whose turn it is.
    pub fn current(&self) -> Option<NodeId> {
        self.turn.as_ref().map(|turn| turn.target)
    }

    /// When [`Replay::on_time`] is next wanted. A target that cannot be reached is waited for by
    /// whoever hears of it, not by the clock.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let Some(turn) = &self.turn else {
            return self.waits.values().map(|wait| wait.until).filter(|until| *until > now).min();
        };
        let overdue = turn.oldest().map(|since| since.plus(self.timing.answer_within));
        let room = turn.under_way() < self.window(turn.target);
        let first = turn.may_begin().then_some(Time(0));
        let next = [first, turn.next_again()].into_iter().flatten().min().filter(|_| room);
        let leaves = next.map(|at| at.max(self.paced).max(turn.held_until));
        [overdue, leaves].into_iter().flatten().min()
    }

    /// A new state is in force: hints may have to go to other owners than they were kept for.
    pub fn on_state(&mut self, books: &Books) {
        self.unrouted = books.targets().map(|(target, _)| target).collect();
        self.windows.retain(|target, _| self.unrouted.contains(target));
        self.turn = None;
    }

    /// Somebody wants a target tried now.
    pub fn hurry(&mut self, target: NodeId) {
        self.waits.remove(&target);
    }

    /// Goes on, if there is anything to go on with.
    pub fn on_time(&mut self, around: &mut Around<'_>) {
        let now = around.now.mono;
        if let Some(turn) = &self.turn {
            if turn.oldest().is_some_and(|since| now.since(since) >= self.timing.answer_within) {
                self.fail(now);
            } else if turn.next_again().is_some()
                && now.since(turn.moved) >= self.timing.answer_within
                && self.pick(around, Some(turn.target)).is_some()
            {
                crate::sometimes!("handoff: an overloaded target gives way to another");
                self.rest(now);
            }
        }
        self.go_on(around);
    }

    /// A page has been read, or could not be.
    pub fn on_page(&mut self, target: NodeId, page: Option<HintPage>, around: &mut Around<'_>) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.target == target && turn.reading)
        {
            turn.reading = false;
            match page {
                Some(page) => {
                    turn.queue.extend(page.hints);
                    turn.after = page.next.map(Some);
                }
                None => self.fail(around.now.mono),
            }
        }
        self.go_on(around);
    }

    /// A member has answered a delivery. Returns whether there was such a delivery.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        (round, answer): (RoundId, Delivered),
        around: &mut Around<'_>,
    ) -> bool {
        let known = self.turn.as_ref().is_some_and(|turn| turn.flights.contains_key(&round.op));
        if !known {
            return false;
        }
        match answer {
            Delivered::Held => self.on_held(from, round, around),
            Delivered::Overloaded if !crate::mutant!("overloaded-ends-turn") => {
                self.on_overloaded(from, round, around.now.mono);
            }
            Delivered::Overloaded | Delivered::Refused => {
                crate::sometimes!("handoff: a target refuses");
                self.fail(around.now.mono);
            }
        }
        self.go_on(around);
        true
    }

    /// A member cannot be reached any more.
    pub fn on_unreachable(&mut self, member: NodeId, around: &mut Around<'_>) {
        let waits = |turn: &Turn| turn.flights.values().any(|flight| flight.waits_for(member));
        if self.turn.as_ref().is_some_and(waits) {
            self.fail(around.now.mono);
            self.go_on(around);
        }
    }

    fn on_held(&mut self, from: NodeId, RoundId { op, round }: RoundId, around: &mut Around<'_>) {
        let Some(turn) = &mut self.turn else { return };
        let Some(flight) = turn.flights.get_mut(&op) else { return };
        flight.missing.remove(&(from, round));
        if !flight.missing.is_empty() {
            return;
        }
        let Some(flight) = turn.flights.remove(&op) else { return };
        let target = turn.target;
        (turn.succeeded, turn.moved) = (true, around.now.mono);
        self.waits.remove(&target);
        if let Some(window) = self.windows.get_mut(&target) {
            window.on_taken();
        }
        if flight.passed {
            around.out.push(ReplayAction::Lacks(target, flight.hint.unit));
        }
        around.out.push(ReplayAction::Remove(target, Box::new(flight.hint)));
    }

    /// Asks for less at once from now on, and sends this one again later; others go on. When one at a
    /// time was too much, the target is left alone until then.
    fn on_overloaded(&mut self, from: NodeId, RoundId { op, round }: RoundId, now: Time) {
        let Some(turn) = &mut self.turn else { return };
        let flight = turn.flights.get_mut(&op);
        let leg = flight.and_then(|flight| flight.missing.get_mut(&(from, round)));
        let Some(leg) = leg else { return };
        // Else a repeated answer, to what already waits.
        let Leg::Asked(_, number) = *leg else { return };
        crate::sometimes!("handoff: an overloaded target is asked again");
        let window = self.windows.entry(turn.target).or_default();
        let alone = window.on_overloaded(number, self.sent);
        let whole = u64::try_from(self.timing.back_off.as_micros()).unwrap_or(u64::MAX);
        let pause = whole / 2 + self.rng.u64(0..=whole);
        let until = now.plus(Duration::from_micros(pause));
        *leg = Leg::Paused(until);
        if alone {
            turn.held_until = turn.held_until.max(until);
        }
    }

    fn window(&self, target: NodeId) -> usize {
        self.windows.get(&target).copied().unwrap_or_default().size()
    }

    /// Ends the turn of the target; what is under way may still arrive, and is sent again later.
    fn fail(&mut self, now: Time) {
        let Some(turn) = self.turn.take() else { return };
        let known = self.waits.get(&turn.target).filter(|_| !turn.succeeded);
        let wait = known.map_or(self.timing.back_off, |wait| wait.next);
        let next = wait.saturating_mul(2).min(self.timing.back_off_max);
        let until =
            if crate::mutant!("replay-stops-at-failure") { Time(u64::MAX) } else { now.plus(wait) };
        self.waits.insert(turn.target, Wait { until, next });
    }

    /// Ends the turn of a target that has done no wrong: it is tried again shortly.
    fn rest(&mut self, now: Time) {
        let Some(turn) = self.turn.take() else { return };
        let (until, next) = (now.plus(self.timing.back_off), self.timing.back_off);
        self.waits.insert(turn.target, Wait { until, next });
    }

    fn go_on(&mut self, around: &mut Around<'_>) {
        if self.turn.is_none() {
            let Some(target) = self.pick(around, None) else { return };
            self.unrouted.remove(&target);
            self.turn = Some(Turn::new(target, around.now.mono));
        }
        self.deliver(around);
        let Some(turn) = &mut self.turn else { return };
        if turn.reading || !turn.queue.is_empty() {
            return;
        }
        if let Some(after) = turn.after.take() {
            turn.reading = true;
            around.out.push(ReplayAction::Read(turn.target, after));
        } else if turn.flights.is_empty() {
            // All have been seen. What is left was not due, or has come since.
            match (around.given_up)(turn.target) {
                true => self.fail(around.now.mono),
                false => self.rest(around.now.mono),
            }
        }
    }

    /// The target with the oldest hint, of those that may be tried, but one.
    fn pick(&self, around: &Around<'_>, but: Option<NodeId>) -> Option<NodeId> {
        let due = |target: &NodeId| {
            self.waits.get(target).is_none_or(|wait| wait.until <= around.now.mono)
        };
        let may = |target: &NodeId, book: &HintBook| {
            let gone = around.state.member(*target).is_none();
            let passes = book.totals.custody > 0 && (around.given_up)(*target);
            (around.reachable)(*target) || gone || passes || self.unrouted.contains(target)
        };
        let targets = around.books.targets().filter(|(target, _)| Some(*target) != but);
        let ready = targets.filter(|(target, book)| due(target) && may(target, book));
        ready.min_by_key(|(target, book)| (book.oldest, *target)).map(|(target, _)| target)
    }

    /// Sends what may leave now: first what was refused and has waited long enough.
    fn deliver(&mut self, around: &mut Around<'_>) {
        let now = around.now.mono;
        let Some(turn) = &self.turn else { return };
        let window = self.window(turn.target);
        loop {
            let Some(turn) = &mut self.turn else { return };
            if self.paced.max(turn.held_until) > now || turn.under_way() >= window {
                return;
            }
            let (op, to) = match again(turn, now) {
                Some(again) => again,
                None if !turn.may_begin() => return,
                None => {
                    let Some(hint) = turn.queue.pop_front() else { return };
                    let (receivers, passed) = route(turn.target, &hint, around);
                    if receivers.is_empty() {
                        continue;
                    }
                    let op = *around.next_operation;
                    *around.next_operation += 1;
                    if is_removed_early(&hint.kept) {
                        let hint = Box::new(hint.clone());
                        around.out.push(ReplayAction::Remove(turn.target, hint));
                    }
                    let pieces = (1..).zip(hint.kept.clone().pieces());
                    let legs =
                        pieces.flat_map(|(round, _)| receivers.iter().map(move |to| (*to, round)));
                    let legs = legs.collect();
                    turn.flights.insert(op, Flight { hint, missing: BTreeMap::new(), passed });
                    (op, legs)
                }
            };
            self.send(op, &to, around);
        }
    }

    /// Sends pieces of a flight's hint to members that miss them.
    fn send(&mut self, op: u64, legs: &[(NodeId, u32)], around: &mut Around<'_>) {
        let (now, number) = (around.now.mono, self.sent);
        let flight = self.turn.as_mut().and_then(|turn| turn.flights.get_mut(&op));
        let Some(Flight { hint, missing, .. }) = flight else { return };
        self.sent += 1;
        let mut bytes = 0;
        for (round, kept) in (1..).zip(hint.kept.clone().pieces()) {
            let piece = Hint { kept, ..hint.clone() };
            let receivers = legs.iter().filter(|(_, of)| *of == round).map(|(to, _)| *to);
            let mut is_sent = false;
            for to in receivers {
                is_sent = true;
                missing.insert((to, round), Leg::Asked(now, number));
                let delivery = Delivery { round: RoundId { op, round }, to, hint: piece.clone() };
                around.out.push(ReplayAction::Deliver(Box::new(delivery)));
            }
            bytes += if is_sent { piece.bytes() } else { 0 };
        }
        let cost = bytes.saturating_mul(1_000_000_000) / self.timing.bytes_per_second;
        self.paced = self.paced.max(now).plus(Duration::from_nanos(cost));
    }
}

/// The oldest delivery that was refused and may be sent again: which pieces, and to whom.
fn again(turn: &Turn, now: Time) -> Option<(u64, Vec<(NodeId, u32)>)> {
    let due = |leg: &Leg| matches!(leg, Leg::Paused(until) if *until <= now);
    turn.flights.iter().find_map(|(op, flight)| {
        let legs = flight.missing.iter().filter(|(_, leg)| due(leg));
        let legs: Vec<_> = legs.map(|(leg, _)| *leg).collect();
        (!legs.is_empty()).then_some((*op, legs))
    })
}

/// A planted bug: deleted before anybody has said to hold it.
fn is_removed_early(kept: &Kept) -> bool {
    match kept {
        Kept::Version(_) => crate::mutant!("hint-removed-before-ack"),
        Kept::Siblings(_) => crate::mutant!("causal-hint-removed-before-ack"),
    }
}

#[cfg(test)]
mod tests;

//! Handing hints back: one target at a time, oldest first, throttled, and nothing deleted before
//! all it was sent to hold it.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Books;
use crate::message::{Hint, HintPage, HintPlace};
use crate::types::{ClusterState, NodeId, Now, Time, limits};

/// The pace of replay.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Bytes a second. INVARIANT: above 0.
    pub bytes_per_second: u64,
    /// How long a target that has failed is left alone at first.
    pub back_off: Duration,
    /// How long at most.
    pub back_off_max: Duration,
    /// How long a delivery may stay without an answer.
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
    /// The number its answer will bear.
    pub op: u64,
    /// To whom.
    pub to: NodeId,
    /// What.
    pub hint: Hint,
}

/// What replay wants.
#[derive(Clone, Debug)]
pub enum ReplayAction {
    /// Read the next page of hints for the target.
    Read(NodeId, Option<HintPlace>),
    /// Send a version.
    Deliver(Box<Delivery>),
    /// Delete a hint of the target: all it was sent to hold it.
    Remove(NodeId, Box<Hint>),
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
    /// When the next delivery may leave.
    paced: Time,
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
    /// Deliveries without all their answers.
    flights: BTreeMap<u64, Flight>,
    /// Something was delivered and acknowledged.
    succeeded: bool,
}

#[derive(Debug)]
struct Flight {
    hint: Hint,
    missing: BTreeSet<NodeId>,
    since: Time,
}

impl Replay {
    /// Nothing under way.
    pub fn new(timing: Timing) -> Replay {
        let (waits, unrouted) = (BTreeMap::new(), BTreeSet::new());
        Replay { timing, turn: None, waits, unrouted, paced: Time(0) }
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
        let oldest = turn.flights.values().map(|flight| flight.since).min();
        let overdue = oldest.map(|since| since.plus(self.timing.answer_within));
        let room = turn.flights.len() < limits::HINTS_UNDER_WAY_MAX && !turn.queue.is_empty();
        let paced = room.then_some(self.paced);
        [overdue, paced].into_iter().flatten().min()
    }

    /// A new state is in force: hints may have to go to other owners than they were kept for.
    pub fn on_state(&mut self, books: &Books) {
        self.unrouted = books.targets().map(|(target, _)| target).collect();
        self.turn = None;
    }

    /// Somebody wants a target tried now.
    pub fn hurry(&mut self, target: NodeId) {
        self.waits.remove(&target);
    }

    /// Goes on, if there is anything to go on with.
    pub fn on_time(&mut self, around: &mut Around<'_>) {
        if let Some(turn) = &self.turn {
            let late =
                |flight: &Flight| around.now.mono.since(flight.since) >= self.timing.answer_within;
            if turn.flights.values().any(late) {
                self.fail(around.now.mono);
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

    /// A member has answered a delivery: it durably holds the version, or has refused it. Returns
    /// whether there was such a delivery.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        (op, held): (u64, bool),
        around: &mut Around<'_>,
    ) -> bool {
        let Some(turn) = &mut self.turn else { return false };
        let Some(flight) = turn.flights.get_mut(&op) else { return false };
        if held {
            flight.missing.remove(&from);
            if flight.missing.is_empty()
                && let Some(flight) = turn.flights.remove(&op)
            {
                turn.succeeded = true;
                let target = turn.target;
                self.waits.remove(&target);
                around.out.push(ReplayAction::Remove(target, Box::new(flight.hint)));
            }
        } else {
            crate::sometimes!("handoff: a target refuses");
            self.fail(around.now.mono);
        }
        self.go_on(around);
        true
    }

    /// A member cannot be reached any more.
    pub fn on_unreachable(&mut self, member: NodeId, around: &mut Around<'_>) {
        let waits =
            |turn: &Turn| turn.flights.values().any(|flight| flight.missing.contains(&member));
        if self.turn.as_ref().is_some_and(waits) {
            self.fail(around.now.mono);
            self.go_on(around);
        }
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

    fn go_on(&mut self, around: &mut Around<'_>) {
        if self.turn.is_none() {
            let Some(target) = self.pick(around) else { return };
            self.unrouted.remove(&target);
            self.turn = Some(Turn {
                target,
                reading: false,
                queue: VecDeque::new(),
                after: Some(None),
                flights: BTreeMap::new(),
                succeeded: false,
            });
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
            let target = turn.target;
            self.turn = None;
            let (until, next) = (around.now.mono.plus(self.timing.back_off), self.timing.back_off);
            self.waits.insert(target, Wait { until, next });
        }
    }

    /// The target with the oldest hint, of those that may be tried.
    fn pick(&self, around: &Around<'_>) -> Option<NodeId> {
        let due = |target: &NodeId| {
            self.waits.get(target).is_none_or(|wait| wait.until <= around.now.mono)
        };
        let may = |target: &NodeId| {
            let gone = around.state.member(*target).is_none();
            (around.reachable)(*target) || gone || self.unrouted.contains(target)
        };
        let targets = around.books.targets();
        let ready = targets.filter(|(target, _)| due(target) && may(target));
        ready.min_by_key(|(target, book)| (book.oldest, *target)).map(|(target, _)| target)
    }

    fn deliver(&mut self, around: &mut Around<'_>) {
        let Some(turn) = &mut self.turn else { return };
        let now = around.now.mono;
        while turn.flights.len() < limits::HINTS_UNDER_WAY_MAX && self.paced <= now {
            let Some(hint) = turn.queue.pop_front() else { break };
            let receivers = route(turn.target, &hint, around);
            if receivers.is_empty() {
                continue;
            }
            let op = *around.next_operation;
            *around.next_operation += 1;
            let cost = hint.bytes().saturating_mul(1_000_000_000) / self.timing.bytes_per_second;
            self.paced = self.paced.max(now).plus(Duration::from_nanos(cost));
            for &to in &receivers {
                let delivery = Delivery { op, to, hint: hint.clone() };
                around.out.push(ReplayAction::Deliver(Box::new(delivery)));
            }
            if crate::mutant!("hint-removed-before-ack") {
                around.out.push(ReplayAction::Remove(turn.target, Box::new(hint.clone())));
            }
            let flight = Flight { hint, missing: receivers.into_iter().collect(), since: now };
            turn.flights.insert(op, flight);
        }
    }
}

/// To whom a hint for `target` goes now; to nobody while it has to wait. The target itself while it
/// owns the unit, else all owners there are: the hint may be all that is left of a write.
fn route(target: NodeId, hint: &Hint, around: &Around<'_>) -> Vec<NodeId> {
    if around.state.table(hint.table).is_none() {
        // Dropped: the sweep deletes it. Or not heard of yet.
        return Vec::new();
    }
    let owners = around.state.owners(hint.unit);
    let to = if owners.contains(&target) || crate::mutant!("hint-not-rerouted") {
        vec![target]
    } else {
        crate::sometimes!("handoff: goes to other owners");
        owners.to_vec()
    };
    let up = |id: &NodeId| *id == around.me || (around.reachable)(*id);
    if to.iter().all(up) { to } else { Vec::new() }
}

#[cfg(test)]
mod tests;

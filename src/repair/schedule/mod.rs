//! Which owners this node compares itself with, in which units, and when. `docs/protocol/repair.md`, "The
//! schedule".
//!
//! Each pair of owners has turns, of which the lower member has the even ones and the higher the odd ones:
//! so each comparison is asked for by one of them. What somebody *wants* compared is compared out of
//! turn, and first.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::types::{NodeId, Now, Time, Unit, WallTime, limits};

/// The cadence of comparisons.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cadence {
    /// Each pair compares each unit at least once in this; zero: only what is wanted is compared.
    pub interval: Duration,
    /// Writes younger than this are left alone.
    pub settle: Duration,
    /// How soon a comparison is tried again that has come to nothing; longer each time.
    pub pause: Duration,
}

/// What is known of a unit and another owner of it.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    due: Time,
    /// Differs at its root: since when it waits for a session.
    differs: Option<Time>,
    /// Something is under way.
    busy: bool,
    /// How often in a row it has come to nothing.
    failures: u32,
    /// What somebody wants and no comparison has fulfilled.
    wanted: Option<Now>,
    /// Up to which moment wishes have been fulfilled.
    fulfilled: Option<Time>,
    /// The last comparison that found both equal: when it began, and that it covers all that is not younger than
    /// this, by this node's wall clock as it was then.
    began: Option<Time>,
    covered: WallTime,
    /// When the comparison began that is under way, or was the last.
    asked: Time,
    /// When that was.
    pub verified: Option<Time>,
    /// Keys that differed when it was last looked.
    pub lacks: u64,
}

impl Pair {
    /// Whether both were found equal in all that had been written by the moment of a wish. That takes a comparison
    /// which began then or later by the clock that never steps, and covers what the wall clock said then. Either alone
    /// would not do: the wall clock may have been ahead when they were compared, and a session leaves alone what is young.
    pub fn fulfils(&self, wish: Now) -> bool {
        self.fulfilled >= Some(wish.mono) || self.is_equal_as_of(wish)
    }

    /// The same, of the last comparison alone.
    fn is_equal_as_of(&self, wish: Now) -> bool {
        let is_later = self.began >= Some(wish.mono) || crate::mutant!("covered-by-a-clock-ahead");
        is_later && self.covered >= wish.wall
    }

    /// Whether somebody waits for it.
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// Whether it is being compared, or about to be because it differs.
    pub fn is_under_way(&self) -> bool {
        self.busy || self.differs.is_some()
    }
}

/// All pairs of a node.
#[derive(Debug, Default)]
pub struct Schedule {
    me: NodeId,
    cadence: Cadence,
    pairs: BTreeMap<(NodeId, Unit), Pair>,
    due: BTreeSet<(Time, NodeId, Unit)>,
    /// Differing ones, those that are wanted first, then as long as they wait.
    differ: BTreeSet<(bool, Time, NodeId, Unit)>,
}

impl Schedule {
    /// With nobody.
    pub fn new(me: NodeId, cadence: Cadence) -> Schedule {
        let (pairs, due, differ) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Schedule { me, cadence, pairs, due, differ }
    }

    /// The other owners of the units this node owns. Those that were there before stay as they are.
    pub fn set_pairs(&mut self, now: Now, me: NodeId, pairs: impl Iterator<Item = (NodeId, Unit)>) {
        self.me = me;
        let mut before = core::mem::take(&mut self.pairs);
        (self.due, self.differ) = (BTreeSet::new(), BTreeSet::new());
        for (peer, unit) in pairs {
            let kept = before.remove(&(peer, unit));
            let pair = kept.unwrap_or_else(|| Pair {
                due: self.first_turn(now, peer),
                differs: None,
                busy: false,
                failures: 0,
                wanted: None,
                fulfilled: None,
                began: None,
                covered: WallTime(0),
                asked: Time(0),
                verified: None,
                lacks: 0,
            });
            self.insert((peer, unit), pair);
        }
    }

    /// All pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (NodeId, Unit, &Pair)> {
        self.pairs.iter().map(|((peer, unit), pair)| (*peer, *unit, pair))
    }

    /// What is known of one.
    pub fn pair(&self, peer: NodeId, unit: Unit) -> Option<&Pair> {
        self.pairs.get(&(peer, unit))
    }

    /// The pairs of a unit.
    pub fn of_unit(&self, unit: Unit) -> impl Iterator<Item = (NodeId, &Pair)> {
        let of = self.pairs.iter().filter(move |((_, of), _)| *of == unit);
        of.map(|((peer, _), pair)| (*peer, pair))
    }

    /// Whether all other owners of a unit have been found equal in all that had been written by a moment.
    pub fn is_covered(&self, unit: Unit, wish: Now) -> bool {
        self.of_unit(unit).all(|(_, pair)| pair.fulfils(wish))
    }

    /// Somebody wants a pair to be equal in all that had been written by the moment of `wish`: out of turn, and first.
    pub fn want(&mut self, now: Now, (peer, unit): (NodeId, Unit), wish: Now) {
        self.change((peer, unit), |pair| {
            if pair.fulfils(wish) {
                return;
            }
            // Whoever fulfils the latest of two by either clock fulfils both.
            let before = pair.wanted.unwrap_or(wish);
            let (mono, wall) = (before.mono.max(wish.mono), before.wall.max(wish.wall));
            let both = Some(Now { mono, wall });
            if pair.wanted != both {
                (pair.wanted, pair.failures) = (both, 0);
            }
            if !pair.is_under_way() {
                pair.due = pair.due.min(now.mono);
            }
        });
    }

    /// The same of all pairs, as of now.
    pub fn want_all(&mut self, now: Now) {
        for place in self.pairs.keys().copied().collect::<Vec<_>>() {
            self.want(now, place, now);
        }
    }

    /// Nobody wants anything any more.
    pub fn want_nothing(&mut self) {
        let wanted = self.pairs.iter().filter(|(_, pair)| pair.is_wanted());
        for place in wanted.map(|(place, _)| *place).collect::<Vec<_>>() {
            self.change(place, |pair| pair.wanted = None);
        }
    }

    /// Units whose roots are to be compared with one other owner now: wanted ones first. They count as
    /// under way from then on.
    pub fn next_roots(
        &mut self,
        now: Time,
        ready: impl Fn(NodeId) -> bool,
        complete: impl Fn(Unit) -> bool,
    ) -> Option<(NodeId, Vec<Unit>)> {
        let due = self.due.iter().take_while(|(at, ..)| *at <= now);
        let may = |peer: NodeId, unit: Unit| ready(peer) && complete(unit);
        let due: Vec<(NodeId, Unit)> = due
            .filter(|(_, peer, unit)| may(*peer, *unit))
            .map(|(_, peer, unit)| (*peer, *unit))
            .collect();
        let is_wanted =
            |place: &&(NodeId, Unit)| self.pairs.get(place).is_some_and(Pair::is_wanted);
        let (peer, _) = due.iter().find(is_wanted).or(due.first())?;
        let (mut wanted, mut others) = (Vec::new(), Vec::new());
        for place in due.iter().filter(|(of, _)| of == peer) {
            if is_wanted(&place) { wanted.push(place.1) } else { others.push(place.1) }
        }
        wanted.extend(others);
        wanted.truncate(limits::REPAIR_ROOTS_MAX);
        wanted.sort_unstable();
        for unit in &wanted {
            self.change((*peer, *unit), |pair| (pair.busy, pair.asked) = (true, now));
        }
        Some((*peer, wanted))
    }

    /// A pair whose roots differ: it is compared in a session now.
    pub fn next_session(
        &mut self,
        ready: impl Fn(NodeId) -> bool,
        complete: impl Fn(Unit) -> bool,
    ) -> Option<(NodeId, Unit)> {
        let mut waiting = self.differ.iter();
        let found = waiting.find(|(_, _, peer, unit)| ready(*peer) && complete(*unit));
        let (peer, unit) = found.map(|(_, _, peer, unit)| (*peer, *unit))?;
        self.change((peer, unit), |pair| (pair.differs, pair.busy) = (None, true));
        Some((peer, unit))
    }

    /// Whether any pair waits for a session.
    pub fn has_differing(&self) -> bool {
        !self.differ.is_empty()
    }

    /// The roots differ: a session is to find out where.
    pub fn on_differs(&mut self, now: Time, peer: NodeId, unit: Unit) {
        self.change((peer, unit), |pair| (pair.differs, pair.busy) = (Some(now), false));
    }

    /// Both are equal in all that is not younger than `covers`; so many keys had differed.
    pub fn on_verified(
        &mut self,
        now: Now,
        (peer, unit): (NodeId, Unit),
        (covers, lacks): (WallTime, u64),
    ) {
        let turn = self.next_turn(now, peer);
        let settle = self.cadence.settle;
        self.change((peer, unit), |pair| {
            (pair.covered, pair.began) = (covers, Some(pair.asked));
            if let Some(wish) = pair.wanted.filter(|wish| pair.is_equal_as_of(*wish)) {
                (pair.wanted, pair.fulfilled) = (None, Some(wish.mono));
            }
            (pair.verified, pair.lacks) = (Some(now.mono), lacks);
            (pair.differs, pair.busy, pair.failures) = (None, false, 0);
            pair.due = turn;
            if let Some(wish) = pair.wanted {
                // What is wanted has yet to settle.
                let settled = wish.wall.plus(settle).plus(Duration::from_millis(1));
                pair.due = turn.min(now.mono.plus(settled.ahead_of(now.wall)));
            }
        });
    }

    /// It has come to nothing, or is not verified: once more, later each time.
    pub fn on_failed(&mut self, now: Now, (peer, unit): (NodeId, Unit), lacks: Option<u64>) {
        let (pause, most) = (self.cadence.pause, self.cadence.interval / 8);
        let never = self.cadence.interval.is_zero();
        self.change((peer, unit), |pair| {
            let patience = pause.saturating_mul(1 << pair.failures.min(10));
            let soon = pause.saturating_mul(16);
            let most = if never {
                soon
            } else if pair.is_wanted() {
                most.min(soon)
            } else {
                most
            };
            let due = now.mono.plus(patience.min(most.max(pause)));
            pair.due = if never && !pair.is_wanted() { Time(u64::MAX) } else { due };
            (pair.differs, pair.busy) = (None, false);
            (pair.failures, pair.lacks) = (pair.failures + 1, lacks.unwrap_or(pair.lacks));
        });
    }

    /// When something is due that can be asked for.
    pub fn next_deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, ..)| *at)
    }

    fn insert(&mut self, (peer, unit): (NodeId, Unit), pair: Pair) {
        match pair.differs {
            Some(since) => drop(self.differ.insert((!pair.is_wanted(), since, peer, unit))),
            None if pair.busy => {}
            None => drop(self.due.insert((pair.due, peer, unit))),
        }
        self.pairs.insert((peer, unit), pair);
    }

    fn change(&mut self, (peer, unit): (NodeId, Unit), by: impl FnOnce(&mut Pair)) {
        let Some(mut pair) = self.pairs.remove(&(peer, unit)) else { return };
        self.due.remove(&(pair.due, peer, unit));
        if let Some(since) = pair.differs {
            self.differ.remove(&(true, since, peer, unit));
            self.differ.remove(&(false, since, peer, unit));
        }
        by(&mut pair);
        self.insert((peer, unit), pair);
    }

    /// Who has just come, or come back, does not wait for its turn.
    fn first_turn(&self, now: Now, peer: NodeId) -> Time {
        let next = self.next_turn(now, peer);
        if self.cadence.interval.is_zero() {
            next
        } else {
            next.min(now.mono.plus(self.cadence.interval / 8))
        }
    }

    /// When this node's next turn with another owner begins.
    fn next_turn(&self, now: Now, peer: NodeId) -> Time {
        if self.cadence.interval.is_zero() {
            return Time(u64::MAX);
        }
        // Somewhat often, so that what is asked at the beginning has been compared by the end.
        let length = u64::try_from(self.cadence.interval.as_nanos() / 8 * 7).unwrap_or(u64::MAX);
        let length = length.max(1);
        let (low, high) = (self.me.min(peer), self.me.max(peer));
        // Pairs begin at different times.
        let mixed =
            (u64::from(low.0) << 32 | u64::from(high.0)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let shifted = now.wall.0.wrapping_add(mixed % length);
        let turn = shifted / length;
        let is_own = |turn: u64| turn.is_multiple_of(2) == (self.me == low);
        let more = if is_own(turn) { 2 } else { 1 };
        let begins = (turn + more).saturating_mul(length);
        now.mono.plus(Duration::from_nanos(begins.saturating_sub(shifted)))
    }
}

#[cfg(test)]
mod tests;

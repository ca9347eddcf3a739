//! What has been seen: for each actor everything up to a tick, and single writes beyond.
//!
//! "Everything up to a tick" can be told of an actor only by whoever holds what that actor held
//! when it wrote: gaps between ticks mean nothing. A write that is known of without all before it
//! is a single one, until a higher mark of its actor arrives.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Stamp, WallTime};

use super::{Actor, Dot, Tick};

/// A set of writes that have been seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CausalContext {
    /// All writes of the actor up to this tick.
    marks: BTreeMap<Actor, Tick>,
    /// INVARIANT: none is at or below its actor's mark.
    singles: BTreeSet<Dot>,
}

impl CausalContext {
    /// Of these marks and single writes; those that a mark covers are left out.
    pub fn new(
        marks: impl IntoIterator<Item = (Actor, Tick)>,
        singles: impl IntoIterator<Item = Dot>,
    ) -> CausalContext {
        let marks = marks.into_iter().collect();
        let mut context = CausalContext { marks, singles: singles.into_iter().collect() };
        context.tidy();
        context
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.singles.is_empty()
    }

    /// Marks and single writes.
    pub fn entries(&self) -> usize {
        self.marks.len() + self.singles.len()
    }

    /// Whether `dot` has been seen.
    pub fn covers(&self, dot: Dot) -> bool {
        self.marks.get(&dot.actor).is_some_and(|mark| *mark >= dot.tick)
            || self.singles.contains(&dot)
    }

    /// The highest tick seen of an actor.
    pub fn highest(&self, actor: Actor) -> Option<Tick> {
        let single = self.singles_of(actor).next_back().map(|dot| dot.tick);
        self.marks.get(&actor).copied().max(single)
    }

    /// The highest time of all that has been seen.
    pub fn latest(&self) -> WallTime {
        let marks = self.marks.values().map(|tick| tick.time);
        marks.chain(self.singles.iter().map(|dot| dot.tick.time)).max().unwrap_or_default()
    }

    /// The highest write of all that has been seen; of equal times the highest actor's.
    pub fn last(&self) -> Option<Dot> {
        let marks = self.marks.iter().map(|(actor, tick)| Dot { actor: *actor, tick: *tick });
        marks.chain(self.singles.iter().copied()).max_by_key(|dot| (dot.tick, dot.actor))
    }

    /// All actors of which something has been seen.
    pub fn actors(&self) -> BTreeSet<Actor> {
        self.marks.keys().copied().chain(self.singles.iter().map(|dot| dot.actor)).collect()
    }

    /// Marks, by actor.
    pub fn marks(&self) -> impl ExactSizeIterator<Item = (Actor, Tick)> + '_ {
        self.marks.iter().map(|(actor, tick)| (*actor, *tick))
    }

    /// Single writes, in order.
    pub fn singles(&self) -> impl ExactSizeIterator<Item = Dot> + '_ {
        self.singles.iter().copied()
    }

    /// Adds everything that `other` has seen.
    pub fn join(&mut self, other: &CausalContext) {
        for (actor, tick) in &other.marks {
            let mark = self.marks.entry(*actor).or_default();
            *mark = (*mark).max(*tick);
        }
        self.singles.extend(&other.singles);
        self.tidy();
    }

    /// Adds one write of which it is known that all earlier ones of its actor have been seen.
    pub(super) fn mark(&mut self, dot: Dot) {
        let mark = self.marks.entry(dot.actor).or_default();
        *mark = (*mark).max(dot.tick);
        self.tidy();
    }

    /// Adds one write, whatever is known of earlier ones.
    pub(super) fn add(&mut self, dot: Dot) {
        if !self.covers(dot) {
            self.singles.insert(dot);
        }
    }

    /// Forgets the oldest single writes but `kept`, until at most `most` are left. What is forgotten
    /// can come back as a sibling; nothing can be lost by it.
    pub(super) fn bound_singles(&mut self, most: usize, kept: Option<Dot>) {
        while self.singles.len() > most {
            let others = self.singles.iter().filter(|dot| Some(**dot) != kept);
            let Some(oldest) = others.min_by_key(|dot| (dot.tick, dot.actor)).copied() else {
                return;
            };
            self.singles.remove(&oldest);
        }
    }

    /// Forgets what has been seen of an actor at or below a purge floor and above what the actor's own set
    /// still knows: it was purged there, and nothing of it comes back.
    pub fn forget_purged(&mut self, actor: Actor, known: Option<Tick>, floor: Stamp) {
        if self.highest(actor) <= known {
            return;
        }
        let is_purged = |tick: Tick| Some(tick) > known && Dot { actor, tick }.stamp() <= floor;
        if self.marks.get(&actor).is_some_and(|mark| is_purged(*mark)) {
            self.marks.remove(&actor);
            if let Some(known) = known {
                self.marks.insert(actor, known);
            }
        }
        self.singles.retain(|dot| dot.actor != actor || !is_purged(dot.tick));
    }

    /// What has been seen of one actor alone.
    pub(super) fn of(&self, actor: Actor) -> CausalContext {
        let mark = self.marks.get(&actor).map(|tick| (actor, *tick));
        CausalContext {
            marks: mark.into_iter().collect(),
            singles: self.singles_of(actor).copied().collect(),
        }
    }

    /// Forgets the mark of an actor, and keeps `instead` as single writes.
    pub(super) fn unmark(&mut self, actor: Actor, instead: impl IntoIterator<Item = Dot>) {
        self.marks.remove(&actor);
        self.singles.retain(|dot| dot.actor != actor);
        self.singles.extend(instead.into_iter().filter(|dot| dot.actor == actor));
    }

    fn singles_of(&self, actor: Actor) -> impl DoubleEndedIterator<Item = &Dot> {
        let first = Dot { actor, tick: Tick::default() };
        let last = Dot { actor, tick: Tick { time: WallTime(u64::MAX), counter: u32::MAX } };
        self.singles.range(first..=last)
    }

    fn tidy(&mut self) {
        let marks = &self.marks;
        self.singles.retain(|dot| marks.get(&dot.actor).is_none_or(|mark| *mark < dot.tick));
    }
}

//! The siblings of one key: what has been seen, and which of it stands.
//!
//! Merging keeps a write that both sides hold, or that one holds and the other has not seen; a write
//! that one side has seen and does not hold was superseded there (the optimised observed-remove
//! set; its join in Almeida et al., "Delta state replicated data types", 2018, section 7). A delete
//! is no write of its own: it is having seen what it deletes. An empty set with a context is the
//! tombstone.
//!
//! A set is the sum of its actors' parts: each part can be sent, merged and lost by itself, since
//! what is told of one actor is true whatever is known of the others. A put sends the part of its
//! own actor and what it has superseded.

use std::collections::BTreeMap;

use crate::types::{RequestId, Stamp, Value, WallTime, limits};

use super::{Actor, CausalContext, Dot, Part, Tick};

/// Where the value of a sibling is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Here.
    Here(Value),
    /// Elsewhere, with so many bytes: stored apart, or left out.
    Away(u32),
    /// No value, but what one actor has added to a counter; in a [`Change`], what it is to add.
    Part(Part),
}

impl Payload {
    /// Bytes of the value.
    pub fn len(&self) -> usize {
        match self {
            Payload::Here(value) => value.as_bytes().len(),
            Payload::Away(bytes) => *bytes as usize,
            Payload::Part(part) => part.bytes(),
        }
    }

    /// Whether the value is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What one put wrote, or one increment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The put, over all its attempts; 0 when the client gave none.
    pub id: RequestId,
    /// When it ceases to be visible.
    pub expiry: Option<WallTime>,
    /// The value.
    pub payload: Payload,
}

/// A put or delete about to be made by an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub dot: Dot,
    /// What is written; `None` deletes.
    pub write: Option<Write>,
    /// What its writer had seen: it takes the place of all of it.
    pub seen: CausalContext,
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The name under which its write stands: an earlier one, when an earlier attempt of the same
    /// put still stands; `None` of a delete.
    pub stands: Option<Dot>,
    /// What it took the place of: what its writer had seen, and other attempts of the same puts.
    pub seen: CausalContext,
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its actor has written above its tick already: it must be stamped above this.
    Stale(Tick),
    /// Its context speaks of a write of the actor that the actor never made.
    Unknown,
    /// There would be too many siblings; so many.
    TooMany(usize),
    /// There would be too many bytes of siblings; so many.
    TooLarge(usize),
    /// The context would have too many entries; so many.
    TooLong(usize),
    /// It is an increment, and a value stands that is no counter.
    NoCounter,
    /// It is a put, and a counter stands that it has not seen all of.
    IsCounter,
    /// The counter would leave the bounds of an `i64`.
    Overflow,
}

/// The siblings of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiblingSet {
    pub(super) context: CausalContext,
    /// INVARIANT: the context covers each.
    pub(super) writes: BTreeMap<Dot, Write>,
}

impl SiblingSet {
    /// A set that has seen `context` and holds `writes`; `None` when a write was not seen.
    pub fn new(
        context: CausalContext,
        writes: impl IntoIterator<Item = (Dot, Write)>,
    ) -> Option<SiblingSet> {
        let writes: BTreeMap<Dot, Write> = writes.into_iter().collect();
        let covered = writes.keys().all(|dot| context.covers(*dot));
        covered.then_some(SiblingSet { context, writes })
    }

    /// What has been seen.
    pub fn context(&self) -> &CausalContext {
        &self.context
    }

    /// The lowest stamp of all it has seen.
    pub fn lowest(&self) -> Option<Stamp> {
        let marks = self.context.marks().map(|(actor, tick)| Dot { actor, tick });
        marks.chain(self.context.singles()).map(Dot::stamp).min()
    }

    /// The writes that stand.
    pub fn writes(&self) -> impl ExactSizeIterator<Item = (Dot, &Write)> {
        self.writes.iter().map(|(dot, write)| (*dot, write))
    }

    /// Whether nothing has ever been seen.
    pub fn is_blank(&self) -> bool {
        self.context.is_empty()
    }

    /// Bytes of all values.
    pub fn value_bytes(&self) -> usize {
        self.writes.values().map(|write| write.payload.len()).sum()
    }

    /// Bytes this set accounts for in queues and memory.
    pub fn bytes(&self) -> usize {
        let here = |write: &Write| match &write.payload {
            Payload::Here(_) | Payload::Part(_) => write.payload.len(),
            Payload::Away(_) => 0,
        };
        let values: usize = self.writes.values().map(here).sum();
        SiblingSet::weight_of(values, self.context.entries(), self.writes.len())
    }

    /// Bytes this set accounts for where it is kept, wherever its values are.
    pub fn weight(&self) -> usize {
        SiblingSet::weight_of(self.value_bytes(), self.context.entries(), self.writes.len())
    }

    /// The same of a set of so many bytes of values, entries of context and writes.
    pub fn weight_of(values: usize, entries: usize, writes: usize) -> usize {
        64 + values + 48 * entries + 96 * writes
    }

    /// Merges another replica's set into this one.
    pub fn join(&mut self, other: SiblingSet) {
        let SiblingSet { context, writes } = other;
        let keeps =
            |write: &Write| write.part().is_some() && crate::mutant!("counter-merge-keeps-both");
        self.writes
            .retain(|dot, write| writes.contains_key(dot) || !context.covers(*dot) || keeps(write));
        if crate::mutant!("merge-drops-concurrent") && !writes.is_empty() {
            self.writes.retain(|dot, _| writes.contains_key(dot));
        }
        for (dot, write) in writes {
            match self.writes.get_mut(&dot) {
                Some(held) if matches!(held.payload, Payload::Away(_)) => *held = write,
                Some(_) => {}
                None => {
                    let seen = self.context.covers(dot) && !crate::mutant!("delete-resurrects");
                    if !seen {
                        self.writes.insert(dot, write);
                    }
                }
            }
        }
        self.context.join(&context);
    }

    /// Makes a change of an actor of this replica, which holds all that the actor ever wrote here.
    ///
    /// # Errors
    /// See [`Refused`]; nothing has changed then.
    pub fn apply(&mut self, change: Change) -> Result<Applied, Refused> {
        let Change { dot, write, mut seen } = change;
        let own = self.context.highest(dot.actor);
        if seen.highest(dot.actor) > own {
            return Err(Refused::Unknown);
        }
        if let Some(mark) = own.filter(|mark| *mark >= dot.tick)
            && !crate::mutant!("dot-reused")
        {
            return Err(Refused::Stale(mark));
        }
        if let Some(Write { payload: Payload::Part(by), .. }) = &write {
            let by = by.clone();
            return self.increment(Change { dot, write, seen }, &by);
        }
        for dot in self.attempts(&seen) {
            seen.add(dot);
        }
        if write.is_some() && self.counter_would_stay(&seen, dot.tick.time) {
            return Err(Refused::IsCounter);
        }
        let mut after = self.clone();
        after.writes.retain(|dot, _| !seen.covers(*dot));
        after.context.join(&seen);
        if write.is_none() && after != *self {
            // It leaves its own tick, by which it is known how old the delete is.
            after.context.mark(dot);
        }
        let id = write.as_ref().map_or(RequestId(0), |write| write.id);
        let same = |(_, held): &(&Dot, &Write)| held.id == id && id != RequestId(0);
        let mut stands = after.writes.iter().find(same).map(|(standing, _)| *standing);
        if let (None, Some(write)) = (stands, write) {
            after.writes.insert(dot, write);
            after.context.mark(dot);
            after.check(self, dot.actor)?;
            stands = Some(dot);
        }
        *self = after;
        Ok(Applied { stands, seen })
    }

    /// Writes that were not seen, of puts of which another attempt's was: who has seen the one has
    /// seen what was put. Parts of counters hold more than one attempt, and are none of them.
    fn attempts(&self, seen: &CausalContext) -> Vec<Dot> {
        let covered = self.writes.iter().filter(|(dot, _)| seen.covers(**dot));
        let ids: Vec<RequestId> =
            covered.map(|(_, write)| write.id).filter(|id| *id != RequestId(0)).collect();
        let is_other = |dot: Dot, write: &Write| {
            write.part().is_none() && ids.contains(&write.id) && !seen.covers(dot)
        };
        let others = self.writes.iter().filter(|(dot, write)| is_other(**dot, write));
        others.map(|(dot, _)| *dot).collect()
    }

    /// Limits of what a client's put may make of `before`. One that makes it no worse passes.
    pub(super) fn check(&self, before: &SiblingSet, actor: Actor) -> Result<(), Refused> {
        let (many, few) = (self.groups(), before.groups());
        if many > limits::SIBLINGS_MAX && many > few {
            return Err(Refused::TooMany(many));
        }
        let own = |set: &SiblingSet| -> usize {
            let own = set.writes.iter().filter(|(dot, _)| dot.actor == actor);
            own.map(|(_, write)| write.payload.len()).sum()
        };
        // The own part is held to the limit by itself, since it travels in one piece.
        for (now, then) in [(self.value_bytes(), before.value_bytes()), (own(self), own(before))] {
            if now > limits::SIBLING_BYTES_MAX && now > then {
                return Err(Refused::TooLarge(now));
            }
        }
        let entries = self.context.entries();
        if entries > limits::CONTEXT_ENTRIES_MAX && entries > before.context.entries() {
            return Err(Refused::TooLong(entries));
        }
        Ok(())
    }

    /// What a put tells the other owners once it stands here: its actor's part, what it has superseded,
    /// and the write of an earlier attempt that stands in its place. That one may have been made under
    /// another name, by another node or before this one began a new tenure, and be nowhere else: who
    /// merges what is told counts as one that holds the put.
    pub fn told(&self, actor: Actor, applied: &Applied) -> SiblingSet {
        let mut told = self.part(actor);
        let standing = applied.stands.and_then(|dot| Some((dot, self.writes.get(&dot)?)));
        if let Some((dot, write)) = standing
            && dot.actor != actor
            && !crate::mutant!("standing-not-told")
        {
            told.context.add(dot);
            told.writes.insert(dot, write.clone());
        }
        if !crate::mutant!("context-not-told") {
            told.context.join(&applied.seen);
        }
        told
    }

    /// What its writer has seen once the write `dot` stands in this set: everything, when nothing
    /// stands beside it; else what it had seen before, and its own write.
    pub fn seen_after(&self, dot: Option<Dot>, seen: &CausalContext) -> CausalContext {
        if self.writes.keys().all(|standing| Some(*standing) == dot) {
            return self.context.clone();
        }
        let mut after = seen.clone();
        if let Some(dot) = dot {
            after.add(dot);
        }
        after.bound_singles(limits::CONTEXT_DOTS_MAX, dot);
        after
    }

    /// What has been seen by somebody who was shown only `shown` of these writes.
    pub fn seen_of(&self, shown: impl Fn(Dot) -> bool) -> CausalContext {
        let mut context = self.context.clone();
        for actor in context.actors() {
            let own = || self.writes.keys().filter(|dot| dot.actor == actor);
            if own().any(|dot| !shown(*dot)) {
                context.unmark(actor, own().copied().filter(|dot| shown(*dot)));
            }
        }
        context
    }

    /// What `other` lacks of this set, or nothing.
    pub fn beyond(&self, other: &SiblingSet) -> Option<SiblingSet> {
        let mut lacking = SiblingSet::default();
        for actor in self.context.actors() {
            let part = self.part(actor);
            if part != other.part(actor) {
                lacking.add_part(part);
            }
        }
        (!lacking.is_blank()).then_some(lacking)
    }

    /// The set in pieces of at most [`limits::SIBLING_PART_BYTES`], as far as one actor's part can
    /// be: those that hold writes first, so that whoever receives them never holds less meanwhile.
    pub fn pieces(self) -> Vec<SiblingSet> {
        if self.bytes() <= limits::SIBLING_PART_BYTES {
            return vec![self];
        }
        let mut parts: Vec<SiblingSet> =
            self.context.actors().into_iter().map(|actor| self.part(actor)).collect();
        parts.sort_by_key(|part| part.writes.is_empty());
        let mut pieces = vec![SiblingSet::default()];
        for part in parts {
            let full = pieces.last().is_some_and(|last| {
                !last.is_blank() && last.bytes() + part.bytes() > limits::SIBLING_PART_BYTES
            });
            if full {
                pieces.push(SiblingSet::default());
            }
            if let Some(last) = pieces.last_mut() {
                last.add_part(part);
            }
        }
        pieces
    }

    /// The same without values. Parts of counters are small, and stay.
    pub fn sketch(&self) -> SiblingSet {
        let mut sketch = self.clone();
        for write in sketch.writes.values_mut().filter(|write| write.part().is_none()) {
            write.payload = Payload::Away(u32::try_from(write.payload.len()).unwrap_or(u32::MAX));
        }
        sketch
    }

    /// Changes where values are.
    pub fn place(&mut self, mut place: impl FnMut(Dot, &mut Payload)) {
        for (dot, write) in &mut self.writes {
            place(*dot, &mut write.payload);
        }
    }

    /// Forgets a write as if it had never been seen, for a replica that finds it has no value for
    /// it: it then knows less of the actor, and is told again.
    pub fn forget(&mut self, dot: Dot) {
        self.writes.remove(&dot);
        let others: Vec<Dot> =
            self.writes.keys().filter(|other| other.actor == dot.actor).copied().collect();
        self.context.unmark(dot.actor, others);
    }

    /// What is told of one actor.
    fn part(&self, actor: Actor) -> SiblingSet {
        let own = self.writes.iter().filter(|(dot, _)| dot.actor == actor);
        SiblingSet {
            context: self.context.of(actor),
            writes: own.map(|(dot, write)| (*dot, write.clone())).collect(),
        }
    }

    /// Adds the part of an actor of which nothing is here yet.
    fn add_part(&mut self, part: SiblingSet) {
        self.context.join(&part.context);
        self.writes.extend(part.writes);
    }
}

//! Counters in causal tables: a counter is the sum of its parts, and a part is what one actor has added.
//! Each increment takes the place of its actor's own part, so merging sets keeps the latest part of
//! each (the PN-counter of Shapiro et al., "A comprehensive study of Convergent and Commutative
//! Replicated Data Types", 2011, section 3.1.3, with dots in the place of maxima).
//! The rules are in `docs/protocol/counter.md`.

use crate::types::{RequestId, Value, WallTime, limits};

use super::{Applied, CausalContext, Change, Dot, Payload, Refused, SiblingSet, Write};

/// What one actor has added to a counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The sum of all its increments. Each is an `i64`, so this cannot overflow.
    pub total: i128,
    /// The increments before the latest one, whose id the write has; the latest of them last.
    /// INVARIANT: fewer than [`limits::COUNTER_IDS_MAX`].
    pub earlier: Vec<RequestId>,
}

impl Part {
    /// What an increment asks for: a part that has added this and nothing before.
    pub fn of(by: i64) -> Part {
        Part { total: i128::from(by), earlier: Vec::new() }
    }

    /// Bytes of the encoding.
    pub fn bytes(&self) -> usize {
        16 + 16 * self.earlier.len()
    }
}

/// A counter as a reader sees it: its sum, within the bounds of what clients are shown.
pub(super) fn clamped(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

/// The same as a value: in decimal.
pub(super) fn as_value(sum: i128) -> Value {
    Value::new(clamped(sum).to_string()).expect("twenty digits are below the limit")
}

impl Write {
    /// The part that it is; `None` of other values.
    pub fn part(&self) -> Option<&Part> {
        match &self.payload {
            Payload::Part(part) => Some(part),
            Payload::Here(_) | Payload::Away(_) => None,
        }
    }

    /// Whether it knows the increment `id` as made.
    fn names(&self, id: RequestId) -> bool {
        let named = |part: &Part| self.id == id || part.earlier.contains(&id);
        id != RequestId(0)
            && !crate::mutant!("counter-retry-counts-twice")
            && self.part().is_some_and(named)
    }
}

impl SiblingSet {
    /// The sum of all parts that stand, expired or not; `None` when there are none.
    pub fn counter(&self) -> Option<i64> {
        self.sum().map(clamped)
    }

    fn sum(&self) -> Option<i128> {
        let mut parts = self.parts().peekable();
        parts.peek()?;
        Some(parts.map(|(_, _, part)| part.total).sum())
    }

    fn parts(&self) -> impl Iterator<Item = (Dot, &Write, &Part)> {
        self.writes.iter().filter_map(|(dot, write)| Some((*dot, write, write.part()?)))
    }

    /// Whether all parts have expired at `wall`: a counter expires as one.
    fn counter_has_expired(&self, wall: WallTime) -> bool {
        self.parts().all(|(_, write, _)| write.expiry.is_some_and(|expiry| expiry <= wall))
    }

    /// Whether a put that has seen `seen`, at `wall`, would stand beside a counter.
    pub(super) fn counter_would_stay(&self, seen: &CausalContext, wall: WallTime) -> bool {
        !self.counter_has_expired(wall) && self.parts().any(|(dot, ..)| !seen.covers(dot))
    }

    /// Adds what `change` writes to the part of its actor.
    ///
    /// # Errors
    /// See [`Refused`]; nothing has changed then.
    pub(super) fn increment(&mut self, change: Change, by: &Part) -> Result<Applied, Refused> {
        let Change { dot, write, .. } = change;
        let Some(Write { id, expiry, .. }) = write else { return Err(Refused::Unknown) };
        if let Some((made, ..)) = self.parts().find(|(_, write, _)| write.names(id)) {
            crate::sometimes!("counter: an increment comes twice");
            return Ok(Applied { stands: Some(made), seen: CausalContext::default() });
        }
        let wall = dot.tick.time;
        let has_expired = |write: &Write| write.expiry.is_some_and(|expiry| expiry <= wall);
        let others = || self.writes.iter().filter(|(_, write)| write.part().is_none());
        if others().any(|(_, write)| !has_expired(write)) {
            return Err(Refused::NoCounter);
        }
        let anew = self.counter_has_expired(wall);
        let is_own =
            |part: Dot| part.actor == dot.actor || crate::mutant!("counter-takes-all-parts");
        let gone = self.parts().map(|(part, ..)| part).filter(|part| anew || is_own(*part));
        let seen = CausalContext::new([], gone.chain(others().map(|(dot, _)| *dot)));
        let own = self.parts().find(|(part, ..)| !anew && part.actor == dot.actor);
        let part = own.map_or_else(|| by.clone(), |(_, write, part)| added(write, part, by));
        let mut after = self.clone();
        after.writes.retain(|dot, _| !seen.covers(*dot));
        after.context.join(&seen);
        after.writes.insert(dot, Write { id, expiry, payload: Payload::Part(part) });
        after.context.mark(dot);
        let sum = after.sum().unwrap_or_default();
        // One that leads back passes: coordinators that did not know of each other may have gone beyond.
        if i64::try_from(sum).is_err() && (sum > 0) == (by.total > 0) {
            return Err(Refused::Overflow);
        }
        after.check(self, dot.actor)?;
        *self = after;
        Ok(Applied { stands: Some(dot), seen })
    }
}

/// A part and one increment more.
fn added(write: &Write, part: &Part, by: &Part) -> Part {
    let mut earlier = part.earlier.clone();
    if write.id != RequestId(0) {
        earlier.push(write.id);
    }
    let too_many = (earlier.len() + 1).saturating_sub(limits::COUNTER_IDS_MAX);
    earlier.drain(..too_many);
    let before = if crate::mutant!("counter-part-begins-anew") { 0 } else { part.total };
    Part { total: before.saturating_add(by.total), earlier }
}

//! What a reader is shown of a set of siblings: writes of one put (two attempts that both came
//! through), and writes of equal values, are one sibling with the names of all of them; and all parts
//! of a counter are one, with their sum. They stay
//! apart in the set, so that merging needs no exception for them; whoever has seen one sibling has
//! seen all its writes.

use crate::types::{RequestId, Value, WallTime};

use super::counter::{as_value, clamped};
use super::{Dot, Payload, SiblingSet, Write};

/// One sibling as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The value, or its length when it is left out; of a counter its sum, in decimal.
    pub payload: Payload,
    /// When it ceases to be visible: the latest of its writes'.
    pub expiry: Option<WallTime>,
    /// Its writes, in order; at least one.
    pub dots: Vec<Dot>,
    ids: Vec<RequestId>,
    /// Of a counter: the sum.
    sum: Option<i128>,
}

impl Shown {
    /// The value; empty when it is left out.
    pub fn value(&self) -> Option<&Value> {
        match &self.payload {
            Payload::Here(value) => Some(value),
            Payload::Away(_) | Payload::Part(_) => None,
        }
    }

    /// The sum of a counter; `None` of another value.
    pub fn counter(&self) -> Option<i64> {
        self.sum.map(clamped)
    }

    /// The first of its writes, by time.
    pub fn first(&self) -> Dot {
        let first = self.dots.iter().min_by_key(|dot| (dot.tick, dot.actor));
        *first.expect("a sibling has a write")
    }

    fn is_same(&self, write: &Write) -> bool {
        if self.sum.is_some() || write.part().is_some() {
            return self.sum.is_some() == write.part().is_some();
        }
        if crate::mutant!("retry-makes-a-sibling") {
            return false;
        }
        let same_put = write.id != RequestId(0) && self.ids.contains(&write.id);
        let same_value = match (&self.payload, &write.payload) {
            (Payload::Here(one), Payload::Here(other)) => one == other,
            _ => false,
        };
        same_put || same_value
    }

    fn take(&mut self, dot: Dot, write: &Write) {
        if let (Some(sum), Some(part)) = (&mut self.sum, write.part()) {
            let nodes = || self.dots.iter().any(|other| other.actor.node == dot.actor.node);
            let lost = crate::mutant!("counter-tenure-lost") && nodes();
            *sum += if lost { 0 } else { part.total };
        }
        self.dots.push(dot);
        self.ids.push(write.id);
        // One that never expires outlives the others.
        self.expiry = self.expiry.zip(write.expiry).map(|(one, other)| one.max(other));
        if let (Payload::Away(_), Payload::Here(_)) = (&self.payload, &write.payload) {
            self.payload = write.payload.clone();
        }
    }
}

impl SiblingSet {
    /// The siblings a reader at `wall` sees, in the order in which they were written.
    pub fn shown(&self, wall: WallTime) -> Vec<Shown> {
        let mut all: Vec<Shown> = Vec::new();
        for (dot, write) in self.writes() {
            match all.iter_mut().find(|shown| shown.is_same(write)) {
                Some(shown) => shown.take(dot, write),
                None => all.push(Shown {
                    payload: write.payload.clone(),
                    expiry: write.expiry,
                    dots: vec![dot],
                    ids: vec![write.id],
                    sum: write.part().map(|part| part.total),
                }),
            }
        }
        for shown in &mut all {
            if let Some(sum) = shown.sum {
                shown.payload = Payload::Here(as_value(sum));
            }
        }
        all.retain(|shown| shown.expiry.is_none_or(|expiry| wall < expiry));
        all.sort_by_key(|shown| (shown.first().tick, shown.first().actor));
        all
    }

    /// How many siblings there are, expired ones included.
    pub fn groups(&self) -> usize {
        if self.writes.len() < 2 { self.writes.len() } else { self.shown(WallTime(0)).len() }
    }
}

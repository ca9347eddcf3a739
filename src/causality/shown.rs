//! What a reader is shown of a set of siblings: writes of one put (two attempts that both came
//! through), and writes of equal values, are one sibling with the names of all of them. They stay
//! apart in the set, so that merging needs no exception for them; whoever has seen one sibling has
//! seen all its writes.

use crate::types::{RequestId, Value, WallTime};

use super::{Dot, Payload, SiblingSet, Write};

/// One sibling as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The value, or its length when it is left out.
    pub payload: Payload,
    /// When it ceases to be visible: the latest of its writes'.
    pub expiry: Option<WallTime>,
    /// Its writes, in order; at least one.
    pub dots: Vec<Dot>,
    ids: Vec<RequestId>,
}

impl Shown {
    /// The value; empty when it is left out.
    pub fn value(&self) -> Option<&Value> {
        match &self.payload {
            Payload::Here(value) => Some(value),
            Payload::Away(_) => None,
        }
    }

    /// The first of its writes, by time.
    pub fn first(&self) -> Dot {
        let first = self.dots.iter().min_by_key(|dot| (dot.tick, dot.actor));
        *first.expect("a sibling has a write")
    }

    fn is_same(&self, write: &Write) -> bool {
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
                }),
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

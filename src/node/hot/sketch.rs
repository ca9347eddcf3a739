//! The keys that are asked for most, in bounded memory: the space-saving sketch of Metwally, Agrawal and El
//! Abbadi (2005), over weights that grow with time, so that what is long ago counts little.
//!
//! INVARIANT: a key's true weight is not above its count, and not below its count less its error; a key
//! that is not here has had no more than the smallest count; the counts together are all that was added.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::types::{Key, TableId};

/// A key of a table.
pub(super) type Name = (TableId, Key);

/// A key, and how much was counted for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counted {
    pub(super) name: Name,
    /// Never less than its weight.
    pub(super) count: f64,
    /// By how much it may be too much.
    pub(super) error: f64,
}

/// The sketch.
#[derive(Debug)]
pub(super) struct Sketch {
    slots: Vec<Counted>,
    places: BTreeMap<Name, usize>,
    max: usize,
}

impl Sketch {
    /// One that knows `max` keys, 1 or more.
    pub(super) fn new(max: usize) -> Sketch {
        Sketch { slots: Vec::with_capacity(max), places: BTreeMap::new(), max: max.max(1) }
    }

    /// Counts a key.
    pub(super) fn add(&mut self, name: Name, weight: f64) {
        if let Some(slot) = self.places.get(&name).and_then(|place| self.slots.get_mut(*place)) {
            slot.count += weight;
            return;
        }
        let name = own(&name);
        if self.slots.len() < self.max {
            self.places.insert(name.clone(), self.slots.len());
            self.slots.push(Counted { name, count: weight, error: 0.0 });
            return;
        }
        // The newcomer may have had all that the one it drives out has had.
        let lowest =
            self.slots.iter().enumerate().min_by(|(_, a), (_, b)| a.count.total_cmp(&b.count));
        let Some(place) = lowest.map(|(place, _)| place) else { return };
        let Some(slot) = self.slots.get_mut(place) else { return };
        self.places.remove(&slot.name);
        slot.error = if crate::mutant!("sketch-forgets-error") { 0.0 } else { slot.count };
        slot.count += weight;
        slot.name = name.clone();
        self.places.insert(name, place);
    }

    /// How much a key has had at least.
    pub(super) fn sure(&self, name: &Name) -> f64 {
        let slot = self.places.get(name).and_then(|place| self.slots.get(*place));
        slot.map_or(0.0, |slot| slot.count - slot.error)
    }

    /// Those with the highest counts, highest first.
    pub(super) fn top(&self, limit: usize) -> Vec<Counted> {
        let mut all = self.slots.clone();
        all.sort_by(|a, b| b.count.total_cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        all.truncate(limit);
        all
    }

    /// Makes all weights smaller by the same factor.
    pub(super) fn scale(&mut self, factor: f64) {
        for slot in &mut self.slots {
            slot.count *= factor;
            slot.error *= factor;
        }
    }
}

/// A copy of its own: a key is cut out of what a client sent, and would keep all of that.
fn own((table, key): &Name) -> Name {
    let copy = Key::new(Bytes::copy_from_slice(key.as_bytes()));
    (*table, copy.expect("it was a key before"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(number: u32) -> Name {
        (TableId(1), Key::new(format!("k{number}")).unwrap())
    }

    fn counted(stream: &[(u32, u8)], max: usize) -> (Sketch, BTreeMap<Name, f64>) {
        let (mut sketch, mut exact) = (Sketch::new(max), BTreeMap::new());
        for (number, weight) in stream {
            sketch.add(name(*number), f64::from(*weight));
            *exact.entry(name(*number)).or_insert(0.0) += f64::from(*weight);
        }
        (sketch, exact)
    }

    /// Whether all that is promised holds.
    fn holds(sketch: &Sketch, exact: &BTreeMap<Name, f64>, max: usize) -> bool {
        let top = sketch.top(usize::MAX);
        let all: f64 = exact.values().sum();
        let smallest = top.iter().map(|slot| slot.count).fold(f64::MAX, f64::min);
        let sums = (top.iter().map(|slot| slot.count).sum::<f64>() - all).abs() < 1e-6;
        let bounded = |slot: &Counted| {
            let truth = exact.get(&slot.name).copied().unwrap_or(0.0);
            let within = all / f64::from(u32::try_from(max).unwrap());
            truth <= slot.count && truth >= slot.count - slot.error && slot.error <= within
        };
        let absent = exact.iter().filter(|(name, _)| !sketch.places.contains_key(*name));
        let small = absent.into_iter().all(|(_, weight)| *weight <= smallest);
        top.len() <= max && sums && top.iter().all(bounded) && small
    }

    proptest! {
        #[test]
        fn counts_err_by_no_more_than_they_say(
            stream in prop::collection::vec((0u32..40, 1u8..9), 0..400),
            max in 1usize..12,
        ) {
            let (sketch, exact) = counted(&stream, max);
            prop_assert!(holds(&sketch, &exact, max));
        }

        #[test]
        fn what_has_more_than_its_part_is_always_found(
            stream in prop::collection::vec((0u32..40, 1u8..9), 1..400),
        ) {
            let (sketch, exact) = counted(&stream, 8);
            let all: f64 = exact.values().sum();
            for (name, weight) in exact {
                prop_assert!(weight <= all / 8.0 || sketch.places.contains_key(&name));
            }
        }
    }

    #[test]
    fn a_sketch_that_forgets_its_error_is_found_out() {
        let _armed = crate::testing::arm_mutant("sketch-forgets-error");
        let stream: Vec<(u32, u8)> = (0..20).map(|i| (i, 1)).collect();
        let (sketch, exact) = counted(&stream, 4);
        assert!(!holds(&sketch, &exact, 4));
    }

    #[test]
    fn scaling_keeps_the_order() {
        let (mut sketch, _) = counted(&[(1, 8), (2, 4), (3, 2)], 2);
        let before: Vec<Name> = sketch.top(2).into_iter().map(|slot| slot.name).collect();
        sketch.scale(0.5);
        let top = sketch.top(2);
        assert_eq!(top.iter().map(|slot| slot.name.clone()).collect::<Vec<_>>(), before);
        assert!((top[0].count - 4.0).abs() < 1e-9);
    }
}

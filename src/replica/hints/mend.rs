//! The index of hints after damage. Where lost keys are deleted, a hint may have lost its entry in the index,
//! and would never be handed over; an entry may have lost its hint, and would stand in the way of all
//! behind it. `docs/protocol/repair.md`, "Healing".

use std::ops::Bound;

use super::super::disk_error;
use super::super::kept::{Held, encode_aged, totals};
use super::super::keyspace::{HINT, HINT_AGE, hint_age_key, hint_age_place, hint_key, hint_place};
use crate::message::{DiskError, HintPlace};
use crate::storage::{Batch, Direction, KeyRange, Snapshot};

/// Most entries that are put right in one batch.
const MENDED_MAX: usize = 50_000;

/// Hints and their index as they will be once some keys are gone.
pub(in crate::replica) struct Mending<'a> {
    pub(in crate::replica) snapshot: Snapshot,
    /// What is deleted in the same batch: nothing of it is read.
    pub(in crate::replica) lost: &'a [KeyRange],
}

impl Mending<'_> {
    /// Adds what puts the index right to the batch that deletes what is lost; the caller holds all stripes.
    /// Returns whether that is all there is to do. What cannot be read for other damage is left to
    /// whoever deletes that: it puts everything right.
    pub(in crate::replica) fn add_to(&self, batch: &mut Batch) -> bool {
        let mut room = MENDED_MAX;
        // INVARIANT: no error is lost with this. A bad place that was met is on the engine's list.
        let entries = self.restore_entries(batch, &mut room).unwrap_or(true);
        let dropped = self.drop_entries(batch, &mut room).unwrap_or(true);
        entries && dropped
    }

    /// Gives each hint that is left its entry.
    fn restore_entries(&self, batch: &mut Batch, room: &mut usize) -> Result<bool, DiskError> {
        self.each(HINT, |key, value| {
            let Some((target, place)) = hint_place(key) else { return Ok(true) };
            // One that does not decode is told when it is read.
            let Some(held) = Held::decode(value) else { return Ok(true) };
            let place = HintPlace { created: held.created, ..place };
            let entry = hint_age_key(target, &place);
            if self.has(&entry)? || crate::mutant!("hint-entry-not-mended") {
                return Ok(true);
            }
            crate::sometimes!("replica: a hint gets its entry back");
            let bytes = totals(held.custody, &place, &held.kept).bytes;
            batch.put(&entry, &encode_aged(held.custody, bytes));
            *room = room.saturating_sub(1);
            Ok(*room > 0)
        })
    }

    /// Takes away the entries of hints that are gone.
    fn drop_entries(&self, batch: &mut Batch, room: &mut usize) -> Result<bool, DiskError> {
        self.each(HINT_AGE, |entry, _| {
            let Some((target, place)) = hint_age_place(entry) else { return Ok(true) };
            if !self.has(&hint_key(target, place.unit, place.table, &place.key))? {
                crate::sometimes!("replica: an entry goes whose hint is gone");
                batch.delete(entry);
                *room = room.saturating_sub(1);
            }
            Ok(*room > 0)
        })
    }

    fn has(&self, key: &[u8]) -> Result<bool, DiskError> {
        if self.lost.iter().any(|range| range.contains(key)) {
            return Ok(false);
        }
        let found = self.snapshot.get(key).map_err(|error| disk_error(&error))?;
        Ok(found.is_some())
    }

    /// All of a space that is not lost, until told otherwise. Returns whether it came to the end.
    fn each(
        &self,
        space: u8,
        mut visit: impl FnMut(&[u8], bytes::Bytes) -> Result<bool, DiskError>,
    ) -> Result<bool, DiskError> {
        for range in outside(self.lost, &[space], &[space + 1]) {
            let end = range.end().map_or(Bound::Unbounded, Bound::Excluded);
            let bounds = (Bound::Included(range.start()), end);
            for entry in self.snapshot.range(bounds.0, bounds.1, Direction::Forward) {
                let (key, value, _) = entry.map_err(|error| disk_error(&error))?;
                if !visit(&key, value)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// What of a stretch lies outside of ranges, which are in order and apart.
fn outside(ranges: &[KeyRange], start: &[u8], end: &[u8]) -> Vec<KeyRange> {
    let (mut left, mut next) = (Vec::new(), start.to_vec());
    for range in ranges.iter().filter(|range| range.meets(start, end)) {
        if *next < *range.start() {
            left.push(KeyRange::between(&next, range.start()));
        }
        next = range.end().unwrap_or(end).to_vec();
    }
    left.push(KeyRange::between(&next, end));
    left.retain(|range| !range.is_empty());
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_of_ranges_is_what_is_left_of_a_stretch() {
        let lost = [KeyRange::between(b"a", b"c"), KeyRange::between(b"e", b"x")];
        let left = |start: &[u8], end: &[u8]| outside(&lost, start, end);
        assert_eq!(left(b"b", b"g"), [KeyRange::between(b"c", b"e")]);
        let ends = [KeyRange::between(b"c", b"e"), KeyRange::between(b"x", b"z")];
        assert_eq!(left(b"a", b"z"), ends);
        assert_eq!(left(b"f", b"h"), []);
        assert_eq!(outside(&[], b"f", b"h"), [KeyRange::between(b"f", b"h")]);
        assert_eq!(outside(&[KeyRange::starting_at(b"g")], b"f", b"h").len(), 1);
    }
}

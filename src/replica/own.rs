//! The node's own records stand twice: nobody else has them. The second copy stands in a space of its own, whose
//! keys share no table with others, and is written in the same batch. What damage takes of one copy is read,
//! and put right, from the other. `docs/protocol/repair.md`, "Healing".

use std::ops::Bound;

use bytes::Bytes;

use super::Shared;
use super::keyspace::{META, META_COPY};
use crate::storage::{self, Batch, Direction, Durability, Engine, KeyRange, Snapshot};

/// Both copies.
pub(super) const SPACES: [u8; 2] = [META, META_COPY];

/// Keys behind the space, with what stands there.
type Records = Vec<(Vec<u8>, Bytes)>;

fn spaces() -> impl Iterator<Item = u8> {
    let copies = if crate::mutant!("own-record-once") { 1 } else { SPACES.len() };
    SPACES.into_iter().take(copies)
}

fn within(space: u8, key: &[u8]) -> Vec<u8> {
    [&[space], key].concat()
}

/// Adds a record to a batch, in both copies.
pub(super) fn put(batch: &mut Batch, key: &[u8], value: &[u8]) {
    spaces().for_each(|space| batch.put(&within(space, key), value));
}

/// A record as one of its copies has it; `None` where there is none, or none can be read.
pub(super) fn get(snapshot: &Snapshot, key: &[u8]) -> Option<Bytes> {
    let mut copies = spaces().map(|space| snapshot.get(&within(space, key)));
    copies.find_map(|copy| copy.ok().flatten()).map(|(value, _)| value)
}

/// Takes a record out of both.
pub(super) fn delete(batch: &mut Batch, key: &[u8]) {
    spaces().for_each(|space| batch.delete(&within(space, key)));
}

/// Takes out all records whose keys begin so.
pub(super) fn delete_all(batch: &mut Batch, prefix: &[u8]) {
    spaces().for_each(|space| batch.delete_range(&KeyRange::prefix(&within(space, prefix))));
}

/// A stretch of keys, without the space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    start: Vec<u8>,
    /// `None`: the end of the space.
    end: Option<Vec<u8>>,
}

impl Part {
    const fn all() -> Part {
        Part { start: Vec::new(), end: None }
    }

    /// What a range holds of a space, if anything.
    fn of(range: &KeyRange, space: u8) -> Option<Part> {
        let behind = |key: &[u8]| key.get(1..).unwrap_or_default().to_vec();
        let (first, above) = ([space], [space + 1]);
        let start = range.start().max(&first[..]);
        let end = range.end().unwrap_or(&above[..]).min(&above[..]);
        let part = Part { start: behind(start), end: (*end < above[..]).then(|| behind(end)) };
        (start < end).then_some(part)
    }

    fn within(&self, space: u8) -> KeyRange {
        let end = self.end.as_ref().map_or(vec![space + 1], |end| within(space, end));
        KeyRange::between(&within(space, &self.start), &end)
    }
}

fn entries(
    snapshot: &Snapshot,
    space: u8,
    part: &Part,
) -> impl Iterator<Item = Result<(Vec<u8>, Bytes), storage::Error>> {
    let range = part.within(space);
    let end = range.end().map_or(Bound::Unbounded, Bound::Excluded);
    let entries = snapshot.range(Bound::Included(range.start()), end, Direction::Forward);
    entries.map(|entry| {
        entry.map(|(key, value, _)| (key.get(1..).unwrap_or_default().to_vec(), value))
    })
}

fn read(snapshot: &Snapshot, space: u8, part: &Part) -> Result<Records, storage::Error> {
    entries(snapshot, space, part).collect()
}

/// All own records: of the first copy, around what cannot be read of it, and that of the second.
///
/// # Errors
/// A place that cannot be read of either.
pub(super) fn read_all(engine: &Engine) -> Result<Records, storage::Error> {
    let snapshot = engine.snapshot();
    let (mut records, mut from) = (Records::new(), Vec::new());
    loop {
        let (read, error) = read_while_sound(&snapshot, META, from.clone());
        let reached = read.last().map_or(from, |(key, _)| [key, &[0][..]].concat());
        records.extend(read);
        let Some(error) = error else { return Ok(records) };
        if snapshot.prefix(&[META_COPY], Direction::Forward).next().is_none() {
            // A store of before there was a copy.
            return Err(error);
        }
        // Wherever the bad place begins: what follows the last key that was read is of the second copy.
        let damage = engine.damage();
        let lost = damage.iter().flat_map(|damage| &damage.ranges);
        let lost = lost.filter_map(|range| Part::of(range, META));
        let ahead = lost.filter(|part| part.end.as_ref().is_none_or(|end| *end > reached));
        let Some(Part { end, .. }) = ahead.min() else { return Err(error) };
        let part = Part { start: reached, end: end.clone() };
        records.extend(self::read(&snapshot, META_COPY, &part)?);
        crate::sometimes!("replica: own records are read from their second copy");
        let Some(end) = end else { return Ok(records) };
        from = end;
    }
}

/// The records from a place on, up to what cannot be read.
fn read_while_sound(
    snapshot: &Snapshot,
    space: u8,
    start: Vec<u8>,
) -> (Records, Option<storage::Error>) {
    let mut records = Records::new();
    for entry in entries(snapshot, space, &Part { start, end: None }) {
        match entry {
            Ok(record) => records.push(record),
            Err(error) => return (records, Some(error)),
        }
    }
    (records, None)
}

/// Puts right what a damaged range of keys has taken of one copy from the other. Returns whether it could.
/// What it writes is on its way, and is told to be durable by the damage that is gone.
pub(super) fn mend(shared: &Shared, range: &KeyRange) -> bool {
    if crate::mutant!("own-record-not-mended") {
        return false;
    }
    // INVARIANT: between the reading of the other copy and this batch nobody changes a record.
    let _alone = shared.submitting.write();
    let snapshot = shared.engine.snapshot();
    let mut batch = Batch::new();
    for (space, other) in [(META, META_COPY), (META_COPY, META)] {
        let Some(part) = Part::of(range, space) else { continue };
        let Ok(records) = read(&snapshot, other, &part) else { return false };
        batch.delete_range(&part.within(space));
        records.iter().for_each(|(key, value)| batch.put(&within(space, key), value));
    }
    crate::sometimes!("replica: own records are put right from their other copy");
    send(shared, batch)
}

/// Makes both copies equal, of a store that has just been opened and read.
pub(super) fn mend_all(shared: &Shared) {
    let snapshot = shared.engine.snapshot();
    let [first, second] = SPACES.map(|space| read(&snapshot, space, &Part::all()));
    match (first, second) {
        // Of a store of before there was a copy.
        (Ok(first), Ok(second)) if first != second && !crate::mutant!("own-record-once") => {
            let mut batch = Batch::new();
            batch.delete_range(&KeyRange::prefix(&[META_COPY]));
            first.iter().for_each(|(key, value)| batch.put(&within(META_COPY, key), value));
            send(shared, batch);
        }
        (Ok(_), Ok(_)) => {}
        _ => {
            for range in shared.engine.damage().iter().flat_map(|damage| &damage.ranges) {
                if SPACES.into_iter().any(|space| Part::of(range, space).is_some()) {
                    mend(shared, range);
                }
            }
        }
    }
}

/// With the right to submit alone. Asks for a flush: bad blocks go once what hides them is in a table.
fn send(shared: &Shared, batch: Batch) -> bool {
    let submitted = shared.engine.submit(batch, Durability::Synced, Box::new(|_| ()));
    submitted.and_then(|_| shared.engine.request_flush()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &KeyRange, space: u8) -> Option<KeyRange> {
        Part::of(range, space).map(|part| part.within(space))
    }

    #[test]
    fn a_part_of_a_range_is_what_it_holds_of_a_space() {
        let between = |start: &[u8], end: &[u8]| KeyRange::between(start, end);
        let own = between(&[META, 4], &[META, 9]);
        assert_eq!(part(&own, META), Some(own.clone()));
        assert_eq!(part(&own, META_COPY), None);
        assert_eq!(part(&between(&[META, 4], &[3]), META), Some(between(&[META, 4], &[META + 1])));
        assert_eq!(part(&between(&[META, 4], &[3]), META_COPY), None);
        let upper = between(&[2], &[META_COPY, 4]);
        assert_eq!(part(&upper, META_COPY), Some(between(&[META_COPY], &[META_COPY, 4])));
        assert_eq!(part(&between(&[META_COPY, 4], &[META_COPY, 4]), META_COPY), None);
        let open = KeyRange::starting_at(&[META_COPY, 4]);
        assert_eq!(part(&open, META_COPY), Some(between(&[META_COPY, 4], &[META_COPY + 1])));
    }
}

//! Damage of the store as the node hears of it: which units may have lost something; that it is durable
//! that they have; and how what is damaged goes. `docs/protocol/repair.md`, "Healing".
//!
//! A bad block goes when all that can stand in it has been deleted by ranges. For units that the node
//! owns, that is when they are emptied to be filled anew; what lies between them nobody misses.

use bytes::Bytes;
use parking_lot::Mutex;

use super::execute::submit;
use super::hints::mend::Mending;
use super::keyspace::{DATA, HINT, HINT_AGE, HINT_VALUE, META_COPY, OVERLAY, unit_prefix};
use super::{Done, MissingPart, Shared, own, restore};
use crate::message::{
    DiskAnswer, DiskError, LostKeys, MetaRecord, ScrubMark, ScrubPiece, UnitDone,
};
use crate::storage::{Batch, Durability, Engine, KeyRange, MissingFile, ScrubPlace};
use crate::types::{ClassId, Partition, Unit};

/// Most ranges that are deleted at once.
const RANGES_MAX: usize = 64;
/// Bytes of the lowest key that a unit can have behind its prefix.
const TABLE_BYTES: usize = 4;

/// What is damaged, looked at once more.
///
/// Of what the node's own records lack one copy is put right from the other at once.
pub(super) fn find(shared: &Shared) -> Vec<LostKeys> {
    let mut found = Vec::new();
    for damage in shared.engine.damage() {
        crate::sometimes!("replica: damage is found");
        let (file, offset) = (damage.file.display(), damage.offset);
        let what = format!("{file} at {offset}: {}", damage.error);
        found.extend(damage.ranges.iter().map(|range| {
            let lost = keys(range, what.clone());
            if !lost.own || !own::mend(shared, range) {
                return lost;
            }
            let what =
                format!("{what} (records of the node itself, put right from their other copy)");
            LostKeys { own: false, what, ..lost }
        }));
    }
    found
}

/// A file that is missing, in words.
pub(super) fn missing(file: &MissingFile) -> MissingPart {
    let lost: Vec<LostKeys> = file.ranges.iter().map(|it| keys(it, String::new())).collect();
    let mut of: Vec<String> = Vec::new();
    let units = lost.iter().filter_map(|keys| keys.units);
    if let Some((first, last)) = units.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
        of.push(format!("of units {first} to {last}"));
    }
    of.extend(lost.iter().any(|keys| keys.hints).then(|| "hints".to_owned()));
    let own = lost.iter().any(|keys| keys.own);
    of.extend(own.then(|| "records of the node itself, which nobody else has".to_owned()));
    let lost = match (file.log, of.is_empty()) {
        (true, _) => "of the log: acknowledged writes of any unit".to_owned(),
        (false, true) => "nothing that is in force".to_owned(),
        (false, false) => of.join(", "),
    };
    MissingPart { file: file.file.clone(), lost }
}

/// Reads a piece of what is on disk.
pub(super) fn scrub(engine: &Engine, from: ScrubMark, bytes: u64) -> ScrubPiece {
    let ScrubMark { file, offset } = from;
    let read = engine.scrub(ScrubPlace { file, offset }, bytes);
    let next = read.next.map(|ScrubPlace { file, offset }| ScrubMark { file, offset });
    ScrubPiece { next, bytes: read.bytes, done: read.done, total: read.total }
}

fn keys(range: &KeyRange, what: String) -> LostKeys {
    let meets = |space: u8| {
        let below = range.start() < &[space + 1][..];
        below && range.end().is_none_or(|end| end > &[space][..])
    };
    let spaces = [DATA, OVERLAY].into_iter().filter(|space| meets(*space));
    let units = spaces.filter_map(|space| units_of(range, space));
    let units = units.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
    LostKeys {
        what,
        start: Bytes::copy_from_slice(range.start()),
        end: range.end().map(Bytes::copy_from_slice),
        units,
        hints: [HINT, HINT_AGE, HINT_VALUE].into_iter().any(meets),
        own: own::SPACES.into_iter().any(meets),
    }
}

/// The first and the last unit that a range may hold keys of in a space.
fn units_of(range: &KeyRange, space: u8) -> Option<(Unit, Unit)> {
    let first = match range.start().split_first() {
        Some((first, rest)) if *first == space => number(rest),
        _ => 0,
    };
    let last = match range.end().and_then(<[u8]>::split_first) {
        Some((first, rest)) if *first == space => {
            let number = number(rest);
            // A unit's lowest key has a table's number behind the unit's.
            let mut lowest = unit_prefix(space, unit(number)).to_vec();
            lowest.extend([0; TABLE_BYTES]);
            match range.end().is_some_and(|end| *end <= *lowest) {
                true => number.checked_sub(1)?,
                false => number,
            }
        }
        _ => u32::MAX,
    };
    (first <= last).then(|| (unit(first), unit(last)))
}

/// The number of a unit, of the first bytes behind the space, as far as they are there.
fn number(rest: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    bytes.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    u32::from_be_bytes(bytes)
}

fn unit(number: u32) -> Unit {
    let [c0, c1, p0, p1] = number.to_be_bytes();
    Unit {
        class: ClassId(u16::from_be_bytes([c0, c1])),
        partition: Partition(u16::from_be_bytes([p0, p1])),
    }
}

/// Makes durable that units have lost data; with `log`, that the damage of the log is dealt with.
pub(super) fn lose(shared: &Shared, records: &[MetaRecord], log: bool, done: Done) {
    let mut batch = Batch::new();
    for record in records {
        if let Err(error) = restore::put(&mut batch, record) {
            return done(Err(DiskError::Io(error.to_string())));
        }
    }
    if log {
        restore::forget_damage(&mut batch);
    }
    submit(shared, batch, Durability::Synced, DiskAnswer::Unit(UnitDone::Merged), done);
}

/// Deletes lost keys outside of the units that are kept, and stores what is then on record. Records of the
/// node stay where they are.
pub(super) fn forgo(
    shared: &Shared,
    (keys, kept): (&LostKeys, &[Unit]),
    records: &[MetaRecord],
    done: Done,
) {
    let untold = keys.units.map(|(first, last)| shared.trees.untold(first, last));
    let lost = between(keys, kept);
    if let Err(error) = delete_lost(shared, (keys, &lost), records) {
        return done(Err(error));
    }
    // INVARIANT: nothing of a batch is on disk before all that was submitted before it.
    submit(shared, Batch::new(), Durability::Synced, DiskAnswer::Unit(UnitDone::Merged), done);
    // What is deleted was told to nobody: the trees are in doubt.
    drop(untold);
}

fn delete_lost(
    shared: &Shared,
    (keys, lost): (&LostKeys, &[KeyRange]),
    records: &[MetaRecord],
) -> Result<(), DiskError> {
    let write =
        |batch| submit(shared, batch, Durability::Default, DiskAnswer::Persisted, ignored());
    // Hints stand behind all units: with the last ranges goes what is said of them.
    let (some, last) = lost.split_at(lost.len().saturating_sub(RANGES_MAX));
    for ranges in some.chunks(RANGES_MAX) {
        let mut batch = Batch::new();
        ranges.iter().for_each(|range| batch.delete_range(range));
        write(batch);
    }
    let mut batch = Batch::new();
    last.iter().for_each(|range| batch.delete_range(range));
    for record in records {
        restore::put(&mut batch, record).map_err(|error| DiskError::Io(error.to_string()))?;
    }
    if !keys.hints {
        write(batch);
        return Ok(());
    }
    let _guards: Vec<_> = shared.stripes.iter().map(Mutex::lock).collect();
    let mut lost = last;
    loop {
        let is_all = Mending { snapshot: shared.engine.snapshot(), lost }.add_to(&mut batch);
        write(core::mem::take(&mut batch));
        if is_all {
            return Ok(());
        }
        lost = &[];
    }
}

/// Whether it was written is heard of the batch behind it.
fn ignored() -> Done {
    Box::new(|_| {})
}

/// What of the keys belongs to none of these units.
fn between(keys: &LostKeys, kept: &[Unit]) -> Vec<KeyRange> {
    let mut kept: Vec<KeyRange> = [DATA, OVERLAY]
        .iter()
        .flat_map(|space| kept.iter().map(|unit| KeyRange::prefix(&unit_prefix(*space, *unit))))
        .collect();
    kept.sort_by(|one, other| one.start().cmp(other.start()));
    let mut next = keys.start.to_vec().max(vec![DATA]);
    let mut left = Vec::new();
    // Behind the hints stand own records again.
    let spaces_end = Bytes::from_static(&[META_COPY]);
    let end = keys.end.clone().map_or(spaces_end.clone(), |end| end.min(spaces_end));
    for unit in kept {
        if unit.end().is_some_and(|end| *end <= *next) || *unit.start() >= *end {
            continue;
        }
        if *next < *unit.start() {
            left.push(KeyRange::between(&next, unit.start()));
        }
        next = unit.end().unwrap_or(&end).to_vec();
    }
    if *next < *end {
        left.push(KeyRange::between(&next, &end));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::keyspace::{META, data_key};
    use crate::types::{Key, TableId};

    fn of(partition: u16) -> Unit {
        Unit { class: ClassId(0), partition: Partition(partition) }
    }

    fn key(partition: u16, key: &str) -> Vec<u8> {
        data_key(of(partition), TableId(1), &Key::new(key.to_owned()).unwrap())
    }

    fn lost(start: &[u8], end: &[u8]) -> LostKeys {
        keys(&KeyRange::between(start, end), String::new())
    }

    #[test]
    fn a_range_of_keys_tells_the_units_that_it_touches() {
        let units = |start: &[u8], end: &[u8]| lost(start, end).units;
        assert_eq!(units(&key(3, "a"), &key(3, "b")), Some((of(3), of(3))));
        assert_eq!(units(&key(3, "a"), &key(5, "b")), Some((of(3), of(5))));
        // The shortest bytes between two units' keys are not above the lowest key of the second.
        assert_eq!(units(&key(3, "a"), &[DATA, 0, 0, 0, 5, 0]), Some((of(3), of(4))));
        assert_eq!(units(&[META, 1], &key(2, "b")), Some((of(0), of(2))));
        assert_eq!(units(&key(9, "a"), &[HINT]).map(|units| units.0), Some(of(0)), "overlays too");
        assert_eq!(units(&[META, 1], &[META, 2]), None);
        assert_eq!(units(&[HINT, 1], &[HINT, 2]), None);
        let all = lost(&[META, 1], &[HINT, 2]);
        assert!(all.own && all.hints);
        let copy = lost(&[META_COPY, 1], &[META_COPY, 2]);
        assert!(copy.own && !copy.hints && copy.units.is_none());
        let data = lost(&key(1, "a"), &key(2, "b"));
        assert!(!data.own && !data.hints);
    }

    #[test]
    fn what_lies_between_units_is_deleted_and_the_units_are_not() {
        let keys = lost(&key(3, "b"), &[OVERLAY, 0, 0, 0, 4, 0, 0, 0, 1, 7]);
        let left = between(&keys, &[of(3), of(4)]);
        let holds = |key: &[u8]| left.iter().any(|range| range.contains(key));
        assert!(!holds(&key(3, "c")) && !holds(&key(4, "0")) && holds(&key(5, "a")));
        let overlaid = |partition: u8| [OVERLAY, 0, 0, 0, partition, 0, 0, 0, 1, 1];
        assert!(holds(&overlaid(2)) && !holds(&overlaid(3)) && !holds(&overlaid(4)));
        assert!(!holds(&[META, 5]) && !holds(&overlaid(5)) && !holds(&key(2, "z")));
        assert!(between(&lost(&key(3, "b"), &key(3, "c")), &[of(3)]).is_empty());
        assert_eq!(between(&lost(&[META, 0], &[META, 9]), &[]), []);
        assert_eq!(between(&lost(&[META_COPY, 0], &[META_COPY, 9]), &[]), []);
        let all = LostKeys { end: None, ..lost(&[HINT], &[HINT]) };
        assert_eq!(between(&all, &[]), [KeyRange::between(&[HINT], &[META_COPY])]);
    }
}

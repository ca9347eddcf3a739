//! The index of deletes: of each record that a floor can purge, where it stands, in the order of the
//! floors that do. It is a part of the unit, behind all heads and siblings, so that it moves and goes with it.
//! `docs/format/keyspace.md`.

use std::ops::Bound;

use bytes::Bytes;

use super::execute::Undone;
use super::keyspace::{DATA, PREFIX_BYTES, UNIT_BYTES, data_key, sibling_key, table_prefix};
use super::trees::{self, Counted};
use super::{Done, Shared, causal, copy, disk_error, record, register};
use crate::causality::Acceptor;
use crate::message::{CopyPlace, DiskAnswer, DiskError, FloorDone};
use crate::repair::floor::{acceptor_ends, purged, set_ends, version_ends};
use crate::repair::tree::Print;
use crate::storage::{Batch, Direction, Durability, KeyRange, Snapshot};
use crate::types::{Key, Stamp, TableId, Unit};

/// In the place of a table: behind all others.
const INDEX: TableId = TableId(u32::MAX);
/// Records that are purged at once. Their stripes are held together for so long.
const PIECE_MAX: usize = 64;
/// Entries that are counted for one answer.
const COUNT_MAX: u64 = 200_000;

/// `space, class, partition, ff ff ff ff, stamp, table, key`.
fn index_key(unit: Unit, at: Stamp, rest: &[u8]) -> Vec<u8> {
    let mut bytes = table_prefix(DATA, unit, INDEX).to_vec();
    bytes.extend_from_slice(&at.to_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

/// What an entry of the index says.
fn decode(key: &[u8]) -> Result<(Stamp, CopyPlace), DiskError> {
    let damaged = || DiskError::Corruption("an entry of the index of deletes".to_owned());
    let rest = key.get(PREFIX_BYTES..).ok_or_else(damaged)?;
    let (at, rest) = rest.split_first_chunk::<{ Stamp::BYTES }>().ok_or_else(damaged)?;
    let (table, user) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let key = Key::new(Bytes::copy_from_slice(user)).map_err(|_| damaged())?;
    Ok((Stamp::from_bytes(*at), CopyPlace { table: TableId(u32::from_be_bytes(*table)), key }))
}

/// The record at an engine's key is another one by this batch: at which floors they are purged.
pub(super) fn note(
    batch: &mut Batch,
    unit: Unit,
    key: &[u8],
    (before, after): (Option<Stamp>, Option<Stamp>),
) {
    if before == after || key.first() != Some(&DATA) {
        return;
    }
    let Some(rest) = key.get(UNIT_BYTES..) else { return };
    if let Some(at) = before {
        batch.delete(&index_key(unit, at, rest));
    }
    if let Some(at) = after.filter(|_| !crate::mutant!("delete-not-indexed")) {
        batch.put(&index_key(unit, at, rest), b"");
    }
}

/// At which floor an acceptor that is there is purged.
pub(super) fn of_acceptor(acceptor: &Acceptor) -> Option<Stamp> {
    acceptor_ends(acceptor).filter(|_| *acceptor != Acceptor::default())
}

fn entries(
    snapshot: &Snapshot,
    unit: Unit,
) -> impl Iterator<Item = Result<(Stamp, CopyPlace), DiskError>> + use<> {
    let range = KeyRange::prefix(&table_prefix(DATA, unit, INDEX));
    let end = range.end().map_or(Bound::Unbounded, Bound::Excluded);
    let found = snapshot.range(Bound::Included(range.start()), end, Direction::Forward);
    found
        .map(|entry| entry.map_err(|error| disk_error(&error)).and_then(|(key, _, _)| decode(&key)))
}

/// Purges a piece of what is at or below the floor of a unit.
pub(super) fn purge(shared: &Shared, unit: Unit, done: Done) {
    let floor = shared.floors.floor(unit);
    let due = due(&shared.engine.snapshot(), unit, floor);
    match due.and_then(|due| piece(shared, unit, (&due, floor)).map(|piece| (piece, due.len()))) {
        Ok(((), 0)) => {
            shared.floors.purged(unit, floor);
            done(Ok(DiskAnswer::Floor(FloorDone::Purged(0, false))));
        }
        Ok(((), gone)) => {
            let gone = u64::try_from(gone).unwrap_or(u64::MAX);
            done(Ok(DiskAnswer::Floor(FloorDone::Purged(gone, true))));
        }
        Err(error) => done(Err(error)),
    }
}

/// The first entries at or below a floor.
fn due(
    snapshot: &Snapshot,
    unit: Unit,
    floor: Stamp,
) -> Result<Vec<(Stamp, CopyPlace)>, DiskError> {
    let at_or_below = |entry: &Result<(Stamp, CopyPlace), DiskError>| {
        entry.as_ref().map_or(true, |(at, _)| *at <= floor)
    };
    entries(snapshot, unit).take_while(at_or_below).take(PIECE_MAX).collect()
}

fn piece(
    shared: &Shared,
    unit: Unit,
    (due, floor): (&[(Stamp, CopyPlace)], Stamp),
) -> Result<(), DiskError> {
    let _guards = copy::lock_all(shared, unit, due.iter().map(|(_, place)| place));
    let before = Undone::now(shared);
    let mut counted = Counted::new(unit, &before);
    for (at, place) in due {
        let key = data_key(unit, place.table, &place.key);
        let Some(rest) = key.get(UNIT_BYTES..) else { continue };
        // What stands there may be something else by now: then only the entry goes.
        counted.batch.delete(&index_key(unit, *at, rest));
        let found = shared.engine.get(&key).map_err(|error| disk_error(&error))?;
        if let Some((value, _)) = found {
            purge_one(&mut counted, &key, (place, value), (*at, floor))?;
        }
    }
    // Nobody waits for it to be durable: what comes back in a crash is purged again.
    let heard = Box::new(|_| ());
    trees::hand_in(shared, counted, Durability::Default, heard)
        .map_err(|(error, _)| disk_error(&error))
}

fn purge_one(
    counted: &mut Counted,
    key: &[u8],
    (place, value): (&CopyPlace, Bytes),
    (at, floor): (Stamp, Stamp),
) -> Result<(), DiskError> {
    let Some(of_tree) = Counted::place(key) else { return Ok(()) };
    let damaged = || DiskError::Corruption("a stored version does not decode".to_owned());
    let print = match value.first() {
        Some(&causal::HEAD) => {
            let set = causal::decode(value)?;
            if set_ends(&set) != Some(at) {
                return Ok(());
            }
            if let Some(after) = purged(&set, floor) {
                crate::sometimes!("floor: expired siblings are purged");
                causal::replace(counted, (place, key), &set, after);
                return Ok(());
            }
            for dot in causal::apart(&set) {
                let place = (counted.unit(), place.table, &place.key);
                counted.batch.delete(&sibling_key(DATA, place, dot));
            }
            Print::siblings(&of_tree, &set)
        }
        Some(&register::ACCEPTOR) => {
            let acceptor = register::decode(value)?;
            if of_acceptor(&acceptor) != Some(at) {
                return Ok(());
            }
            Print::register(&of_tree, &acceptor)
        }
        _ => {
            let version = record::decode(value).ok_or_else(damaged)?;
            if version_ends(&version) != Some(at) {
                return Ok(());
            }
            Some(Print::version(&of_tree, &version))
        }
    };
    crate::sometimes!("floor: a record is purged");
    counted.batch.delete(key);
    counted.change(Some(of_tree), print, None);
    Ok(())
}

/// Deletes what stands at a key, whatever it is, with what belongs to it.
pub(super) fn strike(
    counted: &mut Counted,
    key: &[u8],
    (place, value): (&CopyPlace, Bytes),
) -> Result<(), DiskError> {
    let Some(of_tree) = Counted::place(key) else { return Ok(()) };
    let (print, ends) = match value.first() {
        Some(&causal::HEAD) => {
            let set = causal::decode(value)?;
            for dot in causal::apart(&set) {
                let place = (counted.unit(), place.table, &place.key);
                counted.batch.delete(&sibling_key(DATA, place, dot));
            }
            (Print::siblings(&of_tree, &set), set_ends(&set))
        }
        Some(&register::ACCEPTOR) => {
            let acceptor = register::decode(value)?;
            (Print::register(&of_tree, &acceptor), of_acceptor(&acceptor))
        }
        _ => {
            let damaged = || DiskError::Corruption("a stored version does not decode".to_owned());
            let version = record::decode(value).ok_or_else(damaged)?;
            (Some(Print::version(&of_tree, &version)), version_ends(&version))
        }
    };
    counted.ends(key, (ends, None));
    counted.batch.delete(key);
    counted.change(Some(of_tree), print, None);
    Ok(())
}

/// Counts the entries of units, up to a bound.
pub(super) fn count(
    snapshot: &Snapshot,
    (units, most): (&[Unit], u64),
) -> Result<Vec<(Unit, u64, Option<Stamp>)>, DiskError> {
    let (mut counted, mut all) = (Vec::new(), 0);
    for unit in units {
        if all >= COUNT_MAX {
            break;
        }
        let (mut count, mut lowest) = (0, None);
        for entry in entries(snapshot, *unit) {
            let (at, _) = entry?;
            lowest = lowest.or(Some(at));
            count += 1;
            if count >= most || all + count >= COUNT_MAX {
                break;
            }
        }
        all += count;
        counted.push((*unit, count, lowest));
    }
    Ok(counted)
}

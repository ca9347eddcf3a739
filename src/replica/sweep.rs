//! Deletes the keys of dropped tables, in every unit of which the store holds anything: also in
//! those the node no longer owns. Walks from one (unit, table) that is there to the next, a bounded
//! number of them at a time; each that is dropped is one range deletion, whatever it holds. Then the
//! hints, one by one. Damage does not stop it: in a unit that does not read everything is deleted that is not of a
//! table that is there.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::execute::submit;
use super::hints;
use super::keyspace::{
    DATA, HINT_AGE, OVERLAY, PREFIX_BYTES, table_of, tables_between, unit_of, unit_prefix,
};
use super::trees::{self, Gone};
use super::{Done, Shared, disk_error};
use crate::message::{DiskAnswer, DiskError};
use crate::storage::{Batch, Direction, Durability, KeyRange, Snapshot};
use crate::types::{ClusterState, TableId, Unit};

/// Places looked at in one piece.
const SEEKS_MAX: usize = 64;

/// Deletes a piece, and answers where the next begins, or nowhere, and which hints are gone.
pub(super) fn piece(shared: &Shared, state: &ClusterState, from: &[u8], done: Done) {
    let default = Durability::Default;
    if from.first() == Some(&HINT_AGE) {
        return match hints::sweep(&shared.engine, state, from) {
            Ok((batch, next, hints)) => {
                submit(shared, batch, default, DiskAnswer::Swept(next, hints), done);
            }
            Err(error) => done(Err(error)),
        };
    }
    match versions(shared, state, from) {
        Ok(Versions { batch, tables, unread, next }) => {
            let next = next.unwrap_or_else(|| Bytes::from_static(&[HINT_AGE]));
            let answer = DiskAnswer::Swept(Some(next), BTreeMap::new());
            // What of those units was deleted nobody can tell: their trees are in doubt.
            let untold: Vec<_> =
                unread.into_iter().map(|unit| shared.trees.untold(unit, unit)).collect();
            trees::wipe(shared, (batch, Gone::Tables(tables)), default, answer, done);
            drop(untold);
        }
        Err(error) => done(Err(error)),
    }
}

/// The deletions of what there is of dropped tables in one unit.
pub(super) fn dropped_in(
    shared: &Shared,
    state: &ClusterState,
    unit: Unit,
) -> Result<Batch, DiskError> {
    let range = KeyRange::prefix(&unit_prefix(DATA, unit));
    let snapshot = shared.engine.snapshot();
    let (mut batch, mut place) = (Batch::new(), range.start().to_vec());
    loop {
        let end = range.end().map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys = snapshot.range(Bound::Included(&place[..]), end, Direction::Forward);
        let first = keys.next_key().map_err(|error| disk_error(&error))?;
        let found = first.and_then(|(key, _)| Some((table_of(key)?, key.get(..PREFIX_BYTES)?)));
        let Some((table, prefix)) = found else { return Ok(batch) };
        if state.is_dropped(table) {
            batch.delete_range(&KeyRange::prefix(prefix));
        }
        match after(prefix.to_vec()) {
            Some(next) => place = next,
            None => return Ok(batch),
        }
    }
}

/// What a piece deletes.
#[derive(Default)]
struct Versions {
    batch: Batch,
    /// Of which tables, where they were found.
    tables: Vec<(Unit, TableId)>,
    /// Units that do not read, in which what there may be of dropped tables is deleted.
    unread: Vec<Unit>,
    /// Where the next piece begins.
    next: Option<Bytes>,
}

/// The first place behind users' data. What arrives for units that are being filled stands behind what is there.
const END: [u8; 1] = [OVERLAY + 1];

fn versions(shared: &Shared, state: &ClusterState, from: &[u8]) -> Result<Versions, DiskError> {
    let snapshot = shared.engine.snapshot();
    let mut found = Versions::default();
    let mut place = if from.is_empty() { vec![DATA] } else { from.to_vec() };
    for _ in 0..SEEKS_MAX {
        if *place >= END[..] {
            return Ok(found);
        }
        let first = match first_key(&snapshot, &place, &END) {
            Err(DiskError::Corruption(_)) if !crate::mutant!("damage-stops-sweep") => {
                // It may be far off: what stands before it is walked as ever.
                let (end, unit) = stretch(state, &place);
                match (first_key(&snapshot, &place, &end), unit) {
                    (Err(DiskError::Corruption(_)), Some(unit)) => {
                        forgo(&mut found.batch, state, unit);
                        found.unread.push(unit);
                        place = end;
                        continue;
                    }
                    // What no unit of this node can hold is deleted as soon as it is known to be damaged.
                    (Err(DiskError::Corruption(_)), None) | (Ok(None), _) => {
                        place = end;
                        continue;
                    }
                    (first, _) => first?,
                }
            }
            first => first?,
        };
        let Some(first) = first else { return Ok(found) };
        let known = table_of(&first).zip(unit_of(&first)).zip(first.get(..PREFIX_BYTES));
        let Some(((table, unit), prefix)) = known else {
            let what = format!("a key of {} bytes is none of ours", first.len());
            return Err(DiskError::Corruption(what));
        };
        if state.is_dropped(table) {
            found.batch.delete_range(&KeyRange::prefix(prefix));
            // What is in an overlay is in no tree.
            found.tables.extend((prefix.first() == Some(&DATA)).then_some((unit, table)));
        }
        match after(prefix.to_vec()) {
            Some(next) => place = next,
            None => return Ok(found),
        }
    }
    found.next = Some(Bytes::from(place));
    Ok(found)
}

fn first_key(snapshot: &Snapshot, from: &[u8], to: &[u8]) -> Result<Option<Bytes>, DiskError> {
    let bounds = (Bound::Included(from), Bound::Excluded(to));
    let mut keys = snapshot.range(bounds.0, bounds.1, Direction::Forward);
    let first = keys.next_key().map_err(|error| disk_error(&error))?;
    Ok(first.map(|(key, _)| Bytes::copy_from_slice(key)))
}

/// The end of the unit in which a place is, and that unit; or where the next one begins.
fn stretch(state: &ClusterState, place: &[u8]) -> (Vec<u8>, Option<Unit>) {
    let spaces = [DATA, OVERLAY].into_iter();
    let units = spaces.flat_map(|space| state.units().map(move |unit| (space, unit)));
    let ranges = units.map(|(space, unit)| (KeyRange::prefix(&unit_prefix(space, unit)), unit));
    let ahead = ranges.filter(|(range, _)| range.end().is_some_and(|end| end > place));
    match ahead.min_by(|one, other| one.0.start().cmp(other.0.start())) {
        Some((range, unit)) if range.start() <= place => {
            (range.end().unwrap_or(&END).to_vec(), Some(unit))
        }
        Some((range, _)) => (range.start().to_vec(), None),
        None => (END.to_vec(), None),
    }
}

/// Deletes what there may be of dropped tables in a unit of which that does not read.
fn forgo(batch: &mut Batch, state: &ClusterState, unit: Unit) {
    let mut live: Vec<TableId> = state.tables.iter().map(|table| table.id).collect();
    live.sort_unstable();
    let mut first = TableId(0);
    // A table that this state has not heard of yet stands above all that it has.
    for next in live.into_iter().chain([TableId(state.table_id_max.0.saturating_add(1))]) {
        if first < next {
            for space in [DATA, OVERLAY] {
                for range in tables_between(space, unit, (first, next)) {
                    batch.delete_range(&range);
                }
            }
        }
        first = first.max(TableId(next.0.saturating_add(1)));
    }
}

/// The first place behind all keys that begin with `prefix`.
fn after(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}

//! Deletes the keys of dropped tables, in every unit of which the store holds anything: also in
//! those the node no longer owns. Walks from one (unit, table) that is there to the next, a bounded
//! number of them at a time; each that is dropped is one range deletion, whatever it holds. Then the
//! hints, one by one.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::execute::submit;
use super::hints;
use super::keyspace::{DATA, HINT_AGE, OVERLAY, PREFIX_BYTES, table_of, unit_of, unit_prefix};
use super::trees::{self, Gone};
use super::{Done, Shared, disk_error};
use crate::message::{DiskAnswer, DiskError};
use crate::storage::{Batch, Direction, Durability, KeyRange};
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
        Ok((batch, tables, next)) => {
            let next = next.unwrap_or_else(|| Bytes::from_static(&[HINT_AGE]));
            let answer = DiskAnswer::Swept(Some(next), BTreeMap::new());
            trees::wipe(shared, (batch, Gone::Tables(tables)), default, answer, done);
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

/// What is deleted, of which tables, and where the next piece begins.
type Versions = (Batch, Vec<(Unit, TableId)>, Option<Bytes>);

fn versions(shared: &Shared, state: &ClusterState, from: &[u8]) -> Result<Versions, DiskError> {
    let snapshot = shared.engine.snapshot();
    let (mut batch, mut tables) = (Batch::new(), Vec::new());
    let mut place = if from.is_empty() { vec![DATA] } else { from.to_vec() };
    for _ in 0..SEEKS_MAX {
        // What arrives for units that are being filled stands behind.
        let end = [OVERLAY + 1];
        let bounds = (Bound::Included(&place[..]), Bound::Excluded(&end[..]));
        let mut keys = snapshot.range(bounds.0, bounds.1, Direction::Forward);
        let first = keys.next_key().map_err(|error| disk_error(&error))?;
        let Some((first, _)) = first else { return Ok((batch, tables, None)) };
        let known = table_of(first).zip(unit_of(first)).zip(first.get(..PREFIX_BYTES));
        let Some(((table, unit), prefix)) = known else {
            let what = format!("a key of {} bytes is none of ours", first.len());
            return Err(DiskError::Corruption(what));
        };
        if state.is_dropped(table) {
            batch.delete_range(&KeyRange::prefix(prefix));
            // What is in an overlay is in no tree.
            tables.extend((prefix.first() == Some(&DATA)).then_some((unit, table)));
        }
        match after(prefix.to_vec()) {
            Some(next) => place = next,
            None => return Ok((batch, tables, None)),
        }
    }
    Ok((batch, tables, Some(Bytes::from(place))))
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

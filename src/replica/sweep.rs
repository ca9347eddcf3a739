//! Deletes the keys of dropped tables, in every unit of which the store holds anything: also in
//! those the node no longer owns. Walks from one (unit, table) that is there to the next, a bounded
//! number of them at a time; each that is dropped is one range deletion, whatever it holds. Then the
//! hints, one by one.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::hints::{self, Swept};
use super::keyspace::{DATA, HINT_AGE, OVERLAY, PREFIX_BYTES, table_of, unit_prefix};
use super::{Shared, disk_error};
use crate::message::DiskError;
use crate::storage::{Batch, Direction, KeyRange};
use crate::types::{ClusterState, Unit};

/// Places looked at in one piece.
const SEEKS_MAX: usize = 64;

/// The deletions of one piece, where the next begins, or nowhere, and the hints that go.
pub(super) fn piece(
    shared: &Shared,
    state: &ClusterState,
    from: &[u8],
) -> Result<Swept, DiskError> {
    if from.first() == Some(&HINT_AGE) {
        return hints::sweep(&shared.engine, state, from);
    }
    let (batch, next) = versions(shared, state, from)?;
    let next = next.unwrap_or_else(|| Bytes::from_static(&[HINT_AGE]));
    Ok((batch, Some(next), BTreeMap::new()))
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

fn versions(
    shared: &Shared,
    state: &ClusterState,
    from: &[u8],
) -> Result<(Batch, Option<Bytes>), DiskError> {
    let snapshot = shared.engine.snapshot();
    let mut batch = Batch::new();
    let mut place = if from.is_empty() { vec![DATA] } else { from.to_vec() };
    for _ in 0..SEEKS_MAX {
        // What arrives for units that are being filled stands behind.
        let end = [OVERLAY + 1];
        let bounds = (Bound::Included(&place[..]), Bound::Excluded(&end[..]));
        let mut keys = snapshot.range(bounds.0, bounds.1, Direction::Forward);
        let first = keys.next_key().map_err(|error| disk_error(&error))?;
        let Some((first, _)) = first else { return Ok((batch, None)) };
        let (Some(table), Some(prefix)) = (table_of(first), first.get(..PREFIX_BYTES)) else {
            let what = format!("a key of {} bytes is none of ours", first.len());
            return Err(DiskError::Corruption(what));
        };
        if state.is_dropped(table) {
            batch.delete_range(&KeyRange::prefix(prefix));
        }
        match after(prefix.to_vec()) {
            Some(next) => place = next,
            None => return Ok((batch, None)),
        }
    }
    Ok((batch, Some(Bytes::from(place))))
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

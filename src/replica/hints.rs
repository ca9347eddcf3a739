//! Hints: versions kept for owners that were away. Each stands under the key it is for, so that it
//! can be merged and read; an index in order of age stands beside it, written in the same batch.
//! `docs/format/keyspace.md`, `docs/protocol/handoff.md`.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::{Buf, Bytes};

use super::keyspace::{HINT_AGE, hint_age_key, hint_age_place, hint_age_prefix, hint_key};
use super::{disk_error, record, restore};
use crate::causality::{Merge, merge, newest};
use crate::message::{
    DiskError, Hint, HintBook, HintChange, HintPage, HintPlace, HintTotals, HintsDropped,
    MetaRecord, WriteOutcome,
};
use crate::storage::{self, Batch, Direction, Engine};
use crate::types::{ClusterState, Key, NodeId, Record, Stamp, TableId, Unit, WallTime, limits};

const CUSTODY: u8 = 0b0000_0001;
/// The layout of what follows: 0 so far.
const LAYOUT_MASK: u8 = 0b1111_0000;
/// Entries of the index looked at in one piece of a deletion.
const PIECE_MAX: usize = 256;

/// A stored hint.
struct Held {
    created: WallTime,
    custody: bool,
    record: Record,
}

/// An entry of the index.
struct Aged {
    place: HintPlace,
    totals: HintTotals,
}

fn damaged(what: &str) -> DiskError {
    DiskError::Corruption(format!("a stored {what} does not decode"))
}

fn encode(custody: bool, created: WallTime, version: &Record) -> Vec<u8> {
    let mut bytes = vec![if custody { CUSTODY } else { 0 }];
    bytes.extend_from_slice(&created.0.to_be_bytes());
    bytes.extend_from_slice(&record::encode(version));
    bytes
}

fn decode(mut bytes: Bytes) -> Option<Held> {
    let (&flags, rest) = bytes.split_first()?;
    let created = WallTime(u64::from_be_bytes(*rest.first_chunk::<8>()?));
    if flags & LAYOUT_MASK != 0 || flags & !CUSTODY != 0 {
        return None;
    }
    bytes.advance(9);
    let record = record::decode(bytes)?;
    Some(Held { created, custody: flags & CUSTODY != 0, record })
}

fn encode_aged(custody: bool, bytes: u64) -> Vec<u8> {
    let mut entry = vec![if custody { CUSTODY } else { 0 }];
    entry.extend_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes());
    entry
}

fn decode_aged(key: &[u8], value: &[u8]) -> Option<(NodeId, Aged)> {
    let (target, place) = hint_age_place(key)?;
    let (&flags, rest) = value.split_first()?;
    let bytes = u32::from_be_bytes(rest.try_into().ok()?);
    if flags & !CUSTODY != 0 {
        return None;
    }
    let totals = HintTotals::one(flags & CUSTODY != 0, bytes.into());
    Some((target, Aged { place, totals }))
}

/// The engine's key of a hint.
pub(super) fn key_of(target: NodeId, hint: &Hint) -> Vec<u8> {
    hint_key(target, hint.unit, hint.table, &hint.key)
}

/// Merges a hint into what is there; the caller holds the stripe of its key.
pub(super) fn keep(
    target: NodeId,
    hint: &Hint,
    present: Option<Bytes>,
) -> Result<(Batch, WriteOutcome, HintChange), DiskError> {
    let present = present.map(|bytes| decode(bytes).ok_or_else(|| damaged("hint"))).transpose()?;
    let mut batch = Batch::new();
    let before = present.as_ref().map(|held| held.custody).unwrap_or_default();
    let custody = hint.custody || before;
    let created = present.as_ref().map_or(hint.created, |held| held.created);
    let merged = merge(present.as_ref().map(|held| &held.record), &hint.record);
    let outcome = match (&merged, &present) {
        (Merge::Keep, Some(held)) => WriteOutcome::Superseded(held.record.stamp),
        (Merge::Keep, None) => WriteOutcome::Superseded(Stamp::ZERO),
        (Merge::Replace | Merge::Same, _) => WriteOutcome::Stored,
    };
    let version = match (merged, &present) {
        (Merge::Replace, _) | (_, None) => &hint.record,
        (Merge::Same | Merge::Keep, Some(held)) => &held.record,
    };
    let unchanged = present.as_ref().is_some_and(|held| held.record == *version);
    if unchanged && custody == before {
        return Ok((batch, outcome, HintChange { created, ..HintChange::default() }));
    }
    let size = |record: &Record| Hint { record: record.clone(), ..hint.clone() }.bytes();
    let now = size(version);
    batch.put(&key_of(target, hint), &encode(custody, created, version));
    let place = HintPlace { created, ..hint.place() };
    batch.put(&hint_age_key(target, &place), &encode_aged(custody, now));
    let removed = present.map(|held| HintTotals::one(held.custody, size(&held.record)));
    let change = HintChange {
        added: HintTotals::one(custody, now),
        removed: removed.unwrap_or_default(),
        created,
    };
    Ok((batch, outcome, change))
}

/// The newest version that is kept under a key for any of these owners.
pub(super) fn read(
    engine: &Engine,
    targets: &[NodeId],
    (unit, table, key): (Unit, TableId, &Key),
) -> Result<Option<Record>, DiskError> {
    let mut kept = None;
    for target in targets {
        let found = engine.get(&hint_key(*target, unit, table, key));
        let Some((bytes, _)) = found.map_err(|error| disk_error(&error))? else { continue };
        let held = decode(bytes).ok_or_else(|| damaged("hint"))?;
        kept = newest(kept, Some(held.record));
    }
    Ok(kept)
}

/// Entries of the index for one target, strictly behind a place.
fn aged(
    snapshot: &storage::Snapshot,
    target: NodeId,
    after: Option<&HintPlace>,
) -> impl Iterator<Item = Result<Aged, DiskError>> + use<> {
    let start = match after {
        Some(place) => Bound::Excluded(hint_age_key(target, place)),
        None => Bound::Included(hint_age_prefix(target).to_vec()),
    };
    let end = target
        .0
        .checked_add(1)
        .map_or_else(|| vec![HINT_AGE + 1], |next| hint_age_prefix(NodeId(next)).to_vec());
    let bounds = (start.as_ref().map(Vec::as_slice), Bound::Excluded(end.as_slice()));
    let entries = snapshot.range(bounds.0, bounds.1, Direction::Forward);
    entries.map(|entry| {
        let (key, value, _) = entry.map_err(|error| disk_error(&error))?;
        let (_, aged) =
            decode_aged(&key, &value).ok_or_else(|| damaged("entry of a hint's age"))?;
        Ok(aged)
    })
}

/// Hints for a target, oldest first.
pub(super) fn page(
    engine: &Engine,
    target: NodeId,
    after: Option<&HintPlace>,
) -> Result<HintPage, DiskError> {
    let snapshot = engine.snapshot();
    let (mut hints, mut bytes, mut next) = (Vec::new(), 0, None);
    for entry in aged(&snapshot, target, after) {
        let Aged { place, totals } = entry?;
        let full = hints.len() >= limits::HINT_PAGE_MAX
            || (bytes + totals.bytes > limits::HINT_PAGE_BYTES_MAX && !hints.is_empty());
        if full {
            next = hints.last().map(Hint::place);
            break;
        }
        bytes += totals.bytes;
        let HintPlace { created, unit, table, key } = place;
        let found = snapshot.get(&hint_key(target, unit, table, &key));
        let Some((value, _)) = found.map_err(|error| disk_error(&error))? else {
            return Err(damaged("entry of a hint's age (there is no such hint)"));
        };
        let Held { custody, record, .. } = decode(value).ok_or_else(|| damaged("hint"))?;
        hints.push(Hint { created, custody, unit, table, key, record });
    }
    Ok(HintPage { hints, next })
}

/// Deletes a hint, if it is still exactly this one; the caller holds the stripe of its key.
pub(super) fn remove(
    target: NodeId,
    hint: &Hint,
    present: Option<Bytes>,
) -> Result<(Batch, HintTotals), DiskError> {
    let (mut batch, mut gone) = (Batch::new(), HintTotals::default());
    let held = present.map(|bytes| decode(bytes).ok_or_else(|| damaged("hint"))).transpose()?;
    if let Some(held) = held.filter(|held| held.record == hint.record) {
        delete(&mut batch, target, &HintPlace { created: held.created, ..hint.place() });
        gone = HintTotals::one(held.custody, hint.bytes());
    }
    Ok((batch, gone))
}

fn delete(batch: &mut Batch, target: NodeId, place: &HintPlace) {
    batch.delete(&hint_key(target, place.unit, place.table, &place.key));
    batch.delete(&hint_age_key(target, place));
}

/// Which hints a deletion takes.
pub(super) struct DropOrder {
    pub(super) target: NodeId,
    pub(super) before: WallTime,
    pub(super) custody: bool,
    pub(super) after: Option<HintPlace>,
}

/// Gives up hints, oldest first, and marks their units dirty; the caller holds all stripes.
pub(super) fn drop_piece(
    engine: &Engine,
    order: &DropOrder,
) -> Result<(Batch, HintsDropped), DiskError> {
    let snapshot = engine.snapshot();
    let (mut batch, mut dropped) = (Batch::new(), HintsDropped::default());
    let everything = order.custody || crate::mutant!("custody-dropped-by-age");
    let entries = aged(&snapshot, order.target, order.after.as_ref());
    for (seen, entry) in entries.enumerate() {
        let Aged { place, totals } = entry?;
        if place.created >= order.before {
            break;
        }
        if totals.custody == 0 || everything {
            delete(&mut batch, order.target, &place);
            dropped.dropped.add(totals);
            if dropped.units.insert(place.unit) {
                restore::put(&mut batch, &MetaRecord::Dirty(place.unit, order.target))
                    .map_err(|error| DiskError::Io(error.to_string()))?;
            }
        }
        if seen + 1 >= PIECE_MAX {
            dropped.next = Some(place);
            break;
        }
    }
    Ok((batch, dropped))
}

/// What one piece of a sweep deletes among the hints.
pub(super) type Swept = (Batch, Option<Bytes>, BTreeMap<NodeId, HintTotals>);

/// Deletes hints for dropped tables, a bounded piece from a place of the index on.
pub(super) fn sweep(
    engine: &Engine,
    state: &ClusterState,
    from: &[u8],
) -> Result<Swept, DiskError> {
    let snapshot = engine.snapshot();
    let (mut batch, mut gone) = (Batch::new(), BTreeMap::<NodeId, HintTotals>::new());
    let (start, end) = (Bound::Included(from), [HINT_AGE + 1]);
    let entries = snapshot.range(start, Bound::Excluded(&end[..]), Direction::Forward);
    for (seen, entry) in entries.enumerate() {
        let (key, value, _) = entry.map_err(|error| disk_error(&error))?;
        if seen >= PIECE_MAX {
            return Ok((batch, Some(key), gone));
        }
        let aged = decode_aged(&key, &value);
        let (target, Aged { place, totals }) =
            aged.ok_or_else(|| damaged("entry of a hint's age"))?;
        if state.is_dropped(place.table) {
            delete(&mut batch, target, &place);
            gone.entry(target).or_default().add(totals);
        }
    }
    Ok((batch, None, gone))
}

/// Counts the hints a store holds, by the index alone.
pub(super) fn count(engine: &Engine) -> Result<BTreeMap<NodeId, HintBook>, storage::Error> {
    let mut books = BTreeMap::<NodeId, HintBook>::new();
    let (start, end) = ([HINT_AGE], [HINT_AGE + 1]);
    let bounds = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
    for entry in engine.range(bounds.0, bounds.1, Direction::Forward) {
        let (key, value, _) = entry?;
        // One that does not decode is told when its page is read.
        let Some((target, aged)) = decode_aged(&key, &value) else { continue };
        let book = books.entry(target).or_default();
        book.totals.add(aged.totals);
        book.oldest = book.oldest.or(Some(aged.place.created));
    }
    Ok(books)
}

#[cfg(test)]
mod tests;

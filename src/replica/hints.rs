//! Hints: versions kept for owners that were away. Each stands under the key it is for, so that it
//! can be merged and read; an index in order of age stands beside it, written in the same batch.
//! `docs/format/keyspace.md`, `docs/protocol/handoff.md`.

pub(super) mod mend;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::kept::{self, Acting, Held, damaged};
use super::keyspace::{HINT_AGE, hint_age_key, hint_age_place, hint_age_prefix, hint_key};
use super::{causal, disk_error, restore};
use crate::causality::{Merge, SiblingSet, merge, newest};
use crate::message::{
    CausalDone, CustodyChange, DiskError, Hint, HintBook, HintChange, HintPage, HintPlace,
    HintTotals, HintsDropped, Kept, MetaRecord, WriteOutcome,
};
use crate::storage::{self, Batch, Direction, Engine};
use crate::types::{ClusterState, Key, NodeId, Record, TableId, Unit, WallTime, limits};

/// Entries of the index looked at in one piece of a deletion.
const PIECE_MAX: usize = 256;

/// An entry of the index.
struct Aged {
    place: HintPlace,
    totals: HintTotals,
}

fn decode_aged(key: &[u8], value: &[u8]) -> Option<(NodeId, Aged)> {
    let (target, place) = hint_age_place(key)?;
    Some((target, Aged { place, totals: kept::decode_aged(value)? }))
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
    let present = Held::found(present)?;
    let before = present.as_ref().map(|held| held.custody).unwrap_or_default();
    let custody = hint.custody || before;
    let created = present.as_ref().map_or(hint.created, |held| held.created);
    let acting = present.as_ref().and_then(|held| held.acting);
    let apart = present.as_ref().map(Held::apart).unwrap_or_default();
    let (outcome, kept) = merged(present.as_ref().map(|held| &held.kept), &hint.kept)?;
    let unchanged = present.as_ref().is_some_and(|held| kept::is_same(&held.kept, &kept));
    if unchanged && custody == before {
        return Ok((Batch::new(), outcome, HintChange { created, ..HintChange::default() }));
    }
    let after = Held { created, custody, acting, kept };
    let (batch, change) = kept::store(target, &hint.place(), (present.as_ref(), &apart), after);
    Ok((batch, outcome, change))
}

/// What is kept of both, by the kind of the table.
fn merged(present: Option<&Kept>, arriving: &Kept) -> Result<(WriteOutcome, Kept), DiskError> {
    match (present, arriving) {
        (None, _) => Ok((WriteOutcome::Stored, arriving.clone())),
        (Some(Kept::Version(held)), Kept::Version(version)) => {
            let (outcome, stays) = match merge(Some(held), version) {
                Merge::Replace => (WriteOutcome::Stored, version),
                Merge::Same => (WriteOutcome::Stored, held),
                Merge::Keep => (WriteOutcome::Superseded(held.stamp), held),
            };
            Ok((outcome, Kept::Version(stays.clone())))
        }
        (Some(Kept::Siblings(held)), Kept::Siblings(set)) => {
            let (mut both, apart) = (held.clone(), causal::apart(held));
            both.join(set.clone());
            causal::put_away(&mut both, &apart);
            Ok((WriteOutcome::Stored, Kept::Siblings(both)))
        }
        _ => Err(damaged("hint (it is of another kind of table)")),
    }
}

/// A put or delete by this node as a stand-in; the caller holds the stripe of the key.
///
/// Whoever writes in a record of custody is an actor of this record alone: when the record has gone
/// home it is never heard of again. One that went on in the next record would claim, by its mark,
/// to hold there what it wrote in the one before.
pub(super) fn change(
    engine: &Engine,
    ask: &CustodyChange,
    present: Option<Bytes>,
) -> Result<(Batch, CausalDone, HintChange), DiskError> {
    let CustodyChange { target, unit, table, created, .. } = *ask;
    let mut present = Held::found(present)?;
    let created = present.as_ref().map_or(created, |held| held.created);
    let place = HintPlace { created, unit, table, key: ask.key.clone() };
    let apart = present.as_ref().map(Held::apart).unwrap_or_default();
    if let Some(held) = &mut present {
        held.load(target, &place, |key| found(engine.get(key)))?;
    }
    let before = match present.as_ref().map(|held| &held.kept) {
        None => SiblingSet::default(),
        Some(Kept::Siblings(set)) => set.clone(),
        Some(Kept::Version(_)) => return Err(damaged("hint (it is of another kind of table)")),
    };
    let mut change = ask.change.clone();
    let own = present.as_ref().and_then(|held| held.acting);
    let fresh = Acting { within: ask.within, tenure: change.dot.actor.tenure };
    let mut acting = own.filter(|acting| acting.within == ask.within).unwrap_or(fresh);
    if crate::mutant!("stand-in-reuses-tenure") {
        acting.tenure = ask.within;
    }
    change.dot.actor.tenure = acting.tenure;
    let (actor, mut after) = (change.dot.actor, before.clone());
    let applied = match after.apply(change) {
        Ok(applied) => applied,
        Err(refused) => {
            return Ok((Batch::new(), CausalDone::Refused(refused), HintChange::default()));
        }
    };
    let answer = CausalDone::Changed(Box::new(causal::changed(&after, actor, &applied)));
    let settled = present.as_ref().is_some_and(|held| held.custody && own == Some(acting));
    if settled && after == before {
        return Ok((Batch::new(), answer, HintChange { created, ..HintChange::default() }));
    }
    causal::put_away(&mut after, &apart);
    let kept = Kept::Siblings(after);
    let after = Held { created, custody: true, acting: Some(acting), kept };
    let (batch, change) = kept::store(target, &place, (present.as_ref(), &apart), after);
    Ok((batch, answer, change))
}

/// The newest version that is kept under a key for any of these owners.
pub(super) fn read(
    engine: &Engine,
    targets: &[NodeId],
    (unit, table, key): (Unit, TableId, &Key),
) -> Result<Option<Record>, DiskError> {
    let mut newest_kept = None;
    for target in targets {
        let bytes = found(engine.get(&hint_key(*target, unit, table, key)))?;
        let Some(held) = Held::found(bytes)? else { continue };
        let Kept::Version(record) = held.kept else { return Err(damaged("hint")) };
        newest_kept = newest(newest_kept, Some(record));
    }
    Ok(newest_kept)
}

/// What is kept under a key of a causal table for any of these owners, merged.
pub(super) fn read_sets(
    engine: &Engine,
    targets: &[NodeId],
    (unit, table, key): (Unit, TableId, &Key),
) -> Result<SiblingSet, DiskError> {
    let snapshot = engine.snapshot();
    let mut all = SiblingSet::default();
    for target in targets {
        let bytes = found(snapshot.get(&hint_key(*target, unit, table, key)))?;
        let Some(mut held) = Held::found(bytes)? else { continue };
        let place = HintPlace { created: held.created, unit, table, key: key.clone() };
        held.load(*target, &place, |key| found(snapshot.get(key)))?;
        let Kept::Siblings(set) = held.kept else { return Err(damaged("hint")) };
        all.join(set);
    }
    Ok(all)
}

/// The value alone.
fn found<T>(
    outcome: Result<Option<(Bytes, T)>, storage::Error>,
) -> Result<Option<Bytes>, DiskError> {
    let found = outcome.map_err(|error| disk_error(&error))?;
    Ok(found.map(|(bytes, _)| bytes))
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
        let value = found(snapshot.get(&hint_key(target, unit, table, &key)))?;
        let Some(mut held) = Held::found(value)? else {
            return Err(damaged("entry of a hint's age (there is no such hint)"));
        };
        let place = HintPlace { created, unit, table, key };
        held.load(target, &place, |key| found(snapshot.get(key)))?;
        let HintPlace { key, .. } = place;
        let Held { custody, kept, .. } = held;
        hints.push(Hint { created, custody, unit, table, key, kept });
    }
    Ok(HintPage { hints, next })
}

/// Deletes a hint, if it is still exactly this one; the caller holds the stripe of its key.
pub(super) fn remove(
    engine: &Engine,
    (target, hint): (NodeId, &Hint),
    present: Option<Bytes>,
) -> Result<(Batch, HintTotals), DiskError> {
    let (mut batch, mut gone) = (Batch::new(), HintTotals::default());
    let Some(mut held) = Held::found(present)? else { return Ok((batch, gone)) };
    let place = HintPlace { created: held.created, ..hint.place() };
    let (apart, totals) = (held.apart(), kept::totals(held.custody, &place, &held.kept));
    if !kept::is_same(&held.kept, &hint.kept) && !crate::mutant!("lost-value-keeps-hint") {
        // A page gives it without the values that damage has taken: so it is compared.
        held.load(target, &place, |key| found(engine.get(key)))?;
    }
    if kept::is_same(&held.kept, &hint.kept) {
        kept::delete(&mut batch, target, &place, &apart);
        gone = totals;
    }
    Ok((batch, gone))
}

/// Deletes a hint that the index knows of.
fn delete(
    batch: &mut Batch,
    snapshot: &storage::Snapshot,
    target: NodeId,
    Aged { place, totals }: &Aged,
) -> Result<(), DiskError> {
    let mut apart = Vec::new();
    // Smaller ones have no values apart.
    if totals.bytes > limits::SIBLING_INLINE_BYTES as u64 {
        let key = hint_key(target, place.unit, place.table, &place.key);
        // One that does not decode goes as well.
        let held = found(snapshot.get(&key))?.and_then(Held::decode);
        apart = held.as_ref().map(Held::apart).unwrap_or_default();
    }
    kept::delete(batch, target, place, &apart);
    Ok(())
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
        let aged = entry?;
        let Aged { place, totals } = &aged;
        if place.created >= order.before {
            break;
        }
        if totals.custody == 0 || everything {
            delete(&mut batch, &snapshot, order.target, &aged)?;
            dropped.dropped.add(*totals);
            if dropped.units.insert(place.unit) {
                restore::put(&mut batch, &MetaRecord::Dirty(place.unit, order.target))
                    .map_err(|error| DiskError::Io(error.to_string()))?;
            }
        }
        if seen + 1 >= PIECE_MAX {
            dropped.next = Some(aged.place);
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
        let (target, aged) = aged.ok_or_else(|| damaged("entry of a hint's age"))?;
        if state.is_dropped(aged.place.table) {
            delete(&mut batch, &snapshot, target, &aged)?;
            gone.entry(target).or_default().add(aged.totals);
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

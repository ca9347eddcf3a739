//! The overlay of a unit: where writes go while files are taken into its range, and how they come into
//! it. Files can be taken only into a range that holds nothing, and what they bring would count as newer
//! than what was written before them; so what arrives meanwhile stands beside, in a space of its own laid
//! out alike, and is then merged into the range record by record. `docs/protocol/transfer.md`.
//!
//! INVARIANT: where a write goes is looked up with its key's stripe held, and changes back with all
//! stripes held: nothing is written into an overlay that has ended.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::copy::Giver;
use super::execute::{Undone, submit};
use super::keyspace::{OVERLAY, data_key, sibling_key, unit_prefix, user_key};
use super::trees::{self, Counted};
use super::{Done, Shared, causal, copy, disk_error, restore, unit};
use crate::message::{
    CopyPlace, DiskAnswer, DiskError, FillRecord, FillStage, MetaRecord, Overlay, UnitDone,
};
use crate::storage::{Batch, Durability, KeyRange};
use crate::types::Unit;

/// Keys that are merged at once.
const KEYS_MAX: usize = 64;

/// The units whose overlay is in use.
#[derive(Debug, Default)]
pub(super) struct Overlays {
    units: Mutex<BTreeSet<Unit>>,
    /// There may be one: almost always there is none, and writes are not to wait for each other.
    any: AtomicBool,
}

impl Overlays {
    /// What is on record of a unit changes.
    pub(super) fn set(&self, unit: Unit, record: Option<&FillRecord>) {
        let mut units = self.units.lock();
        let is_used = record.is_some_and(|record| match &record.stage {
            FillStage::Filling(progress) => progress.overlay != Overlay::Unused,
            FillStage::Complete | FillStage::Lost | FillStage::Mirror { .. } => false,
        });
        if is_used {
            units.insert(unit);
        } else {
            units.remove(&unit);
        }
        self.any.store(!units.is_empty(), Ordering::SeqCst);
    }

    /// Where a key of the range is to be found and written now. The caller holds its stripe.
    pub(super) fn placed(&self, unit: Unit, mut key: Vec<u8>) -> Vec<u8> {
        if self.any.load(Ordering::SeqCst)
            && self.units.lock().contains(&unit)
            && let Some(space) = key.first_mut()
        {
            *space = OVERLAY;
        }
        key
    }
}

/// Merges a piece of the overlay into the range; when nothing is left, ends it, and stores what is then
/// on record.
pub(super) fn drain(shared: &Shared, unit: Unit, record: FillRecord, done: Done) {
    let before = Undone::now(shared);
    let mut places = Vec::new();
    let walked = copy::walk(&shared.engine.snapshot(), OVERLAY, unit, None, |place, _| {
        places.push(place);
        Ok(places.len() < KEYS_MAX)
    });
    if let Err(error) = walked {
        return done(Err(error));
    }
    if places.is_empty() {
        return end(shared, unit, record, before.guard(done));
    }
    // Until the batch is in its place among the writes.
    let _guards = copy::lock_all(shared, unit, places.iter());
    let counted = Counted::new(unit, &before);
    match merge(shared, counted, &places) {
        Ok(counted) => {
            let answer = DiskAnswer::Unit(UnitDone::Drained(false));
            trees::submit(shared, counted, Durability::Default, answer, before.guard(done));
        }
        Err(error) => done(Err(error)),
    }
}

/// Merges keys of the overlay into the range, and takes them out of it; the caller holds their stripes.
fn merge(
    shared: &Shared,
    mut counted: Counted,
    places: &[CopyPlace],
) -> Result<Counted, DiskError> {
    let (snapshot, unit) = (shared.engine.snapshot(), counted.unit());
    for place in places {
        let key = user_key(OVERLAY, unit, place.table, &place.key);
        let found = snapshot.get(&key).map_err(|error| disk_error(&error))?;
        let Some((value, _)) = found else { continue };
        for dot in causal::apart_of(&value)? {
            let place = (unit, place.table, &place.key);
            counted.batch.delete(&sibling_key(OVERLAY, place, dot));
        }
        let record = copy::read(&snapshot, OVERLAY, (unit, place), value)?;
        let below = data_key(unit, place.table, &place.key);
        let is_below = snapshot.get(&below).map_err(|error| disk_error(&error))?.is_some();
        if !(is_below && crate::mutant!("overlay-shadowed")) {
            copy::merge_into(shared, &mut counted, place, record, Giver::Overlay)?;
        }
        counted.batch.delete(&key);
    }
    Ok(counted)
}

/// Ends the overlay, unless something has come into it since it was looked at.
fn end(shared: &Shared, unit: Unit, record: FillRecord, done: Done) {
    let _guards: Vec<_> = shared.stripes.iter().map(Mutex::lock).collect();
    let range = KeyRange::prefix(&unit_prefix(OVERLAY, unit));
    match unit::holds(&shared.engine.snapshot(), &range) {
        Ok(false) => {}
        Ok(true) => return done(Ok(DiskAnswer::Unit(UnitDone::Drained(false)))),
        Err(error) => return done(Err(error)),
    }
    crate::sometimes!("replica: an overlay is merged and ends");
    let mut batch = Batch::new();
    if let Err(error) = restore::put(&mut batch, &MetaRecord::Fill(unit, record.clone())) {
        return done(Err(DiskError::Io(error.to_string())));
    }
    // A write that is in the range before this is durable is none that is lost: after a crash the
    // overlay, which is empty, is merged once more.
    shared.overlays.set(unit, Some(&record));
    let answer = DiskAnswer::Unit(UnitDone::Drained(true));
    submit(shared, batch, Durability::Synced, answer, done);
}

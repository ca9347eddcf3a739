//! Making a unit what a source has, and nothing else: what was mirrored of it may be of any age, so what the
//! source does not list goes, whatever it is. `docs/protocol/mirror.md`.
//!
//! The caller sees to it that nobody else writes into the unit's range meanwhile: what comes then stands in
//! the overlay, and of a unit that is only mirrored nothing comes.

use std::sync::Arc;

use parking_lot::Mutex;

use super::copy::{lock_all, mark, walk_in};
use super::execute::{Undone, submit};
use super::keyspace::{DATA, data_key};
use super::trees::{self, Counted};
use super::{Done, Shared, deletes, disk_error};
use crate::message::{CopyLack, CopyMark, CopyPlace, CopyStretch, DiskAnswer, DiskError, UnitDone};
use crate::storage::{Batch, Durability};
use crate::types::Unit;

/// Keys that are deleted in one batch. Their stripes are held together for so long.
const PIECE_MAX: usize = 64;

/// Finds what this replica lacks of a stretch up to a place, and deletes what is here of it and not told, or told
/// in another version. Answers once both are durable.
pub(super) fn compare(
    shared: &Shared,
    unit: Unit,
    (stretch, next, marks): (CopyStretch, Option<CopyPlace>, Vec<CopyMark>),
    done: Done,
) {
    let before = Undone::now(shared);
    let failed = Arc::new(Mutex::new(None));
    let (places, told) = (Vec::new(), Arc::clone(&failed));
    let mut surplus = Surplus { shared, unit, before: &before, places, failed: told };
    let wanted = match surplus.find((&stretch, next.as_ref()), marks) {
        Ok(wanted) => wanted,
        Err(error) => return done(Err(error)),
    };
    // Batches are done in their order: this one tells of all, unless an earlier one failed.
    let done = before.guard(Box::new(move |outcome| {
        let failed = failed.lock().take();
        done(failed.map_or(outcome, Err));
    }));
    let answer = DiskAnswer::Unit(UnitDone::Wanted(CopyLack::Keys(wanted)));
    submit(shared, Batch::new(), Durability::Default, answer, done);
}

/// What goes.
struct Surplus<'a> {
    shared: &'a Shared,
    unit: Unit,
    before: &'a Undone,
    places: Vec<CopyPlace>,
    /// Why a batch of them has failed.
    failed: Arc<Mutex<Option<DiskError>>>,
}

impl Surplus<'_> {
    /// Goes through both side by side. Returns what is lacking here once what has to is gone.
    fn find(
        &mut self,
        (stretch, next): (&CopyStretch, Option<&CopyPlace>),
        marks: Vec<CopyMark>,
    ) -> Result<Vec<CopyPlace>, DiskError> {
        let snapshot = self.shared.engine.snapshot();
        let (mut wanted, mut marks) = (Vec::new(), marks.into_iter().peekable());
        walk_in(&snapshot, (DATA, self.unit), stretch, |place, value| {
            if next.is_some_and(|next| place > *next) {
                return Ok(false);
            }
            while let Some(theirs) = marks.next_if(|theirs| theirs.place < place) {
                wanted.push(theirs.place);
            }
            match marks.next_if(|theirs| theirs.place == place) {
                Some(theirs) if mark(value)? == (theirs.stamp, theirs.print) => {}
                Some(theirs) => {
                    wanted.push(theirs.place);
                    self.strike(place)?;
                }
                None => self.strike(place)?,
            }
            Ok(true)
        })?;
        self.strike_all()?;
        wanted.extend(marks.map(|theirs| theirs.place));
        Ok(wanted)
    }

    fn strike(&mut self, place: CopyPlace) -> Result<(), DiskError> {
        self.places.push(place);
        if self.places.len() >= PIECE_MAX { self.strike_all() } else { Ok(()) }
    }

    fn strike_all(&mut self) -> Result<(), DiskError> {
        let places = core::mem::take(&mut self.places);
        if places.is_empty() {
            return Ok(());
        }
        crate::sometimes!("replica: what a mirror has too much of goes");
        let _guards = lock_all(self.shared, self.unit, places.iter());
        let mut counted = Counted::new(self.unit, self.before);
        for place in &places {
            let key = data_key(self.unit, place.table, &place.key);
            let found = self.shared.engine.get(&key).map_err(|error| disk_error(&error))?;
            if let Some((value, _)) = found {
                deletes::strike(&mut counted, &key, (place, value))?;
            }
        }
        let failed = Arc::clone(&self.failed);
        let heard = Box::new(move |outcome: Result<(), DiskError>| {
            if let Err(error) = outcome {
                failed.lock().get_or_insert(error);
            }
        });
        trees::hand_in(self.shared, counted, Durability::Default, heard)
            .map_err(|(error, _)| disk_error(&error))
    }
}

//! A batch, and what it changes of the entries of a unit.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::causality::SiblingSet;
use crate::message::{Change, DiskAnswer, DiskError};
use crate::repair::floor::{set_ends, version_ends};
use crate::repair::tree::{Place, Print};
use crate::replica::execute::Undone;
use crate::replica::keyspace::{DATA, UNIT_BYTES};
use crate::replica::{Done, Shared, changes, deletes, disk_error};
use crate::storage::{self, Batch, Durability, OnDone};
use crate::types::{Record, Stamp, TableId, Unit};

/// An entry that is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) place: Place,
    pub(super) before: Option<Print>,
    pub(super) after: Option<Print>,
}

/// A batch that merges into entries of one unit, and how they change by it.
#[derive(Debug)]
pub(in crate::replica) struct Counted {
    pub(in crate::replica) batch: Batch,
    unit: Unit,
    changed: Vec<Changed>,
    seen: u64,
    /// Somebody watches, and is told of these.
    watched: bool,
    noted: Vec<(TableId, Change)>,
}

impl Counted {
    /// An empty one; `undone` is from before the first entry was read.
    pub(in crate::replica) fn new(unit: Unit, undone: &Undone) -> Counted {
        let (seen, watched) = (undone.seen(), undone.is_watched());
        let (changed, noted) = (Vec::new(), Vec::new());
        Counted { batch: Batch::new(), unit, changed, seen, watched, noted }
    }

    /// The unit.
    pub(in crate::replica) fn unit(&self) -> Unit {
        self.unit
    }

    /// The place of an engine's key, if what stands there is an entry of the unit: what is in the
    /// overlay is none yet.
    pub(in crate::replica) fn place(key: &[u8]) -> Option<Place> {
        let (space, _) = key.split_first()?;
        if *space != DATA {
            return None;
        }
        Place::from_bytes(key.get(UNIT_BYTES..)?)
    }

    /// The version that stands at an engine's key is another one by this batch.
    pub(in crate::replica) fn version(
        &mut self,
        key: &[u8],
        before: Option<&Record>,
        after: &Record,
    ) {
        self.ends(key, (before.and_then(version_ends), version_ends(after)));
        self.stands(key, after);
        let Some(place) = Counted::place(key) else { return };
        let before = before.map(|record| Print::version(&place, record));
        let after = Print::version(&place, after);
        self.change(Some(place), before, Some(after));
    }

    /// The same of sets of siblings.
    pub(in crate::replica) fn siblings(
        &mut self,
        key: &[u8],
        before: &SiblingSet,
        after: &SiblingSet,
    ) {
        self.ends(key, (set_ends(before), set_ends(after)));
        self.set_stands(key, after);
        let Some(place) = Counted::place(key) else { return };
        let [before, after] = [before, after].map(|set| Print::siblings(&place, set));
        self.change(Some(place), before, after);
    }

    /// What stands at an engine's key once the batch is durable, for those who watch: also where a write
    /// is answered that has changed nothing, since what stood there may not have been told.
    pub(in crate::replica) fn stands(&mut self, key: &[u8], version: &Record) {
        if self.watched {
            self.noted.extend(changes::of_version(key, version));
        }
    }

    /// The same of a set of siblings.
    pub(in crate::replica) fn set_stands(&mut self, key: &[u8], set: &SiblingSet) {
        if self.watched {
            self.noted.extend(changes::of_set(key, set));
        }
    }

    /// The record at an engine's key is purged at another floor by this batch.
    pub(in crate::replica) fn ends(&mut self, key: &[u8], ends: (Option<Stamp>, Option<Stamp>)) {
        deletes::note(&mut self.batch, self.unit, key, ends);
    }

    /// The entry at a place is another one by this batch.
    pub(in crate::replica) fn change(
        &mut self,
        place: Option<Place>,
        before: Option<Print>,
        after: Option<Print>,
    ) {
        if let Some(place) = place {
            self.changed.push(Changed { place, before, after });
        }
    }
}

/// What is called when a batch is as durable as was asked, or has failed.
type Heard = Box<dyn FnOnce(Result<(), DiskError>) + Send>;

/// Submits a batch and tells the tree; the caller holds the stripes of all keys in it.
pub(in crate::replica) fn submit(
    shared: &Shared,
    counted: Counted,
    durability: Durability,
    answer: DiskAnswer,
    done: Done,
) {
    let heard = Box::new(move |outcome: Result<(), DiskError>| done(outcome.map(|()| answer)));
    if let Err((error, on_done)) = hand_in(shared, counted, durability, heard) {
        on_done(Err(error));
    }
}

/// The same, for a caller who has something else to do when the batch is refused.
///
/// # Errors
/// What the engine refuses it with, and the callback; nothing is changed then.
pub(in crate::replica) fn hand_in(
    shared: &Shared,
    Counted { batch, unit, changed, seen, noted, .. }: Counted,
    durability: Durability,
    heard: Heard,
) -> Result<(), (storage::Error, OnDone)> {
    let trees = (!changed.is_empty()).then(|| Arc::clone(&shared.trees));
    let watched = (!noted.is_empty()).then(|| (Arc::clone(&shared.changes), noted));
    let on_done: OnDone = Box::new(move |result| {
        if let (Err(_), Some(trees)) = (&result, &trees) {
            trees.on_failed(unit, seen);
        }
        // Before anybody hears of it.
        if let (Ok(_), Some((changes, noted))) = (&result, watched) {
            changes.note(unit, noted);
        }
        heard(result.map(drop).map_err(|error| disk_error(&error)));
    });
    shared.submit_quietly(batch, durability, on_done)?;
    if !changed.is_empty() {
        shared.trees.tell(unit, &changed, seen);
    }
    Ok(())
}

/// What a batch deletes as a whole.
#[derive(Debug)]
pub(in crate::replica) enum Gone {
    /// All of a unit.
    Unit(Unit),
    /// Tables of units.
    Tables(Vec<(Unit, TableId)>),
}

impl Gone {
    fn units(&self) -> Vec<Unit> {
        match self {
            Gone::Unit(unit) => vec![*unit],
            Gone::Tables(tables) => tables.iter().map(|(unit, _)| *unit).collect(),
        }
    }
}

/// Submits a batch that deletes ranges, with all stripes held: nothing is told of them between.
pub(in crate::replica) fn wipe(
    shared: &Shared,
    (batch, gone): (Batch, Gone),
    durability: Durability,
    answer: DiskAnswer,
    done: Done,
) {
    let (trees, units) = (Arc::clone(&shared.trees), gone.units());
    let _guards: Vec<_> = shared.stripes.iter().map(Mutex::lock).collect();
    let seen = Undone::now(shared).seen();
    let on_done: OnDone = Box::new(move |result| {
        if result.is_err() {
            units.into_iter().for_each(|unit| trees.on_failed(unit, seen));
        }
        done(result.map(|_| answer).map_err(|error| disk_error(&error)));
    });
    match shared.submit_quietly(batch, durability, on_done) {
        Err((error, on_done)) => on_done(Err(error)),
        Ok(_) => match gone {
            Gone::Unit(unit) => shared.trees.forget(unit),
            Gone::Tables(tables) => {
                tables.into_iter().for_each(|(unit, table)| shared.trees.drop_table(unit, table));
            }
        },
    }
}

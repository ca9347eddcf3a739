//! Purge floors of units: what is known of them, and what a merge asks them. The records are the
//! replica's own, since what a merge brings may void what is on record, in the same batch.
//! `docs/protocol/repair.md`, "The purge floor".
//!
//! INVARIANT: bounds are read with the key's stripe held and rise with all stripes held: nothing that
//! was let in before a gate closed is written after it.

use std::collections::BTreeMap;

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use super::execute::submit;
use super::{Done, Shared, deletes, disk_error, restore};
use crate::message::{
    DiskAnswer, DiskError, FloorChange, FloorDisk, FloorDone, FloorState, MetaRecord, Restored,
    SourceFloor,
};
use crate::repair::floor::{self, Bounds};
use crate::storage::{Batch, Durability};
use crate::types::{Stamp, Unit};

/// What is known of units.
#[derive(Debug)]
pub(super) struct Floors(RwLock<BTreeMap<Unit, Known>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    state: FloorState,
    /// There may be something left that is at or below the floor, and deleted or expired.
    unpurged: bool,
}

/// The floors of all units while one is changed, until its batch is in its place in the log.
pub(super) type Held<'a> = RwLockWriteGuard<'a, BTreeMap<Unit, Known>>;

impl Floors {
    pub(super) fn new(restored: &Restored) -> Floors {
        let known = restored.floors.iter().map(|(unit, record)| {
            let state = FloorState { record: record.clone(), voids: 0 };
            (*unit, Known { state, unpurged: record.floor > Stamp::ZERO })
        });
        Floors(RwLock::new(known.collect()))
    }

    /// The floor and the gate of a unit. The caller holds the stripe of a key of it.
    pub(super) fn bounds(&self, unit: Unit) -> Bounds {
        let known = self.0.read();
        known.get(&unit).map_or_else(Bounds::default, |known| {
            let record = &known.state.record;
            Bounds { floor: record.floor, gate: record.gate }
        })
    }

    /// The same for what came beside a unit that is being filled: at or below what its first source has
    /// agreed at, a fill replaces.
    pub(super) fn bounds_of_fill(&self, unit: Unit) -> Bounds {
        let known = self.0.read();
        let agreed = known.get(&unit).map_or(Stamp::ZERO, |known| known.state.record.agreed);
        Bounds { floor: agreed, gate: agreed }
    }

    /// The floor.
    pub(super) fn floor(&self, unit: Unit) -> Stamp {
        self.bounds(unit).floor
    }

    /// The floors of some units, at one moment.
    pub(super) fn floors(&self, units: &[Unit]) -> Vec<Stamp> {
        let known = self.0.read();
        let floor = |unit| known.get(unit).map_or(Stamp::ZERO, |known| known.state.record.floor);
        units.iter().map(floor).collect()
    }

    /// A source of a unit says how far it is: that is in the log before what it gives.
    pub(super) fn adopt(
        &self,
        shared: &Shared,
        unit: Unit,
        source: SourceFloor,
    ) -> Result<(), DiskError> {
        let SourceFloor { floor, agreed, is_first } = source;
        let changes = if is_first {
            [FloorChange::Fill(floor, agreed), FloorChange::Fill(floor, agreed)]
        } else {
            [FloorChange::Raise(floor), FloorChange::Close(agreed)]
        };
        let apply = |state: &mut FloorState| {
            changes.into_iter().fold(false, |any, change| floor::apply(state, change) | any)
        };
        let mut state =
            self.0.read().get(&unit).map(|known| known.state.clone()).unwrap_or_default();
        if !apply(&mut state) {
            return Ok(());
        }
        crate::sometimes!("floor: a source tells of it");
        let _guards: Vec<_> = shared.stripes.iter().map(Mutex::lock).collect();
        let mut all = self.0.write();
        let known = all.entry(unit).or_default();
        apply(&mut known.state);
        known.unpurged |= known.state.record.floor > Stamp::ZERO;
        let mut batch = Batch::new();
        put(&mut batch, unit, &known.state)?;
        let submitted = shared.submit_quietly(batch, Durability::Synced, Box::new(|_| ()));
        submitted.map(drop).map_err(|(error, _)| disk_error(&error))
    }

    /// Whether all that its floor has purged is gone.
    pub(super) fn is_purged(&self, unit: Unit) -> bool {
        !self.0.read().get(&unit).is_some_and(|known| known.unpurged)
    }

    /// Nothing is left that is at or below this floor, if it still is the unit's.
    pub(super) fn purged(&self, unit: Unit, floor: Stamp) {
        if let Some(known) = self.0.write().get_mut(&unit) {
            known.unpurged &= known.state.record.floor != floor;
        }
    }

    /// Something at or below the floor may have come into the unit.
    pub(super) fn refilled(&self, unit: Unit) {
        if let Some(known) = self.0.write().get_mut(&unit) {
            known.unpurged = known.state.record.floor > Stamp::ZERO;
        }
    }

    /// Nothing is known of a unit any more: it is emptied.
    pub(super) fn forget(&self, unit: Unit) {
        self.0.write().remove(&unit);
    }

    /// A batch brings something at or below the gate of a unit: what it vouches for is void, durably with
    /// that. Nothing else is changed until what is returned is dropped, behind the batch.
    pub(super) fn void(&self, unit: Unit, batch: &mut Batch) -> Result<Held<'_>, DiskError> {
        let mut all = self.0.write();
        if let Some(known) = all.get_mut(&unit) {
            crate::sometimes!("floor: what was vouched for is void");
            floor::void(&mut known.state);
            put(batch, unit, &known.state)?;
        }
        Ok(all)
    }
}

fn put(batch: &mut Batch, unit: Unit, state: &FloorState) -> Result<(), DiskError> {
    let record = MetaRecord::Floor(unit, state.record.clone());
    restore::put(batch, &record).map_err(|error| DiskError::Io(error.to_string()))
}

/// Carries a request out.
pub(super) fn execute(shared: &Shared, disk: FloorDisk, done: Done) {
    match disk {
        FloorDisk::Change(changes) => change(shared, &changes, done),
        FloorDisk::Purge(unit) => deletes::purge(shared, unit, done),
        FloorDisk::Count(units, most) => {
            let counted = deletes::count(&shared.engine.snapshot(), (&units, most));
            done(counted.map(|counted| DiskAnswer::Floor(FloorDone::Counted(counted))));
        }
    }
}

fn change(shared: &Shared, changes: &[(Unit, FloorChange)], done: Done) {
    let rises = |change: &FloorChange| {
        matches!(change, FloorChange::Close(_) | FloorChange::Raise(_) | FloorChange::Fill(..))
    };
    let all = changes.iter().any(|(_, change)| rises(change));
    let stripes = if all { &shared.stripes[..] } else { &[] };
    let _guards: Vec<_> = stripes.iter().map(Mutex::lock).collect();
    let mut floors = shared.floors.0.write();
    let (mut batch, mut now) = (Batch::new(), BTreeMap::new());
    for (unit, change) in changes {
        let known = floors.entry(*unit).or_default();
        let before = known.state.record.floor;
        if floor::apply(&mut known.state, *change) {
            known.unpurged |= known.state.record.floor > before;
            if let Err(error) = put(&mut batch, *unit, &known.state) {
                return done(Err(error));
            }
        }
        now.insert(*unit, known.state.clone());
    }
    let answer = DiskAnswer::Floor(FloorDone::Changed(now.into_iter().collect()));
    submit(shared, batch, Durability::Synced, answer, done);
}

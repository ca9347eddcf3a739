//! The purge floor of a unit: what a node durably knows of it, what owners tell each other, and what
//! the disk is asked. `docs/protocol/repair.md`, "The purge floor".

use serde::{Deserialize, Serialize};

use crate::types::{Epoch, NodeId, Stamp, Unit};

/// What an owner durably knows of the purge floor of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorRecord {
    /// At or below it deletes are purged, and what is lacking is never taken again.
    pub floor: Stamp,
    /// At or below it what is lacking is not taken from outside. INVARIANT: not below `floor`.
    pub gate: Stamp,
    /// The owners with which it has found itself equal, each at or below a stamp, since it was last
    /// brought anything there. INVARIANT: none above `gate`; one entry an owner, in order.
    pub vouched: Vec<(NodeId, Stamp)>,
    /// It knows that all owners have vouched at or below this.
    pub agreed: Stamp,
    /// Under which fence; 0: it was filled by an owner that had agreed.
    pub under: Epoch,
}

/// A change of a [`FloorRecord`]. One that would lower something changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloorChange {
    /// Nothing that is lacking comes in from outside any more at or below this.
    Close(Stamp),
    /// It has found itself equal with an owner, in a session that began when its vouching had been
    /// voided so often.
    Vouch(NodeId, Stamp, u64),
    /// All have vouched, heard under this fence, if it has not been voided since.
    Agree(Stamp, Epoch, u64),
    /// The floor rises, or a higher one was heard of.
    Raise(Stamp),
    /// A source says its floor, and up to where it has agreed.
    Fill(Stamp, Stamp),
}

/// A record, and how often what it vouches for has been voided since the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FloorState {
    /// The record.
    pub record: FloorRecord,
    /// The count.
    pub voids: u64,
}

/// What the disk is asked about purge floors.
#[derive(Clone, Debug)]
pub enum FloorDisk {
    /// Changes records, all in one synced batch.
    Change(Vec<(Unit, FloorChange)>),
    /// Deletes a bounded piece of what is at or below the floor of a unit and deleted or expired.
    Purge(Unit),
    /// Counts the deletes and expiring versions that are kept in units, in each at most so many.
    Count(Vec<Unit>, u64),
}

/// What the disk answers to a [`FloorDisk`].
#[derive(Clone, Debug)]
pub enum FloorDone {
    /// To [`FloorDisk::Change`], once it is durable: the records as they are now.
    Changed(Vec<(Unit, FloorState)>),
    /// To [`FloorDisk::Purge`]: how many are gone, and whether there are more.
    Purged(u64, bool),
    /// To [`FloorDisk::Count`], in the order of the units: how many deletes are kept, and the lowest
    /// stamp at which one could be purged. Less than was asked for when the bound was met.
    Counted(Vec<(Unit, u64, Option<Stamp>)>),
}

/// What an owner says of a unit's floor to the other owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloorNews {
    /// The unit.
    pub unit: Unit,
    /// The fence under which it says so.
    pub fence: Epoch,
    /// It vouches for all other owners at or below this; zero: not for all.
    pub vouched: Stamp,
    /// It knows that all do, at or below this.
    pub agreed: Stamp,
    /// The floor.
    pub floor: Stamp,
}

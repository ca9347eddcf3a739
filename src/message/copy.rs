//! Copies: how an owner is filled. What a target durably knows of a unit it has entered, what it asks
//! its sources, and what both ask their disks. `docs/protocol/transfer.md`.

use serde::{Deserialize, Serialize};

use crate::types::{Epoch, Key, NodeId, TableId, Unit};

/// What a node durably holds of a unit of which it is an owner, but has not been from the unit's
/// beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillRecord {
    /// Its entry: under another one this says nothing.
    pub entry: Epoch,
    /// How far it is.
    pub stage: FillStage,
}

/// How far an owner is filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FillStage {
    /// It takes writes, and is being filled.
    Filling(FillProgress),
    /// It has all it should have since its entry.
    Complete,
}

/// What has been pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillProgress {
    /// Sources of which everything has been pulled.
    pub pulled: Vec<NodeId>,
    /// The source that is being pulled, and up to where it has been.
    pub current: Option<(NodeId, CopyPlace)>,
    /// Where writes go that arrive meanwhile.
    pub overlay: Overlay,
}

/// Where writes go that arrive while a unit is filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overlay {
    /// Into the unit's range.
    #[default]
    Unused,
    /// Beside it. The range holds nothing but what files have brought.
    Files,
    /// Beside it. All files have been taken in, and what is beside is merged into the range.
    Merging,
}

/// A key of a unit: copies go through a unit in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CopyPlace {
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
}

/// What the disk is asked about whole units.
#[derive(Clone, Debug)]
pub enum UnitDisk {
    /// Finds units of which the store holds anything: a bounded number of them, in order.
    Held {
        /// Strictly behind this.
        after: Option<Unit>,
    },
    /// Deletes everything there is of a unit, and in the same moment stores what the node then knows
    /// of it, or that it is none of its any more; always fsynced before it is answered.
    Empty {
        /// The unit.
        unit: Unit,
        /// What is to be known of it.
        record: Option<FillRecord>,
    },
}

impl UnitDisk {
    /// Whether it writes.
    pub fn may_write(&self) -> bool {
        match self {
            UnitDisk::Held { .. } => false,
            UnitDisk::Empty { .. } => true,
        }
    }
}

/// What the disk answers to a [`UnitDisk`].
#[derive(Clone, Debug)]
pub enum UnitDone {
    /// To [`UnitDisk::Held`]: the units, and whether these were the last.
    Held(Vec<Unit>, bool),
    /// To [`UnitDisk::Empty`], once it is durable.
    Emptied,
}

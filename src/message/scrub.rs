//! A scrub: everything on disk is read now and then, so that damage is found while others have what it
//! has cost. `docs/protocol/repair.md`, "Healing".

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::WallTime;

/// A place in the files of a store. Opaque to the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ScrubMark {
    /// A file.
    pub file: u32,
    /// Where in it.
    pub offset: u64,
}

/// A piece of it has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubPiece {
    /// Where the next begins; `None`: all has been read.
    pub next: Option<ScrubMark>,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes of tables before the next piece.
    pub done: u64,
    /// Bytes of all tables.
    pub total: u64,
}

/// What is durable of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubRecord {
    /// When the latest pass began; 0: none has.
    pub begun: WallTime,
    /// Where it is to go on; `None`: it has ended.
    pub at: Option<ScrubMark>,
    /// When the last pass that ended did; 0: none has.
    pub ended: WallTime,
}

/// What operators ask about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubRequest {
    /// Reads everything now, as fast as the rate allows.
    Start,
    /// How far it is.
    Status,
}

/// How far a node's scrub is, and what it and others have found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReply {
    /// Whether a pass is under way.
    pub running: bool,
    /// Bytes of tables it has read.
    pub done_bytes: u64,
    /// Bytes of all tables.
    pub total_bytes: u64,
    /// How long the pass is going to take yet, about.
    pub left: Option<Duration>,
    /// When it began.
    pub begun: Option<WallTime>,
    /// When the last pass that ended did.
    pub ended: Option<WallTime>,
    /// Places of damage found since the node started, by whatever read them.
    pub found: u64,
    /// Units that have lost data and are not filled again yet.
    pub lost_units: u32,
    /// Units that have been filled again since the node started.
    pub healed_units: u64,
    /// Where damage was found last, in words.
    pub places: Vec<String>,
}

/// What a node has found of its disk, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Bytes of tables that this pass of the scrub has read.
    pub scrubbed_bytes: u64,
    /// Bytes of all tables, as the scrub knows them.
    pub scrub_bytes: u64,
    /// Places of damage found since the start.
    pub found: u64,
    /// Units that have lost data and are not filled again yet.
    pub lost_units: u64,
    /// Units that have been filled again since the start.
    pub healed_units: u64,
}

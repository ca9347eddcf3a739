//! Copies: how an owner is filled. What a target durably knows of a unit it has entered, what it asks
//! its sources, and what both ask their disks. `docs/protocol/transfer.md`.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::causality::{Acceptor, SiblingSet};
use crate::repair::tree::Place;
use crate::types::{
    ClusterState, Epoch, Key, NodeId, Record, Stamp, TableId, Unit, WallTime, limits,
};

use super::{
    CopyLack, CopyLeaves, CopyStretch, CopyTold, MetaRecord, RoundId, ScrubMark, ScrubPiece,
};

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
    /// It has lost data that it had acknowledged since its entry: it takes writes, answers no read, and
    /// waits for another entry, under which it is filled.
    Lost,
    /// No owner, but a reserved member that keeps a copy of the unit: `docs/protocol/mirror.md`. The entry is
    /// [`FillRecord::MIRROR`].
    Mirror {
        /// When it was last made equal to an owner, by the node's clock; 0: not yet.
        at: WallTime,
    },
}

impl FillRecord {
    /// The entry of who mirrors a unit: no owner has it.
    pub const MIRROR: Epoch = Epoch(0);

    /// What is on record of a unit that is mirrored.
    pub fn mirror(at: WallTime) -> FillRecord {
        FillRecord { entry: FillRecord::MIRROR, stage: FillStage::Mirror { at } }
    }

    /// When a unit that is mirrored was last made equal to an owner; `None` of others.
    pub fn mirrored_at(&self) -> Option<WallTime> {
        match self.stage {
            FillStage::Mirror { at } => Some(at),
            _ => None,
        }
    }
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
    /// Beside it. The range holds what this node has mirrored, which is being made equal to what the first
    /// source holds.
    Mirrored,
}

/// A key of a unit: copies go through a unit in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CopyPlace {
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
}

/// What is there of one key: what the copy of it is merged from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyRecord {
    /// A version, tombstones and expired ones included.
    Version(Record),
    /// A set of siblings, or a piece of one.
    Siblings(SiblingSet),
    /// What an acceptor has promised and accepted.
    Register(Acceptor),
}

impl CopyRecord {
    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        match self {
            CopyRecord::Version(record) => record.bytes(),
            CopyRecord::Siblings(set) => set.bytes(),
            CopyRecord::Register(acceptor) => {
                let state = acceptor.accepted().map(|accepted| accepted.state.bytes());
                2 * Stamp::BYTES + state.unwrap_or_default()
            }
        }
    }
}

impl CopyRecord {
    /// The lowest stamp of what it brings; `None` of an acceptor, which is never brought, and of a set
    /// that has seen nothing.
    pub fn lowest(&self) -> Option<Stamp> {
        match self {
            CopyRecord::Version(record) => Some(record.stamp),
            CopyRecord::Siblings(set) => set.lowest(),
            CopyRecord::Register(_) => None,
        }
    }
}

/// A key and what is there of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyEntry {
    /// The key.
    pub place: CopyPlace,
    /// What is there.
    pub record: CopyRecord,
}

impl CopyEntry {
    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        self.place.bytes() + self.record.bytes()
    }
}

impl CopyPlace {
    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        8 + self.key.as_bytes().len()
    }
}

/// A key and what tells whether two replicas hold the same of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyMark {
    /// The key.
    pub place: CopyPlace,
    /// The stamp of a version: who holds one above it lacks nothing. Zero of all else.
    pub stamp: Stamp,
    /// A hash of what the stamp does not tell.
    pub print: u128,
}

/// What a source is asked for. What is cut short is gone on with from [`CopyPage::next`] on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyWhat {
    /// The first keys strictly behind this, and what is there of them.
    All(Option<CopyPlace>),
    /// The first keys of this, and their marks.
    Marks(CopyStretch),
    /// The leaves of the source's tree from the one on that holds this place. A source that has no tree to
    /// tell of gives the marks of what is strictly behind the second place, up to where all has been compared.
    Leaves(Place, Option<CopyPlace>),
    /// These keys, in order.
    Keys(Vec<CopyPlace>),
    /// The unit as files, and which. A source that would rather not gives the first page of
    /// [`CopyWhat::All`].
    Files,
    /// What is in the file of this name from this offset on.
    Chunk(String, u64),
    /// Nothing: the files are not wanted any more. There is no answer.
    Ended,
}

/// A file of a unit: a table of the storage engine, or a file of long values that tables refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFile {
    /// Its name, which is one: letters, digits, `-` and `_`, then `.sst` or `.blob`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

impl CopyFile {
    /// Whether a name can be that of a file of a unit: foreign ones must not name any other.
    pub fn is_name(name: &str) -> bool {
        let stem = name.strip_suffix(".sst").or_else(|| name.strip_suffix(".blob"));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        name.len() <= limits::COPY_FILE_NAME_BYTES_MAX
            && stem.is_some_and(|stem| !stem.is_empty() && stem.bytes().all(is_plain))
    }
}

/// A stretch of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyChunk {
    /// The bytes.
    pub bytes: Bytes,
    /// Their xxh3-64.
    pub sum: u64,
}

/// A target asks a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyAsk {
    /// The session, and the question in it.
    pub round: RoundId,
    /// The unit.
    pub unit: Unit,
    /// The target's entry; [`FillRecord::MIRROR`] of a reserved member that mirrors the unit.
    pub entry: Epoch,
    /// The epoch at which the target believes the unit's owners last changed.
    pub changed_at: Epoch,
    /// What it asks for.
    pub what: CopyWhat,
}

/// A part of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPage {
    /// In key order.
    pub content: CopyContent,
    /// Where the next page begins, strictly behind this; `None`: that was all.
    pub next: Option<CopyPlace>,
}

/// What is in a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyContent {
    /// To [`CopyWhat::All`] and [`CopyWhat::Keys`]. Pieces of a large set are entries of their own.
    Records(Vec<CopyEntry>),
    /// To [`CopyWhat::Marks`].
    Marks(Vec<CopyMark>),
    /// To [`CopyWhat::Leaves`]. Where the next page begins is where these end.
    Leaves(CopyLeaves),
    /// To [`CopyWhat::Files`].
    Files(Vec<CopyFile>),
    /// To [`CopyWhat::Chunk`].
    Chunk(CopyChunk),
}

/// Why a source gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyRefusal {
    /// It is not an owner that is read, or has not all it should have itself.
    Incomplete,
    /// It has yet to acknowledge the target's entry.
    NotAcknowledged,
    /// It knows the target by another entry, or by none. Its state follows.
    OtherEntry,
    /// It knows of a later change of the unit's owners. Its state follows.
    Fenced,
    /// The files it was asked for are not there any more.
    Gone,
    /// It gives as much as it can already, or its disk could not.
    Busy,
}

/// What sources and targets say to each other. Safe to lose, repeat and reorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyMessage {
    /// Asks for a page.
    Ask(CopyAsk),
    /// A page, or a part of one that is too large for a message.
    Page {
        /// Of the question.
        round: RoundId,
        /// Which part, from 0.
        part: u16,
        /// Of how many.
        parts: u16,
        /// The purge floor of the unit at the source.
        floor: Stamp,
        /// Up to where the source knows that all owners have vouched; zero: nowhere.
        agreed: Stamp,
        /// The page, as far as it is in this part.
        page: CopyPage,
    },
    /// No page.
    Refused {
        /// Of the question.
        round: RoundId,
        /// Why.
        why: CopyRefusal,
    },
}

impl CopyMessage {
    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        let place = |place: &Option<CopyPlace>| place.as_ref().map_or(0, CopyPlace::bytes);
        match self {
            CopyMessage::Ask(CopyAsk { what, .. }) => match what {
                CopyWhat::All(after) => place(after),
                CopyWhat::Marks(stretch) => stretch.bytes(),
                CopyWhat::Leaves(from, after) => 2 + from.as_bytes().len() + place(after),
                CopyWhat::Keys(keys) => keys.iter().map(CopyPlace::bytes).sum(),
                CopyWhat::Files | CopyWhat::Ended => 0,
                CopyWhat::Chunk(name, _) => name.len(),
            },
            CopyMessage::Page { page, .. } => page.bytes(),
            CopyMessage::Refused { .. } => 0,
        }
    }
}

impl CopyPage {
    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        let content: usize = match &self.content {
            CopyContent::Records(entries) => entries.iter().map(CopyEntry::bytes).sum(),
            CopyContent::Marks(marks) => marks.iter().map(|mark| 32 + mark.place.bytes()).sum(),
            CopyContent::Leaves(leaves) => leaves.bytes(),
            CopyContent::Files(files) => files.iter().map(|file| 8 + file.name.len()).sum(),
            CopyContent::Chunk(chunk) => 8 + chunk.bytes.len(),
        };
        content + self.next.as_ref().map_or(0, CopyPlace::bytes)
    }

    /// The page in parts that each fit a message.
    pub fn parts(self) -> Vec<CopyPage> {
        let CopyPage { content, next } = self;
        let CopyContent::Records(entries) = content else {
            return vec![CopyPage { content, next }];
        };
        let mut parts = vec![Vec::new()];
        let mut bytes = 0;
        for entry in entries {
            bytes += entry.bytes();
            if bytes > limits::SIBLING_PART_BYTES && bytes > entry.bytes() {
                bytes = entry.bytes();
                parts.push(Vec::new());
            }
            if let Some(part) = parts.last_mut() {
                part.push(entry);
            }
        }
        let page =
            |entries| CopyPage { content: CopyContent::Records(entries), next: next.clone() };
        parts.into_iter().map(page).collect()
    }
}

/// What a source says of the purge floor of a unit with what it gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceFloor {
    /// The floor.
    pub floor: Stamp,
    /// Up to where it knows that all owners have vouched.
    pub agreed: Stamp,
    /// It is the first source, of which everything comes: at or below where it has agreed the fill
    /// replaces what came from elsewhere.
    pub is_first: bool,
}

impl SourceFloor {
    /// Whether there is anything to be known.
    pub fn says_anything(self) -> bool {
        self.floor > Stamp::ZERO || self.agreed > Stamp::ZERO
    }
}

/// Keys that the store may have lost: where something is damaged, or was missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostKeys {
    /// The file, the place and what is wrong.
    pub what: String,
    /// The first key of the store that may be lost; opaque to the node.
    pub start: Bytes,
    /// The first key above them; none: all from there on.
    pub end: Option<Bytes>,
    /// The first and the last unit that they may be of, if they may be of any.
    pub units: Option<(Unit, Unit)>,
    /// Whether hints may be among them.
    pub hints: bool,
    /// Whether records of the node itself may be.
    pub own: bool,
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
        /// What was mirrored of it stays in its range.
        keeps: bool,
    },
    /// Reads a page for a copy.
    Page {
        /// The unit.
        unit: Unit,
        /// What.
        what: CopyWhat,
        /// For whom, and its entry: whose files they are.
        to: (NodeId, Epoch),
    },
    /// Where another replica has more.
    Compare {
        /// The unit.
        unit: Unit,
        /// What it has.
        told: CopyTold,
    },
    /// Merges what a source has, record by record, once its floor is known here.
    Fill {
        /// The unit.
        unit: Unit,
        /// What it has.
        entries: Vec<CopyEntry>,
        /// Its floor.
        source: SourceFloor,
    },
    /// Merges what another complete owner has, record by record.
    Merge {
        /// The unit.
        unit: Unit,
        /// What it has.
        entries: Vec<CopyEntry>,
    },
    /// Throws away what was staged of a unit's files.
    Clear {
        /// The unit.
        unit: Unit,
    },
    /// Puts a chunk of a unit's file where it waits for the rest.
    Stage {
        /// The unit.
        unit: Unit,
        /// The name of the file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What.
        chunk: CopyChunk,
    },
    /// Takes staged files into the unit's range, of which all else is deleted, or leaves the range as it is, and
    /// stores what is then known of the unit. May take minutes.
    TakeIn {
        /// The unit.
        unit: Unit,
        /// All of its files; `None`: the range holds already what the source has.
        files: Option<Vec<CopyFile>>,
        /// The floor of the source.
        source: SourceFloor,
        /// What is then known of it.
        record: FillRecord,
        /// Says which tables are dropped: what the files have of them goes.
        state: Arc<ClusterState>,
    },
    /// Finds what is damaged: what reads, merges and openings have met, looked at once more.
    Damage,
    /// Reads what is on disk from a place on, to find damage: a bounded piece.
    Scrub {
        /// Where to begin.
        from: ScrubMark,
        /// About how many bytes.
        bytes: u64,
    },
    /// Makes it durable that units have lost data, and that all of the log's damage is dealt with.
    Lose {
        /// What is then on record of them, and of the node.
        records: Vec<MetaRecord>,
        /// The damage of the log is dealt with: it is forgotten in the same moment.
        log: bool,
    },
    /// Deletes what may be left of lost keys outside of some units, where nobody misses it.
    Forgo {
        /// The keys.
        keys: LostKeys,
        /// The units that are left alone: those that the node owns.
        kept: Vec<Unit>,
        /// What is on record with that.
        records: Vec<MetaRecord>,
    },
    /// Merges a piece of a unit's overlay into its range. When nothing is left the overlay is over, and
    /// the record is stored.
    Drain {
        /// The unit.
        unit: Unit,
        /// What is known of it when nothing is left.
        record: FillRecord,
    },
}

impl UnitDisk {
    /// Whether it moves many bytes. Emptying a unit is short, and writes of users wait for it.
    pub fn is_bulk(&self) -> bool {
        !matches!(self, UnitDisk::Empty { .. })
    }

    /// Whether it may write, or waits for the log.
    pub fn may_write(&self) -> bool {
        match self {
            UnitDisk::Held { .. }
            | UnitDisk::Damage
            | UnitDisk::Scrub { .. }
            | UnitDisk::Clear { .. }
            | UnitDisk::Stage { .. } => false,
            // A page waits until what it shows is durable, and so does what is called equal.
            UnitDisk::Empty { .. }
            | UnitDisk::Page { .. }
            | UnitDisk::Compare { .. }
            | UnitDisk::Fill { .. }
            | UnitDisk::Lose { .. }
            | UnitDisk::Forgo { .. }
            | UnitDisk::Merge { .. }
            | UnitDisk::TakeIn { .. }
            | UnitDisk::Drain { .. } => true,
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
    /// To [`UnitDisk::Page`], once what it shows is durable.
    Page(CopyPage),
    /// To [`UnitDisk::Compare`], once what is not lacking here is durable.
    Wanted(CopyLack),
    /// To [`UnitDisk::Fill`] and [`UnitDisk::Merge`], once it is as durable as a write; and to [`UnitDisk::Clear`],
    /// [`UnitDisk::Stage`] and [`UnitDisk::TakeIn`]; to [`UnitDisk::Lose`] and [`UnitDisk::Forgo`], once it
    /// is durable.
    Merged,
    /// To [`UnitDisk::Scrub`].
    Scrubbed(ScrubPiece),
    /// To [`UnitDisk::Damage`].
    Damaged(Vec<LostKeys>),
    /// To [`UnitDisk::Drain`]: whether the overlay is over, durably.
    Drained(bool),
}

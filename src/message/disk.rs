//! What the node asks of its disk, and what it is told. The answer to a write arrives when it is
//! as durable as was asked: an acknowledgement can only be made out of one.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::{
    ClusterState, Epoch, Key, NodeId, Nonce, Record, Stamp, TableId, Tenure, Time, Unit, WallTime,
};

use super::{
    AsideRecord, AsideTask, CausalDisk, CausalDone, ChangesAsk, ChangesPage, CustodyChange,
    DecreeRecord, EventRecord, FillRecord, FloorDisk, FloorDone, FloorRecord, Hint, HintBook,
    HintChange, HintPage, HintPlace, HintTotals, HintsDropped, HourRecord, ProposalRecord,
    RegisterDisk, RegisterSaid, ResizeRecord, ScrubRecord, TreeDisk, TreeDone, UnitDisk, UnitDone,
};

/// Ties an answer to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskToken(pub u64);

/// What the node asks of its disk.
#[derive(Clone, Debug)]
pub enum DiskRequest {
    /// Merges a version into a key of a unit.
    Write {
        /// The unit.
        unit: Unit,
        /// The table.
        table: TableId,
        /// The key.
        key: Key,
        /// The version.
        record: Record,
    },
    /// Reads a key of a unit.
    Read {
        /// The unit.
        unit: Unit,
        /// The table.
        table: TableId,
        /// The key.
        key: Key,
        /// Answer only when the version that is shown is as durable as an acknowledged one.
        durable: bool,
    },
    /// Reads the keys of a table in byte order or the reverse of it, over all given units, tombstones included.
    Range {
        /// The units.
        units: Arc<Vec<Unit>>,
        /// The table.
        table: TableId,
        /// Keys that begin with this.
        prefix: Bytes,
        /// Keys strictly above this, in reverse strictly below it; empty: all.
        after: Bytes,
        /// Most entries.
        limit: u32,
        /// Leave values out (whether there is one is still told: an empty value stands for it).
        keys_only: bool,
        /// From the highest key down.
        reverse: bool,
        /// Goes on with what an earlier page of the same scan left open.
        cursor: Option<CursorUse>,
        /// Answer only when what acceptors in it have accepted cannot be lost any more.
        durable: bool,
        /// When the page is no longer wanted: nothing is read then.
        deadline: Time,
    },
    /// Closes cursors; those that are not there are closed.
    EndCursors(Vec<CursorName>),
    /// Reads what has been noted of the changes of a table.
    Changes(Box<ChangesAsk>),
    /// Ceases to note the changes of tables.
    ForgetChanges(Vec<TableId>),
    /// Merges the versions of a batch, in one record of the log: after a crash all of them are there or none
    /// is. Answered with [`DiskAnswer::Written`], superseded by the highest stamp that any of them lost to, or
    /// [`DiskAnswer::Late`] when any of them is, and then nothing is written.
    WriteTogether {
        /// The unit.
        unit: Unit,
        /// The table.
        table: TableId,
        /// Different keys, at least one.
        items: Vec<(Key, Record)>,
    },
    /// Keeps a version for an owner, merged into what is kept for it already. A hint in custody stays
    /// in custody, and the age is that of the first.
    KeepHint {
        /// The owner.
        target: NodeId,
        /// The version.
        hint: Hint,
    },
    /// Changes what is kept for an owner of a key of a causal table, as a stand-in that coordinates.
    ChangeHint(Box<CustodyChange>),
    /// Reads the newest version that is kept under a key for any of these owners.
    ReadHint {
        /// The owners.
        targets: Vec<NodeId>,
        /// The unit.
        unit: Unit,
        /// The table.
        table: TableId,
        /// The key.
        key: Key,
    },
    /// Reads hints for an owner, oldest first: a bounded page.
    Hints {
        /// The owner.
        target: NodeId,
        /// Strictly behind this; from the oldest on when left out.
        after: Option<HintPlace>,
    },
    /// Deletes a hint, if it is still exactly this one.
    RemoveHint {
        /// The owner.
        target: NodeId,
        /// What was handed over.
        hint: Hint,
    },
    /// Gives up hints for an owner, oldest first, and marks their units dirty: a bounded piece.
    DropHints {
        /// The owner.
        target: NodeId,
        /// Only those made before this.
        before: WallTime,
        /// Those in custody too.
        custody: bool,
        /// Strictly behind this.
        after: Option<HintPlace>,
    },
    /// Deletes keys of dropped tables, in all units the store holds anything of: a bounded piece of
    /// it, beginning at a place of the store.
    Sweep {
        /// The state that says which tables are dropped.
        state: Arc<ClusterState>,
        /// Where to begin: empty, or as the piece before said.
        from: Bytes,
    },
    /// About whole units.
    Unit(Box<UnitDisk>),
    /// About the trees of units.
    Tree(Box<TreeDisk>),
    /// About the purge floors of units.
    Floor(Box<FloorDisk>),
    /// About one key of a causal table.
    Causal(Box<CausalDisk>),
    /// About one key of a linearizable table; what it writes is always fsynced before it is answered.
    Register(Box<RegisterDisk>),
    /// Stores records of the node itself, atomically; always fsynced before it is answered.
    Persist(Vec<MetaRecord>),
    /// Sets the store's data aside, or deletes what was; answered with [`DiskAnswer::Persisted`].
    Aside(AsideTask),
    /// Writes the memtable out.
    Flush,
    /// Writes the memtable out and merges all tables. May take minutes.
    Compact,
    /// Measures the store.
    Measure,
}

impl DiskRequest {
    /// Whether it is done for whole units, and nobody waits for it who must not wait long.
    pub fn is_bulk(&self) -> bool {
        match self {
            DiskRequest::Unit(disk) => disk.is_bulk(),
            DiskRequest::Tree(_) | DiskRequest::Sweep { .. } | DiskRequest::Aside(_) => true,
            _ => false,
        }
    }

    /// When it is no longer wanted, if it says so.
    pub fn deadline(&self) -> Option<Time> {
        match self {
            DiskRequest::Range { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }

    /// Whether it may write to the log, which must then be told: what is written and not sent on its
    /// way is answered only when somebody else writes.
    pub fn may_write(&self) -> bool {
        match self {
            DiskRequest::Write { .. }
            | DiskRequest::WriteTogether { .. }
            | DiskRequest::KeepHint { .. }
            | DiskRequest::ChangeHint(_)
            // A page of sets waits until they are durable.
            | DiskRequest::Hints { .. }
            | DiskRequest::RemoveHint { .. }
            | DiskRequest::DropHints { .. }
            | DiskRequest::Sweep { .. }
            | DiskRequest::Floor(_)
            | DiskRequest::Aside(_)
            | DiskRequest::Causal(_)
            | DiskRequest::Register(_)
            | DiskRequest::Persist(_) => true,
            DiskRequest::Unit(disk) => disk.may_write(),
            // One that has to wait for the log tells it itself: few do.
            DiskRequest::Read { .. }
            | DiskRequest::Range { .. }
            | DiskRequest::EndCursors(_)
            | DiskRequest::Changes(_)
            | DiskRequest::ForgetChanges(_)
            | DiskRequest::ReadHint { .. }
            | DiskRequest::Tree(_)
            | DiskRequest::Flush
            | DiskRequest::Compact
            | DiskRequest::Measure => false,
        }
    }
}

/// What the disk answers.
#[derive(Clone, Debug)]
pub enum DiskAnswer {
    /// To a write, once what the key now holds is durable.
    Written(WriteOutcome),
    /// To a write, or to the merge of a set: it is lacking, is at or below the gate of the unit, and was
    /// not taken.
    Late {
        /// The gate.
        bound: Stamp,
        /// It is at or below the floor: nobody who needs it has it, so that it counts as held.
        purged: bool,
    },
    /// To a read of a key, once what it shows is durable if that was asked, or of a hint.
    Read(Option<Record>),
    /// To a range read.
    Range(RangePage),
    /// To [`DiskRequest::EndCursors`].
    CursorsEnded,
    /// To [`DiskRequest::Changes`].
    Changes(ChangesPage),
    /// To [`DiskRequest::ForgetChanges`].
    ChangesForgotten,
    /// To [`DiskRequest::KeepHint`], once it is durable.
    Kept(WriteOutcome, HintChange),
    /// To [`DiskRequest::ChangeHint`], once it is durable; or the refusal, with nothing changed.
    ChangedHint(CausalDone, HintChange),
    /// To [`DiskRequest::Hints`].
    Hints(HintPage),
    /// To [`DiskRequest::RemoveHint`]: what is gone.
    HintRemoved(HintTotals),
    /// To [`DiskRequest::DropHints`], once it is durable.
    HintsDropped(HintsDropped),
    /// To [`DiskRequest::Sweep`], once what it deleted is durable: where the next piece begins, or
    /// nowhere; and the hints that went, by target.
    Swept(Option<Bytes>, BTreeMap<NodeId, HintTotals>),
    /// To [`DiskRequest::Unit`].
    Unit(UnitDone),
    /// To [`DiskRequest::Tree`].
    Tree(TreeDone),
    /// To [`DiskRequest::Floor`].
    Floor(FloorDone),
    /// To [`DiskRequest::Causal`].
    Causal(CausalDone),
    /// To [`DiskRequest::Register`].
    Register(RegisterSaid),
    /// To [`DiskRequest::Persist`].
    Persisted,
    /// To [`DiskRequest::Flush`].
    Flushed,
    /// To [`DiskRequest::Compact`].
    Compacted,
    /// To [`DiskRequest::Measure`].
    Measured(ReplicaFacts),
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The key now holds this version (or held it already).
    Stored,
    /// The key held, and keeps, a version with this higher stamp.
    Superseded(Stamp),
}

/// A scan of a coordinator, as a replica knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CursorName {
    /// Whose scan it is.
    pub coordinator: NodeId,
    /// The coordinator's number for it.
    pub scan: u64,
}

/// How a page uses a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorUse {
    /// Which.
    pub name: CursorName,
    /// What is there under that name is not to be gone on with.
    pub fresh: bool,
}

/// A page of a range read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangePage {
    /// Keys and versions in byte order.
    pub entries: Vec<(Key, Record)>,
    /// Whether the range has been read to its end.
    pub complete: bool,
}

/// Sizes of the trees of units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeSizes {
    /// Bytes of memory.
    pub bytes: u64,
    /// Bytes of the file that they are kept in.
    pub file_bytes: u64,
    /// Leaves.
    pub leaves: u64,
}

/// Sizes of the store, for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaFacts {
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// Bytes that can still be written to its file system, where that is known.
    pub free_bytes: Option<u64>,
    /// Bytes of memtables.
    pub memory_bytes: u64,
    /// About how many records it holds, deletes and older versions included.
    pub keys: u64,
    /// Of its trees.
    pub trees: TreeSizes,
    /// How full its write path is, 0 (idle) to 1000 (refusing).
    pub pressure_milli: u16,
    /// Something could not be read: [`UnitDisk::Damage`] tells. Of the node's own store alone.
    pub damaged: bool,
}

/// Why the disk could not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// The store has latched read-only after a failed write or fsync.
    #[error("the store is read-only: {0}")]
    ReadOnly(String),
    /// There is no room; nothing was changed, and nobody has seen anything of it.
    #[error("the disk is full")]
    Full,
    /// There was no room, and what was changed in memory was taken back, or what this rests on: readers may have
    /// seen it.
    #[error("the disk is full; what could not be written was taken back")]
    TakenBack,
    /// A queue of the store is full.
    #[error("the store is overloaded")]
    Overloaded,
    /// Nobody waits for it any more.
    #[error("it came to its turn after its deadline")]
    Expired,
    /// Stored bytes are damaged; says where.
    #[error("corruption: {0}")]
    Corruption(String),
    /// Anything else of the operating system's.
    #[error("input/output error: {0}")]
    Io(String),
}

/// One record of the node itself. Keys are the variants (and ids within); the last one stored wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaRecord {
    /// Written once, before the node first says that it is empty.
    Birth(BirthRecord),
    /// The one epoch-1 state this founder has pledged itself to, by hash.
    Pledge(u128),
    /// The newest cluster state in force.
    State(Arc<ClusterState>),
    /// This boot.
    Boot(BootRecord),
    /// No stamp at or above this has been given.
    Ceiling(WallTime),
    /// What is known of another member's lives.
    Life(NodeId, LifeRecord),
    /// What this node has promised and accepted in the latest decision it took part in.
    Decree(DecreeRecord),
    /// The newest decided state, which may not be in force yet.
    Decided(Arc<ClusterState>),
    /// The keys of all tables dropped by this epoch have been deleted here.
    Swept(Epoch),
    /// An owner of a unit may lack writes that no hint carries any more.
    Dirty(Unit, NodeId),
    /// As whom this node writes in causal tables.
    Tenure(Tenure),
    /// The highest epoch acknowledged: what was let in before is durable, and below its fences
    /// nothing is let in any more.
    Acknowledged(Epoch),
    /// How far a unit is filled that the node has become an owner of.
    Fill(Unit, FillRecord),
    /// Takes [`MetaRecord::Dirty`] back: the owner has been compared. It is not there itself.
    Clean(Unit, NodeId),
    /// What is known of the purge floor of a unit.
    Floor(Unit, FloorRecord),
    /// Nothing at or below this is taken into custody any more.
    Custody(Stamp),
    /// Up to this epoch the node decides nothing with others: what it had promised may be lost.
    Abstain(Epoch),
    /// How far everything on disk has been read.
    Scrub(ScrubRecord),
    /// Another member has seen a later life of this one: why it must never run as itself again.
    Refused(String),
    /// Old data that were set aside.
    Aside(AsideRecord),
    /// Something that has happened. The latest so many are kept, by their numbers.
    Event(EventRecord),
    /// How busy the node was in an hour. Four weeks are kept, by the place of the hour in them.
    Hour(HourRecord),
    /// When the cluster last grew and shrank.
    Resized(ResizeRecord),
    /// What has become of earlier proposals.
    Proposals(ProposalRecord),
}

/// A founder's birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthRecord {
    /// Random.
    pub nonce: Nonce,
}

/// A boot of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// From 1.
    pub number: u64,
    /// Random.
    pub nonce: Nonce,
}

/// What a council member remembers of a member's latest life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeRecord {
    /// Its boot.
    pub boot: BootRecord,
    /// The highest clock ceiling it was seen with.
    pub ceiling: WallTime,
}

/// What the store held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// See [`MetaRecord::Birth`].
    pub birth: Option<BirthRecord>,
    /// See [`MetaRecord::Pledge`].
    pub pledge: Option<u128>,
    /// See [`MetaRecord::State`].
    pub state: Option<Arc<ClusterState>>,
    /// See [`MetaRecord::Boot`].
    pub boot: Option<BootRecord>,
    /// See [`MetaRecord::Ceiling`].
    pub ceiling: WallTime,
    /// See [`MetaRecord::Life`].
    pub lives: BTreeMap<NodeId, LifeRecord>,
    /// See [`MetaRecord::Decree`].
    pub decree: DecreeRecord,
    /// See [`MetaRecord::Decided`].
    pub decided: Option<Arc<ClusterState>>,
    /// See [`MetaRecord::Swept`].
    pub swept: Epoch,
    /// See [`MetaRecord::Acknowledged`].
    pub acknowledged: Epoch,
    /// See [`MetaRecord::Dirty`].
    pub dirty: BTreeSet<(Unit, NodeId)>,
    /// The hints that are there, by target.
    pub hints: BTreeMap<NodeId, HintBook>,
    /// See [`MetaRecord::Fill`].
    pub fills: BTreeMap<Unit, FillRecord>,
    /// See [`MetaRecord::Floor`].
    pub floors: BTreeMap<Unit, FloorRecord>,
    /// See [`MetaRecord::Custody`].
    pub custody: Stamp,
    /// See [`MetaRecord::Tenure`]. `None` as well when the store may have lost what the node wrote.
    pub tenure: Option<Tenure>,
    /// The store may lose what it was given: a tenure that begins on it must not outlive this boot.
    pub forgets: bool,
    /// See [`MetaRecord::Abstain`].
    pub abstain: Epoch,
    /// See [`MetaRecord::Scrub`].
    pub scrub: ScrubRecord,
    /// See [`MetaRecord::Refused`].
    pub refused: Option<String>,
    /// See [`MetaRecord::Aside`].
    pub aside: Option<AsideRecord>,
    /// See [`MetaRecord::Event`]; by number.
    pub events: BTreeMap<u64, EventRecord>,
    /// See [`MetaRecord::Hour`]; in any order.
    pub hours: Vec<HourRecord>,
    /// See [`MetaRecord::Resized`].
    pub resized: ResizeRecord,
    /// See [`MetaRecord::Proposals`].
    pub proposals: ProposalRecord,
    /// Damage of the log, in words with file and offset: acknowledged writes and records of the node may
    /// be missing. Nothing may be served before that is dealt with.
    pub damage: Vec<String>,
    /// Tables that cannot be read: keys in their range are answered with an error, never as absent.
    pub unreadable: Vec<String>,
}

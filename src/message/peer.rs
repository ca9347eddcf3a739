//! What nodes say to each other. Messages are one-way; an answer is a message of its own that
//! carries the round it answers. All are safe to lose, repeat and reorder.

use bytes::Bytes;
use core::time::Duration;
use std::sync::Arc;

use crate::types::{
    ClusterState, Epoch, Key, NodeId, NodeName, Nonce, Record, Stamp, TableId, Unit, WallTime,
};

use super::{
    BootRecord, CausalMessage, CopyMessage, DecreeMessage, ExplainMessage, FloorNews, LifeRecord,
    LoadFacts, MemberSync, Probe, RegisterMessage, RepairMessage, ReplicaFacts, UnwellLink,
    WatchMessage, WorkNews, WriteOutcome,
};

/// Which stream carries a message: long answers must not delay short ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Reads and writes of single keys, probes, births and boots.
    Small,
    /// Pages of scans, full syncs of membership, transfers, repair.
    Bulk,
}

/// One round of questions of one operation. Answers to an older round do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId {
    /// The operation, unique in one boot of its coordinator.
    pub op: u64,
    /// The round within it.
    pub round: u32,
}

/// A key, as of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    /// The unit of the key.
    pub unit: Unit,
    /// The epoch at which the sender believes the unit's owners last changed.
    pub changed_at: Epoch,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
}

/// Asks a replica to merge a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteAsk {
    /// Which round asks.
    pub round: RoundId,
    /// The unit of the key.
    pub unit: Unit,
    /// The epoch at which the coordinator believes the unit's owners last changed.
    pub changed_at: Epoch,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
    /// The version.
    pub record: Record,
    /// Of a batch: its other keys and versions, all under the stamp of the first. They are merged together
    /// with it, in one record of the log; together they are fresh, and not for custody.
    pub rest: Vec<(Key, Record)>,
    /// A client's write on its first way in: the clock bound applies. Repairs are not fresh.
    pub fresh: bool,
    /// Keep it in custody for this owner, instead of merging it into one's own copy.
    pub hint_for: Option<NodeId>,
    /// What is left of the deadline.
    pub remaining: Duration,
}

impl WriteAsk {
    /// Bytes of all keys and versions.
    pub fn bytes(&self) -> usize {
        let of = |key: &Key, record: &Record| key.as_bytes().len() + record.bytes();
        let rest: usize = self.rest.iter().map(|(key, record)| of(key, record)).sum();
        of(&self.key, &self.record) + rest
    }
}

/// Answers a [`WriteAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteAnswer {
    /// Which round it answers.
    pub round: RoundId,
    /// Whether whoever answers has all it should have of the unit: only then does its answer tell what
    /// came before. Says nothing with a refusal.
    pub complete: bool,
    /// What became of it.
    pub result: Result<WriteOutcome, Refusal>,
}

/// Asks a replica for its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAsk {
    /// Which round asks.
    pub round: RoundId,
    /// The unit of the key.
    pub unit: Unit,
    /// As in [`WriteAsk`].
    pub changed_at: Epoch,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
    /// Stand in for this owner: what is kept for any owner of the unit is wanted, instead of one's own.
    pub hint_for: Option<NodeId>,
    /// Answer only when one's own version is as durable as an acknowledged one: whoever asks counts
    /// this owner among those that hold it. Says nothing of hints.
    pub durable: bool,
    /// What is left of the deadline.
    pub remaining: Duration,
}

/// Answers a [`ReadAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    /// Which round it answers.
    pub round: RoundId,
    /// Its version, tombstones included.
    pub result: Result<Option<Record>, Refusal>,
}

/// Asks a replica for a page of all units of a class that it owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanAsk {
    /// Which round asks.
    pub round: RoundId,
    /// The epoch at which the coordinator believes the owners of any unit of the class last
    /// changed: a replica that knows another one refuses, so that both mean the same units.
    pub changed_at: Epoch,
    /// The table; its class says which units.
    pub table: TableId,
    /// As in a client's scan.
    pub prefix: Bytes,
    /// As in a client's scan.
    pub after: Bytes,
    /// Most entries.
    pub limit: u32,
    /// Leave values out.
    pub keys_only: bool,
    /// As in a client's scan.
    pub reverse: bool,
    /// Of which scan it is a page, so that the replica can go on with the next one where it was.
    pub part: Option<ScanPart>,
    /// What is left of the deadline.
    pub remaining: Duration,
}

/// Of which scan a page is a part. The number is the node's that coordinates it; between its service
/// and itself, the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanPart {
    /// The scan.
    pub scan: u64,
    /// It is the first page: nothing older than it is gone on with.
    pub first: bool,
}

/// Answers a [`ScanAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanAnswer {
    /// Which round it answers.
    pub round: RoundId,
    /// Entries in byte order and whether the end was reached, or a refusal.
    pub result: Result<(Vec<(Key, Record)>, bool), Refusal>,
}

/// Why a replica did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It knows a later change of the unit's owners; its epoch is attached, the state follows.
    Fenced {
        /// Its epoch.
        epoch: Epoch,
    },
    /// It has yet to learn the epoch the message speaks of.
    Behind {
        /// Its epoch.
        epoch: Epoch,
    },
    /// It does not own the unit in the epoch both know; or it was asked to stand in, and leaves.
    NotOwner,
    /// It owns the unit and has not all it should have of it yet: it is not read, and promises nothing.
    Incomplete,
    /// The table has been dropped, as of this epoch or before: whoever asks may not know it yet.
    Dropped {
        /// Its epoch.
        epoch: Epoch,
    },
    /// A fresh write is stamped too far ahead of its clocks.
    ClockAhead {
        /// Its clock of record.
        clock: WallTime,
    },
    /// Its queues are full.
    Overloaded,
    /// It does not serve yet, or no more.
    NotServing,
    /// What was to be written is at or below what it takes from outside: its purge floor, or the gate.
    Late {
        /// Up to where.
        bound: Stamp,
    },
    /// The deadline had passed before it began.
    Expired,
    /// Its store is read-only.
    ReadOnly,
    /// Its disk is full; it has kept nothing of what it was asked to write, nor shown it to anybody.
    DiskFull,
    /// Its disk was full. It has taken back what it was asked to write, but may have shown it before.
    TakenBack,
    /// Its store failed; damage is reported here, never as a value or an absence.
    Storage(String),
}

/// For whom a member holds hints in custody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustodyNews {
    /// How many for each target, those with most first; at most
    /// [`CUSTODY_NEWS_MAX`](crate::types::limits::CUSTODY_NEWS_MAX).
    pub targets: Vec<(NodeId, u64)>,
    /// And for others, which are not named.
    pub others: bool,
}

/// What a probe and its answer carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeFacts {
    /// The epoch in force at the sender.
    pub epoch: Epoch,
    /// The newest decided epoch the sender durably holds; above `epoch` while that is not known to
    /// be in force.
    pub stored: Epoch,
    /// Whether the sender serves.
    pub serving: bool,
    /// The sender's wall clock when it sent this.
    pub wall: WallTime,
    /// The sender's clock of record.
    pub clock: WallTime,
    /// The sender's durable clock ceiling.
    pub ceiling: WallTime,
    /// The sender's boot.
    pub boot: BootRecord,
    /// Where the sender listens for clients.
    pub client_address: String,
    /// Sizes of the sender's store.
    pub replica: ReplicaFacts,
    /// Hints the sender holds, of both kinds.
    pub hints: u64,
    /// Those in custody.
    pub custody: CustodyNews,
    /// Whom the sender's reads leave out; at most
    /// [`UNWELL_NEWS_MAX`](crate::types::limits::UNWELL_NEWS_MAX).
    pub unwell: Vec<UnwellLink>,
    /// The highest epoch the sender has acknowledged: below its fences it lets nothing in any more,
    /// and what it let in before is durable.
    pub acknowledged: Epoch,
    /// How it is filled, in units it has become an owner of and that are on the move; at most
    /// [`FILL_NEWS_MAX`](crate::types::limits::FILL_NEWS_MAX). Where there are more, those that are complete come first,
    /// and each probe tells others of the rest.
    pub fills: Vec<FillNews>,
    /// The sender holds nothing in custody at or below this, and takes no such thing into it.
    pub custody_clear: Stamp,
    /// Members that the sender has itself held down, without a break, for its whole grace time; at most
    /// [`LONG_DOWN_NEWS_MAX`](crate::types::limits::LONG_DOWN_NEWS_MAX).
    pub long_down: Vec<NodeId>,
    /// What it mirrors, if it is reserved.
    pub mirror: MirrorNews,
    /// How busy the sender is; `None`: it does not look.
    pub load: Option<LoadFacts>,
    /// What its copies are asked for; `None`: it does not look, or owns nothing.
    pub work: Option<WorkNews>,
}

/// What a reserved member has mirrored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorNews {
    /// Units of which it has had all that an owner has.
    pub units: u32,
    /// Units that it is to mirror.
    pub wanted: u32,
    /// About how many bytes of its disk they take.
    pub bytes: u64,
    /// How long ago the one was last made equal to an owner for which that is longest.
    pub oldest: Duration,
    /// How many of them each member owns for which it may step in; at most
    /// [`MIRROR_NEWS_MAX`](crate::types::limits::MIRROR_NEWS_MAX).
    pub of: Vec<(NodeId, u32)>,
}

impl ProbeFacts {
    /// About how many bytes they take.
    pub fn bytes(&self) -> usize {
        let lists = 8 * self.custody.targets.len() + 10 * self.unwell.len() + 14 * self.fills.len();
        let mirror = 24 + 6 * self.mirror.of.len();
        let work = self.work.as_ref().map_or(0, |work| 8 + 12 * work.hottest.len());
        182 + self.client_address.len() + lists + 3 * self.long_down.len() + mirror + work
    }
}

/// What an owner says of a unit it has become an owner of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillNews {
    /// The unit.
    pub unit: Unit,
    /// The epoch of its entry, as it knows it.
    pub entry: Epoch,
    /// What it says.
    pub state: FillState,
}

/// How far an owner has what it should have of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FillState {
    /// It is being filled.
    Filling {
        /// Thousandths done, as far as can be told.
        done_milli: u16,
    },
    /// It has everything it should have since its entry, durably.
    Complete,
    /// It has lost data that it had acknowledged since its entry.
    Lost,
}

/// What one founder has heard of another's birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FounderNonce {
    /// The founder.
    pub name: NodeName,
    /// The nonce it was born with.
    pub nonce: Nonce,
}

/// What founders tell each other until the cluster is born.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BirthNews {
    /// Hash of the founders list and settings: a typo shows here.
    pub founders: u128,
    /// The sender's own birth.
    pub own: FounderNonce,
    /// All births the sender has heard of from the founders themselves.
    pub known: Vec<FounderNonce>,
    /// The epoch-1 hash the sender has durably pledged itself to.
    pub pledge: Option<u128>,
}

/// A council member's word on a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifeAnswer {
    /// It is new, and durably noted.
    Noted,
    /// It contradicts what was seen: an old or empty disk. Says what was seen.
    Refused {
        /// What was seen.
        seen: LifeRecord,
    },
}

/// Everything one node may say to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Merge a version.
    Write(Box<WriteAsk>),
    /// Merged, or not.
    WriteAnswer(WriteAnswer),
    /// Read a version.
    Read(Box<ReadAsk>),
    /// Read, or not.
    ReadAnswer(Box<ReadAnswer>),
    /// Read a page.
    Scan(Box<ScanAsk>),
    /// Read, or not.
    ScanAnswer(Box<ScanAnswer>),
    /// No page of this scan will be asked for any more.
    ScanEnd(u64),
    /// Are you there?
    Probe(Box<Probe>),
    /// I am.
    ProbeAck(Box<Probe>),
    /// The same, without a question: something that all should hear soon.
    News(Box<Probe>),
    /// Probe this member for me: it does not answer me.
    ProbeVia {
        /// Echoed in the answer.
        seq: u64,
        /// Whom.
        target: NodeId,
    },
    /// Answers a [`PeerMessage::ProbeVia`].
    Vouch {
        /// Of the question.
        seq: u64,
        /// Who was probed.
        target: NodeId,
        /// Whether it has answered. A `false` says only that the sender is there, and has tried; a `true`
        /// may follow.
        heard: bool,
    },
    /// All that members hold of members.
    MemberSync(Box<MemberSync>),
    /// News of births.
    Birth(Box<BirthNews>),
    /// Asks a council member to note a boot.
    Register {
        /// The newest state the asker knows.
        epoch: Epoch,
        /// Its boot and ceiling.
        life: LifeRecord,
    },
    /// Answers a registration of the boot `boot`.
    Registered {
        /// The boot that was asked about.
        boot: BootRecord,
        /// The word on it.
        answer: LifeAnswer,
    },
    /// Asks for the sender's state if it is newer than this.
    StateAsk {
        /// The newest the asker knows; 0 for none.
        epoch: Epoch,
    },
    /// A state in force.
    StateNews(Arc<ClusterState>),
    /// About the decision of the next state.
    Decree(Box<DecreeMessage>),
    /// About a key of a causal table.
    Causal(Box<CausalMessage>),
    /// About a key of a linearizable table.
    Consensus(Box<RegisterMessage>),
    /// About what members know of a key, for an operator.
    Explain(Box<ExplainMessage>),
    /// About the copy of a unit.
    Copy(Box<CopyMessage>),
    /// About what the owners of units lack of each other.
    Repair(Box<RepairMessage>),
    /// How far the floors of units are; at most
    /// [`FLOOR_NEWS_MAX`](crate::types::limits::FLOOR_NEWS_MAX).
    Floors(Vec<FloorNews>),
    /// About changes as they are applied.
    Watch(Box<WatchMessage>),
}

impl PeerMessage {
    /// The stream it travels on.
    pub fn lane(&self) -> Lane {
        match self {
            PeerMessage::Scan(_)
            | PeerMessage::ScanAnswer(_)
            | PeerMessage::ScanEnd(_)
            | PeerMessage::MemberSync(_)
            | PeerMessage::Copy(_)
            | PeerMessage::Repair(_)
            | PeerMessage::Floors(_)
            | PeerMessage::Watch(_) => Lane::Bulk,
            PeerMessage::Write(_)
            | PeerMessage::WriteAnswer(_)
            | PeerMessage::Read(_)
            | PeerMessage::ReadAnswer(_)
            | PeerMessage::Probe(_)
            | PeerMessage::ProbeAck(_)
            | PeerMessage::News(_)
            | PeerMessage::ProbeVia { .. }
            | PeerMessage::Vouch { .. }
            | PeerMessage::Birth(_)
            | PeerMessage::Register { .. }
            | PeerMessage::Registered { .. }
            | PeerMessage::StateAsk { .. }
            | PeerMessage::StateNews(_)
            | PeerMessage::Decree(_)
            | PeerMessage::Causal(_)
            | PeerMessage::Consensus(_)
            | PeerMessage::Explain(_) => Lane::Small,
        }
    }
}

//! What clients and operators may ask, and what they are answered.

use bytes::Bytes;
use core::time::Duration;
use std::sync::Arc;

use crate::types::{
    ClusterState, Epoch, Key, NodeId, NodeName, Partition, Quorum, Record, RequestId, Role, Stamp,
    TableName, Time, TraceId, Unit, Value, WallTime, Zone,
};

use super::{
    Applicant, Batch, Cas, CasReply, CausalReply, EventsAsk, EventsReply, ExplainReply, ForceOrder,
    GcReply, GrowthReply, HintRequest, HintsReply, HotReply, Increment, IncrementReply,
    LineageReply, Liveness, MirrorNews, OpError, OutageAsk, OutageReply, OutcomeAsk, OutcomeReply,
    RepairReply, RepairRequest, ScanPart, ScrubReply, ScrubRequest, TableReply, TableRequest,
    TablesReply, TopologyReply, TopologyRequest, Traced, TreeSizes, Unwell, WatchAsk, WatchReply,
};

/// Who asks. Anonymous until there are roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// Nobody in particular, over the connection of this number: what it has in flight is bounded.
    Connection(u64),
}

impl Principal {
    /// The number that what it has in flight is counted by.
    pub fn number(&self) -> Option<u64> {
        match self {
            Principal::Anonymous => None,
            Principal::Connection(number) => Some(*number),
        }
    }
}

/// One operation of a client, already checked field by field.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// When the answer is no longer wanted, by the node's monotonic clock.
    pub deadline: Time,
    /// Returned in the receipt.
    pub trace: TraceId,
    /// Who asks.
    pub principal: Principal,
    /// What is asked.
    pub body: ClientBody,
}

/// The operations of the data plane.
#[derive(Clone, Debug)]
pub enum ClientBody {
    /// Read one key.
    Get(Get),
    /// Write or delete one key.
    Put(Put),
    /// Read a page of keys in byte order.
    Scan(Scan),
    /// Change one key of a linearizable table if it holds what is expected.
    Cas(Box<Cas>),
    /// Write or delete keys of one unit of an lww table, together.
    Batch(Box<Batch>),
    /// Add to one key of a causal or linearizable table.
    Increment(Box<Increment>),
    /// What became of a change of a key of a linearizable table.
    Outcome(OutcomeAsk),
    /// What a watch has to tell.
    Watch(Box<WatchAsk>),
}

impl ClientBody {
    /// The table that is meant.
    pub fn table(&self) -> &TableName {
        match self {
            ClientBody::Get(get) => &get.table,
            ClientBody::Put(put) => &put.table,
            ClientBody::Scan(scan) => &scan.table,
            ClientBody::Cas(cas) => &cas.table,
            ClientBody::Batch(batch) => &batch.table,
            ClientBody::Increment(increment) => &increment.table,
            ClientBody::Outcome(ask) => &ask.table,
            ClientBody::Watch(ask) => &ask.table,
        }
    }

    /// Bytes of keys, values and contexts it carries: what it takes of a queue that is bounded in
    /// bytes.
    pub fn bytes(&self) -> usize {
        match self {
            ClientBody::Get(get) => get.key.as_bytes().len(),
            ClientBody::Put(put) => {
                let value = put.value.as_ref().map_or(0, |value| value.as_bytes().len());
                put.key.as_bytes().len() + value + put.context.len()
            }
            ClientBody::Scan(scan) => scan.prefix.len() + scan.after.len(),
            ClientBody::Cas(cas) => cas.bytes(),
            ClientBody::Batch(batch) => batch.bytes(),
            ClientBody::Increment(increment) => increment.key.as_bytes().len(),
            ClientBody::Outcome(ask) => ask.key.as_bytes().len(),
            ClientBody::Watch(ask) => ask.prefix.len() + ask.token.len(),
        }
    }

    /// Whether it asks for its waterfall.
    pub fn is_traced(&self) -> bool {
        match self {
            ClientBody::Get(get) => get.traced,
            ClientBody::Put(put) => put.traced,
            ClientBody::Increment(increment) => increment.traced,
            ClientBody::Scan(_)
            | ClientBody::Cas(_)
            | ClientBody::Batch(_)
            | ClientBody::Outcome(_)
            | ClientBody::Watch(_) => false,
        }
    }
}

/// Who may count towards a request's quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuorumMode {
    /// What the table says.
    #[default]
    ByTable,
    /// Owners only.
    Strict,
    /// Stand-ins too, for owners that are away. Refused where the table is never sloppy.
    Sloppy,
}

/// A read.
#[derive(Clone, Debug)]
pub struct Get {
    /// Where.
    pub table: TableName,
    /// Which.
    pub key: Key,
    /// How many answers; the table's r when absent.
    pub r: Option<Quorum>,
    /// Whose.
    pub mode: QuorumMode,
    /// Answer only with what w owners hold, so that no later read goes back behind it. Counts owners
    /// only; `lww` tables only.
    pub monotonic: bool,
    /// Whether the answer is to say when each owner was asked and answered ([`Reply::Traced`]).
    pub traced: bool,
}

/// A write; without a value, a delete.
#[derive(Clone, Debug)]
pub struct Put {
    /// Where.
    pub table: TableName,
    /// Which.
    pub key: Key,
    /// What; `None` deletes.
    pub value: Option<Value>,
    /// How long a value lives. A delete has no life: ignored without a value.
    pub ttl: TimeToLive,
    /// How many acknowledgements; the table's w when absent.
    pub w: Option<Quorum>,
    /// The read quorum this writer's readers will use, for the receipt's `weak` flag.
    pub r: Option<Quorum>,
    /// Which try of which write this is.
    pub attempt: Attempt,
    /// The time of the version, where the client gives one: nothing stamps it again, and it wins over
    /// earlier times alone. `lww` tables only.
    pub time: Option<WallTime>,
    /// Whose acknowledgements count.
    pub mode: QuorumMode,
    /// What a read or write of the same key returned as its context; empty for none. Causal tables
    /// only.
    pub context: Bytes,
    /// As in [`Get`].
    pub traced: bool,
}

/// How long what is written lives. The coordinator makes a time of expiry of it, once, from the
/// stamp it gives: that time is part of the version, so that all replicas agree on it, and a retry
/// or a repair carries it along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeToLive {
    /// As the table says when the write is coordinated.
    #[default]
    Table,
    /// For ever, whatever the table says.
    Never,
    /// This long, [`TTL_MIN`](crate::types::limits::TTL_MIN) to
    /// [`TTL_MAX`](crate::types::limits::TTL_MAX).
    For(Duration),
}

impl TimeToLive {
    /// What it comes to in a table whose own is `table`; `None` lives for ever.
    pub fn resolve(self, table: Option<Duration>) -> Option<Duration> {
        match self {
            TimeToLive::Table => table,
            TimeToLive::Never => None,
            TimeToLive::For(ttl) => Some(ttl),
        }
    }
}

/// One try of a write. A client abandons a try before it starts the next, and gives the next one
/// a window of stamps above the last one's: a try that wakes up late can only lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// The write.
    pub id: RequestId,
    /// The try, from 0.
    pub number: u32,
    /// The stamp must be above this time; 0 when there is no bound.
    pub lower: WallTime,
    /// The stamp must not be above this time; `None` when the client does not know server time yet.
    pub upper: Option<WallTime>,
    /// The write was begun after this time, by the servers' clocks, and no attempt of it is stamped at
    /// or below it; 0 when that is not known. Linearizable tables only: tells whether an attempt
    /// before this one can have been made and forgotten.
    pub since: WallTime,
}

/// A page of a scan.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Where.
    pub table: TableName,
    /// Keys that begin with this.
    pub prefix: Bytes,
    /// Keys strictly above this, in reverse strictly below it; empty for the first page.
    pub after: Bytes,
    /// At most this many entries, 1..=[`SCAN_PAGE_ENTRIES_MAX`](crate::types::limits::SCAN_PAGE_ENTRIES_MAX).
    pub limit: u32,
    /// Leave values out.
    pub keys_only: bool,
    /// From the highest key down.
    pub reverse: bool,
    /// How many answers each key needs; the table's r when absent.
    pub r: Option<Quorum>,
    /// Of which stream it is a page.
    pub part: Option<ScanPart>,
}

/// What an answer rests on. Fixed fields; cheap enough for every answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The coordinator's epoch.
    pub epoch: Epoch,
    /// The version read or written; of a miss, the tombstone's, or zero.
    pub stamp: Stamp,
    /// Bit `i` is set when owner `i` of the preference list, or its stand-in, had answered by then.
    pub answered: u16,
    /// Bit `i` is set when a stand-in answered for owner `i`: of a write, in any of its rounds.
    pub stand_ins: u16,
    /// A read that may lack acknowledged sloppy writes, see `docs/protocol/handoff.md`.
    pub may_miss: bool,
    /// Owners of the key; of a write while they change, all who take it.
    pub n: u8,
    /// Answers the request asked for; of a write while owners change, of each set of them.
    pub needed: u8,
    /// The request was below the table's floor: its promises do not cover this answer.
    pub weak: bool,
    /// The owners that answered did not agree, and repair was sent.
    pub repaired: bool,
    /// The key, of a causal table, has [`SIBLINGS_WARN`](crate::types::limits::SIBLINGS_WARN)
    /// siblings or more: somebody writes without contexts.
    pub many_siblings: bool,
    /// Of a write that has lost: the highest stamp above its own, or of the same and a greater
    /// version, that an owner of those counted holds. `None` says nothing of the owners that had not
    /// answered.
    pub superseded_by: Option<Stamp>,
    /// Server time: the next attempt's window starts here.
    pub server_time: WallTime,
    /// The request's.
    pub trace: TraceId,
}

/// The answer to a read. A miss counts like any answer: it rests on r of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetReply {
    /// The version, when there is a visible one.
    pub record: Option<Record>,
    /// What it rests on.
    pub receipt: Receipt,
}

/// The answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutReply {
    /// What it rests on.
    pub receipt: Receipt,
}

/// One entry of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanEntry {
    /// The key.
    pub key: Key,
    /// Its version; without its value when only keys were asked for. Of a causal table also when
    /// there is more than one sibling, or when they are too large for a page.
    pub record: Record,
    /// How many siblings it has; 1 in tables of other kinds.
    pub siblings: u32,
}

/// The answer to a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanReply {
    /// In byte order, or the reverse of it, as asked.
    pub entries: Vec<ScanEntry>,
    /// Where the next page starts (`after`); `None` when this was the last.
    pub resume: Option<Bytes>,
    /// What it rests on; `answered` and `stamp` do not apply and are 0.
    pub receipt: Receipt,
}

/// What operators may ask one node.
#[derive(Clone, Debug)]
pub enum AdminRequest {
    /// The cluster as this node sees it.
    Status,
    /// Where a key lives.
    Locate(Locate),
    /// What this node knows of a key.
    Explain(Locate),
    /// Write this node's memtable out.
    Flush,
    /// Write this node's memtable out and merge all its tables.
    Compact,
    /// About reading everything that is on this node's disk.
    Scrub(ScrubRequest),
    /// About tables.
    Table(Box<TableRequest>),
    /// About hints.
    Hints(HintRequest),
    /// About deletes that wait to be purged.
    Gc,
    /// About what has happened.
    Events(EventsAsk),
    /// About comparisons with other owners.
    Repair(Box<RepairRequest>),
    /// About members and plans.
    Topology(Box<TopologyRequest>),
    /// Of a node that wants to be a member.
    Join(Box<Applicant>),
    /// Begin a new lineage at this node.
    Force(Box<ForceOrder>),
    /// What clients ask this node for most.
    Hot {
        /// Partitions that are told.
        limit: u32,
    },
    /// What would be if members stopped.
    Outage(Box<OutageAsk>),
}

/// Asks where a key lives.
#[derive(Clone, Debug)]
pub struct Locate {
    /// Where.
    pub table: TableName,
    /// Which.
    pub key: Key,
}

/// Where a key lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocateReply {
    /// The key's place on the circle.
    pub token: u64,
    /// The unit that holds it.
    pub unit: Unit,
    /// Owners, in preference order.
    pub owners: Vec<NodeName>,
    /// The rest of the walk.
    pub stand_ins: Vec<NodeName>,
}

/// One member in [`StatusReply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it listens for clients; empty until it has said so.
    pub address: String,
    /// Where it listens for peers.
    pub peer_address: String,
    /// Its zone.
    pub zone: Zone,
    /// Whether it answers.
    pub liveness: Liveness,
    /// What it is there for.
    pub role: Role,
    /// Whether the plan that is carried out gives it units.
    pub joining: bool,
    /// Virtual nodes of the ring it holds: partitions it is the first owner of.
    pub partitions: u32,
    /// Copies it owns.
    pub replica_partitions: u32,
    /// Bytes its store uses; 0 until it has said so.
    pub disk_bytes: u64,
    /// Its trees.
    pub trees: TreeSizes,
    /// Hints it holds.
    pub hints: u64,
    /// Its clock against this node's, in nanoseconds; positive when it is ahead.
    pub clock_offset_ns: i64,
    /// Whether it says that it serves.
    pub serving: bool,
    /// Who leaves it out of reads, as of when this node last heard of them.
    pub unwell: Vec<UnwellBy>,
    /// For how long this node has held it down.
    pub down_for: Option<Duration>,
    /// The epoch in which its place was taken while it was down, if it has none since.
    pub relieved_at: Option<Epoch>,
    /// What it mirrors, if it does.
    pub mirror: Option<MirrorNews>,
}

/// Something that a human has to look at, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmLine {
    /// What, as scripts read it.
    pub kind: &'static str,
    /// The member that it is about.
    pub subject: String,
    /// What is missing, in words.
    pub text: String,
}

/// A node whose reads leave another one out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnwellBy {
    /// The node; the same one where it leaves out its own store.
    pub by: NodeName,
    /// Why.
    pub why: Unwell,
    /// For how long.
    pub age: Duration,
}

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReply {
    /// The cluster's name.
    pub cluster_name: String,
    /// The cluster's id, in hex.
    pub cluster_id: String,
    /// The epoch.
    pub epoch: Epoch,
    /// Partitions of the ring.
    pub partitions: u32,
    /// The ring: the member of each virtual node.
    pub ring: Vec<NodeId>,
    /// The answering node.
    pub me: NodeName,
    /// All members.
    pub nodes: Vec<NodeStatus>,
    /// How long this node has served.
    pub uptime: Duration,
    /// Partitions without a live quorum.
    pub unavailable: Vec<Partition>,
    /// Whether enough are reserved for failures.
    pub reserve: ReserveFacts,
    /// What the orchestrator wants and cannot do.
    pub alarms: Vec<AlarmLine>,
    /// What the answering node makes of the members' loads; `None`: it does not look.
    pub growth: Option<Box<GrowthReply>>,
}

/// What the cluster should hold in reserve for failures, and does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReserveFacts {
    /// The probability that a member is gone at some moment.
    pub p: f64,
    /// How often the reserve is to be enough.
    pub confidence: f64,
    /// Members that own something.
    pub members: u32,
    /// How many should be reserved.
    pub needed: u32,
    /// How many are, and answer.
    pub present: u32,
    /// The probability that all owners of some partition are gone at once: not below this.
    pub loss_low: f64,
    /// And not above this.
    pub loss_high: f64,
}

impl Eq for ReserveFacts {}

/// The answer to any operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`ClientBody::Get`].
    Get(GetReply),
    /// To [`ClientBody::Put`] and [`ClientBody::Batch`].
    Put(PutReply),
    /// To [`ClientBody::Scan`].
    Scan(ScanReply),
    /// To [`AdminRequest::Status`].
    Status(Box<StatusReply>),
    /// To [`AdminRequest::Locate`].
    Locate(LocateReply),
    /// To a [`Get`] or [`Put`] that asks for its waterfall.
    Traced(Box<Traced>),
    /// To [`AdminRequest::Explain`].
    Explain(Box<ExplainReply>),
    /// To [`AdminRequest::Flush`].
    Flushed,
    /// To [`AdminRequest::Compact`].
    Compacted,
    /// To [`AdminRequest::Scrub`].
    Scrub(Box<ScrubReply>),
    /// To a change of tables, or a question about one.
    Table(Box<TableReply>),
    /// To a question about all tables.
    Tables(TablesReply),
    /// To [`AdminRequest::Hints`].
    Hints(Box<HintsReply>),
    /// To [`AdminRequest::Hot`].
    Hot(Box<HotReply>),
    /// To [`AdminRequest::Outage`].
    Outage(Box<OutageReply>),
    /// To [`AdminRequest::Gc`].
    Gc(Box<GcReply>),
    /// To [`AdminRequest::Events`].
    Events(Box<EventsReply>),
    /// To [`AdminRequest::Repair`].
    Repair(Box<RepairReply>),
    /// To [`AdminRequest::Topology`].
    Topology(Box<TopologyReply>),
    /// To [`AdminRequest::Force`].
    Forced(Box<LineageReply>),
    /// To [`AdminRequest::Join`]: a state in which the node is a member.
    Joined(Arc<ClusterState>),
    /// To [`ClientBody::Get`], [`ClientBody::Put`] and [`ClientBody::Increment`] of a causal table.
    Causal(Box<CausalReply>),
    /// To [`ClientBody::Cas`].
    Cas(CasReply),
    /// To [`ClientBody::Increment`] of a linearizable table.
    Increment(IncrementReply),
    /// To [`ClientBody::Outcome`].
    Outcome(OutcomeReply),
    /// To [`ClientBody::Watch`].
    Watch(Box<WatchReply>),
}

impl Reply {
    /// The time of the server that a read tells; none of all else.
    pub fn server_time_mut(&mut self) -> Option<&mut WallTime> {
        match self {
            Reply::Get(reply) => Some(&mut reply.receipt.server_time),
            Reply::Scan(reply) => Some(&mut reply.receipt.server_time),
            Reply::Causal(reply) if !reply.wrote => Some(&mut reply.receipt.server_time),
            Reply::Put(_)
            | Reply::Cas(_)
            | Reply::Increment(_)
            | Reply::Outcome(_)
            | Reply::Watch(_)
            | Reply::Status(_)
            | Reply::Gc(_)
            | Reply::Outage(_)
            | Reply::Hot(_)
            | Reply::Events(_)
            | Reply::Locate(_)
            | Reply::Traced(_)
            | Reply::Explain(_)
            | Reply::Flushed
            | Reply::Compacted
            | Reply::Scrub(_)
            | Reply::Table(_)
            | Reply::Tables(_)
            | Reply::Hints(_)
            | Reply::Repair(_)
            | Reply::Topology(_)
            | Reply::Forced(_)
            | Reply::Joined(_)
            | Reply::Causal(_) => None,
        }
    }
}

/// The outcome of any operation.
pub type ClientResult = Result<Reply, OpError>;

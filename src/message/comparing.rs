//! What operators ask a node about comparing owners, and what it counts.

use core::time::Duration;

use crate::types::{NodeName, TableName, Unit};

/// Which units are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairScope {
    /// Those of this table's class.
    pub table: Option<TableName>,
    /// These partitions, the last included.
    pub partitions: Option<(u16, u16)>,
    /// Compare with all other owners; else only with those of a higher number, so that all nodes
    /// together compare each pair once.
    pub all_pairs: bool,
}

/// What operators may ask about comparisons of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairRequest {
    /// Compare now, out of turn.
    Start(RepairScope),
    /// How far this node is, and whether each pair is wanted as well.
    Status {
        /// Whether it is.
        pairs: bool,
    },
    /// Call off what was started; the schedule goes on.
    Cancel,
    /// What differs from another owner, of units behind one: a bounded number of them.
    Diff {
        /// The other owner.
        peer: NodeName,
        /// Of this table's class only.
        table: Option<TableName>,
        /// Strictly behind this.
        after: Option<Unit>,
    },
}

/// A run of comparisons that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLine {
    /// Names it at this node.
    pub id: u64,
    /// How long ago it was started.
    pub age: Duration,
    /// Units, each with each other owner.
    pub total: u64,
    /// Those not found equal since.
    pub left: u64,
}

/// A unit and another owner of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairLine {
    /// The unit.
    pub unit: Unit,
    /// The other owner.
    pub peer: String,
    /// How long ago both were found equal.
    pub verified: Option<Duration>,
    /// Keys that differed when it was last compared.
    pub lacks: u64,
    /// It is being compared, or waits for that because it differs.
    pub under_way: bool,
}

/// A unit compared with another owner's, and left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffLine {
    /// The unit.
    pub unit: Unit,
    /// What came of it.
    pub found: DiffFound,
}

/// What came of a look at a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiffFound {
    /// Both hold the same.
    Equal,
    /// They do not.
    Differs {
        /// How many keys differ.
        count: u64,
        /// Some of them.
        keys: Vec<DiffKey>,
    },
    /// It could not be told, and why.
    Unknown(String),
}

/// A key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffKey {
    /// The table; its number where it has none any more.
    pub table: String,
    /// The key.
    pub key: bytes::Bytes,
    /// Who lacks something.
    pub lacks: DiffSide,
}

/// Who lacks something of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiffSide {
    /// The node that was asked: it has nothing, or something older.
    First,
    /// The other owner.
    Second,
    /// Both, or it cannot be told which.
    Both,
}

impl DiffSide {
    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            DiffSide::First => "first",
            DiffSide::Second => "second",
            DiffSide::Both => "both",
        }
    }
}

/// What a node says of its comparisons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReply {
    /// Who says it.
    pub me: String,
    /// Each pair of owners compares each unit at least once in this.
    pub interval: Duration,
    /// Counts and sizes.
    pub gauges: RepairGauges,
    /// Pairs that are being compared, or wait for that because they differ.
    pub under_way: u64,
    /// Runs that were started, the newest last.
    pub runs: Vec<RunLine>,
    /// If they were asked for.
    pub pairs: Vec<PairLine>,
    /// To [`RepairRequest::Diff`].
    pub diffs: Vec<DiffLine>,
    /// There may be more differences behind this unit.
    pub next: Option<Unit>,
}

/// What comparisons with other owners have come to; counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairGauges {
    /// Comparisons of a unit with another owner that found both equal.
    pub verified: u64,
    /// Keys that differed.
    pub lacks: u64,
    /// Sessions of its own that have ended.
    pub sessions: u64,
    /// Bytes asked for, answered and read in its own sessions.
    pub bytes: u64,
    /// Bytes read and sent for others.
    pub answered_bytes: u64,
    /// Records other owners have brought here in its own sessions.
    pub here: u64,
    /// Records it has brought to other owners.
    pub there: u64,
    /// Rounds of registers.
    pub rounds: u64,
    /// Deletes and expired versions purged.
    pub purged: u64,
    /// Units, each with each other owner, that are compared.
    pub pairs: u64,
    /// Of these, those that this node has not found equal since its start.
    pub unverified: u64,
    /// How long ago the one was found equal for which that is longest.
    pub oldest: Duration,
}

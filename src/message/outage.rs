//! What would become of the cluster if members stopped: the question before a reboot, and its answer.

use core::time::Duration;

use crate::types::{ClassId, Epoch, NodeName, TableKind, TableName, Unit, Zone};

/// What if these stopped?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutageAsk {
    /// Members by name.
    pub nodes: Vec<NodeName>,
    /// And all members of these zones.
    pub zones: Vec<Zone>,
    /// For how long.
    pub lasts: Duration,
}

/// What would be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutageKind {
    /// All complete copies of a unit.
    Data,
    /// The quorum of writes.
    Writes,
    /// The quorum of reads.
    Reads,
    /// The majority of a linearizable table: both.
    Registers,
    /// The majority of the council.
    Council,
    /// The progress of the plan that is carried out.
    Plan,
    /// Room for hints.
    Hints,
}

impl OutageKind {
    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            OutageKind::Data => "data",
            OutageKind::Writes => "writes",
            OutageKind::Reads => "reads",
            OutageKind::Registers => "linearizable",
            OutageKind::Council => "council",
            OutageKind::Plan => "plan",
            OutageKind::Hints => "hints",
        }
    }
}

/// Why it is not safe, or what should be known although it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutageReason {
    /// What would be lost.
    pub kind: OutageKind,
    /// In words.
    pub text: String,
    /// How many units; 0 where it is not about units.
    pub units: u32,
    /// The first of them.
    pub examples: Vec<Unit>,
    /// Whose.
    pub tables: Vec<TableName>,
}

/// The tables of one class that ask for the same quorums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutageLine {
    /// The class.
    pub class: ClassId,
    /// Their names.
    pub tables: Vec<TableName>,
    /// Their kind.
    pub kind: TableKind,
    /// Copies.
    pub n: u8,
    /// What a read needs: the default, or the floor where that is more; of registers the majority.
    pub r: u8,
    /// The same of a write.
    pub w: u8,
    /// Partitions.
    pub partitions: u32,
    /// Of which so many could be written.
    pub writable: u32,
    /// So many only because stand-ins count in these tables.
    pub by_stand_ins: u32,
    /// So many could be read.
    pub readable: u32,
    /// So many would have one complete owner left.
    pub last_copy: u32,
    /// So many none.
    pub lost: u32,
}

/// A partition that could not do all it can now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutageUnit {
    /// Which.
    pub unit: Unit,
    /// Some table of it could be written no more.
    pub writes: bool,
    /// Some table of it could be read no more.
    pub reads: bool,
    /// No complete owner is left.
    pub lost: bool,
}

/// Room for what is kept for those who are away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutageHints {
    /// Bytes that would be written for them meanwhile, at the rate of the last minutes; `None`: nobody has
    /// told what is written.
    pub needed: Option<u64>,
    /// Bytes that the others have room for.
    pub room: u64,
}

/// What would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutageReply {
    /// The state it was judged by.
    pub epoch: Epoch,
    /// The node that answered.
    pub me: NodeName,
    /// Who would be stopped, by id.
    pub gone: Vec<NodeName>,
    /// Who does not answer now besides.
    pub down: Vec<NodeName>,
    /// Why it is not safe; empty when it is.
    pub reasons: Vec<OutageReason>,
    /// What should be known.
    pub warnings: Vec<OutageReason>,
    /// Table by table.
    pub lines: Vec<OutageLine>,
    /// Units that lose something; at most [`PLAN_LINES_MAX`](crate::types::limits::PLAN_LINES_MAX).
    pub units: Vec<OutageUnit>,
    /// Who would stand in, for how many units.
    pub stand_ins: Vec<(NodeName, u32)>,
    /// Who of those away could be replaced, and by whom.
    pub replaced: Vec<(NodeName, Option<NodeName>)>,
    /// Room for hints.
    pub hints: OutageHints,
}

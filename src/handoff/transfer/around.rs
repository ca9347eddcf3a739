//! What the machine is told with each step, and what it wants.

use core::time::Duration;

use crate::handoff::Governor;
use crate::message::{
    CopyAsk, CopyChunk, CopyEntry, CopyFile, CopyTold, FillRecord, RoundId, SourceFloor,
};
use crate::types::{ClusterState, NodeId, Time, Unit};

/// The pace of copies.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes a second that are pulled; 0 is no bound.
    pub bytes_per_second: u64,
    /// How long a source that has refused is left alone; and how often it is looked whether somebody
    /// can be asked.
    pub pause: Duration,
    /// How long a question may stay without an answer.
    pub answer_within: Duration,
}

/// What the machine is told with each step.
pub struct Surroundings<'a> {
    /// The time.
    pub now: Time,
    /// This node.
    pub me: NodeId,
    /// The state in force.
    pub state: &'a ClusterState,
    /// Whether a member can be asked now.
    pub reachable: &'a dyn Fn(NodeId) -> bool,
    /// Users keep the store busy: nothing is asked for.
    pub busy: bool,
    /// What is left of the pace while others ask.
    pub governor: &'a mut Governor,
    /// The next operation's number.
    pub next_operation: &'a mut u64,
    /// Where actions go.
    pub out: &'a mut Vec<TransferAction>,
}

/// What the machine wants.
#[derive(Clone, Debug)]
pub enum TransferAction {
    /// Ask a source.
    Ask(NodeId, Box<CopyAsk>),
    /// Tell what this node lacks of these.
    Compare(Unit, RoundId, CopyTold),
    /// Merge these, of a source with this floor.
    Merge(Unit, RoundId, Vec<CopyEntry>, SourceFloor),
    /// Throw away what was staged of a unit's files.
    Clear(Unit, RoundId),
    /// Put a chunk of a file to those that are staged.
    Stage(Unit, RoundId, String, u64, CopyChunk),
    /// Take staged files into the unit's range, which is emptied before; `None`: it stays as it is.
    TakeIn(Unit, Option<Vec<CopyFile>>, FillRecord, SourceFloor),
    /// Merge a piece of the overlay into the range, and end it when nothing is left.
    Drain(Unit, FillRecord),
    /// Make it durable how far a unit is; complete ones too.
    Save(Unit, FillRecord),
}

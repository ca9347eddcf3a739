//! What the machine of sessions is told, what it wants, and what comes of it.

use core::time::Duration;

use crate::message::{CopyEntry, CopyPlace, RepairMessage, RepairRefusal, RootSaid};
use crate::repair::exchange::{Asker, Lack, Said};
use crate::types::{NodeId, Stamp, TableId, Time, Unit, WallTime};

/// The pace of sessions.
#[derive(Clone, Copy, Debug)]
pub struct SessionPace {
    /// Bytes a second, of messages and of what is read for them; 0 is no bound.
    pub bytes_per_second: u64,
    /// How long a question may stay without an answer.
    pub answer_within: Duration,
    /// How soon it is looked again whether users leave room.
    pub pause: Duration,
}

/// What the machine is told with each step.
pub struct SessionAround<'a> {
    /// The time.
    pub now: Time,
    /// Users keep the store busy: nothing is asked for.
    pub busy: bool,
    /// Whether a table is dropped: nothing of it is brought.
    pub is_dropped: &'a dyn Fn(TableId) -> bool,
    /// Where actions go.
    pub out: &'a mut Vec<SessionAction>,
}

/// What the machine wants.
#[derive(Clone, Debug)]
pub enum SessionAction {
    /// Send this.
    Send(NodeId, RepairMessage),
    /// Go on with a session, at the own tree: what the other owner has said to which question.
    Advance(u64, Unit, Box<Asker>, Option<(u32, Said)>),
    /// Read what there is here of these keys.
    Fetch(u64, Unit, Vec<CopyPlace>),
    /// Merge these here.
    Merge(u64, Unit, Vec<CopyEntry>),
    /// Run a round of the register under this key.
    Round(u64, CopyPlace),
    /// The roots of many units have been compared.
    Compared(Compared),
    /// A session is over.
    Ended(Ended),
}

/// What comparing the roots of units has shown.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The other owner.
    pub peer: NodeId,
    /// When this node's own were read, by its wall clock.
    pub covers: WallTime,
    /// Those that are equal.
    pub equal: Vec<Unit>,
    /// All others, and what the other owner has said of them; `None`: nothing in time.
    pub others: Vec<(Unit, Option<RootSaid>)>,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both hold the same at or below the horizon.
    Verified,
    /// They may not.
    Unverified,
    /// The other owner refused.
    Refused(RepairRefusal),
    /// The other owner has not answered, or has said what is no answer.
    Lost,
    /// The owners changed, or somebody has called it off.
    Cancelled,
    /// This node's own disk could not, or is building its tree.
    Failed,
}

/// A session that is over.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The unit.
    pub unit: Unit,
    /// The other owner.
    pub peer: NodeId,
    /// Up to what it was to make both equal.
    pub horizon: Stamp,
    /// How it ended.
    pub end: End,
    /// Keys that differed.
    pub lacks: u64,
    /// Whether anything at or below the horizon was brought to this node.
    pub brought_below: bool,
    /// It was only to look: then some of what differed.
    pub looked: Option<Vec<Lack>>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions that have ended.
    pub sessions: u64,
    /// Bytes asked and answered in own sessions.
    pub bytes: u64,
    /// Records merged here.
    pub here: u64,
    /// Records sent to others.
    pub there: u64,
    /// Rounds of registers.
    pub rounds: u64,
}

//! What has happened to the cluster, as nodes remember it for operators.

use serde::{Deserialize, Serialize};

use crate::types::{Epoch, NodeName, WallTime, limits};

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventKind {
    /// A member was found down.
    MemberDown,
    /// One that was down answers.
    MemberBack,
    /// A node has become a member.
    MemberJoined,
    /// A member has left.
    MemberLeft,
    /// A reserved member takes the place of one that is down.
    Replaced,
    /// The others take it.
    Spread,
    /// A plan was cut short.
    PlanCutShort,
    /// Another member is filled in the place of one that is down.
    PlanRetargeted,
    /// A plan has begun.
    PlanBegun,
    /// A plan has ended.
    PlanEnded,
    /// A plan is moved back.
    PlanRolledBack,
    /// Something needs a human.
    AlarmRaised,
    /// It does no more.
    AlarmCleared,
    /// A member whose place was taken has come back, and has set its data aside.
    SetAside,
    /// A table was made.
    TableCreated,
    /// A table was dropped.
    TableDropped,
    /// Members should be added to those that own, or taken from them.
    GrowthProposed,
    /// That is over: it was done, or is due no more.
    GrowthOver,
    /// A reserved member becomes active.
    Grown,
    /// An active member is reserved again.
    Shrunk,
    /// Members exchange units, one for another.
    Exchanged,
}

impl EventKind {
    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::MemberDown => "member-down",
            EventKind::MemberBack => "member-back",
            EventKind::MemberJoined => "member-joined",
            EventKind::MemberLeft => "member-left",
            EventKind::Replaced => "replaced",
            EventKind::Spread => "spread",
            EventKind::PlanCutShort => "plan-cut-short",
            EventKind::PlanRetargeted => "plan-retargeted",
            EventKind::PlanBegun => "plan-begun",
            EventKind::PlanEnded => "plan-ended",
            EventKind::PlanRolledBack => "plan-rolled-back",
            EventKind::AlarmRaised => "alarm-raised",
            EventKind::AlarmCleared => "alarm-cleared",
            EventKind::SetAside => "set-aside",
            EventKind::TableCreated => "table-created",
            EventKind::TableDropped => "table-dropped",
            EventKind::GrowthProposed => "growth-proposed",
            EventKind::GrowthOver => "growth-over",
            EventKind::Grown => "grown",
            EventKind::Shrunk => "shrunk",
            EventKind::Exchanged => "exchanged",
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its number at the node that remembers it, from 1.
    pub seq: u64,
    /// When that node learned of it.
    pub wall: WallTime,
    /// It happened in this epoch at the latest,
    pub epoch: Epoch,
    /// and after this one, or in the same.
    pub since: Epoch,
    /// What.
    pub kind: EventKind,
    /// A member, a table or a plan.
    pub subject: String,
    /// Why, in words; at most [`limits::EVENT_BYTES_MAX`].
    pub text: String,
}

impl EventRecord {
    /// One that has yet to get its number, time and epochs.
    pub fn new(kind: EventKind, subject: impl Into<String>, text: &str) -> EventRecord {
        let mut text = text.to_owned();
        while text.len() > limits::EVENT_BYTES_MAX {
            text.pop();
        }
        let (epoch, since) = (Epoch(0), Epoch(0));
        EventRecord { seq: 0, wall: WallTime(0), epoch, since, kind, subject: subject.into(), text }
    }
}

/// What operators ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsAsk {
    /// Only those with higher numbers.
    pub after: u64,
    /// The latest so many of them.
    pub limit: usize,
}

/// What one node remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsReply {
    /// The node.
    pub me: NodeName,
    /// The number of its latest event.
    pub last: u64,
    /// Oldest first.
    pub events: Vec<EventRecord>,
}

/// Old data of this node, of before its place was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsideRecord {
    /// The epoch in which it was.
    pub epoch: Epoch,
    /// When they were set aside.
    pub wall: WallTime,
    /// They could be, and have not been deleted since.
    pub is_there: bool,
}

/// What the store is to do with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsideTask {
    /// Copies itself aside.
    Keep(Epoch),
    /// Deletes the copy.
    Drop(Epoch),
}

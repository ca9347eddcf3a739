//! The waterfall of one request, for `--trace`: when each owner was asked, and when it answered.

use core::time::Duration;

use crate::types::NodeName;

use super::Reply;

/// An answer with its waterfall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The answer.
    pub reply: Reply,
    /// What happened until then.
    pub trace: Trace,
}

/// What happened to a request until it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// In order; at most [`TRACE_STEPS_MAX`](crate::types::limits::TRACE_STEPS_MAX), of a request that
    /// failed [`TRACE_STEPS_FAILED_MAX`](crate::types::limits::TRACE_STEPS_FAILED_MAX): the first ones.
    pub steps: Vec<TraceStep>,
    /// How long it took the coordinator.
    pub total: Duration,
}

/// A moment of a request, by the coordinator's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// Since the coordinator took the request up.
    pub at: Duration,
    /// The member that was asked, or answered.
    pub member: NodeName,
    /// What happened.
    pub event: TraceEvent,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceEvent {
    /// It was asked for what it holds.
    Read,
    /// It was asked to promise itself to a ballot.
    Prepare,
    /// It was asked to accept a state.
    Accept,
    /// It was asked to store what a client writes.
    Write,
    /// It was asked to coordinate the write, as an owner.
    Forward,
    /// It was sent what it lacked; nobody waits for that.
    Repair,
    /// It answered.
    Answered,
    /// It answered that it cannot, or will not.
    Refused,
    /// It could not be reached any more.
    Lost,
    /// An owner that was not asked, because it could not be reached; told of requests that failed.
    Away,
}

impl TraceEvent {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            TraceEvent::Read => "read",
            TraceEvent::Prepare => "prepare",
            TraceEvent::Accept => "accept",
            TraceEvent::Write => "write",
            TraceEvent::Forward => "forward",
            TraceEvent::Repair => "repair",
            TraceEvent::Answered => "answered",
            TraceEvent::Refused => "refused",
            TraceEvent::Lost => "lost",
            TraceEvent::Away => "away",
        }
    }
}

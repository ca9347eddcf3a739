//! Turns the refusals of a round that has become impossible into one error for the client.

use core::fmt::Write;
use core::time::Duration;
use std::collections::BTreeMap;

use crate::message::{Applied, DiskError, ErrorCode, Facts, OpError, Refusal};
use crate::types::{Epoch, NodeId, WallTime};

/// Why a write cannot be stamped: the clock's ceiling could not be made durable.
pub(super) fn no_ceiling(error: &DiskError) -> (ErrorCode, String) {
    let code = match error {
        DiskError::ReadOnly(_) => ErrorCode::StorageReadOnly,
        DiskError::Full | DiskError::TakenBack => ErrorCode::DiskFull,
        DiskError::Overloaded => ErrorCode::Overloaded,
        DiskError::Expired => ErrorCode::DeadlineExceeded,
        DiskError::Corruption(_) | DiskError::Io(_) => ErrorCode::Corruption,
    };
    (code, format!("this node could not store its clock's ceiling: {error}"))
}

/// Why owners have failed in one operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    reasons: BTreeMap<NodeId, Reason>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    Unreachable,
    Refused(Refusal),
}

impl Failures {
    pub(super) fn unreachable(&mut self, owner: NodeId) {
        self.reasons.entry(owner).or_insert(Reason::Unreachable);
    }

    pub(super) fn refused(&mut self, owner: NodeId, refusal: Refusal) {
        self.reasons.insert(owner, Reason::Refused(refusal));
    }

    pub(super) fn cleared(&mut self, owner: NodeId) {
        self.reasons.remove(&owner);
    }

    /// The error of an operation whose quorum cannot be reached any more.
    pub(super) fn error(
        &self,
        (needed, got): (u8, u8),
        applied: Applied,
        epoch: Epoch,
        server_time: WallTime,
    ) -> OpError {
        let code = self.common_code().unwrap_or(ErrorCode::QuorumNotReached);
        let mut message = format!("needed {needed}, got {got}");
        for (owner, reason) in &self.reasons {
            let sign = if owner == self.first() { ": " } else { ", " };
            let _ = write!(message, "{sign}member {owner} {reason}");
        }
        let facts = Facts {
            needed: Some(u64::from(needed)),
            got: Some(u64::from(got)),
            epoch: Some(epoch),
            retry_after: (code == ErrorCode::Overloaded).then_some(Duration::from_millis(50)),
            server_time: Some(server_time),
            ..Facts::default()
        };
        OpError { code, message, facts, applied, trace: None }
    }

    fn first(&self) -> &NodeId {
        self.reasons.keys().next().unwrap_or(&NodeId(0))
    }

    /// The code all reasons agree on, when it tells the client more than "too few".
    fn common_code(&self) -> Option<ErrorCode> {
        let mut codes = self.reasons.values().map(Reason::code);
        let first = codes.next()?;
        codes.all(|code| code == first).then_some(first)
    }
}

impl Reason {
    fn code(&self) -> ErrorCode {
        match self {
            Reason::Refused(Refusal::Overloaded) => ErrorCode::Overloaded,
            Reason::Refused(Refusal::ReadOnly) => ErrorCode::StorageReadOnly,
            Reason::Refused(Refusal::DiskFull | Refusal::TakenBack) => ErrorCode::DiskFull,
            Reason::Refused(Refusal::ClockAhead { .. }) => ErrorCode::ClockAhead,
            Reason::Refused(Refusal::Late { .. }) => ErrorCode::ClockBehind,
            Reason::Refused(Refusal::Storage(_)) => ErrorCode::Corruption,
            Reason::Refused(
                Refusal::Fenced { .. }
                | Refusal::Behind { .. }
                | Refusal::NotOwner
                | Refusal::Incomplete
                | Refusal::Dropped { .. }
                | Refusal::NotServing
                | Refusal::Expired,
            )
            | Reason::Unreachable => ErrorCode::QuorumNotReached,
        }
    }
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Reason::Unreachable => f.write_str("cannot be reached"),
            Reason::Refused(Refusal::Fenced { epoch }) => {
                write!(f, "is at the newer epoch {epoch}")
            }
            Reason::Refused(Refusal::Behind { epoch }) => write!(f, "is still at epoch {epoch}"),
            Reason::Refused(Refusal::NotOwner) => f.write_str("is not an owner"),
            Reason::Refused(Refusal::Incomplete) => f.write_str("is still being filled"),
            Reason::Refused(Refusal::Dropped { epoch }) => {
                write!(f, "knows the table to be dropped as of epoch {epoch}")
            }
            Reason::Refused(Refusal::ClockAhead { .. }) => {
                f.write_str("finds this coordinator's clock too far ahead")
            }
            Reason::Refused(Refusal::Late { bound }) => {
                write!(f, "takes nothing any more that was written at or before {}", bound.time.0)
            }
            Reason::Refused(Refusal::Overloaded) => f.write_str("is overloaded"),
            Reason::Refused(Refusal::NotServing) => f.write_str("does not serve"),
            Reason::Refused(Refusal::Expired) => f.write_str("got the request after its deadline"),
            Reason::Refused(Refusal::ReadOnly) => f.write_str("has a read-only store"),
            Reason::Refused(Refusal::DiskFull | Refusal::TakenBack) => {
                f.write_str("has a full disk")
            }
            Reason::Refused(Refusal::Storage(what)) => write!(f, "has a failed store ({what})"),
        }
    }
}

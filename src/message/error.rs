//! What a client is told when an operation does not do what it asked. One code, the facts behind
//! it, and what is known of the outcome. `docs/errors.md` is the table of all of them.

use core::fmt;
use core::time::Duration;

use crate::types::{Epoch, WallTime};

use super::Trace;

/// What is known of a write whose request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It has no effect and will have none.
    No,
    /// It has taken effect.
    Yes,
    /// It may have taken effect, or may yet.
    Unknown,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Why an operation failed. The text form is stable; scripts may match on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of `docs/errors.md`.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The stable text form.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $text,)* }
            }

            /// The code of a text form.
            pub fn parse(text: &str) -> Option<ErrorCode> {
                match text { $($text => Some(ErrorCode::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// A key has at least one byte.
    KeyEmpty = "KEY_EMPTY",
    /// A key is over its limit.
    KeyTooLarge = "KEY_TOO_LARGE",
    /// A value is over its limit.
    ValueTooLarge = "VALUE_TOO_LARGE",
    /// A batch has more writes, or more bytes of them, than one may have.
    BatchTooLarge = "BATCH_TOO_LARGE",
    /// A quorum is 0 or above n.
    QuorumInvalid = "QUORUM_INVALID",
    /// A sloppy quorum was asked for on a table that is never sloppy.
    SloppyNotAllowed = "SLOPPY_NOT_ALLOWED",
    /// No table has this name.
    TableUnknown = "TABLE_UNKNOWN",
    /// A table name is outside its alphabet or length.
    TableNameInvalid = "TABLE_NAME_INVALID",
    /// A table of this name is there already.
    TableExists = "TABLE_EXISTS",
    /// The parameters of a table do not fit each other or the cluster; the message says which rule.
    TableInvalid = "TABLE_INVALID",
    /// The cluster has as many tables, or classes of them, as it may have.
    TableLimit = "TABLE_LIMIT",
    /// No member has this name.
    MemberUnknown = "MEMBER_UNKNOWN",
    /// A member of this name is there already, and is somebody else.
    MemberExists = "MEMBER_EXISTS",
    /// What was staged, or is asked of a plan, cannot be done; the message says which rule.
    PlanInvalid = "PLAN_INVALID",
    /// The inputs of the plan have changed since it was shown, or another plan is carried out.
    PlanConflict = "PLAN_CONFLICT",
    /// A causal context is damaged, too long, or of another key or table.
    ContextInvalid = "CONTEXT_INVALID",
    /// A key of a causal table has, or would have, too many siblings or bytes of them.
    SiblingLimit = "SIBLING_LIMIT",
    /// The request is for tables of another kind.
    KindMismatch = "KIND_MISMATCH",
    /// An increment of what is no counter, or a put over a counter that it has not seen.
    CounterMismatch = "COUNTER_MISMATCH",
    /// A counter would leave the bounds of a signed 64-bit number.
    CounterOverflow = "COUNTER_OVERFLOW",
    /// Others kept changing the key until the deadline passed.
    Contention = "CONTENTION",
    /// The change was given up for good when somebody asked what had become of it.
    RequestCancelled = "REQUEST_CANCELLED",
    /// The key no longer knows whether it has seen the request: too many changes came after it.
    OutcomeForgotten = "OUTCOME_FORGOTTEN",
    /// A field of the request is missing, contradictory or outside its bounds; the message names it.
    RequestMalformed = "REQUEST_MALFORMED",
    /// The feature belongs to a later version.
    NotAvailableYet = "NOT_AVAILABLE_YET",
    /// The node is not serving yet, or no more; the message says why.
    NotReady = "NOT_READY",
    /// Too few owners can answer, or have answered, for the quorum asked for.
    QuorumNotReached = "QUORUM_NOT_REACHED",
    /// The deadline passed first.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// A stored version is too far ahead of this node's clock to stamp above it.
    ClockBehind = "CLOCK_BEHIND",
    /// This node's clock of record is too far ahead to stamp writes; another node can.
    ClockAhead = "CLOCK_AHEAD",
    /// The time a client gave for its write is further ahead than nodes take.
    TimeTooFar = "TIME_TOO_FAR",
    /// The time a client gave for its write is older than what owners still take.
    TimeTooOld = "TIME_TOO_OLD",
    /// The attempt's window of stamps has passed; nothing was written by this attempt's last round.
    AttemptExpired = "ATTEMPT_EXPIRED",
    /// A queue or budget is full; the facts say when to try again.
    Overloaded = "OVERLOADED",
    /// The store refuses writes after a disk failure.
    StorageReadOnly = "STORAGE_READ_ONLY",
    /// The disk has no room for writes.
    DiskFull = "DISK_FULL",
    /// Stored bytes failed their checksum and no other replica could answer.
    Corruption = "CORRUPTION",
    /// The peer speaks no protocol version in common.
    ProtocolMismatch = "PROTOCOL_MISMATCH",
    /// The peer belongs to another cluster.
    ClusterMismatch = "CLUSTER_MISMATCH",
    /// The peer belongs to another lineage of this cluster.
    LineageMismatch = "LINEAGE_MISMATCH",
    /// The peer is not who it says it is.
    IdentityRefused = "IDENTITY_REFUSED",
    /// A defect of the server.
    Internal = "INTERNAL",
}

impl ErrorCode {
    /// Whether the same request may succeed when it is sent again, here or to another node.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            ErrorCode::NotReady
                | ErrorCode::QuorumNotReached
                | ErrorCode::DeadlineExceeded
                | ErrorCode::ClockBehind
                | ErrorCode::ClockAhead
                | ErrorCode::AttemptExpired
                | ErrorCode::Contention
                | ErrorCode::Overloaded
                | ErrorCode::StorageReadOnly
                | ErrorCode::DiskFull
                | ErrorCode::Corruption
        )
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Numbers behind an error; absent ones do not apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The limit that was exceeded.
    pub limit: Option<u64>,
    /// Answers, or units of the limit, needed.
    pub needed: Option<u64>,
    /// Answers, or units of the limit, got.
    pub got: Option<u64>,
    /// The epoch of the node that answered.
    pub epoch: Option<Epoch>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Server time: a retried write's window starts here.
    pub server_time: Option<WallTime>,
    /// Whose bound of operations in flight is reached.
    pub bound: Option<Bound>,
}

/// Who may have only so many operations in flight on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// All clients together.
    Node,
    /// All operations on one table.
    Table,
    /// One client's connection.
    Client,
}

impl Bound {
    /// Every bound.
    pub const ALL: [Bound; 3] = [Bound::Node, Bound::Table, Bound::Client];

    /// The stable text form.
    pub fn as_str(self) -> &'static str {
        match self {
            Bound::Node => "node",
            Bound::Table => "table",
            Bound::Client => "client",
        }
    }

    /// The bound of a text form.
    pub fn parse(text: &str) -> Option<Bound> {
        Bound::ALL.into_iter().find(|bound| bound.as_str() == text)
    }
}

/// A failed operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct OpError {
    /// Why.
    pub code: ErrorCode,
    /// Why, for people: lower case, no final stop, names the field or limit.
    pub message: String,
    /// The numbers.
    pub facts: Facts,
    /// What is known of the outcome.
    pub applied: Applied,
    /// What happened until then, when its client has asked for that and the operation was begun.
    pub trace: Option<Box<Trace>>,
}

impl OpError {
    /// An error of an operation that has had no effect.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> OpError {
        let message = message.into();
        OpError { code, message, facts: Facts::default(), applied: Applied::No, trace: None }
    }

    /// The same, with what is known of the outcome.
    pub fn with_applied(self, applied: Applied) -> OpError {
        OpError { applied, ..self }
    }

    /// The same, with the limit that was exceeded and what was got.
    pub fn with_limit(mut self, limit: usize, got: usize) -> OpError {
        self.facts.limit = Some(limit as u64);
        self.facts.got = Some(got as u64);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_are_distinct_and_read_back() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(*code));
        }
    }
}

//! What a caller is told when a request fails: why, whether to try again, and, for a write, what
//! is known of its outcome. gRPC statuses do not leave this library.

use core::fmt;
use std::borrow::Cow;

use crate::message::{Applied, ErrorCode, Facts};

use super::{Trace, WriteId};

/// What kind of failure it is: coarse, and chosen by what the caller should do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is at fault; sent again, it will fail again.
    InvalidArgument,
    /// It contradicts what is there.
    Conflict,
    /// A later version of the server offers this.
    NotAvailableYet,
    /// No node could be reached, or those that were do not serve at the moment.
    Unavailable,
    /// Too few replicas answered.
    QuorumNotReached,
    /// Time ran out.
    DeadlineExceeded,
    /// The cluster asks to slow down.
    Overloaded,
    /// Stored bytes failed their checksum.
    Corruption,
    /// The server does not accept who we are.
    Unauthenticated,
    /// A defect, here or there.
    Internal,
}

/// A failed request.
#[derive(Clone)]
pub struct Error {
    // Boxed, so that results stay small on the good path.
    body: Box<Body>,
}

#[derive(Clone, Debug)]
struct Body {
    kind: ErrorKind,
    code: Cow<'static, str>,
    message: String,
    retryable: bool,
    applied: Applied,
    facts: Facts,
    write: Option<WriteId>,
    trace: Option<Box<Trace>>,
}

impl Error {
    /// The code of errors without an answer from a server.
    pub const UNAVAILABLE: &'static str = "UNAVAILABLE";
    /// The code of a read of one value where there are several.
    pub const SIBLINGS: &'static str = "SIBLINGS";
    /// The code of refused credentials.
    pub const UNAUTHENTICATED: &'static str = "UNAUTHENTICATED";

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.body.kind
    }

    /// The stable text form of the reason: an [`ErrorCode`]'s, one of this type's constants, or a
    /// code that a newer server knows and this library does not.
    pub fn code(&self) -> &str {
        &self.body.code
    }

    /// The reason, for people.
    pub fn message(&self) -> &str {
        &self.body.message
    }

    /// Whether the same request may succeed when it is sent again.
    pub fn is_retryable(&self) -> bool {
        self.body.retryable
    }

    /// What is known of a write's outcome, over all its attempts; [`Applied::No`] for reads.
    pub fn applied(&self) -> Applied {
        self.body.applied
    }

    /// The numbers behind it.
    pub fn facts(&self) -> &Facts {
        &self.body.facts
    }

    /// Of a failed write: what names it, for [`Client::outcome`](super::Client::outcome) or to go
    /// on with it. `None` when nothing was sent.
    pub fn write(&self) -> Option<&WriteId> {
        self.body.write.as_ref()
    }

    /// When each owner was asked and answered until the attempt failed that this error is of, when that
    /// was asked for; `None` also when the attempt was refused before it was begun, or no server answered.
    pub fn trace(&self) -> Option<&Trace> {
        self.body.trace.as_deref()
    }

    /// An error with a code of the protocol.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error::of(kind_of(code), code.as_str(), code.is_retryable(), message)
    }

    /// No answer: the connection could not be made, or broke.
    pub(crate) fn unavailable(message: impl Into<String>) -> Error {
        Error::of(ErrorKind::Unavailable, Error::UNAVAILABLE, true, message)
    }

    /// The server does not accept who we are.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Error {
        Error::of(ErrorKind::Unauthenticated, Error::UNAUTHENTICATED, false, message)
    }

    /// The caller's time is up.
    pub(crate) fn deadline() -> Error {
        Error::new(ErrorCode::DeadlineExceeded, "no answer within the timeout")
    }

    /// A read of one value where there are several.
    pub(crate) fn siblings(count: u32) -> Error {
        let message = format!("the key has {count} siblings; read them all and resolve them");
        Error::of(ErrorKind::Conflict, Error::SIBLINGS, false, message)
    }

    /// An error as a server describes it. Codes of newer servers are kept as they are.
    pub(crate) fn from_server(code: String, retryable: bool, message: String) -> Error {
        match ErrorCode::parse(&code) {
            Some(known) => Error::of(kind_of(known), known.as_str(), retryable, message),
            None => Error::of(ErrorKind::Internal, code, retryable, message),
        }
    }

    /// The same, with what is known of the outcome.
    pub(crate) fn with_applied(mut self, applied: Applied) -> Error {
        self.body.applied = applied;
        self
    }

    /// The same, with the numbers behind it.
    pub(crate) fn with_facts(mut self, facts: Facts) -> Error {
        self.body.facts = facts;
        self
    }

    /// The same, with what happened until then.
    pub(crate) fn with_trace(mut self, trace: Option<Box<Trace>>) -> Error {
        self.body.trace = trace;
        self
    }

    /// The same, with what names the write that failed.
    pub(crate) fn of_write(mut self, write: WriteId) -> Error {
        self.body.write = Some(write);
        self
    }

    /// The same, with the endpoint it came from in front of the message.
    pub(crate) fn at(mut self, endpoint: &str) -> Error {
        self.body.message = format!("{endpoint}: {}", self.body.message);
        self
    }

    fn of(
        kind: ErrorKind,
        code: impl Into<Cow<'static, str>>,
        retryable: bool,
        message: impl Into<String>,
    ) -> Error {
        let (code, message) = (code.into(), message.into());
        let (applied, facts, write, trace) = (Applied::No, Facts::default(), None, None);
        let body = Body { kind, code, message, retryable, applied, facts, write, trace };
        Error { body: Box::new(body) }
    }
}

fn kind_of(code: ErrorCode) -> ErrorKind {
    match code {
        ErrorCode::KeyEmpty
        | ErrorCode::KeyTooLarge
        | ErrorCode::ValueTooLarge
        | ErrorCode::BatchTooLarge
        | ErrorCode::QuorumInvalid
        | ErrorCode::SloppyNotAllowed
        | ErrorCode::TableUnknown
        | ErrorCode::TableNameInvalid
        | ErrorCode::TableInvalid
        | ErrorCode::TableLimit
        | ErrorCode::MemberUnknown
        | ErrorCode::PlanInvalid
        | ErrorCode::ContextInvalid
        | ErrorCode::KindMismatch
        | ErrorCode::CounterOverflow
        | ErrorCode::TimeTooFar
        | ErrorCode::TimeTooOld
        | ErrorCode::RequestMalformed => ErrorKind::InvalidArgument,
        ErrorCode::TableExists
        | ErrorCode::MemberExists
        | ErrorCode::PlanConflict
        | ErrorCode::SiblingLimit
        | ErrorCode::CounterMismatch
        | ErrorCode::RequestCancelled
        | ErrorCode::OutcomeForgotten => ErrorKind::Conflict,
        ErrorCode::NotAvailableYet => ErrorKind::NotAvailableYet,
        ErrorCode::NotReady
        | ErrorCode::ClockBehind
        | ErrorCode::ClockAhead
        | ErrorCode::AttemptExpired
        | ErrorCode::Contention
        | ErrorCode::StorageReadOnly
        | ErrorCode::DiskFull
        | ErrorCode::ProtocolMismatch
        | ErrorCode::ClusterMismatch
        | ErrorCode::LineageMismatch
        | ErrorCode::IdentityRefused => ErrorKind::Unavailable,
        ErrorCode::QuorumNotReached => ErrorKind::QuorumNotReached,
        ErrorCode::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        ErrorCode::Overloaded => ErrorKind::Overloaded,
        ErrorCode::Corruption => ErrorKind::Corruption,
        ErrorCode::Internal => ErrorKind::Internal,
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.body, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_newer_servers_are_kept() {
        let error = Error::from_server("TOO_MOODY".to_owned(), true, "not today".to_owned());
        assert_eq!(error.to_string(), "TOO_MOODY: not today");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Internal, true));
    }
}

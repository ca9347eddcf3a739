//! Errors on the wire: one table from code to gRPC status, and the detail that travels beside it.
//! A status without our detail (a dead connection, another implementation) is normalised here too,
//! so that nobody else has to know what tonic calls things.

use bytes::Bytes;
use core::time::Duration;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::message::{Applied, Bound, ErrorCode, Facts, OpError};
use crate::types::{Epoch, WallTime};

use super::client::trace_to_wire;
use super::proto::v1 as pb;

/// The binary trailer that carries an encoded `ErrorDetail`.
pub const ERROR_TRAILER: &str = "roundtable-error-bin";

/// Longest message of an error that is put on the wire, in bytes: trailers are headers.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The gRPC code of an error code. `docs/errors.md` shows this table.
pub fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::KeyEmpty
        | ErrorCode::KeyTooLarge
        | ErrorCode::ValueTooLarge
        | ErrorCode::BatchTooLarge
        | ErrorCode::QuorumInvalid
        | ErrorCode::SloppyNotAllowed
        | ErrorCode::TableNameInvalid
        | ErrorCode::TableInvalid
        | ErrorCode::ContextInvalid
        | ErrorCode::TimeTooFar
        | ErrorCode::TimeTooOld
        | ErrorCode::RequestMalformed => Code::InvalidArgument,
        ErrorCode::TableUnknown | ErrorCode::MemberUnknown => Code::NotFound,
        ErrorCode::TableExists | ErrorCode::MemberExists => Code::AlreadyExists,
        ErrorCode::NotAvailableYet => Code::Unimplemented,
        ErrorCode::NotReady
        | ErrorCode::QuorumNotReached
        | ErrorCode::ClockBehind
        | ErrorCode::ClockAhead
        | ErrorCode::StorageReadOnly => Code::Unavailable,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::AttemptExpired
        | ErrorCode::Contention
        | ErrorCode::RequestCancelled
        | ErrorCode::PlanConflict => Code::Aborted,
        ErrorCode::Overloaded | ErrorCode::DiskFull => Code::ResourceExhausted,
        ErrorCode::Corruption => Code::DataLoss,
        ErrorCode::TableLimit
        | ErrorCode::PlanInvalid
        | ErrorCode::SiblingLimit
        | ErrorCode::KindMismatch
        | ErrorCode::CounterMismatch
        | ErrorCode::CounterOverflow
        | ErrorCode::OutcomeForgotten
        | ErrorCode::ProtocolMismatch
        | ErrorCode::ClusterMismatch
        | ErrorCode::LineageMismatch => Code::FailedPrecondition,
        ErrorCode::IdentityRefused => Code::PermissionDenied,
        ErrorCode::Internal => Code::Internal,
    }
}

/// The detail of an error, as it travels in trailers and sessions.
pub fn error_detail(error: &OpError) -> pb::ErrorDetail {
    let applied = match error.applied {
        Applied::No => pb::error_detail::Applied::No,
        Applied::Yes => pb::error_detail::Applied::Yes,
        Applied::Unknown => pb::error_detail::Applied::Unknown,
    };
    let retry_after = error.facts.retry_after;
    let trace = error.trace.as_deref().cloned().map(trace_to_wire);
    let (trace, total_ns) = trace.unwrap_or_default();
    pb::ErrorDetail {
        code: error.code.as_str().to_owned(),
        message: shortened(&error.message),
        retryable: error.code.is_retryable(),
        applied: applied.into(),
        limit: error.facts.limit,
        needed: error.facts.needed,
        got: error.facts.got,
        epoch: error.facts.epoch.map(|epoch| epoch.0),
        retry_after_ms: retry_after
            .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        server_time_ns: error.facts.server_time.map(|time| time.0),
        bound: error.facts.bound.map(|bound| bound.as_str().to_owned()),
        trace,
        total_ns,
    }
}

fn shortened(message: &str) -> String {
    let most = message.len().min(MESSAGE_BYTES_MAX);
    let end = (0..=most).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    message.get(..end).unwrap_or_default().to_owned()
}

/// The error behind a detail. A code this build does not know becomes [`ErrorCode::Internal`], with
/// the foreign code kept in the message.
pub fn error_from_detail(detail: pb::ErrorDetail) -> OpError {
    let applied = match pb::error_detail::Applied::try_from(detail.applied) {
        Ok(pb::error_detail::Applied::No) => Applied::No,
        Ok(pb::error_detail::Applied::Yes) => Applied::Yes,
        Ok(pb::error_detail::Applied::Unknown) | Err(_) => Applied::Unknown,
    };
    let (code, message) = match ErrorCode::parse(&detail.code) {
        Some(code) => (code, detail.message),
        None => (ErrorCode::Internal, format!("{}: {}", detail.code, detail.message)),
    };
    OpError {
        code,
        message,
        facts: Facts {
            limit: detail.limit,
            needed: detail.needed,
            got: detail.got,
            epoch: detail.epoch.map(Epoch),
            retry_after: detail.retry_after_ms.map(Duration::from_millis),
            server_time: detail.server_time_ns.map(WallTime),
            bound: detail.bound.and_then(|text| Bound::parse(&text)),
        },
        applied,
        // Only clients make something of it.
        trace: None,
    }
}

/// A failed call: the gRPC code, the message, and the detail in [`ERROR_TRAILER`].
pub fn status_of(error: &OpError) -> Status {
    let detail = error_detail(error);
    let mut status = Status::new(grpc_code(error.code), detail.message.clone());
    let encoded = Bytes::from(detail.encode_to_vec());
    status.metadata_mut().insert_bin(ERROR_TRAILER, MetadataValue::from_bytes(&encoded));
    status
}

/// The error behind a failed call.
///
/// tonic reports its own client deadline as `Cancelled "Timeout expired"`, an oversize message as
/// `OutOfRange` and a dead connection as `Unknown`, `Cancelled` or `Unavailable`. Without a detail
/// nothing is known of the outcome.
pub fn error_of(status: &Status) -> OpError {
    let detail = status
        .metadata()
        .get_bin(ERROR_TRAILER)
        .and_then(|value| value.to_bytes().ok())
        .and_then(|bytes| pb::ErrorDetail::decode(bytes).ok());
    if let Some(detail) = detail {
        return error_from_detail(detail);
    }
    let message = status.message();
    let (code, applied) = match status.code() {
        Code::DeadlineExceeded => (ErrorCode::DeadlineExceeded, Applied::Unknown),
        Code::Cancelled if message.contains("Timeout expired") => {
            (ErrorCode::DeadlineExceeded, Applied::Unknown)
        }
        Code::OutOfRange => (ErrorCode::ValueTooLarge, Applied::No),
        Code::ResourceExhausted => (ErrorCode::Overloaded, Applied::Unknown),
        Code::Unimplemented => (ErrorCode::NotAvailableYet, Applied::No),
        Code::InvalidArgument => (ErrorCode::RequestMalformed, Applied::No),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted => {
            (ErrorCode::NotReady, Applied::Unknown)
        }
        Code::Ok
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => (ErrorCode::Internal, Applied::Unknown),
    };
    let message = format!("{} ({:?})", message, status.code());
    OpError::new(code, message).with_applied(applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_crosses_the_wire_with_its_facts() {
        for code in ErrorCode::ALL {
            let mut error = OpError::new(*code, "why").with_applied(Applied::Unknown);
            error.facts = Facts {
                limit: Some(1),
                needed: Some(2),
                got: Some(3),
                epoch: Some(Epoch(4)),
                retry_after: Some(Duration::from_millis(5)),
                server_time: Some(WallTime(6)),
                bound: Some(Bound::Table),
            };
            let status = status_of(&error);
            assert_eq!(status.code(), grpc_code(*code));
            assert_ne!(status.code(), Code::Ok);
            assert_eq!(error_of(&status), error);
        }
    }

    #[test]
    fn an_unknown_code_keeps_its_text() {
        let detail = pb::ErrorDetail {
            code: "FROM_THE_FUTURE".to_owned(),
            message: "why".to_owned(),
            ..pb::ErrorDetail::default()
        };
        let error = error_from_detail(detail);
        assert_eq!(error.code, ErrorCode::Internal);
        assert_eq!(error.applied, Applied::Unknown);
        assert!(error.message.contains("FROM_THE_FUTURE"));
    }

    #[test]
    fn a_client_side_timeout_is_a_deadline_with_unknown_outcome() {
        let error = error_of(&Status::cancelled("Timeout expired"));
        assert_eq!((error.code, error.applied), (ErrorCode::DeadlineExceeded, Applied::Unknown));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let status = status_of(&OpError::new(ErrorCode::Internal, "é".repeat(2000)));
        assert!(error_of(&status).message.len() <= MESSAGE_BYTES_MAX);
    }

    #[test]
    fn the_table_of_errors_in_the_documents_is_this_one() {
        let document = include_str!("../../docs/errors.md");
        for code in ErrorCode::ALL {
            let row = document
                .lines()
                .find(|line| line.starts_with(&format!("| `{code}` ")))
                .unwrap_or_else(|| panic!("docs/errors.md does not mention {code}"));
            assert!(row.contains(&format!("{:?}", grpc_code(*code))), "{row}");
            let retry = if code.is_retryable() { "| yes |" } else { "| no |" };
            assert!(row.contains(retry), "{row}");
        }
    }
}

//! From what tonic reports to what the caller is told. tonic has its own ideas: its client-side
//! deadline is `Cancelled`, an oversized message is `OutOfRange`, a dead peer is `Unknown`,
//! `Cancelled` or `ResourceExhausted`. All of them are put right here, in one place.

use core::error::Error as _;
use core::time::Duration;

use prost::Message;
use tonic::{Code, Status};

use crate::message::{Applied, Bound, ErrorCode, Facts};
use crate::types::{Epoch, WallTime};
use crate::wire::proto::v1;

use super::Error;
use super::data::waterfall;

/// The trailer that carries an encoded [`v1::ErrorDetail`].
const DETAIL_TRAILER: &str = "roundtable-error-bin";

/// What a failed call means. `write` says whether it may have had an effect.
pub(crate) fn from_status(status: &Status, write: bool) -> Error {
    if let Some(detail) = detail_of(status) {
        return from_detail(detail, write);
    }
    let sent = if write { Applied::Unknown } else { Applied::No };
    let text = status.message();
    let error = match status.code() {
        Code::DeadlineExceeded => Error::deadline(),
        Code::Cancelled if text.contains("Timeout expired") => Error::deadline(),
        _ if never_sent(status) => return Error::unavailable(reason(status)),
        _ if status.source().is_some() => Error::unavailable(reason(status)),
        Code::OutOfRange if text.contains("message length too large") => {
            Error::new(ErrorCode::Internal, format!("answer over the size limit: {text}"))
        }
        Code::ResourceExhausted => Error::new(ErrorCode::Overloaded, text),
        // Whoever says this has not looked at the request.
        Code::Unimplemented => {
            let why = "the server does not offer this call";
            return Error::new(ErrorCode::NotAvailableYet, why);
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound | Code::OutOfRange => {
            Error::new(ErrorCode::RequestMalformed, text)
        }
        Code::Unauthenticated | Code::PermissionDenied => Error::unauthenticated(text),
        // A peer that dies in mid-call shows as any of these, not always with a source.
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Aborted => {
            Error::unavailable(reason(status))
        }
        Code::Ok | Code::AlreadyExists | Code::Internal | Code::DataLoss => {
            Error::new(ErrorCode::Internal, reason(status))
        }
    };
    error.with_applied(sent)
}

/// What an answer that is an error means.
pub(crate) fn from_detail(detail: v1::ErrorDetail, write: bool) -> Error {
    let applied = match detail.applied() {
        _ if !write => Applied::No,
        v1::error_detail::Applied::No => Applied::No,
        v1::error_detail::Applied::Yes => Applied::Yes,
        v1::error_detail::Applied::Unknown => Applied::Unknown,
    };
    let facts = Facts {
        limit: detail.limit,
        needed: detail.needed,
        got: detail.got,
        epoch: detail.epoch.map(Epoch),
        retry_after: detail.retry_after_ms.map(Duration::from_millis),
        server_time: detail.server_time_ns.map(WallTime),
        bound: detail.bound.as_deref().and_then(Bound::parse),
    };
    Error::from_server(detail.code, detail.retryable, detail.message)
        .with_applied(applied)
        .with_facts(facts)
        .with_trace(waterfall(detail.trace, detail.total_ns))
}

fn detail_of(status: &Status) -> Option<v1::ErrorDetail> {
    let bytes = status.metadata().get_bin(DETAIL_TRAILER)?.to_bytes().ok()?;
    v1::ErrorDetail::decode(bytes).ok().filter(|detail| !detail.code.is_empty())
}

/// Whether the request cannot have left, because there was no connection to leave by.
fn never_sent(status: &Status) -> bool {
    sources(status).any(|cause| cause.is::<tonic::ConnectError>())
}

/// The innermost causes say more than tonic's "transport error".
fn reason(status: &Status) -> String {
    let mut causes = sources(status).map(ToString::to_string).collect::<Vec<_>>();
    causes.retain(|cause| cause != "transport error");
    causes.dedup();
    if causes.is_empty() { status.message().to_owned() } else { causes.join(": ") }
}

fn sources(status: &Status) -> impl Iterator<Item = &(dyn core::error::Error + 'static)> {
    let mut next = status.source();
    core::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ErrorKind;
    use tonic::metadata::MetadataValue;

    #[test]
    fn the_detail_in_the_trailer_wins_over_the_grpc_code() {
        let detail = v1::ErrorDetail {
            code: "QUORUM_NOT_REACHED".to_owned(),
            message: "1 of 2 replicas answered".to_owned(),
            retryable: true,
            needed: Some(2),
            got: Some(1),
            applied: v1::error_detail::Applied::Unknown.into(),
            retry_after_ms: Some(7),
            ..Default::default()
        };
        let mut status = Status::unavailable("");
        let value = MetadataValue::from_bytes(&detail.encode_to_vec());
        status.metadata_mut().insert_bin(DETAIL_TRAILER, value);
        let error = from_status(&status, true);
        assert_eq!(error.kind(), ErrorKind::QuorumNotReached);
        assert_eq!(error.applied(), Applied::Unknown);
        assert_eq!((error.facts().needed, error.facts().got), (Some(2), Some(1)));
        assert_eq!(error.facts().retry_after, Some(Duration::from_millis(7)));
        assert_eq!(from_status(&status, false).applied(), Applied::No);
    }

    #[test]
    fn the_odd_statuses_of_the_transport_are_put_right() {
        let cases = [
            (Status::cancelled("Timeout expired"), ErrorKind::DeadlineExceeded),
            (Status::deadline_exceeded(""), ErrorKind::DeadlineExceeded),
            (Status::out_of_range("decoded message length too large"), ErrorKind::Internal),
            (Status::unknown("h2 protocol error"), ErrorKind::Unavailable),
            (Status::cancelled("operation was canceled"), ErrorKind::Unavailable),
            (Status::resource_exhausted("queue full"), ErrorKind::Overloaded),
            (Status::unimplemented(""), ErrorKind::NotAvailableYet),
            (Status::unauthenticated("who?"), ErrorKind::Unauthenticated),
        ];
        for (status, kind) in cases {
            let error = from_status(&status, true);
            assert_eq!(error.kind(), kind, "{status:?}");
            let unlooked = kind == ErrorKind::NotAvailableYet;
            let applied = if unlooked { Applied::No } else { Applied::Unknown };
            assert_eq!(error.applied(), applied, "{status:?}");
        }
    }

    #[test]
    fn garbage_in_the_trailer_is_ignored() {
        let mut status = Status::unavailable("gone");
        status.metadata_mut().insert_bin(DETAIL_TRAILER, MetadataValue::from_bytes(b"\xff\xff"));
        assert_eq!(from_status(&status, false).kind(), ErrorKind::Unavailable);
    }
}

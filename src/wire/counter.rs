//! Increments between `message` and `proto/kv.proto`.

use crate::message::{
    CausalReply, ClientBody, ClientRequest, Increment, IncrementReply, OpError, Receipt,
};

use super::client::{
    Call, attempt_from_wire, key_from_wire, mode_from_wire, quorum_from_wire, receipt_to_wire,
    request,
};
use super::proto::v1 as pb;

/// An increment, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn increment_from_wire(
    call: &Call,
    increment: pb::IncrementRequest,
) -> Result<ClientRequest, OpError> {
    request(call, increment.header, |table| {
        Ok(ClientBody::Increment(Box::new(Increment {
            table,
            key: key_from_wire(increment.key)?,
            by: increment.by.unwrap_or(1),
            w: quorum_from_wire(increment.w, "w")?,
            attempt: attempt_from_wire(increment.attempt)?,
            mode: mode_from_wire(increment.mode)?,
            traced: increment.trace,
        })))
    })
}

/// The answer to an increment of a key of a linearizable table, as it travels.
pub fn increment_to_wire(reply: IncrementReply) -> pb::IncrementResponse {
    to_wire(reply.value, &reply.receipt)
}

/// The answer to an increment of a key of a causal table, as it travels.
pub fn causal_increment_to_wire(reply: CausalReply) -> pb::IncrementResponse {
    to_wire(reply.counter, &reply.receipt)
}

fn to_wire(value: Option<i64>, receipt: &Receipt) -> pb::IncrementResponse {
    let receipt = Some(receipt_to_wire(receipt));
    pb::IncrementResponse { value, receipt, ..pb::IncrementResponse::default() }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::message::{ErrorCode, Principal, QuorumMode};
    use crate::types::{Quorum, RequestId, Time};

    fn asked(increment: pb::IncrementRequest) -> Result<Increment, OpError> {
        let call = Call {
            now: Time(0),
            transport_timeout: None,
            default_timeout: Duration::from_secs(5),
            principal: Principal::Anonymous,
        };
        match increment_from_wire(&call, increment)?.body {
            ClientBody::Increment(increment) => Ok(*increment),
            other => panic!("{other:?}"),
        }
    }

    fn good() -> pb::IncrementRequest {
        pb::IncrementRequest { key: "k".into(), ..Default::default() }
    }

    #[test]
    fn what_is_left_out_has_its_default_and_all_else_arrives() {
        let bare = asked(good()).unwrap();
        assert_eq!((bare.by, bare.w, bare.mode), (1, None, QuorumMode::ByTable));
        let kind = Some(pb::quorum::Kind::Count(2));
        let attempt = pb::Attempt { request_id: vec![1; 16].into(), ..Default::default() };
        let (w, mode) = (Some(pb::Quorum { kind }), pb::QuorumMode::Sloppy.into());
        let attempt = Some(attempt);
        let full = pb::IncrementRequest { by: Some(i64::MIN), w, mode, attempt, ..good() };
        let full = asked(full).unwrap();
        assert_eq!((full.by, full.w), (i64::MIN, Some(Quorum::Count(2))));
        assert_eq!(full.mode, QuorumMode::Sloppy);
        assert_ne!(full.attempt.id, RequestId(0));
        assert_eq!(asked(pb::IncrementRequest { by: Some(0), ..good() }).unwrap().by, 0);
    }

    #[test]
    fn each_field_outside_its_bounds_is_named() {
        let quorum = |count| Some(pb::Quorum { kind: Some(pb::quorum::Kind::Count(count)) });
        let attempt = pb::Attempt { request_id: "short".into(), ..Default::default() };
        let cases = [
            (pb::IncrementRequest { key: "".into(), ..good() }, ErrorCode::KeyEmpty, "key"),
            (pb::IncrementRequest { w: quorum(99), ..good() }, ErrorCode::QuorumInvalid, "w is"),
            (pb::IncrementRequest { mode: 77, ..good() }, ErrorCode::RequestMalformed, "mode"),
            (
                pb::IncrementRequest { attempt: Some(attempt), ..good() },
                ErrorCode::RequestMalformed,
                "attempt.request_id",
            ),
        ];
        for (bad, code, field) in cases {
            let error = asked(bad).unwrap_err();
            assert_eq!(error.code, code);
            assert!(error.message.contains(field), "{}", error.message);
        }
    }

    #[test]
    fn a_sum_of_zero_and_a_sum_that_is_not_known_are_told_apart() {
        let receipt = Receipt::default();
        let sum = |value| increment_to_wire(IncrementReply { value, receipt }).value;
        assert_eq!((sum(Some(0)), sum(None)), (Some(0), None));
    }
}

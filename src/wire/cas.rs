//! What only linearizable tables offer, between `message` and `proto/kv.proto`: compare-and-set, and
//! the question after the outcome of a write.

use bytes::Bytes;

use crate::message::{
    Cas, CasReply, ClientBody, ClientRequest, ErrorCode, Expectation, Fate, OpError, OutcomeAsk,
    OutcomeReply,
};
use crate::types::{RequestId, Stamp, WallTime};

use super::client::{
    Call, attempt_from_wire, id_from_wire, key_from_wire, malformed, receipt_to_wire, request,
    ttl_from_wire, value_from_wire,
};
use super::proto::v1 as pb;

/// A compare-and-set, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn cas_from_wire(call: &Call, cas: pb::CasRequest) -> Result<ClientRequest, OpError> {
    request(call, cas.header, |table| {
        Ok(ClientBody::Cas(Box::new(Cas {
            table,
            key: key_from_wire(cas.key)?,
            expect: expectation_from_wire(cas.expect)?,
            value: cas.value.map(value_from_wire).transpose()?,
            ttl: ttl_from_wire(cas.ttl_ms)?,
            attempt: attempt_from_wire(cas.attempt)?,
        })))
    })
}

fn expectation_from_wire(expect: Option<pb::cas_request::Expect>) -> Result<Expectation, OpError> {
    use pb::cas_request::Expect;
    match expect {
        None => Err(malformed("expect is missing: one of absent, value_is and stamp_is is needed")),
        Some(Expect::Absent(false)) => Err(malformed("absent is false; it is true or left out")),
        Some(Expect::Absent(true)) => Ok(Expectation::Absent),
        Some(Expect::ValueIs(value)) => Ok(Expectation::Value(value_from_wire(value)?)),
        Some(Expect::StampIs(bytes)) => {
            let found = <[u8; 16]>::try_from(bytes.as_ref()).map(Stamp::from_bytes);
            let text = || malformed(format!("stamp_is has {} bytes; it has 16", bytes.len()));
            found.map(Expectation::Stamp).map_err(|_| text())
        }
    }
}

/// A question after a write, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn outcome_from_wire(
    call: &Call,
    ask: pb::GetOutcomeRequest,
) -> Result<ClientRequest, OpError> {
    request(call, ask.header, |table| {
        let id = id_from_wire(&ask.request_id, "request_id")?;
        if id == 0 {
            return Err(OpError::new(ErrorCode::RequestMalformed, "request_id is missing"));
        }
        Ok(ClientBody::Outcome(OutcomeAsk {
            table,
            key: key_from_wire(ask.key)?,
            id: RequestId(id),
            since: WallTime(ask.since_ns),
            lower: WallTime(ask.lower_ns),
        }))
    })
}

/// The answer to a compare-and-set, as it travels.
pub fn cas_to_wire(reply: CasReply) -> pb::CasResponse {
    let current = reply.current.filter(|_| !reply.applied).and_then(|record| {
        Some(pb::cas_response::Version {
            value: record.value?.into_bytes(),
            stamp: stamp_to_wire(record.stamp),
            expires_ns: record.expiry.map(|at| at.0),
        })
    });
    let receipt = Some(receipt_to_wire(&reply.receipt));
    pb::CasResponse { applied: reply.applied, receipt, current }
}

/// The answer to a question after a write, as it travels.
pub fn outcome_to_wire(reply: OutcomeReply) -> pb::GetOutcomeResponse {
    use pb::get_outcome_response::Fate as Wire;
    let (fate, stamp) = match reply.fate {
        Fate::Applied(stamp) => (Wire::Applied, stamp_to_wire(stamp)),
        Fate::Cancelled => (Wire::Cancelled, Bytes::new()),
    };
    let receipt = Some(receipt_to_wire(&reply.receipt));
    pb::GetOutcomeResponse { fate: fate.into(), stamp, receipt }
}

fn stamp_to_wire(stamp: Stamp) -> Bytes {
    Bytes::copy_from_slice(&stamp.to_bytes())
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::message::{Principal, Receipt, TimeToLive};
    use crate::types::{Key, NodeId, Record, Time, Value, limits};

    fn call() -> Call {
        Call {
            now: Time(0),
            transport_timeout: None,
            default_timeout: Duration::from_secs(5),
            principal: Principal::Anonymous,
        }
    }

    fn asked(change: impl FnOnce(&mut pb::CasRequest)) -> Result<Cas, OpError> {
        let expect = Some(pb::cas_request::Expect::Absent(true));
        let mut cas = pb::CasRequest { key: "k".into(), expect, ..Default::default() };
        change(&mut cas);
        match cas_from_wire(&call(), cas)?.body {
            ClientBody::Cas(cas) => Ok(*cas),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_expectation_and_no_value_arrive_as_they_were_sent() {
        use pb::cas_request::Expect;
        let cas = asked(|_| {}).unwrap();
        assert_eq!(
            (cas.expect, cas.value, cas.ttl),
            (Expectation::Absent, None, TimeToLive::Table)
        );
        let cas = asked(|cas| {
            cas.expect = Some(Expect::ValueIs(Bytes::new()));
            cas.value = Some("new".into());
            cas.ttl_ms = Some(5000);
        });
        let cas = cas.unwrap();
        assert_eq!(cas.expect, Expectation::Value(Value::new("").unwrap()));
        assert_eq!(cas.value, Some(Value::new("new").unwrap()));
        assert_eq!(cas.ttl, TimeToLive::For(Duration::from_secs(5)));
        let stamp = Stamp { time: WallTime(7), counter: 8, node: NodeId(9) };
        let cas = asked(|cas| cas.expect = Some(Expect::StampIs(stamp_to_wire(stamp)))).unwrap();
        assert_eq!(cas.expect, Expectation::Stamp(stamp));
    }

    #[test]
    fn each_field_outside_its_bounds_is_named() {
        use pb::cas_request::Expect;
        let large = Bytes::from(vec![0; limits::VALUE_BYTES_MAX + 1]);
        let refused = |change: &dyn Fn(&mut pb::CasRequest)| {
            let error = asked(|cas| change(cas)).unwrap_err();
            (error.code, error.message)
        };
        type Change<'a> = &'a dyn Fn(&mut pb::CasRequest);
        let cases: [(Change<'_>, ErrorCode, &str); 8] = [
            (&|cas| cas.key = Bytes::new(), ErrorCode::KeyEmpty, "key"),
            (&|cas| cas.expect = None, ErrorCode::RequestMalformed, "expect"),
            (
                &|cas| cas.expect = Some(Expect::Absent(false)),
                ErrorCode::RequestMalformed,
                "absent",
            ),
            (
                &|cas| cas.expect = Some(Expect::StampIs("short".into())),
                ErrorCode::RequestMalformed,
                "stamp_is",
            ),
            (
                &|cas| cas.expect = Some(Expect::ValueIs(large.clone())),
                ErrorCode::ValueTooLarge,
                "value",
            ),
            (&|cas| cas.value = Some(large.clone()), ErrorCode::ValueTooLarge, "value"),
            (&|cas| cas.ttl_ms = Some(1), ErrorCode::RequestMalformed, "ttl_ms"),
            (
                &|cas| {
                    let request_id = "short".into();
                    cas.attempt = Some(pb::Attempt { request_id, ..Default::default() });
                },
                ErrorCode::RequestMalformed,
                "attempt.request_id",
            ),
        ];
        for (change, code, field) in cases {
            let (found, text) = refused(change);
            assert_eq!(found, code, "{text}");
            assert!(text.contains(field), "{text}");
        }
    }

    #[test]
    fn a_question_needs_an_id() {
        let ask = |request_id: &'static [u8]| {
            let request_id = Bytes::from_static(request_id);
            let key = "k".into();
            let ask = pb::GetOutcomeRequest { key, request_id, since_ns: 3, ..Default::default() };
            outcome_from_wire(&call(), ask)
        };
        for bad in [&[][..], &[0; 16], &[1; 3]] {
            assert_eq!(ask(bad).unwrap_err().code, ErrorCode::RequestMalformed);
        }
        match ask(&[1; 16]).unwrap().body {
            ClientBody::Outcome(ask) => {
                assert_eq!(ask.key, Key::new("k").unwrap());
                assert_eq!((ask.since, ask.lower), (WallTime(3), WallTime(0)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_travel_with_what_was_found() {
        let stamp = Stamp { time: WallTime(7), counter: 8, node: NodeId(9) };
        let value = Some(Value::new("v").unwrap());
        let record = Record { stamp, value, expiry: Some(WallTime(11)) };
        let reply = CasReply {
            applied: false,
            current: Some(record),
            receipt: Receipt { stamp, ..Receipt::default() },
        };
        let sent = cas_to_wire(reply.clone());
        let current = sent.current.unwrap();
        assert_eq!((&current.value[..], current.expires_ns), (&b"v"[..], Some(11)));
        assert_eq!(&current.stamp[..], &stamp.to_bytes());
        let made = cas_to_wire(CasReply { applied: true, ..reply });
        assert!(made.applied && made.current.is_none());
        let receipt = Receipt::default();
        let applied = outcome_to_wire(OutcomeReply { fate: Fate::Applied(stamp), receipt });
        assert_eq!((applied.fate, &applied.stamp[..]), (1, &stamp.to_bytes()[..]));
        let cancelled = outcome_to_wire(OutcomeReply { fate: Fate::Cancelled, receipt });
        assert_eq!((cancelled.fate, cancelled.stamp.len()), (2, 0));
    }
}

//! Between the library's types and the messages of `proto/kv.proto`. What a server sends is
//! checked here; a malformed answer is an error, never a panic.

use core::time::Duration;

use bytes::Bytes;

use crate::message::{Attempt, ErrorCode, QuorumMode, Receipt};
use crate::types::{Epoch, Quorum, Stamp, TraceId, WallTime, limits};
use crate::wire::proto::v1;

use super::Error;

/// The header of a request.
pub(crate) fn header(table: &str, trace: TraceId, remaining: Duration) -> v1::RequestHeader {
    v1::RequestHeader {
        table: table.to_owned(),
        timeout_ms: timeout_ms(remaining),
        trace_id: id_bytes(trace.0),
    }
}

fn timeout_ms(remaining: Duration) -> u32 {
    // Zero would mean "the server's default".
    let timeout = remaining.min(limits::REQUEST_TIMEOUT_MAX).as_millis().max(1);
    u32::try_from(timeout).unwrap_or(u32::MAX)
}

/// Says what is left of an operation's time, now that it leaves.
pub(crate) fn set_remaining(op: &mut v1::session_request::Op, remaining: Duration) {
    use v1::session_request::op::Op;
    let header = match &mut op.op {
        Some(Op::Get(get)) => &mut get.header,
        Some(Op::Put(put)) => &mut put.header,
        Some(Op::Delete(delete)) => &mut delete.header,
        Some(Op::Cas(cas)) => &mut cas.header,
        Some(Op::Increment(add)) => &mut add.header,
        Some(Op::GetOutcome(ask)) => &mut ask.header,
        Some(Op::Batch(batch)) => &mut batch.header,
        None => return,
    };
    if let Some(header) = header {
        header.timeout_ms = timeout_ms(remaining);
    }
}

/// A quorum.
pub(crate) fn quorum(quorum: Quorum) -> v1::Quorum {
    use v1::quorum::{Kind, Named};
    let kind = match quorum {
        Quorum::One => Kind::Named(Named::One.into()),
        Quorum::Majority => Kind::Named(Named::Quorum.into()),
        Quorum::All => Kind::Named(Named::All.into()),
        Quorum::Count(count) => Kind::Count(count.into()),
    };
    v1::Quorum { kind: Some(kind) }
}

/// Who may count.
pub(crate) fn mode(mode: QuorumMode) -> i32 {
    let mode = match mode {
        QuorumMode::ByTable => v1::QuorumMode::Unspecified,
        QuorumMode::Strict => v1::QuorumMode::Strict,
        QuorumMode::Sloppy => v1::QuorumMode::Sloppy,
    };
    mode.into()
}

/// An attempt of a write.
pub(crate) fn attempt(attempt: Attempt) -> v1::Attempt {
    v1::Attempt {
        request_id: id_bytes(attempt.id.0),
        number: attempt.number,
        lower_ns: attempt.lower.0,
        upper_ns: attempt.upper.map_or(0, |upper| upper.0),
        since_ns: attempt.since.0,
    }
}

/// A receipt.
///
/// # Errors
/// It is missing or out of bounds.
pub(crate) fn receipt(receipt: Option<v1::Receipt>) -> Result<Receipt, Error> {
    let receipt = receipt.ok_or_else(|| malformed("an answer without a receipt"))?;
    Ok(Receipt {
        epoch: Epoch(receipt.epoch),
        stamp: stamp(&receipt.stamp)?,
        answered: narrow(receipt.answered, "answered")?,
        stand_ins: narrow(receipt.stand_ins, "stand_ins")?,
        may_miss: receipt.may_miss,
        n: narrow(receipt.n, "n")?,
        needed: narrow(receipt.needed, "needed")?,
        weak: receipt.weak,
        repaired: receipt.repaired,
        many_siblings: receipt.many_siblings,
        superseded_by: match receipt.superseded_by.is_empty() {
            true => None,
            false => Some(stamp(&receipt.superseded_by)?),
        },
        server_time: WallTime(receipt.server_time_ns),
        trace: TraceId(id_from(&receipt.trace_id)?),
    })
}

/// A stamp; none is zero.
///
/// # Errors
/// It is neither empty nor 16 bytes.
pub(crate) fn stamp(bytes: &[u8]) -> Result<Stamp, Error> {
    if bytes.is_empty() {
        return Ok(Stamp::ZERO);
    }
    let bytes = bytes.try_into().map_err(|_| malformed("a stamp that is not 16 bytes"))?;
    Ok(Stamp::from_bytes(bytes))
}

/// An answer that no server of this protocol sends.
pub(crate) fn malformed(what: &str) -> Error {
    Error::new(ErrorCode::Internal, format!("the server sent {what}"))
}

pub(super) fn id_bytes(id: u128) -> Bytes {
    if id == 0 { Bytes::new() } else { Bytes::copy_from_slice(&id.to_be_bytes()) }
}

fn id_from(bytes: &[u8]) -> Result<u128, Error> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let bytes = bytes.try_into().map_err(|_| malformed("a trace id that is not 16 bytes"))?;
    Ok(u128::from_be_bytes(bytes))
}

fn narrow<T: TryFrom<u32>>(value: u32, field: &str) -> Result<T, Error> {
    T::try_from(value).map_err(|_| malformed(&format!("{field} = {value}, out of bounds")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_checked_field_by_field() {
        let good = v1::Receipt {
            epoch: 7,
            stamp: vec![1; 16].into(),
            answered: 0b101,
            n: 3,
            needed: 2,
            ..Default::default()
        };
        let read = receipt(Some(good.clone())).unwrap();
        assert_eq!((read.epoch, read.answered, read.n), (Epoch(7), 0b101, 3));
        let bad = [
            None,
            Some(v1::Receipt { stamp: vec![1; 15].into(), ..good.clone() }),
            Some(v1::Receipt { answered: 1 << 16, ..good.clone() }),
            Some(v1::Receipt { n: 256, ..good.clone() }),
            Some(v1::Receipt { trace_id: vec![1; 3].into(), ..good }),
        ];
        for bad in bad {
            assert_eq!(receipt(bad).unwrap_err().code(), "INTERNAL");
        }
    }

    #[test]
    fn a_header_never_asks_for_the_servers_default_by_accident() {
        let header = |micros| header("t", TraceId(0), Duration::from_micros(micros));
        assert_eq!(header(10).timeout_ms, 1);
        assert_eq!(header(1_500_000).timeout_ms, 1500);
        assert_eq!(header(3_600_000_000).timeout_ms, 60_000);
    }
}

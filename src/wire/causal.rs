//! What owners of causal tables say to each other, between `message` and `proto/peer.proto`. Sets and
//! contexts travel in the bytes they are stored in, and are checked like all else.

use bytes::Bytes;
use core::time::Duration;
use prost::Message;

use crate::causality::{CausalContext, SiblingSet};
use crate::message::{Attempt, CausalMessage, CausalPut, CausalReply, Receipt, RoundId};
use crate::types::{Epoch, NodeId, RequestId, TraceId, Value, WallTime, limits};

use super::error::{error_detail, error_from_detail};
use super::peer::{
    Malformed, micros, narrow, owner_from_wire, place_from_wire, place_to_wire, refusal_from_wire,
    refusal_to_wire, remaining, required, round_from_wire, round_to_wire, stamp_from_wire,
    stamp_to_wire, wide, wide_bytes,
};
use super::proto::peer as pb;
use super::proto::v1::ErrorDetail;

/// A message as it travels.
pub(super) fn causal_to_wire(message: CausalMessage) -> pb::Causal {
    use pb::causal::Body;
    let (round, body) = match message {
        CausalMessage::Put { round, place, hint_for, put, remaining } => {
            let (place, hint_for) = (Some(place_to_wire(place)), owner_to_wire(hint_for));
            let (add, put) = (put.add, put_to_wire(*put));
            let put = pb::CausalPut { place, hint_for, remaining_us: micros(remaining), ..put };
            // A body of its own: who does not know it must not take it for a delete.
            let adds = |by| Body::Add(pb::CausalAdd { put: Some(put.clone()), by });
            (round, add.map_or_else(|| Body::Put(put.clone()), adds))
        }
        CausalMessage::PutAnswer { round, result } => {
            (round, Body::PutAnswer(put_answer_to_wire(result)))
        }
        CausalMessage::Merge { round, place, hint_for, set, remaining } => {
            let (place, set) = (Some(place_to_wire(place)), Bytes::from(set.encode()));
            let (hint_for, remaining_us) = (owner_to_wire(hint_for), micros(remaining));
            (round, Body::Merge(pb::CausalMerge { place, hint_for, set, remaining_us }))
        }
        CausalMessage::MergeAnswer { round, result } => {
            let refusal = result.err().map(refusal_to_wire);
            (round, Body::MergeAnswer(pb::CausalMergeAnswer { refusal }))
        }
        CausalMessage::Read { round, place, hint_for, remaining } => {
            let place = Some(place_to_wire(place));
            let (hint_for, remaining_us) = (owner_to_wire(hint_for), micros(remaining));
            (round, Body::Read(pb::CausalRead { place, hint_for, remaining_us }))
        }
        CausalMessage::ReadAnswer { round, piece, pieces, result } => {
            use pb::causal_read_answer::Result as Wire;
            let result = Some(match result {
                Ok(set) => Wire::Set(set.encode().into()),
                Err(refusal) => Wire::Refusal(refusal_to_wire(refusal)),
            });
            let (piece, pieces) = (piece.into(), pieces.into());
            (round, Body::ReadAnswer(pb::CausalReadAnswer { piece, pieces, result }))
        }
    };
    pb::Causal { round: round_to_wire(round), body: Some(body) }
}

/// A foreign message, checked.
pub(super) fn causal_from_wire(message: pb::Causal) -> Result<CausalMessage, Malformed> {
    use pb::causal::Body;
    let round = round_from_wire(message.round)?;
    Ok(match required(message.body, "causal body")? {
        Body::Put(put) => put_from_wire(round, put, None)?,
        Body::Add(add) => put_from_wire(round, required(add.put, "put")?, Some(add.by))?,
        Body::PutAnswer(answer) => {
            CausalMessage::PutAnswer { round, result: put_answer_from_wire(answer)? }
        }
        Body::Merge(merge) => CausalMessage::Merge {
            round,
            place: place_from_wire(merge.place)?,
            hint_for: owner_from_wire(merge.hint_for),
            set: set_from_wire(merge.set)?,
            remaining: remaining(merge.remaining_us),
        },
        Body::MergeAnswer(answer) => {
            let refusal = answer.refusal.map(refusal_from_wire).transpose()?;
            CausalMessage::MergeAnswer { round, result: refusal.map_or(Ok(()), Err) }
        }
        Body::Read(read) => CausalMessage::Read {
            round,
            place: place_from_wire(read.place)?,
            hint_for: owner_from_wire(read.hint_for),
            remaining: remaining(read.remaining_us),
        },
        Body::ReadAnswer(answer) => {
            use pb::causal_read_answer::Result as Wire;
            let result = match required(answer.result, "result")? {
                Wire::Set(set) => Ok(set_from_wire(set)?),
                Wire::Refusal(refusal) => Err(refusal_from_wire(refusal)?),
            };
            let [piece, pieces] = [answer.piece, answer.pieces].map(|n| narrow(n, "piece"));
            CausalMessage::ReadAnswer { round, piece: piece?, pieces: pieces?, result }
        }
    })
}

fn owner_to_wire(owner: Option<NodeId>) -> u32 {
    owner.map_or(0, |owner| owner.0)
}

fn set_from_wire(bytes: Bytes) -> Result<SiblingSet, Malformed> {
    SiblingSet::decode(bytes).ok_or_else(|| Malformed::new("a set of siblings does not decode"))
}

fn put_to_wire(put: CausalPut) -> pb::CausalPut {
    let seen = put.seen.map(|seen| {
        let mut bytes = Vec::new();
        seen.encode(&mut bytes);
        Bytes::from(bytes)
    });
    pb::CausalPut {
        place: None,
        value: put.value.map(Value::into_bytes),
        seen,
        request_id: wide_bytes(put.attempt.id.0),
        attempt: put.attempt.number,
        lower_ns: put.attempt.lower.0,
        upper_ns: put.attempt.upper.map(|upper| upper.0),
        w: put.w.into(),
        sloppy: put.sloppy,
        weak: put.weak,
        ttl_us: put.ttl.map(micros),
        trace_id: wide_bytes(put.trace.0),
        remaining_us: 0,
        hint_for: 0,
    }
}

fn put_from_wire(
    round: RoundId,
    put: pb::CausalPut,
    add: Option<i64>,
) -> Result<CausalMessage, Malformed> {
    if add.is_some() && (put.value.is_some() || put.seen.is_some()) {
        return Err(Malformed::new("an increment has a value or a context"));
    }
    let seen = |mut bytes: Bytes| {
        let context = CausalContext::decode(&mut bytes).filter(|_| bytes.is_empty());
        context.ok_or_else(|| Malformed::new("a causal context does not decode"))
    };
    let value = put.value.map(Value::new).transpose();
    let attempt = Attempt {
        id: RequestId(wide(&put.request_id, "request id")?),
        number: put.attempt,
        lower: WallTime(put.lower_ns),
        upper: put.upper_ns.map(WallTime),
        since: WallTime(0),
    };
    let parsed = CausalPut {
        value: value.map_err(|len| Malformed::new(format!("a value has {len} bytes")))?,
        add,
        seen: put.seen.map(seen).transpose()?,
        attempt,
        w: narrow(put.w, "w")?,
        sloppy: put.sloppy,
        weak: put.weak,
        ttl: put.ttl_us.map(|us| Duration::from_micros(us).min(limits::TTL_MAX)),
        trace: TraceId(wide(&put.trace_id, "trace id")?),
    };
    Ok(CausalMessage::Put {
        round,
        place: place_from_wire(put.place)?,
        hint_for: owner_from_wire(put.hint_for),
        put: Box::new(parsed),
        remaining: remaining(put.remaining_us),
    })
}

type PutResult = Result<Box<CausalReply>, Box<crate::message::OpError>>;

fn put_answer_to_wire(result: PutResult) -> pb::CausalPutAnswer {
    use pb::causal_put_answer::Result as Wire;
    let result = match result {
        Ok(reply) => Wire::Done(pb::CausalPutDone {
            epoch: reply.receipt.epoch.0,
            stamp: Some(stamp_to_wire(reply.receipt.stamp)),
            answered: reply.receipt.answered.into(),
            stand_ins: reply.receipt.stand_ins.into(),
            n: reply.receipt.n.into(),
            needed: reply.receipt.needed.into(),
            weak: reply.receipt.weak,
            server_time_ns: reply.receipt.server_time.0,
            trace_id: wide_bytes(reply.receipt.trace.0),
            siblings: reply.count,
            context: reply.context,
            counter: reply.counter,
        }),
        Err(error) => Wire::Error(error_detail(&error).encode_to_vec().into()),
    };
    pb::CausalPutAnswer { result: Some(result) }
}

fn put_answer_from_wire(answer: pb::CausalPutAnswer) -> Result<PutResult, Malformed> {
    use pb::causal_put_answer::Result as Wire;
    let done = match required(answer.result, "result")? {
        Wire::Error(bytes) => {
            let detail = ErrorDetail::decode(bytes)
                .map_err(|_| Malformed::new("the detail of an error does not decode"))?;
            return Ok(Err(Box::new(error_from_detail(detail))));
        }
        Wire::Done(done) => done,
    };
    if done.context.len() > limits::CONTEXT_BYTES_MAX {
        return Err(Malformed::new(format!("a context has {} bytes", done.context.len())));
    }
    let stamp = required(done.stamp, "stamp")?;
    let receipt = Receipt {
        epoch: Epoch(done.epoch),
        stamp: stamp_from_wire(stamp),
        answered: narrow(done.answered, "answered")?,
        stand_ins: narrow(done.stand_ins, "stand_ins")?,
        many_siblings: done.siblings >= limits::SIBLINGS_WARN,
        n: narrow(done.n, "n")?,
        needed: narrow(done.needed, "needed")?,
        weak: done.weak,
        repaired: false,
        server_time: WallTime(done.server_time_ns),
        trace: TraceId(wide(&done.trace_id, "trace id")?),
        ..Receipt::default()
    };
    let (wrote, siblings, counter) = (true, Vec::new(), done.counter);
    let (count, context) = (done.siblings, done.context);
    Ok(Ok(Box::new(CausalReply { wrote, siblings, count, context, receipt, counter })))
}

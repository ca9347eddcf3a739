//! The clients' plane between `message` and `proto/kv.proto`. Every field of a request is
//! checked here; what clients make of the answers is the client library's business.

use bytes::Bytes;
use core::time::Duration;

use crate::message::{
    Applied, Attempt, CausalReply, ClientBody, ClientRequest, ClientResult, ErrorCode, Get,
    GetReply, OpError, Principal, Put, PutReply, QuorumMode, Receipt, Reply, Scan, ScanEntry,
    ScanReply, Sibling, TimeToLive, Trace, TraceStep, Traced,
};
use crate::types::{
    Key, Quorum, RequestId, Stamp, TableName, Time, TraceId, Value, WallTime, limits,
};

use super::cas::{cas_from_wire, cas_to_wire, outcome_from_wire, outcome_to_wire};
use super::counter::{causal_increment_to_wire, increment_from_wire, increment_to_wire};
use super::error::error_detail;
use super::proto::v1 as pb;

/// Entries of a page when the request names no limit.
pub const SCAN_PAGE_ENTRIES_DEFAULT: u32 = 500;
/// The table of a request that names none.
pub const TABLE_DEFAULT: &str = "default";

/// What the edge knows of a call besides its fields.
#[derive(Clone, Debug)]
pub struct Call {
    /// The moment the call was taken in.
    pub now: Time,
    /// What the transport allows (`grpc-timeout`), if it says so.
    pub transport_timeout: Option<Duration>,
    /// The server's default.
    pub default_timeout: Duration,
    /// Who calls.
    pub principal: Principal,
}

impl Call {
    /// The deadline of a request that asks for `timeout_ms` (0: the default).
    ///
    /// # Errors
    /// [`ErrorCode::RequestMalformed`] above [`limits::REQUEST_TIMEOUT_MAX`].
    pub fn deadline(&self, timeout_ms: u32) -> Result<Time, OpError> {
        let asked = match timeout_ms {
            0 => self.default_timeout,
            ms => Duration::from_millis(ms.into()),
        };
        if asked > limits::REQUEST_TIMEOUT_MAX {
            let most = limits::REQUEST_TIMEOUT_MAX.as_millis();
            let text = format!("timeout_ms is {timeout_ms}; the limit is {most}");
            return Err(OpError::new(ErrorCode::RequestMalformed, text));
        }
        let allowed = self.transport_timeout.map_or(asked, |other| asked.min(other));
        Ok(self.now.plus(allowed))
    }
}

pub(super) fn malformed(text: impl Into<String>) -> OpError {
    OpError::new(ErrorCode::RequestMalformed, text)
}

/// A table's name; the default table's when empty.
pub(super) fn table_from_wire(name: String) -> Result<TableName, OpError> {
    let name = if name.is_empty() { TABLE_DEFAULT.to_owned() } else { name };
    TableName::try_from(name).map_err(|text| OpError::new(ErrorCode::TableNameInvalid, text))
}

/// A key, within its limits.
pub(super) fn key_from_wire(bytes: Bytes) -> Result<Key, OpError> {
    let len = bytes.len();
    Key::new(bytes).map_err(|error| match len {
        0 => OpError::new(ErrorCode::KeyEmpty, error.to_string()),
        _ => OpError::new(ErrorCode::KeyTooLarge, error.to_string())
            .with_limit(limits::KEY_BYTES_MAX, len),
    })
}

pub(super) fn value_from_wire(bytes: Bytes) -> Result<Value, OpError> {
    Value::new(bytes).map_err(|len| {
        let limit = limits::VALUE_BYTES_MAX;
        let text = format!("value has {len} bytes; the limit is {limit} bytes");
        OpError::new(ErrorCode::ValueTooLarge, text).with_limit(limit, len)
    })
}

pub(super) fn id_from_wire(bytes: &[u8], what: &str) -> Result<u128, OpError> {
    if bytes.is_empty() {
        return Ok(0);
    }
    <[u8; 16]>::try_from(bytes)
        .map(u128::from_be_bytes)
        .map_err(|_| malformed(format!("{what} has {} bytes; it has 16 or none", bytes.len())))
}

pub(super) fn quorum_from_wire(
    quorum: Option<pb::Quorum>,
    what: &'static str,
) -> Result<Option<Quorum>, OpError> {
    use pb::quorum::{Kind, Named};
    let invalid = |text: String| Err(OpError::new(ErrorCode::QuorumInvalid, text));
    match quorum.and_then(|quorum| quorum.kind) {
        None => Ok(None),
        Some(Kind::Count(count)) => match u8::try_from(count) {
            Ok(count) if (1..=limits::REPLICAS_MAX).contains(&count) => {
                Ok(Some(Quorum::Count(count)))
            }
            Ok(_) | Err(_) => {
                invalid(format!("{what} is {count}; it must be 1..={}", limits::REPLICAS_MAX))
            }
        },
        Some(Kind::Named(named)) => match Named::try_from(named) {
            Ok(Named::Unspecified) => Ok(None),
            Ok(Named::One) => Ok(Some(Quorum::One)),
            Ok(Named::Quorum) => Ok(Some(Quorum::Majority)),
            Ok(Named::All) => Ok(Some(Quorum::All)),
            Err(_) => invalid(format!("{what} has the unknown name {named}")),
        },
    }
}

pub(super) fn mode_from_wire(mode: i32) -> Result<QuorumMode, OpError> {
    match pb::QuorumMode::try_from(mode) {
        Ok(pb::QuorumMode::Unspecified) => Ok(QuorumMode::ByTable),
        Ok(pb::QuorumMode::Strict) => Ok(QuorumMode::Strict),
        Ok(pb::QuorumMode::Sloppy) => Ok(QuorumMode::Sloppy),
        Err(_) => Err(malformed(format!("mode has the unknown value {mode}"))),
    }
}

pub(super) fn attempt_from_wire(attempt: Option<pb::Attempt>) -> Result<Attempt, OpError> {
    let Some(attempt) = attempt else {
        return Ok(Attempt::default());
    };
    let upper = (attempt.upper_ns > 0).then_some(WallTime(attempt.upper_ns));
    if upper.is_some_and(|upper| upper.0 <= attempt.lower_ns) {
        return Err(malformed("attempt.upper_ns is not above attempt.lower_ns"));
    }
    Ok(Attempt {
        id: RequestId(id_from_wire(&attempt.request_id, "attempt.request_id")?),
        number: attempt.number,
        lower: WallTime(attempt.lower_ns),
        upper,
        since: WallTime(attempt.since_ns),
    })
}

/// How long a value lives; the table's default when absent, for ever when 0.
pub(super) fn ttl_from_wire(ms: Option<u64>) -> Result<TimeToLive, OpError> {
    let Some(ms) = ms else { return Ok(TimeToLive::Table) };
    if ms == 0 {
        return Ok(TimeToLive::Never);
    }
    let (ttl, least, most) = (Duration::from_millis(ms), limits::TTL_MIN, limits::TTL_MAX);
    if !(least..=most).contains(&ttl) {
        let (least, most) = (least.as_millis(), most.as_millis());
        return Err(malformed(format!("ttl_ms is {ms}; it must be {least}..={most}, or 0")));
    }
    Ok(TimeToLive::For(ttl))
}

/// The time a client gives its write.
fn time_from_wire(time_ns: Option<u64>) -> Result<Option<WallTime>, OpError> {
    if time_ns == Some(0) {
        return Err(malformed("time_ns is 0; it is nanoseconds since the Unix epoch, or absent"));
    }
    Ok(time_ns.map(WallTime))
}

fn id_to_wire(id: u128) -> Bytes {
    if id == 0 { Bytes::new() } else { Bytes::copy_from_slice(&id.to_be_bytes()) }
}

pub(super) fn request(
    call: &Call,
    header: Option<pb::RequestHeader>,
    body: impl FnOnce(TableName) -> Result<ClientBody, OpError>,
) -> Result<ClientRequest, OpError> {
    let header = header.unwrap_or_default();
    Ok(ClientRequest {
        deadline: call.deadline(header.timeout_ms)?,
        trace: TraceId(id_from_wire(&header.trace_id, "trace_id")?),
        principal: call.principal.clone(),
        body: body(table_from_wire(header.table)?)?,
    })
}

/// A read, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn get_from_wire(call: &Call, get: pb::GetRequest) -> Result<ClientRequest, OpError> {
    request(call, get.header, |table| {
        Ok(ClientBody::Get(Get {
            table,
            key: key_from_wire(get.key)?,
            r: quorum_from_wire(get.r, "r")?,
            mode: mode_from_wire(get.mode)?,
            monotonic: get.monotonic,
            traced: get.trace,
        }))
    })
}

/// A write, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn put_from_wire(call: &Call, put: pb::PutRequest) -> Result<ClientRequest, OpError> {
    request(call, put.header, |table| {
        Ok(ClientBody::Put(Put {
            table,
            key: key_from_wire(put.key)?,
            value: Some(value_from_wire(put.value)?),
            ttl: ttl_from_wire(put.ttl_ms)?,
            w: quorum_from_wire(put.w, "w")?,
            r: quorum_from_wire(put.r, "r")?,
            attempt: attempt_from_wire(put.attempt)?,
            time: time_from_wire(put.time_ns)?,
            mode: mode_from_wire(put.mode)?,
            context: put.context,
            traced: put.trace,
        }))
    })
}

/// A delete, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn delete_from_wire(call: &Call, delete: pb::DeleteRequest) -> Result<ClientRequest, OpError> {
    request(call, delete.header, |table| {
        Ok(ClientBody::Put(Put {
            table,
            key: key_from_wire(delete.key)?,
            value: None,
            ttl: TimeToLive::Never,
            w: quorum_from_wire(delete.w, "w")?,
            r: quorum_from_wire(delete.r, "r")?,
            attempt: attempt_from_wire(delete.attempt)?,
            time: time_from_wire(delete.time_ns)?,
            mode: mode_from_wire(delete.mode)?,
            context: delete.context,
            traced: delete.trace,
        }))
    })
}

/// A page, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn scan_from_wire(call: &Call, scan: pb::ScanRequest) -> Result<ClientRequest, OpError> {
    let limit = if scan.limit == 0 { SCAN_PAGE_ENTRIES_DEFAULT } else { scan.limit };
    if limit > limits::SCAN_PAGE_ENTRIES_MAX {
        let most = limits::SCAN_PAGE_ENTRIES_MAX;
        return Err(malformed(format!("limit is {limit}; it must be 1..={most}")));
    }
    for (what, bytes) in [("prefix", &scan.prefix), ("after", &scan.after)] {
        if bytes.len() > limits::KEY_BYTES_MAX {
            let text = format!(
                "{what} has {} bytes; the limit is {} bytes",
                bytes.len(),
                limits::KEY_BYTES_MAX
            );
            return Err(OpError::new(ErrorCode::KeyTooLarge, text)
                .with_limit(limits::KEY_BYTES_MAX, bytes.len()));
        }
    }
    request(call, scan.header, |table| {
        Ok(ClientBody::Scan(Scan {
            table,
            prefix: scan.prefix,
            after: scan.after,
            limit,
            keys_only: scan.keys_only,
            reverse: scan.reverse,
            r: quorum_from_wire(scan.r, "r")?,
            part: None,
        }))
    })
}

/// One operation of a session, checked; its number is the client's.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn session_op_from_wire(
    call: &Call,
    op: pb::session_request::Op,
) -> Result<ClientRequest, OpError> {
    use pb::session_request::op::Op;
    match op.op {
        Some(Op::Get(get)) => get_from_wire(call, get),
        Some(Op::Put(put)) => put_from_wire(call, put),
        Some(Op::Delete(delete)) => delete_from_wire(call, delete),
        Some(Op::Cas(cas)) => cas_from_wire(call, cas),
        Some(Op::GetOutcome(ask)) => outcome_from_wire(call, ask),
        Some(Op::Increment(increment)) => increment_from_wire(call, increment),
        // In groups, each an operation: `wire::batch`.
        Some(Op::Batch(_)) | None => {
            Err(malformed("an operation of a session names no operation this server knows"))
        }
    }
}

pub(super) fn receipt_to_wire(receipt: &Receipt) -> pb::Receipt {
    pb::Receipt {
        epoch: receipt.epoch.0,
        stamp: Bytes::copy_from_slice(&receipt.stamp.to_bytes()),
        answered: receipt.answered.into(),
        stand_ins: receipt.stand_ins.into(),
        may_miss: receipt.may_miss,
        n: receipt.n.into(),
        needed: receipt.needed.into(),
        weak: receipt.weak,
        repaired: receipt.repaired,
        many_siblings: receipt.many_siblings,
        server_time_ns: receipt.server_time.0,
        trace_id: id_to_wire(receipt.trace.0),
        client_time: receipt.stamp.is_of_client(),
        superseded: receipt.superseded_by.is_some(),
        superseded_by: receipt
            .superseded_by
            .map_or_else(Bytes::new, |by| Bytes::copy_from_slice(&by.to_bytes())),
    }
}

/// The answer to a read, as it travels.
pub fn get_to_wire(reply: GetReply) -> pb::GetResponse {
    let receipt = Some(receipt_to_wire(&reply.receipt));
    let expires_ns = reply.record.as_ref().and_then(|record| record.expiry).map(|at| at.0);
    match reply.record.and_then(|record| record.value) {
        Some(value) => {
            let value = value.into_bytes();
            let rest = pb::GetResponse::default();
            pb::GetResponse { found: true, value, receipt, expires_ns, ..rest }
        }
        None => pb::GetResponse { receipt, ..pb::GetResponse::default() },
    }
}

/// Takes the waterfall off a reply: what is left, its steps as they travel, and how long it took.
pub fn untraced(reply: Reply) -> (Reply, Vec<pb::TraceStep>, u64) {
    let Reply::Traced(traced) = reply else { return (reply, Vec::new(), 0) };
    let Traced { reply, trace } = *traced;
    let (steps, total_ns) = trace_to_wire(trace);
    (reply, steps, total_ns)
}

/// A waterfall, as it travels: its steps and how long it took.
pub(super) fn trace_to_wire(trace: Trace) -> (Vec<pb::TraceStep>, u64) {
    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let step = |step: TraceStep| pb::TraceStep {
        at_ns: ns(step.at),
        member: step.member.into(),
        event: step.event.as_str().to_owned(),
    };
    (trace.steps.into_iter().map(step).collect(), ns(trace.total))
}

/// The answer to a read of a causal table, as it travels.
pub fn causal_get_to_wire(reply: CausalReply) -> pb::GetResponse {
    let one = |siblings: &[Sibling]| match siblings {
        [only] => only.value.bytes().clone(),
        _ => Bytes::new(),
    };
    let alone = reply.count == 1;
    pb::GetResponse {
        found: reply.count > 0,
        value: if alone { one(&reply.siblings) } else { Bytes::new() },
        receipt: Some(receipt_to_wire(&reply.receipt)),
        expires_ns: match reply.siblings.as_slice() {
            [only] if alone => only.expiry.map(|at| at.0),
            _ => None,
        },
        sibling_count: reply.count,
        context: reply.context,
        siblings: reply
            .siblings
            .into_iter()
            .map(|sibling| pb::Sibling {
                value: sibling.value.into_bytes(),
                stamp: Bytes::copy_from_slice(&sibling.stamp.to_bytes()),
                expires_ns: sibling.expiry.map(|at| at.0),
                counter: sibling.is_counter,
            })
            .collect(),
        trace: Vec::new(),
        total_ns: 0,
    }
}

/// The answer to a put in a causal table, as it travels.
pub fn causal_put_to_wire(reply: CausalReply) -> pb::PutResponse {
    let receipt = Some(receipt_to_wire(&reply.receipt));
    let (context, sibling_count) = (reply.context, reply.count);
    pb::PutResponse { receipt, context, sibling_count, ..Default::default() }
}

/// The answer to a delete in a causal table, as it travels.
pub fn causal_delete_to_wire(reply: CausalReply) -> pb::DeleteResponse {
    let receipt = Some(receipt_to_wire(&reply.receipt));
    let (context, sibling_count) = (reply.context, reply.count);
    pb::DeleteResponse { receipt, context, sibling_count, ..Default::default() }
}

/// The answer to a write, as it travels.
pub fn put_to_wire(reply: PutReply) -> pb::PutResponse {
    let receipt = Some(receipt_to_wire(&reply.receipt));
    pb::PutResponse { receipt, ..pb::PutResponse::default() }
}

/// The answer to a delete, as it travels.
pub fn delete_to_wire(reply: PutReply) -> pb::DeleteResponse {
    let receipt = Some(receipt_to_wire(&reply.receipt));
    pb::DeleteResponse { receipt, ..pb::DeleteResponse::default() }
}

/// The answer to a scan, as it travels.
pub fn scan_to_wire(reply: ScanReply) -> pb::ScanResponse {
    // All stamps share an allocation.
    let stamps = reply.entries.iter().flat_map(|entry| entry.record.stamp.to_bytes());
    let mut stamps = Bytes::from(stamps.collect::<Vec<u8>>());
    let entry = |entry: ScanEntry| pb::scan_response::Entry {
        key: entry.key.into_bytes(),
        stamp: stamps.split_to(Stamp::BYTES),
        expires_ns: entry.record.expiry.map(|at| at.0),
        sibling_count: entry.siblings,
        value_left_out: entry.record.value.is_none(),
        value: entry.record.value.map_or_else(Bytes::new, Value::into_bytes),
    };
    pb::ScanResponse {
        more: reply.resume.is_some(),
        resume: reply.resume.unwrap_or_default(),
        entries: reply.entries.into_iter().map(entry).collect(),
        receipt: Some(receipt_to_wire(&reply.receipt)),
    }
}

/// Which of the two write calls a session operation was: they share one message inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// A read or a put: told apart by the reply.
    Plain,
    /// A delete.
    Delete,
}

/// The outcome of one operation of a session, as it travels.
pub fn session_answer(
    id: u64,
    kind: SessionKind,
    result: ClientResult,
) -> pb::session_response::Answer {
    use pb::session_response::answer::Answer;
    let (result, steps, took_ns) = match result.map(untraced) {
        Ok((reply, steps, took_ns)) => (Ok(reply), steps, took_ns),
        Err(error) => (Err(error), Vec::new(), 0),
    };
    let mut answer = match result {
        Ok(Reply::Get(reply)) => Answer::Get(get_to_wire(reply)),
        Ok(Reply::Put(reply)) if kind == SessionKind::Delete => {
            Answer::Delete(delete_to_wire(reply))
        }
        Ok(Reply::Put(reply)) => Answer::Put(put_to_wire(reply)),
        Ok(Reply::Causal(reply)) if reply.counter.is_some() => {
            Answer::Increment(causal_increment_to_wire(*reply))
        }
        Ok(Reply::Increment(reply)) => Answer::Increment(increment_to_wire(reply)),
        Ok(Reply::Causal(reply)) => match (reply.wrote, kind) {
            (false, _) => Answer::Get(causal_get_to_wire(*reply)),
            (true, SessionKind::Delete) => Answer::Delete(causal_delete_to_wire(*reply)),
            (true, SessionKind::Plain) => Answer::Put(causal_put_to_wire(*reply)),
        },
        Ok(Reply::Cas(reply)) => Answer::Cas(cas_to_wire(reply)),
        Ok(Reply::Outcome(reply)) => Answer::GetOutcome(outcome_to_wire(reply)),
        Ok(
            Reply::Scan(_)
            | Reply::Watch(_)
            | Reply::Status(_)
            | Reply::Locate(_)
            | Reply::Explain(_)
            | Reply::Flushed
            | Reply::Compacted
            | Reply::Scrub(_)
            | Reply::Table(_)
            | Reply::Tables(_)
            | Reply::Gc(_)
            | Reply::Outage(_)
            | Reply::Hot(_)
            | Reply::Events(_)
            | Reply::Hints(_)
            | Reply::Repair(_)
            | Reply::Topology(_)
            | Reply::Forced(_)
            | Reply::Joined(_)
            | Reply::Traced(_),
        ) => Answer::Error(error_detail(&mismatched())),
        Err(error) => Answer::Error(error_detail(&error)),
    };
    match &mut answer {
        Answer::Get(got) => (got.trace, got.total_ns) = (steps, took_ns),
        Answer::Put(put) => (put.trace, put.total_ns) = (steps, took_ns),
        Answer::Delete(deleted) => (deleted.trace, deleted.total_ns) = (steps, took_ns),
        Answer::Increment(made) => (made.trace, made.total_ns) = (steps, took_ns),
        Answer::Cas(_) | Answer::GetOutcome(_) | Answer::Batch(_) | Answer::Error(_) => {}
    }
    pb::session_response::Answer { id, answer: Some(answer) }
}

/// The error of a reply that does not fit its request.
pub fn mismatched() -> OpError {
    OpError::new(ErrorCode::Internal, "the reply does not fit the request")
        .with_applied(Applied::Unknown)
}

//! Reads and writes of one key.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tonic::Request;

use crate::message::{ErrorCode, QuorumMode, Receipt};
use crate::types::{Key, Quorum, Stamp, TraceId, Value, WallTime, limits};
use crate::wire::proto::v1::{self, session_request::op, session_response::answer};

use super::attempt::Named;
use super::call::{Core, Operation, Try};
use super::causal::{Context, SiblingsRequest};
use super::endpoint::Endpoint;
use super::pool::Place;
use super::status_error::from_status;
use super::{Error, Lane, convert};

/// The future of a request.
pub(super) type Pending<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetReply {
    /// The value; `None` when there is none, which rests on as many answers as a value does.
    pub value: Option<Bytes>,
    /// When the value expires; `None` when it lives for ever, or there is none.
    pub expires: Option<WallTime>,
    /// Of a causal table: what has been seen, for the next write of the key. Empty elsewhere.
    pub context: Context,
    /// What the answer rests on.
    pub receipt: Receipt,
    /// Its waterfall, when that was asked for ([`GetRequest::waterfall`]).
    pub trace: Option<Box<Trace>>,
}

/// When each owner was asked and answered, by the coordinator's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trace {
    /// What happened, in order; at most 128 steps, 64 of a request that failed: the first ones.
    pub steps: Vec<TraceStep>,
    /// How long it took the coordinator.
    pub total: Duration,
}

/// A moment of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceStep {
    /// Since the coordinator took the request up.
    pub at: Duration,
    /// The name of the member that was asked, or answered.
    pub member: String,
    /// Asked: `read`, `write`, `forward`, `prepare`, `accept`, `repair`. Heard: `answered`, `refused`,
    /// `lost`. Of a request that failed also `away`: an owner that could not be reached.
    pub event: String,
}

/// What a server has answered.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) value: Option<Bytes>,
    pub(super) expires: Option<WallTime>,
    pub(super) siblings: Vec<v1::Sibling>,
    pub(super) count: u32,
    pub(super) context: Bytes,
    pub(super) receipt: Receipt,
    pub(super) verdict: Verdict,
    pub(super) trace: Option<Box<Trace>>,
}

/// A waterfall, as a server has sent it.
pub(super) fn waterfall(steps: Vec<v1::TraceStep>, total_ns: u64) -> Option<Box<Trace>> {
    let step = |step: v1::TraceStep| TraceStep {
        at: Duration::from_nanos(step.at_ns),
        member: step.member,
        event: step.event,
    };
    let total = Duration::from_nanos(total_ns);
    let trace = Trace { steps: steps.into_iter().map(step).collect(), total };
    (!trace.steps.is_empty()).then(|| Box::new(trace))
}

/// What only linearizable tables answer.
#[derive(Clone, Debug, Default)]
pub(super) enum Verdict {
    /// Nothing.
    #[default]
    None,
    /// To a compare-and-set: whether it was made, and if not, what was there.
    Compared { applied: bool, current: Option<v1::cas_response::Version> },
    /// To an increment: what the key holds now, if that is known.
    Added(Option<i64>),
    /// To a question after a write: its stamp, if it was made.
    Told(Option<Stamp>),
}

/// What all requests have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) core: Arc<Core>,
    pub(crate) table: String,
    pub(crate) timeout: Option<Duration>,
    pub(crate) trace: TraceId,
    /// The name of a write that has one already.
    pub(crate) named: Option<Box<Named>>,
    /// No attempt follows one that may have been applied.
    pub(crate) once: bool,
}

impl Common {
    pub(crate) fn new(core: Arc<Core>) -> Common {
        Common {
            core,
            table: String::new(),
            timeout: None,
            trace: TraceId(0),
            named: None,
            once: false,
        }
    }

    pub(crate) fn header(&self, remaining: Duration) -> Option<v1::RequestHeader> {
        Some(convert::header(&self.table, self.trace, remaining))
    }
}

macro_rules! common_options {
    () => {
        /// Chooses the table; "default" when left out.
        pub fn table(mut self, table: impl Into<String>) -> Self {
            self.common.table = table.into();
            self
        }

        /// Sets how long the request may take over all its attempts; the client's default when
        /// left out.
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.common.timeout = Some(timeout);
            self
        }

        /// Sets an id that comes back in the receipt and stands in the servers' logs.
        pub fn trace(mut self, trace: crate::types::TraceId) -> Self {
            self.common.trace = trace;
            self
        }
    };
}
pub(crate) use common_options;

macro_rules! batch_options {
    () => {
        /// Its table and its key.
        pub(super) fn place(&self) -> (String, Bytes) {
            (self.common.table.clone(), self.key.clone())
        }

        /// Lets it take no longer than `most`.
        pub(super) fn within(mut self, most: Duration) -> Self {
            let own = self.common.timeout.unwrap_or(self.common.core.timeout);
            self.common.timeout = Some(own.min(most));
            self
        }
    };
}
pub(super) use batch_options;

macro_rules! write_options {
    () => {
        /// Sends the write under a name of [`Client::new_write`](crate::client::Client::new_write),
        /// which no write has been sent under yet.
        pub fn named(mut self, write: &crate::client::WriteId) -> Self {
            let named = super::attempt::Named { write: *write, again: false };
            self.common.named = Some(Box::new(named));
            self
        }

        /// Sends a write that may have been sent before, by this program or another, once more: the
        /// same write of the same key. Linearizable tables make it once at most; tables of other
        /// kinds may make it again.
        pub fn again(mut self, write: &crate::client::WriteId) -> Self {
            let named = super::attempt::Named { write: *write, again: true };
            self.common.named = Some(Box::new(named));
            self
        }
    };
}
pub(crate) use write_options;

macro_rules! mode_options {
    () => {
        /// Counts stand-ins too, for owners that are away: the answer's receipt says for which. An error
        /// on tables that are never sloppy.
        pub fn sloppy(mut self) -> Self {
            self.mode = QuorumMode::Sloppy;
            self
        }

        /// Sets who may count; the table says when left out.
        pub fn mode(mut self, mode: QuorumMode) -> Self {
            self.mode = mode;
            self
        }

        /// Counts owners only, also on tables that are always sloppy.
        pub fn strict(mut self) -> Self {
            self.mode = QuorumMode::Strict;
            self
        }
    };
}
pub(super) use mode_options;

/// A read about to be sent: `.await` it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct GetRequest {
    common: Common,
    key: Bytes,
    r: Option<Quorum>,
    mode: QuorumMode,
    monotonic: bool,
    trace: bool,
}

impl GetRequest {
    pub(crate) fn new(core: Arc<Core>, key: Bytes) -> GetRequest {
        let (r, mode, monotonic, trace) = (None, QuorumMode::ByTable, false, false);
        GetRequest { common: Common::new(core), key, r, mode, monotonic, trace }
    }

    common_options!();
    mode_options!();
    batch_options!();

    /// Sets how many replicas must answer; the table's r when left out.
    pub fn r(mut self, r: Quorum) -> Self {
        self.r = Some(r);
        self
    }

    /// Answers only with what w owners hold, and writes it back to them first where they do not:
    /// no later read at the table's floors goes back behind it, whoever reads and whatever became of
    /// the write. One round trip more where replicas differ. An error together with
    /// [`GetRequest::sloppy`].
    pub fn monotonic(mut self) -> Self {
        self.monotonic = true;
        self
    }

    /// Has the coordinator tell when it asked each owner and when each answered
    /// ([`GetReply::trace`], [`Error::trace`]).
    pub fn waterfall(mut self) -> Self {
        self.trace = true;
        self
    }

    /// Reads all siblings of a key of a causal table, instead of failing when there are several.
    pub fn siblings(self) -> SiblingsRequest {
        SiblingsRequest(self)
    }

    pub(super) async fn run(self) -> Result<Answered, Error> {
        let (key, r) = (checked_key(self.key)?, self.r.map(convert::quorum));
        let (mode, monotonic, trace) = (convert::mode(self.mode), self.monotonic, self.trace);
        let body = op::Op::Get(v1::GetRequest { header: None, key, r, mode, monotonic, trace });
        Data { common: self.common, body }.run().await
    }
}

impl IntoFuture for GetRequest {
    type Output = Result<GetReply, Error>;
    type IntoFuture = Pending<GetReply>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Answered { value, expires, count, context, receipt, trace, .. } =
                self.run().await?;
            // One of several would be a guess, and none a lie.
            if count > 1 {
                return Err(Error::siblings(count));
            }
            Ok(GetReply { value, expires, context: Context::from(context), receipt, trace })
        })
    }
}

/// A time to live in whole milliseconds, rounded up; 0 for ever.
pub(super) fn whole_ms(ttl: Option<Duration>) -> u64 {
    let ms = ttl.map_or(0, |ttl| ttl.as_nanos().div_ceil(1_000_000).max(1));
    u64::try_from(ms).unwrap_or(u64::MAX)
}

/// Checks a key before it travels.
pub(crate) fn checked_key(key: Bytes) -> Result<Bytes, Error> {
    let len = key.len();
    match Key::new(key) {
        Ok(key) => Ok(key.bytes().clone()),
        Err(why) if len == 0 => Err(Error::new(ErrorCode::KeyEmpty, why.to_string())),
        Err(why) => Err(Error::new(ErrorCode::KeyTooLarge, why.to_string())),
    }
}

pub(super) fn checked_value(value: Bytes) -> Result<Bytes, Error> {
    Value::new(value).map(Value::into_bytes).map_err(|len| {
        let limit = limits::VALUE_BYTES_MAX;
        let message = format!("value has {len} bytes; the limit is {limit} bytes");
        Error::new(ErrorCode::ValueTooLarge, message)
    })
}

/// An operation of the data plane: the message as it will be sent, but for what differs between
/// attempts.
pub(super) struct Data {
    pub(super) common: Common,
    pub(super) body: op::Op,
}

impl Data {
    pub(super) async fn run(self) -> Result<Answered, Error> {
        self.common.core.run(&self, self.common.timeout).await
    }

    /// Sends one attempt; what the server has answered.
    pub(super) async fn answered(
        &self,
        endpoint: &Endpoint,
        this: Try,
    ) -> Result<answer::Answer, Error> {
        let message = self.message(this);
        match this.lane {
            Lane::Session => endpoint.session().ask(message, this.remaining).await,
            Lane::Unary => unary(endpoint, message, this.remaining).await,
        }
    }

    fn message(&self, this: Try) -> op::Op {
        let (header, attempt) =
            (self.common.header(this.remaining), this.attempt.map(convert::attempt));
        match self.body.clone() {
            op::Op::Get(get) => op::Op::Get(v1::GetRequest { header, ..get }),
            op::Op::Put(put) => op::Op::Put(v1::PutRequest { header, attempt, ..put }),
            op::Op::Delete(delete) => {
                op::Op::Delete(v1::DeleteRequest { header, attempt, ..delete })
            }
            op::Op::Cas(cas) => op::Op::Cas(v1::CasRequest { header, attempt, ..cas }),
            op::Op::Increment(add) => {
                op::Op::Increment(v1::IncrementRequest { header, attempt, ..add })
            }
            op::Op::GetOutcome(ask) => op::Op::GetOutcome(v1::GetOutcomeRequest { header, ..ask }),
            op::Op::Batch(batch) => op::Op::Batch(v1::BatchRequest { header, attempt, ..batch }),
        }
    }
}

impl Operation for Data {
    type Answer = Answered;

    fn is_write(&self) -> bool {
        is_write(&self.body)
    }

    fn place(&self) -> Place<'_> {
        let key = match &self.body {
            op::Op::Get(get) => &get.key,
            op::Op::Put(put) => &put.key,
            op::Op::Delete(delete) => &delete.key,
            op::Op::Cas(cas) => &cas.key,
            op::Op::Increment(add) => &add.key,
            op::Op::GetOutcome(ask) => &ask.key,
            op::Op::Batch(batch) => match batch.items.first() {
                Some(first) => &first.key,
                None => return Place::Anywhere,
            },
        };
        Place::Key { table: &self.common.table, key }
    }

    fn named(&self) -> Option<&Named> {
        self.common.named.as_deref()
    }

    fn is_quick(&self) -> bool {
        // One that compares waits its turn, and given up early it is in the way of its own next one. An
        // increment may too; and one of a causal table that is sent again can count twice.
        !matches!(self.body, op::Op::Cas(_) | op::Op::GetOutcome(_) | op::Op::Increment(_))
    }

    fn is_once(&self) -> bool {
        self.common.once
    }

    fn receipt(answered: &Self::Answer) -> Option<&Receipt> {
        Some(&answered.receipt)
    }

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Self::Answer, Error> {
        match (&self.body, self.answered(endpoint, this).await?) {
            (op::Op::Get(_), answer::Answer::Get(got)) => {
                let receipt = convert::receipt(got.receipt)?;
                let value = got.found.then_some(got.value);
                let expires = got.expires_ns.map(WallTime).filter(|_| value.is_some());
                let (siblings, count) = (got.siblings, got.sibling_count);
                let trace = waterfall(got.trace, got.total_ns);
                let (context, verdict) = (got.context, Verdict::None);
                Ok(Answered { value, expires, siblings, count, context, receipt, verdict, trace })
            }
            (op::Op::Put(_), answer::Answer::Put(put)) => {
                let trace = waterfall(put.trace, put.total_ns);
                Ok(Answered { trace, ..wrote(put.receipt, put.context, put.sibling_count)? })
            }
            (op::Op::Delete(_), answer::Answer::Delete(gone)) => {
                let trace = waterfall(gone.trace, gone.total_ns);
                Ok(Answered { trace, ..wrote(gone.receipt, gone.context, gone.sibling_count)? })
            }
            (op::Op::Cas(_), answer::Answer::Cas(cas)) => {
                let (applied, current) = (cas.applied, cas.current);
                let verdict = Verdict::Compared { applied, current };
                Ok(Answered { verdict, ..wrote(cas.receipt, Bytes::new(), 0)? })
            }
            (op::Op::Increment(_), answer::Answer::Increment(made)) => {
                let verdict = Verdict::Added(made.value);
                let trace = waterfall(made.trace, made.total_ns);
                Ok(Answered { verdict, trace, ..wrote(made.receipt, Bytes::new(), 0)? })
            }
            (op::Op::GetOutcome(_), answer::Answer::GetOutcome(told)) => {
                let verdict = Verdict::Told(fate(&told)?);
                Ok(Answered { verdict, ..wrote(told.receipt, Bytes::new(), 0)? })
            }
            _ => Err(convert::malformed("an answer of another kind")),
        }
    }
}

fn wrote(receipt: Option<v1::Receipt>, context: Bytes, count: u32) -> Result<Answered, Error> {
    let receipt = convert::receipt(receipt)?;
    let (value, expires, siblings, verdict) = (None, None, Vec::new(), Verdict::None);
    Ok(Answered { value, expires, siblings, count, context, receipt, verdict, trace: None })
}

fn fate(told: &v1::GetOutcomeResponse) -> Result<Option<Stamp>, Error> {
    use v1::get_outcome_response::Fate;
    match Fate::try_from(told.fate) {
        Ok(Fate::Applied) => convert::stamp(&told.stamp).map(Some),
        Ok(Fate::Cancelled) => Ok(None),
        Ok(Fate::Unspecified) | Err(_) => Err(convert::malformed("an outcome that is none")),
    }
}

/// Whether an operation may change what is there. A question after a write settles it, but asked
/// twice it is answered the same.
pub(super) fn is_write(op: &op::Op) -> bool {
    match op {
        op::Op::Put(_)
        | op::Op::Delete(_)
        | op::Op::Cas(_)
        | op::Op::Increment(_)
        | op::Op::Batch(_) => true,
        op::Op::Get(_) | op::Op::GetOutcome(_) => false,
    }
}

/// One call on its own.
async fn unary(
    endpoint: &Endpoint,
    message: op::Op,
    remaining: Duration,
) -> Result<answer::Answer, Error> {
    fn timed<T>(message: T, remaining: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(remaining);
        request
    }
    let write = is_write(&message);
    let mut kv = endpoint.kv();
    let answered = match message {
        op::Op::Get(get) => {
            let got = kv.get(timed(get, remaining)).await;
            got.map(|got| answer::Answer::Get(got.into_inner()))
        }
        op::Op::Put(put) => {
            let put = kv.put(timed(put, remaining)).await;
            put.map(|put| answer::Answer::Put(put.into_inner()))
        }
        op::Op::Delete(delete) => {
            let deleted = kv.delete(timed(delete, remaining)).await;
            deleted.map(|deleted| answer::Answer::Delete(deleted.into_inner()))
        }
        op::Op::Cas(cas) => {
            let cas = kv.cas(timed(cas, remaining)).await;
            cas.map(|cas| answer::Answer::Cas(cas.into_inner()))
        }
        op::Op::Increment(add) => {
            let made = kv.increment(timed(add, remaining)).await;
            made.map(|made| answer::Answer::Increment(made.into_inner()))
        }
        op::Op::GetOutcome(ask) => {
            let told = kv.get_outcome(timed(ask, remaining)).await;
            told.map(|told| answer::Answer::GetOutcome(told.into_inner()))
        }
        op::Op::Batch(batch) => {
            let made = kv.batch(timed(batch, remaining)).await;
            made.map(|made| answer::Answer::Batch(made.into_inner()))
        }
    };
    answered.map_err(|status| from_status(&status, write))
}

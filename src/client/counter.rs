//! Counters: keys of causal and linearizable tables that are added to.

use core::time::Duration;
use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;

use crate::message::{QuorumMode, Receipt};
use crate::types::Quorum;
use crate::wire::proto::v1::{self, session_request::op};

use super::call::Core;
use super::data::{
    Answered, Common, Data, Pending, Trace, Verdict, batch_options, checked_key, common_options,
    mode_options, write_options,
};
use super::{Error, convert};

/// An increment that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incremented {
    /// Of a linearizable table: what this increment has made of the key; `None` when an attempt whose
    /// answer was lost had made it, and the key has been changed since. Of a causal table: what the
    /// node that made it then held; increments of others may be missing.
    pub value: Option<i64>,
    /// What the answer rests on.
    pub receipt: Receipt,
    /// Its waterfall, when that was asked for ([`IncrementRequest::waterfall`]).
    pub trace: Option<Box<Trace>>,
}

/// An increment about to be sent: `.await` it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct IncrementRequest {
    common: Common,
    key: Bytes,
    by: i64,
    w: Option<Quorum>,
    mode: QuorumMode,
    trace: bool,
}

impl IncrementRequest {
    pub(crate) fn new(core: Arc<Core>, key: Bytes, by: i64) -> IncrementRequest {
        let (w, mode, trace) = (None, QuorumMode::ByTable, false);
        IncrementRequest { common: Common::new(core), key, by, w, mode, trace }
    }

    common_options!();
    mode_options!();
    write_options!();
    batch_options!();

    /// Sets how many replicas must acknowledge; the table's w when left out.
    pub fn w(mut self, w: Quorum) -> Self {
        self.w = Some(w);
        self
    }

    /// Does not try again once an attempt may have counted: the error then says that it is not known.
    /// Without this an increment of a causal table that is tried again can count twice; one of a
    /// linearizable table never does.
    pub fn once(mut self) -> Self {
        self.common.once = true;
        self
    }

    /// As [`GetRequest::waterfall`](super::GetRequest::waterfall).
    pub fn waterfall(mut self) -> Self {
        self.trace = true;
        self
    }

    async fn run(self) -> Result<Incremented, Error> {
        let (key, by, trace) = (checked_key(self.key)?, Some(self.by), self.trace);
        let (w, mode) = (self.w.map(convert::quorum), convert::mode(self.mode));
        let (header, attempt) = (None, None);
        let add = v1::IncrementRequest { header, key, by, w, attempt, mode, trace };
        let body = op::Op::Increment(add);
        match (Data { common: self.common, body }).run().await? {
            Answered { receipt, verdict: Verdict::Added(value), trace, .. } => {
                Ok(Incremented { value, receipt, trace })
            }
            _ => Err(convert::malformed("an answer of another kind")),
        }
    }
}

impl IntoFuture for IncrementRequest {
    type Output = Result<Incremented, Error>;
    type IntoFuture = Pending<Incremented>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

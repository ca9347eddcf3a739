//! Writes and deletes of one key.

use core::time::Duration;
use std::future::IntoFuture;
use std::sync::Arc;

use bytes::Bytes;

use crate::message::{QuorumMode, Receipt};
use crate::types::{Quorum, WallTime};
use crate::wire::proto::v1::{self, session_request::op};

use super::atomic::{Together, not_plain};
use super::call::Core;
use super::causal::{Context, Write, WrittenRequest};
use super::data::{
    Answered, Common, Data, Pending, batch_options, checked_key, checked_value, common_options,
    mode_options, whole_ms, write_options,
};
use super::{Error, convert};

/// A write about to be sent: `.await` it for its receipt.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct PutRequest {
    common: Common,
    key: Bytes,
    value: Bytes,
    ttl_ms: Option<u64>,
    time_ns: Option<u64>,
    w: Option<Quorum>,
    r: Option<Quorum>,
    mode: QuorumMode,
    context: Context,
    trace: bool,
}

impl PutRequest {
    pub(crate) fn new(core: Arc<Core>, key: Bytes, value: Bytes) -> PutRequest {
        let (w, r, mode, context) = (None, None, QuorumMode::ByTable, Context::default());
        let (common, ttl_ms, time_ns) = (Common::new(core), None, None);
        let trace = false;
        PutRequest { common, key, value, ttl_ms, time_ns, w, r, mode, context, trace }
    }

    common_options!();
    mode_options!();
    write_options!();
    batch_options!();

    /// Sets how long the value lives, 100 ms to ten years, in whole milliseconds (rounded up);
    /// `None`: for ever. The table's default when left out. It counts from the stamp the write is
    /// given; a retry counts anew. A node's own clock decides when it stops showing the value.
    pub fn ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.ttl_ms = Some(whole_ms(ttl.into()));
        self
    }

    /// Sets how many replicas must acknowledge; the table's w when left out.
    pub fn w(mut self, w: Quorum) -> Self {
        self.w = Some(w);
        self
    }

    /// Says with which r this key will be read; only the receipt's `weak` depends on it.
    pub fn r(mut self, r: Quorum) -> Self {
        self.r = Some(r);
        self
    }

    /// Gives the version this time, at most 100 ms ahead of the server's clock, instead of the
    /// server's. It takes the place of versions with earlier times alone, also when they were written
    /// after it: it may be acknowledged and never be seen ([`Receipt::superseded_by`]). `lww` tables
    /// only.
    pub fn time(mut self, time: WallTime) -> Self {
        self.time_ns = Some(time.0);
        self
    }

    /// Has the coordinator tell when it asked each owner and when each answered ([`Error::trace`], and
    /// with [`PutRequest::returning_context`] [`Written::trace`](super::Written::trace)).
    pub fn waterfall(mut self) -> Self {
        self.trace = true;
        self
    }
}

impl PutRequest {
    /// Takes the place of everything that `context` has seen. In a causal table a put without a
    /// context takes the place of nothing: its value stands beside what is there.
    pub fn context(mut self, context: &Context) -> Self {
        self.context = context.clone();
        self
    }

    /// The same, answered with the context for the next write of the key.
    pub fn returning_context(self) -> WrittenRequest {
        WrittenRequest(Write::Put(self))
    }

    /// As an item of an atomic batch, with what else the batch must know of it.
    pub(super) fn together(self) -> Result<(Together, v1::batch_request::Item), Error> {
        let plain = self.time_ns.is_none()
            && self.context.bytes().is_empty()
            && self.mode == QuorumMode::ByTable
            && self.common.named.is_none()
            && !self.trace;
        if !plain {
            return Err(not_plain());
        }
        let key = checked_key(self.key)?;
        let about = Together { table: self.common.table, w: self.w };
        Ok((
            about,
            v1::batch_request::Item {
                key,
                value: Some(checked_value(self.value)?),
                ttl_ms: self.ttl_ms,
            },
        ))
    }

    pub(super) async fn run(self) -> Result<Answered, Error> {
        let (key, value) = (checked_key(self.key)?, checked_value(self.value)?);
        let [w, r] = [self.w, self.r].map(|quorum| quorum.map(convert::quorum));
        let (header, attempt, ttl_ms, context) = (None, None, self.ttl_ms, self.context.bytes());
        let mode = convert::mode(self.mode);
        let (time_ns, trace) = (self.time_ns, self.trace);
        let body = op::Op::Put(v1::PutRequest {
            header,
            key,
            value,
            w,
            r,
            attempt,
            ttl_ms,
            time_ns,
            mode,
            context,
            trace,
        });
        Data { common: self.common, body }.run().await
    }
}

impl IntoFuture for PutRequest {
    type Output = Result<Receipt, Error>;
    type IntoFuture = Pending<Receipt>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Ok(self.run().await?.receipt) })
    }
}

/// A delete about to be sent: `.await` it for its receipt.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct DeleteRequest {
    common: Common,
    key: Bytes,
    time_ns: Option<u64>,
    w: Option<Quorum>,
    r: Option<Quorum>,
    mode: QuorumMode,
    context: Context,
    trace: bool,
}

impl DeleteRequest {
    pub(crate) fn new(core: Arc<Core>, key: Bytes) -> DeleteRequest {
        let (w, r, mode, context) = (None, None, QuorumMode::ByTable, Context::default());
        let (common, time_ns, trace) = (Common::new(core), None, false);
        DeleteRequest { common, key, time_ns, w, r, mode, context, trace }
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

    /// Says with which r this key will be read; only the receipt's `weak` depends on it.
    pub fn r(mut self, r: Quorum) -> Self {
        self.r = Some(r);
        self
    }

    /// Gives the delete this time, as [`PutRequest::time`]: only versions with earlier times are gone.
    /// `lww` tables only.
    pub fn time(mut self, time: WallTime) -> Self {
        self.time_ns = Some(time.0);
        self
    }

    /// As [`PutRequest::waterfall`].
    pub fn waterfall(mut self) -> Self {
        self.trace = true;
        self
    }
}

impl DeleteRequest {
    /// Deletes everything that `context` has seen, and nothing else. In a causal table a delete
    /// without a context deletes what a read finds.
    pub fn context(mut self, context: &Context) -> Self {
        self.context = context.clone();
        self
    }

    /// The same, answered with the context for the next write of the key.
    pub fn returning_context(self) -> WrittenRequest {
        WrittenRequest(Write::Delete(self))
    }

    /// As an item of an atomic batch, with what else the batch must know of it.
    pub(super) fn together(self) -> Result<(Together, v1::batch_request::Item), Error> {
        let plain = self.time_ns.is_none()
            && self.context.bytes().is_empty()
            && self.mode == QuorumMode::ByTable
            && self.common.named.is_none()
            && !self.trace;
        if !plain {
            return Err(not_plain());
        }
        let key = checked_key(self.key)?;
        let about = Together { table: self.common.table, w: self.w };
        Ok((about, v1::batch_request::Item { key, value: None, ttl_ms: None }))
    }

    pub(super) async fn run(self) -> Result<Answered, Error> {
        let key = checked_key(self.key)?;
        let [w, r] = [self.w, self.r].map(|quorum| quorum.map(convert::quorum));
        let (header, attempt, context) = (None, None, self.context.bytes());
        let mode = convert::mode(self.mode);
        let (time_ns, trace) = (self.time_ns, self.trace);
        let body = op::Op::Delete(v1::DeleteRequest {
            header,
            key,
            w,
            r,
            attempt,
            mode,
            context,
            trace,
            time_ns,
        });
        Data { common: self.common, body }.run().await
    }
}

impl IntoFuture for DeleteRequest {
    type Output = Result<Receipt, Error>;
    type IntoFuture = Pending<Receipt>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Ok(self.run().await?.receipt) })
    }
}

//! Watches: changes of a table as its owners apply them, as a stream of one node. When the stream breaks,
//! or says nothing for long, another is begun where it stood, at another node: the reader does not notice,
//! but for changes that are told again.

use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio_stream::Stream;
use tonic::{Request, Status, Streaming};

use crate::types::{Epoch, Stamp, WallTime};
use crate::wire::proto::v1;
use crate::wire::proto::v1::watch_response::event::Event as Wire;

use super::call::{Core, Operation, Try};
use super::data::{Common, common_options};
use super::endpoint::Endpoint;
use super::pool::Place;
use super::status_error::from_status;
use super::{Error, convert};

/// How long a node that says nothing is listened to: there is a sign of life every second.
const SILENT_MAX: Duration = Duration::from_secs(5);
/// How long nodes are tried when a watch has broken, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two rounds of tries.
const PAUSE: Duration = Duration::from_millis(200);

/// What a key holds since an owner has applied something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyChange {
    /// The key.
    pub key: Bytes,
    /// Its version; in causal tables the highest stamp that the key has seen.
    pub stamp: Stamp,
    /// It has no value any more: it was deleted.
    pub deleted: bool,
    /// When the value expires; `None`: never. Nothing is told when it does.
    pub expires: Option<WallTime>,
    /// How many siblings it has; 1 in tables of other kinds than causal, 0 of a delete.
    pub siblings: u32,
    /// The value, where values were asked for.
    pub value: Option<Bytes>,
    /// It was asked for and is not here: it is above 64 KiB, or one of several. Get the key.
    pub value_left_out: bool,
}

/// Changes may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchGap {
    /// Why: `restarted`, `overrun`, `unreachable` or `owners-changed`; newer servers may have others.
    pub reason: String,
    /// Of which partitions; the first 1024.
    pub partitions: Vec<u32>,
    /// Of how many.
    pub count: u32,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// What is put from now on is told, or a gap is. Once, unless the watch breaks before its first
    /// token; not of one that goes on from a token.
    Began,
    /// A key has changed.
    Change(KeyChange),
    /// Changes may be missing from here to the next [`WatchEvent::Whole`].
    Gap(WatchGap),
    /// Enough owners are followed again. Whoever reads the keys now has missed nothing.
    Whole,
}

/// What came in one message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchBatch {
    /// In order; none is a sign of life.
    pub events: Vec<WatchEvent>,
    /// Where to go on behind them, with [`WatchRequest::from_token`].
    pub token: Bytes,
    /// The epoch whose owners are followed.
    pub epoch: Epoch,
}

/// A watch about to begin: ask it for [`WatchRequest::events`] or [`WatchRequest::batches`].
#[derive(Clone, Debug)]
#[must_use = "a watch begins when its stream is read"]
pub struct WatchRequest {
    common: Common,
    prefix: Bytes,
    values: bool,
    token: Bytes,
    patience: Duration,
}

impl WatchRequest {
    pub(crate) fn new(core: Arc<Core>) -> WatchRequest {
        let (prefix, values, token) = (Bytes::new(), false, Bytes::new());
        WatchRequest { common: Common::new(core), prefix, values, token, patience: PATIENCE }
    }

    common_options!();

    /// Only keys that begin with `prefix`.
    pub fn prefix(mut self, prefix: impl Into<Bytes>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// With the values that the keys hold when their changes are told.
    pub fn values(mut self) -> Self {
        self.values = true;
        self
    }

    /// Goes on behind what another watch of the table has told, instead of from now on.
    pub fn from_token(mut self, token: impl Into<Bytes>) -> Self {
        self.token = token.into();
        self
    }

    /// Sets for how long nodes are tried when the watch has broken before it fails; a minute when left
    /// out. `timeout` is that of each round of tries.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The watch, event by event. It ends with the first error: one that no other node could mend.
    pub fn events(self) -> WatchEvents {
        let token = self.token.clone();
        WatchEvents { batches: self.batches(), events: VecDeque::new(), token, next: None }
    }

    /// The same, message by message.
    pub fn batches(self) -> WatchBatches {
        WatchBatches { state: State::Idle(Box::new((self, None))) }
    }

    /// The next message, of the stream that is open or of another one that goes on where it stood.
    async fn next(&mut self, open: &mut Option<Open>) -> Result<WatchBatch, Error> {
        if let Some(stream) = open {
            let message = tokio::time::timeout(SILENT_MAX, stream.message());
            match message.await {
                Ok(Ok(Some(response))) => return self.take(response),
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(status)) => {
                    let error = from_status(&status, false);
                    if !error.is_retryable() {
                        return Err(error);
                    }
                }
            }
            *open = None;
        }
        let (response, stream) = self.open().await?;
        *open = Some(stream);
        self.take(response)
    }

    async fn open(&self) -> Result<(v1::WatchResponse, Open), Error> {
        let core = &self.common.core;
        let until = core.clock.now().plus(self.patience);
        loop {
            match core.run(self, self.common.timeout).await {
                Ok(opened) => return Ok(opened),
                Err(error) if !error.is_retryable() || core.clock.now() >= until => {
                    return Err(error);
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn take(&mut self, response: v1::WatchResponse) -> Result<WatchBatch, Error> {
        let v1::WatchResponse { events, token, epoch } = response;
        let events = events.into_iter().filter_map(|event| event.event);
        let events = events.map(|event| self.event(event)).collect::<Result<_, _>>()?;
        self.token.clone_from(&token);
        Ok(WatchBatch { events, token, epoch: Epoch(epoch) })
    }

    fn event(&self, event: Wire) -> Result<WatchEvent, Error> {
        Ok(match event {
            Wire::Began(_) => WatchEvent::Began,
            Wire::Whole(_) => WatchEvent::Whole,
            Wire::Gap(v1::watch_response::Gap { reason, partitions, count }) => {
                WatchEvent::Gap(WatchGap { reason, partitions, count })
            }
            Wire::Change(change) => {
                let has_value = self.values && !change.deleted && !change.value_left_out;
                WatchEvent::Change(KeyChange {
                    key: change.key,
                    stamp: convert::stamp(&change.stamp)?,
                    deleted: change.deleted,
                    expires: change.expires_ns.map(WallTime),
                    siblings: change.sibling_count,
                    value: has_value.then_some(change.value),
                    value_left_out: change.value_left_out,
                })
            }
        })
    }
}

type Open = Streaming<v1::WatchResponse>;

impl Operation for WatchRequest {
    type Answer = (v1::WatchResponse, Open);

    fn place(&self) -> Place<'_> {
        Place::Anywhere
    }

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Self::Answer, Error> {
        let request = Request::new(v1::WatchRequest {
            header: self.common.header(this.remaining),
            prefix: self.prefix.clone(),
            values: self.values,
            token: self.token.clone(),
        });
        let from_status = |status: Status| from_status(&status, false);
        let mut stream = endpoint.kv().watch(request).await.map_err(from_status)?.into_inner();
        match stream.message().await.map_err(from_status)? {
            Some(response) => Ok((response, stream)),
            None => Err(Error::unavailable("a watch ended before it had begun")),
        }
    }
}

type Watched = Box<(WatchRequest, Option<Open>)>;
type NextBatch = Pin<Box<dyn Future<Output = (Watched, Result<WatchBatch, Error>)> + Send>>;

enum State {
    Idle(Watched),
    Reading(NextBatch),
    Ended,
}

/// A watch, message by message.
pub struct WatchBatches {
    state: State,
}

impl core::fmt::Debug for WatchBatches {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WatchBatches").finish_non_exhaustive()
    }
}

impl Stream for WatchBatches {
    type Item = Result<WatchBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let State::Idle(_) = self.state
            && let State::Idle(mut watched) = core::mem::replace(&mut self.state, State::Ended)
        {
            self.state = State::Reading(Box::pin(async move {
                let (request, open) = &mut *watched;
                let batch = request.next(open).await;
                (watched, batch)
            }));
        }
        let State::Reading(reading) = &mut self.state else { return Poll::Ready(None) };
        let Poll::Ready((watched, batch)) = reading.as_mut().poll(cx) else { return Poll::Pending };
        self.state = if batch.is_ok() { State::Idle(watched) } else { State::Ended };
        Poll::Ready(Some(batch))
    }
}

/// A watch, event by event. Holds one message.
#[derive(Debug)]
pub struct WatchEvents {
    batches: WatchBatches,
    events: VecDeque<WatchEvent>,
    token: Bytes,
    /// The token behind the events that are held.
    next: Option<Bytes>,
}

impl WatchEvents {
    /// Where to go on, with [`WatchRequest::from_token`]: behind no event that was not given, and some
    /// that were may be told again. Empty until there is one.
    pub fn token(&self) -> Bytes {
        self.token.clone()
    }
}

impl Stream for WatchEvents {
    type Item = Result<WatchEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            // All that it stands behind has been given, and worked on: another one is asked for.
            if let Some(token) = self.next.take() {
                self.token = token;
            }
            match Pin::new(&mut self.batches).poll_next(cx) {
                Poll::Ready(Some(Ok(batch))) => {
                    self.events = batch.events.into();
                    self.next = Some(batch.token);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

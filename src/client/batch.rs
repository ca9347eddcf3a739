//! Many requests at once: each has its own outcome, and travels with the others on the streams that all requests
//! share. Nothing is atomic over them, unless [`BatchRequest::atomic`] asks for it.

use core::time::Duration;
use std::collections::HashMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::message::{ErrorCode, Receipt};
use crate::types::Time;

use super::call::Core;
use super::{
    CasReply, CasRequest, DeleteRequest, Error, GetReply, GetRequest, IncrementRequest,
    Incremented, PutRequest, atomic,
};

/// Keys that are asked for at once: as many requests as keep the streams of a few nodes busy, and less than they
/// make others wait for.
const KEYS_IN_FLIGHT: usize = 256;

/// One request of a batch, made like any other request, with its table and its options.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when its batch is awaited"]
pub enum BatchItem {
    /// A read.
    Get(GetRequest),
    /// A write.
    Put(PutRequest),
    /// A delete.
    Delete(DeleteRequest),
    /// A compare-and-set.
    Cas(CasRequest),
    /// An increment.
    Increment(IncrementRequest),
}

/// What one request of a batch was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchReply {
    /// To a read: what it found.
    Get(GetReply),
    /// To a write: it was made.
    Put(Receipt),
    /// To a delete: it was made.
    Delete(Receipt),
    /// To a compare-and-set: whether it was made.
    Cas(CasReply),
    /// To an increment: what the key holds now, as far as that is known.
    Increment(Incremented),
}

impl From<GetRequest> for BatchItem {
    fn from(get: GetRequest) -> BatchItem {
        BatchItem::Get(get)
    }
}

impl From<PutRequest> for BatchItem {
    fn from(put: PutRequest) -> BatchItem {
        BatchItem::Put(put)
    }
}

impl From<DeleteRequest> for BatchItem {
    fn from(delete: DeleteRequest) -> BatchItem {
        BatchItem::Delete(delete)
    }
}

impl From<CasRequest> for BatchItem {
    fn from(cas: CasRequest) -> BatchItem {
        BatchItem::Cas(cas)
    }
}

impl From<IncrementRequest> for BatchItem {
    fn from(increment: IncrementRequest) -> BatchItem {
        BatchItem::Increment(increment)
    }
}

impl BatchItem {
    /// Its table and its key: requests that have the same go one after the other.
    fn place(&self) -> (String, Bytes) {
        match self {
            BatchItem::Get(get) => get.place(),
            BatchItem::Put(put) => put.place(),
            BatchItem::Delete(delete) => delete.place(),
            BatchItem::Cas(cas) => cas.place(),
            BatchItem::Increment(increment) => increment.place(),
        }
    }

    /// Sends it; it takes no longer than `most`.
    async fn run(self, most: Duration) -> Result<BatchReply, Error> {
        match self {
            BatchItem::Get(get) => get.within(most).await.map(BatchReply::Get),
            BatchItem::Put(put) => put.within(most).await.map(BatchReply::Put),
            BatchItem::Delete(delete) => delete.within(most).await.map(BatchReply::Delete),
            BatchItem::Cas(cas) => cas.within(most).await.map(BatchReply::Cas),
            BatchItem::Increment(increment) => {
                increment.within(most).await.map(BatchReply::Increment)
            }
        }
    }
}

/// Many requests about to be sent: `.await` them for the outcome of each, in the order given.
///
/// Requests for one key are carried out one after the other, as given; those for different keys overtake each other. A
/// request that fails keeps no other one from being carried out. Dropping the future gives up those that are under
/// way; what becomes of them is then not known.
#[derive(Clone, Debug)]
#[must_use = "requests are sent when they are awaited"]
pub struct BatchRequest {
    core: Arc<Core>,
    items: Vec<BatchItem>,
    timeout: Option<Duration>,
    atomic: bool,
}

impl BatchRequest {
    pub(crate) fn new(core: Arc<Core>, items: Vec<BatchItem>) -> BatchRequest {
        BatchRequest { core, items, timeout: None, atomic: false }
    }

    /// Adds a request.
    pub fn with(mut self, item: impl Into<BatchItem>) -> Self {
        self.items.push(item.into());
        self
    }

    /// Sets how long all of it may take; the client's default when left out. A request that has a timeout of its
    /// own has the shorter one. One whose turn does not come in time was not sent: `DEADLINE_EXCEEDED`, not
    /// applied.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes the writes of one table whose keys are of one partition together: all of them or none, with one
    /// stamp, and one outcome for all. Keys with the same `{tag}` are of one partition. Puts and deletes of
    /// different keys of lww tables only, with no other options than a table, a w and a time to live: at most
    /// [`BATCH_ITEMS_MAX`](crate::types::limits::BATCH_ITEMS_MAX) of a table, and
    /// [`BATCH_BYTES_MAX`](crate::types::limits::BATCH_BYTES_MAX) bytes of keys and values (`BATCH_TOO_LARGE`).
    /// When one of them cannot be part of it nothing is sent. Reads meanwhile may see some of the writes and not
    /// others yet.
    pub fn atomic(mut self) -> Self {
        self.atomic = true;
        self
    }

    async fn run(self) -> Vec<Result<BatchReply, Error>> {
        let BatchRequest { core, items, timeout, atomic } = self;
        let deadline = core.clock.now().plus(timeout.unwrap_or(core.timeout));
        if atomic {
            return atomic::run(core, items, deadline).await;
        }
        let mut outcomes: Vec<_> = items.iter().map(|_| Err(not_sent())).collect();
        let mut queues = by_key(items).into_iter();
        let mut running = JoinSet::new();
        for queue in queues.by_ref().take(KEYS_IN_FLIGHT) {
            running.spawn(one_by_one(core.clone(), queue, deadline));
        }
        while let Some(ended) = running.join_next().await {
            if let Some(queue) = queues.next() {
                running.spawn(one_by_one(core.clone(), queue, deadline));
            }
            // Nobody aborts them: one that did not end well has a defect to show.
            let ended = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            for (at, outcome) in ended {
                if let Some(slot) = outcomes.get_mut(at) {
                    *slot = outcome;
                }
            }
        }
        outcomes
    }
}

impl IntoFuture for BatchRequest {
    type Output = Vec<Result<BatchReply, Error>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Reads of many keys about to be sent: `.await` them for what each found, in the order given.
#[derive(Clone, Debug)]
#[must_use = "requests are sent when they are awaited"]
pub struct GetManyRequest(BatchRequest);

impl GetManyRequest {
    pub(crate) fn new(batch: BatchRequest) -> GetManyRequest {
        GetManyRequest(batch)
    }

    fn each(mut self, change: impl Fn(GetRequest) -> GetRequest) -> Self {
        let of = |item| match item {
            BatchItem::Get(get) => BatchItem::Get(change(get)),
            other => other,
        };
        self.0.items = self.0.items.into_iter().map(of).collect();
        self
    }

    /// Chooses the table; "default" when left out.
    pub fn table(self, table: impl Into<String>) -> Self {
        let table = table.into();
        self.each(|get| get.table(table.clone()))
    }

    /// Sets how many replicas must answer for each key; the table's r when left out.
    pub fn r(self, r: super::Quorum) -> Self {
        self.each(|get| get.r(r))
    }

    /// Sets how long all of it may take, as [`BatchRequest::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for GetManyRequest {
    type Output = Vec<Result<GetReply, Error>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let read = |outcome: Result<BatchReply, Error>| match outcome? {
            BatchReply::Get(reply) => Ok(reply),
            _ => Err(super::convert::malformed("an answer of another kind")),
        };
        Box::pin(async move { self.0.run().await.into_iter().map(read).collect() })
    }
}

type Queue = Vec<(usize, BatchItem)>;

/// The requests of each key, with their places in the batch; in the order in which keys first come.
fn by_key(items: Vec<BatchItem>) -> Vec<Queue> {
    let mut queues: Vec<Queue> = Vec::new();
    let mut known = HashMap::new();
    for (at, item) in items.into_iter().enumerate() {
        let place = if crate::mutant!("batch-keys-overtake") {
            (at.to_string(), Bytes::new())
        } else {
            item.place()
        };
        let queue = *known.entry(place).or_insert_with(|| {
            queues.push(Queue::new());
            queues.len() - 1
        });
        if let Some(queue) = queues.get_mut(queue) {
            queue.push((at, item));
        }
    }
    queues
}

async fn one_by_one(
    core: Arc<Core>,
    queue: Queue,
    deadline: Time,
) -> Vec<(usize, Result<BatchReply, Error>)> {
    let mut outcomes = Vec::with_capacity(queue.len());
    for (at, item) in queue {
        let left = deadline.since(core.clock.now());
        let outcome = if left.is_zero() { Err(not_sent()) } else { item.run(left).await };
        outcomes.push((at, outcome));
    }
    outcomes
}

fn not_sent() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "the time for the batch was up before its turn came")
}

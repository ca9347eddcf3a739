//! The client library: reads, writes and scans over any number of endpoints, with retries of what
//! is safe, typed errors that say what is known of the outcome, and a receipt for every answer.
//!
//! ```no_run
//! use roundtable::client::{Client, Quorum};
//!
//! # async fn example() -> Result<(), roundtable::client::Error> {
//! let kv = Client::builder()
//!     .endpoints(["127.0.0.1:7450", "127.0.0.1:7460", "127.0.0.1:7470"])
//!     .timeout(std::time::Duration::from_secs(1))
//!     .connect_lazy()?;
//!
//! kv.put("user:42", "Ada").await?;
//! let reply = kv.get("user:42").r(Quorum::All).await?;
//! assert_eq!(reply.value.as_deref(), Some(&b"Ada"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! # Deadlines and retries
//! A timeout is a budget for the whole request, over all its attempts; each attempt tells the
//! server what is left of it. A read is tried again on any failure that another attempt may mend.
//! A write is tried again when the last attempt is known to have had no effect, or when it carried
//! a window of stamps, so that the next one, which is stamped above the window, wins over whatever
//! the last one may yet do; the servers treat both as one write. The window needs an idea of server
//! time, which comes with the first receipt of any request. Retries draw on a budget of their own:
//! when most requests fail, they stop multiplying the load.
//!
//! # Lanes
//! Requests travel over one stream per endpoint, many in a message when many are waiting; dropping
//! a request's future removes a map entry and leaves the connection alone. [`Lane::Unary`] makes
//! each request a call of its own instead.
//!
//! # The ring
//! Any node coordinates any request; an owner of the key does it with a hop less. With its first request
//! for data a client begins to follow the ring: from then on it asks members by the addresses they have
//! told, owners first, takes in those that join and forgets those that leave. The addresses it was given
//! stay for when no member can be asked. [`ClientBuilder::follow_ring`] turns it off.
//!
//! # What this module does not know
//! The server side: it speaks the published protocol only.

mod admin;
mod atomic;
mod attempt;
mod batch;
pub mod blocking;
mod budget;
mod builder;
mod call;
mod causal;
mod clock;
mod convert;
mod counter;
mod data;
mod endpoint;
mod entropy;
mod error;
mod events;
mod explain;
mod gc;
mod growth;
mod health;
mod hedge;
mod hints;
mod hot;
mod lineage;
mod outage;
mod patience;
mod plan;
mod pool;
mod register;
mod repair;
mod ring;
mod scan;
mod server_time;
mod session;
mod status_error;
mod tables;
mod update;
mod watch;
mod write;

use std::sync::Arc;

pub use crate::message::{Applied, ErrorCode, Facts, QuorumMode, Receipt};
pub use crate::message::{
    DraftReply, LinkLine, Liveness, MoveLine, MoveProgress, PlacedClass, PlacedMove, Placement,
    PlanProgress, RingMember, RingView, ShareLine, StuckLine,
};
pub use crate::types::{
    Epoch, MovePhase, NodeId, NodeName, PlanStatus, Quorum, Sloppy, Stamp, TableId, TableKind,
    TraceId, Unit, WallTime, Zone,
};

pub use admin::{
    Alarm, CompactRequest, FlushRequest, LocateRequest, Location, MetricsRequest, MirrorStatus,
    NodeStatus, ReserveStatus, ScrubRequest, ScrubStatus, Status, StatusRequest, UnwellBy,
};
pub use admin::{Version, VersionRequest};
pub use batch::{BatchItem, BatchReply, BatchRequest, GetManyRequest};
pub use builder::ClientBuilder;
pub use causal::{Context, Sibling, Siblings, SiblingsRequest, Written, WrittenRequest};
pub use counter::{IncrementRequest, Incremented};
pub use data::{GetReply, GetRequest, Trace, TraceStep};
pub use error::{Error, ErrorKind};
pub use events::{EventLine, Events, EventsRequest};
pub use explain::{
    ExplainRequest, Explanation, HeldVersion, OwnCopy, OwnerCopy, RegisterFacts, SiblingVersion,
};
pub use gc::{GcBlocker, GcRequest, GcStatus, GcUnit};
pub use growth::{Growth, GrowthProposal, GrowthShare};
pub use hints::{DirtyMark, HintLine, HintTotals, Hints, HintsRequest};
pub use hot::{Hot, HotKey, HotRequest, HotUnit};
pub use lineage::{ForceLineageRequest, Lineage};
pub use outage::{Outage, OutageLine, OutageReason, OutageRequest, OutageUnit};
pub use plan::{ChangePlanRequest, MemberInfo, Plans, Topology, TopologyRequest};
pub use register::{CasReply, CasRequest, FoundVersion, Outcome, OutcomeRequest, WriteId};
pub use repair::{
    KeyDifference, Repair, RepairGauges, RepairPair, RepairRequest, RunLine, UnitDifference,
    UnitName,
};
pub use ring::{RingRequest, RingWatch};
pub use scan::{Entries, Entry, Page, Pages, ScanRequest};
pub use tables::{
    AlterTableRequest, CreateTableRequest, DescribeTableRequest, DropTableRequest,
    ListTablesRequest, Table, TableList, Tables,
};
pub use update::{Change, UpdateRequest, Updated};
pub use watch::{
    KeyChange, WatchBatch, WatchBatches, WatchEvent, WatchEvents, WatchGap, WatchRequest,
};
pub use write::{DeleteRequest, PutRequest};

pub(crate) use clock::Clock;
pub(crate) use entropy::Entropy;

pub use call::Counts;

use call::Core;

/// How requests travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// Batched on one long-lived stream per endpoint: several times cheaper per request.
    #[default]
    Session,
    /// Each request is a gRPC call of its own.
    Unary,
}

/// A handle to a cluster. Cheap to clone; clones share connections, health and budgets.
#[derive(Clone, Debug)]
pub struct Client {
    core: Arc<Core>,
}

impl Client {
    /// Starts to configure a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// What this client and its clones have asked so far: requests, and attempts at them.
    pub fn counts(&self) -> Counts {
        self.core.counts.read()
    }

    /// Reads `key`.
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// if let Some(value) = kv.get("user:42").table("people").await?.value {
    ///     println!("{} bytes", value.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, key: impl Into<bytes::Bytes>) -> GetRequest {
        GetRequest::new(self.core.clone(), key.into())
    }

    /// Writes `value` under `key`.
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// use roundtable::client::{Applied, Quorum};
    /// match kv.put("user:42", "Ada").w(Quorum::All).await {
    ///     Ok(receipt) => println!("written as {}", receipt.stamp),
    ///     Err(error) if error.applied() == Applied::No => println!("nothing happened: {error}"),
    ///     Err(error) => println!("may have happened: {error}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn put(&self, key: impl Into<bytes::Bytes>, value: impl Into<bytes::Bytes>) -> PutRequest {
        PutRequest::new(self.core.clone(), key.into(), value.into())
    }

    /// Deletes `key`. Deleting an absent key succeeds.
    pub fn delete(&self, key: impl Into<bytes::Bytes>) -> DeleteRequest {
        DeleteRequest::new(self.core.clone(), key.into())
    }

    /// Sends many requests at once, each with an outcome of its own: see [`BatchRequest`].
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// let batch = kv.batch().with(kv.put("a", "1")).with(kv.put("b", "2")).with(kv.delete("c"));
    /// for outcome in batch.await {
    ///     outcome?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch(&self) -> BatchRequest {
        BatchRequest::new(self.core.clone(), Vec::new())
    }

    /// Reads many keys at once: what each holds, in the order given.
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// for found in kv.get_many(["user:41", "user:42"]).table("people").await {
    ///     println!("{:?}", found?.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_many(
        &self,
        keys: impl IntoIterator<Item = impl Into<bytes::Bytes>>,
    ) -> GetManyRequest {
        let items = keys.into_iter().map(|key| self.get(key).into()).collect();
        GetManyRequest::new(BatchRequest::new(self.core.clone(), items))
    }

    /// Writes `value` under `key` of a linearizable table if it holds what is expected: nothing,
    /// unless the request says otherwise.
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// let cas = kv.cas("seat:12", "Ada").table("seats").expect_absent().await?;
    /// if !cas.applied {
    ///     println!("taken by {:?}", cas.current.map(|current| current.value));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn cas(&self, key: impl Into<bytes::Bytes>, value: impl Into<bytes::Bytes>) -> CasRequest {
        CasRequest::new(self.core.clone(), key.into(), Some(value.into()))
    }

    /// Deletes `key` of a linearizable table if it holds what is expected.
    pub fn cas_delete(&self, key: impl Into<bytes::Bytes>) -> CasRequest {
        CasRequest::new(self.core.clone(), key.into(), None)
    }

    /// Adds `by` to the number that `key` of a causal or linearizable table holds; a key that is not there
    /// holds 0. Exact on linearizable tables. On causal ones an increment that was tried again can count
    /// twice ([`IncrementRequest::once`]), and the answer is what one node knew.
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// let sold = kv.increment("tickets", 1).table("sales").await?;
    /// println!("{:?} sold", sold.value);
    /// let value = kv.get("tickets").table("sales").await?.value;
    /// println!("in decimal: {value:?}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn increment(&self, key: impl Into<bytes::Bytes>, by: i64) -> IncrementRequest {
        IncrementRequest::new(self.core.clone(), key.into(), by)
    }

    /// Names a write before it is sent, for [`PutRequest::named`] and the like: a program that notes
    /// it down first can ask after the write, or send it [again](PutRequest::again), when it has crashed
    /// meanwhile. Ask
    /// the cluster something first, so that the servers' time is known: a write whose beginning
    /// nobody knows is taken for forgotten sooner.
    pub fn new_write(&self) -> WriteId {
        let since = self.core.server_time.estimate(self.core.clock.now()).unwrap_or_default();
        WriteId { id: self.core.entropy.request_id(), since, last: WallTime(0) }
    }

    /// Asks what became of a write of `key` of a linearizable table. The answer is final: a write
    /// that was not made by then never will be. [`Error::write`] names a write that failed.
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// use roundtable::client::Outcome;
    /// let Err(error) = kv.put("seat:12", "Ada").table("seats").await else { return Ok(()) };
    /// let Some(write) = error.write() else { return Err(error) };
    /// match kv.outcome("seat:12", write).table("seats").await? {
    ///     Outcome::Applied(stamp) => println!("made after all, as {stamp}"),
    ///     Outcome::Cancelled => println!("not made, and never will be"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn outcome(&self, key: impl Into<bytes::Bytes>, write: &WriteId) -> OutcomeRequest {
        OutcomeRequest::new(self.core.clone(), key.into(), *write)
    }

    /// Reads a key of a linearizable or causal table, changes what it holds, and writes that, without
    /// losing what others write meanwhile.
    ///
    /// ```no_run
    /// # async fn f(client: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// let count = client.update("visits").table("counters");
    /// let updated = count.run(|values| {
    ///     let text = values.first().map(|value| String::from_utf8_lossy(value).into_owned());
    ///     let count: u64 = text.and_then(|text| text.parse().ok()).unwrap_or(0);
    ///     (count + 1).to_string().into()
    /// }).await?;
    /// # Ok(()) }
    /// ```
    pub fn update(&self, key: impl Into<bytes::Bytes>) -> UpdateRequest {
        UpdateRequest::new(self.clone(), key.into())
    }

    /// Reads keys in byte order, page by page.
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// use tokio_stream::StreamExt;
    /// let mut entries = kv.scan().prefix("user:").limit(10_000).entries();
    /// while let Some(entry) = entries.next().await {
    ///     println!("{}", entry?.key.escape_ascii());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan(&self) -> ScanRequest {
        ScanRequest::new(self.core.clone())
    }

    /// Watches a table: its changes, as they are applied.
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// use roundtable::client::WatchEvent;
    /// use tokio_stream::StreamExt;
    /// let mut events = kv.watch().prefix("user:").events();
    /// while let Some(event) = events.next().await {
    ///     match event? {
    ///         WatchEvent::Change(change) => println!("{}", change.key.escape_ascii()),
    ///         WatchEvent::Whole => println!("changes were missed: read all keys again"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self) -> WatchRequest {
        WatchRequest::new(self.core.clone())
    }

    /// Asks about tables, and changes them.
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
    /// kv.tables().create("people").n(3).await?;
    /// kv.put("user:42", "Ada").table("people").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tables(&self) -> Tables {
        Tables::new(self.core.clone())
    }

    /// Asks about members and plans, and changes them.
    pub fn plans(&self) -> Plans {
        Plans::new(self.core.clone())
    }

    /// Has one node begin a new lineage of the cluster of this name, without members that are gone for good
    /// and never accepted again: for when the majority of the council is among them. **Do it at one node
    /// only.** Errors: `MEMBER_UNKNOWN`; `PLAN_INVALID` when one of them is not down, the rest of the council
    /// can decide, or somebody who answers knows a newer epoch.
    pub fn force_lineage(
        &self,
        cluster: impl Into<String>,
        gone: Vec<NodeName>,
    ) -> ForceLineageRequest {
        ForceLineageRequest::new(self.core.clone(), cluster.into(), gone)
    }

    /// Asks one node for the ring as it sees it: members, who owns what, and what is on the move.
    pub fn ring(&self) -> RingRequest {
        RingRequest::new(self.core.clone())
    }

    /// Follows the ring.
    ///
    /// ```no_run
    /// # async fn example(kv: roundtable::client::Client) {
    /// let mut watch = kv.watch_ring();
    /// loop {
    ///     let ring = watch.next().await;
    ///     println!("epoch {}, {} members", ring.epoch, ring.members.len());
    /// }
    /// # }
    /// ```
    pub fn watch_ring(&self) -> RingWatch {
        RingWatch::new(self.core.clone())
    }

    /// Asks one node how it sees the cluster.
    pub fn status(&self) -> StatusRequest {
        StatusRequest::new(self.core.clone())
    }

    /// Asks where `key` lives.
    pub fn locate(&self, key: impl Into<bytes::Bytes>) -> LocateRequest {
        LocateRequest::new(self.core.clone(), key.into(), String::new())
    }

    /// Asks what is known of `key`: what each owner holds, what waits for it elsewhere, and why they
    /// differ. One node is asked, which is up to the picker, and asks the others.
    pub fn explain(&self, key: impl Into<bytes::Bytes>) -> ExplainRequest {
        ExplainRequest::new(self.core.clone(), key.into())
    }

    /// Asks one node to write its memtable out. Which node is up to the picker: use a client with
    /// one endpoint to choose.
    pub fn flush(&self) -> FlushRequest {
        FlushRequest::new(self.core.clone())
    }

    /// Asks one node to write its memtable out and to merge all its tables. Which node is up to the
    /// picker, as with [`Client::flush`].
    pub fn compact(&self) -> CompactRequest {
        CompactRequest::new(self.core.clone())
    }

    /// Asks one node what deletes it keeps, and who holds back that they are purged. Which node is up to
    /// the picker, as with [`Client::flush`].
    pub fn gc_status(&self) -> GcRequest {
        GcRequest::new(self.core.clone())
    }

    /// Asks one node what has happened, of what it remembers: what has higher numbers than `after`. Which node
    /// is up to the picker, as with [`Client::flush`].
    pub fn events(&self, after: u64) -> EventsRequest {
        EventsRequest::new(self.core.clone(), after)
    }

    /// Asks one node how far it is with reading everything that is on its disk. Which node is up to the
    /// picker, as with [`Client::flush`].
    pub fn scrub_status(&self) -> ScrubRequest {
        ScrubRequest::new(self.core.clone(), false)
    }

    /// Asks one node to read everything that is on its disk now. Which node is up to the picker, as with
    /// [`Client::flush`].
    pub fn start_scrub(&self) -> ScrubRequest {
        ScrubRequest::new(self.core.clone(), true)
    }

    /// Asks one node what it keeps for owners that were away. Which node is up to the picker, as with
    /// [`Client::flush`].
    pub fn hints(&self) -> HintsRequest {
        HintsRequest::list(self.core.clone())
    }

    /// Asks one node to hand its hints back now, without waiting for the next try.
    pub fn replay_hints(&self) -> HintsRequest {
        HintsRequest::replay(self.core.clone())
    }

    /// Asks one node to give up all hints it holds for `target`, those in custody included: what was
    /// acknowledged may be lost. Their units are marked dirty.
    pub fn drop_hints(&self, target: impl Into<String>) -> HintsRequest {
        HintsRequest::drop(self.core.clone(), target.into())
    }

    /// Asks one node how far it is with comparing itself with other owners.
    pub fn repair_status(&self) -> RepairRequest {
        RepairRequest::status(self.core.clone())
    }

    /// Has one node compare itself with other owners now, out of turn.
    pub fn start_repair(&self) -> RepairRequest {
        RepairRequest::start(self.core.clone())
    }

    /// Calls off what was started at one node. The schedule goes on.
    pub fn cancel_repair(&self) -> RepairRequest {
        RepairRequest::cancel(self.core.clone())
    }

    /// Asks one node what differs between it and the owner `peer`, and leaves it as it is.
    pub fn repair_diff(&self, peer: impl Into<String>) -> RepairRequest {
        RepairRequest::diff(self.core.clone(), peer.into())
    }

    /// Asks one node for everything that it counts, as its HTTP port shows it at `/metrics`.
    pub fn metrics(&self) -> MetricsRequest {
        MetricsRequest::new(self.core.clone())
    }

    /// Asks one node which partitions and keys clients ask it for most. Which node is up to the picker, as
    /// with [`Client::flush`].
    pub fn hot(&self) -> HotRequest {
        HotRequest::new(self.core.clone())
    }

    /// Asks what would be lost if these nodes stopped now, with those who are away already: see
    /// [`Outage::is_safe`]. None is named where only zones are meant.
    pub fn outage<N: Into<String>>(&self, nodes: impl IntoIterator<Item = N>) -> OutageRequest {
        let nodes = nodes.into_iter().map(Into::into).collect();
        OutageRequest::new(self.core.clone(), nodes)
    }

    /// Asks one node for its build.
    pub fn version(&self) -> VersionRequest {
        VersionRequest::new(self.core.clone())
    }
}

#[cfg(test)]
pub(crate) mod tests;

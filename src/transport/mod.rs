//! Outgoing streams: for each peer and lane one long-lived stream that this node opens, a bounded
//! queue before it, and a task that keeps it open. Also the way in for what peers say. Decides when
//! to reconnect and what is dropped; knows nothing of what the messages mean.
//!
//! Nothing here ever blocks the driver: a message that cannot be queued is handed back at once.
//! Cancelling an operation never resets a stream, because no operation has a stream of its own; the
//! reset flood that kills a shared connection (h2's `too_many_resets`) cannot happen by design.

mod accept;
mod backoff;
mod connect;
mod inbox;
pub mod join;
mod link;
mod queue;
mod stats;

use std::collections::BTreeMap;
use std::sync::Arc;

use core::time::Duration;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::message::{Lane, MemberView, PeerMessage, View};
use crate::types::NodeId;
use queue::Queue;

pub use accept::{Doorkeeper, PeerService, serve_peers};
pub(crate) use connect::incoming;
pub use connect::{Connector, TcpConnector};
pub use inbox::{Inbox, PeerInput, PeerInputs};
pub use stats::{PeerStats, TransportStats};

/// The published view; `None` until the node has published one.
pub type ViewReceiver = watch::Receiver<Option<Arc<View>>>;

/// Bounds and times of the streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportConfig {
    /// Messages that may wait for one stream.
    pub queue_ops_max: usize,
    /// Bytes that may wait for one stream.
    pub queue_bytes_max: usize,
    /// Messages in one batch.
    pub batch_ops: usize,
    /// Bytes in one batch; a larger single message travels alone.
    pub batch_bytes: usize,
    /// How long connecting may take, and how long the answer to the greeting.
    pub connect_timeout: Duration,
    /// First pause before connecting again; doubled each time, jittered.
    pub backoff_min: Duration,
    /// Longest pause before connecting again.
    pub backoff_max: Duration,
    /// Idle time after which the connection is tested.
    pub keepalive: Duration,
    /// How long the answer to a test may take.
    pub keepalive_timeout: Duration,
    /// Bytes of messages from peers that may wait for the driver.
    pub inbox_bytes_max: usize,
    /// Batches from peers that may wait for the driver.
    pub inbox_batches_max: usize,
}

impl Default for TransportConfig {
    fn default() -> Self {
        TransportConfig {
            queue_ops_max: 8192,
            queue_bytes_max: 32 << 20,
            batch_ops: 128,
            batch_bytes: 64 << 10,
            connect_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            keepalive: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(2),
            inbox_bytes_max: 64 << 20,
            inbox_batches_max: 1024,
        }
    }
}

/// The two lanes to one peer; dropping it closes them.
struct Links {
    address: String,
    small: Arc<Queue>,
    bulk: Arc<Queue>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// All outgoing streams of a node. Owned by the driver.
pub struct Transport<C> {
    config: Arc<TransportConfig>,
    connector: C,
    inbox: Inbox,
    view: ViewReceiver,
    links: BTreeMap<NodeId, Links>,
    /// Where peers listen that have greeted from elsewhere than the view says, and what it said then.
    moved: BTreeMap<NodeId, (String, String)>,
    /// Queues that have got something since the last flush.
    touched: Vec<Arc<Queue>>,
    stats: TransportStats,
    rng: fastrand::Rng,
}

impl<C: Connector> Transport<C> {
    /// A transport without peers; [`Transport::update`] gives it some. `seed` feeds the jitter of
    /// reconnects. Streams are opened with the greeting of the newest `view`.
    pub fn new(
        config: TransportConfig,
        connector: C,
        inbox: Inbox,
        view: ViewReceiver,
        seed: u64,
    ) -> Self {
        Transport {
            config: Arc::new(config),
            connector,
            inbox,
            view,
            links: BTreeMap::new(),
            moved: BTreeMap::new(),
            touched: Vec::new(),
            stats: TransportStats::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Counters of all streams, for metrics; shared, live.
    pub fn stats(&self) -> TransportStats {
        self.stats.clone()
    }

    /// Follows the directory of a view: opens streams to new peers, closes those to peers that are
    /// gone, and starts over with peers that have moved. Must run inside a tokio runtime.
    pub fn update(&mut self, view: &View) {
        let me = view.hello.id;
        let wanted = |id: &NodeId| view.members.iter().find(|m| m.id == *id && m.id != me);
        // What a peer said itself holds until the view says something new.
        self.moved.retain(|id, (_, told)| wanted(id).is_some_and(|m| m.peer_address == *told));
        let moved = &self.moved;
        let address = |member: &MemberView| {
            let known = moved.get(&member.id).map(|(address, _)| address);
            known.unwrap_or(&member.peer_address).clone()
        };
        self.links.retain(|id, links| wanted(id).is_some_and(|m| address(m) == links.address));
        let new: Vec<(NodeId, String)> = view
            .members
            .iter()
            .filter(|member| member.id != me && !self.links.contains_key(&member.id))
            .map(|member| (member.id, address(member)))
            .filter(|(_, address)| !address.is_empty())
            .collect();
        for (id, address) in new {
            let links = self.open(id, address);
            self.links.insert(id, links);
        }
        self.stats.retain(|id| self.links.contains_key(&id));
    }

    /// A peer listens elsewhere than the view says: it has moved, and the cluster has yet to agree on
    /// it. Its streams are opened anew.
    pub fn redirect(&mut self, peer: NodeId, address: String) {
        let view = self.view.borrow().clone();
        let told = view.and_then(|view| {
            let member = view.members.iter().find(|member| member.id == peer)?;
            Some(member.peer_address.clone())
        });
        let known = self.links.get(&peer).is_some_and(|links| links.address == address);
        let Some(told) = told.filter(|told| *told != address && !known) else { return };
        tracing::info!(%peer, %address, "a member listens elsewhere");
        self.moved.insert(peer, (address.clone(), told));
        let links = self.open(peer, address);
        self.links.insert(peer, links);
    }

    fn open(&mut self, peer: NodeId, address: String) -> Links {
        let stats = self.stats.of(peer);
        let mut lane = |lane: Lane| {
            let queue = Arc::new(Queue::new(&self.config, stats.clone()));
            let link = link::Link {
                peer,
                lane,
                address: address.clone(),
                config: self.config.clone(),
                queue: queue.clone(),
                inbox: self.inbox.clone(),
                view: self.view.clone(),
                stats: stats.clone(),
            };
            let task = tokio::spawn(link.run(self.connector.clone(), self.rng.u64(..)));
            (queue, AbortOnDropHandle::new(task))
        };
        let (small, small_task) = lane(Lane::Small);
        let (bulk, bulk_task) = lane(Lane::Bulk);
        Links { address, small, bulk, _tasks: [small_task, bulk_task] }
    }

    /// Queues a message; [`Transport::flush`] sends it on its way. False when there is no stream to
    /// `to` or its queue is full: the message is dropped, and the node should be told.
    #[must_use]
    pub fn enqueue(&mut self, to: NodeId, message: PeerMessage) -> bool {
        let Some(links) = self.links.get(&to) else {
            return false;
        };
        let queue = match message.lane() {
            Lane::Small => &links.small,
            Lane::Bulk => &links.bulk,
        };
        match queue.push(message) {
            queue::Pushed::First => {
                self.touched.push(queue.clone());
                true
            }
            queue::Pushed::Queued => true,
            queue::Pushed::Refused => false,
        }
    }

    /// Wakes the streams that have something to send.
    pub fn flush(&mut self) {
        for queue in self.touched.drain(..) {
            queue.wake();
        }
    }
}

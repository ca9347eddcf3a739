//! Assembly: one node with its store, its driver, its ports and its end. `kvd run` makes one from a
//! configuration; tests make several in one process on ports of their own.

pub mod dev;
mod http;
pub mod join;
mod pid_file;
pub mod probe;
pub mod run;
mod settings;
mod waiting;

use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::message::{Phase, View};
use crate::replica::{Replica, ReplicaError};
use crate::runtime::{self, Handle, Running, Setup};
use crate::service::serve_clients;
use crate::storage::RealVfs;
use crate::telemetry::{StoreFacts, Telemetry};
use crate::transport::{PeerService, TcpConnector, serve_peers};

pub use settings::{Join, Settings};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken, or may not be used.
    #[error("cannot listen on {address} ({what}): {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// For whom.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The store cannot be opened.
    #[error("the store does not open: {0}")]
    Replica(#[from] ReplicaError),
    /// The system refuses.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// The ports of a server, bound.
#[derive(Debug)]
pub struct Listeners {
    /// For clients and operators.
    pub client: TcpListener,
    /// For peers.
    pub peer: TcpListener,
    /// For HTTP, unless it is off.
    pub http: Option<TcpListener>,
}

impl Listeners {
    /// Binds the ports of `settings`.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub async fn bind(settings: &Settings) -> Result<Listeners, StartError> {
        async fn bind(address: SocketAddr, what: &'static str) -> Result<TcpListener, StartError> {
            TcpListener::bind(address).await.map_err(|error| StartError::Listen {
                address,
                what,
                error,
            })
        }
        Ok(Listeners {
            client: bind(settings.listen_client, "clients").await?,
            peer: bind(settings.listen_peer, "peers").await?,
            http: match settings.listen_http {
                Some(address) => Some(bind(address, "http").await?),
                None => None,
            },
        })
    }
}

/// Where a running server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For clients and operators.
    pub client: SocketAddr,
    /// For peers.
    pub peer: SocketAddr,
    /// For HTTP, unless it is off.
    pub http: Option<SocketAddr>,
}

/// A running node.
pub struct Server {
    addresses: Addresses,
    handle: Handle,
    replica: Replica,
    drain_timeout: Duration,
    /// Cancelled in this order at the end.
    clients_close: CancellationToken,
    all_close: CancellationToken,
    client_task: JoinHandle<()>,
    other_tasks: Vec<JoinHandle<()>>,
    driver: JoinHandle<()>,
    ended: CancellationToken,
}

/// How long connections may take to close once all operations are answered.
const CLOSE_GRACE: Duration = Duration::from_millis(500);

impl Server {
    /// Opens the store and starts everything. Must run inside a multi-threaded tokio runtime; opening
    /// the store blocks the calling thread.
    ///
    /// # Errors
    /// [`StartError`]; nothing keeps running then.
    pub fn start(settings: &Settings, listeners: Listeners) -> Result<Server, StartError> {
        let addresses = Addresses {
            client: listeners.client.local_addr()?,
            peer: listeners.peer.local_addr()?,
            http: listeners.http.as_ref().map(TcpListener::local_addr).transpose()?,
        };
        let vfs = Arc::new(RealVfs);
        let (replica, restored) = Replica::open(vfs, &settings.data_dir, settings.storage.clone())?;
        let telemetry = Telemetry::default();
        let store = replica.clone();
        telemetry.set_store(Box::new(move || store_facts(&store)));
        let Running { handle, inbox, driver, ended } = runtime::start(Setup {
            node: settings.node.clone(),
            transport: settings.transport.clone(),
            connector: TcpConnector,
            replica: replica.clone(),
            restored,
            reader_threads: settings.reader_threads,
            telemetry,
        })?;
        let (clients_close, all_close) = (CancellationToken::new(), CancellationToken::new());
        let client_task = spawn_port(
            "clients",
            serve_clients(listeners.client, handle.clone(), clients_close.clone()),
        );
        let door = Arc::new(join::Door(handle.clone()));
        let (view, closing) = (handle.view(), all_close.clone());
        let peers = PeerService::new(inbox, view, &settings.transport, closing, door);
        let transport = settings.transport.clone();
        let mut other_tasks = vec![spawn_port("peers", async move {
            serve_peers(listeners.peer, peers, &transport).await
        })];
        if let Some(listener) = listeners.http {
            let page = http::serve(listener, handle.clone(), all_close.clone());
            other_tasks.push(spawn_port("http", page));
        }
        other_tasks.push(tokio::spawn(tell_trees(replica.clone(), all_close.clone())));
        Ok(Server {
            addresses,
            handle,
            replica,
            drain_timeout: settings.drain_timeout,
            clients_close,
            all_close,
            client_task,
            other_tasks,
            driver,
            ended,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The way to its node, for tests and the process around it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Resolves when the node serves. Never resolves for a node that is refused.
    pub async fn serving(&self) {
        let serves = |view: &Option<Arc<View>>| {
            view.as_ref().is_some_and(|view| matches!(view.phase, Phase::Serving))
        };
        // The driver outlives this borrow; were it gone, the node would never serve.
        if self.handle.view().wait_for(serves).await.is_err() {
            core::future::pending::<()>().await;
        }
    }

    /// Resolves when the driver has ended without having been told to: a defect. The process should
    /// end too, so that whatever supervises it starts it again.
    pub async fn failed(&self) {
        self.ended.cancelled().await;
    }

    /// Takes nothing new, finishes what was begun within the drain timeout, and stops.
    ///
    /// # Errors
    /// The store had failed: what was not acknowledged may be lost.
    pub async fn shutdown(self) -> Result<(), ReplicaError> {
        self.handle.drain();
        let drained = timeout(self.drain_timeout, self.drained()).await;
        if drained.is_err() {
            let left = self.handle.telemetry().in_flight();
            tracing::warn!(left, "the drain timeout has passed; operations are cut off");
        }
        self.clients_close.cancel();
        end(self.client_task).await;
        self.handle.stop();
        end(self.driver).await;
        self.all_close.cancel();
        for task in self.other_tasks {
            end(task).await;
        }
        self.replica.close()
    }

    /// Resolves when no operation is without its answer.
    async fn drained(&self) {
        // The driver takes the order to drain and what came before it in its next turn.
        loop {
            sleep(DRAIN_POLL).await;
            if self.handle.telemetry().in_flight() == 0 {
                return;
            }
        }
    }
}

/// The store's figures, as metrics show them.
fn store_facts(replica: &Replica) -> StoreFacts {
    let (stats, trees) = (replica.stats(), replica.tree_facts());
    let wide = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    StoreFacts {
        disk_bytes: stats.disk_bytes,
        memory_bytes: wide(stats.memtable_bytes),
        pending_bytes: wide(stats.pending_bytes),
        read_only: stats.read_only.is_some(),
        batches: stats.batches,
        fsyncs: stats.fsyncs,
        flushes: stats.flushes,
        tree_bytes: trees.bytes,
        tree_leaves: trees.leaves,
        tree_file_bytes: trees.file_bytes,
        tree_file_written: trees.file_written,
        tree_file_failed: trees.file_failed,
        trees_building: trees.building,
        tree_entries_read: trees.entries_read,
    }
}

/// Says once how the trees of units have come to be, when all are there.
async fn tell_trees(replica: Replica, closing: CancellationToken) {
    let mut poll = TREES_POLL_MIN;
    while replica.tree_facts().building > 0 {
        tokio::select! {
            () = sleep(poll) => poll = (poll * 2).min(TREES_POLL_MAX),
            () = closing.cancelled() => return,
        }
    }
    let facts = replica.tree_facts();
    tracing::info!(
        trees = facts.units,
        from_file = facts.taken,
        replayed = facts.replayed,
        built = facts.built,
        bytes = facts.bytes,
        leaves = facts.leaves,
        "all trees are there: the units of this node can be compared"
    );
}

/// How often it is looked whether all trees are there: which counts all units, so ever less often.
const TREES_POLL_MIN: Duration = Duration::from_millis(100);
const TREES_POLL_MAX: Duration = Duration::from_secs(10);

/// How often a draining server looks whether all is answered.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// Waits a little for a task to end by itself; then ends it.
async fn end(mut task: JoinHandle<()>) {
    if timeout(CLOSE_GRACE, &mut task).await.is_err() {
        task.abort();
    }
}

fn spawn_port<E: core::fmt::Display + Send>(
    what: &'static str,
    serve: impl Future<Output = Result<(), E>> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = serve.await {
            tracing::error!(%error, "the {what} port failed");
        }
    })
}

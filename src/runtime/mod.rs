//! The loop around the pure node: one task that owns it, feeds it events and performs its effects.
//! Everything that waits, blocks, reads a clock or draws randomness is here or beside it; nothing
//! here decides anything about data.

pub mod clock;
mod driver;
pub mod entropy;
mod handle;
mod mailbox;
mod readers;

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::message::{Restored, View};
use crate::node::{Node, NodeConfig};
use crate::replica::Replica;
use crate::telemetry::Telemetry;
use crate::transport::{Connector, Inbox, Transport, TransportConfig};

use clock::Clock;
use driver::{Driver, Inputs};
use mailbox::Mailbox;
use readers::Readers;

pub use crate::transport::ViewReceiver;
pub(crate) use crate::transport::incoming;
pub use handle::{
    AnswerSink, Asked, ClientInput, ClientInputs, Handle, Responder, ScanStream, Ticket,
};

/// What a runtime is started with.
pub struct Setup<C> {
    /// The node's settings.
    pub node: NodeConfig,
    /// The streams' settings.
    pub transport: TransportConfig,
    /// How peers are reached.
    pub connector: C,
    /// The store.
    pub replica: Replica,
    /// What the store held.
    pub restored: Restored,
    /// Threads for disk requests that block.
    pub reader_threads: usize,
    /// What is counted.
    pub telemetry: Telemetry,
}

/// A running node.
pub struct Running {
    /// The services' way in.
    pub handle: Handle,
    /// The peers' way in.
    pub inbox: Inbox,
    /// The driver; ends after [`Handle::stop`].
    pub driver: tokio::task::JoinHandle<()>,
    /// Cancelled when the driver has ended, also by a broken invariant: nothing works then.
    pub ended: CancellationToken,
}

/// Starts the driver of a node. Must run inside a tokio runtime.
///
/// # Errors
/// The system gives no thread.
pub fn start<C: Connector>(setup: Setup<C>) -> io::Result<Running> {
    let clock = Clock::start();
    let mailbox = Arc::new(Mailbox::default());
    let (publish, view) = watch::channel::<Option<Arc<View>>>(None);
    let (inbox, peers) = Inbox::new(&setup.transport);
    let limits = handle::Limits {
        timeout: setup.node.request_timeout,
        queue_bytes_max: setup.node.operation_bytes_max as u64,
    };
    let telemetry = setup.telemetry;
    let (handle, clients) =
        Handle::new(clock, limits, mailbox.clone(), view.clone(), telemetry.clone());
    let transport =
        Transport::new(setup.transport, setup.connector, inbox.clone(), view, entropy::seed());
    telemetry.set_transport(transport.stats());
    let readers = Readers::start(&setup.replica, setup.reader_threads, clock)?;
    let node = Node::new(clock.now(), setup.node, setup.restored, entropy::seed());
    let driver = Driver::new(
        node,
        Inputs { mailbox, peers, clients },
        transport,
        driver::Disk { replica: setup.replica, readers },
        driver::Outside { clock, publish, telemetry },
    );
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    let driver = tokio::spawn(async move {
        let _guard = guard;
        driver.run().await;
    });
    Ok(Running { handle, inbox, driver, ended })
}

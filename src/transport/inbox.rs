//! The way in for what peers say: a queue to the driver, bounded by batches and by bytes. A full
//! queue makes the streams wait, which fills the sender's queue, which tells the sender.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};

use crate::message::{HelloRefusal, PeerMessage};
use crate::types::NodeId;
use crate::wire::peer::message_weight;

use super::TransportConfig;

/// One thing a stream has to tell the driver.
#[derive(Debug)]
pub enum PeerInput {
    /// A peer has said something. The permit gives the bytes back when it is dropped.
    Batch {
        /// Who.
        from: NodeId,
        /// What.
        messages: Vec<PeerMessage>,
        /// The bytes it occupies.
        permit: OwnedSemaphorePermit,
    },
    /// A stream to a peer has ended; what was queued for it is lost.
    Lost(NodeId),
    /// A stream from or to a peer was refused.
    Rejected(NodeId, HelloRefusal),
    /// A peer has greeted from elsewhere than is known: it listens there.
    Moved(NodeId, String),
}

/// The sending half; cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: mpsc::Sender<PeerInput>,
    bytes: Arc<Semaphore>,
    bytes_max: u32,
    /// Peers whose greeting has just been accepted. A link that lags behind has missed news of
    /// others only at worst, and wakes up for nothing.
    greeted: broadcast::Sender<NodeId>,
}

/// Greetings that a pausing link may be behind.
const GREETINGS: usize = 64;

/// The driver's half.
pub type PeerInputs = mpsc::Receiver<PeerInput>;

impl Inbox {
    /// An inbox within the bounds of `config`.
    pub fn new(config: &TransportConfig) -> (Inbox, PeerInputs) {
        let (sender, receiver) = mpsc::channel(config.inbox_batches_max);
        let bytes_max = u32::try_from(config.inbox_bytes_max).unwrap_or(u32::MAX);
        let bytes = Arc::new(Semaphore::new(config.inbox_bytes_max));
        let (greeted, _) = broadcast::channel(GREETINGS);
        (Inbox { sender, bytes, bytes_max, greeted }, receiver)
    }

    /// Hands a batch over, waiting for room. False when the driver is gone.
    pub(super) async fn deliver(&self, from: NodeId, messages: Vec<PeerMessage>) -> bool {
        let weight: usize = messages.iter().map(message_weight).sum();
        let weight = u32::try_from(weight).unwrap_or(u32::MAX).min(self.bytes_max);
        let Ok(permit) = self.bytes.clone().acquire_many_owned(weight).await else {
            return false;
        };
        self.sender.send(PeerInput::Batch { from, messages, permit }).await.is_ok()
    }

    /// A peer's greeting was accepted: it is there, so our own stream to it need not wait.
    pub(super) fn greeted(&self, peer: NodeId) {
        // Nobody listens while no link is pausing.
        let _ = self.greeted.send(peer);
    }

    /// The greetings accepted from now on.
    pub(super) fn greetings(&self) -> broadcast::Receiver<NodeId> {
        self.greeted.subscribe()
    }

    /// Tells the driver that what was queued for `peer` is lost.
    pub(super) async fn lost(&self, peer: NodeId) {
        // A driver that is gone does not need to know.
        let _ = self.sender.send(PeerInput::Lost(peer)).await;
    }

    /// Tells the driver that a stream was refused.
    pub(super) async fn rejected(&self, peer: NodeId, reason: HelloRefusal) {
        // A driver that is gone does not need to know.
        let _ = self.sender.send(PeerInput::Rejected(peer, reason)).await;
    }

    /// Tells the driver where a peer listens.
    pub(super) async fn moved(&self, peer: NodeId, address: String) {
        // A driver that is gone does not need to know.
        let _ = self.sender.send(PeerInput::Moved(peer, address)).await;
    }
}

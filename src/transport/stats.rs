//! Live counters of the streams, for metrics and tests.

use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::NodeId;

/// Counters of the streams to one peer, both lanes together.
#[derive(Debug, Default)]
pub struct PeerStats {
    /// Bytes waiting.
    pub queue_bytes: AtomicU64,
    /// Messages dropped because there was no stream or no room.
    pub refused: AtomicU64,
    /// Messages handed to a stream.
    pub sent: AtomicU64,
    /// Streams opened and welcomed, ever.
    pub connects: AtomicU64,
    /// Streams open now.
    pub open: AtomicU64,
}

impl PeerStats {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn sub(counter: &AtomicU64, by: u64) {
        counter.fetch_sub(by, Ordering::Relaxed);
    }

    /// Reads a counter.
    pub fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Counters of all streams of a node.
#[derive(Clone, Debug, Default)]
pub struct TransportStats(Arc<RwLock<BTreeMap<NodeId, Arc<PeerStats>>>>);

impl TransportStats {
    /// The counters of each peer.
    pub fn peers(&self) -> Vec<(NodeId, Arc<PeerStats>)> {
        self.0.read().iter().map(|(id, stats)| (*id, stats.clone())).collect()
    }

    pub(super) fn of(&self, peer: NodeId) -> Arc<PeerStats> {
        self.0.write().entry(peer).or_default().clone()
    }

    pub(super) fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        self.0.write().retain(|id, _| keep(*id));
    }
}

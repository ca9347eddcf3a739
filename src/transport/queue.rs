//! The bounded queue before one stream, and the stream that drains it. A batch is whatever is
//! queued when the connection is ready to send: batching comes from load, never from waiting.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio_stream::Stream;

use crate::message::PeerMessage;
use crate::wire::peer::{message_to_wire, message_weight};
use crate::wire::proto::peer as pb;

use super::TransportConfig;
use super::stats::PeerStats;

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Queued, and the queue was empty: somebody must wake the stream.
    First,
    /// Queued behind others.
    Queued,
    /// No stream, or no room.
    Refused,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(PeerMessage, usize)>,
    bytes: usize,
    waker: Option<Waker>,
    /// The stream that drains this queue; a stream of an earlier generation ends itself.
    generation: u64,
    /// Whether that stream has been welcomed.
    open: bool,
}

/// Messages waiting for one stream. `state.bytes` is the sum of the weights of `state.waiting`.
pub(super) struct Queue {
    ops_max: usize,
    bytes_max: usize,
    batch_ops: usize,
    batch_bytes: usize,
    state: Mutex<State>,
    stats: Arc<PeerStats>,
}

impl Queue {
    pub(super) fn new(config: &TransportConfig, stats: Arc<PeerStats>) -> Queue {
        Queue {
            ops_max: config.queue_ops_max,
            bytes_max: config.queue_bytes_max,
            batch_ops: config.batch_ops,
            batch_bytes: config.batch_bytes,
            state: Mutex::default(),
            stats,
        }
    }

    /// Takes a message in, if there is a stream and room.
    pub(super) fn push(&self, message: PeerMessage) -> Pushed {
        let weight = message_weight(&message);
        let mut state = self.state.lock();
        let full = state.waiting.len() >= self.ops_max || state.bytes + weight > self.bytes_max;
        if !state.open || full {
            drop(state);
            PeerStats::add(&self.stats.refused, 1);
            return Pushed::Refused;
        }
        let first = state.waiting.is_empty();
        state.waiting.push_back((message, weight));
        state.bytes += weight;
        drop(state);
        PeerStats::add(&self.stats.queue_bytes, weight as u64);
        if first { Pushed::First } else { Pushed::Queued }
    }

    /// Wakes the stream if it waits.
    pub(super) fn wake(&self) {
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A new stream for this queue, which begins with `opening`; earlier ones end.
    pub(super) fn stream(self: &Arc<Self>, opening: pb::PeerBatch) -> Outgoing {
        let mut state = self.state.lock();
        state.generation += 1;
        let generation = state.generation;
        drop(state);
        self.wake();
        Outgoing { queue: self.clone(), generation, opening: Some(opening) }
    }

    /// The newest stream has been welcomed: messages may be queued.
    pub(super) fn open(&self) {
        self.state.lock().open = true;
        PeerStats::add(&self.stats.open, 1);
        PeerStats::add(&self.stats.connects, 1);
    }

    /// The stream has ended: what waits is dropped. True if it had been open.
    pub(super) fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.generation += 1;
        let was_open = core::mem::take(&mut state.open);
        let dropped = core::mem::take(&mut state.waiting);
        let bytes = core::mem::take(&mut state.bytes);
        drop(state);
        self.wake();
        PeerStats::sub(&self.stats.queue_bytes, bytes as u64);
        PeerStats::add(&self.stats.refused, dropped.len() as u64);
        if was_open {
            PeerStats::sub(&self.stats.open, 1);
        }
        was_open
    }

    /// Takes the next batch out, or leaves a waker. `None`: the stream is a thing of the past.
    fn poll_batch(&self, generation: u64, cx: &Context<'_>) -> Poll<Option<Vec<PeerMessage>>> {
        let mut state = self.state.lock();
        if state.generation != generation {
            return Poll::Ready(None);
        }
        if state.waiting.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut batch = Vec::with_capacity(state.waiting.len().min(self.batch_ops));
        let mut bytes = 0;
        while batch.len() < self.batch_ops
            && let Some((_, weight)) = state.waiting.front()
            && (batch.is_empty() || bytes + weight <= self.batch_bytes)
            && let Some((message, weight)) = state.waiting.pop_front()
        {
            bytes += weight;
            batch.push(message);
        }
        state.bytes -= bytes;
        drop(state);
        PeerStats::sub(&self.stats.queue_bytes, bytes as u64);
        PeerStats::add(&self.stats.sent, batch.len() as u64);
        Poll::Ready(Some(batch))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
    }
}

/// The request half of one stream: the greeting, then batches for as long as it is the newest.
pub(super) struct Outgoing {
    queue: Arc<Queue>,
    generation: u64,
    opening: Option<pb::PeerBatch>,
}

impl Stream for Outgoing {
    type Item = pb::PeerBatch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<pb::PeerBatch>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(opening));
        }
        self.queue.poll_batch(self.generation, cx).map(|batch| {
            batch.map(|batch| pb::PeerBatch {
                opening: None,
                ops: batch.into_iter().map(message_to_wire).collect(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Epoch;
    use tokio_stream::StreamExt;

    fn message() -> PeerMessage {
        PeerMessage::StateAsk { epoch: Epoch(1) }
    }

    fn queue(ops: usize, bytes: usize) -> Arc<Queue> {
        let config = TransportConfig {
            queue_ops_max: ops,
            queue_bytes_max: bytes,
            batch_ops: 2,
            ..TransportConfig::default()
        };
        Arc::new(Queue::new(&config, Arc::default()))
    }

    #[test]
    fn nothing_is_queued_before_the_stream_is_welcomed() {
        let queue = queue(8, 1 << 20);
        assert_eq!(queue.push(message()), Pushed::Refused);
        queue.open();
        assert_eq!(queue.push(message()), Pushed::First);
        assert_eq!(queue.push(message()), Pushed::Queued);
    }

    #[test]
    fn a_queue_is_bounded_by_count_and_by_bytes() {
        let by_count = queue(2, 1 << 20);
        by_count.open();
        let by_bytes = queue(100, 2 * message_weight(&message()));
        by_bytes.open();
        for queue in [by_count, by_bytes] {
            assert_ne!(queue.push(message()), Pushed::Refused);
            assert_ne!(queue.push(message()), Pushed::Refused);
            assert_eq!(queue.push(message()), Pushed::Refused);
            assert_eq!(PeerStats::read(&queue.stats.refused), 1);
        }
    }

    #[tokio::test]
    async fn a_stream_begins_with_its_greeting_and_drains_in_batches() {
        let queue = queue(8, 1 << 20);
        let mut stream = queue.stream(pb::PeerBatch::default());
        queue.open();
        for _ in 0..3 {
            let _ = queue.push(message());
        }
        assert_eq!(stream.next().await.map(|batch| batch.ops.len()), Some(0));
        assert_eq!(stream.next().await.map(|batch| batch.ops.len()), Some(2));
        assert_eq!(stream.next().await.map(|batch| batch.ops.len()), Some(1));
        assert_eq!(PeerStats::read(&queue.stats.queue_bytes), 0);
    }

    #[tokio::test]
    async fn an_old_stream_ends_when_a_new_one_begins() {
        let queue = queue(8, 1 << 20);
        let mut old = queue.stream(pb::PeerBatch::default());
        assert!(old.next().await.is_some());
        let _new = queue.stream(pb::PeerBatch::default());
        assert!(old.next().await.is_none());
    }

    #[test]
    fn closing_drops_what_waits() {
        let queue = queue(8, 1 << 20);
        queue.open();
        let _ = queue.push(message());
        assert!(queue.close());
        assert!(!queue.close());
        assert_eq!(queue.push(message()), Pushed::Refused);
        assert_eq!(PeerStats::read(&queue.stats.queue_bytes), 0);
    }
}

//! What waits to be said to one peer; a batch is whatever waits when the stream can take it.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use roundtable::wire::proto::peer::{Op, PeerBatch};
use tokio_stream::Stream;

/// As in `kvd`.
const BATCH_OPS: usize = 128;

#[derive(Default)]
struct State {
    waiting: VecDeque<Op>,
    waker: Option<Waker>,
}

/// The queue of one peer.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
}

impl Outbox {
    pub(super) fn push(&self, ops: impl Iterator<Item = Op>) {
        let mut state = self.state.lock();
        state.waiting.extend(ops);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn stream(self: &Arc<Self>) -> Outgoing {
        Outgoing(self.clone())
    }
}

/// The request half of a stream to a peer.
pub(super) struct Outgoing(Arc<Outbox>);

impl Stream for Outgoing {
    type Item = PeerBatch;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerBatch>> {
        let mut state = self.0.state.lock();
        if state.waiting.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = state.waiting.len().min(BATCH_OPS);
        let ops = state.waiting.drain(..count).collect();
        Poll::Ready(Some(PeerBatch { opening: None, ops }))
    }
}

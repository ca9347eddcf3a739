//! A session with an echo node: answers leave in batches of whatever is ready.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use roundtable::wire::proto::v1::session_request::op;
use roundtable::wire::proto::v1::session_response::{Answer, answer};
use roundtable::wire::proto::v1::{GetResponse, PutResponse, SessionRequest, SessionResponse};
use tokio_stream::Stream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::Echo;
use super::pending::Waiter;
use super::service::{read, receipt, write};

#[derive(Default)]
struct State {
    ready: Vec<Answer>,
    waker: Option<Waker>,
    ended: bool,
}

/// Gathers the answers of one session.
#[derive(Default)]
pub(super) struct Sink {
    state: Mutex<State>,
}

impl Sink {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn answer(&self, id: u64, is_read: bool, value: Bytes) {
        let answer = if is_read {
            answer::Answer::Get(GetResponse {
                found: true,
                value,
                receipt: receipt(),
                ..Default::default()
            })
        } else {
            answer::Answer::Put(PutResponse { receipt: receipt(), ..Default::default() })
        };
        self.change(|state| state.ready.push(Answer { id, answer: Some(answer) }));
    }
}

/// The answers, as a stream.
struct Answers {
    sink: Arc<Sink>,
    _reader: AbortOnDropHandle<()>,
}

impl Stream for Answers {
    type Item = Result<SessionResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.sink.state.lock();
        if !state.ready.is_empty() {
            let answers = core::mem::take(&mut state.ready);
            return Poll::Ready(Some(Ok(SessionResponse { answers })));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Opens a session.
pub(super) fn open(
    echo: Arc<Echo>,
    mut incoming: Streaming<SessionRequest>,
) -> impl Stream<Item = Result<SessionResponse, Status>> + Send {
    let sink = Arc::<Sink>::default();
    let answers = sink.clone();
    let reader = tokio::spawn(async move {
        while let Ok(Some(request)) = incoming.message().await {
            take(&echo, request, &sink);
        }
        sink.change(|state| state.ended = true);
    });
    Answers { sink: answers, _reader: AbortOnDropHandle::new(reader) }
}

/// Asks the peers for all operations of one message.
fn take(echo: &Echo, request: SessionRequest, sink: &Arc<Sink>) {
    let first = echo.pending.numbers(request.ops.len());
    let mut asked = Vec::with_capacity(request.ops.len());
    let mut waiters = Vec::with_capacity(request.ops.len());
    for (number, op) in (first..).zip(&request.ops) {
        let (is_read, told) = match &op.op {
            Some(op::Op::Get(get)) => (true, read(number, get)),
            Some(op::Op::Put(put)) => (false, write(number, put)),
            Some(
                op::Op::Delete(_)
                | op::Op::Cas(_)
                | op::Op::GetOutcome(_)
                | op::Op::Increment(_)
                | op::Op::Batch(_),
            )
            | None => continue,
        };
        waiters.push(Waiter::Session(sink.clone(), op.id, is_read));
        asked.push(told);
    }
    echo.pending.wait(first, waiters.into_iter());
    for peer in &echo.peers {
        peer.push(asked.iter().cloned());
    }
}

//! A session: many operations on one stream, answered in any order. One task reads; answers are
//! gathered by whoever finishes them and leave in batches of whatever is ready. A client that does
//! not read its answers, or has too many open operations, is simply not read from.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use crate::message::{Applied, ClientResult, ErrorCode, OpError, Principal, Reply};
use crate::runtime::{AnswerSink, Handle, Ticket};
use crate::wire::client::{Call, SessionKind, session_answer, session_op_from_wire};
use crate::wire::error::status_of;
use crate::wire::proto::v1 as pb;

use super::batch;

/// Operations a session may have open: asked, and not yet answered on the stream.
const OPEN_MAX: usize = 1024;
/// Bytes of answers that may wait for the client to read them. Reads beyond it are refused.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Bytes after which a batch of answers is full.
const BATCH_BYTES: usize = 256 << 10;
/// Answers after which a batch is full.
const BATCH_ANSWERS: usize = 256;

#[derive(Default)]
struct State {
    ready: VecDeque<(pb::session_response::Answer, usize)>,
    bytes: usize,
    waker: Option<Waker>,
    /// The reader has ended: no operation will come any more.
    ended: Option<Result<(), Status>>,
    /// Operations open.
    open: usize,
}

/// Gathers the answers of one session.
struct Sink {
    state: Mutex<State>,
    /// Permits to open operations.
    room: Semaphore,
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

    fn end(&self, result: Result<(), Status>) {
        self.change(|state| state.ended = Some(result));
    }
}

/// An operation of a session that is a batch.
struct BatchOp {
    sink: Arc<Sink>,
    id: u64,
}

impl batch::Waiter for BatchOp {
    fn answer(&self, answer: pb::BatchResponse) {
        let answer = Some(pb::session_response::answer::Answer::Batch(answer));
        self.sink.change(|state| {
            state.push(pb::session_response::Answer { id: self.id, answer });
        });
    }

    fn is_closed(&self) -> bool {
        self.sink.room.is_closed()
    }
}

impl State {
    fn push(&mut self, answer: pb::session_response::Answer) {
        let bytes = answer.encoded_len();
        self.bytes += bytes;
        self.ready.push_back((answer, bytes));
    }
}

impl AnswerSink for Sink {
    fn answer(&self, ticket: Ticket, result: ClientResult) {
        self.change(|state| {
            let result = match result {
                Ok(Reply::Get(_)) if state.bytes > WAITING_BYTES_MAX => Err(unread()),
                Ok(Reply::Causal(reply)) if !reply.wrote && state.bytes > WAITING_BYTES_MAX => {
                    Err(unread())
                }
                Ok(Reply::Cas(reply)) if !reply.applied && state.bytes > WAITING_BYTES_MAX => {
                    Err(unread())
                }
                other => other,
            };
            let kind = if ticket.delete { SessionKind::Delete } else { SessionKind::Plain };
            state.push(session_answer(ticket.id, kind, result));
        });
    }

    fn is_closed(&self) -> bool {
        self.room.is_closed()
    }
}

/// What a session hears when the node drains, once its open operations are answered.
fn leaving() -> Status {
    status_of(&OpError::new(ErrorCode::NotReady, "the node is draining"))
}

fn unread() -> OpError {
    let text = "the session's answers are not being read";
    OpError::new(ErrorCode::Overloaded, text).with_applied(Applied::No)
}

/// The answers of a session, as a stream. Dropping it ends the session.
struct Answers {
    sink: Arc<Sink>,
    _reader: AbortOnDropHandle<()>,
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.sink.room.close();
    }
}

impl Stream for Answers {
    type Item = Result<pb::SessionResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.sink.state.lock();
        if state.ready.is_empty() {
            if state.open == 0
                && let Some(ended) = state.ended.clone()
            {
                state.ended = Some(Ok(()));
                return Poll::Ready(ended.err().map(Err));
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut answers = Vec::with_capacity(state.ready.len().min(BATCH_ANSWERS));
        let mut bytes = 0;
        while answers.len() < BATCH_ANSWERS
            && bytes < BATCH_BYTES
            && let Some((answer, size)) = state.ready.pop_front()
        {
            bytes += size;
            answers.push(answer);
        }
        state.bytes -= bytes;
        state.open -= answers.len();
        drop(state);
        self.sink.room.add_permits(answers.len());
        Poll::Ready(Some(Ok(pb::SessionResponse { answers })))
    }
}

/// Opens a session on an incoming stream.
pub(super) fn open(
    handle: Handle,
    principal: Principal,
    incoming: Streaming<pb::SessionRequest>,
) -> impl Stream<Item = Result<pb::SessionResponse, Status>> + Send {
    let sink = Arc::new(Sink { state: Mutex::default(), room: Semaphore::new(OPEN_MAX) });
    let reader = tokio::spawn(read((handle, principal), incoming, sink.clone()));
    Answers { sink, _reader: AbortOnDropHandle::new(reader) }
}

/// Reads operations until the client closes its side or breaks the stream.
async fn read(
    (handle, principal): (Handle, Principal),
    mut incoming: Streaming<pb::SessionRequest>,
    sink: Arc<Sink>,
) {
    let _counted = handle.telemetry().session();
    let ended = loop {
        let message = tokio::select! {
            message = incoming.message() => message,
            () = handle.draining().cancelled() => break Err(leaving()),
        };
        match message {
            Ok(Some(request)) => {
                if !take((&handle, &principal), request, &sink).await {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
    };
    sink.end(ended);
}

/// Submits the operations of one message, as there is room. False when the session is over.
async fn take(
    (handle, principal): (&Handle, &Principal),
    request: pb::SessionRequest,
    sink: &Arc<Sink>,
) -> bool {
    let answers: Arc<dyn AnswerSink> = sink.clone();
    let mut ops = request.ops.into_iter();
    while ops.len() > 0 {
        let wanted = ops.len().min(OPEN_MAX / 4);
        let permits = u32::try_from(wanted).unwrap_or(1);
        let Ok(room) = sink.room.acquire_many(permits).await else {
            return false;
        };
        room.forget();
        sink.state.lock().open += wanted;
        let call = Call {
            now: handle.now(),
            transport_timeout: None,
            default_timeout: handle.default_timeout(),
            principal: principal.clone(),
        };
        let checked = ops.by_ref().take(wanted).filter_map(|op| {
            let op = match op.op {
                Some(pb::session_request::op::Op::Batch(asked)) => {
                    begin_batch(handle, &call, (op.id, asked), sink);
                    return None;
                }
                _ => op,
            };
            let delete = matches!(op.op, Some(pb::session_request::op::Op::Delete(_)));
            let ticket = Ticket { id: op.id, delete };
            match session_op_from_wire(&call, op) {
                Ok(request) => Some((ticket, request)),
                Err(error) => {
                    sink.answer(ticket, Err(error));
                    None
                }
            }
        });
        handle.submit_all(checked, &answers);
    }
    true
}

/// Begins a batch, whose answer is one of the session's.
fn begin_batch(
    handle: &Handle,
    call: &Call,
    (id, asked): (u64, pb::BatchRequest),
    sink: &Arc<Sink>,
) {
    let waiter = Box::new(BatchOp { sink: sink.clone(), id });
    if let Err(error) = batch::begin(handle, call, asked, waiter) {
        sink.answer(Ticket { id, delete: false }, Err(error));
    }
}

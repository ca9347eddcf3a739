//! The session lane: one bidirectional stream to one endpoint, shared by all requests. Whatever is
//! queued when the stream can take more goes out as one message; nothing waits for company. A
//! caller that loses interest removes its entry from a map, and the stream never knows.
//!
//! The stream is opened by the first request, and again by the first one after it broke. Requests
//! open at that moment fail: those not sent yet with "not applied", the others as unknown.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::message::Applied;
use crate::wire::proto::v1::kv_client::KvClient;
use crate::wire::proto::v1::session_request::{Op, op};
use crate::wire::proto::v1::session_response::{Answer, answer};
use crate::wire::proto::v1::{SessionRequest, SessionResponse};

use super::Error;
use super::data::is_write;
use super::status_error::{from_detail, from_status};

/// Requests that may wait for the stream; more callers wait for room.
const QUEUE_OPS_MAX: usize = 1024;
/// Most operations of one message.
const BATCH_OPS_MAX: usize = 128;
/// A message is closed once it has this many bytes; one more operation may exceed it.
const BATCH_BYTES: usize = 64 << 10;

/// A stream to one endpoint. Ends with its last handle.
#[derive(Debug)]
pub(crate) struct Session {
    waiters: Arc<Waiters>,
    queue: mpsc::Sender<Op>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Waiters {
    open: Mutex<HashMap<u64, Waiter>>,
    last_id: AtomicU64,
}

#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Result<answer::Answer, Error>>,
    write: bool,
    sent: bool,
}

/// Removes a request from the map when its caller loses interest.
struct Registration<'a> {
    waiters: &'a Waiters,
    id: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.waiters.open.lock().remove(&self.id);
    }
}

impl Session {
    /// Starts the task that will hold the stream.
    pub(crate) fn start(client: KvClient<Channel>) -> Session {
        let (queue, queued) = mpsc::channel(QUEUE_OPS_MAX);
        let waiters = Arc::<Waiters>::default();
        let task = tokio::spawn(run(client, queued, waiters.clone())).abort_handle();
        Session { waiters, queue, task }
    }

    /// Sends one operation and waits for its answer. Dropping the future abandons the answer.
    ///
    /// # Errors
    /// The server's, or that there was no answer.
    pub(crate) async fn ask(&self, op: op::Op) -> Result<answer::Answer, Error> {
        let write = is_write(&op);
        let id = self.waiters.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answered) = oneshot::channel();
        self.waiters.open.lock().insert(id, Waiter { answer: sender, write, sent: false });
        let _registration = Registration { waiters: &self.waiters, id };
        if self.queue.send(Op { id, op: Some(op) }).await.is_err() {
            return Err(Error::unavailable("the session has ended"));
        }
        let lost = if write { Applied::Unknown } else { Applied::No };
        answered.await.unwrap_or_else(|_| {
            Err(Error::unavailable("the session was given up").with_applied(lost))
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Waiters {
    /// Whether the caller of `id` still waits; if so, its operation now counts as sent.
    fn mark_sent(&self, id: u64) -> bool {
        let mut open = self.open.lock();
        open.get_mut(&id).map(|waiter| waiter.sent = true).is_some()
    }

    /// Hands an answer to its caller; late ones find nobody.
    fn answer(&self, Answer { id, answer }: Answer) {
        let Some(waiter) = self.open.lock().remove(&id) else { return };
        let outcome = match answer {
            Some(answer::Answer::Error(detail)) => Err(from_detail(detail, waiter.write)),
            Some(answer) => Ok(answer),
            None => Err(Error::unavailable("an answer without content")
                .with_applied(if waiter.write { Applied::Unknown } else { Applied::No })),
        };
        let _ = waiter.answer.send(outcome);
    }

    /// The stream is gone: tells everybody.
    fn fail_all(&self, status: Option<&Status>) {
        let open = core::mem::take(&mut *self.open.lock());
        for waiter in open.into_values() {
            let error = match status {
                Some(status) => from_status(status, waiter.write),
                None => Error::unavailable("the server closed the session")
                    .with_applied(if waiter.write { Applied::Unknown } else { Applied::No }),
            };
            let error = if waiter.sent { error } else { error.with_applied(Applied::No) };
            let _ = waiter.answer.send(Err(error));
        }
    }
}

/// Opens a stream whenever there is something to send, until the last handle is gone.
async fn run(client: KvClient<Channel>, mut queue: mpsc::Receiver<Op>, waiters: Arc<Waiters>) {
    loop {
        let mut first = Vec::with_capacity(BATCH_OPS_MAX);
        if queue.recv_many(&mut first, BATCH_OPS_MAX).await == 0 {
            return;
        }
        let (sender, messages) = mpsc::channel(1);
        let ended = tokio::select! {
            ended = read(client.clone(), messages, &waiters) => ended,
            () = write(first, &mut queue, sender, &waiters) => return,
        };
        waiters.fail_all(ended.as_ref());
    }
}

/// Hands out answers until the stream ends; a status when it did not end well.
async fn read(
    mut client: KvClient<Channel>,
    messages: mpsc::Receiver<SessionRequest>,
    waiters: &Waiters,
) -> Option<Status> {
    let mut answers = match client.session(ReceiverStream::new(messages)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Some(status),
    };
    loop {
        match answers.message().await {
            Ok(Some(SessionResponse { answers })) => {
                answers.into_iter().for_each(|answer| waiters.answer(answer));
            }
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// Sends what is queued, batch by batch. Returns when the last handle is gone; when the stream is,
/// it waits for the reader to say why.
async fn write(
    first: Vec<Op>,
    queue: &mut mpsc::Receiver<Op>,
    stream: mpsc::Sender<SessionRequest>,
    waiters: &Waiters,
) {
    let mut batch = first;
    loop {
        let mut ops = batch.drain(..).peekable();
        while ops.peek().is_some() {
            // Room first: until then an operation is still unsent, and its caller may yet go.
            let Ok(permit) = stream.reserve().await else {
                return core::future::pending().await;
            };
            permit.send(message(&mut ops, waiters));
        }
        drop(ops);
        if queue.recv_many(&mut batch, BATCH_OPS_MAX).await == 0 {
            return;
        }
    }
}

/// The next message: operations whose callers still wait, up to the size of a message.
fn message(ops: &mut impl Iterator<Item = Op>, waiters: &Waiters) -> SessionRequest {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for op in ops {
        if waiters.mark_sent(op.id) {
            bytes += op.encoded_len();
            batch.push(op);
        }
        if bytes >= BATCH_BYTES {
            break;
        }
    }
    SessionRequest { ops: batch }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::v1::{ErrorDetail, GetRequest, GetResponse, PutRequest};

    fn waiter(waiters: &Waiters, id: u64, write: bool) -> oneshot::Receiver<AnswerResult> {
        let (answer, answered) = oneshot::channel();
        waiters.open.lock().insert(id, Waiter { answer, write, sent: false });
        answered
    }

    type AnswerResult = Result<answer::Answer, Error>;

    fn get(id: u64) -> Op {
        Op { id, op: Some(op::Op::Get(GetRequest::default())) }
    }

    #[test]
    fn abandoned_operations_are_not_sent_and_late_answers_find_nobody() {
        let waiters = Waiters::default();
        let _kept = waiter(&waiters, 1, false);
        drop(Registration { waiters: &waiters, id: 2 });
        let sent = message(&mut [get(1), get(2)].into_iter(), &waiters);
        assert_eq!(sent.ops.iter().map(|op| op.id).collect::<Vec<_>>(), [1]);
        let answer = Some(answer::Answer::Get(GetResponse::default()));
        waiters.answer(Answer { id: 2, answer });
        assert_eq!(waiters.open.lock().len(), 1);
    }

    #[test]
    fn a_message_is_closed_at_its_size() {
        let waiters = Waiters::default();
        let put = |id| {
            let value = vec![0; BATCH_BYTES / 2].into();
            Op { id, op: Some(op::Op::Put(PutRequest { value, ..Default::default() })) }
        };
        let _waiting = [1, 2, 3].map(|id| waiter(&waiters, id, true));
        let mut ops = [put(1), put(2), put(3)].into_iter();
        assert_eq!(message(&mut ops, &waiters).ops.len(), 2);
        assert_eq!(message(&mut ops, &waiters).ops.len(), 1);
    }

    #[test]
    fn a_broken_stream_leaves_sent_writes_unknown_and_unsent_ones_not_applied() {
        let waiters = Waiters::default();
        let mut sent = waiter(&waiters, 1, true);
        let mut unsent = waiter(&waiters, 2, true);
        let mut read = waiter(&waiters, 3, false);
        assert!(waiters.mark_sent(1) && waiters.mark_sent(3));
        waiters.fail_all(None);
        let applied = |answered: &mut oneshot::Receiver<AnswerResult>| {
            answered.try_recv().unwrap().unwrap_err().applied()
        };
        assert_eq!(applied(&mut sent), Applied::Unknown);
        assert_eq!(applied(&mut unsent), Applied::No);
        assert_eq!(applied(&mut read), Applied::No);
    }

    #[test]
    fn answers_reach_their_callers_in_any_order() {
        let waiters = Waiters::default();
        let mut one = waiter(&waiters, 1, false);
        let mut two = waiter(&waiters, 2, true);
        let code = "OVERLOADED".to_owned();
        let error = ErrorDetail { code, ..Default::default() };
        waiters.answer(Answer { id: 2, answer: Some(answer::Answer::Error(error)) });
        let found = GetResponse { found: true, ..Default::default() };
        waiters.answer(Answer { id: 1, answer: Some(answer::Answer::Get(found.clone())) });
        assert_eq!(one.try_recv().unwrap().unwrap(), answer::Answer::Get(found));
        assert_eq!(two.try_recv().unwrap().unwrap_err().code(), "OVERLOADED");
    }
}

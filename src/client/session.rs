//! The session lane: one bidirectional stream to one endpoint, shared by all requests. Whatever is
//! queued when the stream can take more goes out as one message; nothing waits for company. A
//! caller that loses interest removes its entry from a map, and the stream never knows.
//!
//! The stream is opened by the first request, and again by the first one after it broke. Requests
//! open at that moment fail: those not sent yet with "not applied", the others as unknown.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout_at;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::message::{Applied, ErrorCode, Facts};
use crate::types::Time;
use crate::wire::proto::v1::kv_client::KvClient;
use crate::wire::proto::v1::session_request::{Op, op};
use crate::wire::proto::v1::session_response::{Answer, answer};
use crate::wire::proto::v1::{SessionRequest, SessionResponse};

use super::data::is_write;
use super::status_error::{from_detail, from_status};
use super::{Clock, Error, convert};

/// Requests that may be sent and unanswered: half of what a server reads of one session, so that
/// they wait here, where they can be taken back, and not in buffers on the way.
const OPEN_MAX: usize = 512;
/// Requests that may wait for the stream; more callers wait for room, ...
const QUEUE_OPS_MAX: usize = 128;
/// ... but no longer than this, nor an eighth of their time. Whoever waits longer than the queue
/// moves has the more to wait behind him: under a lasting overload a long queue would have every
/// request served just too late (Nichols and Jacobson, "Controlling Queue Delay", 2012).
const ROOM_WAIT_MAX: Duration = Duration::from_millis(50);
/// Callers that may wait for room; beyond it they hear so at once.
const ROOM_WAITERS_MAX: usize = 1024;
/// When to try again whom there was no room for.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Most operations of one message.
const BATCH_OPS_MAX: usize = 128;
/// A message is closed once it has this many bytes; one more operation may exceed it.
const BATCH_BYTES: usize = 64 << 10;

/// A stream to one endpoint. Ends with its last handle.
#[derive(Debug)]
pub(crate) struct Session {
    waiters: Arc<Waiters>,
    queue: mpsc::Sender<Queued>,
    task: AbortHandle,
    clock: Clock,
}

/// An operation on its way to the stream.
#[derive(Debug)]
struct Queued {
    op: Op,
    /// When its caller stops waiting, by the session's clock.
    until: Time,
}

#[derive(Debug)]
struct Waiters {
    open: Mutex<HashMap<u64, Waiter>>,
    /// For requests sent and unanswered.
    room: Arc<Semaphore>,
    last_id: AtomicU64,
    /// How many callers wait for room in the queue.
    for_room: AtomicUsize,
}

#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Result<answer::Answer, Error>>,
    write: bool,
    /// Once it is sent: its share of [`OPEN_MAX`].
    sent: Option<OwnedSemaphorePermit>,
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
        let (waiters, clock) = (Arc::<Waiters>::default(), Clock::start());
        let task = tokio::spawn(run(client, queued, waiters.clone(), clock)).abort_handle();
        Session { waiters, queue, task, clock }
    }

    /// Sends one operation and waits for its answer. Dropping the future abandons the answer. The
    /// server is told what is left of `remaining` when the operation leaves.
    ///
    /// # Errors
    /// The server's, that there was no answer, or [`ErrorCode::Overloaded`] when the stream takes too
    /// long to take it.
    pub(crate) async fn ask(
        &self,
        op: op::Op,
        remaining: Duration,
    ) -> Result<answer::Answer, Error> {
        let write = is_write(&op);
        let id = self.waiters.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answered) = oneshot::channel();
        self.waiters.open.lock().insert(id, Waiter { answer: sender, write, sent: None });
        let _registration = Registration { waiters: &self.waiters, id };
        let now = self.clock.now();
        let queued = Queued { op: Op { id, op: Some(op) }, until: now.plus(remaining) };
        self.enqueue(queued, now.plus(ROOM_WAIT_MAX.min(remaining / 8))).await?;
        let lost = if write { Applied::Unknown } else { Applied::No };
        answered.await.unwrap_or_else(|_| {
            Err(Error::unavailable("the session was given up").with_applied(lost))
        })
    }

    /// Puts an operation into the queue, if there is room by then.
    async fn enqueue(&self, queued: Queued, room_by: Time) -> Result<(), Error> {
        let ended = || Error::unavailable("the session has ended");
        let queued = match self.queue.try_send(queued) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(ended()),
            Err(mpsc::error::TrySendError::Full(queued)) => queued,
        };
        let _waits = WaitsForRoom::begin(&self.waiters.for_room).ok_or_else(no_room)?;
        let sent = timeout_at(self.clock.instant(room_by), self.queue.send(queued)).await;
        sent.map_err(|_| no_room())?.map_err(|_| ended())
    }
}

/// A caller that waits for room in the queue; counted until dropped.
struct WaitsForRoom<'a>(&'a AtomicUsize);

impl<'a> WaitsForRoom<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Option<WaitsForRoom<'a>> {
        let guard = WaitsForRoom(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < ROOM_WAITERS_MAX).then_some(guard)
    }
}

impl Drop for WaitsForRoom<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn no_room() -> Error {
    let message = "more requests wait for this endpoint than it takes in time";
    let facts = Facts { retry_after: Some(RETRY_AFTER), ..Facts::default() };
    Error::new(ErrorCode::Overloaded, message).with_facts(facts)
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Default for Waiters {
    fn default() -> Waiters {
        let room = Arc::new(Semaphore::new(OPEN_MAX));
        let (last_id, for_room) = (AtomicU64::new(0), AtomicUsize::new(0));
        Waiters { open: Mutex::default(), room, last_id, for_room }
    }
}

impl Waiters {
    /// Whether the caller of `id` still waits; if so, its operation now counts as sent.
    fn mark_sent(&self, id: u64, permit: OwnedSemaphorePermit) -> bool {
        let mut open = self.open.lock();
        open.get_mut(&id).map(|waiter| waiter.sent = Some(permit)).is_some()
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
            let error = if waiter.sent.is_some() { error } else { error.with_applied(Applied::No) };
            let _ = waiter.answer.send(Err(error));
        }
    }
}

/// Opens a stream whenever there is something to send, until the last handle is gone.
async fn run(
    client: KvClient<Channel>,
    mut queue: mpsc::Receiver<Queued>,
    waiters: Arc<Waiters>,
    clock: Clock,
) {
    loop {
        let mut first = Vec::with_capacity(BATCH_OPS_MAX);
        if queue.recv_many(&mut first, BATCH_OPS_MAX).await == 0 {
            return;
        }
        let (sender, messages) = mpsc::channel(1);
        let ended = tokio::select! {
            ended = read(client.clone(), messages, &waiters) => ended,
            () = write(first, &mut queue, sender, (&waiters, clock)) => return,
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
    first: Vec<Queued>,
    queue: &mut mpsc::Receiver<Queued>,
    stream: mpsc::Sender<SessionRequest>,
    (waiters, clock): (&Waiters, Clock),
) {
    let mut batch = first;
    loop {
        let mut ops = batch.drain(..).peekable();
        while ops.peek().is_some() {
            // Room first: until then an operation is still unsent, and its caller may yet go.
            let Ok(room) = waiters.room.clone().acquire_owned().await else { return };
            let Ok(permit) = stream.reserve().await else {
                return core::future::pending().await;
            };
            let message = message(&mut ops, (waiters, room), clock.now());
            if !message.ops.is_empty() {
                permit.send(message);
            }
        }
        drop(ops);
        if queue.recv_many(&mut batch, BATCH_OPS_MAX).await == 0 {
            return;
        }
    }
}

/// The next message: operations whose callers still wait, up to the size of a message, each with
/// what is left of its time.
fn message(
    ops: &mut impl Iterator<Item = Queued>,
    (waiters, room): (&Waiters, OwnedSemaphorePermit),
    now: Time,
) -> SessionRequest {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut room = Some(room);
    while let Some(permit) = room.take().or_else(|| waiters.room.clone().try_acquire_owned().ok())
        && let Some(Queued { mut op, until }) = ops.next()
    {
        if until > now && waiters.mark_sent(op.id, permit) {
            convert::set_remaining(&mut op, until.since(now));
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
    use crate::wire::proto::v1::{ErrorDetail, GetRequest, GetResponse, PutRequest, RequestHeader};

    fn waiter(waiters: &Waiters, id: u64, write: bool) -> oneshot::Receiver<AnswerResult> {
        let (answer, answered) = oneshot::channel();
        waiters.open.lock().insert(id, Waiter { answer, write, sent: None });
        answered
    }

    type AnswerResult = Result<answer::Answer, Error>;

    fn send(ops: &mut impl Iterator<Item = Queued>, waiters: &Waiters) -> SessionRequest {
        let permit = waiters.room.clone().try_acquire_owned().unwrap();
        message(ops, (waiters, permit), NOW)
    }

    #[test]
    fn no_more_are_open_than_may_be_and_an_answer_makes_room() {
        let waiters = Waiters::default();
        let most = OPEN_MAX as u64;
        let _waiting: Vec<_> = (0..=most).map(|id| waiter(&waiters, id, false)).collect();
        let mut ops = (0..=most).map(get);
        assert_eq!(send(&mut ops, &waiters).ops.len(), OPEN_MAX);
        assert!(waiters.room.clone().try_acquire_owned().is_err());
        let found = GetResponse::default();
        waiters.answer(Answer { id: 7, answer: Some(answer::Answer::Get(found)) });
        assert_eq!(send(&mut ops, &waiters).ops.len(), 1);
    }

    const NOW: Time = Time(1_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn queued(id: u64, op: op::Op, left: Duration) -> Queued {
        Queued { op: Op { id, op: Some(op) }, until: NOW.plus(left) }
    }

    fn get(id: u64) -> Queued {
        let header = Some(RequestHeader { timeout_ms: 5000, ..Default::default() });
        queued(id, op::Op::Get(GetRequest { header, ..Default::default() }), SECOND)
    }

    #[test]
    fn what_leaves_late_says_what_is_left_and_what_is_too_late_does_not_leave() {
        let waiters = Waiters::default();
        let _kept = [1, 2].map(|id| waiter(&waiters, id, false));
        let late = Queued { until: NOW, ..get(1) };
        let sent = send(&mut [late, get(2)].into_iter(), &waiters);
        assert_eq!(sent.ops.iter().map(|op| op.id).collect::<Vec<_>>(), [2]);
        let Some(op::Op::Get(get)) = &sent.ops[0].op else { panic!("a get was asked") };
        assert_eq!(get.header.as_ref().unwrap().timeout_ms, 1000);
    }

    #[test]
    fn abandoned_operations_are_not_sent_and_late_answers_find_nobody() {
        let waiters = Waiters::default();
        let _kept = waiter(&waiters, 1, false);
        drop(Registration { waiters: &waiters, id: 2 });
        let sent = send(&mut [get(1), get(2)].into_iter(), &waiters);
        assert_eq!(sent.ops.iter().map(|op| op.id).collect::<Vec<_>>(), [1]);
        let answer = Some(answer::Answer::Get(GetResponse::default()));
        waiters.answer(Answer { id: 2, answer });
        assert_eq!(waiters.open.lock().len(), 1);
    }

    #[test]
    fn only_so_many_wait_for_room_and_the_others_hear_so_at_once() {
        let waiting = AtomicUsize::new(0);
        let waits: Vec<_> =
            (0..ROOM_WAITERS_MAX).map(|_| WaitsForRoom::begin(&waiting).unwrap()).collect();
        assert!(WaitsForRoom::begin(&waiting).is_none());
        drop(waits);
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
        assert!(WaitsForRoom::begin(&waiting).is_some());
    }

    #[test]
    fn a_message_is_closed_at_its_size() {
        let waiters = Waiters::default();
        let put = |id| {
            let value = vec![0; BATCH_BYTES / 2].into();
            queued(id, op::Op::Put(PutRequest { value, ..Default::default() }), SECOND)
        };
        let _waiting = [1, 2, 3].map(|id| waiter(&waiters, id, true));
        let mut ops = [put(1), put(2), put(3)].into_iter();
        assert_eq!(send(&mut ops, &waiters).ops.len(), 2);
        assert_eq!(send(&mut ops, &waiters).ops.len(), 1);
    }

    #[test]
    fn a_broken_stream_leaves_sent_writes_unknown_and_unsent_ones_not_applied() {
        let waiters = Waiters::default();
        let mut sent = waiter(&waiters, 1, true);
        let mut unsent = waiter(&waiters, 2, true);
        let mut read = waiter(&waiters, 3, false);
        let permit = || waiters.room.clone().try_acquire_owned().unwrap();
        assert!(waiters.mark_sent(1, permit()) && waiters.mark_sent(3, permit()));
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

//! How the services reach the driver: submit and wait, or submit many for a session. A full queue
//! is an error at once; a caller that goes away abandons its operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use core::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::message::{
    AdminRequest, Applied, ClientRequest, ClientResult, ErrorCode, Event, OpError,
};
use crate::telemetry::Telemetry;
use crate::transport::ViewReceiver;
use crate::types::{OpId, Time, WallTime, limits};

use super::clock::Clock;
use super::mailbox::Mailbox;

/// What the answer of a session's operation is filed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The client's number for the operation.
    pub id: u64,
    /// Whether it was a delete: inside, deletes are puts.
    pub delete: bool,
}

/// Where the answers of a session go. Called by the driver: must not block.
pub trait AnswerSink: Send + Sync {
    /// Takes one answer.
    fn answer(&self, ticket: Ticket, result: ClientResult);
    /// Whether answers are no longer wanted.
    fn is_closed(&self) -> bool;
}

/// Who waits for an answer.
pub enum Responder {
    /// One caller.
    Call(oneshot::Sender<ClientResult>),
    /// A session.
    Session(Arc<dyn AnswerSink>, Ticket),
}

impl Responder {
    /// Gives the answer. A caller that has gone does not get one.
    pub fn answer(self, result: ClientResult) {
        match self {
            Responder::Call(sender) => drop(sender.send(result)),
            Responder::Session(sink, ticket) => sink.answer(ticket, result),
        }
    }

    /// Whether the answer is no longer wanted.
    pub fn is_closed(&self) -> bool {
        match self {
            Responder::Call(sender) => sender.is_closed(),
            Responder::Session(sink, _) => sink.is_closed(),
        }
    }
}

/// One operation on its way to the node.
pub struct Asked {
    /// Its number.
    pub op: OpId,
    /// [`Event::Client`] or [`Event::Admin`].
    pub event: Event,
    /// Who waits.
    pub responder: Responder,
}

/// Operations on their way to the node: one, or all that came in one message of a session. Takes
/// room of the queue until it is dropped.
pub struct ClientInput {
    asked: Vec<Asked>,
    _room: Room,
}

impl IntoIterator for ClientInput {
    type Item = Asked;
    type IntoIter = std::vec::IntoIter<Asked>;

    /// The operations; the room that they took of the queue is given back.
    fn into_iter(self) -> Self::IntoIter {
        self.asked.into_iter()
    }
}

/// Bytes of the queue, given back when it is dropped.
struct Room {
    telemetry: Telemetry,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.telemetry.queued_bytes().fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a handle must know of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The deadline of requests that name none.
    pub(super) timeout: Duration,
    /// Bytes of operations that may wait for the driver. One that finds the queue empty is always
    /// taken: what one message carries has its own bound.
    pub(super) queue_bytes_max: u64,
}

/// The driver's half of the clients' queue.
pub type ClientInputs = mpsc::Receiver<ClientInput>;

struct Shared {
    clients: mpsc::Sender<ClientInput>,
    next_op: AtomicU64,
    /// Streams of scans that are open.
    scan_streams: AtomicUsize,
    mailbox: Arc<Mailbox>,
    view: ViewReceiver,
    clock: Clock,
    limits: Limits,
    telemetry: Telemetry,
    draining: CancellationToken,
}

/// The services' way to the driver; cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// Messages of clients that may wait for the driver.
const CLIENT_INPUTS_MAX: usize = 4096;
/// What an operation takes beside the bytes it carries.
const ASKED_BYTES: u64 = 512;

impl Handle {
    pub(super) fn new(
        clock: Clock,
        limits: Limits,
        mailbox: Arc<Mailbox>,
        view: ViewReceiver,
        telemetry: Telemetry,
    ) -> (Handle, ClientInputs) {
        let (clients, inputs) = mpsc::channel(CLIENT_INPUTS_MAX);
        let next_op = AtomicU64::new(1);
        let shared = Shared {
            clients,
            next_op,
            scan_streams: AtomicUsize::new(0),
            mailbox,
            view,
            clock,
            limits,
            telemetry,
            draining: CancellationToken::new(),
        };
        (Handle(Arc::new(shared)), inputs)
    }

    /// A handle whose operations arrive at the returned receiver: for tests of the services, which
    /// answer them themselves.
    pub fn detached(view: ViewReceiver) -> (Handle, ClientInputs) {
        let clock = Clock::start();
        let telemetry = Telemetry::default();
        let limits = Limits { timeout: Duration::from_secs(1), queue_bytes_max: 64 << 20 };
        Handle::new(clock, limits, Arc::default(), view, telemetry)
    }

    /// The moment, by the clock that deadlines are measured with.
    pub fn now(&self) -> Time {
        self.0.clock.mono()
    }

    /// The wall clock of this machine.
    pub fn wall(&self) -> WallTime {
        self.0.clock.now().wall
    }

    /// The deadline of requests that name none.
    pub fn default_timeout(&self) -> Duration {
        self.0.limits.timeout
    }

    /// The newest view.
    pub fn view(&self) -> ViewReceiver {
        self.0.view.clone()
    }

    /// What is counted.
    pub fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    /// Submits an operation of a client and waits for its outcome. Dropping the future abandons it.
    ///
    /// # Errors
    /// The node's error; [`ErrorCode::Overloaded`] at once when the driver's queue is full.
    pub async fn submit(&self, request: ClientRequest) -> ClientResult {
        let op = self.next();
        self.call(op, Event::Client { op, request }).await
    }

    /// A number for a stream of a scan: see [`ScanPart`](crate::message::ScanPart). What it keeps open
    /// at the nodes is closed when what is returned is dropped.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`]: there are as many as a node may have.
    pub fn begin_scan(&self) -> Result<ScanStream, OpError> {
        let streams = &self.0.scan_streams;
        let most = limits::SCAN_STREAMS_MAX;
        let taken = streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < most).then_some(count + 1)
        });
        match taken {
            Ok(_) => Ok(ScanStream { handle: self.clone(), scan: self.next().0 }),
            Err(count) => {
                let text = "too many streams of scans are open on this node";
                let mut error = OpError::new(ErrorCode::Overloaded, text).with_limit(most, count);
                error.facts.retry_after = Some(STREAM_RETRY_AFTER);
                Err(error)
            }
        }
    }

    /// Submits a question of an operator and waits for its outcome. Dropping the future abandons it.
    ///
    /// # Errors
    /// As [`Handle::submit`]; [`ErrorCode::DeadlineExceeded`] when a disk takes too long.
    pub async fn admin(&self, deadline: Time, request: AdminRequest) -> ClientResult {
        let op = self.next();
        let changes = matches!(
            &request,
            AdminRequest::Table(_) | AdminRequest::Topology(_) | AdminRequest::Force(_)
        );
        let applied = if changes { Applied::Unknown } else { Applied::No };
        let call = self.call(op, Event::Admin { op, deadline, request });
        // What the node itself says at the deadline tells more.
        let until = self.0.clock.instant(deadline.plus(ADMIN_GRACE));
        tokio::time::timeout_at(until, call).await.unwrap_or_else(|_| {
            let message = "deadline passed before the node had done it; it may yet be done";
            Err(OpError::new(ErrorCode::DeadlineExceeded, message).with_applied(applied))
        })
    }

    async fn call(&self, op: OpId, event: Event) -> ClientResult {
        let (sender, receiver) = oneshot::channel();
        let asked = Asked { op, event, responder: Responder::Call(sender) };
        if let Err((refusal, _)) = self.queue(vec![asked]) {
            return Err(refusal);
        }
        let mut guard = AbandonGuard { op, mailbox: Some(&self.0.mailbox) };
        let result = receiver.await;
        guard.mailbox = None;
        result.unwrap_or_else(|_| Err(gone().with_applied(Applied::Unknown)))
    }

    /// Submits operations of a session; their answers go to `sink`, an `Overloaded` included.
    pub fn submit_all(
        &self,
        requests: impl Iterator<Item = (Ticket, ClientRequest)>,
        sink: &Arc<dyn AnswerSink>,
    ) {
        let asked: Vec<Asked> = requests
            .map(|(ticket, request)| {
                let op = self.next();
                let responder = Responder::Session(sink.clone(), ticket);
                Asked { op, event: Event::Client { op, request }, responder }
            })
            .collect();
        if asked.is_empty() {
            return;
        }
        if let Err((refusal, asked)) = self.queue(asked) {
            for asked in asked {
                asked.responder.answer(Err(refusal.clone()));
            }
        }
    }

    /// Cancelled when the node has been told to drain: streams of clients end themselves then.
    pub fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    /// Tells the node to finish what was begun and take nothing new.
    pub fn drain(&self) {
        self.0.draining.cancel();
        self.0.mailbox.drain();
    }

    /// Tells the driver to end; operations in flight get no answer.
    pub fn stop(&self) {
        self.0.mailbox.stop();
    }

    fn next(&self) -> OpId {
        OpId(self.0.next_op.fetch_add(1, Ordering::Relaxed))
    }

    /// Hands operations to the driver, or back with the reason.
    fn queue(&self, asked: Vec<Asked>) -> Result<(), (OpError, Vec<Asked>)> {
        let Some(room) = self.reserve(asked.iter().map(|asked| bytes(&asked.event)).sum()) else {
            return Err((self.full("bytes of operations"), asked));
        };
        let sent = self.0.clients.try_send(ClientInput { asked, _room: room });
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(input) => (self.full("operations"), input.asked),
            mpsc::error::TrySendError::Closed(input) => (gone(), input.asked),
        })
    }

    fn reserve(&self, bytes: u64) -> Option<Room> {
        let fits = |held: u64| {
            let all = held + bytes;
            (held == 0 || all <= self.0.limits.queue_bytes_max).then_some(all)
        };
        let queued = self.0.telemetry.queued_bytes();
        queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Room { telemetry: self.0.telemetry.clone(), bytes })
    }

    fn full(&self, what: &str) -> OpError {
        self.0.telemetry.shed();
        let message = format!("too many {what} wait for this node");
        let mut error = OpError::new(ErrorCode::Overloaded, message);
        error.facts.retry_after = Some(RETRY_AFTER);
        error
    }
}

/// What an operation takes of the queue.
fn bytes(event: &Event) -> u64 {
    let carried = match event {
        Event::Client { request, .. } => request.body.bytes() as u64,
        _ => 0,
    };
    ASKED_BYTES + carried
}

/// When a stream of a scan may be tried again that there was no room for.
const STREAM_RETRY_AFTER: Duration = Duration::from_millis(200);
/// How much longer than the deadline the node's own answer to an operator is waited for.
const ADMIN_GRACE: Duration = Duration::from_millis(50);
/// When a shed request may be sent again.
const RETRY_AFTER: Duration = Duration::from_millis(50);

fn gone() -> OpError {
    OpError::new(ErrorCode::NotReady, "the node has stopped")
}

/// A stream of a scan: its pages go by its number.
pub struct ScanStream {
    handle: Handle,
    scan: u64,
}

impl ScanStream {
    /// The number.
    pub fn scan(&self) -> u64 {
        self.scan
    }
}

impl Drop for ScanStream {
    fn drop(&mut self) {
        self.handle.0.scan_streams.fetch_sub(1, Ordering::Relaxed);
        self.handle.0.mailbox.end_scan(self.scan);
    }
}

/// Abandons an operation whose caller goes away before the answer.
struct AbandonGuard<'a> {
    op: OpId,
    mailbox: Option<&'a Mailbox>,
}

impl Drop for AbandonGuard<'_> {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox {
            mailbox.abandon(self.op);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{ClientBody, Put, TimeToLive};
    use crate::types::{Key, Value};

    struct Heard(parking_lot::Mutex<Vec<(Ticket, ClientResult)>>);

    impl AnswerSink for Heard {
        fn answer(&self, ticket: Ticket, result: ClientResult) {
            self.0.lock().push((ticket, result));
        }

        fn is_closed(&self) -> bool {
            false
        }
    }

    fn put(bytes: usize) -> ClientRequest {
        let body = ClientBody::Put(Put {
            table: "default".to_owned().try_into().unwrap(),
            key: Key::new("key").unwrap(),
            value: Some(Value::new(vec![0; bytes]).unwrap()),
            ttl: TimeToLive::Table,
            w: None,
            r: None,
            attempt: Default::default(),
            time: None,
            mode: Default::default(),
            context: Default::default(),
            traced: false,
        });
        let trace = Default::default();
        ClientRequest { deadline: Time(u64::MAX), trace, principal: Default::default(), body }
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_bytes_and_what_it_refuses_is_answered_at_once() {
        let (_view, receiver) = tokio::sync::watch::channel(None);
        let (handle, mut inputs) = Handle::detached(receiver);
        let heard = Arc::new(Heard(parking_lot::Mutex::default()));
        let sink: Arc<dyn AnswerSink> = heard.clone();
        // 64 MiB is the bound: 63 fit with what each takes beside its value.
        for id in 0..70 {
            let ticket = Ticket { id, delete: false };
            handle.submit_all(core::iter::once((ticket, put(1 << 20))), &sink);
        }
        let refused: Vec<u64> = heard.0.lock().iter().map(|(ticket, _)| ticket.id).collect();
        assert_eq!(refused, (63..70).collect::<Vec<u64>>());
        for (_, result) in heard.0.lock().drain(..) {
            let error = result.unwrap_err();
            assert_eq!((error.code, error.applied), (ErrorCode::Overloaded, Applied::No));
            assert!(error.facts.retry_after.is_some());
        }
        // What the driver has taken makes room.
        while inputs.try_recv().is_ok() {}
        assert_eq!(handle.telemetry().queued_bytes().load(Ordering::Relaxed), 0);
        handle.submit_all(core::iter::once((Ticket { id: 99, delete: false }, put(9))), &sink);
        assert!(heard.0.lock().is_empty() && inputs.try_recv().is_ok());
    }

    #[tokio::test]
    async fn an_operator_gets_an_answer_though_the_disk_gives_none() {
        let (_view, receiver) = tokio::sync::watch::channel(None);
        let (handle, _inputs) = Handle::detached(receiver);
        let deadline = handle.now().plus(Duration::from_millis(5));
        let error = handle.admin(deadline, AdminRequest::Flush).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    }
}

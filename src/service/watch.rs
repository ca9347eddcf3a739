//! A watch as a stream of responses. Each is an operation of its own, begun when the client has taken the
//! one before: a client that does not read holds its watch up, and nothing piles up here.

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::message::{ClientBody, ClientRequest, OpError, Reply, WatchAsk, WatchEvent};
use crate::runtime::{Handle, ScanStream};
use crate::telemetry::WatchGuard;
use crate::wire::client::{Call, mismatched};
use crate::wire::error::status_of;
use crate::wire::proto::v1 as pb;
use crate::wire::watch::{watch_from_wire, watch_to_wire};

type Answers = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// One watch, as long as its client listens.
struct Watching {
    handle: Handle,
    stream: ScanStream,
    counted: WatchGuard,
}

/// Begins a watch.
///
/// # Errors
/// A field that is outside its bounds, or there are as many streams as may be.
pub(super) fn begin(
    handle: &Handle,
    call: &Call,
    request: pb::WatchRequest,
) -> Result<impl Stream<Item = Result<pb::WatchResponse, Status>> + Send + use<>, OpError> {
    let request = watch_from_wire(call, request)?;
    let ClientBody::Watch(ask) = request.body else { return Err(mismatched()) };
    let ask = *ask;
    let first = ClientRequest { body: ClientBody::Watch(Box::new(ask.clone())), ..request };
    let watching = Watching {
        stream: handle.begin_scan()?,
        handle: handle.clone(),
        counted: handle.telemetry().watch(),
    };
    let (sender, answers) = mpsc::channel(1);
    tokio::spawn(watching.tell(first, ask, sender));
    Ok(ReceiverStream::new(answers))
}

impl Watching {
    async fn tell(self, mut request: ClientRequest, mut ask: WatchAsk, client: Answers) {
        ask.stream = self.stream.scan();
        loop {
            // What the client has not taken is not asked for.
            let Ok(room) = client.reserve().await else { return };
            request.body = ClientBody::Watch(Box::new(ask.clone()));
            let reply = tokio::select! {
                reply = self.handle.submit(request.clone()) => reply,
                () = client.closed() => return,
            };
            match reply {
                Ok(Reply::Watch(reply)) => {
                    self.count(&reply.events);
                    room.send(Ok(watch_to_wire(*reply)));
                }
                Ok(_) => return room.send(Err(status_of(&mismatched()))),
                Err(error) => return room.send(Err(status_of(&error))),
            }
            (ask.first, ask.token) = (false, bytes::Bytes::new());
            request.deadline = self.handle.now().plus(self.handle.default_timeout());
        }
    }

    fn count(&self, events: &[WatchEvent]) {
        let gaps = events.iter().filter(|event| matches!(event, WatchEvent::Gap { .. })).count();
        let changes = events.iter().filter(|event| matches!(event, WatchEvent::Change(_))).count();
        self.counted.told(changes as u64, gaps as u64);
    }
}

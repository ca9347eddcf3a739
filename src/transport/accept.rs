//! The incoming half: judges greetings, decodes batches, hands them to the driver. A stream that
//! breaks a rule ends with a typed refusal or an error; the node goes on.

use core::time::Duration;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::control::admission::judge;
use crate::message::{Applicant, ErrorCode, Hello, HelloRefusal, OpError, PeerMessage, View};
use crate::types::{ClusterState, NodeId, limits};
use crate::wire::Malformed;
use crate::wire::error::status_of;
use crate::wire::hello::{ack_batch, hello_from_wire, refusal_batch};
use crate::wire::join::{join_from_wire, joined_to_wire};
use crate::wire::peer::message_from_wire;
use crate::wire::proto::peer as pb;
use crate::wire::proto::peer::peer_server::{Peer, PeerServer};

use super::connect::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, incoming};
use super::inbox::Inbox;
use super::{TransportConfig, ViewReceiver};

/// Takes in nodes that want to become members.
#[tonic::async_trait]
pub trait Doorkeeper: Send + Sync + 'static {
    /// Makes the applicant a member, or finds that it is one.
    ///
    /// # Errors
    /// Why it is not one; it may become one yet where the outcome is not known.
    async fn admit(&self, applicant: Applicant) -> Result<Arc<ClusterState>, OpError>;
}

/// Serves `roundtable.peer.v1.Peer`.
#[derive(Clone)]
pub struct PeerService {
    inbox: Inbox,
    view: ViewReceiver,
    hello_timeout: Duration,
    closing: CancellationToken,
    door: Arc<dyn Doorkeeper>,
}

/// Streams one connection may have open: two lanes, and those being replaced.
const STREAMS_PER_CONNECTION: u32 = 16;
/// Largest frame taken: chunks of files cross in a few of them, instead of 16 KiB at a time.
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Resets of streams by a peer that do not count as an attack. h2 closes the whole connection at 20.
const RESETS_MAX: usize = 1_000_000;

/// Serves peers on `listener` until the service's token is cancelled; its streams end then.
///
/// # Errors
/// The listener failed.
pub async fn serve_peers(
    listener: TcpListener,
    service: PeerService,
    config: &TransportConfig,
) -> Result<(), tonic::transport::Error> {
    let closing = service.closing.clone();
    let server = PeerServer::new(service)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    Server::builder()
        .http2_keepalive_interval(Some(config.keepalive))
        .http2_keepalive_timeout(Some(config.keepalive_timeout))
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .add_service(server)
        .serve_with_incoming_shutdown(incoming(listener), closing.cancelled_owned())
        .await
}

type Answers = mpsc::Sender<Result<pb::PeerBatch, Status>>;

/// Why a stream ends.
enum Verdict {
    /// It ended by itself, or the node is going.
    Over,
    Refused(NodeId, HelloRefusal),
    Malformed(Malformed),
}

impl From<Malformed> for Verdict {
    fn from(malformed: Malformed) -> Verdict {
        Verdict::Malformed(malformed)
    }
}

impl PeerService {
    /// A service that hands what peers say to `inbox`, and judges them by the newest `view`, until
    /// `closing` is cancelled. Who wants to become a member is shown to `door`.
    pub fn new(
        inbox: Inbox,
        view: ViewReceiver,
        config: &TransportConfig,
        closing: CancellationToken,
        door: Arc<dyn Doorkeeper>,
    ) -> PeerService {
        PeerService { inbox, view, hello_timeout: config.connect_timeout, closing, door }
    }

    async fn serve(self, mut stream: Streaming<pb::PeerBatch>, answers: Answers) {
        let (inbox, closing) = (self.inbox.clone(), self.closing.clone());
        let verdict = tokio::select! {
            verdict = self.converse(&mut stream, &answers) => verdict,
            // The opener has gone without ending its half.
            () = answers.closed() => Verdict::Over,
            () = closing.cancelled() => Verdict::Over,
        };
        // The opener may be gone already; then nobody needs the answer.
        match verdict {
            Verdict::Over => {}
            Verdict::Refused(peer, reason) => {
                let _ = answers.send(Ok(refusal_batch(&reason))).await;
                // Nothing is wrong with a newcomer that is to try again.
                if !matches!(reason, HelloRefusal::Unheard { .. }) {
                    inbox.rejected(peer, reason).await;
                }
            }
            Verdict::Malformed(malformed) => {
                tracing::warn!(%malformed, "a stream from a peer was ended");
                let _ = answers.send(Err(Status::invalid_argument(malformed.to_string()))).await;
            }
        }
    }

    async fn converse(
        mut self,
        stream: &mut Streaming<pb::PeerBatch>,
        answers: &Answers,
    ) -> Verdict {
        let hello = match self.admit(stream, answers).await {
            Ok(hello) => hello,
            Err(verdict) => return verdict,
        };
        loop {
            let batch = match stream.message().await {
                Ok(Some(batch)) => batch,
                Ok(None) => return Verdict::Over,
                Err(status) => {
                    tracing::debug!(peer = %hello.id, message = status.message(), "stream broke");
                    return Verdict::Over;
                }
            };
            // The cluster may have changed under an open stream: a removed member is a stranger.
            if self.view.has_changed().unwrap_or(false)
                && let Some(view) = self.newest()
                && let Err(reason) = judge(&view, &hello)
            {
                return Verdict::Refused(hello.id, reason);
            }
            match decode(batch) {
                Ok(messages) if messages.is_empty() => {}
                Ok(messages) => {
                    if !self.inbox.deliver(hello.id, messages).await {
                        return Verdict::Over;
                    }
                }
                Err(malformed) => return malformed.into(),
            }
        }
    }

    fn newest(&mut self) -> Option<Arc<View>> {
        self.view.borrow_and_update().clone()
    }

    /// Reads the greeting and answers it.
    async fn admit(
        &mut self,
        stream: &mut Streaming<pb::PeerBatch>,
        answers: &Answers,
    ) -> Result<Hello, Verdict> {
        let first = timeout(self.hello_timeout, stream.message()).await;
        let batch = match first {
            Ok(Ok(Some(batch))) => batch,
            Ok(Ok(None) | Err(_)) => return Err(Verdict::Over),
            Err(_) => return Err(Malformed("no greeting in time".to_owned()).into()),
        };
        let (hello, lane) = hello_from_wire(batch)?;
        let Some(view) = self.newest() else {
            return Err(Verdict::Over);
        };
        judge(&view, &hello).map_err(|reason| Verdict::Refused(hello.id, reason))?;
        tracing::debug!(peer = %hello.id, ?lane, "stream accepted");
        answers.send(Ok(ack_batch(&hello))).await.map_err(|_| Verdict::Over)?;
        self.inbox.greeted(hello.id);
        let known = view.members.iter().find(|member| member.id == hello.id);
        if known
            .is_some_and(|known| !hello.address.is_empty() && known.peer_address != hello.address)
        {
            self.inbox.moved(hello.id, hello.address.clone()).await;
        }
        Ok(hello)
    }
}

fn decode(batch: pb::PeerBatch) -> Result<Vec<PeerMessage>, Malformed> {
    if batch.opening.is_some() {
        return Err(Malformed("a second greeting".to_owned()));
    }
    batch.ops.into_iter().map(message_from_wire).collect()
}

#[tonic::async_trait]
impl Peer for PeerService {
    type ExchangeStream = ReceiverStream<Result<pb::PeerBatch, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<pb::PeerBatch>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (answers, stream) = mpsc::channel(2);
        tokio::spawn(self.clone().serve(request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let call = join_from_wire(request.into_inner());
        let call = call.map_err(|malformed| Status::invalid_argument(malformed.to_string()))?;
        let view = self.view.borrow().clone();
        let name = view.map(|view| view.hello.cluster_name.clone()).unwrap_or_default();
        let (low, high) = call.protocol;
        let refusal = if low > limits::PROTOCOL_MAX || high < limits::PROTOCOL_MIN {
            let ours = (limits::PROTOCOL_MIN, limits::PROTOCOL_MAX);
            let text = format!("it speaks {low}..={high}, this node {}..={}", ours.0, ours.1);
            Some(OpError::new(ErrorCode::ProtocolMismatch, text))
        } else if name != call.cluster_name {
            let text = format!("this is cluster {name}, not {}", call.cluster_name);
            Some(OpError::new(ErrorCode::ClusterMismatch, text))
        } else {
            None
        };
        if let Some(error) = refusal {
            return Err(status_of(&error));
        }
        match self.door.admit(call.applicant).await {
            Ok(state) => Ok(Response::new(joined_to_wire(&state))),
            Err(error) => Err(status_of(&error)),
        }
    }
}

//! The task that keeps one stream to one peer open: connect, greet, wait for the end, pause, again.

use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use crate::message::{Hello, HelloRefusal, Lane, View};
use crate::types::{Lineage, NodeId, limits};
use crate::wire::hello::{HelloAnswer, answer_from_wire, hello_batch};
use crate::wire::proto::peer as pb;
use crate::wire::proto::peer::peer_client::PeerClient;

use super::backoff::Backoff;
use super::connect::{Connector, endpoint};
use super::inbox::Inbox;
use super::queue::Queue;
use super::stats::PeerStats;
use super::{TransportConfig, ViewReceiver};

/// Why a stream is no more.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Unreachable(String),
    #[error("refused: {0}")]
    Refused(HelloRefusal),
}

fn unreachable(error: impl core::fmt::Display) -> Ended {
    Ended::Unreachable(error.to_string())
}

/// One stream to one peer.
pub(super) struct Link {
    pub(super) peer: NodeId,
    pub(super) lane: Lane,
    pub(super) address: String,
    pub(super) config: Arc<TransportConfig>,
    pub(super) queue: Arc<Queue>,
    pub(super) inbox: Inbox,
    pub(super) view: ViewReceiver,
    pub(super) stats: Arc<PeerStats>,
}

impl Link {
    /// Keeps the stream open until the task is aborted.
    pub(super) async fn run<C: Connector>(mut self, connector: C, seed: u64) {
        let mut backoff = Backoff::new(self.config.backoff_min, self.config.backoff_max, seed);
        // From before the first try: a greeting that comes while a try is failing counts too.
        let mut greetings = self.inbox.greetings();
        loop {
            let ended = match self.converse(&connector, &mut backoff).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            tracing::debug!(peer = %self.peer, lane = ?self.lane, %ended, "stream ended");
            let was_open = self.queue.close();
            if was_open {
                self.inbox.lost(self.peer).await;
            }
            if let Ended::Refused(reason) = ended
                && !matches!(reason, HelloRefusal::Unheard { .. })
            {
                // Who has been told of a later lineage greets anew once it goes on with it.
                if !matches!(reason, HelloRefusal::Lineage { state: Some(_), .. }) {
                    backoff.exhaust();
                }
                self.inbox.rejected(self.peer, reason).await;
            }
            let pause = backoff.fail();
            tokio::select! {
                biased;
                () = greeted(self.peer, &mut greetings) => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// One life of the stream.
    async fn converse<C: Connector>(
        &mut self,
        connector: &C,
        backoff: &mut Backoff,
    ) -> Result<core::convert::Infallible, Ended> {
        let limit = self.config.connect_timeout;
        let hello = self.greeting().await?;
        let endpoint = endpoint(&self.address, &self.config).map_err(Ended::Unreachable)?;
        let channel = timeout(limit, connector.connect(endpoint))
            .await
            .map_err(|_| unreachable("connecting took too long"))?
            .map_err(unreachable)?;
        let mut client = PeerClient::new(channel)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
        let outgoing = self.queue.stream(hello_batch(&hello, self.lane));
        let mut answers = timeout(limit, client.exchange(outgoing))
            .await
            .map_err(|_| unreachable("the greeting was not answered in time"))?
            .map_err(|status| unreachable(status.message()))?
            .into_inner();
        timeout(limit, answer(&mut answers))
            .await
            .map_err(|_| unreachable("the greeting was not answered in time"))??;
        backoff.reset();
        self.queue.open();
        tracing::debug!(
            peer = %self.peer, lane = ?self.lane, connects = PeerStats::read(&self.stats.connects),
            "stream open"
        );
        // Nothing more comes on this half but its end, or a refusal that came later.
        let greeted = (hello.lineage, hello.origin);
        loop {
            tokio::select! {
                word = answer(&mut answers) => word?,
                () = another_history(&mut self.view, greeted) => {
                    return Err(unreachable("this node goes on in another lineage"));
                }
            }
        }
    }

    /// The greeting of the newest view, addressed to the peer.
    async fn greeting(&mut self) -> Result<Hello, Ended> {
        let view = self.view.wait_for(Option::is_some).await.map_err(unreachable)?;
        let hello = view.as_ref().map(|view| Hello { to: self.peer, ..view.hello.clone() });
        hello.ok_or_else(|| unreachable("no view"))
    }
}

/// Waits until this node has another history than the one it has greeted with: what it says belongs to
/// that one then.
async fn another_history(view: &mut ViewReceiver, greeted: (Lineage, u128)) {
    let is_other = |view: &Option<Arc<View>>| {
        view.as_ref().is_some_and(|view| (view.hello.lineage, view.hello.origin) != greeted)
    };
    if view.wait_for(is_other).await.is_err() {
        // The node is going; the stream ends with the task.
        core::future::pending::<()>().await;
    }
}

/// Waits until `peer` has opened its own stream to us: then it is there, whatever our last try said.
async fn greeted(peer: NodeId, greetings: &mut broadcast::Receiver<NodeId>) {
    loop {
        match greetings.recv().await {
            Ok(other) if other != peer => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // The node is going; the pause ends with the task.
            Err(RecvError::Closed) => core::future::pending().await,
        }
    }
}

/// The next word of the peer on this stream, if it is a welcome.
async fn answer(answers: &mut Streaming<pb::PeerBatch>) -> Result<(), Ended> {
    match answers.message().await {
        Ok(Some(batch)) => match answer_from_wire(batch).map_err(unreachable)? {
            HelloAnswer::Welcome => Ok(()),
            HelloAnswer::Refused(refusal) => Err(Ended::Refused(refusal)),
        },
        Ok(None) => Err(unreachable("the peer has closed the stream")),
        Err(status) => Err(unreachable(status.message())),
    }
}

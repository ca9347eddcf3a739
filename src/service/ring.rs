//! The ring, told to clients that follow it. One task makes what is told of what the node publishes;
//! each client has one that tells it what has changed since it last read. A client that does not read
//! is told less often, and nothing piles up.

use core::time::Duration;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use crate::message::{ErrorCode, OpError, RingView};
use crate::runtime::{Handle, ViewReceiver};
use crate::types::ClusterState;
use crate::wire::error::status_of;
use crate::wire::proto::v1 as pb;
use crate::wire::ring::tell;

/// Clients that may follow the ring on one node.
const WATCHERS_MAX: usize = 4096;
/// The shortest time between two updates.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest: then there is a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

type Ring = Option<Arc<RingView>>;

/// What is told, and who may still be told.
pub(super) struct RingService {
    ring: watch::Receiver<Ring>,
    handle: Handle,
    room: Arc<Semaphore>,
    _follower: AbortOnDropHandle<()>,
}

impl RingService {
    /// Starts to follow the node.
    pub(super) fn start(handle: &Handle) -> RingService {
        let (publish, ring) = watch::channel(None);
        let follower = tokio::spawn(follow(handle.view(), publish));
        RingService {
            ring,
            handle: handle.clone(),
            room: Arc::new(Semaphore::new(WATCHERS_MAX)),
            _follower: AbortOnDropHandle::new(follower),
        }
    }

    /// Tells one more client, until it goes or the node stops serving.
    pub(super) fn watch(
        &self,
    ) -> Result<impl Stream<Item = Result<pb::RingUpdate, Status>> + Send + use<>, Status> {
        let room = self.room.clone().try_acquire_owned().map_err(|_| {
            let text = "as many clients follow the ring on this node as may";
            let error = OpError::new(ErrorCode::Overloaded, text);
            status_of(&error.with_limit(WATCHERS_MAX, WATCHERS_MAX))
        })?;
        if self.ring.borrow().is_none() && !serves(&self.handle) {
            return Err(not_ready());
        }
        let (sender, updates) = mpsc::channel(1);
        tokio::spawn(tell_all((self.ring.clone(), self.handle.clone()), sender, room));
        Ok(ReceiverStream::new(updates))
    }
}

/// Whether the node serves by what it has published last, which the ring may be a pause behind.
fn serves(handle: &Handle) -> bool {
    handle.view().borrow().as_deref().and_then(|view| RingView::of(view, None)).is_some()
}

fn not_ready() -> Status {
    status_of(&OpError::new(ErrorCode::NotReady, "the node does not serve"))
}

/// Makes what is told of what the node publishes, whenever that differs.
async fn follow(mut view: ViewReceiver, publish: watch::Sender<Ring>) {
    let mut made_of: Option<Arc<ClusterState>> = None;
    loop {
        let seen = view.borrow_and_update().clone();
        let before = publish.borrow().clone();
        let known = before.as_deref().zip(made_of.as_deref());
        let now = seen.as_deref().and_then(|view| RingView::of(view, known));
        made_of = seen.and_then(|view| view.state.clone());
        if now.as_ref() != before.as_deref() {
            publish.send_replace(now.map(Arc::new));
        }
        // A node publishes with every probe; what comes meanwhile is told together.
        tokio::time::sleep(PAUSE).await;
        if view.changed().await.is_err() {
            publish.send_replace(None);
            return;
        }
    }
}

/// Tells one client, as long as it listens.
async fn tell_all(
    (mut ring, handle): (watch::Receiver<Ring>, Handle),
    client: mpsc::Sender<Result<pb::RingUpdate, Status>>,
    _room: OwnedSemaphorePermit,
) {
    let mut told: Ring = None;
    let draining = handle.draining();
    let timed = |update| pb::RingUpdate { server_time_ns: handle.wall().0, ..update };
    // One that has begun to serve just now is told of a moment later.
    let _ = tokio::time::timeout(2 * PAUSE, ring.wait_for(Option::is_some)).await;
    loop {
        let now = ring.borrow_and_update().clone();
        let Some(now) = now.filter(|_| !draining.is_cancelled()) else {
            let _ = client.send(Err(not_ready())).await;
            return;
        };
        if let Some(update) = tell(told.as_deref(), &now)
            && client.send(Ok(timed(update))).await.is_err()
        {
            return;
        }
        let epoch = now.epoch.0;
        told = Some(now);
        tokio::select! {
            changed = ring.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = draining.cancelled() => {}
            () = client.closed() => return,
            () = tokio::time::sleep(SIGN_OF_LIFE) => {
                let alive = pb::RingUpdate { epoch, ..Default::default() };
                if client.send(Ok(timed(alive))).await.is_err() {
                    return;
                }
            }
        }
    }
}

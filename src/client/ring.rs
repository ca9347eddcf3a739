//! The ring: asked for once, or followed. A client that follows it asks owners of a key straight away,
//! takes in members that have joined and forgets those that have gone. One stream to one node does for
//! all requests; when it breaks, or nothing is heard on it, another node is asked, and what is known
//! stays until then.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Streaming};

use crate::message::{ErrorCode, RingView};
use crate::types::WallTime;
use crate::wire::Malformed;
use crate::wire::proto::v1::{RingUpdate, WatchRingRequest};
use crate::wire::ring::learn;

use super::call::{Core, Operation, Try};
use super::convert::malformed;
use super::endpoint::Endpoint;
use super::pool::{Place, Pool};
use super::status_error::from_status;
use super::{Clock, Entropy, Error};

/// How long a node may take to say something at first ...
const OPEN_MAX: Duration = Duration::from_secs(5);
/// ... and between two updates: three signs of life.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The pause before another node is asked; doubled as long as none tells anything.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The pause when a node is of a version that does not tell of its ring.
const PAUSE_UNKNOWN: Duration = Duration::from_secs(60);

/// Asks one node for the ring: `.await` it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct RingRequest {
    core: Arc<Core>,
    timeout: Option<Duration>,
}

impl RingRequest {
    pub(crate) fn new(core: Arc<Core>) -> RingRequest {
        RingRequest { core, timeout: None }
    }

    /// Sets how long the request may take over all its attempts; the client's default when left out.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl Operation for RingRequest {
    type Answer = RingView;

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<RingView, Error> {
        let mut request = Request::new(WatchRingRequest {});
        request.set_timeout(this.remaining);
        let updates = endpoint.kv().watch_ring(request).await;
        let mut updates = updates.map_err(|status| from_status(&status, false))?.into_inner();
        next(&mut updates, None).await
    }
}

impl IntoFuture for RingRequest {
    type Output = Result<RingView, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.core.run(&self, self.timeout).await })
    }
}

/// The ring, followed.
#[derive(Debug)]
pub struct RingWatch {
    // Keeps the stream open.
    core: Arc<Core>,
    ring: watch::Receiver<Option<Arc<RingView>>>,
}

impl RingWatch {
    pub(crate) fn new(core: Arc<Core>) -> RingWatch {
        let mut ring = core.follower.ring.subscribe();
        ring.mark_changed();
        RingWatch { core, ring }
    }

    /// Waits until the ring is another one than was last returned, and returns it; at first as soon as
    /// it is known. Changes that come fast are returned as one. As long as no node can be reached
    /// there is none.
    pub async fn next(&mut self) -> Arc<RingView> {
        self.core.follow();
        loop {
            // The sender lives as long as the core.
            let _ = self.ring.changed().await;
            if let Some(ring) = self.ring.borrow_and_update().clone() {
                return ring;
            }
        }
    }
}

/// Follows the ring for a client, once it is told to.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Whether requests go by the ring; then it is followed from the first of them on.
    pub(super) routes: bool,
    ring: watch::Sender<Option<Arc<RingView>>>,
    task: OnceLock<AbortOnDropHandle<()>>,
}

impl Follower {
    pub(crate) fn new(routes: bool) -> Follower {
        Follower { routes, ring: watch::Sender::new(None), task: OnceLock::new() }
    }

    /// Starts to follow it, if that has not been begun.
    pub(super) fn start(&self, pool: &Arc<Pool>) {
        self.task.get_or_init(|| {
            let task = follow(pool.clone(), self.ring.clone(), self.routes);
            AbortOnDropHandle::new(tokio::spawn(task))
        });
    }
}

/// Follows the ring on one node after the other.
async fn follow(pool: Arc<Pool>, ring: watch::Sender<Option<Arc<RingView>>>, routes: bool) {
    let (clock, entropy) = (Clock::start(), Entropy::default());
    let mut avoid = Vec::new();
    let mut pause = PAUSE_MIN;
    loop {
        let endpoint = pool.pick(Place::Anywhere, &avoid, clock.now(), &entropy).endpoint();
        let mut heard = false;
        let ended = follow_one(&endpoint, |now| {
            if !heard {
                endpoint.answered();
            }
            heard = true;
            if is_newer(ring.borrow().as_deref(), &now) {
                let now = Arc::new(now);
                if routes {
                    pool.set_ring(now.clone());
                }
                ring.send_replace(Some(now));
            }
        });
        let error = ended.await;
        if error.code() == Error::UNAVAILABLE {
            endpoint.failed(clock.now());
        }
        pause = if error.code() == ErrorCode::NotAvailableYet.as_str() {
            PAUSE_UNKNOWN
        } else if heard {
            PAUSE_MIN
        } else {
            (pause * 2).min(PAUSE_MAX)
        };
        avoid = vec![endpoint.address.clone()];
        let micros = usize::try_from(pause.as_micros()).unwrap_or(usize::MAX);
        let jitter = u64::try_from(entropy.below(micros / 2)).unwrap_or(0);
        tokio::time::sleep(pause / 2 + Duration::from_micros(jitter)).await;
    }
}

/// Whether what another node tells is not older than what is known. Of another cluster nothing is known.
fn is_newer(known: Option<&RingView>, now: &RingView) -> bool {
    known.is_none_or(|known| {
        known.placement.id != now.placement.id || known.epoch <= now.epoch && known != now
    })
}

/// Follows the ring on one node, for as long as that tells of it.
async fn follow_one(endpoint: &Endpoint, mut heard: impl FnMut(RingView)) -> Error {
    let silence = |_| Error::unavailable("the node has fallen silent");
    let mut kv = endpoint.kv();
    let opened = timeout(OPEN_MAX, kv.watch_ring(WatchRingRequest {})).await.map_err(silence);
    let mut updates = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return from_status(&status, false),
        Err(error) => return error,
    };
    let mut known: Option<RingView> = None;
    loop {
        let limit = if known.is_none() { OPEN_MAX } else { SILENCE_MAX };
        match timeout(limit, next(&mut updates, known.as_ref())).await.map_err(silence) {
            Ok(Ok(now)) => {
                known = Some(now.clone());
                heard(now);
            }
            Ok(Err(error)) | Err(error) => return error,
        }
    }
}

/// What time it is there, by the node at `endpoint`; `None` when it is of a version that does not say.
///
/// # Errors
/// It cannot be reached, or does not serve.
pub(super) async fn ask_time(endpoint: &Endpoint) -> Result<Option<WallTime>, Error> {
    let opened = endpoint.kv().watch_ring(WatchRingRequest {}).await;
    let first = match opened {
        Ok(response) => response.into_inner().message().await,
        Err(status) => Err(status),
    };
    match first.map_err(|status| from_status(&status, false)) {
        Ok(update) => Ok(update.map(|update| WallTime(update.server_time_ns))),
        Err(error) if error.code() == ErrorCode::NotAvailableYet.as_str() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is known after the next update.
async fn next(
    updates: &mut Streaming<RingUpdate>,
    known: Option<&RingView>,
) -> Result<RingView, Error> {
    let update = updates.message().await.map_err(|status| from_status(&status, false))?;
    let update = update.ok_or_else(|| Error::unavailable("the server ended the stream"))?;
    learn(known, update).map_err(|Malformed(what)| malformed(&what))
}

//! How a client is configured.

use core::time::Duration;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::message::ErrorCode;

use super::budget::Budget;
use super::call::{Core, Counters};
use super::endpoint::Endpoint;
use super::patience::Patience;
use super::pool::Pool;
use super::ring::Follower;
use super::server_time::ServerTime;
use super::{Client, Clock, Entropy, Error, Lane};

const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS_MAX: u32 = 4;
const RETRY_BURST: u16 = 64;
const RETRY_PERCENT: u8 = 20;
/// Reads that may be asked of a second node at once, before their share counts.
const HEDGE_BURST: u16 = 16;
const HEDGE_PERCENT: u8 = 5;

/// Configures a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    timeout: Duration,
    attempts_max: u32,
    retry_burst: u16,
    retry_percent: u8,
    hedge_percent: u8,
    lane: Lane,
    follow_ring: bool,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        ClientBuilder {
            endpoints: Vec::new(),
            timeout: TIMEOUT,
            attempts_max: ATTEMPTS_MAX,
            retry_burst: RETRY_BURST,
            retry_percent: RETRY_PERCENT,
            hedge_percent: HEDGE_PERCENT,
            lane: Lane::default(),
            follow_ring: true,
        }
    }
}

impl ClientBuilder {
    /// Adds addresses of the cluster: `host:port`, with `http://` in front or not. Any node will
    /// do; several let the client find the others when one is down.
    pub fn endpoints<S: Into<String>>(mut self, endpoints: impl IntoIterator<Item = S>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// Sets how long a request may take over all its attempts, unless it says otherwise itself.
    /// The default is 5 s; the server grants at most 60 s an attempt.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often a request is tried at most; 1 turns retries off. The default is 4.
    pub fn attempts(mut self, attempts_max: u32) -> Self {
        self.attempts_max = attempts_max.max(1);
        self
    }

    /// Sets the retry budget: `burst` retries at once, and in the long run `percent` of the
    /// requests. The default is 64 and 20.
    pub fn retry_budget(mut self, burst: u16, percent: u8) -> Self {
        self.retry_burst = burst;
        self.retry_percent = percent;
        self
    }

    /// Sets how many of the reads, in percent, may be asked of a second node when the first takes longer
    /// than answers usually do: 16 at once, and so many in the long run. The default is 5; 0 asks no second node.
    pub fn hedge(mut self, percent: u8) -> Self {
        self.hedge_percent = percent.min(100);
        self
    }

    /// Sets how requests travel. The default is [`Lane::Session`].
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Sets whether the client follows the ring: whether it asks members by the addresses they have
    /// told, owners of a key first, and takes in those that join. The default is true. Without, it asks
    /// nobody but the addresses it was given: where members cannot be reached by their own, or one
    /// certain node is meant.
    pub fn follow_ring(mut self, follow_ring: bool) -> Self {
        self.follow_ring = follow_ring;
        self
    }

    /// Makes the client. Connections are opened by the first requests that need them. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// [`InvalidArgument`](super::ErrorKind::InvalidArgument) when there is no endpoint, or one
    /// that is no address.
    pub fn connect_lazy(self) -> Result<Client, Error> {
        let refuse = |why: String| Error::new(ErrorCode::RequestMalformed, why);
        let mut addresses: Vec<&String> = Vec::new();
        for address in &self.endpoints {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(refuse("there is no endpoint".to_owned()));
        }
        let endpoints = addresses.into_iter().map(|address| Endpoint::new(address));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>().map_err(refuse)?;
        let core = Core {
            pool: Arc::new(Pool::new(endpoints)),
            follower: Follower::new(self.follow_ring),
            clock: Clock::start(),
            entropy: Entropy::default(),
            server_time: ServerTime::default(),
            learning_time: Mutex::default(),
            budget: Budget::new(self.retry_burst, self.retry_percent),
            hedges: Budget::new(
                if self.hedge_percent == 0 { 0 } else { HEDGE_BURST },
                self.hedge_percent,
            ),
            reads: Patience::default(),
            writes: Patience::default(),
            timeout: self.timeout,
            attempts_max: self.attempts_max,
            lane: self.lane,
            counts: Counters::default(),
            kinds: parking_lot::Mutex::default(),
        };
        Ok(Client { core: Arc::new(core) })
    }
}

//! The endpoints and who is asked next: the less busy of two drawn at random, among those that
//! are in good health. tonic's own balancer neither ejects nor tells, so each endpoint has a lazy
//! channel of its own.

use core::time::Duration;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint as Transport};

use crate::types::Time;
use crate::types::limits::MESSAGE_BYTES_MAX;
use crate::wire::proto::admin::admin_client::AdminClient;
use crate::wire::proto::v1::{kv_client::KvClient, tables_client::TablesClient};

use super::Entropy;
use super::health::{Health, Standing};
use super::session::Session;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// One address of the cluster.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// As the caller gave it, for messages.
    pub(crate) address: String,
    channel: Channel,
    session: OnceLock<Session>,
    open: AtomicUsize,
    health: Mutex<Health>,
}

impl Endpoint {
    /// An endpoint that connects when it is first asked. `address` is `host:port`, with `http://`
    /// in front or not.
    ///
    /// # Errors
    /// Why the address is none.
    pub(crate) fn new(address: &str) -> Result<Endpoint, String> {
        let uri = match address.split_once("://") {
            Some(("http", _)) => address.to_owned(),
            Some((scheme, _)) => return Err(format!("{address:?}: scheme {scheme} is not http")),
            None => format!("http://{address}"),
        };
        let refuse = |why: &str| format!("endpoint {address:?} is not host:port: {why}");
        let transport = Transport::from_shared(uri).map_err(|error| refuse(&error.to_string()))?;
        if transport.uri().port_u16().is_none() {
            return Err(refuse("it has no port"));
        }
        let channel = transport
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .http2_max_local_error_reset_streams(None::<usize>)
            .connect_lazy();
        let (session, open) = (OnceLock::new(), AtomicUsize::new(0));
        let health = Mutex::new(Health::default());
        Ok(Endpoint { address: address.to_owned(), channel, session, open, health })
    }

    /// The data plane, a call at a time.
    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// What is asked about tables.
    pub(crate) fn tables(&self) -> TablesClient<Channel> {
        TablesClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The operators' plane.
    pub(crate) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The data plane, many operations on one stream.
    pub(crate) fn session(&self) -> &Session {
        self.session.get_or_init(|| Session::start(self.kv()))
    }

    /// It answered, be it with an error.
    pub(crate) fn answered(&self) {
        self.health.lock().answered();
    }

    /// It could not be reached, did not answer in time, or does not serve.
    pub(crate) fn failed(&self, now: Time) {
        self.health.lock().failed(now);
    }
}

/// A request in flight on an endpoint; counted until dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    endpoint: Arc<Endpoint>,
}

impl core::ops::Deref for Lease {
    type Target = Endpoint;
    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All endpoints. At least one.
#[derive(Debug)]
pub(crate) struct Pool {
    endpoints: Vec<Arc<Endpoint>>,
}

impl Pool {
    /// A pool over `endpoints`; there must be one.
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Pool {
        assert!(!endpoints.is_empty(), "a pool has an endpoint");
        Pool { endpoints: endpoints.into_iter().map(Arc::new).collect() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Chooses whom to ask at `now`, but not those in `avoid`, unless there are no others.
    pub(crate) fn pick(&self, avoid: &[String], now: Time, entropy: &Entropy) -> Lease {
        let mut fit = Vec::with_capacity(self.endpoints.len());
        let mut soonest: Option<(Time, &Arc<Endpoint>)> = None;
        for endpoint in &self.endpoints {
            if avoid.len() < self.endpoints.len() && avoid.contains(&endpoint.address) {
                continue;
            }
            let mut health = endpoint.health.lock();
            match health.standing(now) {
                Standing::In => fit.push(endpoint),
                Standing::Trial => {
                    health.begin_trial(now);
                    return lease(endpoint);
                }
                Standing::Out(until) => {
                    if soonest.is_none_or(|(known, _)| until < known) {
                        soonest = Some((until, endpoint));
                    }
                }
            }
        }
        // With everybody out, asking is still better than giving up unasked.
        let fallback = || soonest.map_or_else(|| self.endpoints.first(), |(_, one)| Some(one));
        let chosen = less_busy(&fit, entropy).or_else(fallback).expect("a pool has an endpoint");
        lease(chosen)
    }
}

/// The power of two choices (Mitzenmacher, 2001).
fn less_busy<'a>(fit: &[&'a Arc<Endpoint>], entropy: &Entropy) -> Option<&'a Arc<Endpoint>> {
    let one_idx = entropy.below(fit.len());
    let one = *fit.get(one_idx)?;
    let other_idx = (one_idx + 1 + entropy.below(fit.len() - 1)) % fit.len();
    let other = *fit.get(other_idx)?;
    let open = |endpoint: &Endpoint| endpoint.open.load(Ordering::Relaxed);
    Some(if open(other) < open(one) { other } else { one })
}

fn lease(endpoint: &Arc<Endpoint>) -> Lease {
    endpoint.open.fetch_add(1, Ordering::Relaxed);
    Lease { endpoint: endpoint.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(n: usize) -> Pool {
        let address = |i| Endpoint::new(&format!("host-{i}:7450")).unwrap();
        Pool::new((0..n).map(address).collect())
    }

    #[test]
    fn addresses_need_a_port_and_plain_http() {
        for bad in ["", "host", "https://host:1", "ho st:1"] {
            assert!(Endpoint::new(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn the_busier_of_two_is_passed_over() {
        let (pool, entropy) = (pool(2), Entropy::default());
        let first = pool.pick(&[], Time(0), &entropy);
        let second = pool.pick(&[], Time(0), &entropy);
        assert_ne!(first.address, second.address);
    }

    #[tokio::test]
    async fn one_that_has_just_failed_is_avoided_unless_it_is_the_only_one() {
        let entropy = Entropy::default();
        let avoid = ["host-0:7450".to_owned()];
        let two = pool(2);
        assert_eq!(two.pick(&avoid, Time(0), &entropy).address, "host-1:7450");
        let one = pool(1);
        assert_eq!(one.pick(&avoid, Time(0), &entropy).address, "host-0:7450");
    }

    #[tokio::test]
    async fn an_ejected_endpoint_rests_and_is_then_tried_by_one_request() {
        let (pool, entropy) = (pool(2), Entropy::default());
        let bad = pool.endpoints[0].clone();
        bad.failed(Time(0));
        bad.failed(Time(0));
        let leases = (0..20).map(|_| pool.pick(&[], Time(1), &entropy)).collect::<Vec<_>>();
        assert!(leases.iter().all(|lease| lease.address == "host-1:7450"));
        let later = Time(0).plus(Duration::from_secs(1));
        assert_eq!(pool.pick(&[], later, &entropy).address, "host-0:7450");
        assert_eq!(pool.pick(&[], later, &entropy).address, "host-1:7450");
    }

    #[tokio::test]
    async fn with_everybody_out_somebody_is_asked_all_the_same() {
        let (pool, entropy) = (pool(2), Entropy::default());
        for endpoint in &pool.endpoints {
            endpoint.failed(Time(0));
            endpoint.failed(Time(0));
        }
        pool.pick(&[], Time(1), &entropy);
    }
}

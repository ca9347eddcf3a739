//! One address of the cluster: a lazy channel, a session, and what is known of its health.

use core::time::Duration;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint as Transport};

use crate::types::Time;
use crate::types::limits::MESSAGE_BYTES_MAX;
use crate::wire::proto::admin::admin_client::AdminClient;
use crate::wire::proto::v1::{kv_client::KvClient, tables_client::TablesClient};

use super::health::Health;
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
    pub(super) health: Mutex<Health>,
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

    /// Requests in flight on it.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// It answered, be it with an error.
    pub(crate) fn answered(&self) {
        self.health.lock().answered();
    }

    /// Another, asked later, has answered a read before it.
    pub(super) fn outrun(&self, now: Time) {
        self.health.lock().outrun(now);
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

impl Lease {
    /// Counts one more request on `endpoint`.
    pub(super) fn of(endpoint: &Arc<Endpoint>) -> Lease {
        endpoint.open.fetch_add(1, Ordering::Relaxed);
        Lease { endpoint: endpoint.clone() }
    }

    /// The endpoint, without counting on it.
    pub(super) fn endpoint(&self) -> Arc<Endpoint> {
        self.endpoint.clone()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_a_port_and_plain_http() {
        for bad in ["", "host", "https://host:1", "ho st:1"] {
            assert!(Endpoint::new(bad).is_err(), "{bad:?}");
        }
    }
}

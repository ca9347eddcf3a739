//! The limit of the transport: a node that stores nothing. It speaks the same protocols over the
//! same library with the same settings as `kvd`; the node that is asked asks both others, over one
//! batched stream each, and answers after the first of them has.

mod outbox;
mod pending;
mod service;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use roundtable::wire::proto::peer::peer_client::PeerClient;
use roundtable::wire::proto::peer::peer_server::PeerServer;
use roundtable::wire::proto::v1::kv_server::KvServer;
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

use outbox::Outbox;
use pending::Pending;

/// As in `kvd`'s transport.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const KEEPALIVE: Duration = Duration::from_secs(2);
const RECONNECT: Duration = Duration::from_millis(20);

/// What the services of one node share.
pub(crate) struct Echo {
    pending: Pending,
    peers: Vec<Arc<Outbox>>,
}

/// Runs a node until its parent ends it.
pub(crate) fn run(client: SocketAddr, peer: SocketAddr, others: &[SocketAddr]) {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("Linux allows it");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(serve(client, peer, others)).expect("a node that serves");
}

async fn serve(
    client: SocketAddr,
    peer: SocketAddr,
    others: &[SocketAddr],
) -> Result<(), Box<dyn std::error::Error>> {
    let peers = others.iter().map(|_| Arc::<Outbox>::default()).collect();
    let echo = Arc::new(Echo { pending: Pending::default(), peers });
    for (outbox, address) in echo.peers.iter().zip(others) {
        tokio::spawn(keep_asking(echo.clone(), outbox.clone(), *address));
    }
    let (clients, peers) = (TcpListener::bind(client).await?, TcpListener::bind(peer).await?);
    let [clients, peers] =
        [clients, peers].map(|listener| TcpIncoming::from(listener).with_nodelay(Some(true)));
    let for_peers = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(PeerServer::new(service::EchoPeer));
    let for_clients = Server::builder()
        .http2_keepalive_interval(Some(5 * KEEPALIVE))
        .max_concurrent_streams(4096)
        .add_service(KvServer::new(service::EchoKv::new(echo)));
    tokio::try_join!(
        for_peers.serve_with_incoming(peers),
        for_clients.serve_with_incoming(clients)
    )?;
    Ok(())
}

/// Keeps one stream to a peer open, and hands its answers to who waits for them.
async fn keep_asking(echo: Arc<Echo>, outbox: Arc<Outbox>, address: SocketAddr) {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let endpoint = endpoint
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    loop {
        if let Ok(channel) = endpoint.connect().await
            && let Ok(answers) = PeerClient::new(channel).exchange(outbox.stream()).await
        {
            let mut answers = answers.into_inner();
            while let Ok(Some(batch)) = answers.message().await {
                echo.pending.answer(batch.ops);
            }
        }
        // The others are still starting.
        tokio::time::sleep(RECONNECT).await;
    }
}

//! Whole nodes in one process, on ports of their own.

use roundtable::client::{Client, Lane};
use roundtable::config::{Sources, load};
use roundtable::server::{Listeners, Server, Settings};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;

use crate::support::{listen, within};

/// Three nodes or fewer, or more.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    pub(crate) settings: Vec<Settings>,
    _folder: TempDir,
}

impl Cluster {
    /// Starts `count` nodes with more settings, and waits until all serve.
    pub(crate) async fn start(count: usize, more: &[&str]) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let mut ports = Vec::new();
        for _ in 0..count {
            ports.push((listen().await, listen().await));
        }
        let founder = |(index, port): (usize, &(_, (TcpListener, String)))| {
            format!("n{}={}", index + 1, port.1.1)
        };
        let founders: Vec<String> = ports.iter().enumerate().map(founder).collect();
        let mut cluster = Cluster { servers: Vec::new(), settings: Vec::new(), _folder: folder };
        for (index, (client, peer)) in ports.into_iter().enumerate() {
            let data = cluster._folder.path().join(format!("n{}", index + 1));
            let set = [
                format!("node.name=n{}", index + 1),
                format!("node.data_dir={}", data.display()),
                format!("cluster.founders={}", founders.join(",")),
                format!("listen.client={}", client.1),
                format!("listen.peer={}", peer.1),
                "listen.http=".to_owned(),
                "membership.probe_interval=50ms".to_owned(),
            ];
            let set = set.into_iter().chain(more.iter().map(|s| (*s).to_owned())).collect();
            let loaded = load(&Sources { set, ..Sources::default() }).unwrap();
            let settings = Settings::from_config(&loaded.config).unwrap();
            let listeners = Listeners { client: client.0, peer: peer.0, http: None };
            cluster.servers.push(Server::start(&settings, listeners).unwrap());
            cluster.settings.push(settings);
        }
        for server in &cluster.servers {
            within("all to serve", server.serving()).await;
        }
        cluster
    }

    pub(crate) fn client(&self, lane: Lane) -> Client {
        let endpoints = self.servers.iter().map(|s| s.addresses().client.to_string());
        Client::builder()
            .endpoints(endpoints)
            .timeout(std::time::Duration::from_secs(20))
            .lane(lane)
            .connect_lazy()
            .unwrap()
    }

    /// Stops all nodes and starts them again on what they stored, on the same ports.
    pub(crate) async fn restart(&mut self) {
        for server in self.servers.drain(..) {
            within("a node to stop", server.shutdown()).await.unwrap();
        }
        for settings in &self.settings {
            let listeners = Listeners::bind(settings).await.unwrap();
            self.servers.push(Server::start(settings, listeners).unwrap());
        }
        for server in &self.servers {
            within("all to serve again", server.serving()).await;
        }
    }

    pub(crate) async fn stop(self) {
        for server in self.servers {
            within("a node to stop", server.shutdown()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_over_either_lane_is_read_over_the_other() {
    let cluster = Cluster::start(3, &[]).await;
    let (session, unary) = (cluster.client(Lane::Session), cluster.client(Lane::Unary));
    for (writer, reader) in [(&session, &unary), (&unary, &session)] {
        for index in 0..20 {
            let key = format!("key-{index}");
            within("a put", async { writer.put(key, format!("value-{index}")).await })
                .await
                .unwrap();
        }
        for index in 0..20 {
            let key = format!("key-{index}");
            let reply = within("a get", async { reader.get(key).await }).await.unwrap();
            assert_eq!(reply.value.as_deref(), Some(format!("value-{index}").as_bytes()));
        }
        let page = within("a scan", async { reader.scan().prefix("key-").pages().next().await });
        assert_eq!(page.await.unwrap().unwrap().entries.len(), 20);
        for index in 0..20 {
            let key = format!("key-{index}");
            within("a delete", async { writer.delete(key.clone()).await }).await.unwrap();
            let reply = within("a get", async { reader.get(key).await }).await.unwrap();
            assert_eq!(reply.value, None);
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_restarted_finds_its_data() {
    let mut cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(Lane::Session);
    within("a put", async { client.put("k", "v").await }).await.unwrap();
    cluster.restart().await;
    let client = cluster.client(Lane::Session);
    let reply = within("a get", async { client.get("k").await }).await.unwrap();
    assert_eq!(reply.value.as_deref(), Some(&b"v"[..]));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_cross_the_streams() {
    let cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(Lane::Session);
    let value = bytes::Bytes::from(vec![42; 1 << 20]);
    for index in 0..8 {
        let key = format!("large-{index}");
        within("a put", async { client.put(key.clone(), value.clone()).await }).await.unwrap();
        let reply = within("a get", async { client.get(key).await }).await.unwrap();
        assert_eq!(reply.value.as_ref(), Some(&value));
    }
    cluster.stop().await;
}

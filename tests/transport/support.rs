//! Listeners, views and raw peers for these tests.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use roundtable::message::{
    Applicant, BootRecord, ErrorCode, Hello, HintGauges, Liveness, MemberView, OpError,
    PeerMessage, Phase, RepairGauges, View,
};
use roundtable::transport::{
    Doorkeeper, Inbox, PeerInput, PeerInputs, PeerService, TransportConfig, serve_peers,
};
use roundtable::types::{
    Addresses, ClusterId, ClusterState, Epoch, Lineage, Member, NodeId, Nonce, Role, Settings,
    TableId, Zone,
};

/// Takes nobody in.
struct NoDoor;

#[tonic::async_trait]
impl Doorkeeper for NoDoor {
    async fn admit(&self, applicant: Applicant) -> Result<Arc<ClusterState>, OpError> {
        let text = format!("{} is not taken in", applicant.name);
        Err(OpError::new(ErrorCode::NotReady, text))
    }
}

/// Fails a test that would hang. No test depends on how long anything takes below it.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("{what}: still waiting"))
}

/// A listener on a port of its own, and its address.
pub(crate) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Quick to notice and quick to come back.
pub(crate) fn brisk() -> TransportConfig {
    TransportConfig {
        connect_timeout: Duration::from_millis(500),
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        ..TransportConfig::default()
    }
}

pub(crate) fn hello(id: u32, to: u32) -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        cluster_name: "kv".to_owned(),
        founders: 0,
        cluster: Some(ClusterId(5)),
        lineage: Lineage(0),
        origin: 0,
        feature_level: 1,
        id: NodeId(id),
        name: format!("n{id}").parse().unwrap(),
        to: NodeId(to),
        birth: Nonce(u128::from(id)),
        boot: BootRecord { number: 1, nonce: Nonce(1) },
        address: String::new(),
    }
}

/// What node `me` of three publishes, knowing `peers` by address.
pub(crate) fn view(me: u32, peers: &[(u32, &str)]) -> Arc<View> {
    let member = |id: u32| Member {
        id: NodeId(id),
        name: format!("n{id}").parse().unwrap(),
        addresses: Addresses::default(),
        zone: Zone::default(),
        weight_milli: 1000,
        role: Role::Active,
        birth: Nonce(u128::from(id)),
    };
    let seen = |(id, address): &(u32, &str)| MemberView {
        id: NodeId(*id),
        name: format!("n{id}").parse().unwrap(),
        peer_address: (*address).to_owned(),
        liveness: Liveness::Alive,
        facts: None,
        clock_offset_ns: 0,
        left_out: None,
    };
    Arc::new(View {
        client_address: String::new(),
        phase: Phase::Serving,
        hello: hello(me, 0),
        hints: HintGauges::default(),
        repair: RepairGauges::default(),
        transfer_taken: 0,
        health: Default::default(),
        links_left_out: 0,
        reserve: None,
        hottest_share: 0.0,
        keeper: Default::default(),
        state: Some(Arc::new(ClusterState {
            epoch: Epoch(1),
            parent: 0,
            cluster: ClusterId(5),
            lineage: Lineage(0),
            feature_level: 1,
            settings: Settings { name: "kv".to_owned(), partitions: 1 },
            members: (1..=3).map(member).collect(),
            council: vec![NodeId(1)],
            ring: vec![NodeId(1)],
            classes: Vec::new(),
            tables: Vec::new(),
            table_id_max: TableId(0),
            dropped_at: Epoch(0),
            recent_changes: Vec::new(),
            topology: roundtable::types::Topology {
                member_id_max: NodeId(3),
                ..Default::default()
            },
        })),
        members: peers.iter().map(seen).collect(),
        serving_since: None,
    })
}

/// The incoming half of one node, with its driver's place taken by the test.
pub(crate) struct Port {
    pub(crate) address: String,
    pub(crate) inputs: PeerInputs,
    pub(crate) view: watch::Sender<Option<Arc<View>>>,
    closing: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl Port {
    pub(crate) async fn open(view: Arc<View>) -> Port {
        let (listener, _) = listen().await;
        let (inbox, inputs) = Inbox::new(&brisk());
        Port::on(listener, view, (inbox, inputs)).await
    }

    /// The same on a listener and an inbox of the test's.
    pub(crate) async fn on(
        listener: TcpListener,
        view: Arc<View>,
        (inbox, inputs): (Inbox, PeerInputs),
    ) -> Port {
        let config = brisk();
        let address = listener.local_addr().unwrap().to_string();
        let (publish, views) = watch::channel(Some(view));
        let closing = CancellationToken::new();
        let service = PeerService::new(inbox, views, &config, closing.clone(), Arc::new(NoDoor));
        let server = tokio::spawn(async move {
            serve_peers(listener, service, &config).await.unwrap();
        });
        Port { address, inputs, view: publish, closing, server }
    }

    /// The next thing a stream has to tell.
    pub(crate) async fn next(&mut self) -> PeerInput {
        within("an input", self.inputs.recv()).await.unwrap()
    }

    /// The next messages of a peer; other inputs are passed over.
    pub(crate) async fn messages(&mut self) -> (NodeId, Vec<PeerMessage>) {
        loop {
            if let PeerInput::Batch { from, messages, .. } = self.next().await {
                return (from, messages);
            }
        }
    }

    /// Ends the port and waits for it.
    pub(crate) async fn close(self) {
        self.closing.cancel();
        within("the port to end", self.server).await.unwrap();
    }
}

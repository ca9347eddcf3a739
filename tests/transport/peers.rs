//! Outgoing streams: batches, reconnecting, refusals, and queues that fill.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use roundtable::message::{HelloRefusal, PeerMessage, RoundId, View, WriteAsk};
use roundtable::transport::{
    Inbox, PeerInput, PeerInputs, PeerStats, TcpConnector, Transport, TransportConfig,
};
use roundtable::types::{ClusterId, Epoch, Key, NodeId, Record, Stamp, TableId, Unit, Value};
use roundtable::wire::hello::ack_batch;
use roundtable::wire::proto::peer::peer_server::{Peer, PeerServer};
use roundtable::wire::proto::peer::{JoinRequest, JoinResponse, PeerBatch};

use crate::support::{Port, brisk, hello, listen, view, within};

/// The outgoing half of one node.
struct Node {
    transport: Transport<TcpConnector>,
    inputs: PeerInputs,
    _view: watch::Sender<Option<Arc<View>>>,
}

impl Node {
    fn new(config: TransportConfig, view: Arc<View>) -> Node {
        let (inbox, inputs) = Inbox::new(&config);
        let (publish, views) = watch::channel(Some(view.clone()));
        let mut transport = Transport::new(config, TcpConnector, inbox, views, 1);
        transport.update(&view);
        Node { transport, inputs, _view: publish }
    }

    /// Waits until both streams to `peer` are open.
    async fn connected(&self, peer: u32) {
        let stats = self.stats(peer);
        let both = async {
            while PeerStats::read(&stats.open) < 2 {
                tokio::task::yield_now().await;
            }
        };
        within("both streams", both).await;
    }

    fn stats(&self, peer: u32) -> Arc<PeerStats> {
        let peers = self.transport.stats().peers();
        peers.into_iter().find(|(id, _)| *id == NodeId(peer)).unwrap().1
    }

    fn send(&mut self, to: u32, message: PeerMessage) -> bool {
        let taken = self.transport.enqueue(NodeId(to), message);
        self.transport.flush();
        taken
    }
}

fn question(epoch: u64) -> PeerMessage {
    PeerMessage::StateAsk { epoch: Epoch(epoch) }
}

fn heavy() -> PeerMessage {
    PeerMessage::Write(Box::new(WriteAsk {
        round: RoundId::default(),
        unit: Unit::default(),
        changed_at: Epoch(1),
        table: TableId(1),
        key: Key::new("k").unwrap(),
        record: Record {
            stamp: Stamp::ZERO,
            expiry: None,
            value: Some(Value::new(Bytes::from(vec![7; 64 << 10])).unwrap()),
        },
        rest: Vec::new(),
        fresh: true,
        hint_for: None,
        remaining: std::time::Duration::from_secs(1),
    }))
}

#[tokio::test]
async fn messages_arrive_in_order_and_in_batches() {
    let mut port = Port::open(view(2, &[])).await;
    let mut node = Node::new(brisk(), view(1, &[(2, &port.address)]));
    node.connected(2).await;
    for number in 0..1000 {
        assert!(node.transport.enqueue(NodeId(2), question(number)));
    }
    node.transport.flush();
    let (mut seen, mut batches) = (Vec::new(), 0);
    while seen.len() < 1000 {
        let (from, messages) = port.messages().await;
        assert_eq!(from, NodeId(1));
        assert!(messages.len() <= brisk().batch_ops);
        seen.extend(messages);
        batches += 1;
    }
    assert_eq!(seen, (0..1000).map(question).collect::<Vec<_>>());
    assert!(batches < 100, "{batches} batches");
}

#[tokio::test]
async fn a_message_without_a_stream_is_handed_back_at_once() {
    let mut node = Node::new(brisk(), view(1, &[(2, "127.0.0.1:1")]));
    assert!(!node.send(2, question(1)));
    assert!(!node.send(3, question(1)));
}

#[tokio::test]
async fn a_peer_that_accepts_and_never_answers_is_tried_again() {
    let (listener, address) = listen().await;
    let config =
        TransportConfig { connect_timeout: std::time::Duration::from_millis(20), ..brisk() };
    let mut node = Node::new(config, view(1, &[(2, &address)]));
    let mut held = Vec::new();
    // Two lanes, each at least three times.
    for _ in 0..6 {
        held.push(within("one more connection", listener.accept()).await.unwrap());
    }
    assert!(!node.send(2, question(1)));
}

#[tokio::test]
async fn a_peer_that_comes_back_is_found_again_and_the_loss_is_told() {
    let (listener, address) = listen().await;
    drop(listener);
    let mut node = Node::new(brisk(), view(1, &[(2, &address)]));
    let mut port = Port::open(view(2, &[])).await;
    node.transport.update(&view(1, &[(2, &port.address)]));
    node.connected(2).await;
    assert!(node.send(2, question(1)));
    assert_eq!(port.messages().await.1, vec![question(1)]);
    port.close().await;
    for _ in 0..2 {
        let lost = within("the loss", node.inputs.recv()).await.unwrap();
        assert!(matches!(lost, PeerInput::Lost(NodeId(2))));
    }
    assert!(!node.send(2, question(2)));
}

#[tokio::test]
async fn a_refusal_by_the_peer_is_told_and_typed() {
    let mut other = (*view(2, &[])).clone();
    other.hello.cluster = Some(ClusterId(6));
    let port = Port::open(other.into()).await;
    let mut node = Node::new(brisk(), view(1, &[(2, &port.address)]));
    let told = within("the refusal", node.inputs.recv()).await.unwrap();
    let PeerInput::Rejected(NodeId(2), HelloRefusal::Cluster { .. }) = told else {
        panic!("{told:?}");
    };
    port.close().await;
}

/// A peer that welcomes and then reads nothing.
struct Deaf(mpsc::Sender<Streaming<PeerBatch>>);

#[tonic::async_trait]
impl Peer for Deaf {
    type ExchangeStream = ReceiverStream<Result<PeerBatch, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<PeerBatch>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (answers, stream) = mpsc::channel(1);
        answers.send(Ok(ack_batch(&hello(1, 2)))).await.unwrap();
        self.0.send(request.into_inner()).await.unwrap();
        // The answering half stays open for as long as the test runs.
        std::mem::forget(answers);
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        Err(Status::unavailable("deaf"))
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_its_queue_and_no_more() {
    let (listener, address) = listen().await;
    let (streams, _held) = mpsc::channel(16);
    let deaf = tokio::spawn(
        Server::builder()
            .add_service(PeerServer::new(Deaf(streams)))
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    let mut well = Port::open(view(3, &[])).await;
    let config = TransportConfig { queue_bytes_max: 1 << 20, ..brisk() };
    let mut node = Node::new(config, view(1, &[(2, &address), (3, &well.address)]));
    node.connected(2).await;
    node.connected(3).await;
    let stats = node.stats(2);
    // Windows and socket buffers take some; then the queue is full, once and for all.
    let filled = async {
        while PeerStats::read(&stats.refused) < 100 {
            node.send(2, heavy());
            assert!(PeerStats::read(&stats.queue_bytes) <= 1 << 20);
            tokio::task::yield_now().await;
        }
    };
    within("a full queue", filled).await;
    assert!(node.send(3, question(1)));
    assert_eq!(well.messages().await.1, vec![question(1)]);
    deaf.abort();
}

#[tokio::test]
async fn a_peer_that_greets_is_greeted_back_without_waiting_for_the_back_off() {
    let pause = std::time::Duration::from_secs(3600);
    let patient = TransportConfig { backoff_min: pause, backoff_max: pause, ..brisk() };
    // B's socket listens, but hangs up: the first try of each lane fails, and A pauses.
    let (listener, address) = listen().await;
    let (publish, views) = watch::channel(Some(view(1, &[(2, &address)])));
    let (inbox, inputs) = Inbox::new(&patient);
    let (own, _) = listen().await;
    let a = Port::on(own, view(1, &[]), (inbox.clone(), inputs)).await;
    let mut out = Transport::new(patient, TcpConnector, inbox, views, 1);
    out.update(&view(1, &[(2, &address)]));
    let stats = out.stats().peers().into_iter().next().unwrap().1;
    for _ in 0..2 {
        drop(within("a try", listener.accept()).await.unwrap());
    }
    // B comes up and greets A.
    let (b_inbox, b_inputs) = Inbox::new(&brisk());
    let _b = Port::on(listener, view(2, &[]), (b_inbox, b_inputs)).await;
    let _from_b = Node::new(brisk(), view(2, &[(1, &a.address)]));
    let both = async {
        while PeerStats::read(&stats.open) < 2 {
            tokio::task::yield_now().await;
        }
    };
    within("A's streams to B", both).await;
    drop(publish);
}

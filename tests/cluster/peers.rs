//! Strangers on the peers' port.

use std::time::Duration;

use bytes::Bytes;
use roundtable::wire::proto::peer as pb;
use roundtable::wire::proto::peer::hello_refusal::Reason;
use roundtable::wire::proto::peer::peer_batch::Opening;
use roundtable::wire::proto::peer::peer_client::PeerClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::fixture::clock::within;
use crate::fixture::{Cluster, wire};

const PATIENCE: Duration = Duration::from_secs(5);

/// Opens a stream to a node with `first` and returns what it answers before it ends.
async fn talk(cluster: &Cluster, first: pb::PeerBatch) -> Result<Option<pb::PeerBatch>, Status> {
    let mut client = PeerClient::new(wire::channel(cluster.nodes[0].peer).await);
    let (sender, batches) = mpsc::channel(1);
    sender.send(first).await.unwrap();
    let answer = async {
        let mut answers = client.exchange(ReceiverStream::new(batches)).await?.into_inner();
        let answer = answers.message().await?;
        if !matches!(&answer, Some(pb::PeerBatch { opening: Some(Opening::Ack(_)), .. })) {
            assert!(!matches!(answers.message().await, Ok(Some(_))), "the stream ends");
        }
        Ok(answer)
    };
    let answer = within("an answer to the greeting", PATIENCE, answer).await;
    drop(sender);
    answer
}

/// A greeting that lacks only the right birth.
async fn greeting(cluster: &Cluster) -> pb::Hello {
    let status = cluster.client_of(0).status().await.unwrap();
    let id = |name: &str| status.nodes.iter().find(|node| node.name == name).unwrap().id;
    let cluster_id = u128::from_str_radix(&status.cluster_id.to_string(), 16).unwrap();
    pb::Hello {
        protocol_min: 1,
        protocol_max: 1,
        cluster_name: status.cluster_name.clone(),
        founders: Bytes::new(),
        cluster: Bytes::copy_from_slice(&cluster_id.to_be_bytes()),
        lineage: 0,
        origin: Bytes::new(),
        feature_level: 1,
        id: id("n2").0,
        name: "n2".to_owned(),
        to: id("n1").0,
        birth: Bytes::from_static(&[9; 16]),
        boot: Some(pb::Boot { number: 1, nonce: Bytes::from_static(&[1; 16]) }),
        lane: pb::Lane::Small.into(),
        address: String::new(),
    }
}

fn batch(hello: pb::Hello) -> pb::PeerBatch {
    pb::PeerBatch { opening: Some(Opening::Hello(hello)), ops: Vec::new() }
}

async fn refusal(cluster: &Cluster, change: impl FnOnce(&mut pb::Hello)) -> Reason {
    let mut hello = greeting(cluster).await;
    change(&mut hello);
    let answer = talk(cluster, batch(hello)).await.unwrap().expect("an answer");
    match answer.opening {
        Some(Opening::Refusal(refusal)) => refusal.reason.expect("a reason"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_kind_of_stranger_gets_its_own_typed_refusal() {
    let cluster = Cluster::start().await;
    let protocol = |hello: &mut pb::Hello| (hello.protocol_min, hello.protocol_max) = (40, 41);
    match refusal(&cluster, protocol).await {
        Reason::Protocol(seen) => assert_eq!((seen.theirs_min, seen.theirs_max), (40, 41)),
        other => panic!("{other:?}"),
    }
    let name = |hello: &mut pb::Hello| hello.cluster_name = "elsewhere".to_owned();
    match refusal(&cluster, name).await {
        Reason::Cluster(seen) => assert_eq!(seen.theirs, "elsewhere"),
        other => panic!("{other:?}"),
    }
    let id = |hello: &mut pb::Hello| hello.cluster = Bytes::from_static(&[5; 16]);
    assert!(matches!(refusal(&cluster, id).await, Reason::Cluster(_)));
    match refusal(&cluster, |hello| hello.lineage = 3).await {
        Reason::Lineage(seen) => assert_eq!((seen.theirs, seen.ours), (3, 0)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(refusal(&cluster, |hello| hello.to = 77).await, Reason::Misdirected(_)));
    match refusal(&cluster, |_| ()).await {
        Reason::Stranger(seen) => assert!(!seen.hint.is_empty()),
        other => panic!("{other:?}"),
    }
    for node in 0..3 {
        cluster.client_of(node).put("key", "value").await.unwrap();
    }
}

#[tokio::test]
async fn streams_that_do_not_begin_with_a_greeting_are_ended_and_the_node_serves_on() {
    let cluster = Cluster::start().await;
    let ask = pb::op::Op::StateAsk(pb::StateAsk { epoch: 0 });
    let ungreeted = pb::PeerBatch { opening: None, ops: vec![pb::Op { op: Some(ask) }] };
    talk(&cluster, ungreeted).await.unwrap_err();
    talk(&cluster, pb::PeerBatch::default()).await.unwrap_err();
    let unnamed = pb::Hello { name: "No Name".to_owned(), ..greeting(&cluster).await };
    talk(&cluster, batch(unnamed)).await.unwrap_err();
    let unborn = pb::Hello { birth: Bytes::from_static(b"short"), ..greeting(&cluster).await };
    talk(&cluster, batch(unborn)).await.unwrap_err();
    let channel = wire::channel(cluster.nodes[0].peer).await;
    let path = "/roundtable.peer.v1.Peer/Exchange";
    wire::call_raw(channel, path, b"\xff\xff\xff\xff\xff\xff").await.unwrap_err();
    for node in 0..3 {
        cluster.client_of(node).put("key", "value").await.unwrap();
    }
}

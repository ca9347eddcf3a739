//! Who may speak, and what those hear who may not.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use roundtable::message::{Hello, HelloRefusal, Lane, PeerMessage};
use roundtable::transport::PeerInput;
use roundtable::types::{ClusterId, Epoch, Lineage, NodeId, Nonce};
use roundtable::wire::hello::{HelloAnswer, answer_from_wire, hello_batch};
use roundtable::wire::peer::message_to_wire;
use roundtable::wire::proto::peer::peer_client::PeerClient;
use roundtable::wire::proto::peer::{Op, PeerBatch};

use crate::support::{Port, hello, view, within};

/// A peer made by hand.
pub(crate) struct RawPeer {
    pub(crate) sender: mpsc::Sender<PeerBatch>,
    answers: Streaming<PeerBatch>,
}

impl RawPeer {
    pub(crate) async fn open(address: &str, first: PeerBatch) -> RawPeer {
        let mut client = PeerClient::connect(format!("http://{address}")).await.unwrap();
        let (sender, batches) = mpsc::channel(16);
        sender.send(first).await.unwrap();
        let answers = client.exchange(ReceiverStream::new(batches)).await.unwrap().into_inner();
        RawPeer { sender, answers }
    }

    /// What the node says; `None` when it has ended the stream.
    pub(crate) async fn answer(&mut self) -> Option<Result<HelloAnswer, tonic::Code>> {
        match within("an answer", self.answers.message()).await {
            Ok(Some(batch)) => Some(Ok(answer_from_wire(batch).unwrap())),
            Ok(None) => None,
            Err(status) => Some(Err(status.code())),
        }
    }

    pub(crate) async fn say(&self, message: PeerMessage) {
        let ops = vec![message_to_wire(message)];
        self.sender.send(PeerBatch { opening: None, ops }).await.unwrap();
    }
}

fn question() -> PeerMessage {
    PeerMessage::StateAsk { epoch: Epoch(7) }
}

/// A member says something, and it arrives: the node lives.
pub(crate) async fn is_well(port: &mut Port) {
    let mut peer = RawPeer::open(&port.address, hello_batch(&hello(2, 1), Lane::Small)).await;
    assert_eq!(peer.answer().await, Some(Ok(HelloAnswer::Welcome)));
    peer.say(question()).await;
    assert_eq!(port.messages().await, (NodeId(2), vec![question()]));
}

#[tokio::test]
async fn each_wrong_greeting_gets_its_own_refusal_and_the_node_lives() {
    type Change = fn(&mut Hello);
    type Expected = fn(&HelloRefusal) -> bool;
    let mut port = Port::open(view(1, &[])).await;
    let cases: [(Change, Expected); 6] = [
        (
            |h| (h.protocol_min, h.protocol_max) = (2, 9),
            |r| matches!(r, HelloRefusal::Protocol { theirs_min: 2, theirs_max: 9, .. }),
        ),
        (|h| h.cluster_name = "other".to_owned(), |r| matches!(r, HelloRefusal::Cluster { .. })),
        (|h| h.cluster = Some(ClusterId(6)), |r| matches!(r, HelloRefusal::Cluster { .. })),
        (|h| h.lineage = Lineage(1), |r| matches!(r, HelloRefusal::Lineage { .. })),
        (|h| h.to = NodeId(3), |r| matches!(r, HelloRefusal::Misdirected { .. })),
        (|h| h.birth = Nonce(99), |r| matches!(r, HelloRefusal::Stranger { .. })),
    ];
    for (change, expected) in cases {
        let mut greeting = hello(2, 1);
        change(&mut greeting);
        let mut peer = RawPeer::open(&port.address, hello_batch(&greeting, Lane::Small)).await;
        let Some(Ok(HelloAnswer::Refused(refusal))) = peer.answer().await else {
            panic!("not refused");
        };
        assert!(expected(&refusal), "{refusal}");
        assert_eq!(peer.answer().await, None);
        let PeerInput::Rejected(NodeId(2), told) = port.next().await else {
            panic!("the node was not told");
        };
        assert_eq!(told, refusal);
    }
    is_well(&mut port).await;
    port.close().await;
}

#[tokio::test]
async fn a_member_that_is_removed_is_refused_on_its_open_stream() {
    let mut port = Port::open(view(1, &[])).await;
    let mut peer = RawPeer::open(&port.address, hello_batch(&hello(2, 1), Lane::Small)).await;
    assert_eq!(peer.answer().await, Some(Ok(HelloAnswer::Welcome)));
    let mut without = (*view(1, &[])).clone();
    let mut state = (**without.state.as_ref().unwrap()).clone();
    state.members.retain(|member| member.id != NodeId(2));
    without.state = Some(state.into());
    port.view.send_replace(Some(without.into()));
    peer.say(question()).await;
    let answer = peer.answer().await;
    let stranger = |r: &HelloRefusal| matches!(r, HelloRefusal::Stranger { .. });
    assert!(matches!(&answer, Some(Ok(HelloAnswer::Refused(r))) if stranger(r)), "{answer:?}");
    assert!(matches!(port.next().await, PeerInput::Rejected(NodeId(2), _)));
    port.close().await;
}

#[tokio::test]
async fn a_stream_that_breaks_the_rules_ends_with_an_error_and_the_node_lives() {
    let mut port = Port::open(view(1, &[])).await;
    let greeting = || hello_batch(&hello(2, 1), Lane::Small);
    // No greeting, an operation without content, a second greeting.
    let mut silent = RawPeer::open(&port.address, PeerBatch::default()).await;
    assert_eq!(silent.answer().await, Some(Err(tonic::Code::InvalidArgument)));
    let empty = PeerBatch { opening: None, ops: vec![Op { op: None }] };
    for bad in [empty, greeting()] {
        let mut peer = RawPeer::open(&port.address, greeting()).await;
        assert_eq!(peer.answer().await, Some(Ok(HelloAnswer::Welcome)));
        peer.sender.send(bad).await.unwrap();
        assert_eq!(peer.answer().await, Some(Err(tonic::Code::InvalidArgument)));
    }
    is_well(&mut port).await;
    port.close().await;
}

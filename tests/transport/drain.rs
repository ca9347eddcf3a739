//! Ending: what must not keep a node from stopping.

use std::time::Duration;

use roundtable::client::Lane;
use roundtable::wire::proto::v1::SessionRequest;
use roundtable::wire::proto::v1::kv_client::KvClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::cluster::Cluster;
use crate::support::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_hears_of_the_drain_and_does_not_hold_it_up() {
    let cluster = Cluster::start(1, &["shutdown.drain_timeout=30s"]).await;
    let address = cluster.servers[0].addresses().client;
    let mut client = KvClient::connect(format!("http://{address}")).await.unwrap();
    let (_sender, requests) = mpsc::channel::<SessionRequest>(1);
    let session = client.session(ReceiverStream::new(requests)).await.unwrap();
    let mut answers = session.into_inner();
    cluster.stop().await;
    let end = within("the session's end", answers.message()).await;
    assert_eq!(end.unwrap_err().code(), tonic::Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stops_although_calls_are_waiting_for_owners_that_are_gone() {
    let mut cluster = Cluster::start(2, &["shutdown.drain_timeout=1ms"]).await;
    let client = cluster.client(Lane::Unary);
    let other = cluster.servers.pop().unwrap();
    within("one node to stop", other.shutdown()).await.unwrap();
    let put = tokio::spawn(async move { client.put("k", "v").await.map(|_| ()) });
    cluster.stop().await;
    // Two copies were asked for and one owner was left: nobody may have said yes.
    let outcome = tokio::select! {
        outcome = put => outcome.unwrap(),
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("still waiting"),
    };
    assert!(outcome.is_err());
}

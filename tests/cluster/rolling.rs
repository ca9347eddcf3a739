//! All nodes are stopped and started, one after the other, under load: nobody notices.

use std::time::Duration;

use crate::fixture::Cluster;
use crate::fixture::clock::now;
use crate::traffic::Traffic;

#[tokio::test]
async fn every_node_in_turn_is_stopped_and_started_and_no_request_fails() {
    let mut cluster = Cluster::start().await;
    let traffic = Traffic::start(&cluster.client(), 6);
    traffic.advances(200).await;
    for node in 0..3 {
        assert_eq!(cluster.nodes[node].stop().await.code(), Some(0));
        traffic.advances(100).await;
        let started = now();
        cluster.nodes[node].start();
        cluster.nodes[node].ready().await;
        assert!(now().duration_since(started) < Duration::from_secs(5));
        // As the manual says: the next one may go when the others know that this one serves.
        cluster.known_to_serve(node).await;
    }
    traffic.advances(200).await;
    let seen = traffic.stop().await;
    assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    seen.holds(&cluster, &[0, 1, 2]).await;
}

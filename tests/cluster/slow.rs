//! A node that is alive to the kernel and to nobody else.

use std::time::Duration;

use rustix::process::Signal;

use crate::fixture::Cluster;
use crate::fixture::clock::until;
use crate::traffic::Traffic;

#[tokio::test]
async fn with_one_owner_stopped_reads_and_writes_go_on_within_their_deadlines() {
    let mut cluster = Cluster::start().await;
    let traffic = Traffic::start(&cluster.client(), 4);
    traffic.advances(50).await;
    cluster.nodes[2].signal(Signal::STOP);
    for node in 0..2 {
        let client = cluster.client_of(node);
        for number in 0..30 {
            let (key, value) = (format!("key-{number}"), format!("{node}/{number}"));
            client.put(key.clone(), value.clone()).timeout(Duration::from_secs(2)).await.unwrap();
            let read = client.get(key).timeout(Duration::from_secs(2)).await.unwrap();
            assert_eq!(read.value.unwrap(), value);
        }
    }
    traffic.advances(50).await;
    cluster.nodes[2].signal(Signal::CONT);
    cluster.all_alive().await;
    let client = cluster.client_of(2);
    let value = until("it serves again", Duration::from_secs(5), async || {
        client.get("key-7").await.ok()?.value
    });
    assert_eq!(value.await, "1/7");
    traffic.advances(50).await;
    let seen = traffic.stop().await;
    seen.holds(&cluster, &[0, 1, 2]).await;
    assert!(cluster.nodes[2].try_exit().is_none());
}

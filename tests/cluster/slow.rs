//! A node that is alive to the kernel and to nobody else.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;

use crate::fixture::clock::until;
use crate::fixture::{Cluster, kvctl};
use crate::traffic::Traffic;

const PATIENCE: Duration = Duration::from_secs(10);

/// Names of the nodes whose reads leave `n3` out, by `kvctl status` of a node.
async fn who_leaves_n3_out(cluster: &Cluster, at: usize) -> BTreeSet<String> {
    let endpoint = cluster.nodes[at].client.to_string();
    let done = kvctl::run(&["-e", &endpoint, "-o", "json", "status"], b"").await.succeeded();
    let unwell = &done.json()["nodes"][2]["unwell"];
    let by = unwell.as_array().expect("a list").iter().map(|link| link["by"].as_str().unwrap());
    by.map(str::to_owned).collect()
}

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
    let seen = until("n1 and n2 say that their reads leave n3 out", PATIENCE, async || {
        let who = who_leaves_n3_out(&cluster, 1).await;
        ["n1", "n2"].iter().all(|by| who.contains(*by)).then_some(who)
    });
    assert!(!seen.await.contains("n3"), "it has told nothing");
    let endpoint = cluster.nodes[0].client.to_string();
    let table = kvctl::run(&["-e", &endpoint, "-o", "table", "status"], b"").await.succeeded();
    assert!(table.text().contains("warning: reads leave n3 out: "), "{}", table.text());
    cluster.nodes[2].signal(Signal::CONT);
    cluster.all_alive().await;
    let client = cluster.client_of(2);
    let value = until("it serves again", Duration::from_secs(5), async || {
        client.get("key-7").await.ok()?.value
    });
    assert_eq!(value.await, "1/7");
    traffic.advances(50).await;
    until("reads ask it again", PATIENCE, async || {
        who_leaves_n3_out(&cluster, 0).await.is_empty().then_some(())
    })
    .await;
    let seen = traffic.stop().await;
    seen.holds(&cluster, &[0, 1, 2]).await;
    assert!(cluster.nodes[2].try_exit().is_none());
}

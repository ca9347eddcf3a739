//! `kill -9`: what was acknowledged is still there.

use std::collections::BTreeMap;

use roundtable::load::check::Ledger;
use roundtable::types::{Key, Value};

use crate::fixture::Cluster;
use crate::traffic::Traffic;

#[tokio::test]
async fn acknowledged_writes_survive_the_kill_of_all_nodes_at_once() {
    let mut cluster = Cluster::start().await;
    let traffic = Traffic::start(&cluster.client(), 8);
    traffic.advances(500).await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    let seen = traffic.stop().await;
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.ready().await;
    cluster.all_alive().await;
    seen.holds(&cluster, &[0, 1, 2]).await;
    assert!(seen.acknowledged >= 500, "{}", seen.acknowledged);
}

#[tokio::test]
async fn killing_one_node_after_another_under_load_loses_nothing() {
    let mut cluster = Cluster::start().await;
    let mut rng = fastrand::Rng::with_seed(7);
    let traffic = Traffic::start(&cluster.client(), 8);
    for _ in 0..3 {
        let victim = rng.usize(..3);
        traffic.advances(100).await;
        cluster.nodes[victim].kill();
        // Two are enough to go on.
        traffic.advances(200).await;
        cluster.nodes[victim].start();
        cluster.nodes[victim].ready().await;
        cluster.all_alive().await;
    }
    let seen = traffic.stop().await;
    seen.holds(&cluster, &[0, 1, 2]).await;
    println!("{} acknowledged, failed: {:?}", seen.acknowledged, seen.failed);
    // Retries and restarts must not drive the clocks so far ahead that writes are refused.
    assert!(!seen.failed.keys().any(|code| code.starts_with("CLOCK")), "{:?}", seen.failed);
}

#[tokio::test]
async fn a_cluster_that_is_killed_again_and_again_adds_up() {
    let mut cluster = Cluster::start().await;
    let mut ledger = Ledger::new();
    for round in 0..3 {
        let client = cluster.client();
        for number in 0..30 {
            // Some keys are written in every round, some in one only.
            let key = Key::new(format!("key-{}", number * (round + 1))).unwrap();
            let value = Value::new(format!("{round}/{number}")).unwrap();
            client.put(key.bytes().clone(), value.as_bytes().to_vec()).await.unwrap();
            ledger.acknowledged(key, Some(value));
        }
        for node in &mut cluster.nodes {
            node.kill();
            node.start();
        }
        cluster.ready().await;
        cluster.all_alive().await;
    }
    let mut found = BTreeMap::new();
    for key in ledger.keys() {
        let value = cluster.client_of(1).get(key.bytes().clone()).await.unwrap().value;
        found.insert(key.clone(), value.map(|value| Value::new(value).unwrap()));
    }
    assert_eq!(ledger.audit(&found), []);
}

//! Quorums between real processes.

use std::time::Duration;

use roundtable::client::{Applied, ErrorKind, Quorum};

use crate::fixture::Cluster;
use crate::fixture::clock::{now, until};

#[tokio::test]
async fn what_one_node_takes_every_other_gives_back_until_it_is_deleted() {
    let cluster = Cluster::start().await;
    for writer in 0..3 {
        let key = format!("key-{writer}");
        let receipt = cluster.client_of(writer).put(key.clone(), "one").await.unwrap();
        assert!(receipt.answered.count_ones() >= 2 && !receipt.weak, "{receipt:?}");
        for reader in 0..3 {
            let reply = cluster.client_of(reader).get(key.clone()).await.unwrap();
            assert_eq!(reply.value.as_deref(), Some(&b"one"[..]));
            assert_eq!(reply.receipt.stamp, receipt.stamp);
        }
        cluster.client_of((writer + 1) % 3).delete(key.clone()).await.unwrap();
        for reader in 0..3 {
            assert_eq!(cluster.client_of(reader).get(key.clone()).await.unwrap().value, None);
        }
    }
    let everywhere = cluster.client_of(0).put("all", "three").w(Quorum::All).await.unwrap();
    assert_eq!(everywhere.answered, 0b111);
    let least = cluster.client_of(0).get("all").r(Quorum::One).await.unwrap();
    assert!(least.receipt.weak, "one answer is below the floor");
}

#[tokio::test]
async fn a_strict_quorum_stands_with_one_node_down_and_fails_at_once_with_two() {
    let mut cluster = Cluster::start().await;
    cluster.client_of(0).put("key", "before").await.unwrap();
    cluster.nodes[2].kill();
    for node in 0..2 {
        cluster.client_of(node).put("key", "after").await.unwrap();
        let reply = cluster.client_of(1 - node).get("key").await.unwrap();
        assert_eq!(reply.value.as_deref(), Some(&b"after"[..]));
    }
    cluster.nodes[1].kill();
    let client = cluster.client_of(0);
    let (started, patience) = (now(), Duration::from_secs(20));
    let error = client.put("key", "never").timeout(patience).await.unwrap_err();
    assert_eq!(error.code(), "QUORUM_NOT_REACHED");
    assert_eq!(error.kind(), ErrorKind::QuorumNotReached);
    assert_eq!(error.facts().needed, Some(2));
    // It may have been written where it was not refused, and must say so.
    let may_be_there = error.applied() != Applied::No;
    let error = client.get("key").timeout(patience).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), ("QUORUM_NOT_REACHED", Applied::No));
    assert!(now().duration_since(started) < patience / 4, "it waited for what cannot come");

    let endpoint = cluster.nodes[0].client.to_string();
    let args = ["-e", &endpoint, "-o", "json", "--timeout", "5s", "get", "key"];
    let done = crate::fixture::kvctl::run(&args, b"").await;
    assert_eq!(done.code, Some(4), "{done:?}");
    assert_eq!(done.error()["code"], "QUORUM_NOT_REACHED");
    assert_eq!(done.error()["applied"], "no");

    cluster.nodes[1].start();
    let value = until("two nodes serve again", Duration::from_secs(5), async || {
        client.get("key").await.ok()?.value
    });
    let value = value.await;
    assert!(value == "after" || may_be_there && value == "never", "{value:?}");
}

#[tokio::test]
async fn kvctl_keeps_its_contract_on_a_running_cluster() {
    let cluster = Cluster::start().await;
    cluster.kvctl(&["put", "user:1", "Ada"]).await.succeeded();
    assert_eq!(cluster.kvctl(&["get", "user:1"]).await.succeeded().stdout, b"Ada");
    let json = cluster.kvctl(&["-o", "json", "get", "user:1"]).await.succeeded().json();
    assert_eq!(json["value"], "Ada");
    let absent = cluster.kvctl(&["get", "user:2"]).await;
    assert_eq!((absent.code, absent.stdout.len()), (Some(3), 0));
    cluster.kvctl(&["del", "user:1"]).await.succeeded();
    cluster.kvctl(&["del", "user:1"]).await.succeeded();
    assert_eq!(cluster.kvctl(&["get", "user:1"]).await.code, Some(3));

    let status = cluster.kvctl(&["-o", "json", "status"]).await.succeeded().json();
    let nodes = status["nodes"].as_array().unwrap();
    let column = |name: &str| nodes.iter().map(|node| node[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("name"), ["n1", "n2", "n3"]);
    assert_eq!(column("state"), ["alive"; 3]);
    assert_eq!(column("role"), ["active"; 3]);
    assert_eq!(column("zone"), ["a", "b", "c"]);
    let primaries = column("partitions").iter().filter_map(serde_json::Value::as_u64).sum::<u64>();
    assert_eq!(primaries, 64);
    assert_eq!(column("replica_partitions"), [64; 3]);

    let place = cluster.kvctl(&["-o", "json", "locate", "user:1"]).await.succeeded().json();
    assert_eq!(place["owners"].as_array().unwrap().len(), 3);
    cluster.kvctl(&["wait", "--for", "ready"]).await.succeeded();
    cluster.kvctl(&["flush"]).await.succeeded();
}

//! Deletes that are purged, over real processes: what was deleted stays deleted, whoever was away.

use std::time::Duration;

use roundtable::client::{Client, Quorum};

use crate::fixture::clock::until;
use crate::fixture::{Cluster, Plan};

const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: usize = 40;

fn key(number: usize) -> String {
    format!("key-{number:03}")
}

async fn read(client: &Client, number: usize, r: Quorum) -> Option<String> {
    let reply = client.get(key(number)).r(r).await.unwrap();
    reply.value.map(|value| String::from_utf8_lossy(&value).into_owned())
}

/// Deletes that nodes keep, by name; `None` when one does not say.
async fn kept(cluster: &Cluster) -> Option<Vec<u64>> {
    let told = cluster.kvctl(&["-o", "json", "gc", "status"]).await;
    if told.code != Some(0) {
        return None;
    }
    let told = told.json();
    told["nodes"].as_array()?.iter().map(|node| node["deletes"].as_u64()).collect()
}

async fn are_gone(cluster: &Cluster, count: usize, quorums: &[Quorum]) {
    for node in 0..cluster.nodes.len() {
        let client = cluster.client_of(node);
        for number in 0..count {
            for r in quorums {
                assert_eq!(read(&client, number, *r).await, None, "{} at {node}", key(number));
            }
        }
    }
}

#[tokio::test]
async fn what_was_deleted_never_comes_back_through_rounds_of_stop_delete_purge_and_start() {
    let plan = Plan::new().with("repair.purge_slack", "3s").with("repair.settle", "1s");
    let mut cluster = plan.with("repair.interval", "1s").start().await;
    for round in 0..3_usize {
        let client = cluster.client();
        for number in 0..KEYS {
            client.put(key(number), format!("{round}")).w(Quorum::All).await.unwrap();
        }
        // One is away, and comes back with all of it.
        let away = round % 3;
        cluster.nodes[away].kill();
        let client = cluster.client_of((away + 1) % 3);
        for number in 0..KEYS {
            until("a key is deleted", PATIENCE, async || client.delete(key(number)).await.ok())
                .await;
        }
        let blocked = until("somebody is named who holds deletes back", PATIENCE, async || {
            let endpoint = cluster.nodes[(away + 1) % 3].client.to_string();
            let ask = ["-e", &endpoint, "-o", "json", "gc", "status"];
            let told = crate::fixture::kvctl::run(&ask, b"").await.json();
            let name = cluster.nodes[away].name.as_str();
            let nodes = told["nodes"].as_array()?.clone();
            let mut blockers = nodes.iter().flat_map(|node| node["blockers"].as_array().unwrap());
            blockers.any(|blocker| blocker["member"] == name).then_some(nodes.len())
        })
        .await;
        assert_eq!(blocked, 2, "and who is away does not tell");
        cluster.nodes[away].start();
        cluster.ready().await;
        cluster.all_alive().await;
        are_gone(&cluster, KEYS / 4, &[Quorum::Majority, Quorum::All]).await;
        until("all owners have purged", PATIENCE, async || {
            let kept = kept(&cluster).await?;
            kept.iter().all(|deletes| *deletes == 0).then_some(())
        })
        .await;
        // Whoever answers alone says so too.
        are_gone(&cluster, KEYS, &[Quorum::One, Quorum::All]).await;
    }
    // Floors are known after a restart, and new writes are taken as ever.
    for node in 0..3 {
        cluster.nodes[node].kill();
        cluster.nodes[node].start();
    }
    cluster.ready().await;
    cluster.all_alive().await;
    are_gone(&cluster, KEYS / 4, &[Quorum::One, Quorum::All]).await;
    let client = cluster.client();
    client.put(key(0), "again").await.unwrap();
    assert_eq!(read(&client, 0, Quorum::All).await.as_deref(), Some("again"));
}

//! Members that come, go and are replaced, under load: no request fails, nothing is lost.

use serde_json::Value as Json;

use crate::fixture::{Cluster, Plan};
use crate::traffic::Traffic;

async fn kvctl(cluster: &Cluster, line: &str) -> Json {
    let words: Vec<&str> = ["-o", "json"].into_iter().chain(line.split(' ')).collect();
    let done = cluster.kvctl(&words).await;
    done.succeeded().json()
}

/// Commits what is staged, and waits until it is done.
async fn carry_out(cluster: &Cluster) {
    let shown = kvctl(cluster, "plan show").await;
    assert_eq!(shown["feasible"], true, "{shown}");
    let hash = shown["hash"].as_str().unwrap().to_owned();
    kvctl(cluster, &format!("plan commit {hash}")).await;
    cluster.kvctl(&["wait", "--for", "settled", "--timeout", "60s"]).await.succeeded();
}

/// The copies each member owns, by name; only members are listed.
async fn copies(cluster: &Cluster) -> Vec<(String, u64)> {
    let status = kvctl(cluster, "status").await;
    let nodes = status["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| {
            let name = node["name"].as_str().unwrap().to_owned();
            (name, node["replica_partitions"].as_u64().unwrap())
        })
        .collect()
}

/// The same once there are so many members: the node that is asked may have yet to hear of the last step.
async fn members(cluster: &Cluster, count: usize) -> Vec<(String, u64)> {
    let what = format!("there are {count} members");
    crate::fixture::clock::until(&what, std::time::Duration::from_secs(10), async || {
        let copies = copies(cluster).await;
        (copies.len() == count).then_some(copies)
    })
    .await
}

/// Waits until each of so many members owns so many copies, within a virtual node.
async fn shared(cluster: &Cluster, count: usize, expected: impl Fn(&str) -> u64) {
    crate::fixture::clock::until(
        "all have shares",
        std::time::Duration::from_secs(10),
        async || {
            let copies = copies(cluster).await;
            let fair = copies.iter().all(|(name, owned)| owned.abs_diff(expected(name)) <= 3);
            (fair && copies.len() == count).then_some(())
        },
    )
    .await;
}

#[tokio::test]
async fn a_cluster_grows_and_shrinks_under_load_and_no_request_fails() {
    let mut cluster = Cluster::start().await;
    let traffic = Traffic::start(&cluster.client(), 6);
    traffic.advances(200).await;
    cluster.add("n4").await;
    cluster.add("n5").await;
    kvctl(&cluster, "node join n4").await;
    kvctl(&cluster, "node join n5").await;
    carry_out(&cluster).await;
    // Zones a and b have two members each now, and zone c one.
    let expected = |name: &str| if name == "n3" { 64 } else { 32 };
    shared(&cluster, 5, expected).await;
    traffic.advances(200).await;
    kvctl(&cluster, "node leave n5").await;
    carry_out(&cluster).await;
    let expected = |name: &str| if matches!(name, "n1" | "n4") { 32 } else { 64 };
    shared(&cluster, 4, expected).await;
    traffic.advances(200).await;
    let seen = traffic.stop().await;
    assert_eq!(seen.failed.len(), 0, "{:?}", seen.failed);
    seen.holds(&cluster, &[0, 1, 2, 3]).await;
    // Who has left says so, and does not serve.
    let text = cluster.nodes[4].readiness().await.unwrap().text;
    assert!(text.contains("has left the cluster"), "{text}");
}

#[tokio::test]
async fn a_killed_node_is_replaced_under_load_and_comes_back_as_nobody() {
    let mut cluster = Cluster::start().await;
    let traffic = Traffic::start(&cluster.client(), 6);
    traffic.advances(200).await;
    cluster.nodes[1].kill();
    cluster.add("n4").await;
    kvctl(&cluster, "node replace n2 n4").await;
    carry_out(&cluster).await;
    traffic.advances(200).await;
    let seen = traffic.stop().await;
    assert_eq!(seen.failed.len(), 0, "{:?}", seen.failed);
    let left = members(&cluster, 3).await;
    let names: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["n1", "n3", "n4"]);
    seen.holds(&cluster, &[0, 2, 3]).await;
    cluster.nodes[1].start();
    let node = &cluster.nodes[1];
    crate::fixture::clock::until("n2 is told", std::time::Duration::from_secs(10), async || {
        let readiness = node.readiness().await?;
        (!readiness.ready && readiness.text.contains("has left the cluster")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_plan_survives_the_kill_of_all_nodes() {
    let mut cluster = Plan::new().with("cluster.partitions", 256).start().await;
    cluster.add("n4").await;
    for number in 0..200 {
        let (key, value) = (format!("key-{number}"), format!("value-{number}"));
        cluster.client().put(key, value).await.unwrap();
    }
    kvctl(&cluster, "node join n4").await;
    let hash = kvctl(&cluster, "plan show").await["hash"].as_str().unwrap().to_owned();
    kvctl(&cluster, &format!("plan commit {hash}")).await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.ready().await;
    cluster.kvctl(&["wait", "--for", "settled", "--timeout", "60s"]).await.succeeded();
    let expected = |name: &str| if matches!(name, "n1" | "n4") { 128 } else { 256 };
    shared(&cluster, 4, expected).await;
    for number in 0..200 {
        let value = cluster.client().get(format!("key-{number}")).await.unwrap().value;
        assert_eq!(value.as_deref(), Some(format!("value-{number}").as_bytes()));
    }
}

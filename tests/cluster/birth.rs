//! How a cluster is founded, and who may not come back as himself.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture::{Cluster, Plan};

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// Two of three go on without the third.
async fn the_others_serve(cluster: &Cluster, nodes: [usize; 2]) {
    for node in nodes {
        cluster.nodes[node].ready().await;
        let client = cluster.client_of(node);
        client.put("proof", node.to_string()).await.unwrap();
        let reply = client.get("proof").await.unwrap();
        assert_eq!(reply.value.as_deref(), Some(node.to_string().as_bytes()));
    }
}

#[tokio::test]
async fn founders_may_start_in_any_order_and_found_one_cluster_when_all_are_there() {
    let mut cluster = Plan::new().prepare().await;
    cluster.nodes[2].start();
    let waiting = cluster.nodes[2].refuses("waiting to hear from founders: n1, n2").await;
    assert!(waiting.contains("founding"), "{waiting}");
    cluster.nodes[0].start();
    cluster.nodes[0].refuses("waiting to hear from founders: n2").await;
    // One that comes and goes before the founding does no harm.
    cluster.nodes[2].kill();
    cluster.nodes[1].start();
    cluster.nodes[1].refuses("founders: n3").await;
    cluster.nodes[2].start();
    cluster.ready().await;
    cluster.all_alive().await;
    let mut ids = Vec::new();
    for node in 0..3 {
        let status = cluster.client_of(node).status().await.unwrap();
        ids.push((status.cluster_id, status.epoch));
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
}

#[tokio::test]
async fn a_node_whose_directory_was_emptied_refuses_to_run_as_itself() {
    let mut cluster = Cluster::start().await;
    cluster.client().put("key", "value").await.unwrap();
    cluster.nodes[1].kill();
    fs::remove_dir_all(cluster.nodes[1].data_dir()).unwrap();
    cluster.nodes[1].start();
    let why = cluster.nodes[1].refuses("directory").await;
    assert!(why.contains("refused"), "{why}");
    the_others_serve(&cluster, [0, 2]).await;
    let error = cluster.client_of(1).get("key").await.unwrap_err();
    assert_eq!(error.code(), "NOT_READY");
    assert_eq!(cluster.client_of(0).get("key").await.unwrap().value.unwrap(), "value");
    // Nor does it help to try again.
    cluster.nodes[1].stop().await;
    cluster.nodes[1].start();
    cluster.nodes[1].refuses("directory").await;
}

#[tokio::test]
async fn a_founder_with_another_list_is_noticed_and_nothing_is_founded_until_it_is_mended() {
    let mut cluster = Plan::new().prepare().await;
    let right = cluster.nodes[1].setting("cluster.founders");
    let mut wrong = right.clone();
    let entries = wrong.as_array_mut().unwrap();
    let last = entries[2].as_str().unwrap().replace("@c", "@b");
    entries[2] = last.into();
    cluster.nodes[1].set("cluster.founders", wrong);
    for node in &mut cluster.nodes {
        node.start();
    }
    for node in &cluster.nodes {
        let why = node.refuses("[cluster]").await;
        assert!(why.contains("founding"), "{why}");
    }
    let error = cluster.client_of(0).put("key", "value").await.unwrap_err();
    assert_eq!(error.code(), "NOT_READY");
    cluster.nodes[1].stop().await;
    cluster.nodes[1].set("cluster.founders", right);
    cluster.nodes[1].start();
    cluster.ready().await;
    cluster.client().put("key", "value").await.unwrap();
}

#[tokio::test]
async fn a_directory_restored_from_an_earlier_boot_refuses_to_run() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    client.put("key", "old").await.unwrap();
    let copied = cluster.dir().join("copy");
    assert!(cluster.nodes[2].stop().await.success());
    copy(&cluster.nodes[2].data_dir(), &copied);

    cluster.nodes[2].start();
    cluster.nodes[2].ready().await;
    cluster.all_alive().await;
    client.put("key", "new").await.unwrap();
    assert!(cluster.nodes[2].stop().await.success());

    fs::remove_dir_all(cluster.nodes[2].data_dir()).unwrap();
    copy(&copied, &cluster.nodes[2].data_dir());
    cluster.nodes[2].start();
    let why = cluster.nodes[2].refuses("directory").await;
    assert!(why.contains("has seen boot"), "{why}");
    the_others_serve(&cluster, [0, 1]).await;
    for node in [0, 1] {
        assert_eq!(cluster.client_of(node).get("key").await.unwrap().value.unwrap(), "new");
    }
}

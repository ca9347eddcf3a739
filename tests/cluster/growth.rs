//! Too few own all that clients ask for: nodes say so, and reserved members become active under load, by one
//! word of an operator or by themselves. What was seen of the load outlives a restart.

use std::time::Duration;

use serde_json::Value as Json;

use crate::fixture::clock::until;
use crate::fixture::{Cluster, Plan};
use crate::traffic::Traffic;

const LONG: Duration = Duration::from_secs(60);

async fn kvctl(cluster: &Cluster, line: &str) -> Json {
    let words: Vec<&str> = ["-o", "json"].into_iter().chain(line.split(' ')).collect();
    cluster.kvctl(&words).await.succeeded().json()
}

/// One operation a second is said to be all a node can do, so any load is too much.
fn small() -> Plan {
    Plan::new()
        .with("orchestrator.grow_operations", 1)
        .with("orchestrator.grow_after", "0s")
        .with("orchestrator.history_min", "0s")
        .with("orchestrator.sample_interval", "1s")
        .with("orchestrator.failure_probability", 0.0)
}

/// The proposal, once all nodes make it, by which both become active.
async fn proposal(cluster: &Cluster) -> Json {
    until("all propose both", LONG, async || {
        for node in 0..cluster.nodes.len() {
            // A node that starts does not answer yet.
            let status = cluster.client_of(node).status().await.ok()?;
            let proposal = status.growth?.proposal?;
            (proposal.members == ["n4", "n5"]).then_some(())?;
        }
        let proposal = kvctl(cluster, "status").await["growth"]["proposal"].clone();
        proposal.is_object().then_some(proposal)
    })
    .await
}

/// Waits until both are active, and nothing moves any more.
async fn both_own(cluster: &Cluster) {
    until("both own something", LONG, async || {
        let status = kvctl(cluster, "status").await;
        let nodes = status["nodes"].as_array()?;
        let owns = |name: &str| {
            let node = nodes.iter().find(|node| node["name"] == name);
            node.is_some_and(|node| {
                node["role"] == "active" && node["replica_partitions"].as_u64() > Some(0)
            })
        };
        (owns("n4") && owns("n5")).then_some(())
    })
    .await;
    cluster.kvctl(&["wait", "--for", "settled", "--timeout", "60s"]).await.succeeded();
}

/// Waits for an event of a kind about a member, and gives its reason.
async fn event(cluster: &Cluster, kind: &str, subject: &str) -> String {
    until(&format!("{kind} of {subject}"), LONG, async || {
        let told = kvctl(cluster, "events").await;
        let is_it = |event: &&Json| event["kind"] == kind && event["subject"] == subject;
        let told = told.as_array()?.iter().find(is_it)?;
        Some(told["reason"].as_str()?.to_owned())
    })
    .await
}

#[tokio::test]
async fn two_reserved_become_active_under_load_by_one_command_and_no_request_fails() {
    let cluster = small().and_reserved(2).start().await;
    let traffic = Traffic::start(&cluster.client(), 6);
    traffic.advances(200).await;
    let proposed = proposal(&cluster).await;
    let hash = proposed["hash"].as_str().unwrap().to_owned();
    assert_eq!((&proposed["kind"], hash.len()), (&"grow".into(), 32), "{proposed}");
    assert!(proposed["units"].as_u64() > Some(0), "{proposed}");
    let share = &proposed["shares"].as_array().unwrap()[3];
    assert!(share["node"] == "n4" && share["after"].as_u64() > Some(0), "{share}");
    let reason = event(&cluster, "growth-proposed", "n4").await;
    assert!(reason.contains("operations") && reason.contains(&hash), "{reason}");
    let shown = kvctl(&cluster, "grow show").await;
    assert_eq!(
        (&shown["mode"], &shown["proposal"]["hash"]),
        (&"suggest".into(), &proposed["hash"])
    );
    let other = cluster.kvctl(&["grow", "commit", &"0".repeat(32)]).await;
    assert_eq!(other.code, Some(6), "another hash: {}", other.stderr);
    let committed = kvctl(&cluster, &format!("grow commit {hash}")).await;
    assert_eq!(committed["committed"], proposed["hash"]);
    both_own(&cluster).await;
    traffic.advances(200).await;
    let seen = traffic.stop().await;
    assert_eq!(seen.failed.len(), 0, "{:?}", seen.failed);
    seen.holds(&cluster, &[0, 1, 2, 3, 4]).await;
    for name in ["n4", "n5"] {
        event(&cluster, "grown", name).await;
    }
    event(&cluster, "growth-over", "n4").await;
}

#[tokio::test]
async fn where_nodes_may_they_grow_by_themselves_in_quiet_hours() {
    let cluster = small()
        .and_reserved(2)
        .with("orchestrator.grow", "auto")
        .with("orchestrator.quiet_hours", "00:00-24:00")
        .start()
        .await;
    let traffic = Traffic::start(&cluster.client(), 6);
    both_own(&cluster).await;
    traffic.advances(200).await;
    let seen = traffic.stop().await;
    assert_eq!(seen.failed.len(), 0, "{:?}", seen.failed);
    seen.holds(&cluster, &[0, 1, 2, 3, 4]).await;
    let reason = event(&cluster, "grown", "n5").await;
    assert!(reason.contains("is foreseen for the operations"), "{reason}");
}

#[tokio::test]
async fn what_was_seen_of_the_load_outlives_a_restart() {
    let mut cluster = small().and_reserved(2).start().await;
    let traffic = Traffic::start(&cluster.client(), 6);
    let before = proposal(&cluster).await;
    traffic.stop().await;
    for node in &mut cluster.nodes {
        assert_eq!(node.stop().await.code(), Some(0));
    }
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.ready().await;
    // Nobody asks anything any more.
    let after = proposal(&cluster).await;
    assert_eq!(after["hash"], before["hash"]);
}

//! What becomes of a member that is down for good where nobody is reserved, of the data that it comes back with,
//! and of what is remembered of all that.

use std::time::Duration;

use crate::fixture::clock::until;
use crate::orchestrator::{event, is, soon};
use crate::traffic::Traffic;

#[tokio::test]
async fn others_take_over_without_a_reserve_old_data_go_in_time_and_events_outlive_restarts() {
    let mut cluster = soon().with("orchestrator.keep_aside", "4s").start().await;
    let traffic = Traffic::start(&cluster.client(), 6);
    traffic.advances(200).await;
    cluster.nodes[1].kill();
    is(&cluster, "n2", "owns nothing and is reserved", |node| {
        node["role"] == "reserved" && node["replica_partitions"] == 0
    })
    .await;
    cluster.kvctl(&["wait", "--for", "settled", "--timeout", "60s"]).await.succeeded();
    let reason = event(&cluster, "spread", "n2").await;
    assert!(reason.contains("no reserved member is usable"), "{reason}");
    traffic.advances(200).await;
    let seen = traffic.stop().await;
    assert_eq!(seen.failed.len(), 0, "{:?}", seen.failed);
    seen.holds(&cluster, &[0, 2, 3, 4]).await;

    cluster.nodes[1].start();
    let text = event(&cluster, "set-aside", "n2").await;
    let aside = cluster.nodes[1].data_dir().join(text.rsplit(' ').next().unwrap());
    until("the old data are deleted", Duration::from_secs(60), async || {
        // With their directory, and the one that held no other.
        let left = aside.parent().unwrap().exists();
        (!left).then_some(())
    })
    .await;
    seen.holds(&cluster, &[0, 1, 2, 3, 4]).await;

    for node in &mut cluster.nodes {
        assert_eq!(node.stop().await.code(), Some(0));
    }
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.ready().await;
    for kind in ["member-down", "spread", "set-aside", "member-back"] {
        event(&cluster, kind, "n2").await;
    }
}

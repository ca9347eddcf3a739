//! Clients that follow the ring: what they are told, and whom they go on without.

use std::time::Duration;

use roundtable::client::{Client, Liveness, RingView};

use crate::fixture::Cluster;
use crate::fixture::clock::{until, within};

const SOON: Duration = Duration::from_secs(15);

/// Waits for a ring that is as wanted.
async fn ring(client: &Client, what: &str, wanted: impl Fn(&RingView) -> bool) -> RingView {
    let mut watch = client.watch_ring();
    let seen = async {
        loop {
            let ring = watch.next().await;
            if wanted(&ring) {
                return RingView::clone(&ring);
            }
        }
    };
    within(what, SOON, seen).await
}

fn all_are_known(ring: &RingView) -> bool {
    ring.members.iter().all(|m| m.serving && !m.address.is_empty())
}

#[tokio::test]
async fn the_ring_is_told_at_once_and_again_after_each_change() {
    let mut cluster = Cluster::start().await;
    let given = cluster.nodes[0].client.to_string();
    let client = Client::builder().endpoints([given]).connect_lazy().unwrap();
    let seen = ring(&client, "all members are known", all_are_known).await;
    let addresses: Vec<&str> = seen.members.iter().map(|m| m.address.as_str()).collect();
    assert_eq!(addresses, cluster.endpoints());
    let zones: Vec<&str> = seen.members.iter().map(|m| m.zone.as_str()).collect();
    assert_eq!((zones, seen.placement.ring.len()), (vec!["a", "b", "c"], 64));
    let class = &seen.placement.classes[0];
    assert!(class.owners.iter().all(|owners| owners.len() == 3) && class.moving.is_empty());

    client.tables().create("t").n(2).await.unwrap();
    let has_table = |ring: &RingView| ring.placement.tables.keys().any(|t| t.to_string() == "t");
    let next = ring(&client, "the table is known", has_table).await;
    assert!(next.epoch > seen.epoch);
    let classes = &next.placement.classes;
    assert_eq!((classes.len(), classes[1].owners[0].len()), (2, 2));

    cluster.nodes[2].kill();
    let liveness = |ring: &RingView| ring.members[2].liveness;
    ring(&client, "n3 is down", |ring| liveness(ring) == Liveness::Down).await;
    cluster.nodes[2].start();
    let back = |ring: &RingView| liveness(ring) == Liveness::Alive && ring.members[2].serving;
    ring(&client, "n3 is back", back).await;
}

#[tokio::test]
async fn a_client_that_was_given_one_address_goes_on_without_that_node() {
    let mut cluster = Cluster::start().await;
    let given = cluster.nodes[0].client.to_string();
    let client = Client::builder().endpoints([given]).connect_lazy().unwrap();
    client.put("k0", "v").await.unwrap();
    ring(&client, "all members are known", all_are_known).await;
    // It is told to go, and does, though somebody follows the ring on it.
    assert!(cluster.nodes[0].stop().await.success());
    for number in 0..20 {
        client.put(format!("k{number}"), "v").await.unwrap();
    }
    let down = |ring: &RingView| ring.members[0].liveness != Liveness::Alive;
    ring(&client, "another node tells of the ring", down).await;
    // What is up to one node is still asked of the address that was given.
    client.status().timeout(Duration::from_millis(300)).await.unwrap_err();
    cluster.nodes[0].start();
    until("the address answers", SOON, async || client.status().await.ok()).await;
}

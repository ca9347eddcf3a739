//! SIGTERM: what was begun is finished, nothing new is taken, the process ends with 0.

use std::time::Duration;

use roundtable::client::Applied;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::fixture::clock::{now, until};
use crate::fixture::{Cluster, Plan};
use crate::traffic::Traffic;

#[tokio::test]
async fn a_node_told_to_end_finishes_what_it_began_and_is_back_at_once() {
    let mut cluster = Cluster::start().await;
    let direct = cluster.client_of(0);
    let mut writers = JoinSet::new();
    for writer in 0..32 {
        let direct = direct.clone();
        writers.spawn(async move {
            for number in 0.. {
                if let Err(error) = direct.put(format!("{writer}/{number}"), "value").await {
                    return (number, error);
                }
            }
            unreachable!("the node ends first");
        });
    }
    let elsewhere = Traffic::start(&cluster.client(), 4);
    elsewhere.advances(200).await;
    let status = cluster.nodes[0].stop().await;
    assert_eq!(status.code(), Some(0));
    for (written, error) in writers.join_all().await {
        assert!(written > 0);
        assert_eq!(error.applied(), Applied::No, "in flight, and cut off: {error}");
    }
    elsewhere.advances(100).await;
    let restarted = now();
    cluster.nodes[0].start();
    cluster.nodes[0].ready().await;
    assert!(now().duration_since(restarted) < Duration::from_secs(5));
    cluster.all_alive().await;
    let seen = elsewhere.stop().await;
    assert!(seen.failed.is_empty(), "a client of all three noticed: {:?}", seen.failed);
    seen.holds(&cluster, &[0, 1, 2]).await;
}

#[tokio::test]
async fn clients_that_stay_connected_do_not_keep_a_node_from_ending() {
    let mut cluster = Cluster::start().await;
    // A session and a call's connection, both idle, both open.
    let idle = cluster.client();
    for number in 0..20 {
        idle.put(format!("key-{number}"), "value").await.unwrap();
    }
    let unary = cluster.client_of(2);
    unary.get("key-1").await.unwrap();
    assert_eq!(cluster.nodes[2].stop().await.code(), Some(0));
    idle.put("key-1", "later").await.unwrap();
    drop(unary);
}

#[tokio::test]
async fn a_draining_node_is_not_ready_and_a_second_signal_ends_it() {
    let patient = Plan::new().with("membership.suspect_after", "20s");
    let mut cluster = patient.with("membership.down_after", "30s").start().await;
    // The operation cannot be answered, so the node drains for as long as the operation may take.
    cluster.nodes[1].signal(Signal::STOP);
    let stuck = cluster.client_of(0);
    let stuck = tokio::spawn(async move {
        let all = roundtable::client::Quorum::All;
        stuck.put("key", "value").w(all).timeout(Duration::from_secs(8)).await
    });
    let client = cluster.client_of(0);
    until("the operation has begun", Duration::from_secs(5), async || {
        client.get("key").await.ok()?.value
    })
    .await;
    cluster.nodes[0].signal(Signal::TERM);
    cluster.nodes[0].refuses("draining").await;
    assert_eq!(client.get("key").await.unwrap_err().code(), "NOT_READY");
    cluster.nodes[0].signal(Signal::TERM);
    let status = cluster.nodes[0].ended().await;
    assert_eq!(status.code(), Some(130));
    assert_ne!(stuck.await.unwrap().unwrap_err().applied(), Applied::No);
    cluster.nodes[1].signal(Signal::CONT);
}

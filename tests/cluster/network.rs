//! Networks that delay, swallow and cut.

use std::time::Duration;

use roundtable::client::{Applied, Client, Quorum};

use crate::fixture::clock::{now, until};
use crate::fixture::place;
use crate::fixture::proxy::{Fault, Proxy};
use crate::fixture::{Cluster, Plan};
use crate::traffic::Traffic;

#[tokio::test]
async fn a_slow_link_slows_only_those_who_need_it() {
    let cluster = Plan::new().behind_proxies().start().await;
    let delay = Duration::from_millis(150);
    cluster.proxies[2].set(Fault::Delay(delay));
    let client = cluster.client_of(0);
    let started = now();
    client.put("near", "value").await.unwrap();
    client.get("near").await.unwrap();
    let near = now().duration_since(started);
    let started = now();
    client.put("far", "value").w(Quorum::All).await.unwrap();
    assert!(now().duration_since(started) >= delay, "the proxy does not delay");
    assert!(near < Duration::from_secs(1), "{near:?} without the slow node");
    let traffic = Traffic::start(&cluster.client(), 4);
    traffic.advances(50).await;
    cluster.proxies[2].set(Fault::None);
    traffic.advances(50).await;
    traffic.stop().await.holds(&cluster, &[0, 1, 2]).await;
}

#[tokio::test]
async fn answers_that_get_lost_on_the_way_to_the_client_leave_honest_outcomes() {
    let cluster = Cluster::start().await;
    let proxy = Proxy::start(place::address(), cluster.nodes[0].client).await;
    let lossy = proxy.address.to_string();

    // A client that knows only this way: the write happens, and the client cannot know.
    let alone = Client::builder().endpoints([&lossy]).follow_ring(false).connect_lazy().unwrap();
    alone.put("key", "before").await.unwrap();
    proxy.set(Fault::AnswersLost);
    let lost = alone.put("key", "after").timeout(Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(lost.applied(), Applied::Unknown, "{lost}");
    let seen = cluster.client_of(1).get("key").await.unwrap().value;
    assert_eq!(seen.unwrap(), "after");

    // A client that knows another way as well.
    proxy.set(Fault::None);
    let others = cluster.nodes[1..].iter().map(|node| node.client.to_string());
    let client = Client::builder().endpoints([lossy.clone()].into_iter().chain(others));
    let client = client.follow_ring(false).connect_lazy().unwrap();
    let traffic = Traffic::start(&client, 8);
    for _ in 0..3 {
        traffic.advances(100).await;
        proxy.set(Fault::AnswersLost);
        traffic.advances(100).await;
        proxy.set(Fault::None);
    }
    let seen = traffic.stop().await;
    seen.holds(&cluster, &[0, 1, 2]).await;
    println!("{} acknowledged, failed: {:?}", seen.acknowledged, seen.failed);
}

#[tokio::test]
async fn half_open_and_cut_links_between_nodes_lose_no_acknowledged_write() {
    let cluster = Plan::new().behind_proxies().start().await;
    let traffic = Traffic::start(&cluster.client(), 8);
    for (victim, fault) in [(2, Fault::HalfOpen), (1, Fault::Cut), (0, Fault::AnswersLost)] {
        traffic.advances(50).await;
        cluster.proxies[victim].set(fault);
        traffic.advances(50).await;
        cluster.proxies[victim].set(Fault::None);
        cluster.all_alive().await;
    }
    // Everything between the nodes at once: each is alone, and nobody serves quorums.
    for proxy in &cluster.proxies {
        proxy.set(Fault::Cut);
    }
    let client = cluster.client_of(0);
    until("a quorum is refused", Duration::from_secs(5), async || {
        let error = client.put("alone", "value").await.err()?;
        (error.code() == "QUORUM_NOT_REACHED").then_some(())
    })
    .await;
    for proxy in &cluster.proxies {
        proxy.set(Fault::None);
    }
    cluster.all_alive().await;
    traffic.advances(50).await;
    let seen = traffic.stop().await;
    seen.holds(&cluster, &[0, 1, 2]).await;
    println!("{} acknowledged, failed: {:?}", seen.acknowledged, seen.failed);
}

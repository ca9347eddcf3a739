//! Anti-entropy between real processes: a node that slept through writes and deletes whose hints are
//! gone becomes equal without a client's help; what differs is found and told without being changed.

use std::time::Duration;

use roundtable::client::{Client, Quorum};

use crate::fixture::clock::{now, until};
use crate::fixture::{Cluster, Plan};
use crate::sloppy::down;

const PATIENCE: Duration = Duration::from_secs(30);
/// Keys, where `KVD_REPAIR_KEYS` does not say how many.
const KEYS: u32 = 5_000;
/// Requests of a client under way.
const AT_ONCE: usize = 64;

/// How many keys. With a number of its own a run keeps the default throttle, and prints what it took.
fn wanted() -> Option<u32> {
    std::env::var("KVD_REPAIR_KEYS").ok().map(|text| text.parse().expect("a number of keys"))
}

fn keys() -> u32 {
    wanted().unwrap_or(KEYS)
}

fn key(number: u32) -> String {
    format!("user:{number:06}")
}

/// Writes a third of the keys anew, deletes another, and writes as many that were not there.
async fn change(client: &Client) {
    let numbers: Vec<u32> = (0..keys()).collect();
    for some in numbers.chunks(AT_ONCE) {
        let tasks = some.iter().map(|number| {
            let (client, number) = (client.clone(), *number);
            tokio::spawn(async move {
                let outcome = match number % 3 {
                    0 => client.put(key(number), "later").await.map(drop),
                    1 => client.delete(key(number)).await.map(drop),
                    _ => client.put(key(keys() + number), "new").await.map(drop),
                };
                outcome.unwrap();
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    }
}

async fn fill(client: &Client) {
    let numbers: Vec<u32> = (0..keys()).collect();
    for some in numbers.chunks(AT_ONCE) {
        let tasks = some.iter().map(|number| {
            let (client, number) = (client.clone(), *number);
            // On all nodes: what one of them lacks afterwards is what it slept through.
            tokio::spawn(async move {
                client.put(key(number), "first").w(Quorum::All).await.unwrap();
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    }
}

/// Three nodes, the third of which has slept through changes; their hints are gone.
async fn after_sleep(interval: &str) -> Cluster {
    let plan = Plan::new().with("repair.interval", interval).with("repair.settle", "1s");
    // A look at thousands of differences would wait for its share.
    let plan = if wanted().is_none() { plan.with("repair.rate", "0") } else { plan };
    let mut cluster = plan.with("cluster.partitions", 64).start().await;
    fill(&cluster.client_of(0)).await;
    for seen_by in [0, 1] {
        down(&mut cluster, 2, seen_by).await;
    }
    change(&cluster.client_of(0)).await;
    until("hints are given up", PATIENCE, async || {
        let dropped = ["-o", "json", "hints", "drop", "--target", "n3", "--yes"];
        let dropped = cluster.kvctl(&dropped).await.succeeded().json();
        let all = dropped["dropped"].as_array()?.iter();
        (all.map(|line| line["count"].as_u64().unwrap_or(1)).sum::<u64>() == 0).then_some(())
    })
    .await;
    cluster.nodes[2].start();
    cluster.ready().await;
    cluster.kvctl(&["wait", "--for", "nodes=3"]).await.succeeded();
    cluster
}

/// Keys that differ between two nodes, once both can tell.
async fn differing(cluster: &Cluster, first: &str, second: &str) -> u64 {
    until("both nodes say what they hold", PATIENCE, async || {
        let diff = ["-o", "json", "--timeout", "20s", "tree", "diff", first, second];
        let done = cluster.kvctl(&diff).await;
        (done.code == Some(0)).then(|| done.json()["keys"].as_u64().unwrap())
    })
    .await
}

/// What a node itself holds of a key.
async fn own(client: &Client, key: &str) -> Option<String> {
    let found = client.get(key.to_owned()).r(Quorum::One).await.unwrap();
    found.value.map(|value| String::from_utf8_lossy(&value).into_owned())
}

async fn holds_all(cluster: &Cluster, node: usize) {
    let client = cluster.client_of(node);
    for number in (0..keys()).step_by(37) {
        let expected = match number % 3 {
            0 => Some("later"),
            1 => None,
            _ => Some("first"),
        };
        assert_eq!(own(&client, &key(number)).await.as_deref(), expected, "{number} at {node}");
        if number % 3 == 2 {
            let new = own(&client, &key(keys() + number)).await;
            assert_eq!(new.as_deref(), Some("new"), "{number} at {node}");
        }
    }
}

#[tokio::test]
async fn a_node_whose_hints_are_gone_becomes_equal_without_a_client() {
    let cluster = after_sleep("10s").await;
    let began = now();
    cluster.kvctl(&["wait", "--for", "converged", "--timeout", "900s"]).await.succeeded();
    let seconds = began.elapsed().as_secs_f64();
    for other in ["n1", "n2"] {
        assert_eq!(differing(&cluster, other, "n3").await, 0, "{other}");
    }
    for node in 0..3 {
        holds_all(&cluster, node).await;
    }
    until("nobody holds it to be dirty any more", PATIENCE, async || {
        let hints = cluster.kvctl(&["-o", "json", "hints", "list"]).await.succeeded().json();
        (hints["dirty_count"] == 0).then_some(())
    })
    .await;
    let status = cluster.kvctl(&["-o", "json", "repair", "status"]).await.succeeded().json();
    let nodes = status["nodes"].as_array().unwrap();
    let sum = |name: &str| nodes.iter().map(|node| node[name].as_u64().unwrap()).sum::<u64>();
    assert!(sum("records_here") + sum("records_there") >= u64::from(keys()), "{status}");
    if let Some(keys) = wanted() {
        let (bytes, answered) = (sum("bytes"), sum("answered_bytes"));
        println!(
            "{keys} differences: equal after {seconds:.1} s, {bytes} bytes in sessions, {answered} for others"
        );
        println!("{status}");
    }
}

#[tokio::test]
async fn what_differs_is_told_as_it_is_and_goes_when_somebody_wants_it() {
    let cluster = after_sleep("0s").await;
    let differ = differing(&cluster, "n1", "n3").await;
    assert_eq!(differ, u64::from(keys()), "every third key, three times");
    assert_eq!(differing(&cluster, "n3", "n2").await, differ, "and from the other side");
    assert_eq!(differing(&cluster, "n1", "n2").await, 0);
    // Looking has changed nothing.
    assert_eq!(differing(&cluster, "n1", "n3").await, differ);
    let shown = cluster
        .kvctl(&["-o", "table", "--timeout", "20s", "tree", "diff", "n1", "n3"])
        .await
        .succeeded();
    assert!(shown.text().contains("default/user:"), "{}", shown.text());
    assert!(shown.text().contains("n3 has nothing, or something older"), "{}", shown.text());
    let wait = ["-o", "json", "wait", "--for", "converged", "--timeout", "1s"];
    let short = cluster.kvctl(&wait).await;
    // It may just have been quick enough.
    assert!(short.code == Some(5) || short.code == Some(0));
    let start = ["-o", "json", "repair", "start", "--wait", "--timeout", "120s"];
    let started = cluster.kvctl(&start).await.succeeded().json();
    assert_eq!(started["started"].as_array().unwrap().len(), 3, "{started}");
    for (first, second) in [("n1", "n3"), ("n2", "n3"), ("n1", "n2")] {
        assert_eq!(differing(&cluster, first, second).await, 0);
    }
    holds_all(&cluster, 2).await;
    let map = cluster.kvctl(&["repair", "status", "--svg", "-"]).await.succeeded();
    assert!(map.text().contains("n1 – n3"), "{}", map.text());
}

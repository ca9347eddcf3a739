//! Causal tables between five real processes while owners of a key are down: with two of three, then
//! with all of them. What stand-ins take comes home, every sibling of it.

use std::time::Duration;

use roundtable::client::{Client, Context, Quorum, TableKind, Written};

use crate::fixture::clock::until;
use crate::fixture::{Cluster, Plan};
use crate::orchestrator;
use crate::sloppy::{down, hints};

const PATIENCE: Duration = Duration::from_secs(20);

async fn place(cluster: &Cluster, key: &str) -> (Vec<usize>, Vec<usize>) {
    let place = cluster.kvctl(&["-o", "json", "-t", "carts", "locate", key]).await;
    let place = place.succeeded().json();
    let list = |name: &str| {
        let names = place[name].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        names.map(|name| name[1..].parse::<usize>().unwrap() - 1).collect::<Vec<_>>()
    };
    (list("owners"), list("stand_ins"))
}

async fn values(client: &Client, sloppy: bool) -> Option<(Vec<String>, Context)> {
    let mut get = client.get("k").table("carts");
    if sloppy {
        get = get.sloppy();
    }
    let found = get.siblings().await.ok()?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut values: Vec<String> = found.values.iter().map(|s| text(&s.value)).collect();
    values.sort();
    Some((values, found.context))
}

/// A sloppy put; one that is asked while the loss of an owner is still being noticed may fail.
async fn put(client: &Client, value: &str, context: &Context) -> Written {
    until("a sloppy put succeeds", PATIENCE, async || {
        let put = client.put("k", value.to_owned()).table("carts").context(context).sloppy();
        put.returning_context().await.ok()
    })
    .await
}

/// A strict put fails, and says how many owners are missing.
async fn refused(cluster: &Cluster, node: usize) {
    let endpoint = cluster.nodes[node].client.to_string();
    let strict =
        ["-e", &endpoint, "-o", "json", "--timeout", "2s", "-t", "carts", "put", "k", "never"];
    let done = crate::fixture::kvctl::run(&strict, b"").await;
    assert_eq!((done.code, &done.error()["code"]), (Some(4), &"QUORUM_NOT_REACHED".into()));
}

#[tokio::test]
async fn siblings_that_stand_ins_take_while_owners_are_down_all_come_home() {
    let mut cluster = Plan::new().of(5).start().await;
    cluster.client().tables().create("carts").kind(TableKind::Causal).await.unwrap();
    let (owners, others) = place(&cluster, "k").await;
    let ([a, b, c], [d, e]) = (&owners[..], &others[..]) else { panic!("{owners:?}") };
    let (a, b, c, d, e) = (*a, *b, *c, *d, *e);
    let nothing = Context::default();
    cluster.client_of(a).put("k", "before").table("carts").await.unwrap();
    let (_, before) = values(&cluster.client_of(d), false).await.unwrap();

    // Two of three are down: the third coordinates, and stand-ins fill the other seats.
    for owner in [b, c] {
        for seen_by in [a, d, e] {
            down(&mut cluster, owner, seen_by).await;
        }
    }
    refused(&cluster, a).await;
    let one = put(&cluster.client_of(a), "one", &nothing).await;
    assert_ne!(one.receipt.stand_ins, 0);
    assert!(hints(&cluster).await.iter().any(|(_, _, _, custody)| *custody > 0));

    // With the last owner down a stand-in coordinates.
    for seen_by in [d, e] {
        down(&mut cluster, a, seen_by).await;
    }
    refused(&cluster, d).await;
    let endpoint = cluster.nodes[e].client.to_string();
    let sloppy = ["-e", &endpoint, "-o", "json", "-t", "carts"];
    let made = until("kvctl puts", PATIENCE, async || {
        let args = [&sloppy[..], &["put", "k", "two", "--sloppy"]].concat();
        let done = crate::fixture::kvctl::run(&args, b"").await;
        (done.code == Some(0)).then(|| done.json())
    })
    .await;
    assert_eq!(made["receipt"]["stand_ins"].as_array().unwrap().len(), 2, "{made}");
    assert_eq!(made["receipt"]["many_siblings"], false);
    // One that saw what was there before everybody went down takes its place.
    put(&cluster.client_of(d), "three", &before).await;
    let (read, _) = values(&cluster.client_of(e), true).await.expect("stand-ins answer");
    assert!(read.contains(&"two".to_owned()) && read.contains(&"three".to_owned()), "{read:?}");

    for owner in owners {
        cluster.nodes[owner].start();
    }
    cluster.ready().await;
    cluster.kvctl(&["wait", "--for", "no-hints", "--timeout", "30s"]).await.succeeded();
    assert_eq!(hints(&cluster).await, []);
    for node in 0..5 {
        let client = cluster.client_of(node);
        let all = until("all siblings are read", PATIENCE, async || {
            values(&client, false).await.map(|(values, _)| values)
        });
        assert_eq!(all.await, ["one", "three", "two"], "node {node}");
    }
}

/// All siblings that a node reads, once they are what they should be.
async fn reads(cluster: &Cluster, node: usize, expected: &[&str]) {
    let client = cluster.client_of(node);
    until(&format!("node {node} reads {expected:?}"), PATIENCE, async || {
        let (read, _) = values(&client, false).await?;
        (read == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_member_alone_holds_comes_home_with_it_when_its_place_is_taken() {
    let plan = Plan::new().of(4).and_reserved(1).with("membership.down_after", "2s");
    let mut cluster = plan.with("orchestrator.replace_after", "6s").start().await;
    cluster.client().tables().create("carts").kind(TableKind::Causal).await.unwrap();
    cluster.client().put("k", "before").table("carts").await.unwrap();
    let (owners, others) = place(&cluster, "k").await;
    let d = (0..4).find(|node| !owners.contains(node)).unwrap();
    assert!(others.contains(&d), "{others:?}");
    // The reserved one goes as well: it could stand in.
    for node in [4].into_iter().chain(owners.iter().copied()) {
        down(&mut cluster, node, d).await;
    }
    until("one stand-in takes a sloppy put", PATIENCE, async || {
        let client = cluster.client_of(d);
        client.put("k", "kept").table("carts").w(Quorum::Count(1)).sloppy().await.ok()
    })
    .await;
    cluster.nodes[d].kill();
    let others: Vec<usize> = (0..5).filter(|node| *node != d).collect();
    others.iter().for_each(|node| cluster.nodes[*node].start());
    for node in &others {
        cluster.nodes[*node].ready().await;
    }
    let name = cluster.nodes[d].name.clone();
    orchestrator::is(&cluster, "n5", "has taken its place", |node| {
        node["role"] == "active" && node["replica_partitions"].as_u64() > Some(0)
    })
    .await;
    cluster.kvctl(&["wait", "--for", "settled", "--timeout", "60s"]).await.succeeded();
    reads(&cluster, owners[0], &["before"]).await;

    // It comes back, owns nothing any more, and hands over what it has taken in others' place.
    cluster.nodes[d].start();
    orchestrator::is(&cluster, &name, "is back as a reserved member", |node| {
        node["role"] == "reserved" && node["serving"] == true && node["replica_partitions"] == 0
    })
    .await;
    for node in 0..5 {
        reads(&cluster, node, &["before", "kept"]).await;
    }
    cluster.kvctl(&["wait", "--for", "no-hints", "--timeout", "30s"]).await.succeeded();
    assert_eq!(hints(&cluster).await, []);
}

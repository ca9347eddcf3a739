//! `kvctl explain` against real processes: one node is asked, and asks the others.

use std::time::Duration;

use serde_json::Value as Json;

use crate::fixture::clock::until;
use crate::fixture::{Cluster, Plan, kvctl};

const PATIENCE: Duration = Duration::from_secs(20);

/// What one node tells of a key. Its client port is the only one that is spoken to.
async fn explain(cluster: &Cluster, asked: usize, table: &str, key: &str) -> Json {
    let at = cluster.nodes[asked].client.to_string();
    let line = ["-e", &at, "-o", "json", "-t", table, "explain", key];
    kvctl::run(&line, b"").await.succeeded().json()
}

fn verdicts(explained: &Json) -> Vec<&str> {
    let owners = explained["owners"].as_array().unwrap().iter();
    owners.map(|owner| owner["verdict"].as_str().unwrap()).collect()
}

/// The owners of a key, by their place in the cluster, and the others.
fn places(cluster: &Cluster, explained: &Json) -> (Vec<usize>, Vec<usize>) {
    let place = |owner: &Json| {
        let name = owner["node"].as_str().unwrap();
        cluster.nodes.iter().position(|node| node.name == name).unwrap()
    };
    let owners: Vec<usize> = explained["owners"].as_array().unwrap().iter().map(place).collect();
    let others = (0..cluster.nodes.len()).filter(|node| !owners.contains(node)).collect();
    (owners, others)
}

async fn down(cluster: &mut Cluster, node: usize, seen_by: usize) {
    let name = cluster.nodes[node].name.clone();
    cluster.nodes[node].kill();
    let client = cluster.client_of(seen_by);
    until(&format!("{name} is known to be away"), PATIENCE, async || {
        let status = client.status().await.ok()?;
        let state = &status.nodes.iter().find(|known| known.name == name)?.state;
        (state != "alive").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_owner_that_is_down_and_its_hint_are_told_by_a_node_that_has_neither() {
    let mut cluster = Plan::new().of(5).start().await;
    cluster.kvctl(&["put", "key", "old", "-w", "all"]).await.succeeded();
    let all = explain(&cluster, 0, "default", "key").await;
    assert_eq!((verdicts(&all), &all["agree"]), (vec!["newest"; 3], &true.into()), "{all}");
    let (owners, others) = places(&cluster, &all);
    let (away, writer, asked) = (owners[1], others[0], others[1]);
    down(&mut cluster, away, writer).await;
    // Not the writer's own: those that ask must hear of it from the one that keeps it.
    let client = cluster.client_of(writer);
    client.put("key", "value").await.unwrap();
    let (holder, target) = (cluster.nodes[writer].name.clone(), cluster.nodes[away].name.clone());
    let explained = until("the hint is told", PATIENCE, async || {
        let explained = explain(&cluster, asked, "default", "key").await;
        let hinted = explained["owners"][1]["hints"].as_array().unwrap().len() == 1;
        hinted.then_some(explained)
    })
    .await;
    assert_eq!(verdicts(&explained), ["newest", "silent", "newest"], "{explained}");
    let owner = &explained["owners"][1];
    assert_eq!((&owner["node"], &owner["answered"]), (&target.as_str().into(), &false.into()));
    assert_eq!(owner["hints"][0]["holder"], holder.as_str());
    assert_eq!(owner["hints"][0]["stamp"], explained["newest"]);
    let name = cluster.nodes[asked].name.as_str();
    assert_eq!((&explained["agree"], &explained["asked"]), (&Json::Null, &name.into()));
    assert_eq!(explained["silent"][0]["node"], target.as_str(), "{explained}");
    // In words, for people.
    let at = cluster.nodes[asked].client.to_string();
    let shown = kvctl::run(&["-e", &at, "-o", "table", "explain", "key"], b"").await.succeeded();
    let text = shown.text();
    assert!(text.contains("a hint with the newest version waits for it"), "{text}");
    assert!(text.contains(&format!("hint at {holder}")), "{text}");

    cluster.nodes[away].start();
    let wait = ["wait", "--for", "no-hints", "--timeout", "30s"];
    cluster.kvctl(&wait).await.succeeded();
    let home = explain(&cluster, asked, "default", "key").await;
    assert_eq!((verdicts(&home), &home["agree"]), (vec!["newest"; 3], &true.into()), "{home}");
    assert_eq!((&home["newest"], &home["silent"]), (&explained["newest"], &Json::Array(vec![])));
}

#[tokio::test]
async fn siblings_and_registers_are_told_and_an_owner_that_is_down_is_named() {
    let mut cluster = Plan::new().of(3).start().await;
    for kind in ["causal", "linearizable"] {
        cluster.kvctl(&["table", "create", kind, "--kind", kind]).await.succeeded();
    }
    for value in ["one", "other"] {
        cluster.kvctl(&["-t", "causal", "put", "key", value, "-w", "all"]).await.succeeded();
    }
    let carts = explain(&cluster, 1, "causal", "key").await;
    assert_eq!((verdicts(&carts), &carts["kind"]), (vec!["same"; 3], &"causal".into()), "{carts}");
    assert_eq!(carts["owners"][0]["siblings"].as_array().unwrap().len(), 2, "{carts}");

    let put = ["-o", "json", "-t", "linearizable", "put", "key", "mine"];
    let stamp = cluster.kvctl(&put).await.succeeded().json()["stamp"].clone();
    let locks = until("all have accepted it", PATIENCE, async || {
        let locks = explain(&cluster, 2, "linearizable", "key").await;
        (locks["agree"] == true).then_some(locks)
    })
    .await;
    assert_eq!((verdicts(&locks), &locks["newest"]), (vec!["newest"; 3], &stamp), "{locks}");
    let owner = &locks["owners"][0];
    assert!(owner["register"]["promised"].is_string(), "{owner}");
    assert_eq!((&owner["durable"], &owner["version"]["bytes"]), (&true.into(), &4.into()));

    let (owners, _) = places(&cluster, &locks);
    let (asked, away) = (owners[0], owners[2]);
    down(&mut cluster, away, asked).await;
    for (table, verdict) in [("causal", "same"), ("linearizable", "newest")] {
        let explained = explain(&cluster, asked, table, "key").await;
        let silent = explained["owners"].as_array().unwrap().iter().filter(|owner| {
            owner["verdict"] == "silent" && owner["node"] == cluster.nodes[away].name.as_str()
        });
        assert_eq!(silent.count(), 1, "{explained}");
        let told = verdicts(&explained).into_iter().filter(|code| *code == verdict).count();
        assert_eq!((told, &explained["agree"]), (2, &Json::Null), "{explained}");
    }
    // A put that it misses waits for it as a hint, and is told of.
    let endpoint = cluster.nodes[asked].client.to_string();
    let put = ["-e", &endpoint, "-t", "causal", "put", "key", "third"];
    kvctl::run(&put, b"").await.succeeded();
    until("the hint is told of", PATIENCE, async || {
        let told = explain(&cluster, asked, "causal", "key").await;
        let holder = &told["owners"][2]["hints"][0]["holder"];
        (*holder == cluster.nodes[asked].name.as_str()).then_some(())
    })
    .await;
}

//! More is gone than the protocol survives: what is stuck is named, and goes on when an operator accepts
//! what that costs.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::fixture::clock::until;
use crate::fixture::kvctl::{Done, run};
use crate::fixture::{Cluster, Plan};
use crate::sloppy::down;

async fn ctl(cluster: &Cluster, line: &str) -> Done {
    let words: Vec<&str> = ["-o", "json"].into_iter().chain(line.split(' ')).collect();
    cluster.kvctl(&words).await
}

/// Commits what is staged.
async fn commit(cluster: &Cluster) {
    let shown = ctl(cluster, "plan show").await.succeeded().json();
    assert_eq!(shown["feasible"], true, "{shown}");
    let hash = shown["hash"].as_str().unwrap();
    ctl(cluster, &format!("plan commit {hash}")).await.succeeded();
}

/// Waits until every node that runs says that units are stuck, on these members. Returns one of them.
async fn stuck_on(cluster: &Cluster, names: &[&str]) -> String {
    until("units are stuck", Duration::from_secs(30), async || {
        let mut unit = None;
        for node in cluster.nodes.iter().filter(|node| node.runs()) {
            let words = ["-e", &node.client.to_string(), "-o", "json", "plan", "status"];
            let status = run(&words, b"").await.succeeded().json();
            let stuck = status["stuck"].as_array().unwrap().clone();
            let on_them = |line: &&Json| line["down"] == json!(names);
            let found = stuck.iter().find(on_them)?;
            unit = Some(found["unit"].as_str().unwrap().to_owned());
        }
        unit
    })
    .await
}

async fn write_all(cluster: &Cluster, count: u32) {
    for number in 0..count {
        let (key, value) = (format!("key-{number}"), format!("value-{number}"));
        cluster.client().put(key, value).await.unwrap();
    }
}

/// Every key is read, through each of these nodes.
async fn read_all(cluster: &Cluster, count: u32, nodes: &[usize]) {
    for node in nodes {
        let client = cluster.client_of(*node);
        for number in 0..count {
            let value = client.get(format!("key-{number}")).await.unwrap().value;
            assert_eq!(value.as_deref(), Some(format!("value-{number}").as_bytes()));
        }
    }
}

#[tokio::test]
async fn units_that_have_lost_their_quorum_are_named_and_go_on_when_the_loss_is_accepted() {
    let mut cluster = Plan::new().of(5).and_reserved(2).start().await;
    write_all(&cluster, 100).await;
    let early = ctl(&cluster, "plan accept-loss 0/3 --gone n1 --yes").await;
    assert_eq!(early.code, Some(2), "{early:?}");
    assert!(early.error()["message"].as_str().unwrap().contains("n1 is not down"));
    for node in [0, 1] {
        cluster.nodes[node].kill();
    }
    ctl(&cluster, "node replace n1 n7").await.succeeded();
    ctl(&cluster, "node replace n2 n6").await.succeeded();
    commit(&cluster).await;
    let unit = stuck_on(&cluster, &["n1", "n2"]).await;
    let people = cluster.kvctl(&["-o", "table", "plan", "status"]).await.succeeded();
    assert!(people.text().contains("kvctl plan accept-loss --all --gone n1,n2"), "{people:?}");

    // Nobody is given up who was not named, or is not asked about; nor without a word.
    let one = ctl(&cluster, &format!("plan accept-loss {unit} --gone n1 --yes")).await;
    assert_eq!((one.code, &one.error()["code"]), (Some(2), &"PLAN_INVALID".into()), "{one:?}");
    assert!(one.error()["message"].as_str().unwrap().contains("waits for n2 too"));
    let other = ctl(&cluster, &format!("plan accept-loss {unit} --gone n1,n3 --yes")).await;
    assert!(other.error()["message"].as_str().unwrap().contains("n3 is not down"), "{other:?}");
    let silent = ctl(&cluster, &format!("plan accept-loss {unit} --gone n1,n2")).await;
    assert_eq!(silent.code, Some(2), "{silent:?}");

    let line = "plan accept-loss --all --gone n1,n2 --follow --yes --timeout 90s";
    let done = ctl(&cluster, line).await.succeeded().json();
    assert!(done["accepted"].as_u64().unwrap() > 0, "{done}");
    ctl(&cluster, "wait --for settled --timeout 60s").await.succeeded();
    let status = ctl(&cluster, "plan status").await.succeeded().json();
    assert_eq!((&status["plan"], &status["stuck"]), (&Json::Null, &json!([])), "{status}");
    read_all(&cluster, 100, &[2, 5]).await;
    assert!(
        cluster.nodes[2].log().contains("has accepted the loss of what members 1, 2 alone held")
    );
}

/// A lineage is forced at node `at`.
async fn force(cluster: &Cluster, at: usize, gone: &str, name: &str) -> Done {
    let endpoint = cluster.nodes[at].client.to_string();
    let words = ["-e", &endpoint, "-o", "json", "lineage", "force", "--gone", gone];
    run(&[&words[..], &["--cluster", name]].concat(), b"").await
}

#[tokio::test]
async fn without_a_majority_of_the_council_one_node_goes_on_in_a_new_lineage() {
    let mut cluster = Cluster::start().await;
    let name = cluster.client().status().await.unwrap().cluster_name;
    write_all(&cluster, 100).await;
    let early = force(&cluster, 0, "n2", &name).await;
    assert!(early.error()["message"].as_str().unwrap().contains("n2 is not down"), "{early:?}");
    for node in [1, 2] {
        cluster.nodes[node].kill();
    }
    // It could not even serve if it were started again.
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    let forced = until("the others are down", Duration::from_secs(20), async || {
        let done = force(&cluster, 0, "n2,n3", &name).await;
        (done.code == Some(0)).then(|| done.json())
    })
    .await;
    assert_eq!((&forced["lineage"], &forced["council"]), (&1.into(), &json!(["n1"])), "{forced}");
    cluster.nodes[0].ready().await;
    let again = force(&cluster, 0, "n2,n3", &name).await.succeeded().json();
    assert_eq!(again, forced, "once");
    let other = force(&cluster, 0, "n2,n3", "another").await;
    assert_eq!(other.error()["code"], "REQUEST_MALFORMED");

    // Who was left out is told, and stays out: also when nobody is there to tell it again.
    cluster.nodes[1].start();
    cluster.nodes[1].refuses("has left the cluster").await;
    cluster.nodes[1].kill();
    let endpoints = cluster.nodes[0].client.to_string();
    let ctl = async |line: &str| {
        let words: Vec<&str> =
            ["-e", &endpoints, "-o", "json"].into_iter().chain(line.split(' ')).collect();
        run(&words, b"").await
    };
    for name in ["n4", "n5"] {
        cluster.add(name).await;
        ctl(&format!("node join {name}")).await.succeeded();
    }
    let shown = ctl("plan show").await.succeeded().json();
    let hash = shown["hash"].as_str().unwrap();
    ctl(&format!("plan commit {hash}")).await.succeeded();
    let line = "plan accept-loss --all --gone n2,n3 --follow --yes --timeout 100s";
    let done = ctl(line).await.succeeded().json();
    assert!(done["accepted"].as_u64().unwrap() >= 64, "{done}");
    ctl("wait --for settled --timeout 60s").await.succeeded();
    let status = ctl("status").await.succeeded().json();
    let nodes = status["nodes"].as_array().unwrap();
    let names: Vec<&Json> = nodes.iter().map(|node| &node["name"]).collect();
    assert_eq!(names, ["n1", "n4", "n5"]);
    read_all(&cluster, 100, &[0, 3, 4]).await;
    cluster.client_of(3).put("new", "writes").await.unwrap();
    cluster.nodes[2].start();
    cluster.nodes[2].refuses("has left the cluster").await;
    cluster.nodes[1].start();
    cluster.nodes[1].refuses("has left the cluster").await;
}

#[tokio::test]
async fn members_that_live_follow_a_forced_lineage() {
    let mut cluster = Plan::new().of(5).start().await;
    let name = cluster.client().status().await.unwrap().cluster_name;
    for node in [0, 1, 2, 4] {
        cluster.nodes[node].kill();
    }
    let forced = async |at: usize| {
        until("a lineage is forced", Duration::from_secs(20), async || {
            let done = force(&cluster, at, "n1,n2,n3", &name).await;
            (done.code == Some(0)).then(|| done.json())
        })
        .await
    };
    let first = forced(3).await;
    assert_eq!(first["lineage"], 1);
    // The other one that lives hears of it, and goes on with it.
    cluster.nodes[4].start();
    cluster.nodes[4].ready().await;
    assert!(cluster.nodes[4].log().contains("goes on in lineage 1"), "{}", cluster.nodes[4].log());
    let told = force(&cluster, 4, "n1,n2,n3", &name).await.succeeded().json();
    assert_eq!(told["lineage"], 1, "{told}");
}

/// A cluster in which n5 has taken all units of n4, and the plan waits for n4 to hand over what it keeps for n2,
/// which is down.
async fn n4_keeps_for_n2() -> Cluster {
    let mut cluster = Plan::new().of(4).and_reserved(1).start().await;
    for seen_by in [0, 2, 3] {
        down(&mut cluster, 1, seen_by).await;
    }
    // Every unit has n2 and n3, and n1 or n4; the other one of these two stands in for n2.
    for number in 0..40 {
        until("a sloppy put succeeds", Duration::from_secs(10), async || {
            let key = format!("key-{number}");
            let words = ["put", &key, "kept for n2", "-w", "all", "--sloppy"];
            (cluster.kvctl(&words).await.code == Some(0)).then_some(())
        })
        .await;
    }
    ctl(&cluster, "node replace n4 n5").await.succeeded();
    commit(&cluster).await;
    until("the plan waits for n4 alone", Duration::from_secs(30), async || {
        let status = ctl(&cluster, "plan status").await.succeeded().json();
        let moves = status["plan"]["under_way"].as_array()?.len();
        let line = status["custody"].as_array().unwrap().first()?.as_str().unwrap().to_owned();
        let told = line.contains("n4 keeps") && line.contains("hints drop --node n4 --target n2");
        (moves == 0 && status["plan"]["queued"] == 0 && told).then_some(())
    })
    .await;
    cluster
}

#[tokio::test]
async fn a_plan_that_waits_for_custody_of_a_dead_member_says_so_and_ends_when_it_is_given_up() {
    let cluster = n4_keeps_for_n2().await;
    ctl(&cluster, "hints drop --node n4 --target n2 --yes").await.succeeded();
    ctl(&cluster, "wait --for settled --timeout 30s").await.succeeded();
    let status = ctl(&cluster, "plan status").await.succeeded().json();
    assert_eq!((&status["plan"], &status["custody"]), (&Json::Null, &json!([])), "{status}");
    assert!(cluster.nodes[3].log().contains("of them in custody"));
}

#[tokio::test]
async fn a_member_that_leaves_and_falls_silent_is_waited_for_and_hands_over_what_it_keeps() {
    let mut cluster = n4_keeps_for_n2().await;
    cluster.nodes[3].kill();
    let silent = "n4 is to leave and does not answer";
    until("the plan says that it waits for n4", Duration::from_secs(20), async || {
        let status = ctl(&cluster, "plan status").await.succeeded().json();
        assert_ne!(status["plan"], Json::Null, "it has not ended without n4");
        let lines = status["custody"].as_array().unwrap();
        lines.iter().any(|line| line.as_str().unwrap().contains(silent)).then_some(())
    })
    .await;
    cluster.nodes[1].start();
    cluster.nodes[1].ready().await;
    cluster.nodes[3].start();
    ctl(&cluster, "wait --for settled --timeout 30s").await.succeeded();
    for number in 0..40 {
        let key = format!("key-{number}");
        let read = cluster.kvctl(&["get", &key, "-r", "all"]).await;
        assert_eq!(read.succeeded().text(), "kept for n2", "{key}");
    }
    assert!(!cluster.nodes[0].log().contains("was down when it left"));
}

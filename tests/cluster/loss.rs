//! More is gone than the protocol survives: what is stuck is named, and goes on when an operator accepts
//! what that costs.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::fixture::clock::until;
use crate::fixture::kvctl::Done;
use crate::fixture::{Cluster, Plan};

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

/// Waits until units are stuck, on these members. Returns one of them.
async fn stuck_on(cluster: &Cluster, names: &[&str]) -> String {
    until("units are stuck", Duration::from_secs(30), async || {
        let status = ctl(cluster, "plan status").await.succeeded().json();
        let stuck = status["stuck"].as_array().unwrap().clone();
        let on_them = |line: &&Json| line["down"] == json!(names);
        stuck.iter().find(on_them).map(|line| line["unit"].as_str().unwrap().to_owned())
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

//! Options of single requests: monotonic reads, times that writers give, and waterfalls.

use std::time::Duration;

use crate::fixture::clock::until;
use crate::fixture::{Cluster, kvctl};

#[tokio::test]
async fn the_latest_time_that_writers_gave_is_read() {
    let cluster = Cluster::start().await;
    for (value, time) in [("late", "2000"), ("early", "1000")] {
        let done = cluster.kvctl(&["-o", "json", "put", "k", value, "--time", time]).await;
        assert_eq!(done.succeeded().json()["receipt"]["client_time"], true);
    }
    let read = cluster.kvctl(&["-o", "json", "get", "k"]).await.succeeded().json();
    assert_eq!((&read["value"], &read["receipt"]["client_time"]), (&"late".into(), &true.into()));
    let server_time: u64 = read["receipt"]["server_time"].as_str().unwrap().parse().unwrap();
    let far = (server_time + 60_000_000_000).to_string();
    let done = cluster.kvctl(&["-o", "json", "put", "k", "far", "--time", &far]).await;
    assert_eq!((done.code, &done.error()["code"]), (Some(2), &"TIME_TOO_FAR".into()));
    let done = cluster.kvctl(&["-o", "json", "put", "k", "now"]).await.succeeded().json();
    assert_eq!(done["receipt"]["client_time"], false);
    let read = cluster.kvctl(&["-o", "json", "get", "k"]).await.succeeded().json();
    assert_eq!(read["value"], "now");
    assert_eq!(cluster.kvctl(&["put", "k", "v", "--time", "0"]).await.code, Some(2));
}

#[tokio::test]
async fn a_write_that_has_lost_to_a_later_time_says_so() {
    let cluster = Cluster::start().await;
    let late = ["-o", "json", "put", "k", "late", "--time", "2000", "-w", "all"];
    let late = cluster.kvctl(&late).await.succeeded().json();
    assert_eq!(late["receipt"]["superseded"], false);
    for line in [&["put", "k", "early", "--time", "1000"][..], &["del", "k", "--time", "1500"]] {
        let lost = [&["-o", "json"], line].concat();
        let lost = cluster.kvctl(&lost).await.succeeded().json();
        assert_eq!(lost["receipt"]["superseded"], true, "{lost}");
        assert_eq!(lost["receipt"]["superseded_by"], late["stamp"], "{lost}");
        let said = cluster.kvctl(line).await.succeeded();
        assert!(said.stderr.contains("superseded"), "{}", said.stderr);
    }
    assert_eq!(cluster.kvctl(&["get", "k"]).await.succeeded().text(), "late");
    let gone = ["-o", "json", "del", "k", "--time", "2500"];
    let gone = cluster.kvctl(&gone).await.succeeded().json();
    assert_eq!(
        (&gone["receipt"]["superseded"], &gone["receipt"]["client_time"]),
        (&false.into(), &true.into())
    );
    assert_eq!(cluster.kvctl(&["get", "k"]).await.code, Some(3));
    let receipt =
        cluster.client().delete("k").time(roundtable::types::WallTime(2400)).await.unwrap();
    assert!(receipt.superseded_by.is_some());
    let done = cluster.kvctl(&["table", "create", "carts", "--kind", "causal"]).await;
    done.succeeded();
    let done = cluster.kvctl(&["-o", "json", "-t", "carts", "del", "k", "--time", "1"]).await;
    assert_eq!((done.code, &done.error()["code"]), (Some(2), &"KIND_MISMATCH".into()));
    assert_eq!(cluster.kvctl(&["del", "k", "--time", "0"]).await.code, Some(2));
}

#[tokio::test]
async fn a_request_that_fails_shows_its_waterfall() {
    let mut cluster = Cluster::start().await;
    let put = ["-o", "json", "put", "k", "v", "--trace", "-w", "all"];
    let put = cluster.kvctl(&put).await.succeeded().json();
    let steps = put["trace"]["steps"].as_array().unwrap();
    let events = |event: &str| steps.iter().filter(|step| step["event"] == event).count();
    assert_eq!((events("write"), events("answered")), (3, 3), "{put}");
    let gone = [cluster.nodes[1].name.clone(), cluster.nodes[2].name.clone()];
    for node in [1, 2] {
        cluster.nodes[node].kill();
    }
    let client = cluster.client_of(0);
    until("both are known to be away", Duration::from_secs(20), async || {
        let status = client.status().await.ok()?;
        let away = status.nodes.iter().filter(|node| node.state != "alive").count();
        (away == 2).then_some(())
    })
    .await;
    let at = cluster.nodes[0].client.to_string();
    for line in
        [&["put", "k", "v", "--trace"][..], &["get", "k", "--trace"], &["del", "k", "--trace"]]
    {
        let json = [&["-e", &at, "--timeout", "2s", "-o", "json"], line].concat();
        let failed = kvctl::run(&json, b"").await;
        assert_eq!(failed.code, Some(4), "{failed:?}");
        let error = failed.error();
        let steps = error["trace"]["steps"].as_array().unwrap_or_else(|| panic!("{error}"));
        assert!(steps.len() <= 64);
        for name in &gone {
            let heard = |step: &&serde_json::Value| {
                step["node"] == name.as_str()
                    && ["away", "lost"].contains(&step["event"].as_str().unwrap())
            };
            assert!(steps.iter().any(|step| heard(&step)), "{name}: {error}");
        }
        let shown = kvctl::run(&[&["-e", &at, "--timeout", "2s"], line].concat(), b"").await;
        assert_eq!(shown.code, Some(4), "{shown:?}");
        assert!(shown.stderr.contains("cannot be reached"), "{}", shown.stderr);
        assert!(shown.stderr.contains("answered after"), "{}", shown.stderr);
    }
    // Nobody has asked for it.
    let plain = kvctl::run(&["-e", &at, "--timeout", "2s", "-o", "json", "get", "k"], b"").await;
    assert!(plain.error()["trace"].is_null(), "{plain:?}");
}

#[tokio::test]
async fn monotonic_reads_answer_what_is_on_enough_owners() {
    let cluster = Cluster::start().await;
    cluster.client().put("k", "v").await.unwrap();
    let read = cluster.kvctl(&["get", "k", "--monotonic"]).await.succeeded();
    assert_eq!(read.text(), "v");
    let reply = cluster.client().get("k").monotonic().await.unwrap();
    assert_eq!(reply.value.as_deref(), Some(&b"v"[..]));
    assert_eq!(cluster.kvctl(&["get", "nothing", "--monotonic"]).await.code, Some(3));
    assert_eq!(cluster.kvctl(&["get", "k", "--monotonic", "--sloppy"]).await.code, Some(2));
    let done = cluster.kvctl(&["table", "create", "carts", "--kind", "causal"]).await;
    done.succeeded();
    cluster.kvctl(&["-t", "carts", "put", "k", "tea"]).await.succeeded();
    let read = cluster.kvctl(&["-t", "carts", "get", "k", "--monotonic"]).await.succeeded();
    assert_eq!(read.text(), "tea");
    let done = cluster.kvctl(&["-o", "json", "-t", "carts", "put", "k", "v", "--time", "1"]).await;
    assert_eq!((done.code, &done.error()["code"]), (Some(2), &"KIND_MISMATCH".into()));
}

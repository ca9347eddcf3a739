//! Sloppy quorums and hinted handoff between five real processes: the second worked example.

use std::time::Duration;

use roundtable::client::{Quorum, Receipt};

use crate::fixture::clock::until;
use crate::fixture::{Cluster, Plan};

const PATIENCE: Duration = Duration::from_secs(20);

/// The nodes that own a key and those that stand in for them, by their place in the cluster.
async fn places(cluster: &Cluster, key: &str) -> (Vec<usize>, Vec<usize>) {
    let place = cluster.kvctl(&["-o", "json", "locate", key]).await.succeeded().json();
    let list = |name: &str| {
        let names = place[name].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        names.map(|name| name[1..].parse::<usize>().unwrap() - 1).collect::<Vec<_>>()
    };
    (list("owners"), list("stand_ins"))
}

/// Kills a node, and waits until `seen_by` knows that it cannot be reached.
pub(crate) async fn down(cluster: &mut Cluster, node: usize, seen_by: usize) {
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

/// The hints of the whole cluster: holder, target, count, custody.
pub(crate) async fn hints(cluster: &Cluster) -> Vec<(String, String, u64, u64)> {
    let listed = cluster.kvctl(&["-o", "json", "hints", "list"]).await;
    let lines = listed.json()["hints"].as_array().unwrap().clone();
    let text = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap().to_owned();
    let read = |line: &serde_json::Value| {
        let (count, custody) = (line["count"].as_u64().unwrap(), line["custody"].as_u64().unwrap());
        (text(line, "holder"), text(line, "target"), count, custody)
    };
    lines.iter().map(read).collect()
}

fn stand_ins(receipt: &Receipt) -> u32 {
    receipt.stand_ins.count_ones()
}

#[tokio::test]
async fn a_stand_in_keeps_a_write_for_an_owner_that_is_down_and_hands_it_back() {
    let mut cluster = Plan::new().of(5).start().await;
    let (owners, others) = places(&cluster, "key").await;
    let [a, b, c] = owners[..] else { panic!("{owners:?}") };
    let d = others[0];
    down(&mut cluster, b, a).await;

    // N = 3, and all three seats are wanted: D sits on B's.
    let client = cluster.client_of(a);
    let receipt = client.put("key", "value").w(Quorum::All).sloppy().await.unwrap();
    assert_eq!((receipt.answered, receipt.stand_ins, receipt.n), (0b111, 0b010, 3));
    let (holder, target) = (cluster.nodes[d].name.clone(), cluster.nodes[b].name.clone());
    assert_eq!(hints(&cluster).await, [(holder.clone(), target.clone(), 1, 1)]);
    let status = cluster.kvctl(&["-o", "json", "status"]).await.succeeded().json();
    assert!(status["nodes"].as_array().unwrap().iter().all(|node| node["hints"].is_u64()));

    // Two of those that acknowledged it give it back, and are sure.
    let reply = cluster.client_of(d).get("key").r(Quorum::Count(2)).await.unwrap();
    assert_eq!(reply.value.as_deref(), Some(&b"value"[..]));
    assert!(!reply.receipt.may_miss, "{:?}", reply.receipt);
    // Strict, it is one owner short.
    let strict = client.put("key", "never").w(Quorum::All).await.unwrap_err();
    assert_eq!(strict.code(), "QUORUM_NOT_REACHED");

    // With C down as well only one owner is left: a read counts D, finds it, and is not sure.
    down(&mut cluster, c, a).await;
    let read = client.get("key").r(Quorum::Count(2));
    let error = read.clone().strict().await.unwrap_err();
    assert_eq!(error.code(), "QUORUM_NOT_REACHED");
    let reply = read.sloppy().await.unwrap();
    assert!(reply.value.is_some() && reply.receipt.may_miss, "{reply:?}");
    assert_eq!(stand_ins(&reply.receipt), 1);

    cluster.nodes[c].start();
    cluster.nodes[b].start();
    let wait = ["wait", "--for", "no-hints", "--timeout", "30s"];
    cluster.kvctl(&wait).await.succeeded();
    assert_eq!(hints(&cluster).await, []);
    // B has it: asked alone, it answers by itself.
    let reply = cluster.client_of(b).get("key").r(Quorum::One).await.unwrap();
    assert_eq!((reply.receipt.answered, reply.receipt.stamp), (0b010, receipt.stamp));
    assert!(!reply.receipt.may_miss, "{:?}", reply.receipt);
}

#[tokio::test]
async fn with_two_owners_down_strict_writes_fail_at_once_and_sloppy_ones_are_home_afterwards() {
    let mut cluster = Plan::new().of(5).start().await;
    let (owners, _) = places(&cluster, "key-0").await;
    let [a, b, c] = owners[..] else { panic!("{owners:?}") };
    down(&mut cluster, b, a).await;
    down(&mut cluster, c, a).await;
    let endpoint = cluster.nodes[a].client.to_string();
    let strict = ["-e", &endpoint, "-o", "json", "--timeout", "2s", "put", "key-0", "never"];
    let done = crate::fixture::kvctl::run(&strict, b"").await;
    assert_eq!(done.code, Some(4), "{done:?}");
    let message = done.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("needed 2, got 1"), "{message}");

    let client = cluster.client_of(a);
    let mut written = Vec::new();
    for number in 0..20 {
        let (key, value) = (format!("key-{number}"), format!("value-{number}"));
        // One that is asked while the loss of an owner is still being noticed may end at its deadline.
        let put = async || client.put(key.clone(), value.clone()).sloppy().await.ok();
        let receipt = until("a sloppy put succeeds", PATIENCE, put).await;
        written.push((key, value, receipt));
    }
    assert!(written.iter().any(|(_, _, receipt)| receipt.stand_ins != 0));
    assert!(hints(&cluster).await.iter().any(|(_, _, _, custody)| *custody > 0));

    cluster.nodes[b].start();
    cluster.nodes[c].start();
    let wait = ["wait", "--for", "no-hints", "--timeout", "30s"];
    cluster.kvctl(&wait).await.succeeded();
    for (key, value, receipt) in written {
        // All are on w owners now: no two of three miss them.
        for node in 0..5 {
            let reply = cluster.client_of(node).get(key.clone()).strict().await.unwrap();
            assert_eq!(reply.value.as_deref(), Some(value.as_bytes()), "{key}");
            assert_eq!(reply.receipt.stamp, receipt.stamp);
        }
    }
}

#[tokio::test]
async fn hints_are_listed_dropped_and_refused_where_a_table_says_so() {
    let mut cluster = Plan::new().of(5).start().await;
    for (kind, sloppy) in [("lww", "--sloppy=never"), ("linearizable", "--sloppy=never")] {
        let name = format!("never-{kind}");
        let made = ["table", "create", &name, "--kind", kind, sloppy];
        cluster.kvctl(&made).await.succeeded();
        let put = ["-t", &name, "-o", "json", "put", "key", "value", "--sloppy"];
        let refused = cluster.kvctl(&put).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
        let error = refused.error();
        assert_eq!(
            (&error["code"], &error["applied"]),
            (&"SLOPPY_NOT_ALLOWED".into(), &"no".into())
        );
        let get = ["-t", &name, "-o", "json", "get", "key", "--sloppy"];
        assert_eq!(cluster.kvctl(&get).await.error()["code"], "SLOPPY_NOT_ALLOWED");
    }
    cluster.kvctl(&["table", "create", "loose", "--sloppy"]).await.succeeded();

    let (owners, others) = places(&cluster, "key").await;
    let (a, b, d) = (owners[0], owners[1], others[0]);
    down(&mut cluster, b, a).await;
    let client = cluster.client_of(a);
    // The table is always sloppy: nobody has to say so.
    let receipt = client.put("key", "value").table("loose").w(Quorum::All).await.unwrap();
    assert_eq!(receipt.stand_ins, 0b010);
    let (holder, target) = (cluster.nodes[d].name.clone(), cluster.nodes[b].name.clone());
    let drop = ["hints", "drop", "--target", &target, "--yes", "-o", "json"];
    let dropped = cluster.kvctl(&drop).await.succeeded();
    assert!(dropped.stderr.contains("in custody"), "{dropped:?}");
    let mine = |line: &&serde_json::Value| line["holder"] == holder.as_str();
    let lines = dropped.json()["dropped"].as_array().unwrap().clone();
    assert_eq!(lines.iter().find(mine).unwrap()["custody"], 1);
    let listed = cluster.kvctl(&["hints", "list", "-o", "json", "--node", &holder]).await;
    let listed = listed.succeeded().json();
    assert_eq!(listed["hints"].as_array().unwrap().len(), 0);
    assert_eq!(listed["dirty"][0]["target"], target.as_str());
    let nobody = cluster.kvctl(&["hints", "drop", "--target", "nobody", "--yes"]).await;
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
}

/// A strict write that an owner misses leaves a hint that nobody waits for: it must be durable and
/// counted though nothing else is written after it.
#[tokio::test]
async fn a_hint_is_counted_though_nothing_is_written_after_it() {
    let mut cluster = Plan::new().of(5).start().await;
    let (owners, _) = places(&cluster, "key").await;
    let (a, b) = (owners[0], owners[1]);
    let (away, keeper) = (cluster.nodes[b].name.clone(), cluster.nodes[a].name.clone());
    down(&mut cluster, b, a).await;
    cluster.client_of(a).put("key", "value").await.unwrap();
    until("the hint is counted", PATIENCE, async || {
        let expected = (keeper.clone(), away.clone(), 1, 0);
        hints(&cluster).await.contains(&expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn explain_says_who_is_away_where_its_hint_waits_and_who_is_stale() {
    let mut cluster = Plan::new().of(5).start().await;
    let (owners, _) = places(&cluster, "key").await;
    let (a, b) = (owners[0], owners[1]);
    let (away, keeper) = (cluster.nodes[b].name.clone(), cluster.nodes[a].name.clone());
    let client = cluster.client_of(a);
    client.put("key", "old").w(Quorum::All).await.unwrap();
    let explained = cluster.kvctl(&["explain", "key", "-o", "json"]).await.succeeded().json();
    assert_eq!((&explained["agree"], &explained["kind"]), (&true.into(), &"lww".into()));

    down(&mut cluster, b, a).await;
    // A strict write leaves a hint with its coordinator.
    let receipt = client.put("key", "newer").await.unwrap();
    let newest = format!("{:032x}", u128::from_be_bytes(receipt.stamp.to_bytes()));
    until("the hint is kept", PATIENCE, async || {
        let held = hints(&cluster).await;
        held.iter().any(|(holder, target, ..)| *holder == keeper && *target == away).then_some(())
    })
    .await;
    let endpoint = cluster.nodes[a].client.to_string();
    let explain = ["-e", &endpoint, "-o", "json", "explain", "key"];
    let explained = crate::fixture::kvctl::run(&explain, b"").await.succeeded().json();
    assert_eq!((&explained["newest"], &explained["agree"]), (&newest.into(), &().into()));
    let silent = &explained["owners"][1];
    assert_eq!((&silent["node"], &silent["verdict"]), (&away.clone().into(), &"silent".into()));
    assert_eq!(silent["hints"][0]["holder"], keeper.as_str());
    let why = silent["why"].as_str().unwrap();
    assert!(why.contains(&format!("the newest version waits for it at {keeper}")), "{why}");
    for place in [0, 2] {
        assert_eq!(explained["owners"][place]["verdict"], "newest", "{explained}");
    }
    let table = ["-e", &endpoint, "-o", "table", "explain", "key"];
    let shown = crate::fixture::kvctl::run(&table, b"").await.succeeded();
    assert!(shown.text().contains(&format!("hint at {keeper}")), "{shown:?}");

    // Without its hint it comes back stale, and a read of all repairs it.
    let drop = ["-e", &endpoint, "hints", "drop", "--target", &away, "--yes"];
    crate::fixture::kvctl::run(&drop, b"").await;
    cluster.nodes[b].start();
    cluster.kvctl(&["wait", "--for", "ready", "--timeout", "30s"]).await.succeeded();
    let explained = until("the node that is asked reaches it", PATIENCE, async || {
        let explained = cluster.kvctl(&["explain", "key", "-o", "json"]).await.succeeded().json();
        (explained["owners"][1]["verdict"] != "silent").then_some(explained)
    })
    .await;
    assert_eq!(explained["owners"][1]["verdict"], "stale", "{explained}");
    assert_eq!(explained["agree"], false);
    until("the stale owner is repaired", PATIENCE, async || {
        // It may not be reached yet.
        client.get("key").r(Quorum::All).await.ok()?;
        let explained = cluster.kvctl(&["explain", "key", "-o", "json"]).await.succeeded().json();
        (explained["agree"] == true).then_some(())
    })
    .await;
}

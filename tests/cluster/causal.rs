//! Causal tables over real processes: concurrent writes are kept, contexts tie writes to reads,
//! through whichever node, over crashes and restarts, by the client library and by `kvctl`.

use std::collections::BTreeMap;

use roundtable::client::{Applied, Change, Client, Context, ErrorKind, Quorum, TableKind};
use roundtable::load::causal::{CausalAction, CausalHistory, CausalOutcome, Saw};
use roundtable::load::check;
use roundtable::types::{Key, Time, Value};

use crate::fixture::Cluster;
use crate::fixture::kvctl;

async fn carts(cluster: &Cluster) {
    cluster.client().tables().create("carts").kind(TableKind::Causal).await.unwrap();
}

async fn values(client: &Client, key: &str) -> (Vec<String>, Context) {
    let found = client.get(key.to_owned()).table("carts").siblings().await.unwrap();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut values: Vec<String> = found.values.iter().map(|s| text(&s.value)).collect();
    values.sort();
    (values, found.context)
}

#[tokio::test]
async fn concurrent_puts_are_kept_and_one_that_saw_them_takes_their_place() {
    let cluster = Cluster::start().await;
    carts(&cluster).await;
    for key in 0..12 {
        // Owners and other nodes alike, in turn.
        let key = format!("cart{key}");
        let [one, two, three] = [0, 1, 2].map(|node| cluster.client_of(node));
        one.put(key.clone(), "tea").table("carts").await.unwrap();
        two.put(key.clone(), "milk").table("carts").await.unwrap();
        let (found, context) = values(&three, &key).await;
        assert_eq!(found, ["milk", "tea"]);
        let error = three.get(key.clone()).table("carts").await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "SIBLINGS"));
        let put = one.put(key.clone(), "tea,milk").table("carts").context(&context);
        let written = put.returning_context().await.unwrap();
        assert_eq!(written.siblings, 1);
        assert_eq!(values(&two, &key).await.0, ["tea,milk"]);
        // The context of a put goes on where it stopped, and a stale one makes a sibling again.
        let put = two.put(key.clone(), "all").table("carts").context(&written.context);
        put.await.unwrap();
        assert_eq!(values(&three, &key).await.0, ["all"]);
        let stale = three.put(key.clone(), "late").table("carts").context(&context);
        assert_eq!(stale.returning_context().await.unwrap().siblings, 2);
        assert_eq!(values(&one, &key).await.0, ["all", "late"]);
        two.delete(key.clone()).table("carts").await.unwrap();
        assert_eq!(values(&three, &key).await.0, [""; 0]);
        assert_eq!(three.get(key.clone()).table("carts").await.unwrap().value, None);
    }
}

#[tokio::test]
async fn a_delete_with_a_context_keeps_what_was_written_meanwhile() {
    let cluster = Cluster::start().await;
    carts(&cluster).await;
    let client = cluster.client();
    client.put("k", "seen").table("carts").await.unwrap();
    let (_, context) = values(&client, "k").await;
    client.put("k", "unseen").table("carts").await.unwrap();
    let delete = client.delete("k").table("carts").context(&context);
    assert_eq!(delete.returning_context().await.unwrap().siblings, 1);
    assert_eq!(values(&client, "k").await.0, ["unseen"]);
}

#[tokio::test]
async fn contexts_that_are_damaged_or_of_elsewhere_are_refused_and_nothing_is_changed() {
    let cluster = Cluster::start().await;
    carts(&cluster).await;
    let client = cluster.client();
    client.tables().create("others").kind(TableKind::Causal).await.unwrap();
    client.put("k", "v").table("carts").await.unwrap();
    let (_, context) = values(&client, "k").await;
    let mut damaged = context.as_bytes().to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let long = vec![1; roundtable::types::limits::CONTEXT_BYTES_MAX + 1];
    let cases = [
        ("carts", "k", Context::from(bytes::Bytes::from(damaged)), "damaged"),
        ("carts", "k", Context::from(bytes::Bytes::from(long)), "the limit is"),
        ("carts", "l", context.clone(), "another key"),
        ("others", "k", context.clone(), "another table"),
        ("default", "k", context, "only causal tables"),
    ];
    for (table, key, context, why) in cases {
        let error = client.put(key, "x").table(table).context(&context).await.unwrap_err();
        assert_eq!((error.code(), error.applied()), ("CONTEXT_INVALID", Applied::No), "{why}");
        assert!(error.message().contains(why), "{error}");
        let error = client.delete(key).table(table).context(&context).await.unwrap_err();
        assert_eq!(error.code(), "CONTEXT_INVALID");
    }
    assert_eq!(values(&client, "k").await.0, ["v"]);
}

#[tokio::test]
async fn siblings_past_the_limit_are_refused_until_they_are_resolved() {
    let cluster = Cluster::start().await;
    carts(&cluster).await;
    let client = cluster.client_of(0);
    for number in 0..50 {
        client.put("k", format!("v{number}")).table("carts").await.unwrap();
    }
    let error = client.put("k", "more").table("carts").await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("SIBLING_LIMIT", ErrorKind::Conflict));
    assert_eq!(error.facts().limit, Some(50));
    let (found, context) = values(&client, "k").await;
    assert_eq!(found.len(), 50);
    client.put("k", "one").table("carts").context(&context).await.unwrap();
    assert_eq!(values(&cluster.client_of(1), "k").await.0, ["one"]);
    // Large ones: 4 MiB in all.
    let large = "x".repeat((1 << 20) - 8);
    for number in 0..4 {
        client.put("big", format!("{number}{large}")).table("carts").await.unwrap();
    }
    let error = client.put("big", format!("5{large}")).table("carts").await.unwrap_err();
    assert_eq!(error.code(), "SIBLING_LIMIT");
    assert_eq!(values(&cluster.client_of(2), "big").await.0.len(), 4);
}

#[tokio::test]
async fn no_acknowledged_sibling_is_lost_while_nodes_are_killed_and_started() {
    let mut cluster = Cluster::start().await;
    carts(&cluster).await;
    let mut history = CausalHistory::new();
    let mut carried: BTreeMap<usize, (Context, Vec<Value>)> = BTreeMap::new();
    for step in 0..240_usize {
        if step % 40 == 20 {
            cluster.nodes[step / 40 % 3].kill();
        }
        if step % 40 == 35 {
            cluster.nodes[step / 40 % 3].start();
            cluster.ready().await;
        }
        let client = cluster.client();
        let (slot, name) = (step % 4, format!("k{}", step % 2));
        let key = Key::new(name.clone()).unwrap();
        if step % 3 == 0 {
            let op = history.invoke(key, CausalAction::Get, Time(0));
            let read = client.get(name).table("carts").siblings().await;
            if let Ok(read) = read {
                let values: Vec<Value> =
                    read.values.iter().map(|s| Value::new(s.value.clone()).unwrap()).collect();
                history.complete(op, CausalOutcome::Read(values.clone()));
                carried.insert(slot, (read.context, values));
            }
            continue;
        }
        let (context, mut saw) = carried.remove(&slot).unwrap_or_default();
        let value = Value::new(format!("v{step}")).unwrap();
        let action = CausalAction::Put(value.clone(), Saw::Values(saw.clone()));
        let op = history.invoke(key, action, Time(0));
        // The library tries again by itself: it may have been made more than once.
        history.tried_again(op);
        let put = client.put(name, value.bytes().clone()).table("carts").context(&context);
        match put.returning_context().await {
            Ok(written) => {
                history.complete(op, CausalOutcome::Written);
                saw.push(value);
                carried.insert(slot, (written.context, saw));
            }
            Err(error) if error.applied() == Applied::No => {
                history.complete(op, CausalOutcome::Failed);
            }
            Err(_) => {}
        }
    }
    for node in 0..3 {
        for name in ["k0", "k1"] {
            let op = history.invoke(Key::new(name).unwrap(), CausalAction::Get, Time(0));
            let read = cluster.client_of(node).get(name).table("carts").r(Quorum::All);
            let read = read.siblings().await.unwrap();
            let values = read.values.iter().map(|s| Value::new(s.value.clone()).unwrap());
            history.complete(op, CausalOutcome::Read(values.collect()));
        }
    }
    let violations = check::causal(&history);
    assert!(violations.is_empty(), "{violations:?}");
    let written = history.operations().iter().filter(|op| op.is_acknowledged()).count();
    assert!(written > 100, "{written} writes");
}

#[tokio::test]
async fn kvctl_shows_siblings_and_settles_on_one() {
    let cluster = Cluster::start().await;
    carts(&cluster).await;
    let endpoints = cluster.endpoints().join(",");
    let run = async |args: &[&str]| {
        let mut all = vec!["-e", &endpoints, "-t", "carts", "-o", "json"];
        all.extend(args);
        kvctl::run(&all, b"").await
    };
    let first = run(&["put", "k", "tea"]).await.succeeded().json();
    let context = first["context"].as_str().unwrap().to_owned();
    run(&["put", "k", "milk"]).await.succeeded();
    let get = run(&["get", "k"]).await;
    assert_eq!((get.code, get.error()["code"].as_str()), (Some(6), Some("SIBLINGS")));
    assert!(get.error()["hint"].as_str().unwrap().contains("resolve"));
    let shown = run(&["get", "k", "--siblings"]).await.succeeded().json();
    assert_eq!(shown["count"], 2);
    assert_eq!(shown["siblings"][0]["value"], "tea");
    assert_eq!(shown["siblings"][1]["value"], "milk");
    // A context takes the place of what it saw alone.
    run(&["put", "k", "green tea", "--context", &context]).await.succeeded();
    let listed = run(&["resolve", "k"]).await;
    assert_eq!((listed.code, listed.json()["count"].as_u64()), (Some(6), Some(2)));
    let scanned = run(&["scan"]).await.succeeded().json();
    assert_eq!((scanned[0]["siblings"].as_u64(), scanned[0].get("value")), (Some(2), None));
    let exported = run(&["export", "-"]).await.succeeded();
    assert_eq!(exported.text().lines().count(), 2);
    let picked = run(&["resolve", "k", "--pick", "7"]).await;
    assert_eq!(picked.code, Some(2));
    run(&["resolve", "k", "--pick", "1"]).await.succeeded();
    let got = run(&["get", "k"]).await.succeeded().json();
    assert_eq!(got["value"], "green tea");
    run(&["put", "k", "another"]).await.succeeded();
    run(&["resolve", "k", "--value", "settled"]).await.succeeded();
    assert_eq!(run(&["get", "k"]).await.succeeded().json()["value"], "settled");
    let context = got["context"].as_str().unwrap();
    let bad = run(&["put", "other", "x", "--context", context]).await;
    assert_eq!((bad.code, bad.error()["code"].as_str()), (Some(2), Some("CONTEXT_INVALID")));
    let bad = run(&["put", "k", "x", "--context", "?"]).await;
    assert_eq!((bad.code, bad.error()["code"].as_str()), (Some(2), Some("USAGE")));
    run(&["resolve", "k", "--delete"]).await.succeeded();
    assert_eq!(run(&["get", "k"]).await.code, Some(3));
    assert_eq!(run(&["resolve", "k"]).await.code, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_gets_all_siblings_and_takes_their_place() {
    let cluster = Cluster::start().await;
    carts(&cluster).await;
    let [one, two, three] = [0, 1, 2].map(|node| cluster.client_of(node));
    one.put("cart", "tea").table("carts").await.unwrap();
    two.put("cart", "milk").table("carts").await.unwrap();
    let add = |values: &[bytes::Bytes]| -> Change {
        let mut all: Vec<String> =
            values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        all.push("bread".to_owned());
        all.sort();
        all.join(",").into()
    };
    let updated = three.update("cart").table("carts").run(add).await.unwrap();
    assert_eq!((updated.siblings, updated.value.unwrap()), (1, "bread,milk,tea".into()));
    // Of an absent key there are no values, and its first update is no conflict.
    let first = one.update("new").table("carts").run(add).await.unwrap();
    assert_eq!((first.siblings, first.value.unwrap()), (1, "bread".into()));
    // What is written between the reading and the writing of an update stays beside it.
    let (sender, seen) = std::sync::mpsc::channel();
    let racing = two.update("cart").table("carts").run(|values| {
        sender.send(values.len()).unwrap();
        let put = three.put("cart", "late").table("carts");
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async { put.await }).unwrap()
        });
        "all".into()
    });
    assert_eq!((racing.await.unwrap().siblings, seen.try_recv()), (2, Ok(1)));
    assert_eq!(values(&one, "cart").await.0, ["all", "late"]);
    two.update("cart").table("carts").run(|_| Change::Delete).await.unwrap();
    assert_eq!(values(&one, "cart").await.0, [""; 0]);
}

//! Counters over real processes: many writers, nodes that die, and `kvctl incr`.

use core::time::Duration;

use roundtable::client::{Applied, Client, ErrorKind, Quorum, TableKind};
use roundtable::load::counter::CounterHistory;
use roundtable::types::Key;

use crate::fixture::Cluster;
use crate::fixture::kvctl;

const TABLES: [(&str, TableKind); 2] =
    [("tallies", TableKind::Causal), ("meters", TableKind::Linearizable)];

/// Others keep changing the key.
const PATIENCE: Duration = Duration::from_secs(30);

async fn tables(cluster: &Cluster) {
    for (name, kind) in TABLES {
        cluster.client().tables().create(name).kind(kind).await.unwrap();
    }
}

async fn sum(client: &Client, table: &str, key: &str) -> i64 {
    let get = client.get(key.to_owned()).table(table).r(Quorum::All);
    let value = get.await.unwrap().value.unwrap_or_else(|| "0".into());
    String::from_utf8_lossy(&value).parse().unwrap()
}

#[tokio::test]
async fn increments_of_many_writers_all_count_once() {
    const WRITERS: usize = 6;
    const EACH: usize = 15;
    let cluster = Cluster::start().await;
    tables(&cluster).await;
    for (table, _) in TABLES {
        let writers = (0..WRITERS).map(|writer| {
            let client = cluster.client_of(writer % 3);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for number in 0..EACH {
                    let by = if number % 5 == 0 { -1 } else { 2 };
                    let increment = || client.increment("hits", by).table(table).timeout(PATIENCE);
                    // What is tried again counts once only in the other table.
                    let mut made = match table {
                        "tallies" => increment().once().await,
                        _ => increment().await,
                    };
                    while table == "meters"
                        && let Err(error) = &made
                    {
                        // Others came first, again and again: the same increment once more.
                        assert!(error.is_retryable(), "{error}");
                        made = increment().again(error.write().unwrap()).await;
                    }
                    seen.extend(made.unwrap().value);
                }
                seen
            })
        });
        let mut sums = Vec::new();
        for writer in writers.collect::<Vec<_>>() {
            sums.extend(writer.await.unwrap());
        }
        let expected = (WRITERS * EACH) as i64 / 5 * 7;
        for node in 0..3 {
            assert_eq!(sum(&cluster.client_of(node), table, "hits").await, expected, "{table}");
        }
        if table == "meters" {
            // Each was told what it had made of the key, unless its answer was lost.
            assert!(sums.len() > WRITERS * EACH / 2, "{sums:?}");
        }
    }
    let shown = cluster.client().get("hits").table("tallies").siblings().await.unwrap();
    assert!(shown.values.len() == 1 && shown.values[0].is_counter);
    // A page shows the sum, unless only keys are wanted.
    for keys_only in [false, true] {
        let scan = cluster.client().scan().table("tallies");
        let scan = if keys_only { scan.keys_only() } else { scan };
        let entries: Vec<_> = tokio_stream::StreamExt::collect(scan.entries()).await;
        let value = &entries[0].as_ref().unwrap().value;
        assert_eq!(*value, if keys_only { "".into() } else { shown.values[0].value.clone() });
    }
}

#[tokio::test]
async fn no_acknowledged_increment_is_lost_while_nodes_are_killed_and_started() {
    let mut cluster = Cluster::start().await;
    tables(&cluster).await;
    for (table, kind) in TABLES {
        let mut history = CounterHistory::new(kind == TableKind::Linearizable);
        let key = Key::new("hits").unwrap();
        for step in 0..120_usize {
            if step % 40 == 10 {
                cluster.nodes[step / 40].kill();
            }
            if step % 40 == 25 {
                cluster.nodes[step / 40].start();
                cluster.ready().await;
            }
            let client = cluster.client();
            if step % 4 == 0 {
                let op = history.invoke(key.clone(), None);
                let read = client.get("hits").table(table).await;
                if let Ok(read) = read {
                    let text = read.value.unwrap_or_else(|| "0".into());
                    history.read(op, String::from_utf8_lossy(&text).parse().unwrap());
                }
                continue;
            }
            let by = if kind == TableKind::Linearizable { 1 } else { step as i64 % 7 - 2 };
            let op = history.invoke(key.clone(), Some(by));
            history.tried(op);
            match client.increment("hits", by).table(table).once().await {
                Ok(made) => history.made(op, made.value, false),
                Err(error) if error.applied() == Applied::No => history.failed(op),
                Err(_) => {}
            }
        }
        cluster.all_alive().await;
        for node in 0..3 {
            let op = history.invoke(key.clone(), None);
            let found = sum(&cluster.client_of(node), table, "hits").await;
            history.read(op, found);
        }
        let faults = history.judge();
        assert!(faults.is_empty(), "{table}: {faults:#?}");
        assert!(history.acknowledged() > 60, "{table}: {}", history.acknowledged());
    }
}

#[tokio::test]
async fn what_cannot_be_added_to_says_why_and_does_not_change() {
    let cluster = Cluster::start().await;
    tables(&cluster).await;
    let client = cluster.client();
    for (table, _) in TABLES {
        client.put("text", "a").table(table).await.unwrap();
        let error = client.increment("text", 1).table(table).await.unwrap_err();
        let said = (error.code(), error.applied(), error.kind());
        assert_eq!(said, ("COUNTER_MISMATCH", Applied::No, ErrorKind::Conflict), "{table}");
        client.increment("full", i64::MIN).table(table).await.unwrap();
        let error = client.increment("full", -1).table(table).await.unwrap_err();
        let said = (error.code(), error.applied(), error.kind());
        assert_eq!(said, ("COUNTER_OVERFLOW", Applied::No, ErrorKind::InvalidArgument), "{table}");
        assert_eq!(sum(&client, table, "full").await, i64::MIN);
        client.delete("full").table(table).await.unwrap();
        assert_eq!(client.increment("full", 3).table(table).await.unwrap().value, Some(3));
    }
    let error = client.put("full", "x").table("tallies").await.unwrap_err();
    assert_eq!((error.code(), error.applied()), ("COUNTER_MISMATCH", Applied::No));
    let error = client.increment("k", 1).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), ("KIND_MISMATCH", Applied::No));
}

#[tokio::test]
async fn kvctl_adds_and_shows_the_sum() {
    let cluster = Cluster::start().await;
    tables(&cluster).await;
    let endpoints = cluster.endpoints().join(",");
    for (table, _) in TABLES {
        let run = async |args: &[&str]| {
            let all = [&["-e", &endpoints, "-t", table][..], args].concat();
            kvctl::run(&all, b"").await
        };
        assert_eq!(run(&["incr", "k"]).await.succeeded().text(), "1\n");
        assert_eq!(run(&["incr", "k", "41"]).await.succeeded().text(), "42\n");
        assert_eq!(run(&["incr", "k", "--by=-50"]).await.succeeded().text(), "-8\n");
        assert_eq!(run(&["incr", "--once", "k", "--", "-2"]).await.succeeded().text(), "-10\n");
        assert_eq!(run(&["get", "k"]).await.succeeded().text(), "-10");
        let made = run(&["-o", "json", "incr", "--key-b64", "aw==", "--by", "-5"]).await;
        let made = made.succeeded().json();
        assert_eq!((&made["key"], &made["sum"]), (&"k".into(), &(-15).into()));
        assert!(made["receipt"]["n"].is_u64(), "{made}");
        let read = run(&["-o", "json", "get", "k", "-r", "all"]).await.succeeded().json();
        assert_eq!(read["value"], "-15");
        run(&["put", "text", "x"]).await.succeeded();
        let refused = run(&["-o", "json", "incr", "text"]).await;
        let code = refused.error()["code"].clone();
        assert_eq!((refused.code, code.as_str()), (Some(6), Some("COUNTER_MISMATCH")));
        for usage in [&["incr"][..], &["incr", "k", "x"], &["incr", "k", "1", "--by=2"]] {
            assert_eq!(run(usage).await.code, Some(2), "{usage:?}");
        }
        if table == "tallies" {
            let all = run(&["-o", "json", "get", "k", "--siblings"]).await.succeeded().json();
            assert_eq!(all["siblings"][0]["counter"], true);
            assert_eq!(run(&["scan", "--prefix", "k"]).await.succeeded().text(), "k\t-15\n");
        }
    }
    let other = kvctl::run(&["-e", &endpoints, "-o", "json", "incr", "k"], b"").await;
    let code = other.error()["code"].clone();
    assert_eq!((other.code, code.as_str()), (Some(2), Some("KIND_MISMATCH")));
}

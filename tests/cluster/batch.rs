//! Atomic batches over real processes: nodes that are killed in the middle of them, and `kvctl batch`.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use roundtable::client::{Applied, Client, ErrorKind, Quorum, TableKind};
use roundtable::types::Stamp;

use crate::fixture::{Cluster, clock, kvctl};

/// Writers that each write keys of their own, all of one partition, in one batch after the other.
const WRITERS: u64 = 3;
const KEYS: usize = 8;

fn key(writer: u64, at: usize) -> String {
    format!("{{writer:{writer}}}{at}")
}

/// Writes batch after batch until it is told to stop: the number of the last one that was acknowledged.
async fn write(kv: Client, writer: u64, (done, stop): (Arc<AtomicU64>, Arc<AtomicBool>)) -> u64 {
    let mut last = 0;
    for number in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Larger than what a disk writes at once.
        let value = format!("{number}:{}", "x".repeat(2000));
        let all = (0..KEYS).map(|at| kv.put(key(writer, at), value.clone()));
        let batch = all.fold(kv.batch().atomic(), |batch, put| batch.with(put));
        let outcomes = batch.timeout(Duration::from_secs(2)).await;
        let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert!(made == 0 || made == KEYS, "one outcome for all: {outcomes:?}");
        if made > 0 {
            last = number;
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    last
}

/// The number of the batch that all keys of a writer show, with the stamp.
async fn shown(kv: &Client, writer: u64) -> (u64, Stamp) {
    let mut seen = Vec::new();
    for at in 0..KEYS {
        let reply = kv.get(key(writer, at)).r(Quorum::All).await.unwrap();
        let value = reply.value.expect("some batch was acknowledged");
        let text = String::from_utf8_lossy(&value).into_owned();
        let number = text.split(':').next().unwrap().parse().unwrap();
        seen.push((number, reply.receipt.stamp));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "a part of a batch: {seen:?}");
    seen[0]
}

#[tokio::test]
async fn a_batch_is_there_whole_or_not_at_all_whoever_is_killed_in_the_middle() {
    let mut cluster = Cluster::start().await;
    let (done, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let kv = cluster.client();
            tokio::spawn(write(kv, writer, (done.clone(), stop.clone())))
        })
        .collect();
    let advances = async |by: u64| {
        let goal = done.load(Ordering::Relaxed) + by;
        let ahead = async || (done.load(Ordering::Relaxed) >= goal).then_some(());
        clock::until("batches are acknowledged", Duration::from_secs(60), ahead).await;
    };
    advances(30).await;
    for victim in [1, 0, 2] {
        cluster.nodes[victim].kill();
        advances(30).await;
        cluster.nodes[victim].start();
        cluster.nodes[victim].ready().await;
        cluster.all_alive().await;
    }
    // All at once, in the middle of whatever they are at.
    for node in &mut cluster.nodes {
        node.kill();
    }
    stop.store(true, Ordering::Relaxed);
    let mut last = Vec::new();
    for writer in writers {
        last.push(writer.await.unwrap());
    }
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.ready().await;
    cluster.all_alive().await;
    for (writer, last) in (0..WRITERS).zip(last) {
        let of_each = [0, 1, 2].map(|node| cluster.client_of(node));
        let mut seen = Vec::new();
        for kv in &of_each {
            seen.push(shown(kv, writer).await);
        }
        assert!(seen[0].0 >= last, "batch {last} was acknowledged, {} is there", seen[0].0);
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    }
}

#[tokio::test]
async fn a_batch_is_refused_as_a_whole_or_made_and_told_item_by_item() {
    let cluster = Cluster::start().await;
    let kv = cluster.client();
    kv.tables().create("carts").kind(TableKind::Causal).await.unwrap();
    kv.put("{t}old", "1").await.unwrap();
    let batch = kv.batch().atomic().with(kv.put("{t}a", "1")).with(kv.delete("{t}old"));
    // Of another partition, most likely, and of a table that has none.
    let batch = batch.with(kv.put("{u}a", "2")).with(kv.put("{t}a", "1").table("carts"));
    let outcomes = batch.await;
    assert!(outcomes[..3].iter().all(Result::is_ok), "{outcomes:?}");
    let error = outcomes[3].as_ref().unwrap_err();
    assert_eq!((error.code(), error.applied()), ("KIND_MISMATCH", Applied::No));
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(kv.get("{t}old").await.unwrap().value, None);

    // The table allows less than all: the server refuses the group, and nothing of it is there.
    kv.tables().create("small").value_bytes_max(1000).await.unwrap();
    let large = kv.put("{t}b", "x".repeat(2000)).table("small");
    let outcomes = kv.batch().atomic().with(kv.put("{t}a", "1").table("small")).with(large).await;
    assert!(
        outcomes.iter().all(|outcome| {
            outcome.as_ref().is_err_and(|error| error.code() == "VALUE_TOO_LARGE")
        })
    );
    assert_eq!(kv.get("{t}a").table("small").await.unwrap().value, None);
}

#[tokio::test]
async fn kvctl_makes_all_lines_one_batch() {
    let cluster = Cluster::start().await;
    let lines = "{\"op\":\"put\",\"key\":\"{o:7}\",\"value\":\"paid\"}\n\
                 {\"op\":\"put\",\"key\":\"{o:7}/cart\",\"value\":\"3\"}\n";
    let endpoints = cluster.endpoints().join(",");
    let args = ["-e", &endpoints, "batch", "--atomic", "-o", "json"];
    let made = kvctl::run(&args, lines.as_bytes()).await.succeeded().json();
    assert_eq!(made[0]["stamp"], made[1]["stamp"]);
    assert_eq!(cluster.client().get("{o:7}/cart").await.unwrap().value.unwrap(), "3");
}

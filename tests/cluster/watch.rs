//! Watches over real nodes: what is acknowledged is told, though owners and coordinators are killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use roundtable::client::{Client, KeyChange, Stamp, WatchEvent};
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::StreamExt;

use crate::fixture::{Cluster, clock, http};

/// The highest stamp of each key.
type Stamps = BTreeMap<Bytes, Stamp>;

fn note(stamps: &mut Stamps, key: Bytes, stamp: Stamp) {
    let known = stamps.entry(key).or_insert(stamp);
    *known = stamp.max(*known);
}

/// Writers that note what was acknowledged.
struct Writers {
    acknowledged: Arc<Mutex<(Stamps, u64)>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Writers {
    fn start(client: &Client) -> Writers {
        let (acknowledged, stop) = (Arc::<Mutex<(Stamps, u64)>>::default(), Arc::default());
        let mut tasks = JoinSet::new();
        for writer in 0..4u64 {
            let (client, books) = (client.clone(), acknowledged.clone());
            let stop: Arc<AtomicBool> = Arc::clone(&stop);
            tasks.spawn(async move {
                let mut rng = fastrand::Rng::with_seed(writer);
                while !stop.load(Ordering::Relaxed) {
                    let key = Bytes::from(format!("k{:03}", rng.u32(..200)));
                    let put = client.put(key.clone(), rng.u64(..).to_string());
                    if let Ok(receipt) = put.await {
                        let mut books = books.lock();
                        note(&mut books.0, key, receipt.stamp);
                        books.1 += 1;
                    }
                }
            });
        }
        Writers { acknowledged, stop, tasks }
    }

    async fn advance(&self, count: u64) {
        let goal = self.acknowledged.lock().1 + count;
        clock::until("writes are acknowledged", Duration::from_secs(30), async || {
            (self.acknowledged.lock().1 >= goal).then_some(())
        })
        .await;
    }

    /// What has been acknowledged so far.
    fn so_far(&self) -> Stamps {
        self.acknowledged.lock().0.clone()
    }

    async fn end(mut self) -> Stamps {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        let books = self.acknowledged.lock();
        books.0.clone()
    }
}

/// What a watch has told.
#[derive(Default)]
struct Told {
    stamps: Stamps,
    began: u32,
    gaps: u32,
    token: Bytes,
    failed: Option<String>,
}

/// Reads a watch until it is dropped.
struct Reader {
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

impl Reader {
    fn start(client: &Client, token: Bytes) -> Reader {
        let told = Arc::<Mutex<Told>>::default();
        let (books, request) = (told.clone(), client.watch().prefix("k").from_token(token));
        let task = tokio::spawn(async move {
            let mut batches = request.batches();
            while let Some(batch) = batches.next().await {
                let mut told = books.lock();
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(error) => {
                        told.failed = Some(error.to_string());
                        return;
                    }
                };
                told.token = batch.token;
                for event in batch.events {
                    match event {
                        WatchEvent::Began => told.began += 1,
                        WatchEvent::Change(KeyChange { key, stamp, .. }) => {
                            note(&mut told.stamps, key, stamp);
                        }
                        WatchEvent::Gap(_) => told.gaps += 1,
                        _ => {}
                    }
                }
            }
        });
        Reader { told, task }
    }

    async fn began(&self) {
        clock::until("the watch begins", Duration::from_secs(15), async || {
            (self.told.lock().began > 0).then_some(())
        })
        .await;
    }

    /// Waits until all of these, or newer versions, have been told; or a gap.
    async fn tells(&self, expected: &Stamps) {
        let holds = |told: &Told| {
            let is_told = |(key, stamp): (&Bytes, &Stamp)| told.stamps.get(key) >= Some(stamp);
            assert_eq!(told.failed, None);
            expected.iter().all(is_told)
        };
        clock::until("all is told, or a gap", Duration::from_secs(30), async || {
            let told = self.told.lock();
            (told.gaps > 0 || holds(&told)).then_some(())
        })
        .await;
    }

    /// How often it has begun, and gaps.
    fn counts(&self) -> (u32, u32) {
        let told = self.told.lock();
        (told.began, told.gaps)
    }

    fn end(self) -> Told {
        self.task.abort();
        core::mem::take(&mut *self.told.lock())
    }
}

/// The node that a client's watch is at.
async fn coordinator(cluster: &Cluster) -> usize {
    clock::until("a node says that it has the watch", Duration::from_secs(10), async || {
        for (number, node) in cluster.nodes.iter().enumerate() {
            let Some(page) = http::get(node.http, "/metrics").await else { continue };
            let mut lines = page.body.lines().filter(|line| line.starts_with("kv_watches"));
            let value = lines.find_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            if value.is_some_and(|value| value > 0.0) {
                return Some(number);
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn acknowledged_writes_are_told_though_the_coordinator_and_an_owner_are_killed() {
    let mut cluster = Cluster::start().await;
    let reader = Reader::start(&cluster.client(), Bytes::new());
    reader.began().await;
    let writers = Writers::start(&cluster.client());
    writers.advance(300).await;

    // The watch goes on at another node by itself, and two owners are enough.
    let first = coordinator(&cluster).await;
    cluster.nodes[first].kill();
    writers.advance(300).await;
    reader.tells(&writers.so_far()).await;
    assert_eq!(reader.counts(), (1, 0), "one owner of three is away");
    cluster.nodes[first].start();
    cluster.nodes[first].ready().await;
    cluster.all_alive().await;
    writers.advance(300).await;
    reader.tells(&writers.so_far()).await;
    assert_eq!(reader.counts(), (1, 0), "it has restarted");

    // Another owner, while the first has not settled: told, or a gap.
    let second = (0..3).find(|node| *node != first).unwrap();
    cluster.nodes[second].kill();
    cluster.nodes[second].start();
    cluster.nodes[second].ready().await;
    writers.advance(300).await;
    reader.tells(&writers.so_far()).await;
    let before = reader.end();

    // What is written while nobody watches is told by the token, at another node.
    writers.advance(300).await;
    let reader = Reader::start(&cluster.client_of(first), before.token);
    let mut all = writers.end().await;
    all.retain(|key, stamp| before.stamps.get(key) < Some(stamp));
    assert!(!all.is_empty());
    reader.tells(&all).await;
    assert_eq!(reader.end().began, 0, "it goes on");
}

#[tokio::test]
async fn deletes_values_and_siblings_are_told_as_such() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let mut events = client.watch().values().events();
    assert_eq!(events.next().await.unwrap().unwrap(), WatchEvent::Began);
    let put = client.put("a", "one").await.unwrap();
    let WatchEvent::Change(change) = events.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!((&change.key[..], change.stamp), (&b"a"[..], put.stamp));
    assert_eq!((change.value.as_deref(), change.deleted), (Some(&b"one"[..]), false));
    let delete = client.delete("a").await.unwrap();
    let WatchEvent::Change(change) = events.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!((change.stamp, change.deleted, change.value), (delete.stamp, true, None));
    drop(events);

    let made = cluster.kvctl(&["table", "create", "carts", "--kind", "causal"]).await;
    made.succeeded();
    let mut events = client.watch().table("carts").events();
    assert_eq!(events.next().await.unwrap().unwrap(), WatchEvent::Began);
    client.put("cart", "x").table("carts").await.unwrap();
    client.put("cart", "y").table("carts").await.unwrap();
    loop {
        let WatchEvent::Change(change) = events.next().await.unwrap().unwrap() else { panic!() };
        assert_eq!(&change.key[..], b"cart");
        if change.siblings == 2 {
            break;
        }
    }
    let made = cluster.kvctl(&["table", "create", "locks", "--kind", "linearizable"]).await;
    made.succeeded();
    let refused = client.watch().table("locks").events().next().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), "NOT_AVAILABLE_YET");
    let foreign = client.watch().from_token("nonsense").events().next().await.unwrap();
    assert_eq!(foreign.unwrap_err().code(), "REQUEST_MALFORMED");
}

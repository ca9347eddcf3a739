//! Data that lies there: so that a change of members has something to move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use roundtable::client::Client;
use tokio::task::JoinSet;

use crate::fixture::{Cluster, clock};

/// Puts on their way at a time.
const WORKERS: u64 = 128;
/// How often a put may be refused, or time out, before that is an error.
const ATTEMPTS: usize = 100;
/// How long a cluster may take to come to rest.
const REST: Duration = Duration::from_secs(60);

/// So many records of so many bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    pub(crate) records: u64,
    pub(crate) value_bytes: usize,
}

impl Fill {
    /// Bytes of keys and values, of one copy.
    pub(crate) fn bytes(&self) -> u64 {
        self.records * (self.value_bytes + key(0).len()) as u64
    }

    pub(crate) fn mib(&self) -> u64 {
        self.bytes() >> 20
    }

    /// Writes them all, and waits until the nodes have nothing more to do about it.
    pub(crate) async fn write(self, cluster: &Cluster) {
        let bytes = self.value_bytes;
        self.each(&cluster.client(), 1, async move |client, number| {
            let value = value(number, bytes);
            for _ in 0..ATTEMPTS {
                if client.put(key(number), value.clone()).await.is_ok() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("record {number} cannot be written");
        })
        .await;
        at_rest(cluster).await;
    }

    /// How many of every `step`-th record are not as they were written, and how many were read.
    pub(crate) async fn missing(self, client: &Client, step: u64) -> (u64, u64) {
        let bytes = self.value_bytes;
        let missing = self
            .each(client, step, async move |client, number| {
                let reply = client.get(key(number)).await.expect("all owners are there");
                reply.value.is_some_and(|found| found == value(number, bytes))
            })
            .await;
        (missing, self.records.div_ceil(step))
    }

    /// Does something to every `step`-th record; how many times it said no.
    async fn each<F>(self, client: &Client, step: u64, what: F) -> u64
    where
        F: AsyncFn(Client, u64) -> bool + Clone + 'static,
    {
        let (next, noes) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let local = tokio::task::LocalSet::new();
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let (client, what) = (client.clone(), what.clone());
            let (next, noes) = (next.clone(), noes.clone());
            workers.spawn_local_on(
                async move {
                    loop {
                        let number = next.fetch_add(step, Ordering::Relaxed);
                        if number >= self.records {
                            return;
                        }
                        if !what(client.clone(), number).await {
                            noes.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                },
                &local,
            );
        }
        let all = async {
            while let Some(done) = workers.join_next().await {
                done.expect("a worker runs to its end");
            }
        };
        local.run_until(all).await;
        noes.load(Ordering::Relaxed)
    }
}

fn key(number: u64) -> String {
    format!("fill-{number:012}")
}

/// Bytes that cannot be compressed, and that follow from the number.
fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = vec![0; bytes];
    fastrand::Rng::with_seed(number).fill(&mut value);
    value
}

/// Waits until no node uses the processor any more: what was written is flushed and merged.
pub(crate) async fn at_rest(cluster: &Cluster) {
    let deadline = clock::now() + REST;
    let mut before = ticks(cluster);
    while clock::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = ticks(cluster);
        // Probes cost some; a flush or merge takes a core.
        if now.saturating_sub(before) <= 10 * cluster.nodes.len() as u64 {
            return;
        }
        before = now;
    }
}

/// Processor time of all nodes that run, in hundredths of a second.
pub(crate) fn ticks(cluster: &Cluster) -> u64 {
    let running = cluster.nodes.iter().filter(|node| node.runs());
    let of = |node: &crate::fixture::node::Node| {
        let pid = node.pid().as_raw_nonzero().get().unsigned_abs();
        let used = roundtable::load::process::cpu(pid).unwrap_or_default();
        u64::try_from(used.as_millis() / 10).unwrap_or(u64::MAX)
    };
    running.map(of).sum()
}

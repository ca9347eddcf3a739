//! What a reserved member saves by what it mirrors: it takes the place of another once with copies that it has
//! kept warm, and once with nothing, and the bytes that others give it meanwhile are counted.

use core::fmt;
use std::time::{Duration, Instant};

use roundtable::types::NodeName;

use crate::Options;
use crate::change::carry_out;
use crate::fill::{self, Fill};
use crate::fixture::{self, Cluster, clock, http};

/// How long a reserved member may take to mirror everything.
const MIRRORED_WITHIN: Duration = Duration::from_secs(300);

/// One replacement.
struct Moved {
    bytes: u64,
    took: Duration,
    missing: (u64, u64),
}

/// What both were like.
pub(crate) struct Warm {
    fill: Fill,
    warm: Moved,
    cold: Moved,
}

pub(crate) async fn run(options: &Options) -> Warm {
    let fill =
        Fill { records: if options.quick { 64 << 10 } else { 512 << 10 }, value_bytes: 1007 };
    Warm { fill, warm: replace(fill, true).await, cold: replace(fill, false).await }
}

async fn replace(fill: Fill, mirrors: bool) -> Moved {
    let plan = fixture::Plan::new().and_reserved(1).with("transfer.rate", "0");
    let plan = plan.with("cluster.partitions", 256).with("orchestrator.mirror", mirrors);
    let cluster = plan.with("orchestrator.mirror_every", "2s").start().await;
    fill.write(&cluster).await;
    if mirrors {
        let since = clock::now();
        clock::until("all is mirrored", MIRRORED_WITHIN, async || mirrored(&cluster, since).await)
            .await;
    }
    let client = cluster.client_of(0);
    let [old, new]: [NodeName; 2] = ["n3", "n4"].map(|name| name.parse().expect("a short name"));
    client.plans().stage_replace(old, new).await.expect("both are members");
    fill::at_rest(&cluster).await;
    let (before, begin) = (taken(&cluster).await, clock::now());
    carry_out(&client).await;
    let took = begin.elapsed();
    let bytes = taken(&cluster).await - before;
    Moved { bytes, took, missing: fill.missing(&cluster.client(), 20).await }
}

/// Whether all that n4 is to mirror was equal to an owner since.
async fn mirrored(cluster: &Cluster, since: Instant) -> Option<()> {
    let status = cluster.client_of(0).status().await.ok()?;
    let mirror = status.nodes.iter().find(|node| node.name == "n4")?.mirror?;
    (mirror.units > 0 && mirror.units == mirror.wanted && mirror.oldest < since.elapsed())
        .then_some(())
}

/// Bytes that n4 has been given, once that does not change any more.
async fn taken(cluster: &Cluster) -> u64 {
    // It is told every two seconds.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let page = http::get(cluster.nodes[3].http, "/metrics").await.expect("it answers");
    let mut lines = page.body.lines();
    let line = lines.find(|it| it.starts_with("kv_transfer_taken_bytes_total"));
    let told = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    told.expect("it is there")
}

impl fmt::Display for Warm {
    #[allow(clippy::cast_precision_loss, reason = "shares, not accounts")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (warm, cold) = (&self.warm, &self.cold);
        write!(
            f,
            "replace-warm {} MiB of {} records, taken over by a reserved member that has mirrored them: {:.2} MiB, \
             {:.2} s; by one that has not: {:.1} MiB, {:.2} s\n       missing: {} and {} of {} records",
            self.fill.mib(),
            self.fill.records,
            mib(warm.bytes),
            warm.took.as_secs_f64(),
            mib(cold.bytes),
            cold.took.as_secs_f64(),
            warm.missing.0,
            cold.missing.0,
            warm.missing.1,
        )
    }
}

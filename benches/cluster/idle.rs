//! What is paid for what nobody asks for: the put cost of watches that have nothing to tell, beside none, and of
//! the counting of hot keys.
//!
//! Watches are measured at three servers, in turn with and without them, so that both see the same machine. The
//! counting has no switch: the CPU time of the very calls that a put makes is measured here, in this process, and
//! stands beside what the same put costs all three servers.

use core::fmt;
use std::time::Duration;

use roundtable::client::{Client, Lane};
use roundtable::load::generator::{self, Pace, Plan};
use roundtable::load::keys::{Distribution, Keys};
use roundtable::load::mix::Mix;
use roundtable::load::process;
use roundtable::node::Hot;
use roundtable::types::{ClassId, TableId, Time, Unit};
use tokio_stream::StreamExt;

use crate::fleet::{Fleet, System};
use crate::table::{float, heading};

/// Keys, with YCSB's skew: 16 bytes each.
const KEYS: u64 = 20_000;
const SKEW: f64 = 0.99;
/// Clients at once.
const CLIENTS: u32 = 64;
/// Watches at once.
const WATCHES: [usize; 3] = [0, 1, 8];
/// Runs of each number of watches, of which the median counts.
const RUNS: usize = 5;
/// Units of a class, as by default.
const PARTITIONS: u32 = 256;
/// Requests that are counted.
const COUNTED: u64 = 2_000_000;

/// What puts cost all three servers.
struct Row {
    watches: usize,
    server_us: f64,
    rate: f64,
}

/// What all of it came to.
pub(crate) struct Idle {
    head: String,
    rows: Vec<Row>,
    /// Nanoseconds of CPU that the counting of a put takes at its coordinator, by how keys are drawn.
    counting: Vec<(&'static str, f64)>,
}

/// Measures.
pub(crate) async fn run(quick: bool) -> Idle {
    let length = Duration::from_millis(if quick { 700 } else { 3000 });
    let fleet = Fleet::start(System::Interval).await;
    let client = fleet.client(Lane::Session);
    measure(&fleet, &client, length / 4).await;
    let mut runs: Vec<Vec<(f64, f64)>> = WATCHES.iter().map(|_| Vec::new()).collect();
    for _ in 0..if quick { 1 } else { RUNS } {
        for (watches, runs) in WATCHES.into_iter().zip(&mut runs) {
            let watching = watch(&client, watches).await;
            runs.push(measure(&fleet, &client, length).await);
            drop(watching);
        }
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let row = |(watches, runs): (usize, Vec<(f64, f64)>)| Row {
        watches,
        server_us: median(runs.iter().map(|run| run.0).collect()),
        rate: median(runs.iter().map(|run| run.1).collect()),
    };
    let rows = WATCHES.into_iter().zip(runs).map(row).collect();
    let skewed = Distribution::Zipfian { theta: SKEW };
    let counting =
        vec![("uniform", counted(Distribution::Uniform)), ("zipfian 0.99", counted(skewed))];
    Idle { head: heading(quick, length, "zipfian 0.99"), rows, counting }
}

/// Watches of a prefix under which nothing is written, once they have begun. They end when they are dropped.
async fn watch(client: &Client, count: usize) -> tokio::task::JoinSet<()> {
    let mut watching = tokio::task::JoinSet::new();
    for _ in 0..count {
        let mut events = Box::pin(client.watch().prefix("nobody:").events());
        let began = events.next().await.expect("a watch begins");
        began.expect("a healthy cluster is watched");
        watching.spawn(async move { while events.next().await.is_some() {} });
    }
    watching
}

fn keys(distribution: Distribution) -> Keys {
    Keys::new("key-", KEYS, distribution).expect("a fair skew")
}

/// Microseconds of CPU that a put costs the servers, and puts a second.
async fn measure(fleet: &Fleet, client: &Client, length: Duration) -> (f64, f64) {
    let plan = Plan {
        mix: Mix { put: 1, ..Mix::NONE },
        workers: CLIENTS,
        duration: length,
        pace: Pace::Closed,
        ..Plan::new(keys(Distribution::Zipfian { theta: SKEW }))
    };
    let cpu = fleet.cpu();
    let report = generator::run(client, &plan).await;
    let cpu = fleet.cpu() - cpu;
    let operations: u64 = report.outcomes.values().map(|outcomes| outcomes.succeeded()).sum();
    (cpu * 1e6 / float(operations.max(1)), report.throughput())
}

/// Nanoseconds of CPU that the counting of one put takes.
fn counted(distribution: Distribution) -> f64 {
    let keys = keys(distribution);
    let mut rng = fastrand::Rng::with_seed(7);
    // Drawn before: only what a node does is measured.
    let drawn: Vec<_> = (0..100_000).map(|_| keys.key(keys.draw_of(KEYS, &mut rng))).collect();
    let mut hot = Hot::new(Time(0));
    let own = || process::own_cpu().unwrap_or_default().as_secs_f64();
    let before = own();
    for (number, key) in (0..COUNTED).zip(drawn.iter().cycle()) {
        // 100,000 puts a second.
        let now = Time(number * 10_000);
        let token = roundtable::ring::token(key.as_bytes());
        let partition = roundtable::ring::partition_of(token, PARTITIONS);
        let unit = Unit { class: ClassId(0), partition };
        hot.count(now, unit, (TableId(1), key), (true, 116));
    }
    let spent = own() - before;
    assert!(hot.hottest_share(Time(COUNTED * 10_000)) > 0.0, "it was counted");
    spent * 1e9 / float(COUNTED)
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.head)?;
        write!(f, "idle watches |  put server us/op    put/s")?;
        for Row { watches, server_us, rate } in &self.rows {
            write!(f, "\n{watches:>12} | {server_us:>17.2} {rate:>8.0}")?;
        }
        write!(f, "\n\ncounting of hot keys, a put |  CPU ns")?;
        for (drawn, ns) in &self.counting {
            write!(f, "\n{drawn:<27} | {ns:>7.1}")?;
        }
        Ok(())
    }
}

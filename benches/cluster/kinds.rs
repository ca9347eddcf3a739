//! What the kinds of table cost beside each other: the same requests on `lww`, `causal` and
//! `linearizable` tables of one cluster that syncs before it acknowledges. First as fast as 64
//! clients can, for the cost of an operation; then at half that rate in an open loop, for what users
//! feel. Messages between nodes show the round trips: with three nodes, one that asks both others and
//! hears from both is four.

use core::fmt;
use std::time::Duration;

use roundtable::client::{Client, Lane, TableKind};
use roundtable::load::generator::{self, Pace, Plan, Report};
use roundtable::load::keys::{Distribution, Keys};
use roundtable::load::latency::Latency;
use roundtable::load::mix::Mix;
use roundtable::load::schedule::Spacing;

use crate::fleet::{Fleet, System};
use crate::table::{float, heading};

/// Keys: many, so that puts without a context seldom meet in a causal table.
const KEYS: u64 = 50_000;
/// Clients at once.
const CLIENTS: u32 = 64;
/// Runs of each row, of which the median counts.
const RUNS: usize = 3;

const KINDS: [(&str, TableKind); 3] = [
    ("lww", TableKind::Lww),
    ("causal", TableKind::Causal),
    ("linearizable", TableKind::Linearizable),
];

/// The requests of one row.
#[derive(Clone, Copy)]
struct Row {
    table: &'static str,
    operation: &'static str,
    mix: Mix,
    skewed: bool,
}

/// What a row came to.
#[derive(Clone, Copy)]
struct Measured {
    peak: f64,
    server_us: f64,
    messages: f64,
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    failed: u64,
}

/// All rows of one run.
pub(crate) struct Kinds {
    head: String,
    rows: Vec<(Row, Measured)>,
}

fn rows() -> Vec<Row> {
    let put = Mix { put: 1, ..Mix::NONE };
    let row = |table, operation, mix, skewed| Row { table, operation, mix, skewed };
    let mut rows = Vec::new();
    for (table, _) in KINDS {
        // Before the puts: these are blind, and leave keys of causal tables with several values.
        rows.push(row(table, "get", Mix::YCSB_C, false));
        rows.push(row(table, "put", put, false));
    }
    // Here requests for one key wait for each other.
    for (table, kind) in KINDS {
        if kind != TableKind::Causal {
            rows.push(row(table, "mix A, zipfian 0.99", Mix::YCSB_A, true));
        }
    }
    rows
}

/// Measures all rows.
pub(crate) async fn run(quick: bool) -> Kinds {
    let length = Duration::from_millis(if quick { 700 } else { 3000 });
    let fleet = Fleet::start(System::Always).await;
    let client = fleet.client(Lane::Session);
    for (table, kind) in KINDS {
        client.tables().create(table).kind(kind).await.expect("a healthy cluster makes tables");
        fill(&client, table).await;
    }
    let mut kinds = Kinds { head: heading(quick, length, "uniform unless said"), rows: Vec::new() };
    for row in rows() {
        let mut runs = Vec::new();
        for _ in 0..if quick { 1 } else { RUNS } {
            runs.push(measure(&fleet, &client, row, length).await);
        }
        let median = |value: fn(&Measured) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let measured = Measured {
            peak: median(|run| run.peak),
            server_us: median(|run| run.server_us),
            messages: median(|run| run.messages),
            rate: median(|run| run.rate),
            p50_ms: median(|run| run.p50_ms),
            p99_ms: median(|run| run.p99_ms),
            p999_ms: median(|run| run.p999_ms),
            failed: runs.iter().map(|run| run.failed).sum(),
        };
        kinds.rows.push((row, measured));
        eprintln!("{} {} is done", row.table, row.operation);
    }
    kinds
}

fn keys(skewed: bool) -> Keys {
    let distribution =
        if skewed { Distribution::Zipfian { theta: 0.99 } } else { Distribution::Uniform };
    Keys::new("key-", KEYS, distribution).expect("a fair skew")
}

/// Writes every key once.
async fn fill(client: &Client, table: &'static str) {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..64 {
        let client = client.clone();
        tasks.spawn(async move {
            let keys = keys(false);
            for index in (lane..KEYS).step_by(64) {
                let put = client.put(keys.key(index).bytes().clone(), vec![b'v'; 100]);
                put.table(table).await.expect("a healthy cluster takes writes");
            }
        });
    }
    tasks.join_all().await;
}

async fn measure(fleet: &Fleet, client: &Client, row: Row, length: Duration) -> Measured {
    let plan = |duration, pace| Plan {
        mix: row.mix,
        workers: CLIENTS,
        duration,
        pace,
        table: row.table.to_owned(),
        ..Plan::new(keys(row.skewed))
    };
    generator::run(client, &plan(length / 8, Pace::Closed)).await;
    let (cpu, messages) = (fleet.cpu(), fleet.peer_messages());
    let fast = generator::run(client, &plan(length, Pace::Closed)).await;
    let (cpu, messages) = (fleet.cpu() - cpu, fleet.peer_messages() - messages);
    let peak = fast.throughput();
    let open = Pace::Open { rate: peak / 2.0, spacing: Spacing::Poisson };
    let half = Plan { workers: 8 * CLIENTS, ..plan(length, open) };
    let half = generator::run(client, &half).await;
    let [(fast, failed), (latency, late)] = [&fast, &half].map(summed);
    let operations = float(fast.count().max(1));
    let ms = |quantile| latency.quantile(quantile).as_secs_f64() * 1e3;
    Measured {
        peak,
        server_us: cpu * 1e6 / operations,
        messages: messages / operations,
        rate: half.throughput(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        failed: failed + late,
    }
}

/// Latencies of all kinds of operation, and how many failed.
fn summed(report: &Report) -> (Latency, u64) {
    let (mut latency, mut failed) = (Latency::default(), 0);
    for outcomes in report.outcomes.values() {
        latency.merge(&outcomes.latency);
        failed += outcomes.failed();
    }
    (latency, failed)
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.head)?;
        write!(
            f,
            "table         operation           |  peak op/s  server us/op  messages/op | at op/s |  p50 ms  p99 ms  p99.9 ms | failed"
        )?;
        for (row, m) in &self.rows {
            let (table, operation) = (row.table, row.operation);
            write!(
                f,
                "\n{table:<13} {operation:<19} | {:>10.0} {:>13.1} {:>12.1} | {:>7.0} | {:>7.3} {:>7.2} {:>9.2} | {}",
                m.peak, m.server_us, m.messages, m.rate, m.p50_ms, m.p99_ms, m.p999_ms, m.failed
            )?;
        }
        Ok(())
    }
}

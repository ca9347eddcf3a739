//! What an operation costs the servers: three `kvd` processes beside three processes that store
//! nothing, asked in turn by the same client in one run.
//!
//! `cargo bench --bench cluster` takes about four minutes; `-- --quick` half a minute; `-- --save`
//! writes the output to `docs/figures/` as well; `-- --only put` or another word keeps the rows
//! that contain it; `-- --hold SECONDS` makes each measurement that long and names the processes,
//! for a profiler; `-- --kinds` compares the kinds of table instead, in two minutes; `-- --idle` what puts pay for idle watches and for counting hot keys; `-- --scan` scans a million
//! pairs instead, as a stream and page by page. Ratios to the
//! echo are what counts: both are measured on the same machine in the same minute.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on panics, and it prints its table"
)]

mod echo;
mod fleet;
mod idle;
mod kinds;
#[path = "../../tests/cluster/fixture/place.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod place;
mod scan;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use roundtable::client::{Client, Lane};
use roundtable::load::generator::{self, Plan};
use roundtable::load::keys::{Distribution, Keys};
use roundtable::load::latency::Latency;
use roundtable::load::mix::{Kind, Mix};
use roundtable::load::process;

use fleet::{Fleet, System};
use table::{Measured, Row, Table};

/// Records that are there before the first measurement.
const RECORDS: u64 = 20_000;
/// YCSB's skew.
const SKEW: f64 = 0.99;

/// What the command line asks for.
struct Options {
    quick: bool,
    save: bool,
    check: bool,
    only: Option<String>,
    hold: Option<Duration>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, addresses)) = args.split_first()
        && first == "--echo-node"
    {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address"));
        let addresses: Vec<std::net::SocketAddr> = addresses.collect();
        if let [client, peer, others @ ..] = addresses.as_slice() {
            echo::run(*client, *peer, others);
        }
        return;
    }
    let has = |word: &str| args.iter().any(|arg| arg == word);
    let value = |word: &str| {
        let at = args.iter().position(|arg| arg == word)?;
        args.get(at + 1).cloned()
    };
    let hold = value("--hold").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let options = Options {
        quick: has("--quick"),
        save: has("--save"),
        check: has("--check"),
        only: value("--only"),
        hold,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    if has("--scan") {
        println!("{}", runtime.block_on(scan::run(options.quick, options.hold)));
        return;
    }
    if has("--idle") {
        let text = runtime.block_on(idle::run(options.quick)).to_string();
        println!("{text}");
        if options.save {
            println!("written to {}", table::save("idle", &text).display());
        }
        return;
    }
    if has("--kinds") {
        let text = runtime.block_on(kinds::run(options.quick)).to_string();
        println!("{text}");
        if options.save {
            println!("written to {}", table::save("kinds", &text).display());
        }
        return;
    }
    let table = runtime.block_on(run(&options));
    let text = table.to_string();
    println!("{text}");
    if options.save {
        println!("written to {}", table::save("cluster", &text).display());
    }
    if options.check && !table.within_the_gate() {
        std::process::exit(1);
    }
}

/// All rows, in the order in which they are shown.
fn rows(options: &Options) -> Vec<Row> {
    let mixes = [
        ("put", Mix { put: 1, ..Mix::NONE }),
        ("get", Mix { get: 1, ..Mix::NONE }),
        ("mix A", Mix::YCSB_A),
    ];
    let mixes = if options.quick { mixes.get(..2) } else { mixes.get(..) };
    let mut rows = Vec::new();
    for lane in [Lane::Unary, Lane::Session] {
        for clients in [1, 64] {
            for (operation, mix) in mixes.into_iter().flatten() {
                rows.push(Row { lane, clients, operation, mix: *mix });
            }
        }
    }
    let wanted = |row: &Row| options.only.as_ref().is_none_or(|only| row.name().contains(only));
    rows.retain(wanted);
    rows
}

async fn run(options: &Options) -> Table {
    let (repetitions, length) = match (options.hold, options.quick) {
        (Some(length), _) => (1, length),
        (None, true) => (1, Duration::from_millis(700)),
        (None, false) => (3, Duration::from_millis(1500)),
    };
    let mut fleets = Vec::new();
    for system in System::ALL {
        let fleet = Fleet::start(system).await;
        let lanes = [Lane::Unary, Lane::Session].map(|lane| fleet.client(lane));
        fill(&lanes[1]).await;
        if options.hold.is_some() {
            eprintln!("{}: processes {}", system.name(), fleet.pids());
        }
        fleets.push((fleet, lanes));
    }
    let rows = rows(options);
    let mut table = Table::new(options.quick, length);
    for repetition in 0..repetitions {
        for row in &rows {
            let mut measured = BTreeMap::new();
            for (fleet, [unary, session]) in &fleets {
                let client = if row.lane == Lane::Unary { unary } else { session };
                if options.hold.is_some() {
                    eprintln!("{} on {}", row.name(), fleet.system.name());
                }
                measured.insert(fleet.system, measure(fleet, client, row, length).await);
            }
            table.add(row, measured);
        }
        eprintln!("repetition {} of {repetitions} is done", repetition + 1);
    }
    for (fleet, _) in &fleets {
        table.resident(fleet.system, fleet.resident());
    }
    table
}

fn keys() -> Keys {
    // With its digits, 16 bytes.
    Keys::new("key-", RECORDS, Distribution::Zipfian { theta: SKEW }).expect("a fair skew")
}

/// Writes all records.
async fn fill(client: &Client) {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..64 {
        let client = client.clone();
        tasks.spawn(async move {
            let keys = keys();
            for index in (lane..RECORDS).step_by(64) {
                let key = keys.key(index).bytes().clone();
                client.put(key, vec![b'v'; 100]).await.expect("a healthy cluster takes writes");
            }
        });
    }
    tasks.join_all().await;
}

/// One measurement of one system.
async fn measure(fleet: &Fleet, client: &Client, row: &Row, length: Duration) -> Measured {
    let plan =
        |duration| Plan { mix: row.mix, workers: row.clients, duration, ..Plan::new(keys()) };
    // Connections, branch predictors, caches.
    generator::run(client, &plan(length / 8)).await;
    let own_cpu = || process::own_cpu().unwrap_or_default().as_secs_f64();
    let (server, own) = (fleet.cpu(), own_cpu());
    let report = generator::run(client, &plan(length)).await;
    let (server, own) = (fleet.cpu() - server, own_cpu() - own);
    let mut latency = Latency::default();
    let mut failed = 0;
    for kind in Kind::ALL {
        if let Some(outcomes) = report.outcomes.get(&kind) {
            latency.merge(&outcomes.latency);
            failed += outcomes.failed();
        }
    }
    let operations = table::float(latency.count().max(1));
    Measured {
        rate: report.throughput(),
        p50_ms: latency.quantile(0.5).as_secs_f64() * 1e3,
        p99_ms: latency.quantile(0.99).as_secs_f64() * 1e3,
        server_us: server * 1e6 / operations,
        client_us: own * 1e6 / operations,
        failed,
    }
}

//! Three nodes of Roundtable and three of etcd, filled alike and asked in turn by the same closed
//! loops in one run. `docs/performance.md` says how to run it and what its figures mean.
//!
//! What counts are the ratios in one run, and processor time per operation before operations per
//! second: all nodes and the load share the machine.

mod etcd;
mod fleet;
mod gate;
mod load;
mod place;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use fleet::{Fleet, System};
use load::{Mix, Row};
use table::Table;

/// Roundtable beside etcd.
#[derive(Parser)]
pub(crate) struct Args {
    /// One repetition of a second, of the rows with 64 clients only.
    #[arg(long)]
    quick: bool,
    /// Writes the output to docs/figures as well.
    #[arg(long)]
    save: bool,
    /// Ends with an error when a gate is missed.
    #[arg(long)]
    check: bool,
    /// Only rows whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// Seconds a measurement takes.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Times that all is measured; medians are shown.
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// The server; by default that of `cargo build --release` in this tree.
    #[arg(long)]
    kvd: Option<PathBuf>,
    /// The rival (Debian: etcd-server).
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let table = runtime.block_on(run(&args))?;
    let text = table.to_string();
    print!("{text}");
    if args.save {
        println!("written to {}", table::save(&text)?.display());
    }
    let missed = args.check && !table.all_met();
    Ok(if missed { 1.into() } else { 0.into() })
}

/// Rows in the order in which they are shown.
fn rows(args: &Args) -> Vec<Row> {
    let mut rows = Vec::new();
    for bytes in [100, 1024] {
        for clients in [1, 16, 64, 256] {
            rows.push(Row { mix: Mix::Half, clients, bytes });
        }
    }
    for mix in [Mix::Reads, Mix::Writes] {
        rows.extend([1, 64].map(|clients| Row { mix, clients, bytes: 100 }));
    }
    rows.retain(|row| !args.quick || row.clients == 64 && row.bytes == 100);
    rows.retain(|row| args.only.as_ref().is_none_or(|only| row.to_string().contains(only)));
    rows
}

async fn run(args: &Args) -> anyhow::Result<Table> {
    let (repetitions, seconds) = if args.quick {
        (1, 1.0)
    } else {
        (args.repetitions.max(1), args.seconds.clamp(0.1, 600.0))
    };
    let length = Duration::from_secs_f64(seconds);
    let rows = rows(args);
    anyhow::ensure!(!rows.is_empty(), "no row has that in its name");
    let kvd = fleet::built(args.kvd.clone())?;
    let mut fleets = Vec::new();
    for system in System::ALL {
        let program = if system == System::Etcd { &args.etcd } else { &kvd };
        let fleet = Fleet::start(system, program).await;
        let fleet = fleet.with_context(|| format!("{} does not start", system.name()))?;
        eprintln!("{}: filling", system.name());
        load::fill(&fleet.targets(64)?).await?;
        fleets.push(fleet);
    }
    let mut table = Table::new(length, repetitions);
    for fleet in &fleets {
        table.resident(fleet.system, fleet.resident());
    }
    for repetition in 1..=repetitions {
        for row in &rows {
            // Who is asked first changes: what one leaves behind, the next one meets.
            let turn = usize::try_from(repetition)? % fleets.len();
            let (behind, ahead) = fleets.split_at(turn);
            for fleet in ahead.iter().chain(behind) {
                for target in fleet.targets(row.clients)? {
                    let measured = load::measure(fleet, &target, row, length).await?;
                    table.add(row, target.name(), measured);
                }
            }
        }
        eprintln!("repetition {repetition} of {repetitions} is done");
    }
    Ok(table)
}

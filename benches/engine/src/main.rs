//! Our storage engine beside fjall and RocksDB, by db_bench's names: the same operations with the
//! same settings, a process each, engines in turn, medians of several repetitions.
//!
//! `docs/performance.md` says how to run it. What is judged are ratios in one run, CPU time per
//! operation first.

mod args;
mod data;
mod driver;
mod engine;
mod gate;
mod host;
mod picture;
mod recorder;
mod report;
mod settle;
mod table;
mod workload;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use args::{Args, Command};

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(Command::One(one)) = args.command {
        let run = workload::run(&one)?;
        let line = serde_json::to_string(&run)?;
        writeln!(std::io::stdout(), "{line}").context("standard output is gone")?;
        return Ok(ExitCode::SUCCESS);
    }
    let table = driver::run(&args.plan)?;
    let text = table.to_string();
    println!("{text}");
    if args.plan.save {
        let drawing = picture::draw("Latencies of single operations", &table.latencies());
        for (ending, content) in [("txt", &text), ("svg", &drawing)] {
            println!("written to {}", table::save(ending, content)?.display());
        }
    }
    let failed = args.plan.check && !table.all_met();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

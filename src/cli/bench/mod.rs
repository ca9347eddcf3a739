//! `kvctl bench`: drives the cluster as a workload says and reports what it was like, for people, for
//! scripts, for a file and as a page; and compares two such files.
//!
//! It decides what is asked, and how results look. Who asks, when, and what is counted is
//! [`crate::load::generator`]'s.

mod args;
mod compare;
mod fill;
mod html;
mod json;
mod machine;
mod results;
mod run;
mod servers;
mod style;
mod text;
mod workload;

use clap::Subcommand;

use super::Context;
use super::exit::Failure;
use super::output::Output;

/// `kvctl bench`
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Run a workload and show rates, latencies, errors and what the servers cost
    Run(Box<args::RunArgs>),
    /// Compare the results of two runs that were saved
    Compare(compare::CompareArgs),
    /// Show the workloads
    List,
}

impl BenchCommand {
    /// Whether the command itself ends when it is interrupted, with what it has measured by then.
    pub(crate) fn ends_itself(&self) -> bool {
        matches!(self, BenchCommand::Run(_))
    }
}

/// Runs a workload, compares two runs or shows the workloads.
pub(crate) async fn run(
    context: &Context<'_>,
    command: BenchCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        BenchCommand::Run(args) => run::run(context, &args, output).await,
        BenchCommand::Compare(args) => compare::run(&args, output),
        BenchCommand::List => workload::list(output),
    }
}

/// Writes a file that `option` names.
fn write_file(option: &str, path: &str, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::usage(format!("{option}: cannot write {path}: {error}")))
}

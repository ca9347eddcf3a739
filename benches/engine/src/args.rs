//! The command line: a whole comparison, or with `one` a single measurement for a profiler.

use std::path::PathBuf;

use crate::data::{Codec, Size};
use crate::engine::Kind;
use crate::workload::Workload;

/// Compares the storage engine of Roundtable with fjall and RocksDB.
#[derive(Debug, clap::Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

/// What is to be compared.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// One repetition of a tenth of the size.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Repetitions of everything; medians are shown [default: 3, quick: 1].
    #[arg(long)]
    pub(crate) repetitions: Option<usize>,
    /// How many repetitions were made earlier, with --raw: seeds and the order of the engines go on
    /// from there.
    #[arg(long, default_value_t = 0)]
    pub(crate) skip: usize,
    /// Only these workloads, by name.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) only: Vec<Workload>,
    /// Only these engines [default: all that are built in].
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) engines: Vec<Kind>,
    /// Only values of this size.
    #[arg(long, value_delimiter = ',', value_name = "SIZE")]
    pub(crate) size: Vec<Size>,
    /// Only tables compressed so.
    #[arg(long, value_delimiter = ',', value_name = "CODEC")]
    pub(crate) codec: Vec<Codec>,
    /// How long `fillpause` fills at full speed.
    #[arg(long, default_value_t = 0.5)]
    pub(crate) minutes: f64,
    /// Where the data goes: a real disk, with 8 GB of room [default: target/data of the package].
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Keep the output in docs/figures/.
    #[arg(long)]
    pub(crate) save: bool,
    /// Fail when a gate is missed.
    #[arg(long)]
    pub(crate) check: bool,
    /// Append each measurement to this file, as a line of JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) raw: Option<PathBuf>,
    /// Use the stores of the run before, and leave them for the next: for a run in pieces.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Measure nothing: show what a run in several pieces has kept with --raw.
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    pub(crate) from: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// One measurement in this process, as a line of JSON; `fillunique` first, into the same
    /// directory, for those that need data.
    One(One),
}

/// One measurement.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct One {
    pub(crate) workload: Workload,
    #[arg(long, default_value = "ours")]
    pub(crate) engine: Kind,
    #[arg(long, default_value = "100")]
    pub(crate) size: Size,
    #[arg(long, default_value = "none")]
    pub(crate) codec: Codec,
    /// The directory of the store.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// A tenth of the size.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Seed of keys and values.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long `fillpause` fills at full speed.
    #[arg(long, default_value_t = 0.5)]
    pub(crate) minutes: f64,
    /// Say on standard error what the engine knows of itself in the end.
    #[arg(long)]
    pub(crate) stats: bool,
    /// Write what a crash leaves for `reopen` and end as if by a crash, measuring nothing.
    #[arg(long)]
    pub(crate) crash: bool,
}

impl One {
    /// Number of entries of the store.
    pub(crate) fn entries(&self) -> u64 {
        self.size.entries() / if self.quick { 10 } else { 1 }
    }
}

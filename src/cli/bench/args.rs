//! The command line of `kvctl bench run`, checked, and what follows from it.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::load::generator::{Pace, Plan};
use crate::load::keys::{Distribution, Keys};
use crate::load::mix::Mix;
use crate::load::payload;
use crate::load::schedule::Spacing;
use crate::types::{Quorum, limits};

use crate::cli::args::{duration, quorum};
use crate::cli::exit::Failure;

use super::results::Settings;
use super::workload::{Dist, Workload, mix, shares};

const RATE: f64 = 1000.0;
const RATE_MAX: f64 = 1e6;
const WORKERS_MAX: i64 = 16_384;
const IN_FLIGHT: u32 = 512;
const KEYS_MAX: u64 = 1_000_000_000;
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
const THETA: f64 = 0.99;

const EXAMPLES: &str = "\
Examples:
  kvctl bench run a --load                     fill 100 000 keys, then half reads, half writes,
                                               1000 a second for 30 s
  kvctl bench run b --rate 5000 --html b.html  a page with curves
  kvctl bench run c --closed 64                as fast as 64 callers can: the highest throughput
  kvctl bench run --mix get=50,put=40,delete=5,scan=5 --dist uniform --keys 10000
  kvctl bench run a --save before.json         for `kvctl bench compare before.json after.json`

By default operations fall due by a schedule that does not wait for answers (an open loop), and latency
counts from when an operation was due: a server that stalls is charged with all that had to wait. Ctrl-C
ends a run early and shows what was measured. A value that is not what was written to its key counts as
WRONG_VALUE, and the exit code is 1.";

/// `kvctl bench run`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The workload; `kvctl bench list` shows what they do
    #[arg(
        value_name = "WORKLOAD",
        value_enum,
        ignore_case = true,
        required_unless_present = "mix"
    )]
    workload: Option<Workload>,
    /// A mix of one's own instead: shares of get, put, delete, scan, insert, modify and
    /// increment (of tables that have counters)
    #[arg(long, value_name = "KIND=SHARE,..", value_parser = mix, conflicts_with = "workload")]
    mix: Option<Mix>,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    files: FileArgs,
    /// Replicas that must answer a read: a number, one, quorum or all
    #[arg(short, value_name = "R", value_parser = quorum)]
    r: Option<Quorum>,
    /// Replicas that must acknowledge a write: a number, one, quorum or all
    #[arg(short, value_name = "W", value_parser = quorum)]
    w: Option<Quorum>,
    /// How often a request is tried at most, 1..100; 1 turns retries off
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) attempts: u32,
    /// Ask only the addresses after -e, not the other members of the ring
    #[arg(long)]
    pub(super) only_endpoints: bool,
    /// Of all random choices; another one each time when left out
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// What there is, and what is asked for.
#[derive(Args, Debug)]
#[command(next_help_heading = "Keys and values")]
struct KeyArgs {
    /// How many keys there are, 1..1000000000
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    keys: u64,
    /// What all keys begin with; 12 digits follow
    #[arg(long, value_name = "P", default_value = "bench:")]
    prefix: String,
    /// How often each key is asked for; as the workload says when left out, zipfian for a mix
    #[arg(long, value_enum)]
    dist: Option<Dist>,
    /// The skew of zipfian and latest, above 0 and below 1 [default: 0.99]
    #[arg(long, value_name = "T")]
    theta: Option<f64>,
    /// Bytes of a value, 24..1048576
    #[arg(
        long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(payload::BYTES_MIN as i64..=limits::VALUE_BYTES_MAX as i64)
    )]
    value_bytes: u32,
    /// Keys of a scan: from 1 to this, 1..1000
    #[arg(
        long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::SCAN_PAGE_ENTRIES_MAX))
    )]
    scan_max: u32,
    /// Write all keys first
    #[arg(long)]
    load: bool,
    /// Write all keys, and measure nothing
    #[arg(long, conflicts_with = "load")]
    load_only: bool,
    /// Do not look whether what is read is what was written: for keys of somebody else
    #[arg(long)]
    no_verify: bool,
}

/// How fast, and for how long.
#[derive(Args, Debug)]
#[command(next_help_heading = "Pace")]
struct PaceArgs {
    /// Open loop: operations due a second, above 0 and up to 1000000 [default: 1000]
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Closed loop instead: so many callers, each asks once it is answered, 1..16384
    #[arg(
        long, value_name = "N", conflicts_with = "rate",
        value_parser = clap::value_parser!(u32).range(1..=WORKERS_MAX)
    )]
    closed: Option<u32>,
    /// How arrivals of the open loop are spaced
    #[arg(long, value_enum, default_value = "poisson", conflicts_with = "closed")]
    spacing: Arrivals,
    /// Open loop: operations under way at most; others wait, and their wait counts, 1..16384 [default: 512]
    #[arg(
        long, value_name = "N", conflicts_with = "closed",
        value_parser = clap::value_parser!(u32).range(1..=WORKERS_MAX)
    )]
    in_flight: Option<u32>,
    /// How long to measure, up to 24h
    #[arg(long, value_name = "D", default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// How long to ask before that without measuring, 0s up to 24h
    #[arg(long, value_name = "D", default_value = "5s", value_parser = maybe_zero)]
    warmup: Duration,
    /// Clients, each with its own connections, 1..64
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
}

/// Where results go, besides stdout.
#[derive(Args, Debug)]
#[command(next_help_heading = "Files")]
struct FileArgs {
    /// Save everything that was measured, as JSON
    #[arg(long, value_name = "FILE")]
    save: Option<String>,
    /// Write a page that needs nothing else: curves, a map of latencies, errors, costs
    #[arg(long, value_name = "FILE")]
    html: Option<String>,
}

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Arrivals {
    /// Like a clock
    Even,
    /// Like independent callers
    Poisson,
}

fn maybe_zero(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

impl RunArgs {
    /// Whether to write all keys first.
    pub(super) fn loads(&self) -> bool {
        self.keys.load || self.keys.load_only
    }

    /// Whether to measure nothing.
    pub(super) fn only_loads(&self) -> bool {
        self.keys.load_only
    }

    /// Where to save the results, and where to write the page.
    pub(super) fn files(&self) -> (Option<&str>, Option<&str>) {
        (self.files.save.as_deref(), self.files.html.as_deref())
    }

    /// What the generator is to do on `table`, with `random` for a seed when none was given.
    ///
    /// # Errors
    /// Something is out of its bounds; the message names the option.
    pub(super) fn plan(&self, table: &str, random: u64) -> Result<Plan, Failure> {
        for (option, value) in [("--duration", self.pace.duration), ("--warmup", self.pace.warmup)]
        {
            if value > DURATION_MAX {
                return Err(Failure::usage(format!("{option} is at most 24h")));
            }
        }
        let rate = self.pace.rate.unwrap_or(RATE);
        if !(rate > 0.0 && rate <= RATE_MAX) {
            return Err(Failure::usage(format!("--rate is above 0 and at most {RATE_MAX}")));
        }
        let spacing = match self.pace.spacing {
            Arrivals::Even => Spacing::Even,
            Arrivals::Poisson => Spacing::Poisson,
        };
        let (pace, workers) = match self.pace.closed {
            Some(callers) => (Pace::Closed, callers),
            None => (Pace::Open { rate, spacing }, self.pace.in_flight.unwrap_or(IN_FLIGHT)),
        };
        Ok(Plan {
            mix: self.shares(),
            pace,
            workers,
            warmup: self.pace.warmup,
            duration: self.pace.duration,
            is_cut: true,
            value_bytes: usize::try_from(self.keys.value_bytes).unwrap_or(usize::MAX),
            verify: !self.keys.no_verify,
            scan_max: self.keys.scan_max,
            table: table.to_owned(),
            r: self.r,
            w: self.w,
            seed: self.seed.unwrap_or(random),
            ..Plan::new(self.drawn_keys()?)
        })
    }

    fn shares(&self) -> Mix {
        let named = self.workload.map_or(Mix::YCSB_A, Workload::mix);
        self.mix.unwrap_or(named)
    }

    fn dist(&self) -> Dist {
        self.keys.dist.unwrap_or(self.workload.map_or(Dist::Zipfian, Workload::dist))
    }

    fn drawn_keys(&self) -> Result<Keys, Failure> {
        let theta = self.keys.theta.unwrap_or(THETA);
        if !(theta > 0.0 && theta < 1.0) {
            return Err(Failure::usage("--theta is above 0 and below 1"));
        }
        let distribution = match self.dist() {
            Dist::Uniform if self.keys.theta.is_some() => {
                return Err(Failure::usage("--theta is for --dist zipfian and latest"));
            }
            Dist::Uniform => Distribution::Uniform,
            Dist::Zipfian => Distribution::Zipfian { theta },
            Dist::Latest => Distribution::Latest { theta },
        };
        Keys::new(&self.keys.prefix, self.keys.keys, distribution)
            .map_err(|why| Failure::usage(format!("--prefix: {why}")))
    }

    /// The settings of `plan`, as results tell them.
    pub(super) fn settings(&self, plan: &Plan, timeout: Duration) -> Settings {
        let (rate, spacing) = match plan.pace {
            Pace::Open { rate, spacing: Spacing::Even } => (Some(rate), Some("even".to_owned())),
            Pace::Open { rate, .. } => (Some(rate), Some("poisson".to_owned())),
            Pace::Closed => (None, None),
        };
        let dist = self.dist();
        let theta = self.keys.theta.unwrap_or(THETA);
        Settings {
            workload: self.workload.map_or("mix", Workload::name).to_owned(),
            mix: shares(plan.mix).map(|(kind, share)| (kind.to_owned(), share)).collect(),
            dist: dist.name().to_owned(),
            theta: (dist != Dist::Uniform).then_some(theta),
            keys: plan.keys.count(),
            prefix: plan.keys.prefix().to_owned(),
            value_bytes: self.keys.value_bytes,
            scan_max: plan.scan_max,
            table: plan.table.clone(),
            r: plan.r.map(quorum_text),
            w: plan.w.map(quorum_text),
            rate,
            spacing,
            in_flight: plan.workers,
            clients: self.pace.clients,
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
            timeout_s: timeout.as_secs_f64(),
            attempts: self.attempts,
            seed: plan.seed,
            verified: plan.verify,
            loaded: self.keys.load,
        }
    }

    /// How many clients to make.
    pub(super) fn clients(&self) -> u32 {
        self.pace.clients
    }
}

fn quorum_text(quorum: Quorum) -> String {
    match quorum {
        Quorum::One => "one".to_owned(),
        Quorum::Majority => "quorum".to_owned(),
        Quorum::All => "all".to_owned(),
        Quorum::Count(count) => count.to_string(),
    }
}

//! The command line, as data. What it means is up to each command.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::QuorumMode;
use crate::types::Quorum;

const EXIT_CODES: &str = "\
Exit codes:
  0  ok                        5    deadline passed
  1  internal error            6    conflict
  2  usage                     7    authentication or TLS
  3  key not found             8    done in part
  4  unavailable, or the       130  interrupted
     quorum was not reached;
     safe-to: it is not safe

Keys and values are bytes. JSON shows them as \"key\" and \"value\" when they are UTF-8 and as
\"key_b64\" and \"value_b64\" when not; plain output and tsv escape \\t \\n \\r and \\\\.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "kvctl",
    version,
    about = "Reads, writes and operates a Roundtable cluster",
    after_help = EXIT_CODES,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The command line with examples in all its help.
pub(super) fn command() -> clap::Command {
    super::examples::add(<Cli as clap::CommandFactory>::command())
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Addresses of the cluster, host:port, separated by commas; any nodes will do
    #[arg(
        short,
        long,
        global = true,
        value_name = "LIST",
        value_delimiter = ',',
        env = "KVCTL_ENDPOINTS",
        hide_env_values = true,
        default_value = "127.0.0.1:7450"
    )]
    pub(crate) endpoints: Vec<String>,
    /// The table
    #[arg(
        short,
        long,
        global = true,
        value_name = "TABLE",
        env = "KVCTL_TABLE",
        hide_env_values = true,
        default_value = "default"
    )]
    pub(crate) table: String,
    /// What output looks like; table on a terminal, plain elsewhere
    #[arg(short, long, global = true, value_enum, env = "KVCTL_OUTPUT", hide_env_values = true)]
    pub(crate) output: Option<Format>,
    /// How long a request may take, e.g. 500ms or 5s (5s; for wait: 60s in all)
    #[arg(long, global = true, value_name = "D", value_parser = duration, env = "KVCTL_TIMEOUT", hide_env_values = true)]
    pub(crate) timeout: Option<Duration>,
    /// When to use colour; NO_COLOR is honoured
    #[arg(long, global = true, value_enum, default_value = "auto", hide_default_value = true)]
    pub(crate) color: Color,
    /// No progress bars
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// Nothing on stderr but errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

impl Global {
    /// The output format, chosen or by what stdout is.
    pub(crate) fn format(&self) -> Format {
        let terminal = || std::io::stdout().is_terminal();
        self.output.unwrap_or_else(|| if terminal() { Format::Table } else { Format::Plain })
    }

    /// Takes what the command line does not say from `base`.
    pub(crate) fn take_from(&mut self, base: &Global, matches: &clap::ArgMatches) {
        let said =
            |name: &str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
        let Global { endpoints, table, output, timeout, color, no_progress, quiet } = base.clone();
        let own = &mut *self;
        let mut take = |name: &str, from: &dyn Fn(&mut Global)| {
            if !said(name) {
                from(own);
            }
        };
        take("endpoints", &|own| own.endpoints.clone_from(&endpoints));
        take("table", &|own| own.table.clone_from(&table));
        take("output", &|own| own.output = output);
        take("timeout", &|own| own.timeout = timeout);
        take("color", &|own| own.color = color);
        take("no_progress", &|own| own.no_progress = no_progress);
        take("quiet", &|own| own.quiet = quiet);
    }

    /// Whether output and errors are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format().is_json()
    }
}

/// What output looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Tab-separated lines.
    Plain,
}

impl Format {
    /// Whether this is JSON of either kind.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Jsonl)
    }
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write one key
    Put(super::put::PutArgs),
    /// Read one key: its raw value on stdout
    Get(super::get::GetArgs),
    /// Delete one key; deleting an absent key succeeds
    Del(super::del::DelArgs),
    /// Causal and linearizable tables: add to the number that one key holds, and show the sum
    Incr(super::incr::IncrArgs),
    /// Linearizable tables: change one key if it holds what is expected
    Cas(super::cas::CasArgs),
    /// Linearizable tables: say what became of a write, for good
    Outcome(super::cas::OutcomeArgs),
    /// Show the siblings of a key of a causal table, and settle on one value
    Resolve(super::resolve::ResolveArgs),
    /// List keys in byte order
    Scan(super::scan::ScanArgs),
    /// Show changes as they are applied, until interrupted
    Watch(super::watch::WatchArgs),
    /// Carry out many operations from lines of JSON: get, put and del
    Batch(super::batch::BatchArgs),
    /// Write many keys from a file or stdin
    Import(super::import::ImportArgs),
    /// Write all keys to a file or stdout, sorted, as import reads them
    Export(super::export::ExportArgs),
    /// Show the cluster
    Status,
    /// Show what every node does, again and again
    Top(super::top::TopArgs),
    /// Show what a node counts, as Prometheus reads it
    Metrics(super::metrics::MetricsArgs),
    /// Type commands one after the other, with history and completion; or take them from stdin
    Shell(super::shell::ShellArgs),
    /// Show the ring: who holds how much, what is on the move; draw it
    Ring(super::ring::RingArgs),
    /// Show where a key lives
    Locate(super::locate::LocateArgs),
    /// Show what each replica of a key holds, and why they differ
    Explain(super::explain::ExplainArgs),
    /// Make, show, alter and drop tables
    #[command(subcommand, arg_required_else_help = true)]
    Table(super::table::TableCommand),
    /// Show, hand back and give up what nodes keep for owners that were away
    #[command(subcommand, arg_required_else_help = true)]
    Hints(super::hints::HintsCommand),
    /// Compare the replicas of units with each other now, and show how far that is
    #[command(subcommand, arg_required_else_help = true)]
    Repair(super::repair::RepairCommand),
    /// Show what two nodes hold that differs
    #[command(subcommand, arg_required_else_help = true)]
    Tree(super::tree::TreeCommand),
    /// Show deletes that wait to be purged, and who holds them back
    #[command(subcommand, arg_required_else_help = true)]
    Gc(super::gc::GcCommand),
    /// Have nodes read everything on their disks, to find damage
    #[command(subcommand, arg_required_else_help = true)]
    Scrub(super::scrub::ScrubCommand),
    /// Stage changes of members for the next plan
    #[command(subcommand, arg_required_else_help = true)]
    Node(super::node::NodeCommand),
    /// Show, commit, follow, pause and undo plans
    #[command(subcommand, arg_required_else_help = true)]
    Plan(super::plan::PlanCommand),
    /// What the load will be, whether more nodes should own or fewer, and the word that has it done
    #[command(subcommand)]
    Grow(super::grow::GrowCommand),
    /// Begin a new history when the majority of the council is gone for good
    #[command(subcommand, arg_required_else_help = true)]
    Lineage(super::lineage::LineageCommand),
    /// Show what has happened: members down and back, replacements, plans, alarms, tables
    Events(super::events::EventsArgs),
    /// Wait until the cluster is as wanted
    Wait(super::wait::WaitArgs),
    /// Write memtables out, on all nodes or one
    Flush(super::stores::NodesArgs),
    /// Merge all tables, on all nodes or one; a node goes on when the time to wait is over
    Compact(super::stores::NodesArgs),
    /// Measure rates and latencies under a workload, and compare runs
    #[command(subcommand, arg_required_else_help = true)]
    Bench(super::bench::BenchCommand),
    /// Show which partitions and keys clients ask for most
    Hot(super::hot::HotArgs),
    /// Say whether something can be done now without loss of service: exit code 0 if so, 4 if not
    #[command(subcommand, arg_required_else_help = true)]
    SafeTo(super::outage::SafeToCommand),
    /// Show what would be lost if nodes were gone
    Whatif(super::outage::WhatIfArgs),
    /// Show how many nodes to reserve for failures
    Capacity(super::capacity::CapacityArgs),
    /// Show versions
    Version(super::version::VersionArgs),
    /// Write a shell's completion script
    Completion(CompletionArgs),
    /// Write manual pages
    Man(super::man::ManArgs),
}

/// `kvctl completion`
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// A key on the command line.
#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    /// The key
    #[arg(value_name = "KEY", required_unless_present = "key_b64")]
    pub(crate) key: Option<String>,
    /// The key, in base64
    #[arg(long, value_name = "B64", conflicts_with = "key")]
    pub(crate) key_b64: Option<String>,
}

/// Who may count.
#[derive(Args, Debug)]
pub(crate) struct ModeArgs {
    /// Only owners count; the default unless the table is always sloppy
    #[arg(long, conflicts_with = "sloppy")]
    strict: bool,
    /// Stand-ins count for owners that are away
    #[arg(long)]
    sloppy: bool,
}

impl ModeArgs {
    /// What was asked for.
    pub(crate) fn mode(&self) -> QuorumMode {
        match (self.strict, self.sloppy) {
            (true, _) => QuorumMode::Strict,
            (false, true) => QuorumMode::Sloppy,
            (false, false) => QuorumMode::ByTable,
        }
    }
}

/// Reads a duration such as `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if parsed.is_zero() { Err("it must be above zero".to_owned()) } else { Ok(parsed) }
}

/// Reads a quorum.
pub(crate) fn quorum(text: &str) -> Result<Quorum, String> {
    match text.parse()? {
        Quorum::Count(0) => Err("a quorum is at least 1".to_owned()),
        quorum => Ok(quorum),
    }
}

/// Whether a command line that could not be parsed asks for JSON, so that the error can be JSON.
pub(crate) fn asks_for_json(argv: &[OsString]) -> bool {
    let words = argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>();
    let is_json = |text: &str| matches!(text, "json" | "jsonl");
    let mut asked = std::env::var("KVCTL_OUTPUT").is_ok_and(|text| is_json(&text));
    for (word, next) in words.iter().zip(words.iter().skip(1).map(Some).chain([None])) {
        let value = match word.as_ref() {
            "--" => break,
            "-o" | "--output" => next.map(AsRef::as_ref),
            other => other
                .strip_prefix("--output=")
                .or_else(|| other.strip_prefix("-o="))
                .or_else(|| other.strip_prefix("-o")),
        };
        if let Some(value) = value {
            asked = is_json(value);
        }
    }
    asked
}

/// Reads a time to live; the server knows its bounds.
pub(crate) fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    if ttl.subsec_nanos().is_multiple_of(1_000_000) {
        Ok(ttl)
    } else {
        Err("it must be whole milliseconds".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn what_a_line_of_the_shell_does_not_say_is_as_the_shell_was_begun() {
        let read = |line: &str| {
            let matches = command().try_get_matches_from(line.split(' ')).unwrap();
            (Cli::from_arg_matches(&matches).unwrap().global, matches)
        };
        let (base, _) = read("kvctl -t users -e a:1,b:2 -o json --timeout 9s shell");
        for (line, table, format) in [
            ("kvctl get a", "users", Format::Json),
            ("kvctl get a -t carts", "carts", Format::Json),
            ("kvctl -t carts get a -o plain", "carts", Format::Plain),
            ("kvctl table describe x -o table", "users", Format::Table),
        ] {
            let (mut global, matches) = read(line);
            global.take_from(&base, &matches);
            assert_eq!((global.table.as_str(), global.output), (table, Some(format)), "{line}");
            assert_eq!((global.endpoints.len(), global.timeout), (2, base.timeout), "{line}");
        }
    }

    #[test]
    fn json_is_found_in_command_lines_that_do_not_parse() {
        let asks = |line: &str| {
            let argv = line.split(' ').map(OsString::from).collect::<Vec<_>>();
            asks_for_json(&argv)
        };
        for line in ["kvctl -o json get", "kvctl get -ojson", "kvctl x --output=jsonl y"] {
            assert!(asks(line), "{line}");
        }
        for line in ["kvctl get", "kvctl -o table get", "kvctl get -- -o json"] {
            assert!(!asks(line), "{line}");
        }
    }

    #[test]
    fn zero_is_no_quorum_and_no_timeout() {
        assert!(quorum("0").is_err() && quorum("many").is_err());
        assert_eq!(quorum("2"), Ok(Quorum::Count(2)));
        assert!(duration("0s").is_err() && duration("5").is_err());
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    }
}

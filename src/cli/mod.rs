//! `kvctl`, the operator's and the script's command line: one file a command, each of which asks
//! the client library and hands what it learned to `output`, the only place that prints. What
//! scripts may rely on (names, exit codes, JSON shapes) is in `docs/kvctl.md`.
//!
//! It decides nothing about the cluster and knows nothing of the server side.

mod args;
mod bars;
mod batch;
mod bench;
mod capacity;
mod cas;
mod del;
mod events;
mod examples;
mod exit;
mod explain;
mod export;
mod gc;
mod get;
mod grid;
mod grow;
mod hints;
mod hot;
mod import;
mod incr;
mod item;
mod line;
mod lineage;
mod lines;
mod locate;
mod man;
mod metrics;
mod node;
mod outage;
mod output;
mod plan;
mod put;
mod repair;
mod resolve;
mod ring;
mod scan;
mod scrub;
mod shell;
mod status;
mod stores;
mod table;
mod text;
mod top;
mod tree;
mod version;
mod wait;
mod watch;
mod waterfall;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::FromArgMatches;
use parking_lot::Mutex;

use crate::client::Client;

use args::{Cli, Command, Global};
use exit::Failure;
use output::Output;
use stores::Task;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the command that the process's arguments ask for.
pub fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let matches = match args::command().try_get_matches_from(&argv) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            return exit::report(&Failure::from_clap(&error), args::asks_for_json(&argv));
        }
        Err(help) => {
            // Help and version: a reader that has gone away is no failure of theirs.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => {
            return exit::report(&Failure::from_clap(&error), args::asks_for_json(&argv));
        }
    };
    let json = cli.global.is_json() || args::asks_for_json(&argv);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            if let Command::Shell(args) = &cli.command {
                let code = shell::run(&runtime, cli.global, args);
                runtime.shutdown_background();
                return code;
            }
            let outcome = runtime.block_on(interruptible(cli, None));
            // A reader of stdin may be blocked for ever: do not wait for it.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::internal(format!("cannot start the runtime: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::report(&failure, json),
    }
}

async fn interruptible(cli: Cli, kept: Option<&Kept>) -> Result<(), Failure> {
    let ends_itself = match &cli.command {
        Command::Bench(bench) => bench.ends_itself(),
        Command::Watch(_) => true,
        _ => false,
    };
    if ends_itself {
        return run(cli, kept).await;
    }
    tokio::select! {
        outcome = run(cli, kept) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    }
}

async fn run(cli: Cli, kept: Option<&Kept>) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let mut output = Output::new(&global);
    let context = Context { global: &global, kept };
    let outcome = match command {
        Command::Put(args) => put::run(&context, args, &mut output).await,
        Command::Get(args) => get::run(&context, args, &mut output).await,
        Command::Del(args) => del::run(&context, args, &mut output).await,
        Command::Incr(args) => incr::run(&context, args, &mut output).await,
        Command::Cas(args) => cas::run(&context, args, &mut output).await,
        Command::Outcome(args) => cas::outcome(&context, args, &mut output).await,
        Command::Resolve(args) => resolve::run(&context, args, &mut output).await,
        Command::Scan(args) => scan::run(&context, args, &mut output).await,
        Command::Watch(args) => watch::run(&context, args, &mut output).await,
        Command::Batch(args) => batch::run(&context, args, &mut output).await,
        Command::Import(args) => import::run(&context, args, &mut output).await,
        Command::Export(args) => export::run(&context, args, &mut output).await,
        Command::Status => status::run(&context, &mut output).await,
        Command::Top(args) => top::run(&context, args, &mut output).await,
        Command::Metrics(args) => metrics::run(&context, args, &mut output).await,
        Command::Shell(_) => Err(Failure::usage("this is the shell already")),
        Command::Ring(args) => ring::run(&context, args, &mut output).await,
        Command::Locate(args) => locate::run(&context, args, &mut output).await,
        Command::Explain(args) => explain::run(&context, args, &mut output).await,
        Command::Table(command) => table::run(&context, command, &mut output).await,
        Command::Node(command) => node::run(&context, command, &mut output).await,
        Command::Plan(command) => plan::run(&context, command, &mut output).await,
        Command::Grow(command) => grow::run(&context, command, &mut output).await,
        Command::Lineage(command) => lineage::run(&context, command, &mut output).await,
        Command::Wait(args) => wait::run(&context, args, &mut output).await,
        Command::Events(args) => events::run(&context, args, &mut output).await,
        Command::Gc(command) => gc::run(&context, command, &mut output).await,
        Command::Hints(command) => hints::run(&context, command, &mut output).await,
        Command::Repair(command) => repair::run(&context, command, &mut output).await,
        Command::Tree(command) => tree::run(&context, command, &mut output).await,
        Command::Scrub(command) => scrub::run(&context, command, &mut output).await,
        Command::Flush(args) => stores::run(&context, Task::Flush, args, &mut output).await,
        Command::Compact(args) => stores::run(&context, Task::Compact, args, &mut output).await,
        Command::Bench(command) => bench::run(&context, command, &mut output).await,
        Command::Hot(args) => hot::run(&context, args, &mut output).await,
        Command::SafeTo(command) => outage::safe_to(&context, command, &mut output).await,
        Command::Whatif(args) => outage::what_if(&context, args, &mut output).await,
        Command::Capacity(args) => capacity::run(&context, &args, &mut output).await,
        Command::Version(args) => version::run(&context, &args, &mut output).await,
        Command::Completion(args) => completion(&args, &mut output),
        Command::Man(args) => man::run(&args, &mut output),
    };
    let finished = output.finish();
    outcome.and(finished)
}

/// Writes the completion script of one shell.
fn completion(args: &args::CompletionArgs, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "kvctl", &mut script);
    output.bytes(&script)
}

/// What every command is given.
pub(crate) struct Context<'a> {
    pub(crate) global: &'a Global,
    /// What outlives the command, in a shell.
    kept: Option<&'a Kept>,
}

/// What a shell keeps from one command to the next: clients with their connections, and keys that were
/// seen.
#[derive(Debug, Default)]
struct Kept {
    clients: Mutex<BTreeMap<(Vec<String>, Duration), Client>>,
    seen: Mutex<Vec<String>>,
}

/// Clients that a shell keeps; when there are more it begins anew.
const CLIENTS_MAX: usize = 64;
/// Keys of one command that a shell takes note of.
const SEEN_MAX: usize = 1000;

impl Kept {
    /// Keys that were seen since this was asked the last time.
    fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock())
    }
}

impl Context<'_> {
    /// A client over the endpoints of the command line.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.client_over(self.global.endpoints.iter())
    }

    /// A client over the given endpoints.
    pub(crate) fn client_over<'e>(
        &self,
        endpoints: impl IntoIterator<Item = &'e String>,
    ) -> Result<Client, Failure> {
        let endpoints: Vec<String> = endpoints.into_iter().cloned().collect();
        let kind = (endpoints, self.timeout());
        if let Some(known) = self.kept.and_then(|kept| kept.clients.lock().get(&kind).cloned()) {
            return Ok(known);
        }
        // Whoever names an address means it, and a command is over before the ring has helped it.
        let builder = Client::builder().endpoints(&kind.0).timeout(kind.1).follow_ring(false);
        let client = builder.connect_lazy()?;
        if let Some(kept) = self.kept {
            let mut clients = kept.clients.lock();
            if clients.len() >= CLIENTS_MAX {
                clients.clear();
            }
            clients.insert(kind, client.clone());
        }
        Ok(client)
    }

    /// Takes note of a key for completion, where anybody may want that.
    pub(crate) fn saw(&self, key: &[u8]) {
        let Some(kept) = self.kept else { return };
        let mut seen = kept.seen.lock();
        // A key with blanks or marks would have to be quoted when it is completed.
        let plain = |byte: &u8| byte.is_ascii_graphic() && !b"'\"\\`$#".contains(byte);
        if seen.len() < SEEN_MAX && key.iter().all(plain) {
            seen.extend(String::from_utf8(key.to_vec()));
        }
    }

    /// How long a request may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.global.timeout.unwrap_or(TIMEOUT)
    }

    /// The table that is meant.
    pub(crate) fn table(&self) -> &str {
        &self.global.table
    }
}

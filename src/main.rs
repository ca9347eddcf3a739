//! `kvd`: the database server. A thin main: what it does is in `roundtable::server`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use roundtable::config::{ConfigError, DEFAULT_FILE, Sources, load};
use roundtable::replica;
use roundtable::server::run::{follow_parent, say_error};
use roundtable::server::{Settings, dev, probe, run};
use roundtable::storage::{self, RealVfs};
use roundtable::types::limits;

/// Roundtable, a leaderless distributed key-value database: the server.
#[derive(Parser)]
#[command(name = "kvd", version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node until SIGTERM or SIGINT.
    Run(RunArgs),
    /// Run a cluster on this machine, each node a process of its own.
    Dev(DevArgs),
    /// Check, show or print the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Ask a node on this machine whether it is alive, or ready. Exits 0 or 4.
    Health(HealthArgs),
    /// Look at a store while no node runs on it.
    #[command(subcommand)]
    Data(DataCommand),
    /// Print what this build is.
    Version,
}

#[derive(Args, Clone)]
struct ConfigArgs {
    /// The configuration file.
    #[arg(long, env = "KVD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over file and environment.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Found the cluster without waiting for this founder, for good. May be repeated.
    #[arg(long, value_name = "NAME")]
    found_without: Vec<String>,
    /// Join a running cluster through one of its members.
    #[arg(long, value_name = "ADDRESS")]
    join: Option<String>,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    die_with_parent: bool,
}

#[derive(Args)]
struct DevArgs {
    /// Nodes in all; 3 unless the directory holds another number.
    #[arg(long)]
    nodes: Option<u16>,
    /// How many of them own nothing and stand by.
    #[arg(long, value_name = "K")]
    reserved: Option<u16>,
    /// Zones a, b, ..., dealt out in turn.
    #[arg(long)]
    zones: Option<u8>,
    /// Where data, logs and configurations go.
    #[arg(long, default_value = ".dev")]
    dir: PathBuf,
    /// The address to listen on; 127.0.0.1 unless the directory remembers another.
    #[arg(long)]
    host: Option<String>,
    /// Port of the first node's clients, 7450 unless the directory remembers another; peers are on
    /// the next, HTTP on the one after, the next node ten further.
    #[arg(long, value_name = "P")]
    base_port: Option<u16>,
    /// One setting for every node.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Return when the cluster serves, and leave it running.
    #[arg(long, conflicts_with = "stop")]
    detach: bool,
    /// Stop the cluster of the directory.
    #[arg(long)]
    stop: bool,
    /// Start one more node that joins the running cluster.
    #[arg(long, value_name = "NAME")]
    add: Option<String>,
    /// The zone of the node to add; a unless given.
    #[arg(long, requires = "add")]
    zone: Option<String>,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration can be used.
    Check(ConfigArgs),
    /// Print the effective configuration.
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// Say where each value came from.
        #[arg(long)]
        origin: bool,
    },
    /// Print every setting with its default.
    Default,
}

#[derive(Args)]
struct HealthArgs {
    /// Ask whether the node serves, not only whether it is alive.
    #[arg(long)]
    ready: bool,
    /// Its HTTP address; from the configuration by default.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Subcommand)]
enum DataCommand {
    /// Read everything and check every checksum. Exits 0, or 1 with each fault found.
    Check {
        /// The store: a node's `data_dir`.
        dir: PathBuf,
    },
    /// Make a store of what is left where files are missing: what they held is filled from the other
    /// nodes when this one runs again.
    Rebuild {
        /// The store: the `data_dir` of a node that is stopped.
        dir: PathBuf,
    },
}

/// Exit code of a wrong command line or configuration.
const USAGE: u8 = 2;
/// Exit code of a node that is not there or not ready.
const UNAVAILABLE: u8 = 4;

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            say_error(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run_node(&args),
        Command::Dev(args) => run_dev(args),
        Command::Config(command) => config(command),
        Command::Health(args) => health(&args),
        Command::Data(DataCommand::Check { dir }) => check_data(&dir),
        Command::Data(DataCommand::Rebuild { dir }) => rebuild_data(&dir),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let (low, high) = (limits::PROTOCOL_MIN, limits::PROTOCOL_MAX);
            print(&format!("kvd {version} (peer protocol {low}..={high})\n"))
        }
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn usage(why: &str) -> ExitCode {
    say_error(&format!("error: {why}"));
    ExitCode::from(USAGE)
}

fn sources(args: &ConfigArgs) -> Sources {
    // A variable that is not Unicode cannot be one of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Sources { file: args.config.clone(), environment, set: args.set.clone() }
}

fn settings(args: &ConfigArgs) -> Result<Settings, ConfigError> {
    Settings::from_config(&load(&sources(args))?.config)
}

fn run_node(args: &RunArgs) -> anyhow::Result<ExitCode> {
    if args.die_with_parent {
        follow_parent()?;
    }
    let mut config = args.config.clone();
    config.set.extend(args.join.iter().map(|address| format!("cluster.join={address}")));
    let mut settings = match settings(&config) {
        Ok(settings) => settings,
        Err(error) => return Ok(usage(&error.to_string())),
    };
    for name in &args.found_without {
        let known = settings.node.charter.founders.iter().find(|f| f.name.as_str() == name);
        match known {
            Some(founder) if founder.name != settings.node.name => {
                settings.node.found_without.push(founder.name.clone());
            }
            Some(_) => return Ok(usage("--found-without names this node itself")),
            None => return Ok(usage(&format!("--found-without {name}: there is no such founder"))),
        }
    }
    run::run(&settings)
}

fn run_dev(args: DevArgs) -> anyhow::Result<ExitCode> {
    // One thread: children are tied to the thread that starts them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if args.stop {
        return runtime.block_on(dev::stop(&args.dir));
    }
    if let Some(name) = args.add {
        let zone = args.zone.unwrap_or_else(|| "a".to_owned());
        return runtime.block_on(dev::add::add(&args.dir, &name, &zone, &args.set));
    }
    let wish = dev::Wish {
        nodes: args.nodes,
        reserved: args.reserved,
        zones: args.zones,
        host: args.host,
        base_port: args.base_port,
        set: args.set,
    };
    runtime.block_on(dev::start(&wish, &args.dir, args.detach))
}

fn config(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Default => print(DEFAULT_FILE),
        ConfigCommand::Check(args) => match settings(&args) {
            Ok(_) => print("ok\n"),
            Err(error) => Ok(usage(&error.to_string())),
        },
        ConfigCommand::Show { config, origin } => match load(&sources(&config)) {
            Ok(loaded) => print(&loaded.render(origin)),
            Err(error) => Ok(usage(&error.to_string())),
        },
    }
}

fn health(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    let address = match &args.address {
        Some(address) => address.clone(),
        None => match load(&sources(&args.config)) {
            Ok(loaded) if !loaded.config.listen.http.is_empty() => loaded.config.listen.http,
            Ok(_) => return Ok(usage("listen.http is off; there is nobody to ask")),
            Err(error) => return Ok(usage(&error.to_string())),
        },
    };
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(probe::http_get(&address, path)) {
        Ok((200, body)) => print(&body),
        Ok((_, body)) => {
            say_error(body.trim());
            Ok(ExitCode::from(UNAVAILABLE))
        }
        Err(error) => {
            say_error(&format!("{address}: {error}"));
            Ok(ExitCode::from(UNAVAILABLE))
        }
    }
}

fn rebuild_data(dir: &Path) -> anyhow::Result<ExitCode> {
    if !dir.is_dir() {
        return Ok(usage(&format!("{} is no directory", dir.display())));
    }
    let missing = replica::rebuild(&RealVfs, dir)?;
    for part in &missing {
        say_error(&format!("{} was missing ({})", part.file.display(), part.lost));
    }
    match missing.len() {
        0 => print("nothing is missing\n"),
        count => print(&format!(
            "{count} files were missing: start the node, which has what they held filled from others\n"
        )),
    }
}

fn check_data(dir: &Path) -> anyhow::Result<ExitCode> {
    if !dir.is_dir() {
        return Ok(usage(&format!("{} is no directory", dir.display())));
    }
    if std::fs::read_dir(dir)?.next().is_none() {
        // Opening it would make a store there.
        return Ok(usage(&format!("{} holds no store", dir.display())));
    }
    let checked = storage::check(&RealVfs, dir)?;
    for fault in &checked.faults {
        say_error(&fault.to_string());
    }
    if !checked.faults.is_empty() {
        say_error(&format!("{} faults", checked.faults.len()));
        return Ok(ExitCode::from(1));
    }
    let (tables, blocks) = (checked.tables, checked.blocks);
    let (segments, batches) = (checked.segments, checked.batches);
    let (blobs, values) = (checked.blobs, checked.values);
    print(&format!(
        "ok: {tables} tables, {blocks} blocks; {blobs} blob files, {values} values; \
         {segments} log segments, {batches} batches\n"
    ))
}

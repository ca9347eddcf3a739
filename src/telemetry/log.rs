//! The log of the process: lines for people on a terminal, JSON elsewhere if asked for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to stderr, as JSON objects or as lines for people. `filter` is a `tracing` filter, e.g. `info,roundtable=debug`.
///
/// # Errors
/// The filter does not parse, or logging has been started before.
pub fn start(filter: &str, json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log.filter: {error}"))?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(terminal).try_init()
    };
    started.map_err(|error| error.to_string())
}

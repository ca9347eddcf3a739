//! `kvd run`: one node as a process. The first SIGTERM or SIGINT drains and ends it with 0, a second
//! ends it at once with 130, and a watchdog ends it when draining hangs.

use core::time::Duration;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::LogFormat;
use crate::telemetry::log;

use super::pid_file::PidFile;
use super::waiting::Waiting;
use super::{Listeners, Server, Settings};

/// What the watchdog allows beyond the drain timeout.
const WATCHDOG_GRACE: Duration = Duration::from_secs(5);

/// Runs a node until it is told to end.
///
/// # Errors
/// It did not start, another process runs with its pid file, or its store failed.
pub fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let json = match settings.log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    log::start(&settings.log.filter, json).map_err(anyhow::Error::msg)?;
    // Before anything is touched, and until nothing is: who holds it is the node.
    let _pid_file = settings.pid_file.as_deref().map(PidFile::take).transpose()?;
    if let Err(error) = raise_file_limit() {
        tracing::warn!(%error, "limit of open files is as it was");
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if settings.workers > 0 {
        builder.worker_threads(settings.workers);
    }
    let runtime = builder.enable_all().thread_name("kvd-worker").build()?;
    let result = runtime.block_on(serve(settings));
    // Connections that linger must not keep the process.
    runtime.shutdown_background();
    result
}

/// Lets this process have as many open files as it may have: the store keeps every table open, and
/// the limit that processes begin with, often 1024, ends at some thirty gigabytes of tables.
fn raise_file_limit() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(())
}

async fn serve(settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let listeners = Listeners::bind(settings).await?;
    // Until the node answers there for itself.
    let waiting = Waiting::serve(listeners.http.as_ref())?;
    tokio::select! {
        joined = super::join::become_member(settings, &waiting) => joined?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before it was a member");
            return Ok(ExitCode::SUCCESS);
        }
    }
    waiting.opens();
    let server = Server::start(settings, listeners)?;
    drop(waiting);
    let at = server.addresses();
    tracing::info!(
        node = %settings.node.name, client = %at.client, peer = %at.peer, http = ?at.http,
        data = %settings.data_dir.display(), version = env!("CARGO_PKG_VERSION"), "started"
    );
    let mut seen_serving = false;
    loop {
        tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "draining");
                break;
            }
            () = server.serving(), if !seen_serving => {
                seen_serving = true;
                tracing::info!(node = %settings.node.name, "serving");
            }
            () = server.failed() => anyhow::bail!("the node has ended itself, which is a defect"),
        }
    }
    let _watchdog = watchdog(settings.drain_timeout + WATCHDOG_GRACE)?;
    tokio::select! {
        name = signals.next() => {
            tracing::warn!(signal = name, "a second signal: ending at once");
            Ok(ExitCode::from(130))
        }
        closed = server.shutdown() => {
            closed.context("closing the store")?;
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A thread that ends the process after `limit`, unless the returned guard is dropped before. A
/// graceful server has been seen to hang for an hour (hyper#4170); the runtime cannot be trusted to
/// time itself out.
fn watchdog(limit: Duration) -> std::io::Result<mpsc::Sender<()>> {
    let (guard, ended) = mpsc::channel();
    std::thread::Builder::new().name("kvd-watchdog".to_owned()).spawn(move || {
        if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("draining hangs; the process ends itself");
            std::process::exit(1);
        }
    })?;
    Ok(guard)
}

/// Makes this process end (by SIGTERM) when the one that started it ends.
///
/// # Errors
/// The system refuses, or that process has ended already.
pub fn follow_parent() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    // It may have ended before we asked; then somebody else is our parent.
    let adopted =
        rustix::process::getppid().is_none_or(|parent| parent.as_raw_nonzero().get() == 1);
    anyhow::ensure!(!adopted, "the process that started this one has ended");
    Ok(())
}

/// Says something to the person at the terminal. One that is not there does not hear it.
pub fn say_error(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        let few = Rlimit { current: Some(256), ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, few).unwrap();
        raise_file_limit().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_ne!(limit.current, Some(256));
    }
}

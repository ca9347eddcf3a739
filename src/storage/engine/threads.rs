//! The engine's threads: for the log, for flushes, for compactions, and one that syncs at intervals.
//!
//! They decide nothing; each waits for work under the commit lock and runs the step that does it.

use core::time::Duration;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use parking_lot::MutexGuard;

use super::core::{Core, Phase};
use crate::storage::error::Error;
use crate::storage::options::SyncMode;

/// How long a flush or a compaction that found the disk full waits before it tries again.
const FULL_RETRY: Duration = Duration::from_millis(500);

type Body = fn(&Core);

/// Starts the threads of a threaded engine.
///
/// # Errors
/// When the system gives no thread; those already started have ended.
pub(super) fn start(core: &Arc<Core>) -> Result<Vec<JoinHandle<()>>, Error> {
    let mut bodies: Vec<(&str, Body)> =
        vec![("kv-log", log), ("kv-flush", flush), ("kv-compact", compact)];
    if matches!(core.options.sync, SyncMode::Interval(_)) {
        bodies.push(("kv-sync", tick));
    }
    let mut threads = Vec::new();
    for (name, body) in bodies {
        let shared = Arc::clone(core);
        match Builder::new().name(name.to_owned()).spawn(move || body(&shared)) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                core.commit.lock().phase = Phase::Closing;
                core.wake_all();
                join(threads);
                return Err(Error::io("start a thread for", &core.dir, error));
            }
        }
    }
    Ok(threads)
}

/// Waits for threads to end; one that is the caller itself is left alone.
pub(super) fn join(threads: Vec<JoinHandle<()>>) {
    let this = std::thread::current().id();
    for thread in threads.into_iter().filter(|thread| thread.thread().id() != this) {
        // A panic has been printed by its thread; here there is nothing left to save.
        let _panicked = thread.join();
    }
}

fn log(core: &Core) {
    loop {
        if core.log_step() {
            continue;
        }
        let mut commit = core.commit.lock();
        while commit.queue.is_empty() && !commit.sync_due {
            if commit.phase != Phase::Running {
                return;
            }
            core.log_wake.wait(&mut commit);
        }
    }
}

fn flush(core: &Core) {
    loop {
        if core.flush_step() {
            continue;
        }
        let mut commit = core.commit.lock();
        if commit.phase != Phase::Running {
            return;
        }
        if commit.flush_blocked.is_some() {
            core.flush_wake.wait_for(&mut commit, FULL_RETRY);
            commit.flush_blocked = None;
        } else {
            let ready = core.view.load().sealed.last().map(|memtable| memtable.last());
            if commit.latched.is_some() || ready.is_none_or(|last| last > commit.resolved) {
                core.flush_wake.wait(&mut commit);
            }
        }
    }
}

fn compact(core: &Core) {
    loop {
        {
            let mut commit = core.commit.lock();
            while commit.phase == Phase::Running && !commit.compacting.due {
                if commit.compacting.blocked.is_some() {
                    core.compact_wake.wait_for(&mut commit, FULL_RETRY);
                    commit.compacting.blocked = None;
                    commit.compacting.due = true;
                } else {
                    core.compact_wake.wait(&mut commit);
                }
            }
            if commit.phase != Phase::Running {
                return;
            }
            commit.compacting.due = false;
        }
        while core.compact_step() {
            core.pace(core.options.compaction_step_bytes);
        }
    }
}

fn tick(core: &Core) {
    let SyncMode::Interval(interval) = core.options.sync else { return };
    let mut commit = core.commit.lock();
    while commit.phase == Phase::Running {
        core.tick_wake.wait_for(&mut commit, interval);
        if commit.unsynced {
            MutexGuard::unlocked(&mut commit, || core.sync_beside());
        }
    }
}

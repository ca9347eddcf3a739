//! The engine's threads: for the log, for its files, for flushes, some for compactions, and one that
//! syncs at intervals.
//!
//! They decide nothing; each waits for work under the commit lock and runs the step that does it.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use parking_lot::MutexGuard;

use super::core::{Core, Phase};
use super::pace::Writer;
use crate::storage::error::Error;
use crate::storage::options::{Options, SyncMode, ThreadMode};

/// How long a flush or a compaction that found the disk full waits before it tries again.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// How often it is looked whether anything is written at all, for the work of idle times.
const IDLE_TICK: Duration = Duration::from_millis(125);
/// Most threads that merge when the options leave it to the machine.
const COMPACTION_CORES_MAX: usize = 8;
/// Most threads that merge in any case.
const COMPACTION_THREADS_MAX: usize = 64;

type Body = fn(&Core);

/// How many threads merge: as the options say, or half of the cores but one at least.
pub(super) fn compaction_threads(options: &Options) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
    let wanted = match options.compaction_threads {
        // A simulator's engine does not depend on the machine.
        0 if options.threads == ThreadMode::Inline => 1,
        0 => cores().min(COMPACTION_CORES_MAX),
        wanted => wanted,
    };
    wanted.clamp(1, COMPACTION_THREADS_MAX)
}

/// Starts the threads of a threaded engine.
///
/// # Errors
/// When the system gives no thread; those already started have ended.
pub(super) fn start(core: &Arc<Core>) -> Result<Vec<JoinHandle<()>>, Error> {
    let mut bodies: Vec<(&str, Body)> = vec![
        ("kv-log", log),
        ("kv-upkeep", upkeep),
        ("kv-flush", flush),
        ("kv-compact", compact_first),
    ];
    bodies.extend((1..compaction_threads(&core.options)).map(|_| ("kv-compact", compact as Body)));
    if matches!(core.options.sync, SyncMode::Interval(_)) {
        bodies.push(("kv-sync", tick));
    }
    let mut threads = Vec::new();
    for (name, body) in bodies {
        let shared = Arc::clone(core);
        let watched = move || {
            let _watch = Watch(&shared);
            body(&shared);
        };
        match Builder::new().name(name.to_owned()).spawn(watched) {
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

/// Makes the engine read-only when its thread ends by a broken invariant. Without it all who wait for
/// the work of that thread would wait for ever.
struct Watch<'a>(&'a Core);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.latch_for("a thread of the engine has met a broken invariant");
            // It may have been the thread that answers those whose batches wait.
            while self.0.log_step() {}
        }
    }
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

fn upkeep(core: &Core) {
    loop {
        while core.upkeep_step() {}
        let mut commit = core.commit.lock();
        if commit.upkeep_blocked {
            core.upkeep_wake.wait_for(&mut commit, FULL_RETRY);
            commit.upkeep_blocked = false;
        } else {
            while !commit.upkeep_due && commit.phase == Phase::Running {
                core.upkeep_wake.wait(&mut commit);
            }
        }
        if commit.phase != Phase::Running {
            return;
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
            let waits = commit.latched.is_some() || commit.holds_flushes;
            if waits || ready.is_none_or(|last| last > commit.resolved) {
                core.flush_wake.wait(&mut commit);
            }
        }
    }
}

/// The first of the threads that merge also looks for idle times.
fn compact_first(core: &Core) {
    merge(core, true);
}

fn compact(core: &Core) {
    merge(core, false);
}

fn merge(core: &Core, is_first: bool) {
    let mut slots = VecDeque::new();
    while wait_for_merges(core, is_first) {
        while let Some(written) = core.compact_step(&mut slots, 1) {
            core.pace(Writer::Compaction, written);
        }
    }
    core.abandon_compactions(&mut slots);
}

/// Waits until there may be something to merge. False when the engine closes.
fn wait_for_merges(core: &Core, is_first: bool) -> bool {
    let mut commit = core.commit.lock();
    while commit.phase == Phase::Running && !commit.compacting.due {
        if commit.compacting.blocked.is_some() {
            core.compact_wake.wait_for(&mut commit, FULL_RETRY);
            commit.compacting.blocked = None;
            commit.compacting.due = true;
        } else if is_first {
            if core.compact_wake.wait_for(&mut commit, IDLE_TICK).timed_out() {
                core.tick_idle(&mut commit);
                let newest = core.view.load().levels.deleted().newest();
                commit.compacting.tick_deleted(newest);
            }
        } else {
            core.compact_wake.wait(&mut commit);
        }
    }
    commit.compacting.due = false;
    commit.phase == Phase::Running
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

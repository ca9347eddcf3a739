//! What one node stores: the key layout over the engine, merging on write, and what is restored at
//! boot. Synchronous; knows no ring, no peer and no clock.
//!
//! Writing is read, merge, write under a lock of the key's stripe. A version that is already
//! there, or that loses to what is there, is answered like one that was stored: only when all that
//! came before it is durable. Otherwise an acknowledgement could rest on a version that a crash
//! still takes away.

mod causal;
mod copy;
mod execute;
mod files;
mod hints;
mod kept;
mod keyspace;
mod overlay;
mod record;
mod register;
mod restore;
mod scan;
mod sweep;
mod unit;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use crate::message::{DiskAnswer, DiskError, DiskRequest, Restored};
use crate::storage::vfs::Vfs;
use crate::storage::{self, Engine, Options, Stats, SyncMode, ThreadMode};

/// Called once with the outcome of a request, from whichever thread finished it. Must not block.
pub type Done = Box<dyn FnOnce(Result<DiskAnswer, DiskError>) + Send>;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The engine refuses; says which file and why.
    #[error("{0}")]
    Storage(#[from] storage::Error),
    /// A record of the node itself does not decode.
    #[error("{}: the node's own record {record:?} is damaged: {reason}", dir.display())]
    Meta {
        /// The store.
        dir: PathBuf,
        /// Its key.
        record: Vec<u8>,
        /// What does not hold.
        reason: String,
    },
}

/// How many stripes of keys are locked apart from each other.
const STRIPES: usize = 256;

/// One node's store. A handle: clones share it.
#[derive(Clone, Debug)]
pub struct Replica {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    /// Held over the read, the merge and the submission of one write, never over a sync.
    stripes: Vec<Mutex<()>>,
    /// Changes of causal tables by this node that are not durable yet.
    /// Promises and accepts of linearizable tables that are not known to be durable.
    unsynced: register::Unsynced,
    /// Nothing runs by itself: a simulator steps the engine.
    inline: bool,
    /// Units whose writes go beside their range.
    overlays: overlay::Overlays,
    /// Units that are given as files.
    exports: files::Exports,
    /// Units that are taken as files.
    stages: files::Stages,
    /// For files of units; the engine's own are the engine's.
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    /// Somebody has asked for all tables to be merged, and it is being done.
    compacting: AtomicBool,
}

impl Replica {
    /// Opens the store in `dir`, or makes one, and reads the node's own records.
    ///
    /// # Errors
    /// See [`ReplicaError`]; nothing is changed then but torn tails of the log.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        options: Options,
    ) -> Result<(Replica, Restored), ReplicaError> {
        let inline = options.threads == ThreadMode::Inline;
        let keeps_writes = options.sync == SyncMode::Always;
        let (engine, recovery) = Engine::open(vfs.clone(), dir, options)?;
        restore::note_damage(&engine, &recovery)?;
        let mut restored = restore::restore(&engine, dir)?;
        if !keeps_writes {
            // What this node told others it wrote may be gone after a power failure.
            restored.tenure = None;
            restored.forgets = true;
        }
        restored.unreadable =
            recovery.unreadable.iter().map(|table| table.display().to_string()).collect();
        let stripes = (0..STRIPES).map(|_| Mutex::new(())).collect();
        let compacting = AtomicBool::new(false);
        let unsynced = register::Unsynced::new(STRIPES);
        let overlays = overlay::Overlays::default();
        restored.fills.iter().for_each(|(unit, record)| overlays.set(*unit, Some(record)));
        let (exports, stages) = (files::Exports::default(), files::Stages::default());
        let dir = dir.to_path_buf();
        let shared = Shared {
            engine,
            stripes,
            unsynced,
            inline,
            overlays,
            exports,
            stages,
            vfs,
            dir,
            compacting,
        };
        // What an earlier boot was given or gave is begun anew.
        files::clear_all(&shared);
        Ok((Replica { shared: Arc::new(shared) }, restored))
    }

    /// Carries out a request if memory can answer it, without ever waiting for a disk; hands it
    /// back otherwise. `done` may be called before this returns. What it writes is on its way to the
    /// log only after [`Replica::wake_log`] or [`Replica::write_log`]: one serves many requests.
    pub fn try_execute(&self, request: DiskRequest, done: Done) -> Option<(DiskRequest, Done)> {
        execute::try_execute(&self.shared, request, done)
    }

    /// Sends what [`Replica::try_execute`] has written on its way.
    pub fn wake_log(&self) {
        self.shared.engine.wake_log();
    }

    /// The same without waking anyone where a write does not wait for a sync and the log is free: it
    /// is written here and now, and what was waiting for it is called back before this returns.
    /// Takes microseconds, see [`Engine::write_through`].
    pub fn write_log(&self) {
        self.shared.engine.write_through();
    }

    /// Whether [`Replica::write_log`] ever writes itself.
    pub fn writes_through(&self) -> bool {
        self.shared.engine.writes_through()
    }

    /// Carries out a request; may wait for reads of the disk, never for a sync unless the request
    /// is a flush.
    pub fn execute(&self, request: DiskRequest, done: Done) {
        let writes = request.may_write();
        execute::execute(&self.shared, request, done);
        if writes {
            self.wake_log();
        }
    }

    /// Does one pending piece of work of an inline store, for simulators. Returns whether there
    /// was any.
    pub fn step(&self) -> bool {
        self.shared.engine.step()
    }

    /// The interval of `SyncMode::Interval` is over, for simulators.
    pub fn interval_elapsed(&self) {
        self.shared.engine.interval_elapsed();
    }

    /// Figures of the engine.
    pub fn stats(&self) -> Stats {
        self.shared.engine.stats()
    }

    /// Finishes what was begun, syncs the log, and unlocks the directory.
    ///
    /// # Errors
    /// When the engine had failed: what was not acknowledged may be lost.
    pub fn close(&self) -> Result<(), ReplicaError> {
        Ok(self.shared.engine.close()?)
    }
}

/// The error as the node knows it.
fn disk_error(error: &storage::Error) -> DiskError {
    match error {
        storage::Error::ReadOnly { cause } => DiskError::ReadOnly(cause.to_string()),
        storage::Error::DiskFull => DiskError::Full,
        storage::Error::Overloaded { .. } => DiskError::Overloaded,
        storage::Error::Corrupt { .. } | storage::Error::Missing { .. } => {
            DiskError::Corruption(error.to_string())
        }
        other => DiskError::Io(other.to_string()),
    }
}

#[cfg(test)]
mod causal_tests;
#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod register_tests;
#[cfg(test)]
mod tests;

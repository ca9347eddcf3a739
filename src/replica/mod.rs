//! What one node stores: the key layout over the engine, merging on write, and what is restored at
//! boot. Synchronous; knows no ring, no peer and no clock.
//!
//! Writing is read, merge, write under a lock of the key's stripe. A version that is already
//! there, or that loses to what is there, is answered like one that was stored: only when all that
//! came before it is durable. Otherwise an acknowledgement could rest on a version that a crash
//! still takes away.

mod aside;
mod background;
mod causal;
mod changes;
mod copy;
mod damage;
mod deletes;
mod exact;
mod execute;
mod files;
mod floors;
mod hints;
mod kept;
mod keyspace;
mod overlay;
mod own;
mod record;
mod register;
mod restore;
mod scan;
mod sweep;
mod together;
mod trees;
mod unit;

pub(crate) use background::give_way;
pub use trees::{TreeFacts, TreesChecked};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

use crate::message::{DiskAnswer, DiskError, DiskRequest, Restored};
use crate::storage::vfs::Vfs;
use crate::storage::{
    self, Batch, Durability, Engine, OnDone, Options, Seqno, Stats, SyncMode, ThreadMode,
};

/// Called once with the outcome of a request, from whichever thread finished it. Must not block.
pub type Done = Box<dyn FnOnce(Result<DiskAnswer, DiskError>) + Send>;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The engine refuses; says which file and why.
    #[error("{0}")]
    Storage(#[from] storage::Error),
    /// Files of the store are missing. Nothing has been changed.
    #[error("{}", missing_text(.0))]
    Missing(Vec<MissingPart>),
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

/// A file that is missing, and what may be lost with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingPart {
    /// The file.
    pub file: PathBuf,
    /// What may be lost, in words.
    pub lost: String,
}

fn missing_text(parts: &[MissingPart]) -> String {
    let part = |part: &MissingPart| format!("{} is missing ({})", part.file.display(), part.lost);
    let parts: Vec<String> = parts.iter().map(part).collect();
    format!(
        "{}. If it cannot be put back, `kvd data rebuild` makes a store of what is left, which is then \
         filled from the other nodes (docs/operating.md, \"Files that are missing\")",
        parts.join("; ")
    )
}

/// Makes of a store with files missing one that opens and knows what it lacks; says what that is.
///
/// # Errors
/// [`ReplicaError::Storage`]: in use, without a manifest, or the file system refuses.
pub fn rebuild(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<MissingPart>, ReplicaError> {
    Ok(storage::rebuild(vfs, dir)?.iter().map(damage::missing).collect())
}

/// How many stripes of keys are locked apart from each other.
const STRIPES: usize = 256;

/// One node's store. A handle: clones share it.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Goes first: it ends what still reads.
    builder: Arc<trees::Builder>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    /// Held over the read, the merge and the submission of one write, never over a sync.
    stripes: Arc<Vec<Mutex<()>>>,
    /// Held by all over the submission of a batch, and alone over the mending of own records.
    submitting: RwLock<()>,
    /// Changes of causal tables by this node that are not durable yet.
    /// Promises and accepts of linearizable tables that are not known to be durable.
    unsynced: register::Unsynced,
    /// Nothing runs by itself: a simulator steps the engine.
    inline: bool,
    /// What the units hold, told by every merge.
    trees: Arc<trees::Trees>,
    /// Puts them on file.
    keeper: Arc<trees::Keeper>,
    /// Units whose writes go beside their range.
    overlays: overlay::Overlays,
    /// How far deletes of units may be purged.
    floors: floors::Floors,
    /// Open for the next pages of scans.
    cursors: scan::Cursors,
    /// What has been merged lately, for those who watch.
    changes: Arc<changes::Changes>,
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

impl Shared {
    /// Submits a batch; every one that may hold records of the node itself goes through here.
    fn submit_quietly(
        &self,
        batch: Batch,
        durability: Durability,
        on_done: OnDone,
    ) -> Result<Seqno, (storage::Error, OnDone)> {
        let _many = self.submitting.read();
        self.engine.submit_quietly(batch, durability, on_done)
    }
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
        // What the node knows of itself cannot be had from others.
        let options = Options { apart: own::SPACES.to_vec(), holds_flushes: true, ..options };
        let opened = Engine::open(vfs.clone(), dir, options);
        let (engine, recovery) = opened.map_err(|error| match error {
            storage::Error::Missing { .. } => match storage::missing(&*vfs, dir) {
                Ok(all) => ReplicaError::Missing(all.iter().map(damage::missing).collect()),
                Err(error) => error.into(),
            },
            error => error.into(),
        })?;
        if !recovery.corrupt.is_empty() {
            // The damaged log is flushed away. No tree that was kept is of what is left.
            engine.release_flushes();
        }
        restore::note_damage(&engine, &recovery)?;
        let mut restored = restore::restore(&engine, dir)?;
        if !keeps_writes {
            // What this node told others it wrote may be gone after a power failure.
            restored.tenure = None;
            restored.forgets = true;
        }
        if !restored.damage.is_empty() {
            restored.tenure = None;
        }
        restored.unreadable =
            recovery.unreadable.iter().map(|table| table.display().to_string()).collect();
        let stripes = Arc::new((0..STRIPES).map(|_| Mutex::new(())).collect::<Vec<_>>());
        let compacting = AtomicBool::new(false);
        let unsynced = register::Unsynced::new(STRIPES);
        let overlays = overlay::Overlays::default();
        restored.fills.iter().for_each(|(unit, record)| overlays.set(*unit, Some(record)));
        let floors = floors::Floors::new(&restored);
        let (exports, stages) = (files::Exports::default(), files::Stages::default());
        let dir = dir.to_path_buf();
        let (trees, keeper) = open_trees((&vfs, &dir), &engine, (&recovery, &stripes))?;
        let shared = Shared {
            engine,
            trees,
            keeper,
            stripes,
            submitting: RwLock::new(()),
            unsynced,
            inline,
            overlays,
            floors,
            cursors: scan::Cursors::default(),
            changes: Arc::default(),
            exports,
            stages,
            vfs,
            dir,
            compacting,
        };
        // What an earlier boot was given or gave is begun anew.
        files::clear_all(&shared);
        own::mend_all(&shared);
        let shared = Arc::new(shared);
        let builder = trees::Builder::start(&shared)
            .map_err(|error| storage::Error::io("start a thread for", &shared.dir, error))?;
        Ok((Replica { builder: Arc::new(builder), shared }, restored))
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
        let more = self.shared.engine.step();
        // For nothing: it is to change neither when nor how often a simulator's disk steps.
        trees::step(&self.shared);
        more
    }

    /// Compares the trees with what the store holds, for simulators and tests: nothing is written
    /// meanwhile.
    ///
    /// # Errors
    /// In words, which unit's tree is another one.
    pub fn check_trees(&self) -> Result<TreesChecked, String> {
        trees::check(&self.shared)
    }

    /// Reads for all trees until nothing is wanted, for simulators and tests of inline stores.
    pub fn settle_trees(&self) {
        while trees::step(&self.shared) {}
    }

    /// The interval of `SyncMode::Interval` is over, for simulators.
    pub fn interval_elapsed(&self) {
        self.shared.engine.interval_elapsed();
    }

    /// Figures of the engine.
    pub fn stats(&self) -> Stats {
        self.shared.engine.stats()
    }

    /// Figures of the trees of units. Looks at each.
    pub fn tree_facts(&self) -> TreeFacts {
        let [file_bytes, file_written, file_failed] = self.shared.keeper.figures();
        let facts = self.shared.trees.facts();
        TreeFacts { file_bytes, file_written, file_failed, ..facts }
    }

    /// Finishes what was begun, syncs the log, and unlocks the directory.
    ///
    /// # Errors
    /// When the engine had failed: what was not acknowledged may be lost.
    pub fn close(&self) -> Result<(), ReplicaError> {
        self.builder.end();
        self.shared.cursors.end_all();
        let closed = self.shared.engine.close();
        if closed.is_ok() {
            self.shared.keeper.close(self.shared.engine.snapshot().seqno());
        }
        Ok(closed?)
    }
}

/// The trees that are on file of a store that has just been opened, and what keeps them there.
fn open_trees(
    (vfs, dir): (&Arc<dyn Vfs>, &Path),
    engine: &Engine,
    (recovery, stripes): (&storage::Recovery, &Arc<Vec<Mutex<()>>>),
) -> Result<(Arc<trees::Trees>, Arc<trees::Keeper>), ReplicaError> {
    let taken = trees::take(&**vfs, dir, recovery);
    let mut taken = taken.map_err(|error| storage::Error::io("take the trees of", dir, error))?;
    let trees = trees::Trees::new(engine.undone(), &mut taken, engine.snapshot());
    let trees = Arc::new(trees);
    let place = (Arc::clone(vfs), dir.to_path_buf());
    let keeper = trees::Keeper::new(place, Arc::clone(stripes), Arc::clone(&trees), &taken);
    let keeper = Arc::new(keeper);
    let flushing = Arc::clone(&keeper);
    engine.before_flush(Box::new(move |moment| flushing.before_flush(moment)));
    Ok((trees, keeper))
}

/// The error as the node knows it.
fn disk_error(error: &storage::Error) -> DiskError {
    match error {
        storage::Error::ReadOnly { cause } => DiskError::ReadOnly(cause.to_string()),
        storage::Error::DiskFull => DiskError::Full,
        storage::Error::TakenBack => DiskError::TakenBack,
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
mod change_tests;
#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod floor_tests;
#[cfg(test)]
mod leaf_tests;
#[cfg(test)]
mod own_tests;
#[cfg(test)]
mod register_tests;
#[cfg(test)]
mod scan_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod together_tests;

//! What all parts of an open engine share, and which lock guards what.
//!
//! Order of locks: `flushing`, then `merges`, then `picking`, then `log`, then `manifest`, then
//! `syncing`, then `commit`. Readers take none: they load `view`. `commit` is held for moments only, never across a
//! file operation, nor while anything is made that grows with the number of tables. The levels of the
//! view change only with `manifest` in hand too.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use super::compact::Running;
use super::compacting::Compacting;
use super::hook::BeforeFlush;
use super::logs::Logs;
use super::pace::Pace;
use super::room::Room;
use crate::storage::batch::{SealedBatch, Seqno};
use crate::storage::cache::BlockCache;
use crate::storage::compaction::Reason;
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::levels::Levels;
use crate::storage::manifest::Manifest;
use crate::storage::memtable::{ChunkPool, Memtable};
use crate::storage::options::Options;
use crate::storage::vfs::{DirLock, Vfs};
use crate::storage::wal::Spare;

/// Most deleted ranges that may wait for the merge that ends them; more are refused.
pub(super) const DELETED_RANGES_MAX: usize = 1_024;

/// What to call when a batch is as durable as asked, or has failed.
pub type OnDone = Box<dyn FnOnce(Result<Seqno, Error>) + Send>;

/// What a reader looks at: newest first the active memtable, the sealed ones, the tables.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) active: Arc<Memtable>,
    /// Newest first.
    pub(super) sealed: Vec<Arc<Memtable>>,
    pub(super) levels: Arc<Levels>,
}

impl View {
    pub(super) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.sealed)
    }

    /// How many deleted ranges readers have to heed.
    pub(super) fn deleted_ranges(&self) -> usize {
        let memory = self.memtables().filter_map(|memtable| memtable.deleted.get());
        let memory: usize = memory.map(|deleted| deleted.ranges().len()).sum();
        memory + self.levels.deleted().ranges().len()
    }

    pub(super) fn memory(&self) -> usize {
        self.memtables().map(|memtable| memtable.bytes()).sum()
    }
}

/// Whom to tell of the fate of a batch.
pub(super) enum Done {
    Call(OnDone),
    /// A thread that waits.
    Wake(Arc<Waiter>),
    /// The thread that writes the batch itself.
    Nobody,
}

/// Where a thread waits for its batch.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    answer: Mutex<Option<Result<Seqno, Error>>>,
    answered: Condvar,
}

impl Waiter {
    pub(super) fn answer(&self, answer: Result<Seqno, Error>) {
        *self.answer.lock() = Some(answer);
        self.answered.notify_one();
    }

    /// The answer, if it is there.
    pub(super) fn take(&self) -> Option<Result<Seqno, Error>> {
        self.answer.lock().take()
    }

    pub(super) fn wait(&self) -> Result<Seqno, Error> {
        let mut answer = self.answer.lock();
        loop {
            match answer.take() {
                Some(answer) => return answer,
                None => self.answered.wait(&mut answer),
            }
        }
    }
}

/// A batch that waits for the log.
pub(super) struct Pending {
    pub(super) batch: SealedBatch,
    pub(super) seqno: Seqno,
    pub(super) synced: bool,
    /// Where the batch has been made visible, to take it back if it cannot be logged.
    pub(super) memtable: Arc<Memtable>,
    pub(super) done: Done,
}

impl Pending {
    /// What it counts as against the bound on waiting bytes.
    pub(super) fn cost(&self) -> usize {
        Self::cost_of(&self.batch)
    }

    pub(super) fn cost_of(batch: &SealedBatch) -> usize {
        batch.payload().len() + 256
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// Nothing more is taken in; what waits is finished.
    Closing,
    Closed,
}

/// Guarded by the commit lock.
pub(super) struct Commit {
    /// The last number given.
    pub(super) last: Seqno,
    pub(super) queue: VecDeque<Pending>,
    /// Bytes in the queue and in the group that is being written.
    pub(super) waiting_bytes: usize,
    /// All batches up to here are logged as asked or have failed.
    pub(super) resolved: Seqno,
    /// All batches up to here are in tables.
    pub(super) flushed: Seqno,
    /// The log holds bytes that are not synced.
    pub(super) unsynced: bool,
    /// The last group that held anything found the disk full.
    pub(super) full: bool,
    /// Someone wants them synced.
    pub(super) sync_due: bool,
    pub(super) phase: Phase,
    /// Why nothing may be written any more.
    pub(super) latched: Option<Arc<str>>,
    /// Nobody has said yet what is to be done before a flush.
    pub(super) holds_flushes: bool,
    /// Why the last flush failed, if it may be tried again.
    pub(super) flush_blocked: Option<Error>,
    /// Something is to be done for the log in the background.
    pub(super) upkeep_due: bool,
    /// It found the disk full.
    pub(super) upkeep_blocked: bool,
    /// Files of log segments that the manifest has forgotten, kept to be used again.
    pub(super) old_logs: Vec<FileNo>,
    pub(super) compacting: Compacting,
}

impl Commit {
    pub(super) fn refusal(&self) -> Option<Error> {
        if self.phase != Phase::Running {
            return Some(Error::Closed);
        }
        self.latched.as_ref().map(|cause| Error::ReadOnly { cause: Arc::clone(cause) })
    }
}

/// Figures that only rise.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) batches: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) log_syncs: AtomicU64,
    pub(super) log_bytes: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) batch_bytes: AtomicU64,
    pub(super) flush_bytes: AtomicU64,
    pub(super) compactions: AtomicU64,
    pub(super) moves: AtomicU64,
    pub(super) compaction_bytes_read: AtomicU64,
    pub(super) compaction_bytes: AtomicU64,
    /// The same by the reason of the job.
    pub(super) bytes_for: [AtomicU64; Reason::COUNT],
    pub(super) superseded: AtomicU64,
    pub(super) tombstones: AtomicU64,
    pub(super) hidden: AtomicU64,
    pub(super) filtered: AtomicU64,
    pub(super) replaced: AtomicU64,
    /// Bytes of blob files written.
    pub(super) blob_bytes: AtomicU64,
    /// Bytes of their records that were there before.
    pub(super) blob_moved: AtomicU64,
    /// Number of blob files of which nothing was left.
    pub(super) blob_gone: AtomicU64,
}

pub(super) struct Core {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) view: ArcSwap<View>,
    pub(super) cache: Arc<BlockCache>,
    /// What memtables are made of, between two of them.
    pub(super) chunks: Arc<ChunkPool>,
    pub(super) commit: Mutex<Commit>,
    /// The last batch that is wholly in a memtable: what readers read at. A reader takes its view
    /// first, so that nothing in the view is too new for the number.
    pub(super) visible: AtomicU64,
    /// The last batch that is as durable as it asked to be: so are all before it that were not taken
    /// back. It rises before anyone is called back, and after what was taken back has become invisible.
    pub(super) settled: AtomicU64,
    pub(super) manifest: Mutex<Manifest>,
    pub(super) log: Mutex<Logs>,
    /// Files for the next segments, in the order of their numbers. Added to under the lock of the
    /// manifest only; held for moments.
    pub(super) spares: Mutex<VecDeque<Spare>>,
    /// Held over every sync of the log and the booking of its failure.
    pub(super) syncing: Mutex<()>,
    /// The log thread calls back; the log itself is free by then.
    pub(super) calling: AtomicBool,
    /// Held over a flush, and while tables that are taken in are on their way from their number to
    /// the levels.
    pub(super) flushing: Mutex<()>,
    /// The merges that an inline engine has on its way; a thread has its own.
    pub(super) merges: Mutex<VecDeque<Running>>,
    /// Held while the next merge is chosen, so that no two are chosen from the same books.
    pub(super) picking: Mutex<()>,
    /// About how many bytes have to be merged until every level is within its bound.
    pub(super) debt: AtomicU64,
    /// The pace of writers that wait.
    pub(super) room: Room,
    /// Something has drained, for writers at a bound.
    pub(super) room_wake: Condvar,
    /// Memory or levels have drained, for writers that are slowed down.
    pub(super) slow_wake: Condvar,
    /// There is work for the log.
    pub(super) log_wake: Condvar,
    /// There is work for the upkeep of the log.
    pub(super) upkeep_wake: Condvar,
    /// There is work for the flush.
    pub(super) flush_wake: Condvar,
    /// A flush has ended, well or not.
    pub(super) flush_done: Condvar,
    /// There may be work for the compaction.
    pub(super) compact_wake: Condvar,
    /// A compaction has ended, well or not.
    pub(super) compact_done: Condvar,
    /// How much flushes and compactions may write.
    pub(super) pace: Pace,
    /// The threads that flush and merge should not rest any longer.
    pub(super) pace_wake: Condvar,
    /// The sync ticker should look whether it is over.
    pub(super) tick_wake: Condvar,
    pub(super) counters: Counters,
    /// How many groups were taken back because the disk was full. Rises after they have become
    /// invisible.
    pub(super) undone: Arc<AtomicU64>,
    pub(super) lock: Mutex<Option<Box<dyn DirLock>>>,
    /// What is to be done before a flush.
    pub(super) hook: OnceLock<BeforeFlush>,
    /// Another engine may have the directory now: nothing more is read for new callers.
    pub(super) closed: AtomicBool,
}

impl Core {
    pub(super) fn wake_all(&self) {
        let condvars = [
            &self.room_wake,
            &self.slow_wake,
            &self.log_wake,
            &self.upkeep_wake,
            &self.flush_wake,
            &self.flush_done,
            &self.compact_wake,
            &self.compact_done,
            &self.pace_wake,
            &self.tick_wake,
        ];
        for condvar in condvars {
            condvar.notify_all();
        }
    }

    /// Forbids all writing from now on. The first cause stands.
    pub(super) fn latch(&self, cause: &Error) {
        self.latch_for(&cause.to_string());
    }

    /// The same for a cause that is no error of the disk.
    pub(super) fn latch_for(&self, cause: &str) {
        self.commit.lock().latched.get_or_insert_with(|| cause.into());
        self.wake_all();
    }
}

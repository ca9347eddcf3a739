//! The engine: one store of ordered pairs in one directory.
//!
//! This file is the interface; what happens behind it is told in the order it happens by
//! [`open`], [`commit`], [`flush`], [`compact`] and [`read`]. The whole story is in `docs/storage.md`.

mod checkpoint;
mod commit;
mod compact;
mod compacting;
mod core;
mod damage;
mod export;
mod flush;
mod hook;
mod ingest;
mod logs;
mod open;
mod pace;
mod range;
mod read;
mod room;
mod scrub;
mod since;
mod stats;
mod threads;
mod write;

pub use self::core::OnDone;
pub use checkpoint::Checkpoint;
pub use damage::Damage;
pub use hook::{BeforeFlush, Moment};
pub use ingest::Ingested;
pub(super) use open::blobs_of;
pub use open::{CorruptRegion, Recovery};
pub use read::{Snapshot, TryGet};
pub use scrub::{ScrubPlace, Scrubbed};
pub use since::Since;
pub use stats::{CompactionBytes, LevelStats, Stats, Verified};

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;

use self::core::{Core, Phase};
use super::batch::{Batch, Seqno};
use super::error::Error;
use super::iter::{Direction, Iter};
use super::key_range::KeyRange;
use super::options::{Durability, Options, SyncMode, ThreadMode};
use super::vfs::Vfs;

/// A handle on an open engine; clones share it. When the last one is dropped, a threaded engine
/// closes; an inline one just stops, as if it had crashed.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
    owner: Arc<Owner>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("dir", &self.core.dir).finish_non_exhaustive()
    }
}

/// Ends the threads when the last handle goes.
struct Owner {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.core.options.threads == ThreadMode::Threaded {
            // Nobody is left to hear of a failure; those who wait for a batch are told.
            let _unheard = self.close();
        }
    }
}

impl Owner {
    fn close(&self) -> Result<(), Error> {
        {
            let mut commit = self.core.commit.lock();
            if commit.phase == Phase::Closed {
                return Ok(());
            }
            commit.phase = Phase::Closing;
            commit.sync_due = true;
        }
        self.core.wake_all();
        threads::join(std::mem::take(&mut *self.threads.lock()));
        // In inline mode all of the log's work is left; else only what its thread did not see.
        while self.core.log_step() {}
        self.core.abandon_compactions(&mut self.core.merges.lock());
        let mut commit = self.core.commit.lock();
        commit.phase = Phase::Closed;
        self.core.closed.store(true, Ordering::Release);
        let latched = commit.latched.clone();
        drop(commit);
        *self.core.lock.lock() = None;
        latched.map_or(Ok(()), |cause| Err(Error::ReadOnly { cause }))
    }
}

impl Engine {
    /// Opens the store in `dir`, or makes one there if the directory is empty or not there.
    /// Replays the log; damage in it is reported, see [`Recovery::corrupt`]. Each table stays open as
    /// long as it is part of the store: the process needs as many file descriptors as there are
    /// tables, about one for each [`Options::table_bytes`] of data.
    ///
    /// # Errors
    /// `Locked` when another engine has it open; `Missing`, `Corrupt` and `Version` when what is
    /// there cannot be believed, in which case nothing has been changed but torn tails; else what
    /// the file system says.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        options: Options,
    ) -> Result<(Self, Recovery), Error> {
        let threaded = options.threads == ThreadMode::Threaded;
        let (core, recovery) = open::open(vfs, dir, options)?;
        let core = Arc::new(core);
        core.note_cut_blobs();
        let threads = if threaded { threads::start(&core)? } else { Vec::new() };
        let owner = Arc::new(Owner { core: Arc::clone(&core), threads: Mutex::new(threads) });
        Ok((Self { core, owner }, recovery))
    }

    /// Applies a batch: readers see it when this returns, and `on_done` is called when it is as
    /// durable as asked, or has failed. Calls come in the order of the numbers returned here, from
    /// the log thread, from [`Engine::write_through`] or [`Engine::write`] of any thread, or from
    /// [`Engine::step`], never from inside this function; they must not block. An empty batch is a
    /// barrier: it is done when everything submitted before it is as durable as asked of it; its
    /// number is that of the last batch before it.
    ///
    /// # Errors
    /// `TooLong`, `TooMany`, `Overloaded`, `DiskFull`, `ReadOnly`, `Closed`: the batch is not applied and
    /// `on_done` is dropped uncalled. The error that `on_done` is called with: after `TakenBack` the
    /// batch has been taken back, for now and after a restart, but readers may have seen it (the next
    /// batches are refused at once, until there is room); after any other its fate is unknown.
    pub fn submit(
        &self,
        batch: Batch,
        durability: Durability,
        on_done: OnDone,
    ) -> Result<Seqno, Error> {
        let submitted = self.submit_quietly(batch, durability, on_done);
        let seqno = submitted.map_err(|(error, _uncalled)| error)?;
        self.wake_log();
        Ok(seqno)
    }

    /// The same without waking the log thread: whoever has several batches at once wakes it after
    /// the last with [`Engine::wake_log`] or [`Engine::write_through`], and they are one group.
    ///
    /// # Errors
    /// As for [`Engine::submit`], with the callback.
    pub(crate) fn submit_quietly(
        &self,
        batch: Batch,
        durability: Durability,
        on_done: OnDone,
    ) -> Result<Seqno, (Error, OnDone)> {
        self.core.submit(batch, durability, on_done)
    }

    /// Wakes the log thread for what was submitted quietly. Costs next to nothing when it is awake.
    pub fn wake_log(&self) {
        self.core.log_wake.notify_one();
    }

    /// Sends what was submitted quietly on its way without ever waiting for a disk: writes it to the
    /// log and calls back on this thread when that is a matter of one small `write` into the page
    /// cache, else wakes the log thread. It does the latter when someone waits for a sync, when the
    /// log is busy or is being synced, when more than 256 KiB wait, when the segment is full and no
    /// other is ready, or when the disk was full. In an inline engine it does nothing:
    /// [`Engine::step`] does the work.
    ///
    /// Callbacks must not block, and must not close the engine.
    pub fn write_through(&self) {
        if !self.writes_through() || !self.core.write_through() {
            self.wake_log();
        }
    }

    /// Whether [`Engine::write_through`] ever writes itself: where a write does not wait for a sync.
    pub fn writes_through(&self) -> bool {
        let options = &self.core.options;
        options.threads == ThreadMode::Threaded && options.sync != SyncMode::Always
    }

    /// Applies a batch and waits until it is as durable as the sync mode says. Where
    /// [`Engine::submit`] says `Overloaded` this waits for room; from a pressure of one half on it
    /// is slowed down, at most 10 ms a call, so that writers at full speed settle at the rate at
    /// which memory is flushed and tables are merged.
    ///
    /// # Errors
    /// As for [`Engine::submit`] but `Overloaded`, and `WrongMode` in an inline engine.
    pub fn write(&self, batch: Batch) -> Result<Seqno, Error> {
        if self.core.options.threads == ThreadMode::Inline {
            return Err(Error::WrongMode { call: "write" });
        }
        self.core.write(batch)
    }

    /// The value of `key`, and the batch that wrote it; `None` when there is none.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says, `Closed`; never "none" for what cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<(Bytes, Seqno)>, Error> {
        let view = self.core.open_view()?;
        view.get(key, self.core.visible())
    }

    /// What [`Engine::get`] says of each of `keys`, in their order, all as of one moment. Costs less
    /// than as many gets: keys that are near each other share the search for their block. A key may
    /// be asked for more than once; an error is of its key alone.
    ///
    /// ```
    /// # use roundtable::storage::{Batch, Engine, MemoryVfs, Options};
    /// # let disk = std::sync::Arc::new(MemoryVfs::default());
    /// # let (engine, _) = Engine::open(disk, "data".as_ref(), Options::default())?;
    /// let mut batch = Batch::new();
    /// batch.put(b"one", b"1");
    /// batch.put(b"two", b"2");
    /// engine.write(batch)?;
    /// let found = engine.multi_get(&["two", "three"]);
    /// assert_eq!(found[0].as_ref().unwrap().as_ref().unwrap().0, "2");
    /// assert!(found[1].as_ref().unwrap().is_none());
    /// # Ok::<(), roundtable::storage::Error>(())
    /// ```
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
    ) -> Vec<Result<Option<(Bytes, Seqno)>, Error>> {
        self.snapshot().multi_get(keys)
    }

    /// The value of `key` if memory alone can tell: memtables, the tables' filters and the cached
    /// blocks. Never touches the disk. After `close` it is always `NeedsDisk`, so that the caller
    /// hears of it from `get`.
    pub fn try_get(&self, key: &[u8]) -> TryGet {
        let view = self.core.open_view();
        view.map_or(TryGet::NeedsDisk, |view| view.try_get(key, self.core.visible()))
    }

    /// Whether a batch that a read has shown is as durable as it asked to be: nothing then takes it that
    /// an acknowledged batch of the same durability survives. One whose log could not be written or
    /// synced never is. A batch that was taken back is called settled once later ones are: compare
    /// [`Engine::undone`], read before the batch was, after this.
    pub fn is_settled(&self, seqno: Seqno) -> bool {
        seqno.0 <= self.core.settled.load(Ordering::SeqCst)
    }

    /// Counts the groups that were taken back because the disk was full. A caller that answers for
    /// something it read, behind a barrier, reads this before it reads and compares when the
    /// barrier is done: when the count has risen, what it read may have been taken back.
    pub fn undone(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.core.undone)
    }

    /// The pairs between two bounds as they are now, in the given direction.
    pub fn range(&self, start: Bound<&[u8]>, end: Bound<&[u8]>, direction: Direction) -> Iter {
        self.snapshot().range(start, end, direction)
    }

    /// The pairs whose keys begin with `prefix` as they are now, in the given direction.
    pub fn prefix(&self, prefix: &[u8], direction: Direction) -> Iter {
        self.snapshot().prefix(prefix, direction)
    }

    /// The store as it is now, whatever is written later.
    pub fn snapshot(&self) -> Snapshot {
        self.core.snapshot()
    }

    /// Does one pending piece of work of an inline engine: one group of the log with its
    /// callbacks, else one flush, else a bounded piece of compaction. Returns whether there was any.
    /// A threaded engine has none.
    pub fn step(&self) -> bool {
        let core = &self.core;
        let merges = || {
            let most = threads::compaction_threads(&core.options);
            core.compact_step(&mut core.merges.lock(), most).is_some()
        };
        core.options.threads == ThreadMode::Inline
            && (core.log_step() || core.upkeep_step() || core.flush_step() || merges())
    }

    /// Whether [`Engine::step`] would find a flush to do, which a simulator may want to charge
    /// more time for.
    pub fn has_flush_work(&self) -> bool {
        self.core.has_flush_work()
    }

    /// Says that the interval of [`super::SyncMode::Interval`] is over: the next step of the log
    /// syncs what is not synced, and a flush or a compaction that found the disk full is tried
    /// again. A threaded
    /// engine has a thread that says so; for an inline one its driver does.
    pub fn interval_elapsed(&self) {
        let mut commit = self.core.commit.lock();
        commit.sync_due |= commit.unsynced;
        commit.flush_blocked = None;
        commit.upkeep_blocked = false;
        commit.compacting.blocked = None;
        commit.compacting.due = true;
        if self.core.options.threads == ThreadMode::Inline {
            self.core.tick_idle(&mut commit);
        }
        self.core.log_wake.notify_one();
        self.core.compact_wake.notify_one();
    }

    /// Asks for all that is in memory to be flushed to tables, and does not wait.
    ///
    /// # Errors
    /// `ReadOnly` or `Closed`.
    pub fn request_flush(&self) -> Result<(), Error> {
        self.core.request_flush().map(drop)
    }

    /// Flushes all that is in memory to tables. In an inline engine this steps it until it is done,
    /// callbacks included.
    ///
    /// # Errors
    /// `DiskFull`: nothing is lost, try again; `ReadOnly` or `Closed`.
    pub fn flush(&self) -> Result<(), Error> {
        let target = self.core.request_flush()?;
        while self.step() {}
        self.core.wait_flushed(target)
    }

    /// Flushes all that is in memory and merges all tables into the last level, which drops all
    /// that is overwritten or deleted, and what [`Options::filter`] lets go. Tables that could not be
    /// read before are tried again. Waits for what was written before the call; later writes may be
    /// left in upper levels. In an inline engine this steps it until it is done, callbacks included.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says of a table that cannot be read: all that could be
    /// merged is merged, and nothing is lost. `DiskFull`: nothing is lost, try again. `ReadOnly`
    /// or `Closed`.
    pub fn compact(&self) -> Result<(), Error> {
        self.compact_range(&KeyRange::all())
    }

    /// The same for the keys of a range: everything in memory is flushed, and the tables that meet
    /// the range are merged into the last level, with those there that they meet.
    ///
    /// # Errors
    /// As for [`Engine::compact`]; damage in tables that do not meet the range is none.
    pub fn compact_range(&self, range: &KeyRange) -> Result<(), Error> {
        self.flush()?;
        let number = self.core.request_compaction(range.clone())?;
        while self.step() {}
        self.core.wait_compacted(number, range)
    }

    /// How near the engine is to refusing writes, 0 to 1: the greatest of memory used, of bytes
    /// that wait for the log, and of tables that wait to be merged, each as a share of its bound.
    pub fn pressure(&self) -> f64 {
        self.core.pressure()
    }

    /// Reads and checks every block of every table, every value in a blob file, and the order of the
    /// levels.
    pub fn verify(&self) -> Verified {
        self.core.verify()
    }

    /// Damage that reads, merges and openings have met since the last call, each looked at once more:
    /// what could be read then is none. What deleted ranges hide is none either, and merges leave it out.
    /// So to get rid of damage, a caller who has noted what is lost deletes all of [`Damage::ranges`].
    /// Until then damage that is met again is told again. Reads the disk.
    pub fn damage(&self) -> Vec<Damage> {
        self.core.damage()
    }

    /// Reads what is on disk from a place on, past all caches, until about `budget` bytes have been read;
    /// a block, a value or a segment of the log is read whole. What does not check is for
    /// [`Engine::damage`] to tell. Whoever goes on from [`Scrubbed::next`] until there is none has read
    /// every block that was there all the time.
    pub fn scrub(&self, from: ScrubPlace, budget: u64) -> Scrubbed {
        self.core.scrub(from, budget)
    }

    /// Takes note that damage of the log, as [`Recovery::corrupt`] has told it, is durably noted elsewhere:
    /// flushes what is around it, after which it is not told again.
    ///
    /// # Errors
    /// As for [`Engine::flush`]; what the file system says.
    pub fn forget_log_damage(&self) -> Result<(), Error> {
        self.flush()?;
        self.core.remove_lost()
    }

    /// Whether [`Engine::damage`] may have something to tell. Costs next to nothing.
    pub fn may_have_damage(&self) -> bool {
        self.core.cache.bad.any()
    }

    /// Figures of now.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Refuses new batches, finishes those that wait, syncs the log, ends the threads and unlocks
    /// the directory. Writes and reads through any handle are refused with `Closed` from then on;
    /// snapshots and ranges begun before read on, from memory and from the files they hold open.
    /// Memory is not flushed: the log has it. In an inline engine the callbacks come from here.
    ///
    /// # Errors
    /// `ReadOnly` when the engine had failed: what was not acknowledged may be lost.
    pub fn close(&self) -> Result<(), Error> {
        self.owner.close()
    }
}

#[cfg(test)]
mod tests;

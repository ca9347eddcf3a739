//! What the engine says of itself.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::core::{Core, Counters};
use crate::storage::batch::Seqno;
use crate::storage::compaction::Reason;
use crate::storage::error::Error;
use crate::storage::files::CURRENT;
use crate::storage::iter::{Direction, Range};
use crate::storage::levels::{LEVELS, Levels};
use crate::storage::merge::Merge;
use crate::storage::sstable::{ReadMode, Table};

/// Figures of an engine. Bytes unless said otherwise; the counts rise from its opening.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Tables, blob files and log together.
    pub disk_bytes: u64,
    /// All tables.
    pub table_bytes: u64,
    /// All keys in tables and all values that stand there, overwritten and deleted ones included, before compression.
    pub raw_bytes: u64,
    /// Number of blob files.
    pub blob_files: usize,
    /// All blob files.
    pub blob_bytes: u64,
    /// What of them tables refer to; the rest is overwritten or deleted.
    pub blob_live_bytes: u64,
    /// Bytes of blob files written, by flushes and compactions; counted there too.
    pub blob_bytes_written: u64,
    /// Bytes of values that were written anew, because much of their file was dead or it was small.
    pub blob_bytes_moved: u64,
    /// Number of blob files that are gone because nothing referred to them any more.
    pub blob_files_gone: u64,
    /// Number of tables.
    pub tables: usize,
    /// Each level, from level 0 down to the last.
    pub levels: Vec<LevelStats>,
    /// How many tables of level 0 a get may have to ask.
    pub level0_depth: usize,
    /// All log segments.
    pub wal_bytes: u64,
    /// Number of log segments.
    pub wal_segments: usize,
    /// All memtables, the sealed ones included.
    pub memtable_bytes: usize,
    /// Memory of flushed memtables that is kept for the next ones.
    pub memtable_spare_bytes: usize,
    /// Blocks of tables kept in memory, and indexes and filters that come and go as they do. Together
    /// with `table_memory_bytes` never more than `Options::block_cache_bytes`.
    pub cache_bytes: u64,
    /// Indexes and filters that are always in memory.
    pub table_memory_bytes: usize,
    /// Number of open tables whose index and filter have no room there and are read when they are
    /// needed: when there are many, `Options::block_cache_bytes` is too small for the store.
    pub unpinned_tables: u64,
    /// Number of blocks that were found in memory.
    pub cache_hits: u64,
    /// Number of blocks that were looked for there in vain.
    pub cache_misses: u64,
    /// Number of memtables that wait for their flush.
    pub sealed_memtables: usize,
    /// Batches that wait for the log.
    pub pending_bytes: usize,
    /// Number of batches submitted, barriers included.
    pub batches: u64,
    /// Number of groups the log has written them in.
    pub groups: u64,
    /// Number of syncs of the log.
    pub fsyncs: u64,
    /// Bytes written to the log.
    pub log_bytes_written: u64,
    /// Number of memtables flushed.
    pub flushes: u64,
    /// Bytes of the batches submitted.
    pub batch_bytes: u64,
    /// Bytes written by flushes.
    pub flush_bytes_written: u64,
    /// Number of compactions that merged tables.
    pub compactions: u64,
    /// Number of compactions that only gave a table another level.
    pub compaction_moves: u64,
    /// Bytes of the entries read by compactions.
    pub compaction_bytes_read: u64,
    /// Bytes written by compactions.
    pub compaction_bytes_written: u64,
    /// The same, by what they were for.
    pub compaction_bytes_for: CompactionBytes,
    /// How near the engine is to refusing writes, in thousandths: as [`Engine::pressure`](crate::storage::Engine::pressure),
    /// at most 1000.
    pub pressure_permille: u32,
    /// Number of waits of [`Engine::write`](crate::storage::Engine::write) for its pace, from a pressure of one half on.
    pub pace_waits: u64,
    /// All of these together, over all threads.
    pub pace_waited: Duration,
    /// Number of its waits at a bound, where [`Engine::submit`](crate::storage::Engine::submit) says `Overloaded`.
    pub bound_waits: u64,
    /// All of these together, over all threads.
    pub bound_waited: Duration,
    /// The longest wait of either kind.
    pub longest_wait: Duration,
    /// Number of entries that compactions dropped because a newer one was there.
    pub dropped_superseded: u64,
    /// Number of deletes that compactions dropped because nothing was left to hide.
    pub dropped_tombstones: u64,
    /// Number of entries dropped because their range was deleted, whole tables included.
    pub dropped_hidden: u64,
    /// Number of deleted ranges that still hide something, in memory or in tables.
    pub deleted_ranges: usize,
    /// Number of entries that compactions dropped because [`Options::filter`](crate::storage::Options::filter)
    /// let them go.
    pub dropped_filtered: u64,
    /// Number of entries that the filter let go and that were written as deletes, because an older
    /// version may lie below.
    pub replaced_filtered: u64,
    /// Number of compactions that are running.
    pub compaction_jobs: usize,
    /// How much the running compactions have to read.
    pub compaction_bytes_total: u64,
    /// How much of that they have read, about.
    pub compaction_bytes_done: u64,
    /// About how many bytes have to be merged until every level is within its bound.
    pub compaction_debt_bytes: u64,
    /// Damage that keeps tables from being merged, if there is any.
    pub compaction_error: Option<String>,
    /// The last batch submitted.
    pub last: Seqno,
    /// All batches up to here are in tables.
    pub flushed: Seqno,
    /// Why the engine is read-only, if it is.
    pub read_only: Option<String>,
}

impl Stats {
    /// Bytes written to disk for each byte of the batches submitted, the log included; 0 before the
    /// first.
    pub fn write_amplification(&self) -> f64 {
        let written =
            self.log_bytes_written + self.flush_bytes_written + self.compaction_bytes_written;
        if self.batch_bytes == 0 { 0.0 } else { written as f64 / self.batch_bytes as f64 }
    }
}

/// Bytes that compactions have written, tables and blob files, by what they were for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionBytes {
    /// Level 0 was too deep.
    pub depth: u64,
    /// Another level was larger than it may be.
    pub size: u64,
    /// [`Engine::compact`](crate::storage::Engine::compact) and its kin asked.
    pub asked: u64,
    /// A table was full of deletes.
    pub deletes: u64,
    /// [`Options::filter`](crate::storage::Options::filter) let much of a table go.
    pub droppable: u64,
    /// A deleted range hid some of a table.
    pub deleted_ranges: u64,
    /// Much of a blob file was dead.
    pub garbage: u64,
    /// Nothing else was to do, and room could be given back.
    pub idle: u64,
}

impl CompactionBytes {
    fn of(counters: &Counters) -> Self {
        let bytes = |reason: Reason| {
            let bytes = counters.bytes_for.get(reason as usize);
            bytes.map_or(0, |bytes| bytes.load(Ordering::Relaxed))
        };
        Self {
            depth: bytes(Reason::Depth),
            size: bytes(Reason::Size),
            asked: bytes(Reason::Asked),
            deletes: bytes(Reason::Deletes),
            droppable: bytes(Reason::Droppable),
            deleted_ranges: bytes(Reason::DeletedRange),
            garbage: bytes(Reason::Garbage),
            idle: bytes(Reason::Idle),
        }
    }
}

/// Figures of a level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LevelStats {
    /// Number of tables.
    pub tables: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Number of their entries, deletes included.
    pub entries: u64,
}

impl LevelStats {
    fn of(tables: &[Arc<Table>]) -> Self {
        Self {
            tables: tables.len(),
            bytes: tables.iter().map(|table| table.meta.bytes).sum(),
            entries: tables.iter().map(|table| table.meta.entries).sum(),
        }
    }
}

/// What reading everything has found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Number of tables read.
    pub tables: usize,
    /// Number of blocks read.
    pub blocks: u64,
    /// Number of blob files read.
    pub blobs: usize,
    /// Number of values in them, also of those that no table refers to any more.
    pub values: u64,
    /// Every damage found.
    pub errors: Vec<Error>,
}

impl Core {
    pub(super) fn stats(&self) -> Stats {
        let (wal_bytes, wal_segments) = self.log_size();
        #[expect(clippy::cast_possible_truncation, reason = "it is between 0 and 1000")]
        let pressure_permille = (self.pressure() * 1000.0) as u32;
        let waits = self.room.waits();
        let view = self.view.load_full();
        let levels = (0..LEVELS).map(|level| LevelStats::of(view.levels.level(level)));
        let levels: Vec<_> = levels.collect();
        let table_bytes = levels.iter().map(|level| level.bytes).sum();
        let (cache_hits, cache_misses) = self.cache.traffic();
        let (table_memory_bytes, unpinned_tables) = self.cache.pinned();
        let counters = &self.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let blobs = self.blob_stats(&view.levels);
        let raw_bytes = view.levels.all().map(|(_, table)| table.raw_bytes()).sum();
        // What grows with the number of tables is done: writers wait for this lock.
        let commit = self.commit.lock();
        let progress = || commit.compacting.progress.values();
        Stats {
            disk_bytes: table_bytes + blobs.blob_bytes + wal_bytes,
            table_bytes,
            raw_bytes,
            tables: levels.iter().map(|level| level.tables).sum(),
            levels,
            level0_depth: view.levels.depth(),
            wal_bytes,
            wal_segments,
            memtable_bytes: view.memory(),
            memtable_spare_bytes: self.chunks.bytes(),
            cache_bytes: self.cache.bytes(),
            table_memory_bytes,
            unpinned_tables,
            cache_hits,
            cache_misses,
            sealed_memtables: view.sealed.len(),
            pending_bytes: commit.waiting_bytes,
            batches: count(&counters.batches),
            groups: count(&counters.groups),
            fsyncs: count(&counters.log_syncs),
            log_bytes_written: count(&counters.log_bytes),
            flushes: count(&counters.flushes),
            batch_bytes: count(&counters.batch_bytes),
            flush_bytes_written: count(&counters.flush_bytes),
            compactions: count(&counters.compactions),
            compaction_moves: count(&counters.moves),
            compaction_bytes_read: count(&counters.compaction_bytes_read),
            compaction_bytes_written: count(&counters.compaction_bytes),
            compaction_bytes_for: CompactionBytes::of(counters),
            pressure_permille,
            pace_waits: waits.pace.count,
            pace_waited: waits.pace.waited,
            bound_waits: waits.bound.count,
            bound_waited: waits.bound.waited,
            longest_wait: waits.longest,
            dropped_superseded: count(&counters.superseded),
            dropped_tombstones: count(&counters.tombstones),
            dropped_hidden: count(&counters.hidden),
            deleted_ranges: view.deleted_ranges(),
            dropped_filtered: count(&counters.filtered),
            replaced_filtered: count(&counters.replaced),
            compaction_jobs: commit.compacting.progress.len(),
            compaction_bytes_total: progress().map(|job| job.total).sum(),
            compaction_bytes_done: progress().map(|job| job.done).sum(),
            compaction_debt_bytes: self.debt.load(Ordering::Relaxed),
            compaction_error: commit.compacting.damage.as_ref().map(ToString::to_string),
            last: commit.last,
            flushed: commit.flushed,
            read_only: commit.latched.as_ref().map(|cause| cause.to_string()),
            ..blobs
        }
    }

    /// Bytes and segments of the log.
    fn log_size(&self) -> (u64, usize) {
        let (log_bytes, spares) = {
            let logs = self.log.lock();
            let ended: u64 = logs.ended.iter().map(|ended| ended.bytes).sum();
            (ended + logs.writer.written(), self.spares.lock().len())
        };
        let (wal_sealed, wal_segments) = {
            let manifest = self.manifest.lock();
            let sealed = manifest.state.logs.values().flatten().map(|log| log.bytes).sum::<u64>();
            (sealed, manifest.state.logs.len().saturating_sub(spares))
        };
        (wal_sealed + log_bytes, wal_segments)
    }

    /// The figures of blob files alone.
    fn blob_stats(&self, levels: &Levels) -> Stats {
        let (blobs, counters) = (levels.blobs(), &self.counters);
        Stats {
            blob_files: blobs.len(),
            blob_bytes: blobs.values().map(|blob| blob.file.meta().bytes).sum(),
            blob_live_bytes: blobs.values().map(|blob| blob.live).sum(),
            blob_bytes_written: counters.blob_bytes.load(Ordering::Relaxed),
            blob_bytes_moved: counters.blob_moved.load(Ordering::Relaxed),
            blob_files_gone: counters.blob_gone.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }

    pub(super) fn verify(&self) -> Verified {
        let view = self.view.load_full();
        let mut verified = Verified::default();
        for (_, table) in view.levels.all() {
            let (blocks, errors) = table.verify();
            verified.tables += 1;
            verified.blocks += blocks;
            verified.errors.extend(errors);
        }
        for blob in view.levels.blobs().values() {
            let (values, error) = blob.file.verify();
            verified.blobs += 1;
            verified.values += values;
            verified.errors.extend(error);
        }
        if verified.errors.is_empty()
            && let Err(error) = self.verify_order(&view.levels)
        {
            verified.errors.push(error);
        }
        verified
    }

    /// Of two versions of a key, the one that is asked first must be the newer.
    fn verify_order(&self, levels: &Levels) -> Result<(), Error> {
        let sources = levels.sources(Direction::Forward, ReadMode::Passing).collect();
        let mut merge = Merge::new(sources, Range::all(), Direction::Forward);
        let mut last: Option<(Bytes, usize)> = None;
        while let Some(entry) = merge.next()? {
            let source = merge.source();
            // Versions come newest first, sources are numbered in the order they are asked.
            if last.is_some_and(|(key, newer)| key == entry.key && newer >= source) {
                let what = "an older version of a key lies above a newer one";
                return Err(Error::corrupt(&self.dir.join(CURRENT), 0, what));
            }
            last = Some((entry.key, source));
        }
        Ok(())
    }
}

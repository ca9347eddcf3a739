//! What the engine says of itself.

use std::sync::atomic::Ordering;

use super::core::Core;
use crate::storage::batch::Seqno;
use crate::storage::error::Error;

/// Figures of an engine. Bytes unless said otherwise; the counts rise from its opening.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Tables and log together.
    pub disk_bytes: u64,
    /// All tables.
    pub table_bytes: u64,
    /// Number of tables.
    pub tables: usize,
    /// All log segments.
    pub wal_bytes: u64,
    /// Number of log segments.
    pub wal_segments: usize,
    /// All memtables, the sealed ones included.
    pub memtable_bytes: usize,
    /// Blocks of tables kept in memory.
    pub cache_bytes: u64,
    /// Indexes and filters of all tables, which are in memory too.
    pub table_memory_bytes: usize,
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
    /// The last batch submitted.
    pub last: Seqno,
    /// All batches up to here are in tables.
    pub flushed: Seqno,
    /// Why the engine is read-only, if it is.
    pub read_only: Option<String>,
}

/// What reading everything has found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Number of tables read.
    pub tables: usize,
    /// Number of blocks read.
    pub blocks: u64,
    /// Every damage found.
    pub errors: Vec<Error>,
}

impl Core {
    pub(super) fn stats(&self) -> Stats {
        let (wal_sealed, wal_segments) = {
            let manifest = self.manifest.lock();
            let sealed = manifest.state.logs.values().flatten().map(|log| log.bytes).sum::<u64>();
            (sealed, manifest.state.logs.len())
        };
        let wal_bytes = wal_sealed + self.log.lock().written();
        let commit = self.commit.lock();
        let view = self.view.load();
        let table_bytes = view.version.tables.iter().map(|table| table.meta.bytes).sum();
        let (cache_hits, cache_misses) = self.cache.traffic();
        Stats {
            disk_bytes: table_bytes + wal_bytes,
            table_bytes,
            tables: view.version.tables.len(),
            wal_bytes,
            wal_segments,
            memtable_bytes: view.memory(),
            cache_bytes: self.cache.bytes(),
            table_memory_bytes: view.table_memory(),
            cache_hits,
            cache_misses,
            sealed_memtables: view.sealed.len(),
            pending_bytes: commit.waiting_bytes,
            batches: self.counters.batches.load(Ordering::Relaxed),
            groups: self.counters.groups.load(Ordering::Relaxed),
            fsyncs: self.counters.log_syncs.load(Ordering::Relaxed),
            log_bytes_written: self.counters.log_bytes.load(Ordering::Relaxed),
            flushes: self.counters.flushes.load(Ordering::Relaxed),
            last: commit.last,
            flushed: commit.flushed,
            read_only: commit.latched.as_ref().map(|cause| cause.to_string()),
        }
    }

    pub(super) fn verify(&self) -> Verified {
        let view = self.view.load_full();
        let mut verified = Verified { tables: view.version.tables.len(), ..Verified::default() };
        for table in &view.version.tables {
            let (blocks, errors) = table.verify();
            verified.blocks += blocks;
            verified.errors.extend(errors);
        }
        verified
    }
}

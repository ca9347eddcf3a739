//! What an opener chooses: sizes, durability, and who does the work.

use core::time::Duration;

use super::compaction::SharedFilter;

/// When a batch of [`Durability::Default`] counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// When it is on disk: one sync serves all batches that wait for it.
    Always,
    /// When the operating system has it; the log is synced this often. A power failure loses at
    /// most about this much time; the end of the process loses nothing.
    Interval(Duration),
    /// When the operating system has it; the log is synced when something asks, and on rotation.
    None,
}

/// What one batch asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// As [`SyncMode`] says.
    #[default]
    Default,
    /// On disk, whatever the mode; so is everything submitted before it.
    Synced,
}

/// Who runs the log and the flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadMode {
    /// Named threads of the engine.
    Threaded,
    /// Nobody: the caller steps the engine with `Engine::step`. For simulators.
    Inline,
}

/// How the blocks of a table are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// With LZ4: about half the size for text, and decompressed faster than a disk reads.
    Lz4,
    /// With Zstandard at level 1: denser, and about four times as slow to read. A build without the
    /// feature `zstd` says of such a block that it cannot read it.
    #[cfg(feature = "zstd")]
    Zstd,
}

/// Options of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Size at which a memtable is sealed and flushed, in bytes; default 64 MiB.
    pub memtable_bytes: usize,
    /// Bound on all memtables together, the sealed ones included, in bytes; default 256 MiB. Beyond
    /// it writes are refused with `Overloaded`. One that is flushed and that only a snapshot or an
    /// iterator still holds does not count: these are not to be kept for long.
    pub memory_bytes_max: usize,
    /// Bound on batches that wait for the log, in bytes; default 64 MiB. Beyond it writes are
    /// refused with `Overloaded`.
    pub pending_bytes_max: usize,
    /// Most bytes the log writes and syncs as one group; default 8 MiB.
    pub group_bytes_max: usize,
    /// Size at which a log segment is sealed, in bytes; default 64 MiB, at most 1 GiB.
    pub wal_segment_bytes: u64,
    /// Size above which the manifest is replaced by a new one, in bytes; default 4 MiB. It is
    /// never replaced before it has twice the bytes it began with.
    pub manifest_bytes: u64,
    /// Target size of an sstable's block before compression, in bytes; default 4 KiB, at most 4 MiB
    /// (more is taken as that).
    pub block_bytes: usize,
    /// After how many entries of a block a key is written whole; default 16, at least 1. Fewer make
    /// searches cheaper and tables larger.
    pub block_restart: u8,
    /// Whether a block holds a byte of each key's hash, by which a `get` finds its entry without a
    /// search; default true.
    pub block_hash_index: bool,
    /// How blocks are compressed that are written into each level, from level 0; default `None` for
    /// the first two, where data does not stay for long, and `Lz4` below. A block that would become
    /// less than 12 % shorter is stored as it is, and a table that only changes its level keeps its
    /// blocks. May differ between openings: each block says how it is stored.
    pub compression: [Compression; LEVEL_COUNT],
    /// Size above which the index of a table gets two levels, in bytes; default 1 MiB. Of such an
    /// index the lower level goes through the cache, block by block.
    pub index_bytes_max: usize,
    /// Memory for blocks, indexes and filters of all open tables, in bytes; default 256 MiB. Indexes
    /// and filters are always in memory as far as they take half of it, in levels 0 and 1 three
    /// quarters; blocks have the rest. Those of further tables are read when they are needed, and
    /// come and go as blocks do. They take some 2.5 % of a store of pairs of 100 bytes: where the
    /// budget has no room for that a get may read an index and a filter besides its block.
    pub block_cache_bytes: usize,
    /// How many tables of level 0 may overlap before they are merged; default 6. More of them make merges
    /// cheaper, since each rewrites what it meets below for more, and gets that find nothing in
    /// memory ask more filters.
    pub l0_trigger: usize,
    /// Bound on the tables of level 0 that overlap; default 24, at least 1. From the trigger on the pressure
    /// rises; at the bound writes are refused with `Overloaded`, unless it is damage that keeps
    /// compaction from going on.
    pub l0_depth_max: usize,
    /// Size above which data is spread over one level more, in bytes; default 1 GiB: some four times what
    /// `l0_trigger` memtables bring down together, so that they are merged straight into the last level
    /// as long as a further level between would cost more than it saves.
    pub level_base_bytes: u64,
    /// How many times larger each level is than the one above it; default 10, at least 2.
    pub level_fanout: u64,
    /// Size at which a compaction ends a table and begins the next, in bytes; default 32 MiB.
    pub table_bytes: u64,
    /// Length from which on a value stands in a blob file beside the tables, where merges do not
    /// rewrite it, in bytes; default 4 KiB. `None`: no value does, and those that do return to the
    /// tables as their files are collected. May differ between openings.
    pub blob_bytes_min: Option<usize>,
    /// Size at which a blob file ends and the next begins, in bytes; default 64 MiB. With a quarter
    /// of it a file ends at the edge of a unit.
    pub blob_file_bytes: u64,
    /// The share of a blob file, in hundredths of its bytes, that may be of values which are
    /// overwritten or deleted; default 30, at least 1. From there on what is left of it is written
    /// anew, so that the file can go; 100 and more: only files of which nothing is left go.
    pub blob_garbage_percent: u8,
    /// How many of the first bytes of a key name its *unit*, keys that are dropped, copied and taken
    /// in together; default 0: there are no units. Tables then end at the edges of units: where one
    /// has a quarter of `table_bytes`, and in the last level always beside a unit as large as that.
    /// May differ between openings.
    pub unit_prefix_bytes: usize,
    /// Keys that begin with one of these bytes share no table with keys that begin otherwise, so that damage of
    /// these costs nothing of those; default none. May differ between openings.
    pub apart: Vec<u8>,
    /// Says which entries may be dropped for the caller's reasons; default none.
    pub filter: Option<SharedFilter>,
    /// How many compactions may run at the same time, in a thread each; default 0: one for every
    /// two cores, at most 8, and a single one in inline mode. At most 64.
    pub compaction_threads: usize,
    /// About how many bytes may have to be merged before [`Engine::pressure`](crate::storage::Engine::pressure)
    /// is 1; default 64 GiB.
    pub debt_bytes_max: u64,
    /// How much a compaction reads in one step, in bytes; default 256 KiB. In inline mode other
    /// steps come between; in threaded mode the rate is held at this grain.
    pub compaction_step_bytes: u64,
    /// How much flushes and compactions together write in a second, in bytes; default no bound.
    /// Flushes go first. The nearer [`Engine::pressure`](crate::storage::Engine::pressure) is to one
    /// half, the more they may write, and above it there is no bound. For threaded engines only.
    pub background_bytes_per_second: Option<u64>,
    /// Whether nothing is flushed before [`Engine::before_flush`](crate::storage::Engine::before_flush) or
    /// [`Engine::release_flushes`](crate::storage::Engine::release_flushes) was called; default false.
    pub holds_flushes: bool,
    /// When a batch counts as done; default [`SyncMode::Always`].
    pub sync: SyncMode,
    /// Who does the work; default [`ThreadMode::Threaded`].
    pub threads: ThreadMode,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memtable_bytes: 64 << 20,
            memory_bytes_max: 256 << 20,
            pending_bytes_max: 64 << 20,
            group_bytes_max: 8 << 20,
            wal_segment_bytes: 64 << 20,
            manifest_bytes: MANIFEST_BYTES_DEFAULT,
            block_bytes: 4 << 10,
            block_restart: 16,
            block_hash_index: true,
            compression: Compression::below_the_first(Compression::Lz4),
            index_bytes_max: 1 << 20,
            block_cache_bytes: 256 << 20,
            l0_trigger: 6,
            l0_depth_max: 24,
            level_base_bytes: 1 << 30,
            level_fanout: 10,
            table_bytes: 32 << 20,
            blob_bytes_min: Some(4 << 10),
            blob_file_bytes: 64 << 20,
            blob_garbage_percent: 30,
            unit_prefix_bytes: 0,
            apart: Vec::new(),
            filter: None,
            compaction_threads: 0,
            debt_bytes_max: 64 << 30,
            compaction_step_bytes: 256 << 10,
            background_bytes_per_second: None,
            holds_flushes: false,
            sync: SyncMode::Always,
            threads: ThreadMode::Threaded,
        }
    }
}

impl Compression {
    /// None in levels 0 and 1, `lower` in all below: for [`Options::compression`].
    pub const fn below_the_first(lower: Self) -> [Self; LEVEL_COUNT] {
        [Self::None, Self::None, lower, lower, lower, lower, lower]
    }
}

/// Number of levels of tables, level 0 included.
pub const LEVEL_COUNT: usize = 7;
/// The interval of [`SyncMode::Interval`] when the operator names none.
pub const SYNC_INTERVAL_DEFAULT: Duration = Duration::from_millis(10);
/// When the manifest is replaced, if the opener does not say.
pub(crate) const MANIFEST_BYTES_DEFAULT: u64 = 4 << 20;
/// Longest key of the engine, in bytes: a client's key and the prefix the replica puts before it.
pub const ENGINE_KEY_BYTES_MAX: usize = 8 << 10;
/// Longest value of the engine, in bytes: a client's value and the head the replica gives it.
pub const ENGINE_VALUE_BYTES_MAX: usize = 2 << 20;
/// Longest batch, in bytes of its encoding.
pub const BATCH_BYTES_MAX: usize = 32 << 20;

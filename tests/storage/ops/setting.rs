//! Under which conditions a stream is played: options from one end of what is allowed to the
//! other, and a disk.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use roundtable::storage::{
    Compression, FaultyVfs, LEVEL_COUNT, MemoryVfs, Options, RealVfs, SyncMode, ThreadMode, Vfs,
};

use super::Draws;

/// Where an engine lives.
#[derive(Debug, Clone)]
pub(crate) enum Disk {
    Memory(MemoryVfs),
    /// Loses what was not synced when the machine crashes.
    Faulty(FaultyVfs),
    /// In an existing directory.
    Real(PathBuf),
}

impl Disk {
    pub(super) fn vfs(&self) -> (Arc<dyn Vfs>, PathBuf) {
        match self {
            Self::Memory(vfs) => (Arc::new(vfs.clone()), PathBuf::from("/db")),
            Self::Faulty(vfs) => (Arc::new(vfs.clone()), PathBuf::from("/db")),
            Self::Real(dir) => (Arc::new(RealVfs), dir.join("db")),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) options: Options,
    pub(crate) disk: Disk,
}

impl Setting {
    /// The defaults, but nothing runs by itself.
    pub(crate) fn plain(disk: Disk) -> Self {
        Self { options: Options { threads: ThreadMode::Inline, ..Options::default() }, disk }
    }

    pub(crate) fn draw(draws: &mut Draws<'_>, disk: Disk) -> Self {
        let mut power = |from: usize, to: usize| 1usize << (from + draws.below(to - from));
        let options = Options {
            memtable_bytes: power(11, 17),
            wal_segment_bytes: power(9, 18) as u64,
            block_bytes: power(0, 15),
            manifest_bytes: power(6, 18) as u64,
            group_bytes_max: power(8, 20),
            block_cache_bytes: power(0, 20),
            level_base_bytes: power(0, 18) as u64,
            level_fanout: power(1, 8) as u64,
            table_bytes: power(0, 18) as u64,
            compaction_step_bytes: power(0, 16) as u64,
            l0_trigger: 1 + draws.below(7),
            l0_depth_max: 8 + draws.below(22),
            sync: match draws.below(3) {
                0 => SyncMode::Always,
                1 => SyncMode::Interval(Duration::from_millis(1)),
                _ => SyncMode::None,
            },
            block_restart: draws.byte().max(1),
            block_hash_index: draws.below(2) == 0,
            compression: match draws.below(3) {
                0 => [Compression::None; LEVEL_COUNT],
                1 => [Compression::Lz4; LEVEL_COUNT],
                _ => Compression::below_the_first(Compression::Lz4),
            },
            index_bytes_max: 1 << (2 * draws.below(10)),
            unit_prefix_bytes: draws.below(3),
            compaction_threads: 1 + draws.below(3),
            debt_bytes_max: 1 << (16 + draws.below(20)),
            threads: ThreadMode::Inline,
            blob_bytes_min: match draws.below(4) {
                0 => None,
                1 => Some(1),
                _ => Some(draws.below(200)),
            },
            blob_file_bytes: 1 << draws.below(18),
            blob_garbage_percent: draws.byte() % 101,
            ..Options::default()
        };
        Self { options, disk }
    }
}

//! The engines behind one small trait, each with the settings of the comparison.

mod fjall;
mod ours;
mod raw;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::Codec;

/// Size at which a memtable is flushed, in bytes.
const MEMTABLE_BYTES: usize = 64 << 20;
/// Memory for blocks, in bytes.
const CACHE_BYTES: usize = 256 << 20;
/// Bits of a filter for each key.
const FILTER_BITS: f64 = 10.0;
/// Size of a block, in bytes.
const BLOCK_BYTES: usize = 4 << 10;
/// Values at least as long as this are kept apart where an engine is asked to, in bytes.
const APART_BYTES: u32 = 4 << 10;
/// Threads for flushes and compactions.
const BACKGROUND_THREADS: usize = 2;

/// Whose engine.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
pub(crate) enum Kind {
    Ours,
    Fjall,
    #[value(name = "rocksdb")]
    RocksDb,
    /// No engine: records appended to a file written beforehand. For `fillsync` alone.
    Raw,
}

impl Kind {
    /// Those that can be opened, in the order of the tables.
    pub(crate) fn built_in() -> Vec<Self> {
        let all = [Self::Ours, Self::Fjall, Self::RocksDb];
        all.into_iter().filter(|kind| *kind != Self::RocksDb || cfg!(feature = "rocksdb")).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Fjall => "fjall",
            Self::RocksDb => "rocksdb",
            Self::Raw => "raw",
        }
    }
}

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) codec: Codec,
    /// Every write waits for the disk.
    pub(crate) sync: bool,
    /// Values of [`APART_BYTES`] and more are kept apart from the tables. Ours always does.
    pub(crate) apart: bool,
}

/// What every engine can do. Every call sees what was written before it.
pub(crate) trait Store: Send + Sync {
    fn put(&self, key: &[u8], value: &[u8]) -> anyhow::Result<()>;
    fn delete(&self, key: &[u8]) -> anyhow::Result<()>;
    /// Writes all of it or nothing.
    fn put_batch(&self, pairs: &[([u8; 16], Vec<u8>)]) -> anyhow::Result<()>;
    /// The length of the value.
    fn get(&self, key: &[u8]) -> anyhow::Result<Option<usize>>;
    /// How many of the keys are there.
    fn multi_get(&self, keys: &[[u8; 16]]) -> anyhow::Result<usize>;
    /// Reads keys and values of up to `limit` pairs from `start` on; the number of pairs, and the
    /// bytes of their values.
    fn scan(&self, start: &[u8], limit: usize) -> anyhow::Result<(usize, usize)>;
    /// Writes what is in memory to tables.
    fn flush(&self) -> anyhow::Result<()>;
    /// Bytes of all tables.
    fn table_bytes(&self) -> anyhow::Result<u64>;
    /// How near the engine is to refusing writes, 0 to 1, if it says.
    fn pressure(&self) -> Option<f64> {
        None
    }
    /// Its own figures, if it has some to tell.
    fn stats(&self) -> Option<String> {
        None
    }
}

/// Opens the store in `dir`, or makes one there.
///
/// # Errors
/// What the engine says; and when it is not built in.
pub(crate) fn open(kind: Kind, dir: &Path, settings: Settings) -> anyhow::Result<Box<dyn Store>> {
    std::fs::create_dir_all(dir)?;
    Ok(match kind {
        Kind::Ours => Box::new(ours::Ours::open(dir, settings)?),
        Kind::Fjall => Box::new(fjall::Fjall::open(dir, settings)?),
        Kind::Raw => Box::new(raw::Raw::open(dir, settings)?),
        #[cfg(feature = "rocksdb")]
        Kind::RocksDb => Box::new(rocksdb::RocksDb::open(dir, settings)?),
        #[cfg(not(feature = "rocksdb"))]
        Kind::RocksDb => anyhow::bail!(
            "this benchmark was built without RocksDB: install its library (Debian: apt-get \
             install librocksdb-dev) and build with --features rocksdb"
        ),
    })
}

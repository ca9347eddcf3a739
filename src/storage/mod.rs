//! The storage engine: a log-structured merge tree of ordered byte strings. Bytes in, bytes out.
//!
//! Decides how pairs survive crashes, how they are found again and what is said when the disk
//! fails. Knows no ring, no tables of users and no tokio: it is a library in its own right, with
//! its own threads or, in a simulator, stepped by hand. Sources: the LSM tree (O'Neil et al.,
//! 1996), LevelDB's files, Pebble's commit pipeline and sync offsets, and the studies of what
//! disks do to databases (Rebello et al., USENIX ATC 2020; Ganesan et al., FAST 2017).
//!
//! ```
//! use roundtable::storage::{Batch, Engine, MemoryVfs, Options};
//!
//! let disk = std::sync::Arc::new(MemoryVfs::default());
//! let (engine, _recovery) = Engine::open(disk, "data".as_ref(), Options::default())?;
//! let mut batch = Batch::new();
//! batch.put(b"key", b"value");
//! engine.write(batch)?;
//! assert_eq!(engine.get(b"key")?.expect("just written").0, "value");
//! engine.close()?;
//! # Ok::<(), roundtable::storage::Error>(())
//! ```

mod bad_places;
mod batch;
mod blob;
mod cache;
mod check;
mod coding;
mod compaction;
mod deleted;
mod engine;
mod entry;
mod error;
mod export;
mod files;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fuzz;
mod heads;
mod iter;
mod key_range;
mod levels;
mod manifest;
mod memtable;
mod memtable_cursor;
mod merge;
mod options;
mod rebuild;
mod sstable;
mod table_writer;
pub mod vfs;
mod wal;

pub use batch::{Batch, Seqno};
pub use check::{Checked, check};
pub use compaction::{CompactionFilter, SharedFilter};
pub use engine::{
    BeforeFlush, Checkpoint, CompactionBytes, CorruptRegion, Damage, Engine, Ingested, LevelStats,
    Moment, OnDone, Recovery, ScrubPlace, Scrubbed, Since, Snapshot, Stats, TryGet, Verified,
};
pub use error::Error;
pub use export::{BlobPart, Export, TableFile};
pub use iter::{Direction, Iter, LentPair};
pub use key_range::KeyRange;
pub use options::{
    BATCH_BYTES_MAX, Compression, Durability, ENGINE_KEY_BYTES_MAX, ENGINE_VALUE_BYTES_MAX,
    LEVEL_COUNT, Options, SYNC_INTERVAL_DEFAULT, SyncMode, ThreadMode,
};
pub use rebuild::{MissingFile, missing, rebuild};
pub use table_writer::TableWriter;
pub use vfs::{FaultyVfs, MemoryVfs, RealVfs, Vfs};

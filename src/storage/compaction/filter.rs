//! The caller's say in what a compaction may forget.
//!
//! The engine asks what an entry needs before it may go, and how far the caller has come; it
//! decides alone when dropping it is safe. What a point means, a time, a stamp, a number, is the
//! caller's.

use core::fmt::Debug;
use std::sync::Arc;

/// Says which entries may be dropped, and from when on.
///
/// Each entry may have a *point*, and each key a *horizon* that only rises; an entry may be dropped
/// once the horizon of its key has reached its point. A cache would use the time of expiry and the
/// clock; a replica the stamp of a tombstone and the stamp up to which all replicas are known to
/// agree. From the moment a horizon rises the caller must treat what it lets go as gone: until some
/// compaction comes by, reads may still return it.
///
/// An entry that is dropped is never the reason that an older version of its key is seen again: as
/// long as a table below may hold one, a delete is written in its place. Entries in memory and in
/// tables that no compaction takes stay.
///
/// The engine calls this from its background threads, and from threads that make a checkpoint or take
/// tables in. It holds no lock then that a reader or a writer waits for, but some that keep other flushes
/// and merges waiting. It writes in each table how much of it can be dropped and at which points; so the answers for an entry must not change
/// while the store has it, and a filter is not to be taken away from a store whose readers rely on
/// it. Calls must not block and must not call the engine.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use roundtable::storage::{Batch, CompactionFilter, Engine, MemoryVfs, Options};
///
/// /// Values begin with eight bytes that say when they expire.
/// #[derive(Debug, Default)]
/// struct Expiry {
///     now: AtomicU64,
/// }
///
/// impl CompactionFilter for Expiry {
///     fn point(&self, _key: &[u8], value: &[u8]) -> Option<u64> {
///         Some(u64::from_be_bytes(*value.first_chunk()?))
///     }
///
///     fn horizon(&self, _smallest: &[u8], _largest: &[u8]) -> u64 {
///         self.now.load(Ordering::Relaxed)
///     }
/// }
///
/// let expiry = Arc::new(Expiry::default());
/// let options = Options { filter: Some(expiry.clone().into()), ..Options::default() };
/// let disk = Arc::new(MemoryVfs::default());
/// let (engine, _recovery) = Engine::open(disk, "data".as_ref(), options)?;
/// let mut batch = Batch::new();
/// batch.put(b"session", &1_000u64.to_be_bytes());
/// engine.write(batch)?;
/// engine.compact()?;
/// assert!(engine.get(b"session")?.is_some());
/// expiry.now.store(1_000, Ordering::Relaxed);
/// engine.compact()?;
/// assert!(engine.get(b"session")?.is_none());
/// # engine.close()?;
/// # Ok::<(), roundtable::storage::Error>(())
/// ```
pub trait CompactionFilter: Debug + Send + Sync {
    /// The point that the horizon must reach before the entry may be dropped; `None` for an entry
    /// that is kept for ever. Of a value that is longer it is shown the first 64 bytes, wherever the
    /// value stands: what is to be known of an entry must be told by its beginning. Depends on these
    /// and the key alone. Never asked about deletes, which the
    /// engine drops by itself when they hide nothing any more.
    fn point(&self, key: &[u8], value: &[u8]) -> Option<u64>;

    /// The lowest horizon of all keys from `smallest` to `largest`, both included. It never falls,
    /// also over a restart: a caller makes it durable before it tells.
    fn horizon(&self, smallest: &[u8], largest: &[u8]) -> u64;
}

/// A filter as options hold it. Two are equal when they are the same one.
#[derive(Debug, Clone)]
pub struct SharedFilter(Arc<dyn CompactionFilter>);

impl SharedFilter {
    pub(crate) fn get(&self) -> &dyn CompactionFilter {
        &*self.0
    }
}

impl<T: CompactionFilter + 'static> From<Arc<T>> for SharedFilter {
    fn from(filter: Arc<T>) -> Self {
        Self(filter)
    }
}

impl PartialEq for SharedFilter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedFilter {}

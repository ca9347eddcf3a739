//! Deleting a range of keys at once.
//!
//! In this order: the range is logged like any batch, which makes it durable and puts it in its
//! place among all writes; its memtable is flushed, which puts it into the manifest; then tables
//! inside it are dropped by an edit, and those across its edge rewritten (`compaction::purge`).

use super::Engine;
use crate::storage::batch::{Batch, Seqno};
use crate::storage::error::Error;
use crate::storage::key_range::KeyRange;
use crate::storage::options::{Durability, ThreadMode};

impl Engine {
    /// Deletes every key in `range` that was written before this call, and returns when that is on
    /// disk, whatever the sync mode. What is submitted later stays, snapshots and ranges begun
    /// before still see it all. It costs the same however much is in the range: files that lie
    /// inside it are given back whole, soon after, once nobody reads them, and files across its
    /// edge are rewritten in the background. To delete a range together with other writes, see
    /// [`Batch::delete_range`]. In an inline engine this steps the log until it is done, callbacks
    /// included.
    ///
    /// ```
    /// # use roundtable::storage::{Batch, Engine, KeyRange, MemoryVfs, Options};
    /// # let disk = std::sync::Arc::new(MemoryVfs::default());
    /// # let (engine, _) = Engine::open(disk, "data".as_ref(), Options::default())?;
    /// let mut batch = Batch::new();
    /// batch.put(b"user/1", b"Ada");
    /// batch.put(b"visit/1", b"Monday");
    /// engine.write(batch)?;
    /// engine.delete_range(&KeyRange::prefix(b"user/"))?;
    /// assert!(engine.get(b"user/1")?.is_none() && engine.get(b"visit/1")?.is_some());
    /// # Ok::<(), roundtable::storage::Error>(())
    /// ```
    ///
    /// # Errors
    /// `TooLong` for a bound over 8 KiB; `Overloaded`, also when 1024 deleted ranges wait for the
    /// merge that ends them; `DiskFull`, `ReadOnly`, `Closed`. Nothing is deleted then, unless it
    /// is `ReadOnly` or an error of the file system: then it is unknown until the next open.
    pub fn delete_range(&self, range: &KeyRange) -> Result<Seqno, Error> {
        let mut batch = Batch::new();
        batch.delete_range(range);
        let seqno = self.write_synced(batch)?;
        // What cannot be flushed now is flushed later: the range is deleted all the same.
        let _later = self.core.request_flush();
        Ok(seqno)
    }

    /// Submits a batch and waits until it is on disk. In an inline engine this steps the log.
    pub(super) fn write_synced(&self, batch: Batch) -> Result<Seqno, Error> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let on_done = Box::new(move |result| {
            // The receiver waits below; it cannot be gone.
            let _received = sender.send(result);
        });
        self.submit(batch, Durability::Synced, on_done)?;
        if self.core.options.threads == ThreadMode::Inline {
            while self.core.log_step() {}
        }
        receiver.recv().unwrap_or(Err(Error::Closed))
    }
}

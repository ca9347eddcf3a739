//! Flush: a sealed memtable becomes a table, and the log segments it makes needless go.
//!
//! In this order, each step durable before the next: the table, its name, the manifest's edit;
//! only then is the view changed and the log removed. A crash between any two leaves either the
//! old files in force and an orphan to sweep, or the new ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::{Core, View};
use crate::storage::batch::Seqno;
use crate::storage::deleted::RangeDelete;
use crate::storage::error::Error;
use crate::storage::files::{FileNo, table_path, wal_path};
use crate::storage::iter::{Direction, Entry, MemtableCursor, Range};
use crate::storage::manifest::Edit;
use crate::storage::memtable::Memtable;
use crate::storage::sstable::Table;

/// What went in must come out: the memtable counts its keys as they come, the table its entries as
/// they are written, and neither knows the other.
fn check_count(table: Table, keys: u64, hidden: u64) -> Result<Table, Error> {
    match table.meta.entries + hidden == keys {
        true => Ok(table),
        false => Err(Error::corrupt(table.path(), 0, "a flush wrote other than memory held")),
    }
}

impl Core {
    /// The oldest sealed memtable, if all its batches have been logged or have failed: one that
    /// can still be undone must not reach a table.
    fn flushable(&self) -> Option<Arc<Memtable>> {
        let commit = self.commit.lock();
        if commit.latched.is_some() || commit.flush_blocked.is_some() {
            return None;
        }
        let oldest = self.view.load().sealed.last().cloned()?;
        (oldest.last() <= commit.resolved).then_some(oldest)
    }

    pub(super) fn has_flush_work(&self) -> bool {
        self.flushable().is_some()
    }

    /// Flushes one memtable. Returns whether there was anything to do.
    pub(super) fn flush_step(&self) -> bool {
        let _one_at_a_time = self.flushing.lock();
        let Some(memtable) = self.flushable() else { return false };
        if let Err(error) = self.flush_memtable(&memtable) {
            if error.is_full() {
                self.commit.lock().flush_blocked = Some(Error::DiskFull);
            } else {
                self.latch(&error);
            }
        }
        self.flush_done.notify_all();
        true
    }

    fn flush_memtable(&self, memtable: &Arc<Memtable>) -> Result<(), Error> {
        let flushed = memtable.last();
        let table = self.build_table(memtable)?;
        let deleted = memtable.deleted.get().unwrap_or_default();
        let ranges = deleted.ranges().to_vec();
        let logs = {
            let mut manifest = self.manifest.lock();
            let logs = manifest.state.logs_covered_by(flushed);
            if crate::mutant!("storage-drop-wal-before-manifest") {
                self.remove_logs(&logs);
            }
            let edit = Edit {
                flushed: Some(flushed),
                logs_removed: logs.clone(),
                tables_added: table.iter().map(|table| table.meta.clone()).collect(),
                ranges_deleted: match crate::mutant!("storage-range-delete-lost-at-flush") {
                    true => Vec::new(),
                    false => ranges.clone(),
                },
                ..Edit::default()
            };
            if let Err(error) = manifest.append(edit) {
                if let (true, Some(table)) = (error.is_full(), table) {
                    // The next try writes another file; this one is an orphan at worst.
                    let _orphan = self.vfs.remove(&table_path(&self.dir, table.meta.no));
                }
                return Err(error);
            }
            logs
        };
        let bytes = table.as_ref().map_or(0, |table| table.meta.bytes);
        self.counters.flush_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.install(memtable, table, &ranges, flushed);
        self.remove_logs(&logs);
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Writes a memtable's newest versions as a table, without those that its deleted ranges hide;
    /// none if nothing is left. What is left out is needed by snapshots only, and a snapshot holds
    /// the memtable itself.
    fn build_table(&self, memtable: &Arc<Memtable>) -> Result<Option<Table>, Error> {
        let mut cursor = MemtableCursor::new(
            Arc::clone(memtable),
            Range::all(),
            Direction::Forward,
            Seqno(u64::MAX),
        );
        let deleted = memtable.deleted.get().unwrap_or_default();
        let hidden = |entry: &Entry| entry.seqno < deleted.cover(&entry.key, Seqno(u64::MAX));
        let mut out_of_sight = 0;
        let mut left = std::iter::from_fn(|| cursor.next()).filter(|entry| {
            out_of_sight += u64::from(hidden(entry));
            !hidden(entry)
        });
        let Some(first) = left.next() else { return Ok(None) };
        let mut builder = self.new_table()?;
        let path = builder.path().to_path_buf();
        let built = (|| {
            builder.add(&first)?;
            for (index, entry) in left.enumerate() {
                if !(crate::mutant!("storage-flush-loses-entry") && index == 3) {
                    builder.add(&entry)?;
                }
            }
            builder.finish()
        })();
        let built = built.and_then(|table| check_count(table, memtable.keys(), out_of_sight));
        let table = match built {
            Ok(table) => table,
            Err(error) => {
                // An orphan at worst, swept at the next open.
                let _orphan = self.vfs.remove(&path);
                return Err(error);
            }
        };
        if !crate::mutant!("storage-no-dir-sync") {
            let synced = self.vfs.sync_dir(&self.dir);
            synced.map_err(|error| Error::io("sync", &self.dir, error))?;
        }
        Ok(Some(table))
    }

    fn install(
        &self,
        memtable: &Arc<Memtable>,
        table: Option<Table>,
        ranges: &[RangeDelete],
        flushed: Seqno,
    ) {
        let added: Vec<_> = table.map(|table| (0, Arc::new(table))).into_iter().collect();
        self.change_levels(|commit, view| {
            commit.flushed = commit.flushed.max(flushed);
            let mut sealed = view.sealed.clone();
            sealed.retain(|other| !Arc::ptr_eq(other, memtable));
            let levels = view.levels.edited(&[], &added);
            let levels = if ranges.is_empty() { levels } else { levels.deleting(ranges) };
            View { active: Arc::clone(&view.active), sealed, levels: Arc::new(levels) }
        });
    }

    /// The manifest no longer names them, so what cannot be removed now is swept at the next open.
    fn remove_logs(&self, logs: &[FileNo]) {
        for no in logs {
            let _orphan = self.vfs.remove(&wal_path(&self.dir, *no));
        }
    }

    /// Seals what is in memory, so that it is flushed, and lets a flush that failed try again.
    /// Returns the last batch that the flush will cover.
    pub(super) fn request_flush(&self) -> Result<Seqno, Error> {
        let mut commit = self.commit.lock();
        if let Some(error) = commit.refusal() {
            return Err(error);
        }
        commit.flush_blocked = None;
        let view = self.view.load();
        if !view.active.is_empty() {
            self.seal_active(&view);
        }
        self.flush_wake.notify_one();
        Ok(self.view.load().sealed.first().map_or(commit.flushed, |memtable| memtable.last()))
    }

    /// Waits until all batches up to `target` are in tables.
    pub(super) fn wait_flushed(&self, target: Seqno) -> Result<(), Error> {
        let mut commit = self.commit.lock();
        while commit.flushed < target {
            if let Some(error) = commit.refusal().or_else(|| commit.flush_blocked.clone()) {
                return Err(error);
            }
            self.flush_done.wait(&mut commit);
        }
        Ok(())
    }
}

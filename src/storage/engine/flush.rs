//! Flush: a sealed memtable becomes tables, and the log segments it makes needless go.
//!
//! In this order, each step durable before the next: values that stand elsewhere, the table, their names, the manifest's edit;
//! only then is the view changed and the log removed. A crash between any two leaves either the
//! old files in force and an orphan to sweep, or the new ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::compact::Balance;
use super::core::Core;
use super::pace::Writer;
use super::room::now;
use crate::storage::batch::{Kind, Seqno};
use crate::storage::blob::{BlobFile, NewBlob, NewBlobs, NewFiles, Separator, head_of};
use crate::storage::compaction::TableSize;
use crate::storage::entry::EntryRef;
use crate::storage::error::Error;
use crate::storage::files::{blob_path, wal_path};
use crate::storage::iter::{Direction, Range};
use crate::storage::manifest::Edit;
use crate::storage::memtable::Memtable;
use crate::storage::memtable_cursor::MemtableCursor;
use crate::storage::options::ThreadMode;
use crate::storage::sstable::{Table, TableBuilder};

/// After so many bytes a flush looks whether it should rest.
const PACED_BYTES: u64 = 1 << 20;

fn entry_bytes(entry: EntryRef<'_>) -> u64 {
    (entry.key.len() + entry.value.len()) as u64
}

/// What a flush has written so far.
struct Flushing {
    tables: Vec<Table>,
    begun: Option<TableBuilder>,
    separator: Separator,
}

/// What a flush has made of a memtable; all of it is on disk.
struct Built {
    tables: Vec<Table>,
    blobs: Vec<Arc<BlobFile>>,
    /// How many entries the tables have, as memory counts them.
    entries: u64,
}

/// The files of the store itself, for tables of one level.
pub(super) struct FilesOf<'a> {
    pub(super) core: &'a Core,
    pub(super) level: usize,
}

impl NewBlobs for FilesOf<'_> {
    fn blob(&mut self) -> Result<NewBlob, Error> {
        let no = self.core.manifest.lock().state.take_number()?;
        self.core.blob_at((no, u64::from(no)), blob_path(&self.core.dir, no))
    }
}

impl NewFiles for FilesOf<'_> {
    fn table(&mut self) -> Result<TableBuilder, Error> {
        self.core.new_table(self.level)
    }
}

impl Core {
    /// The oldest sealed memtable, if all its batches have been logged or have failed: one that
    /// can still be undone must not reach a table.
    fn flushable(&self) -> Option<Arc<Memtable>> {
        let commit = self.commit.lock();
        if commit.latched.is_some() || commit.flush_blocked.is_some() || commit.holds_flushes {
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
        let began = now();
        match self.flush_memtable(&memtable) {
            Ok(()) => {
                self.note_flushed(memtable.bytes(), began);
                match self.leave_flushed() {
                    // The flush is done, and the log can stay where it is.
                    Err(error) if !error.is_full() => self.latch(&error),
                    _ => {}
                }
            }
            Err(error) if error.is_full() => {
                self.commit.lock().flush_blocked = Some(Error::DiskFull);
            }
            Err(error) => self.latch(&error),
        }
        self.flush_done.notify_all();
        true
    }

    fn flush_memtable(&self, memtable: &Arc<Memtable>) -> Result<(), Error> {
        let flushed = memtable.last();
        let Built { tables, blobs, entries } = self.build_tables(memtable)?;
        let values: u64 = blobs.iter().map(|blob| blob.meta().bytes).sum();
        let deleted = memtable.deleted.get().unwrap_or_default();
        let ranges = deleted.ranges().to_vec();
        let bytes = tables.iter().map(|table| table.meta.bytes).sum::<u64>() + values;
        let added: Vec<_> = tables.into_iter().map(|table| (0, Arc::new(table))).collect();
        let tables = || added.iter().map(|(_, table)| table);
        if !crate::mutant!("storage-hook-after-flush") {
            self.call_hook();
        }
        let logs = {
            let mut manifest = self.manifest.lock();
            let next = self.view.load().levels.edited(&[], &added);
            let next = if ranges.is_empty() { next } else { next.deleting(&ranges) };
            let next = self.next_levels(next, Balance { came: entries, went: 0 });
            let logs = manifest.state.logs_covered_by(flushed);
            if crate::mutant!("storage-drop-wal-before-manifest") {
                for no in &logs {
                    let _gone = self.vfs.remove(&wal_path(&self.dir, *no));
                }
            }
            let edit = Edit {
                flushed: Some(flushed),
                logs_removed: logs.clone(),
                tables_added: tables().map(|table| table.meta.clone()).collect(),
                blobs_added: blobs.iter().map(|blob| blob.meta()).collect(),
                ranges_deleted: match crate::mutant!("storage-range-delete-lost-at-flush") {
                    true => Vec::new(),
                    false => ranges,
                },
                ..Edit::default()
            };
            if let Err(error) = manifest.append(edit) {
                if error.is_full() {
                    // The next try writes other files; these are orphans at worst.
                    tables().for_each(|table| table.retire(&self.vfs));
                    blobs.iter().for_each(|blob| blob.retire(&self.vfs));
                }
                return Err(error);
            }
            self.change_levels(&manifest, next, |commit, sealed| {
                commit.flushed = commit.flushed.max(flushed);
                sealed.retain(|other| !Arc::ptr_eq(other, memtable));
            });
            logs
        };
        if crate::mutant!("storage-hook-after-flush") {
            self.call_hook();
        }
        self.counters.flush_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counters.blob_bytes.fetch_add(values, Ordering::Relaxed);
        self.remove_logs(&logs);
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Writes a memtable's newest versions as tables, without those that its deleted ranges hide;
    /// none if nothing is left. What is left out is needed by snapshots only, and a snapshot holds
    /// the memtable itself. Returns with them how many entries they have, as memory counts them.
    fn build_tables(&self, memtable: &Arc<Memtable>) -> Result<Built, Error> {
        let (tables, separator) = (Vec::new(), Separator::new(&self.options));
        let mut flushing = Flushing { tables, begun: None, separator };
        let built = self.write_tables(memtable, &mut flushing);
        let Flushing { tables, begun, separator } = flushing;
        // What went in must come out: the memtable counts its keys as they come, the tables their
        // entries as they are written, and neither knows the other.
        let written: u64 = tables.iter().map(|table| table.meta.entries).sum();
        let counted = built.and_then(|hidden| match written + hidden == memtable.keys() {
            true => Ok(memtable.keys() - hidden),
            false => Err(Error::corrupt(&self.dir, 0, "a flush wrote other than memory held")),
        });
        let synced = counted.and_then(|kept| match crate::mutant!("storage-no-dir-sync") {
            false if !tables.is_empty() => {
                let synced = self.vfs.sync_dir(&self.dir);
                synced.map(|()| kept).map_err(|error| Error::io("sync", &self.dir, error))
            }
            _ => Ok(kept),
        });
        let entries = match synced {
            Ok(kept) => kept,
            Err(error) => {
                // Orphans at worst, swept at the next open.
                tables.iter().for_each(|table| table.retire(&self.vfs));
                if let Some(builder) = begun {
                    builder.abandon(&*self.vfs);
                }
                separator.abandon(&self.vfs);
                return Err(error);
            }
        };
        Ok(Built { tables, blobs: separator.files().to_vec(), entries })
    }

    /// Returns how many entries deleted ranges hide.
    fn write_tables(
        &self,
        memtable: &Arc<Memtable>,
        Flushing { tables, begun, separator }: &mut Flushing,
    ) -> Result<u64, Error> {
        let (all, newest) = (Range::all(), Seqno(u64::MAX));
        let mut cursor = MemtableCursor::new(Arc::clone(memtable), Direction::Forward, newest);
        let deleted = memtable.deleted.get().unwrap_or_default();
        let mut cutter = self.flush_cutter();
        let mut hidden = 0;
        let mut unpaced = 0;
        cursor.seek(&all);
        while let Some(entry) = cursor.entry() {
            if entry.seqno < deleted.cover(entry.key, newest) {
                hidden += 1;
            } else if !(crate::mutant!("storage-flush-loses-entry") && begun.is_some()) {
                let size = begun.as_ref().map(TableSize::of).unwrap_or_default();
                if cutter.cuts_before(entry.key, size)
                    && let Some(builder) = begun.take()
                {
                    tables.push(self.finish_table(builder)?);
                }
                unpaced += entry_bytes(entry);
                if unpaced >= PACED_BYTES {
                    self.pace_flush(std::mem::take(&mut unpaced));
                }
                let builder = match &mut *begun {
                    Some(builder) => builder,
                    none => none.insert(self.new_table(0)?),
                };
                let files = &mut FilesOf { core: self, level: 0 };
                self.flush_entry(builder, separator, entry, files)?;
                cutter.note(entry.seqno);
            }
            cursor.step(&all);
        }
        // What a table refers to is on disk before it is.
        separator.end()?;
        if let Some(builder) = begun.take() {
            tables.push(self.finish_table(builder)?);
        }
        Ok(hidden)
    }

    /// Adds an entry that comes out of memory, its value perhaps elsewhere, and notes when the filter
    /// will let it go.
    pub(super) fn flush_entry(
        &self,
        builder: &mut TableBuilder,
        separator: &mut Separator,
        entry: EntryRef<'_>,
        files: &mut dyn NewBlobs,
    ) -> Result<(), Error> {
        separator.add(builder, entry, files)?;
        let filter = self.filter().filter(|_| entry.kind != Kind::Delete);
        let point = filter.and_then(|filter| filter.point(entry.key, head_of(entry.value)));
        if let Some(point) = point {
            builder.note_droppable(point);
        }
        Ok(())
    }

    /// An inline engine's flush is one step, and nobody's thread.
    fn pace_flush(&self, bytes: u64) {
        if self.options.threads == ThreadMode::Threaded {
            self.pace(Writer::Flush, bytes);
        }
    }

    fn finish_table(&self, builder: TableBuilder) -> Result<Table, Error> {
        let path = builder.path().to_path_buf();
        builder.finish().inspect_err(|_| {
            let _orphan = self.vfs.remove(&path);
        })
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

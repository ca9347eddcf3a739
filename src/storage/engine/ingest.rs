//! Taking in tables that were written elsewhere, whole.
//!
//! In this order: the files are linked under numbers of this store and every block of them is read;
//! they get one number among the batches; their range is found empty as of that; the log is synced up
//! to it; the manifest's edit names them. From the number to the edit nothing is flushed. A crash before the edit leaves files to sweep at the next opening,
//! one after it the tables. They go to the lowest level that is right: above everything older that
//! is left in their range, be it only deletes, and below what is written into it from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::compact::Balance;
use super::core::{Core, View};
use super::{Engine, Snapshot};
use crate::storage::batch::{Batch, Seqno};
use crate::storage::blob::BlobFile;
use crate::storage::compaction::Job;
use crate::storage::error::Error;
use crate::storage::files::{FileNo, blob_path, is_blob_path, table_path};
use crate::storage::iter::{Direction, Range};
use crate::storage::levels::{LEVELS, Levels, overlap};
use crate::storage::manifest::Edit;
use crate::storage::sstable::{Table, TableMeta};
use crate::storage::vfs::link_or_copy;

/// How often it is looked again whether the range is empty, when writes come in between.
const TRIES: usize = 8;

/// What was taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ingested {
    /// The number that all of its entries carry.
    pub seqno: Seqno,
    /// Number of tables.
    pub files: usize,
    /// Number of their entries.
    pub entries: u64,
    /// Their bytes, with those of the blob files that they refer to.
    pub bytes: u64,
}

impl Engine {
    /// Takes in tables that [`Engine::export`] or a [`TableWriter`](crate::storage::TableWriter) has
    /// written, of this store or another, with the blob files that they refer to (files whose names
    /// end in `.blob`, in any order), and returns when they are on disk. Readers see all of them
    /// or none. No pair is rewritten: the files are linked, or copied from another file system, and
    /// every block of them is read and checked first. The files must not be changed afterwards; they
    /// may be removed.
    ///
    /// Their keys must not meet each other's or any that are in the store: delete the range first.
    /// What is written into it while this runs either makes it fail or comes out on top.
    ///
    /// ```
    /// # use roundtable::storage::{Batch, Engine, KeyRange, MemoryVfs, Options};
    /// # let disk = std::sync::Arc::new(MemoryVfs::default());
    /// # let (engine, _) = Engine::open(disk.clone(), "data".as_ref(), Options::default())?;
    /// let mut batch = Batch::new();
    /// batch.put(b"user/1", b"Ada");
    /// engine.write(batch)?;
    /// let export = engine.export(&KeyRange::prefix(b"user/"), "export".as_ref())?;
    /// let (other, _) = Engine::open(disk, "other".as_ref(), Options::default())?;
    /// other.ingest(&export.paths("export".as_ref()))?;
    /// assert_eq!(other.get(b"user/1")?.expect("it came along").0, "Ada");
    /// # Ok::<(), roundtable::storage::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt` or `Version` naming the file and offset; `FilesOverlap`; `RangeInUse` when there is
    /// a key in their range; `DiskFull`, `Overloaded`, `ReadOnly`, `Closed`; else what the file
    /// system says. Nothing is taken in then, unless writing the manifest failed, for which the
    /// store is read-only until it is opened again.
    pub fn ingest(&self, files: &[PathBuf]) -> Result<Ingested, Error> {
        let mut taken = Vec::new();
        let ingested = self.take_in(files, &mut taken);
        if let Err(error) = &ingested
            && (error.is_full() || !matches!(error, Error::ReadOnly { .. }))
        {
            // Orphans at worst, swept at the next open.
            taken.iter().for_each(|path| drop(self.core.vfs.remove(path)));
        }
        ingested.map_err(|error| if error.is_full() { Error::DiskFull } else { error })
    }

    fn take_in(&self, files: &[PathBuf], taken: &mut Vec<PathBuf>) -> Result<Ingested, Error> {
        let core = &self.core;
        if let Some(error) = core.commit.lock().refusal() {
            return Err(error);
        }
        let (blob_paths, table_paths): (Vec<&PathBuf>, Vec<&PathBuf>) =
            files.iter().partition(|file| is_blob_path(file));
        let mut blobs = Vec::new();
        for file in blob_paths {
            blobs.push(Arc::new(core.link_foreign_blob(file, taken)?));
        }
        let mut tables = Vec::new();
        for file in table_paths {
            tables.push(core.link_foreign(file, &blobs, taken)?);
        }
        core.leave_needless(&blobs, &tables, taken);
        tables.sort_by(|(_, one), (_, other)| one.meta.smallest.cmp(&other.meta.smallest));
        for ((low_file, low), (high_file, high)) in tables.iter().zip(tables.iter().skip(1)) {
            if low.meta.largest >= high.meta.smallest {
                return Err(Error::FilesOverlap {
                    one: low_file.clone(),
                    other: high_file.clone(),
                });
            }
        }
        if tables.is_empty() {
            return Ok(Ingested { seqno: core.commit.lock().last, ..Ingested::default() });
        }
        core.sync_names()?;
        let mut tables: Vec<Table> = tables.into_iter().map(|(_, table)| table).collect();
        for _ in 0..TRIES {
            // What is newer than the tables, or another's tables, would reach the levels meanwhile.
            let alone = core.flushing.lock();
            if let Some(moment) = core.number_for(&tables)? {
                moment.find_empty(&tables)?;
                self.write_synced(Batch::new())?;
                if let Some(ingested) = core.put_in(&mut tables, moment.seqno)? {
                    return Ok(ingested);
                }
            }
            drop(alone);
            // A delete in memory would stand above what is taken in, and hide it.
            self.flush()?;
        }
        Err(Error::Overloaded { unit: "writes into the range", waiting: TRIES, limit: TRIES })
    }
}

impl Snapshot {
    /// # Errors
    /// `RangeInUse`, or what reading meets.
    fn find_empty(&self, tables: &[Table]) -> Result<(), Error> {
        for table in tables {
            let range = span_of(&table.meta);
            let (start, end) = range.as_slices();
            if let Some((key, _)) = self.range(start, end, Direction::Forward).next_key()? {
                return Err(Error::RangeInUse { key: Bytes::copy_from_slice(key) });
            }
        }
        Ok(())
    }
}

fn span_of(meta: &TableMeta) -> Range {
    let (start, end) = (meta.smallest.clone(), meta.largest.clone());
    Range { start: std::ops::Bound::Included(start), end: std::ops::Bound::Included(end) }
}

impl View {
    /// Whether a memtable has a put or a delete of a key in the range of a table.
    fn memory_meets(&self, tables: &[Table]) -> Result<bool, Error> {
        for table in tables {
            if self.memory_holds(&span_of(&table.meta), Seqno(u64::MAX))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Core {
    fn link_foreign(
        &self,
        file: &Path,
        blobs: &[Arc<BlobFile>],
        taken: &mut Vec<PathBuf>,
    ) -> Result<(PathBuf, Table), Error> {
        let no = self.manifest.lock().state.take_number()?;
        let path = table_path(&self.dir, no);
        self.link(file, &path, taken)?;
        let point = |key: &[u8], value: &[u8]| self.filter()?.point(key, value);
        let cache = Arc::clone(&self.cache);
        let table = Table::adopt(&*self.vfs, path, (no, blobs), cache, &point);
        let table = table.map_err(|error| error.about(file))?;
        Ok((file.to_path_buf(), table))
    }

    fn link_foreign_blob(&self, file: &Path, taken: &mut Vec<PathBuf>) -> Result<BlobFile, Error> {
        let no = self.manifest.lock().state.take_number()?;
        let path = blob_path(&self.dir, no);
        self.link(file, &path, taken)?;
        let blob = BlobFile::adopt(&*self.vfs, path, no, Arc::clone(&self.cache));
        blob.map_err(|error| error.about(file))
    }

    fn link(&self, file: &Path, path: &Path, taken: &mut Vec<PathBuf>) -> Result<(), Error> {
        taken.push(path.to_path_buf());
        let linked = link_or_copy(&*self.vfs, file, path);
        let copied = linked.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { file: file.to_path_buf() },
            _ => Error::io("create", path, error),
        })?;
        if !copied {
            // Whoever wrote it may not have.
            let handle = self.vfs.open_to_read(path);
            let handle = handle.map_err(|error| Error::io("open", path, error))?;
            handle.sync_data().map_err(|error| Error::io("sync", path, error))?;
        }
        Ok(())
    }

    /// Removes blob files again that no table refers to.
    fn leave_needless(
        &self,
        blobs: &[Arc<BlobFile>],
        tables: &[(PathBuf, Table)],
        taken: &mut Vec<PathBuf>,
    ) {
        let used: BTreeSet<FileNo> =
            tables.iter().flat_map(|(_, table)| table.blobs()).map(|blob| blob.no).collect();
        for blob in blobs.iter().filter(|blob| !used.contains(&blob.no)) {
            let _orphan = self.vfs.remove(blob.path());
            taken.retain(|path| path != blob.path());
        }
    }

    fn sync_names(&self) -> Result<(), Error> {
        match crate::mutant!("storage-no-dir-sync") {
            true => Ok(()),
            false => {
                let synced = self.vfs.sync_dir(&self.dir);
                synced.map_err(|error| Error::io("sync", &self.dir, error))
            }
        }
    }

    /// Gives the tables their place among the batches, unless a memtable has something in their
    /// range. Returns the store at that place: what is submitted from then on is newer.
    fn number_for(&self, tables: &[Table]) -> Result<Option<Snapshot>, Error> {
        let mut commit = self.commit.lock();
        if let Some(error) = commit.refusal() {
            return Err(error);
        }
        let view = self.view.load_full();
        if !crate::mutant!("storage-ingest-below-deletes") && view.memory_meets(tables)? {
            return Ok(None);
        }
        commit.last.0 += 1;
        self.visible.store(commit.last.0, Ordering::Release);
        // No memtable may hold what is older and what is newer than a table.
        if !view.active.is_empty() {
            self.seal_active(&view);
        }
        Ok(Some(Snapshot { view, seqno: commit.last, closed: false }))
    }

    /// Makes the tables part of the store; `None`, and nothing is changed, when something newer may
    /// be in tables already: it may have sunk to where they would have to stand, or be about to, and
    /// of a delete there may be nothing left to tell that it is newer than what it deletes.
    fn put_in(&self, tables: &mut Vec<Table>, seqno: Seqno) -> Result<Option<Ingested>, Error> {
        for table in tables.iter_mut() {
            (table.meta.first, table.meta.last) = (seqno, seqno);
        }
        // No merge begins or ends, and no flush, until the tables stand among the others.
        let _one_at_a_time = self.picking.lock();
        let running: Vec<Job> = {
            let commit = self.commit.lock();
            commit.compacting.avoid.running.values().cloned().collect()
        };
        let mut manifest = self.manifest.lock();
        if manifest.state.flushed > seqno && !crate::mutant!("storage-ingest-beside-newer") {
            return Ok(None);
        }
        let levels = Arc::clone(&self.view.load().levels);
        let places = tables.iter().map(|table| place_for(&table.meta, &levels, &running));
        let Some(places) = places.collect::<Option<Vec<usize>>>() else { return Ok(None) };
        let tables: Vec<_> = std::mem::take(tables).into_iter().map(Arc::new).collect();
        let placed: Vec<_> = places.into_iter().zip(tables).collect();
        let blobs = placed.iter().flat_map(|(_, table)| table.blobs());
        let blobs: BTreeMap<FileNo, &Arc<BlobFile>> = blobs.map(|blob| (blob.no, blob)).collect();
        let with_level = |(level, table): &(usize, Arc<Table>)| TableMeta {
            level: u8::try_from(*level).expect("there are seven levels"),
            ..table.meta.clone()
        };
        let entries = placed.iter().map(|(_, table)| table.meta.entries).sum();
        let next =
            self.next_levels(levels.edited(&[], &placed), Balance { came: entries, went: 0 });
        let edit = Edit {
            tables_added: placed.iter().map(with_level).collect(),
            blobs_added: blobs.values().map(|blob| blob.meta()).collect(),
            ..Edit::default()
        };
        let appended = match crate::mutant!("storage-ingest-before-manifest") {
            true => {
                manifest.state.apply(&edit);
                Ok(())
            }
            false => manifest.append(edit),
        };
        if let Err(error) = appended {
            drop(manifest);
            if error.is_full() {
                return Err(error);
            }
            // Whether it is in force is known at the next open.
            self.latch(&error);
            let cause = error.to_string().into();
            return Err(Error::ReadOnly { cause });
        }
        self.change_levels(&manifest, next, |_, _| {});
        Ok(Some(Ingested {
            seqno,
            files: placed.len(),
            entries,
            bytes: placed.iter().map(|(_, table)| table.meta.bytes).sum::<u64>()
                + blobs.values().map(|blob| blob.meta().bytes).sum::<u64>(),
        }))
    }
}

/// The lowest level at which a table stands above everything older in its range, and in nobody's
/// way; `None` if something newer has sunk below every such place.
fn place_for(meta: &TableMeta, levels: &Levels, running: &[Job]) -> Option<usize> {
    let mut place = 0;
    for level in 0..LEVELS {
        let meeting = || levels.level(level).iter().filter(|table| overlap(&table.meta, meta));
        if level > 0 && meeting().any(|table| table.meta.last > meta.last) {
            return None;
        }
        let is_older = |table: &Arc<Table>| level > 0 || table.meta.first <= meta.last;
        let is_awaited = |job: &Job| job.to == level && job.span.meets(meta);
        if meeting().any(is_older) || running.iter().any(is_awaited) {
            break;
        }
        place = level;
    }
    Some(place)
}

#[cfg(test)]
mod tests;

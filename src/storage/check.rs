//! Checks a store that nobody has open, or an export, and changes nothing in it.
//!
//! Decides what counts as a fault: everything that `Engine::open` would refuse or report, every
//! block of every table, every value in a blob file, every record of every log in use, also those
//! whose batches are in tables already. A torn tail of the log in use is what a crash leaves and no
//! fault. Of an export: its list, every table and blob file against the list and all that is in them,
//! and tables that the list does not name. A directory is an export if it has the list of one and no
//! `CURRENT`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::blob::BlobFile;
use super::cache::BlockCache;
use super::engine::blobs_of;
use super::error::Error;
use super::export::{self, BlobPart, Export, TableFile};
use super::files::{CURRENT, FileKind, FileNo, blob_path, table_path};
use super::manifest::{self, State};
use super::sstable::{Table, TableMeta};
use super::vfs::Vfs;
use super::wal::{refuse_unknown_logs, replay};

/// What a check has found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Checked {
    /// Number of tables read to the end.
    pub tables: usize,
    /// Number of blocks read.
    pub blocks: u64,
    /// Number of blob files read.
    pub blobs: usize,
    /// Number of values in them, also of those that no table refers to any more.
    pub values: u64,
    /// Number of log segments read.
    pub segments: usize,
    /// Number of batches in them.
    pub batches: u64,
    /// Bytes of torn writes at the log's end, which the next start will cut off.
    pub torn_bytes: u64,
    /// Every fault, each naming its file and, where there is one, the offset. The store is sound
    /// when there is none.
    pub faults: Vec<Error>,
}

/// Reads everything of the store, or of the export, in `dir` and checks every checksum. Holds the
/// lock of the directory meanwhile; beside the lock's own file nothing is written. What is wrong with
/// the data is no error of this function but in [`Checked::faults`].
///
/// ```
/// use roundtable::storage::{Batch, Engine, KeyRange, MemoryVfs, Options, check};
///
/// let disk = std::sync::Arc::new(MemoryVfs::default());
/// let (engine, _) = Engine::open(disk.clone(), "data".as_ref(), Options::default())?;
/// let mut batch = Batch::new();
/// batch.put(b"key", b"value");
/// engine.write(batch)?;
/// engine.export(&KeyRange::all(), "copy".as_ref())?;
/// engine.close()?;
/// for dir in ["data", "copy"] {
///     assert!(check(&*disk, dir.as_ref())?.faults.is_empty());
/// }
/// # Ok::<(), roundtable::storage::Error>(())
/// ```
///
/// # Errors
/// `Locked` when an engine has the store open; when the directory cannot be locked or listed.
pub fn check(vfs: &dyn Vfs, dir: &Path) -> Result<Checked, Error> {
    let _lock = vfs.lock_dir(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked { dir: dir.to_path_buf() },
        _ => Error::io("lock", dir, error),
    })?;
    let names = vfs.list(dir).map_err(|error| Error::io("list", dir, error))?;
    let mut checked = Checked::default();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has(export::LIST) && !has(CURRENT) {
        checked.export(vfs, dir, &names);
        return Ok(checked);
    }
    match manifest::read(vfs, dir, &names) {
        Ok(Some(state)) => checked.files(vfs, dir, &state, &names),
        // Most likely the wrong directory, which must not pass for a sound store.
        Ok(None) => checked.faults.push(Error::Missing { file: dir.join(CURRENT) }),
        Err(error) => checked.faults.push(error),
    }
    Ok(checked)
}

/// The checksum of a file that a list names with this length.
fn measured(vfs: &dyn Vfs, path: &Path, listed: u64) -> Result<u64, Error> {
    let (bytes, checksum) = export::measure(vfs, path)?;
    match bytes == listed {
        true => Ok(checksum),
        false => {
            let what = "length is not what the list says";
            Err(Error::corrupt(path, bytes.min(listed), what))
        }
    }
}

impl Checked {
    fn files(&mut self, vfs: &dyn Vfs, dir: &Path, state: &State, names: &[String]) {
        self.faults.extend(refuse_unknown_logs(vfs, dir, &state.logs, names).err());
        // Nothing is read twice but the values that are in force: once where they stand, and once
        // for the key that refers to them.
        let cache = Arc::new(BlockCache::new(0, 1));
        let mut blobs = BTreeMap::new();
        for (no, (meta, _)) in &state.blobs {
            match BlobFile::open(vfs, blob_path(dir, *no), meta, Arc::clone(&cache)) {
                Ok(blob) => {
                    let (values, fault) = blob.verify();
                    self.blobs += 1;
                    self.values += values;
                    self.faults.extend(fault);
                    blobs.insert(*no, Arc::new(blob));
                }
                Err(error) => self.faults.push(error),
            }
        }
        for meta in state.tables.values() {
            match blobs_of(meta, &blobs) {
                Some(files) => self.table((vfs, dir), meta, files, &cache),
                // A file that is missing has been named above.
                None if meta.blobs.iter().all(|one| state.blobs.contains_key(&one.file)) => {}
                None => {
                    let what = "a table refers to a blob file that is not named";
                    self.faults.push(Error::corrupt(&dir.join(CURRENT), 0, what));
                }
            }
        }
        if let Err(error) = self.logs(vfs, dir, state) {
            self.faults.push(error);
        }
    }

    fn export(&mut self, vfs: &dyn Vfs, dir: &Path, names: &[String]) {
        let list = Export::list_path(dir);
        let export = match Export::read(vfs, dir) {
            Ok(export) => export,
            Err(error) => return self.faults.push(error),
        };
        self.faults.extend(export.broken().map(|what| Error::corrupt(&list, 0, what)));
        let mut blobs = Vec::new();
        for (no, blob) in (1..).zip(&export.blobs) {
            match self.listed_blob((vfs, dir), no, blob) {
                Ok(blob) => blobs.push(Arc::new(blob)),
                Err(error) => self.faults.push(error),
            }
        }
        for (no, file) in (1..).zip(&export.files) {
            if let Err(error) = self.listed((vfs, dir), (no, &blobs), file) {
                self.faults.push(error);
            }
        }
        let is_ours =
            |name: &&String| matches!(FileKind::of(name), FileKind::Table(_) | FileKind::Blob(_));
        let is_listed = |name: &&String| {
            export.files.iter().any(|file| file.name == **name)
                || export.blobs.iter().any(|blob| blob.name == **name)
        };
        for name in names.iter().filter(is_ours).filter(|name| !is_listed(name)) {
            let what = "the list of the export does not name this file";
            self.faults.push(Error::corrupt(&dir.join(name), 0, what));
        }
    }

    /// A blob file of an export.
    fn listed_blob(
        &mut self,
        (vfs, dir): (&dyn Vfs, &Path),
        no: FileNo,
        file: &BlobPart,
    ) -> Result<BlobFile, Error> {
        let path = dir.join(&file.name);
        let checksum = measured(vfs, &path, file.bytes)?;
        let blob = BlobFile::adopt(vfs, path.clone(), no, Arc::new(BlockCache::new(0, 1)))?;
        self.blobs += 1;
        self.values += blob.meta().records;
        match checksum == file.checksum {
            true => Ok(blob),
            // Whole, but not the bytes that were listed.
            false => Err(Error::corrupt(&path, 0, "file checksum is not what the list says")),
        }
    }

    /// A table of an export. The error is what keeps its blocks from being read.
    fn listed(
        &mut self,
        (vfs, dir): (&dyn Vfs, &Path),
        (no, blobs): (FileNo, &[Arc<BlobFile>]),
        file: &TableFile,
    ) -> Result<(), Error> {
        let path = dir.join(&file.name);
        let checksum = measured(vfs, &path, file.bytes)?;
        let cache = Arc::new(BlockCache::new(0, 1));
        let keys = (file.smallest.clone(), file.largest.clone());
        let table = Table::open_foreign(vfs, path.clone(), (no, blobs), Some(keys), cache)?;
        let (blocks, faults) = table.verify();
        self.tables += 1;
        self.blocks += blocks;
        let meta = &table.meta;
        let what = if !faults.is_empty() {
            None
        } else if meta.entries != file.entries {
            Some("table is not the one the list names")
        } else if meta.deletes > 0 {
            Some("there are deletes in a table of an export")
        } else if checksum != file.checksum {
            // Whole, but not the bytes that were listed.
            Some("file checksum is not what the list says")
        } else {
            None
        };
        self.faults.extend(faults);
        self.faults.extend(what.map(|what| Error::corrupt(&path, 0, what)));
        Ok(())
    }

    fn table(
        &mut self,
        (vfs, dir): (&dyn Vfs, &Path),
        meta: &TableMeta,
        blobs: Vec<Arc<BlobFile>>,
        cache: &Arc<BlockCache>,
    ) {
        let path = table_path(dir, meta.no);
        match Table::open(vfs, path, (meta.clone(), blobs), Arc::clone(cache)) {
            Ok(table) => {
                let (blocks, faults) = table.verify();
                self.tables += 1;
                self.blocks += blocks;
                self.faults.extend(faults);
            }
            Err(error) => self.faults.push(error),
        }
    }

    fn logs(&mut self, vfs: &dyn Vfs, dir: &Path, state: &State) -> Result<(), Error> {
        for log in replay(vfs, dir, &state.logs, state.flushed, &mut |_, _| Ok(()))? {
            self.segments += 1;
            self.batches += log.scan.batches;
            if log.sealed.is_none() {
                self.torn_bytes += log.scan.torn;
            }
            let what = "records that were synced cannot be read";
            let fault = |start| Error::corrupt(&log.path, start, what);
            self.faults.extend(log.scan.damage.iter().map(|damage| fault(damage.start)));
        }
        Ok(())
    }
}

//! Writing out a range as tables that another store can take in.
//!
//! Decides what goes as it is and what is written anew: a table that lies inside the range and is
//! alone there, with nothing above or below it, is linked; everything between such tables is read
//! through a snapshot, and written as new ones. So the files hold live pairs only, never meet, and
//! are of one moment. The list of them comes last.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::checkpoint::{FilesIn, Filling};
use super::core::View;
use super::{Engine, Snapshot};
use crate::storage::batch::{Batch, Kind, Seqno};
use crate::storage::blob::{BlobFile, NewFiles, Separator};
use crate::storage::coding::place;
use crate::storage::entry::EntryRef;
use crate::storage::error::Error;
use crate::storage::export::{BlobPart, Export, TableFile, measure};
use crate::storage::files::{FileNo, blob_path, table_path};
use crate::storage::iter::{Direction, Range};
use crate::storage::key_range::KeyRange;
use crate::storage::levels::{LAST_LEVEL, overlap};
use crate::storage::merge::Merge;
use crate::storage::sstable::{Table, TableBuilder, TableMeta};

/// A blob file is linked if the tables that are linked refer to one byte of it in so many.
const DENSE_SHARE: u64 = 2;

impl Engine {
    /// Writes what is in `range` now as tables into `dir`, which must be empty or not there, and
    /// returns when they are on disk. All of it is as of one moment, see [`Export::seqno`]; writes
    /// go on meanwhile. Tables that lie inside the range and are alone there are linked, or copied
    /// to another file system; the rest is written anew. A list of the files is beside them, see
    /// [`Export::read`]. In an inline engine this steps the log, callbacks included.
    ///
    /// # Errors
    /// `Occupied` when there are files in `dir`, `Locked` when it is in use; `Corrupt` for what
    /// cannot be read; `DiskFull`, `ReadOnly`, `Closed`; else what the file system says. This store
    /// is as before, and what was begun is removed as far as the disk lets it.
    pub fn export(&self, range: &KeyRange, dir: &Path) -> Result<Export, Error> {
        self.export_as(range, dir, true)
    }

    /// The same for one who reads the files at once and removes them then: neither they nor their names outlast a
    /// crash, there is no list beside them, and their checksums are not made (0): who takes them in checks every
    /// block.
    ///
    /// # Errors
    /// As for [`Engine::export`].
    pub fn export_to_pass(&self, range: &KeyRange, dir: &Path) -> Result<Export, Error> {
        self.export_as(range, dir, false)
    }

    fn export_as(&self, range: &KeyRange, dir: &Path, synced: bool) -> Result<Export, Error> {
        let snapshot = self.snapshot();
        // What is still on its way to the log may yet be taken back.
        self.write_synced(Batch::new())?;
        let filling = Filling::begin(&self.core, dir)?;
        let mut exporting = Exporting {
            engine: self,
            snapshot,
            filling,
            files: Vec::new(),
            blobs: Vec::new(),
            linked: BTreeMap::new(),
            seed: 1,
            made: 0,
            synced,
        };
        let export = exporting.run(range);
        let export =
            export.map_err(|error| if error.is_full() { Error::DiskFull } else { error })?;
        exporting.filling.keep();
        Ok(export)
    }
}

struct Exporting<'a> {
    engine: &'a Engine,
    snapshot: Snapshot,
    filling: Filling<'a>,
    files: Vec<TableFile>,
    blobs: Vec<BlobPart>,
    /// The names of blob files that were taken as they are, by their numbers here.
    linked: BTreeMap<FileNo, String>,
    /// Made of the salts of blob files that are taken as they are, so that no new one has the same.
    seed: u64,
    made: FileNo,
    /// Whether it is to outlast a crash.
    synced: bool,
}

impl Exporting<'_> {
    fn run(&mut self, range: &KeyRange) -> Result<Export, Error> {
        let levels = Arc::clone(&self.snapshot.view.levels);
        let mut whole = Vec::new();
        for (_, table) in levels.all() {
            if self.snapshot.view.is_alone(table, range, self.snapshot.seqno)? {
                whole.push(table);
            }
        }
        keep_dense(&mut whole);
        let linked = whole.iter().flat_map(|table| table.blobs());
        self.seed = linked.fold(1, |seed, blob| place(seed, blob.salt));
        whole.sort_by(|one, other| one.meta.smallest.cmp(&other.meta.smallest));
        let mut start = Bound::Included(Bytes::copy_from_slice(range.start()));
        for table in whole {
            self.write(start, Bound::Excluded(&table.meta.smallest))?;
            self.link(table)?;
            start = Bound::Excluded(table.meta.largest.clone());
        }
        self.write(start, range.end().map_or(Bound::Unbounded, Bound::Excluded))?;
        if self.synced {
            self.filling.sync()?;
        }
        let export = Export {
            seqno: self.snapshot.seqno,
            range: range.clone(),
            files: std::mem::take(&mut self.files),
            blobs: std::mem::take(&mut self.blobs),
        };
        if !self.synced {
            return Ok(export);
        }
        let core = &self.engine.core;
        self.filling.made(Export::list_path(self.filling.dir));
        export.write(&*core.vfs, self.filling.dir)?;
        Ok(export)
    }

    fn next_no(&mut self) -> FileNo {
        self.made += 1;
        self.made
    }

    fn link(&mut self, table: &Table) -> Result<(), Error> {
        let mut names = Vec::new();
        for blob in table.blobs() {
            let name = match self.linked.get(&blob.no) {
                Some(name) => name.clone(),
                None => self.link_blob(blob)?,
            };
            names.push(name);
        }
        let name = table_path(Path::new(""), self.next_no());
        self.filling.take(table.path(), &name)?;
        self.list(&name, &table.meta, names)
    }

    fn link_blob(&mut self, blob: &BlobFile) -> Result<String, Error> {
        let name = blob_path(Path::new(""), self.next_no());
        if !crate::mutant!("storage-export-forgets-blob") {
            self.filling.take(blob.path(), &name)?;
            self.list_blob(&name)?;
        }
        let name = name.to_string_lossy().into_owned();
        self.linked.insert(blob.no, name.clone());
        Ok(name)
    }

    fn list_blob(&mut self, name: &Path) -> Result<(), Error> {
        let path = self.filling.dir.join(name);
        let (bytes, checksum) = self.measure(&path)?;
        let name = name.to_string_lossy().into_owned();
        self.blobs.push(BlobPart { name, bytes, checksum });
        Ok(())
    }

    fn write(&mut self, start: Bound<Bytes>, end: Bound<&[u8]>) -> Result<(), Error> {
        let start = start.as_ref().map(|key| &**key);
        let mut pairs = self.snapshot.passing(start, end);
        let table_bytes = self.engine.core.options.table_bytes;
        let mut separator = Separator::new(&self.engine.core.options);
        let mut builder: Option<TableBuilder> = None;
        while let Some((key, value, seqno)) = pairs.next_lent()? {
            if builder.as_ref().is_some_and(|builder| builder.bytes() >= table_bytes)
                && let Some(full) = builder.take()
            {
                self.end(full)?;
            }
            let (made, seed) = (&mut self.made, self.seed);
            let next = &mut || {
                *made += 1;
                Ok(*made)
            };
            let (filling, level, synced) = (&mut self.filling, LAST_LEVEL, self.synced);
            let mut files = FilesIn { filling, level, seed, next, synced };
            let builder = match &mut builder {
                Some(builder) => builder,
                none => none.insert(files.table()?),
            };
            separator.add(builder, EntryRef { key, seqno, kind: Kind::Put, value }, &mut files)?;
        }
        separator.end()?;
        for blob in separator.files() {
            self.list_blob(&blob_path(Path::new(""), blob.no))?;
        }
        builder.map_or(Ok(()), |last| self.end(last))
    }

    fn end(&mut self, builder: TableBuilder) -> Result<(), Error> {
        let table = builder.finish()?;
        let name = table_path(Path::new(""), table.meta.no);
        let blobs = table.blobs().iter().map(|blob| blob_path(Path::new(""), blob.no));
        let blobs = blobs.map(|name| name.to_string_lossy().into_owned()).collect();
        self.list(&name, &table.meta, blobs)
    }

    fn list(&mut self, name: &Path, meta: &TableMeta, blobs: Vec<String>) -> Result<(), Error> {
        let path = self.filling.dir.join(name);
        let measured = self.measure(&path)?;
        self.files.push(TableFile { blobs, ..TableFile::of(&path, meta, measured) });
        Ok(())
    }

    /// Length and checksum of a file.
    fn measure(&self, path: &Path) -> Result<(u64, u64), Error> {
        let vfs = &*self.engine.core.vfs;
        if self.synced {
            return measure(vfs, path);
        }
        let size = vfs.open_to_read(path).and_then(|file| file.size());
        size.map(|size| (size, 0)).map_err(|error| Error::io("measure", path, error))
    }
}

/// Leaves out tables whose blob files are mostly of other tables: to link those would hand over much
/// that is not asked for. And all but one of those that refer to files which could not be told apart
/// by their salts, as files of two other stores may be. What is left out is written anew.
fn keep_dense(tables: &mut Vec<&Arc<Table>>) {
    loop {
        let mut taken: BTreeMap<FileNo, (u64, u64)> = BTreeMap::new();
        let mut salts: BTreeMap<u64, FileNo> = BTreeMap::new();
        for table in tables.iter() {
            for (one, blob) in table.meta.blobs.iter().zip(table.blobs()) {
                taken.entry(blob.no).or_insert((0, blob.meta().record_bytes())).0 += one.bytes;
                salts.entry(blob.salt).or_insert(blob.no);
            }
        }
        let is_dense = |blob: &Arc<BlobFile>| {
            let (used, all) = taken.get(&blob.no).copied().unwrap_or_default();
            used.saturating_mul(DENSE_SHARE) >= all && salts.get(&blob.salt) == Some(&blob.no)
        };
        let before = tables.len();
        tables.retain(|table| table.blobs().iter().all(is_dense));
        if tables.len() == before {
            return;
        }
    }
}

impl View {
    /// Whether a table is inside `range` and all that a reader at `at` sees between its first and
    /// its last key.
    fn is_alone(&self, table: &Table, range: &KeyRange, at: Seqno) -> Result<bool, Error> {
        let meta = &table.meta;
        let inside = range.holds(&meta.smallest, &meta.largest) && meta.deletes == 0;
        let others = || self.levels.all().filter(|(_, other)| other.meta.no != meta.no);
        if !inside || others().any(|(_, other)| overlap(&other.meta, meta)) {
            return Ok(false);
        }
        let in_memory: Vec<_> = self.memtables().filter_map(|it| it.deleted.get()).collect();
        let deleted = in_memory.iter().chain([self.levels.deleted()]);
        if deleted.flat_map(|deleted| deleted.ranges()).any(|delete| delete.concerns(meta)) {
            return Ok(false);
        }
        let (start, end) = (meta.smallest.clone(), meta.largest.clone());
        let span = Range { start: Bound::Included(start), end: Bound::Included(end) };
        Ok(!self.memory_holds(&span, at)?)
    }

    /// Whether a memtable has a put or a delete inside `range`.
    pub(super) fn memory_holds(&self, range: &Range, at: Seqno) -> Result<bool, Error> {
        let sources = self.memory_sources(at, Direction::Forward).collect();
        Merge::new(sources, range.clone(), Direction::Forward).advance()
    }
}

//! A copy of the store as it is now, without stopping it.
//!
//! Decides what a checkpoint is made of: the tables and blob files of a snapshot by hard links, which
//! cost no room until they are merged away here, and what is only in memory as one table more. So it needs no
//! log, and holds the snapshot and nothing else. The snapshot pins its tables, so nothing waits:
//! writes, flushes and merges go on. `CURRENT` is written last: what a crash leaves of a checkpoint
//! cannot be taken for a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::core::{Core, View};
use super::open::sync_parents;
use super::{Engine, Snapshot};
use crate::storage::batch::{Batch, Seqno};
use crate::storage::blob::{BlobFile, NewBlob, NewBlobs, NewFiles, Separator};
use crate::storage::coding::place;
use crate::storage::deleted::{Covers, RangeDelete};
use crate::storage::error::Error;
use crate::storage::files::{CURRENT, CURRENT_NEXT, FileNo, blob_path, manifest_name, table_path};
use crate::storage::iter::{Direction, Range};
use crate::storage::manifest::{Edit, Manifest, State};
use crate::storage::merge::Merge;
use crate::storage::sstable::{TableBuilder, TableMeta};
use crate::storage::vfs::{DirLock, LOCK_FILE, Unsynced, VfsFile, link_or_copy};

/// What a checkpoint holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The last batch in it.
    pub seqno: Seqno,
    /// Number of its files that hold data.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// How many of these bytes had to be written: the rest is shared with the store by hard links.
    pub bytes_copied: u64,
}

/// A directory that is being filled. What was made in it goes again if it is not kept.
pub(super) struct Filling<'a> {
    core: &'a Core,
    pub(super) dir: &'a Path,
    made: Vec<PathBuf>,
    _lock: Box<dyn DirLock>,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        // CURRENT was the last to be made.
        for path in self.made.iter().rev() {
            let _left = self.core.vfs.remove(path);
        }
    }
}

impl<'a> Filling<'a> {
    /// Makes the directory, and those above it, if they are not there.
    ///
    /// # Errors
    /// `Occupied` if there are files in it, `Locked`, or what the file system says.
    pub(super) fn begin(core: &'a Core, dir: &'a Path) -> Result<Self, Error> {
        let vfs = &core.vfs;
        vfs.create_dir(dir).map_err(|error| Error::io("create", dir, error))?;
        if let Some(parent) = dir.parent() {
            vfs.sync_dir(parent).map_err(|error| Error::io("sync", parent, error))?;
        }
        sync_parents(&**vfs, dir)?;
        let lock = vfs.lock_dir(dir).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => Error::Locked { dir: dir.to_path_buf() },
            _ => Error::io("lock", dir, error),
        })?;
        let names = vfs.list(dir).map_err(|error| Error::io("list", dir, error))?;
        if names.iter().any(|name| name != LOCK_FILE) {
            return Err(Error::Occupied { path: dir.to_path_buf() });
        }
        Ok(Self { core, dir, made: Vec::new(), _lock: lock })
    }

    /// Takes a file in by a link or a copy. Returns whether it is a copy.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn take(&mut self, from: &Path, name: &Path) -> Result<bool, Error> {
        let to = self.dir.join(name);
        self.made.push(to.clone());
        let taken = link_or_copy(&*self.core.vfs, from, &to);
        taken.map_err(|error| Error::io("create", &to, error))
    }

    /// Begins a file that is to be removed with the others.
    pub(super) fn made(&mut self, path: PathBuf) {
        self.made.push(path);
    }

    /// Makes the names durable.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let synced = self.core.vfs.sync_dir(self.dir);
        synced.map_err(|error| Error::io("sync", self.dir, error))
    }

    pub(super) fn keep(mut self) {
        self.made.clear();
    }
}

/// New files in a directory that is being filled, for tables of level 0 or the last.
pub(super) struct FilesIn<'a, 'f> {
    pub(super) filling: &'a mut Filling<'f>,
    pub(super) level: usize,
    /// What the salts of blob files begin with, their numbers aside.
    pub(super) seed: u64,
    pub(super) next: &'a mut dyn FnMut() -> Result<FileNo, Error>,
    /// Whether they are to outlast a crash.
    pub(super) synced: bool,
}

impl FilesIn<'_, '_> {
    fn create(&self, path: &Path) -> Result<Arc<dyn VfsFile>, Error> {
        let file = self.filling.core.vfs.create(path);
        let file = file.map_err(|error| Error::io("create", path, error))?;
        Ok(if self.synced { file } else { Arc::new(Unsynced(file)) })
    }
}

impl NewBlobs for FilesIn<'_, '_> {
    fn blob(&mut self) -> Result<NewBlob, Error> {
        let no = (self.next)()?;
        let path = blob_path(self.filling.dir, no);
        self.filling.made(path.clone());
        let (file, seed) = (self.create(&path)?, place(self.seed, u64::from(no)));
        Ok(self.filling.core.blob_in((no, seed), path, file))
    }
}

impl NewFiles for FilesIn<'_, '_> {
    fn table(&mut self) -> Result<TableBuilder, Error> {
        let no = (self.next)()?;
        let path = table_path(self.filling.dir, no);
        self.filling.made(path.clone());
        let file = self.create(&path)?;
        Ok(self.filling.core.table_in(no, path, file, self.level))
    }
}

impl Engine {
    /// Makes `dir`, which must be empty or not there, a store of its own that holds what this one
    /// holds now, and returns when that is on disk. It can be opened, here or on another machine,
    /// once this returns; nothing that happens to either of the two is seen by the other. Writes go
    /// on meanwhile. Tables are shared by hard links where the file system can, so it takes little
    /// time and room; on another file system they are copied. In an inline engine this steps the
    /// log, callbacks included.
    ///
    /// ```
    /// # use roundtable::storage::{Batch, Engine, MemoryVfs, Options};
    /// # let disk = std::sync::Arc::new(MemoryVfs::default());
    /// # let (engine, _) = Engine::open(disk.clone(), "data".as_ref(), Options::default())?;
    /// let mut batch = Batch::new();
    /// batch.put(b"key", b"value");
    /// engine.write(batch)?;
    /// engine.checkpoint("backup".as_ref())?;
    /// let (backup, _) = Engine::open(disk, "backup".as_ref(), Options::default())?;
    /// assert_eq!(backup.get(b"key")?.expect("it was there").0, "value");
    /// # Ok::<(), roundtable::storage::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Occupied` when there are files in `dir`, `Locked` when a store or another checkpoint is
    /// open there; `ReadOnly`, `Closed`, `DiskFull`; else what the file system says. This store is
    /// as before; what was begun is removed as far as the disk lets it, and `dir` does not open as
    /// a store.
    pub fn checkpoint(&self, dir: &Path) -> Result<Checkpoint, Error> {
        let snapshot = self.snapshot();
        // What is still on its way to the log may yet be taken back, and would be in the copy.
        self.write_synced(Batch::new())?;
        let mut filling = Filling::begin(&self.core, dir)?;
        let checkpoint = snapshot.copy_to(&mut filling);
        let checkpoint = checkpoint.map_err(|error| match error.is_full() {
            true => Error::DiskFull,
            false => error,
        })?;
        filling.keep();
        Ok(checkpoint)
    }
}

impl Snapshot {
    fn copy_to(&self, filling: &mut Filling<'_>) -> Result<Checkpoint, Error> {
        let (core, levels) = (filling.core, &self.view.levels);
        let mut copied = 0;
        let mut state = State { flushed: self.seqno, ..State::default() };
        let mut edit = Edit::default();
        for (no, blob) in levels.blobs() {
            let meta = blob.file.meta();
            if filling.take(blob.file.path(), &blob_path(Path::new(""), *no))? {
                copied += meta.bytes;
            }
            state.next_file = state.next_file.max(no.saturating_add(1));
            edit.blobs_added.push(meta);
        }
        for (level, table) in levels.all() {
            let level = u8::try_from(level).expect("there are seven levels");
            let meta = TableMeta { level, ..table.meta.clone() };
            if filling.take(table.path(), &table_path(Path::new(""), meta.no))? {
                copied += meta.bytes;
            }
            state.next_file = state.next_file.max(meta.no.saturating_add(1));
            edit.tables_added.push(meta);
        }
        state.deleted = levels.deleted().ranges().to_vec();
        if !crate::mutant!("storage-checkpoint-without-memory")
            && let Some((meta, blobs)) = self.view.write_memory(self.seqno, filling, &mut state)?
        {
            let blobs = blobs.iter().map(|blob| blob.meta());
            copied += meta.bytes + blobs.clone().map(|blob| blob.bytes).sum::<u64>();
            edit.blobs_added.extend(blobs);
            edit.tables_added.push(meta);
        }
        // Together with the tables: ranges that concern none of them are left out.
        let deleted = std::mem::take(&mut state.deleted);
        state.apply(&Edit { ranges_deleted: deleted, ..edit });
        filling.sync()?;
        let tables = state.tables.values().map(|table| table.bytes);
        let blobs = state.blobs.values().map(|(blob, _)| blob.bytes);
        let (files, bytes) = (tables.len() + blobs.len(), tables.chain(blobs).sum());
        let names = [&manifest_name(state.next_file), CURRENT_NEXT, CURRENT];
        names.iter().for_each(|name| filling.made(filling.dir.join(name)));
        Manifest::create(Arc::clone(&core.vfs), filling.dir, state)?;
        Ok(Checkpoint { seqno: self.seqno, files, bytes, bytes_copied: copied })
    }
}

impl View {
    /// Writes what the memtables hold at `at` as one table of level 0, and the blob files that it
    /// refers to; none if that is nothing. The ranges they have deleted go into `state`.
    fn write_memory(
        &self,
        at: Seqno,
        filling: &mut Filling<'_>,
        state: &mut State,
    ) -> Result<Option<(TableMeta, Vec<Arc<BlobFile>>)>, Error> {
        let deleted: Vec<_> = self.memtables().filter_map(|it| it.deleted.get()).collect();
        let ranges = deleted.iter().flat_map(|deleted| deleted.ranges());
        let ranges: Vec<RangeDelete> = ranges.filter(|it| it.seqno <= at).cloned().collect();
        let purged = ranges.iter().map(|delete| delete.seqno).max().unwrap_or_default();
        state.deleted.extend(ranges);
        let covers = Covers::new(deleted, at);
        let sources = self.memory_sources(at, Direction::Forward).collect();
        let mut merge = Merge::new(sources, Range::all(), Direction::Forward);
        let core = filling.core;
        let mut separator = Separator::new(&core.options);
        let mut builder: Option<TableBuilder> = None;
        while merge.advance()? {
            let Some(entry) = merge.entry() else { break };
            if merge.is_superseded() || covers.hide(entry.key, entry.seqno) {
                continue;
            }
            let next = &mut || state.take_number();
            let mut files =
                FilesIn { filling: &mut *filling, level: 0, seed: 0, next, synced: true };
            let builder = match &mut builder {
                Some(builder) => builder,
                none => none.insert(files.table()?),
            };
            core.flush_entry(builder, &mut separator, entry, &mut files)?;
        }
        let Some(builder) = builder else { return Ok(None) };
        separator.end()?;
        let meta = builder.finish()?.meta.clone();
        Ok(Some((TableMeta { purged, ..meta }, separator.files().to_vec())))
    }
}

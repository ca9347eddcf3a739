//! A copy of the store as it is now, without stopping it.
//!
//! Decides what a checkpoint is made of: the tables of a snapshot by hard links, which cost no room
//! until they are merged away here, and what is only in memory as one table more. So it needs no
//! log, and holds the snapshot and nothing else. The snapshot pins its tables, so nothing waits:
//! writes, flushes and merges go on. `CURRENT` is written last: what a crash leaves of a checkpoint
//! cannot be taken for a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::core::{Core, View};
use super::{Engine, Snapshot};
use crate::storage::batch::{Batch, Seqno};
use crate::storage::deleted::{Covers, RangeDelete};
use crate::storage::error::Error;
use crate::storage::files::{CURRENT, CURRENT_NEXT, manifest_name, table_path};
use crate::storage::iter::{Direction, Range};
use crate::storage::manifest::{Manifest, State};
use crate::storage::merge::Merge;
use crate::storage::sstable::{TableBuilder, TableMeta};
use crate::storage::vfs::{DirLock, LOCK_FILE, link_or_copy};

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
    /// Makes the directory if it is not there.
    ///
    /// # Errors
    /// `Occupied` if there are files in it, `Locked`, or what the file system says.
    pub(super) fn begin(core: &'a Core, dir: &'a Path) -> Result<Self, Error> {
        let vfs = &core.vfs;
        vfs.create_dir(dir).map_err(|error| Error::io("create", dir, error))?;
        if let Some(parent) = dir.parent() {
            vfs.sync_dir(parent).map_err(|error| Error::io("sync", parent, error))?;
        }
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
        for (level, table) in levels.all() {
            let level = u8::try_from(level).expect("there are seven levels");
            let meta = TableMeta { level, ..table.meta.clone() };
            if filling.take(table.path(), &table_path(Path::new(""), meta.no))? {
                copied += meta.bytes;
            }
            state.next_file = state.next_file.max(meta.no.saturating_add(1));
            state.tables.insert(meta.no, meta);
        }
        state.deleted = levels.deleted().ranges().to_vec();
        if !crate::mutant!("storage-checkpoint-without-memory")
            && let Some(meta) = self.view.write_memory(self.seqno, filling, &mut state)?
        {
            copied += meta.bytes;
            state.tables.insert(meta.no, meta);
        }
        filling.sync()?;
        let tables = state.tables.values();
        let (files, bytes) = (tables.len(), tables.map(|table| table.bytes).sum());
        let names = [&manifest_name(state.next_file), CURRENT_NEXT, CURRENT];
        names.iter().for_each(|name| filling.made(filling.dir.join(name)));
        Manifest::create(Arc::clone(&core.vfs), filling.dir, state)?;
        Ok(Checkpoint { seqno: self.seqno, files, bytes, bytes_copied: copied })
    }
}

impl View {
    /// Writes what the memtables hold at `at` as one table of level 0; none if that is nothing. The
    /// ranges they have deleted go into `state`.
    fn write_memory(
        &self,
        at: Seqno,
        filling: &mut Filling<'_>,
        state: &mut State,
    ) -> Result<Option<TableMeta>, Error> {
        let deleted: Vec<_> = self.memtables().filter_map(|it| it.deleted.get()).collect();
        let ranges = deleted.iter().flat_map(|deleted| deleted.ranges());
        let ranges: Vec<RangeDelete> = ranges.filter(|it| it.seqno <= at).cloned().collect();
        let purged = ranges.iter().map(|delete| delete.seqno).max().unwrap_or_default();
        state.deleted.extend(ranges);
        let covers = Covers::new(deleted, at);
        let sources = self.memory_sources(at, Direction::Forward).collect();
        let mut merge = Merge::new(sources, Range::all(), Direction::Forward);
        let mut builder: Option<TableBuilder> = None;
        while merge.advance()? {
            let Some(entry) = merge.entry() else { break };
            if merge.is_superseded() || covers.hide(entry.key, entry.seqno) {
                continue;
            }
            let builder = match &mut builder {
                Some(builder) => builder,
                none => {
                    let no = state.take_number()?;
                    let path = table_path(filling.dir, no);
                    filling.made(path.clone());
                    none.insert(filling.core.table_at(no, path, 0)?)
                }
            };
            filling.core.flush_entry(builder, entry)?;
        }
        let Some(builder) = builder else { return Ok(None) };
        let meta = builder.finish()?.meta.clone();
        Ok(Some(TableMeta { purged, ..meta }))
    }
}

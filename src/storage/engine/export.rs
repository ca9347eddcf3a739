//! Writing out a range as tables that another store can take in.
//!
//! Decides what goes as it is and what is written anew: a table that lies inside the range and is
//! alone there, with nothing above or below it, is linked; everything between such tables is read
//! through a snapshot, and written as new ones. So the files hold live pairs only, never meet, and
//! are of one moment. The list of them comes last.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::checkpoint::Filling;
use super::core::View;
use super::{Engine, Snapshot};
use crate::storage::batch::{Batch, Kind, Seqno};
use crate::storage::entry::EntryRef;
use crate::storage::error::Error;
use crate::storage::export::{Export, TableFile};
use crate::storage::files::{FileNo, table_path};
use crate::storage::iter::{Direction, Range};
use crate::storage::key_range::KeyRange;
use crate::storage::levels::{LAST_LEVEL, overlap};
use crate::storage::merge::Merge;
use crate::storage::sstable::{Table, TableBuilder, TableMeta};

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
        let snapshot = self.snapshot();
        // What is still on its way to the log may yet be taken back.
        self.write_synced(Batch::new())?;
        let filling = Filling::begin(&self.core, dir)?;
        let mut exporting =
            Exporting { engine: self, snapshot, filling, files: Vec::new(), made: 0 };
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
    made: FileNo,
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
        whole.sort_by(|one, other| one.meta.smallest.cmp(&other.meta.smallest));
        let mut start = Bound::Included(Bytes::copy_from_slice(range.start()));
        for table in whole {
            self.write(start, Bound::Excluded(&table.meta.smallest))?;
            self.link(table)?;
            start = Bound::Excluded(table.meta.largest.clone());
        }
        self.write(start, range.end().map_or(Bound::Unbounded, Bound::Excluded))?;
        self.filling.sync()?;
        let export = Export {
            seqno: self.snapshot.seqno,
            range: range.clone(),
            files: std::mem::take(&mut self.files),
        };
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
        let name = table_path(Path::new(""), self.next_no());
        self.filling.take(table.path(), &name)?;
        self.list(&name, &table.meta)
    }

    fn write(&mut self, start: Bound<Bytes>, end: Bound<&[u8]>) -> Result<(), Error> {
        let start = start.as_ref().map(|key| &**key);
        let mut pairs = self.snapshot.range(start, end, Direction::Forward);
        let table_bytes = self.engine.core.options.table_bytes;
        let mut builder: Option<TableBuilder> = None;
        while let Some((key, value, seqno)) = pairs.next_lent()? {
            if builder.as_ref().is_some_and(|builder| builder.bytes() >= table_bytes)
                && let Some(full) = builder.take()
            {
                self.end(full)?;
            }
            let builder = match &mut builder {
                Some(builder) => builder,
                none => none.insert(self.begin()?),
            };
            builder.add(EntryRef { key, seqno, kind: Kind::Put, value })?;
        }
        builder.map_or(Ok(()), |last| self.end(last))
    }

    fn begin(&mut self) -> Result<TableBuilder, Error> {
        let no = self.next_no();
        let path = table_path(self.filling.dir, no);
        self.filling.made(path.clone());
        self.engine.core.table_at(no, path, LAST_LEVEL)
    }

    fn end(&mut self, builder: TableBuilder) -> Result<(), Error> {
        let table = builder.finish()?;
        let name = table_path(Path::new(""), table.meta.no);
        self.list(&name, &table.meta)
    }

    fn list(&mut self, name: &Path, meta: &TableMeta) -> Result<(), Error> {
        let path = self.filling.dir.join(name);
        let file = TableFile::of(&*self.engine.core.vfs, &path, meta)?;
        self.files.push(file);
        Ok(())
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

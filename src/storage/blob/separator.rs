//! Which values stand in blob files, and where one file ends and the next begins.
//!
//! A file ends at its full size, and with a quarter of it at the edge of a unit, as tables do: so
//! what is long in a large unit is in files of its own, and small units share one. Values are
//! compressed as in the last level, since they stay where they were first written.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::NewBlobs;
use super::file::BlobFile;
use super::pointer::{Pointer, head_of};
use super::record::Stored;
use super::writer::BlobWriter;
use crate::storage::batch::Kind;
use crate::storage::coding::place;
use crate::storage::entry::EntryRef;
use crate::storage::error::Error;
use crate::storage::levels::LAST_LEVEL;
use crate::storage::options::{Compression, Options};
use crate::storage::sstable::{Table, TableBuilder};
use crate::storage::vfs::Vfs;

/// A blob file of this share of its full size ends at the edge of a unit.
const UNIT_SHARE: u64 = 4;

/// Writes the long values of a stream of entries into blob files.
#[derive(Debug)]
pub(crate) struct Separator {
    min: Option<usize>,
    file_bytes: u64,
    compression: Compression,
    unit_prefix: usize,
    unit: Vec<u8>,
    open: Option<BlobWriter>,
    files: Vec<Arc<BlobFile>>,
    /// Bytes of the files that have ended.
    ended: u64,
}

impl Separator {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            min: options.blob_bytes_min.map(|min| min.max(1)),
            file_bytes: options.blob_file_bytes.max(1),
            compression: options.compression.get(LAST_LEVEL).copied().unwrap_or_default(),
            unit_prefix: options.unit_prefix_bytes,
            unit: Vec::new(),
            open: None,
            files: Vec::new(),
            ended: 0,
        }
    }

    /// Adds an entry to a table; a long value goes into a blob file. Not for pointers.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn add(
        &mut self,
        builder: &mut TableBuilder,
        entry: EntryRef<'_>,
        files: &mut dyn NewBlobs,
    ) -> Result<(), Error> {
        assert!(entry.kind != Kind::Pointer, "a pointer means something in its own table only");
        let is_long = self.min.is_some_and(|min| entry.value.len() >= min);
        if entry.kind != Kind::Put || !is_long {
            return builder.add(entry);
        }
        let stored = Stored::new(entry.value, self.compression);
        self.put(builder, entry, (&stored, head_of(entry.value)), files)
    }

    /// Adds an entry of `table` whose value stands elsewhere to another table, and leaves the value
    /// where it is. Returns the bytes of its record.
    ///
    /// # Errors
    /// `Corrupt` when the entry does not decode; what the file system says.
    pub(crate) fn pass(
        builder: &mut TableBuilder,
        entry: EntryRef<'_>,
        table: &Table,
    ) -> Result<(), Error> {
        let (pointer, blob) = table.pointer(entry.value)?;
        builder.add_pointer(entry, pointer, blob)
    }

    /// The same, and writes the value anew, into a blob file of its own or, where values are not
    /// separated any more, into the table.
    ///
    /// # Errors
    /// `Corrupt` when the value cannot be read; what the file system says.
    pub(crate) fn collect(
        &mut self,
        builder: &mut TableBuilder,
        entry: EntryRef<'_>,
        table: &Table,
        files: &mut dyn NewBlobs,
    ) -> Result<(), Error> {
        let (pointer, blob) = table.pointer(entry.value)?;
        let stored = blob.stored(&pointer, entry.key)?;
        if self.min.is_some_and(|min| pointer.length >= min) {
            return self.put(builder, entry, (&stored, pointer.head), files);
        }
        let value = stored.value();
        let value = value.map_err(|what| Error::corrupt(blob.path(), pointer.offset, what))?;
        builder.add(EntryRef { kind: Kind::Put, value: &value, ..entry })
    }

    fn put(
        &mut self,
        builder: &mut TableBuilder,
        entry: EntryRef<'_>,
        (stored, head): (&Stored, &[u8]),
        files: &mut dyn NewBlobs,
    ) -> Result<(), Error> {
        self.cut_before(entry.key)?;
        let writer = match &mut self.open {
            Some(writer) => writer,
            none => {
                let new = files.blob()?;
                let first = [entry.seqno.0, xxh3_64(entry.key), xxh3_64(&stored.bytes)];
                let salt = first.iter().fold(new.seed, |salt, part| place(salt, *part));
                none.insert(BlobWriter::begin(new, salt))
            }
        };
        let offset = writer.push(entry.key, stored)?;
        let (bytes, length) = (stored.record_bytes(), stored.length);
        let pointer = Pointer { slot: 0, offset, bytes, length, head };
        builder.add_pointer(entry, pointer, &writer.blob)
    }

    /// Ends the file if it is full, or large enough and at the edge of a unit.
    fn cut_before(&mut self, key: &[u8]) -> Result<(), Error> {
        let unit = key.get(..self.unit_prefix).unwrap_or(key);
        let unit_ends = self.unit_prefix > 0 && *unit != *self.unit;
        if unit_ends {
            self.unit.clear();
            self.unit.extend_from_slice(unit);
        }
        let bytes = self.open.as_ref().map_or(0, BlobWriter::bytes);
        match bytes >= self.file_bytes || unit_ends && bytes >= self.file_bytes / UNIT_SHARE {
            true => self.end(),
            false => Ok(()),
        }
    }

    /// Ends the file that is being written, if there is one: it is on disk then, its name is not
    /// synced.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        if let Some(writer) = &mut self.open {
            writer.finish()?;
            self.ended += writer.bytes();
            self.files.push(Arc::clone(&writer.blob));
            self.open = None;
        }
        Ok(())
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.ended + self.open.as_ref().map_or(0, BlobWriter::bytes)
    }

    /// The files that have ended.
    pub(crate) fn files(&self) -> &[Arc<BlobFile>] {
        &self.files
    }

    /// Gives all files back, as far as the disk lets it.
    pub(crate) fn abandon(self, vfs: &Arc<dyn Vfs>) {
        self.files.iter().for_each(|blob| blob.retire(vfs));
        if let Some(writer) = self.open {
            writer.abandon(&**vfs);
        }
    }
}

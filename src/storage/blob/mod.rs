//! Blob files: long values, each beside the tables in a record of its own, so that a merge which
//! rewrites a key does not rewrite its value (WiscKey: Lu et al., FAST 2016; BlobDB).
//!
//! [`pointer`] decides what a table holds in the place of such a value, [`record`] the bytes of a
//! record, [`writer`] and [`file`] how a file is written and read, [`separator`] which values go and
//! where a file ends, [`verify`] how all of one is checked. Format: `docs/format/blob.md`. Knows
//! nothing of when a file is collected: that is `compaction::garbage`. A file goes when no table of
//! any view refers to it; what of it is alive is the sum of what the tables in force say, and
//! nothing else counts it.

mod file;
mod pointer;
mod record;
mod separator;
mod verify;
mod writer;

pub(crate) use file::BlobFile;
#[cfg(debug_assertions)]
pub(crate) use pointer::check_any_pointer;
pub(crate) use pointer::{Pointer, head_of};
#[cfg(debug_assertions)]
pub(crate) use record::check_any_record;
pub(crate) use separator::Separator;
pub(crate) use writer::NewBlob;

use super::error::Error;
use super::files::FileNo;
use super::sstable::TableBuilder;

/// What the manifest keeps of a blob file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BlobMeta {
    pub(crate) no: FileNo,
    /// What its checksums are salted with. Made of its number and its first record, so that files
    /// of two stores can be told apart where they meet.
    pub(crate) salt: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    pub(crate) records: u64,
}

impl BlobMeta {
    /// Bytes of its records.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.bytes.saturating_sub((record::OPENING_BYTES + record::CLOSING_BYTES) as u64)
    }
}

/// What a table refers to in one blob file. A record is referred to by one table at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BlobUse {
    pub(crate) file: FileNo,
    pub(crate) records: u64,
    /// Bytes of these records.
    pub(crate) bytes: u64,
}

/// Makes the blob files that long values are written into.
pub(crate) trait NewBlobs {
    /// Creates the next.
    ///
    /// # Errors
    /// What the file system says.
    fn blob(&mut self) -> Result<NewBlob, Error>;
}

/// Makes the files that a flush, a merge or a copy writes into.
pub(crate) trait NewFiles: NewBlobs {
    /// Begins a table.
    ///
    /// # Errors
    /// What the file system says.
    fn table(&mut self) -> Result<TableBuilder, Error>;
}

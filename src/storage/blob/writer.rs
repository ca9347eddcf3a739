//! Writes one blob file, record after record.

use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::file::BlobFile;
use super::record::{Closing, Stored, opening};
use crate::storage::cache::BlockCache;
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::sstable::key_hash;
use crate::storage::vfs::{Vfs, VfsFile};

/// How much is collected before it is written.
const WRITE_BYTES: usize = 1 << 20;

/// A file that was just created, to become a blob file.
pub(crate) struct NewBlob {
    pub(crate) no: FileNo,
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) path: PathBuf,
    pub(crate) cache: Arc<BlockCache>,
    /// What its salt begins with: no two files that meet in one place share it.
    pub(crate) seed: u64,
}

/// A blob file in the making. If anything fails the file is worthless and to be removed.
#[derive(Debug)]
pub(super) struct BlobWriter {
    pub(super) blob: Arc<BlobFile>,
    pending: Vec<u8>,
    written: u64,
    records: u64,
    raw_bytes: u64,
    /// Of the checksums of the records so far.
    sums: Sums,
}

struct Sums(Xxh3);

impl std::fmt::Debug for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sums")
    }
}

impl BlobWriter {
    pub(super) fn begin(NewBlob { no, file, path, cache, .. }: NewBlob, salt: u64) -> Self {
        let blob = Arc::new(BlobFile::begun((no, salt), file, path, cache));
        let (pending, sums) = (opening(salt), Sums(Xxh3::new()));
        Self { blob, pending, written: 0, records: 0, raw_bytes: 0, sums }
    }

    /// Appends a value; returns where its record begins.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn push(&mut self, key: &[u8], stored: &Stored) -> Result<u64, Error> {
        let offset = self.bytes();
        let sum = stored.encode(key_hash(key), self.blob.salt, offset, &mut self.pending);
        self.sums.0.update(&sum.to_le_bytes());
        self.records += 1;
        self.raw_bytes += stored.length as u64;
        if self.pending.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(offset)
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    fn write(&mut self) -> Result<(), Error> {
        let result = self.blob.file.write_at(self.written, &self.pending);
        result.map_err(|source| Error::io("write to", &self.blob.path, source))?;
        self.blob.file.written_for_good(self.written, self.pending.len() as u64);
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is left and syncs the file; its name is not synced.
    ///
    /// # Errors
    /// When the file cannot be written or synced.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let closing = Closing {
            records: self.records,
            raw_bytes: self.raw_bytes,
            sum: self.sums.0.digest(),
            salt: self.blob.salt,
        };
        let offset = self.bytes();
        self.pending.extend_from_slice(&closing.encode(offset));
        self.write()?;
        if !crate::mutant!("storage-blob-unsynced") {
            let synced = self.blob.file.sync_data();
            synced.map_err(|source| Error::io("sync", &self.blob.path, source))?;
        }
        self.blob.end(self.written, self.records);
        Ok(())
    }

    /// Removes the unfinished file, as far as the disk lets it: an orphan is swept at the next open.
    pub(super) fn abandon(self, vfs: &dyn Vfs) {
        let _orphan = vfs.remove(&self.blob.path);
    }
}

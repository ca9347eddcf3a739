//! An open blob file: one read for each value, checked, and kept in the cache if it is not too long.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::BlobMeta;
use super::pointer::Pointer;
use super::record::Stored;
use crate::storage::cache::BlockCache;
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::sstable::{ReadMode, key_hash};
use crate::storage::vfs::{Vfs, VfsFile};

/// An open blob file. Shared by all tables that refer to it, and so by all views and snapshots.
#[derive(Debug)]
pub(crate) struct BlobFile {
    pub(crate) no: FileNo,
    pub(crate) salt: u64,
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) path: PathBuf,
    cache: Arc<BlockCache>,
    /// Length and number of records, once it is written to its end.
    totals: OnceLock<(u64, u64)>,
    /// Something of it could not be read: what is left is written elsewhere.
    bad: AtomicBool,
    /// Set once no table that is in force refers to it: the file goes with the last holder.
    retired: OnceLock<Arc<dyn Vfs>>,
}

impl BlobFile {
    /// One that is going to be written.
    pub(super) fn begun(
        (no, salt): (FileNo, u64),
        file: Arc<dyn VfsFile>,
        path: PathBuf,
        cache: Arc<BlockCache>,
    ) -> Self {
        let (totals, retired) = (OnceLock::new(), OnceLock::new());
        Self { no, salt, file, path, cache, totals, bad: AtomicBool::new(false), retired }
    }

    /// Opens one that the manifest names. Reads nothing: what is known of each record stands in the
    /// tables, so a file that is damaged is still good for the records that are not.
    ///
    /// # Errors
    /// `Missing`, or what the file system says.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        path: PathBuf,
        meta: &BlobMeta,
        cache: Arc<BlockCache>,
    ) -> Result<Self, Error> {
        let file = match vfs.open_to_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Missing { file: path });
            }
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        let blob = Self::begun((meta.no, meta.salt), file, path, cache);
        blob.end(meta.bytes, meta.records);
        Ok(blob)
    }

    /// Says how long it has become.
    pub(super) fn end(&self, bytes: u64, records: u64) {
        self.totals.get_or_init(|| (bytes, records));
    }

    /// What the manifest is to know of it. Nothing but its number is known before its end.
    pub(crate) fn meta(&self) -> BlobMeta {
        let (bytes, records) = self.totals.get().copied().unwrap_or_default();
        BlobMeta { no: self.no, salt: self.salt, bytes, records }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file has the length that the manifest says. Shorter, it lacks its last records.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn is_whole(&self) -> Result<bool, Error> {
        let size = self.file.size().map_err(|source| Error::io("measure", &self.path, source))?;
        Ok(size == self.meta().bytes)
    }

    /// Lets the file be removed when the last holder is gone. Only for one that no table which is
    /// in force refers to.
    pub(crate) fn retire(&self, vfs: &Arc<dyn Vfs>) {
        self.retired.get_or_init(|| Arc::clone(vfs));
    }

    /// The value of `key`, if it is in memory.
    pub(crate) fn cached(&self, pointer: &Pointer<'_>, key: &[u8]) -> Option<Bytes> {
        self.cache.value((self.no, pointer.offset), key_hash(key))
    }

    /// The value of `key`, from memory or else by one read.
    ///
    /// # Errors
    /// `Corrupt` naming the file and the place of the record, or what the file system says.
    pub(crate) fn value(
        &self,
        pointer: &Pointer<'_>,
        key: &[u8],
        mode: ReadMode,
    ) -> Result<Bytes, Error> {
        let (place, hash) = ((self.no, pointer.offset), key_hash(key));
        let held = match mode {
            ReadMode::Cached => self.cache.value(place, hash),
            ReadMode::Passing => self.cache.peek_value(place, hash),
            ReadMode::Disk => None,
        };
        if let Some(value) = held {
            return Ok(value);
        }
        let value = self.stored(pointer, key)?.value();
        let value = value.map_err(|what| {
            self.note_bad(pointer, key);
            Error::corrupt(&self.path, pointer.offset, what)
        })?;
        let begins = value.starts_with(pointer.head) && value.len() == pointer.length;
        if !begins {
            self.note_bad(pointer, key);
            let what = "a record is not the one that is referred to";
            return Err(Error::corrupt(&self.path, pointer.offset, what));
        }
        if mode == ReadMode::Cached {
            self.cache.insert_value(place, hash, value.clone());
        }
        Ok(value)
    }

    /// The value as it is stored, checked: to be written elsewhere without being decompressed.
    ///
    /// # Errors
    /// As for [`BlobFile::value`].
    pub(crate) fn stored(&self, pointer: &Pointer<'_>, key: &[u8]) -> Result<Stored, Error> {
        self.read_stored(pointer, key).inspect_err(|_| self.note_bad(pointer, key))
    }

    /// The value of `key` could not be read: the engine is to look.
    fn note_bad(&self, pointer: &Pointer<'_>, key: &[u8]) {
        self.cache.bad.note(&self.path, pointer.offset, Some(key));
        self.give_up();
    }

    /// The file is to go, once what can be read of it stands elsewhere.
    pub(super) fn give_up(&self) {
        self.bad.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub(crate) fn is_given_up(&self) -> bool {
        self.bad.load(Ordering::Relaxed)
    }

    fn read_stored(&self, pointer: &Pointer<'_>, key: &[u8]) -> Result<Stored, Error> {
        let bad = |what| Error::corrupt(&self.path, pointer.offset, what);
        let record = self.read(pointer.offset, pointer.bytes)?;
        let hash = Some(key_hash(key));
        let stored = Stored::decode(&record, self.salt, pointer.offset, hash).map_err(bad)?;
        match stored.record_bytes() == pointer.bytes {
            true => Ok(stored),
            false => Err(bad("a record is not the one that is referred to")),
        }
    }

    /// Reads some bytes; all of them must be there.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let mut buffer = vec![0; length];
        let read = self.file.read_at(offset, &mut buffer);
        let read = read.map_err(|source| Error::io("read", &self.path, source))?;
        match read == length {
            true => Ok(Bytes::from(buffer)),
            false => Err(Error::corrupt(&self.path, offset, "file is cut short")),
        }
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        if let Some(vfs) = self.retired.get() {
            // What cannot be removed now is swept at the next open.
            let _orphan = vfs.remove(&self.path);
        }
    }
}

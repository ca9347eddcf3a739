//! Reads all of a blob file from the disk and checks what can be checked, also records that no table
//! refers to any more.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::BlobMeta;
use super::file::BlobFile;
use super::record::{
    CLOSING_BYTES, Closing, OPENING_BYTES, RECORD_HEAD_BYTES, RecordHead, Stored, read_opening,
};
use crate::storage::cache::BlockCache;
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::vfs::Vfs;

/// How much is read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// What has been read ahead of the records.
struct Window<'a> {
    blob: &'a BlobFile,
    end: u64,
    start: u64,
    bytes: Bytes,
}

impl Window<'_> {
    fn read(&mut self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let room = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(room);
        let at = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let inside = at.filter(|at| at.saturating_add(length) <= self.bytes.len());
        let at = match inside {
            Some(at) => at,
            None => {
                self.bytes = self.blob.read(offset, length.max(WINDOW_BYTES).min(room))?;
                self.start = offset;
                0
            }
        };
        Ok(self.bytes.slice(at..at + length))
    }
}

impl BlobFile {
    /// Opens a blob file that no manifest names, to be file `no` of this store, and reads all of it.
    ///
    /// # Errors
    /// `Corrupt` for the first thing that does not check, `Version`, or what the file system says.
    pub(crate) fn adopt(
        vfs: &dyn Vfs,
        path: PathBuf,
        no: FileNo,
        cache: Arc<BlockCache>,
    ) -> Result<Self, Error> {
        let file = vfs.open_to_read(&path).map_err(|error| Error::io("open", &path, error))?;
        let bytes = file.size().map_err(|source| Error::io("measure", &path, source))?;
        let unknown = Self::begun((no, 0), Arc::clone(&file), path.clone(), Arc::clone(&cache));
        let salt = read_opening(&unknown.read(0, OPENING_BYTES)?, &path)?;
        let blob = Self::begun((no, salt), file, path, cache);
        blob.end(bytes, unknown.closing(bytes)?.records);
        if crate::mutant!("storage-ingest-unverified") {
            return Ok(blob);
        }
        match blob.verify().1 {
            Some(error) => Err(error),
            None => Ok(blob),
        }
    }

    /// Reads opening, records and closing. Returns how many records were read, and the first thing
    /// that does not check: what follows it cannot be told apart.
    pub(crate) fn verify(&self) -> (u64, Option<Error>) {
        let mut records = 0;
        let found = self.verify_all(&mut records);
        if found.is_err() {
            self.give_up();
        }
        (records, found.err())
    }

    fn closing(&self, bytes: u64) -> Result<Closing, Error> {
        let offset = bytes.checked_sub(CLOSING_BYTES as u64);
        let offset = offset.filter(|offset| *offset >= OPENING_BYTES as u64);
        let offset = offset.ok_or_else(|| self.bad(0, "this is not a blob file"))?;
        Closing::decode(&self.read(offset, CLOSING_BYTES)?, offset, &self.path)
    }

    fn bad(&self, offset: u64, what: &'static str) -> Error {
        Error::corrupt(&self.path, offset, what)
    }

    fn verify_all(&self, records: &mut u64) -> Result<(), Error> {
        let BlobMeta { bytes, records: promised, .. } = self.meta();
        if !self.is_whole()? {
            return Err(self.bad(bytes, "length is not what the manifest says"));
        }
        if read_opening(&self.read(0, OPENING_BYTES)?, &self.path)? != self.salt {
            return Err(self.bad(0, "blob file is not the one the manifest names"));
        }
        let closing = self.closing(bytes)?;
        let end = bytes.saturating_sub(CLOSING_BYTES as u64);
        if (closing.records, closing.salt) != (promised, self.salt) {
            return Err(self.bad(end, "blob file is not the one the manifest names"));
        }
        let (mut offset, mut raw_bytes, mut sums) = (OPENING_BYTES as u64, 0, Xxh3::new());
        let mut window = Window { blob: self, end, start: 0, bytes: Bytes::new() };
        while offset < end {
            let head = RecordHead::decode(&window.read(offset, RECORD_HEAD_BYTES)?);
            let head = head.filter(RecordHead::is_possible);
            let head = head.filter(|head| offset.saturating_add(head.end() as u64) <= end);
            let head = head.ok_or_else(|| self.bad(offset, "record cannot be decoded"))?;
            let record = window.read(offset, head.end())?;
            let stored = Stored::decode(&record, self.salt, offset, None);
            let stored = stored.map_err(|what| self.bad(offset, what))?;
            stored.value().map_err(|what| self.bad(offset, what))?;
            sums.update(&head.sum.to_le_bytes());
            raw_bytes += stored.length as u64;
            offset += record.len() as u64;
            *records += 1;
        }
        let counted = (*records, raw_bytes, sums.digest());
        match counted == (closing.records, closing.raw_bytes, closing.sum) {
            true => Ok(()),
            false => Err(self.bad(end, "records are not those the closing says")),
        }
    }
}

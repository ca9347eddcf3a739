//! Appends groups of records to one log segment and syncs it.
//!
//! Knows how far the segment is written and how far it is known to be on disk. Does not decide
//! when to sync, nor what becomes of those who wait: that is `engine::commit`.

use std::path::PathBuf;
use std::sync::Arc;

use super::record::{self, Place};
use crate::storage::batch::{Batch, SealedBatch, Seqno};
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::vfs::VfsFile;

/// One batch on its way into the log.
#[derive(Debug)]
pub(crate) struct LogRecord<'a> {
    pub(crate) batch: &'a SealedBatch,
    pub(crate) seqno: Seqno,
}

/// An open segment. After a sync that failed, or a cut that failed, it must not be used again.
#[derive(Debug)]
pub(crate) struct LogWriter {
    pub(crate) no: FileNo,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    written: u64,
    synced: u64,
    last: Seqno,
    buffer: Vec<u8>,
    mark_wanted: bool,
}

/// The part of a segment that a sync beside its writer makes durable.
#[derive(Debug)]
pub(crate) struct Unsynced {
    no: FileNo,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    upto: u64,
}

impl Unsynced {
    /// Makes it durable.
    ///
    /// # Errors
    /// As for [`LogWriter::sync`].
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|source| Error::io("sync", &self.path, source))
    }
}

/// A write buffer that has grown beyond this is given back after use.
const BUFFER_KEPT: usize = 1 << 20;

impl LogWriter {
    pub(crate) fn new(no: FileNo, file: Arc<dyn VfsFile>, path: PathBuf) -> Self {
        let buffer = Vec::new();
        let last = Seqno(0);
        Self { no, file, path, written: 0, synced: 0, last, buffer, mark_wanted: false }
    }

    /// Bytes written.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The last batch in it.
    pub(crate) fn last(&self) -> Seqno {
        self.last
    }

    /// Whether everything written is known to be on disk.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.written
    }

    /// Bytes a batch takes in the log.
    pub(crate) fn cost(batch: &SealedBatch) -> u64 {
        batch.record_bytes() as u64
    }

    /// Appends a group with one write.
    ///
    /// # Errors
    /// `DiskFull`: nothing of the group is in the log, and that is durable. Anything else: what is
    /// in the log is unknown and the writer must not be used again.
    pub(crate) fn append(&mut self, group: &[LogRecord<'_>]) -> Result<(), Error> {
        if group.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        for entry in group {
            let offset = self.written + self.buffer.len() as u64;
            let place = Place { log: self.no, offset, synced_upto: self.synced };
            record::encode(&mut self.buffer, entry.batch, entry.seqno, place);
        }
        let result = self.file.write_at(self.written, &self.buffer);
        let length = self.buffer.len() as u64;
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        let last = group.last().map_or(self.last, |entry| entry.seqno);
        self.appended(result, length, last)
    }

    /// Appends one batch. Its record is written from where it was encoded, if nobody shares that.
    ///
    /// # Errors
    /// As for [`LogWriter::append`].
    pub(crate) fn append_one(
        &mut self,
        batch: &mut SealedBatch,
        seqno: Seqno,
    ) -> Result<(), Error> {
        let place = Place { log: self.no, offset: self.written, synced_upto: self.synced };
        let header = record::header(batch, seqno, place);
        let Some(record) = batch.record_mut() else {
            return self.append(&[LogRecord { batch, seqno }]);
        };
        if let Some(head) = record.first_chunk_mut() {
            *head = header;
        }
        let result = self.file.write_at(self.written, record);
        self.appended(result, record.len() as u64, seqno)
    }

    fn appended(
        &mut self,
        result: std::io::Result<()>,
        length: u64,
        last: Seqno,
    ) -> Result<(), Error> {
        if let Err(source) = result {
            let error = Error::io("write to", &self.path, source);
            return Err(if error.is_full() { self.cut(error) } else { error });
        }
        self.written += length;
        self.mark_wanted = false;
        self.last = last;
        Ok(())
    }

    /// Takes a group that was written in part out of the log again, durably. Without this, a whole
    /// record of the refused group could stand behind a shorter one that is written over its
    /// beginning, and come back to life after a crash.
    fn cut(&mut self, full: Error) -> Error {
        if crate::mutant!("storage-full-leaves-tail") {
            return Error::DiskFull;
        }
        let cut = self.file.set_len(self.written).and_then(|()| self.file.sync_data());
        match cut {
            Ok(()) => {
                self.synced = self.written;
                Error::DiskFull
            }
            Err(source) => {
                let cause = format!("{full}, and the log could not be cut back: {source}");
                Error::io("cut", &self.path, std::io::Error::other(cause))
            }
        }
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// The sync failed: what was not synced before is lost, and the writer must not be used again.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if self.is_synced() {
            return Ok(());
        }
        let mut result = self.file.sync_data();
        if crate::mutant!("storage-reuse-after-failed-sync") && result.is_err() {
            // The kernel reports a failure once and has dropped the pages: this "succeeds".
            result = self.file.sync_data();
        }
        result.map_err(|source| Error::io("sync", &self.path, source))?;
        self.synced = self.written;
        self.mark_wanted = true;
        Ok(())
    }

    /// What is written and not known to be on disk, to be synced without the writer.
    pub(crate) fn unsynced(&self) -> Unsynced {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        Unsynced { no: self.no, file, path, upto: self.written }
    }

    /// Takes note of a sync beside the writer that succeeded. The segment may have been left since.
    pub(crate) fn note_synced(&mut self, done: &Unsynced) {
        if self.no == done.no && self.synced < done.upto {
            self.synced = done.upto;
            self.mark_wanted = true;
        }
    }

    /// Writes an empty record that promises the last sync, if no later record has: with it, damage
    /// in the last synced group cannot be taken for a torn tail. The next record is written over
    /// it. Not synced, and a failure does not matter. Returns whether there was something to do.
    pub(crate) fn mark(&mut self) -> bool {
        if !std::mem::take(&mut self.mark_wanted) {
            return false;
        }
        let Ok(empty) = Batch::new().seal() else { return false };
        let mut bytes = Vec::new();
        let place = Place { log: self.no, offset: self.written, synced_upto: self.synced };
        record::encode(&mut bytes, &empty, self.last, place);
        // A promise that is lost only costs certainty, so there is nobody to tell.
        let _unneeded = self.file.write_at(self.written, &bytes);
        true
    }
}

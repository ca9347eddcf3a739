//! Appends groups of records to one log segment and syncs it.
//!
//! Knows how far the segment is written, how far it is known to be on disk, and how far the file
//! was made beforehand. Does not decide when to sync, nor what becomes of those who wait: that is
//! `engine::commit`; nor where files come from: `engine::logs`.

use std::path::PathBuf;
use std::sync::Arc;

use super::record::{self, HEADER_BYTES, Opening, Place};
use crate::storage::batch::{SealedBatch, Seqno};
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::vfs::VfsFile;

/// One batch on its way into the log.
#[derive(Debug)]
pub(crate) struct LogRecord<'a> {
    pub(crate) batch: &'a SealedBatch,
    pub(crate) seqno: Seqno,
}

/// A file that waits to be the next segment. The manifest knows it.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) no: FileNo,
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) path: PathBuf,
    /// Its length: what is written below it needs no room and no growth.
    pub(crate) made: u64,
}

/// A segment to which nothing is added any more, and which is not sealed yet.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) no: FileNo,
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) last: Seqno,
}

impl Ended {
    /// Makes it durable.
    ///
    /// # Errors
    /// As for [`LogWriter::sync`].
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|source| Error::io("sync", &self.path, source))
    }
}

/// An open segment. After a sync that failed, or a cut that failed, it must not be used again.
#[derive(Debug)]
pub(crate) struct LogWriter {
    pub(crate) no: FileNo,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    opening: Opening,
    written: u64,
    durable: u64,
    made: u64,
    /// All earlier segments are sealed. Until then this one promises nothing: what follows a part
    /// that may be missing must not pass for damage.
    promises: bool,
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
    /// The first segment of an opened store: all before it are sealed.
    pub(crate) fn first(spare: Spare) -> Self {
        Self::new(spare, Opening::default(), true)
    }

    fn new(spare: Spare, opening: Opening, promises: bool) -> Self {
        let Spare { no, file, path, made } = spare;
        Self {
            no,
            file,
            path,
            opening,
            written: 0,
            durable: 0,
            made,
            promises,
            last: opening.last,
            buffer: Vec::new(),
            mark_wanted: false,
        }
    }

    /// Ends this segment and goes on in another file.
    pub(crate) fn go_on(&mut self, spare: Spare) -> Ended {
        let opening = Opening { log: self.no, bytes: self.written, last: self.last };
        let old = std::mem::replace(self, Self::new(spare, opening, false));
        let Self { no, file, path, written: bytes, last, .. } = old;
        self.buffer = old.buffer;
        Ended { no, file, path, bytes, last }
    }

    /// Bytes written.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The last batch written, here or in an earlier segment.
    pub(crate) fn last(&self) -> Seqno {
        self.last
    }

    /// Whether everything written is known to be on disk.
    pub(crate) fn is_synced(&self) -> bool {
        self.durable == self.written
    }

    /// Whether all earlier segments are known to be sealed.
    pub(crate) fn promises(&self) -> bool {
        self.promises
    }

    /// Takes note that they are.
    pub(crate) fn let_promise(&mut self) {
        self.mark_wanted |= !self.promises && self.durable > 0;
        self.promises = true;
    }

    /// Bytes a batch takes in the log.
    pub(crate) fn cost(batch: &SealedBatch) -> u64 {
        batch.record_bytes() as u64
    }

    fn place(&self, offset: u64) -> Place {
        let synced_upto = if self.promises { self.durable } else { 0 };
        Place { log: self.no, offset, synced_upto }
    }

    /// Appends a group with one write.
    ///
    /// # Errors
    /// `DiskFull`: nothing of the group is in the log, and that is durable. Anything else: what is
    /// in the log is unknown and the writer must not be used again.
    pub(crate) fn append(&mut self, group: &[LogRecord<'_>]) -> Result<(), Error> {
        let Some(LogRecord { seqno: last, .. }) = group.last() else { return Ok(()) };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        if self.written == 0 {
            record::open(&mut buffer, self.opening, self.no);
        }
        for entry in group {
            let place = self.place(self.written + buffer.len() as u64);
            record::encode(&mut buffer, entry.batch, entry.seqno, place);
        }
        let result = self.file.write_at(self.written, &buffer);
        let length = buffer.len() as u64;
        if buffer.capacity() <= BUFFER_KEPT {
            self.buffer = buffer;
        }
        self.appended(result, length, *last)
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
        let header = record::header(batch, seqno, self.place(self.written));
        let Some(record) = batch.record_mut().filter(|_| self.written > 0) else {
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
        self.made = self.made.max(self.written);
        self.mark_wanted = false;
        self.last = last;
        Ok(())
    }

    /// Takes a group that was written in part out of the log again, durably. Without this, a whole
    /// record of the refused group could stand behind a shorter one that is written over its
    /// beginning, and come back to life after a crash. What was made of the file beforehand goes
    /// with it: the disk is full.
    fn cut(&mut self, full: Error) -> Error {
        if crate::mutant!("storage-full-leaves-tail") {
            return Error::DiskFull;
        }
        let cut = self.file.set_len(self.written).and_then(|()| self.file.sync_data());
        match cut {
            Ok(()) => {
                self.durable = self.written;
                self.made = self.written;
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
        self.durable = self.written;
        self.mark_wanted = self.promises;
        Ok(())
    }

    /// What is written and not known to be on disk, to be synced without the writer.
    pub(crate) fn unsynced(&self) -> Unsynced {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        Unsynced { no: self.no, file, path, upto: self.written }
    }

    /// Takes note of a sync beside the writer that succeeded. The segment may have been left since.
    pub(crate) fn note_synced(&mut self, done: &Unsynced) {
        if self.no == done.no && self.durable < done.upto {
            self.durable = done.upto;
            self.mark_wanted = self.promises;
        }
    }

    /// Writes an empty record that promises the last sync, if no later record has: with it, damage
    /// in the last synced group cannot be taken for a torn tail. The next record is written over
    /// it. Not synced, and a failure does not matter. Returns whether there was something to do.
    pub(crate) fn mark(&mut self) -> bool {
        if !std::mem::take(&mut self.mark_wanted) {
            return false;
        }
        let bytes = record::mark(self.last, self.place(self.written));
        // A promise that is lost only costs certainty, so there is nobody to tell.
        let _unneeded = self.file.write_at(self.written, &bytes);
        self.made = self.made.max(self.written + HEADER_BYTES as u64);
        true
    }

    /// How many bytes may still be written where the file has been made.
    pub(crate) fn made_ahead(&self) -> u64 {
        self.made.saturating_sub(self.written)
    }

    /// Makes more of the file, with zeros, so that syncs of what is written there have no growth to
    /// record. Not synced: the next sync does. Returns whether that worked: if not, nobody misses
    /// it, and a disk that fails says so again when it matters.
    pub(crate) fn make(&mut self, zeros: &[u8]) -> bool {
        let made = self.file.write_at(self.made, zeros).is_ok();
        if made {
            self.made += zeros.len() as u64;
        }
        made
    }

    /// Whether what is written next has room in the file, up to `bytes`: makes what is missing, with zeros.
    /// Not synced. A disk that copies what is written over may be full all the same.
    pub(crate) fn reserve(&mut self, bytes: u64) -> bool {
        let missing = bytes.saturating_sub(self.made_ahead());
        let Ok(missing) = usize::try_from(missing) else { return false };
        missing == 0 || self.make(&vec![0; missing])
    }
}

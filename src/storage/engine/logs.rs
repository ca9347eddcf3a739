//! The files of the log: where the next segment comes from, and what becomes of the last.
//!
//! To go on in the next segment takes no file operation: its file is there beforehand, named, and
//! known to the manifest. Behind the writers' backs, in this order: the segment that has ended is
//! synced; then the manifest says its length, which seals it; and nothing in a later segment is
//! promised to anyone before. When all of a segment is in tables, the manifest forgets it. Where
//! writers wait for syncs its file is then kept and used again under a new number, and a new file
//! is filled with zeros ahead of the writer: a sync has no growth of the file to record then, which
//! is half of what it costs. What a file held before does no harm: every record names its log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::Core;
use crate::storage::error::Error;
use crate::storage::files::{FileNo, wal_path};
use crate::storage::manifest::{Edit, Manifest, Sealed};
use crate::storage::options::SyncMode;
use crate::storage::vfs::VfsFile;
use crate::storage::wal::{Ended, LogWriter, Spare};

/// How many files of old segments are kept to be used again.
const KEPT_FILES: usize = 2;
/// A segment that has so much of its full size is left when all of it is in tables.
const LEFT_SHARE: u64 = 8;
/// How much of a file is made at once; less in small segments.
const MAKE_BYTES: u64 = 256 << 10;

/// The segment in use and those around it. Guarded by the log lock.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) writer: LogWriter,
    /// Not sealed yet, oldest first.
    pub(super) ended: VecDeque<Ended>,
    /// Making more of the file has failed: not again in this segment.
    unmakeable: bool,
}

/// What is to be done for the log in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upkeep {
    Seal,
    Make,
    Spare,
}

impl Logs {
    pub(super) fn new(writer: LogWriter) -> Self {
        Self { writer, ended: VecDeque::new(), unmakeable: false }
    }

    /// Whether everything written is on disk and said to be.
    pub(super) fn is_synced(&self) -> bool {
        self.ended.is_empty() && self.writer.is_synced()
    }

    fn due(&self, segment: u64, reuse: bool, spares: usize) -> Option<Upkeep> {
        let (written, ahead) = (self.writer.written(), self.writer.made_ahead());
        let step = make_step(segment);
        if !self.ended.is_empty() {
            Some(Upkeep::Seal)
        } else if reuse
            && written > 0
            && !self.unmakeable
            && ahead < 2 * step
            && written + ahead < segment
        {
            Some(Upkeep::Make)
        } else if spares == 0 && written > segment / 2 {
            Some(Upkeep::Spare)
        } else {
            None
        }
    }
}

fn make_step(segment: u64) -> u64 {
    MAKE_BYTES.min(segment / 8).max(1)
}

impl Core {
    /// Whether files are made beforehand and used again. Both take room, and gain something only
    /// where writers wait for syncs.
    fn reuses_logs(&self) -> bool {
        self.options.sync == SyncMode::Always
    }

    fn due(&self, logs: &Logs) -> Option<Upkeep> {
        logs.due(self.options.wal_segment_bytes, self.reuses_logs(), self.spares.lock().len())
    }

    /// Whether something is to be done in the background.
    pub(super) fn upkeep_due(&self, logs: &Logs) -> bool {
        self.due(logs).is_some()
    }

    /// Does one piece of what is to be done for the log. Returns whether there was any.
    pub(super) fn upkeep_step(&self) -> bool {
        let refused = {
            let mut commit = self.commit.lock();
            commit.upkeep_due = false;
            commit.latched.is_some() || commit.upkeep_blocked
        };
        if refused {
            return false;
        }
        let due = {
            let mut logs = self.log.lock();
            let due = self.due(&logs);
            if due == Some(Upkeep::Make) {
                let step = make_step(self.options.wal_segment_bytes);
                let zeros = vec![0; usize::try_from(step).unwrap_or(0)];
                logs.unmakeable = !logs.writer.make(&zeros);
            }
            due
        };
        let done = match due {
            Some(Upkeep::Seal) => self.seal_ended(None),
            Some(Upkeep::Spare) => self.prepare_spare(),
            Some(Upkeep::Make) => Ok(()),
            None => return false,
        };
        match done {
            Ok(()) => {}
            Err(error) if error.is_full() => self.commit.lock().upkeep_blocked = true,
            Err(error) => self.latch(&error),
        }
        true
    }

    /// Goes on in the next segment.
    pub(super) fn rotate(&self, logs: &mut Logs) -> Result<(), Error> {
        let ready = self.spares.lock().pop_front();
        let spare = match ready {
            Some(spare) => spare,
            None => {
                let mut manifest = self.manifest.lock();
                // One may just have been made. Files must be used in the order of their numbers.
                let ready = self.spares.lock().pop_front();
                ready.map_or_else(|| self.make_spare(&mut manifest), Ok)?
            }
        };
        logs.unmakeable = false;
        let ended = logs.writer.go_on(spare);
        logs.ended.push_back(ended);
        Ok(())
    }

    /// Leaves the segment in use if a flush has made all of it needless: nobody may write for long,
    /// and until someone does its file would stay.
    pub(super) fn leave_flushed(&self) -> Result<(), Error> {
        if !self.is_to_leave(&self.log.lock()) {
            return Ok(());
        }
        // A file is made without the log in hand: writers would wait for the disk.
        if self.spares.lock().is_empty() {
            self.prepare_spare()?;
        }
        let mut logs = self.log.lock();
        if !self.is_to_leave(&logs) || self.spares.lock().is_empty() {
            return Ok(());
        }
        crate::sometimes!("storage: a flushed log is left");
        self.rotate(&mut logs)?;
        self.commit.lock().upkeep_due = true;
        self.upkeep_wake.notify_one();
        Ok(())
    }

    fn is_to_leave(&self, logs: &Logs) -> bool {
        let flushed = self.commit.lock().flushed;
        let is_worth_it = logs.writer.written() > self.options.wal_segment_bytes / LEFT_SHARE;
        is_worth_it && logs.writer.last() <= flushed && self.latched().is_none()
    }

    fn prepare_spare(&self) -> Result<(), Error> {
        let mut manifest = self.manifest.lock();
        let spare = self.make_spare(&mut manifest)?;
        self.spares.lock().push_back(spare);
        Ok(())
    }

    /// Makes a file the manifest knows, out of an old one if there is one.
    fn make_spare(&self, manifest: &mut Manifest) -> Result<Spare, Error> {
        let old = self.commit.lock().old_logs.pop();
        let no = manifest.state.take_number()?;
        let path = wal_path(&self.dir, no);
        let reused = old.and_then(|old| self.reuse(old, no));
        let (file, made) = match reused {
            Some(reused) => reused,
            None => {
                let file = self.vfs.create(&path);
                (file.map_err(|error| Error::io("create", &path, error))?, 0)
            }
        };
        if !crate::mutant!("storage-no-dir-sync") {
            let synced = self.vfs.sync_dir(&self.dir);
            synced.map_err(|error| Error::io("sync", &self.dir, error))?;
        }
        if let Err(error) = manifest.append(Edit { logs_added: vec![no], ..Edit::default() }) {
            if error.is_full() {
                // If it stays, no record in it is its own, and it is removed at the next open.
                let _orphan = self.vfs.remove(&path);
            }
            // After any other failure the edit may be in force at the next open, and names it.
            return Err(error);
        }
        Ok(Spare { no, file, path, made })
    }

    /// Gives an old file the name of a new segment. What goes wrong costs the file and no more.
    fn reuse(&self, old: FileNo, no: FileNo) -> Option<(Arc<dyn VfsFile>, u64)> {
        let from = wal_path(&self.dir, old);
        let opened = self.vfs.open(&from).and_then(|file| Ok((file.size()?, file)));
        match opened {
            Ok((made, file)) if self.vfs.rename(&from, &wal_path(&self.dir, no)).is_ok() => {
                crate::sometimes!("storage: a log file is used again");
                Some((file, made))
            }
            _ => {
                let _orphan = self.vfs.remove(&from);
                None
            }
        }
    }

    /// Seals the segments that have ended, oldest first, and lets the one in use promise then.
    /// With the log in hand if it is given, else beside those who append to it.
    pub(super) fn seal_ended(&self, mut held: Option<&mut Logs>) -> Result<(), Error> {
        loop {
            let oldest = match &mut held {
                Some(logs) => logs.ended.front().cloned(),
                None => self.log.lock().ended.front().cloned(),
            };
            let Some(ended) = oldest else { return Ok(()) };
            self.seal(&ended)?;
            let sealed = |logs: &mut Logs| {
                if logs.ended.front().is_some_and(|front| front.no == ended.no) {
                    logs.ended.pop_front();
                }
                if logs.ended.is_empty() {
                    logs.writer.let_promise();
                }
            };
            match &mut held {
                Some(logs) => sealed(logs),
                None => sealed(&mut self.log.lock()),
            }
        }
    }

    fn seal(&self, ended: &Ended) -> Result<(), Error> {
        {
            let _alone = self.syncing.lock();
            if let Some(error) = self.latched() {
                return Err(error);
            }
            self.counters.log_syncs.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = ended.sync() {
                // Before the next sync begins: the kernel has told it to us alone.
                self.latch(&error);
                return Err(error);
            }
        }
        let mut manifest = self.manifest.lock();
        // Another may have been quicker, and a flush may have made it needless since.
        if manifest.state.logs.get(&ended.no) != Some(&None) {
            return Ok(());
        }
        let sealed = Sealed { bytes: ended.bytes, last: ended.last };
        let mut edit = Edit { logs_sealed: vec![(ended.no, sealed)], ..Edit::default() };
        if ended.last <= manifest.state.flushed {
            edit.logs_removed.push(ended.no);
        }
        let removed = edit.logs_removed.clone();
        manifest.append(edit)?;
        drop(manifest);
        self.remove_logs(&removed);
        Ok(())
    }

    /// The manifest no longer names these: their files are kept to be used again, or removed. What
    /// cannot be removed now is swept at the next open.
    pub(super) fn remove_logs(&self, logs: &[FileNo]) {
        let mut commit = self.commit.lock();
        for no in logs {
            if self.reuses_logs() && commit.old_logs.len() < KEPT_FILES {
                commit.old_logs.push(*no);
            } else {
                parking_lot::MutexGuard::unlocked(&mut commit, || {
                    let _orphan = self.vfs.remove(&wal_path(&self.dir, *no));
                });
            }
        }
    }
}

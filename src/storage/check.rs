//! Checks a store that nobody has open, and changes nothing in it.
//!
//! Decides what counts as a fault: everything that `Engine::open` would refuse or report, every
//! block of every table, every record of every log in use, also those whose batches are in tables
//! already. A torn tail of the log in use is what a crash leaves and no fault.

use std::path::Path;
use std::sync::Arc;

use super::cache::BlockCache;
use super::error::Error;
use super::files::{CURRENT, table_path};
use super::manifest::{self, State};
use super::sstable::{Table, TableMeta};
use super::vfs::Vfs;
use super::wal::{refuse_unknown_logs, replay};

/// What a check has found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Checked {
    /// Number of tables read to the end.
    pub tables: usize,
    /// Number of blocks read.
    pub blocks: u64,
    /// Number of log segments read.
    pub segments: usize,
    /// Number of batches in them.
    pub batches: u64,
    /// Bytes of torn writes at the log's end, which the next start will cut off.
    pub torn_bytes: u64,
    /// Every fault, each naming its file and, where there is one, the offset. The store is sound
    /// when there is none.
    pub faults: Vec<Error>,
}

/// Reads everything of the store in `dir` and checks every checksum. Holds the lock of the
/// directory meanwhile; beside the lock's own file nothing is written.
///
/// # Errors
/// `Locked` when an engine has the store open; when the directory cannot be locked or listed.
pub fn check(vfs: &dyn Vfs, dir: &Path) -> Result<Checked, Error> {
    let _lock = vfs.lock_dir(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked { dir: dir.to_path_buf() },
        _ => Error::io("lock", dir, error),
    })?;
    let names = vfs.list(dir).map_err(|error| Error::io("list", dir, error))?;
    let mut checked = Checked::default();
    match manifest::read(vfs, dir, &names) {
        Ok(Some(state)) => checked.files(vfs, dir, &state, &names),
        // Most likely the wrong directory, which must not pass for a sound store.
        Ok(None) => checked.faults.push(Error::Missing { file: dir.join(CURRENT) }),
        Err(error) => checked.faults.push(error),
    }
    Ok(checked)
}

impl Checked {
    fn files(&mut self, vfs: &dyn Vfs, dir: &Path, state: &State, names: &[String]) {
        self.faults.extend(refuse_unknown_logs(vfs, dir, &state.logs, names).err());
        for meta in state.tables.values() {
            self.table(vfs, dir, meta);
        }
        if let Err(error) = self.logs(vfs, dir, state) {
            self.faults.push(error);
        }
    }

    fn table(&mut self, vfs: &dyn Vfs, dir: &Path, meta: &TableMeta) {
        // Nothing is read twice.
        let cache = Arc::new(BlockCache::new(0, 1));
        match Table::open(vfs, table_path(dir, meta.no), meta.clone(), cache) {
            Ok(table) => {
                let (blocks, faults) = table.verify();
                self.tables += 1;
                self.blocks += blocks;
                self.faults.extend(faults);
            }
            Err(error) => self.faults.push(error),
        }
    }

    fn logs(&mut self, vfs: &dyn Vfs, dir: &Path, state: &State) -> Result<(), Error> {
        for log in replay(vfs, dir, &state.logs, state.flushed, &mut |_, _| Ok(()))? {
            self.segments += 1;
            self.batches += log.scan.batches;
            if log.sealed.is_none() {
                self.torn_bytes += log.scan.torn;
            }
            let what = "records that were synced cannot be read";
            let fault = |start| Error::corrupt(&log.path, start, what);
            self.faults.extend(log.scan.damage.iter().map(|damage| fault(damage.start)));
        }
        Ok(())
    }
}

//! A store with files missing, made into one that opens and says what it has lost.
//!
//! Decides nothing about what is lost: an empty file takes the place of each that is missing, and
//! whoever opens the store finds damage there as in any other. A log's file says nothing of what was in
//! it; so that it was missing is written down first, and opening reports it like a lost middle.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::files::{LOST, blob_path, table_path, wal_path};
use super::key_range::KeyRange;
use super::manifest::{self, State};
use super::vfs::Vfs;

/// A file that the manifest names and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingFile {
    /// The file.
    pub file: PathBuf,
    /// The keys that may be lost with it; none of a log, which may have held any.
    pub ranges: Vec<KeyRange>,
    /// Whether it is a part of the log.
    pub log: bool,
}

/// The files that the store in `dir` lacks. Changes nothing.
///
/// # Errors
/// `Missing`: there is no manifest, so nobody can tell; `Corrupt`, or what the file system says.
pub fn missing(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<MissingFile>, Error> {
    let (state, names) = read(vfs, dir)?;
    let lacks = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        !names.iter().any(|there| there == name)
    };
    let log = |no: &u32| MissingFile { file: wal_path(dir, *no), ranges: Vec::new(), log: true };
    let table = |no: &u32| {
        let ranges = state.tables.get(no).map(|meta| meta.keys()).into_iter().collect();
        MissingFile { file: table_path(dir, *no), ranges, log: false }
    };
    let blob = |no: &u32| {
        let refers = |meta: &&super::sstable::TableMeta| meta.blobs.iter().any(|it| it.file == *no);
        let ranges = state.tables.values().filter(refers).map(|meta| meta.keys()).collect();
        MissingFile { file: blob_path(dir, *no), ranges, log: false }
    };
    let all = state.logs.keys().map(log).chain(state.tables.keys().map(table));
    let all = all.chain(state.blobs.keys().map(blob));
    Ok(all.filter(|missing| lacks(&missing.file)).collect())
}

fn read(vfs: &dyn Vfs, dir: &Path) -> Result<(State, Vec<String>), Error> {
    let names = vfs.list(dir).map_err(|error| Error::io("list", dir, error))?;
    match manifest::read(vfs, dir, &names)? {
        Some(state) => Ok((state, names)),
        None => Err(Error::Missing { file: dir.join(super::files::CURRENT) }),
    }
}

/// Puts an empty file in the place of each that is missing, durably, so that the store opens with what
/// it has lost as damage. Returns what was missing. May be cut short and called again.
///
/// # Errors
/// `Locked` when the store is open; as for [`missing`].
pub fn rebuild(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<MissingFile>, Error> {
    let _lock = vfs.lock_dir(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked { dir: dir.to_path_buf() },
        _ => Error::io("lock", dir, error),
    })?;
    let missing = missing(vfs, dir)?;
    let make = |path: &Path| {
        let made = vfs.create(path).and_then(|file| file.sync_data());
        made.map_err(|error| Error::io("create", path, error))
    };
    let sync = || vfs.sync_dir(dir).map_err(|error| Error::io("sync", dir, error));
    if missing.iter().any(|file| file.log) {
        make(&dir.join(LOST))?;
        sync()?;
    }
    missing.iter().try_for_each(|missing| make(&missing.file))?;
    sync()?;
    Ok(missing)
}

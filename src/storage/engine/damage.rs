//! What damage costs: which keys may lack something.
//!
//! Decides it by a second look at each place that did not check: from the index, which keys can stand
//! there, less what is deleted anyway. Changes nothing: a bad block stays, and every read that meets it
//! is an error, until the keys it may hold are deleted by ranges; then merges leave it out.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::core::{Core, View};
use super::read::Snapshot;
use crate::storage::bad_places::Place;
use crate::storage::error::Error;
use crate::storage::files::{LOST, blob_path, table_path};
use crate::storage::key_range::KeyRange;
use crate::storage::sstable::Table;

/// A place of a file that cannot be read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Damage {
    /// The table, or the blob file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub error: Error,
    /// The keys of which the newest version may be lost, without those that are deleted by now. Not empty.
    pub ranges: Vec<KeyRange>,
}

impl Core {
    /// See [`super::Engine::damage`].
    pub(super) fn damage(&self) -> Vec<Damage> {
        if !self.cache.bad.any() {
            return Vec::new();
        }
        let places = self.cache.bad.get();
        let snapshot = self.snapshot();
        let found =
            places.iter().filter_map(|(place, key)| self.judge(&snapshot, *place, key.as_ref()));
        let found = found.collect();
        // They have been noted once more meanwhile.
        self.cache.bad.forget(&places);
        found
    }

    fn judge(
        &self,
        snapshot: &Snapshot,
        (no, offset): Place,
        key: Option<&Bytes>,
    ) -> Option<Damage> {
        let Snapshot { view, seqno, .. } = snapshot;
        let (file, found) = match (key, view.levels.all().find(|(_, table)| table.meta.no == no)) {
            (Some(key), _) => {
                let error = view.get_from_disk(key, *seqno).err()?;
                (blob_path(&self.dir, no), vec![(one_key(key), error, u64::MAX)])
            }
            (None, Some((_, table))) => {
                let (keys, error) = table.doubt(offset)?;
                (table_path(&self.dir, no), vec![(keys, error, table.meta.last.0)])
            }
            (None, None) => (blob_path(&self.dir, no), cut_short(view, no)),
        };
        let error = found.first().map(|(_, error, _)| error.clone())?;
        let covers = view.covers(*seqno);
        let left = |(keys, _, last): (KeyRange, Error, u64)| match last {
            u64::MAX => vec![keys],
            last => covers.uncovered(keys, crate::storage::batch::Seqno(last)),
        };
        let ranges: Vec<_> = found.into_iter().flat_map(left).collect();
        (!ranges.is_empty()).then_some(Damage { file, offset, error, ranges })
    }

    /// Removes the file that says that a part of the log was missing.
    pub(super) fn remove_lost(&self) -> Result<(), Error> {
        let path = self.dir.join(LOST);
        match self.vfs.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &path, error))
            }
            _ => self.vfs.sync_dir(&self.dir).map_err(|error| Error::io("sync", &self.dir, error)),
        }
    }

    /// Notes blob files that lack a part: which of their values are left is not known before they are
    /// read, so all tables that refer to them are in doubt.
    pub(super) fn note_cut_blobs(&self) {
        for blob in self.view.load().levels.blobs().values() {
            if !matches!(blob.file.is_whole(), Ok(true)) {
                self.cache.bad.note(blob.file.path(), 0, None);
            }
        }
    }
}

fn one_key(key: &[u8]) -> KeyRange {
    KeyRange::between(key, &[key, &[0]].concat())
}

/// The keys of the tables that refer to a blob file which lacks a part, each with the last batch of its
/// table.
fn cut_short(view: &View, no: u32) -> Vec<(KeyRange, Error, u64)> {
    let Some(blob) = view.levels.blobs().get(&no) else { return Vec::new() };
    let error = match blob.file.is_whole() {
        Ok(true) => return Vec::new(),
        Ok(false) => Error::corrupt(blob.file.path(), 0, "file is cut short"),
        Err(error) => error,
    };
    let refers = |table: &&Arc<Table>| table.meta.blobs.iter().any(|one| one.file == no);
    let tables = view.levels.all().map(|(_, table)| table).filter(refers);
    tables.map(|table| (table.meta.keys(), error.clone(), table.meta.last.0)).collect()
}

//! Places of tables and blob files that did not check, noted by whoever has met them, until the engine
//! looks at them once more.
//!
//! Decides nothing: whether a place is damaged, and what may be lost with it, is for `engine::damage`
//! to say. Nobody who reads waits for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::files::{FileKind, FileNo};

/// Most places that wait. What finds no room here is met again.
const PLACES_MAX: usize = 1_024;

/// A file and an offset in it.
pub(crate) type Place = (FileNo, u64);

/// The number of the table or blob file of a name.
pub(crate) fn file_of(path: &Path) -> Option<FileNo> {
    match FileKind::of(path.file_name()?.to_str()?) {
        FileKind::Table(no) | FileKind::Blob(no) => Some(no),
        FileKind::Wal(_) | FileKind::Manifest(_) | FileKind::NextCurrent | FileKind::Other => None,
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct BadPlaces {
    any: AtomicBool,
    /// With the key whose value should stand there, in a blob file.
    places: Mutex<BTreeMap<Place, Option<Bytes>>>,
}

impl BadPlaces {
    /// Notes that what stands in a file at an offset could not be read.
    pub(crate) fn note(&self, path: &Path, offset: u64, key: Option<&[u8]>) {
        let Some(no) = file_of(path) else { return };
        let mut places = self.places.lock();
        if places.len() < PLACES_MAX {
            places.insert((no, offset), key.map(Bytes::copy_from_slice));
        }
        self.any.store(true, Ordering::Release);
    }

    /// Whether any wait.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Those that wait. They stay until they are forgotten: to look at them notes them again.
    pub(crate) fn get(&self) -> BTreeMap<Place, Option<Bytes>> {
        self.places.lock().clone()
    }

    pub(crate) fn forget(&self, looked_at: &BTreeMap<Place, Option<Bytes>>) {
        let mut places = self.places.lock();
        places.retain(|place, _| !looked_at.contains_key(place));
        self.any.store(!places.is_empty(), Ordering::Release);
    }
}

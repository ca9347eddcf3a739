//! Which segments of a log hold anything, in which order they are applied, and where they end.
//!
//! Decides how far the log as a whole is believed. A sealed segment is believed to its length. One
//! that is not sealed may be followed by others that were written before anyone synced it: then the
//! first record of the next says where it ended, and if a part is missing, nothing after it counts.
//! Nothing in a segment is promised before all earlier ones are sealed, so what is lost that way
//! was never acknowledged as durable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::recover::{Apply, Scan, Segment, is_in_use, opening, scan};
use crate::storage::batch::Seqno;
use crate::storage::error::Error;
use crate::storage::files::{FileKind, FileNo, wal_path};
use crate::storage::manifest::Sealed;
use crate::storage::vfs::{Vfs, VfsFile};

/// A segment that was read.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) no: FileNo,
    pub(crate) path: PathBuf,
    pub(crate) sealed: Option<Sealed>,
    pub(crate) scan: Scan,
}

fn open(vfs: &dyn Vfs, path: &Path) -> Result<Arc<dyn VfsFile>, Error> {
    vfs.open_to_read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { file: path.to_path_buf() },
        _ => Error::io("open", path, error),
    })
}

/// Reads all segments that the manifest names and hands their batches out in order. Returns those
/// that hold something; the others are spare, or follow a part that is missing. `near` is the number
/// of any batch not long before or after those in them, as the last that is in tables.
///
/// # Errors
/// `Missing`, `Version`, what the file system or `apply` says.
pub(crate) fn replay(
    vfs: &dyn Vfs,
    dir: &Path,
    logs: &BTreeMap<FileNo, Option<Sealed>>,
    near: Seqno,
    apply: Apply<'_>,
) -> Result<Vec<Replayed>, Error> {
    let mut opened = Vec::new();
    for (no, sealed) in logs {
        let path = wal_path(dir, *no);
        let file = open(vfs, &path)?;
        opened.push((*no, path, file, *sealed));
    }
    let mut replayed = Vec::new();
    let mut opened = opened.into_iter().peekable();
    while let Some((no, path, file, sealed)) = opened.next() {
        let segment = Segment { no, path: &path, file: &*file, near };
        let limit = match (sealed, opened.peek()) {
            (Some(sealed), _) => Some(sealed.bytes),
            (None, Some((no, path, file, _))) => {
                let next = Segment { no: *no, path, file: &**file, near };
                opening(next)?.filter(|opening| opening.log == segment.no).map(|it| it.bytes)
            }
            (None, None) => None,
        };
        let promised = sealed.map_or(0, |sealed| sealed.bytes);
        let scan = scan(segment, limit.unwrap_or(u64::MAX), promised, apply)?;
        let goes_on = sealed.is_some() || limit.is_some_and(|limit| scan.end >= limit);
        replayed.push(Replayed { no, path, sealed, scan });
        if !goes_on && !crate::mutant!("storage-log-goes-on-behind-a-gap") {
            break;
        }
    }
    Ok(replayed)
}

/// Looks for signs that the manifest has lost its last edits, which its own checks cannot tell from
/// a torn write: a log that it does not know holds no record of its own unless an edit named it
/// once. A file that was to be used again may hold those of another.
///
/// # Errors
/// `Corrupt` when there is such a log; what the file system says.
pub(crate) fn refuse_unknown_logs(
    vfs: &dyn Vfs,
    dir: &Path,
    known: &BTreeMap<FileNo, Option<Sealed>>,
    names: &[String],
) -> Result<(), Error> {
    let newest = known.keys().next_back().copied();
    for name in names {
        let FileKind::Wal(no) = FileKind::of(name) else { continue };
        if newest.is_none_or(|newest| no > newest) {
            let path = wal_path(dir, no);
            let file = open(vfs, &path)?;
            if is_in_use(Segment { no, path: &path, file: &*file, near: Seqno(0) })? {
                return Err(Error::corrupt(&path, 0, "log is in use but unknown to the manifest"));
            }
        }
    }
    Ok(())
}

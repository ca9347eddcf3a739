//! Reads a log segment after a crash and decides what of it to believe.
//!
//! A record that cannot be read is *damage* if it lies below an offset that the log itself (a later
//! record) or the manifest (a sealed length) says was synced: then bytes that were once safe are
//! gone, the region is reported, and what follows is applied. Above every such promise it is a
//! *torn tail*: never acknowledged as synced, and cut off together with all that follows it, since
//! sectors of one unsynced stretch reach the disk in any order and only a prefix may be kept.

use std::collections::BTreeMap;
use std::path::Path;

use super::record::{self, ALIGN, FORMAT, Parsed};
use crate::storage::batch::{SealedBatch, Seqno};
use crate::storage::error::Error;
use crate::storage::files::{FileKind, FileNo, wal_path};
use crate::storage::manifest::Sealed;
use crate::storage::vfs::Vfs;

/// Longest log segment that is read: the longest allowed and one batch more.
pub(crate) const WAL_BYTES_MAX: u64 = (1 << 30) + (64 << 20);

/// Looks for signs that the manifest has lost its last edits, which its own checks cannot tell from
/// a torn write: a log that it does not know is empty unless an edit named it once.
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
            let size = vfs.open(&path).and_then(|file| file.size());
            if size.map_err(|error| Error::io("measure", &path, error))? > 0 {
                return Err(Error::corrupt(&path, 0, "log is in use but unknown to the manifest"));
            }
        }
    }
    Ok(())
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The batches to apply, in order.
    pub(crate) batches: Vec<(Seqno, SealedBatch)>,
    /// Regions of damage, as offsets `[start, end)`, and the last batch before each.
    pub(crate) damage: Vec<Damage>,
    /// Where the believed part ends.
    pub(crate) end: u64,
    /// Everything below was on disk when a record or the manifest said so.
    pub(crate) promised: u64,
    /// The last batch in it.
    pub(crate) last: Seqno,
}

/// A stretch of a segment that was synced once and cannot be read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// All batches lost in it are below this number; `None` when nothing follows.
    pub(crate) next: Option<Seqno>,
}

struct Found {
    offset: usize,
    parsed: Parsed,
}

/// Reads segment `no`. `sealed` is its length if the manifest knows it.
///
/// # Errors
/// `Version` when a record is whole but of a later format.
pub(crate) fn scan(
    path: &Path,
    no: FileNo,
    content: &[u8],
    sealed: Option<u64>,
) -> Result<Scan, Error> {
    let sealed_len = sealed.and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX);
    let content = content.get(..sealed_len).unwrap_or(content);
    let found = find_records(no, content);
    if let Some(Found { parsed, .. }) = found.iter().find(|found| found.parsed.format != FORMAT) {
        let (file, found, known) = (path.to_path_buf(), parsed.format.into(), FORMAT.into());
        return Err(Error::Version { file, found, known });
    }
    let promised = found.iter().map(|found| found.parsed.synced_upto).max();
    let promised = promised.unwrap_or(0).max(sealed.unwrap_or(0));
    let mut scan = Scan { promised, ..Scan::default() };
    for Found { offset, parsed } in found {
        let offset = offset as u64;
        if offset > scan.end {
            if scan.end >= promised || crate::mutant!("storage-stop-at-corrupt-middle") {
                return Ok(scan);
            }
            // A mark repeats the number of the batch before it, which may be the one that is lost.
            let is_mark = parsed.batch.as_ref().is_some_and(|batch| batch.count == 0);
            let next = Some(Seqno(parsed.seqno.0.saturating_add(u64::from(is_mark))));
            scan.damage.push(Damage { start: scan.end, end: offset, next });
        }
        scan.end = offset + parsed.bytes as u64;
        scan.last = parsed.seqno;
        if let Some(batch) = parsed.batch.filter(|batch| batch.count > 0) {
            scan.batches.push((parsed.seqno, batch));
        }
    }
    if scan.end < promised && !crate::mutant!("storage-stop-at-corrupt-middle") {
        scan.damage.push(Damage { start: scan.end, end: promised, next: None });
        scan.end = promised.min(content.len() as u64);
    }
    Ok(scan)
}

/// All records that can be believed, in order. After one that cannot, the next is searched for at
/// every eighth byte; the checksum holds the place, so bytes of a value that look like a record
/// are not taken for one.
fn find_records(no: FileNo, content: &[u8]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut offset = 0;
    let mut last = Seqno(0);
    while offset < content.len() {
        match record::parse(no, content, offset) {
            Some(parsed) if is_next(&parsed, last) => {
                last = parsed.seqno;
                let bytes = parsed.bytes;
                found.push(Found { offset, parsed });
                offset += bytes;
            }
            _ => offset += ALIGN,
        }
    }
    found
}

/// Numbers rise from batch to batch; a mark repeats the number of the batch before it.
fn is_next(parsed: &Parsed, last: Seqno) -> bool {
    let is_mark = parsed.batch.as_ref().is_some_and(|batch| batch.count == 0);
    parsed.seqno > last || (is_mark && parsed.seqno == last)
}

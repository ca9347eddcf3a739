//! Reads a log segment after a crash and decides what of it to believe.
//!
//! A record that cannot be read is *damage* if it lies below an offset that the log itself (a later
//! record) or the manifest (a sealed length) says was synced: then bytes that were once safe are
//! gone, the region is reported, and what follows is applied. Above every such promise it is a
//! *torn tail*: never acknowledged as synced, and cut off together with all that follows it, since
//! sectors of one unsynced stretch reach the disk in any order and only a prefix may be kept.
//!
//! What lies behind the tail of a segment, zeros or what another log has left in a recycled file,
//! is neither: no record of this log is there. A segment is read through a window of 1 MiB, or of
//! one record if that is longer.

use std::path::Path;

use super::record::{
    self, ALIGN, At, FIRST_FORMAT_BYTES, FORMAT, HEADER_BYTES, Header, Opening, What,
};
use crate::storage::batch::{SealedBatch, Seqno};
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::vfs::VfsFile;

/// How much is read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Receives the batches of a log, in order.
pub(crate) type Apply<'a> = &'a mut dyn FnMut(Seqno, SealedBatch) -> Result<(), Error>;

/// A log segment to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) no: FileNo,
    pub(crate) path: &'a Path,
    pub(crate) file: &'a dyn VfsFile,
    /// A batch number that is not far from those in it: records have the lower part of theirs.
    pub(crate) near: Seqno,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Number of batches applied.
    pub(crate) batches: u64,
    /// Regions of damage.
    pub(crate) damage: Vec<Damage>,
    /// Where the believed part ends.
    pub(crate) end: u64,
    /// Everything below was on disk when a record or the manifest said so.
    pub(crate) promised: u64,
    /// The last batch in it.
    pub(crate) last: Seqno,
    /// Bytes of this log behind the end, as far as they can be told from what was there before.
    pub(crate) torn: u64,
}

/// A stretch of a segment, `[start, end)`, that was synced once and cannot be read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// All batches lost in it are below this number; `None` when nothing follows.
    pub(crate) next: Option<Seqno>,
}

/// A record that can be believed.
struct Found {
    offset: u64,
    header: Header,
    batch: Option<SealedBatch>,
}

/// The part of a file that is in memory.
struct Window<'a> {
    segment: Segment<'a>,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// Some bytes of the file; none if it is not that long.
    fn get(&mut self, offset: u64, length: usize) -> Result<Option<&[u8]>, Error> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Ok(None);
        }
        let held = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + length as u64 > held {
            let rest = usize::try_from(self.size - offset).unwrap_or(usize::MAX);
            self.bytes.resize(rest.min(length.max(WINDOW_BYTES)), 0);
            self.start = offset;
            let read = self.segment.file.read_at(offset, &mut self.bytes);
            let read = read.map_err(|error| Error::io("read", self.segment.path, error))?;
            self.bytes.truncate(read);
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..).and_then(|rest| rest.get(..length)))
    }

    /// The next place from `offset` on where a header may stand.
    fn next_candidate(&mut self, mut offset: u64) -> Result<Option<u64>, Error> {
        while self.get(offset, HEADER_BYTES)?.is_some() {
            let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
            let held = self.bytes.get(from..).unwrap_or_default();
            let places = held.windows(HEADER_BYTES).step_by(ALIGN);
            if let Some(index) = places.into_iter().position(record::may_begin) {
                return Ok(Some(offset + (index * ALIGN) as u64));
            }
            // The last places of the window are asked again: their headers reach beyond it.
            let places = held.len().saturating_sub(HEADER_BYTES) / ALIGN;
            offset += (places.max(1) * ALIGN) as u64;
        }
        Ok(None)
    }
}

/// The records of one segment, in order.
struct Records<'a> {
    window: Window<'a>,
    offset: u64,
    last: Seqno,
}

impl<'a> Records<'a> {
    fn new(segment: Segment<'a>, limit: u64) -> Result<Self, Error> {
        let size = segment.file.size();
        let size = size.map_err(|error| Error::io("measure", segment.path, error))?.min(limit);
        let window = Window { segment, size, start: 0, bytes: Vec::new() };
        Ok(Self { window, offset: 0, last: Seqno(0) })
    }

    /// The record that stands right here.
    fn here(&mut self) -> Result<Option<Found>, Error> {
        let at = self.at();
        let header = self.window.get(at.offset, HEADER_BYTES)?;
        let Some(header) = header.and_then(|header| record::parse(header, at)) else {
            return Ok(None);
        };
        let payload = self.window.get(at.offset + HEADER_BYTES as u64, header.length)?;
        let Some(payload) = payload.filter(|payload| header.holds(payload)) else {
            return Ok(None);
        };
        if header.format != FORMAT {
            return Err(self.version(header.format));
        }
        // Numbers rise from batch to batch; other records repeat that of the batch before.
        let batch = match header.what() {
            Some(What::Batch) if header.seqno > self.last => Header::batch(payload),
            Some(What::Mark | What::Opening) if header.seqno >= self.last => None,
            _ => return Ok(None),
        };
        if batch.is_none() && header.what() == Some(What::Batch) {
            return Ok(None);
        }
        self.offset += header.bytes() as u64;
        self.last = header.seqno;
        Ok(Some(Found { offset: at.offset, header, batch }))
    }

    fn at(&self) -> At {
        let Segment { no: log, near, .. } = self.window.segment;
        At { log, offset: self.offset, near }
    }

    fn version(&self, found: u8) -> Error {
        let file = self.window.segment.path.to_path_buf();
        Error::Version { file, found: found.into(), known: FORMAT.into() }
    }

    /// Refuses a log of the first format, in which no record would be found.
    fn refuse_first_format(&mut self) -> Result<(), Error> {
        let no = self.window.segment.no;
        let head = self.window.get(0, FIRST_FORMAT_BYTES)?;
        match head.is_some_and(|head| record::is_of_first_format(no, head)) {
            true => Err(self.version(1)),
            false => Ok(()),
        }
    }

    /// The next record, wherever it stands. It is searched for at every fourth byte; the checksum
    /// holds the place, so bytes of a value that look like a record are not taken for one.
    fn next(&mut self) -> Result<Option<Found>, Error> {
        loop {
            if let Some(found) = self.here()? {
                return Ok(Some(found));
            }
            let from = self.offset + ALIGN as u64;
            match self.window.next_candidate(from)? {
                Some(offset) => self.offset = offset,
                None => return Ok(None),
            }
        }
    }
}

/// What the first record of a segment says, if it is there.
///
/// # Errors
/// `Version` when it is of a later format; what the file system says.
pub(crate) fn opening(segment: Segment<'_>) -> Result<Option<Opening>, Error> {
    let mut records = Records::new(segment, record::opening_bytes())?;
    match records.here()? {
        Some(Found { header, .. }) if header.what() == Some(What::Opening) => {
            let payload = records.window.get(HEADER_BYTES as u64, header.length)?;
            Ok(payload.and_then(Opening::decode))
        }
        _ => Ok(None),
    }
}

/// Whether any record of this log is in the file.
///
/// # Errors
/// As for [`scan`].
pub(crate) fn is_in_use(segment: Segment<'_>) -> Result<bool, Error> {
    Ok(Records::new(segment, u64::MAX)?.next()?.is_some())
}

impl Scan {
    fn take(&mut self, found: Found, apply: Apply<'_>) -> Result<(), Error> {
        let Found { offset, header, batch } = found;
        if offset > self.end {
            // Other records repeat the number of the batch before, which may be the one lost.
            let repeats = u64::from(batch.is_none());
            let next = Some(Seqno(header.seqno.0.saturating_add(repeats)));
            self.damage.push(Damage { start: self.end, end: offset, next });
        }
        self.end = offset + header.bytes() as u64;
        self.last = header.seqno;
        self.promised = self.promised.max(header.synced_upto);
        if let Some(batch) = batch {
            self.batches += 1;
            apply(header.seqno, batch)?;
        }
        Ok(())
    }
}

/// Reads a segment up to `limit`, of which everything below `sealed` was on disk once.
///
/// # Errors
/// `Version` when a record is whole but of a later format; what the file system says; what `apply`
/// says.
pub(crate) fn scan(
    segment: Segment<'_>,
    limit: u64,
    sealed: u64,
    apply: Apply<'_>,
) -> Result<Scan, Error> {
    let mut records = Records::new(segment, limit)?;
    let size = records.window.size;
    records.refuse_first_format()?;
    let mut scan = Scan { promised: sealed, ..Scan::default() };
    // What stands without a gap is believed, whatever is promised.
    while let Some(found) = records.here()? {
        scan.take(found, apply)?;
    }
    let gap = (records.offset, records.last);
    scan.torn = torn(&mut records, size)?;
    while let Some(found) = records.next()? {
        scan.promised = scan.promised.max(found.header.synced_upto);
        scan.torn = found.offset + found.header.bytes() as u64 - gap.0;
    }
    if scan.end >= scan.promised || crate::mutant!("storage-stop-at-corrupt-middle") {
        return Ok(scan);
    }
    (records.offset, records.last) = gap;
    while let Some(found) = records.next()? {
        if found.offset > scan.end && scan.end >= scan.promised {
            scan.torn = scan.torn.saturating_sub(scan.end - gap.0);
            return Ok(scan);
        }
        scan.take(found, apply)?;
    }
    scan.torn = 0;
    if scan.end < scan.promised {
        scan.damage.push(Damage { start: scan.end, end: scan.promised, next: None });
        scan.end = scan.promised.min(size);
    }
    Ok(scan)
}

/// Bytes of a record of this log that does not check, where the next one should stand.
fn torn(records: &mut Records<'_>, size: u64) -> Result<u64, Error> {
    let (at, last) = (records.at(), records.last);
    let Some(header) = records.window.get(at.offset, HEADER_BYTES)? else {
        let rest = usize::try_from(size.saturating_sub(at.offset)).unwrap_or(0);
        let rest = records.window.get(at.offset, rest)?.unwrap_or_default();
        return Ok(if rest.iter().all(|byte| *byte == 0) { 0 } else { rest.len() as u64 });
    };
    let whole = record::torn_bytes(header, at, last).unwrap_or(0);
    Ok(whole.min(size - at.offset))
}

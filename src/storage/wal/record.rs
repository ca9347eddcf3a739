//! One log record: a 48-byte header and the payload, padded to 8 bytes (`docs/format/wal.md`).
//!
//! The payload's hash is computed by the writer of the batch, outside any lock, and stands in the
//! header; the header's checksum covers it, the other fields and the record's own place. So the log
//! thread touches each payload only to copy it, and a reader that looks for the next record after
//! damage hashes one header at each place, never the payload of a header that does not check.

use xxhash_rust::xxh3::xxh3_64;

use crate::storage::batch::{HEAD_BYTES, RECORD_ALIGN, SealedBatch, Seqno};
use crate::storage::coding::{Reader, checksum_holds, length_u32, placed_checksum};
use crate::storage::files::FileNo;
use crate::storage::options::BATCH_BYTES_MAX;

pub(crate) const HEADER_BYTES: usize = HEAD_BYTES;
pub(super) const ALIGN: usize = RECORD_ALIGN;
/// Version of the record format, in every header.
pub(super) const FORMAT: u8 = 1;
/// Longest payload a reader believes in.
const PAYLOAD_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// Where a header names its log.
pub(super) const LOG_AT: usize = 12;

/// What a record is. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Batch,
    /// Promises a sync, see [`super::LogWriter::mark`].
    Mark,
    /// Begins a segment that is in use.
    Opening,
}

impl What {
    fn byte(self) -> u8 {
        match self {
            Self::Batch => 0,
            Self::Mark => 1,
            Self::Opening => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Batch, Self::Mark, Self::Opening].into_iter().find(|what| what.byte() == byte)
    }
}

/// What the first record of a segment says of the one before: where it ends. What is missing of it
/// then can be told from what never was, though nobody has synced it yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Opening {
    /// 0 if there is none.
    pub(crate) log: FileNo,
    pub(crate) bytes: u64,
    pub(crate) last: Seqno,
}

const OPENING_BYTES: usize = 20;

impl Opening {
    fn encode(self) -> [u8; OPENING_BYTES] {
        let mut payload = [0; OPENING_BYTES];
        payload[..4].copy_from_slice(&self.log.to_le_bytes());
        payload[4..12].copy_from_slice(&self.bytes.to_le_bytes());
        payload[12..].copy_from_slice(&self.last.0.to_le_bytes());
        payload
    }

    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let (log, bytes) = (reader.u32()?, reader.u64()?);
        let last = Seqno(reader.u64()?);
        reader.is_empty().then_some(Self { log, bytes, last })
    }
}

/// Where a record stands and what it promises.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) log: FileNo,
    pub(super) offset: u64,
    pub(super) synced_upto: u64,
}

pub(super) fn padded(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(ALIGN)
}

/// The fields of a header that say what the record is.
struct Fields {
    length: usize,
    seqno: Seqno,
    count: u32,
    what: What,
    hash: u64,
}

fn header_of(fields: &Fields, place: Place) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[8..12].copy_from_slice(&length_u32(fields.length).to_le_bytes());
    header[LOG_AT..16].copy_from_slice(&place.log.to_le_bytes());
    header[16..24].copy_from_slice(&place.synced_upto.to_le_bytes());
    header[24..32].copy_from_slice(&fields.seqno.0.to_le_bytes());
    header[32..36].copy_from_slice(&fields.count.to_le_bytes());
    header[36] = FORMAT;
    header[37] = fields.what.byte();
    header[40..48].copy_from_slice(&fields.hash.to_le_bytes());
    let sum = placed_checksum(&header[8..], u64::from(place.log), place.offset);
    header[..8].copy_from_slice(&sum.to_le_bytes());
    header
}

/// The header of a batch's record.
pub(super) fn header(batch: &SealedBatch, seqno: Seqno, place: Place) -> [u8; HEADER_BYTES] {
    let (length, count, hash) = (batch.payload().len(), batch.count, batch.hash);
    header_of(&Fields { length, seqno, count, what: What::Batch, hash }, place)
}

/// Adds the record of a batch.
pub(super) fn encode(out: &mut Vec<u8>, batch: &SealedBatch, seqno: Seqno, place: Place) {
    let end = out.len() + batch.record_bytes();
    out.extend_from_slice(&header(batch, seqno, place));
    out.extend_from_slice(batch.payload());
    out.resize(end, 0);
}

/// The record of a mark: a header alone.
pub(super) fn mark(last: Seqno, place: Place) -> [u8; HEADER_BYTES] {
    let (what, hash) = (What::Mark, xxh3_64(&[]));
    header_of(&Fields { length: 0, seqno: last, count: 0, what, hash }, place)
}

/// Adds the record that begins a segment.
pub(super) fn open(out: &mut Vec<u8>, opening: Opening, log: FileNo) {
    let payload = opening.encode();
    let (what, hash) = (What::Opening, xxh3_64(&payload));
    let fields = Fields { length: payload.len(), seqno: opening.last, count: 0, what, hash };
    let place = Place { log, offset: 0, synced_upto: 0 };
    out.extend_from_slice(&header_of(&fields, place));
    out.extend_from_slice(&payload);
    out.resize(padded(OPENING_BYTES), 0);
}

/// Bytes of the record that begins a segment.
pub(super) fn opening_bytes() -> u64 {
    padded(OPENING_BYTES) as u64
}

/// A header that checks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) synced_upto: u64,
    pub(super) seqno: Seqno,
    pub(super) format: u8,
    count: u32,
    what: u8,
    hash: u64,
}

impl Header {
    /// Bytes of the whole record.
    pub(super) fn bytes(&self) -> usize {
        padded(self.length)
    }

    /// What the record is; none of a later format, or if nothing of this one.
    pub(super) fn what(&self) -> Option<What> {
        What::from_byte(self.what).filter(|_| self.format == FORMAT)
    }

    /// Whether this is its payload.
    pub(super) fn holds(&self, payload: &[u8]) -> bool {
        xxh3_64(payload) == self.hash || crate::mutant!("storage-checksums-unchecked")
    }

    pub(super) fn batch(&self, payload: &[u8]) -> Option<SealedBatch> {
        SealedBatch::decode(payload, self.hash, self.count)
    }
}

/// Reads the header at `offset` of a log; `None` if there is none that can be believed.
pub(super) fn parse(log: FileNo, header: &[u8], offset: u64) -> Option<Header> {
    let mut reader = Reader::new(header);
    let sum = reader.u64()?;
    let fields = header.get(8..HEADER_BYTES)?;
    let length = usize::try_from(reader.u32()?).ok()?;
    // The cheap refusals come first: a resync asks this at every eighth byte.
    if reader.u32()? != log && !crate::mutant!("storage-replays-recycled-log") {
        return None;
    }
    let place = match crate::mutant!("storage-replays-recycled-log") {
        true => u32::from_le_bytes(*header.get(LOG_AT..)?.first_chunk()?),
        false => log,
    };
    if length > PAYLOAD_BYTES_MAX || !checksum_holds(fields, u64::from(place), offset, sum) {
        return None;
    }
    let synced_upto = reader.u64()?;
    let seqno = Seqno(reader.u64()?);
    let count = reader.u32()?;
    let (format, what) = (reader.u8()?, reader.u8()?);
    reader.bytes(2)?;
    let hash = reader.u64()?;
    let header = Header { length, synced_upto, seqno, format, count, what, hash };
    (synced_upto <= offset).then_some(header)
}

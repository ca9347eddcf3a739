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

/// The fields of a header that are not derived from the payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) log: FileNo,
    pub(super) offset: u64,
    pub(super) synced_upto: u64,
}

pub(super) fn padded(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(ALIGN)
}

/// The header of a batch's record.
pub(super) fn header(batch: &SealedBatch, seqno: Seqno, place: Place) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[8..12].copy_from_slice(&length_u32(batch.payload().len()).to_le_bytes());
    header[12..16].copy_from_slice(&place.log.to_le_bytes());
    header[16..24].copy_from_slice(&place.synced_upto.to_le_bytes());
    header[24..32].copy_from_slice(&seqno.0.to_le_bytes());
    header[32..36].copy_from_slice(&batch.count.to_le_bytes());
    header[36] = FORMAT;
    header[40..48].copy_from_slice(&batch.hash.to_le_bytes());
    let sum = placed_checksum(&header[8..], u64::from(place.log), place.offset);
    header[..8].copy_from_slice(&sum.to_le_bytes());
    header
}

pub(super) fn encode(out: &mut Vec<u8>, batch: &SealedBatch, seqno: Seqno, place: Place) {
    let end = out.len() + batch.record_bytes();
    out.extend_from_slice(&header(batch, seqno, place));
    out.extend_from_slice(batch.payload());
    out.resize(end, 0);
}

#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) bytes: usize,
    pub(super) synced_upto: u64,
    pub(super) seqno: Seqno,
    pub(super) format: u8,
    /// `None` when the format is not ours and the payload cannot be judged.
    pub(super) batch: Option<SealedBatch>,
}

/// Reads the record at `offset` of a log; `None` if there is none that can be believed.
pub(super) fn parse(log: FileNo, content: &[u8], offset: usize) -> Option<Parsed> {
    let rest = content.get(offset..)?;
    let mut reader = Reader::new(rest);
    let sum = reader.u64()?;
    let fields = rest.get(8..HEADER_BYTES)?;
    let length = usize::try_from(reader.u32()?).ok()?;
    // The cheap refusals come first: a resync asks this at every eighth byte.
    if reader.u32()? != log || length > PAYLOAD_BYTES_MAX {
        return None;
    }
    if !checksum_holds(fields, u64::from(log), offset as u64, sum) {
        return None;
    }
    let synced_upto = reader.u64()?;
    let seqno = Seqno(reader.u64()?);
    let count = reader.u32()?;
    let format = reader.u8()?;
    reader.bytes(3)?;
    let hash = reader.u64()?;
    let payload = rest.get(HEADER_BYTES..)?.get(..length)?;
    let is_whole = xxh3_64(payload) == hash || crate::mutant!("storage-checksums-unchecked");
    if synced_upto > offset as u64 || !is_whole {
        return None;
    }
    let batch = match format {
        FORMAT => Some(SealedBatch::decode(payload, hash, count)?),
        _ => None,
    };
    Some(Parsed { bytes: padded(length), synced_upto, seqno, format, batch })
}

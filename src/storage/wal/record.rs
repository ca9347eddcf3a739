//! One log record: a 20-byte header and the payload, padded to 4 bytes (`docs/format/wal.md`).
//!
//! The payload's hash is computed by the writer of the batch, outside any lock; half of it stands in
//! the header, mixed with the record's place, and the header's checksum covers it, the other fields
//! and the place. So the log thread touches each payload only to copy it, and a reader that looks
//! for the next record after damage hashes one header at each place, never the payload of a header
//! that does not check. A small batch feels each byte of a header, so it holds what cannot be told
//! otherwise: neither the number of the log, which the place has, nor that of the entries.

use xxhash_rust::xxh3::xxh3_64;

use crate::storage::batch::{HEAD_BYTES, RECORD_ALIGN, SealedBatch, Seqno};
use crate::storage::coding::{Reader, checksum_half_holds, length_u32, place, placed_checksum};
use crate::storage::files::FileNo;
use crate::storage::options::BATCH_BYTES_MAX;

pub(crate) const HEADER_BYTES: usize = HEAD_BYTES;
pub(super) const ALIGN: usize = RECORD_ALIGN;
/// Version of the record format, in every header.
pub(super) const FORMAT: u8 = 2;
/// What the four bits of a format are above it: no zeros and no text look like a header.
const FORMAT_BASE: u8 = 8;
/// Longest payload a reader believes in.
const PAYLOAD_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// Bits of a payload's length, below those of what the record is and of the format.
const LENGTH_BITS: u32 = 26;
const FORMAT_BITS: u32 = 4;
/// Bits of the distance to what a record promises, and the distance that stands for no promise.
const PROMISE_BITS: u32 = 24;
const NO_PROMISE: u64 = (1 << PROMISE_BITS) - 1;
/// How many batch numbers a header tells apart.
const NUMBERS: u64 = 1 << 40;
/// Where the byte with format and what stands.
const KIND_AT: usize = 7;
/// Bytes of a header of the first format.
pub(super) const FIRST_FORMAT_BYTES: usize = 48;

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
    what: What,
    hash: u64,
}

/// What seeds the checksums of a record.
fn log_of(log: FileNo) -> u64 {
    if crate::mutant!("storage-replays-recycled-log") { 0 } else { u64::from(log) }
}

fn low(number: u64) -> u32 {
    let [one, two, three, four, ..] = number.to_le_bytes();
    u32::from_le_bytes([one, two, three, four])
}

/// What stands in a header for the hash of its payload: with the place in it, so that a record of
/// another log is found out by more than the header's checksum.
fn payload_check(hash: u64, log: FileNo, offset: u64) -> u32 {
    low(hash ^ place(log_of(log), offset))
}

fn header_of(fields: &Fields, at: Place) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let kind = (FORMAT_BASE + FORMAT) << 2 | fields.what.byte();
    let word = length_u32(fields.length) | u32::from(kind) << LENGTH_BITS;
    let distance = at.offset.saturating_sub(at.synced_upto) / ALIGN as u64;
    let numbers = distance.min(NO_PROMISE) | (fields.seqno.0 % NUMBERS) << PROMISE_BITS;
    header[4..8].copy_from_slice(&word.to_le_bytes());
    header[8..16].copy_from_slice(&numbers.to_le_bytes());
    header[16..].copy_from_slice(&payload_check(fields.hash, at.log, at.offset).to_le_bytes());
    let sum = placed_checksum(&header[4..], log_of(at.log), at.offset);
    header[..4].copy_from_slice(&low(sum).to_le_bytes());
    header
}

/// The header of a batch's record.
pub(super) fn header(batch: &SealedBatch, seqno: Seqno, place: Place) -> [u8; HEADER_BYTES] {
    let (length, hash) = (batch.payload().len(), batch.hash);
    header_of(&Fields { length, seqno, what: What::Batch, hash }, place)
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
    header_of(&Fields { length: 0, seqno: last, what, hash }, place)
}

/// Adds the record that begins a segment.
pub(super) fn open(out: &mut Vec<u8>, opening: Opening, log: FileNo) {
    let payload = opening.encode();
    let (what, hash) = (What::Opening, xxh3_64(&payload));
    let fields = Fields { length: payload.len(), seqno: opening.last, what, hash };
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
    what: u8,
    /// See [`payload_check`]; and what the place has in it.
    check: u32,
    salt: u64,
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
        low(xxh3_64(payload) ^ self.salt) == self.check
            || crate::mutant!("storage-checksums-unchecked")
    }

    pub(super) fn batch(payload: &[u8]) -> Option<SealedBatch> {
        SealedBatch::decode(payload, xxh3_64(payload))
    }
}

/// Where in a log a header is read, and a batch number that is not far from its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) log: FileNo,
    pub(super) offset: u64,
    pub(super) near: Seqno,
}

/// The number nearest to `near` of those that end like `low`.
fn widened(low: u64, near: Seqno) -> Seqno {
    let same = near.0 - near.0 % NUMBERS + low;
    let other = match same > near.0 {
        true => same.checked_sub(NUMBERS),
        false => same.checked_add(NUMBERS),
    };
    let nearer = other.filter(|other| other.abs_diff(near.0) < same.abs_diff(near.0));
    Seqno(nearer.unwrap_or(same))
}

/// Whether a header may begin with these bytes: the dear questions are only asked if so.
pub(super) fn may_begin(header: &[u8]) -> bool {
    header.get(KIND_AT).is_some_and(|byte| byte >> (8 - FORMAT_BITS) >= FORMAT_BASE)
}

/// The fields of a header, checked or not.
fn fields(header: &[u8], at: At) -> Option<Header> {
    let mut reader = Reader::new(header.get(4..HEADER_BYTES)?);
    let (word, numbers, check) = (reader.u32()?, reader.u64()?, reader.u32()?);
    let length = usize::try_from(word & ((1 << LENGTH_BITS) - 1)).ok()?;
    let (what, format) = (word >> LENGTH_BITS & 3, word >> (32 - FORMAT_BITS));
    let format = u8::try_from(format).ok()?.checked_sub(FORMAT_BASE)?;
    let distance = numbers & NO_PROMISE;
    let synced_upto = match distance {
        NO_PROMISE => 0,
        distance => at.offset.checked_sub(distance * ALIGN as u64)?,
    };
    let seqno = widened(numbers >> PROMISE_BITS, at.near);
    let (what, salt) = (u8::try_from(what).ok()?, 0);
    let is_possible = length <= PAYLOAD_BYTES_MAX;
    is_possible.then_some(Header { length, synced_upto, seqno, format, what, check, salt })
}

/// Reads a header; `None` if there is none that can be believed.
pub(super) fn parse(header: &[u8], at: At) -> Option<Header> {
    // The cheap refusals come first: a resync asks this at every fourth byte.
    let mut found = fields(header, at)?;
    let sum = u32::from_le_bytes(*header.first_chunk()?);
    let body = header.get(4..HEADER_BYTES)?;
    if !checksum_half_holds(body, log_of(at.log), at.offset, sum) {
        return None;
    }
    found.salt = place(log_of(at.log), at.offset);
    Some(found)
}

/// Bytes of the record here, if it can only be one of this log that was written behind batch `last`
/// and is not whole: what another log has left in a file has lower numbers.
pub(super) fn torn_bytes(header: &[u8], at: At, last: Seqno) -> Option<u64> {
    let found = fields(header, at)?;
    let is_ours = match found.what()? {
        What::Batch => found.seqno > last,
        What::Mark | What::Opening => found.seqno >= last,
    };
    is_ours.then_some((HEADER_BYTES + found.length) as u64)
}

/// Whether this is a header of the first format, at the beginning of a log.
pub(super) fn is_of_first_format(log: FileNo, header: &[u8]) -> bool {
    let mut reader = Reader::new(header);
    let (sum, fields) = (reader.u64(), header.get(8..FIRST_FORMAT_BYTES));
    let checks = |(sum, fields)| placed_checksum(fields, u64::from(log), 0) == sum;
    header.get(36) == Some(&1) && sum.zip(fields).is_some_and(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_at_its_place_only() {
        let place = Place { log: 7, offset: 4_096, synced_upto: 4_000 };
        let seqno = Seqno(3 * NUMBERS + 5);
        let header = mark(seqno, place);
        for near in [3 * NUMBERS, 3 * NUMBERS + NUMBERS / 3, 3 * NUMBERS - NUMBERS / 3] {
            let at = At { log: 7, offset: 4_096, near: Seqno(near) };
            let found = parse(&header, at).unwrap();
            assert_eq!((found.seqno, found.synced_upto, found.length), (seqno, 4_000, 0));
            assert_eq!((found.what(), found.holds(&[])), (Some(What::Mark), true));
            assert!(parse(&header, At { log: 8, ..at }).is_none());
            assert!(parse(&header, At { offset: 4_100, ..at }).is_none());
        }
        let near = Seqno(0);
        for byte in 0..HEADER_BYTES * 8 {
            let mut flipped = header;
            flipped[byte / 8] ^= 1 << (byte % 8);
            assert!(parse(&flipped, At { log: 7, offset: 4_096, near }).is_none(), "bit {byte}");
        }
    }

    #[test]
    fn what_is_too_far_away_is_not_promised() {
        let reach = NO_PROMISE * ALIGN as u64;
        for (distance, promised) in [(0, true), (reach - 4, true), (reach, false)] {
            let (offset, synced_upto) = (1 << 27, (1 << 27) - distance);
            let header = mark(Seqno(1), Place { log: 1, offset, synced_upto });
            let found = parse(&header, At { log: 1, offset, near: Seqno(0) }).unwrap();
            assert_eq!(found.synced_upto, if promised { synced_upto } else { 0 });
        }
    }

    #[test]
    fn a_number_is_the_nearest_that_ends_so() {
        for (low, near, expected) in [
            (5, 0, 5),
            (NUMBERS - 1, 3, NUMBERS - 1),
            (NUMBERS - 1, NUMBERS + 3, NUMBERS - 1),
            (2, NUMBERS - 3, NUMBERS + 2),
            (NUMBERS - 2, u64::MAX, u64::MAX - 1),
            (1, u64::MAX, u64::MAX - NUMBERS + 2),
        ] {
            assert_eq!(widened(low, Seqno(near)), Seqno(expected), "{low} near {near}");
        }
    }
}

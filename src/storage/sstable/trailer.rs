//! The end of every block: how it is compressed, and a checksum that holds its place.
//!
//! Decides when compression is worth it and what is done with bytes that do not check. Every block
//! of a table has it, filter and index too. Nothing is decompressed before its checksum holds.

use bytes::Bytes;

use crate::storage::coding::{Reader, checksum_holds, placed_checksum, put_length};
use crate::storage::options::Compression;

/// Compression byte and checksum.
pub(super) const TRAILER_BYTES: usize = 9;
const CHECKSUM_BYTES: usize = 8;
/// No block is longer than this, decompressed: one entry of the greatest key and value fits.
pub(super) const BLOCK_BYTES_MAX: usize = 8 << 20;
/// A block that compression makes less than this many hundredths shorter is stored as it is: reading
/// it would cost more than its place.
const SAVED_PERCENT_MIN: usize = 12;

impl Compression {
    /// Its number in a block or a record, on disk.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            #[cfg(feature = "zstd")]
            Self::Zstd => 2,
        }
    }
}

/// Adds the trailer to what is stored in this way; the block will stand at `offset` of the file with
/// this `salt`.
pub(super) fn seal(mut stored: Vec<u8>, used: Compression, salt: u64, offset: u64) -> Vec<u8> {
    stored.push(used.byte());
    let unsalted = used != Compression::None && crate::mutant!("storage-compressed-unsalted");
    let offset = if unsalted { 0 } else { offset };
    let sum = placed_checksum(&stored, salt, offset);
    stored.extend_from_slice(&sum.to_le_bytes());
    stored
}

/// So many blocks in a row that compression does not make shorter are taken to mean that it will not.
const MISSES_MAX: u32 = 4;
/// Then one in so many is tried.
const TRIED_EVERY: u32 = 8;

/// Whether compression is worth trying, by what has come of it: to compress what cannot be costs as much as all
/// else that is done for a block.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Blocks in a row that it did not make shorter.
    misses: u32,
    /// Blocks that it was not tried for since the last try.
    passed: u32,
}

impl Tries {
    /// Whether to try it for the next block.
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.misses < MISSES_MAX || self.passed + 1 >= TRIED_EVERY;
        self.passed = if is_due { 0 } else { self.passed + 1 };
        is_due
    }

    /// What has come of a try.
    pub(super) fn note(&mut self, pays: bool) {
        self.misses = if pays { 0 } else { self.misses.saturating_add(1) };
    }
}

/// The length and the compressed bytes, if they are enough shorter.
pub(crate) fn compressed(body: &[u8], compression: Compression) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    put_length(&mut out, body.len());
    let head = out.len();
    match compression {
        Compression::None => return None,
        Compression::Lz4 => {
            out.resize(head + lz4_flex::block::get_maximum_output_size(body.len()), 0);
            let room = out.get_mut(head..)?;
            let length = lz4_flex::block::compress_into(body, room).ok()?;
            out.truncate(head + length);
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            out.extend_from_slice(&zstd::bulk::compress(body, ZSTD_LEVEL).ok()?);
        }
    }
    (out.len() * 100 <= body.len() * (100 - SAVED_PERCENT_MIN)).then_some(out)
}

/// Fast, and already much denser than lz4.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 1;

/// Checks the trailer, takes it off and decompresses what was before it; says what is wrong
/// otherwise.
pub(super) fn unseal(stored: Bytes, salt: u64, offset: u64) -> Result<Bytes, &'static str> {
    let split = stored.len().checked_sub(CHECKSUM_BYTES).ok_or("block is cut short")?;
    let (sealed, sum) = stored.split_at_checked(split).ok_or("block is cut short")?;
    let sum = Reader::new(sum).u64().ok_or("block is cut short")?;
    let (&compression, body) = sealed.split_last().ok_or("block is cut short")?;
    let unsalted = compression != 0 && crate::mutant!("storage-compressed-unsalted");
    let place = if unsalted { 0 } else { offset };
    if !crate::mutant!("storage-no-block-checksum") && !checksum_holds(sealed, salt, place, sum) {
        return Err("block checksum does not match");
    }
    decompress(compression, stored.slice_ref(body))
}

/// What was compressed by the way of this number; says what is wrong otherwise.
pub(crate) fn decompress(compression: u8, body: Bytes) -> Result<Bytes, &'static str> {
    match compression {
        0 => Ok(body),
        1 => decompressed(&body, |from, to| lz4_flex::block::decompress_into(from, to).ok()),
        #[cfg(feature = "zstd")]
        2 => decompressed(&body, |from, to| zstd::bulk::decompress_to_buffer(from, to).ok()),
        #[cfg(not(feature = "zstd"))]
        2 => Err("block is compressed with zstd, which this build does not read"),
        _ => Err("block has an unknown compression"),
    }
}

fn decompressed(
    body: &[u8],
    decompress: impl FnOnce(&[u8], &mut [u8]) -> Option<usize>,
) -> Result<Bytes, &'static str> {
    let bad = "block cannot be decompressed";
    let mut reader = Reader::new(body);
    let length = reader.length().filter(|length| *length <= BLOCK_BYTES_MAX).ok_or(bad)?;
    let mut out = vec![0; length];
    let rest = reader.bytes(reader.remaining()).ok_or(bad)?;
    match decompress(rest, &mut out) {
        Some(written) if written == length => Ok(Bytes::from(out)),
        _ => Err(bad),
    }
}

/// The checksum in a block's trailer, to be summed up for the whole table.
pub(super) fn checksum_of(stored: &[u8]) -> u64 {
    let split = stored.len().saturating_sub(CHECKSUM_BYTES);
    let sum = stored.get(split..).and_then(|sum| Reader::new(sum).u64());
    sum.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compressed if that pays, with the trailer.
    fn packed(body: Vec<u8>, way: Compression, salt: u64, offset: u64) -> Vec<u8> {
        match compressed(&body, way) {
            Some(shorter) => seal(shorter, way, salt, offset),
            None => seal(body, Compression::None, salt, offset),
        }
    }

    #[test]
    fn what_does_not_compress_is_tried_now_and_then_and_what_does_always() {
        let tried = |tries: &mut Tries, pays: bool, blocks: usize| {
            let try_one = |_: &usize| {
                let is_due = tries.is_due();
                if is_due {
                    tries.note(pays);
                }
                is_due
            };
            (0..blocks).filter(try_one).count()
        };
        let mut tries = Tries::default();
        assert_eq!(tried(&mut tries, true, 100), 100);
        assert_eq!(tried(&mut tries, false, 4 + 80), 4 + 10);
        // From the first that pays on all are tried again.
        assert_eq!(tried(&mut tries, true, 7 + 20), 20);
    }

    fn ways() -> Vec<Compression> {
        vec![
            Compression::None,
            Compression::Lz4,
            #[cfg(feature = "zstd")]
            Compression::Zstd,
        ]
    }

    #[test]
    fn a_block_reads_back_and_one_at_another_place_is_refused() {
        for way in ways() {
            let body = b"again and again and again and again and again and again".to_vec();
            let sealed = Bytes::from(packed(body.clone(), way, 3, 100));
            assert_eq!(sealed.len() < body.len(), way != Compression::None);
            assert_eq!(unseal(sealed.clone(), 3, 100).as_deref(), Ok(body.as_slice()));
            assert!(unseal(sealed.clone(), 4, 100).is_err());
            assert!(unseal(sealed.clone(), 3, 101).is_err());
            for cut in 0..sealed.len() {
                assert!(unseal(sealed.slice(..cut), 3, 100).is_err());
            }
        }
    }

    #[test]
    fn compression_that_saves_little_is_left() {
        let mut rng = fastrand::Rng::with_seed(1);
        // A tenth of the block repeats, the rest does not.
        let mut body: Vec<u8> = (0..3_600).map(|_| rng.u8(..)).collect();
        body.extend(vec![7; 400]);
        let sealed = packed(body.clone(), Compression::Lz4, 1, 0);
        assert_eq!(sealed.len(), body.len() + TRAILER_BYTES);
        body.extend(vec![7; 400]);
        assert!(packed(body.clone(), Compression::Lz4, 1, 0).len() < body.len() * 88 / 100);
    }

    #[test]
    fn a_block_that_claims_to_be_huge_takes_no_memory() {
        let mut stored = Vec::new();
        put_length(&mut stored, usize::MAX >> 1);
        stored.push(1);
        let sum = placed_checksum(&stored, 1, 0);
        stored.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(unseal(Bytes::from(stored), 1, 0), Err("block cannot be decompressed"));
    }

    #[test]
    fn a_compressed_block_moved_inside_its_file_is_refused() {
        let _armed = crate::testing::arm_mutant("storage-compressed-unsalted");
        let sealed = Bytes::from(packed(vec![7; 400], Compression::Lz4, 3, 100));
        assert!(unseal(sealed, 3, 200).is_ok(), "the planted bug believes it");
    }
}

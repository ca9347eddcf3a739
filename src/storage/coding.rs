//! Reading and writing integers and byte strings of the engine's own formats.
//!
//! A [`Reader`] over damaged bytes says `None`; it never panics and never reads past its end.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// An unsigned LEB128 number of at most 64 bits, in its shortest or any longer form.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    /// A byte string behind its length.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.bytes(length)
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) {
    put_varint(out, length as u64);
}

pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// The length of something that a limit keeps below 4 GiB.
pub(crate) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("limits keep lengths below 4 GiB")
}

/// A checksum that also holds the place of the bytes: the same bytes in another file, or at another
/// offset, do not pass.
pub(crate) fn placed_checksum(bytes: &[u8], file: u64, offset: u64) -> u64 {
    xxh3_64_with_seed(bytes, place(file, offset))
}

/// Whether bytes at a place have the checksum that was written with them. Fuzzers arm
/// `storage-checksums-unchecked`, to reach what a checksum would keep from them.
pub(crate) fn checksum_holds(bytes: &[u8], file: u64, offset: u64, sum: u64) -> bool {
    placed_checksum(bytes, file, offset) == sum || crate::mutant!("storage-checksums-unchecked")
}

/// The same for a checksum of which only the low half was written.
pub(crate) fn checksum_half_holds(bytes: &[u8], file: u64, offset: u64, half: u32) -> bool {
    placed_checksum(bytes, file, offset) & u64::from(u32::MAX) == u64::from(half)
        || crate::mutant!("storage-checksums-unchecked")
}

/// The seed of a place. Hashed, so that no two (file, offset) pairs share one by arithmetic.
pub(crate) fn place(file: u64, offset: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&file.to_le_bytes());
    bytes[8..].copy_from_slice(&offset.to_le_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_overlong_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Reader::new(&out).varint(), Some(value));
            assert_eq!(Reader::new(&out[..out.len() - 1]).varint(), None);
        }
        assert_eq!(Reader::new(&[0xff; 11]).varint(), None);
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint(),
            None
        );
    }

    #[test]
    fn the_same_bytes_at_another_place_have_another_checksum() {
        let sum = placed_checksum(b"block", 7, 4096);
        assert_ne!(sum, placed_checksum(b"block", 7, 8192));
        assert_ne!(sum, placed_checksum(b"block", 8, 4096));
    }
}

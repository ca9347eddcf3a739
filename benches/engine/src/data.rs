//! Keys and values: 16 decimal digits, and bytes of which lz4 can save half.

use serde::{Deserialize, Serialize};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// The size of a store and of its values.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
pub(crate) enum Size {
    /// 2 million values of 100 bytes.
    #[value(name = "100")]
    Small,
    /// 300 thousand values of 1 KiB.
    #[value(name = "1k")]
    Large,
    /// 20 thousand values of 16 KiB, which each engine keeps apart from its tables.
    #[value(name = "16k")]
    Apart,
}

impl Size {
    pub(crate) const ALL: [Self; 3] = [Self::Small, Self::Large, Self::Apart];

    pub(crate) fn value_bytes(self) -> usize {
        match self {
            Self::Small => 100,
            Self::Large => 1024,
            Self::Apart => 16 << 10,
        }
    }

    pub(crate) fn pair_bytes(self) -> u64 {
        (KEY_BYTES + self.value_bytes()) as u64
    }

    pub(crate) fn entries(self) -> u64 {
        match self {
            Self::Small => 2_000_000,
            Self::Large => 300_000,
            Self::Apart => 20_000,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "100 B",
            Self::Large => "1 KiB",
            Self::Apart => "16 KiB",
        }
    }

    /// As it stands on the command line.
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::Small => "100",
            Self::Large => "1k",
            Self::Apart => "16k",
        }
    }
}

/// How the blocks of tables are compressed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
pub(crate) enum Codec {
    None,
    Lz4,
}

impl Codec {
    pub(crate) const ALL: [Self; 2] = [Self::None, Self::Lz4];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
        }
    }
}

/// The key of number `n`.
pub(crate) fn key(mut n: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'0'; KEY_BYTES];
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
    key
}

/// A key between that of `n` and the next, which no workload writes.
pub(crate) fn missing_key(n: u64) -> [u8; KEY_BYTES + 1] {
    let mut missing = [b'.'; KEY_BYTES + 1];
    for (to, from) in missing.iter_mut().zip(key(n)) {
        *to = from;
    }
    missing
}

/// All numbers below a bound, each once, in an order that looks random: no list, so no memory of
/// the load generator in what an engine is charged for.
#[derive(Debug, Clone)]
pub(crate) struct Permutation {
    bound: u64,
    bits: u32,
    seed: u64,
    next: u64,
}

impl Permutation {
    pub(crate) fn new(bound: u64, seed: u64) -> Self {
        let bits = (u64::BITS - bound.saturating_sub(1).leading_zeros()).max(2);
        Self { bound, bits: bits + bits % 2, seed, next: 0 }
    }

    /// Four rounds of a Feistel network over an even number of bits.
    fn mix(&self, n: u64) -> u64 {
        let half = self.bits / 2;
        let mask = (1 << half) - 1;
        let (mut left, mut right) = (n >> half, n & mask);
        for round in 1..5u64 {
            let word = (right ^ self.seed.rotate_left(7)).wrapping_add(round);
            let hash = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29;
            (left, right) = (right, left ^ (hash & mask));
        }
        left << half | right
    }
}

impl Iterator for Permutation {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.next == self.bound {
            return None;
        }
        let mut mixed = self.mix(self.next);
        self.next += 1;
        while mixed >= self.bound {
            mixed = self.mix(mixed);
        }
        Some(mixed)
    }
}

/// Values cut from one buffer, as db_bench makes them: pieces of 100 bytes, each half noise and half
/// the same again.
#[derive(Debug)]
pub(crate) struct Values {
    buffer: Vec<u8>,
    length: usize,
    at: usize,
}

impl Values {
    pub(crate) fn new(size: Size, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut buffer = Vec::with_capacity(1 << 20);
        while buffer.len() < 1 << 20 {
            let noise: [u8; 50] = core::array::from_fn(|_| rng.u8(b' '..=b'~'));
            buffer.extend_from_slice(&noise);
            buffer.extend_from_slice(&noise);
        }
        Self { buffer, length: size.value_bytes(), at: 0 }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        if self.at + self.length > self.buffer.len() {
            self.at = 0;
        }
        let value = self.buffer.get(self.at..self.at + self.length).unwrap_or_default();
        self.at += self.length;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::{Permutation, Size, Values, key, missing_key};

    #[test]
    fn a_permutation_names_every_number_once() {
        for bound in [1, 2, 3, 1000, 4096] {
            let mut seen: Vec<u64> = Permutation::new(bound, 7).collect();
            assert!(bound < 1000 || !seen.is_sorted(), "{bound} come in order");
            seen.sort_unstable();
            assert_eq!(seen, (0..bound).collect::<Vec<_>>());
        }
    }

    #[test]
    fn keys_are_ordered_as_their_numbers_and_missing_ones_lie_between() {
        assert_eq!(&key(1_234), b"0000000000001234");
        assert!(key(99) < key(100));
        assert!(key(7).as_slice() < missing_key(7).as_slice());
        assert!(missing_key(7).as_slice() < key(8).as_slice());
    }

    #[test]
    fn values_have_their_length() {
        for size in Size::ALL {
            let mut values = Values::new(size, 1);
            assert!((0..30_000).all(|_| values.next().len() == size.value_bytes()));
        }
    }
}

//! Bloom filter of a table: may it hold a key at all?
//!
//! Decides the bits. A filter says "no" for certain or "perhaps"; a wrong "no" would make a key
//! vanish, so its bytes are checked like a block's and damage is an error. It is a blocked filter
//! (Putze, Sanders and Singler, 2007): all bits of a key lie in one line of 64 bytes, so a question
//! costs one cache miss. Ten bits a key are 0.9 % wrong "perhaps" in theory. The bits come from one
//! 64-bit hash, which a reader computes once and puts to every table.

use xxhash_rust::xxh3::xxh3_64;

const LINE_BYTES: usize = 64;
/// Bits of a place inside a line: a line has 512.
const PLACE_BITS: u32 = 9;
const BITS_PER_KEY: usize = 10;
/// Bits set for a key: the best number for ten bits a key, less one as lines are unevenly full.
const PROBES: u8 = 6;
/// More than this do not fit into the hash that they are cut from.
const PROBES_MAX: u8 = 7;

/// The hash that filters are asked with.
pub(crate) fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// One line, where the processor's cache has one.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u8; LINE_BYTES]);

/// The filter of one table. Immutable.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    probes: u8,
    lines: Vec<Line>,
}

/// The places of a key inside its line, as byte and mask.
fn places(hash: u64, probes: u8) -> impl Iterator<Item = (usize, u8)> {
    // The line is chosen by the high bits; mixing makes the places independent of it.
    let mixed = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut rest = mixed ^ (mixed >> 32);
    (0..probes).map(move |_| {
        let bit = rest & ((1 << PLACE_BITS) - 1);
        rest >>= PLACE_BITS;
        (usize::try_from(bit >> 3).unwrap_or_default(), 1u8 << (bit & 7))
    })
}

impl Filter {
    /// The filter of the keys with these hashes.
    pub(super) fn build(hashes: &[u64]) -> Self {
        let lines = (hashes.len() * BITS_PER_KEY).div_ceil(LINE_BYTES * 8).max(1);
        let mut filter = Self { probes: PROBES, lines: vec![Line([0; LINE_BYTES]); lines] };
        for hash in hashes {
            let line = filter.line_of(*hash);
            let Some(line) = filter.lines.get_mut(line) else { continue };
            for (byte, mask) in places(*hash, PROBES) {
                if let Some(byte) = line.0.get_mut(byte) {
                    *byte |= mask;
                }
            }
        }
        filter
    }

    /// Maps a hash to a line without a division (Lemire, 2016).
    fn line_of(&self, hash: u64) -> usize {
        let line = (u128::from(hash) * self.lines.len() as u128) >> 64;
        usize::try_from(line).unwrap_or_default()
    }

    /// False only if no key with this hash is in the table.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let Some(line) = self.lines.get(self.line_of(hash)) else { return true };
        places(hash, self.probes)
            .all(|(byte, mask)| line.0.get(byte).is_some_and(|byte| byte & mask != 0))
    }

    /// The body of the filter's block.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.lines.len() * LINE_BYTES);
        out.push(self.probes);
        self.lines.iter().for_each(|line| out.extend_from_slice(&line.0));
        out
    }

    /// `None` if the body is no filter.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let (probes, body) = body.split_first()?;
        let (lines, rest) = body.as_chunks::<LINE_BYTES>();
        let whole = rest.is_empty() && !lines.is_empty() && (1..=PROBES_MAX).contains(probes);
        whole.then(|| Self { probes: *probes, lines: lines.iter().copied().map(Line).collect() })
    }

    /// Bytes it keeps in memory.
    pub(crate) fn memory(&self) -> usize {
        self.lines.len() * LINE_BYTES
    }
}

/// For `storage::fuzz`: takes bytes for a filter, and then for hashes of which one is built.
#[cfg(debug_assertions)]
pub(crate) fn check_any_filter(bytes: &[u8]) {
    let (chunks, _) = bytes.as_chunks::<8>();
    let hashes: Vec<u64> = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
    if let Some(filter) = Filter::decode(bytes) {
        assert_eq!(filter.encode(), bytes, "a filter reads back as another");
        let _asked = hashes.iter().filter(|hash| filter.may_hold(**hash)).count();
    }
    let built = Filter::build(&hashes);
    let read = Filter::decode(&built.encode()).expect("a built filter can be read");
    let holds = |hash: &u64| built.may_hold(*hash) && read.may_hold(*hash);
    assert!(hashes.iter().all(holds), "a filter denies what it was made of");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, proptest};

    proptest! {
        #[test]
        fn no_key_of_a_table_is_ever_denied(keys in vec(vec(any::<u8>(), 0..12), 1..400)) {
            let hashes: Vec<u64> = keys.iter().map(|key| key_hash(key)).collect();
            let built = Filter::build(&hashes);
            let read = Filter::decode(&built.encode()).unwrap();
            for hash in hashes {
                prop_assert!(built.may_hold(hash) && read.may_hold(hash));
            }
        }

        #[test]
        fn random_bytes_never_panic(body in vec(any::<u8>(), 0..300), hash in any::<u64>()) {
            if let Some(filter) = Filter::decode(&body) {
                filter.may_hold(hash);
            }
        }
    }

    /// Of keys that are not there, what share a filter of `count` keys does not deny.
    fn wrong_share(count: u64) -> f64 {
        let hashes: Vec<u64> = (0..count).map(|key| key_hash(&key.to_le_bytes())).collect();
        let filter = Filter::build(&hashes);
        assert!(hashes.iter().all(|hash| filter.may_hold(*hash)));
        let asked = 200_000;
        let strangers = (count..count + asked).map(|key| key_hash(&key.to_le_bytes()));
        let wrong = strangers.filter(|hash| filter.may_hold(*hash)).count();
        wrong as f64 / asked as f64
    }

    #[test]
    fn wrong_answers_are_within_half_as_much_again_of_theory() {
        // Bloom's formula for an unblocked filter of the same size: what blocking costs is in the
        // allowance.
        let (bits, probes) = (BITS_PER_KEY as f64, f64::from(PROBES));
        let theory = (1.0 - (-probes / bits).exp()).powf(probes);
        for count in [1_000, 20_000, 300_000] {
            let measured = wrong_share(count);
            println!("{count} keys: {measured:.5} wrong, theory {theory:.5}");
            assert!(measured < 1.5 * theory, "{measured} of {count} keys, theory {theory}");
        }
    }
}

//! Where a key stands on the circle. This is the only place of the product that hashes keys:
//! changing it would move all data, so its values are pinned by a golden test.

use core::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::types::Partition;

/// A position on the token circle, 0 to 2^64 - 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Returns the position of `key`: its xxh3-64 without a seed. When the key contains `{tag}` with a
/// tag of at least one byte (from the first `{` to the next `}` after it), the tag alone is hashed,
/// so that keys with the same tag live together.
pub fn token(key: &[u8]) -> Token {
    Token(xxh3_64(tag(key).unwrap_or(key)))
}

/// Returns the partition that holds `token` when the circle is cut into `partitions` equal ranges.
/// For a power of two these are the token's top bits. 0 partitions count as 1; more than 65,536
/// do not exist.
pub fn partition_of(token: Token, partitions: u32) -> Partition {
    let scaled = u128::from(token.0) * u128::from(partitions.max(1));
    let number = scaled >> u64::BITS;
    Partition(u16::try_from(number).unwrap_or(u16::MAX))
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = key.get(open + 1..)?;
    let close = rest.iter().position(|byte| *byte == b'}')?;
    rest.get(..close).filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_known_keys_never_change() {
        let golden: [(&[u8], u64); 7] = [
            (b"a", 0xe6c6_32b6_1e96_4e1f),
            (b"key", 0xbbea_0d63_a051_65e3),
            (b"user:1", 0x3b57_7afd_7fed_9501),
            (b"user:2", 0x69a0_366b_760b_5c02),
            (b"{user:1}:name", 0x3b57_7afd_7fed_9501),
            (b"\x00", 0xc44b_dff4_074e_ecdb),
            (&[0xff; 4096], 0x074c_fac2_7385_1dd6),
        ];
        let got: Vec<_> = golden.iter().map(|(key, _)| format!("{}", token(key))).collect();
        let expected: Vec<_> = golden.iter().map(|(_, value)| format!("{value:016x}")).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn keys_with_the_same_tag_share_a_token() {
        assert_eq!(token(b"{user:1}:name"), token(b"user:1"));
        assert_eq!(token(b"cart:{user:1}"), token(b"orders:{user:1}:7"));
        assert_eq!(token(b"a{b}{c}"), token(b"b"));
        assert_eq!(token(b"a{{b}}"), token(b"{b"));
    }

    #[test]
    fn a_key_without_a_whole_tag_is_hashed_whole() {
        for key in [&b"a{}b"[..], b"{", b"}", b"}{", b"a{b", b"a}b{", b"{}{x}"] {
            assert_eq!(token(key).0, xxh3_64(key), "{key:?}");
        }
    }

    #[test]
    fn a_partition_is_the_top_bits_of_the_token() {
        assert_eq!(partition_of(Token(u64::MAX), 1), Partition(0));
        assert_eq!(partition_of(Token(0), 65_536), Partition(0));
        assert_eq!(partition_of(Token(u64::MAX), 65_536), Partition(65_535));
        let sample = Token(0xabcd_ef01_2345_6789);
        assert_eq!(partition_of(sample, 256), Partition(0xab));
        assert_eq!(partition_of(sample, 65_536), Partition(0xabcd));
        assert_eq!(partition_of(Token((1 << 63) - 1), 2), Partition(0));
        assert_eq!(partition_of(Token(1 << 63), 2), Partition(1));
    }
}

//! Values that say whose they are: whoever reads one can tell, without having kept anything, whether it
//! was written under this key, whole and unchanged. Pure.
//!
//! | bytes | |
//! |---|---|
//! | 4 | `RTB1` |
//! | 4 | length of the whole, little-endian |
//! | 8 | xxh3 of the key, little-endian |
//! | 8 | what makes the value unique, little-endian |
//! | rest | what a generator seeded with both draws |

use xxhash_rust::xxh3::xxh3_64;

use crate::types::limits::VALUE_BYTES_MAX;
use crate::types::{Key, Value};

const MAGIC: &[u8; 4] = b"RTB1";
/// The smallest value there is.
pub const BYTES_MIN: usize = 24;

/// The value of `key` that `unique` names, of `size` bytes within [`BYTES_MIN`]..=1 MiB.
pub fn value(key: &Key, unique: u64, size: usize) -> Value {
    let size = size.clamp(BYTES_MIN, VALUE_BYTES_MAX);
    Value::new(bytes(key.bytes(), unique, size)).expect("cut to the limit")
}

/// Whether `value` is what [`value`] made for this key.
pub fn is_of(key: &[u8], value: &[u8]) -> bool {
    let Some(unique) = value.get(16..BYTES_MIN).and_then(|unique| unique.try_into().ok()) else {
        return false;
    };
    // Heads first: a value of another key is told without drawing the rest.
    value.get(..16) == head(key, value.len()).get(..16)
        && value == bytes(key, u64::from_le_bytes(unique), value.len())
}

fn head(key: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    bytes.extend(MAGIC);
    bytes.extend(u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(xxh3_64(key).to_le_bytes());
    bytes
}

fn bytes(key: &[u8], unique: u64, size: usize) -> Vec<u8> {
    let mut bytes = head(key, size);
    bytes.extend(unique.to_le_bytes());
    bytes.resize(size.max(BYTES_MIN), 0);
    let seed = xxh3_64(key) ^ unique.rotate_left(32);
    fastrand::Rng::with_seed(seed).fill(bytes.get_mut(BYTES_MIN..).unwrap_or_default());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_as_its_keys_and_nothing_else_is() {
        let (key, other) = (Key::new("a").unwrap(), Key::new("b").unwrap());
        for size in [BYTES_MIN, 25, 100, 5000] {
            let made = value(&key, 7, size).into_bytes();
            assert_eq!(made.len(), size);
            assert!(is_of(key.bytes(), &made) && !is_of(other.bytes(), &made));
            assert_ne!(made, value(&key, 8, size).into_bytes());
            for at in 0..size.min(200) {
                let mut damaged = made.to_vec();
                damaged[at] ^= 1;
                // Where the rest is empty, another unique number makes another good value.
                let is_other_value = size == BYTES_MIN && at >= 16;
                assert_eq!(is_of(key.bytes(), &damaged), is_other_value, "{size}, byte {at}");
            }
            assert!(!is_of(key.bytes(), &made[..size - 1]));
            assert!(!is_of(key.bytes(), &[&made[..], b"x"].concat()));
        }
        assert!(!is_of(b"a", b"") && !is_of(b"a", b"RTB1"));
        assert_eq!(value(&key, 7, 1).into_bytes().len(), BYTES_MIN);
    }
}

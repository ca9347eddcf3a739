//! Where an entry stands in its unit: table, then key, as the engine orders them. And the hash of a
//! place, by which boundaries are chosen and leaves divided.

use core::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::types::{Key, TableId, limits};

/// Bytes of a table.
const TABLE_BYTES: usize = 4;
/// Zero bits at the end of a hash that make a boundary: a leaf has 2^9 entries as a rule.
const LEAF_BITS: u32 = 9;
/// Further zero bits for each level above: 16 nodes make one as a rule.
const LEVEL_BITS: u32 = 4;

/// A place in a unit, or the edge of a table, which is before all its keys.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Box<[u8]>);

impl Place {
    /// The longest, in bytes.
    pub const BYTES_MAX: usize = TABLE_BYTES + limits::KEY_BYTES_MAX;

    /// Where a key of a table stands.
    pub fn new(table: TableId, key: &Key) -> Place {
        Place([&table.0.to_be_bytes()[..], key.as_bytes()].concat().into())
    }

    /// The edge of a table.
    pub fn edge(table: TableId) -> Place {
        Place(table.0.to_be_bytes().into())
    }

    /// Before everything.
    pub fn first() -> Place {
        Place::default()
    }

    /// Of `table u32 big-endian, key`, as an engine's key has them behind the unit; `None` when they are
    /// too short or too long for one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Place> {
        (TABLE_BYTES..=Place::BYTES_MAX).contains(&bytes.len()).then(|| Place(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The table; `None` only of [`Place::first`].
    pub fn table(&self) -> Option<TableId> {
        self.0.first_chunk().map(|bytes| TableId(u32::from_be_bytes(*bytes)))
    }

    /// The user's key; `None` of an edge.
    pub fn key(&self) -> Option<Key> {
        let key = self.0.get(TABLE_BYTES..)?;
        Key::new(bytes::Bytes::copy_from_slice(key)).ok()
    }

    /// Whether this is the edge of a table.
    pub fn is_edge(&self) -> bool {
        self.0.len() == TABLE_BYTES
    }

    /// The hash of the place. All replicas of a unit use one seed.
    pub fn hash(&self, seed: u64) -> u64 {
        xxh3_64_with_seed(&self.0, seed)
    }

    /// How high a boundary here is: 0 begins a leaf, 1 a node of leaves, and so on. `None` when there is
    /// none; an edge is always one.
    pub fn level(&self, seed: u64) -> Option<u8> {
        let zeros = self.hash(seed).trailing_zeros();
        let level = zeros.checked_sub(LEAF_BITS).map(|more| more / LEVEL_BITS);
        let level = if self.is_edge() { Some(level.unwrap_or(0)) } else { level };
        level.and_then(|level| u8::try_from(level).ok())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table().map_or(0, |table| table.0);
        write!(
            f,
            "Place({table}, {})",
            self.0.get(TABLE_BYTES..).unwrap_or_default().escape_ascii()
        )
    }
}

//! What a replica stores under a key: one version. Merging versions is `causality`'s business.

use serde::{Deserialize, Serialize};

use super::{Stamp, Value, WallTime};

/// One version of one key. A delete is a version without a value (a tombstone).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the order of versions.
    pub stamp: Stamp,
    /// When it ceases to be visible; part of the version, so that every replica agrees on it.
    pub expiry: Option<WallTime>,
    /// The value; `None` is a tombstone.
    pub value: Option<Value>,
}

impl Record {
    /// Whether a reader at `wall` sees a value.
    pub fn is_visible(&self, wall: WallTime) -> bool {
        self.value.is_some() && self.expiry.is_none_or(|expiry| wall < expiry)
    }

    /// Bytes this record accounts for in queues and memory.
    pub fn bytes(&self) -> usize {
        size_of::<Record>() + self.value.as_ref().map_or(0, |v| v.as_bytes().len())
    }
}

//! Of two monotonic reads of a key, one begun after the other was answered, the second one does not
//! go back: whatever became of the write whose version the first one showed, and whatever power
//! failures took between the two.

use std::collections::BTreeMap;

use roundtable::types::{Key, Stamp};

/// The highest version of each key that a monotonic read has shown so far.
#[derive(Debug, Default)]
pub(crate) struct Monotonic {
    shown: BTreeMap<Key, Stamp>,
}

impl Monotonic {
    /// A monotonic read begins: what it must not go back behind.
    pub(crate) fn begun(&self, key: &Key) -> Stamp {
        self.shown.get(key).copied().unwrap_or_default()
    }

    /// It was answered with the version `stamp`, of a miss the tombstone's or zero.
    pub(crate) fn answered(
        &mut self,
        key: &Key,
        (floor, stamp): (Stamp, Stamp),
    ) -> Result<(), String> {
        let shown = self.shown.entry(key.clone()).or_default();
        *shown = stamp.max(*shown);
        if stamp < floor {
            return Err(format!("{key:?} was shown at {floor}, and after that at {stamp}"));
        }
        Ok(())
    }
}

//! Of two monotonic reads of a key, one begun after the other was answered, the second one does not
//! go back: whatever became of the write whose version the first one showed.

use std::collections::BTreeMap;

use roundtable::types::{Key, Stamp};

/// The highest version of each key that a monotonic read has shown so far.
#[derive(Debug, Default)]
pub(crate) struct Monotonic {
    shown: BTreeMap<Key, Stamp>,
    /// When something unsynced was lost last. Owners show what they have not synced yet, so what was
    /// shown before may be gone (docs/guarantees.md).
    lost: u64,
}

/// What a read must not go back behind, and what was lost before it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    stamp: Stamp,
    lost: u64,
}

impl Monotonic {
    /// A monotonic read begins: what it must not go back behind.
    pub(crate) fn begun(&self, key: &Key) -> Floor {
        Floor { stamp: self.shown.get(key).copied().unwrap_or_default(), lost: self.lost }
    }

    /// A node starts: it may have lost what it had not synced.
    pub(crate) fn lose(&mut self) {
        self.shown.clear();
        self.lost += 1;
    }

    /// It was answered with the version `stamp`, of a miss the tombstone's or zero.
    pub(crate) fn answered(
        &mut self,
        key: &Key,
        (floor, stamp): (Floor, Stamp),
    ) -> Result<(), String> {
        if floor.lost != self.lost {
            return Ok(());
        }
        let shown = self.shown.entry(key.clone()).or_default();
        *shown = stamp.max(*shown);
        if stamp < floor.stamp {
            let floor = floor.stamp;
            return Err(format!("{key:?} was shown at {floor}, and after that at {stamp}"));
        }
        Ok(())
    }
}

//! A compaction filter for streams: some values may go once the horizon of their unit is high
//! enough. When they go is the engine's affair, so a reader does not care whether it still sees
//! them; that an older version never comes back is what is watched.

use std::sync::atomic::{AtomicU64, Ordering};

use roundtable::storage::CompactionFilter;

/// Number of units: the empty key, and one for each first byte.
const UNITS: usize = 5;

#[derive(Debug, Default)]
pub(crate) struct Horizons([AtomicU64; UNITS]);

fn unit(key: &[u8]) -> usize {
    key.first().map_or(0, |first| 1 + usize::from(first.saturating_sub(b'a')).min(UNITS - 2))
}

impl Horizons {
    pub(crate) fn rise(&self, unit: usize, by: u64) {
        if let Some(horizon) = self.0.get(unit % UNITS) {
            horizon.fetch_add(by, Ordering::SeqCst);
        }
    }

    /// Whether a reader takes this pair for gone.
    pub(crate) fn lets_go(&self, key: &[u8], value: &[u8]) -> bool {
        self.point(key, value).is_some_and(|point| point <= self.horizon(key, key))
    }
}

impl CompactionFilter for Horizons {
    /// Every other operation's values have a point, which rises from operation to operation.
    fn point(&self, _key: &[u8], value: &[u8]) -> Option<u64> {
        let (low, high) = (*value.first()?, value.get(1).copied().unwrap_or_default());
        let number = u64::from(high) << 8 | u64::from(low);
        number.is_multiple_of(2).then_some(number)
    }

    fn horizon(&self, smallest: &[u8], largest: &[u8]) -> u64 {
        let units = self.0.iter().skip(unit(smallest)).take(unit(largest) + 1 - unit(smallest));
        units.map(|horizon| horizon.load(Ordering::SeqCst)).min().unwrap_or_default()
    }
}

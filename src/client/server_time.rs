//! What the servers' clock reads now, as far as receipts tell: the furthest reading seen, carried
//! forward by our own clock. It bounds the windows of write attempts and nothing else.

use core::time::Duration;

use parking_lot::Mutex;

use crate::types::{Time, WallTime};

/// A reading this old gives way to any newer one, so that one node with a fast clock is forgotten.
const READING_AGE_MAX: Duration = Duration::from_secs(10);

/// The estimate. Unknown until the first receipt.
#[derive(Debug, Default)]
pub(crate) struct ServerTime {
    reading: Mutex<Option<(WallTime, Time)>>,
}

impl ServerTime {
    /// Takes note of a receipt that came in at `now`.
    pub(crate) fn learn(&self, seen: WallTime, now: Time) {
        if seen == WallTime(0) {
            return;
        }
        let mut reading = self.reading.lock();
        let keep = reading.is_some_and(|(wall, at)| {
            now.since(at) < READING_AGE_MAX && seen <= wall.plus(now.since(at))
        });
        if !keep {
            *reading = Some((seen, now));
        }
    }

    /// The servers' time at `now`; `None` before the first receipt.
    pub(crate) fn estimate(&self, now: Time) -> Option<WallTime> {
        self.reading.lock().map(|(wall, at)| wall.plus(now.since(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_furthest_reading_is_carried_forward() {
        let time = ServerTime::default();
        assert_eq!(time.estimate(Time(5)), None);
        time.learn(WallTime(100), Time(10));
        time.learn(WallTime(90), Time(11));
        assert_eq!(time.estimate(Time(20)), Some(WallTime(110)));
        time.learn(WallTime(200), Time(20));
        assert_eq!(time.estimate(Time(21)), Some(WallTime(201)));
    }

    #[test]
    fn a_clock_far_ahead_is_forgotten() {
        let time = ServerTime::default();
        time.learn(WallTime(1_000 * SECOND), Time(0));
        time.learn(WallTime(5 * SECOND), Time(SECOND));
        assert_eq!(time.estimate(Time(SECOND)), Some(WallTime(1_001 * SECOND)));
        time.learn(WallTime(15 * SECOND), Time(11 * SECOND));
        assert_eq!(time.estimate(Time(11 * SECOND)), Some(WallTime(15 * SECOND)));
    }
}

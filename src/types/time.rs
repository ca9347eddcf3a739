//! Time as the pure modules see it: a number handed in. Deadlines are monotonic; wall time feeds
//! the hybrid clock and expiry only.

use core::time::Duration;
use serde::{Deserialize, Serialize};

/// A monotonic moment, in nanoseconds since an origin that only its process knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// This moment plus `after`, saturating.
    pub fn plus(self, after: Duration) -> Time {
        Time(self.0.saturating_add(nanos(after)))
    }

    /// How long ago `earlier` was; zero when it is in the future.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A wall-clock moment, in nanoseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WallTime(pub u64);

impl WallTime {
    /// This moment plus `after`, saturating.
    pub fn plus(self, after: Duration) -> WallTime {
        WallTime(self.0.saturating_add(nanos(after)))
    }

    /// How far this is ahead of `other`; zero when it is not.
    pub fn ahead_of(self, other: WallTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(other.0))
    }
}

/// Both clocks, read once by the driver for each event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and intervals.
    pub mono: Time,
    /// For stamps and expiry.
    pub wall: WallTime,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

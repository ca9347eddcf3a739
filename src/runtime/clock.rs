//! The only place that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::types::{Now, Time, WallTime};

/// Both clocks of this process. The origin of monotonic time is the moment it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    #[expect(clippy::disallowed_methods, reason = "the driver's clock, the one place")]
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Both clocks.
    #[expect(clippy::disallowed_methods, reason = "the driver's clock, the one place")]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: self.mono(),
            wall: WallTime(u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX)),
        }
    }

    /// The monotonic clock.
    #[expect(clippy::disallowed_methods, reason = "the driver's clock, the one place")]
    pub fn mono(&self) -> Time {
        let since = Instant::now().duration_since(self.origin);
        Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// A moment as tokio's timers know it.
    pub(super) fn instant(&self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.origin + core::time::Duration::from_nanos(time.0))
    }
}

//! The client's only clock: monotonic, counted from the client's birth, so that everything else
//! is handed a number and can be tested without waiting.

use core::time::Duration;

use tokio::time::Instant;

use crate::types::Time;

/// A monotonic clock with an origin of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that reads zero now.
    #[allow(clippy::disallowed_methods, reason = "this is where the client reads the clock")]
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Time {
        Time(0).plus(self.origin.elapsed())
    }

    /// `at` in terms of the runtime's timers.
    pub(crate) fn instant(&self, at: Time) -> Instant {
        self.origin + Duration::from_nanos(at.0)
    }
}

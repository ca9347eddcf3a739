//! Holds flushes and compactions back to the rate that the options allow.
//!
//! A token bucket that both draw from for every byte they write: compactions wait until it is not
//! overdrawn, flushes only when it is overdrawn by a while, so they go first. The nearer the engine
//! is to refusing writes, the faster the bucket fills; from one half on it does not hold anyone
//! back: falling behind costs more. Nobody but the engine's own threads ever waits here.

use core::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;

use super::core::{Core, Phase};

/// From this pressure on there is no bound.
const HURRY: f64 = 0.5;
/// What may be written at once after a rest, as time at the full rate.
const BURST: Duration = Duration::from_millis(250);
/// By how much more than compactions flushes may overdraw the bucket.
const FLUSH_AHEAD: Duration = Duration::from_millis(500);
/// Longest rest before it is looked again how great the pressure is.
const REST_MAX: Duration = Duration::from_millis(100);

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Flush,
    Compaction,
}

/// Bytes that may be written, as the time it takes to earn them at the full rate.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    filled_at: Instant,
    /// What may be written at once; and what was written before it was earned.
    credit: Duration,
    debt: Duration,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { filled_at: now, credit: BURST, debt: Duration::ZERO }
    }

    /// Earns for the time since it last did, `haste` times as fast as time goes.
    fn earn(&mut self, now: Instant, haste: f64) {
        let earned = now.saturating_duration_since(self.filled_at).mul_f64(haste);
        self.filled_at = now;
        let left = earned.saturating_sub(self.debt);
        self.debt = self.debt.saturating_sub(earned);
        self.credit = (self.credit + left).min(BURST);
    }

    fn spend(&mut self, cost: Duration) {
        let beyond = cost.saturating_sub(self.credit);
        self.credit = self.credit.saturating_sub(cost);
        self.debt += beyond;
    }

    /// How long a writer has to rest.
    fn rest(&self, writer: Writer, haste: f64) -> Duration {
        let allowed = match writer {
            Writer::Flush => FLUSH_AHEAD,
            Writer::Compaction => Duration::ZERO,
        };
        self.debt.saturating_sub(allowed).div_f64(haste)
    }
}

/// The engine's bucket; none until something is written.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Option<Bucket>>);

impl Core {
    /// Rests as long as `bytes` that were just written demand. Woken early when the engine closes.
    pub(super) fn pace(&self, writer: Writer, bytes: u64) {
        let Some(rate) = self.options.background_bytes_per_second else { return };
        let seconds = bytes as f64 / rate.max(1) as f64;
        let mut cost = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4);
        loop {
            let pressure = self.pressure();
            let haste = 1.0 / (1.0 - pressure / HURRY).max(f64::MIN_POSITIVE);
            let rest = {
                #[expect(clippy::disallowed_methods, reason = "only how long a thread rests")]
                let now = Instant::now();
                let mut bucket = self.pace.0.lock();
                let bucket = bucket.get_or_insert_with(|| Bucket::new(now));
                if pressure >= HURRY {
                    *bucket = Bucket::new(now);
                    return;
                }
                bucket.earn(now, haste);
                bucket.spend(std::mem::take(&mut cost));
                bucket.rest(writer, haste)
            };
            let mut commit = self.commit.lock();
            if rest.is_zero() || commit.phase != Phase::Running {
                return;
            }
            self.pace_wake.wait_for(&mut commit, rest.min(REST_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> (Bucket, Instant) {
        #[expect(clippy::disallowed_methods, reason = "an origin to count from")]
        let now = Instant::now();
        (Bucket::new(now), now)
    }

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_burst_is_free_and_what_follows_is_earned() {
        let (mut bucket, now) = bucket();
        bucket.spend(ms(200));
        assert_eq!(bucket.rest(Writer::Compaction, 1.0), ms(0));
        bucket.spend(ms(150));
        assert_eq!(bucket.rest(Writer::Compaction, 1.0), ms(100));
        bucket.earn(now + ms(60), 1.0);
        assert_eq!(bucket.rest(Writer::Compaction, 1.0), ms(40));
        // A long rest earns one burst, not more.
        bucket.earn(now + ms(60_000), 1.0);
        bucket.spend(ms(300));
        assert_eq!(bucket.rest(Writer::Compaction, 1.0), ms(50));
    }

    #[test]
    fn flushes_go_first() {
        let (mut bucket, _) = bucket();
        bucket.spend(ms(700));
        assert_eq!(bucket.rest(Writer::Compaction, 1.0), ms(450));
        assert_eq!(bucket.rest(Writer::Flush, 1.0), ms(0));
        bucket.spend(ms(300));
        assert_eq!(bucket.rest(Writer::Flush, 1.0), ms(250));
    }

    #[test]
    fn haste_earns_faster_and_rests_less() {
        let (mut bucket, now) = bucket();
        bucket.spend(ms(1_250));
        assert_eq!(bucket.rest(Writer::Compaction, 4.0), ms(250));
        bucket.earn(now + ms(200), 4.0);
        assert_eq!(bucket.rest(Writer::Compaction, 1.0), ms(200));
    }
}

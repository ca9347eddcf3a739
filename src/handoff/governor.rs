//! How much of their pace copies may take: all of it while nobody else asks anything, less as soon as
//! users wait longer than they do without copies. Additive increase, multiplicative decrease (Chiu
//! and Jain, 1989): a fixed share is either too much for a small machine or too little for a large one.
//!
//! What users feel is measured where it arises, in two places: what this node coordinates, and what it
//! writes as a replica, for a node that is filled may coordinate nothing. Each is compared with itself
//! in quiet times.

use core::time::Duration;

use crate::types::Time;

/// The whole pace, in thousandths.
const FULL: u64 = 1000;
/// What is always left of it: a copy must come to its end whatever users do.
const LEAST: u64 = 16;
/// With how much copies begin while somebody asks: nothing is known yet of what they do to it.
const FIRST: u64 = 125;
/// What is added after a window in which nobody was held up.
const STEP: u64 = 40;
/// What is left after one in which users were, in thousandths.
const CUT: u64 = 600;
/// How long is measured before it is judged.
const WINDOW: Duration = Duration::from_millis(200);
/// Fewer requests than this tell nothing.
const SAMPLES_MIN: usize = 12;
/// As many are kept of a window.
const SAMPLES_MAX: usize = 512;
/// After so long without requests nobody is there.
const SILENCE: Duration = Duration::from_secs(1);
/// Copies that have rested for so long begin anew.
const REST: Duration = Duration::from_secs(3);
/// Slower than in quiet times by this factor is too slow, ...
const SLOWER: u32 = 2;
/// ... unless it is by less than this, in microseconds: then nobody minds.
const SLOWER_BY: u32 = 1000;
/// Which of a hundred requests is looked at: few enough are slower.
const PERCENT: usize = 95;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Felt {
    /// A client, for what this node coordinates.
    Operation,
    /// A coordinator, for what this node writes.
    Write,
}

/// See the module. Memory: a few kilobytes.
#[derive(Debug)]
pub struct Governor {
    operations: Gauge,
    writes: Gauge,
    share: u64,
    /// When something was last copied.
    copied: Option<Time>,
    /// Only the least is left, whatever is measured here.
    least: bool,
}

#[derive(Debug, Default)]
struct Gauge {
    /// Microseconds.
    window: Vec<u32>,
    since: Time,
    /// When the last request ended.
    last: Option<Time>,
    /// What it is like while nothing is copied.
    quiet: Option<u32>,
}

impl Default for Governor {
    fn default() -> Governor {
        let (operations, writes) = (Gauge::default(), Gauge::default());
        Governor { operations, writes, share: FULL, copied: None, least: false }
    }
}

impl Governor {
    /// A request took so long.
    pub fn note(&mut self, now: Time, felt: Felt, took: Duration) {
        let copies = self.copied.is_some_and(|at| now.since(at) < WINDOW);
        let gauge = match felt {
            Felt::Operation => &mut self.operations,
            Felt::Write => &mut self.writes,
        };
        let Some(slow) = gauge.note(now, took, copies) else { return };
        if !copies {
            return;
        }
        self.share = if slow {
            crate::sometimes!("transfer: gives way to users who wait longer");
            (self.share * CUT / FULL).max(LEAST)
        } else {
            (self.share + STEP).min(FULL)
        };
    }

    /// Whether copies have only the least that is ever left, until this is taken back.
    pub fn hold(&mut self, least: bool) {
        self.least = least;
    }

    /// Something is copied now: what of the pace it may take, in thousandths, 16 to 1000.
    pub fn share_milli(&mut self, now: Time) -> u64 {
        let somebody = [&self.operations, &self.writes].into_iter().any(|gauge| gauge.asks(now));
        let rested = self.copied.is_none_or(|at| now.since(at) > REST);
        self.copied = Some(now);
        if !somebody || crate::mutant!("copies-never-yield") {
            self.share = FULL;
        } else if self.least {
            self.share = LEAST;
        } else if rested {
            self.share = FIRST;
        }
        self.share
    }

    /// How long `bytes` take at `rate` bytes a second (0: no bound) and the share that is left. While
    /// users are held up there is a bound in any case.
    pub fn cost(&mut self, now: Time, bytes: usize, rate: u64) -> Duration {
        /// Bytes a second of which the share is taken where none are set.
        const UNBOUND: u64 = 256 << 20;
        let share = self.share_milli(now);
        let rate = match rate {
            0 if share == FULL => return Duration::ZERO,
            0 => UNBOUND,
            rate => rate,
        };
        let left = (rate.saturating_mul(share) / FULL).max(1);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / left)
    }
}

impl Gauge {
    /// Counts a request; at the end of a window, whether it was too slow.
    fn note(&mut self, now: Time, took: Duration, copies: bool) -> Option<bool> {
        if self.last.is_none_or(|last| now.since(last) > SILENCE) {
            self.window.clear();
        }
        self.last = Some(now);
        if self.window.is_empty() {
            self.since = now;
        }
        if self.window.len() < SAMPLES_MAX {
            self.window.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
        if now.since(self.since) < WINDOW || self.window.len() < SAMPLES_MIN {
            return None;
        }
        let place = self.window.len() * PERCENT / 100;
        let (_, slowest, _) = self.window.select_nth_unstable(place);
        let slowest = *slowest;
        self.window.clear();
        let quiet = self.quiet.unwrap_or(slowest);
        // While something is copied only what is better is believed.
        let smoothed = quiet - quiet / 8 + slowest / 8;
        self.quiet = Some(if copies { quiet.min(slowest) } else { smoothed });
        Some(slowest > quiet.saturating_mul(SLOWER) && slowest > quiet.saturating_add(SLOWER_BY))
    }

    fn asks(&self, now: Time) -> bool {
        self.last.is_some_and(|last| now.since(last) <= SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stage {
        governor: Governor,
        now: Time,
    }

    impl Stage {
        fn new() -> Stage {
            Stage { governor: Governor::default(), now: Time(0) }
        }

        /// A second in which a client asks every 5 ms, and something is copied or not.
        fn second(&mut self, took: Duration, copies: bool) -> u64 {
            for _ in 0..200 {
                self.now = self.now.plus(Duration::from_millis(5));
                if copies {
                    self.governor.share_milli(self.now);
                }
                self.governor.note(self.now, Felt::Operation, took);
            }
            self.governor.share
        }
    }

    const QUIET: Duration = Duration::from_millis(2);

    #[test]
    fn alone_copies_have_the_whole_pace() {
        let mut stage = Stage::new();
        assert_eq!(stage.governor.share_milli(stage.now), FULL);
        assert_eq!(stage.governor.cost(stage.now, 1 << 20, 0), Duration::ZERO);
        assert_eq!(stage.governor.cost(stage.now, 1 << 20, 1 << 20), Duration::from_secs(1));
    }

    #[test]
    fn users_who_wait_longer_have_their_way_and_a_rest_of_the_pace_is_left() {
        let mut stage = Stage::new();
        stage.second(QUIET, false);
        let begun = stage.governor.share_milli(stage.now);
        assert_eq!(begun, FIRST);
        assert!(stage.second(QUIET, true) > begun, "nobody is held up");
        for _ in 0..5 {
            stage.second(QUIET * 3, true);
        }
        assert_eq!(stage.governor.share, LEAST);
        // Nor does it forget what quiet is while it copies.
        let cost = stage.governor.cost(stage.now, 1 << 20, 1 << 20);
        assert!(cost > Duration::from_secs(50), "{cost:?}");
        for _ in 0..6 {
            stage.second(QUIET, true);
        }
        assert_eq!(stage.governor.share, FULL);
    }

    #[test]
    fn copies_that_never_yield_are_seen() {
        let mut stage = Stage::new();
        stage.second(QUIET, false);
        let _planted = crate::testing::arm_mutant("copies-never-yield");
        stage.second(QUIET * 3, true);
        assert_eq!(stage.governor.share, FULL, "the planted bug");
    }

    #[test]
    fn an_unbound_pace_has_a_bound_while_users_are_held_up() {
        let mut stage = Stage::new();
        stage.second(QUIET, false);
        stage.second(QUIET * 9, true);
        assert!(stage.governor.cost(stage.now, 1 << 20, 0) > Duration::from_millis(10));
        // They have gone.
        stage.now = stage.now.plus(Duration::from_secs(2));
        assert_eq!(stage.governor.cost(stage.now, 1 << 20, 0), Duration::ZERO);
    }

    #[test]
    fn what_is_slower_by_little_is_not_slow() {
        let mut stage = Stage::new();
        let fast = Duration::from_micros(100);
        stage.second(fast, false);
        for _ in 0..6 {
            stage.second(fast * 5, true);
        }
        assert_eq!(stage.governor.share, FULL);
    }
}

//! Room for writers that wait: how long each of them does.
//!
//! Decides the pace of blocking writes. As long as memory and levels are at most half full nobody
//! waits. From there on a write waits in proportion to its bytes and to how little is left: at three
//! quarters writers are let in as fast as flushes and merges were seen to drain, towards the bound
//! ever more slowly. So a fill at full speed settles where it is drained, and does not run into the
//! bound, where it would stand still until a whole memtable is flushed. `submit` never waits; it
//! refuses at the bound. Waits are on a condition variable and end early when something drains.

use core::time::Duration;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;

use super::core::{Core, Phase, View};
use crate::storage::batch::SealedBatch;
use crate::storage::error::Error;

/// From this share of a bound on writers are slowed down.
const SLOW_FROM: f64 = 0.5;
/// Writers owe less than this before they wait at all: timers are no finer.
const OWED_MIN: Duration = Duration::from_millis(1);
/// Longest wait of one write for its pace.
const WAIT_MAX: Duration = Duration::from_millis(10);
/// How often a writer at the bound looks again without being woken.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How much the newest measurement of a rate counts.
const NEWEST: f64 = 0.3;

/// How fast something gets empty, in bytes a second; 0 before it is known. Only time in which there
/// was something to do counts: else writers that are slow would make the drain look slow, and be
/// slowed down for it.
#[derive(Debug, Clone, Copy, Default)]
struct Drain {
    rate: f64,
    /// Since when it has been at work without a rest.
    since: Option<Instant>,
}

impl Drain {
    fn measured(&mut self, bytes: u64, took: Duration) {
        let rate = bytes as f64 / took.as_secs_f64().max(1e-3);
        let known = self.rate > 0.0;
        self.rate = if known { self.rate + (rate - self.rate) * NEWEST } else { rate };
    }

    /// Bytes are gone; `goes_on` if there are more.
    fn drained(&mut self, bytes: u64, goes_on: bool, now: Instant) {
        if let Some(since) = self.since {
            self.measured(bytes, now.saturating_duration_since(since));
        }
        self.since = goes_on.then_some(now);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Pacing {
    memory: Drain,
    level0: Drain,
    owed: Duration,
    waits: Waits,
}

/// How often and how long writers have waited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waits {
    /// For their pace, and at a bound.
    pub(super) pace: Waited,
    pub(super) bound: Waited,
    pub(super) longest: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waited {
    pub(super) count: u64,
    pub(super) waited: Duration,
}

impl Waited {
    fn add(&mut self, waited: Duration) {
        self.count += 1;
        self.waited += waited;
    }
}

/// What is known of drains, and what writers owe.
#[derive(Debug, Default)]
pub(super) struct Room(Mutex<Pacing>);

impl Room {
    pub(super) fn waits(&self) -> Waits {
        self.0.lock().waits
    }

    /// Takes note of a wait that has ended.
    fn note(&self, kind: impl FnOnce(&mut Waits) -> &mut Waited, began: Instant) {
        let waited = now().saturating_duration_since(began);
        let waits = &mut self.0.lock().waits;
        kind(waits).add(waited);
        waits.longest = waits.longest.max(waited);
    }
}

/// How full each of two things is, as shares of their bounds.
#[derive(Debug, Clone, Copy)]
struct Strain {
    memory: f64,
    levels: f64,
}

/// How long `bytes` have to wait for a drain of `rate` at a strain. Half full: not at all.
fn owed(bytes: usize, strain: f64, rate: f64) -> Duration {
    if strain <= SLOW_FROM || rate <= 0.0 {
        return Duration::ZERO;
    }
    // 1 at half, 0 at the bound; twice the rate at half, the rate itself at three quarters.
    let slack = ((1.0 - strain) / (1.0 - SLOW_FROM)).max(0.01);
    let seconds = bytes as f64 / (2.0 * slack * rate);
    Duration::try_from_secs_f64(seconds).unwrap_or(WAIT_MAX).min(WAIT_MAX)
}

/// The time, for how long a thread waits and no more.
pub(super) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "only how long a thread waits")]
    Instant::now()
}

impl Core {
    fn strain(&self, view: &View) -> Strain {
        let share = |used: usize, limit: usize| used as f64 / limit.max(1) as f64;
        let options = &self.options;
        let trigger = options.l0_trigger.min(options.l0_depth_max);
        let tables = view.levels.depth().saturating_sub(trigger);
        let debt = self.debt.load(Ordering::Relaxed) as f64;
        Strain {
            memory: share(view.memory(), options.memory_bytes_max),
            levels: share(tables, options.l0_depth_max - trigger)
                .max(debt / options.debt_bytes_max.max(1) as f64),
        }
    }

    /// Waits as long as the pace of a write of `bytes` demands.
    pub(super) fn keep_pace(&self, bytes: usize) {
        let strain = self.strain(&self.view.load());
        if strain.memory.max(strain.levels) <= SLOW_FROM {
            return;
        }
        let wait = {
            let mut pacing = self.room.0.lock();
            let memory = owed(bytes, strain.memory, pacing.memory.rate);
            let levels = owed(bytes, strain.levels, pacing.level0.rate);
            pacing.owed += memory.max(levels);
            if pacing.owed < OWED_MIN {
                return;
            }
            std::mem::take(&mut pacing.owed).min(WAIT_MAX)
        };
        let mut commit = self.commit.lock();
        if commit.phase == Phase::Running && commit.latched.is_none() {
            let began = now();
            self.slow_wake.wait_for(&mut commit, wait);
            drop(commit);
            self.room.note(|waits| &mut waits.pace, began);
        }
    }

    /// Waits for something to drain, if that can end the refusal of `batch`.
    ///
    /// # Errors
    /// The refusal, if it does not end by itself.
    pub(super) fn wait_for_room(&self, batch: &SealedBatch, refusal: Error) -> Result<(), Error> {
        if !matches!(refusal, Error::Overloaded { .. }) {
            return Err(refusal);
        }
        let mut commit = self.commit.lock();
        // Asked again with the lock in hand: what drained since the refusal has woken nobody.
        match self.admit(&mut commit, batch) {
            Err(Error::Overloaded { .. }) => {
                let began = now();
                self.room_wake.wait_for(&mut commit, LOOK_AGAIN);
                drop(commit);
                self.room.note(|waits| &mut waits.bound, began);
                Ok(())
            }
            admitted => admitted,
        }
    }

    /// Takes note of what a flush has written, and how long it took.
    pub(super) fn note_flushed(&self, bytes: usize, began: Instant) {
        let took = now().saturating_duration_since(began);
        self.room.0.lock().memory.measured(bytes as u64, took);
    }

    /// Takes note of what another view has less in level 0, and wakes those who wait.
    pub(super) fn note_drained(&self, old: &View, new: &View) {
        let level0 = |view: &View| -> u64 {
            view.levels.level(0).iter().map(|table| table.meta.bytes).sum()
        };
        let merged = level0(old).saturating_sub(level0(new));
        if merged > 0 {
            let goes_on = self.strain(new).levels > 0.0;
            self.room.0.lock().level0.drained(merged, goes_on, now());
        }
        self.room_wake.notify_all();
        self.slow_wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_room_the_longer_the_wait_and_none_below_half() {
        let rate = 1e8;
        assert_eq!(owed(1_000, 0.5, rate), Duration::ZERO);
        assert_eq!(owed(1_000, 0.9, 0.0), Duration::ZERO);
        let waits = [0.51, 0.6, 0.75, 0.9, 0.99, 1.0].map(|strain| owed(1_000, strain, rate));
        assert!(waits.is_sorted(), "{waits:?}");
        // At three quarters, as fast as it drains.
        assert_eq!(owed(1_000, 0.75, rate), Duration::from_micros(10));
        assert_eq!(owed(1 << 30, 1.0, 1.0), WAIT_MAX);
    }

    #[test]
    fn a_rate_follows_what_drains_and_forgets_rests() {
        let start = now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut drain = Drain::default();
        drain.drained(1_000, true, at(0));
        assert!(drain.rate <= 0.0, "nobody knows when it began");
        drain.drained(1_000, true, at(1));
        assert!((drain.rate - 1_000.0).abs() < 1.0);
        for second in 2..20 {
            drain.drained(3_000, true, at(second));
        }
        assert!((drain.rate - 3_000.0).abs() < 50.0, "{}", drain.rate);
        drain.drained(3_000, false, at(20));
        drain.drained(3_000, true, at(10_000));
        assert!((drain.rate - 3_000.0).abs() < 50.0, "{}", drain.rate);
    }
}

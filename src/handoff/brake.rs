//! When copies of a plan stop for users: while the 99th percentile of what clients wait is more than twice what
//! it is without copies. `Governor` makes copies slower long before; this is for the time in which slower is
//! not enough. Never for ever: after a minute copies go on at the lowest pace, for a plan that cannot end is
//! worse than a slow one.

use core::time::Duration;

use crate::types::Time;

/// Steps to a doubling: a percentile is told to a twelfth.
const STEPS: usize = 8;
/// Up to about a minute, in microseconds; the last takes the rest.
const BUCKETS: usize = 26 * STEPS;
/// A percentile is that of so many seconds.
const SECONDS: usize = 10;
/// For so long what was told of them is told again.
const EVERY: Duration = Duration::from_millis(100);
/// Of fewer requests than this nothing is told.
const SAMPLES_MIN: u64 = 100;
/// Copies stop above twice the usual time, ...
const STOP_MILLI: u64 = 2000;
/// ... if it is by more than this, in microseconds: then nobody minds;
const STOP_BY: u64 = 2000;
/// and go on below this.
const GO_MILLI: u64 = 1500;
/// After so long they go on at the lowest pace.
const LONGEST: Duration = Duration::from_secs(60);
/// Copies that have rested for so long leave nothing behind in a percentile.
const REST: Duration = Duration::from_secs(12);

/// Times of requests, to be asked for a percentile. Memory: a kilobyte.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: [u32; BUCKETS],
    all: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { counts: [0; BUCKETS], all: 0 }
    }
}

impl Latencies {
    /// A request took so long.
    pub fn note(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count = count.saturating_add(1);
            self.all += 1;
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.all
    }

    /// The 99th percentile in microseconds, of the upper end of its bucket; `None` of none.
    pub fn p99(&self) -> Option<u32> {
        percentile([self].into_iter())
    }
}

fn bucket(micros: u64) -> usize {
    let floor = micros.max(1);
    let power = floor.ilog2() as usize;
    // The bits below the leading one, in eighths of it.
    let below = floor - (1 << power);
    let step = usize::try_from((below * STEPS as u64) >> power).unwrap_or(0);
    (power * STEPS + step).min(BUCKETS - 1)
}

/// The lowest time that is beyond a bucket, in microseconds.
fn beyond(bucket: usize) -> u32 {
    let (power, step) = (bucket / STEPS, bucket % STEPS);
    let steps = STEPS as u64;
    let end = (1u64 << power) * (steps + step as u64 + 1) / steps;
    u32::try_from(end).unwrap_or(u32::MAX)
}

fn percentile<'a>(all: impl Iterator<Item = &'a Latencies> + Clone) -> Option<u32> {
    let count: u64 = all.clone().map(|it| it.all).sum();
    let rank = (count * 99).div_ceil(100);
    let mut before = 0u64;
    for place in 0..BUCKETS {
        let here = all.clone().filter_map(|it| it.counts.get(place)).map(|it| u64::from(*it));
        before += here.sum::<u64>();
        if before >= rank && count > 0 {
            return Some(beyond(place));
        }
    }
    None
}

/// How copies may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Braking {
    /// As the governor has it.
    Free,
    /// Not at all.
    Stopped,
    /// At the lowest pace there is.
    Least,
}

/// See the module. Memory: about ten kilobytes.
#[derive(Clone, Debug)]
pub struct Brake {
    seconds: [Latencies; SECONDS],
    /// The second under way, and the place of it.
    second: u64,
    /// What was last told of the last ten seconds, and when.
    told: Option<(Time, Option<u32>)>,
    /// What it is like without copies, in microseconds.
    quiet: Option<u32>,
    /// When something was last copied, or was to be.
    copied: Option<Time>,
    /// Since when copies have been stopped.
    stopped: Option<Time>,
}

impl Default for Brake {
    fn default() -> Brake {
        let seconds = core::array::from_fn(|_| Latencies::default());
        Brake { seconds, second: 0, told: None, quiet: None, copied: None, stopped: None }
    }
}

impl Brake {
    /// A client's request took so long.
    pub fn note(&mut self, now: Time, took: Duration) {
        self.turn(now);
        if let Some(second) = self.seconds.get_mut(place(self.second)) {
            second.note(took);
        }
    }

    /// Forgets the seconds that are over.
    fn turn(&mut self, now: Time) {
        let second = now.0 / 1_000_000_000;
        if second == self.second {
            return;
        }
        let rests = self.copied.is_none_or(|at| now.since(at) >= REST);
        if let Some(p99) = self.measured().filter(|_| rests) {
            let quiet = self.quiet.unwrap_or(p99);
            self.quiet = Some(quiet - quiet / 8 + p99 / 8);
        }
        let first = self.second.saturating_add(1).max(second.saturating_sub(SECONDS as u64 - 1));
        for gone in first..=second {
            if let Some(slot) = self.seconds.get_mut(place(gone)) {
                *slot = Latencies::default();
            }
        }
        self.second = second;
    }

    fn measured(&self) -> Option<u32> {
        let count: u64 = self.seconds.iter().map(Latencies::count).sum();
        if count < SAMPLES_MIN { None } else { percentile(self.seconds.iter()) }
    }

    /// The 99th percentile of the last ten seconds, in microseconds; `None`: there were too few.
    pub fn p99(&mut self, now: Time) -> Option<u32> {
        self.turn(now);
        // It is asked for with every page that is copied.
        let fresh = self.told.filter(|(at, _)| now.since(*at) < EVERY);
        let (_, p99) = *self.told.insert(fresh.unwrap_or((now, self.measured())));
        p99
    }

    /// Something is to be copied. `usual` is what clients wait at this hour of other weeks, in microseconds: it
    /// counts where nothing has been measured without copies.
    pub fn pace(&mut self, now: Time, usual: Option<u32>) -> Braking {
        let p99 = self.p99(now).map(u64::from);
        self.copied = Some(now);
        let Some((p99, base)) = p99.zip(self.quiet.or(usual).map(u64::from)) else {
            self.stopped = None;
            return Braking::Free;
        };
        let is_slow = p99 * 1000 > base * STOP_MILLI && p99 > base + STOP_BY;
        let is_well = p99 * 1000 < base * GO_MILLI || p99 <= base + STOP_BY / 2;
        match self.stopped {
            None if is_slow => {
                crate::sometimes!("transfer: stops for users who wait twice as long");
                self.stopped = Some(now);
            }
            Some(_) if is_well => self.stopped = None,
            None | Some(_) => {}
        }
        match self.stopped {
            None => Braking::Free,
            Some(since) if now.since(since) >= LONGEST && !crate::mutant!("brake-for-ever") => {
                Braking::Least
            }
            Some(_) => Braking::Stopped,
        }
    }

    /// Whether copies stand, as of the last time that something was to be copied.
    pub fn is_stopped(&self, now: Time) -> bool {
        let lately = self.copied.is_some_and(|at| now.since(at) < REST);
        lately && self.stopped.is_some_and(|since| now.since(since) < LONGEST)
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arm_mutant;

    struct Stage {
        brake: Brake,
        now: Time,
    }

    impl Stage {
        /// Thirty seconds of a hundred requests each, in which nothing is copied.
        fn new() -> Stage {
            let mut stage = Stage { brake: Brake::default(), now: Time(1_000_000_000_000) };
            stage.pass(30, 4, false);
            stage
        }

        /// So many seconds in which each request takes so many milliseconds.
        fn pass(&mut self, seconds: u64, took: u64, copies: bool) -> Vec<Braking> {
            let mut paces = Vec::new();
            for _ in 0..seconds * 100 {
                self.now = self.now.plus(Duration::from_millis(10));
                self.brake.note(self.now, Duration::from_millis(took));
                if copies {
                    paces.push(self.brake.pace(self.now, None));
                }
            }
            paces
        }
    }

    #[test]
    fn percentiles_are_right_to_an_eighth() {
        for micros in [1u64, 2, 3, 9, 100, 1000, 12_345, 1_000_000, 50_000_000] {
            let mut times = Latencies::default();
            (0..1000).for_each(|_| times.note(Duration::from_micros(micros)));
            let told = u64::from(times.p99().unwrap());
            assert!(
                told > micros.min(told - 1) && told <= micros + micros / 8 + 1,
                "{micros} {told}"
            );
        }
        assert_eq!(Latencies::default().p99(), None);
        let mut times = Latencies::default();
        (0..985).for_each(|_| times.note(Duration::from_micros(100)));
        (0..15).for_each(|_| times.note(Duration::from_micros(9000)));
        assert!(times.p99().unwrap() >= 9000);
    }

    #[test]
    fn copies_go_on_while_users_do_not_wait_twice_as_long() {
        let mut stage = Stage::new();
        assert!(stage.pass(30, 7, true).iter().all(|pace| *pace == Braking::Free));
    }

    #[test]
    fn copies_stop_when_the_percentile_doubles_and_go_on_when_it_is_well_again() {
        let mut stage = Stage::new();
        let paces = stage.pass(20, 12, true);
        assert_eq!((paces[0], *paces.last().unwrap()), (Braking::Free, Braking::Stopped));
        assert!(stage.brake.is_stopped(stage.now));
        // Not yet: between both it stays as it is.
        assert_eq!(*stage.pass(12, 7, true).last().unwrap(), Braking::Stopped);
        assert_eq!(*stage.pass(12, 4, true).last().unwrap(), Braking::Free);
        assert_eq!(*stage.pass(12, 7, true).last().unwrap(), Braking::Free);
    }

    #[test]
    fn copies_never_stop_for_longer_than_a_minute() {
        let mut stage = Stage::new();
        let paces = stage.pass(90, 12, true);
        assert_eq!(*paces.last().unwrap(), Braking::Least);
        let stopped = paces.iter().filter(|pace| **pace == Braking::Stopped).count();
        assert!((5900..=6000).contains(&stopped), "{stopped}");
        assert!(!stage.brake.is_stopped(stage.now));
        let _armed = arm_mutant("brake-for-ever");
        let mut stage = Stage::new();
        assert_eq!(*stage.pass(90, 12, true).last().unwrap(), Braking::Stopped, "the planted bug");
    }

    #[test]
    fn who_has_measured_nothing_goes_by_the_hour_of_other_weeks_and_without_users_nothing_stops() {
        let (mut brake, mut now) = (Brake::default(), Time(0));
        for _ in 0..500 {
            now = now.plus(Duration::from_millis(10));
            brake.note(now, Duration::from_millis(20));
            assert_eq!(brake.pace(now, None), Braking::Free);
        }
        assert_eq!(brake.pace(now, Some(4000)), Braking::Stopped);
        let later = now.plus(Duration::from_secs(11));
        assert_eq!(brake.pace(later, Some(4000)), Braking::Free);
    }
}

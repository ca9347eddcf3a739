//! A fill at full speed for minutes: the worst put is the longest pause, since one thread puts, and
//! memory and pressure are watched beside it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Done;
use super::fill::Drawn;
use crate::args::One;
use crate::data::{Values, key};
use crate::engine::Store;
use crate::host;
use crate::recorder::Recorder;

/// How many times more keys than in the other workloads, so that levels fill up.
const MORE_KEYS: u64 = 5;
/// A put that takes longer is looked at.
const LONG: Duration = Duration::from_millis(5);
/// How often the pressure is asked for.
const WATCH: Duration = Duration::from_millis(5);

pub(super) fn fill(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| highest_pressure(store, &over));
        let done = puts(one, store);
        over.store(true, Ordering::Release);
        let pressure = watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
        done.map(|done| Done { pressure, ..done })
    })
}

/// Tells pauses of the engine from those in which the thread waited for a processor.
struct Pauses {
    /// How long it had waited when that was last asked.
    waited: Duration,
    longest: Duration,
}

impl Pauses {
    fn start() -> Self {
        Self { waited: host::waited_for_processor(), longest: Duration::ZERO }
    }

    /// A put has taken so long: at least what is left of it without all waits since the last look
    /// was a pause of the engine or the disk.
    fn note(&mut self, took: Duration) {
        let before = std::mem::replace(&mut self.waited, host::waited_for_processor());
        let waited = self.waited.saturating_sub(before);
        self.longest = self.longest.max(took.saturating_sub(waited));
    }
}

fn puts(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let bound = one.entries() * MORE_KEYS;
    let length = Duration::from_secs_f64(one.minutes * 60.0);
    let mut rng = fastrand::Rng::with_seed(one.seed);
    let mut values = Values::new(one.size, one.seed);
    let mut drawn = Drawn::new(bound);
    let mut operations = 0;
    let begin = Instant::now();
    let mut latencies = Recorder::start();
    let mut pauses = Pauses::start();
    while operations % 256 != 0 || begin.elapsed() < length {
        let number = rng.u64(0..bound);
        store.put(&key(number), values.next())?;
        let took = latencies.lap();
        if took >= LONG {
            pauses.note(took);
            latencies.skip();
        }
        drawn.add(number);
        operations += 1;
        if operations % 256 == 0 {
            pauses.note(Duration::ZERO);
        }
    }
    let longest = pauses.longest.as_secs_f64() * 1000.0;
    eprintln!("the longest pause without waits for a processor: {longest:.1} ms");
    let seconds = begin.elapsed().as_secs_f64();
    let user_bytes = operations * one.size.pair_bytes();
    Ok(Done { operations, seconds, latencies, user_bytes, live: drawn.count(), pressure: None })
}

fn highest_pressure(store: &dyn Store, over: &AtomicBool) -> Option<f64> {
    let mut highest = store.pressure()?;
    while !over.load(Ordering::Acquire) {
        highest = highest.max(store.pressure().unwrap_or(0.0));
        std::thread::sleep(WATCH);
    }
    Some(highest)
}

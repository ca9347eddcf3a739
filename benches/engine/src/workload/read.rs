//! Gets, multi-gets and scans, of a store whose tables are settled. What is not found although it
//! is there, or found although it is not, ends the benchmark.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Done, Workload};
use crate::args::One;
use crate::data::{Values, key, missing_key};
use crate::engine::Store;
use crate::recorder::Recorder;

const GETS: u64 = 300_000;
/// Cheaper, so there must be more of them to measure.
const MISSES: u64 = 1_000_000;
const SCANS: u64 = 30_000;
/// Pairs of a scan, and keys of a multi-get.
const TOGETHER: usize = 100;
/// Puts a second beside the gets.
const PUTS_A_SECOND: u32 = 20_000;

fn scaled(one: &One, count: u64) -> u64 {
    if one.quick { count / 5 } else { count }
}

fn done(operations: u64, begin: Instant, latencies: Recorder) -> Done {
    let seconds = begin.elapsed().as_secs_f64();
    Done { operations, seconds, latencies, user_bytes: 0, live: 0, pressure: None }
}

pub(super) fn get(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let missing = one.workload == Workload::ReadMissing;
    let operations = scaled(one, if missing { MISSES } else { GETS });
    let mut rng = fastrand::Rng::with_seed(one.seed);
    let begin = Instant::now();
    let mut latencies = Recorder::start();
    for _ in 0..operations {
        let number = rng.u64(0..one.entries());
        if missing {
            let found = store.get(&missing_key(number))?;
            anyhow::ensure!(found.is_none(), "a key was found that is not there");
        } else {
            let found = store.get(&key(number))?;
            anyhow::ensure!(found == Some(one.size.value_bytes()), "a value is lost");
        }
        latencies.lap();
    }
    Ok(done(operations, begin, latencies))
}

/// An operation is a key, a latency that of a call.
pub(super) fn multi_get(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let calls = scaled(one, GETS) / TOGETHER as u64;
    let mut rng = fastrand::Rng::with_seed(one.seed);
    let mut keys = vec![key(0); TOGETHER];
    let begin = Instant::now();
    let mut latencies = Recorder::start();
    for _ in 0..calls {
        keys.fill_with(|| key(rng.u64(0..one.entries())));
        latencies.skip();
        anyhow::ensure!(store.multi_get(&keys)? == TOGETHER, "a value is lost");
        latencies.lap();
    }
    Ok(done(calls * TOGETHER as u64, begin, latencies))
}

pub(super) fn scan(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let operations = scaled(one, SCANS);
    let last = one.entries() - TOGETHER as u64;
    let mut rng = fastrand::Rng::with_seed(one.seed);
    let begin = Instant::now();
    let mut latencies = Recorder::start();
    for _ in 0..operations {
        let (pairs, bytes) = store.scan(&key(rng.u64(0..=last)), TOGETHER)?;
        let whole = pairs == TOGETHER && bytes == TOGETHER * one.size.value_bytes();
        anyhow::ensure!(whole, "a scan of {TOGETHER} pairs gave {pairs} with {bytes} bytes");
        latencies.lap();
    }
    Ok(done(operations, begin, latencies))
}

/// Gets are counted; the CPU is that of gets and puts together.
pub(super) fn while_writing(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let operations = 2 * scaled(one, GETS);
    let over = AtomicBool::new(false);
    let mut rng = fastrand::Rng::with_seed(one.seed);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_steadily(one, store, &over));
        let begin = Instant::now();
        let mut latencies = Recorder::start();
        let mut lost = false;
        for _ in 0..operations {
            lost |= store.get(&key(rng.u64(0..one.entries())))?.is_none();
            latencies.lap();
        }
        let done = done(operations, begin, latencies);
        over.store(true, Ordering::Release);
        let puts = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        anyhow::ensure!(!lost, "a value is lost");
        let wanted = done.seconds * f64::from(PUTS_A_SECOND);
        if (puts as f64) < 0.9 * wanted {
            eprintln!("{}: {puts} puts of {wanted:.0} were made beside gets", one.engine.name());
        }
        Ok(done)
    })
}

/// Puts at an even rate until it is over; returns how many.
fn write_steadily(one: &One, store: &dyn Store, over: &AtomicBool) -> anyhow::Result<u64> {
    let mut rng = fastrand::Rng::with_seed(one.seed + 1);
    let mut values = Values::new(one.size, one.seed);
    let begin = Instant::now();
    let mut puts = 0;
    while !over.load(Ordering::Acquire) {
        let due = begin.elapsed().as_secs_f64() * f64::from(PUTS_A_SECOND);
        while (puts as f64) < due {
            store.put(&key(rng.u64(0..one.entries())), values.next())?;
            puts += 1;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(puts)
}

//! Puts that are on disk before they are acknowledged, by one thread and by many.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::Done;
use crate::args::One;
use crate::data::{Values, key};
use crate::engine::Store;
use crate::recorder::Recorder;

/// Puts of all threads together for each thread, and how long they may take on a slow disk.
const PUTS_OF_A_THREAD: u64 = 8_000;
const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn fill(one: &One, store: &dyn Store, threads: u64) -> anyhow::Result<Done> {
    let all = Barrier::new(usize::try_from(threads)?);
    let begin = Instant::now();
    let results: Vec<_> = std::thread::scope(|scope| {
        let all = &all;
        let started = (0..threads).map(|thread| scope.spawn(move || puts(one, store, thread, all)));
        let started: Vec<_> = started.collect();
        started.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let seconds = begin.elapsed().as_secs_f64();
    let mut latencies = Recorder::start();
    let mut operations = 0;
    for result in results {
        let (count, recorder) = result.map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        operations += count;
        latencies.add(&recorder);
    }
    let user_bytes = operations * one.size.pair_bytes();
    Ok(Done { operations, seconds, latencies, user_bytes, live: 0, pressure: None })
}

fn puts(
    one: &One,
    store: &dyn Store,
    thread: u64,
    all: &Barrier,
) -> anyhow::Result<(u64, Recorder)> {
    let mut rng = fastrand::Rng::with_seed(one.seed * 1000 + thread);
    let mut values = Values::new(one.size, one.seed + thread);
    let puts = PUTS_OF_A_THREAD / if one.quick { 8 } else { 1 };
    all.wait();
    let begin = Instant::now();
    let mut latencies = Recorder::start();
    let mut made = 0;
    while made < puts && begin.elapsed() < LIMIT {
        store.put(&key(rng.u64(0..one.entries())), values.next())?;
        latencies.lap();
        made += 1;
    }
    Ok((made, latencies))
}

//! Reads before writes, and deletes.

use std::time::Instant;

use super::Done;
use super::fill::Drawn;
use crate::args::One;
use crate::data::{KEY_BYTES, Values, key};
use crate::engine::Store;
use crate::recorder::Recorder;

/// A get and a put of the same key, as a replica's write: half as many as there are keys.
pub(super) fn update(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let (entries, operations) = (one.entries(), one.entries() / 2);
    let mut rng = fastrand::Rng::with_seed(one.seed);
    let mut values = Values::new(one.size, one.seed);
    let begin = Instant::now();
    let mut latencies = Recorder::start();
    for _ in 0..operations {
        let key = key(rng.u64(0..entries));
        anyhow::ensure!(store.get(&key)?.is_some(), "a key is lost");
        store.put(&key, values.next())?;
        latencies.lap();
    }
    let seconds = begin.elapsed().as_secs_f64();
    let user_bytes = operations * one.size.pair_bytes();
    Ok(Done { operations, seconds, latencies, user_bytes, live: entries, pressure: None })
}

/// Deletes of random keys, some of them again: half as many as there are keys.
pub(super) fn delete(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let (entries, operations) = (one.entries(), one.entries() / 2);
    let mut rng = fastrand::Rng::with_seed(one.seed);
    let mut drawn = Drawn::new(entries);
    let begin = Instant::now();
    let mut latencies = Recorder::start();
    for _ in 0..operations {
        let number = rng.u64(0..entries);
        store.delete(&key(number))?;
        latencies.lap();
        drawn.add(number);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let user_bytes = operations * KEY_BYTES as u64;
    let live = entries - drawn.count();
    Ok(Done { operations, seconds, latencies, user_bytes, live, pressure: None })
}

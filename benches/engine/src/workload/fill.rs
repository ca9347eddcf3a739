//! Puts, one by one or in batches.

use std::time::Instant;

use super::{Done, Workload};
use crate::args::One;
use crate::data::{KEY_BYTES, Permutation, Values, key};
use crate::engine::Store;
use crate::recorder::Recorder;

/// Writes in a batch.
const BATCH: u64 = 100;

/// Which of some numbers were drawn.
pub(super) struct Drawn {
    words: Vec<u64>,
    count: u64,
}

impl Drawn {
    pub(super) fn new(bound: u64) -> Self {
        Self { words: vec![0; usize::try_from(bound / 64 + 1).unwrap_or(0)], count: 0 }
    }

    pub(super) fn add(&mut self, n: u64) {
        let word = usize::try_from(n / 64).ok().and_then(|at| self.words.get_mut(at));
        if let Some(word) = word {
            self.count += u64::from(*word >> (n % 64) & 1 == 0);
            *word |= 1 << (n % 64);
        }
    }

    /// How many different ones.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// Puts into an empty store.
pub(super) fn fill(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let entries = one.entries();
    let mut rng = fastrand::Rng::with_seed(one.seed);
    match one.workload {
        Workload::FillSeq => puts(one, store, 0..entries),
        Workload::FillRandom => puts(one, store, (0..entries).map(|_| rng.u64(0..entries))),
        _ => puts(one, store, Permutation::new(entries, one.seed)),
    }
}

/// Puts into a store that has all the keys.
pub(super) fn overwrite(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let entries = one.entries();
    let mut rng = fastrand::Rng::with_seed(one.seed);
    let mut done = puts(one, store, (0..entries).map(|_| rng.u64(0..entries)))?;
    done.live = entries;
    Ok(done)
}

fn puts(one: &One, store: &dyn Store, numbers: impl Iterator<Item = u64>) -> anyhow::Result<Done> {
    let mut values = Values::new(one.size, one.seed);
    let mut drawn = Drawn::new(one.entries());
    let mut operations = 0;
    let begin = Instant::now();
    let mut latencies = Recorder::start();
    for number in numbers {
        store.put(&key(number), values.next())?;
        latencies.lap();
        drawn.add(number);
        operations += 1;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let user_bytes = operations * one.size.pair_bytes();
    Ok(Done { operations, seconds, latencies, user_bytes, live: drawn.count(), pressure: None })
}

/// Batches into a store that has all the keys. A latency is that of a batch.
pub(super) fn batches(one: &One, store: &dyn Store) -> anyhow::Result<Done> {
    let entries = one.entries();
    let mut rng = fastrand::Rng::with_seed(one.seed);
    let mut values = Values::new(one.size, one.seed);
    let empty = ([0; KEY_BYTES], vec![0; one.size.value_bytes()]);
    let mut pairs = vec![empty; usize::try_from(BATCH)?];
    let begin = Instant::now();
    let mut latencies = Recorder::start();
    for _ in 0..entries / BATCH {
        for (place, value) in &mut pairs {
            *place = key(rng.u64(0..entries));
            value.copy_from_slice(values.next());
        }
        latencies.skip();
        store.put_batch(&pairs)?;
        latencies.lap();
    }
    let seconds = begin.elapsed().as_secs_f64();
    let operations = entries / BATCH * BATCH;
    let user_bytes = operations * one.size.pair_bytes();
    Ok(Done { operations, seconds, latencies, user_bytes, live: entries, pressure: None })
}

#[cfg(test)]
mod tests {
    use super::Drawn;

    #[test]
    fn a_number_drawn_twice_counts_once() {
        let mut drawn = Drawn::new(130);
        for n in [0, 63, 64, 129, 64, 0] {
            drawn.add(n);
        }
        assert_eq!(drawn.count(), 4);
    }
}

//! Opening a store after a crash: how long until the first answer.

use std::time::Instant;

use super::{Done, Workload};
use crate::args::One;
use crate::data::{Permutation, Values, key};
use crate::engine::{self, Settings, Store};
use crate::host;
use crate::recorder::Recorder;

/// Puts that are in the log alone.
const IN_THE_LOG: u64 = 200_000;
/// Bytes of keys and values before the crash of `reopen1g`.
const GIBIBYTE: u64 = 1 << 30;
/// How many keys are looked for after it.
const LOOKED_FOR: u64 = 1000;

/// The keys that were put before the crash, in their order.
fn numbers(one: &One) -> Permutation {
    let scale = if one.quick { 10 } else { 1 };
    let count = match one.workload {
        Workload::Reopen1g => GIBIBYTE / one.size.pair_bytes(),
        _ => IN_THE_LOG,
    };
    Permutation::new(count / scale, one.seed)
}

pub(super) fn prepare(one: &One, store: &dyn Store) -> anyhow::Result<()> {
    let mut values = Values::new(one.size, one.seed);
    numbers(one).try_for_each(|number| store.put(&key(number), values.next()))
}

/// An operation is an entry put before the crash. With the CPU time in seconds.
pub(super) fn measure(
    one: &One,
    settings: Settings,
) -> anyhow::Result<(Done, Box<dyn Store>, f64)> {
    let numbers: Vec<u64> = numbers(one).collect();
    let last = numbers.last().copied().unwrap_or(0);
    let cpu = host::cpu();
    let mut latencies = Recorder::start();
    let begin = Instant::now();
    let store = engine::open(one.engine, &one.dir, settings)?;
    let found = store.get(&key(last))?;
    let seconds = begin.elapsed().as_secs_f64();
    latencies.lap();
    let cpu = (host::cpu() - cpu).as_secs_f64();
    anyhow::ensure!(found == Some(one.size.value_bytes()), "the last put is lost");
    for number in numbers.iter().rev().step_by(numbers.len() / LOOKED_FOR as usize) {
        anyhow::ensure!(store.get(&key(*number))?.is_some(), "a put is lost");
    }
    let operations = numbers.len() as u64;
    let done = Done { operations, seconds, latencies, user_bytes: 0, live: 0, pressure: None };
    Ok((done, store, cpu))
}

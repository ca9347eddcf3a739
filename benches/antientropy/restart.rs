//! How soon a store has its trees again after a kill, and what it costs to keep them on file.

use std::fmt::Write;
use std::time::Duration;

use roundtable::message::DiskRequest;

use crate::store::{Store, UNITS};

/// How often each way is opened: the median counts.
const RUNS: usize = 5;
/// One in so many keys is written between two flushes.
const SHARE: u64 = 10;

fn median(mut runs: Vec<[Duration; 2]>) -> [f64; 2] {
    [0, 1].map(|which| {
        runs.sort_by_key(|run| run[which]);
        runs[runs.len() / 2][which].as_secs_f64() * 1e3
    })
}

/// What one flush puts on file.
fn flushed(store: &Store, what: &str, numbers: impl Iterator<Item = u64>, time: u64) -> String {
    let before = store.replica().tree_facts().file_written;
    let engine = store.replica().stats().flush_bytes_written;
    let mut count = 0;
    store.write(numbers.inspect(|_| count += 1), time);
    store.settle();
    store.ask(DiskRequest::Flush);
    let facts = store.replica().tree_facts();
    let (trees, tables) =
        (facts.file_written - before, store.replica().stats().flush_bytes_written - engine);
    format!(
        "flush of {count:7} {what}: trees {:6} KiB, tables {:6} KiB; file {:6} KiB, {} leaves\n",
        trees / 1024,
        tables / 1024,
        facts.file_bytes / 1024,
        facts.leaves,
    )
}

/// A store with so many keys, of which the last tenth is in the log alone.
pub(crate) fn run(keys: u64) -> String {
    let mut store = Store::new("restart");
    store.write(0..keys, 1);
    store.settle();
    store.ask(DiskRequest::Flush);
    let mut text = String::new();
    let some = keys / SHARE;
    text += &flushed(&store, "of all keys, at random", (0..some).map(|n| n * SHARE + n % SHARE), 2);
    text += &flushed(&store, "of one unit", (0..some).map(|n| n % (keys / UNITS) * UNITS), 3);
    text += &flushed(&store, "that were written", (0..10).map(|n| n * UNITS), 4);
    store.write((0..some).map(|n| n * SHARE + (n + 1) % SHARE), 5);
    store.settle();
    for (what, has_trees) in [("as they were on file", true), ("built by scan", false)] {
        let mut runs = Vec::new();
        for run in 0..RUNS {
            runs.push(store.killed(has_trees));
            if !has_trees {
                // There has to be one to take away the next time.
                store.write(0..1, 6 + run as u64);
                store.ask(DiskRequest::Flush);
            }
        }
        let facts = store.replica().tree_facts();
        let [opened, there] = median(runs);
        let _written = writeln!(
            text,
            "{keys} keys, killed, trees {what}: open after {opened:.0} ms, all comparable after {there:.0} ms; \
             {} taken, {} entries replayed, {} built",
            facts.taken, facts.replayed, facts.built,
        );
    }
    text
}

//! Crashes at every call to the disk, with every unsynced sector kept, lost or torn (I9, I10).

use crate::harness::{calls_of, crash_runs, merges_of};

const SCRIPTS: u64 = 12;

fn runs_wanted() -> u64 {
    std::env::var("KVD_CRASH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(10_000)
}

#[test]
fn every_crash_leaves_a_prefix_with_every_acknowledged_batch() {
    let wanted = runs_wanted();
    let (failures, runs) = crash_runs(SCRIPTS, wanted);
    let calls: u64 = (0..SCRIPTS).map(calls_of).sum();
    println!("{runs} crash runs at {calls} distinct calls, {} failures", failures.len());
    assert!(runs >= wanted);
    assert!(failures.is_empty(), "{} of {runs}: {}", failures.len(), failures[0]);
}

#[test]
fn scripts_are_long_enough_to_rotate_flush_compact_and_reopen() {
    // If this shrinks, the crash runs above have become shallow.
    assert!((0..SCRIPTS).map(calls_of).sum::<u64>() > 1_200);
    let merges: u64 = (0..SCRIPTS).map(merges_of).sum();
    println!("{merges} compactions in the last lives of the scripts");
    assert!(merges > 20);
}

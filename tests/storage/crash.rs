//! Crashes at every call to the disk, with every unsynced sector kept, lost or torn (I9, I10).

use crate::harness::{calls_of, crash_runs};

fn runs_wanted() -> u64 {
    std::env::var("KVD_CRASH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(3_000)
}

#[test]
fn every_crash_leaves_a_prefix_with_every_acknowledged_batch() {
    let wanted = runs_wanted();
    let (failures, runs) = crash_runs(12, wanted);
    println!("{runs} crash runs, {} failures", failures.len());
    assert!(runs >= wanted);
    assert!(failures.is_empty(), "{} of {runs}: {}", failures.len(), failures[0]);
}

#[test]
fn scripts_are_long_enough_to_rotate_flush_and_reopen() {
    // If this shrinks, the crash runs above have become shallow.
    assert!((0..12).map(calls_of).sum::<u64>() > 1_200);
}

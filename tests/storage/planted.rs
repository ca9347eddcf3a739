//! The suite itself is tested: with each planted bug armed, the crash harness must fire.

use roundtable::testing::arm_mutant;

use crate::harness::crash_runs;

fn fires(mutant: &'static str) {
    let _armed = arm_mutant(mutant);
    let (failures, runs) = crash_runs(12, 1);
    println!("{mutant}: {} of {runs} crash runs fail, e.g. {:?}", failures.len(), failures.first());
    assert!(!failures.is_empty(), "{mutant} was not caught in {runs} crash runs");
}

#[test]
fn acknowledging_before_the_sync_is_caught() {
    fires("storage-ack-before-fsync");
}

#[test]
fn forgetting_to_sync_the_directory_is_caught() {
    fires("storage-no-dir-sync");
}

#[test]
fn dropping_the_log_before_the_manifest_is_caught() {
    fires("storage-drop-wal-before-manifest");
}

#[test]
fn an_unsynced_manifest_is_caught() {
    fires("storage-manifest-unsynced");
}

#[test]
fn a_filter_that_denies_a_key_it_holds_is_caught() {
    fires("storage-filter-false-negative");
}

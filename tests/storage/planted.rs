//! The suite itself is tested: with each planted bug armed, the crash harness must fire.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roundtable::storage::{
    Batch, Direction, Durability, Engine, Error, MemoryVfs, Options, ThreadMode,
};
use roundtable::testing::arm_mutant;

use crate::blobs::{a_reference_to_another_key_is_noticed, an_exchanged_blob_file_is_noticed};
use crate::crash::crash_runs;
use crate::damage::flips;
use crate::exchange::{damage_is_refused, hidden_by_deletes};
use crate::faults::fault_runs;
use crate::metamorphic::failing_stream;
use crate::shapes::{a_delete_in_a_newer_table_hides_a_put, exchanged_blocks_are_noticed};

fn fires(mutant: &'static str) {
    let _armed = arm_mutant(mutant);
    let (failures, runs) = crash_runs(12, 1);
    println!("{mutant}: caught in crash run {runs}: {:?}", failures.first());
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
fn dropping_a_tombstone_that_still_hides_something_is_caught() {
    fires("storage-compaction-drops-tombstone-early");
}

#[test]
fn keeping_the_older_version_in_a_compaction_is_caught() {
    fires("storage-compaction-keeps-older");
}

#[test]
fn unlinking_inputs_before_the_manifest_is_caught() {
    fires("storage-unlink-before-manifest");
}

#[test]
fn a_filter_that_denies_a_key_it_holds_is_caught() {
    fires("storage-filter-false-negative");
}

/// Whether a range over tables of level 0 that meet gives every key once, in order and newest.
fn level_0_is_read_right() -> bool {
    let options = Options { threads: ThreadMode::Inline, l0_trigger: 100, ..Options::default() };
    let disk = Arc::new(MemoryVfs::default());
    let (engine, _) = Engine::open(disk, Path::new("db"), options).unwrap();
    for round in 0..3u8 {
        let mut batch = Batch::new();
        (0..20u8).for_each(|key| batch.put(&[key + round * 10], &[round]));
        engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
        engine.flush().unwrap();
    }
    let pairs = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    let pairs = pairs.map(|pair| pair.map(|(key, value, _)| (key[0], value[0])).unwrap());
    pairs.take(100).eq((0..40).map(|key| (key, (key / 10).min(2))))
}

#[test]
fn a_layer_of_level_0_whose_tables_meet_is_caught() {
    assert!(level_0_is_read_right());
    let _armed = arm_mutant("storage-layers-overlap");
    assert!(!level_0_is_read_right());
}

#[test]
fn a_range_delete_that_hides_later_writes_is_caught() {
    fires("storage-range-delete-hides-later-writes");
}

#[test]
fn a_range_delete_that_the_tables_are_not_asked_about_is_caught() {
    fires("storage-range-delete-forgotten-in-tables");
}

#[test]
fn a_range_delete_that_is_lost_at_its_flush_is_caught() {
    fires("storage-range-delete-lost-at-flush");
}

#[test]
fn a_merge_that_keeps_what_a_deleted_range_hides_is_caught() {
    fires("storage-compaction-keeps-deleted-range");
}

#[test]
fn a_filter_that_forgets_deletes_is_caught() {
    assert!(a_delete_in_a_newer_table_hides_a_put());
    let _armed = arm_mutant("storage-filter-without-deletes");
    assert!(!a_delete_in_a_newer_table_hides_a_put());
}

#[test]
fn believing_a_compressed_block_wherever_it_stands_is_caught() {
    assert!(exchanged_blocks_are_noticed());
    let _armed = arm_mutant("storage-compressed-unsalted");
    assert!(!exchanged_blocks_are_noticed());
}

#[test]
fn a_checkpoint_without_what_is_in_memory_is_caught() {
    fires("storage-checkpoint-without-memory");
}

#[test]
fn an_ingestion_without_verification_is_caught() {
    let _armed = arm_mutant("storage-ingest-unverified");
    assert!(!damage_is_refused());
}

#[test]
fn an_ingestion_below_what_hides_it_is_caught() {
    let _armed = arm_mutant("storage-ingest-below-deletes");
    assert!(hidden_by_deletes() > 0);
}

#[test]
fn an_ingestion_that_is_told_before_the_manifest_is_caught() {
    fires("storage-ingest-before-manifest");
}

fn fires_on_faults(mutant: &'static str) {
    let _armed = arm_mutant(mutant);
    let (failures, runs) = fault_runs(160, 1);
    println!("{mutant}: caught in fault run {runs}: {:?}", failures.first());
    assert!(!failures.is_empty(), "{mutant} was not caught in {runs} fault runs");
}

#[test]
fn believing_a_sync_after_a_failed_one_is_caught() {
    fires_on_faults("storage-reuse-after-failed-sync");
}

#[test]
fn believing_what_the_kernel_shows_after_a_failed_sync_is_caught() {
    fires_on_faults("storage-trust-unsynced-tail");
}

#[test]
fn an_unsynced_current_is_caught() {
    fires("storage-current-unsynced");
}

#[test]
fn stopping_at_damage_in_the_middle_of_the_log_is_caught() {
    let _armed = arm_mutant("storage-stop-at-corrupt-middle");
    assert!(!flips(".wal", 1).is_empty());
}

#[test]
fn believing_blocks_unchecked_is_caught() {
    let _armed = arm_mutant("storage-no-block-checksum");
    assert!(!flips(".sst", 1).is_empty());
}

#[test]
fn a_blob_file_that_the_manifest_names_unsynced_is_caught() {
    fires("storage-blob-unsynced");
}

#[test]
fn believing_a_value_in_whichever_blob_file_it_stands_is_caught() {
    assert!(an_exchanged_blob_file_is_noticed());
    let _armed = arm_mutant("storage-blob-unsalted");
    assert!(!an_exchanged_blob_file_is_noticed());
}

#[test]
fn believing_a_value_of_another_key_is_caught() {
    assert!(a_reference_to_another_key_is_noticed());
    let _armed = arm_mutant("storage-blob-key-unchecked");
    assert!(!a_reference_to_another_key_is_noticed());
}

#[test]
fn leaving_a_refused_group_in_the_log_is_caught() {
    fires_on_faults("storage-full-leaves-tail");
}

#[test]
fn losing_an_entry_in_a_flush_is_caught_before_the_table_is_in_force() {
    let flushed = || {
        let options = Options { threads: ThreadMode::Inline, ..Options::default() };
        let disk = Arc::new(MemoryVfs::default());
        let (engine, _) = Engine::open(disk, Path::new("db"), options).unwrap();
        let mut batch = Batch::new();
        (0..10u8).for_each(|key| batch.put(&[key], b"value"));
        engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
        (engine.flush(), engine)
    };
    let (result, engine) = flushed();
    assert!(result.is_ok() && engine.stats().levels[0].entries == 10);
    let _armed = arm_mutant("storage-flush-loses-entry");
    let (result, engine) = flushed();
    assert!(matches!(result, Err(Error::ReadOnly { .. })), "{result:?}");
    // The log and the memtable still have it all.
    assert_eq!(engine.stats().tables, 0);
    assert!((0..10u8).all(|key| engine.get(&[key]).unwrap().is_some()));
}

/// Merges tables in which keys have several versions. Returns what was said when an invariant broke,
/// and the disk.
fn merged() -> (Option<String>, MemoryVfs) {
    let options = Options { threads: ThreadMode::Inline, l0_trigger: 100, ..Options::default() };
    let disk = MemoryVfs::default();
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new("db"), options).unwrap();
    let mut batch = Batch::new();
    // A table that has no part in the merge.
    (200..210u8).for_each(|key| batch.put(&[key], &[key; 20]));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    engine.compact().unwrap();
    for round in 0..4u8 {
        let mut batch = Batch::new();
        (0..20u8).for_each(|key| batch.put(&[key + round * 10], &[round; 20]));
        engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
        engine.flush().unwrap();
    }
    let compacted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.compact()));
    let said = compacted.map(|result| result.unwrap()).err();
    let text = said.map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default());
    (text, disk)
}

/// Whether what the disk holds is what was written, whatever became of the merge.
fn all_there(disk: MemoryVfs) -> bool {
    let options = Options { threads: ThreadMode::Inline, ..Options::default() };
    let (engine, _) = Engine::open(Arc::new(disk), Path::new("db"), options).unwrap();
    let right = |key: u8| {
        let newest = (key / 10).min(3);
        engine.get(&[key]).unwrap().is_some_and(|(value, _)| value == vec![newest; 20])
    };
    let beside = (200..210u8).all(|key| engine.get(&[key]).unwrap().is_some());
    beside && (0..50).all(right) && engine.get(&[50]).unwrap().is_none()
}

#[test]
fn an_edit_that_forgets_a_table_is_caught_before_it_is_in_force() {
    let (said, disk) = merged();
    assert!(said.is_none() && all_there(disk));
    let _armed = arm_mutant("storage-edit-forgets-table");
    let (said, disk) = merged();
    assert!(said.is_some_and(|said| said.contains("accounts for every entry")));
    assert!(all_there(disk));
}

#[test]
fn a_cut_inside_the_versions_of_a_key_is_caught_before_it_is_in_force() {
    let _armed = arm_mutant("storage-cut-inside-versions");
    let (said, disk) = merged();
    assert!(said.is_some_and(|said| said.contains("keeps the order of the levels")));
    assert!(all_there(disk));
}

#[test]
fn replaying_what_another_log_has_left_in_a_file_is_caught() {
    fires("storage-replays-recycled-log");
}

#[test]
fn going_on_behind_a_segment_that_lacks_its_end_is_caught() {
    fires("storage-log-goes-on-behind-a-gap");
}

fn fires_on_streams(mutant: &'static str) {
    let _armed = arm_mutant(mutant);
    let caught = failing_stream(400);
    println!("{mutant}: caught by stream {caught:?}");
    assert!(caught.is_some(), "{mutant} was not caught");
}

#[test]
fn a_filter_that_uncovers_what_is_older_is_caught() {
    fires_on_streams("storage-filter-uncovers-older");
}

fn texts(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// Each planted bug of the engine has its test here or beside the code, and its row in the book.
#[test]
fn every_planted_bug_is_armed_somewhere_and_recorded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut engine, mut all) = (Vec::new(), Vec::new());
    texts(&root.join("src/storage"), &mut engine);
    texts(&root.join("tests/storage"), &mut all);
    all.extend(engine.iter().cloned());
    let book = std::fs::read_to_string(root.join("docs/testing.md")).unwrap();
    let named = engine.iter().flat_map(|(_, text)| text.split("mutant!(\"").skip(1));
    let named: BTreeSet<&str> = named.filter_map(|rest| rest.split('"').next()).collect();
    assert!(named.len() > 20, "{named:?}");
    for mutant in named {
        let arms = format!("(\"{mutant}\")");
        let planted = format!("mutant!{arms}");
        let armed = all.iter().any(|(_, text)| text.replace(&planted, "").contains(&arms));
        assert!(armed, "nothing arms {mutant}");
        assert!(book.contains(&format!("`{mutant}`")), "docs/testing.md does not know {mutant}");
    }
}

//! A scrub reads everything, a piece at a time, and finds what nobody has met.

use std::path::Path;

use fastrand::Rng;
use roundtable::storage::{Engine, FaultyVfs, ScrubPlace, check};
use roundtable::testing::arm_mutant;

use crate::damage::{of_kind, open, store};
use crate::harness::{DIR, dump};

/// Goes through everything; returns how many pieces that took.
fn scrub(engine: &Engine, budget: u64) -> usize {
    let (mut place, mut pieces) = (ScrubPlace::default(), 0);
    loop {
        let piece = engine.scrub(place, budget);
        assert!(piece.done <= piece.total);
        pieces += 1;
        match piece.next {
            Some(next) => {
                assert!(next > place, "it goes on");
                place = next;
            }
            None => return pieces,
        }
    }
}

/// The flips of one kind of file that a scrub does not find though reading everything does.
fn unnoticed(ending: &str, stride: usize) -> Vec<String> {
    let disk = store();
    let mut rng = Rng::with_seed(5);
    let mut failures = Vec::new();
    for path in of_kind(&disk, ending) {
        for byte in (0..disk.content(&path).unwrap().len()).step_by(stride) {
            let damaged = disk.fork(0);
            let (engine, _) = open(&damaged).unwrap();
            // What is in memory hides nothing.
            dump(&engine).unwrap();
            assert!(damaged.flip_bit(&path, byte, rng.u8(..8)));
            scrub(&engine, 300);
            let found = engine.damage();
            let is_bad = !engine.verify().errors.is_empty();
            if is_bad && found.is_empty() {
                failures.push(format!("{} byte {byte}", path.display()));
            }
        }
    }
    failures
}

#[test]
fn whatever_is_damaged_in_a_table_is_found() {
    assert_eq!(unnoticed(".sst", 5), Vec::<String>::new());
    let _armed = arm_mutant("storage-scrub-reads-cache");
    assert_ne!(unnoticed(".sst", 61), Vec::<String>::new());
}

#[test]
fn a_value_in_force_that_is_damaged_is_found() {
    let disk = store();
    for path in of_kind(&disk, ".blob") {
        let bytes = disk.content(&path).unwrap();
        let damaged = disk.fork(0);
        let (engine, _) = open(&damaged).unwrap();
        (0..bytes.len()).step_by(20).for_each(|byte| assert!(damaged.flip_bit(&path, byte, 1)));
        scrub(&engine, 1 << 20);
        assert!(!engine.damage().is_empty(), "{}", path.display());
    }
}

#[test]
fn pieces_are_as_small_as_asked() {
    let (engine, _) = open(&store()).unwrap();
    let few = scrub(&engine, u64::MAX);
    assert!(scrub(&engine, 200) > few + 5);
    assert!(engine.damage().is_empty());
}

/// Damages a file of the running store, scrubs, crashes, and looks whether anything is left of it.
fn is_sound_after(ending: &str) -> bool {
    let disk: FaultyVfs = store();
    let (engine, _) = open(&disk).unwrap();
    let path = of_kind(&disk, ending).pop().unwrap();
    let middle = disk.content(&path).unwrap().len() / 2;
    assert!(disk.flip_bit(&path, middle, 3));
    scrub(&engine, u64::MAX);
    while engine.step() {}
    engine.close().unwrap();
    check(&disk, Path::new(DIR)).unwrap().faults.is_empty()
}

#[test]
fn what_memory_has_is_written_anew() {
    assert!(is_sound_after("MANIFEST"));
}

//! Getting rid of damage (I11): what cannot be read is told with the keys that may be lost, and goes
//! when these are deleted. Nothing else is touched.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use roundtable::storage::{
    Batch, Damage, Direction, Durability, Engine, Error, FaultyVfs, KeyRange, MemoryVfs, Options,
    ThreadMode, check,
};
use roundtable::testing::arm_mutant;

use crate::damage::{BATCHES, of_kind, open, pairs, store};
use crate::harness::{DIR, State};

fn write(engine: &Engine, batch: Batch) {
    let done = Box::new(|result: Result<_, Error>| assert!(result.is_ok()));
    engine.submit(batch, Durability::Synced, done).unwrap();
    while engine.step() {}
}

/// Reads everything in all ways, so that all damage is met.
fn meet(engine: &Engine, keys: &State) {
    for key in keys.keys() {
        let _found = engine.get(key);
    }
    let mut all = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    while let Some(Ok(_)) = all.next() {}
    let _verified = engine.verify();
}

/// Deletes all that may be lost, until nothing more is told. Returns that.
fn heal(engine: &Engine, keys: &State) -> Result<Vec<KeyRange>, String> {
    let mut lost: Vec<KeyRange> = Vec::new();
    for _ in 0..20 {
        meet(engine, keys);
        let found: Vec<Damage> = engine.damage();
        if found.is_empty() {
            return Ok(lost);
        }
        let mut batch = Batch::new();
        for range in found.iter().flat_map(|damage| &damage.ranges) {
            assert!(!range.is_empty());
            batch.delete_range(range);
            lost.push(range.clone());
        }
        write(engine, batch);
        engine.flush().map_err(|error| format!("flush: {error}"))?;
    }
    Err("it goes on telling".to_owned())
}

/// Damages one byte, heals, and looks whether what is left is right.
fn judge(disk: &FaultyVfs) -> Result<usize, String> {
    let all: State = (1..=BATCHES).flat_map(pairs).collect();
    let engine = match open(disk) {
        Ok((engine, _)) => engine,
        // What says that it is of a later version of the program is not healed.
        Err(Error::Version { .. }) => return Ok(0),
        Err(error) => return Err(format!("does not open: {error}")),
    };
    let lost = heal(&engine, &all)?;
    for (key, value) in &all {
        let is_lost = lost.iter().any(|range| range.contains(key));
        match engine.get(key) {
            Ok(None) if is_lost => {}
            Ok(Some((found, _))) if !is_lost && found == value[..] => {}
            other => return Err(format!("{}: {other:?}", key.escape_ascii())),
        }
    }
    engine.compact().map_err(|error| format!("cannot be merged: {error}"))?;
    let errors = engine.verify().errors;
    engine.close().map_err(|error| error.to_string())?;
    let checked = check(disk, Path::new(DIR)).map_err(|error| error.to_string())?;
    match (errors.as_slice(), checked.faults.as_slice()) {
        ([], []) => Ok(usize::from(!lost.is_empty())),
        faults => Err(format!("is not sound afterwards: {faults:?}")),
    }
}

/// Flips a bit in every `stride`th byte, and returns what went wrong and how often something was lost.
fn flips(ending: &str, stride: usize) -> (Vec<String>, usize) {
    let disk = store();
    let mut rng = Rng::with_seed(11);
    let (mut failures, mut losses) = (Vec::new(), 0);
    for path in of_kind(&disk, ending) {
        for byte in (0..disk.content(&path).unwrap().len()).step_by(stride) {
            let damaged = disk.fork(0);
            assert!(damaged.flip_bit(&path, byte, rng.u8(..8)));
            match judge(&damaged) {
                Ok(lost) => losses += lost,
                Err(error) => failures.push(format!("{} byte {byte}: {error}", path.display())),
            }
        }
    }
    (failures, losses)
}

#[test]
fn a_damaged_table_is_sound_again_when_what_it_may_have_lost_is_deleted() {
    let (failures, losses) = flips(".sst", 7);
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(losses > 100, "{losses}");
}

#[test]
fn a_damaged_blob_file_costs_the_keys_whose_values_stand_there() {
    let (failures, losses) = flips(".blob", 13);
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(losses > 10, "{losses}");
}

#[test]
fn a_table_or_blob_file_that_has_lost_all_its_bytes_is_healed_too() {
    let disk = store();
    for path in [of_kind(&disk, ".sst"), of_kind(&disk, ".blob")].concat() {
        for left in [0, 10] {
            let damaged = disk.fork(0);
            let bytes = disk.content(&path).unwrap();
            damaged.plant(&path, bytes[..left].to_vec());
            assert_eq!(judge(&damaged), Ok(1), "{} cut to {left}", path.display());
        }
    }
}

#[test]
fn keys_that_are_told_short_are_noticed() {
    let _armed = arm_mutant("storage-damage-told-short");
    let (failures, _) = flips(".sst", 97);
    assert!(!failures.is_empty());
}

#[test]
fn a_bad_block_that_is_passed_over_though_it_holds_something_is_noticed() {
    let _armed = arm_mutant("storage-passes-over-damage");
    assert!(!crate::damage::flips(".sst", 31).is_empty());
}

fn plain(engine: &Engine, first: u8) {
    let mut batch = Batch::new();
    for number in 0..200u16 {
        let [high, low] = number.to_be_bytes();
        batch.put(&[first, high, low], &[first; 40]);
    }
    write(engine, batch);
}

fn plain_options() -> Options {
    Options {
        threads: ThreadMode::Inline,
        block_bytes: 512,
        apart: vec![0, 2],
        l0_trigger: 100,
        ..Options::default()
    }
}

#[test]
fn keys_apart_share_no_table_with_others() {
    let disk: Arc<MemoryVfs> = Arc::default();
    let (engine, _) = Engine::open(disk, Path::new(DIR), plain_options()).unwrap();
    for _ in 0..2 {
        (0..4).for_each(|first| plain(&engine, first));
        engine.flush().unwrap();
    }
    assert_eq!(engine.stats().tables, 8);
    engine.compact().unwrap();
    // Keys 1 and 3 are of no such kind: but what is between them is.
    assert_eq!(engine.stats().tables, 4);
}

#[test]
fn what_an_error_of_the_disk_has_hidden_for_a_moment_is_no_damage() {
    let disk = FaultyVfs::new(3);
    let options = Options { block_cache_bytes: 0, ..plain_options() };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    plain(&engine, 1);
    engine.flush().unwrap();
    let path = of_kind(&disk, ".sst").pop().unwrap();
    let byte = 700;
    assert!(disk.flip_bit(&path, byte, 1));
    let all = |engine: &Engine| {
        engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward).all(|it| it.is_ok())
    };
    assert!(!all(&engine) && engine.may_have_damage());
    assert!(disk.flip_bit(&path, byte, 1), "back");
    assert!(engine.damage().is_empty() && !engine.may_have_damage());
    assert!(all(&engine));
}

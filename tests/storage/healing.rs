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

/// A store of one table with a block that does not read, which holds keys of 5 and of 6; 5 was deleted as a whole,
/// and has a pair again.
fn neighbours() -> Engine {
    let disk = FaultyVfs::new(5);
    // Nothing of a block is in memory when it is read for the first time.
    let options = Options { block_cache_bytes: 0, ..plain_options() };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    let mut batch = Batch::new();
    for (first, second) in [(5u8, 1u8), (5, 2), (6, 1), (6, 2)] {
        batch.put(&[first, second], &[first; 20]);
    }
    write(&engine, batch);
    engine.flush().unwrap();
    let path = of_kind(&disk, ".sst").pop().unwrap();
    assert!(disk.flip_bit(&path, 40, 1));
    engine.delete_range(&KeyRange::prefix(&[5])).unwrap();
    let mut batch = Batch::new();
    batch.put(&[5, 3], b"again");
    write(&engine, batch);
    engine
}

#[test]
fn a_bad_block_is_no_loss_to_who_reads_what_was_deleted_of_it() {
    let engine = neighbours();
    for direction in [Direction::Forward, Direction::Reverse] {
        let read = |first: u8| engine.prefix(&[first], direction).collect::<Result<Vec<_>, _>>();
        let found = read(5).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].0[..], &found[0].1[..]), (&[5, 3][..], &b"again"[..]));
        assert!(
            matches!(read(6), Err(Error::Corrupt { .. })),
            "what is not deleted is never absent"
        );
        let bounds = (Bound::Excluded(&[5, 9][..]), Bound::Included(&[6, 1][..]));
        let mut both = engine.range(bounds.0, bounds.1, direction);
        assert!(both.any(|found| found.is_err()), "one end of it is not deleted");
        let mut sought = engine.range(Bound::Unbounded, Bound::Unbounded, direction);
        assert!(sought.any(|found| found.is_err()));
    }
    assert_eq!(engine.get(&[5, 1]).unwrap(), None);
    assert!(engine.get(&[6, 1]).is_err());
    let told: Vec<KeyRange> = engine.damage().into_iter().flat_map(|it| it.ranges).collect();
    assert!(told.iter().all(|range| !range.contains(&[5, 1])), "{told:?}");
    assert!(told.iter().any(|range| range.contains(&[6, 1])), "{told:?}");
}

#[test]
fn a_bad_block_that_holds_up_its_deleted_keys_is_noticed() {
    let engine = neighbours();
    let _armed = arm_mutant("storage-neighbour-in-doubt");
    let read = engine.prefix(&[5], Direction::Forward).collect::<Result<Vec<_>, _>>();
    assert!(matches!(read, Err(Error::Corrupt { .. })));
}

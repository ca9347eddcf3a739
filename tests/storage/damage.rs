//! Damage of every file (I11): an error that names a file or the right answer, never a wrong value
//! and never a key that is silently gone.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use roundtable::storage::{
    Batch, Direction, Durability, Engine, Error, FaultyVfs, Options, Recovery, SyncMode,
    ThreadMode, Vfs,
};

use crate::harness::{DIR, State, Verdict, dump};
use crate::logs::{OPENING, last_log, number_of, records, records_end};

pub(crate) const BATCHES: u64 = 60;
const FLUSHED: u64 = 35;

pub(crate) fn options() -> Options {
    Options {
        memtable_bytes: 3_000,
        wal_segment_bytes: 1_400,
        block_bytes: 128,
        // Several tables are to stay.
        l0_trigger: 100,
        // The keys of their own have values elsewhere, the shared ones have not.
        blob_bytes_min: Some(20),
        blob_file_bytes: 600,
        sync: SyncMode::Always,
        threads: ThreadMode::Inline,
        ..Options::default()
    }
}

/// Each batch has a key of its own and overwrites a shared one.
pub(crate) fn pairs(number: u64) -> [(Vec<u8>, Vec<u8>); 2] {
    let own = (format!("key{number:04}").into_bytes(), format!("value {number:030}").into_bytes());
    let shared = (format!("shared{}", number % 7).into_bytes(), number.to_le_bytes().to_vec());
    [own, shared]
}

/// The state after some batches.
fn state_of(batches: impl Iterator<Item = u64>) -> State {
    batches.flat_map(pairs).collect()
}

pub(crate) fn open(disk: &FaultyVfs) -> Result<(Engine, Recovery), Error> {
    Engine::open(Arc::new(disk.clone()), Path::new(DIR), options())
}

/// A store with tables and with several log segments that are not flushed, cleanly closed.
pub(crate) fn store() -> FaultyVfs {
    let disk = FaultyVfs::new(1);
    let (engine, _) = open(&disk).unwrap();
    for number in 1..=BATCHES {
        let mut batch = Batch::new();
        pairs(number).iter().for_each(|(key, value)| batch.put(key, value));
        engine
            .submit(batch, Durability::Default, Box::new(|result| assert!(result.is_ok())))
            .unwrap();
        if number <= FLUSHED {
            while engine.step() {}
        }
        if number == FLUSHED {
            engine.flush().unwrap();
        }
        // From here on the log is synced batch by batch, and nothing is flushed.
        while number > FLUSHED && engine.stats().pending_bytes > 0 {
            engine.step();
        }
    }
    assert!(engine.stats().tables > 1 && engine.stats().wal_segments > 1);
    engine.close().unwrap();
    disk
}

pub(crate) fn of_kind(disk: &FaultyVfs, ending: &str) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files.filter(|path| path.to_str().unwrap().contains(ending)).collect()
}

fn names_a_file(error: &Error) -> bool {
    let believable = matches!(
        error,
        Error::Corrupt { .. } | Error::Missing { .. } | Error::Version { .. } | Error::Io { .. }
    );
    believable && error.to_string().contains(DIR)
}

/// Opens what is left and judges what it says. Up to `lost` batches may be lost to a damaged log,
/// if that is reported; if more than one may, damage may also have cut off the log's end.
fn judge(disk: &FaultyVfs, lost: usize) -> Verdict {
    let (engine, recovery) = match open(disk) {
        Ok(opened) => opened,
        Err(error) if names_a_file(&error) => return Ok(()),
        Err(error) => return Err(format!("refused without naming a file: {error}")),
    };
    let missing = |number: &u64| matches!(engine.get(&pairs(*number)[0].0), Ok(None));
    let gone: Vec<u64> = (1..=BATCHES).filter(missing).collect();
    // Damage that takes the end of the log with every promise in it looks like a torn tail.
    let is_tail = gone.iter().copied().eq(recovery.last.0 + 1..=BATCHES);
    let may_pass = is_tail && lost > 1;
    if !gone.is_empty() && recovery.corrupt.is_empty() && !may_pass {
        return Err(format!("{gone:?} are gone and nothing is reported"));
    }
    if gone.len() > lost {
        return Err(format!("{gone:?} are gone"));
    }
    let expected = state_of((1..=BATCHES).filter(|number| !gone.contains(number)));
    for (key, value) in &expected {
        match engine.get(key) {
            Ok(Some((got, _))) if got == value[..] => {}
            Err(error) if names_a_file(&error) => {}
            other => return Err(format!("{}: {other:?}", key.escape_ascii())),
        }
    }
    match dump(&engine) {
        Ok(seen) if seen == expected => Ok(()),
        Err(error) if names_a_file(&error) => Ok(()),
        other => Err(format!("a range says {other:?}")),
    }
}

/// Flips one bit in every `stride`th byte of the files whose path contains `ending`.
pub(crate) fn flips(ending: &str, stride: usize) -> Vec<String> {
    let disk = store();
    let mut rng = Rng::with_seed(7);
    let mut failures = Vec::new();
    for path in of_kind(&disk, ending) {
        for byte in (0..disk.content(&path).unwrap().len()).step_by(stride) {
            let damaged = disk.fork(0);
            assert!(damaged.flip_bit(&path, byte, rng.u8(..8)));
            let story = |error| format!("{} byte {byte}: {error}", path.display());
            failures.extend(judge(&damaged, 1).map_err(story).err());
        }
    }
    failures
}

#[test]
fn a_flipped_bit_of_a_table_is_an_error_or_does_not_matter() {
    let failures = flips(".sst", 1);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_flipped_bit_of_a_blob_file_is_an_error_or_does_not_matter() {
    let failures = flips(".blob", 1);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_flipped_bit_of_the_log_is_reported_and_costs_one_batch_at_most() {
    let failures = flips(".wal", 1);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_flipped_bit_of_the_manifest_or_of_current_is_an_error_or_does_not_matter() {
    let failures = [flips("MANIFEST", 1), flips("CURRENT", 1)].concat();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_log_in_use_that_is_cut_at_any_byte_leaves_a_prefix() {
    let disk = store();
    let path = last_log(&disk);
    let content = disk.content(&path).unwrap();
    let mut last = 0;
    for length in 0..content.len() {
        let cut = disk.fork(0);
        cut.plant(&path, content[..length].to_vec());
        let (engine, recovery) = open(&cut).unwrap();
        assert_eq!(recovery.corrupt, [], "cut to {length}");
        let found = dump(&engine).unwrap();
        let number = recovery.last.0;
        assert_eq!(found, state_of(1..=number), "cut to {length}");
        assert!(last <= number, "less is left of more");
        last = number;
    }
    assert_eq!(last, BATCHES, "only the mark was cut off");
}

#[test]
fn a_sealed_log_that_is_cut_at_any_byte_is_reported() {
    let disk = store();
    let logs = of_kind(&disk, ".wal");
    // The one before that in use is sealed, and nothing of it is in a table.
    let in_use = logs.iter().position(|path| *path == last_log(&disk)).unwrap();
    let path = &logs[in_use - 1];
    let content = disk.content(path).unwrap();
    for length in (0..records_end(&content, number_of(path))).step_by(3) {
        let cut = disk.fork(0);
        cut.plant(path, content[..length].to_vec());
        let (_, recovery) = open(&cut).unwrap();
        assert!(!recovery.corrupt.is_empty(), "cut to {length}");
        assert_eq!(judge(&cut, BATCHES as usize), Ok(()), "cut to {length}");
    }
}

#[test]
fn both_sides_of_damage_in_the_log_are_applied_and_the_report_lasts_until_a_flush() {
    let disk = store();
    let path = last_log(&disk);
    let content = disk.content(&path).unwrap();
    // The third record of the segment, behind its opening and a batch.
    let (second, _) = records(&content, number_of(&path))[2];
    disk.flip_bit(&path, second + OPENING, 3);
    for _ in 0..2 {
        let (engine, recovery) = open(&disk).unwrap();
        assert_eq!(recovery.corrupt.len(), 1);
        assert_eq!(recovery.corrupt[0].file, path);
        assert_eq!(recovery.corrupt[0].start, second as u64);
        assert_eq!(recovery.last.0, BATCHES);
        engine.close().unwrap();
        assert_eq!(judge(&disk, 1), Ok(()));
    }
    let (engine, _) = open(&disk).unwrap();
    engine.flush().unwrap();
    engine.close().unwrap();
    drop(engine);
    assert_eq!(open(&disk).unwrap().1.corrupt, []);
}

#[test]
fn losing_the_newest_batch_is_reported_though_all_before_it_are_in_tables() {
    let disk = FaultyVfs::new(2);
    let (engine, _) = open(&disk).unwrap();
    for number in 1..=3 {
        let mut batch = Batch::new();
        batch.put(&pairs(number)[0].0, &pairs(number)[0].1);
        engine.submit(batch, Durability::Default, Box::new(|_| {})).unwrap();
        while engine.step() {}
        if number == 2 {
            engine.flush().unwrap();
        }
    }
    engine.close().unwrap();
    let path = last_log(&disk);
    // The third batch, in front of a mark that repeats its number.
    let third = records_end(&disk.content(&path).unwrap(), number_of(&path)) - 8;
    assert!(disk.flip_bit(&path, third, 0));
    let (engine, recovery) = open(&disk).unwrap();
    assert_eq!(engine.get(&pairs(3)[0].0).unwrap(), None);
    assert_eq!(recovery.corrupt.len(), 1);
}

#[test]
fn exchanged_blocks_and_files_are_errors_or_do_not_matter() {
    let disk = store();
    for path in disk.files() {
        let content = disk.content(&path).unwrap();
        // One of these lengths is that of the blocks, of the records, of the edits.
        for length in (8..content.len() / 2).step_by(3) {
            let swapped = disk.fork(0);
            let mut bytes = content.clone();
            let (left, right) = bytes.split_at_mut(length);
            left.swap_with_slice(&mut right[..length]);
            swapped.plant(&path, bytes);
            let verdict = judge(&swapped, BATCHES as usize);
            assert_eq!(verdict, Ok(()), "{} by {length}", path.display());
        }
    }
    for kind in [".sst", ".wal", ".blob"] {
        let files = of_kind(&disk, kind);
        for pair in files.windows(2) {
            let swapped = disk.fork(0);
            swapped.plant(&pair[0], disk.content(&pair[1]).unwrap());
            swapped.plant(&pair[1], disk.content(&pair[0]).unwrap());
            assert_eq!(judge(&swapped, BATCHES as usize), Ok(()), "{pair:?}");
        }
    }
}

#[test]
fn a_store_with_a_file_missing_is_refused_and_the_file_is_named() {
    let disk = store();
    for path in disk.files() {
        let is_old = path.ends_with("MANIFEST-000002");
        let damaged = disk.fork(0);
        damaged.remove(&path).unwrap();
        damaged.sync_dir(Path::new(DIR)).unwrap();
        match open(&damaged) {
            Err(Error::Missing { file }) => assert_eq!(file, path),
            // The one of the first start, which is swept at the second.
            Ok(_) if is_old => continue,
            other => panic!("{} is missing: {other:?}", path.display()),
        }
        // The refusal has changed nothing: with the file back, all is well.
        damaged.plant(&path, disk.content(&path).unwrap());
        assert_eq!(judge(&damaged, 0), Ok(()));
    }
}

#[test]
fn files_of_noise_never_panic() {
    let disk = store();
    let mut rng = Rng::with_seed(3);
    for path in disk.files() {
        for _ in 0..60 {
            let noisy = disk.fork(0);
            let mut content = disk.content(&path).unwrap();
            let start = rng.usize(..content.len());
            let end = rng.usize(start..=content.len());
            content[start..end].iter_mut().for_each(|byte| *byte = rng.u8(..));
            noisy.plant(&path, content);
            assert_eq!(judge(&noisy, BATCHES as usize), Ok(()), "{}", path.display());
        }
    }
}

#[test]
fn a_table_without_its_index_costs_only_its_own_range_of_keys() {
    let disk = store();
    let tables = of_kind(&disk, ".sst");
    let size = disk.content(&tables[0]).unwrap().len();
    // A bit of the footer, and a file that is cut short.
    for cut in [false, true] {
        let damaged = disk.fork(0);
        if cut {
            let content = disk.content(&tables[0]).unwrap();
            damaged.plant(&tables[0], content[..size / 2].to_vec());
        } else {
            assert!(damaged.flip_bit(&tables[0], size - 20, 1));
        }
        let (engine, recovery) = open(&damaged).unwrap();
        assert_eq!(recovery.unreadable, tables[..1]);
        // The oldest table holds the first batches; what is not in its range can be read.
        let inside = engine.get(&pairs(1)[0].0);
        assert!(matches!(&inside, Err(Error::Corrupt { file, .. }) if *file == tables[0]));
        assert_eq!(engine.get(&pairs(BATCHES)[0].0).unwrap().unwrap().0, pairs(BATCHES)[0].1);
        assert_eq!(engine.get(b"a").unwrap(), None);
        let range = |start: &[u8], end: &[u8]| {
            let (start, end) = (Bound::Included(start), Bound::Excluded(end));
            engine.range(start, end, Direction::Reverse).find_map(Result::err)
        };
        assert!(range(b"a", b"b").is_none());
        assert!(matches!(range(b"a", b"z"), Some(Error::Corrupt { .. })));
        assert_eq!(engine.verify().errors.len(), 1);
    }
}

//! Disks that fail and go on: errors of every call, a full disk, syncs that fail. Whatever they do,
//! nothing wrong is read, nothing refused comes back, and nothing is acknowledged that is not on
//! disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastrand::Rng;
use parking_lot::Mutex;
use roundtable::storage::vfs::Fault;
use roundtable::storage::{
    Batch, Durability, Engine, Error, FaultyVfs, Options, Seqno, SyncMode, ThreadMode,
};
use roundtable::testing::arm_mutant;

use crate::crash::calls_of_scripts;
use crate::harness::{ACTS, DIR, Harness, Verdict};
use crate::sites::Site;

/// What is wrong with the disk of a run.
#[derive(Debug, Clone, Copy)]
enum Plan {
    /// Any call may fail.
    Errors,
    /// One call fails, the rest is in order.
    OneError(Fault),
    /// Room comes and goes.
    Full,
    /// One sync of a file fails.
    Sync,
}

impl Plan {
    fn before(self, act: usize, fails_at: usize, disk: &FaultyVfs, rng: &mut Rng) {
        match self {
            Self::Errors if act == 0 => disk.set_error_rate(1.0 / rng.f64().mul_add(400.0, 40.0)),
            Self::OneError(fault) if act == fails_at => {
                disk.fail_at(disk.counts().calls + rng.u64(1..12), fault);
            }
            Self::Full if act.is_multiple_of(8) => {
                let room = rng.bool().then(|| disk.bytes() + rng.u64(..4_000));
                disk.set_capacity(room);
            }
            Self::Sync if act == fails_at => disk.fail_syncs(1),
            _ => {}
        }
    }
}

fn read_only(harness: &Harness) -> bool {
    harness.engine().is_some_and(|engine| engine.stats().read_only.is_some())
}

/// When there is room again a full disk must not have left anything behind.
fn check_works_again(harness: &mut Harness) -> Verdict {
    if read_only(harness) {
        return Err("a full disk made the engine read-only".to_owned());
    }
    if harness.engine().is_none() {
        harness.reopen()?;
    }
    harness.submit(Durability::Synced);
    harness.settle()?;
    if !harness.newest_is_acknowledged() {
        return Err("there is room again and a write fails".to_owned());
    }
    let flushed = harness.engine().map_or(Ok(()), |engine| engine.flush());
    flushed.map_err(|error| format!("there is room again and a flush fails: {error}"))
}

fn fault_run(script: u64, plan: Plan, seed: u64) -> Verdict {
    let disk = FaultyVfs::new(seed);
    let mut rng = Rng::with_seed(seed);
    let mut harness = Harness::new(script, disk.clone());
    let fails_at = rng.usize(1..ACTS);
    for act in 0..ACTS {
        plan.before(act, fails_at, &disk, &mut rng);
        match harness.engine() {
            Some(_) => harness.act(),
            None => harness.reopen()?,
        }
        harness.check_visible()?;
    }
    disk.set_error_rate(0.0);
    disk.set_capacity(None);
    harness.settle()?;
    harness.check_visible()?;
    if matches!(plan, Plan::Full) {
        check_works_again(&mut harness)?;
    }
    // The process ends without the machine, or both do.
    if rng.bool() {
        harness.close();
    } else {
        harness.crash();
    }
    // A single error may still wait for its call.
    harness.recover().or_else(|_| harness.recover())?;
    // What was found is now the store's past: it may not vanish behind what comes next.
    for _ in 0..4 {
        harness.submit(Durability::Synced);
    }
    harness.settle()?;
    harness.crash();
    harness.recover()
}

/// Runs every plan over some scripts, until `enough` runs have failed. Returns the failures and the
/// number of runs.
pub(crate) fn fault_runs(seeds: u64, enough: usize) -> (Vec<String>, u64) {
    let plans = [
        Plan::Errors,
        Plan::OneError(Fault::Eio),
        Plan::OneError(Fault::Full),
        Plan::Full,
        Plan::Sync,
    ];
    let (mut failures, mut count) = (Vec::new(), 0);
    for plan in plans {
        for seed in 0..seeds {
            if failures.len() >= enough {
                return (failures, count);
            }
            count += 1;
            let story = |error| format!("{plan:?} seed {seed}: {error}");
            failures.extend(fault_run(seed % 16, plan, seed).map_err(story).err());
        }
    }
    (failures, count)
}

#[test]
fn a_failing_disk_never_makes_a_wrong_answer() {
    let (failures, runs) = fault_runs(160, usize::MAX);
    println!("{runs} fault runs, {} failures", failures.len());
    assert!(failures.is_empty(), "{} of {runs}: {:#?}", failures.len(), failures);
}

/// The disk may be asked again for what it could not read once; what is damaged stays so.
#[test]
fn a_read_that_fails_in_a_verification_is_not_taken_for_damage() {
    let disk = FaultyVfs::new(0);
    let options = Options { threads: ThreadMode::Inline, ..Options::default() };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    let mut batch = Batch::new();
    (0..200u8).for_each(|key| batch.put(&[key], &[key; 100]));
    batch.put(b"long", &[1; 10_000]);
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    engine.flush().unwrap();
    let before = disk.counts().calls;
    assert!(engine.verify().errors.is_empty());
    let calls = disk.counts().calls - before;
    assert!(calls > 8);
    let errors = (1..=calls).map(|call| {
        disk.fail_at(disk.counts().calls + call, Fault::Eio);
        engine.verify().errors
    });
    for (call, errors) in errors.enumerate() {
        let all_io = errors.iter().all(|error| matches!(error, Error::Io { .. }));
        assert!(!errors.is_empty() && all_io, "call {call}: {errors:?}");
    }
}

/// Every call of a short script fails once, in each of two ways.
#[test]
fn an_error_of_any_call_is_survived() {
    let calls = {
        let disk = FaultyVfs::new(0);
        let mut harness = Harness::new(0, disk.clone());
        harness.play(40);
        disk.counts().calls
    };
    assert!(calls > 60, "the script has become shallow");
    for fault in [Fault::Eio, Fault::Full] {
        for call in 1..=calls {
            let disk = FaultyVfs::new(call);
            let mut harness = Harness::new(0, disk.clone());
            disk.fail_at(call, fault);
            harness.play(40);
            let settled = harness.settle().and_then(|()| harness.check_visible());
            harness.crash();
            let verdict = settled.and_then(|()| harness.recover());
            assert_eq!(verdict, Ok(()), "{fault:?} at call {call}");
        }
    }
}

/// Every place of the engine that makes or lengthens a file finds the disk full once, each in a script
/// that comes by.
#[test]
fn a_disk_that_is_full_at_any_place_that_writes_is_left_again() {
    let mut places: BTreeMap<&Site, (u64, u64)> = BTreeMap::new();
    for (script, calls) in (0..).zip(calls_of_scripts()) {
        for (call, site) in calls {
            let writes = site.1.starts_with("write") || site.1.starts_with("create ");
            if writes && !site.1.starts_with("create directory") {
                places.entry(site).or_insert((script, *call));
            }
        }
    }
    println!("{} places", places.len());
    // Fewer can be told apart in a build without line numbers.
    assert!(places.len() >= 10, "{} places that write are reached", places.len());
    for ((line, what), (script, call)) in places {
        let disk = FaultyVfs::new(call);
        let mut harness = Harness::new(script, disk.clone());
        disk.fail_at(call, Fault::Full);
        harness.play(ACTS);
        let verdict = harness.settle().and_then(|()| check_works_again(&mut harness));
        let verdict = verdict.and_then(|()| harness.check_visible()).and_then(|()| {
            harness.crash();
            harness.recover()
        });
        assert_eq!(verdict, Ok(()), "{what} at {line}, call {call} of script {script}");
    }
}

#[test]
fn after_a_failed_sync_reads_go_on_and_writes_are_refused_until_the_next_start() {
    let disk = FaultyVfs::new(5);
    let mut harness = Harness::new(0, disk.clone());
    assert_eq!(harness.reopen(), Ok(()));
    harness.submit(Durability::Synced);
    assert_eq!(harness.settle(), Ok(()));
    disk.fail_syncs(1);
    for _ in 0..5 {
        harness.submit(Durability::Synced);
    }
    // All five are answered, none of them well; the sync that would work is not tried.
    let syncs = disk.counts().syncs;
    assert_eq!(harness.settle(), Ok(()));
    assert_eq!(disk.counts().syncs, syncs + 1);
    assert!(read_only(&harness));
    harness.submit(Durability::Synced);
    assert_eq!(harness.settle(), Ok(()));
    assert!(!harness.newest_is_acknowledged());
    assert_eq!(harness.check_visible(), Ok(()));
    harness.close();
    assert_eq!(harness.recover(), Ok(()));
    harness.submit(Durability::Synced);
    assert_eq!(harness.settle(), Ok(()));
    assert!(harness.newest_is_acknowledged());
}

#[test]
fn a_store_on_a_full_disk_opens_again_when_there_is_room() {
    let disk = FaultyVfs::new(6);
    let mut harness = Harness::new(0, disk.clone());
    harness.play(60);
    harness.crash();
    let mut refusals = 0;
    for room in 0..400 {
        disk.set_capacity(Some(disk.bytes() + room));
        refusals += u64::from(harness.try_open().is_err());
        harness.close();
    }
    assert!(refusals > 0, "no start was short of room");
    disk.set_capacity(None);
    assert_eq!(harness.recover(), Ok(()));
    let named = disk.files().iter().filter(|path| path.starts_with(Path::new(DIR))).count();
    assert!(named < 40, "starts that failed have left {named} files");
}

/// Whether a store whose disk is known to be full refuses a batch before readers see it. What is written when there
/// is room again is there.
fn refuses_unseen() -> bool {
    let disk = FaultyVfs::new(8);
    let options =
        Options { threads: ThreadMode::Inline, sync: SyncMode::None, ..Options::default() };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    let submit = |value: &[u8]| {
        let mut batch = Batch::new();
        batch.put(b"key", value);
        let slot: Arc<Mutex<Option<Result<Seqno, Error>>>> = Arc::default();
        let heard = slot.clone();
        let on_done = Box::new(move |result| *heard.lock() = Some(result));
        engine.submit(batch, Durability::Default, on_done).map(|_| slot)
    };
    let shown = || engine.get(b"key").unwrap().map(|(value, _)| value.to_vec());
    disk.set_capacity(Some(0));
    let first = submit(b"first").expect("nobody knows yet");
    assert_eq!(shown().as_deref(), Some(&b"first"[..]), "it is seen before it is logged");
    while engine.step() {}
    assert!(matches!(first.lock().take(), Some(Err(Error::TakenBack))));
    assert_eq!(shown(), None);
    let undone = engine.undone().load(Ordering::SeqCst);
    let refused = matches!(submit(b"second"), Err(Error::DiskFull));
    assert_eq!(shown().is_none(), refused);
    while engine.step() {}
    assert_eq!(engine.undone().load(Ordering::SeqCst) == undone, refused);
    disk.set_capacity(None);
    let third = submit(b"third").expect("there is room");
    while engine.step() {}
    assert!(matches!(third.lock().take(), Some(Ok(_))));
    assert_eq!(shown().as_deref(), Some(&b"third"[..]));
    refused
}

#[test]
fn a_disk_that_is_known_to_be_full_refuses_what_nobody_has_seen() {
    assert!(refuses_unseen());
    let _armed = arm_mutant("storage-full-shows-first");
    assert!(!refuses_unseen());
}

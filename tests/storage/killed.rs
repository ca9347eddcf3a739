//! kill -9 on real files: a child process writes numbered batches and says on a pipe which are
//! acknowledged; it is killed at a random moment, and what is left is compared with what must be
//! there: every acknowledged batch, and a prefix of all. Nothing in the page cache is lost by this, so it
//! tries the order of things and the restart, not the syncs: those are for `crash.rs`.
//!
//! `KVD_KILLS` sets how often a child is killed (default 5).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::Bound;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use fastrand::Rng;
use roundtable::storage::{
    Batch, Direction, Durability, Engine, Error, KeyRange, Options, RealVfs, SyncMode, ThreadMode,
    check,
};

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// Tells the child where its store is, and what it writes there.
const PLACE: &str = "KVD_KILLED_DIR";
/// A child that nobody kills ends by itself.
const BATCHES_MAX: u64 = 200_000;

/// What a child writes: short values, or many that stand in blob files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    Short,
    Long,
}

fn options(seed: u64, values: Values, threads: ThreadMode) -> Options {
    let mut rng = Rng::with_seed(seed);
    let interval = SyncMode::Interval(core::time::Duration::from_millis(2));
    let scale = if values == Values::Long { 10 } else { 1 };
    Options {
        memtable_bytes: rng.usize(4_000..60_000) * scale,
        wal_segment_bytes: rng.u64(4_000..60_000) * scale as u64,
        blob_file_bytes: 100_000,
        block_bytes: 512,
        l0_trigger: rng.usize(1..4),
        level_base_bytes: 8_000,
        level_fanout: 4,
        table_bytes: 8_000,
        compaction_step_bytes: 4_000,
        sync: [SyncMode::None, SyncMode::Always, interval][seed as usize % 3],
        threads,
        ..Options::default()
    }
}

/// What batch `number` does, to an engine's batch and to the map that stands for it.
fn write(number: u64, values: Values, batch: &mut Batch, state: &mut State) {
    let mut rng = Rng::with_seed(number);
    let key = |rng: &mut Rng| format!("key{:03}", rng.u16(..300)).into_bytes();
    if rng.u8(..50) == 0 {
        let prefix = format!("key{:02}", rng.u8(..30)).into_bytes();
        batch.delete_range(&KeyRange::prefix(&prefix));
        state.retain(|key, _| !key.starts_with(&prefix));
    }
    for _ in 0..rng.usize(1..5) {
        let key = key(&mut rng);
        if rng.u8(..4) == 0 {
            batch.delete(&key);
            state.remove(&key);
        } else {
            // From 512 times eight bytes on a value stands in a blob file.
            let times = match values {
                Values::Long if rng.bool() => rng.usize(500..1_500),
                _ => rng.usize(1..30),
            };
            let value = number.to_le_bytes().repeat(times);
            batch.put(&key, &value);
            state.insert(key, value);
        }
    }
    batch.put(b"last", &number.to_le_bytes());
    state.insert(b"last".to_vec(), number.to_le_bytes().to_vec());
}

fn last(state: &State) -> u64 {
    let last = state.get(b"last".as_slice());
    last.map_or(0, |last| u64::from_le_bytes(last.as_slice().try_into().unwrap()))
}

fn dump(engine: &Engine) -> State {
    let pairs = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    pairs.map(|pair| pair.map(|(k, v, _)| (k.to_vec(), v.to_vec())).unwrap()).collect()
}

/// The process that is killed; without a place it has nothing to do.
#[test]
fn child() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let (dir, seed) = place.rsplit_once('#').unwrap();
    let (seed, values) = match seed.strip_suffix("-long") {
        Some(seed) => (seed, Values::Long),
        None => (seed, Values::Short),
    };
    let options = options(seed.parse().unwrap(), values, ThreadMode::Threaded);
    let (engine, _) = Engine::open(Arc::new(RealVfs), Path::new(dir), options).unwrap();
    let mut state = dump(&engine);
    let first = last(&state) + 1;
    for number in first..first + BATCHES_MAX {
        let mut batch = Batch::new();
        write(number, values, &mut batch, &mut state);
        loop {
            // The parent is told before the next batch is acknowledged; when it is gone, so are we.
            let on_done = Box::new(move |result: Result<_, Error>| {
                result.unwrap();
                let told = writeln!(std::io::stdout(), "\nacknowledged {number}");
                if told.is_err() {
                    std::process::exit(1);
                }
            });
            match engine.submit(batch.clone(), Durability::Default, on_done) {
                Ok(_) => break,
                Err(Error::Overloaded { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Starts a child, kills it when it has acknowledged `after` batches more, and returns the last
/// that it has acknowledged.
fn killed_after(dir: &Path, seed: u64, values: Values, after: u64) -> u64 {
    let suffix = if values == Values::Long { "-long" } else { "" };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--nocapture", "--test-threads=1"])
        .env(PLACE, format!("{}#{seed}{suffix}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut seen, mut acknowledged) = (0, 0);
    for line in lines.map_while(Result::ok) {
        let Some(number) = line.strip_prefix("acknowledged ") else { continue };
        acknowledged = number.parse().unwrap();
        seen += 1;
        if seen == after {
            child.kill().unwrap();
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(seen >= after, "the child ended by itself after {seen} batches");
    acknowledged
}

/// Kills one child after another, each in the store that the last has left, and judges what is there.
/// Returns the number of batches, and of blob files that came and went.
fn live_and_die(values: Values, most: u64) -> (u64, u64) {
    let kills = std::env::var("KVD_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(5);
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("db");
    let mut rng = Rng::with_seed(11);
    let (mut state, mut applied, mut blobs) = (State::new(), 0, 0);
    for kill in 0..kills {
        let acknowledged = killed_after(&place, kill, values, rng.u64(1..most));
        let checked = check(&RealVfs, &place).unwrap();
        assert!(checked.faults.is_empty(), "kill {kill}: {:?}", checked.faults);
        let options = options(kill, values, ThreadMode::Inline);
        let (engine, recovery) = Engine::open(Arc::new(RealVfs), &place, options).unwrap();
        assert!(recovery.corrupt.is_empty() && recovery.unreadable.is_empty(), "{recovery:?}");
        let found = dump(&engine);
        let number = last(&found);
        assert!(number >= acknowledged, "kill {kill}: {acknowledged} is gone, {number} is last");
        for number in applied + 1..=number {
            write(number, values, &mut Batch::new(), &mut state);
        }
        assert!(found == state, "kill {kill}: the state is not that after batch {number}");
        applied = number;
        assert!(engine.verify().errors.is_empty());
        let stats = engine.stats();
        blobs += stats.blob_files as u64 + stats.blob_files_gone;
        // Half of the children find what this process has left, closed, half what a kill has left.
        if kill % 2 == 0 {
            engine.close().unwrap();
        }
    }
    println!("{applied} batches and {blobs} blob files in {kills} lives");
    (applied, blobs)
}

#[test]
fn what_is_acknowledged_survives_a_kill_at_any_moment() {
    live_and_die(Values::Short, 1_500);
}

#[test]
fn long_values_that_are_acknowledged_survive_a_kill_at_any_moment() {
    let (_, blobs) = live_and_die(Values::Long, 400);
    assert!(blobs > 0, "no value stood in a blob file");
}

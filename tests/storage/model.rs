//! Random operations against `BTreeMap`: whatever the order of writes, flushes, syncs and reopens,
//! every way of reading says what the map says.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use roundtable::storage::{
    Batch, Direction, Durability, Engine, Error, FaultyVfs, KeyRange, Options, RealVfs, SyncMode,
    ThreadMode, TryGet, Vfs,
};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn small(rng: &mut Rng, threads: ThreadMode) -> Options {
    let modes = [
        SyncMode::Always,
        SyncMode::Interval(core::time::Duration::from_millis(1)),
        SyncMode::None,
    ];
    Options {
        memtable_bytes: 1 << rng.u32(9..16),
        wal_segment_bytes: 1 << rng.u32(8..15),
        block_bytes: 1 << rng.u32(4..13),
        group_bytes_max: 1 << rng.u32(8..16),
        block_cache_bytes: 1 << rng.u32(10..18),
        l0_trigger: rng.usize(1..6),
        l0_depth_max: rng.usize(6..30),
        level_base_bytes: 1 << rng.u32(6..14),
        level_fanout: rng.u64(2..12),
        table_bytes: 1 << rng.u32(6..14),
        compaction_step_bytes: 1 << rng.u32(4..14),
        compaction_threads: rng.usize(1..4),
        unit_prefix_bytes: rng.usize(0..3),
        sync: rng.choice(modes).unwrap(),
        threads,
        ..Options::default()
    }
}

fn key(rng: &mut Rng) -> Vec<u8> {
    let length = rng.usize(0..4);
    (0..length).map(|_| rng.u8(b'a'..b'e')).collect()
}

fn range(rng: &mut Rng) -> KeyRange {
    match rng.u8(..8) {
        0 => KeyRange::starting_at(&key(rng)),
        1..4 => KeyRange::prefix(&key(rng)),
        _ => KeyRange::between(&key(rng), &key(rng)),
    }
}

fn batch(rng: &mut Rng, model: &mut Model) -> Batch {
    let mut batch = Batch::new();
    // Deleted ranges come before the batch's own puts, wherever they stand in it.
    if rng.u8(..10) == 0 {
        let range = range(rng);
        model.retain(|key, _| !range.contains(key));
        batch.delete_range(&range);
    }
    for _ in 0..rng.usize(0..6) {
        let key = key(rng);
        if rng.u8(..4) == 0 {
            batch.delete(&key);
            model.remove(&key);
        } else {
            let value: Vec<u8> = (0..rng.usize(0..80)).map(|_| rng.u8(..)).collect();
            batch.put(&key, &value);
            model.insert(key, value);
        }
    }
    batch
}

fn bounds(rng: &mut Rng) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let bound = |rng: &mut Rng| match rng.u8(..3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(key(rng)),
        _ => Bound::Excluded(key(rng)),
    };
    (bound(rng), bound(rng))
}

fn expected(
    model: &Model,
    bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>),
    reverse: bool,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let inside = |key: &Vec<u8>| {
        let after = match &bounds.0 {
            Bound::Included(start) => key >= start,
            Bound::Excluded(start) => key > start,
            Bound::Unbounded => true,
        };
        let before = match &bounds.1 {
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
            Bound::Unbounded => true,
        };
        after && before
    };
    let mut pairs: Vec<_> =
        model.iter().filter(|(key, _)| inside(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if reverse {
        pairs.reverse();
    }
    pairs
}

fn check(engine: &Engine, model: &Model, rng: &mut Rng) {
    for _ in 0..8 {
        let key = key(rng);
        let found = engine.get(&key).unwrap().map(|(value, _)| value.to_vec());
        assert_eq!(found.as_ref(), model.get(&key), "get {key:?}");
        match engine.try_get(&key) {
            TryGet::Found(value, _) => assert_eq!(Some(&value.to_vec()), model.get(&key)),
            TryGet::Absent => assert_eq!(None, model.get(&key)),
            TryGet::NeedsDisk => {}
        }
    }
    for direction in [Direction::Forward, Direction::Reverse] {
        let bounds = bounds(rng);
        let start = bounds.0.as_ref().map(Vec::as_slice);
        let end = bounds.1.as_ref().map(Vec::as_slice);
        let found: Vec<_> = engine
            .range(start, end, direction)
            .map(|pair| pair.map(|(key, value, _)| (key.to_vec(), value.to_vec())).unwrap())
            .collect();
        let wanted = expected(model, &bounds, direction == Direction::Reverse);
        assert_eq!(found, wanted, "{bounds:?} {direction:?}");
    }
}

/// After a full compaction there is one entry for each key, all in the last level.
fn assert_packed(engine: &Engine, model: &Model) {
    let stats = engine.stats();
    let (last, upper) = stats.levels.split_last().unwrap();
    assert!(upper.iter().all(|level| level.tables == 0), "{upper:?}");
    assert_eq!(last.entries, model.len() as u64, "{stats:#?}");
}

fn all(engine: &roundtable::storage::Snapshot) -> Model {
    let pairs = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    pairs.map(|pair| pair.map(|(k, v, _)| (k.to_vec(), v.to_vec())).unwrap()).collect()
}

#[test]
fn an_inline_engine_reads_like_a_map_through_flushes_and_reopens() {
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let vfs: Arc<dyn Vfs> = Arc::new(FaultyVfs::new(seed));
        let options = small(&mut rng, ThreadMode::Inline);
        let open = || Engine::open(Arc::clone(&vfs), Path::new("/db"), options.clone()).unwrap().0;
        let mut engine = open();
        let mut model = Model::new();
        let mut snapshots = Vec::new();
        for _ in 0..300 {
            match rng.u8(..20) {
                0 => engine.flush().unwrap(),
                1 => {
                    engine.close().unwrap();
                    drop(engine);
                    engine = open();
                }
                2 => engine.interval_elapsed(),
                3 => snapshots.push((engine.snapshot(), model.clone())),
                4 => {
                    engine.compact().unwrap();
                    assert_packed(&engine, &model);
                }
                5 => {
                    let range = range(&mut rng);
                    if engine.delete_range(&range).is_ok() {
                        model.retain(|key, _| !range.contains(key));
                    }
                }
                6..9 => {
                    engine.step();
                }
                _ => {
                    let batch = batch(&mut rng, &mut model);
                    let submit =
                        |batch| engine.submit(batch, Durability::Default, Box::new(|_| {}));
                    if let Err(Error::Overloaded { unit: "tables", .. }) = submit(batch.clone()) {
                        while engine.step() {}
                        submit(batch).unwrap();
                    }
                }
            }
            check(&engine, &model, &mut rng);
            if rng.u8(..16) == 0 {
                let found = engine.verify();
                assert!(found.errors.is_empty(), "seed {seed}: {:?}", found.errors);
                // Some snapshots go early, and with them the files that only they need.
                if !snapshots.is_empty() {
                    let (snapshot, then) = snapshots.swap_remove(rng.usize(..snapshots.len()));
                    assert_eq!(all(&snapshot), then, "a snapshot of seed {seed} has changed");
                }
            }
        }
        for (snapshot, then) in &snapshots {
            assert_eq!(&all(snapshot), then, "a snapshot of seed {seed} has changed");
        }
        let found = engine.verify();
        assert!(found.errors.is_empty(), "seed {seed}: {:?}", found.errors);
    }
}

#[test]
fn a_threaded_engine_on_real_files_reads_like_a_map() {
    for seed in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = Rng::with_seed(seed);
        let options = small(&mut rng, ThreadMode::Threaded);
        let open =
            || Engine::open(Arc::new(RealVfs), &dir.path().join("db"), options.clone()).unwrap();
        let (mut engine, recovery) = open();
        assert!(recovery.created);
        let mut model = Model::new();
        for round in 0..60 {
            let batch = batch(&mut rng, &mut model);
            engine.write(batch).unwrap();
            check(&engine, &model, &mut rng);
            if round % 20 == 7 {
                engine.flush().unwrap();
            }
            if round % 20 == 11 {
                let range = range(&mut rng);
                engine.delete_range(&range).unwrap();
                model.retain(|key, _| !range.contains(key));
            }
            if round % 20 == 17 {
                engine.compact().unwrap();
                assert_packed(&engine, &model);
            }
            if round % 20 == 13 {
                // Dropping the last handle closes.
                drop(engine);
                engine = open().0;
            }
        }
        engine.close().unwrap();
    }
}

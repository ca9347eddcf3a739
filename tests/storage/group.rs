//! Group commit, barriers, bounds and handles: what engines promise beside surviving.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use roundtable::storage::vfs::{DirLock, VfsFile};
use roundtable::storage::{
    Batch, Direction, Durability, Engine, Error, FaultyVfs, MemoryVfs, Options, RealVfs, Seqno,
    SyncMode, ThreadMode, TryGet, Vfs,
};

/// Counts what happens to the log of an engine in memory.
#[derive(Debug, Default, Clone)]
struct CountingVfs {
    files: MemoryVfs,
    log: Arc<LogCounts>,
}

#[derive(Debug, Default)]
struct LogCounts {
    syncs: AtomicU64,
    unsynced: AtomicU64,
}

#[derive(Debug)]
struct CountedFile {
    file: Arc<dyn VfsFile>,
    log: Option<Arc<LogCounts>>,
}

impl CountingVfs {
    fn counted(&self, path: &Path, file: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
        let is_log = path.extension().is_some_and(|extension| extension == "wal");
        Arc::new(CountedFile { file, log: is_log.then(|| Arc::clone(&self.log)) })
    }
}

impl Vfs for CountingVfs {
    fn create(&self, path: &Path) -> std::io::Result<Arc<dyn VfsFile>> {
        Ok(self.counted(path, self.files.create(path)?))
    }

    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn VfsFile>> {
        Ok(self.counted(path, self.files.open(path)?))
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.files.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.files.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.files.hard_link(from, to)
    }

    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        self.files.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.files.create_dir(dir)
    }

    fn remove_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.files.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.files.sync_dir(dir)
    }

    fn lock_dir(&self, dir: &Path) -> std::io::Result<Box<dyn DirLock>> {
        self.files.lock_dir(dir)
    }
}

impl VfsFile for CountedFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        // Zeros are room made beforehand, no records.
        if let Some(log) = self.log.as_ref().filter(|_| data.iter().any(|byte| *byte != 0)) {
            log.unsynced.fetch_add(1, Ordering::SeqCst);
        }
        self.file.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        if let Some(log) = &self.log {
            log.syncs.fetch_add(1, Ordering::SeqCst);
            // A sync takes its time; meanwhile the next group gathers.
            (0..200).for_each(|_| std::thread::yield_now());
            log.unsynced.store(0, Ordering::SeqCst);
        }
        self.file.sync_data()
    }

    fn size(&self) -> std::io::Result<u64> {
        self.file.size()
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }
}

fn put(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(key, value);
    batch
}

fn inline() -> Options {
    Options { threads: ThreadMode::Inline, ..Options::default() }
}

fn run_all(engine: &Engine) {
    while engine.step() {}
}

#[test]
fn sixteen_writers_share_their_syncs_and_are_answered_in_order_after_them() {
    const WRITERS: u64 = 16;
    const WRITES: u64 = 100;
    let disk = CountingVfs::default();
    let options = Options { wal_segment_bytes: 40_000, ..Options::default() };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new("db"), options).unwrap();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (log, before) = (&disk.log, disk.log.syncs.load(Ordering::SeqCst));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (engine, answers) = (engine.clone(), Arc::clone(&answers));
            scope.spawn(move || {
                for number in 0..WRITES {
                    let (log, answers) = (Arc::clone(log), Arc::clone(&answers));
                    let (sender, receiver) = std::sync::mpsc::channel();
                    let on_done = Box::new(move |result: Result<Seqno, Error>| {
                        // The log thread calls, and writes nothing meanwhile.
                        answers.lock().push((result.unwrap(), log.unsynced.load(Ordering::SeqCst)));
                        sender.send(()).unwrap();
                    });
                    let batch = put(&[writer as u8, number as u8], &number.to_le_bytes());
                    engine.submit(batch, Durability::Default, on_done).unwrap();
                    receiver.recv().unwrap();
                }
            });
        }
    });
    let answers = answers.lock();
    let expected: Vec<_> = (1..=WRITERS * WRITES).map(|number| (Seqno(number), 0)).collect();
    assert!(*answers == expected, "out of order, or answered before the sync");
    let syncs = log.syncs.load(Ordering::SeqCst) - before;
    println!("{} writes by {WRITERS} threads took {syncs} syncs", WRITERS * WRITES);
    assert!(syncs * 3 < WRITERS * WRITES, "{syncs} syncs");
    engine.close().unwrap();
}

#[test]
fn a_directory_is_open_once_at_a_time() {
    let real = tempfile::tempdir().unwrap();
    let disks: [(Arc<dyn Vfs>, &Path); 3] = [
        (Arc::new(MemoryVfs::default()), Path::new("db")),
        (Arc::new(FaultyVfs::new(0)), Path::new("/db")),
        (Arc::new(RealVfs), &real.path().join("made/with/parents")),
    ];
    for (disk, dir) in disks {
        let open = || Engine::open(Arc::clone(&disk), dir, Options::default());
        let (engine, _) = open().unwrap();
        assert!(matches!(open(), Err(Error::Locked { dir: named }) if named == dir));
        engine.write(put(b"key", b"value")).unwrap();
        engine.close().unwrap();
        let (second, _) = open().unwrap();
        assert_eq!(second.get(b"key").unwrap().unwrap().0, "value");
        drop(second);
        assert!(open().is_ok(), "dropping the last handle unlocks");
    }
}

#[test]
fn after_close_everything_is_refused_and_earlier_snapshots_read_on() {
    let disk = Arc::new(MemoryVfs::default());
    let (engine, _) = Engine::open(disk, Path::new("db"), Options::default()).unwrap();
    engine.write(put(b"flushed", b"1")).unwrap();
    engine.flush().unwrap();
    engine.write(put(b"logged", b"2")).unwrap();
    let snapshot = engine.snapshot();
    engine.close().unwrap();
    assert!(engine.close().is_ok(), "closing twice is fine");
    assert!(matches!(engine.get(b"logged"), Err(Error::Closed)));
    assert!(matches!(engine.snapshot().get(b"logged"), Err(Error::Closed)));
    assert_eq!(engine.try_get(b"logged"), TryGet::NeedsDisk);
    let mut pairs = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    assert!(matches!(pairs.next(), Some(Err(Error::Closed))));
    assert!(pairs.next().is_none());
    assert!(matches!(engine.write(put(b"key", b"3")), Err(Error::Closed)));
    assert!(matches!(engine.flush(), Err(Error::Closed)));
    assert_eq!(snapshot.get(b"flushed").unwrap().unwrap().0, "1");
    let pairs = snapshot.range(Bound::Unbounded, Bound::Unbounded, Direction::Reverse);
    assert_eq!(pairs.map(|pair| pair.unwrap().1).collect::<Vec<_>>(), ["2", "1"]);
}

#[test]
fn a_barrier_is_done_when_all_before_it_is_on_disk() {
    let disk = FaultyVfs::new(4);
    let options = Options { sync: SyncMode::None, ..inline() };
    let open = || Engine::open(Arc::new(disk.clone()), Path::new("/db"), options.clone()).unwrap();
    let (engine, _) = open();
    let syncs = disk.counts().syncs;
    let done = Arc::new(Mutex::new(Vec::new()));
    let submit = |batch, durability| {
        let done = Arc::clone(&done);
        let on_done =
            Box::new(move |result: Result<Seqno, Error>| done.lock().push(result.unwrap()));
        engine.submit(batch, durability, on_done).unwrap()
    };
    for number in 0..5u8 {
        submit(put(&[number], b"value"), Durability::Default);
    }
    run_all(&engine);
    assert_eq!(done.lock().len(), 5);
    assert_eq!(disk.counts().syncs, syncs, "nobody has asked for a sync");
    let barrier = submit(Batch::new(), Durability::Synced);
    assert_eq!(barrier, Seqno(5));
    assert_eq!(done.lock().len(), 5, "never from inside submit");
    run_all(&engine);
    assert_eq!(done.lock().last(), Some(&barrier));
    assert_eq!(disk.counts().syncs, syncs + 1);
    drop(engine);
    disk.crash();
    disk.restart();
    assert_eq!(open().1.last, Seqno(5));
}

#[test]
fn what_waits_for_the_log_is_bounded_and_refusals_end_when_it_moves() {
    const LIMIT: usize = 10_000;
    let options = Options { pending_bytes_max: LIMIT, ..inline() };
    let disk = Arc::new(MemoryVfs::default());
    let (engine, _) = Engine::open(disk, Path::new("db"), options).unwrap();
    for round in 0..3u8 {
        let mut taken = 0u8;
        let refusal = loop {
            let batch = put(&[round, taken], &[7; 500]);
            match engine.submit(batch, Durability::Default, Box::new(|_| {})) {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
            assert!(engine.stats().pending_bytes <= LIMIT);
        };
        assert!(matches!(refusal, Error::Overloaded { limit: LIMIT, .. }), "{refusal}");
        assert_eq!(engine.get(&[round, taken]).unwrap(), None, "a refused batch is not applied");
        assert!(engine.pressure() > 0.9);
        // Barriers wait too, so they are bounded too.
        while engine.submit(Batch::new(), Durability::Default, Box::new(|_| {})).is_ok() {}
        assert!(engine.stats().pending_bytes <= LIMIT);
        run_all(&engine);
        assert!(taken > 10 && engine.pressure() < 0.1);
    }
}

#[test]
fn memtables_stay_within_their_bound_whatever_the_shape_of_the_batches() {
    const LIMIT: usize = 60_000;
    // The second never seals by size: refusals themselves must make room.
    for memtable_bytes in [10_000, 1 << 20] {
        let options = Options { memory_bytes_max: LIMIT, memtable_bytes, ..inline() };
        let disk = Arc::new(MemoryVfs::default());
        let (engine, _) = Engine::open(disk, Path::new("db"), options).unwrap();
        let mut refusals = 0;
        for number in 0..400u32 {
            let mut batch = Batch::new();
            // Many tiny entries cost far more in memory than their bytes.
            (0..50u8).for_each(|entry| batch.put(&[entry], b""));
            batch.put(&number.to_le_bytes(), &[1; 300]);
            loop {
                match engine.submit(batch.clone(), Durability::Default, Box::new(|_| {})) {
                    Ok(_) => break,
                    Err(Error::Overloaded { limit: LIMIT, .. }) => refusals += 1,
                    Err(error) => panic!("{error}"),
                }
                assert!(refusals < 1_000, "refused for ever");
                run_all(&engine);
            }
            assert!(engine.stats().memtable_bytes <= LIMIT);
        }
        assert!(refusals > 0);
        run_all(&engine);
        for number in 0..400u32 {
            assert!(engine.get(&number.to_le_bytes()).unwrap().is_some());
        }
        // One batch beyond the whole bound could wait for ever.
        let mut huge = Batch::new();
        (0..1_000u32).for_each(|entry| huge.put(&entry.to_le_bytes(), b""));
        let refusal = engine.submit(huge, Durability::Default, Box::new(|_| {}));
        assert!(matches!(refusal, Err(Error::TooLong { .. })));
    }
}

#[test]
fn sixteen_writers_that_wait_share_their_syncs() {
    const WRITERS: u64 = 16;
    const WRITES: u64 = 100;
    let disk = CountingVfs::default();
    let (engine, _) =
        Engine::open(Arc::new(disk.clone()), Path::new("db"), Options::default()).unwrap();
    let before = disk.log.syncs.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let engine = engine.clone();
            scope.spawn(move || {
                for number in 0..WRITES {
                    engine.write(put(&[writer as u8, number as u8], b"value")).unwrap();
                    assert!(engine.get(&[writer as u8, number as u8]).unwrap().is_some());
                }
            });
        }
    });
    let syncs = disk.log.syncs.load(Ordering::SeqCst) - before;
    println!("{} writes by {WRITERS} threads took {syncs} syncs", WRITERS * WRITES);
    assert!(syncs * 3 < WRITERS * WRITES, "{syncs} syncs");
    engine.close().unwrap();
}

#[test]
fn writers_that_wait_are_never_refused_for_want_of_room() {
    let options = Options {
        memtable_bytes: 10_000,
        memory_bytes_max: 60_000,
        pending_bytes_max: 8_000,
        l0_depth_max: 5,
        sync: SyncMode::None,
        ..Options::default()
    };
    let disk = Arc::new(MemoryVfs::default());
    let (engine, _) = Engine::open(disk, Path::new("db"), options).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..3u8 {
            let engine = engine.clone();
            scope.spawn(move || {
                for number in 0..1_000u32 {
                    let key = [&[writer][..], &number.to_be_bytes()].concat();
                    engine.write(put(&key, &[7; 200])).unwrap();
                    assert!(engine.stats().memtable_bytes <= 60_000);
                }
            });
        }
    });
    for writer in 0..3u8 {
        for number in 0..1_000u32 {
            let key = [&[writer][..], &number.to_be_bytes()].concat();
            assert!(engine.get(&key).unwrap().is_some());
        }
    }
    engine.close().unwrap();
}

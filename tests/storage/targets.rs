//! What is fuzzed. Each target is a function of any bytes that panics when something does not hold.
//! `fuzz/` runs them with a fuzzer, [`crate::fuzz`] for a moment in every `cargo test`.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use prost::Message;
use roundtable::storage::{
    Batch, Direction, Durability, Engine, Export, KeyRange, MemoryVfs, Options, ThreadMode, Vfs,
    check, fuzz,
};
use roundtable::testing::arm_mutant;
use roundtable::wire::peer::{message_from_wire, message_to_wire, message_weight};
use roundtable::wire::proto::peer as pb;

use crate::ops::{Disk, Draws, Op, Setting, play};

/// A target: its name, as `fuzz/run` takes it, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: &[Target] = &[
    ("wal_reader", wal_reader),
    ("blob_file", blob_file),
    ("sstable_block", fuzz::block),
    ("sstable_index", fuzz::index),
    ("sstable_footer", sstable_footer),
    ("sstable_table", sstable_table),
    ("filter", fuzz::filter),
    ("manifest", manifest),
    ("ingest", ingest),
    ("wire_peer", wire_peer),
    ("engine_ops", engine_ops),
];

const DIR: &str = "/db";

/// A footer, as if it stood where that of the first table of the template does. The first byte says
/// whether its checksum is believed unseen.
fn sstable_footer(data: &[u8]) {
    let (flags, bytes) = data.split_first().unwrap_or((&0, &[]));
    let _armed = (flags & 1 == 1).then(|| arm_mutant("storage-checksums-unchecked"));
    fuzz::footer(bytes, footer_of_first().0);
}

/// Offset and bytes of the footer of the first table.
pub(crate) fn footer_of_first() -> (u64, &'static [u8]) {
    let (_, table) = of_kind(".sst")[0];
    let at = table.len() - 136;
    (at as u64, &table[at..])
}

fn options() -> Options {
    Options {
        memtable_bytes: 2_000,
        wal_segment_bytes: 700,
        block_bytes: 100,
        // Half of the values stand in blob files.
        blob_bytes_min: Some(40),
        blob_file_bytes: 300,
        threads: ThreadMode::Inline,
        ..Options::default()
    }
}

/// The files of a small store: a log in use and one that is sealed, two tables, a manifest.
pub(crate) fn template() -> &'static [(PathBuf, Vec<u8>)] {
    static FILES: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let vfs = MemoryVfs::default();
        let (engine, _) = Engine::open(Arc::new(vfs.clone()), Path::new(DIR), options()).unwrap();
        for number in 0..40u8 {
            let mut batch = Batch::new();
            batch.put(&[b'k', number % 16], &vec![number; 20 + 30 * usize::from(number % 2)]);
            batch.delete(&[b'd', number % 7]);
            engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
            engine.step();
            if number == 15 || number == 24 {
                engine.flush().unwrap();
            }
        }
        engine.close().unwrap();
        files_in(&vfs, DIR)
    })
}

fn files_in(vfs: &MemoryVfs, dir: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = vfs.list(Path::new(dir)).unwrap().into_iter().map(|name| Path::new(dir).join(name));
    paths.map(|path| (path.clone(), read(vfs, &path))).collect()
}

const EXPORT: &str = "/export";

/// The files of a small export: two tables and their list.
pub(crate) fn exported() -> &'static [(PathBuf, Vec<u8>)] {
    static FILES: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let vfs = MemoryVfs::default();
        let options = Options { table_bytes: 500, ..options() };
        let (engine, _) = Engine::open(Arc::new(vfs.clone()), Path::new(DIR), options).unwrap();
        let mut batch = Batch::new();
        (0..30u8).for_each(|number| batch.put(&[b'k', number], &[number; 20]));
        engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
        engine.export(&KeyRange::all(), Path::new(EXPORT)).unwrap();
        files_in(&vfs, EXPORT)
    })
}

fn read(vfs: &MemoryVfs, path: &Path) -> Vec<u8> {
    let file = vfs.open(path).unwrap();
    let mut content = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    file.read_at(0, &mut content).unwrap();
    content
}

/// The paths of the template's files whose names contain `kind`, sorted.
pub(crate) fn of_kind(kind: &str) -> Vec<&'static (PathBuf, Vec<u8>)> {
    template().iter().filter(|(path, _)| path.to_str().unwrap().contains(kind)).collect()
}

/// Puts bytes in the place of one file of the template, checks that store, opens it, reads it in
/// every way, writes to it, and opens it again. The first byte says which file, and whether
/// checksums are believed unseen.
fn replaced(kind: &str, data: &[u8], fit: bool) {
    let mut draws = Draws::new(data);
    let flags = draws.byte();
    let _armed = (flags & 1 == 1).then(|| arm_mutant("storage-checksums-unchecked"));
    let files = of_kind(kind);
    let (target, old) = files[usize::from(flags >> 1) % files.len()];
    let mut content = data.get(1..).unwrap_or_default().to_vec();
    if fit {
        content.resize(old.len(), 0);
    }
    let vfs = MemoryVfs::default();
    for (path, old) in template() {
        let file = vfs.create(path).unwrap();
        file.write_at(0, if path == target { &content } else { old }).unwrap();
    }
    let _checked = check(&vfs, Path::new(DIR));
    let opened = Engine::open(Arc::new(vfs.clone()), Path::new(DIR), options());
    let Ok((engine, recovery)) = opened else { return };
    exercise(&engine);
    let trusted = flags & 1 == 0 && recovery.unreadable.is_empty();
    let before = trusted.then(|| pairs(&engine, Direction::Forward)).flatten();
    drop(engine);
    // What could be opened can be opened again, and is the same.
    let (engine, _) = Engine::open(Arc::new(vfs), Path::new(DIR), options()).unwrap();
    if before.is_some() {
        assert_eq!(pairs(&engine, Direction::Forward), before, "the second opening differs");
    }
    write(&engine);
}

type Pairs = Vec<(bytes::Bytes, bytes::Bytes)>;

/// Everything, unless some of it is damaged.
fn pairs(engine: &Engine, direction: Direction) -> Option<Pairs> {
    let pairs = engine.range(Bound::Unbounded, Bound::Unbounded, direction);
    pairs.map(|pair| pair.ok().map(|(key, value, _)| (key, value))).collect()
}

fn exercise(engine: &Engine) {
    let forward = pairs(engine, Direction::Forward);
    let mut reverse = pairs(engine, Direction::Reverse);
    if let (Some(forward), Some(reverse)) = (&forward, &mut reverse) {
        reverse.reverse();
        assert_eq!(forward, reverse, "the two directions differ");
    }
    let keys = (0..16).flat_map(|number| [vec![b'k', number], vec![b'd', number]]);
    keys.for_each(|key| drop((engine.try_get(&key), engine.get(&key))));
    let _found = engine.verify();
}

/// A store that has been opened takes writes, whatever was in it, and shows them.
fn write(engine: &Engine) {
    let mut batch = Batch::new();
    batch.put(b"new", b"value");
    if engine.submit(batch, Durability::Synced, Box::new(|_| {})).is_ok() {
        while engine.step() {}
        let found = engine.get(b"new").unwrap().unwrap();
        assert_eq!(found.0, "value");
    }
    let _failed = engine.flush();
    let _failed = engine.close();
}

fn wal_reader(data: &[u8]) {
    fuzz::batch(data);
    replaced(".wal", data, false);
}

fn sstable_table(data: &[u8]) {
    // A table of another length is refused at once: that would leave little to look at.
    replaced(".sst", data, true);
}

fn blob_file(data: &[u8]) {
    fuzz::blob(data);
    replaced(".blob", data, true);
}

fn manifest(data: &[u8]) {
    fuzz::edit(data);
    replaced("MANIFEST", data, false);
}

/// Puts bytes in the place of a file of an export, checks it, and takes it into a store that has
/// other keys. The first byte says which file, and whether checksums are believed unseen.
fn ingest(data: &[u8]) {
    let (flags, content) = data.split_first().unwrap_or((&0, &[]));
    let _armed = (flags & 1 == 1).then(|| arm_mutant("storage-checksums-unchecked"));
    let (target, _) = &exported()[usize::from(flags >> 1) % exported().len()];
    let vfs = MemoryVfs::default();
    for (path, old) in exported() {
        let file = vfs.create(path).unwrap();
        file.write_at(0, if path == target { content } else { old }).unwrap();
    }
    let sound = check(&vfs, Path::new(EXPORT)).unwrap().faults.is_empty();
    let Ok(export) = Export::read(&vfs, Path::new(EXPORT)) else { return };
    let (engine, _) = Engine::open(Arc::new(vfs), Path::new(DIR), options()).unwrap();
    let mut batch = Batch::new();
    batch.put(b"here", b"before");
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    while engine.step() {}
    let paths = export.paths(Path::new(EXPORT));
    match engine.ingest(&paths) {
        Ok(taken) => {
            let pairs = pairs(&engine, Direction::Forward).expect("every block was looked at");
            // There may be deletes in what is no export.
            let wanted = taken.entries + 1;
            assert!(pairs.len() as u64 <= wanted, "more came in than there was");
            assert!(!sound || pairs.len() as u64 == wanted, "a sound export came in in part");
        }
        Err(_) => {
            let pairs = pairs(&engine, Direction::Forward).expect("it has nothing but this");
            assert!(pairs.iter().all(|(key, _)| *key == "here"), "something came in all the same");
            assert_eq!(pairs.len(), 1, "what was there is lost");
        }
    }
    exercise(&engine);
    write(&engine);
}

/// A message that is taken in is sent on as the same message.
fn wire_peer(data: &[u8]) {
    let Ok(op) = pb::Op::decode(data) else { return };
    let Ok(message) = message_from_wire(op) else { return };
    assert!(message_weight(&message) >= 32);
    let sent = message_to_wire(message);
    let again = message_from_wire(sent.clone()).expect("what we send we take");
    assert_eq!(message_to_wire(again), sent, "a message changes on its way");
}

/// A stream of operations against a map, on a disk that loses what is not synced.
fn engine_ops(data: &[u8]) {
    let mut draws = Draws::new(data);
    let setting = Setting::draw(&mut draws, Disk::Memory(MemoryVfs::default()));
    let ops = Op::stream(draws.rest());
    play(&ops[..ops.len().min(400)], &setting);
}

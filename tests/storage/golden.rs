//! The bytes of every format. The files in `fixtures/v2` were written by this engine and are
//! walked here field by field as `docs/format/{wal,sstable,manifest}.md` describe them. If a format
//! changes on purpose, change its document, raise its version, and write new fixtures with
//! `KVD_WRITE_FIXTURES=1 cargo test --test storage golden`.

use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roundtable::storage::{
    Batch, Compression, Direction, Durability, Engine, Export, FaultyVfs, KeyRange, LEVEL_COUNT,
    MemoryVfs, Options, ThreadMode, Vfs, check,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::logs::{HEAD, Head, OPENING, head};

const DIR: &str = "/golden";

fn options() -> Options {
    // Small segments: what is made of a log beforehand is part of the fixture.
    Options { threads: ThreadMode::Inline, wal_segment_bytes: 2_048, ..Options::default() }
}

/// Two batches in a table, of which one deletes; a third in the log.
fn written() -> FaultyVfs {
    let disk = FaultyVfs::new(0);
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap();
    let submit = |batch| {
        engine
            .submit(batch, Durability::Synced, Box::new(|result| assert!(result.is_ok())))
            .unwrap();
        while engine.step() {}
    };
    let mut batch = Batch::new();
    batch.put(b"apple", b"red");
    batch.put(b"apricot", b"orange");
    submit(batch);
    let mut batch = Batch::new();
    batch.delete(b"banana");
    submit(batch);
    engine.flush().unwrap();
    let mut batch = Batch::new();
    batch.put(b"cherry", b"dark");
    batch.delete(b"apple");
    submit(batch);
    engine.close().unwrap();
    disk
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/storage/fixtures/v2")
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(fixtures().join(name)).unwrap()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn the_engine_writes_the_bytes_of_the_fixtures() {
    let disk = written();
    let names: Vec<String> = disk
        .files()
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().into())
        .collect();
    if std::env::var_os("KVD_WRITE_FIXTURES").is_some() {
        fs::create_dir_all(fixtures()).unwrap();
        for name in &names {
            fs::write(fixtures().join(name), disk.content(&Path::new(DIR).join(name)).unwrap())
                .unwrap();
        }
    }
    assert_eq!(
        names,
        ["000001.wal", "000004.sst", "CURRENT", "MANIFEST-000002", "MANIFEST-000003"]
    );
    for name in &names {
        let content = disk.content(&Path::new(DIR).join(name)).unwrap();
        assert!(content == fixture(name), "{name} has changed: docs/format must change too");
    }
}

#[test]
fn the_log_is_as_documented() {
    let log = fixture("000001.wal");
    let record = |at: usize| head(&log, 1, at).expect("a header that checks at its place");
    let plain = |length, what| Head { length, what, format: 10, distance: 0, batch: 0 };
    // The opening. There is no segment before this one.
    assert_eq!(record(0), plain(20, 2));
    assert_eq!(log[HEAD..OPENING], [0; 20], "log, bytes and last batch before");
    // The first batch: nothing was synced yet, so it promises nothing.
    let first = OPENING;
    assert_eq!(record(first), Head { batch: 1, distance: first as u64, ..plain(27, 0) });
    assert_eq!(log[first + HEAD..first + 47], *b"\x01\x05\x03applered\x01\x07\x06apricotorange");
    assert_eq!(log[first + 47], 0, "padding");
    let place = [1u64.to_le_bytes(), (first as u64).to_le_bytes()].concat();
    let (payload, place) = (xxh3_64(&log[first + HEAD..first + 47]), xxh3_64(&place));
    assert_eq!(log[first + 16..first + 20], (payload ^ place).to_le_bytes()[..4]);
    // The second was written over the mark behind the first, and promises the first.
    let second = first + 48;
    assert_eq!(record(second), Head { batch: 2, ..plain(8, 0) });
    assert_eq!(log[second + HEAD..second + 28], *b"\x00\x06banana");
    // The last is a mark: no payload, the number of the batch before it. Behind it is what was made
    // of the file beforehand.
    let third = second + 28;
    let mark = third + record(third).record();
    assert_eq!(record(mark), Head { batch: 3, ..plain(0, 1) });
    let rest = &log[mark + HEAD..];
    assert!(!rest.is_empty() && rest.iter().all(|byte| *byte == 0));
}

#[test]
fn the_table_is_as_documented() {
    let table = fixture("000004.sst");
    // Entries: four times what is shared and the kind, suffix, value, batches above the lowest; then
    // offsets, tags and tail.
    let block = b"\x01\x05\x03\x00applered\
        \x09\x05\x06\x00ricotorange\
        \x00\x06\x00\x01banana\
        \x00\x00\x0c\x00\x1b\x00";
    assert_eq!(table[..block.len()], *block, "entries and offsets");
    let tail = block.len() + 3;
    assert_eq!(u64_at(&table, tail), 1, "lowest batch");
    assert_eq!(u32_at(&table, tail + 8), 3, "entries");
    assert_eq!(table[tail + 12..tail + 17], [16, 0, 1, 0, 0], "restart, width, tags, compression");
    let filter = tail + 17 + 8;
    // One line of 64 bytes with six places for each of three keys, some of which may fall together.
    assert_eq!(table[filter], 6, "places of a key");
    let ones: u32 = table[filter + 1..filter + 65].iter().map(|byte| byte.count_ones()).sum();
    assert!((10..=18).contains(&ones), "{ones}");
    assert_eq!(table[filter + 65], 0, "compression");
    let index = filter + 65 + 9;
    // The one separator is the largest key; its value is offset and length of the block.
    let expected = b"\x01\x06\x02\x00banana\x00";
    assert_eq!(table[index..index + expected.len()], *expected);
    assert_eq!(usize::from(table[index + expected.len()]), filter, "length");
    let tail = index + expected.len() + 1 + 2;
    assert_eq!(table[tail..tail + 17], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 0]);
    let footer = table.len() - 136;
    assert_eq!(footer, tail + 17 + 8);
    let fields: Vec<usize> =
        (0..14).map(|field| u64_at(&table, footer + field * 8) as usize).collect();
    assert_eq!(fields[..2], [filter, 74]);
    assert_eq!(fields[2..6], [index, 0, index, footer - index], "no blob files");
    assert_eq!(fields[6..10], [3, 1, 1, 2], "entries, deletes, batches");
    assert_eq!(fields[10..12], [5 + 3 + 7 + 6 + 6, 1], "bytes of keys and values, blocks");
    assert_eq!(fields[13], 4, "salt");
    assert_eq!(u32_at(&table, footer + 112), 4);
    assert_eq!(table[footer + 116..footer + 120], [1, 0, 0, 0], "levels of the index");
    assert_eq!(table[footer + 128..], *b"rndtblST");
}

#[test]
fn a_compressed_block_stands_in_columns_as_documented() {
    let disk = FaultyVfs::new(0);
    let options = Options { compression: [Compression::Lz4; LEVEL_COUNT], ..options() };
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options).unwrap();
    for key in [b"plum", b"pear"] {
        let mut batch = Batch::new();
        batch.put(key, &[b'x'; 200]);
        engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    }
    engine.flush().unwrap();
    engine.close().unwrap();
    let is_table = |path: &&PathBuf| path.extension().is_some_and(|kind| kind == "sst");
    let table = disk.content(disk.files().iter().find(is_table).unwrap()).unwrap();
    let stored = u64_at(&table, table.len() - 136) as usize - 9;
    assert_eq!(table[stored], 1, "lz4");
    // Lowest batch, entries, restart, tags; leads, lengths of keys and of values, batches; suffixes.
    let expected = [
        &b"\x01\x02\x10\x01\x01\x05\x04\x04\xc8\x01\xc8\x01\x01\x00pearlum"[..],
        &[b'x'; 400],
        b"\x01",
    ];
    let expected = expected.concat();
    assert_eq!(table[..2], [(expected.len() & 0x7f) as u8 | 0x80, (expected.len() >> 7) as u8]);
    let body = lz4_flex::block::decompress(&table[2..stored], expected.len()).unwrap();
    assert_eq!(body, expected);
}

#[test]
fn the_manifest_is_as_documented() {
    let current = fixture("CURRENT");
    assert_eq!(current.len(), b"MANIFEST-000003 0123456789abcdef\n".len());
    assert!(current.starts_with(b"MANIFEST-000003 "));
    let manifest = fixture("MANIFEST-000003");
    // The first edit is the whole state: format, next file, flushed 0, log 1.
    let first = b"\x03\x00\x00\x00\x04\x00\x00\x00\x01\x00\x02\x01\x00";
    assert_eq!(u32_at(&manifest, 0) as usize, first.len());
    assert_eq!(manifest[12..12 + first.len()], *first);
    // The second: flushed 2, table 4 at level 0 with its length, entries, deletes, batches and keys.
    let second = 12 + first.len();
    let length = fixture("000004.sst").len();
    let varint = [(length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
    let expected = [
        b"\x03\x00\x00\x00\x05\x00\x00\x00\x01\x02\x05\x04\x00".as_slice(),
        &varint,
        b"\x03\x01\x01\x02\x05apple\x06banana\x00",
    ]
    .concat();
    assert_eq!(manifest[second + 12..], expected);
    assert_eq!(u32_at(&manifest, second) as usize, expected.len());
}

#[test]
fn the_list_of_an_export_is_as_documented() {
    let disk = written();
    let (engine, _) = Engine::open(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap();
    let dir = Path::new("/export");
    let export = engine.export(&KeyRange::between(b"a", b"b"), dir).unwrap();
    let [file] = export.files.as_slice() else { panic!("{export:?}") };
    let list = disk.content(&dir.join("EXPORT")).unwrap();
    assert_eq!(u32_at(&list, 0) as usize, list.len() - 12);
    let length = [(file.bytes & 0x7f) as u8 | 0x80, (file.bytes >> 7) as u8];
    let name = file.name.as_bytes();
    let expected = [
        // Format, batch 3, from "a" up to "b", one file.
        b"\x02\x00\x00\x00\x03\x01a\x02b\x01".as_slice(),
        &[name.len() as u8],
        name,
        b"\x07apricot\x07apricot\x01",
        &length,
        &xxh3_64(&disk.content(&dir.join(&file.name)).unwrap()).to_le_bytes(),
        // It refers to no blob file, and there are none.
        b"\x00\x00",
    ]
    .concat();
    assert_eq!(list[12..], expected);
    assert_eq!(Export::read(&disk, dir).unwrap(), export);
}

/// One long value that can be compressed, one that cannot, one short.
fn long_values() -> [(&'static [u8], Vec<u8>); 3] {
    [(b"fig", vec![b'x'; 300]), (b"kiwi", (0..=199).collect()), (b"lime", b"green".to_vec())]
}

fn with_blobs() -> Options {
    // Segments of a size that a flush leaves in use.
    Options { blob_bytes_min: Some(200), wal_segment_bytes: 64 << 10, ..options() }
}

/// The table, the blob file and the manifest of a store with long values.
fn written_with_blobs() -> [Vec<u8>; 3] {
    let disk = FaultyVfs::new(0);
    let opened = Engine::open(Arc::new(disk.clone()), Path::new(DIR), with_blobs());
    let engine = opened.unwrap().0;
    let mut batch = Batch::new();
    long_values().iter().for_each(|(key, value)| batch.put(key, value));
    engine.submit(batch, Durability::Synced, Box::new(|_| {})).unwrap();
    engine.flush().unwrap();
    engine.close().unwrap();
    BLOB_FILES.map(|name| {
        let content = disk.content(&Path::new(DIR).join(name)).unwrap();
        if std::env::var_os("KVD_WRITE_FIXTURES").is_some() {
            fs::write(fixtures().join("blob").join(name), &content).unwrap();
        }
        content
    })
}

const BLOB_FILES: [&str; 3] = ["000004.sst", "000005.blob", "MANIFEST-000003"];

#[test]
fn a_blob_file_and_what_refers_to_it_are_as_documented() {
    let written = written_with_blobs();
    for (name, content) in BLOB_FILES.iter().zip(&written) {
        let kept = fs::read(fixtures().join("blob").join(name)).unwrap();
        assert!(*content == kept, "{name} has changed: docs/format must change too");
    }
    let [table, blob, manifest] = written;
    assert_eq!(blob[..8], *b"rndblobO");
    assert_eq!((u32_at(&blob, 8), u32_at(&blob, 12)), (1, 0), "format, nothing");
    let salt = u64_at(&blob, 16);
    // The first record: it is compressed, its length stands before the compressed bytes.
    let key_hash = xxh3_64(b"fig");
    assert_eq!(u64_at(&blob, 40), key_hash);
    let stored = u32_at(&blob, 48) as usize;
    assert_eq!((u32_at(&blob, 52), blob[56]), (300, 1), "length of the value, compression");
    assert_eq!(blob[57..59], [0xac, 0x02], "length of the value again");
    let second = 57 + stored;
    assert_eq!(u64_at(&blob, second + 8), xxh3_64(b"kiwi"));
    assert_eq!((u32_at(&blob, second + 16), u32_at(&blob, second + 20)), (200, 200));
    assert_eq!(blob[second + 24], 0);
    assert_eq!(blob[second + 25..second + 225], long_values()[1].1);
    let closing = second + 225;
    assert_eq!(blob.len(), closing + 56);
    assert_eq!((u64_at(&blob, closing), u64_at(&blob, closing + 8)), (2, 500), "records, bytes");
    let sums = [&blob[32..40], &blob[second..second + 8]].concat();
    assert_eq!(u64_at(&blob, closing + 16), xxh3_64(&sums));
    assert_eq!(u64_at(&blob, closing + 24), salt);
    assert_eq!((u32_at(&blob, closing + 32), u32_at(&blob, closing + 36)), (1, 0));
    assert_eq!(blob[closing + 48..], *b"rndblobC");
    // The table: an entry of kind 2, with slot, offset, length of the record and of the value, and
    // the first 64 bytes of that.
    let record = (stored + 25) as u8;
    let first = [&b"\x02\x03\x45\x00fig\x00\x20"[..], &[record, 0xac, 0x02], &[b'x'; 64]];
    let first = first.concat();
    assert_eq!(table[..first.len()], first);
    // The list of blob files.
    let footer = table.len() - 136;
    let (list, bytes) = (u64_at(&table, footer + 16) as usize, stored + 25 + 225);
    assert_eq!(u64_at(&table, footer + 24), 1 + 8 + 1 + 2 + 9);
    let varint = |number: usize| [(number & 0x7f) as u8 | 0x80, (number >> 7) as u8];
    let slot = [&salt.to_le_bytes()[..], &[2], &varint(bytes)].concat();
    assert_eq!(table[list..list + 12], [&[1][..], &slot].concat());
    // The manifest: the blob file, then what the table refers to in it.
    let added = [&[11, 5][..], &salt.to_le_bytes(), &varint(blob.len()), &[2, 5, 4, 0]].concat();
    let refers = [&[12, 5, 2][..], &varint(bytes), &[0]].concat();
    assert!(manifest.windows(added.len()).any(|bytes| bytes == added));
    assert!(manifest.ends_with(&refers));
}

#[test]
fn a_store_of_the_fixtures_opens_and_reads() {
    let disk = MemoryVfs::default();
    for entry in fs::read_dir(fixtures()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            continue;
        }
        let name = entry.file_name();
        let file = disk.create(&Path::new(DIR).join(&name)).unwrap();
        file.write_at(0, &fixture(name.to_str().unwrap())).unwrap();
    }
    let checked = check(&disk, Path::new(DIR)).unwrap();
    assert!(checked.faults.is_empty(), "{:?}", checked.faults);
    let (engine, recovery) = Engine::open(Arc::new(disk), Path::new(DIR), options()).unwrap();
    assert_eq!((recovery.batches, recovery.last.0, recovery.corrupt.len()), (1, 3, 0));
    let pairs = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    let pairs: Vec<_> = pairs.map(|pair| pair.unwrap()).map(|(k, v, s)| (k, v, s.0)).collect();
    let expected = [("apricot", "orange", 1), ("cherry", "dark", 3)];
    assert_eq!(pairs, expected.map(|(key, value, number)| (key.into(), value.into(), number)));
}

//! The records of a log file, read as `docs/format/wal.md` describes them, without the engine.

use std::path::{Path, PathBuf};

use roundtable::storage::FaultyVfs;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::damage::of_kind;

/// Bytes of a record's header.
pub(crate) const HEAD: usize = 20;
/// Bytes of the record that begins a segment.
pub(crate) const OPENING: usize = 40;

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) what: u8,
    pub(crate) format: u8,
    /// From what it promises to itself.
    pub(crate) distance: u64,
    /// The lower part of the number.
    pub(crate) batch: u64,
}

impl Head {
    /// Bytes of the record.
    pub(crate) fn record(&self) -> usize {
        (HEAD + self.length).next_multiple_of(4)
    }
}

/// The header at a place of a log, if one of that log is there.
pub(crate) fn head(log: &[u8], number: u32, at: usize) -> Option<Head> {
    let head = log.get(at..at + HEAD)?;
    let place = [u64::from(number).to_le_bytes(), (at as u64).to_le_bytes()].concat();
    let sum = xxh3_64_with_seed(&head[4..], xxh3_64(&place));
    if head[..4] != sum.to_le_bytes()[..4] {
        return None;
    }
    let word = u32::from_le_bytes(head[4..8].try_into().unwrap());
    let numbers = u64::from_le_bytes(head[8..16].try_into().unwrap());
    Some(Head {
        length: (word & 0x03ff_ffff) as usize,
        what: (word >> 26 & 3) as u8,
        format: (word >> 28) as u8,
        distance: 4 * (numbers & 0x00ff_ffff),
        batch: numbers >> 24,
    })
}

/// The number in the name of a log.
pub(crate) fn number_of(path: &Path) -> u32 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

/// The records of a log from its beginning without a gap, with their places.
pub(crate) fn records(log: &[u8], number: u32) -> Vec<(usize, Head)> {
    let mut offset = 0;
    let mut found = Vec::new();
    while let Some(head) = head(log, number, offset) {
        found.push((offset, head));
        offset += head.record();
    }
    found
}

/// Where the records of a log end, and zeros or what another log has left there begin. A mark is
/// not counted: it means nothing behind a seal.
pub(crate) fn records_end(log: &[u8], number: u32) -> usize {
    let records = records(log, number);
    let last = records.iter().rfind(|(_, head)| head.what != 1);
    last.map_or(0, |(offset, head)| offset + head.record())
}

/// The log that was in use, by its records: a spare one may follow.
pub(crate) fn last_log(disk: &FaultyVfs) -> PathBuf {
    let in_use = |path: &PathBuf| head(&disk.content(path).unwrap(), number_of(path), 0).is_some();
    of_kind(disk, ".wal").into_iter().rfind(in_use).unwrap()
}

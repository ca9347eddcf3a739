//! One change of the set of files, its bytes, and the state that a sequence of them makes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::storage::batch::Seqno;
use crate::storage::blob::{BlobMeta, BlobUse};
use crate::storage::coding::{Reader, put_length, put_string, put_varint};
use crate::storage::deleted::RangeDelete;
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::key_range::KeyRange;
use crate::storage::sstable::{Droppable, TableMeta};

const FORMAT: u32 = 3;
/// What every edit begins with.
pub(super) const FORMAT_BYTES: [u8; 4] = FORMAT.to_le_bytes();

/// A log segment that is complete: all of it was on disk before this was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) bytes: u64,
    pub(crate) last: Seqno,
}

/// Changes that become true together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) next_file: FileNo,
    /// All batches up to here are in tables.
    pub(crate) flushed: Option<Seqno>,
    pub(crate) logs_added: Vec<FileNo>,
    pub(crate) logs_sealed: Vec<(FileNo, Sealed)>,
    pub(crate) logs_removed: Vec<FileNo>,
    pub(crate) tables_added: Vec<TableMeta>,
    pub(crate) tables_removed: Vec<FileNo>,
    /// They are in force as long as a table refers to them: see [`State::apply`].
    pub(crate) blobs_added: Vec<BlobMeta>,
    /// They are in force until no table needs them: see [`State::apply`].
    pub(crate) ranges_deleted: Vec<RangeDelete>,
}

const TAG_FLUSHED: u8 = 1;
const TAG_LOG_ADDED: u8 = 2;
const TAG_LOG_SEALED: u8 = 3;
const TAG_LOG_REMOVED: u8 = 4;
const TAG_TABLE_ADDED: u8 = 5;
const TAG_TABLE_REMOVED: u8 = 6;
const TAG_RANGE_DELETED: u8 = 7;
const TAG_TABLE_PURGED: u8 = 8;
const TAG_TABLE_DROPPABLE: u8 = 9;
const TAG_TABLE_ADOPTED: u8 = 10;
const TAG_BLOB_ADDED: u8 = 11;
const TAG_TABLE_BLOB: u8 = 12;

impl Edit {
    /// The edit that makes `state` out of nothing.
    pub(crate) fn snapshot(state: &State) -> Self {
        Self {
            next_file: state.next_file,
            flushed: Some(state.flushed),
            logs_added: state.logs.keys().copied().collect(),
            logs_sealed: state.logs.iter().filter_map(|(no, log)| Some((*no, (*log)?))).collect(),
            tables_added: state.tables.values().cloned().collect(),
            blobs_added: state.blobs.values().map(|(blob, _)| blob.clone()).collect(),
            ranges_deleted: state.deleted.clone(),
            ..Self::default()
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = FORMAT.to_le_bytes().to_vec();
        out.extend_from_slice(&self.next_file.to_le_bytes());
        if let Some(flushed) = self.flushed {
            out.push(TAG_FLUSHED);
            put_varint(&mut out, flushed.0);
        }
        let numbers = [
            (TAG_LOG_ADDED, &self.logs_added),
            (TAG_LOG_REMOVED, &self.logs_removed),
            (TAG_TABLE_REMOVED, &self.tables_removed),
        ];
        for (tag, numbers) in numbers {
            for no in numbers {
                out.push(tag);
                put_varint(&mut out, u64::from(*no));
            }
        }
        for (no, sealed) in &self.logs_sealed {
            out.push(TAG_LOG_SEALED);
            put_varint(&mut out, u64::from(*no));
            put_varint(&mut out, sealed.bytes);
            put_varint(&mut out, sealed.last.0);
        }
        for blob in &self.blobs_added {
            out.push(TAG_BLOB_ADDED);
            put_varint(&mut out, u64::from(blob.no));
            out.extend_from_slice(&blob.salt.to_le_bytes());
            put_varint(&mut out, blob.bytes);
            put_varint(&mut out, blob.records);
        }
        self.tables_added.iter().for_each(|table| encode_table(table, &mut out));
        for RangeDelete { range, seqno } in &self.ranges_deleted {
            out.push(TAG_RANGE_DELETED);
            put_varint(&mut out, seqno.0);
            range.encode(&mut out);
        }
        // An edit is never a whole number of zeros, so a run of zeros is never an edit.
        put_length(&mut out, 0);
        out
    }

    /// Decodes what passed its checksum; `None` if it is no edit all the same.
    ///
    /// # Errors
    /// `Version` when it is of a later format.
    pub(crate) fn decode(body: &[u8], path: &Path) -> Result<Option<Self>, Error> {
        let mut reader = Reader::new(body);
        match reader.u32() {
            Some(FORMAT) => Ok(Self::decode_fields(&mut reader)),
            Some(found) => Err(Error::Version { file: path.to_path_buf(), found, known: FORMAT }),
            None => Ok(None),
        }
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Option<Self> {
        let mut edit = Self { next_file: reader.u32()?, ..Self::default() };
        // By the place of their table among those that were added.
        let mut uses: BTreeMap<usize, Vec<BlobUse>> = BTreeMap::new();
        loop {
            match reader.u8()? {
                0 => {
                    for (place, blobs) in uses {
                        edit.tables_added.get_mut(place)?.blobs = blobs.into();
                    }
                    return reader.is_empty().then_some(edit);
                }
                TAG_FLUSHED => edit.flushed = Some(Seqno(reader.varint()?)),
                TAG_LOG_ADDED => edit.logs_added.push(number(reader)?),
                TAG_LOG_REMOVED => edit.logs_removed.push(number(reader)?),
                TAG_TABLE_REMOVED => edit.tables_removed.push(number(reader)?),
                TAG_LOG_SEALED => {
                    let no = number(reader)?;
                    let bytes = reader.varint()?;
                    edit.logs_sealed.push((no, Sealed { bytes, last: Seqno(reader.varint()?) }));
                }
                TAG_TABLE_ADDED => edit.tables_added.push(table(reader)?),
                TAG_TABLE_PURGED => {
                    edit.tables_added.last_mut()?.purged = Seqno(reader.varint()?);
                }
                TAG_TABLE_ADOPTED => {
                    edit.tables_added.last_mut()?.adopted = Some(reader.varint()?);
                }
                TAG_RANGE_DELETED => edit.ranges_deleted.push(range_delete(reader)?),
                TAG_BLOB_ADDED => edit.blobs_added.push(blob(reader)?),
                TAG_TABLE_BLOB => {
                    let one = blob_use(reader)?;
                    uses.entry(edit.tables_added.len().checked_sub(1)?).or_default().push(one);
                }
                TAG_TABLE_DROPPABLE => edit.tables_added.last_mut()?.droppable = droppable(reader)?,
                _ => return None,
            }
        }
    }
}

fn encode_table(table: &TableMeta, out: &mut Vec<u8>) {
    out.push(TAG_TABLE_ADDED);
    put_varint(out, u64::from(table.no));
    out.push(table.level);
    let numbers = [table.bytes, table.entries, table.deletes, table.first.0, table.last.0];
    numbers.into_iter().for_each(|number| put_varint(out, number));
    put_string(out, &table.smallest);
    put_string(out, &table.largest);
    if let Some(salt) = table.adopted {
        out.push(TAG_TABLE_ADOPTED);
        put_varint(out, salt);
    }
    if table.purged > Seqno(0) {
        out.push(TAG_TABLE_PURGED);
        put_varint(out, table.purged.0);
    }
    let Droppable { entries, bytes, lowest, highest } = table.droppable;
    if entries > 0 {
        out.push(TAG_TABLE_DROPPABLE);
        let numbers = [entries, bytes, lowest, highest];
        numbers.into_iter().for_each(|number| put_varint(out, number));
    }
    for one in table.blobs.iter() {
        out.push(TAG_TABLE_BLOB);
        let numbers = [u64::from(one.file), one.records, one.bytes];
        numbers.into_iter().for_each(|number| put_varint(out, number));
    }
}

fn number(reader: &mut Reader<'_>) -> Option<FileNo> {
    FileNo::try_from(reader.varint()?).ok()
}

fn table(reader: &mut Reader<'_>) -> Option<TableMeta> {
    Some(TableMeta {
        no: number(reader)?,
        level: reader.u8()?,
        bytes: reader.varint()?,
        entries: reader.varint()?,
        deletes: reader.varint()?,
        first: Seqno(reader.varint()?),
        last: Seqno(reader.varint()?),
        smallest: Bytes::copy_from_slice(reader.string()?),
        largest: Bytes::copy_from_slice(reader.string()?),
        purged: Seqno(0),
        droppable: Droppable::default(),
        adopted: None,
        blobs: Arc::default(),
    })
}

fn blob(reader: &mut Reader<'_>) -> Option<BlobMeta> {
    let (no, salt, bytes) = (number(reader)?, reader.u64()?, reader.varint()?);
    Some(BlobMeta { no, salt, bytes, records: reader.varint()? })
}

fn blob_use(reader: &mut Reader<'_>) -> Option<BlobUse> {
    let (file, records) = (number(reader)?, reader.varint()?);
    Some(BlobUse { file, records, bytes: reader.varint()? })
}

fn droppable(reader: &mut Reader<'_>) -> Option<Droppable> {
    Some(Droppable {
        entries: reader.varint()?,
        bytes: reader.varint()?,
        lowest: reader.varint()?,
        highest: reader.varint()?,
    })
}

fn range_delete(reader: &mut Reader<'_>) -> Option<RangeDelete> {
    let seqno = Seqno(reader.varint()?);
    Some(RangeDelete { range: KeyRange::decode(reader)?, seqno })
}

/// The set of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) next_file: FileNo,
    pub(crate) flushed: Seqno,
    /// Segments whose batches are not all in tables; the one in use has no seal.
    pub(crate) logs: BTreeMap<FileNo, Option<Sealed>>,
    pub(crate) tables: BTreeMap<FileNo, TableMeta>,
    /// Blob files, and how many tables refer to each.
    pub(crate) blobs: BTreeMap<FileNo, (BlobMeta, usize)>,
    /// Deleted ranges that still hide something in a table.
    pub(crate) deleted: Vec<RangeDelete>,
}

impl Default for State {
    fn default() -> Self {
        let (logs, tables) = (BTreeMap::new(), BTreeMap::new());
        let blobs = BTreeMap::new();
        Self { next_file: 1, flushed: Seqno(0), logs, tables, blobs, deleted: Vec::new() }
    }
}

impl State {
    /// A number for a new file. It is spent even if the file is never made.
    ///
    /// # Errors
    /// When all four thousand million numbers are spent.
    pub(crate) fn take_number(&mut self) -> Result<FileNo, Error> {
        let no = self.next_file;
        self.next_file = no.checked_add(1).ok_or(Error::TooLong {
            what: "file number",
            length: usize::MAX,
            limit: FileNo::MAX as usize,
        })?;
        Ok(no)
    }

    pub(crate) fn apply(&mut self, edit: &Edit) {
        self.next_file = self.next_file.max(edit.next_file);
        self.flushed = self.flushed.max(edit.flushed.unwrap_or_default());
        for no in &edit.logs_added {
            self.logs.insert(*no, None);
        }
        for (no, sealed) in &edit.logs_sealed {
            self.logs.insert(*no, Some(*sealed));
        }
        for no in &edit.logs_removed {
            self.logs.remove(no);
        }
        for blob in &edit.blobs_added {
            self.blobs.entry(blob.no).or_insert_with(|| (blob.clone(), 0));
        }
        let mut replaced = Vec::new();
        for table in &edit.tables_added {
            self.refer(table, |tables| tables.saturating_add(1));
            replaced.extend(self.tables.insert(table.no, table.clone()));
        }
        replaced.extend(edit.tables_removed.iter().filter_map(|no| self.tables.remove(no)));
        for table in &replaced {
            self.refer(table, |tables| tables.saturating_sub(1));
        }
        if !replaced.is_empty() || !edit.blobs_added.is_empty() {
            self.blobs.retain(|_, (_, tables)| *tables > 0);
        }
        self.deleted.extend(edit.ranges_deleted.iter().cloned());
        if !self.deleted.is_empty() {
            let tables: Vec<&TableMeta> = self.tables.values().collect();
            self.deleted = RangeDelete::needed(&self.deleted, &tables);
        }
    }

    /// Number of entries of all tables.
    pub(crate) fn entries(&self) -> u64 {
        self.tables.values().map(|table| table.entries).sum()
    }

    /// Counts a table among those that refer to its blob files, or no longer.
    fn refer(&mut self, table: &TableMeta, count: impl Fn(usize) -> usize) {
        for one in table.blobs.iter() {
            if let Some((_, tables)) = self.blobs.get_mut(&one.file) {
                *tables = count(*tables);
            }
        }
    }

    /// Sealed segments that hold nothing above `flushed`.
    pub(crate) fn logs_covered_by(&self, flushed: Seqno) -> Vec<FileNo> {
        let covered =
            self.logs.iter().filter(|(_, log)| log.is_some_and(|sealed| sealed.last <= flushed));
        covered.map(|(no, _)| *no).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(
            fields in vec((0u8..12, vec(any::<u8>(), 0..12), any::<bool>()), 0..12),
        ) {
            let mut body = FORMAT.to_le_bytes().to_vec();
            body.extend_from_slice(&[9, 0, 0, 0]);
            for (tag, values, small) in fields {
                body.push(tag);
                body.extend(values.iter().map(|byte| if small { byte % 4 } else { *byte }));
            }
            body.push(0);
            let path = Path::new("MANIFEST");
            if let Some(edit) = Edit::decode(&body, path).unwrap() {
                let mut state = State::default();
                state.apply(&edit);
                prop_assert_eq!(Edit::decode(&edit.encode(), path).unwrap(), Some(edit));
            }
        }
    }

    #[test]
    fn an_edit_reads_back_and_a_cut_one_does_not() {
        let edit = Edit {
            next_file: 9,
            flushed: Some(Seqno(300)),
            logs_added: vec![8],
            logs_sealed: vec![(7, Sealed { bytes: 4096, last: Seqno(299) })],
            logs_removed: vec![5, 6],
            tables_added: vec![TableMeta {
                no: 4,
                level: 0,
                bytes: 1000,
                entries: 3,
                deletes: 1,
                smallest: Bytes::from_static(b"a"),
                largest: Bytes::from_static(b"z"),
                first: Seqno(1),
                last: Seqno(300),
                purged: Seqno(200),
                droppable: Droppable { entries: 2, bytes: 70, lowest: 5, highest: 600 },
                adopted: Some(1 << 40),
                blobs: [9, 8].map(|file| BlobUse { file, records: 2, bytes: 9_000 }).into(),
            }],
            blobs_added: vec![BlobMeta { no: 9, salt: 1 << 60, bytes: 1 << 26, records: 999 }],
            tables_removed: vec![2],
            ranges_deleted: vec![
                RangeDelete { range: KeyRange::prefix(b"p"), seqno: Seqno(299) },
                RangeDelete { range: KeyRange::all(), seqno: Seqno(300) },
            ],
        };
        let bytes = edit.encode();
        let path = Path::new("MANIFEST");
        assert_eq!(Edit::decode(&bytes, path).unwrap(), Some(edit));
        for cut in 0..bytes.len() {
            assert_eq!(Edit::decode(&bytes[..cut], path).unwrap(), None);
        }
    }
}

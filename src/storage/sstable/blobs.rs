//! The blob files that a table refers to: a list of slots, of which each pointer names one.
//!
//! Entries name slots and not files, so a table that another store takes in keeps its bytes: there
//! the manifest says which file a slot is. The list in the table itself knows a file by its salt.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::footer::Footer;
use super::table::Parts;
use super::{Table, TableMeta};
use crate::storage::blob::{BlobFile, BlobUse, Pointer};
use crate::storage::coding::{Reader, put_length, put_varint};
use crate::storage::error::Error;
use crate::storage::files::FileNo;

/// From so many blob files on a table is ended rather than refer to one more: a list this long
/// means that its values are scattered, and everyone who keeps the table keeps all of them.
const SLOTS_MAX: usize = 1_024;

/// What a table refers to in one blob file, as the table itself says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    salt: u64,
    records: u64,
    bytes: u64,
}

impl Slot {
    /// The one file that it means; none if there is none, or more than one.
    pub(super) fn find(&self, blobs: &[Arc<BlobFile>]) -> Option<Arc<BlobFile>> {
        let mut found = blobs.iter().filter(|blob| blob.salt == self.salt);
        let one = found.next().cloned();
        one.filter(|_| found.next().is_none())
    }

    /// The same as the manifest says it.
    pub(super) fn of_file(&self, file: FileNo) -> BlobUse {
        BlobUse { file, records: self.records, bytes: self.bytes }
    }
}

/// Takes the body of the list apart.
pub(super) fn decode(body: &[u8]) -> Option<Vec<Slot>> {
    let mut reader = Reader::new(body);
    let count = reader.length()?;
    let mut slots = Vec::new();
    for _ in 0..count {
        let (salt, records) = (reader.u64()?, reader.varint()?);
        slots.push(Slot { salt, records, bytes: reader.varint()? });
    }
    reader.is_empty().then_some(slots)
}

/// Whether a table's own list is what the manifest says, and these are its files.
pub(super) fn compare(slots: &[Slot], meta: &TableMeta, blobs: &[Arc<BlobFile>]) -> bool {
    let said = meta.blobs.iter().zip(blobs);
    let said =
        said.map(|(one, blob)| Slot { salt: blob.salt, records: one.records, bytes: one.bytes });
    meta.blobs.len() == blobs.len() && said.eq(slots.iter().copied())
}

/// The list of a table in the making.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<(Arc<BlobFile>, BlobUse)>,
    by_file: BTreeMap<FileNo, usize>,
    bytes: u64,
}

impl Slots {
    /// Counts a record of so many bytes in a file; returns the file's slot.
    pub(super) fn note(&mut self, blob: &Arc<BlobFile>, bytes: u64) -> usize {
        let next = self.slots.len();
        let slot = *self.by_file.entry(blob.no).or_insert(next);
        if slot == next {
            let none = BlobUse { file: blob.no, records: 0, bytes: 0 };
            self.slots.push((Arc::clone(blob), none));
        }
        if let Some((_, one)) = self.slots.get_mut(slot) {
            one.records += 1;
            one.bytes += bytes;
        }
        self.bytes += bytes;
        slot
    }

    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= SLOTS_MAX
    }

    /// Bytes of all records that were counted.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn uses(&self) -> Arc<[BlobUse]> {
        self.slots.iter().map(|(_, one)| *one).collect()
    }

    pub(super) fn files(&self) -> Vec<Arc<BlobFile>> {
        self.slots.iter().map(|(blob, _)| Arc::clone(blob)).collect()
    }

    /// The body of the list; none if it is empty.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        if self.slots.is_empty() {
            return None;
        }
        let mut out = Vec::new();
        put_length(&mut out, self.slots.len());
        for (blob, one) in &self.slots {
            out.extend_from_slice(&blob.salt.to_le_bytes());
            put_varint(&mut out, one.records);
            put_varint(&mut out, one.bytes);
        }
        Some(out)
    }
}

impl Parts {
    /// Reads the list of blob files; empty if there is none.
    pub(super) fn slots(&self, footer: &Footer) -> Result<Vec<Slot>, Error> {
        if footer.blobs.length == 0 {
            return Ok(Vec::new());
        }
        let body = self.unsealed(footer.blobs, self.read(footer.blobs)?, footer.salt)?;
        let what = "list of blob files cannot be decoded";
        decode(&body).ok_or_else(|| Error::corrupt(&self.path, footer.blobs.offset, what))
    }
}

impl Table {
    /// Where the value of an entry stands.
    ///
    /// # Errors
    /// `Corrupt` when it is no pointer into one of the table's blob files.
    pub(crate) fn pointer<'a>(
        &self,
        entry: &'a [u8],
    ) -> Result<(Pointer<'a>, &Arc<BlobFile>), Error> {
        let pointer = Pointer::decode(entry);
        let found = pointer.and_then(|pointer| Some((pointer, self.blobs.get(pointer.slot)?)));
        let what = "an entry does not say where its value stands";
        found.ok_or_else(|| Error::corrupt(self.path(), 0, what))
    }

    /// The value of `key`, given what stands in the table in its place.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says, naming the blob file.
    pub(crate) fn value_of(
        &self,
        key: &[u8],
        entry: &[u8],
        mode: super::ReadMode,
    ) -> Result<bytes::Bytes, Error> {
        let (pointer, blob) = self.pointer(entry)?;
        blob.value(&pointer, key, mode)
    }

    /// The same, if it is in memory.
    pub(crate) fn cached_value_of(&self, key: &[u8], entry: &[u8]) -> Option<bytes::Bytes> {
        let (pointer, blob) = self.pointer(entry).ok()?;
        blob.cached(&pointer, key)
    }
}

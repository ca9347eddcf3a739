//! Writes one table, from entries in key order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::blobs::Slots;
use super::block::BlockShape;
use super::block_builder::BlockBuilder;
use super::filter::{Filter, key_hash};
use super::footer::Footer;
use super::index::{Index, IndexBuilder, Span, separator};
use super::table::Parts;
use super::trailer::{Tries, checksum_of, compressed, seal};
use super::{Droppable, Table, TableMeta};
use crate::storage::batch::{Kind, Seqno};
use crate::storage::blob::{BlobFile, Pointer};
use crate::storage::cache::BlockCache;
use crate::storage::entry::EntryRef;
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::options::{Compression, Options};
use crate::storage::vfs::{Vfs, VfsFile};

/// How much is collected before it is written.
const WRITE_BYTES: usize = 1 << 20;
/// With one entry of the greatest size more a block is still shorter than any block may be.
const BLOCK_TARGET_MAX: usize = 4 << 20;

/// What a table looks like; see [`Options`] for the fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableShape {
    level: u8,
    block_bytes: usize,
    block: BlockShape,
    compression: Compression,
    index_bytes_max: usize,
}

impl TableShape {
    /// Of tables that are written into `level`.
    pub(crate) fn new(options: &Options, level: usize) -> Self {
        let (restart, tagged) = (options.block_restart.max(1), options.block_hash_index);
        Self {
            level: u8::try_from(level).unwrap_or(u8::MAX),
            block_bytes: options.block_bytes.min(BLOCK_TARGET_MAX),
            block: BlockShape { restart, tagged },
            compression: options.compression.get(level).copied().unwrap_or_default(),
            index_bytes_max: options.index_bytes_max,
        }
    }
}

/// A table in the making. If anything fails the file is worthless and to be removed.
pub(crate) struct TableBuilder {
    no: FileNo,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    shape: TableShape,
    cache: Arc<BlockCache>,
    block: BlockBuilder,
    /// Of all ended blocks but the last: what separates a block from the next is known with the
    /// first key of the next.
    index: Vec<(Box<[u8]>, Span)>,
    tries: Tries,
    /// The last ended block, until its separator is known.
    ended: Option<Span>,
    /// One for each key, eight bytes each until the filter is made.
    hashes: Vec<u64>,
    pending: Vec<u8>,
    written: u64,
    smallest: Option<Bytes>,
    largest: Vec<u8>,
    entries: u64,
    deletes: u64,
    raw_bytes: u64,
    first: Seqno,
    last: Seqno,
    droppable: Droppable,
    /// What it refers to.
    slots: Slots,
    /// The pointer that is being added.
    pointer: Vec<u8>,
    /// Bytes of key and value of the entry that was added last, as they stand in the table.
    last_bytes: u64,
    /// Of the checksums of the blocks so far.
    sums: Xxh3,
}

impl std::fmt::Debug for TableBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableBuilder").field("path", &self.path).finish_non_exhaustive()
    }
}

impl TableBuilder {
    pub(crate) fn new(
        no: FileNo,
        file: Arc<dyn VfsFile>,
        path: PathBuf,
        shape: TableShape,
        cache: Arc<BlockCache>,
    ) -> Self {
        Self {
            no,
            file,
            path,
            shape,
            cache,
            block: BlockBuilder::new(shape.block),
            index: Vec::new(),
            tries: Tries::default(),
            ended: None,
            hashes: Vec::new(),
            pending: Vec::new(),
            written: 0,
            smallest: None,
            largest: Vec::new(),
            entries: 0,
            deletes: 0,
            raw_bytes: 0,
            first: Seqno(u64::MAX),
            last: Seqno(0),
            droppable: Droppable::default(),
            slots: Slots::default(),
            pointer: Vec::new(),
            last_bytes: 0,
            sums: Xxh3::new(),
        }
    }

    /// Adds an entry whose key is above all before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn add(&mut self, entry: EntryRef<'_>) -> Result<(), Error> {
        assert!(
            self.smallest.is_none() || *entry.key > *self.largest,
            "entries of a table come in key order"
        );
        self.smallest.get_or_insert_with(|| Bytes::copy_from_slice(entry.key));
        if let Some(span) = self.ended.take() {
            self.index.push((separator(&self.largest, entry.key).into(), span));
        }
        self.largest.clear();
        self.largest.extend_from_slice(entry.key);
        let is_delete = entry.kind == Kind::Delete;
        self.entries += 1;
        self.deletes += u64::from(is_delete);
        self.last_bytes = (entry.key.len() + entry.value.len()) as u64;
        self.raw_bytes += self.last_bytes;
        self.first = self.first.min(entry.seqno);
        self.last = self.last.max(entry.seqno);
        let hash = key_hash(entry.key);
        let left_out = is_delete && crate::mutant!("storage-filter-without-deletes")
            || self.entries.is_multiple_of(8) && crate::mutant!("storage-filter-false-negative");
        if !left_out {
            self.hashes.push(hash);
        }
        self.block.add(entry, hash);
        if self.block.bytes() >= self.shape.block_bytes {
            self.end_block()?;
        }
        Ok(())
    }

    /// Notes that the caller's filter lets the entry that was just added go at this point.
    pub(crate) fn note_droppable(&mut self, point: u64) {
        self.droppable.add(point, self.last_bytes);
    }

    /// Adds an entry whose value stands where `pointer` says in `blob`; its slot and the value of
    /// `entry` do not matter.
    ///
    /// # Errors
    /// As for [`TableBuilder::add`].
    pub(crate) fn add_pointer(
        &mut self,
        entry: EntryRef<'_>,
        pointer: Pointer<'_>,
        blob: &Arc<BlobFile>,
    ) -> Result<(), Error> {
        let slot = self.slots.note(blob, pointer.bytes as u64);
        let mut bytes = std::mem::take(&mut self.pointer);
        bytes.clear();
        Pointer { slot, ..pointer }.encode(&mut bytes);
        let added = self.add(EntryRef { kind: Kind::Pointer, value: &bytes, ..entry });
        self.pointer = bytes;
        added
    }

    /// Whether it refers to so many blob files that another one is one too many.
    pub(crate) fn is_scattered(&self) -> bool {
        self.slots.is_full()
    }

    /// Bytes of the file so far, with those of the values that it refers to.
    pub(crate) fn whole_bytes(&self) -> u64 {
        self.bytes().saturating_add(self.slots.bytes())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file so far, within a block.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + (self.pending.len() + self.block.bytes()) as u64
    }

    /// Removes the unfinished file, as far as the disk lets it: an orphan is swept at the next open.
    pub(crate) fn abandon(self, vfs: &dyn Vfs) {
        let _orphan = vfs.remove(&self.path);
    }

    fn end_block(&mut self) -> Result<(), Error> {
        if !self.block.is_empty() {
            let (stored, used) = self.packed_block();
            self.block.clear();
            self.ended = Some(self.push(stored, used)?);
        }
        Ok(())
    }

    /// The block in the making as it will be stored, and how: compressed if that pays.
    fn packed_block(&mut self) -> (Vec<u8>, Compression) {
        let compression = self.shape.compression;
        let shorter = if compression != Compression::None && self.tries.is_due() {
            let shorter = compressed(&self.block.columns(), compression);
            self.tries.note(shorter.is_some());
            shorter
        } else {
            None
        };
        shorter.map_or_else(|| (self.block.rows(), Compression::None), |it| (it, compression))
    }

    /// Seals a block that is stored so and queues it for writing; returns where it will stand.
    fn push(&mut self, stored: Vec<u8>, used: Compression) -> Result<Span, Error> {
        let offset = self.written + self.pending.len() as u64;
        let sealed = seal(stored, used, u64::from(self.no), offset);
        self.sums.update(&checksum_of(&sealed).to_le_bytes());
        self.pending.extend_from_slice(&sealed);
        if self.pending.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(Span { offset, length: sealed.len() })
    }

    fn write(&mut self) -> Result<(), Error> {
        let result = self.file.write_at(self.written, &self.pending);
        result.map_err(|source| Error::io("write to", &self.path, source))?;
        self.file.written_for_good(self.written, self.pending.len() as u64);
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Queues the list of blob files, if there are any; returns where it will stand.
    fn push_slots(&mut self, filter: Span) -> Result<Span, Error> {
        match self.slots.encode() {
            Some(body) => self.push(body, Compression::None),
            None => Ok(Span { offset: filter.end().unwrap_or_default(), length: 0 }),
        }
    }

    /// Queues the index; returns the body and the place of its upper block, and whether there is a
    /// lower level.
    fn push_index(&mut self) -> Result<(Vec<u8>, Span, bool), Error> {
        let index = std::mem::take(&mut self.index);
        let mut builder = IndexBuilder::new();
        index.iter().for_each(|(separator, span)| builder.add(separator, *span));
        let two_levels = builder.bytes() > self.shape.index_bytes_max;
        let mut body = builder.finish();
        if two_levels {
            let (mut lower, mut upper) = (IndexBuilder::new(), IndexBuilder::new());
            let last = index.len() - 1;
            for (number, (separator, span)) in index.iter().enumerate() {
                lower.add(separator, *span);
                if lower.bytes() >= self.shape.block_bytes || number == last {
                    let span = self.push(lower.finish(), Compression::None)?;
                    upper.add(separator, span);
                }
            }
            body = upper.finish();
        }
        let span = self.push(body.clone(), Compression::None)?;
        Ok((body, span, two_levels))
    }

    /// Writes what is left and syncs the file; its name is not synced. The table is open then.
    ///
    /// # Errors
    /// When the file cannot be written or synced.
    pub(crate) fn finish(mut self) -> Result<Table, Error> {
        assert!(self.entries > 0, "a table has entries");
        self.end_block()?;
        if let Some(span) = self.ended.take() {
            self.index.push((self.largest.as_slice().into(), span));
        }
        let blocks = self.index.len() as u64;
        let filter = Filter::build(&std::mem::take(&mut self.hashes));
        let filter_span = self.push(filter.encode(), Compression::None)?;
        let blobs_span = self.push_slots(filter_span)?;
        let sum = self.sums.digest();
        let (index, index_span, two_levels) = self.push_index()?;
        let footer = Footer {
            filter: filter_span,
            blobs: blobs_span,
            index: index_span,
            two_levels,
            entries: self.entries,
            deletes: self.deletes,
            first: self.first,
            last: self.last,
            raw_bytes: self.raw_bytes,
            blocks,
            sum,
            salt: u64::from(self.no),
        };
        let footer_offset = self.written + self.pending.len() as u64;
        self.pending.extend_from_slice(&footer.encode(footer_offset));
        self.write()?;
        self.file.sync_data().map_err(|source| Error::io("sync", &self.path, source))?;
        let meta = TableMeta {
            no: self.no,
            level: self.shape.level,
            bytes: self.written,
            entries: self.entries,
            deletes: self.deletes,
            smallest: self.smallest.unwrap_or_default(),
            largest: self.largest.into(),
            first: self.first,
            last: self.last,
            purged: Seqno(0),
            droppable: self.droppable,
            adopted: None,
            blobs: self.slots.uses(),
        };
        let index = Index::decode(index.into()).expect("the index was just written");
        let parts = Parts { file: self.file, path: self.path, cache: self.cache };
        Ok(Table::written((meta, self.slots.files()), parts, footer, (index, filter)))
    }
}

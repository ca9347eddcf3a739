//! Writes one table, from entries in key order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::block::{self, BlockBuilder};
use super::filter::{Filter, key_hash};
use super::table::{Footer, IndexEntry, Parts, encode_index};
use super::{Droppable, Table, TableMeta};
use crate::storage::batch::Seqno;
use crate::storage::cache::BlockCache;
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::iter::Entry;
use crate::storage::vfs::{Vfs, VfsFile};

/// How much is collected before it is written.
const WRITE_BYTES: usize = 1 << 20;

/// A table in the making. If anything fails the file is worthless and to be removed.
#[derive(Debug)]
pub(crate) struct TableBuilder {
    no: FileNo,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    block_bytes: usize,
    cache: Arc<BlockCache>,
    block: BlockBuilder,
    index: Vec<IndexEntry>,
    /// One for each key, eight bytes each until the filter is made.
    hashes: Vec<u64>,
    pending: Vec<u8>,
    written: u64,
    smallest: Option<Bytes>,
    largest: Bytes,
    entries: u64,
    deletes: u64,
    first: Seqno,
    last: Seqno,
    droppable: Droppable,
}

impl TableBuilder {
    pub(crate) fn new(
        no: FileNo,
        file: Arc<dyn VfsFile>,
        path: PathBuf,
        block_bytes: usize,
        cache: Arc<BlockCache>,
    ) -> Self {
        Self {
            no,
            file,
            path,
            block_bytes,
            cache,
            block: BlockBuilder::default(),
            index: Vec::new(),
            hashes: Vec::new(),
            pending: Vec::new(),
            written: 0,
            smallest: None,
            largest: Bytes::new(),
            entries: 0,
            deletes: 0,
            first: Seqno(u64::MAX),
            last: Seqno(0),
            droppable: Droppable::default(),
        }
    }

    /// Adds an entry whose key is above all before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<(), Error> {
        assert!(
            self.smallest.is_none() || entry.key > self.largest,
            "entries of a table come in key order"
        );
        self.smallest.get_or_insert_with(|| entry.key.clone());
        self.largest = entry.key.clone();
        self.entries += 1;
        self.deletes += u64::from(entry.value.is_none());
        if !(crate::mutant!("storage-filter-false-negative") && self.entries.is_multiple_of(8)) {
            self.hashes.push(key_hash(&entry.key));
        }
        self.first = self.first.min(entry.seqno);
        self.last = self.last.max(entry.seqno);
        self.block.add(entry);
        if self.block.bytes() >= self.block_bytes {
            self.end_block()?;
        }
        Ok(())
    }

    /// Notes that the caller's filter lets the entry that was just added go at this point.
    pub(crate) fn note_droppable(&mut self, point: u64, entry: &Entry) {
        let bytes = entry.key.len() + entry.value.as_ref().map_or(0, Bytes::len);
        self.droppable.add(point, bytes as u64);
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
        if self.block.is_empty() {
            return Ok(());
        }
        let body = self.block.finish();
        let (offset, length) = self.push(body)?;
        // Copied: the key is a piece of a batch or of a block, which must not live on for it.
        let largest = Bytes::copy_from_slice(&self.largest);
        self.index.push(IndexEntry { largest, offset, length });
        Ok(())
    }

    /// Seals a block and queues it for writing; returns where it will stand.
    fn push(&mut self, body: Vec<u8>) -> Result<(u64, usize), Error> {
        let offset = self.written + self.pending.len() as u64;
        let sealed = block::seal(body, self.no, offset);
        self.pending.extend_from_slice(&sealed);
        if self.pending.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok((offset, sealed.len()))
    }

    fn write(&mut self) -> Result<(), Error> {
        let result = self.file.write_at(self.written, &self.pending);
        result.map_err(|source| Error::io("write to", &self.path, source))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is left and syncs the file; its name is not synced. The table is open then.
    ///
    /// # Errors
    /// When the file cannot be written or synced.
    pub(crate) fn finish(mut self) -> Result<Table, Error> {
        self.end_block()?;
        let smallest = Bytes::copy_from_slice(self.smallest.as_deref().unwrap_or_default());
        let filter = Filter::build(&std::mem::take(&mut self.hashes));
        let (filter_offset, filter_length) = self.push(filter.encode())?;
        let (index_offset, index_length) = self.push(encode_index(&smallest, &self.index))?;
        let footer = Footer {
            filter_offset,
            filter_length: filter_length as u64,
            index_offset,
            index_length: index_length as u64,
            entries: self.entries,
            deletes: self.deletes,
            first: self.first,
            last: self.last,
        };
        let footer_offset = self.written + self.pending.len() as u64;
        self.pending.extend_from_slice(&footer.encode(self.no, footer_offset));
        self.write()?;
        self.file.sync_data().map_err(|source| Error::io("sync", &self.path, source))?;
        let meta = TableMeta {
            no: self.no,
            level: 0,
            bytes: self.written,
            entries: self.entries,
            deletes: self.deletes,
            smallest,
            largest: Bytes::copy_from_slice(&self.largest),
            first: self.first,
            last: self.last,
            purged: Seqno(0),
            droppable: self.droppable,
        };
        let parts = Parts { file: self.file, path: self.path, cache: self.cache };
        Ok(Table::new(meta, parts, self.index, filter))
    }
}

//! An open table: its index and filter in memory, its blocks on disk or in the cache.
//!
//! Decides the bytes of index and footer. A block that does not check is an error naming file and
//! offset; it is never "no such key".

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::TableMeta;
use super::block::{Block, TRAILER_BYTES, unseal};
use super::filter::{Filter, key_hash};
use crate::storage::batch::Seqno;
use crate::storage::cache::BlockCache;
use crate::storage::coding::{
    Reader, checksum_holds, placed_checksum, put_length, put_string, put_varint,
};
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::iter::Entry;
use crate::storage::vfs::{Vfs, VfsFile};

pub(super) const FOOTER_BYTES: usize = 88;
/// Bytes of the footer that its checksum covers.
const FIELDS_BYTES: usize = 72;
const MAGIC: &[u8; 8] = b"rndtblST";
const FORMAT: u32 = 2;

/// Where a block is and the largest key in it.
#[derive(Debug, Clone)]
pub(super) struct IndexEntry {
    pub(super) largest: Bytes,
    pub(super) offset: u64,
    pub(super) length: usize,
}

pub(super) fn encode_index(smallest: &[u8], index: &[IndexEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, smallest);
    put_length(&mut out, index.len());
    for entry in index {
        put_string(&mut out, &entry.largest);
        put_varint(&mut out, entry.offset);
        put_length(&mut out, entry.length);
    }
    out
}

fn decode_index(body: &Bytes) -> Option<(Bytes, Vec<IndexEntry>)> {
    let mut reader = Reader::new(body);
    let smallest = Bytes::copy_from_slice(reader.string()?);
    let count = reader.length()?;
    let mut index: Vec<IndexEntry> = Vec::new();
    for _ in 0..count {
        let largest = Bytes::copy_from_slice(reader.string()?);
        let offset = reader.varint()?;
        let length = reader.length().filter(|length| *length > TRAILER_BYTES)?;
        let follows = index.last().is_none_or(|last| {
            last.largest < largest && last.offset.checked_add(last.length as u64) == Some(offset)
        });
        if !follows {
            return None;
        }
        index.push(IndexEntry { largest, offset, length });
    }
    reader.is_empty().then_some((smallest, index))
}

fn memory_of(index: &[IndexEntry], filter: &Filter) -> usize {
    let index = index.iter().map(|entry| size_of::<IndexEntry>() + entry.largest.len());
    index.sum::<usize>() + filter.memory()
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Footer {
    pub(super) filter_offset: u64,
    pub(super) filter_length: u64,
    pub(super) index_offset: u64,
    pub(super) index_length: u64,
    pub(super) entries: u64,
    pub(super) deletes: u64,
    pub(super) first: Seqno,
    pub(super) last: Seqno,
}

impl Footer {
    pub(super) fn encode(&self, no: FileNo, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        let fields = [
            self.filter_offset,
            self.filter_length,
            self.index_offset,
            self.index_length,
            self.entries,
            self.deletes,
            self.first.0,
            self.last.0,
        ];
        for field in fields {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&no.to_le_bytes());
        let sum = placed_checksum(&out, u64::from(no), offset);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(MAGIC);
        out
    }

    fn decode(bytes: &[u8], no: FileNo, offset: u64, path: &Path) -> Result<Self, Error> {
        let bad = |what| Error::corrupt(path, offset, what);
        let cut = || bad("footer is cut short");
        let fields = bytes.get(..FIELDS_BYTES).ok_or_else(cut)?;
        let mut reader = Reader::new(bytes);
        let mut next = || reader.u64().ok_or_else(cut);
        let footer = Self {
            filter_offset: next()?,
            filter_length: next()?,
            index_offset: next()?,
            index_length: next()?,
            entries: next()?,
            deletes: next()?,
            first: Seqno(next()?),
            last: Seqno(next()?),
        };
        let format = reader.u32().ok_or_else(cut)?;
        let owner = reader.u32().ok_or_else(cut)?;
        let sum = reader.u64().ok_or_else(cut)?;
        if reader.bytes(MAGIC.len()) != Some(MAGIC) {
            return Err(bad("this is not an sstable"));
        }
        if !checksum_holds(fields, u64::from(no), offset, sum) || owner != no {
            return Err(bad("footer checksum does not match"));
        }
        if format != FORMAT {
            return Err(Error::Version { file: path.to_path_buf(), found: format, known: FORMAT });
        }
        Ok(footer)
    }
}

/// What a table needs to read its blocks.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) path: PathBuf,
    pub(super) cache: Arc<BlockCache>,
}

/// What memory alone knows of a key in one table.
#[derive(Debug)]
pub(crate) enum Probe {
    Found(Entry),
    Absent,
    NeedsDisk,
}

/// How a reader uses the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// Takes blocks from it and leaves there what it had to read.
    Cached,
    /// Takes blocks from it, leaves none: for one who reads everything once.
    Passing,
    /// Reads the disk: for one who wants to know what is there.
    Disk,
}

/// An open table. Immutable; shared by all versions and snapshots that name it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) meta: TableMeta,
    parts: Parts,
    index: Vec<IndexEntry>,
    filter: Filter,
    /// Why there is no index or filter: then every read inside the table's range of keys fails with
    /// this.
    broken: Option<Error>,
    /// Bytes of index and filter.
    memory: usize,
    /// Set once the manifest no longer names it: its file goes with the last holder.
    retired: OnceLock<Arc<dyn Vfs>>,
}

impl Table {
    pub(super) fn new(
        meta: TableMeta,
        parts: Parts,
        index: Vec<IndexEntry>,
        filter: Filter,
    ) -> Self {
        let memory = memory_of(&index, &filter);
        Self { meta, parts, index, filter, broken: None, memory, retired: OnceLock::new() }
    }

    /// Opens a table that the manifest names and compares it with what the manifest says of it. One
    /// whose footer, index or filter does not check is opened all the same, see [`Table::usable`]: its keys
    /// cannot be read, but the manifest knows which they can be, so those of others can.
    ///
    /// # Errors
    /// `Missing`, `Version`, or what the file system says.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        path: PathBuf,
        meta: TableMeta,
        cache: Arc<BlockCache>,
    ) -> Result<Self, Error> {
        let file = match vfs.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Missing { file: path });
            }
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        let parts = Parts { file, path, cache };
        let mut table = Self::new(meta, parts, Vec::new(), Filter::default());
        let read = table
            .read_footer()
            .and_then(|footer| Ok((table.read_index(&footer)?, table.read_filter(&footer)?)));
        match read {
            Ok((index, filter)) => (table.index, table.filter) = (index, filter),
            Err(error @ Error::Corrupt { .. }) => table.broken = Some(error),
            Err(error) => return Err(error),
        }
        table.memory = memory_of(&table.index, &table.filter);
        Ok(table)
    }

    fn read_footer(&self) -> Result<Footer, Error> {
        let path = &self.parts.path;
        let size = self.parts.file.size().map_err(|source| Error::io("measure", path, source))?;
        let offset = size.checked_sub(FOOTER_BYTES as u64).filter(|_| size == self.meta.bytes);
        let offset = offset
            .ok_or_else(|| Error::corrupt(path, size, "length is not what the manifest says"))?;
        let footer = self.read(offset, FOOTER_BYTES)?;
        let footer = Footer::decode(&footer, self.meta.no, offset, path)?;
        let bad = |what| Error::corrupt(path, offset, what);
        if footer.filter_offset.checked_add(footer.filter_length) != Some(footer.index_offset) {
            return Err(bad("filter is not where the footer says"));
        }
        if footer.index_offset.checked_add(footer.index_length) != Some(offset) {
            return Err(bad("index is not where the footer says"));
        }
        Ok(footer)
    }

    fn read_index(&self, footer: &Footer) -> Result<Vec<IndexEntry>, Error> {
        let bad = |what| Error::corrupt(&self.parts.path, footer.index_offset, what);
        let length = usize::try_from(footer.index_length).map_err(|_| bad("index is too long"))?;
        let body = self.unsealed(footer.index_offset, length)?;
        let (smallest, index) =
            decode_index(&body).ok_or_else(|| bad("index cannot be decoded"))?;
        let largest = index.last().map(|entry| &entry.largest);
        let end = index.last().and_then(|entry| entry.offset.checked_add(entry.length as u64));
        let agrees = (footer.entries, footer.deletes) == (self.meta.entries, self.meta.deletes)
            && (footer.first, footer.last) == (self.meta.first, self.meta.last)
            && smallest == self.meta.smallest
            && largest == Some(&self.meta.largest)
            && end == Some(footer.filter_offset);
        if !agrees {
            return Err(bad("table is not the one the manifest names"));
        }
        Ok(index)
    }

    fn read_filter(&self, footer: &Footer) -> Result<Filter, Error> {
        let bad = |what| Error::corrupt(&self.parts.path, footer.filter_offset, what);
        let length =
            usize::try_from(footer.filter_length).map_err(|_| bad("filter is too long"))?;
        let body = self.unsealed(footer.filter_offset, length)?;
        Filter::decode(&body).ok_or_else(|| bad("filter cannot be decoded"))
    }

    /// Why the table cannot be read at all, if so.
    ///
    /// # Errors
    /// That.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.parts.path
    }

    fn read(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let mut buffer = vec![0; length];
        let read = self.parts.file.read_at(offset, &mut buffer);
        let read = read.map_err(|source| Error::io("read", &self.parts.path, source))?;
        if read < length {
            return Err(Error::corrupt(&self.parts.path, offset, "file is cut short"));
        }
        Ok(Bytes::from(buffer))
    }

    fn unsealed(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let stored = self.read(offset, length)?;
        unseal(stored, self.meta.no, offset)
            .map_err(|what| Error::corrupt(&self.parts.path, offset, what))
    }

    fn block(&self, entry: &IndexEntry, mode: ReadMode) -> Result<Block, Error> {
        let (cache, key) = (&self.parts.cache, (self.meta.no, entry.offset));
        let cached = match mode {
            ReadMode::Cached => cache.get(key),
            ReadMode::Passing => cache.peek(key),
            ReadMode::Disk => None,
        };
        if let Some(block) = cached {
            return Ok(block);
        }
        let body = self.unsealed(entry.offset, entry.length)?;
        let block = Block::parse(body).ok_or_else(|| self.undecodable(entry))?;
        if mode == ReadMode::Cached {
            cache.insert(key, block.clone());
        }
        Ok(block)
    }

    fn undecodable(&self, entry: &IndexEntry) -> Error {
        Error::corrupt(&self.parts.path, entry.offset, "block cannot be decoded")
    }

    /// Lets the file be removed when the last holder of the table is gone. Only for a table that
    /// the manifest does not name, durably.
    pub(crate) fn retire(&self, vfs: &Arc<dyn Vfs>) {
        self.retired.get_or_init(|| Arc::clone(vfs));
    }

    /// Bytes it keeps in memory, the cache aside.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Where `key` must be if the table has it; `hash` is its [`key_hash`].
    ///
    /// # Errors
    /// When the key is in the table's range, and the table cannot be read at all.
    fn place(&self, key: &[u8], hash: u64) -> Result<Option<&IndexEntry>, Error> {
        if !(*self.meta.smallest <= *key && *key <= *self.meta.largest) {
            return Ok(None);
        }
        self.usable()?;
        let may = self.filter.may_hold(hash);
        Ok(may.then(|| self.index.get(self.block_for(key))).flatten())
    }

    /// The entry of `key`, with one read at most; `hash` is its [`key_hash`].
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(crate) fn get(&self, key: &[u8], hash: u64) -> Result<Option<Entry>, Error> {
        let Some(entry) = self.place(key, hash)? else { return Ok(None) };
        let block = self.block(entry, ReadMode::Cached)?;
        block.find(key).ok_or_else(|| self.undecodable(entry))
    }

    /// The entry of `key` if memory alone can tell; `hash` is its [`key_hash`].
    pub(crate) fn try_get(&self, key: &[u8], hash: u64) -> Probe {
        let entry = match self.place(key, hash) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Probe::Absent,
            // Damage is for `get` to report.
            Err(_) => return Probe::NeedsDisk,
        };
        let block = self.parts.cache.get((self.meta.no, entry.offset));
        match block.map(|block| block.find(key)) {
            Some(Some(Some(entry))) => Probe::Found(entry),
            Some(Some(None)) => Probe::Absent,
            Some(None) | None => Probe::NeedsDisk,
        }
    }

    /// Number of the first block whose largest key is not below `key`.
    pub(super) fn block_for(&self, key: &[u8]) -> usize {
        self.index.partition_point(|entry| *entry.largest < *key)
    }

    pub(crate) fn blocks(&self) -> usize {
        self.index.len()
    }

    /// All entries of block `number`, checked.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(crate) fn entries(&self, number: usize, mode: ReadMode) -> Result<Vec<Entry>, Error> {
        let Some(entry) = self.index.get(number) else { return Ok(Vec::new()) };
        let entries = self.block(entry, mode)?.entries().ok_or_else(|| self.undecodable(entry))?;
        if entries.last().map(|last| &last.key) != Some(&entry.largest) {
            let what = "block is not the indexed one";
            return Err(Error::corrupt(&self.parts.path, entry.offset, what));
        }
        Ok(entries)
    }

    /// Reads every block, the filter too. Returns all damage found, and how many blocks were read.
    pub(crate) fn verify(&self) -> (u64, Vec<Error>) {
        let mut errors: Vec<Error> = self.broken.iter().cloned().collect();
        let filter = match self.broken {
            Some(_) => None,
            None => {
                let filter = self.read_footer().and_then(|footer| self.read_filter(&footer));
                filter.map_err(|error| errors.push(error)).ok()
            }
        };
        let may_hold = |key: &[u8]| {
            let hash = key_hash(key);
            filter.as_ref().is_none_or(|filter| filter.may_hold(hash))
        };
        let mut count = 0u64;
        for number in 0..self.index.len() {
            match self.entries(number, ReadMode::Disk) {
                Ok(entries) => {
                    count += entries.len() as u64;
                    if !entries.iter().all(|entry| may_hold(&entry.key)) {
                        let offset = self.index.get(number).map_or(0, |entry| entry.offset);
                        let what = "filter denies a key of this block";
                        errors.push(Error::corrupt(&self.parts.path, offset, what));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() && count != self.meta.entries {
            let what = "number of entries is not what the footer says";
            errors.push(Error::corrupt(&self.parts.path, 0, what));
        }
        (self.index.len() as u64 + 1, errors)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some(vfs) = self.retired.get() {
            // What cannot be removed now is swept at the next open.
            let _orphan = vfs.remove(&self.parts.path);
        }
    }
}

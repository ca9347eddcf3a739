//! An open table: its index in memory, its blocks on disk.
//!
//! Decides the bytes of index and footer. A block that does not check is an error naming file and
//! offset; it is never "no such key".

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::TableMeta;
use super::block::{Block, TRAILER_BYTES, unseal};
use crate::storage::batch::Seqno;
use crate::storage::coding::{Reader, placed_checksum, put_length, put_string, put_varint};
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::iter::Entry;
use crate::storage::vfs::{Vfs, VfsFile};

pub(super) const FOOTER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"rndtblST";
const FORMAT: u32 = 1;

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

#[derive(Debug, Clone, Copy)]
pub(super) struct Footer {
    pub(super) index_offset: u64,
    pub(super) index_length: u64,
    pub(super) entries: u64,
    pub(super) first: Seqno,
    pub(super) last: Seqno,
}

impl Footer {
    pub(super) fn encode(&self, no: FileNo, offset: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        let fields =
            [self.index_offset, self.index_length, self.entries, self.first.0, self.last.0];
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
        let fields = bytes.get(..48).ok_or_else(cut)?;
        let mut reader = Reader::new(bytes);
        let mut next = || reader.u64().ok_or_else(cut);
        let footer = Self {
            index_offset: next()?,
            index_length: next()?,
            entries: next()?,
            first: Seqno(next()?),
            last: Seqno(next()?),
        };
        let format = reader.u32().ok_or_else(cut)?;
        let owner = reader.u32().ok_or_else(cut)?;
        let sum = reader.u64().ok_or_else(cut)?;
        if reader.bytes(MAGIC.len()) != Some(MAGIC) {
            return Err(bad("this is not an sstable"));
        }
        if placed_checksum(fields, u64::from(no), offset) != sum || owner != no {
            return Err(bad("footer checksum does not match"));
        }
        if format != FORMAT {
            return Err(Error::Version { file: path.to_path_buf(), found: format, known: FORMAT });
        }
        Ok(footer)
    }
}

/// An open table. Immutable; shared by all versions and snapshots that name it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) meta: TableMeta,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    index: Vec<IndexEntry>,
    /// Why there is no index: then every read inside the table's range of keys fails with this.
    broken: Option<Error>,
}

impl Table {
    pub(super) fn from_parts(
        meta: TableMeta,
        file: Arc<dyn VfsFile>,
        path: PathBuf,
        index: Vec<IndexEntry>,
    ) -> Self {
        Self { meta, file, path, index, broken: None }
    }

    /// Opens a table that the manifest names and compares it with what the manifest says of it. One
    /// whose footer or index does not check is opened all the same, see [`Table::usable`]: its keys
    /// cannot be read, but the manifest knows which they can be, so those of others can.
    ///
    /// # Errors
    /// `Missing`, `Version`, or what the file system says.
    pub(crate) fn open(vfs: &dyn Vfs, path: PathBuf, meta: TableMeta) -> Result<Self, Error> {
        let file = match vfs.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Missing { file: path });
            }
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        let mut table = Self { meta, file, path, index: Vec::new(), broken: None };
        match table.read_index() {
            Ok(index) => table.index = index,
            Err(error @ Error::Corrupt { .. }) => table.broken = Some(error),
            Err(error) => return Err(error),
        }
        Ok(table)
    }

    fn read_index(&self) -> Result<Vec<IndexEntry>, Error> {
        let size = self.file.size().map_err(|source| Error::io("measure", &self.path, source))?;
        let footer_offset = size.checked_sub(FOOTER_BYTES as u64);
        let footer_offset = footer_offset.filter(|_| size == self.meta.bytes).ok_or_else(|| {
            Error::corrupt(&self.path, size, "length is not what the manifest says")
        })?;
        let footer = self.read(footer_offset, FOOTER_BYTES)?;
        let footer = Footer::decode(&footer, self.meta.no, footer_offset, &self.path)?;
        let bad = |what| Error::corrupt(&self.path, footer.index_offset, what);
        let index_end = footer.index_offset.checked_add(footer.index_length);
        if index_end != Some(footer_offset) {
            return Err(bad("index is not where the footer says"));
        }
        let length = usize::try_from(footer.index_length).map_err(|_| bad("index is too long"))?;
        let body = self.unsealed(footer.index_offset, length)?;
        let (smallest, index) =
            decode_index(&body).ok_or_else(|| bad("index cannot be decoded"))?;
        let largest = index.last().map(|entry| &entry.largest);
        let agrees = footer.entries == self.meta.entries
            && (footer.first, footer.last) == (self.meta.first, self.meta.last)
            && smallest == self.meta.smallest
            && largest == Some(&self.meta.largest);
        if !agrees {
            return Err(bad("table is not the one the manifest names"));
        }
        Ok(index)
    }

    /// Why the table cannot be read at all, if so.
    ///
    /// # Errors
    /// That.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let mut buffer = vec![0; length];
        let read = self.file.read_at(offset, &mut buffer);
        let read = read.map_err(|source| Error::io("read", &self.path, source))?;
        if read < length {
            return Err(Error::corrupt(&self.path, offset, "file is cut short"));
        }
        Ok(Bytes::from(buffer))
    }

    fn unsealed(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let stored = self.read(offset, length)?;
        unseal(stored, self.meta.no, offset)
            .map_err(|what| Error::corrupt(&self.path, offset, what))
    }

    fn block(&self, entry: &IndexEntry) -> Result<Block, Error> {
        let body = self.unsealed(entry.offset, entry.length)?;
        Block::parse(body).ok_or_else(|| self.undecodable(entry))
    }

    fn undecodable(&self, entry: &IndexEntry) -> Error {
        Error::corrupt(&self.path, entry.offset, "block cannot be decoded")
    }

    /// Whether the table's range of keys includes `key`.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        *self.meta.smallest <= *key && *key <= *self.meta.largest
    }

    /// The entry of `key`, with one read at most.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        if !self.covers(key) {
            return Ok(None);
        }
        self.usable()?;
        let Some(entry) = self.index.get(self.block_for(key)) else { return Ok(None) };
        self.block(entry)?.find(key).ok_or_else(|| self.undecodable(entry))
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
    pub(crate) fn entries(&self, number: usize) -> Result<Vec<Entry>, Error> {
        let Some(entry) = self.index.get(number) else { return Ok(Vec::new()) };
        let entries = self.block(entry)?.entries().ok_or_else(|| self.undecodable(entry))?;
        if entries.last().map(|last| &last.key) != Some(&entry.largest) {
            return Err(Error::corrupt(&self.path, entry.offset, "block is not the indexed one"));
        }
        Ok(entries)
    }

    /// Reads every block. Returns all damage found, and how many blocks were read.
    pub(crate) fn verify(&self) -> (u64, Vec<Error>) {
        let mut errors: Vec<Error> = self.broken.iter().cloned().collect();
        let mut entries = 0u64;
        for number in 0..self.index.len() {
            match self.entries(number) {
                Ok(found) => entries += found.len() as u64,
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() && entries != self.meta.entries {
            let what = "number of entries is not what the footer says";
            errors.push(Error::corrupt(&self.path, 0, what));
        }
        (self.index.len() as u64, errors)
    }
}

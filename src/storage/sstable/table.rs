//! An open table: its index and filter pinned in memory or, if that has no room for them, on disk or
//! in the cache, as its blocks are.
//!
//! Decides how a key is looked up, and what is read for it. A block that does not check is an error
//! naming file and offset; it is never "no such key".

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::TableMeta;
use super::blobs::compare;
use super::block::Block;
use super::filter::Filter;
use super::footer::{FOOTER_BYTES, Footer};
use super::index::{Index, Span, span_at};
use super::lent::{Guide, Lent};
use super::recent::RecentBlocks;
use super::trailer::unseal;
use crate::storage::blob::BlobFile;
use crate::storage::cache::{BlockCache, Kept};
use crate::storage::entry::Version;
use crate::storage::error::Error;
use crate::storage::vfs::{Vfs, VfsFile};

/// What a table needs to read its blocks.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) path: PathBuf,
    pub(super) cache: Arc<BlockCache>,
}

/// What a table knows of a key.
#[derive(Debug)]
pub(crate) enum Probe {
    Found(Version),
    Absent,
    /// A block that is not in memory would tell.
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

/// What opening has read.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) footer: Footer,
    /// Index and filter, if they are pinned.
    pub(super) pinned: Option<(Index, Filter)>,
}

fn memory_of((index, filter): &(Index, Filter)) -> usize {
    index.memory() + filter.memory()
}

/// An open table. Immutable; shared by all versions and snapshots that name it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) meta: TableMeta,
    pub(super) parts: Parts,
    /// Or why every read inside the table's range of keys fails.
    pub(super) contents: Result<Contents, Error>,
    /// Those that its values stand in, by slot.
    pub(super) blobs: Vec<Arc<BlobFile>>,
    /// Set once the manifest no longer names it: its file goes with the last holder.
    retired: OnceLock<Arc<dyn Vfs>>,
}

impl Table {
    /// One that was just written.
    pub(super) fn written(
        (meta, blobs): (TableMeta, Vec<Arc<BlobFile>>),
        parts: Parts,
        footer: Footer,
        guides: (Index, Filter),
    ) -> Self {
        let cache = &parts.cache;
        let pinned = match cache.pin(memory_of(&guides), meta.level) {
            true => Some(guides),
            false => {
                cache.count_unpinned(true);
                let (index, filter) = guides;
                let place = |span: Span| (meta.no, span.offset);
                cache.keep(place(footer.index), Kept::Index(Arc::new(index)));
                cache.keep(place(footer.filter), Kept::Filter(Arc::new(filter)));
                None
            }
        };
        let contents = Ok(Contents { footer, pinned });
        Self { meta, parts, contents, blobs, retired: OnceLock::new() }
    }

    /// Opens a table that the manifest names, with the blob files that it names for it, and compares
    /// it with what the manifest says of it. One whose footer, index or filter does not check is opened all the same, see [`Table::usable`]: its keys
    /// cannot be read, but the manifest knows which they can be, so those of others can. Index and
    /// filter of a table for which memory has no room are not looked at here.
    ///
    /// # Errors
    /// `Missing`, `Version`, or what the file system says.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        path: PathBuf,
        (meta, blobs): (TableMeta, Vec<Arc<BlobFile>>),
        cache: Arc<BlockCache>,
    ) -> Result<Self, Error> {
        let file = match vfs.open_to_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Missing { file: path });
            }
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        let parts = Parts { file, path, cache };
        let contents = match parts.contents(&meta, &blobs) {
            Err(error) if !matches!(error, Error::Corrupt { .. }) => return Err(error),
            read => read,
        };
        Ok(Self { meta, parts, contents, blobs, retired: OnceLock::new() })
    }

    /// Why the table cannot be read at all, if so.
    ///
    /// # Errors
    /// That.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        self.contents().map(|_| ())
    }

    pub(super) fn contents(&self) -> Result<&Contents, Error> {
        self.contents.as_ref().map_err(|error| {
            // Behind all blocks: nothing leads to them.
            self.parts.note_bad(self.meta.bytes);
            error.clone()
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.parts.path
    }

    /// The blob files that its values stand in.
    pub(crate) fn blobs(&self) -> &[Arc<BlobFile>] {
        &self.blobs
    }

    /// Lets the file be removed when the last holder of the table is gone. Only for a table that
    /// the manifest does not name, durably.
    pub(crate) fn retire(&self, vfs: &Arc<dyn Vfs>) {
        self.retired.get_or_init(|| Arc::clone(vfs));
    }

    /// Bytes of all keys and values in it; unknown if it cannot be read.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.contents.as_ref().map_or(0, |contents| contents.footer.raw_bytes)
    }

    /// The version of `key`; `hash` is its [`key_hash`](super::key_hash).
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(crate) fn get(&self, key: &[u8], hash: u64) -> Result<Option<Version>, Error> {
        let read = |span| self.block(span, ReadMode::Cached).map(Some);
        let probe = self.probe(key, hash, true, read)?;
        match probe {
            Probe::Found(version) => Ok(Some(version)),
            Probe::Absent | Probe::NeedsDisk => Ok(None),
        }
    }

    /// The same for one of several keys: blocks that were needed for the ones before are at hand.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(crate) fn get_sharing(
        &self,
        key: &[u8],
        hash: u64,
        recent: &mut RecentBlocks,
    ) -> Result<Option<Version>, Error> {
        let probe = self.probe(key, hash, true, |span| {
            let read = || self.block(span, ReadMode::Cached);
            recent.get_or_read((self.meta.no, span.offset), read).map(Some)
        })?;
        match probe {
            Probe::Found(version) => Ok(Some(version)),
            Probe::Absent | Probe::NeedsDisk => Ok(None),
        }
    }

    /// The version of `key` if memory alone can tell; `hash` is its [`key_hash`](super::key_hash).
    pub(crate) fn try_get(&self, key: &[u8], hash: u64) -> Probe {
        let cached = |span: Span| Ok(self.parts.cache.get((self.meta.no, span.offset)));
        // Damage is for `get` to report.
        self.probe(key, hash, false, cached).unwrap_or(Probe::NeedsDisk)
    }

    /// Looks a key up with blocks from `fetch`, which may have to say that it has not got one, as
    /// this does of index and filter if the disk may not be asked.
    fn probe(
        &self,
        key: &[u8],
        hash: u64,
        may_read: bool,
        mut fetch: impl FnMut(Span) -> Result<Option<Block>, Error>,
    ) -> Result<Probe, Error> {
        // What is at hand denies most keys for less than the comparison with two others costs.
        let pinned = self.contents.as_ref().ok().and_then(|contents| contents.pinned.as_ref());
        if pinned.is_some_and(|(_, filter)| !filter.may_hold(hash)) {
            return Ok(Probe::Absent);
        }
        if !(*self.meta.smallest <= *key && *key <= *self.meta.largest) {
            return Ok(Probe::Absent);
        }
        let contents = self.contents()?;
        if contents.pinned.is_none() {
            let Some(filter) = self.filter(contents, may_read)? else {
                return Ok(Probe::NeedsDisk);
            };
            if !filter.may_hold(hash) {
                return Ok(Probe::Absent);
            }
        }
        let index = match may_read {
            true => Some(self.index(contents, ReadMode::Cached)?),
            false => self.index_in_memory(contents, ReadMode::Cached),
        };
        let Some(index) = index else { return Ok(Probe::NeedsDisk) };
        let number = index.find(key).ok_or_else(|| self.undecodable(contents.footer.index))?;
        let span = index.spans().get(number).copied();
        let Some(mut span) = span else { return Ok(Probe::Absent) };
        if contents.footer.two_levels {
            let Some(lower) = fetch(span)? else { return Ok(Probe::NeedsDisk) };
            let number = lower.lower_bound(key).ok_or_else(|| self.undecodable(span))?;
            span = span_at(&lower, number).ok_or_else(|| self.undecodable(span))?;
        }
        let Some(block) = fetch(span)? else { return Ok(Probe::NeedsDisk) };
        match block.find(key, hash) {
            Some(Some(version)) => {
                let seqno = self.meta.seqno(version.seqno);
                Ok(Probe::Found(Version { seqno, ..version }))
            }
            Some(None) => Ok(Probe::Absent),
            None => Err(self.undecodable(span)),
        }
    }

    /// The filter, out of memory or from the disk; `None` if that may not be asked.
    fn filter<'a>(
        &'a self,
        contents: &'a Contents,
        may_read: bool,
    ) -> Result<Option<Lent<'a, Filter>>, Error> {
        if let Some((_, filter)) = &contents.pinned {
            return Ok(Some(Lent::Pinned(filter)));
        }
        let key = (self.meta.no, contents.footer.filter.offset);
        if let Some(Kept::Filter(filter)) = self.parts.cache.find(key) {
            return Ok(Some(Lent::Shared(filter)));
        }
        if !may_read {
            return Ok(None);
        }
        let filter = Arc::new(self.parts.filter(&contents.footer)?);
        self.parts.cache.keep(key, Kept::Filter(Arc::clone(&filter)));
        Ok(Some(Lent::Shared(filter)))
    }

    /// The index, out of memory or from the disk.
    fn index<'a>(
        &'a self,
        contents: &'a Contents,
        mode: ReadMode,
    ) -> Result<Lent<'a, Index>, Error> {
        if let Some(index) = self.index_in_memory(contents, mode) {
            return Ok(index);
        }
        let index = Arc::new(self.parts.index(&self.meta, &contents.footer)?);
        if mode == ReadMode::Cached {
            let key = (self.meta.no, contents.footer.index.offset);
            self.parts.cache.keep(key, Kept::Index(Arc::clone(&index)));
        }
        Ok(Lent::Shared(index))
    }

    fn index_in_memory<'a>(
        &'a self,
        contents: &'a Contents,
        mode: ReadMode,
    ) -> Option<Lent<'a, Index>> {
        if let Some((index, _)) = &contents.pinned {
            return Some(Lent::Pinned(index));
        }
        let key = (self.meta.no, contents.footer.index.offset);
        let kept = match mode {
            ReadMode::Cached => self.parts.cache.find(key),
            ReadMode::Passing => self.parts.cache.peek(key),
            ReadMode::Disk => None,
        };
        match kept {
            Some(Kept::Index(index)) => Some(Lent::Shared(index)),
            _ => None,
        }
    }

    /// What leads through the blocks. `held` is the index that a reader who comes again holds on to,
    /// if it is not pinned.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(super) fn guide(
        &self,
        held: &mut Option<Arc<Index>>,
        mode: ReadMode,
    ) -> Result<Guide<'_>, Error> {
        let contents = self.contents()?;
        let index = match held {
            Some(index) => Lent::Shared(Arc::clone(index)),
            None => self.index(contents, mode)?,
        };
        if let Lent::Shared(index) = &index {
            *held = Some(Arc::clone(index));
        }
        Ok(Guide { footer: &contents.footer, index })
    }

    /// Reads a block, or takes it from the cache.
    ///
    /// # Errors
    /// `Corrupt` or what the file system says.
    pub(super) fn block(&self, span: Span, mode: ReadMode) -> Result<Block, Error> {
        match self.cached(span, mode) {
            Some(block) => Ok(block),
            // An index of two levels has only been looked at from above: nothing bounds the length.
            None if span.end().is_none_or(|end| end > self.meta.bytes) => {
                Err(self.undecodable(span))
            }
            None => self.keep(span, self.parts.read(span)?, mode),
        }
    }

    /// The block if it is in the cache and the reader wants it from there.
    pub(super) fn cached(&self, span: Span, mode: ReadMode) -> Option<Block> {
        let key = (self.meta.no, span.offset);
        match mode {
            ReadMode::Cached => self.parts.cache.get(key),
            ReadMode::Passing => match self.parts.cache.peek(key) {
                Some(Kept::Block(block)) => Some(block),
                _ => None,
            },
            ReadMode::Disk => None,
        }
    }

    /// Checks a block that was read, and caches it if the reader does that.
    pub(super) fn keep(&self, span: Span, stored: Bytes, mode: ReadMode) -> Result<Block, Error> {
        let body = self.parts.unsealed(span, stored, self.meta.salt())?;
        let block = Block::parse(body).filter(Block::is_sound);
        let block = block.ok_or_else(|| self.undecodable(span))?;
        if mode == ReadMode::Cached {
            self.parts.cache.insert((self.meta.no, span.offset), block.clone());
        }
        Ok(block)
    }

    pub(super) fn undecodable(&self, span: Span) -> Error {
        self.parts.note_bad(span.offset);
        Error::corrupt(&self.parts.path, span.offset, "block cannot be decoded")
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        match &self.contents {
            Ok(Contents { pinned: Some(guides), .. }) => self.parts.cache.unpin(memory_of(guides)),
            Ok(Contents { pinned: None, .. }) => self.parts.cache.count_unpinned(false),
            Err(_) => {}
        }
        if let Some(vfs) = self.retired.get() {
            // What cannot be removed now is swept at the next open.
            let _orphan = vfs.remove(&self.parts.path);
        }
    }
}

impl Parts {
    /// Reads the bytes of a block, trailer included.
    pub(super) fn read(&self, span: Span) -> Result<Bytes, Error> {
        let Span { offset, length } = span;
        let mut buffer = vec![0; length];
        let read = self.file.read_at(offset, &mut buffer);
        let read = read.map_err(|source| {
            self.note_bad(offset);
            Error::io("read", &self.path, source)
        })?;
        if read < length {
            self.note_bad(offset);
            return Err(Error::corrupt(&self.path, offset, "file is cut short"));
        }
        Ok(Bytes::from(buffer))
    }

    /// What stands there could not be read: the engine is to look.
    pub(super) fn note_bad(&self, offset: u64) {
        self.cache.bad.note(&self.path, offset, None);
    }

    /// The body of a block from its stored bytes.
    pub(super) fn unsealed(&self, span: Span, stored: Bytes, salt: u64) -> Result<Bytes, Error> {
        let bad = |what| {
            self.note_bad(span.offset);
            Error::corrupt(&self.path, span.offset, what)
        };
        unseal(stored, salt, span.offset).map_err(bad)
    }

    /// Reads the footer, the list of blob files, and index and filter if there is room for them, and
    /// compares them with what the manifest says.
    fn contents(&self, meta: &TableMeta, blobs: &[Arc<BlobFile>]) -> Result<Contents, Error> {
        let footer = self.footer(meta)?;
        if !compare(&self.slots(&footer)?, meta, blobs) {
            let what = "table does not refer to what the manifest says";
            return Err(Error::corrupt(&self.path, footer.blobs.offset, what));
        }
        // What they take in memory is known when they have been read: at most this.
        let most = footer.guide_bytes_max();
        if !self.cache.pin(most, meta.level) {
            self.cache.count_unpinned(true);
            return Ok(Contents { footer, pinned: None });
        }
        let read = || Ok((self.index(meta, &footer)?, self.filter(&footer)?));
        let pinned = read();
        self.cache.unpin(most.saturating_sub(pinned.as_ref().map_or(0, memory_of)));
        Ok(Contents { footer, pinned: Some(pinned?) })
    }

    fn index(&self, meta: &TableMeta, footer: &Footer) -> Result<Index, Error> {
        let index = self.unsealed(footer.index, self.read(footer.index)?, footer.salt)?;
        let bad = |span: Span, what| Error::corrupt(&self.path, span.offset, what);
        let index =
            Index::decode(index).ok_or_else(|| bad(footer.index, "index cannot be decoded"))?;
        let (first, last) = (index.spans().first(), index.spans().last());
        let end = if footer.two_levels { footer.index.offset } else { footer.filter.offset };
        let start = if footer.two_levels { footer.blobs.end() } else { Some(0) };
        let counted = footer.two_levels || index.spans().len() as u64 == footer.blocks;
        let agrees = counted
            && last.and_then(Span::end) == Some(end)
            && first.map(|span| span.offset) == start
            && index.ends_with(&meta.largest);
        match agrees {
            true => Ok(index),
            false => Err(bad(footer.index, "table is not the one that is named")),
        }
    }

    pub(super) fn footer(&self, meta: &TableMeta) -> Result<Footer, Error> {
        let size = self.file.size().map_err(|source| Error::io("measure", &self.path, source))?;
        let offset = size.checked_sub(FOOTER_BYTES as u64).filter(|_| size == meta.bytes);
        let offset = offset.ok_or_else(|| {
            Error::corrupt(&self.path, size, "length is not what the manifest says")
        })?;
        let bytes = self.read(Span { offset, length: FOOTER_BYTES })?;
        let footer = Footer::decode(&bytes, offset, &self.path)?;
        let batches = (footer.first, footer.last) == (meta.first, meta.last);
        let agrees = (footer.entries, footer.deletes) == (meta.entries, meta.deletes)
            && (batches || meta.adopted.is_some())
            && footer.salt == meta.salt();
        if !agrees {
            let what = "table is not the one that is named";
            return Err(Error::corrupt(&self.path, offset, what));
        }
        Ok(footer)
    }

    pub(super) fn filter(&self, footer: &Footer) -> Result<Filter, Error> {
        let body = self.unsealed(footer.filter, self.read(footer.filter)?, footer.salt)?;
        let what = "filter cannot be decoded";
        Filter::decode(&body).ok_or_else(|| Error::corrupt(&self.path, footer.filter.offset, what))
    }
}

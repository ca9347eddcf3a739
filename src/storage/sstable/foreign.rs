//! A table that was written elsewhere, told by itself alone.
//!
//! Decides what is taken over from its footer and index, and that every entry is looked at before
//! the store believes it; then it is also counted what this store's filter will let go of it. Its checksums keep the salt they were made with; its batch numbers mean
//! nothing here, so all of its entries count as written by the batch that takes the table in.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::blobs::Slot;
use super::block_cursor::BlockCursor;
use super::footer::{FOOTER_BYTES, Footer};
use super::index::{Index, Span, span_at};
use super::table::Parts;
use super::{Block, Droppable, Table, TableMeta};
use crate::storage::batch::Kind;
use crate::storage::blob::{BlobFile, Pointer, head_of};
use crate::storage::cache::BlockCache;
use crate::storage::error::Error;
use crate::storage::files::FileNo;
use crate::storage::levels::LAST_LEVEL;
use crate::storage::options::ENGINE_KEY_BYTES_MAX;
use crate::storage::vfs::Vfs;

/// At which point an entry may go, by its key and value.
pub(crate) type Point<'a> = &'a dyn Fn(&[u8], &[u8]) -> Option<u64>;

impl Table {
    /// Opens a table that no manifest names, to be file `no` of this store, and reads all of it. Its
    /// values may stand in `blobs`, which it knows by their salts. `point` is what the store's filter
    /// says of a pair.
    ///
    /// # Errors
    /// `Corrupt` for the first thing that does not check, `Version`, or what the file system says.
    pub(crate) fn adopt(
        vfs: &dyn Vfs,
        path: PathBuf,
        (no, blobs): (FileNo, &[Arc<BlobFile>]),
        cache: Arc<BlockCache>,
        point: Point<'_>,
    ) -> Result<Self, Error> {
        let mut table = Self::open_foreign(vfs, path, (no, blobs), None, cache)?;
        if crate::mutant!("storage-ingest-unverified") {
            return Ok(table);
        }
        let mut droppable = Droppable::default();
        let (_, mut errors) = table.verify_each(&mut |entry| {
            let head = match entry.kind {
                Kind::Put => Some(head_of(entry.value)),
                Kind::Pointer => Pointer::decode(entry.value).map(|pointer| pointer.head),
                Kind::Delete | Kind::DeleteRange => None,
            };
            if let Some(point) = head.and_then(|head| point(entry.key, head)) {
                droppable.add(point, (entry.key.len() + entry.value.len()) as u64);
            }
        });
        if !errors.is_empty() {
            return Err(errors.swap_remove(0));
        }
        if !crate::mutant!("storage-ingest-without-points") {
            table.meta.droppable = droppable;
        }
        Ok(table)
    }

    /// Opens a table that no manifest names, as far as its footer, index and filter tell; its first
    /// and last key are `keys`, or what it says itself.
    ///
    /// # Errors
    /// As for [`Table::adopt`].
    pub(crate) fn open_foreign(
        vfs: &dyn Vfs,
        path: PathBuf,
        (no, blobs): (FileNo, &[Arc<BlobFile>]),
        keys: Option<(Bytes, Bytes)>,
        cache: Arc<BlockCache>,
    ) -> Result<Self, Error> {
        let file = vfs.open_to_read(&path).map_err(|error| Error::io("open", &path, error))?;
        let parts = Parts { file, path: path.clone(), cache: Arc::clone(&cache) };
        let (meta, slots) = parts.foreign_meta(no, keys)?;
        let found = slots.iter().map(|slot| slot.find(blobs)).collect::<Option<Vec<_>>>();
        let what = "it refers to a blob file that is not, or not clearly, among the files";
        let blobs = found.ok_or_else(|| Error::corrupt(&path, meta.bytes, what))?;
        let uses = slots.iter().zip(&blobs).map(|(slot, blob)| slot.of_file(blob.no));
        let meta = TableMeta { blobs: uses.collect(), ..meta };
        let table = Self::open(vfs, path, (meta, blobs), cache)?;
        table.usable()?;
        Ok(table)
    }
}

impl Parts {
    fn foreign_meta(
        &self,
        no: FileNo,
        keys: Option<(Bytes, Bytes)>,
    ) -> Result<(TableMeta, Vec<Slot>), Error> {
        let size = self.file.size().map_err(|source| Error::io("measure", &self.path, source))?;
        let bad = |what| Error::corrupt(&self.path, 0, what);
        let offset = size.checked_sub(FOOTER_BYTES as u64);
        let offset = offset.ok_or_else(|| bad("this is not an sstable"))?;
        let footer = self.read(Span { offset, length: FOOTER_BYTES })?;
        let footer = Footer::decode(&footer, offset, &self.path)?;
        let (smallest, largest) = keys.map_or_else(|| self.foreign_keys(&footer), Ok)?;
        let slots = self.slots(&footer)?;
        let meta = TableMeta {
            entries: footer.entries,
            deletes: footer.deletes,
            adopted: Some(footer.salt),
            no,
            // Where most of what comes from elsewhere finds its place.
            level: u8::try_from(LAST_LEVEL).unwrap_or(u8::MAX),
            bytes: size,
            smallest,
            largest,
            ..TableMeta::default()
        };
        Ok((meta, slots))
    }

    /// The first and the last key.
    fn foreign_keys(&self, footer: &Footer) -> Result<(Bytes, Bytes), Error> {
        let bad = |offset, what| Error::corrupt(&self.path, offset, what);
        let index = self.unsealed(footer.index, self.read(footer.index)?, footer.salt)?;
        let index = Index::decode(index);
        let index = index.ok_or_else(|| bad(footer.index.offset, "index cannot be decoded"))?;
        let largest = key_at(index.block(), index.block().count().checked_sub(1));
        let mut first = index.spans().first().copied();
        if footer.two_levels
            && let Some(span) = first
        {
            // Before anything is read by it: memory is taken for as much as it says.
            let end = span.end().filter(|end| *end <= footer.index.offset);
            end.ok_or_else(|| bad(footer.index.offset, "index cannot be decoded"))?;
            first = span_at(&self.foreign_block(span, footer)?, 0);
        }
        let first = first.filter(|span| span.end().is_some_and(|end| end <= footer.filter.offset));
        let first = first.ok_or_else(|| bad(footer.index.offset, "index cannot be decoded"))?;
        let smallest = key_at(&self.foreign_block(first, footer)?, Some(0));
        let keys = smallest.zip(largest);
        let keys = keys.ok_or_else(|| bad(first.offset, "block cannot be decoded"))?;
        match keys.0.len().max(keys.1.len()) > ENGINE_KEY_BYTES_MAX {
            true => Err(bad(first.offset, "a key is longer than the engine takes")),
            false => Ok(keys),
        }
    }

    fn foreign_block(&self, span: Span, footer: &Footer) -> Result<Block, Error> {
        let body = self.unsealed(span, self.read(span)?, footer.salt)?;
        let what = "block cannot be decoded";
        Block::parse(body).ok_or_else(|| Error::corrupt(&self.path, span.offset, what))
    }
}

fn key_at(block: &Block, index: Option<usize>) -> Option<Bytes> {
    let cursor = BlockCursor::new(block.clone(), index?, Vec::new())?;
    Some(Bytes::copy_from_slice(cursor.key()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::index::IndexBuilder;
    use super::super::trailer::seal;
    use super::super::{TableBuilder, TableShape};
    use super::*;
    use crate::storage::batch::Seqno;
    use crate::storage::entry::EntryRef;
    use crate::storage::options::{Compression, Options};
    use crate::storage::vfs::FaultyVfs;

    fn cache() -> Arc<BlockCache> {
        Arc::new(BlockCache::new(1 << 20, 4096))
    }

    /// A table with an index of two levels, whose upper one says that the first block of the lower
    /// one is this; all of its checksums hold.
    fn with_first_span(disk: &FaultyVfs, path: &Path, span: Span) {
        let options = Options { index_bytes_max: 0, block_bytes: 64, ..Options::default() };
        let file = disk.create(path).unwrap();
        let shape = TableShape::new(&options, LAST_LEVEL);
        let mut builder = TableBuilder::new(1, file, path.to_path_buf(), shape, cache());
        for key in 0..20u8 {
            let (kind, seqno) = (Kind::Put, Seqno(1));
            builder.add(EntryRef { key: &[key], seqno, kind, value: &[key; 30] }).unwrap();
        }
        builder.finish().unwrap();
        let mut content = disk.content(path).unwrap();
        let at = content.len() - FOOTER_BYTES;
        let footer = Footer::decode(&content[at..], at as u64, path).unwrap();
        assert!(footer.two_levels);
        let mut upper = IndexBuilder::new();
        upper.add(&[19], span);
        content.truncate(usize::try_from(footer.index.offset).unwrap());
        let offset = content.len() as u64;
        let sealed = seal(upper.finish(), Compression::None, footer.salt, offset);
        content.extend_from_slice(&sealed);
        let index = Span { offset, length: sealed.len() };
        content.extend(Footer { index, ..footer }.encode(content.len() as u64));
        disk.plant(path, content);
    }

    #[test]
    fn an_index_that_names_more_than_the_file_has_is_damage_and_costs_no_memory() {
        let (disk, path) = (FaultyVfs::new(1), Path::new("/srv/one.sst"));
        for (offset, length) in [(0, 1 << 40), (u64::MAX - 10, 20), (1 << 40, 100), (100, 1 << 20)]
        {
            with_first_span(&disk, path, Span { offset, length });
            let adopted = Table::adopt(&disk, path.to_path_buf(), (2, &[]), cache(), &|_, _| None);
            assert!(matches!(adopted, Err(Error::Corrupt { .. })), "{offset} {length}");
            disk.remove(path).unwrap();
        }
    }
}

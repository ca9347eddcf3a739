//! Writing a table outside of a store, to be taken in by one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::batch::{Kind, Seqno};
use super::blob::{BlobFile, NewBlob, NewBlobs, Separator};
use super::cache::BlockCache;
use super::entry::EntryRef;
use super::error::Error;
use super::export::{TableFile, measure};
use super::files::FileNo;
use super::levels::LAST_LEVEL;
use super::options::{ENGINE_KEY_BYTES_MAX, ENGINE_VALUE_BYTES_MAX, Options};
use super::sstable::{TableBuilder, TableShape};
use super::vfs::Vfs;

/// Writes one table from pairs in key order, for instance from a stream: the receiving half of a
/// unit that moves. Dropped before [`TableWriter::finish`] it leaves a file that no store takes.
///
/// ```
/// use roundtable::storage::{Engine, MemoryVfs, Options, TableWriter, Vfs};
/// # let disk: std::sync::Arc<dyn Vfs> = std::sync::Arc::new(MemoryVfs::default());
/// # let (engine, _) = Engine::open(disk.clone(), "data".as_ref(), Options::default())?;
/// let mut writer = TableWriter::create(&disk, "incoming.sst".as_ref(), &Options::default())?;
/// writer.put(b"key/1", b"one")?;
/// writer.put(b"key/2", b"two")?;
/// assert_eq!(writer.finish()?.entries, 2);
/// engine.ingest(&["incoming.sst".into()])?;
/// assert_eq!(engine.get(b"key/2")?.expect("taken in").0, "two");
/// # Ok::<(), roundtable::storage::Error>(())
/// ```
///
/// Long values stand in blob files beside the table, named after it: `incoming.1.blob` and so on.
/// [`TableFile::blobs`] names them; the store must be given them too.
#[derive(Debug)]
pub struct TableWriter {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    builder: TableBuilder,
    separator: Separator,
    /// Number of blob files begun.
    blobs: FileNo,
    last: Option<Vec<u8>>,
}

/// Blob files beside a table, named after it.
struct Beside<'a> {
    vfs: &'a Arc<dyn Vfs>,
    path: &'a Path,
    made: &'a mut FileNo,
}

impl NewBlobs for Beside<'_> {
    fn blob(&mut self) -> Result<NewBlob, Error> {
        *self.made += 1;
        let path = self.path.with_extension(format!("{}.blob", self.made));
        let file = self.vfs.create(&path).map_err(|error| Error::io("create", &path, error))?;
        let cache = Arc::new(BlockCache::new(0, 1));
        // The files of one stream are taken in together: their salts must differ.
        let seed = xxh3_64(path.file_name().unwrap_or_default().as_encoded_bytes());
        Ok(NewBlob { no: *self.made, file, path, cache, seed })
    }
}

impl TableWriter {
    /// Begins a table in a new file. Of the options those count that shape a table.
    ///
    /// # Errors
    /// What the file system says; there must be no file of that name.
    pub fn create(vfs: &Arc<dyn Vfs>, path: &Path, options: &Options) -> Result<Self, Error> {
        let file = vfs.create(path).map_err(|error| Error::io("create", path, error))?;
        // The salt of its checksums: a store that takes it in gives it a number of its own.
        let name = path.file_name().unwrap_or_default();
        let hash = xxh3_64(name.as_encoded_bytes());
        let no = FileNo::try_from(hash & u64::from(FileNo::MAX)).unwrap_or(0);
        let shape = TableShape::new(options, LAST_LEVEL);
        let cache = Arc::new(BlockCache::new(0, 1));
        let builder = TableBuilder::new(no, file, path.to_path_buf(), shape, cache);
        let (vfs, path) = (Arc::clone(vfs), path.to_path_buf());
        Ok(Self { vfs, path, builder, separator: Separator::new(options), blobs: 0, last: None })
    }

    /// Adds a pair.
    ///
    /// # Errors
    /// `TooLong`; `OutOfOrder` when the key is not above the one before: nothing is added then.
    /// Else what the file system says: the file is worthless then.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let lengths = [
            ("key", key.len(), ENGINE_KEY_BYTES_MAX),
            ("value", value.len(), ENGINE_VALUE_BYTES_MAX),
        ];
        for (what, length, limit) in lengths {
            if length > limit {
                return Err(Error::TooLong { what, length, limit });
            }
        }
        if self.last.as_ref().is_some_and(|last| last.as_slice() >= key) {
            return Err(Error::OutOfOrder { file: self.path.clone() });
        }
        let mut files = Beside { vfs: &self.vfs, path: &self.path, made: &mut self.blobs };
        let entry = EntryRef { key, seqno: Seqno(1), kind: Kind::Put, value };
        self.separator.add(&mut self.builder, entry, &mut files)?;
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        Ok(())
    }

    /// Bytes written so far, within a block, those of blob files included: for whoever cuts a stream
    /// into tables.
    pub fn bytes(&self) -> u64 {
        self.builder.bytes() + self.separator.bytes()
    }

    /// Ends the table and returns when its content is on disk. Its name is not synced.
    ///
    /// # Errors
    /// `Empty` when nothing was put; else what the file system says: the file is worthless then.
    pub fn finish(mut self) -> Result<TableFile, Error> {
        if self.last.is_none() {
            return Err(Error::Empty { file: self.path });
        }
        self.separator.end()?;
        let table = self.builder.finish()?;
        let name = |blob: &Arc<BlobFile>| {
            blob.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        let blobs = table.blobs().iter().map(name).collect();
        let file = TableFile::of(&self.path, &table.meta, measure(&*self.vfs, &self.path)?);
        Ok(TableFile { blobs, ..file })
    }
}

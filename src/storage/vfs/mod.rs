//! The one door to files: everything the engine reads or writes goes through [`Vfs`].
//!
//! Decides the vocabulary of file operations and what each promises over a crash. Does not know
//! what is in the files. The model is the one of POSIX and Linux as found by the studies cited in
//! `docs/storage.md`: data is durable after `sync_data`, a name after `sync_dir` of its directory,
//! and a failed `sync_data` says nothing good about what was written before it, ever.

mod disk;
mod faulty;
mod memory;
mod real;
mod unsynced;

pub use disk::Fate;
pub use faulty::{Counts, Fault, FaultyVfs};
pub use memory::MemoryVfs;
pub use real::RealVfs;
pub(crate) use unsynced::Unsynced;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The name of the file that carries the lock of a directory, where one does.
pub(crate) const LOCK_FILE: &str = "LOCK";

/// A file system, or something that behaves like one.
pub trait Vfs: Debug + Send + Sync {
    /// Creates a new, empty file, open for reading and writing. The name is durable only after
    /// [`Vfs::sync_dir`] of its directory.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken, else what the file system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if there is none, else what the file system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>>;

    /// Opens an existing file for reading and for `sync_data`: what a check of a store on a medium
    /// that cannot be written needs. By itself as [`Vfs::open`].
    ///
    /// # Errors
    /// `NotFound` if there is none, else what the file system says.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.open(path)
    }

    /// Removes a file. Handles that are open keep working.
    ///
    /// # Errors
    /// `NotFound` if there is none, else what the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in the same directory, replacing what had that name, atomically.
    ///
    /// # Errors
    /// `NotFound` if there is none, else what the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, perhaps in another directory of the same file system: what is
    /// done through one name is seen through the other. The name is durable only after
    /// [`Vfs::sync_dir`] of its directory.
    ///
    /// # Errors
    /// `NotFound` if there is none, `AlreadyExists` if the name is taken, else what the file system
    /// says, `CrossesDevices` or `Unsupported` among it: then a copy may still be possible.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// The names of the files directly in `dir`, sorted; directories are left out.
    ///
    /// # Errors
    /// `NotFound` if the directory does not exist, else what the file system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory and its parents; existing ones are fine.
    ///
    /// # Errors
    /// What the file system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes all creations, renames and removals in `dir` durable.
    ///
    /// # Errors
    /// What the file system says; the operations may or may not be durable then.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How many bytes can still be written to the file system of `dir`; `None` where that is not known. By
    /// itself it is not.
    fn free(&self, dir: &Path) -> Option<u64> {
        let _ = dir;
        None
    }

    /// Removes a directory that is empty. Where there are no directories apart from files, nothing is to be done.
    ///
    /// # Errors
    /// `NotFound` if there is none, `DirectoryNotEmpty`, else what the file system says.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Locks an existing directory against every other opener, in this process or another, until
    /// the guard is dropped or the process ends. A directory that may only be read is locked too.
    ///
    /// # Errors
    /// `WouldBlock` if someone else holds the lock, else what the file system says.
    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>>;
}

/// An open file. Offsets are absolute; there is no cursor.
pub trait VfsFile: Debug + Send + Sync {
    /// Writes all of `data` at `offset`, growing the file as needed.
    ///
    /// # Errors
    /// `StorageFull` when there is no room, else what the file system says. Any part of the range
    /// may have been written then.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Reads into `buf` from `offset`; fewer bytes than asked only at the end of the file.
    ///
    /// # Errors
    /// What the file system says.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Says that what was just written at `offset` will be synced and not be written again soon, so that the
    /// disk may have it now: else a sync finds all of a large file to be written, and the syncs of others, a
    /// log's above all, wait behind it. Waits for nothing, and promises nothing.
    fn written_for_good(&self, offset: u64, length: u64) {
        let _unheeded = (offset, length);
    }

    /// Makes the content and length of the file durable.
    ///
    /// # Errors
    /// What the file system says. Everything written since the last success must then be taken
    /// for lost, and a later success does not bring it back.
    fn sync_data(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// What the file system says.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file, or grows it with zeros.
    ///
    /// # Errors
    /// What the file system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// Proof that a directory is locked; dropping it lets the next one in.
pub trait DirLock: Debug + Send + Sync {}

/// How much is copied at once.
const COPY_BYTES: usize = 1 << 20;

/// Gives a file a second name or, where links are impossible, makes a synced copy of it. Returns
/// whether it is a copy.
///
/// # Errors
/// What the file system says; there may be a part of a copy then.
pub(crate) fn link_or_copy(vfs: &dyn Vfs, from: &Path, to: &Path) -> io::Result<bool> {
    use io::ErrorKind::{AlreadyExists, NotFound, StorageFull};
    match vfs.hard_link(from, to) {
        Ok(()) => Ok(false),
        Err(error) if matches!(error.kind(), AlreadyExists | NotFound | StorageFull) => Err(error),
        Err(_) => copy(vfs, from, to).map(|()| true),
    }
}

fn copy(vfs: &dyn Vfs, from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (vfs.open_to_read(from)?, vfs.create(to)?);
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        let read = source.read_at(offset, &mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        target.write_at(offset, bytes)?;
        offset += read as u64;
    }
    target.sync_data()
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// `InvalidData` when it is longer, else what the file system says.
pub(crate) fn read_all(file: &dyn VfsFile, limit: u64) -> io::Result<Vec<u8>> {
    let size = file.size()?;
    let length = usize::try_from(size).ok().filter(|_| size <= limit);
    let Some(length) = length else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "file is longer than it may be"));
    };
    let mut data = vec![0; length];
    let read = file.read_at(0, &mut data)?;
    data.truncate(read);
    Ok(data)
}

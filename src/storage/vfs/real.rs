//! The operating system's files: the only place of the product that names `std::fs` for data.
//!
//! Decides how each promise of [`Vfs`] is kept on Linux: `fdatasync` for data, `fsync` of the
//! directory for names, `flock` on a file `LOCK` for the lock, which the kernel drops with the
//! process however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{DirLock, LOCK_FILE, Vfs, VfsFile};

/// Files of the operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealVfs;

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealLock {
    // Held, never read: the kernel releases the lock when the descriptor closes.
    _file: File,
}

impl DirLock for RealLock {}

impl Vfs for RealVfs {
    #[cfg(feature = "server")]
    fn free(&self, dir: &Path) -> Option<u64> {
        let found = rustix::fs::statvfs(dir).ok()?;
        found.f_bavail.checked_mul(found.f_frsize)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        Ok(Arc::new(RealFile(to_read(path)?)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A name that is not UTF-8 cannot be one of the engine's.
            if let (true, Ok(name)) =
                (entry.file_type()?.is_file(), entry.file_name().into_string())
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        OpenOptions::new().read(true).open(dir)?.sync_all()
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        let path = dir.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let file = match options.read(true).write(true).create(true).truncate(false).open(&path) {
            Err(error) if may_only_read(&error) => lock_file_to_read(&path, dir)?,
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

fn may_only_read(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The file that carries the lock, opened without the right to write it. Where there is none, whoever
/// may write has never locked the directory, and the directory itself will do.
fn lock_file_to_read(path: &Path, dir: &Path) -> io::Result<File> {
    match to_read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => to_read(dir),
        opened => opened,
    }
}

impl VfsFile for RealFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<usize> {
        let mut total = 0;
        while !buf.is_empty() {
            match self.0.read_at(buf, offset) {
                Ok(0) => break,
                Ok(read) => {
                    buf = buf.get_mut(read..).unwrap_or_default();
                    offset += read as u64;
                    total += read;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Advice that these pages are not needed makes Linux begin to write those that are dirty; it keeps them in
    /// its cache while they are.
    #[cfg(all(target_os = "linux", feature = "server"))]
    fn written_for_good(&self, offset: u64, length: u64) {
        let length = core::num::NonZeroU64::new(length);
        let _refused = rustix::fs::fadvise(&self.0, offset, length, rustix::fs::Advice::DontNeed);
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_to_read_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        RealVfs.create(&path).unwrap().write_at(0, b"kept").unwrap();
        let file = RealVfs.open_to_read(&path).unwrap();
        assert!(file.write_at(0, b"lost").is_err() && file.set_len(0).is_err());
        let mut content = [0; 8];
        assert_eq!(file.read_at(0, &mut content).unwrap(), 4);
        assert_eq!(content[..4], *b"kept");
        file.sync_data().unwrap();
    }

    #[test]
    fn a_directory_is_locked_without_writing_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK_FILE);
        let one = lock_file_to_read(&path, dir.path()).unwrap();
        one.try_lock().unwrap();
        let other = lock_file_to_read(&path, dir.path()).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        assert!(!path.exists());
        // Who may write locks the file, and who may not sees that.
        let _writer = RealVfs.lock_dir(dir.path()).unwrap();
        let reader = lock_file_to_read(&path, dir.path()).unwrap();
        assert!(matches!(reader.try_lock(), Err(TryLockError::WouldBlock)));
    }
}

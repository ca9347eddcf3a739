//! Files in memory, without faults and without a notion of durability: for tests and tools that
//! need an engine but no disk. For crashes see [`super::FaultyVfs`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::disk::{overwrite, read_from};
use super::{DirLock, Vfs, VfsFile};

/// Files in memory. Clones share them.
#[derive(Debug, Default, Clone)]
pub struct MemoryVfs {
    files: Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>>,
    locks: Arc<Mutex<BTreeSet<PathBuf>>>,
}

#[derive(Debug, Default)]
struct MemoryFile {
    content: RwLock<Vec<u8>>,
    /// Bytes that were said to be written for good.
    for_good: AtomicU64,
}

impl MemoryVfs {
    /// How many bytes of a file [`VfsFile::written_for_good`] was told of; `None` if there is no such file.
    pub fn for_good(&self, path: &Path) -> Option<u64> {
        self.files.lock().get(path).map(|file| file.for_good.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct MemoryLock {
    dir: PathBuf,
    locks: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl DirLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.locks.lock().remove(&self.dir);
    }
}

impl Vfs for MemoryVfs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let mut files = self.files.lock();
        if files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile::default());
        files.insert(path.to_path_buf(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        match self.files.lock().get(path) {
            Some(file) => Ok(Arc::clone(file) as Arc<dyn VfsFile>),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files.lock().remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        if files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::clone(files.get(from).ok_or(io::ErrorKind::NotFound)?);
        files.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.files.lock();
        let inside = files.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        if !self.locks.lock().insert(dir.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { dir: dir.to_path_buf(), locks: Arc::clone(&self.locks) }))
    }
}

impl VfsFile for MemoryFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        overwrite(&mut self.content.write(), offset, data)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Ok(read_from(&self.content.read(), offset, buf))
    }

    fn written_for_good(&self, _offset: u64, length: u64) {
        self.for_good.fetch_add(length, Ordering::Relaxed);
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.content.read().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.content.write().resize(len, 0);
        Ok(())
    }
}

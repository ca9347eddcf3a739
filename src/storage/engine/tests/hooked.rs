//! Files in memory whose owner is told before one is made or synced.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::storage::MemoryVfs;
use crate::storage::vfs::{DirLock, Vfs, VfsFile};

type Tell = Arc<dyn Fn(&str, &Path) + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct HookedVfs {
    files: MemoryVfs,
    tell: Arc<Mutex<Option<Tell>>>,
}

struct HookedFile {
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    vfs: HookedVfs,
}

impl std::fmt::Debug for HookedVfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookedVfs").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookedFile").finish_non_exhaustive()
    }
}

impl HookedVfs {
    /// From now on `tell` is called with "create" or "sync" and the path, before it is done.
    pub(super) fn tell(&self, tell: impl Fn(&str, &Path) + Send + Sync + 'static) {
        *self.tell.lock() = Some(Arc::new(tell));
    }

    fn about_to(&self, what: &str, path: &Path) {
        let tell = self.tell.lock().clone();
        if let Some(tell) = tell {
            tell(what, path);
        }
    }

    fn hooked(&self, path: &Path, file: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
        Arc::new(HookedFile { file, path: path.to_path_buf(), vfs: self.clone() })
    }
}

impl Vfs for HookedVfs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.about_to("create", path);
        Ok(self.hooked(path, self.files.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        Ok(self.hooked(path, self.files.open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.hard_link(from, to)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.files.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        self.files.lock_dir(dir)
    }
}

impl VfsFile for HookedFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.vfs.about_to("sync", &self.path);
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

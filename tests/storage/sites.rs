//! Where in the engine each call to the disk comes from: the places that crashes are to reach.

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use roundtable::storage::vfs::{DirLock, VfsFile};
use roundtable::storage::{FaultyVfs, Vfs};

/// A line of the engine, and what it does there to which kind of file.
pub(crate) type Site = (String, String);

/// Passes every call on, and writes down where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct SitedVfs {
    disk: FaultyVfs,
    /// By the number of the call.
    calls: Arc<Mutex<BTreeMap<u64, Site>>>,
}

#[derive(Debug)]
struct SitedFile {
    file: Arc<dyn VfsFile>,
    kind: &'static str,
    vfs: SitedVfs,
}

fn kind(path: &Path) -> &'static str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let kinds = ["wal", "sst", "blob", "MANIFEST", "CURRENT", "db"];
    kinds.into_iter().find(|kind| name.contains(kind)).unwrap_or("other")
}

/// The innermost line of the engine that is not the disk's own, and the function it is called from.
fn caller() -> String {
    let trace = Backtrace::force_capture().to_string();
    let places = trace.lines().filter_map(|line| line.trim_start().strip_prefix("at "));
    let ours = places.filter_map(|place| place.split_once("src/storage/").map(|(_, place)| place));
    let mut outside = ours.filter(|place| !place.starts_with("vfs/"));
    let line = |place: &str| place.rsplit_once(':').map_or(place, |(line, _)| line).to_owned();
    outside.next().map(line).unwrap_or_default()
}

impl SitedVfs {
    pub(crate) fn new(disk: FaultyVfs) -> Self {
        Self { disk, calls: Arc::default() }
    }

    /// Each call so far, by its number.
    pub(crate) fn calls(&self) -> BTreeMap<u64, Site> {
        self.calls.lock().clone()
    }

    fn note<T>(
        &self,
        what: &str,
        kind: &str,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let result = call();
        let site = (caller(), format!("{what} {kind}"));
        self.calls.lock().insert(self.disk.counts().calls, site);
        result
    }

    fn sited(&self, path: &Path, file: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
        Arc::new(SitedFile { file, kind: kind(path), vfs: self.clone() })
    }
}

impl Vfs for SitedVfs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let file = self.note("create", kind(path), || self.disk.create(path))?;
        Ok(self.sited(path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        let file = self.note("open", kind(path), || self.disk.open(path))?;
        Ok(self.sited(path, file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note("remove", kind(path), || self.disk.remove(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", kind(to), || self.disk.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("link", kind(to), || self.disk.hard_link(from, to))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.note("list", kind(dir), || self.disk.list(dir))
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.note("create directory", kind(dir), || self.disk.create_dir(dir))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.note("remove directory", kind(dir), || self.disk.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.note("sync directory", kind(dir), || self.disk.sync_dir(dir))
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        self.note("lock", kind(dir), || self.disk.lock_dir(dir))
    }
}

impl VfsFile for SitedFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.vfs.note("write", self.kind, || self.file.write_at(offset, data))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.vfs.note("read", self.kind, || self.file.read_at(offset, buf))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.vfs.note("sync", self.kind, || self.file.sync_data())
    }

    fn size(&self) -> io::Result<u64> {
        self.vfs.note("measure", self.kind, || self.file.size())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.vfs.note("cut", self.kind, || self.file.set_len(len))
    }
}

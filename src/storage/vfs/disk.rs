//! What a disk holds and what a power failure leaves of it: the state behind [`super::FaultyVfs`].
//!
//! Decides which unsynced bytes survive a crash: every 512-byte sector written since the last
//! successful sync is independently kept, lost or torn; creations, renames and removals of one
//! directory survive as a prefix. Does not know when crashes happen.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;

const SECTOR: usize = 512;

/// What becomes of unsynced sectors and names in a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fate {
    /// Drawn for each sector: kept, lost or torn; of the names of a directory a prefix.
    #[default]
    Drawn,
    /// All of it is there.
    Kept,
    /// None of it is there.
    Lost,
    /// Each sector is there up to some byte of it; of the names of a directory a prefix.
    Torn,
}

impl Fate {
    fn all_or(self, drawn: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Drawn | Self::Torn => drawn(),
            Self::Kept => true,
            Self::Lost => false,
        }
    }

    /// How many bytes of a sector are there.
    fn kept(self, rng: &mut Rng) -> usize {
        match self {
            Self::Drawn => rng.usize(..=SECTOR),
            Self::Kept => SECTOR,
            Self::Lost => 0,
            Self::Torn => rng.usize(1..SECTOR),
        }
    }
}

/// Writes `data` at `offset`, growing with zeros.
pub(super) fn overwrite(content: &mut Vec<u8>, offset: u64, data: &[u8]) -> io::Result<()> {
    let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let end = start.checked_add(data.len()).ok_or(io::ErrorKind::InvalidInput)?;
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(range) = content.get_mut(start..end) {
        range.copy_from_slice(data);
    }
    Ok(())
}

/// Reads from `offset` into `buf`; returns how many bytes there were.
pub(super) fn read_from(content: &[u8], offset: u64, buf: &mut [u8]) -> usize {
    let rest = usize::try_from(offset).ok().and_then(|start| content.get(start..));
    let rest = rest.unwrap_or_default();
    let length = rest.len().min(buf.len());
    if let (Some(to), Some(from)) = (buf.get_mut(..length), rest.get(..length)) {
        to.copy_from_slice(from);
    }
    length
}

/// One file: what a reader sees now, and how to go back to what the platter has.
#[derive(Debug, Default, Clone)]
pub(super) struct Inode {
    pub(super) content: Vec<u8>,
    /// The durable bytes of each sector that was written since, shorter than a sector (or empty)
    /// where the durable file ended.
    dirty: BTreeMap<usize, Vec<u8>>,
    /// Sectors whose write-back failed: clean to the kernel, never on the platter.
    dropped: BTreeMap<usize, Vec<u8>>,
    durable_len: usize,
    /// Cloned by every open handle: a removed file lives until the last one is gone.
    pub(super) handles: Arc<()>,
}

impl Inode {
    fn touch(&mut self, start: usize, end: usize) {
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            if self.dirty.contains_key(&sector) {
                continue;
            }
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(self.durable_len).max(from);
            let old = self.dropped.remove(&sector).unwrap_or_else(|| {
                self.content.get(from..to.min(self.content.len())).unwrap_or_default().to_vec()
            });
            self.dirty.insert(sector, old);
        }
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // Growing over a gap changes the sectors of the gap too.
        self.touch(start.min(self.content.len()), start + data.len());
        overwrite(&mut self.content, offset, data)
    }

    pub(super) fn set_len(&mut self, len: usize) {
        let (low, high) = (len.min(self.content.len()), len.max(self.content.len()));
        self.touch(low, high);
        self.content.resize(len, 0);
    }

    pub(super) fn sync(&mut self) {
        self.dirty.clear();
        self.durable_len = self.content.len();
    }

    /// A write-back that failed: some sectors made it, the others are forgotten by the kernel,
    /// which will report the error once and call them clean from then on.
    pub(super) fn sync_failed(&mut self, rng: &mut Rng) {
        for (sector, old) in std::mem::take(&mut self.dirty) {
            if rng.u8(..4) > 0 {
                self.dropped.insert(sector, old);
            }
        }
    }

    /// Leaves what a power failure would.
    pub(super) fn crash(&mut self, rng: &mut Rng, fate: Fate) {
        let cut_survives = fate.all_or(|| rng.bool());
        let mut len = if self.content.len() < self.durable_len && cut_survives {
            self.content.len()
        } else {
            self.durable_len
        };
        let seen = std::mem::take(&mut self.content);
        let mut after = seen.clone();
        after.resize(seen.len().max(self.durable_len), 0);
        let dropped = std::mem::take(&mut self.dropped);
        let dirty = std::mem::take(&mut self.dirty);
        let fates = dropped.into_iter().map(|(sector, old)| (sector, old, 0));
        let fates: Vec<_> = fates
            .chain(dirty.into_iter().map(|(sector, old)| (sector, old, fate.kept(rng))))
            .collect();
        // Half of the crashes are all or nothing per sector: the common case must be common.
        let whole = fate == Fate::Drawn && rng.bool();
        for (sector, old, mut kept) in fates {
            if whole && kept > 0 {
                kept = if kept > SECTOR / 2 { SECTOR } else { 0 };
            }
            let from = sector * SECTOR;
            let new_end = seen.len().min(from + SECTOR).max(from);
            if seen.len() < self.durable_len {
                // A cut that did not reach the platter leaves the old bytes, not zeros.
                kept = kept.min(new_end - from);
            }
            if kept > 0 && new_end > from {
                len = len.max(new_end.min(from + kept));
            }
            for index in kept..SECTOR {
                if let Some(byte) = after.get_mut(from + index) {
                    *byte = old.get(index).copied().unwrap_or(0);
                }
            }
        }
        after.resize(len, 0);
        self.content = after;
        self.durable_len = len;
    }
}

/// One change of a directory.
#[derive(Debug, Clone)]
pub(super) enum DirOp {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl DirOp {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Create(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

/// All files and names, as seen and as durable.
#[derive(Debug, Default, Clone)]
pub(super) struct Disk {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending: Vec<(PathBuf, DirOp)>,
    /// Directories that were made, and whether their own names are durable. Any other directory
    /// has always been there.
    dirs: BTreeMap<PathBuf, bool>,
    next_inode: u64,
}

impl Disk {
    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode::default());
        self.change(path, DirOp::Create(path.to_path_buf(), self.next_inode));
        Ok(self.next_inode)
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.change(path, DirOp::Remove(path.to_path_buf()));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.find(from)?;
        self.change(from, DirOp::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    pub(super) fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        if self.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(to, DirOp::Create(to.to_path_buf(), inode));
        Ok(())
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, path: &Path, op: DirOp) {
        op.apply(&mut self.names);
        self.pending.push((path.parent().unwrap_or(Path::new("")).to_path_buf(), op));
    }

    pub(super) fn create_dir(&mut self, dir: &Path) {
        for made in dir.ancestors().filter(|made| made.parent().is_some()) {
            self.dirs.entry(made.to_path_buf()).or_insert(false);
        }
    }

    pub(super) fn remove_dir(&mut self, dir: &Path) -> io::Result<()> {
        let mut inside = self.names.keys().chain(self.dirs.keys());
        if inside.any(|path| path.parent() == Some(dir)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.dirs.remove(dir).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let inside = self.dirs.iter_mut().filter(|(made, _)| made.parent() == Some(dir));
        inside.for_each(|(_, durable)| *durable = true);
        for (_, op) in self.pending.extract_if(.., |(parent, _)| parent == dir) {
            op.apply(&mut self.durable_names);
        }
        self.forget_unreachable();
    }

    /// Bytes of all files that have a name; one with two names counts once.
    pub(super) fn bytes(&self) -> u64 {
        let named: BTreeSet<&u64> = self.names.values().collect();
        let named = named.into_iter().filter_map(|inode| self.inodes.get(inode));
        named.map(|inode| inode.content.len() as u64).sum()
    }

    pub(super) fn crash(&mut self, rng: &mut Rng, fate: Fate) {
        let mut left: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for (dir, _) in &self.pending {
            *left.entry(dir.clone()).or_default() += 1;
        }
        for count in left.values_mut() {
            *count = match fate {
                Fate::Drawn | Fate::Torn => rng.usize(..=*count),
                Fate::Kept => *count,
                Fate::Lost => 0,
            };
        }
        for (dir, op) in std::mem::take(&mut self.pending) {
            if let Some(count @ 1..) = left.get_mut(&dir) {
                *count -= 1;
                op.apply(&mut self.durable_names);
            }
        }
        for durable in self.dirs.values_mut() {
            *durable |= fate.all_or(|| rng.bool());
        }
        // With the name of a directory goes all that is below it.
        let lost: Vec<PathBuf> = self
            .dirs
            .iter()
            .filter(|(_, durable)| !**durable)
            .map(|(dir, _)| dir.clone())
            .collect();
        let survives = |path: &PathBuf| !lost.iter().any(|lost| path.starts_with(lost));
        self.dirs.retain(|made, _| survives(made));
        self.durable_names.retain(|path, _| survives(path));
        self.names = self.durable_names.clone();
        self.forget_unreachable();
        for inode in self.inodes.values_mut() {
            inode.crash(rng, fate);
        }
    }

    /// Frees files that neither a name, nor a pending operation, nor an open handle can reach.
    fn forget_unreachable(&mut self) {
        let pending = self.pending.iter().filter_map(|(_, op)| match op {
            DirOp::Create(_, inode) => Some(inode),
            DirOp::Rename(..) | DirOp::Remove(_) => None,
        });
        let named = self.names.values().chain(self.durable_names.values());
        let reachable: BTreeSet<u64> = named.chain(pending).copied().collect();
        self.inodes.retain(|inode, file| {
            reachable.contains(inode) || Arc::strong_count(&file.handles) > 1
        });
    }
}

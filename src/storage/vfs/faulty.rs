//! A disk that fails: crashes with lost and torn sectors, failed syncs, `EIO`, `ENOSPC`, bit rot.
//!
//! Decides when a call fails and counts every call; what a crash leaves is decided in
//! [`super::disk`]. It has no threads and no clock, and draws from one seeded generator, so a run
//! is replayed by its seed. The model follows the measurements cited in `docs/storage.md`: a
//! failed sync is reported once and drops what it could not write.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;

use super::disk::{Disk, Fate, read_from};
use super::{DirLock, Vfs, VfsFile};

/// How many calls of each kind a disk has served.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// All calls.
    pub calls: u64,
    /// Writes of file content.
    pub writes: u64,
    /// Bytes of those writes.
    pub bytes_written: u64,
    /// Reads of file content.
    pub reads: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of directories.
    pub dir_syncs: u64,
}

/// An error to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with an input/output error. A write may have happened in part; a sync drops
    /// what it could not write back.
    Eio,
    /// The call, if it needs room, finds none. A sync may need some, on file systems that find
    /// the place of a page only when they write it; it fails like any sync then.
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Name,
    Read,
    Write(usize),
    Sync,
    DirSync,
    Cut,
}

#[derive(Debug, Clone)]
struct State {
    disk: Disk,
    rng: Rng,
    counts: Counts,
    crash_at: Option<u64>,
    faults: BTreeMap<u64, Fault>,
    failing_syncs: u32,
    error_rate: f64,
    capacity: Option<u64>,
    fate: Fate,
    /// Whether hard links are possible.
    links: bool,
    down: bool,
    /// Rises at each restart: handles and locks of an earlier life are dead.
    life: u64,
    locks: BTreeSet<PathBuf>,
}

/// A faulty disk. Clones are handles on the same disk; [`FaultyVfs::fork`] copies it.
#[derive(Debug, Clone)]
pub struct FaultyVfs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct FaultyFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    life: u64,
    // Keeps a removed file alive while it is open.
    _handle: Arc<()>,
}

#[derive(Debug)]
struct FaultyLock {
    state: Arc<Mutex<State>>,
    dir: PathBuf,
    life: u64,
}

fn eio() -> io::Error {
    io::Error::other("injected input/output error")
}

fn crashed() -> io::Error {
    io::Error::other("the disk has lost power")
}

impl State {
    fn count(&mut self, call: Call) {
        self.counts.calls += 1;
        match call {
            Call::Read => self.counts.reads += 1,
            Call::Write(bytes) => {
                self.counts.writes += 1;
                self.counts.bytes_written += bytes as u64;
            }
            Call::Sync => self.counts.syncs += 1,
            Call::DirSync => self.counts.dir_syncs += 1,
            Call::Name | Call::Cut => {}
        }
    }

    fn crash(&mut self) {
        self.disk.crash(&mut self.rng, self.fate);
        self.down = true;
        self.locks.clear();
    }

    /// Runs one call: counts it, decides its fate, and lets `act` do it if it is to happen.
    fn serve<T>(
        &mut self,
        life: Option<u64>,
        call: Call,
        act: impl FnOnce(&mut Self, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.down || life.is_some_and(|life| life != self.life) {
            return Err(crashed());
        }
        self.count(call);
        if self.crash_at.is_some_and(|at| self.counts.calls >= at) {
            self.crash_at = None;
            if self.rng.bool() {
                // The power fails after the call took effect but before anyone heard of it.
                let _unheard = act(self, None);
            }
            self.crash();
            return Err(crashed());
        }
        let mut fault = self.faults.remove(&self.counts.calls);
        if fault.is_none() && matches!(call, Call::Sync) && self.failing_syncs > 0 {
            self.failing_syncs -= 1;
            fault = Some(Fault::Eio);
        }
        if fault.is_none() && self.error_rate > 0.0 && self.rng.f64() < self.error_rate {
            fault = Some(if self.rng.bool() { Fault::Eio } else { Fault::Full });
        }
        match (fault, call) {
            (Some(_), Call::Sync | Call::Write(_)) => act(self, fault),
            (Some(Fault::Eio), _) => Err(eio()),
            (Some(Fault::Full), Call::Name) => Err(io::ErrorKind::StorageFull.into()),
            (Some(Fault::Full), _) | (None, _) => act(self, None),
        }
    }

    fn write(
        &mut self,
        inode: u64,
        offset: u64,
        data: &[u8],
        fault: Option<Fault>,
    ) -> io::Result<()> {
        let used = self.disk.bytes();
        let rng = &mut self.rng;
        let Some(file) = self.disk.inodes.get_mut(&inode) else { return Err(eio()) };
        let growth = (offset + data.len() as u64).saturating_sub(file.content.len() as u64);
        let over = self.capacity.map_or(0, |capacity| (used + growth).saturating_sub(capacity));
        let (room, error) = match fault {
            Some(Fault::Eio) => (rng.usize(..=data.len()), Some(eio())),
            Some(Fault::Full) => {
                (rng.usize(..=data.len()), Some(io::ErrorKind::StorageFull.into()))
            }
            None if over > 0 && growth > 0 => {
                let short = usize::try_from(over.min(growth)).unwrap_or(usize::MAX);
                (data.len().saturating_sub(short), Some(io::ErrorKind::StorageFull.into()))
            }
            None => (data.len(), None),
        };
        if room > 0 {
            file.write(offset, data.get(..room).unwrap_or(data))?;
        }
        error.map_or(Ok(()), Err)
    }

    fn handle(&mut self, state: &Arc<Mutex<Self>>, inode: u64) -> Arc<dyn VfsFile> {
        let handle = self.disk.inodes.entry(inode).or_default().handles.clone();
        Arc::new(FaultyFile { state: Arc::clone(state), inode, life: self.life, _handle: handle })
    }
}

impl FaultyVfs {
    /// An empty disk whose every draw comes from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State {
            disk: Disk::default(),
            rng: Rng::with_seed(seed),
            counts: Counts::default(),
            crash_at: None,
            faults: BTreeMap::new(),
            failing_syncs: 0,
            error_rate: 0.0,
            capacity: None,
            fate: Fate::Drawn,
            links: true,
            down: false,
            life: 0,
            locks: BTreeSet::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A copy of the disk as it is now, synced and unsynced, that draws from another seed. Handles
    /// on this disk do not reach the copy.
    pub fn fork(&self, seed: u64) -> Self {
        let mut state = self.state.lock().clone();
        state.rng = Rng::with_seed(seed);
        state.locks.clear();
        for inode in state.disk.inodes.values_mut() {
            inode.handles = Arc::default();
        }
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Cuts the power: unsynced sectors are kept, lost or torn, and every call fails until
    /// [`FaultyVfs::restart`]. Locks are released.
    pub fn crash(&self) {
        let mut state = self.state.lock();
        if !state.down {
            state.crash();
        }
    }

    /// Gives the power back. Handles from before stay dead.
    pub fn restart(&self) {
        let mut state = self.state.lock();
        state.down = false;
        state.crash_at = None;
        state.life += 1;
        state.locks.clear();
    }

    /// Whether the power is off.
    pub fn is_down(&self) -> bool {
        self.state.lock().down
    }

    /// Cuts the power during call number `call` (the first is 1, see [`FaultyVfs::counts`]); that
    /// call takes effect or not by the seed.
    pub fn crash_at(&self, call: u64) {
        self.state.lock().crash_at = Some(call);
    }

    /// Says what becomes of unsynced sectors and names in every crash from now on; default
    /// [`Fate::Drawn`].
    pub fn set_fate(&self, fate: Fate) {
        self.state.lock().fate = fate;
    }

    /// Makes call number `call` fail.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.state.lock().faults.insert(call, fault);
    }

    /// Makes the next `count` syncs of files fail, each dropping what it should have written.
    pub fn fail_syncs(&self, count: u32) {
        self.state.lock().failing_syncs = count;
    }

    /// Makes each call fail with this probability, half `EIO`, half `ENOSPC`; 0 turns it off.
    pub fn set_error_rate(&self, probability: f64) {
        self.state.lock().error_rate = probability;
    }

    /// Bounds the bytes of all files together; a write beyond it is cut short and fails.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Makes hard links impossible, as between two file systems, or possible again.
    pub fn set_links(&self, possible: bool) {
        self.state.lock().links = possible;
    }

    /// Bytes of all files that have a name; one with two names counts once.
    pub fn bytes(&self) -> u64 {
        self.state.lock().disk.bytes()
    }

    /// Calls served so far.
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.lock().disk.names.keys().cloned().collect()
    }

    /// The content of a file as a reader would see it, without counting as a call.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let inode = state.disk.names.get(path)?;
        Some(state.disk.inodes.get(inode)?.content.clone())
    }

    /// Replaces the content of a file, durably: how a test plants damage. Creates the file if
    /// there is none.
    pub fn plant(&self, path: &Path, content: Vec<u8>) {
        let mut state = self.state.lock();
        let inode = match state.disk.find(path) {
            Ok(inode) => inode,
            Err(_) => match state.disk.create(path) {
                Ok(inode) => inode,
                Err(_) => return,
            },
        };
        if let Some(parent) = path.parent() {
            state.disk.sync_dir(parent);
        }
        if let Some(file) = state.disk.inodes.get_mut(&inode) {
            file.set_len(content.len());
            file.content = content;
            file.sync();
        }
    }

    /// Flips one bit of a file, durably. Returns false if the file has no such byte.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u8) -> bool {
        let mut content = self.content(path).unwrap_or_default();
        let Some(place) = content.get_mut(byte) else { return false };
        *place ^= 1 << (bit & 7);
        self.plant(path, content);
        true
    }
}

impl Vfs for FaultyVfs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.state.lock().serve(None, Call::Name, |state, _| {
            let inode = state.disk.create(path)?;
            Ok(state.handle(&self.state, inode))
        })
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
        self.state.lock().serve(None, Call::Read, |state, _| {
            let inode = state.disk.find(path)?;
            Ok(state.handle(&self.state, inode))
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state.lock().serve(None, Call::Name, |state, _| state.disk.remove(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.lock().serve(None, Call::Name, |state, _| state.disk.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.lock().serve(None, Call::Name, |state, _| match state.links {
            true => state.disk.hard_link(from, to),
            false => Err(io::ErrorKind::CrossesDevices.into()),
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.state.lock().serve(None, Call::Read, |state, _| {
            let inside = state.disk.names.keys().filter(|path| path.parent() == Some(dir));
            Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
        })
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.state.lock().serve(None, Call::Name, |state, _| {
            state.disk.create_dir(dir);
            Ok(())
        })
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.state.lock().serve(None, Call::Name, |state, _| state.disk.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.state.lock().serve(None, Call::DirSync, |state, _| {
            state.disk.sync_dir(dir);
            Ok(())
        })
    }

    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        // The guard is made outside the call: dropping one takes the lock on the state.
        let life = self.state.lock().serve(None, Call::Read, |state, _| {
            if !state.locks.insert(dir.to_path_buf()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(state.life)
        })?;
        Ok(Box::new(FaultyLock { state: Arc::clone(&self.state), dir: dir.to_path_buf(), life }))
    }
}

impl DirLock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.life == self.life {
            state.locks.remove(&self.dir);
        }
    }
}

impl FaultyFile {
    fn serve<T>(
        &self,
        call: Call,
        act: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.state.lock().serve(Some(self.life), call, act)
    }
}

impl VfsFile for FaultyFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.serve(Call::Write(data.len()), |state, fault| {
            state.write(self.inode, offset, data, fault)
        })
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.serve(Call::Read, |state, _| {
            let file = state.disk.inodes.get(&self.inode).ok_or_else(eio)?;
            Ok(read_from(&file.content, offset, buf))
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.serve(Call::Sync, |state, fault| {
            let file = state.disk.inodes.get_mut(&self.inode).ok_or_else(eio)?;
            if let Some(fault) = fault {
                file.sync_failed(&mut state.rng);
                return Err(match fault {
                    Fault::Eio => eio(),
                    Fault::Full => io::ErrorKind::StorageFull.into(),
                });
            }
            file.sync();
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.serve(Call::Read, |state, _| {
            let file = state.disk.inodes.get(&self.inode).ok_or_else(eio)?;
            Ok(file.content.len() as u64)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.serve(Call::Cut, |state, _| {
            let file = state.disk.inodes.get_mut(&self.inode).ok_or_else(eio)?;
            file.set_len(len);
            Ok(())
        })
    }
}

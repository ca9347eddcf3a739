//! Opening: what a directory holds after whatever happened to it.
//!
//! Decides what is believed, what is reported and what makes the engine refuse to open. Nothing of
//! the old state is changed before the new manifest is in force, except that torn tails are cut.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use super::compacting::Compacting;
use super::core::{Commit, Core, Counters, Phase, View};
use super::logs::Logs;
use super::pace::Pace;
use super::room::Room;
use crate::storage::batch::{SealedBatch, Seqno};
use crate::storage::blob::{BlobFile, BlobMeta};
use crate::storage::cache::BlockCache;
use crate::storage::compaction::{LevelsView, debt};
use crate::storage::error::Error;
use crate::storage::files::{CURRENT, FileKind, FileNo, LOST, blob_path, table_path, wal_path};
use crate::storage::levels::Levels;
use crate::storage::manifest::{self, Manifest, Sealed, State};
use crate::storage::memtable::{ChunkPool, Memtable};
use crate::storage::options::Options;
use crate::storage::sstable::{Table, TableMeta};
use crate::storage::vfs::{DirLock, Vfs, VfsFile};
use crate::storage::wal::{LogWriter, Replayed, Scan, Spare, refuse_unknown_logs, replay};

/// A stretch of the log that was on disk once and cannot be read any more. The batches around it
/// have been applied; those inside it are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptRegion {
    /// The log segment.
    pub file: PathBuf,
    /// Offset of the first bad byte.
    pub start: u64,
    /// Offset after the last bad byte.
    pub end: u64,
}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The directory was empty and a new store was made in it.
    pub created: bool,
    /// Batches taken from the log.
    pub batches: u64,
    /// The last batch there is.
    pub last: Seqno,
    /// All batches up to this one are in tables: what came later is in the log.
    pub flushed: Seqno,
    /// Bytes of torn writes that were cut off the log's end. None of them was promised to be on
    /// disk, so this is what a crash normally leaves.
    pub torn_bytes: u64,
    /// Damage in the log. When this is not empty, acknowledged batches may be missing: the caller
    /// must treat what it stores as incomplete. It is reported again at each open until the
    /// batches around it are flushed, so a caller that has durably noted it calls `flush`.
    pub corrupt: Vec<CorruptRegion>,
    /// Tables whose footer, index or filter does not check, as far as opening reads them: of tables for
    /// which `Options::block_cache_bytes` has no room, the footer. Every read that meets their range of
    /// keys fails with `Corrupt`, unless memory or a newer table answers it; other keys are not
    /// touched by it. And blob files that have not the length they should have: values that
    /// are still in them can be read.
    pub unreadable: Vec<PathBuf>,
}

struct Recovering<'a> {
    vfs: &'a dyn Vfs,
    dir: &'a Path,
    state: State,
    /// Newest last.
    memtables: Vec<Arc<Memtable>>,
    /// What memtables are made of, and their size.
    pool: (Arc<ChunkPool>, usize),
    recovery: Recovery,
}

/// Makes the directory, if it is not there, and locks it.
fn enter(vfs: &dyn Vfs, dir: &Path) -> Result<Box<dyn DirLock>, Error> {
    vfs.create_dir(dir).map_err(|error| Error::io("create", dir, error))?;
    if let Some(parent) = dir.parent() {
        vfs.sync_dir(parent).map_err(|error| Error::io("sync", parent, error))?;
    }
    vfs.lock_dir(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked { dir: dir.to_path_buf() },
        _ => Error::io("lock", dir, error),
    })
}

pub(super) fn open(
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    options: Options,
) -> Result<(Core, Recovery), Error> {
    let lock = enter(&*vfs, dir)?;
    let names = vfs.list(dir).map_err(|error| Error::io("list", dir, error))?;
    let state = manifest::read(&*vfs, dir, &names)?;
    if state.is_none() {
        sync_parents(&*vfs, dir)?;
    }
    let recovery = Recovery { created: state.is_none(), ..Recovery::default() };
    let state = state.unwrap_or_default();
    let chunks = Arc::new(ChunkPool::new(options.memtable_bytes));
    let memtables = vec![Arc::new(Memtable::new(&chunks))];
    let pool = (Arc::clone(&chunks), options.memtable_bytes);
    let mut recovering = Recovering { vfs: &*vfs, dir, state, memtables, pool, recovery };
    refuse_unknown_logs(&*vfs, dir, &recovering.state.logs, &names)?;
    recovering.skip_numbers(&names);
    let cache = Arc::new(BlockCache::new(options.block_cache_bytes, options.block_bytes));
    let levels = recovering.open_tables(&cache)?;
    recovering.recovery.unreadable = unreadable(&levels)?;
    recovering.replay_logs(&names)?;
    let Recovering { state, mut memtables, mut recovery, .. } = recovering;
    let replayed = memtables.iter().map(|memtable| memtable.last()).max().unwrap_or_default();
    let (manifest, log) = begin(&vfs, dir, state, recovery.created)?;
    let manifest = manifest.rolling_from(options.manifest_bytes);
    sweep(&*vfs, dir, &names, &manifest)?;
    let flushed = manifest.state.flushed;
    (recovery.last, recovery.flushed) = (flushed.max(replayed).max(levels.last()), flushed);
    let commit = commit_at((recovery.last, flushed), options.holds_flushes);
    let levels = Arc::new(levels);
    let debt = debt(&LevelsView::of(&levels, None), &options);
    let active = memtables.pop().expect("there is one at least");
    memtables.reverse();
    let view = View { active, sealed: memtables, levels };
    let core = Core {
        vfs,
        dir: dir.to_path_buf(),
        options,
        view: ArcSwap::from_pointee(view),
        cache,
        chunks,
        visible: AtomicU64::new(recovery.last.0),
        // What was replayed is on disk, or has been written there once more.
        settled: AtomicU64::new(recovery.last.0),
        commit: Mutex::new(commit),
        manifest: Mutex::new(manifest),
        log: Mutex::new(Logs::new(log)),
        spares: Mutex::default(),
        syncing: Mutex::new(()),
        calling: AtomicBool::new(false),
        flushing: Mutex::new(()),
        merges: Mutex::default(),
        picking: Mutex::new(()),
        debt: AtomicU64::new(debt),
        room: Room::default(),
        room_wake: Condvar::new(),
        slow_wake: Condvar::new(),
        log_wake: Condvar::new(),
        upkeep_wake: Condvar::new(),
        flush_wake: Condvar::new(),
        flush_done: Condvar::new(),
        compact_wake: Condvar::new(),
        compact_done: Condvar::new(),
        pace: Pace::default(),
        pace_wake: Condvar::new(),
        tick_wake: Condvar::new(),
        counters: Counters::default(),
        undone: Arc::default(),
        hook: OnceLock::new(),
        lock: Mutex::new(Some(lock)),
        closed: AtomicBool::new(false),
    };
    Ok((core, recovery))
}

/// The books of an engine that has just been opened.
fn commit_at((last, flushed): (Seqno, Seqno), holds_flushes: bool) -> Commit {
    Commit {
        last,
        queue: VecDeque::new(),
        waiting_bytes: 0,
        resolved: last,
        flushed,
        unsynced: false,
        full: false,
        sync_due: false,
        phase: Phase::Running,
        latched: None,
        holds_flushes,
        flush_blocked: None,
        upkeep_due: false,
        upkeep_blocked: false,
        old_logs: Vec::new(),
        compacting: Compacting::at_open(),
    }
}

/// Makes the names of all directories above a new store, or a copy, durable: `create_dir` may have
/// made them, now or in an attempt that was cut short. One that we may not even read is not one we made.
pub(super) fn sync_parents(vfs: &dyn Vfs, dir: &Path) -> Result<(), Error> {
    for parent in dir.ancestors().skip(2) {
        match vfs.sync_dir(parent) {
            Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
                return Err(Error::io("sync", parent, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Opens all blob files that a manifest names.
fn open_blobs(
    (vfs, dir): (&dyn Vfs, &Path),
    state: &State,
    cache: &Arc<BlockCache>,
) -> Result<BTreeMap<FileNo, Arc<BlobFile>>, Error> {
    let open = |(no, (meta, _)): (&FileNo, &(BlobMeta, usize))| {
        let blob = BlobFile::open(vfs, blob_path(dir, *no), meta, Arc::clone(cache))?;
        Ok((*no, Arc::new(blob)))
    };
    state.blobs.iter().map(open).collect()
}

/// Those that a table refers to, by slot; `None` if one is not there.
pub(in crate::storage) fn blobs_of(
    table: &TableMeta,
    blobs: &BTreeMap<FileNo, Arc<BlobFile>>,
) -> Option<Vec<Arc<BlobFile>>> {
    table.blobs.iter().map(|one| blobs.get(&one.file).cloned()).collect()
}

/// The files that cannot be read as a whole.
fn unreadable(levels: &Levels) -> Result<Vec<PathBuf>, Error> {
    let broken = levels.all().filter(|(_, table)| table.usable().is_err());
    let mut found: Vec<_> = broken.map(|(_, table)| table.path().to_path_buf()).collect();
    for blob in levels.blobs().values() {
        if !blob.file.is_whole()? {
            found.push(blob.file.path().to_path_buf());
        }
    }
    Ok(found)
}

impl Recovering<'_> {
    /// No file that is there, known or not, may be made again.
    fn skip_numbers(&mut self, names: &[String]) {
        for no in names.iter().filter_map(|name| FileKind::of(name).number()) {
            let after = no.checked_add(1).unwrap_or(no);
            self.state.next_file = self.state.next_file.max(after);
        }
    }

    fn open_tables(&self, cache: &Arc<BlockCache>) -> Result<Levels, Error> {
        let blobs = open_blobs((self.vfs, self.dir), &self.state, cache)?;
        let open = |meta: &TableMeta| {
            let path = table_path(self.dir, meta.no);
            let files = blobs_of(meta, &blobs).ok_or_else(|| {
                let what = "a table refers to a blob file that is not named";
                Error::corrupt(&self.dir.join(CURRENT), 0, what)
            })?;
            let table = Table::open(self.vfs, path, (meta.clone(), files), Arc::clone(cache))?;
            Ok((usize::from(meta.level), Arc::new(table)))
        };
        // The upper levels first: their indexes and filters are asked most.
        let mut metas: Vec<&TableMeta> = self.state.tables.values().collect();
        metas.sort_by_key(|meta| meta.level);
        let tables: Result<Vec<_>, Error> = metas.into_iter().map(open).collect();
        let levels = Levels::new(tables?, &self.state.deleted);
        match levels.broken() {
            Some(what) => Err(Error::corrupt(&self.dir.join(CURRENT), 0, what)),
            None => Ok(levels),
        }
    }

    fn replay_logs(&mut self, names: &[String]) -> Result<(), Error> {
        self.report_lost(names);
        let (flushed, recovery) = (self.state.flushed, &mut self.recovery);
        let (memtables, (chunks, bytes)) = (&mut self.memtables, &self.pool);
        let mut last = flushed;
        let mut apply = |seqno: Seqno, batch: SealedBatch| {
            if seqno > last {
                // As many as there were: each is flushed by itself.
                if memtables.last().is_none_or(|memtable| memtable.bytes() >= *bytes) {
                    memtables.push(Arc::new(Memtable::new(chunks)));
                }
                let memtable = memtables.last().expect("there is one now");
                memtable.insert(&batch, seqno);
                last = seqno;
                recovery.batches += 1;
            }
            Ok(())
        };
        let replayed = replay(self.vfs, self.dir, &self.state.logs, flushed, &mut apply)?;
        // Those that hold nothing, or follow a part that is missing, are forgotten.
        self.state.logs.clear();
        for log in replayed {
            let sealed = match log.sealed {
                Some(sealed) => sealed,
                None => self.cut_tail(&log)?,
            };
            self.state.logs.insert(log.no, Some(sealed));
            self.report(&log.path, &log.scan, log.sealed);
        }
        Ok(())
    }

    /// Removes what a crash left half-written, durably, so that the next recovery, which will find
    /// a successor of this segment, does not take it for damage. What is kept above the promises is
    /// written once more: if a sync of it has failed since the machine started, the kernel shows it
    /// from memory, calls it clean and would never write it by itself.
    fn cut_tail(&mut self, log: &Replayed) -> Result<Sealed, Error> {
        let Replayed { path, scan, .. } = log;
        self.recovery.torn_bytes += scan.torn;
        let file = self.vfs.open(path).map_err(|error| Error::io("open", path, error))?;
        let cut = file
            .set_len(scan.end)
            .and_then(|()| match crate::mutant!("storage-trust-unsynced-tail") {
                true => Ok(()),
                false => rewrite(&*file, scan.promised, scan.end),
            })
            .and_then(|()| file.sync_data());
        cut.map_err(|error| Error::io("cut", path, error))?;
        Ok(Sealed { bytes: scan.end, last: scan.last })
    }

    /// A part of the log was missing, and an empty file is in its place.
    fn report_lost(&mut self, names: &[String]) {
        if names.iter().any(|name| name == LOST) {
            let region = CorruptRegion { file: self.dir.join(LOST), start: 0, end: 0 };
            self.recovery.corrupt.push(region);
        }
    }

    fn report(&mut self, path: &Path, scan: &Scan, sealed: Option<Sealed>) {
        let flushed = self.state.flushed;
        for damage in &scan.damage {
            // What was flushed before is in the tables, whatever happened to the log.
            let covered = match (damage.next, sealed) {
                (Some(next), _) => next.0 <= flushed.0 + 1,
                (None, Some(sealed)) => sealed.last <= flushed,
                (None, None) => false,
            };
            if !covered {
                let (start, end) = (damage.start, damage.end);
                self.recovery.corrupt.push(CorruptRegion { file: path.to_path_buf(), start, end });
            }
        }
    }
}

/// How much of a file is in memory while it is written again.
const REWRITE_BYTES: usize = 1 << 20;

/// Writes what a file holds from `start` to `end` to where it is.
fn rewrite(file: &dyn VfsFile, mut start: u64, end: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; REWRITE_BYTES];
    while start < end {
        let rest = usize::try_from(end - start).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..rest).unwrap_or_default();
        let read = file.read_at(start, part)?;
        if read == 0 {
            return Ok(());
        }
        file.write_at(start, part.get(..read).unwrap_or_default())?;
        start += read as u64;
    }
    Ok(())
}

/// Begins a new log segment and a new manifest that names it.
fn begin(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    mut state: State,
    created: bool,
) -> Result<(Manifest, LogWriter), Error> {
    // Segments without a batch that is not in a table are not worth keeping.
    for no in state.logs_covered_by(state.flushed) {
        state.logs.remove(&no);
    }
    let no = state.take_number()?;
    let path = wal_path(dir, no);
    if created {
        // The first start: a log without CURRENT would look like a store that has lost it.
        Manifest::create(Arc::clone(vfs), dir, state.clone())?;
        state.take_number()?;
    }
    let file = vfs.create(&path).map_err(|error| Error::io("create", &path, error))?;
    if !crate::mutant!("storage-no-dir-sync") {
        vfs.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))?;
    }
    state.logs.insert(no, None);
    let manifest = Manifest::create(Arc::clone(vfs), dir, state)?;
    Ok((manifest, LogWriter::first(Spare { no, file, path, made: 0 })))
}

/// Removes what the manifest in force does not name.
fn sweep(vfs: &dyn Vfs, dir: &Path, names: &[String], manifest: &Manifest) -> Result<(), Error> {
    for name in names {
        let keep = match FileKind::of(name) {
            FileKind::Wal(no) => manifest.state.logs.contains_key(&no),
            FileKind::Table(no) => manifest.state.tables.contains_key(&no),
            FileKind::Blob(no) => manifest.state.blobs.contains_key(&no),
            FileKind::Manifest(no) => no == manifest.no(),
            // The rename took it away, or a file of this name is nobody's.
            FileKind::NextCurrent | FileKind::Other => true,
        };
        if !keep {
            let path = dir.join(name);
            vfs.remove(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
    }
    Ok(())
}

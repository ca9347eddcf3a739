//! Whole units as files: a source writes one out as tables of the engine and gives them chunk by chunk; a
//! target puts the chunks together beside its store and takes the files in. Both in directories under
//! the store's own, of a fixed number, so that what a crash leaves behind is found.
//! `docs/protocol/transfer.md`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::execute::submit;
use super::keyspace::{DATA, unit_prefix};
use super::{Done, Shared, copy, disk_error, restore, sweep};
use crate::message::{
    CopyChunk, CopyContent, CopyFile, CopyPage, CopyWhat, DiskAnswer, DiskError, FillRecord,
    MetaRecord, UnitDone,
};
use crate::storage::vfs::Vfs;
use crate::storage::{Durability, KeyRange};
use crate::types::{ClusterState, Epoch, NodeId, Unit, limits};

/// Units that are given as files at once.
const EXPORTS_MAX: usize = 4;
/// Units that are taken as files at once.
const STAGES_MAX: usize = limits::FILLS_UNDER_WAY_MAX;

/// What is given as files.
#[derive(Debug, Default)]
pub(super) struct Exports(Mutex<Given>);

type Given = BTreeMap<(Unit, NodeId), Export>;

#[derive(Clone, Debug)]
struct Export {
    /// The target's.
    entry: Epoch,
    slot: usize,
    /// `None` while they are being written.
    files: Option<Vec<CopyFile>>,
    is_wanted: bool,
}

/// What is taken as files: units by slot.
#[derive(Debug, Default)]
pub(super) struct Stages(Mutex<BTreeMap<Unit, usize>>);

fn export_dir(shared: &Shared, slot: usize) -> PathBuf {
    shared.dir.join(format!("given-{slot}"))
}

fn stage_dir(shared: &Shared, slot: usize) -> PathBuf {
    shared.dir.join(format!("taken-{slot}"))
}

/// Removes the files of a directory, which may not be there.
pub(super) fn clear(vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let names = match vfs.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in names {
        vfs.remove(&dir.join(name))?;
    }
    Ok(())
}

/// Removes what an earlier boot has left.
pub(super) fn clear_all(shared: &Shared) {
    let given = (0..EXPORTS_MAX).map(|slot| export_dir(shared, slot));
    for dir in given.chain((0..STAGES_MAX).map(|slot| stage_dir(shared, slot))) {
        // What cannot be removed now takes room until it can.
        let _left = clear(&*shared.vfs, &dir);
    }
}

fn io_error(what: &str, error: &io::Error) -> DiskError {
    match error.kind() {
        io::ErrorKind::StorageFull => DiskError::Full,
        _ => DiskError::Io(format!("{what} of a unit: {error}")),
    }
}

fn free_slot(taken: impl Iterator<Item = usize>, count: usize) -> Option<usize> {
    let taken: Vec<usize> = taken.collect();
    (0..count).find(|slot| !taken.contains(slot))
}

impl Exports {
    /// The files are not wanted any more.
    pub(super) fn end(&self, shared: &Shared, unit: Unit, to: NodeId) {
        let mut exports = self.0.lock();
        match exports.get_mut(&(unit, to)) {
            Some(export) if export.files.is_none() => export.is_wanted = false,
            Some(_) => self.remove(shared, &mut exports, (unit, to)),
            None => {}
        }
    }

    fn remove(&self, shared: &Shared, exports: &mut Given, key: (Unit, NodeId)) {
        if let Some(export) = exports.remove(&key) {
            let _left = clear(&*shared.vfs, &export_dir(shared, export.slot));
        }
    }
}

/// Runs what may take minutes on a thread of its own, or here where nothing runs by itself.
pub(super) fn run_apart(
    shared: &Arc<Shared>,
    name: &str,
    done: Done,
    run: impl FnOnce(&Shared, Done) + Send + 'static,
) {
    if shared.inline {
        return run(shared, done);
    }
    let (own, slot) = (Arc::clone(shared), Arc::new(Mutex::new(Some(done))));
    let handed = Arc::clone(&slot);
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        super::give_way();
        let done = handed.lock().take();
        if let Some(done) = done {
            run(&own, done);
            own.engine.wake_log();
        }
    });
    if thread.is_err()
        && let Some(done) = slot.lock().take()
    {
        done(Err(DiskError::Overloaded));
    }
}

/// Writes a unit out as files for a target, or tells which there are; a small one is given as records,
/// and so is one that cannot be written out.
pub(super) fn export(shared: &Arc<Shared>, unit: Unit, to: (NodeId, Epoch), done: Done) {
    match copy::is_small(shared, unit) {
        Ok(true) => return copy::page(shared, unit, CopyWhat::All(None), done),
        Ok(false) => {}
        Err(error) => return done(Err(error)),
    }
    let slot = match claim(shared, unit, to) {
        Claim::Ready(files) => return done(Ok(answer(CopyContent::Files(files)))),
        // Asked again later.
        Claim::Wait => return done(Err(DiskError::Overloaded)),
        Claim::Write(slot) => slot,
    };
    run_apart(shared, "kvd-export", done, move |shared, done| {
        let written = write_out(shared, unit, slot);
        let (key, mut exports) = ((unit, to.0), shared.exports.0.lock());
        let export = exports.get_mut(&key).filter(|export| export.is_wanted);
        match (export, written) {
            (Some(export), Ok(files)) => {
                crate::sometimes!("replica: a unit is written out as files");
                export.files = Some(files.clone());
                drop(exports);
                done(Ok(answer(CopyContent::Files(files))));
            }
            (_, written) => {
                shared.exports.remove(shared, &mut exports, key);
                drop(exports);
                match written {
                    Ok(_) => done(Err(DiskError::Overloaded)),
                    Err(_) => copy::page(shared, unit, CopyWhat::All(None), done),
                }
            }
        }
    });
}

enum Claim {
    Ready(Vec<CopyFile>),
    Wait,
    Write(usize),
}

fn claim(shared: &Shared, unit: Unit, (to, entry): (NodeId, Epoch)) -> Claim {
    let mut exports = shared.exports.0.lock();
    let known = exports.get(&(unit, to)).cloned();
    match known {
        Some(Export { files: None, .. }) => return Claim::Wait,
        Some(Export { entry: of, files: Some(files), .. }) if of == entry => {
            return Claim::Ready(files);
        }
        Some(_) => shared.exports.remove(shared, &mut exports, (unit, to)),
        None => {}
    }
    let taken = exports.values().map(|export| export.slot);
    let Some(slot) = free_slot(taken, EXPORTS_MAX) else { return Claim::Wait };
    exports.insert((unit, to), Export { entry, slot, files: None, is_wanted: true });
    Claim::Write(slot)
}

fn write_out(shared: &Shared, unit: Unit, slot: usize) -> Result<Vec<CopyFile>, DiskError> {
    let dir = export_dir(shared, slot);
    clear(&*shared.vfs, &dir).map_err(|error| io_error("files", &error))?;
    let range = KeyRange::prefix(&unit_prefix(DATA, unit));
    let export = shared.engine.export_to_pass(&range, &dir).map_err(|error| disk_error(&error))?;
    let tables = export.files.into_iter().map(|file| (file.name, file.bytes));
    let blobs = export.blobs.into_iter().map(|blob| (blob.name, blob.bytes));
    let files: Vec<CopyFile> =
        tables.chain(blobs).map(|(name, bytes)| CopyFile { name, bytes }).collect();
    let is_known = |file: &CopyFile| CopyFile::is_name(&file.name);
    if files.len() > limits::COPY_FILES_MAX || !files.iter().all(is_known) {
        return Err(DiskError::Io("files of a unit that cannot be given".to_owned()));
    }
    Ok(files)
}

fn answer(content: CopyContent) -> DiskAnswer {
    DiskAnswer::Unit(UnitDone::Page(CopyPage { content, next: None }))
}

/// Reads a chunk of a file.
pub(super) fn chunk(
    shared: &Shared,
    unit: Unit,
    (to, entry): (NodeId, Epoch),
    (name, offset): (&str, u64),
) -> Result<UnitDone, DiskError> {
    let gone = || DiskError::Corruption("files of a unit that are not there any more".to_owned());
    let export = shared.exports.0.lock().get(&(unit, to)).cloned();
    let export = export.filter(|export| export.entry == entry).ok_or_else(gone)?;
    let mut files = export.files.iter().flatten();
    let file = files.find(|file| file.name == name && offset < file.bytes).ok_or_else(gone)?;
    let left = usize::try_from(file.bytes - offset).unwrap_or(usize::MAX);
    let mut bytes = vec![0; left.min(limits::COPY_CHUNK_BYTES)];
    let path = export_dir(shared, export.slot).join(name);
    let read = shared.vfs.open_to_read(&path).and_then(|file| file.read_at(offset, &mut bytes));
    let read = read.map_err(|error| io_error("reading files", &error))?;
    bytes.truncate(read);
    let sum = xxh3_64(&bytes);
    let chunk = CopyChunk { bytes: Bytes::from(bytes), sum };
    let content = CopyContent::Chunk(chunk);
    Ok(UnitDone::Page(CopyPage { content, next: None }))
}

impl Stages {
    fn slot(&self, unit: Unit) -> Result<usize, DiskError> {
        let mut stages = self.0.lock();
        if let Some(slot) = stages.get(&unit) {
            return Ok(*slot);
        }
        let slot = free_slot(stages.values().copied(), STAGES_MAX).ok_or(DiskError::Overloaded)?;
        stages.insert(unit, slot);
        Ok(slot)
    }

    /// What was staged of a unit is not wanted any more.
    pub(super) fn free(&self, shared: &Shared, unit: Unit) {
        if let Some(slot) = self.0.lock().remove(&unit) {
            let _left = clear(&*shared.vfs, &stage_dir(shared, slot));
        }
    }
}

/// Puts a chunk where it belongs.
pub(super) fn stage(
    shared: &Shared,
    unit: Unit,
    (name, offset): (&str, u64),
    chunk: &CopyChunk,
) -> Result<UnitDone, DiskError> {
    if xxh3_64(&chunk.bytes) != chunk.sum {
        return Err(DiskError::Corruption("a chunk of a file was damaged on its way".to_owned()));
    }
    let dir = stage_dir(shared, shared.stages.slot(unit)?);
    let path = dir.join(name);
    let file = match shared.vfs.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            shared.vfs.create_dir(&dir).and_then(|()| shared.vfs.create(&path))
        }
        opened => opened,
    };
    let written = file.and_then(|file| {
        file.write_at(offset, &chunk.bytes)?;
        file.written_for_good(offset, chunk.bytes.len() as u64);
        Ok(())
    });
    written.map(|()| UnitDone::Merged).map_err(|error| io_error("staged files", &error))
}

/// Takes staged files into the range, of which all else is deleted; without files it stays as it is. The record that says so comes after
/// them: after a crash in between they are taken in once more, into a range that is emptied before.
pub(super) fn take_in(
    shared: &Arc<Shared>,
    (unit, files): (Unit, Option<Vec<CopyFile>>),
    record: FillRecord,
    state: Arc<ClusterState>,
    done: Done,
) {
    run_apart(shared, "kvd-ingest", done, move |shared, done| {
        // What stays as it is, is counted already.
        let mut untold = files.is_some().then(|| shared.trees.untold(unit, unit));
        let taken = files.as_ref().map_or(Ok(()), |files| {
            let taken = take(shared, unit, files);
            // Whatever is there now was told to nobody.
            shared.trees.doubt(unit);
            taken
        });
        if let Err(error) = taken {
            return done(Err(error));
        }
        // What is left of dropped tables must not come back behind the sweep.
        let batch = sweep::dropped_in(shared, &state, unit).and_then(|mut batch| {
            if !batch.is_empty() {
                untold.get_or_insert_with(|| shared.trees.untold(unit, unit));
            }
            let put = restore::put(&mut batch, &MetaRecord::Fill(unit, record.clone()));
            put.map(|()| batch).map_err(|error| DiskError::Io(error.to_string()))
        });
        match batch {
            Ok(batch) => {
                crate::sometimes!("replica: files are taken in");
                shared.overlays.set(unit, Some(&record));
                shared.floors.refilled(unit);
                shared.stages.free(shared, unit);
                let answer = DiskAnswer::Unit(UnitDone::Merged);
                submit(shared, batch, Durability::Synced, answer, done);
                // Of dropped tables nothing is there any more.
                drop(untold);
            }
            Err(error) => done(Err(error)),
        }
    });
}

fn take(shared: &Shared, unit: Unit, files: &[CopyFile]) -> Result<(), DiskError> {
    let range = KeyRange::prefix(&unit_prefix(DATA, unit));
    if files.is_empty() {
        return clear_range(shared, &range);
    }
    let dir = stage_dir(shared, shared.stages.slot(unit)?);
    let paths: Vec<PathBuf> = files.iter().map(|file| dir.join(&file.name)).collect();
    for (file, path) in files.iter().zip(&paths) {
        let size = shared.vfs.open_to_read(path).and_then(|file| file.size());
        let size = size.map_err(|error| io_error("staged files", &error))?;
        if size != file.bytes {
            let what = format!("a staged file has {size} bytes instead of {}", file.bytes);
            return Err(DiskError::Corruption(what));
        }
    }
    clear_range(shared, &range)?;
    shared.engine.ingest(&paths).map(drop).map_err(|error| disk_error(&error))
}

fn clear_range(shared: &Shared, range: &KeyRange) -> Result<(), DiskError> {
    if super::unit::holds(&shared.engine.snapshot(), range)? {
        shared.engine.delete_range(range).map_err(|error| disk_error(&error))?;
    }
    Ok(())
}

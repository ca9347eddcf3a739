//! The manifest: which files the engine consists of, as an append-only log of edits.
//!
//! [`edit`] decides the bytes and what an edit means, this file when they are on disk. Format:
//! `docs/format/manifest.md`. `CURRENT` names the manifest in force and is replaced by rename and
//! directory sync, as in LevelDB. A new manifest is written at every open, so that nothing is ever
//! appended after a torn edit.

mod edit;

pub(crate) use edit::{Edit, Sealed, State};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::coding::{Reader, checksum_holds, length_u32, placed_checksum};
use super::error::Error;
use super::files::{CURRENT, CURRENT_NEXT, FileKind, FileNo, manifest_name};
use super::options::MANIFEST_BYTES_DEFAULT;
use super::vfs::{Vfs, VfsFile, read_all};

const ENVELOPE_BYTES: usize = 12;
/// Longest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

fn frame(no: FileNo, offset: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENVELOPE_BYTES + body.len());
    out.extend_from_slice(&length_u32(body.len()).to_le_bytes());
    out.extend_from_slice(&placed_checksum(body, u64::from(no), offset).to_le_bytes());
    out.extend_from_slice(body);
    out
}

fn unframe<'a>(no: FileNo, offset: u64, reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(reader.u32()?).ok()?;
    let sum = reader.u64()?;
    let body = reader.bytes(length)?;
    checksum_holds(body, u64::from(no), offset, sum).then_some(body)
}

/// Reads the manifest that `CURRENT` names; `None` in a directory that has never been in use.
///
/// # Errors
/// `Corrupt` when what is there cannot be believed, `Missing`, `Version`, or what the file system
/// says.
pub(crate) fn read(vfs: &dyn Vfs, dir: &Path, names: &[String]) -> Result<Option<State>, Error> {
    let current = dir.join(CURRENT);
    if !names.iter().any(|name| name == CURRENT) {
        let data = |name: &&String| {
            matches!(FileKind::of(name), FileKind::Wal(_) | FileKind::Table(_) | FileKind::Blob(_))
        };
        // The first start writes CURRENT before any data, so these are not its remains.
        return match names.iter().find(data) {
            Some(_) => Err(Error::Missing { file: current }),
            None => Ok(None),
        };
    }
    let content = load(vfs, &current, 1 << 10)?;
    let no = parse_current(&content)
        .ok_or_else(|| Error::corrupt(&current, 0, "it does not name a manifest"))?;
    let path = dir.join(manifest_name(no));
    let content = load(vfs, &path, MANIFEST_BYTES_MAX)?;
    let mut reader = Reader::new(&content);
    let mut state = State::default();
    let mut offset = 0u64;
    while let Some(body) = unframe(no, offset, &mut reader) {
        let edit = Edit::decode(body, &path)?
            .ok_or_else(|| Error::corrupt(&path, offset, "edit cannot be decoded"))?;
        state.apply(&edit);
        offset = (content.len() - reader.remaining()) as u64;
    }
    // The first edit was synced before CURRENT named the file. Later ones may be torn: whatever
    // depends on an edit is done after its sync, and `engine::open` looks for signs of such doings.
    if offset == 0 {
        return Err(Error::corrupt(&path, 0, "first edit does not check"));
    }
    if has_frame_after(no, offset, &content) {
        return Err(Error::corrupt(&path, offset, "edit does not check, but a later one does"));
    }
    Ok(Some(state))
}

/// Each edit is synced before the next is written, so a good one after a bad one means damage.
fn has_frame_after(no: FileNo, bad: u64, content: &[u8]) -> bool {
    let offsets = (bad..).take_while(|offset| *offset < content.len() as u64).skip(1);
    offsets.into_iter().any(|offset| {
        let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..));
        // Every edit begins with the format and ends with a zero: asked first, this keeps a search
        // at every byte from hashing the rest of the file at every byte.
        let looks_like_one = rest.is_some_and(|rest| {
            let mut reader = Reader::new(rest);
            let length = reader.u32().and_then(|length| usize::try_from(length).ok());
            let body = reader.bytes(8).and_then(|_| reader.bytes(length?));
            body.is_some_and(|body| body.starts_with(&edit::FORMAT_BYTES) && body.ends_with(&[0]))
        });
        looks_like_one
            && rest.is_some_and(|rest| unframe(no, offset, &mut Reader::new(rest)).is_some())
    })
}

fn load(vfs: &dyn Vfs, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let file = match vfs.open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::Missing { file: path.to_path_buf() });
        }
        Err(error) => return Err(Error::io("open", path, error)),
    };
    read_all(&*file, limit).map_err(|source| Error::io("read", path, source))
}

fn current_content(no: FileNo) -> String {
    let name = manifest_name(no);
    format!("{name} {:016x}\n", placed_checksum(name.as_bytes(), 0, 0))
}

fn parse_current(content: &[u8]) -> Option<FileNo> {
    let text = std::str::from_utf8(content).ok()?;
    let FileKind::Manifest(no) = FileKind::of(text.split(' ').next()?) else { return None };
    (text == current_content(no)).then_some(no)
}

/// The open manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    path: PathBuf,
    no: FileNo,
    file: Arc<dyn VfsFile>,
    end: u64,
    /// Where it is replaced by a new one.
    roll_at: u64,
    /// Least size at which it is replaced.
    roll_bytes: u64,
    /// Why nothing may be appended any more.
    failed: Option<Arc<str>>,
    pub(crate) state: State,
}

impl Manifest {
    /// Writes a new manifest that says `state`, and puts it in force.
    ///
    /// # Errors
    /// What the file system says; the old manifest may or may not be in force then.
    pub(crate) fn create(vfs: Arc<dyn Vfs>, dir: &Path, mut state: State) -> Result<Self, Error> {
        let no = state.take_number()?;
        let path = dir.join(manifest_name(no));
        let file = vfs.create(&path).map_err(|source| Error::io("create", &path, source))?;
        let content = frame(no, 0, &Edit::snapshot(&state).encode());
        let written =
            write_synced(&*file, &path, &content).and_then(|()| put_in_force(&*vfs, dir, no));
        if let Err(error) = written {
            if error.is_full() {
                // Best effort: an orphan is removed at the next open.
                let _orphan = vfs.remove(&path);
            }
            return Err(error);
        }
        let end = content.len() as u64;
        let dir = dir.to_path_buf();
        let (roll_at, roll_bytes, failed) = (0, 0, None);
        let manifest = Self { vfs, dir, path, no, file, end, roll_at, roll_bytes, failed, state };
        Ok(manifest.rolling_from(MANIFEST_BYTES_DEFAULT))
    }

    /// The same, replaced by a new one once it has more than this many bytes, and twice as many as
    /// it began with: the state of a large store must not be written again with every edit.
    pub(crate) fn rolling_from(self, bytes: u64) -> Self {
        Self { roll_bytes: bytes, roll_at: bytes.max(2 * self.end), ..self }
    }

    /// The next edit writes a new manifest: this one does not read as it should.
    pub(crate) fn renew(&mut self) {
        self.roll_at = 0;
    }

    /// Number of the manifest's own file.
    pub(crate) fn no(&self) -> FileNo {
        self.no
    }

    /// Makes an edit durable, then true.
    ///
    /// # Errors
    /// An error for which `Error::is_full` holds: nothing has changed. Any other: whether the edit
    /// is durable is unknown, and all later ones are refused with `ReadOnly`, the file left alone: a
    /// sync after a failed one says nothing, and who comes next may have waited for the manifest and
    /// not have heard of the failure.
    pub(crate) fn append(&mut self, edit: Edit) -> Result<(), Error> {
        if let Some(cause) = &self.failed {
            return Err(Error::ReadOnly { cause: Arc::clone(cause) });
        }
        let appended = self.append_to_sound(edit);
        if let Err(error) = &appended
            && !error.is_full()
            && !crate::mutant!("storage-manifest-after-failed-sync")
        {
            self.failed = Some(error.to_string().into());
        }
        appended
    }

    fn append_to_sound(&mut self, mut edit: Edit) -> Result<(), Error> {
        if self.end > self.roll_at {
            let (old, roll_bytes) = (self.path.clone(), self.roll_bytes);
            let new = Self::create(Arc::clone(&self.vfs), &self.dir, self.state.clone());
            // Spent also if it failed: its file may still be there.
            self.state.take_number()?;
            *self = new?.rolling_from(roll_bytes);
            let _orphan = self.vfs.remove(&old);
        }
        edit.next_file = self.state.next_file;
        let bytes = frame(self.no, self.end, &edit.encode());
        let result = self.file.write_at(self.end, &bytes);
        if let Err(source) = result {
            let error = Error::io("write to", &self.path, source);
            if error.is_full() {
                // What was written of it must not stay in front of the next edit.
                let cut = self.file.set_len(self.end).and_then(|()| self.file.sync_data());
                cut.map_err(|source| Error::io("sync", &self.path, source))?;
            }
            return Err(error);
        }
        if !crate::mutant!("storage-manifest-unsynced") {
            self.file.sync_data().map_err(|source| Error::io("sync", &self.path, source))?;
        }
        self.end += bytes.len() as u64;
        self.state.apply(&edit);
        Ok(())
    }
}

fn write_synced(file: &dyn VfsFile, path: &Path, content: &[u8]) -> Result<(), Error> {
    file.write_at(0, content).map_err(|source| Error::io("write to", path, source))?;
    file.sync_data().map_err(|source| Error::io("sync", path, source))
}

fn put_in_force(vfs: &dyn Vfs, dir: &Path, no: FileNo) -> Result<(), Error> {
    let (next, current) = (dir.join(CURRENT_NEXT), dir.join(CURRENT));
    match vfs.remove(&next) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &next, error));
        }
        _ => {}
    }
    let file = vfs.create(&next).map_err(|source| Error::io("create", &next, source))?;
    if crate::mutant!("storage-current-unsynced") {
        let written = file.write_at(0, current_content(no).as_bytes());
        written.map_err(|source| Error::io("write to", &next, source))?;
    } else {
        write_synced(&*file, &next, current_content(no).as_bytes())?;
    }
    // Named differently from "write to" so that a full disk here is not taken for "nothing
    // happened": after the rename nobody knows which manifest a crash would leave.
    vfs.rename(&next, &current).map_err(|source| Error::io("sync", &current, source))?;
    vfs.sync_dir(dir).map_err(|source| Error::io("sync", dir, source))
}

#[cfg(test)]
mod tests;

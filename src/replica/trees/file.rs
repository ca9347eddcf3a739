//! The file that trees are kept in, a log of what has changed of them: `docs/format/tree.md`.
//!
//! It consists of groups, each of one checkpoint. A group counts when its end is there, and what stands
//! behind the last end is never written over: so bytes of two attempts never mix.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::repair::tree::{SEED, Tree};
use crate::storage::vfs::{Vfs, VfsFile};
use crate::storage::{Recovery, Seqno};
use crate::types::{ClassId, Partition, Unit};

/// The name of the file, and of the next one while it is being written.
pub(super) const NAME: &str = "trees";
pub(super) const NEXT: &str = "trees.next";
const MAGIC: &[u8; 8] = b"rt-trees";
const VERSION: u8 = 2;
/// Magic, version, checksum.
const HEAD_BYTES: usize = 17;
/// Kind, unit, number, length, checksum.
const RECORD_HEAD_BYTES: usize = 25;
/// The longest record that is read, in bytes: a tree of some 50 million leaves.
pub(super) const TREE_BYTES_MAX: usize = 1 << 31;
/// So much is gathered before it is written.
const WRITE_BYTES: usize = 1 << 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A group begins.
    Begin = 1,
    /// A tree, or what has changed of it.
    Tree = 2,
    /// There may be something of a unit, and no tree of it.
    Unknown = 3,
    /// There is nothing of a unit.
    Gone = 4,
    /// A group is whole; some units have no record, and there may be something of them.
    EndSome = 5,
    /// A group is whole; of units without a record there is nothing.
    EndAll = 6,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        use Kind::{Begin, EndAll, EndSome, Gone, Tree, Unknown};
        let all = [Begin, Tree, Unknown, Gone, EndSome, EndAll];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The unit of a record that is of none.
pub(super) const NO_UNIT: Unit = Unit { class: ClassId(0), partition: Partition(0) };

/// What a file says.
#[derive(Debug, Default)]
pub(in crate::replica) struct Taken {
    /// What each unit's tree counted after a batch; without a tree it has to be built.
    pub(super) units: BTreeMap<Unit, (Option<Tree>, Seqno)>,
    /// The batch after which all that is not said was as it had been said before.
    pub(super) number: Seqno,
    /// Of units that are not named there was nothing then.
    pub(super) is_all: bool,
    /// The file to go on in, and where; `None`: a new one is needed.
    pub(super) file: Option<(Arc<dyn VfsFile>, u64)>,
}

fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = xxh3_64(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

/// The bytes before a checksum that holds.
fn checked(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let sum = *bytes.last_chunk::<8>()?;
    bytes.truncate(bytes.len().checked_sub(sum.len())?);
    (xxh3_64(&bytes).to_be_bytes() == sum).then_some(bytes)
}

/// A group on its way into a file.
pub(super) struct Group {
    file: Arc<dyn VfsFile>,
    offset: u64,
    waiting: Vec<u8>,
}

impl Group {
    /// In a new file of this name.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn in_new(vfs: &dyn Vfs, path: &Path, number: Seqno) -> io::Result<Group> {
        match vfs.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let head = [&MAGIC[..], &[VERSION]].concat();
        let file = vfs.create(path)?;
        let mut group = Group { file, offset: 0, waiting: summed(head) };
        group.record(Kind::Begin, NO_UNIT, number, &[]);
        Ok(group)
    }

    /// Behind the others in a file.
    pub(super) fn behind((file, offset): (Arc<dyn VfsFile>, u64), number: Seqno) -> Group {
        let mut group = Group { file, offset, waiting: Vec::new() };
        group.record(Kind::Begin, NO_UNIT, number, &[]);
        group
    }

    /// Adds a record, whose bytes are at most [`TREE_BYTES_MAX`].
    pub(super) fn record(&mut self, kind: Kind, unit: Unit, number: Seqno, bytes: &[u8]) {
        let mut head = vec![kind as u8];
        head.extend_from_slice(&unit.class.0.to_be_bytes());
        head.extend_from_slice(&unit.partition.0.to_be_bytes());
        head.extend_from_slice(&number.0.to_be_bytes());
        let length = u32::try_from(bytes.len()).expect("a record is shorter than 2 GiB");
        head.extend_from_slice(&length.to_be_bytes());
        self.waiting.extend_from_slice(&summed(head));
        self.waiting.extend_from_slice(bytes);
    }

    /// Writes what has been gathered, if it is worth it.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn write_some(&mut self) -> io::Result<()> {
        if self.waiting.len() < WRITE_BYTES { Ok(()) } else { self.write() }
    }

    /// Writes all that has been gathered.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.file.write_at(self.offset, &self.waiting)?;
        self.offset += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Ends the group, durably. Returns the file, and where the next one begins.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn end(mut self, kind: Kind, number: Seqno) -> io::Result<(Arc<dyn VfsFile>, u64)> {
        self.record(kind, NO_UNIT, number, &[]);
        self.write()?;
        self.file.sync_data()?;
        Ok((self.file, self.offset))
    }
}

/// Takes what is on file of a store that was opened like this. What cannot be believed is removed: later batches would get
/// the numbers that it speaks of.
///
/// # Errors
/// It cannot be removed.
pub(in crate::replica) fn take(
    vfs: &dyn Vfs,
    dir: &Path,
    recovery: &Recovery,
) -> io::Result<Taken> {
    let path = dir.join(NAME);
    let mut is_gone = remove(vfs, &dir.join(NEXT))?;
    let taken = match vfs.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened.ok().and_then(|file| read(&file))),
    };
    let taken = match taken.map(|taken| taken.filter(|taken| is_believed(taken, recovery))) {
        Some(None) => {
            is_gone |= remove(vfs, &path)?;
            None
        }
        taken => taken.flatten(),
    };
    if is_gone {
        vfs.sync_dir(dir)?;
    }
    Ok(taken.unwrap_or_default())
}

fn remove(vfs: &dyn Vfs, path: &Path) -> io::Result<bool> {
    match vfs.remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the log has all that came later, and all that is counted is still there.
fn is_believed(taken: &Taken, recovery: &Recovery) -> bool {
    let last = taken.units.values().map(|(_, number)| *number).fold(taken.number, Seqno::max);
    let has_rest = taken.number >= recovery.flushed && last <= recovery.last;
    recovery.corrupt.is_empty() && (has_rest || crate::mutant!("tree-of-another-moment"))
}

/// What a group says of a unit.
enum Said {
    Tree(Vec<u8>, Seqno),
    Unknown,
    Gone,
}

/// Reads all groups that are whole; `None` if there is none.
fn read(file: &Arc<dyn VfsFile>) -> Option<Taken> {
    let size = file.size().ok()?;
    let mut offset = 0;
    let head = checked(bytes_at(file, (&mut offset, size), HEAD_BYTES)?)?;
    if head.strip_prefix(MAGIC)? != [VERSION] {
        return None;
    }
    let (mut taken, mut ended) = (Taken::default(), 0);
    let (mut is_sane, mut group) = (true, Vec::new());
    while let Some((kind, unit, number, bytes)) = next(file, (&mut offset, size)) {
        match kind {
            Kind::Begin => group.clear(),
            Kind::Tree => group.push((unit, Said::Tree(bytes, number))),
            Kind::Unknown => group.push((unit, Said::Unknown)),
            Kind::Gone => group.push((unit, Said::Gone)),
            Kind::EndSome | Kind::EndAll => {
                let said = core::mem::take(&mut group);
                said.into_iter().for_each(|said| is_sane &= apply(&mut taken.units, said));
                (taken.number, taken.is_all) = (number, kind == Kind::EndAll);
                ended = offset;
            }
        }
    }
    let can_go_on = is_sane && ended == size;
    taken.file = can_go_on.then(|| (Arc::clone(file), ended));
    (ended > 0).then_some(taken)
}

/// Returns whether it is what can follow what was said before.
fn apply(units: &mut BTreeMap<Unit, (Option<Tree>, Seqno)>, (unit, said): (Unit, Said)) -> bool {
    match said {
        Said::Gone => {
            units.remove(&unit);
        }
        Said::Unknown => {
            units.insert(unit, (None, Seqno::default()));
        }
        Said::Tree(bytes, number) => {
            let before = units.remove(&unit).and_then(|(tree, _)| tree);
            let tree = Tree::filed(before, &bytes, SEED).ok();
            let is_sane = tree.is_some();
            units.insert(unit, (tree, number));
            return is_sane;
        }
    }
    true
}

fn bytes_at(
    file: &Arc<dyn VfsFile>,
    (offset, size): (&mut u64, u64),
    bytes: usize,
) -> Option<Vec<u8>> {
    if size.checked_sub(*offset)? < bytes as u64 {
        return None;
    }
    let mut buffer = vec![0; bytes];
    let read = file.read_at(*offset, &mut buffer).ok()?;
    *offset += bytes as u64;
    (read == bytes).then_some(buffer)
}

/// The next record; `None` where it does not go on as it should.
fn next(
    file: &Arc<dyn VfsFile>,
    (offset, size): (&mut u64, u64),
) -> Option<(Kind, Unit, Seqno, Vec<u8>)> {
    let head = checked(bytes_at(file, (offset, size), RECORD_HEAD_BYTES)?)?;
    let (&[kind, c0, c1, p0, p1], rest) = head.split_first_chunk::<5>()?;
    let (&number, length) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_be_bytes(*length.first_chunk()?)).ok()?;
    let class = ClassId(u16::from_be_bytes([c0, c1]));
    let unit = Unit { class, partition: Partition(u16::from_be_bytes([p0, p1])) };
    let bytes = match length {
        0 => Vec::new(),
        length if length <= TREE_BYTES_MAX => bytes_at(file, (offset, size), length)?,
        _ => return None,
    };
    Some((Kind::of(kind)?, unit, Seqno(u64::from_be_bytes(number)), bytes))
}

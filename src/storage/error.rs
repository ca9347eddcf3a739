//! What can go wrong in the engine, said so that the caller knows what to do and what is known.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

/// An error of the engine. Cheap to clone: one failed sync answers many writers.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed. For a write: whether it is applied after a restart is unknown.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// Bytes on disk are not what was written there. Never taken for the absence of a key.
    #[error("{} is damaged at offset {offset}: {what}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage begins, in bytes.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// A file that the manifest, or the list of an export, names is not there. The engine refuses to
    /// open without it.
    #[error("{} is missing", file.display())]
    Missing {
        /// The missing file.
        file: PathBuf,
    },
    /// A directory that was to be filled has files in it. Nothing is changed.
    #[error("{} is not empty", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// Tables that were to be taken in meet each other. Nothing is changed.
    #[error("the keys of {} and {} meet", one.display(), other.display())]
    FilesOverlap {
        /// One of them.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// There are keys where tables were to be taken in. Nothing is changed.
    #[error("there are keys in the range that was to be taken in, {} among them", key.escape_ascii())]
    RangeInUse {
        /// One of the keys.
        key: Bytes,
    },
    /// A key of a table is not above the one before. It is not added.
    #[error("a key of {} is not above the one before", file.display())]
    OutOfOrder {
        /// The table.
        file: PathBuf,
    },
    /// A table without pairs cannot be ended.
    #[error("{} has no pairs", file.display())]
    Empty {
        /// The table.
        file: PathBuf,
    },
    /// The file was written by a later version of the program.
    #[error("{} has format {found}, this program knows up to {known}", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// The format it says it has.
        found: u32,
        /// The newest format this program reads.
        known: u32,
    },
    /// Another engine, in this process or another, has the directory open.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// A write to disk failed in a way that cannot be undone; nothing more is written until the
    /// engine is opened again. Reads go on. Whether a failed batch survives is unknown.
    #[error("storage is read-only since: {cause}")]
    ReadOnly {
        /// The first failure.
        cause: Arc<str>,
    },
    /// The disk is full. The batch is not applied, now or after a restart; writes work again when
    /// there is room.
    #[error("the disk is full")]
    DiskFull,
    /// The disk was full when a batch was to be logged that readers could see already: it has been taken
    /// back, and is not applied, now or after a restart.
    #[error("the disk is full; the batch was taken back")]
    TakenBack,
    /// Too much is waiting for the disk. The batch is not applied; try again later.
    #[error("{waiting} {unit} are waiting for the disk, the limit is {limit}")]
    Overloaded {
        /// `bytes`, or `tables` or `deleted ranges` that are to be merged.
        unit: &'static str,
        /// How many are waiting.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// A key, value or batch is longer than the engine takes. The batch is not applied.
    #[error("{what} of {length} bytes is longer than the limit of {limit}")]
    TooLong {
        /// `key`, `value` or `batch`.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A batch has more of something than the engine takes at once. The batch is not applied.
    #[error("a batch has {count} {what}, the limit is {limit}")]
    TooMany {
        /// `deleted ranges`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The engine is closed.
    #[error("storage is closed")]
    Closed,
    /// The call would wait for work that nobody does in this thread mode.
    #[error("{call} would wait for ever in this thread mode")]
    WrongMode {
        /// The name of the call.
        call: &'static str,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source: Arc::new(source) }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, what: &'static str) -> Self {
        Self::Corrupt { file: file.to_path_buf(), offset, what }
    }

    /// The same about another name of the file.
    pub(crate) fn about(self, name: &Path) -> Self {
        match self {
            Self::Corrupt { offset, what, .. } => Self::corrupt(name, offset, what),
            Self::Version { found, known, .. } => {
                Self::Version { file: name.to_path_buf(), found, known }
            }
            other => other,
        }
    }

    /// Whether the disk said that it has no room for something new. A sync that says so is another
    /// matter: room was promised at the write and what was written is lost, as with any failed sync.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Io { action: "write to" | "create", source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::DiskFull | Self::TakenBack => true,
            _ => false,
        }
    }
}

//! The names of the engine's files, and the numbers in them.

use std::path::{Path, PathBuf};

/// Number of a file; given once, never used again in one directory.
pub(crate) type FileNo = u32;

pub(crate) const CURRENT: &str = "CURRENT";
/// Says that a part of the log was missing, until that is noted elsewhere.
pub(crate) const LOST: &str = "LOST";
pub(crate) const CURRENT_NEXT: &str = "CURRENT.tmp";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Wal(FileNo),
    Table(FileNo),
    Blob(FileNo),
    Manifest(FileNo),
    NextCurrent,
    Other,
}

impl FileKind {
    pub(crate) fn of(name: &str) -> Self {
        let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse().ok(),
            false => None,
        };
        let kind = if let Some(digits) = name.strip_suffix(".wal") {
            number(digits).map(Self::Wal)
        } else if let Some(digits) = name.strip_suffix(".sst") {
            number(digits).map(Self::Table)
        } else if let Some(digits) = name.strip_suffix(".blob") {
            number(digits).map(Self::Blob)
        } else if let Some(digits) = name.strip_prefix("MANIFEST-") {
            number(digits).map(Self::Manifest)
        } else if name == CURRENT_NEXT {
            Some(Self::NextCurrent)
        } else {
            None
        };
        kind.unwrap_or(Self::Other)
    }

    pub(crate) fn number(self) -> Option<FileNo> {
        match self {
            Self::Wal(no) | Self::Table(no) | Self::Blob(no) | Self::Manifest(no) => Some(no),
            Self::NextCurrent | Self::Other => None,
        }
    }
}

pub(crate) fn wal_path(dir: &Path, no: FileNo) -> PathBuf {
    dir.join(format!("{no:06}.wal"))
}

pub(crate) fn table_path(dir: &Path, no: FileNo) -> PathBuf {
    dir.join(format!("{no:06}.sst"))
}

pub(crate) fn blob_path(dir: &Path, no: FileNo) -> PathBuf {
    dir.join(format!("{no:06}.blob"))
}

/// Whether a file, perhaps of another store, is called what blob files are called.
pub(crate) fn is_blob_path(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "blob")
}

pub(crate) fn manifest_name(no: FileNo) -> String {
    format!("MANIFEST-{no:06}")
}

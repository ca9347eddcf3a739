//! The file that says which process runs a node: its lock says whether, its text which. Knows
//! nothing of nodes. The lock is `flock`, which the kernel drops with the process: after `kill -9`
//! the file stays, and is recognised as stale by its free lock.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

/// Those who only look hold a shared lock for a moment; so often is the lock tried again when it is
/// only them who are in the way.
const ATTEMPTS: u32 = 1000;

/// Why a pid file cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PidFileError {
    /// Somebody has it.
    #[error("{path} (node.pid_file) is locked: another process{holder} runs with it", path = path.display())]
    Held {
        /// The file.
        path: PathBuf,
        /// ` (ID)`, or nothing when it is not known.
        holder: String,
    },
    /// The system refuses.
    #[error("{path} (node.pid_file): {error}", path = path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A pid file of this process: locked as long as this lives, removed when it is dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl PidFile {
    /// Locks the file at `path`, which is created if need be, and writes this process's id.
    ///
    /// # Errors
    /// Another process holds it, or the system refuses. Somebody else's file is as it was.
    pub(super) fn take(path: &Path) -> Result<PidFile, PidFileError> {
        let system = |error| PidFileError::System { path: path.to_owned(), error };
        for _ in 0..ATTEMPTS {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = options.open(path).map_err(system)?;
            match file.try_lock() {
                Ok(()) => {}
                // Beside one who looks there is room for another, beside the holder there is none.
                Err(TryLockError::WouldBlock) if file.try_lock_shared().is_ok() => {
                    std::thread::yield_now();
                    continue;
                }
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(system(error)),
            }
            // The one that had it may have removed it after we opened it: then we locked nothing.
            if !std::fs::metadata(path).is_ok_and(|at_path| same(&file, &at_path)) {
                continue;
            }
            file.set_len(0).map_err(system)?;
            file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(system)?;
            return Ok(PidFile { path: path.to_owned(), _file: file });
        }
        let holder = holder(path).map(|pid| format!(" ({})", pid.as_raw_nonzero()));
        Err(PidFileError::Held { path: path.to_owned(), holder: holder.unwrap_or_default() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // While it is still locked: what is removed is ours. If it stays, it is stale.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The process that holds the pid file at `path`; `None` when there is none or it is stale.
pub(super) fn holder(path: &Path) -> Option<Pid> {
    let mut file = File::options().read(true).open(path).ok()?;
    // Shared, so that two that look do not take each other for the holder.
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(32).read_to_string(&mut text).ok()?;
    let number: i32 = text.trim().parse().ok()?;
    // One that has just locked a stale file has not written yet: the number it holds may by now be
    // of a process that has nothing to do with us.
    let mut open = std::fs::read_dir(format!("/proc/{number}/fd")).ok()?;
    let has = open.any(|entry| {
        let metadata = entry.and_then(|entry| std::fs::metadata(entry.path()));
        metadata.is_ok_and(|metadata| same(&file, &metadata))
    });
    if has { Pid::from_raw(number) } else { None }
}

fn same(file: &File, other: &std::fs::Metadata) -> bool {
    file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (other.dev(), other.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_its_process_while_it_lives_and_is_gone_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvd.pid");
        assert_eq!(holder(&path), None);
        let taken = PidFile::take(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        assert_eq!(holder(&path), Some(rustix::process::getpid()));
        drop(taken);
        assert!(!path.exists());
        assert_eq!(holder(&path), None);
    }

    #[test]
    fn one_that_is_held_is_refused_and_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvd.pid");
        let taken = PidFile::take(&path).unwrap();
        let text = PidFile::take(&path).unwrap_err().to_string();
        let own = format!("another process ({}) runs with it", std::process::id());
        assert!(text.contains(&own) && text.contains("kvd.pid"), "{text}");
        assert_eq!(holder(&path), Some(rustix::process::getpid()));
        drop(taken);
    }

    #[test]
    fn a_stale_one_names_nobody_and_can_be_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvd.pid");
        // Our own number, longer than what is written over it.
        std::fs::write(&path, format!("{}\n\n\n", std::process::id())).unwrap();
        assert_eq!(holder(&path), None);
        let _taken = PidFile::take(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_number_of_a_process_without_the_file_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kvd.pid");
        // Locked, but the text is still the old one: of a process that does not have it open.
        std::fs::write(&path, "1\n").unwrap();
        let file = File::options().read(true).open(&path).unwrap();
        file.try_lock().unwrap();
        assert_eq!(holder(&path), None);
    }

    #[test]
    fn what_cannot_be_opened_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let text = PidFile::take(&folder.path().join("no/kvd.pid")).unwrap_err().to_string();
        assert!(text.contains("no/kvd.pid (node.pid_file)"), "{text}");
    }
}

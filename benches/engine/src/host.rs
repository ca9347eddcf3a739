//! What the kernel knows of this process: CPU time, bytes written, memory; and of a directory: size.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};

/// User and system time of all threads, the ended ones included.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes written since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Pages made dirty: what goes to the disk, whatever size the calls had.
    pub(crate) pages: u64,
    /// Bytes handed to `write` and its kin.
    pub(crate) calls: u64,
}

impl Written {
    /// # Errors
    /// When the kernel does not account for I/O.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string("/proc/self/io").context("no account of I/O")?;
        Ok(Self { pages: field(&text, "write_bytes:"), calls: field(&text, "wchar:") })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { pages: self.pages - before.pages, calls: self.calls - before.calls }
    }
}

/// How long this thread was ready and waited for a processor, so far; zero where the kernel does not
/// say. On a busy machine most pauses are that, and no doing of an engine.
pub(crate) fn waited_for_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Most memory the process has had, in bytes.
pub(crate) fn peak_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    field(&text, "VmHWM:") * 1024
}

/// The number behind the line that begins with `name`.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Bytes that the files below `dir` hold: neither holes nor room kept beyond a file's end.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn directory_bytes(dir: &Path) -> anyhow::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        // A file may go while the directory is read: an engine cleans up when it likes.
        let Ok(meta) = entry.metadata() else { continue };
        total += match meta.is_dir() {
            true => directory_bytes(&entry.path())?,
            false => meta.len().min(meta.blocks() * 512),
        };
    }
    Ok(total)
}

/// Copies a directory, without what an engine keeps to lock it.
///
/// # Errors
/// When something cannot be read or written.
pub(crate) fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Waits until everything of all processes is on disk, so that no earlier write disturbs.
pub(crate) fn sync_disks() {
    rustix::fs::sync();
}

#[cfg(test)]
mod tests {
    use super::{Written, cpu, field, peak_memory};

    #[test]
    fn the_kernel_accounts_for_this_process() {
        let (cpu_before, before) = (cpu(), Written::now().expect("an account"));
        let path = std::env::temp_dir().join(format!("engine-bench-host-{}", std::process::id()));
        std::fs::write(&path, vec![1; 1 << 20]).expect("a file");
        std::fs::remove_file(&path).expect("the file");
        let written = Written::now().expect("an account").since(before);
        assert!(written.calls >= 1 << 20, "{written:?}");
        assert!(cpu() > cpu_before);
        assert!(peak_memory() > 1 << 20);
    }

    #[test]
    fn a_field_is_the_number_behind_its_name() {
        assert_eq!(field("rchar: 5\nwchar: 17\n", "wchar:"), 17);
        assert_eq!(field("VmHWM:\t  88 kB\n", "VmHWM:"), 88);
        assert_eq!(field("", "wchar:"), 0);
    }
}

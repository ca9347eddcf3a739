//! A file that nobody wants after a crash.

use std::io;
use std::sync::Arc;

use super::VfsFile;

/// Writes and reads go through, syncs are left out: they would cost the disk what is read out of memory and removed a
/// moment later.
#[derive(Debug)]
pub(crate) struct Unsynced(pub(crate) Arc<dyn VfsFile>);

impl VfsFile for Unsynced {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

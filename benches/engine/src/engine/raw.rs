//! No engine: the least that a durable write costs on this disk. Records are appended to a file
//! that was written beforehand, and each is followed by an `fdatasync`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Settings, Store};

/// Bytes written beforehand.
const FILE_BYTES: u64 = 64 << 20;
/// Bytes that a record of a log has beside key and value.
const HEAD_BYTES: usize = 32;

pub(super) struct Raw {
    file: File,
    at: AtomicU64,
}

impl Raw {
    pub(super) fn open(dir: &Path, settings: Settings) -> anyhow::Result<Self> {
        anyhow::ensure!(settings.sync, "raw appends are the limit of fillsync alone");
        let options = File::options().write(true).create(true).truncate(true).clone();
        let file = options.open(dir.join("raw"))?;
        let zeros = vec![0; 1 << 20];
        for megabyte in 0..FILE_BYTES >> 20 {
            file.write_all_at(&zeros, megabyte << 20)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: AtomicU64::new(0) })
    }
}

impl Store for Raw {
    fn put(&self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        let record = [&[1; HEAD_BYTES], key, value].concat();
        let at = self.at.fetch_add(record.len() as u64, Ordering::Relaxed) % FILE_BYTES;
        self.file.write_all_at(&record, at)?;
        Ok(self.file.sync_data()?)
    }

    fn delete(&self, _: &[u8]) -> anyhow::Result<()> {
        anyhow::bail!("raw appends have no deletes")
    }

    fn put_batch(&self, _: &[([u8; 16], Vec<u8>)]) -> anyhow::Result<()> {
        anyhow::bail!("raw appends have no batches")
    }

    fn get(&self, _: &[u8]) -> anyhow::Result<Option<usize>> {
        anyhow::bail!("raw appends cannot be read")
    }

    fn multi_get(&self, _: &[[u8; 16]]) -> anyhow::Result<usize> {
        anyhow::bail!("raw appends cannot be read")
    }

    fn scan(&self, _: &[u8], _: usize) -> anyhow::Result<(usize, usize)> {
        anyhow::bail!("raw appends cannot be read")
    }

    fn flush(&self) -> anyhow::Result<()> {
        Ok(())
    }

    fn table_bytes(&self) -> anyhow::Result<u64> {
        Ok(0)
    }
}

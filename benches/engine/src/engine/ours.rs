//! The engine of this repository.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use roundtable::storage::{
    Batch, Compression, Direction, Engine, Error, LEVEL_COUNT, Options, RealVfs, SyncMode,
};

use super::{BLOCK_BYTES, CACHE_BYTES, MEMTABLE_BYTES, Settings, Store};
use crate::data::Codec;

/// How long a writer waits before it tries again what was refused.
const RETRY: Duration = Duration::from_micros(100);

pub(super) struct Ours {
    engine: Engine,
}

impl Ours {
    pub(super) fn open(dir: &Path, settings: Settings) -> anyhow::Result<Self> {
        let compression = match settings.codec {
            Codec::None => Compression::None,
            Codec::Lz4 => Compression::Lz4,
        };
        let options = Options {
            memtable_bytes: MEMTABLE_BYTES,
            block_cache_bytes: CACHE_BYTES,
            block_bytes: BLOCK_BYTES,
            compression: [compression; LEVEL_COUNT],
            sync: if settings.sync { SyncMode::Always } else { SyncMode::None },
            ..Options::default()
        };
        let (engine, _recovery) = Engine::open(Arc::new(RealVfs), dir, options)?;
        Ok(Self { engine })
    }

    /// Writes, and tries again what the engine refuses because too much waits: the time counts.
    fn write(&self, fill: impl Fn(&mut Batch)) -> anyhow::Result<()> {
        loop {
            let mut batch = Batch::new();
            fill(&mut batch);
            match self.engine.write(batch) {
                Ok(_) => return Ok(()),
                Err(Error::Overloaded { .. }) => std::thread::sleep(RETRY),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Store for Ours {
    fn put(&self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.write(|batch| batch.put(key, value))
    }

    fn delete(&self, key: &[u8]) -> anyhow::Result<()> {
        self.write(|batch| batch.delete(key))
    }

    fn put_batch(&self, pairs: &[([u8; 16], Vec<u8>)]) -> anyhow::Result<()> {
        self.write(|batch| pairs.iter().for_each(|(key, value)| batch.put(key, value)))
    }

    fn get(&self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        Ok(self.engine.get(key)?.map(|(value, _)| value.len()))
    }

    fn multi_get(&self, keys: &[[u8; 16]]) -> anyhow::Result<usize> {
        let mut found = 0;
        for value in self.engine.multi_get(keys) {
            found += usize::from(value?.is_some());
        }
        Ok(found)
    }

    fn scan(&self, start: &[u8], limit: usize) -> anyhow::Result<(usize, usize)> {
        let start = Bound::Included(start);
        let mut range = self.engine.range(start, Bound::Unbounded, Direction::Forward);
        let (mut pairs, mut bytes) = (0, 0);
        while pairs < limit
            && let Some((key, value, _)) = range.next_lent()?
        {
            std::hint::black_box(key);
            pairs += 1;
            bytes += value.len();
        }
        Ok((pairs, bytes))
    }

    fn flush(&self) -> anyhow::Result<()> {
        Ok(self.engine.flush()?)
    }

    fn table_bytes(&self) -> anyhow::Result<u64> {
        Ok(self.engine.stats().table_bytes)
    }

    fn pressure(&self) -> Option<f64> {
        Some(self.engine.pressure())
    }

    fn stats(&self) -> Option<String> {
        Some(format!("{:#?}", self.engine.stats()))
    }
}

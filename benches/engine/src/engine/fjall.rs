//! fjall: leveled LSM in Rust.

use std::path::Path;

use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
};

use super::{
    APART_BYTES, BACKGROUND_THREADS, BLOCK_BYTES, CACHE_BYTES, FILTER_BITS, MEMTABLE_BYTES,
    Settings, Store,
};
use crate::data::Codec;

pub(super) struct Fjall {
    database: Database,
    keyspace: Keyspace,
    sync: bool,
}

impl Fjall {
    pub(super) fn open(dir: &Path, settings: Settings) -> anyhow::Result<Self> {
        let database = Database::builder(dir)
            .cache_size(CACHE_BYTES as u64)
            .worker_threads(BACKGROUND_THREADS)
            .open()?;
        let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0));
        debug_assert_eq!(FILTER_BITS, 10.0);
        let codec = match settings.codec {
            Codec::None => CompressionType::None,
            Codec::Lz4 => CompressionType::Lz4,
        };
        let apart = settings.apart.then(|| {
            let apart = KvSeparationOptions::default().compression(codec);
            apart.separation_threshold(APART_BYTES)
        });
        let keyspace = database.keyspace("default", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES as u64)
                .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES as u32))
                .data_block_compression_policy(CompressionPolicy::all(codec))
                .filter_policy(FilterPolicy::all(filter))
                .with_kv_separation(apart.clone())
        })?;
        Ok(Self { database, keyspace, sync: settings.sync })
    }

    fn persist(&self) -> anyhow::Result<()> {
        if self.sync {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Store for Fjall {
    fn put(&self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.keyspace.insert(key, value)?;
        self.persist()
    }

    fn delete(&self, key: &[u8]) -> anyhow::Result<()> {
        self.keyspace.remove(key)?;
        self.persist()
    }

    fn put_batch(&self, pairs: &[([u8; 16], Vec<u8>)]) -> anyhow::Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in pairs {
            batch.insert(&self.keyspace, key.as_slice(), value.as_slice());
        }
        batch.commit()?;
        self.persist()
    }

    fn get(&self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        Ok(self.keyspace.get(key)?.map(|value| value.len()))
    }

    fn multi_get(&self, keys: &[[u8; 16]]) -> anyhow::Result<usize> {
        let mut found = 0;
        for key in keys {
            found += usize::from(self.keyspace.get(key)?.is_some());
        }
        Ok(found)
    }

    fn scan(&self, start: &[u8], limit: usize) -> anyhow::Result<(usize, usize)> {
        let (mut pairs, mut bytes) = (0, 0);
        for guard in self.keyspace.range(start..).take(limit) {
            let (key, value) = guard.into_inner()?;
            std::hint::black_box(&key);
            pairs += 1;
            bytes += value.len();
        }
        Ok((pairs, bytes))
    }

    fn flush(&self) -> anyhow::Result<()> {
        Ok(self.keyspace.rotate_memtable_and_wait()?)
    }

    fn table_bytes(&self) -> anyhow::Result<u64> {
        Ok(self.keyspace.disk_space())
    }
}

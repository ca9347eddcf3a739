//! What is kept of tables in memory, within one budget of bytes: blocks, indexes, filters,
//! and values of blob files.
//!
//! Indexes and filters are *pinned*, held by their tables for as long as these are open, as far as
//! they take a share of the budget; those of tables that find no room there come and go like
//! blocks. So a get of a store that fits pays nothing for the bound, and a store of any size keeps
//! to it. The upper levels, which every get asks, may pin more than the lower ones.
//!
//! Decides what a block is known by and what it weighs; which one goes is left to `quick_cache`
//! (a sharded S3-FIFO: Yang et al., SOSP 2023), under which a block that is read once, as by a
//! scan, leaves without pushing out those that are read again and again. No lock is held while a
//! block is read from disk: two readers may read the same block, and both are right. Hashing and
//! sharding are fixed, so a simulated run evicts the same blocks each time.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::bad_places::BadPlaces;
use super::files::FileNo;
use super::sstable::{Block, Filter, Index};

/// Where a block stands. File numbers are never used again, so an entry never means another block.
pub(crate) type BlockKey = (FileNo, u64);

/// Independent parts, each behind its own lock.
const SHARDS: usize = 16;
/// What an entry costs beyond the bytes of its block.
const ENTRY_OVERHEAD: usize = 128;
/// The levels of which tables may pin three quarters of the budget; those below, half of it.
const UPPER_LEVELS: u8 = 2;
/// A value of more than this share of the budget is not kept: an eighth of what one part has.
const VALUE_SHARE: usize = SHARDS * 8;

#[derive(Debug, Clone, Copy, Default)]
struct Mix;

/// Mixes the two numbers of a key; they come from the engine, so nobody can make them collide.
#[derive(Debug, Clone, Copy, Default)]
struct Mixer(u64);

impl BuildHasher for Mix {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer::default()
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

#[derive(Debug, Clone, Copy)]
struct Weight;

impl Weighter<BlockKey, Kept> for Weight {
    fn weight(&self, _key: &BlockKey, kept: &Kept) -> u64 {
        let bytes = match kept {
            Kept::Block(block) => block.bytes(),
            Kept::Index(index) => index.memory(),
            Kept::Filter(filter) => filter.memory(),
            Kept::Value(_, value) => value.len(),
        };
        (bytes + ENTRY_OVERHEAD) as u64
    }
}

/// What stands at one place of a table or a blob file.
#[derive(Debug, Clone)]
pub(crate) enum Kept {
    Block(Block),
    /// Of a table that could not pin it.
    Index(Arc<Index>),
    /// The same.
    Filter(Arc<Filter>),
    /// A value of a blob file, and the hash of its key.
    Value(u64, Bytes),
}

impl Kept {
    fn value(self, hash: u64) -> Option<Bytes> {
        match self {
            Self::Value(of, value) if of == hash => Some(value),
            _ => None,
        }
    }
}

/// What is in memory of tables. Shared by all tables of an engine.
pub(crate) struct BlockCache {
    cache: Cache<BlockKey, Kept, Weight, Mix>,
    budget: usize,
    /// Bytes of it that tables hold themselves.
    pinned: Mutex<usize>,
    /// Number of tables that found no room for that.
    unpinned: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    /// What could not be read of the files whose blocks are kept here.
    pub(crate) bad: BadPlaces,
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCache").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl BlockCache {
    /// A cache of `budget` bytes for blocks of about `block_bytes`.
    pub(crate) fn new(budget: usize, block_bytes: usize) -> Self {
        let items = budget / (block_bytes + ENTRY_OVERHEAD);
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity(items)
            .weight_capacity(budget as u64)
            .build()
            .expect("both capacities are given");
        let cache = Cache::with_options(options, Weight, Mix, DefaultLifecycle::default());
        let (pinned, none, bad) = (Mutex::new(0), AtomicU64::default, BadPlaces::default());
        Self { cache, budget, pinned, unpinned: none(), hits: none(), misses: none(), bad }
    }

    /// What is kept at a place.
    pub(crate) fn find(&self, key: BlockKey) -> Option<Kept> {
        let found = self.cache.get(&key);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(crate) fn get(&self, key: BlockKey) -> Option<Block> {
        match self.find(key) {
            Some(Kept::Block(block)) => Some(block),
            _ => None,
        }
    }

    /// Looks without it counting as a use: for readers that pass once, such as a compaction.
    pub(crate) fn peek(&self, key: BlockKey) -> Option<Kept> {
        self.cache.peek(&key)
    }

    /// The value that stands at a place of a blob file, if its key has this hash.
    pub(crate) fn value(&self, key: BlockKey, hash: u64) -> Option<Bytes> {
        self.find(key).and_then(|kept| kept.value(hash))
    }

    /// The same without it counting as a use.
    pub(crate) fn peek_value(&self, key: BlockKey, hash: u64) -> Option<Bytes> {
        self.peek(key).and_then(|kept| kept.value(hash))
    }

    /// Keeps a value, unless it is so long that it would drive out much else.
    pub(crate) fn insert_value(&self, key: BlockKey, hash: u64, value: Bytes) {
        if value.len() <= self.budget / VALUE_SHARE {
            self.keep(key, Kept::Value(hash, value));
        }
    }

    pub(crate) fn insert(&self, key: BlockKey, block: Block) {
        self.keep(key, Kept::Block(block));
    }

    pub(crate) fn keep(&self, key: BlockKey, kept: Kept) {
        self.cache.insert(key, kept);
    }

    /// Takes out of the budget what a table of `level` is going to hold itself, if there is room for
    /// it; what comes and goes makes room at once. The table gives it back with
    /// [`BlockCache::unpin`].
    pub(crate) fn pin(&self, bytes: usize, level: u8) -> bool {
        let most = match level < UPPER_LEVELS {
            true => self.budget - self.budget / 4,
            false => self.budget / 2,
        };
        let mut pinned = self.pinned.lock();
        let fits = pinned.checked_add(bytes).is_some_and(|all| all <= most);
        if !fits && !crate::mutant!("storage-pins-beyond-budget") {
            return false;
        }
        *pinned += bytes;
        self.cache.set_capacity(self.budget.saturating_sub(*pinned) as u64);
        true
    }

    /// Gives bytes that were pinned back to the budget.
    pub(crate) fn unpin(&self, bytes: usize) {
        let mut pinned = self.pinned.lock();
        *pinned = pinned.saturating_sub(bytes);
        self.cache.set_capacity(self.budget.saturating_sub(*pinned) as u64);
    }

    /// Counts a table that pins nothing, or no longer counts it.
    pub(crate) fn count_unpinned(&self, is_there: bool) {
        match is_there {
            true => self.unpinned.fetch_add(1, Ordering::Relaxed),
            false => self.unpinned.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Bytes that tables hold themselves, and the number of tables that found no room for that.
    pub(crate) fn pinned(&self) -> (usize, u64) {
        (*self.pinned.lock(), self.unpinned.load(Ordering::Relaxed))
    }

    /// Bytes it holds beside what is pinned.
    pub(crate) fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// Hits and misses since the beginning.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block with no entries.
    fn block(length: usize) -> Block {
        let mut body = vec![0; length];
        body[length - 4] = 1;
        Block::parse(body.into()).unwrap()
    }

    fn cache() -> BlockCache {
        BlockCache::new(1 << 20, 1 << 10)
    }

    #[test]
    fn it_never_holds_more_than_its_budget() {
        let cache = cache();
        for offset in 0..10_000 {
            cache.insert((1, offset), block(1 << 10));
            assert!(cache.bytes() <= 1 << 20);
        }
        assert!(cache.bytes() > 1 << 19);
        // A lower level may pin half, an upper one a quarter more; room is made at once.
        assert!(!cache.pin((512 << 10) + 1, 2) && cache.pin(512 << 10, 2) && !cache.pin(1, 6));
        assert!(cache.bytes() <= 512 << 10);
        assert!(cache.pin(256 << 10, 1) && !cache.pin(1, 0) && !cache.pin(usize::MAX, 0));
        assert!(cache.bytes() <= 256 << 10);
        cache.insert((2, 0), block(1 << 10));
        assert!(cache.get((2, 0)).is_some());
        cache.unpin(768 << 10);
        assert_eq!(cache.pinned().0, 0);
        (0..10_000).for_each(|offset| cache.insert((3, offset), block(1 << 10)));
        assert!(cache.bytes() > 1 << 19);
    }

    #[test]
    fn a_scan_leaves_what_is_in_use() {
        let cache = cache();
        let read = |key| {
            let found = cache.get(key).is_some();
            if !found {
                cache.insert(key, block(1 << 10));
            }
            found
        };
        for _ in 0..4 {
            let hot = (0..400).filter(|offset| read((1, *offset))).count();
            assert!(hot == 0 || hot == 400);
        }
        assert_eq!((0..20_000).filter(|offset| read((2, *offset))).count(), 0);
        let left = (0..400).filter(|offset| cache.peek((1, *offset)).is_some()).count();
        assert!(left > 300, "{left} of 400 blocks have survived a scan of 20 000");
    }

    #[test]
    fn equal_runs_evict_equal_blocks() {
        let run = || {
            let cache = cache();
            let mut rng = fastrand::Rng::with_seed(4);
            for _ in 0..20_000 {
                let key = (rng.u32(..4), rng.u64(..2_000));
                if cache.get(key).is_none() {
                    cache.insert(key, block(rng.usize(100..2_000)));
                }
            }
            cache.traffic()
        };
        assert_eq!(run(), run());
    }
}

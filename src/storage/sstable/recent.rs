//! The blocks that a reader of many keys has just used.

use super::block::Block;
use crate::storage::cache::BlockKey;
use crate::storage::error::Error;

/// One block of each table that may hold a key, and of the lower level of its index: keys that come
/// in order need the same ones again. More than this are asked of the cache.
const BLOCKS_MAX: usize = 16;

/// Blocks at hand, without a look into the cache.
#[derive(Debug, Default)]
pub(crate) struct RecentBlocks {
    blocks: Vec<(BlockKey, Block)>,
    /// The one that has been there longest.
    oldest: usize,
}

impl RecentBlocks {
    /// The block of `key`, from here or else as `read` brings it.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn get_or_read(
        &mut self,
        key: BlockKey,
        read: impl FnOnce() -> Result<Block, Error>,
    ) -> Result<Block, Error> {
        if let Some((_, block)) = self.blocks.iter().find(|(held, _)| *held == key) {
            return Ok(block.clone());
        }
        let block = read()?;
        let entry = (key, block.clone());
        match self.blocks.get_mut(self.oldest) {
            Some(slot) => *slot = entry,
            None => self.blocks.push(entry),
        }
        self.oldest = (self.oldest + 1) % BLOCKS_MAX;
        Ok(block)
    }
}

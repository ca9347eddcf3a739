//! Sorted tables: immutable files of pairs in key order.
//!
//! [`block`] decides how an entry is found in a block, [`rows`] its bytes, [`columns`] those that are
//! compressed instead, [`block_builder`] how they are put together, [`block_cursor`] how they are walked, [`trailer`] compression and checksum; [`index`] in which
//! block a key must be, [`filter`] the bits that deny a key, [`footer`] what a table says of itself;
//! [`blobs`] which blob files it refers to, [`builder`] how one is written, [`table`] how it is opened
//! and asked, [`lent`] where its index and filter are, [`recent`] how gets of neighbours share blocks,
//! [`cursor`] how it is walked, [`doubt`] what is lost with a place that cannot be read, [`scrub`] how it is looked through,
//! [`verify`] how all of it is checked. Format: `docs/format/sstable.md`, after LevelDB's table with
//! checksums that hold their place, as in RocksDB. A table holds one version of a key; which table is
//! newer is the manifest's knowledge.

#[cfg(debug_assertions)]
mod any;
mod blobs;
mod block;
mod block_builder;
mod block_cursor;
mod builder;
mod columns;
mod cursor;
mod doubt;
mod filter;
mod footer;
mod foreign;
mod index;
mod lent;
mod recent;
mod rows;
mod scrub;
mod table;
mod trailer;
mod verify;

#[cfg(debug_assertions)]
pub(crate) use any::{check_any_block, check_any_footer, check_any_index};
pub(crate) use block::Block;
pub(crate) use builder::{TableBuilder, TableShape};
pub(crate) use cursor::TableCursor;
#[cfg(debug_assertions)]
pub(crate) use filter::check_any_filter;
pub(crate) use filter::{Filter, key_hash};
pub(crate) use index::Index;
pub(crate) use recent::RecentBlocks;
pub(crate) use table::{Probe, ReadMode, Table};
pub(crate) use trailer::{compressed, decompress};

use std::sync::Arc;

use bytes::Bytes;

use super::batch::Seqno;
use super::blob::BlobUse;
use super::files::FileNo;

/// What the manifest keeps of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableMeta {
    pub(crate) no: FileNo,
    /// The level it was made for. Where it stands now is what `Levels` says: a table may move.
    pub(crate) level: u8,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// How many of the entries are deletes.
    pub(crate) deletes: u64,
    pub(crate) smallest: Bytes,
    pub(crate) largest: Bytes,
    pub(crate) first: Seqno,
    pub(crate) last: Seqno,
    /// What ranges deleted up to this batch hide has been left out when it was written.
    pub(crate) purged: Seqno,
    pub(crate) droppable: Droppable,
    /// It was taken in, or made in level 0 of one that was: the salt of its checksums is this, its
    /// number only in the second case, and all of its entries count as written by batch `last`,
    /// whatever they say.
    pub(crate) adopted: Option<u64>,
    /// The blob files that its values stand in, in the order of their slots.
    pub(crate) blobs: Arc<[BlobUse]>,
}

/// What the caller's compaction filter will let go of a table, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Droppable {
    /// Number of entries that have a point; with none, all other fields are zero.
    pub(crate) entries: u64,
    /// Bytes of their keys and values.
    pub(crate) bytes: u64,
    /// The lowest and the highest of their points.
    pub(crate) lowest: u64,
    pub(crate) highest: u64,
}

impl Droppable {
    pub(crate) fn add(&mut self, point: u64, bytes: u64) {
        let is_first = self.entries == 0;
        self.lowest = if is_first { point } else { self.lowest.min(point) };
        self.highest = self.highest.max(point);
        self.entries += 1;
        self.bytes += bytes;
    }

    /// About how many bytes a horizon lets go: points are taken to be spread evenly.
    pub(crate) fn passed_bytes(&self, horizon: u64) -> u64 {
        if self.entries == 0 || horizon < self.lowest {
            return 0;
        }
        if horizon >= self.highest {
            return self.bytes.max(1);
        }
        let share = u128::from(horizon - self.lowest) * u128::from(self.bytes);
        let passed = share / u128::from(self.highest - self.lowest);
        u64::try_from(passed).unwrap_or(self.bytes).max(1)
    }
}

impl TableMeta {
    /// Its bytes, with those of the values that it refers to.
    pub(crate) fn whole_bytes(&self) -> u64 {
        self.blobs.iter().fold(self.bytes, |sum, blob| sum.saturating_add(blob.bytes))
    }

    /// What its checksums are salted with.
    pub(crate) fn salt(&self) -> u64 {
        self.adopted.unwrap_or(u64::from(self.no))
    }

    /// The batch that an entry counts as written by.
    pub(crate) fn seqno(&self, written: Seqno) -> Seqno {
        if self.adopted.is_some() { self.last } else { written }
    }
}

//! Batches: what clients ask that writes of one unit be made together. `docs/protocol/batch.md`.

use crate::types::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX};
use crate::types::{Key, Quorum, TableName, Value};

use super::{Attempt, ErrorCode, OpError, TimeToLive};

/// Writes of different keys of one unit, made together or not at all. Tables of kind lww only; owners
/// alone count.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where.
    pub table: TableName,
    /// 1..=[`BATCH_ITEMS_MAX`], with at most [`BATCH_BYTES_MAX`] bytes of keys and values.
    pub items: Vec<BatchItem>,
    /// How many acknowledgements; the table's w when absent.
    pub w: Option<Quorum>,
    /// Which try of which batch this is.
    pub attempt: Attempt,
}

/// A write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchItem {
    /// Which.
    pub key: Key,
    /// What; `None` deletes.
    pub value: Option<Value>,
    /// How long a value lives. Ignored without a value.
    pub ttl: TimeToLive,
}

impl BatchItem {
    /// Bytes of its key and value.
    pub fn bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, |value| value.as_bytes().len());
        self.key.as_bytes().len() + value
    }
}

impl Batch {
    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.items.iter().map(BatchItem::bytes).sum()
    }
}

/// Whether a batch of writes with these sizes is within the limits.
///
/// # Errors
/// [`ErrorCode::BatchTooLarge`], with the limit that is passed and what was sent.
pub fn check_batch_size(sizes: impl ExactSizeIterator<Item = usize>) -> Result<(), OpError> {
    let (count, bytes) = (sizes.len(), sizes.sum());
    let (limit, got, what) = match (count > BATCH_ITEMS_MAX, bytes > BATCH_BYTES_MAX) {
        (true, _) => (BATCH_ITEMS_MAX, count, "writes"),
        (false, true) => (BATCH_BYTES_MAX, bytes, "bytes of keys and values"),
        (false, false) => return Ok(()),
    };
    let text = format!("the batch has {got} {what}; the limit is {limit}");
    Err(OpError::new(ErrorCode::BatchTooLarge, text).with_limit(limit, got))
}

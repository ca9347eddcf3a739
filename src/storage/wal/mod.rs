//! The write-ahead log: what makes a batch survive.
//!
//! [`record`] decides the bytes, [`writer`] when they reach the disk, [`recover`] what of a segment
//! is believed afterwards, [`replay`] what of all of them. Format: `docs/format/wal.md`. The offset
//! known to be synced, carried in every record, follows Pebble's WAL-sync chunks: it turns "torn
//! tail or damage?" from a guess into a fact.

mod record;
mod recover;
mod replay;
mod writer;

pub(crate) use recover::Scan;
pub(crate) use replay::{Replayed, refuse_unknown_logs, replay};
pub(crate) use writer::{Ended, LogRecord, LogWriter, Spare, Unsynced};

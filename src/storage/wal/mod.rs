//! The write-ahead log: what makes a batch survive.
//!
//! [`record`] decides the bytes, [`writer`] when they reach the disk, [`recover`] what of them is
//! believed afterwards. Format: `docs/format/wal.md`. The offset known to be synced, carried in
//! every record, follows Pebble's WAL-sync chunks: it turns "torn tail or damage?" from a guess
//! into a fact.

mod record;
mod recover;
mod writer;

pub(crate) use recover::{Scan, WAL_BYTES_MAX, refuse_unknown_logs, scan};
pub(crate) use writer::{LogRecord, LogWriter};

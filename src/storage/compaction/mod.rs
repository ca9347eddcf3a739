//! Compaction: merging tables, so that a get asks few of them and what is overwritten or deleted
//! gives its room back.
//!
//! [`pick`] decides which tables are merged, [`merge`] how; `engine::compact` runs both and puts
//! the result in force. A snapshot needs no say in it: it holds the tables it was made with, and a
//! file is unlinked when its last holder is gone. So a merge keeps one version of each key.

mod merge;
mod pick;
mod purge;

pub(crate) use merge::Merging;
pub(crate) use pick::{Job, LevelsView, pick, pick_all};
pub(crate) use purge::pick_purge;

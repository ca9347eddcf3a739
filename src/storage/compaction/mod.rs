//! Compaction: merging tables, so that a get asks few of them and what is overwritten or deleted
//! gives its room back.
//!
//! [`pick`] decides which tables are merged, [`level0`] which of level 0, [`view`] what may be
//! merged at the same time, [`cut`] where the new tables end, [`filter`] is the caller's say in what
//! goes, [`garbage`] which values are written anew, [`merge`] how it is done; `engine::compact` runs it and puts the result in force. A
//! snapshot needs no say in it: it holds the tables it was made with, and a file is unlinked when
//! its last holder is gone. So a merge keeps one version of each key.

mod cut;
mod filter;
mod garbage;
mod level0;
mod merge;
#[cfg(test)]
mod model;
mod pick;
mod purge;
mod view;

pub use filter::{CompactionFilter, SharedFilter};

pub(crate) use cut::{Cutter, TableSize};
pub(crate) use garbage::{pick_garbage, to_collect};
pub(crate) use merge::Merging;
pub(crate) use pick::{Asked, Rest, debt, is_under_way, pick, pick_asked, pick_dense, pick_idle};
pub(crate) use purge::pick_purge;
pub(crate) use view::{Avoid, Job, LevelsView, Reason};

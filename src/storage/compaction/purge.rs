//! Which tables to rewrite so that a deleted range gives its room back.
//!
//! A table that a deleted range hides as a whole needs no merge: `engine::compact` drops it by an
//! edit of the manifest. What is left here are tables that it hides in part: each is rewritten
//! where it stands, once, and then knows that it has been.

use super::pick::rewrite;
use super::view::{Avoid, Job, LevelsView, Reason};
use crate::storage::deleted::Deleted;
use crate::storage::levels::LEVELS;
use crate::storage::options::Options;

/// The next table to rewrite; `None` when no deleted range concerns one that can be taken. The ones
/// with most to give are not looked for: all of them are done.
pub(crate) fn pick_purge(
    view: &LevelsView<'_>,
    options: &Options,
    avoid: &Avoid,
    deleted: &Deleted,
) -> Option<Job> {
    if deleted.is_empty() {
        return None;
    }
    (0..LEVELS).find_map(|level| {
        let mut tables = view
            .level(level)
            .iter()
            .filter(|table| deleted.ranges().iter().any(|delete| delete.concerns(table)));
        tables.find_map(|table| rewrite(view, options, avoid, (Reason::DeletedRange, level, table)))
    })
}

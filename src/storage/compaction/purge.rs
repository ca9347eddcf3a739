//! Which tables to rewrite so that a deleted range gives its room back.
//!
//! A table that a deleted range hides as a whole needs no merge: `engine::compact` drops it by an
//! edit of the manifest. What is left here are tables that it hides in part: each is rewritten
//! where it stands, once, and then knows that it has been.

use std::collections::BTreeSet;

use super::pick::{Job, LevelsView};
use crate::storage::deleted::Deleted;
use crate::storage::files::FileNo;

/// The next table to rewrite; `None` when no deleted range concerns one. The ones with most to
/// give are not looked for: all of them are done.
pub(crate) fn pick_purge(
    view: &LevelsView<'_>,
    deleted: &Deleted,
    damaged: &BTreeSet<FileNo>,
) -> Option<Job> {
    if deleted.is_empty() {
        return None;
    }
    view.levels.iter().enumerate().find_map(|(level, tables)| {
        let table = tables.iter().find(|table| {
            !damaged.contains(&table.no)
                && deleted.ranges().iter().any(|delete| delete.concerns(table))
        })?;
        let upper = vec![table.no];
        Some(Job { from: level, to: level, upper, lower: Vec::new(), moved: false })
    })
}

//! What a target lacks of what a source has, page by page: the source's marks, those keys of them that
//! the target lacks, then these. Costs as much as the unit has keys.
//!
//! This is the place of a comparison whose cost is that of the difference: it is asked for the next
//! question and told the answers, and nobody else looks inside.

use std::collections::VecDeque;

use crate::message::{CopyPlace, CopyWhat};

/// A comparison with one source, from a place of the unit on.
#[derive(Debug)]
pub(super) struct Comparison {
    /// Everything up to here has been compared, and what was lacking is here.
    through: Option<CopyPlace>,
    /// The page that is looked at: where it ends (`None`: with the unit).
    page: Option<Option<CopyPlace>>,
    /// Keys of it that are still to be brought.
    wanted: VecDeque<CopyPlace>,
    is_done: bool,
}

/// Keys asked for at once.
const KEYS_MAX: usize = 512;

impl Comparison {
    pub(super) fn behind(through: Option<CopyPlace>) -> Comparison {
        Comparison { through, page: None, wanted: VecDeque::new(), is_done: false }
    }

    /// What to ask the source next; `None` when all has been compared.
    pub(super) fn question(&self) -> Option<CopyWhat> {
        if self.is_done {
            None
        } else if self.page.is_some() {
            let keys = self.wanted.iter().take(KEYS_MAX).cloned();
            Some(CopyWhat::Keys(keys.collect()))
        } else {
            Some(CopyWhat::Marks(self.through.clone()))
        }
    }

    /// The keys that are lacking of a page which ends at `next`.
    pub(super) fn on_wanted(&mut self, wanted: Vec<CopyPlace>, next: Option<CopyPlace>) {
        self.wanted = wanted.into();
        self.page = Some(next);
        self.end_page();
    }

    /// The keys that were asked for have come and are here, or those up to `next`.
    pub(super) fn on_brought(&mut self, next: Option<&CopyPlace>) {
        for _ in 0..KEYS_MAX {
            let Some(first) = self.wanted.front() else { break };
            if next.is_some_and(|next| first > next) {
                break;
            }
            self.wanted.pop_front();
        }
        self.end_page();
    }

    fn end_page(&mut self) {
        if self.wanted.is_empty()
            && let Some(next) = self.page.take()
        {
            self.is_done = next.is_none();
            self.through = next.or(self.through.take());
        }
    }

    pub(super) fn through(&self) -> Option<&CopyPlace> {
        self.through.as_ref()
    }
}

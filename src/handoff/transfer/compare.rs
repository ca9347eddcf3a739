//! What a target lacks of what a source has: the leaves of the source's tree, page by page; where one sums
//! something else than is here, the marks of its keys; then those keys of them that the target lacks.
//! Costs what differs, and a few bytes for every 512 keys.
//!
//! Leaves say nothing of promises, which trees do not count: tables that have such are compared by marks
//! throughout, and so is everything with a source that has no tree to tell of.
//!
//! It is asked for the next question and told the answers, and nobody else looks inside.

use std::collections::VecDeque;

use crate::message::{CopyLeaves, CopyMark, CopyPlace, CopyStretch, CopyTold, CopyWhat};
use crate::repair::tree::{Place, Range};
use crate::types::{ClassId, ClusterState, TableId, TableKind};

/// A comparison with one source, from a place of the unit on.
#[derive(Debug)]
pub(super) struct Comparison {
    /// Nobody is going to be an owner by it: the target may go by its tree.
    mirrors: bool,
    /// What is here and not there goes: nothing is to be left but what the source has.
    exact: bool,
    /// Everything up to here has been compared, and what was lacking is here.
    through: Option<CopyPlace>,
    /// What leaves say nothing of, in order.
    by_marks: Vec<Range>,
    leaves: Leaves,
    /// What has yet to be compared by marks of what leaves have been told of, in order.
    parts: VecDeque<Range>,
    /// The page of marks that is looked at: where it ends (`None`: with its part).
    page: Option<Option<CopyPlace>>,
    /// Keys of it that are still to be brought.
    wanted: VecDeque<CopyPlace>,
}

/// How far leaves have been told.
#[derive(Debug)]
enum Leaves {
    /// Those from here on are to be asked for.
    From(Place),
    /// These were told, from there on, and are looked at.
    Told(Place, CopyLeaves),
    /// Where they differ is known. Once that is here everything up to the one place is, and the next begin
    /// at the other.
    Found(Option<CopyPlace>, Option<Place>),
    /// There are no more, or the source tells of none.
    Over,
}

/// Keys asked for at once.
const KEYS_MAX: usize = 512;

/// The parts of a unit in which two replicas may differ though trees do not: tables that keep promises, and
/// those that the state has yet to hear of.
pub(super) fn by_marks(state: &ClusterState, class: ClassId) -> Vec<Range> {
    let edge = |id: TableId| id.0.checked_add(1).map(|next| Place::edge(TableId(next)));
    let keeps_promises = |kind| kind == TableKind::Linearizable;
    let tables = state.tables.iter().filter(|table| {
        table.class == class && keeps_promises(table.kind) && !crate::mutant!("registers-by-leaves")
    });
    let tables = tables.map(|table| Range { from: Place::edge(table.id), to: edge(table.id) });
    let unknown = edge(state.table_id_max).map(|from| Range { from, to: None });
    union(tables.chain(unknown).collect())
}

/// Ranges, in order, those that meet as one.
fn union(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_by(|a, b| a.from.cmp(&b.from));
    let mut all: Vec<Range> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if last.to.as_ref().is_none_or(|to| *to >= range.from) => {
                if last.to.is_some()
                    && range.to.as_ref().is_none_or(|to| Some(to) > last.to.as_ref())
                {
                    last.to = range.to;
                }
            }
            _ => all.push(range),
        }
    }
    all
}

/// What of a range is in another one.
fn clipped(range: &Range, to: &Range) -> Option<Range> {
    let from = range.from.clone().max(to.from.clone());
    let end = match (&range.to, &to.to) {
        (Some(one), Some(other)) => Some(one.min(other).clone()),
        (one, other) => one.clone().or(other.clone()),
    };
    end.as_ref().is_none_or(|end| from < *end).then_some(Range { from, to: end })
}

impl Comparison {
    pub(super) fn behind(through: Option<CopyPlace>, by_marks: Vec<Range>) -> Comparison {
        let from = through.as_ref().map_or(Place::first(), CopyPlace::place);
        let (leaves, parts) = (Leaves::From(from), VecDeque::new());
        let (mirrors, exact, page, wanted) = (false, false, None, VecDeque::new());
        Comparison { mirrors, exact, through, by_marks, leaves, parts, page, wanted }
    }

    /// One after which nothing is here but what the source has.
    pub(super) fn exactly(self) -> Comparison {
        Comparison { exact: !crate::mutant!("mirror-keeps-unlisted"), ..self }
    }

    /// The same for a unit that is only mirrored.
    pub(super) fn mirrors(self) -> Comparison {
        Comparison { mirrors: true, ..self.exactly() }
    }

    /// What the disk has to be asked about marks of a stretch that end at `next`.
    pub(super) fn of_marks(
        &self,
        stretch: CopyStretch,
        next: Option<CopyPlace>,
        marks: Vec<CopyMark>,
    ) -> CopyTold {
        match self.exact {
            true => CopyTold::Exactly(stretch, next, marks),
            false => CopyTold::Marks(marks),
        }
    }

    /// What to ask the source next; `None` when all has been compared, or an answer is being looked at.
    pub(super) fn question(&self) -> Option<CopyWhat> {
        if self.page.is_some() {
            let keys = self.wanted.iter().take(KEYS_MAX).cloned();
            return Some(CopyWhat::Keys(keys.collect()));
        }
        match (self.parts.front(), &self.leaves) {
            (Some(part), _) => {
                let (range, after) = (part.clone(), self.through.clone());
                Some(CopyWhat::Marks(CopyStretch { range, after }))
            }
            (None, Leaves::From(from)) => {
                Some(CopyWhat::Leaves(from.clone(), self.through.clone()))
            }
            (None, _) => None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.page.is_none() && self.parts.is_empty() && matches!(self.leaves, Leaves::Over)
    }

    /// The source tells these leaves. Returns those that have to be compared with what is here; `None`
    /// where they cannot be leaves of a tree.
    pub(super) fn on_leaves(&mut self, told: CopyLeaves) -> Option<CopyTold> {
        let Leaves::From(from) = &self.leaves else { return None };
        if !told.fits(from) {
            return None;
        }
        // A leaf ends where the next table begins of which the source has something. Between there may be
        // tables of which something is here alone.
        let ends_in = |by: &Range, range: &Range| {
            by.to.is_none() || range.to.as_ref().is_some_and(|to| Some(to) <= by.to.as_ref())
        };
        let is_in = |by: &Range, range: &Range| {
            by.holds(&range.from) && (!self.exact || ends_in(by, range))
        };
        let is_known = |range: &Range| !self.by_marks.iter().any(|by| is_in(by, range));
        let sums = told.sums().filter(|(range, _)| is_known(range)).collect();
        self.leaves = Leaves::Told(from.clone(), told);
        Some(match (self.exact, self.mirrors) {
            (true, true) => CopyTold::MirrorSums(sums),
            (true, false) => CopyTold::ExactSums(sums),
            (false, _) => CopyTold::Sums(sums),
        })
    }

    /// Of the leaves that were told these ranges differ from what is here.
    pub(super) fn on_differing(&mut self, differing: Vec<Range>) {
        let told = core::mem::replace(&mut self.leaves, Leaves::Over);
        let Leaves::Told(from, CopyLeaves { leaves, end }) = told else {
            self.leaves = told;
            return;
        };
        if differing.is_empty() {
            crate::sometimes!("transfer: leaves are the same here");
        } else {
            crate::sometimes!("transfer: leaves differ from what is here");
        }
        let page = Range { from, to: end.clone() };
        let by_marks = self.by_marks.iter().filter_map(|by| clipped(by, &page));
        // Of what is before the first leaf the source has nothing; here there may be something.
        let first = leaves.first().map(|(place, _)| place).or(end.as_ref());
        let bare = Range { from: page.from.clone(), to: first.cloned() };
        let skips = crate::mutant!("mirror-skips-empty");
        let bare =
            (self.exact && !skips && first.is_none_or(|first| *first > page.from)).then_some(bare);
        self.parts = union(differing.into_iter().chain(by_marks).chain(bare).collect()).into();
        let reached = leaves.iter().rev().find_map(|(place, _)| CopyPlace::at(place));
        if crate::mutant!("leaves-through-early") {
            self.through = reached.clone().max(self.through.take());
        }
        self.leaves = Leaves::Found(reached, end);
        self.end_leaves();
    }

    /// The source has given marks where it was asked for leaves: so it is compared from here on.
    pub(super) fn on_no_leaves(&mut self) {
        self.leaves = Leaves::Over;
        self.parts = [Range::default()].into();
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
        if !self.wanted.is_empty() {
            return;
        }
        let Some(next) = self.page.take() else { return };
        if next.is_none() {
            self.parts.pop_front();
            self.end_leaves();
        }
        self.through = next.max(self.through.take());
    }

    /// If nothing is left of the leaves that were told, the next are asked for.
    fn end_leaves(&mut self) {
        if !self.parts.is_empty() || !matches!(self.leaves, Leaves::Found(..)) {
            return;
        }
        if let Leaves::Found(reached, next) = core::mem::replace(&mut self.leaves, Leaves::Over) {
            self.through = reached.max(self.through.take());
            self.leaves = next.map_or(Leaves::Over, Leaves::From);
        }
    }

    pub(super) fn through(&self) -> Option<&CopyPlace> {
        self.through.as_ref()
    }
}

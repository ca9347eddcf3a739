//! Pulling one source: one question at a time, its answer merged. What has come of an empty target's
//! first source is merged while the next page is on its way.

use std::collections::{BTreeMap, VecDeque};

use super::compare::Comparison;
use crate::message::{CopyContent, CopyEntry, CopyMark, CopyPage, CopyPlace, CopyWhat};
use crate::types::{NodeId, Time};

/// Pages that are being merged while the next is on its way.
const MERGING_MAX: usize = 2;

/// One source being pulled.
#[derive(Debug)]
pub(super) struct Pull {
    /// Names the session.
    pub(super) op: u64,
    pub(super) source: NodeId,
    way: Way,
    round: u32,
    pub(super) asked: Option<Asked>,
    comparing: Option<(u32, Option<CopyPlace>)>,
    merging: VecDeque<Merging>,
    /// Bytes that came since progress was last stored.
    pub(super) unsaved: u64,
    /// Nothing is asked before this.
    pub(super) held_until: Time,
}

/// How the source is pulled.
#[derive(Debug)]
enum Way {
    /// Everything behind a place (`None`: all), and where everything before is here.
    Straight {
        next: Option<Option<CopyPlace>>,
        through: Option<CopyPlace>,
    },
    Compare(Comparison),
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Asked {
    round: u32,
    what: CopyWhat,
    pub(super) since: Time,
    pub(super) tries: u32,
    parts: BTreeMap<u16, CopyPage>,
}

#[derive(Debug)]
struct Merging {
    round: u32,
    next: Option<CopyPlace>,
    is_done: bool,
}

/// What is to be done with an answer.
#[derive(Debug)]
pub(super) enum Got {
    Compare(u32, Vec<CopyMark>),
    Merge(u32, Vec<CopyEntry>),
    /// Nothing yet, or nothing at all.
    Nothing,
    /// It is no answer to the question.
    Nonsense,
}

impl Pull {
    pub(super) fn new(op: u64, source: NodeId, straight: bool, through: Option<CopyPlace>) -> Pull {
        let way = if straight {
            Way::Straight { next: Some(through.clone()), through }
        } else {
            Way::Compare(Comparison::behind(through))
        };
        Pull {
            op,
            source,
            way,
            round: 0,
            asked: None,
            comparing: None,
            merging: VecDeque::new(),
            unsaved: 0,
            held_until: Time(0),
        }
    }

    /// Whether there is something to ask, and room for the answer.
    pub(super) fn may_ask(&self) -> bool {
        if self.asked.is_some() || self.comparing.is_some() {
            return false;
        }
        match &self.way {
            Way::Straight { next, .. } => next.is_some() && self.merging.len() < MERGING_MAX,
            Way::Compare(comparison) => self.merging.is_empty() && comparison.question().is_some(),
        }
    }

    /// The next question, or the last one again.
    pub(super) fn ask(&mut self, now: Time) -> Option<(u32, CopyWhat)> {
        let (what, tries) = match self.asked.take() {
            Some(asked) => (asked.what, asked.tries + 1),
            None => {
                let what = match &self.way {
                    Way::Straight { next, .. } => CopyWhat::All(next.clone()?),
                    Way::Compare(comparison) => comparison.question()?,
                };
                (what, 0)
            }
        };
        self.round += 1;
        let (round, parts) = (self.round, BTreeMap::new());
        self.asked = Some(Asked { round, what: what.clone(), since: now, tries, parts });
        Some((round, what))
    }

    /// Whether a round is that of the question on its way.
    pub(super) fn waits_for(&self, round: u32) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.round == round)
    }

    /// A part of the answer has come.
    pub(super) fn on_part(&mut self, (part, parts): (u16, u16), page: CopyPage) -> Got {
        let Some(asked) = &mut self.asked else { return Got::Nothing };
        self.unsaved += u64::try_from(page.bytes()).unwrap_or(u64::MAX);
        asked.parts.insert(part, page);
        if asked.parts.len() < usize::from(parts) {
            return Got::Nothing;
        }
        let Some(Asked { round, what, parts, .. }) = self.asked.take() else { return Got::Nothing };
        let (mut entries, mut marks, mut next) = (Vec::new(), None, None);
        for page in parts.into_values() {
            next = page.next;
            match page.content {
                CopyContent::Records(some) => entries.extend(some),
                CopyContent::Marks(some) => marks = Some(some),
            }
        }
        match (&mut self.way, what, marks) {
            (Way::Compare(_), CopyWhat::Marks(after), Some(marks)) => {
                if next.is_some() && next <= after {
                    return Got::Nonsense;
                }
                self.comparing = Some((round, next));
                Got::Compare(round, marks)
            }
            (Way::Straight { next: from, .. }, CopyWhat::All(after), None) => {
                if next.is_some() && next <= after {
                    return Got::Nonsense;
                }
                *from = next.clone().map(Some);
                self.merging.push_back(Merging { round, next, is_done: false });
                Got::Merge(round, entries)
            }
            (Way::Compare(_), CopyWhat::Keys(keys), None) => {
                if next.as_ref().is_some_and(|next| keys.first() > Some(next)) {
                    return Got::Nonsense;
                }
                self.merging.push_back(Merging { round, next, is_done: false });
                Got::Merge(round, entries)
            }
            _ => Got::Nonsense,
        }
    }

    pub(super) fn on_compared(&mut self, round: u32, wanted: Vec<CopyPlace>) {
        if let Some((_, next)) = self.comparing.take_if(|(of, _)| *of == round)
            && let Way::Compare(comparison) = &mut self.way
        {
            comparison.on_wanted(wanted, next);
        }
    }

    /// What had come in this round is here.
    pub(super) fn on_merged(&mut self, round: u32) {
        for merging in &mut self.merging {
            merging.is_done |= merging.round == round;
        }
        while self.merging.front().is_some_and(|first| first.is_done) {
            let Some(merged) = self.merging.pop_front() else { break };
            match &mut self.way {
                Way::Straight { through, .. } => *through = merged.next.or(through.take()),
                Way::Compare(comparison) => comparison.on_brought(merged.next.as_ref()),
            }
        }
    }

    /// Everything up to here is here.
    pub(super) fn through(&self) -> Option<&CopyPlace> {
        match &self.way {
            Way::Straight { through, .. } => through.as_ref(),
            Way::Compare(comparison) => comparison.through(),
        }
    }

    /// Whether everything the source has is here.
    pub(super) fn is_done(&self) -> bool {
        let is_through = match &self.way {
            Way::Straight { next, .. } => next.is_none(),
            Way::Compare(comparison) => comparison.question().is_none(),
        };
        is_through && self.merging.is_empty() && self.asked.is_none() && self.comparing.is_none()
    }
}

//! Pulling one source: one question at a time, its answer merged, or a chunk of a file put to others.
//! What has come of an empty target's first source is merged while the next page is on its way.

use std::collections::{BTreeMap, VecDeque};

use super::compare::Comparison;
use crate::message::{
    CopyChunk, CopyContent, CopyEntry, CopyFile, CopyLack, CopyPage, CopyPlace, CopyStretch,
    CopyTold, CopyWhat, SourceFloor,
};
use crate::repair::tree::Range;
use crate::types::{NodeId, Stamp, Time};

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
    /// What is being compared with what is here, and where a page of marks ends.
    comparing: Option<(u32, Option<CopyPlace>)>,
    merging: VecDeque<Merging>,
    /// Bytes that came since progress was last stored.
    pub(super) unsaved: u64,
    /// Nothing is asked before this.
    pub(super) held_until: Time,
    /// What the source has said of the purge floor.
    pub(super) floor: SourceFloor,
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
    Files(Files),
}

/// The source's files of the unit, put together one after another.
#[derive(Debug, Default)]
struct Files {
    /// `None` until the source has told them.
    files: Option<Vec<CopyFile>>,
    /// What was staged before is gone.
    is_clear: bool,
    /// Which is next, and from where on.
    at: usize,
    offset: u64,
}

impl Files {
    fn question(&self) -> Option<CopyWhat> {
        let Some(files) = &self.files else { return Some(CopyWhat::Files) };
        let file = files.get(self.at).filter(|_| self.is_clear)?;
        Some(CopyWhat::Chunk(file.name.clone(), self.offset))
    }

    /// A chunk has come; whether it can be one of the file.
    fn advance(&mut self, bytes: usize) -> bool {
        let file = self.files.as_ref().and_then(|files| files.get(self.at));
        let Some(file) = file.filter(|_| bytes > 0) else { return false };
        self.offset += u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.offset < file.bytes {
            return true;
        }
        let fits = self.offset == file.bytes;
        (self.at, self.offset) = (self.at + 1, 0);
        fits
    }

    fn is_done(&self) -> bool {
        self.is_clear && self.files.as_ref().is_some_and(|files| self.at >= files.len())
    }

    fn done_milli(&self) -> u64 {
        let files = self.files.as_deref().unwrap_or_default();
        let all: u64 = files.iter().map(|file| file.bytes).sum();
        let done: u64 = files.iter().take(self.at).map(|file| file.bytes).sum();
        (done + self.offset).saturating_mul(1000).checked_div(all).unwrap_or(0)
    }
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
    Compare(u32, CopyTold),
    Merge(u32, Vec<CopyEntry>),
    /// What was staged before is to go.
    Clear(u32),
    Stage(u32, String, u64, CopyChunk),
    /// Nothing yet, or nothing at all.
    Nothing,
    /// It is no answer to the question.
    Nonsense,
}

/// How a pull begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Everything, as files; the range holds nothing.
    Files,
    /// Everything behind a place.
    Straight,
    /// What differs behind a place.
    Compare,
    /// The same, and what is here alone goes: the range becomes what the source has.
    Exact,
    /// The same of a unit that is only mirrored.
    Mirror,
}

impl Pull {
    /// `by_marks`: the parts of the unit of which trees do not tell all, for a comparison.
    pub(super) fn new(
        op: u64,
        source: NodeId,
        (begin, by_marks): (Begin, Vec<Range>),
        through: Option<CopyPlace>,
    ) -> Pull {
        let way = match begin {
            Begin::Files => Way::Files(Files::default()),
            Begin::Straight => Way::Straight { next: Some(through.clone()), through },
            Begin::Compare => Way::Compare(Comparison::behind(through, by_marks)),
            Begin::Exact => Way::Compare(Comparison::behind(through, by_marks).exactly()),
            Begin::Mirror => Way::Compare(Comparison::behind(through, by_marks).mirrors()),
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
            floor: SourceFloor::default(),
        }
    }

    /// The source says its floor, and up to where it has agreed: neither ever goes back.
    pub(super) fn on_floor(&mut self, floor: Stamp, agreed: Stamp, is_first: bool) {
        self.floor = SourceFloor {
            floor: self.floor.floor.max(floor),
            agreed: self.floor.agreed.max(agreed),
            is_first,
        };
    }

    /// Whether there is something to ask, and room for the answer.
    pub(super) fn may_ask(&self) -> bool {
        if self.asked.is_some() || self.comparing.is_some() {
            return false;
        }
        match &self.way {
            Way::Straight { next, .. } => next.is_some() && self.merging.len() < MERGING_MAX,
            Way::Compare(comparison) => self.merging.is_empty() && comparison.question().is_some(),
            Way::Files(files) => files.question().is_some() && self.merging.len() < MERGING_MAX,
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
                    Way::Files(files) => files.question()?,
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
        let (mut content, mut next) = (CopyContent::Records(Vec::new()), None);
        for page in parts.into_values() {
            next = page.next;
            match (&mut content, page.content) {
                (CopyContent::Records(all), CopyContent::Records(some)) => all.extend(some),
                (_, other) => content = other,
            }
        }
        self.on_page((round, what), content, next)
    }

    fn on_page(
        &mut self,
        (round, what): (u32, CopyWhat),
        content: CopyContent,
        next: Option<CopyPlace>,
    ) -> Got {
        let goes_on = |after: &Option<CopyPlace>| next.is_none() || next > *after;
        match (&mut self.way, what, content) {
            (Way::Compare(comparison), CopyWhat::Marks(stretch), CopyContent::Marks(marks))
                if goes_on(&stretch.after) =>
            {
                self.comparing = Some((round, next.clone()));
                Got::Compare(round, comparison.of_marks(stretch, next, marks))
            }
            (Way::Compare(comparison), CopyWhat::Leaves(_, after), CopyContent::Marks(marks))
                if goes_on(&after) =>
            {
                comparison.on_no_leaves();
                self.comparing = Some((round, next.clone()));
                Got::Compare(round, comparison.of_marks(CopyStretch::behind(after), next, marks))
            }
            (Way::Compare(comparison), CopyWhat::Leaves(..), CopyContent::Leaves(leaves)) => {
                let Some(told) = comparison.on_leaves(leaves) else { return Got::Nonsense };
                self.comparing = Some((round, None));
                Got::Compare(round, told)
            }
            (
                Way::Straight { next: from, .. },
                CopyWhat::All(after),
                CopyContent::Records(some),
            ) if goes_on(&after) => {
                *from = next.clone().map(Some);
                self.begin_merge(round, next);
                Got::Merge(round, some)
            }
            (Way::Compare(_), CopyWhat::Keys(keys), CopyContent::Records(some))
                if next.is_none() || next.as_ref() >= keys.first() =>
            {
                self.begin_merge(round, next);
                Got::Merge(round, some)
            }
            (way @ Way::Files(_), CopyWhat::Files, CopyContent::Records(some)) => {
                // The source would rather give records.
                *way = Way::Straight { next: next.clone().map(Some), through: None };
                self.begin_merge(round, next);
                Got::Merge(round, some)
            }
            (Way::Files(files), CopyWhat::Files, CopyContent::Files(all)) => {
                files.files = Some(all);
                self.begin_merge(round, None);
                Got::Clear(round)
            }
            (Way::Files(files), CopyWhat::Chunk(name, offset), CopyContent::Chunk(chunk)) => {
                if !files.advance(chunk.bytes.len()) {
                    return Got::Nonsense;
                }
                self.begin_merge(round, None);
                Got::Stage(round, name, offset, chunk)
            }
            _ => Got::Nonsense,
        }
    }

    fn begin_merge(&mut self, round: u32, next: Option<CopyPlace>) {
        self.merging.push_back(Merging { round, next, is_done: false });
    }

    pub(super) fn on_compared(&mut self, round: u32, lack: CopyLack) {
        if let Some((_, next)) = self.comparing.take_if(|(of, _)| *of == round)
            && let Way::Compare(comparison) = &mut self.way
        {
            match lack {
                CopyLack::Keys(wanted) => comparison.on_wanted(wanted, next),
                CopyLack::Ranges(differing) => comparison.on_differing(differing),
            }
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
                Way::Files(files) => files.is_clear = true,
            }
        }
    }

    /// Everything up to here is here.
    pub(super) fn through(&self) -> Option<&CopyPlace> {
        match &self.way {
            Way::Straight { through, .. } => through.as_ref(),
            Way::Compare(comparison) => comparison.through(),
            Way::Files(_) => None,
        }
    }

    /// All files, if it is files that are pulled.
    pub(super) fn files(&self) -> Option<&[CopyFile]> {
        match &self.way {
            Way::Files(files) => Some(files.files.as_deref().unwrap_or_default()),
            Way::Straight { .. } | Way::Compare(_) => None,
        }
    }

    /// How far it is, in thousandths, where that can be told.
    pub(super) fn done_milli(&self) -> u64 {
        match &self.way {
            Way::Files(files) => files.done_milli(),
            Way::Straight { .. } | Way::Compare(_) => 0,
        }
    }

    /// Whether everything the source has is here.
    pub(super) fn is_done(&self) -> bool {
        let is_through = match &self.way {
            Way::Straight { next, .. } => next.is_none(),
            Way::Compare(comparison) => comparison.is_done(),
            Way::Files(files) => files.is_done(),
        };
        is_through && self.merging.is_empty() && self.asked.is_none() && self.comparing.is_none()
    }
}

//! What a replica takes of what is late, and what it purges: by the floor and the gate of a unit, and by
//! nothing else. No clock decides: what has expired by the time of the floor has expired.

use super::stamp_at;
use crate::causality::{Acceptor, Dot, SiblingSet};
use crate::types::{Record, Stamp, WallTime};

/// How far a unit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The floor.
    pub floor: Stamp,
    /// The gate. INVARIANT: not below the floor.
    pub gate: Stamp,
}

/// From where something arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A write, a hint, a read repair.
    Outside,
    /// Another complete owner, in an exchange, or a source.
    Owner,
}

/// What is to be done with something that is lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Take,
    /// Take it; what was vouched for is void.
    TakeAndVoid,
    /// Drop it, and answer as if it were there.
    Drop,
    /// Refuse it.
    Refuse,
}

impl Bounds {
    /// What is to be done with a version that is lacking: there is none, or an older one.
    pub fn judge(self, stamp: Stamp, from: From) -> Verdict {
        if stamp > self.gate || crate::mutant!("late-copy-taken") {
            Verdict::Take
        } else if stamp <= self.floor {
            Verdict::Drop
        } else if from == From::Owner {
            Verdict::TakeAndVoid
        } else if crate::mutant!("gate-open") {
            Verdict::Take
        } else {
            Verdict::Refuse
        }
    }

    /// The same of a set of siblings that would change `own`, dot by dot: writes that are lacking at or
    /// below the floor are taken out of it, since whoever had them has deleted them.
    pub fn judge_set(self, own: &SiblingSet, arriving: &mut SiblingSet, from: From) -> Verdict {
        let Some((lowest, highest)) = span(arriving) else { return Verdict::Take };
        if lowest > self.gate {
            return Verdict::Take;
        }
        let lacks = |dot: Dot| !own.context().covers(dot);
        let purged = |dot: Dot| dot.stamp() <= self.floor && lacks(dot);
        if arriving.writes().any(|(dot, _)| purged(dot)) && !crate::mutant!("late-copy-taken") {
            crate::sometimes!("floor: a late sibling is dropped");
            let kept = arriving.writes().filter(|(dot, _)| !purged(*dot));
            let kept: Vec<_> = kept.map(|(dot, write)| (dot, write.clone())).collect();
            // INVARIANT: the context covers all of them.
            *arriving = SiblingSet::new(arriving.context().clone(), kept).unwrap_or_default();
        }
        let mut after = own.clone();
        after.join(arriving.clone());
        if after.sketch() == own.sketch() {
            return Verdict::Take;
        }
        let is_new = highest > self.gate
            && !arriving.writes().any(|(dot, _)| dot.stamp() <= self.gate && lacks(dot));
        match from {
            // What it takes the place of has been superseded by what is above the gate.
            From::Outside if is_new => Verdict::Take,
            From::Outside if highest > self.gate => Verdict::Refuse,
            From::Owner if highest > self.gate => Verdict::TakeAndVoid,
            _ => self.judge(highest, from),
        }
    }
}

/// The lowest and the highest of all that a set has seen.
fn span(set: &SiblingSet) -> Option<(Stamp, Stamp)> {
    let context = set.context();
    let marks = context.marks().map(|(actor, tick)| Dot { actor, tick });
    let stamps = marks.chain(context.singles()).map(Dot::stamp);
    stamps.fold(None, |ends, stamp| {
        let (lowest, highest) = ends.unwrap_or((stamp, stamp));
        Some((stamp.min(lowest), stamp.max(highest)))
    })
}

/// When a version that expires is as good as deleted: by the time of a floor, not by a clock.
fn ends_at(stamp: Stamp, expiry: WallTime) -> Stamp {
    stamp.max(stamp_at(expiry))
}

/// The lowest floor at which a version is purged; `None`: never.
pub fn version_ends(record: &Record) -> Option<Stamp> {
    match (&record.value, record.expiry) {
        (None, _) => Some(record.stamp),
        (Some(_), Some(expiry)) => Some(ends_at(record.stamp, expiry)),
        (Some(_), None) => None,
    }
}

/// The lowest floor at which anything of a set is purged.
pub fn set_ends(set: &SiblingSet) -> Option<Stamp> {
    if set.writes().len() == 0 {
        return span(set).map(|(_, highest)| highest);
    }
    let ends = set.writes().filter_map(|(dot, write)| Some(ends_at(dot.stamp(), write.expiry?)));
    ends.min()
}

/// The lowest floor at which an acceptor is purged: one that has accepted nothing, or a delete. An absent
/// one counts as promised at the floor.
pub fn acceptor_ends(acceptor: &Acceptor) -> Option<Stamp> {
    let is_deleted = acceptor.accepted().is_none_or(|accepted| accepted.state.value.is_none());
    is_deleted.then(|| acceptor.promised())
}

/// What is left of a set at a floor: siblings that have expired are deleted, and a set without any is
/// nothing when all it has seen is at or below the floor.
pub fn purged(set: &SiblingSet, floor: Stamp) -> Option<SiblingSet> {
    let gone = |dot: Dot, expiry: Option<WallTime>| {
        expiry.is_some_and(|expiry| ends_at(dot.stamp(), expiry) <= floor)
    };
    let kept = set.writes().filter(|(dot, write)| !gone(*dot, write.expiry));
    let kept: Vec<_> = kept.map(|(dot, write)| (dot, write.clone())).collect();
    if kept.is_empty() && span(set).is_none_or(|(_, highest)| highest <= floor) {
        return None;
    }
    // INVARIANT: the context covers all of them.
    SiblingSet::new(set.context().clone(), kept)
}

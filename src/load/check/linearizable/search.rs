//! The search for an order of effects that explains the answers of one key.

use std::collections::{BTreeMap, BTreeSet};

use crate::load::check::Violation;
use crate::load::history::{Action, Expect, Outcome};
use crate::types::{Key, Stamp, Value};

use super::observed::Known;

/// Most possibilities that one answer is searched through.
const POSSIBILITIES_MAX: usize = 1 << 18;

/// The contents of the register: nothing, or what the operation at this place wrote.
type Contents = Option<usize>;

/// What an operation does to the register.
#[derive(Clone, Debug)]
enum Effect {
    /// Looks, and sees one of these.
    See(BTreeSet<Contents>),
    /// Writes.
    Set(Contents),
    /// Writes where it finds one of these.
    SetIf(BTreeSet<Contents>, Contents),
}

/// One thing that may, or must, take effect.
#[derive(Clone, Debug)]
struct Step {
    effect: Effect,
    /// Its outcome is unknown: it may never take effect.
    open: bool,
}

/// How the register may stand, and which open steps have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Possibility {
    contents: Contents,
    done: BTreeSet<usize>,
}

/// A call or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Begins(usize),
    Ends(usize),
}

/// Looks for an explanation of all answers of `key`.
pub(super) fn explain(key: &Key, operations: &[Known]) -> Option<Violation> {
    let (steps, happenings) = script(operations);
    let mut search = Search { steps, running: BTreeSet::new(), possible: BTreeSet::new() };
    search.possible.insert(Possibility { contents: None, done: BTreeSet::new() });
    for (_, happening) in happenings {
        match happening {
            Happening::Begins(step) => search.begin(step),
            Happening::Ends(step) => {
                let decided = search.end(step);
                let (key, Some(known)) = (key.clone(), operations.get(step)) else { continue };
                let op = known.op;
                if !decided {
                    return Some(Violation::Undecided { key, op });
                }
                if search.possible.is_empty() {
                    return Some(Violation::NotLinearizable { key, op });
                }
            }
        }
    }
    None
}

#[derive(Debug)]
struct Search {
    steps: BTreeMap<usize, Step>,
    /// Begun and not over.
    running: BTreeSet<usize>,
    possible: BTreeSet<Possibility>,
}

impl Search {
    fn begin(&mut self, step: usize) {
        self.running.insert(step);
        let possible = core::mem::take(&mut self.possible);
        self.possible = possible.into_iter().map(|one| self.looked(one)).collect();
    }

    /// Marks what only looks and sees what is there.
    fn looked(&self, mut one: Possibility) -> Possibility {
        for step in &self.running {
            if let Some(Step { effect: Effect::See(seen), .. }) = self.steps.get(step)
                && seen.contains(&one.contents)
            {
                one.done.insert(*step);
            }
        }
        one
    }

    /// Keeps the possibilities in which `step` has taken effect. Returns false when there are too
    /// many of them to look at.
    fn end(&mut self, step: usize) -> bool {
        let mut waiting: Vec<Possibility> =
            core::mem::take(&mut self.possible).into_iter().collect();
        let mut visited: BTreeSet<Possibility> = waiting.iter().cloned().collect();
        let mut kept = BTreeSet::new();
        while let Some(mut one) = waiting.pop() {
            if one.done.remove(&step) {
                kept.insert(one);
                continue;
            }
            for next in self.nexts(&one) {
                if visited.len() > POSSIBILITIES_MAX {
                    return false;
                }
                if visited.insert(next.clone()) {
                    waiting.push(next);
                }
            }
        }
        self.running.remove(&step);
        self.possible = self.able(kept);
        true
    }

    /// What one more effect makes of a possibility.
    fn nexts(&self, one: &Possibility) -> Vec<Possibility> {
        let mut nexts = Vec::new();
        let mut deleted = false;
        for place in self.running.difference(&one.done) {
            let Some(step) = self.steps.get(place) else { continue };
            let contents = match &step.effect {
                Effect::See(_) => continue,
                // Deletes of unknown outcome are alike: the oldest stands for all.
                Effect::Set(None) if step.open && core::mem::replace(&mut deleted, true) => {
                    continue;
                }
                Effect::Set(contents) => *contents,
                Effect::SetIf(found, contents) if found.contains(&one.contents) => *contents,
                Effect::SetIf(..) => continue,
            };
            let mut done = one.done.clone();
            done.insert(*place);
            nexts.push(self.looked(Possibility { contents, done }));
        }
        nexts
    }

    /// Drops what another possibility can do as well: same contents, same steps that must take
    /// effect, and fewer of those that may.
    fn able(&self, possible: BTreeSet<Possibility>) -> BTreeSet<Possibility> {
        type Alike = (Contents, BTreeSet<usize>);
        let mut groups: BTreeMap<Alike, Vec<BTreeSet<usize>>> = BTreeMap::new();
        for Possibility { contents, done } in possible {
            let open = |step: &usize| self.steps.get(step).is_some_and(|step| step.open);
            let (may, must) = done.into_iter().partition(open);
            groups.entry((contents, must)).or_default().push(may);
        }
        let mut able = BTreeSet::new();
        for ((contents, must), mut used) in groups {
            used.sort_by_key(BTreeSet::len);
            let mut least: Vec<BTreeSet<usize>> = Vec::new();
            for may in used {
                if !least.iter().any(|less| less.is_subset(&may)) {
                    least.push(may);
                }
            }
            able.extend(least.into_iter().map(|may| {
                let done = must.union(&may).copied().collect();
                Possibility { contents, done }
            }));
        }
        able
    }
}

/// What may stand in the register, by value and by stamp.
struct Versions<'a> {
    by_value: BTreeMap<&'a [u8], BTreeSet<Contents>>,
    by_stamp: BTreeMap<Stamp, BTreeSet<Contents>>,
    /// The versions that writes said they made.
    stamps: BTreeMap<usize, Stamp>,
}

impl<'a> Versions<'a> {
    fn of(operations: &'a [Known]) -> Versions<'a> {
        let mut versions = Versions {
            by_value: BTreeMap::new(),
            by_stamp: BTreeMap::new(),
            stamps: BTreeMap::new(),
        };
        for (place, known) in operations.iter().enumerate().filter(|(_, known)| known.may_write()) {
            let Some(value) = known.written() else { continue };
            versions.by_value.entry(value.as_bytes()).or_default().insert(Some(place));
            if let Some(stamp) = known.stamp() {
                versions.stamps.insert(place, stamp);
                versions.by_stamp.entry(stamp).or_default().insert(Some(place));
            }
        }
        for known in operations {
            if let Some((Some(value), stamp)) = known.seen() {
                let shown = versions.seen(Some(value), stamp);
                versions.by_stamp.entry(stamp).or_default().extend(shown);
            }
        }
        versions
    }

    /// What shows as this value in this version.
    fn seen(&self, value: Option<&Value>, stamp: Stamp) -> BTreeSet<Contents> {
        let Some(value) = value else { return BTreeSet::from([None]) };
        let writers = self.by_value.get(value.as_bytes()).into_iter().flatten();
        let is_it = |place: &&Contents| {
            let known = place.and_then(|place| self.stamps.get(&place));
            known.is_none_or(|known| *known == stamp)
        };
        writers.filter(is_it).copied().collect()
    }

    /// What is as expected. A stamp that no value was shown under is a tombstone's.
    fn expected(&self, expect: &Expect) -> BTreeSet<Contents> {
        match expect {
            Expect::Absent => BTreeSet::from([None]),
            Expect::Value(value) => {
                self.by_value.get(value.as_bytes()).cloned().unwrap_or_default()
            }
            Expect::Stamp(stamp) => {
                self.by_stamp.get(stamp).cloned().unwrap_or(BTreeSet::from([None]))
            }
        }
    }
}

/// The steps of a key, and when they begin and end.
fn script(operations: &[Known]) -> (BTreeMap<usize, Step>, Vec<(u64, Happening)>) {
    let versions = Versions::of(operations);
    let mut steps = BTreeMap::new();
    let mut happenings = Vec::new();
    let mut looked_for: BTreeSet<Contents> = BTreeSet::new();
    for (place, known) in operations.iter().enumerate() {
        let effect = match (&known.operation.action, known.seen()) {
            (_, Some((value, stamp))) => Effect::See(versions.seen(value, stamp)),
            _ if !known.may_write() => continue,
            (Action::Get, None) => continue,
            (Action::Put(_), None) => Effect::Set(Some(place)),
            (Action::Delete, None) => Effect::Set(None),
            (Action::Cas(expect, value), None) => {
                let to = value.as_ref().map(|_| place);
                Effect::SetIf(versions.expected(expect), to)
            }
        };
        if let Effect::See(found) | Effect::SetIf(found, _) = &effect {
            looked_for.extend(found);
        }
        let open = known.operation.outcome == Outcome::Unknown;
        steps.insert(place, Step { effect, open });
        happenings.push((known.operation.invoked.order(), Happening::Begins(place)));
        if !open {
            happenings.push((known.operation.end().order(), Happening::Ends(place)));
        }
    }
    let unseen = |step: &Step| match step.effect {
        Effect::Set(to @ Some(_)) | Effect::SetIf(_, to @ Some(_)) => !looked_for.contains(&to),
        _ => false,
    };
    // One that expires shows by being gone.
    let lasts =
        |place: &usize| operations.get(*place).is_some_and(|known| known.operation.life.is_none());
    let left_out: BTreeSet<usize> = steps
        .iter()
        .filter_map(|(place, step)| (step.open && lasts(place) && unseen(step)).then_some(*place))
        .collect();
    steps.retain(|place, _| !left_out.contains(place));
    happenings.retain(|(_, happening)| match happening {
        Happening::Begins(place) | Happening::Ends(place) => !left_out.contains(place),
    });
    expiries(operations, &mut steps, &mut happenings);
    happenings.sort();
    (steps, happenings)
}

/// Adds, for each value that expires, its end: a step that may happen once it may have expired.
fn expiries(
    operations: &[Known],
    steps: &mut BTreeMap<usize, Step>,
    happenings: &mut Vec<(u64, Happening)>,
) {
    for (place, known) in operations.iter().enumerate() {
        if !steps.contains_key(&place) {
            continue;
        }
        let Some(at) = known.operation.may_expire_at() else { continue };
        let moments = operations.iter().flat_map(|known| {
            [Some(known.operation.invoked), known.operation.returned].into_iter().flatten()
        });
        let Some(first) = moments.filter(|moment| moment.at >= at).min() else { continue };
        let end = operations.len() + place;
        let effect = Effect::SetIf(BTreeSet::from([Some(place)]), None);
        steps.insert(end, Step { effect, open: true });
        // Sorted before what happens at that moment: beginnings come first.
        happenings.push((first.order().saturating_sub(1), Happening::Begins(end)));
    }
}

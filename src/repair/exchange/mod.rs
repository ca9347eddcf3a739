//! One comparison of a unit between two owners: roots, levels, leaves, cells of their entries, places. One
//! side asks and decides, the other answers from what it has ([`answer()`]); what either side lacks is
//! found in one go. `docs/protocol/repair.md`.
//!
//! Every answer may be lost, late or repeated: a question has a number, and asking again costs no more than
//! the question. Answers of one question may be of different moments: what comes of that is at worst a key that is brought for
//! nothing, and a range that has to be verified again.

mod answer;
mod leaf;
mod terms;

use std::collections::VecDeque;

pub use answer::answer;
use leaf::{Found, Leaf};
pub use terms::{Ask, Cell, Mark, Node, Said, Terms};

use crate::repair::tree::{Entry, Place, Range, Sum, Tree};

/// Entries of a range that are read for one answer.
pub const RANGE_ENTRIES_MAX: usize = 16_384;
/// Places that are asked for at once.
pub const MARKS_MAX: usize = 512;
/// Entries of a range that is divided no more.
const LEAF_ENTRIES: u64 = 2_048;
/// How often a range is looked at before the session gives up on it.
const LOOKS_MAX: u32 = 3;

/// What is to be done about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bring {
    /// The asker is brought what the answerer has.
    Here,
    /// The answerer is brought what the asker has.
    There,
    /// Both are: they are joined.
    Both,
    /// A round of its register, which all owners come to know.
    Round,
}

/// A key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Which.
    pub place: Place,
    /// What is to be done.
    pub bring: Bring,
}

/// What the asker wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An answer to this, under this number.
    Ask(u32, Ask),
    /// The own entries of a range, in order, at most [`RANGE_ENTRIES_MAX`] and one.
    Read(Range),
    /// What differs, brought; then it looks once more.
    Bring(Vec<Lack>),
    /// Nothing.
    Done(Outcome),
}

/// What came of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Both sides hold the same at or below the horizon.
    pub verified: bool,
    /// Ranges that were looked at key by key.
    pub ranges: u64,
    /// Keys that differed.
    pub lacks: u64,
}

#[derive(Clone, Debug)]
enum Now {
    /// Of the tree.
    Asking(Ask),
    /// Own entries of a range are wanted; how many they have of it.
    Reading(Range, u64),
    Looking(Box<Leaf>, Ask),
    Bringing(Range, Vec<Lack>),
    Done,
}

/// A range that differs.
#[derive(Clone, Debug)]
struct Part {
    range: Range,
    /// How many entries they have there.
    theirs: u64,
    /// Whether one of both can divide it.
    divides: bool,
}

/// The side that asks.
#[derive(Clone, Debug)]
pub struct Asker {
    terms: Terms,
    now: Now,
    number: u32,
    ranges: VecDeque<Part>,
    /// How often the range at hand has been looked at.
    looks: u32,
    outcome: Outcome,
}

impl Asker {
    /// A session with an owner of the unit.
    pub fn new(terms: Terms) -> Asker {
        let outcome = Outcome { verified: true, ..Outcome::default() };
        let (now, ranges) = (Now::Asking(Ask::Root), VecDeque::new());
        Asker { terms, now, number: 1, ranges, looks: 0, outcome }
    }

    /// What it wants, until something new is told.
    pub fn step(&self) -> Step {
        match &self.now {
            Now::Asking(ask) | Now::Looking(_, ask) => Step::Ask(self.number, ask.clone()),
            Now::Reading(range, _) => Step::Read(range.clone()),
            Now::Bringing(_, lacks) => Step::Bring(lacks.clone()),
            Now::Done => Step::Done(self.outcome),
        }
    }

    /// The question is asked again: answers to the earlier one count no more.
    pub fn again(&mut self) {
        self.number += 1;
    }

    /// An answer has come. One to another question is passed over.
    pub fn on_answer(&mut self, number: u32, said: Said, tree: &Tree) {
        if number != self.number {
            return;
        }
        match std::mem::replace(&mut self.now, Now::Done) {
            Now::Asking(ask) => self.on_tree(ask, said, tree),
            Now::Looking(leaf, _) => self.on_look(leaf, said),
            other => {
                self.now = other;
                return;
            }
        }
        self.number += 1;
    }

    /// The own entries of the range have been read.
    pub fn on_read(&mut self, entries: Vec<Entry>) {
        let Now::Reading(range, theirs) = &self.now else { return };
        let (range, theirs) = (range.clone(), *theirs);
        if entries.len() > RANGE_ENTRIES_MAX {
            self.outcome.verified = false;
            return self.next_range();
        }
        self.outcome.ranges += u64::from(self.looks == 0);
        self.looks += 1;
        let mut leaf = Leaf::new(range, entries);
        let ask = leaf.first(theirs);
        self.now = Now::Looking(Box::new(leaf), ask);
    }

    /// What differed has been brought, or could not all be: it is looked at once more.
    pub fn on_brought(&mut self) {
        let Now::Bringing(range, lacks) = &self.now else { return };
        let (range, count) = (range.clone(), lacks.len() as u64);
        if self.looks >= LOOKS_MAX {
            self.outcome.verified = false;
            return self.next_range();
        }
        self.now = Now::Reading(range, count.max(LEAF_ENTRIES));
    }

    /// What differs is left as it is: it goes on with the next range, and is not verified.
    pub fn leave(&mut self) {
        if let Now::Bringing(..) = &self.now {
            self.outcome.verified = false;
            self.next_range();
        }
    }

    fn on_look(&mut self, mut leaf: Box<Leaf>, said: Said) {
        match leaf.on_said(said, &self.terms) {
            Found::Ask(ask) => self.now = Now::Looking(leaf, ask),
            Found::Lacks(lacks) => {
                self.outcome.lacks += lacks.len() as u64;
                self.now = Now::Bringing(leaf.range, lacks);
            }
            Found::Equal => self.next_range(),
            Found::Nothing => {
                self.outcome.verified = false;
                self.next_range();
            }
        }
    }

    fn on_tree(&mut self, ask: Ask, said: Said, tree: &Tree) {
        let before = self.ranges.len();
        match (ask, said) {
            (Ask::Root, Said::Root(theirs)) => {
                if theirs == tree.root() {
                    self.now = Now::Done;
                    return;
                }
                self.follow(Range::default(), theirs.count, tree);
            }
            (Ask::Nodes(range), Said::Nodes(nodes)) if !nodes.is_empty() => {
                self.on_nodes(&range, &nodes, tree);
            }
            _ => {}
        }
        if self.ranges.len() == before {
            // They differ, and it cannot be told where; or the answer was none.
            self.outcome.verified = false;
        }
        self.next_range();
    }

    fn on_nodes(&mut self, range: &Range, nodes: &[Node], tree: &Tree) {
        let own = is_whole(range, tree).then(|| tree.sum(range));
        let is_empty = own.is_some_and(|own| own.count == 0);
        let theirs: u64 = nodes.iter().map(|node| node.count).sum();
        if nodes.len() == 1 || theirs == 0 {
            // They do not divide it: our leaves do, and of any range they can tell cells.
            let known = is_whole(range, tree);
            let leaves = leaves(range, tree);
            let leaves = leaves.filter(|leaf| theirs > 0 || !known || tree.sum(leaf).count > 0);
            let part = |range| Part { range, theirs, divides: false };
            return self.ranges.extend(leaves.map(part));
        }
        let froms = nodes.iter().map(|node| node.from.clone());
        let all = parts(range, froms);
        let is_common = |from: &Place| tree.divides_at(from) || is_empty;
        let known = nodes.iter().skip(1).any(|node| is_common(&node.from));
        let mut open: Option<(Range, u64, u64)> = None;
        for (part, node) in all.into_iter().zip(nodes) {
            // Where nothing is in common, it is divided as they have it, and all of it differs.
            let divides = is_common(&part.from) || !known;
            open = match open.take() {
                Some((begun, count, lane)) if !divides => {
                    let joined = Range { from: begun.from, to: part.to };
                    Some((joined, count + node.count, lane.wrapping_add(node.lane)))
                }
                earlier => {
                    self.differs(earlier, tree);
                    Some((part, node.count, node.lane))
                }
            };
        }
        self.differs(open, tree);
    }

    /// Follows a range up if it differs.
    fn differs(&mut self, part: Option<(Range, u64, u64)>, tree: &Tree) {
        let Some((range, count, lane)) = part else { return };
        let own = is_whole(&range, tree).then(|| tree.sum(&range));
        let is_same = |own: Sum| own.count == count && own.print.lane(self.terms.session) == lane;
        if !own.is_some_and(is_same) {
            self.follow(range, count, tree);
        }
    }

    fn follow(&mut self, range: Range, theirs: u64, tree: &Tree) {
        let divides = tree.nodes(&range).len() > 1 || theirs > LEAF_ENTRIES;
        self.ranges.push_back(Part { range, theirs, divides });
    }

    /// Goes on with the next range: it is divided while one side can.
    fn next_range(&mut self) {
        self.looks = 0;
        self.now = match self.ranges.pop_front() {
            None => Now::Done,
            Some(part) if part.divides => Now::Asking(Ask::Nodes(part.range)),
            Some(part) => Now::Reading(part.range, part.theirs),
        };
    }
}

/// Whether the tree knows the sum of a range.
fn is_whole(range: &Range, tree: &Tree) -> bool {
    tree.divides_at(&range.from) && range.to.as_ref().is_none_or(|to| tree.divides_at(to))
}

/// A range, by our leaves.
fn leaves(range: &Range, tree: &Tree) -> impl Iterator<Item = Range> {
    let mut open = vec![range.clone()];
    std::iter::from_fn(move || {
        loop {
            let range = open.pop()?;
            let nodes = tree.nodes(&range);
            if nodes.len() == 1 {
                return Some(range);
            }
            open.extend(parts(&range, nodes.into_iter().map(|(from, _)| from)).into_iter().rev());
        }
    })
}

/// The parts of a range that begin at these places, the first with the range.
fn parts(range: &Range, froms: impl Iterator<Item = Place>) -> Vec<Range> {
    let mut parts: Vec<Range> = Vec::new();
    for from in froms {
        if let Some(last) = parts.last_mut() {
            last.to = Some(from.clone());
        }
        parts.push(Range { from, to: range.to.clone() });
    }
    parts
}

#[cfg(test)]
mod tests;

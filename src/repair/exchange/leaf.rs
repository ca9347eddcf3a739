//! One range that differs, down to its keys: cells, entries, places, and what follows from them.

use std::collections::BTreeMap;

use super::answer::{digests, inside, singles};
use super::terms::{Ask, Cell, Mark, Said, Terms};
use super::{Bring, Lack, MARKS_MAX};
use crate::repair::tree::{Entry, Kind, Place, Range};

/// Entries of a cell that are looked at one by one.
const CELL_ENTRIES: u64 = 12;

/// How a range ended, as far as it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The next question.
    Ask(Ask),
    /// What differs, to be brought.
    Lacks(Vec<Lack>),
    /// All at or below the horizon is the same.
    Equal,
    /// It is not, and nothing was found.
    Nothing,
}

/// A range that is being looked at.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) range: Range,
    own: Vec<Entry>,
    /// What was asked last.
    asked: Vec<Cell>,
    /// Digests of theirs of which there is no like here, and have not been asked for.
    unknown: Vec<u32>,
    /// Entries here of which they have no like.
    alone: Vec<Entry>,
    marks: Vec<Mark>,
}

impl Leaf {
    /// Begins with what is here of the range.
    pub(super) fn new(range: Range, own: Vec<Entry>) -> Leaf {
        let (asked, unknown, alone, marks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Leaf { range, own, asked, unknown, alone, marks }
    }

    /// The first question; `theirs`: how many entries they have, as far as is known.
    pub(super) fn first(&mut self, theirs: u64) -> Ask {
        let few = (self.own.len() as u64).min(theirs) <= CELL_ENTRIES;
        self.ask(vec![Cell::ALL], few)
    }

    fn ask(&mut self, cells: Vec<Cell>, singly: bool) -> Ask {
        self.asked.clone_from(&cells);
        let range = self.range.clone();
        if singly { Ask::Entries(range, cells) } else { Ask::Cells(range, cells) }
    }

    /// Goes on with an answer. One that fits no question is as good as none.
    pub(super) fn on_said(&mut self, said: Said, terms: &Terms) -> Found {
        match said {
            Said::Cells(Some(below), _) | Said::Entries(Some(below), _)
                if below == terms.below(&self.own) || crate::mutant!("skip-called-verified") =>
            {
                Found::Equal
            }
            Said::Cells(_, theirs) => self.on_cells(&theirs, terms),
            Said::Entries(_, theirs) => self.on_entries(&theirs, terms),
            Said::Places(marks) => {
                self.marks.extend(marks);
                self.places(terms)
            }
            Said::Root(_) | Said::Nodes(_) | Said::TooMany => Found::Nothing,
        }
    }

    fn on_cells(&mut self, theirs: &[u32], terms: &Terms) -> Found {
        let parts = self.asked.iter().flat_map(|cell| cell.parts());
        let own = self.asked.iter().flat_map(|cell| digests(terms, &self.own, *cell));
        let differ = parts.zip(own.zip(theirs)).filter(|(_, (own, theirs))| own != *theirs);
        let differ: Vec<Cell> = differ.map(|(part, _)| part).collect();
        if differ.is_empty() {
            return Found::Nothing;
        }
        let entries: u64 = differ.iter().map(|cell| inside(terms, &self.own, *cell).count).sum();
        let singly = entries <= CELL_ENTRIES * differ.len() as u64;
        Found::Ask(self.ask(differ, singly))
    }

    fn on_entries(&mut self, theirs: &[Vec<u32>], terms: &Terms) -> Found {
        for (cell, theirs) in self.asked.iter().zip(theirs) {
            let own = singles(terms, &self.own, *cell);
            self.unknown.extend(without(theirs, &own));
            let mut alone = without(&own, theirs);
            for entry in &self.own {
                let digest = terms.digest(entry.print);
                if let Some(at) = alone.iter().position(|other| *other == digest)
                    && cell.holds(entry.place.hash(terms.seed))
                {
                    alone.swap_remove(at);
                    self.alone.push(entry.clone());
                }
            }
        }
        self.places(terms)
    }

    /// Asks for places as long as there are any, then says what follows.
    fn places(&mut self, terms: &Terms) -> Found {
        if !self.unknown.is_empty() {
            let some = self.unknown.drain(..self.unknown.len().min(MARKS_MAX)).collect();
            return Found::Ask(Ask::Places(self.range.clone(), some));
        }
        let mut theirs: BTreeMap<Place, Mark> = BTreeMap::new();
        for mark in self.marks.drain(..).filter(|mark| self.range.holds(&mark.place)) {
            theirs.insert(mark.place.clone(), mark);
        }
        let mut lacks = Vec::new();
        for entry in &self.alone {
            let mark = theirs.remove(&entry.place);
            lacks.extend(lack(Some(entry), mark.as_ref(), terms));
        }
        for (place, mark) in &theirs {
            let own = self.own.binary_search_by(|entry| entry.place.cmp(place)).ok();
            let own = own.and_then(|at| self.own.get(at));
            // Had a like, and has the digest of another that had none.
            if own.is_some_and(|own| own.stamp == mark.stamp) {
                continue;
            }
            lacks.extend(lack(own, Some(mark), terms));
        }
        if lacks.is_empty() { Found::Nothing } else { Found::Lacks(lacks) }
    }
}

/// What follows from the two sides of a key.
fn lack(own: Option<&Entry>, theirs: Option<&Mark>, terms: &Terms) -> Option<Lack> {
    let place = own.map(|own| &own.place).or(theirs.map(|mark| &mark.place))?;
    let (here, there) = (own.map(|own| own.stamp), theirs.map(|mark| mark.stamp));
    if ![here, there].into_iter().flatten().any(|stamp| terms.is_below(stamp)) {
        // Of writes under way, as a rule.
        return None;
    }
    let kinds = [own.map(|own| own.kind), theirs.map(|mark| mark.kind)];
    let is = |kind| kinds.contains(&Some(kind));
    let bring = if is(Kind::Register) {
        Bring::Round
    } else if is(Kind::Siblings) && here.is_some() && there.is_some() || here == there {
        Bring::Both
    } else if here < there {
        Bring::Here
    } else {
        Bring::There
    };
    if crate::mutant!("exchange-one-sided") && bring == Bring::There {
        return None;
    }
    Some(Lack { place: place.clone(), bring })
}

/// What is in the one ascending list and not in the other, as often as it is more often there.
fn without(of: &[u32], others: &[u32]) -> Vec<u32> {
    let mut others = others.iter().peekable();
    let mut rest = Vec::new();
    for digest in of {
        while others.next_if(|other| *other < digest).is_some() {}
        if others.next_if(|other| *other == digest).is_none() {
            rest.push(*digest);
        }
    }
    rest
}

//! The write-back of a monotonic read: what fewer than w owners are known to hold is put on w of
//! them before it is told, so that every later read at the floors finds it. The reader's second
//! phase of Attiya, Bar-Noy and Dolev, "Sharing memory robustly in message-passing systems" (1995),
//! left out where the first one has shown enough. Every answer that counts is of a version which is
//! durable where it was shown or stored: one that a power failure could take is held by nobody.

use super::tally::count;
use super::{Outcome, Sets, Tally};

/// What a read is to answer with, on its way to w owners: a version, or a set of siblings.
#[derive(Clone, Debug)]
pub(super) struct Confirm<V> {
    read: V,
    tally: Tally,
    asked: u16,
}

impl<V> Confirm<V> {
    /// What the owners `held` are known to hold, or more than it, and `w` of each set must: the next
    /// read may ask the other one.
    pub(super) fn new(read: V, (sets, w): (Sets, u8), held: u16) -> Confirm<V> {
        let mut tally = Tally::new(sets, w);
        super::put::bits(held).for_each(|index| tally.succeed(index));
        Confirm { read, tally, asked: 0 }
    }

    /// What is to be answered with.
    pub(super) fn read(&self) -> &V {
        &self.read
    }

    /// Where it stands.
    pub(super) fn outcome(&self) -> Outcome {
        if crate::mutant!("monotonic-unconfirmed") {
            return Outcome::Reached;
        }
        self.tally.outcome()
    }

    /// How many owners must hold it, and do.
    pub(super) fn counts(&self) -> (u8, u8) {
        (self.tally.needed(), self.tally.got())
    }

    /// Whether an answer of an owner is missing.
    pub(super) fn waits_for(&self, index: u8) -> bool {
        self.asked & self.tally.open() & (1 << index) != 0
    }

    /// An owner holds it, or more than it.
    pub(super) fn holds(&mut self, index: u8) {
        self.tally.succeed(index);
    }

    /// An owner will not take it.
    pub(super) fn fails(&mut self, index: u8) {
        self.tally.fail(index);
    }

    /// Whom to ask now: as many as are missing, first those that are known to lack it.
    pub(super) fn next(&mut self, reachable: u16, lacking: u16) -> u16 {
        let open = self.tally.open();
        let counted = self.tally.answered() | (self.asked & open);
        let able = reachable & open & !self.asked;
        let mut next = 0;
        for index in super::put::bits(able & lacking).chain(super::put::bits(able & !lacking)) {
            let missing = |set: u16| count((counted | next) & set) < self.tally.needed();
            if self.tally.sets().each().any(|set| set & (1 << index) != 0 && missing(set)) {
                next |= 1 << index;
            }
        }
        self.asked |= next;
        next
    }

    /// Whom to ask when that took long: everybody who may yet take it.
    pub(super) fn all(&mut self, reachable: u16) -> u16 {
        let all = reachable & self.tally.open();
        self.asked |= all;
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirm(held: u16) -> Confirm<()> {
        Confirm::new((), (Sets::one(3), 2), held)
    }

    #[test]
    fn what_w_owners_hold_needs_nothing() {
        let mut confirm = confirm(0b101);
        assert_eq!(confirm.outcome(), Outcome::Reached);
        assert_eq!(confirm.next(0b111, 0b010), 0);
    }

    #[test]
    fn as_many_are_asked_as_are_missing_and_others_when_they_fail() {
        let mut confirm = confirm(0b001);
        assert_eq!(confirm.next(0b111, 0b100), 0b100, "it is known to lack it");
        assert_eq!(confirm.next(0b111, 0b100), 0);
        assert!(confirm.waits_for(2) && !confirm.waits_for(1));
        confirm.fails(2);
        assert_eq!(confirm.next(0b111, 0), 0b010);
        assert_eq!(confirm.counts(), (2, 1));
        confirm.holds(1);
        assert_eq!(confirm.outcome(), Outcome::Reached);
    }

    #[test]
    fn each_write_set_must_hold_it() {
        let sets = Sets { read: 0b00111, other: 0b11001 };
        let mut confirm = Confirm::new((), (sets, 2), 0b00011);
        assert_eq!(confirm.outcome(), Outcome::Pending);
        assert_eq!(confirm.next(0b11111, 0b00100), 0b01000, "the set that is read has two");
        confirm.fails(3);
        assert_eq!(confirm.next(0b11111, 0), 0b10000);
        confirm.holds(4);
        assert_eq!(confirm.outcome(), Outcome::Reached);
    }

    #[test]
    fn too_few_that_may_take_it_are_an_end() {
        let mut confirm = confirm(0b001);
        assert_eq!(confirm.all(0b110), 0b110);
        confirm.fails(1);
        assert_eq!(confirm.outcome(), Outcome::Pending);
        confirm.fails(2);
        assert_eq!(confirm.outcome(), Outcome::Impossible);
    }
}

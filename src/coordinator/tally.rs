//! Counts the answers to one round of one operation. Members are counted by their place among all
//! owners, so that no member counts twice however often it answers. Why a unit may have two sets of
//! owners: `docs/protocol/moves.md`.

use crate::types::limits;

/// Where a round stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// More answers are needed, and possible.
    Pending,
    /// Enough owners have answered.
    Reached,
    /// Too many owners have failed: more waiting cannot help.
    Impossible,
}

/// The owner sets of a unit, as bitmaps of places among all who take its writes: the set that is
/// read and, while the owners change, the other one that is written besides. Most members are in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// The owners that are read; written too.
    pub read: u16,
    /// The second write set; 0 while the owners do not change.
    pub other: u16,
}

impl Sets {
    /// The first `n` places, and no second set.
    pub fn one(n: u8) -> Sets {
        Sets { read: (1 << n) - 1, other: 0 }
    }

    /// All members.
    pub fn all(self) -> u16 {
        self.read | self.other
    }

    /// The set that is read, alone.
    pub fn only_read(self) -> Sets {
        Sets { other: 0, ..self }
    }

    /// How many owners the set that is read has.
    pub fn n(self) -> u8 {
        count(self.read)
    }

    /// Each of the one or two sets.
    pub(super) fn each(self) -> impl Iterator<Item = u16> {
        let other = (self.other != 0 && !crate::mutant!("old-set-alone")).then_some(self.other);
        core::iter::once(self.read).chain(other)
    }
}

/// The answers of one round. It is reached when each set has enough of them; a member of both counts
/// once in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    sets: Sets,
    needed: u8,
    /// How many complete owners of the set that is read must be among those that answer.
    whole: u8,
    ok: u16,
    failed: u16,
    /// Of those that have done what was asked: owners that have all they should have.
    complete: u16,
    #[cfg(debug_assertions)]
    repeats: u8,
}

impl Tally {
    /// A round that needs `needed` owners of each of the sets. INVARIANT: 1 <= needed <= n, and at
    /// most 15 members in all.
    pub fn new(sets: Sets, needed: u8) -> Tally {
        let fits = |set: u16| needed >= 1 && needed <= count(set);
        let many = sets.all() & !((1 << limits::REPLICAS_MAX) - 1) != 0;
        assert!(sets.each().all(fits) && !many, "a tally of {needed} of {sets:?}");
        let needed = if crate::mutant!("w-off-by-one") && needed > 1 { needed - 1 } else { needed };
        Tally {
            sets,
            needed,
            whole: 0,
            ok: 0,
            failed: 0,
            complete: 0,
            #[cfg(debug_assertions)]
            repeats: 0,
        }
    }

    /// The same, which needs `whole` complete owners of the set that is read besides.
    pub fn with_whole(self, whole: u8) -> Tally {
        Tally { whole, ..self }
    }

    /// Member `index` has done what was asked. A success after a failure counts.
    pub fn succeed(&mut self, index: u8) {
        if self.failed & (1 << index) != 0 && crate::mutant!("late-answer-lost") {
            return;
        }
        #[cfg(debug_assertions)]
        if self.ok & (1 << index) != 0 && crate::mutant!("same-owner-counted-twice") {
            self.repeats += 1;
        }
        self.ok |= 1 << index;
        self.failed &= !self.ok;
    }

    /// The same; it is `complete`, or not.
    pub fn succeed_as(&mut self, index: u8, complete: bool) {
        self.succeed(index);
        self.complete |= u16::from(complete) << index;
    }

    /// Member `index` has refused or cannot be reached. A failure after a success does not count.
    pub fn fail(&mut self, index: u8) {
        self.failed |= (1 << index) & !self.ok;
    }

    /// Members that have done what was asked, as a bitmap.
    pub fn answered(&self) -> u16 {
        self.ok
    }

    /// Members that have neither succeeded nor failed, as a bitmap.
    pub fn open(&self) -> u16 {
        self.sets.all() & !self.ok & !self.failed
    }

    /// Members of `among` of which nothing has been heard.
    pub(super) fn silent(&self, among: u16) -> u16 {
        among & !self.ok & !self.failed
    }

    /// The sets that are counted.
    pub(super) fn sets(&self) -> Sets {
        self.sets
    }

    /// How many have done what was asked, of the set that has fewest.
    pub fn got(&self) -> u8 {
        self.sets.each().map(|set| count(self.ok & set)).min().unwrap_or(0)
    }

    /// How many must, of each set.
    pub fn needed(&self) -> u8 {
        self.needed
    }

    /// Where the round stands.
    pub fn outcome(&self) -> Outcome {
        let (read, needed) = (self.sets.read, self.needed);
        let whole = count(self.complete & read) >= self.whole;
        if self.is_enough() && (whole || crate::mutant!("put-trusts-incomplete")) {
            return Outcome::Reached;
        }
        let lost = |set: u16, needed: u8, bits: u16| count(bits & set) > count(set) - needed;
        let unwhole = self.failed | (self.ok & !self.complete);
        let lacks_whole = self.whole > 0 && lost(read, self.whole, unwhole);
        if lacks_whole || self.sets.each().any(|set| lost(set, needed, self.failed)) {
            Outcome::Impossible
        } else {
            Outcome::Pending
        }
    }

    fn is_enough(&self) -> bool {
        #[cfg(debug_assertions)]
        let repeats = self.repeats;
        #[cfg(not(debug_assertions))]
        let repeats = 0;
        let got = |set: u16| count(self.ok & set) + repeats;
        if crate::mutant!("node-counts-twice") {
            return self.sets.each().map(got).sum::<u8>() >= self.needed;
        }
        if crate::mutant!("sets-together") {
            return got(self.sets.all()) >= self.needed;
        }
        self.sets.each().all(|set| got(set) >= self.needed)
    }
}

/// Members of a bitmap.
pub(super) fn count(bits: u16) -> u8 {
    u8::try_from(bits.count_ones()).expect("at most 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_answer_of_one_owner_counts_once() {
        let mut tally = Tally::new(Sets::one(3), 2);
        tally.succeed(0);
        tally.succeed(0);
        assert_eq!(tally.outcome(), Outcome::Pending);
        tally.succeed(2);
        assert_eq!(tally.outcome(), Outcome::Reached);
        assert_eq!(tally.answered(), 0b101);
    }

    #[test]
    fn a_round_is_impossible_as_soon_as_too_few_owners_are_left() {
        let mut tally = Tally::new(Sets::one(3), 2);
        tally.fail(0);
        assert_eq!(tally.outcome(), Outcome::Pending);
        tally.fail(1);
        assert_eq!(tally.outcome(), Outcome::Impossible);
        tally.succeed(1);
        assert_eq!(tally.outcome(), Outcome::Pending);
        tally.succeed(0);
        tally.fail(0);
        assert_eq!(tally.outcome(), Outcome::Reached);
    }

    /// {0, 1, 2} is read, {0, 1, 3} is written besides.
    const MOVING: Sets = Sets { read: 0b0111, other: 0b1011 };

    #[test]
    fn each_set_needs_its_own_and_a_member_of_both_counts_once_in_each() {
        let answered = |members: &[u8]| {
            let mut tally = Tally::new(MOVING, 2);
            members.iter().for_each(|index| tally.succeed(*index));
            tally.outcome()
        };
        assert_eq!(answered(&[0, 1]), Outcome::Reached);
        assert_eq!(answered(&[0]), Outcome::Pending);
        assert_eq!(answered(&[0, 2]), Outcome::Pending, "the other set has one");
        assert_eq!(answered(&[0, 3]), Outcome::Pending, "the set that is read has one");
        assert_eq!(answered(&[2, 3]), Outcome::Pending);
        assert_eq!(answered(&[0, 2, 3]), Outcome::Reached);
        for (mutant, members) in [
            ("node-counts-twice", [0].as_slice()),
            ("sets-together", &[2, 3]),
            ("old-set-alone", &[0, 2]),
        ] {
            let _armed = crate::testing::arm_mutant(mutant);
            assert_eq!(answered(members), Outcome::Reached, "{mutant}");
        }
    }

    #[test]
    fn one_set_that_cannot_be_reached_is_an_end() {
        let mut tally = Tally::new(MOVING, 2);
        tally.fail(2);
        tally.fail(3);
        assert_eq!((tally.outcome(), tally.open()), (Outcome::Pending, 0b0011));
        tally.succeed(0);
        assert_eq!(tally.got(), 1);
        tally.fail(1);
        assert_eq!(tally.outcome(), Outcome::Impossible);
    }

    #[test]
    fn owners_that_are_not_complete_do_not_tell_what_came_before() {
        let mut tally = Tally::new(Sets::one(3), 2).with_whole(2);
        tally.succeed_as(0, true);
        tally.succeed_as(1, false);
        assert_eq!(tally.outcome(), Outcome::Pending);
        let mut reached = tally;
        reached.succeed_as(2, true);
        assert_eq!(reached.outcome(), Outcome::Reached);
        tally.fail(2);
        assert_eq!(tally.outcome(), Outcome::Impossible);
        let _armed = crate::testing::arm_mutant("put-trusts-incomplete");
        assert_eq!(tally.outcome(), Outcome::Reached);
    }
}

//! Counts the answers to one round of one operation. Members are counted by their place in the
//! owner set, so that no member counts twice however often it answers.

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

/// The answers of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    n: u8,
    needed: u8,
    ok: u16,
    failed: u16,
    #[cfg(debug_assertions)]
    repeats: u8,
}

impl Tally {
    /// A round over `n` owners that needs `needed` of them. INVARIANT: 1 <= needed <= n <= 15.
    pub fn new(n: u8, needed: u8) -> Tally {
        assert!(needed >= 1 && needed <= n && n <= 15, "a tally of {needed} of {n}");
        let needed = if crate::mutant!("w-off-by-one") && needed > 1 { needed - 1 } else { needed };
        Tally {
            n,
            needed,
            ok: 0,
            failed: 0,
            #[cfg(debug_assertions)]
            repeats: 0,
        }
    }

    /// Owner `index` has done what was asked. A success after a failure counts.
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

    /// Owner `index` has refused or cannot be reached. A failure after a success does not count.
    pub fn fail(&mut self, index: u8) {
        self.failed |= (1 << index) & !self.ok;
    }

    /// Owners that have done what was asked, as a bitmap.
    pub fn answered(&self) -> u16 {
        self.ok
    }

    /// Owners that have neither succeeded nor failed, as a bitmap.
    pub fn open(&self) -> u16 {
        let all = (1u16 << self.n) - 1;
        all & !self.ok & !self.failed
    }

    /// How many have done what was asked.
    pub fn got(&self) -> u8 {
        count(self.ok)
    }

    /// How many must.
    pub fn needed(&self) -> u8 {
        self.needed
    }

    /// Where the round stands.
    pub fn outcome(&self) -> Outcome {
        #[cfg(debug_assertions)]
        let got = self.got() + self.repeats;
        #[cfg(not(debug_assertions))]
        let got = self.got();
        if got >= self.needed {
            Outcome::Reached
        } else if count(self.failed) > self.n - self.needed {
            Outcome::Impossible
        } else {
            Outcome::Pending
        }
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
        let mut tally = Tally::new(3, 2);
        tally.succeed(0);
        tally.succeed(0);
        assert_eq!(tally.outcome(), Outcome::Pending);
        tally.succeed(2);
        assert_eq!(tally.outcome(), Outcome::Reached);
        assert_eq!(tally.answered(), 0b101);
    }

    #[test]
    fn a_round_is_impossible_as_soon_as_too_few_owners_are_left() {
        let mut tally = Tally::new(3, 2);
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
}

//! How many keys there are while inserts add to them: numbers are handed out in order, and a reader
//! is told of a number once it and all before it are done. Pure.

use std::collections::BTreeSet;

/// The numbers of keys that are there, and of those that come. As many numbers are kept as inserts
/// are under way at once.
#[derive(Clone, Debug)]
pub struct Growth {
    next: u64,
    present: u64,
    /// Done, at or above `present`.
    early: BTreeSet<u64>,
}

impl Growth {
    /// The first `present` keys are there.
    pub fn new(present: u64) -> Growth {
        Growth { next: present, present, early: BTreeSet::new() }
    }

    /// The number of a key to insert.
    pub fn begin(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// The insert of this number is over. One that failed ends as well, and leaves a key that may not
    /// be there: waiting for it would hide all later ones.
    pub fn end(&mut self, number: u64) {
        if number >= self.present {
            self.early.insert(number);
        }
        while self.early.remove(&self.present) {
            self.present += 1;
        }
    }

    /// All keys below this number are there.
    pub fn present(&self) -> u64 {
        self.present
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_there_once_all_before_it_are() {
        let mut growth = Growth::new(5);
        let numbers = [growth.begin(), growth.begin(), growth.begin()];
        assert_eq!(numbers, [5, 6, 7]);
        growth.end(7);
        growth.end(6);
        assert_eq!((growth.present(), growth.early.len()), (5, 2));
        growth.end(5);
        growth.end(5);
        assert_eq!((growth.present(), growth.early.len()), (8, 0));
    }
}

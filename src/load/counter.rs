//! What clients have seen of counters, and whether it can be: every sum lies between what was acknowledged
//! before it was read and what had been asked for by then; and counters of linearizable tables rise in the
//! order in which they were added to. Pure.

use crate::types::Key;

/// An operation on a counter, by its place in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterOp(usize);

/// What came of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Not known, or not yet.
    Open,
    /// It was not made, and never will be.
    Failed,
    /// It was acknowledged.
    Made {
        /// Stand-ins have helped: it is owed once it is home.
        custody: bool,
    },
    /// The sum was read.
    Read,
}

#[derive(Clone, Debug)]
struct Operation {
    key: Key,
    /// What is added; `None` of a read.
    by: Option<i64>,
    tries: u32,
    invoked: u64,
    ended: u64,
    outcome: Outcome,
    /// The sum that was answered, where it is to be judged.
    sum: Option<i64>,
}

/// What clients have seen of the counters of one table.
#[derive(Clone, Debug, Default)]
pub struct CounterHistory {
    /// Linearizable: nothing counts twice, and every answer is in order.
    exact: bool,
    operations: Vec<Operation>,
    /// From this operation on all hints are home.
    home: Option<usize>,
    /// Moments, in the order in which they are noted.
    moment: u64,
}

impl CounterHistory {
    /// Of a causal table, or of a linearizable one (`exact`).
    pub fn new(exact: bool) -> CounterHistory {
        CounterHistory { exact, ..CounterHistory::default() }
    }

    /// An increment, or a read with `by = None`, is begun.
    pub fn invoke(&mut self, key: Key, by: Option<i64>) -> CounterOp {
        let (invoked, ended, outcome, sum) = (self.next(), u64::MAX, Outcome::Open, None);
        self.operations.push(Operation { key, by, tries: 0, invoked, ended, outcome, sum });
        CounterOp(self.operations.len() - 1)
    }

    /// An increment is sent, for the first time or again.
    pub fn tried(&mut self, op: CounterOp) {
        if let Some(operation) = self.operations.get_mut(op.0) {
            operation.tries += 1;
        }
    }

    /// An increment was acknowledged, with this sum; `custody` when stand-ins have helped.
    pub fn made(&mut self, op: CounterOp, sum: Option<i64>, custody: bool) {
        let sum = sum.filter(|_| self.exact);
        self.end(op, Outcome::Made { custody }, sum);
    }

    /// A read was answered by owners.
    pub fn read(&mut self, op: CounterOp, sum: i64) {
        self.end(op, Outcome::Read, Some(sum));
    }

    /// An increment was not made, and never will be.
    pub fn failed(&mut self, op: CounterOp) {
        self.end(op, Outcome::Failed, None);
    }

    /// All hints are home: what stand-ins have helped to write is owed from here on.
    pub fn home(&mut self) {
        self.home = Some(self.operations.len());
    }

    /// How many increments were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let made = |operation: &&Operation| matches!(operation.outcome, Outcome::Made { .. });
        self.operations.iter().filter(made).count()
    }

    /// Everything that cannot be, in words.
    pub fn judge(&self) -> Vec<String> {
        let seen = self.operations.iter().enumerate().filter(|(_, seen)| seen.sum.is_some());
        let mut faults: Vec<String> =
            seen.clone().filter_map(|(place, seen)| self.out_of_bounds(place, seen)).collect();
        if self.exact {
            let pairs =
                seen.clone().flat_map(|later| seen.clone().map(move |first| (first, later)));
            faults.extend(pairs.filter_map(|(first, later)| out_of_order(first, later)));
        }
        faults
    }

    fn next(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    fn end(&mut self, op: CounterOp, outcome: Outcome, sum: Option<i64>) {
        let moment = self.next();
        let open = |operation: &&mut Operation| operation.outcome == Outcome::Open;
        if let Some(operation) = self.operations.get_mut(op.0).filter(open) {
            (operation.ended, operation.outcome, operation.sum) = (moment, outcome, sum);
        }
    }

    fn out_of_bounds(&self, place: usize, seen: &Operation) -> Option<String> {
        let sum = i128::from(seen.sum?);
        let is_home = self.home.is_some_and(|home| place >= home);
        let (mut least, mut most) = (0, 0);
        for (other, add) in self.operations.iter().enumerate() {
            let Some(by) = add.by.filter(|_| add.key == seen.key) else { continue };
            let is_owed = match add.outcome {
                // An increment holds itself.
                Outcome::Made { .. } if other == place => true,
                Outcome::Made { custody } => add.ended < seen.invoked && (is_home || !custody),
                _ => false,
            };
            let may_be = add.outcome != Outcome::Failed && add.invoked < seen.ended;
            let times = if self.exact { add.tries.min(1) } else { add.tries };
            let times = i128::from(if may_be { times } else { 0 });
            let (fewest, by) = (i128::from(is_owed), i128::from(by));
            least += (fewest * by).min(times * by);
            most += (fewest * by).max(times * by);
        }
        let key = &seen.key;
        (sum < least || sum > most).then(|| {
            format!("{key:?}: operation {place} found {sum}, which can be {least} to {most}")
        })
    }
}

/// Of two answers of a counter that is only added to, the later one is no less; and an increment has added.
fn out_of_order(
    (place, first): (usize, &Operation),
    (later_place, later): (usize, &Operation),
) -> Option<String> {
    let rises = later.by.is_none_or(|by| by >= 0);
    if first.key != later.key || first.ended >= later.invoked || !rises {
        return None;
    }
    let (before, after) = (first.sum?, later.sum?);
    let least = before.saturating_add(later.by.unwrap_or(0));
    let key = &first.key;
    (after < least).then(|| {
        format!("{key:?}: operation {place} found {before}, and {later_place} after it {after}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Book(CounterHistory, Key);

    impl Book {
        fn new(exact: bool) -> Book {
            Book(CounterHistory::new(exact), Key::new("k").unwrap())
        }

        fn begin(&mut self, by: i64, tries: u32) -> CounterOp {
            let op = self.0.invoke(self.1.clone(), Some(by));
            (0..tries).for_each(|_| self.0.tried(op));
            op
        }

        fn added(&mut self, by: i64, sum: i64) {
            let op = self.begin(by, 1);
            self.0.made(op, Some(sum), false);
        }

        fn read(&mut self, sum: i64) -> usize {
            let op = self.0.invoke(self.1.clone(), None);
            self.0.read(op, sum);
            self.0.judge().len()
        }
    }

    #[test]
    fn what_was_acknowledged_is_owed_and_what_is_open_may_be_there() {
        for exact in [false, true] {
            let mut book = Book::new(exact);
            book.added(5, 5);
            assert_eq!(book.read(5), 0);
            book.begin(3, 1);
            assert_eq!((book.read(5), book.read(8)), (0, 0));
            let failed = book.begin(100, 1);
            book.0.failed(failed);
            assert_eq!(book.read(8), 0);
            assert_eq!(book.read(108), 1);
            assert_eq!(book.0.acknowledged(), 1);
        }
        let mut lost = Book::new(false);
        lost.added(5, 5);
        assert_eq!(lost.read(4), 1);
    }

    #[test]
    fn a_retry_may_count_for_each_try_in_causal_tables_alone() {
        for (exact, faults) in [(false, 0), (true, 1)] {
            let mut book = Book::new(exact);
            let op = book.begin(5, 2);
            book.0.made(op, None, false);
            assert_eq!(book.read(10), faults);
        }
        let mut thrice = Book::new(false);
        let op = thrice.begin(5, 2);
        thrice.0.made(op, None, false);
        assert_eq!(thrice.read(15), 1);
    }

    #[test]
    fn negative_numbers_have_their_bounds_the_other_way_round() {
        let mut book = Book::new(false);
        book.added(-5, -5);
        book.begin(-2, 1);
        assert_eq!((book.read(-5), book.read(-7)), (0, 0));
        assert_eq!(book.read(-8), 1);
        let mut low = Book::new(false);
        low.added(-5, -5);
        assert_eq!(low.read(-4), 1);
    }

    #[test]
    fn what_is_in_custody_is_owed_once_it_is_home() {
        let mut book = Book::new(false);
        let op = book.begin(5, 1);
        book.0.made(op, None, true);
        assert_eq!((book.read(0), book.read(5)), (0, 0));
        book.0.home();
        assert_eq!(book.read(0), 1);
    }

    #[test]
    fn exact_counters_rise_in_the_order_of_their_answers() {
        let mut book = Book::new(true);
        book.begin(5, 1);
        book.added(1, 6);
        // What was seen once may not go again.
        assert_eq!(book.read(1), 1);
        let mut same = Book::new(true);
        same.begin(1, 1);
        same.added(1, 2);
        same.added(1, 2);
        assert_eq!(same.0.judge().len(), 1);
    }
}

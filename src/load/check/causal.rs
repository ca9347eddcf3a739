//! I2: no acknowledged write of a causal table vanishes unless a write that saw it took its place;
//! what was superseded or deleted stays so; nobody reads what nobody wrote, and no write twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::load::causal::{CausalAction, CausalHistory, CausalOperation, CausalOutcome, Saw};
use crate::load::history::OpIndex;
use crate::types::{Key, Value};

use super::Violation;

type Indexed<'a> = (OpIndex, &'a CausalOperation);

/// Judges a history of a causal table. Every put must write a value of its own.
pub fn causal(history: &CausalHistory) -> Vec<Violation> {
    let mut keys: BTreeMap<&Key, Vec<Indexed<'_>>> = BTreeMap::new();
    for (index, operation) in history.operations().iter().enumerate() {
        keys.entry(&operation.key).or_default().push((OpIndex::of(index), operation));
    }
    let mut violations = Vec::new();
    for operations in keys.values() {
        for (index, read) in operations {
            if let CausalOutcome::Read(values) = &read.outcome {
                judge((*index, read), (values, operations), &mut violations);
            }
        }
    }
    violations
}

fn judge(
    (index, read): Indexed<'_>,
    (values, operations): (&[Value], &[Indexed<'_>]),
    violations: &mut Vec<Violation>,
) {
    let key = || read.key.clone();
    let distinct: BTreeSet<&[u8]> = values.iter().map(Value::as_bytes).collect();
    if distinct.len() < values.len() {
        violations.push(Violation::SiblingTwice { key: key(), read: index });
    }
    let mut known = 0;
    for (put, operation) in operations {
        let CausalAction::Put(value, _) = &operation.action else { continue };
        let read_it = distinct.contains(value.as_bytes());
        known += usize::from(read_it && operation.invoked < read.ended);
        if read_it && operation.outcome == CausalOutcome::Failed {
            violations.push(Violation::FailedWriteRead { key: key(), read: index, put: *put });
        }
        let written = operation.is_acknowledged() && operation.ended < read.invoked;
        let shown = || {
            operations
                .iter()
                .any(|(_, other)| has_shown(other, value) && other.ended < read.invoked)
        };
        let missing = !read_it && (written || shown());
        if missing && !operations.iter().any(|(_, other)| may_supersede(other, operation, read)) {
            violations.push(Violation::SiblingLost { key: key(), read: index, missed: *put });
        }
        // One that was tried twice may have been written twice, and the second seen by nobody.
        let over = operations.iter().find(|(_, other)| has_superseded(other, operation, read));
        if let (true, 1, Some((by, _))) = (read_it, operation.tries, over) {
            let (put, by) = (*put, *by);
            violations.push(Violation::SiblingBack { key: key(), read: index, put, by });
        }
    }
    if known < distinct.len() {
        violations.push(Violation::ValueFromNowhere { key: key(), read: index });
    }
}

/// Whether a monotonic read has shown a value: it is on enough owners then, whatever became of its
/// write.
fn has_shown(read: &CausalOperation, value: &Value) -> bool {
    let values = match &read.outcome {
        CausalOutcome::Read(values) => values.as_slice(),
        _ => &[],
    };
    read.action == CausalAction::Monotonic && values.contains(value)
}

/// Whether `write` may have taken the place of `put` by the time of `read`.
fn may_supersede(write: &CausalOperation, put: &CausalOperation, read: &CausalOperation) -> bool {
    let begun = write.outcome != CausalOutcome::Failed && write.invoked < read.ended;
    begun
        && match write.saw() {
            None => false,
            Some(Saw::Values(values)) => is_among(put, values),
            Some(Saw::Whatever) => put.invoked < write.ended,
        }
}

/// Whether `write` must have taken the place of `put` before `read` began.
fn has_superseded(write: &CausalOperation, put: &CausalOperation, read: &CausalOperation) -> bool {
    let over = write.is_acknowledged() && write.ended < read.invoked;
    over && match write.saw() {
        None => false,
        Some(Saw::Values(values)) => is_among(put, values),
        Some(Saw::Whatever) => put.is_acknowledged() && put.ended < write.invoked,
    }
}

fn is_among(put: &CausalOperation, values: &[Value]) -> bool {
    matches!(&put.action, CausalAction::Put(value, _) if values.contains(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Time;

    struct Book(CausalHistory, Key);

    fn value(text: &str) -> Value {
        Value::new(text.to_owned()).unwrap()
    }

    fn values(texts: &[&str]) -> Vec<Value> {
        texts.iter().map(|text| value(text)).collect()
    }

    impl Book {
        fn new() -> Book {
            Book(CausalHistory::new(), Key::new("k").unwrap())
        }

        fn begin(&mut self, action: CausalAction) -> OpIndex {
            self.0.invoke(self.1.clone(), action, Time(0))
        }

        fn put(&mut self, text: &str, saw: &[&str]) -> OpIndex {
            self.begin(CausalAction::Put(value(text), Saw::Values(values(saw))))
        }

        fn wrote(&mut self, text: &str, saw: &[&str]) {
            let op = self.put(text, saw);
            self.0.complete(op, CausalOutcome::Written);
        }

        fn deleted(&mut self, saw: Saw) {
            let op = self.begin(CausalAction::Delete(saw));
            self.0.complete(op, CausalOutcome::Written);
        }

        fn read(&mut self, texts: &[&str]) {
            let op = self.begin(CausalAction::Get);
            self.0.complete(op, CausalOutcome::Read(values(texts)));
        }

        fn faults(&self) -> Vec<&'static str> {
            let name = |violation: &Violation| match violation {
                Violation::SiblingLost { .. } => "lost",
                Violation::SiblingBack { .. } => "back",
                Violation::SiblingTwice { .. } => "twice",
                Violation::ValueFromNowhere { .. } => "nowhere",
                Violation::FailedWriteRead { .. } => "failed",
                other => panic!("{other}"),
            };
            causal(&self.0).iter().map(name).collect()
        }
    }

    #[test]
    fn siblings_that_come_and_go_as_they_may_pass() {
        let mut book = Book::new();
        book.wrote("a", &[]);
        book.wrote("b", &[]);
        book.read(&["a", "b"]);
        book.wrote("c", &["a", "b"]);
        book.read(&["c"]);
        // A put of unknown outcome may show, or not, and so may what it saw.
        book.put("d", &["c"]);
        book.read(&["c"]);
        book.read(&["d"]);
        book.read(&["c"]);
        book.deleted(Saw::Whatever);
        book.read(&["d"]);
        book.read(&[]);
        assert!(book.faults().is_empty(), "{:?}", book.faults());
    }

    #[test]
    fn a_write_that_vanishes_is_found() {
        let mut book = Book::new();
        book.wrote("a", &[]);
        book.wrote("b", &[]);
        book.read(&["b"]);
        book.read(&[]);
        assert_eq!(book.faults(), ["lost", "lost", "lost"]);
    }

    #[test]
    fn what_stand_ins_have_helped_to_write_is_owed_once_it_is_home() {
        let mut book = Book::new();
        book.wrote("a", &[]);
        let over = book.put("b", &["a"]);
        book.0.complete(over, CausalOutcome::Custody);
        // Until then both may be seen, or either.
        book.read(&["a"]);
        book.read(&["b"]);
        book.read(&["a", "b"]);
        assert!(book.faults().is_empty(), "{:?}", book.faults());
        book.0.home();
        book.read(&["b"]);
        assert!(book.faults().is_empty(), "{:?}", book.faults());
        book.read(&["a"]);
        assert_eq!(book.faults(), ["back", "lost"]);
    }

    #[test]
    fn what_a_monotonic_read_has_shown_stays() {
        let mut book = Book::new();
        book.put("a", &[]);
        let op = book.begin(CausalAction::Monotonic);
        book.0.complete(op, CausalOutcome::Read(values(&["a"])));
        book.read(&[]);
        assert_eq!(book.faults(), ["lost"]);
    }

    #[test]
    fn what_was_superseded_or_deleted_and_comes_back_is_found() {
        let mut book = Book::new();
        book.wrote("a", &[]);
        book.wrote("b", &["a"]);
        book.read(&["a", "b"]);
        book.deleted(Saw::Values(values(&["b"])));
        book.read(&["b"]);
        book.wrote("c", &[]);
        book.deleted(Saw::Whatever);
        book.read(&["c"]);
        assert_eq!(book.faults(), ["back", "back", "back"]);
    }

    #[test]
    fn a_put_that_was_tried_twice_may_come_back() {
        let mut book = Book::new();
        let put = book.put("a", &[]);
        book.0.tried_again(put);
        book.0.complete(put, CausalOutcome::Written);
        book.wrote("b", &["a"]);
        book.read(&["a", "b"]);
        assert!(book.faults().is_empty());
    }

    #[test]
    fn what_nobody_wrote_a_failed_put_and_a_put_shown_twice_are_found() {
        let mut book = Book::new();
        book.read(&["ghost"]);
        let failed = book.put("f", &[]);
        book.0.complete(failed, CausalOutcome::Failed);
        book.read(&["f"]);
        book.wrote("a", &[]);
        book.read(&["a", "a"]);
        let late = book.begin(CausalAction::Get);
        book.0.complete(late, CausalOutcome::Read(values(&["a", "later"])));
        book.wrote("later", &[]);
        assert_eq!(book.faults(), ["nowhere", "failed", "twice", "nowhere"]);
    }
}

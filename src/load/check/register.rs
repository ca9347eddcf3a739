//! I1 and I5 over a history of one `lww` table: registers read and written through quorums at or
//! above the floors.
//!
//! The rule, per key: a read that began after a write was acknowledged returns that write's
//! version, or one whose put did *not end before that write began*, and never one with a lower
//! stamp. Puts of unknown outcome never end, so they excuse what they wrote for ever; a put
//! reported as not applied excuses nothing. Operations whose receipt says `weak` demand nothing of
//! others, and weak reads may be old, but even they return no value from nowhere.
//!
//! A write whose time its client gave (its stamp says so) takes the place of earlier times alone: read
//! after it was acknowledged is its version or one with a higher stamp, which may have been written
//! before. So it demands no place in the order of time; writes that the servers stamp, and that begin
//! after it, are stamped above it like above any other. That owners agree is asked elsewhere.
//!
//! A put whose value expires is its own delete from the moment on at which it may have expired;
//! and once it must have expired, nobody reads it.
//!
//! Deliberately not checked: that two reads in a row never go back. A get answers before it
//! repairs, so a version on too few replicas may be seen once and missed after; only
//! acknowledgement is a promise. Linearizable tables have a checker of their own.
//!
//! Cost: O(n log n) in the operations of a key.

use std::collections::BTreeMap;

use crate::load::history::{Action, History, Moment, OpIndex, Operation, Outcome};
use crate::types::{Key, Stamp, Value};

use super::Violation;

/// Checks every key of `history`.
pub fn register(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, operations) in history.by_key() {
        let book = Book::of(&operations);
        stamp_order(key, &book, &mut violations);
        stamp_contents(key, &book, &operations, &mut violations);
        for (op, operation) in &operations {
            if let Outcome::Read { value, stamp, weak } = &operation.outcome {
                let seen = Seen { op: *op, operation, value: value.as_ref(), stamp: *stamp };
                violations.extend(read(key, &book, &seen, *weak));
            }
        }
    }
    violations
}

/// An acknowledged write at or above the floors.
#[derive(Clone, Copy)]
struct Acknowledged<'a> {
    op: OpIndex,
    operation: &'a Operation,
    stamp: Stamp,
}

/// What one key's writes allow and demand.
struct Book<'a> {
    /// Acknowledged writes by the end of each; with each, the one among it and all before it with
    /// the highest stamp, and of those that servers stamped the one that began last.
    acknowledged: Vec<(Moment, Acknowledged<'a>, Option<Acknowledged<'a>>)>,
    /// The acknowledged writes in order of invocation.
    invoked: Vec<Acknowledged<'a>>,
    /// What may have put each value.
    puts: BTreeMap<&'a [u8], Causes>,
    /// What may have deleted.
    deletes: Causes,
    /// Puts whose values expire.
    expiring: Vec<(OpIndex, &'a Operation)>,
}

/// The writes that could explain one answer.
#[derive(Default)]
struct Causes {
    /// Invocations, in order; with each, the latest end among it and all before it.
    possible: Vec<(Moment, Moment)>,
    /// The first one that was reported as not applied.
    failed: Option<(Moment, OpIndex)>,
}

impl Causes {
    /// Adds a write, in order of invocation.
    fn push(&mut self, op: OpIndex, write: &Operation) {
        if write.outcome == Outcome::Failed {
            self.failed.get_or_insert((write.invoked, op));
            return;
        }
        let before = self.possible.last().map_or(Moment::START, |(_, end)| *end);
        self.possible.push((write.invoked, before.max(write.end())));
    }

    /// The latest end among those invoked before `moment`.
    fn latest_end(&self, moment: Moment) -> Option<Moment> {
        let count = self.possible.partition_point(|(invoked, _)| *invoked < moment);
        self.possible.get(count.checked_sub(1)?).map(|(_, end)| *end)
    }
}

impl<'a> Book<'a> {
    fn of(operations: &[(OpIndex, &'a Operation)]) -> Book<'a> {
        let mut book = Book {
            acknowledged: Vec::new(),
            invoked: Vec::new(),
            puts: BTreeMap::new(),
            deletes: Causes::default(),
            expiring: Vec::new(),
        };
        for (op, operation) in operations {
            match &operation.action {
                Action::Get => continue,
                Action::Put(value) => {
                    book.puts.entry(value.as_bytes()).or_default().push(*op, operation);
                    if operation.life.is_some() {
                        book.expiring.push((*op, operation));
                    }
                }
                Action::Delete => book.deletes.push(*op, operation),
                // These tables know no compare-and-set: a history that has one is not judged here.
                Action::Cas(..) => continue,
            }
            if let Outcome::Written { stamp, weak: false } = operation.outcome {
                book.invoked.push(Acknowledged { op: *op, operation, stamp });
            }
        }
        let mut by_end = book.invoked.clone();
        by_end.sort_by_key(|write| write.operation.end());
        for write in by_end {
            let (highest, latest) = match book.acknowledged.last() {
                Some((_, highest, latest)) => (*highest, *latest),
                None => (write, None),
            };
            let highest = if highest.stamp < write.stamp { write } else { highest };
            let earlier =
                |latest: Acknowledged<'_>| latest.operation.invoked < write.operation.invoked;
            let by_time = !write.stamp.is_of_client() && latest.is_none_or(earlier);
            let latest = if by_time { Some(write) } else { latest };
            book.acknowledged.push((write.operation.end(), highest, latest));
        }
        book
    }

    /// The latest end among the writes that explain a miss answered at `moment`: deletes, and puts
    /// that may have expired by then.
    fn gone(&self, moment: Moment) -> Moment {
        let expired = |(_, put): &&(OpIndex, &Operation)| {
            put.outcome != Outcome::Failed
                && put.invoked < moment
                && put.may_expire_at().is_some_and(|at| at <= moment.at)
        };
        let expired = self.expiring.iter().filter(expired).map(|(_, put)| put.end()).max();
        self.deletes.latest_end(moment).max(expired).unwrap_or(Moment::START)
    }

    /// The put of `value`, if every put of it must have expired before `moment`.
    fn expired(&self, value: &Value, moment: Moment) -> Option<OpIndex> {
        let mut puts =
            self.expiring.iter().filter(|(_, put)| put.action == Action::Put(value.clone()));
        let gone = |put: &Operation| put.expired_by().is_some_and(|by| by < moment.at);
        let (op, first) = puts.next()?;
        (gone(first) && puts.all(|(_, put)| gone(put))).then_some(*op)
    }

    /// Of the writes acknowledged before `moment`: the highest stamped, and of those that servers
    /// stamped the last begun.
    fn before(&self, moment: Moment) -> Option<(Acknowledged<'a>, Option<Acknowledged<'a>>)> {
        let count = self.acknowledged.partition_point(|(end, _, _)| *end < moment);
        let last = count.checked_sub(1).and_then(|last| self.acknowledged.get(last));
        last.map(|(_, highest, latest)| (*highest, *latest))
    }
}

/// A read's answer.
struct Seen<'a> {
    op: OpIndex,
    operation: &'a Operation,
    value: Option<&'a Value>,
    stamp: Stamp,
}

/// Judges one read.
fn read(key: &Key, book: &Book<'_>, seen: &Seen<'_>, weak: bool) -> Option<Violation> {
    let (key, read) = (key.clone(), seen.op);
    let answered = seen.operation.end();
    // The end of the most lenient write that explains the answer. A miss is also explained by
    // nobody having written yet.
    let explained = match seen.value {
        None => book.gone(answered),
        Some(value) => {
            let causes = book.puts.get(value.as_bytes());
            match causes.and_then(|causes| causes.latest_end(answered)) {
                Some(end) => end,
                None => {
                    let failed = causes.and_then(|causes| causes.failed);
                    return Some(match failed.filter(|(invoked, _)| *invoked < answered) {
                        Some((_, put)) => Violation::FailedWriteRead { key, read, put },
                        None => Violation::ValueFromNowhere { key, read },
                    });
                }
            }
        }
    };
    if let Some(put) = seen.value.and_then(|value| book.expired(value, seen.operation.invoked)) {
        return Some(Violation::ExpiredRead { key, read, put });
    }
    if weak {
        return None;
    }
    let (highest, latest) = book.before(seen.operation.invoked)?;
    let older = latest.filter(|latest| explained < latest.operation.invoked);
    // A purged tombstone leaves a miss without a stamp: then only the order in time can tell.
    let purged = seen.value.is_none() && seen.stamp == Stamp::ZERO;
    let missed = if let Some(latest) = older {
        latest
    } else if !purged && seen.stamp < highest.stamp {
        highest
    } else {
        return None;
    };
    Some(match (seen.value, &missed.operation.action) {
        (Some(_), Action::Delete) => Violation::Resurrected { key, read, deleted: missed.op },
        (None, Action::Put(_)) => Violation::LostWrite { key, read, missed: missed.op },
        _ => Violation::StaleRead { key, read, missed: missed.op },
    })
}

/// A write that began after another was acknowledged is stamped above it, unless its client gave its
/// time.
fn stamp_order(key: &Key, book: &Book<'_>, violations: &mut Vec<Violation>) {
    for later in book.invoked.iter().filter(|write| !write.stamp.is_of_client()) {
        if let Some((highest, _)) = book.before(later.operation.invoked)
            && later.stamp <= highest.stamp
        {
            let (earlier, later) = (highest.op, later.op);
            violations.push(Violation::StampOrder { key: key.clone(), earlier, later });
        }
    }
}

/// One stamp of one key has one content.
fn stamp_contents(
    key: &Key,
    book: &Book<'_>,
    operations: &[(OpIndex, &Operation)],
    violations: &mut Vec<Violation>,
) {
    let mut contents: BTreeMap<Stamp, (OpIndex, Option<&Value>)> = BTreeMap::new();
    for (op, operation) in operations {
        let (stamp, value) = match (&operation.outcome, &operation.action) {
            (Outcome::Written { stamp, .. }, Action::Put(value)) => (*stamp, Some(value)),
            (Outcome::Written { stamp, .. }, Action::Delete) => (*stamp, None),
            (Outcome::Read { stamp, value, .. }, _) => (*stamp, value.as_ref()),
            _ => continue,
        };
        // A miss may be a value that has expired under its own stamp.
        if value.is_none() && (stamp == Stamp::ZERO || !book.expiring.is_empty()) {
            continue;
        }
        let (one, known) = *contents.entry(stamp).or_insert((*op, value));
        if known != value {
            let (key, other) = (key.clone(), *op);
            violations.push(Violation::StampReused { key, stamp, one, other });
        }
    }
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;

//! I3 over a history of one linearizable table: every key is one register, and each operation
//! takes effect on it at one moment between its invocation and its answer (Herlihy and Wing,
//! "Linearizability", 1990).
//!
//! The search goes through the calls and answers of a key in their order and keeps every
//! *possibility*: the contents of the register, and which of the open operations have taken effect
//! already. An operation is made to take effect only when an answer demands it (just-in-time
//! linearization; Lowe, "Testing for linearizability", 2017). When no possibility is left, the
//! answer has no explanation. Four things keep their number small, and lose none:
//! - What only looks takes effect as soon as a possibility shows what it saw.
//! - A write of unknown outcome may take effect until the end, or never. If nobody has seen or
//!   expected its value it is left out: what never showed was overwritten before anyone looked. A
//!   compare-and-set that fails must therefore tell what it found. A value that expires is not left
//!   out: it shows by being gone.
//! - Of two possibilities with the same contents, the one that has used fewer such writes can do
//!   all that the other can.
//! - Deletes of unknown outcome are alike: the oldest is used first.
//!
//! The rest is checked beside the search, because it names the fault: values from nowhere, of failed
//! writes or after their expiry; a mismatch that is none; stamps that go back; answers about the
//! outcome of a write that contradict its own.
//!
//! An expiring value is its put and, from the moment on at which it may expire, a delete of it that
//! may happen at any time.
//!
//! Cost: near linear in the operations of a key while few are open at once; ten at a time are fine.

mod observed;
mod search;

use crate::load::history::History;

use super::Violation;

/// Checks every key of `history`, whose operations are all of a linearizable table. Puts of a key
/// should write values of their own: equal values make the verdict more lenient. At most one
/// violation of each sort is named a key.
pub fn linearizable(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, operations) in history.by_key() {
        let (operations, contradicted) = observed::settled(&operations, history.settlements());
        let contradicted = contradicted.map(|op| {
            let key = key.clone();
            Violation::OutcomeContradicted { key, op }
        });
        let faults = [contradicted, observed::contents(key, &operations)];
        violations.extend(faults.into_iter().flatten());
        violations.extend(observed::stamps(key, &operations));
        violations.extend(search::explain(key, &operations));
    }
    violations
}

#[cfg(test)]
#[path = "linearizable_tests.rs"]
mod tests;

//! The durability ledger of kill -9 runs: what one writer a key was told, against what is read
//! back after the dust has settled.
//!
//! It wants less bookkeeping than a history and gives a simpler verdict: the last acknowledged
//! write of a key must be there, unless a *later* write of unknown outcome took its place. It is
//! sound only when the writes of one key do not overlap; [`super::register`] judges those that do.

use std::collections::BTreeMap;

use crate::types::{Key, Value};

use super::Violation;

/// What may stand under a key: the last acknowledged write and the unknown ones after it.
#[derive(Clone, Debug, Default)]
struct Entry {
    acknowledged: Option<Option<Value>>,
    unknown_since: Vec<Option<Value>>,
}

/// The books of one run. Memory is one value a key and one more for each unknown outcome since.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Key, Entry>,
}

impl Ledger {
    /// Empty books.
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Enters a write that was acknowledged; `None` is a delete.
    pub fn acknowledged(&mut self, key: Key, value: Option<Value>) {
        self.entries.insert(key, Entry { acknowledged: Some(value), unknown_since: Vec::new() });
    }

    /// Enters a write whose outcome is unknown; `None` is a delete.
    pub fn unknown(&mut self, key: Key, value: Option<Value>) {
        self.entries.entry(key).or_default().unknown_since.push(value);
    }

    /// All keys with an acknowledged write: what must be read back.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let acknowledged = self.entries.iter().filter(|(_, entry)| entry.acknowledged.is_some());
        acknowledged.map(|(key, _)| key)
    }

    /// Compares the books with what was read back: for each key its value, or `None` when it was
    /// not found. A key that is missing from `found` counts as not read.
    pub fn audit(&self, found: &BTreeMap<Key, Option<Value>>) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (key, entry) in &self.entries {
            let Some(wanted) = &entry.acknowledged else { continue };
            let key = key.clone();
            match found.get(&key) {
                None => violations.push(Violation::LedgerUnread { key }),
                Some(found) if found == wanted || entry.unknown_since.contains(found) => {}
                Some(found) => {
                    let (wanted, found) = (wanted.clone(), found.clone());
                    violations.push(Violation::LedgerLost { key, wanted, found });
                }
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> Key {
        Key::new(text).unwrap()
    }

    fn value(text: &'static str) -> Option<Value> {
        Some(Value::new(text).unwrap())
    }

    #[test]
    fn the_last_acknowledged_or_a_later_unknown_write_passes() {
        let mut ledger = Ledger::new();
        ledger.acknowledged(key("a"), value("1"));
        ledger.acknowledged(key("a"), value("2"));
        ledger.acknowledged(key("b"), value("1"));
        ledger.unknown(key("b"), value("2"));
        ledger.acknowledged(key("c"), None);
        ledger.unknown(key("d"), value("1"));
        let found = [("a", value("2")), ("b", value("2")), ("c", None)];
        let found = found.into_iter().map(|(name, value)| (key(name), value)).collect();
        assert_eq!(ledger.audit(&found), []);
        assert_eq!(ledger.keys().cloned().collect::<Vec<_>>(), [key("a"), key("b"), key("c")]);
    }

    #[test]
    fn a_lost_an_overwritten_and_an_unread_entry_are_found() {
        let mut ledger = Ledger::new();
        for name in ["lost", "old", "unread", "back"] {
            ledger.unknown(key(name), value("0"));
            ledger.acknowledged(key(name), value("1"));
        }
        ledger.acknowledged(key("back"), None);
        let found = [("lost", None), ("old", value("0")), ("back", value("1"))];
        let found = found.into_iter().map(|(name, value)| (key(name), value)).collect();
        let lost = |name, wanted, found| Violation::LedgerLost { key: key(name), wanted, found };
        let expected = [
            lost("back", None, value("1")),
            lost("lost", value("1"), None),
            lost("old", value("1"), value("0")),
            Violation::LedgerUnread { key: key("unread") },
        ];
        assert_eq!(ledger.audit(&found), expected);
    }
}

//! What an owner notes of changes: a ring that is bounded in bytes, of the tables that somebody watches.

use std::collections::{BTreeMap, VecDeque};

use crate::message::{Change, ChangesAsk, ChangesPage};
use crate::types::{TableId, Unit};

/// Notes that one question looks at: it holds the lock that writers wait for.
const LOOKED_AT_MAX: usize = 2048;
/// Changes that are given with their values, each of which may have to be read.
const VALUES_MAX: usize = 256;

/// The changes noted last.
#[derive(Debug)]
pub struct Recent {
    notes: VecDeque<(Unit, TableId, Change)>,
    /// The number of the first of them.
    first: u64,
    bytes: usize,
    bytes_max: usize,
    /// What is noted, and since which number.
    since: BTreeMap<TableId, u64>,
}

impl Recent {
    /// One that keeps about so many bytes.
    pub fn new(bytes_max: usize) -> Recent {
        let (notes, since) = (VecDeque::new(), BTreeMap::new());
        Recent { notes, first: 0, bytes: 0, bytes_max, since }
    }

    /// Whether changes of any table are noted.
    pub fn is_live(&self) -> bool {
        !self.since.is_empty()
    }

    /// Notes a change, if its table is watched. What is too much goes, the oldest first.
    pub fn note(&mut self, (unit, table): (Unit, TableId), change: Change) {
        if !self.since.contains_key(&table) {
            return;
        }
        self.bytes += change.bytes();
        self.notes.push_back((unit, table, change));
        while self.bytes > self.bytes_max
            && let Some((.., oldest)) = self.notes.pop_front()
        {
            crate::sometimes!("watch: notes run over");
            self.first += 1;
            self.bytes -= oldest.bytes();
        }
    }

    /// Ceases to note a table.
    pub fn forget(&mut self, table: TableId) {
        self.since.remove(&table);
        if self.since.is_empty() {
            self.first = self.end();
            (self.notes, self.bytes) = (VecDeque::new(), 0);
        }
    }

    /// The number of the next one.
    fn end(&self) -> u64 {
        self.first + self.notes.len() as u64
    }

    /// What was noted of a table from a number on, and of each the number and the unit. It is noted
    /// from then on.
    pub fn read(&mut self, ask: &ChangesAsk) -> (ChangesPage, Vec<(u64, Unit)>) {
        let end = self.end();
        let since = *self.since.entry(ask.table).or_insert(end);
        let Some(after) = ask.after else {
            return (ChangesPage { next: end, ..ChangesPage::default() }, Vec::new());
        };
        if after < since.max(self.first) || after > end {
            crate::sometimes!("watch: notes are gone");
            let lost = !crate::mutant!("watch-overrun-unseen");
            return (ChangesPage { next: end, lost, ..ChangesPage::default() }, Vec::new());
        }
        let mut page = ChangesPage { next: after, ..ChangesPage::default() };
        let (mut bytes, mut places) = (0, Vec::new());
        let most = if ask.values { VALUES_MAX } else { LOOKED_AT_MAX };
        let skipped = usize::try_from(after - self.first).unwrap_or(usize::MAX);
        for (unit, table, change) in self.notes.iter().skip(skipped).take(LOOKED_AT_MAX) {
            if *table == ask.table && change.key.as_bytes().starts_with(&ask.prefix) {
                bytes += change.bytes();
                let is_full = bytes > ask.bytes_max as usize || page.changes.len() >= most;
                if is_full && !page.changes.is_empty() {
                    break;
                }
                page.changes.push(change.clone());
                places.push((page.next, *unit));
            }
            page.next += 1;
        }
        page.more = page.next < end;
        (page, places)
    }
}

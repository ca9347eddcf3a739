//! What the disk of a host answers to each request: a book in memory, no store.

use super::bench::Disk;
use crate::causality::{Merge, merge};
use crate::message::{Change, DiskAnswer, DiskRequest, WriteOutcome};
use crate::types::{Key, Record, TableId, Unit};
use crate::watch::Recent;

impl Disk {
    /// Each as by itself, but that one which is late keeps all out.
    fn together(&mut self, unit: Unit, table: TableId, items: Vec<(Key, Record)>) -> DiskAnswer {
        let late =
            items.iter().find_map(|(key, record)| self.late(&(unit, table, key.clone()), record));
        if let Some(late) = late {
            return late;
        }
        let mut outcome = WriteOutcome::Stored;
        for (key, record) in items {
            let request = DiskRequest::Write { unit, table, key, record };
            if let DiskAnswer::Written(WriteOutcome::Superseded(by)) = self.answer(request) {
                outcome = match outcome {
                    WriteOutcome::Superseded(other) => WriteOutcome::Superseded(other.max(by)),
                    WriteOutcome::Stored => WriteOutcome::Superseded(by),
                };
            }
        }
        DiskAnswer::Written(outcome)
    }

    /// Carries out a request.
    pub(super) fn answer(&mut self, request: DiskRequest) -> DiskAnswer {
        match request {
            DiskRequest::Aside(_) => DiskAnswer::Persisted,
            DiskRequest::Write { unit, table, key, record } => {
                let slot = (unit, table, key);
                let late = self.late(&slot, &record);
                let noted = self.data.get(&slot).cloned();
                let noted = noted.filter(|held| held.stamp > record.stamp);
                self.note(&slot, &noted.unwrap_or_else(|| record.clone()));
                late.unwrap_or_else(|| {
                    DiskAnswer::Written(match merge(self.data.get(&slot), &record) {
                        Merge::Replace => {
                            self.data.insert(slot, record);
                            WriteOutcome::Stored
                        }
                        Merge::Same => WriteOutcome::Stored,
                        Merge::Keep => WriteOutcome::Superseded(self.data[&slot].stamp),
                    })
                })
            }
            DiskRequest::WriteTogether { unit, table, items } => self.together(unit, table, items),
            DiskRequest::Read { unit, table, key, durable: _ } => {
                DiskAnswer::Read(self.data.get(&(unit, table, key)).cloned())
            }
            DiskRequest::Range {
                units, table, prefix, after, limit, reverse, keys_only, ..
            } => {
                let way = (reverse && !self.reads_forward, keys_only);
                let place = (&prefix[..], &after[..], way);
                DiskAnswer::Range(self.range(&units, table, place, limit as usize))
            }
            DiskRequest::EndCursors(_) => DiskAnswer::CursorsEnded,
            DiskRequest::Changes(ask) => DiskAnswer::Changes(self.recent.0.read(&ask).0),
            DiskRequest::ForgetChanges(tables) => {
                tables.iter().for_each(|table| self.recent.0.forget(*table));
                DiskAnswer::ChangesForgotten
            }
            DiskRequest::Sweep { state, from: _ } => self.sweep(&state),
            DiskRequest::Unit(ask) => DiskAnswer::Unit(self.on_unit(*ask)),
            DiskRequest::Tree(ask) => DiskAnswer::Tree(self.on_tree(*ask)),
            DiskRequest::Floor(ask) => DiskAnswer::Floor(self.on_floor(*ask)),
            DiskRequest::KeepHint { target, hint } => self.keep(target, hint),
            DiskRequest::ReadHint { targets, unit, table, key } => {
                DiskAnswer::Read(self.kept_version(&targets, (unit, table, &key)))
            }
            DiskRequest::Hints { target, after } => self.page(target, after.as_ref()),
            DiskRequest::RemoveHint { target, hint } => self.remove(target, &hint),
            DiskRequest::DropHints { target, before, custody, after: _ } => {
                self.give_up(target, before, custody)
            }
            DiskRequest::ChangeHint(ask) => self.change_kept(*ask),
            DiskRequest::Causal(ask) => DiskAnswer::Causal(self.causal(*ask)),
            DiskRequest::Register(ask) => DiskAnswer::Register(self.consensus(*ask)),
            DiskRequest::Persist(records) => {
                self.meta.extend(records);
                DiskAnswer::Persisted
            }
            DiskRequest::Flush => DiskAnswer::Flushed,
            DiskRequest::Compact => DiskAnswer::Compacted,
            DiskRequest::Measure => self.measured(),
        }
    }

    /// As a replica notes what it has merged.
    fn note(&mut self, (unit, table, key): &(Unit, TableId, Key), record: &Record) {
        let change = Change {
            key: key.clone(),
            stamp: record.stamp,
            print: 0,
            deleted: record.value.is_none(),
            expiry: record.expiry,
            siblings: 1,
            value: None,
            value_left_out: false,
        };
        self.recent.0.note((*unit, *table), change);
    }
}

/// What a host notes for watches: a life's, not the disk's.
pub(super) struct Notes(pub(super) Recent);

impl Notes {
    /// Few fit.
    pub(super) fn small() -> Notes {
        Notes(Recent::new(1000))
    }
}

impl Default for Notes {
    fn default() -> Notes {
        Notes(Recent::new(1 << 20))
    }
}

impl Clone for Notes {
    fn clone(&self) -> Notes {
        Notes::default()
    }
}

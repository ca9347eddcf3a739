//! Hints on a disk that never fails.

use std::collections::BTreeMap;

use super::bench::Disk;
use crate::causality::{Merge, SiblingSet, merge};
use crate::message::{
    CausalDone, CausalTask, CustodyChange, DiskAnswer, Hint, HintBook, HintChange, HintPage,
    HintPlace, HintTotals, HintsDropped, Kept, MetaRecord, WriteOutcome,
};
use crate::types::{ClusterState, Key, NodeId, Record, TableId, Unit, WallTime};

impl Disk {
    pub(super) fn books(&self) -> BTreeMap<NodeId, HintBook> {
        let mut books = BTreeMap::<NodeId, HintBook>::new();
        for ((target, ..), hint) in &self.hints {
            let book = books.entry(*target).or_default();
            book.totals.add(totals(hint));
            book.oldest = Some(book.oldest.map_or(hint.created, |old| old.min(hint.created)));
        }
        books
    }

    pub(super) fn keep(&mut self, target: NodeId, hint: Hint) -> DiskAnswer {
        let slot = (target, hint.unit, hint.table, hint.key.clone());
        let before = self.hints.get(&slot).cloned();
        let mut now = hint.clone();
        let mut outcome = WriteOutcome::Stored;
        if let Some(before) = &before {
            (now.created, now.custody) = (before.created, before.custody || hint.custody);
            match (&before.kept, &hint.kept) {
                (Kept::Version(held), Kept::Version(version)) => {
                    if merge(Some(held), version) == Merge::Keep {
                        now.kept = before.kept.clone();
                        outcome = WriteOutcome::Superseded(held.stamp);
                    }
                }
                (Kept::Siblings(held), Kept::Siblings(set)) => {
                    let mut both = held.clone();
                    both.join(set.clone());
                    now.kept = Kept::Siblings(both);
                }
                other => panic!("{other:?}"),
            }
        }
        let change = HintChange {
            added: totals(&now),
            removed: before.as_ref().map(totals).unwrap_or_default(),
            created: now.created,
        };
        self.hints.insert(slot, now);
        DiskAnswer::Kept(outcome, change)
    }

    /// What a stand-in writes: in the record that is there, as its actor.
    pub(super) fn change_kept(&mut self, ask: CustodyChange) -> DiskAnswer {
        let CustodyChange { target, unit, table, key, created, mut change, within } = ask;
        let slot = (target, unit, table, key.clone());
        let before = self.hints.get(&slot).cloned();
        let created = before.as_ref().map_or(created, |held| held.created);
        let mut set = match before.as_ref().map(|held| held.kept.clone()) {
            Some(Kept::Siblings(set)) => set,
            None => {
                self.acting.remove(&slot);
                SiblingSet::default()
            }
            other => panic!("{other:?}"),
        };
        let fresh = change.dot.actor.tenure;
        change.dot.actor.tenure = *self.acting.entry(slot.clone()).or_insert(fresh);
        if crate::mutant!("stand-in-reuses-tenure") {
            change.dot.actor.tenure = within;
        }
        let done = super::key_disk::causal(&mut set, CausalTask::Change(change));
        if matches!(done, CausalDone::Refused(_)) {
            return DiskAnswer::ChangedHint(done, HintChange::default());
        }
        let kept = Kept::Siblings(set);
        let now = Hint { created, custody: true, unit, table, key, kept };
        let removed = before.as_ref().map(totals).unwrap_or_default();
        let change = HintChange { added: totals(&now), removed, created };
        self.hints.insert(slot, now);
        DiskAnswer::ChangedHint(done, change)
    }

    /// The newest version that is kept for any of these owners.
    pub(super) fn kept_version(
        &self,
        targets: &[NodeId],
        (unit, table, key): (Unit, TableId, &Key),
    ) -> Option<Record> {
        let of = |target: &NodeId| self.hints.get(&(*target, unit, table, key.clone()));
        let version = |hint: &Hint| match &hint.kept {
            Kept::Version(record) => record.clone(),
            Kept::Siblings(_) => panic!("a set is no version"),
        };
        targets.iter().filter_map(of).map(version).max_by_key(|record| record.stamp)
    }

    /// What is kept for any of these owners, merged.
    pub(super) fn kept_sets(
        &self,
        targets: &[NodeId],
        (unit, table, key): (Unit, TableId, &Key),
    ) -> SiblingSet {
        let mut all = SiblingSet::default();
        for target in targets {
            let found = self.hints.get(&(*target, unit, table, key.clone()));
            if let Some(Hint { kept: Kept::Siblings(set), .. }) = found {
                all.join(set.clone());
            }
        }
        all
    }

    /// One hint a page, so that paging is tested.
    pub(super) fn page(&self, target: NodeId, after: Option<&HintPlace>) -> DiskAnswer {
        let of = self.hints.iter().filter(|((id, ..), _)| *id == target);
        let mut hints: Vec<&Hint> = of.map(|(_, hint)| hint).collect();
        hints.sort_by_key(|hint| hint.place());
        let mut behind =
            hints.into_iter().filter(|hint| after.is_none_or(|after| hint.place() > *after));
        let first: Vec<Hint> = behind.next().cloned().into_iter().collect();
        let next = behind.next().and(first.first()).map(Hint::place);
        DiskAnswer::Hints(HintPage { hints: first, next })
    }

    pub(super) fn remove(&mut self, target: NodeId, hint: &Hint) -> DiskAnswer {
        let slot = (target, hint.unit, hint.table, hint.key.clone());
        let same = self.hints.get(&slot).is_some_and(|held| held.kept == hint.kept);
        let gone = same.then(|| self.hints.remove(&slot)).flatten();
        DiskAnswer::HintRemoved(gone.as_ref().map(totals).unwrap_or_default())
    }

    pub(super) fn give_up(
        &mut self,
        target: NodeId,
        before: WallTime,
        custody: bool,
    ) -> DiskAnswer {
        let mut dropped = HintsDropped::default();
        self.hints.retain(|(id, unit, ..), hint| {
            let goes = *id == target && hint.created < before && (custody || !hint.custody);
            if goes {
                dropped.dropped.add(totals(hint));
                dropped.units.insert(*unit);
            }
            !goes
        });
        self.meta.extend(dropped.units.iter().map(|unit| MetaRecord::Dirty(*unit, target)));
        DiskAnswer::HintsDropped(dropped)
    }

    pub(super) fn sweep_hints(&mut self, state: &ClusterState) -> BTreeMap<NodeId, HintTotals> {
        let mut gone = BTreeMap::<NodeId, HintTotals>::new();
        self.hints.retain(|(target, _, table, _), hint| {
            if state.is_dropped(*table) {
                gone.entry(*target).or_default().add(totals(hint));
            }
            !state.is_dropped(*table)
        });
        gone
    }
}

fn totals(hint: &Hint) -> HintTotals {
    HintTotals::one(hint.custody, hint.bytes())
}

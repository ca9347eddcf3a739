//! Hints on a disk that never fails.

use std::collections::BTreeMap;

use super::bench::Disk;
use crate::causality::{Merge, merge};
use crate::message::{
    DiskAnswer, Hint, HintBook, HintChange, HintPage, HintPlace, HintTotals, HintsDropped,
    MetaRecord, WriteOutcome,
};
use crate::types::{ClusterState, NodeId, WallTime};

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
            if merge(Some(&before.record), &hint.record) == Merge::Keep {
                now.record = before.record.clone();
                outcome = WriteOutcome::Superseded(before.record.stamp);
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
        let same = self.hints.get(&slot).is_some_and(|held| held.record == hint.record);
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

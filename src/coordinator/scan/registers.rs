//! The keys of a page of a linearizable table. What a majority of a key's owners shows under one ballot is
//! decided, and is shown; every other key has a read of its own, as a get would, before the page is answered.
//! `docs/protocol/scan.md`, "Linearizable tables".

use std::collections::{BTreeMap, VecDeque};

use crate::causality::{Accepted, Finding, Paged};
use crate::message::ScanEntry;
use crate::ring;
use crate::types::{ClassId, ClusterState, Key, NodeId, Record, Unit, Value, WallTime, limits};

/// What owners have shown, and what becomes of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Registers {
    shown: BTreeMap<Key, Vec<(NodeId, Paged)>>,
    /// The page, in the order in which it is read, once enough have answered; keys without an entry are not
    /// there, or are being read.
    page: Option<Vec<(Key, Option<ScanEntry>)>>,
    /// Keys of the page that are still to be read, in the same order.
    due: VecDeque<Key>,
    /// How many are being read.
    open: usize,
    /// Bytes of the entries.
    bytes: usize,
}

/// How a page is made up.
pub(super) struct Making<'a> {
    pub(super) state: &'a ClusterState,
    pub(super) class: ClassId,
    /// Whose answers count.
    pub(super) answered: &'a [NodeId],
    pub(super) limit: usize,
    pub(super) reverse: bool,
    pub(super) wall: WallTime,
}

/// What owners' answers say of a key.
enum Verdict {
    Shown(ScanEntry),
    Absent,
    /// They do not agree, or not on something that can be told.
    Unsure,
}

impl Registers {
    /// Takes what a member shows. Returns the bytes of it, or `None` when some of it is no acceptor's.
    pub(super) fn add(&mut self, member: NodeId, entries: Vec<(Key, Record)>) -> Option<usize> {
        let mut bytes = 0;
        let mut read = Vec::with_capacity(entries.len());
        for (key, record) in entries {
            bytes += key.as_bytes().len() + record.bytes();
            read.push((key, Paged::of(record)?));
        }
        for (key, shown) in read {
            self.shown.entry(key).or_default().push((member, shown));
        }
        Some(bytes)
    }

    /// Whether enough have answered, and what they say is being looked into.
    pub(super) fn is_made(&self) -> bool {
        self.page.is_some()
    }

    /// Bytes of what is to be shown.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the page up of all keys that `is_inside` says are before its end. Returns the last key that was looked
    /// at where the page has to end sooner.
    pub(super) fn make(
        &mut self,
        making: &Making<'_>,
        is_inside: impl Fn(&Key) -> bool,
    ) -> Option<Key> {
        let all = core::mem::take(&mut self.shown);
        let mut keys: Vec<_> = all.into_iter().filter(|(key, _)| is_inside(key)).collect();
        if making.reverse {
            keys.reverse();
        }
        let (mut page, mut counted) = (Vec::with_capacity(keys.len()), 0);
        let mut cut = None;
        for (key, shown) in keys {
            let is_full = counted >= making.limit
                || self.due.len() >= limits::SCAN_READS_MAX
                || self.bytes > limits::SCAN_PAGE_BYTES_MAX;
            if is_full {
                cut = page.last().map(|(key, _): &(Key, _)| key.clone());
                break;
            }
            let entry = match verdict(making, &key, &shown) {
                Verdict::Shown(entry) => Some(entry),
                Verdict::Absent => None,
                Verdict::Unsure => {
                    crate::sometimes!("scan: a key of a page is read by itself");
                    self.due.push_back(key.clone());
                    counted += 1;
                    None
                }
            };
            if let Some(entry) = &entry {
                self.bytes += entry.key.as_bytes().len() + entry.record.bytes();
                counted += 1;
            }
            page.push((key, entry));
        }
        self.page = Some(page);
        cut
    }

    /// The next key that is to be read now, if there is one.
    pub(super) fn next(&mut self) -> Option<Key> {
        let has_room = self.open < limits::SCAN_READS_AT_ONCE
            && (self.bytes <= limits::SCAN_PAGE_BYTES_MAX || self.open == 0);
        let key = if has_room { self.due.pop_front() } else { None }?;
        self.open += 1;
        Some(key)
    }

    /// What a key that was to be read holds.
    pub(super) fn read(&mut self, key: &Key, record: Option<Record>, keys_only: bool) {
        self.open = self.open.saturating_sub(1);
        let slot = self.page.iter_mut().flatten().find(|(of, _)| of == key);
        let (Some((_, slot)), Some(mut record)) = (slot, record) else { return };
        if keys_only {
            record.value = Value::new(bytes::Bytes::new()).ok();
        }
        self.bytes += key.as_bytes().len() + record.bytes();
        *slot = Some(ScanEntry { key: key.clone(), record, siblings: 1 });
    }

    /// A key that was to be read could not be: it is read once more.
    pub(super) fn again(&mut self, key: Key) {
        self.open = self.open.saturating_sub(1);
        self.due.push_front(key);
    }

    /// Whether nothing is left to be read.
    pub(super) fn is_read(&self) -> bool {
        self.open == 0 && self.due.is_empty()
    }

    /// What there is to show.
    pub(super) fn take(&mut self) -> Vec<ScanEntry> {
        let page = self.page.take().unwrap_or_default();
        page.into_iter().filter_map(|(_, entry)| entry).collect()
    }
}

/// What the owners of a key that have answered say of it, as a look of a read would find it.
fn verdict(making: &Making<'_>, key: &Key, shown: &[(NodeId, Paged)]) -> Verdict {
    let state = making.state;
    let partition = ring::partition_of(ring::token(key.as_bytes()), state.settings.partitions);
    let unit = Unit { class: making.class, partition };
    let is_moving = !state.other_owners(unit).is_empty();
    if is_moving && !crate::mutant!("scan-of-moving-unit-decides") {
        // What is decided there majorities of two sets have accepted, and one was asked.
        return Verdict::Unsure;
    }
    let owners = state.owners(unit);
    let of = |owner: &NodeId| shown.iter().find(|(member, _)| member == owner).map(|(_, of)| of);
    let asked = owners.iter().filter(|owner| making.answered.contains(owner)).map(of);
    let majority = if crate::mutant!("scan-asks-one-owner") { 1 } else { owners.len() / 2 + 1 };
    let is_withheld = asked.clone().flatten().any(|shown| shown.withheld);
    let accepted = asked.map(|shown| shown.and_then(|shown| shown.accepted.as_ref()));
    let found = Finding::of(accepted, majority);
    if is_withheld || !found.decided && !crate::mutant!("scan-minority-decides") {
        return Verdict::Unsure;
    }
    let Some(Accepted { state, .. }) = found.newest else { return Verdict::Absent };
    if state.is_expired(making.wall) {
        // Nobody is told that it is gone before that is decided.
        let denies = crate::mutant!("scan-denies-expired-register");
        return if denies { Verdict::Absent } else { Verdict::Unsure };
    }
    let Some(record) = state.record() else { return Verdict::Absent };
    Verdict::Shown(ScanEntry { key: key.clone(), record, siblings: 1 })
}

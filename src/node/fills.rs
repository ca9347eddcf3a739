//! What this node has of the units it owns: which of them it has become an owner of, how far each is
//! filled, when it is complete; and what it deletes of those it owns no more. `docs/protocol/moves.md`,
//! `docs/protocol/transfer.md`.
//!
//! Everything follows from the state in force and one durable record a unit, which names the entry it
//! is about. So nothing has to be remembered of what a node was told, or slept through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disk::Pending;
use super::losses::Losses;
use super::mirror::Mirrors;
use super::repair::Caller;
use super::scrub::Scrub;
use super::transfer::Giving;
use super::{Node, NodeConfig};
use crate::handoff::{Pace, Transfers};
use crate::message::{
    CopyAsk, DiskAnswer, DiskError, DiskRequest, FillNews, FillProgress, FillRecord, FillStage,
    FillState, Level, Overlay, Restored, RoundId, UnitDisk, UnitDone,
};
use crate::types::{Class, ClusterState, Epoch, NodeId, Now, Tenure, Unit, limits};

/// Units that are emptied at once.
const EMPTYING_MAX: usize = 4;

/// What is known of the units this node owns, or owned.
#[derive(Debug)]
pub(super) struct Fills {
    /// What the disk says, by unit.
    records: BTreeMap<Unit, FillRecord>,
    /// Units that have to be emptied.
    due: BTreeMap<Unit, Due>,
    /// Units the store holds something of are being looked for.
    walking: bool,
    /// The walk could not be made: again with the next housekeeping.
    walk_failed: Option<Option<Unit>>,
    /// Something was deleted: the store gives room back once it is flushed.
    deleted: bool,
    failed: bool,
    /// The store could not empty a unit: nothing is asked of it before the next housekeeping.
    held_up: bool,
    /// How far everything on disk has been read.
    pub(super) scrub: Scrub,
    /// What this node has lost.
    pub(super) losses: Losses,
    /// What it mirrors while it is reserved.
    pub(super) mirrors: Mirrors,
    /// Who is asked for copies, and what for.
    pub(super) transfers: Transfers,
    /// What this node gives to others.
    pub(super) giving: Giving,
}

/// A unit that has to be emptied: what is there was written under another entry, or by somebody who is
/// an owner no more.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// Writes the disk was asked before this token were let in before: they are waited for.
    after: u64,
    running: bool,
}

/// What the disk was asked about a unit for.
#[derive(Clone, Debug)]
pub(super) enum UnitPending {
    /// Units it holds something of, behind one.
    Held(Option<Unit>),
    /// A unit that is emptied, and what is then on record of it.
    Emptied(Unit, Option<FillRecord>),
    /// A page that a target has asked for.
    Given(NodeId, Box<CopyAsk>),
    /// What is lacking of a page of a source.
    Compared(Unit, RoundId),
    /// What a source has given.
    Merged(Unit, RoundId),
    /// What was staged of a source's files.
    Staged(Unit, RoundId),
    /// The files of a source, and what is then on record.
    TakenIn(Unit, FillRecord),
    /// A piece of an overlay, and what is on record when nothing is left of it.
    Drained(Unit, FillRecord),
    /// What a session of this node gives to another owner.
    Fetched(Unit, u64),
    /// What another owner has given in a session of this node.
    Brought(Unit, u64),
    /// What another owner has asked for in a session of its.
    Lent(Caller),
    /// What another owner has brought in a session of its.
    Taken(Caller),
    /// How far a unit is; and the tenure that begins with it.
    Saved(Unit, FillRecord, Option<Tenure>),
    /// What is damaged.
    Damage,
    /// A piece of all that is on disk.
    Scrubbed,
    /// That a unit has lost data.
    Lost(Unit, FillRecord),
    /// That all units have, with records of the log.
    LogLost(Vec<(Unit, FillRecord)>, Epoch),
    /// What nobody misses of lost keys.
    Forgone,
}

impl UnitPending {
    fn unit(&self) -> Option<Unit> {
        match self {
            UnitPending::Held(_)
            | UnitPending::Damage
            | UnitPending::Scrubbed
            | UnitPending::LogLost(..)
            | UnitPending::Forgone => None,
            UnitPending::Given(_, ask) => Some(ask.unit),
            UnitPending::Lent(caller) | UnitPending::Taken(caller) => Some(caller.place.unit),
            UnitPending::Emptied(unit, _)
            | UnitPending::Compared(unit, _)
            | UnitPending::Merged(unit, _)
            | UnitPending::Staged(unit, _)
            | UnitPending::TakenIn(unit, _)
            | UnitPending::Drained(unit, _)
            | UnitPending::Fetched(unit, _)
            | UnitPending::Brought(unit, _)
            | UnitPending::Lost(unit, _)
            | UnitPending::Saved(unit, ..) => Some(*unit),
        }
    }

    /// Whether it changes what is there of a unit, or on record.
    fn is_write(&self) -> bool {
        matches!(
            self,
            // A comparison may delete what a mirror has too much of.
            UnitPending::Compared(..)
                | UnitPending::Merged(..)
                | UnitPending::Staged(..)
                | UnitPending::TakenIn(..)
                | UnitPending::Drained(..)
                | UnitPending::Brought(..)
                | UnitPending::Taken(_)
                | UnitPending::Saved(..)
                | UnitPending::Lost(..)
        )
    }
}

impl Fills {
    pub(super) fn new(now: Now, config: &NodeConfig, restored: &Restored) -> Fills {
        let pace = Pace {
            bytes_per_second: config.transfer_rate,
            pause: config.retry_interval,
            answer_within: config.retry_interval.saturating_mul(8),
        };
        Fills {
            transfers: Transfers::new(pace),
            giving: Giving::default(),
            scrub: Scrub::new(now, config, restored),
            losses: Losses::new(restored),
            mirrors: Mirrors::default(),
            records: restored.fills.clone(),
            due: BTreeMap::new(),
            walking: false,
            walk_failed: None,
            deleted: false,
            failed: false,
            held_up: false,
        }
    }
}

mod told;

impl Node {
    /// Whether this replica has all it should have of `unit`: only then is it read, does it promise,
    /// and do its answers to writes tell what came before.
    pub(super) fn is_complete(&self, unit: Unit) -> bool {
        let Some(entry) = self.own_entry(unit) else { return false };
        if self.fills.losses.has_lost(unit) {
            return false;
        }
        match self.fills.records.get(&unit) {
            None => self.is_original(unit),
            Some(FillRecord { stage: FillStage::Filling(_), .. }) => false,
            Some(FillRecord { stage: FillStage::Lost, .. }) => crate::mutant!("lost-answers"),
            Some(FillRecord { stage: FillStage::Mirror { .. }, .. }) => {
                crate::mutant!("mirror-passes-for-owner")
            }
            Some(record) => record.entry == entry || crate::mutant!("gap-ignored"),
        }
    }

    /// Whether this replica may take writes of `unit`: what is left of an earlier time is gone, and it
    /// is durable that it is being filled.
    pub(super) fn takes_writes(&self, unit: Unit) -> bool {
        let Some(entry) = self.own_entry(unit) else { return false };
        let known = self.fills.records.get(&unit);
        let is_known = known.map_or(self.is_original(unit), |record| record.entry == entry)
            || self.is_mirrored(unit) && crate::mutant!("mirror-passes-for-owner");
        (is_known && !self.fills.due.contains_key(&unit)) || crate::mutant!("gap-ignored")
    }

    pub(super) fn own_entry(&self, unit: Unit) -> Option<Epoch> {
        self.state.as_ref().and_then(|state| state.entry(unit, self.me))
    }

    fn is_original(&self, unit: Unit) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_original(unit, self.me))
    }

    /// A state is in force: what this node has entered is to be filled, what it has left goes.
    pub(super) fn on_owners(&mut self, before: Option<&Arc<ClusterState>>) {
        let Some(state) = self.state.clone() else { return };
        self.rest_mirror(&state);
        let mut units: BTreeSet<Unit> = self.fills.records.keys().copied().collect();
        let owned = |state: &ClusterState| -> Vec<Unit> {
            state.units().filter(|unit| state.is_writer(*unit, self.me)).collect()
        };
        units.extend(owned(&state));
        let left = before.map(|before| owned(before)).unwrap_or_default();
        units.extend(&left);
        for unit in units {
            self.judge_unit(unit, left.contains(&unit));
        }
        let has_moved = |class: &Class| class.changed_at.iter().any(|at| *at != class.created);
        if before.is_none() && state.classes.iter().any(has_moved) {
            // Also those of which nothing is on record: it was an owner from their beginning.
            self.walk_units(None);
        }
        self.fills_on();
    }

    /// Compares what is there of a unit with what the state says. `held`: there may be something of it
    /// though nothing is on record.
    fn judge_unit(&mut self, unit: Unit, held: bool) {
        let entry = self.own_entry(unit);
        let known = self.fills.records.get(&unit);
        let is_losing = self.fills.losses.has_lost(unit);
        let is_fine = match (entry, known) {
            (None, Some(known)) if known.mirrored_at().is_some() => {
                self.keeps_mirrors() && !self.fills.due.contains_key(&unit)
            }
            (None, known) => known.is_none() && !held && !self.fills.due.contains_key(&unit),
            (Some(_), None) => self.is_original(unit),
            (Some(entry), Some(known)) => {
                known.entry == entry
                    || known.stage == FillStage::Complete && crate::mutant!("gap-ignored")
                    || known.mirrored_at().is_some() && crate::mutant!("mirror-passes-for-owner")
            }
        };
        match self.fills.due.get_mut(&unit) {
            // Looked at again when it has ended.
            Some(due) if due.running => {}
            // INVARIANT: entries only rise, so what was to be emptied still is.
            Some(due) => due.after = due.after.max(self.next_token),
            None if is_fine => {
                if let Some(FillRecord { entry, stage: FillStage::Filling(progress) }) = known
                    && !is_losing
                {
                    self.fills.transfers.begin(unit, *entry, progress.clone());
                }
            }
            None => self.empty_unit(unit),
        }
    }

    /// A unit is to be emptied, once all has ended that was let in before.
    pub(super) fn empty_unit(&mut self, unit: Unit) {
        self.fills.transfers.forget(unit);
        let due = Due { after: self.next_token, running: false };
        self.fills.due.insert(unit, due);
    }

    /// Judges all units once more.
    pub(super) fn judge_all(&mut self) {
        let Some(state) = self.state.clone() else { return };
        let mut units: BTreeSet<Unit> = self.fills.records.keys().copied().collect();
        units.extend(state.units().filter(|unit| state.is_writer(*unit, self.me)));
        for unit in units {
            self.judge_unit(unit, false);
        }
        self.fills_on();
    }

    /// Deleted ranges reach the tables: merges then leave out what they hide.
    pub(super) fn flush_soon(&mut self) {
        self.disk(Pending::Housekeeping, DiskRequest::Flush);
    }

    /// Looks for units the store holds something of.
    fn walk_units(&mut self, after: Option<Unit>) {
        if !self.fills.walking {
            self.fills.walking = true;
            self.unit_disk(UnitPending::Held(after), UnitDisk::Held { after });
        }
    }

    pub(super) fn unit_disk(&mut self, pending: UnitPending, request: UnitDisk) {
        self.disk(Pending::Unit(pending), DiskRequest::Unit(Box::new(request)));
    }

    pub(super) fn on_unit_disk_done(
        &mut self,
        now: Now,
        pending: UnitPending,
        result: Result<DiskAnswer, DiskError>,
    ) {
        let result = match result {
            Ok(DiskAnswer::Unit(done)) => Ok(done),
            // Records are stored like others.
            Ok(DiskAnswer::Persisted) => Ok(UnitDone::Merged),
            Ok(other) => Err(DiskError::Io(format!("the disk gave another answer: {other:?}"))),
            Err(error) => Err(error),
        };
        match pending {
            UnitPending::Held(after) => self.on_units_held(after, result),
            UnitPending::Emptied(unit, record) => self.on_emptied(now, (unit, record), result),
            UnitPending::Given(to, ask) => self.on_page_read(now, to, &ask, result),
            UnitPending::Compared(unit, round) => self.on_compared(now, (unit, round), result),
            UnitPending::Merged(unit, round) | UnitPending::Staged(unit, round) => {
                self.on_copy_merged(now, (unit, round), result);
            }
            UnitPending::TakenIn(unit, record) => self.on_taken_in(now, (unit, record), &result),
            UnitPending::Drained(unit, record) => self.on_drained(now, (unit, record), &result),
            UnitPending::Fetched(_, session) | UnitPending::Brought(_, session) => {
                self.on_session_disk(now, session, result);
            }
            UnitPending::Lent(caller) => self.on_lent(now, caller, result),
            UnitPending::Taken(caller) => self.on_taken_up(now, caller, result),
            UnitPending::Damage => self.on_damage_found(result),
            UnitPending::Scrubbed => self.on_scrubbed(now, &result),
            UnitPending::Lost(unit, record) => self.on_lost(now, (unit, record), &result),
            UnitPending::LogLost(units, newest) => {
                self.on_log_dealt_with(now, (units, newest), &result);
            }
            UnitPending::Forgone => self.on_forgone(&result),
            UnitPending::Saved(unit, record, tenure) => {
                self.on_fill_saved(now, unit, (record, tenure), &result);
            }
        }
    }

    fn on_units_held(&mut self, after: Option<Unit>, result: Result<UnitDone, DiskError>) {
        self.fills.walking = false;
        match result {
            Ok(UnitDone::Held(units, is_last)) => {
                for unit in &units {
                    self.judge_unit(*unit, self.own_entry(*unit).is_none());
                }
                match units.last() {
                    Some(last) if !is_last => self.walk_units(Some(*last)),
                    _ => self.fills_on(),
                }
            }
            Ok(_) => {}
            Err(_) => self.fills.walk_failed = Some(after),
        }
    }

    /// Goes on with whatever nothing stands in the way of.
    pub(super) fn fills_on(&mut self) {
        self.losses_on();
        // What was lost with the log must not pass for never having been there.
        if self.fills.due.is_empty() || self.fills.held_up || self.fills.losses.log_is_open() {
            return;
        }
        // INVARIANT: what was to be set aside is, before anything of it is deleted.
        if self.keeper.holds_deletions() {
            return;
        }
        let running = self.fills.due.values().filter(|due| due.running).count();
        let waiting = self.fills.due.iter().filter(|(_, due)| !due.running);
        let ready: Vec<Unit> = waiting
            .filter(|(unit, due)| !self.is_written(**unit, due.after))
            .map(|(unit, _)| *unit)
            .take(EMPTYING_MAX.saturating_sub(running))
            .collect();
        for unit in ready {
            let keeps = self.own_entry(unit).is_some() && self.starts_warm(unit);
            let record = self.own_entry(unit).map(|entry| {
                // Files can be taken in only beside what is written meanwhile, and what was mirrored be made
                // equal to what a source has.
                let overlay = if keeps { Overlay::Mirrored } else { Overlay::Files };
                let stage = FillStage::Filling(FillProgress { overlay, ..FillProgress::default() });
                FillRecord { entry, stage }
            });
            if let Some(due) = self.fills.due.get_mut(&unit) {
                due.running = true;
            }
            let request = UnitDisk::Empty { unit, record: record.clone(), keeps };
            self.unit_disk(UnitPending::Emptied(unit, record), request);
        }
    }

    /// Whether something is under way that was let in before: it must not land in what is deleted.
    fn is_written(&self, unit: Unit, before: u64) -> bool {
        self.is_copied(Some(unit), before)
            || self.writes_before(before) && !crate::mutant!("delete-early")
    }

    /// Whether copies of a unit, or of any, are under way that the disk was asked for before this token.
    pub(super) fn is_copied(&self, unit: Option<Unit>, before: u64) -> bool {
        self.pending.range(..before).any(|(_, pending)| match pending {
            Pending::Unit(pending) if pending.is_write() => {
                unit.is_none_or(|unit| pending.unit() == Some(unit))
            }
            _ => false,
        })
    }

    /// The same after some time, for what the store could not do before.
    pub(super) fn fills_again(&mut self) {
        self.fills.held_up = false;
        self.fills.losses.again();
        if let Some(after) = self.fills.walk_failed.take() {
            self.walk_units(after);
        }
        self.fills_on();
        self.drop_exports();
    }

    fn on_emptied(
        &mut self,
        now: Now,
        (unit, record): (Unit, Option<FillRecord>),
        result: Result<UnitDone, DiskError>,
    ) {
        if let Err(error) = result {
            self.fills.held_up = true;
            if let Some(due) = self.fills.due.get_mut(&unit) {
                due.running = false;
            }
            if !core::mem::replace(&mut self.fills.failed, true) {
                self.note(Level::Warn, None, format!("could not empty unit {unit}: {error}"));
            }
            return;
        }
        self.fills.failed = false;
        self.fills.due.remove(&unit);
        self.floors.forget(unit);
        let was_lost = self.fills.losses.forget(unit) || self.is_on_record_lost(unit);
        // Damage goes with the merges that come after.
        self.fills.deleted |= was_lost;
        match &record {
            Some(_) if was_lost => self.fills.losses.begin_healing(unit),
            Some(_) => {}
            None => self.fills.losses.leave(unit),
        }
        match record {
            Some(record) => {
                crate::sometimes!("fills: has entered a unit");
                self.fills.records.insert(unit, record);
            }
            None => {
                crate::sometimes!("fills: has deleted a unit that it left");
                self.fills.records.remove(&unit);
                self.fills.deleted = true;
            }
        }
        // Another state may have come into force meanwhile.
        self.judge_unit(unit, false);
        self.fills_on();
        if self.fills.due.is_empty() && core::mem::take(&mut self.fills.deleted) {
            self.disk(Pending::Housekeeping, DiskRequest::Flush);
        }
        // Writes may have waited for it.
        self.on_caught_up(now);
    }

    fn is_on_record_lost(&self, unit: Unit) -> bool {
        let known = self.fills.records.get(&unit);
        known.is_some_and(|record| record.stage == FillStage::Lost)
    }

    /// What is on record of units.
    pub(super) fn records(&self) -> impl Iterator<Item = (Unit, &FillRecord)> {
        self.fills.records.iter().map(|(unit, record)| (*unit, record))
    }

    /// What is on record of a unit.
    pub(super) fn record(&self, unit: Unit) -> Option<&FillRecord> {
        self.fills.records.get(&unit)
    }

    /// How many units have lost data and are not filled again yet.
    pub(super) fn lost_units(&self) -> usize {
        let lost = self.fills.records.iter().filter(|(_, it)| it.stage == FillStage::Lost);
        lost.count() + self.fills.losses.open()
    }

    /// Whether a unit is about to be emptied.
    pub(super) fn is_due(&self, unit: Unit) -> bool {
        self.fills.due.contains_key(&unit)
    }

    /// A unit is not emptied under the entry it has.
    pub(super) fn not_due(&mut self, unit: Unit) {
        self.fills.due.remove(&unit);
    }

    /// It is durable, or about to be, how far a unit is.
    pub(super) fn set_record(&mut self, unit: Unit, record: FillRecord) {
        self.fills.records.insert(unit, record);
    }

    /// What this node says of the units it has become an owner of.
    pub(super) fn fill_news(&self) -> Vec<FillNews> {
        let Some(state) = &self.state else { return Vec::new() };
        let news = self.fills.records.iter().filter_map(|(unit, record)| {
            let (unit, entry) = (*unit, record.entry);
            let told = match &record.stage {
                FillStage::Complete
                    if state.moving(unit).is_none() && state.loss(unit).is_none() =>
                {
                    return None;
                }
                FillStage::Complete => FillState::Complete,
                FillStage::Mirror { .. } => return None,
                FillStage::Lost if crate::mutant!("lost-not-said") => return None,
                FillStage::Lost => FillState::Lost,
                FillStage::Filling(_) => {
                    let done_milli = self.fills.transfers.done_milli(unit, state);
                    FillState::Filling { done_milli }
                }
            };
            (self.own_entry(unit) == Some(entry)).then_some(FillNews { unit, entry, state: told })
        });
        news.collect()
    }

    /// What of it one probe tells.
    pub(super) fn fill_news_told(&self, now: Now) -> Vec<FillNews> {
        let probe = u64::try_from(self.config.probe_interval.as_nanos()).unwrap_or(u64::MAX);
        told::page(self.fill_news(), now.mono.0 / probe.max(1), limits::FILL_NEWS_MAX)
    }

    /// Bytes a second of copies that this node takes; 0 is no bound.
    pub(super) fn transfer_rate(&self) -> u64 {
        self.config.transfer_rate
    }
}

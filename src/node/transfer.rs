//! Copies of units: what this node asks as a target, and what it gives as a source. The rules are
//! `handoff`'s and `docs/protocol/transfer.md`'s; here they are fed, and their wishes carried out.

use core::time::Duration;
use std::collections::BTreeMap;

use super::Node;
use super::disk::Pending;
use super::fills::UnitPending;
use crate::handoff::{Braking, Surroundings, TransferAction, Transfers};
use crate::message::{
    CopyAsk, CopyEntry, CopyMessage, CopyRefusal, CopyWhat, DiskError, DiskRequest, FillRecord,
    FillStage, Level, MetaRecord, PeerMessage, Phase, RoundId, UnitDisk, UnitDone,
};
use crate::types::{ClusterState, Epoch, NodeId, Now, Role, TableKind, Tenure, Time, Unit, limits};

/// How far ahead of its pace a source may be before it puts targets off.
const AHEAD_MAX: Duration = Duration::from_millis(500);
/// How long files are kept that nobody asks for.
const EXPORT_IDLE_MAX: Duration = Duration::from_secs(120);

/// What a source gives.
#[derive(Debug, Default)]
pub(super) struct Giving {
    /// Pages that are being read.
    pages: usize,
    /// Where its pace is.
    paced: Time,
    /// Units that are given as files: to whom, for which entry, and when they were last asked for.
    exports: BTreeMap<(Unit, NodeId), (Epoch, Time)>,
}

/// Whether a member may have copies of a unit though it is no owner of it.
fn may_mirror(state: &ClusterState, unit: Unit, member: NodeId) -> bool {
    let is_reserved = state.member(member).is_some_and(|member| member.role == Role::Reserved);
    is_reserved && !state.is_writer(unit, member)
}

impl Node {
    /// When transfers want to go on: while this node serves.
    pub(super) fn transfers_deadline(&self) -> Option<Time> {
        let serves = self.phase == Phase::Serving && self.state.is_some();
        self.fills.transfers.next_deadline().filter(|_| serves)
    }

    pub(super) fn on_transfers_time(&mut self, now: Now) {
        if self.transfers_deadline().is_some_and(|at| at <= now.mono) {
            self.transfer_step(now, Transfers::on_time);
        }
    }

    pub(super) fn on_source_lost(&mut self, now: Now, member: NodeId) {
        self.transfer_step(now, |transfers, around| transfers.on_unreachable(member, around));
    }

    /// Takes a step of the machine and carries out what it wants.
    fn transfer_step(&mut self, now: Now, run: impl FnOnce(&mut Transfers, &mut Surroundings<'_>)) {
        let serves = self.phase == Phase::Serving;
        let Some(state) = self.state.clone().filter(|_| serves) else { return };
        let fills = self.fills.transfers.next_deadline().is_some();
        let stopped = fills && self.copy_pace(now) == Braking::Stopped;
        let (mut out, busy) = (Vec::new(), stopped || self.users_are_busy());
        let members = &self.members;
        let reachable = |member: NodeId| members.is_reachable(member) && members.serves(member);
        let around = &mut Surroundings {
            now: now.mono,
            me: self.me,
            state: &state,
            reachable: &reachable,
            busy,
            governor: &mut self.governor,
            next_operation: &mut self.next_operation,
            out: &mut out,
        };
        run(&mut self.fills.transfers, around);
        for action in out {
            match action {
                TransferAction::Ask(to, ask) => {
                    self.send(to, PeerMessage::Copy(Box::new(CopyMessage::Ask(*ask))));
                }
                TransferAction::Compare(unit, round, told) => {
                    let request = UnitDisk::Compare { unit, told };
                    self.unit_disk(UnitPending::Compared(unit, round), request);
                }
                TransferAction::Merge(unit, round, entries, source) => {
                    // What is left of dropped tables must not come back behind the sweep.
                    let stays = |entry: &CopyEntry| !state.is_dropped(entry.place.table);
                    let entries = entries.into_iter().filter(stays).collect();
                    let request = UnitDisk::Fill { unit, entries, source };
                    self.unit_disk(UnitPending::Merged(unit, round), request);
                }
                TransferAction::Clear(unit, round) => {
                    self.unit_disk(UnitPending::Staged(unit, round), UnitDisk::Clear { unit });
                }
                TransferAction::Stage(unit, round, file, offset, chunk) => {
                    let request = UnitDisk::Stage { unit, file, offset, chunk };
                    self.unit_disk(UnitPending::Staged(unit, round), request);
                }
                TransferAction::TakeIn(unit, files, record, source) => {
                    let pending = UnitPending::TakenIn(unit, record.clone());
                    let state = state.clone();
                    self.unit_disk(
                        pending,
                        UnitDisk::TakeIn { unit, files, source, record, state },
                    );
                }
                TransferAction::Drain(unit, record) => {
                    let pending = UnitPending::Drained(unit, record.clone());
                    self.unit_disk(pending, UnitDisk::Drain { unit, record });
                }
                TransferAction::Save(unit, record) => self.save_fill(unit, record),
            }
        }
    }

    /// Makes durable how far a unit is. Whoever is complete for a new entry begins a new tenure: it
    /// gives no name in causal tables under one that others may know more of.
    fn save_fill(&mut self, unit: Unit, record: FillRecord) {
        let mut record = record;
        if let FillStage::Mirror { at } = &mut record.stage {
            *at = self.mirrors_as_of();
        }
        let is_complete = record.stage == FillStage::Complete;
        let is_causal = self.state.as_ref().is_some_and(|state| {
            let mut tables = state.tables.iter().filter(|table| table.class == unit.class);
            tables.any(|table| table.kind == TableKind::Causal)
        });
        let tenure = (is_complete && is_causal).then(|| Tenure(self.causal.rng.u64(1..)));
        let mut records = vec![MetaRecord::Fill(unit, record.clone())];
        records.extend(tenure.map(MetaRecord::Tenure));
        if is_complete && crate::mutant!("complete-before-durable") {
            self.set_record(unit, record.clone());
        }
        let pending = Pending::Unit(UnitPending::Saved(unit, record, tenure));
        self.disk(pending, DiskRequest::Persist(records));
    }

    pub(super) fn on_fill_saved(
        &mut self,
        now: Now,
        unit: Unit,
        (record, tenure): (FillRecord, Option<Tenure>),
        result: &Result<UnitDone, DiskError>,
    ) {
        if result.is_ok() {
            let is_complete = record.stage == FillStage::Complete;
            let is_current = self.own_entry(unit) == Some(record.entry);
            self.causal.tenure = tenure.unwrap_or(self.causal.tenure);
            let mirrored = record.mirrored_at();
            self.set_record(unit, record);
            if mirrored.is_some() {
                return self.on_mirror_saved(now, unit);
            }
            if is_complete {
                crate::sometimes!("transfer: a unit is complete");
                self.fills.transfers.forget(unit);
                self.look_up_floor(now, unit);
                if self.fills.losses.end_healing(unit) {
                    crate::sometimes!("losses: a unit is whole again");
                    self.note(Level::Info, None, format!("unit {unit} is whole again"));
                }
                if is_current {
                    self.members.probe_soon(now);
                    self.look_at_moves(now);
                }
            }
        }
        let is_done = result.is_ok();
        if !is_done && self.is_mirroring(unit) {
            self.end_mirror(unit);
        }
        self.transfer_step(now, |transfers, around| transfers.on_saved(unit, is_done, around));
    }

    pub(super) fn on_compared(
        &mut self,
        now: Now,
        about: (Unit, RoundId),
        result: Result<UnitDone, DiskError>,
    ) {
        let lack = match result {
            Ok(UnitDone::Wanted(lack)) => Some(lack),
            _ => None,
        };
        self.transfer_step(now, |transfers, around| transfers.on_compared(about, lack, around));
    }

    pub(super) fn on_copy_merged(
        &mut self,
        now: Now,
        about: (Unit, RoundId),
        result: Result<UnitDone, DiskError>,
    ) {
        let is_done = result.is_ok();
        self.transfer_step(now, |transfers, around| transfers.on_merged(about, is_done, around));
    }

    pub(super) fn on_taken_in(
        &mut self,
        now: Now,
        (unit, record): (Unit, FillRecord),
        result: &Result<UnitDone, DiskError>,
    ) {
        match result {
            Ok(_) => self.set_record(unit, record),
            Err(error) => {
                let text = format!("files of unit {unit} could not be taken in: {error}");
                self.note(Level::Warn, None, text);
            }
        }
        let is_done = result.is_ok();
        self.transfer_step(now, |transfers, around| transfers.on_taken(unit, is_done, around));
    }

    pub(super) fn on_drained(
        &mut self,
        now: Now,
        (unit, record): (Unit, FillRecord),
        result: &Result<UnitDone, DiskError>,
    ) {
        let over = match result {
            Ok(UnitDone::Drained(is_over)) => Some(*is_over),
            _ => None,
        };
        if over == Some(true) {
            self.set_record(unit, record);
        }
        self.transfer_step(now, |transfers, around| transfers.on_drained(unit, over, around));
    }

    pub(super) fn on_copy(&mut self, now: Now, from: NodeId, message: CopyMessage) {
        match message {
            CopyMessage::Ask(ask) => self.on_copy_ask(now, from, ask),
            answer => {
                self.transfer_step(now, |transfers, around| {
                    transfers.on_message(from, answer, around);
                });
            }
        }
    }

    fn on_copy_ask(&mut self, now: Now, from: NodeId, ask: CopyAsk) {
        let is_ahead = self.fills.giving.paced.since(now.mono) > AHEAD_MAX;
        let stopped = self.copy_pace(now) == Braking::Stopped;
        let is_full =
            self.fills.giving.pages >= limits::COPY_PAGES_GIVEN_MAX || is_ahead || stopped;
        let judged = self.judge_copy(now, from, &ask);
        let (unit, to) = (ask.unit, (from, ask.entry));
        match ask.what {
            CopyWhat::Ended => return self.end_export(unit, to),
            CopyWhat::Files | CopyWhat::Chunk(..) if judged.is_ok() => {
                self.fills.giving.exports.insert((unit, from), (ask.entry, now.mono));
            }
            _ => {}
        }
        match judged {
            Err(why) => self.refuse_copy(from, ask.round, why),
            Ok(()) if is_full => self.refuse_copy(from, ask.round, CopyRefusal::Busy),
            Ok(()) => {
                self.fills.giving.pages += 1;
                let request = UnitDisk::Page { unit, what: ask.what.clone(), to };
                self.unit_disk(UnitPending::Given(from, Box::new(ask)), request);
            }
        }
    }

    fn end_export(&mut self, unit: Unit, to: (NodeId, Epoch)) {
        self.fills.giving.exports.remove(&(unit, to.0));
        let request = UnitDisk::Page { unit, what: CopyWhat::Ended, to };
        self.disk(Pending::Housekeeping, DiskRequest::Unit(Box::new(request)));
    }

    /// Files that nobody has asked for in a while take room on this disk.
    pub(super) fn drop_exports(&mut self) {
        let now = self.now;
        let Some(state) = self.state.clone() else { return };
        let is_it = |unit: Unit, to: NodeId, entry: Epoch| match entry {
            FillRecord::MIRROR => may_mirror(&state, unit, to),
            entry => state.entry(unit, to) == Some(entry),
        };
        let idle = self.fills.giving.exports.iter().filter(|((unit, to), (entry, asked))| {
            now.since(*asked) > EXPORT_IDLE_MAX || !is_it(*unit, *to, *entry)
        });
        let idle: Vec<_> = idle.map(|((unit, to), (entry, _))| (*unit, (*to, *entry))).collect();
        for (unit, to) in idle {
            self.end_export(unit, to);
        }
    }

    /// Whether this node may be a source: it has everything itself, and lets nothing in any more that
    /// the target would not be told of.
    fn judge_copy(&mut self, now: Now, from: NodeId, ask: &CopyAsk) -> Result<(), CopyRefusal> {
        let Some(state) = self.state.clone().filter(|_| self.is_serving()) else {
            return Err(CopyRefusal::Incomplete);
        };
        let changed_at = state.changed_at(ask.unit);
        if ask.changed_at > changed_at {
            self.ask_state(now, from);
            return Err(CopyRefusal::NotAcknowledged);
        }
        let is_it = match ask.entry {
            FillRecord::MIRROR => may_mirror(&state, ask.unit, from),
            entry => state.entry(ask.unit, from) == Some(entry),
        };
        if !is_it {
            self.push_state(now, from);
            return Err(CopyRefusal::OtherEntry);
        }
        if ask.changed_at < changed_at {
            self.push_state(now, from);
            return Err(CopyRefusal::Fenced);
        }
        if self.topology.acknowledged() < ask.entry && !crate::mutant!("source-before-ack") {
            crate::sometimes!("transfer: a source has yet to acknowledge");
            return Err(CopyRefusal::NotAcknowledged);
        }
        if !state.owners(ask.unit).contains(&self.me) || !self.is_complete(ask.unit) {
            return Err(CopyRefusal::Incomplete);
        }
        Ok(())
    }

    fn refuse_copy(&mut self, to: NodeId, round: RoundId, why: CopyRefusal) {
        self.send(to, PeerMessage::Copy(Box::new(CopyMessage::Refused { round, why })));
    }

    pub(super) fn on_page_read(
        &mut self,
        now: Now,
        to: NodeId,
        ask: &CopyAsk,
        result: Result<UnitDone, DiskError>,
    ) {
        let giving = &mut self.fills.giving;
        giving.pages -= 1;
        let page = match result {
            Ok(UnitDone::Page(page)) => page,
            Ok(_) => return self.refuse_copy(to, ask.round, CopyRefusal::Busy),
            Err(_) if matches!(ask.what, CopyWhat::Chunk(..)) => {
                return self.refuse_copy(to, ask.round, CopyRefusal::Gone);
            }
            Err(error @ DiskError::Corruption(_)) => {
                let unit = ask.unit;
                self.look_for_damage();
                self.note(Level::Error, None, format!("unit {unit} cannot be copied: {error}"));
                return self.refuse_copy(to, ask.round, CopyRefusal::Incomplete);
            }
            Err(_) => return self.refuse_copy(to, ask.round, CopyRefusal::Busy),
        };
        // Looked at again: what it was read from may have been deleted meanwhile.
        if let Err(why) = self.judge_copy(now, to, ask) {
            return self.refuse_copy(to, ask.round, why);
        }
        let rate = self.config.transfer_rate;
        let cost = self.governor.cost(now.mono, page.bytes(), rate);
        let giving = &mut self.fills.giving;
        giving.paced = giving.paced.max(now.mono).plus(cost);
        // Read before the page was told, and never lower than when it was read.
        let (floor, agreed) = self.floors.of_source(ask.unit);
        let (round, pages) = (ask.round, page.parts());
        let parts = u16::try_from(pages.len()).unwrap_or(u16::MAX);
        for (part, page) in (0..parts).zip(pages) {
            let message = CopyMessage::Page { round, part, parts, floor, agreed, page };
            self.send(to, PeerMessage::Copy(Box::new(message)));
        }
    }
}

//! Data that this node has lost: bad blocks of its store, and a log without its middle. Which units that
//! touches is durable before anything else is done about it; then it is told, and a state gives each of
//! them a new entry, under which `fills` has it filled. `docs/protocol/moves.md`, "Data lost".
//!
//! Knows no files: the disk says which keys may be lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Node;
use super::fills::UnitPending;
use crate::message::{
    DiskError, FillRecord, FillStage, Level, LostKeys, MetaRecord, Phase, Restored, UnitDisk,
    UnitDone,
};
use crate::types::{Epoch, NodeId, Now, Unit};

/// Places of damage that are told once and remembered.
const TOLD_MAX: usize = 256;
/// The last places of damage, for operators.
const PLACES_MAX: usize = 16;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Units that have lost data, before that is durable.
    units: BTreeMap<Unit, Losing>,
    /// Damage is being looked for.
    looking: bool,
    /// What has been told of damage.
    told: BTreeSet<String>,
    /// Units that had lost data and are being filled again; and how many have been.
    healing: BTreeSet<Unit>,
    healed: u64,
    /// Places of damage that were told, ever; and the last of them.
    found: u64,
    places: VecDeque<String>,
    /// The log had lost a part when this boot began, and that is not dealt with yet.
    log: Option<LogLoss>,
}

/// A unit that has lost data.
#[derive(Clone, Copy, Debug)]
struct Losing {
    /// Copies that the disk was asked for before this token are waited for.
    after: u64,
    running: bool,
}

#[derive(Debug)]
struct LogLoss {
    what: String,
    /// The check whose end says that the state in force here is the newest.
    check: Option<u64>,
    /// That it is so is being made durable.
    running: bool,
    /// It could not be: again with the next housekeeping.
    again: bool,
}

impl Losses {
    pub(super) fn new(restored: &Restored) -> Losses {
        let what = restored.damage.join("; ");
        let new = |what| LogLoss { what, check: None, running: false, again: false };
        let log = (!restored.damage.is_empty()).then(|| new(what));
        Losses { log, ..Losses::default() }
    }

    /// Whether a unit has lost data, and that is not on record yet.
    pub(super) fn has_lost(&self, unit: Unit) -> bool {
        self.units.contains_key(&unit) || self.log.is_some()
    }

    /// Whether damage of the log has yet to be dealt with.
    pub(super) fn log_is_open(&self) -> bool {
        self.log.is_some()
    }

    /// A unit has been emptied. Returns whether it had lost anything.
    pub(super) fn forget(&mut self, unit: Unit) -> bool {
        self.units.remove(&unit).is_some()
    }

    /// A unit that had lost data has been emptied.
    pub(super) fn begin_healing(&mut self, unit: Unit) {
        self.healing.insert(unit);
    }

    /// A unit is this node's no more: nothing of it is waited for.
    pub(super) fn leave(&mut self, unit: Unit) {
        if !crate::mutant!("left-unit-heals") {
            self.healing.remove(&unit);
        }
    }

    /// A unit is complete. Returns whether it had lost data.
    pub(super) fn end_healing(&mut self, unit: Unit) -> bool {
        let healed = self.healing.remove(&unit);
        self.healed += u64::from(healed);
        healed
    }

    /// What the store could not do is asked of it again.
    pub(super) fn again(&mut self) {
        self.units.values_mut().for_each(|losing| losing.running = false);
    }

    /// Units that have lost data, or are being filled again.
    pub(super) fn open(&self) -> usize {
        self.units.len() + self.healing.len()
    }

    /// Units that have been filled again since the start.
    pub(super) fn healed(&self) -> u64 {
        self.healed
    }

    /// Places of damage found since the start, and the last of them.
    pub(super) fn found(&self) -> (u64, Vec<String>) {
        (self.found, self.places.iter().cloned().collect())
    }

    /// Forgets what was told, so that it is told again when it is met again.
    fn tell(&mut self, what: &str) -> bool {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        let is_new = self.told.insert(what.to_owned());
        if is_new {
            self.found += 1;
            self.places.push_back(what.to_owned());
            if self.places.len() > PLACES_MAX {
                self.places.pop_front();
            }
        }
        is_new
    }
}

impl Node {
    /// Has the disk say what is damaged.
    pub(super) fn look_for_damage(&mut self) {
        if self.state.is_some() && !core::mem::replace(&mut self.fills.losses.looking, true) {
            self.unit_disk(UnitPending::Damage, UnitDisk::Damage);
        }
    }

    pub(super) fn on_damage_found(&mut self, result: Result<UnitDone, DiskError>) {
        self.fills.losses.looking = false;
        if let Ok(UnitDone::Damaged(found)) = result {
            for keys in found {
                self.lose_keys(keys);
            }
            self.fills_on();
        }
    }

    /// Keys of the store may be lost.
    fn lose_keys(&mut self, keys: LostKeys) {
        let Some(state) = self.state.clone() else { return };
        let is_touched =
            |unit: &Unit| keys.units.is_some_and(|(first, last)| (first..=last).contains(unit));
        let owned = state.units().filter(|unit| state.is_writer(*unit, self.me));
        let owned: Vec<Unit> = owned.filter(is_touched).collect();
        if self.fills.losses.tell(&keys.what) {
            crate::sometimes!("losses: data is lost");
            self.note(Level::Error, None, told(&keys, &owned));
        }
        for unit in &owned {
            self.lose(*unit);
        }
        let is_elsewhere = keys.hints
            || keys.units.is_some_and(|(first, last)| {
                owned.first() != Some(&first) || owned.last() != Some(&last) || owned.len() > 1
            });
        if is_elsewhere {
            // Nobody misses the rest, or it cannot be had again.
            let records = if keys.hints { self.mark_hinted() } else { Vec::new() };
            let request = UnitDisk::Forgo { keys, kept: owned, records };
            self.unit_disk(UnitPending::Forgone, request);
        }
    }

    /// Hints may be lost: whom there are some for may lack what they carried. Which units those were of
    /// nobody knows. Returns what is to be stored.
    fn mark_hinted(&mut self) -> Vec<MetaRecord> {
        let Some(state) = self.state.clone() else { return Vec::new() };
        let targets: Vec<NodeId> = self.hints.books.targets().map(|(target, _)| target).collect();
        let is_marked = |unit: Unit, target: NodeId| {
            state.is_writer(unit, target)
                && target != self.me
                && !crate::mutant!("lost-hints-unmarked")
        };
        let pairs = targets.iter().flat_map(|id| state.units().map(move |unit| (unit, *id)));
        let pairs: Vec<_> = pairs.filter(|(unit, target)| is_marked(*unit, *target)).collect();
        for (unit, target) in &pairs {
            self.note_mark(*unit, *target);
            self.hints.books.mark_dirty(*unit, *target);
        }
        pairs.into_iter().map(|(unit, target)| MetaRecord::Dirty(unit, target)).collect()
    }

    /// A unit has lost data. What there is one copy of stays as it is, but for what cannot be read.
    fn lose(&mut self, unit: Unit) {
        let copies = self.state.as_ref().and_then(|state| state.class(unit.class)).map(|it| it.n);
        let is_known = self.record(unit).is_some_and(|record| record.stage == FillStage::Lost);
        if copies == Some(1) || is_known || self.is_due(unit) {
            return;
        }
        self.fills.transfers.forget(unit);
        let losing = Losing { after: self.next_token, running: false };
        self.fills.losses.units.entry(unit).or_insert(losing);
    }

    /// Makes losses durable that nothing stands in the way of.
    pub(super) fn losses_on(&mut self) {
        if self.fills.losses.units.is_empty() {
            return;
        }
        let waiting = self.fills.losses.units.iter().filter(|(_, losing)| !losing.running);
        let ready = waiting.filter(|(unit, losing)| !self.is_copied(Some(**unit), losing.after));
        for unit in ready.map(|(unit, _)| *unit).collect::<Vec<_>>() {
            let Some(entry) = self.own_entry(unit).filter(|_| !self.is_due(unit)) else {
                // It is to be emptied anyway.
                self.fills.losses.forget(unit);
                continue;
            };
            if let Some(losing) = self.fills.losses.units.get_mut(&unit) {
                losing.running = true;
            }
            let record = FillRecord { entry, stage: FillStage::Lost };
            let records = vec![MetaRecord::Fill(unit, record.clone())];
            self.unit_disk(UnitPending::Lost(unit, record), UnitDisk::Lose { records, log: false });
        }
    }

    pub(super) fn on_lost(
        &mut self,
        now: Now,
        (unit, record): (Unit, FillRecord),
        result: &Result<UnitDone, DiskError>,
    ) {
        if let Err(error) = result {
            let text = format!("could not note that unit {unit} has lost data: {error}");
            return self.note(Level::Warn, None, text);
        }
        self.fills.losses.forget(unit);
        self.set_record(unit, record);
        self.members.probe_soon(now);
        self.look_at_moves(now);
    }

    pub(super) fn on_forgone(&mut self, result: &Result<UnitDone, DiskError>) {
        match result {
            Ok(_) => self.flush_soon(),
            Err(error) => {
                let text = format!("could not delete what is left of lost keys: {error}");
                self.note(Level::Warn, None, text);
            }
        }
    }

    /// Whether the log had lost a part, and the node may go on with that: others decide without it, and
    /// can fill it.
    pub(super) fn may_go_on_without_log(restored: &Restored) -> bool {
        restored.state.as_ref().is_some_and(|state| state.council.len() >= 3)
    }

    /// This boot is registered. With a part of the log lost, it does not serve before it knows the newest
    /// state there is: what it has acknowledged may be of a later one than it has. Returns whether it
    /// waits for that.
    pub(super) fn waits_for_newest(&mut self, now: Now) -> bool {
        if self.fills.losses.log.is_none() {
            return false;
        }
        self.decree.abstain(Epoch(u64::MAX));
        self.decree.begin(now.mono);
        let check = self.decree.check(now.mono);
        if let Some(log) = &mut self.fills.losses.log {
            log.check = Some(check);
            let text = format!("{}: all units are filled again from others", log.what);
            self.note(Level::Error, None, text);
        }
        self.run_decree(now);
        true
    }

    /// The state in force here was the newest when a check began: whatever has been lost was
    /// acknowledged under an entry that this state names, or an earlier one.
    pub(super) fn on_newest_known(&mut self, number: u64) {
        let is_due = |log: &LogLoss| log.check.is_some_and(|check| check <= number) && !log.running;
        if self.fills.losses.log.as_ref().is_some_and(is_due) {
            self.deal_with_log();
        }
    }

    /// Tries again what the store could not do.
    pub(super) fn deal_with_log_again(&mut self) {
        if self.fills.losses.log.as_ref().is_some_and(|log| log.again) {
            self.deal_with_log();
        }
    }

    fn deal_with_log(&mut self) {
        let Some(state) = self.state.clone() else { return };
        if let Some(log) = &mut self.fills.losses.log {
            (log.running, log.again) = (true, false);
        }
        let owned = state.units().filter_map(|unit| Some((unit, state.entry(unit, self.me)?)));
        let lost = |(unit, entry)| (unit, FillRecord { entry, stage: FillStage::Lost });
        let units: Vec<_> = owned.map(lost).collect();
        // It may have promised in the decision that comes next.
        let next = Epoch(state.epoch.0.saturating_add(1));
        let fills = units.iter().map(|(unit, record)| MetaRecord::Fill(*unit, record.clone()));
        let records = fills.chain([MetaRecord::Abstain(next)]).collect();
        let request = UnitDisk::Lose { records, log: true };
        self.unit_disk(UnitPending::LogLost(units, next), request);
    }

    pub(super) fn on_log_dealt_with(
        &mut self,
        now: Now,
        (units, next): (Vec<(Unit, FillRecord)>, Epoch),
        result: &Result<UnitDone, DiskError>,
    ) {
        if let Err(error) = result {
            if let Some(log) = &mut self.fills.losses.log {
                (log.running, log.again) = (false, true);
            }
            let text = format!("could not note what was lost with the log: {error}");
            return self.note(Level::Error, None, text);
        }
        crate::sometimes!("losses: goes on without a part of the log");
        for (unit, record) in units {
            self.not_due(unit);
            self.set_record(unit, record);
        }
        self.fills.losses.log = None;
        self.decree.abstain(next);
        // Another state may have come into force meanwhile.
        self.judge_all();
        if matches!(self.phase, Phase::Registering(_)) {
            self.begin_serving(now);
        }
    }
}

fn told(keys: &LostKeys, owned: &[Unit]) -> String {
    let mut of: Vec<String> = Vec::new();
    match owned {
        [] => {}
        [one] => of.push(format!("unit {one}")),
        [first, .., last] => of.push(format!("{} units from {first} to {last}", owned.len())),
    }
    of.extend(keys.hints.then(|| "hints".to_owned()));
    if keys.own {
        of.push("records of the node itself, which nobody else has".to_owned());
    }
    let of = if of.is_empty() { "nothing that is missed".to_owned() } else { of.join(", ") };
    format!("damage in {}; lost with it may be: {of}", keys.what)
}

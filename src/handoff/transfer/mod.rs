//! Filling owners: what a node that has entered units asks of whom, until it has all it should have.
//! Rules, states and invariants: `docs/protocol/transfer.md`, `docs/protocol/moves.md`.
//!
//! Knows no disk and no membership: it is told what the disk has done, and with each step who can be
//! reached. All it must not forget is in one [`FillRecord`] a unit.

mod around;
mod compare;
mod pull;

use std::collections::BTreeMap;

use crate::message::{
    CopyAsk, CopyFile, CopyLack, CopyMessage, CopyRefusal, CopyWhat, FillProgress, FillRecord,
    FillStage, Overlay, RoundId, SourceFloor,
};
use crate::types::{ClassId, ClusterState, Epoch, NodeId, Time, Unit, WallTime, limits};

pub use around::{Pace, Surroundings, TransferAction};
use pull::{Begin, Got, Pull};

/// How often a question is asked before its source counts as lost.
const TRIES_MAX: u32 = 3;
/// What the first source makes of the whole, in thousandths.
const FIRST_SHARE: u64 = 900;
/// How often the time is halved for which a source is left alone at first that has yet to acknowledge an
/// epoch: mostly it is about to.
const HALVINGS: u32 = 5;
/// Bytes pulled after which progress is stored.
const SAVE_BYTES: u64 = 16 << 20;

/// The units that are being filled.
#[derive(Debug)]
pub struct Transfers {
    pace: Pace,
    fills: BTreeMap<Unit, Fill>,
    /// When the next question may leave.
    paced: Time,
    /// When it is next looked whether somebody can be asked.
    look_at: Time,
    /// Bytes that sources have given.
    taken: u64,
}

#[derive(Debug)]
struct Fill {
    entry: Epoch,
    progress: FillProgress,
    pull: Option<Pull>,
    /// Sources that have refused or were lost, and until when they are left alone.
    waits: BTreeMap<NodeId, Time>,
    /// How often in a row sources had yet to acknowledge.
    early: u32,
    /// A record is on its way to the disk.
    saving: bool,
    /// Something has come to be since the last one.
    unsaved: bool,
    /// Files are being taken in.
    taking: bool,
    /// The disk could not do what it was asked for: nothing is asked of it before.
    held_until: Time,
}

impl Fill {
    /// Whether something may be asked of the disk.
    fn may_write(&self, now: Time) -> bool {
        !self.saving && (self.held_until <= now || crate::mutant!("failed-asked-at-once"))
    }

    /// No owner is filled, but somebody mirrors the unit.
    fn mirrors(&self) -> bool {
        self.entry == FillRecord::MIRROR
    }

    fn record(&self, is_complete: bool) -> FillRecord {
        if self.mirrors() {
            return FillRecord::mirror(WallTime(0));
        }
        let stage = if is_complete {
            FillStage::Complete
        } else {
            FillStage::Filling(self.progress.clone())
        };
        FillRecord { entry: self.entry, stage }
    }

    /// The source that is asked next.
    fn pick(&self, unit: Unit, around: &Surroundings<'_>) -> Option<NodeId> {
        let owners = around.state.owners(unit);
        let ready = |id: &NodeId| {
            *id != around.me
                && !self.progress.pulled.contains(id)
                && self.waits.get(id).is_none_or(|until| *until <= around.now)
                && (around.reachable)(*id)
        };
        let current = self.progress.current.as_ref().map(|(source, _)| *source);
        if let Some(current) = current.filter(|id| owners.contains(id) && ready(id)) {
            return Some(current);
        }
        // Units begin with different ones, so that no owner has to give everything.
        let first = usize::from(unit.partition.0) % owners.len().max(1);
        owners.iter().cycle().skip(first).take(owners.len()).copied().find(ready)
    }
}

/// How many other owners of the read set have to be pulled.
fn sources_wanted(state: &ClusterState, unit: Unit) -> usize {
    if crate::mutant!("copy-from-one-source") || crate::mutant!("refill-from-one-source") {
        return 1;
    }
    state.sources_wanted(unit)
}

impl Transfers {
    /// Nothing under way.
    pub fn new(pace: Pace) -> Transfers {
        Transfers { pace, fills: BTreeMap::new(), paced: Time(0), look_at: Time(0), taken: 0 }
    }

    /// A unit is to be filled for an entry, from where an earlier boot has left it.
    pub fn begin(&mut self, unit: Unit, entry: Epoch, progress: FillProgress) {
        if self.fills.get(&unit).is_some_and(|fill| fill.entry == entry) {
            return;
        }
        // INVARIANT: all that is under way for another entry was forgotten, see `forget`.
        let (waits, pull) = (BTreeMap::new(), None);
        let (early, saving, unsaved, taking) = (0, false, false, false);
        let held_until = Time(0);
        let fill =
            Fill { entry, progress, pull, waits, early, saving, unsaved, taking, held_until };
        self.fills.insert(unit, fill);
        self.look_at = Time(0);
    }

    /// A unit that is mirrored is to become what one owner has; `is_new`: nothing is there yet.
    pub fn begin_mirror(&mut self, unit: Unit, is_new: bool) {
        let overlay = if is_new { Overlay::Files } else { Overlay::Mirrored };
        self.begin(unit, FillRecord::MIRROR, FillProgress { overlay, ..FillProgress::default() });
    }

    /// Bytes that sources have given since the start.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether anything is asked of sources for a unit.
    pub fn is_under_way(&self, unit: Unit) -> bool {
        self.fills.contains_key(&unit)
    }

    /// A unit is not to be filled any more, or for another entry.
    pub fn forget(&mut self, unit: Unit) {
        self.fills.remove(&unit);
    }

    /// How far a unit is, in thousandths.
    pub fn done_milli(&self, unit: Unit, state: &ClusterState) -> u16 {
        let Some(fill) = self.fills.get(&unit) else { return 0 };
        let (pulled, wanted) = (fill.progress.pulled.len(), sources_wanted(state, unit).max(1));
        if pulled == 0 {
            // The first source brings nearly everything, and what differs from the others is little.
            let first = fill.pull.as_ref().map_or(0, Pull::done_milli);
            return u16::try_from(first * FIRST_SHARE / 1000).unwrap_or(1000);
        }
        let rest = 1000 - FIRST_SHARE;
        let others = u64::try_from(pulled.min(wanted) - 1).unwrap_or(0);
        let of_others = u64::try_from(wanted - 1).unwrap_or(0);
        let done = (rest * others).checked_div(of_others).unwrap_or(rest);
        u16::try_from(FIRST_SHARE + done).unwrap_or(1000)
    }

    /// When [`Transfers::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.fills.is_empty() {
            return None;
        }
        let pulls = self.fills.values().filter_map(|fill| fill.pull.as_ref());
        let due = pulls.filter_map(|pull| match &pull.asked {
            Some(asked) => Some(asked.since.plus(self.pace.answer_within)),
            None => pull.may_ask().then(|| pull.held_until.max(self.paced)),
        });
        due.chain([self.look_at]).min()
    }

    /// Goes on, if there is anything to go on with.
    pub fn on_time(&mut self, around: &mut Surroundings<'_>) {
        for (unit, fill) in &mut self.fills {
            let Some(pull) = &mut fill.pull else { continue };
            let Some(asked) = &pull.asked else { continue };
            if !(around.reachable)(pull.source) {
                fail(*unit, fill, around.now.plus(self.pace.pause), around);
                continue;
            }
            if around.now.since(asked.since) < self.pace.answer_within {
                continue;
            }
            if asked.tries >= TRIES_MAX {
                crate::sometimes!("transfer: a source is lost");
                fail(*unit, fill, around.now.plus(self.pace.answer_within), around);
            } else {
                ask(*unit, fill.entry, pull, around);
            }
        }
        self.go_on(around);
    }

    /// A source has said something.
    pub fn on_message(
        &mut self,
        from: NodeId,
        message: CopyMessage,
        around: &mut Surroundings<'_>,
    ) {
        let (CopyMessage::Page { round, .. } | CopyMessage::Refused { round, .. }) = &message
        else {
            return;
        };
        let round = *round;
        let found = self.fills.iter_mut().find(|(_, fill)| {
            let is_it = |pull: &Pull| {
                pull.op == round.op && pull.source == from && pull.waits_for(round.round)
            };
            fill.pull.as_ref().is_some_and(is_it)
        });
        let Some((unit, fill)) = found else { return };
        let (unit, now) = (*unit, around.now);
        match message {
            CopyMessage::Page { part, parts, floor, agreed, page, .. } => {
                let rate = self.pace.bytes_per_second;
                self.taken = self.taken.saturating_add(page.bytes() as u64);
                let cost = around.governor.cost(now, page.bytes(), rate);
                self.paced = self.paced.max(now).plus(cost);
                fill.early = 0;
                let is_first = fill.progress.pulled.is_empty();
                let Some(pull) = &mut fill.pull else { return };
                // Who mirrors a unit keeps what an owner has, and knows nothing of its floor.
                if fill.entry != FillRecord::MIRROR {
                    pull.on_floor(floor, agreed, is_first);
                }
                let got = pull.on_part((part, parts), page);
                if !carry_out(unit, pull, got, around) {
                    fail(unit, fill, now.plus(self.pace.answer_within), around);
                }
            }
            CopyMessage::Refused { why: CopyRefusal::Busy, .. } => {
                let Some(pull) = &mut fill.pull else { return };
                pull.asked = None;
                pull.held_until = now.plus(self.pace.pause);
            }
            CopyMessage::Refused { why, .. } => {
                crate::sometimes!("transfer: a source refuses");
                let patience = match why {
                    CopyRefusal::Incomplete => self.pace.answer_within,
                    CopyRefusal::NotAcknowledged => {
                        let halvings = HALVINGS.saturating_sub(fill.early);
                        fill.early += 1;
                        self.pace.pause / (1 << halvings)
                    }
                    _ => self.pace.pause,
                };
                fail(unit, fill, now.plus(patience), around);
            }
            CopyMessage::Ask(_) => {}
        }
        self.go_on(around);
    }

    /// The disk has compared; `None`: it could not.
    pub fn on_compared(
        &mut self,
        (unit, round): (Unit, RoundId),
        lack: Option<CopyLack>,
        around: &mut Surroundings<'_>,
    ) {
        let Some(fill) = self.fills.get_mut(&unit) else { return };
        let Some(pull) = fill.pull.as_mut().filter(|pull| pull.op == round.op) else { return };
        match lack {
            Some(lack) => pull.on_compared(round.round, lack),
            None => fail(unit, fill, around.now.plus(self.pace.pause), around),
        }
        self.go_on(around);
    }

    /// The disk has merged, durably, or could not.
    pub fn on_merged(
        &mut self,
        (unit, round): (Unit, RoundId),
        is_done: bool,
        around: &mut Surroundings<'_>,
    ) {
        let Some(fill) = self.fills.get_mut(&unit) else { return };
        let Some(pull) = fill.pull.as_mut().filter(|pull| pull.op == round.op) else { return };
        if is_done {
            pull.on_merged(round.round);
        } else {
            fail(unit, fill, around.now.plus(self.pace.pause), around);
        }
        self.go_on(around);
    }

    /// The files of a unit are in its range, durably, or could not be taken in.
    pub fn on_taken(&mut self, unit: Unit, is_done: bool, around: &mut Surroundings<'_>) {
        let Some(fill) = self.fills.get_mut(&unit).filter(|fill| fill.taking) else { return };
        (fill.taking, fill.saving) = (false, false);
        if !is_done {
            let until = around.now.plus(self.pace.pause);
            fill.held_until = until;
            fail(unit, fill, until, around);
        } else if fill.pull.is_none() {
            // There was nobody to take them from.
            fill.progress.overlay = Overlay::Merging;
        } else if let Some(pull) = fill.pull.take() {
            fill.progress = taken(fill, pull.source);
            let round = RoundId { op: pull.op, round: 0 };
            let (entry, changed_at) = (fill.entry, around.state.changed_at(unit));
            let ask = CopyAsk { round, unit, entry, changed_at, what: CopyWhat::Ended };
            around.out.push(TransferAction::Ask(pull.source, Box::new(ask)));
        }
        self.go_on(around);
    }

    /// A piece of the overlay is in the range: whether it is over, durably. `None`: it could not.
    pub fn on_drained(&mut self, unit: Unit, over: Option<bool>, around: &mut Surroundings<'_>) {
        let Some(fill) = self.fills.get_mut(&unit) else { return };
        fill.saving = false;
        match over {
            Some(is_over) => {
                if is_over {
                    fill.progress.overlay = Overlay::Unused;
                }
                self.go_on(around);
            }
            None => self.hold(unit, around),
        }
    }

    /// A record is durable, or could not be made so: it is tried again.
    pub fn on_saved(&mut self, unit: Unit, is_done: bool, around: &mut Surroundings<'_>) {
        let Some(fill) = self.fills.get_mut(&unit) else { return };
        fill.saving = false;
        fill.unsaved |= !is_done;
        if is_done {
            self.go_on(around);
        } else {
            self.hold(unit, around);
        }
    }

    /// The disk could not do something for a unit: it is left alone for a while.
    fn hold(&mut self, unit: Unit, around: &Surroundings<'_>) {
        let until = around.now.plus(self.pace.pause);
        if let Some(fill) = self.fills.get_mut(&unit) {
            fill.held_until = until;
        }
        self.look_at = until;
    }

    /// A member cannot be reached any more.
    pub fn on_unreachable(&mut self, member: NodeId, around: &mut Surroundings<'_>) {
        for (unit, fill) in &mut self.fills {
            if fill.pull.as_ref().is_some_and(|pull| pull.source == member) {
                fail(*unit, fill, around.now.plus(self.pace.pause), around);
            }
        }
        self.go_on(around);
    }

    fn go_on(&mut self, around: &mut Surroundings<'_>) {
        let state = around.state;
        let mut wanted = BTreeMap::<ClassId, usize>::new();
        let mut under_way = self.fills.values().filter(|fill| fill.pull.is_some()).count();
        for (unit, fill) in &mut self.fills {
            if fill.pull.as_ref().is_some_and(Pull::is_done) && !fill.taking {
                end_source(*unit, fill, around);
                under_way -= usize::from(fill.pull.is_none());
            }
            if fill.pull.is_none()
                && fill.may_write(around.now)
                && fill.progress.overlay == Overlay::Merging
            {
                fill.saving = true;
                fill.unsaved = false;
                let progress = FillProgress { overlay: Overlay::Unused, ..fill.progress.clone() };
                let stage = FillStage::Filling(progress);
                let record = FillRecord { entry: fill.entry, stage };
                around.out.push(TransferAction::Drain(*unit, record));
            }
            let wanted = wanted.entry(unit.class).or_insert_with(|| sources_wanted(state, *unit));
            let pulled = &fill.progress.pulled;
            let is_pulled = match fill.mirrors() {
                true => !pulled.is_empty(),
                false => {
                    pulled.len() >= *wanted
                        || state.is_enough((*unit, around.me, fill.entry), pulled)
                }
            };
            if is_pulled && matches!(fill.progress.overlay, Overlay::Files | Overlay::Mirrored) {
                end_without_files(*unit, fill, around);
            }
            let is_enough = is_pulled && fill.progress.overlay == Overlay::Unused;
            save(*unit, fill, is_enough, around);
            if fill.pull.is_none() && !is_pulled && under_way < limits::FILLS_UNDER_WAY_MAX {
                begin_source(*unit, fill, around);
                under_way += usize::from(fill.pull.is_some());
            }
            let Some(pull) = &mut fill.pull else { continue };
            let at = pull.held_until.max(self.paced);
            if !pull.may_ask() || at > around.now {
                continue;
            }
            if around.busy {
                crate::sometimes!("transfer: gives way to users");
                pull.held_until = around.now.plus(self.pace.pause);
            } else {
                ask(*unit, fill.entry, pull, around);
            }
        }
        let idle = self.fills.values().filter(|fill| fill.pull.is_none());
        let waits = idle.flat_map(|fill| fill.waits.values().copied());
        let first = waits.filter(|until| *until > around.now).min();
        let latest = around.now.plus(self.pace.pause);
        self.look_at = first.map_or(latest, |first| first.min(latest));
    }
}

/// Does what is to be done with an answer; says whether it is one.
fn carry_out(unit: Unit, pull: &mut Pull, got: Got, around: &mut Surroundings<'_>) -> bool {
    let (op, source) = (pull.op, pull.floor);
    let round = |number| RoundId { op, round: number };
    match got {
        Got::Compare(number, told) => {
            around.out.push(TransferAction::Compare(unit, round(number), told));
        }
        // A floor is to be known here, also where nothing is left above it.
        Got::Merge(number, entries) if entries.is_empty() && !source.says_anything() => {
            pull.on_merged(number);
        }
        Got::Merge(number, entries) => {
            around.out.push(TransferAction::Merge(unit, round(number), entries, source));
        }
        Got::Clear(number) => around.out.push(TransferAction::Clear(unit, round(number))),
        Got::Stage(number, name, offset, chunk) => {
            around.out.push(TransferAction::Stage(unit, round(number), name, offset, chunk));
        }
        Got::Nothing => {}
        Got::Nonsense => return false,
    }
    true
}

/// Sends the next question, or the last one again.
fn ask(unit: Unit, entry: Epoch, pull: &mut Pull, around: &mut Surroundings<'_>) {
    let (op, to) = (pull.op, pull.source);
    if let Some((round, what)) = pull.ask(around.now) {
        let round = RoundId { op, round };
        let changed_at = around.state.changed_at(unit);
        let ask = CopyAsk { round, unit, entry, changed_at, what };
        around.out.push(TransferAction::Ask(to, Box::new(ask)));
    }
}

/// The source is left alone for a while; what it has given stays, but for files, which are nothing
/// before all of them are there.
fn fail(unit: Unit, fill: &mut Fill, until: Time, around: &mut Surroundings<'_>) {
    if fill.taking {
        // Its part is done.
        return;
    }
    let Some(pull) = fill.pull.take() else { return };
    if pull.files().is_some() {
        around.out.push(TransferAction::Clear(unit, RoundId::default()));
    }
    fill.waits.insert(pull.source, until);
    if let Some(place) = pull.through() {
        fill.progress.current = Some((pull.source, place.clone()));
    }
}

fn begin_source(unit: Unit, fill: &mut Fill, around: &mut Surroundings<'_>) {
    if fill.progress.overlay == Overlay::Merging {
        return;
    }
    let Some(source) = fill.pick(unit, around) else { return };
    let op = *around.next_operation;
    *around.next_operation += 1;
    let current = fill.progress.current.take();
    // What an earlier source has given, or was mirrored, may make a difference small.
    let is_empty = fill.progress.pulled.is_empty()
        && current.as_ref().is_none_or(|(earlier, _)| *earlier == source);
    let begin = match (is_empty, &current) {
        // INVARIANT: after its first source the range is what that has, as if it had come as files.
        _ if fill.progress.overlay == Overlay::Mirrored && !fill.mirrors() => Begin::Exact,
        _ if fill.progress.overlay == Overlay::Mirrored => Begin::Mirror,
        (false, _) if fill.mirrors() => Begin::Mirror,
        (false, _) => Begin::Compare,
        (true, None) if fill.progress.overlay == Overlay::Files => Begin::Files,
        (true, _) => Begin::Straight,
    };
    let through = current.filter(|(earlier, _)| *earlier == source).map(|(_, place)| place);
    let by_marks = compare::by_marks(around.state, unit.class);
    fill.pull = Some(Pull::new(op, source, (begin, by_marks), through));
}

/// What has been pulled once everything of `source` is in the range.
fn taken(fill: &Fill, source: NodeId) -> FillProgress {
    let mut progress = FillProgress { current: None, ..fill.progress.clone() };
    progress.pulled.push(source);
    progress.overlay = match progress.overlay {
        // Nothing is written meanwhile.
        _ if fill.mirrors() => Overlay::Unused,
        Overlay::Files | Overlay::Mirrored => Overlay::Merging,
        other => other,
    };
    progress
}

/// Everything has come from the source.
fn end_source(unit: Unit, fill: &mut Fill, around: &mut Surroundings<'_>) {
    let Some(pull) = &fill.pull else { return };
    let progress = taken(fill, pull.source);
    let was_mirrored = fill.progress.overlay == Overlay::Mirrored && !fill.mirrors();
    if pull.files().is_some() || was_mirrored {
        if fill.may_write(around.now) {
            let (files, floor) = (pull.files().map(<[CopyFile]>::to_vec), pull.floor);
            (fill.taking, fill.saving, fill.unsaved) = (true, true, false);
            let record = match fill.mirrors() {
                true => fill.record(true),
                false => FillRecord { entry: fill.entry, stage: FillStage::Filling(progress) },
            };
            around.out.push(TransferAction::TakeIn(unit, files, record, floor));
        }
        return;
    }
    crate::sometimes!("transfer: a source has been pulled");
    (fill.progress, fill.pull, fill.unsaved) = (progress, None, true);
}

/// Nobody is left to give files: the range stays as empty as it is, and what was written meanwhile comes
/// into it.
fn end_without_files(unit: Unit, fill: &mut Fill, around: &mut Surroundings<'_>) {
    if fill.pull.is_some() || fill.taking || !fill.may_write(around.now) {
        return;
    }
    crate::sometimes!("transfer: a unit begins with nothing");
    (fill.taking, fill.saving, fill.unsaved) = (true, true, false);
    let progress = FillProgress { overlay: Overlay::Merging, ..fill.progress.clone() };
    let record = FillRecord { entry: fill.entry, stage: FillStage::Filling(progress) };
    let nobody = SourceFloor::default();
    around.out.push(TransferAction::TakeIn(unit, Some(Vec::new()), record, nobody));
}

/// Makes durable what has come to be, one record at a time.
fn save(unit: Unit, fill: &mut Fill, is_complete: bool, around: &mut Surroundings<'_>) {
    if fill.mirrors() && !is_complete {
        // It begins anew.
        return;
    }
    if let Some(pull) = fill.pull.as_mut().filter(|pull| pull.unsaved >= SAVE_BYTES)
        && let Some(place) = pull.through()
    {
        fill.progress.current = Some((pull.source, place.clone()));
        pull.unsaved = 0;
        fill.unsaved = true;
    }
    if (fill.unsaved || is_complete) && fill.may_write(around.now) {
        (fill.saving, fill.unsaved) = (true, false);
        around.out.push(TransferAction::Save(unit, fill.record(is_complete)));
    }
}

#[cfg(test)]
mod tests;

//! Purge floors: the gates this node closes, what it tells the other owners and hears from them, when
//! it agrees and raises, and what it then has its disk purge; and up to where it takes nothing into
//! custody any more. The rules are `repair::floor`'s. `docs/protocol/repair.md`, "The purge floor".

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::Node;
use super::disk::Pending;
use crate::message::{
    DiskAnswer, DiskError, DiskRequest, FloorChange, FloorDisk, FloorDone, FloorNews, FloorState,
    MetaRecord, PeerMessage, Restored,
};
use crate::repair::floor::{Blocked, Floor, Owners, stamp_at};
use crate::types::{Epoch, NodeId, Now, OpId, Sloppy, Stamp, Unit, WallTime, limits};

/// Changes asked of the disk at once.
const CHANGES_MAX: usize = 512;
/// Units looked at in one step.
const LOOKS_MAX: usize = 1024;
/// Units told again in one step, whatever was lost on the way.
const AGAIN_MAX: usize = 64;
/// A gate is closed anew when it can rise by this part of the slack.
const STEP: u32 = 8;

/// What is known of the floors of the units this node owns.
#[derive(Debug)]
pub(super) struct Floors {
    units: BTreeMap<Unit, Floor>,
    /// Changes are on their way to the disk.
    changing: bool,
    /// The disk is asked where there is something to purge.
    counting: bool,
    /// Changes to ask for next.
    wishes: Vec<(Unit, FloorChange)>,
    /// Where the next look begins.
    looked: Option<Unit>,
    /// Units of which something may have to be purged, and whether that is under way.
    pub(super) unpurged: BTreeSet<Unit>,
    purging: bool,
    /// What has to be told, and to whom.
    untold: BTreeSet<(NodeId, Unit)>,
    told_again: Option<Unit>,
    custody: Custody,
    /// Deletes and expired versions purged since the start.
    pub(super) purged: u64,
}

/// Up to where nothing is in custody.
#[derive(Clone, Copy, Debug)]
struct Custody {
    /// At or below it nothing is taken.
    bar: Stamp,
    /// It is durable that it is not; it is being made so.
    is_durable: bool,
    is_saving: bool,
    /// When it came to be, and what the disk was asked before.
    since: (WallTime, u64),
    /// Nothing at or below it is held.
    clear: Stamp,
}

/// What the disk was asked for.
#[derive(Clone, Debug)]
pub(super) enum FloorPending {
    /// Whether there is something to purge at or below the gates that may be closed.
    Gates(BTreeMap<Unit, Stamp>),
    Change,
    /// What is at or below this floor, or a later one.
    Purge(Unit, Stamp),
    Custody,
    /// What waits, for an operator.
    Counted(OpId),
}

impl Floors {
    pub(super) fn new(restored: &Restored, now: Now) -> Floors {
        let unit = |(unit, record): (&Unit, &crate::message::FloorRecord)| {
            let state = FloorState { record: record.clone(), voids: 0 };
            (*unit, Floor::new(state))
        };
        let raised = restored.floors.iter().filter(|(_, record)| record.floor > Stamp::ZERO);
        Floors {
            unpurged: raised.map(|(unit, _)| *unit).collect(),
            units: restored.floors.iter().map(unit).collect(),
            changing: false,
            counting: false,
            wishes: Vec::new(),
            looked: None,
            purging: false,
            untold: BTreeSet::new(),
            told_again: None,
            custody: Custody {
                bar: restored.custody,
                is_durable: true,
                is_saving: false,
                since: (now.wall, 0),
                clear: Stamp::ZERO,
            },
            purged: 0,
        }
    }

    /// A unit is emptied: what was known of its floor went with it.
    pub(super) fn forget(&mut self, unit: Unit) {
        self.units.remove(&unit);
        self.unpurged.remove(&unit);
        self.wishes.retain(|(of, _)| *of != unit);
    }

    /// Up to where nothing is in custody here, for good.
    pub(super) fn custody_clear(&self) -> Stamp {
        self.custody.clear
    }

    /// Up to where custody takes nothing, if it does not take this.
    pub(super) fn custody_refuses(&self, stamp: Stamp) -> Option<Stamp> {
        let bar = self.custody.bar;
        (stamp <= bar && !crate::mutant!("custody-after-told")).then_some(bar)
    }

    /// What a source says of the floor, and up to where it has agreed.
    pub(super) fn of_source(&self, unit: Unit) -> (Stamp, Stamp) {
        if crate::mutant!("floor-not-carried") {
            return (Stamp::ZERO, Stamp::ZERO);
        }
        let known = self.units.get(&unit).map(|floor| &floor.own().record);
        known.map_or((Stamp::ZERO, Stamp::ZERO), |record| (record.floor, record.agreed))
    }

    /// The floor of a unit.
    fn at(&self, unit: Unit) -> Stamp {
        self.units.get(&unit).map_or(Stamp::ZERO, |floor| floor.own().record.floor)
    }

    fn wish(&mut self, unit: Unit, change: FloorChange) {
        self.wishes.push((unit, change));
    }
}

impl Node {
    /// The floor of a unit here.
    pub(super) fn floor_of(&self, unit: Unit) -> Stamp {
        self.floors.units.get(&unit).map_or(Stamp::ZERO, |floor| floor.own().record.floor)
    }

    /// The gate of a unit here.
    pub(super) fn floor_gate(&self, unit: Unit) -> Stamp {
        self.floors.units.get(&unit).map_or(Stamp::ZERO, |floor| floor.own().record.gate)
    }

    /// How often what this node vouches for has been voided: read when a comparison begins.
    pub(super) fn floor_voids(&self, unit: Unit) -> u64 {
        self.floors.units.get(&unit).map_or(0, |floor| floor.own().voids)
    }

    /// A comparison with another owner, which began when there had been so many voids, has found
    /// both equal at or below the horizon, and has brought this node nothing there.
    pub(super) fn vouch(&mut self, now: Now, (unit, peer): (Unit, NodeId), at: (Stamp, u64)) {
        let owns = self.floor_owners(unit).is_some_and(|(owners, _)| owners.contains(&peer));
        if owns && self.is_complete(unit) && at.0 > Stamp::ZERO {
            self.floors.wish(unit, FloorChange::Vouch(peer, at.0, at.1));
            self.change_floors(now);
        }
    }

    /// Asks the disk what is known of the floor of a unit: it may have changed what is on record by itself.
    pub(super) fn look_up_floor(&mut self, now: Now, unit: Unit) {
        self.floors.wish(unit, FloorChange::Close(Stamp::ZERO));
        self.change_floors(now);
    }

    /// Another owner has a higher floor: nothing is compared before this one has it too.
    pub(super) fn on_floor_heard(&mut self, now: Now, unit: Unit, floor: Stamp) {
        if self.is_complete(unit) && floor > self.floor_of(unit) {
            self.floors.wish(unit, FloorChange::Raise(floor));
            self.change_floors(now);
        }
    }

    /// All owners of a unit, of both sets, and the fence under which they are.
    fn floor_owners(&self, unit: Unit) -> Option<(Vec<NodeId>, Epoch)> {
        let state = self.state.as_ref()?;
        let owners = state.writers(unit);
        owners.contains(&self.me).then(|| (owners, state.changed_at(unit)))
    }

    /// Owners have changed, or states.
    pub(super) fn on_floor_owners(&mut self) {
        let me = self.me;
        let Some(state) = self.state.clone() else { return };
        self.floors.untold.retain(|(peer, unit)| state.is_writer(*unit, *peer));
        for (unit, floor) in &mut self.floors.units {
            let all = state.writers(*unit);
            floor.keep(Owners { me, all: &all, fence: state.changed_at(*unit) });
        }
    }

    /// The time up to which gates may be closed: what is older is beyond all deadlines.
    pub(super) fn purge_age(&self, now: Now) -> WallTime {
        let slack = u64::try_from(self.config.purge_slack.as_nanos()).unwrap_or(u64::MAX);
        WallTime(now.wall.0.saturating_sub(slack))
    }

    /// Goes on with floors, a bounded number of units at a time.
    pub(super) fn floors_on(&mut self, now: Now) {
        if !self.is_serving() || self.state.is_none() {
            return;
        }
        self.custody_on(now);
        let units = self.units_after(self.floors.looked, LOOKS_MAX);
        self.floors.looked = units.last().copied();
        let limits = (self.purge_age(now), self.custody_bound());
        for unit in &units {
            self.look_at_floor(*unit);
        }
        self.change_floors(now);
        let mut gates = units.into_iter().filter_map(|unit| Some((unit, self.gate(unit, limits)?)));
        let gates: BTreeMap<Unit, Stamp> = gates.by_ref().collect();
        if !gates.is_empty() && !self.floors.counting {
            // Only where there is something to purge.
            self.floors.counting = true;
            let ask = FloorDisk::Count(gates.keys().copied().collect(), 1);
            let pending = Pending::Floor(FloorPending::Gates(gates));
            self.disk(pending, DiskRequest::Floor(Box::new(ask)));
        }
        let again = self.units_after(self.floors.told_again, AGAIN_MAX);
        self.floors.told_again = again.last().copied();
        again.into_iter().for_each(|unit| self.tell_floor(unit));
        self.send_floors();
        self.purge_on();
    }

    /// Units of this node, of both sets, behind one; from the first on when there are none.
    pub(super) fn units_after(&self, after: Option<Unit>, most: usize) -> Vec<Unit> {
        let Some(state) = &self.state else { return Vec::new() };
        let own = state.units().filter(|unit| state.is_writer(*unit, self.me));
        own.filter(|unit| after.is_none_or(|after| *unit > after)).take(most).collect()
    }

    /// Up to where no member holds anything in custody.
    fn custody_bound(&self) -> Stamp {
        let Some(state) = &self.state else { return Stamp::ZERO };
        if crate::mutant!("custody-ignored") {
            return Stamp { time: WallTime(u64::MAX), ..Stamp::ZERO };
        }
        let clear = state.members.iter().map(|member| self.custody_clear_of(member.id));
        clear.min().unwrap_or_default()
    }

    fn custody_clear_of(&self, id: NodeId) -> Stamp {
        match self.members.told(id) {
            _ if id == self.me => self.floors.custody.clear,
            Some(facts) => facts.custody_clear,
            None => Stamp::ZERO,
        }
    }

    /// Up to where the gate of a unit may be closed, if that is worth while.
    fn gate(&self, unit: Unit, (age, custody): (WallTime, Stamp)) -> Option<Stamp> {
        if !self.is_complete(unit) {
            return None;
        }
        let mut gate = stamp_at(age);
        if self.may_be_sloppy(unit) {
            gate = gate.min(custody);
        }
        let known = self.floor_gate(unit);
        (gate > known && gate.time.ahead_of(known.time) >= self.gate_step()).then_some(gate)
    }

    /// Whether writes of a unit may be taken into custody.
    fn may_be_sloppy(&self, unit: Unit) -> bool {
        self.state.as_ref().is_some_and(|state| {
            let mut of_class = state.tables.iter().filter(|table| table.class == unit.class);
            of_class.any(|table| table.sloppy != Sloppy::Never)
        })
    }

    /// Members that may hold something at or below a stamp in custody, where that matters.
    pub(super) fn custody_holders(&self, unit: Unit, at: Stamp) -> Vec<NodeId> {
        let Some(state) = self.state.as_ref().filter(|_| self.may_be_sloppy(unit)) else {
            return Vec::new();
        };
        let members = state.members.iter().map(|member| member.id);
        members.filter(|id| self.custody_clear_of(*id) < at).collect()
    }

    /// Who keeps the floor of a unit from rising to its gate.
    pub(super) fn floor_blocked(&self, unit: Unit) -> Vec<Blocked> {
        let Some((all, fence)) = self.floor_owners(unit) else { return Vec::new() };
        let owners = Owners { me: self.me, all: &all, fence };
        let floor = self.floors.units.get(&unit);
        floor.map_or_else(Vec::new, |floor| floor.blocked(owners))
    }

    fn gate_step(&self) -> Duration {
        self.config.purge_slack / STEP
    }

    /// Whether there is something to agree on or to raise.
    fn look_at_floor(&mut self, unit: Unit) {
        let Some((all, fence)) = self.floor_owners(unit) else { return };
        if !self.is_complete(unit) {
            return;
        }
        let owners = Owners { me: self.me, all: &all, fence };
        let Some(floor) = self.floors.units.get(&unit) else { return };
        let wishes = [floor.may_agree(owners), floor.may_raise(owners)];
        for change in wishes.into_iter().flatten() {
            self.floors.wish(unit, change);
        }
    }

    /// Has the disk make what changes there are to make, once it has made those before.
    fn change_floors(&mut self, _now: Now) {
        if self.floors.changing || self.floors.wishes.is_empty() {
            return;
        }
        let most = self.floors.wishes.len().min(CHANGES_MAX);
        let changes: Vec<_> = self.floors.wishes.drain(..most).collect();
        // What was left by then cannot be changed, and is wished for again.
        self.floors.wishes.truncate(CHANGES_MAX);
        self.floors.changing = true;
        let request = DiskRequest::Floor(Box::new(FloorDisk::Change(changes)));
        self.disk(Pending::Floor(FloorPending::Change), request);
    }

    pub(super) fn on_floor_disk_done(
        &mut self,
        now: Now,
        pending: FloorPending,
        result: Result<DiskAnswer, DiskError>,
    ) {
        match (pending, result) {
            (FloorPending::Gates(gates), result) => {
                self.floors.counting = false;
                let Ok(DiskAnswer::Floor(FloorDone::Counted(counted))) = result else { return };
                for (unit, _, lowest) in counted {
                    let gate = gates.get(&unit).copied().unwrap_or_default();
                    if lowest.is_some_and(|lowest| lowest <= gate) {
                        self.floors.wish(unit, FloorChange::Close(gate));
                    }
                }
                self.change_floors(now);
            }
            (FloorPending::Counted(op), result) => self.on_gc_counted(now, op, result),
            (FloorPending::Change, result) => {
                self.floors.changing = false;
                if let Ok(DiskAnswer::Floor(FloorDone::Changed(states))) = result {
                    for (unit, state) in states {
                        let before = (self.floor_gate(unit), self.floor_voids(unit));
                        self.on_floor_changed(unit, state);
                        // A gate that was closed, or vouching that was void.
                        if (self.floor_gate(unit), self.floor_voids(unit)) > before {
                            self.want_vouching(now, unit);
                        }
                    }
                    self.send_floors();
                    self.purge_on();
                }
                self.change_floors(now);
            }
            (FloorPending::Purge(unit, floor), result) => {
                self.floors.purging = false;
                if let Ok(DiskAnswer::Floor(FloorDone::Purged(gone, more))) = result {
                    self.floors.purged += gone;
                    // It may have risen since the disk looked.
                    let is_it = self.floors.at(unit) == floor || crate::mutant!("raise-unpurged");
                    if !more && is_it {
                        self.floors.unpurged.remove(&unit);
                    }
                    self.purge_on();
                }
            }
            (FloorPending::Custody, result) => {
                self.floors.custody.is_durable = result.is_ok();
                self.floors.custody.is_saving = false;
            }
        }
    }

    fn on_floor_changed(&mut self, unit: Unit, state: FloorState) {
        // It may have been emptied meanwhile.
        if !self.takes_writes(unit) {
            return;
        }
        let floor = self.floors.units.entry(unit).or_default();
        let before = floor.own().clone();
        floor.on_own(state);
        let now = floor.own().record.clone();
        if now.floor > before.record.floor {
            crate::sometimes!("floor: rises");
            self.floors.unpurged.insert(unit);
        }
        if now != before.record {
            self.tell_floor(unit);
            self.look_at_floor(unit);
        }
    }

    fn purge_on(&mut self) {
        let Some(unit) = self.floors.unpurged.first().copied() else { return };
        if self.floors.purging {
            return;
        }
        self.floors.purging = true;
        let floor = self.floors.at(unit);
        let request = DiskRequest::Floor(Box::new(FloorDisk::Purge(unit)));
        self.disk(Pending::Floor(FloorPending::Purge(unit, floor)), request);
    }

    /// The other owners of a unit are to hear of its floor.
    fn tell_floor(&mut self, unit: Unit) {
        let Some((all, _)) = self.floor_owners(unit) else { return };
        if self.floors.units.contains_key(&unit) && self.is_complete(unit) {
            let others = all.into_iter().filter(|id| *id != self.me);
            self.floors.untold.extend(others.map(|id| (id, unit)));
        }
    }

    fn send_floors(&mut self) {
        let mut news = BTreeMap::<NodeId, Vec<FloorNews>>::new();
        for (to, unit) in core::mem::take(&mut self.floors.untold) {
            let Some((all, fence)) = self.floor_owners(unit) else { continue };
            let owners = Owners { me: self.me, all: &all, fence };
            let Some(floor) = self.floors.units.get(&unit) else { continue };
            let of_peer = news.entry(to).or_default();
            if self.is_complete(unit) && of_peer.len() < limits::FLOOR_NEWS_MAX {
                of_peer.push(floor.news(unit, owners));
            }
        }
        for (to, news) in news {
            if self.members.is_reachable(to) && !news.is_empty() {
                self.send(to, PeerMessage::Floors(news));
            }
        }
    }

    pub(super) fn on_floor_news(&mut self, now: Now, from: NodeId, news: &[FloorNews]) {
        if !self.is_serving() {
            return;
        }
        for news in news {
            let Some((all, fence)) = self.floor_owners(news.unit) else { continue };
            if news.fence != fence || !all.contains(&from) || !self.is_complete(news.unit) {
                continue;
            }
            self.floors.units.entry(news.unit).or_default().on_news(from, news);
            self.look_at_floor(news.unit);
        }
        self.change_floors(now);
    }

    /// Raises what custody refuses, once all that was taken before has gone home.
    fn custody_on(&mut self, now: Now) {
        let Custody { bar, is_durable, is_saving, since, clear } = self.floors.custody;
        if is_saving {
            return;
        }
        if !is_durable {
            return self.save_custody(bar);
        }
        let is_clear = !self.writes_before(since.1) && self.hints.books.is_custody_after(since.0);
        let clear = if is_clear { bar } else { clear };
        self.floors.custody.clear = clear;
        let next = stamp_at(self.purge_age(now));
        if bar == clear && next > bar && next.time.ahead_of(bar.time) >= self.gate_step() {
            self.floors.custody.bar = next;
            self.floors.custody.since = (now.wall, self.next_token);
            self.save_custody(next);
        }
    }

    fn save_custody(&mut self, bar: Stamp) {
        (self.floors.custody.is_durable, self.floors.custody.is_saving) = (false, true);
        let records = vec![MetaRecord::Custody(bar)];
        self.disk(Pending::Floor(FloorPending::Custody), DiskRequest::Persist(records));
    }
}

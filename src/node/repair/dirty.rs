//! Dirty marks: an owner that may lack writes which no hint carries is told so, compares itself with all
//! other owners of the unit, and says when it has. Then the mark goes. `docs/protocol/handoff.md`.

use crate::message::{MetaRecord, RepairMessage, RoundId};
use crate::node::Node;
use crate::node::disk::Pending;
use crate::types::{NodeId, Now, Time, Unit};

/// Owners that are told of marks at once.
const TOLD_MAX: usize = 256;
/// Pauses between two looks at the marks, and between two tellings of one.
const LOOK_PAUSES: u32 = 4;
const TELL_PAUSES: u32 = 32;

/// A mark of this node's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Names it, until something more is dropped.
    number: u64,
    told: Time,
}

/// What another member has told this node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dirt {
    number: u64,
    since: Now,
}

impl Dirt {
    /// When it was told.
    pub(super) fn since(&self) -> Now {
        self.since
    }
}

impl Node {
    /// A mark was made, or made again: what its owner may lack is more than it was told.
    pub(in crate::node) fn note_mark(&mut self, unit: Unit, target: NodeId) {
        self.repair.marks.remove(&(unit, target));
    }

    /// Tells owners of this node's marks.
    pub(super) fn tell_marks(&mut self, now: Now) {
        let is_off = self.config.repair_interval.is_zero();
        if is_off || self.repair.marks_at > now.mono || self.hints.books.dirty().is_empty() {
            return;
        }
        let pause = self.repair.pause;
        self.repair.marks_at = now.mono.plus(pause.saturating_mul(LOOK_PAUSES));
        let Some(state) = self.state.clone() else { return };
        let is_lately = |mark: &Mark| now.mono.since(mark.told) < pause.saturating_mul(TELL_PAUSES);
        let may_tell = |unit: Unit, target: NodeId| {
            let mark = self.repair.marks.get(&(unit, target));
            self.members.is_reachable(target)
                && self.members.serves(target)
                && !mark.is_some_and(is_lately)
        };
        let (mut gone, mut due) = (Vec::new(), Vec::new());
        for (unit, target) in self.hints.books.dirty() {
            if !state.is_writer(*unit, *target) {
                gone.push((*unit, *target));
            } else if due.len() < TOLD_MAX && may_tell(*unit, *target) {
                due.push((*unit, *target));
            }
        }
        for (unit, target) in due {
            let known = self.repair.marks.get(&(unit, target)).map(|mark| mark.number);
            let number = known.unwrap_or(self.next_operation);
            self.next_operation += u64::from(known.is_none());
            self.repair.marks.insert((unit, target), Mark { number, told: now.mono });
            let round = RoundId { op: number, round: 0 };
            self.send_repair(target, RepairMessage::Dirty { round, unit });
        }
        self.clear_marks(gone);
    }

    /// Marks of owners that lack nothing any more.
    fn clear_marks(&mut self, marks: Vec<(Unit, NodeId)>) {
        if marks.is_empty() {
            return;
        }
        for (unit, target) in &marks {
            self.hints.books.clear_dirty(*unit, *target);
            self.repair.marks.remove(&(*unit, *target));
        }
        let records = marks.into_iter().map(|(unit, target)| MetaRecord::Clean(unit, target));
        self.disk(Pending::Housekeeping, crate::message::DiskRequest::Persist(records.collect()));
    }

    /// The owner of a mark has compared itself with all others since it was told.
    pub(super) fn on_clean_told(&mut self, (from, round): (NodeId, RoundId), unit: Unit) {
        let mark = self.repair.marks.get(&(unit, from));
        // What is being dropped at this moment may be marked on disk, and not be known here yet.
        let drops = |pending: &Pending| matches!(pending, Pending::HintsDropped(_));
        if mark.is_none_or(|mark| mark.number != round.op) || self.pending.values().any(drops) {
            return;
        }
        crate::sometimes!("repair: a dirty mark goes");
        self.clear_marks(vec![(unit, from)]);
    }

    /// Somebody says that this node may lack writes.
    pub(super) fn on_dirty_told(&mut self, now: Now, (from, round): (NodeId, RoundId), unit: Unit) {
        let state = self.state.clone().filter(|_| self.is_serving());
        let Some(state) = state.filter(|state| state.is_writer(unit, self.me)) else { return };
        if state.member(from).is_none() {
            return;
        }
        let told = self.repair.dirt.entry(unit).or_default();
        if told.get(&from).is_none_or(|dirt| dirt.number != round.op) {
            crate::sometimes!("repair: is told that it may lack writes");
            told.insert(from, Dirt { number: round.op, since: now });
        }
        let wish = told.get(&from).map_or(now, Dirt::since);
        for peer in state.writers(unit).into_iter().filter(|id| *id != self.me) {
            self.repair.schedule.want(now, (peer, unit), wish);
        }
        self.repair.look_at = self.repair.look_at.min(now.mono);
        self.look_at_dirt(unit);
    }

    /// Tells those that it may have lacked something that it does not any more.
    pub(super) fn look_at_dirt(&mut self, unit: Unit) {
        let Some(told) = self.repair.dirt.get(&unit) else { return };
        let schedule = &self.repair.schedule;
        let clean = told.iter().filter(|(_, dirt)| schedule.is_covered(unit, dirt.since));
        let clean: Vec<(NodeId, u64)> = clean.map(|(from, dirt)| (*from, dirt.number)).collect();
        for (from, number) in clean {
            if let Some(told) = self.repair.dirt.get_mut(&unit) {
                told.remove(&from);
            }
            let round = RoundId { op: number, round: 0 };
            self.send_repair(from, RepairMessage::Clean { round, unit });
        }
        self.repair.dirt.retain(|_, told| !told.is_empty());
    }
}

//! What other owners ask of this one to become equal: judged and fenced like data, answered from what
//! is there when the question comes. Nothing is kept of a session.

use core::time::Duration;

use super::RepairPending;
use crate::message::{
    CopyEntry, CopyPage, CopyPlace, CopyWhat, DiskError, Level, RepairMessage, RepairRefusal,
    RootSaid, RoundId, SessionAsk, SessionPlace, TreeDisk, TreeDone, UnitDisk, UnitDone, UnitRoot,
};
use crate::node::Node;
use crate::node::fills::UnitPending;
use crate::repair::exchange::Terms;
use crate::repair::tree::SEED;
use crate::types::{Epoch, NodeId, Now, Time, Unit, limits};

/// How far ahead of its pace this node may be before it puts others off.
const AHEAD_MAX: Duration = Duration::from_secs(2);
/// What reading a range for an answer costs, in bytes of the pace.
const READ_BYTES: usize = 32 << 10;

/// What this node answers.
#[derive(Debug, Default)]
pub(in crate::node) struct Answering {
    /// Questions whose answers are being read.
    open: usize,
    /// Where its pace is.
    paced: Time,
}

/// A question that has been let in.
#[derive(Clone, Debug)]
pub(in crate::node) enum Question {
    /// Roots of a peer, and what is already said of others.
    Roots { from: NodeId, round: RoundId, asked: Vec<UnitRoot>, said: Vec<(Unit, RootSaid)> },
    /// One of a session.
    Session { from: NodeId, ask: Box<SessionAsk> },
}

/// Who waits for an answer, and where.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) struct Caller {
    pub(in crate::node) from: NodeId,
    pub(in crate::node) round: RoundId,
    pub(in crate::node) place: SessionPlace,
}

impl Node {
    pub(in crate::node) fn on_repair(&mut self, now: Now, from: NodeId, message: RepairMessage) {
        match message {
            RepairMessage::Roots { round, units } => self.on_roots(now, (from, round), units),
            RepairMessage::Ask(ask) => self.on_session_ask(now, from, ask),
            RepairMessage::Give { round, place, keys } => {
                self.on_give(now, Caller { from, round, place }, keys);
            }
            RepairMessage::Take { round, place, entries } => {
                self.on_take(now, Caller { from, round, place }, entries);
            }
            RepairMessage::Dirty { round, unit } => self.on_dirty_told(now, (from, round), unit),
            RepairMessage::Clean { round, unit } => self.on_clean_told((from, round), unit),
            answer => {
                self.session_step(now, |sessions, around| {
                    sessions.on_message(from, answer, around)
                });
                self.repair_on(now);
            }
        }
    }

    /// Whether this node may answer an owner about a unit, as an owner that has all it should have.
    fn judge_owner(
        &mut self,
        now: Now,
        from: NodeId,
        (unit, theirs): (Unit, Epoch),
    ) -> Result<(), RepairRefusal> {
        let Some(state) = self.state.clone().filter(|_| self.is_serving()) else {
            return Err(RepairRefusal::Incomplete);
        };
        let ours = state.changed_at(unit);
        if theirs > ours {
            self.ask_state(now, from);
            return Err(RepairRefusal::Fenced);
        }
        if theirs < ours {
            crate::sometimes!("repair: an owner is behind the fence");
            self.push_state(now, from);
            return Err(RepairRefusal::Fenced);
        }
        let is_owner = state.is_writer(unit, from);
        if !is_owner || !self.is_complete(unit) || !self.takes_writes(unit) {
            return Err(RepairRefusal::Incomplete);
        }
        Ok(())
    }

    fn judge_caller(
        &mut self,
        now: Now,
        from: NodeId,
        place: &SessionPlace,
    ) -> Result<(), RepairRefusal> {
        self.judge_owner(now, from, (place.unit, place.changed_at))?;
        if place.floor != self.floor_of(place.unit) {
            self.on_floor_heard(now, place.unit, place.floor);
            return Err(RepairRefusal::Floor);
        }
        Ok(())
    }

    fn judge_room(&self, now: Now) -> Result<(), RepairRefusal> {
        let answering = &self.repair.answering;
        let is_full = answering.open >= limits::REPAIR_ANSWERS_MAX
            || answering.paced.since(now.mono) > AHEAD_MAX;
        if is_full || self.users_are_busy() {
            crate::sometimes!("repair: has no room for questions of others");
            return Err(RepairRefusal::Busy);
        }
        Ok(())
    }

    /// Counts what answering costs.
    fn charge_answer(&mut self, now: Now, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let rate = self.config.repair_rate;
        let cost = bytes.saturating_mul(1_000_000_000).checked_div(rate).unwrap_or(0);
        let answering = &mut self.repair.answering;
        answering.paced = answering.paced.max(now.mono).plus(Duration::from_nanos(cost));
        self.gauges.repair.answered_bytes += bytes;
    }

    fn refuse_repair(&mut self, to: NodeId, round: RoundId, why: RepairRefusal) {
        self.send_repair(to, RepairMessage::Refused { round, why });
    }

    fn on_roots(&mut self, now: Now, (from, round): (NodeId, RoundId), units: Vec<UnitRoot>) {
        if let Err(why) = self.judge_room(now) {
            return self.refuse_repair(from, round, why);
        }
        let (mut asked, mut said) = (Vec::with_capacity(units.len()), Vec::new());
        for root in units {
            match self.judge_owner(now, from, (root.unit, root.changed_at)) {
                Ok(()) => asked.push(root),
                Err(why) => said.push((root.unit, RootSaid::Refused(why))),
            }
        }
        let units = asked.iter().map(|root| root.unit).collect();
        self.repair.answering.open += 1;
        let question = Question::Roots { from, round, asked, said };
        self.tree_disk(RepairPending::Answering(question), TreeDisk::Roots { units });
    }

    fn on_session_ask(&mut self, now: Now, from: NodeId, ask: Box<SessionAsk>) {
        let judged = self.judge_caller(now, from, &ask.place).and_then(|()| self.judge_room(now));
        if let Err(why) = judged {
            return self.refuse_repair(from, ask.round, why);
        }
        self.repair.answering.open += 1;
        let terms = Terms { session: ask.round.op, horizon: ask.horizon, seed: SEED };
        let request = TreeDisk::Answer { unit: ask.place.unit, terms, ask: ask.ask.clone() };
        let question = Question::Session { from, ask };
        self.tree_disk(RepairPending::Answering(question), request);
    }

    pub(super) fn on_answer_read(
        &mut self,
        now: Now,
        question: Question,
        result: Result<TreeDone, DiskError>,
    ) {
        self.repair.answering.open -= 1;
        match question {
            Question::Roots { from, round, asked, said } => {
                self.on_roots_read(now, (from, round), (asked, said), result);
            }
            Question::Session { from, ask } => {
                let round = ask.round;
                // Looked at again: what it was read from may have been deleted meanwhile.
                let judged = self.judge_caller(now, from, &ask.place);
                match (judged, result) {
                    (Err(why), _) => self.refuse_repair(from, round, why),
                    (Ok(()), Ok(TreeDone::Said(said))) => {
                        self.charge_answer(now, said.bytes() + READ_BYTES);
                        self.send_repair(from, RepairMessage::Said { round, said });
                    }
                    (Ok(()), other) => {
                        let why = self.why_not(ask.place.unit, other.map(|_| ()));
                        self.refuse_repair(from, round, why);
                    }
                }
            }
        }
    }

    /// Why there is no answer, where the disk has given none.
    fn why_not(&mut self, unit: Unit, result: Result<(), DiskError>) -> RepairRefusal {
        match result {
            Ok(()) => RepairRefusal::Building,
            Err(error @ DiskError::Corruption(_)) => {
                let text = format!("unit {unit} cannot be compared: {error}");
                self.note(Level::Error, None, text);
                RepairRefusal::Incomplete
            }
            Err(_) => RepairRefusal::Busy,
        }
    }

    fn on_roots_read(
        &mut self,
        now: Now,
        (from, round): (NodeId, RoundId),
        (asked, mut said): (Vec<UnitRoot>, Vec<(Unit, RootSaid)>),
        result: Result<TreeDone, DiskError>,
    ) {
        let Ok(TreeDone::Roots(own)) = result else {
            return self.refuse_repair(from, round, RepairRefusal::Busy);
        };
        let own: std::collections::BTreeMap<_, _> = own.into_iter().collect();
        for UnitRoot { unit, changed_at, floor: theirs, sum: their_sum } in asked {
            let floor = self.floor_of(unit);
            let judged = self.judge_owner(now, from, (unit, changed_at));
            match (judged, own.get(&unit).copied().flatten()) {
                (Err(why), _) => said.push((unit, RootSaid::Refused(why))),
                (Ok(()), None) => {
                    said.push((unit, RootSaid::Refused(RepairRefusal::Building)));
                }
                (Ok(()), Some(sum)) if sum != their_sum || floor != theirs => {
                    self.on_floor_heard(now, unit, theirs);
                    said.push((unit, RootSaid::Differs { floor, sum }));
                }
                (Ok(()), Some(_)) => {}
            }
        }
        said.sort_unstable_by_key(|(unit, _)| *unit);
        let message = RepairMessage::Differ { round, units: said };
        self.charge_answer(now, message.bytes());
        self.send_repair(from, message);
    }

    fn on_give(&mut self, now: Now, caller: Caller, keys: Vec<CopyPlace>) {
        let Caller { from, round, place } = caller;
        let judged = self.judge_caller(now, from, &place).and_then(|()| self.judge_room(now));
        if let Err(why) = judged {
            return self.refuse_repair(from, round, why);
        }
        self.repair.answering.open += 1;
        let (unit, what) = (place.unit, CopyWhat::Keys(keys));
        let request = UnitDisk::Page { unit, what, to: (from, place.changed_at) };
        self.unit_disk(UnitPending::Lent(caller), request);
    }

    pub(in crate::node) fn on_lent(
        &mut self,
        now: Now,
        caller: Caller,
        result: Result<UnitDone, DiskError>,
    ) {
        let Caller { from, round, place } = caller;
        self.repair.answering.open -= 1;
        if let Err(why) = self.judge_caller(now, from, &place) {
            return self.refuse_repair(from, round, why);
        }
        let page = match result {
            Ok(UnitDone::Page(page)) => page,
            other => {
                let other = other.and(Err(DiskError::Io("another answer".to_owned())));
                let why = self.why_not(place.unit, other);
                return self.refuse_repair(from, round, why);
            }
        };
        self.charge_answer(now, page.bytes());
        let pages: Vec<CopyPage> = page.parts();
        let parts = u16::try_from(pages.len()).unwrap_or(u16::MAX);
        for (part, page) in (0..parts).zip(pages) {
            self.send_repair(from, RepairMessage::Given { round, part, parts, page });
        }
    }

    fn on_take(&mut self, now: Now, caller: Caller, mut entries: Vec<CopyEntry>) {
        let Caller { from, round, place } = caller;
        let judged = self.judge_caller(now, from, &place).and_then(|()| self.judge_room(now));
        if let Err(why) = judged {
            return self.refuse_repair(from, round, why);
        }
        if let Some(state) = &self.state {
            // What is left of dropped tables must not come back behind the sweep.
            entries.retain(|entry| !state.is_dropped(entry.place.table));
        }
        self.repair.answering.open += 1;
        let bytes = entries.iter().map(CopyEntry::bytes).sum();
        self.charge_answer(now, bytes);
        let unit = place.unit;
        self.unit_disk(UnitPending::Taken(caller), UnitDisk::Merge { unit, entries });
    }

    pub(in crate::node) fn on_taken_up(
        &mut self,
        now: Now,
        caller: Caller,
        result: Result<UnitDone, DiskError>,
    ) {
        let Caller { from, round, place } = caller;
        self.repair.answering.open -= 1;
        match (self.judge_caller(now, from, &place), result) {
            (Err(why), _) => self.refuse_repair(from, round, why),
            (Ok(()), Ok(_)) => self.send_repair(from, RepairMessage::Taken { round }),
            (Ok(()), Err(error)) => {
                let why = self.why_not(place.unit, Err(error));
                self.refuse_repair(from, round, why);
            }
        }
    }
}

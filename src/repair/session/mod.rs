//! Sessions of one node: whom it asks what, what it brings where, how each ends. One at a time asks one
//! question at a time; nothing is kept for it on the other side. `docs/protocol/repair.md`, "Sessions".
//!
//! Knows no disk and no membership: the tree and the store are read by who carries [`SessionAction`]s
//! out, and are told of when that is done.

mod bringing;
mod wanted;

use core::time::Duration;
use std::collections::BTreeMap;

use bringing::Bringing;
pub use wanted::{Compared, End, Ended, SessionAction, SessionAround, SessionCounts, SessionPace};

use super::exchange::{Asker, Lack, Said, Step, Terms};
use crate::message::{
    CopyEntry, CopyPage, RepairMessage, RootSaid, RoundId, SessionAsk, SessionPlace, UnitRoot,
};
use crate::types::{Epoch, NodeId, TableId, Time, Unit, WallTime};

/// How often a question is asked again before the other side counts as lost.
const TRIES_MAX: u32 = 3;
/// What reading a range for a question costs, in bytes of the pace.
const READ_BYTES: usize = 32 << 10;
/// Differing keys that a session which only looks names.
const FOUND_MAX: usize = 16;

#[derive(Debug)]
struct Session {
    peer: NodeId,
    place: SessionPlace,
    terms: Terms,
    looks: Option<Vec<Lack>>,
    lacks: u64,
    brought_below: bool,
    at: At,
}

#[derive(Debug)]
enum At {
    /// The disk has the asker.
    Advancing,
    /// A question is to be asked, or has been.
    Asking(Box<Asker>, Asked),
    Bringing(Box<Asker>, Box<Bringing>),
}

/// A question that waits to be sent, or for its answer.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    since: Option<Time>,
    tries: u32,
}

/// Roots that are being compared.
#[derive(Debug)]
struct Roots {
    peer: NodeId,
    covers: WallTime,
    units: Vec<UnitRoot>,
    number: u32,
    asked: Asked,
}

/// The sessions of a node.
#[derive(Debug)]
pub struct Sessions {
    pace: SessionPace,
    open: BTreeMap<u64, Session>,
    roots: BTreeMap<u64, Roots>,
    /// Nothing is asked before.
    paced: Time,
    look_at: Time,
    counts: SessionCounts,
}

impl Asked {
    fn is_due(self, around: &SessionAround<'_>, pace: &SessionPace) -> bool {
        self.since.is_some_and(|since| around.now.since(since) >= pace.answer_within)
    }
}

impl Sessions {
    /// None.
    pub fn new(pace: SessionPace) -> Sessions {
        Sessions {
            pace,
            open: BTreeMap::new(),
            roots: BTreeMap::new(),
            paced: Time(0),
            look_at: Time(0),
            counts: SessionCounts::default(),
        }
    }

    /// How many sessions there are.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// How many comparisons of roots wait for their answer.
    pub fn comparing(&self) -> usize {
        self.roots.len()
    }

    /// Counts since the start.
    pub fn counts(&self) -> SessionCounts {
        self.counts
    }

    /// Whether a number is taken.
    pub fn is_known(&self, id: u64) -> bool {
        self.open.contains_key(&id) || self.roots.contains_key(&id)
    }

    /// Compares the roots of units with another owner's. `covers`: when they were read.
    pub fn compare(
        &mut self,
        id: u64,
        peer: NodeId,
        (units, covers): (Vec<UnitRoot>, WallTime),
        around: &mut SessionAround<'_>,
    ) {
        let asked = Asked::default();
        self.roots.insert(id, Roots { peer, covers, units, number: 0, asked });
        self.go_on(around);
    }

    /// Begins a session. One that only looks brings nothing, and names some of what differs.
    pub fn begin(
        &mut self,
        peer: NodeId,
        place: SessionPlace,
        (terms, only_looks): (Terms, bool),
        around: &mut SessionAround<'_>,
    ) {
        crate::sometimes!("repair: a session begins");
        let looks = only_looks.then(Vec::new);
        let (lacks, brought_below, at) = (0, false, At::Advancing);
        let session = Session { peer, place, terms, looks, lacks, brought_below, at };
        self.open.insert(terms.session, session);
        let asker = Box::new(Asker::new(terms));
        around.out.push(SessionAction::Advance(terms.session, place.unit, asker, None));
    }

    /// When [`Sessions::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Option<Time> {
        let of = |asked: Asked| match asked.since {
            Some(since) => since.plus(self.pace.answer_within),
            None => self.paced.max(self.look_at),
        };
        let sessions = self.open.values().filter_map(|session| match &session.at {
            At::Advancing => None,
            At::Asking(_, asked) => Some(of(*asked)),
            At::Bringing(_, bringing) => bringing.asked().map(of),
        });
        sessions.chain(self.roots.values().map(|roots| of(roots.asked))).min()
    }

    /// Asks again what has not been answered, and what waited for room.
    pub fn on_time(&mut self, around: &mut SessionAround<'_>) {
        let pace = self.pace;
        let mut lost = Vec::new();
        for (id, session) in &mut self.open {
            if session.ask_again(around, &pace) {
                lost.push(*id);
            }
        }
        for id in lost {
            crate::sometimes!("repair: an owner does not answer");
            self.end(id, End::Lost, around);
        }
        let mut lost = Vec::new();
        for (id, roots) in &mut self.roots {
            if roots.asked.is_due(around, &pace) {
                let tries = roots.asked.tries + 1;
                roots.asked = Asked { since: None, tries };
                if tries > TRIES_MAX {
                    lost.push(*id);
                }
            }
        }
        for id in lost {
            self.end_roots(id, |_| None, around);
        }
        self.go_on(around);
    }

    /// Another owner has answered.
    pub fn on_message(
        &mut self,
        from: NodeId,
        message: RepairMessage,
        around: &mut SessionAround<'_>,
    ) {
        let bytes = message.bytes();
        match message {
            RepairMessage::Differ { round, units } if self.is_roots(from, round) => {
                self.charge(bytes, around.now);
                let units: BTreeMap<Unit, RootSaid> = units.into_iter().collect();
                self.end_roots(round.op, |unit| Some(units.get(&unit).copied()), around);
            }
            RepairMessage::Refused { round, why } if self.is_roots(from, round) => {
                let said = Some(Some(RootSaid::Refused(why)));
                self.end_roots(round.op, |_| said, around);
            }
            RepairMessage::Refused { round, why } => {
                if self.of(from, round).is_some_and(|session| session.waits_for(round.round)) {
                    crate::sometimes!("repair: an owner refuses in a session");
                    self.end(round.op, End::Refused(why), around);
                }
            }
            RepairMessage::Said { round, said } => {
                self.charge(bytes + READ_BYTES, around.now);
                self.on_said((from, round), said, around);
            }
            RepairMessage::Given { round, part, parts, page } => {
                self.charge(bytes, around.now);
                let Some(session) = self.of(from, round) else { return };
                let At::Bringing(_, bringing) = &mut session.at else { return };
                match bringing.on_given(round.round, (part, parts), page) {
                    Some(Ok(entries)) => self.merge(round.op, entries, around),
                    Some(Err(())) => self.end(round.op, End::Lost, around),
                    None => {}
                }
            }
            RepairMessage::Taken { round } => {
                let Some(session) = self.of(from, round) else { return };
                if let At::Bringing(_, bringing) = &mut session.at
                    && let Some(taken) = bringing.on_taken(round.round)
                {
                    self.counts.there += taken;
                }
            }
            _ => return,
        }
        self.go_on(around);
    }

    /// The own tree and store have been read as far as they could; `None`: they could not.
    pub fn on_advanced(
        &mut self,
        id: u64,
        asker: Option<Box<Asker>>,
        around: &mut SessionAround<'_>,
    ) {
        let Some(session) = self.open.get_mut(&id) else { return };
        let Some(mut asker) = asker else { return self.end(id, End::Failed, around) };
        match asker.step() {
            Step::Ask(..) => session.at = At::Asking(asker, Asked::default()),
            Step::Bring(lacks) => {
                session.lacks += u64::try_from(lacks.len()).unwrap_or(u64::MAX);
                if let Some(found) = &mut session.looks {
                    let room = FOUND_MAX.saturating_sub(found.len());
                    found.extend(lacks.into_iter().take(room));
                    asker.leave();
                    return self.advance(id, asker, None, around);
                }
                let dropped = |table: Option<TableId>| table.is_none_or(around.is_dropped);
                let stays = |lack: &Lack| !dropped(lack.place.table());
                let bringing = Bringing::new(lacks.into_iter().filter(stays));
                session.at = At::Bringing(asker, Box::new(bringing));
            }
            Step::Done(outcome) => {
                let end = if outcome.verified { End::Verified } else { End::Unverified };
                return self.end(id, end, around);
            }
            // The disk reads all there is to read.
            Step::Read(_) => return self.end(id, End::Failed, around),
        }
        self.go_on(around);
    }

    /// What there is here of the keys that were fetched; `None`: it could not be read.
    pub fn on_fetched(&mut self, id: u64, page: Option<CopyPage>, around: &mut SessionAround<'_>) {
        let Some(session) = self.open.get_mut(&id) else { return };
        let At::Bringing(_, bringing) = &mut session.at else { return };
        match page {
            Some(page) => bringing.on_fetched(page),
            None => return self.end(id, End::Failed, around),
        }
        self.go_on(around);
    }

    /// What came is here, or could not be merged.
    pub fn on_merged(&mut self, id: u64, is_done: bool, around: &mut SessionAround<'_>) {
        let Some(session) = self.open.get_mut(&id) else { return };
        let At::Bringing(_, bringing) = &mut session.at else { return };
        if !is_done {
            return self.end(id, End::Failed, around);
        }
        self.counts.here += bringing.on_merged();
        self.go_on(around);
    }

    /// A round of a register is over.
    pub fn on_round(&mut self, id: u64, around: &mut SessionAround<'_>) {
        let Some(session) = self.open.get_mut(&id) else { return };
        if let At::Bringing(_, bringing) = &mut session.at {
            bringing.on_round();
            self.counts.rounds += 1;
        }
        self.go_on(around);
    }

    /// A member cannot be reached any more.
    pub fn on_unreachable(&mut self, member: NodeId, around: &mut SessionAround<'_>) {
        self.end_all(End::Lost, |session| session.peer == member, around);
        let roots = self.roots.iter().filter(|(_, roots)| roots.peer == member);
        for id in roots.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_roots(id, |_| None, around);
        }
    }

    /// A state is in force: sessions of an earlier fence end.
    pub fn on_state(&mut self, changed_at: impl Fn(Unit) -> Epoch, around: &mut SessionAround<'_>) {
        let is_fenced =
            |session: &Session| changed_at(session.place.unit) != session.place.changed_at;
        self.end_all(End::Cancelled, is_fenced, around);
    }

    /// Calls off everything.
    pub fn cancel(&mut self, around: &mut SessionAround<'_>) {
        self.end_all(End::Cancelled, |_| true, around);
        for id in self.roots.keys().copied().collect::<Vec<_>>() {
            self.end_roots(id, |_| None, around);
        }
    }

    fn end_all(
        &mut self,
        end: End,
        which: impl Fn(&Session) -> bool,
        around: &mut SessionAround<'_>,
    ) {
        let ids: Vec<u64> =
            self.open.iter().filter(|(_, session)| which(session)).map(|(id, _)| *id).collect();
        for id in ids {
            self.end(id, end, around);
        }
    }

    fn of(&mut self, from: NodeId, round: RoundId) -> Option<&mut Session> {
        self.open.get_mut(&round.op).filter(|session| session.peer == from)
    }

    fn is_roots(&self, from: NodeId, round: RoundId) -> bool {
        let roots = self.roots.get(&round.op);
        roots.is_some_and(|roots| roots.peer == from && roots.number == round.round)
    }

    fn on_said(
        &mut self,
        (from, round): (NodeId, RoundId),
        said: Said,
        around: &mut SessionAround<'_>,
    ) {
        let Some(session) = self.of(from, round) else { return };
        let At::Asking(asker, _) = &session.at else { return };
        let Step::Ask(number, ask) = asker.step() else { return };
        if number != round.round {
            return;
        }
        if !said.fits(&ask) {
            return self.end(round.op, End::Lost, around);
        }
        if let At::Asking(asker, _) = core::mem::replace(&mut session.at, At::Advancing) {
            self.advance(round.op, asker, Some((number, said)), around);
        }
    }

    fn advance(
        &mut self,
        id: u64,
        asker: Box<Asker>,
        said: Option<(u32, Said)>,
        around: &mut SessionAround<'_>,
    ) {
        let Some(session) = self.open.get_mut(&id) else { return };
        session.at = At::Advancing;
        around.out.push(SessionAction::Advance(id, session.place.unit, asker, said));
    }

    fn merge(&mut self, id: u64, entries: Vec<CopyEntry>, around: &mut SessionAround<'_>) {
        let Some(session) = self.open.get_mut(&id) else { return };
        // What is left of dropped tables must not come back behind the sweep.
        let stays = |entry: &CopyEntry| !(around.is_dropped)(entry.place.table);
        let entries: Vec<CopyEntry> = entries.into_iter().filter(stays).collect();
        let horizon = session.terms.horizon;
        let is_below =
            |entry: &CopyEntry| entry.record.lowest().is_some_and(|stamp| stamp <= horizon);
        session.brought_below |= entries.iter().any(is_below);
        around.out.push(SessionAction::Merge(id, session.place.unit, entries));
    }

    /// Sends what may be sent.
    fn go_on(&mut self, around: &mut SessionAround<'_>) {
        self.look_at = if around.busy { around.now.plus(self.pace.pause) } else { Time(0) };
        let is_full = |paced: Time| around.busy || paced > around.now;
        let mut sent = 0;
        for (id, roots) in &mut self.roots {
            if roots.asked.since.is_some() || is_full(self.paced) {
                continue;
            }
            roots.number += 1;
            roots.asked.since = Some(around.now);
            let round = RoundId { op: *id, round: roots.number };
            let message = RepairMessage::Roots { round, units: roots.units.clone() };
            sent += message.bytes();
            around.out.push(SessionAction::Send(roots.peer, message));
        }
        let mut brought = Vec::new();
        for (id, session) in &mut self.open {
            let (place, unit) = (session.place, session.place.unit);
            match &mut session.at {
                At::Advancing => {}
                At::Asking(asker, asked) => {
                    if asked.since.is_some() || is_full(self.paced) {
                        continue;
                    }
                    let Step::Ask(number, ask) = asker.step() else { continue };
                    asked.since = Some(around.now);
                    let round = RoundId { op: *id, round: number };
                    let horizon = session.terms.horizon;
                    let ask =
                        RepairMessage::Ask(Box::new(SessionAsk { round, place, horizon, ask }));
                    sent += ask.bytes();
                    around.out.push(SessionAction::Send(session.peer, ask));
                }
                At::Bringing(_, bringing) if bringing.is_done() => brought.push(*id),
                At::Bringing(..) if is_full(self.paced) => {}
                At::Bringing(_, bringing) => {
                    if let Some(message) = bringing.next_message(around.now, *id, place) {
                        sent += message.bytes();
                        around.out.push(SessionAction::Send(session.peer, message));
                    }
                    if let Some(keys) = bringing.next_fetch() {
                        around.out.push(SessionAction::Fetch(*id, unit, keys));
                    }
                    for key in bringing.next_rounds() {
                        around.out.push(SessionAction::Round(*id, key));
                    }
                }
            }
        }
        self.charge(sent, around.now);
        for id in brought {
            let Some(session) = self.open.get_mut(&id) else { continue };
            if let At::Bringing(mut asker, _) = core::mem::replace(&mut session.at, At::Advancing) {
                asker.on_brought();
                self.advance(id, asker, None, around);
            }
        }
    }

    fn charge(&mut self, bytes: usize, now: Time) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.counts.bytes += bytes;
        let rate = self.pace.bytes_per_second;
        let cost = bytes.saturating_mul(1_000_000_000).checked_div(rate).unwrap_or(0);
        self.paced = self.paced.max(now).plus(Duration::from_nanos(cost));
    }

    fn end(&mut self, id: u64, end: End, around: &mut SessionAround<'_>) {
        let Some(session) = self.open.remove(&id) else { return };
        self.counts.sessions += 1;
        let Session { peer, place, terms, looks: looked, lacks, brought_below, .. } = session;
        let (unit, horizon) = (place.unit, terms.horizon);
        let ended = Ended { unit, peer, horizon, end, lacks, brought_below, looked };
        around.out.push(SessionAction::Ended(ended));
    }

    /// The roots have been compared: what was said of each unit, `None` within when nothing was: it is
    /// equal; `None` without when nothing came at all.
    fn end_roots(
        &mut self,
        id: u64,
        said: impl Fn(Unit) -> Option<Option<RootSaid>>,
        around: &mut SessionAround<'_>,
    ) {
        let Some(Roots { peer, covers, units, .. }) = self.roots.remove(&id) else { return };
        let (mut equal, mut others) = (Vec::new(), Vec::new());
        for UnitRoot { unit, .. } in units {
            match said(unit) {
                Some(None) => equal.push(unit),
                Some(said) => others.push((unit, said)),
                None => others.push((unit, None)),
            }
        }
        around.out.push(SessionAction::Compared(Compared { peer, covers, equal, others }));
    }
}

impl Session {
    /// Whether a number is that of the question on its way.
    fn waits_for(&self, number: u32) -> bool {
        match &self.at {
            At::Advancing => false,
            At::Asking(asker, _) => matches!(asker.step(), Step::Ask(asked, _) if asked == number),
            At::Bringing(_, bringing) => bringing.waits_for(number),
        }
    }

    /// Asks again what has not been answered in time; says whether that was the last time.
    fn ask_again(&mut self, around: &SessionAround<'_>, pace: &SessionPace) -> bool {
        match &mut self.at {
            At::Advancing => false,
            At::Asking(asker, asked) => {
                if !asked.is_due(around, pace) {
                    return false;
                }
                asker.again();
                *asked = Asked { since: None, tries: asked.tries + 1 };
                asked.tries > TRIES_MAX
            }
            At::Bringing(_, bringing) => bringing.ask_again(around, pace),
        }
    }
}

#[cfg(test)]
mod tests;

//! Hints: what this node keeps for owners that were away, and when it is handed back. The rules are
//! `handoff`'s; here they are fed, and their wishes carried out.

use std::collections::BTreeMap;

use super::Node;
use super::disk::Pending;
use super::operation::LocalAnswer;
use crate::causality::Dot;
use crate::handoff::{
    Around, Books, Bounds, Delivered, Delivery, Replay, ReplayAction, Timing, is_leaving,
};
use crate::message::{
    CausalMessage, CustodyChange, DirtyMark, DiskAnswer, DiskError, DiskRequest, Effect, ErrorCode,
    Hint, HintGauges, HintLine, HintPlace, HintRequest, HintTotals, HintsReply, Kept, KeyPlace,
    Level, MetaRecord, OpError, PeerMessage, Phase, Refusal, Reply, Restored, RoundId, WriteAnswer,
    WriteAsk, WriteOutcome,
};
use crate::types::{
    ClusterState, NodeId, NodeName, Now, OpId, Stamp, Time, Unit, WallTime, limits,
};

/// What is kept for others, and its way back.
#[derive(Debug)]
pub(super) struct Hints {
    pub(super) books: Books,
    replay: Replay,
    /// When plain hints are next looked through for those that are too old.
    age_check_at: Time,
    /// A deletion by age is under way.
    dropping: bool,
    /// Hints handed back since the start.
    replayed: u64,
    /// Hints given up since the start.
    dropped: u64,
}

/// What was asked of the disk that keeps hints.
#[derive(Clone, Copy, Debug)]
enum Asker {
    /// Nobody waits: a plain hint.
    Nobody,
    /// A coordinator that has asked to keep a version.
    Write(NodeId, RoundId),
    /// The same of a set of siblings.
    Merge(NodeId, RoundId),
    /// A put of this node as a stand-in.
    Change(RoundId),
}

/// Who waits for a hint to be durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping {
    asker: Asker,
    target: NodeId,
    unit: Unit,
    custody: bool,
    bytes: u64,
}

/// A deletion of hints under way.
#[derive(Clone, Debug)]
pub(super) struct Dropping {
    target: NodeId,
    before: WallTime,
    /// The operator who asked, if one did; then custody goes too.
    op: Option<OpId>,
    so_far: HintTotals,
}

impl Asker {
    /// A planted bug: whoever asked is answered though nothing is durable.
    fn is_answered_early(self) -> bool {
        match self {
            Asker::Write(..) => crate::mutant!("hint-ack-before-durable"),
            Asker::Merge(..) => crate::mutant!("causal-custody-before-durable"),
            Asker::Nobody | Asker::Change(_) => false,
        }
    }
}

/// The stamp by which what is kept is told to be late.
fn highest(kept: &Kept) -> Stamp {
    match kept {
        Kept::Version(record) => record.stamp,
        Kept::Siblings(set) => set.context().last().map_or(Stamp::ZERO, Dot::stamp),
    }
}

impl Hints {
    pub(super) fn new(
        config: &super::NodeConfig,
        restored: &Restored,
        (now, seed): (Now, u64),
    ) -> Hints {
        let bounds = Bounds { bytes_max: config.hint_bytes_max, age_max: config.hint_age_max };
        let timing = Timing {
            bytes_per_second: config.hint_replay_rate.max(1),
            back_off: config.retry_interval,
            back_off_max: config.probe_interval.saturating_mul(8),
            answer_within: config.retry_interval.saturating_mul(4),
        };
        let books = Books::new(bounds, restored.hints.clone(), restored.dirty.clone());
        // A generator of its own, so that what it draws changes no other choice.
        let rng = fastrand::Rng::with_seed(seed ^ 0x7265_706c_6179_2121);
        let replay = Replay::new(timing, rng);
        let age_check_at = now.mono;
        Hints { books, replay, age_check_at, dropping: false, replayed: 0, dropped: 0 }
    }

    pub(super) fn gauges(&self) -> HintGauges {
        HintGauges {
            held: self.books.totals(),
            replayed: self.replayed,
            dropped: self.dropped,
            dirty: u64::try_from(self.books.dirty().len()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn next_deadline(&self, now: Time) -> Option<Time> {
        self.replay.next_deadline(now)
    }
}

impl Node {
    /// A coordinator asks this node to stand in: judged already, like a write or a merge.
    pub(super) fn keep_in_custody(
        &mut self,
        (from, round): (NodeId, RoundId),
        target: NodeId,
        hint: Hint,
    ) {
        let asker = match hint.kept {
            Kept::Version(_) => Asker::Write(from, round),
            Kept::Siblings(_) => Asker::Merge(from, round),
        };
        let (unit, bytes) = (hint.unit, hint.bytes());
        if let Some(bound) = self.floors.custody_refuses(highest(&hint.kept)) {
            crate::sometimes!("floor: custody refuses what is late");
            return self.answer_kept(asker, Err(Refusal::Late { bound }));
        }
        if !self.hints.books.admit(true, bytes) {
            crate::sometimes!("handoff: no room for custody");
            return self.answer_kept(asker, Err(Refusal::Overloaded));
        }
        self.replica_operations += 1;
        if asker.is_answered_early() {
            self.answer_kept(asker, Ok(WriteOutcome::Stored));
        }
        let keeping = Keeping { asker, target, unit, custody: true, bytes };
        self.disk(Pending::Hint(keeping), DiskRequest::KeepHint { target, hint });
    }

    /// A put of this node, as a stand-in, makes its change in what is kept in custody.
    pub(super) fn change_custody(&mut self, round: RoundId, change: CustodyChange) {
        let (target, unit, bytes) = (change.target, change.unit, change.bytes());
        if !self.takes_custody() {
            return self.local.push_back(LocalAnswer::Changed(round, Err(Refusal::NotOwner)));
        }
        if let Some(bound) = self.floors.custody_refuses(change.change.dot.stamp()) {
            let late = Err(Refusal::Late { bound });
            return self.local.push_back(LocalAnswer::Changed(round, late));
        }
        if !self.hints.books.admit(true, bytes) {
            crate::sometimes!("handoff: no room for custody");
            let full = Err(Refusal::Overloaded);
            return self.local.push_back(LocalAnswer::Changed(round, full));
        }
        self.replica_operations += 1;
        let keeping = Keeping { asker: Asker::Change(round), target, unit, custody: true, bytes };
        self.disk(Pending::Hint(keeping), DiskRequest::ChangeHint(Box::new(change)));
    }

    fn answer_kept(&mut self, asker: Asker, result: Result<WriteOutcome, Refusal>) {
        match asker {
            Asker::Write(from, round) => {
                let complete = false;
                self.answer_write(from, WriteAnswer { round, complete, result });
            }
            Asker::Merge(from, round) => self.answer_merge(from, round, result.map(|_| ())),
            Asker::Nobody | Asker::Change(_) => {}
        }
    }

    /// An owner has not taken an acknowledged write: it is kept here, where there is room.
    pub(super) fn keep_plain(&mut self, now: Now, target: NodeId, hint: Hint) {
        let known = self.state.as_ref().is_some_and(|state| state.table(hint.table).is_some());
        if target == self.me || !known {
            return;
        }
        let (unit, hint) = (hint.unit, Hint { created: now.wall, ..hint });
        let bytes = hint.bytes();
        if !self.hints.books.admit(false, bytes) {
            self.hints.dropped += 1;
            return self.mark_dirty(unit, target);
        }
        crate::sometimes!("handoff: keeps a plain hint");
        let keeping = Keeping { asker: Asker::Nobody, target, unit, custody: false, bytes };
        self.disk(Pending::Hint(keeping), DiskRequest::KeepHint { target, hint });
    }

    /// Durably notes that an owner may lack writes of a unit.
    pub(super) fn mark_dirty(&mut self, unit: Unit, target: NodeId) {
        if target == self.me {
            return;
        }
        self.note_mark(unit, target);
        if self.hints.books.mark_dirty(unit, target) {
            let records = vec![MetaRecord::Dirty(unit, target)];
            self.disk(Pending::Housekeeping, DiskRequest::Persist(records));
        }
    }

    pub(super) fn on_hint_kept(
        &mut self,
        now: Now,
        keeping: Keeping,
        result: Result<DiskAnswer, DiskError>,
    ) {
        let Keeping { asker, target, unit, custody, bytes } = keeping;
        let told = self.hints.books.holds_custody(target);
        let mut changed = None;
        let result = match result {
            Ok(DiskAnswer::Kept(outcome, change)) => {
                self.hints.books.settle(target, (custody, bytes), change);
                Ok(outcome)
            }
            Ok(DiskAnswer::ChangedHint(done, change)) => {
                self.hints.books.settle(target, (custody, bytes), change);
                changed = Some(done);
                Ok(WriteOutcome::Stored)
            }
            other => {
                self.hints.books.doubt(target, (custody, bytes), now.wall);
                Err(self.refusal(other))
            }
        };
        if told != self.hints.books.holds_custody(target) {
            // Everybody should hear of it before the target is asked again.
            self.members.probe_soon(now);
        }
        match asker {
            Asker::Write(..) | Asker::Merge(..) => {
                self.replica_operations -= 1;
                if !asker.is_answered_early() {
                    self.answer_kept(asker, result);
                }
            }
            Asker::Change(round) => {
                self.replica_operations -= 1;
                let other = || Refusal::Storage("the disk gave another answer".to_owned());
                let result = result.and_then(|_| changed.ok_or_else(other));
                self.on_changed(now, round, result);
            }
            Asker::Nobody if result.is_err() => self.mark_dirty(unit, target),
            Asker::Nobody => {}
        }
        self.sweep_on();
        self.replay_on(now);
    }

    /// Takes a step of replay and carries out what it wants.
    fn replay_step(
        &mut self,
        now: Now,
        run: impl FnOnce(&mut Replay, &mut Around<'_>) -> bool,
    ) -> bool {
        let Some(state) = self.state.clone().filter(|_| self.phase == Phase::Serving) else {
            return false;
        };
        let mut out = Vec::new();
        let members = &self.members;
        let reachable = |member: NodeId| members.is_reachable(member) && members.serves(member);
        let leaves = is_leaving(&state, self.me);
        let given_up = |member: NodeId| leaves && self.topology.is_long_down(self.now, member);
        let around = &mut Around {
            now,
            me: self.me,
            state: &state,
            reachable: &reachable,
            given_up: &given_up,
            books: &self.hints.books,
            next_operation: &mut self.next_operation,
            out: &mut out,
        };
        let known = run(&mut self.hints.replay, around);
        for action in out {
            match action {
                ReplayAction::Read(target, after) => {
                    let first = after.is_none();
                    if first {
                        self.hints.books.ask_oldest(target);
                    }
                    let request = DiskRequest::Hints { target, after };
                    self.disk(Pending::HintPage(target, first), request);
                }
                ReplayAction::Deliver(delivery) => self.deliver_hint(now, &state, *delivery),
                ReplayAction::Remove(target, hint) => {
                    self.hints.books.begin_remove();
                    let request = DiskRequest::RemoveHint { target, hint: *hint };
                    self.disk(Pending::HintRemoved(target), request);
                }
                ReplayAction::Lacks(target, unit) => self.mark_dirty(unit, target),
            }
        }
        known
    }

    /// A node that is to leave looks whether what it keeps is waited for no more.
    pub(super) fn pass_custody_on(&mut self, now: Now) {
        if self.state.as_ref().is_some_and(|state| is_leaving(state, self.me)) {
            self.replay_on(now);
        }
    }

    fn deliver_hint(&mut self, now: Now, state: &ClusterState, delivery: Delivery) {
        let Delivery { round, to, hint } = delivery;
        let Hint { unit, table, key, kept, .. } = hint;
        let changed_at = state.changed_at(unit);
        let remaining = self.config.retry_interval.saturating_mul(4);
        let mut record = match kept {
            Kept::Version(record) => record,
            Kept::Siblings(set) => {
                let (place, hint_for) = (KeyPlace { unit, changed_at, table, key }, None);
                let message = CausalMessage::Merge { round, place, hint_for, set, remaining };
                return self.ask_causal(now, to, Box::new(message));
            }
        };
        if crate::mutant!("replay-stamps-anew") {
            record.stamp.time = self.clock.of_record(now.wall);
        }
        let ask = WriteAsk {
            round,
            unit,
            changed_at,
            table,
            key,
            record,
            rest: Vec::new(),
            fresh: false,
            hint_for: None,
            remaining,
        };
        if to == self.me {
            self.on_write_ask(now, to, ask);
        } else {
            self.send(to, PeerMessage::Write(Box::new(ask)));
        }
    }

    /// Goes on with replay, if anything is due.
    pub(super) fn replay_on(&mut self, now: Now) {
        if self.hints.books.totals().count > 0 || self.hints.replay.current().is_some() {
            self.replay_step(now, |replay, around| {
                replay.on_time(around);
                true
            });
        }
    }

    /// A target is back: it need not wait any longer.
    pub(super) fn on_target_back(&mut self, now: Now, target: NodeId) {
        self.hints.replay.hurry(target);
        self.replay_on(now);
    }

    /// An answer that no operation of a client waits for may be to a delivery.
    pub(super) fn on_delivered<T>(
        &mut self,
        now: Now,
        from: NodeId,
        (round, result): (RoundId, Result<T, Refusal>),
    ) {
        let delivered = match result {
            Ok(_) => Delivered::Held,
            Err(Refusal::Overloaded) => Delivered::Overloaded,
            Err(_) => Delivered::Refused,
        };
        self.replay_step(now, |replay, around| replay.on_answer(from, (round, delivered), around));
    }

    pub(super) fn on_hint_page(
        &mut self,
        now: Now,
        (target, first): (NodeId, bool),
        result: Result<DiskAnswer, DiskError>,
    ) {
        let page = match result {
            Ok(DiskAnswer::Hints(page)) => Some(page),
            other => {
                self.refusal(other);
                None
            }
        };
        if first && let Some(page) = &page {
            let oldest = page.hints.first().map(|hint| hint.created);
            self.hints.books.saw_oldest(target, oldest);
        }
        self.replay_step(now, |replay, around| {
            replay.on_page(target, page, around);
            true
        });
    }

    pub(super) fn on_hint_removed(
        &mut self,
        now: Now,
        target: NodeId,
        result: &Result<DiskAnswer, DiskError>,
    ) {
        self.hints.books.end_remove();
        if let Ok(DiskAnswer::HintRemoved(gone)) = result {
            self.hints.replayed += gone.count;
            let told = self.hints.books.holds_custody(target);
            self.hints.books.removed(target, *gone);
            if told != self.hints.books.holds_custody(target) {
                self.members.probe_soon(now);
            }
        }
        self.replay_on(now);
    }

    /// A peer cannot be reached any more.
    pub(super) fn on_target_lost(&mut self, now: Now, peer: NodeId) {
        self.replay_step(now, |replay, around| {
            replay.on_unreachable(peer, around);
            true
        });
    }

    /// A state has come into force: hints may have to go elsewhere.
    pub(super) fn reroute_hints(&mut self, now: Now) {
        self.hints.replay.on_state(&self.hints.books);
        self.replay_on(now);
    }

    /// Hints of dropped tables have been swept.
    pub(super) fn on_hints_swept(&mut self, gone: BTreeMap<NodeId, HintTotals>) {
        for (target, gone) in gone {
            self.hints.books.removed(target, gone);
        }
    }

    /// Looks for plain hints that are too old, now and then.
    pub(super) fn drop_aged(&mut self, now: Now) {
        if self.hints.dropping || now.mono < self.hints.age_check_at {
            return;
        }
        let Some(target) = self.hints.books.aged(now.wall).first().copied() else { return };
        // Those in custody stay and are looked through again.
        self.hints.age_check_at = now.mono.plus(self.config.hint_age_max / 64);
        self.hints.dropping = true;
        let before = self.hints.books.too_old(now.wall);
        let order = Dropping { target, before, op: None, so_far: HintTotals::default() };
        self.drop_piece(order, None);
    }

    fn drop_piece(&mut self, order: Dropping, after: Option<HintPlace>) {
        let (target, before, custody) = (order.target, order.before, order.op.is_some());
        self.hints.books.begin_remove();
        let request = DiskRequest::DropHints { target, before, custody, after };
        self.disk(Pending::HintsDropped(order), request);
    }

    pub(super) fn on_hints_dropped(
        &mut self,
        now: Now,
        mut order: Dropping,
        result: Result<DiskAnswer, DiskError>,
    ) {
        self.hints.books.end_remove();
        let outcome = match result {
            Ok(DiskAnswer::HintsDropped(dropped)) => {
                for unit in dropped.units {
                    self.hints.books.mark_dirty(unit, order.target);
                    self.note_mark(unit, order.target);
                }
                self.hints.books.removed(order.target, dropped.dropped);
                self.hints.dropped += dropped.dropped.count;
                order.so_far.add(dropped.dropped);
                if let Some(next) = dropped.next {
                    return self.drop_piece(order, Some(next));
                }
                Ok(())
            }
            other => Err(format!("could not drop hints: {:?}", self.refusal(other))),
        };
        if order.so_far.count > 0 {
            let HintTotals { count, custody, .. } = order.so_far;
            let text = format!(
                "gave up {count} hints for member {}, {custody} of them in custody; their units are \
                 marked dirty",
                order.target
            );
            self.note(Level::Warn, Some(order.target), text);
        }
        let Some(op) = order.op else {
            self.hints.dropping = false;
            return;
        };
        self.members.probe_soon(now);
        let result = match outcome {
            Ok(()) => Ok(Reply::Hints(Box::new(self.hints_reply(now, order.so_far)))),
            Err(text) => Err(OpError::new(ErrorCode::Internal, text)
                .with_applied(crate::message::Applied::Unknown)),
        };
        self.effects.push_back(Effect::Reply { op, result });
    }

    /// An operator asks about hints.
    pub(super) fn on_hint_request(&mut self, now: Now, op: OpId, request: &HintRequest) {
        let target = match request {
            HintRequest::List | HintRequest::Replay(None) => None,
            HintRequest::Replay(Some(name)) | HintRequest::Drop(name) => {
                match self.target_named(name) {
                    Ok(target) => Some(target),
                    Err(error) => {
                        return self.effects.push_back(Effect::Reply { op, result: Err(error) });
                    }
                }
            }
        };
        let mut touched = HintTotals::default();
        match (request, target) {
            (HintRequest::List, _) => {}
            (HintRequest::Replay(_), target) => {
                let wanted = |id: &NodeId| target.is_none_or(|target| target == *id);
                let targets: Vec<NodeId> =
                    self.hints.books.targets().map(|(id, _)| id).filter(wanted).collect();
                for target in targets {
                    touched.add(self.hints.books.of(target).totals);
                    self.hints.replay.hurry(target);
                }
                self.replay_on(now);
            }
            (HintRequest::Drop(_), target) => {
                let target = target.unwrap_or_default();
                let before = WallTime(u64::MAX);
                let so_far = HintTotals::default();
                return self.drop_piece(Dropping { target, before, op: Some(op), so_far }, None);
            }
        }
        let result = Ok(Reply::Hints(Box::new(self.hints_reply(now, touched))));
        self.effects.push_back(Effect::Reply { op, result });
    }

    /// A target as operators name it: a member's name, or the number of one that is gone.
    fn target_named(&self, name: &NodeName) -> Result<NodeId, OpError> {
        let state = self.state.as_ref();
        let member = state.and_then(|state| state.member_named(name)).map(|member| member.id);
        let gone = name.as_str().parse().ok().map(NodeId);
        let gone = gone.filter(|id| self.hints.books.of(*id).totals.count > 0);
        member.or(gone).ok_or_else(|| {
            OpError::new(ErrorCode::RequestMalformed, format!("target: no member is called {name}"))
        })
    }

    fn hints_reply(&self, now: Now, touched: HintTotals) -> HintsReply {
        let name = |id: NodeId| {
            let member = self.state.as_ref().and_then(|state| state.member(id));
            member.map_or_else(|| id.to_string(), |member| member.name.to_string())
        };
        let current = self.hints.replay.current();
        let line = |(target, book): (NodeId, crate::message::HintBook)| HintLine {
            target: name(target),
            totals: book.totals,
            oldest_age: book.oldest.map_or_else(Default::default, |at| now.wall.ahead_of(at)),
            replaying: current == Some(target),
        };
        let dirty = self.hints.books.dirty();
        HintsReply {
            lines: self.hints.books.targets().map(line).collect(),
            dirty: dirty
                .iter()
                .take(limits::DIRTY_SHOWN_MAX)
                .map(|(unit, target)| DirtyMark { unit: *unit, target: name(*target) })
                .collect(),
            dirty_count: u64::try_from(dirty.len()).unwrap_or(u64::MAX),
            touched,
        }
    }

    /// Owners for which custody is known to be held, here or elsewhere, as a bitmap.
    pub(super) fn returning(&self, owners: &[NodeId]) -> u16 {
        let returns = |id: &NodeId| {
            self.hints.books.holds_custody(*id) || self.members.custody_is_held_for(*id)
        };
        let bit = |(index, id): (usize, &NodeId)| u16::from(returns(id)) << index;
        owners.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit)
    }

    /// What a put leaves behind for an owner.
    pub(super) fn hint_of(target: &crate::coordinator::Target, kept: Kept) -> Hint {
        let (unit, table, key) = (target.unit, target.table, target.key.clone());
        Hint { created: WallTime(0), custody: false, unit, table, key, kept }
    }
}

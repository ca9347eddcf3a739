//! What peers say, and what this node answers them as a replica: the fence, the owner check, the
//! clock bound, the deadline, then the disk.

use std::sync::Arc;

use super::Node;
use super::behind::Early;
use super::cursors::Under;
use super::disk::Pending;
use super::operation::LocalAnswer;
use crate::message::{
    CursorName, DiskRequest, Hint, Kept, PeerMessage, ReadAnswer, ReadAsk, Refusal, RoundId,
    ScanAnswer, ScanAsk, ScanPart, WriteAnswer, WriteAsk, WriteOutcome,
};
use crate::types::{ClassId, ClusterState, Epoch, NodeId, Now, TableId, TableKind, Time, Unit};

/// A question that has been let in: who waits for the answer, and under which fence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    pub(super) from: NodeId,
    pub(super) round: RoundId,
    pub(super) unit: Unit,
    pub(super) fence: Epoch,
    /// This replica had all it should have of the unit then.
    pub(super) complete: bool,
    /// It is a client's write on its first way in.
    pub(super) fresh: bool,
    /// When it was.
    pub(super) since: Time,
}

impl Node {
    pub(super) fn on_peer(&mut self, now: Now, from: NodeId, message: PeerMessage) {
        if from == self.me {
            return;
        }
        if self.members.on_heard(now, from) {
            self.publish();
            self.on_target_back(now, from);
        }
        self.run_members(now);
        match message {
            PeerMessage::Write(ask) => self.on_write_ask(now, from, *ask),
            PeerMessage::WriteAnswer(answer) => self.on_write_answer(now, from, answer),
            PeerMessage::Read(ask) => self.on_read_ask(now, from, *ask),
            PeerMessage::ReadAnswer(answer) => self.on_read_answer(now, from, *answer),
            PeerMessage::Scan(ask) => self.on_scan_ask(now, from, *ask),
            PeerMessage::ScanAnswer(answer) => self.on_scan_answer(now, from, *answer),
            PeerMessage::ScanEnd(scan) => self.on_scan_end(from, scan),
            PeerMessage::Probe(_)
            | PeerMessage::ProbeAck(_)
            | PeerMessage::News(_)
            | PeerMessage::ProbeVia { .. }
            | PeerMessage::Vouch { .. }
            | PeerMessage::MemberSync(_) => self.on_membership(now, from, message),
            PeerMessage::Birth(news) => self.on_birth_news(from, &news),
            PeerMessage::Register { epoch, life } => self.on_register(from, epoch, life),
            PeerMessage::Registered { boot, answer } => {
                self.on_registered(now, from, boot, &answer);
            }
            PeerMessage::StateAsk { epoch } => self.on_state_ask(from, epoch),
            PeerMessage::StateNews(state) => self.on_state_news(&state),
            PeerMessage::Decree(message) => self.on_decree_message(now, from, *message),
            PeerMessage::Causal(message) => self.on_causal(now, from, *message),
            PeerMessage::Consensus(message) => self.on_consensus(now, from, *message),
            PeerMessage::Explain(message) => self.on_explain(now, from, *message),
            PeerMessage::Copy(message) => self.on_copy(now, from, *message),
            PeerMessage::Repair(message) => self.on_repair(now, from, *message),
            PeerMessage::Floors(news) => self.on_floor_news(now, from, &news),
            PeerMessage::Watch(message) => self.on_watch(now, from, *message),
        }
    }

    pub(super) fn on_write_ask(&mut self, now: Now, from: NodeId, ask: WriteAsk) {
        let round = ask.round;
        let judged = self.judge_write(now, from, &ask);
        if matches!(judged, Err(Refusal::Behind { .. })) {
            return self.wait_for_state(now, from, Early::Write(Box::new(ask)));
        }
        if let Err(refusal) = judged {
            let (complete, result) = (false, Err(refusal));
            return self.answer_write(from, WriteAnswer { round, complete, result });
        }
        self.clock.observe(now.wall, ask.record.stamp);
        if let Some(target) = ask.hint_for {
            let WriteAsk { unit, table, key, record, .. } = ask;
            let kept = Kept::Version(record);
            let hint = Hint { created: now.wall, custody: true, unit, table, key, kept };
            return self.keep_in_custody((from, round), target, hint);
        }
        self.replica_operations += 1;
        let bytes = ask.bytes() - ask.key.as_bytes().len();
        let WriteAsk { unit, changed_at, table, key, record, rest, fresh, .. } = ask;
        let admitted = self.admitted((from, round), (unit, changed_at));
        let admitted = Admitted { fresh, ..admitted };
        self.count_copy(now.mono, unit, bytes);
        if crate::mutant!("ack-before-durable") {
            self.answer_admitted_write(admitted, Ok(WriteOutcome::Stored));
        }
        let request = if rest.is_empty() {
            DiskRequest::Write { unit, table, key, record }
        } else {
            let items = core::iter::once((key, record)).chain(rest).collect();
            DiskRequest::WriteTogether { unit, table, items }
        };
        self.disk(Pending::Write(admitted), request);
    }

    pub(super) fn on_read_ask(&mut self, now: Now, from: NodeId, ask: ReadAsk) {
        let round = ask.round;
        let judged = self
            .judge_read(now, from, (ask.unit, ask.changed_at, ask.table), ask.hint_for)
            .and_then(|()| self.judge_load(ask.remaining));
        if matches!(judged, Err(Refusal::Behind { .. })) {
            return self.wait_for_state(now, from, Early::Read(Box::new(ask)));
        }
        if let Err(refusal) = judged {
            return self.answer_read(from, ReadAnswer { round, result: Err(refusal) });
        }
        self.replica_operations += 1;
        let ReadAsk { unit, changed_at, table, key, hint_for, durable, .. } = ask;
        let request = match hint_for {
            // Whatever it keeps of the key, for whichever owner: a writer may have had it stand in for
            // another one.
            Some(_) => {
                let state = self.state.as_ref();
                let targets = state.map_or_else(Vec::new, |state| state.writers(unit));
                DiskRequest::ReadHint { targets, unit, table, key }
            }
            None => DiskRequest::Read { unit, table, key, durable },
        };
        let admitted = self.admitted((from, round), (unit, changed_at));
        self.count_copy(now.mono, unit, 0);
        self.disk(Pending::Read(admitted), request);
    }

    pub(super) fn on_scan_ask(&mut self, now: Now, from: NodeId, ask: ScanAsk) {
        let round = ask.round;
        let judged = self
            .judge_scan(now, from, &ask)
            .and_then(|class| self.judge_page_load(ask.remaining).map(|()| class));
        let class = match judged {
            Ok(class) => class,
            Err(Refusal::Behind { .. }) => {
                return self.wait_for_state(now, from, Early::Scan(Box::new(ask)));
            }
            Err(refusal) => {
                return self.answer_scan(from, ScanAnswer { round, result: Err(refusal) });
            }
        };
        let units = if self.units.iter().any(|unit| unit.class != class) {
            let of_class = self.units.iter().filter(|unit| unit.class == class);
            Arc::new(of_class.copied().collect())
        } else {
            self.units.clone()
        };
        self.replica_operations += 1;
        self.cursors.pages += 1;
        let fence = ask.changed_at;
        let mut cursor = None;
        if let Some(ScanPart { scan, first }) = ask.part {
            let name = CursorName { coordinator: from, scan };
            let place = (Under { class, fence }, units.len());
            let (taken, ends) = self.cursors.take((name, first), place, now.mono);
            cursor = taken;
            self.end_cursors(ends);
        }
        let deadline = now.mono.plus(ask.remaining);
        let ScanAsk { table, prefix, after, limit, keys_only, reverse, .. } = ask;
        let of = self.state.as_ref().and_then(|state| state.table(table));
        let durable = of.is_some_and(|table| table.kind == TableKind::Linearizable);
        let request = DiskRequest::Range {
            units,
            table,
            prefix,
            after,
            limit,
            keys_only,
            reverse,
            cursor,
            durable,
            deadline,
        };
        let cursor = cursor.map(|cursor| cursor.name);
        self.disk(Pending::Scan { from, round, class, fence, cursor }, request);
    }

    fn judge_write(&mut self, now: Now, from: NodeId, ask: &WriteAsk) -> Result<(), Refusal> {
        self.judge(now, from, (ask.unit, ask.changed_at, ask.table), ask.hint_for)?;
        self.judge_custody(ask.hint_for)?;
        self.judge_load(ask.remaining)?;
        if ask.fresh && ask.record.stamp.time > self.fresh_bound(now) {
            crate::sometimes!("replica: refuses a write too far ahead");
            let clock = self.clock.of_record(now.wall);
            return Err(Refusal::ClockAhead { clock });
        }
        Ok(())
    }

    /// The fence: who knows a later change of the unit's owners, or that the table is dropped,
    /// refuses, and sends the state; who has yet to learn of one catches up first.
    pub(super) fn judge(
        &mut self,
        now: Now,
        from: NodeId,
        (unit, theirs, table): (Unit, Epoch, TableId),
        hint_for: Option<NodeId>,
    ) -> Result<(), Refusal> {
        let state = self.judge_table(now, from, table)?;
        self.judge_epoch(now, from, (theirs, state.changed_at(unit)))?;
        // Who stands in is no owner itself, and does so for one.
        let fits = hint_for.is_none_or(|target| state.is_writer(unit, target));
        if state.is_writer(unit, self.me) == hint_for.is_some() || !fits {
            return Err(Refusal::NotOwner);
        }
        if hint_for.is_none() && !self.takes_writes(unit) {
            // What it held of the unit in an earlier time has to go first.
            let epoch = state.epoch;
            return Err(Refusal::Behind { epoch });
        }
        Ok(())
    }

    /// The same of what only an owner can do that has all it should have.
    pub(super) fn judge_read(
        &mut self,
        now: Now,
        from: NodeId,
        place: (Unit, Epoch, TableId),
        hint_for: Option<NodeId>,
    ) -> Result<(), Refusal> {
        self.judge(now, from, place, hint_for)?;
        let serves = hint_for.is_some() || self.is_complete(place.0);
        if !serves && !crate::mutant!("incomplete-serves") {
            crate::sometimes!("replica: is not read before it is complete");
            return Err(Refusal::Incomplete);
        }
        Ok(())
    }

    /// What a question has been let in under.
    pub(super) fn admitted(
        &self,
        (from, round): (NodeId, RoundId),
        (unit, fence): (Unit, Epoch),
    ) -> Admitted {
        let (complete, since) = (self.is_complete(unit), self.now);
        Admitted { from, round, unit, fence, complete, fresh: false, since }
    }

    /// Looks again before what was read is told: what was let in before the owners changed may have
    /// found what has been deleted since, and was written before that elsewhere.
    pub(super) fn look_again(&mut self, now: Now, admitted: &Admitted) -> Result<(), Refusal> {
        let Admitted { from, unit, fence, complete, .. } = *admitted;
        if crate::mutant!("read-after-delete") {
            return Ok(());
        }
        let ours = self.state.as_ref().map_or(Epoch(0), |state| state.changed_at(unit));
        self.judge_epoch(now, from, (fence, ours))?;
        if complete && !self.is_complete(unit) {
            return Err(Refusal::Incomplete);
        }
        Ok(())
    }

    /// The same of a page.
    pub(super) fn look_again_at_class(
        &mut self,
        now: Now,
        from: NodeId,
        (class, fence): (ClassId, Epoch),
    ) -> Result<(), Refusal> {
        if crate::mutant!("read-after-delete") {
            return Ok(());
        }
        let ours = self.state.as_ref().map_or(Epoch(0), |state| state.class_changed_at(class));
        self.judge_epoch(now, from, (fence, ours))?;
        self.judge_units(class)
    }

    /// Whether this node has all it should have of the units of a class that it is read of.
    fn judge_units(&self, class: ClassId) -> Result<(), Refusal> {
        let mut of_class = self.units.iter().filter(|unit| unit.class == class);
        if of_class.all(|unit| self.is_complete(*unit)) || crate::mutant!("incomplete-serves") {
            return Ok(());
        }
        Err(Refusal::Incomplete)
    }

    /// The same for all units of the table's class, which is returned.
    fn judge_scan(&mut self, now: Now, from: NodeId, ask: &ScanAsk) -> Result<ClassId, Refusal> {
        let state = self.judge_table(now, from, ask.table)?;
        let class = state.table(ask.table).map(|table| table.class).unwrap_or_default();
        self.judge_epoch(now, from, (ask.changed_at, state.class_changed_at(class)))?;
        self.judge_units(class)?;
        Ok(class)
    }

    /// What a watch asks for, of a class whose owners both know.
    pub(super) fn judge_watch(
        &mut self,
        now: Now,
        from: NodeId,
        (theirs, table): (Epoch, TableId),
    ) -> Result<(), Refusal> {
        let state = self.judge_table(now, from, table)?;
        let class = state.table(table).map(|table| table.class).unwrap_or_default();
        self.judge_epoch(now, from, (theirs, state.class_changed_at(class)))
    }

    fn judge_table(
        &mut self,
        now: Now,
        from: NodeId,
        table: TableId,
    ) -> Result<Arc<ClusterState>, Refusal> {
        let state = self.state.clone().filter(|_| self.is_serving());
        let Some(state) = state else { return Err(Refusal::NotServing) };
        let epoch = state.epoch;
        if state.table(table).is_some() || crate::mutant!("dropped-table-takes-writes") {
            return Ok(state);
        }
        if state.is_dropped(table) {
            crate::sometimes!("replica: refuses what is for a dropped table");
            self.push_state(now, from);
            return Err(Refusal::Dropped { epoch });
        }
        Err(Refusal::Behind { epoch })
    }

    fn judge_epoch(
        &mut self,
        now: Now,
        from: NodeId,
        (theirs, ours): (Epoch, Epoch),
    ) -> Result<(), Refusal> {
        let epoch = self.epoch();
        match theirs.cmp(&ours) {
            core::cmp::Ordering::Less if crate::mutant!("fence-ignored") => Ok(()),
            core::cmp::Ordering::Less => {
                self.push_state(now, from);
                Err(Refusal::Fenced { epoch })
            }
            core::cmp::Ordering::Greater => Err(Refusal::Behind { epoch }),
            core::cmp::Ordering::Equal => Ok(()),
        }
    }

    pub(super) fn judge_load(&self, remaining: core::time::Duration) -> Result<(), Refusal> {
        if remaining.is_zero() {
            return Err(Refusal::Expired);
        }
        if self.replica_operations >= self.config.replica_operations_max {
            crate::sometimes!("replica: overloaded");
            return Err(Refusal::Overloaded);
        }
        Ok(())
    }

    /// The same of a page: they are few, for each keeps a thread busy for long.
    fn judge_page_load(&self, remaining: core::time::Duration) -> Result<(), Refusal> {
        self.judge_load(remaining)?;
        if !self.has_room_for_page() {
            crate::sometimes!("replica: reads no more pages at once");
            return Err(Refusal::Overloaded);
        }
        Ok(())
    }

    /// A write that was let in has come to its end. Whether it was let in by a complete owner counts:
    /// what it has found is as of then.
    pub(super) fn answer_admitted_write(
        &mut self,
        admitted: Admitted,
        result: Result<WriteOutcome, Refusal>,
    ) {
        let complete = self.is_complete_still(&admitted);
        let Admitted { from, round, .. } = admitted;
        self.answer_write(from, WriteAnswer { round, complete, result });
    }

    /// Whether this replica had all it should have when it let something in, and has it still.
    pub(super) fn is_complete_still(&self, admitted: &Admitted) -> bool {
        admitted.complete && self.is_complete(admitted.unit)
    }

    pub(super) fn answer_write(&mut self, to: NodeId, answer: WriteAnswer) {
        if answer.round.round == 0 {
            // A repair: nobody waits.
        } else if to == self.me {
            self.local.push_back(LocalAnswer::Write(answer));
        } else {
            self.send(to, PeerMessage::WriteAnswer(answer));
        }
    }

    pub(super) fn answer_read(&mut self, to: NodeId, answer: ReadAnswer) {
        if to == self.me {
            self.local.push_back(LocalAnswer::Read(answer));
        } else {
            self.send(to, PeerMessage::ReadAnswer(Box::new(answer)));
        }
    }

    pub(super) fn answer_scan(&mut self, to: NodeId, answer: ScanAnswer) {
        if to == self.me {
            self.local.push_back(LocalAnswer::Scan(answer));
        } else {
            self.send(to, PeerMessage::ScanAnswer(Box::new(answer)));
        }
    }
}

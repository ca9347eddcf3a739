//! What peers say, and what this node answers them as a replica: the fence, the owner check, the
//! clock bound, the deadline, then the disk.

use std::sync::Arc;

use super::Node;
use super::disk::Pending;
use super::operation::LocalAnswer;
use crate::message::{
    DiskRequest, PeerMessage, ReadAnswer, ReadAsk, Refusal, ScanAnswer, ScanAsk, WriteAnswer,
    WriteAsk, WriteOutcome,
};
use crate::types::{Epoch, NodeId, Now, Unit};

impl Node {
    pub(super) fn on_peer(&mut self, now: Now, from: NodeId, message: PeerMessage) {
        if from == self.me {
            return;
        }
        if self.members.on_heard(now, from) {
            self.publish();
        }
        match message {
            PeerMessage::Write(ask) => self.on_write_ask(now, from, *ask),
            PeerMessage::WriteAnswer(answer) => self.on_write_answer(now, from, answer),
            PeerMessage::Read(ask) => self.on_read_ask(from, *ask),
            PeerMessage::ReadAnswer(answer) => self.on_read_answer(now, from, *answer),
            PeerMessage::Scan(ask) => self.on_scan_ask(from, *ask),
            PeerMessage::ScanAnswer(answer) => self.on_scan_answer(now, from, *answer),
            PeerMessage::Probe { seq, facts } => {
                self.on_facts(now, from, *facts, None);
                let facts = Box::new(self.own_facts(now));
                self.send(from, PeerMessage::ProbeAck { seq, facts });
            }
            PeerMessage::ProbeAck { seq, facts } => self.on_facts(now, from, *facts, Some(seq)),
            PeerMessage::Birth(news) => self.on_birth_news(from, &news),
            PeerMessage::Register { epoch, life } => self.on_register(from, epoch, life),
            PeerMessage::Registered { boot, answer } => {
                self.on_registered(now, from, boot, &answer);
            }
            PeerMessage::StateAsk { epoch } => self.on_state_ask(from, epoch),
            PeerMessage::StateNews(state) => self.on_state_news(&state),
        }
    }

    pub(super) fn on_write_ask(&mut self, now: Now, from: NodeId, ask: WriteAsk) {
        let round = ask.round;
        if let Err(refusal) = self.judge_write(now, from, &ask) {
            return self.answer_write(from, WriteAnswer { round, result: Err(refusal) });
        }
        self.clock.observe(now.wall, ask.record.stamp);
        self.replica_operations += 1;
        if crate::mutant!("ack-before-durable") {
            let result = Ok(WriteOutcome::Stored);
            self.answer_write(from, WriteAnswer { round, result });
        }
        let WriteAsk { unit, table, key, record, .. } = ask;
        let request = DiskRequest::Write { unit, table, key, record };
        self.disk(Pending::Write { from, round }, request);
    }

    pub(super) fn on_read_ask(&mut self, from: NodeId, ask: ReadAsk) {
        let round = ask.round;
        let judged = self
            .judge(from, ask.unit, ask.changed_at)
            .and_then(|()| self.judge_load(ask.remaining));
        if let Err(refusal) = judged {
            return self.answer_read(from, ReadAnswer { round, result: Err(refusal) });
        }
        self.replica_operations += 1;
        let ReadAsk { unit, table, key, .. } = ask;
        self.disk(Pending::Read { from, round }, DiskRequest::Read { unit, table, key });
    }

    pub(super) fn on_scan_ask(&mut self, from: NodeId, ask: ScanAsk) {
        let round = ask.round;
        let epoch = self.epoch();
        let judged =
            self.judge_epoch(ask.epoch, epoch).and_then(|()| self.judge_load(ask.remaining));
        if let Err(refusal) = judged {
            return self.answer_scan(from, ScanAnswer { round, result: Err(refusal) });
        }
        let class = self.state.as_ref().and_then(|state| state.table(ask.table)).map(|t| t.class);
        let units = match class {
            Some(class) if self.units.iter().any(|unit| unit.class != class) => {
                let of_class = self.units.iter().filter(|unit| unit.class == class);
                Arc::new(of_class.copied().collect())
            }
            Some(_) => self.units.clone(),
            None => Arc::default(),
        };
        self.replica_operations += 1;
        let ScanAsk { table, prefix, after, limit, keys_only, .. } = ask;
        let request = DiskRequest::Range { units, table, prefix, after, limit, keys_only };
        self.disk(Pending::Scan { from, round }, request);
    }

    fn judge_write(&mut self, now: Now, from: NodeId, ask: &WriteAsk) -> Result<(), Refusal> {
        self.judge(from, ask.unit, ask.changed_at)?;
        self.judge_load(ask.remaining)?;
        if ask.fresh && ask.record.stamp.time > self.fresh_bound(now) {
            crate::sometimes!("replica: refuses a write too far ahead");
            let clock = self.clock.of_record(now.wall);
            return Err(Refusal::ClockAhead { clock });
        }
        Ok(())
    }

    /// The fence: who knows a later change of the unit's owners refuses, and sends the state; who
    /// has yet to learn of one asks for it first.
    fn judge(&mut self, from: NodeId, unit: Unit, theirs: Epoch) -> Result<(), Refusal> {
        if !self.is_serving() {
            return Err(Refusal::NotServing);
        }
        let Some(state) = self.state.clone() else { return Err(Refusal::NotServing) };
        let ours = state.changed_at(unit);
        if ours > theirs && from != self.me {
            self.on_state_ask(from, theirs);
        }
        self.judge_epoch(theirs, ours)?;
        if !state.owners(unit).contains(&self.me) {
            return Err(Refusal::NotOwner);
        }
        Ok(())
    }

    fn judge_epoch(&self, theirs: Epoch, ours: Epoch) -> Result<(), Refusal> {
        let epoch = self.epoch();
        if !self.is_serving() {
            return Err(Refusal::NotServing);
        }
        match theirs.cmp(&ours) {
            core::cmp::Ordering::Less => Err(Refusal::Fenced { epoch }),
            core::cmp::Ordering::Greater => Err(Refusal::Behind { epoch }),
            core::cmp::Ordering::Equal => Ok(()),
        }
    }

    fn judge_load(&self, remaining: core::time::Duration) -> Result<(), Refusal> {
        if remaining.is_zero() {
            return Err(Refusal::Expired);
        }
        if self.replica_operations >= self.config.replica_operations_max {
            crate::sometimes!("replica: overloaded");
            return Err(Refusal::Overloaded);
        }
        Ok(())
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

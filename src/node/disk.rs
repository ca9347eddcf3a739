//! What the disk is asked and answers. An acknowledgement leaves the node only from here: durable
//! before acknowledged is a dependency between data, not a rule to remember.

use std::sync::Arc;

use super::Node;
use super::causal::CausalPending;
use super::explain::Looking;
use super::fills::UnitPending;
use super::floors::FloorPending;
use super::hints::{Dropping, Keeping};
use super::peer::Admitted;
use super::repair::RepairPending;
use crate::handoff::Felt;
use crate::message::{
    ClientResult, CursorName, DecreeMessage, DiskAnswer, DiskError, DiskRequest, DiskToken, Effect,
    ErrorCode, Level, LifeRecord, MetaRecord, OpError, ReadAnswer, Refusal, Reply, RoundId,
    ScanAnswer, WriteOutcome,
};
use crate::types::{ClassId, ClusterState, Epoch, NodeId, Now, OpId, Record, WallTime};

/// What a disk request was for.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    Write(Admitted),
    /// A hint on its way to be durable.
    Hint(Keeping),
    /// A page of hints for a target, and whether it is the first.
    HintPage(NodeId, bool),
    HintRemoved(NodeId),
    HintsDropped(Dropping),
    Read(Admitted),
    /// A page of a class, and the fence it was let in under.
    Scan {
        from: NodeId,
        round: RoundId,
        class: ClassId,
        fence: Epoch,
        cursor: Option<CursorName>,
    },
    CursorsEnded,
    /// What a watch of a node has asked for.
    Changes(NodeId, u64),
    ChangesForgotten,
    /// Without which a life cannot go on, and what it is.
    Own(OwnStep, Vec<MetaRecord>),
    StatePersisted(Arc<ClusterState>),
    /// The first state of a lineage that an operator forces here.
    Forced(OpId, Arc<ClusterState>),
    LifePersisted(NodeId, LifeRecord),
    CeilingPersisted,
    Housekeeping,
    Measured,
    Explain(Box<Looking>),
    Flush(OpId),
    Compact(OpId),
    /// An answer that may be told once what it says is durable.
    DecreePersisted(NodeId, DecreeMessage),
    DecidedPersisted(Epoch),
    Swept(Epoch),
    SweptPersisted(Epoch),
    Acknowledged(Epoch),
    /// Data that are set aside.
    Aside,
    Unit(UnitPending),
    /// About trees.
    Repair(Box<RepairPending>),
    Floor(FloorPending),
    Causal(CausalPending),
    Register(Admitted),
}

/// A record of the node itself without which its life cannot go on.
#[derive(Clone, Copy, Debug)]
pub(super) enum OwnStep {
    Boot,
    Registration,
    Pledge,
}

impl Pending {
    /// Whether it may change what this replica holds of users' keys.
    fn is_write(&self) -> bool {
        match self {
            Pending::Write(_) | Pending::Hint(_) | Pending::Register(_) => true,
            Pending::Causal(pending) => pending.is_write(),
            _ => false,
        }
    }
}

impl Node {
    /// Stores records without which this life cannot go on.
    pub(super) fn persist_own(&mut self, step: OwnStep, records: Vec<MetaRecord>) {
        self.disk(Pending::Own(step, records.clone()), DiskRequest::Persist(records));
    }

    /// Tries again what the store had no room for at the moment.
    pub(super) fn persist_own_again(&mut self) {
        for (step, records) in core::mem::take(&mut self.own_again) {
            self.persist_own(step, records);
        }
    }

    pub(super) fn disk(&mut self, pending: Pending, request: DiskRequest) {
        let token = self.next_token;
        self.next_token += 1;
        self.pending.insert(token, pending);
        self.effects.push_back(Effect::Disk { token: DiskToken(token), request });
    }

    /// Whether a write of users' data, a promise or a hint that was let in before `token` was given out
    /// is still neither durable nor failed.
    pub(super) fn writes_before(&self, token: u64) -> bool {
        self.pending.range(..token).any(|(_, pending)| pending.is_write())
    }

    pub(super) fn persist_ceiling(&mut self, ceiling: WallTime) {
        let records = vec![MetaRecord::Ceiling(ceiling)];
        self.disk(Pending::CeilingPersisted, DiskRequest::Persist(records));
    }

    pub(super) fn on_disk_done(
        &mut self,
        now: Now,
        token: DiskToken,
        result: Result<DiskAnswer, DiskError>,
    ) {
        let Some(pending) = self.pending.remove(&token.0) else { return };
        let was_write = pending.is_write();
        let brings = was_write || matches!(pending, Pending::Unit(_) | Pending::Repair(_));
        self.on_disk_answer(now, pending, result);
        if was_write {
            self.acknowledge();
        }
        if brings {
            self.watches.on_applied(now.mono);
        }
    }

    fn on_disk_answer(
        &mut self,
        now: Now,
        pending: Pending,
        result: Result<DiskAnswer, DiskError>,
    ) {
        match pending {
            Pending::Aside => self.on_aside_done(now, result),
            Pending::Write(admitted) => self.on_written(now, admitted, result),
            Pending::Read(admitted) => self.on_read(now, admitted, result),
            Pending::CursorsEnded | Pending::ChangesForgotten => {}
            Pending::Changes(from, watch) => self.on_changes_read(now, (from, watch), result),
            Pending::Scan { from, round, class, fence, cursor } => {
                self.replica_operations -= 1;
                self.cursors.pages -= 1;
                if let Some(name) = cursor {
                    let goes_on = matches!(&result, Ok(DiskAnswer::Range(page)) if !page.complete);
                    // One that was read and cannot be told is still open there.
                    if self.cursors.done(name, goes_on) || result.is_err() {
                        self.end_cursors(vec![name]);
                    }
                }
                let result = match result {
                    Ok(DiskAnswer::Range(page)) => Ok((page.entries, page.complete)),
                    other => Err(self.refusal(other)),
                };
                let again = self.look_again_at_class(now, from, (class, fence));
                self.answer_scan(from, ScanAnswer { round, result: again.and(result) });
            }
            Pending::Hint(keeping) => self.on_hint_kept(now, keeping, result),
            Pending::HintPage(target, first) => self.on_hint_page(now, (target, first), result),
            Pending::HintRemoved(target) => self.on_hint_removed(now, target, &result),
            Pending::HintsDropped(order) => self.on_hints_dropped(now, order, result),
            Pending::Causal(pending) => self.on_causal_disk_done(now, pending, result),
            Pending::Register(admitted) => self.on_register_disk_done(now, admitted, result),
            Pending::Explain(looking) => self.on_explain_looked(now, *looking, result),
            Pending::Flush(op) => {
                let result = tidied(result, Reply::Flushed);
                self.effects.push_back(Effect::Reply { op, result });
            }
            Pending::Compact(op) => {
                let result = tidied(result, Reply::Compacted);
                self.effects.push_back(Effect::Reply { op, result });
            }
            Pending::Swept(epoch) => self.on_swept(epoch, result),
            Pending::Unit(pending) => self.on_unit_disk_done(now, pending, result),
            Pending::Repair(pending) => self.on_tree_disk_done(now, *pending, result),
            Pending::Floor(pending) => self.on_floor_disk_done(now, pending, result),
            Pending::Measured => {
                if let Ok(DiskAnswer::Measured(facts)) = result {
                    self.replica = facts;
                    if facts.damaged {
                        self.look_for_damage();
                    }
                }
            }
            Pending::CeilingPersisted => {
                if !self.ceiling_failed {
                    self.note_failure(&result, "the clock's ceiling");
                }
                self.ceiling_failed = result.is_err();
                self.on_ceiling_persisted(now, result.as_ref().map(|_| ()));
            }
            other => self.on_own_record(now, other, &result),
        }
        self.fills_on();
    }

    fn on_read(&mut self, now: Now, admitted: Admitted, result: Result<DiskAnswer, DiskError>) {
        self.replica_operations -= 1;
        let result = match result {
            Ok(DiskAnswer::Read(record)) => Ok(record),
            other => Err(self.refusal(other)),
        };
        let result = self.look_again(now, &admitted).and(result);
        let Admitted { from, round, unit, .. } = admitted;
        let bytes = result.as_ref().map_or(0, |read| read.as_ref().map_or(0, Record::bytes));
        self.count_copy_read(now.mono, unit, bytes);
        self.answer_read(from, ReadAnswer { round, result });
    }

    fn on_written(&mut self, now: Now, admitted: Admitted, result: Result<DiskAnswer, DiskError>) {
        self.replica_operations -= 1;
        self.governor.note(now.mono, Felt::Write, now.mono.since(admitted.since));
        let result = match result {
            Ok(DiskAnswer::Written(outcome)) => Ok(outcome),
            // Whoever brings it late may forget it; a new one is never dropped.
            Ok(DiskAnswer::Late { bound, purged: true }) if !admitted.fresh => {
                Ok(WriteOutcome::Superseded(bound))
            }
            other => Err(self.refusal(other)),
        };
        if !crate::mutant!("ack-before-durable") {
            self.answer_admitted_write(admitted, result);
        }
        self.sweep_on();
    }

    /// A record of the node itself is durable, or could not be made so: then the node stays where
    /// it was, says so, and does not pretend.
    fn on_own_record(
        &mut self,
        now: Now,
        pending: Pending,
        result: &Result<DiskAnswer, DiskError>,
    ) {
        if self.note_failure(result, "a record of the node itself") {
            return self.on_own_record_lost(now, &pending, result);
        }
        self.on_own_record_durable(now, pending);
    }

    fn on_own_record_lost(
        &mut self,
        now: Now,
        pending: &Pending,
        result: &Result<DiskAnswer, DiskError>,
    ) {
        match (pending, result) {
            // A store that has just been opened may have to flush and merge first.
            (Pending::Own(step, records), Err(DiskError::Overloaded))
                if !crate::mutant!("overloaded-store-refuses") =>
            {
                self.own_again.push((*step, records.clone()));
                let soon = now.mono.plus(self.config.retry_interval);
                self.housekeeping_at = self.housekeeping_at.min(soon);
            }
            (Pending::Own(..), _) => {
                let why = "the store cannot be written: see the log; start again when it can";
                self.refuse(why.to_owned());
                self.publish();
            }
            _ => {}
        }
        if let Pending::Acknowledged(epoch) = pending {
            self.on_acknowledged(now, *epoch, false);
        }
        if let Pending::Forced(op, _) = pending {
            self.on_not_forced(*op, result);
        }
        if matches!(pending, Pending::StatePersisted(_) | Pending::Forced(..)) {
            self.adopting = self.epoch();
            if let Some(birth) = &mut self.birth {
                birth.on_state_not_stored();
            }
        }
    }

    fn on_own_record_durable(&mut self, now: Now, pending: Pending) {
        match pending {
            Pending::Own(OwnStep::Boot, _) => self.on_boot_persisted(now),
            Pending::Own(OwnStep::Registration, _) => self.on_registration_persisted(now),
            Pending::Own(OwnStep::Pledge, _) => self.on_pledge_persisted(),
            Pending::StatePersisted(state) => self.install(now, state),
            Pending::Forced(op, state) => self.on_forced(now, op, state),
            Pending::LifePersisted(member, life) => self.on_life_persisted(member, life),
            Pending::DecreePersisted(to, answer) => {
                if !crate::mutant!("decree-answers-before-durable") {
                    self.tell_decree(now, to, answer);
                }
            }
            Pending::DecidedPersisted(epoch) => {
                self.decree.on_decided_durable(epoch);
                self.run_decree(now);
            }
            Pending::SweptPersisted(epoch) => self.on_sweep_durable(epoch),
            Pending::Acknowledged(epoch) => self.on_acknowledged(now, epoch, true),
            Pending::Write(_)
            | Pending::Hint(_)
            | Pending::HintPage(..)
            | Pending::HintRemoved(_)
            | Pending::HintsDropped(_)
            | Pending::Read(_)
            | Pending::Scan { .. }
            | Pending::CursorsEnded
            | Pending::Changes(..)
            | Pending::ChangesForgotten
            | Pending::CeilingPersisted
            | Pending::Housekeeping
            | Pending::Aside
            | Pending::Measured
            | Pending::Swept(_)
            | Pending::Unit(_)
            | Pending::Repair(_)
            | Pending::Floor(_)
            | Pending::Causal(_)
            | Pending::Register(_)
            | Pending::Explain(_)
            | Pending::Flush(_)
            | Pending::Compact(_) => {}
        }
    }

    pub(super) fn note_failure(
        &mut self,
        result: &Result<DiskAnswer, DiskError>,
        what: &str,
    ) -> bool {
        if let Err(error) = result {
            self.note(Level::Error, None, format!("could not store {what}: {error}"));
        }
        result.is_err()
    }

    pub(super) fn refusal(&mut self, result: Result<DiskAnswer, DiskError>) -> Refusal {
        match result {
            Err(DiskError::ReadOnly(_)) => Refusal::ReadOnly,
            Err(DiskError::Full) => Refusal::DiskFull,
            Err(DiskError::TakenBack) => Refusal::TakenBack,
            Err(DiskError::Overloaded) => Refusal::Overloaded,
            Err(DiskError::Expired) => Refusal::Expired,
            Err(DiskError::Corruption(what)) => {
                crate::sometimes!("replica: reports corruption");
                self.look_for_damage();
                self.note(Level::Error, None, format!("corruption: {what}"));
                Refusal::Storage(format!("corruption: {what}"))
            }
            Err(DiskError::Io(what)) => Refusal::Storage(what),
            Ok(DiskAnswer::Late { bound, .. }) => Refusal::Late { bound },
            Ok(other) => Refusal::Storage(format!("the disk gave another answer: {other:?}")),
        }
    }
}

fn tidied(result: Result<DiskAnswer, DiskError>, reply: Reply) -> ClientResult {
    match result {
        Ok(_) => Ok(reply),
        Err(error) => Err(failed(&error)),
    }
}

/// What an operator is told when the disk could not.
pub(super) fn failed(error: &DiskError) -> OpError {
    let code = match error {
        DiskError::ReadOnly(_) => ErrorCode::StorageReadOnly,
        DiskError::Full | DiskError::TakenBack => ErrorCode::DiskFull,
        DiskError::Overloaded => ErrorCode::Overloaded,
        DiskError::Expired => ErrorCode::DeadlineExceeded,
        DiskError::Corruption(_) => ErrorCode::Corruption,
        DiskError::Io(_) => ErrorCode::Internal,
    };
    OpError::new(code, error.to_string())
}

//! What this node knows of one key, for `kvctl explain`: its own copy, then what it keeps of the key
//! for each owner, one look at the disk after the other. It asks no other node: whoever asks puts the
//! answers of all of them side by side, also when this node can reach none.

use super::Node;
use super::client::{table, unit_of};
use super::disk::{Pending, failed};
use crate::causality::Accepted;
use crate::message::{
    CausalDisk, CausalDone, CausalTask, DiskAnswer, DiskError, DiskRequest, Effect, ErrorCode,
    ExplainReply, KeptVersion, Locate, OpError, OwnCopy, RegisterDisk, RegisterFacts, RegisterSaid,
    RegisterTask, Reply, SiblingFacts, VersionFacts,
};
use crate::types::{Key, NodeId, Now, OpId, Record, Stamp, TableId, TableKind, Time};

/// How many may be in the making at once: each holds little, but reads the disk at length.
const EXPLAINED_AT_ONCE: usize = 16;

/// An answer in the making.
#[derive(Clone, Debug)]
pub(super) struct Explaining {
    op: OpId,
    deadline: Time,
    table: TableId,
    key: Key,
    /// Owners whose hints have yet to be looked for, the next one last.
    left: Vec<NodeId>,
    looking_for: Part,
    reply: ExplainReply,
}

/// What is being looked for.
#[derive(Clone, Copy, Debug)]
enum Part {
    Copy,
    /// The ballot a register has promised itself to.
    Promise,
    /// What is kept for this owner.
    Hint(NodeId),
}

impl Node {
    /// Begins an answer.
    ///
    /// # Errors
    /// There is no such table, no state yet, or too many are in the making.
    pub(super) fn begin_explain(
        &mut self,
        now: Now,
        (op, deadline): (OpId, Time),
        locate: Locate,
    ) -> Result<(), OpError> {
        let making = |pending: &&Pending| matches!(pending, Pending::Explain(_));
        let making = self.pending.values().filter(making).count();
        if making >= EXPLAINED_AT_ONCE {
            let message = "too many keys are being explained on this node";
            let limit = EXPLAINED_AT_ONCE;
            return Err(OpError::new(ErrorCode::Overloaded, message).with_limit(limit, making));
        }
        let state = self.known_state()?;
        let table = table(state, &locate.table)?;
        let unit = unit_of(state, table, &locate.key);
        let owners = state.owners(unit);
        let name = |id: &NodeId| state.member(*id).map(|member| member.name.clone());
        let is_owner = owners.contains(&self.me);
        // Hints are kept of tables with one version a key only.
        let mut left: Vec<NodeId> = match table.kind {
            TableKind::Lww => owners.iter().copied().filter(|id| *id != self.me).collect(),
            TableKind::Causal | TableKind::Linearizable => Vec::new(),
        };
        left.reverse();
        let copy = if is_owner { OwnCopy::Version(None) } else { OwnCopy::NotOwner };
        let reply = ExplainReply {
            me: self.config.name.clone(),
            epoch: state.epoch,
            unit,
            changed_at: state.changed_at(unit),
            kind: table.kind,
            owners: owners.iter().filter_map(name).collect(),
            reachable: self.reachable(owners),
            wall: now.wall,
            copy,
            hints: Vec::new(),
        };
        let (table, key) = (table.id, locate.key);
        let looking_for = Part::Copy;
        let making = Explaining { op, deadline, table, key, left, looking_for, reply };
        if is_owner {
            self.look_at_own_copy(making);
        } else {
            self.look_for_hints(now, making);
        }
        Ok(())
    }

    fn look_at_own_copy(&mut self, making: Explaining) {
        let (unit, table, key) = (making.reply.unit, making.table, making.key.clone());
        let request = match making.reply.kind {
            TableKind::Lww => DiskRequest::Read { unit, table, key, durable: false },
            TableKind::Causal => {
                let task = CausalTask::Read;
                DiskRequest::Causal(Box::new(CausalDisk { unit, table, key, task }))
            }
            TableKind::Linearizable => {
                let task = RegisterTask::Look;
                DiskRequest::Register(Box::new(RegisterDisk { unit, table, key, task }))
            }
        };
        self.disk(Pending::Explain(Box::new(making)), request);
    }

    /// An acceptor that is asked to promise itself to no ballot does nothing, and names the one it has
    /// promised itself to.
    fn look_at_promise(&mut self, mut making: Explaining) {
        making.looking_for = Part::Promise;
        let (unit, table, key) = (making.reply.unit, making.table, making.key.clone());
        let task = RegisterTask::Prepare(Stamp::ZERO);
        let ask = RegisterDisk { unit, table, key, task };
        self.disk(Pending::Explain(Box::new(making)), DiskRequest::Register(Box::new(ask)));
    }

    fn look_for_hints(&mut self, now: Now, mut making: Explaining) {
        let op = making.op;
        if now.mono >= making.deadline {
            let message = "deadline passed before all of it was looked up";
            let result = Err(OpError::new(ErrorCode::DeadlineExceeded, message));
            return self.effects.push_back(Effect::Reply { op, result });
        }
        let Some(owner) = making.left.pop() else {
            let result = Ok(Reply::Explain(Box::new(making.reply)));
            return self.effects.push_back(Effect::Reply { op, result });
        };
        making.looking_for = Part::Hint(owner);
        let request = DiskRequest::ReadHint {
            targets: vec![owner],
            unit: making.reply.unit,
            table: making.table,
            key: making.key.clone(),
        };
        self.disk(Pending::Explain(Box::new(making)), request);
    }

    /// The disk has answered: one look less. What it could not read of this node's own copy is told,
    /// and does not keep the rest back; a look for hints that fails makes the answer fail, since a
    /// hint that was not seen would be taken for none.
    pub(super) fn on_explain_looked(
        &mut self,
        now: Now,
        mut making: Explaining,
        result: Result<DiskAnswer, DiskError>,
    ) {
        match (making.looking_for, result) {
            (Part::Copy, Ok(DiskAnswer::Read(record))) => {
                making.reply.copy = OwnCopy::Version(record.as_ref().map(facts));
            }
            (Part::Copy, Ok(DiskAnswer::Register(RegisterSaid::Looked(shown)))) => {
                making.reply.copy = OwnCopy::Register(register(shown.as_ref()));
                return self.look_at_promise(making);
            }
            (Part::Promise, Ok(DiskAnswer::Register(said))) => {
                if let (RegisterSaid::Outbid(promised), OwnCopy::Register(facts)) =
                    (said, &mut making.reply.copy)
                {
                    facts.promised = promised;
                }
            }
            (Part::Copy, Ok(DiskAnswer::Causal(CausalDone::Read(set)))) => {
                let facts = set.writes().map(|(dot, write)| SiblingFacts {
                    dot,
                    bytes: bytes(write.payload.len()),
                    expiry: write.expiry,
                });
                making.reply.copy = OwnCopy::Siblings(facts.collect());
            }
            (Part::Copy | Part::Promise, Err(error)) => {
                making.reply.copy = OwnCopy::Untold(error.to_string());
            }
            (Part::Hint(owner), Ok(DiskAnswer::Read(record))) => {
                let state = self.state.as_ref();
                let member = state.and_then(|state| state.member(owner));
                if let (Some(record), Some(member)) = (record, member) {
                    let version = facts(&record);
                    let target = member.name.clone();
                    making.reply.hints.push(KeptVersion { target, version });
                }
            }
            (Part::Hint(_), Err(error)) => {
                let result = Err(failed(&error));
                return self.effects.push_back(Effect::Reply { op: making.op, result });
            }
            (_, Ok(other)) => {
                let message = format!("the disk gave another answer: {other:?}");
                let result = Err(OpError::new(ErrorCode::Internal, message));
                return self.effects.push_back(Effect::Reply { op: making.op, result });
            }
        }
        self.look_for_hints(now, making);
    }
}

fn register(shown: Option<&Accepted>) -> RegisterFacts {
    let Some(Accepted { ballot, state }) = shown else { return RegisterFacts::default() };
    let version = VersionFacts {
        stamp: state.stamp,
        bytes: state.value.as_ref().map_or(0, |value| bytes(value.as_bytes().len())),
        tombstone: state.value.is_none(),
        expiry: state.expiry,
    };
    // What was accepted is never above what was promised.
    RegisterFacts { promised: *ballot, accepted: *ballot, version: Some(version) }
}

fn facts(record: &Record) -> VersionFacts {
    VersionFacts {
        stamp: record.stamp,
        bytes: record.value.as_ref().map_or(0, |value| bytes(value.as_bytes().len())),
        tombstone: record.value.is_none(),
        expiry: record.expiry,
    }
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

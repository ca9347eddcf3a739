//! What is known of one key, for an operator who wonders why replicas differ. The node that is asked
//! asks every member that may know something (`gather`), itself among them, and says what it comes to
//! (`verdict`). This file is what a member looks up when it is asked: its own copy, and what it keeps
//! for the key's other owners. It changes nothing, counts towards no quorum and repairs nothing.

mod gather;
mod verdict;

use super::Node;
use super::client::unit_of;
use super::disk::Pending;
use crate::causality::{Accepted, SiblingSet};
use crate::message::{
    CausalDisk, CausalDone, CausalTask, DiskAnswer, DiskError, DiskRequest, ExplainMessage,
    KeptVersion, KeyFacts, OwnCopy, PeerMessage, RegisterDisk, RegisterFacts, RegisterSaid,
    RegisterTask, RoundId, SiblingFacts, VersionFacts,
};
use crate::types::{
    ClusterState, Epoch, Key, NodeId, Now, Record, Stamp, Table, TableId, TableKind, Time, Unit,
    limits,
};

pub(super) use gather::Gatherings;

/// Looks in the making at once, this node's own and those of other nodes.
const LOOKS_MAX: usize = 64;

/// Who is told what a look has found.
#[derive(Clone, Copy, Debug)]
enum Asker {
    /// What this node gathers under this number.
    Own(u64),
    /// Another node.
    Peer(NodeId, RoundId),
}

/// A look in the making.
#[derive(Clone, Debug)]
pub(super) struct Looking {
    asker: Asker,
    deadline: Time,
    unit: Unit,
    kind: TableKind,
    table: TableId,
    key: Key,
    /// Owners whose hints have yet to be looked for, the next one last.
    left: Vec<NodeId>,
    looking_for: Part,
    facts: KeyFacts,
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

/// Whether members keep hints of tables of this kind.
fn has_hints(kind: TableKind) -> bool {
    match kind {
        TableKind::Lww | TableKind::Causal => true,
        TableKind::Linearizable => false,
    }
}

impl Node {
    pub(super) fn on_explain(&mut self, now: Now, from: NodeId, message: ExplainMessage) {
        match message {
            ExplainMessage::Ask { round, table, key, remaining } => {
                let asker = Asker::Peer(from, round);
                let until = now.mono.plus(remaining);
                if let Err(why) = self.look_for_peer(now, (asker, until), table, key) {
                    self.tell_facts(now, asker, Err(why));
                }
            }
            ExplainMessage::Answer { round, result } => self.on_told(round.op, from, now, result),
        }
    }

    /// As of the epoch this node knows itself.
    fn look_for_peer(
        &mut self,
        now: Now,
        asker: (Asker, Time),
        table: TableId,
        key: Key,
    ) -> Result<(), String> {
        let state = self.serving_state().map_err(|error| error.message)?;
        let known = state.table(table);
        let Some(table) = known else {
            return Err(format!("it knows of no such table: its epoch is {}", state.epoch));
        };
        self.begin_look(now, asker, (&state, table), key)
    }

    /// Looks up what this node knows of a key; an error when there are too many looks already.
    fn begin_look(
        &mut self,
        now: Now,
        (asker, deadline): (Asker, Time),
        (state, table): (&ClusterState, &Table),
        key: Key,
    ) -> Result<(), String> {
        let looks = |pending: &&Pending| matches!(pending, Pending::Explain(_));
        if self.pending.values().filter(looks).count() >= LOOKS_MAX {
            return Err(format!("it has {LOOKS_MAX} keys to look up already"));
        }
        let unit = unit_of(state, table, &key);
        let owners = state.owners(unit);
        let is_owner = owners.contains(&self.me);
        let mut left = Vec::new();
        if has_hints(table.kind) {
            left.extend(owners.iter().copied().filter(|id| *id != self.me));
            left.reverse();
        }
        let copy = if is_owner { OwnCopy::Version(None) } else { OwnCopy::NotOwner };
        let facts = KeyFacts { epoch: state.epoch, copy, hints: Vec::new() };
        let (kind, table, looking_for) = (table.kind, table.id, Part::Copy);
        let looking = Looking { asker, deadline, unit, kind, table, key, left, looking_for, facts };
        if is_owner {
            self.look_at_own_copy(looking);
        } else {
            self.look_for_hints(now, looking);
        }
        Ok(())
    }

    fn look_at_own_copy(&mut self, looking: Looking) {
        let (unit, table, key) = (looking.unit, looking.table, looking.key.clone());
        let request = match looking.kind {
            TableKind::Lww => DiskRequest::Read { unit, table, key, durable: false },
            TableKind::Causal => {
                let task = CausalTask::Read;
                DiskRequest::Causal(Box::new(CausalDisk { unit, table, key, task }))
            }
            TableKind::Linearizable => {
                DiskRequest::Register(Box::new(asking(RegisterTask::Look, (unit, table, key))))
            }
        };
        self.disk(Pending::Explain(Box::new(looking)), request);
    }

    /// An acceptor that is asked to promise itself to no ballot does nothing, and names the one it has
    /// promised itself to.
    fn look_at_promise(&mut self, mut looking: Looking) {
        looking.looking_for = Part::Promise;
        let (unit, table, key) = (looking.unit, looking.table, looking.key.clone());
        let ask = asking(RegisterTask::Prepare(Stamp::ZERO), (unit, table, key));
        self.disk(Pending::Explain(Box::new(looking)), DiskRequest::Register(Box::new(ask)));
    }

    fn look_for_hints(&mut self, now: Now, mut looking: Looking) {
        let asker = looking.asker;
        if now.mono >= looking.deadline {
            let why = "its time was up before all of it was looked up".to_owned();
            return self.tell_facts(now, asker, Err(why));
        }
        let Some(owner) = looking.left.pop() else {
            return self.tell_facts(now, asker, Ok(looking.facts));
        };
        looking.looking_for = Part::Hint(owner);
        let (unit, table, key) = (looking.unit, looking.table, looking.key.clone());
        let targets = vec![owner];
        let request = match looking.kind {
            TableKind::Causal => {
                let task = CausalTask::ReadKept(targets);
                DiskRequest::Causal(Box::new(CausalDisk { unit, table, key, task }))
            }
            TableKind::Lww | TableKind::Linearizable => {
                DiskRequest::ReadHint { targets, unit, table, key }
            }
        };
        self.disk(Pending::Explain(Box::new(looking)), request);
    }

    /// The disk has answered: one look less. What it could not read of this node's own copy is told,
    /// and does not keep the rest back; when it cannot look for a hint nothing is told, since a hint
    /// that was not seen would be taken for none.
    pub(super) fn on_explain_looked(
        &mut self,
        now: Now,
        mut looking: Looking,
        result: Result<DiskAnswer, DiskError>,
    ) {
        match (looking.looking_for, result) {
            (Part::Copy, Ok(DiskAnswer::Read(record))) => {
                looking.facts.copy = OwnCopy::Version(record.as_ref().map(facts));
            }
            (Part::Copy, Ok(DiskAnswer::Register(RegisterSaid::Looked(shown)))) => {
                looking.facts.copy = OwnCopy::Register(register(shown.as_ref()));
                return self.look_at_promise(looking);
            }
            (Part::Promise, Ok(DiskAnswer::Register(said))) => {
                if let (RegisterSaid::Outbid(promised), OwnCopy::Register(facts)) =
                    (said, &mut looking.facts.copy)
                {
                    facts.promised = promised;
                }
            }
            (Part::Copy, Ok(DiskAnswer::Causal(CausalDone::Read(set)))) => {
                let facts = set.writes().take(limits::EXPLAIN_SIBLINGS_MAX);
                let facts = facts.map(|(dot, write)| SiblingFacts {
                    dot,
                    bytes: bytes(write.payload.len()),
                    expiry: write.expiry,
                });
                looking.facts.copy = OwnCopy::Siblings(facts.collect());
            }
            (Part::Copy | Part::Promise, Err(error)) => {
                looking.facts.copy = OwnCopy::Untold(bounded(error.to_string()));
            }
            (Part::Hint(target), Ok(DiskAnswer::Read(record))) => {
                let kept = record.map(|record| KeptVersion { target, version: facts(&record) });
                looking.facts.hints.extend(kept);
            }
            (Part::Hint(target), Ok(DiskAnswer::Causal(CausalDone::Read(set)))) => {
                let kept = facts_of_set(&set).map(|version| KeptVersion { target, version });
                looking.facts.hints.extend(kept);
            }
            (Part::Hint(_), Err(error)) => {
                let why = format!("it could not look for hints: {error}");
                return self.tell_facts(now, looking.asker, Err(why));
            }
            (_, Ok(other)) => {
                let why = format!("its disk gave another answer: {other:?}");
                return self.tell_facts(now, looking.asker, Err(why));
            }
        }
        self.look_for_hints(now, looking);
    }

    fn tell_facts(&mut self, now: Now, asker: Asker, result: Result<KeyFacts, String>) {
        let result = result.map_err(bounded);
        match asker {
            Asker::Own(id) => self.on_told(id, self.me, now, result),
            Asker::Peer(to, round) => {
                let answer = ExplainMessage::Answer { round, result };
                self.send(to, PeerMessage::Explain(Box::new(answer)));
            }
        }
    }
}

/// A question that has nothing accepted, and so needs no fence.
fn asking(task: RegisterTask, (unit, table, key): (Unit, TableId, Key)) -> RegisterDisk {
    RegisterDisk { unit, table, key, fence: Epoch(0), task }
}

fn register(shown: Option<&Accepted>) -> RegisterFacts {
    let Some(Accepted { ballot, state, .. }) = shown else { return RegisterFacts::default() };
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

/// A set that is kept for an owner, as one version: that of the last write it knows of, with the bytes
/// of all its siblings. `None` if it knows of none.
fn facts_of_set(set: &SiblingSet) -> Option<VersionFacts> {
    let last = set.context().last()?;
    let stamp = Stamp { time: last.tick.time, counter: last.tick.counter, node: last.actor.node };
    let kept = set.writes().map(|(_, write)| bytes(write.payload.len())).sum();
    Some(VersionFacts { stamp, bytes: kept, tombstone: set.writes().len() == 0, expiry: None })
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A reason, cut where other nodes would not take it.
fn bounded(mut why: String) -> String {
    let most = why.len().min(limits::EXPLAIN_WHY_BYTES_MAX);
    let end = (0..=most).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
    why.truncate(end);
    why
}

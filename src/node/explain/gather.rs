//! What members know of a key, gathered by the node that was asked: each is asked once, and what has
//! not come in time is said to be missing.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::super::Node;
use super::super::client::{table, unit_of};
use super::verdict::{self, Replica};
use super::{Asker, bounded, has_hints};
use crate::message::{
    Effect, ErrorCode, ExplainMessage, ExplainReply, HintFacts, KeyFacts, Liveness, Locate,
    OpError, OwnCopy, OwnerReply, PeerMessage, Reply, RoundId,
};
use crate::types::{ClusterState, Epoch, NodeId, NodeName, Now, OpId, TableKind, Time, Unit};

/// Keys that one node explains at once.
const EXPLAINED_AT_ONCE: usize = 16;
/// A member that does not answer is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Keys that are being explained here, by their numbers in rounds.
#[derive(Debug, Default)]
pub(in crate::node) struct Gatherings(BTreeMap<u64, Gathering>);

/// A key, what has been heard of it, and who has yet to be heard.
#[derive(Debug)]
struct Gathering {
    op: OpId,
    begun: Time,
    /// When it is answered with what there is.
    until: Time,
    unit: Unit,
    kind: TableKind,
    open: BTreeSet<NodeId>,
    told: BTreeMap<NodeId, Result<KeyFacts, String>>,
}

impl Gatherings {
    pub(in crate::node) fn next_deadline(&self) -> Option<Time> {
        self.0.values().map(|gathering| gathering.until).min()
    }
}

impl Node {
    /// Asks members what they know of a key; the answer follows.
    ///
    /// # Errors
    /// There is no such table, this node does not serve, or it explains too many keys already.
    pub(in crate::node) fn begin_explain(
        &mut self,
        now: Now,
        (op, deadline): (OpId, Time),
        locate: Locate,
    ) -> Result<(), OpError> {
        let making = self.explains.0.len();
        if making >= EXPLAINED_AT_ONCE {
            let message = "too many keys are being explained on this node";
            let limit = EXPLAINED_AT_ONCE;
            return Err(OpError::new(ErrorCode::Overloaded, message).with_limit(limit, making));
        }
        let state = self.serving_state()?;
        let table = table(&state, &locate.table)?;
        let unit = unit_of(&state, table, &locate.key);
        let members: Vec<NodeId> = if has_hints(table.kind) {
            state.members.iter().map(|member| member.id).collect()
        } else {
            state.owners(unit).to_vec()
        };
        // Clients give an attempt up after half of their time, while there are others to ask.
        let remaining = (deadline.since(now.mono) / 5 * 2).min(PATIENCE);
        let (begun, until, kind) = (now.mono, now.mono.plus(remaining), table.kind);
        let (open, told) = (members.iter().copied().collect(), BTreeMap::new());
        let id = self.next_operation;
        self.next_operation += 1;
        self.explains.0.insert(id, Gathering { op, begun, until, unit, kind, open, told });
        for member in members {
            if member == self.me {
                let asker = (Asker::Own(id), until);
                let key = locate.key.clone();
                if let Err(why) = self.begin_look(now, asker, (&state, table), key) {
                    self.on_told(id, member, now, Err(why));
                }
            } else if self.members.is_reachable(member) {
                let (round, table, key) = (RoundId { op: id, round: 1 }, table.id, &locate.key);
                let key = key.clone();
                let ask = ExplainMessage::Ask { round, table, key, remaining };
                self.send(member, PeerMessage::Explain(Box::new(ask)));
            } else {
                let why = "it cannot be reached from the node that was asked".to_owned();
                self.on_told(id, member, now, Err(why));
            }
        }
        Ok(())
    }

    /// A member has told what it knows, or will not. The first word of each counts.
    pub(super) fn on_told(
        &mut self,
        id: u64,
        member: NodeId,
        now: Now,
        result: Result<KeyFacts, String>,
    ) {
        let Some(gathering) = self.explains.0.get_mut(&id) else { return };
        if gathering.open.remove(&member) {
            gathering.told.insert(member, result);
        }
        if gathering.open.is_empty() {
            self.finish_explain(now, id);
        }
    }

    /// Those that wait for a member that cannot be reached any more wait no longer.
    pub(in crate::node) fn explain_lost(&mut self, now: Now, peer: NodeId) {
        let waits = |(_, gathering): &(&u64, &Gathering)| gathering.open.contains(&peer);
        let ids: Vec<u64> = self.explains.0.iter().filter(waits).map(|(id, _)| *id).collect();
        for id in ids {
            let why = "its link broke before it answered".to_owned();
            self.on_told(id, peer, now, Err(why));
        }
    }

    /// Time is up for some.
    pub(in crate::node) fn on_explain_time(&mut self, now: Now) {
        let due = |(_, gathering): &(&u64, &Gathering)| gathering.until <= now.mono;
        let ids: Vec<u64> = self.explains.0.iter().filter(due).map(|(id, _)| *id).collect();
        for id in ids {
            self.finish_explain(now, id);
        }
    }

    /// Nobody waits for it any more.
    pub(in crate::node) fn abandon_explain(&mut self, op: OpId) {
        self.explains.0.retain(|_, gathering| gathering.op != op);
    }

    /// Ends all of them: the node must not run as itself.
    pub(in crate::node) fn fail_explains(&mut self, error: &OpError) {
        for (_, Gathering { op, .. }) in core::mem::take(&mut self.explains.0) {
            self.effects.push_back(Effect::Reply { op, result: Err(error.clone()) });
        }
    }

    fn finish_explain(&mut self, now: Now, id: u64) {
        let Some(mut gathering) = self.explains.0.remove(&id) else { return };
        let op = gathering.op;
        let waited = now.mono.since(gathering.begun).as_millis();
        for member in core::mem::take(&mut gathering.open) {
            gathering.told.insert(member, Err(format!("it did not answer within {waited} ms")));
        }
        let result = match self.serving_state() {
            Ok(state) => Ok(Reply::Explain(Box::new(self.picture(now, &state, &gathering)))),
            Err(error) => Err(error),
        };
        self.effects.push_back(Effect::Reply { op, result });
    }

    fn picture(&self, now: Now, state: &ClusterState, gathering: &Gathering) -> ExplainReply {
        let Gathering { unit, kind, told, .. } = gathering;
        let name = |id: NodeId| {
            let member = state.member(id);
            member.map_or_else(|| self.config.name.clone(), |member| member.name.clone())
        };
        let owners = state.owners(*unit);
        let replicas: Vec<Replica> =
            owners.iter().map(|owner| self.replica(*owner, told, &name)).collect();
        let verdicts = verdict::judge(&replicas, now.wall);
        let agree = verdict::agree(&verdicts);
        let mut in_all = verdict::in_all(&verdicts).to_owned();
        let newest_epoch = told.values().flatten().map(|facts| facts.epoch).max();
        if let Some(epoch) = newest_epoch.filter(|epoch| *epoch > state.epoch) {
            in_all.push_str(&format!("; epoch {epoch} is known elsewhere, and not here yet"));
        }
        let newest = verdict::newest(&replicas).map(|version| version.stamp);
        let owner = |((id, replica), verdict): ((&NodeId, Replica), _)| OwnerReply {
            node: name(*id),
            liveness: replica.liveness,
            durable: durable(&replica.copy),
            copy: replica.copy,
            hints: replica.hints,
            verdict,
        };
        let silent = told.iter().filter_map(|(id, result)| {
            let why = result.as_ref().err()?;
            Some((name(*id), why.clone()))
        });
        ExplainReply {
            me: self.config.name.clone(),
            epoch: state.epoch,
            unit: *unit,
            changed_at: state.changed_at(*unit),
            kind: *kind,
            newest,
            agree,
            in_all,
            owners: owners.iter().zip(replicas).zip(verdicts).map(owner).collect(),
            silent: silent.collect(),
        }
    }

    fn replica(
        &self,
        owner: NodeId,
        told: &BTreeMap<NodeId, Result<KeyFacts, String>>,
        name: &impl Fn(NodeId) -> NodeName,
    ) -> Replica {
        let liveness = match self.members.facts(owner) {
            Some(facts) if owner != self.me => facts.liveness,
            _ => Liveness::Alive,
        };
        let behind = |epoch: Epoch| {
            bounded(format!("it does not know yet that it owns the key: its epoch is {epoch}"))
        };
        let copy = match told.get(&owner) {
            Some(Ok(facts)) if facts.copy == OwnCopy::NotOwner => Err(behind(facts.epoch)),
            Some(Ok(facts)) => Ok(facts.copy.clone()),
            Some(Err(why)) => Err(why.clone()),
            None => Err("it was not asked: it owns the key as of a newer epoch".to_owned()),
        };
        let kept = |(holder, result): (&NodeId, &Result<KeyFacts, String>)| {
            let hints = result.iter().flat_map(|facts| &facts.hints);
            let hints = hints.filter(|kept| kept.target == owner);
            let hint = |version| HintFacts { holder: name(*holder), version };
            hints.map(|kept| hint(kept.version)).collect::<Vec<_>>()
        };
        Replica { liveness, copy, hints: told.iter().flat_map(kept).collect() }
    }
}

/// Whether what was told is on the owner's disk for good. An acceptor tells only what is; of other
/// copies it is not known: a read shows what the disk may not hold yet.
fn durable(copy: &Result<OwnCopy, String>) -> Option<bool> {
    match copy {
        Ok(OwnCopy::Register(_)) => Some(true),
        Ok(OwnCopy::NotOwner | OwnCopy::Untold(_) | OwnCopy::Version(_) | OwnCopy::Siblings(_))
        | Err(_) => None,
    }
}

//! Histories that were forced: an operator begins one at this node, or another node tells of one. The
//! rules are `control::lineage`'s, the page is `docs/protocol/decree.md`.

use std::sync::Arc;

use super::Node;
use super::disk::Pending;
use crate::control::{self, Seen};
use crate::message::{
    DiskAnswer, DiskError, DiskRequest, Effect, ErrorCode, ForceOrder, Level, LineageReply,
    Liveness, MetaRecord, OpError, PeerMessage, Phase, Reply,
};
use crate::types::{ClusterState, Epoch, NodeId, NodeName, Now, OpId};

/// What this node has heard of the others.
struct Heard<'a>(&'a Node);

impl Seen for Heard<'_> {
    fn is_down(&self, member: NodeId) -> bool {
        let known = self.0.members.facts(member);
        known.is_some_and(|known| known.liveness == Liveness::Down)
    }

    fn epoch(&self, member: NodeId) -> Epoch {
        self.0.members.epoch(member)
    }
}

impl Node {
    /// An operator begins a new lineage here. A node that cannot serve for want of a council can, too.
    pub(super) fn on_force(&mut self, op: OpId, order: ForceOrder) {
        let state = match self.judge_force(&order) {
            Ok(Some(state)) => state,
            Ok(None) => return self.on_forced_already(op),
            Err(error) => return self.effects.push_back(Effect::Reply { op, result: Err(error) }),
        };
        crate::sometimes!("lineage: is forced");
        let names: Vec<&str> = order.gone.iter().map(NodeName::as_str).collect();
        let text = format!(
            "an operator forces lineage {} here, without {}: epoch {} is made of epoch {}",
            state.lineage,
            names.join(", "),
            state.epoch,
            self.epoch()
        );
        self.note(Level::Warn, None, text);
        let state = Arc::new(state);
        self.adopting = state.epoch;
        let records = vec![MetaRecord::State(state.clone())];
        self.disk(Pending::Forced(op, state), DiskRequest::Persist(records));
    }

    /// The state to begin with; `None` when this very order has been carried out.
    fn judge_force(&mut self, order: &ForceOrder) -> Result<Option<ClusterState>, OpError> {
        if !matches!(self.phase, Phase::Serving | Phase::Registering(_)) {
            let text = format!("this node cannot go on in a new lineage: {:?}", self.phase);
            return Err(OpError::new(ErrorCode::NotReady, text));
        }
        let nonce = self.causal.rng.u128(1..);
        let state = self.known_state()?;
        if order.cluster != state.settings.name {
            let name = &state.settings.name;
            let text = format!("this is cluster {name:?}, not {:?}", order.cluster);
            return Err(OpError::new(ErrorCode::RequestMalformed, text));
        }
        if order.gone.is_empty() {
            let text = "gone names nobody: without a loss there is nothing to be forced";
            return Err(OpError::new(ErrorCode::RequestMalformed, text));
        }
        let is_gone = |name: &NodeName| {
            let member = state.member_named(name);
            member.is_some_and(|member| state.is_gone(member.id, member.birth))
        };
        if state.origin() != 0 && order.gone.iter().all(is_gone) {
            return Ok(None);
        }
        if self.adopting > state.epoch {
            let text = "a newer state is on its way to the disk: try again";
            return Err(OpError::new(ErrorCode::Overloaded, text));
        }
        control::force(state, self.me, &order.gone, nonce, &Heard(self)).map(Some)
    }

    fn on_forced_already(&mut self, op: OpId) {
        let result = self.known_state().map(|state| self.lineage_reply(state));
        let result = result.map(|reply| Reply::Forced(Box::new(reply)));
        self.effects.push_back(Effect::Reply { op, result });
    }

    /// The first state of a new lineage is durable.
    pub(super) fn on_forced(&mut self, now: Now, op: OpId, state: Arc<ClusterState>) {
        self.install(now, state);
        self.tell_lineage();
        self.on_forced_already(op);
    }

    pub(super) fn on_not_forced(&mut self, op: OpId, result: &Result<DiskAnswer, DiskError>) {
        if let Err(error) = result {
            let result = Err(super::disk::failed(error));
            self.effects.push_back(Effect::Reply { op, result });
        }
    }

    /// Who can be reached need not wait until it is refused for its lineage.
    fn tell_lineage(&mut self) {
        let Some(state) = self.state.clone() else { return };
        let others: Vec<NodeId> = self.members.ids().collect();
        for id in others {
            self.send(id, PeerMessage::StateNews(state.clone()));
        }
    }

    pub(super) fn lineage_reply(&self, state: &ClusterState) -> LineageReply {
        let name = |id: &NodeId| state.member(*id).map(|member| member.name.clone());
        LineageReply {
            lineage: state.lineage,
            epoch: state.epoch,
            council: state.council.iter().filter_map(name).collect(),
        }
    }

    /// Another node has a later history of this cluster: this one goes on with it, if it comes from its own.
    pub(super) fn on_later_lineage(&mut self, state: &Arc<ClusterState>) {
        let Some(own) = self.state.clone().filter(|_| !self.is_refused()) else { return };
        match control::may_follow(&own, state) {
            Ok(()) if state.epoch <= self.adopting => {}
            Ok(()) => {
                crate::sometimes!("lineage: is followed");
                let text = format!(
                    "goes on in lineage {}, which an operator has forced: epoch {} after epoch {}",
                    state.lineage, state.epoch, own.epoch
                );
                self.note(Level::Warn, None, text);
                self.adopt(state.clone());
            }
            Err(why) => self.note(Level::Error, None, format!("cannot go on with others: {why}")),
        }
    }
}

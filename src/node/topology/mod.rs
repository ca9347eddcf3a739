//! Members, plans and moves: acknowledges epochs, proposes the steps that may be made, keeps the
//! council seated, and answers operators. What may be done when is `control`'s:
//! `docs/protocol/moves.md`.

mod answer;
mod outage;

use core::time::Duration;
use std::collections::BTreeMap;

use super::Node;
use super::disk::Pending;
use crate::control::{self, Change, Heard, Step};
use crate::message::{
    AdminRequest, Applicant, CustodyNews, DiskRequest, Effect, FillNews, FillState, Level,
    Liveness, MemberChange, MetaRecord, OpError, PlanChange, Reply, TopologyRequest,
};
use crate::types::{Addresses, ClusterState, Epoch, NodeId, Now, OpId, RequestId, Time, Unit};

/// A member that is down, or does not serve, for so long is waited for no more: its council seat is given
/// to another, and a plan is rolled back without it.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// Who is not first in turn waits so long for each who is, after the last epoch.
const TURN: Duration = Duration::from_secs(2);
/// Units that have been given up and are named in the log, of those of one state.
const LOSSES_NOTED: usize = 64;
/// Operations of this node's own, far above those that a driver numbers.
const OWN: u64 = 1 << 63;

/// What a node does for the topology by itself.
#[derive(Debug)]
pub(super) struct Topology {
    /// The highest epoch acknowledged, durably.
    acknowledged: Epoch,
    /// One that will be acknowledged, and the first disk request after its installation: those before
    /// it may still be writes that an earlier epoch let in.
    due: Option<(Epoch, u64)>,
    /// The acknowledgement that is being made durable.
    persisting: Option<Epoch>,
    /// The change of its own that waits to be decided.
    own: Option<OpId>,
    own_count: u64,
    /// Since when members are down.
    down_since: BTreeMap<NodeId, Time>,
    /// When the last state came into force here.
    installed_at: Time,
    look_at: Option<Time>,
    /// Whether enough members are reserved for failures.
    pub(super) reserve: super::reserve::Reserve,
}

impl Topology {
    pub(super) fn new(acknowledged: Epoch) -> Topology {
        Topology {
            acknowledged,
            due: None,
            persisting: None,
            own: None,
            own_count: 0,
            down_since: BTreeMap::new(),
            installed_at: Time(0),
            look_at: None,
            reserve: super::reserve::Reserve::default(),
        }
    }

    /// The highest epoch this node has acknowledged.
    pub(super) fn acknowledged(&self) -> Epoch {
        self.acknowledged
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.look_at
    }

    /// Whether a member has been down, or has not served, for long.
    pub(super) fn is_long_down(&self, now: Time, member: NodeId) -> bool {
        let since = self.down_since.get(&member);
        since.is_some_and(|since| now.since(*since) >= LOST_AFTER)
    }

    /// Whether a change was this node's own.
    pub(super) fn is_own(&self, op: OpId) -> bool {
        op.0 >= OWN
    }

    /// A change of its own was decided, or cannot be made: what is to be done next is looked for anew.
    pub(super) fn on_outcome(&mut self, op: OpId) {
        if self.own == Some(op) {
            self.own = None;
        }
    }
}

/// What members have said, as this node has heard it.
pub(super) struct HeardBy<'a>(pub(super) &'a Node);

impl HeardBy<'_> {
    fn fills(&self, member: NodeId) -> Vec<FillNews> {
        if member == self.0.me {
            return self.0.fill_news();
        }
        let known = self.0.members.facts(member).and_then(|known| known.facts);
        known.map_or_else(Vec::new, |facts| facts.fills.clone())
    }

    /// What a member keeps that has counted in the place of owners.
    fn custody(&self, member: NodeId) -> CustodyNews {
        if member == self.0.me {
            return self.0.hints.books.news();
        }
        let known = self.0.members.facts(member).and_then(|known| known.facts);
        known.map_or_else(CustodyNews::default, |facts| facts.custody.clone())
    }

    fn who_says(&self, wanted: impl Fn(FillState) -> bool) -> Vec<(NodeId, Unit, Epoch)> {
        let members = self.0.members.ids().chain([self.0.me]);
        let of_member = |member| {
            let fills = self.fills(member).into_iter().filter(|news| wanted(news.state));
            fills.map(move |news| (member, news.unit, news.entry)).collect::<Vec<_>>()
        };
        members.flat_map(of_member).collect()
    }

    fn says(&self, member: NodeId, unit: Unit, entry: Epoch, state: FillState) -> bool {
        self.fills(member).contains(&FillNews { unit, entry, state })
    }
}

impl Heard for HeardBy<'_> {
    fn acknowledged(&self, member: NodeId) -> Epoch {
        if member == self.0.me {
            return self.0.topology.acknowledged;
        }
        let known = self.0.members.facts(member).and_then(|known| known.facts);
        known.map_or(Epoch(0), |facts| facts.acknowledged)
    }

    fn is_complete(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool {
        let state = self.0.state.as_ref();
        let original = state.is_some_and(|state| {
            state.is_original(unit, member) && state.entry(unit, member) == Some(entry)
        });
        original && !self.says(member, unit, entry, FillState::Lost)
            || self.says(member, unit, entry, FillState::Complete)
    }

    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)> {
        self.who_says(|state| state == FillState::Lost)
    }

    fn filled(&self) -> Vec<(NodeId, Unit, Epoch)> {
        self.who_says(|state| matches!(state, FillState::Filling { .. }))
    }

    fn lacks(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool {
        let fills = self.fills(member);
        let mut of_entry = fills.iter().filter(|news| news.unit == unit && news.entry == entry);
        of_entry.any(|news| news.state != FillState::Complete)
    }

    fn is_down(&self, member: NodeId) -> bool {
        let known = self.0.members.facts(member);
        member != self.0.me && known.is_some_and(|known| known.liveness == Liveness::Down)
    }

    fn has_custody(&self, member: NodeId) -> bool {
        let custody = self.custody(member);
        custody.others || !custody.targets.is_empty()
    }

    fn is_up(&self, member: NodeId) -> bool {
        member == self.0.me
            || (self.0.members.is_reachable(member) && self.0.members.serves(member))
    }

    fn is_long_down(&self, member: NodeId) -> bool {
        self.0.is_long_down(member)
    }
}

impl Node {
    /// A state has come into force here: it is acknowledged once what was let in before is durable.
    pub(super) fn begin_acknowledging(&mut self, now: Now) {
        self.topology.installed_at = now.mono;
        self.topology.due = Some((self.epoch(), self.next_token));
        self.acknowledge();
    }

    /// Acknowledges the epoch in force, if nothing stands in the way any more.
    pub(super) fn acknowledge(&mut self) {
        let Some((epoch, before)) = self.topology.due else { return };
        if self.topology.persisting.is_some() || self.is_refused() {
            return;
        }
        if self.writes_before(before) && !crate::mutant!("acknowledge-before-writes") {
            return;
        }
        self.topology.due = None;
        if crate::mutant!("acknowledge-before-fsync") {
            self.topology.acknowledged = epoch;
        }
        self.topology.persisting = Some(epoch);
        // Always fsynced, and behind all that was written before it: so that is durable as well,
        // whatever the sync mode.
        let records = vec![MetaRecord::Acknowledged(epoch)];
        self.disk(Pending::Acknowledged(epoch), DiskRequest::Persist(records));
    }

    /// The acknowledgement of an epoch is durable, or is not.
    pub(super) fn on_acknowledged(&mut self, now: Now, epoch: Epoch, durable: bool) {
        self.topology.persisting = None;
        if durable {
            self.topology.acknowledged = self.topology.acknowledged.max(epoch);
            self.members.probe_soon(now);
            self.topology.look_at = Some(now.mono);
        } else if self.topology.due.is_none() {
            // Tried again with the next housekeeping.
            self.topology.due = Some((epoch, 0));
        }
        if durable {
            self.acknowledge();
        }
    }

    /// Something was heard that a step may have waited for.
    pub(super) fn look_at_moves(&mut self, now: Now) {
        self.topology.look_at.get_or_insert(now.mono);
    }

    pub(super) fn on_topology_time(&mut self, now: Now) {
        if self.topology.look_at.is_none_or(|at| at > now.mono) {
            return;
        }
        self.topology.look_at = None;
        if !self.is_serving() || self.topology.own.is_some() {
            return;
        }
        let Some(state) = self.state.clone() else { return };
        if let Some(change) = self.own_address() {
            return self.propose_own(now, change);
        }
        let busy = state.topology.plan.is_some()
            || !state.topology.losses.is_empty()
            || state.classes.iter().any(|class| !class.moves.is_empty());
        let lost = |id| self.is_long_down(id);
        let council = control::council_wanted(&state, lost);
        let order = self.outlook(now, &state).order.or_else(|| self.growth_order(&state));
        if !busy && order.is_none() && council.is_none() && HeardBy(self).lost().is_empty() {
            return;
        }
        let turn = now.mono.since(self.topology.installed_at);
        if let Some(wait) = self.turn_in(&state.council, turn) {
            self.topology.look_at = Some(now.mono.plus(wait));
            return;
        }
        let steps: Vec<Step> = control::steps(&state, &HeardBy(self));
        let change = match (order, council) {
            (Some(order), _) => Change::Orchestrate(order),
            _ if !steps.is_empty() => Change::Steps(steps),
            (None, Some(seats)) => {
                Change::Member(MemberChange::Council { epoch: state.epoch, seats })
            }
            (None, None) => return,
        };
        self.propose_own(now, change);
    }

    /// How long this node leaves it to others to propose what is due: members of the council take
    /// turns, by their ids, those who are down left out. Nobody has to: who proposes twice changes
    /// nothing.
    fn turn_in(&self, council: &[NodeId], since: Duration) -> Option<Duration> {
        let up = |id: &&NodeId| **id != self.me && self.members.is_reachable(**id);
        let before = council.iter().filter(|id| **id < self.me).filter(up).count();
        let seated = council.contains(&self.me);
        let rank = if seated { before } else { council.len() + 1 };
        let wait = TURN.saturating_mul(u32::try_from(rank).unwrap_or(u32::MAX));
        (since < wait).then(|| wait.saturating_sub(since))
    }

    /// Whether a member has been down for long.
    fn is_long_down(&self, member: NodeId) -> bool {
        self.topology.is_long_down(self.now, member)
    }

    /// Notes who is down since when. Who answers and does not serve is: it may have been refused for good.
    pub(super) fn note_down(&mut self, now: Now) {
        let ids: Vec<NodeId> = self.members.ids().collect();
        let down = |id: &NodeId| {
            let known = self.members.facts(*id);
            let (told, serves) = (self.members.told(*id).is_some(), self.members.serves(*id));
            known.is_some_and(|known| known.liveness == Liveness::Down) || told && !serves
        };
        let down: Vec<NodeId> = ids.into_iter().filter(down).collect();
        self.topology.down_since.retain(|id, _| down.contains(id));
        for id in down {
            self.topology.down_since.entry(id).or_insert(now.mono);
        }
        if !self.topology.down_since.is_empty() {
            self.look_at_moves(now);
        }
    }

    /// This node listens somewhere else than the state says.
    fn own_address(&self) -> Option<Change> {
        let member = self.state.as_ref()?.member(self.me)?;
        let peer = &self.config.peer_address;
        if peer.is_empty() || member.addresses.peer == *peer {
            return None;
        }
        let client = self.config.client_address.clone();
        let addresses = Addresses { client, peer: peer.clone() };
        Some(Change::Member(MemberChange::Move { id: self.me, addresses }))
    }

    fn propose_own(&mut self, now: Now, change: Change) {
        self.topology.own_count += 1;
        let op = OpId(OWN + self.topology.own_count);
        match self.decree.propose(now.mono, op, RequestId(0), change) {
            Ok(()) => {
                self.topology.own = Some(op);
                self.run_decree(now);
            }
            Err(error) => {
                self.note(Level::Warn, None, format!("a step of a plan has to wait: {error}"));
            }
        }
    }

    /// A state is in force that gives up copies: people are to find it in every node's log.
    pub(super) fn note_losses(&mut self, state: &ClusterState, before: Option<Epoch>) {
        let new =
            state.topology.losses.iter().filter(|loss| before.is_some_and(|at| loss.epoch > at));
        let mut texts: Vec<String> = Vec::new();
        for loss in new.clone().take(LOSSES_NOTED) {
            let gone = loss.gone.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            texts.push(format!(
                "an operator has accepted the loss of what members {gone} alone held of unit {}",
                loss.unit
            ));
        }
        let rest = new.count().saturating_sub(LOSSES_NOTED);
        if rest > 0 {
            texts.push(format!("and of {rest} units more"));
        }
        for text in texts {
            self.note(Level::Warn, None, text);
        }
    }

    /// Operators ask about members and plans.
    pub(super) fn on_topology_request(
        &mut self,
        now: Now,
        op: OpId,
        deadline: Time,
        request: TopologyRequest,
    ) {
        match request {
            TopologyRequest::Show => {
                let request = AdminRequest::Topology(Box::new(TopologyRequest::Show));
                self.ask_confirmed(now, op, deadline, request);
            }
            TopologyRequest::Change { id, change } => {
                let state = match self.serving_state() {
                    Ok(state) => state,
                    Err(error) => return self.refuse_op(op, error),
                };
                let change = match change {
                    // One that was made already waits for nobody any more.
                    PlanChange::AcceptLoss { units, gone } if state.epoch_of(id).is_none() => {
                        match control::accept(&state, &HeardBy(self), &units, &gone) {
                            Ok(orders) => Change::Losses(orders),
                            Err(error) => return self.refuse_op(op, error),
                        }
                    }
                    PlanChange::Dismiss(hash) => {
                        let result = self.dismiss(now, hash);
                        let result = result.and_then(|()| self.topology_reply(state.epoch));
                        return self.effects.push_back(Effect::Reply { op, result });
                    }
                    PlanChange::Grow(hash) if state.epoch_of(id).is_none() => {
                        match self.growth_by_hash(&state, hash) {
                            Ok(order) => Change::Orchestrate(order),
                            Err(error) => return self.refuse_op(op, error),
                        }
                    }
                    change => Change::Plan(change),
                };
                self.propose_for(now, (op, deadline), (id, change), None);
            }
        }
    }

    /// A node wants to join. One that has been admitted before is told the state again.
    pub(super) fn on_join(&mut self, now: Now, op: OpId, deadline: Time, applicant: Applicant) {
        let state = match self.serving_state() {
            Ok(state) => state,
            Err(error) => return self.refuse_op(op, error),
        };
        let known = state.member_named(&applicant.name);
        if known.is_some_and(|member| member.birth == applicant.birth) {
            let result = Ok(Reply::Joined(state));
            return self.effects.push_back(Effect::Reply { op, result });
        }
        // By its birth a repeated application is found among the recent changes.
        let id = RequestId(applicant.birth.0);
        let change = Change::Member(MemberChange::Admit(applicant));
        self.propose_for(now, (op, deadline), (id, change), None);
    }

    fn refuse_op(&mut self, op: OpId, error: OpError) {
        self.effects.push_back(Effect::Reply { op, result: Err(error) });
    }
}

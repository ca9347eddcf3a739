//! What operators ask one node.

use std::collections::BTreeMap;

use super::Node;
use super::client::{table, unit_of};
use super::disk::Pending;
use crate::message::{
    AdminRequest, AlarmLine, ClientResult, DiskRequest, Effect, ErrorCode, Liveness, Locate,
    LocateReply, NodeStatus, OpError, Reply, StatusReply, UnwellBy,
};
use crate::ring::{self, Ring};
use crate::types::{ClusterState, NodeId, NodeName, Now, OpId, TableName, Time, Unit};

impl Node {
    pub(super) fn on_admin(&mut self, now: Now, op: OpId, deadline: Time, request: AdminRequest) {
        let result = if now.mono >= deadline {
            Err(OpError::new(ErrorCode::DeadlineExceeded, "deadline passed before it was begun"))
        } else {
            match request {
                AdminRequest::Status => self.status(now),
                AdminRequest::Locate(ref locate) | AdminRequest::Explain(ref locate)
                    if self.lacks(&locate.table) =>
                {
                    return self.ask_confirmed(now, op, deadline, request);
                }
                AdminRequest::Locate(locate) => self.locate(&locate),
                AdminRequest::Table(request) => {
                    return self.on_table_request(now, op, deadline, *request);
                }
                AdminRequest::Topology(request) => {
                    return self.on_topology_request(now, op, deadline, *request);
                }
                AdminRequest::Hot { limit } => Ok(Reply::Hot(Box::new(self.hot_reply(now, limit)))),
                AdminRequest::Outage(_) => {
                    return self.ask_confirmed(now, op, deadline, request);
                }
                AdminRequest::Join(applicant) => {
                    return self.on_join(now, op, deadline, *applicant);
                }
                AdminRequest::Force(order) => return self.on_force(op, *order),
                AdminRequest::Hints(request) => {
                    return self.on_hint_request(now, op, &request);
                }
                AdminRequest::Repair(request) => {
                    return self.on_repair_request(now, (op, deadline), *request);
                }
                AdminRequest::Gc => return self.on_gc_request(op),
                AdminRequest::Events(ask) => self.events_reply(ask),
                AdminRequest::Scrub(request) => self.scrub_reply(now, request),
                AdminRequest::Explain(locate) => {
                    match self.begin_explain(now, (op, deadline), locate) {
                        Ok(()) => return,
                        Err(error) => Err(error),
                    }
                }
                AdminRequest::Flush => {
                    return self.disk(Pending::Flush(op), DiskRequest::Flush);
                }
                AdminRequest::Compact => {
                    return self.disk(Pending::Compact(op), DiskRequest::Compact);
                }
            }
        };
        self.effects.push_back(Effect::Reply { op, result });
    }

    pub(super) fn known_state(&self) -> Result<&ClusterState, OpError> {
        self.state.as_deref().ok_or_else(|| {
            OpError::new(ErrorCode::NotReady, format!("no cluster state yet: {:?}", self.phase))
        })
    }

    /// Whether this node serves and has not heard of a table of this name.
    pub(super) fn lacks(&self, name: &TableName) -> bool {
        let state = self.state.as_ref().filter(|_| self.is_serving());
        state.is_some_and(|state| state.table_named(name).is_none())
    }

    pub(super) fn status(&self, now: Now) -> ClientResult {
        let state = self.known_state()?;
        let mut primaries: BTreeMap<NodeId, u32> = BTreeMap::new();
        for id in &state.ring {
            *primaries.entry(*id).or_default() += 1;
        }
        let mut copies: BTreeMap<NodeId, u32> = BTreeMap::new();
        for id in state.classes.iter().flat_map(|class| &class.owners).flatten() {
            *copies.entry(*id).or_default() += 1;
        }
        let mut unwell = self.unwell_links(now, state);
        let gaining = state.gaining();
        let nodes = state.members.iter().map(|member| {
            let known = self.members.facts(member.id);
            let own = (member.id == self.me).then(|| std::sync::Arc::new(self.own_facts(now)));
            let facts = own.or_else(|| known.as_ref().and_then(|known| known.facts.clone()));
            NodeStatus {
                id: member.id,
                name: member.name.clone(),
                address: facts.as_ref().map_or_else(String::new, |f| f.client_address.clone()),
                peer_address: member.addresses.peer.clone(),
                zone: member.zone.clone(),
                liveness: known.as_ref().map_or(Liveness::Alive, |known| known.liveness),
                role: member.role,
                joining: gaining.contains(&member.id),
                partitions: primaries.get(&member.id).copied().unwrap_or(0),
                replica_partitions: copies.get(&member.id).copied().unwrap_or(0),
                disk_bytes: facts.as_ref().map_or(0, |facts| facts.replica.disk_bytes),
                trees: facts.as_ref().map(|facts| facts.replica.trees).unwrap_or_default(),
                hints: facts.as_ref().map_or(0, |facts| facts.hints),
                serving: facts.as_ref().is_some_and(|facts| facts.serving),
                clock_offset_ns: known.map_or(0, |known| known.clock_offset_ns),
                unwell: unwell.remove(&member.id).unwrap_or_default(),
                down_for: self.keeper.down_for(now.mono, member.id),
                relieved_at: state.relieved_at(member.id),
                mirror: facts
                    .as_ref()
                    .map(|facts| facts.mirror.clone())
                    .filter(|news| news.units > 0 || news.wanted > 0),
            }
        });
        Ok(Reply::Status(Box::new(StatusReply {
            cluster_name: state.settings.name.clone(),
            cluster_id: state.cluster.to_string(),
            epoch: state.epoch,
            partitions: state.settings.partitions,
            ring: state.ring.clone(),
            me: self.config.name.clone(),
            nodes: nodes.collect(),
            uptime: self.serving_since.map(|since| now.mono.since(since)).unwrap_or_default(),
            unavailable: self.unavailable(state),
            reserve: self.reserve_facts(state),
            alarms: self.alarm_lines(state),
            growth: self.growth_told(),
        })))
    }

    pub(super) fn alarm_lines(&self, state: &ClusterState) -> Vec<AlarmLine> {
        let line = |alarm: &crate::control::Alarm| {
            let subject = state.member(alarm.subject);
            let subject = subject.map_or_else(String::new, |member| member.name.to_string());
            AlarmLine { kind: alarm.kind.as_str(), subject, text: alarm.text.clone() }
        };
        self.keeper.alarms.iter().map(line).collect()
    }

    /// Whom reads leave out, and whose: this node's now, those of others as they last told, if they
    /// have not gone down since.
    fn unwell_links(&self, now: Now, state: &ClusterState) -> BTreeMap<NodeId, Vec<UnwellBy>> {
        let mut found: BTreeMap<NodeId, Vec<UnwellBy>> = BTreeMap::new();
        for member in &state.members {
            let (links, since) = if member.id == self.me {
                (self.members.links().told(now.mono), now.mono)
            } else {
                let known = self.members.facts(member.id);
                let known = known.filter(|known| known.liveness != Liveness::Down);
                let told = known.and_then(|known| Some((known.facts?, known.told?)));
                told.map_or((Vec::new(), now.mono), |(facts, told)| (facts.unwell.clone(), told))
            };
            for link in links {
                let age = link.age.saturating_add(now.mono.since(since));
                let unwell = UnwellBy { by: member.name.clone(), why: link.why, age };
                found.entry(link.member).or_default().push(unwell);
            }
        }
        found
    }

    /// Partitions in which too few owners answer for the floors of some class.
    fn unavailable(&self, state: &ClusterState) -> Vec<crate::types::Partition> {
        let is_short = |partition: &crate::types::Partition| {
            state.classes.iter().any(|class| {
                let owners = state.owners(Unit { class: class.id, partition: *partition });
                let live = self.reachable(owners).count_ones();
                live < u32::from(class.r_min.max(class.w_min))
            })
        };
        state.partitions().filter(is_short).collect()
    }

    pub(super) fn locate(&self, locate: &Locate) -> ClientResult {
        let state = self.known_state()?;
        let table = table(state, &locate.table)?;
        let unit = unit_of(state, table, &locate.key);
        let owners = state.owners(unit);
        let walk = Ring::from_state(state).preference_list(unit.partition, table.n);
        let stand_ins = walk.members().iter().filter(|id| !owners.contains(id));
        let name = |id: &NodeId| state.member(*id).map(|member| member.name.clone());
        let names = |ids: Vec<NodeId>| ids.iter().filter_map(name).collect::<Vec<NodeName>>();
        Ok(Reply::Locate(LocateReply {
            token: ring::token(locate.key.as_bytes()).0,
            unit,
            owners: names(owners.to_vec()),
            stand_ins: names(stand_ins.copied().collect()),
        }))
    }
}

//! Birth, boots, states and probes: how a node comes to serve, and why it may not.

use std::sync::Arc;

use super::disk::{OwnStep, Pending};
use super::{Node, NodeConfig};
use crate::control::{Birth, BirthAction, LivesAction, founder_id, judge_life};
use crate::message::{
    BirthNews, BirthRecord, BootRecord, DiskRequest, ErrorCode, HelloRefusal, Level, LifeAnswer,
    LifeRecord, MetaRecord, OpError, PeerMessage, Phase, Restored,
};
use crate::types::{ClusterState, Epoch, NodeId, Nonce, Now, Tenure, Unit};

const RETURN_HINT: &str = "it must not run as itself: what it acknowledged may be missing. Stop it \
     and keep its directory aside; it can only return as a new node, with an empty directory and \
     kvd run --join (docs/operating.md, \"A node that refuses to run\")";

const GONE: &str = "this node has left the cluster, or was replaced: what it held is with others. Its \
     directory can be removed; it can come back as a new node, with an empty one and kvd run --join";

/// This node's number: its place among the members, or among the founders before there are any.
pub(super) fn own_id(config: &NodeConfig, state: Option<&ClusterState>) -> Result<NodeId, String> {
    if let Some(state) = state {
        let member = state.member_named(&config.name);
        return member.map(|member| member.id).ok_or_else(|| {
            format!(
                "the data directory belongs to cluster {} at epoch {}, which has no member {}: \
                 it has left, or [node] name and data_dir do not belong together",
                state.cluster, state.epoch, config.name
            )
        });
    }
    let position = config.charter.founders.iter().position(|f| f.name == config.name);
    position.map(founder_id).ok_or_else(|| {
        format!("{} is not in [cluster] founders, and the data directory is empty", config.name)
    })
}

/// Why a node with a damaged store stays out.
fn damage_reason(damage: &[String]) -> String {
    format!("the store is damaged: {}; {RETURN_HINT}", damage.join("; "))
}

/// The boot that begins on this store. A boot that the council never noted, as far as the store
/// knows, is taken up again with its number and nonce: if every attempt counted, an old copy of a
/// store could be restarted until its number is above the one that was seen.
pub(super) fn next_boot(restored: &Restored, me: NodeId, nonce: Nonce) -> BootRecord {
    let Some(last) = restored.boot else { return BootRecord { number: 1, nonce } };
    let registered = restored.lives.get(&me).is_some_and(|life| life.boot == last);
    if registered { BootRecord { number: last.number + 1, nonce } } else { last }
}

impl Node {
    /// Begins this boot on what the store held, unless what it held is damaged.
    pub(super) fn awaken(&mut self, now: Now, restored: Restored) {
        for table in &restored.unreadable {
            let message = format!("{table} cannot be read: its keys are answered with an error");
            self.note(Level::Error, None, message);
        }
        if let Some(why) = restored.refused {
            return self.refuse(why);
        }
        if !restored.damage.is_empty() && !Node::may_go_on_without_log(&restored) {
            return self.refuse(damage_reason(&restored.damage));
        }
        let birth = BirthRecord { nonce: self.birth_nonce };
        let new_birth = restored.birth.is_none().then_some(birth);
        let kept = restored.tenure == Some(self.causal.tenure) || restored.forgets;
        let new_tenure = (!kept).then_some(self.causal.tenure);
        self.begin_life(now, (new_birth, new_tenure), restored.pledge, restored.state);
    }

    fn begin_life(
        &mut self,
        now: Now,
        (new_birth, new_tenure): (Option<BirthRecord>, Option<Tenure>),
        pledge: Option<u128>,
        state: Option<Arc<ClusterState>>,
    ) {
        let mut records: Vec<MetaRecord> = new_birth.map(MetaRecord::Birth).into_iter().collect();
        records.push(MetaRecord::Boot(self.boot));
        records.extend(new_tenure.map(MetaRecord::Tenure));
        if state.is_none() {
            let without = self.config.found_without.clone();
            let (charter, name) = (self.config.charter.clone(), self.config.name.clone());
            let birth = Birth::new(charter, name, self.birth_nonce, pledge, without);
            self.birth = Some(birth);
            let founders = self.config.charter.founders.len();
            let others = (0..founders).map(founder_id).filter(|id| *id != self.me);
            self.members.set_peers(now, others);
        }
        self.persist_own(OwnStep::Boot, records);
        if let Some(state) = state {
            self.install(now, state);
        }
    }

    /// The node will not run as itself. Final for this boot.
    pub(super) fn refuse(&mut self, reason: String) {
        if !matches!(self.phase, Phase::Refused(_)) {
            self.note(Level::Error, None, reason.clone());
            self.phase = Phase::Refused(reason.clone());
            self.birth = None;
            let error = OpError::new(ErrorCode::NotReady, reason);
            self.fail_tables(&error);
            self.fail_explains(&error);
            self.fail_operations(&error);
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.phase, Phase::Refused(_))
    }

    pub(super) fn on_boot_persisted(&mut self, now: Now) {
        if let Some(birth) = &mut self.birth {
            let actions = birth.on_nonce_durable();
            self.run_birth(actions);
        }
        let actions = self.lives.on_boot_durable(now.mono);
        self.run_lives(now, actions);
    }

    pub(super) fn on_pledge_persisted(&mut self) {
        if let Some(birth) = &mut self.birth {
            let actions = birth.on_pledge_durable();
            self.run_birth(actions);
        }
    }

    pub(super) fn on_birth_news(&mut self, from: NodeId, news: &BirthNews) {
        if let Some(state) = self.state.clone() {
            let member = state.member(from);
            if member.is_some_and(|m| m.name == news.own.name && m.birth == news.own.nonce) {
                self.send(from, PeerMessage::StateNews(state));
            }
        } else if let Some(birth) = &mut self.birth {
            let actions = birth.on_news(from, news);
            self.run_birth(actions);
        }
    }

    fn run_birth(&mut self, actions: Vec<BirthAction>) {
        for action in actions {
            match action {
                BirthAction::Tell(news) => {
                    let peers: Vec<NodeId> = self.members.ids().collect();
                    for peer in peers {
                        self.send(peer, PeerMessage::Birth(news.clone()));
                    }
                }
                BirthAction::PersistPledge(hash) => {
                    let records = vec![MetaRecord::Pledge(hash)];
                    self.persist_own(OwnStep::Pledge, records);
                }
                BirthAction::Founded(state) => self.adopt(state),
                BirthAction::Refuse(reason) => self.refuse(reason),
            }
        }
        self.update_phase();
    }

    /// Makes a state durable; it is installed when it is.
    pub(super) fn adopt(&mut self, state: Arc<ClusterState>) {
        if self.is_refused() || state.epoch <= self.adopting {
            // It is in force, or on its way to the disk; a lower one must not get there after it.
            return;
        }
        self.adopting = state.epoch;
        let records = vec![MetaRecord::State(state.clone())];
        self.disk(Pending::StatePersisted(state), DiskRequest::Persist(records));
    }

    /// A durable state comes into force here.
    pub(super) fn install(&mut self, now: Now, state: Arc<ClusterState>) {
        if self.is_refused() || self.state.as_ref().is_some_and(|old| old.epoch >= state.epoch) {
            return;
        }
        crate::sometimes!("node: installs a state");
        if state.member(self.me).is_none() || state.is_gone(self.me, self.birth_nonce) {
            self.state = Some(state);
            self.refuse(GONE.to_owned());
            return self.publish();
        }
        self.birth = None;
        // Who has left is told while there is still a way to it; else it hears it when it greets.
        let left = self.members.ids().filter(|id| state.member(*id).is_none());
        for id in left.collect::<Vec<_>>() {
            self.send(id, PeerMessage::StateNews(state.clone()));
        }
        let departed = self.departed(&state);
        let others = state.members.iter().map(|member| member.id).filter(|id| *id != self.me);
        self.members.set_peers(now, others);
        self.members.probe_soon(now);
        let classes = state.classes.iter().flat_map(|class| {
            state.partitions().map(|partition| Unit { class: class.id, partition })
        });
        let owned = classes.filter(|unit| state.owners(*unit).contains(&self.me));
        self.units = Arc::new(owned.collect());
        self.note(
            Level::Info,
            None,
            format!("cluster {} is at epoch {}", state.cluster, state.epoch),
        );
        self.note_losses(&state, self.state.as_ref().map(|before| before.epoch));
        let before = self.state.replace(state.clone());
        self.adopting = self.adopting.max(state.epoch);
        let actions = self.lives.on_state(now.mono, &state);
        self.run_lives(now, actions);
        self.update_phase();
        self.publish();
        self.record_state(now, before.as_deref());
        self.on_keeper_state(now, before.as_deref());
        self.note_size(now, before.as_deref());
        self.begin_sweep(&state);
        self.ring = Some(crate::ring::Ring::from_state(&state));
        self.decree.on_state(now.mono, state.clone());
        self.run_decree(now);
        self.on_schema(now, before.as_ref());
        self.begin_acknowledging(now);
        self.on_owners(before.as_ref());
        self.on_repair_state(now, &state);
        self.on_departed(now, &departed);
        self.on_floor_owners();
        self.restart_fenced(now, &state);
        self.on_caught_up(now);
        self.reroute_hints(now);
    }

    pub(super) fn on_state_news(&mut self, state: &Arc<ClusterState>) {
        if self.is_refused() {
            return;
        }
        if let Some(own) = &self.state {
            let lineage = |state: &ClusterState| (state.cluster, state.lineage, state.origin());
            let same = lineage(own) == lineage(state);
            if same && state.epoch > own.epoch {
                self.adopt(state.clone());
            } else if state.lineage > own.lineage {
                self.on_later_lineage(state);
            }
            return;
        }
        match state.member_named(&self.config.name) {
            Some(member) if member.id == self.me && member.birth == self.birth_nonce => {
                crate::sometimes!("birth: adopts epoch 1 from another");
                self.adopt(state.clone());
            }
            Some(_) => self.refuse(format!(
                "cluster {} knows {} by another birth: this directory is empty or another's; {RETURN_HINT}",
                state.cluster, self.config.name
            )),
            None => self.refuse(format!(
                "cluster {} was founded without {}; it can only join as a new node: kvd run --join",
                state.cluster, self.config.name
            )),
        }
        self.publish();
    }

    pub(super) fn on_state_ask(&mut self, from: NodeId, epoch: Epoch) {
        if let Some(state) = self.state.clone().filter(|state| state.epoch > epoch) {
            self.send(from, PeerMessage::StateNews(state));
        }
    }

    fn run_lives(&mut self, now: Now, actions: Vec<LivesAction>) {
        if self.is_refused() {
            return;
        }
        for action in actions {
            match action {
                LivesAction::Ask(to) => {
                    let epoch = self.epoch();
                    let life = LifeRecord { boot: self.boot, ceiling: self.clock.ceiling() };
                    self.send(to, PeerMessage::Register { epoch, life });
                }
                LivesAction::Registered => {
                    let life = LifeRecord { boot: self.boot, ceiling: self.clock.ceiling() };
                    let records = vec![MetaRecord::Life(self.me, life)];
                    // The answers are back by the time this is written.
                    self.members.probe_soon(now);
                    self.persist_own(OwnStep::Registration, records);
                }
                LivesAction::Refused(by, seen) => {
                    let why = format!(
                        "member {by} has seen boot {} of this node with a clock ceiling of {}, and \
                         this is boot {} with {}: the directory is empty, older or a copy; {RETURN_HINT}",
                        seen.boot.number,
                        seen.ceiling.0,
                        self.boot.number,
                        self.clock.ceiling().0
                    );
                    // Started again, it might meet only members that have not seen it.
                    if !self.is_refused() && !crate::mutant!("refusal-forgotten") {
                        let records = vec![MetaRecord::Refused(why.clone())];
                        self.disk(Pending::Housekeeping, DiskRequest::Persist(records));
                    }
                    self.refuse(why);
                    self.publish();
                }
            }
        }
    }

    /// The council has noted the boot, and this store knows that it has: only now is the boot
    /// number used up, see [`next_boot`].
    pub(super) fn on_registration_persisted(&mut self, now: Now) {
        if self.is_refused() || self.phase == Phase::Draining {
            return;
        }
        if !self.waits_for_newest(now) {
            self.begin_serving(now);
        }
    }

    pub(super) fn begin_serving(&mut self, now: Now) {
        self.phase = Phase::Serving;
        self.serving_since = Some(now.mono);
        self.members.probe_soon(now);
        self.note(Level::Info, None, format!("serving as member {}", self.me));
        self.publish();
        self.decree.begin(now.mono);
        self.run_decree(now);
        self.look_at_moves(now);
    }

    pub(super) fn on_registered(
        &mut self,
        now: Now,
        from: NodeId,
        boot: BootRecord,
        answer: &LifeAnswer,
    ) {
        let actions = self.lives.on_answer(now.mono, from, (boot, answer));
        self.run_lives(now, actions);
    }

    /// Another member asks this one to note its boot. Answering needs no registration of one's
    /// own, so that a whole cluster can restart at once.
    pub(super) fn on_register(&mut self, from: NodeId, epoch: Epoch, life: LifeRecord) {
        if epoch > self.epoch() {
            self.send(from, PeerMessage::StateAsk { epoch: self.epoch() });
        }
        if self.is_refused() {
            return;
        }
        let seated = self.state.as_ref().is_some_and(|state| state.council.contains(&self.me));
        let boot = life.boot;
        match judge_life(self.seen.get(&from), &life) {
            // Whoever had a seat before can only tell what it has seen.
            Ok(_) if !seated => {}
            Ok(noted) if self.noted.get(&from) == Some(&noted) => {
                let answer = LifeAnswer::Noted;
                self.send(from, PeerMessage::Registered { boot, answer });
            }
            Ok(noted) => {
                self.seen.insert(from, noted);
                let records = vec![MetaRecord::Life(from, noted)];
                self.disk(Pending::LifePersisted(from, noted), DiskRequest::Persist(records));
            }
            Err(seen) => {
                crate::sometimes!("lives: refuses a boot");
                self.note(
                    Level::Warn,
                    Some(from),
                    format!("refused boot {}: an old or empty disk", boot.number),
                );
                let answer = LifeAnswer::Refused { seen };
                self.send(from, PeerMessage::Registered { boot, answer });
            }
        }
    }

    pub(super) fn on_life_persisted(&mut self, member: NodeId, life: LifeRecord) {
        // Another boot may have been noted while this one was being written: the later one counts.
        if let Ok(noted) = judge_life(self.noted.get(&member), &life) {
            self.noted.insert(member, noted);
            let answer = LifeAnswer::Noted;
            self.send(member, PeerMessage::Registered { boot: life.boot, answer });
        }
        // A late message of an earlier boot may have been written over what was noted since.
        if let Some(noted) = self.noted.get(&member).copied().filter(|noted| *noted != life) {
            let records = vec![MetaRecord::Life(member, noted)];
            self.disk(Pending::Housekeeping, DiskRequest::Persist(records));
        }
    }

    pub(super) fn on_rejected(&mut self, peer: NodeId, reason: &HelloRefusal) {
        let about_us =
            matches!(reason, HelloRefusal::Stranger { name, .. } if *name == self.config.name);
        if let HelloRefusal::Gone { id, .. } = reason
            && *id == self.me
        {
            self.refuse(GONE.to_owned());
            self.publish();
        } else if about_us && self.state.is_none() {
            self.refuse(format!("member {peer} refuses this node: {reason}"));
            self.publish();
        } else if let HelloRefusal::Lineage { state: Some(state), .. } = reason
            && self.state.as_ref().is_some_and(|own| own.lineage < state.lineage)
        {
            let state = state.clone();
            self.on_later_lineage(&state);
        } else {
            self.note(Level::Warn, Some(peer), format!("stream refused: {reason}"));
            if let Some(birth) = &mut self.birth {
                birth.on_trouble(format!("member {peer} refuses this founder: {reason}"));
                self.update_phase();
            }
        }
    }

    pub(super) fn on_drain(&mut self, now: Now) {
        if !self.is_refused() {
            self.keep_load();
            self.phase = Phase::Draining;
            self.members.probe_soon(now);
            self.publish();
        }
    }

    /// What begins with each period of probes.
    pub(super) fn on_period(&mut self, now: Now) {
        self.others_clock = self.members.median_clock(now).map(|median| (median, now.mono));
        let actions = self.birth.as_mut().map(Birth::on_time).unwrap_or_default();
        self.run_birth(actions);
        let actions = self.lives.on_time(now.mono);
        self.run_lives(now, actions);
        self.update_phase();
        self.publish();
    }

    /// Writes out what can wait a while: the ceilings heard, and the size of the store.
    pub(super) fn on_housekeeping(&mut self, now: Now) {
        self.housekeeping_at = now.mono.plus(self.config.probe_interval.saturating_mul(4));
        if self.is_refused() {
            return;
        }
        self.persist_own_again();
        self.acknowledge();
        self.note_down(now);
        self.pass_custody_on(now);
        self.note_liveness(now);
        self.keep_aside_on(now);
        let heard = self.ceilings.take(&self.seen);
        self.seen.extend(heard.iter().map(|(id, life)| (*id, *life)));
        let records: Vec<MetaRecord> =
            heard.into_iter().map(|(id, life)| MetaRecord::Life(id, life)).collect();
        if !records.is_empty() {
            self.disk(Pending::Housekeeping, DiskRequest::Persist(records));
        }
        self.disk(Pending::Measured, DiskRequest::Measure);
        self.sweep_on();
        self.deal_with_log_again();
        self.fills_again();
        self.mirror_on(now);
        self.floors_on(now);
        self.drop_aged(now);
        self.end_idle_cursors(now);
        self.look_at_load(now);
        self.publish_repair();
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.state.as_ref().map_or(Epoch(0), |state| state.epoch)
    }

    fn update_phase(&mut self) {
        let phase = match (&self.phase, &self.birth) {
            (Phase::Founding(_), Some(birth)) => Phase::Founding(birth.waits_for()),
            (Phase::Founding(_) | Phase::Registering(_), None) if self.state.is_some() => {
                let silent: Vec<String> =
                    self.lives.waits_for().iter().map(NodeId::to_string).collect();
                let members = silent.join(", ");
                Phase::Registering(format!(
                    "waiting for council members to note this boot: {members}"
                ))
            }
            (phase, _) => phase.clone(),
        };
        if phase != self.phase {
            self.phase = phase;
            self.publish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WallTime;

    #[test]
    fn a_boot_number_is_used_up_only_once_the_council_has_noted_it() {
        let me = NodeId(2);
        let mut restored = Restored::default();
        let first = next_boot(&restored, me, Nonce(10));
        assert_eq!(first, BootRecord { number: 1, nonce: Nonce(10) });
        restored.boot = Some(first);
        assert_eq!(next_boot(&restored, me, Nonce(11)), first);
        restored.lives.insert(me, LifeRecord { boot: first, ceiling: WallTime(0) });
        let second = BootRecord { number: 2, nonce: Nonce(12) };
        assert_eq!(next_boot(&restored, me, Nonce(12)), second);
        restored.boot = Some(second);
        assert_eq!(next_boot(&restored, me, Nonce(13)), second);
    }
}

//! What this node is told: by a member about itself, which is believed, and about others, which is
//! weighed against what is known already.

use std::sync::Arc;

use super::members::{Members, MembersAction};
use super::peer::{Facts, Peer, is_news};
use super::rumours::Topic;
use super::suspicion::Suspicion;
use super::timing::FRESH_MAX;
use crate::message::{
    CustodyNews, FactsVersion, Hearsay, Held, Incarnation, Liveness, Probe, ProbeFacts, Rumour,
};
use crate::types::{NodeId, Now, Time};

impl Members {
    /// A member has said something, whatever it was. Returns whether it is back: it was not held to be
    /// alive and reachable.
    pub fn on_heard(&mut self, now: Now, from: NodeId) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        let back = peer.mute || peer.liveness() != Liveness::Alive;
        peer.heard = now.mono;
        peer.link_up = true;
        peer.mute = false;
        peer.unanswered = (0, now.mono);
        self.clear(now, from);
        back
    }

    /// A member has been heard, here or by one that vouches for it: it is not silent. That others hold
    /// it to be is for the member to refute, so it is told.
    pub(super) fn clear(&mut self, now: Now, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let before = peer.liveness();
        peer.vouched = now.mono;
        let verdict = core::mem::replace(&mut peer.verdict, Liveness::Alive);
        // Before birth nobody has accused anybody.
        peer.accused = if self.probes { peer.accused.max(verdict) } else { Liveness::Alive };
        if before != peer.liveness() {
            self.actions.push_back(MembersAction::Changed(id, peer.liveness()));
        }
        self.rounds.remove(&id);
        if verdict != Liveness::Alive {
            self.suspicions.remove(&id);
            self.warn(now, id);
        }
    }

    /// Tells a member at once that it is accused, not more than once in a period. With few others its
    /// next probe will.
    fn warn(&mut self, now: Now, id: NodeId) {
        let (small, lately) = (self.is_small(), self.timing.probe_interval);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !small && peer.told_at.is_none_or(|at| now.mono.since(at) >= lately) {
            peer.told_at = Some(now.mono);
            self.actions.push_back(MembersAction::News(id));
        }
    }

    /// A member probes this one.
    pub fn on_probe(&mut self, now: Now, from: NodeId, probe: Probe) {
        let seq = probe.seq;
        self.on_news(now, from, probe);
        self.actions.push_back(MembersAction::Answer(from, seq));
    }

    /// A member answers a probe.
    pub fn on_probe_ack(&mut self, now: Now, from: NodeId, probe: Probe) {
        if let Some(took) = self.on_answer(now, from, probe.seq)
            && let Some(peer) = self.peers.get_mut(&from)
        {
            let theirs = i128::from(probe.facts.wall.plus(took / 2).0);
            let offset = theirs - i128::from(now.wall.0);
            let bound = i128::from(i64::MAX);
            peer.clock_offset_ns = i64::try_from(offset.clamp(-bound, bound)).unwrap_or(0);
        }
        self.on_news(now, from, probe);
    }

    /// A member tells of itself and of others.
    pub fn on_news(&mut self, now: Now, from: NodeId, probe: Probe) {
        let Probe { facts, version, of_you, rumours, hearsay, .. } = probe;
        if let Some(held) = of_you {
            self.on_own(now, held);
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.is_older_self = version.incarnation.boot < peer.incarnation.boot
                && !crate::mutant!("older-self-serves");
        }
        self.on_facts(now, (from, from), (version, now.mono), facts);
        rumours.into_iter().for_each(|rumour| self.on_rumour(now, rumour));
        hearsay.into_iter().for_each(|hearsay| self.on_hearsay(now, from, hearsay));
    }

    pub(super) fn on_hearsay(&mut self, now: Now, by: NodeId, hearsay: Hearsay) {
        let Hearsay { member, version, age, facts } = hearsay;
        if member == self.me {
            return self.on_own(now, Held { version, liveness: Liveness::Alive });
        }
        let ago = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let told = Time(now.mono.0.saturating_sub(ago));
        // An age that reaches back before this node was there must not seem to be of now.
        if age <= now.mono.since(self.started) {
            self.on_facts(now, (member, by), (version, told), facts);
        } else {
            self.keep_facts(now, (member, by), (version, told, false), facts);
        }
    }

    fn on_facts(
        &mut self,
        now: Now,
        whose: (NodeId, NodeId),
        (version, told): (FactsVersion, Time),
        facts: Arc<ProbeFacts>,
    ) {
        self.keep_facts(now, whose, (version, told, true), facts);
    }

    /// Facts of a member are known, to be kept if they are newer.
    fn keep_facts(
        &mut self,
        now: Now,
        (member, by): (NodeId, NodeId),
        (version, told, is_of_now): (FactsVersion, Time, bool),
        facts: Arc<ProbeFacts>,
    ) {
        self.begin_incarnation(now, member, version.incarnation);
        let Some(peer) = self.peers.get_mut(&member) else { return };
        let before = peer.facts.as_ref();
        if before.is_some_and(|before| before.version >= version) {
            return;
        }
        // What is new to this node only, because it has just begun, is not news to others.
        let news = before.is_some_and(|before| is_news(&before.facts, &facts));
        let back = facts.serving && before.is_none_or(|before| !before.facts.serving);
        let changed = match before {
            Some(before) => before.facts.custody != facts.custody,
            None => facts.custody != CustodyNews::default(),
        };
        peer.facts = Some(Facts { version, facts, told, is_of_now });
        if news {
            self.urge(now, Topic::Facts(member));
        } else {
            self.fresh.push(Topic::Facts(member));
            self.fresh.truncate(FRESH_MAX);
        }
        if changed {
            self.recount_custody();
        }
        self.actions.push_back(MembersAction::Told { member, by, back });
    }

    /// A member is heard of in this incarnation: a later one voids what was said of it before.
    fn begin_incarnation(&mut self, now: Now, id: NodeId, incarnation: Incarnation) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if incarnation <= peer.incarnation {
            return;
        }
        let (before, first) = (peer.liveness(), peer.incarnation == Incarnation::default());
        peer.incarnation = incarnation;
        peer.accused = Liveness::Alive;
        peer.verdict = Liveness::Alive;
        self.suspicions.remove(&id);
        if before != peer.liveness() {
            self.actions.push_back(MembersAction::Changed(id, peer.liveness()));
        }
        if !first {
            self.urge(now, Topic::Liveness(id));
        }
    }

    /// A member says whether another one answers.
    pub(super) fn on_rumour(&mut self, now: Now, rumour: Rumour) {
        let Rumour { member, incarnation, liveness, by } = rumour;
        if member == self.me {
            let version = FactsVersion { incarnation, seq: 0 };
            return self.on_own(now, Held { version, liveness });
        }
        self.begin_incarnation(now, member, incarnation);
        let Some(peer) = self.peers.get_mut(&member) else { return };
        let stale = incarnation < peer.incarnation && !crate::mutant!("old-incarnation-wins");
        if stale || liveness == Liveness::Alive {
            return;
        }
        if peer.link_up && now.mono.since(peer.vouched) < self.timing.suspect_after {
            // It has just been heard of: whoever says so does not know.
            peer.accused = peer.accused.max(liveness);
            return self.warn(now, member);
        }
        match (peer.verdict, liveness) {
            (Liveness::Alive | Liveness::Suspect, Liveness::Down) => self.convict(now, member),
            (Liveness::Alive | Liveness::Suspect, _) => self.doubt(now, member, by),
            _ => {}
        }
    }

    /// Others suspect a member.
    fn doubt(&mut self, now: Now, id: NodeId, by: Vec<NodeId>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let before = peer.liveness();
        let began = core::mem::replace(&mut peer.verdict, Liveness::Suspect) != peer.verdict;
        if before != peer.liveness() {
            self.actions.push_back(MembersAction::Changed(id, Liveness::Suspect));
        }
        let doubt = self.suspicions.entry(id).or_insert_with(|| Suspicion::new(now.mono));
        if doubt.confirm(by) || began {
            self.urge(now, Topic::Liveness(id));
        }
    }

    /// What others hold of this node itself. That it does not answer, it refutes. That it has said more
    /// than it knows of happens when a boot that was never registered is taken up again: it goes on above
    /// that.
    pub(super) fn on_own(&mut self, now: Now, held: Held) {
        let said = held.version.incarnation;
        let own = FactsVersion { incarnation: self.own.incarnation, seq: self.own.seq };
        if said.boot != own.incarnation.boot || crate::mutant!("suspicion-never-refuted") {
            return;
        }
        let accused = held.liveness != Liveness::Alive && said >= own.incarnation;
        if accused {
            crate::sometimes!("members: this node refutes");
            self.health.failed();
        }
        if accused || held.version > own {
            let refuted = said.refuted.max(own.incarnation.refuted).saturating_add(1);
            self.own.incarnation.refuted = refuted;
            self.urge(now, Topic::Liveness(self.me));
            self.probe_soon(now);
        }
    }

    pub(super) fn urge(&mut self, now: Now, topic: Topic) {
        self.urgent.push(topic);
        self.arm(now);
    }

    /// What is held of a member, for others to compare.
    pub(super) fn held(peer: &Peer) -> Held {
        Held { version: peer.version(), liveness: peer.verdict }
    }
}

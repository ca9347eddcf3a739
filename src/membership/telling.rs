//! What this node passes on: with every probe, the most urgent and the freshest; now and then, to one
//! member, all that it holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::members::{Members, MembersAction};
use super::peer::{Peer, is_news};
use super::rumours::Topic;
use super::timing::{ALL_TOLD_MAX, FRESH_BYTES, FRESH_SENDS, HEARSAY_BYTES, SYNC_BYTES, Timing};
use crate::message::{
    FactsVersion, Hearsay, Held, Liveness, MemberSync, PeerMessage, Probe, ProbeFacts, Rumour,
};
use crate::types::{NodeId, Now, limits};

/// What goes with one probe.
#[derive(Default)]
struct Load {
    rumours: Vec<Rumour>,
    hearsay: Vec<Hearsay>,
    bytes: usize,
}

impl Load {
    fn add(&mut self, hearsay: Hearsay) {
        self.bytes += hearsay.bytes();
        self.hearsay.push(hearsay);
    }

    fn has(&self, member: NodeId) -> bool {
        self.hearsay.iter().any(|hearsay| hearsay.member == member)
    }
}

impl Members {
    /// The contents of a probe, an answer or news (`seq` 0) to a member, with this node's `facts`.
    pub fn compose(&mut self, now: Now, to: NodeId, seq: u64, facts: ProbeFacts) -> Probe {
        let facts = Arc::new(facts);
        self.own.seq += 1;
        let before = self.own.facts.replace((facts.clone(), now.mono));
        if before.is_none_or(|(before, _)| is_news(&before, &facts)) {
            self.urge(now, Topic::Facts(self.me));
        }
        let version = self.own_version();
        let of_you = self
            .peers
            .get(&to)
            .map(|peer| Held { liveness: peer.verdict.max(peer.accused), ..Members::held(peer) });
        let Load { rumours, hearsay, .. } = self.load(now, to);
        Probe { seq, facts, version, of_you, rumours, hearsay }
    }

    fn own_version(&self) -> FactsVersion {
        FactsVersion { incarnation: self.own.incarnation, seq: self.own.seq }
    }

    fn load(&mut self, now: Now, to: NodeId) -> Load {
        let mut load = Load::default();
        let sends = Timing::sends(self.ids.len());
        let mut urgent = core::mem::take(&mut self.urgent);
        urgent.pick(2 * limits::RUMOURS_MAX, sends, |topic| match topic {
            Topic::Liveness(id) => {
                let fits = load.rumours.len() < limits::RUMOURS_MAX;
                if fits {
                    load.rumours.extend(self.rumour(id));
                }
                fits
            }
            // They go with every probe, or are known there.
            Topic::Facts(id) if id == self.me || id == to => true,
            Topic::Facts(id) => {
                let Some(hearsay) = self.hearsay(now, id) else { return true };
                let room = load.bytes + hearsay.bytes() <= HEARSAY_BYTES;
                let fits = load.hearsay.is_empty() || room;
                if fits && load.hearsay.len() < limits::HEARSAY_MAX {
                    load.add(hearsay);
                }
                fits
            }
        });
        self.urgent = urgent;
        if self.ids.len() <= ALL_TOLD_MAX {
            self.add_all(now, to, &mut load);
        } else {
            self.add_fresh(now, to, &mut load);
        }
        load
    }

    /// Everybody's facts of the last few periods.
    fn add_all(&self, now: Now, to: NodeId, load: &mut Load) {
        let lately = self.timing.probe_interval.saturating_mul(4);
        for id in self.ids.iter().filter(|id| **id != to) {
            let Some(hearsay) = self.hearsay(now, *id) else { continue };
            let room = load.bytes + hearsay.bytes() <= HEARSAY_BYTES;
            if hearsay.age <= lately && room && !load.has(*id) {
                load.add(hearsay);
            }
        }
    }

    /// A few, of those that were told last.
    fn add_fresh(&mut self, now: Now, to: NodeId, load: &mut Load) {
        let most = (load.bytes + FRESH_BYTES).min(HEARSAY_BYTES);
        let mut fresh = core::mem::take(&mut self.fresh);
        fresh.pick(limits::HEARSAY_MAX, FRESH_SENDS, |topic| {
            let Topic::Facts(id) = topic else { return true };
            let Some(hearsay) = self.hearsay(now, id).filter(|_| id != to) else { return true };
            let fits = load.bytes + hearsay.bytes() <= most;
            if fits && load.hearsay.len() < limits::HEARSAY_MAX && !load.has(id) {
                load.add(hearsay);
            }
            fits
        });
        self.fresh = fresh;
    }

    /// The word on a member, as it is now.
    fn rumour(&self, id: NodeId) -> Option<Rumour> {
        if id == self.me {
            let incarnation = self.own.incarnation;
            let (liveness, by) = (Liveness::Alive, Vec::new());
            return Some(Rumour { member: id, incarnation, liveness, by });
        }
        let peer = self.peers.get(&id)?;
        let by = self.suspicions.get(&id).map_or_else(Vec::new, |doubt| doubt.accusers());
        let (incarnation, liveness) = (peer.incarnation, peer.verdict);
        Some(Rumour { member: id, incarnation, liveness, by })
    }

    fn hearsay(&self, now: Now, member: NodeId) -> Option<Hearsay> {
        if member == self.me {
            let (facts, told) = self.own.facts.as_ref()?;
            let (version, age) = (self.own_version(), now.mono.since(*told));
            return Some(Hearsay { member, version, age, facts: facts.clone() });
        }
        let known = self.peers.get(&member)?.facts.as_ref()?;
        let (version, age) = (known.version, now.mono.since(known.told));
        Some(Hearsay { member, version, age, facts: known.facts.clone() })
    }

    /// Shows one member, at random, all that is held here.
    pub(super) fn begin_sync(&mut self, now: Now) {
        self.sync_at = now.mono.plus(self.timing.sync_interval(self.ids.len()));
        for to in self.choose(1, Peer::is_well) {
            let own = Held { version: self.own_version(), liveness: Liveness::Alive };
            let others = self.peers.iter().map(|(id, peer)| (*id, Members::held(peer)));
            let digest = others.chain([(self.me, own)]).collect();
            let message = PeerMessage::MemberSync(Box::new(MemberSync::Digest(digest)));
            self.actions.push_back(MembersAction::Send(to, message));
        }
    }

    /// A member shows what it holds, or tells what this one lacks.
    pub fn on_sync(&mut self, now: Now, from: NodeId, sync: MemberSync) {
        match sync {
            MemberSync::Digest(digest) => self.on_digest(now, from, digest),
            MemberSync::Newer { rumours, hearsay, wanted } => {
                rumours.into_iter().for_each(|rumour| self.on_rumour(now, rumour));
                hearsay.into_iter().for_each(|hearsay| self.on_hearsay(now, from, hearsay));
                if !wanted.is_empty() {
                    let hearsay = self.gather(now, wanted.into_iter());
                    self.send_newer(from, (Vec::new(), hearsay, Vec::new()));
                }
            }
        }
    }

    fn on_digest(&mut self, now: Now, from: NodeId, digest: Vec<(NodeId, Held)>) {
        let (mut rumours, mut wanted) = (Vec::new(), Vec::new());
        // What it lacks, and by how much it is behind.
        let mut newer: Vec<(u64, NodeId)> = Vec::new();
        let gap = |more: FactsVersion, less: FactsVersion| {
            if more.incarnation == less.incarnation { more.seq - less.seq } else { u64::MAX }
        };
        let mut unmentioned: BTreeSet<NodeId> = self.ids.iter().copied().collect();
        unmentioned.remove(&from);
        for (member, theirs) in digest {
            unmentioned.remove(&member);
            let own = Held { version: self.own_version(), liveness: Liveness::Alive };
            let known = self.peers.get(&member).map(Members::held);
            let Some(ours) = known.or((member == self.me).then_some(own)) else { continue };
            let word = |held: &Held| (held.version.incarnation, held.liveness);
            if word(&ours) > word(&theirs) {
                rumours.extend(self.rumour(member));
            } else if word(&theirs) > word(&ours) {
                let (incarnation, liveness) = word(&theirs);
                self.on_rumour(now, Rumour { member, incarnation, liveness, by: Vec::new() });
            }
            if ours.version > theirs.version {
                newer.push((gap(ours.version, theirs.version), member));
            } else if theirs.version > ours.version && member != self.me {
                wanted.push(member);
            }
        }
        newer.extend(unmentioned.into_iter().map(|id| (u64::MAX, id)));
        newer.sort_unstable_by(|a, b| b.cmp(a));
        let hearsay = self.gather(now, newer.into_iter().map(|(_, id)| id));
        if !(rumours.is_empty() && hearsay.is_empty() && wanted.is_empty()) {
            self.send_newer(from, (rumours, hearsay, wanted));
        }
    }

    /// Facts of these, as many as fit.
    fn gather(&self, now: Now, members: impl Iterator<Item = NodeId>) -> Vec<Hearsay> {
        let mut room = SYNC_BYTES;
        let mut gathered = Vec::new();
        for hearsay in members.filter_map(|id| self.hearsay(now, id)) {
            let Some(left) = room.checked_sub(hearsay.bytes()) else { break };
            room = left;
            gathered.push(hearsay);
        }
        gathered
    }

    fn send_newer(
        &mut self,
        to: NodeId,
        (rumours, hearsay, wanted): (Vec<Rumour>, Vec<Hearsay>, Vec<NodeId>),
    ) {
        let newer = MemberSync::Newer { rumours, hearsay, wanted };
        let message = PeerMessage::MemberSync(Box::new(newer));
        self.actions.push_back(MembersAction::Send(to, message));
    }
}

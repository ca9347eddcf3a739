//! What this node finds out itself: whom it probes, whom it asks to probe for it, and what it makes
//! of silence. SWIM (Das, Gupta, Motivala, 2002), with the suspicion and the patience of Lifeguard
//! (Dadgar, Phillips, Currey, 2017).

use core::time::Duration;

use super::members::{Members, MembersAction};
use super::rumours::Topic;
use super::suspicion::Suspicion;
use super::timing::{FAN_OUT, RELAYED_MAX, RELAYS, TIMED_MAX, UNANSWERED_MIN};
use crate::message::{Liveness, PeerMessage};
use crate::types::{NodeId, Now, Time};

/// A member has been probed and nothing heard of it since.
#[derive(Debug)]
pub(super) struct Round {
    since: Time,
    /// When others are to be asked.
    relay_at: Option<Time>,
    /// Who have been asked, when, and have not said that they tried.
    asked: Vec<(NodeId, Time)>,
}

/// A member is probed for another one.
#[derive(Debug)]
pub(super) struct Relayed {
    asker: NodeId,
    /// The asker's number.
    seq: u64,
    pub(super) target: NodeId,
    /// When the asker is told that there is no answer, unless it has been.
    nack_at: Option<Time>,
    until: Time,
}

impl Members {
    /// When [`Members::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        let spreads = !self.urgent.is_empty() && !self.is_small();
        let open = !(self.rounds.is_empty() && self.relayed.is_empty());
        if open || spreads || !self.suspicions.is_empty() {
            self.tick_at.min(self.period_at)
        } else {
            self.period_at
        }
    }

    /// Everybody should hear of this node's news now, not at the next period.
    pub fn probe_soon(&mut self, now: Now) {
        if self.is_small() {
            self.period_at = self.period_at.min(now.mono);
        } else {
            self.urgent.push(Topic::Facts(self.me));
            (self.tick_at, self.news_at) = (now.mono, now.mono);
        }
    }

    /// Takes the steps that are due; none before one is. Without `probes` nobody is probed, as before
    /// birth, and silence alone counts. Returns whether a period has begun.
    pub fn on_time(&mut self, now: Now, probes: bool) -> bool {
        let due = self.next_deadline();
        if now.mono < due {
            return false;
        }
        let begins = self.period_at <= now.mono;
        self.probes = probes;
        if !probes {
            self.watch(now);
            return begins;
        }
        self.on_late(now.mono.since(due));
        self.tick_at = now.mono.plus(self.timing.tick());
        self.judge_relayed(now);
        self.judge_rounds(now);
        self.judge_suspicions(now);
        if begins {
            let small = self.is_small();
            // With few others a probe also brings what they wait for.
            let stretched = if small { 1 } else { self.health.patience() };
            self.period_at = now.mono.plus(self.timing.probe_interval.saturating_mul(stretched));
            self.begin_period(now);
        }
        self.spread_news(now);
        if self.sync_at <= now.mono {
            self.begin_sync(now);
        }
        begins
    }

    /// This node has slept, or had too much else to do: what should have come meanwhile lies in its
    /// queues, so nobody is judged by that time.
    fn on_late(&mut self, late: Duration) {
        if late < self.timing.late_after() || crate::mutant!("slow-observer-convicts") {
            return;
        }
        crate::sometimes!("members: this node has slept");
        self.health.failed();
        for round in self.rounds.values_mut() {
            round.since = round.since.plus(late);
            round.relay_at = round.relay_at.map(|at| at.plus(late));
        }
        self.suspicions.values_mut().for_each(|doubt| doubt.since = doubt.since.plus(late));
    }

    /// Before birth: by silence alone.
    fn watch(&mut self, now: Now) {
        self.tick_at = now.mono.plus(self.timing.tick());
        if self.period_at > now.mono {
            return;
        }
        self.period_at = now.mono.plus(self.timing.probe_interval);
        for (&id, peer) in &mut self.peers {
            let silence = now.mono.since(peer.heard);
            let verdict = if silence >= self.timing.down_after {
                Liveness::Down
            } else if silence >= self.timing.suspect_after {
                Liveness::Suspect
            } else {
                Liveness::Alive
            };
            let before = peer.liveness();
            peer.verdict = verdict;
            if peer.liveness() != before {
                self.actions.push_back(MembersAction::Changed(id, peer.liveness()));
            }
        }
    }

    fn begin_period(&mut self, now: Now) {
        self.health.on_period();
        while self.timed.len() > TIMED_MAX {
            self.timed.pop_first();
        }
        let mut targets: Vec<NodeId> = self.rounds.keys().copied().collect();
        if self.is_small() {
            targets.clone_from(&self.ids);
        } else if let Some(next) = self.next_target()
            && !targets.contains(&next)
        {
            targets.push(next);
        }
        let patience = self.health.patience();
        for id in targets {
            self.send_probe(now, id);
            let Some(peer) = self.peers.get(&id) else { continue };
            if peer.verdict == Liveness::Down {
                // It is only looked for. Nobody else is troubled.
                continue;
            }
            let within = self.timing.answer_within(peer.round_trip).saturating_mul(patience);
            let fresh = Round { since: now.mono, relay_at: None, asked: Vec::new() };
            let round = self.rounds.entry(id).or_insert(fresh);
            round.relay_at.get_or_insert(now.mono.plus(within));
        }
    }

    /// Each member once, in an order that is drawn anew each time round: so the time until somebody
    /// is probed is bounded, and no two nodes go round in step.
    fn next_target(&mut self) -> Option<NodeId> {
        if self.order.is_empty() {
            self.order.clone_from(&self.ids);
            self.rng.shuffle(&mut self.order);
        }
        self.order.pop()
    }

    pub(super) fn send_probe(&mut self, now: Now, to: NodeId) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let (count, since) = &mut peer.unanswered;
        if *count == 0 {
            *since = now.mono;
        }
        *count = count.saturating_add(1);
        self.seq += 1;
        self.timed.insert(self.seq, (to, now.mono));
        self.actions.push_back(MembersAction::Probe(to, self.seq));
    }

    fn judge_rounds(&mut self, now: Now) {
        let patience = self.health.patience();
        let lasts = self.timing.suspect_after.saturating_mul(patience);
        let open: Vec<NodeId> = self.rounds.keys().copied().collect();
        for id in open {
            self.judge_way(now, id);
            let Some(round) = self.rounds.get_mut(&id) else { continue };
            if now.mono.since(round.since) >= lasts {
                self.end_round(id);
                self.suspect(now, id);
            } else if round.relay_at.is_some_and(|at| at <= now.mono) {
                round.relay_at = None;
                self.ask_relays(now, id);
            }
        }
    }

    /// Whether the way to a member works, whoever else may hear it.
    fn judge_way(&mut self, now: Now, id: NodeId) {
        let small = self.is_small();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let (count, since) = peer.unanswered;
        // Where many are there, a member may say nothing to this one for long, and be well.
        let since = if small { peer.heard } else { since };
        let silent = now.mono.since(since) >= self.timing.down_after;
        peer.mute |= count >= UNANSWERED_MIN && silent;
    }

    /// Others are asked to probe a member which does not answer: the way to it may be what fails.
    fn ask_relays(&mut self, now: Now, target: NodeId) {
        self.count_missed(target);
        if crate::mutant!("no-indirect-probe") {
            return;
        }
        let mut relays = self.choose(RELAYS + 1, super::peer::Peer::is_well);
        relays.retain(|relay| *relay != target);
        relays.truncate(RELAYS);
        for relay in &relays {
            let message = PeerMessage::ProbeVia { seq: self.seq, target };
            self.actions.push_back(MembersAction::Send(*relay, message));
        }
        if let Some(round) = self.rounds.get_mut(&target) {
            round.asked = relays.into_iter().map(|relay| (relay, now.mono)).collect();
        }
    }

    /// Who was asked and is there should have said that it tried. If it has not, this node may be the
    /// one that does not hear.
    fn count_missed(&mut self, target: NodeId) {
        let Some(round) = self.rounds.get_mut(&target) else { return };
        for (relay, at) in core::mem::take(&mut round.asked) {
            if self.peers.get(&relay).is_some_and(|peer| peer.heard > at) {
                self.health.missed();
            }
        }
    }

    fn end_round(&mut self, id: NodeId) {
        self.count_missed(id);
        self.rounds.remove(&id);
    }

    /// This node has found a member silent.
    fn suspect(&mut self, now: Now, id: NodeId) {
        let me = self.me;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.verdict == Liveness::Down {
            return;
        }
        let before = peer.liveness();
        peer.verdict = Liveness::Suspect;
        if before != Liveness::Suspect {
            self.actions.push_back(MembersAction::Changed(id, Liveness::Suspect));
        }
        let doubt = self.suspicions.entry(id).or_insert_with(|| Suspicion::new(now.mono));
        if doubt.confirm([me]) {
            self.urgent.push(Topic::Liveness(id));
        }
    }

    fn judge_suspicions(&mut self, now: Now) {
        if self.suspicions.is_empty() {
            return;
        }
        let patience = self.health.patience();
        let (others, well) = (self.ids.len(), self.peers.values().filter(|p| p.is_well()).count());
        let over = |doubt: &Suspicion| {
            let lasts = self.timing.suspicion(others, doubt.confirmations(), well);
            doubt.is_over(now.mono, lasts.saturating_mul(patience))
        };
        let over: Vec<NodeId> =
            self.suspicions.iter().filter(|(_, doubt)| over(doubt)).map(|(id, _)| *id).collect();
        for id in over {
            self.convict(now, id);
        }
    }

    /// A member is held to be down.
    pub(super) fn convict(&mut self, now: Now, id: NodeId) {
        self.suspicions.remove(&id);
        self.rounds.remove(&id);
        if let Some(peer) = self.peers.get_mut(&id) {
            crate::sometimes!("members: one is held to be down");
            peer.verdict = Liveness::Down;
            self.actions.push_back(MembersAction::Changed(id, Liveness::Down));
            self.urge(now, Topic::Liveness(id));
        }
    }

    /// Where not everybody is probed anyway, urgent news go to a few at random, twice in a period, while
    /// there are any.
    fn spread_news(&mut self, now: Now) {
        if self.is_small() || self.urgent.is_empty() || now.mono < self.news_at {
            return;
        }
        self.news_at = now.mono.plus(self.timing.probe_interval / 2);
        for to in self.choose(FAN_OUT, |peer| peer.link_up && peer.verdict != Liveness::Down) {
            self.actions.push_back(MembersAction::News(to));
        }
    }

    /// A message could not be handed to a member. Returns whether that is news: what was asked of
    /// it before should not be waited for.
    pub fn on_unreachable(&mut self, id: NodeId) -> bool {
        let small = self.is_small();
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        let news = core::mem::replace(&mut peer.link_up, false);
        if news && !small && peer.verdict == Liveness::Alive {
            // Whoever cannot be sent anything is looked at next.
            self.order.retain(|other| *other != id);
            self.order.push(id);
        }
        news
    }

    /// A member wants another one probed.
    pub fn on_probe_via(&mut self, now: Now, asker: NodeId, seq: u64, target: NodeId) {
        let heard = target == self.me;
        if heard || !self.peers.contains_key(&target) || self.relayed.len() >= RELAYED_MAX {
            return self.vouch(asker, seq, target, heard);
        }
        crate::sometimes!("members: probes for another");
        self.send_probe(now, target);
        let interval = self.timing.probe_interval;
        let nack_at = Some(now.mono.plus(interval / 2));
        let until = now.mono.plus(interval.saturating_mul(4));
        self.relayed.insert(self.seq, Relayed { asker, seq, target, nack_at, until });
        self.arm(now);
    }

    /// A probe has been answered: whoever wanted to know is told, and the way is measured. Returns how
    /// long it took, if that is known.
    pub(super) fn on_answer(&mut self, now: Now, from: NodeId, seq: u64) -> Option<Duration> {
        if self.relayed.get(&seq).is_some_and(|relayed| relayed.target == from)
            && let Some(Relayed { asker, seq, target, .. }) = self.relayed.remove(&seq)
        {
            self.vouch(asker, seq, target, true);
        }
        let (to, sent) = *self.timed.get(&seq)?;
        if to != from {
            return None;
        }
        self.timed.remove(&seq);
        let took = now.mono.since(sent);
        let patience = self.health.patience();
        self.health.answered(took < self.timing.late_after().saturating_mul(patience));
        if let Some(peer) = self.peers.get_mut(&from) {
            let before = peer.round_trip.unwrap_or(took);
            peer.round_trip = Some((before * 7 + took) / 8);
        }
        Some(took)
    }

    fn judge_relayed(&mut self, now: Now) {
        let due: Vec<(NodeId, u64, NodeId)> = self
            .relayed
            .values_mut()
            .filter(|relayed| relayed.nack_at.is_some_and(|at| at <= now.mono))
            .map(|relayed| {
                relayed.nack_at = None;
                (relayed.asker, relayed.seq, relayed.target)
            })
            .collect();
        for (asker, seq, target) in due {
            self.vouch(asker, seq, target, false);
        }
        self.relayed.retain(|_, relayed| relayed.until > now.mono);
    }

    fn vouch(&mut self, to: NodeId, seq: u64, target: NodeId, heard: bool) {
        let message = PeerMessage::Vouch { seq, target, heard };
        self.actions.push_back(MembersAction::Send(to, message));
    }

    /// A member that was asked to probe another has tried, or has even had an answer.
    pub fn on_vouch(&mut self, now: Now, from: NodeId, target: NodeId, heard: bool) {
        if let Some(round) = self.rounds.get_mut(&target) {
            round.asked.retain(|(relay, _)| *relay != from);
        }
        if heard {
            crate::sometimes!("members: another one vouches");
            self.clear(now, target);
        }
    }

    /// Something has become open: it is looked at a tick from now, if nothing else was.
    pub(super) fn arm(&mut self, now: Now) {
        if self.tick_at <= now.mono {
            self.tick_at = now.mono.plus(self.timing.tick());
        }
    }
}

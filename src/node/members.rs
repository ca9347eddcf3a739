//! Who answers, and what members say of themselves: carries out what membership wants, and tells the
//! other machines what has been heard.

use super::{Node, NodeConfig};
use crate::membership::{Members, MembersAction, Timing};
use crate::message::{LifeRecord, Liveness, PeerMessage, Phase, Probe, ProbeFacts};
use crate::types::{NodeId, Now};

/// The members of a node that has just started.
pub(super) fn begin(now: Now, config: &NodeConfig, me: (NodeId, u64), seed: u64) -> Members {
    // A generator of its own, so that what it draws changes no other choice.
    let rng = fastrand::Rng::with_seed(seed ^ 0x6d65_6d62_6572_7321);
    Members::new(now, timing(config), me, rng)
}

/// How members are probed.
fn timing(config: &NodeConfig) -> Timing {
    Timing {
        probe_interval: config.probe_interval,
        suspect_after: config.suspect_after,
        down_after: config.down_after,
    }
}

impl Node {
    pub(super) fn on_probe_time(&mut self, now: Now) {
        let probes = self.birth.is_none() && !self.is_refused();
        let begins = self.members.on_time(now, probes);
        self.run_members(now);
        if begins {
            self.on_period(now);
        }
    }

    pub(super) fn on_membership(&mut self, now: Now, from: NodeId, message: PeerMessage) {
        match message {
            PeerMessage::Probe(probe) => self.members.on_probe(now, from, *probe),
            PeerMessage::ProbeAck(probe) => self.members.on_probe_ack(now, from, *probe),
            PeerMessage::News(probe) => self.members.on_news(now, from, *probe),
            PeerMessage::ProbeVia { seq, target } => {
                self.members.on_probe_via(now, from, seq, target);
            }
            PeerMessage::Vouch { target, heard, .. } => {
                self.members.on_vouch(now, from, target, heard);
            }
            PeerMessage::MemberSync(sync) => self.members.on_sync(now, from, *sync),
            _ => {}
        }
        self.run_members(now);
    }

    pub(super) fn run_members(&mut self, now: Now) {
        while let Some(action) = self.members.poll_action() {
            match action {
                MembersAction::Probe(to, seq) => {
                    let probe = self.compose(now, to, seq);
                    self.send(to, PeerMessage::Probe(probe));
                }
                MembersAction::Answer(to, seq) => {
                    let probe = self.compose(now, to, seq);
                    self.send(to, PeerMessage::ProbeAck(probe));
                }
                MembersAction::News(to) => {
                    let probe = self.compose(now, to, 0);
                    self.send(to, PeerMessage::News(probe));
                }
                MembersAction::Send(to, message) => self.send(to, message),
                MembersAction::Told { member, by, back } => {
                    self.on_member_told(now, member, by, back)
                }
                MembersAction::Changed(member, liveness) => {
                    crate::sometimes!("members: a liveness changes");
                    self.note_liveness(now);
                    self.publish();
                    if liveness == Liveness::Alive {
                        self.on_target_back(now, member);
                    }
                }
            }
        }
    }

    fn compose(&mut self, now: Now, to: NodeId, seq: u64) -> Box<Probe> {
        let facts = self.own_facts(now);
        Box::new(self.members.compose(now, to, seq, facts))
    }

    /// A member has told something new of itself, to this node or to another.
    fn on_member_told(&mut self, now: Now, member: NodeId, by: NodeId, back: bool) {
        let Some(facts) = self.members.told(member).cloned() else { return };
        if facts.epoch > self.epoch() {
            let reachable = self.members.is_reachable(member);
            self.ask_state(now, if reachable { member } else { by });
        }
        let life = LifeRecord { boot: facts.boot, ceiling: facts.ceiling };
        self.ceilings.hear(&self.seen, member, life);
        if back {
            self.on_target_back(now, member);
        }
        self.decree.on_epochs(member, facts.epoch, facts.stored);
        self.run_decree(now);
        self.look_at_moves(now);
        self.finish_changes();
        self.replay_on(now);
    }

    pub(super) fn own_facts(&self, now: Now) -> ProbeFacts {
        ProbeFacts {
            epoch: self.epoch(),
            stored: self.decree.stored(),
            serving: self.phase == Phase::Serving,
            wall: now.wall,
            clock: self.clock.of_record(now.wall),
            ceiling: self.clock.ceiling(),
            boot: self.boot,
            client_address: self.config.client_address.clone(),
            replica: self.replica,
            hints: self.hints.books.totals().count,
            custody: self.hints.books.news(),
            unwell: self.members.links().told(now.mono),
            acknowledged: self.topology.acknowledged(),
            fills: self.fill_news_told(now),
            custody_clear: self.floors.custody_clear(),
            long_down: self.long_down(),
            mirror: self.mirror_news(now.wall),
            load: self.load.told(),
            work: self.load.work(),
        }
    }
}

//! The members as one node sees them, by direct probes.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Links;
use crate::message::{CustodyNews, Liveness, ProbeFacts};
use crate::types::{Epoch, NodeId, Now, Time, WallTime};

/// The periods of probing.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Period of probes.
    pub probe_interval: Duration,
    /// Silence after which a member is suspect.
    pub suspect_after: Duration,
    /// Silence after which a member is down.
    pub down_after: Duration,
}

/// All other members.
#[derive(Debug)]
pub struct Members {
    timing: Timing,
    peers: BTreeMap<NodeId, Peer>,
    seq: u64,
    probe_at: Time,
    /// Targets for which some member has said that it holds custody.
    held_for: BTreeSet<NodeId>,
    /// A member has said that it holds custody for more targets than it named.
    held_for_others: bool,
    links: Links,
}

#[derive(Debug)]
struct Peer {
    last_heard: Time,
    /// Nothing has failed since it was last heard.
    link_up: bool,
    liveness: Liveness,
    probe: Option<(u64, Time)>,
    facts: Option<(Arc<ProbeFacts>, Time)>,
    clock_offset_ns: i64,
}

/// What is known of a member.
#[derive(Clone, Debug)]
pub struct MemberFacts {
    /// Whether it answers.
    pub liveness: Liveness,
    /// What it last said of itself.
    pub facts: Option<Arc<ProbeFacts>>,
    /// When it said that.
    pub told: Option<Time>,
    /// Its wall clock against ours, in nanoseconds; positive when it is ahead.
    pub clock_offset_ns: i64,
}

impl Members {
    /// Nobody yet. The first probes are due at once.
    pub fn new(now: Now, timing: Timing) -> Members {
        Members {
            timing,
            peers: BTreeMap::new(),
            seq: 0,
            probe_at: now.mono,
            held_for: BTreeSet::new(),
            held_for_others: false,
            links: Links::default(),
        }
    }

    /// Replaces who is probed; what is known of those who stay is kept. New ones are given the
    /// benefit of the doubt.
    pub fn set_peers(&mut self, now: Now, peers: impl Iterator<Item = NodeId>) {
        let mut before = core::mem::take(&mut self.peers);
        for id in peers {
            let fresh = Peer {
                last_heard: now.mono,
                link_up: true,
                liveness: Liveness::Alive,
                probe: None,
                facts: None,
                clock_offset_ns: 0,
            };
            let peer = before.remove(&id).unwrap_or(fresh);
            self.peers.insert(id, peer);
        }
        // This node's own is not among them, and known anew with the next answer.
        self.links.retain(|id| self.peers.contains_key(&id));
        self.recount_custody();
    }

    /// How the ways to them are.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// The same, to be told.
    pub fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }

    /// All probed members.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.keys().copied()
    }

    /// A member has said something. Returns whether its liveness changed.
    pub fn on_heard(&mut self, now: Now, from: NodeId) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        peer.last_heard = now.mono;
        peer.link_up = true;
        core::mem::replace(&mut peer.liveness, Liveness::Alive) != Liveness::Alive
    }

    /// A message could not be handed to a member. Returns whether that is news: what was asked of
    /// it before should not be waited for.
    pub fn on_unreachable(&mut self, peer: NodeId) -> bool {
        let Some(peer) = self.peers.get_mut(&peer) else { return false };
        peer.liveness = peer.liveness.max(Liveness::Suspect);
        core::mem::replace(&mut peer.link_up, false)
    }

    /// A member has told its facts, in a probe or an answer to probe `seq`.
    pub fn on_facts(&mut self, now: Now, from: NodeId, facts: Arc<ProbeFacts>, seq: Option<u64>) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if let Some(seq) = seq
            && let Some((_, sent)) = peer.probe.take_if(|(open, _)| *open == seq)
        {
            let halfway = now.mono.since(sent) / 2;
            let theirs = i128::from(facts.wall.plus(halfway).0);
            let offset = theirs - i128::from(now.wall.0);
            let bound = i128::from(i64::MAX);
            peer.clock_offset_ns = i64::try_from(offset.clamp(-bound, bound)).unwrap_or(0);
        }
        let before = peer.facts.replace((facts.clone(), now.mono));
        let changed = match before {
            Some((before, _)) => before.custody != facts.custody,
            None => facts.custody != CustodyNews::default(),
        };
        if changed {
            self.recount_custody();
        }
    }

    fn recount_custody(&mut self) {
        let facts = self.peers.values().filter_map(|peer| peer.facts.as_ref());
        let news: Vec<&CustodyNews> = facts.map(|(facts, _)| &facts.custody).collect();
        self.held_for_others = news.iter().any(|news| news.others);
        let named = news.iter().flat_map(|news| &news.targets);
        self.held_for = named.filter(|(_, count)| *count > 0).map(|(target, _)| *target).collect();
    }

    /// Whether a member has said that it holds custody for `target`, and not otherwise since.
    pub fn custody_is_held_for(&self, target: NodeId) -> bool {
        self.held_for_others || self.held_for.contains(&target)
    }

    /// Whether every member has said, since this node's boot, for whom it holds custody.
    pub fn custody_is_known(&self) -> bool {
        self.peers.values().all(|peer| peer.facts.is_some())
    }

    /// Whether asking `member` now has a chance.
    pub fn is_reachable(&self, member: NodeId) -> bool {
        self.peers.get(&member).is_some_and(|peer| peer.link_up && peer.liveness != Liveness::Down)
    }

    /// Whether `member` has last said that it serves.
    pub fn serves(&self, member: NodeId) -> bool {
        let facts = self.peers.get(&member).and_then(|peer| peer.facts.as_ref());
        facts.is_some_and(|(facts, _)| facts.serving)
    }

    /// What is known of `member`.
    pub fn facts(&self, member: NodeId) -> Option<MemberFacts> {
        self.peers.get(&member).map(|peer| MemberFacts {
            liveness: peer.liveness,
            facts: peer.facts.as_ref().map(|(facts, _)| facts.clone()),
            told: peer.facts.as_ref().map(|(_, told)| *told),
            clock_offset_ns: peer.clock_offset_ns,
        })
    }

    /// The epoch that `member` last said is in force with it; 0 when it has said nothing.
    pub fn epoch(&self, member: NodeId) -> Epoch {
        let facts = self.peers.get(&member).and_then(|peer| peer.facts.as_ref());
        facts.map_or(Epoch(0), |(facts, _)| facts.epoch)
    }

    /// The median of the other members' clocks of record now, carried on from when each was last
    /// told; of an even number the higher one in the middle. `None` when nobody has told lately.
    pub fn median_clock(&self, now: Now) -> Option<WallTime> {
        let fresh = self.peers.values().filter_map(|peer| {
            let (facts, heard) = peer.facts.as_ref()?;
            let age = now.mono.since(*heard);
            (age <= self.timing.down_after).then(|| facts.clock.plus(age))
        });
        let mut clocks: Vec<WallTime> = fresh.collect();
        clocks.sort_unstable();
        clocks.get(clocks.len() / 2).copied()
    }

    /// Everybody should hear of this node's news now, not at the next period.
    pub fn probe_soon(&mut self, now: Now) {
        self.probe_at = now.mono;
    }

    /// When [`Members::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Time {
        self.probe_at
    }

    /// Judges silences and returns the probes to send: member and sequence number. Empty before
    /// it is due. The flag says whether any liveness changed.
    pub fn on_time(&mut self, now: Now) -> (Vec<(NodeId, u64)>, bool) {
        if now.mono < self.probe_at {
            return (Vec::new(), false);
        }
        self.probe_at = now.mono.plus(self.timing.probe_interval);
        let (mut probes, mut changed) = (Vec::new(), false);
        for (&id, peer) in &mut self.peers {
            let silence = now.mono.since(peer.last_heard);
            let liveness = if silence >= self.timing.down_after {
                Liveness::Down
            } else if silence >= self.timing.suspect_after || !peer.link_up {
                Liveness::Suspect
            } else {
                Liveness::Alive
            };
            changed |= core::mem::replace(&mut peer.liveness, liveness) != liveness;
            self.seq += 1;
            peer.probe = Some((self.seq, now.mono));
            probes.push((id, self.seq));
        }
        (probes, changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const B: NodeId = NodeId(2);

    fn now(seconds: u64) -> Now {
        Now { mono: Time(seconds * S), wall: WallTime(1_000_000 * S + seconds * S) }
    }

    fn members() -> Members {
        let timing = Timing {
            probe_interval: Duration::from_secs(1),
            suspect_after: Duration::from_secs(2),
            down_after: Duration::from_secs(10),
        };
        let mut members = Members::new(now(0), timing);
        members.set_peers(now(0), [B].into_iter());
        members
    }

    #[test]
    fn silence_makes_a_member_suspect_then_down_and_a_word_brings_it_back() {
        let mut members = members();
        let liveness = |members: &Members| members.facts(B).unwrap().liveness;
        assert!(!members.on_time(now(1)).1);
        assert!(members.on_time(now(3)).1);
        assert_eq!(liveness(&members), Liveness::Suspect);
        assert!(members.is_reachable(B));
        members.on_time(now(10));
        assert_eq!(liveness(&members), Liveness::Down);
        assert!(!members.is_reachable(B));
        assert!(members.on_heard(now(11), B));
        assert!(members.is_reachable(B));
    }

    #[test]
    fn a_failed_link_is_news_once_until_the_member_is_heard_again() {
        let mut members = members();
        assert!(members.on_unreachable(B));
        assert!(!members.on_unreachable(B));
        assert!(!members.is_reachable(B));
        assert_eq!(members.facts(B).map(|facts| facts.liveness), Some(Liveness::Suspect));
        members.on_time(now(1));
        assert_eq!(members.facts(B).map(|facts| facts.liveness), Some(Liveness::Suspect));
        members.on_heard(now(1), B);
        assert!(members.on_unreachable(B));
    }

    #[test]
    fn the_offset_of_a_clock_is_measured_over_a_round_trip() {
        let mut members = members();
        let (probes, _) = members.on_time(now(0));
        let (_, seq) = probes[0];
        let facts = ProbeFacts { wall: now(6).wall, clock: now(6).wall, ..ProbeFacts::default() };
        members.on_facts(now(2), B, Arc::new(facts), Some(seq));
        assert_eq!(members.facts(B).unwrap().clock_offset_ns, 5 * S as i64);
        assert_eq!(members.median_clock(now(3)), Some(now(7).wall));
        assert_eq!(members.median_clock(now(60)), None);
    }
}

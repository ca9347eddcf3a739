//! The members as one node sees them: who answers, and what they have told of themselves. The
//! protocol behind it is in `probing` (what this node finds out), `hearing` (what it is told) and
//! `telling` (what it passes on).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fastrand::Rng;

use super::health::Health;
use super::peer::Peer;
use super::probing::{Relayed, Round};
use super::rumours::Rumours;
use super::suspicion::Suspicion;
use super::timing::{ALL_PROBED_MAX, Timing};
use super::{Links, timing};
use crate::message::{CustodyNews, Incarnation, Liveness, PeerMessage, ProbeFacts};
use crate::types::{Epoch, NodeId, Now, Time, WallTime};

/// What membership wants done. Probes, answers and news get their contents from
/// [`Members::compose`] at the moment they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersAction {
    /// Send a probe of this number.
    Probe(NodeId, u64),
    /// Answer the probe of this number.
    Answer(NodeId, u64),
    /// Send news.
    News(NodeId),
    /// Send this.
    Send(NodeId, PeerMessage),
    /// A member has told something new of itself, to this node or to who is named.
    Told {
        /// Whose facts are new.
        member: NodeId,
        /// Who told.
        by: NodeId,
        /// Whether it serves, and had not said so before.
        back: bool,
    },
    /// The liveness of a member has changed; it is this now.
    Changed(NodeId, Liveness),
}

/// All other members.
#[derive(Debug)]
pub struct Members {
    pub(super) timing: Timing,
    pub(super) me: NodeId,
    pub(super) rng: Rng,
    pub(super) own: Own,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    /// The keys of `peers`, to choose from.
    pub(super) ids: Vec<NodeId>,
    /// Since when this node has been watching.
    pub(super) started: Time,
    /// The number of the last probe.
    pub(super) seq: u64,
    pub(super) period_at: Time,
    /// When what is open is next looked at, if anything is.
    pub(super) tick_at: Time,
    pub(super) sync_at: Time,
    /// When news may next be spread.
    pub(super) news_at: Time,
    /// Whom to probe in the coming periods, from the back; each member once.
    pub(super) order: Vec<NodeId>,
    /// Members that have been probed and not heard of since.
    pub(super) rounds: BTreeMap<NodeId, Round>,
    /// Probes sent for others, by number.
    pub(super) relayed: BTreeMap<u64, Relayed>,
    /// Probes that are timed: to whom and when.
    pub(super) timed: BTreeMap<u64, (NodeId, Time)>,
    /// Of suspect members.
    pub(super) suspicions: BTreeMap<NodeId, Suspicion>,
    pub(super) health: Health,
    /// Whether members are probed yet.
    pub(super) probes: bool,
    /// What all should hear soon.
    pub(super) urgent: Rumours,
    /// Facts that are merely fresh.
    pub(super) fresh: Rumours,
    /// Targets for which some member has said that it holds custody.
    held_for: BTreeSet<NodeId>,
    /// A member has said that it holds custody for more targets than it named.
    held_for_others: bool,
    links: Links,
    pub(super) actions: VecDeque<MembersAction>,
}

/// What this node says of itself.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) incarnation: Incarnation,
    /// Of the facts told last, 0 before the first.
    pub(super) seq: u64,
    pub(super) facts: Option<(Arc<ProbeFacts>, Time)>,
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
    /// Nobody yet; the first probes are due at once. This node is member `me` in its boot of this
    /// number, and draws from `rng`.
    pub fn new(now: Now, timing: Timing, (me, boot): (NodeId, u64), rng: Rng) -> Members {
        Members {
            timing,
            me,
            rng,
            own: Own { incarnation: Incarnation { boot, refuted: 0 }, seq: 0, facts: None },
            peers: BTreeMap::new(),
            ids: Vec::new(),
            started: now.mono,
            seq: 0,
            period_at: now.mono,
            tick_at: now.mono,
            sync_at: now.mono,
            news_at: now.mono,
            order: Vec::new(),
            rounds: BTreeMap::new(),
            relayed: BTreeMap::new(),
            timed: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            health: Health::default(),
            probes: false,
            urgent: Rumours::default(),
            fresh: Rumours::default(),
            held_for: BTreeSet::new(),
            held_for_others: false,
            links: Links::default(),
            actions: VecDeque::new(),
        }
    }

    /// Replaces who is watched; what is known of those who stay is kept. New ones are given the
    /// benefit of the doubt, and are probed at some time in the coming round.
    pub fn set_peers(&mut self, now: Now, peers: impl Iterator<Item = NodeId>) {
        let mut before = core::mem::take(&mut self.peers);
        for id in peers.filter(|id| *id != self.me) {
            let known = before.remove(&id);
            if known.is_none() {
                let place = self.rng.usize(..=self.order.len());
                self.order.insert(place, id);
            }
            self.peers.insert(id, known.unwrap_or_else(|| Peer::new(now.mono)));
        }
        let peers = &self.peers;
        let stays = |id: NodeId| peers.contains_key(&id);
        self.ids = peers.keys().copied().collect();
        self.order.retain(|id| stays(*id));
        self.rounds.retain(|id, _| stays(*id));
        self.suspicions.retain(|id, _| stays(*id));
        self.relayed.retain(|_, relayed| stays(relayed.target));
        self.urgent.retain(|id| stays(id) || id == self.me);
        self.fresh.retain(stays);
        // This node's own is not among them, and known anew with the next answer.
        self.links.retain(stays);
        self.recount_custody();
    }

    /// Takes out what is to be done next.
    pub fn poll_action(&mut self) -> Option<MembersAction> {
        self.actions.pop_front()
    }

    /// How the ways to them are.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// The same, to be told.
    pub fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }

    /// All members but this one.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.ids.iter().copied()
    }

    /// This node's incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.own.incarnation
    }

    /// By how much this node stretches its judgements, because it finds itself slow: 1 when it is well.
    pub fn patience(&self) -> u32 {
        self.health.patience()
    }

    /// Whether a member has said that it holds custody for `target`, and not otherwise since.
    pub fn custody_is_held_for(&self, target: NodeId) -> bool {
        self.held_for_others || self.held_for.contains(&target)
    }

    /// Whether every member has said, since this node's boot, for whom it holds custody.
    pub fn custody_is_known(&self) -> bool {
        self.peers.values().all(|peer| peer.facts.as_ref().is_some_and(|facts| facts.is_of_now))
    }

    /// Whether asking `member` now has a chance.
    pub fn is_reachable(&self, member: NodeId) -> bool {
        self.peers.get(&member).is_some_and(Peer::is_reachable)
    }

    /// Whether `member` has last said that it serves. An older copy of it, which answers in its place, does
    /// not.
    pub fn serves(&self, member: NodeId) -> bool {
        !self.is_older_self(member) && self.told(member).is_some_and(|facts| facts.serving)
    }

    /// Whether an older copy of `member` answers in its place, which never serves again.
    pub fn is_older_self(&self, member: NodeId) -> bool {
        self.peers.get(&member).is_some_and(|peer| peer.is_older_self)
    }

    /// What is known of `member`.
    pub fn facts(&self, member: NodeId) -> Option<MemberFacts> {
        self.peers.get(&member).map(|peer| MemberFacts {
            liveness: peer.liveness(),
            facts: peer.facts.as_ref().map(|facts| facts.facts.clone()),
            told: peer.facts.as_ref().map(|facts| facts.told),
            clock_offset_ns: peer.clock_offset_ns,
        })
    }

    /// What `member` last said of itself.
    pub fn told(&self, member: NodeId) -> Option<&Arc<ProbeFacts>> {
        self.peers.get(&member)?.facts.as_ref().map(|facts| &facts.facts)
    }

    /// The epoch that `member` last said is in force with it; 0 when it has said nothing.
    pub fn epoch(&self, member: NodeId) -> Epoch {
        self.told(member).map_or(Epoch(0), |facts| facts.epoch)
    }

    /// The median of the other members' clocks of record now, carried on from when each was last
    /// told; of an even number the higher one in the middle. `None` when nobody has told lately.
    pub fn median_clock(&self, now: Now) -> Option<WallTime> {
        let fresh = self.peers.values().filter_map(|peer| {
            let facts = peer.facts.as_ref()?;
            let age = now.mono.since(facts.told);
            (age <= self.timing.down_after).then(|| facts.facts.clock.plus(age))
        });
        let mut clocks: Vec<WallTime> = fresh.collect();
        clocks.sort_unstable();
        clocks.get(clocks.len() / 2).copied()
    }

    /// Whether so few others are there that all of them are probed in each period.
    pub(super) fn is_small(&self) -> bool {
        self.ids.len() <= ALL_PROBED_MAX
    }

    pub(super) fn recount_custody(&mut self) {
        let facts = self.peers.values().filter_map(|peer| peer.facts.as_ref());
        let news: Vec<&CustodyNews> = facts.map(|facts| &facts.facts.custody).collect();
        self.held_for_others = news.iter().any(|news| news.others);
        let named = news.iter().flat_map(|news| &news.targets);
        self.held_for = named.filter(|(_, count)| *count > 0).map(|(target, _)| *target).collect();
    }

    /// Up to `count` different members at random, among those that `fits`.
    pub(super) fn choose(&mut self, count: usize, fits: impl Fn(&Peer) -> bool) -> Vec<NodeId> {
        let mut chosen = Vec::new();
        if self.ids.len() <= timing::ALL_TOLD_MAX {
            let fit = self.peers.iter().filter(|(_, peer)| fits(peer)).map(|(id, _)| *id);
            chosen.extend(fit);
            self.rng.shuffle(&mut chosen);
            chosen.truncate(count);
            return chosen;
        }
        // Where most fit, a few draws find them; where few do, fewer will have to be enough.
        for _ in 0..8 * count {
            let Some(id) = self.rng.choice(&self.ids).copied() else { break };
            if chosen.len() < count
                && !chosen.contains(&id)
                && self.peers.get(&id).is_some_and(&fits)
            {
                chosen.push(id);
            }
        }
        chosen
    }
}

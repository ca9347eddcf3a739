//! What is done twice before everybody has heard of the first time. By chance alone neither happens.
//!
//! A plan that is turned round and round again: of a unit that is read from its new owners two of the old ones hear
//! of nothing for seconds; the unit goes back, and forward again. Its old owners may be given up only once they have
//! heard that they are read no more.
//!
//! A council member that proposes two states for one epoch: it loses power when its first proposal has come to
//! one acceptor alone, which is cut off with it; it comes back, proposes another state, decides it, and cannot say
//! so; then that acceptor meets the one that has accepted the second. What keeps the two apart is that no ballot is
//! given twice, whatever a crash made the proposer forget.

use roundtable::message::TimeToLive;
use roundtable::message::{AdminRequest, DecreeMessage, Event, PlanChange, TopologyRequest};
use roundtable::types::{ClusterState, Key, Move, MovePhase, NodeId, PlanStatus, RequestId, Unit};

use crate::client::{Want, keys};
use crate::plan::{MS, SECOND, exponential};

use super::host::machine;
use super::late::BEFORE_PEACE;
use super::nemesis::Strike;
use super::schema::Asked;
use super::traffic::unit;
use super::{Happening, Stage, World};

/// How long one attempt may take.
const WITHIN: u64 = 6 * SECOND;
/// How often it is looked how far it is.
const LOOKED_AT: u64 = 20 * MS;

/// Two owners that hear of nothing, and a key of theirs. When its unit has turned round twice, clients write it
/// elsewhere and read it there: what those two have not heard of is missing from what they answer.
#[derive(Clone, Debug)]
pub(super) struct Focus {
    key: Key,
    pair: Vec<usize>,
    until: u64,
    begun: bool,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twice {
    proposer: usize,
    /// Whether it has been asked for a change since its last boot.
    asked: bool,
    /// Who has accepted what it proposed first.
    keeper: Option<usize>,
    until: u64,
}

impl World {
    /// A node acts by a state that nobody acted by before.
    pub(super) fn turn_twice(&mut self, state: &ClusterState, share: f64) {
        let Some(plan) = &state.topology.plan else { return };
        let moves = state.classes.iter().flat_map(|class| {
            class
                .moves
                .iter()
                .map(move |moving| (Unit { class: class.id, partition: moving.partition }, moving))
        });
        let moves: Vec<(Unit, &Move)> = moves.collect();
        if self.now < self.late.held_until {
            let undoes = |moving: &Move| moving.phase == MovePhase::ReadOld && moving.was_read;
            let is_back = plan.status == PlanStatus::RollingBack;
            if is_back
                && moves.iter().any(|(_, moving)| undoes(moving))
                && self.late.turned < state.epoch
            {
                self.late.turned = state.epoch;
                if let Some(focus) = &mut self.late.focus {
                    focus.begun = true;
                }
                let forward = self.late.rng.u64(..10 * MS);
                self.later(forward, Happening::TurnPlan(PlanChange::Resume));
                self.totals.turned_twice += 1;
            }
            return;
        }
        if plan.status != PlanStatus::Running || self.late.rng.f64() >= share {
            return;
        }
        let reads_new = |(_, moving): &(Unit, &Move)| moving.phase == MovePhase::ReadNew;
        // Two that stay hold writes up; one that stays and one that goes can answer reads by themselves.
        let staying = self.late.rng.usize(1..=2);
        let pairs = moves.into_iter().filter(reads_new).filter_map(|(unit, moving)| {
            let stays = |id: &NodeId| state.owners(unit).contains(id);
            let (mut pair, mut going): (Vec<NodeId>, Vec<NodeId>) =
                moving.other.iter().copied().partition(stays);
            for list in [&mut pair, &mut going] {
                list.sort_by_key(|id| state.council.contains(id));
            }
            pair.truncate(staying);
            pair.extend(going.into_iter().take(2 - staying));
            (pair.len() == 2).then_some((unit, pair))
        });
        // Who decides and takes the steps is among the others, if it can be.
        let seats = |pair: &[NodeId]| pair.iter().filter(|id| state.council.contains(id)).count();
        let Some((of, pair)) = pairs.min_by_key(|(_, pair)| seats(pair)) else { return };
        let late = self.late.rng.u64(1_500 * MS..3 * SECOND);
        let long = late + self.late.rng.u64(SECOND..2 * SECOND);
        let can_decide = (state.council.len() - seats(&pair)) * 2 > state.council.len();
        if can_decide && self.now + late + long + BEFORE_PEACE < self.plan.turmoil {
            self.late.held_until = self.now + long;
            self.hold_back(&pair, (late, long));
            let keys = keys(&self.plan.clients).into_iter();
            let keys: Vec<Key> = keys.filter(|key| unit(state, key) == Some(of)).collect();
            let key = (!keys.is_empty()).then(|| keys[self.late.rng.usize(..keys.len())].clone());
            let pair: Vec<usize> = pair.iter().map(|id| machine(*id)).collect();
            let until = self.now + late;
            self.late.focus = key.map(|key| Focus { key, pair, until, begun: false });
            let back = self.late.rng.u64(..30 * MS);
            self.later(back, Happening::TurnPlan(PlanChange::RollBack));
            self.totals.turned += 1;
        }
    }

    /// While two hear of nothing: another one that serves.
    pub(super) fn unheld_host(&mut self) -> Option<usize> {
        let focus = self.late.focus.as_ref().filter(|focus| self.now < focus.until)?;
        let serves = |host: &usize| !focus.pair.contains(host) && self.hosts[*host].serves();
        let others: Vec<usize> = (0..self.hosts.len()).filter(serves).collect();
        (!others.is_empty()).then(|| others[self.late.rng.usize(..others.len())])
    }

    /// An operator asks one node for a change of the plan.
    pub(super) fn ask_plan_at(&mut self, host: usize, change: PlanChange) {
        let id = RequestId(u128::from(self.late.rng.u64(1..)));
        let request = AdminRequest::Topology(Box::new(TopologyRequest::Change { id, change }));
        self.ask_about_tables(host, Asked::Late, |deadline, op| Event::Admin {
            op,
            deadline,
            request,
        });
    }

    /// What a client does while there is a key that all look at.
    pub(super) fn focused(&mut self, client: usize) -> Option<Want> {
        let focus =
            self.late.focus.as_ref().filter(|focus| focus.begun && self.now < focus.until)?;
        let (key, client) = (focus.key.clone(), &mut self.clients[client]);
        Some(match client.rng.bool() {
            true => Want::Get { key, r: None },
            false => {
                let value = Some(client.value(40));
                Want::Put { key, value, ttl: TimeToLive::Table, w: None }
            }
        })
    }

    /// Whom it asks: for reads one of the two, for writes another one.
    pub(super) fn focused_host(&self, want: &Want, drawn: usize) -> usize {
        let focus = self.late.focus.as_ref().filter(|focus| focus.begun && self.now < focus.until);
        let Some(focus) = focus.filter(|focus| want.key() == Some(&focus.key)) else {
            return drawn;
        };
        match want {
            Want::Get { .. } => focus.pair[drawn % focus.pair.len()],
            Want::Put { .. } | Want::Scan { .. } => {
                let others = (0..self.hosts.len()).filter(|host| !focus.pair.contains(host));
                others.min_by_key(|host| (host + drawn) % self.hosts.len()).unwrap_or(drawn)
            }
        }
    }

    /// Begins an attempt, or goes on with it.
    pub(super) fn propose_twice(&mut self) {
        if self.stage != Stage::Turmoil {
            return;
        }
        let Some(twice) = self.late.twice else { return self.begin_twice() };
        if self.now > twice.until {
            self.late.twice = None;
            let wait = exponential(&mut self.late.rng, 2 * SECOND);
            return self.later(wait, Happening::ProposeTwice);
        }
        self.later(LOOKED_AT, Happening::ProposeTwice);
        if let Some(keeper) = twice.keeper {
            // It asks the other one now.
            self.network.link(twice.proposer, keeper).cut = true;
        }
        if twice.asked || !self.hosts[twice.proposer].serves() {
            return;
        }
        self.late.twice = Some(Twice { asked: true, ..twice });
        // It changes nothing but the number of the change.
        let id = RequestId(u128::from(self.late.rng.u64(1..)));
        let request = TopologyRequest::Change { id, change: PlanChange::Clear };
        let request = AdminRequest::Topology(Box::new(request));
        self.ask_about_tables(twice.proposer, Asked::Late, |deadline, op| Event::Admin {
            op,
            deadline,
            request,
        });
    }

    /// A member of a council of three starts anew: what it proposes next is the first of its life.
    fn begin_twice(&mut self) {
        let wait = exponential(&mut self.late.rng, 2 * SECOND);
        let state = self.state();
        let council: Vec<usize> = state
            .map(|state| state.council.iter().map(|id| machine(*id)).collect())
            .unwrap_or_default();
        let sound = |host: &usize| self.hosts[*host].serves() && self.hosts[*host].doomed.is_none();
        let is_late = self.now + WITHIN + SECOND > self.plan.turmoil;
        let is_apart = self.now < self.late.apart_until;
        if council.len() != 3
            || !council.iter().all(sound)
            || is_late
            || is_apart
            || !self.may_die()
        {
            return self.later(wait, Happening::ProposeTwice);
        }
        let proposer = council[self.late.rng.usize(..council.len())];
        let until = self.now + WITHIN;
        self.late.twice = Some(Twice { proposer, asked: false, keeper: None, until });
        self.late.apart_until = until;
        self.kill(proposer);
        let back = self.late.rng.u64(10 * MS..50 * MS);
        self.start_after(proposer, back);
        self.later(LOOKED_AT, Happening::ProposeTwice);
    }

    /// Whether operators leave the cluster alone for a moment.
    pub(super) fn is_proposing_twice(&self) -> bool {
        self.late.twice.is_some()
    }

    /// A council member says something.
    pub(super) fn aim_twice(&mut self, (from, to): (usize, usize), message: &DecreeMessage) {
        let Some(twice) = self.late.twice.filter(|twice| twice.asked) else { return };
        let others = |of: usize| (0..self.hosts.len()).filter(move |host| *host != of);
        match (message, twice.keeper) {
            // The first acceptor it asks is the only one that hears it.
            (DecreeMessage::Accept { .. }, None) if from == twice.proposer => {
                // It was late to say so: it is too late to go on.
                let Some(long) = twice.until.checked_sub(self.now) else {
                    self.late.twice = None;
                    return;
                };
                let apart = others(to).flat_map(|other| [(to, other), (other, to)]);
                let links: Vec<(usize, usize)> = apart.collect();
                for other in others(from).filter(|other| *other != to).collect::<Vec<_>>() {
                    self.network.link(from, other).cut = true;
                    self.later(MS, Happening::Nemesis(Strike::Join(vec![(from, other)])));
                }
                self.late.twice = Some(Twice { asked: false, keeper: Some(to), ..twice });
                self.later(0, Happening::Nemesis(Strike::Forget(from, links, long)));
                self.later(long, Happening::Nemesis(Strike::Join(vec![(from, to)])));
            }
            // It is about to decide the second, and cannot say so. The two that have accepted meet.
            (DecreeMessage::Accepted { .. }, Some(keeper))
                if to == twice.proposer && from != keeper =>
            {
                let silent: Vec<(usize, usize)> = others(to).map(|other| (to, other)).collect();
                for (from, to) in &silent {
                    self.network.link(*from, *to).cut = true;
                }
                let long = self.late.rng.u64(2 * SECOND..4 * SECOND);
                self.later(long, Happening::Nemesis(Strike::Join(silent)));
                let meet = vec![(keeper, from), (from, keeper)];
                self.later(0, Happening::Nemesis(Strike::Join(meet)));
                self.late.twice =
                    Some(Twice { asked: true, keeper: None, until: self.now, ..twice });
                self.totals.proposed_twice += 1;
            }
            _ => {}
        }
    }
}

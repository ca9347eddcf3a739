//! Faults aimed at members that change: members of the council that die when a step is decided, owners that
//! are kept behind while their set is given up, and plans that are turned round meanwhile. By chance alone
//! these hardly happen at the moment that matters.

use roundtable::message::{Hint, PlanChange};
use roundtable::types::{ClusterState, Move, MovePhase, NodeId, Role, Unit};

use crate::client::hot_key;
use crate::plan::{MS, SECOND, exponential};

use super::host::{machine, member};
use super::nemesis::Strike;
use super::sloppy::has_hints;
use super::traffic::unit;
use super::{Happening, Stage, World};

impl World {
    /// A node acts by `state`, which nobody did before.
    pub(super) fn aim(&mut self, state: &ClusterState) {
        let Some(plan) = self.topology.plan.filter(|_| self.stage == Stage::Turmoil) else {
            return;
        };
        if state.epoch <= self.topology.newest {
            return;
        }
        self.topology.newest = state.epoch;
        if state.topology.plan.is_none() {
            return;
        }
        if self.topology.rng.f64() < plan.deaths {
            let seat = self.topology.rng.usize(..state.council.len().max(1));
            let after = self.topology.rng.u64(..20 * MS);
            let Some(victim) = state.council.get(seat) else { return };
            self.later(after, Happening::Nemesis(Strike::Die(machine(*victim))));
        }
        if self.topology.rng.f64() < plan.strays {
            self.keep_behind(state);
        }
        let given_up = |moving: &Move| moving.phase == MovePhase::ReadNew;
        let some = state.classes.iter().flat_map(|class| &class.moves).any(given_up);
        if some && self.topology.rng.f64() < plan.meddles * plan.strays {
            // Both while who is behind knows of neither.
            let back = self.topology.rng.u64(..100 * MS);
            let forward = back + self.topology.rng.u64(30 * MS..400 * MS);
            self.later(back, Happening::TurnPlan(PlanChange::RollBack));
            self.later(forward, Happening::TurnPlan(PlanChange::Resume));
        }
    }

    /// An operator turns the plan round, whatever it is at.
    pub(super) fn turn_plan(&mut self, change: PlanChange) {
        if self.stage == Stage::Turmoil {
            self.totals.rollbacks += u64::from(change == PlanChange::RollBack);
            match self.unheld_host() {
                Some(host) => self.ask_plan_at(host, change),
                None => self.ask_plan(change),
            }
        }
    }

    /// Two owners of a unit that has begun to move, as many as answer a read, hear everything late from now
    /// on but from each other, as long as a majority of the council is among the others. Who leaves is one
    /// of them: so the new owners can take writes without them.
    fn keep_behind(&mut self, state: &ClusterState) {
        let hot = (0..self.plan.clients.hot_keys).map(hot_key);
        let used: Vec<Unit> = hot.filter_map(|key| unit(state, &key)).collect();
        let mut begun: Vec<(Unit, &Vec<NodeId>)> = Vec::new();
        for class in &state.classes {
            let begins = class.moves.iter().filter(|moving| {
                moving.phase == MovePhase::ReadOld && !moving.was_read && moving.other.len() >= 3
            });
            let of_class = |moving: &Move| Unit { class: class.id, partition: moving.partition };
            begun.extend(begins.map(|moving| (of_class(moving), &moving.other)));
        }
        // Where much is read and written, if that is among them.
        if begun.iter().any(|(unit, _)| used.contains(unit)) {
            begun.retain(|(unit, _)| used.contains(unit));
        }
        if begun.is_empty() {
            return;
        }
        let (chosen, to) = begun.swap_remove(self.topology.rng.usize(..begun.len()));
        let mut pair = state.owners(chosen).to_vec();
        self.topology.rng.shuffle(&mut pair);
        pair.sort_by_key(|id| to.contains(id));
        pair.truncate(2);
        let seated = state.council.iter().filter(|id| !pair.contains(id)).count();
        if seated * 2 <= state.council.len() {
            return;
        }
        let inside: Vec<usize> = pair.into_iter().map(machine).collect();
        let outside = (0..self.hosts.len()).filter(|host| !inside.contains(host));
        let links: Vec<(usize, usize)> =
            outside.flat_map(|host| inside.iter().map(move |one| (host, *one))).collect();
        let late = self.topology.rng.u64(200 * MS..2 * SECOND);
        for (from, to) in &links {
            self.network.link(*from, *to).slow = late;
        }
        self.totals.kept_behind += 1;
        let long = SECOND + exponential(&mut self.topology.rng, 3 * SECOND);
        self.later(long, Happening::Nemesis(Strike::FastLinks(links)));
    }

    /// A member of the council loses power, if one more may.
    pub(super) fn die(&mut self, host: usize) {
        if self.may_die() && self.hosts[host].running.is_some() {
            self.totals.council_deaths += 1;
            self.crash(host);
        }
    }

    /// Whether the plan waits for what a member that leaves keeps for one whose disk is lost, of a unit that needs
    /// all of its owners for a write: the others are not enough to take it, so it can go home only once that one
    /// has been replaced, by another plan.
    pub(super) fn waits_for_lost_target(&self) -> bool {
        let Some(state) = self.state() else { return false };
        let moving = state.classes.iter().any(|class| !class.moves.is_empty());
        let waits = state.topology.plan.as_ref().is_some_and(|plan| plan.queue.is_empty());
        if moving || !waits {
            return false;
        }
        let lost = |host: &usize| self.hosts[*host].doomed.is_some();
        let lost: Vec<NodeId> = (0..self.hosts.len()).filter(lost).map(member).collect();
        let leaving = state.members.iter().filter(|member| member.role == Role::Leaving);
        let needs_all = |hint: &Hint| {
            let class = state.class(hint.unit.class);
            class.is_some_and(|class| class.w_min == class.n)
        };
        leaving.filter_map(|member| self.hosts[machine(member.id)].running.as_ref()).any(
            |running| lost.iter().any(|target| has_hints(&running.replica, *target, &needs_all)),
        )
    }
}

//! What must hold in every week, and what is counted.

use std::collections::{BTreeMap, BTreeSet};

use roundtable::types::{ClusterState, Epoch, NodeId, Role, Unit};

use super::rules;
use super::world::{GRACE, World};

/// When nothing has changed for so long, n copies are there again: the grace time, and the filling of three
/// members one after the other, each of which may get every unit where zones force more to move.
const RESTORED_WITHIN: u64 = GRACE + 6 * 3600;

/// The judge's book.
#[derive(Default)]
pub(super) struct Judge {
    /// The first thing that was wrong.
    pub(super) fault: Option<String>,
    hashes: BTreeMap<Epoch, u128>,
    /// The state of the highest epoch so far.
    newest: Option<ClusterState>,
    copies: usize,
    /// Members that owned something in the beginning: nothing here asks for more.
    active: usize,
    changed_at: u64,
    /// The last plan, and how many units it has moved at most.
    plan: Option<(u128, u32)>,
    /// Days that were judged.
    pub(super) days: u64,
    /// Of these, days on whose noon an active member was down for longer than it takes to replace it.
    pub(super) short: u64,
    /// Noons at which all copies had to be there, and were.
    pub(super) whole: u64,
    /// Of these, noons at which some unit had too few owners who answered to be filled.
    pub(super) bereft: u64,
    /// Members whose places were taken.
    pub(super) replaced: u64,
    /// Units that plans have moved.
    pub(super) moves: u64,
}

impl Judge {
    pub(super) fn new(first: &ClusterState) -> Judge {
        let active = first.members.iter().filter(|member| member.role == Role::Active).count();
        Judge { copies: first.units().count() * 3, active, ..Judge::default() }
    }

    pub(super) fn fail(&mut self, fault: String) {
        self.fault.get_or_insert(format!("day {}: {fault}", self.days));
    }

    /// Something that the cluster has to get over has begun, or ended.
    pub(super) fn note_change(&mut self, now: u64) {
        self.changed_at = now;
    }

    /// Somebody acts by a state, perhaps as the first.
    pub(super) fn state(&mut self, world: &World, state: &ClusterState, hash: u128) {
        let first = !self.hashes.contains_key(&state.epoch);
        if *self.hashes.entry(state.epoch).or_insert(hash) != hash {
            self.fail(format!("I7: epoch {} has two states", state.epoch));
        }
        if !first {
            return;
        }
        for unit in state.units() {
            let owners: BTreeSet<NodeId> = state.owners(unit).iter().copied().collect();
            if owners.len() != 3 || state.owners(unit).len() != 3 {
                self.fail(format!("I6: {unit:?} is owned by {:?}", state.owners(unit)));
            }
        }
        let plan = state.topology.plan.as_ref();
        let active = state.members.iter().filter(|member| member.role == Role::Active).count();
        if plan.is_none() && active > self.active {
            self.fail(format!(
                "epoch {}: {active} members are active, and {} were: what was in reserve is not",
                state.epoch, self.active
            ));
        }
        if let Some(plan) = plan {
            // One that another replacement has joined is the same, with more to move.
            let known = self.plan.filter(|(hash, _)| *hash == plan.hash).map_or(0, |known| known.1);
            self.moves += u64::from(plan.total.saturating_sub(known));
            self.plan = Some((plan.hash, plan.total.max(known)));
        }
        let before = self.newest.replace(state.clone());
        let before = before.filter(|before| before.epoch.0 + 1 == state.epoch.0);
        if let Some(Err(fault)) = before.map(|before| rules::judge(world, &before, state)) {
            self.fail(fault);
        }
        let decisions = state.topology.decisions.iter().filter(|d| d.epoch == state.epoch);
        for decision in decisions.filter(|decision| rules::is_taken(decision.kind)) {
            self.replaced += 1;
            let subject = decision.subject;
            let hearing = world.nodes.keys().filter(|id| world.hears(**id, subject)).count();
            if hearing > world.nodes.len() / 2 {
                self.fail(format!(
                    "{subject} is replaced in epoch {} ({}), and {hearing} members hear it",
                    decision.epoch, decision.reason
                ));
            }
        }
    }

    /// Nobody finds anything to do.
    pub(super) fn settled(&mut self, world: &World) {
        if let Some(Err(fault)) = self.newest.as_ref().map(|state| rules::settled(world, state)) {
            self.fail(fault);
        }
    }

    /// What there is at noon.
    pub(super) fn noon(&mut self, world: &World, state: &ClusterState) {
        self.days += 1;
        let is_down = |id: NodeId| !world.nodes[&id].up;
        let long = |id: NodeId| {
            let held = world.nodes.keys().filter_map(|by| world.down_for(*by, id)).max();
            is_down(id) && held.is_some_and(|held| held > GRACE + 300)
        };
        let active = state.members.iter().filter(|member| member.role == Role::Active);
        let dead: Vec<NodeId> = active.map(|member| member.id).filter(|id| long(*id)).collect();
        self.short += u64::from(!dead.is_empty());
        if !world.is_whole() || world.now < self.changed_at + RESTORED_WITHIN {
            return;
        }
        if !dead.is_empty() {
            let reserves = rules::reserve_for(world, state, &dead);
            if reserves == 0 {
                if let Err(fault) = rules::alarmed(world) {
                    self.fail(format!("{dead:?} are down for long: {fault}"));
                }
            } else {
                let plan = state
                    .topology
                    .plan
                    .as_ref()
                    .map(|plan| (plan.status, plan.begun.len(), plan.queue.len(), plan.total));
                self.fail(format!(
                    "{dead:?} are down for long, and {reserves} are in reserve; plan {plan:?}"
                ));
            }
            return;
        }
        let there = |unit, id: &NodeId| !is_down(*id) && world.is_complete(state, *id, unit);
        let copies_of = |unit| state.owners(unit).iter().filter(|id| there(unit, id)).count();
        // What too few have who answer nobody can fill before they are back.
        let (bereft, filled): (Vec<Unit>, Vec<Unit>) =
            state.units().partition(|unit| copies_of(*unit) < state.sources_wanted(*unit));
        self.bereft += u64::from(!bereft.is_empty());
        let copies: usize = filled.into_iter().map(copies_of).sum();
        // One that is down for less than its grace is an owner still.
        let wanted = if state.members.iter().any(|m| m.role == Role::Active && is_down(m.id)) {
            return;
        } else {
            self.copies - 3 * bereft.len()
        };
        self.whole += 1;
        if copies != wanted {
            let plan = state.topology.plan.is_some();
            self.fail(format!("I4: {copies} of {wanted} copies are there, a plan runs: {plan}"));
        }
    }
}

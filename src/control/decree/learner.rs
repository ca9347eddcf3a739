//! What has been decided, until it is in force: made durable here, told to the council it names, and
//! counted there.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::message::{DecreeMessage, Instance};
use crate::types::{ClusterState, Epoch, NodeId, Time};

use super::round::majority;
use super::{Decree, DecreeAction};

/// A decided state that is not known to be in force.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) state: Arc<ClusterState>,
    pub(super) durable: bool,
    /// Council members of the state itself that durably hold it.
    pub(super) stored_by: BTreeSet<NodeId>,
    /// Who wants to hear when it is durable here.
    tell: BTreeSet<NodeId>,
    /// Its council has been told once.
    told: bool,
    pub(super) resend_at: Time,
}

impl Held {
    /// What the store held when this boot began.
    pub(super) fn restored(state: Arc<ClusterState>, me: NodeId) -> Held {
        Held {
            state,
            durable: true,
            stored_by: BTreeSet::from([me]),
            tell: BTreeSet::new(),
            told: false,
            resend_at: Time(0),
        }
    }
}

impl Decree {
    /// A member has told, with a probe, which epoch is in force there and which it holds.
    pub fn on_epochs(&mut self, from: NodeId, in_force: Epoch, stored: Epoch) {
        let Some(held) = &self.held else { return };
        let (lineage, epoch) = (held.state.lineage, held.state.epoch);
        if in_force == epoch {
            self.out.push_back(DecreeAction::InForce(held.state.clone()));
        } else if stored >= epoch {
            self.on_stored(from, Instance { lineage, epoch });
        }
    }

    /// A decided state is durable here.
    pub fn on_decided_durable(&mut self, epoch: Epoch) {
        let Some(held) = self.held.as_mut().filter(|held| held.state.epoch == epoch) else {
            return;
        };
        held.durable = true;
        held.stored_by.insert(self.me);
        let instance = instance_of(&held.state);
        for to in core::mem::take(&mut held.tell) {
            self.send(to, DecreeMessage::Stored(instance));
        }
        self.settle();
    }

    pub(super) fn on_decided(&mut self, now: Time, from: NodeId, state: Arc<ClusterState>) {
        let Some(own) = self.state.clone() else { return };
        if (state.cluster, state.lineage) != (own.cluster, own.lineage) {
            return;
        }
        if state.epoch <= own.epoch {
            return self.out.push_back(DecreeAction::TellState(from));
        }
        self.abandon_round(state.epoch);
        self.recovering = false;
        self.recover_at = None;
        if let Some(held) = self.held.as_mut().filter(|held| held.state.epoch >= state.epoch) {
            if held.state.epoch > state.epoch {
                let newer = held.state.clone();
                self.send(from, DecreeMessage::Decided(newer));
            } else if held.state != state {
                self.out.push_back(DecreeAction::Contradiction(from, state.epoch));
            } else if held.durable {
                self.send(from, DecreeMessage::Stored(instance_of(&state)));
            } else {
                held.tell.insert(from);
            }
            return;
        }
        let mine = from == self.me;
        let patience = self.timing.retry.saturating_mul(2);
        let patience = if mine { Duration::ZERO } else { patience + self.draw(patience) };
        let tell = if mine { BTreeSet::new() } else { BTreeSet::from([from]) };
        let (durable, stored_by) = (false, BTreeSet::new());
        let resend_at = now.plus(patience);
        let told = false;
        self.held = Some(Held { state: state.clone(), durable, stored_by, tell, told, resend_at });
        if crate::mutant!("decree-in-force-early") {
            self.out.push_back(DecreeAction::InForce(state.clone()));
        }
        self.out.push_back(DecreeAction::PersistDecided(state));
    }

    /// Tells the council of a decided state about it until a majority holds it.
    pub(super) fn spread(&mut self, now: Time) {
        let retry = now.plus(self.timing.retry);
        let Some(held) = self.held.as_mut().filter(|held| held.resend_at <= now) else { return };
        held.resend_at = retry;
        let silent = held.state.council.iter().filter(|id| !held.stored_by.contains(id));
        let silent: Vec<NodeId> = silent.copied().filter(|id| *id != self.me).collect();
        let told = core::mem::replace(&mut held.told, true);
        let (state, durable) = (held.state.clone(), held.durable);
        for to in silent {
            self.send(to, DecreeMessage::Decided(state.clone()));
        }
        if told && !durable {
            // The disk may have refused.
            self.out.push_back(DecreeAction::PersistDecided(state));
        }
        self.settle();
    }

    pub(super) fn on_stored(&mut self, from: NodeId, instance: Instance) {
        let held = self.held.as_mut().filter(|held| instance_of(&held.state) == instance);
        if let Some(held) = held {
            held.stored_by.insert(from);
            self.settle();
        }
    }

    /// In force is what a majority of the council it names has stored.
    fn settle(&mut self) {
        let Some(held) = &self.held else { return };
        let council = &held.state.council;
        let stored = council.iter().filter(|id| held.stored_by.contains(id)).count();
        if stored >= majority(council.len()) {
            self.out.push_back(DecreeAction::InForce(held.state.clone()));
        }
    }
}

fn instance_of(state: &ClusterState) -> Instance {
    Instance { lineage: state.lineage, epoch: state.epoch }
}

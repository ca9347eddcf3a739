//! Carries out what the decree decides: its messages, its promises to the disk, and the state that
//! it brings into force.

use std::sync::Arc;

use super::disk::Pending;
use super::{Node, NodeConfig};
use crate::control::{Decree, DecreeAction, DecreeTiming};
use crate::message::{DecreeMessage, DiskRequest, Level, MetaRecord, PeerMessage, Restored};
use crate::types::{ClusterState, NodeId, Now};

/// The periods of the decree, from those of the node.
fn timing(config: &NodeConfig) -> DecreeTiming {
    DecreeTiming {
        retry: config.retry_interval,
        back_off: config.retry_interval / 8,
        recover: config.probe_interval.saturating_mul(2),
    }
}

/// This boot's part in decisions, on what the store held.
pub(super) fn begin(
    config: &NodeConfig,
    who: (NodeId, u64),
    restored: &Restored,
    seed: u64,
) -> Decree {
    // A generator of its own, so that what it draws changes no other choice.
    let rng = fastrand::Rng::with_seed(seed ^ 0x6465_6372_6565_2121);
    let in_force = restored.state.as_ref().map(|state| (state.lineage, state.epoch));
    let newer = |held: &Arc<ClusterState>| Some((held.lineage, held.epoch)) > in_force;
    let decided = restored.decided.clone().filter(newer);
    let mut decree = Decree::new(who, timing(config), restored.decree.clone(), decided, rng);
    decree.abstain(restored.abstain);
    decree
}

impl Node {
    pub(super) fn on_decree_message(&mut self, now: Now, from: NodeId, message: DecreeMessage) {
        // One that has lost a part of its log asks before it serves.
        if self.is_serving() || self.fills.losses.log_is_open() {
            self.decree.on_message(now.mono, from, message);
            self.run_decree(now);
        }
    }

    /// Says something about a decision, to this node too.
    pub(super) fn tell_decree(&mut self, now: Now, to: NodeId, message: DecreeMessage) {
        if to == self.me {
            self.decree.on_message(now.mono, to, message);
            self.run_decree(now);
        } else {
            self.send(to, PeerMessage::Decree(Box::new(message)));
        }
    }

    pub(super) fn run_decree(&mut self, now: Now) {
        while let Some(action) = self.decree.poll_action() {
            match action {
                DecreeAction::Send(to, message) if to == self.me => {
                    self.decree.on_message(now.mono, to, message);
                }
                DecreeAction::Send(to, message) => {
                    self.send(to, PeerMessage::Decree(Box::new(message)));
                }
                DecreeAction::Persist(record, to, answer) => {
                    let records = vec![MetaRecord::Decree(*record)];
                    let pending = Pending::DecreePersisted(to, answer);
                    self.disk(pending, DiskRequest::Persist(records));
                }
                DecreeAction::PersistDecided(state) => {
                    let pending = Pending::DecidedPersisted(state.epoch);
                    let records = vec![MetaRecord::Decided(state)];
                    self.disk(pending, DiskRequest::Persist(records));
                }
                DecreeAction::InForce(state) => self.adopt(state),
                DecreeAction::TellState(to) => self.push_state(now, to),
                DecreeAction::AskState(to) => self.ask_state(now, to),
                DecreeAction::Outcome(op, outcome) => self.on_change_outcome(op, outcome),
                DecreeAction::Checked(number) => self.on_checked(now, number),
                DecreeAction::Contradiction(from, epoch) => {
                    let text = format!(
                        "epoch {epoch} was decided in two ways: a defect, or a disk of another cluster"
                    );
                    self.note(Level::Error, Some(from), text);
                }
            }
        }
    }
}

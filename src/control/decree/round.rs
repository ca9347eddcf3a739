//! One round of one proposer: first promises of a majority, then acceptances of a majority.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::message::{AcceptedState, Ballot, DecreeMessage, Instance};
use crate::types::{ClusterState, NodeId, Time};

/// A round in flight.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) instance: Instance,
    pub(super) ballot: Ballot,
    council: Vec<NodeId>,
    /// Who has promised, or in the second phase accepted.
    agreed: BTreeSet<NodeId>,
    /// The state accepted in the highest round, as far as those who promised know.
    best: Option<AcceptedState>,
    /// What is to be accepted; `None` in the first phase.
    state: Option<Arc<ClusterState>>,
    /// When those who have not answered are asked again.
    pub(super) resend_at: Time,
}

impl Round {
    pub(super) fn new(instance: Instance, ballot: Ballot, council: Vec<NodeId>) -> Round {
        Round {
            instance,
            ballot,
            council,
            agreed: BTreeSet::new(),
            best: None,
            state: None,
            resend_at: Time(0),
        }
    }

    /// Whether `instance` and `ballot` are this round's.
    pub(super) fn is(&self, instance: Instance, ballot: Ballot) -> bool {
        (self.instance, self.ballot) == (instance, ballot)
    }

    /// Whether the round still gathers promises.
    pub(super) fn is_preparing(&self) -> bool {
        self.state.is_none()
    }

    /// A council member has promised. Returns whether a majority has, for the first time.
    pub(super) fn promised(&mut self, from: NodeId, accepted: Option<AcceptedState>) -> bool {
        if !self.is_preparing() || !self.council.contains(&from) {
            return false;
        }
        let higher = |best: &AcceptedState, new: &AcceptedState| best.0 < new.0;
        if let Some(new) = accepted
            && self.best.as_ref().is_none_or(|best| higher(best, &new))
        {
            self.best = Some(new);
        }
        self.agreed.insert(from) && self.agreed.len() == self.needed()
    }

    /// What must be proposed: it may have been decided.
    pub(super) fn bound_to(&self) -> Option<Arc<ClusterState>> {
        if crate::mutant!("decree-ignores-accepted") {
            return None;
        }
        self.best.as_ref().map(|(_, state)| state.clone())
    }

    /// Begins the second phase.
    pub(super) fn begin_accepting(&mut self, state: Arc<ClusterState>) {
        self.state = Some(state);
        self.agreed.clear();
        self.resend_at = Time(0);
    }

    /// A council member has accepted. Returns the state once a majority has.
    pub(super) fn accepted(&mut self, from: NodeId) -> Option<Arc<ClusterState>> {
        let state = self.state.as_ref().filter(|_| self.council.contains(&from))?;
        self.agreed.insert(from);
        (self.agreed.len() >= self.needed()).then(|| state.clone())
    }

    /// What is asked of those who have not answered.
    pub(super) fn asks(&self) -> Vec<(NodeId, DecreeMessage)> {
        let Round { instance, ballot, .. } = *self;
        let message = match &self.state {
            None => DecreeMessage::Prepare { instance, ballot },
            Some(state) => DecreeMessage::Accept { instance, ballot, state: state.clone() },
        };
        let silent = self.council.iter().filter(|id| !self.agreed.contains(id));
        silent.map(|id| (*id, message.clone())).collect()
    }

    /// How many are needed, how many there are.
    pub(super) fn tally(&self) -> (usize, usize) {
        (majority(self.council.len()), self.agreed.len())
    }

    fn needed(&self) -> usize {
        if crate::mutant!("decree-minority") {
            return self.council.len() / 2;
        }
        majority(self.council.len())
    }
}

/// More than half.
pub(super) fn majority(seats: usize) -> usize {
    seats / 2 + 1
}

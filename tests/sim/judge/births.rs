//! Births and lives: each epoch has one state, ever (I7); one id is one birth; one boot number is
//! one boot; and a disk that is empty or older than its peers remember never serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use roundtable::message::{BootRecord, Phase, View};
use roundtable::types::{ClusterState, Epoch, NodeId, Nonce};

/// What all published views have said so far.
#[derive(Debug, Default)]
pub(crate) struct Births {
    states: BTreeMap<Epoch, Arc<ClusterState>>,
    births: BTreeMap<NodeId, Nonce>,
    boots: BTreeMap<(NodeId, u64), Nonce>,
    /// The newest decided state that each disk has reported as durable. A disk that is emptied
    /// stays in the books: its reports were true.
    stored: BTreeMap<NodeId, Epoch>,
}

impl Births {
    /// A node has published `view`. `doomed` says why its disk may not serve, if it may not.
    pub(crate) fn published(&mut self, view: &View, doomed: Option<&str>) -> Result<(), String> {
        if let Some(state) = &view.state {
            self.state(state)?;
        }
        if view.phase != Phase::Serving {
            return Ok(());
        }
        let (id, hello) = (view.hello.id, &view.hello);
        if let Some(why) = doomed {
            return Err(format!("node {id} serves although {why}"));
        }
        let Some(state) = &view.state else {
            return Err(format!("node {id} serves without a state"));
        };
        let member = state.member(id).map(|member| member.birth);
        if member != Some(hello.birth) {
            return Err(format!(
                "node {id} serves with {:?}, its state says {member:?}",
                hello.birth
            ));
        }
        let first = *self.births.entry(id).or_insert(hello.birth);
        if first != hello.birth {
            return Err(format!("node {id} serves with {:?} and {first:?}", hello.birth));
        }
        self.boot(id, hello.boot)
    }

    /// A node is about to store `state`, or acts by it: it says that this was decided.
    pub(crate) fn decided(&mut self, state: &Arc<ClusterState>) -> Result<(), String> {
        self.state(state)
    }

    /// The disk of a member has reported that it holds `state`.
    pub(crate) fn stored(&mut self, member: NodeId, state: &ClusterState) {
        let newest = self.stored.entry(member).or_default();
        *newest = state.epoch.max(*newest);
    }

    /// A node acts by `state`: a majority of the council it names must hold it, or a newer one.
    /// Epoch 1 is in force by the pledges of its founders.
    pub(crate) fn in_force(&self, state: &ClusterState) -> Result<(), String> {
        let holds = |member: &&NodeId| self.stored.get(member) >= Some(&state.epoch);
        let holders = state.council.iter().filter(holds).count();
        if state.epoch > Epoch(1) && 2 * holders <= state.council.len() {
            return Err(format!(
                "epoch {} is in force, {holders} of its council {:?} hold it",
                state.epoch, state.council
            ));
        }
        Ok(())
    }

    fn state(&mut self, state: &Arc<ClusterState>) -> Result<(), String> {
        let known = self.states.entry(state.epoch).or_insert_with(|| Arc::clone(state));
        if Arc::ptr_eq(known, state) || known == state {
            return Ok(());
        }
        Err(format!("epoch {} has two states: {known:?} and {state:?}", state.epoch))
    }

    fn boot(&mut self, id: NodeId, boot: BootRecord) -> Result<(), String> {
        let nonce = *self.boots.entry((id, boot.number)).or_insert(boot.nonce);
        if nonce == boot.nonce {
            return Ok(());
        }
        Err(format!("node {id} served twice as boot {}", boot.number))
    }
}

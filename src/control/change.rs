//! Changes of the cluster state: what makes one state out of another. Pure and deterministic.
//! Whether the result is ever decided is `decree`'s business.

use crate::message::{ErrorCode, MemberChange, OpError, PlanChange, TableChange};
use crate::types::{ClusterState, Epoch, RequestId, TableName, limits};

use super::loss::LossOrder;
use super::moves::Step;
use super::orchestrator::Order;
use super::{canonical, loss, members, moves, orchestrator, plan, schema};

/// A change of the cluster state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of the schema.
    Table(TableChange),
    /// Of who is a member.
    Member(MemberChange),
    /// Of what is staged and carried out.
    Plan(PlanChange),
    /// Of moves under way, and of the plan that they belong to.
    Steps(Vec<Step>),
    /// Of units that have lost more copies than they can do without.
    Losses(Vec<LossOrder>),
    /// What the orchestrator has decided.
    Orchestrate(Order),
}

impl Change {
    /// The state after `state` with this change made.
    ///
    /// # Errors
    /// Says why on top of `state` the change cannot be made: `TABLE_*` of the schema,
    /// `MEMBER_*` of members, `PLAN_*` of plans and their steps.
    pub fn after(&self, state: &ClusterState, id: RequestId) -> Result<ClusterState, OpError> {
        let mut next = ClusterState {
            epoch: Epoch(state.epoch.0.saturating_add(1)),
            parent: canonical::state_hash(state),
            ..state.clone()
        };
        match self {
            Change::Table(change) => schema::apply(&mut next, change)?,
            Change::Member(change) => members::apply(&mut next, change)?,
            Change::Plan(change) => plan::apply(&mut next, change)?,
            Change::Steps(steps) => moves::apply(&mut next, steps)?,
            Change::Losses(orders) => loss::apply(&mut next, orders)?,
            Change::Orchestrate(order) => orchestrator::apply(&mut next, order)?,
        }
        orchestrator::prune(&mut next);
        next.note_change(id);
        let bytes = schema::weight(&next);
        if bytes > limits::STATE_BYTES_MAX {
            let most = limits::STATE_BYTES_MAX;
            let text = format!("the cluster state would have {bytes} bytes; the limit is {most}");
            return Err(OpError::new(ErrorCode::TableLimit, text).with_limit(most, bytes));
        }
        Ok(next)
    }

    /// The table that is changed, if it is one of the schema.
    pub fn table(&self) -> Option<&TableName> {
        match self {
            Change::Table(TableChange::Create(spec)) => Some(&spec.name),
            Change::Table(TableChange::Alter(alteration)) => Some(&alteration.name),
            Change::Table(TableChange::Drop(name)) => Some(name),
            Change::Member(_)
            | Change::Plan(_)
            | Change::Steps(_)
            | Change::Losses(_)
            | Change::Orchestrate(_) => None,
        }
    }
}

//! Members and plans: what is staged, what it would do, how far it is, and changes of all that. A
//! change is safe to repeat: the servers know the attempts of one request by its id.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use tonic::Request;

use crate::message::{DraftReply, PlanChange, PlanProgress, StageOrder, StuckLine};
use crate::types::{Epoch, NodeId, NodeName, Unit, Zone, limits};
use crate::wire::Malformed;
use crate::wire::plan::{change_to_wire, draft_from_wire, progress_from_wire, stuck_from_wire};
use crate::wire::proto::admin;

use super::Error;
use super::call::{Core, Operation, Try};
use super::convert::{id_bytes, malformed};
use super::endpoint::Endpoint;
use super::pool::Place;
use super::status_error::from_status;

/// Members, and what is planned for them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Topology {
    /// The epoch it was answered at; of a change, the one it became.
    pub epoch: Epoch,
    /// All members.
    pub members: Vec<MemberInfo>,
    /// What is staged for the next plan, in words.
    pub staged: Vec<String>,
    /// What it would do; `None` when nothing is staged.
    pub draft: Option<DraftReply>,
    /// The plan that is carried out.
    pub running: Option<PlanProgress>,
    /// Units that do not go on by themselves, and on whom they wait.
    pub stuck: Vec<StuckLine>,
    /// Members that leave and keep writes for others who do not answer, in words: they hold the end of
    /// the plan.
    pub custody: Vec<String>,
}

#[cfg(test)]
impl Topology {
    /// One without members, for tests of how it is shown.
    pub(crate) fn of(
        epoch: Epoch,
        staged: Vec<String>,
        draft: Option<DraftReply>,
        running: Option<PlanProgress>,
    ) -> Topology {
        let (members, stuck, custody) = (Vec::new(), Vec::new(), Vec::new());
        Topology { epoch, members, staged, draft, running, stuck, custody }
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it listens for clients; may be empty.
    pub address: String,
    /// Where it listens for peers.
    pub peer_address: String,
    /// Its zone.
    pub zone: String,
    /// Its share relative to the others, in thousandths.
    pub weight_milli: u32,
    /// `active`, `reserved` or `leaving`.
    pub role: String,
}

/// Requests about members and plans. Cheap to make.
///
/// ```no_run
/// # async fn example(kv: roundtable::client::Client) -> Result<(), roundtable::client::Error> {
/// let plans = kv.plans();
/// plans.stage_join("n4".parse().expect("a name")).await?;
/// if let Some(draft) = plans.show().await?.draft
///     && draft.reasons.is_empty()
/// {
///     plans.commit(draft.hash).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Plans {
    core: Arc<Core>,
}

impl Plans {
    pub(crate) fn new(core: Arc<Core>) -> Plans {
        Plans { core }
    }

    /// Asks for members, what is staged, what it would do, and how far the plan is that is carried
    /// out.
    pub fn show(&self) -> TopologyRequest {
        TopologyRequest { core: self.core.clone(), timeout: None }
    }

    /// Stages that a reserved member is to own its share. What was staged for it before is replaced, here
    /// and below. Errors: `MEMBER_UNKNOWN`, `PLAN_INVALID`.
    pub fn stage_join(&self, member: NodeName) -> ChangePlanRequest {
        self.change(PlanChange::Stage(StageOrder::Join(member)))
    }

    /// Stages that a member is to give its share away and to go.
    pub fn stage_leave(&self, member: NodeName) -> ChangePlanRequest {
        self.change(PlanChange::Stage(StageOrder::Leave(member)))
    }

    /// Stages that the reserved member `new` is to take over what `old` owns, who goes.
    pub fn stage_replace(&self, old: NodeName, new: NodeName) -> ChangePlanRequest {
        self.change(PlanChange::Stage(StageOrder::Replace { old, new }))
    }

    /// Stages another weight, in thousandths, or zone for a member. What is left out stays.
    pub fn stage_set(
        &self,
        member: NodeName,
        weight_milli: Option<u32>,
        zone: Option<Zone>,
    ) -> ChangePlanRequest {
        self.change(PlanChange::Stage(StageOrder::Set { member, weight_milli, zone }))
    }

    /// Forgets all that is staged.
    pub fn clear(&self) -> ChangePlanRequest {
        self.change(PlanChange::Clear)
    }

    /// Carries out what is staged, if the inputs of the plan still have this hash. Errors:
    /// `PLAN_CONFLICT` when they have changed, or another plan is carried out; `PLAN_INVALID`, with the
    /// reasons, when it cannot be carried out.
    pub fn commit(&self, hash: u128) -> ChangePlanRequest {
        self.change(PlanChange::Commit(hash))
    }

    /// Begins no more moves; those that have begun go on. Error: `PLAN_CONFLICT` when no plan runs,
    /// here and below.
    pub fn pause(&self) -> ChangePlanRequest {
        self.change(PlanChange::Pause)
    }

    /// Goes on with a plan that was paused.
    pub fn resume(&self) -> ChangePlanRequest {
        self.change(PlanChange::Resume)
    }

    /// Moves back what was moved, and ends the plan.
    pub fn roll_back(&self) -> ChangePlanRequest {
        self.change(PlanChange::RollBack)
    }

    /// Has the plan that is carried out fill the reserved member `new` in the place of `old`, a member of
    /// the same zone that it gives units to, and of which none is read yet. Errors: `MEMBER_UNKNOWN`,
    /// `PLAN_INVALID`, `PLAN_CONFLICT`.
    pub fn retarget(&self, old: NodeName, new: NodeName) -> ChangePlanRequest {
        self.change(PlanChange::Retarget { old, new })
    }

    /// Goes on with units without copies that are gone for good: 1 to 1024 units that are told in
    /// [`Topology::stuck`], and the members that never come back. **Acknowledged writes that only they
    /// held are lost.** Errors: `MEMBER_UNKNOWN`; `PLAN_INVALID` when one of the members is not down, or
    /// a unit waits for nobody, or for somebody else too; `PLAN_CONFLICT` when the units have changed
    /// meanwhile.
    pub fn accept_loss(&self, units: Vec<Unit>, gone: Vec<NodeName>) -> ChangePlanRequest {
        self.change(PlanChange::AcceptLoss { units, gone })
    }

    /// Carries out what a node proposes about growing and shrinking, by its hash: see
    /// [`Status::growth`](super::Status::growth). Errors: `PLAN_CONFLICT` when the node that is asked proposes
    /// something else by now, or nothing, or a plan is carried out; `PLAN_INVALID` when it cannot be carried out.
    pub fn grow(&self, hash: u128) -> ChangePlanRequest {
        self.change(PlanChange::Grow(hash))
    }

    /// Puts aside what a node proposes, by its hash; 0: a proposal that cannot be carried out and has none. No node
    /// proposes it again before it changes, or a week is over. Errors: `PLAN_CONFLICT` when the node that is asked
    /// proposes something else by now, or nothing.
    pub fn dismiss(&self, hash: u128) -> ChangePlanRequest {
        self.change(PlanChange::Dismiss(hash))
    }

    fn change(&self, change: PlanChange) -> ChangePlanRequest {
        ChangePlanRequest { core: self.core.clone(), timeout: None, change }
    }
}

/// Asks for [`Topology`]: `.await` it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct TopologyRequest {
    core: Arc<Core>,
    timeout: Option<Duration>,
}

/// Changes what is staged, or the plan that is carried out: `.await` it for the [`Topology`]
/// afterwards.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct ChangePlanRequest {
    core: Arc<Core>,
    timeout: Option<Duration>,
    change: PlanChange,
}

impl Operation for TopologyRequest {
    type Answer = Topology;

    fn place(&self) -> Place<'_> {
        Place::Anywhere
    }

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Topology, Error> {
        let mut request = Request::new(admin::TopologyRequest {});
        request.set_timeout(this.remaining);
        let answer = endpoint.admin().topology(request).await;
        topology(answer.map_err(|status| from_status(&status, false))?.into_inner())
    }
}

impl Operation for ChangePlanRequest {
    type Answer = Topology;

    fn place(&self) -> Place<'_> {
        Place::Anywhere
    }

    fn is_write(&self) -> bool {
        true
    }

    fn is_known_by_id(&self) -> bool {
        true
    }

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Topology, Error> {
        let timeout = this.remaining.min(limits::REQUEST_TIMEOUT_MAX).as_millis().max(1);
        let mut request = Request::new(admin::ChangePlanRequest {
            timeout_ms: u32::try_from(timeout).unwrap_or(u32::MAX),
            request_id: id_bytes(this.attempt.map_or(0, |attempt| attempt.id.0)),
            ..change_to_wire(&self.change)
        });
        request.set_timeout(this.remaining);
        let answer = endpoint.admin().change_plan(request).await;
        topology(answer.map_err(|status| from_status(&status, true))?.into_inner())
    }
}

macro_rules! awaited {
    ($name:ident) => {
        impl $name {
            /// Sets how long the request may take over all its attempts; the client's default when
            /// left out.
            pub fn timeout(mut self, timeout: Duration) -> Self {
                self.timeout = Some(timeout);
                self
            }
        }

        impl IntoFuture for $name {
            type Output = Result<Topology, Error>;
            type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(async move { self.core.run(&self, self.timeout).await })
            }
        }
    };
}
awaited!(TopologyRequest);
awaited!(ChangePlanRequest);

fn topology(response: admin::TopologyResponse) -> Result<Topology, Error> {
    let bad = |Malformed(what): Malformed| malformed(&what);
    let member = |member: admin::topology_response::Member| MemberInfo {
        id: NodeId(member.id),
        name: member.name,
        address: member.address,
        peer_address: member.peer_address,
        zone: member.zone,
        weight_milli: member.weight_milli,
        role: member.role,
    };
    Ok(Topology {
        epoch: Epoch(response.epoch),
        members: response.members.into_iter().map(member).collect(),
        staged: response.staged,
        draft: response.draft.map(draft_from_wire).transpose().map_err(bad)?,
        running: response.running.map(progress_from_wire).transpose().map_err(bad)?,
        stuck: response
            .stuck
            .into_iter()
            .map(stuck_from_wire)
            .collect::<Result<_, _>>()
            .map_err(bad)?,
        custody: response.custody,
    })
}

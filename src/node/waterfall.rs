//! The waterfall of one request whose client asks for it: who was asked when, and who answered when.
//! Kept beside the request's machine, which knows nothing of it; others pay for a `None`.

use super::Node;
use crate::coordinator::Ask;
use crate::message::{
    CausalMessage, ClientResult, Refusal, RegisterMessage, RegisterTask, Reply, TraceEvent,
    TraceStep, Traced,
};
use crate::types::{NodeId, NodeName, Now, OpId, Time, limits};

/// What has happened to a request so far.
#[derive(Clone, Debug)]
pub(super) struct Waterfall {
    begun: Time,
    /// The first ones.
    steps: Vec<(Time, NodeId, TraceEvent)>,
}

/// The client an operation is begun for.
pub(super) struct Asker {
    pub(super) op: OpId,
    pub(super) waterfall: Option<Waterfall>,
}

impl Asker {
    pub(super) fn new(op: OpId, traced: bool, now: Now) -> Asker {
        Asker { op, waterfall: traced.then(|| Waterfall::new(now.mono)) }
    }
}

impl From<OpId> for Asker {
    fn from(op: OpId) -> Asker {
        Asker { op, waterfall: None }
    }
}

impl Waterfall {
    pub(super) fn new(begun: Time) -> Waterfall {
        Waterfall { begun, steps: Vec::new() }
    }

    /// Notes a step; once there are too many, no more.
    pub(super) fn note(&mut self, at: Time, member: NodeId, event: TraceEvent) {
        if self.steps.len() < limits::TRACE_STEPS_MAX {
            self.steps.push((at, member, event));
        }
    }

    fn told(&self, now: Time, name: impl Fn(NodeId) -> NodeName, reply: Reply) -> Traced {
        let step = |(at, member, event): &(Time, NodeId, TraceEvent)| TraceStep {
            at: at.since(self.begun),
            member: name(*member),
            event: *event,
        };
        Traced { reply, steps: self.steps.iter().map(step).collect(), total: now.since(self.begun) }
    }
}

impl Node {
    /// Notes a step of an operation, if its client has asked for its waterfall.
    pub(super) fn note_step(&mut self, now: Now, id: u64, member: NodeId, event: TraceEvent) {
        if let Some(operation) = self.operations.get_mut(&id)
            && let Some(waterfall) = &mut operation.waterfall
        {
            waterfall.note(now.mono, member, event);
        }
    }

    /// Notes an answer of a member.
    pub(super) fn note_answer<T>(
        &mut self,
        now: Now,
        id: u64,
        member: NodeId,
        result: &Result<T, Refusal>,
    ) {
        let refused = result.is_err();
        let event = if refused { TraceEvent::Refused } else { TraceEvent::Answered };
        self.note_step(now, id, member, event);
    }

    /// Puts the waterfall to an answer, when its client has asked for it. Errors go without.
    pub(super) fn with_waterfall(
        &self,
        now: Now,
        waterfall: Option<&Waterfall>,
        result: ClientResult,
    ) -> ClientResult {
        let (Some(waterfall), Ok(reply)) = (waterfall, &result) else { return result };
        let name = |id: NodeId| {
            let member = self.state.as_ref().and_then(|state| state.member(id));
            member.map_or_else(|| self.config.name.clone(), |member| member.name.clone())
        };
        Ok(Reply::Traced(Box::new(waterfall.told(now.mono, name, reply.clone()))))
    }
}

/// What a question is, in a waterfall.
pub(super) fn event_of(ask: &Ask) -> TraceEvent {
    match ask {
        Ask::Read(_) | Ask::Scan(_) => TraceEvent::Read,
        Ask::Write(_) | Ask::Change(_) => TraceEvent::Repair,
        Ask::Causal(message) => match message.as_ref() {
            CausalMessage::Read { .. } => TraceEvent::Read,
            _ => TraceEvent::Repair,
        },
        Ask::Register(message) => match message.as_ref() {
            RegisterMessage::Ask { task: RegisterTask::Prepare(_), .. } => TraceEvent::Prepare,
            RegisterMessage::Ask { task: RegisterTask::Accept(..), .. } => TraceEvent::Accept,
            RegisterMessage::Ask { task: RegisterTask::Look, .. }
            | RegisterMessage::Answer { .. } => TraceEvent::Read,
        },
    }
}

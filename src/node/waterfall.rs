//! The waterfall of one request whose client asks for it: who was asked when, and who answered when.
//! Kept beside the request's machine, which knows nothing of it; others pay for a `None`.

use super::Node;
use super::restart::{Left, name};
use crate::coordinator::Ask;
use crate::message::{
    CausalMessage, ClientRequest, ClientResult, Refusal, RegisterMessage, RegisterTask, Reply,
    Trace, TraceEvent, TraceStep, Traced,
};
use crate::types::{NodeId, NodeName, Now, OpId, RequestId, Time, limits};

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
    /// What it asks, for when the operation has to begin again.
    pub(super) request: Option<Box<ClientRequest>>,
    /// What earlier attempts may have left.
    pub(super) left: Left,
}

impl Asker {
    pub(super) fn new(op: OpId, traced: bool, now: Now) -> Asker {
        let waterfall = traced.then(|| Waterfall::new(now.mono));
        Asker { op, waterfall, request: None, left: Left::default() }
    }

    /// The write is called so, in all its attempts.
    pub(super) fn name(&mut self, id: RequestId) {
        if let Some(request) = &mut self.request {
            name(&mut request.body, id);
        }
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

    fn told(&self, now: Time, name: &impl Fn(NodeId) -> NodeName, most: usize) -> Trace {
        let step = |(at, member, event): &(Time, NodeId, TraceEvent)| TraceStep {
            at: at.since(self.begun),
            member: name(*member),
            event: *event,
        };
        let steps = self.steps.iter().take(most).map(step).collect();
        Trace { steps, total: now.since(self.begun) }
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

    /// Puts the waterfall to an answer or an error, when its client has asked for it.
    pub(super) fn with_waterfall(
        &self,
        now: Now,
        (waterfall, id): (Option<&Waterfall>, u64),
        result: ClientResult,
    ) -> ClientResult {
        let Some(waterfall) = waterfall else { return result };
        let name = |id: NodeId| {
            let member = self.state.as_ref().and_then(|state| state.member(id));
            member.map_or_else(|| self.config.name.clone(), |member| member.name.clone())
        };
        match result {
            Ok(reply) => {
                let trace = waterfall.told(now.mono, &name, limits::TRACE_STEPS_MAX);
                Ok(Reply::Traced(Box::new(Traced { reply, trace })))
            }
            Err(mut error) => {
                let owners = self.owners_of(id);
                let reachable = self.reachable(owners);
                let asked = |id: &NodeId| waterfall.steps.iter().any(|(_, asked, _)| asked == id);
                let away = owners.iter().enumerate().filter(|(at, _)| reachable & (1 << at) == 0);
                let away: Vec<NodeId> = away.map(|(_, id)| *id).filter(|id| !asked(id)).collect();
                let most = limits::TRACE_STEPS_FAILED_MAX - away.len();
                let mut trace = waterfall.told(now.mono, &name, most);
                let (at, event) = (trace.total, TraceEvent::Away);
                let step = |id: NodeId| TraceStep { at, member: name(id), event };
                trace.steps.extend(away.into_iter().map(step));
                error.trace = Some(Box::new(trace));
                Err(error)
            }
        }
    }
}

/// What a question is, in the waterfall of a write or of something else.
pub(super) fn event_of(ask: &Ask, writes: bool) -> TraceEvent {
    let stores = if writes { TraceEvent::Write } else { TraceEvent::Repair };
    match ask {
        Ask::Read(_) | Ask::Scan(_) => TraceEvent::Read,
        Ask::Write(_) | Ask::Change(_) => stores,
        Ask::Causal(message) => match message.as_ref() {
            CausalMessage::Read { .. } => TraceEvent::Read,
            CausalMessage::Put { .. } => TraceEvent::Forward,
            _ => stores,
        },
        Ask::Register(message) => match message.as_ref() {
            RegisterMessage::Ask { task: RegisterTask::Prepare(_), .. } => TraceEvent::Prepare,
            RegisterMessage::Ask { task: RegisterTask::Accept(..), .. } => TraceEvent::Accept,
            RegisterMessage::Ask { task: RegisterTask::Look, .. }
            | RegisterMessage::Answer { .. } => TraceEvent::Read,
        },
    }
}

//! Operations that begin again. Each rests on the owners of one fence: when another one comes into
//! force here, what has not been answered begins again by the new owners, as a new attempt with a
//! number of its own, so that no answer to the old one counts. Its client notices nothing: it keeps
//! its deadline, the id and the window of stamps. `docs/protocol/moves.md`, "Fences".
//!
//! A member that refuses because it knows a later fence has not failed. The operation waits for that
//! state, asks again meanwhile, and ends at its deadline if the state does not come.

use std::sync::Arc;

use super::Node;
use super::operation::Machine;
use super::waterfall::Asker;
use crate::message::{Applied, ClientBody, ClientResult, Effect, Refusal};
use crate::types::{ClusterState, NodeId, Now, RequestId, Stamp};

/// What the attempts of an operation before this one may have left with some owner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Left {
    /// The stamp under which a put has sent its version, which it keeps; and whether that stamp is
    /// above all that was acknowledged when the put began.
    pub(super) stamp: Option<(Stamp, bool)>,
    /// The first ballot under which a change of a register was sent for acceptance.
    pub(super) sent: Option<Stamp>,
    /// Anything at all.
    pub(super) traces: bool,
}

impl Left {
    /// What there is after an attempt that is given up now.
    fn after(self, machine: &Machine) -> Left {
        let (mut stamp, mut sent) = (self.stamp, self.sent);
        let applied = match machine {
            Machine::Put(put) => {
                stamp = put.sent().or(stamp);
                put.applied()
            }
            Machine::CausalWrite(write) => write.applied(),
            Machine::CausalForward(forward) => forward.applied(),
            Machine::Register(register) => {
                sent = sent.or(register.sent());
                register.applied()
            }
            Machine::Get(_) | Machine::Scan(_) | Machine::CausalGet(_) => Applied::No,
        };
        Left { stamp, sent, traces: self.traces || applied != Applied::No }
    }

    /// What a client is told of an attempt, as part of its operation: an error that knows of nothing
    /// that was applied speaks of the last attempt alone.
    pub(super) fn tell(self, result: ClientResult) -> ClientResult {
        match result {
            Err(error) if self.traces && error.applied == Applied::No => {
                Err(error.with_applied(Applied::Unknown))
            }
            result => result,
        }
    }
}

impl Machine {
    /// Whether it rests on other owners than those of `state`.
    fn is_fenced(&self, state: &ClusterState) -> bool {
        if let Machine::Scan(scan) = self {
            return scan.changed_at() != state.class_changed_at(scan.class());
        }
        let fence = |target: &crate::coordinator::Target| {
            target.changed_at != state.changed_at(target.unit)
        };
        self.target().is_some_and(fence)
    }
}

/// Names the write of a request, for all attempts of it.
pub(super) fn name(body: &mut ClientBody, id: RequestId) {
    match body {
        ClientBody::Put(put) => put.attempt.id = id,
        ClientBody::Cas(cas) => cas.attempt.id = id,
        ClientBody::Batch(batch) => batch.attempt.id = id,
        ClientBody::Increment(increment) => increment.attempt.id = id,
        ClientBody::Get(_)
        | ClientBody::Scan(_)
        | ClientBody::Outcome(_)
        | ClientBody::Watch(_) => {}
    }
}

impl Node {
    /// Whether an operation that waits is refused because a member knows later owners, or has yet to
    /// come to be what these owners make of it: then it waits for that as well.
    pub(super) fn is_fenced<T>(
        &mut self,
        now: Now,
        (id, from): (u64, NodeId),
        result: &Result<T, Refusal>,
    ) -> bool {
        let waits = self.operations.contains_key(&id) && !self.lingering.contains(&id);
        match result {
            Err(Refusal::Fenced { .. }) if waits => {
                crate::sometimes!("operation: meets a newer fence");
                self.ask_state(now, from);
                true
            }
            // This node's own replica has waited already, and would not be asked again.
            Err(Refusal::Behind { .. }) => waits && from != self.me && self.has_moved(id),
            _ => false,
        }
    }

    /// Whether the owners an operation rests on have ever changed.
    fn has_moved(&self, id: u64) -> bool {
        let (Some(state), Some(operation)) = (&self.state, self.operations.get(&id)) else {
            return false;
        };
        let (class, fence) = match &operation.machine {
            Machine::Scan(scan) => (scan.class(), scan.changed_at()),
            machine => match machine.target() {
                Some(target) => (target.unit.class, target.changed_at),
                None => return false,
            },
        };
        state.class(class).is_some_and(|class| class.created != fence)
    }

    /// A state is in force: what rests on other owners than it names begins again. What has been
    /// answered only ends.
    pub(super) fn restart_fenced(&mut self, now: Now, state: &Arc<ClusterState>) {
        let waits = |id: &u64| !self.lingering.contains(id);
        let fenced = self
            .operations
            .iter()
            .filter(|(id, operation)| waits(id) && operation.machine.is_fenced(state));
        let fenced: Vec<u64> = fenced.map(|(id, _)| *id).collect();
        for id in fenced {
            self.go_on_under(now, id, state);
        }
    }

    /// Whether an operation that waits rests on owners that are those no more.
    pub(super) fn rests_on_former_owners(&self, id: u64) -> bool {
        let (Some(state), Some(operation)) = (&self.state, self.operations.get(&id)) else {
            return false;
        };
        !self.lingering.contains(&id) && operation.machine.is_fenced(state)
    }

    /// Goes on with an operation by the owners of `state`. What may have been made of a causal put is
    /// never made once more: a write that saw it may have taken its place.
    pub(super) fn go_on_under(&mut self, now: Now, id: u64, state: &Arc<ClusterState>) {
        if self.lingering.contains(&id) {
            return;
        }
        let made = match self.operations.get(&id).map(|operation| &operation.machine) {
            // Its disk's answer tells what there is.
            Some(Machine::CausalWrite(write)) if write.is_changing() => return,
            Some(Machine::CausalWrite(write)) => write.is_telling(),
            Some(Machine::CausalForward(_)) => true,
            _ => false,
        };
        if !made || crate::mutant!("moved-put-made-again") || !self.move_causal(now, id, state) {
            self.restart(now, id, state);
        }
    }

    /// Lets a causal put go on as what it is, by the owners of `state`; says whether it can.
    fn move_causal(&mut self, now: Now, id: u64, state: &Arc<ClusterState>) -> bool {
        let Some(operation) = self.operations.get(&id) else { return false };
        let (place, sloppy) = match &operation.machine {
            Machine::CausalWrite(write) => (write.target(), write.is_sloppy()),
            Machine::CausalForward(forward) => (forward.target(), forward.is_sloppy()),
            _ => return false,
        };
        let (table, key) = (place.table, place.key.clone());
        let Some(table) = state.table(table) else { return false };
        let target = self.target(state, table, key);
        let stand_ins = self.stand_ins(sloppy, &target);
        crate::sometimes!("operation: a causal put moves to other owners");
        match self.operations.get_mut(&id).map(|operation| &mut operation.machine) {
            Some(Machine::CausalWrite(write)) => write.move_to(target, stand_ins),
            Some(Machine::CausalForward(forward)) => forward.move_to(target, stand_ins),
            _ => return false,
        }
        self.step(now, id, |machine, step| match machine {
            Machine::CausalWrite(write) => write.tell_anew(step),
            Machine::CausalForward(forward) => forward.go_on(step),
            _ => {}
        });
        true
    }

    fn restart(&mut self, now: Now, id: u64, state: &Arc<ClusterState>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let (op, forwarded) = (operation.op.take(), operation.forwarded.take());
        let (request, waterfall) = (operation.request.take(), operation.waterfall.take());
        let (left, client) = (operation.left.after(&operation.machine), operation.holder.client);
        self.end_read(id, None);
        self.forget(id);
        if let Some((from, round)) = forwarded {
            // It begins again where it came from, and may go to another owner.
            self.push_state(now, from);
            return self.refuse_fenced(from, round);
        }
        // Else its client has gone.
        let (Some(op), Some(request)) = (op, request) else { return };
        crate::sometimes!("operation: begins again under a newer fence");
        self.waiting.remove(&op);
        self.asker = client;
        let next = self.next_operation;
        if crate::mutant!("old-attempt-counts") {
            self.next_operation = id;
        }
        let asker = Asker { op, waterfall, request: None, left };
        let begun = self.begin_request(now, asker, state, *request);
        self.next_operation = self.next_operation.max(next);
        if let Err(error) = begun {
            let result = left.tell(Err(error));
            self.effects.push_back(Effect::Reply { op, result });
        }
    }
}

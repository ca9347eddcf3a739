//! Batches: each group of writes that share their outcome is an operation, and whoever is answered last
//! tells what came of all.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::message::{ClientResult, ErrorCode, OpError};
use crate::runtime::{AnswerSink, Handle, Ticket};
use crate::wire::batch::{Group, batch_from_wire, batch_to_wire};
use crate::wire::client::Call;
use crate::wire::proto::v1 as pb;

/// Who waits for a batch.
pub(super) trait Waiter: Send + Sync {
    /// Takes what came of it.
    fn answer(&self, answer: pb::BatchResponse);
    /// Whether nobody waits any more.
    fn is_closed(&self) -> bool;
}

/// Gathers what comes of the groups of a batch.
struct Gather {
    waiter: Box<dyn Waiter>,
    /// How many writes the batch has.
    count: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By group: the places of its writes, and what came of it.
    groups: Vec<(Vec<usize>, Option<ClientResult>)>,
    waiting: usize,
}

impl AnswerSink for Gather {
    fn answer(&self, ticket: Ticket, result: ClientResult) {
        let mut state = self.state.lock();
        let group = usize::try_from(ticket.id).ok().and_then(|at| state.groups.get_mut(at));
        let Some((_, outcome @ None)) = group else { return };
        *outcome = Some(result);
        state.waiting -= 1;
        if state.waiting > 0 {
            return;
        }
        let groups = core::mem::take(&mut state.groups);
        drop(state);
        let told = groups.into_iter().filter_map(|(places, outcome)| Some((places, outcome?)));
        self.waiter.answer(batch_to_wire(self.count, told));
    }

    fn is_closed(&self) -> bool {
        self.waiter.is_closed()
    }
}

/// Begins a batch; `waiter` is told once all of it has ended.
///
/// # Errors
/// The first field that is outside its bounds, or [`ErrorCode::NotReady`]: nothing was begun.
pub(super) fn begin(
    handle: &Handle,
    call: &Call,
    batch: pb::BatchRequest,
    waiter: Box<dyn Waiter>,
) -> Result<(), OpError> {
    let view = handle.view();
    let state = view.borrow().as_ref().and_then(|view| view.state.clone());
    let state = state.ok_or_else(|| {
        OpError::new(ErrorCode::NotReady, "the node does not know the cluster yet")
    })?;
    let count = batch.items.len();
    let groups = batch_from_wire(call, batch, state.settings.partitions)?;
    let (mut requests, mut places) = (Vec::new(), Vec::new());
    for (id, Group { places: of, request }) in (0..).zip(groups) {
        requests.push((Ticket { id, delete: false }, request));
        places.push((of, None));
    }
    let state = Mutex::new(State { waiting: places.len(), groups: places });
    let gather: Arc<dyn AnswerSink> = Arc::new(Gather { waiter, count, state });
    handle.submit_all(requests.into_iter(), &gather);
    Ok(())
}

//! What must hold in every state, beyond what clients are answered.

use crate::log::{Stage, Step};
use crate::mistake::Mistake;
use crate::model::{Action, Moves};
use crate::state::{Epoch, NODES, Set, State, count, has, those};

/// The owners that could answer a read which goes by this epoch and begins now.
fn readable(model: &Moves, state: &State, epoch: Epoch) -> Set {
    let conf = model.conf(state, epoch);
    let serves = |x: usize| {
        let node = &state.nodes[x];
        let fenced = node.heard > epoch && !model.makes(Mistake::FenceIgnored);
        let whole = model.is_complete(node, x, conf) || model.makes(Mistake::IncompleteServes);
        !node.dead && !fenced && whole
    };
    conf.read() & those(serves)
}

fn older(state: &State) -> Set {
    those(|x| state.nodes[x].value < state.acked)
}

/// No read that begins now, at a coordinator however far behind, can miss what has been
/// acknowledged.
pub fn met(model: &Moves, state: &State) -> bool {
    let missed = |epoch| count(readable(model, state, epoch) & older(state)) >= model.scenario.r;
    !model.fences(state).any(missed)
}

/// What has been acknowledged is on w of the owners in every set that can still be read, unless a
/// disk lost it.
pub fn copies(model: &Moves, state: &State) -> bool {
    let few = |epoch: Epoch| {
        let read = model.conf(state, epoch).read();
        count(readable(model, state, epoch)) >= model.scenario.r
            && count(read & !older(state)) < model.scenario.w
    };
    state.wiped > 0 || !model.fences(state).any(few)
}

/// All moves of the scenario have been made, and all writes.
pub fn ended(model: &Moves, state: &State) -> bool {
    let conf = model.newest(state);
    let over = conf.stage == Stage::Settled && !conf.next.iter().any(|next| next.0 == Step::Begin);
    over && all_written(model, state)
}

fn all_written(model: &Moves, state: &State) -> bool {
    state.writes[..model.scenario.writes].iter().all(|write| write.done)
}

/// If messages flow from now on and nothing fails, the move ends or is rolled back, every write is
/// acknowledged, and what is acknowledged can be read.
pub fn can_end(model: &Moves, state: &State) -> bool {
    if state.fault.is_some() {
        return true;
    }
    let mut state = *state;
    for _ in 0..16 {
        flow(model, &mut state);
        let conf = model.newest(&state);
        let read = count(readable(model, &state, conf.changed_at)) >= model.scenario.r;
        if conf.stage == Stage::Settled && all_written(model, &state) && read {
            return true;
        }
        let order = |step: &Step| match step {
            Step::Refill(_) => 0,
            Step::Advance => 1,
            Step::RollBack => 2,
            _ => 3,
        };
        let next = conf.next.iter().map(|next| next.0).filter(|step| order(step) < 3);
        let next = next.filter(|step| model.may_decide(&state, *step)).min_by_key(order);
        let Some(step) = next else { return false };
        model.apply(&mut state, Action::Decide(step));
    }
    false
}

/// Everybody who lives hears and does all there is to do.
fn flow(model: &Moves, state: &mut State) {
    let epoch = model.newest(state).changed_at;
    let nodes = model.scenario.members() & those(|x| !state.nodes[x].dead);
    for node in (0..NODES).filter(|&x| has(nodes, x)) {
        if state.nodes[node].heard < epoch {
            model.apply(state, Action::Learn { node, epoch });
        }
        model.apply(state, Action::Store { node });
        model.apply(state, Action::Sync { node });
        if state.nodes[node].due {
            model.apply(state, Action::Delete { node });
        }
    }
    for target in (0..NODES).filter(|&x| has(nodes, x)) {
        for source in 0..NODES {
            if model.may_copy(state, source, target) {
                model.apply(state, Action::Copy { source, target });
            }
        }
    }
    // Two writes, of two rounds each.
    for _ in 0..2 {
        for op in 0..model.scenario.writes {
            for node in (0..NODES).filter(|&x| has(nodes, x)) {
                if model.may_put(state, op, node, epoch) {
                    model.apply(state, Action::Put { op, node, epoch });
                    model.apply(state, Action::Store { node });
                }
            }
        }
    }
}

//! What must hold in every state.

use crate::model::{Action, Purge};
use crate::state::{DELETE, FLOOR, NODES, PUT, Stage, State, Version, has, those};

/// What reads return that can be answered now: every two complete owners of the read set.
fn reads(state: &State) -> impl Iterator<Item = (Version, bool)> + '_ {
    let serves = |x: &usize| has(state.read_set(), *x) && state.is_whole(*x);
    let pairs = (0..NODES).flat_map(move |x| (0..x).map(move |y| (x, y)));
    pairs.filter(move |(x, y)| serves(x) && serves(y)).map(|(x, y)| {
        let (x, y) = (&state.nodes[x], &state.nodes[y]);
        (x.value.max(y.value), x.floor || y.floor)
    })
}

/// Nothing is the answer when it was deleted, and the delete may be purged.
fn is_kept(acked: Version, value: Version, purged: bool) -> bool {
    value >= acked || value == 0 && (acked == DELETE || acked == PUT && purged)
}

/// Bits of promises.
pub const BACK: u8 = 1;
pub const KEPT: u8 = 2;
pub const EQUAL: u8 = 4;
pub const ENDS: u8 = 8;

/// The promises that do not hold.
pub fn broken(model: &Purge, state: &State) -> u8 {
    let mut broken = 0;
    let mut judge = |promise: u8, holds: bool| broken |= if holds { 0 } else { promise };
    let is_back = |value: Version, acked: Version| value == PUT && acked == DELETE;
    judge(BACK, reads(state).all(|(value, _)| !is_back(value, state.acked)));
    judge(
        KEPT,
        reads(state).all(|(value, purged)| {
            is_back(value, state.acked) || is_kept(state.acked, value, purged)
        }),
    );
    // From here on messages flow, and nothing more fails.
    let mut quiet = flow(model, state);
    let acked = state.acked.max(state.sloppy);
    judge(BACK, reads(&quiet).all(|(value, _)| !is_back(value, acked)));
    judge(
        KEPT,
        reads(&quiet).all(|(value, purged)| is_back(value, acked) || is_kept(acked, value, purged)),
    );
    judge(EQUAL, are_equal(&quiet));
    raise(model, &mut quiet);
    judge(ENDS, ended(model, &quiet) || state.issued < FLOOR);
    broken
}

fn are_equal(state: &State) -> bool {
    let owners = || (0..NODES).filter(|&x| state.is_owner(x));
    let first = owners().map(|x| state.nodes[x].value).next();
    owners().all(|x| state.is_whole(x) && Some(state.nodes[x].value) == first)
}

/// All owners do what raises the floor.
fn raise(model: &Purge, state: &mut State) {
    if model.scenario.sloppy {
        model.apply(state, Action::Tell);
    }
    each_pair(|who, with| {
        if model.may_vouch(state, who, with) {
            model.apply(state, Action::Vouch { who, with });
        }
    });
    for x in 0..NODES {
        let fence = state.fence;
        if model.may_agree(state, x, fence) {
            model.apply(state, Action::Agree(x, fence));
        }
    }
    // Who knew before has yet to tell.
    let agreed = those(|x| state.is_whole(x) && state.nodes[x].agreed);
    state.agreed[usize::from(state.fence)] |= agreed;
    for x in 0..NODES {
        if model.may_raise(state, x) {
            model.apply(state, Action::Raise(x));
        }
    }
}

pub fn ended(_: &Purge, state: &State) -> bool {
    let purged = |x: usize| state.nodes[x].floor && state.nodes[x].value != DELETE;
    (0..NODES).filter(|&x| state.is_owner(x)).all(purged)
}

fn each_pair(mut act: impl FnMut(usize, usize)) {
    for x in 0..NODES {
        (0..NODES).filter(|&y| x != y).for_each(|y| act(x, y));
    }
}

/// Everybody who lives does all there is to do, but for raising the floor.
fn flow(model: &Purge, state: &State) -> State {
    let mut state = *state;
    if state.dead && state.stage == Stage::Before {
        model.apply(&mut state, Action::Begin);
    }
    for _ in 0..2 {
        each_pair(|source, target| {
            if model.may_fill(&state, source, target) {
                model.apply(&mut state, Action::Fill { source, target });
            }
        });
        for x in 0..NODES {
            if model.may_complete(&state, x) {
                model.apply(&mut state, Action::Complete(x));
            }
        }
        if state.stage == Stage::During {
            model.apply(&mut state, Action::End);
        }
        if state.custody > 0 {
            model.apply(&mut state, Action::Deliver);
        }
        each_pair(|from, to| {
            if state.is_whole(from) && state.is_whole(to) {
                model.apply(&mut state, Action::Bring { from, to });
            }
        });
    }
    state
}

//! What must hold in every state, beyond the history that clients hear.

use crate::model::Register;
use crate::state::{BALLOTS, Ballot, Change, Phase, Reply, State, What, at};

/// The histories of decided ballots, by epochs and then lowest first: whatever proposers go by, a ballot is decided
/// by majorities of the sets that were written in its epoch.
fn decided<'a>(model: &'a Register, state: &'a State) -> impl Iterator<Item = &'a [Change]> {
    let mut ballots: Vec<Ballot> = (1..=BALLOTS as Ballot).collect();
    ballots.sort_by_key(|ballot| (state.epoch_of(*ballot), *ballot));
    ballots.into_iter().filter_map(|ballot| {
        let at = at(ballot)?;
        let proposal = state.proposals[at].as_ref()?;
        let accepted = |a: usize| state.acceptors[a].accepted[at];
        let decided = model.is_decided(proposal.epoch, accepted, false);
        decided.then_some(&*proposal.history)
    })
}

/// Each decided history goes on from the one before it.
pub fn chain(model: &Register, state: &State) -> bool {
    let mut last: &[Change] = &[];
    decided(model, state).all(|history| {
        let goes_on = history.starts_with(last);
        last = history;
        goes_on
    })
}

/// The last decided history has every operation that was told as applied.
pub fn kept(model: &Register, state: &State) -> bool {
    let Some(last) = decided(model, state).last() else { return true };
    let told = |op: usize| state.told[op] == Some(Reply::Applied);
    let kept = |op: usize| last.iter().any(|change| usize::from(change.op) == op);
    (0..state.told.len()).all(|op| !told(op) || kept(op))
}

/// No decided history has an operation twice.
pub fn once(model: &Register, state: &State) -> bool {
    let twice = |history: &[Change]| {
        history.iter().enumerate().any(|(at, change)| {
            let same = |other: &Change| other.op == change.op && applies(other);
            applies(change) && history[at + 1..].iter().any(same)
        })
    };
    !decided(model, state).any(twice)
}

/// No decided history has what a client was told is not, and will not be, applied.
pub fn never_false(model: &Register, state: &State) -> bool {
    let denied = |change: &Change| {
        let by_attempt = state.attempts.iter().enumerate().any(|(attempt, phase)| {
            *phase == Phase::NotApplied && model.ballots(attempt).any(|made| made == change.made)
        });
        by_attempt || denied_by_answer(model, state, change.op)
    };
    !decided(model, state).any(|history| history.iter().any(|c| applies(c) && denied(c)))
}

fn denied_by_answer(model: &Register, state: &State, op: u8) -> bool {
    let told = state.told[usize::from(op)];
    let cancelled = |(asked, reply): (&crate::spec::Op, &Option<Reply>)| {
        *asked == crate::spec::Op::Outcome { of: op }
            && *reply == Some(Reply::Outcome { applied: false })
    };
    matches!(told, Some(Reply::Failed(_) | Reply::Cancelled))
        || model.scenario.ops.iter().zip(&state.told).any(cancelled)
}

fn applies(change: &Change) -> bool {
    matches!(change.what, What::Value(_))
}

//! The rules of a proposer: what it makes of a set of answers.

use crate::mistake::Mistake;
use crate::model::Register;
use crate::spec::Op;
use crate::state::{BALLOTS, Ballot, Change, Phase, Proposal, Reply, State, What, at, value_of};

/// What follows from promises.
enum Verdict {
    /// The client can be answered now.
    Tell(Reply),
    /// This must be accepted first.
    Decide(Vec<Change>, Reply),
    /// Whether it was applied before can no longer be known.
    Forgotten,
}

/// A majority of three.
const MAJORITY: usize = 2;

/// Of the accepted ballots that were shown by whom, the one to go on from.
struct Newest {
    ballot: Ballot,
    decided: bool,
}

impl Register {
    /// Goes on from the promises of the acceptors in `mask`.
    pub fn propose(&self, state: &mut State, attempt: usize, mask: u8) -> bool {
        let Phase::Preparing { round, epoch } = state.attempts[attempt] else { return false };
        let ballot = self.ballot(attempt, round);
        let shown = self.promised(state, attempt, round, mask);
        if !majority(self.scenario.read_set(epoch), |a| shown[a].is_some()) {
            return false;
        }
        let newest = self.newest(state, epoch, &shown);
        match self.verdict(state, attempt, ballot, &newest) {
            Verdict::Tell(reply) => self.tell(state, attempt, reply),
            Verdict::Forgotten => state.attempts[attempt] = Phase::Over,
            Verdict::Decide(history, reply) => {
                if let Some(at) = at(ballot) {
                    state.proposals[at] = Some(Proposal { epoch, history: history.into() });
                }
                state.attempts[attempt] = Phase::Accepting { round, epoch, reply };
            }
        }
        true
    }

    fn promised(&self, state: &State, attempt: usize, round: u8, mask: u8) -> Vec<Option<Ballot>> {
        let stale = if self.makes(Mistake::StaleRoundCounts) { 0 } else { round };
        let answered = |a: usize| {
            let promises = &state.acceptors[a].promises;
            (stale..=round).rev().find_map(|round| promises[at(self.ballot(attempt, round))?])
        };
        let among = |a: usize| if mask & (1 << a) == 0 { None } else { answered(a) };
        (0..state.acceptors.len()).map(among).collect()
    }

    fn newest(&self, state: &State, epoch: u8, shown: &[Option<Ballot>]) -> Newest {
        let all = shown.iter().flatten().copied();
        let rank = |ballot: &Ballot| self.rank(state, *ballot);
        let last = all.clone().max_by_key(rank).unwrap_or(0);
        let ballot = match all.min_by_key(rank) {
            Some(first) if self.makes(Mistake::NewestIgnored) => first,
            _ => last,
        };
        let sets = self.scenario.write_sets(epoch);
        let sets = if self.makes(Mistake::OneSetLooked) { &sets[..1] } else { sets };
        let decided = sets.iter().all(|set| majority(set, |a| shown[a] == Some(ballot)));
        Newest { ballot, decided }
    }

    fn verdict(&self, state: &State, attempt: usize, ballot: Ballot, newest: &Newest) -> Verdict {
        let history = state.state_of(newest.ballot);
        let id = self.scenario.attempts[attempt].op;
        let op = self.scenario.ops[usize::from(id)];
        let subject = if let Op::Outcome { of } = op { of } else { id };
        let asks = matches!(op, Op::Outcome { .. });
        let reads = matches!(op, Op::Read | Op::FastRead);
        if !reads {
            if let Some(found) = self.recent(history, subject) {
                let reply = recorded(found.what, asks);
                return self.confirm(history, newest.decided, reply);
            }
            let tried = asks || self.tried_before(state, attempt);
            if tried && self.dropped(history) && !self.makes(Mistake::ForgottenIgnored) {
                return Verdict::Forgotten;
            }
        }
        let value = value_of(history);
        let change = |op, what| {
            let mut changed = history.to_vec();
            changed.push(Change { op, made: ballot, what });
            changed
        };
        match op {
            Op::Put { value } | Op::Brief { value } => {
                Verdict::Decide(change(id, What::Value(value)), Reply::Applied)
            }
            Op::Cas { expect, value: new } if expect == value => {
                Verdict::Decide(change(id, What::Value(new)), Reply::Applied)
            }
            Op::Cas { .. } if self.makes(Mistake::FailedBeforeDecided) => {
                Verdict::Tell(Reply::Failed(value))
            }
            Op::Cas { .. } => self.confirm(history, newest.decided, Reply::Failed(value)),
            Op::FastRead if self.expires(value) => {
                if self.makes(Mistake::ExpiryNotDecided) {
                    return Verdict::Tell(Reply::Value(0));
                }
                Verdict::Decide(change(id, What::Expired), Reply::Value(0))
            }
            Op::Read | Op::FastRead => self.confirm(history, newest.decided, Reply::Value(value)),
            Op::Outcome { .. } if self.makes(Mistake::CancelNotDecided) => {
                self.confirm(history, newest.decided, Reply::Outcome { applied: false })
            }
            Op::Outcome { of } => {
                let cancelled = change(of, What::Cancelled);
                Verdict::Decide(cancelled, Reply::Outcome { applied: false })
            }
        }
    }

    /// An answer that changes nothing rests on a state that is decided, or is decided now.
    fn confirm(&self, history: &[Change], decided: bool, reply: Reply) -> Verdict {
        if decided || self.makes(Mistake::WriteBackSkipped) {
            return Verdict::Tell(reply);
        }
        Verdict::Decide(history.to_vec(), reply)
    }

    /// The ids a register still has.
    fn recent<'a>(&self, history: &'a [Change], id: u8) -> Option<&'a Change> {
        if self.makes(Mistake::IdsIgnored) {
            return None;
        }
        let ids = history.iter().rev().filter(|change| change.what != What::Expired);
        ids.take(self.scenario.ids).find(|change| change.op == id)
    }

    fn dropped(&self, history: &[Change]) -> bool {
        let ids = history.iter().filter(|change| change.what != What::Expired);
        ids.count() > self.scenario.ids
    }

    /// Whether an earlier attempt, or an earlier round of this one, may have applied it.
    fn tried_before(&self, state: &State, attempt: usize) -> bool {
        self.scenario.attempt_number(attempt) > 0 || self.has_proposed(state, attempt)
    }

    fn has_proposed(&self, state: &State, attempt: usize) -> bool {
        let proposed = |ballot| at(ballot).is_some_and(|at| state.proposals[at].is_some());
        self.ballots(attempt).any(proposed)
    }

    pub fn expires(&self, value: u8) -> bool {
        let brief = |op: &Op| matches!(op, Op::Brief { value: brief } if *brief == value);
        value != 0 && self.scenario.ops.iter().any(brief)
    }

    /// Goes on from what a look was shown by the acceptors in `mask`.
    pub fn decide_look(&self, state: &mut State, attempt: usize, mask: u8) -> bool {
        let Phase::Looking { epoch } = state.attempts[attempt] else { return false };
        let shown: Vec<Option<Ballot>> = (0..state.acceptors.len())
            .map(|a| state.acceptors[a].looked[attempt].filter(|_| mask & (1 << a) != 0))
            .collect();
        if !majority(self.scenario.read_set(epoch), |a| shown[a].is_some()) {
            return false;
        }
        let newest = self.newest(state, epoch, &shown);
        let agreed = (0..=BALLOTS as Ballot)
            .any(|ballot| majority(self.scenario.read_set(epoch), |a| shown[a] == Some(ballot)));
        let decided = newest.decided || self.makes(Mistake::MajorityOnOlder) && agreed;
        let value = value_of(state.state_of(newest.ballot));
        let op = self.scenario.ops[usize::from(self.scenario.attempts[attempt].op)];
        let fast = matches!(op, Op::FastRead) && self.expires(value);
        if !decided || fast && !self.makes(Mistake::ExpiryNotDecided) {
            return false;
        }
        self.tell(state, attempt, Reply::Value(if fast { 0 } else { value }));
        true
    }

    /// Whether the acceptances of the acceptors in `mask` decide, by what this proposer goes by.
    pub fn finish(&self, state: &mut State, attempt: usize) -> bool {
        let Phase::Accepting { round, epoch, reply } = state.attempts[attempt] else {
            return false;
        };
        let Some(at) = at(self.ballot(attempt, round)) else { return false };
        let answers = |a: usize| state.acceptors[a].accepted[at];
        if self.makes(Mistake::MinorityDecides) {
            if (0..state.acceptors.len()).all(|a| answers(a).is_none()) {
                return false;
            }
        } else if !self.is_decided(epoch, answers, true) {
            return false;
        }
        self.tell(state, attempt, reply);
        true
    }

    /// Whether these acceptances decide a ballot of this epoch: by majorities of every set that is
    /// written, incomplete acceptors counting only where nothing is read.
    pub fn is_decided(
        &self,
        epoch: u8,
        answers: impl Fn(usize) -> Option<bool>,
        mistaken: bool,
    ) -> bool {
        let makes = |mistake| mistaken && self.makes(mistake);
        let sets = self.scenario.write_sets(epoch);
        let sets = if makes(Mistake::OneSetDecides) { &sets[..1] } else { sets };
        sets.iter().all(|set| {
            let read = *set == self.scenario.read_set(epoch);
            majority(set, |a| match answers(a) {
                None => false,
                Some(complete) => complete || !read || makes(Mistake::IncompleteCounts),
            })
        })
    }

    /// Ends an attempt with "not applied": no acceptor can ever hold what it has asked for.
    pub fn give_up(&self, state: &mut State, attempt: usize) -> bool {
        let Phase::Preparing { .. } = state.attempts[attempt] else { return false };
        if self.has_proposed(state, attempt) && !self.makes(Mistake::NotAppliedTooEarly) {
            return false;
        }
        state.attempts[attempt] = Phase::NotApplied;
        true
    }
}

fn recorded(what: What, asks: bool) -> Reply {
    match (what, asks) {
        (What::Cancelled, false) => Reply::Cancelled,
        (_, false) => Reply::Applied,
        (what, true) => Reply::Outcome { applied: what != What::Cancelled },
    }
}

fn majority(set: &[usize], holds: impl Fn(usize) -> bool) -> bool {
    set.iter().filter(|&&a| holds(a)).count() >= MAJORITY
}

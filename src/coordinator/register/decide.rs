//! What a round does with what it found: pure. A state is answered from only when it is decided, by
//! what was found or by being written again under the round's own ballot; and whatever is written
//! keeps every attempt of the same change below that ballot from ever being made.

use core::time::Duration;

use crate::causality::Finding;
use crate::message::{Expectation, Fate};
use crate::types::{Record, RegisterState, RequestId, Stamp, Value, WallTime};

/// What an operation is to do.
#[derive(Clone, Debug)]
pub enum Goal {
    /// Tell the value.
    Get,
    /// Put a value in, or take it away.
    Put(NewValue),
    /// The same if the key holds what is expected.
    Cas(Expectation, NewValue),
    /// Add to the number that the key holds; a key without a value holds 0.
    Add {
        /// What is added.
        by: i64,
        /// How long the sum lives, counted from its ballot; `None`: as long as the value before it.
        ttl: Option<Duration>,
    },
    /// Find out what became of a change, and give it up for good if it was not made.
    Outcome,
}

impl Goal {
    /// Bytes of the values it holds.
    pub(super) fn bytes(&self) -> usize {
        let length = |value: &Value| value.as_bytes().len();
        let new = |new: &NewValue| new.value.as_ref().map_or(0, length);
        match self {
            Goal::Get | Goal::Outcome | Goal::Add { .. } => 0,
            Goal::Put(put) => new(put),
            Goal::Cas(Expectation::Value(expected), put) => length(expected) + new(put),
            Goal::Cas(Expectation::Absent | Expectation::Stamp(_), put) => new(put),
        }
    }
}

/// A value to be.
#[derive(Clone, Debug)]
pub struct NewValue {
    /// The value; `None` deletes.
    pub value: Option<Value>,
    /// How long it lives, counted from its ballot; `None`: for ever.
    pub ttl: Option<Duration>,
}

/// What a round rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Basis {
    /// The change; 0 of a read.
    pub(super) id: RequestId,
    /// The round's ballot.
    pub(super) ballot: Stamp,
    /// The wall clock: a time to live that is over by it is over.
    pub(super) wall: WallTime,
    /// An earlier attempt of the same change, decided after this time, may have been made. `None`:
    /// there was no such attempt.
    pub(super) since: Option<WallTime>,
    /// Where nobody shows a state: one may have been purged, with what it knew of changes up to here.
    pub(super) floor: Stamp,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The state to have accepted before the answer is given; `None`: what was found is decided.
    pub(super) propose: Option<RegisterState>,
    /// The answer.
    pub(super) answer: Answer,
    /// What is proposed makes the change itself: from now on it may be made.
    pub(super) changes: bool,
}

/// What an operation comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The key holds this. The stamp is that of the value, or of what took it away.
    Holds(Option<Record>, Stamp),
    /// The change was made.
    Made(Stamp),
    /// The increment was made, and this is the sum; `None` when it is not known any more.
    Added(Stamp, Option<i64>),
    /// The key holds a value that is no number.
    NoCounter,
    /// The sum would be out of bounds.
    Overflow,
    /// The key does not hold what was expected.
    Differs(Option<Record>, Stamp),
    /// The change was given up for good.
    GivenUp,
    /// What became of the change.
    Became(Fate),
    /// The key may have known the change and have forgotten it.
    Forgotten,
}

/// What a round with a ballot does.
pub(super) fn decide(goal: &Goal, found: &Finding, basis: &Basis) -> Decision {
    let newest = found.newest.as_ref().map(|accepted| accepted.state.clone());
    let newest = newest.unwrap_or_else(|| {
        let forgets = !crate::mutant!("purged-register-denies");
        RegisterState::purged(if forgets { basis.floor } else { Stamp::ZERO })
    });
    let again = |state: &RegisterState, certain: bool| (!certain).then(|| state.clone());
    if let Some(entry) = newest.ids.find(basis.id)
        && !matches!(goal, Goal::Get)
        && !crate::mutant!("register-ids-ignored")
    {
        let fate = if entry.applied { Fate::Applied(entry.ballot) } else { Fate::Cancelled };
        let answer = match (goal, fate) {
            (Goal::Outcome, fate) => Answer::Became(fate),
            (Goal::Add { .. }, Fate::Applied(stamp)) => {
                // Whoever has changed the key since has left no trace of the sum.
                let is_there = newest.stamp == stamp && !newest.is_expired(basis.wall);
                Answer::Added(stamp, is_there.then(|| number(&newest)).flatten())
            }
            (_, Fate::Applied(stamp)) => Answer::Made(stamp),
            (_, Fate::Cancelled) => Answer::GivenUp,
        };
        let propose = again(&newest, found.decided);
        // It is there: whoever writes this state again has it made.
        return Decision { changes: propose.is_some(), propose, answer };
    }
    if basis.since.is_some_and(|since| newest.ids.may_have_forgotten(since)) {
        return Decision { propose: None, answer: Answer::Forgotten, changes: false };
    }
    let expired = newest.is_expired(basis.wall);
    let mut state = newest;
    if expired {
        crate::sometimes!("register: a value that expired is taken away");
        (state.value, state.expiry, state.stamp) = (None, None, basis.ballot);
    }
    if let Goal::Add { by, ttl } = goal {
        return add(state, (*by, *ttl), basis, found.decided && !expired);
    }
    let (new, differs) = match goal {
        Goal::Get => {
            let answer = Answer::Holds(state.record(), state.stamp);
            let propose = again(&state, found.decided && !expired);
            return Decision { propose, answer, changes: false };
        }
        Goal::Outcome => {
            state.ids.enter(basis.id, basis.ballot, false);
            let answer = Answer::Became(Fate::Cancelled);
            return Decision { propose: Some(state), answer, changes: true };
        }
        Goal::Put(new) => (new, false),
        Goal::Add { .. } => unreachable!("done with above"),
        Goal::Cas(expect, new) => (new, !holds(&state, expect)),
    };
    if differs {
        let answer = Answer::Differs(state.record(), state.stamp);
        // An earlier attempt may lie at a few owners and come to life, unless a higher ballot is
        // decided over it.
        let certain = found.decided && !expired && basis.since.is_none();
        return Decision { propose: again(&state, certain), answer, changes: false };
    }
    state.value.clone_from(&new.value);
    state.expiry = new.ttl.filter(|_| new.value.is_some()).map(|ttl| basis.ballot.time.plus(ttl));
    state.stamp = basis.ballot;
    state.ids.enter(basis.id, basis.ballot, true);
    Decision { propose: Some(state), answer: Answer::Made(basis.ballot), changes: true }
}

/// Adds to what `state` holds, which is decided if it is `certain`.
fn add(
    mut state: RegisterState,
    (by, ttl): (i64, Option<Duration>),
    basis: &Basis,
    certain: bool,
) -> Decision {
    let held = match &state.value {
        None => Some(0),
        Some(_) if crate::mutant!("register-adds-to-nothing") => Some(0),
        Some(_) => number(&state),
    };
    let sum = held.ok_or(Answer::NoCounter);
    let sum = sum.and_then(|held| held.checked_add(by).ok_or(Answer::Overflow));
    let sum = match sum {
        Ok(sum) => sum,
        Err(answer) => {
            // As of a failed comparison: an earlier attempt must not come to life.
            let certain = certain && basis.since.is_none();
            let propose = (!certain).then_some(state);
            return Decision { propose, answer, changes: false };
        }
    };
    state.value = Value::new(sum.to_string()).ok();
    state.expiry = ttl.map(|ttl| basis.ballot.time.plus(ttl)).or(state.expiry);
    state.stamp = basis.ballot;
    state.ids.enter(basis.id, basis.ballot, true);
    let answer = Answer::Added(basis.ballot, Some(sum));
    Decision { propose: Some(state), answer, changes: true }
}

/// The number that a value is, written as increments write it.
fn number(state: &RegisterState) -> Option<i64> {
    let text = core::str::from_utf8(state.value.as_ref()?.as_bytes()).ok()?;
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

/// What a look alone can answer.
pub(super) fn look(found: &Finding, wall: WallTime) -> Option<Answer> {
    if !found.decided {
        return None;
    }
    let Some(accepted) = &found.newest else { return Some(Answer::Holds(None, Stamp::ZERO)) };
    let state = &accepted.state;
    (!state.is_expired(wall)).then(|| Answer::Holds(state.record(), state.stamp))
}

fn holds(state: &RegisterState, expect: &Expectation) -> bool {
    match (&state.value, expect) {
        (None, Expectation::Absent) => true,
        (Some(value), Expectation::Value(expected)) => value == expected,
        (Some(_), Expectation::Stamp(stamp)) => state.stamp == *stamp,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::Accepted;
    use crate::types::{Epoch, NodeId, limits::RECENT_IDS_MAX};

    const ID: RequestId = RequestId(7);

    fn at(time: u64) -> Stamp {
        Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
    }

    fn new(text: &str) -> NewValue {
        NewValue { value: Value::new(text.to_owned()).ok(), ttl: None }
    }

    fn holding(text: &str, stamp: u64) -> RegisterState {
        RegisterState {
            value: Value::new(text.to_owned()).ok(),
            stamp: at(stamp),
            ..RegisterState::default()
        }
    }

    fn found(state: RegisterState, decided: bool) -> Finding {
        let fence = Epoch(1);
        Finding { newest: Some(Accepted { fence, ballot: at(50), state }), decided }
    }

    fn basis() -> Basis {
        Basis { id: ID, ballot: at(100), wall: WallTime(90), since: None, floor: Stamp::ZERO }
    }

    fn later() -> Basis {
        Basis { since: Some(WallTime(10)), ..basis() }
    }

    fn expects(text: &str) -> Goal {
        Goal::Cas(Expectation::Value(Value::new(text.to_owned()).unwrap()), new("new"))
    }

    #[test]
    fn a_put_makes_a_state_under_its_own_ballot_and_enters_its_id() {
        let put = Goal::Put(NewValue { ttl: Some(Duration::from_nanos(5)), ..new("new") });
        let made = decide(&put, &found(holding("old", 40), true), &basis());
        let state = made.propose.unwrap();
        assert_eq!((state.stamp, state.expiry), (at(100), Some(WallTime(105))));
        assert_eq!(state.value, new("new").value);
        assert_eq!(
            state.ids.find(ID).map(|entry| (entry.ballot, entry.applied)),
            Some((at(100), true))
        );
        assert_eq!((made.answer, made.changes), (Answer::Made(at(100)), true));
        let delete = Goal::Put(NewValue { value: None, ttl: Some(Duration::from_nanos(5)) });
        let gone = decide(&delete, &found(holding("old", 40), true), &basis()).propose.unwrap();
        assert_eq!((gone.value, gone.expiry, gone.stamp), (None, None, at(100)));
    }

    #[test]
    fn a_change_that_is_there_is_not_made_again() {
        let mut state = holding("mine", 60);
        state.ids.enter(ID, at(60), true);
        let put = Goal::Put(new("mine"));
        let twice = decide(&put, &found(state.clone(), true), &later());
        assert_eq!((twice.propose, twice.answer), (None, Answer::Made(at(60))));
        let undecided = decide(&put, &found(state.clone(), false), &later());
        assert_eq!((undecided.propose, undecided.changes), (Some(state.clone()), true));
        let asked = decide(&Goal::Outcome, &found(state.clone(), true), &later());
        assert_eq!(asked.answer, Answer::Became(Fate::Applied(at(60))));
        let _armed = crate::testing::arm_mutant("register-ids-ignored");
        assert_eq!(decide(&put, &found(state, true), &later()).answer, Answer::Made(at(100)));
    }

    #[test]
    fn a_failed_expectation_answers_only_from_a_decided_state() {
        let sure = decide(&expects("x"), &found(holding("old", 40), true), &basis());
        let old = holding("old", 40);
        assert_eq!(sure.answer, Answer::Differs(old.record(), at(40)));
        assert_eq!((sure.propose, sure.changes), (None, false));
        let unsure = decide(&expects("x"), &found(old.clone(), false), &basis());
        assert_eq!((unsure.propose, unsure.changes), (Some(old.clone()), false));
        // An earlier attempt may lie somewhere: it is buried first.
        let again = decide(&expects("x"), &found(old.clone(), true), &later());
        assert_eq!(again.propose, Some(old));
        let nothing = Finding { newest: None, decided: true };
        assert_eq!(decide(&expects("x"), &nothing, &basis()).propose, None);
        assert!(decide(&expects("x"), &nothing, &later()).propose.is_some());
    }

    #[test]
    fn expectations_are_of_the_value_the_stamp_or_its_absence() {
        let state = holding("old", 40);
        let value = |text: &str| Expectation::Value(Value::new(text.to_owned()).unwrap());
        assert!(holds(&state, &value("old")) && !holds(&state, &value("other")));
        assert!(holds(&state, &Expectation::Stamp(at(40))));
        assert!(!holds(&state, &Expectation::Stamp(at(50))));
        assert!(!holds(&state, &Expectation::Absent));
        let gone = RegisterState { stamp: at(40), ..RegisterState::default() };
        assert!(holds(&gone, &Expectation::Absent));
        assert!(!holds(&gone, &Expectation::Stamp(at(40))), "there is no value");
        assert!(!holds(&gone, &value("")));
    }

    #[test]
    fn an_expired_value_is_absent_and_is_taken_away_before_anyone_is_told() {
        let old = RegisterState { expiry: Some(WallTime(90)), ..holding("old", 40) };
        let found = found(old, true);
        assert_eq!(look(&found, WallTime(90)), None);
        assert!(look(&found, WallTime(89)).is_some());
        let get = decide(&Goal::Get, &found, &basis());
        assert_eq!(get.answer, Answer::Holds(None, at(100)));
        let gone = get.propose.unwrap();
        assert_eq!((gone.value, gone.expiry, gone.stamp), (None, None, at(100)));
        let differs = decide(&expects("old"), &found, &basis());
        assert_eq!(differs.answer, Answer::Differs(None, at(100)));
        assert!(differs.propose.is_some());
        let absent = Goal::Cas(Expectation::Absent, new("new"));
        assert_eq!(decide(&absent, &found, &basis()).answer, Answer::Made(at(100)));
    }

    fn add(by: i64) -> Goal {
        Goal::Add { by, ttl: None }
    }

    #[test]
    fn an_increment_adds_to_the_number_that_is_there() {
        let sum = |text: &str, by| {
            let made = decide(&add(by), &found(holding(text, 40), true), &basis());
            let value = made.propose.and_then(|state| state.value);
            let text = value.map(|value| value.as_bytes().escape_ascii().to_string());
            (made.answer, made.changes, text)
        };
        let made = |value| Answer::Added(at(100), Some(value));
        assert_eq!(sum("40", 2), (made(42), true, Some("42".to_owned())));
        assert_eq!(sum("1", -3), (made(-2), true, Some("-2".to_owned())));
        for odd in ["", "x", "+1", "01", "-0", "9223372036854775808"] {
            assert_eq!(sum(odd, 1), (Answer::NoCounter, false, None), "{odd}");
        }
        assert_eq!(sum("9223372036854775807", 1).0, Answer::Overflow);
        assert_eq!(sum("-9223372036854775808", -1).0, Answer::Overflow);
        let nothing = Finding { newest: None, decided: true };
        assert_eq!(decide(&add(7), &nothing, &basis()).answer, made(7));
        let _armed = crate::testing::arm_mutant("register-adds-to-nothing");
        assert_eq!(sum("40", 2).0, made(2));
    }

    #[test]
    fn an_increment_that_was_made_tells_its_sum_while_that_is_there() {
        let state = decide(&add(5), &found(holding("1", 40), true), &basis()).propose.unwrap();
        let again = Basis { ballot: at(200), ..later() };
        let told = decide(&add(5), &found(state.clone(), true), &again);
        assert_eq!((told.propose, told.answer), (None, Answer::Added(at(100), Some(6))));
        let other = Basis { id: RequestId(99), ballot: at(150), ..basis() };
        let state = decide(&add(1), &found(state, true), &other).propose.unwrap();
        let told = decide(&add(5), &found(state, true), &again);
        assert_eq!((told.propose, told.answer), (None, Answer::Added(at(100), None)));
    }

    #[test]
    fn what_cannot_be_added_to_is_answered_from_a_decided_state_alone() {
        for (text, answer) in [("x", Answer::NoCounter), ("9223372036854775807", Answer::Overflow)]
        {
            let state = holding(text, 40);
            let sure = decide(&add(1), &found(state.clone(), true), &basis());
            assert_eq!((sure.propose, &sure.answer), (None, &answer));
            for unsure in [
                decide(&add(1), &found(state.clone(), false), &basis()),
                decide(&add(1), &found(state.clone(), true), &later()),
            ] {
                assert_eq!((unsure.propose, unsure.answer), (Some(state.clone()), answer.clone()));
                assert!(!unsure.changes);
            }
        }
    }

    #[test]
    fn an_increment_counts_the_time_to_live_anew_or_leaves_it() {
        let old = RegisterState { expiry: Some(WallTime(95)), ..holding("1", 40) };
        let sum = |goal: &Goal, wall| {
            let basis = Basis { wall: WallTime(wall), ..basis() };
            let made = decide(goal, &found(old.clone(), true), &basis);
            (made.answer, made.propose.unwrap().expiry)
        };
        let made = |value| Answer::Added(at(100), Some(value));
        assert_eq!(sum(&add(1), 90), (made(2), Some(WallTime(95))));
        let anew = Goal::Add { by: 1, ttl: Some(Duration::from_nanos(9)) };
        assert_eq!(sum(&anew, 90), (made(2), Some(WallTime(109))));
        // What has expired is nothing.
        assert_eq!(sum(&add(1), 95), (made(1), None));
    }

    #[test]
    fn an_outcome_that_is_not_there_is_given_up_for_good() {
        let asked = decide(&Goal::Outcome, &found(holding("old", 40), true), &later());
        assert_eq!((&asked.answer, asked.changes), (&Answer::Became(Fate::Cancelled), true));
        let state = asked.propose.unwrap();
        assert_eq!(state.stamp, at(40), "the value is as it was");
        let late = decide(&Goal::Put(new("late")), &found(state, true), &basis());
        assert_eq!((late.answer, late.propose), (Answer::GivenUp, None));
    }

    #[test]
    fn what_may_have_been_forgotten_is_neither_made_again_nor_denied() {
        let mut state = holding("old", 40);
        for n in 0..=RECENT_IDS_MAX as u64 {
            state.ids.enter(RequestId(1000 + u128::from(n)), at(30 + n), true);
        }
        let found = found(state, true);
        for goal in [Goal::Put(new("x")), expects("x"), Goal::Outcome] {
            let unsure = decide(&goal, &found, &later());
            assert_eq!((unsure.answer, unsure.propose), (Answer::Forgotten, None));
            let exact = Basis { since: Some(WallTime(30)), ..basis() };
            assert_ne!(decide(&goal, &found, &exact).answer, Answer::Forgotten);
        }
        assert_eq!(decide(&Goal::Put(new("x")), &found, &basis()).answer, Answer::Made(at(100)));
    }

    /// Seed 830000002284: a change, a delete, a purge, and then the question.
    #[test]
    fn what_was_purged_is_neither_made_again_nor_denied() {
        let nothing = Finding { newest: None, decided: true };
        let purged = Basis { floor: at(20), ..later() };
        for goal in [Goal::Put(new("x")), expects("x"), Goal::Outcome] {
            let unsure = decide(&goal, &nothing, &purged);
            assert_eq!((unsure.answer, unsure.propose), (Answer::Forgotten, None));
            let after = Basis { since: Some(WallTime(20)), ..purged };
            assert_ne!(decide(&goal, &nothing, &after).answer, Answer::Forgotten);
        }
        // What comes next remembers how much was forgotten.
        let made = decide(&Goal::Put(new("x")), &nothing, &Basis { since: None, ..purged });
        assert_eq!(made.answer, Answer::Made(at(100)));
        let asked = decide(
            &Goal::Outcome,
            &found(made.propose.unwrap(), true),
            &Basis { id: RequestId(8), ..later() },
        );
        assert_eq!(asked.answer, Answer::Forgotten);
        let _armed = crate::testing::arm_mutant("purged-register-denies");
        let denied = decide(&Goal::Outcome, &nothing, &purged).answer;
        assert_eq!(denied, Answer::Became(Fate::Cancelled));
    }

    #[test]
    fn a_read_writes_again_what_is_not_known_to_be_decided() {
        let state = holding("old", 40);
        let get = decide(&Goal::Get, &found(state.clone(), false), &basis());
        assert_eq!(get.answer, Answer::Holds(state.record(), at(40)));
        assert_eq!((get.propose, get.changes), (Some(state.clone()), false));
        assert_eq!(look(&found(state.clone(), false), WallTime(0)), None);
        let seen = look(&found(state.clone(), true), WallTime(0));
        assert_eq!(seen, Some(Answer::Holds(state.record(), at(40))));
    }
}

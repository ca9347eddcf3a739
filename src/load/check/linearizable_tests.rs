//! Hand-made histories, good ones and one for each planted violation; and many random ones of a
//! register in one place, which always have an explanation until one answer is bent.

use core::time::Duration;

use fastrand::Rng;

use super::linearizable;
use crate::load::check::Violation;
use crate::load::history::{Action, Expect, History, Life, OpIndex, Outcome, Settled};
use crate::types::{Key, NodeId, Stamp, Time, Value, WallTime};

/// A history of one key, told step by step: each step is one tick of the clock.
#[derive(Default)]
struct Story {
    history: History,
    tick: u64,
}

fn value(text: &str) -> Value {
    Value::new(text.to_owned()).unwrap()
}

fn stamp(time: u64) -> Stamp {
    if time == 0 {
        return Stamp::ZERO;
    }
    Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
}

fn put(text: &str) -> Action {
    Action::Put(value(text))
}

fn cas(expect: &str, text: &str) -> Action {
    Action::Cas(Expect::Value(value(expect)), Some(value(text)))
}

fn written(time: u64) -> Outcome {
    Outcome::Written { stamp: stamp(time), weak: false }
}

fn seen(text: &str, time: u64) -> Outcome {
    Outcome::Read { value: Some(value(text)), stamp: stamp(time), weak: false }
}

fn mismatch(text: &str, time: u64) -> Outcome {
    Outcome::Mismatch { current: Some(value(text)), stamp: stamp(time) }
}

const MISS: Outcome = Outcome::Read { value: None, stamp: Stamp::ZERO, weak: false };

impl Story {
    fn now(&mut self) -> Time {
        self.tick += 1;
        Time(self.tick)
    }

    fn begin(&mut self, action: Action) -> OpIndex {
        let (process, now) = (self.history.new_process(), self.now());
        self.history.invoke(process, Key::new("k").unwrap(), action, now)
    }

    fn end(&mut self, op: OpIndex, outcome: Outcome) {
        let now = self.now();
        self.history.complete(op, outcome, now);
    }

    fn done(&mut self, action: Action, outcome: Outcome) -> OpIndex {
        let op = self.begin(action);
        self.end(op, outcome);
        op
    }

    fn told(&mut self, op: OpIndex, settled: Settled) {
        let now = self.now();
        self.history.settle(op, settled, now);
    }

    fn faults(&self) -> Vec<&'static str> {
        let name = |violation: &Violation| match violation {
            Violation::NotLinearizable { .. } => "inexplicable",
            Violation::ValueFromNowhere { .. } => "nowhere",
            Violation::FailedWriteRead { .. } => "failed",
            Violation::FalseMismatch { .. } => "mismatch",
            Violation::OutcomeContradicted { .. } => "contradicted",
            Violation::StampOrder { .. } => "stamps",
            Violation::ExpiredRead { .. } => "expired",
            other => panic!("{other}"),
        };
        linearizable(&self.history).iter().map(name).collect()
    }
}

#[test]
fn what_one_register_may_answer_passes() {
    let mut story = Story::default();
    story.done(Action::Get, MISS);
    story.done(Action::Cas(Expect::Absent, Some(value("a"))), written(1));
    story.done(cas("x", "y"), mismatch("a", 1));
    story.done(Action::Cas(Expect::Stamp(stamp(1)), Some(value("b"))), written(2));
    let (one, other) = (story.begin(put("c")), story.begin(Action::Delete));
    let read = story.begin(Action::Get);
    story.end(one, written(4));
    story.end(other, written(3));
    story.end(read, seen("b", 2));
    story.done(Action::Get, seen("c", 4));
    story.done(Action::Cas(Expect::Value(value("c")), None), written(5));
    story.done(Action::Get, Outcome::Read { value: None, stamp: stamp(5), weak: false });
    assert!(story.faults().is_empty(), "{:?}", story.faults());
}

#[test]
fn a_stale_read_is_found_even_where_stamps_are_not_told() {
    let mut story = Story::default();
    story.done(put("a"), written(1));
    story.done(put("b"), written(2));
    story.done(Action::Get, seen("a", 1));
    assert_eq!(story.faults(), ["stamps", "inexplicable"]);
    let mut story = Story::default();
    story.done(put("a"), written(1));
    story.done(Action::Delete, written(2));
    story.done(put("b"), written(3));
    story.done(Action::Get, MISS);
    assert_eq!(story.faults(), ["inexplicable"]);
}

#[test]
fn reads_that_go_back_and_forth_around_an_open_write_are_found() {
    let mut story = Story::default();
    story.done(put("a"), written(1));
    let open = story.begin(put("b"));
    story.end(open, Outcome::Unknown);
    story.done(Action::Get, seen("a", 1));
    story.done(Action::Get, seen("b", 2));
    assert!(story.faults().is_empty());
    story.done(Action::Get, seen("a", 1));
    assert_eq!(story.faults(), ["stamps", "inexplicable"]);
}

#[test]
fn two_compares_with_one_value_are_a_lost_update() {
    let mut story = Story::default();
    story.done(put("0"), written(1));
    let (one, other) = (story.begin(cas("0", "1")), story.begin(cas("0", "2")));
    story.end(one, written(2));
    story.end(other, written(3));
    assert_eq!(story.faults(), ["inexplicable"]);
}

#[test]
fn a_compare_whose_retry_was_applied_again_is_found() {
    let mut story = Story::default();
    story.done(put("0"), written(1));
    let twice = story.begin(cas("0", "1"));
    story.done(cas("1", "0'"), written(3));
    story.done(put("0"), written(4));
    story.end(twice, written(5));
    // It was seen before anybody can have applied it again.
    story.done(Action::Get, seen("1", 5));
    assert_eq!(story.faults(), ["inexplicable"]);
}

#[test]
fn a_failed_compare_that_was_applied_is_found() {
    let mut story = Story::default();
    story.done(put("0"), written(1));
    story.done(cas("9", "1"), mismatch("0", 1));
    story.done(Action::Get, seen("1", 2));
    assert_eq!(story.faults(), ["failed", "inexplicable"]);
    let mut story = Story::default();
    story.done(put("0"), written(1));
    story.done(put("1"), Outcome::Failed);
    story.done(Action::Get, seen("1", 2));
    assert_eq!(story.faults(), ["failed", "inexplicable"]);
}

#[test]
fn a_mismatch_that_is_none_and_one_with_an_old_value_are_found() {
    let mut story = Story::default();
    story.done(put("0"), written(1));
    story.done(cas("0", "1"), mismatch("0", 1));
    assert_eq!(story.faults(), ["mismatch"]);
    let mut story = Story::default();
    story.done(put("0"), written(1));
    story.done(put("1"), written(2));
    story.done(cas("1", "2"), mismatch("0", 1));
    assert_eq!(story.faults(), ["stamps", "inexplicable"]);
}

#[test]
fn a_value_from_nowhere_is_found() {
    let mut story = Story::default();
    story.done(Action::Get, seen("ghost", 1));
    assert_eq!(story.faults(), ["nowhere", "inexplicable"]);
}

#[test]
fn an_open_compare_counts_where_its_value_showed_and_only_once() {
    let mut story = Story::default();
    story.done(put("0"), written(1));
    let open = story.begin(cas("0", "1"));
    story.end(open, Outcome::Unknown);
    story.done(Action::Get, seen("1", 2));
    story.done(put("0"), written(3));
    assert!(story.faults().is_empty());
    story.done(Action::Get, seen("1", 4));
    assert_eq!(story.faults(), ["inexplicable"]);
}

#[test]
fn an_open_delete_may_happen_at_any_time_but_once() {
    let mut story = Story::default();
    let open = story.begin(Action::Delete);
    story.end(open, Outcome::Unknown);
    story.done(put("a"), written(1));
    story.done(Action::Get, seen("a", 1));
    story.done(Action::Get, MISS);
    story.done(put("b"), written(3));
    assert!(story.faults().is_empty());
    story.done(Action::Get, MISS);
    assert_eq!(story.faults(), ["inexplicable"]);
}

#[test]
fn what_became_of_a_write_binds_it() {
    let begun = |settled| {
        let mut story = Story::default();
        story.done(put("a"), written(1));
        let open = story.begin(put("b"));
        story.end(open, Outcome::Unknown);
        story.told(open, settled);
        (story, open)
    };
    let (mut story, open) = begun(Settled::Applied(stamp(2)));
    assert!(story.faults().is_empty());
    story.told(open, Settled::Applied(stamp(2)));
    assert!(story.faults().is_empty());
    story.done(Action::Get, seen("a", 1));
    assert_eq!(story.faults(), ["stamps", "inexplicable"]);

    let (mut story, open) = begun(Settled::Cancelled);
    story.done(Action::Get, seen("a", 1));
    assert!(story.faults().is_empty());
    story.done(Action::Get, seen("b", 2));
    assert_eq!(story.faults(), ["failed", "inexplicable"]);
    story.told(open, Settled::Applied(stamp(2)));
    assert_eq!(story.faults(), ["contradicted", "failed", "inexplicable"]);

    let mut story = Story::default();
    let op = story.done(put("a"), written(1));
    story.told(op, Settled::Cancelled);
    assert_eq!(story.faults(), ["contradicted"]);
}

#[test]
fn a_stamp_names_the_version_that_was_shown_under_it() {
    let mut story = Story::default();
    let open = story.begin(put("a"));
    story.end(open, Outcome::Unknown);
    story.done(Action::Get, seen("a", 1));
    story.done(Action::Cas(Expect::Stamp(stamp(1)), Some(value("b"))), written(2));
    assert!(story.faults().is_empty());
    story.done(Action::Cas(Expect::Stamp(stamp(1)), Some(value("c"))), written(3));
    assert_eq!(story.faults(), ["inexplicable"]);
}

#[test]
fn an_expired_value_goes_once_and_never_comes_back() {
    let begun = || {
        let mut story = Story::default();
        let put = story.begin(put("a"));
        let (ttl, slack) = (Duration::from_nanos(20), Duration::from_nanos(2));
        story.history.expires(put, Life { ttl, slack });
        story.end(put, written(1));
        story
    };
    let mut early = begun();
    early.done(Action::Get, MISS);
    assert_eq!(early.faults(), ["inexplicable"]);
    let mut back = begun();
    back.tick = 19;
    back.done(Action::Get, MISS);
    assert!(back.faults().is_empty());
    back.done(Action::Get, seen("a", 1));
    assert_eq!(back.faults(), ["inexplicable"]);
    let mut late = begun();
    late.tick = 30;
    late.done(Action::Get, seen("a", 1));
    assert_eq!(late.faults(), ["expired"]);
}

#[test]
fn an_open_put_that_nobody_saw_explains_an_absence_once_it_may_have_expired() {
    let mut story = Story::default();
    story.done(put("a"), written(1));
    let open = story.begin(put("b"));
    let (ttl, slack) = (Duration::from_nanos(20), Duration::from_nanos(2));
    story.history.expires(open, Life { ttl, slack });
    story.end(open, Outcome::Unknown);
    story.tick = 30;
    story.done(Action::Cas(Expect::Absent, Some(value("c"))), written(3));
    assert!(story.faults().is_empty(), "{:?}", story.faults());
    story.done(Action::Get, MISS);
    assert_eq!(story.faults(), ["inexplicable"]);
}

/// A register in one place, used by `clients` at once for `operations`, with answers that get lost.
fn random(seed: u64, operations: usize, clients: usize) -> (Story, Vec<OpIndex>) {
    let mut rng = Rng::with_seed(seed);
    let mut story = Story::default();
    let mut register: Option<(String, u64)> = None;
    let mut version = 0;
    // What is under way: whether it has met the register, and what came of it.
    let mut running: Vec<(OpIndex, Action, Option<Outcome>)> = Vec::new();
    let mut looks = Vec::new();
    let mut begun = 0;
    while begun < operations || !running.is_empty() {
        if running.len() < clients && begun < operations && rng.bool() {
            let text = format!("v{begun}");
            let known = register.as_ref().map_or("none", |(text, _)| text).to_owned();
            let action = match rng.u8(..8) {
                0..3 => Action::Get,
                3 => Action::Delete,
                4 => put(&text),
                5 => Action::Cas(Expect::Absent, Some(value(&text))),
                _ => cas(&known, &text),
            };
            running.push((story.begin(action.clone()), action, None));
            begun += 1;
        } else if !running.is_empty() {
            let (op, action, outcome) = running.swap_remove(rng.usize(..running.len()));
            match outcome {
                None if rng.u8(..50) == 0 => story.end(op, Outcome::Unknown),
                None => {
                    let outcome = meet(&mut register, &mut version, &action);
                    running.push((op, action, Some(outcome)));
                }
                Some(_) if action != Action::Get && rng.u8(..50) == 0 => {
                    story.end(op, Outcome::Unknown);
                }
                Some(outcome) => {
                    if matches!(outcome, Outcome::Read { value: Some(_), .. }) {
                        looks.push(op);
                    }
                    story.end(op, outcome);
                }
            }
        }
    }
    (story, looks)
}

fn meet(register: &mut Option<(String, u64)>, version: &mut u64, action: &Action) -> Outcome {
    let current = register.as_ref().map(|(text, _)| value(text));
    let found = stamp(register.as_ref().map_or(0, |(_, stamp)| *stamp));
    let to = match action {
        Action::Get => return Outcome::Read { value: current, stamp: found, weak: false },
        Action::Cas(Expect::Absent, _) if current.is_some() => {
            return Outcome::Mismatch { current, stamp: found };
        }
        Action::Cas(Expect::Value(expected), _) if current.as_ref() != Some(expected) => {
            return Outcome::Mismatch { current, stamp: found };
        }
        Action::Put(value) | Action::Cas(_, Some(value)) => Some(value),
        Action::Delete | Action::Cas(_, None) => None,
    };
    *version += 1;
    let text = |value: &Value| String::from_utf8(value.as_bytes().to_vec()).unwrap();
    *register = to.map(|value| (text(value), *version));
    written(*version)
}

#[test]
fn random_uses_of_one_register_are_explained() {
    for seed in 0..60 {
        let (story, _) = random(seed, 300, 2 + usize::try_from(seed % 5).unwrap());
        let violations = linearizable(&story.history);
        assert!(violations.is_empty(), "seed {seed}: {violations:?}");
    }
}

#[test]
fn one_bent_answer_among_many_is_found() {
    for seed in 0..60 {
        let (story, looks) = random(seed, 300, 4);
        let mut rng = Rng::with_seed(seed);
        let (bent, from) = (looks[looks.len() - 1], looks[rng.usize(..looks.len() / 2)]);
        let mut history = History::new();
        let operations = story.history.operations();
        let [old, last] = [from, bent].map(|op| operations[op.get()].clone());
        let version = |outcome: &Outcome| match outcome {
            Outcome::Read { value, .. } => value.clone(),
            _ => None,
        };
        if version(&old.outcome) == version(&last.outcome) {
            continue;
        }
        // Told again, with the last look showing what an early one showed, and no stamps.
        let mut happenings: Vec<(u64, bool, usize)> = Vec::new();
        for (place, operation) in operations.iter().enumerate() {
            happenings.push((operation.invoked.order(), true, place));
            happenings.extend(operation.returned.map(|moment| (moment.order(), false, place)));
        }
        happenings.sort_unstable();
        let mut ops = vec![None; operations.len()];
        for (order, begins, place) in happenings {
            let operation = &operations[place];
            if begins {
                let (key, action) = (operation.key.clone(), operation.action.clone());
                let op = history.invoke(operation.process, key, action, Time(order));
                ops[place] = Some(op);
                continue;
            }
            let outcome = if place == bent.get() { &old.outcome } else { &operation.outcome };
            history.complete(ops[place].unwrap(), outcome.clone(), Time(order));
        }
        let inexplicable =
            |violation: &Violation| matches!(violation, Violation::NotLinearizable { .. });
        let violations = linearizable(&history);
        assert!(violations.iter().any(inexplicable), "seed {seed}: {violations:?}");
    }
}

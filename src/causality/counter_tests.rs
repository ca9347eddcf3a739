//! Counters against the plain definition: the sum of what was added, whatever was merged in which order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::arm_mutant;
use crate::types::{NodeId, RequestId, Tenure, Value, WallTime, limits};

const NODES: usize = 3;

fn dot(node: u32, tenure: u64, time: u64) -> Dot {
    let actor = Actor { node: NodeId(node), tenure: Tenure(tenure) };
    Dot { actor, tick: Tick { time: WallTime(time), counter: 0 } }
}

fn add(dot: Dot, by: i64, id: u128) -> Change {
    let (id, payload) = (RequestId(id), Payload::Part(Part::of(by)));
    let write = Some(Write { id, expiry: None, payload });
    Change { dot, write, seen: CausalContext::default() }
}

fn put(dot: Dot, text: &str, seen: &CausalContext) -> Change {
    let payload = Payload::Here(Value::new(text.to_owned()).unwrap());
    let write = Some(Write { id: RequestId(0), expiry: None, payload });
    Change { dot, write, seen: seen.clone() }
}

fn delete(dot: Dot, seen: &CausalContext) -> Change {
    Change { dot, write: None, seen: seen.clone() }
}

fn expiring(mut change: Change, at: u64) -> Change {
    change.write.as_mut().unwrap().expiry = Some(WallTime(at));
    change
}

fn joined(a: &SiblingSet, b: &SiblingSet) -> SiblingSet {
    let mut a = a.clone();
    a.join(b.clone());
    a
}

fn shown(set: &SiblingSet, wall: u64) -> Vec<String> {
    let text = |shown: &Shown| shown.value().unwrap().as_bytes().escape_ascii().to_string();
    set.shown(WallTime(wall)).iter().map(text).collect()
}

fn sum(set: &SiblingSet) -> i64 {
    set.counter().unwrap_or(0)
}

#[derive(Clone, Debug)]
enum Step {
    /// A replica makes an increment and tells these others, as a bitmap.
    Add { at: usize, by: i64, told: u8 },
    /// The client of a former increment, which got no answer, asks another replica.
    Again { increment: usize, at: usize },
    /// A message that was sent at some time arrives, perhaps not for the first time.
    Deliver { message: usize },
    /// A replica learns all that another one holds.
    Exchange { from: usize, to: usize },
    /// A replica loses its disk; it learns what the others hold, and goes on in another tenure.
    Lose { at: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let adds =
        || (0..NODES, -9..9i64, 0..8u8).prop_map(|(at, by, told)| Step::Add { at, by, told });
    let step = prop_oneof![
        adds(),
        adds(),
        (0..20usize, 0..NODES).prop_map(|(increment, at)| Step::Again { increment, at }),
        (0..40usize).prop_map(|message| Step::Deliver { message }),
        (0..NODES, 0..NODES).prop_map(|(from, to)| Step::Exchange { from, to }),
        (0..NODES).prop_map(|at| Step::Lose { at }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Replicas, and what was added by whom.
struct World {
    sets: Vec<SiblingSet>,
    tenures: Vec<u64>,
    time: u64,
    messages: Vec<(usize, SiblingSet)>,
    /// Increments, and by how many replicas each was made.
    made: Vec<(i64, u32)>,
}

impl World {
    fn new() -> World {
        let sets = vec![SiblingSet::default(); NODES];
        World { sets, tenures: vec![1; NODES], time: 0, messages: vec![], made: vec![] }
    }

    fn add(&mut self, at: usize, (number, by): (usize, i64), told: u8) {
        self.time += 1;
        let dot = dot(u32::try_from(at).unwrap(), self.tenures[at], self.time);
        let change = add(dot, by, number as u128 + 1);
        let applied = self.sets[at].apply(change).unwrap();
        self.made[number].1 += u32::from(applied.stands == Some(dot));
        let message = self.sets[at].told(dot.actor, &applied);
        for to in (0..NODES).filter(|to| *to != at) {
            if told >> to & 1 == 1 {
                self.sets[to].join(message.clone());
            }
            self.messages.push((to, message.clone()));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Add { at, by, told } => {
                self.made.push((by, 0));
                self.add(at, (self.made.len() - 1, by), told);
            }
            Step::Again { increment, at } => {
                if let Some((by, _)) = self.made.get(increment).copied() {
                    self.add(at, (increment, by), 0);
                }
            }
            Step::Deliver { message } => {
                if let Some((to, set)) = self.messages.get(message).cloned() {
                    self.sets[to].join(set);
                }
            }
            Step::Exchange { from, to } => {
                let set = self.sets[from].clone();
                self.sets[to].join(set);
            }
            Step::Lose { at } => {
                // Every message is kept somewhere, so nothing is gone for good.
                self.tenures[at] += 1;
                self.sets[at] = SiblingSet::default();
            }
        }
    }

    fn all(&self) -> SiblingSet {
        let messages = self.messages.iter().map(|(_, set)| set);
        self.sets.iter().chain(messages).fold(SiblingSet::default(), |all, set| joined(&all, set))
    }
}

proptest! {
    #[test]
    fn the_sum_is_that_of_all_increments_each_as_often_as_it_was_made(steps in steps()) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        let expected: i64 = world.made.iter().map(|(by, times)| by * i64::from(*times)).sum();
        let all = world.all();
        prop_assert_eq!(sum(&all), expected);
        let lines = shown(&all, 1);
        prop_assert_eq!(lines, if world.made.is_empty() { vec![] } else { vec![expected.to_string()] });
        // One part for each tenure that has added, and no more.
        let actors: BTreeSet<Actor> = all.writes().map(|(dot, _)| dot.actor).collect();
        prop_assert_eq!(actors.len(), all.writes().len());
        prop_assert_eq!(SiblingSet::decode(all.encode().into()), Some(all.clone()));
        prop_assert_eq!(all.sketch(), all);
    }

    #[test]
    fn merging_counters_is_commutative_associative_and_idempotent(
        one in steps(), other in steps(), third in steps(),
    ) {
        // Three moments of one history: what replicas hold at each.
        let mut world = World::new();
        let mut moments = Vec::new();
        for (at, steps) in [one, other, third].into_iter().enumerate() {
            steps.into_iter().for_each(|step| world.step(step));
            moments.push(world.sets[at].clone());
        }
        let [a, b, c] = moments.try_into().unwrap();
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(&joined(&a, &a), &a);
    }
}

#[test]
fn parts_of_several_add_up_and_later_parts_take_the_place_of_earlier_ones() {
    let history = || {
        let (mut a, mut b) = (SiblingSet::default(), SiblingSet::default());
        a.apply(add(dot(1, 7, 10), 5, 1)).unwrap();
        let early = a.clone();
        b.join(a.clone());
        b.apply(add(dot(2, 7, 20), -2, 2)).unwrap();
        a.apply(add(dot(1, 7, 30), 4, 3)).unwrap();
        // After its disk was lost.
        b.apply(add(dot(2, 8, 40), 10, 4)).unwrap();
        let mut all = joined(&b, &a);
        all.join(early);
        shown(&all, 1)
    };
    assert_eq!(history(), ["17"]);
    for (mutant, wrong) in [
        ("counter-merge-keeps-both", "22"),
        ("counter-tenure-lost", "7"),
        ("counter-takes-all-parts", "19"),
        ("counter-part-begins-anew", "12"),
    ] {
        let _armed = arm_mutant(mutant);
        assert_eq!(history(), [wrong], "{mutant}");
    }
}

#[test]
fn a_retry_counts_once_where_a_part_names_it_and_is_told_with_that_part() {
    let history = || {
        let (mut a, mut b) = (SiblingSet::default(), SiblingSet::default());
        let first = a.apply(add(dot(1, 7, 10), 5, 1)).unwrap();
        a.apply(add(dot(1, 7, 11), 1, 2)).unwrap();
        b.join(a.clone());
        let again = b.apply(add(dot(2, 7, 20), 5, 1)).unwrap();
        let told = b.told(dot(2, 7, 20).actor, &again);
        (first.stands, again.stands, sum(&b), sum(&told))
    };
    assert_eq!(history(), (Some(dot(1, 7, 10)), Some(dot(1, 7, 11)), 6, 6));
    let _armed = arm_mutant("counter-retry-counts-twice");
    assert_eq!(history().2, 11);
}

#[test]
fn a_part_stays_small_and_forgets_the_oldest_ids() {
    let mut set = SiblingSet::default();
    let most = limits::COUNTER_IDS_MAX as u64;
    for n in 1..=most + 1 {
        set.apply(add(dot(1, 7, n), 1, u128::from(n))).unwrap();
    }
    assert_eq!(set.writes().len(), 1);
    assert!(set.encode().len() < 700, "{}", set.encode().len());
    assert_eq!(SiblingSet::decode(set.encode().into()), Some(set.clone()));
    // The second is known yet, the first is not.
    set.apply(add(dot(1, 7, 100), 1, 2)).unwrap();
    assert_eq!(sum(&set), most as i64 + 1);
    set.apply(add(dot(1, 7, 101), 1, 1)).unwrap();
    assert_eq!(sum(&set), most as i64 + 2);
    // Increments without an id are never the same.
    set.apply(add(dot(1, 7, 102), 1, 0)).unwrap();
    set.apply(add(dot(1, 7, 103), 1, 0)).unwrap();
    assert_eq!(sum(&set), most as i64 + 4);
}

#[test]
fn a_delete_takes_what_it_has_seen_and_a_part_that_went_on_stands_whole() {
    let mut a = SiblingSet::default();
    a.apply(add(dot(1, 7, 10), 5, 1)).unwrap();
    let mut b = a.clone();
    b.apply(add(dot(2, 7, 20), 3, 2)).unwrap();
    let mut deleted = b.clone();
    let seen = b.context().clone();
    deleted.apply(delete(dot(2, 7, 30), &seen)).unwrap();
    assert!(shown(&joined(&a, &deleted), 1).is_empty());
    a.apply(add(dot(1, 7, 40), 1, 3)).unwrap();
    let after = joined(&a, &deleted);
    assert_eq!(shown(&after, 1), ["6"]);
    // What comes next begins at nothing.
    deleted.apply(add(dot(2, 7, 50), 9, 4)).unwrap();
    assert_eq!(shown(&deleted, 1), ["9"]);
}

#[test]
fn counters_and_values_do_not_take_each_others_place_unseen() {
    let mut set = SiblingSet::default();
    let nothing = CausalContext::default();
    set.apply(put(dot(1, 7, 10), "text", &nothing)).unwrap();
    assert_eq!(set.apply(add(dot(1, 7, 11), 1, 1)), Err(Refused::NoCounter));
    let seen = set.context().clone();
    set.apply(delete(dot(1, 7, 12), &seen)).unwrap();
    set.apply(add(dot(1, 7, 13), 1, 1)).unwrap();
    let before = set.clone();
    assert_eq!(set.apply(put(dot(1, 7, 14), "text", &nothing)), Err(Refused::IsCounter));
    assert_eq!(set.apply(put(dot(1, 7, 14), "text", &seen)), Err(Refused::IsCounter));
    assert_eq!(set, before);
    let seen = set.context().clone();
    set.apply(put(dot(1, 7, 15), "text", &seen)).unwrap();
    assert_eq!(shown(&set, 1), ["text"]);
    // Where both came together they are siblings, and a delete ends it.
    let mut both = joined(&before, &SiblingSet::default());
    let mut other = SiblingSet::default();
    other.apply(put(dot(2, 7, 20), "other", &nothing)).unwrap();
    both.join(other);
    assert_eq!(shown(&both, 1), ["1", "other"]);
    assert_eq!(both.apply(add(dot(1, 7, 30), 1, 9)), Err(Refused::NoCounter));
    let seen = both.context().clone();
    both.apply(delete(dot(1, 7, 31), &seen)).unwrap();
    both.apply(add(dot(1, 7, 32), 1, 9)).unwrap();
    assert_eq!(shown(&both, 1), ["1"]);
}

#[test]
fn a_counter_expires_as_one_and_begins_anew() {
    let mut set = SiblingSet::default();
    set.apply(expiring(add(dot(1, 7, 10), 5, 1), 100)).unwrap();
    set.apply(expiring(add(dot(2, 7, 50), 3, 2), 150)).unwrap();
    assert_eq!(shown(&set, 149), ["8"]);
    assert!(shown(&set, 150).is_empty());
    let mut late = set.clone();
    late.apply(expiring(add(dot(1, 7, 160), 1, 3), 300)).unwrap();
    assert_eq!(shown(&late, 161), ["1"]);
    set.apply(expiring(add(dot(1, 7, 120), 1, 3), 300)).unwrap();
    assert_eq!(shown(&set, 161), ["9"]);
    // An expired value is in nobody's way.
    let mut value = SiblingSet::default();
    let nothing = CausalContext::default();
    value.apply(expiring(put(dot(1, 7, 10), "text", &nothing), 20)).unwrap();
    assert_eq!(value.apply(add(dot(1, 7, 19), 1, 1)), Err(Refused::NoCounter));
    value.apply(add(dot(1, 7, 20), 1, 1)).unwrap();
    assert_eq!(shown(&value, 20), ["1"]);
}

#[test]
fn the_bounds_of_a_counter_are_those_of_an_i64() {
    let mut set = SiblingSet::default();
    set.apply(add(dot(1, 7, 10), i64::MAX, 1)).unwrap();
    assert_eq!(set.apply(add(dot(1, 7, 11), 1, 2)), Err(Refused::Overflow));
    set.apply(add(dot(1, 7, 12), i64::MIN, 3)).unwrap();
    set.apply(add(dot(1, 7, 13), i64::MIN + 1, 4)).unwrap();
    assert_eq!(sum(&set), i64::MIN);
    assert_eq!(set.apply(add(dot(1, 7, 14), -1, 5)), Err(Refused::Overflow));
    // Two that did not know of each other went beyond: shown is the bound, and one leads back.
    let mut other = SiblingSet::default();
    other.apply(add(dot(2, 7, 10), -10, 6)).unwrap();
    set.join(other);
    assert_eq!(shown(&set, 1), [i64::MIN.to_string()]);
    assert_eq!(set.apply(add(dot(1, 7, 20), -1, 7)), Err(Refused::Overflow));
    set.apply(add(dot(1, 7, 20), 4, 8)).unwrap();
    set.apply(add(dot(1, 7, 21), 7, 9)).unwrap();
    assert_eq!(sum(&set), i64::MIN + 1);
}

#[test]
fn bytes_of_a_part_that_nobody_writes_are_refused() {
    let mut set = SiblingSet::default();
    set.apply(add(dot(1, 7, 1), 1, 1)).unwrap();
    let good = set.encode();
    // The length of the part stands before its 16 bytes.
    for (at, value) in [(good.len() - 17, 15), (good.len() - 17, 17)] {
        let mut bad = good.clone();
        bad[at] = value;
        bad.truncate(good.len() - 16 + usize::from(value));
        bad.resize(good.len() - 16 + usize::from(value), 0);
        assert_eq!(SiblingSet::decode(bad.into()), None);
    }
}

//! The laws of merging, the bytes, and single rules.

use ::bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::types::{Key, NodeId, RequestId, TableId, Tenure, Value, WallTime, limits};

fn dot(node: u32, time: u64) -> Dot {
    let actor = Actor { node: NodeId(node), tenure: Tenure(7) };
    Dot { actor, tick: Tick { time: WallTime(time), counter: 0 } }
}

fn write(text: &str, id: u128) -> Write {
    let value = Value::new(text.to_owned()).unwrap();
    Write { id: RequestId(id), expiry: None, payload: Payload::Here(value) }
}

fn put(node: u32, time: u64, text: &str, seen: &CausalContext) -> Change {
    Change { dot: dot(node, time), write: Some(write(text, 0)), seen: seen.clone() }
}

fn joined(a: &SiblingSet, b: &SiblingSet) -> SiblingSet {
    let mut a = a.clone();
    a.join(b.clone());
    a
}

fn values(set: &SiblingSet) -> Vec<String> {
    let text = |shown: &Shown| shown.value().unwrap().as_bytes().escape_ascii().to_string();
    set.shown(WallTime(1)).iter().map(text).collect()
}

/// Any set at all: the laws hold for what no run produces, too. One name means one write.
fn sets() -> impl Strategy<Value = SiblingSet> {
    let dots = || (0..3u32, 1..6u64).prop_map(|(node, time)| dot(node, time));
    let marks = proptest::collection::vec(dots(), 0..3);
    let singles = proptest::collection::vec(dots(), 0..4);
    let standing = proptest::collection::vec(dots(), 0..4);
    (marks, singles, standing).prop_map(|(marks, singles, standing)| {
        let marks = marks.into_iter().map(|dot| (dot.actor, dot.tick));
        let context = CausalContext::new(marks, singles.into_iter().chain(standing.clone()));
        let named = |dot: Dot| (dot, write(&dot.to_string(), u128::from(dot.tick.time.0)));
        SiblingSet::new(context, standing.into_iter().map(named)).unwrap()
    })
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(a in sets(), b in sets(), c in sets()) {
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(&joined(&a, &a), &a);
        let ab = joined(&a, &b);
        prop_assert_eq!(&joined(&ab, &a), &ab);
        prop_assert!(ab.writes().all(|(dot, _)| ab.context().covers(dot)));
    }

    #[test]
    fn what_one_set_lacks_of_another_makes_them_equal(a in sets(), b in sets()) {
        let all = joined(&a, &b);
        let told = all.beyond(&a);
        prop_assert_eq!(told.is_none(), a == all);
        prop_assert_eq!(joined(&a, &told.unwrap_or_default()), all);
    }

    #[test]
    fn whoever_saw_some_siblings_supersedes_these_alone(a in sets(), mask: u16) {
        let order: Vec<Dot> = a.writes().map(|(dot, _)| dot).collect();
        let chosen = |dot: Dot| order.iter().position(|d| *d == dot)
            .is_some_and(|place| mask >> (place % 16) & 1 == 1);
        let seen = a.seen_of(chosen);
        for dot in &order {
            prop_assert_eq!(seen.covers(*dot), chosen(*dot));
        }
    }

    #[test]
    fn sets_and_contexts_read_back(a in sets(), key in "[a-z]{1,9}", table: u32) {
        prop_assert_eq!(SiblingSet::decode(a.encode().into()), Some(a.clone()));
        prop_assert_eq!(SiblingSet::decode(a.sketch().encode().into()), Some(a.sketch()));
        let key = Key::new(key).unwrap();
        let token = ContextToken { table: TableId(table), key: &key };
        prop_assert_eq!(token.open(token.seal(a.context())), Ok(a.context().clone()));
    }

    #[test]
    fn foreign_bytes_never_panic(bytes: Vec<u8>, cut: usize, at: usize, a in sets()) {
        let _ = SiblingSet::decode(bytes.clone().into());
        let key = Key::new("k").unwrap();
        let token = ContextToken { table: TableId(1), key: &key };
        prop_assert!(token.open(Bytes::from(bytes)).is_err());
        let good = a.encode();
        prop_assert_eq!(SiblingSet::decode(good[..cut % good.len()].to_vec().into()), None);
        let sealed = token.seal(a.context());
        prop_assert!(token.open(sealed.slice(..cut % sealed.len())).is_err());
        let mut flipped = sealed.to_vec();
        let place = at % flipped.len();
        flipped[place] ^= 1;
        prop_assert!(token.open(flipped.into()).is_err());
    }
}

#[test]
fn the_bytes_of_a_set_and_of_a_context_stay_what_they_are() {
    let context = CausalContext::new([(dot(1, 2).actor, dot(1, 2).tick)], [dot(2, 3)]);
    let set = SiblingSet::new(context, [(dot(2, 3), write("v", 9))]).unwrap();
    let hex: String = set.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "01\
         00000001\
         000000010000000000000007000000000000000200000000\
         00000001\
         000000020000000000000007000000000000000300000000\
         00000001\
         000000020000000000000007000000000000000300000000\
         00\
         00000000000000000000000000000009\
         0000000176"
    );
    let key = Key::new("k").unwrap();
    let token = ContextToken { table: TableId(5), key: &key }.seal(set.context());
    let hex: String = token[..21].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN_TOKEN);
}

const GOLDEN_TOKEN: &str = "013504ee6e08d4c7ca00000005a921e3704fda881d";

#[test]
fn a_put_takes_the_place_of_what_it_saw_and_of_nothing_else() {
    let nothing = CausalContext::default();
    let mut set = SiblingSet::default();
    set.apply(put(1, 1, "a", &nothing)).unwrap();
    let saw_a = set.context().clone();
    set.apply(put(1, 2, "b", &nothing)).unwrap();
    assert_eq!(values(&set), ["a", "b"]);
    set.apply(put(1, 3, "c", &saw_a)).unwrap();
    assert_eq!(values(&set), ["b", "c"]);
    let all = set.context().clone();
    set.apply(Change { dot: dot(1, 4), write: None, seen: all }).unwrap();
    assert!(values(&set).is_empty() && !set.is_blank());
}

#[test]
fn the_context_of_a_blind_put_does_not_cover_the_siblings_it_did_not_see() {
    let nothing = CausalContext::default();
    let mut set = SiblingSet::default();
    set.apply(put(1, 1, "a", &nothing)).unwrap();
    let applied = set.apply(put(1, 2, "b", &nothing)).unwrap();
    let seen = set.seen_after(applied.stands, &applied.seen);
    assert!(seen.covers(dot(1, 2)) && !seen.covers(dot(1, 1)));
    set.apply(put(1, 3, "c", &seen)).unwrap();
    assert_eq!(values(&set), ["a", "c"]);
}

#[test]
fn a_write_of_an_actor_stands_above_all_its_earlier_ones_or_not_at_all() {
    let nothing = CausalContext::default();
    let mut set = SiblingSet::default();
    set.apply(put(1, 5, "a", &nothing)).unwrap();
    let before = set.clone();
    let late = set.apply(put(1, 4, "late", &nothing));
    assert_eq!(late, Err(Refused::Stale(dot(1, 5).tick)));
    assert_eq!(set.apply(put(1, 5, "same", &nothing)), Err(Refused::Stale(dot(1, 5).tick)));
    let foreign = CausalContext::new([(dot(1, 9).actor, dot(1, 9).tick)], []);
    assert_eq!(set.apply(put(1, 10, "forged", &foreign)), Err(Refused::Unknown));
    assert_eq!(set, before);
}

#[test]
fn two_attempts_of_one_put_are_one_sibling_and_go_together() {
    let nothing = CausalContext::default();
    let attempt = |node, time| Change {
        dot: dot(node, time),
        write: Some(write("x", 77)),
        seen: nothing.clone(),
    };
    let (mut one, mut two) = (SiblingSet::default(), SiblingSet::default());
    one.apply(attempt(1, 1)).unwrap();
    let applied = two.apply(attempt(2, 2)).unwrap();
    let seen_by_two = two.seen_after(applied.stands, &applied.seen);
    one.join(two.clone());
    assert_eq!((one.writes().len(), values(&one)), (2, vec!["x".to_owned()]));
    let armed = crate::testing::arm_mutant("retry-makes-a-sibling");
    assert_eq!(values(&one), ["x", "x"], "the planted bug shows both");
    drop(armed);
    // A third attempt finds the first standing.
    let again = one.apply(attempt(1, 3)).unwrap();
    assert_eq!(again.stands, Some(dot(1, 1)));
    // Whoever saw one attempt takes the place of both, here and wherever it is told.
    let next = one.apply(put(1, 4, "y", &seen_by_two)).unwrap();
    assert_eq!(values(&one), ["y"]);
    two.join(one.told(dot(1, 4).actor, &next));
    assert_eq!(values(&two), ["y"]);
}

#[test]
fn equal_values_are_one_sibling_with_all_their_writes() {
    let nothing = CausalContext::default();
    let mut set = SiblingSet::default();
    set.apply(put(1, 1, "same", &nothing)).unwrap();
    let mut other = SiblingSet::default();
    other.apply(put(2, 2, "same", &nothing)).unwrap();
    set.join(other);
    let shown = set.shown(WallTime(1));
    assert_eq!((shown.len(), shown[0].dots.len()), (1, 2));
    let _armed = crate::testing::arm_mutant("merge-drops-concurrent");
    let mut third = SiblingSet::default();
    third.apply(put(3, 3, "other", &nothing)).unwrap();
    set.join(third);
    assert_eq!(values(&set), ["other"], "the planted bug drops what stood beside it");
}

#[test]
fn puts_are_refused_past_the_limits_and_merges_are_not() {
    let nothing = CausalContext::default();
    let mut set = SiblingSet::default();
    for time in 1..=limits::SIBLINGS_MAX as u64 {
        set.apply(put(1, time, &time.to_string(), &nothing)).unwrap();
    }
    let over = limits::SIBLINGS_MAX + 1;
    assert_eq!(set.apply(put(1, 1000, "more", &nothing)), Err(Refused::TooMany(over)));
    let mut other = SiblingSet::default();
    for time in 1..=limits::SIBLINGS_MAX as u64 {
        other.apply(put(2, time, &format!("b{time}"), &nothing)).unwrap();
    }
    set.join(other);
    assert_eq!(set.groups(), 2 * limits::SIBLINGS_MAX);
    // One that leaves as many as there were passes, and so does one that resolves them all.
    let first = CausalContext::new([], [dot(2, 1)]);
    set.apply(put(1, 1001, "for one", &first)).unwrap();
    let all = set.context().clone();
    set.apply(put(1, 1002, "for all", &all)).unwrap();
    assert_eq!(values(&set), ["for all"]);
}

#[test]
fn bytes_are_limited_too_and_pieces_fit_their_messages() {
    let nothing = CausalContext::default();
    let large = "x".repeat(limits::VALUE_BYTES_MAX - 8);
    let big = |node, time| put(node, time, &format!("{node}.{time}{large}"), &nothing);
    let fill = |node| {
        let mut set = SiblingSet::default();
        for time in 1..=4 {
            set.apply(big(node, time)).unwrap();
        }
        assert!(matches!(set.apply(big(node, 5)), Err(Refused::TooLarge(_))));
        set
    };
    let mut all = fill(1);
    for node in 2..=4 {
        all.join(fill(node));
    }
    let pieces = all.clone().pieces();
    assert!(pieces.len() > 2);
    let mut again = SiblingSet::default();
    for piece in pieces.into_iter().rev() {
        assert!(piece.bytes() <= limits::SIBLING_PART_BYTES);
        again.join(piece);
    }
    assert_eq!(again, all);
}

#[test]
fn a_write_without_its_value_is_forgotten_and_learned_again() {
    let nothing = CausalContext::default();
    let mut set = SiblingSet::default();
    set.apply(put(1, 1, "a", &nothing)).unwrap();
    set.apply(put(1, 2, "b", &nothing)).unwrap();
    let whole = set.clone();
    set.forget(dot(1, 1));
    assert!(!set.context().covers(dot(1, 1)) && set.context().covers(dot(1, 2)));
    set.join(whole.clone());
    assert_eq!(set, whole);
}

#[test]
fn what_is_told_of_a_put_made_again_under_another_name_is_the_write_that_stands() {
    let made = |actor| Change {
        dot: dot(actor, 5),
        write: Some(write("made", 7)),
        seen: CausalContext::default(),
    };
    let mut one = SiblingSet::default();
    one.apply(made(1)).unwrap();
    // The same node in a new tenure, or another that has heard of the first attempt.
    let again = one.apply(made(2)).unwrap();
    assert_eq!(again.stands, Some(dot(1, 5)));
    let stands_elsewhere = |told: SiblingSet| {
        let mut other = SiblingSet::default();
        other.join(told);
        other.context().covers(dot(1, 5)) && other.writes().any(|(held, _)| held == dot(1, 5))
    };
    assert!(stands_elsewhere(one.told(dot(2, 5).actor, &again)));
    let _armed = crate::testing::arm_mutant("standing-not-told");
    assert!(!stands_elsewhere(one.told(dot(2, 5).actor, &again)), "the planted bug loses it");
}

#[test]
fn an_expired_sibling_is_not_shown_and_still_superseded() {
    let mut set = SiblingSet::default();
    let expiring = Write { expiry: Some(WallTime(10)), ..write("short", 0) };
    let change = Change { dot: dot(1, 1), write: Some(expiring), seen: CausalContext::default() };
    set.apply(change).unwrap();
    assert_eq!((set.shown(WallTime(9)).len(), set.shown(WallTime(10)).len()), (1, 0));
    assert!(set.context().covers(dot(1, 1)));
}

#[test]
fn a_context_of_another_key_or_table_or_a_longer_one_is_refused() {
    let (key, other) = (Key::new("k").unwrap(), Key::new("l").unwrap());
    let context = CausalContext::new([], [dot(1, 1)]);
    let token = ContextToken { table: TableId(1), key: &key };
    let sealed = token.seal(&context);
    let open = |table, key| ContextToken { table: TableId(table), key }.open(sealed.clone());
    assert_eq!(open(2, &key), Err(TokenError::OtherTable));
    assert_eq!(open(1, &other), Err(TokenError::OtherKey));
    let mut newer = sealed.to_vec();
    newer[0] = 2;
    assert_eq!(token.open(newer.into()), Err(TokenError::Version(2)));
    let long = Bytes::from(vec![1; limits::CONTEXT_BYTES_MAX + 1]);
    assert!(matches!(token.open(long), Err(TokenError::TooLong { .. })));
    let _armed = crate::testing::arm_mutant("foreign-context-taken");
    assert_eq!(open(1, &other), Ok(context), "the planted bug takes it");
}

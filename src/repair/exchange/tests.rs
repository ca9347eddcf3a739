//! Two sides in one process: what is found is exactly what differs, at a known cost.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::repair::tree::{Kind, Wanted};
use crate::testing::arm_mutant;
use crate::types::{Key, NodeId, Record, Stamp, TableId, Value, WallTime};

const SEED: u64 = 7;

fn place(number: u32) -> Place {
    Place::new(TableId(1 + number % 3), &Key::new(format!("user:{number:08}")).unwrap())
}

fn stamp(time: u64) -> Stamp {
    Stamp { time: WallTime(time), counter: 0, node: NodeId(1) }
}

fn entry(number: u32, time: u64) -> Entry {
    let record = Record { stamp: stamp(time), expiry: None, value: Some(Value::new("v").unwrap()) };
    Entry::version(place(number), &record)
}

/// One owner of the unit.
#[derive(Clone)]
struct Side {
    store: BTreeMap<Place, Entry>,
    tree: Tree,
    read: usize,
}

impl Side {
    fn of(entries: impl IntoIterator<Item = Entry>) -> Side {
        let entries = entries.into_iter().map(|entry| (entry.place.clone(), entry));
        let store: BTreeMap<Place, Entry> = entries.collect();
        let mut tree = Tree::unbuilt(SEED);
        assert!(matches!(tree.begin(), Some(Wanted::Behind(_))));
        let all = store.values().map(|entry| (entry.place.clone(), entry.print));
        assert!(tree.finish(all.collect(), true));
        Side { store, tree, read: 0 }
    }

    fn entries(&mut self, range: &Range, max: usize) -> Vec<Entry> {
        let from = self.store.range(range.from.clone()..).map(|(_, entry)| entry);
        let read: Vec<Entry> =
            from.take_while(|entry| range.holds(&entry.place)).take(max).cloned().collect();
        self.read += read.len();
        read
    }

    fn put(&mut self, entry: Entry) {
        let before = self.store.insert(entry.place.clone(), entry.clone());
        self.tree.change(&entry.place, before.map(|before| before.print), Some(entry.print));
    }

    fn answer(&mut self, ask: &Ask, terms: &Terms) -> Said {
        let tree = self.tree.clone();
        answer(ask, terms, &tree, |range, max| Ok::<_, Infallible>(self.entries(range, max)))
            .unwrap()
    }
}

/// What a session cost: of levels, and of ranges.
#[derive(Debug, Default)]
struct Cost {
    levels: usize,
    ranges: usize,
    questions: usize,
}

fn terms(session: u64, horizon: u64) -> Terms {
    Terms { session, horizon: stamp(horizon), seed: SEED }
}

fn bring(a: &mut Side, b: &mut Side, lacks: &[Lack]) {
    for lack in lacks {
        let both = [a.store.get(&lack.place).cloned(), b.store.get(&lack.place).cloned()];
        let Some(newest) = both.into_iter().flatten().max_by_key(|entry| entry.stamp) else {
            continue;
        };
        match lack.bring {
            Bring::Here => a.put(newest),
            Bring::There => b.put(newest),
            Bring::Both | Bring::Round => {
                a.put(newest.clone());
                b.put(newest);
            }
        }
    }
}

/// Runs a session; `fate` of each answer: 0 is lost, 1 comes twice, 2 comes late besides.
fn run(a: &mut Side, b: &mut Side, terms: Terms, fates: &[u8]) -> (Vec<Lack>, Outcome, Cost) {
    let mut asker = Asker::new(terms);
    let (mut lacks, mut cost, mut late) = (Vec::new(), Cost::default(), None);
    let mut fates = fates.iter().cycle();
    for _ in 0..1_000_000 {
        match asker.step() {
            Step::Ask(number, ask) => {
                let said = b.answer(&ask, &terms);
                let bytes = ask.bytes() + said.bytes();
                match ask {
                    Ask::Root | Ask::Nodes(_) => cost.levels += bytes,
                    _ => cost.ranges += bytes,
                }
                cost.questions += 1;
                match fates.next() {
                    Some(0) => asker.again(),
                    Some(1) => {
                        asker.on_answer(number, said.clone(), &a.tree);
                        asker.on_answer(number, said, &a.tree);
                    }
                    Some(2) => {
                        asker.on_answer(number, said.clone(), &a.tree);
                        if let Some((number, said)) = late.replace((number, said)) {
                            asker.on_answer(number, said, &a.tree);
                        }
                    }
                    _ => asker.on_answer(number, said, &a.tree),
                }
            }
            Step::Read(range) => {
                let read = a.entries(&range, RANGE_ENTRIES_MAX + 1);
                asker.on_read(read);
            }
            Step::Bring(some) => {
                bring(a, b, &some);
                lacks.extend(some);
                asker.on_brought();
            }
            Step::Done(outcome) => return (lacks, outcome, cost),
        }
    }
    panic!("a session does not end");
}

/// What differs, told in another way.
fn differing(a: &Side, b: &Side, horizon: u64) -> BTreeMap<Place, Bring> {
    let places = a.store.keys().chain(b.store.keys());
    let of = |side: &Side, place: &Place| side.store.get(place).map(|entry| entry.stamp);
    let differ = places.filter_map(|place| {
        let (here, there) = (of(a, place), of(b, place));
        let is_old = [here, there].into_iter().flatten().any(|found| found <= stamp(horizon));
        let bring = if here < there { Bring::Here } else { Bring::There };
        (here != there && is_old).then(|| (place.clone(), bring))
    });
    differ.collect()
}

fn found(lacks: &[Lack]) -> BTreeMap<Place, Bring> {
    lacks.iter().map(|lack| (lack.place.clone(), lack.bring)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_session_finds_exactly_what_either_side_lacks(
        both in 0..6_000_u32, some in prop::collection::vec((0..6_500_u32, 0..3_u8, 1..9_u64), 0..60),
        keeps: bool, session: u64, horizon in 0..10_u64, fates in prop::collection::vec(0..4_u8, 1..9),
    ) {
        prop_assume!(fates.iter().any(|fate| *fate > 0));
        let base: Vec<Entry> = (0..both).map(|number| entry(number, 1)).collect();
        let mut a = Side::of(if keeps { base.clone() } else { Vec::new() });
        let mut b = Side::of(base);
        for (number, side, time) in some {
            if side != 1 {
                a.put(entry(number, 1 + time));
            }
            if side != 0 {
                b.put(entry(number, if side == 1 { 1 + time } else { 9 }));
            }
        }
        let expected = differing(&a, &b, horizon);
        let (lacks, outcome, _) = run(&mut a, &mut b, terms(session, horizon), &fates);
        // A range whose entries at or below the horizon are the same is passed over as a whole; in one
        // that is not, all that may be brought is.
        prop_assert_eq!(lacks.len(), found(&lacks).len(), "each is brought once");
        prop_assert_eq!(found(&lacks), expected);
        prop_assert!(outcome.verified);
        prop_assert!(differing(&a, &b, horizon).is_empty());
    }
}

/// A million keys, `d` of which are older on one side, spread evenly.
fn cost(base: &Side, keys: u32, d: u32) -> (Cost, usize) {
    let (mut a, mut b) = (base.clone(), base.clone());
    for n in 0..d {
        let side = if n % 2 == 0 { &mut a } else { &mut b };
        side.put(entry(n * (keys / d), 2));
    }
    let (lacks, outcome, cost) = run(&mut a, &mut b, terms(5, 9), &[3]);
    assert_eq!((lacks.len(), outcome.verified), (d as usize, true));
    (cost, b.read)
}

#[test]
fn a_lone_key_costs_little_and_many_cost_their_number() {
    println!(
        "{:>9} {:>7} {:>9} {:>9} {:>9} {:>9}",
        "keys", "differ", "levels", "ranges", "B a key", "read"
    );
    for keys in [4_000_u32, 100_000] {
        let base = Side::of((0..keys).map(|number| entry(number, 1)));
        for d in [1, 10, 100, keys / 20, keys / 5] {
            let (cost, read) = cost(&base, keys, d);
            let all = cost.levels + cost.ranges;
            let each = all / d as usize;
            let Cost { levels, ranges, .. } = cost;
            println!("{keys:>9} {d:>7} {levels:>9} {ranges:>9} {each:>9} {read:>9}");
            assert!(d > 1 || ranges <= 512, "{ranges} bytes to find one key");
            let key = place(0).as_bytes().len();
            assert!(d < keys / 20 || each <= 64 + key, "{each} bytes a key of {key}");
        }
    }
}

#[test]
fn equal_sides_exchange_their_roots_alone() {
    let mut a = Side::of((0..5_000).map(|number| entry(number, 1)));
    let mut b = a.clone();
    let (lacks, outcome, cost) = run(&mut a, &mut b, terms(5, 9), &[3]);
    assert!(lacks.is_empty() && outcome.verified && cost.questions == 1);
    assert!(cost.levels <= 70 && (a.read, b.read) == (0, 0), "{cost:?}");
}

#[test]
fn who_answers_one_side_only_is_never_verified() {
    let _armed = arm_mutant("exchange-one-sided");
    let mut a = Side::of([entry(1, 1), entry(2, 1)]);
    let mut b = Side::of([entry(1, 1)]);
    let (lacks, outcome, _) = run(&mut a, &mut b, terms(5, 9), &[3]);
    assert!(lacks.is_empty() && !outcome.verified);
}

#[test]
fn what_is_skipped_below_the_horizon_shows() {
    let _armed = arm_mutant("skip-called-verified");
    let mut a = Side::of([entry(1, 1), entry(2, 1)]);
    let mut b = Side::of([entry(1, 1)]);
    let (_, outcome, _) = run(&mut a, &mut b, terms(5, 9), &[3]);
    assert!(outcome.verified && !differing(&a, &b, 9).is_empty(), "the planted bug is one");
}

#[test]
fn sets_are_joined_and_registers_are_never_brought() {
    let kinds = |kind| {
        move |mut entry: Entry| {
            entry.kind = kind;
            entry
        }
    };
    for (kind, expected) in [(Kind::Siblings, Bring::Both), (Kind::Register, Bring::Round)] {
        let mut a = Side::of([entry(1, 3)].map(kinds(kind)));
        let mut b = Side::of([entry(1, 2)].map(kinds(kind)));
        let (lacks, outcome, _) = run(&mut a, &mut b, terms(5, 9), &[3]);
        assert_eq!(found(&lacks), BTreeMap::from([(place(1), expected)]));
        assert!(outcome.verified);
    }
}

#[test]
fn a_session_that_keeps_failing_ends_and_says_so() {
    let (mut a, mut b) = (Side::of([entry(1, 1)]), Side::of([]));
    let terms = terms(5, 9);
    let mut asker = Asker::new(terms);
    for _ in 0..100 {
        match asker.step() {
            Step::Ask(number, ask) => asker.on_answer(number, b.answer(&ask, &terms), &a.tree),
            Step::Read(range) => asker.on_read(a.entries(&range, 100)),
            // Nothing comes of it.
            Step::Bring(_) => asker.on_brought(),
            Step::Done(outcome) => return assert!(!outcome.verified),
        }
    }
    panic!("it does not end");
}

//! Replay by itself: order, pace, one target at a time, overloaded targets.

use super::*;
use crate::causality::{Actor, CausalContext, Dot, Payload, SiblingSet, Tick, Write};
use crate::handoff::Bounds;
use crate::message::{HintChange, HintTotals};
use crate::testing::arm_mutant;
use crate::types::{
    Class, ClassId, ClusterId, Key, Lineage, Partition, Record, RequestId, Role, Settings, Stamp,
    Table, TableId, TableKind, Tenure, Unit, Value, WallTime,
};

const MS: u64 = 1_000_000;
const ME: NodeId = NodeId(4);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

struct Bench {
    replay: Replay,
    books: Books,
    state: ClusterState,
    up: BTreeSet<NodeId>,
    given_up: BTreeSet<NodeId>,
    mono: u64,
    next: u64,
}

impl Bench {
    fn new(bytes_per_second: u64) -> Bench {
        Bench::seeded(bytes_per_second, 1)
    }

    fn seeded(bytes_per_second: u64, seed: u64) -> Bench {
        let timing = Timing {
            bytes_per_second,
            back_off: Duration::from_millis(100),
            back_off_max: Duration::from_millis(400),
            answer_within: Duration::from_millis(1000),
        };
        let bounds = Bounds { bytes_max: 1 << 20, age_max: Duration::from_secs(10) };
        Bench {
            replay: Replay::new(timing, fastrand::Rng::with_seed(seed)),
            books: Books::new(bounds, BTreeMap::new(), BTreeSet::new()),
            state: state(),
            up: [B, C].into_iter().collect(),
            given_up: BTreeSet::new(),
            mono: 0,
            next: 1,
        }
    }

    fn keep(&mut self, target: NodeId, at: u64) {
        assert!(self.books.admit(true, 100));
        let change = HintChange {
            added: HintTotals::one(true, 100),
            removed: HintTotals::default(),
            created: WallTime(at),
        };
        self.books.settle(target, (true, 100), change);
    }

    fn step(&mut self, run: impl FnOnce(&mut Replay, &mut Around<'_>)) -> Vec<ReplayAction> {
        let mut out = Vec::new();
        let up = self.up.clone();
        let reachable = |id: NodeId| up.contains(&id);
        let lost = self.given_up.clone();
        let given_up = |id: NodeId| lost.contains(&id);
        let mut around = Around {
            now: Now { mono: Time(self.mono), wall: WallTime(self.mono) },
            me: ME,
            state: &self.state,
            reachable: &reachable,
            given_up: &given_up,
            books: &self.books,
            next_operation: &mut self.next,
            out: &mut out,
        };
        run(&mut self.replay, &mut around);
        out
    }

    fn time(&mut self) -> Vec<ReplayAction> {
        self.step(|replay, around| replay.on_time(around))
    }

    fn page(&mut self, target: NodeId, hints: Vec<Hint>) -> Vec<ReplayAction> {
        let page = HintPage { hints, next: None };
        self.step(|replay, around| replay.on_page(target, Some(page), around))
    }
}

fn state() -> ClusterState {
    let table = Table {
        id: TableId(1),
        name: "default".to_owned().try_into().unwrap(),
        kind: TableKind::Lww,
        class: ClassId(0),
        n: 3,
        r: 2,
        w: 2,
        r_min: 2,
        w_min: 2,
        sloppy: crate::types::Sloppy::Request,
        ttl: None,
        value_bytes_max: 1 << 20,
    };
    let member = |id: u32| crate::types::Member {
        id: NodeId(id),
        name: format!("n{id}").parse().unwrap(),
        addresses: crate::types::Addresses::default(),
        zone: crate::types::Zone::default(),
        weight_milli: 1000,
        role: Role::Active,
        birth: crate::types::Nonce(1),
    };
    ClusterState {
        epoch: crate::types::Epoch(1),
        parent: 0,
        cluster: ClusterId(1),
        lineage: Lineage(0),
        feature_level: 1,
        settings: Settings { name: "kv".to_owned(), partitions: 1 },
        members: (1..=4).map(member).collect(),
        council: Vec::new(),
        ring: Vec::new(),
        classes: vec![Class::new(
            ClassId(0),
            (3, 2, 2),
            vec![vec![NodeId(1), B, C]],
            crate::types::Epoch(1),
        )],
        tables: vec![table],
        table_id_max: TableId(1),
        dropped_at: crate::types::Epoch(0),
        recent_changes: Vec::new(),
        topology: Default::default(),
    }
}

fn hint(key: &'static str, at: u64) -> Hint {
    let stamp = Stamp { time: WallTime(at), counter: 0, node: NodeId(1) };
    Hint {
        created: WallTime(at),
        custody: true,
        unit: Unit { class: ClassId(0), partition: Partition(0) },
        table: TableId(1),
        key: Key::new(key).unwrap(),
        kept: Kept::Version(Record { stamp, expiry: None, value: Some(value("v")) }),
    }
}

fn value(text: &'static str) -> Value {
    Value::new(text).unwrap()
}

fn delivered(actions: &[ReplayAction]) -> Vec<(RoundId, NodeId)> {
    let deliveries = actions.iter().filter_map(|action| match action {
        ReplayAction::Deliver(delivery) => Some((delivery.round, delivery.to)),
        ReplayAction::Read(..) | ReplayAction::Remove(..) | ReplayAction::Lacks(..) => None,
    });
    deliveries.collect()
}

#[test]
fn the_target_with_the_oldest_hint_comes_first_and_alone() {
    let mut bench = Bench::new(1 << 30);
    bench.keep(C, 50);
    bench.keep(B, 10);
    let actions = bench.time();
    assert!(matches!(actions.as_slice(), [ReplayAction::Read(B, None)]), "{actions:?}");
    assert!(bench.time().is_empty(), "one page at a time");
    let actions = bench.page(B, vec![hint("a", 10)]);
    let sent = delivered(&actions);
    assert_eq!(sent.len(), 1);
    bench.books.removed(B, HintTotals::one(true, 100));
    let actions = bench.step(|replay, around| {
        assert!(replay.on_answer(B, (sent[0].0, Delivered::Held), around));
    });
    let turns = |action: &ReplayAction| matches!(action, ReplayAction::Read(C, None));
    assert!(matches!(actions[0], ReplayAction::Remove(B, _)), "{actions:?}");
    assert!(actions.iter().any(turns) || bench.time().iter().any(turns));
}

#[test]
fn deliveries_keep_the_pace_and_the_bound() {
    let each = hint("a", 1).bytes();
    let mut bench = Bench::new(each * 10);
    bench.keep(B, 1);
    bench.time();
    let actions = bench.page(B, (1..=5).map(|at| hint("a", at)).collect());
    assert_eq!(delivered(&actions).len(), 1);
    let next = bench.replay.next_deadline(Time(bench.mono)).unwrap();
    assert_eq!(next, Time(100 * MS));
    bench.mono = 100 * MS;
    assert_eq!(delivered(&bench.time()).len(), 1);

    let mut bench = Bench::new(u64::MAX / 2);
    bench.keep(B, 1);
    bench.time();
    let actions = bench.page(B, (1..=64).map(|at| hint("a", at)).collect());
    assert_eq!(delivered(&actions).len(), limits::HINTS_UNDER_WAY_MAX);
}

#[test]
fn a_silent_target_loses_its_turn_and_waits_longer_each_time() {
    let mut bench = Bench::new(1 << 30);
    bench.keep(B, 1);
    bench.keep(C, 2);
    bench.time();
    bench.page(B, vec![hint("a", 1)]);
    bench.mono += 1000 * MS;
    let actions = bench.time();
    assert!(matches!(actions.as_slice(), [ReplayAction::Read(C, None)]), "{actions:?}");
    bench.up.remove(&C);
    bench.page(C, Vec::new());
    let mut waits = Vec::new();
    for _ in 0..4 {
        let before = bench.mono;
        while bench.time().is_empty() {
            bench.mono += MS;
        }
        waits.push((bench.mono - before) / MS);
        bench.page(B, vec![hint("a", 1)]);
        bench.mono += 1000 * MS;
        bench.time();
    }
    assert_eq!(waits, [100, 200, 400, 400]);
}

#[test]
fn a_late_answer_to_an_earlier_turn_counts_for_nothing() {
    let mut bench = Bench::new(1 << 30);
    bench.keep(B, 1);
    bench.time();
    let sent = delivered(&bench.page(B, vec![hint("a", 1)]));
    bench.mono += 1000 * MS;
    bench.time();
    let actions = bench.step(|replay, around| {
        assert!(!replay.on_answer(B, (sent[0].0, Delivered::Held), around));
    });
    assert!(actions.is_empty());
}

#[test]
fn all_owners_must_hold_a_hint_whose_target_owns_the_unit_no_more() {
    let mut bench = Bench::new(1 << 30);
    let gone = NodeId(9);
    bench.keep(gone, 1);
    bench.up.insert(NodeId(1));
    bench.time();
    let sent = delivered(&bench.page(gone, vec![hint("a", 1)]));
    assert_eq!(sent.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [NodeId(1), B, C]);
    let op = sent[0].0;
    for (to, last) in [(NodeId(1), false), (B, false), (B, false), (C, true)] {
        let actions = bench.step(|replay, around| {
            replay.on_answer(to, (op, Delivered::Held), around);
        });
        let removed = actions.iter().any(|action| matches!(action, ReplayAction::Remove(..)));
        assert_eq!(removed, last, "after {to}");
    }
}

/// To whom a hint goes that counted in the place of C, which is waited for no more, and whether this was asked for.
fn passed_on(bench: &mut Bench) -> Vec<(RoundId, NodeId)> {
    bench.keep(C, 1);
    bench.up.remove(&C);
    assert!(bench.time().is_empty(), "it waits for its target");
    bench.given_up.insert(C);
    let actions = bench.time();
    assert!(matches!(actions.as_slice(), [ReplayAction::Read(C, None)]), "{actions:?}");
    delivered(&bench.page(C, vec![hint("a", 1)]))
}

#[test]
fn who_leaves_passes_custody_for_a_lost_owner_to_the_others_if_they_are_enough() {
    let mut bench = Bench::new(1 << 30);
    bench.up.insert(NodeId(1));
    let sent = passed_on(&mut bench);
    assert_eq!(sent.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [NodeId(1), B]);
    let op = sent[0].0;
    for (from, last) in [(NodeId(1), false), (NodeId(1), false), (B, true)] {
        let actions = bench.step(|replay, around| {
            assert!(replay.on_answer(from, (op, Delivered::Held), around));
        });
        let unit = Unit { class: ClassId(0), partition: Partition(0) };
        let noted = actions.iter().any(|a| matches!(a, ReplayAction::Lacks(C, of) if *of == unit));
        let removed = actions.iter().any(|a| matches!(a, ReplayAction::Remove(C, _)));
        assert_eq!((noted, removed), (last, last), "after {from}");
    }

    // One other owner is less than a write needs.
    let mut few = Bench::new(1 << 30);
    assert_eq!(passed_on(&mut few), []);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let before = few.mono;
        while few.time().is_empty() {
            few.mono += MS;
        }
        waits.push((few.mono - before) / MS);
        assert_eq!(delivered(&few.page(C, vec![hint("a", 1)])), []);
    }
    assert_eq!(waits, [100, 200, 400, 400], "it looks again, and more seldom each time");
    let armed = arm_mutant("custody-passed-to-too-few");
    assert_eq!(passed_on(&mut Bench::new(1 << 30)).len(), 1);
    drop(armed);
    let mut stays = Bench::new(1 << 30);
    stays.up.insert(NodeId(1));
    let _armed = arm_mutant("custody-waits-for-the-lost");
    assert_eq!(passed_on(&mut stays), []);
}

#[test]
fn custody_for_one_that_owns_the_unit_no_more_goes_to_its_owners_but_for_one_that_is_lost() {
    // Of n1, B and n5: C's place is n5's now, and n5 is lost.
    let owned = || {
        let mut bench = Bench::new(1 << 30);
        let owners = vec![vec![NodeId(1), B, NodeId(5)]];
        bench.state.classes[0] = Class::new(ClassId(0), (3, 2, 2), owners, crate::types::Epoch(1));
        bench.up.insert(NodeId(1));
        bench.keep(C, 1);
        bench
    };
    let to = |bench: &mut Bench, hint: Hint| {
        bench.time();
        let sent = delivered(&bench.page(C, vec![hint]));
        sent.into_iter().map(|(_, to)| to).collect::<Vec<_>>()
    };
    let mut bench = owned();
    assert_eq!(to(&mut bench, hint("a", 1)), [], "it waits for the third owner");
    let mut bench = owned();
    bench.given_up.insert(NodeId(5));
    assert_eq!(to(&mut bench, hint("a", 1)), [NodeId(1), B]);
    let mut plain = owned();
    plain.given_up.insert(NodeId(5));
    assert_eq!(to(&mut plain, Hint { custody: false, ..hint("a", 1) }), []);
    let mut few = owned();
    few.given_up.insert(NodeId(5));
    few.up.remove(&B);
    assert_eq!(to(&mut few, hint("a", 1)), [], "one owner is less than a write needs");
    let _armed = arm_mutant("custody-waits-for-the-lost");
    let mut waits = owned();
    waits.given_up.insert(NodeId(5));
    assert_eq!(to(&mut waits, hint("a", 1)), []);
}

#[test]
fn custody_of_a_unit_that_moves_and_plain_hints_are_not_passed_on() {
    let mut bench = Bench::new(1 << 30);
    bench.up.insert(NodeId(1));
    bench.state.classes[0].moves.push(crate::types::Move {
        partition: Partition(0),
        phase: crate::types::MovePhase::ReadOld,
        other: vec![NodeId(1), B, NodeId(5)],
        entries: vec![crate::types::Epoch(1); 3],
        was_read: false,
    });
    assert_eq!(passed_on(&mut bench), []);
    let mut plain = Bench::new(1 << 30);
    plain.up.insert(NodeId(1));
    plain.keep(C, 1);
    plain.up.remove(&C);
    plain.given_up.insert(C);
    plain.time();
    let hint = Hint { custody: false, ..hint("a", 1) };
    assert_eq!(delivered(&plain.page(C, vec![hint])), []);
}

/// Hints of one holder that is not told what others do.
struct Holder {
    bench: Bench,
    kept: BTreeMap<u64, Hint>,
}

impl Holder {
    fn new(seed: u64, count: u64) -> Holder {
        let mut bench = Bench::seeded(1 << 30, seed);
        (1..=count).for_each(|at| bench.keep(B, at));
        Holder { bench, kept: (1..=count).map(|at| (at, hint("a", at))).collect() }
    }

    /// Carries out what replay wants: numbers of deliveries that leave.
    fn carry_out(&mut self, actions: Vec<ReplayAction>) -> Vec<RoundId> {
        let (mut sent, mut left) = (Vec::new(), VecDeque::from(actions));
        while let Some(action) = left.pop_front() {
            match action {
                ReplayAction::Read(target, _) => {
                    let page = self.kept.values().take(64).cloned().collect();
                    left.extend(self.bench.page(target, page));
                }
                ReplayAction::Deliver(delivery) => sent.push(delivery.round),
                ReplayAction::Lacks(..) => {}
                ReplayAction::Remove(target, hint) => {
                    self.kept.remove(&hint.created.0);
                    self.bench.books.removed(target, HintTotals::one(true, 100));
                }
            }
        }
        sent
    }
}

/// What became of two holders' hints for one target.
#[derive(Debug)]
struct Brought {
    left: usize,
    refused: usize,
}

/// Two holders bring 64 hints each to a target that serves one write at a time, each for 20 ms, and
/// refuses what comes meanwhile; a message takes 1 ms. They have so many ms.
fn bring_to_a_small_target(within: u64) -> Brought {
    let mut holders = [Holder::new(1, 64), Holder::new(2, 64)];
    let mut refused = 0;
    let mut arriving = VecDeque::new();
    let mut serving: Option<(u64, (usize, RoundId))> = None;
    let mut answers: Vec<(u64, (usize, RoundId), Delivered)> = Vec::new();
    for ms in 0..within {
        if let Some((until, of)) = serving.filter(|(until, _)| *until <= ms) {
            answers.push((until + 1, of, Delivered::Held));
            serving = None;
        }
        while arriving.front().is_some_and(|(at, _)| *at <= ms) {
            let Some((_, of)) = arriving.pop_front() else { break };
            if serving.is_none() {
                serving = Some((ms + 20, of));
            } else {
                refused += 1;
                answers.push((ms + 1, of, Delivered::Overloaded));
            }
        }
        let (due, later): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(at, ..)| *at <= ms);
        answers = later;
        for (which, holder) in holders.iter_mut().enumerate() {
            holder.bench.mono = ms * MS;
            let mut actions = holder.bench.time();
            for (_, (_, op), answer) in due.iter().filter(|(_, (of, _), _)| *of == which) {
                actions.extend(holder.bench.step(|replay, around| {
                    replay.on_answer(B, (*op, *answer), around);
                }));
            }
            let sent = holder.carry_out(actions);
            arriving.extend(sent.into_iter().map(|op| (ms + 1, (which, op))));
        }
    }
    Brought { left: holders.iter().map(|holder| holder.kept.len()).sum(), refused }
}

#[test]
fn a_target_that_takes_one_at_a_time_gets_all_hints_of_two_holders() {
    let brought = bring_to_a_small_target(5000);
    assert_eq!(brought.left, 0, "{brought:?}");
    assert!(brought.refused <= 256, "two for each that is taken, at most: {brought:?}");
    let armed = arm_mutant("overloaded-ends-turn");
    let brought = bring_to_a_small_target(30_000);
    assert_eq!(brought.left, 128, "each turn ends before what was taken is heard of: {brought:?}");
    drop(armed);
    let _armed = arm_mutant("replay-window-stays");
    let brought = bring_to_a_small_target(5000);
    assert!(brought.refused > 512, "{brought:?}");
}

#[test]
fn an_overloaded_target_gives_way_to_one_that_waits() {
    let mut bench = Bench::new(1 << 30);
    bench.keep(B, 1);
    bench.keep(C, 2);
    bench.time();
    let mut actions = bench.page(B, vec![hint("a", 1)]);
    let mut asked = 0;
    for ms in 1..1500 {
        bench.mono = ms * MS;
        let sent = delivered(&actions);
        asked += sent.len();
        actions = bench.time();
        for (op, to) in sent {
            let answer = (op, Delivered::Overloaded);
            actions.extend(bench.step(|replay, around| {
                replay.on_answer(to, answer, around);
            }));
        }
        if actions.iter().any(|action| matches!(action, ReplayAction::Read(C, None))) {
            assert!((1000..1200).contains(&ms), "after {ms} ms");
            assert!((8..=20).contains(&asked), "asked {asked} times");
            return;
        }
    }
    panic!("C never had its turn");
}

#[test]
fn an_owner_that_was_overloaded_is_asked_again_alone() {
    let mut bench = Bench::new(1 << 30);
    let gone = NodeId(9);
    bench.keep(gone, 1);
    bench.up.insert(NodeId(1));
    bench.time();
    let op = delivered(&bench.page(gone, vec![hint("a", 1)]))[0].0;
    let answer = |bench: &mut Bench, from, answer| {
        bench.step(|replay, around| assert!(replay.on_answer(from, (op, answer), around)))
    };
    for (from, said) in [
        (NodeId(1), Delivered::Held),
        (B, Delivered::Overloaded),
        (B, Delivered::Overloaded),
        (C, Delivered::Held),
    ] {
        assert!(answer(&mut bench, from, said).is_empty());
    }
    let at = bench.replay.next_deadline(Time(0)).unwrap();
    assert!((50 * MS..=150 * MS).contains(&at.0), "{at:?}");
    bench.mono = at.0;
    assert_eq!(delivered(&bench.time()), [(op, B)]);
    let actions = answer(&mut bench, B, Delivered::Held);
    assert!(matches!(actions[0], ReplayAction::Remove(_, _)), "{actions:?}");
}

/// A set whose parts fill two messages.
fn large() -> Hint {
    let write = |node: u32| {
        let actor = Actor { node: NodeId(node), tenure: Tenure(1) };
        (1..=3).map(move |time| {
            let dot = Dot { actor, tick: Tick { time: WallTime(time), counter: 0 } };
            let payload = Payload::Here(Value::new(vec![0; 1 << 20]).unwrap());
            (dot, Write { id: RequestId(0), expiry: None, payload })
        })
    };
    let writes: Vec<(Dot, Write)> = write(1).chain(write(2)).collect();
    let seen = CausalContext::new([], writes.iter().map(|(dot, _)| *dot));
    Hint { kept: Kept::Siblings(SiblingSet::new(seen, writes).unwrap()), ..hint("a", 1) }
}

#[test]
fn a_set_in_pieces_is_removed_when_all_of_them_are_held() {
    let mut bench = Bench::new(u64::MAX / 2);
    bench.keep(B, 1);
    bench.time();
    let sent = delivered(&bench.page(B, vec![large()]));
    assert_eq!(sent.iter().map(|(round, _)| round.round).collect::<Vec<_>>(), [1, 2]);
    for (index, last) in [(1, false), (1, false), (0, true)] {
        let actions = bench.step(|replay, around| {
            replay.on_answer(B, (sent[index].0, Delivered::Held), around);
        });
        let removed = actions.iter().any(|action| matches!(action, ReplayAction::Remove(..)));
        assert_eq!(removed, last);
    }
}

//! Rings, tokens, and what a watch makes of what its owners say.

use core::time::Duration;

use bytes::Bytes;
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::{Foreign, Recent, Token, TokenOwner, Watch, WatchOrder};
use crate::message::{
    Change, ChangesAsk, ChangesPage, GapReason, Refusal, WatchEvent, WatchMessage, WatchPlace,
};
use crate::testing::arm_mutant;
use crate::types::{
    Class, ClassId, ClusterId, ClusterState, Epoch, Key, Lineage, NodeId, Partition, Settings,
    Sloppy, Stamp, Table, TableId, TableKind, Time, Topology, Unit, WallTime, limits,
};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const TABLE: TableId = TableId(7);

fn unit() -> Unit {
    Unit { class: ClassId(0), partition: Partition(0) }
}

fn change(key: &str, time: u64) -> Change {
    Change {
        key: Key::new(key.to_owned()).unwrap(),
        stamp: Stamp { time: WallTime(time), counter: 0, node: A },
        print: 0,
        deleted: false,
        expiry: None,
        siblings: 1,
        value: None,
        value_left_out: false,
    }
}

fn table() -> Table {
    Table {
        id: TABLE,
        name: "default".to_owned().try_into().unwrap(),
        kind: TableKind::Lww,
        class: ClassId(0),
        n: 3,
        r: 2,
        w: 2,
        r_min: 2,
        w_min: 2,
        sloppy: Sloppy::Never,
        ttl: None,
        value_bytes_max: 1 << 20,
    }
}

/// Two partitions, both owned by the same three.
fn state(epoch: u64, owners: [NodeId; 3]) -> ClusterState {
    let class = Class::new(ClassId(0), (3, 2, 2), vec![owners.to_vec(); 2], Epoch(epoch));
    ClusterState {
        epoch: Epoch(epoch),
        parent: 0,
        cluster: ClusterId(5),
        lineage: Lineage(0),
        feature_level: 1,
        settings: Settings { name: "kv".to_owned(), partitions: 2 },
        members: Vec::new(),
        council: Vec::new(),
        ring: owners.to_vec(),
        classes: vec![class],
        tables: vec![table()],
        table_id_max: TABLE,
        dropped_at: Epoch(0),
        recent_changes: Vec::new(),
        topology: Topology::default(),
    }
}

fn ask(after: Option<u64>) -> ChangesAsk {
    let (prefix, bytes_max) = (Bytes::new(), 1 << 20);
    ChangesAsk { table: TABLE, prefix, after, values: false, bytes_max }
}

#[test]
fn an_owner_gives_what_it_noted_behind_a_place_and_says_when_that_is_gone() {
    let mut recent = Recent::new(1000);
    recent.note((unit(), TABLE), change("before", 1));
    assert!(!recent.is_live(), "nobody watches");
    assert_eq!(recent.read(&ask(None)).0, ChangesPage::default());
    recent.note((unit(), TABLE), change("a", 1));
    recent.note((unit(), TableId(8)), change("other", 2));
    recent.note((unit(), TABLE), change("b", 3));
    let (page, places) = recent.read(&ask(Some(0)));
    assert_eq!((page.changes, page.next), (vec![change("a", 1), change("b", 3)], 2));
    assert_eq!(places, [(0, unit()), (1, unit())]);
    let (page, _) = recent.read(&ChangesAsk { prefix: "b".into(), ..ask(Some(0)) });
    assert_eq!((page.changes.len(), page.next), (1, 2));
    let (page, _) = recent.read(&ChangesAsk { bytes_max: 1, ..ask(Some(0)) });
    assert_eq!((page.changes.len(), page.next, page.more), (1, 1, true));
    for time in 4..40 {
        recent.note((unit(), TABLE), change("c", time));
    }
    let (page, _) = recent.read(&ask(Some(2)));
    assert_eq!((page.lost, page.changes.len(), page.next), (true, 0, 38));
    assert!(recent.read(&ask(Some(39))).0.lost, "a place that was never given");
    assert!(!recent.read(&ask(Some(38))).0.lost);
    recent.forget(TABLE);
    assert!(!recent.is_live());
    recent.note((unit(), TABLE), change("d", 50));
    assert_eq!(recent.read(&ask(Some(38))).0, ChangesPage { next: 38, ..ChangesPage::default() });
}

#[test]
fn what_was_noted_before_a_break_in_noting_is_not_taken_for_all() {
    let mut recent = Recent::new(1000);
    recent.read(&ask(None));
    recent.read(&ChangesAsk { table: TableId(8), ..ask(None) });
    recent.note((unit(), TABLE), change("a", 1));
    recent.forget(TABLE);
    recent.note((unit(), TABLE), change("missed", 2));
    recent.note((unit(), TableId(8)), change("b", 3));
    assert!(recent.read(&ask(Some(1))).0.lost);
}

/// Whether a place that the ring has run over is said to be lost.
fn overrun_is_seen() -> bool {
    let mut recent = Recent::new(1000);
    recent.read(&ask(None));
    for time in 1..40 {
        recent.note((unit(), TABLE), change("k", time));
    }
    recent.read(&ask(Some(0))).0.lost
}

#[test]
fn a_ring_that_does_not_say_that_it_ran_over_is_found() {
    assert!(overrun_is_seen());
    let _planted = arm_mutant("watch-overrun-unseen");
    assert!(!overrun_is_seen());
}

proptest! {
    #[test]
    fn a_token_comes_back_as_it_was_and_no_other_is_taken(
        epoch in any::<u64>(),
        open_gap in any::<bool>(),
        owners in prop::collection::vec((any::<u32>(), any::<u64>(), any::<u64>(), any::<bool>()), 0..20),
        cut in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let owner = |(member, boot, seq, sound)| {
            TokenOwner { member: NodeId(member), place: WatchPlace { boot, seq }, sound }
        };
        let token = Token {
            cluster: ClusterId(5),
            table: TABLE,
            epoch: Epoch(epoch),
            open_gap,
            owners: owners.into_iter().map(owner).collect(),
        };
        let bytes = token.encode();
        assert!(bytes.len() <= limits::WATCH_TOKEN_BYTES_MAX);
        prop_assert_eq!(Token::decode(&bytes, ClusterId(6), TABLE), Err(Foreign::Cluster));
        prop_assert_eq!(Token::decode(&bytes, ClusterId(5), TableId(8)), Err(Foreign::Table));
        let at = cut.index(bytes.len());
        let short = Token::decode(&bytes[..at], ClusterId(5), TABLE);
        prop_assert_eq!(short, Err(Foreign::Malformed));
        let mut other = bytes.to_vec();
        other[at] ^= 1 << bit;
        prop_assert_eq!(Token::decode(&other, ClusterId(5), TABLE), Err(Foreign::Malformed));
        prop_assert_eq!(Token::decode(&bytes, ClusterId(5), TABLE), Ok(token));
    }
}

/// A watch, and the state it is under.
struct Bench {
    watch: Watch,
    state: ClusterState,
    now: Time,
    asked: Vec<(NodeId, u64, Option<WatchPlace>)>,
}

impl Bench {
    /// One that has begun, over three owners.
    fn begun() -> Bench {
        let mut bench = Bench::new(None, state(1, [A, B, C]));
        for id in [A, B, C] {
            bench.answer(id, 1, 0, &[]);
        }
        assert_eq!(bench.told(), [WatchEvent::Began]);
        bench
    }

    fn new(token: Option<&[u8]>, state: ClusterState) -> Bench {
        let (prefix, values) = (Bytes::new(), false);
        let order = WatchOrder { number: 1, table: TABLE, class: ClassId(0), prefix, values };
        let token = token.map(|token| Token::decode(token, ClusterId(5), TABLE).unwrap());
        let watch = Watch::begin(Time(0), order, &state, token);
        let mut bench = Bench { watch, state, now: Time(0), asked: Vec::new() };
        bench.ask();
        bench
    }

    fn ask(&mut self) {
        for (to, message) in self.watch.asks(self.now) {
            let WatchMessage::Ask { round, place, .. } = message else { panic!("{message:?}") };
            self.asked.retain(|(other, ..)| *other != to);
            self.asked.push((to, round, place));
        }
    }

    fn page(&mut self, from: NodeId, boot: u64, result: Result<ChangesPage, Refusal>) {
        self.ask();
        let (_, round, _) = *self.asked.iter().find(|(to, ..)| *to == from).expect("was asked");
        self.watch.on_answer(self.now, (from, round), (boot, result));
        self.ask();
    }

    fn answer(&mut self, from: NodeId, boot: u64, next: u64, changes: &[Change]) {
        let page = ChangesPage { changes: changes.to_vec(), next, ..ChangesPage::default() };
        self.page(from, boot, Ok(page));
    }

    fn lost(&mut self, from: NodeId, boot: u64) {
        self.page(from, boot, Ok(ChangesPage { lost: true, next: 9, ..ChangesPage::default() }));
    }

    /// What is told now, and the token behind it.
    fn take(&mut self) -> (Vec<WatchEvent>, Bytes) {
        self.watch.look(self.now, &self.state, &table());
        let reply = self.watch.take(&self.state);
        (reply.events, reply.token)
    }

    fn told(&mut self) -> Vec<WatchEvent> {
        self.take().0
    }

    /// Lets time pass in which these owners answer, if there is nothing to tell.
    fn pass(&mut self, time: Duration, answering: &[NodeId]) {
        let end = self.now.plus(time);
        while self.now < end {
            self.now = self.now.plus(Duration::from_secs(1));
            self.ask();
            for id in answering {
                let place = self.asked.iter().find(|(to, ..)| to == id).and_then(|asked| asked.2);
                let place = place.expect("is followed");
                self.answer(*id, place.boot, place.seq, &[]);
            }
            self.watch.look(self.now, &self.state, &table());
        }
    }
}

fn gap(reason: GapReason) -> WatchEvent {
    WatchEvent::Gap { reason, partitions: vec![Partition(0), Partition(1)], count: 2 }
}

const SETTLED: Duration = Duration::from_secs(61);

#[test]
fn what_several_owners_apply_is_told_once_and_never_back_in_order() {
    let mut bench = Bench::begun();
    bench.answer(A, 1, 1, &[change("k", 1)]);
    bench.answer(B, 1, 2, &[change("k", 1), change("k", 2)]);
    bench.answer(A, 1, 3, &[change("k", 2), change("other", 1)]);
    bench.answer(C, 1, 1, &[change("k", 1)]);
    let of = |key, time| WatchEvent::Change(change(key, time));
    assert_eq!(bench.told(), [of("k", 1), of("k", 2), of("other", 1)]);
    // Sets of siblings have no order.
    let set = |print| Change { print, ..change("set", 5) };
    bench.answer(A, 1, 4, &[set(1), set(2)]);
    bench.answer(B, 1, 3, &[set(2), set(3)]);
    assert_eq!(bench.told().len(), 3);
}

#[test]
fn a_watch_that_dedupes_by_key_is_found() {
    let _planted = arm_mutant("watch-dedupes-by-key");
    let mut bench = Bench::begun();
    bench.answer(A, 1, 2, &[change("k", 1), change("k", 2)]);
    assert_eq!(bench.told(), [WatchEvent::Change(change("k", 1))], "k@2 is missed");
}

#[test]
fn one_owner_of_three_may_break_without_a_gap_and_two_may_not() {
    let mut bench = Bench::begun();
    bench.lost(A, 1);
    assert_eq!(bench.told(), []);
    // A is followed again and has not settled: B's notes from the time of its break are gone too.
    bench.answer(B, 2, 0, &[]);
    assert_eq!(bench.told(), [gap(GapReason::Restarted)]);
    bench.pass(SETTLED, &[A, B, C]);
    assert_eq!(bench.told(), [WatchEvent::Whole]);
    bench.lost(C, 1);
    assert_eq!(bench.told(), []);
    bench.pass(SETTLED, &[A, B, C]);
    bench.lost(A, 1);
    assert_eq!(bench.told(), [], "C has settled");
    bench.lost(B, 2);
    assert_eq!(bench.told(), [gap(GapReason::Overrun)]);
}

#[test]
fn one_that_follows_too_few_is_found() {
    let _planted = arm_mutant("watch-follows-too-few");
    let mut bench = Bench::begun();
    bench.lost(A, 1);
    bench.lost(B, 1);
    // C is left alone, and a write that A and B have acknowledged is not told.
    assert_eq!(bench.told(), []);
}

#[test]
fn one_that_tells_no_gap_is_found() {
    let _planted = arm_mutant("watch-gap-untold");
    let mut bench = Bench::begun();
    bench.lost(A, 1);
    bench.lost(B, 1);
    assert_eq!(bench.told(), []);
}

#[test]
fn silence_of_too_many_is_a_gap_until_they_answer_and_have_lost_nothing() {
    let mut bench = Bench::begun();
    bench.pass(Duration::from_secs(30), &[A, B]);
    assert_eq!(bench.told(), []);
    bench.pass(Duration::from_secs(30), &[A]);
    assert_eq!(bench.told(), [gap(GapReason::Unreachable)]);
    bench.page(B, 1, Err(Refusal::NotServing));
    assert_eq!(bench.told(), []);
    bench.now = bench.now.plus(Duration::from_secs(1));
    bench.answer(B, 1, 1, &[change("k", 1)]);
    assert_eq!(bench.told(), [WatchEvent::Change(change("k", 1)), WatchEvent::Whole]);
}

#[test]
fn a_watch_begins_without_one_that_does_not_answer_and_says_so_without_two() {
    let mut bench = Bench::new(None, state(1, [A, B, C]));
    bench.answer(A, 1, 0, &[]);
    bench.answer(B, 1, 0, &[]);
    assert_eq!(bench.told(), []);
    bench.now = Time(0).plus(Duration::from_secs(2));
    assert_eq!(bench.told(), [WatchEvent::Began]);
    let mut bench = Bench::new(None, state(1, [A, B, C]));
    bench.answer(A, 1, 0, &[]);
    bench.now = Time(0).plus(Duration::from_secs(2));
    assert_eq!(bench.told(), [WatchEvent::Began, gap(GapReason::OwnersChanged)]);
}

#[test]
fn a_token_goes_on_where_its_owners_stood_and_stands_behind_nothing_untold() {
    let mut bench = Bench::begun();
    bench.answer(A, 1, 5, &[change("k", 1)]);
    let (events, token) = bench.take();
    assert_eq!(events.len(), 1);
    bench.answer(A, 1, 6, &[change("untold", 1)]);
    let mut next = Bench::new(Some(&token), state(1, [A, B, C]));
    let place = |seq| Some(WatchPlace { boot: 1, seq });
    let asked: Vec<_> = next.asked.iter().map(|(to, _, place)| (*to, *place)).collect();
    assert_eq!(asked, [(A, place(5)), (B, place(0)), (C, place(0))]);
    // One may have restarted meanwhile.
    next.answer(A, 1, 6, &[change("untold", 1)]);
    next.lost(B, 2);
    assert_eq!(next.told(), [WatchEvent::Change(change("untold", 1))]);
    let (_, token) = next.take();
    let mut last = Bench::new(Some(&token), state(1, [A, B, C]));
    last.lost(C, 2);
    assert_eq!(last.told(), [gap(GapReason::Restarted)], "B had not settled");
    let (_, token) = last.take();
    let mut after = Bench::new(Some(&token), state(1, [A, B, C]));
    after.pass(SETTLED, &[A, B, C]);
    let told = after.told();
    assert_eq!(
        told.last(),
        Some(&WatchEvent::Whole),
        "the gap it was given in is closed: {told:?}"
    );
}

#[test]
fn owners_that_stay_carry_a_watch_over_a_change_and_skipped_states_are_a_gap() {
    let d = NodeId(4);
    let mut bench = Bench::begun();
    let (_, token) = bench.take();
    bench.state = state(2, [A, B, d]);
    assert_eq!(bench.watch.on_state(bench.now, &bench.state), [C]);
    bench.answer(d, 1, 0, &[]);
    assert_eq!(bench.told(), []);
    bench.lost(A, 1);
    assert_eq!(bench.told(), [gap(GapReason::Overrun)], "D has not settled");
    let mut late = Bench::new(Some(&token), state(3, [A, B, C]));
    assert_eq!(late.told(), [gap(GapReason::OwnersChanged)]);
}

#[test]
fn a_client_that_does_not_read_holds_owners_up_and_memory_is_bounded() {
    let mut bench = Bench::begun();
    let key = |number: u64| format!("{number:04000}");
    let mut number = 0;
    while bench.asked.iter().any(|(to, ..)| *to == A) && number < 5000 {
        bench.asked.clear();
        bench.now = bench.now.plus(Duration::from_secs(4));
        bench.ask();
        let Some((_, round, _)) = bench.asked.iter().find(|(to, ..)| *to == A).copied() else {
            break;
        };
        number += 1;
        let page = ChangesPage {
            changes: vec![change(&key(number), 1)],
            next: number,
            ..ChangesPage::default()
        };
        bench.watch.on_answer(bench.now, (A, round), (1, Ok(page)));
    }
    let most = limits::WATCH_OUT_BYTES_MAX / 4000 + 2;
    assert!((100..=most as u64).contains(&number), "{number}");
    let mut told = 0;
    while bench.watch.has_news() {
        told += bench.told().iter().filter(|it| matches!(it, WatchEvent::Change(_))).count();
    }
    assert_eq!(told as u64, number);
    bench.asked.clear();
    bench.ask();
    assert!(!bench.asked.is_empty(), "it goes on");
}

//! Sessions against another owner in one process: what they ask, bring, and how they end.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;
use crate::message::{CopyContent, CopyPlace, CopyRecord, RepairRefusal};
use crate::repair::exchange::{RANGE_ENTRIES_MAX, answer};
use crate::repair::tree::{Entry, Kind, Place, Range, Tree};
use crate::testing::arm_mutant;
use crate::types::{ClassId, Key, Partition, Record, Stamp, TableId, Value};

const PEER: NodeId = NodeId(2);
const SEED: u64 = 7;

fn key(number: u32) -> CopyPlace {
    CopyPlace { table: TableId(1), key: Key::new(format!("user:{number:08}")).unwrap() }
}

fn place_of(key: &CopyPlace) -> Place {
    Place::new(key.table, &key.key)
}

fn record(time: u64) -> Record {
    let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    Record { stamp, expiry: None, value: Some(Value::new(vec![7; 100]).unwrap()) }
}

#[derive(Clone, Default)]
struct Store(BTreeMap<CopyPlace, Record>);

impl Store {
    fn put(&mut self, number: u32, time: u64) {
        self.0.insert(key(number), record(time));
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::unbuilt(SEED);
        let _behind = tree.begin();
        let all = self.0.iter().map(|(key, record)| {
            let entry = Entry::version(place_of(key), record);
            (entry.place, entry.print)
        });
        assert!(tree.finish(all.collect(), true));
        tree
    }

    fn entries(&self, range: &Range, kind: Kind) -> Vec<Entry> {
        let all = self.0.iter().map(|(key, record)| {
            let mut entry = Entry::version(place_of(key), record);
            entry.kind = kind;
            entry
        });
        all.filter(|entry| range.holds(&entry.place)).take(RANGE_ENTRIES_MAX + 1).collect()
    }

    /// At most three keys of a page.
    fn page(&self, keys: &[CopyPlace]) -> CopyPage {
        let some: Vec<CopyPlace> = keys.iter().take(3).cloned().collect();
        let next = some.last().filter(|_| keys.len() > 3).cloned();
        let entry = |place: CopyPlace| {
            let record = CopyRecord::Version(self.0.get(&place)?.clone());
            Some(CopyEntry { place, record })
        };
        CopyPage {
            content: CopyContent::Records(some.into_iter().filter_map(entry).collect()),
            next,
        }
    }

    fn merge(&mut self, entries: Vec<CopyEntry>) {
        for CopyEntry { place, record } in entries {
            let CopyRecord::Version(record) = record else { panic!("a version") };
            let older = self.0.get(&place).is_none_or(|own| own.stamp < record.stamp);
            if older {
                self.0.insert(place, record);
            }
        }
    }
}

/// One node's sessions, its store and that of another owner.
struct Bench {
    sessions: Sessions,
    own: Store,
    theirs: Store,
    kind: Kind,
    now: Time,
    busy: bool,
    /// Answers that are lost before any arrives.
    lost: u32,
    refuses: Option<RepairRefusal>,
    dropped: Option<TableId>,
    asked: usize,
    rounds: Vec<CopyPlace>,
    compared: Vec<Compared>,
    ended: Vec<Ended>,
}

impl Bench {
    fn new(own: Store, theirs: Store) -> Bench {
        let pace = SessionPace {
            bytes_per_second: 0,
            answer_within: Duration::from_secs(2),
            pause: Duration::from_millis(250),
        };
        Bench {
            sessions: Sessions::new(pace),
            own,
            theirs,
            kind: Kind::Version,
            now: Time(1),
            busy: false,
            lost: 0,
            refuses: None,
            dropped: None,
            asked: 0,
            rounds: Vec::new(),
            compared: Vec::new(),
            ended: Vec::new(),
        }
    }

    fn step(&mut self, run: impl FnOnce(&mut Sessions, &mut SessionAround<'_>)) {
        let mut out = Vec::new();
        let dropped = self.dropped;
        let around = &mut SessionAround {
            now: self.now,
            busy: self.busy,
            is_dropped: &|table| Some(table) == dropped,
            out: &mut out,
        };
        run(&mut self.sessions, around);
        for action in out {
            self.act(action);
        }
    }

    fn act(&mut self, action: SessionAction) {
        match action {
            SessionAction::Send(to, message) => {
                assert_eq!(to, PEER);
                self.asked += 1;
                if self.lost > 0 {
                    self.lost -= 1;
                    return;
                }
                let answer = self.answer(message);
                self.step(|sessions, around| sessions.on_message(PEER, answer, around));
            }
            SessionAction::Advance(id, _, mut asker, said) => {
                let tree = self.own.tree();
                if let Some((number, said)) = said {
                    asker.on_answer(number, said, &tree);
                }
                while let Step::Read(range) = asker.step() {
                    let own = self.own.entries(&range, self.kind);
                    asker.on_read(own);
                }
                self.step(|sessions, around| sessions.on_advanced(id, Some(asker), around));
            }
            SessionAction::Fetch(id, _, keys) => {
                let page = self.own.page(&keys);
                self.step(|sessions, around| sessions.on_fetched(id, Some(page), around));
            }
            SessionAction::Merge(id, _, entries) => {
                self.own.merge(entries);
                self.step(|sessions, around| sessions.on_merged(id, true, around));
            }
            SessionAction::Round(id, key) => {
                self.rounds.push(key.clone());
                let newest = [self.own.0.get(&key), self.theirs.0.get(&key)];
                let newest = newest.into_iter().flatten().max_by_key(|record| record.stamp);
                let newest = newest.cloned().unwrap();
                self.own.0.insert(key.clone(), newest.clone());
                self.theirs.0.insert(key, newest);
                self.step(|sessions, around| sessions.on_round(id, around));
            }
            SessionAction::Compared(compared) => self.compared.push(compared),
            SessionAction::Ended(ended) => self.ended.push(ended),
        }
    }

    fn answer(&mut self, message: RepairMessage) -> RepairMessage {
        match (message, self.refuses) {
            (RepairMessage::Roots { round, units }, None) => {
                let sum = self.theirs.tree().root();
                let floor = Stamp::ZERO;
                let differs = units.into_iter().filter(|root| root.sum != sum);
                let units =
                    differs.map(|root| (root.unit, RootSaid::Differs { floor, sum })).collect();
                RepairMessage::Differ { round, units }
            }
            (RepairMessage::Ask(ask), None) => {
                let terms = Terms { session: ask.round.op, horizon: ask.horizon, seed: SEED };
                let (theirs, kind) = (&self.theirs, self.kind);
                let read = |range: &Range, _| Ok::<_, Infallible>(theirs.entries(range, kind));
                let said = answer(&ask.ask, &terms, &self.theirs.tree(), read).unwrap();
                RepairMessage::Said { round: ask.round, said }
            }
            (RepairMessage::Give { round, keys, .. }, None) => {
                let page = self.theirs.page(&keys);
                RepairMessage::Given { round, part: 0, parts: 1, page }
            }
            (RepairMessage::Take { round, entries, .. }, None) => {
                self.theirs.merge(entries);
                RepairMessage::Taken { round }
            }
            (RepairMessage::Roots { round, .. }, Some(why))
            | (RepairMessage::Give { round, .. }, Some(why))
            | (RepairMessage::Take { round, .. }, Some(why)) => {
                RepairMessage::Refused { round, why }
            }
            (RepairMessage::Ask(ask), Some(why)) => {
                RepairMessage::Refused { round: ask.round, why }
            }
            (other, _) => panic!("no question: {other:?}"),
        }
    }

    fn begin(&mut self, horizon: u64, only_looks: bool) {
        let horizon = Stamp { time: WallTime(horizon), counter: 0, node: NodeId(1) };
        let terms = Terms { session: 5, horizon, seed: SEED };
        let place = SessionPlace { unit: unit(), changed_at: Epoch(3), floor: Stamp::ZERO };
        self.step(|sessions, around| sessions.begin(PEER, place, (terms, only_looks), around));
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.step(Sessions::on_time);
    }
}

fn unit() -> Unit {
    Unit { class: ClassId(0), partition: Partition(9) }
}

/// Two owners of 2,000 keys: each lacks some the other has, and has older ones.
fn differing() -> (Store, Store) {
    let (mut own, mut theirs) = (Store::default(), Store::default());
    for number in 0..2_000 {
        own.put(number, 1);
        theirs.put(number, 1);
    }
    for number in (0..2_000).step_by(97) {
        own.put(number, 2);
        theirs.put(number + 1, 3);
        own.0.remove(&key(number + 2));
        theirs.0.remove(&key(number + 3));
    }
    (own, theirs)
}

#[test]
fn both_sides_get_what_they_lack_a_page_at_a_time() {
    let (own, theirs) = differing();
    let mut bench = Bench::new(own, theirs);
    bench.begin(9, false);
    let [ended] = bench.ended.as_slice() else { panic!("{:?}", bench.ended) };
    assert_eq!((ended.end, ended.unit, ended.peer), (End::Verified, unit(), PEER));
    assert_eq!((ended.lacks, ended.brought_below), (4 * 21, true));
    assert_eq!(bench.own.0, bench.theirs.0);
    let counts = bench.sessions.counts();
    assert_eq!((counts.here, counts.there, counts.sessions), (42, 42, 1));
    assert_eq!((bench.sessions.open(), bench.sessions.next_deadline()), (0, None));
}

#[test]
fn what_is_not_answered_is_asked_again_and_at_last_given_up() {
    let (own, theirs) = differing();
    let mut bench = Bench::new(own.clone(), theirs.clone());
    bench.lost = 3;
    bench.begin(9, false);
    for _ in 0..3 {
        assert!(bench.ended.is_empty());
        bench.pass(Duration::from_secs(2));
    }
    assert_eq!(bench.ended.pop().map(|ended| ended.end), Some(End::Verified));
    assert_eq!(bench.own.0, bench.theirs.0);
    let mut bench = Bench::new(own, theirs);
    bench.lost = 100;
    bench.begin(9, false);
    for _ in 0..4 {
        bench.pass(Duration::from_secs(2));
    }
    assert_eq!(bench.ended.pop().map(|ended| ended.end), Some(End::Lost));
    assert_eq!(bench.asked, 4, "once and three times again");
}

#[test]
fn answers_to_other_questions_and_of_others_change_nothing() {
    let (own, theirs) = differing();
    let mut bench = Bench::new(own, theirs);
    bench.lost = 1;
    bench.begin(9, false);
    let round = RoundId { op: 5, round: 1 };
    let wrong = RoundId { op: 5, round: 7 };
    let refused = |round| RepairMessage::Refused { round, why: RepairRefusal::Busy };
    bench.step(|sessions, around| sessions.on_message(NodeId(3), refused(round), around));
    bench.step(|sessions, around| sessions.on_message(PEER, refused(wrong), around));
    let said = RepairMessage::Said { round: wrong, said: Said::TooMany };
    bench.step(|sessions, around| sessions.on_message(PEER, said, around));
    assert!(bench.ended.is_empty());
    // What cannot be an answer to the question ends the session.
    let said = RepairMessage::Said { round, said: Said::Nodes(Vec::new()) };
    bench.step(|sessions, around| sessions.on_message(PEER, said, around));
    assert_eq!(bench.ended.pop().map(|ended| ended.end), Some(End::Lost));
}

#[test]
fn a_refusal_a_later_fence_and_a_lost_owner_end_a_session() {
    let (own, theirs) = differing();
    let mut bench = Bench::new(own, theirs);
    bench.refuses = Some(RepairRefusal::Building);
    bench.begin(9, false);
    let end = bench.ended.pop().map(|ended| ended.end);
    assert_eq!(end, Some(End::Refused(RepairRefusal::Building)));
    (bench.refuses, bench.lost) = (None, 1);
    bench.begin(9, false);
    bench.step(|sessions, around| sessions.on_state(|_| Epoch(3), around));
    assert!(bench.ended.is_empty());
    bench.step(|sessions, around| sessions.on_state(|_| Epoch(4), around));
    assert_eq!(bench.ended.pop().map(|ended| ended.end), Some(End::Cancelled));
    bench.lost = 1;
    bench.begin(9, false);
    bench.step(|sessions, around| sessions.on_unreachable(NodeId(3), around));
    assert!(bench.ended.is_empty());
    bench.step(|sessions, around| sessions.on_unreachable(PEER, around));
    assert_eq!(bench.ended.pop().map(|ended| ended.end), Some(End::Lost));
}

#[test]
fn what_is_called_off_asks_nothing_any_more() {
    let (own, theirs) = differing();
    let mut bench = Bench::new(own, theirs);
    bench.lost = 100;
    bench.begin(9, false);
    let roots = vec![UnitRoot {
        unit: unit(),
        changed_at: Epoch(3),
        floor: Stamp::ZERO,
        sum: bench.own.tree().root(),
    }];
    bench.step(|sessions, around| sessions.compare(8, PEER, (roots, WallTime(1)), around));
    bench.step(Sessions::cancel);
    assert_eq!(bench.ended.pop().map(|ended| ended.end), Some(End::Cancelled));
    assert!(bench.compared.pop().is_some_and(|compared| compared.equal.is_empty()));
    let asked = bench.asked;
    bench.pass(Duration::from_secs(60));
    assert_eq!((bench.asked, bench.sessions.next_deadline()), (asked, None));
}

#[test]
fn nothing_is_asked_while_users_are_busy_or_the_pace_is_ahead() {
    let (own, theirs) = differing();
    let mut bench = Bench::new(own, theirs);
    bench.busy = true;
    bench.begin(9, false);
    bench.pass(Duration::from_secs(60));
    assert_eq!((bench.asked, bench.ended.len()), (0, 0));
    bench.busy = false;
    bench.sessions.pace.bytes_per_second = 100 << 10;
    bench.pass(Duration::from_secs(1));
    let begun = bench.now;
    while bench.ended.is_empty() {
        let at = bench.sessions.next_deadline().expect("it goes on");
        assert!(at > bench.now);
        bench.now = at;
        bench.step(Sessions::on_time);
    }
    let took = bench.now.since(begun).as_secs_f64();
    let bytes = bench.sessions.counts().bytes as f64 / (100 << 10) as f64;
    assert!(took > bytes / 2.0 && took < bytes + 2.0, "{took} s for {bytes} s of bytes");
}

#[test]
fn one_that_only_looks_brings_nothing_and_names_what_differs() {
    let (own, theirs) = differing();
    let mut bench = Bench::new(own.clone(), theirs.clone());
    bench.begin(9, true);
    let ended = bench.ended.pop().unwrap();
    assert_eq!((ended.end, ended.lacks), (End::Unverified, 4 * 21));
    assert_eq!(ended.looked.map(|some| some.len()), Some(FOUND_MAX));
    assert!(bench.own.0 == own.0 && bench.theirs.0 == theirs.0);
}

#[test]
fn registers_run_rounds_and_are_never_brought() {
    let (own, theirs) = differing();
    let mut bench = Bench::new(own, theirs);
    bench.kind = Kind::Register;
    bench.begin(9, false);
    assert_eq!(bench.ended.pop().map(|ended| ended.end), Some(End::Verified));
    let counts = bench.sessions.counts();
    assert_eq!((bench.rounds.len(), counts.rounds, counts.here, counts.there), (84, 84, 0, 0));
    assert_eq!(bench.own.0, bench.theirs.0);
}

#[test]
fn nothing_is_brought_of_a_dropped_table() {
    let (own, theirs) = differing();
    let mut bench = Bench::new(own.clone(), theirs.clone());
    bench.dropped = Some(TableId(1));
    bench.begin(9, false);
    assert_eq!(bench.ended.pop().map(|ended| ended.end), Some(End::Unverified));
    assert!(bench.own.0 == own.0 && bench.theirs.0 == theirs.0);
}

#[test]
fn an_owner_that_gives_what_nobody_asked_for_is_believed_no_more() {
    let (own, theirs) = differing();
    let mut bench = Bench::new(own.clone(), theirs);
    bench.begin(9, false);
    let mut bringing = Bringing::new(core::iter::once(Lack {
        place: place_of(&key(1)),
        bring: crate::repair::exchange::Bring::Here,
    }));
    let place = SessionPlace { unit: unit(), changed_at: Epoch(3), floor: Stamp::ZERO };
    let asked = bringing.next_message(Time(1), 5, place);
    let Some(RepairMessage::Give { round, keys, .. }) = asked else { panic!("{asked:?}") };
    assert_eq!(keys, [key(1)]);
    let other = own.page(&[key(4)]);
    assert_eq!(bringing.on_given(round.round + 1, (0, 1), other.clone()), None);
    assert_eq!(bringing.on_given(round.round, (0, 1), other), Some(Err(())));
}

#[test]
fn the_roots_of_many_units_are_compared_in_one_message() {
    let (own, _) = differing();
    let mut bench = Bench::new(own.clone(), own.clone());
    let (equal, other) = (bench.own.tree().root(), Store::default().tree().root());
    let root = |partition: u16| UnitRoot {
        unit: Unit { class: ClassId(0), partition: Partition(partition) },
        changed_at: Epoch(3),
        floor: Stamp::ZERO,
        sum: if partition == 3 { other } else { equal },
    };
    let roots: Vec<UnitRoot> = (0..6).map(root).collect();
    let covers = WallTime(77);
    bench.step(|sessions, around| sessions.compare(8, PEER, (roots.clone(), covers), around));
    let compared = bench.compared.pop().unwrap();
    assert_eq!((bench.asked, compared.covers, compared.equal.len()), (1, covers, 5));
    let [(unit, Some(RootSaid::Differs { sum, .. }))] = compared.others.as_slice() else {
        panic!("{compared:?}")
    };
    assert_eq!((unit.partition, *sum), (Partition(3), equal));
    bench.refuses = Some(RepairRefusal::Busy);
    bench.step(|sessions, around| sessions.compare(8, PEER, (roots.clone(), covers), around));
    let compared = bench.compared.pop().unwrap();
    assert!(compared.equal.is_empty() && compared.others.len() == 6);
    // Silence: nothing is said of any, and none counts as equal.
    bench.lost = 100;
    bench.step(|sessions, around| sessions.compare(8, PEER, (roots, covers), around));
    for _ in 0..4 {
        bench.pass(Duration::from_secs(2));
    }
    let compared = bench.compared.pop().unwrap();
    assert!(compared.equal.is_empty() && compared.others.iter().all(|(_, said)| said.is_none()));
}

#[test]
fn a_side_that_is_left_behind_shows() {
    let _armed = arm_mutant("exchange-one-sided");
    let (own, theirs) = differing();
    let mut bench = Bench::new(own, theirs);
    bench.begin(9, false);
    assert_eq!(bench.ended.pop().map(|ended| ended.end), Some(End::Unverified));
    assert_ne!(bench.own.0, bench.theirs.0, "the planted bug is one");
}

//! Sessions between owners: round trips, foreign bytes, and what a session costs on the wire.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::peer::{message_from_wire, message_to_wire};
use super::proto::peer as pb;
use super::repair::{repair_from_wire, repair_to_wire};
use crate::message::{
    CopyContent, CopyEntry, CopyPage, CopyPlace, CopyRecord, PeerMessage, RepairMessage,
    RepairRefusal, RootSaid, RoundId, SessionAsk, SessionPlace, UnitRoot,
};
use crate::repair::exchange::{Ask, Asker, Cell, Mark, Node, Said, Step, Terms, answer};
use crate::repair::tree::{Entry, Kind, Place, Print, Range, Sum, Tree};
use crate::types::{
    ClassId, Epoch, Key, NodeId, Partition, Record, Stamp, TableId, Unit, Value, WallTime,
};

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<[u8; 16]>().prop_map(Stamp::from_bytes)
}

fn unit() -> impl Strategy<Value = Unit> {
    any::<(u16, u16)>().prop_map(|(class, partition)| Unit {
        class: ClassId(class),
        partition: Partition(partition),
    })
}

fn place() -> impl Strategy<Value = Place> {
    (0..3_u32, vec(any::<u8>(), 1..20))
        .prop_map(|(table, key)| Place::new(TableId(table), &Key::new(key).unwrap()))
}

fn bound() -> impl Strategy<Value = Place> {
    prop_oneof![place(), Just(Place::first()), (0..9_u32).prop_map(|of| Place::edge(TableId(of)))]
}

fn range() -> impl Strategy<Value = Range> {
    (bound(), option::of(bound())).prop_map(|(a, b)| match b {
        Some(b) if b > a => Range { from: a, to: Some(b) },
        Some(b) if b < a => Range { from: b, to: Some(a) },
        _ => Range { from: a, to: None },
    })
}

fn cells() -> impl Strategy<Value = Vec<Cell>> {
    let cell = (1..=60_u8, any::<u64>())
        .prop_map(|(bits, path)| Cell::new(bits, path & ((1 << bits) - 1)).unwrap());
    prop_oneof![Just(vec![Cell::ALL]), vec(cell, 1..6)]
}

fn sum() -> impl Strategy<Value = Sum> {
    (0..1_u64 << 48, any::<[u8; 16]>())
        .prop_map(|(count, print)| Sum { count, print: Print::from_bytes(print) })
}

fn digest() -> impl Strategy<Value = u32> {
    0..1_u32 << 24
}

fn ask() -> impl Strategy<Value = (Ask, Stamp)> {
    let ask = prop_oneof![
        Just(Ask::Root),
        range().prop_map(Ask::Nodes),
        (range(), cells()).prop_map(|(range, cells)| Ask::Cells(range, cells)),
        (range(), cells()).prop_map(|(range, cells)| Ask::Entries(range, cells)),
        (range(), vec(digest(), 0..9)).prop_map(|(range, of)| Ask::Places(range, of)),
    ];
    (ask, stamp()).prop_map(|(ask, horizon)| match &ask {
        Ask::Cells(_, cells) | Ask::Entries(_, cells) if *cells == [Cell::ALL] => (ask, horizon),
        _ => (ask, Stamp::ZERO),
    })
}

fn said() -> impl Strategy<Value = Said> {
    let nodes = btree_map(bound(), (0..1_u64 << 48, any::<u64>()), 0..6).prop_map(|nodes| {
        let node = |(from, (count, lane))| Node { from, count, lane };
        Said::Nodes(nodes.into_iter().map(node).collect())
    });
    let kind = prop_oneof![Just(Kind::Version), Just(Kind::Siblings), Just(Kind::Register)];
    let places = btree_map(place(), (stamp(), kind), 0..6).prop_map(|marks| {
        let mark = |(place, (stamp, kind))| Mark { place, stamp, kind };
        Said::Places(marks.into_iter().map(mark).collect())
    });
    let sorted = vec(digest(), 0..6).prop_map(|mut of| {
        of.sort_unstable();
        of
    });
    prop_oneof![
        sum().prop_map(Said::Root),
        nodes,
        (option::of(sum()), vec(digest(), 0..20)).prop_map(|(sum, of)| Said::Cells(sum, of)),
        (option::of(sum()), vec(sorted, 0..6)).prop_map(|(sum, of)| Said::Entries(sum, of)),
        places,
        Just(Said::TooMany),
    ]
}

fn refusal() -> impl Strategy<Value = RepairRefusal> {
    prop_oneof![
        Just(RepairRefusal::Fenced),
        Just(RepairRefusal::Incomplete),
        Just(RepairRefusal::Busy),
        Just(RepairRefusal::Building),
        Just(RepairRefusal::Floor),
    ]
}

fn session_place() -> impl Strategy<Value = SessionPlace> {
    (unit(), any::<u64>(), stamp()).prop_map(|(unit, changed_at, floor)| SessionPlace {
        unit,
        changed_at: Epoch(changed_at),
        floor,
    })
}

fn entries() -> impl Strategy<Value = Vec<CopyEntry>> {
    btree_map((0..4_u32, vec(any::<u8>(), 1..9)), stamp(), 1..5).prop_map(|of| {
        let entry = |((table, key), stamp)| CopyEntry {
            place: CopyPlace { table: TableId(table), key: Key::new(key).unwrap() },
            record: CopyRecord::Version(Record { stamp, expiry: None, value: None }),
        };
        of.into_iter().map(entry).collect()
    })
}

fn message() -> impl Strategy<Value = RepairMessage> {
    let round = any::<(u64, u32)>().prop_map(|(op, round)| RoundId { op, round });
    let roots = btree_map(unit(), (any::<u64>(), stamp(), sum()), 0..5).prop_map(|roots| {
        let root = |(unit, (changed_at, floor, sum))| UnitRoot {
            unit,
            changed_at: Epoch(changed_at),
            floor,
            sum,
        };
        roots.into_iter().map(root).collect()
    });
    let differs = prop_oneof![
        (stamp(), sum()).prop_map(|(floor, sum)| RootSaid::Differs { floor, sum }),
        refusal().prop_map(RootSaid::Refused),
    ];
    let differ = btree_map(unit(), differs, 0..5).prop_map(|units| units.into_iter().collect());
    let keys = |entries: Vec<CopyEntry>| entries.into_iter().map(|entry| entry.place).collect();
    let page = (entries(), any::<bool>()).prop_map(|(entries, more)| {
        let next = entries.last().map(|entry| entry.place.clone()).filter(|_| more);
        CopyPage { content: CopyContent::Records(entries), next }
    });
    prop_oneof![
        (round.clone(), roots).prop_map(|(round, units)| RepairMessage::Roots { round, units }),
        (round.clone(), differ).prop_map(|(round, units)| RepairMessage::Differ { round, units }),
        (round.clone(), session_place(), ask()).prop_map(|(round, place, (ask, horizon))| {
            RepairMessage::Ask(Box::new(SessionAsk { round, place, horizon, ask }))
        }),
        (round.clone(), said()).prop_map(|(round, said)| RepairMessage::Said { round, said }),
        (round.clone(), session_place(), entries().prop_map(keys))
            .prop_map(|(round, place, keys)| RepairMessage::Give { round, place, keys }),
        (round.clone(), 0..9_u16, page).prop_map(|(round, part, page)| {
            RepairMessage::Given { round, part, parts: part + 1, page }
        }),
        (round.clone(), session_place(), entries())
            .prop_map(|(round, place, entries)| RepairMessage::Take { round, place, entries }),
        round.clone().prop_map(|round| RepairMessage::Taken { round }),
        (round.clone(), refusal()).prop_map(|(round, why)| RepairMessage::Refused { round, why }),
        (round.clone(), unit()).prop_map(|(round, unit)| RepairMessage::Dirty { round, unit }),
        (round, unit()).prop_map(|(round, unit)| RepairMessage::Clean { round, unit }),
    ]
}

proptest! {
    #[test]
    fn sessions_read_back(message in message()) {
        let wire = repair_to_wire(message.clone());
        let bytes = wire.encode_to_vec();
        prop_assert_eq!(repair_from_wire(wire), Ok(message.clone()));
        let decoded = pb::Repair::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(repair_from_wire(decoded), Ok(message));
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), packed in vec(any::<u8>(), 0..60)) {
        if let Ok(message) = pb::Repair::decode(bytes.as_slice()) {
            let _told = repair_from_wire(message);
        }
        let packed = bytes::Bytes::from(packed);
        for what in 0..6 {
            let (range, cells, digests) = (packed.clone(), packed.clone(), packed.clone());
            let ask = pb::repair::Ask { what, range, cells, digests, ..Default::default() };
            let (nodes, digests) = (packed.clone(), packed.clone());
            let said = pb::repair::Said { what, nodes, digests, ..Default::default() };
            for body in [pb::repair::Body::Ask(ask), pb::repair::Body::Said(said)] {
                let message = pb::Repair { session: 1, number: 1, body: Some(body) };
                let _told = repair_from_wire(message);
            }
        }
    }
}

#[test]
fn what_is_out_of_order_or_out_of_bounds_is_refused() {
    let of = |body| repair_from_wire(pb::Repair { session: 1, number: 1, body: Some(body) });
    let root = |unit| pb::repair::Root { unit, print: vec![0; 16].into(), ..Default::default() };
    let roots = |units: Vec<u32>| {
        let units = units.into_iter().map(root).collect();
        of(pb::repair::Body::Roots(pb::repair::Roots { units }))
    };
    assert!(roots(vec![1, 2]).is_ok() && roots(Vec::new()).is_ok());
    assert!(roots(vec![2, 1]).is_err() && roots(vec![1, 1]).is_err());
    let error = roots((0..1025).collect()).unwrap_err().to_string();
    assert!(error.contains("1025 roots: at most 1024"), "{error}");
    assert!(of(pb::repair::Body::Refused(0)).is_err());
    let take = pb::repair::Take { place: None, entries: Vec::new() };
    assert!(of(pb::repair::Body::Take(take)).is_err());
    // Ends where it begins: the whole unit, then the place before everything.
    let range = vec![0, 0, 1, 0, 0];
    let ask = pb::repair::Ask { what: 1, range: range.into(), ..Default::default() };
    let error = of(pb::repair::Body::Ask(ask)).unwrap_err().to_string();
    assert!(error.contains("range ends before it begins"), "{error}");
    // More entries than are read for one answer.
    let digests = vec![0x81, 0x80, 0x01];
    let said = pb::repair::Said { what: 3, digests: digests.into(), ..Default::default() };
    let error = of(pb::repair::Body::Said(said)).unwrap_err().to_string();
    assert!(error.contains("more than 16384 entries"), "{error}");
}

const SEED: u64 = 7;

struct Side {
    store: BTreeMap<Place, Entry>,
    tree: Tree,
}

impl Side {
    fn of(keys: u32) -> Side {
        let mut side = Side { store: BTreeMap::new(), tree: Tree::unbuilt(SEED) };
        let _behind = side.tree.begin();
        side.store.extend((0..keys).map(|number| entry(number, 1)));
        let all = side.store.values().map(|entry| (entry.place.clone(), entry.print)).collect();
        assert!(side.tree.finish(all, true));
        side
    }

    fn put(&mut self, (place, entry): (Place, Entry)) {
        let print = entry.print;
        let before = self.store.insert(place.clone(), entry).map(|entry| entry.print);
        self.tree.change(&place, before, Some(print));
    }

    fn read(&self, range: &Range, most: usize) -> Vec<Entry> {
        let from = self.store.range(range.from.clone()..).map(|(_, entry)| entry);
        from.take_while(|entry| range.holds(&entry.place)).take(most).cloned().collect()
    }
}

fn entry(number: u32, hours: u64) -> (Place, Entry) {
    let place = Place::new(TableId(1), &Key::new(format!("user:{number:08}")).unwrap());
    let time = WallTime(1_700_000_000_000_000_000 + hours * 3_600_000_000_000 + u64::from(number));
    let stamp = Stamp { time, counter: number % 3, node: NodeId(1 + number % 5) };
    let record = Record { stamp, expiry: None, value: Some(Value::new("v").unwrap()) };
    (place.clone(), Entry::version(place, &record))
}

/// Bytes of a message as it stands in a batch.
fn bytes(message: RepairMessage) -> usize {
    let op = message_to_wire(PeerMessage::Repair(Box::new(message)));
    let batch = pb::PeerBatch { opening: None, ops: vec![op.clone()] };
    assert!(message_from_wire(op).is_ok());
    batch.encoded_len()
}

/// Bytes of a session until all is found, of all its tree, and of what comes after bringing.
fn cost(keys: u32, differ: u32) -> (usize, usize, usize) {
    let (mut a, mut b) = (Side::of(keys), Side::of(keys));
    for n in 0..differ {
        let side = if n % 2 == 0 { &mut a } else { &mut b };
        side.put(entry(n * (keys / differ), 2));
    }
    let horizon = Stamp { time: WallTime(u64::MAX), ..Stamp::ZERO };
    let terms = Terms { session: 3_000_000_000, horizon, seed: SEED };
    let unit = Unit { class: ClassId(0), partition: Partition(300) };
    let place = SessionPlace { unit, changed_at: Epoch(300), floor: Stamp::ZERO };
    let mut asker = Asker::new(terms);
    let (mut tree, mut ranges, mut verifying, mut brought) = (0, 0, 0, false);
    let mut looked = None;
    loop {
        match asker.step() {
            Step::Ask(number, ask) => {
                let round = RoundId { op: terms.session, round: number };
                let said = answer(&ask, &terms, &b.tree, |range, most| {
                    Ok::<_, Infallible>(b.read(range, most))
                });
                let said = said.unwrap();
                assert!(said.fits(&ask));
                let asked = SessionAsk { round, place, horizon, ask: ask.clone() };
                let both = bytes(RepairMessage::Ask(Box::new(asked)))
                    + bytes(RepairMessage::Said { round, said: said.clone() });
                match ask {
                    Ask::Root | Ask::Nodes(_) => tree += both,
                    _ if brought => verifying += both,
                    _ => ranges += both,
                }
                asker.on_answer(number, said, &a.tree);
            }
            Step::Read(range) => {
                let read = a.read(&range, 16_385);
                asker.on_read(read);
                brought = looked.as_ref() == Some(&range);
                looked = Some(range);
            }
            Step::Bring(lacks) => {
                for lack in lacks {
                    let newest =
                        [&a, &b].into_iter().filter_map(|side| side.store.get(&lack.place));
                    let newest = newest.max_by_key(|entry| entry.stamp).unwrap().clone();
                    a.put((lack.place.clone(), newest.clone()));
                    b.put((lack.place, newest));
                }
                asker.on_brought();
            }
            Step::Done(outcome) => {
                assert_eq!((outcome.verified, outcome.lacks), (true, u64::from(differ)));
                return (ranges, tree, verifying);
            }
        }
    }
}

#[test]
fn a_session_costs_what_differs() {
    println!(
        "{:>7} {:>6} {:>7} {:>7} {:>7} {:>6}",
        "keys", "differ", "find", "levels", "verify", "each"
    );
    for keys in [4_000_u32, 100_000] {
        for differ in [1, keys / 20] {
            let (find, levels, verify) = cost(keys, differ);
            let each = (find + levels + verify) / differ as usize;
            println!("{keys:>7} {differ:>6} {find:>7} {levels:>7} {verify:>7} {each:>6}");
            assert!(differ > 1 || find <= 512, "{find} bytes to find one key");
            let key = 4 + "user:00000000".len();
            assert!(differ < keys / 20 || each <= 64 + key, "{each} bytes a key of {key}");
        }
    }
}

#[test]
fn many_units_cost_forty_bytes_each_to_find_equal() {
    let sum = Sum { count: 1_000_000 / 256, print: Print::from_bytes([7; 16]) };
    let floor = Stamp { time: WallTime(1 << 60), counter: 1, node: NodeId(3) };
    let root = |partition| UnitRoot {
        unit: Unit { class: ClassId(0), partition: Partition(partition) },
        changed_at: Epoch(300),
        floor,
        sum,
    };
    let round = RoundId { op: 3_000_000_000, round: 1 };
    let roots = RepairMessage::Roots { round, units: (0..1000).map(root).collect() };
    let all = bytes(roots) + bytes(RepairMessage::Differ { round, units: Vec::new() });
    println!("{all} bytes for 1000 units");
    assert!(all <= 50 << 10, "{all}");
}

//! Round trips, and foreign bytes that must never do more than fail.

use bytes::Bytes;
use core::time::Duration;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use std::sync::Arc;

use super::load_tests::{load, work};
use super::proto::{peer as pb, v1};
use super::{client, hello, peer};
use crate::message::{
    Ballot, BirthNews, BootRecord, CustodyNews, DecreeMessage, ErrorCode, FillNews, FillState,
    FounderNonce, Hello, HelloRefusal, Instance, Lane, LifeAnswer, LifeRecord, PeerMessage,
    Principal, ProbeFacts, ReadAnswer, ReadAsk, Refusal, ReplicaFacts, RoundId, ScanAnswer,
    ScanAsk, ScanPart, TreeSizes, Unwell, UnwellLink, WriteAnswer, WriteAsk, WriteOutcome,
};
use crate::types::{
    Addresses, Begun, Class, ClassId, ClusterId, ClusterState, Decision, DecisionKind, Epoch, Key,
    Lineage, Loss, Member, MemberBefore, Move, MovePhase, NodeId, NodeName, Nonce, Partition, Plan,
    PlanStatus, Planned, Record, Relieved, RequestId, Role, Settings, Sloppy, Staged, Stamp, Table,
    TableId, TableKind, TableName, Time, Topology, Unit, Value, WallTime, Zone, limits,
};

fn key() -> impl Strategy<Value = Key> {
    vec(any::<u8>(), 1..40).prop_map(|bytes| Key::new(bytes).unwrap())
}

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<[u8; 16]>().prop_map(Stamp::from_bytes)
}

fn record() -> impl Strategy<Value = Record> {
    (stamp(), option::of(any::<u64>()), option::of(vec(any::<u8>(), 0..100))).prop_map(
        |(stamp, expiry, value)| Record {
            stamp,
            expiry: expiry.map(WallTime),
            value: value.map(|value| Value::new(value).unwrap()),
        },
    )
}

fn unit() -> impl Strategy<Value = Unit> {
    any::<(u16, u16)>().prop_map(|(class, partition)| Unit {
        class: ClassId(class),
        partition: Partition(partition),
    })
}

fn round() -> impl Strategy<Value = RoundId> {
    any::<(u64, u32)>().prop_map(|(op, round)| RoundId { op, round })
}

fn remaining() -> impl Strategy<Value = Duration> {
    (0..60_000_000_u64).prop_map(Duration::from_micros)
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        any::<u64>().prop_map(|epoch| Refusal::Fenced { epoch: Epoch(epoch) }),
        any::<u64>().prop_map(|epoch| Refusal::Behind { epoch: Epoch(epoch) }),
        any::<u64>().prop_map(|epoch| Refusal::Dropped { epoch: Epoch(epoch) }),
        any::<u64>().prop_map(|clock| Refusal::ClockAhead { clock: WallTime(clock) }),
        prop::sample::select(vec![
            Refusal::NotOwner,
            Refusal::Incomplete,
            Refusal::Overloaded,
            Refusal::NotServing,
            Refusal::Expired,
            Refusal::ReadOnly,
            Refusal::DiskFull,
            Refusal::TakenBack,
        ]),
        stamp().prop_map(|bound| Refusal::Late { bound }),
        "[a-z ]{0,20}".prop_map(Refusal::Storage),
    ]
}

fn life() -> impl Strategy<Value = LifeRecord> {
    any::<(u64, u128, u64)>().prop_map(|(number, nonce, ceiling)| LifeRecord {
        boot: BootRecord { number, nonce: Nonce(nonce) },
        ceiling: WallTime(ceiling),
    })
}

pub(super) fn facts() -> impl Strategy<Value = Box<ProbeFacts>> {
    let custody = (vec(any::<(u32, u64)>(), 0..4), any::<bool>());
    let sizes = any::<(u64, u64, u16, u64)>();
    let whys = vec![Unwell::Stalled, Unwell::Failing, Unwell::Slow];
    let link = (any::<(u32, u32)>(), prop::sample::select(whys));
    let unwell = vec(
        link.prop_map(|((member, age), why)| {
            let (member, age) = (NodeId(member), Duration::from_millis(age.into()));
            UnwellLink { member, why, age }
        }),
        0..4,
    );
    let of_node = (any::<(u64, bool, u64, u64)>(), life(), "[a-z0-9.:]{0,20}");
    (of_node, sizes, custody, unwell).prop_map(|(of_node, sizes, (targets, others), unwell)| {
        let ((epoch, serving, wall, clock), life, client_address) = of_node;
        let (disk, memory, pressure, hints) = sizes;
        let targets = targets.into_iter().map(|(id, count)| (NodeId(id), count)).collect();
        Box::new(ProbeFacts {
            hints,
            custody: CustodyNews { targets, others },
            unwell,
            acknowledged: Epoch(epoch / 3),
            fills: fills(epoch),
            custody_clear: Stamp { time: WallTime(wall), counter: 1, node: NodeId(2) },
            long_down: vec![NodeId(3), NodeId(9)],
            mirror: crate::message::MirrorNews {
                units: 7,
                wanted: 9,
                bytes: disk / 3,
                oldest: Duration::from_millis(disk % 100_000),
                of: vec![(NodeId(2), 7), (NodeId(5), 0)],
            },
            load: (epoch % 3 != 0).then_some(load(epoch)),
            work: (epoch % 2 != 0).then(work),
            epoch: Epoch(epoch),
            serving,
            wall: WallTime(wall),
            clock: WallTime(clock),
            ceiling: life.ceiling,
            boot: life.boot,
            client_address,
            stored: Epoch(epoch / 2),
            replica: ReplicaFacts {
                disk_bytes: disk,
                free_bytes: (disk % 3 != 0).then_some(disk / 2),
                memory_bytes: memory,
                keys: memory / 2,
                trees: TreeSizes { bytes: memory / 3, file_bytes: disk / 5, leaves: memory / 7 },
                pressure_milli: pressure,
                damaged: false,
            },
        })
    })
}

fn fills(entry: u64) -> Vec<FillNews> {
    let states = [FillState::Filling { done_milli: 7 }, FillState::Complete, FillState::Lost];
    let news = |(state, place): (FillState, u16)| FillNews {
        unit: Unit { class: ClassId(place), partition: Partition(place + 1) },
        entry: Epoch(entry),
        state,
    };
    states.into_iter().zip(0..).map(news).collect()
}

fn founder() -> impl Strategy<Value = FounderNonce> {
    ("[a-z0-9-]{1,32}", any::<u128>()).prop_map(|(name, nonce)| FounderNonce {
        name: NodeName::try_from(name).unwrap(),
        nonce: Nonce(nonce),
    })
}

fn page() -> impl Strategy<Value = Vec<(Key, Record)>> {
    prop::collection::btree_map(key(), record(), 0..5).prop_map(|map| map.into_iter().collect())
}

fn scan() -> impl Strategy<Value = PeerMessage> {
    (round(), any::<(u64, u32, bool, bool)>(), vec(any::<u8>(), 0..9), 1..1000_u32, remaining())
        .prop_map(|(round, (changed_at, table, keys_only, reverse), prefix, limit, remaining)| {
            let (changed_at, table) = (Epoch(changed_at), TableId(table));
            let (after, prefix) = (Bytes::new(), Bytes::from(prefix));
            let part = (limit % 3 > 0)
                .then_some(ScanPart { scan: u64::from(limit), first: limit % 2 == 0 });
            PeerMessage::Scan(Box::new(ScanAsk {
                round,
                changed_at,
                table,
                prefix,
                after,
                limit,
                keys_only,
                reverse,
                part,
                remaining,
            }))
        })
}

fn data_message() -> impl Strategy<Value = PeerMessage> {
    let outcome =
        prop_oneof![Just(WriteOutcome::Stored), stamp().prop_map(WriteOutcome::Superseded)];
    prop_oneof![
        (round(), unit(), any::<(u64, u32, bool)>(), key(), record(), remaining()).prop_map(
            |(round, unit, (changed_at, table, fresh), key, record, remaining)| {
                let changed_at = Epoch(changed_at);
                let hint_for = (table % 3 > 0).then_some(NodeId(table));
                let table = TableId(table);
                let ask = WriteAsk {
                    round,
                    unit,
                    changed_at,
                    table,
                    key,
                    record,
                    rest: Vec::new(),
                    fresh,
                    hint_for,
                    remaining,
                };
                PeerMessage::Write(Box::new(ask))
            }
        ),
        (round(), any::<bool>(), prop::result::maybe_err(outcome, refusal())).prop_map(
            |(round, complete, result)| {
                PeerMessage::WriteAnswer(WriteAnswer { round, complete, result })
            }
        ),
        (round(), unit(), any::<(u64, u32, bool)>(), key(), remaining()).prop_map(
            |(round, unit, (changed_at, table, durable), key, remaining)| {
                let hint_for = (table % 3 > 0).then_some(NodeId(table));
                let (changed_at, table) = (Epoch(changed_at), TableId(table));
                PeerMessage::Read(Box::new(ReadAsk {
                    round,
                    unit,
                    changed_at,
                    table,
                    key,
                    hint_for,
                    durable,
                    remaining,
                }))
            }
        ),
        (round(), prop::result::maybe_err(option::of(record()), refusal())).prop_map(
            |(round, result)| PeerMessage::ReadAnswer(Box::new(ReadAnswer { round, result }))
        ),
        scan(),
        any::<u64>().prop_map(PeerMessage::ScanEnd),
        (round(), prop::result::maybe_err((page(), any::<bool>()), refusal())).prop_map(
            |(round, result)| PeerMessage::ScanAnswer(Box::new(ScanAnswer { round, result }))
        ),
    ]
}

fn other_message() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![
        super::gossip_tests::message(),
        (any::<u128>(), founder(), vec(founder(), 0..4), option::of(any::<u128>())).prop_map(
            |(founders, own, known, pledge)| {
                PeerMessage::Birth(Box::new(BirthNews { founders, own, known, pledge }))
            }
        ),
        (any::<u64>(), life())
            .prop_map(|(epoch, life)| PeerMessage::Register { epoch: Epoch(epoch), life }),
        (life(), option::of(life())).prop_map(|(life, seen)| PeerMessage::Registered {
            boot: life.boot,
            answer: seen.map_or(LifeAnswer::Noted, |seen| LifeAnswer::Refused { seen }),
        }),
        any::<u64>().prop_map(|epoch| PeerMessage::StateAsk { epoch: Epoch(epoch) }),
        any::<u64>().prop_map(|epoch| PeerMessage::StateNews(Arc::new(state(Epoch(epoch))))),
        decree().prop_map(|message| PeerMessage::Decree(Box::new(message))),
    ]
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (0..1_u64 << 62, any::<(u64, u32)>()).prop_map(|(counter, (boot, member))| Ballot {
        counter,
        boot,
        member: NodeId(member),
    })
}

fn decree() -> impl Strategy<Value = DecreeMessage> {
    let round = || {
        (any::<(u32, u64)>(), ballot()).prop_map(|((lineage, epoch), ballot)| {
            (Instance { lineage: Lineage(lineage), epoch: Epoch(epoch) }, ballot)
        })
    };
    let a_state = || any::<u64>().prop_map(|epoch| Arc::new(state(Epoch(epoch))));
    prop_oneof![
        round().prop_map(|(instance, ballot)| DecreeMessage::Prepare { instance, ballot }),
        round().prop_map(|(instance, ballot)| DecreeMessage::Accepted { instance, ballot }),
        round().prop_map(|(instance, _)| DecreeMessage::Stored(instance)),
        (round(), option::of((ballot(), a_state()))).prop_map(|((instance, ballot), accepted)| {
            DecreeMessage::Promise { instance, ballot, accepted }
        }),
        (round(), a_state()).prop_map(|((instance, ballot), state)| DecreeMessage::Accept {
            instance,
            ballot,
            state
        }),
        (round(), ballot()).prop_map(|((instance, ballot), promised)| DecreeMessage::Outbid {
            instance,
            ballot,
            promised
        }),
        a_state().prop_map(DecreeMessage::Decided),
        any::<u64>().prop_map(|seq| DecreeMessage::Newest { seq }),
        any::<(u64, u64)>()
            .prop_map(|(seq, epoch)| DecreeMessage::NewestAnswer { seq, epoch: Epoch(epoch) }),
    ]
}

/// A state of three members and eight partitions.
fn state(epoch: Epoch) -> ClusterState {
    let member = |id: u32| Member {
        id: NodeId(id),
        name: format!("n{id}").parse().unwrap(),
        addresses: Addresses { client: String::new(), peer: format!("127.0.0.1:{id}") },
        zone: Zone::default(),
        weight_milli: 1000,
        role: if id == 3 { Role::Reserved } else { Role::Active },
        birth: Nonce(u128::from(id) << 100),
    };
    let place = |index: u32| NodeId(index % 2 + 1);
    ClusterState {
        epoch,
        parent: 7,
        cluster: ClusterId(9),
        lineage: Lineage(0),
        feature_level: 1,
        settings: Settings { name: "kv".to_owned(), partitions: 8 },
        members: (1..=3).map(member).collect(),
        council: vec![NodeId(1)],
        ring: (0..8).map(place).collect(),
        classes: vec![Class {
            id: ClassId(0),
            n: 2,
            r_min: 2,
            w_min: 2,
            created: Epoch(1),
            owners: (0..8).map(|index| vec![place(index), place(index + 1)]).collect(),
            entries: (0..8).map(|index| vec![Epoch(1), Epoch(1 + index)]).collect(),
            changed_at: vec![Epoch(1); 8],
            moves: vec![Move {
                partition: Partition(3),
                phase: MovePhase::ReadNew,
                other: vec![NodeId(3), NodeId(1)],
                entries: vec![Epoch(2), Epoch(1)],
                was_read: true,
            }],
        }],
        tables: vec![Table {
            id: TableId(1),
            name: TableName::try_from("default".to_owned()).unwrap(),
            kind: TableKind::Lww,
            class: ClassId(0),
            n: 2,
            r: 2,
            w: 2,
            r_min: 2,
            w_min: 2,
            sloppy: Sloppy::Request,
            ttl: Some(Duration::from_nanos(1)),
            value_bytes_max: 1 << 20,
        }],
        table_id_max: TableId(1),
        dropped_at: Epoch(2),
        recent_changes: vec![(RequestId(7), Epoch(2))],
        topology: topology(),
    }
}

fn decision(kind: DecisionKind) -> Decision {
    Decision { epoch: Epoch(2), kind, subject: NodeId(2), reason: "n2 is down".to_owned() }
}

fn topology() -> Topology {
    let unit = Unit { class: ClassId(0), partition: Partition(4) };
    let planned = |id: u32| Planned { unit, to: vec![NodeId(id), NodeId(3)] };
    let before =
        MemberBefore { id: NodeId(2), role: Role::Leaving, weight_milli: 7, zone: Zone::default() };
    Topology {
        member_id_max: NodeId(4),
        staged: vec![
            Staged::Join(NodeId(3)),
            Staged::Leave(NodeId(1)),
            Staged::Replace { old: NodeId(2), new: NodeId(3) },
            Staged::Set { member: NodeId(1), weight_milli: Some(5), zone: None },
            Staged::Set { member: NodeId(1), weight_milli: None, zone: Some(Zone::default()) },
        ],
        plan: Some(Plan {
            hash: 9 << 90,
            since: Epoch(1),
            status: PlanStatus::Paused,
            ring: vec![NodeId(3); 8],
            queue: vec![planned(1)],
            begun: vec![Begun {
                unit,
                from: vec![NodeId(1), NodeId(2)],
                to: vec![NodeId(2), NodeId(3)],
            }],
            total: 3,
            before: vec![before],
            ring_before: vec![NodeId(1); 8],
        }),
        gone: vec![(NodeId(4), Nonce(1 << 99))],
        losses: vec![Loss { unit, epoch: Epoch(2), gone: vec![NodeId(1), NodeId(2)] }],
        origins: vec![5 << 80],
        relieved: vec![Relieved { id: NodeId(2), by: Some(NodeId(3)), epoch: Epoch(2) }],
        decisions: DecisionKind::ALL.map(decision).to_vec(),
    }
}

fn greeting() -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 2,
        cluster_name: "kv".to_owned(),
        founders: 5,
        cluster: Some(ClusterId(6)),
        lineage: Lineage(7),
        origin: 6 << 70,
        feature_level: 1,
        id: NodeId(2),
        name: "n2".parse().unwrap(),
        to: NodeId(1),
        birth: Nonce(8),
        boot: BootRecord { number: 3, nonce: Nonce(9) },
        address: "127.0.0.1:7".to_owned(),
    }
}

fn call() -> client::Call {
    client::Call {
        now: Time(0),
        transport_timeout: None,
        default_timeout: Duration::from_secs(1),
        principal: Principal::Anonymous,
    }
}

proptest! {
    #[test]
    fn a_peer_message_survives_the_wire(
        message in prop_oneof![data_message(), other_message()]
    ) {
        let bytes = peer::message_to_wire(message.clone()).encode_to_vec();
        let op = pb::Op::decode(Bytes::from(bytes)).unwrap();
        prop_assert_eq!(peer::message_from_wire(op), Ok(message));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        if let Ok(op) = pb::Op::decode(bytes.clone()) {
            let _ = peer::message_from_wire(op);
        }
        if let Ok(batch) = pb::PeerBatch::decode(bytes.clone()) {
            let _ = hello::answer_from_wire(batch.clone());
            let _ = hello::hello_from_wire(batch);
        }
        if let Ok(request) = v1::SessionRequest::decode(bytes) {
            for op in request.ops {
                let _ = client::session_op_from_wire(&call(), op);
            }
        }
    }

    #[test]
    fn a_damaged_message_never_panics(
        message in prop_oneof![data_message(), other_message()],
        at: prop::sample::Index,
        bit in 0..8_u32,
    ) {
        let mut bytes = peer::message_to_wire(message).encode_to_vec();
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        if let Ok(op) = pb::Op::decode(Bytes::from(bytes)) {
            let _ = peer::message_from_wire(op);
        }
    }
}

#[test]
fn a_greeting_and_its_answers_survive_the_wire() {
    let hello = greeting();
    for lane in [Lane::Small, Lane::Bulk] {
        let batch = hello::hello_batch(&hello, lane);
        assert_eq!(hello::hello_from_wire(batch), Ok((hello.clone(), lane)));
    }
    assert_eq!(hello::answer_from_wire(hello::ack_batch(&hello)), Ok(hello::HelloAnswer::Welcome));
    let text = || "text".to_owned();
    let refusals = [
        HelloRefusal::Protocol { theirs_min: 1, theirs_max: 2, ours_min: 3, ours_max: 4 },
        HelloRefusal::Cluster { theirs: text(), ours: text() },
        HelloRefusal::Founders { refuser: text() },
        HelloRefusal::Lineage { theirs: 1, ours: 2, state: Some(Arc::new(state(Epoch(9)))) },
        HelloRefusal::Lineage { theirs: 2, ours: 1, state: None },
        HelloRefusal::Rival { lineage: 3, theirs: 1 << 90, ours: 7 },
        HelloRefusal::Misdirected { refuser: text(), meant: NodeId(3) },
        HelloRefusal::Stranger { name: "n2".parse().unwrap(), id: NodeId(2), hint: text() },
        HelloRefusal::Unheard { name: "n2".parse().unwrap(), id: NodeId(2) },
        HelloRefusal::Gone { name: "n2".parse().unwrap(), id: NodeId(2) },
    ];
    for refusal in refusals {
        let answer = hello::answer_from_wire(hello::refusal_batch(&refusal));
        assert_eq!(answer, Ok(hello::HelloAnswer::Refused(refusal)));
    }
}

#[test]
fn a_state_that_contradicts_itself_is_refused() {
    let good = super::state_to_wire(&state(Epoch(1)));
    assert!(super::state_from_wire(good.clone()).is_ok());
    let spoil: [fn(&mut pb::ClusterState); 10] = [
        |state| state.topology.as_mut().unwrap().plan.as_mut().unwrap().since = 2,
        |state| state.partitions = 7,
        |state| state.partitions = 16,
        |state| state.ring[0] = 99,
        |state| state.council.push(99),
        |state| state.members[1].id = 1,
        |state| state.members[0].name.clear(),
        |state| state.classes[0].owners[0] = state.classes[0].owners[1],
        |state| state.classes[0].owner_counts[0] = u32::MAX,
        |state| state.tables[0].w = 9,
    ];
    for (index, spoil) in spoil.into_iter().enumerate() {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(super::state_from_wire(bad).is_err(), "case {index}");
    }
}

#[test]
fn a_scan_page_out_of_order_is_refused() {
    let is_taken = |keys: &[&'static str]| {
        let record = Record { stamp: Stamp::ZERO, expiry: None, value: None };
        let entries = keys.iter().map(|key| (Key::new(*key).unwrap(), record.clone())).collect();
        let answer = ScanAnswer { round: RoundId::default(), result: Ok((entries, true)) };
        let op = peer::message_to_wire(PeerMessage::ScanAnswer(Box::new(answer)));
        peer::message_from_wire(op).is_ok()
    };
    // Which of both ways was asked for, the coordinator knows.
    let in_order: [&[&str]; 4] = [&[], &["a"], &["a", "b", "c"], &["c", "b", "a"]];
    assert!(in_order.into_iter().all(is_taken));
    let out_of_order: [&[&str]; 4] =
        [&["a", "a"], &["a", "c", "b"], &["b", "a", "c"], &["c", "b", "b"]];
    assert!(!out_of_order.into_iter().any(is_taken));
}

fn put(change: impl FnOnce(&mut v1::PutRequest)) -> Result<(), ErrorCode> {
    let mut put = v1::PutRequest {
        key: Bytes::from_static(b"k"),
        header: Some(v1::RequestHeader::default()),
        ..v1::PutRequest::default()
    };
    change(&mut put);
    client::put_from_wire(&call(), put).map(|_| ()).map_err(|error| error.code)
}

#[test]
fn each_limit_of_a_request_has_its_own_error() {
    use v1::quorum::Kind;
    assert_eq!(put(|_| ()), Ok(()));
    let header = |put: &mut v1::PutRequest| put.header.clone().unwrap();
    let cases: [(ErrorCode, &dyn Fn(&mut v1::PutRequest)); 11] = [
        (ErrorCode::RequestMalformed, &|put| put.ttl_ms = Some(99)),
        (ErrorCode::RequestMalformed, &|put| put.ttl_ms = Some(3650 * 86_400_000 + 1)),
        (ErrorCode::KeyEmpty, &|put| put.key = Bytes::new()),
        (ErrorCode::KeyTooLarge, &|put| put.key = vec![0; limits::KEY_BYTES_MAX + 1].into()),
        (ErrorCode::ValueTooLarge, &|put| put.value = vec![0; limits::VALUE_BYTES_MAX + 1].into()),
        (ErrorCode::QuorumInvalid, &|put| put.w = Some(v1::Quorum { kind: Some(Kind::Count(0)) })),
        (ErrorCode::QuorumInvalid, &|put| put.r = Some(v1::Quorum { kind: Some(Kind::Named(9)) })),
        (ErrorCode::TableNameInvalid, &|put| {
            put.header = Some(v1::RequestHeader { table: "A b".to_owned(), ..header(put) });
        }),
        (ErrorCode::RequestMalformed, &|put| {
            put.header = Some(v1::RequestHeader { timeout_ms: 60_001, ..header(put) });
        }),
        (ErrorCode::RequestMalformed, &|put| {
            put.header = Some(v1::RequestHeader { trace_id: vec![1; 15].into(), ..header(put) });
        }),
        (ErrorCode::RequestMalformed, &|put| {
            put.attempt = Some(v1::Attempt { lower_ns: 5, upper_ns: 5, ..v1::Attempt::default() });
        }),
    ];
    cases.into_iter().for_each(|(code, change)| assert_eq!(put(change), Err(code)));
}

#[test]
fn the_shortest_of_the_timeouts_is_the_deadline() {
    let mut call = call();
    assert_eq!(call.deadline(0), Ok(Time(1_000_000_000)));
    assert_eq!(call.deadline(2_000), Ok(Time(2_000_000_000)));
    call.transport_timeout = Some(Duration::from_millis(5));
    assert_eq!(call.deadline(2_000), Ok(Time(5_000_000)));
}

#[test]
fn a_page_has_at_most_a_thousand_entries() {
    let scan = |limit| {
        client::scan_from_wire(&call(), v1::ScanRequest { limit, ..v1::ScanRequest::default() })
    };
    assert!(scan(1000).is_ok());
    assert_eq!(scan(1001).unwrap_err().code, ErrorCode::RequestMalformed);
}

//! Round trips of changes, drafts and progress, and foreign fields that must never do more than fail.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::message::{ErrorCode, Principal};
use crate::types::{Addresses, Epoch, NodeId, Nonce, Role};

fn name() -> impl Strategy<Value = NodeName> {
    "[a-z0-9-]{1,32}".prop_map(|text| NodeName::try_from(text).unwrap())
}

fn names() -> impl Strategy<Value = Vec<NodeName>> {
    vec(name(), 0..4)
}

fn units() -> impl Strategy<Value = Unit> {
    any::<(u16, u16)>().prop_map(|(class, partition)| Unit {
        class: ClassId(class),
        partition: Partition(partition),
    })
}

fn change() -> impl Strategy<Value = PlanChange> {
    let zone = "[a-z0-9-]{1,32}".prop_map(|text| Zone::try_from(text).unwrap());
    let weight = option::of(1..=limits::WEIGHT_MILLI_MAX);
    let set = (name(), weight, option::of(zone))
        .prop_map(|(member, weight_milli, zone)| StageOrder::Set { member, weight_milli, zone });
    let order = prop_oneof![
        name().prop_map(StageOrder::Join),
        name().prop_map(StageOrder::Leave),
        (name(), name()).prop_map(|(old, new)| StageOrder::Replace { old, new }),
        set,
    ];
    prop_oneof![
        order.prop_map(PlanChange::Stage),
        any::<u128>().prop_map(PlanChange::Commit),
        (name(), name()).prop_map(|(old, new)| PlanChange::Retarget { old, new }),
        (vec(units(), 1..4), names())
            .prop_map(|(units, gone)| PlanChange::AcceptLoss { units, gone }),
        prop::sample::select(vec![
            PlanChange::Clear,
            PlanChange::Pause,
            PlanChange::Resume,
            PlanChange::RollBack,
        ]),
    ]
}

fn draft() -> impl Strategy<Value = DraftReply> {
    let line = (units(), names(), names(), any::<(u64, u64)>())
        .prop_map(|(unit, from, to, (bytes, keys))| MoveLine { unit, from, to, bytes, keys });
    let share =
        (name(), any::<(u32, u32, u64, u64, u64)>()).prop_map(|(node, numbers)| ShareLine {
            node,
            before: numbers.0,
            after: numbers.1,
            bytes_before: numbers.2,
            bytes_after: numbers.3,
            bytes_peak: numbers.4,
        });
    let link = (name(), name(), any::<(u32, u64)>())
        .prop_map(|(from, to, (units, bytes))| LinkLine { from, to, units, bytes });
    let texts = || vec("[a-z ]{0,20}", 0..3);
    let lists = (vec(line, 0..5), vec(share, 0..4), vec(link, 0..4), texts(), texts());
    (any::<(u128, u32)>(), lists).prop_map(|((hash, ms), (moves, shares, links, why, what))| {
        let move_count = u32::try_from(moves.len()).unwrap() + ms % 2;
        let (reasons, warnings) = (why, what);
        let duration = Duration::from_millis(ms.into());
        DraftReply { hash, reasons, warnings, moves, move_count, shares, links, duration }
    })
}

fn progress() -> impl Strategy<Value = PlanProgress> {
    let phase = prop::sample::select(vec![MovePhase::ReadOld, MovePhase::ReadNew]);
    let fills = vec((name(), 0..=1000_u16), 0..3);
    let line = (units(), phase, any::<bool>(), fills, "[a-z ]{0,20}").prop_map(
        |(unit, phase, undoes, fills, waits_for)| MoveProgress {
            unit,
            phase,
            undoes,
            fills,
            waits_for,
        },
    );
    let status = prop::sample::select(vec![
        PlanStatus::Running,
        PlanStatus::Paused,
        PlanStatus::RollingBack,
    ]);
    (any::<(u128, u32, u32, u32)>(), status, vec(line, 0..4)).prop_map(
        |((hash, total, done, queued), status, under_way)| PlanProgress {
            hash,
            status,
            total,
            done,
            queued,
            under_way,
        },
    )
}

fn call() -> Call {
    Call {
        now: Time(0),
        transport_timeout: None,
        default_timeout: Duration::from_secs(1),
        principal: Principal::Anonymous,
    }
}

fn again<T: Message + Default>(message: T) -> T {
    T::decode(&message.encode_to_vec()[..]).unwrap()
}

proptest! {
    #[test]
    fn changes_survive_the_wire(change in change(), id: u128, timeout_ms in 0_u32..60_000) {
        let request_id = wide_bytes(id);
        let sent = pb::ChangePlanRequest { request_id, timeout_ms, ..change_to_wire(&change) };
        let (_, request) = change_from_wire(&call(), again(sent)).unwrap();
        let id = RequestId(id);
        let AdminRequest::Topology(request) = request else { panic!("{request:?}") };
        prop_assert_eq!(*request, TopologyRequest::Change { id, change });
    }

    #[test]
    fn drafts_and_progress_survive_the_wire(
        draft in draft(),
        progress in progress(),
        stuck in vec((units(), "[ -~]{0,40}", names(), names()), 0..3),
    ) {
        let stuck: Vec<StuckLine> = stuck
            .into_iter()
            .map(|(unit, why, waits_for, down)| StuckLine { unit, why, waits_for, down })
            .collect();
        let reply = TopologyReply {
            epoch: Epoch(7),
            members: Vec::new(),
            staged: vec!["n4 joins".to_owned()],
            draft: Some(draft.clone()),
            running: Some(progress.clone()),
            stuck: stuck.clone(),
            custody: vec!["n3 keeps 1 writes".to_owned()],
        };
        let wire = again(topology_to_wire(reply));
        let told = wire.stuck.into_iter().map(stuck_from_wire).collect::<Result<Vec<_>, _>>();
        prop_assert_eq!(told, Ok(stuck));
        prop_assert_eq!(wire.custody, ["n3 keeps 1 writes"]);
        prop_assert_eq!((wire.epoch, wire.staged.len()), (7, 1));
        prop_assert_eq!(draft_from_wire(wire.draft.unwrap()), Ok(draft));
        prop_assert_eq!(progress_from_wire(wire.running.unwrap()), Ok(progress));
    }

    #[test]
    fn foreign_bytes_do_no_more_than_fail(bytes: Vec<u8>) {
        if let Ok(ask) = pb::ChangePlanRequest::decode(&bytes[..]) {
            let _ = change_from_wire(&call(), ask);
        }
        if let Ok(reply) = pb::TopologyResponse::decode(&bytes[..]) {
            let _ = reply.draft.map(draft_from_wire);
            let _ = reply.running.map(progress_from_wire);
            let _ = reply.stuck.into_iter().map(stuck_from_wire).collect::<Vec<_>>();
        }
    }
}

#[test]
fn what_is_wrong_with_a_change_is_named() {
    use pb::change_plan_request::{AcceptLoss, At, Change, Set};
    let ask = |change| pb::ChangePlanRequest { change, ..Default::default() };
    let set = |weight_milli: u32, zone: &str| {
        let zone = Some(zone.to_owned());
        Some(Change::Set(Set { member: "n1".to_owned(), weight_milli: Some(weight_milli), zone }))
    };
    let long = pb::ChangePlanRequest {
        request_id: Bytes::from_static(b"short"),
        ..change_to_wire(&PlanChange::Clear)
    };
    let loss = |partition: Option<u32>, gone: &str| {
        let units = partition.into_iter().map(|partition| At { class: 0, partition }).collect();
        Some(Change::AcceptLoss(AcceptLoss { units, gone: vec![gone.to_owned()] }))
    };
    for (bad, what) in [
        (ask(loss(None, "n1")), "units has 0 units"),
        (ask(loss(Some(1 << 16), "n1")), "partition"),
        (ask(loss(Some(3), "N 1")), "node name"),
        (ask(None), "change is missing"),
        (ask(Some(Change::Join("N 4".to_owned()))), "node name"),
        (ask(Some(Change::Commit(Bytes::from_static(b"abc")))), "3 bytes"),
        (ask(Some(Change::Verb(0))), "verb is 0"),
        (ask(Some(Change::Verb(9))), "verb is 9"),
        (ask(set(0, "a")), "weight_milli is 0"),
        (ask(set(limits::WEIGHT_MILLI_MAX + 1, "a")), "weight_milli is 1000001"),
        (ask(set(1, "A")), "zone"),
        (long, "request_id"),
    ] {
        let error = change_from_wire(&call(), bad).unwrap_err();
        assert_eq!(error.code, ErrorCode::RequestMalformed);
        assert!(error.message.contains(what), "{}", error.message);
    }
}

#[test]
fn a_draft_tells_each_name_once_and_refuses_places_that_are_none() {
    let names: Vec<NodeName> = ["n1", "n2", "n3"].map(|name| name.parse().unwrap()).to_vec();
    let line = |partition| MoveLine {
        unit: Unit { class: ClassId(0), partition: Partition(partition) },
        from: names.clone(),
        to: names.clone(),
        bytes: 1,
        keys: 1,
    };
    let moves = (0..40).map(line).collect();
    let draft = draft_to_wire(DraftReply { moves, ..DraftReply::default() });
    assert_eq!(draft.names, ["n1", "n2", "n3"]);
    let mut bad = draft.clone();
    bad.moves[0].to[0] = 3;
    assert!(draft_from_wire(bad).is_err());
    let mut bad = draft;
    bad.moves[0].partition = 1 << 16;
    assert!(draft_from_wire(bad).is_err());
}

#[test]
fn what_proves_a_members_identity_is_not_told() {
    let member = Member {
        id: NodeId(4),
        name: "n4".parse().unwrap(),
        addresses: Addresses { client: "h:1".to_owned(), peer: "h:2".to_owned() },
        zone: Zone::default(),
        weight_milli: 1000,
        role: Role::Reserved,
        birth: Nonce(u128::MAX),
    };
    let (epoch, staged) = (Epoch(1), Vec::new());
    let members = vec![member];
    let (stuck, custody) = (Vec::new(), Vec::new());
    let (draft, running) = (None, None);
    let reply = TopologyReply { epoch, members, staged, draft, running, stuck, custody };
    let wire = topology_to_wire(reply);
    assert_eq!((wire.members[0].role.as_str(), wire.members[0].id), ("reserved", 4));
    assert!(!wire.encode_to_vec().windows(16).any(|bytes| bytes == [0xff; 16]));
}

//! Owners that compare themselves with each other become equal, are told what they may lack, and are
//! asked by operators. What is not theirs to ask is refused.

use core::time::Duration;
use std::sync::Arc;

use super::bench::{Bench, node, put};
use super::fill::{TABLE, key, record};
use super::register::create_jobs;
use crate::causality::{Accepted, Acceptor};
use crate::message::{
    AdminRequest, CopyEntry, CopyPlace, CopyRecord, DiffFound, DiffSide, Event, HintRequest,
    MetaRecord, PeerMessage, RepairMessage, RepairRefusal, RepairReply, RepairRequest, RepairScope,
    Reply, RoundId, SessionAsk, SessionPlace,
};
use crate::repair::exchange::Ask;
use crate::testing::arm_mutant;
use crate::types::{ClusterState, Epoch, NodeId, RegisterState, Stamp, Unit, Value, WallTime};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Nodes that serve and compare themselves so often.
fn comparing(count: u32, interval: Duration) -> Bench {
    let mut bench = Bench::new(count);
    for id in (1..=count).map(node) {
        let config = bench.config(id);
        (config.repair_interval, config.repair_settle) = (interval, ms(200));
        bench.start(id);
    }
    bench.pass(ms(2000));
    bench
}

fn a_unit(bench: &mut Bench) -> Unit {
    let state = bench.host(A).node.as_ref().unwrap().state.clone();
    state.unwrap().units().next().unwrap()
}

/// A unit of which two nodes lack some, and of which the third has something older.
fn differ(bench: &mut Bench) -> Unit {
    let unit = a_unit(bench);
    let slot = |number: u64| (unit, TABLE, key(&format!("k{number:03}")));
    for number in 0..40 {
        bench.host(A).disk.data.insert(slot(number), record(5));
        if number % 4 > 0 {
            bench.host(B).disk.data.insert(slot(number), record(5 + number % 2));
        }
        bench.host(C).disk.data.insert(slot(number), record(3));
    }
    bench.host(C).disk.data.insert(slot(99), record(1));
    unit
}

fn are_equal(bench: &mut Bench) -> bool {
    let [a, b, c] = [A, B, C].map(|id| bench.host(id).disk.data.clone());
    a == b && b == c
}

fn asked(bench: &mut Bench, at: NodeId, request: RepairRequest) -> RepairReply {
    let op = bench.begin_admin(at, AdminRequest::Repair(Box::new(request)));
    bench.pass(ms(400));
    match bench.reply(op) {
        Some(Ok(Reply::Repair(reply))) => *reply,
        other => panic!("{other:?}"),
    }
}

fn status(bench: &mut Bench, at: NodeId) -> RepairReply {
    asked(bench, at, RepairRequest::Status { pairs: true })
}

#[test]
fn owners_become_equal_by_themselves_and_stay_silent_then() {
    let mut bench = comparing(3, ms(4000));
    differ(&mut bench);
    bench.pass(ms(9000));
    assert!(are_equal(&mut bench));
    assert_eq!(bench.host(A).disk.data.len(), 41);
    // Equal ones say no more than that.
    bench.seen.clear();
    bench.pass(ms(8000));
    let repair = bench.seen.iter().filter_map(|(_, _, message)| match message {
        PeerMessage::Repair(message) => Some(message),
        _ => None,
    });
    let repair: Vec<_> = repair.collect();
    assert!(!repair.is_empty());
    let is_short = |message: &RepairMessage| {
        let empty = |message: &RepairMessage| matches!(message, RepairMessage::Differ { units, .. } if units.is_empty());
        matches!(message, RepairMessage::Roots { .. }) || empty(message)
    };
    assert!(repair.iter().all(|message| is_short(message)), "{repair:?}");
    let status = status(&mut bench, A);
    assert_eq!((status.gauges.unverified, status.under_way), (0, 0));
    assert!(status.gauges.oldest <= ms(4000) * 2, "{:?}", status.gauges.oldest);
}

#[test]
fn nothing_is_compared_by_itself_where_that_is_turned_off() {
    let mut bench = comparing(3, Duration::ZERO);
    differ(&mut bench);
    bench.pass(ms(20_000));
    assert!(!bench.seen.iter().any(|(_, _, message)| matches!(message, PeerMessage::Repair(_))));
    assert!(!are_equal(&mut bench));
    let scope = RepairScope::default();
    let run = |bench: &mut Bench, at| asked(bench, at, RepairRequest::Start(scope.clone())).runs[0];
    let (a, c) = (run(&mut bench, A), run(&mut bench, C));
    assert_eq!((a.total, a.left, c.total), (32, 32, 0), "each pair once, by the lower one");
    run(&mut bench, B);
    bench.pass(ms(3000));
    assert!(are_equal(&mut bench));
    let (a, b) = (status(&mut bench, A), status(&mut bench, B));
    assert_eq!((a.runs[0].left, b.runs[0].left), (0, 0), "{a:?}");
    assert_eq!(a.pairs.len(), 32);
    assert!(a.pairs.iter().all(|pair| pair.verified.is_some() && !pair.under_way));
}

#[test]
fn a_run_may_be_of_some_units_and_can_be_called_off() {
    let mut bench = comparing(3, Duration::ZERO);
    bench.cut.insert((A, B));
    bench.cut.insert((A, C));
    let partitions = Some((2, 5));
    let scope = RepairScope { table: None, partitions, all_pairs: true };
    let reply = asked(&mut bench, C, RepairRequest::Start(scope));
    assert_eq!(reply.runs[0].total, 8, "four units, with two others");
    bench.pass(ms(2000));
    let reply = status(&mut bench, C);
    assert_eq!(reply.runs[0].left, 4, "one of both does not answer");
    let reply = asked(&mut bench, C, RepairRequest::Cancel);
    assert!(reply.runs.is_empty());
    bench.seen.clear();
    bench.pass(ms(20_000));
    let asks = bench.seen.iter().filter(|(from, _, message)| {
        *from == C && matches!(message, PeerMessage::Repair(message) if message.is_question())
    });
    assert_eq!(asks.count(), 0);
}

#[test]
fn what_differs_is_told_and_left_as_it_is() {
    let mut bench = comparing(3, Duration::ZERO);
    let unit = differ(&mut bench);
    let before = [A, B, C].map(|id| bench.host(id).disk.data.clone());
    let peer = "n3".parse().unwrap();
    let reply = asked(&mut bench, A, RepairRequest::Diff { peer, table: None, after: None });
    assert_eq!((reply.diffs.len(), reply.next), (16, None));
    for line in &reply.diffs {
        match &line.found {
            DiffFound::Differs { count: 41, keys } if line.unit == unit => {
                assert_eq!(keys.len(), 16);
                let mine = keys.iter().filter(|key| key.lacks == DiffSide::First).count();
                assert!(mine <= 1 && keys.iter().all(|key| key.table == "default"));
            }
            found => assert_eq!((found, line.unit == unit), (&DiffFound::Equal, false)),
        }
    }
    assert_eq!([A, B, C].map(|id| bench.host(id).disk.data.clone()), before);
    // One that does not answer.
    bench.cut.insert((B, A));
    let peer = "n2".parse().unwrap();
    let request = RepairRequest::Diff { peer, table: None, after: Some(unit) };
    let op = bench.begin_admin(A, AdminRequest::Repair(Box::new(request)));
    bench.pass(ms(2000));
    let Some(Ok(Reply::Repair(reply))) = bench.reply(op) else { panic!("no answer") };
    assert_eq!(reply.diffs.len(), 15);
    assert!(reply.diffs.iter().all(|line| matches!(line.found, DiffFound::Unknown(_))));
    for (peer, text) in [("n1", "is this node itself"), ("n9", "no member is called n9")] {
        let peer = peer.parse().unwrap();
        let request = RepairRequest::Diff { peer, table: None, after: None };
        let error = bench.admin(A, AdminRequest::Repair(Box::new(request))).unwrap_err();
        assert!(error.message.contains(text), "{}", error.message);
    }
}

#[test]
fn registers_are_decided_again_and_never_copied() {
    let mut bench = comparing(3, ms(4000));
    create_jobs(&mut bench);
    let state = bench.host(A).node.as_ref().unwrap().state.clone().unwrap();
    let table = state.table_named(&"jobs".to_owned().try_into().unwrap()).unwrap();
    let unit = Unit { class: table.class, partition: a_unit(&mut bench).partition };
    // Any key will do whose unit it is.
    let token = |text: &str| crate::ring::token(text.as_bytes());
    let partitions = state.settings.partitions;
    let of = |text: &String| crate::ring::partition_of(token(text), partitions) == unit.partition;
    let text = (0..).map(|number| format!("job{number}")).find(of).unwrap();
    let slot = (unit, table.id, key(&text));
    let ballot = Stamp { time: WallTime(7), counter: 0, node: A };
    let mut acceptor = Acceptor::default();
    acceptor.promise(ballot).unwrap();
    let value = Value::new("v").ok();
    let held = RegisterState { value, stamp: ballot, ..RegisterState::default() };
    acceptor.accept(Accepted { fence: Epoch(1), ballot, state: held }).unwrap();
    for id in [A, B] {
        bench.host(id).disk.acceptors.insert(slot.clone(), acceptor.clone());
    }
    bench.pass(ms(9000));
    let accepted = |bench: &mut Bench, id| {
        let acceptor = bench.host(id).disk.acceptors.get(&slot).cloned().unwrap_or_default();
        acceptor.accepted().cloned()
    };
    let all = [A, B, C].map(|id| accepted(&mut bench, id));
    assert!(all[0].is_some() && all[0] == all[1] && all[1] == all[2], "{all:?}");
    assert!(all[0].as_ref().unwrap().ballot > ballot, "by a round of its own");
    let copied = bench.seen.iter().any(|(_, _, message)| match message {
        PeerMessage::Repair(message) => matches!(**message, RepairMessage::Take { .. }),
        _ => false,
    });
    assert!(!copied);
}

/// What a node answers to a question of another.
fn answer(bench: &mut Bench, from: NodeId, message: RepairMessage) -> Vec<RepairMessage> {
    bench.seen.clear();
    bench.event(B, Event::Peer { from, message: PeerMessage::Repair(Box::new(message)) });
    let answers = bench.seen.iter().filter_map(|(at, to, message)| match message {
        PeerMessage::Repair(message) if (*at, *to) == (B, from) => Some((**message).clone()),
        _ => None,
    });
    answers.collect()
}

#[test]
fn only_an_owner_under_the_same_fence_is_answered_and_heard() {
    let mut bench = comparing(4, Duration::ZERO);
    let state = bench.host(A).node.as_ref().unwrap().state.clone().unwrap();
    let wanted = |unit: &Unit| {
        let owners = state.owners(*unit);
        owners.contains(&B) && owners.contains(&C) && !owners.contains(&A)
    };
    let unit = state.units().find(wanted).unwrap();
    let changed_at = state.changed_at(unit);
    let round = RoundId { op: 3, round: 1 };
    let place = SessionPlace { unit, changed_at, floor: Stamp::ZERO };
    let ask = |place| {
        let (horizon, ask) = (Stamp::ZERO, Ask::Root);
        RepairMessage::Ask(Box::new(SessionAsk { round, place, horizon, ask }))
    };
    let at = CopyPlace { table: TABLE, key: key("k") };
    let entry = CopyEntry { place: at.clone(), record: CopyRecord::Version(record(5)) };
    let questions = |place| {
        let (keys, entries) = (vec![at.clone()], vec![entry.clone()]);
        vec![
            ask(place),
            RepairMessage::Give { round, place, keys },
            RepairMessage::Take { round, place, entries },
        ]
    };
    let refused = |why| vec![RepairMessage::Refused { round, why }];
    for question in questions(place) {
        assert_eq!(answer(&mut bench, A, question), refused(RepairRefusal::Incomplete));
    }
    for (changed_at, why) in [(Epoch(0), RepairRefusal::Fenced), (Epoch(9), RepairRefusal::Fenced)]
    {
        for question in questions(SessionPlace { changed_at, ..place }) {
            assert_eq!(answer(&mut bench, C, question), refused(why));
        }
    }
    // A higher floor is adopted first, and lower ones are refused then.
    let at_floor = |time| {
        let floor = Stamp { time: WallTime(time), ..Stamp::ZERO };
        SessionPlace { floor, ..place }
    };
    for (number, time) in (7..10).enumerate() {
        let question = questions(at_floor(time)).swap_remove(number);
        assert_eq!(answer(&mut bench, C, question), refused(RepairRefusal::Floor));
    }
    assert_eq!(answer(&mut bench, C, ask(place)), refused(RepairRefusal::Floor));
    let place = at_floor(9);
    assert!(bench.host(B).disk.data.is_empty(), "nothing of it has been merged");
    let [ask, give, take] = questions(place).try_into().unwrap();
    assert!(matches!(answer(&mut bench, C, ask)[..], [RepairMessage::Said { .. }]));
    assert!(matches!(answer(&mut bench, C, give)[..], [RepairMessage::Given { .. }]));
    assert_eq!(answer(&mut bench, C, take), [RepairMessage::Taken { round }]);
    assert_eq!(bench.host(B).disk.data.len(), 1);
    // Users go first.
    let most = bench.config(B).replica_operations_max;
    bench.host(B).node.as_mut().unwrap().replica_operations = most / 4 + 1;
    for question in questions(place) {
        assert_eq!(answer(&mut bench, C, question), refused(RepairRefusal::Busy));
    }
    bench.host(B).node.as_mut().unwrap().replica_operations = 0;
}

#[test]
fn an_owner_whose_hints_were_given_up_is_told_and_its_mark_goes_when_it_is_equal() {
    let mut bench = comparing(3, ms(600_000));
    bench.stop(C);
    bench.pass(ms(3000));
    let op = bench.ask(A, put("k", "v"));
    bench.pass(ms(3000));
    assert!(bench.reply(op).unwrap().is_ok());
    let drop = AdminRequest::Hints(HintRequest::Drop("n3".parse().unwrap()));
    bench.admin(A, drop).unwrap();
    let dirty = |bench: &mut Bench| bench.host(A).node.as_ref().unwrap().gauges().hints.dirty;
    assert_eq!(dirty(&mut bench), 1);
    bench.pass(ms(5000));
    assert_eq!(dirty(&mut bench), 1, "its owner is not there");
    bench.start(C);
    bench.pass(ms(12_000));
    assert!(are_equal(&mut bench) && !bench.host(C).disk.data.is_empty());
    assert_eq!(dirty(&mut bench), 0);
    let last = bench.host(A).disk.meta.iter().rev().find_map(|record| match record {
        MetaRecord::Dirty(_, id) => Some((false, *id)),
        MetaRecord::Clean(_, id) => Some((true, *id)),
        _ => None,
    });
    assert_eq!(last, Some((true, C)));
}

/// The state in force without a member, in whose place others own its units.
fn without(state: &ClusterState, gone: NodeId) -> ClusterState {
    let mut next = state.clone();
    next.epoch = Epoch(next.epoch.0 + 1);
    next.members.retain(|member| member.id != gone);
    let others: Vec<NodeId> = next.members.iter().map(|member| member.id).collect();
    for class in &mut next.classes {
        for (owners, changed_at) in class.owners.iter_mut().zip(&mut class.changed_at) {
            let heir = others.iter().copied().find(|id| !owners.contains(id)).unwrap();
            if let Some(owner) = owners.iter_mut().find(|owner| **owner == gone) {
                (*owner, *changed_at) = (heir, next.epoch);
            }
        }
    }
    next
}

/// Whether owners compare themselves at once when a member has gone that may have kept something for one of them.
fn compared_after_a_departure() -> bool {
    let mut bench = comparing(5, ms(6_000_000));
    let gone = node(5);
    let state = bench.host(A).node.as_ref().unwrap().state.clone().unwrap();
    let unit = state.units().find(|unit| !state.owners(*unit).contains(&gone)).unwrap();
    let owners = state.owners(unit).to_vec();
    bench.host(owners[0]).disk.data.insert((unit, TABLE, key("k")), record(5));
    bench.stop(gone);
    bench.pass(ms(3000));
    let next = Arc::new(without(&state, gone));
    for id in (1..=4).map(node) {
        let from = if id == A { B } else { A };
        bench.event(id, Event::Peer { from, message: PeerMessage::StateNews(next.clone()) });
    }
    bench.pass(ms(12_000));
    let holds = |id: &NodeId| bench.host(*id).disk.data.contains_key(&(unit, TABLE, key("k")));
    owners.iter().all(holds)
}

#[test]
fn owners_compare_themselves_when_a_member_has_gone_that_may_have_kept_something() {
    assert!(compared_after_a_departure());
    let _armed = arm_mutant("departed-not-compared");
    assert!(!compared_after_a_departure());
}

#[test]
fn a_mark_made_again_is_not_taken_back_by_what_was_said_before() {
    let mut bench = comparing(3, ms(600_000));
    let unit = a_unit(&mut bench);
    let marked = |bench: &mut Bench| bench.host(A).node.as_ref().unwrap().gauges().hints.dirty;
    bench.cut.insert((C, A));
    bench.host(A).node.as_mut().unwrap().mark_dirty(unit, C);
    bench.pass(ms(6000));
    let told = bench.seen.iter().find_map(|(_, to, message)| match message {
        PeerMessage::Repair(message) if *to == C => match **message {
            RepairMessage::Dirty { round, .. } => Some(round),
            _ => None,
        },
        _ => None,
    });
    let round = told.expect("it was told");
    bench.host(A).node.as_mut().unwrap().mark_dirty(unit, C);
    let clean = |round| PeerMessage::Repair(Box::new(RepairMessage::Clean { round, unit }));
    bench.event(A, Event::Peer { from: C, message: clean(round) });
    assert_eq!(marked(&mut bench), 1, "of an earlier mark");
    bench.cut.clear();
    bench.pass(ms(12_000));
    assert_eq!(marked(&mut bench), 0);
}

#[test]
fn deletes_are_brought_first_and_purged_when_all_owners_have_found_themselves_equal() {
    let mut bench = comparing(3, ms(600_000));
    for id in [A, B, C] {
        bench.stop(id);
        bench.config(id).purge_slack = ms(4000);
        bench.start(id);
    }
    bench.pass(ms(2000));
    let unit = a_unit(&mut bench);
    let slot = (unit, TABLE, key("k"));
    let deleted = crate::types::Record { value: None, ..record(9) };
    for id in [A, B] {
        bench.host(id).disk.data.insert(slot.clone(), deleted.clone());
    }
    bench.host(C).disk.data.insert(slot.clone(), record(5));
    let mut seen = Vec::new();
    for _ in 0..400 {
        bench.pass(ms(100));
        let held = [A, B, C].map(|id| bench.host(id).disk.data.get(&slot).cloned());
        if seen.last() != Some(&held) {
            seen.push(held);
        }
    }
    assert_eq!(seen.last(), Some(&[None, None, None]), "{seen:?}");
    let all = [Some(deleted.clone()), Some(deleted.clone()), Some(deleted)];
    assert!(seen.contains(&all), "nothing is purged before all have it: {seen:?}");
}

#[test]
fn a_difference_that_is_called_equal_is_never_made_good() {
    let _armed = arm_mutant("skip-called-verified");
    let mut bench = comparing(3, ms(4000));
    differ(&mut bench);
    bench.pass(ms(9000));
    assert!(!are_equal(&mut bench), "the planted bug is one");
}

//! Purge floors among nodes whose owners have been compared by hand.

use core::time::Duration;

use super::bench::{Bench, MS, get, put};
use crate::message::{
    ClientBody, DiskAnswer, ErrorCode, Event, FloorDone, MetaRecord, PeerMessage, Reply, RoundId,
    WriteAsk,
};
use crate::node::floors::FloorPending;
use crate::testing::arm_mutant;
use crate::types::{Key, NodeId, Record, Stamp, Unit, Value, WallTime};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const ALL: [NodeId; 3] = [A, B, C];
const SLACK: Duration = Duration::from_secs(8);

fn delete(key: &str) -> ClientBody {
    let ClientBody::Put(mut put) = put(key, "") else { panic!("a put") };
    put.value = None;
    ClientBody::Put(put)
}

fn bench() -> Bench {
    let mut bench = Bench::new(3);
    for id in ALL {
        let config = bench.config(id);
        // Owners are compared by hand.
        (config.purge_slack, config.repair_interval) = (SLACK, Duration::ZERO);
        bench.start(id);
    }
    bench.settle();
    bench.pass(Duration::from_secs(1));
    bench
}

fn done(bench: &mut Bench, at: NodeId, body: ClientBody) -> Reply {
    let op = bench.ask(at, body);
    bench.reply(op).unwrap().unwrap()
}

/// Where the key stands, and what an owner holds of it.
fn unit(bench: &mut Bench) -> Unit {
    bench.host(A).disk.data.keys().next().expect("a key").0
}

fn held(bench: &mut Bench) -> Vec<Option<Record>> {
    ALL.map(|id| bench.host(id).disk.data.values().next().cloned()).into()
}

/// Each finds itself equal with each other.
fn compare(bench: &mut Bench, unit: Unit, pairs: &[(NodeId, NodeId)]) {
    for (id, peer) in pairs {
        let now = bench.now(*id);
        let node = bench.host(*id).node.as_mut().unwrap();
        let (horizon, voids) = (node.floor_gate(unit), node.floor_voids(unit));
        node.vouch(now, (unit, *peer), (horizon, voids));
        bench.event(*id, Event::Tick);
        bench.settle();
        bench.pass(Duration::from_millis(1));
    }
}

const PAIRS: [(NodeId, NodeId); 6] = [(A, B), (A, C), (B, A), (B, C), (C, A), (C, B)];

fn late(bench: &mut Bench, unit: Unit, stamp: Stamp, fresh: bool) -> WriteAsk {
    let state = bench.host(A).view.clone().unwrap().state.clone().unwrap();
    WriteAsk {
        round: RoundId { op: 77, round: 1 },
        unit,
        changed_at: state.changed_at(unit),
        table: state.tables[0].id,
        key: Key::new("k").unwrap(),
        record: Record { stamp, expiry: None, value: Value::new("late").ok() },
        rest: Vec::new(),
        fresh,
        hint_for: None,
        remaining: Duration::from_secs(1),
    }
}

/// A delete that is older than the slack: its unit, and the stamp of what it deleted.
fn deleted(bench: &mut Bench) -> (Unit, Stamp) {
    let Reply::Put(written) = done(bench, A, put("k", "v")) else { panic!() };
    done(bench, A, delete("k"));
    bench.pass(SLACK + SLACK);
    (unit(bench), written.receipt.stamp)
}

#[test]
fn a_delete_that_all_owners_have_is_purged_and_what_it_deleted_never_comes_back() {
    let mut bench = bench();
    let (unit, stamp) = deleted(&mut bench);
    assert!(held(&mut bench).iter().all(Option::is_some), "age alone purges nothing");
    compare(&mut bench, unit, &PAIRS);
    bench.pass(Duration::from_secs(6));
    assert_eq!(held(&mut bench), [None, None, None]);
    // A hint that has been away for long: it may be forgotten.
    let ask = late(&mut bench, unit, stamp, false);
    bench.event(C, Event::Peer { from: B, message: PeerMessage::Write(Box::new(ask)) });
    bench.settle();
    assert_eq!(held(&mut bench), [None, None, None]);
    let Reply::Get(found) = done(&mut bench, C, get("k", None)) else { panic!() };
    assert_eq!(found.record, None);
    done(&mut bench, C, put("k", "again"));
    assert!(held(&mut bench).iter().all(Option::is_some), "a new put is taken");
}

/// Of seed 700000000341: the floor rose while the disk purged by the one before.
fn a_floor_that_rises_meanwhile_is_purged_too() {
    let mut bench = bench();
    let (unit, _) = deleted(&mut bench);
    compare(&mut bench, unit, &PAIRS);
    bench.pass(Duration::from_secs(6));
    let now = bench.now(A);
    let node = bench.host(A).node.as_mut().unwrap();
    let (floor, _) = node.floors.of_source(unit);
    assert!(floor > Stamp::ZERO && node.floors.unpurged.is_empty());
    node.floors.unpurged.insert(unit);
    let answer = |more| Ok(DiskAnswer::Floor(FloorDone::Purged(0, more)));
    node.on_floor_disk_done(now, FloorPending::Purge(unit, Stamp::ZERO), answer(false));
    assert!(node.floors.unpurged.contains(&unit), "it is asked once more");
    bench.event(A, Event::Tick);
    bench.settle();
    let node = bench.host(A).node.as_mut().unwrap();
    assert!(node.floors.unpurged.is_empty());
}

#[test]
fn what_is_purged_is_purged_by_the_newest_floor() {
    a_floor_that_rises_meanwhile_is_purged_too();
    let _planted = arm_mutant("raise-unpurged");
    assert!(std::panic::catch_unwind(a_floor_that_rises_meanwhile_is_purged_too).is_err());
}

#[test]
fn one_pair_that_was_not_compared_holds_the_floor_back() {
    let mut bench = bench();
    let (unit, _) = deleted(&mut bench);
    compare(&mut bench, unit, &PAIRS[..5]);
    bench.pass(Duration::from_secs(10));
    assert!(held(&mut bench).iter().all(Option::is_some));
    compare(&mut bench, unit, &PAIRS[5..]);
    bench.pass(Duration::from_secs(6));
    assert_eq!(held(&mut bench), [None, None, None]);
}

#[test]
fn an_owner_that_is_away_holds_it_back_and_what_was_agreed_survives_a_restart() {
    let mut bench = bench();
    let (unit, _) = deleted(&mut bench);
    bench.cut.extend([(A, C), (C, A), (B, C), (C, B)]);
    compare(&mut bench, unit, &PAIRS);
    bench.pass(Duration::from_secs(10));
    assert!(held(&mut bench).iter().all(Option::is_some), "nobody has heard of C");
    for id in [A, B] {
        bench.stop(id);
        bench.start(id);
    }
    bench.cut.clear();
    bench.pass(Duration::from_secs(20));
    assert_eq!(held(&mut bench), [None, None, None]);
    assert!(ALL.iter().all(|id| bench.host(*id).disk.floors[&unit].record.floor > Stamp::ZERO));
}

#[test]
fn what_is_late_is_refused_behind_a_gate_and_not_acknowledged() {
    let taken = |mutant: bool| {
        let _armed = mutant.then(|| arm_mutant("gate-open"));
        let mut bench = bench();
        let (unit, stamp) = deleted(&mut bench);
        let gate = bench.host(C).node.as_ref().unwrap().floor_gate(unit);
        assert!(gate > stamp, "there is a delete to purge");
        // C has lost the key, as if it had never had it.
        bench.host(C).disk.data.clear();
        let ask = late(&mut bench, unit, stamp, false);
        let message = PeerMessage::Write(Box::new(ask));
        bench.event(C, Event::Peer { from: B, message });
        bench.settle();
        !bench.host(C).disk.data.is_empty()
    };
    assert!(!taken(false));
    assert!(taken(true));
}

#[test]
fn a_new_put_of_a_clock_that_is_behind_is_stamped_above_the_gate() {
    let mut bench = bench();
    let (_, stamp) = deleted(&mut bench);
    for id in ALL {
        bench.host(id).disk.data.clear();
    }
    // Its clock of record is far behind the gates of the others.
    bench.host(A).wall_offset_ms = -3_600_000;
    let op = bench.ask(A, put("k", "new"));
    bench.pass(Duration::from_millis(1500));
    if let Ok(Reply::Put(written)) = bench.reply(op).unwrap() {
        assert!(written.receipt.stamp > stamp);
        assert!(held(&mut bench)[1].is_some(), "what was acknowledged is there");
    }
}

#[test]
fn a_time_that_a_client_gave_and_nobody_takes_any_more_is_an_error() {
    let mut bench = bench();
    let (_, stamp) = deleted(&mut bench);
    for id in ALL {
        bench.host(id).disk.data.clear();
    }
    let ClientBody::Put(mut old) = put("k", "old") else { panic!() };
    (old.time, old.attempt.id) = (Some(WallTime(stamp.time.0 - MS)), crate::types::RequestId(7));
    let op = bench.ask(A, ClientBody::Put(old));
    bench.pass(Duration::from_millis(1100));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::TimeTooOld, "{error}");
    assert!(!error.code.is_retryable());
    assert_eq!(held(&mut bench), [None, None, None]);
}

#[test]
fn custody_takes_nothing_at_or_below_what_it_has_told() {
    let taken = |mutant: bool| {
        let _armed = mutant.then(|| arm_mutant("custody-after-told"));
        let mut bench = bench();
        bench.pass(SLACK + SLACK);
        let told = bench.host(B).node.as_ref().unwrap().floors.custody_clear();
        assert!(told > Stamp::ZERO, "nothing is in custody");
        let bar = bench.host(B).disk.meta.iter().rev().find_map(|record| match record {
            MetaRecord::Custody(bar) => Some(*bar),
            _ => None,
        });
        assert!(bar.is_some_and(|bar| bar >= told), "durable before it is told");
        let node = bench.host(B).node.as_ref().unwrap();
        let before = Stamp { time: WallTime(told.time.0 - MS), ..told };
        let after = Stamp { time: WallTime(told.time.0 + 3_600_000 * MS), ..told };
        assert_eq!(node.floors.custody_refuses(after), None);
        node.floors.custody_refuses(before).is_none()
    };
    assert!(!taken(false));
    assert!(taken(true));
}

#[test]
fn a_source_tells_its_floor_and_up_to_where_it_has_agreed() {
    let told = |mutant: bool| {
        let _armed = mutant.then(|| arm_mutant("floor-not-carried"));
        let mut bench = bench();
        let (unit, _) = deleted(&mut bench);
        compare(&mut bench, unit, &PAIRS);
        bench.pass(Duration::from_secs(6));
        let (floor, agreed) = bench.host(A).node.as_ref().unwrap().floors.of_source(unit);
        assert!(agreed >= floor);
        floor > Stamp::ZERO
    };
    assert!(told(false));
    assert!(!told(true));
}

#[test]
fn what_is_in_custody_keeps_gates_open_where_writes_may_be_sloppy() {
    let closed = |mutant: bool| {
        let _armed = mutant.then(|| arm_mutant("custody-ignored"));
        let mut bench = bench();
        // C cannot say whether it holds anything.
        bench.cut.extend([(A, C), (C, A), (B, C), (C, B)]);
        for id in [A, B] {
            bench.stop(id);
            bench.start(id);
        }
        bench.pass(Duration::from_secs(1));
        let op = bench.ask(A, put("k", "v"));
        bench.settle();
        assert!(bench.reply(op).unwrap().is_ok());
        done(&mut bench, A, delete("k"));
        bench.pass(SLACK + SLACK);
        let unit = unit(&mut bench);
        bench.host(A).node.as_ref().unwrap().floor_gate(unit) > Stamp::ZERO
    };
    assert!(!closed(false));
    assert!(closed(true));
}

//! Sloppy quorums and hinted handoff, situation by situation.

use core::time::Duration;
use std::sync::Arc;

use super::bench::{Bench, get, put};
use crate::message::{
    AdminRequest, ClientBody, ErrorCode, Event, HintRequest, Kept, Locate, OpError, PeerMessage,
    QuorumMode, Receipt, Reply, TableAlteration, TableChange, TableRequest,
};
use crate::testing::arm_mutant;
use crate::types::{
    ClusterState, Epoch, Key, NodeId, Plan, PlanStatus, Quorum, RequestId, Role, Sloppy,
};

/// Five nodes and a key: three own it, two may stand in.
struct Five {
    bench: Bench,
    owners: Vec<NodeId>,
    stand_ins: Vec<NodeId>,
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn sloppy(body: ClientBody) -> ClientBody {
    match body {
        ClientBody::Get(get) => {
            ClientBody::Get(crate::message::Get { mode: QuorumMode::Sloppy, ..get })
        }
        ClientBody::Put(put) => {
            ClientBody::Put(crate::message::Put { mode: QuorumMode::Sloppy, ..put })
        }
        other => other,
    }
}

fn wide(body: ClientBody) -> ClientBody {
    let ClientBody::Put(put) = body else { unreachable!() };
    ClientBody::Put(crate::message::Put { w: Some(Quorum::All), ..put })
}

impl Five {
    fn new() -> Five {
        Five::with(|_| {})
    }

    fn with(change: impl Fn(&mut crate::node::NodeConfig)) -> Five {
        let mut bench = Bench::new(5);
        for id in (1..=5).map(NodeId) {
            change(bench.config(id));
            bench.start(id);
        }
        bench.pass(ms(2500));
        let (table, key) = ("default".to_owned().try_into().unwrap(), Key::new("k").unwrap());
        let ask = AdminRequest::Locate(Locate { table, key });
        let Ok(Reply::Locate(place)) = bench.admin(NodeId(1), ask) else { panic!() };
        let ids = |names: Vec<crate::types::NodeName>| {
            names.iter().map(|name| NodeId(name.as_str()[1..].parse().unwrap())).collect()
        };
        Five { bench, owners: ids(place.owners), stand_ins: ids(place.stand_ins) }
    }

    fn a(&self) -> NodeId {
        self.owners[0]
    }

    fn b(&self) -> NodeId {
        self.owners[1]
    }

    fn d(&self) -> NodeId {
        self.stand_ins[0]
    }

    /// The node stops, and all others notice.
    fn down(&mut self, id: NodeId) {
        self.bench.stop(id);
        for other in (1..=5).map(NodeId).filter(|other| *other != id) {
            self.bench.event(other, Event::Unreachable { peer: id });
        }
        self.bench.settle();
    }

    fn write(&mut self, body: ClientBody) -> Result<Receipt, OpError> {
        let op = self.bench.ask(self.a(), body);
        match self.bench.reply(op).expect("answered at once") {
            Ok(Reply::Put(reply)) => Ok(reply.receipt),
            Ok(_) => panic!(),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self, at: NodeId, body: ClientBody) -> (bool, Receipt) {
        let op = self.bench.ask(at, body);
        let Some(Ok(Reply::Get(reply))) = self.bench.reply(op) else { panic!() };
        (reply.record.is_some(), reply.receipt)
    }

    fn hints(&mut self, at: NodeId) -> usize {
        self.bench.host(at).disk.hints.len()
    }

    /// The stamp under which `at` holds the key.
    fn held(&mut self, at: NodeId) -> Option<crate::types::Stamp> {
        let disk = &self.bench.host(at).disk;
        disk.data.values().next().map(|record| record.stamp)
    }
}

#[test]
fn a_stand_in_takes_a_sloppy_write_and_hands_it_back() {
    let mut five = Five::new();
    let (b, d) = (five.b(), five.d());
    five.down(b);
    let receipt = five.write(sloppy(wide(put("k", "v")))).unwrap();
    assert_eq!((receipt.answered, receipt.stand_ins, receipt.needed), (0b111, 0b010, 3));
    assert_eq!(five.hints(d), 1);
    let hint = five.bench.host(d).disk.hints.values().next().cloned().unwrap();
    assert!(hint.custody);
    let Kept::Version(version) = hint.kept else { panic!() };
    assert_eq!(version.stamp, receipt.stamp);
    five.bench.pass(ms(1000));
    assert_eq!(five.hints(d), 1, "it waits for its target");
    five.bench.start(b);
    five.bench.pass(ms(6000));
    assert_eq!(five.held(b), Some(receipt.stamp));
    assert_eq!(five.hints(d), 0);
    let holds = five.bench.host(d).disk.data.len();
    assert_eq!(holds, 0, "a stand-in keeps no copy of its own");
}

#[test]
fn of_two_owners_that_are_down_each_has_a_stand_in_of_its_own() {
    let mut five = Five::new();
    let (b, c) = (five.b(), five.owners[2]);
    five.down(b);
    five.down(c);
    let error = five.write(put("k", "v")).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuorumNotReached);
    assert!(error.message.starts_with("needed 2, got 1"), "{}", error.message);
    let receipt = five.write(sloppy(wide(put("k", "v")))).unwrap();
    assert_eq!((receipt.answered, receipt.stand_ins), (0b111, 0b110));
    let stand_ins = five.stand_ins.clone();
    assert_eq!(stand_ins.iter().map(|id| five.hints(*id)).collect::<Vec<_>>(), [1, 1]);
    five.bench.start(b);
    five.bench.start(c);
    five.bench.pass(ms(8000));
    for owner in [b, c] {
        assert_eq!(five.held(owner), Some(receipt.stamp));
    }
    assert_eq!(stand_ins.iter().map(|id| five.hints(*id)).sum::<usize>(), 0);
}

/// Whether a strict write to all owners succeeds though one is down.
fn strict_write_succeeds() -> bool {
    let mut five = Five::new();
    let b = five.b();
    five.down(b);
    five.write(wide(put("k", "v"))).is_ok()
}

#[test]
fn a_stand_in_does_not_count_in_a_strict_write() {
    assert!(!strict_write_succeeds());
    let _armed = arm_mutant("stand-in-counts-in-strict");
    assert!(strict_write_succeeds());
}

/// Whether a write is acknowledged before its hint is durable.
fn hint_counts_early() -> bool {
    let mut five = Five::new();
    let (a, b, d) = (five.a(), five.b(), five.d());
    five.down(b);
    five.bench.host(d).slow_disk = true;
    let op = five.bench.ask(a, sloppy(wide(put("k", "v"))));
    let early = five.bench.reply(op).is_some();
    five.bench.release_disk(d);
    five.bench.settle();
    assert!(early || five.bench.reply(op).unwrap().is_ok());
    early
}

#[test]
fn a_hint_counts_only_once_it_is_durable() {
    assert!(!hint_counts_early());
    let _armed = arm_mutant("hint-ack-before-durable");
    assert!(hint_counts_early());
}

/// Whether a hint is gone from its holder while the target has yet to make it durable.
fn hint_goes_early() -> bool {
    let mut five = Five::new();
    let (b, d) = (five.b(), five.d());
    five.down(b);
    let receipt = five.write(sloppy(wide(put("k", "v")))).unwrap();
    five.bench.host(b).slow_writes = true;
    five.bench.start(b);
    five.bench.pass(ms(3000));
    if five.hints(d) == 0 {
        return true;
    }
    assert!(five.bench.host(b).waiting_writes() > 0, "it has been sent");
    five.bench.release_disk(b);
    five.bench.pass(ms(6000));
    assert_eq!((five.hints(d), five.held(b)), (0, Some(receipt.stamp)));
    false
}

#[test]
fn a_hint_goes_only_when_its_target_holds_it() {
    assert!(!hint_goes_early());
    let _armed = arm_mutant("hint-removed-before-ack");
    assert!(hint_goes_early());
}

/// Whether what comes home has the stamp it was acknowledged with.
fn stamp_is_kept() -> bool {
    let mut five = Five::new();
    let b = five.b();
    five.down(b);
    let receipt = five.write(sloppy(wide(put("k", "v")))).unwrap();
    five.bench.start(b);
    five.bench.pass(ms(6000));
    five.held(b) == Some(receipt.stamp)
}

#[test]
fn replay_keeps_the_stamp() {
    assert!(stamp_is_kept());
    let _armed = arm_mutant("replay-stamps-anew");
    assert!(!stamp_is_kept());
}

/// Whether a hint comes home after its first delivery was refused.
fn comes_home_after_a_failure() -> bool {
    let mut five = Five::new();
    let (b, d) = (five.b(), five.d());
    five.down(b);
    five.write(sloppy(wide(put("k", "v")))).unwrap();
    five.bench.start(b);
    // What the holder sends is lost until it has given up once.
    five.bench.cut.insert((d, b));
    five.bench.pass(ms(3000));
    five.bench.cut.clear();
    five.bench.pass(ms(9000));
    five.hints(d) == 0
}

#[test]
fn a_failed_delivery_is_tried_again() {
    assert!(comes_home_after_a_failure());
    let _armed = arm_mutant("replay-stops-at-failure");
    assert!(!comes_home_after_a_failure());
}

#[test]
fn hints_of_the_boot_before_are_handed_back() {
    let mut five = Five::new();
    let (b, d) = (five.b(), five.d());
    five.down(b);
    five.write(sloppy(wide(put("k", "v")))).unwrap();
    five.down(d);
    five.bench.start(b);
    five.bench.pass(ms(3000));
    assert_eq!(five.held(b), None);
    five.bench.start(d);
    five.bench.pass(ms(6000));
    assert_eq!(five.hints(d), 0);
    assert!(five.held(b).is_some());
}

/// The state in force, with another member in the place of `away` everywhere.
fn replaced(state: &ClusterState, away: NodeId, by: NodeId) -> Arc<ClusterState> {
    let mut state = state.clone();
    state.epoch = Epoch(state.epoch.0 + 1);
    for class in &mut state.classes {
        for (owners, changed_at) in class.owners.iter_mut().zip(&mut class.changed_at) {
            if let Some(owner) = owners.iter_mut().find(|owner| **owner == away) {
                *owner = by;
                *changed_at = state.epoch;
            }
        }
    }
    Arc::new(state)
}

/// The state in force, with a member on its way out by a plan whose moves are done.
fn leaving(state: &ClusterState, who: NodeId) -> Arc<ClusterState> {
    let mut state = state.clone();
    state.epoch = Epoch(state.epoch.0 + 1);
    let leaves = state.members.iter_mut().find(|member| member.id == who);
    leaves.unwrap().role = Role::Leaving;
    state.topology.plan = Some(Plan {
        hash: 1,
        since: Epoch(1),
        status: PlanStatus::Paused,
        ring: state.ring.clone(),
        total: 0,
        queue: Vec::new(),
        begun: Vec::new(),
        before: Vec::new(),
        ring_before: state.ring.clone(),
    });
    Arc::new(state)
}

/// Whether custody of one that leaves has gone to the owners that are left, while its target stays down.
fn custody_is_passed_on() -> bool {
    let mut five = Five::new();
    let (a, b, c, d) = (five.a(), five.b(), five.owners[2], five.d());
    five.down(b);
    five.down(c);
    // At the third owner, and at two stand-ins.
    let receipt = five.write(sloppy(wide(put("k", "v")))).unwrap();
    assert_eq!((five.hints(d), five.hints(five.stand_ins[1])), (1, 1));
    let of_d = five.bench.host(d).disk.hints.keys().next().unwrap().0;
    let (lost, other) = if of_d == b { (b, c) } else { (c, b) };
    let state = five.bench.host(a).view.clone().unwrap().state.clone().unwrap();
    let state = leaving(&state, d);
    for id in (1..=5).map(NodeId).filter(|id| ![b, c].contains(id)) {
        let message = PeerMessage::StateNews(state.clone());
        five.bench.event(id, Event::Peer { from: a, message: message.clone() });
        five.bench.event(id, Event::Peer { from: d, message });
    }
    five.bench.pass(ms(80_000));
    assert_eq!(five.hints(d), 1, "one owner is less than a write needs");
    five.bench.start(other);
    five.bench.pass(ms(10_000));
    let passed = five.hints(d) == 0;
    assert!(!passed || five.held(other) == Some(receipt.stamp));
    assert!(!passed || five.held(a) == Some(receipt.stamp));
    assert_eq!(five.held(lost), None);
    passed
}

#[test]
fn who_leaves_passes_what_it_keeps_for_a_lost_owner_to_the_others() {
    assert!(custody_is_passed_on());
    let _armed = arm_mutant("custody-waits-for-the-lost");
    assert!(!custody_is_passed_on());
}

/// Whether one that knows that it leaves is passed over as a stand-in, by a coordinator that has yet to hear of it.
fn leaver_takes_no_custody() -> bool {
    let mut five = Five::new();
    let (a, b, d, e) = (five.a(), five.b(), five.d(), five.stand_ins[1]);
    five.down(b);
    let state = five.bench.host(a).view.clone().unwrap().state.clone().unwrap();
    let message = PeerMessage::StateNews(leaving(&state, d));
    five.bench.event(d, Event::Peer { from: b, message });
    five.write(sloppy(wide(put("k", "v")))).unwrap();
    assert_eq!(five.hints(d) + five.hints(e), 1);
    five.hints(d) == 0
}

#[test]
fn who_leaves_takes_nothing_more_into_custody() {
    assert!(leaver_takes_no_custody());
    let _armed = arm_mutant("leaver-takes-custody");
    assert!(!leaver_takes_no_custody());
}

/// Whether a hint reaches the owner that has taken the place of its target, which stays down.
fn hint_is_rerouted() -> bool {
    let mut five = Five::new();
    let (a, b, d, e) = (five.a(), five.b(), five.d(), five.stand_ins[1]);
    five.down(b);
    let receipt = five.write(sloppy(wide(put("k", "v")))).unwrap();
    let state = five.bench.host(a).view.clone().unwrap().state.clone().unwrap();
    let state = replaced(&state, b, e);
    for id in (1..=5).map(NodeId).filter(|id| *id != b) {
        let message = PeerMessage::StateNews(state.clone());
        five.bench.event(id, Event::Peer { from: a, message: message.clone() });
        five.bench.event(id, Event::Peer { from: d, message });
    }
    five.bench.pass(ms(6000));
    let home = five.held(e) == Some(receipt.stamp);
    assert_eq!(five.hints(d) == 0, home);
    home
}

#[test]
fn a_hint_goes_to_the_owners_there_are_when_its_target_owns_the_unit_no_more() {
    assert!(hint_is_rerouted());
    let _armed = arm_mutant("hint-not-rerouted");
    assert!(!hint_is_rerouted());
}

/// Whether a read that counts an owner which is only just back says that it may miss something.
fn returning_owner_is_told() -> bool {
    let mut five = Five::new();
    let (a, b, d) = (five.a(), five.b(), five.d());
    let (c, e) = (five.owners[2], five.stand_ins[1]);
    five.down(b);
    five.write(sloppy(wide(put("k", "v")))).unwrap();
    five.bench.cut.insert((d, b));
    five.bench.start(b);
    five.bench.pass(ms(4000));
    assert_eq!(five.hints(d), 1, "it cannot be handed back");
    let (found, receipt) = five.read(e, get("k", None));
    assert!(found);
    let others = receipt.answered == 0b101 && !receipt.may_miss;
    five.down(c);
    let (_, receipt) = five.read(a, get("k", None));
    assert_eq!(receipt.answered, 0b011, "it counts when nobody else can");
    others && receipt.may_miss
}

#[test]
fn a_returning_owner_counts_only_when_no_other_can_and_is_told() {
    assert!(returning_owner_is_told());
    let _armed = arm_mutant("returning-owner-counts");
    assert!(!returning_owner_is_told());
}

#[test]
fn a_sloppy_read_finds_what_stand_ins_hold_and_says_that_it_may_miss_more() {
    let mut five = Five::new();
    let (a, b, c, d) = (five.a(), five.b(), five.owners[2], five.d());
    five.down(b);
    five.write(sloppy(wide(put("k", "v")))).unwrap();
    let (found, receipt) = five.read(a, sloppy(get("k", None)));
    assert!(found && !receipt.may_miss, "two owners have it: {receipt:?}");
    five.down(c);
    five.down(a);
    let (found, receipt) = five.read(d, sloppy(get("k", Some(Quorum::Count(2)))));
    assert!(found && receipt.may_miss, "{receipt:?}");
    assert_eq!(receipt.stand_ins.count_ones(), 2);
}

#[test]
fn custody_without_room_is_refused_and_a_plain_hint_without_room_leaves_a_dirty_mark() {
    let mut five = Five::with(|config| config.hint_bytes_max = 1);
    let (a, b) = (five.a(), five.b());
    five.down(b);
    let error = five.write(sloppy(wide(put("k", "v")))).unwrap_err();
    assert_eq!(error.code, ErrorCode::Overloaded);
    assert!(error.facts.retry_after.is_some());
    five.write(put("k", "v")).unwrap();
    five.bench.pass(ms(1200));
    let node = five.bench.host(a).node.as_ref().unwrap();
    assert_eq!((node.gauges().hints.held.count, node.gauges().hints.dirty), (0, 1));
    five.down(a);
    five.bench.start(a);
    let node = five.bench.host(a).node.as_ref().unwrap();
    assert_eq!(node.gauges().hints.dirty, 1, "the mark is durable");
}

#[test]
fn the_coordinator_keeps_a_plain_hint_of_what_an_owner_missed() {
    let mut bench = Bench::serving(3);
    let (a, b) = (NodeId(1), NodeId(2));
    bench.stop(b);
    bench.event(a, Event::Unreachable { peer: b });
    let op = bench.ask(a, put("k", "v"));
    assert!(bench.reply(op).unwrap().is_ok());
    bench.pass(ms(1200));
    let hints: Vec<bool> = bench.host(a).disk.hints.values().map(|hint| hint.custody).collect();
    assert_eq!(hints, [false]);
    bench.start(b);
    bench.pass(ms(6000));
    assert!(bench.host(a).disk.hints.is_empty());
    assert_eq!(bench.host(b).disk.data.len(), 1);
}

#[test]
fn a_plain_hint_that_is_too_old_is_given_up_and_custody_is_not() {
    let mut five = Five::with(|config| config.hint_age_max = ms(3000));
    let (a, b, d) = (five.a(), five.b(), five.d());
    five.down(b);
    five.write(put("k", "v")).unwrap();
    five.write(sloppy(wide(put("k", "w")))).unwrap();
    five.bench.pass(ms(1500));
    assert_eq!((five.hints(a), five.hints(d)), (1, 1));
    five.bench.pass(ms(9000));
    assert_eq!((five.hints(a), five.hints(d)), (0, 1));
    let node = five.bench.host(a).node.as_ref().unwrap();
    assert_eq!((node.gauges().hints.dirty, node.gauges().hints.dropped), (1, 1));
}

#[test]
fn an_operator_drops_hints_and_is_told_what_is_lost() {
    let mut five = Five::new();
    let (b, d) = (five.b(), five.d());
    five.down(b);
    five.write(sloppy(wide(put("k", "v")))).unwrap();
    let name: crate::types::NodeName = format!("n{b}").parse().unwrap();
    let listed = five.bench.admin(d, AdminRequest::Hints(HintRequest::List));
    let Ok(Reply::Hints(listed)) = listed else { panic!() };
    assert_eq!(listed.lines.len(), 1);
    assert_eq!(
        (listed.lines[0].target.as_str(), listed.lines[0].totals.custody),
        (name.as_str(), 1)
    );
    let dropped = five.bench.admin(d, AdminRequest::Hints(HintRequest::Drop(name)));
    let Ok(Reply::Hints(dropped)) = dropped else { panic!() };
    assert_eq!((dropped.touched.custody, dropped.dirty_count), (1, 1));
    assert!(dropped.lines.is_empty());
    assert_eq!(five.hints(d), 0);
    let nobody = AdminRequest::Hints(HintRequest::Drop("nobody".parse().unwrap()));
    let error = five.bench.admin(d, nobody).unwrap_err();
    assert_eq!(error.code, ErrorCode::RequestMalformed);
}

#[test]
fn a_table_says_who_may_count() {
    let mut five = Five::new();
    let (a, b) = (five.a(), five.b());
    let alter = |five: &mut Five, sloppy: Sloppy, id| {
        let change = TableChange::Alter(TableAlteration {
            name: "default".to_owned().try_into().unwrap(),
            r: None,
            w: None,
            sloppy: Some(sloppy),
            ttl: None,
            value_bytes_max: None,
        });
        let request = TableRequest::Change { id: RequestId(id), change };
        five.bench.begin_admin(a, AdminRequest::Table(Box::new(request)));
        five.bench.pass(ms(500));
    };
    alter(&mut five, Sloppy::Always, 1);
    five.down(b);
    let receipt = five.write(wide(put("k", "v"))).unwrap();
    assert_eq!(receipt.stand_ins, 0b010);
    let ClientBody::Put(strict) = wide(put("k", "v")) else { panic!() };
    let strict = crate::message::Put { mode: QuorumMode::Strict, ..strict };
    let error = five.write(ClientBody::Put(strict)).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuorumNotReached);
    alter(&mut five, Sloppy::Never, 2);
    let error = five.write(sloppy(put("k", "v"))).unwrap_err();
    assert_eq!(
        (error.code, error.applied),
        (ErrorCode::SloppyNotAllowed, crate::message::Applied::No)
    );
    let op = five.bench.ask(a, sloppy(get("k", None)));
    let error = five.bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::SloppyNotAllowed);
}

#[test]
fn hints_of_a_dropped_table_are_swept() {
    let mut five = Five::new();
    let (a, b, d) = (five.a(), five.b(), five.d());
    five.down(b);
    five.write(sloppy(wide(put("k", "v")))).unwrap();
    let change = TableChange::Drop("default".to_owned().try_into().unwrap());
    let request = TableRequest::Change { id: RequestId(9), change };
    five.bench.begin_admin(a, AdminRequest::Table(Box::new(request)));
    five.bench.pass(ms(4000));
    assert_eq!(five.hints(d), 0);
    let node = five.bench.host(d).node.as_ref().unwrap();
    assert_eq!(node.gauges().hints.held.count, 0);
}

//! Causal tables while owners are away: stand-ins keep what is written, coordinate when nobody else
//! can, answer reads, and give everything back.

use core::time::Duration;

use super::bench::{Bench, get_in, put_in};
use super::causal::carts;
use crate::message::{
    AdminRequest, CausalReply, ClientBody, ErrorCode, Event, Get, Kept, Locate, OpError, Put,
    QuorumMode, Reply,
};
use crate::testing::arm_mutant;
use crate::types::{Key, NodeId, Quorum, Value};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Five nodes, the causal table `carts`, and a key: three own it, two may stand in.
struct Five {
    bench: Bench,
    owners: Vec<NodeId>,
    stand_ins: Vec<NodeId>,
}

impl Five {
    fn new() -> Five {
        let mut bench = carts(5);
        let (table, key) = ("carts".to_owned().try_into().unwrap(), Key::new("k").unwrap());
        let ask = AdminRequest::Locate(Locate { table, key });
        let Ok(Reply::Locate(place)) = bench.admin(NodeId(1), ask) else { panic!() };
        let ids = |names: Vec<crate::types::NodeName>| {
            names.iter().map(|name| NodeId(name.as_str()[1..].parse().unwrap())).collect()
        };
        Five { bench, owners: ids(place.owners), stand_ins: ids(place.stand_ins) }
    }

    /// The node stops, and all others notice.
    fn down(&mut self, id: NodeId) {
        self.bench.stop(id);
        for other in (1..=5).map(NodeId).filter(|other| *other != id) {
            self.bench.event(other, Event::Unreachable { peer: id });
        }
        self.bench.settle();
    }

    fn all_owners_down(&mut self) {
        for owner in self.owners.clone() {
            self.down(owner);
        }
    }

    fn all_owners_up(&mut self) {
        for owner in self.owners.clone() {
            self.bench.start(owner);
        }
        self.bench.pass(ms(8000));
    }

    fn ask(&mut self, at: NodeId, body: ClientBody) -> Result<CausalReply, OpError> {
        let op = self.bench.ask(at, body);
        self.bench.settle();
        match self.bench.reply(op).expect("answered at once") {
            Ok(Reply::Causal(reply)) => Ok(*reply),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    }

    fn hints(&mut self, at: NodeId) -> usize {
        self.bench.host(at).disk.hints.len()
    }

    /// The values that a node holds in its own copy.
    fn held(&mut self, at: NodeId) -> Vec<String> {
        let disk = &self.bench.host(at).disk;
        let sets = disk.sets.values().flat_map(|set| set.writes());
        let mut values: Vec<String> = sets
            .map(|(_, write)| match &write.payload {
                crate::causality::Payload::Here(value) => text(value),
                crate::causality::Payload::Part(part) => part.total.to_string(),
                crate::causality::Payload::Away(_) => panic!("away"),
            })
            .collect();
        values.sort();
        values
    }
}

fn text(value: &Value) -> String {
    value.as_bytes().escape_ascii().to_string()
}

fn values(reply: &CausalReply) -> Vec<String> {
    let mut values: Vec<String> = reply.siblings.iter().map(|s| text(&s.value)).collect();
    values.sort();
    values
}

fn put(value: &str, context: &bytes::Bytes) -> ClientBody {
    let ClientBody::Put(put) = put_in("carts", "k", value) else { unreachable!() };
    ClientBody::Put(Put { context: context.clone(), ..put })
}

fn blind(value: &str) -> ClientBody {
    put(value, &bytes::Bytes::new())
}

fn get() -> ClientBody {
    get_in("carts", "k")
}

fn sloppy(body: ClientBody) -> ClientBody {
    match body {
        ClientBody::Get(get) => ClientBody::Get(Get { mode: QuorumMode::Sloppy, ..get }),
        ClientBody::Put(put) => ClientBody::Put(Put { mode: QuorumMode::Sloppy, ..put }),
        other => other,
    }
}

fn wide(body: ClientBody) -> ClientBody {
    match body {
        ClientBody::Get(get) => ClientBody::Get(Get { r: Some(Quorum::All), ..get }),
        ClientBody::Put(put) => ClientBody::Put(Put { w: Some(Quorum::All), ..put }),
        other => other,
    }
}

#[test]
fn a_stand_in_keeps_the_part_of_an_owner_that_coordinates_and_hands_it_back() {
    let mut five = Five::new();
    let (a, b, d) = (five.owners[0], five.owners[1], five.stand_ins[0]);
    five.down(b);
    let error = five.ask(a, wide(blind("v"))).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuorumNotReached);
    let reply = five.ask(a, sloppy(wide(blind("v")))).unwrap();
    assert_eq!((reply.receipt.answered, reply.receipt.stand_ins), (0b111, 0b010));
    let hint = five.bench.host(d).disk.hints.values().next().cloned().expect("in custody");
    assert!(hint.custody && matches!(hint.kept, Kept::Siblings(_)));
    assert_eq!(five.bench.host(d).disk.sets.len(), 0, "a stand-in keeps no copy of its own");
    five.bench.start(b);
    five.bench.pass(ms(6000));
    assert_eq!((five.hints(d), five.held(b)), (0, vec!["v".to_owned()]));
}

#[test]
fn an_owner_that_missed_a_strict_put_gets_a_hint_of_its_coordinator() {
    let mut five = Five::new();
    let (a, b) = (five.owners[0], five.owners[1]);
    five.down(b);
    five.ask(a, blind("v")).unwrap();
    let hint = five.bench.host(a).disk.hints.values().next().cloned().expect("a plain hint");
    assert!(!hint.custody);
    five.bench.start(b);
    five.bench.pass(ms(6000));
    assert_eq!((five.hints(a), five.held(b)), (0, vec!["v".to_owned()]));
}

#[test]
fn with_all_owners_down_stand_ins_take_puts_and_reads_and_everything_comes_home() {
    let mut five = Five::new();
    let (d, e) = (five.stand_ins[0], five.stand_ins[1]);
    let before = five.ask(d, blind("before")).unwrap();
    five.all_owners_down();
    let error = five.ask(e, blind("never")).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuorumNotReached);
    // Whoever is asked, the first of the walk coordinates.
    let one = five.ask(e, sloppy(blind("one"))).unwrap();
    assert_eq!((one.receipt.stand_ins.count_ones(), one.count), (2, 1));
    let two = five.ask(d, sloppy(put("two", &before.context))).unwrap();
    assert_eq!(two.count, 2, "it stands beside the first");
    let read = five.ask(e, sloppy(get())).unwrap();
    assert_eq!(values(&read), ["one", "two"]);
    assert!(read.receipt.may_miss);
    // A write that saw both takes their place.
    let both = five.ask(e, sloppy(put("both", &read.context))).unwrap();
    assert_eq!(
        (both.count, values(&five.ask(d, sloppy(get())).unwrap())),
        (1, vec!["both".into()])
    );
    five.all_owners_up();
    assert_eq!((five.hints(d), five.hints(e)), (0, 0));
    // What `two` saw is gone as well.
    let read = five.ask(d, wide(get())).unwrap();
    assert_eq!(values(&read), ["both"]);
    five.bench.settle();
    for owner in five.owners.clone() {
        assert_eq!(five.held(owner), ["both"]);
    }
}

#[test]
fn a_delete_without_a_context_removes_what_stand_ins_keep() {
    let mut five = Five::new();
    let (d, e) = (five.stand_ins[0], five.stand_ins[1]);
    five.all_owners_down();
    five.ask(d, sloppy(blind("one"))).unwrap();
    let ClientBody::Put(delete) = sloppy(blind("")) else { unreachable!() };
    let reply = five.ask(e, ClientBody::Put(Put { value: None, ..delete })).unwrap();
    assert_eq!((reply.count, reply.receipt.stand_ins.count_ones()), (0, 2));
    assert!(values(&five.ask(d, sloppy(get())).unwrap()).is_empty());
    five.all_owners_up();
    assert!(values(&five.ask(d, wide(get())).unwrap()).is_empty());
}

/// What the owners hold of two puts of one stand-in, whose first record of custody has gone home
/// before the second was made.
fn of_two_outages() -> Vec<String> {
    let mut five = Five::new();
    let d = five.stand_ins[0];
    for value in ["first", "second"] {
        five.all_owners_down();
        five.ask(d, sloppy(blind(value))).unwrap();
        five.all_owners_up();
        assert_eq!(five.hints(d), 0);
    }
    values(&five.ask(d, wide(get())).unwrap())
}

#[test]
fn what_a_stand_in_wrote_before_its_record_went_home_stays() {
    assert_eq!(of_two_outages(), ["first", "second"]);
    let _armed = arm_mutant("stand-in-reuses-tenure");
    assert_eq!(of_two_outages(), ["second"]);
}

/// Whether a put is acknowledged though no stand-in's disk holds it.
fn acknowledged_before_durable() -> bool {
    let mut five = Five::new();
    let (a, b, d) = (five.owners[0], five.owners[1], five.stand_ins[0]);
    five.down(b);
    five.bench.host(d).slow_disk = true;
    let op = five.bench.ask(a, sloppy(wide(blind("v"))));
    let early = five.bench.reply(op).is_some();
    if !early {
        five.bench.release_disk(d);
        five.bench.settle();
        assert!(five.bench.reply(op).expect("now it is").is_ok());
    }
    early
}

#[test]
fn a_seat_counts_when_its_custody_is_durable() {
    assert!(!acknowledged_before_durable());
    let _armed = arm_mutant("causal-custody-before-durable");
    assert!(acknowledged_before_durable());
}

/// Whether a put that a stand-in coordinates is told before its own disk holds it.
#[test]
fn a_stand_in_that_coordinates_writes_on_its_own_disk_first() {
    let mut five = Five::new();
    let (d, e) = (five.stand_ins[0], five.stand_ins[1]);
    five.all_owners_down();
    five.bench.host(d).slow_disk = true;
    let op = five.bench.ask(d, sloppy(blind("v")));
    assert_eq!((five.hints(e), five.bench.reply(op).is_none()), (0, true));
    five.bench.release_disk(d);
    five.bench.settle();
    assert!(five.bench.reply(op).unwrap().is_ok());
    // And a plain one for the third owner, for whom nobody was left to stand in.
    assert_eq!((five.hints(d), five.hints(e)), (2, 1));
}

/// The hints that are left with a stand-in when its target has not said to hold what it was sent.
fn left_without_an_answer() -> usize {
    let mut five = Five::new();
    let (a, b, d) = (five.owners[0], five.owners[1], five.stand_ins[0]);
    five.down(b);
    five.ask(a, sloppy(wide(blind("v")))).unwrap();
    five.bench.host(b).slow_writes = true;
    five.bench.start(b);
    five.bench.pass(ms(5000));
    five.hints(d)
}

#[test]
fn a_set_goes_when_its_target_holds_it() {
    assert_eq!(left_without_an_answer(), 1);
    let _armed = arm_mutant("causal-hint-removed-before-ack");
    assert_eq!(left_without_an_answer(), 0);
}

#[test]
fn an_overloaded_owner_is_no_reason_for_a_stand_in_to_coordinate() {
    let mut five = Five::new();
    let d = five.stand_ins[0];
    for owner in five.owners.clone() {
        five.bench.config(owner).replica_operations_max = 0;
        five.bench.stop(owner);
        five.bench.start(owner);
    }
    five.bench.pass(ms(3000));
    let error = five.ask(d, sloppy(blind("v"))).unwrap_err();
    assert_eq!(error.code, ErrorCode::Overloaded);
    assert_eq!(five.hints(d), 0);
}

#[test]
fn ten_siblings_are_told_in_the_receipt() {
    let mut bench = carts(3);
    for number in 1..=11 {
        let op = bench.ask(NodeId(1), blind(&format!("v{number}")));
        bench.settle();
        let Some(Ok(Reply::Causal(reply))) = bench.reply(op) else { panic!() };
        assert_eq!((reply.count, reply.receipt.many_siblings), (number, number >= 10));
    }
}

//! Values that expire.

use core::time::Duration;

use super::bench::{Bench, get, put, put_for, scan};
use crate::message::{ClientBody, GetReply, Reply, TimeToLive};
use crate::testing::arm_mutant;
use crate::types::{NodeId, Quorum};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const TTL: TimeToLive = TimeToLive::For(Duration::from_secs(2));

fn ok(bench: &mut Bench, at: NodeId, body: ClientBody) -> Reply {
    let op = bench.ask(at, body);
    bench.reply(op).unwrap().unwrap()
}

fn read(bench: &mut Bench, at: NodeId, r: Option<Quorum>) -> GetReply {
    let Reply::Get(reply) = ok(bench, at, get("k", r)) else { panic!("a get was asked") };
    reply
}

fn text(reply: &GetReply) -> Option<&[u8]> {
    reply.record.as_ref()?.value.as_ref().map(|value| value.as_bytes())
}

#[test]
fn a_value_is_gone_after_its_time_on_every_node_and_from_scans() {
    let mut bench = Bench::serving(3);
    let Reply::Put(written) = ok(&mut bench, A, put_for("k", "v", TTL)) else { panic!() };
    let found = read(&mut bench, B, None);
    let expiry = written.receipt.stamp.time.plus(Duration::from_secs(2));
    assert_eq!(found.record.as_ref().unwrap().expiry, Some(expiry), "counted from the stamp");
    bench.pass(Duration::from_millis(2100));
    for id in [A, B, C] {
        let gone = read(&mut bench, id, None);
        assert_eq!(gone.record, None);
        assert_eq!(gone.receipt.stamp, written.receipt.stamp, "it says which version expired");
        let Reply::Scan(page) = ok(&mut bench, id, scan("", "", 10)) else { panic!() };
        assert_eq!(page.entries, []);
    }
}

#[test]
fn what_expires_uncovers_nothing_older_not_even_where_it_never_arrived() {
    let older_comes_back = |bench: &mut Bench| {
        ok(bench, A, put("k", "old"));
        // C misses the second put.
        bench.cut.insert((A, C));
        ok(bench, A, put_for("k", "new", TTL));
        bench.pass(Duration::from_millis(2100));
        bench.cut.clear();
        text(&read(bench, C, Some(Quorum::All))).is_some()
    };
    assert!(!older_comes_back(&mut Bench::serving(3)));
    let _armed = arm_mutant("expired-uncovers-older");
    assert!(older_comes_back(&mut Bench::serving(3)), "the mutant is not caught");
}

#[test]
fn a_repair_carries_the_time_of_expiry_along() {
    let found_after = |bench: &mut Bench| {
        bench.cut.insert((A, C));
        ok(bench, A, put_for("k", "v", TTL));
        bench.cut.clear();
        assert!(read(bench, C, Some(Quorum::All)).receipt.repaired);
        bench.pass(Duration::from_millis(2100));
        text(&read(bench, C, Some(Quorum::One))).is_some()
    };
    assert!(!found_after(&mut Bench::serving(3)));
    let _armed = arm_mutant("repair-without-expiry");
    assert!(found_after(&mut Bench::serving(3)), "the mutant is not caught");
}

#[test]
fn a_put_says_otherwise_than_its_table() {
    assert_eq!(TimeToLive::Table.resolve(None), None);
    let day = Duration::from_secs(86_400);
    assert_eq!(TimeToLive::Table.resolve(Some(day)), Some(day));
    assert_eq!(TimeToLive::Never.resolve(Some(day)), None);
    assert_eq!(TTL.resolve(Some(day)), Some(Duration::from_secs(2)));
}

#[test]
fn a_delete_never_expires_whatever_it_says() {
    let mut bench = Bench::serving(3);
    ok(&mut bench, A, put("k", "v"));
    let ClientBody::Put(delete) = put_for("k", "", TTL) else { panic!() };
    ok(&mut bench, A, ClientBody::Put(crate::message::Put { value: None, ..delete }));
    let held = bench.host(B).disk.data.values().next().expect("a tombstone");
    assert_eq!((&held.value, held.expiry), (&None, None));
}

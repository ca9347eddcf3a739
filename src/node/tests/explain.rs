//! What a node knows of one key, as operators are told.

use core::time::Duration;

use super::bench::{Bench, get_in, put, put_in};
use crate::message::{
    AdminRequest, ErrorCode, Event, ExplainReply, Locate, OwnCopy, RegisterFacts, Reply,
    TableChange, TableRequest, TableSpec,
};
use crate::types::{Key, NodeId, RequestId, Stamp, TableKind};

fn explain(table: &str) -> AdminRequest {
    let (table, key) = (table.to_owned().try_into().unwrap(), Key::new("k").unwrap());
    AdminRequest::Explain(Locate { table, key })
}

fn told(bench: &mut Bench, at: NodeId, table: &str) -> ExplainReply {
    match bench.admin(at, explain(table)) {
        Ok(Reply::Explain(reply)) => *reply,
        other => panic!("{other:?}"),
    }
}

/// Five nodes, and the numbers of a key's owners and of the others.
fn five() -> (Bench, Vec<NodeId>, Vec<NodeId>) {
    let mut bench = Bench::serving(5);
    let reply = told(&mut bench, NodeId(1), "default");
    let id = |name: &crate::types::NodeName| NodeId(name.as_str()[1..].parse().unwrap());
    let owners: Vec<NodeId> = reply.owners.iter().map(id).collect();
    let others = (1..=5).map(NodeId).filter(|id| !owners.contains(id)).collect();
    (bench, owners, others)
}

fn down(bench: &mut Bench, id: NodeId) {
    bench.stop(id);
    for other in (1..=5).map(NodeId).filter(|other| *other != id) {
        bench.event(other, Event::Unreachable { peer: id });
    }
    bench.settle();
}

#[test]
fn an_owner_tells_its_copy_and_one_that_is_none_tells_that() {
    let (mut bench, owners, others) = five();
    assert_eq!(told(&mut bench, owners[0], "default").copy, OwnCopy::Version(None));
    bench.ask(owners[0], put("k", "value"));
    for owner in &owners {
        let reply = told(&mut bench, *owner, "default");
        let OwnCopy::Version(Some(version)) = reply.copy else { panic!("{reply:?}") };
        assert_eq!((version.bytes, version.tombstone, version.expiry), (5, false, None));
        assert_eq!((reply.kind, reply.reachable), (TableKind::Lww, 0b111));
        assert_eq!((reply.epoch, reply.changed_at), (reply.changed_at, reply.epoch));
        assert!(reply.hints.is_empty());
    }
    assert_eq!(told(&mut bench, others[0], "default").copy, OwnCopy::NotOwner);
}

#[test]
fn who_keeps_a_hint_names_the_owner_it_waits_for() {
    let (mut bench, owners, others) = five();
    down(&mut bench, owners[1]);
    // One that is no owner coordinates, so the hint is not kept by an owner either.
    let op = bench.ask(others[0], put("k", "v"));
    let Some(Ok(Reply::Put(put))) = bench.reply(op) else { panic!() };
    bench.pass(Duration::from_millis(1500));
    let reply = told(&mut bench, others[0], "default");
    assert_eq!(reply.reachable, 0b101);
    let [hint] = reply.hints.as_slice() else { panic!("{reply:?}") };
    assert_eq!(hint.target.as_str(), format!("n{}", owners[1]));
    assert_eq!((hint.version.stamp, hint.version.bytes), (put.receipt.stamp, 1));
    assert!(told(&mut bench, owners[0], "default").hints.is_empty());
    bench.start(owners[1]);
    bench.pass(Duration::from_secs(6));
    assert!(told(&mut bench, others[0], "default").hints.is_empty());
    let copy = told(&mut bench, owners[1], "default").copy;
    assert!(matches!(copy, OwnCopy::Version(Some(version)) if version.stamp == put.receipt.stamp));
}

#[test]
fn siblings_are_told_by_name_and_registers_by_ballot() {
    let mut bench = Bench::serving(3);
    for (name, kind) in [("carts", TableKind::Causal), ("locks", TableKind::Linearizable)] {
        let spec = TableSpec {
            name: name.to_owned().try_into().unwrap(),
            kind,
            n: None,
            r: None,
            w: None,
            r_min: None,
            w_min: None,
            sloppy: None,
            ttl: None,
            value_bytes_max: None,
        };
        let change = TableChange::Create(spec);
        let request = TableRequest::Change { id: RequestId(kind as u128 + 1), change };
        bench.begin_admin(NodeId(1), AdminRequest::Table(Box::new(request)));
        bench.pass(Duration::from_secs(3));
    }
    for value in ["one", "other"] {
        bench.ask(NodeId(1), put_in("carts", "k", value));
    }
    bench.ask(NodeId(1), get_in("carts", "k"));
    let OwnCopy::Siblings(siblings) = told(&mut bench, NodeId(2), "carts").copy else { panic!() };
    let mut sizes: Vec<u64> = siblings.iter().map(|sibling| sibling.bytes).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [3, 5]);
    assert!(siblings[0].dot != siblings[1].dot);

    let blank = OwnCopy::Register(RegisterFacts::default());
    assert_eq!(told(&mut bench, NodeId(2), "locks").copy, blank);
    bench.ask(NodeId(1), put_in("locks", "k", "mine"));
    bench.pass(Duration::from_secs(1));
    let OwnCopy::Register(facts) = told(&mut bench, NodeId(2), "locks").copy else { panic!() };
    assert!(facts.promised >= facts.accepted && facts.accepted > Stamp::ZERO);
    let version = facts.version.unwrap();
    assert_eq!((version.bytes, version.stamp), (4, facts.accepted));
    // Looking has changed nothing.
    assert_eq!(told(&mut bench, NodeId(2), "locks").copy, OwnCopy::Register(facts));
}

#[test]
fn an_unknown_table_and_too_many_at_once_are_refused() {
    let mut bench = Bench::serving(3);
    let error = bench.admin(NodeId(1), explain("nobody")).unwrap_err();
    assert_eq!(error.code, ErrorCode::TableUnknown);
    bench.host(NodeId(1)).slow_disk = true;
    let ops: Vec<_> = (0..17).map(|_| bench.begin_admin(NodeId(1), explain("default"))).collect();
    let refused = bench.reply(ops[16]).unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overloaded);
    assert!(bench.reply(ops[0]).is_none());
}

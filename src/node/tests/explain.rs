//! What is known of one key, as operators are told by the one node they ask.

use core::time::Duration;

use super::bench::{Bench, get_in, put, put_in};
use crate::message::{
    AdminRequest, ErrorCode, Event, ExplainMessage, ExplainReply, Locate, OwnCopy, PeerMessage,
    RegisterFacts, Reply, TableChange, TableRequest, TableSpec,
};
use crate::types::{Key, NodeId, RequestId, Stamp, TableKind};

fn explain(table: &str) -> AdminRequest {
    let (table, key) = (table.to_owned().try_into().unwrap(), Key::new("k").unwrap());
    AdminRequest::Explain(Locate { table, key })
}

fn told(bench: &mut Bench, at: NodeId, table: &str) -> ExplainReply {
    let op = bench.begin_admin(at, explain(table));
    bench.settle();
    match bench.reply(op) {
        Some(Ok(Reply::Explain(reply))) => *reply,
        other => panic!("{other:?}"),
    }
}

fn verdicts(reply: &ExplainReply) -> Vec<&'static str> {
    reply.owners.iter().map(|owner| owner.verdict.code).collect()
}

/// Five nodes, and the numbers of a key's owners and of the others.
fn five() -> (Bench, Vec<NodeId>, Vec<NodeId>) {
    let mut bench = Bench::serving(5);
    let reply = told(&mut bench, NodeId(1), "default");
    let id = |name: &str| NodeId(name[1..].parse().unwrap());
    let owners: Vec<NodeId> = reply.owners.iter().map(|owner| id(owner.node.as_str())).collect();
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

fn create(bench: &mut Bench, name: &str, kind: TableKind) {
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

#[test]
fn whoever_is_asked_tells_what_every_owner_holds() {
    let (mut bench, owners, others) = five();
    let blank = told(&mut bench, others[0], "default");
    assert_eq!((verdicts(&blank), blank.newest), (vec!["nothing"; 3], None));
    bench.ask(owners[0], put("k", "value"));
    for asked in (1..=5).map(NodeId) {
        let reply = told(&mut bench, asked, "default");
        assert_eq!(reply.me.as_str(), format!("n{asked}"));
        assert_eq!((verdicts(&reply), reply.agree), (vec!["newest"; 3], Some(true)));
        assert_eq!((reply.kind, reply.changed_at), (TableKind::Lww, reply.epoch));
        assert!(reply.silent.is_empty());
        for owner in &reply.owners {
            let Ok(OwnCopy::Version(Some(version))) = &owner.copy else { panic!("{reply:?}") };
            assert_eq!((version.bytes, version.tombstone, version.expiry), (5, false, None));
            assert_eq!((Some(version.stamp), owner.durable), (reply.newest, None));
            assert!(owner.hints.is_empty());
        }
    }
}

#[test]
fn an_owner_that_is_away_and_the_hint_that_waits_for_it_are_told() {
    let (mut bench, owners, others) = five();
    bench.ask(owners[0], put("k", "old"));
    down(&mut bench, owners[1]);
    // One that is no owner coordinates, so the hint is not kept by an owner either.
    let op = bench.ask(others[0], put("k", "v"));
    let Some(Ok(Reply::Put(put))) = bench.reply(op) else { panic!() };
    bench.pass(Duration::from_millis(1500));
    // Neither the node that is asked nor any owner keeps it.
    let reply = told(&mut bench, others[1], "default");
    assert_eq!((verdicts(&reply), reply.agree), (vec!["newest", "silent", "newest"], None));
    let away = &reply.owners[1];
    assert!(away.copy.as_ref().unwrap_err().contains("cannot be reached"), "{away:?}");
    let [hint] = away.hints.as_slice() else { panic!("{reply:?}") };
    assert_eq!(hint.holder.as_str(), format!("n{}", others[0]));
    assert_eq!((hint.version.stamp, hint.version.bytes), (put.receipt.stamp, 1));
    let words = format!("a hint with the newest version waits for it at n{}", others[0]);
    assert!(away.verdict.why.contains(&words), "{}", away.verdict.why);
    let [(name, why)] = reply.silent.as_slice() else { panic!("{reply:?}") };
    assert_eq!(name.as_str(), format!("n{}", owners[1]));
    assert!(why.contains("cannot be reached"), "{why}");

    bench.start(owners[1]);
    bench.pass(Duration::from_secs(6));
    let reply = told(&mut bench, others[1], "default");
    assert_eq!((verdicts(&reply), reply.agree), (vec!["newest"; 3], Some(true)));
    assert!(reply.owners.iter().all(|owner| owner.hints.is_empty()));
}

#[test]
fn one_that_does_not_answer_is_waited_for_and_then_named() {
    let (mut bench, owners, others) = five();
    bench.ask(owners[0], put("k", "value"));
    bench.cut.insert((owners[2], others[0]));
    let op = bench.begin_admin(others[0], explain("default"));
    bench.settle();
    assert!(bench.reply(op).is_none());
    bench.pass(Duration::from_millis(390));
    assert!(bench.reply(op).is_none(), "two fifths of a second are not over");
    bench.pass(Duration::from_millis(20));
    let Some(Ok(Reply::Explain(reply))) = bench.reply(op) else { panic!("no answer in time") };
    assert_eq!(verdicts(&reply), ["newest", "newest", "silent"]);
    assert!(reply.silent[0].1.contains("did not answer within 4"), "{:?}", reply.silent);
    // What comes later finds nobody.
    bench.cut.clear();
    bench.pass(Duration::from_secs(1));
}

#[test]
fn one_whose_link_breaks_is_not_waited_for() {
    let (mut bench, owners, others) = five();
    bench.cut.insert((owners[2], others[0]));
    let op = bench.begin_admin(others[0], explain("default"));
    bench.settle();
    assert!(bench.reply(op).is_none());
    bench.event(others[0], Event::Unreachable { peer: owners[2] });
    let Some(Ok(Reply::Explain(reply))) = bench.reply(op) else { panic!("it waits") };
    assert!(reply.silent[0].1.contains("broke"), "{:?}", reply.silent);
}

#[test]
fn a_member_that_lacks_the_table_or_the_time_says_so() {
    let mut bench = Bench::serving(3);
    let mut ask = |table: u32, remaining: u64| {
        let round = crate::message::RoundId { op: 7, round: 1 };
        let (table, key) = (crate::types::TableId(table), Key::new("k").unwrap());
        let remaining = Duration::from_millis(remaining);
        let ask = ExplainMessage::Ask { round, table, key, remaining };
        let message = PeerMessage::Explain(Box::new(ask));
        bench.event(NodeId(2), Event::Peer { from: NodeId(1), message });
        let (_, to, message) = bench.seen.last().cloned().unwrap();
        let PeerMessage::Explain(message) = message else { panic!("{message:?}") };
        let ExplainMessage::Answer { round, result } = *message else { panic!("{message:?}") };
        assert_eq!((to, round.op), (NodeId(1), 7));
        result
    };
    assert!(ask(99, 100).unwrap_err().contains("knows of no such table"));
    let default = crate::types::TableId(1);
    assert!(ask(default.0, 0).unwrap_err().contains("time was up"));
    assert!(ask(default.0, 100).is_ok());
}

#[test]
fn siblings_are_told_by_name_and_registers_by_ballot() {
    let mut bench = Bench::serving(3);
    create(&mut bench, "carts", TableKind::Causal);
    create(&mut bench, "locks", TableKind::Linearizable);
    for value in ["one", "other"] {
        bench.ask(NodeId(1), put_in("carts", "k", value));
    }
    bench.ask(NodeId(1), get_in("carts", "k"));
    let reply = told(&mut bench, NodeId(2), "carts");
    assert_eq!((verdicts(&reply), reply.newest), (vec!["same"; 3], None));
    for owner in &reply.owners {
        let Ok(OwnCopy::Siblings(siblings)) = &owner.copy else { panic!("{owner:?}") };
        let mut sizes: Vec<u64> = siblings.iter().map(|sibling| sibling.bytes).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [3, 5]);
        assert!(siblings[0].dot != siblings[1].dot);
    }

    let blank = told(&mut bench, NodeId(2), "locks");
    let copies = blank.owners.iter().map(|owner| owner.copy.clone());
    assert!(copies.eq((0..3).map(|_| Ok(OwnCopy::Register(RegisterFacts::default())))));
    bench.ask(NodeId(1), put_in("locks", "k", "mine"));
    bench.pass(Duration::from_secs(1));
    let reply = told(&mut bench, NodeId(2), "locks");
    assert_eq!((verdicts(&reply), reply.agree), (vec!["newest"; 3], Some(true)));
    let Ok(OwnCopy::Register(facts)) = &reply.owners[0].copy else { panic!("{reply:?}") };
    assert!(facts.promised >= facts.accepted && facts.accepted > Stamp::ZERO);
    let version = facts.version.unwrap();
    assert_eq!((version.bytes, version.stamp), (4, facts.accepted));
    assert!(reply.owners.iter().all(|owner| owner.durable == Some(true)));
    // Looking has changed nothing.
    assert_eq!(told(&mut bench, NodeId(2), "locks"), reply);
}

#[test]
fn an_unknown_table_and_too_many_at_once_are_refused() {
    let mut bench = Bench::serving(3);
    let op = bench.begin_admin(NodeId(1), explain("nobody"));
    bench.pass(Duration::from_millis(100));
    let error = bench.reply(op).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::TableUnknown);
    bench.host(NodeId(1)).slow_disk = true;
    let ops: Vec<_> = (0..17).map(|_| bench.begin_admin(NodeId(1), explain("default"))).collect();
    let refused = bench.reply(ops[16]).unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overloaded);
    assert!(bench.reply(ops[0]).is_none());
    // One that was given up makes room.
    bench.event(NodeId(1), Event::Abandon { op: ops[0] });
    let next = bench.begin_admin(NodeId(1), explain("default"));
    assert!(bench.reply(next).is_none());
}

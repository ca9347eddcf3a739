//! Whoever floods a node with operations does not take the room of others.

use core::time::Duration;

use super::bench::{Bench, get_in, put};
use super::causal::carts;
use crate::message::{Bound, ClientBody, ErrorCode, OpError, Principal};
use crate::testing::arm_mutant;
use crate::types::{NodeId, OpId};

const A: NodeId = NodeId(1);
const FLOOD: Principal = Principal::Connection(1);
const OTHER: Principal = Principal::Connection(2);

/// A node alone whose disk stands still, and which one client has asked for more than it takes.
fn flooded(body: impl Fn(usize) -> ClientBody) -> (Bench, Vec<OpError>) {
    let mut bench = Bench::new(1);
    bench.config(A).operations_max = 40;
    bench.start(A);
    bench.pass(Duration::from_secs(2));
    bench.host(A).slow_disk = true;
    let ops: Vec<OpId> = (0..60).map(|i| bench.ask_as(FLOOD, A, body(i))).collect();
    let refused = ops.iter().filter_map(|op| bench.reply(*op)).map(|result| result.unwrap_err());
    let refused = refused.collect();
    (bench, refused)
}

fn writes(i: usize) -> ClientBody {
    put(&format!("k{i}"), "v")
}

/// Whether another client's requests are taken in while one floods the node.
fn another_client_finds_room() -> bool {
    let (mut bench, refused) = flooded(writes);
    let named = |bound| refused.iter().filter(|error| error.facts.bound == Some(bound)).count();
    assert!(refused.iter().all(|error| error.code == ErrorCode::Overloaded));
    if named(Bound::Node) > 0 {
        return false;
    }
    assert!(named(Bound::Client) >= 25, "{refused:?}");
    let error = &refused[0];
    assert!(error.facts.retry_after.is_some() && error.message.contains("this client"));
    let ops: Vec<OpId> = (100..102).map(|i| bench.ask_as(OTHER, A, writes(i))).collect();
    assert!(ops.iter().all(|op| bench.reply(*op).is_none()), "taken in");
    bench.release_disk(A);
    ops.iter().all(|op| bench.reply(*op).unwrap().is_ok())
}

#[test]
fn a_client_that_floods_a_node_leaves_room_for_others() {
    assert!(another_client_finds_room());
    let _armed = arm_mutant("shares-unbounded");
    assert!(!another_client_finds_room());
}

#[test]
fn a_table_that_is_flooded_by_many_leaves_room_for_other_tables() {
    let mut bench = carts(3);
    bench.stop(A);
    bench.config(A).operations_max = 40;
    bench.start(A);
    bench.pass(Duration::from_secs(2));
    bench.host(A).slow_disk = true;
    for id in [NodeId(2), NodeId(3)] {
        bench.host(id).slow_disk = true;
    }
    let flood: Vec<OpId> = (0..60)
        .map(|i| {
            let body = get_in("default", &format!("k{i}"));
            bench.ask_as(Principal::Connection(i), A, body)
        })
        .collect();
    let refused: Vec<OpError> =
        flood.iter().filter_map(|op| bench.reply(*op)).map(|result| result.unwrap_err()).collect();
    assert!(refused.iter().all(|error| error.facts.bound == Some(Bound::Table)), "{refused:?}");
    assert!(refused.len() >= 25 && refused[0].message.contains("this table"));
    let ops: Vec<OpId> =
        (0..2).map(|i| bench.ask_as(OTHER, A, get_in("carts", &format!("c{i}")))).collect();
    assert!(ops.iter().all(|op| bench.reply(*op).is_none()), "taken in");
}

#[test]
fn what_has_ended_makes_room_again() {
    let (mut bench, _) = flooded(writes);
    bench.release_disk(A);
    bench.pass(Duration::from_millis(1100));
    let ops: Vec<OpId> = (200..230).map(|i| bench.ask_as(FLOOD, A, writes(i))).collect();
    for op in ops {
        assert!(bench.reply(op).unwrap().is_ok());
    }
}

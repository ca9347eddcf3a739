//! What a fence keeps out, and when a node may say that it knows it.

use super::bench::put;
use super::moves::{Moving, ms};
use crate::message::Reply;
use crate::testing::arm_mutant;
use crate::types::{Epoch, NodeId};

/// A coordinator that is behind asks owners that are not: the state by which its put is acknowledged, and the
/// one in force with the others.
fn acknowledged_under() -> (Epoch, Epoch) {
    let mut moving = Moving::new();
    let ([a, b, c], [d, _]) = (moving.owners, moving.spares);
    moving.begin();
    [b, c, d].into_iter().for_each(|id| moving.install(id));
    let op = moving.bench.ask(a, put("k", "v"));
    moving.bench.pass(ms(200));
    let Some(Ok(Reply::Put(reply))) = moving.bench.reply(op) else { panic!("no answer") };
    (reply.receipt.epoch, moving.state.epoch)
}

#[test]
fn who_knows_a_fence_lets_nothing_in_below() {
    let (by, now) = acknowledged_under();
    assert_eq!(by, now);
    let _armed = arm_mutant("fence-ignored");
    let (by, now) = acknowledged_under();
    assert!(by < now, "the planted bug acknowledges it by the owners before");
}

fn acknowledged(moving: &mut Moving, at: NodeId) -> Epoch {
    moving.bench.host(at).node.as_ref().unwrap().topology.acknowledged()
}

fn in_force(moving: &mut Moving, at: NodeId) -> Epoch {
    moving.bench.host(at).node.as_ref().unwrap().epoch()
}

/// Whether an epoch is acknowledged while a write that was let in before it is not durable.
fn before_writes() -> bool {
    let mut moving = Moving::new();
    let a = moving.owners[0];
    moving.bench.host(a).slow_writes = true;
    moving.bench.ask(a, put("k", "v"));
    moving.begin();
    moving.install(a);
    assert_eq!(in_force(&mut moving, a), moving.state.epoch);
    let early = acknowledged(&mut moving, a) == moving.state.epoch;
    moving.bench.release_disk(a);
    moving.bench.pass(ms(50));
    assert_eq!(acknowledged(&mut moving, a), moving.state.epoch);
    early
}

#[test]
fn an_epoch_is_acknowledged_behind_the_writes_that_were_let_in_before() {
    assert!(!before_writes());
    let _armed = arm_mutant("acknowledge-before-writes");
    assert!(before_writes());
}

/// Whether an epoch is acknowledged before that is durable.
fn before_fsync() -> bool {
    let mut moving = Moving::new();
    let a = moving.owners[0];
    moving.begin();
    moving.bench.host(a).slow_disk = true;
    moving.install(a);
    while in_force(&mut moving, a) < moving.state.epoch {
        moving.bench.release_one(a);
        moving.bench.settle();
    }
    let early = acknowledged(&mut moving, a) == moving.state.epoch;
    moving.bench.release_disk(a);
    moving.bench.settle();
    assert_eq!(acknowledged(&mut moving, a), moving.state.epoch);
    early
}

#[test]
fn an_epoch_is_acknowledged_when_that_is_durable() {
    assert!(!before_fsync());
    let _armed = arm_mutant("acknowledge-before-fsync");
    assert!(before_fsync());
}

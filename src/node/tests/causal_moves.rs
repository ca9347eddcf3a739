//! Causal puts that are under way while the owners of their key change: made once, whoever goes on with
//! them, so that what has taken their place is not followed by them again.

use super::bench::{get_in, put_in};
use super::causal::carts;
use super::moves::{Moving, ms};
use crate::message::{CausalReply, ClientBody, Get, Put, Reply};
use crate::testing::arm_mutant;
use crate::types::{NodeId, OpId, Quorum};

/// A causal table, a move of whose key `k` is about to begin.
fn moving() -> Moving {
    Moving::of(carts(5), "carts")
}

fn reply(moving: &mut Moving, op: OpId) -> Option<CausalReply> {
    match moving.bench.reply(op)?.unwrap() {
        Reply::Causal(reply) => Some(*reply),
        other => panic!("{other:?}"),
    }
}

/// What all owners hold.
fn shown(moving: &mut Moving, at: NodeId) -> CausalReply {
    let ClientBody::Get(get) = get_in("carts", "k") else { unreachable!() };
    let op = moving.bench.ask(at, ClientBody::Get(Get { r: Some(Quorum::All), ..get }));
    reply(moving, op).expect("all owners answer")
}

fn install_everywhere(moving: &mut Moving) {
    let [a, b, c] = moving.owners;
    let [d, e] = moving.spares;
    [a, b, c, d, e].into_iter().for_each(|id| moving.install(id));
    moving.bench.pass(ms(100));
}

/// A put that only its coordinator holds is read, and another write takes its place; then a move begins, and
/// the put goes on. How many siblings there are in the end.
fn siblings(asked_at_owner: bool) -> usize {
    let mut moving = moving();
    let ([a, b, c], [d, e]) = (moving.owners, moving.spares);
    moving.cut(a, &[b, c]);
    let old = moving.bench.ask(if asked_at_owner { a } else { d }, put_in("carts", "k", "old"));
    assert!(moving.bench.reply(old).is_none(), "one owner is not enough");
    let seen = shown(&mut moving, e);
    assert_eq!(seen.siblings.len(), 1);
    let ClientBody::Put(put) = put_in("carts", "k", "new") else { unreachable!() };
    let new = moving.bench.ask(b, ClientBody::Put(Put { context: seen.context, ..put }));
    assert!(moving.succeeds(new));
    moving.begin();
    moving.bench.cut.clear();
    install_everywhere(&mut moving);
    assert!(reply(&mut moving, old).is_some(), "it is acknowledged by the owners there are now");
    shown(&mut moving, e).siblings.len()
}

#[test]
fn a_put_that_goes_on_by_other_owners_does_not_come_back_where_it_was_superseded() {
    assert_eq!((siblings(true), siblings(false)), (1, 1));
    let _armed = arm_mutant("moved-put-made-again");
    assert_eq!((siblings(true), siblings(false)), (2, 2));
}

#[test]
fn what_becomes_of_a_put_on_its_way_to_the_disk_is_known_before_it_goes_on() {
    let mut moving = moving();
    let ([a, b, _], [d, e]) = (moving.owners, moving.spares);
    moving.bench.host(a).slow_disk = true;
    let op = moving.bench.ask(a, put_in("carts", "k", "v"));
    moving.begin();
    install_everywhere(&mut moving);
    assert!(moving.bench.reply(op).is_none(), "its own disk has not answered");
    moving.bench.release_disk(a);
    moving.bench.host(a).slow_disk = false;
    moving.bench.pass(ms(100));
    let put = reply(&mut moving, op).expect("it is told to the owners there are now");
    assert_eq!((put.receipt.epoch, put.count), (moving.state.epoch, 1));
    for id in [a, b, d] {
        assert_eq!(moving.bench.host(id).disk.sets.len(), 1);
    }
    assert_eq!(shown(&mut moving, e).siblings.len(), 1);
}

#[test]
fn a_put_that_was_sent_on_under_an_older_fence_is_sent_on_anew() {
    let mut moving = moving();
    let ([a, b, c], [d, e]) = (moving.owners, moving.spares);
    moving.begin();
    // Only the owners know of it: whom the put is sent on to does not make it, and says so.
    [a, b, c].into_iter().for_each(|id| moving.install(id));
    let op = moving.bench.ask(e, put_in("carts", "k", "v"));
    moving.install(d);
    moving.bench.pass(ms(100));
    let put = reply(&mut moving, op).expect("it is made once e has learned the state");
    assert_eq!((put.receipt.epoch, put.count), (moving.state.epoch, 1));
}

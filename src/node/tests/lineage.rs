//! Lineages that are forced: durable before they are told, followed, refused by those they leave out, and
//! kept apart from rivals.

use core::time::Duration;
use std::sync::Arc;

use super::bench::{Bench, node};
use crate::message::{
    AdminRequest, ErrorCode, Event, ForceOrder, LineageReply, MetaRecord, OpError, PeerMessage,
    Phase, Reply,
};
use crate::types::{ClusterState, Epoch, Lineage, NodeId};

const D: NodeId = NodeId(4);
const E: NodeId = NodeId(5);

/// Five nodes, of which the first three have died; the two others have heard nothing of each other
/// since.
fn two_left() -> Bench {
    let mut bench = Bench::serving(5);
    (1..=3).for_each(|id| bench.stop(node(id)));
    bench.pass(Duration::from_secs(30));
    bench.cut.extend([(D, E), (E, D)]);
    bench
}

fn force(bench: &mut Bench, at: NodeId) -> Result<LineageReply, OpError> {
    let cluster = state(bench, at).settings.name.clone();
    let gone = ["n1", "n2", "n3"].iter().map(|name| name.parse().unwrap()).collect();
    match bench.admin(at, AdminRequest::Force(Box::new(ForceOrder { cluster, gone }))) {
        Ok(Reply::Forced(reply)) => Ok(*reply),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    }
}

fn state(bench: &mut Bench, id: NodeId) -> Arc<ClusterState> {
    bench.host(id).node.as_ref().unwrap().state.clone().unwrap()
}

fn tell(bench: &mut Bench, to: NodeId, state: &Arc<ClusterState>) {
    let message = PeerMessage::StateNews(state.clone());
    let from = if to == D { E } else { D };
    bench.event(to, Event::Peer { from, message });
    bench.settle();
}

#[test]
fn a_lineage_is_forced_once_and_followed_by_who_is_left_and_by_nobody_else() {
    let mut bench = two_left();
    let before = state(&mut bench, D).epoch;
    let forced = force(&mut bench, D).unwrap();
    assert_eq!((forced.lineage, forced.council.len()), (Lineage(1), 1));
    assert!(forced.epoch > before);
    assert_eq!(force(&mut bench, D).unwrap(), forced, "once");
    let new = state(&mut bench, D);
    tell(&mut bench, E, &new);
    assert_eq!(state(&mut bench, E).lineage, Lineage(1));
    let is_new = |record: &MetaRecord| matches!(record, MetaRecord::State(state) if state.lineage == Lineage(1));
    assert!(bench.host(E).disk.meta.iter().any(is_new), "durably");

    // One that comes back is told, and stays out, also when nobody tells it again.
    let a = node(1);
    bench.start(a);
    tell(&mut bench, a, &new);
    assert!(matches!(bench.phase(a), Phase::Refused(_)), "{:?}", bench.phase(a));
    bench.stop(a);
    bench.start(a);
    bench.settle();
    assert!(matches!(bench.phase(a), Phase::Refused(_)), "{:?}", bench.phase(a));
}

#[test]
fn what_the_disk_does_not_keep_is_not_forced() {
    let mut bench = two_left();
    bench.host(D).refusals_left = 1;
    bench.host(D).refuses = |record| matches!(record, MetaRecord::State(_));
    let error = force(&mut bench, D).unwrap_err();
    assert_eq!(error.code, ErrorCode::StorageReadOnly);
    assert_eq!(state(&mut bench, D).lineage, Lineage(0));
    assert_eq!(force(&mut bench, D).unwrap().lineage, Lineage(1), "it can be tried again");
}

#[test]
fn rivals_stay_apart_and_so_does_what_comes_from_them() {
    let mut bench = two_left();
    force(&mut bench, D).unwrap();
    force(&mut bench, E).unwrap();
    let (one, rival) = (state(&mut bench, D), state(&mut bench, E));
    assert_eq!(one.lineage, rival.lineage);
    assert_ne!(one.origin(), rival.origin());
    // A later epoch of the other one, and a later lineage that comes from it.
    let mut later = ClusterState::clone(&one);
    later.epoch = Epoch(one.epoch.0 + 5);
    tell(&mut bench, E, &Arc::new(later.clone()));
    later.lineage = Lineage(2);
    later.topology.origins.push(77);
    let later = Arc::new(later);
    tell(&mut bench, E, &later);
    assert_eq!(state(&mut bench, E), rival);
    tell(&mut bench, D, &later);
    assert_eq!(state(&mut bench, D).lineage, Lineage(2), "it comes from its own");
    let _armed = crate::testing::arm_mutant("rival-lineages-merge");
    tell(&mut bench, E, &later);
    assert_eq!(state(&mut bench, E).lineage, Lineage(2));
}

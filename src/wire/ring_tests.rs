//! What is told of one ring and then of another is what there is, however they differ; foreign updates
//! do no more than fail.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::types::NodeName;

const PARTITIONS: u8 = 8;

fn owners() -> impl Strategy<Value = Vec<NodeId>> {
    vec((1..6_u32).prop_map(NodeId), 1..4)
}

fn moves() -> impl Strategy<Value = PlacedMove> {
    let phase = prop::sample::select(vec![MovePhase::ReadOld, MovePhase::ReadNew]);
    (phase, owners()).prop_map(|(phase, other)| PlacedMove { phase, other })
}

fn class() -> impl Strategy<Value = PlacedClass> {
    let moving = btree_map((0..u16::from(PARTITIONS)).prop_map(Partition), moves(), 0..3);
    (vec(owners(), usize::from(PARTITIONS)), moving, 1..4_u8).prop_map(|(owners, moving, n)| {
        PlacedClass { n, r_min: n / 2 + 1, w_min: n / 2 + 1, owners, moving }
    })
}

fn placement() -> impl Strategy<Value = Placement> {
    let ring = vec((1..6_u32).prop_map(NodeId), usize::from(PARTITIONS));
    let names = btree_map("[a-z]{1,4}", 0..2_u16, 0..3);
    (ring, vec(class(), 2), names, 0..2_u128).prop_map(|(ring, classes, names, id)| Placement {
        id: ClusterId(id),
        cluster: "demo".to_owned(),
        ring,
        classes,
        tables: names
            .into_iter()
            .map(|(name, class)| (TableName::try_from(name).unwrap(), ClassId(class)))
            .collect(),
    })
}

fn members() -> impl Strategy<Value = Vec<RingMember>> {
    let liveness = prop::sample::select(Liveness::ALL.to_vec());
    let role = prop::sample::select(RING_ROLES.to_vec());
    let facts = (liveness, role, any::<bool>(), "[a-z]{0,3}");
    btree_map(1..6_u32, facts, 0..5).prop_map(|members| {
        let member = |(id, (liveness, role, serving, address))| RingMember {
            id: NodeId(id),
            name: NodeName::try_from(format!("n{id}")).unwrap(),
            address,
            zone: Zone::default(),
            liveness,
            role,
            serving,
        };
        members.into_iter().map(member).collect()
    })
}

fn ring() -> impl Strategy<Value = RingView> {
    (0..3_u64, members(), placement()).prop_map(|(epoch, members, placement)| RingView {
        epoch: Epoch(epoch),
        members,
        placement: Arc::new(placement),
    })
}

/// The same ring after steps of moves: other owners, other members on the move.
fn stepped(before: &RingView, steps: Vec<(u8, u8, Vec<NodeId>, PlacedMove)>) -> RingView {
    let mut placement = Placement::clone(&before.placement);
    for (class, partition, owners, moving) in steps {
        let class = &mut placement.classes[usize::from(class)];
        class.owners[usize::from(partition)] = owners;
        let partition = Partition(partition.into());
        if moving.other.len() > 2 {
            class.moving.remove(&partition);
        } else {
            class.moving.insert(partition, moving);
        }
    }
    RingView {
        epoch: Epoch(before.epoch.0 + 1),
        members: before.members.clone(),
        placement: Arc::new(placement),
    }
}

fn again(update: pb::RingUpdate) -> pb::RingUpdate {
    pb::RingUpdate::decode(&update.encode_to_vec()[..]).unwrap()
}

proptest! {
    #[test]
    fn a_ring_and_then_another_are_learned_as_they_are(one in ring(), other in ring()) {
        let first = learn(None, again(tell(None, &one).unwrap())).unwrap();
        prop_assert_eq!(&first, &one);
        prop_assert_eq!(tell(Some(&one), &one), None);
        match tell(Some(&one), &other) {
            None => prop_assert_eq!(one, other),
            Some(update) => prop_assert_eq!(learn(Some(&first), again(update)).unwrap(), other),
        }
    }

    #[test]
    fn steps_of_moves_are_told_by_unit(
        one in ring(),
        steps in vec((0..2_u8, 0..PARTITIONS, owners(), moves()), 0..4),
    ) {
        let count = steps.len();
        let next = stepped(&one, steps);
        let update = again(tell(Some(&one), &next).unwrap());
        prop_assert!(update.placement.is_none() && update.members.is_none());
        prop_assert!(update.units.len() <= count);
        prop_assert_eq!(learn(Some(&one), update).unwrap(), next);
    }

    #[test]
    fn foreign_bytes_do_no_more_than_fail(bytes: Vec<u8>, one in ring()) {
        if let Ok(update) = pb::RingUpdate::decode(&bytes[..]) {
            let _ = learn(None, update.clone());
            let _ = learn(Some(&one), update);
        }
    }

    #[test]
    fn what_does_not_fit_the_ring_is_refused(one in ring()) {
        let good = tell(None, &one).unwrap();
        let spoil: [fn(&mut wire::Placement); 7] = [
            |placement| placement.ring.push(1),
            |placement| placement.classes[0].owners.push(1),
            |placement| placement.classes[0].owner_counts[0] = u32::MAX,
            |placement| placement.classes[1].n = 256,
            |placement| placement.cluster_id.clear(),
            |placement| placement.tables.push(wire::Table { name: "t".to_owned(), class: 2 }),
            |placement| placement.classes[0].moving.push(wire::Unit {
                partition: PARTITIONS.into(),
                ..Default::default()
            }),
        ];
        for (index, spoil) in spoil.into_iter().enumerate() {
            let mut bad = good.clone();
            spoil(bad.placement.as_mut().unwrap());
            prop_assert!(learn(None, bad).is_err(), "case {}", index);
        }
        let parts = [(None, good.placement.clone()), (good.members.clone(), None)];
        for (members, placement) in parts {
            let bad = pb::RingUpdate { members, placement, ..good.clone() };
            prop_assert!(learn(None, bad).is_err());
        }
        let stray = wire::Unit { class: 2, ..Default::default() };
        let update = pb::RingUpdate { units: vec![stray], ..Default::default() };
        prop_assert!(learn(Some(&one), update).is_err());
    }
}

#[test]
fn members_are_told_in_order_and_with_words_that_are_known() {
    let member = |id: u32, state: &str| wire::Member {
        id,
        name: format!("n{id}"),
        zone: "a".to_owned(),
        state: state.to_owned(),
        role: "active".to_owned(),
        ..Default::default()
    };
    let read = |list| members_from_wire(wire::Members { list });
    assert_eq!(read(vec![member(1, "alive"), member(2, "down")]).unwrap().len(), 2);
    assert!(read(vec![member(2, "alive"), member(1, "alive")]).is_err());
    assert!(read(vec![member(1, "alive"), member(1, "alive")]).is_err());
    assert!(read(vec![member(1, "lost")]).is_err());
}

//! Who is taken in, and who sits in the council.

use super::*;
use crate::control::Change;
use crate::control::schema::tests::state;
use crate::types::{Addresses, Epoch, Nonce, RequestId, Zone};

fn applicant(name: &str, birth: u128) -> Applicant {
    Applicant {
        name: name.parse().unwrap(),
        birth: Nonce(birth),
        addresses: Addresses { client: String::new(), peer: format!("{name}:7") },
        zone: Zone::default(),
        weight_milli: 1000,
        feature_level: limits::FEATURE_LEVEL,
    }
}

fn admit(state: &ClusterState, applicant: Applicant) -> Result<ClusterState, OpError> {
    Change::Member(MemberChange::Admit(applicant)).after(state, RequestId(0))
}

#[test]
fn a_new_node_is_reserved_and_gets_an_id_that_was_never_given() {
    let first = state(3, 1);
    let four = admit(&first, applicant("n4", 40)).unwrap();
    let member = four.member_named(&"n4".parse().unwrap()).unwrap();
    assert_eq!((member.id, member.role), (NodeId(4), Role::Reserved));
    let mut gone = four;
    gone.members.pop();
    let five = admit(&gone, applicant("n5", 50)).unwrap();
    assert_eq!(five.members.last().map(|member| member.id), Some(NodeId(5)));
}

#[test]
fn a_name_that_is_taken_is_refused_with_the_reason() {
    let state = admit(&state(3, 1), applicant("n4", 40)).unwrap();
    let error = admit(&state, applicant("n4", 41)).unwrap_err();
    assert_eq!(error.code, ErrorCode::MemberExists);
    assert!(error.message.contains("another member"), "{}", error.message);
}

#[test]
fn a_council_grows_with_the_cluster_and_seats_change_hands_only_where_they_must() {
    let mut state = state(3, 1);
    assert_eq!(state.council, [NodeId(1), NodeId(2), NodeId(3)]);
    assert_eq!(council_wanted(&state, |_| false), None);
    assert_eq!(council_wanted(&state, |id| id == NodeId(2)), None, "there is nobody else");
    for (id, name) in [(4, "n4"), (5, "n5")] {
        state = admit(&state, applicant(name, id)).unwrap();
    }
    let all: Vec<NodeId> = (1..=5).map(NodeId).collect();
    assert_eq!(council_wanted(&state, |_| false), Some(all.clone()));
    state.council = all;
    state = admit(&state, applicant("n6", 6)).unwrap();
    assert_eq!(council_wanted(&state, |_| false), None, "five seats are enough");
    let wanted = council_wanted(&state, |id| id == NodeId(2)).unwrap();
    assert_eq!(wanted, [1, 3, 4, 5, 6].map(NodeId));
}

#[test]
fn a_council_sits_in_many_zones_and_its_change_is_of_one_epoch() {
    let mut state = state(9, 3);
    let zones: BTreeSet<&Zone> =
        state.council.iter().filter_map(|id| state.member(*id)).map(|m| &m.zone).collect();
    assert_eq!(zones.len(), 3);
    let seats: Vec<NodeId> = state.council.clone();
    let change = |epoch, seats: &[NodeId]| {
        Change::Member(MemberChange::Council { epoch, seats: seats.to_vec() })
    };
    assert!(change(state.epoch, &seats[..2]).after(&state, RequestId(0)).is_err(), "two seats");
    assert!(change(Epoch(7), &seats[..3]).after(&state, RequestId(0)).is_err());
    state = change(state.epoch, &seats[..3]).after(&state, RequestId(0)).unwrap();
    assert_eq!(state.council, seats[..3]);
}

//! When a lineage may be forced, what it is, and who follows it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::control::schema::tests::state;

#[derive(Default)]
struct Heard {
    down: BTreeSet<NodeId>,
    epochs: BTreeMap<NodeId, Epoch>,
}

impl Seen for Heard {
    fn is_down(&self, member: NodeId) -> bool {
        self.down.contains(&member)
    }

    fn epoch(&self, member: NodeId) -> Epoch {
        self.epochs.get(&member).copied().unwrap_or_default()
    }
}

fn down(ids: &[u32]) -> Heard {
    Heard { down: ids.iter().map(|id| NodeId(*id)).collect(), ..Heard::default() }
}

fn named(names: &[&str]) -> Vec<NodeName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

const ME: NodeId = NodeId(1);

#[test]
fn a_new_lineage_has_a_council_of_those_who_are_left_and_knows_the_others_for_ever() {
    let state = state(3, 3);
    let next = force(&state, ME, &named(&["n2", "n3"]), 7, &down(&[2, 3])).unwrap();
    assert_eq!((next.lineage, next.council), (Lineage(1), vec![ME]));
    assert!(next.epoch.0 > state.epoch.0 + 1000, "above what may have been decided unheard");
    assert_eq!(next.parent, canonical::state_hash(&state));
    let roles: Vec<Role> = next.members.iter().map(|member| member.role).collect();
    assert_eq!(roles, [Role::Active, Role::Leaving, Role::Leaving]);
    let gone: Vec<NodeId> = next.topology.gone.iter().map(|(id, _)| *id).collect();
    assert_eq!(gone, [NodeId(2), NodeId(3)]);
    assert_eq!(next.classes, state.classes, "owners change by a plan");
}

#[test]
fn nobody_is_excluded_who_answers_and_no_council_is_bypassed_that_can_decide() {
    let five = state(5, 5);
    let refused = |gone: &[&str], seen: &Heard| {
        let error = force(&five, ME, &named(gone), 7, seen).unwrap_err();
        assert_eq!(error.code, ErrorCode::PlanInvalid);
        error.message
    };
    assert!(refused(&["n2", "n3"], &down(&[2, 3])).contains("can decide without"));
    assert!(refused(&["n2", "n3", "n4"], &down(&[2, 3])).contains("n4 is not down"));
    assert!(refused(&["n1", "n2", "n3"], &down(&[2, 3])).contains("is this node itself"));
    let mut seen = down(&[2, 3, 4]);
    seen.epochs.insert(NodeId(5), Epoch(five.epoch.0 + 1));
    assert!(refused(&["n2", "n3", "n4"], &seen).contains("n5 knows epoch"));
    seen.epochs.clear();
    let next = force(&five, ME, &named(&["n2", "n3", "n4"]), 7, &seen).unwrap();
    assert_eq!(next.council, [ME], "of two members one decides, who is there");
    assert!(force(&five, ME, &named(&["n9"]), 7, &seen).is_err());
    let _armed = crate::testing::arm_mutant("lineage-beside-council");
    assert!(force(&five, ME, &named(&["n2", "n3"]), 7, &down(&[2, 3])).is_ok());
}

#[test]
fn a_later_lineage_is_followed_unless_it_comes_from_a_rival() {
    let zero = state(3, 3);
    let gone = named(&["n2", "n3"]);
    let one = force(&zero, ME, &gone, 7, &down(&[2, 3])).unwrap();
    let rival = force(&zero, ME, &gone, 8, &down(&[2, 3])).unwrap();
    assert_ne!(one.topology.origins, rival.topology.origins);
    assert_eq!(may_follow(&zero, &one), Ok(()));
    assert!(may_follow(&one, &zero).is_err() && may_follow(&one, &one).is_err());
    assert!(may_follow(&one, &rival).is_err(), "the same number");
    let mut two = one.clone();
    two.lineage = Lineage(2);
    two.epoch = Epoch(one.epoch.0 + 1);
    two.topology.origins.push(9);
    assert_eq!((may_follow(&zero, &two), may_follow(&one, &two)), (Ok(()), Ok(())));
    assert!(may_follow(&rival, &two).unwrap_err().contains("two were forced"));
    let mut ahead = zero.clone();
    ahead.epoch = Epoch(one.epoch.0 + 1);
    assert!(may_follow(&ahead, &one).unwrap_err().contains("has gone on"));
    let _armed = crate::testing::arm_mutant("rival-lineages-merge");
    assert_eq!(may_follow(&rival, &two), Ok(()));
}

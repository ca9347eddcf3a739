//! Whether a node that greets us is one we talk to. Pure: two greetings and a cluster state in, a
//! verdict out. What is not checked here (whether its boot is newer than one seen before) is the
//! council's business, in `control`.

use crate::message::{Hello, HelloRefusal, View};
use crate::types::ClusterState;

/// What an operator can do about a stranger.
const HINT: &str = "its directory was replaced or restored, or it never joined; it may only return as a new node, \
     with an empty directory and kvd run --join: stop it, and see docs/operating.md";
/// What an operator can do about a double.
const HINT_DOUBLE: &str =
    "this node itself runs as that member; two processes use one configuration or one directory";

/// Judges the greeting of a stream that was opened to the node that published `view`.
///
/// # Errors
/// The first rule that the greeting breaks, to be told to both sides.
pub fn judge(view: &View, hello: &Hello) -> Result<(), HelloRefusal> {
    let ours = &view.hello;
    if hello.protocol_max < ours.protocol_min
        || ours.protocol_max < hello.protocol_min
        || hello.protocol_max < hello.protocol_min
    {
        return Err(HelloRefusal::Protocol {
            theirs_min: hello.protocol_min,
            theirs_max: hello.protocol_max,
            ours_min: ours.protocol_min,
            ours_max: ours.protocol_max,
        });
    }
    if hello.cluster_name != ours.cluster_name {
        return Err(HelloRefusal::Cluster {
            theirs: hello.cluster_name.clone(),
            ours: ours.cluster_name.clone(),
        });
    }
    match (hello.cluster, ours.cluster) {
        (Some(theirs), Some(ours)) if theirs != ours => {
            return Err(HelloRefusal::Cluster {
                theirs: theirs.to_string(),
                ours: ours.to_string(),
            });
        }
        (Some(_), Some(_)) if hello.lineage != ours.lineage => {
            let state = view.state.clone().filter(|_| ours.lineage > hello.lineage);
            let (theirs, ours) = (hello.lineage.0, ours.lineage.0);
            return Err(HelloRefusal::Lineage { theirs, ours, state });
        }
        (Some(_), Some(_)) if hello.origin != ours.origin && !crate::mutant!("rivals-talk") => {
            let (lineage, theirs, ours) = (ours.lineage.0, hello.origin, ours.origin);
            return Err(HelloRefusal::Rival { lineage, theirs, ours });
        }
        // Founders that disagree about the list number each other differently, so this comes
        // before any comparison of ids.
        (None, None) if hello.founders != ours.founders => {
            return Err(HelloRefusal::Founders { refuser: ours.name.to_string() });
        }
        (Some(_) | None, Some(_) | None) => {}
    }
    if hello.to != ours.id {
        return Err(HelloRefusal::Misdirected { refuser: ours.name.to_string(), meant: hello.to });
    }
    if hello.id == ours.id {
        return Err(stranger(hello, HINT_DOUBLE));
    }
    let known = match &view.state {
        Some(state) => is_member(state, hello) && !state.is_gone(hello.id, hello.birth),
        // A born node may tell an unborn one about the cluster, whoever it is.
        None if hello.cluster.is_some() => true,
        None => view.members.iter().any(|other| other.id == hello.id && other.name == hello.name),
    };
    if known { Ok(()) } else { Err(unknown(view, hello)) }
}

/// Why somebody who is no member is none.
fn unknown(view: &View, hello: &Hello) -> HelloRefusal {
    let (name, id) = (hello.name.clone(), hello.id);
    match &view.state {
        Some(state) if state.is_gone(id, hello.birth) => HelloRefusal::Gone { name, id },
        // It shows the cluster's id, and a number that this node has not heard to have been given.
        Some(state) if hello.cluster.is_some() && id > state.topology.member_id_max => {
            HelloRefusal::Unheard { name, id }
        }
        _ => stranger(hello, HINT),
    }
}

fn is_member(state: &ClusterState, hello: &Hello) -> bool {
    state
        .member(hello.id)
        .is_some_and(|member| member.name == hello.name && member.birth == hello.birth)
}

fn stranger(hello: &Hello, hint: &str) -> HelloRefusal {
    HelloRefusal::Stranger { name: hello.name.clone(), id: hello.id, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{BootRecord, HintGauges, Liveness, MemberView, Phase, RepairGauges};
    use crate::types::{
        Addresses, ClusterId, Epoch, Lineage, Member, NodeId, Nonce, Role, Settings, TableId, Zone,
    };
    use std::sync::Arc;

    fn hello(id: u32, to: u32) -> Hello {
        Hello {
            protocol_min: 1,
            protocol_max: 1,
            cluster_name: "kv".to_owned(),
            founders: 7,
            cluster: None,
            lineage: Lineage(0),
            origin: 0,
            feature_level: 1,
            id: NodeId(id),
            name: format!("n{id}").parse().unwrap(),
            to: NodeId(to),
            birth: Nonce(u128::from(id)),
            boot: BootRecord::default(),
            address: String::new(),
        }
    }

    fn unborn() -> View {
        let member = |id: u32| MemberView {
            id: NodeId(id),
            name: format!("n{id}").parse().unwrap(),
            peer_address: String::new(),
            liveness: Liveness::Down,
            facts: None,
            clock_offset_ns: 0,
            left_out: None,
        };
        View {
            phase: Phase::Founding(String::new()),
            hello: hello(1, 0),
            client_address: String::new(),
            state: None,
            members: vec![member(2), member(3)],
            serving_since: None,
            hints: HintGauges::default(),
            repair: RepairGauges::default(),
            transfer_taken: 0,
            health: Default::default(),
            links_left_out: 0,
            reserve: None,
            hottest_share: 0.0,
            keeper: Default::default(),
        }
    }

    fn born() -> View {
        let member = |id: u32| Member {
            id: NodeId(id),
            name: format!("n{id}").parse().unwrap(),
            addresses: Addresses::default(),
            zone: Zone::default(),
            weight_milli: 1000,
            role: Role::Active,
            birth: Nonce(u128::from(id)),
        };
        let mut view = unborn();
        view.hello.cluster = Some(ClusterId(5));
        view.hello.founders = 0;
        view.state = Some(Arc::new(ClusterState {
            epoch: Epoch(1),
            parent: 0,
            cluster: ClusterId(5),
            lineage: Lineage(0),
            feature_level: 1,
            settings: Settings { name: "kv".to_owned(), partitions: 1 },
            members: (1..=3).map(member).collect(),
            council: vec![NodeId(1)],
            ring: vec![NodeId(1)],
            classes: Vec::new(),
            tables: Vec::new(),
            table_id_max: TableId(0),
            dropped_at: Epoch(0),
            recent_changes: Vec::new(),
            topology: crate::types::Topology { member_id_max: NodeId(3), ..Default::default() },
        }));
        view
    }

    fn verdict(view: &View, change: impl FnOnce(&mut Hello)) -> Result<(), HelloRefusal> {
        let mut hello = hello(2, 1);
        hello.cluster = view.hello.cluster;
        hello.founders = view.hello.founders;
        change(&mut hello);
        judge(view, &hello)
    }

    #[test]
    fn a_member_and_a_fellow_founder_are_welcome() {
        assert_eq!(verdict(&unborn(), |_| ()), Ok(()));
        assert_eq!(verdict(&born(), |_| ()), Ok(()));
    }

    #[test]
    fn a_member_that_has_not_heard_of_the_birth_yet_is_welcome() {
        let unaware = |hello: &mut Hello| {
            hello.cluster = None;
            hello.founders = 7;
        };
        assert_eq!(verdict(&born(), unaware), Ok(()));
    }

    #[test]
    fn a_born_node_may_tell_an_unborn_one() {
        assert_eq!(verdict(&unborn(), |hello| hello.cluster = Some(ClusterId(5))), Ok(()));
    }

    #[test]
    fn each_rule_has_its_own_refusal() {
        use HelloRefusal::{Cluster, Founders, Lineage as Line, Misdirected, Protocol, Stranger};
        let range = |hello: &mut Hello| (hello.protocol_min, hello.protocol_max) = (2, 3);
        assert!(matches!(verdict(&born(), range), Err(Protocol { theirs_min: 2, .. })));
        let name = |hello: &mut Hello| hello.cluster_name = "other".to_owned();
        assert!(matches!(verdict(&unborn(), name), Err(Cluster { .. })));
        let id = |hello: &mut Hello| hello.cluster = Some(ClusterId(6));
        assert!(matches!(verdict(&born(), id), Err(Cluster { .. })));
        let lineage = |hello: &mut Hello| hello.lineage = Lineage(1);
        assert!(matches!(verdict(&born(), lineage), Err(Line { theirs: 1, ours: 0, state: None })));
        let mut later = born();
        later.hello.lineage = Lineage(1);
        let told = verdict(&later, |_| ());
        assert!(matches!(told, Err(Line { theirs: 0, ours: 1, state: Some(_) })), "{told:?}");
        let rival = |hello: &mut Hello| hello.origin = 9;
        let told = verdict(&born(), rival);
        assert_eq!(told, Err(HelloRefusal::Rival { lineage: 0, theirs: 9, ours: 0 }));
        {
            let _armed = crate::testing::arm_mutant("rivals-talk");
            assert_eq!(verdict(&born(), rival), Ok(()));
        }
        let founders = |hello: &mut Hello| (hello.founders, hello.to) = (8, NodeId(3));
        assert!(matches!(verdict(&unborn(), founders), Err(Founders { .. })));
        let to = |hello: &mut Hello| hello.to = NodeId(3);
        assert!(matches!(verdict(&born(), to), Err(Misdirected { .. })));
        let birth = |hello: &mut Hello| hello.birth = Nonce(99);
        assert!(matches!(verdict(&born(), birth), Err(Stranger { .. })));
        let nobody = |hello: &mut Hello| hello.id = NodeId(4);
        assert!(matches!(verdict(&born(), nobody), Err(HelloRefusal::Unheard { .. })));
        let mut view = born();
        let mut state = ClusterState::clone(view.state.as_ref().unwrap());
        state.topology.gone = vec![(NodeId(3), Nonce(33))];
        state.members.pop();
        view.state = Some(Arc::new(state));
        let gone = |hello: &mut Hello| (hello.id, hello.birth) = (NodeId(3), Nonce(33));
        assert!(matches!(verdict(&view, gone), Err(HelloRefusal::Gone { .. })));
        // One that was left out by force stays an owner, and a stranger, until a plan has replaced it.
        let mut state = ClusterState::clone(born().state.as_ref().unwrap());
        state.topology.gone = vec![(NodeId(2), Nonce(2))];
        let left_out = View { state: Some(Arc::new(state)), ..born() };
        assert!(matches!(verdict(&left_out, |_| ()), Err(HelloRefusal::Gone { .. })));
        let other = |hello: &mut Hello| hello.id = NodeId(3);
        assert!(matches!(verdict(&view, other), Err(Stranger { .. })));
        assert!(matches!(verdict(&unborn(), nobody), Err(Stranger { .. })));
        let myself = |hello: &mut Hello| hello.id = NodeId(1);
        assert!(matches!(verdict(&born(), myself), Err(Stranger { .. })));
    }
}

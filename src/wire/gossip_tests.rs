//! Messages of membership, for the round trips in `tests`, and their bounds.

use core::time::Duration;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::sync::Arc;

use super::peer;
use super::tests::facts;
use crate::message::{
    FactsVersion, Hearsay, Held, Incarnation, Liveness, MemberSync, PeerMessage, Probe, ProbeFacts,
    Rumour,
};
use crate::types::{NodeId, limits};

pub(super) fn message() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![
        probe().prop_map(|probe| PeerMessage::Probe(Box::new(probe))),
        probe().prop_map(|probe| PeerMessage::ProbeAck(Box::new(probe))),
        probe().prop_map(|probe| PeerMessage::News(Box::new(probe))),
        (any::<(u64, u32, bool)>()).prop_map(|(seq, target, heard)| {
            let target = NodeId(target);
            if seq % 2 == 0 {
                PeerMessage::ProbeVia { seq, target }
            } else {
                PeerMessage::Vouch { seq, target, heard }
            }
        }),
        sync().prop_map(|sync| PeerMessage::MemberSync(Box::new(sync))),
    ]
}

fn held() -> impl Strategy<Value = Held> {
    let liveness = vec![Liveness::Alive, Liveness::Suspect, Liveness::Down];
    (any::<(u64, u32, u64)>(), prop::sample::select(liveness)).prop_map(
        |((boot, refuted, seq), liveness)| {
            let incarnation = Incarnation { boot, refuted };
            Held { version: FactsVersion { incarnation, seq }, liveness }
        },
    )
}

fn rumour() -> impl Strategy<Value = Rumour> {
    (any::<u32>(), held(), vec(any::<u32>(), 0..=limits::ACCUSERS_MAX)).prop_map(
        |(member, held, by)| Rumour {
            member: NodeId(member),
            incarnation: held.version.incarnation,
            liveness: held.liveness,
            by: by.into_iter().map(NodeId).collect(),
        },
    )
}

fn hearsay() -> impl Strategy<Value = Hearsay> {
    (any::<(u32, u32)>(), held(), facts()).prop_map(|((member, age), held, facts)| Hearsay {
        member: NodeId(member),
        version: held.version,
        age: Duration::from_millis(age.into()),
        facts: Arc::from(facts),
    })
}

fn probe() -> impl Strategy<Value = Probe> {
    let told = (vec(rumour(), 0..3), vec(hearsay(), 0..3));
    (any::<u64>(), facts(), held(), option::of(held()), told).prop_map(
        |(seq, facts, held, of_you, (rumours, hearsay))| {
            let (facts, version) = (Arc::from(facts), held.version);
            Probe { seq, facts, version, of_you, rumours, hearsay }
        },
    )
}

fn sync() -> impl Strategy<Value = MemberSync> {
    let entry = (any::<u32>().prop_map(NodeId), held());
    let told = (vec(rumour(), 0..3), vec(hearsay(), 0..3), vec(any::<u32>(), 0..4));
    prop_oneof![
        vec(entry, 0..4).prop_map(MemberSync::Digest),
        told.prop_map(|(rumours, hearsay, wanted)| {
            let wanted = wanted.into_iter().map(NodeId).collect();
            MemberSync::Newer { rumours, hearsay, wanted }
        }),
    ]
}

fn malformed(message: PeerMessage) -> bool {
    peer::message_from_wire(peer::message_to_wire(message)).is_err()
}

#[test]
fn more_than_a_message_may_carry_is_refused() {
    let version = FactsVersion::default();
    let rumour = |by| Rumour {
        member: NodeId(1),
        incarnation: version.incarnation,
        liveness: Liveness::Suspect,
        by: vec![NodeId(2); by],
    };
    let facts: Arc<ProbeFacts> = Arc::default();
    let hearsay = Hearsay { member: NodeId(1), version, age: Duration::ZERO, facts };
    let probe = |rumours: usize, by, others: usize| {
        let (rumours, hearsay) = (vec![rumour(by); rumours], vec![hearsay.clone(); others]);
        let facts = Arc::default();
        let probe = Probe { seq: 1, facts, version, of_you: None, rumours, hearsay };
        PeerMessage::Probe(Box::new(probe))
    };
    assert!(!malformed(probe(limits::RUMOURS_MAX, limits::ACCUSERS_MAX, limits::HEARSAY_MAX)));
    assert!(malformed(probe(limits::RUMOURS_MAX + 1, 0, 0)));
    assert!(malformed(probe(1, limits::ACCUSERS_MAX + 1, 0)));
    assert!(malformed(probe(0, 0, limits::HEARSAY_MAX + 1)));
    let held = Held { version, liveness: Liveness::Down };
    let digest = |count| {
        PeerMessage::MemberSync(Box::new(MemberSync::Digest(vec![(NodeId(1), held); count])))
    };
    assert!(!malformed(digest(limits::MEMBERS_MAX + 1)));
    assert!(malformed(digest(limits::MEMBERS_MAX + 2)));
}

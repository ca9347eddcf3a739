//! What members tell each other about members, between `message` and `proto/peer.proto`.

use core::time::Duration;
use std::sync::Arc;

use crate::message::{
    FactsVersion, Hearsay, Held, Incarnation, Liveness, MemberSync, Probe, Rumour,
};
use crate::types::{NodeId, limits};

use super::peer::{Malformed, required};
use super::probe::{facts_from_wire, facts_to_wire};
use super::proto::peer as pb;

/// Everybody, and the sender.
const ALL_MAX: usize = limits::MEMBERS_MAX + 1;

pub(super) fn probe_to_wire(probe: Probe) -> pb::Probe {
    pb::Probe {
        seq: probe.seq,
        facts: Some(facts_to_wire(&probe.facts)),
        version: Some(version_to_wire(probe.version)),
        of_you: probe.of_you.map(held_to_wire),
        rumours: probe.rumours.into_iter().map(rumour_to_wire).collect(),
        hearsay: probe.hearsay.into_iter().map(hearsay_to_wire).collect(),
    }
}

pub(super) fn probe_from_wire(probe: pb::Probe) -> Result<Probe, Malformed> {
    at_most(probe.rumours.len(), limits::RUMOURS_MAX, "rumours")?;
    at_most(probe.hearsay.len(), limits::HEARSAY_MAX, "facts of others")?;
    Ok(Probe {
        seq: probe.seq,
        facts: Arc::new(facts_from_wire(required(probe.facts, "facts")?)?),
        version: version_from_wire(probe.version)?,
        of_you: probe.of_you.map(held_from_wire).transpose()?,
        rumours: rumours_from_wire(probe.rumours)?,
        hearsay: hearsay_from_wire(probe.hearsay)?,
    })
}

pub(super) fn sync_to_wire(sync: MemberSync) -> pb::MemberSync {
    use pb::member_sync::{Body, Digest, Entry, Newer};
    let entry =
        |(member, held): (NodeId, Held)| Entry { member: member.0, held: Some(held_to_wire(held)) };
    let body = match sync {
        MemberSync::Digest(entries) => {
            Body::Digest(Digest { entries: entries.into_iter().map(entry).collect() })
        }
        MemberSync::Newer { rumours, hearsay, wanted } => Body::Newer(Newer {
            rumours: rumours.into_iter().map(rumour_to_wire).collect(),
            hearsay: hearsay.into_iter().map(hearsay_to_wire).collect(),
            wanted: wanted.into_iter().map(|member| member.0).collect(),
        }),
    };
    pb::MemberSync { body: Some(body) }
}

pub(super) fn sync_from_wire(sync: pb::MemberSync) -> Result<MemberSync, Malformed> {
    use pb::member_sync::{Body, Entry};
    let entry = |entry: Entry| -> Result<(NodeId, Held), Malformed> {
        Ok((NodeId(entry.member), held_from_wire(required(entry.held, "held")?)?))
    };
    match required(sync.body, "sync")? {
        Body::Digest(digest) => {
            at_most(digest.entries.len(), ALL_MAX, "members")?;
            let entries = digest.entries.into_iter().map(entry).collect::<Result<_, _>>()?;
            Ok(MemberSync::Digest(entries))
        }
        Body::Newer(newer) => {
            at_most(newer.rumours.len(), ALL_MAX, "rumours")?;
            at_most(newer.hearsay.len(), ALL_MAX, "facts of others")?;
            at_most(newer.wanted.len(), ALL_MAX, "wanted members")?;
            Ok(MemberSync::Newer {
                rumours: rumours_from_wire(newer.rumours)?,
                hearsay: hearsay_from_wire(newer.hearsay)?,
                wanted: newer.wanted.into_iter().map(NodeId).collect(),
            })
        }
    }
}

fn at_most(got: usize, limit: usize, what: &str) -> Result<(), Malformed> {
    if got > limit {
        return Err(Malformed::new(format!("{got} {what}; at most {limit} are taken")));
    }
    Ok(())
}

fn incarnation_to_wire(incarnation: Incarnation) -> pb::Incarnation {
    pb::Incarnation { boot: incarnation.boot, refuted: incarnation.refuted }
}

fn incarnation_from_wire(incarnation: Option<pb::Incarnation>) -> Result<Incarnation, Malformed> {
    let pb::Incarnation { boot, refuted } = required(incarnation, "incarnation")?;
    Ok(Incarnation { boot, refuted })
}

fn version_to_wire(version: FactsVersion) -> pb::FactsVersion {
    let incarnation = Some(incarnation_to_wire(version.incarnation));
    pb::FactsVersion { incarnation, seq: version.seq }
}

fn version_from_wire(version: Option<pb::FactsVersion>) -> Result<FactsVersion, Malformed> {
    let pb::FactsVersion { incarnation, seq } = required(version, "version")?;
    Ok(FactsVersion { incarnation: incarnation_from_wire(incarnation)?, seq })
}

fn liveness_to_wire(liveness: Liveness) -> i32 {
    let liveness = match liveness {
        Liveness::Alive => pb::Liveness::Alive,
        Liveness::Suspect => pb::Liveness::Suspect,
        // Who has left is in no state, and nobody speaks of it.
        Liveness::Down | Liveness::Left => pb::Liveness::Down,
    };
    liveness.into()
}

fn liveness_from_wire(liveness: pb::Liveness) -> Result<Liveness, Malformed> {
    match liveness {
        pb::Liveness::Unspecified => Err(Malformed::new("the liveness of a member")),
        pb::Liveness::Alive => Ok(Liveness::Alive),
        pb::Liveness::Suspect => Ok(Liveness::Suspect),
        pb::Liveness::Down => Ok(Liveness::Down),
    }
}

fn held_to_wire(held: Held) -> pb::Held {
    let liveness = liveness_to_wire(held.liveness);
    pb::Held { version: Some(version_to_wire(held.version)), liveness }
}

fn held_from_wire(held: pb::Held) -> Result<Held, Malformed> {
    let liveness = liveness_from_wire(held.liveness())?;
    Ok(Held { version: version_from_wire(held.version)?, liveness })
}

fn rumour_to_wire(rumour: Rumour) -> pb::Rumour {
    pb::Rumour {
        member: rumour.member.0,
        incarnation: Some(incarnation_to_wire(rumour.incarnation)),
        liveness: liveness_to_wire(rumour.liveness),
        by: rumour.by.into_iter().map(|member| member.0).collect(),
    }
}

fn rumours_from_wire(rumours: Vec<pb::Rumour>) -> Result<Vec<Rumour>, Malformed> {
    let rumour = |rumour: pb::Rumour| {
        at_most(rumour.by.len(), limits::ACCUSERS_MAX, "accusers")?;
        Ok(Rumour {
            member: NodeId(rumour.member),
            liveness: liveness_from_wire(rumour.liveness())?,
            incarnation: incarnation_from_wire(rumour.incarnation)?,
            by: rumour.by.into_iter().map(NodeId).collect(),
        })
    };
    rumours.into_iter().map(rumour).collect()
}

fn hearsay_to_wire(hearsay: Hearsay) -> pb::Hearsay {
    pb::Hearsay {
        member: hearsay.member.0,
        version: Some(version_to_wire(hearsay.version)),
        age_ms: u64::try_from(hearsay.age.as_millis()).unwrap_or(u64::MAX),
        facts: Some(facts_to_wire(&hearsay.facts)),
    }
}

fn hearsay_from_wire(hearsay: Vec<pb::Hearsay>) -> Result<Vec<Hearsay>, Malformed> {
    let one = |hearsay: pb::Hearsay| {
        Ok(Hearsay {
            member: NodeId(hearsay.member),
            version: version_from_wire(hearsay.version)?,
            age: Duration::from_millis(hearsay.age_ms),
            facts: Arc::new(facts_from_wire(required(hearsay.facts, "facts")?)?),
        })
    };
    hearsay.into_iter().map(one).collect()
}

//! What members tell each other of what they know of a key, between `message` and `proto/peer.proto`.

use crate::causality::Dot;
use crate::message::{
    ExplainMessage, KeptVersion, KeyFacts, OwnCopy, RegisterFacts, SiblingFacts, VersionFacts,
};
use crate::types::{Epoch, NodeId, Stamp, TableId, Tenure, WallTime, limits};

use super::peer::{
    Malformed, key_from_wire, micros, remaining, required, round_from_wire, round_to_wire,
    stamp_from_wire, stamp_to_wire,
};
use super::proto::peer as pb;

/// A message as it travels.
pub(super) fn key_facts_to_wire(message: ExplainMessage) -> pb::Explain {
    use pb::explain::Body;
    let (round, body) = match message {
        ExplainMessage::Ask { round, table, key, remaining } => {
            let (table, key) = (table.0, key.bytes().clone());
            (round, Body::Ask(pb::ExplainAsk { table, key, remaining_us: micros(remaining) }))
        }
        ExplainMessage::Answer { round, result: Ok(facts) } => {
            (round, Body::Answer(facts_to_wire(facts)))
        }
        ExplainMessage::Answer { round, result: Err(why) } => (round, Body::Refused(why)),
    };
    pb::Explain { round: round_to_wire(round), body: Some(body) }
}

/// A foreign message, checked.
pub(super) fn key_facts_from_wire(message: pb::Explain) -> Result<ExplainMessage, Malformed> {
    use pb::explain::Body;
    let round = round_from_wire(message.round)?;
    Ok(match required(message.body, "body")? {
        Body::Ask(ask) => ExplainMessage::Ask {
            round,
            table: TableId(ask.table),
            key: key_from_wire(ask.key)?,
            remaining: remaining(ask.remaining_us),
        },
        Body::Answer(facts) => {
            ExplainMessage::Answer { round, result: Ok(facts_from_wire(facts)?) }
        }
        Body::Refused(text) => ExplainMessage::Answer { round, result: Err(why(text)?) },
    })
}

/// A reason, within its bound.
fn why(text: String) -> Result<String, Malformed> {
    let (len, most) = (text.len(), limits::EXPLAIN_WHY_BYTES_MAX);
    if len > most {
        return Err(Malformed::new(format!("a reason has {len} bytes; the limit is {most}")));
    }
    Ok(text)
}

fn facts_to_wire(facts: KeyFacts) -> pb::KeyFacts {
    use pb::key_facts::Own;
    let own = match facts.copy {
        OwnCopy::NotOwner => Own::NotOwner(true),
        OwnCopy::Untold(why) => Own::Untold(why),
        OwnCopy::Version(held) => Own::Version(pb::KeyVersion { held: held.map(version_to_wire) }),
        OwnCopy::Register(RegisterFacts { promised, accepted, version }) => {
            Own::Register(pb::KeyRegister {
                promised: Some(stamp_to_wire(promised)),
                accepted: Some(stamp_to_wire(accepted)),
                held: version.map(version_to_wire),
            })
        }
        OwnCopy::Siblings(siblings) => {
            let siblings = siblings.into_iter().map(sibling_to_wire).collect();
            Own::Siblings(pb::KeySiblings { siblings })
        }
    };
    let hint = |kept: KeptVersion| pb::KeyHint {
        target: kept.target.0,
        version: Some(version_to_wire(kept.version)),
    };
    let hints = facts.hints.into_iter().map(hint).collect();
    pb::KeyFacts { epoch: facts.epoch.0, own: Some(own), hints }
}

fn facts_from_wire(facts: pb::KeyFacts) -> Result<KeyFacts, Malformed> {
    use pb::key_facts::Own;
    let copy = match required(facts.own, "own")? {
        Own::NotOwner(_) => OwnCopy::NotOwner,
        Own::Untold(text) => OwnCopy::Untold(why(text)?),
        Own::Version(copy) => OwnCopy::Version(copy.held.map(version_from_wire).transpose()?),
        Own::Register(copy) => OwnCopy::Register(RegisterFacts {
            promised: stamp_from_wire(required(copy.promised, "promised")?),
            accepted: stamp_from_wire(required(copy.accepted, "accepted")?),
            version: copy.held.map(version_from_wire).transpose()?,
        }),
        Own::Siblings(copy) => {
            let (count, most) = (copy.siblings.len(), limits::EXPLAIN_SIBLINGS_MAX);
            if count > most {
                return Err(Malformed::new(format!("{count} siblings; the limit is {most}")));
            }
            let siblings = copy.siblings.into_iter().map(sibling_from_wire);
            OwnCopy::Siblings(siblings.collect::<Result<_, _>>()?)
        }
    };
    let count = facts.hints.len();
    if count > usize::from(limits::REPLICAS_MAX) {
        return Err(Malformed::new(format!("{count} hints of one key")));
    }
    let hint = |kept: pb::KeyHint| {
        let version = version_from_wire(required(kept.version, "version")?)?;
        Ok(KeptVersion { target: NodeId(kept.target), version })
    };
    let hints = facts.hints.into_iter().map(hint).collect::<Result<_, Malformed>>()?;
    Ok(KeyFacts { epoch: Epoch(facts.epoch), copy, hints })
}

fn version_to_wire(facts: VersionFacts) -> pb::VersionFacts {
    pb::VersionFacts {
        stamp: Some(stamp_to_wire(facts.stamp)),
        bytes: facts.bytes,
        tombstone: facts.tombstone,
        expires_ns: facts.expiry.map(|at| at.0),
    }
}

fn version_from_wire(facts: pb::VersionFacts) -> Result<VersionFacts, Malformed> {
    Ok(VersionFacts {
        stamp: stamp_from_wire(required(facts.stamp, "stamp")?),
        bytes: facts.bytes,
        tombstone: facts.tombstone,
        expiry: facts.expires_ns.map(WallTime),
    })
}

fn sibling_to_wire(facts: SiblingFacts) -> pb::SiblingFacts {
    pb::SiblingFacts {
        stamp: Some(stamp_to_wire(facts.dot.stamp())),
        tenure: facts.dot.actor.tenure.0,
        bytes: facts.bytes,
        expires_ns: facts.expiry.map(|at| at.0),
    }
}

fn sibling_from_wire(facts: pb::SiblingFacts) -> Result<SiblingFacts, Malformed> {
    let stamp: Stamp = stamp_from_wire(required(facts.stamp, "stamp")?);
    Ok(SiblingFacts {
        dot: Dot::new(stamp, Tenure(facts.tenure)),
        bytes: facts.bytes,
        expiry: facts.expires_ns.map(WallTime),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{PeerMessage, RoundId};
    use crate::types::Key;
    use crate::wire::peer::{message_from_wire, message_to_wire};
    use core::time::Duration;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    fn stamps() -> impl Strategy<Value = Stamp> {
        any::<[u8; 16]>().prop_map(Stamp::from_bytes)
    }

    fn versions() -> impl Strategy<Value = VersionFacts> {
        (stamps(), any::<(u64, bool, Option<u64>)>()).prop_map(|(stamp, rest)| {
            let (bytes, tombstone, expiry) = rest;
            VersionFacts { stamp, bytes, tombstone, expiry: expiry.map(WallTime) }
        })
    }

    fn copies() -> impl Strategy<Value = OwnCopy> {
        let sibling = (stamps(), any::<(u64, u64, Option<u64>)>()).prop_map(|(stamp, rest)| {
            let (tenure, bytes, expiry) = rest;
            let dot = Dot::new(stamp, Tenure(tenure));
            SiblingFacts { dot, bytes, expiry: expiry.map(WallTime) }
        });
        let register = (stamps(), stamps(), option::of(versions()));
        prop_oneof![
            Just(OwnCopy::NotOwner),
            "[a-z]{0,40}".prop_map(OwnCopy::Untold),
            option::of(versions()).prop_map(OwnCopy::Version),
            register.prop_map(|(promised, accepted, version)| {
                OwnCopy::Register(RegisterFacts { promised, accepted, version })
            }),
            vec(sibling, 0..9).prop_map(OwnCopy::Siblings),
        ]
    }

    fn messages() -> impl Strategy<Value = ExplainMessage> {
        let round = any::<(u64, u32)>().prop_map(|(op, round)| RoundId { op, round });
        let hint = (any::<u32>(), versions())
            .prop_map(|(target, version)| KeptVersion { target: NodeId(target), version });
        let facts = (any::<u64>(), copies(), vec(hint, 0..5))
            .prop_map(|(epoch, copy, hints)| KeyFacts { epoch: Epoch(epoch), copy, hints });
        let result = prop_oneof![facts.prop_map(Ok), "[a-z]{0,40}".prop_map(Err)];
        let key = vec(any::<u8>(), 1..40).prop_map(|bytes| Key::new(bytes).unwrap());
        prop_oneof![
            (round.clone(), any::<u32>(), key, 0..60_000_000u64).prop_map(
                |(round, table, key, us)| {
                    let remaining = Duration::from_micros(us);
                    ExplainMessage::Ask { round, table: TableId(table), key, remaining }
                }
            ),
            (round, result).prop_map(|(round, result)| ExplainMessage::Answer { round, result }),
        ]
    }

    proptest! {
        #[test]
        fn questions_and_facts_read_back(message in messages()) {
            let message = PeerMessage::Explain(Box::new(message));
            prop_assert_eq!(message_from_wire(message_to_wire(message.clone())), Ok(message));
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_refused() {
        let refused = |message: pb::Explain| key_facts_from_wire(message).is_err();
        let round = round_to_wire(RoundId::default());
        assert!(refused(pb::Explain::default()));
        assert!(refused(pb::Explain { round, body: None }));
        let ask = pb::ExplainAsk::default();
        assert!(refused(pb::Explain { round, body: Some(pb::explain::Body::Ask(ask)) }));
        let long = "x".repeat(limits::EXPLAIN_WHY_BYTES_MAX + 1);
        let body = Some(pb::explain::Body::Refused(long.clone()));
        assert!(refused(pb::Explain { round, body }));
        let answer = |own, hints: usize| {
            let hints = vec![pb::KeyHint::default(); hints];
            let facts = pb::KeyFacts { epoch: 1, own, hints };
            pb::Explain { round, body: Some(pb::explain::Body::Answer(facts)) }
        };
        assert!(refused(answer(None, 0)));
        assert!(refused(answer(Some(pb::key_facts::Own::Untold(long)), 0)));
        let none = Some(pb::key_facts::Own::NotOwner(true));
        assert!(!refused(answer(none.clone(), 0)));
        assert!(refused(answer(none, 1)), "a hint without a version");
        let one =
            pb::SiblingFacts { stamp: Some(stamp_to_wire(Stamp::ZERO)), ..Default::default() };
        let many = pb::KeySiblings { siblings: vec![one; limits::EXPLAIN_SIBLINGS_MAX + 1] };
        assert!(refused(answer(Some(pb::key_facts::Own::Siblings(many)), 0)));
    }
}

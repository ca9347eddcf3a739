//! What one node knows of a key, between `message` and `proto/admin.proto`.

use bytes::Bytes;

use crate::message::{
    AdminRequest, ExplainReply, KeptVersion, Locate, OpError, OwnCopy, SiblingFacts, VersionFacts,
};

use crate::types::Stamp;

use super::client::{key_from_wire, table_from_wire};
use super::proto::admin as pb;

/// The question, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn explain_from_wire(ask: pb::ExplainRequest) -> Result<AdminRequest, OpError> {
    let table = table_from_wire(ask.table)?;
    Ok(AdminRequest::Explain(Locate { table, key: key_from_wire(ask.key)? }))
}

/// The answer.
pub fn explain_to_wire(reply: ExplainReply) -> pb::ExplainResponse {
    let ExplainReply { copy, hints, .. } = reply;
    let (mut version, mut siblings, mut untold) = (None, Vec::new(), String::new());
    let mut register = None;
    let owns = copy != OwnCopy::NotOwner;
    match copy {
        OwnCopy::NotOwner => {}
        OwnCopy::Untold(why) => untold = why,
        OwnCopy::Version(facts) => version = facts.map(version_to_wire),
        OwnCopy::Register(facts) => {
            register = Some(pb::explain_response::Register {
                promised: ballot_to_wire(facts.promised),
                accepted: ballot_to_wire(facts.accepted),
                version: facts.version.map(version_to_wire),
            });
        }
        OwnCopy::Siblings(facts) => siblings.extend(facts.into_iter().map(sibling_to_wire)),
    }
    let hint = |kept: KeptVersion| pb::explain_response::Hint {
        target: kept.target.into(),
        version: Some(version_to_wire(kept.version)),
    };
    pb::ExplainResponse {
        me: reply.me.into(),
        epoch: reply.epoch.0,
        class: reply.unit.class.0.into(),
        partition: reply.unit.partition.0.into(),
        changed_at: reply.changed_at.0,
        kind: reply.kind.to_string(),
        owners: reply.owners.into_iter().map(String::from).collect(),
        reachable: reply.reachable.into(),
        wall_ns: reply.wall.0,
        owns,
        untold,
        version,
        siblings,
        register,
        hints: hints.into_iter().map(hint).collect(),
    }
}

fn ballot_to_wire(ballot: Stamp) -> Bytes {
    if ballot == Stamp::ZERO { Bytes::new() } else { Bytes::copy_from_slice(&ballot.to_bytes()) }
}

fn version_to_wire(facts: VersionFacts) -> pb::explain_response::Version {
    pb::explain_response::Version {
        stamp: Bytes::copy_from_slice(&facts.stamp.to_bytes()),
        bytes: facts.bytes,
        tombstone: facts.tombstone,
        expires_ns: facts.expiry.map(|at| at.0),
    }
}

fn sibling_to_wire(facts: SiblingFacts) -> pb::explain_response::Sibling {
    pb::explain_response::Sibling {
        dot: facts.dot.to_string(),
        stamp: Bytes::copy_from_slice(&facts.dot.stamp().to_bytes()),
        bytes: facts.bytes,
        expires_ns: facts.expiry.map(|at| at.0),
    }
}

//! What is known of a key, as operators are told, between `message` and `proto/admin.proto`.

use bytes::Bytes;

use crate::message::{
    AdminRequest, ExplainReply, HintFacts, Locate, OpError, OwnCopy, OwnerReply, SiblingFacts,
    VersionFacts,
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
    let silent = reply.silent.into_iter();
    let silent = silent.map(|(node, why)| pb::explain_response::Silent { node: node.into(), why });
    pb::ExplainResponse {
        me: reply.me.into(),
        epoch: reply.epoch.0,
        class: reply.unit.class.0.into(),
        partition: reply.unit.partition.0.into(),
        changed_at: reply.changed_at.0,
        kind: reply.kind.to_string(),
        owners: reply.owners.into_iter().map(owner_to_wire).collect(),
        silent: silent.collect(),
        newest: reply.newest.map_or_else(Bytes::new, ballot_to_wire),
        agree: reply.agree,
        in_all: reply.in_all,
    }
}

fn owner_to_wire(owner: OwnerReply) -> pb::explain_response::Owner {
    let mut told = pb::explain_response::Owner {
        node: owner.node.into(),
        state: owner.liveness.as_str().to_owned(),
        durable: owner.durable,
        verdict: owner.verdict.code.to_owned(),
        why: owner.verdict.why,
        ..Default::default()
    };
    match owner.copy {
        Err(why) => told.unanswered = why,
        Ok(OwnCopy::NotOwner) => told.untold = "it is no owner".to_owned(),
        Ok(OwnCopy::Untold(why)) => told.untold = why,
        Ok(OwnCopy::Version(facts)) => told.version = facts.map(version_to_wire),
        Ok(OwnCopy::Register(facts)) => {
            told.register = Some(pb::explain_response::Register {
                promised: ballot_to_wire(facts.promised),
                accepted: ballot_to_wire(facts.accepted),
                version: facts.version.map(version_to_wire),
            });
        }
        Ok(OwnCopy::Siblings(facts)) => {
            told.siblings = facts.into_iter().map(sibling_to_wire).collect();
        }
    }
    let hint = |kept: HintFacts| pb::explain_response::Hint {
        holder: kept.holder.into(),
        version: Some(version_to_wire(kept.version)),
    };
    told.hints = owner.hints.into_iter().map(hint).collect();
    told
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

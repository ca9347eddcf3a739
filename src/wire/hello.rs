//! The greeting that opens a stream between nodes, and its answers.

use std::sync::Arc;

use bytes::Bytes;

use crate::message::{Hello, HelloRefusal, Lane};
use crate::types::{ClusterId, Lineage, NodeId, Nonce, limits};

use super::peer::{
    ADDRESS_BYTES_MAX, Malformed, boot_from_wire, boot_to_wire, node_name, required, wide,
    wide_bytes,
};
use super::proto::peer as pb;
use super::state::{state_from_wire, state_to_wire};

/// Longest free text a node accepts from another.
const TEXT_BYTES_MAX: usize = 1024;

/// A batch that carries nothing but a greeting.
pub fn hello_batch(hello: &Hello, lane: Lane) -> pb::PeerBatch {
    let opening = pb::peer_batch::Opening::Hello(pb::Hello {
        protocol_min: hello.protocol_min,
        protocol_max: hello.protocol_max,
        cluster_name: hello.cluster_name.clone(),
        founders: wide_bytes(hello.founders),
        cluster: hello.cluster.map_or_else(Bytes::new, |cluster| wide_bytes(cluster.0)),
        lineage: hello.lineage.0,
        origin: match hello.origin {
            0 => Bytes::new(),
            origin => wide_bytes(origin),
        },
        feature_level: hello.feature_level,
        id: hello.id.0,
        name: hello.name.as_str().to_owned(),
        to: hello.to.0,
        birth: wide_bytes(hello.birth.0),
        boot: Some(boot_to_wire(hello.boot)),
        address: hello.address.clone(),
        lane: match lane {
            Lane::Small => pb::Lane::Small.into(),
            Lane::Bulk => pb::Lane::Bulk.into(),
        },
    });
    pb::PeerBatch { opening: Some(opening), ops: Vec::new() }
}

/// The greeting that must be the first batch of a stream.
///
/// # Errors
/// [`Malformed`]: it is no greeting, or a part of it is outside its bounds.
pub fn hello_from_wire(batch: pb::PeerBatch) -> Result<(Hello, Lane), Malformed> {
    let Some(pb::peer_batch::Opening::Hello(hello)) = batch.opening else {
        return Err(Malformed::new("the first batch is no greeting"));
    };
    let lane = match pb::Lane::try_from(hello.lane) {
        Ok(pb::Lane::Small) => Lane::Small,
        Ok(pb::Lane::Bulk) => Lane::Bulk,
        Err(_) => return Err(Malformed::new(format!("there is no lane {}", hello.lane))),
    };
    let cluster = (!hello.cluster.is_empty()).then(|| wide(&hello.cluster, "cluster"));
    let founders = if hello.founders.is_empty() { 0 } else { wide(&hello.founders, "founders")? };
    let greeting = Hello {
        protocol_min: hello.protocol_min,
        protocol_max: hello.protocol_max,
        cluster_name: text(hello.cluster_name)?,
        founders,
        cluster: cluster.transpose()?.map(ClusterId),
        lineage: Lineage(hello.lineage),
        origin: if hello.origin.is_empty() { 0 } else { wide(&hello.origin, "origin")? },
        feature_level: hello.feature_level,
        id: NodeId(hello.id),
        name: node_name(hello.name)?,
        to: NodeId(hello.to),
        birth: Nonce(wide(&hello.birth, "birth")?),
        boot: boot_from_wire(required(hello.boot, "boot")?)?,
        address: address(hello.address)?,
    };
    Ok((greeting, lane))
}

/// An address, of bounded length.
fn address(address: String) -> Result<String, Malformed> {
    if address.len() > ADDRESS_BYTES_MAX {
        return Err(Malformed::new("an address is too long"));
    }
    Ok(address)
}

/// A batch that carries nothing but a welcome to `hello`.
pub fn ack_batch(hello: &Hello) -> pb::PeerBatch {
    let ack = pb::HelloAck {
        protocol: hello.protocol_max.min(limits::PROTOCOL_MAX),
        feature_level: limits::FEATURE_LEVEL,
    };
    pb::PeerBatch { opening: Some(pb::peer_batch::Opening::Ack(ack)), ops: Vec::new() }
}

/// A batch that carries nothing but a refusal.
pub fn refusal_batch(refusal: &HelloRefusal) -> pb::PeerBatch {
    let opening = pb::peer_batch::Opening::Refusal(refusal_to_wire(refusal.clone()));
    pb::PeerBatch { opening: Some(opening), ops: Vec::new() }
}

/// What the answering half of a stream said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloAnswer {
    /// Welcome.
    Welcome,
    /// Not welcome.
    Refused(HelloRefusal),
}

/// The answer to a greeting.
///
/// # Errors
/// [`Malformed`]: it is neither a welcome nor a refusal.
pub fn answer_from_wire(batch: pb::PeerBatch) -> Result<HelloAnswer, Malformed> {
    match required(batch.opening, "answer to the greeting")? {
        pb::peer_batch::Opening::Ack(ack) => {
            let spoken = limits::PROTOCOL_MIN..=limits::PROTOCOL_MAX;
            if spoken.contains(&ack.protocol) {
                Ok(HelloAnswer::Welcome)
            } else {
                Err(Malformed::new(format!("protocol {} is not spoken here", ack.protocol)))
            }
        }
        pb::peer_batch::Opening::Refusal(refusal) => {
            refusal_from_wire(refusal).map(HelloAnswer::Refused)
        }
        pb::peer_batch::Opening::Hello(_) => {
            Err(Malformed::new("a greeting was answered with a greeting"))
        }
    }
}

fn text(text: String) -> Result<String, Malformed> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Malformed::new(format!("a text has {} bytes", text.len())));
    }
    Ok(text)
}

fn refusal_to_wire(refusal: HelloRefusal) -> pb::HelloRefusal {
    use pb::hello_refusal::{
        Founders, Lineages, Misdirected, Newcomer, Other, Protocol, Reason, Rivals, Stranger,
    };
    let reason = match refusal {
        HelloRefusal::Protocol { theirs_min, theirs_max, ours_min, ours_max } => {
            Reason::Protocol(Protocol { theirs_min, theirs_max, ours_min, ours_max })
        }
        HelloRefusal::Cluster { theirs, ours } => Reason::Cluster(Other { theirs, ours }),
        HelloRefusal::Founders { refuser } => Reason::Founders(Founders { refuser }),
        HelloRefusal::Lineage { theirs, ours, state } => {
            let state = state.as_deref().map(state_to_wire);
            Reason::Lineage(Lineages { theirs, ours, state })
        }
        HelloRefusal::Rival { lineage, theirs, ours } => {
            let (theirs, ours) = (wide_bytes(theirs), wide_bytes(ours));
            Reason::Rivals(Rivals { lineage, theirs, ours })
        }
        HelloRefusal::Misdirected { refuser, meant } => {
            Reason::Misdirected(Misdirected { refuser, meant: meant.0 })
        }
        HelloRefusal::Stranger { name, id, hint } => {
            Reason::Stranger(Stranger { name: name.into(), id: id.0, hint })
        }
        HelloRefusal::Unheard { name, id } => {
            Reason::Unheard(Newcomer { name: name.into(), id: id.0 })
        }
        HelloRefusal::Gone { name, id } => Reason::Gone(Newcomer { name: name.into(), id: id.0 }),
    };
    pb::HelloRefusal { reason: Some(reason) }
}

fn refusal_from_wire(refusal: pb::HelloRefusal) -> Result<HelloRefusal, Malformed> {
    use pb::hello_refusal::Reason;
    Ok(match required(refusal.reason, "reason")? {
        Reason::Protocol(p) => HelloRefusal::Protocol {
            theirs_min: p.theirs_min,
            theirs_max: p.theirs_max,
            ours_min: p.ours_min,
            ours_max: p.ours_max,
        },
        Reason::Cluster(other) => {
            HelloRefusal::Cluster { theirs: text(other.theirs)?, ours: text(other.ours)? }
        }
        Reason::Founders(founders) => HelloRefusal::Founders { refuser: text(founders.refuser)? },
        Reason::Lineage(l) => HelloRefusal::Lineage {
            theirs: l.theirs,
            ours: l.ours,
            state: l.state.map(state_from_wire).transpose()?.map(Arc::new),
        },
        Reason::Rivals(rivals) => HelloRefusal::Rival {
            lineage: rivals.lineage,
            theirs: wide(&rivals.theirs, "origin")?,
            ours: wide(&rivals.ours, "origin")?,
        },
        Reason::Misdirected(m) => {
            HelloRefusal::Misdirected { refuser: text(m.refuser)?, meant: NodeId(m.meant) }
        }
        Reason::Stranger(s) => HelloRefusal::Stranger {
            name: node_name(s.name)?,
            id: NodeId(s.id),
            hint: text(s.hint)?,
        },
        Reason::Unheard(new) => {
            HelloRefusal::Unheard { name: node_name(new.name)?, id: NodeId(new.id) }
        }
        Reason::Gone(gone) => {
            HelloRefusal::Gone { name: node_name(gone.name)?, id: NodeId(gone.id) }
        }
    })
}

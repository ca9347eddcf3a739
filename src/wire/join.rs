//! Asking to become a member, and the answer.

use crate::message::Applicant;
use crate::types::{Addresses, ClusterState, Nonce, Zone, limits};

use super::peer::{ADDRESS_BYTES_MAX, Malformed, node_name, required, wide, wide_bytes};
use super::proto::peer as pb;
use super::state::{state_from_wire, state_to_wire};

/// Why a node cannot be asked, before anything else is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinCall {
    /// The cluster it wants to join.
    pub cluster_name: String,
    /// The protocol versions it speaks.
    pub protocol: (u32, u32),
    /// Who it is.
    pub applicant: Applicant,
}

/// The request of a node that wants to join.
pub fn join_to_wire(call: &JoinCall) -> pb::JoinRequest {
    let Applicant { name, birth, addresses, zone, weight_milli, feature_level } = &call.applicant;
    pb::JoinRequest {
        protocol_min: call.protocol.0,
        protocol_max: call.protocol.1,
        cluster_name: call.cluster_name.clone(),
        name: name.as_str().to_owned(),
        birth: wide_bytes(birth.0),
        client_address: addresses.client.clone(),
        peer_address: addresses.peer.clone(),
        zone: zone.as_str().to_owned(),
        weight_milli: *weight_milli,
        feature_level: *feature_level,
    }
}

/// A foreign request, checked.
///
/// # Errors
/// [`Malformed`]: a part is missing or outside its bounds.
pub fn join_from_wire(wire: pb::JoinRequest) -> Result<JoinCall, Malformed> {
    let longest = wire.client_address.len().max(wire.peer_address.len());
    if longest > ADDRESS_BYTES_MAX || wire.peer_address.is_empty() {
        return Err(Malformed::new("an address is missing or too long"));
    }
    let birth = Nonce(wide(&wire.birth, "birth")?);
    if birth.0 == 0 {
        return Err(Malformed::new("a birth of 0"));
    }
    if wire.weight_milli > limits::WEIGHT_MILLI_MAX {
        return Err(Malformed::new(format!("a weight of {} thousandths", wire.weight_milli)));
    }
    Ok(JoinCall {
        cluster_name: wire.cluster_name,
        protocol: (wire.protocol_min, wire.protocol_max),
        applicant: Applicant {
            name: node_name(wire.name)?,
            birth,
            addresses: Addresses { client: wire.client_address, peer: wire.peer_address },
            zone: Zone::try_from(wire.zone).map_err(Malformed)?,
            weight_milli: wire.weight_milli,
            feature_level: wire.feature_level,
        },
    })
}

/// The answer to a node that is a member now.
pub fn joined_to_wire(state: &ClusterState) -> pb::JoinResponse {
    pb::JoinResponse { state: Some(state_to_wire(state)) }
}

/// The state in which the node is a member.
///
/// # Errors
/// [`Malformed`]: it is none that can be used.
pub fn joined_from_wire(wire: pb::JoinResponse) -> Result<ClusterState, Malformed> {
    state_from_wire(required(wire.state, "state")?)
}

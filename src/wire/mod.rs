//! The only place that knows protobuf and gRPC statuses: conversions between messages and bytes on
//! the wire, and all validation of what foreigners send. What has passed here is never checked
//! again.

pub mod admin;
pub mod batch;
pub mod cas;
mod causal;
#[cfg(test)]
mod causal_tests;
pub mod client;
pub mod comparing;
mod consensus;
mod copy;
#[cfg(test)]
mod copy_tests;
pub mod counter;
mod decree;
pub mod error;
pub mod explain;
mod floor;
pub mod gc;
mod gossip;
#[cfg(test)]
mod gossip_tests;
pub mod hello;
pub mod hints;
pub mod hot;
pub mod join;
mod key_facts;
#[cfg(test)]
mod load_tests;
pub mod outage;
mod packed;
pub mod peer;
pub mod plan;
mod probe;
mod repair;
#[cfg(test)]
mod repair_tests;
pub mod ring;
pub mod scrub;
mod state;
pub mod tables;
#[cfg(test)]
mod tests;
mod topology;
pub mod watch;
#[cfg(test)]
mod watch_tests;

pub use peer::Malformed;
pub use state::{state_from_wire, state_to_wire};

/// The generated code of `proto/`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::all,
    clippy::pedantic,
    clippy::too_many_lines,
    reason = "generated; documented in proto/"
)]
pub mod proto {
    /// `roundtable.v1`: clients.
    pub mod v1 {
        tonic::include_proto!("roundtable.v1");
    }
    /// `roundtable.admin.v1`: operators.
    pub mod admin {
        tonic::include_proto!("roundtable.admin.v1");
    }
    /// `roundtable.peer.v1`: nodes.
    pub mod peer {
        tonic::include_proto!("roundtable.peer.v1");
    }
    /// All of `proto/`, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
}

//! The founders list: what every founder is told, and must be told alike.

use super::{NodeName, Role, Zone};

/// One entry of the founders list: `name=host:peerport[@zone][;weight=W][;role=reserved]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its name.
    pub name: NodeName,
    /// Where it listens for peers, `host:port`.
    pub peer_address: String,
    /// Its zone.
    pub zone: Zone,
    /// Its share, in thousandths of a weight of 1.
    pub weight_milli: u32,
    /// Active or reserved.
    pub role: Role,
}

/// What is fixed at birth: the founders and the settings they must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charter {
    /// The cluster's name.
    pub cluster_name: String,
    /// The founders; member ids follow their order.
    pub founders: Vec<Founder>,
    /// Partitions of the ring, a power of two.
    pub partitions: u32,
    /// n of table `default`; with fewer active founders, their number.
    pub replication: u8,
    /// r of table `default`; a majority of n where it is above n.
    pub read_quorum: u8,
    /// w of table `default`; a majority of n where it is above n.
    pub write_quorum: u8,
}

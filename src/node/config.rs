//! What a node is told about itself when it starts. Made by `config` from a file, by the
//! simulator from a seed.

use core::time::Duration;

use crate::types::{NodeName, Role, Zone};

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

/// The settings of one node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The operator's name for this node; one of the founders'.
    pub name: NodeName,
    /// The cluster's name: nodes of another one are refused.
    pub cluster_name: String,
    /// Where clients reach this node, told to peers.
    pub client_address: String,
    /// The founders, the same list on every one of them; member ids follow its order.
    pub founders: Vec<Founder>,
    /// Founders the operator has typed away: the cluster is founded without waiting for them.
    pub found_without: Vec<NodeName>,
    /// Partitions of the ring, a power of two; fixed at birth.
    pub partitions: u32,
    /// n of table `default`; fewer when there are fewer founders. Fixed at birth.
    pub replication: u8,
    /// r of table `default`.
    pub read_quorum: u8,
    /// w of table `default`.
    pub write_quorum: u8,
    /// Deadline of a request that names none.
    pub request_timeout: Duration,
    /// How long an owner may take before the operation asks it (or another one) again.
    pub retry_interval: Duration,
    /// How long a read waits for the owners it asked before it asks one more.
    pub hedge_after: Duration,
    /// Client operations in flight before new ones are refused.
    pub operations_max: usize,
    /// Bytes of client operations in flight before new ones are refused.
    pub operation_bytes_max: usize,
    /// Disk requests of peers in flight before new ones are refused.
    pub replica_operations_max: usize,
    /// Period of probes, and of birth and registration messages.
    pub probe_interval: Duration,
    /// Silence after which a member is suspect.
    pub suspect_after: Duration,
    /// Silence after which a member is down.
    pub down_after: Duration,
}

impl NodeConfig {
    /// The defaults, for a node `name` of `founders`.
    pub fn new(name: NodeName, founders: Vec<Founder>) -> NodeConfig {
        NodeConfig {
            name,
            cluster_name: "kv".to_owned(),
            client_address: String::new(),
            founders,
            found_without: Vec::new(),
            partitions: 256,
            replication: 3,
            read_quorum: 2,
            write_quorum: 2,
            request_timeout: Duration::from_secs(1),
            retry_interval: Duration::from_millis(250),
            hedge_after: Duration::from_millis(20),
            operations_max: 4096,
            operation_bytes_max: 64 << 20,
            replica_operations_max: 16_384,
            probe_interval: Duration::from_millis(500),
            suspect_after: Duration::from_secs(2),
            down_after: Duration::from_secs(10),
        }
    }
}

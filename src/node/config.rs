//! What a node is told about itself when it starts. Made by `config` from a file, by the
//! simulator from a seed.

use core::time::Duration;

use crate::types::{Charter, Founder, NodeName};

/// The settings of one node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The operator's name for this node; one of the founders'.
    pub name: NodeName,
    /// Where clients reach this node, told to peers.
    pub client_address: String,
    /// Where peers reach it; when the state says otherwise, the state is changed. Empty: as it says.
    pub peer_address: String,
    /// What all founders are told alike. Ignored once the node has a state.
    pub charter: Charter,
    /// Founders the operator has typed away: the cluster is founded without waiting for them.
    pub found_without: Vec<NodeName>,
    /// Deadline of a request that names none, for the parts around the node.
    pub request_timeout: Duration,
    /// How long an owner may take to acknowledge a write before it is asked again.
    pub retry_interval: Duration,
    /// How long a read waits for the owners it asked before it asks one more.
    pub hedge_after: Duration,
    /// Client operations in flight before new ones are refused.
    pub operations_max: usize,
    /// Bytes of client operations in flight before new ones are refused.
    pub operation_bytes_max: usize,
    /// What one table may take of both while it is alone, in percent, 1 to 100: 100 is no bound.
    pub table_share: u8,
    /// The same of one client's connection.
    pub client_share: u8,
    /// Disk requests of peers in flight before new ones are refused.
    pub replica_operations_max: usize,
    /// Period of probes, and of birth and registration messages.
    pub probe_interval: Duration,
    /// Silence after which a member is suspect.
    pub suspect_after: Duration,
    /// Silence after which a member is down.
    pub down_after: Duration,
    /// Bytes of all hints this node keeps for others.
    pub hint_bytes_max: u64,
    /// How old a hint that never counted may become before it is given up.
    pub hint_age_max: Duration,
    /// Bytes of hints handed back a second.
    pub hint_replay_rate: u64,
    /// Bytes of copies of units a second, that this node takes and that it gives; 0 is no bound.
    pub transfer_rate: u64,
    /// Each pair of owners compares each unit at least once in this; zero: only when somebody asks for it.
    pub repair_interval: Duration,
    /// Differences younger than this are left alone: as a rule their writes are under way.
    pub repair_settle: Duration,
    /// Bytes a second that this node asks for and reads to compare; 0 is no bound.
    pub repair_rate: u64,
    /// How old deletes are at least that are purged: beyond all deadlines.
    pub purge_slack: Duration,
    /// Within this time each block on disk is read once, to find damage; zero: only when an operator asks.
    pub scrub_period: Duration,
    /// Bytes a second that reading takes at most.
    pub scrub_rate: u64,
    /// The probability that a member is gone at some moment, 0..=1.
    pub failure_probability: f64,
    /// How often the reserve is to be enough; above 0 and below 1.
    pub confidence: f64,
    /// A member that is held down for so long is replaced; `None`: never by this node's word.
    pub replace_after: Option<Duration>,
    /// How long old data are kept aside once this node's place was taken.
    pub keep_aside: Duration,
    /// While it is reserved, this node mirrors units that it is likely to inherit.
    pub mirror: bool,
    /// No unit is begun to be mirrored while more of the disk would be taken than this, in percent, 1 to 95.
    pub mirror_share: u8,
    /// How often each unit that is mirrored is made equal to an owner.
    pub mirror_every: Duration,
    /// What is done about members being too many or too few.
    pub grow: Grow,
    /// What is done about members that have far more to do than others.
    pub exchange: Grow,
    /// Utilisation above which it is grown, in thousandths.
    pub grow_above_milli: u32,
    /// Utilisation below which it is shrunk, in thousandths.
    pub shrink_below_milli: u32,
    /// Client operations a second that are all one node can do; 0: they do not count.
    pub grow_operations: u32,
    /// For how long the figures must call for it before it is proposed.
    pub grow_after: Duration,
    /// With less history nothing but disks counts, and nothing is done without an operator.
    pub history_min: Duration,
    /// When members may move without an operator.
    pub quiet_hours: QuietHours,
    /// How often this node looks at its load; zero: never, and copies do not stop for users.
    pub sample_interval: Duration,
}

/// What is done about members being too many or too few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grow {
    /// Nothing.
    Off,
    /// It is said.
    #[default]
    Suggest,
    /// It is done, in quiet hours.
    Auto,
}

impl Grow {
    /// As it is configured.
    pub fn as_str(self) -> &'static str {
        match self {
            Grow::Off => "off",
            Grow::Suggest => "suggest",
            Grow::Auto => "auto",
        }
    }
}

/// Hours of the day in which members may move without an operator, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuietHours {
    /// The three in a row with the least that is foreseen.
    #[default]
    Auto,
    /// From and to a minute of the day, over midnight where `to` is not above `from`; 0 and 1440 are all day.
    Daily {
        /// The first minute.
        from: u32,
        /// The first that is not.
        to: u32,
    },
}

impl NodeConfig {
    /// The defaults, for a node `name` of `founders`.
    pub fn new(name: NodeName, founders: Vec<Founder>) -> NodeConfig {
        NodeConfig {
            name,
            client_address: String::new(),
            peer_address: String::new(),
            charter: Charter {
                cluster_name: "kv".to_owned(),
                founders,
                partitions: 256,
                replication: 3,
                read_quorum: 2,
                write_quorum: 2,
            },
            found_without: Vec::new(),
            request_timeout: Duration::from_secs(1),
            retry_interval: Duration::from_millis(250),
            hedge_after: Duration::from_millis(20),
            operations_max: 4096,
            operation_bytes_max: 64 << 20,
            table_share: 80,
            client_share: 75,
            replica_operations_max: 16_384,
            probe_interval: Duration::from_millis(500),
            suspect_after: Duration::from_secs(2),
            down_after: Duration::from_secs(10),
            hint_bytes_max: 1 << 30,
            hint_age_max: Duration::from_secs(3 * 3600),
            hint_replay_rate: 8 << 20,
            transfer_rate: 256 << 20,
            repair_interval: Duration::from_secs(600),
            repair_settle: Duration::from_secs(10),
            repair_rate: 16 << 20,
            purge_slack: Duration::from_secs(3600),
            scrub_period: Duration::from_secs(14 * 24 * 3600),
            scrub_rate: 8 << 20,
            failure_probability: 2.0 / 365.0,
            confidence: 0.99,
            replace_after: Some(Duration::from_secs(15 * 60)),
            keep_aside: Duration::from_secs(7 * 24 * 3600),
            mirror: true,
            mirror_share: 50,
            mirror_every: Duration::from_secs(300),
            grow: Grow::Suggest,
            exchange: Grow::Suggest,
            grow_above_milli: 700,
            shrink_below_milli: 300,
            grow_operations: 0,
            grow_after: Duration::from_secs(6 * 3600),
            history_min: Duration::from_secs(24 * 3600),
            quiet_hours: QuietHours::Auto,
            sample_interval: Duration::from_secs(60),
        }
    }
}

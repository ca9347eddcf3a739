//! What an operator may set, where each value came from, and what must hold between them. Decides
//! nothing about the cluster: founders' settings are compared by the founders themselves.
//!
//! Layers, each over the one before: the defaults (`config/node.toml`), the file, the environment
//! (`KVD_SECTION__KEY`), `--set section.key=value`.

mod founder;
mod layers;
mod units;

use core::time::Duration;
use serde::Deserialize;

pub use founder::{check_address, parse_founder, weight_milli};
pub use layers::{Loaded, Origin, Sources, load};
use units::{duration, duration_or_off, size, size_or_off};

/// The defaults, as a file with comments.
pub const DEFAULT_FILE: &str = include_str!("../../config/node.toml");

/// Why a configuration is refused. Says where the value came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// All sections. `config/node.toml` describes each key.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is described in config/node.toml")]
pub struct Config {
    pub node: NodeSection,
    pub listen: ListenSection,
    pub cluster: ClusterSection,
    pub request: RequestSection,
    pub membership: MembershipSection,
    pub hints: HintsSection,
    pub transfer: TransferSection,
    pub repair: RepairSection,
    pub scrub: ScrubSection,
    pub orchestrator: OrchestratorSection,
    pub storage: StorageSection,
    pub transport: TransportSection,
    pub log: LogSection,
    pub shutdown: ShutdownSection,
    pub runtime: RuntimeSection,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// When a write counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// When it is on disk.
    Always,
    /// When the operating system has it; synced at an interval.
    Interval,
    /// When the operating system has it.
    None,
}

/// What is done about members being too many or too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grow {
    /// Nothing.
    Off,
    /// It is proposed.
    Suggest,
    /// It is done in quiet hours.
    Auto,
}

macro_rules! section {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty = $default:expr),* $(,)? }) => {
        /// A section; `config/node.toml` describes its keys.
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[expect(missing_docs, reason = "each key is described in config/node.toml")]
        pub struct $name { $($(#[$attribute])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }
    };
}

section!(NodeSection {
    name: String = String::new(),
    data_dir: String = "/var/lib/kvd".to_owned(),
    pid_file: String = String::new(),
    zone: String = "default".to_owned(),
    weight: f64 = 1.0,
});
section!(ListenSection {
    client: String = "127.0.0.1:7450".to_owned(),
    peer: String = "127.0.0.1:7451".to_owned(),
    http: String = "127.0.0.1:7452".to_owned(),
    advertise_client: String = String::new(),
    advertise_peer: String = String::new(),
});
section!(ClusterSection {
    name: String = "kv".to_owned(),
    founders: Vec<String> = Vec::new(),
    join: String = String::new(),
    partitions: u32 = 256,
    replication: u8 = 3,
    read_quorum: u8 = 2,
    write_quorum: u8 = 2,
});
section!(RequestSection {
    #[serde(with = "duration")]
    timeout: Duration = Duration::from_secs(1),
    #[serde(with = "duration")]
    retry_interval: Duration = Duration::from_millis(250),
    #[serde(with = "duration")]
    hedge_after: Duration = Duration::from_millis(20),
    max_in_flight: usize = 4096,
    #[serde(with = "size")]
    max_in_flight_bytes: usize = 64 << 20,
    max_table_share: u8 = 80,
    max_client_share: u8 = 75,
    max_replica_in_flight: usize = 16_384,
});
section!(MembershipSection {
    #[serde(with = "duration")]
    probe_interval: Duration = Duration::from_millis(500),
    #[serde(with = "duration")]
    suspect_after: Duration = Duration::from_secs(2),
    #[serde(with = "duration")]
    down_after: Duration = Duration::from_secs(10),
});
section!(HintsSection {
    #[serde(with = "duration")]
    max_age: Duration = Duration::from_secs(3 * 3600),
    #[serde(with = "size")]
    max_bytes: usize = 1 << 30,
    #[serde(with = "size")]
    replay_rate: usize = 8 << 20,
});
section!(TransferSection {
    #[serde(with = "size")]
    rate: usize = 256 << 20,
});
section!(RepairSection {
    #[serde(with = "duration")]
    interval: Duration = Duration::from_secs(600),
    #[serde(with = "duration")]
    settle: Duration = Duration::from_secs(10),
    #[serde(with = "size")]
    rate: usize = 16 << 20,
    #[serde(with = "duration")]
    purge_slack: Duration = Duration::from_secs(3600),
});
section!(ScrubSection {
    #[serde(with = "duration")]
    period: Duration = Duration::from_secs(14 * 24 * 3600),
    #[serde(with = "size")]
    rate: usize = 8 << 20,
});
section!(OrchestratorSection {
    failure_probability: f64 = 2.0 / 365.0,
    #[serde(with = "duration")]
    mtbf: Duration = Duration::ZERO,
    #[serde(with = "duration")]
    repair_time: Duration = Duration::ZERO,
    confidence: f64 = 0.99,
    #[serde(with = "duration_or_off")]
    replace_after: Option<Duration> = Some(Duration::from_secs(15 * 60)),
    #[serde(with = "duration")]
    keep_aside: Duration = Duration::from_secs(7 * 24 * 3600),
    mirror: bool = true,
    mirror_share: u8 = 50,
    #[serde(with = "duration")]
    mirror_every: Duration = Duration::from_secs(300),
    grow: Grow = Grow::Suggest,
    exchange: Grow = Grow::Suggest,
    grow_above: f64 = 0.7,
    shrink_below: f64 = 0.3,
    grow_operations: u32 = 0,
    #[serde(with = "duration")]
    grow_after: Duration = Duration::from_secs(6 * 3600),
    #[serde(with = "duration")]
    history_min: Duration = Duration::from_secs(24 * 3600),
    quiet_hours: String = "auto".to_owned(),
    #[serde(with = "duration")]
    sample_interval: Duration = Duration::from_secs(60),
});
section!(StorageSection {
    sync: Sync = Sync::Always,
    #[serde(with = "duration")]
    sync_interval: Duration = Duration::from_millis(10),
    #[serde(with = "size")]
    memtable: usize = 64 << 20,
    #[serde(with = "size")]
    memory: usize = 256 << 20,
    #[serde(with = "size")]
    block_cache: usize = 256 << 20,
    #[serde(with = "size_or_off")]
    blob_min: Option<usize> = Some(4 << 10),
    reader_threads: usize = 4,
});
section!(TransportSection {
    queue_ops: usize = 8192,
    #[serde(with = "size")]
    queue_bytes: usize = 32 << 20,
    batch_ops: usize = 128,
    #[serde(with = "size")]
    batch_bytes: usize = 64 << 10,
    #[serde(with = "duration")]
    connect_timeout: Duration = Duration::from_secs(1),
    #[serde(with = "duration")]
    keepalive: Duration = Duration::from_secs(2),
    #[serde(with = "duration")]
    keepalive_timeout: Duration = Duration::from_secs(2),
});
section!(LogSection { filter: String = "info".to_owned(), format: LogFormat = LogFormat::Auto });
section!(ShutdownSection {
    #[serde(with = "duration")]
    drain_timeout: Duration = Duration::from_secs(20),
});
section!(RuntimeSection { workers: usize = 0 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_defaults_are_the_defaults_of_the_code() {
        assert_eq!(toml::from_str::<Config>(DEFAULT_FILE).unwrap(), Config::default());
    }
}

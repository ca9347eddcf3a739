//! From what was written to what the parts are given, and the rules between values.

mod growth;

use core::time::Duration;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::node::NodeConfig;
use crate::storage;
use crate::transport::TransportConfig;
use crate::types::{Charter, Founder, NodeName, Role, Zone, limits};

use crate::config::{
    Config, ConfigError, LogSection, Sync, check_address, parse_founder, weight_milli,
};

/// Everything a server is started with, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the node.
    pub node: NodeConfig,
    /// For the streams.
    pub transport: TransportConfig,
    /// For the store.
    pub storage: storage::Options,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// The file that says which process runs the node, if there is to be one.
    pub pid_file: Option<PathBuf>,
    /// Threads for reads that go to disk.
    pub reader_threads: usize,
    /// The clients' port.
    pub listen_client: SocketAddr,
    /// The peers' port.
    pub listen_peer: SocketAddr,
    /// The HTTP port, unless it is off.
    pub listen_http: Option<SocketAddr>,
    /// How long what was begun may take to finish.
    pub drain_timeout: Duration,
    /// Threads of the asynchronous runtime; 0: as many as cores.
    pub workers: usize,
    /// The log.
    pub log: LogSection,
    /// How this node joins a cluster, if it has no state and is no founder.
    pub join: Option<Join>,
}

/// What a node that joins says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The peer address of any member.
    pub address: String,
    /// Its failure domain.
    pub zone: Zone,
    /// Its share relative to the others, in thousandths.
    pub weight_milli: u32,
}

fn refuse<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

impl Settings {
    /// Checks a configuration.
    ///
    /// # Errors
    /// The first rule that does not hold; names the key.
    pub fn from_config(config: &Config) -> Result<Settings, ConfigError> {
        let listen_client = socket("listen.client", &config.listen.client)?;
        let listen_peer = socket("listen.peer", &config.listen.peer)?;
        let http = &config.listen.http;
        let listen_http = (!http.is_empty()).then(|| socket("listen.http", http)).transpose()?;
        let mut node = node(config)?;
        node.client_address = advertised(config, listen_client)?;
        node.peer_address = advertised_peer(config, &node, listen_peer)?;
        let join = join(config)?;
        for (key, duration) in [
            ("hints.max_age", node.hint_age_max),
            ("membership.probe_interval", node.probe_interval),
            ("request.timeout", node.request_timeout),
            ("request.retry_interval", node.retry_interval),
            ("transport.connect_timeout", config.transport.connect_timeout),
            ("transport.keepalive", config.transport.keepalive),
            ("transport.keepalive_timeout", config.transport.keepalive_timeout),
        ] {
            if duration.is_zero() {
                return refuse(format!("{key} is 0"));
            }
        }
        if node.request_timeout > limits::REQUEST_TIMEOUT_MAX {
            return refuse(format!("request.timeout is above {:?}", limits::REQUEST_TIMEOUT_MAX));
        }
        let order = [node.probe_interval, node.suspect_after, node.down_after];
        if !order.is_sorted_by(|a, b| a < b) {
            return refuse(
                "membership: probe_interval, suspect_after and down_after must grow in this order",
            );
        }
        let pid_file = &config.node.pid_file;
        Ok(Settings {
            transport: transport(config)?,
            storage: storage_options(config)?,
            data_dir: PathBuf::from(&config.node.data_dir),
            pid_file: (!pid_file.is_empty()).then(|| PathBuf::from(pid_file)),
            reader_threads: reader_threads(config)?,
            listen_client,
            listen_peer,
            listen_http,
            drain_timeout: config.shutdown.drain_timeout,
            workers: config.runtime.workers,
            log: config.log.clone(),
            join,
            node,
        })
    }
}

fn socket(key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| {
        ConfigError(format!("{key} is {text:?}; expected ADDRESS:PORT, e.g. 127.0.0.1:7450"))
    })
}

/// Where clients reach this node.
fn advertised(config: &Config, listen: SocketAddr) -> Result<String, ConfigError> {
    let named = &config.listen.advertise_client;
    if named.is_empty() {
        if listen.ip().is_unspecified() {
            return refuse(format!(
                "listen.client is {listen}, which is no address others could reach: set listen.advertise_client"
            ));
        }
        return Ok(listen.to_string());
    }
    check_address(named).map_err(|why| ConfigError(format!("listen.advertise_client: {why}")))?;
    Ok(named.clone())
}

/// Where peers reach this node: as the founders list says, if it is in it. A port that the system
/// chooses is known to nobody yet.
fn advertised_peer(
    config: &Config,
    node: &NodeConfig,
    listen: SocketAddr,
) -> Result<String, ConfigError> {
    let named = &config.listen.advertise_peer;
    if !named.is_empty() {
        check_address(named).map_err(|why| ConfigError(format!("listen.advertise_peer: {why}")))?;
        return Ok(named.clone());
    }
    let founder = node.charter.founders.iter().find(|founder| founder.name == node.name);
    match founder {
        Some(founder) => Ok(founder.peer_address.clone()),
        None if listen.ip().is_unspecified() => refuse(format!(
            "listen.peer is {listen}, which is no address others could reach: set listen.advertise_peer"
        )),
        None => Ok(listen.to_string()),
    }
}

/// How this node joins, if it is to.
fn join(config: &Config) -> Result<Option<Join>, ConfigError> {
    let address = &config.cluster.join;
    if address.is_empty() {
        return Ok(None);
    }
    check_address(address).map_err(|why| ConfigError(format!("cluster.join: {why}")))?;
    let zone = Zone::try_from(config.node.zone.clone());
    let zone = zone.map_err(|why| ConfigError(format!("node.zone: {why}")))?;
    let weight = weight_milli(&config.node.weight.to_string());
    let weight_milli = weight.map_err(|why| ConfigError(format!("node.weight: {why}")))?;
    Ok(Some(Join { address: address.clone(), zone, weight_milli }))
}

fn node(config: &Config) -> Result<NodeConfig, ConfigError> {
    let cluster = &config.cluster;
    if config.node.name.is_empty() {
        return refuse("node.name is required");
    }
    let name: NodeName =
        config.node.name.parse().map_err(|why: String| ConfigError(format!("node.name: {why}")))?;
    let joins = !cluster.join.is_empty();
    let founders = if joins { Vec::new() } else { founders(config)? };
    if !joins && !founders.iter().any(|founder| founder.name == name) {
        let names: Vec<&str> = founders.iter().map(|founder| founder.name.as_str()).collect();
        return refuse(format!(
            "node.name is {name}, which is none of cluster.founders ({}); a node that joins a running \
             cluster needs --join",
            names.join(", ")
        ));
    }
    if cluster.name.is_empty() || cluster.name.len() > CLUSTER_NAME_BYTES_MAX {
        return refuse(format!("cluster.name must have 1 to {CLUSTER_NAME_BYTES_MAX} bytes"));
    }
    ring(config, &founders)?;
    Ok(NodeConfig {
        charter: Charter {
            cluster_name: cluster.name.clone(),
            founders: founders.clone(),
            partitions: cluster.partitions,
            replication: cluster.replication,
            read_quorum: cluster.read_quorum,
            write_quorum: cluster.write_quorum,
        },
        request_timeout: config.request.timeout,
        retry_interval: config.request.retry_interval,
        hedge_after: config.request.hedge_after,
        operations_max: at_least_one("request.max_in_flight", config.request.max_in_flight)?,
        operation_bytes_max: config.request.max_in_flight_bytes.max(limits::VALUE_BYTES_MAX * 2),
        table_share: share("request.max_table_share", config.request.max_table_share)?,
        client_share: share("request.max_client_share", config.request.max_client_share)?,
        replica_operations_max: at_least_one(
            "request.max_replica_in_flight",
            config.request.max_replica_in_flight,
        )?,
        probe_interval: config.membership.probe_interval,
        suspect_after: config.membership.suspect_after,
        down_after: config.membership.down_after,
        hint_age_max: config.hints.max_age,
        hint_bytes_max: hint_bytes(config)?,
        hint_replay_rate: replay_rate(config)?,
        transfer_rate: u64::try_from(config.transfer.rate).unwrap_or(u64::MAX),
        repair_interval: repair_interval(config)?,
        repair_settle: config.repair.settle,
        repair_rate: u64::try_from(config.repair.rate).unwrap_or(u64::MAX),
        purge_slack: purge_slack(config)?,
        scrub_period: config.scrub.period,
        scrub_rate: u64::try_from(at_least_one("scrub.rate", config.scrub.rate)?)
            .unwrap_or(u64::MAX),
        failure_probability: failure_probability(config)?,
        confidence: confidence(config)?,
        replace_after: replace_after(config)?,
        keep_aside: config.orchestrator.keep_aside,
        mirror: config.orchestrator.mirror,
        mirror_share: mirror_share(config)?,
        mirror_every: mirror_every(config)?,
        ..growth::settings(config, NodeConfig::new(name, founders))?
    })
}

/// Given, or the share of its time in which a node is gone.
fn failure_probability(config: &Config) -> Result<f64, ConfigError> {
    let section = &config.orchestrator;
    let (mtbf, repair) = (section.mtbf, section.repair_time);
    let p = match (mtbf.is_zero(), repair.is_zero()) {
        (true, true) => section.failure_probability,
        (false, false) => repair.as_secs_f64() / (mtbf.as_secs_f64() + repair.as_secs_f64()),
        _ => {
            let why = "both must be given, or neither";
            return refuse(format!("orchestrator.mtbf is {mtbf:?}, repair_time {repair:?}; {why}"));
        }
    };
    if !(0.0..=1.0).contains(&p) {
        return refuse(format!("orchestrator.failure_probability is {p}; it must be 0..1"));
    }
    Ok(p)
}

fn confidence(config: &Config) -> Result<f64, ConfigError> {
    let confidence = config.orchestrator.confidence;
    if confidence > 0.0 && confidence < 1.0 {
        return Ok(confidence);
    }
    refuse(format!("orchestrator.confidence is {confidence}; it must be above 0 and below 1"))
}

/// Zero is off, as everywhere. What is down has been silent for `membership.down_after` before.
fn replace_after(config: &Config) -> Result<Option<Duration>, ConfigError> {
    let after = config.orchestrator.replace_after.filter(|after| !after.is_zero());
    if after.is_some_and(|after| after < Duration::from_secs(1)) {
        return refuse("orchestrator.replace_after is below 1s; it must be 1s or more, or off");
    }
    Ok(after)
}

fn mirror_share(config: &Config) -> Result<u8, ConfigError> {
    let share = config.orchestrator.mirror_share;
    if (1..=95).contains(&share) {
        return Ok(share);
    }
    refuse(format!("orchestrator.mirror_share is {share}; it must be 1 to 95 percent of the disk"))
}

fn mirror_every(config: &Config) -> Result<Duration, ConfigError> {
    let every = config.orchestrator.mirror_every;
    if every < Duration::from_secs(1) {
        return refuse(format!("orchestrator.mirror_every is {every:?}; it must be 1s or more"));
    }
    Ok(every)
}

/// Shorter ones would keep nodes busy with comparing.
fn repair_interval(config: &Config) -> Result<Duration, ConfigError> {
    let (interval, settle) = (config.repair.interval, config.repair.settle);
    if interval.is_zero() {
        return Ok(interval);
    }
    if interval < Duration::from_secs(1) {
        let why = "it must be 1s or more, or 0s: then owners are compared only when somebody asks";
        return refuse(format!("repair.interval is {interval:?}; {why}"));
    }
    if settle > interval {
        return refuse(format!(
            "repair.settle is {settle:?}; it must not be above repair.interval"
        ));
    }
    Ok(interval)
}

/// It has to be beyond all deadlines, of clients' requests as of nodes'.
fn purge_slack(config: &Config) -> Result<Duration, ConfigError> {
    let slack = config.repair.purge_slack;
    if slack < Duration::from_secs(1) || slack < config.request.timeout {
        let least = config.request.timeout.max(Duration::from_secs(1));
        return refuse(format!(
            "repair.purge_slack is {slack:?}; it must be {least:?} or more, beyond all deadlines"
        ));
    }
    Ok(slack)
}

/// Percent of something.
fn share(key: &str, percent: u8) -> Result<u8, ConfigError> {
    if !(1..=100).contains(&percent) {
        return refuse(format!("{key} is {percent}; it must be 1..=100"));
    }
    Ok(percent)
}

/// Room for a few of the largest values: with less, some write would never find any.
const HINT_BYTES_MIN: usize = 8 * limits::VALUE_BYTES_MAX;

fn hint_bytes(config: &Config) -> Result<u64, ConfigError> {
    let bytes = config.hints.max_bytes;
    if bytes < HINT_BYTES_MIN {
        return refuse(format!("hints.max_bytes is {bytes}; it must be at least {HINT_BYTES_MIN}"));
    }
    Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
}

fn replay_rate(config: &Config) -> Result<u64, ConfigError> {
    match config.hints.replay_rate {
        0..1024 => refuse("hints.replay_rate is below 1KiB a second: hints would never be home"),
        rate => Ok(u64::try_from(rate).unwrap_or(u64::MAX)),
    }
}

/// Longest cluster name, in bytes.
const CLUSTER_NAME_BYTES_MAX: usize = 64;

fn founders(config: &Config) -> Result<Vec<Founder>, ConfigError> {
    let entries = &config.cluster.founders;
    if entries.is_empty() {
        return refuse(
            "cluster.founders is empty: name every founding node, the same list on each; or join a \
             running cluster with --join",
        );
    }
    let parse = |entry: &String| parse_founder(entry);
    let founders: Vec<Founder> = entries
        .iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .map_err(|why| ConfigError(format!("cluster.founders: {why}")))?;
    let names: BTreeSet<_> = founders.iter().map(|founder| &founder.name).collect();
    let addresses: BTreeSet<_> = founders.iter().map(|founder| &founder.peer_address).collect();
    if names.len() != founders.len() || addresses.len() != founders.len() {
        return refuse("cluster.founders: two founders share a name or an address");
    }
    if founders.len() > limits::MEMBERS_MAX {
        return refuse(format!("cluster.founders: more than {}", limits::MEMBERS_MAX));
    }
    if !founders.iter().any(|founder| founder.role == Role::Active) {
        return refuse("cluster.founders: all of them are reserved; somebody must own data");
    }
    Ok(founders)
}

/// The rules of the ring and of table `default`.
fn ring(config: &Config, founders: &[Founder]) -> Result<(), ConfigError> {
    let cluster = &config.cluster;
    let partitions = cluster.partitions;
    if !partitions.is_power_of_two() || partitions > limits::PARTITIONS_MAX {
        let most = limits::PARTITIONS_MAX;
        return refuse(format!(
            "cluster.partitions is {partitions}; it must be a power of two up to {most}"
        ));
    }
    let active = founders.iter().filter(|founder| founder.role == Role::Active).count();
    if u32::try_from(active).unwrap_or(u32::MAX) > partitions {
        return refuse(format!(
            "cluster.partitions is {partitions}; {active} active founders need at least one each"
        ));
    }
    let n = cluster.replication;
    if !(1..=limits::REPLICAS_MAX).contains(&n) {
        let most = limits::REPLICAS_MAX;
        return refuse(format!("cluster.replication is {n}; it must be 1..={most}"));
    }
    for (key, quorum) in
        [("read_quorum", cluster.read_quorum), ("write_quorum", cluster.write_quorum)]
    {
        if !(1..=n).contains(&quorum) {
            return refuse(format!("cluster.{key} is {quorum}; it must be 1..={n} (replication)"));
        }
    }
    Ok(())
}

fn at_least_one(key: &str, count: usize) -> Result<usize, ConfigError> {
    if count == 0 { refuse(format!("{key} is 0")) } else { Ok(count) }
}

fn reader_threads(config: &Config) -> Result<usize, ConfigError> {
    // Two, so that a flush that waits does not keep reads waiting.
    match config.storage.reader_threads {
        count @ 2..=256 => Ok(count),
        count => refuse(format!("storage.reader_threads is {count}; it must be 2..=256")),
    }
}

/// For values that are shorter a file of their own costs reads more than it saves writes.
const BLOB_BYTES_MIN: usize = 1 << 10;

fn storage_options(config: &Config) -> Result<storage::Options, ConfigError> {
    let section = &config.storage;
    if section.memtable < 1 << 20 || section.memory < 2 * section.memtable {
        return refuse("storage.memtable must be at least 1MiB, and storage.memory twice that");
    }
    if section.block_cache < 1 << 20 {
        return refuse("storage.block_cache must be at least 1MiB");
    }
    if section.sync_interval.is_zero() {
        return refuse("storage.sync_interval is 0");
    }
    let most = storage::ENGINE_VALUE_BYTES_MAX;
    if section.blob_min.is_some_and(|bytes| !(BLOB_BYTES_MIN..=most).contains(&bytes)) {
        return refuse("storage.blob_min must be 1KiB..=2MiB, or off");
    }
    Ok(storage::Options {
        blob_bytes_min: section.blob_min,
        memtable_bytes: section.memtable,
        memory_bytes_max: section.memory,
        block_cache_bytes: section.block_cache,
        sync: match section.sync {
            Sync::Always => storage::SyncMode::Always,
            Sync::Interval => storage::SyncMode::Interval(section.sync_interval),
            Sync::None => storage::SyncMode::None,
        },
        ..storage::Options::default()
    })
}

fn transport(config: &Config) -> Result<TransportConfig, ConfigError> {
    let section = &config.transport;
    if section.queue_bytes < limits::MESSAGE_BYTES_MAX {
        let least = limits::MESSAGE_BYTES_MAX;
        return refuse(format!(
            "transport.queue_bytes is below one largest message, {least} bytes"
        ));
    }
    if section.batch_bytes > limits::MESSAGE_BYTES_MAX / 2 {
        return refuse(format!(
            "transport.batch_bytes is above {}, half the largest message",
            limits::MESSAGE_BYTES_MAX / 2
        ));
    }
    Ok(TransportConfig {
        queue_ops_max: at_least_one("transport.queue_ops", section.queue_ops)?,
        queue_bytes_max: section.queue_bytes,
        batch_ops: at_least_one("transport.batch_ops", section.batch_ops)?,
        batch_bytes: section.batch_bytes,
        connect_timeout: section.connect_timeout,
        keepalive: section.keepalive,
        keepalive_timeout: section.keepalive_timeout,
        ..TransportConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn the_files_that_come_with_the_product_load() {
        for name in ["dev", "production"] {
            let path = format!("{}/config/{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let sources = Sources { file: Some(path.into()), ..Sources::default() };
            Settings::from_config(&load(&sources).unwrap().config).unwrap();
        }
    }

    fn good() -> Config {
        let mut config = Config::default();
        config.node.name = "n1".to_owned();
        config.cluster.founders = ["n1=h:1", "n2=h:2", "n3=h:3"].map(str::to_owned).to_vec();
        config
    }

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = good();
        change(&mut config);
        Settings::from_config(&config).unwrap_err().to_string()
    }

    #[test]
    fn a_length_from_which_values_are_separated_is_possible_or_refused() {
        for bytes in [0, 100, 3 << 20] {
            assert!(refusal(|it| it.storage.blob_min = Some(bytes)).contains("storage.blob_min"));
        }
        let mut config = good();
        config.storage = toml::from_str("blob_min = \"off\"").unwrap();
        assert_eq!(Settings::from_config(&config).unwrap().storage.blob_bytes_min, None);
        config.storage = toml::from_str("blob_min = \"64KiB\"").unwrap();
        assert_eq!(Settings::from_config(&config).unwrap().storage.blob_bytes_min, Some(64 << 10));
        let bad = toml::from_str::<Config>("[storage]\nblob_min = \"many\"");
        assert!(bad.unwrap_err().to_string().contains("nor \"off\""));
    }

    #[test]
    fn the_defaults_of_the_parts_are_the_defaults_of_the_file() {
        let settings = Settings::from_config(&good()).unwrap();
        assert_eq!(settings.transport, TransportConfig::default());
        assert_eq!(settings.storage, storage::Options::default());
        let expected = NodeConfig {
            client_address: "127.0.0.1:7450".to_owned(),
            peer_address: "h:1".to_owned(),
            ..NodeConfig::new(settings.node.name.clone(), settings.node.charter.founders.clone())
        };
        assert_eq!(format!("{:?}", settings.node), format!("{expected:?}"));
    }

    #[test]
    fn each_rule_names_the_key_that_breaks_it() {
        let cases: [(&str, fn(&mut Config)); 18] = [
            ("hints.max_age", |c| c.hints.max_age = Duration::ZERO),
            ("hints.max_bytes", |c| c.hints.max_bytes = 1 << 20),
            ("hints.replay_rate", |c| c.hints.replay_rate = 0),
            ("node.name", |c| c.node.name.clear()),
            ("node.name", |c| c.node.name = "n4".to_owned()),
            ("node.name", |c| c.node.name = "N1".to_owned()),
            ("cluster.founders", |c| c.cluster.founders.clear()),
            ("cluster.founders", |c| c.cluster.founders.push("n1=h:9".to_owned())),
            ("cluster.founders", |c| c.cluster.founders = vec!["n1=h:1;role=reserved".to_owned()]),
            ("cluster.partitions", |c| c.cluster.partitions = 100),
            ("cluster.partitions", |c| c.cluster.partitions = 2),
            ("cluster.replication", |c| c.cluster.replication = 16),
            ("cluster.read_quorum", |c| c.cluster.read_quorum = 4),
            ("cluster.write_quorum", |c| c.cluster.write_quorum = 0),
            ("listen.client", |c| c.listen.client = "localhost".to_owned()),
            ("listen.advertise_client", |c| c.listen.client = "0.0.0.0:1".to_owned()),
            ("request.timeout", |c| c.request.timeout = Duration::from_secs(61)),
            ("membership", |c| c.membership.down_after = Duration::from_secs(1)),
        ];
        for (key, change) in cases {
            let text = refusal(change);
            assert!(text.contains(key), "{text} does not name {key}");
        }
    }
}

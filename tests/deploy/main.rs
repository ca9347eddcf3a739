//! What is in `deploy/` against the server it deploys: every setting exists and can be used, names,
//! ports, probes and time limits agree with each other. Whether it runs is what `deploy/smoke` tries,
//! where there is a Docker engine.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and says where"
)]

mod compose;
mod image;
mod kubernetes;
mod systemd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roundtable::config::{Sources, load};
use roundtable::server::Settings;
use serde_yaml_ng::Value;

type Environment = BTreeMap<String, String>;

/// A file below `deploy/`.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// The documents of a YAML file, with what is merged into each.
fn documents(name: &str) -> Vec<Value> {
    use serde::Deserialize;
    let text = read(name);
    let parse = |document| {
        let mut value = Value::deserialize(document).unwrap();
        value.apply_merge().unwrap();
        value
    };
    serde_yaml_ng::Deserializer::from_str(&text).map(parse).collect()
}

/// What a server makes of a file and an environment.
fn settings(file: &Path, environment: Environment) -> Settings {
    let sources = Sources {
        file: Some(file.to_owned()),
        environment: environment.into_iter().collect(),
        set: Vec::new(),
    };
    let loaded = load(&sources).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Settings::from_config(&loaded.config)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The shortest time after which whoever stops a server may kill it: until then it ends itself.
fn patience(settings: &Settings) -> Duration {
    settings.drain_timeout + Duration::from_secs(5)
}

/// `30s`, `30`: whole seconds.
fn seconds(value: &Value) -> Duration {
    let text = value.as_str().map_or_else(|| value.as_u64().unwrap().to_string(), str::to_owned);
    Duration::from_secs(text.trim_end_matches('s').parse().unwrap())
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_sequence().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

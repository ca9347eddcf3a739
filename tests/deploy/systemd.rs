//! The unit for systemd.

use std::time::Duration;

use super::{Environment, path, patience, read, settings};

/// The value of a key of the unit.
fn value(key: &str) -> String {
    let text = read("systemd/kvd.service");
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
    found.unwrap_or_else(|| panic!("no {key}")).to_owned()
}

#[test]
fn the_unit_and_its_configuration_agree() {
    let settings = settings(&path("systemd/kvd.toml"), Environment::new());
    assert!(value("ExecStart").ends_with("run --config /etc/kvd/kvd.toml"));
    assert!(value("ExecStartPre").ends_with("config check --config /etc/kvd/kvd.toml"));
    assert_eq!(settings.data_dir.to_str(), Some(&*format!("/var/lib/{}", value("StateDirectory"))));
    let stop = Duration::from_secs(value("TimeoutStopSec").parse().unwrap());
    assert!(stop >= patience(&settings));
    let user = value("User");
    assert!(read("systemd/kvd.conf").lines().any(|line| line.starts_with(&format!("u {user} -"))));
}

#[test]
fn the_unit_gives_no_privileges_away() {
    assert_eq!(value("CapabilityBoundingSet"), "");
    for key in ["NoNewPrivileges", "ProtectHome", "PrivateTmp", "MemoryDenyWriteExecute"] {
        assert_eq!(value(key), "true", "{key}");
    }
    assert_eq!(value("ProtectSystem"), "strict");
}

//! The compose file.

use std::collections::BTreeSet;

use roundtable::server::Settings;
use roundtable::types::Role;
use serde_yaml_ng::Value;

use super::{documents, image, path, patience, seconds, settings, strings};

fn file() -> Value {
    documents("docker-compose.yml").remove(0)
}

fn services(file: &Value) -> Vec<(String, Value)> {
    let services = file["services"].as_mapping().unwrap();
    let own = |(name, value): (&Value, &Value)| (name.as_str().unwrap().to_owned(), value.clone());
    services.iter().map(own).collect()
}

/// What the node of a service is started with.
fn started(service: &Value) -> Settings {
    let mut environment = image::environment();
    for (name, value) in service["environment"].as_mapping().unwrap() {
        environment.insert(name.as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned());
    }
    assert_eq!(environment["KVD_CONFIG"], "/etc/kvd/kvd.toml");
    let volumes = strings(&service["volumes"]);
    assert!(volumes.contains(&"./kvd.toml:/etc/kvd/kvd.toml:ro"), "{volumes:?}");
    settings(&path("kvd.toml"), environment)
}

#[test]
fn four_active_nodes_and_a_reserved_one_in_three_zones_are_what_the_file_starts() {
    let services = services(&file());
    let mut named = BTreeSet::new();
    for (name, service) in &services {
        let node = started(service).node;
        assert_eq!((node.name.as_str(), service["hostname"].as_str()), (&**name, Some(&**name)));
        assert_eq!(node.client_address, format!("{name}:7450"));
        assert_eq!(node.peer_address, format!("{name}:7451"));
        named.insert(name.clone());
    }
    let founders = started(&services[0].1).node.charter.founders;
    let names: BTreeSet<String> = founders.iter().map(|founder| founder.name.to_string()).collect();
    assert_eq!(names, named);
    let reserved = founders.iter().filter(|founder| founder.role == Role::Reserved).count();
    let zones: BTreeSet<String> = founders.iter().map(|founder| founder.zone.to_string()).collect();
    assert_eq!((founders.len(), reserved, zones.len()), (5, 1, 3));
}

#[test]
fn each_node_has_data_and_ports_of_its_own_and_is_published_on_loopback_alone() {
    let file = file();
    let (mut data, mut published) = (BTreeSet::new(), BTreeSet::new());
    for (name, service) in services(&file) {
        let settings = started(&service);
        let volumes = strings(&service["volumes"]);
        let own = volumes.iter().find_map(|volume| volume.strip_suffix(":/var/lib/kvd")).unwrap();
        assert_eq!(settings.data_dir.to_str(), Some("/var/lib/kvd"));
        assert!(data.insert(own.to_owned()), "{name} shares {own}");
        assert!(file["volumes"].get(own).is_some(), "{own} is not declared");
        for port in strings(&service["ports"]) {
            let rest = port.strip_prefix("${ROUNDTABLE_HOST:-127.0.0.1}:").unwrap();
            let (outside, inside) = rest.split_once(':').unwrap();
            assert!(published.insert(outside.to_owned()), "{name} shares {outside}");
            let listens = [Some(settings.listen_client), settings.listen_http];
            assert!(listens.iter().flatten().any(|address| address.port().to_string() == inside));
        }
    }
    assert_eq!((data.len(), published.len()), (5, 10));
}

#[test]
fn nodes_run_without_privileges_are_asked_for_their_health_and_may_drain() {
    let file = file();
    // What only one of the two versions of Compose takes.
    assert!(file.get("version").is_none() && file.get("name").is_none());
    for (name, service) in services(&file) {
        assert_eq!(service["read_only"].as_bool(), Some(true), "{name}");
        assert_eq!(strings(&service["cap_drop"]), ["ALL"]);
        assert_eq!(strings(&service["security_opt"]), ["no-new-privileges:true"]);
        let test = strings(&service["healthcheck"]["test"]);
        assert_eq!(test, ["CMD", "/usr/bin/kvd", "health", "--ready"]);
        assert!(seconds(&service["stop_grace_period"]) >= patience(&started(&service)));
        assert!(service.get("depends_on").is_none(), "{name} has to start before nobody");
    }
}

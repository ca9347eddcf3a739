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

/// Keys of a service whose value has one form in both versions of Compose (1.27 and later of the first, which
/// like the second follow the Compose specification), and what that form is.
fn check_key(file: &Value, key: &str, value: &Value) -> Result<(), String> {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let texts = |value: &Value| {
        value.as_sequence().is_some_and(|list| !list.is_empty() && list.iter().all(is_text))
    };
    let is_declared = |section: &str, name: &str| file[section].get(name).is_some();
    let fits = match key {
        "image" | "hostname" => is_text(value),
        "restart" => {
            ["no", "always", "on-failure", "unless-stopped"].map(Value::from).contains(value)
        }
        "read_only" => value.is_bool(),
        "cap_drop" | "security_opt" => texts(value),
        "stop_grace_period" => is_duration(value),
        "healthcheck" => return check_health(value),
        // A number or a truth value without quotes is not the same text in both.
        "environment" => value.as_mapping().is_some_and(|map| map.values().all(is_text)),
        "networks" => {
            texts(value) && strings(value).iter().all(|name| is_declared("networks", name))
        }
        "ports" => texts(value) && strings(value).iter().all(|port| is_port(port)),
        "volumes" => {
            texts(value)
                && strings(value).iter().all(|volume| {
                    let (source, rest) = volume.split_once(':').unwrap_or_default();
                    let (target, mode) = rest.split_once(':').unwrap_or((rest, "rw"));
                    let is_path = source.starts_with("./") || source.starts_with('/');
                    (is_path || is_declared("volumes", source))
                        && target.starts_with('/')
                        && ["ro", "rw"].contains(&mode)
                })
        }
        "depends_on" => return check_order(file, value),
        _ => return Err(format!("{key} is not known to both versions")),
    };
    if fits { Ok(()) } else { Err(format!("{key} is {value:?}")) }
}

/// `30s`, `1m30s`: whole numbers with units, largest first, and a unit for each.
fn is_duration(value: &Value) -> bool {
    let Some(mut rest) = value.as_str().filter(|text| !text.is_empty()) else { return false };
    for unit in ["h", "m", "s"] {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 && rest[digits..].starts_with(unit) {
            rest = &rest[digits + unit.len()..];
        }
    }
    rest.is_empty()
}

/// `[ADDRESS:]OUTSIDE:INSIDE`, where the address may be a variable with a default.
fn is_port(text: &str) -> bool {
    let (text, address) = match text.strip_prefix("${").and_then(|text| text.split_once('}')) {
        Some((variable, rest)) => {
            let default = variable.split_once(":-").map(|(_, default)| default);
            (rest.strip_prefix(':').unwrap_or_default(), default)
        }
        None => match text.rsplitn(3, ':').collect::<Vec<_>>()[..] {
            [_, _, address] => (&text[address.len() + 1..], Some(address)),
            _ => (text, None),
        },
    };
    let is_number = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    let is_address = address.is_none_or(|text| text.parse::<std::net::IpAddr>().is_ok());
    is_address
        && text.split_once(':').is_some_and(|(out, inside)| is_number(out) && is_number(inside))
}

fn check_health(value: &Value) -> Result<(), String> {
    let map = value.as_mapping().ok_or("healthcheck is no mapping")?;
    for (key, value) in map {
        let key = key.as_str().unwrap_or_default();
        let fits = match key {
            // A text would be given to a shell, and the image has none.
            "test" => value.is_sequence() && strings(value).first() == Some(&"CMD"),
            "interval" | "timeout" | "start_period" => is_duration(value),
            "retries" => value.as_u64().is_some_and(|count| count > 0),
            _ => false,
        };
        if !fits {
            return Err(format!("healthcheck.{key} is {value:?}"));
        }
    }
    Ok(())
}

/// Both take a list of services; of the long form the conditions, each for a service that is there and, for its
/// health, has a check.
fn check_order(file: &Value, value: &Value) -> Result<(), String> {
    let is_service = |name: &str| file["services"].get(name).is_some();
    if value.is_sequence() {
        let all = strings(value).into_iter().all(is_service);
        return if all { Ok(()) } else { Err("depends_on names nobody".to_owned()) };
    }
    for (name, how) in value.as_mapping().ok_or("depends_on is neither list nor mapping")? {
        let name = name.as_str().unwrap_or_default();
        let fits = match how["condition"].as_str() {
            Some("service_started" | "service_completed_successfully") => is_service(name),
            Some("service_healthy") => file["services"][name].get("healthcheck").is_some(),
            _ => false,
        };
        if !fits {
            return Err(format!("depends_on.{name} is {how:?}"));
        }
    }
    Ok(())
}

/// What keeps either version of Compose from taking the file.
fn faults(file: &Value) -> Vec<String> {
    let top = file.as_mapping().unwrap().keys().filter_map(Value::as_str);
    let known =
        |key: &&str| ["services", "networks", "volumes"].contains(key) || key.starts_with("x-");
    let mut faults: Vec<String> =
        top.filter(|key| !known(key)).map(|key| format!("{key} at the top")).collect();
    for (name, service) in services(file) {
        for (key, value) in service.as_mapping().unwrap() {
            let checked = check_key(file, key.as_str().unwrap_or_default(), value);
            faults.extend(checked.err().map(|why| format!("{name}: {why}")));
        }
    }
    faults
}

#[test]
fn both_versions_of_compose_take_every_key_of_the_file() {
    assert_eq!(faults(&file()), [""; 0]);
}

#[test]
fn what_one_of_them_refuses_is_found() {
    let broken = |at: &[&str], value: &str| {
        let mut file = file();
        let mut place = &mut file;
        for key in at {
            place = &mut place[*key];
        }
        *place = serde_yaml_ng::from_str(value).unwrap();
        faults(&file)
    };
    let kv1 = |key: &'static str| ["services", "kv1", key];
    for (at, value) in [
        (&["version"][..], "'2.4'"),
        (&kv1("restart"), "sometimes"),
        (&kv1("ports"), "['127.0.0.1:7450:0']"),
        (&kv1("ports"), "['host:7450:7450']"),
        (&kv1("ports"), "[{target: 7450, published: 7450}]"),
        (&kv1("volumes"), "['nowhere:/var/lib/kvd']"),
        (&kv1("networks"), "[other]"),
        (&kv1("environment"), "{KVD_NODE__WEIGHT: 2}"),
        (&kv1("stop_grace_period"), "30"),
        (&kv1("healthcheck"), "{test: kvd health}"),
        (&kv1("healthcheck"), "{test: [CMD, kvd], start_interval: 1s}"),
        (&kv1("healthcheck"), "{test: [CMD, kvd], interval: 2}"),
        (&kv1("depends_on"), "{kv2: {condition: service_running}}"),
        (&kv1("depends_on"), "[kv9]"),
        (&kv1("deploy"), "{replicas: 1}"),
    ] {
        assert_eq!(broken(at, value).len(), 1, "{at:?} = {value}");
    }
    assert_eq!(broken(&kv1("depends_on"), "{kv2: {condition: service_healthy}}"), [""; 0]);
    assert_eq!(broken(&kv1("depends_on"), "[kv2, kv3]"), [""; 0]);
    assert_eq!(broken(&kv1("ports"), "['7450:7450']"), [""; 0]);
}

//! The files for Kubernetes.

use std::collections::BTreeSet;
use std::io::Write;

use serde_yaml_ng::Value;

use super::{Environment, documents, image, patience, seconds, settings, strings};

/// All objects, as `kustomization.yaml` lists them.
fn objects() -> Vec<Value> {
    let list = documents("kubernetes/kustomization.yaml").remove(0);
    let files = strings(&list["resources"]);
    files.iter().flat_map(|file| documents(&format!("kubernetes/{file}"))).collect()
}

fn object(kind: &str, name: &str) -> Value {
    let is_it = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects().into_iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn container() -> Value {
    object("StatefulSet", "kvd")["spec"]["template"]["spec"]["containers"][0].clone()
}

/// What the pod with this name is told.
fn environment(pod: &str) -> Environment {
    let mut environment = image::environment();
    for entry in container()["env"].as_sequence().unwrap() {
        let value = match entry["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some(path) => {
                assert_eq!(path, "metadata.name");
                pod.to_owned()
            }
            None => entry["value"].as_str().unwrap().replace("$(KVD_NODE__NAME)", pod),
        };
        environment.insert(entry["name"].as_str().unwrap().to_owned(), value);
    }
    environment
}

#[test]
fn the_pods_are_the_founders_and_find_each_other_by_the_service_without_an_address() {
    let set = object("StatefulSet", "kvd");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let config = object("ConfigMap", "kvd")["data"]["kvd.toml"].as_str().unwrap().to_owned();
    file.write_all(config.as_bytes()).unwrap();
    let peers = set["spec"]["serviceName"].as_str().unwrap();
    let mut pods = BTreeSet::new();
    for number in 0..set["spec"]["replicas"].as_u64().unwrap() {
        let pod = format!("kvd-{number}");
        let settings = settings(file.path(), environment(&pod));
        assert_eq!(settings.node.peer_address, format!("{pod}.{peers}:7451"));
        assert_eq!(settings.node.client_address, format!("{pod}.{peers}:7450"));
        let mounts = container()["volumeMounts"].as_sequence().unwrap().clone();
        let data = mounts.iter().find(|mount| mount["name"] == "data").unwrap();
        let mount = std::path::Path::new(data["mountPath"].as_str().unwrap());
        assert_eq!(settings.data_dir, mount.join("data"));
        let grace = &set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
        assert!(seconds(grace) >= patience(&settings));
        let founders = &settings.node.charter.founders;
        let names: BTreeSet<String> = founders.iter().map(|one| one.name.to_string()).collect();
        assert!(names.contains(&pod));
        pods.insert(pod);
        assert!(pods.is_subset(&names) && names.len() == 5);
    }
    assert_eq!(pods.len(), 5);
    let peers = object("Service", peers);
    assert_eq!(peers["spec"]["clusterIP"], "None");
    // Founding needs them all, before any is ready.
    assert_eq!(peers["spec"]["publishNotReadyAddresses"], true);
    assert_eq!(set["spec"]["podManagementPolicy"], "Parallel");
}

#[test]
fn selectors_ports_and_probes_name_what_there_is() {
    let set = object("StatefulSet", "kvd");
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    let budget = object("PodDisruptionBudget", "kvd");
    assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(budget["spec"]["maxUnavailable"].as_u64(), Some(1));
    let container = container();
    let ports = container["ports"].as_sequence().unwrap();
    let number = |name: &Value| {
        let port = ports.iter().find(|port| port["name"] == *name);
        port.unwrap_or_else(|| panic!("no port {name:?}"))["containerPort"].as_u64().unwrap()
    };
    let environment = image::environment();
    for port in ports {
        let name = port["name"].as_str().unwrap().to_uppercase();
        let listens = &environment[&format!("KVD_LISTEN__{name}")];
        assert_eq!(*listens, format!("0.0.0.0:{}", port["containerPort"].as_u64().unwrap()));
    }
    for service in ["kvd", "kvd-peers"].map(|name| object("Service", name)) {
        assert_eq!(&service["spec"]["selector"], labels);
        for port in service["spec"]["ports"].as_sequence().unwrap() {
            assert_eq!(number(&port["targetPort"]), port["port"].as_u64().unwrap());
        }
    }
    let (alive, ready) = (&container["livenessProbe"], &container["readinessProbe"]);
    for (probe, path) in [(alive, "/healthz"), (ready, "/readyz")] {
        assert_eq!(probe["httpGet"]["path"], path);
        assert_eq!(number(&probe["httpGet"]["port"]), 7452);
    }
}

#[test]
fn pods_run_as_nobody_on_a_root_that_cannot_be_written() {
    let pod = object("StatefulSet", "kvd")["spec"]["template"]["spec"].clone();
    let (context, own) = (&pod["securityContext"], &pod["containers"][0]["securityContext"]);
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["runAsUser"], context["fsGroup"]);
    assert_eq!(own["readOnlyRootFilesystem"], true);
    assert_eq!(own["allowPrivilegeEscalation"], false);
    assert_eq!(strings(&own["capabilities"]["drop"]), ["ALL"]);
}

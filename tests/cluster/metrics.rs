//! What is said about metrics against what a node shows: the table of `docs/metrics.md`, and the
//! dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::fixture::{Cluster, http};

/// One metric: its type, unit and labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shape {
    kind: String,
    is_bytes: bool,
    is_seconds: bool,
    labels: BTreeSet<String>,
}

/// Metrics by the name that people look for: that of a counter's samples, that of a histogram.
type Shapes = BTreeMap<String, Shape>;

fn shown(text: &str) -> Shapes {
    let mut shapes = Shapes::new();
    let mut family = String::new();
    for line in text.lines() {
        match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
            ["#", "TYPE", name, kind] => {
                family = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
                shapes.entry(family.clone()).or_default().kind = kind.to_owned();
            }
            ["#", "UNIT", _, unit] => {
                let shape = shapes.get_mut(&family).unwrap();
                (shape.is_bytes, shape.is_seconds) = (unit == "bytes", unit == "seconds");
            }
            ["#", ..] => {}
            _ => {
                let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
                let labels = labels.map_or("", |(labels, _)| labels).split("\",");
                let names = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
                let shape = shapes.get_mut(&family).unwrap();
                shape.labels.extend(names.filter(|name| name != "le"));
            }
        }
    }
    shapes
}

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn documented() -> Shapes {
    let mut shapes = Shapes::new();
    for line in file("docs/metrics.md").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').splitn(4, '|').map(str::trim).collect();
        let [name, kind, unit, meaning] = cells[..] else { panic!("{line}") };
        assert!(!meaning.is_empty(), "{line}");
        let name = name.trim_matches('`').trim_end_matches('}');
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(str::to_owned);
        let shape = Shape {
            kind: kind.to_owned(),
            is_bytes: unit == "bytes",
            is_seconds: unit == "seconds",
            labels: labels.collect(),
        };
        assert!(shapes.insert(name.to_owned(), shape).is_none(), "twice: {line}");
    }
    shapes
}

async fn of_a_node() -> Shapes {
    let cluster = Cluster::start().await;
    // There is a sample of a peer as soon as it has told of itself.
    cluster.all_alive().await;
    cluster.client().put("key", "value").await.unwrap();
    shown(&http::get(cluster.nodes[0].http, "/metrics").await.unwrap().body)
}

#[tokio::test]
async fn every_metric_is_in_the_table_and_every_row_of_it_is_a_metric() {
    let (shown, documented) = (of_a_node().await, documented());
    let names = |shapes: &Shapes| shapes.keys().cloned().collect::<BTreeSet<String>>();
    assert_eq!(names(&shown), names(&documented));
    for (name, shape) in &shown {
        assert_eq!(shape, &documented[name], "{name}");
    }
}

/// The values of all members with this name, wherever they are.
fn members<'a>(value: &'a serde_json::Value, name: &str, found: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::Object(object) => {
            found.extend(object.get(name).and_then(serde_json::Value::as_str));
            object.values().for_each(|value| members(value, name, found));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| members(value, name, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_dashboard_asks_for_metrics_and_labels_that_there_are() {
    let shown = of_a_node().await;
    let board: serde_json::Value =
        serde_json::from_str(&file("deploy/grafana/roundtable.json")).unwrap();
    let (mut asked, mut metrics) = (Vec::new(), BTreeSet::new());
    members(&board, "expr", &mut asked);
    members(&board, "query", &mut asked);
    assert!(asked.len() > 30, "{asked:?}");
    for expression in asked {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for (at, _) in expression.match_indices("kv_") {
            let rest = &expression[at..];
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            let name = name.trim_end_matches("_bucket");
            let shape = shown.get(name).unwrap_or_else(|| panic!("no {name}: {expression}"));
            metrics.insert(name.to_owned());
            let matchers = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            for matcher in matchers.map_or("", |(matchers, _)| matchers).split(',') {
                let label = matcher.split(['=', '!']).next().unwrap();
                let is_scraped = matches!(label, "" | "job" | "instance");
                assert!(is_scraped || shape.labels.contains(label), "{label}: {expression}");
            }
        }
    }
    // A board that shows a tenth of what there is helps nobody.
    assert!(metrics.len() > 25, "{metrics:?}");
}

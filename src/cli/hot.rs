//! `kvctl hot`: which partitions and keys clients ask for most, over all nodes.

use std::collections::BTreeMap;

use clap::Args;
use comfy_table::Cell;
use serde_json::{Map, Value as Json, json};

use crate::client::{Hot, HotKey, HotUnit, NodeStatus};
use crate::picture::{Line, Plot, plot_svg};

use super::Context;
use super::args::Format;
use super::exit::Failure;
use super::grid::{grid, size};
use super::output::Output;
use super::stores::addresses;
use super::text;

const EXAMPLES: &str = "\
Examples:
  kvctl hot                        the hottest partitions and keys of the cluster
  kvctl hot --keys --limit 5       keys alone
  kvctl hot --node n2 -o json      as one node has counted
  kvctl hot --svg hot.svg          how the load lies over the partitions

Rates fade with a half-life of a minute. Of keys the rate is never too low; ± says by how much it may be
too high.";

/// `kvctl hot`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HotArgs {
    /// Only keys
    #[arg(long, conflicts_with = "partitions")]
    keys: bool,
    /// Only partitions
    #[arg(long)]
    partitions: bool,
    /// Only what this node has counted
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// How many of each
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Write a picture of the load over the partitions to this file; - for stdout
    #[arg(long, value_name = "FILE")]
    svg: Option<String>,
}

/// What all nodes together have counted.
#[derive(Default)]
struct Merged {
    nodes: Vec<String>,
    operations: f64,
    units: Vec<HotUnit>,
    keys: Vec<HotKey>,
}

/// Adds up what nodes have counted; the hottest first.
fn merge(told: Vec<Hot>) -> Merged {
    let mut merged = Merged::default();
    let mut units: BTreeMap<(u32, u32), HotUnit> = BTreeMap::new();
    let mut keys: BTreeMap<(String, Vec<u8>), HotKey> = BTreeMap::new();
    for hot in told {
        merged.nodes.push(hot.me);
        merged.operations += hot.operations;
        for unit in hot.units {
            let sum = units.entry((unit.class, unit.partition)).or_default();
            (sum.class, sum.partition) = (unit.class, unit.partition);
            sum.reads += unit.reads;
            sum.writes += unit.writes;
            sum.bytes += unit.bytes;
        }
        for key in hot.keys {
            let name = (key.table.clone(), key.key.to_vec());
            let sum = keys.entry(name).or_default();
            let (rate, error) = (sum.rate + key.rate, sum.error + key.error);
            *sum = HotKey { rate, error, ..key };
        }
    }
    merged.units = units.into_values().collect();
    merged.units.sort_by(|a, b| (b.reads + b.writes).total_cmp(&(a.reads + a.writes)));
    merged.keys = keys.into_values().collect();
    merged.keys.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    merged
}

/// Shows what is hot.
pub(crate) async fn run(
    context: &Context<'_>,
    args: HotArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let status = context.client()?.status().await?;
    let chosen = |node: &&NodeStatus| match &args.node {
        Some(name) => node.name == *name,
        None => node.state == "alive",
    };
    let nodes = status.nodes.iter().filter(chosen).collect::<Vec<_>>();
    if let (Some(name), []) = (&args.node, nodes.as_slice()) {
        return Err(Failure::usage(format!("there is no node {name:?}")));
    }
    let addresses = addresses(context, &nodes).await?;
    let (mut told, mut failed) = (Vec::new(), Vec::new());
    for node in nodes {
        let Some(address) = addresses.get(&node.name) else {
            failed.push((node.name.clone(), "its address is not known".to_owned()));
            continue;
        };
        match context.client_over([address])?.hot().limit(u32::MAX).await {
            Ok(hot) => told.push(hot),
            Err(error) => failed.push((node.name.clone(), error.to_string())),
        }
    }
    let answered = told.len();
    show(&args, &merge(told), &failed, output)?;
    for (name, why) in &failed {
        output.note(&format!("{name}: {why}"));
    }
    match (failed.len(), answered) {
        (0, _) => Ok(()),
        (_, 0) => Err(Failure::unavailable("no node has answered")),
        (count, _) => {
            Err(Failure::partial(format!("{count} of {} nodes did not answer", count + answered)))
        }
    }
}

fn show(
    args: &HotArgs,
    merged: &Merged,
    failed: &[(String, String)],
    output: &mut Output,
) -> Result<(), Failure> {
    if let Some(path) = args.svg.as_deref() {
        let svg = picture(merged);
        if path == "-" {
            return output.bytes(svg.as_bytes());
        }
        let unwritable = |error| Failure::internal(format!("cannot write {path}: {error}"));
        std::fs::write(path, svg).map_err(unwritable)?;
        output.note(&format!("the picture is in {path}"));
    }
    let units = merged.units.iter().take(if args.keys { 0 } else { args.limit });
    let keys = merged.keys.iter().take(if args.partitions { 0 } else { args.limit });
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&json!({
            "nodes": merged.nodes,
            "operations": merged.operations,
            "partitions": units.map(|unit| unit_json(merged, unit)).collect::<Vec<_>>(),
            "keys": keys.map(key_json).collect::<Vec<_>>(),
            "failed": failed.iter().map(|(node, error)| json!({ "node": node, "error": error }))
                .collect::<Vec<_>>(),
        })),
        Format::Plain => {
            for HotUnit { class, partition, reads, writes, bytes } in units {
                output.line(&format!(
                    "partition\t{class}/{partition}\t{reads:.3}\t{writes:.3}\t{bytes:.0}"
                ))?;
            }
            keys.into_iter().try_for_each(|key| {
                let name = String::from_utf8_lossy(&text::escape(&key.key)).into_owned();
                let HotKey { table, rate, error, .. } = key;
                output.line(&format!("key\t{table}\t{name}\t{rate:.3}\t{error:.3}"))
            })
        }
        Format::Table => {
            let rows: Vec<Vec<Cell>> = units.map(|unit| unit_row(merged, unit)).collect();
            output.line(&format!("{:.1} operations a second in all", merged.operations))?;
            if !args.keys {
                let heads = ["PARTITION", "READS/S", "WRITES/S", "BYTES/S", "SHARE"];
                output.bytes(grid(&heads, 1, rows, output.color()).as_bytes())?;
            }
            if !args.partitions {
                let heads = ["KEY", "TABLE", "PARTITION", "RATE/S", "±"];
                let rows = keys.map(key_row).collect();
                output.bytes(grid(&heads, 3, rows, output.color()).as_bytes())?;
            }
            Ok(())
        }
    }
}

fn share(merged: &Merged, unit: &HotUnit) -> f64 {
    let whole = merged.operations;
    if whole > 0.0 { (unit.reads + unit.writes) / whole } else { 0.0 }
}

fn unit_json(merged: &Merged, unit: &HotUnit) -> Json {
    json!({
        "class": unit.class,
        "partition": unit.partition,
        "reads": unit.reads,
        "writes": unit.writes,
        "bytes": unit.bytes,
        "share": share(merged, unit),
    })
}

fn key_json(key: &HotKey) -> Json {
    let mut object = Map::new();
    text::put_bytes(&mut object, "key", &key.key);
    object.insert("table".to_owned(), json!(key.table));
    object.insert("class".to_owned(), json!(key.class));
    object.insert("partition".to_owned(), json!(key.partition));
    object.insert("rate".to_owned(), json!(key.rate));
    object.insert("error".to_owned(), json!(key.error));
    Json::from(object)
}

fn unit_row(merged: &Merged, unit: &HotUnit) -> Vec<Cell> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
    let bytes = unit.bytes.max(0.0) as u64;
    vec![
        Cell::new(format!("{}/{}", unit.class, unit.partition)),
        Cell::new(format!("{:.1}", unit.reads)),
        Cell::new(format!("{:.1}", unit.writes)),
        Cell::new(size(bytes)),
        Cell::new(format!("{:.1}%", share(merged, unit) * 100.0)),
    ]
}

fn key_row(key: &HotKey) -> Vec<Cell> {
    vec![
        Cell::new(String::from_utf8_lossy(&text::escape(&key.key)).into_owned()),
        Cell::new(&key.table),
        Cell::new(format!("{}/{}", key.class, key.partition)),
        Cell::new(format!("{:.1}", key.rate)),
        Cell::new(format!("{:.1}", key.error)),
    ]
}

fn picture(merged: &Merged) -> String {
    let mut lines: BTreeMap<u32, BTreeMap<u32, f64>> = BTreeMap::new();
    for unit in &merged.units {
        lines.entry(unit.class).or_default().insert(unit.partition, unit.reads + unit.writes);
    }
    let line = |(class, points): (u32, BTreeMap<u32, f64>)| Line {
        name: format!("class {class}"),
        points: points.into_iter().map(|(at, rate)| (f64::from(at), rate)).collect(),
    };
    plot_svg(&Plot {
        title: format!("{:.1} operations a second, by partition", merged.operations),
        x_label: "partition".to_owned(),
        y_label: "operations a second".to_owned(),
        is_log: false,
        lines: lines.into_iter().map(line).collect(),
        marks: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_have_counted_is_added_up() {
        let unit = |partition, reads| {
            let mut unit = HotUnit::default();
            (unit.partition, unit.reads) = (partition, reads);
            unit
        };
        let key = |name: &'static str, rate, error| {
            let mut key = HotKey::default();
            (key.table, key.key) =
                ("default".to_owned(), bytes::Bytes::from_static(name.as_bytes()));
            (key.rate, key.error) = (rate, error);
            key
        };
        let of = |units: Vec<HotUnit>, keys: Vec<HotKey>| {
            let operations = units.iter().map(|unit| unit.reads).sum();
            Hot { operations, units, keys, ..Hot::default() }
        };
        let merged = merge(vec![
            of(vec![unit(7, 3.0), unit(9, 2.0)], vec![key("a", 3.0, 0.0), key("b", 2.0, 1.0)]),
            of(vec![unit(9, 2.0)], vec![key("b", 2.0, 0.5)]),
        ]);
        assert_eq!((merged.units[0].partition, merged.units.len()), (9, 2));
        assert!((share(&merged, &merged.units[0]) - 4.0 / 7.0).abs() < 1e-9);
        let first = key_json(&merged.keys[0]);
        assert_eq!(
            (&first["key"], &first["rate"], &first["error"]),
            (&"b".into(), &4.0.into(), &1.5.into())
        );
        assert!(picture(&merged).contains("7.0 operations a second"));
    }
}

//! `kvctl status`

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde_json::{Value as Json, json};

use crate::client::{Alarm, MirrorStatus, NodeStatus, ReserveStatus, Status, UnwellBy};

use super::Context;
use super::args::Format;
use super::exit::Failure;
use super::grid::{grouped, share, size};
use super::grow;
use super::output::Output;

/// Shows the cluster.
pub(crate) async fn run(context: &Context<'_>, output: &mut Output) -> Result<(), Failure> {
    let mut status = context.client()?.status().await?;
    status.nodes.sort_by_key(|node| node.id);
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&as_json(&status)),
        Format::Plain => status.nodes.iter().try_for_each(|node| output.line(&as_line(node))),
        Format::Table => {
            let text = as_table(&status, output.color(), None);
            output.bytes(text.as_bytes())
        }
    }
}

/// The contract of `docs/kvctl.md`.
fn as_json(status: &Status) -> Json {
    let unwell = |unwell: &UnwellBy| {
        let age_ms = u64::try_from(unwell.age.as_millis()).unwrap_or(u64::MAX);
        json!({ "by": unwell.by, "why": unwell.why, "age_ms": age_ms })
    };
    let node = |node: &NodeStatus| {
        json!({
            "name": node.name,
            "id": node.id.0,
            "address": node.address,
            "peer_address": node.peer_address,
            "zone": node.zone,
            "state": node.state,
            "role": node.role,
            "partitions": node.partitions,
            "replica_partitions": node.replica_partitions,
            "disk_bytes": node.disk_bytes,
            "trees": {
                "bytes": node.tree_bytes,
                "file_bytes": node.tree_file_bytes,
                "leaves": node.tree_leaves,
            },
            "hints": node.hints,
            "clock_offset_ns": node.clock_offset_ns,
            "serving": node.serving,
            "unwell": node.unwell.iter().map(unwell).collect::<Vec<_>>(),
            "down_ms": node.down_for.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
            "relieved_at": node.relieved_at.map(|epoch| epoch.0),
            "mirror": node.mirror.map(mirror),
        })
    };
    json!({
        "cluster": status.cluster_name,
        "cluster_id": status.cluster_id,
        "epoch": status.epoch.0,
        "partitions": status.partitions,
        "answered_by": status.me,
        "unavailable": status.unavailable,
        "reserve": status.reserve.as_ref().map(reserve_json),
        "alarms": status.alarms.iter().map(alarm).collect::<Vec<_>>(),
        "growth": status.growth.as_ref().map(grow::as_json),
        "nodes": status.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

/// What should be reserved for failures, and is.
pub(crate) fn reserve_json(reserve: &ReserveStatus) -> Json {
    json!({
        "p": reserve.p,
        "confidence": reserve.confidence,
        "nodes": reserve.members,
        "needed": reserve.needed,
        "present": reserve.present,
        "loss": { "low": reserve.loss_low, "high": reserve.loss_high },
    })
}

/// The chance that all owners of some partition are gone at once.
pub(crate) fn loss_text(reserve: &ReserveStatus) -> String {
    let (low, high) = (reserve.loss_low, reserve.loss_high);
    if high - low <= high * 1e-3 { format!("{high:.2e}") } else { format!("{low:.2e}..{high:.2e}") }
}

fn reserve_line(reserve: &ReserveStatus) -> String {
    let ReserveStatus { needed, present, members, p, confidence, .. } = reserve;
    format!(
        "reserve: {needed} needed, {present} present ({members} nodes, p = {p:.5}, confidence {}); all \
         owners of some partition gone at once: {}",
        confidence,
        loss_text(reserve)
    )
}

fn alarm(alarm: &Alarm) -> Json {
    json!({ "kind": alarm.kind, "subject": alarm.subject, "text": alarm.text })
}

fn mirror(mirror: MirrorStatus) -> Json {
    json!({
        "units": mirror.units,
        "wanted": mirror.wanted,
        "bytes": mirror.bytes,
        "oldest_ms": u64::try_from(mirror.oldest.as_millis()).unwrap_or(u64::MAX),
    })
}

/// What a reserved node keeps copies of.
fn mirror_line(node: &NodeStatus) -> Option<String> {
    let MirrorStatus { units, wanted, bytes, oldest } = node.mirror?;
    let age = humantime::format_duration(Duration::from_secs(oldest.as_secs()));
    let (units, wanted) = (grouped(units.into()), grouped(wanted.into()));
    let (name, bytes) = (&node.name, size(bytes));
    Some(format!(
        "mirror: {name} keeps {units} of {wanted} units ({bytes}), each at most {age} old"
    ))
}

/// For how long members have been down, and what the orchestrator cannot do about it.
fn orchestrator(status: &Status) -> Vec<String> {
    let since = |node: &NodeStatus| {
        let seconds = Duration::from_secs(node.down_for?.as_secs());
        let place = node.relieved_at.map_or_else(String::new, |epoch| {
            format!("; its place was taken in epoch {}", epoch.0)
        });
        let down = humantime::format_duration(seconds);
        Some(format!("hint: {} has been down for {down}{place}", node.name))
    };
    let alarms = status.alarms.iter().map(|it| format!("alarm: {}: {}", it.kind, it.text));
    status.nodes.iter().filter_map(since).chain(alarms).collect()
}

fn as_line(node: &NodeStatus) -> String {
    let NodeStatus { name, id, address, zone, state, role, .. } = node;
    let NodeStatus { partitions, replica_partitions, disk_bytes, hints, .. } = node;
    format!(
        "{name}\t{id}\t{address}\t{zone}\t{state}\t{role}\t{partitions}\t{replica_partitions}\
         \t{disk_bytes}\t{hints}"
    )
}

/// Two letters: U up, S suspect, D down, L left; then N normal, R reserved, J joining, L leaving.
fn letters(node: &NodeStatus) -> String {
    let state = match node.state.as_str() {
        "alive" => 'U',
        "suspect" => 'S',
        "down" => 'D',
        "left" => 'L',
        _ => '?',
    };
    let role = match node.role.as_str() {
        "active" => 'N',
        "reserved" => 'R',
        "joining" => 'J',
        "leaving" => 'L',
        _ => '?',
    };
    format!("{state}{role}")
}

/// For people. `width` is the terminal's when left out.
fn as_table(status: &Status, color: bool, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    if let Some(width) = width {
        table.set_width(width);
    }
    let heads = ["ST", "NODE", "ADDRESS", "ZONE", "PARTS", "COPIES", "OWNS", "DISK", "HINTS"];
    table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Dim)));
    let copies = status.nodes.iter().map(|node| u64::from(node.replica_partitions)).sum();
    for node in &status.nodes {
        table.add_row(row(node, copies));
    }
    for index in 4..heads.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = title(status);
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("(S: U up, S suspect, D down; T: N normal, R reserved, J joining, L leaving)\n");
    if let Some(reserve) = &status.reserve {
        text.push_str(&reserve_line(reserve));
        text.push('\n');
    }
    for line in status.nodes.iter().filter_map(mirror_line) {
        text.push_str(&line);
        text.push('\n');
    }
    for line in status.growth.iter().flat_map(grow::lines) {
        text.push_str(&line);
        text.push('\n');
    }
    for hint in hints(status) {
        text.push_str(&hint);
        text.push('\n');
    }
    text
}

fn row(node: &NodeStatus, copies: u64) -> Vec<Cell> {
    let state = match node.state.as_str() {
        "alive" => Color::Green,
        "suspect" => Color::Yellow,
        _ => Color::Red,
    };
    let known = |number: u64, text: String| if number == 0 { "–".to_owned() } else { text };
    let address = if node.address.is_empty() { "–" } else { &node.address };
    let disk = size(node.disk_bytes);
    vec![
        Cell::new(letters(node)).fg(state).add_attribute(Attribute::Bold),
        Cell::new(&node.name),
        Cell::new(address),
        Cell::new(&node.zone),
        Cell::new(grouped(node.partitions.into())),
        Cell::new(grouped(node.replica_partitions.into())),
        Cell::new(share(node.replica_partitions.into(), copies)),
        Cell::new(known(node.disk_bytes, disk)),
        Cell::new(grouped(node.hints)),
    ]
}

fn title(status: &Status) -> String {
    let up = status.nodes.iter().filter(|node| node.state == "alive").count();
    let others = status.nodes.len() - up;
    let counts = if others == 0 { format!("{up} up") } else { format!("{up} up, {others} not up") };
    format!(
        "Cluster {}   epoch {}   {} nodes ({counts})   {} partitions   seen by {}\n",
        status.cluster_name,
        status.epoch,
        status.nodes.len(),
        grouped(status.partitions.into()),
        status.me,
    )
}

fn hints(status: &Status) -> Vec<String> {
    let mut hints = Vec::new();
    let down = status.nodes.iter().filter(|node| node.state == "down");
    let down = down.map(|node| node.name.as_str()).collect::<Vec<_>>();
    if !down.is_empty() {
        let held = status.nodes.iter().map(|node| node.hints).sum();
        let verb = if down.len() == 1 { "is" } else { "are" };
        let held = grouped(held);
        hints.push(format!("hint: {} {verb} down; {held} hints are held", down.join(", ")));
    }
    hints.extend(status.nodes.iter().flat_map(unwell));
    hints.extend(orchestrator(status));
    if !status.unavailable.is_empty() {
        let (lost, all) = (status.unavailable.len(), status.partitions);
        hints.push(format!("warning: {lost} of {all} partitions lack a live quorum"));
    }
    if let Some(reserve) = status.reserve.filter(|reserve| reserve.present < reserve.needed) {
        let ReserveStatus { needed, present, .. } = reserve;
        hints.push(format!(
            "warning: too few nodes are reserved: {needed} are needed, {present} answer; start more with \
             kvd run --join, and leave them reserved"
        ));
    }
    hints
}

/// A line for each reason why reads leave a node out, with the nodes whose reads do.
fn unwell(node: &NodeStatus) -> Vec<String> {
    let mut by_reason: Vec<(&str, Vec<String>)> = Vec::new();
    for UnwellBy { by, why, age, .. } in &node.unwell {
        let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
        let who = if *by == node.name { "itself" } else { by };
        let text = format!("{who} for {age}");
        match by_reason.iter_mut().find(|(known, _)| known == why) {
            Some((_, all)) => all.push(text),
            None => by_reason.push((why, vec![text])),
        }
    }
    let line = |(why, by): (&str, Vec<String>)| {
        let why = match why {
            "stalled" => "it has left a request unanswered for 300 ms",
            "failing" => "it has failed three times in a row",
            "slow" => "it takes eight times as long as the others",
            other => other,
        };
        format!("warning: reads leave {} out: {why} ({})", node.name, by.join(", "))
    };
    by_reason.into_iter().map(line).collect()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

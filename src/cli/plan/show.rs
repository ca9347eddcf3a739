//! What is staged, and what it would do.

use comfy_table::Cell;
use serde_json::{Value as Json, json};

use crate::client::{DraftReply, LinkLine, MoveLine, NodeName, ShareLine, Topology};

use super::super::args::Format;
use super::super::exit::Failure;
use super::super::grid::{bar, grid, grouped, size};
use super::super::output::Output;
use super::hash_text;

const NOTHING: &str = "nothing is staged";
const BAR_WIDTH: u64 = 16;
/// Links that people are shown; the largest ones.
const LINKS_MAX: usize = 24;

/// Shows it.
pub(super) fn show(topology: &Topology, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&as_json(topology)),
        Format::Plain => as_lines(topology, output),
        Format::Table => {
            let text = as_text(topology, output.color());
            output.bytes(text.as_bytes())
        }
    }
}

/// The contract of `docs/kvctl.md`.
fn as_json(topology: &Topology) -> Json {
    let empty = DraftReply { reasons: vec![NOTHING.to_owned()], ..DraftReply::default() };
    let draft = topology.draft.as_ref().unwrap_or(&empty);
    let names = |names: &[NodeName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let line = |line: &MoveLine| {
        json!({
            "class": line.unit.class.0,
            "partition": line.unit.partition.0,
            "from": names(&line.from),
            "to": names(&line.to),
            "bytes": line.bytes,
            "keys": line.keys,
        })
    };
    let share = |share: &ShareLine| {
        json!({
            "node": share.node.as_str(),
            "before": share.before,
            "after": share.after,
            "bytes_before": share.bytes_before,
            "bytes_after": share.bytes_after,
            "bytes_peak": share.bytes_peak,
        })
    };
    let link = |link: &LinkLine| {
        let (from, to) = (link.from.as_str(), link.to.as_str());
        json!({ "from": from, "to": to, "units": link.units, "bytes": link.bytes })
    };
    json!({
        "epoch": topology.epoch.0,
        "staged": topology.staged,
        "hash": topology.draft.as_ref().map(|draft| hash_text(draft.hash)),
        "feasible": draft.reasons.is_empty(),
        "reasons": draft.reasons,
        "warnings": draft.warnings,
        "moves": draft.moves.iter().map(line).collect::<Vec<_>>(),
        "move_count": draft.move_count,
        "shares": draft.shares.iter().map(share).collect::<Vec<_>>(),
        "links": draft.links.iter().map(link).collect::<Vec<_>>(),
        "duration_s": draft.duration.as_secs_f64(),
    })
}

fn listed(names: &[NodeName]) -> String {
    let names: Vec<&str> = names.iter().map(NodeName::as_str).collect();
    names.join(",")
}

fn as_lines(topology: &Topology, output: &mut Output) -> Result<(), Failure> {
    let Some(draft) = &topology.draft else {
        output.note(NOTHING);
        return Ok(());
    };
    for reason in &draft.reasons {
        output.note(&format!("not feasible: {reason}"));
    }
    for warning in &draft.warnings {
        output.note(&format!("warning: {warning}"));
    }
    output.note(&format!("hash {}", hash_text(draft.hash)));
    draft.moves.iter().try_for_each(|line| {
        let (class, partition) = (line.unit.class, line.unit.partition);
        let (from, to) = (listed(&line.from), listed(&line.to));
        output.line(&format!("{class}\t{partition}\t{from}\t{to}\t{}\t{}", line.bytes, line.keys))
    })
}

/// For people.
fn as_text(topology: &Topology, color: bool) -> String {
    let Some(draft) = &topology.draft else {
        return format!("{NOTHING}: `kvctl node join|leave|replace|set` stages changes\n");
    };
    let mut text = format!("Plan {} on epoch {}\n", hash_text(draft.hash), topology.epoch);
    for staged in &topology.staged {
        text.push_str(&format!("  {staged}\n"));
    }
    if !draft.reasons.is_empty() {
        text.push_str("\nIt cannot be carried out:\n");
        for reason in &draft.reasons {
            text.push_str(&format!("  {reason}\n"));
        }
        return text;
    }
    text.push('\n');
    text.push_str(&shares(draft, color));
    text.push('\n');
    text.push_str(&moves(draft));
    if !draft.links.is_empty() {
        text.push_str(&links(draft, color));
    }
    text.push('\n');
    for warning in &draft.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    let hash = hash_text(draft.hash);
    let short = hash.get(..super::PREFIX_MIN).unwrap_or(&hash);
    text.push_str(&format!("`kvctl plan commit {short}` carries it out\n"));
    text
}

fn shares(draft: &DraftReply, color: bool) -> String {
    let most = draft.shares.iter().map(|share| share.before.max(share.after)).max().unwrap_or(0);
    let row = |share: &ShareLine| {
        let change = i64::from(share.after) - i64::from(share.before);
        let change = if change == 0 { "=".to_owned() } else { format!("{change:+}") };
        vec![
            Cell::new(share.node.as_str()),
            Cell::new(bar(share.before.into(), most.into(), BAR_WIDTH)),
            Cell::new(bar(share.after.into(), most.into(), BAR_WIDTH)),
            Cell::new(grouped(share.before.into())),
            Cell::new(grouped(share.after.into())),
            Cell::new(change),
            Cell::new(size(share.bytes_before)),
            Cell::new(size(share.bytes_after)),
            Cell::new(size(share.bytes_peak)),
        ]
    };
    let heads =
        ["NODE", "NOW", "THEN", "COPIES", "THEN", "CHANGE", "DISK", "THEN", "AT MOST MEANWHILE"];
    grid(&heads, 3, draft.shares.iter().map(row).collect(), color)
}

fn moves(draft: &DraftReply) -> String {
    let bytes = draft.links.iter().map(|link| link.bytes).sum();
    let keys = draft.moves.iter().map(|line| line.keys).sum();
    // Whole seconds: it is an estimate.
    let duration = core::time::Duration::from_secs(draft.duration.as_secs().max(1));
    format!(
        "{} units move: about {}, {} keys, {} under the throttle\n",
        grouped(draft.move_count.into()),
        size(bytes),
        grouped(keys),
        humantime::format_duration(duration),
    )
}

fn links(draft: &DraftReply, color: bool) -> String {
    let mut links: Vec<&LinkLine> = draft.links.iter().collect();
    links.sort_by_key(|link| core::cmp::Reverse((link.bytes, link.units)));
    let row = |link: &&LinkLine| {
        vec![
            Cell::new(link.from.as_str()),
            Cell::new(link.to.as_str()),
            Cell::new(grouped(link.units.into())),
            Cell::new(size(link.bytes)),
        ]
    };
    let rows = links.iter().take(LINKS_MAX).map(row).collect();
    let mut text = grid(&["FROM", "TO", "UNITS", "BYTES"], 2, rows, color);
    let more = links.len().saturating_sub(LINKS_MAX);
    if more > 0 {
        text.push_str(&format!("and {more} more pairs\n"));
    }
    text
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;

//! What `kvctl top` shows of one look.

use comfy_table::{Attribute, Cell, Color};
use serde_json::{Value as Json, json};

use super::super::grid::{grid, grouped, size};
use super::figures::{Figures, READS, SCANS, WRITES};
use super::{Line, Look};

const HEADS: [&str; 13] = [
    "NODE", "ST", "READ/s", "WRITE/s", "SCAN/s", "ERR/s", "P50 R/W", "P99 R/W", "OPEN", "CPU",
    "MEMORY", "DISK", "HINTS",
];
/// How high a rate is, against the highest that is shown.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// For people.
pub(super) fn text(look: &Look, color: bool) -> String {
    let status = &look.status;
    let up = look.lines.iter().filter(|line| line.node.state == "alive").count();
    let rate = look.rates.last().copied().unwrap_or(0.0);
    let mut text = format!(
        "Cluster {}   epoch {}   {up} of {} nodes up   {}/s\n{}\n\n",
        status.cluster_name,
        status.epoch,
        look.lines.len(),
        whole(rate),
        curve(&look.rates),
    );
    text.push_str(&grid(&HEADS, 2, look.lines.iter().map(row).collect(), color));
    for warning in warnings(look) {
        text.push_str(&warning);
        text.push('\n');
    }
    text
}

fn row(line: &Line) -> Vec<Cell> {
    let node = &line.node;
    let state = match node.state.as_str() {
        "alive" => Cell::new("up").fg(Color::Green),
        "suspect" => Cell::new("suspect").fg(Color::Yellow),
        other => Cell::new(other).fg(Color::Red),
    };
    let mut row = vec![Cell::new(&node.name).add_attribute(Attribute::Bold), state];
    let Some(figures) = &line.figures else {
        row.extend(std::iter::repeat_n("–", HEADS.len() - 2).map(Cell::new));
        return row;
    };
    let rate = |kinds| whole(figures.rate(kinds));
    let errors = Cell::new(whole(figures.errors));
    row.extend([READS, WRITES, SCANS].map(|kinds| Cell::new(rate(kinds))));
    row.push(if figures.errors > 0.0 { errors.fg(Color::Red) } else { errors });
    row.extend([0.5, 0.99].map(|part| Cell::new(latencies(figures, part))));
    let percent = |cpu: f64| format!("{:.0} %", cpu * 100.0);
    row.push(Cell::new(whole(figures.in_flight)));
    row.push(Cell::new(figures.cpu.map_or_else(|| "–".to_owned(), percent)));
    let bytes = |bytes: f64| size(floor(bytes));
    row.push(Cell::new(figures.resident_bytes.map_or_else(|| "–".to_owned(), bytes)));
    row.push(Cell::new(bytes(figures.disk_bytes)));
    row.push(Cell::new(grouped(floor(figures.hints))));
    row
}

/// Reads and writes, in milliseconds.
fn latencies(figures: &Figures, part: f64) -> String {
    let one = |kinds| match figures.latency(kinds, part) {
        Some(seconds) => format!("{:.1}", seconds * 1000.0),
        None => "–".to_owned(),
    };
    format!("{}/{} ms", one(READS), one(WRITES))
}

/// One mark for each rate.
fn curve(rates: &[f64]) -> String {
    let highest = rates.iter().copied().fold(0.0, f64::max);
    let mark = |rate: &f64| {
        let part = if highest > 0.0 { rate / highest } else { 0.0 };
        let step = usize::try_from(floor(part * 7.0)).unwrap_or(0);
        STEPS.get(step.min(STEPS.len() - 1)).copied().unwrap_or(' ')
    };
    rates.iter().map(mark).collect()
}

fn warnings(look: &Look) -> Vec<String> {
    let mut lines = Vec::new();
    let status = &look.status;
    if !status.unavailable.is_empty() {
        let (lost, all) = (status.unavailable.len(), status.partitions);
        lines.push(format!("warning: {lost} of {all} partitions lack a live quorum"));
    }
    for line in &look.lines {
        let name = &line.node.name;
        if line.node.state == "alive" && !line.node.serving {
            lines.push(format!("warning: {name} is up, and does not serve yet"));
        }
        if !line.node.unwell.is_empty() {
            lines.push(format!("warning: reads leave {name} out; `kvctl status` says why"));
        }
        if line.figures.as_ref().is_some_and(|figures| figures.read_only) {
            lines.push(format!("warning: {name}: its store is read-only after a failed write"));
        }
    }
    if let Some((done, total)) = look.plan {
        lines.push(format!("plan: {done} of {total} moves done"));
    }
    lines
}

/// For scripts: one object a look.
pub(super) fn json(look: &Look) -> Json {
    let node = |line: &Line| {
        let figures = line.figures.as_ref().map(|figures| {
            let latency = |kinds, part| figures.latency(kinds, part).map(|s| s * 1000.0);
            json!({
                "reads_per_s": figures.rate(READS),
                "writes_per_s": figures.rate(WRITES),
                "scans_per_s": figures.rate(SCANS),
                "errors_per_s": figures.errors,
                "read_p50_ms": latency(READS, 0.5),
                "read_p99_ms": latency(READS, 0.99),
                "write_p50_ms": latency(WRITES, 0.5),
                "write_p99_ms": latency(WRITES, 0.99),
                "in_flight": figures.in_flight,
                "cpu": figures.cpu,
                "resident_bytes": figures.resident_bytes,
                "disk_bytes": figures.disk_bytes,
                "pending_bytes": figures.pending_bytes,
                "hints": figures.hints,
                "read_only": figures.read_only,
            })
        });
        json!({
            "name": line.node.name,
            "state": line.node.state,
            "role": line.node.role,
            "serving": line.node.serving,
            "figures": figures,
        })
    };
    json!({
        "cluster": look.status.cluster_name,
        "epoch": look.status.epoch.0,
        "operations_per_s": look.rates.last(),
        "unavailable": look.status.unavailable,
        "plan": look.plan.map(|(done, total)| json!({ "done": done, "total": total })),
        "nodes": look.lines.iter().map(node).collect::<Vec<_>>(),
    })
}

fn whole(number: f64) -> String {
    grouped(floor(number.round()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and bytes, which are neither negative nor near 2^64"
)]
fn floor(number: f64) -> u64 {
    number.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_a_mark_for_each_rate_against_the_highest() {
        assert_eq!(curve(&[0.0, 50.0, 100.0]), "▁▄█");
        assert_eq!(curve(&[0.0, 0.0]), "▁▁");
        assert_eq!(curve(&[]), "");
    }
}

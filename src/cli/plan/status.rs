//! How far the plan is that is carried out, once or until it has ended.

use core::fmt::Write as _;
use core::time::Duration;

use comfy_table::Cell;
use serde_json::{Value as Json, json};

use crate::client::{MovePhase, MoveProgress, NodeName, PlanProgress, StuckLine, Topology};

use super::super::Context;
use super::super::args::Format;
use super::super::bars::Bars;
use super::super::exit::Failure;
use super::super::grid::{bar, grid, share};
use super::super::output::Output;
use super::{hash_text, status_text};

const NONE: &str = "no plan is carried out";
const BAR_WIDTH: u64 = 32;
const INTERVAL: Duration = Duration::from_millis(500);
/// Stuck units that people are shown.
const STUCK_SHOWN: usize = 32;
/// Questions in a row without an answer after which watching is given up.
const FAILURES_MAX: u32 = 5;

/// Shows it once.
pub(super) fn status(topology: &Topology, output: &mut Output) -> Result<(), Failure> {
    match (output.format(), &topology.running) {
        (Format::Json | Format::Jsonl, _) => output.json(&as_json(topology)),
        (_, None) => {
            let staged = match topology.staged.len() {
                0 => String::new(),
                count => format!("; {count} changes are staged"),
            };
            output.line(&format!("{NONE}{staged}"))?;
            waits(topology, output)
        }
        (Format::Plain, Some(plan)) => as_lines(plan, output),
        (Format::Table, Some(plan)) => {
            let text = as_text(plan, output.color());
            output.bytes(text.as_bytes())?;
            waits(topology, output)
        }
    }
}

/// What does not go on by itself, and what would help.
fn waits(topology: &Topology, output: &mut Output) -> Result<(), Failure> {
    let text = stuck_text(topology, output.color());
    output.bytes(text.as_bytes())
}

/// Empty when everything goes on.
fn stuck_text(topology: &Topology, color: bool) -> String {
    let mut text = String::new();
    let stuck = &topology.stuck;
    if !stuck.is_empty() {
        let list =
            |names: &[NodeName]| names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ");
        let row = |line: &StuckLine| {
            let cells = [line.unit.to_string(), list(&line.waits_for), list(&line.down)];
            cells.into_iter().chain([line.why.clone()]).map(Cell::new).collect()
        };
        let _ = write!(text, "\n{} units do not go on by themselves:\n\n", stuck.len());
        let heads = ["UNIT", "WAITS FOR", "DOWN", "WHY"];
        let rows = stuck.iter().take(STUCK_SHOWN).map(row).collect();
        text.push_str(&grid(&heads, heads.len(), rows, color));
        let mut down: Vec<NodeName> = stuck.iter().flat_map(|line| line.down.clone()).collect();
        down.sort();
        down.dedup();
        if !down.is_empty() {
            let _ = write!(
                text,
                "\nStart {} again. What is gone for good, with all it alone held, is given up with\n\
                 kvctl plan accept-loss --all --gone {}\n",
                list(&down),
                list(&down).replace(", ", ","),
            );
        }
    }
    for line in &topology.custody {
        let _ = write!(text, "\n{line}\n");
    }
    text
}

/// Shows it until it has ended: bars where somebody watches, a line for each change elsewhere.
pub(super) async fn watch(context: &Context<'_>, output: &mut Output) -> Result<(), Failure> {
    let plans = context.client()?.plans();
    let mut bars = output.bars();
    let (mut watched, mut shown, mut failures) = (None, None, 0);
    loop {
        let topology = match plans.show().await {
            Ok(topology) => topology,
            // Nodes come and go while a plan is carried out.
            Err(error) if error.is_retryable() && failures < FAILURES_MAX => {
                failures += 1;
                tokio::time::sleep(INTERVAL).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failures = 0;
        let plan = topology.running.as_ref();
        let plan = plan.filter(|plan| *watched.get_or_insert(plan.hash) == plan.hash);
        let Some(plan) = plan else {
            if let Some(bars) = bars.take() {
                bars.finish();
            }
            return ended(watched, &topology, output);
        };
        let now = as_change(plan);
        match &mut bars {
            Some(bars) => draw(bars, plan),
            None if shown.as_ref() != Some(&now) => {
                if output.format().is_json() {
                    output.json(&as_json(&topology))?;
                } else {
                    output.line(&now)?;
                }
                output.finish()?;
            }
            None => {}
        }
        shown = Some(now);
        tokio::time::sleep(INTERVAL).await;
    }
}

fn ended(watched: Option<u128>, topology: &Topology, output: &mut Output) -> Result<(), Failure> {
    if output.format().is_json() {
        let ended = watched.map(hash_text);
        return output.json(&json!({ "epoch": topology.epoch.0, "plan": null, "ended": ended }));
    }
    match watched {
        Some(hash) => output.line(&format!("plan {} has ended", hash_text(hash))),
        None => output.line(NONE),
    }
}

fn draw(bars: &mut Bars, plan: &PlanProgress) {
    let text = format!("{}, {} wait", status_text(plan.status), plan.queued);
    bars.whole(plan.done.into(), plan.total.into(), &text);
    let lines = plan.under_way.iter().map(|line| {
        let text = format!("{}  {}", phase_text(line), line.waits_for);
        (format!("unit {}", line.unit), done_milli(line), text)
    });
    bars.lines(lines);
}

/// The contract of `docs/kvctl.md`.
fn as_json(topology: &Topology) -> Json {
    let line = |line: &MoveProgress| {
        let fills = line.fills.iter().map(
            |(node, done)| json!({ "node": node.as_str(), "done": f64::from(*done) / 1000.0 }),
        );
        json!({
            "class": line.unit.class.0,
            "partition": line.unit.partition.0,
            "phase": phase(line),
            "undoes": line.undoes,
            "fills": fills.collect::<Vec<_>>(),
            "waits_for": line.waits_for,
        })
    };
    let plan = topology.running.as_ref().map(|plan| {
        json!({
            "hash": hash_text(plan.hash),
            "status": status_text(plan.status),
            "total": plan.total,
            "done": plan.done,
            "queued": plan.queued,
            "under_way": plan.under_way.iter().map(line).collect::<Vec<_>>(),
        })
    });
    let texts = |names: &[NodeName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let stuck = topology.stuck.iter().map(|line| {
        json!({
            "unit": line.unit.to_string(),
            "class": line.unit.class.0,
            "partition": line.unit.partition.0,
            "waits_for": texts(&line.waits_for),
            "down": texts(&line.down),
            "why": line.why,
        })
    });
    json!({
        "epoch": topology.epoch.0,
        "plan": plan,
        "staged": topology.staged,
        "stuck": stuck.collect::<Vec<_>>(),
        "custody": topology.custody,
    })
}

fn phase(line: &MoveProgress) -> &'static str {
    match line.phase {
        MovePhase::ReadOld => "read-old",
        MovePhase::ReadNew => "read-new",
    }
}

fn phase_text(line: &MoveProgress) -> &'static str {
    match (line.phase, line.undoes) {
        (MovePhase::ReadOld, false) => "is filled",
        (MovePhase::ReadOld, true) => "goes back",
        (MovePhase::ReadNew, _) => "is handed over",
    }
}

/// What is done of a move's fills, over all new owners.
fn done_milli(line: &MoveProgress) -> u64 {
    let done = line.fills.iter().map(|(_, done)| u64::from(*done));
    match (line.phase, line.fills.len() as u64) {
        (MovePhase::ReadNew, _) | (_, 0) => 1000,
        (MovePhase::ReadOld, count) => done.sum::<u64>() / count,
    }
}

/// What is told when it has changed.
fn as_change(plan: &PlanProgress) -> String {
    let PlanProgress { total, done, queued, under_way, .. } = plan;
    let filled = under_way.iter().map(done_milli).sum::<u64>();
    let filled = filled.checked_div(under_way.len() as u64).unwrap_or(0) / 10;
    let mut text = format!("{}: {done} of {total} moves done, ", status_text(plan.status));
    let _ = match under_way.len() {
        0 => write!(text, "{queued} wait"),
        count => write!(text, "{count} under way ({filled}% filled), {queued} wait"),
    };
    text
}

fn as_lines(plan: &PlanProgress, output: &mut Output) -> Result<(), Failure> {
    let (hash, status) = (hash_text(plan.hash), status_text(plan.status));
    let PlanProgress { total, done, queued, under_way, .. } = plan;
    output.line(&format!("{hash}\t{status}\t{total}\t{done}\t{queued}"))?;
    under_way.iter().try_for_each(|line| {
        let (class, partition) = (line.unit.class, line.unit.partition);
        let (phase, done, waits_for) = (phase(line), done_milli(line), &line.waits_for);
        output.line(&format!("{class}\t{partition}\t{phase}\t{done}\t{waits_for}"))
    })
}

/// For people.
fn as_text(plan: &PlanProgress, color: bool) -> String {
    let (done, total) = (u64::from(plan.done), u64::from(plan.total));
    let (bar, share) = (bar(done, total, BAR_WIDTH), share(done, total));
    let mut text = format!("Plan {}\n{bar} {share}  {}\n", hash_text(plan.hash), as_change(plan));
    if plan.under_way.is_empty() {
        return text;
    }
    let row = |line: &MoveProgress| {
        let milli = done_milli(line);
        let fills = line.fills.iter().map(|(node, done)| format!("{node} {}%", done / 10));
        vec![
            Cell::new(line.unit),
            Cell::new(phase_text(line)),
            Cell::new(super::super::grid::bar(milli, 1000, BAR_WIDTH / 2)),
            Cell::new(fills.collect::<Vec<_>>().join(", ")),
            Cell::new(&line.waits_for),
        ]
    };
    text.push('\n');
    let heads = ["UNIT", "PHASE", "FILLED", "NEW OWNERS", "WAITS FOR"];
    text.push_str(&grid(&heads, heads.len(), plan.under_way.iter().map(row).collect(), color));
    text
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

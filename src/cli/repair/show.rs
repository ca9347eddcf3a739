//! How far comparisons are, for people and for scripts.

use core::time::Duration;

use comfy_table::Cell;
use serde_json::{Value as Json, json};

use crate::client::{Repair, RepairPair};

use super::{Answers, map, runs};
use crate::cli::args::Format;
use crate::cli::exit::Failure;
use crate::cli::grid::{grid, size};
use crate::cli::output::Output;

/// Shows it, and the map if that is wanted.
pub(super) fn status(
    answers: &Answers,
    with_map: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&as_json(answers)),
        Format::Plain => answers.told.values().try_for_each(|told| output.line(&as_line(told))),
        Format::Table => {
            let heads = [
                "NODE",
                "PAIRS",
                "UNVERIFIED",
                "OLDEST",
                "UNDER WAY",
                "DIFFERED",
                "BROUGHT",
                "BYTES",
                "STARTED",
                "LEFT",
            ];
            let rows = answers.told.values().map(row).collect();
            output.bytes(grid(&heads, 1, rows, output.color()).as_bytes())?;
            if with_map {
                output.bytes(map::text(answers).as_bytes())?;
            }
            Ok(())
        }
    }
}

fn seconds(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

fn row(told: &Repair) -> Vec<Cell> {
    let counts = &told.counts;
    let run = told.runs.last();
    let progress = run
        .map_or_else(|| "–".to_owned(), |run| format!("{} of {}", run.total - run.left, run.total));
    let left = match run {
        Some(run) if run.left > 0 => runs::time_left(run).map_or_else(|| "?".to_owned(), seconds),
        _ => "–".to_owned(),
    };
    let cells = [
        told.me.clone(),
        counts.pairs.to_string(),
        counts.unverified.to_string(),
        seconds(counts.oldest),
        told.under_way.to_string(),
        counts.lacks.to_string(),
        format!("{} in, {} out", counts.here, counts.there),
        size(counts.bytes + counts.answered_bytes),
        progress,
        left,
    ];
    cells.into_iter().map(Cell::new).collect()
}

fn as_line(told: &Repair) -> String {
    let counts = &told.counts;
    let (total, left) = told.runs.last().map_or((0, 0), |run| (run.total, run.left));
    let numbers = [
        counts.pairs,
        counts.unverified,
        u64::try_from(counts.oldest.as_millis()).unwrap_or(u64::MAX),
        told.under_way,
        counts.lacks,
        counts.here,
        counts.there,
        counts.bytes,
        counts.answered_bytes,
        total,
        left,
    ];
    numbers.iter().fold(told.me.clone(), |line, number| format!("{line}\t{number}"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn as_json(answers: &Answers) -> Json {
    let nodes = answers.told.values().map(|told| {
        let counts = &told.counts;
        let run = |run: &crate::client::RunLine| {
            let left = runs::time_left(run).map(millis);
            json!({ "age_ms": millis(run.age), "pairs": run.total, "left": run.left,
                    "left_ms": left })
        };
        let pair = |pair: &RepairPair| {
            json!({ "class": pair.unit.class, "partition": pair.unit.partition,
                    "peer": pair.peer, "verified_ms": pair.verified.map(millis),
                    "keys": pair.keys, "under_way": pair.under_way })
        };
        json!({
            "node": told.me,
            "interval_ms": millis(told.interval),
            "pairs": counts.pairs,
            "unverified": counts.unverified,
            "oldest_ms": millis(counts.oldest),
            "under_way": told.under_way,
            "verified": counts.verified,
            "sessions": counts.sessions,
            "keys": counts.lacks,
            "records_here": counts.here,
            "records_there": counts.there,
            "rounds": counts.rounds,
            "bytes": counts.bytes,
            "answered_bytes": counts.answered_bytes,
            "runs": told.runs.iter().map(run).collect::<Vec<_>>(),
            "units": told.pairs.iter().map(pair).collect::<Vec<_>>(),
        })
    });
    json!({ "nodes": nodes.collect::<Vec<_>>(), "failed": answers.failed_json() })
}

//! The output: a table for each workload, its gates, and at the end what is missed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::data::{Codec, Size};
use crate::engine::Kind;
use crate::gate::{Metric, gates};
use crate::picture::{Group, Line};
use crate::report::Run;
use crate::workload::Workload;

/// The name of a row.
type Row = (Size, Codec, Workload);

/// All measurements of one run.
pub(crate) struct Table {
    head: String,
    rows: BTreeMap<Row, BTreeMap<Kind, Vec<Run>>>,
    failures: Vec<String>,
}

fn output(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output();
    done.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned()).unwrap_or_default()
}

/// The processor, how many of it, how busy they were before.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, core::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    format!("{cores} x {model}, load average {load} at the start")
}

impl Table {
    pub(crate) fn new(quick: bool) -> Self {
        let kind = if quick { "quick run" } else { "full run" };
        let head = format!(
            "{} {kind}, medians\n{}\n\
             16 B keys; memtable 64 MiB, cache 256 MiB, filter 10 bits, blocks 4 KiB, two background \
             threads; log on, synced in fillsync alone\n\
             CPU: user and system time of all threads for one operation, until the last one is done, \
             and until all background work is;\n\
             W-amp: bytes written by pages for each byte of keys and values; S-amp: bytes of the \
             directory for each live byte\n",
            output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            machine()
        );
        Self { head, rows: BTreeMap::new(), failures: Vec::new() }
    }

    pub(crate) fn add(&mut self, run: Run) {
        let row = self.rows.entry((run.size, run.codec, run.workload)).or_default();
        row.entry(run.engine).or_default().push(run);
    }

    pub(crate) fn failed(&mut self, workload: Workload, engine: Kind, why: &str) {
        let line = format!("{}, {}: {why}", workload.name(), engine.name());
        if !self.failures.contains(&line) {
            self.failures.push(line);
        }
    }

    fn median(&self, row: Row, kind: Kind, value: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        let runs = self.rows.get(&row)?.get(&kind)?;
        let mut values: Vec<f64> = runs.iter().filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// The gates of a row in words, and whether each is met; a figure above 1 is a good ratio.
    fn verdicts(&self, row: Row) -> Vec<(String, bool)> {
        let (size, codec, workload) = row;
        let judged = gates(size, codec, workload).into_iter().filter_map(|gate| {
            let figure = |kind, metric: Metric| self.median(row, kind, |run| metric.of(run));
            let verdict = gate.judge(figure)?;
            let word = if verdict.met { "met" } else { "MISSED" };
            Some((format!("{}: {:.2} {word}", gate.says(), verdict.figure), verdict.met))
        });
        judged.collect()
    }

    /// Whether everything was measured and every gate is met.
    pub(crate) fn all_met(&self) -> bool {
        let met = |row: &Row| self.verdicts(*row).iter().all(|(_, met)| *met);
        self.failures.is_empty() && self.rows.keys().all(met)
    }

    /// Latencies of the plain rows, for a drawing.
    pub(crate) fn latencies(&self) -> Vec<Group> {
        let plain = self.rows.iter().filter(|((_, codec, _), _)| *codec == Codec::None);
        let groups = plain.map(|(row, kinds)| {
            let (size, _, workload) = *row;
            let lines = kinds.keys().map(|kind| {
                let figures: [fn(&Run) -> f64; 4] =
                    [|run| run.p50, |run| run.p99, |run| run.p999, |run| run.max];
                let median = |value: fn(&Run) -> f64| {
                    self.median(*row, *kind, |run| Some(value(run))).unwrap_or(0.0)
                };
                let micros = figures.map(median);
                Line { kind: *kind, micros }
            });
            let name = format!("{}, {}", workload.name(), size.name());
            Group { name, lines: lines.collect() }
        });
        groups.collect()
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, row: Row, kind: Kind) -> fmt::Result {
        let median = |value: &dyn Fn(&Run) -> Option<f64>| self.median(row, kind, value);
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let cells = [
            number(median(&|run| Some(run.rate())), 0),
            number(median(&|run| Some(run.cpu)), 2),
            number(median(&|run| run.cpu_settled), 2),
            number(median(&|run| Some(run.p50)), 2),
            number(median(&|run| Some(run.p99)), 2),
            number(median(&|run| Some(run.p999)), 2),
            number(median(&|run| Some(run.max / 1000.0)), 2),
            number(median(&|run| run.write_amplification), 2),
            number(median(&|run| run.space_amplification), 2),
            number(median(&|run| Some(run.peak_mib)), 0),
            number(median(&|run| Some(run.seconds)), 2),
            number(median(&|run| run.pressure), 2),
        ];
        write!(f, "{}", spread(kind.name(), &cells.each_ref().map(String::as_str)))?;
        let runs = self.rows.get(&row).and_then(|kinds| kinds.get(&kind)).into_iter().flatten();
        let note = if runs.clone().all(|run| run.settled) { "" } else { "  (did not settle)" };
        writeln!(f, "{note}")
    }
}

/// The heads of the columns, and how wide they are.
const HEADS: [&str; 12] = [
    "ops/s", "CPU us", "settled", "p50 us", "p99 us", "p99.9 us", "max ms", "W-amp", "S-amp",
    "MiB", "seconds", "pressure",
];
const WIDTHS: [usize; 12] = [10, 9, 9, 12, 12, 12, 9, 7, 7, 7, 9, 10];

/// A line of the table.
fn spread(first: &str, cells: &[&str; 12]) -> String {
    let mut line = format!("  {first:<8}");
    for (cell, width) in cells.iter().zip(WIDTHS) {
        line.push_str(&format!("{cell:>width$}"));
    }
    line
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.head)?;
        let mut missed = Vec::new();
        for (row, kinds) in &self.rows {
            let (size, codec, workload) = row;
            let name = format!("{}, {}, {}", workload.name(), size.name(), codec.name());
            let counts = kinds.values().map(Vec::len).min().unwrap_or(0);
            writeln!(f, "{name} (median of {counts})\n{}", spread("engine", &HEADS))?;
            for kind in kinds.keys() {
                self.line(f, *row, *kind)?;
            }
            let pair = self.median(*row, Kind::Ours, |run| run.pair_overhead);
            if let Some(bytes) = pair {
                writeln!(f, "  bytes a pair beyond key and value in our tables: {bytes:.1}")?;
            }
            let verdicts = self.verdicts(*row);
            let words: Vec<&str> = verdicts.iter().map(|(text, _)| text.as_str()).collect();
            writeln!(f, "  {}\n", words.join("; "))?;
            let misses = verdicts.iter().filter(|(_, met)| !met);
            missed.extend(misses.map(|(text, _)| format!("{name}: {text}")));
        }
        for failure in &self.failures {
            writeln!(f, "not measured: {failure}")?;
        }
        let gates: usize = self.rows.keys().map(|row| self.verdicts(*row).len()).sum();
        writeln!(f, "{} of {gates} gates missed", missed.len())?;
        missed.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Writes an output beside the documents.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn save(ending: &str, text: &str) -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/figures");
    let file = folder.join(format!("engine-{}.{ending}", output("date", &["-u", "+%Y-%m-%d"])));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(&file, text)?;
    Ok(file)
}

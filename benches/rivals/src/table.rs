//! Medians, ratios, the gates, and how they are shown.

use core::fmt;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::fleet::System;
use crate::gate;
use crate::load::{Measured, Row};

/// What a row shows of one target: medians.
pub(crate) type Cell = Measured;

/// All measurements of one run.
pub(crate) struct Table {
    head: String,
    rows: Vec<String>,
    targets: Vec<&'static str>,
    cells: BTreeMap<(String, &'static str), Vec<Measured>>,
    resident: Vec<(System, f64)>,
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
    pub(crate) fn new(length: Duration, repetitions: u32) -> Table {
        let version = output("etcd", &["--version"]);
        let head = format!(
            "{}, medians of {repetitions}, {length:?} a measurement\n{}\n{}\n16 B keys, zipfian 0.99; \
             three nodes of each and the load on this machine; N = 3, R = W = 2\n",
            output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            machine(),
            version.lines().next().unwrap_or("etcd"),
        );
        Table {
            head,
            rows: Vec::new(),
            targets: Vec::new(),
            cells: BTreeMap::new(),
            resident: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, row: &Row, target: &'static str, measured: Measured) {
        let row = row.to_string();
        if !self.rows.contains(&row) {
            self.rows.push(row.clone());
        }
        if !self.targets.contains(&target) {
            self.targets.push(target);
        }
        self.cells.entry((row, target)).or_default().push(measured);
    }

    pub(crate) fn resident(&mut self, system: System, mib: f64) {
        self.resident.push((system, mib));
    }

    /// Memory of a node of the system of that name, in MiB.
    pub(crate) fn resident_of(&self, name: &str) -> Option<f64> {
        self.resident.iter().find(|(system, _)| system.name() == name).map(|(_, mib)| *mib)
    }

    /// The medians of one cell, each figure by itself.
    pub(crate) fn median(&self, row: &str, target: &str) -> Option<Cell> {
        let key = self.cells.keys().find(|(of, by)| of == row && *by == target)?;
        let all = self.cells.get(key)?;
        let of = |figure: fn(&Measured) -> f64| {
            let mut figures: Vec<f64> = all.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures.get(figures.len() / 2).copied()
        };
        Some(Measured {
            rate: of(|measured| measured.rate)?,
            p50_ms: of(|measured| measured.p50_ms)?,
            p99_ms: of(|measured| measured.p99_ms)?,
            server_us: of(|measured| measured.server_us)?,
            client_us: of(|measured| measured.client_us)?,
        })
    }

    pub(crate) fn all_met(&self) -> bool {
        gate::judge(self).iter().all(gate::Gate::is_met)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.head)?;
        let heads = ["op/s", "of etcd's", "p50 ms", "p99 ms", "server us", "client us"];
        write!(f, "{:<22} {:<17}", "", "")?;
        writeln!(f, "{}", heads.map(|head| format!("{head:>10}")).concat())?;
        for row in &self.rows {
            let rival = self.median(row, "etcd").map_or(f64::NAN, |cell| cell.rate);
            for target in &self.targets {
                let Some(cell) = self.median(row, target) else { continue };
                writeln!(
                    f,
                    "{row:<22} {target:<17}{:>10.0}{:>10.2}{:>10.2}{:>10.1}{:>10.1}{:>10.1}",
                    cell.rate,
                    cell.rate / rival,
                    cell.p50_ms,
                    cell.p99_ms,
                    cell.server_us,
                    cell.client_us
                )?;
            }
        }
        let resident =
            self.resident.iter().map(|(system, mib)| format!("{} {mib:.0}", system.name()));
        writeln!(f, "\nMiB a node after filling: {}\n", resident.collect::<Vec<_>>().join(", "))?;
        for gate in gate::judge(self) {
            let verdict = match (gate.is_met(), gate.reaches(gate.stretch)) {
                (_, true) => "beyond the stretch goal",
                (true, _) => "met",
                _ => "MISSED",
            };
            let bound = if gate.at_most { "at most" } else { "at least" };
            writeln!(
                f,
                "{:<64} {:>7.2} {:<3} {bound} {} ({}): {verdict}",
                gate.what, gate.got, gate.unit, gate.bound, gate.stretch
            )?;
        }
        Ok(())
    }
}

/// Keeps the output in `docs/figures`.
pub(crate) fn save(text: &str) -> std::io::Result<PathBuf> {
    let day = output("date", &["-u", "+%Y-%m-%d"]);
    let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/figures");
    let path = figures.join(format!("rivals-{day}.txt"));
    std::fs::write(&path, text)?;
    path.canonicalize()
}

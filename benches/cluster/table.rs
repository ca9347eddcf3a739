//! Medians, ratios, the gate, and how they are shown.

use core::fmt;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use roundtable::client::Lane;
use roundtable::load::mix::Mix;

use crate::fleet::System;

/// A put or a get may cost this many times what the echo costs, with `sync = interval`.
const GATE: f64 = 3.0;

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) lane: Lane,
    pub(crate) clients: u32,
    pub(crate) operation: &'static str,
    pub(crate) mix: Mix,
}

impl Row {
    pub(crate) fn name(&self) -> String {
        let lane = if self.lane == Lane::Unary { "unary" } else { "session" };
        format!("{lane:<7} {:>2} {:<5}", self.clients, self.operation)
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) server_us: f64,
    pub(crate) client_us: f64,
    pub(crate) failed: u64,
}

/// All measurements of one run.
pub(crate) struct Table {
    head: String,
    order: Vec<String>,
    cells: BTreeMap<(String, System), Vec<Measured>>,
    resident: BTreeMap<System, f64>,
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "rates, not accounts")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
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

/// What was measured, when and where.
pub(crate) fn heading(quick: bool, length: Duration, keys: &str) -> String {
    let kind = if quick { "quick run" } else { "full run, medians" };
    format!(
        "{} {kind}, {length:?} a measurement\n{}\n16 B keys, 100 B values, {keys}, N=3 R=W=2; \
         CPU is user and system time of all three servers\n",
        output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        machine()
    )
}

impl Table {
    pub(crate) fn new(quick: bool, length: Duration) -> Table {
        let head = heading(quick, length, "zipfian 0.99");
        let (order, cells, resident) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Table { head, order, cells, resident }
    }

    pub(crate) fn add(&mut self, row: &Row, measured: BTreeMap<System, Measured>) {
        let name = row.name();
        if !self.order.contains(&name) {
            self.order.push(name.clone());
        }
        for (system, measured) in measured {
            self.cells.entry((name.clone(), system)).or_default().push(measured);
        }
    }

    pub(crate) fn resident(&mut self, system: System, mib: f64) {
        self.resident.insert(system, mib);
    }

    fn median(&self, row: &str, system: System, value: fn(&Measured) -> f64) -> f64 {
        let cells = self.cells.get(&(row.to_owned(), system));
        let mut values: Vec<f64> = cells.into_iter().flatten().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Server CPU as a multiple of the echo's.
    fn ratio(&self, row: &str, system: System) -> f64 {
        let cpu = |system| self.median(row, system, |cell| cell.server_us);
        cpu(system) / cpu(System::Echo)
    }

    /// Whether every row with `sync = interval` is within the gate.
    pub(crate) fn within_the_gate(&self) -> bool {
        self.order.iter().all(|row| self.ratio(row, System::Interval) <= GATE)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.head)?;
        writeln!(
            f,
            "lane   clients op | system       |    op/s |  p50 ms  p99 ms | server us/op  x echo | client us/op | failed"
        )?;
        for row in &self.order {
            for system in System::ALL {
                let median = |value| self.median(row, system, value);
                let cells = self.cells.get(&(row.clone(), system));
                let failed: u64 = cells.into_iter().flatten().map(|cell| cell.failed).sum();
                writeln!(
                    f,
                    "{row:<17} | {:<12} | {:>7.0} | {:>7.3} {:>7.2} | {:>12.1} {:>7.2} | {:>12.1} | {failed}",
                    system.name(),
                    median(|cell| cell.rate),
                    median(|cell| cell.p50_ms),
                    median(|cell| cell.p99_ms),
                    median(|cell| cell.server_us),
                    self.ratio(row, system),
                    median(|cell| cell.client_us),
                )?;
            }
        }
        for (system, mib) in &self.resident {
            writeln!(f, "memory of all three, {}: {mib:.0} MiB", system.name())?;
        }
        let verdict = if self.within_the_gate() { "holds" } else { "MISSED" };
        write!(f, "gate (kvd with sync = interval at most {GATE} x echo): {verdict}")
    }
}

/// Writes the output beside the documents.
pub(crate) fn save(name: &str, text: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/figures");
    let file = folder.join(format!("{name}-{}.txt", output("date", &["-u", "+%Y-%m-%d"])));
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    std::fs::write(&file, format!("{text}\n")).expect("the file can be written");
    file
}

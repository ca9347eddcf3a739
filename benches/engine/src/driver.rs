//! Runs the comparison: for each workload a process of this same program for each engine, in turn,
//! and again for each repetition.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::args::Plan;
use crate::data::{Codec, Size};
use crate::engine::Kind;
use crate::host;
use crate::report::Run;
use crate::table::Table;
use crate::workload::{Needs, Workload};

/// One store's shape and the processes that are measured on it.
struct Driver<'a> {
    plan: &'a Plan,
    root: PathBuf,
    size: Size,
    codec: Codec,
}

/// Measures everything that the plan asks for.
///
/// # Errors
/// When a directory or a process cannot be had. What an engine fails at is said and left out.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Table> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = plan.dir.clone().unwrap_or_else(|| here.join("target/data"));
    let repetitions = plan.repetitions.unwrap_or(if plan.quick { 1 } else { 3 });
    if let Some(file) = &plan.from {
        return kept(file);
    }
    let mut table = Table::new(plan.quick);
    for size in chosen(&plan.size, &Size::ALL) {
        for codec in chosen(&plan.codec, &Codec::ALL) {
            let root = root.join(format!("{}-{}", size.name(), codec.name()).replace(' ', ""));
            let driver = Driver { plan, root, size, codec };
            if !plan.keep {
                driver.clear()?;
            }
            for repetition in plan.skip..plan.skip + repetitions {
                driver.repeat(repetition, &mut table)?;
            }
            if !plan.keep {
                driver.clear()?;
            }
        }
    }
    Ok(table)
}

/// A table of what was measured earlier.
fn kept(file: &Path) -> anyhow::Result<Table> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let runs: Result<Vec<Run>, _> = text.lines().map(serde_json::from_str).collect();
    let runs = runs.with_context(|| format!("{} is not from --raw", file.display()))?;
    let mut table = Table::new(runs.iter().any(|run| run.quick));
    runs.into_iter().for_each(|run| table.add(run));
    Ok(table)
}

fn chosen<T: Copy>(wanted: &[T], all: &[T]) -> Vec<T> {
    if wanted.is_empty() { all.to_vec() } else { wanted.to_vec() }
}

impl Driver<'_> {
    fn repeat(&self, repetition: usize, table: &mut Table) -> anyhow::Result<()> {
        for workload in chosen(&self.plan.only, &Workload::ALL) {
            if !workload.is_for(self.size, self.codec) {
                continue;
            }
            let mut engines = match self.plan.engines.is_empty() {
                true => Kind::built_in(),
                false => self.plan.engines.clone(),
            };
            if workload == Workload::FillSync {
                engines.push(Kind::Raw);
            }
            let first = repetition % engines.len();
            engines.rotate_left(first);
            for engine in engines {
                let place = format!("{}, {}", self.size.name(), self.codec.name());
                match self.measure(workload, engine, repetition) {
                    Ok(run) => {
                        let (name, cpu) = (workload.name(), run.cpu_whole());
                        eprintln!(
                            "{name} ({place}) {}: {:.0}/s, {cpu:.2} us",
                            engine.name(),
                            run.rate()
                        );
                        self.keep(&run)?;
                        table.add(run);
                    }
                    Err(error) => {
                        eprintln!("{} ({place}) {}: {error:#}", workload.name(), engine.name());
                        table.failed(workload, engine, &format!("{place}: {error:#}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// One measurement in a process of its own, in a directory made ready for it.
    fn measure(&self, workload: Workload, engine: Kind, seed: usize) -> anyhow::Result<Run> {
        let base = self.root.join(format!("base-{}", engine.name()));
        let dir = self.root.join("run");
        remove(&dir)?;
        if matches!(workload.needs(), Needs::Base | Needs::Copy | Needs::Crash) && !base.exists() {
            let made = self.process(Workload::FillUnique, engine, &base, &[]);
            if made.is_err() {
                remove(&base)?;
            }
            made?;
        }
        if matches!(workload.needs(), Needs::Copy | Needs::Crash) {
            host::copy_directory(&base, &dir)?;
        }
        let seed = (seed + 1).to_string();
        let mut more = vec!["--seed", &seed];
        if matches!(workload.needs(), Needs::Crash | Needs::CrashAlone) {
            self.process(workload, engine, &dir, &["--crash"])?;
            more = Vec::new();
        }
        let place = if workload.needs() == Needs::Base { &base } else { &dir };
        let line = self.process(workload, engine, place, &more)?;
        if workload == Workload::FillUnique && !base.exists() {
            std::fs::rename(&dir, &base)?;
        }
        remove(&dir)?;
        serde_json::from_str(&line).context("the process said something else than its figures")
    }

    /// Runs this program for one measurement; what it printed.
    fn process(
        &self,
        workload: Workload,
        engine: Kind,
        dir: &Path,
        more: &[&str],
    ) -> anyhow::Result<String> {
        let minutes = self.plan.minutes.to_string();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("one").arg(workload.name());
        for (flag, value) in [
            ("--engine", engine.name()),
            ("--size", self.size.argument()),
            ("--codec", self.codec.name()),
            ("--minutes", &minutes),
        ] {
            command.args([flag, value]);
        }
        command.arg("--dir").arg(dir).args(more);
        if self.plan.quick {
            command.arg("--quick");
        }
        let output = command.stderr(Stdio::piped()).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{} ({})", errors.trim(), output.status);
        if !errors.trim().is_empty() {
            eprintln!("{}", errors.trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn keep(&self, run: &Run) -> anyhow::Result<()> {
        use std::io::Write;
        let Some(path) = &self.plan.raw else { return Ok(()) };
        let mut file = std::fs::File::options().append(true).create(true).open(path)?;
        writeln!(file, "{}", serde_json::to_string(run)?)?;
        Ok(())
    }

    fn clear(&self) -> anyhow::Result<()> {
        for kind in [Kind::Ours, Kind::Fjall, Kind::RocksDb, Kind::Raw] {
            remove(&self.root.join(format!("base-{}", kind.name())))?;
        }
        remove(&self.root.join("run"))
    }
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

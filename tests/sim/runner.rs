//! Runs seeds: on two threads, each run in one; what the sums must reach; one run replayed.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use parking_lot::Mutex;
use roundtable::testing;

use crate::arguments::Arguments;
use crate::judge::{Checker, Finding};
use crate::plan::Plan;
use crate::totals::Totals;
use crate::trace::Detail;
use crate::world::{self, Report};

/// Threads that run seeds.
const THREADS: usize = 2;
/// Seeds whose traces are compared between processes.
const REPEATED: [u64; 5] = [1, 2, 3, 5, 8];
/// Failing seeds that are told in full.
const SHOWN_MAX: usize = 5;

/// Measures how long a test binary takes: wall time is for people, never for a verdict.
#[derive(Debug)]
pub(crate) struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::disallowed_methods, reason = "times the run itself, outside the simulation")]
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// Seconds since.
    pub(crate) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

thread_local! {
    static PANIC: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// Keeps what a panic says for the report of its seed, instead of printing it.
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANIC.set(Some(info.to_string()));
    }));
}

/// A file of this test, in the source tree.
pub(crate) fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sim").join(name)
}

/// Runs one seed on this thread, with a planted bug or without.
pub(crate) fn run(seed: u64, detail: Detail, mutant: Option<&'static str>) -> Report {
    run_of(&Plan::draw, seed, detail, mutant)
}

/// The same of what `plan` makes of the seed.
pub(crate) fn run_of(
    plan: &dyn Fn(u64) -> Plan,
    seed: u64,
    detail: Detail,
    mutant: Option<&'static str>,
) -> Report {
    testing::take_reached();
    let _armed = mutant.map(testing::arm_mutant);
    testing::set_buggify(Some(fastrand::Rng::with_seed(seed)));
    let outcome = catch_unwind(AssertUnwindSafe(|| world::run(plan(seed), detail)));
    testing::set_buggify(None);
    let mut report = outcome.unwrap_or_else(|_| {
        let text = PANIC.take().unwrap_or_else(|| "no message".to_owned());
        let finding = Finding { checker: Checker::Panic, text };
        Report { seed, findings: vec![finding], hash: 0, totals: Totals::default() }
    });
    report.totals.reached = testing::take_reached();
    report
}

/// What `of` makes of each, in their order; on all threads.
pub(crate) fn all_of<T: Send, R: Send>(items: Vec<T>, of: &(dyn Fn(T) -> R + Sync)) -> Vec<R> {
    let left = Mutex::new(items.into_iter().enumerate());
    let mut made: Vec<(usize, R)> = std::thread::scope(|scope| {
        let work = || {
            let mut made = Vec::new();
            loop {
                let next = left.lock().next();
                let Some((place, item)) = next else { break made };
                made.push((place, of(item)));
            }
        };
        let begin = |thread| {
            let named = std::thread::Builder::new().name(format!("seeds-{thread}"));
            named.stack_size(8 << 20).spawn_scoped(scope, work).expect("a thread can be started")
        };
        let threads: Vec<_> = (0..THREADS).map(begin).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.flat_map(|made| made.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    made.sort_by_key(|(place, _)| *place);
    made.into_iter().map(|(_, made)| made).collect()
}

/// Runs many seeds; `each` sees every report, in no particular order.
pub(crate) fn run_all(
    seeds: Vec<u64>,
    mutant: Option<&'static str>,
    each: &(dyn Fn(Report) -> bool + Sync),
) {
    let left = Mutex::new(VecDeque::from(seeds));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let left = &left;
            let work = move || {
                loop {
                    let seed = left.lock().pop_front();
                    let Some(seed) = seed else { break };
                    if !each(run(seed, Detail::Digest, mutant)) {
                        left.lock().clear();
                    }
                }
            };
            let named = std::thread::Builder::new().name(format!("seeds-{thread}"));
            named.stack_size(8 << 20).spawn_scoped(scope, work).expect("a thread can be started");
        }
    });
}

/// The seeds of `seeds.txt`.
fn kept() -> Result<Vec<u64>, String> {
    let text = std::fs::read_to_string(file("seeds.txt")).map_err(|error| error.to_string())?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().map_err(|_| format!("seeds.txt: {line:?} is no seed")))
        .collect()
}

/// Kept seeds and fresh ones hold every invariant, and do enough to mean it.
pub(crate) fn seeds_hold(arguments: &Arguments) -> Result<String, String> {
    let base = arguments.base.unwrap_or_else(|| fastrand::u64(..1 << 40));
    println!("simulation: seeds {base}..{}", base + arguments.seeds);
    let mut seeds = kept()?;
    seeds.extend(arguments.fresh(base));
    let clock = Stopwatch::start();
    let sums = Mutex::new((Totals::default(), Vec::new()));
    run_all(seeds, None, &|report| {
        let mut sums = sums.lock();
        sums.0 += report.totals.clone();
        if !report.findings.is_empty() {
            sums.1.push(report);
        }
        true
    });
    let (totals, mut failed) = sums.into_inner();
    failed.sort_by_key(|report| report.seed);
    let text = summary(&totals, clock.seconds());
    if !failed.is_empty() {
        let mut shown: Vec<String> = failed.iter().take(SHOWN_MAX).map(told).collect();
        shown.push(format!("{} of {} seeds fail", failed.len(), totals.seeds));
        return Err(format!("{text}\n{}", shown.join("\n")));
    }
    let floors = below_floors(&totals)?;
    if floors.is_empty() { Ok(text) } else { Err(format!("{text}\n{}", floors.join("\n"))) }
}

fn told(report: &Report) -> String {
    let findings: Vec<String> = report.findings.iter().map(Finding::to_string).collect();
    format!(
        "seed {0} fails: {1}\n  replay: cargo sim -- --seed {0} --trace",
        report.seed,
        findings.join("\n  ")
    )
}

fn summary(totals: &Totals, seconds: f64) -> String {
    let sums: Vec<String> =
        totals.named().iter().map(|(name, sum)| format!("{name} {sum}")).collect();
    let reached: Vec<String> =
        totals.reached.iter().map(|(name, count)| format!("{name:?} {count}")).collect();
    let rate = totals.seeds as f64 / seconds;
    let rows: Vec<String> = sums.chunks(8).map(|row| format!("  {}", row.join(", "))).collect();
    let places: Vec<String> =
        reached.chunks(4).map(|row| format!("  {}", row.join(", "))).collect();
    format!(
        "  {seconds:.1} s, {rate:.1} seeds/s on {THREADS} threads\n{}\n  reached:\n{}",
        rows.join("\n"),
        places.join("\n")
    )
}

/// What the sums of so many seeds fall short of.
fn below_floors(totals: &Totals) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Floors {
        per_100_seeds: BTreeMap<String, u64>,
        sometimes: BTreeMap<String, u64>,
    }
    let text = std::fs::read_to_string(file("floors.toml")).map_err(|error| error.to_string())?;
    let floors: Floors = toml::from_str(&text).map_err(|error| error.to_string())?;
    let named: BTreeMap<&str, u64> = totals.named().into_iter().collect();
    let mut below = Vec::new();
    let sums =
        floors.per_100_seeds.iter().map(|(name, floor)| (name, floor, named.get(name.as_str())));
    let places = floors
        .sometimes
        .iter()
        .map(|(name, floor)| (name, floor, totals.reached.get(name.as_str())));
    for (name, floor, sum) in sums.chain(places) {
        // Scaled down, never up to a demand that few seeds could not meet by chance.
        let wanted = floor * totals.seeds / 100;
        let sum = sum.copied().unwrap_or(0);
        if sum < wanted {
            below.push(format!("{name}: {sum} is below its floor of {wanted}"));
        }
    }
    Ok(below)
}

/// Replays one seed.
pub(crate) fn replay(arguments: &Arguments, seed: u64) -> ExitCode {
    let detail = arguments.trace.map_or(Detail::Digest, Detail::Print);
    let mutant = arguments.mutant.clone().map(|name| &*name.leak());
    let clock = Stopwatch::start();
    let plan = if arguments.hour { Plan::hour } else { Plan::draw };
    let report = run_of(&plan, seed, detail, mutant);
    println!("{}", summary(&report.totals, clock.seconds()));
    println!("trace hash {:016x}", report.hash);
    if report.findings.is_empty() {
        println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    }
    println!("{}", told(&report));
    println!("test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::from(101)
}

/// Prints the full trace hashes of some seeds, for a process that compares them.
pub(crate) fn hashes(seeds: &[u64]) -> ExitCode {
    for seed in seeds {
        println!("{seed} {:016x}", run(*seed, Detail::Full, None).hash);
    }
    ExitCode::SUCCESS
}

/// I14: the same seed gives the same trace, in every field, in two fresh processes.
pub(crate) fn seeds_repeat(_: &Arguments) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let list: Vec<String> = REPEATED.iter().map(u64::to_string).collect();
    let outputs = all_of(vec![(); 2], &|()| {
        let output = Command::new(&program).args(["--hash", &list.join(",")]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let outputs: Result<Vec<String>, _> = outputs.into_iter().collect();
    let outputs = outputs.map_err(|error| error.to_string())?;
    if outputs[0].lines().count() != REPEATED.len() {
        return Err(format!("expected a hash for each seed, got {:?}", outputs[0]));
    }
    if outputs[0] == outputs[1] {
        return Ok(String::new());
    }
    Err(format!("traces differ:\n{}\n{}", outputs[0], outputs[1]))
}

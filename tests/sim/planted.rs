//! Planted bugs: each is armed, its recorded seed is run, and the recorded checker, no other, must
//! find it; without it the same seed must pass. A suite that misses one of these is not done.

use std::collections::BTreeMap;
use std::process::ExitCode;

use parking_lot::Mutex;
use serde::Deserialize;

use crate::arguments::Arguments;
use crate::judge::Checker;
use crate::runner::{Stopwatch, all_of, file, run, run_all};
use crate::trace::Detail;

#[derive(Debug, Deserialize)]
struct Book {
    planted: Vec<Planted>,
}

/// One planted bug, with the seed that shows it.
#[derive(Debug, Deserialize)]
struct Planted {
    mutant: String,
    seed: u64,
    checker: String,
}

/// Replays every recorded bug.
pub(crate) fn are_caught(_: &Arguments) -> Result<String, String> {
    let text = std::fs::read_to_string(file("planted.toml")).map_err(|error| error.to_string())?;
    let book: Book = toml::from_str(&text).map_err(|error| error.to_string())?;
    let count = book.planted.len();
    let missed = all_of(book.planted, &is_caught);
    let missed: Vec<String> = missed.into_iter().filter_map(Result::err).collect();
    if missed.is_empty() {
        Ok(format!("  {count} planted bugs caught"))
    } else {
        Err(missed.join("\n"))
    }
}

/// Whether its checker, and no other, finds one; and nothing is found without it.
fn is_caught(Planted { mutant, seed, checker }: Planted) -> Result<(), String> {
    let wanted = Checker::named(&checker);
    let wanted = wanted.ok_or_else(|| format!("planted.toml: {checker:?} is no checker"))?;
    let armed = run(seed, Detail::Digest, Some(mutant.clone().leak()));
    let found: Vec<Checker> = armed.findings.iter().map(|finding| finding.checker).collect();
    if found.is_empty() || found.iter().any(|checker| *checker != wanted) {
        return Err(format!("{mutant}: seed {seed} should show {checker}, shows {found:?}"));
    }
    match run(seed, Detail::Digest, None).findings.first() {
        Some(finding) => Err(format!("{mutant}: seed {seed} fails without it: {finding}")),
        None => Ok(()),
    }
}

/// Looks for seeds that catch `mutant`, and says how many of how many do.
pub(crate) fn search(arguments: &Arguments, mutant: &str) -> ExitCode {
    let base = arguments.base.unwrap_or(0);
    let name: &'static str = mutant.to_owned().leak();
    let clock = Stopwatch::start();
    let found = Mutex::new((0u64, BTreeMap::<&str, Vec<(u64, f64)>>::new()));
    run_all(arguments.fresh(base).collect(), Some(name), &|report| {
        let mut found = found.lock();
        found.0 += 1;
        if let Some(finding) = report.findings.first() {
            let seeds = found.1.entry(finding.checker.name()).or_default();
            seeds.push((report.seed, clock.seconds()));
        }
        found.1.values().map(Vec::len).sum::<usize>() < 8
    });
    let (tried, found) = found.into_inner();
    for (checker, seeds) in &found {
        let first = seeds.first().map_or(0.0, |(_, seconds)| *seconds);
        let list: Vec<u64> = seeds.iter().map(|(seed, _)| *seed).collect();
        println!("{mutant}: {checker} {list:?}, first after {first:.1} s");
    }
    println!("{mutant}: {tried} seeds tried, {:.1} s", clock.seconds());
    if found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

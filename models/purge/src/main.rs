//! Checks when the purge floor rises and what it stops (`docs/protocol/repair.md`) in small worlds, each to its
//! end: every order in which copies arrive, late ones too, owners compare, and disks grow old or are
//! replaced. Then plants mistakes, one at a time, and demands that each is found.
//!
//! Without an argument it runs everything; with the name of a mistake, that one, and prints the
//! shortest way in which it goes wrong; with `long`, larger worlds without mistakes.

mod judge;
mod mistake;
mod model;
mod scenario;
mod state;
mod step;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use mistake::Mistake;
use model::{Action, ENDED, Purge};
use scenario::Scenario;
use stateright::{Checker, HasDiscoveries, Model};

/// A run that takes longer is a failure: it would not have come to its end.
const LIMIT: Duration = Duration::from_secs(600);

/// What came of a run.
struct Outcome {
    states: usize,
    depth: usize,
    took: Duration,
    /// It came to its end: every state that can be reached was judged, unless a fault was found.
    ended: bool,
    /// The floor rises in it.
    done: bool,
    /// The promise that was broken, and how.
    fault: Option<(&'static str, Vec<Action>)>,
}

fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    let begin = now();
    let good = match only.as_deref() {
        None => hold(&scenario::all()) & are_found(None),
        Some("long") => hold(&scenario::long()),
        Some(name) => are_found(Some(name)),
    };
    println!(
        "\n{} in {:.1} s",
        if good { "all holds" } else { "FAILED" },
        seconds(begin.elapsed())
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the protocol as it is in each of these.
fn hold(scenarios: &[Scenario]) -> bool {
    println!("{:<46} {:>9} {:>6} {:>7}  verdict", "scenario", "states", "depth", "s");
    scenarios.iter().fold(true, |good, scenario| good & holds(scenario))
}

/// Runs it with each mistake, or with the one of this name.
fn are_found(only: Option<&str>) -> bool {
    println!(
        "\n{:<20} {:<38} {:>8} {:>6} {:>6}  found as",
        "mistake", "scenario", "states", "steps", "s"
    );
    let mut good = true;
    for (mistake, name, promise) in mistake::all() {
        let named = format!("{mistake:?}");
        if only.is_none_or(|only| only == named) {
            let scenario = scenario::all().into_iter().find(|scenario| scenario.name == name);
            good &= scenario
                .is_some_and(|scenario| is_found((mistake, promise), &scenario, only.is_some()));
        }
    }
    good
}

/// Runs the protocol as it is.
fn holds(scenario: &Scenario) -> bool {
    let outcome = run(scenario, None);
    let verdict = match &outcome.fault {
        Some((promise, _)) => format!("BROKEN: {promise}"),
        None if !outcome.ended => "NOT ENDED".to_string(),
        None if !outcome.done => "NOTHING IS DONE".to_string(),
        None => "holds".to_string(),
    };
    let Outcome { states, depth, took, .. } = outcome;
    println!("{:<46} {states:>9} {depth:>6} {:>7.1}  {verdict}", scenario.name, seconds(took));
    for action in outcome.fault.iter().flat_map(|(_, steps)| steps) {
        println!("    {action:?}");
    }
    verdict == "holds"
}

/// Runs the protocol with a mistake, until the promise it breaks is found broken.
fn is_found((mistake, promise): (Mistake, &'static str), scenario: &Scenario, print: bool) -> bool {
    let outcome = run(scenario, Some((mistake, promise)));
    let (found, steps) = match &outcome.fault {
        Some((promise, steps)) => (*promise, steps.as_slice()),
        None => ("NOT FOUND", [].as_slice()),
    };
    let named = format!("{mistake:?}");
    let states = outcome.states;
    println!(
        "{named:<20} {:<38} {states:>8} {:>6} {:>6.1}  {found}",
        scenario.name,
        steps.len(),
        seconds(outcome.took)
    );
    for action in steps.iter().filter(|_| print) {
        println!("    {action:?}");
    }
    outcome.fault.is_some()
}

fn run(scenario: &Scenario, planted: Option<(Mistake, &'static str)>) -> Outcome {
    let begin = now();
    let mistake = planted.map(|(mistake, _)| mistake);
    let finish = match planted {
        Some((_, promise)) => HasDiscoveries::AnyOf([promise].into()),
        None => HasDiscoveries::AnyFailures,
    };
    let model = Purge { scenario: scenario.clone(), mistake };
    let checker = model.checker().threads(2).timeout(LIMIT).finish_when(finish).spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let done = discoveries.remove(ENDED).is_some();
    let fault = discoveries
        .into_iter()
        .find(|(promise, _)| planted.is_none_or(|(_, awaited)| awaited == *promise));
    Outcome {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: begin.elapsed(),
        ended: begin.elapsed() < LIMIT,
        done,
        fault: fault.map(|(promise, path)| (promise, path.into_actions())),
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[expect(clippy::disallowed_methods, reason = "what is measured here is this program itself")]
fn now() -> Instant {
    Instant::now()
}

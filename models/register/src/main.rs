//! Checks the protocol of linearizable tables (`docs/protocol/register.md`) in small worlds, each
//! to its end: every order, loss and repetition of messages, crashes, retries and changes of
//! owners. Then plants mistakes, one at a time, and demands that each is found.
//!
//! Without an argument it runs everything; with the name of a mistake, that one, and prints the
//! shortest way in which it goes wrong.

mod acceptor;
mod judge;
mod mistake;
mod model;
mod proposer;
mod scenario;
mod spec;
mod state;
mod step;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use mistake::Mistake;
use model::{ANSWERED, Action, Register};
use scenario::Scenario;
use stateright::{Checker, HasDiscoveries, Model};

/// A run that takes longer is a failure: it would not have come to its end.
const LIMIT: Duration = Duration::from_secs(60);

/// What came of a run.
struct Outcome {
    states: usize,
    depth: usize,
    took: Duration,
    /// It came to its end: every state that can be reached was judged, unless a fault was found.
    ended: bool,
    /// Clients can be answered in it at all.
    answered: bool,
    /// The promise that was broken, and how.
    fault: Option<(&'static str, Vec<Action>)>,
}

fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    let begin = now();
    let scenarios = scenario::all();
    let mut good = true;
    if only.is_none() {
        println!("{:<46} {:>9} {:>6} {:>7}  verdict", "scenario", "states", "depth", "s");
        for scenario in &scenarios {
            good &= holds(scenario);
        }
    }
    println!(
        "\n{:<22} {:<46} {:>9} {:>6} {:>7}  found as",
        "mistake", "scenario", "states", "steps", "s"
    );
    for (mistake, name) in mistake::all() {
        let named = format!("{mistake:?}");
        if only.as_ref().is_some_and(|only| *only != named) {
            continue;
        }
        let scenario = scenarios.iter().find(|scenario| scenario.name == name);
        good &= scenario.is_some_and(|scenario| is_found(mistake, scenario, only.is_some()));
    }
    println!(
        "\n{} in {:.1} s",
        if good { "all holds" } else { "FAILED" },
        seconds(begin.elapsed())
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the protocol as it is.
fn holds(scenario: &Scenario) -> bool {
    let outcome = run(scenario, None);
    let verdict = match &outcome.fault {
        Some((promise, _)) => format!("BROKEN: {promise}"),
        None if !outcome.ended => "NOT ENDED".to_string(),
        None if !outcome.answered => "NOBODY IS ANSWERED".to_string(),
        None => "holds".to_string(),
    };
    let Outcome { states, depth, took, .. } = outcome;
    println!("{:<46} {states:>9} {depth:>6} {:>7.1}  {verdict}", scenario.name, seconds(took));
    for action in outcome.fault.iter().flat_map(|(_, steps)| steps) {
        println!("    {action:?}");
    }
    verdict == "holds"
}

/// Runs the protocol with a mistake.
fn is_found(mistake: Mistake, scenario: &Scenario, print: bool) -> bool {
    let outcome = run(scenario, Some(mistake));
    let (found, steps) = match &outcome.fault {
        Some((promise, steps)) => (*promise, steps.as_slice()),
        None => ("NOT FOUND", [].as_slice()),
    };
    let named = format!("{mistake:?}");
    let states = outcome.states;
    println!(
        "{named:<22} {:<46} {states:>9} {:>6} {:>7.1}  {found}",
        scenario.name,
        steps.len(),
        seconds(outcome.took)
    );
    for action in steps.iter().filter(|_| print) {
        println!("    {action:?}");
    }
    outcome.fault.is_some()
}

fn run(scenario: &Scenario, mistake: Option<Mistake>) -> Outcome {
    let begin = now();
    let model = Register { scenario: scenario.clone(), mistake };
    let checker = model.checker().threads(2).timeout(LIMIT);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let answered = discoveries.remove(ANSWERED).is_some();
    let fault = discoveries.into_iter().next();
    Outcome {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: begin.elapsed(),
        ended: begin.elapsed() < LIMIT,
        answered,
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

//! The simulator: a whole cluster in one thread from one seed. How to run it, read a trace and
//! add to it is in `docs/testing.md`.
//!
//! It has a harness of its own, because a seed is replayed by arguments:
//! `cargo sim -- --seed S --trace`.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::match_wildcard_for_single_variants,
    reason = "a test binary: it prints its verdict, and a panic is a failure"
)]

mod arguments;
mod client;
mod judge;
mod plan;
mod planted;
mod runner;
mod totals;
mod trace;
mod weeks;
mod world;

use std::process::ExitCode;

use arguments::{Arguments, Mode};

/// One test of this binary.
type Test = (&'static str, fn(&Arguments) -> Result<String, String>);

const TESTS: &[Test] = &[
    ("kept_and_fresh_seeds_hold_every_invariant", runner::seeds_hold),
    ("a_seed_gives_the_same_trace_in_another_process", runner::seeds_repeat),
    ("planted_bugs_are_caught_by_their_checker", planted::are_caught),
    ("hours_with_data_restore_every_copy_without_an_operator", world::hours_hold),
    ("weeks_of_failures_cost_no_copy_and_no_live_member", weeks::hold),
    ("weeks_of_storms_keep_to_the_rules_and_planted_bugs_do_not", weeks::storms::hold),
    ("months_of_load_are_followed_and_nothing_swings", weeks::growth::hold),
];

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            println!("{error}");
            return ExitCode::from(2);
        }
    };
    runner::silence_panics();
    match &arguments.mode {
        Mode::One(seed) => runner::replay(&arguments, *seed),
        Mode::Hash(seeds) => runner::hashes(seeds),
        Mode::Search(mutant) => planted::search(&arguments, mutant),
        Mode::List => {
            for name in names() {
                println!("{name}: test");
            }
            ExitCode::SUCCESS
        }
        Mode::Tests => tests(&arguments),
    }
}

fn names() -> Vec<&'static str> {
    let planted = judge::TESTS.iter().map(|(name, _)| *name);
    TESTS.iter().map(|(name, _)| *name).chain(planted).collect()
}

/// Runs the tests and closes like the standard harness does.
fn tests(arguments: &Arguments) -> ExitCode {
    let clock = runner::Stopwatch::start();
    let mut results: Vec<(&str, Result<String, String>)> = Vec::new();
    for (name, test) in judge::TESTS {
        if arguments.wants(name) {
            results.push((name, test().map(|()| String::new())));
        }
    }
    for (name, test) in TESTS {
        if arguments.wants(name) {
            results.push((name, test(arguments)));
        }
    }
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    println!("\nrunning {} tests", results.len());
    for (name, result) in &results {
        match result {
            Ok(text) => {
                println!("test {name} ... ok{}{text}", if text.is_empty() { "" } else { "\n" })
            }
            Err(text) => println!("test {name} ... FAILED\n{text}"),
        }
    }
    let passed = results.len() - failed;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let filtered = names().len() - results.len();
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
         {filtered} filtered out; finished in {:.2}s\n",
        clock.seconds()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

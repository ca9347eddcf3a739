//! What users feel while owners fail and members change: an open loop of requests through a kill, a
//! stall (with a second node asked for reads, and without), the loss of two owners of three, an overload, a cluster that grows and shrinks, a node
//! that is replaced and a restart of all nodes in turn, beside a run in which nothing happens. And
//! how fast data moves when nobody asks for anything.
//!
//! `cargo bench --bench faults` takes about fifteen minutes; `-- --quick` five; `-- --only kill` (or
//! `quiet`, `stop`, `two`, `overload`, `flood`, `grow`, `replace`, `rolling`, `transfer`, `replace-warm`, and
//! `changes` for the last five) runs one scenario; `-- --save` writes the table and the plots to
//! `docs/figures/` as well. A request counts as failed when it has no right answer within one
//! second, all its attempts included. Every operation is written down, and the checker of the
//! simulator judges at the end whether an acknowledged write was lost.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on panics, and it prints its table"
)]

mod change;
mod fill;
#[path = "../../tests/cluster/fixture/mod.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod fixture;
mod overload;
mod phases;
mod report;
mod scenario;
mod transfer;
mod two;
mod warm;

use std::time::Duration;

use change::Change;
use scenario::Fault;

/// What the command line asks for.
pub(crate) struct Options {
    pub(crate) save: bool,
    pub(crate) quick: bool,
    only: Option<String>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == name)
    }

    /// The same of one of the scenarios in which members change.
    fn wants_change(&self, name: &str) -> bool {
        self.wants(name) || self.wants("changes")
    }

    /// A third of a run: before the fault, during it, after it.
    pub(crate) fn third(&self) -> Duration {
        Duration::from_secs(if self.quick { 4 } else { 15 })
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|arg| arg == word);
    let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1).cloned());
    let options = Options { save: has("--save"), quick: has("--quick"), only };
    // The processes of a cluster die with the thread that started them: stay on this one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let text = runtime.expect("a runtime").block_on(run(&options));
    println!("{text}");
    if options.save {
        let file = report::save_text(options.only.as_deref(), &text);
        println!("written to {}", file.display());
    }
}

async fn run(options: &Options) -> String {
    let mut lines = vec![report::head(options)];
    let mut runs = Vec::new();
    for fault in Fault::ALL {
        if options.wants(fault.scenario()) {
            let run = scenario::run(options, fault).await;
            lines.push(run.to_string());
            runs.push(run);
        }
    }
    if options.save && !runs.is_empty() {
        report::save("latency.svg", &scenario::plot(&runs));
    }
    if options.wants("two") {
        lines.push(two::run(options).await.to_string());
    }
    for (name, clients) in [("overload", 1), ("flood", overload::MANY)] {
        if options.wants(name) {
            let run = overload::run(options, clients).await;
            lines.push(run.to_string());
            if options.save {
                report::save(&format!("{name}.svg"), &run.plot());
            }
        }
    }
    for change in Change::ALL {
        if options.wants_change(change.name()) {
            let run = change::run(options, change).await;
            lines.push(run.to_string());
            if options.save {
                report::save(&format!("{}.svg", change.name()), &run.plot());
            }
        }
    }
    if options.wants_change("transfer") {
        lines.push(transfer::run(options).await.to_string());
    }
    if options.wants_change("replace-warm") {
        lines.push(warm::run(options).await.to_string());
    }
    lines.join("\n")
}

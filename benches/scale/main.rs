//! How the control plane grows with the cluster: the machine of membership in virtual time, the size of
//! the cluster state, what one decision about it costs, and how long a ring takes to claim.
//!
//! `cargo bench --bench scale` takes about a minute; `-- --quick` leaves the largest clusters out;
//! `-- --save` writes the tables and the plots to `docs/figures/` as well. Everything but the times is
//! the same in every run: members have no data, only facts, and time is virtual.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a benchmark that cannot go on panics, and it prints its table"
)]

mod decision;
mod gossip;
mod report;
mod state;
#[path = "../../src/membership/world.rs"]
#[allow(dead_code, reason = "shared with the tests of membership, which use all of it")]
mod world;

// The world names them as the crate does.
use roundtable::{membership, message, types};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|arg| arg == word);
    let (save, quick) = (has("--save"), has("--quick"));
    let gossip = gossip::run(quick);
    let states = state::run(quick);
    let decision = decision::run(if quick { 100 } else { 1000 });
    let text = format!("{}\n{gossip}\n{states}\n{decision}", report::head());
    println!("{text}");
    if save {
        let mut files = vec![report::save(".txt", &text)];
        files.extend(gossip.plots().iter().map(|(name, svg)| report::save(name, svg)));
        files.push(report::save("-state.svg", &states.plot()));
        files.iter().for_each(|file| println!("written to {}", file.display()));
    }
}

//! What it costs two owners to find out what differs: bytes, CPU and entries read, against the number of
//! keys that differ and of all there are. Two stores in one process, sessions as nodes run them, without
//! a network between.
//!
//! `cargo bench --bench antientropy` takes some minutes; `-- --quick` has fewer keys; `-- --save` writes
//! the tables and the plots to `docs/figures/` as well; `-- --restart` runs only what comes of a kill, `-- --copies`
//! only how an owner that is filled is compared with a source, of one unit with a tenth of the keys.
//! Bytes are counted as `Ask::bytes` and
//! `Said::bytes` lay messages out; all but the times is the same in every run.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a benchmark that cannot go on panics, and it prints its table"
)]

mod copies;
mod feed;
mod others;
mod report;
mod restart;
mod session;
mod store;

use report::{Row, plots, table};
use store::{KEY_BYTES, Pair, UNITS};

/// How many keys of all are made to differ.
const DIFFERING: [u64; 11] = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000];
/// One in so many keys: five in a hundred.
const FIVE_PERCENT: u64 = 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|arg| arg == word);
    let keys = if has("--quick") { 100_000 } else { 1_000_000 };
    let mut text = report::head(keys);
    if has("--restart") {
        println!("{text}{}", restart::run(keys));
        return;
    }
    if has("--copies") {
        println!("{text}{}", copies::run(keys / 10));
        return;
    }
    let pair = Pair::filled(keys);
    let equal = pair.equal();
    text += &format!(
        "equal: all {UNITS} units in {} B, {:.1} ms of CPU; trees {} KiB for {keys} keys of {KEY_BYTES} B\n\n",
        equal.bytes,
        equal.cpu_ms,
        pair.tree_bytes() / 1024,
    );
    let mut rows: Vec<Row> = Vec::new();
    let counts = DIFFERING.into_iter().chain([keys / FIVE_PERCENT]);
    for differing in counts.filter(|count| *count <= keys / 5) {
        rows.push(Row { keys, differing, cost: pair.differ_and_become_equal(differing) });
    }
    rows.sort_by_key(|row| row.differing);
    text += &table(&rows);
    let mut by_keys = Vec::new();
    for keys in [keys / 100, keys / 10, keys] {
        let small;
        let pair = if keys == rows[0].keys {
            &pair
        } else {
            small = Pair::filled(keys);
            &small
        };
        for differing in [1, 100] {
            by_keys.push(Row { keys, differing, cost: pair.differ_and_become_equal(differing) });
        }
    }
    text += &format!("\nagainst the number of keys\n{}", table(&by_keys));
    text += &feed::run(keys);
    text += &restart::run(keys);
    println!("{text}");
    if has("--save") {
        println!("written to {}", report::save(".txt", &text).display());
        for (ending, svg) in plots(&rows) {
            println!("written to {}", report::save(ending, &svg).display());
        }
    }
}

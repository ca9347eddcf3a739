//! The storage engine as a library: write a batch, read it back, walk a range, open it again.
//!
//! Run it twice with the same directory to see the counter go on:
//! `cargo run --example storage -- /tmp/roundtable-example`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::PathBuf;
use std::sync::Arc;

use roundtable::storage::{Batch, Direction, Engine, Options, RealVfs};

fn main() -> anyhow::Result<()> {
    let dir =
        std::env::args_os().nth(1).map_or_else(|| PathBuf::from("example-data"), PathBuf::from);
    let (engine, recovery) = Engine::open(Arc::new(RealVfs), &dir, Options::default())?;
    println!("opened {}, {} batches replayed from the log", dir.display(), recovery.batches);

    let runs: u64 = match engine.get(b"runs")? {
        Some((value, _)) => std::str::from_utf8(&value)?.parse()?,
        None => 0,
    };
    // Both writes survive a crash, or neither does.
    let mut batch = Batch::new();
    batch.put(b"runs", (runs + 1).to_string().as_bytes());
    batch.put(format!("run/{runs:06}").as_bytes(), b"was here");
    let seqno = engine.write(batch)?;
    println!("run {} is on disk as batch {seqno}", runs + 1);

    // The newest runs first, as they are now, whatever is written meanwhile.
    for pair in engine.prefix(b"run/", Direction::Reverse).take(3) {
        let (key, value, seqno) = pair?;
        println!("{}: {} (batch {seqno})", key.escape_ascii(), value.escape_ascii());
    }
    // Two keys at once, as of one moment.
    let found = engine.multi_get(&["runs", "walks"]);
    let known = found.into_iter().filter(|value| matches!(value, Ok(Some(_)))).count();
    println!("{known} of 2 keys are there");
    engine.close()?;
    Ok(())
}

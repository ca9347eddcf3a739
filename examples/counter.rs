//! Counts visits of pages: exactly, in a linearizable table, and cheaply, in a causal one.
//!
//! Start a cluster with `kvd dev`, then run `cargo run --example counter`. Other addresses can be given as
//! arguments.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use roundtable::client::{Applied, Client, Error, TableKind};

/// Linearizable: each increment counts once, whatever is tried again.
const EXACT: &str = "tickets";
/// Causal: any node takes an increment, also when the others are out of reach.
const CHEAP: &str = "visits";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = std::env::args().skip(1).collect::<Vec<_>>();
    let known = ["127.0.0.1:7450", "127.0.0.1:7460", "127.0.0.1:7470"].map(str::to_owned);
    let kv = Client::builder()
        .endpoints(if given.is_empty() { known.to_vec() } else { given })
        .connect_lazy()?;
    for (table, kind) in [(EXACT, TableKind::Linearizable), (CHEAP, TableKind::Causal)] {
        match kv.tables().create(table).kind(kind).await {
            Err(error) if error.code() != "TABLE_EXISTS" => return Err(error.into()),
            _ => {}
        }
    }

    // Ten clients sell tickets at once, and no two sell the same number.
    let mut sellers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let kv = kv.clone();
        sellers.spawn(async move { kv.increment("sold", 1).table(EXACT).await });
    }
    let mut numbers = Vec::new();
    while let Some(sold) = sellers.join_next().await {
        numbers.extend(sold??.value);
    }
    numbers.sort_unstable();
    println!("tickets sold: {numbers:?}");

    // Many counters in one go. Each has an outcome of its own.
    let pages = ["index", "about", "index", "index"];
    let visits = pages.map(|page| kv.increment(page, 1).table(CHEAP));
    for outcome in visits.into_iter().fold(kv.batch(), |batch, visit| batch.with(visit)).await {
        outcome?;
    }
    for page in ["index", "about"] {
        println!("{page}: {} visits", visits_of(&kv, page).await?);
    }

    // Where counting twice would be worse than not counting: nothing follows a try that may have counted.
    match kv.increment("index", 1).table(CHEAP).once().await {
        Ok(made) => println!("counted: {:?}", made.value),
        Err(error) if error.applied() == Applied::No => println!("not counted: {error}"),
        Err(error) => println!("may have been counted: {error}"),
    }
    Ok(())
}

/// A counter is read like any key: it holds its sum, in decimal, and one that is not there holds 0.
async fn visits_of(kv: &Client, page: &'static str) -> Result<String, Error> {
    let value = kv.get(page).table(CHEAP).await?.value;
    Ok(value.map_or_else(|| "0".to_owned(), |value| String::from_utf8_lossy(&value).into_owned()))
}

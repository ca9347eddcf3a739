//! Two people want the last seat: a compare-and-set gives it to one of them and tells the other who
//! has it. And a write whose answer got lost is settled, for good.
//!
//! Start a cluster with `kvd dev`, then run `cargo run --example seats`. Other addresses can be given
//! as arguments.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use roundtable::client::{Client, Outcome, TableKind};

const TABLE: &str = "seats";
const SEAT: &str = "12A";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = std::env::args().skip(1).collect::<Vec<_>>();
    let known = ["127.0.0.1:7450", "127.0.0.1:7460", "127.0.0.1:7470"].map(str::to_owned);
    let kv = Client::builder()
        .endpoints(if given.is_empty() { known.to_vec() } else { given })
        .connect_lazy()?;
    match kv.tables().create(TABLE).kind(TableKind::Linearizable).await {
        Ok(_) => println!("table {TABLE} made"),
        Err(error) if error.code() == "TABLE_EXISTS" => {}
        Err(error) => return Err(error.into()),
    }
    kv.delete(SEAT).table(TABLE).await?;

    for who in ["Ada", "Eve"] {
        let cas = kv.cas(SEAT, who).table(TABLE).expect_absent().await?;
        match cas.current {
            _ if cas.applied => println!("{who} has seat {SEAT}"),
            Some(current) => {
                println!("{who} does not: {}", String::from_utf8_lossy(&current.value));
            }
            None => println!("{who} does not, and it is free again"),
        }
    }

    // A program that notes a write down before it is sent can ask after it in its next life.
    let write = kv.new_write();
    println!("noted down: {write}");
    let sent = kv.cas(SEAT, "Bob").table(TABLE).expect("Ada").named(&write).await;
    match kv.outcome(SEAT, &write).table(TABLE).await? {
        Outcome::Applied(stamp) => {
            println!("Bob has it, as {stamp}; was answered: {}", sent.is_ok())
        }
        Outcome::Cancelled => println!("Bob does not have it, and this write never will give it"),
    }
    Ok(())
}
